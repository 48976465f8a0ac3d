/* avxvnni/vec: the words of mm.inc on 256-bit vectors with dot products of bytes: vpdpbusd, exact in int32. A sum of a block of 256 fits the
 * low half of its lane (QUANT_REACH), so scaling it is one vpdpwssd by a scale whose upper half is zero. */
#ifndef CPU_AVXVNNI_VEC_H
#define CPU_AVXVNNI_VEC_H

#define VEC_FETCH_IN_PLACE 1 /* what is asked for into the first level is asked for where it is written */
#include "device/cpu/avx2/vec256.h"

#define VEC_COLUMNS 6        /* of a tile */
#define VEC_COLUMNS_4 4      /* of Q4_K */
#define VEC_DIRECT 4         /* of a tile that unpacks blocks of 256 in registers */
#define VEC_STAGED 3         /* of a tile that meets unpacked blocks of 256 */
#define VEC_WHOLE_6 0        /* of Q6_K always so many: the last computes some column twice */
#define VEC_KEPT 1           /* the first of many tiles of blocks of 256 unpacks them for the others */
#define VEC_STAGED_FROM_4 8  /* columns of Q4_K up to which all tiles unpack in registers; 0: any number */
#define VEC_SIGNED_8 0       /* many columns of Q8_0 meet magnitudes and signs of weights (mm_signed8.inc) */
#define VEC_NEAR_UP_TO 8     /* columns up to which weights are asked for into the first level, foreseen or not */
enum {
  VEC_LANES = 8,
  VEC_ACC32 = 1,
  VEC_PAIRS = 0,
  VEC_OFFSET_8 = 128,
  VEC_DEPTH_4 = 8,
  VEC_DEPTH_5 = 8,
  VEC_DEPTH_6 = 8
};

/* ---- dot products --------------------------------------------------------------------------------------------------- */

/* t + four products of unsigned weights and signed activations a lane. As assembly, or a compiler may take the encoding of AVX-512. */
VEC_INLINE vec_i vec_dot(vec_i t, vec_i w, vec_i x) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(t) : "x"(w), "x"(x));
  return t;
}
/* The same with the four activations at x for every lane. */
VEC_INLINE vec_i vec_dot_at(vec_i t, vec_i w, const int8_t *x) { return vec_dot(t, w, vec_spread(x)); }
/* The same for signed weights, which vec_weight_8 has made unsigned. */
VEC_INLINE vec_i vec_weight_8(vec_i w) { return _mm256_xor_si256(w, vec_byte(-128)); }
VEC_INLINE vec_i vec_dot_8(vec_i t, vec_i w, vec_i x) { return vec_dot(t, w, x); }
VEC_INLINE vec_i vec_dot_8_at(vec_i t, vec_i w, const int8_t *x) { return vec_dot_at(t, w, x); }
VEC_INLINE vec_i vec_total(vec_i t) { return t; }
/* i + two products of int16 pairs. */
VEC_INLINE vec_i vec_dot_16(vec_i i, vec_i a, vec_i b) {
  __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(i) : "x"(a), "x"(b));
  return i;
}
VEC_INLINE vec_i vec_dot_16_at(vec_i i, vec_i a, const int16_t *x) { return vec_dot_16(i, a, vec_spread(x)); }
VEC_INLINE vec_i vec_scaled(vec_i i, vec_i t, vec_i scale) { return vec_dot_16(i, t, scale); }
/* Byte b of every lane as a scale, unsigned or signed. */
VEC_INLINE vec_i vec_scale(vec_i a, int b) {
  const vec_i first = _mm256_set_epi32((int)0x8080800c, (int)0x80808008, (int)0x80808004, (int)0x80808000, (int)0x8080800c,
                                       (int)0x80808008, (int)0x80808004, (int)0x80808000);
  return _mm256_shuffle_epi8(a, _mm256_add_epi8(first, vec_int(b)));
}
VEC_INLINE vec_i vec_scale_signed(vec_i a, int b) {
  const vec_i first = _mm256_set_epi32((int)0x80800c80, (int)0x80800880, (int)0x80800480, (int)0x80800080, (int)0x80800c80,
                                       (int)0x80800880, (int)0x80800480, (int)0x80800080);
  return _mm256_srai_epi16(_mm256_shuffle_epi8(a, _mm256_add_epi8(first, vec_int(b << 8))), 8);
}
/* A word of VEC_PAIRS, which is not so here. */
VEC_INLINE vec_i vec_signed_pair(vec_i a, int b) {
  (void)b;
  return a;
}

#endif
