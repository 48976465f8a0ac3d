/* base_pool_test.c: worker threads and their barrier. Run it under ThreadSanitizer too: plain memory is shared on purpose. */
#include <fenv.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"

enum { THREADS_MAX = 16, ROUNDS = 200 };

typedef struct rounds {
  pool *p;
  int64_t written[THREADS_MAX * 16]; /* a line each; plain memory: the barrier alone orders it */
  _Atomic int wrong;
} rounds;

static void run_rounds(void *arg, int i_thread, int n_threads) {
  rounds *r = arg;
  for (int64_t k = 1; k <= ROUNDS; k++) {
    r->written[16 * i_thread] = k;
    pool_barrier(r->p);
    for (int i = 0; i < n_threads; i++) {
      if (r->written[16 * i] != k) atomic_fetch_add(&r->wrong, 1);
    }
    pool_barrier(r->p);
  }
}

static void test_barrier_orders_memory(void **state) {
  (void)state;
  static const int counts[] = {1, 2, 3, 4, 5, 8, THREADS_MAX}; /* fewer and more than processors */
  for (size_t i = 0; i < COUNT_OF(counts); i++) {
    rounds r = {0};
    assert_int_equal(pool_open(&r.p, counts[i], NULL), TANDEM_OK);
    assert_int_equal(pool_threads(r.p), counts[i]);
    pool_run(r.p, run_rounds, &r);
    pool_run(r.p, run_rounds, &r);
    assert_int_equal(atomic_load(&r.wrong), 0);
    pool_close(r.p);
  }
}

static void mark(void *arg, int i_thread, int n_threads) { ((int *)arg)[16 * i_thread] += n_threads; }

static void test_every_run_reaches_every_thread(void **state) {
  (void)state;
  for (int n = 1; n <= 5; n++) {
    int marks[5 * 16] = {0};
    pool *p;
    assert_int_equal(pool_open(&p, n, NULL), TANDEM_OK);
    for (int i = 0; i < 2000; i++) pool_run(p, mark, marks);
    for (int i = 0; i < n; i++) assert_int_equal(marks[16 * i], 2000 * n); /* plain memory again */
    pool_close(p);
  }
}

static void test_workers_wake_from_sleep(void **state) {
  (void)state;
  int marks[3 * 16] = {0};
  pool *p;
  assert_int_equal(pool_open(&p, 3, NULL), TANDEM_OK);
  for (int i = 0; i < 20; i++) {
    usleep(2000); /* far beyond the spinning */
    pool_run(p, mark, marks);
  }
  assert_int_equal(marks[32], 60);
  usleep(2000);
  pool_close(p);
}

typedef struct claims {
  pool_counter counter;
  _Atomic int64_t sum;
} claims;

static void claim_all(void *arg, int i_thread, int n_threads) {
  claims *c = arg;
  (void)i_thread, (void)n_threads;
  for (int64_t i; (i = pool_claim(&c->counter, 3)) < 3000;) atomic_fetch_add(&c->sum, i + (i + 1) + (i + 2));
}

static void test_units_are_claimed_once(void **state) {
  (void)state;
  claims c = {0};
  pool *p;
  assert_int_equal(pool_open(&p, 4, NULL), TANDEM_OK);
  pool_run(p, claim_all, &c);
  assert_int_equal(atomic_load(&c.sum), 2999 * 3000 / 2);
  pool_close(p);
}

static void test_pool_refuses(void **state) {
  (void)state;
  error err;
  pool *p;
  static const int bad[] = {0, -1, 1025};
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    assert_int_equal(pool_open(&p, bad[i], &err), TANDEM_ERROR_ARGUMENT);
    assert_null(p);
  }
  base_fault_arm(FAULT_MEMORY, 1, false);
  assert_int_equal(pool_open(&p, 2, &err), TANDEM_ERROR_MEMORY);
  base_fault_arm(FAULT_MEMORY, 0, false);
  assert_null(p);
  pool_close(NULL);
}

static void check_environment(void *arg, int i_thread, int n_threads) {
  (void)i_thread, (void)n_threads;
  sigset_t mask;
  volatile float smallest = 1e-38f;
  if (fegetround() != FE_TONEAREST || smallest / 4 == 0) atomic_fetch_add((_Atomic int *)arg, 1);
  pthread_sigmask(SIG_SETMASK, NULL, &mask);
  if (i_thread && (!sigismember(&mask, SIGINT) || sigismember(&mask, SIGBUS))) atomic_fetch_add((_Atomic int *)arg, 1);
}

static void test_workers_have_plain_floats_and_no_signals(void **state) {
  (void)state;
  _Atomic int wrong = 0;
  pool *p;
  assert_int_equal(pool_open(&p, 3, NULL), TANDEM_OK);
  pool_run(p, check_environment, &wrong);
  assert_int_equal(atomic_load(&wrong), 0);
  pool_close(p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_barrier_orders_memory),
      cmocka_unit_test(test_every_run_reaches_every_thread),
      cmocka_unit_test(test_workers_wake_from_sleep),
      cmocka_unit_test(test_units_are_claimed_once),
      cmocka_unit_test(test_pool_refuses),
      cmocka_unit_test(test_workers_have_plain_floats_and_no_signals),
  };
  return cmocka_run_group_tests_name("base_pool", tests, NULL, NULL);
}
