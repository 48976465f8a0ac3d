/* write.c: builds a version 3 file: keys first, then the directory of tensors, then their data, each padded to 32 bytes. */
#include <string.h>

#include "gguf/gguf.h"

enum { ALIGNMENT = 32 };

typedef struct pending { /* a tensor whose bytes are lent until the file is made */
  const void *bytes;
  size_t n;
} pending;

struct gguf_writer {
  text keys, infos, file;
  uint64_t n_keys, n_tensors, data_bytes;
  pending *tensors;
  size_t capacity;
  error first; /* failure */
  status st;
};

status gguf_writer_open(gguf_writer **w, error *err) {
  void *p;
  *w = NULL;
  TRY(base_alloc(&p, sizeof(gguf_writer), "gguf writer", err));
  *w = p;
  return TANDEM_OK;
}

void gguf_writer_close(gguf_writer *w) {
  if (!w) return;
  text_free(&w->keys);
  text_free(&w->infos);
  text_free(&w->file);
  base_free(w->tensors);
  base_free(w);
}

static void put(gguf_writer *w, text *t, const void *bytes, size_t n) {
  if (!w->st) w->st = text_add(t, bytes, n, &w->first);
}

static void put_u32(gguf_writer *w, text *t, uint32_t v) { put(w, t, &v, sizeof v); }
static void put_u64(gguf_writer *w, text *t, uint64_t v) { put(w, t, &v, sizeof v); }

static void put_string(gguf_writer *w, text *t, const char *s, size_t n) {
  put_u64(w, t, n);
  put(w, t, s, n);
}

static void begin_key(gguf_writer *w, const char *key, gguf_type type) {
  put_string(w, &w->keys, key, strlen(key));
  put_u32(w, &w->keys, (uint32_t)type);
  w->n_keys++;
  w->file.n = 0; /* what was made before is out of date */
}

/* Bytes of a number; 0 for strings and arrays. */
static size_t width(gguf_type type) {
  static const uint8_t widths[GGUF_TYPE_END] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return (unsigned)type < GGUF_TYPE_END ? widths[type] : 0;
}

static void refuse(gguf_writer *w, const char *key, gguf_type type) {
  if (!w->st) w->st = base_fail(&w->first, TANDEM_ERROR_ARGUMENT, key, "%s: a value of type %s cannot be written here", key, gguf_type_name(type));
}

void gguf_write_int(gguf_writer *w, const char *key, gguf_type type, int64_t v) {
  if (width(type) == 0 || type == GGUF_F32 || type == GGUF_F64) {
    refuse(w, key, type);
    return;
  }
  begin_key(w, key, type);
  put(w, &w->keys, &v, width(type)); /* little-endian: the low bytes */
}

void gguf_write_float(gguf_writer *w, const char *key, gguf_type type, double v) {
  float single = (float)v;
  if (type != GGUF_F32 && type != GGUF_F64) {
    refuse(w, key, type);
    return;
  }
  begin_key(w, key, type);
  if (type == GGUF_F32) put(w, &w->keys, &single, sizeof single);
  else put(w, &w->keys, &v, sizeof v);
}

void gguf_write_string(gguf_writer *w, const char *key, const char *s, size_t n) {
  begin_key(w, key, GGUF_STRING);
  put_string(w, &w->keys, s, n);
}

static void begin_array(gguf_writer *w, const char *key, gguf_type element, uint64_t n) {
  begin_key(w, key, GGUF_ARRAY);
  put_u32(w, &w->keys, (uint32_t)element);
  put_u64(w, &w->keys, n);
}

void gguf_write_array(gguf_writer *w, const char *key, gguf_type element, const void *values, uint64_t n) {
  size_t bytes;
  if (width(element) == 0 || !size_mul((size_t)n, width(element), &bytes)) {
    refuse(w, key, element);
    return;
  }
  begin_array(w, key, element, n);
  put(w, &w->keys, values, bytes);
}

void gguf_write_strings(gguf_writer *w, const char *key, const gguf_string *values, uint64_t n) {
  begin_array(w, key, GGUF_STRING, n);
  for (uint64_t i = 0; i < n; i++) put_string(w, &w->keys, values[i].s, values[i].n);
}

void gguf_write_key(gguf_writer *w, const gguf_key *k) {
  if (k->type == GGUF_ARRAY) begin_array(w, k->name, k->element, k->n);
  else begin_key(w, k->name, k->type);
  put(w, &w->keys, k->value, (size_t)k->n_bytes);
}

static void lend(gguf_writer *w, const void *bytes, size_t n) {
  if (!w->st && w->n_tensors == w->capacity) {
    size_t larger = w->capacity ? 2 * w->capacity : 64;
    void *p = w->tensors;
    w->st = base_realloc(&p, w->capacity * sizeof(pending), larger * sizeof(pending), "gguf writer", &w->first);
    w->tensors = p;
    if (!w->st) w->capacity = larger;
  }
  if (!w->st) w->tensors[w->n_tensors++] = (pending){bytes, n};
}

void gguf_write_tensor(gguf_writer *w, const char *name, quant_type type, int n_dims, const int64_t *dims, const void *bytes) {
  size_t n = n_dims >= 1 && n_dims <= 4 ? quant_row_bytes(type, dims[0]) : 0;
  for (int i = 1; n && i < n_dims; i++)
    if (dims[i] < 1 || !size_mul(n, (size_t)dims[i], &n)) n = 0;
  if (n == 0) {
    if (!w->st) w->st = base_fail(&w->first, TANDEM_ERROR_ARGUMENT, name, "%s: shape and type do not make a tensor", name);
    return;
  }
  put_string(w, &w->infos, name, strlen(name));
  put_u32(w, &w->infos, (uint32_t)n_dims);
  for (int i = 0; i < n_dims; i++) put_u64(w, &w->infos, (uint64_t)dims[i]);
  put_u32(w, &w->infos, (uint32_t)type);
  put_u64(w, &w->infos, w->data_bytes);
  w->data_bytes += size_align(n, ALIGNMENT);
  w->file.n = 0;
  lend(w, bytes, n);
}

static void pad(gguf_writer *w) {
  static const char zeros[ALIGNMENT];
  put(w, &w->file, zeros, size_align(w->file.n, ALIGNMENT) - w->file.n);
}

/* Lays the whole file out, once: lent bytes are not needed any more after that. */
static void make(gguf_writer *w) {
  put(w, &w->file, "GGUF", 4);
  put_u32(w, &w->file, 3);
  put_u64(w, &w->file, w->n_tensors);
  put_u64(w, &w->file, w->n_keys);
  put(w, &w->file, w->keys.bytes, w->keys.n);
  put(w, &w->file, w->infos.bytes, w->infos.n);
  pad(w);
  for (uint64_t i = 0; i < w->n_tensors; i++) {
    put(w, &w->file, w->tensors[i].bytes, w->tensors[i].n);
    pad(w);
  }
}

status gguf_writer_bytes(gguf_writer *w, const uint8_t **bytes, size_t *n, error *err) {
  if (w->file.n == 0) make(w);
  if (w->st) {
    if (err) *err = w->first;
    return w->st;
  }
  *bytes = (const uint8_t *)w->file.bytes;
  *n = w->file.n;
  return TANDEM_OK;
}

status gguf_writer_save(gguf_writer *w, const char *path, error *err) {
  const uint8_t *bytes;
  size_t n;
  TRY(gguf_writer_bytes(w, &bytes, &n, err));
  return os_write_all(path, bytes, n, err);
}
