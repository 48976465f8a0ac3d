/* check_row: kernels that touch one row, and the accuracy of exp, tanh and the angles. */
#include <math.h>
#include <stdlib.h>

#include "kernels/check.h"

enum { MAX_N = 1100 };

static const int lengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65, 100, 128, 255, 256, 257,
                              512, 1000, 1099};

typedef struct row_data {
  zone x, u, y;
} row_data;

static row_data data_open(void) {
  row_data d;
  zone_open(&d.x, MAX_N * sizeof(float));
  zone_open(&d.u, MAX_N * sizeof(float));
  zone_open(&d.y, MAX_N * sizeof(float));
  return d;
}

static float *place(zone *z, int n) { return zone_place(z, (size_t)n * sizeof(float), 4, random_below(2)); }

static float *place_random(zone *z, int n, data_kind kind) {
  float *x = place(z, n);
  random_floats(x, n, kind);
  return x;
}

/* ---- value by value -------------------------------------------------------------------------------------------------- */

/* A slot that makes y[i] of x[i], u[i], a parameter and perhaps y[i] itself. */
typedef struct by_value {
  void (*run)(const cpu_kernels *k, const float *x, const float *u, float a, float *y, int n);
  bool (*runs)(const check *c, int level);
  /* Result, and how far the scalar kernel may be off; a bound of 0 asks for the very float. */
  double (*oracle)(float x, float u, float a, float y, double *bound);
  bool in_place; /* y may be x: the drivers do so */
} by_value;

static void value_shape(check *c, const by_value *s, row_data *d, int n, data_kind kind, bool in_place) {
  float scalar[MAX_N], before[MAX_N], parameter = random_below(5) ? random_normal() : 1.0f;
  check_shape(c, "n %d, %s%s", n, data_name(kind), in_place ? ", in place" : "");
  float *x = place_random(&d->x, n, kind), *u = place_random(&d->u, n, random_below(2) ? kind : DATA_NORMAL);
  if (kind == DATA_NORMAL) for (int i = 0; i < n; i++) x[i] *= 5;
  random_floats(before, n, DATA_NORMAL);
  if (in_place) memcpy(before, x, (size_t)n * sizeof(float));
  zone_seal(&d->x, true);
  zone_seal(&d->u, true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!s->runs(c, l)) continue;
    check_level((cpu_level)l);
    float *y = place(&d->y, n);
    memcpy(y, before, (size_t)n * sizeof(float));
    s->run(&c->kernels[l], in_place ? y : x, u, parameter, y, n);
    check_zone(c, "y", &d->y);
    if (l != CPU_SCALAR) check_bits(c, "y against scalar", y, scalar, n);
    for (int i = 0; l == CPU_SCALAR && i < n; i++) {
      double bound = 0, value = s->oracle(x[i], u[i], parameter, before[i], &bound);
      if (fabs((double)y[i] - value) <= bound) continue;
      check_fail(c, "y[%d] = %a, oracle %a, bound %.3g; of %a, %a, %a", i, (double)y[i], value, bound, (double)x[i],
                 (double)u[i], (double)parameter);
      break;
    }
    if (l == CPU_SCALAR) memcpy(scalar, y, (size_t)n * sizeof(float));
  }
  zone_seal(&d->x, false);
  zone_seal(&d->u, false);
}

static void check_by_value(check *c, const by_value *s) {
  row_data d = data_open();
  for (size_t i = 0; i < COUNT_OF(lengths); i++) {
    for (int kind = 0; kind < DATA_KINDS; kind++) {
      value_shape(c, s, &d, lengths[i], (data_kind)kind, false);
      if (s->in_place) value_shape(c, s, &d, lengths[i], (data_kind)kind, true);
    }
  }
}

static bool add_runs(const check *c, int level) { return CHECK_LEVEL(c, level, add); }
static bool scale_runs(const check *c, int level) { return CHECK_LEVEL(c, level, scale); }
static bool axpy_runs(const check *c, int level) { return CHECK_LEVEL(c, level, axpy); }
static bool cap_runs(const check *c, int level) { return CHECK_LEVEL(c, level, cap); }
static bool silu_runs(const check *c, int level) { return CHECK_LEVEL(c, level, glu[OP_SILU]); }
static bool gelu_runs(const check *c, int level) { return CHECK_LEVEL(c, level, glu[OP_GELU]); }

static void add_run(const cpu_kernels *k, const float *x, const float *u, float a, float *y, int n) {
  (void)a;
  k->add(x, u, y, n);
}
static double add_oracle(float x, float u, float a, float y, double *bound) {
  (void)a, (void)y, (void)bound;
  return (double)(x + u);
}
void check_add(check *c) { check_by_value(c, &(by_value){add_run, add_runs, add_oracle, true}); }

static void scale_run(const cpu_kernels *k, const float *x, const float *u, float a, float *y, int n) {
  (void)u;
  k->scale(x, a, y, n);
}
static double scale_oracle(float x, float u, float a, float y, double *bound) {
  (void)u, (void)y, (void)bound;
  return (double)(x * a);
}
void check_scale(check *c) { check_by_value(c, &(by_value){scale_run, scale_runs, scale_oracle, true}); }

static void axpy_run(const cpu_kernels *k, const float *x, const float *u, float a, float *y, int n) {
  (void)u;
  k->axpy(a, x, y, n);
}
static double axpy_oracle(float x, float u, float a, float y, double *bound) {
  (void)u, (void)bound;
  return (double)fmaf(a, x, y);
}
void check_axpy(check *c) { check_by_value(c, &(by_value){axpy_run, axpy_runs, axpy_oracle, false}); }

/* c tanh(x / c): x / c is off by u, which tanh passes on at most; tanh by 2 ulp = 4 u; the product by u. */
static void cap_run(const cpu_kernels *k, const float *x, const float *u, float a, float *y, int n) {
  (void)u;
  k->cap(x, fabsf(a) * 30 + 1, y, n);
}
static double cap_oracle(float x, float u, float a, float y, double *bound) {
  (void)u, (void)y;
  double c = (double)(fabsf(a) * 30 + 1), value = c * tanh((double)x / c);
  *bound = 6.01 * ORACLE_U * fabs(value) + 64 * ORACLE_TINY;
  return value;
}
void check_cap(check *c) { check_by_value(c, &(by_value){cap_run, cap_runs, cap_oracle, true}); }

/* x / (1 + e^-x) * u: e^-x is off by 2 ulp = 4 u, 1 + by u, the division by u, the product by u. Where e^-x is beyond the
 * largest float (x < -88.7) the result is 0 in place of less than 1e-36 |u|, and from 2^126 on a quotient is subnormal. */
static void silu_run(const cpu_kernels *k, const float *x, const float *u, float a, float *y, int n) {
  (void)a;
  k->glu[OP_SILU](x, u, y, n);
}
static double silu_oracle(float x, float u, float a, float y, double *bound) {
  (void)a, (void)y;
  double value = (double)x / (1 + exp(-(double)x)) * (double)u;
  *bound = 7.01 * ORACLE_U * fabs(value) + 1.1e-36 * fabs((double)u) + ORACLE_TINY;
  return value;
}
void check_silu(check *c) { check_by_value(c, &(by_value){silu_run, silu_runs, silu_oracle, true}); }

/* x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) u: the argument is off by 6 u relative (two constants of float, four
 * roundings), by which tanh moves at most 0.45 * 6 u; tanh is off by 4 u; the sum, which may cancel, by 2 u of 1. All of it
 * absolute, times |x u| / 2, and two more roundings of the result. */
static void gelu_run(const cpu_kernels *k, const float *x, const float *u, float a, float *y, int n) {
  (void)a;
  k->glu[OP_GELU](x, u, y, n);
}
static double gelu_oracle(float x, float u, float a, float y, double *bound) {
  (void)a, (void)y;
  double t = (double)x, half = 0.5 * t * (double)u, w = 0.79788456080286535588 * (t + 0.044715 * t * t * t);
  double value = half * (1 + tanh(w));
  *bound = ((2.7 + 4 + 2) * fabs(half) + 2.01 * fabs(value)) * ORACLE_U + 2 * ORACLE_TINY * (1 + fabs((double)u));
  return value;
}
void check_gelu(check *c) { check_by_value(c, &(by_value){gelu_run, gelu_runs, gelu_oracle, true}); }

/* ---- norm ------------------------------------------------------------------------------------------------------------ */

typedef struct norm_shape {
  int n;
  bool with_g, in_place;
  float eps, scale;
} norm_shape;

/* By cpu.h to the bit; and against double: the sum of n squares in 16 lanes has n / 16 + 5 roundings, of which the root
 * halves the effect; division by n, + eps, root, inverse and three products at most are 7 more. A subnormal product is off
 * by TINY / 2 instead, which the next factors multiply. */
static void compare_norm(check *c, const norm_shape *s, const float *x, const float *g, const float *y) {
  float want[MAX_N], r = 1.0f / sqrtf(oracle_lanes16(x, s->n, true) / (float)s->n + s->eps);
  double value[MAX_N], bound[MAX_N], sum = 0;
  for (int i = 0; i < s->n; i++) sum += (double)x[i] * (double)x[i];
  for (int i = 0; i < s->n; i++) {
    want[i] = x[i] * r;
    if (g) want[i] = want[i] * g[i];
    if (s->scale != 1) want[i] = want[i] * s->scale;
    value[i] = (double)x[i] / sqrt(sum / s->n + (double)s->eps) * (g ? (double)g[i] : 1) * (double)s->scale;
    double factors = (double)s->scale * (1 + (g ? fabs((double)g[i]) : 0));
    bound[i] = (s->n / 32.0 + 10) * ORACLE_U * fabs(value[i]) + ORACLE_TINY * (1 + factors);
  }
  check_near(c, "y", y, value, bound, s->n);
  check_bits(c, "y by cpu.h", y, want, s->n);
}

static void norm_one(check *c, row_data *d, const norm_shape *s, data_kind kind) {
  float scalar[MAX_N];
  check_shape(c, "n %d, %s, eps %g, scale %g%s%s", s->n, data_name(kind), (double)s->eps, (double)s->scale,
              s->with_g ? ", g" : "", s->in_place ? ", in place" : "");
  float *x = place_random(&d->x, s->n, kind), *g = s->with_g ? place_random(&d->u, s->n, DATA_NORMAL) : NULL;
  zone_seal(&d->x, true);
  zone_seal(&d->u, true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, norm)) continue;
    check_level((cpu_level)l);
    float *y = place(&d->y, s->n);
    if (s->in_place) memcpy(y, x, (size_t)s->n * sizeof(float));
    c->kernels[l].norm(s->in_place ? y : x, g, y, s->n, s->eps, s->scale);
    check_zone(c, "y", &d->y);
    if (l == CPU_SCALAR) {
      compare_norm(c, s, x, g, y);
      memcpy(scalar, y, (size_t)s->n * sizeof(float));
    } else {
      check_bits(c, "y against scalar", y, scalar, s->n);
    }
  }
  zone_seal(&d->x, false);
  zone_seal(&d->u, false);
}

void check_norm(check *c) {
  row_data d = data_open();
  for (size_t i = 0; i < COUNT_OF(lengths); i++) {
    for (int how = 0; how < 16; how++) {
      norm_shape s = {.n = lengths[i], .with_g = how & 1, .in_place = how & 2};
      s.eps = how & 4 ? 1e-5f : 1e-6f;
      s.scale = how & 8 ? 1.0f : 16.0f;
      norm_one(c, &d, &s, (data_kind)((how + (int)i) % DATA_KINDS));
    }
  }
}

/* ---- activation blocks ----------------------------------------------------------------------------------------------- */

/* Odd blocks among others: all equal, halves (ties), one value only, subnormals, large ones of one sign, and so only in 8 of 32. */
static void odd_blocks(float *x, int n, int block) {
  for (int b = 0; b < n; b += block) {
    int how = random_below(8);
    for (int i = b; i < b + block; i++) {
      if (how == 0) x[i] = 127.0f * (i % 2 ? 1.0f : -1.0f);
      if (how == 1) x[i] = i == b ? 127.0f : 0.5f * (float)(random_below(509) - 254);
      if (how == 2) x[i] = i == b + block - 1 ? -1e-3f : 0;
      if (how == 3) x[i] = ldexpf(random_unit(), -119 - random_below(30));
      if (how == 4 || (how == 5 && i % 32 < 16 && i % 4 < 2)) x[i] = 1 + fabsf(random_unit());
    }
  }
}

static void quant_shape(check *c, zone *in, zone *out, int n_blocks, data_kind kind, bool finite) {
  static uint8_t want[5 * sizeof(quant_a256)], scalar[5 * sizeof(quant_a256)];
  int block = quant_find(c->type)->block, n = n_blocks * block;
  size_t n_bytes = (size_t)quant_find(c->type)->bytes * (size_t)n_blocks;
  check_shape(c, "%d blocks, %s%s", n_blocks, data_name(kind), finite ? "" : ", not finite");
  float *x = place_random(in, n, kind);
  if (block > 1) odd_blocks(x, n, block);
  if (!finite) x[random_below(n)] = random_below(2) ? NAN : -INFINITY;
  oracle_quant(c->type, x, want, n);
  zone_seal(in, true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, quant[c->type])) continue;
    check_level((cpu_level)l);
    uint8_t *y = zone_place(out, n_bytes, 4, random_below(2));
    zone_blank(out);
    c->kernels[l].quant[c->type](x, y, n);
    check_zone(c, "blocks", out);
    if (l == CPU_SCALAR && finite && memcmp(y, want, n_bytes) != 0) check_fail(c, "blocks differ from those of quant.h");
    if (l == CPU_SCALAR) memcpy(scalar, y, n_bytes);
    else if (memcmp(y, scalar, n_bytes) != 0) check_fail(c, "blocks differ from scalar");
  }
  zone_seal(in, false);
}

void check_quant(check *c) {
  zone in, out;
  zone_open(&in, 5 * 256 * sizeof(float));
  zone_open(&out, 5 * sizeof(quant_a256));
  for (int i = 0; i < 600; i++) {
    int n = quant_find(c->type)->block > 1 ? 1 + i % 5 : 1 + random_below(100);
    quant_shape(c, &in, &out, n, (data_kind)(i / 5 % DATA_KINDS), i % 7 != 6);
  }
}

/* ---- rope ------------------------------------------------------------------------------------------------------------ */

static void rope_by_contract(const float *x, const float *cs, float *y, int n, int n_rot, bool neox) {
  memcpy(y, x, (size_t)n * sizeof(float));
  for (int i = 0; i < n_rot / 2; i++) {
    int a = neox ? i : 2 * i, b = neox ? i + n_rot / 2 : 2 * i + 1;
    float c = cs[i], s = cs[n_rot / 2 + i];
    y[a] = fmaf(x[a], c, -(x[b] * s));
    y[b] = fmaf(x[a], s, x[b] * c);
  }
}

static void rope_shape(check *c, row_data *d, int n, int n_rot, bool neox, bool in_place) {
  float want[MAX_N], before[MAX_N];
  check_shape(c, "n %d, n_rot %d, %s%s", n, n_rot, neox ? "neox" : "pairs", in_place ? ", in place" : "");
  float *x = place_random(&d->x, n, random_below(4) ? DATA_NORMAL : DATA_ZEROS), *cs = place(&d->u, n_rot);
  for (int i = 0; i < n_rot / 2; i++) {
    cs[i] = cosf((float)i);
    cs[n_rot / 2 + i] = sinf((float)i);
  }
  memcpy(before, x, (size_t)n * sizeof(float));
  rope_by_contract(x, cs, want, n, n_rot, neox);
  zone_seal(&d->x, true);
  zone_seal(&d->u, true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, rope)) continue;
    check_level((cpu_level)l);
    float *y = place(&d->y, n);
    if (in_place) memcpy(y, before, (size_t)n * sizeof(float));
    c->kernels[l].rope(in_place ? y : x, cs, y, n, n_rot, neox);
    check_zone(c, "y", &d->y);
    check_bits(c, "y by cpu.h", y, want, n);
  }
  zone_seal(&d->x, false);
  zone_seal(&d->u, false);
}

void check_rope(check *c) {
  row_data d = data_open();
  static const int n_rots[] = {2, 4, 6, 8, 16, 20, 32, 34, 40, 64, 96, 128, 256, 512};
  for (size_t i = 0; i < COUNT_OF(n_rots); i++) {
    for (int how = 0; how < 8; how++) {
      int rest = how < 4 ? 0 : 1 + random_below(70);
      rope_shape(c, &d, n_rots[i] + rest, n_rots[i], how & 1, how & 2);
    }
  }
}

/* ---- exp_sum, and the accuracy of exp and tanh ----------------------------------------------------------------------- */

static void exp_shape(check *c, row_data *d, int n, bool in_place) {
  float scalar[MAX_N], scalar_sum = 0;
  check_shape(c, "n %d%s", n, in_place ? ", in place" : "");
  float *x = place_random(&d->x, n, DATA_NORMAL), m = -INFINITY;
  for (int i = 0; i < n; i++) {
    x[i] = random_below(8) ? x[i] * 10 : -1e4f;
    m = fmaxf(m, x[i]);
  }
  zone_seal(&d->x, true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, exp_sum)) continue;
    check_level((cpu_level)l);
    float *y = place(&d->y, n);
    if (in_place) memcpy(y, x, (size_t)n * sizeof(float));
    float sum = c->kernels[l].exp_sum(in_place ? y : x, m, y, n);
    check_zone(c, "y", &d->y);
    for (int i = 0; l == CPU_SCALAR && i < n; i++) {
      double value = exp((double)(x[i] - m)), bound = 4 * ORACLE_U * value + 0x1p-126; /* 2 ulp; subnormal results may be 0 */
      check_near(c, "y", &y[i], &value, &bound, 1);
    }
    if (l == CPU_SCALAR) {
      float want = oracle_lanes16(y, n, false);
      check_bits(c, "sum by cpu.h", &sum, &want, 1);
      memcpy(scalar, y, (size_t)n * sizeof(float));
      scalar_sum = sum;
    } else {
      check_bits(c, "y against scalar", y, scalar, n);
      check_bits(c, "sum against scalar", &sum, &scalar_sum, 1);
    }
  }
  zone_seal(&d->x, false);
}

void check_exp_sum(check *c) {
  row_data d = data_open();
  for (size_t i = 0; i < COUNT_OF(lengths); i++) {
    for (int how = 0; how < 4; how++) exp_shape(c, &d, lengths[i], how & 1);
  }
}

/* Distance of y from the true value in units of the last place of that value. */
static double ulps(float y, double value) {
  double unit = ldexp(1, (fabs(value) < 0x1p-126 ? -126 : ilogb(value)) - 23);
  return fabs((double)y - value) / unit;
}

enum { SAMPLES = 1024 };
#define NOT_A_NUMBER __builtin_nanf("0x155") /* with bits where 2^n is made */

typedef struct sweep {
  bool is_exp;
  double worst;
  float at;
} sweep;

static void sweep_kernel(const cpu_kernels *k, bool is_exp, const float *x, float *y) {
  if (is_exp) k->exp_sum(x, 0, y, SAMPLES);
  else k->cap(x, 1, y, SAMPLES);
}

/* One stretch of arguments at the scalar level against libm in double, and at the others against scalar. */
static void sweep_stretch(check *c, sweep *s, const float *x) {
  float y[SAMPLES], other[SAMPLES];
  check_level(CPU_SCALAR);
  sweep_kernel(&c->kernels[CPU_SCALAR], s->is_exp, x, y);
  for (int i = 0; i < SAMPLES; i++) {
    double value = s->is_exp ? exp((double)x[i]) : tanh((double)x[i]);
    /* Below the normal range +0 is right, and a hair below the largest float (from e^88.72) infinity is. */
    if (s->is_exp && (value < 0x1p-126 || (x[i] > 88.72f && isinf(y[i])))) continue;
    double off = ulps(y[i], value);
    if (!(off > s->worst)) continue;
    s->worst = off;
    s->at = x[i];
  }
  for (int l = 1; l < CPU_LEVELS; l++) {
    if (s->is_exp ? !CHECK_LEVEL(c, l, exp_sum) : !CHECK_LEVEL(c, l, cap)) continue;
    check_level((cpu_level)l);
    sweep_kernel(&c->kernels[l], s->is_exp, x, other);
    check_bits(c, "y against scalar", other, y, SAMPLES);
  }
}

static void check_points(check *c, sweep *s, const float (*points)[2], size_t n) {
  float x[SAMPLES] = {0}, y[SAMPLES];
  for (size_t i = 0; i < n; i++) x[i] = points[i][0];
  check_shape(c, "special values");
  check_level(CPU_SCALAR);
  sweep_kernel(&c->kernels[CPU_SCALAR], s->is_exp, x, y);
  for (size_t i = 0; i < n; i++) check_bits(c, s->is_exp ? "exp" : "tanh", &y[i], &points[i][1], 1);
  for (int l = 1; l < CPU_LEVELS; l++) {
    float other[SAMPLES];
    if (s->is_exp ? !CHECK_LEVEL(c, l, exp_sum) : !CHECK_LEVEL(c, l, cap)) continue;
    check_level((cpu_level)l);
    sweep_kernel(&c->kernels[l], s->is_exp, x, other);
    check_bits(c, "special values against scalar", other, y, SAMPLES);
  }
}

/* Every step-th float between two bit patterns, with both signs. Largest error allowed: 2 ulp. */
static void sweep_all(check *c, sweep *s, float from, float to, uint32_t step) {
  uint32_t u, end;
  float x[SAMPLES];
  memcpy(&u, &from, sizeof u);
  memcpy(&end, &to, sizeof end);
  while (u < end) {
    check_shape(c, "from 0x%08x", u);
    for (int i = 0; i < SAMPLES; i++) {
      memcpy(&x[i], &u, sizeof u);
      if (i % 2) {
        x[i] = -x[i];
        u += step;
      }
    }
    sweep_stretch(c, s, x);
  }
  if (!(s->worst <= 2)) check_fail(c, "%g ulp at %a", s->worst, (double)s->at);
  snprintf(c->note, sizeof c->note, "at most %.2f ulp (at %.9g)", s->worst, (double)s->at);
}

void check_exp(check *c) {
  static const float points[][2] = {{0, 1}, {-0.0f, 1}, {1e-30f, 1}, {-88, 0}, {-1e4f, 0}, {-1e30f, 0}, {-INFINITY, 0},
                                    {89, INFINITY}, {1e30f, INFINITY}, {INFINITY, INFINITY},
                                    {NAN, NAN}, {NOT_A_NUMBER, NOT_A_NUMBER}};
  sweep s = {.is_exp = true};
  check_points(c, &s, points, COUNT_OF(points));
  sweep_all(c, &s, 1e-8f, 88.5f, 499);
}

void check_tanh(check *c) {
  static const float points[][2] = {{0, 0}, {20, 1}, {-20, -1}, {1e30f, 1}, {-1e30f, -1}, {INFINITY, 1}, {-INFINITY, -1},
                                    {1e-30f, 1e-30f}, {-1e-40f, -1e-40f}};
  sweep s = {.is_exp = false};
  check_points(c, &s, points, COUNT_OF(points));
  sweep_all(c, &s, 1e-12f, 30.0f, 997);
}

/* ---- angles ---------------------------------------------------------------------------------------------------------- */

/* Against libm in double: theta has a relative error of some 1e-15 from the power (none for the first pair, whose power is
 * 1), which turns the angle by that part of theta, and the result rounds to float once. */
void check_angles(check *c) {
  static const double bases[] = {10000, 500000, 1000000};
  static const int32_t positions[] = {0, 1, 2, 100, 4095, 65537, 1000000, 100000000};
  float cs[256], factors[128];
  check_level(CPU_SCALAR);
  for (int i = 0; i < 128; i++) factors[i] = 1.0f + (float)i / 16;
  for (int how = 0; how < 48; how++) {
    op_rope r = {.n_rot = how % 5 ? 128 : 34, .base = bases[how % 3], .yarn = how % 6 == 0, .low = 10.5, .high = 30.25};
    r.freq_scale = how % 4 ? 1 : 0.125;
    r.magnitude = how % 7 ? 1 : 1.25;
    int32_t p = positions[how % 8];
    check_shape(c, "n_rot %d, base %g, position %d%s", r.n_rot, r.base, p, r.yarn ? ", yarn" : "");
    cpu_angles(&r, how % 2 ? factors : NULL, p, cs);
    for (int i = 0; i < r.n_rot / 2; i++) {
      double theta = p * pow(r.base, -2.0 * i / r.n_rot) / (how % 2 ? (double)factors[i] : 1), angle = r.freq_scale * theta;
      double ramp = 1 - fmin(1, fmax(0, (i - r.low) / fmax(0.001, r.high - r.low)));
      if (r.yarn) angle = angle * (1 - ramp) + theta * ramp;
      double value[2] = {cos(angle) * r.magnitude, sin(angle) * r.magnitude};
      double bound = r.magnitude * (1.001 * ORACLE_U + (i ? 4e-15 * fabs(theta) : 0));
      check_near(c, "cosine", &cs[i], &value[0], &bound, 1);
      check_near(c, "sine", &cs[r.n_rot / 2 + i], &value[1], &bound, 1);
    }
  }
}
