/* angles: cos and sin of rotary position embedding, in double, with a logarithm, exponential, sine and cosine of our own, so
 * that the bits are the same on every machine. Only + - * / and exact steps: no fma, no libm. Two angles at a time in the
 * compiler's portable vectors: about 1.4 us for 64 of them.
 *
 * Good for positions up to 2^27: angles are reduced with pi / 2 in four parts. Errors of log, exp, sin and cos stay below
 * 1e-15, far under half an ulp of the f32 results. */
#include <string.h>

#include "device/cpu/cpu.h"

typedef double pair __attribute__((vector_size(16)));
typedef uint64_t bits __attribute__((vector_size(16)));

static inline bits choose(bits mask, bits a, bits b) { return (mask & a) | (~mask & b); }
static inline pair both(double x) { return (pair){x, x}; }

#define LN2_HIGH 0x1.62e42feep-1 /* 32 bits: times an exponent it is exact */
#define LN2_LOW 0x1.a39ef35793c76p-33
#define INVERSE_LN2 0x1.71547652b82fep+0
#define ROUND 0x1.8p+52 /* added and subtracted: the nearest integer, which the low bits hold in between */

/* Natural logarithm of a positive normal number: x = 2^n m, sqrt(1/2) <= m < sqrt(2), s = (m - 1) / (m + 1),
 * ln m = 2 (s + s^3 / 3 + s^5 / 5 + ...), |s| < 0.172: s^23 / 23 is below 1e-18. */
static double natural_log(double x) {
  uint64_t u;
  memcpy(&u, &x, sizeof u);
  double n = (double)((int64_t)(u >> 52 & 0x7ff) - 1023), m;
  u = (u & 0xfffffffffffff) | 0x3ff0000000000000;
  memcpy(&m, &u, sizeof m);
  if (m > 0x1.6a09e667f3bcdp+0) {
    m *= 0.5;
    n += 1;
  }
  double s = (m - 1) / (m + 1), z = s * s, sum = 0;
  for (int k = 21; k >= 3; k -= 2) sum = z * (1.0 / k + sum);
  return n * LN2_HIGH + (2 * s + (2 * s * sum + n * LN2_LOW));
}

/* e^x, for |x| <= 700 (others as if at the limit): x = n ln 2 + r, |r| <= 0.347; the series to r^13 / 13!, the next term is
 * below 1e-17. */
static inline pair exponential(pair x) {
  static const double inverse[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                                   1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      0.5};
  x = (pair)choose((bits)(x > -700), (bits)x, (bits)both(-700));
  x = (pair)choose((bits)(x < 700), (bits)x, (bits)both(700));
  pair n = (x * INVERSE_LN2 + ROUND) - ROUND, r = (x - n * LN2_HIGH) - n * LN2_LOW, p = both(0);
  for (size_t i = 0; i < COUNT_OF(inverse); i++) p = p * r + inverse[i];
  return (1 + (r + r * r * p)) * (pair)((bits)(n + 1023 + ROUND) << 52);
}

/* sin and cos by their series on |r| <= pi / 4; r^17 / 17! is below 5e-17. */
static inline void sine_cosine(pair x, pair *sine, pair *cosine) {
  static const double s[] = {1.0 / 355687428096000, -1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800,
                             1.0 / 362880,          -1.0 / 5040,          1.0 / 120,        -1.0 / 6};
  static const double c[] = {-1.0 / 6402373705728000, 1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600,
                             -1.0 / 3628800,          1.0 / 40320,          -1.0 / 720,         1.0 / 24};
  /* pi / 2 in parts of 26 bits, so that their products with n < 2^27 are exact */
  pair shifted = x * 0x1.45f306dc9c883p-1 + ROUND, n = shifted - ROUND;
  pair r = ((x - n * 0x1.921fb5p+0) - n * 0x1.110b46p-26) - n * 0x1.1a6263p-54;
  r -= n * 0x1.8a2e03707344ap-81;
  pair z = r * r, ps = both(0), pc = both(0);
  for (int i = 0; i < 8; i++) {
    ps = ps * z + s[i];
    pc = pc * z + c[i];
  }
  bits sin_r = (bits)(r + r * z * ps), cos_r = (bits)(1 - (0.5 * z - z * z * pc));
  bits quarter = (bits)shifted & 3, odd = -(quarter & 1); /* a quarter turn exchanges them, two change the sign */
  *sine = (pair)(choose(odd, cos_r, sin_r) ^ (quarter & 2) << 62);
  *cosine = (pair)(choose(odd, sin_r, cos_r) ^ ((quarter + 1) & 2) << 62);
}

void cpu_angles(const op_rope *r, const float *factors, int32_t position, float *cs) {
  int half = r->n_rot / 2;
  double step = -natural_log(r->base) * 2 / r->n_rot, span = r->high - r->low < 0.001 ? 0.001 : r->high - r->low;
  for (int i = 0; i < half; i += 2) {
    int n = half - i < 2 ? 1 : 2;
    pair theta = position * exponential((pair){step * i, step * (i + 1)}), sine, cosine;
    if (factors) theta = theta / (pair){(double)factors[i], n > 1 ? (double)factors[i + 1] : 1};
    pair angle = r->freq_scale * theta;
    if (r->yarn) {
      pair ramp = both(0);
      for (int j = 0; j < 2; j++) {
        double part = (i + j - r->low) / span;
        ramp[j] = 1 - (part < 0 ? 0 : part > 1 ? 1 : part);
      }
      angle = angle * (1 - ramp) + theta * ramp;
    }
    sine_cosine(angle, &sine, &cosine);
    for (int j = 0; j < n; j++) {
      cs[i + j] = (float)(cosine[j] * r->magnitude);
      cs[half + i + j] = (float)(sine[j] * r->magnitude);
    }
  }
}
