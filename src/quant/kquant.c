/* kquant: blocks of 256 with scales of sub-blocks (q4_K, q5_K, q6_K).
 *
 *   q4_K  144 bytes: f16 d, dmin; sc[12]; q[128]             8 sub-blocks of 32   y = (d * S) * Q - (dmin * M)
 *   q5_K  176 bytes: f16 d, dmin; sc[12]; h[32]; q[128]      the same, bit 4 of Q in h
 *   q6_K  210 bytes: ql[128]; qh[64]; int8 sc[16]; f16 d     16 sub-blocks of 16  y = d * sc * (Q - 32)
 * sc[12] holds 8 scales S and 8 minima M of 6 bits: the first four of each in the low six bits of bytes 0..3 and 4..7, of the
 * others four bits in bytes 8..11 and the upper two in bits 6, 7 of the first eight.
 * Sums are sequential float32 in the written order without fused multiply-add: the bytes depend on it. */
#include "quant/blocks.h"

enum { BLOCK = 256, Q4_K_BYTES = 144, Q5_K_BYTES = 176, Q6_K_BYTES = 210 };

static void unpack_scales(const uint8_t *sc, int j, int *scale, int *min) {
  if (j < 4) {
    *scale = sc[j] & 63;
    *min = sc[j + 4] & 63;
  } else {
    *scale = (sc[j + 4] & 15) | (sc[j - 4] >> 6) << 4;
    *min = (sc[j + 4] >> 4) | (sc[j] >> 6) << 4;
  }
}

static void pack_scales(const uint8_t *scale, const uint8_t *min, uint8_t *sc) {
  for (int j = 0; j < 4; j++) {
    sc[j] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
    sc[j + 4] = (uint8_t)(min[j] | (min[j + 4] >> 4) << 6);
    sc[j + 8] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

/* h: the bytes of fifth bits, or NULL. */
static void decode_block_45(const uint8_t *p, const uint8_t *h, const uint8_t *q, float *y) {
  float d = get_f16(p), dmin = get_f16(p + 2);
  for (int j = 0; j < 8; j++) {
    int scale, min;
    unpack_scales(p + 4, j, &scale, &min);
    float step = d * (float)scale, offset = dmin * (float)min;
    for (int i = 0; i < 32; i++) {
      int level = (q[32 * (j / 2) + i] >> 4 * (j % 2)) & 15;
      if (h) level |= ((h[i] >> j) & 1) << 4;
      y[32 * j + i] = step * (float)level - offset;
    }
  }
}

void quant_decode_q4_k(const void *blocks, float *y, int64_t n) {
  const uint8_t *p = blocks;
  for (int64_t b = 0; b < n / BLOCK; b++, p += Q4_K_BYTES) decode_block_45(p, NULL, p + 16, y + b * BLOCK);
}

void quant_decode_q5_k(const void *blocks, float *y, int64_t n) {
  const uint8_t *p = blocks;
  for (int64_t b = 0; b < n / BLOCK; b++, p += Q5_K_BYTES) decode_block_45(p, p + 16, p + 48, y + b * BLOCK);
}

void quant_decode_q6_k(const void *blocks, float *y, int64_t n) {
  const uint8_t *p = blocks;
  for (int64_t b = 0; b < n / BLOCK; b++, p += Q6_K_BYTES, y += BLOCK) {
    const uint8_t *qh = p + 128, *sc = p + 192;
    float d = get_f16(p + 208);
    for (int e = 0; e < BLOCK; e++) {
      int half = e / 128, group = e % 128 / 32, l = e % 32; /* a group is 32 values, four to a half */
      int low = (p[64 * half + 32 * (group % 2) + l] >> 4 * (group / 2)) & 15;
      int high = (qh[32 * half + l] >> 2 * group) & 3;
      y[e] = d * (float)(int8_t)sc[e / 16] * (float)((low | high << 4) - 32);
    }
  }
}

/* ---- searches ---------------------------------------------------------------------------------------------------- */

typedef struct offset_search {
  int n_max;         /* levels 0..n_max */
  float first, step; /* inverse scales (first + step * k + n_max) / range are tried for k = 0..n_steps */
  int n_steps;
} offset_search;

static float error_of(const float *x, const float *w, const uint8_t *level, float scale, float min) {
  float sum = 0;
  for (int i = 0; i < 32; i++) {
    float diff = scale * (float)level[i] + min - x[i];
    diff = diff * diff;
    sum += w[i] * diff;
  }
  return sum;
}

/* Scale and minimum of 32 values: x ~ scale * level - *below, *below >= 0. For each inverse scale the levels are rounded, then
 * scale and minimum fitted to them by weighted least squares; the pair of least error is kept, and its minimum is where
 * the next trial starts. */
static float search_offset(const float *x, const float *w, const offset_search *s, uint8_t *level, float *below) {
  uint8_t tried[32];
  float min = x[0], max = x[0], sum_w = 0, sum_x = 0;
  for (int i = 0; i < 32; i++) {
    min = x[i] < min ? x[i] : min;
    max = x[i] > max ? x[i] : max;
    sum_w += w[i];
    sum_x += w[i] * x[i];
  }
  if (min > 0) min = 0;
  memset(level, 0, 32);
  *below = -min;
  if (max <= min) return 0;
  float inverse = (float)s->n_max / (max - min), scale = 1 / inverse;
  for (int i = 0; i < 32; i++) level[i] = (uint8_t)clamp_int(nint(inverse * (x[i] - min)), 0, s->n_max);
  float best = error_of(x, w, level, scale, min);
  for (int k = 0; k <= s->n_steps; k++) {
    float sum_l = 0, sum_ll = 0, sum_xl = 0;
    inverse = (s->first + s->step * (float)k + (float)s->n_max) / (max - min);
    for (int i = 0; i < 32; i++) {
      int l = clamp_int(nint(inverse * (x[i] - min)), 0, s->n_max);
      tried[i] = (uint8_t)l;
      sum_l += w[i] * (float)l;
      sum_ll += w[i] * (float)l * (float)l;
      sum_xl += w[i] * (float)l * x[i];
    }
    float d = sum_w * sum_ll - sum_l * sum_l;
    if (!(d > 0)) continue;
    float new_scale = (sum_w * sum_xl - sum_x * sum_l) / d, new_min = (sum_ll * sum_x - sum_l * sum_xl) / d;
    if (new_min > 0) {
      new_min = 0;
      new_scale = sum_xl / sum_ll;
    }
    float err = error_of(x, w, tried, new_scale, new_min);
    if (!(err < best)) continue;
    memcpy(level, tried, 32);
    best = err;
    scale = new_scale;
    min = new_min;
  }
  *below = -min;
  return scale;
}

/* Moves single levels of a fit a / b where that lowers its error (a constant less a^2 / b), at most five rounds. */
static void improve_levels(const float *x, const float *w, int n_max, uint8_t *level, float *a, float *b) {
  bool changed = true;
  for (int round = 0; round < 5 && changed; round++) {
    changed = false;
    for (int i = 0; i < 8; i++) {
      float rest_a = *a - w[i] * x[i] * (float)level[i], rest_b = *b - w[i] * (float)level[i] * (float)level[i];
      if (!(rest_a > 0 && rest_b > 0)) continue;
      int l = clamp_int(nint(x[i] * rest_b / rest_a), 0, n_max);
      if (l == level[i]) continue;
      rest_a += w[i] * x[i] * (float)l;
      rest_b += w[i] * (float)l * (float)l;
      if (rest_a * rest_a * *b > *a * *a * rest_b) {
        level[i] = (uint8_t)l;
        *a = rest_a;
        *b = rest_b;
        changed = true;
      }
    }
  }
}

/* Levels 0..n_max of the 8 non-negative scales (or minima) of a block: x ~ result * level. */
static float search_positive(const float *x, const float *w, int n_max, uint8_t *level) {
  float max = 0, a = 0, b = 0, best = 0, best_inverse = 0;
  for (int i = 0; i < 8; i++) max = x[i] > max ? x[i] : max;
  memset(level, 0, 8);
  if (max < 1e-15f) return 0;
  /* k = 0, the scale that reaches the largest exactly, comes first: of equal errors the first wins. */
  for (int turn = 0; turn < 9; turn++) {
    int k = turn == 0 ? 0 : turn <= 4 ? turn - 5 : turn - 4;
    float inverse = (0.1f * (float)k + (float)n_max) / max, scale = 1 / inverse, err = 0;
    for (int i = 0; i < 8; i++) {
      int l = nint(inverse * x[i]);
      if (l > n_max) l = n_max;
      float diff = x[i] - scale * (float)l;
      err += w[i] * diff * diff;
    }
    if (turn == 0 || err < best) {
      best = err;
      best_inverse = inverse;
    }
  }
  for (int i = 0; i < 8; i++) {
    int l = clamp_int(nint(best_inverse * x[i]), 0, n_max);
    level[i] = (uint8_t)l;
    a += w[i] * x[i] * (float)l;
    b += w[i] * (float)l * (float)l;
  }
  improve_levels(x, w, n_max, level, &a, &b);
  return b > 0 ? a / b : 0;
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

static float sum_of_squares(const float *x, int n) {
  float sum = 0;
  for (int i = 0; i < n; i++) sum += x[i] * x[i];
  return sum;
}

/* The plain rule for scales: the largest becomes 63. Returns the step. */
static float scales_by_largest(const float *x, uint8_t *level) {
  float max = 0;
  for (int j = 0; j < 8; j++) max = x[j] > max ? x[j] : max;
  float inverse = max > 0 ? 63.0f / max : 0;
  for (int j = 0; j < 8; j++) level[j] = (uint8_t)clamp_int(nint(inverse * x[j]), 0, 63);
  return max / 63.0f;
}

/* Levels of 256 values in level, scales and minima in the first 16 bytes at p. weight: of these columns, or NULL. */
static void encode_block_45(const float *x, const float *weight, const offset_search *s, uint8_t *p, uint8_t *level) {
  float scale[8], below[8], sum_w[8], w[32];
  uint8_t ls[8], lm[8];
  float variance = 2 * sum_of_squares(x, BLOCK) / BLOCK;
  for (int j = 0; j < 8; j++) {
    const float *xs = x + 32 * j;
    float spread = sqrtf(sum_of_squares(xs, 32) / 32);
    sum_w[j] = 0;
    for (int i = 0; i < 32; i++) {
      w[i] = weight ? weight[32 * j + i] * sqrtf(variance + xs[i] * xs[i]) : spread + fabsf(xs[i]);
      sum_w[j] += w[i];
    }
    scale[j] = search_offset(xs, w, s, level + 32 * j, &below[j]);
  }
  float d = weight ? search_positive(scale, sum_w, 63, ls) : scales_by_largest(scale, ls);
  float dmin = weight ? search_positive(below, sum_w, 63, lm) : scales_by_largest(below, lm);
  d = put_f16(p, d);
  dmin = put_f16(p + 2, dmin);
  pack_scales(ls, lm, p + 4);
  for (int j = 0; j < 8; j++) {
    float step = d * (float)ls[j], offset = dmin * (float)lm[j];
    if (step == 0) continue; /* the levels of the search stay */
    for (int i = 32 * j; i < 32 * j + 32; i++) level[i] = (uint8_t)clamp_int(nint((x[i] + offset) / step), 0, s->n_max);
  }
}

static void pack_nibbles(const uint8_t *level, uint8_t *q) {
  for (int i = 0; i < 128; i++) {
    const uint8_t *l = level + 64 * (i / 32) + i % 32;
    q[i] = (uint8_t)((l[0] & 15) | (l[32] & 15) << 4);
  }
}

void quant_encode_q4_k(const float *x, void *blocks, int64_t n, const float *weight) {
  static const offset_search plain = {15, -1.0f, 0.1f, 20}, weighted = {15, -0.9f, 0.05f, 36};
  uint8_t *p = blocks, level[BLOCK];
  for (int64_t b = 0; b < n / BLOCK; b++, p += Q4_K_BYTES) {
    encode_block_45(x + b * BLOCK, weight ? weight + b * BLOCK : NULL, weight ? &weighted : &plain, p, level);
    pack_nibbles(level, p + 16);
  }
}

void quant_encode_q5_k(const float *x, void *blocks, int64_t n, const float *weight) {
  static const offset_search plain = {31, -0.5f, 0.1f, 15}, weighted = {31, -0.9f, 0.05f, 36};
  uint8_t *p = blocks, level[BLOCK];
  for (int64_t b = 0; b < n / BLOCK; b++, p += Q5_K_BYTES) {
    encode_block_45(x + b * BLOCK, weight ? weight + b * BLOCK : NULL, weight ? &weighted : &plain, p, level);
    memset(p + 16, 0, 32);
    for (int e = 0; e < BLOCK; e++) p[16 + e % 32] |= (uint8_t)((level[e] >> 4) << e / 32);
    pack_nibbles(level, p + 48);
  }
}

/* Scales of a q6_K block: the one of largest magnitude becomes -128. False if the block is as good as zero. */
static bool scales_6(const float *scale, uint8_t *p, float *d) {
  float largest = 0, value = 0;
  for (int j = 0; j < 16; j++) {
    if (fabsf(scale[j]) > largest) {
      largest = fabsf(scale[j]);
      value = scale[j];
    }
  }
  if (largest < 1e-15f) return false;
  float inverse = -128.0f / value;
  *d = put_f16(p + 208, 1 / inverse);
  for (int j = 0; j < 16; j++) p[192 + j] = (uint8_t)clamp_int(nint(inverse * scale[j]), -128, 127);
  return true;
}

static void encode_block_6(const float *x, const float *weight, uint8_t *p) {
  uint8_t level[BLOCK];
  float scale[16], w[16], d;
  memset(p, 0, Q6_K_BYTES);
  for (int j = 0; j < 16; j++) {
    const float *xs = x + 16 * j;
    for (int i = 0; i < 16; i++) w[i] = weight ? weight[16 * j + i] : xs[i] * xs[i];
    scale[j] = quant_search_signed(xs, 16, 32, w, level + 16 * j);
  }
  if (!scales_6(scale, p, &d)) return;
  for (int e = 0; e < BLOCK; e++) {
    float step = d * (float)(int8_t)p[192 + e / 16];
    if (step != 0) level[e] = (uint8_t)(clamp_int(nint(x[e] / step), -32, 31) + 32);
    int half = e / 128, group = e % 128 / 32, l = e % 32;
    p[64 * half + 32 * (group % 2) + l] |= (uint8_t)((level[e] & 15) << 4 * (group / 2));
    p[128 + 32 * half + l] |= (uint8_t)((level[e] >> 4) << 2 * group);
  }
}

void quant_encode_q6_k(const float *x, void *blocks, int64_t n, const float *weight) {
  for (int64_t b = 0; b < n / BLOCK; b++) {
    encode_block_6(x + b * BLOCK, weight ? weight + b * BLOCK : NULL, (uint8_t *)blocks + b * Q6_K_BYTES);
  }
}
