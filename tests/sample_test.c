/* sample: every filter against a plain reference that sorts everything, with libm; the draws against exact probabilities;
 * faults, purity, the numbers. The reference follows the definitions, not the code: lists, sorting, sums in order. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sample/sample.h"

/* ---- helpers ------------------------------------------------------------------------------------------------------ */

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
static double uniform(uint64_t *state) { return ((double)(next_random(state) >> 11) + 0.5) * 0x1p-53; }
static double normal(uint64_t *state) { return sqrt(-2 * log(uniform(state))) * cos(6.283185307179586 * uniform(state)); }

/* All filters off, temperature 1. */
static tandem_sampling plain(void) {
  tandem_sampling p;
  tandem_sampling_init(&p);
  p.temperature = 1;
  p.top_k = 0;
  p.top_p = 1;
  p.min_p = 0;
  return p;
}

static sampler *open_sampler(const tandem_sampling *p, int32_t n_vocab) {
  sampler *s;
  error err = {0};
  if (sample_open(&s, p, n_vocab, NULL, &err)) fail_msg("%s", err.text);
  return s;
}

static int32_t draw_id(sampler *s, const float *logits, const int32_t *history, int64_t n_history, uint64_t index) {
  int32_t id = -1;
  error err = {0};
  if (sample_draw(s, logits, history, n_history, index, &id, &err)) fail_msg("%s", err.text);
  return id;
}

/* ---- the reference ------------------------------------------------------------------------------------------------ */

typedef struct candidate {
  int32_t id;
  double logit, p, key;
} candidate;

static int by_logit(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
  return x->id < y->id ? -1 : 1;
}

static int by_key(const void *a, const void *b) {
  const candidate *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  return x->id < y->id ? -1 : 1;
}

static void probabilities(candidate *c, int n) {
  double sum = 0;
  for (int i = 0; i < n; i++) sum += c[i].p = exp(c[i].logit - c[0].logit);
  for (int i = 0; i < n; i++) c[i].p /= sum;
}

/* How many of the first candidates reach probability p together. */
static int reach(const candidate *c, int n, double p) {
  double sum = 0;
  for (int i = 0; i < n; i++)
    if ((sum += c[i].p) >= p) return i + 1;
  return n;
}

static int reference_typical(candidate *c, int n, double p) {
  double entropy = 0;
  for (int i = 0; i < n; i++) entropy -= c[i].p > 0 ? c[i].p * log(c[i].p) : 0;
  double log_sum = c[0].logit - log(c[0].p);
  for (int i = 0; i < n; i++) c[i].key = fabs(log_sum - c[i].logit - entropy);
  qsort(c, (size_t)n, sizeof *c, by_key);
  n = reach(c, n, p);
  qsort(c, (size_t)n, sizeof *c, by_logit);
  return n;
}

/* Survivors of the selecting filters in order of probability, with logits after temperature. */
static int reference_select(const tandem_sampling *p, uint64_t index, candidate *c, int n) {
  qsort(c, (size_t)n, sizeof *c, by_logit);
  if (p->top_k > 0 && n > p->top_k) n = p->top_k;
  probabilities(c, n);
  if (p->typical_p < 1) n = reference_typical(c, n, p->typical_p);
  probabilities(c, n);
  if (p->top_p < 1) n = reach(c, n, p->top_p);
  while (c[n - 1].p < p->min_p * c[0].p) n--;
  probabilities(c, n);
  if (p->xtc_probability > 0 && p->xtc_threshold <= 0.5f && sample_uniform(p->seed, index, 1, 0, 0) < p->xtc_probability) {
    int above = 0;
    while (above < n && c[above].p >= p->xtc_threshold) above++;
    if (above > 1) {
      n -= above - 1;
      memmove(c, c + above - 1, (size_t)n * sizeof *c);
    }
  }
  for (int i = 0; i < n; i++) c[i].logit /= p->temperature;
  probabilities(c, n);
  return n;
}

static void reference_edit(const tandem_sampling *p, const int32_t *history, int n_history, int n_vocab, double *x) {
  for (size_t i = 0; i < p->n_bias; i++) x[p->bias[i].id] += p->bias[i].bias;
  int from = p->repeat_last_n < 0 || p->repeat_last_n > n_history ? 0 : n_history - p->repeat_last_n;
  for (int id = 0; id < n_vocab; id++) {
    int count = 0;
    for (int i = from; i < n_history; i++) count += history[i] == id;
    if (count == 0) continue;
    x[id] = x[id] > 0 ? x[id] / p->repeat_penalty : x[id] * p->repeat_penalty;
    x[id] -= count * (double)p->frequency_penalty;
    x[id] -= p->presence_penalty;
  }
}

/* The whole chain but DRY. *n: survivors in c. Returns the token. */
static int32_t reference_draw(const tandem_sampling *p, const float *logits, int n_vocab, const int32_t *history, int n_history,
                              uint64_t index, candidate *c, int *n) {
  static double x[32768];
  for (int id = 0; id < n_vocab; id++) x[id] = logits[id];
  reference_edit(p, history, n_history, n_vocab, x);
  *n = 0;
  for (int id = 0; id < n_vocab; id++)
    if (x[id] > -INFINITY) c[(*n)++] = (candidate){.id = id, .logit = x[id]};
  if (p->temperature == 0) {
    qsort(c, (size_t)*n, sizeof *c, by_logit);
    return c[0].id;
  }
  *n = reference_select(p, index, c, *n);
  int32_t best = -1;
  double best_score = 0;
  for (int i = 0; i < *n; i++) {
    double score = log(c[i].p) - log(-log(sample_uniform(p->seed, index, 0, 0, (uint32_t)c[i].id)));
    if (best < 0 || score > best_score) {
      best = c[i].id;
      best_score = score;
    }
  }
  return best;
}

/* ---- filters ------------------------------------------------------------------------------------------------------ */

static float choice(uint64_t *r, float off, float from, float to) {
  return next_random(r) % 2 ? off : from + (to - from) * (float)uniform(r);
}

/* Each filter is on in about half of the cases. A high temperature, being last, makes a draw nearly uniform among the
 * survivors, so that every border is met. */
static tandem_sampling random_params(uint64_t *r, tandem_logit_bias *bias, int n_vocab) {
  tandem_sampling p = plain();
  p.seed = next_random(r);
  p.temperature = next_random(r) % 8 == 0 ? 0 : next_random(r) % 2 ? 1000 : 0.1f + 2 * (float)uniform(r);
  p.top_k = next_random(r) % 2 ? 0 : (int32_t)(1 + next_random(r) % (next_random(r) % 4 ? 60 : 1500));
  p.typical_p = choice(r, 1, 0.05f, 0.999f);
  p.top_p = choice(r, 1, 0.01f, 0.9999f);
  p.min_p = choice(r, 0, 0.0001f, 0.5f);
  p.xtc_probability = choice(r, 0, 0.5f, 1.0f);
  p.xtc_threshold = (float)uniform(r) * 0.2f;
  p.repeat_last_n = (int32_t)(next_random(r) % 40) - 1;
  p.repeat_penalty = choice(r, 1, 0.5f, 2);
  p.frequency_penalty = choice(r, 0, -1, 1);
  p.presence_penalty = choice(r, 0, -1, 1);
  p.n_bias = next_random(r) % 2 ? 0 : (size_t)(n_vocab > 8 ? 5 : 1);
  p.bias = bias;
  for (size_t i = 0; i < p.n_bias; i++) {
    bias[i].id = (int32_t)((size_t)n_vocab / 8 * i + next_random(r) % (size_t)(n_vocab / 8 + 1));
    while (i > 0 && bias[i].id <= bias[i - 1].id) bias[i].id++;
    bias[i].bias = i > 2 ? -INFINITY : 4 * (float)normal(r);
  }
  return p;
}

static void filters_agree_with_the_reference(void **state) {
  (void)state;
  enum { CASES = 3000, DRAWS = 8 };
  static candidate c[32768];
  static float logits[32768];
  uint64_t r = 1;
  long n_single = 0, n_many = 0;
  for (int i = 0; i < CASES; i++) {
    int n_vocab = (int)(1 + next_random(&r) % (i % 100 == 0 ? 20000 : i % 3 ? 100 : 1000));
    double spread = next_random(&r) % 2 ? 1 : 5;
    int grid = next_random(&r) % 3 == 0; /* many ties */
    for (int id = 0; id < n_vocab; id++) {
      logits[id] = (float)(spread * normal(&r));
      if (grid) logits[id] = rintf(logits[id] * 2) / 2;
      if (id > 0 && next_random(&r) % 16 == 0) logits[id] = -INFINITY;
    }
    tandem_logit_bias bias[8];
    tandem_sampling p = random_params(&r, bias, n_vocab);
    if (n_vocab == 1) p.n_bias = 0;
    int32_t history[60];
    for (int j = 0; j < 60; j++) history[j] = (int32_t)(next_random(&r) % (uint64_t)(n_vocab + 1)) - (j % 7 == 0);
    sampler *s = open_sampler(&p, n_vocab);
    for (int j = 0; j < DRAWS; j++) {
      int n, n_history = (int)(next_random(&r) % 61);
      uint64_t index = next_random(&r) >> (next_random(&r) % 64);
      int32_t wanted = reference_draw(&p, logits, n_vocab, history, n_history, index, c, &n);
      int32_t got = draw_id(s, logits, history, n_history, index);
      if (got != wanted) fail_msg("case %d, draw %d: token %d, reference %d of %d candidates", i, j, got, wanted, n);
      n_single += n == 1;
      n_many += n > 5;
    }
    sample_close(s);
  }
  assert_true(n_single < CASES * DRAWS / 2 && n_many > CASES * DRAWS / 4); /* or the cases say little */
}

/* Tokens that occur among draws at many indexes, at a temperature that makes all survivors alike. */
static uint64_t survivors(tandem_sampling p, const float *logits, int32_t n_vocab) {
  uint64_t seen = 0;
  p.temperature = 1e6f;
  sampler *s = open_sampler(&p, n_vocab);
  for (uint64_t index = 0; index < 2000; index++) seen |= (uint64_t)1 << draw_id(s, logits, NULL, 0, index);
  sample_close(s);
  return seen;
}

/* Four equal tokens, then smaller ones: lower ids win at the border. */
static void ties_go_to_lower_ids(void **state) {
  (void)state;
  const float logits[] = {0, 3, 3, 1, 3, 3, 0, 1};
  tandem_sampling p = plain();
  p.top_k = 2;
  assert_int_equal(survivors(p, logits, 8), 0x06);
  p.top_k = 5;
  assert_int_equal(survivors(p, logits, 8), 0x3e);
  p.top_k = 9;
  assert_int_equal(survivors(p, logits, 8), 0xff);
  p = plain();
  p.top_p = 0.4f;
  assert_int_equal(survivors(p, logits, 8), 0x06);
  p = plain();
  p.min_p = 1;
  assert_int_equal(survivors(p, logits, 8), 0x36);
  p = plain();
  p.xtc_probability = 1;
  p.xtc_threshold = 0.2f; /* the last of the four stays */
  assert_int_equal(survivors(p, logits, 8), 0xe9);
  p = plain();
  p.temperature = 0;
  sampler *s = open_sampler(&p, 8);
  assert_int_equal(draw_id(s, logits, NULL, 0, 7), 1);
  sample_close(s);
  assert_int_equal(sample_argmax(logits, 8), 1);
}

/* Sums of equal weights are exact: half of four tokens is two of them, not three. */
static void the_border_is_reached_not_passed(void **state) {
  (void)state;
  const float logits[] = {1, 1, 1, 1};
  tandem_sampling p = plain();
  p.top_p = 0.5f;
  assert_int_equal(survivors(p, logits, 4), 0x3);
  p.top_p = nextafterf(0.5f, 1);
  assert_int_equal(survivors(p, logits, 4), 0x7);
  p = plain();
  p.typical_p = 0.25f;
  assert_int_equal(survivors(p, logits, 4), 0x1);
}

static void no_filter_leaves_nothing(void **state) {
  (void)state;
  const float logits[] = {-FLT_MAX, FLT_MAX, 0, -INFINITY, -1e-40f, FLT_MAX / 2};
  tandem_sampling p = plain();
  p.top_k = 1;
  p.top_p = p.typical_p = FLT_TRUE_MIN;
  p.min_p = p.xtc_probability = 1;
  p.xtc_threshold = 0;
  p.repeat_penalty = FLT_TRUE_MIN;
  p.frequency_penalty = p.presence_penalty = -100;
  p.dry_multiplier = p.dry_base = FLT_MAX;
  const int32_t history[] = {1, 2, 5, 1, 2};
  const float temperatures[] = {0, FLT_TRUE_MIN, 1e-30f, 1e9f, FLT_MAX};
  for (size_t i = 0; i < COUNT_OF(temperatures); i++) {
    for (int off = 0; off < 2; off++) {
      p.temperature = temperatures[i];
      sampler *s = open_sampler(&p, 6);
      for (uint64_t index = 0; index < 50; index++) {
        int32_t id = draw_id(s, logits, history, 5, index);
        assert_in_range(id, 0, 5);
        assert_int_not_equal(id, 3);
      }
      sample_close(s);
      p.top_k = 0;
      p.top_p = p.typical_p = 1;
    }
  }
}

static void bans_hold(void **state) {
  (void)state;
  float logits[300];
  tandem_logit_bias bias[299];
  for (int i = 0; i < 300; i++) logits[i] = (float)(i % 7);
  for (int i = 0; i < 299; i++) bias[i] = (tandem_logit_bias){i < 250 ? i : i + 1, -INFINITY};
  tandem_sampling p = plain();
  p.bias = bias;
  p.n_bias = 150;
  sampler *s = open_sampler(&p, 300);
  for (uint64_t index = 0; index < 10000; index++) assert_true(draw_id(s, logits, NULL, 0, index) >= 150);
  sample_close(s);
  p.n_bias = 299; /* one is left, however unlikely */
  logits[250] = -FLT_MAX;
  s = open_sampler(&p, 300);
  for (uint64_t index = 0; index < 100; index++) assert_int_equal(draw_id(s, logits, NULL, 0, index), 250);
  logits[250] = -INFINITY;
  int32_t id;
  error err = {0};
  assert_int_equal(sample_draw(s, logits, NULL, 0, 0, &id, &err), TANDEM_ERROR_NONFINITE);
  assert_non_null(strstr(err.text, "bias"));
  sample_close(s);
}

static void history_outside_the_vocabulary_is_ignored(void **state) {
  (void)state;
  const float logits[] = {1, 2, 3};
  const int32_t history[] = {-1, 2, 3, INT32_MAX, INT32_MIN, 2};
  tandem_sampling p = plain();
  p.temperature = 0;
  p.presence_penalty = 1.5f;
  p.repeat_last_n = -1;
  p.dry_multiplier = 1;
  sampler *s = open_sampler(&p, 3);
  assert_int_equal(draw_id(s, logits, history, 6, 6), 1);
  assert_int_equal(draw_id(s, logits, history, 0, 6), 2);
  assert_int_equal(draw_id(s, logits, history, 1, 6), 2);
  int32_t id;
  assert_int_equal(sample_draw(s, logits, history, -1, 0, &id, NULL), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(sample_draw(s, logits, NULL, 1, 0, &id, NULL), TANDEM_ERROR_ARGUMENT);
  sample_close(s);
}

static void what_is_not_finite_is_refused(void **state) {
  (void)state;
  float logits[100];
  tandem_sampling p = plain();
  for (int mode = 0; mode < 3; mode++) {
    p.temperature = mode == 0 ? 0 : 1;
    p.presence_penalty = mode == 2;
    sampler *s = open_sampler(&p, 100);
    for (int at = 0; at < 100; at++) {
      for (int kind = 0; kind < 3; kind++) {
        for (int i = 0; i < 100; i++) logits[i] = kind < 2 ? (float)i : -INFINITY;
        if (kind < 2) logits[at] = logits[99] = kind ? INFINITY : NAN;
        int32_t id = 5;
        error err = {0};
        char name[16];
        snprintf(name, sizeof name, "id %d ", kind < 2 ? at : 0);
        assert_int_equal(sample_draw(s, logits, NULL, 0, 0, &id, &err), TANDEM_ERROR_NONFINITE);
        assert_int_equal(id, -1);
        assert_non_null(strstr(err.text, kind < 2 ? name : "id 0 "));
        assert_int_equal(sample_argmax(logits, 100), -1);
      }
    }
    sample_close(s);
  }
}

/* ---- the draw ----------------------------------------------------------------------------------------------------- */

/* Is the chi-square statistic of these counts more likely than 1e-4? Rare outcomes are counted together. Wilson and
 * Hilferty: its cube root is nearly normal. */
static bool plausible(const double *expected, const int *seen, int n) {
  double sum = 0, rest = 0;
  int rest_seen = 0, freedom = -1;
  for (int i = 0; i < n; i++) {
    if (expected[i] < 5) {
      rest += expected[i];
      rest_seen += seen[i];
      continue;
    }
    sum += (seen[i] - expected[i]) * (seen[i] - expected[i]) / expected[i];
    freedom++;
  }
  if (rest > 0) {
    sum += (rest_seen - rest) * (rest_seen - rest) / rest;
    freedom++;
  }
  double v = 2.0 / (9 * freedom), z = (cbrt(sum / freedom) - (1 - v)) / sqrt(v);
  if (z >= 3.719) print_message("chi-square %g with %d degrees of freedom\n", sum, freedom);
  return z < 3.719;
}

static void draws_have_the_exact_distribution(void **state) {
  (void)state;
  enum { N_VOCAB = 200, DRAWS = 100000 };
  static const float temperatures[] = {0.3f, 1, 2};
  uint64_t r = 11;
  float logits[N_VOCAB];
  for (int i = 0; i < N_VOCAB; i++) logits[i] = (float)(2 * normal(&r));
  for (int i = 0; i < 6; i++) {
    tandem_sampling p = plain();
    candidate c[N_VOCAB];
    double expected[N_VOCAB] = {0};
    int n, seen[N_VOCAB] = {0};
    p.seed = 77 + (uint64_t)i;
    p.temperature = temperatures[i % 3];
    if (i >= 3) {
      p.top_k = 50;
      p.top_p = 0.9f;
      p.min_p = 0.02f;
    }
    reference_draw(&p, logits, N_VOCAB, NULL, 0, 0, c, &n);
    for (int j = 0; j < n; j++) expected[c[j].id] = c[j].p * DRAWS;
    sampler *s = open_sampler(&p, N_VOCAB);
    for (uint64_t index = 0; index < DRAWS; index++) seen[draw_id(s, logits, NULL, 0, index)]++;
    sample_close(s);
    for (int id = 0; id < N_VOCAB; id++)
      if (expected[id] == 0) assert_int_equal(seen[id], 0);
    assert_true(plausible(expected, seen, N_VOCAB));
  }
}

static void neighbours_are_independent(void **state) {
  (void)state;
  enum { N = 5, DRAWS = 100000 };
  const float logits[N] = {0, 0.5f, 1, -0.5f, 0.2f};
  for (int way = 0; way < 2; way++) { /* neighbouring positions, neighbouring seeds */
    double expected[N * N], p[N], sum = 0;
    int seen[N * N] = {0};
    for (int i = 0; i < N; i++) sum += p[i] = exp(logits[i]);
    for (int i = 0; i < N * N; i++) expected[i] = p[i / N] * p[i % N] / (sum * sum) * DRAWS;
    tandem_sampling a = plain(), b = plain();
    a.seed = 5;
    b.seed = way == 0 ? 5 : 6;
    sampler *s = open_sampler(&a, N), *t = open_sampler(&b, N);
    for (uint64_t i = 0; i < DRAWS; i++) {
      uint64_t index = 2 * i;
      seen[draw_id(s, logits, NULL, 0, index) * N + draw_id(t, logits, NULL, 0, index + (way == 0))]++;
    }
    sample_close(s);
    sample_close(t);
    assert_true(plausible(expected, seen, N * N));
  }
}

/* The same at a position whatever was drawn before, in whatever order; another at another position or seed. */
static void a_draw_is_a_pure_function(void **state) {
  (void)state;
  enum { N_VOCAB = 500, N = 200 };
  float logits[N_VOCAB];
  int32_t first[N], history[N];
  uint64_t r = 21;
  tandem_sampling p = plain();
  p.top_k = 100;
  p.typical_p = 0.9f;
  p.xtc_probability = 0.5f;
  p.repeat_penalty = 1.1f;
  p.dry_multiplier = 0.8f;
  for (int i = 0; i < N_VOCAB; i++) logits[i] = (float)normal(&r);
  for (int i = 0; i < N; i++) history[i] = (int32_t)(next_random(&r) % 4);
  sampler *s = open_sampler(&p, N_VOCAB), *t = open_sampler(&p, N_VOCAB);
  p.seed = 1;
  sampler *other = open_sampler(&p, N_VOCAB);
  uint64_t before = base_alloc_count();
  int n_same_seed = 0, n_neighbour = 0;
  for (int i = 0; i < N; i++) first[i] = draw_id(s, logits, history, i, (uint64_t)i);
  for (int i = N - 1; i >= 0; i--) {
    assert_int_equal(draw_id(s, logits, history, i, (uint64_t)i), first[i]);
    assert_int_equal(draw_id(i % 2 ? s : t, logits, history, i, (uint64_t)i), first[i]);
    n_same_seed += draw_id(other, logits, history, i, (uint64_t)i) == first[i];
    n_neighbour += draw_id(s, logits, history, i, (uint64_t)i + N) == first[i];
  }
  assert_true(n_same_seed < N / 4 && n_neighbour < N / 4);
  assert_int_equal(base_alloc_count() - before, 0);
  sample_close(s);
  sample_close(t);
  sample_close(other);
}

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

/* The known answers published with the generator (Random123, kat_vectors). */
static void philox_gives_the_known_answers(void **state) {
  (void)state;
  static const struct {
    uint32_t counter[4], key[2], words[4];
  } known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < COUNT_OF(known); i++) {
    uint32_t words[4];
    sample_philox(known[i].key, known[i].counter, words);
    assert_memory_equal(words, known[i].words, sizeof words);
  }
  uint32_t run[4][SAMPLE_LANES], key[2] = {3, 4}, counter[4] = {5, 6, 7, UINT32_MAX - 9}; /* many at once, as one by one */
  sample_philox_run(key, counter, run);
  for (int i = 0; i < SAMPLE_LANES; i++, counter[3]++) {
    uint32_t words[4];
    sample_philox(key, counter, words);
    for (int j = 0; j < 4; j++) assert_int_equal(run[j][i], words[j]);
  }
  /* Seed and index lie low word first; two ids share a block. */
  uint64_t x = (uint64_t)0xe169c58d << 32 | 0x6627e8d5, y = (uint64_t)0x9b00dbd8 << 32 | 0xbc57ac4c;
  assert_true(sample_uniform(0, 0, 0, 0, 0) == ((double)(x >> 11) + 0.5) * 0x1p-53);
  assert_true(sample_uniform(0, 0, 0, 0, 1) == ((double)(y >> 11) + 0.5) * 0x1p-53);
  assert_true(sample_uniform(0x299f31d0a4093822u, 0x85a308d3243f6a88u, 0x13, 0x198a2e, 2 * 0x03707344u) ==
              sample_unit(0xd16cfe09, 0x94fdcceb));
}

static void uniforms_stay_inside(void **state) {
  (void)state;
  assert_true(sample_unit(0, 0) == 0x1p-54);
  assert_true(sample_unit(~0u, ~0u) == 1 - 0x1p-53);
  assert_true(sample_unit(0, 0x80000000u) == 0.5 + 0x1p-54 || sample_unit(0, 0x80000000u) == 0.5);
}

/* Distance from the long double result in units of the last place of the double. */
static double ulps(double got, long double exact) {
  double near = (double)exact, unit = nextafter(fabs(near), INFINITY) - fabs(near);
  return (double)(fabsl(got - exact) / unit);
}

static double own_exp(double x) {
  double y;
  sample_exps(&x, 1, 0, &y);
  return y;
}

static void own_functions_are_accurate(void **state) {
  (void)state;
  uint64_t r = 31, hash = 14695981039346656037u;
  double worst_log = 0, worst_exp = 0;
  for (int i = 0; i < 400000; i++) {
    double u = uniform(&r), x = i % 4 == 0   ? u
                                : i % 4 == 1 ? 1 + 0.6 * (u - 0.5)
                                : i % 4 == 2 ? ldexp(u, (int)(next_random(&r) % 2090) - 1060)
                                             : -logl(u);
    double y = i % 2 ? 708 * (u - 1) : 100 * (u - 0.5), l = sample_log(x), e = own_exp(y);
    worst_log = fmax(worst_log, ulps(l, logl(x)));
    worst_exp = fmax(worst_exp, ulps(e, expl(y)));
    if (i % 4 == 0) { /* x and y here come from no library function */
      uint64_t bits[2];
      memcpy(&bits[0], &l, 8);
      memcpy(&bits[1], &e, 8);
      hash = (hash ^ bits[0]) * 1099511628211u;
      hash = (hash ^ bits[1]) * 1099511628211u;
    }
  }
  if (!(worst_log < 1 && worst_exp < 1)) fail_msg("log %g, exp %g units in the last place", worst_log, worst_exp);
  if (hash != 0x1fe83ecde1f0e92eu) fail_msg("other bits than recorded: hash %016llx", (unsigned long long)hash);
  assert_true(sample_log(1) == 0);
  assert_true(sample_log(0) == -INFINITY && sample_log(INFINITY) == INFINITY && isnan(sample_log(-1)) &&
              isnan(sample_log(NAN)));
  assert_true(own_exp(0) == 1 && own_exp(-0.0) == 1 && own_exp(-1e300) == own_exp(-708) && own_exp(-708) > 0);
  double many[7] = {-1, -2, -3, 0, -5, -700, 3}, y[7]; /* several at once are as one */
  sample_exps(many, 7, 0.5, y);
  for (int i = 0; i < 7; i++) assert_true(y[i] == own_exp(many[i] - 0.5));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(filters_agree_with_the_reference),
      cmocka_unit_test(ties_go_to_lower_ids),
      cmocka_unit_test(the_border_is_reached_not_passed),
      cmocka_unit_test(no_filter_leaves_nothing),
      cmocka_unit_test(bans_hold),
      cmocka_unit_test(history_outside_the_vocabulary_is_ignored),
      cmocka_unit_test(what_is_not_finite_is_refused),
      cmocka_unit_test(draws_have_the_exact_distribution),
      cmocka_unit_test(neighbours_are_independent),
      cmocka_unit_test(a_draw_is_a_pure_function),
      cmocka_unit_test(philox_gives_the_known_answers),
      cmocka_unit_test(uniforms_stay_inside),
      cmocka_unit_test(own_functions_are_accurate),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
