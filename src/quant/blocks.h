/* blocks: what the files of this folder share: the codecs named in the table, access to fields of a block, rounding.
 *
 * Private to quant. Blocks are bytes: a row of a file need not be aligned, so every field is read and written by memcpy. */
#ifndef QUANT_BLOCKS_H
#define QUANT_BLOCKS_H

#include <math.h>
#include <string.h>

#include "quant/quant.h"

typedef void quant_decode_fn(const void *blocks, float *y, int64_t n);
typedef void quant_encode_fn(const float *x, void *blocks, int64_t n, const float *weight);

quant_decode_fn quant_decode_f32, quant_decode_f16, quant_decode_bf16, quant_decode_q8_0, quant_decode_q4_0; /* legacy.c */
quant_encode_fn quant_encode_f32, quant_encode_f16, quant_encode_bf16, quant_encode_q8_0, quant_encode_q4_0;
quant_decode_fn quant_decode_q4_k, quant_decode_q5_k, quant_decode_q6_k; /* kquant.c */
quant_encode_fn quant_encode_q4_k, quant_encode_q5_k, quant_encode_q6_k;
quant_decode_fn quant_decode_a32, quant_decode_a256; /* types.c */

static inline uint16_t get_u16(const uint8_t *p) {
  uint16_t v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline float get_f16(const uint8_t *p) { return quant_f16_to_f32(get_u16(p)); }
/* Stores x as f16 and returns what was stored: encoders go on with the scale a decoder will see. */
static inline float put_f16(uint8_t *p, float x) {
  uint16_t v = quant_f32_to_f16(x);
  memcpy(p, &v, sizeof v);
  return quant_f16_to_f32(v);
}

/* Nearest integer, ties to even, for |x| < 2^22: adding 1.5 * 2^23 leaves no room for a fraction, so the processor rounds
 * and the integer stands in the low 23 bits, offset by 2^22. Anything else, NaN too, gives some integer of that range. */
static inline int nint(float x) {
  float shifted = x + 12582912.0f;
  int32_t bits;
  memcpy(&bits, &shifted, sizeof bits);
  return (bits & 0x007FFFFF) - 0x00400000;
}
static inline int clamp_int(int x, int low, int high) { return x < low ? low : x > high ? high : x; }

/* Levels of n <= 32 values on a signed scale: x ~ scale * (level - n_max), level in 0 .. 2 n_max - 1. Returns the scale. */
float quant_search_signed(const float *x, size_t n, int n_max, const float *w, uint8_t *level); /* legacy.c */

#endif
