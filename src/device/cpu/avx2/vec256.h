/* avx2/vec256: the words of mm.inc that levels of 256-bit vectors share: a vector is half a panel line, 8 rows. What is not here, dot
 * products and the sizes of most tiles, is in the vec.h that includes it. */
#ifndef CPU_AVX2_VEC256_H
#define CPU_AVX2_VEC256_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VEC_INLINE static inline __attribute__((always_inline))

typedef __m256i vec_i;
typedef __m256 vec_f;

#define TILE_PANELS 1
#define VEC_COLUMNS_PLAIN 6  /* of a tile of a plain type, which has no second accumulator */
#define VEC_NEXT 0           /* tiles ask for the next panels, not for what comes VEC_AHEAD bytes later */
#define VEC_STRETCH 0        /* blocks of Q4_K whose scales are unpacked for many columns (mm_stretch.inc); 0: it is done without */
#define VEC_JOINED 1         /* of a tile of Q6_K that takes all sub-blocks of a part line by line */
#define VEC_STAGED_FROM_6 5  /* columns of Q6_K up to which all tiles unpack in registers */
#define VEC_WIDENED 1        /* many columns of F16 meet widened weights (mm_widened.inc) */
#define VEC_AHEAD 8192       /* bytes that weights are fetched ahead, into the second level cache */
#define VEC_NEAR 1536        /* the same into the first level, up to VEC_FORESEEN columns, */
#define VEC_NEAR_6 1024      /* of one column of Q6_K */
#define VEC_NEAR_32 1536     /* of blocks of 32, */
#define VEC_NEAR_8_FROM 0    /* of Q8_0 from so many columns on, up to VEC_FORESEEN */
#define VEC_NEAR_MORE 4608   /* so much further if a slot is told to */
#define VEC_NEAR_ALWAYS 1    /* whatever a slot is told */
#define VEC_FORESEEN 2       /* columns up to which hardware foresees what is read */

VEC_INLINE void vec_fetch(const char *p) { _mm_prefetch(p, _MM_HINT_T1); }
/* As assembly where a level wants it: gcc 12 gathers intrinsics for a dozen lines at one place. */
VEC_INLINE void vec_fetch_near(const char *p) {
  if (VEC_FETCH_IN_PLACE) __asm__ volatile("prefetcht0 %0" : : "m"(*p));
  else _mm_prefetch(p, _MM_HINT_T0);
}
/* A line that will be written; a processor that has no such instruction does nothing. */
VEC_INLINE void vec_fetch_to_write(const void *p) { __asm__ volatile("prefetchw %0" : : "m"(*(const char *)p)); }

/* ---- integers ------------------------------------------------------------------------------------------------------- */

VEC_INLINE vec_i vec_load(const void *p) { return _mm256_loadu_si256(p); }
VEC_INLINE void vec_store(void *p, vec_i a) { _mm256_storeu_si256(p, a); }
VEC_INLINE vec_i vec_pin(vec_i a) {
  __asm__("" : "+x"(a));
  return a;
}
/* The same for an address: what was loaded from there is loaded again. */
VEC_INLINE const char *vec_same(const char *p) {
  __asm__ volatile("" : "+r"(p));
  return p;
}
/* A number the compiler may do what it likes with: hidden, as at AVX-512, it costs a quarter of 4 columns of Q4_K. */
VEC_INLINE size_t vec_number(size_t n) { return n; }
VEC_INLINE vec_i vec_zero(void) { return _mm256_setzero_si256(); }
VEC_INLINE vec_i vec_int(int32_t x) { return _mm256_set1_epi32(x); }
VEC_INLINE vec_i vec_byte(int x) { return _mm256_set1_epi8((char)x); }
VEC_INLINE vec_i vec_add(vec_i a, vec_i b) { return _mm256_add_epi32(a, b); }
VEC_INLINE vec_i vec_and(vec_i a, vec_i b) { return _mm256_and_si256(a, b); }
/* In one instruction: loaded before, b would hold a register that columns lack. */
VEC_INLINE vec_i vec_xor_at(vec_i a, const vec_i *b) {
  vec_i y;
  __asm__("vpxor %2, %1, %0" : "=x"(y) : "x"(a), "m"(*b));
  return y;
}
VEC_INLINE vec_i vec_mul(vec_i a, vec_i b) { return _mm256_mullo_epi32(a, b); }
VEC_INLINE vec_i vec_spread(const void *p) {
  int32_t x;
  memcpy(&x, p, sizeof x);
  return _mm256_set1_epi32(x);
}
VEC_INLINE vec_i vec_shift_down2(vec_i a) { return _mm256_srli_epi16(a, 2); }
VEC_INLINE vec_i vec_low4(vec_i a) { return _mm256_and_si256(a, vec_byte(15)); }
VEC_INLINE vec_i vec_high4(vec_i a) { return _mm256_and_si256(_mm256_srli_epi16(a, 4), vec_byte(15)); }
VEC_INLINE vec_i vec_join(vec_i a, int high, vec_i b, int mask) {
  return _mm256_or_si256(high ? vec_high4(a) : vec_low4(a), _mm256_and_si256(b, vec_byte(mask & 0xf0)));
}
/* Bytes of which a has bits 0 and 1, b bits 2 and 3, c bits 4 and 5, on top of theirs. */
VEC_INLINE vec_i vec_fourth(vec_i a, vec_i b, vec_i c) {
  vec_i low = _mm256_or_si256(vec_and(_mm256_srli_epi16(a, 6), vec_byte(3)), vec_and(_mm256_srli_epi16(b, 4), vec_byte(12)));
  return _mm256_or_si256(low, vec_and(_mm256_srli_epi16(c, 2), vec_byte(48)));
}
VEC_INLINE vec_i vec_to_bit4(vec_i a, int down, int bit) {
  if (!__builtin_constant_p(down) || down) a = _mm256_srl_epi32(a, _mm_cvtsi32_si128(down));
  return _mm256_slli_epi32(a, 4 - bit);
}
/* The low halves of two int32 a lane, as a pair. */
VEC_INLINE vec_i vec_pair(vec_i a, vec_i b) { return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa); }
/* Bytes 2 b and 2 b + 1 of every lane as a pair of int16. */
VEC_INLINE vec_i vec_byte_pair(vec_i a, int b) {
  const vec_i first = _mm256_set_epi32((int)0x800d800c, (int)0x80098008, (int)0x80058004, (int)0x80018000, (int)0x800d800c,
                                       (int)0x80098008, (int)0x80058004, (int)0x80018000);
  return _mm256_shuffle_epi8(a, _mm256_add_epi8(first, vec_int(b ? 0x00020002 : 0)));
}

/* ---- floats --------------------------------------------------------------------------------------------------------- */

VEC_INLINE vec_f vec_f_pin(vec_f a) {
  __asm__("" : "+x"(a));
  return a;
}
VEC_INLINE vec_f vec_f_zero(void) { return _mm256_setzero_ps(); }
VEC_INLINE vec_f vec_f_load(const float *p) { return _mm256_loadu_ps(p); }
VEC_INLINE void vec_f_store(float *p, vec_f a) { _mm256_storeu_ps(p, a); }
VEC_INLINE vec_f vec_f_spread(const float *p) { return _mm256_set1_ps(*p); }
VEC_INLINE vec_f vec_f_of(vec_i a) { return _mm256_cvtepi32_ps(a); }
VEC_INLINE vec_f vec_f_add(vec_f a, vec_f b) { return _mm256_add_ps(a, b); }
VEC_INLINE vec_f vec_f_mul(vec_f a, vec_f b) { return _mm256_mul_ps(a, b); }
/* a times the power of two at p, of which the logarithm is at log2_p. */
VEC_INLINE vec_f vec_f_power(vec_f a, const float *p, const float *log2_p) {
  (void)log2_p;
  return vec_f_mul(a, vec_f_spread(p));
}
VEC_INLINE vec_f vec_f_fma(vec_f a, vec_f b, vec_f c) { return _mm256_fmadd_ps(a, b, c); }
VEC_INLINE vec_f vec_f_fnma(vec_f a, vec_f b, vec_f c) { return _mm256_fnmadd_ps(a, b, c); }
/* By hand, because gcc 12 lets the chain wander through registers until one link of it is spilled. */
VEC_INLINE vec_f vec_f_chain(vec_f a, vec_f b, vec_f c) {
  __asm__("vfmadd231ps %2, %1, %0" : "+x"(c) : "x"(a), "x"(b));
  return c;
}
VEC_INLINE vec_f vec_f16_load(const void *p) { return _mm256_cvtph_ps(_mm_loadu_si128(p)); }
VEC_INLINE vec_f vec_bf16_low(vec_i a) { return _mm256_castsi256_ps(_mm256_slli_epi32(a, 16)); }
/* No mask, which would want a register. */
VEC_INLINE vec_f vec_bf16_high(vec_i a) { return vec_bf16_low(_mm256_srli_epi32(a, 16)); }

#endif
