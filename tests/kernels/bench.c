/* bench: speed of the matrix products and of the scores and values of each level and type, one thread.
 *
 * In cache: a matrix that fits the second level, for 1..64 columns, as GMAC/s and as a share of the peak of the same level
 * (int8 for quantised types, bf16 or f32 for plain ones). From memory: 1 column over a matrix larger than the caches, as GB/s of
 * weights and as a share of only reading the same bytes. A kernel and its roof are timed by turns, since other programs on
 * the machine disturb both. */
#include <stdlib.h>

#include "device/cpu/mm.h"
#include "kernels/check.h"

enum { K = 2048, MAX_COLS = 64, CACHE_BYTES = 512 << 10, MEMORY_BYTES = 192 << 20 };
static const int columns[] = {1, 2, 4, 8, 16, 64};

typedef struct bench_data {
  char *panels;
  size_t panel_bytes;
  const void *x[MAX_COLS];
  float *y[MAX_COLS];
} bench_data;

static void *want(size_t n) {
  void *p = NULL;
  error err;
  if (!base_alloc(&p, n, "benchmark", &err)) return p;
  fprintf(stderr, "kernels_check: %s\n", err.text);
  exit(2);
}

/* Panels of random weights: one is packed and copied, which is all the same to a kernel. */
static void bench_open(bench_data *d, quant_type type, int64_t n_panels) {
  const quant_info *info = quant_find(type);
  size_t row = quant_row_bytes(type, K);
  char *rows = want(row * CPU_PANEL);
  float *x = want(K * sizeof(float));
  d->panel_bytes = cpu_panel_bytes(type, K);
  d->panels = want(d->panel_bytes * (size_t)n_panels);
  for (int r = 0; r < CPU_PANEL; r++) {
    random_floats(x, K, DATA_NORMAL);
    info->encode(x, rows + row * (size_t)r, K, NULL);
  }
  cpu_panel_pack(type, K, rows, row, CPU_PANEL, d->panels);
  for (int64_t p = 1; p < n_panels; p++) memcpy(d->panels + d->panel_bytes * (size_t)p, d->panels, d->panel_bytes);
  for (int c = 0; c < MAX_COLS; c++) {
    random_floats(x, K, DATA_NORMAL);
    void *q = want(quant_row_bytes(info->partner, K));
    oracle_quant(info->partner, x, q, K);
    d->x[c] = q;
    d->y[c] = want(sizeof(float) * (size_t)n_panels * CPU_PANEL);
  }
  base_free(rows);
  base_free(x);
}

static void bench_close(bench_data *d) {
  base_free(d->panels);
  for (int c = 0; c < MAX_COLS; c++) {
    base_free((void *)(uintptr_t)d->x[c]);
    base_free(d->y[c]);
  }
}

typedef struct bench_level {
  const cpu_kernels *kernels;
  quant_type type;
  cpu_peak peak;
  tandem_ceiling roof; /* int8, f32 or bf16 */
} bench_level;

static volatile int32_t sink;

/* Seconds of `repeat` rounds of the peak's loop, and of as many products. */
static double run_peak(const bench_level *l, int repeat) {
  double t = os_seconds();
  switch (l->roof) {
  case TANDEM_CEILING_F32: sink = sink + (l->peak.f32(repeat) > 0); break;
  case TANDEM_CEILING_BF16: sink = sink + (l->peak.bf16(repeat) > 0); break;
  default: sink = sink + l->peak.int8(repeat); break;
  }
  return os_seconds() - t;
}
static double run_mm(const bench_level *l, const bench_data *d, int n_panels, int n_cols, int repeat) {
  double t = os_seconds();
  for (int i = 0; i < repeat; i++) cpu_mm(l->kernels, l->type, d->panels, d->panel_bytes, n_panels, K, d->x, d->y, n_cols);
  return os_seconds() - t;
}

static double least(double a, double b) { return a < b ? a : b; }

/* GMAC/s of the peak, if `rounds` of its loop take so long. */
static double peak_speed(const bench_level *l, int rounds, double seconds) {
  const double ops[] = {[TANDEM_CEILING_INT8] = l->peak.int8_ops, [TANDEM_CEILING_F32] = l->peak.f32_ops, [TANDEM_CEILING_BF16] = l->peak.bf16_ops};
  return ops[l->roof] / 2 / 1e9 * rounds / seconds;
}

/* GMAC/s of a product and of the peak. Runs of half a millisecond by turns, the best of each: most fit between two
 * interruptions. */
static void time_cache(const bench_level *l, const bench_data *d, int n_panels, int n_cols, double *mm, double *peak) {
  const double enough = 5e-4, budget = 0.15;
  double t_mm = 1e9, t_peak = 1e9, macs = (double)n_panels * CPU_PANEL * K * n_cols / 1e9;
  int r_mm = 1, r_peak = 16;
  while (run_peak(l, r_peak) < enough) r_peak *= 2;
  while (run_mm(l, d, n_panels, n_cols, r_mm) < enough) r_mm *= 2;
  for (double end = os_seconds() + budget; os_seconds() < end;) {
    t_peak = least(t_peak, run_peak(l, r_peak) / r_peak);
    t_mm = least(t_mm, run_mm(l, d, n_panels, n_cols, r_mm) / r_mm);
  }
  *mm = macs / t_mm;
  *peak = peak_speed(l, 1, t_peak);
}

/* GB/s of one column over all panels, and of reading them. */
static void time_memory(const bench_level *l, const bench_data *d, int n_panels, double *mm, double *read) {
  size_t n = d->panel_bytes * (size_t)n_panels & ~(size_t)4095;
  double t_mm = 1e9, t_read = 1e9;
  for (int turn = 0; turn < 7; turn++) {
    double t = os_seconds();
    sink = sink + l->peak.read(d->panels, n);
    t_read = least(t_read, os_seconds() - t);
    t = run_mm(l, d, n_panels, 1, 1);
    t_mm = least(t_mm, t);
    if (t > 1) break; /* scalar */
  }
  *mm = (double)n / t_mm / 1e9;
  *read = (double)n / t_read / 1e9;
}

static void bench_type(const bench_level *l, quant_type type) {
  size_t panel = cpu_panel_bytes(type, K);
  int small = (int)(CACHE_BYTES / panel), large = (int)(MEMORY_BYTES / panel);
  double mm, peak, best = 0;
  bench_data d;
  bench_open(&d, type, large);
  printf("  %-6s", quant_find(type)->name);
  for (size_t i = 0; i < COUNT_OF(columns); i++) {
    time_cache(l, &d, small, columns[i], &mm, &peak);
    best = peak > best ? peak : best;
    printf("  %6.1f %3.0f%%", mm, 100 * mm / peak);
    fflush(stdout);
  }
  printf("  %6.0f", best);
  time_memory(l, &d, large, &mm, &peak);
  printf("  %6.1f %3.0f%%  %5.1f\n", mm, 100 * mm / peak, peak);
  bench_close(&d);
}

/* below: kernels that are measured as those of another level, or NULL. */
static void bench_level_of(const cpu_kernels *k, const cpu_kernels *below, cpu_level level, quant_type only) {
  printf("%s, one thread: GMAC/s in cache and share of the peak, by columns; one column from memory, share of only reading\n",
         cpu_level_name(level));
  printf("  type  ");
  for (size_t i = 0; i < COUNT_OF(columns); i++) printf("  %6d     ", columns[i]);
  printf("    peak    GB/s       read\n");
  for (int t = 0; t < QUANT_TYPE_END; t++) {
    if (!k->mm[t] || (below && below->mm[t] == k->mm[t]) || (only != QUANT_TYPE_END && only != (quant_type)t)) continue;
    bench_level l = {.kernels = k, .type = (quant_type)t, .roof = op_arithmetic((quant_type)t)};
    cpu_level_peak(level, &l.peak);
    bench_type(&l, (quant_type)t);
  }
}

int bench_mm(const cpu_kernels *kernels, const bool *wanted, quant_type type) {
  for (int l = CPU_LEVELS - 1; l >= 0; l--) {
    if (!wanted[l] || (l == CPU_SCALAR && wanted[CPU_AVX2])) continue; /* scalar: only if asked for, or alone */
    bench_level_of(&kernels[l], l > 0 && wanted[l - 1] ? &kernels[l - 1] : NULL, (cpu_level)l, type);
  }
  return 0;
}

/* ---- attention ------------------------------------------------------------------------------------------------------ */

enum { DIM = 128, ATTN_COLS = 36 };
static const int attn_columns[] = {1, 4, 8, ATTN_COLS};

typedef struct attn_bench {
  void *block;
  float *wide[ATTN_COLS], *out[ATTN_COLS]; /* queries or weights, scores or values */
  int lo[ATTN_COLS], hi[ATTN_COLS];
} attn_bench;

static void attn_bench_open(attn_bench *d, const cpu_kernels *k, quant_type type, bool v) {
  float x[DIM];
  d->block = want(CPU_BLOCK * quant_row_bytes(type, DIM));
  for (int cell = 0; cell < CPU_BLOCK; cell++) {
    random_floats(x, DIM, DATA_NORMAL);
    (v ? k->put_v : k->put_k)[type](d->block, cell, x, DIM);
  }
  for (int c = 0; c < ATTN_COLS; c++) {
    d->wide[c] = want(sizeof(float) * CPU_BLOCK);
    d->out[c] = want(sizeof(float) * CPU_BLOCK);
    random_floats(d->wide[c], CPU_BLOCK, DATA_NORMAL);
    d->lo[c] = 0;
    d->hi[c] = CPU_BLOCK;
  }
}

static void attn_bench_close(attn_bench *d) {
  base_free(d->block);
  for (int c = 0; c < ATTN_COLS; c++) {
    base_free(d->wide[c]);
    base_free(d->out[c]);
  }
}

/* Seconds of `repeat` blocks. */
static double run_block(const cpu_kernels *k, quant_type type, bool v, const attn_bench *d, int n_cols, int repeat) {
  const float *in[ATTN_COLS];
  double t = os_seconds();
  for (int c = 0; c < n_cols; c++) in[c] = d->wide[c];
  for (int i = 0; i < repeat; i++) {
    if (v) k->value[type](d->block, DIM, d->lo, d->hi, in, d->out, n_cols, (cpu_soon){0});
    else k->score[type](d->block, DIM, CPU_BLOCK / 16, in, d->out, n_cols, (cpu_soon){0});
  }
  return os_seconds() - t;
}

static void bench_blocks(const cpu_kernels *k, const bench_level *l, quant_type type, bool v) {
  const int rounds = 4096;
  attn_bench d;
  attn_bench_open(&d, k, type, v);
  printf("  %-6s %s", quant_find(type)->name, v ? "value" : "score");
  for (size_t i = 0; i < COUNT_OF(attn_columns); i++) {
    double t_peak = 1e9, t = 1e9, macs = (double)CPU_BLOCK * DIM * attn_columns[i] / 1e9;
    for (double end = os_seconds() + 0.1; os_seconds() < end;) {
      t_peak = least(t_peak, run_peak(l, rounds));
      t = least(t, run_block(k, type, v, &d, attn_columns[i], 4) / 4);
    }
    printf("  %6.1f %3.0f%%", macs / t, 100 * macs / t / peak_speed(l, rounds, t_peak));
    if (attn_columns[i] == 4) printf(" %5.1f GB/s", (double)(CPU_BLOCK * quant_row_bytes(type, DIM)) / t / 1e9);
    fflush(stdout);
  }
  printf("\n");
  attn_bench_close(&d);
}

int bench_attn(const cpu_kernels *kernels, const bool *wanted) {
  for (int level = CPU_LEVELS - 1; level > CPU_SCALAR; level--) {
    if (!wanted[level]) continue;
    const cpu_kernels *k = &kernels[level], *below = wanted[level - 1] ? &kernels[level - 1] : NULL;
    printf("%s, one thread: scores and values of a block of %d positions, %d dimensions; GMAC/s in cache and share of the peak by columns:",
           cpu_level_name((cpu_level)level), CPU_BLOCK, DIM);
    for (size_t i = 0; i < COUNT_OF(attn_columns); i++) printf(" %d", attn_columns[i]);
    printf("\n");
    for (int t = 0; t < QUANT_TYPE_END; t++) {
      if (!k->score[t] || (below && below->score[t] == k->score[t])) continue;
      bench_level l = {.roof = t == QUANT_BF16 ? TANDEM_CEILING_BF16 : TANDEM_CEILING_F32};
      cpu_level_peak((cpu_level)level, &l.peak);
      for (int v = 0; v < 2; v++) bench_blocks(k, &l, (quant_type)t, v);
    }
  }
  return 0;
}
