/* avx2/flush: arithmetic without subnormals, as vdpbf16ps has it always: MXCSR takes operands and results below 2^-126 for zeros. Loads
 * and stores do not cross the changes of mode, and what is computed lies between them. */
#ifndef CPU_AVX2_FLUSH_H
#define CPU_AVX2_FLUSH_H

#include <immintrin.h>
#include <stdint.h>

/* Returns what flush_end is to restore. */
static inline uint32_t flush_begin(void) {
  const uint32_t before = _mm_getcsr(), flushing = before | 0x8040; /* results, operands */
  __asm__ volatile("ldmxcsr %0" : : "m"(flushing) : "memory");
  return before;
}
static inline void flush_end(uint32_t before) { __asm__ volatile("ldmxcsr %0" : : "m"(before) : "memory"); }

#endif
