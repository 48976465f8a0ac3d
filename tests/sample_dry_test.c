/* sample: DRY against a reference that tries every place and every length, breakers searched in the text. */
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

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
static double uniform(uint64_t *state) { return ((double)(next_random(state) >> 11) + 0.5) * 0x1p-53; }

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

static const char *const spellings[] = {"a", "b", "c", "ab", "U", "se", "r", ":", "x\n", "r:", "\xc3", "\xa9", "", "dd"};
enum { SPELLINGS = COUNT_OF(spellings) };

typedef struct vocabulary {
  gguf_writer *w;
  gguf *g;
  tokenizer *t;
} vocabulary;

static vocabulary open_vocabulary(void) {
  vocabulary v;
  gguf_string tokens[SPELLINGS];
  float scores[SPELLINGS] = {0};
  int32_t types[SPELLINGS];
  const uint8_t *bytes;
  size_t n;
  error err = {0};
  for (int i = 0; i < SPELLINGS; i++) {
    tokens[i] = (gguf_string){spellings[i], strlen(spellings[i])};
    types[i] = TOKEN_USER;
  }
  assert_int_equal(gguf_writer_open(&v.w, NULL), TANDEM_OK);
  gguf_write_string(v.w, "tokenizer.ggml.model", "llama", 5);
  gguf_write_strings(v.w, "tokenizer.ggml.tokens", tokens, SPELLINGS);
  gguf_write_array(v.w, "tokenizer.ggml.scores", GGUF_F32, scores, SPELLINGS);
  gguf_write_array(v.w, "tokenizer.ggml.token_type", GGUF_I32, types, SPELLINGS);
  if (gguf_writer_bytes(v.w, &bytes, &n, &err) || gguf_open_memory(&v.g, bytes, n, &err) || token_open(&v.t, v.g, &err))
    fail_msg("%s", err.text);
  assert_non_null(v.t);
  for (int i = 0; i < SPELLINGS; i++) {
    char out[8];
    assert_int_equal(token_bytes(v.t, i, true, out, sizeof out), strlen(spellings[i]));
    assert_memory_equal(out, spellings[i], strlen(spellings[i]));
  }
  return v;
}

static void close_vocabulary(vocabulary *v) {
  token_close(v->t);
  gguf_close(v->g);
  gguf_writer_close(v->w);
}

static bool ends_here(const char *spelled, size_t n, const char *breaker) {
  size_t m = strlen(breaker);
  return m <= n && memcmp(spelled + n - m, breaker, m) == 0;
}

/* Does a breaker end in the last `within` bytes of the text? */
static bool has_breaker(const tandem_sampling *p, const char *spelled, size_t n, size_t within) {
  for (size_t end = n - within + 1; end <= n; end++)
    for (size_t i = 0; i < p->n_dry_breakers; i++)
      if (ends_here(spelled, end, p->dry_breakers[i])) return true;
  return false;
}

/* Subtracts the penalties from x, by trying every place and every length. */
static void reference_dry(const tandem_sampling *p, const int32_t *history, int n_history, double *x) {
  static char spelled[20000];
  size_t n_text = 0;
  int n = p->dry_last_n < 0 || p->dry_last_n > n_history ? n_history : p->dry_last_n;
  const int32_t *w = history + n_history - n;
  int limit = 0, longest[SPELLINGS] = {0};
  for (int i = 0; i < n; i++) {
    size_t length = strlen(spellings[w[i]]);
    memcpy(spelled + n_text, spellings[w[i]], length);
    n_text += length;
    limit = has_breaker(p, spelled, n_text, length) ? 0 : limit + 1;
  }
  for (int i = 0; i + 1 < n; i++) { /* w[i] would be the last token again */
    int m = 0;
    while (m <= i && m < limit && w[i - m] == w[n - 1 - m]) m++;
    if (m > longest[w[i + 1]]) longest[w[i + 1]] = m;
  }
  for (int id = 0; id < SPELLINGS; id++) {
    size_t length = strlen(spellings[id]);
    if (longest[id] < 1 || longest[id] < p->dry_allowed_length) continue;
    if (has_breaker(p, spellings[id], length, length)) continue;
    double penalty = p->dry_multiplier * pow(p->dry_base, longest[id] - p->dry_allowed_length);
    x[id] -= penalty < FLT_MAX ? penalty : FLT_MAX;
  }
}

static void dry_agrees_with_the_reference(void **state) {
  (void)state;
  static const char *const sets[][4] = {{"\n", ":"}, {"User:", "ab"}, {"c\xc3\xa9", "bb", "dab", "r:U"}, {"zz"}, {"ser", "e"}};
  static const size_t sizes[] = {2, 2, 4, 1, 2};
  vocabulary v = open_vocabulary();
  uint64_t r = 3;
  static int32_t history[3000];
  int n_penalties = 0;
  for (int i = 0; i < 1500; i++) {
    tandem_sampling p = plain();
    p.dry_multiplier = 0.1f + (float)uniform(&r);
    p.dry_base = 1 + (float)(next_random(&r) % 3) / 2;
    p.dry_allowed_length = (int32_t)(next_random(&r) % 4);
    p.dry_last_n = (int32_t)(next_random(&r) % 5 ? next_random(&r) % 100 : next_random(&r) % 3000) - 1;
    p.dry_breakers = sets[i % 5];
    p.n_dry_breakers = i % 11 == 0 ? 0 : sizes[i % 5];
    if (p.dry_last_n == 0) p.dry_last_n = 1;
    int n_history = (int)(next_random(&r) % (i % 50 == 0 ? 3000 : 200)), kinds = 1 + (int)(next_random(&r) % SPELLINGS);
    int period = 1 + (int)(next_random(&r) % 30), quiet = next_random(&r) % 2; /* few breakers, long repetitions */
    for (int j = 0; j < n_history; j++) {
      history[j] = (int32_t)(next_random(&r) % (uint64_t)kinds);
      if (quiet && j >= period && next_random(&r) % 64) history[j] = history[j - period];
    }
    float logits[SPELLINGS] = {0};
    double wanted[SPELLINGS] = {0};
    int32_t scratch[SPELLINGS] = {0};
    sample_dry *d;
    assert_int_equal(sample_dry_open(&d, &p, v.t, NULL), TANDEM_OK);
    sample_dry_apply(d, history, n_history, SPELLINGS, scratch, logits);
    sample_dry_close(d);
    reference_dry(&p, history, n_history, wanted);
    for (int id = 0; id < SPELLINGS; id++) {
      if (!(fabs(logits[id] - wanted[id]) <= 1e-6 * fabs(wanted[id])))
        fail_msg("case %d, token %d: %g, reference %g", i, id, (double)logits[id], wanted[id]);
      assert_int_equal(scratch[id], 0);
      n_penalties += wanted[id] != 0;
    }
  }
  assert_true(n_penalties > 1000);
  close_vocabulary(&v);
}

static void dry_works_through_the_chain(void **state) {
  (void)state;
  vocabulary v = open_vocabulary();
  tandem_sampling p = plain();
  const int32_t history[] = {0, 1, 2, 0, 1}, broken[] = {0, 1, 2, 7, 0, 1}; /* a b c a b; the same behind a colon */
  float logits[SPELLINGS] = {0};
  sampler *s;
  int32_t id;
  logits[2] = 1.5f;
  logits[5] = 1;
  p.temperature = 0;
  p.dry_multiplier = 1;
  assert_int_equal(sample_open(&s, &p, SPELLINGS, v.t, NULL), TANDEM_OK);
  assert_int_equal(draw_id(s, logits, history, 5, 5), 5);
  assert_int_equal(draw_id(s, logits, history, 4, 4), 2); /* one token is allowed to repeat */
  assert_int_equal(draw_id(s, logits, broken, 6, 6), 5);
  assert_int_equal(draw_id(s, logits, broken + 1, 3, 3), 2); /* b c : */
  sample_close(s);
  p.dry_allowed_length = 3;
  assert_int_equal(sample_open(&s, &p, SPELLINGS, NULL, NULL), TANDEM_OK); /* without text there are no breakers */
  assert_int_equal(sample_draw(s, logits, history, 5, 5, &id, NULL), TANDEM_OK);
  assert_int_equal(id, 2);
  sample_close(s);
  close_vocabulary(&v);
}

/* A text that repeats after many tokens, with one breaker of four tokens a good way from its end, and a shorter one inside
 * it: where the search for the last breaker begins must not matter. */
static void a_breaker_far_back_is_found(void **state) {
  (void)state;
  static const char *const breakers[] = {"User:", "s"};
  static const int32_t user[] = {4, 5, 6, 7}, quiet[] = {0, 1, 2, 3, 13};
  vocabulary v = open_vocabulary();
  uint64_t r = 4;
  static int32_t history[3000];
  int n_limited = 0;
  for (int i = 0; i < 300; i++) {
    tandem_sampling p = plain();
    int distance = (int)(next_random(&r) % 3 ? 58 + next_random(&r) % 8 : next_random(&r) % 900);
    int period = distance + 4 + (int)(next_random(&r) % 200), n = 2 * period + (int)(next_random(&r) % 200);
    p.dry_multiplier = 1;
    p.dry_base = 1.01f;
    p.dry_last_n = -1;
    p.dry_breakers = breakers;
    p.n_dry_breakers = 2;
    for (int j = n - 1; j >= 0; j--) {
      int back = n - 1 - j;
      history[j] = back >= period                            ? history[j + period]
                   : back >= distance && back < distance + 4 ? user[3 - (back - distance)]
                                                             : quiet[next_random(&r) % 5];
    }
    float logits[SPELLINGS] = {0};
    double wanted[SPELLINGS] = {0};
    int32_t scratch[SPELLINGS] = {0};
    sample_dry *d;
    assert_int_equal(sample_dry_open(&d, &p, v.t, NULL), TANDEM_OK);
    sample_dry_apply(d, history, n, SPELLINGS, scratch, logits);
    sample_dry_close(d);
    reference_dry(&p, history, n, wanted);
    for (int id = 0; id < SPELLINGS; id++) {
      if (!(fabs(logits[id] - wanted[id]) <= 1e-6 * fabs(wanted[id])))
        fail_msg("case %d, %d behind the breaker, token %d: %g, reference %g", i, distance, id, (double)logits[id], wanted[id]);
      n_limited += distance > 2 && fabs(wanted[id] + pow(1.01f, distance - 2)) < 1e-6;
    }
  }
  assert_true(n_limited > 100); /* repetitions that only the breaker ends */
  close_vocabulary(&v);
}

/* The window of "all" is bounded: what lies further back has no effect, and nothing is read out of bounds. */
static void dry_looks_at_a_bounded_window(void **state) {
  (void)state;
  enum { N = SAMPLE_MAX_DRY + 10 };
  int32_t *history = malloc(N * sizeof *history);
  assert_non_null(history);
  tandem_sampling p = plain();
  p.temperature = 0;
  p.dry_multiplier = 1;
  p.dry_last_n = -1;
  p.dry_allowed_length = 1;
  const float logits[] = {1.0f, 0.5f, -1};
  for (int i = 0; i < N; i++) history[i] = 2;
  history[N - 1] = 1;
  sampler *s = open_sampler(&p, 3);
  history[N - SAMPLE_MAX_DRY] = 1;
  history[N - SAMPLE_MAX_DRY + 1] = 0; /* 1, then 0: just inside */
  assert_int_equal(draw_id(s, logits, history, N, N), 1);
  history[N - SAMPLE_MAX_DRY] = 2;
  history[N - SAMPLE_MAX_DRY - 1] = 1;
  history[N - SAMPLE_MAX_DRY] = 0; /* just outside */
  history[N - SAMPLE_MAX_DRY + 1] = 2;
  assert_int_equal(draw_id(s, logits, history, N, N), 0);
  sample_close(s);
  free(history);
}

static void failed_allocations_leave_nothing(void **state) {
  (void)state;
  vocabulary v = open_vocabulary();
  tandem_sampling p = plain();
  p.dry_multiplier = 1;
  p.repeat_penalty = 2;
  sampler *s;
  uint64_t before = base_alloc_count();
  assert_int_equal(sample_open(&s, &p, SPELLINGS, v.t, NULL), TANDEM_OK);
  uint64_t n = base_alloc_count() - before;
  sample_close(s);
  assert_true(n >= 2);
  for (uint64_t i = 1; i <= n; i++) {
    error err = {0};
    base_fault_arm(FAULT_MEMORY, i, false);
    status st = sample_open(&s, &p, SPELLINGS, v.t, &err);
    base_fault_arm(FAULT_MEMORY, 0, false);
    assert_int_equal(st, TANDEM_ERROR_MEMORY);
    assert_null(s);
    assert_true(err.text[0] != 0);
  }
  close_vocabulary(&v);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(dry_agrees_with_the_reference),    cmocka_unit_test(a_breaker_far_back_is_found),
      cmocka_unit_test(dry_works_through_the_chain),      cmocka_unit_test(dry_looks_at_a_bounded_window),
      cmocka_unit_test(failed_allocations_leave_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
