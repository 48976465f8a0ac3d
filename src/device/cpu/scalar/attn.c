/* scalar/attn: kernels on one block of K or V, laid out as cpu.h says. They define the bits; every level above gives the same. */
#include "device/cpu/scalar/math.h"

/* ---- elements ------------------------------------------------------------------------------------------------------- */

static float q8_at(const void *block, int dim, size_t i, size_t i_scale) {
  const int8_t *q = block;
  const uint16_t *scales = (const uint16_t *)(const void *)(q + (size_t)CPU_BLOCK * (size_t)dim);
  return (float)q[i] * quant_f16_to_f32(scales[i_scale]);
}

static float k_f32(const void *k, int p, int d, int dim) { return ((const float *)k)[cpu_k_at(QUANT_F32, p, d, dim)]; }
static float k_f16(const void *k, int p, int d, int dim) { return quant_f16_to_f32(((const uint16_t *)k)[cpu_k_at(QUANT_F16, p, d, dim)]); }
static float k_q8_0(const void *k, int p, int d, int dim) {
  return q8_at(k, dim, cpu_k_at(QUANT_Q8_0, p, d, dim), cpu_k_at(QUANT_Q8_0, p, d / 32, dim / 32));
}

static float v_f32(const void *v, int p, int d, int dim) { return ((const float *)v)[cpu_v_at(QUANT_F32, p, d, dim)]; }
static float v_f16(const void *v, int p, int d, int dim) { return quant_f16_to_f32(((const uint16_t *)v)[cpu_v_at(QUANT_F16, p, d, dim)]); }
static float v_q8_0(const void *v, int p, int d, int dim) {
  return q8_at(v, dim, cpu_v_at(QUANT_Q8_0, p, d, dim), cpu_v_at(QUANT_Q8_0, p, d / 32, dim / 32));
}

typedef float element_fn(const void *block, int p, int d, int dim);

/* ---- score and value ------------------------------------------------------------------------------------------------ */

static inline void score(element_fn *at, const void *k, int dim, int n_sub, const float *const *q, float *const *s,
                         int n_cols) {
  for (int p = 0; p < 16 * n_sub; p++)
    for (int c = 0; c < n_cols; c++) s[c][p] = 0;
  for (int p = 0; p < 16 * n_sub; p++)
    for (int d = 0; d < dim; d++) {
      float w = at(k, p, d, dim);
      for (int c = 0; c < n_cols; c++) s[c][p] = fmaf(q[c][d], w, s[c][p]);
    }
}

static inline void value(element_fn *at, const void *v, int dim, const int *lo, const int *hi, const float *const *p,
                         float *const *o, int n_cols) {
  int first = CPU_BLOCK, end = 0;
  for (int c = 0; c < n_cols; c++) {
    memset(o[c], 0, sizeof(float) * (size_t)dim);
    first = lo[c] < first ? lo[c] : first;
    end = hi[c] > end ? hi[c] : end;
  }
  for (int i = first; i < end; i++)
    for (int d = 0; d < dim; d++) {
      float w = at(v, i, d, dim);
      for (int c = 0; c < n_cols; c++)
        if (i >= lo[c] && i < hi[c]) o[c][d] = fmaf(p[c][i], w, o[c][d]);
    }
}

static void score_f32(const void *k, int dim, int n_sub, const float *const *q, float *const *s, int n_cols, cpu_soon soon) {
  (void)soon;
  score(k_f32, k, dim, n_sub, q, s, n_cols);
}
static void score_f16(const void *k, int dim, int n_sub, const float *const *q, float *const *s, int n_cols, cpu_soon soon) {
  (void)soon;
  score(k_f16, k, dim, n_sub, q, s, n_cols);
}
static void score_q8_0(const void *k, int dim, int n_sub, const float *const *q, float *const *s, int n_cols, cpu_soon soon) {
  (void)soon;
  score(k_q8_0, k, dim, n_sub, q, s, n_cols);
}

static void value_f32(const void *v, int dim, const int *lo, const int *hi, const float *const *p, float *const *o, int n, cpu_soon soon) {
  (void)soon;
  value(v_f32, v, dim, lo, hi, p, o, n);
}
static void value_f16(const void *v, int dim, const int *lo, const int *hi, const float *const *p, float *const *o, int n, cpu_soon soon) {
  (void)soon;
  value(v_f16, v, dim, lo, hi, p, o, n);
}
static void value_q8_0(const void *v, int dim, const int *lo, const int *hi, const float *const *p, float *const *o, int n, cpu_soon soon) {
  (void)soon;
  value(v_q8_0, v, dim, lo, hi, p, o, n);
}

/* ---- score and value of BF16 ---------------------------------------------------------------------------------------- */

static float widened(uint16_t h) { return math_flushed(quant_bf16_to_f32(h)); }
static float rounded(float x) { return widened(quant_f32_to_bf16(math_flushed(x))); }

static void score_bf16(const void *block, int dim, int n_sub, const float *const *q, float *const *s, int n_cols, cpu_soon soon) {
  (void)soon;
  const uint16_t *k = block;
  for (int p = 0; p < 16 * n_sub; p++)
    for (int c = 0; c < n_cols; c++) {
      s[c][p] = 0;
      for (int pair = 0; pair < dim; pair += 2)
        for (int d = pair + 1; d >= pair; d--) { /* the odd one first */
          bool there = d < dim;
          s[c][p] = math_fma_flushed(there ? widened(k[cpu_k_at(QUANT_BF16, p, d, dim)]) : 0, there ? rounded(q[c][d]) : 0, s[c][p]);
        }
    }
}

static void value_bf16(const void *block, int dim, const int *lo, const int *hi, const float *const *p, float *const *o, int n_cols, cpu_soon soon) {
  (void)soon;
  const uint16_t *v = block;
  for (int c = 0; c < n_cols; c++) {
    memset(o[c], 0, sizeof(float) * (size_t)dim);
    for (int pair = lo[c] - lo[c] % 2; pair < hi[c]; pair += 2)
      for (int i = pair + 1; i >= pair; i--) { /* the odd one first */
        bool seen = i >= lo[c] && i < hi[c];
        float weight = seen ? rounded(p[c][i]) : 0;
        for (int d = 0; d < dim; d++) o[c][d] = math_fma_flushed(seen ? widened(v[cpu_v_at(QUANT_BF16, i, d, dim)]) : 0, weight, o[c][d]);
      }
  }
}

/* ---- cells ---------------------------------------------------------------------------------------------------------- */

static void put_k_f32(void *block, int cell, const float *x, int dim) {
  for (int d = 0; d < dim; d++) ((float *)block)[cpu_k_at(QUANT_F32, cell, d, dim)] = x[d];
}
static void put_k_f16(void *block, int cell, const float *x, int dim) {
  for (int d = 0; d < dim; d++) ((uint16_t *)block)[cpu_k_at(QUANT_F16, cell, d, dim)] = quant_f32_to_f16(x[d]);
}
static void put_k_bf16(void *block, int cell, const float *x, int dim) {
  for (int d = 0; d < dim; d++) ((uint16_t *)block)[cpu_k_at(QUANT_BF16, cell, d, dim)] = quant_f32_to_bf16(x[d]);
}
static void put_v_f32(void *block, int cell, const float *x, int dim) {
  memcpy((float *)block + cpu_v_at(QUANT_F32, cell, 0, dim), x, sizeof(float) * (size_t)dim);
}
static void put_v_f16(void *block, int cell, const float *x, int dim) {
  for (int d = 0; d < dim; d++) ((uint16_t *)block)[cpu_v_at(QUANT_F16, cell, d, dim)] = quant_f32_to_f16(x[d]);
}
static void put_v_bf16(void *block, int cell, const float *x, int dim) {
  for (int d = 0; d < dim; d++) ((uint16_t *)block)[cpu_v_at(QUANT_BF16, cell, d, dim)] = quant_f32_to_bf16(x[d]);
}

typedef struct q8_block { /* as in a file */
  uint16_t d;
  int8_t q[32];
} q8_block;
static_assert(sizeof(q8_block) == 34, "no padding");

static void put_k_q8_0(void *block, int cell, const float *x, int dim) {
  int8_t *q = block;
  uint16_t *scales = (uint16_t *)(void *)(q + (size_t)CPU_BLOCK * (size_t)dim);
  for (int b = 0; b < dim / 32; b++) {
    q8_block e;
    quant_table[QUANT_Q8_0].encode(x + 32 * b, &e, 32, NULL);
    for (int i = 0; i < 32; i++) q[cpu_k_at(QUANT_Q8_0, cell, 32 * b + i, dim)] = e.q[i];
    scales[cpu_k_at(QUANT_Q8_0, cell, b, dim / 32)] = e.d;
  }
}
static void put_v_q8_0(void *block, int cell, const float *x, int dim) {
  int8_t *q = block;
  uint16_t *scales = (uint16_t *)(void *)(q + (size_t)CPU_BLOCK * (size_t)dim);
  for (int b = 0; b < dim / 32; b++) {
    q8_block e;
    quant_table[QUANT_Q8_0].encode(x + 32 * b, &e, 32, NULL);
    memcpy(q + cpu_v_at(QUANT_Q8_0, cell, 32 * b, dim), e.q, 32);
    scales[cpu_v_at(QUANT_Q8_0, cell, b, dim / 32)] = e.d;
  }
}

/* ---- softmax of a block, and joining blocks ------------------------------------------------------------------------- */

static void softmax(float *s, int lo, int hi, float scale, float cap, float *m, float *l) {
  float lane[16] = {0}, most[16];
  for (int j = 0; j < 16; j++) most[j] = -INFINITY;
  for (int i = lo; i < hi; i++) {
    s[i] = s[i] * scale;
    if (cap > 0) s[i] = cap * math_tanh(s[i] / cap);
    most[i % 16] = math_max(s[i], most[i % 16]);
  }
  *m = math_max16(most);
  for (int i = 0; i < CPU_BLOCK; i++) {
    s[i] = i >= lo && i < hi ? math_exp(s[i] - *m) : 0.0f;
    lane[i % 16] += s[i];
  }
  *l = math_sum16(lane);
}

static void attn_softmax(float *const *s, const int *lo, const int *hi, int n_cols, float scale, float cap, float *m, float *l) {
  for (int c = 0; c < n_cols; c++) softmax(s[c], lo[c], hi[c], scale, cap, &m[c], &l[c]);
}

static void attn_merge(float *o, float *m, float *l, const float *o_b, float m_b, float l_b, int n) {
  float most = math_max(*m, m_b), a = math_exp(*m - most), b = math_exp(m_b - most);
  for (int i = 0; i < n; i++) o[i] = fmaf(o_b[i], b, o[i] * a);
  *l = fmaf(l_b, b, *l * a);
  *m = most;
}

void cpu_scalar_attn(cpu_kernels *k) {
  k->score[QUANT_F32] = score_f32;
  k->score[QUANT_F16] = score_f16;
  k->score[QUANT_BF16] = score_bf16;
  k->score[QUANT_Q8_0] = score_q8_0;
  k->value[QUANT_F32] = value_f32;
  k->value[QUANT_F16] = value_f16;
  k->value[QUANT_BF16] = value_bf16;
  k->value[QUANT_Q8_0] = value_q8_0;
  k->put_k[QUANT_F32] = put_k_f32;
  k->put_k[QUANT_F16] = put_k_f16;
  k->put_k[QUANT_BF16] = put_k_bf16;
  k->put_k[QUANT_Q8_0] = put_k_q8_0;
  k->put_v[QUANT_F32] = put_v_f32;
  k->put_v[QUANT_F16] = put_v_f16;
  k->put_v[QUANT_BF16] = put_v_bf16;
  k->put_v[QUANT_Q8_0] = put_v_q8_0;
  k->softmax = attn_softmax;
  k->merge = attn_merge;
}
