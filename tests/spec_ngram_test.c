/* spec_ngram_test.c: what the n-gram drafters propose, from short, long, shortened, forked and spiteful histories. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "spec/spec.h"

static uint64_t random_state = 88172645463325252u;
static uint32_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)(random_state >> 24);
}

static spec_drafter *open_simple(int32_t n_match, int32_t n_max, int32_t min_hits) {
  spec_drafter *d;
  tandem_ngram p = {.n_match = n_match, .n_max = n_max, .min_hits = min_hits};
  assert_int_equal(spec_ngram_simple_open(&d, &p, NULL), TANDEM_OK);
  return d;
}

static spec_drafter *open_mod(int32_t n_match, int32_t n_max) {
  spec_drafter *d;
  tandem_ngram p = {.n_match = n_match, .n_max = n_max};
  assert_int_equal(spec_ngram_mod_open(&d, &p, NULL), TANDEM_OK);
  return d;
}

/* tokens[n] is `last`, n are evaluated. */
static spec_ask propose_for(spec_drafter *d, int32_t sequence, int32_t *tokens, int64_t n, int32_t k, float p_min) {
  spec_ask a = {.sequence = sequence, .tokens = tokens, .n = n, .k = k, .p_min = p_min};
  assert_int_equal(d->ops->propose(d, &a, 1, NULL), TANDEM_OK);
  assert_in_range(a.n_out, 0, k);
  return a;
}

static spec_ask propose(spec_drafter *d, int32_t *tokens, int64_t n, int32_t k) { return propose_for(d, 0, tokens, n, k, 0); }

static void fill_random(int32_t *tokens, int64_t n) {
  for (int64_t i = 0; i < n; i++) tokens[i] = (int32_t)(next_random() % 50000);
}

/* ---- ngram-simple ------------------------------------------------------------------------------------------------ */

static void simple_copies_what_followed(void **state) {
  (void)state;
  spec_drafter *d = open_simple(3, 0, 0);
  int32_t t[80] = {1, 2, 3, 4, 5, 6, 7, 8, 2, 3, 4};
  spec_ask a = propose(d, t, 10, 4);
  assert_int_equal(a.n_out, 4);
  for (int i = 0; i < 4; i++) assert_int_equal(t[11 + i], 5 + i);
  for (int i = 1; i < 4; i++) assert_true(a.p[i] > a.p[i - 1]);
  t[10] = 9; /* the match includes the newest token */
  assert_int_equal(propose(d, t, 10, 4).n_out, 0);
  d->ops->close(d);
}

static void simple_takes_the_last_occurrence(void **state) {
  (void)state;
  spec_drafter *d = open_simple(2, 0, 0);
  int32_t t[80] = {1, 2, 10, 1, 2, 20, 1, 2};
  assert_int_equal(propose(d, t, 7, 1).n_out, 1);
  assert_int_equal(t[8], 20);
  d->ops->close(d);
}

static void simple_continues_a_period(void **state) {
  (void)state;
  spec_drafter *d = open_simple(4, 64, 0);
  int32_t t[100];
  for (int i = 0; i < 9; i++) t[i] = i % 3;
  assert_int_equal(propose(d, t, 8, 64).n_out, 64);
  for (int i = 9; i < 73; i++) assert_int_equal(t[i], i % 3);
  d->ops->close(d);
}

static void simple_wants_hits_that_agree(void **state) {
  (void)state;
  spec_drafter *two = open_simple(2, 0, 2), *three = open_simple(2, 0, 3);
  int32_t t[80] = {1, 2, 5, 6, 1, 2, 5, 7, 1, 2};
  assert_int_equal(propose(two, t, 9, 4).n_out, 1);
  assert_int_equal(t[10], 5);
  assert_int_equal(propose(three, t, 9, 4).n_out, 0);
  two->ops->close(two);
  three->ops->close(three);
}

static void a_longer_match_promises_more(void **state) {
  (void)state;
  spec_drafter *d = open_simple(4, 0, 0);
  int32_t t[200];
  float before = 0;
  for (int match = 4; match < 60; match += 8) {
    for (int i = 0; i < 60; i++) t[i] = t[60 + i] = 100 + i;
    t[119 - match] = 7;
    spec_ask a = propose(d, t, 119, 1);
    assert_int_equal(a.n_out, 1);
    assert_true(a.p[0] > before && a.p[0] < 1);
    before = a.p[0];
  }
  d->ops->close(d);
}

/* Against a search that is too simple to be wrong, in texts of few letters, where everything overlaps. */
static void simple_finds_what_a_plain_search_finds(void **state) {
  (void)state;
  int32_t t[120], copy[120];
  for (int round = 0; round < 20000; round++) {
    int n_match = 1 + (int)(next_random() % 7), n = (int)(next_random() % 60), letters = 1 + (int)(next_random() % 3), end = -1;
    for (int i = 0; i <= n; i++) t[i] = (int32_t)(next_random() % (unsigned)letters);
    memcpy(copy, t, sizeof t);
    for (int e = n - 1; e >= n_match - 1 && end < 0; e--)
      if (!memcmp(t + e - n_match + 1, t + n - n_match + 1, (size_t)n_match * sizeof *t)) end = e;
    spec_drafter *d = open_simple(n_match, 0, 0);
    spec_ask a = propose(d, t, n, 8);
    assert_int_equal(a.n_out, end < 0 ? 0 : 8);
    for (int i = 0; i < a.n_out; i++) {
      copy[n + 1 + i] = copy[end + 1 + i];
      assert_int_equal(t[n + 1 + i], copy[n + 1 + i]);
    }
    d->ops->close(d);
  }
}

/* The key all but matches everywhere: quadratic searches take seconds here. */
static void simple_is_linear_on_spiteful_text(void **state) {
  (void)state;
  enum { N = 1 << 17 };
  int32_t *t = calloc(N + 100, sizeof *t);
  spec_drafter *d = open_simple(64, 0, 0);
  t[N - 63] = 1; /* the oldest of the key, which occurs nowhere else */
  double start = os_seconds();
  for (int i = 0; i < 20; i++) assert_int_equal(propose(d, t, N, 8).n_out, 0);
  assert_true(os_seconds() - start < 5);
  d->ops->close(d);
  free(t);
}

/* ---- ngram-mod --------------------------------------------------------------------------------------------------- */

/* Two contexts in one entry of the pool are a matter of chance: about one in 140 here, which ends a proposal early. */
static void mod_remembers_across_sequences(void **state) {
  (void)state;
  int32_t t[300], u[300], n_drafts = 0;
  for (int round = 0; round < 50; round++) {
    spec_drafter *d = open_mod(8, 0);
    fill_random(t, 200);
    d->ops->begin(d, 0, t, 0);
    d->ops->settle(d, 0, t, 0, 200);
    memcpy(u, t + 40, 20 * sizeof *t);
    d->ops->begin(d, 1, u, 0);
    spec_ask a = propose_for(d, 1, u, 19, 48, 0);
    assert_memory_equal(u + 20, t + 60, (size_t)a.n_out * sizeof *t);
    for (int i = 1; i < a.n_out; i++) assert_true(a.p[i] >= a.p[i - 1]);
    n_drafts += a.n_out;
    d->ops->close(d);
  }
  assert_true(n_drafts > 50 * 48 * 3 / 4); /* .85 are expected */
}

static void mod_is_surer_of_a_longer_match(void **state) {
  (void)state;
  int32_t t[100], u[100];
  spec_drafter *d = open_mod(8, 0);
  for (int i = 0; i < 60; i++) t[i] = 100 + i;
  d->ops->settle(d, 0, t, 0, 60);
  memcpy(u, t + 20, 20 * sizeof *t);
  spec_ask a = propose_for(d, 1, u, 19, 1, 0);
  assert_int_equal(a.n_out, 1);
  float fresh = a.p[0];
  d->ops->settle(d, 1, u, 0, 19); /* eleven of its tokens were foretold: the match is longer than 8 */
  assert_true(propose_for(d, 1, u, 19, 1, 0).p[0] > fresh);
  u[19] = 1;
  assert_int_equal(propose_for(d, 1, u, 19, 48, 0).n_out, 0);
  assert_int_equal(propose_for(d, 1, u, 6, 48, 0).n_out, 0); /* 7 tokens are too few */
  d->ops->close(d);
}

static void mod_proposing_changes_nothing(void **state) {
  (void)state;
  int32_t t[300], first[48];
  spec_drafter *d = open_mod(4, 0);
  fill_random(t, 100);
  memcpy(t + 100, t, 20 * sizeof *t);
  d->ops->settle(d, 0, t, 0, 119);
  spec_ask a = propose(d, t, 119, 48), b;
  memcpy(first, t + 120, sizeof first);
  b = propose(d, t, 119, 48);
  assert_true(a.n_out > 0);
  assert_int_equal(b.n_out, a.n_out);
  assert_memory_equal(first, t + 120, (size_t)a.n_out * sizeof *first);
  assert_memory_equal(a.p, b.p, (size_t)a.n_out * sizeof *a.p);
  d->ops->close(d);
}

/* After a truncation the history goes on differently; the newest continuation wins, and the replaced text is entered. */
static void mod_follows_a_shortened_history(void **state) {
  (void)state;
  int32_t t[400], u[100], n_out;
  spec_drafter *d = open_mod(6, 0);
  fill_random(t, 300);
  d->ops->begin(d, 0, t, 0);
  d->ops->settle(d, 0, t, 0, 200);
  d->ops->begin(d, 0, t, 50);
  fill_random(t + 50, 150);
  d->ops->settle(d, 0, t, 50, 200);
  memcpy(u, t + 40, 10 * sizeof *t);
  d->ops->begin(d, 1, u, 0);
  n_out = propose_for(d, 1, u, 9, 20, 0).n_out;
  assert_true(n_out > 0);
  assert_memory_equal(u + 10, t + 50, (size_t)n_out * sizeof *t);
  fill_random(t, 120); /* another text altogether, of the same length: restored */
  d->ops->begin(d, 0, t, 120);
  d->ops->settle(d, 0, t, 120, 121);
  memcpy(u, t + 30, 10 * sizeof *t);
  n_out = propose_for(d, 1, u, 9, 20, 0).n_out;
  assert_true(n_out > 0);
  assert_memory_equal(u + 10, t + 40, (size_t)n_out * sizeof *t);
  d->ops->begin(d, 0, t, 0);
  d->ops->settle(d, 0, t, 0, 3); /* shorter than a match */
  assert_int_equal(propose(d, t, 3, 5).n_out, 0);
  d->ops->close(d);
}

static void mod_survives_random_histories(void **state) {
  (void)state;
  enum { SEQUENCES = 4, LENGTH = 300 };
  static int32_t t[SEQUENCES][LENGTH + 80];
  int64_t n[SEQUENCES] = {0};
  spec_drafter *d = open_mod(3, 64);
  for (int round = 0; round < 20000; round++) {
    int s = (int)(next_random() % SEQUENCES), what = (int)(next_random() % 8), other = (s + 1) % SEQUENCES;
    if (what == 0) {
      n[s] = n[s] ? (int64_t)(next_random() % (uint64_t)n[s]) : 0;
      d->ops->begin(d, s, t[s], n[s]);
    } else if (what == 1) {
      n[other] = n[s];
      memcpy(t[other], t[s], sizeof t[s]);
      d->ops->fork(d, s, other, n[s]);
      d->ops->begin(d, other, t[other], n[other]);
    } else {
      int64_t more = 1 + next_random() % 9;
      if (n[s] + more > LENGTH) continue;
      for (int64_t i = 0; i < more; i++) t[s][n[s] + i] = (int32_t)(next_random() % 4);
      d->ops->settle(d, s, t[s], n[s], n[s] + more);
      n[s] += more;
    }
    t[s][n[s]] = (int32_t)(next_random() % 4);
    spec_ask a = propose_for(d, s, t[s], n[s], 1 + (int32_t)(next_random() % 64), 0);
    for (int i = 0; i < a.n_out; i++) assert_in_range(t[s][n[s] + 1 + i], 0, 3);
  }
  d->ops->close(d);
}

/* While the pool grows nothing is lost. */
static void mod_grows(void **state) {
  (void)state;
  enum { N = 100000 };
  int32_t *t = calloc(N + 100, sizeof *t), u[100];
  int n_known = 0, n_asked = 0;
  spec_drafter *d = open_mod(12, 0);
  for (int64_t i = 0; i < N; i++) t[i] = (int32_t)(next_random() % 200000);
  d->ops->settle(d, 0, t, 0, N);
  for (int64_t i = 0; i < N - 50; i += 1000, n_asked++) {
    memcpy(u, t + i, 20 * sizeof *t);
    spec_ask a = propose_for(d, 1, u, 19, 1, 0);
    n_known += a.n_out == 1 && u[20] == t[i + 20];
  }
  if (n_known < n_asked * 95 / 100) fail_msg("%d of %d are known", n_known, n_asked); /* few are written over */
  d->ops->close(d);
  free(t);
}

/* A million different tokens empty the pool; the newest text of the living is still known. */
static void mod_empties_a_full_pool(void **state) {
  (void)state;
  enum { N = 1500000, PIECE = 1000 };
  int32_t *t = calloc(N + 100, sizeof *t), u[100], n_out;
  spec_drafter *d = open_mod(12, 0);
  for (int64_t i = 0; i < N; i++) t[i] = (int32_t)(next_random() % 200000);
  for (int64_t i = 0; i < N; i += PIECE) d->ops->settle(d, 0, t, i, i + PIECE);
  memcpy(u, t + N - 100, 20 * sizeof *t);
  n_out = propose_for(d, 1, u, 19, 30, 0).n_out;
  assert_true(n_out > 0);
  assert_memory_equal(u + 20, t + N - 80, (size_t)n_out * sizeof *t);
  memcpy(u, t + 1000, 20 * sizeof *t);
  assert_int_equal(propose_for(d, 1, u, 19, 30, 0).n_out, 0);
  d->ops->close(d);
  free(t);
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

static void bounds_hold(void **state) {
  (void)state;
  int32_t t[300];
  spec_drafter *both[] = {open_simple(4, 10, 0), open_mod(4, 10)};
  for (int b = 0; b < 2; b++) {
    spec_drafter *d = both[b];
    for (int i = 0; i < 200; i++) t[i] = i % 100;
    if (d->ops->settle) d->ops->settle(d, 0, t, 0, 107);
    memset(t + 108, -1, 100 * sizeof *t);
    assert_int_equal(propose_for(d, 0, t, 107, 64, 0).n_out, 10);
    assert_int_equal(t[118], -1);
    assert_int_equal(propose_for(d, 0, t, 107, 3, 0).n_out, 3);
    spec_ask a = propose_for(d, 0, t, 107, 64, 0);
    assert_int_equal(propose_for(d, 0, t, 107, 64, a.p[0] + .001f).n_out, 0);
    assert_int_equal(propose_for(d, 0, t, 107, 64, 1).n_out, 0);
    assert_int_equal(propose_for(d, 0, t, 0, 64, 0).n_out, 0);
    d->ops->close(d);
  }
}

/* The rule of depth.c speaks: a draft that does not pay ends the proposal. */
static void the_rule_is_asked(void **state) {
  (void)state;
  static spec_costs c;
  spec_depth depth;
  int32_t t[300];
  spec_drafter *d = open_simple(4, 0, 0);
  for (int i = 0; i < 200; i++) t[i] = i % 100;
  memset(&c, 0, sizeof c);
  for (int n = 1; n <= 65; n++)
    for (int i = 0; i < 8; i++) spec_costs_pass(&c, n, 100, n < 6 ? 1 : n);
  spec_depth_begin(&depth);
  spec_ask a = {.tokens = t, .n = 107, .depth = &depth, .costs = &c};
  a.k = spec_depth_ask(&depth, &c, SPEC_NGRAM_SIMPLE, 16, 1, 107);
  assert_in_range(a.k, 4, 16);
  assert_int_equal(d->ops->propose(d, &a, 1, NULL), TANDEM_OK);
  assert_int_equal(a.n_out, 4);
  d->ops->close(d);
}

static void bad_parameters_and_no_memory_are_told(void **state) {
  (void)state;
  spec_drafter *d;
  error err = {0};
  const tandem_ngram bad[] = {{.n_match = 65}, {.n_match = -1}, {.n_max = 65}, {.n_max = -2}};
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    assert_int_equal(spec_ngram_simple_open(&d, &bad[i], &err), TANDEM_ERROR_ARGUMENT);
    assert_null(d);
    assert_int_equal(spec_ngram_mod_open(&d, &bad[i], &err), TANDEM_ERROR_ARGUMENT);
    assert_null(d);
  }
  assert_int_equal(spec_ngram_simple_open(&d, &(tandem_ngram){.min_hits = 17}, &err), TANDEM_ERROR_ARGUMENT);
  for (uint64_t n = 1; n <= 2; n++) {
    base_fault_arm(FAULT_MEMORY, n, false);
    assert_int_equal(spec_ngram_mod_open(&d, &(tandem_ngram){0}, &err), TANDEM_ERROR_MEMORY);
    base_fault_arm(FAULT_MEMORY, 0, false);
    assert_null(d);
  }
  assert_int_equal(spec_ngram_mod_bytes(), 16 << 20);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(simple_copies_what_followed),
      cmocka_unit_test(simple_takes_the_last_occurrence),
      cmocka_unit_test(simple_continues_a_period),
      cmocka_unit_test(simple_wants_hits_that_agree),
      cmocka_unit_test(a_longer_match_promises_more),
      cmocka_unit_test(simple_finds_what_a_plain_search_finds),
      cmocka_unit_test(simple_is_linear_on_spiteful_text),
      cmocka_unit_test(mod_remembers_across_sequences),
      cmocka_unit_test(mod_is_surer_of_a_longer_match),
      cmocka_unit_test(mod_proposing_changes_nothing),
      cmocka_unit_test(mod_follows_a_shortened_history),
      cmocka_unit_test(mod_survives_random_histories),
      cmocka_unit_test(mod_grows),
      cmocka_unit_test(mod_empties_a_full_pool),
      cmocka_unit_test(bounds_hold),
      cmocka_unit_test(the_rule_is_asked),
      cmocka_unit_test(bad_parameters_and_no_memory_are_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
