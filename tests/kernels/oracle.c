/* oracle: matrix products, sums and activation blocks in double precision and by the letter of cpu.h. */
#include "kernels/oracle.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { NO_FIELD = -1 };

typedef struct oracle_field { /* where the f16 scales of a block are */
  int d, dmin;
} oracle_field;

static oracle_field fields_of(quant_type type) {
  switch (type) {
  case QUANT_Q4_K: case QUANT_Q5_K: return (oracle_field){0, 2};
  case QUANT_Q6_K: return (oracle_field){208, NO_FIELD};
  default: return (oracle_field){0, NO_FIELD};
  }
}

static float field_f32(const uint8_t *block, int at) {
  uint16_t h;
  memcpy(&h, block + at, sizeof h);
  return quant_f16_to_f32(h);
}

/* The integers of a block: decoding it with d = 1, dmin = 0 gives scale * q, and with d = 0, dmin = 1 the minima, exactly. */
static void integers(quant_type type, const uint8_t *block, int64_t *levels, int64_t *minima) {
  const quant_info *info = quant_find(type);
  const oracle_field f = fields_of(type);
  const uint16_t zero = 0, one = 0x3C00;
  uint8_t copy[256];
  float y[256];
  for (int pass = 0; pass < 2; pass++) {
    int64_t *to = pass ? minima : levels;
    memcpy(copy, block, (size_t)info->bytes);
    memcpy(copy + f.d, pass ? &zero : &one, sizeof one);
    if (f.dmin != NO_FIELD) memcpy(copy + f.dmin, pass ? &one : &zero, sizeof one);
    info->decode(copy, y, info->block);
    for (int e = 0; e < info->block; e++) to[e] = pass ? (int64_t)-y[e] : (int64_t)y[e];
  }
}

/* Sums of the block times q, exactly. */
static void block_sums(quant_type type, const uint8_t *block, const int8_t *q, int64_t *i, int64_t *m) {
  int64_t levels[256], minima[256];
  integers(type, block, levels, minima);
  *i = *m = 0;
  for (int e = 0; e < quant_find(type)->block; e++) {
    *i += levels[e] * q[e];
    *m += minima[e] * q[e];
  }
}

/* Bound: a block makes one or two terms t = i * (d * d_x). Turning i into float, d * d_x and the fma round once each: the
 * first two change t by 2 u |t|, and the fma at block b by u times the sum so far, which is at most S = sum |t| (1 + small).
 * With n terms in all: (n + 2) u S, and one u S for the products of small terms. Where d * d_x is subnormal it is
 * off by TINY / 2 instead, which i multiplies; a subnormal sum is off by TINY / 2 at each fma. */
static oracle_result mm_blocks(quant_type type, const uint8_t *row, const void *x, int64_t k) {
  const quant_info *info = quant_find(type);
  const oracle_field f = fields_of(type);
  oracle_result r = {0, 0, 0};
  double size = 0, tiny = 0;
  int64_t n_blocks = k / info->block, n_terms = n_blocks * (f.dmin == NO_FIELD ? 1 : 2);
  for (int64_t b = 0; b < n_blocks; b++, row += info->bytes) {
    const quant_a32 *a32 = (const quant_a32 *)x + b;
    const quant_a256 *a256 = (const quant_a256 *)x + b;
    float dx = info->block == 32 ? a32->d : a256->d, d = field_f32(row, f.d);
    int64_t i, m;
    block_sums(type, row, info->block == 32 ? a32->q : a256->q, &i, &m);
    r.exact = fmaf((float)i, d * dx, r.exact);
    r.value += (double)i * (double)d * (double)dx;
    size += fabs((double)i * (double)d * (double)dx);
    tiny += fabs((double)i) + 1;
    if (f.dmin == NO_FIELD) continue;
    float dmin = field_f32(row, f.dmin);
    r.exact = fmaf(-(float)m, dmin * dx, r.exact);
    r.value -= (double)m * (double)dmin * (double)dx;
    size += fabs((double)m * (double)dmin * (double)dx);
    tiny += fabs((double)m) + 1;
  }
  r.bound = (double)(n_terms + 3) * ORACLE_U * size + tiny * ORACLE_TINY / 2;
  return r;
}

/* Bound: n roundings of sums that are at most S = sum |a b| (1 + small). */
oracle_result oracle_chain(const float *a, int64_t a_step, const float *b, int64_t b_step, int64_t n) {
  oracle_result r = {0, 0, 0};
  double size = 0;
  for (int64_t i = 0; i < n; i++) {
    double product = (double)a[i * a_step] * (double)b[i * b_step];
    r.exact = fmaf(a[i * a_step], b[i * b_step], r.exact);
    r.value += product;
    size += fabs(product);
  }
  r.bound = (double)(n + 1) * (ORACLE_U * size + ORACLE_TINY / 2);
  return r;
}

/* A chain a stretch, and one addition for each: at most 256 + n_stretches roundings of sums <= S. */
static oracle_result mm_plain(const float *w, const float *x, int64_t k) {
  oracle_result r = {0, 0, 0};
  double size = 0;
  for (int64_t at = 0; at < k; at += 256) {
    int64_t n = k - at < 256 ? k - at : 256;
    oracle_result part = oracle_chain(w + at, 1, x + at, 1, n);
    r.exact = r.exact + part.exact;
    r.value += part.value;
    r.bound += part.bound;
    for (int64_t i = at; i < at + n; i++) size += fabs((double)w[i] * (double)x[i]);
  }
  r.bound += (double)((k + 255) / 256) * ORACLE_U * size;
  return r;
}

static float without_subnormal(float x) { return fabsf(x) < FLT_MIN ? copysignf(0, x) : x; }

/* One fma, whose result is zero if it is subnormal when rounded to 24 bits wherever they stand. Small sums are exact in double. */
static float flushing_fma(float a, float b, float c) {
  double sum = (double)a * (double)b + (double)c;
  int exponent;
  double fraction = frexp(sum, &exponent), rounded = ldexp((double)(float)fraction, exponent);
  if (fabs(sum) < 0x1p-120 && fabs(rounded) < (double)FLT_MIN) return copysignf(0, (float)fraction);
  return fmaf(a, b, c);
}

/* To 8 bits, halves to even; beyond the largest, infinity. */
static float rounded_bf16(float x) {
  int exponent;
  double fraction = frexp((double)without_subnormal(x), &exponent);
  return (float)ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

/* n roundings as in a chain, but a subnormal sum is off by all of it, and so is a subnormal factor; rounding a moves it by 2^-8. */
oracle_result oracle_pairs(const float *a, int64_t a_step, const float *b, int64_t b_step, int64_t from, int64_t to) {
  oracle_result r = {0, 0, 0};
  double size = 0, rounding = 0, factors = 0;
  for (int64_t i = from - from % 2; i < to + to % 2; i++) {
    int64_t at = i ^ 1;
    bool there = at >= from && at < to;
    float x = there ? a[at * a_step] : 0, y = there ? b[at * b_step] : 0, x8 = rounded_bf16(x);
    r.exact = flushing_fma(x8, without_subnormal(y), r.exact);
    r.value += (double)x * (double)y;
    size += fabs((double)x * (double)y);
    rounding += x8 == x ? 0 : fabs((double)x * (double)y);
    factors += fabs((double)x) + fabs((double)y);
  }
  r.bound = (double)(to - from + 2) * (ORACLE_U * 1.01 * size + (double)FLT_MIN) + 0x1.02p-8 * rounding + factors * (double)FLT_MIN;
  return r;
}

oracle_result oracle_mm(quant_type type, const void *row, const void *x, int64_t k) {
  const quant_info *info = quant_find(type);
  float w[8192], e[8192];
  if (info->block > 1) return mm_blocks(type, row, x, k);
  info->decode(row, w, k);
  if (type == QUANT_BF16) {
    info->decode(x, e, k);
    return oracle_pairs(e, 1, w, 1, 0, k);
  }
  return mm_plain(w, x, k);
}

float oracle_lanes16(const float *x, int64_t n, bool squares) {
  float lane[16] = {0};
  for (int64_t i = 0; i < n; i++) lane[i % 16] = squares ? fmaf(x[i], x[i], lane[i % 16]) : lane[i % 16] + x[i];
  for (int half = 8; half > 0; half /= 2) {
    for (int j = 0; j < half; j++) lane[j] += lane[j + half];
  }
  return lane[0];
}

/* Blocks below 2^-120, where 127 / max could overflow, count as zeros. */
static float largest(const float *x, int n) {
  float max = 0;
  for (int i = 0; i < n; i++) max = fmaxf(max, fabsf(x[i]));
  return max < 0x1p-120f ? 0 : max;
}

static void quant_block(const float *x, float inverse, int8_t *q, int n) {
  for (int i = 0; i < n; i++) q[i] = (int8_t)nearbyintf(x[i] * inverse);
}

/* The least power of two with which no value becomes 128. */
static void power_scale(float max, float *d, float *log2_d) {
  int e = -200;
  while (max > 0 && max < INFINITY && nearbyint(ldexp((double)max, -e)) > 127) e++;
  *d = max > 0 ? (float)ldexp(1, e) : 0;
  *log2_d = max > 0 ? (float)e : -INFINITY;
}

static void quant_a32_blocks(const float *x, quant_a32 *y, int64_t n) {
  for (int64_t b = 0; b < n / 32; b++) {
    power_scale(largest(x + 32 * b, 32), &y[b].d, &y[b].log2_d);
    quant_block(x + 32 * b, y[b].d > 0 ? 1 / y[b].d : 0, y[b].q, 32);
    y[b].start4 = y[b].start8 = 0;
    for (int i = 0; i < 32; i++) {
      y[b].start4 -= 8 * y[b].q[i];
      y[b].start8 -= 128 * y[b].q[i];
    }
  }
}

/* The largest sums of a block: of magnitudes over 16, of one sign over 32, and over those of 16 whose place has bit 1, or has not. */
typedef struct sums { int most8, most16, most32; } sums;

/* False if a sum goes too far. */
static bool sum_block(quant_a256 *y, sums *most) {
  int all16[16] = {0}, one[2][8] = {{0}}, lane[2][32] = {{0}};
  memset(y->starts, 0, sizeof y->starts);
  memset(y->sums32, 0, sizeof y->sums32);
  for (int i = 0; i < 256; i++) {
    int q = y->q[i];
    y->starts[i / 16] = (int16_t)(y->starts[i / 16] - 32 * q);
    y->sums32[i / 32] = (int16_t)(y->sums32[i / 32] + q);
    all16[i / 16] += abs(q);
    one[q > 0][i / 32] += abs(q);
    lane[q > 0][i / 16 * 2 + i % 4 / 2] += abs(q);
  }
  *most = (sums){0, 0, 0};
  for (int i = 0; i < 64; i++) {
    if (i < 16 && all16[i] > most->most16) most->most16 = all16[i];
    if (i < 16 && one[i / 8][i % 8] > most->most32) most->most32 = one[i / 8][i % 8];
    if (lane[i / 32][i % 32] > most->most8) most->most8 = lane[i / 32][i % 32];
  }
  return most->most8 <= 520 && most->most16 <= 1023 && most->most32 <= 1057;
}

static void quant_a256_blocks(const float *x, quant_a256 *y, int64_t n) {
  for (int64_t b = 0; b < n / 256; b++, y++, x += 256) {
    sums most;
    float max = largest(x, 256), inverse = max > 0 ? 127.0f / max : 0;
    memset(y, 0, sizeof *y);
    y->d = max / 127.0f;
    quant_block(x, inverse, y->q, 256);
    if (sum_block(y, &most)) continue;
    float by = fminf(fminf(511.0f / (float)most.most8, 1006.0f / (float)most.most16), 1024.0f / (float)most.most32);
    y->d = y->d / by;
    quant_block(x, inverse * by, y->q, 256);
    if (!sum_block(y, &most)) y->d = NAN; /* the rule does not keep its promise */
  }
}

size_t oracle_quant(quant_type format, const float *x, void *y, int64_t n) {
  if (format == QUANT_A32) quant_a32_blocks(x, y, n);
  else if (format == QUANT_A256) quant_a256_blocks(x, y, n);
  else quant_find(format)->encode(x, y, n, NULL);
  return quant_row_bytes(format, n);
}
