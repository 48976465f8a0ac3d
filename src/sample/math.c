/* math: logarithm and exponential in double without libm, so that a token does not depend on whose libm is installed.
 *
 * Only +, -, *, / and integer operations, each rounded to nearest even, in the order written: the same bits on every
 * machine. Coefficients are those of the Taylor series, enough of them that what is left out is below 2^-57 of the result. */
#include <math.h>
#include <string.h>

#include "sample/sample.h"

/* ln 2 in two parts: 41 bits, so that a product with an exponent is exact, and the rest. */
static const double ln2_high = 0x1.62e42fefa38p-1, ln2_low = 0x1.ef35793c7673p-45;

static uint64_t bits_of(double x) {
  uint64_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

static double double_of(uint64_t u) {
  double x;
  memcpy(&x, &u, sizeof x);
  return x;
}

/* x = 2^k m, sqrt(1/2) <= m < sqrt(2), f = m - 1, s = f / (2 + f):
 *   ln m = 2 atanh s = 2 s + s R,  R = 2 (s^2 / 3 + s^4 / 5 + ...),  and 2 s = f - s f, so ln m = f - s (f - R).
 * |s| <= 0.1716: the first term left out, 2 s^24 / 25, is below 2^-64. */
double sample_log(double x) {
  if (!(x > 0)) return x == 0 ? -INFINITY : NAN;
  if (x == INFINITY) return x;
  int k = 0;
  if (x < 0x1p-1022) { /* subnormal */
    x *= 0x1p54;
    k = -54;
  }
  uint64_t u = bits_of(x);
  k += (int)(u >> 52) - 1023;
  double m = double_of((u & 0x000fffffffffffffu) | 0x3ff0000000000000u);
  if (m >= 0x1.6a09e667f3bcdp+0) {
    m *= 0.5;
    k++;
  }
  double f = m - 1, s = f / (2 + f), z = s * s, w = z * z;
  /* two interleaved halves, powers 1, 3, 5.. and 2, 4, 6.. of z */
  double odd = 2.0 / 3 + w * (2.0 / 7 + w * (2.0 / 11 + w * (2.0 / 15 + w * (2.0 / 19 + w * (2.0 / 23)))));
  double even = 2.0 / 5 + w * (2.0 / 9 + w * (2.0 / 13 + w * (2.0 / 17 + w * (2.0 / 21))));
  double r = z * odd + w * even;
  return k * ln2_high - ((s * (f - r) - k * ln2_low) - f);
}

/* y = exp(x - shift), which must be at most 709; below -708 it is exp(-708).
 * v = k ln 2 + r, |r| <= 0.3466: e^v = 2^k e^r. The first term left out, r^14 / 14!, is below 2^-57. Adding 1.5 * 2^52
 * rounds to an integer, which then stands in the low bits. No branches, so that compilers can take several at once. */
void sample_exps(const double *restrict x, int32_t n, double shift, double *restrict y) {
  for (int32_t i = 0; i < n; i++) {
    double v = x[i] - shift;
    v = v > -708 ? v : -708;
    double t = v * 0x1.71547652b82fep+0 + 0x1.8p52, k = t - 0x1.8p52;
    double r = (v - k * ln2_high) - k * ln2_low, z = r * r;
    double even = 1.0 / 2 + z * (1.0 / 24 + z * (1.0 / 720 + z * (1.0 / 40320 + z * (1.0 / 3628800 + z * (1.0 / 479001600)))));
    double odd =
        1.0 / 6 + z * (1.0 / 120 + z * (1.0 / 5040 + z * (1.0 / 362880 + z * (1.0 / 39916800 + z * (1.0 / 6227020800)))));
    y[i] = (1 + (r + z * (even + r * odd))) * double_of((bits_of(t) + 1023) << 52);
  }
}
