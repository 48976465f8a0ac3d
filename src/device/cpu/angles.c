/* angles: cos and sin of rotary position embedding, in double, with a logarithm, exponential, sine and cosine of our own, so
 * that the bits are the same on every machine. Only + - * / and exact steps: no fma, no libm.
 *
 * Good for positions up to 2^27: angles are reduced with pi / 2 in four parts. Errors of log, exp, sin and cos stay below
 * 1e-15, far under half an ulp of the f32 results. */
#include <string.h>

#include "device/cpu/cpu.h"

static double from_bits(uint64_t u) {
  double x;
  memcpy(&x, &u, sizeof x);
  return x;
}
static uint64_t to_bits(double x) {
  uint64_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

#define LN2_HIGH 0x1.62e42feep-1 /* 32 bits: times an exponent it is exact */
#define LN2_LOW 0x1.a39ef35793c76p-33
#define INVERSE_LN2 0x1.71547652b82fep+0
#define ROUND 0x1.8p+52 /* added and subtracted: the nearest integer */

/* Natural logarithm of a positive normal number: x = 2^n m, sqrt(1/2) <= m < sqrt(2), s = (m - 1) / (m + 1),
 * ln m = 2 (s + s^3 / 3 + s^5 / 5 + ...), |s| < 0.172: s^23 / 23 is below 1e-18. */
static double natural_log(double x) {
  uint64_t u = to_bits(x);
  double n = (double)((int64_t)(u >> 52 & 0x7ff) - 1023), m = from_bits((u & 0xfffffffffffff) | 0x3ff0000000000000);
  if (m > 0x1.6a09e667f3bcdp+0) {
    m *= 0.5;
    n += 1;
  }
  double s = (m - 1) / (m + 1), z = s * s, sum = 0;
  for (int k = 21; k >= 3; k -= 2) sum = z * (1.0 / k + sum);
  return n * LN2_HIGH + (2 * s + (2 * s * sum + n * LN2_LOW));
}

/* e^x, for |x| < 700 (others as if at the limit): x = n ln 2 + r, |r| <= 0.347; the series to r^13 / 13!, the next term is
 * below 1e-17. */
static double exponential(double x) {
  static const double inverse[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                                   1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      0.5};
  x = x > -700 ? x : -700;
  x = x < 700 ? x : 700;
  double n = (x * INVERSE_LN2 + ROUND) - ROUND, r = (x - n * LN2_HIGH) - n * LN2_LOW, p = 0;
  for (size_t i = 0; i < COUNT_OF(inverse); i++) p = p * r + inverse[i];
  return (1 + (r + r * r * p)) * from_bits((uint64_t)(int64_t)(n + 1023) << 52);
}

/* sin and cos by their series on |r| <= pi / 4; r^17 / 17! is below 5e-17. */
static void sine_cosine(double x, double *sine, double *cosine) {
  static const double s[] = {1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6};
  static const double c[] = {-1.0 / 6402373705728000, 1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320, -1.0 / 720, 1.0 / 24};
  /* pi / 2 in parts of 26 bits, so that their products with n < 2^27 are exact */
  double shifted = x * 0x1.45f306dc9c883p-1 + ROUND, n = shifted - ROUND;
  double r = ((x - n * 0x1.921fb5p+0) - n * 0x1.110b46p-26) - n * 0x1.1a6263p-54;
  r -= n * 0x1.8a2e03707344ap-81;
  double z = r * r, ps = 0, pc = 0;
  for (int i = 0; i < 8; i++) {
    ps = ps * z + s[i];
    pc = pc * z + c[i];
  }
  double sin_r = r + r * z * ps, cos_r = 1 - (0.5 * z - z * z * pc);
  unsigned quarter = (unsigned)(to_bits(shifted) & 3);
  double a = quarter & 1 ? cos_r : sin_r, b = quarter & 1 ? sin_r : cos_r;
  *sine = quarter & 2 ? -a : a;
  *cosine = (quarter + 1) & 2 ? -b : b;
}

void cpu_angles(const op_rope *r, const float *factors, int32_t position, float *cs) {
  int half = r->n_rot / 2;
  double step = -natural_log(r->base) * 2 / r->n_rot, span = r->high - r->low;
  if (span < 0.001) span = 0.001;
  for (int i = 0; i < half; i++) {
    double theta = position * exponential(step * i);
    if (factors) theta = theta / (double)factors[i];
    double angle = r->freq_scale * theta;
    if (r->yarn) {
      double part = (i - r->low) / span, ramp = 1 - (part < 0 ? 0 : part > 1 ? 1 : part);
      angle = angle * (1 - ramp) + theta * ramp;
    }
    double sine, cosine;
    sine_cosine(angle, &sine, &cosine);
    cs[i] = (float)(cosine * r->magnitude);
    cs[half + i] = (float)(sine * r->magnitude);
  }
}
