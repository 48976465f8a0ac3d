/* check_mm: matrix products of each weight type, and packing of panels. */
#include <math.h>
#include <stdlib.h>

#include "kernels/check.h"

enum { MAX_PANELS = 5, MAX_COLS = 128, MAX_K = 2048, POOL = 48, MAX_BLOCK_BYTES = 256 };

/* Kinds of weights beside those of float data: bytes at random, and the outermost codes. */
typedef enum weight_kind {
  WEIGHT_CODED, WEIGHT_BYTES, WEIGHT_OUTERMOST, WEIGHT_ZERO, WEIGHT_SMALL_SCALE, WEIGHT_KINDS,
  WEIGHT_BRINK = DATA_BRINK /* plain types alone, whose kinds are those of floats */
} weight_kind;
static const char *const weight_names[WEIGHT_KINDS] = {"coded", "bytes", "outermost", "zero", "small scale"};

typedef struct mm_data { /* what one shape needs; all reused */
  zone rows, panels, x[MAX_COLS], y[MAX_COLS];
  uint8_t pool[POOL][MAX_BLOCK_BYTES]; /* blocks of normal values */
} mm_data;

static mm_data *data_open(quant_type type) {
  mm_data *d = calloc(1, sizeof *d);
  const quant_info *info = quant_find(type);
  if (!d) exit(2);
  zone_open(&d->rows, MAX_PANELS * CPU_PANEL * quant_row_bytes(type, MAX_K));
  zone_open(&d->panels, 2 * MAX_PANELS * cpu_panel_bytes(type, MAX_K));
  for (int c = 0; c < MAX_COLS; c++) {
    zone_open(&d->x[c], MAX_K * sizeof(float) + 512);
    zone_open(&d->y[c], MAX_PANELS * CPU_PANEL * sizeof(float));
  }
  for (int i = 0; i < POOL && info->block > 1; i++) {
    float x[256];
    random_floats(x, info->block, i % 4 ? DATA_NORMAL : DATA_WIDE);
    info->encode(x, d->pool[i], info->block, NULL);
  }
  return d;
}

/* f16 scales of a block: at most the last two are floats; the other bytes are codes. */
static void put_scale(quant_type type, uint8_t *block, weight_kind kind) {
  int at[2] = {0, -1};
  if (type == QUANT_Q6_K) at[0] = 208;
  if (type == QUANT_Q4_K || type == QUANT_Q5_K) at[1] = 2;
  for (int i = 0; i < 2 && at[i] >= 0; i++) {
    float d = kind == WEIGHT_SMALL_SCALE ? random_unit() * 0x1p-15f : ldexpf(random_unit(), random_below(20) - 14);
    uint16_t h = kind == WEIGHT_ZERO ? (uint16_t)(random_below(2) << 15) : quant_f32_to_f16(d);
    memcpy(block + at[i], &h, sizeof h);
  }
}

static void random_row(const mm_data *d, quant_type type, int64_t k, weight_kind kind, uint8_t *row) {
  const quant_info *info = quant_find(type);
  if (info->block == 1) {
    float x[MAX_K];
    random_floats(x, k, (data_kind)kind);
    for (int64_t i = 0; i < k && type == QUANT_F16; i++) x[i] = fmaxf(-65504, fminf(65504, x[i]));
    info->encode(x, row, k, NULL);
    return;
  }
  for (int64_t b = 0; b < k / info->block; b++, row += info->bytes) {
    memcpy(row, d->pool[random_below(POOL)], (size_t)info->bytes);
    if (kind == WEIGHT_CODED) continue;
    /* 0x80 and 0x7F are the ends of signed bytes, 0xFF and 0 of unsigned codes. */
    static const uint8_t ends[] = {0xFF, 0x00, 0x80, 0x7F};
    uint8_t end = ends[random_below(4)];
    for (int i = 0; i < info->bytes; i++) row[i] = kind == WEIGHT_OUTERMOST ? end : (uint8_t)random_bits();
    put_scale(type, row, kind);
  }
}

/* Value i of a column whose sums are large: all one way, all the other, alternating; then q of one sign that add up to QUANT_REACH32 in
 * each 32, magnitudes that add up to QUANT_REACH16 in each 16, and q that add up to QUANT_REACH8 in one lane, which are still not
 * narrowed. */
static float outermost(int way, int64_t i) {
  const float one = 3.0f / 127;
  if (way < 2) return way ? 3 : -3;
  if (way == 3) return i % 32 == 0 ? 3 : 30 * one;
  if (way == 4 && i % 16 >= 8) return i % 16 == 8 ? 7 * one : 0;
  if (way == 5) return i % 4 < 2 ? 65 * one : i % 32 == 2 ? -3 : 0;
  return i % 2 ? 3 : -3;
}

/* One column in the partner format. */
static void random_column(mm_data *d, quant_type type, int64_t k, weight_kind kind, int c, bool tight) {
  float x[MAX_K];
  data_kind data = kind == WEIGHT_ZERO ? DATA_ZEROS : DATA_NORMAL;
  if (kind == WEIGHT_BRINK) data = DATA_BRINK;
  if (kind == WEIGHT_SMALL_SCALE) data = (data_kind)random_below(DATA_KINDS);
  random_floats(x, k, data);
  int way = random_below(6);
  for (int64_t i = 0; i < k && kind == WEIGHT_OUTERMOST && quant_find(type)->block > 1; i++) x[i] = outermost(way, i);
  quant_type format = quant_find(type)->partner;
  oracle_quant(format, x, zone_place(&d->x[c], quant_row_bytes(format, k), 4, tight), k);
}

typedef struct mm_shape {
  int64_t k;
  int n_panels, n_rows, n_cols;
  size_t panel_bytes; /* distance of panels */
  bool tight;
} mm_shape;

static uint8_t *row_at(const mm_data *d, quant_type type, const mm_shape *s, int r) {
  return d->rows.data + (size_t)r * quant_row_bytes(type, s->k);
}

/* Rows as they lie in a file, one after the other, and packed. */
static void pack_rows(mm_data *d, quant_type type, const mm_shape *s, weight_kind kind) {
  size_t one = cpu_panel_bytes(type, s->k), row = quant_row_bytes(type, s->k);
  zone_place(&d->rows, row * (size_t)s->n_rows, 2, s->tight);
  for (int r = 0; r < s->n_rows; r++) random_row(d, type, s->k, kind, row_at(d, type, s, r));
  uint8_t *panels = zone_place(&d->panels, s->panel_bytes * (size_t)(s->n_panels - 1) + one, 64, s->tight);
  zone_blank(&d->panels);
  zone_seal(&d->rows, true);
  for (int p = 0; p < s->n_panels; p++) {
    int left = s->n_rows - CPU_PANEL * p;
    cpu_panel_pack(type, s->k, row_at(d, type, s, CPU_PANEL * p), row, left < CPU_PANEL ? left : CPU_PANEL,
                   panels + s->panel_bytes * (size_t)p);
  }
  zone_seal(&d->rows, false);
}

static void seal(mm_data *d, const mm_shape *s, bool sealed) {
  zone_seal(&d->panels, sealed);
  for (int c = 0; c < s->n_cols; c++) zone_seal(&d->x[c], sealed);
}

/* Scalar against the oracle. Missing rows are +0: the sum of products with zeros starts at +0 and stays there. */
static void compare_column(check *c, mm_data *d, const mm_shape *s, int col) {
  float want[MAX_PANELS * CPU_PANEL];
  double value[MAX_PANELS * CPU_PANEL], bound[MAX_PANELS * CPU_PANEL];
  const float *y = (const float *)(const void *)d->y[col].data;
  for (int r = 0; r < CPU_PANEL * s->n_panels; r++) {
    oracle_result o = {0, 0, 0};
    if (r < s->n_rows) o = oracle_mm(c->type, row_at(d, c->type, s, r), d->x[col].data, s->k);
    want[r] = o.exact;
    value[r] = o.value;
    bound[r] = o.bound;
  }
  check_near(c, "y", y, value, bound, CPU_PANEL * s->n_panels);
  check_bits(c, "y by cpu.h", y, want, CPU_PANEL * s->n_panels);
}

static void run_shape(check *c, mm_data *d, const mm_shape *s) {
  static float scalar[MAX_COLS][MAX_PANELS * CPU_PANEL];
  const void *x[MAX_COLS];
  float *y[MAX_COLS];
  int n = CPU_PANEL * s->n_panels;
  for (int i = 0; i < s->n_cols; i++) {
    x[i] = d->x[i].data;
    y[i] = zone_place(&d->y[i], (size_t)n * sizeof(float), 4, s->tight);
  }
  seal(d, s, true);
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, mm[c->type])) continue;
    check_level((cpu_level)l);
    for (int i = 0; i < s->n_cols; i++) zone_blank(&d->y[i]);
    cpu_mm(&c->kernels[l], c->type, d->panels.data, s->panel_bytes, s->n_panels, s->k, x, y, s->n_cols);
    for (int i = 0; i < s->n_cols; i++) {
      check_zone(c, "y", &d->y[i]);
      /* The oracle is slow: it sees some columns of wide shapes, the scalar kernel all of them. */
      if (l == CPU_SCALAR && (s->n_cols <= 4 || i % 5 == 0)) compare_column(c, d, s, i);
      if (l == CPU_SCALAR) memcpy(scalar[i], y[i], (size_t)n * sizeof(float));
      else check_bits(c, "y against scalar", y[i], scalar[i], n);
    }
  }
  seal(d, s, false);
}

static void one_shape(check *c, mm_data *d, int64_t k, int n_panels, int n_cols) {
  weight_kind kind = (weight_kind)(c->shapes % (quant_find(c->type)->block > 1 ? (int)WEIGHT_KINDS : (int)DATA_KINDS));
  size_t one = cpu_panel_bytes(c->type, k);
  mm_shape s = {.k = k, .n_panels = n_panels, .n_cols = n_cols, .tight = c->shapes % 3 != 2};
  s.n_rows = CPU_PANEL * n_panels - (random_below(3) ? 0 : random_below(CPU_PANEL));
  s.panel_bytes = random_below(4) ? one : 2 * one;
  check_shape(c, "k %lld, %d panels %zu apart, %d rows, %d columns, %s", (long long)k, n_panels, s.panel_bytes, s.n_rows,
              n_cols, quant_find(c->type)->block == 1 ? data_name((data_kind)kind) : weight_names[kind]);
  for (int i = 0; i < n_cols; i++) random_column(d, c->type, k, kind, i, s.tight);
  pack_rows(d, c->type, &s, kind);
  run_shape(c, d, &s);
}

/* A column with a NaN or an infinity has no finite product, whatever the level: a sum that overflowed stays visible. */
static void not_finite(check *c, mm_data *d) {
  const quant_type format = quant_find(c->type)->partner;
  mm_shape s = {.k = 512, .n_panels = 1, .n_rows = CPU_PANEL, .n_cols = 9, .panel_bytes = cpu_panel_bytes(c->type, 512)};
  const void *x[MAX_COLS];
  float *y[MAX_COLS];
  check_shape(c, "columns with a NaN or an infinity");
  pack_rows(d, c->type, &s, WEIGHT_CODED);
  for (int i = 0; i < s.n_cols; i++) {
    float values[512];
    random_floats(values, s.k, DATA_NORMAL);
    values[random_below(512)] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
    x[i] = zone_place(&d->x[i], quant_row_bytes(format, s.k), 4, false);
    y[i] = zone_place(&d->y[i], CPU_PANEL * sizeof(float), 4, false);
    if (format == QUANT_F32) memcpy(d->x[i].data, values, sizeof values);
    else c->kernels[CPU_SCALAR].quant[format](values, d->x[i].data, s.k);
  }
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!CHECK_LEVEL(c, l, mm[c->type])) continue;
    check_level((cpu_level)l);
    cpu_mm(&c->kernels[l], c->type, d->panels.data, s.panel_bytes, 1, s.k, x, y, s.n_cols);
    for (int i = 0; i < s.n_cols * CPU_PANEL; i++)
      if (isfinite(y[i / CPU_PANEL][i % CPU_PANEL])) {
        check_fail(c, "column %d, row %d is %g", i / CPU_PANEL, i % CPU_PANEL, (double)y[i / CPU_PANEL][i % CPU_PANEL]);
        return;
      }
  }
}

static const int odd_lengths[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 100, 255, 256, 257, 511, 512, 600, 1000};
static const int block_counts_32[] = {1, 2, 3, 4, 7, 8, 9, 10, 15, 16, 17, 24, 31, 32};
static const int block_counts_256[] = {1, 2, 3, 4, 5, 7};

/* The i-th length worth testing of a type, 0 after the last. */
static int64_t length_at(quant_type type, size_t i) {
  int block = quant_find(type)->block;
  if (block == 1) return i < COUNT_OF(odd_lengths) ? odd_lengths[i] : 0;
  if (block == 32) return i < COUNT_OF(block_counts_32) ? 32 * block_counts_32[i] : 0;
  return i < COUNT_OF(block_counts_256) ? 256 * block_counts_256[i] : 0;
}

void check_mm(check *c) {
  if (!c->kernels[CPU_SCALAR].mm[c->type]) {
    check_fail(c, "scalar has no kernel");
    return;
  }
  mm_data *d = data_open(c->type);
  for (size_t i = 0; length_at(c->type, i); i++) {
    int64_t k = length_at(c->type, i);
    for (int n_cols = 1; n_cols <= 17; n_cols++) one_shape(c, d, k, 1 + (n_cols + (int)i) % MAX_PANELS, n_cols);
    for (int n_panels = 1; n_panels <= MAX_PANELS; n_panels++) one_shape(c, d, k, n_panels, 1 + random_below(8));
  }
  static const int wide[] = {24, 31, 33, 64, 127, 128};
  for (size_t i = 0; i < COUNT_OF(wide); i++) {
    for (int n_panels = 1; n_panels <= 3; n_panels++) one_shape(c, d, length_at(c->type, 3 + i % 3), n_panels, wide[i]);
  }
  not_finite(c, d);
  free(d);
}

/* ---- packing --------------------------------------------------------------------------------------------------------- */

static void compare_row(check *c, const float *got, const uint8_t *row, int64_t k) {
  float want[MAX_K];
  quant_find(c->type)->decode(row, want, k);
  check_bits(c, "row", got, want, k);
}

/* Rows come out of panels and out of row-major bytes as quant decodes them; missing rows come out as zeros. */
static void pack_shape(check *c, mm_data *d, zone *out, const mm_shape *s) {
  op_value w = {.layout = OP_PANELS, .type = c->type, .rows = s->n_rows, .cols = s->k, .n_slabs = 1};
  op_value plain = w;
  plain.layout = OP_ROW_MAJOR;
  plain.stride = quant_row_bytes(c->type, s->k);
  for (int r = 0; r < CPU_PANEL * s->n_panels; r++) {
    float *y = zone_place(out, (size_t)s->k * sizeof(float), 4, s->tight);
    zone_blank(out);
    cpu_decode_row(&w, d->panels.data, r, y);
    check_zone(c, "row of panels", out);
    if (r < s->n_rows) {
      compare_row(c, y, row_at(d, c->type, s, r), s->k);
      cpu_decode_row(&plain, d->rows.data, r, y);
      compare_row(c, y, row_at(d, c->type, s, r), s->k);
      continue;
    }
    for (int64_t i = 0; i < s->k; i++) {
      if (y[i] == 0) continue;
      check_fail(c, "missing row %d has %a at %lld", r, (double)y[i], (long long)i);
      break;
    }
  }
}

void check_pack(check *c) {
  mm_data *d = data_open(c->type);
  zone out;
  check_level(CPU_SCALAR);
  zone_open(&out, MAX_K * sizeof(float));
  for (size_t i = 0; length_at(c->type, i); i++) {
    int64_t k = length_at(c->type, i);
    size_t one = cpu_panel_bytes(c->type, k);
    static const int row_counts[] = {1, 2, 3, 5, 8, 11, 14, 15, 16, 17, 25, 31, 32};
    for (size_t j = 0; j < COUNT_OF(row_counts); j++) {
      int n_rows = row_counts[j];
      mm_shape s = {.k = k, .n_rows = n_rows, .panel_bytes = one, .tight = random_below(2)};
      s.n_panels = (n_rows + CPU_PANEL - 1) / CPU_PANEL;
      check_shape(c, "k %lld, %d rows", (long long)k, n_rows);
      if (one < CPU_PANEL * quant_row_bytes(c->type, k) || one % 64 != 0) check_fail(c, "%zu bytes a panel", one);
      pack_rows(d, c->type, &s, (weight_kind)random_below(WEIGHT_KINDS));
      check_zone(c, "panels", &d->panels);
      pack_shape(c, d, &out, &s);
    }
  }
  free(d);
}
