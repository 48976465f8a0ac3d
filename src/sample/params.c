/* params: the sampling parameters: their defaults, and one table of what each may be.
 *
 * NaN is outside every range. Owns nothing, does not know what a parameter does. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "sample/sample.h"

static const char *const default_breakers[] = {"\n", ":", "\"", "*"};

void tandem_sampling_init(tandem_sampling *sampling) {
  if (!sampling) return;
  *sampling = (tandem_sampling){
      .size = sizeof(tandem_sampling),
      .temperature = 0.8f,
      .top_k = 40,
      .top_p = 0.95f,
      .min_p = 0.05f,
      .typical_p = 1,
      .xtc_threshold = 0.1f,
      .repeat_last_n = 64,
      .repeat_penalty = 1,
      .dry_base = 1.75f,
      .dry_allowed_length = 2,
      .dry_last_n = 64,
      .dry_breakers = default_breakers,
      .n_dry_breakers = COUNT_OF(default_breakers),
  };
}

typedef enum kind { FLOAT, INT, COUNT } kind;

typedef struct parameter {
  const char *name;
  size_t offset;
  kind kind;
  double min, max;
  bool above; /* min itself is not allowed */
} parameter;

#define ROW(field, kind, min, max, above)                                                                                      \
  { #field, offsetof(tandem_sampling, field), kind, min, max, above }

static const parameter parameters[] = {
    ROW(temperature, FLOAT, 0, FLT_MAX, false),
    ROW(top_k, INT, 0, INT32_MAX, false),
    ROW(top_p, FLOAT, 0, 1, true),
    ROW(min_p, FLOAT, 0, 1, false),
    ROW(typical_p, FLOAT, 0, 1, true),
    ROW(xtc_probability, FLOAT, 0, 1, false),
    ROW(xtc_threshold, FLOAT, 0, 1, false),
    ROW(repeat_last_n, INT, -1, INT32_MAX, false),
    ROW(repeat_penalty, FLOAT, 0, FLT_MAX, true),
    ROW(frequency_penalty, FLOAT, -100, 100, false),
    ROW(presence_penalty, FLOAT, -100, 100, false),
    ROW(dry_multiplier, FLOAT, 0, FLT_MAX, false),
    ROW(dry_base, FLOAT, 1, FLT_MAX, false),
    ROW(dry_allowed_length, INT, 0, INT32_MAX, false),
    ROW(dry_last_n, INT, -1, INT32_MAX, false),
    ROW(n_dry_breakers, COUNT, 0, SAMPLE_MAX_BREAKERS, false),
    ROW(n_bias, COUNT, 0, SAMPLE_MAX_BIAS, false),
};

static double value_of(const tandem_sampling *params, const parameter *row) {
  const char *at = (const char *)params + row->offset;
  float f;
  int32_t i;
  size_t n;
  switch (row->kind) {
  case FLOAT: memcpy(&f, at, sizeof f); return f;
  case INT: memcpy(&i, at, sizeof i); return i;
  case COUNT: memcpy(&n, at, sizeof n); return (double)n;
  }
  return NAN;
}

/* INT32_MAX needs ten digits, a float nine. */
static status check_range(const tandem_sampling *params, const parameter *row, error *err) {
  double v = value_of(params, row);
  bool low = row->above ? v > row->min : v >= row->min;
  if (low && v <= row->max) return TANDEM_OK;
  int digits = row->kind == FLOAT ? 9 : 20;
  return base_fail(err, TANDEM_ERROR_ARGUMENT, row->name, "%s: %.*g is out of range, must be %s %.*g and at most %.*g",
                   row->name, digits, v, row->above ? "above" : "at least", digits, row->min, digits, row->max);
}

static status check_breakers(const tandem_sampling *params, error *err) {
  const char *name = "dry_breakers";
  if (params->n_dry_breakers > 0 && !params->dry_breakers)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s: NULL, but n_dry_breakers is %zu", name, params->n_dry_breakers);
  for (size_t i = 0; i < params->n_dry_breakers; i++) {
    const char *breaker = params->dry_breakers[i];
    if (!breaker) return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s[%zu]: NULL, must be a string", name, i);
    size_t n = strnlen(breaker, SAMPLE_MAX_BREAKER_BYTES + 1);
    if (n < 1 || n > SAMPLE_MAX_BREAKER_BYTES)
      return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s[%zu]: %s%zu bytes, must be 1 .. %d", name, i,
                       n > SAMPLE_MAX_BREAKER_BYTES ? "at least " : "", n, SAMPLE_MAX_BREAKER_BYTES);
  }
  return TANDEM_OK;
}

static status check_bias(const tandem_sampling *params, int32_t n_vocab, error *err) {
  size_t n_banned = 0;
  if (params->n_bias > 0 && !params->bias)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "bias", "bias: NULL, but n_bias is %zu", params->n_bias);
  for (size_t i = 0; i < params->n_bias; i++) {
    const tandem_logit_bias *b = &params->bias[i];
    if (b->id < 0 || b->id >= n_vocab)
      return base_fail(err, TANDEM_ERROR_ARGUMENT, "bias", "bias[%zu]: id %d, must be 0 .. %d", i, b->id, n_vocab - 1);
    if (!(b->bias <= FLT_MAX)) /* minus infinity is a ban */
      return base_fail(err, TANDEM_ERROR_ARGUMENT, "bias", "bias[%zu]: %g for id %d, must be finite or -inf", i,
                       (double)b->bias, b->id);
    for (size_t j = 0; j < i; j++)
      if (params->bias[j].id == b->id)
        return base_fail(err, TANDEM_ERROR_ARGUMENT, "bias", "bias[%zu]: id %d is there already, as bias[%zu]", i, b->id, j);
    n_banned += b->bias == -INFINITY;
  }
  if (n_banned == (size_t)n_vocab)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "bias", "bias: bans %zu tokens of %d, one must be left", n_banned, n_vocab);
  return TANDEM_OK;
}

status sample_check(const tandem_sampling *params, int32_t n_vocab, error *err) {
  if (params->size != sizeof(tandem_sampling))
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "size", "size: %zu, must be %zu (tandem_sampling_init sets it)", params->size,
                     sizeof(tandem_sampling));
  if (n_vocab < 1) return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_vocab", "n_vocab: %d, must be at least 1", n_vocab);
  for (size_t i = 0; i < COUNT_OF(parameters); i++) TRY(check_range(params, &parameters[i], err));
  TRY(check_breakers(params, err));
  return check_bias(params, n_vocab, err);
}
