/* bench: speed of the matrix products of each level and type, one thread.
 *
 * In cache: a matrix that fits the second level, for 1..64 columns, as GMAC/s and as a share of the peak of the same level
 * (int8 for quantised types, f32 for plain ones) measured in the same run. From memory: 1 column over a matrix larger than
 * the caches, as GB/s of weights and as a share of only reading the same bytes, taken by turns since other programs on
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
    oracle_partner(type, x, q, K);
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

/* Seconds of one call: the best of many short runs within the budget. */
static double time_mm(cpu_mm_fn *mm, const bench_data *d, int n_panels, int n_cols, double budget) {
  double best = 1e9, start = os_seconds(), end = start + budget;
  int repeat = 1;
  do {
    double t = os_seconds();
    for (int i = 0; i < repeat; i++) mm(d->panels, d->panel_bytes, n_panels, K, d->x, d->y, n_cols);
    t = (os_seconds() - t);
    if (t / repeat < best) best = t / repeat;
    if (t < 1e-3) repeat *= 2;
  } while (os_seconds() < end);
  return best;
}

/* The level's loop that only reads. */
static cpu_peak peak_of(cpu_level level) {
  cpu_peak p;
  cpu_scalar_peak(&p);
#if defined(CPU_HAVE_X86)
  if (level == CPU_AVX2) cpu_avx2_peak(&p);
  if (level == CPU_AVX512) cpu_avx512_peak(&p);
#endif
  (void)level;
  return p;
}

/* Seconds of one column over all panels, and of reading them: the best of some turns. */
static void time_memory(cpu_mm_fn *mm, cpu_level level, const bench_data *d, int n_panels, double *t_mm, double *t_read) {
  cpu_peak peak = peak_of(level);
  size_t n = d->panel_bytes * (size_t)n_panels & ~(size_t)4095;
  volatile int32_t sink = 0;
  *t_mm = *t_read = 1e9;
  for (int turn = 0; turn < 7; turn++) {
    double t0 = os_seconds();
    sink = sink + peak.read(d->panels, n);
    double t1 = os_seconds();
    mm(d->panels, d->panel_bytes, n_panels, K, d->x, d->y, 1);
    double t2 = os_seconds();
    if (t1 - t0 < *t_read) *t_read = t1 - t0;
    if (t2 - t1 < *t_mm) *t_mm = t2 - t1;
    if (t2 - t0 > 1) break; /* scalar */
  }
}

static void bench_type(cpu_mm_fn *mm, cpu_level level, quant_type type, const tandem_ceilings *peak) {
  bool plain = quant_find(type)->block == 1;
  double gmac_peak = plain ? peak->f32_gflops / 2 : peak->int8_tops * 1000 / 2;
  size_t panel = cpu_panel_bytes(type, K);
  int small = (int)(CACHE_BYTES / panel), large = (int)(MEMORY_BYTES / panel);
  bench_data d;
  bench_open(&d, type, large);
  printf("  %-6s", quant_find(type)->name);
  for (size_t i = 0; i < COUNT_OF(columns); i++) {
    double t = time_mm(mm, &d, small, columns[i], 0.12), gmac = (double)small * CPU_PANEL * K * columns[i] / t / 1e9;
    printf("  %6.1f %3.0f%%", gmac, 100 * gmac / gmac_peak);
    fflush(stdout);
  }
  double t_mm, t_read;
  time_memory(mm, level, &d, large, &t_mm, &t_read);
  printf("  %6.1f %3.0f%%\n", (double)large * (double)panel / t_mm / 1e9, 100 * t_read / t_mm);
  bench_close(&d);
}

static status bench_level(const cpu_kernels *k, cpu_level level, quant_type only, error *err) {
  tandem_ceilings peak;
  cpu_device cpu = {.level = level, .n_threads = 1, .kernels = *k};
  TRY(pool_open(&cpu.pool, 1, err));
  status st = cpu_ceilings((device *)(void *)&cpu, &peak, err);
  pool_close(cpu.pool);
  TRY(st);
  printf("%s, one thread: int8 %.0f GMAC/s, f32 %.0f GMAC/s, reading %.1f GB/s\n", cpu_level_name(level), peak.int8_tops * 500,
         peak.f32_gflops / 2, peak.read_gb_per_second);
  printf("  type   GMAC/s and share of the peak, by columns%*sfrom memory\n", 29, "");
  printf("        ");
  for (size_t i = 0; i < COUNT_OF(columns); i++) printf("  %6d     ", columns[i]);
  printf("    GB/s\n");
  for (int t = 0; t < QUANT_TYPE_END; t++) {
    if (k->mm[t] && (only == QUANT_TYPE_END || only == (quant_type)t)) bench_type(k->mm[t], level, (quant_type)t, &peak);
  }
  return TANDEM_OK;
}

int bench_mm(const cpu_kernels *kernels, const bool *wanted, quant_type type) {
  error err;
  for (int l = CPU_LEVELS - 1; l >= 0; l--) {
    if (!wanted[l] || (l == CPU_SCALAR && wanted[CPU_AVX2])) continue; /* scalar: only if asked for, or alone */
    if (bench_level(&kernels[l], (cpu_level)l, type, &err)) {
      fprintf(stderr, "kernels_check: %s\n", err.text);
      return 2;
    }
  }
  return 0;
}
