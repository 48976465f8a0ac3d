/* pool.c: worker threads. A run is announced by a generation counter; a barrier is one line that counts arrivals and one that
 * counts generations. Who waits spins for some microseconds (not at all if there are more threads than processors) and then
 * sleeps on a futex. With one thread nothing of this happens. */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/base.h"

enum { SPINS = 4000 }; /* about 20 to 50 microseconds of pause instructions */

typedef struct line { /* a counter alone on its cache line, and how many sleep on it */
  _Alignas(64) _Atomic uint32_t value;
  _Atomic uint32_t sleepers;
} line;

typedef struct worker {
  struct pool *pool;
  pthread_t thread;
  int index;
} worker;

struct pool {
  line arrived, generation; /* barrier */
  line run;                 /* generation of runs */
  line left;                /* workers that are still in the current run */
  pool_fn *fn;
  void *arg;
  int n_threads, n_started, spins;
  _Atomic bool closing;
  worker workers[];
};

static void wake(line *l) {
  if (atomic_load_explicit(&l->sleepers, memory_order_seq_cst)) syscall(SYS_futex, &l->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Returns when the counter is no longer `seen`. */
static void wait_change(line *l, uint32_t seen, int spins) {
  for (int i = 0; i < spins; i++) {
    if (atomic_load_explicit(&l->value, memory_order_acquire) != seen) return;
    os_pause();
  }
  atomic_fetch_add_explicit(&l->sleepers, 1, memory_order_seq_cst);
  while (atomic_load_explicit(&l->value, memory_order_seq_cst) == seen)
    syscall(SYS_futex, &l->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
  atomic_fetch_sub_explicit(&l->sleepers, 1, memory_order_relaxed);
}

void pool_barrier(pool *p) {
  if (p->n_threads == 1) return;
  uint32_t generation = atomic_load_explicit(&p->generation.value, memory_order_acquire);
  if (atomic_fetch_add_explicit(&p->arrived.value, 1, memory_order_acq_rel) + 1 == (uint32_t)p->n_threads) {
    atomic_store_explicit(&p->arrived.value, 0, memory_order_relaxed);
    atomic_fetch_add_explicit(&p->generation.value, 1, memory_order_seq_cst);
    wake(&p->generation);
  } else {
    wait_change(&p->generation, generation, p->spins);
  }
}

static void *work(void *arg) {
  worker *w = arg;
  pool *p = w->pool;
  uint32_t seen = 0;
  for (;;) {
    wait_change(&p->run, seen, p->spins);
    seen++;
    if (atomic_load_explicit(&p->closing, memory_order_acquire)) return NULL;
    p->fn(p->arg, w->index, p->n_threads);
    if (atomic_fetch_sub_explicit(&p->left.value, 1, memory_order_seq_cst) == 1) wake(&p->left);
  }
}

void pool_run(pool *p, pool_fn *fn, void *arg) {
  if (p->n_threads == 1) {
    fn(arg, 0, 1);
    return;
  }
  p->fn = fn;
  p->arg = arg;
  atomic_store_explicit(&p->left.value, (uint32_t)p->n_threads - 1, memory_order_relaxed);
  atomic_fetch_add_explicit(&p->run.value, 1, memory_order_seq_cst);
  wake(&p->run);
  fn(arg, 0, p->n_threads);
  for (uint32_t left; (left = atomic_load_explicit(&p->left.value, memory_order_acquire));) wait_change(&p->left, left, p->spins);
}

status pool_open(pool **out, int n_threads, error *err) {
  void *memory;
  *out = NULL;
  if (n_threads < 1 || n_threads > 1024) return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_threads", "n_threads: %d, must be 1 to 1024", n_threads);
  TRY(base_alloc(&memory, sizeof(pool) + (size_t)n_threads * sizeof(worker), "worker threads", err));
  pool *p = memory;
  p->n_threads = n_threads;
  p->spins = n_threads <= os_processors() ? SPINS : 0;
  for (int i = 1; i < n_threads; i++) {
    p->workers[i] = (worker){.pool = p, .index = i};
    if (pthread_create(&p->workers[i].thread, NULL, work, &p->workers[i])) {
      pool_close(p);
      return base_fail(err, TANDEM_ERROR_MEMORY, "n_threads", "thread %d of %d cannot be started", i + 1, n_threads);
    }
    p->n_started++;
  }
  *out = p;
  return TANDEM_OK;
}

void pool_close(pool *p) {
  if (!p) return;
  atomic_store_explicit(&p->closing, true, memory_order_release);
  atomic_fetch_add_explicit(&p->run.value, 1, memory_order_seq_cst);
  wake(&p->run);
  for (int i = 1; i <= p->n_started; i++) pthread_join(p->workers[i].thread, NULL);
  base_free(p);
}

int pool_threads(const pool *p) { return p->n_threads; }
