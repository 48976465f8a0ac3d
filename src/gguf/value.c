/* value.c: values of keys, read from unaligned little-endian bytes. Conversions are exact or refused. */
#include <math.h>
#include <string.h>

#include "gguf/gguf.h"

static const uint8_t widths[GGUF_TYPE_END] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static const uint8_t *element(const gguf_key *k, uint64_t i) { return i < k->n ? k->value + i * widths[k->element] : NULL; }

static uint64_t little_endian(const uint8_t *p, int n) {
  uint64_t v = 0;
  for (int i = n - 1; i >= 0; i--) v = v << 8 | p[i];
  return v;
}

bool gguf_int(const gguf_key *k, uint64_t i, int64_t *v) {
  const uint8_t *p = element(k, i);
  if (!p) return false;
  uint64_t u = little_endian(p, widths[k->element]);
  switch (k->element) {
  case GGUF_U8: case GGUF_U16: case GGUF_U32: *v = (int64_t)u; return true;
  case GGUF_U64: *v = (int64_t)u; return u <= INT64_MAX;
  case GGUF_I8: *v = (int8_t)u; return true;
  case GGUF_I16: *v = (int16_t)u; return true;
  case GGUF_I32: *v = (int32_t)u; return true;
  case GGUF_I64: *v = (int64_t)u; return true;
  default: return false;
  }
}

bool gguf_double(const gguf_key *k, uint64_t i, double *v) {
  const uint8_t *p = element(k, i);
  int64_t whole;
  float single;
  if (!p) return false;
  if (k->element == GGUF_F32) {
    uint32_t u = (uint32_t)little_endian(p, 4);
    memcpy(&single, &u, sizeof single);
    *v = single;
    return true;
  }
  if (k->element == GGUF_F64) {
    uint64_t u = little_endian(p, 8);
    memcpy(v, &u, sizeof *v);
    return true;
  }
  if (!gguf_int(k, i, &whole)) return false;
  *v = (double)whole;
  return (int64_t)*v == whole;
}

bool gguf_bool(const gguf_key *k, uint64_t i, bool *v) {
  int64_t whole;
  const uint8_t *p = element(k, i);
  if (!p) return false;
  if (k->element == GGUF_BOOL) {
    *v = *p != 0;
    return true;
  }
  if (k->type != GGUF_ARRAY || (k->element != GGUF_I32 && k->element != GGUF_U32) || !gguf_int(k, i, &whole)) return false;
  *v = whole != 0;
  return true;
}

bool gguf_string_value(const gguf_key *k, gguf_string *v) {
  if (k->type != GGUF_STRING) return false;
  *v = (gguf_string){(const char *)k->value + 8, (size_t)little_endian(k->value, 8)};
  return true;
}

bool gguf_next_string(const gguf_key *k, uint64_t *at, gguf_string *v) {
  if (k->element != GGUF_STRING || *at >= k->n_bytes) return false;
  size_t n = (size_t)little_endian(k->value + *at, 8);
  *v = (gguf_string){(const char *)k->value + *at + 8, n};
  *at += 8 + n;
  return true;
}
