/* pool.c: worker threads. A run is announced by a generation counter; a barrier is one line that counts arrivals and one that
 * counts generations, or of few threads one that counts the arrivals of all generations. Who waits spins for some microseconds (not at all
 * if there are more threads than processors) and then sleeps on a futex. With one thread nothing of this happens. */
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/base.h"

enum {
  THREADS_MAX = 1024,
  THREADS_FEW = 4 /* more would keep those who arrive from the line they all look at */
};

/* How long to spin: about what falling asleep and being woken costs, so waiting is never twice as dear as the better way. */
static const double spin_seconds = 30e-6;

typedef struct line { /* a counter alone on its cache line, and how many sleep on it */
  _Alignas(64) _Atomic uint32_t value;
  _Atomic uint32_t sleepers;
} line;

typedef struct tickets { /* the same for a counter that never comes round; the kernel compares its low half */
  _Alignas(64) _Atomic uint64_t value;
  _Atomic uint32_t sleepers;
} tickets;

typedef struct worker {
  struct pool *pool;
  pthread_t thread;
  int index;
} worker;

struct pool {
  line arrived, generation; /* barrier of many threads */
  tickets few;              /* of few */
  line run;                 /* generation of runs */
  line left;                /* workers that are still in the current run */
  pool_fn *fn;
  void *arg;
  int n_threads, n_started, spins;
  _Atomic bool closing;
  worker workers[];
};

/* The counter was changed before `sleepers` is read here, a sleeper is counted before it reads the counter: one of the two
 * sees the other, since all four are sequentially consistent. The kernel's own comparison closes the rest. */
static void wake(line *l) {
  if (atomic_load_explicit(&l->sleepers, memory_order_seq_cst) == 0) return;
  syscall(SYS_futex, &l->value, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
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

/* What a futex looks at. */
static uint32_t *low_half(tickets *t) { return (uint32_t *)(void *)&t->value + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__); }

/* Who arrives takes a ticket and waits until all of its generation are taken: one change of one line a thread, half the time of the other
 * way where threads share a cache, two thirds where they do not (docs/SPEED.md). The sleepers' order is that of wake. */
static void barrier_of_few(pool *p) {
  tickets *t = &p->few;
  const uint64_t n = (uint64_t)p->n_threads, mine = atomic_fetch_add_explicit(&t->value, 1, memory_order_seq_cst);
  const uint64_t all = (mine / n + 1) * n;
  if (mine + 1 == all) {
    if (atomic_load_explicit(&t->sleepers, memory_order_seq_cst))
      syscall(SYS_futex, low_half(t), FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    return;
  }
  for (int i = 0; i < p->spins; i++) {
    if (atomic_load_explicit(&t->value, memory_order_acquire) >= all) return;
    os_pause();
  }
  atomic_fetch_add_explicit(&t->sleepers, 1, memory_order_seq_cst);
  for (uint64_t seen; (seen = atomic_load_explicit(&t->value, memory_order_seq_cst)) < all;)
    syscall(SYS_futex, low_half(t), FUTEX_WAIT_PRIVATE, (uint32_t)seen, NULL, NULL, 0);
  atomic_fetch_sub_explicit(&t->sleepers, 1, memory_order_relaxed);
}

void pool_barrier(pool *p) {
  if (p->n_threads == 1) return;
  if (p->n_threads <= THREADS_FEW) {
    barrier_of_few(p);
    return;
  }
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
  uint32_t left;
  while ((left = atomic_load_explicit(&p->left.value, memory_order_acquire))) wait_change(&p->left, left, p->spins);
}

/* Pauses that make up spin_seconds: they take from 10 to 150 cycles, as the processor likes. None if a spinning thread would
 * keep another one from running. */
static int count_spins(int n_threads) {
  enum { SAMPLE = 256, TRIES = 3, LEAST = 16, MOST = 1 << 16 };
  double best = 1;
  if (n_threads < 2 || n_threads > os_processors()) return 0;
  for (int t = 0; t < TRIES; t++) { /* the shortest: the others were interrupted */
    double start = os_seconds();
    for (int i = 0; i < SAMPLE; i++) os_pause();
    double taken = os_seconds() - start;
    if (taken < best) best = taken;
  }
  double n = best > 0 ? SAMPLE * spin_seconds / best : MOST;
  return n < LEAST ? LEAST : n > MOST ? MOST : (int)n;
}

/* Signals are the business of the host's threads: a worker blocks them all, but for those that its own instructions raise. */
static bool start(worker *w) {
  static const int own[] = {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP};
  sigset_t all, old;
  sigfillset(&all);
  for (size_t i = 0; i < COUNT_OF(own); i++) sigdelset(&all, own[i]);
  if (pthread_sigmask(SIG_SETMASK, &all, &old)) return false;
  bool started = pthread_create(&w->thread, NULL, work, w) == 0;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return started;
}

status pool_open(pool **out, int n_threads, error *err) {
  void *memory;
  *out = NULL;
  if (n_threads < 1 || n_threads > THREADS_MAX)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_threads", "n_threads: %d, must be 1 to %d", n_threads, THREADS_MAX);
  TRY(base_alloc(&memory, sizeof(pool) + (size_t)n_threads * sizeof(worker), "worker threads", err));
  pool *p = memory;
  p->n_threads = n_threads;
  p->spins = count_spins(n_threads);
  for (int i = 1; i < n_threads; i++) {
    p->workers[i] = (worker){.pool = p, .index = i};
    if (!start(&p->workers[i])) {
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
