/* legacy: the plain types (f32, f16, bf16) and the blocks of 32 with one f16 scale (q8_0, q4_0).
 *
 *   q8_0  34 bytes: f16 d; int8 q[32]                  y = q * d
 *   q4_0  18 bytes: f16 d; q[16], value e < 16 in the low nibble of q[e], value e >= 16 in the high one of q[e - 16]
 *                                                      y = (nibble - 8) * d
 * Sums are sequential float32 in the written order without fused multiply-add: the bytes depend on it. */
#include "quant/blocks.h"

void quant_decode_f32(const void *blocks, float *y, int64_t n) { memcpy(y, blocks, (size_t)n * sizeof *y); }
void quant_encode_f32(const float *x, void *blocks, int64_t n, const float *weight) {
  (void)weight;
  memcpy(blocks, x, (size_t)n * sizeof *x);
}

void quant_decode_f16(const void *blocks, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = get_f16((const uint8_t *)blocks + 2 * i);
}
void quant_encode_f16(const float *x, void *blocks, int64_t n, const float *weight) {
  (void)weight;
  for (int64_t i = 0; i < n; i++) put_f16((uint8_t *)blocks + 2 * i, x[i]);
}

void quant_decode_bf16(const void *blocks, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = quant_bf16_to_f32(get_u16((const uint8_t *)blocks + 2 * i));
}
void quant_encode_bf16(const float *x, void *blocks, int64_t n, const float *weight) {
  (void)weight;
  for (int64_t i = 0; i < n; i++) {
    uint16_t v = quant_f32_to_bf16(x[i]);
    memcpy((uint8_t *)blocks + 2 * i, &v, sizeof v);
  }
}

/* ---- q8_0 -------------------------------------------------------------------------------------------------------- */

enum { Q8_0_BYTES = 34, Q4_0_BYTES = 18 };

void quant_decode_q8_0(const void *blocks, float *y, int64_t n) {
  const uint8_t *p = blocks;
  for (int64_t b = 0; b < n / 32; b++, p += Q8_0_BYTES) {
    float d = get_f16(p);
    for (int e = 0; e < 32; e++) y[32 * b + e] = (float)(int8_t)p[2 + e] * d;
  }
}

/* Nearest integer, halves away from zero. Scales too small for their inverse make x infinite or NaN: 0, since the f16
 * scale beside it is 0 as well. */
static int round_away(float x) {
  if (!(fabsf(x) < 1024.0f)) return 0;
  int whole = (int)x;
  float rest = x - (float)whole; /* exact */
  return rest >= 0.5f ? whole + 1 : rest <= -0.5f ? whole - 1 : whole;
}

void quant_encode_q8_0(const float *x, void *blocks, int64_t n, const float *weight) {
  uint8_t *p = blocks;
  (void)weight;
  for (int64_t b = 0; b < n / 32; b++, p += Q8_0_BYTES, x += 32) {
    float largest = 0;
    for (int e = 0; e < 32; e++) largest = fabsf(x[e]) > largest ? fabsf(x[e]) : largest;
    float d = largest / 127, inverse = d != 0 ? 1 / d : 0;
    put_f16(p, d);
    for (int e = 0; e < 32; e++) p[2 + e] = (uint8_t)round_away(x[e] * inverse);
  }
}

/* ---- q4_0 -------------------------------------------------------------------------------------------------------- */

void quant_decode_q4_0(const void *blocks, float *y, int64_t n) {
  const uint8_t *p = blocks;
  for (int64_t b = 0; b < n / 32; b++, p += Q4_0_BYTES, y += 32) {
    float d = get_f16(p);
    for (int e = 0; e < 16; e++) {
      y[e] = (float)((p[2 + e] & 15) - 8) * d;
      y[e + 16] = (float)((p[2 + e] >> 4) - 8) * d;
    }
  }
}

/* The value of largest magnitude, with its sign; the first on ties. */
static float largest_signed(const float *x, size_t n) {
  float largest = 0, value = 0;
  for (size_t i = 0; i < n; i++) {
    if (fabsf(x[i]) > largest) {
      largest = fabsf(x[i]);
      value = x[i];
    }
  }
  return value;
}

/* Levels at one inverse scale, and the sums of the least-squares fit: a = sum w x l, b = sum w l l. */
static void fit_signed(const float *x, size_t n, int n_max, const float *w, float inverse, uint8_t *level, float *a, float *b) {
  float sum_xl = 0, sum_ll = 0;
  for (size_t i = 0; i < n; i++) {
    int l = clamp_int(nint(inverse * x[i]), -n_max, n_max - 1);
    level[i] = (uint8_t)(l + n_max);
    sum_xl += w[i] * x[i] * (float)l;
    sum_ll += w[i] * (float)l * (float)l;
  }
  *a = sum_xl;
  *b = sum_ll;
}

/* The largest value sits on the outermost negative level; 18 scales around that are tried, and the best fit is kept: the
 * error is a constant less a^2 / b. Below 1e-15 nothing is left of the block (levels 0, not the middle). */
float quant_search_signed(const float *x, size_t n, int n_max, const float *w, uint8_t *level) {
  uint8_t tried[32];
  float a, b, max = largest_signed(x, n);
  memset(level, 0, n);
  if (!(fabsf(max) >= 1e-15f)) return 0;
  fit_signed(x, n, n_max, w, (float)-n_max / max, level, &a, &b);
  float scale = b != 0 ? a / b : 0, best = scale * a;
  for (int k = -9; k <= 9; k++) {
    if (k == 0) continue;
    fit_signed(x, n, n_max, w, -((float)n_max + 0.1f * (float)k) / max, tried, &a, &b);
    if (b > 0 && a * a > best * b) {
      memcpy(level, tried, n);
      scale = a / b;
      best = scale * a;
    }
  }
  return scale;
}

static void pack_nibbles(const uint8_t *level, uint8_t *q) {
  for (int e = 0; e < 16; e++) q[e] = (uint8_t)(level[e] | level[e + 16] << 4);
}

/* Without weights the scale puts the largest value on level 0 (-8), which has no counterpart on the positive side. */
static void encode_plain_q4_0(const float *x, uint8_t *p) {
  uint8_t level[32];
  float d = largest_signed(x, 32) / -8, inverse = d != 0 ? 1 / d : 0;
  for (int e = 0; e < 32; e++) {
    float l = x[e] * inverse + 8.5f;
    level[e] = l >= 0 && l < 16 ? (uint8_t)l : l >= 16 && l < 32 ? 15 : 0;
  }
  put_f16(p, d);
  pack_nibbles(level, p + 2);
}

void quant_encode_q4_0(const float *x, void *blocks, int64_t n, const float *weight) {
  uint8_t *p = blocks, level[32];
  float sum = 0, w[32];
  for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
  float variance = sum / (float)n; /* of the whole row */
  for (int64_t b = 0; b < n / 32; b++, p += Q4_0_BYTES, x += 32) {
    if (!weight) {
      encode_plain_q4_0(x, p);
      continue;
    }
    for (int e = 0; e < 32; e++) w[e] = weight[32 * b + e] * sqrtf(variance + x[e] * x[e]);
    put_f16(p, quant_search_signed(x, 32, 8, w, level));
    pack_nibbles(level, p + 2);
  }
}
