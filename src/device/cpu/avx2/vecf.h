/* avx2/vecf: the words of math.inc, row.inc and attn.inc: 16 lanes of f32 as two registers, lanes 0 .. 7 and 8 .. 15, so that
 * sums join as they do in one register of 16. Names say what a lane does; every operation is rounded once, to nearest even.
 * load_n and store_n touch the first n of 16 values only. */
#ifndef CPU_AVX2_VECF_H
#define CPU_AVX2_VECF_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VECF_INLINE static inline __attribute__((always_inline))

typedef struct vecf {
  __m256 a, b;
} vecf;
typedef struct veci {
  __m256i a, b;
} veci;
typedef vecf vecm; /* a truth value a lane: all bits or none */

/* Tile of attn.inc: 1 vector x 6 columns are 12 accumulators, 2 registers of K or V, and a broadcast: 15 of 16. */
#define VECF_TILE_VECTORS 1
#define VECF_TILE_COLUMNS 6

#define VECF_PAIR(type, f, x, y)                                                                                               \
  (type) { f((x).a, (y).a), f((x).b, (y).b) }

VECF_INLINE vecf vecf_zero(void) { return (vecf){_mm256_setzero_ps(), _mm256_setzero_ps()}; }
VECF_INLINE vecf vecf_all(float x) { return (vecf){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
VECF_INLINE vecf vecf_load(const float *p) { return (vecf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
VECF_INLINE void vecf_store(float *p, vecf x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}
VECF_INLINE veci veci_lanes(void) {
  return (veci){_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15)};
}
VECF_INLINE veci veci_all(int32_t x) { return (veci){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
VECF_INLINE veci veci_more(veci x, veci y) { return VECF_PAIR(veci, _mm256_cmpgt_epi32, x, y); } /* x > y: all bits */
VECF_INLINE vecf vecf_load_n(const float *p, int n) {
  veci m = veci_more(veci_all(n), veci_lanes());
  return (vecf){_mm256_maskload_ps(p, m.a), _mm256_maskload_ps(p + 8, m.b)};
}
VECF_INLINE void vecf_store_n(float *p, vecf x, int n) {
  veci m = veci_more(veci_all(n), veci_lanes());
  _mm256_maskstore_ps(p, m.a, x.a);
  _mm256_maskstore_ps(p + 8, m.b, x.b);
}

VECF_INLINE vecf vecf_add(vecf x, vecf y) { return VECF_PAIR(vecf, _mm256_add_ps, x, y); }
VECF_INLINE vecf vecf_sub(vecf x, vecf y) { return VECF_PAIR(vecf, _mm256_sub_ps, x, y); }
VECF_INLINE vecf vecf_mul(vecf x, vecf y) { return VECF_PAIR(vecf, _mm256_mul_ps, x, y); }
VECF_INLINE vecf vecf_div(vecf x, vecf y) { return VECF_PAIR(vecf, _mm256_div_ps, x, y); }
VECF_INLINE vecf vecf_fma(vecf x, vecf y, vecf z) {
  return (vecf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
VECF_INLINE vecf vecf_max(vecf x, vecf y) { return VECF_PAIR(vecf, _mm256_max_ps, x, y); } /* x > y ? x : y */

VECF_INLINE veci vecf_bits(vecf x) { return (veci){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
VECF_INLINE vecf vecf_from_bits(veci x) { return (vecf){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
VECF_INLINE veci veci_zero(void) { return (veci){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
VECF_INLINE veci veci_add(veci x, veci y) { return VECF_PAIR(veci, _mm256_add_epi32, x, y); }
VECF_INLINE veci veci_and(veci x, veci y) { return VECF_PAIR(veci, _mm256_and_si256, x, y); }
VECF_INLINE veci veci_or(veci x, veci y) { return VECF_PAIR(veci, _mm256_or_si256, x, y); }
VECF_INLINE veci veci_max(veci x, veci y) { return VECF_PAIR(veci, _mm256_max_epi32, x, y); }
#define veci_shl(x, n) ((veci){_mm256_slli_epi32((x).a, n), _mm256_slli_epi32((x).b, n)})
#define veci_shr(x, n) ((veci){_mm256_srli_epi32((x).a, n), _mm256_srli_epi32((x).b, n)})
/* The upper 16 bits of each lane, in place; a mask would cost a register. */
VECF_INLINE veci veci_high_half(veci x) { return veci_shl(veci_shr(x, 16), 16); }
VECF_INLINE veci vecf_round(vecf x) { return (veci){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; } /* to nearest even */
VECF_INLINE veci vecf_truncate(vecf x) { return (veci){_mm256_cvttps_epi32(x.a), _mm256_cvttps_epi32(x.b)}; }
VECF_INLINE vecf veci_to_f(veci x) { return (vecf){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }

VECF_INLINE vecm vecf_less(vecf x, vecf y) {
  return (vecm){_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)};
}
VECF_INLINE vecm vecf_at_least(vecf x, vecf y) {
  return (vecm){_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)};
}
VECF_INLINE vecm vecf_is_nan(vecf x) {
  return (vecm){_mm256_cmp_ps(x.a, x.a, _CMP_UNORD_Q), _mm256_cmp_ps(x.b, x.b, _CMP_UNORD_Q)};
}
VECF_INLINE vecm vecm_range(int lo, int hi) { /* 0 <= lo < hi <= 16 */
  return vecf_from_bits(veci_and(veci_more(veci_all(hi), veci_lanes()), veci_more(veci_lanes(), veci_all(lo - 1))));
}
VECF_INLINE vecf vecf_keep(vecm m, vecf x) { return (vecf){_mm256_and_ps(m.a, x.a), _mm256_and_ps(m.b, x.b)}; } /* m ? x : +0 */
VECF_INLINE vecm vecm_not_less(vecm m, vecf x, vecf y) { /* m and not x < y */
  return vecf_keep(m, (vecf){_mm256_cmp_ps(x.a, y.a, _CMP_NLT_UQ), _mm256_cmp_ps(x.b, y.b, _CMP_NLT_UQ)});
}
VECF_INLINE vecf vecf_choose(vecm m, vecf x, vecf y) {
  return (vecf){_mm256_blendv_ps(y.a, x.a, m.a), _mm256_blendv_ps(y.b, x.b, m.b)};
}
VECF_INLINE veci veci_choose(vecm m, veci x, veci y) { return vecf_bits(vecf_choose(m, vecf_from_bits(x), vecf_from_bits(y))); }

/* p 2^n, normal, of integers n, which the low bits of t hold too, as far as x, of which all of them were made, is a number: else x. */
VECF_INLINE vecf vecf_times_2_to(vecf p, vecf n, veci t, vecf x) {
  (void)n;
  return vecf_choose(vecf_is_nan(x), x, vecf_from_bits(veci_add(vecf_bits(p), veci_shl(t, 23))));
}

/* The 16 lanes joined by the tree of 8, 4, 2, 1. */
VECF_INLINE float vecf_sum(vecf x) {
  __m256 b = _mm256_add_ps(x.a, x.b);
  __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
VECF_INLINE float vecf_most(vecf x) {
  __m256 b = _mm256_max_ps(x.a, x.b);
  __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  c = _mm_max_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}
VECF_INLINE int32_t veci_most(veci x) {
  __m256i b = _mm256_max_epi32(x.a, x.b);
  __m128i c = _mm_max_epi32(_mm256_castsi256_si128(b), _mm256_extracti128_si256(b, 1));
  c = _mm_max_epi32(c, _mm_shuffle_epi32(c, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
}

/* Elements of K and V, widened exactly. */
VECF_INLINE vecf vecf_from_f16(const void *p) {
  const __m128i *h = p;
  return (vecf){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}
VECF_INLINE vecf vecf_from_bf16(const void *p) {
  const __m128i *h = p;
  veci x = {_mm256_cvtepu16_epi32(_mm_loadu_si128(h)), _mm256_cvtepu16_epi32(_mm_loadu_si128(h + 1))};
  return vecf_from_bits(veci_shl(x, 16));
}
VECF_INLINE vecf vecf_from_i8(const void *p) {
  const __m128i *q = p;
  __m128i low = _mm_loadl_epi64(q), high = _mm_loadl_epi64((const __m128i *)(const void *)((const char *)p + 8));
  return veci_to_f((veci){_mm256_cvtepi8_epi32(low), _mm256_cvtepi8_epi32(high)});
}
VECF_INLINE vecf vecf_all_f16(const uint16_t *p) { return vecf_all(_cvtsh_ss(*p)); }
VECF_INLINE void vecf_to_f16(void *p, vecf x) {
  __m128i *h = p;
  _mm_storeu_si128(h, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(h + 1, _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT));
}
/* The low 16, or 8, bits of each lane. */
VECF_INLINE __m256i veci_low_halves(veci x) {
  __m256i mask = _mm256_set1_epi32(0xffff);
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(x.a, mask), _mm256_and_si256(x.b, mask)), 0xd8);
}
VECF_INLINE void veci_to_16(void *p, veci x) { _mm256_storeu_si256(p, veci_low_halves(x)); }
VECF_INLINE __m128i veci_to_8(veci x) {
  __m256i h = _mm256_and_si256(veci_low_halves(x), _mm256_set1_epi16(0xff));
  return _mm_packus_epi16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

/* a0 b0 a1 b1 ...: lanes 0 .. 7 of both, lanes 8 .. 15 of both; and each pair of lanes filled with its even or odd one. */
VECF_INLINE vecf vecf_zip_half(__m256 x, __m256 y) {
  __m256 low = _mm256_unpacklo_ps(x, y), high = _mm256_unpackhi_ps(x, y);
  return (vecf){_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
}
VECF_INLINE vecf vecf_zip_low(vecf x, vecf y) { return vecf_zip_half(x.a, y.a); }
VECF_INLINE vecf vecf_zip_high(vecf x, vecf y) { return vecf_zip_half(x.b, y.b); }
VECF_INLINE vecf vecf_even(vecf x) { return (vecf){_mm256_moveldup_ps(x.a), _mm256_moveldup_ps(x.b)}; }
VECF_INLINE vecf vecf_odd(vecf x) { return (vecf){_mm256_movehdup_ps(x.a), _mm256_movehdup_ps(x.b)}; }

#endif
