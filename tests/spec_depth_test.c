/* spec_depth_test.c: the rule for how far to guess, against a simulated machine. Time is what the machine says, so that every run
 * is the same: a pass of N rows takes v(N), a draft takes c, draft i matches with probability a(i) if all before did. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "spec/spec.h"

static uint64_t random_state;
static double uniform(void) { /* splitmix64 */
  uint64_t z = random_state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

enum { LIMIT = 16 };

typedef struct machine {
  double base, slope;      /* v(N) = base (1 + slope (N - 1)) seconds */
  double draft;            /* seconds of a draft */
  double accept;           /* probability of a match */
  double jitter;           /* 0.3: times are off by up to 30 % */
  double spikes;           /* so many of the times are ten times as long */
  bool tells;              /* the drafter reports p: half of its drafts are sure and match as often as they can */
  int32_t n_sequences;
} machine;

typedef struct trace {
  int64_t n_tokens, last_guess; /* committed; index of the token at which the last guess was made */
  double seconds, plain_seconds;
} trace;

static double measured(const machine *m, double seconds) {
  seconds *= 1 + m->jitter * (2 * uniform() - 1);
  return m->spikes > 0 && uniform() < m->spikes ? 10 * seconds : seconds;
}

static double pass_of(const machine *m, int n) { return m->base * (1 + m->slope * (n - 1)); }

/* One step as the engine does it. The true time counts, the measured one is told. */
static void step(spec_depth *d, spec_costs *c, const machine *m, spec_kind kind, trace *t) {
  float p[SPEC_MAX_DEPTH];
  double chance[SPEC_MAX_DEPTH];
  int64_t n_context = 100 + t->n_tokens;
  int32_t n = 0, spent = 0, accepted = 0, s = m->n_sequences ? m->n_sequences : 1;
  int32_t k = spec_depth_ask(d, c, kind, LIMIT, s, n_context);
  assert_in_range(k, 0, LIMIT);
  for (bool more = k > 0; more && n < k;) {
    bool sure = uniform() < .5;
    chance[n] = !m->tells ? m->accept : sure ? fmin(.99, 2 * m->accept) : fmax(0, 2 * m->accept - .99);
    p[n] = m->tells ? (float)(sure ? .99 : .3) : -1;
    spec_verdict v = spec_depth_more(d, c, n + 1, p[n]);
    spent++;
    n += v.keep;
    more = v.keep && v.more;
  }
  while (accepted < n && uniform() < chance[accepted]) accepted++;
  double drafting = spent * m->draft, pass = pass_of(m, s * (n + 1));
  if (n) spec_costs_draft(c, kind, n, measured(m, drafting));
  spec_costs_pass(c, s * (n + 1), n_context, measured(m, pass));
  spec_depth_learn(d, c, kind, n, accepted, n ? p : NULL, accepted + 1);
  if (n) t->last_guess = t->n_tokens;
  t->n_tokens += accepted + 1;
  t->seconds += drafting + pass;
  t->plain_seconds += (accepted + 1) * pass_of(m, s);
}

static trace generate(spec_depth *d, spec_costs *c, const machine *m, spec_kind kind, int64_t n) {
  trace t = {.last_guess = -1};
  while (t.n_tokens < n) step(d, c, m, kind, &t);
  return t;
}

static double speedup(const trace *t) { return t->plain_seconds / t->seconds; }

/* Of a fixed depth, and of the best. */
static double speedup_of(const machine *m, int k) {
  double tokens = 1, reach = 1;
  for (int i = 0; i < k; i++) tokens += reach *= m->accept;
  return tokens * pass_of(m, 1) / (pass_of(m, k + 1) + k * m->draft);
}

static double best_speedup(const machine *m) {
  double best = 1;
  for (int k = 1; k <= LIMIT; k++) best = fmax(best, speedup_of(m, k));
  return best;
}

static const double costs_of[] = {.02, .05, .2, .5}, slopes[] = {.03, .3, 1};

/* ---- behaviours -------------------------------------------------------------------------------------------------- */

static void a_drafter_that_never_matches_costs_next_to_nothing(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT_OF(costs_of); i++)
    for (size_t j = 0; j < COUNT_OF(slopes); j++)
      for (int told = 0; told < 2; told++) {
        static spec_costs c;
        spec_depth d;
        machine m = {.base = 1, .slope = slopes[j], .draft = costs_of[i], .accept = 0, .jitter = told ? .3 : 0};
        random_state = i * 10 + j;
        memset(&c, 0, sizeof c);
        spec_depth_begin(&d);
        trace start = generate(&d, &c, &m, SPEC_SHARED, 64);
        trace early = generate(&d, &c, &m, SPEC_SHARED, 31); /* awake still, asleep for less than the first wait */
        trace later = generate(&d, &c, &m, SPEC_SHARED, 161), rest = generate(&d, &c, &m, SPEC_SHARED, 1744);
        double all = (start.plain_seconds + early.plain_seconds + later.plain_seconds + rest.plain_seconds) /
                     (start.seconds + early.seconds + later.seconds + rest.seconds);
        if (!told && early.last_guess >= 0) fail_msg("c %g, slope %g: a guess at token %d", m.draft, m.slope, 64 + (int)early.last_guess);
        if (speedup(&rest) < .98) fail_msg("c %g, slope %g: %.4f behind token 256", m.draft, m.slope, speedup(&rest));
        if (all < .97) fail_msg("c %g, slope %g: %.4f in all", m.draft, m.slope, all);
      }
}

/* Whatever the drafter's luck, 60 times each. With times that are rough a bad start can mislead, but not by much. */
static void guessing_is_never_much_slower_than_not(void **state) {
  (void)state;
  for (int a = 0; a <= 10; a++)
    for (size_t i = 0; i < COUNT_OF(costs_of); i++)
      for (size_t j = 0; j < COUNT_OF(slopes); j++)
        for (uint64_t seed = 0; seed < 60; seed++) {
          static spec_costs c;
          spec_depth d;
          bool rough = seed % 2;
          machine m = {.base = 1, .slope = slopes[j], .draft = costs_of[i], .accept = a / 10., .jitter = rough ? .3 : 0, .spikes = rough ? .01 : 0};
          random_state = seed * 7919 + (uint64_t)a * 100 + i * 10 + j;
          memset(&c, 0, sizeof c);
          spec_depth_begin(&d);
          trace start = generate(&d, &c, &m, SPEC_SHARED, 256), rest = generate(&d, &c, &m, SPEC_SHARED, 1744);
          double all = (start.plain_seconds + rest.plain_seconds) / (start.seconds + rest.seconds);
          if (all < (rough ? .85 : .97) || speedup(&rest) < (rough ? .85 : .98))
            fail_msg("a %g, c %g, slope %g, seed %d: %.4f in all, %.4f behind token 256", m.accept, m.draft, m.slope, (int)seed, all, speedup(&rest));
        }
}

/* Two unknowns from one time: neither may end where nothing leads back. */
static void a_wrong_cost_of_drafts_is_forgotten(void **state) {
  (void)state;
  static spec_costs c;
  const double first[][2] = {{1, .5}, {3, 6}, {4, 1}}; /* a spike at the first long one */
  memset(&c, 0, sizeof c);
  for (size_t i = 0; i < COUNT_OF(first); i++) spec_costs_draft(&c, SPEC_SHARED, (int32_t)first[i][0], first[i][1]);
  for (int i = 0; i < 200; i++) spec_costs_draft(&c, SPEC_SHARED, 1, .5);
  assert_true(fabs((double)c.draft[SPEC_SHARED][0] - .5) < .05);
  for (int i = 0; i < 200; i++) spec_costs_draft(&c, SPEC_SHARED, 3, 1);
  assert_true(fabs((double)(c.draft[SPEC_SHARED][0] + 2 * c.draft[SPEC_SHARED][1]) - 1) < .1);
  for (int i = 0; i < 10; i++) spec_costs_draft(&c, SPEC_MODEL, 1, 0); /* less than the clock sees */
  for (int i = 0; i < 300; i++) spec_costs_draft(&c, SPEC_MODEL, 1, .5);
  assert_true(fabs((double)c.draft[SPEC_MODEL][0] - .5) < .05);
}

/* Tried once at the end of a context bucket, once more at the beginning of the next: what was measured counts, no guess does. */
static void a_new_context_starts_from_what_was_measured(void **state) {
  (void)state;
  static spec_costs c;
  memset(&c, 0, sizeof c);
  for (int i = 0; i < 8; i++) spec_costs_pass(&c, 1, 100, 1);
  spec_costs_pass(&c, 9, 120, 4);
  spec_costs_pass(&c, 9, 130, 4);
  assert_true(fabs(spec_costs_pass_seconds(&c, 9, 130) - 4) < .01);
}

static void it_comes_back_when_the_text_becomes_easy(void **state) {
  (void)state;
  for (int told = 0; told < 2; told++) {
    static spec_costs c;
    spec_depth d;
    machine m = {.base = 1, .slope = .05, .draft = .1, .accept = 0, .tells = told};
    random_state = 7;
    memset(&c, 0, sizeof c);
    spec_depth_begin(&d);
    generate(&d, &c, &m, SPEC_SHARED, 400);
    assert_true(d.sleep[SPEC_SHARED].asleep);
    m.accept = .9;
    generate(&d, &c, &m, SPEC_SHARED, 1200);
    assert_false(d.sleep[SPEC_SHARED].asleep);
    trace t = generate(&d, &c, &m, SPEC_SHARED, 1000);
    if (speedup(&t) < .93 * best_speedup(&m)) fail_msg("%.3f, best %.3f", speedup(&t), best_speedup(&m));
  }
}

static void a_perfect_drafter_is_used_to_the_full(void **state) {
  (void)state;
  for (size_t j = 0; j < COUNT_OF(slopes); j++) {
    static spec_costs c;
    spec_depth d;
    machine m = {.base = 1, .slope = slopes[j], .accept = 1};
    memset(&c, 0, sizeof c);
    spec_depth_begin(&d);
    generate(&d, &c, &m, SPEC_MODEL, 1000);
    trace t = generate(&d, &c, &m, SPEC_MODEL, 8000);
    if (speedup(&t) < .95 * best_speedup(&m)) fail_msg("slope %g: %.3f, best %.3f", m.slope, speedup(&t), best_speedup(&m));
  }
}

static void check_constant(const machine *m, double least, uint64_t seed) {
  static spec_costs c;
  spec_depth d;
  random_state = seed;
  memset(&c, 0, sizeof c);
  spec_depth_begin(&d);
  generate(&d, &c, m, SPEC_SHARED, 1000);
  trace t = generate(&d, &c, m, SPEC_SHARED, 20000);
  if (speedup(&t) < least * best_speedup(m))
    fail_msg("a %g, c %g, slope %g: %.3f, best %.3f", m->accept, m->draft, m->slope, speedup(&t), best_speedup(m));
}

static void the_depth_is_near_the_best(void **state) {
  (void)state;
  for (int a = 5; a <= 9; a++)
    for (size_t i = 0; i < COUNT_OF(costs_of); i++)
      for (size_t j = 0; j < COUNT_OF(slopes); j++)
        check_constant(&(machine){.base = 1, .slope = slopes[j], .draft = costs_of[i], .accept = a / 10.}, .95, (uint64_t)a);
}

static void times_may_be_rough(void **state) {
  (void)state;
  for (int a = 5; a <= 9; a++)
    for (size_t i = 0; i < COUNT_OF(costs_of); i++)
      for (size_t j = 0; j < COUNT_OF(slopes); j++)
        check_constant(&(machine){.base = 1, .slope = slopes[j], .draft = costs_of[i], .accept = a / 10., .jitter = .3, .spikes = .01}, .9, (uint64_t)a);
}

/* A drafter that knows when it is right is worth more than the best fixed depth. */
static void what_the_drafter_says_is_used(void **state) {
  (void)state;
  check_constant(&(machine){.base = 1, .slope = .3, .draft = .02, .accept = .7, .tells = true}, 1.03, 3);
  check_constant(&(machine){.base = 1, .slope = .1, .draft = .05, .accept = .7, .tells = true}, 1.03, 3);
}

static void nothing_is_guessed_before_a_plain_pass_is_known(void **state) {
  (void)state;
  static spec_costs c;
  spec_depth d;
  memset(&c, 0, sizeof c);
  spec_depth_begin(&d);
  assert_int_equal(spec_depth_ask(&d, &c, SPEC_SHARED, LIMIT, 1, 10), 0);
  assert_true(spec_costs_pass_seconds(&c, 1, 10) == 0);
  for (int i = 0; i < 4; i++) spec_costs_pass(&c, 1, 10, .5);
  assert_true(fabs(spec_costs_pass_seconds(&c, 1, 5000) - .5) < 1e-6);
  assert_in_range(spec_depth_ask(&d, &c, SPEC_SHARED, LIMIT, 1, 10), 1, 1);
  assert_int_equal(spec_depth_ask(&d, &c, SPEC_SHARED, 0, 1, 10), 0);
  assert_int_equal(spec_depth_ask(&d, &c, SPEC_SHARED, LIMIT, 1, 10), spec_depth_ask(&d, &c, SPEC_SHARED, LIMIT, 1, 10));
}

static void more_rows_never_cost_less(void **state) {
  (void)state;
  static spec_costs c;
  memset(&c, 0, sizeof c);
  random_state = 5;
  for (int i = 0; i < 3000; i++) {
    spec_costs_pass(&c, 1 + (int32_t)(uniform() * 70), (int64_t)(uniform() * 1e6), .5 + uniform());
    int64_t at = (int64_t)(uniform() * 1e6);
    for (int32_t n = 1; n < 80; n++) assert_true(spec_costs_pass_seconds(&c, n, at) <= spec_costs_pass_seconds(&c, n + 1, at) * (1 + 1e-9));
  }
}

static void a_model_that_never_matches_is_given_up(void **state) {
  (void)state;
  static spec_costs c;
  spec_depth d;
  machine m = {.base = 1, .slope = .0, .draft = 0, .accept = 0};
  memset(&c, 0, sizeof c);
  spec_depth_begin(&d);
  for (int i = 0; i < 300; i++) spec_depth_learn(&d, &c, SPEC_SHARED, 1, 0, NULL, 1);
  assert_true(d.sleep[SPEC_SHARED].off);
  generate(&d, &c, &m, SPEC_SHARED, 3000);
  for (int i = 0; i < 300; i++) spec_depth_learn(&d, &c, SPEC_NGRAM_MOD, 1, 0, NULL, 1);
  assert_false(d.sleep[SPEC_NGRAM_MOD].off);
  spec_depth_begin(&d);
  assert_false(d.sleep[SPEC_SHARED].off);
}

/* Eight sequences share a pass: eight rows a draft, where rows cost something guessing does not pay. */
static void many_sequences_guess_less(void **state) {
  (void)state;
  static spec_costs c;
  spec_depth d;
  machine m = {.base = 1, .slope = .3, .draft = .02, .accept = .6, .n_sequences = 8};
  memset(&c, 0, sizeof c);
  spec_depth_begin(&d);
  generate(&d, &c, &m, SPEC_SHARED, 500);
  assert_int_equal(d.sleep[SPEC_SHARED].best, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_drafter_that_never_matches_costs_next_to_nothing),
      cmocka_unit_test(guessing_is_never_much_slower_than_not),
      cmocka_unit_test(a_wrong_cost_of_drafts_is_forgotten),
      cmocka_unit_test(a_new_context_starts_from_what_was_measured),
      cmocka_unit_test(it_comes_back_when_the_text_becomes_easy),
      cmocka_unit_test(a_perfect_drafter_is_used_to_the_full),
      cmocka_unit_test(the_depth_is_near_the_best),
      cmocka_unit_test(times_may_be_rough),
      cmocka_unit_test(what_the_drafter_says_is_used),
      cmocka_unit_test(nothing_is_guessed_before_a_plain_pass_is_known),
      cmocka_unit_test(more_rows_never_cost_less),
      cmocka_unit_test(a_model_that_never_matches_is_given_up),
      cmocka_unit_test(many_sequences_guess_less),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
