/* math: exp, tanh and what is made of them, as formulas of + - * / fma, comparisons and bit patterns only, so that vector code
 * repeats them operation for operation (vecf.h of each level). No libm but fmaf, which has one possible result.
 *
 * Largest errors, over all floats against double precision: exp 1.10 ulp, tanh 1.34 ulp. */
#ifndef CPU_SCALAR_MATH_H
#define CPU_SCALAR_MATH_H

#include <math.h>
#include <string.h>

#include "device/cpu/cpu.h"

/* e^x = 2^n e^r, n = nearest(x / ln 2), |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to an integer and leaves it in the low
 * bits. ln 2 in two parts, so that r keeps its bits. e^r = 1 + r + r^2 p(r), p a minimax polynomial (error 8e-9 of e^r). */
#define MATH_LOG2E 0x1.715476p+0f
#define MATH_ROUND 0x1.8p+23f
#define MATH_LN2_HIGH 0x1.62e430p-1f
#define MATH_LN2_LOW -0x1.05c610p-29f
#define MATH_EXP_LEAST -87.33654f /* below: +0, the result would be subnormal */
#define MATH_EXP_MOST 88.72f      /* above: infinity */
#define MATH_E6 0x1.6d110ap-10f
#define MATH_E5 0x1.120b6ep-7f
#define MATH_E4 0x1.55551ap-5f
#define MATH_E3 0x1.5554dcp-3f
#define MATH_E2 0.5f

/* tanh(x) = x + x^3 p(x^2) below 0.625 (minimax, error 2e-8), else 1 - 2 / (e^2x + 1). */
#define MATH_TANH_SPLIT 0.625f
#define MATH_T11 -0x1.8f8de4p-8f
#define MATH_T9 0x1.58048ep-6f
#define MATH_T7 -0x1.b9258ap-5f
#define MATH_T5 0x1.110e1cp-3f
#define MATH_T3 -0x1.555552p-2f

#define MATH_GELU_A 0.044715f
#define MATH_GELU_B 0.79788456f /* sqrt(2 / pi) */

static inline uint32_t math_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
static inline float math_float(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

/* d of a block of activations (quant.h) whose largest magnitude has these bits, and by what its values are multiplied. Bit patterns of
 * magnitudes order like the numbers, infinity and NaN on top. 0: q is zeros whatever the values are. */
#define MATH_LEAST 0x03800000u /* 2^-120: below, 127 / x could overflow, and the block counts as zeros */
#define MATH_INFINITE 0x7f800000u

static inline float math_scale_a256(uint32_t most, float *d) {
  *d = most < MATH_LEAST ? 0.0f : math_float(most) / 127.0f;
  return most >= MATH_LEAST && most < MATH_INFINITE ? 127.0f / math_float(most) : 0.0f;
}

/* By what to multiply 1 / d of a block with these sums (QUANT_REACH). Rounding adds up to half to each of the 8, 16 or 32, before and
 * after. */
static inline float math_narrowed(int reach8, int reach16, int reach32) {
  if (reach8 <= QUANT_REACH8 && reach16 <= QUANT_REACH16 && reach32 <= QUANT_REACH32) return 1;
  const float by8 = (float)(QUANT_REACH8 - 9) / (float)reach8, by16 = (float)(QUANT_REACH16 - 17) / (float)reach16;
  const float by32 = (float)(QUANT_REACH32 - 33) / (float)reach32, by = by16 < by32 ? by16 : by32;
  return by8 < by ? by8 : by;
}

/* Divided by 2^log2_d, the largest is at least 63.75 and less than 127.5, which would be rounded to 128. */
static inline float math_scale_a32(uint32_t most, float *d, float *log2_d) {
  const bool usual = most >= MATH_LEAST && most < MATH_INFINITE;
  const uint32_t above = (most + 0x10000) >> 23; /* 127 + 6 + log2_d */
  *d = usual ? math_float((above - 6) << 23) : most < MATH_LEAST ? 0.0f : math_float(most);
  *log2_d = usual ? (float)((int)above - 133) : most < MATH_LEAST ? -INFINITY : math_float(most);
  return usual ? math_float((254 + 6 - above) << 23) : 0.0f;
}

/* What vdpbf16ps makes of subnormals: zeros of their sign. */
static inline float math_flushed(float x) { return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x; }

/* fma without subnormals. The product is exact in double, and so is the sum where it is as small as 2^-126, where what becomes zero is
 * decided by what it is rounded to: at half a unit below. */
static inline float math_fma_flushed(float a, float b, float c) {
  double sum = (double)a * (double)b + (double)c;
  return fabs(sum) < 0x1.ffffffp-127 ? (float)copysign(0, sum) : fmaf(a, b, c);
}

static inline float math_exp(float x) {
  float t = fmaf(x, MATH_LOG2E, MATH_ROUND), n = t - MATH_ROUND;
  float r = fmaf(n, -MATH_LN2_HIGH, x);
  r = fmaf(n, -MATH_LN2_LOW, r);
  float p = fmaf(MATH_E6, r, MATH_E5);
  p = fmaf(p, r, MATH_E4);
  p = fmaf(p, r, MATH_E3);
  p = fmaf(p, r, MATH_E2);
  p = fmaf(p, r * r, r) + 1.0f;
  /* times 2^n: n in the low bits of t, moved to the exponent; within the limits the result is a normal number */
  float y = math_float(math_bits(p) + (math_bits(t) << 23));
  y = x < MATH_EXP_LEAST ? 0.0f : y;
  y = x > MATH_EXP_MOST ? INFINITY : y;
  return x == x ? y : x;
}

static inline float math_tanh(float x) {
  float a = math_float(math_bits(x) & 0x7fffffff);
  float u = x * x, p = fmaf(MATH_T11, u, MATH_T9);
  p = fmaf(p, u, MATH_T7);
  p = fmaf(p, u, MATH_T5);
  p = fmaf(p, u, MATH_T3);
  float small = fmaf(p * u, x, x);
  float large = 1.0f - 2.0f / (math_exp(a + a) + 1.0f);
  large = math_float(math_bits(large) | (math_bits(x) & 0x80000000));
  return a < MATH_TANH_SPLIT ? small : large;
}

static inline float math_silu(float x) { return x / (1.0f + math_exp(-x)); }

static inline float math_gelu(float x) {
  float t = fmaf(MATH_GELU_A, x * x, 1.0f);
  float u = (MATH_GELU_B * x) * t;
  return (0.5f * x) * (1.0f + math_tanh(u));
}

static inline float math_max(float a, float b) { return a > b ? a : b; }

/* The 16 lanes of a sum, or of a maximum, joined by the fixed tree. */
static inline float math_sum16(float lane[16]) {
  for (int n = 8; n; n /= 2)
    for (int j = 0; j < n; j++) lane[j] += lane[j + n];
  return lane[0];
}
static inline float math_max16(float lane[16]) {
  for (int n = 8; n; n /= 2)
    for (int j = 0; j < n; j++) lane[j] = math_max(lane[j], lane[j + n]);
  return lane[0];
}

#endif
