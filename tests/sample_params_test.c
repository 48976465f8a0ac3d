/* sample: what every parameter may be, and whose memory it is. */
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

#define FIELD(name) #name, offsetof(tandem_sampling, name)

static void parameters_end_at_their_limits(void **state) {
  (void)state;
  const struct {
    const char *name;
    size_t offset;
    bool is_float;
    double good[2], bad[2]; /* the limits and the next values outside */
    const char *low, *high; /* as they are named */
  } rows[] = {
      {FIELD(temperature), true, {0, FLT_MAX}, {-FLT_TRUE_MIN, INFINITY}, "least 0", "most 3.40282347e+38"},
      {FIELD(top_p), true, {FLT_TRUE_MIN, 1}, {0, nextafterf(1, 2)}, "above 0", "most 1"},
      {FIELD(min_p), true, {0, 1}, {-FLT_TRUE_MIN, nextafterf(1, 2)}, "least 0", "most 1"},
      {FIELD(typical_p), true, {FLT_TRUE_MIN, 1}, {0, nextafterf(1, 2)}, "above 0", "most 1"},
      {FIELD(xtc_probability), true, {0, 1}, {-FLT_TRUE_MIN, nextafterf(1, 2)}, "least 0", "most 1"},
      {FIELD(xtc_threshold), true, {0, 1}, {-FLT_TRUE_MIN, nextafterf(1, 2)}, "least 0", "most 1"},
      {FIELD(repeat_penalty), true, {FLT_TRUE_MIN, FLT_MAX}, {0, INFINITY}, "above 0", "most 3.40282347e+38"},
      {FIELD(frequency_penalty), true, {-100, 100}, {nextafterf(-100, -200), nextafterf(100, 200)}, "least -100", "most 100"},
      {FIELD(presence_penalty), true, {-100, 100}, {nextafterf(-100, -200), nextafterf(100, 200)}, "least -100", "most 100"},
      {FIELD(dry_multiplier), true, {0, FLT_MAX}, {-FLT_TRUE_MIN, INFINITY}, "least 0", "most 3.40282347e+38"},
      {FIELD(dry_base), true, {1, FLT_MAX}, {nextafterf(1, 0), INFINITY}, "least 1", "most 3.40282347e+38"},
      {FIELD(top_k), false, {0, INT32_MAX}, {-1, INT32_MIN}, "least 0", "most 2147483647"},
      {FIELD(repeat_last_n), false, {-1, INT32_MAX}, {-2, INT32_MIN}, "least -1", "most 2147483647"},
      {FIELD(dry_allowed_length), false, {0, INT32_MAX}, {-1, INT32_MIN}, "least 0", "most 2147483647"},
      {FIELD(dry_last_n), false, {-1, INT32_MAX}, {-2, INT32_MIN}, "least -1", "most 2147483647"},
  };
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    for (int j = 0; j < 5; j++) {
      tandem_sampling p = plain();
      bool good = j < 2;
      if (j == 4 && !rows[i].is_float) continue;
      double value = good ? rows[i].good[j] : j < 4 ? rows[i].bad[j - 2] : NAN;
      float f = (float)value;
      int32_t n = rows[i].is_float ? 0 : (int32_t)value;
      memcpy((char *)&p + rows[i].offset, rows[i].is_float ? (void *)&f : (void *)&n, 4);
      error err = {0};
      sampler *s = (sampler *)(uintptr_t)1;
      assert_int_equal(sample_open(&s, &p, 10, NULL, &err), good ? TANDEM_OK : TANDEM_ERROR_ARGUMENT);
      if (good) {
        sample_close(s);
        continue;
      }
      char shown[32];
      snprintf(shown, sizeof shown, ": %.9g is", rows[i].is_float ? value : n);
      assert_null(s);
      assert_string_equal(err.field, rows[i].name);
      assert_non_null(strstr(err.text, rows[i].low));
      assert_non_null(strstr(err.text, rows[i].high));
      if (rows[i].is_float) assert_non_null(strstr(err.text, shown));
    }
  }
}

static void expect_refusal(const tandem_sampling *p, const char *field, const char *value, const char *limit) {
  error err = {0};
  sampler *s;
  assert_int_equal(sample_open(&s, p, 10, NULL, &err), TANDEM_ERROR_ARGUMENT);
  assert_null(s);
  assert_string_equal(err.field, field);
  if (!strstr(err.text, value) || !strstr(err.text, limit)) fail_msg("%s: no %s and %s", err.text, value, limit);
}

static void lists_are_checked(void **state) {
  (void)state;
  char word[SAMPLE_MAX_BREAKER_BYTES + 2];
  const char *breakers[SAMPLE_MAX_BREAKERS + 1];
  memset(word, 'x', sizeof word);
  word[SAMPLE_MAX_BREAKER_BYTES + 1] = 0;
  for (int i = 0; i <= SAMPLE_MAX_BREAKERS; i++) breakers[i] = word + 1;
  tandem_sampling p = plain();
  p.dry_multiplier = 1;
  p.dry_breakers = breakers;
  p.n_dry_breakers = SAMPLE_MAX_BREAKERS;
  sample_close(open_sampler(&p, 10));
  p.n_dry_breakers++;
  expect_refusal(&p, "n_dry_breakers", "65", "64");
  p.n_dry_breakers = 3;
  breakers[1] = word;
  expect_refusal(&p, "dry_breakers", "257", "256");
  breakers[1] = "";
  expect_refusal(&p, "dry_breakers", "[1]", "0 bytes");
  breakers[1] = NULL;
  expect_refusal(&p, "dry_breakers", "[1]", "NULL");
  p.dry_breakers = NULL;
  expect_refusal(&p, "dry_breakers", "NULL", "3");

  static tandem_logit_bias bias[SAMPLE_MAX_BIAS + 1];
  for (int i = 0; i <= SAMPLE_MAX_BIAS; i++) bias[i].id = i;
  p = plain();
  p.bias = bias;
  p.n_bias = SAMPLE_MAX_BIAS;
  sample_close(open_sampler(&p, SAMPLE_MAX_BIAS));
  p.n_bias++;
  expect_refusal(&p, "n_bias", "4097", "4096");
  p.n_bias = 11;
  expect_refusal(&p, "bias", "id 10", "0 .. 9");
  p.n_bias = 3;
  bias[2].id = -1;
  expect_refusal(&p, "bias", "id -1", "0 .. 9");
  bias[2].id = 1;
  expect_refusal(&p, "bias", "bias[2]", "bias[1]");
  bias[2] = (tandem_logit_bias){2, NAN};
  expect_refusal(&p, "bias", "nan", "id 2");
  bias[2].bias = INFINITY;
  expect_refusal(&p, "bias", "inf", "id 2");
  p.n_bias = 10;
  for (int i = 0; i < 10; i++) bias[i] = (tandem_logit_bias){i, -INFINITY};
  expect_refusal(&p, "bias", "10", "one must be left");
  p.bias = NULL;
  expect_refusal(&p, "bias", "NULL", "10");
  p = plain();
  p.size = 8;
  expect_refusal(&p, "size", "8", "must be");
  sampler *s;
  p = plain();
  assert_int_equal(sample_open(&s, &p, 0, NULL, NULL), TANDEM_ERROR_ARGUMENT);
}

static void a_sampler_owns_its_parameters(void **state) {
  (void)state;
  tandem_sampling p = plain();
  tandem_logit_bias bias[] = {{3, -INFINITY}, {1, 2}};
  char word[] = "stop";
  const char *breakers[] = {word, ":"};
  p.bias = bias;
  p.n_bias = 2;
  p.dry_breakers = breakers;
  p.n_dry_breakers = 2;
  sampler *s = open_sampler(&p, 5);
  memset(bias, 0, sizeof bias);
  word[0] = 'x';
  breakers[1] = NULL;
  const tandem_sampling *own = sample_params(s);
  assert_int_equal(own->bias[1].id, 1);
  assert_true(own->bias[0].bias == -INFINITY);
  assert_string_equal(own->dry_breakers[0], "stop");
  assert_string_equal(own->dry_breakers[1], ":");
  sampler *again = open_sampler(own, 5); /* good enough to open another */
  sample_close(s);
  const float logits[] = {0, 0, 0, 9, 0};
  for (uint64_t i = 0; i < 100; i++) assert_int_not_equal(draw_id(again, logits, NULL, 0, i), 3);
  sample_close(again);
}

static void defaults_are_as_documented(void **state) {
  (void)state;
  tandem_sampling p;
  memset(&p, 0xff, sizeof p);
  tandem_sampling_init(&p);
  tandem_sampling_init(NULL);
  assert_int_equal(p.size, sizeof p);
  assert_int_equal(p.seed, 0);
  assert_true(p.temperature == 0.8f && p.top_k == 40 && p.top_p == 0.95f && p.min_p == 0.05f && p.typical_p == 1);
  assert_true(p.xtc_probability == 0 && p.xtc_threshold == 0.1f && p.repeat_last_n == 64 && p.repeat_penalty == 1);
  assert_true(p.frequency_penalty == 0 && p.presence_penalty == 0 && p.dry_multiplier == 0 && p.dry_base == 1.75f);
  assert_true(p.dry_allowed_length == 2 && p.dry_last_n == 64 && p.n_bias == 0 && p.bias == NULL);
  assert_int_equal(p.n_dry_breakers, 4);
  assert_string_equal(p.dry_breakers[0], "\n");
  assert_string_equal(p.dry_breakers[3], "*");
  sample_close(open_sampler(&p, 1));
  sampler *s; /* none given: greedy */
  assert_int_equal(sample_open(&s, NULL, 3, NULL, NULL), TANDEM_OK);
  assert_true(sample_params(s)->temperature == 0);
  const float logits[] = {1, 3, 2};
  for (uint64_t i = 0; i < 100; i++) assert_int_equal(draw_id(s, logits, NULL, 0, i), 1);
  sample_close(s);
  sample_close(NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(parameters_end_at_their_limits),
      cmocka_unit_test(lists_are_checked),
      cmocka_unit_test(a_sampler_owns_its_parameters),
      cmocka_unit_test(defaults_are_as_documented),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
