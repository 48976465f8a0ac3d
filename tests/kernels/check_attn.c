/* check_attn: scores, values, cells and softmax of one attention block. Blocks are laid out here by the words of cpu.h:
 *
 *   K [16 sub][dim][16 position], V [256 position][dim]; Q8_0: int8 there, then f16 scales with dim / 32 in place of dim
 *   BF16: K [16 sub][dim / 2][16 position][2], then [16 position] of the last dimension if dim is odd; V [128][dim][2 positions] */
#include <math.h>
#include <stdlib.h>

#include "kernels/check.h"

enum { MAX_DIM = 512, MAX_COLS = 41, COLS = 17 };
static const int wide_counts[] = {24, 31, 36, 41};

static const int dims[] = {1, 2, 7, 8, 16, 24, 32, 33, 40, 64, 80, 96, 100, 128, 160, 192, 256, 257, 300, 512};

typedef struct attn_data {
  zone block, in[MAX_COLS], out[MAX_COLS];
  float rows[CPU_BLOCK][MAX_DIM]; /* what the block holds, widened */
} attn_data;

static attn_data *data_open(quant_type type) {
  attn_data *d = calloc(1, sizeof *d);
  if (!d) exit(2);
  zone_open(&d->block, CPU_BLOCK * quant_row_bytes(type, MAX_DIM));
  for (int i = 0; i < MAX_COLS; i++) {
    zone_open(&d->in[i], MAX_DIM * sizeof(float));
    zone_open(&d->out[i], MAX_DIM * sizeof(float));
  }
  return d;
}

static bool dim_fits(quant_type type, int dim) { return dim % quant_find(type)->block == 0; }

/* ---- layout ---------------------------------------------------------------------------------------------------------- */

static size_t element_at(bool is_k, int cell, int i, int dim) {
  size_t sub = (size_t)(cell / 16) * (size_t)dim;
  return is_k ? (sub + (size_t)i) * 16 + (size_t)(cell % 16) : (size_t)cell * (size_t)dim + (size_t)i;
}

static size_t pair_element_at(bool is_k, int cell, int i, int dim) {
  if (!is_k) return element_at(false, cell / 2, i, dim) * 2 + (size_t)(cell % 2);
  size_t sub = (size_t)(cell / 16) * 16 * (size_t)dim, lane = (size_t)(cell % 16);
  return sub + (dim % 2 && i == dim - 1 ? (size_t)i * 16 + lane : (size_t)(i / 2) * 32 + lane * 2 + (size_t)(i % 2));
}

/* Writes an encoded row into a block. */
static void lay_row(quant_type type, bool is_k, uint8_t *block, int cell, const uint8_t *row, int dim) {
  if (type != QUANT_Q8_0) {
    size_t size = (size_t)quant_find(type)->bytes;
    for (int i = 0; i < dim; i++) {
      size_t at = (type == QUANT_BF16 ? pair_element_at : element_at)(is_k, cell, i, dim);
      memcpy(block + size * at, row + size * (size_t)i, size);
    }
    return;
  }
  uint8_t *scales = block + CPU_BLOCK * (size_t)dim;
  for (int i = 0; i < dim; i++) block[element_at(is_k, cell, i, dim)] = row[i / 32 * 34 + 2 + i % 32];
  for (int b = 0; b < dim / 32; b++) memcpy(scales + 2 * element_at(is_k, cell, b, dim / 32), row + 34 * b, 2);
}

/* Fills the cells from .. to - 1 with random rows; the others keep the pattern (NaN), as cells nobody wrote. */
static void random_block(attn_data *d, quant_type type, bool is_k, int dim, int from, int to, data_kind kind, bool tight) {
  uint8_t *block = zone_place(&d->block, CPU_BLOCK * quant_row_bytes(type, dim), 64, tight);
  zone_blank(&d->block);
  for (int cell = from; cell < to; cell++) {
    uint8_t row[4 * MAX_DIM];
    float x[MAX_DIM];
    random_floats(x, dim, kind);
    for (int i = 0; i < dim && (type == QUANT_F16 || type == QUANT_Q8_0); i++) x[i] = fmaxf(-65504, fminf(65504, x[i]));
    quant_find(type)->encode(x, row, dim, NULL);
    quant_find(type)->decode(row, d->rows[cell], dim);
    lay_row(type, is_k, block, cell, row, dim);
  }
}

static void seal(attn_data *d, int n_cols, bool sealed) {
  zone_seal(&d->block, sealed);
  for (int i = 0; i < n_cols; i++) zone_seal(&d->in[i], sealed);
}

/* ---- score ----------------------------------------------------------------------------------------------------------- */

static void compare_score(check *c, const attn_data *d, int dim, int n, const float *q, const float *s) {
  float want[CPU_BLOCK];
  double value[CPU_BLOCK], bound[CPU_BLOCK];
  for (int p = 0; p < n; p++) {
    oracle_result o = c->type == QUANT_BF16 ? oracle_pairs(q, 1, d->rows[p], 1, 0, dim) : oracle_chain(q, 1, d->rows[p], 1, dim);
    want[p] = o.exact;
    value[p] = o.value;
    bound[p] = o.bound;
  }
  check_near(c, "s", s, value, bound, n);
  check_bits(c, "s by cpu.h", s, want, n);
}

static void score_shape(check *c, attn_data *d, int dim, int n_sub, int n_cols) {
  static float scalar[MAX_COLS][CPU_BLOCK];
  data_kind kind = (data_kind)(c->shapes % DATA_KINDS);
  bool tight = random_below(2);
  const float *q[MAX_COLS];
  float *s[MAX_COLS];
  size_t n = 16 * (size_t)n_sub;
  check_shape(c, "dim %d, %d sub-blocks, %d columns, %s", dim, n_sub, n_cols, data_name(kind));
  random_block(d, c->type, true, dim, 0, (int)n, kind, tight);
  for (int i = 0; i < n_cols; i++) {
    q[i] = zone_place(&d->in[i], (size_t)dim * sizeof(float), 4, tight);
    random_floats((float *)(void *)d->in[i].data, dim, random_below(2) ? kind : DATA_NORMAL);
    s[i] = zone_place(&d->out[i], n * sizeof(float), 4, tight);
  }
  seal(d, n_cols, true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, score[c->type])) continue;
    check_level((cpu_level)l);
    for (int i = 0; i < n_cols; i++) zone_blank(&d->out[i]);
    c->kernels[l].score[c->type](d->block.data, dim, n_sub, q, s, n_cols, (cpu_soon){0});
    for (int i = 0; i < n_cols; i++) {
      check_zone(c, "s", &d->out[i]);
      if (l == CPU_SCALAR) {
        if (i < 3) compare_score(c, d, dim, (int)n, q[i], s[i]);
        memcpy(scalar[i], s[i], n * sizeof(float));
      } else {
        check_bits(c, "s against scalar", s[i], scalar[i], (int64_t)n);
      }
    }
  }
  seal(d, n_cols, false);
}

void check_score(check *c) {
  attn_data *d = data_open(c->type);
  for (size_t i = 0; i < COUNT_OF(dims); i++) {
    if (!dim_fits(c->type, dims[i])) continue;
    for (int n_cols = 1; n_cols <= COLS; n_cols++) score_shape(c, d, dims[i], 1 + (n_cols * 5 + (int)i) % 16, n_cols);
    score_shape(c, d, dims[i], 16, wide_counts[i % COUNT_OF(wide_counts)]);
    for (int n_sub = 1; n_sub <= 16; n_sub += 3) score_shape(c, d, dims[i], n_sub, 1 + random_below(6));
  }
  free(d);
}

/* ---- value ----------------------------------------------------------------------------------------------------------- */

static void compare_value(check *c, const attn_data *d, int dim, int lo, int hi, const float *p, const float *o) {
  float want[MAX_DIM];
  double value[MAX_DIM], bound[MAX_DIM];
  for (int i = 0; i < dim; i++) {
    oracle_result r = c->type == QUANT_BF16 ? oracle_pairs(p, 1, &d->rows[0][i], MAX_DIM, lo, hi)
                                            : oracle_chain(p + lo, 1, &d->rows[lo][i], MAX_DIM, hi - lo);
    want[i] = r.exact;
    value[i] = r.value;
    bound[i] = r.bound;
  }
  check_near(c, "o", o, value, bound, dim);
  check_bits(c, "o by cpu.h", o, want, dim);
}

/* Ranges of the columns: all, one position, causal ends, or anything; then hulls them. */
static void random_ranges(int *lo, int *hi, int n_cols, int *from, int *to) {
  int how = random_below(4), end = 1 + random_below(CPU_BLOCK);
  *from = CPU_BLOCK;
  *to = 0;
  for (int i = 0; i < n_cols; i++) {
    lo[i] = how == 0 || how == 2 ? 0 : random_below(CPU_BLOCK);
    hi[i] = how == 0 ? CPU_BLOCK : how == 1 ? lo[i] + 1 : how == 2 ? end + i : lo[i] + 1 + random_below(CPU_BLOCK - lo[i]);
    if (hi[i] > CPU_BLOCK) hi[i] = CPU_BLOCK;
    *from = lo[i] < *from ? lo[i] : *from;
    *to = hi[i] > *to ? hi[i] : *to;
  }
}

static void value_shape(check *c, attn_data *d, int dim, int n_cols) {
  static float scalar[MAX_COLS][MAX_DIM];
  data_kind kind = (data_kind)(c->shapes % DATA_KINDS);
  bool tight = random_below(2);
  float outside = random_below(2) ? NAN : 0; /* of lo .. hi - 1: weights that have no part in the sum */
  const float *p[MAX_COLS];
  float *o[MAX_COLS];
  int lo[MAX_COLS], hi[MAX_COLS], from, to;
  random_ranges(lo, hi, n_cols, &from, &to);
  check_shape(c, "dim %d, %d columns, positions %d..%d, the first %d..%d, p %g outside, %s", dim, n_cols, from, to - 1, lo[0],
              hi[0] - 1, (double)outside, data_name(kind));
  random_block(d, c->type, false, dim, from, to, kind, tight);
  for (int i = 0; i < n_cols; i++) {
    float *w = zone_place(&d->in[i], CPU_BLOCK * sizeof(float), 4, tight);
    random_floats(w, CPU_BLOCK, kind == DATA_BRINK ? DATA_BRINK : DATA_NORMAL);
    for (int j = 0; j < CPU_BLOCK; j++) w[j] = j >= lo[i] && j < hi[i] ? fabsf(w[j]) : outside;
    p[i] = w;
    o[i] = zone_place(&d->out[i], (size_t)dim * sizeof(float), 4, tight);
  }
  seal(d, n_cols, true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, value[c->type])) continue;
    check_level((cpu_level)l);
    for (int i = 0; i < n_cols; i++) zone_blank(&d->out[i]);
    c->kernels[l].value[c->type](d->block.data, dim, lo, hi, p, o, n_cols, (cpu_soon){0});
    for (int i = 0; i < n_cols; i++) {
      check_zone(c, "o", &d->out[i]);
      if (l == CPU_SCALAR) {
        if (i < 3) compare_value(c, d, dim, lo[i], hi[i], p[i], o[i]);
        memcpy(scalar[i], o[i], (size_t)dim * sizeof(float));
      } else {
        check_bits(c, "o against scalar", o[i], scalar[i], dim);
      }
    }
  }
  seal(d, n_cols, false);
}

void check_value(check *c) {
  attn_data *d = data_open(c->type);
  for (size_t i = 0; i < COUNT_OF(dims); i++) {
    if (!dim_fits(c->type, dims[i])) continue;
    for (int n_cols = 1; n_cols <= COLS; n_cols++) value_shape(c, d, dims[i], n_cols);
    value_shape(c, d, dims[i], wide_counts[i % COUNT_OF(wide_counts)]);
  }
  free(d);
}

/* ---- cells ----------------------------------------------------------------------------------------------------------- */

/* The same cell as a row from outside. */
static void moved_cell(check *c, attn_data *d, bool is_k, int dim, int cell, const uint8_t *row) {
  static uint8_t want[4 * CPU_BLOCK * MAX_DIM];
  uint8_t back[4 * MAX_DIM];
  size_t n = CPU_BLOCK * quant_row_bytes(c->type, dim), row_bytes = quant_row_bytes(c->type, dim);
  zone_blank(&d->block);
  memcpy(want, d->block.data, n);
  lay_row(c->type, is_k, want, cell, row, dim);
  cpu_cells_put(NULL, c->type, !is_k, dim, d->block.data, cell, cell + 1, row);
  check_zone(c, "block", &d->block);
  if (memcmp(d->block.data, want, n) != 0) check_fail(c, "a row put into the block from outside lies elsewhere");
  cpu_cells_get(NULL, c->type, !is_k, dim, d->block.data, cell, cell + 1, back);
  if (memcmp(back, row, row_bytes) != 0) check_fail(c, "a row taken out of the block is another");
}

static void put_cell(check *c, attn_data *d, bool is_k, int dim, int cell, data_kind kind) {
  static uint8_t want[4 * CPU_BLOCK * MAX_DIM];
  uint8_t row[4 * MAX_DIM];
  size_t n = CPU_BLOCK * quant_row_bytes(c->type, dim);
  bool tight = random_below(2);
  check_shape(c, "dim %d, cell %d, %s", dim, cell, data_name(kind));
  float *x = zone_place(&d->in[0], (size_t)dim * sizeof(float), 4, tight);
  random_floats(x, dim, kind); /* large: beyond what f16 holds */
  for (int i = 0; i < dim && random_below(4) == 0; i++) x[i] = 0.5f * (float)(random_below(255) - 127);
  quant_find(c->type)->encode(x, row, dim, NULL);
  zone_place(&d->block, n, 64, tight);
  zone_seal(&d->in[0], true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (is_k ? !CHECK_LEVEL(c, l, put_k[c->type]) : !CHECK_LEVEL(c, l, put_v[c->type])) continue;
    check_level((cpu_level)l);
    zone_blank(&d->block);
    memcpy(want, d->block.data, n);
    lay_row(c->type, is_k, want, cell, row, dim);
    (is_k ? c->kernels[l].put_k : c->kernels[l].put_v)[c->type](d->block.data, cell, x, dim);
    check_zone(c, "block", &d->block);
    for (size_t i = 0; i < n; i++) {
      if (d->block.data[i] == want[i]) continue;
      check_fail(c, "byte %zu of the block is 0x%02x, expected 0x%02x", i, d->block.data[i], want[i]);
      break;
    }
  }
  zone_seal(&d->in[0], false);
  moved_cell(c, d, is_k, dim, cell, row);
}

static void put_cells(check *c, bool is_k) {
  attn_data *d = data_open(c->type);
  for (size_t i = 0; i < COUNT_OF(dims); i++) {
    static const int cells[] = {0, 1, 15, 16, 17, 255};
    for (int j = 0; j < 24 && dim_fits(c->type, dims[i]); j++) {
      int cell = j < (int)COUNT_OF(cells) ? cells[j] : random_below(CPU_BLOCK);
      put_cell(c, d, is_k, dims[i], cell, (data_kind)(j % DATA_KINDS));
    }
  }
  free(d);
}

void check_put_k(check *c) { put_cells(c, true); }
void check_put_v(check *c) { put_cells(c, false); }

/* ---- softmax --------------------------------------------------------------------------------------------------------- */

enum { SOFTMAX_COLS = 5 };

typedef struct softmax_shape {
  int n_cols, lo[SOFTMAX_COLS], hi[SOFTMAX_COLS];
  float scale, cap;
  bool tight;
} softmax_shape;

/* Bound of p = exp(t - m): exp itself is right to 2 ulp = 4 u; its argument has one rounding of |t - m|. With a cap, t = cap *
 * tanh(..) carries the division, 2 ulp of tanh and the product: 6 u cap, and m the same: 12 u cap in the argument.
 * Results below the normal range may be +0. */
static void compare_softmax(check *c, const softmax_shape *s, int col, const float *x, const float *p, float m, float l) {
  const int lo = s->lo[col], hi = s->hi[col];
  double t[CPU_BLOCK], value[CPU_BLOCK], bound[CPU_BLOCK], most = -INFINITY, sum = 0;
  for (int i = lo; i < hi; i++) {
    t[i] = (double)(x[i] * s->scale);
    if (s->cap > 0) t[i] = (double)s->cap * tanh((double)x[i] * (double)s->scale / (double)s->cap);
    most = fmax(most, t[i]);
  }
  double error_t = s->cap > 0 ? 6 * ORACLE_U * (double)s->cap : 0;
  if (!(fabs((double)m - most) <= error_t)) check_fail(c, "m = %a, oracle %a", (double)m, most);
  for (int i = 0; i < CPU_BLOCK; i++) {
    value[i] = bound[i] = 0;
    if (i < lo || i >= hi) continue;
    value[i] = exp(t[i] - most);
    bound[i] = value[i] * (4 * ORACLE_U + ORACLE_U * fabs(t[i] - most) + 2 * error_t) * 1.001 + 0x1p-126;
    sum += (double)p[i];
  }
  check_near(c, "p", p, value, bound, CPU_BLOCK);
  for (int i = 0; i < CPU_BLOCK; i++) {
    if ((i < lo || i >= hi) && (p[i] != 0 || signbit(p[i]))) check_fail(c, "p[%d] = %a outside", i, (double)p[i]);
  }
  float lanes = oracle_lanes16(p, CPU_BLOCK, false);
  check_bits(c, "l by cpu.h", &l, &lanes, 1);
  double off = 20 * ORACLE_U * sum; /* 16 additions in a lane, 4 in the tree */
  check_near(c, "l", &l, &sum, &off, 1);
}

enum { SOFTMAX_NAN = 6 }; /* the kind that has no oracle */

static void softmax_fill(float *x, int lo, int hi, int kind) {
  for (int i = 0; i < CPU_BLOCK; i++) {
    float peak = i == (lo + hi) / 2 ? 500 : -500, negative = random_unit() * 1e30f - 1e30f;
    float zero = i % 2 ? 0.0f : -0.0f, wide = ldexpf(random_unit(), random_below(12) - 4);
    float strange = random_below(4) ? wide : random_below(2) ? __builtin_nanf("0x155") : -INFINITY;
    float of[] = {8 * random_normal(), -3.25f, negative, zero, peak, wide, strange};
    x[i] = i < lo || i >= hi ? NAN : of[kind];
  }
}

static void softmax_one(check *c, zone *z, const softmax_shape *s, int kind) {
  float x[SOFTMAX_COLS][CPU_BLOCK], scalar[SOFTMAX_COLS][CPU_BLOCK + 2];
  static const char *const kinds[] = {"normal", "all equal", "large negatives", "zeros", "one peak", "wide", "not all numbers"};
  check_shape(c, "%d columns, the first of positions %d..%d, scale %g, cap %g, from %s on", s->n_cols, s->lo[0], s->hi[0] - 1,
              (double)s->scale, (double)s->cap, kinds[kind]);
  for (int i = 0; i < s->n_cols; i++) softmax_fill(x[i], s->lo[i], s->hi[i], (kind + i) % (int)COUNT_OF(kinds));
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, softmax)) continue;
    check_level((cpu_level)l);
    float *p[SOFTMAX_COLS], m[SOFTMAX_COLS], sum[SOFTMAX_COLS];
    p[0] = zone_place(z, (size_t)s->n_cols * sizeof x[0], 4, s->tight);
    memcpy(p[0], x, (size_t)s->n_cols * sizeof x[0]);
    for (int i = 0; i < s->n_cols; i++) {
      p[i] = p[0] + i * CPU_BLOCK;
      m[i] = sum[i] = NAN;
    }
    c->kernels[l].softmax(p, s->lo, s->hi, s->n_cols, s->scale, s->cap, m, sum);
    check_zone(c, "s", z);
    for (int i = 0; i < s->n_cols; i++) {
      if (l == CPU_SCALAR) {
        if ((kind + i) % (int)COUNT_OF(kinds) != SOFTMAX_NAN) compare_softmax(c, s, i, x[i], p[i], m[i], sum[i]);
        memcpy(scalar[i], p[i], sizeof x[i]);
        scalar[i][CPU_BLOCK] = m[i];
        scalar[i][CPU_BLOCK + 1] = sum[i];
      } else {
        check_bits(c, "p against scalar", p[i], scalar[i], CPU_BLOCK);
        check_bits(c, "m against scalar", &m[i], scalar[i] + CPU_BLOCK, 1);
        check_bits(c, "l against scalar", &sum[i], scalar[i] + CPU_BLOCK + 1, 1);
      }
    }
  }
}

void check_softmax(check *c) {
  zone z;
  zone_open(&z, SOFTMAX_COLS * CPU_BLOCK * sizeof(float));
  for (int i = 0; i < 1200; i++) {
    static const float scales[] = {1, 0.125f, 0.088388346f, 2.5f}, caps[] = {0, 0, 50, 5};
    softmax_shape s = {.n_cols = 1 + random_below(SOFTMAX_COLS), .scale = scales[random_below(4)], .cap = caps[random_below(4)]};
    s.tight = random_below(2);
    for (int col = 0; col < s.n_cols; col++) {
      int how = (i + col) % 4;
      s.lo[col] = how == 0 ? 0 : random_below(CPU_BLOCK);
      s.hi[col] = how == 1 ? s.lo[col] + 1 : how == 2 ? CPU_BLOCK : s.lo[col] + 1 + random_below(CPU_BLOCK - s.lo[col]);
    }
    softmax_one(c, &z, &s, i % 7);
  }
}

/* ---- merge ----------------------------------------------------------------------------------------------------------- */

typedef struct merge_state {
  float m, l, m_b, l_b;
} merge_state;

/* Bound: a and b are right to 4 u and an argument's rounding u |m - m'|; then two roundings. */
static void compare_merge(check *c, const merge_state *s, const float *o, const float *o_b, const float *got, float m, float l,
                          int n) {
  double most = fmax((double)s->m, (double)s->m_b), a = exp((double)s->m - most), b = exp((double)s->m_b - most);
  double distance = isinf(s->m) ? 0 : fabs((double)s->m - (double)s->m_b), rate = (8 + distance) * ORACLE_U;
  for (int i = 0; i <= n; i++) {
    double x = i < n ? (double)o[i] * a : (double)s->l * a, y = i < n ? (double)o_b[i] * b : (double)s->l_b * b;
    double value = x + y, bound = rate * (fabs(x) + fabs(y)) + 0x1p-120;
    check_near(c, i < n ? "o" : "l", i < n ? &got[i] : &l, &value, &bound, 1);
  }
  if ((double)m != most) check_fail(c, "m = %a, expected %a", (double)m, most);
  if (s->m >= s->m_b && s->m_b < s->m - 200) check_bits(c, "o kept as it is", got, o, n); /* exp(0) = 1, the rest is +0 */
}

static void merge_shape(check *c, attn_data *d, int n, int how) {
  float o[MAX_DIM], scalar[MAX_DIM + 2];
  static const float gaps[] = {0, 1, -1, 30, -30, 300, -300, INFINITY};
  merge_state s = {.m = random_normal(), .l = 1 + fabsf(random_normal()), .l_b = 1 + fabsf(random_normal())};
  s.m_b = s.m + gaps[how];
  if (gaps[how] == INFINITY) { /* the first block joins nothing */
    s.m_b = s.m;
    s.m = -INFINITY;
    s.l = 0;
  }
  check_shape(c, "n %d, m %g joined by %g", n, (double)s.m, (double)s.m_b);
  float *o_b = zone_place(&d->in[0], (size_t)n * sizeof(float), 4, random_below(2));
  random_floats(o, n, DATA_NORMAL);
  random_floats(o_b, n, DATA_NORMAL);
  for (int i = 0; i < n && s.l == 0; i++) o[i] = 0;
  zone_seal(&d->in[0], true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, merge)) continue;
    check_level((cpu_level)l);
    float *y = zone_place(&d->out[0], (size_t)n * sizeof(float), 4, random_below(2)), m = s.m, sum = s.l;
    memcpy(y, o, (size_t)n * sizeof(float));
    c->kernels[l].merge(y, &m, &sum, o_b, s.m_b, s.l_b, n);
    check_zone(c, "o", &d->out[0]);
    if (l == CPU_SCALAR) {
      compare_merge(c, &s, o, o_b, y, m, sum, n);
      memcpy(scalar, y, (size_t)n * sizeof(float));
      scalar[MAX_DIM] = m;
      scalar[MAX_DIM + 1] = sum;
    } else {
      check_bits(c, "o against scalar", y, scalar, n);
      check_bits(c, "m against scalar", &m, scalar + MAX_DIM, 1);
      check_bits(c, "l against scalar", &sum, scalar + MAX_DIM + 1, 1);
    }
  }
  zone_seal(&d->in[0], false);
}

void check_merge(check *c) {
  attn_data *d = data_open(QUANT_F32);
  static const int lengths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 24, 31, 33, 64, 80, 100, 128, 256, 512};
  for (size_t i = 0; i < COUNT_OF(lengths); i++) {
    for (int how = 0; how < 8; how++) merge_shape(c, d, lengths[i], how);
  }
  free(d);
}
