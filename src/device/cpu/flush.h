/* flush: the mode in which fused multiply-adds give the bits of a dot product of bf16 pairs: subnormal operands count as zeros, subnormal
 * results become zeros. For the levels of x86 without that instruction. */
#ifndef CPU_FLUSH_H
#define CPU_FLUSH_H

#include <immintrin.h>
#include <stdint.h>

/* Loads and stores do not cross a change of mode, and what is computed lies between two. Returns the mode before. */
static inline uint32_t flush_begin(void) {
  const uint32_t before = _mm_getcsr(), flushing = before | 0x8040; /* results, operands */
  __asm__ volatile("ldmxcsr %0" : : "m"(flushing) : "memory");
  return before;
}
static inline void flush_end(uint32_t before) { __asm__ volatile("ldmxcsr %0" : : "m"(before) : "memory"); }

#endif
