/* avx2/vec: the words of mm.inc on 256-bit vectors: a vector is half a panel line, 8 rows. A dot product is vpmaddubsw,
 * which saturates at int16: VEC_DEPTH_n says how many may be added before the pair of sums is widened, derived from the
 * largest weight times 128 times 2. Scales are pairs of int16, so that widening and scaling are one vpmaddwd. */
#ifndef CPU_AVX2_VEC_H
#define CPU_AVX2_VEC_H

#define VEC_FETCH_IN_PLACE 0 /* what is asked for into the first level is asked for where it is written */
#include "device/cpu/avx2/vec256.h"

#define VEC_COLUMNS 4        /* of a tile */
#define VEC_COLUMNS_4 4      /* of Q4_K */
#define VEC_DIRECT 3         /* of a tile that unpacks blocks of 256 in registers */
#define VEC_STAGED 3         /* of a tile that meets unpacked blocks of 256 */
#define VEC_WHOLE_6 1        /* of Q6_K always so many: the last computes some column twice, which is better than a tile of another size */
#define VEC_KEPT 0           /* the first of many tiles of blocks of 256 unpacks them for the others */
#define VEC_STAGED_FROM_4 0  /* columns of Q4_K up to which all tiles unpack in registers; 0: any number */
#define VEC_SIGNED_8 1       /* many columns of Q8_0 meet magnitudes and signs of weights (mm_signed8.inc) */
#define VEC_NEAR_UP_TO 0     /* columns up to which weights are asked for into the first level, foreseen or not */
enum {
  VEC_LANES = 8,
  VEC_ACC32 = 0,
  VEC_PAIRS = 0,
  VEC_OFFSET_8 = 0,
  VEC_DEPTH_4 = 8, /* 8 * 2 * 15 * 128 = 30720 */
  VEC_DEPTH_5 = 8, /* QUANT_REACH32 * 31 = 32767 */
  VEC_DEPTH_6 = 4  /* QUANT_REACH8 * 63 = 32760 */
};

/* ---- dot products --------------------------------------------------------------------------------------------------- */

/* int16 pairs: t + products of neighbours. */
VEC_INLINE vec_i vec_dot(vec_i t, vec_i w, vec_i x) { return vec_pin(_mm256_add_epi16(t, _mm256_maddubs_epi16(w, x))); }
/* The same with the four activations at x for every lane. */
VEC_INLINE vec_i vec_dot_at(vec_i t, vec_i w, const int8_t *x) { return vec_dot(t, w, vec_spread(x)); }
/* |w| times x with the sign of w: 2 * 128 * 127 = 32512 fits, one at a time. */
VEC_INLINE vec_i vec_weight_8(vec_i w) { return w; }
VEC_INLINE vec_i vec_dot_8(vec_i t, vec_i w, vec_i x) {
  vec_i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  return vec_pin(vec_add(t, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
}
VEC_INLINE vec_i vec_dot_8_at(vec_i t, vec_i w, const int8_t *x) { return vec_dot_8(t, w, vec_spread(x)); }
/* t + four products, as int32; pairs fit int16. */
VEC_INLINE vec_i vec_dot_wide(vec_i t, vec_i w, vec_i x) {
  return vec_pin(vec_add(t, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1))));
}
VEC_INLINE vec_i vec_magnitude(vec_i a) { return _mm256_abs_epi8(a); }
/* All bits of a byte that is negative, or none. */
VEC_INLINE vec_i vec_below_zero(vec_i a) { return _mm256_cmpgt_epi8(vec_zero(), a); }
VEC_INLINE vec_i vec_total(vec_i t) { return _mm256_madd_epi16(t, _mm256_set1_epi16(1)); }
VEC_INLINE vec_i vec_scaled(vec_i i, vec_i t, vec_i scale) { return vec_add(i, _mm256_madd_epi16(t, scale)); }
VEC_INLINE vec_i vec_scale(vec_i a, int b) {
  const vec_i first = _mm256_set_epi32((int)0x800c800c, (int)0x80088008, (int)0x80048004, (int)0x80008000, (int)0x800c800c,
                                       (int)0x80088008, (int)0x80048004, (int)0x80008000);
  return _mm256_shuffle_epi8(a, _mm256_add_epi8(first, vec_byte(b)));
}
VEC_INLINE vec_i vec_scale_signed(vec_i a, int b) {
  const vec_i first = _mm256_set_epi32((int)0x0c800c80, (int)0x08800880, (int)0x04800480, (int)0x00800080, (int)0x0c800c80,
                                       (int)0x08800880, (int)0x04800480, (int)0x00800080);
  return _mm256_srai_epi16(_mm256_shuffle_epi8(a, _mm256_add_epi8(first, vec_byte(b))), 8);
}
VEC_INLINE vec_i vec_dot_16(vec_i i, vec_i a, vec_i b) { return vec_add(i, _mm256_madd_epi16(a, b)); }
/* The same with the pair at x for every lane. */
VEC_INLINE vec_i vec_dot_16_at(vec_i i, vec_i a, const int16_t *x) { return vec_dot_16(i, a, vec_spread(x)); }
VEC_INLINE vec_i vec_signed_pair(vec_i a, int b) {
  const vec_i first = _mm256_set_epi32((int)0x0d800c80, (int)0x09800880, (int)0x05800480, (int)0x01800080, (int)0x0d800c80,
                                       (int)0x09800880, (int)0x05800480, (int)0x01800080);
  return _mm256_srai_epi16(_mm256_shuffle_epi8(a, _mm256_add_epi8(first, vec_byte(2 * b))), 8);
}

#endif
