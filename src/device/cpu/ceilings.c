/* ceilings: what this machine can do at most, so that speeds can be told as shares of it. All threads run the same loop of
 * the level at the same time; the best of several runs counts, since other programs can only slow us down. The loops
 * themselves live with the kernels of each level (mm.h). */
#include <string.h>
#include <unistd.h>

#include "device/cpu/mm.h"

static void peak_of(cpu_level level, cpu_peak *p) {
  cpu_scalar_peak(p);
#if defined(CPU_HAVE_X86)
  if (level == CPU_AVX2) cpu_avx2_peak(p);
  if (level == CPU_AVX512) cpu_avx512_peak(p);
#else
  (void)level;
#endif
}

typedef enum what { INT8, F32, READ } what;

typedef struct measurement {
  cpu_peak peak;
  what what;
  int64_t rounds;
  const char *bytes; /* READ: a share each */
  size_t share;
  _Atomic int32_t sink; /* takes the results */
} measurement;

static void measure_share(void *arg, int i_thread, int n_threads) {
  measurement *m = arg;
  int32_t result = 0;
  (void)n_threads;
  switch (m->what) {
  case INT8: result = m->peak.int8(m->rounds); break;
  case F32: result = m->peak.f32(m->rounds) > 0; break;
  case READ: result = m->peak.read(m->bytes + (size_t)i_thread * m->share, m->share); break;
  }
  atomic_fetch_add_explicit(&m->sink, result, memory_order_relaxed);
}

static double seconds_of(pool *p, measurement *m) {
  double t = os_seconds();
  pool_run(p, measure_share, m);
  return os_seconds() - t;
}

/* Seconds of the fastest run in about `budget` seconds. */
static double best_of(pool *p, measurement *m, double budget) {
  double best = seconds_of(p, m), end = os_seconds() + budget;
  while (os_seconds() < end) {
    double t = seconds_of(p, m);
    best = t < best ? t : best;
  }
  return best;
}

/* Rounds a second and thread: first finds a number that takes long enough to be timed. */
static double rounds_per_second(pool *p, measurement *m) {
  m->rounds = 1000;
  while (seconds_of(p, m) < 0.01) m->rounds *= 2;
  return (double)m->rounds / best_of(p, m, 0.25);
}

/* So large that no cache holds a useful part of it. */
static size_t read_bytes(void) {
  size_t n = (size_t)256 << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE)
  long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  if (cache > 0 && 4 * (size_t)cache > n) n = 4 * (size_t)cache;
#endif
  return n < (size_t)2 << 30 ? n : (size_t)2 << 30;
}

/* Pages that were never written are all the same page of zeros, in cache: each thread writes its share first. */
static void touch_share(void *arg, int i_thread, int n_threads) {
  measurement *m = arg;
  (void)n_threads;
  memset((char *)(uintptr_t)m->bytes + (size_t)i_thread * m->share, i_thread + 1, m->share);
}

static status measure_read(pool *p, measurement *m, double *gb_per_second, error *err) {
  void *buffer;
  size_t n = read_bytes();
  TRY(base_map(&buffer, n, true, "buffer to measure reading", err));
  m->what = READ;
  m->bytes = buffer;
  m->share = n / (size_t)pool_threads(p) & ~(size_t)4095;
  pool_run(p, touch_share, m);
  *gb_per_second = (double)m->share * pool_threads(p) / best_of(p, m, 0.3) / 1e9;
  base_unmap(buffer, n);
  return TANDEM_OK;
}

status cpu_ceilings(device *d, tandem_ceilings *c, error *err) {
  cpu_device *cpu = (cpu_device *)(void *)d;
  measurement m = {.what = INT8};
  double n_threads = pool_threads(cpu->pool);
  peak_of(cpu->level, &m.peak);
  c->int8_tops = rounds_per_second(cpu->pool, &m) * n_threads * m.peak.int8_ops / 1e12;
  m.what = F32;
  c->f32_gflops = rounds_per_second(cpu->pool, &m) * n_threads * m.peak.f32_ops / 1e9;
  return measure_read(cpu->pool, &m, &c->read_gb_per_second, err);
}
