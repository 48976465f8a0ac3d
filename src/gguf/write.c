/* write.c: builds a version 3 file: keys, then tensor records, then the tensors' bytes, each padded to the alignment.
 *
 * Owns copies of the keys and records; tensor bytes stay the caller's until the file is made, which then is read back: what
 * this folder would refuse to read it refuses to write. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gguf/directory.h"

/* What is written in pieces of a large page, each at a multiple of one, is kept in large pages by the system, and mapped so. */
enum { CHUNK = 2 << 20 };

typedef struct lent {
  const void *bytes;
  size_t n;
} lent;

struct gguf_writer {
  text keys, records;
  uint64_t n_keys, n_tensors;
  uint64_t alignment, data_bytes;
  lent *tensors;
  size_t capacity;
  uint8_t *file; /* NULL until it is made */
  size_t file_bytes;
  os_writer out; /* of a file that is written piece by piece */
  bool writing;
  uint8_t *chunk; /* [CHUNK] of which n_chunk are to be written */
  size_t n_chunk;
  uint64_t i_tensor; /* whose bytes come next, */
  size_t so_far;     /* and how many of them have come */
  error first; /* failure, kept for gguf_writer_save */
  status st;
};

status gguf_writer_open(gguf_writer **w, error *err) {
  void *p;
  *w = NULL;
  TRY(base_alloc(&p, sizeof(gguf_writer), "gguf writer", err));
  *w = p;
  (*w)->alignment = GGUF_ALIGNMENT;
  return TANDEM_OK;
}

static void drop_file(gguf_writer *w) {
  base_free(w->file);
  w->file = NULL;
}

static void stop_writing(gguf_writer *w) {
  if (w->writing) os_writer_close(&w->out);
  w->writing = false;
  base_free(w->chunk);
  w->chunk = NULL;
}

void gguf_writer_close(gguf_writer *w) {
  if (!w) return;
  drop_file(w);
  stop_writing(w);
  text_free(&w->keys);
  text_free(&w->records);
  base_free(w->tensors);
  base_free(w);
}

static void __attribute__((format(printf, 3, 4))) refuse(gguf_writer *w, const char *field, const char *format, ...) {
  char reason[200], name[GGUF_NAME_SHOWN];
  va_list args;
  if (w->st) return;
  va_start(args, format);
  vsnprintf(reason, sizeof reason, format, args);
  va_end(args);
  text_escape(name, sizeof name, field, strlen(field));
  w->st = base_fail(&w->first, TANDEM_ERROR_ARGUMENT, name, "'%s': %s", name, reason);
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

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static void begin_key(gguf_writer *w, const char *key, gguf_type type) {
  drop_file(w);
  put_string(w, &w->keys, key, strlen(key));
  put_u32(w, &w->keys, (uint32_t)type);
  w->n_keys++;
}

/* The one key that the layout of the file follows. A value that is not allowed is found when the file is read back. */
static void note_alignment(gguf_writer *w, const char *key, uint64_t v) {
  if (strcmp(key, "general.alignment")) return;
  if (w->n_tensors)
    refuse(w, key, "must be written before the first tensor");
  else if (v >= GGUF_ALIGNMENT_MIN && v <= GGUF_ALIGNMENT_MAX && (v & (v - 1)) == 0)
    w->alignment = v;
}

/* Whether v survives being cut to the low bytes of the type. */
static bool fits(gguf_type type, int64_t v) {
  int bits = 8 * (int)gguf_type_bytes(type);
  switch (type) {
  case GGUF_BOOL: return v == 0 || v == 1;
  case GGUF_U8:
  case GGUF_U16:
  case GGUF_U32: return v >= 0 && v < INT64_C(1) << bits;
  case GGUF_U64: return v >= 0;
  case GGUF_I8:
  case GGUF_I16:
  case GGUF_I32: return v >= -(INT64_C(1) << (bits - 1)) && v < INT64_C(1) << (bits - 1);
  default: return type == GGUF_I64;
  }
}

void gguf_write_int(gguf_writer *w, const char *key, gguf_type type, int64_t v) {
  if (!fits(type, v)) {
    refuse(w, key, "%" PRId64 " is not a value of type %s", v, gguf_type_name(type));
    return;
  }
  begin_key(w, key, type);
  put(w, &w->keys, &v, gguf_type_bytes(type)); /* little-endian: the low bytes */
  if (type == GGUF_U32) note_alignment(w, key, (uint64_t)v);
}

void gguf_write_float(gguf_writer *w, const char *key, gguf_type type, double v) {
  float single = (float)v;
  if (type != GGUF_F32 && type != GGUF_F64) {
    refuse(w, key, "a float cannot be of type %s", gguf_type_name(type));
    return;
  }
  begin_key(w, key, type);
  if (type == GGUF_F32)
    put(w, &w->keys, &single, sizeof single);
  else
    put(w, &w->keys, &v, sizeof v);
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
  size_t n_bytes;
  if (element == GGUF_STRING || gguf_type_bytes(element) == 0 || !size_mul(n, gguf_type_bytes(element), &n_bytes)) {
    refuse(w, key, "no array of %" PRIu64 " elements of type %s", n, gguf_type_name(element));
    return;
  }
  begin_array(w, key, element, n);
  put(w, &w->keys, values, n_bytes);
}

void gguf_write_strings(gguf_writer *w, const char *key, const gguf_string *values, uint64_t n) {
  begin_array(w, key, GGUF_STRING, n);
  for (uint64_t i = 0; i < n && !w->st; i++) put_string(w, &w->keys, values[i].s, values[i].n);
}

void gguf_write_key(gguf_writer *w, const gguf_key *k) {
  if (k->type == GGUF_ARRAY)
    begin_array(w, k->name, k->element, k->n);
  else
    begin_key(w, k->name, k->type);
  put(w, &w->keys, k->value, k->n_bytes);
  if (k->type == GGUF_U32) note_alignment(w, k->name, gguf_load_u32(k->value));
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static void lend(gguf_writer *w, const void *bytes, size_t n) {
  if (!w->st && w->n_tensors == w->capacity) {
    size_t larger = w->capacity ? 2 * w->capacity : 64;
    void *p = w->tensors;
    w->st = base_realloc(&p, w->capacity * sizeof(lent), larger * sizeof(lent), "gguf writer", &w->first);
    w->tensors = p;
    if (!w->st) w->capacity = larger;
  }
  if (!w->st) w->tensors[w->n_tensors++] = (lent){bytes, n};
}

static void write_record(gguf_writer *w, const char *name, quant_type type, bool panels, int n_dims, const int64_t *dims, const void *bytes) {
  size_t n = n_dims >= 1 && n_dims <= 4 && type < QUANT_FILE_END ? quant_row_bytes(type, dims[0]) : 0, end;
  for (int i = 1; n && i < n_dims; i++) {
    if (dims[i] < 1 || !size_mul(n, (size_t)dims[i], &n)) n = 0;
  }
  if (n == 0 || n > INT64_MAX || !size_add(w->data_bytes, size_align(n, w->alignment), &end)) {
    refuse(w, name, "its type %d and its %d dimensions make no tensor", (int)type, n_dims);
    return;
  }
  drop_file(w);
  put_string(w, &w->records, name, strlen(name));
  put_u32(w, &w->records, (uint32_t)n_dims);
  for (int i = 0; i < n_dims; i++) put_u64(w, &w->records, (uint64_t)dims[i]);
  put_u32(w, &w->records, (uint32_t)type + (panels ? GGUF_PANELS : 0));
  put_u64(w, &w->records, w->data_bytes);
  w->data_bytes = end;
  lend(w, bytes, n);
}

void gguf_write_tensor(gguf_writer *w, const char *name, quant_type type, int n_dims, const int64_t *dims, const void *bytes) {
  write_record(w, name, type, false, n_dims, dims, bytes);
}

void gguf_write_panels(gguf_writer *w, const char *name, quant_type type, int n_dims, const int64_t *dims, const void *bytes) {
  write_record(w, name, type, true, n_dims, dims, bytes);
}

/* ---- the file ---------------------------------------------------------------------------------------------------- */

/* Names are unique and all limits kept, or the reader says what is wrong. It looks at the head alone. */
static status read_back(const text *head, size_t total, error *err) {
  const os_file file = {.bytes = (const uint8_t *)head->bytes, .n = total};
  gguf_directory d = {0};
  gguf_table tensors = {0};
  arena *names;
  size_t duplicate;
  TRY(arena_open(&names, "gguf names", err));
  status st = gguf_directory_read(&d, &file, 0, names, err);
  if (!st) st = gguf_table_build(&tensors, d.tensors, sizeof *d.tensors, d.n_tensors, &duplicate, err);
  if (!st && duplicate < d.n_tensors) st = gguf_fail_duplicate(&d.tensors[duplicate], err);
  base_free(tensors.slots);
  gguf_directory_close(&d);
  arena_close(names);
  return st;
}

static const char zeros[4096];

/* Everything in front of the first tensor byte, checked; the caller frees it. *total: bytes of the file. */
static status make_head(gguf_writer *w, text *head, size_t *total, error *err) {
  const uint32_t version = 3;
  put(w, head, "GGUF", 4);
  put_u32(w, head, version);
  put_u64(w, head, w->n_tensors);
  put_u64(w, head, w->n_keys);
  put(w, head, w->keys.bytes, w->keys.n);
  put(w, head, w->records.bytes, w->records.n);
  for (size_t end = size_align(head->n, w->alignment), n; !w->st && head->n < end;) {
    n = end - head->n;
    put(w, head, zeros, n < sizeof zeros ? n : sizeof zeros);
  }
  if (w->st) {
    if (err) *err = w->first;
    return w->st;
  }
  if (!size_add(head->n, w->data_bytes, total)) return base_fail(err, TANDEM_ERROR_MEMORY, NULL, "2^64 bytes or more");
  return read_back(head, *total, err);
}

/* Sums up, allocates once, copies. Padding is zero because the memory is. */
static status make(gguf_writer *w, const text *head, size_t total, error *err) {
  void *p;
  TRY(base_alloc(&p, total, "gguf file", err));
  w->file = p;
  w->file_bytes = total;
  memcpy(p, head->bytes, head->n);
  uint8_t *at = w->file + head->n;
  for (uint64_t i = 0; i < w->n_tensors; i++) {
    if (w->tensors[i].n) memcpy(at, w->tensors[i].bytes, w->tensors[i].n);
    at += size_align(w->tensors[i].n, w->alignment);
  }
  return TANDEM_OK;
}

/* The first failure stays. */
static status keep(gguf_writer *w, status st, error *err) {
  if (!w->st) w->st = st;
  if (w->st && err) *err = w->first;
  return w->st;
}

status gguf_writer_bytes(gguf_writer *w, const uint8_t **bytes, size_t *n, error *err) {
  text head = {0};
  size_t total;
  status st = w->st;
  if (!st && !w->file) {
    st = make_head(w, &head, &total, &w->first);
    if (!st) st = make(w, &head, total, &w->first);
    text_free(&head);
  }
  TRY(keep(w, st, err));
  *bytes = w->file;
  *n = w->file_bytes;
  return TANDEM_OK;
}

/* A file must have been begun. */
static status begun(gguf_writer *w) {
  if (w->st || w->writing) return w->st;
  return base_fail(&w->first, TANDEM_ERROR_ARGUMENT, NULL, "no file was begun");
}

static status flush(gguf_writer *w) {
  status st = os_writer_add(&w->out, w->chunk, w->n_chunk, &w->first);
  w->n_chunk = 0;
  return st;
}

/* NULL: zeros. */
static status add(gguf_writer *w, const uint8_t *bytes, size_t n) {
  status st = TANDEM_OK;
  for (size_t now; n && !st; n -= now) {
    now = CHUNK - w->n_chunk < n ? CHUNK - w->n_chunk : n;
    if (bytes) memcpy(w->chunk + w->n_chunk, bytes, now);
    else memset(w->chunk + w->n_chunk, 0, now);
    w->n_chunk += now;
    if (bytes) bytes += now;
    if (w->n_chunk == CHUNK) st = flush(w);
  }
  return st;
}

status gguf_writer_begin(gguf_writer *w, const char *path, error *err) {
  text head = {0};
  size_t total;
  void *chunk = NULL;
  status st = w->st;
  stop_writing(w);
  if (!st) st = make_head(w, &head, &total, &w->first);
  if (!st) st = base_alloc(&chunk, CHUNK, "gguf writer", &w->first);
  w->chunk = chunk;
  if (!st && !(st = os_writer_open(&w->out, path, &w->first))) {
    w->writing = true;
    w->n_chunk = w->i_tensor = w->so_far = 0;
    st = add(w, (const uint8_t *)head.bytes, head.n);
  }
  text_free(&head);
  return keep(w, st, err);
}

status gguf_writer_add(gguf_writer *w, const void *bytes, size_t n, error *err) {
  status st = begun(w);
  const size_t size = w->i_tensor < w->n_tensors ? w->tensors[w->i_tensor].n : 0;
  if (!st && n > size - w->so_far)
    st = base_fail(&w->first, TANDEM_ERROR_ARGUMENT, NULL, "tensor %" PRIu64 " of %" PRIu64 ": %zu bytes after %zu of %zu", w->i_tensor,
                   w->n_tensors, n, w->so_far, size);
  if (!st) st = add(w, bytes, n);
  w->so_far += n;
  if (!st && w->so_far == size && w->i_tensor < w->n_tensors) {
    st = add(w, NULL, size_align(size, w->alignment) - size);
    w->so_far = 0;
    w->i_tensor++;
  }
  return keep(w, st, err);
}

status gguf_writer_commit(gguf_writer *w, error *err) {
  status st = begun(w);
  if (!st && w->i_tensor != w->n_tensors)
    st = base_fail(&w->first, TANDEM_ERROR_ARGUMENT, NULL, "the bytes of %" PRIu64 " tensors were given, %" PRIu64 " were announced", w->i_tensor,
                   w->n_tensors);
  if (!st) st = flush(w);
  if (!st) st = os_writer_commit(&w->out, &w->first);
  stop_writing(w);
  return keep(w, st, err);
}

status gguf_writer_save(gguf_writer *w, const char *path, error *err) {
  status st = gguf_writer_begin(w, path, err);
  for (uint64_t i = 0; i < w->n_tensors && !st; i++) st = gguf_writer_add(w, w->tensors[i].bytes, w->tensors[i].n, err);
  if (!st) st = gguf_writer_commit(w, err);
  stop_writing(w);
  return st;
}
