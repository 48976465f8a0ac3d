/* bench: speed of the matrix products of each level and type, one thread.
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
  cpu_mm_fn *mm;
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
  for (int i = 0; i < repeat; i++) l->mm(d->panels, d->panel_bytes, n_panels, K, d->x, d->y, n_cols);
  return os_seconds() - t;
}

static double least(double a, double b) { return a < b ? a : b; }

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
  const double ops[] = {[TANDEM_CEILING_INT8] = l->peak.int8_ops, [TANDEM_CEILING_F32] = l->peak.f32_ops, [TANDEM_CEILING_BF16] = l->peak.bf16_ops};
  *peak = ops[l->roof] / 2 / 1e9 / t_peak;
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
    bench_level l = {.mm = k->mm[t], .roof = op_arithmetic((quant_type)t)};
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
