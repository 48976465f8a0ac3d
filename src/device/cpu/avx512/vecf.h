/* avx512/vecf: the words of math.inc, row.inc and attn.inc: 16 lanes of f32 as one register. Names say what a lane does; every
 * operation is rounded once, to nearest even. load_n and store_n touch the first n of 16 values only. */
#ifndef CPU_AVX512_VECF_H
#define CPU_AVX512_VECF_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VECF_INLINE static inline __attribute__((always_inline))

typedef __m512 vecf;
typedef __m512i veci;
typedef __mmask16 vecm; /* a truth value a lane */

/* Tile of attn.inc: 4 vectors x 6 columns are 24 accumulators, 4 vectors of K or V and a broadcast: 29 of 32 registers. */
#define VECF_TILE_VECTORS 4
#define VECF_TILE_COLUMNS 6

VECF_INLINE vecf vecf_zero(void) { return _mm512_setzero_ps(); }
VECF_INLINE vecf vecf_all(float x) { return _mm512_set1_ps(x); }
VECF_INLINE vecf vecf_load(const float *p) { return _mm512_loadu_ps(p); }
VECF_INLINE void vecf_store(float *p, vecf a) { _mm512_storeu_ps(p, a); }
VECF_INLINE vecf vecf_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p); }
VECF_INLINE void vecf_store_n(float *p, vecf a, int n) { _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), a); }

VECF_INLINE vecf vecf_add(vecf a, vecf b) { return _mm512_add_ps(a, b); }
VECF_INLINE vecf vecf_sub(vecf a, vecf b) { return _mm512_sub_ps(a, b); }
VECF_INLINE vecf vecf_mul(vecf a, vecf b) { return _mm512_mul_ps(a, b); }
VECF_INLINE vecf vecf_div(vecf a, vecf b) { return _mm512_div_ps(a, b); }
VECF_INLINE vecf vecf_fma(vecf a, vecf b, vecf c) { return _mm512_fmadd_ps(a, b, c); }
VECF_INLINE vecf vecf_max(vecf a, vecf b) { return _mm512_max_ps(a, b); } /* a > b ? a : b */

VECF_INLINE veci vecf_bits(vecf a) { return _mm512_castps_si512(a); }
VECF_INLINE vecf vecf_from_bits(veci a) { return _mm512_castsi512_ps(a); }
VECF_INLINE veci veci_all(int32_t x) { return _mm512_set1_epi32(x); }
VECF_INLINE veci veci_zero(void) { return _mm512_setzero_si512(); }
VECF_INLINE veci veci_add(veci a, veci b) { return _mm512_add_epi32(a, b); }
VECF_INLINE veci veci_and(veci a, veci b) { return _mm512_and_si512(a, b); }
VECF_INLINE veci veci_or(veci a, veci b) { return _mm512_or_si512(a, b); }
VECF_INLINE veci veci_max(veci a, veci b) { return _mm512_max_epi32(a, b); }
#define veci_shl(a, n) _mm512_slli_epi32(a, n)
#define veci_shr(a, n) _mm512_srli_epi32(a, n)
VECF_INLINE veci veci_high_half(veci a) { return veci_and(a, veci_all((int32_t)0xffff0000)); } /* the upper 16 bits, in place */
VECF_INLINE veci vecf_round(vecf a) { return _mm512_cvtps_epi32(a); } /* to nearest even */
VECF_INLINE veci vecf_truncate(vecf a) { return _mm512_cvttps_epi32(a); }
VECF_INLINE vecf veci_to_f(veci a) { return _mm512_cvtepi32_ps(a); }

VECF_INLINE vecm vecf_less(vecf a, vecf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
VECF_INLINE vecm vecf_at_least(vecf a, vecf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
VECF_INLINE vecm vecf_is_nan(vecf a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
/* p 2^n, normal, of integers n, which the low bits of t hold too, as far as x, of which all of them were made, is a number: else x. */
VECF_INLINE vecf vecf_times_2_to(vecf p, vecf n, veci t, vecf x) {
  (void)t, (void)x;
  return _mm512_scalef_ps(p, n); /* p and n are x then */
}
VECF_INLINE vecm vecm_range(int lo, int hi) { /* 0 <= lo < hi <= 16 */
  return (__mmask16)((0xffffu << lo) & (0xffffu >> (16 - hi)));
}
VECF_INLINE vecm vecm_not_less(vecm m, vecf a, vecf b) { return _mm512_mask_cmp_ps_mask(m, a, b, _CMP_NLT_UQ); } /* m and not a < b */
VECF_INLINE vecf vecf_keep(vecm m, vecf a) { return _mm512_maskz_mov_ps(m, a); }                                 /* m ? a : +0 */
VECF_INLINE vecf vecf_choose(vecm m, vecf a, vecf b) { return _mm512_mask_blend_ps(m, b, a); } /* m ? a : b */
VECF_INLINE veci veci_choose(vecm m, veci a, veci b) { return _mm512_mask_blend_epi32(m, b, a); }

/* The 16 lanes joined by the tree of 8, 4, 2, 1. */
VECF_INLINE float vecf_sum(vecf a) {
  __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
VECF_INLINE float vecf_most(vecf a) {
  __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
VECF_INLINE int32_t veci_most(veci a) { return _mm512_reduce_max_epi32(a); }

/* Elements of K and V, widened exactly. */
VECF_INLINE vecf vecf_from_f16(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
VECF_INLINE vecf vecf_from_bf16(const void *p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
VECF_INLINE vecf vecf_from_i8(const void *p) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p))); }
VECF_INLINE vecf vecf_all_f16(const uint16_t *p) { return _mm512_set1_ps(_cvtsh_ss(*p)); }
VECF_INLINE void vecf_to_f16(void *p, vecf a) {
  _mm256_storeu_si256(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
/* The low 16, or 8, bits of each lane. */
VECF_INLINE void veci_to_16(void *p, veci a) { _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(a)); }
VECF_INLINE __m128i veci_to_8(veci a) { return _mm512_cvtepi32_epi8(a); }

/* a0 b0 a1 b1 ...: lanes 0 .. 7 of both, lanes 8 .. 15 of both; and each pair of lanes filled with its even or odd one. */
VECF_INLINE vecf vecf_zip_low(vecf a, vecf b) {
  return _mm512_permutex2var_ps(a, _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0), b);
}
VECF_INLINE vecf vecf_zip_high(vecf a, vecf b) {
  return _mm512_permutex2var_ps(a, _mm512_set_epi32(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8), b);
}
VECF_INLINE vecf vecf_even(vecf a) { return _mm512_moveldup_ps(a); }
VECF_INLINE vecf vecf_odd(vecf a) { return _mm512_movehdup_ps(a); }

#endif
