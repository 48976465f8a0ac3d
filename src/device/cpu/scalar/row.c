/* scalar/row: kernels that touch one row. They define the bits; every level above gives the same. Written to be read. */
#include "device/cpu/scalar/math.h"

static void row_norm(const float *x, const float *g, float *y, int n, float eps, float scale) {
  float lane[16] = {0};
  for (int i = 0; i < n; i++) lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
  float r = 1.0f / __builtin_sqrtf(math_sum16(lane) / (float)n + eps);
  for (int i = 0; i < n; i++) {
    float v = x[i] * r;
    if (g) v = v * g[i];
    if (scale != 1.0f) v = v * scale;
    y[i] = v;
  }
}

/* ---- activation blocks ---------------------------------------------------------------------------------------------- */

/* The bits of the largest magnitude of n values. */
static uint32_t largest_bits(const float *x, int n) {
  uint32_t most = 0;
  for (int i = 0; i < n; i++) {
    uint32_t bits = math_bits(x[i]) & 0x7fffffff;
    most = bits > most ? bits : most;
  }
  return most;
}

/* x times inverse, to the nearest, even on ties; 0: zeros whatever x is. A block with a NaN or infinity has it as d and zeros beside it:
 * the product is NaN or infinite. */
static void quant_block(const float *x, float inverse, int8_t *q, int n) {
  for (int i = 0; i < n; i++) q[i] = inverse == 0 ? 0 : (int8_t)(math_bits(x[i] * inverse + MATH_ROUND) & 0xff);
}

static void row_quant_bf16(const float *x, void *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) ((uint16_t *)y)[i] = quant_f32_to_bf16(x[i]);
}

static void row_quant_a32(const float *x, void *blocks, int64_t n) {
  quant_a32 *y = blocks;
  for (int64_t b = 0; b < n / 32; b++) {
    quant_block(x + 32 * b, math_scale_a32(largest_bits(x + 32 * b, 32), &y[b].d, &y[b].log2_d), y[b].q, 32);
    int32_t sum = 0;
    for (int i = 0; i < 32; i++) sum += y[b].q[i];
    y[b].start4 = -8 * sum;
    y[b].start8 = -128 * sum;
  }
}

/* Sum of n bytes, and of their magnitudes. */
static void sums_of(const int8_t *q, int n, int *sum, int *all) {
  *sum = *all = 0;
  for (int i = 0; i < n; i++) {
    *sum += q[i];
    *all += q[i] < 0 ? -q[i] : q[i];
  }
}

static int larger(int a, int b) { return a > b ? a : b; }

/* The most of the positive, or of the negative, among the 8 that one 16-bit lane meets: bytes 0 and 1, or 2 and 3, of four dwords. */
static int reach_of_8(const int8_t *q) {
  int reach[4] = {0};
  for (int i = 0; i < 16; i++) {
    int lane = i / 2 % 2;
    reach[q[i] < 0 ? 2 + lane : lane] += q[i] < 0 ? -q[i] : q[i];
  }
  return larger(larger(reach[0], reach[1]), larger(reach[2], reach[3]));
}

/* What a block says of its q. Returns by what its scale must change. */
static float sum_a256(quant_a256 *y) {
  int sum, all, reach8 = 0, reach16 = 0, reach32 = 0;
  for (int s = 0; s < 16; s++) {
    sums_of(y->q + 16 * s, 16, &sum, &all);
    y->starts[s] = (int16_t)(-32 * sum);
    reach8 = larger(reach8, reach_of_8(y->q + 16 * s));
    reach16 = larger(reach16, all);
  }
  for (int s = 0; s < 8; s++) {
    sums_of(y->q + 32 * s, 32, &sum, &all);
    y->sums32[s] = (int16_t)sum;
    reach32 = larger(reach32, (all + (sum < 0 ? -sum : sum)) / 2); /* of those of one sign */
  }
  return math_narrowed(reach8, reach16, reach32);
}

static void row_quant_a256(const float *x, void *blocks, int64_t n) {
  quant_a256 *y = blocks;
  for (int64_t b = 0; b < n / 256; b++, x += 256, y++) {
    memset(y, 0, sizeof *y);
    float inverse = math_scale_a256(largest_bits(x, 256), &y->d);
    quant_block(x, inverse, y->q, 256);
    float by = sum_a256(y);
    if (by == 1) continue;
    y->d /= by;
    quant_block(x, inverse * by, y->q, 256);
    sum_a256(y);
  }
}

/* ---- value by value ------------------------------------------------------------------------------------------------- */

static void row_add(const float *a, const float *b, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}
static void row_scale(const float *x, float s, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = x[i] * s;
}
static void row_axpy(float a, const float *x, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = fmaf(a, x[i], y[i]);
}
static void row_silu(const float *g, const float *u, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = math_silu(g[i]) * u[i];
}
static void row_gelu(const float *g, const float *u, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = math_gelu(g[i]) * u[i];
}
static void row_cap(const float *x, float c, float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = c * math_tanh(x[i] / c);
}

static void row_rope(const float *x, const float *cs, float *y, int n, int n_rot, bool neox) {
  int half = n_rot / 2, step = neox ? 1 : 2, other = neox ? half : 1;
  for (int i = 0; i < half; i++) {
    float a = x[step * i], b = x[step * i + other], c = cs[i], s = cs[half + i];
    y[step * i] = fmaf(a, c, -(b * s));
    y[step * i + other] = fmaf(a, s, b * c);
  }
  for (int i = n_rot; i < n; i++) y[i] = x[i];
}

static float row_exp_sum(const float *x, float m, float *y, int64_t n) {
  float lane[16] = {0};
  for (int64_t i = 0; i < n; i++) lane[i % 16] += y[i] = math_exp(x[i] - m);
  return math_sum16(lane);
}

void cpu_scalar_row(cpu_kernels *k) {
  k->norm = row_norm;
  k->quant[QUANT_BF16] = row_quant_bf16;
  k->quant[QUANT_A32] = row_quant_a32;
  k->quant[QUANT_A256] = row_quant_a256;
  k->add = row_add;
  k->scale = row_scale;
  k->axpy = row_axpy;
  k->glu[OP_SILU] = row_silu;
  k->glu[OP_GELU] = row_gelu;
  k->cap = row_cap;
  k->rope = row_rope;
  k->exp_sum = row_exp_sum;
}
