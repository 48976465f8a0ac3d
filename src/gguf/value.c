/* value.c: values of keys, read from unaligned little-endian bytes. Conversions are exact or refused. */
#include <string.h>

#include "gguf/directory.h"

/* Element i as the low bytes of a word; false for strings and beyond the end. */
static bool bits_of(const gguf_key *k, uint64_t i, uint64_t *bits) {
  if (i >= k->n || k->element == GGUF_STRING) return false;
  size_t n = gguf_type_bytes(k->element);
  *bits = 0;
  memcpy(bits, k->value + i * n, n);
  return true;
}

bool gguf_int(const gguf_key *k, uint64_t i, int64_t *v) {
  uint64_t u;
  if (!bits_of(k, i, &u)) return false;
  switch (k->element) {
  case GGUF_U8:
  case GGUF_U16:
  case GGUF_U32: *v = (int64_t)u; return true;
  case GGUF_U64:
    if (u > INT64_MAX) return false;
    *v = (int64_t)u;
    return true;
  case GGUF_I8: *v = (int8_t)u; return true;
  case GGUF_I16: *v = (int16_t)u; return true;
  case GGUF_I32: *v = (int32_t)u; return true;
  case GGUF_I64: *v = (int64_t)u; return true;
  default: return false;
  }
}

bool gguf_double(const gguf_key *k, uint64_t i, double *v) {
  const int64_t exact = INT64_C(1) << 53; /* beyond it a double has no room for every integer */
  uint64_t u;
  int64_t whole;
  float single;
  if (!bits_of(k, i, &u)) return false;
  if (k->element == GGUF_F64) {
    memcpy(v, &u, sizeof *v);
    return true;
  }
  if (k->element == GGUF_F32) {
    memcpy(&single, &u, sizeof single);
    *v = (double)single;
    return true;
  }
  if (!gguf_int(k, i, &whole) || whole < -exact || whole > exact) return false;
  *v = (double)whole;
  return true;
}

bool gguf_bool(const gguf_key *k, uint64_t i, bool *v) {
  uint64_t u;
  bool is_bool = k->element == GGUF_BOOL;
  bool is_flag = k->type == GGUF_ARRAY && (k->element == GGUF_I32 || k->element == GGUF_U32);
  if ((!is_bool && !is_flag) || !bits_of(k, i, &u) || u > 1) return false;
  *v = u != 0;
  return true;
}

bool gguf_string_value(const gguf_key *k, gguf_string *v) {
  if (k->type != GGUF_STRING) return false;
  *v = (gguf_string){(const char *)k->value + 8, gguf_load_u64(k->value)};
  return true;
}

bool gguf_next_string(const gguf_key *k, uint64_t *at, gguf_string *v) {
  if (k->element != GGUF_STRING || *at >= k->n_bytes) return false;
  size_t n = gguf_load_u64(k->value + *at);
  *v = (gguf_string){(const char *)k->value + *at + 8, n};
  *at += 8 + n;
  return true;
}
