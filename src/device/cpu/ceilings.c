/* ceilings: what this machine can do at most, so that speeds can be told as shares of it. All threads run the same loop of
 * the level at the same time. The average of a short stretch counts, not the best: memory and clock of a shared machine
 * change within seconds, and who measures speeds holds each stretch of work against the ceilings beside it. The loops
 * themselves live with the kernels of each level (mm.h). */
#include <string.h>
#include <unistd.h>

#include "device/cpu/mm.h"

typedef struct measurement {
  cpu_peak peak;
  tandem_ceiling what;
  int64_t rounds;
  const char *bytes; /* to read: of each thread's share of the buffer, n_bytes from `from` on */
  size_t share, from, n_bytes;
  _Atomic int32_t sink; /* takes the results */
} measurement;

enum { READ_STEP = 16 << 20 }; /* bytes that a thread reads at once, a multiple of 4096: about a millisecond */

static void measure_share(void *arg, int i_thread, int n_threads) {
  measurement *m = arg;
  int32_t result = 0;
  (void)n_threads;
  switch (m->what) {
  case TANDEM_CEILING_INT8: result = m->peak.int8(m->rounds); break;
  case TANDEM_CEILING_F32: result = m->peak.f32(m->rounds) > 0; break;
  case TANDEM_CEILING_BF16: result = m->peak.bf16(m->rounds) > 0; break;
  case TANDEM_CEILING_READ: result = m->peak.read(m->bytes + (size_t)i_thread * m->share + m->from, m->n_bytes); break;
  }
  atomic_fetch_add_explicit(&m->sink, result, memory_order_relaxed);
}

static double seconds_of(pool *p, measurement *m) {
  double t = os_seconds();
  pool_run(p, measure_share, m);
  return os_seconds() - t;
}

/* Rounds a second and thread: first finds a number that takes long enough. */
static double rounds_per_second(pool *p, measurement *m, double seconds) {
  double t;
  m->rounds = 1000;
  while ((t = seconds_of(p, m)) < seconds / 2) m->rounds *= 2;
  return (double)m->rounds / t;
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

/* Mapped as weights are. */
static status map_buffer(cpu_device *d, measurement *m, error *err) {
  size_t n = read_bytes();
  m->share = n / (size_t)d->n_threads & ~(size_t)4095;
  if (!d->read_buffer) {
    TRY(base_map(&d->read_buffer, n, true, "buffer to measure reading", err));
    d->read_bytes = n;
    m->bytes = d->read_buffer;
    pool_run(d->pool, touch_share, m);
  }
  m->bytes = d->read_buffer;
  return TANDEM_OK;
}

/* Bytes a second: goes on where the last measurement stopped, so that what is read was driven out of the caches long ago. */
static double bytes_per_second(cpu_device *d, measurement *m, double seconds) {
  double all = 0, bytes = 0;
  do {
    if (d->read_at + READ_STEP > m->share) d->read_at = 0;
    m->from = d->read_at;
    m->n_bytes = READ_STEP < m->share ? READ_STEP : m->share;
    all += seconds_of(d->pool, m);
    bytes += (double)m->n_bytes * d->n_threads;
    d->read_at += m->n_bytes;
  } while (all < seconds);
  return bytes / all;
}

status cpu_ceiling(device *d, tandem_ceiling what, double seconds, double *per_second, error *err) {
  cpu_device *cpu = (cpu_device *)(void *)d;
  measurement m = {.what = what};
  double n_threads = cpu->n_threads;
  cpu_level_peak(cpu->level, &m.peak);
  if (what == TANDEM_CEILING_READ) {
    TRY(map_buffer(cpu, &m, err));
    *per_second = bytes_per_second(cpu, &m, seconds);
    return TANDEM_OK;
  }
  const double ops[] = {[TANDEM_CEILING_INT8] = m.peak.int8_ops, [TANDEM_CEILING_F32] = m.peak.f32_ops, [TANDEM_CEILING_BF16] = m.peak.bf16_ops};
  *per_second = rounds_per_second(cpu->pool, &m, seconds) * n_threads * ops[what];
  return TANDEM_OK;
}
