/* read.c: a mapped file -> keys and tensors. A cursor that cannot leave the file reads the records; every count is held against
 * the bytes that remain before anything is allocated for it. Split models: the first part's keys, all parts' tensors. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gguf/gguf.h"

enum {
  MAX_COUNT = 1 << 20,       /* keys, tensors */
  MAX_KEY = 65535, MAX_STRING = 256 << 20, MAX_ARRAY = 1 << 28, MAX_NAME = 63, MAX_DIMS = 4, MAX_PARTS = 99999,
  MIN_KEY_RECORD = 8 + 1 + 4 + 1, MIN_TENSOR_RECORD = 8 + 1 + 4 + 8 + 4 + 8,
  MIN_ALIGNMENT = 8, MAX_ALIGNMENT = 1 << 20, DEFAULT_ALIGNMENT = 32
};
#define MAX_DIM ((int64_t)1 << 40)

typedef struct table { /* open addressing by name */
  uint32_t *slots;       /* index + 1, 0 = empty */
  size_t mask;
} table;

struct gguf {
  arena *memory;
  const char *path;
  os_file file;      /* of this part */
  bool borrowed;     /* opened from memory: nothing to unmap */
  struct gguf **parts; /* [n_files - 1] the others of a split model */
  int n_files;
  int version;
  uint64_t alignment, file_bytes;
  gguf_key *keys;
  size_t n_keys;
  gguf_tensor *tensors;
  size_t n_tensors;
  table key_table, tensor_table;
};

/* ---- messages and cursor ----------------------------------------------------------------------------------------- */

typedef struct cursor {
  const uint8_t *bytes;
  size_t n, at;
  error *err;
} cursor;

static const uint8_t sizes[GGUF_TYPE_END] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
static const char *const names[GGUF_TYPE_END] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};

const char *gguf_type_name(gguf_type type) { return (unsigned)type < GGUF_TYPE_END ? names[type] : "?"; }

static status need(cursor *c, uint64_t n) {
  if (n <= c->n - c->at) return TANDEM_OK;
  return base_fail_at(c->err, TANDEM_ERROR_FORMAT, NULL, c->at, "unexpected end: need %" PRIu64 " bytes, have %zu", n, c->n - c->at);
}

static status read_u32(cursor *c, uint32_t *v) {
  TRY(need(c, sizeof *v));
  memcpy(v, c->bytes + c->at, sizeof *v);
  c->at += sizeof *v;
  return TANDEM_OK;
}

static status read_u64(cursor *c, uint64_t *v) {
  TRY(need(c, sizeof *v));
  memcpy(v, c->bytes + c->at, sizeof *v);
  c->at += sizeof *v;
  return TANDEM_OK;
}

/* A length and its bytes; `most` is the limit of this kind of string. */
static status read_string(cursor *c, const char *what, uint64_t least, uint64_t most, gguf_string *s) {
  size_t at = c->at;
  uint64_t n;
  TRY(read_u64(c, &n));
  if (n < least || n > most)
    return base_fail_at(c->err, TANDEM_ERROR_FORMAT, NULL, at, "%s of %" PRIu64 " bytes, must be %" PRIu64 " to %" PRIu64, what, n, least, most);
  TRY(need(c, n));
  *s = (gguf_string){(const char *)c->bytes + c->at, (size_t)n};
  c->at += (size_t)n;
  return TANDEM_OK;
}

/* ---- hash tables of names ---------------------------------------------------------------------------------------- */

static uint64_t hash(const char *s, size_t n) {
  uint64_t h = 0x9e3779b97f4a7c15u ^ n;
  for (size_t i = 0; i < n; i++) {
    h = (h ^ (uint8_t)s[i]) * 0xff51afd7ed558ccdu;
    h ^= h >> 32;
  }
  return h;
}

static status table_open(gguf *g, table *t, size_t n, error *err) {
  size_t capacity = 16;
  void *p;
  while (capacity < 2 * n) capacity *= 2;
  TRY(arena_alloc(g->memory, capacity * sizeof *t->slots, &p, err));
  *t = (table){p, capacity - 1};
  return TANDEM_OK;
}

typedef const char *name_of(const gguf *g, size_t i);
static const char *key_name(const gguf *g, size_t i) { return g->keys[i].name; }
static const char *tensor_name(const gguf *g, size_t i) { return g->tensors[i].name; }

/* The slot of a name: occupied by it, or the empty one where it belongs. */
static uint32_t *table_slot(const gguf *g, const table *t, name_of *name, const char *s, size_t n) {
  for (size_t i = (size_t)hash(s, n) & t->mask;; i = (i + 1) & t->mask) {
    uint32_t index = t->slots[i];
    if (!index) return &t->slots[i];
    const char *have = name(g, index - 1);
    if (!strncmp(have, s, n) && !have[n]) return &t->slots[i];
  }
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static status bad_key(cursor *c, const gguf_key *k, const char *what, uint64_t is) {
  char name[300];
  return base_fail_at(c->err, TANDEM_ERROR_FORMAT, k->name, k->offset, "key '%s': %s %" PRIu64, text_escape(name, sizeof name, k->name, strlen(k->name)), what, is);
}

/* Steps over a value; bools must be 0 or 1. */
static status skip_values(cursor *c, const gguf_key *k) {
  gguf_string s;
  if (k->element == GGUF_STRING) {
    for (uint64_t i = 0; i < k->n; i++) TRY(read_string(c, "string", 0, MAX_STRING, &s));
    return TANDEM_OK;
  }
  TRY(need(c, k->n * sizes[k->element])); /* n <= MAX_ARRAY */
  for (uint64_t i = 0; k->element == GGUF_BOOL && i < k->n; i++)
    if (c->bytes[c->at + i] > 1) return bad_key(c, k, "a bool must be 0 or 1, found", c->bytes[c->at + i]);
  c->at += (size_t)(k->n * sizes[k->element]);
  return TANDEM_OK;
}

static status read_array_head(cursor *c, gguf_key *k) {
  uint32_t element;
  uint64_t n;
  TRY(read_u32(c, &element));
  if (element == GGUF_ARRAY || element >= GGUF_TYPE_END) return bad_key(c, k, "elements of type", element);
  TRY(read_u64(c, &n));
  uint64_t least = element == GGUF_STRING ? 8 : sizes[element];
  if (n > MAX_ARRAY) return bad_key(c, k, "more than 2^28 elements:", n);
  if (n * least > c->n - c->at) return bad_key(c, k, "more elements than the file has bytes for:", n);
  k->element = (gguf_type)element;
  k->n = n;
  return TANDEM_OK;
}

static status read_key(gguf *g, cursor *c, gguf_key *k) {
  gguf_string name;
  uint32_t type;
  k->offset = c->at;
  TRY(read_string(c, "key", 1, MAX_KEY, &name));
  if (memchr(name.s, 0, name.n)) return base_fail_at(c->err, TANDEM_ERROR_FORMAT, NULL, k->offset, "key with a NUL byte in its name");
  TRY(arena_text(g->memory, name.s, name.n, &k->name, c->err));
  TRY(read_u32(c, &type));
  if (type >= GGUF_TYPE_END) return bad_key(c, k, "value type must be 0 to 12, found", type);
  k->type = k->element = (gguf_type)type;
  k->n = 1;
  if (type == GGUF_ARRAY) TRY(read_array_head(c, k));
  k->value = c->bytes + c->at;
  TRY(skip_values(c, k));
  k->n_bytes = (uint64_t)(c->bytes + c->at - k->value);
  return TANDEM_OK;
}

static status read_keys(gguf *g, cursor *c, uint64_t n) {
  void *p;
  TRY(arena_alloc(g->memory, (size_t)(n + 1) * sizeof *g->keys, &p, c->err));
  g->keys = p;
  TRY(table_open(g, &g->key_table, (size_t)n, c->err));
  for (uint64_t i = 0; i < n; i++) {
    gguf_key *k = &g->keys[i];
    TRY(read_key(g, c, k));
    uint32_t *s = table_slot(g, &g->key_table, key_name, k->name, strlen(k->name));
    if (*s) return bad_key(c, k, "stands twice, first at byte", g->keys[*s - 1].offset);
    *s = (uint32_t)i + 1;
    g->n_keys++;
  }
  return TANDEM_OK;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static const char *shown(const gguf_tensor *t, char *out, size_t n) { return text_escape(out, n, t->name, strlen(t->name)); }

static status bad_tensor(cursor *c, const gguf_tensor *t, const char *format, ...) __attribute__((format(printf, 3, 4)));
static status bad_tensor(cursor *c, const gguf_tensor *t, const char *format, ...) {
  char name[300], what[256];
  va_list args;
  va_start(args, format);
  vsnprintf(what, sizeof what, format, args);
  va_end(args);
  return base_fail_at(c->err, TANDEM_ERROR_FORMAT, t->name, t->info_offset, "tensor '%s': %s", shown(t, name, sizeof name), what);
}

/* Bytes of the tensor from its shape; every product is checked. */
static status size_tensor(cursor *c, gguf_tensor *t) {
  uint64_t rows = 1, bytes;
  const quant_info *q = quant_find((int64_t)t->type);
  if (!q || (int64_t)t->type >= QUANT_FILE_END) {
    t->n_bytes = 0; /* unknown to this build: can be listed, not read */
    return TANDEM_OK;
  }
  if (t->dims[0] % q->block) return bad_tensor(c, t, "dims[0]=%" PRId64 ", must be a multiple of %d for type %s", t->dims[0], q->block, q->name);
  for (int i = 1; i < 4; i++)
    if (__builtin_mul_overflow(rows, (uint64_t)t->dims[i], &rows)) return bad_tensor(c, t, "its dimensions overflow");
  uint64_t blocks = (uint64_t)(t->dims[0] / q->block);
  if (__builtin_mul_overflow(rows, blocks, &bytes) || __builtin_mul_overflow(bytes, (uint64_t)q->bytes, &bytes) || bytes > INT64_MAX)
    return bad_tensor(c, t, "its dimensions overflow");
  t->n_bytes = bytes;
  return TANDEM_OK;
}

static status read_tensor(gguf *g, cursor *c, gguf_tensor *t) {
  gguf_string name;
  uint32_t n_dims, type;
  t->info_offset = c->at;
  TRY(read_string(c, "tensor name", 1, MAX_NAME, &name));
  if (memchr(name.s, 0, name.n)) return base_fail_at(c->err, TANDEM_ERROR_FORMAT, NULL, t->info_offset, "tensor with a NUL byte in its name");
  TRY(arena_text(g->memory, name.s, name.n, &t->name, c->err));
  TRY(read_u32(c, &n_dims));
  if (n_dims < 1 || n_dims > MAX_DIMS) return bad_tensor(c, t, "n_dims=%u, must be 1 to %d", n_dims, MAX_DIMS);
  t->n_dims = (int)n_dims;
  for (int i = 0; i < 4; i++) t->dims[i] = 1;
  for (uint32_t i = 0; i < n_dims; i++) {
    TRY(read_u64(c, (uint64_t *)&t->dims[i]));
    if (t->dims[i] < 1) return bad_tensor(c, t, "dims[%u]=%" PRId64 ", must be >= 1", i, t->dims[i]);
    if (t->dims[i] > MAX_DIM) return bad_tensor(c, t, "dims[%u]=%" PRId64 ", must be <= 2^40", i, t->dims[i]);
  }
  TRY(read_u32(c, &type));
  TRY(read_u64(c, &t->offset));
  t->type = (quant_type)type;
  return size_tensor(c, t);
}

/* Data follow each other in the order of the list, each padded to the alignment. A type unknown to this build has no size:
 * then only order and range can be checked. */
static status place_tensors(gguf *g, cursor *c, uint64_t start) {
  uint64_t expected = 0;
  bool exact = true;
  for (size_t i = 0; i < g->n_tensors; i++) {
    gguf_tensor *t = &g->tensors[i];
    if (t->offset % g->alignment) return bad_tensor(c, t, "offset %" PRIu64 " is not a multiple of the alignment %" PRIu64, t->offset, g->alignment);
    if (exact ? t->offset != expected : t->offset < expected)
      return bad_tensor(c, t, "offset %" PRIu64 ", %s%" PRIu64 " expected after tensor '%s'", t->offset, exact ? "" : "at least ", expected,
                        i > 0 ? g->tensors[i - 1].name : "");
    uint64_t end;
    if (__builtin_add_overflow(start, t->offset, &t->offset) || __builtin_add_overflow(t->offset, t->n_bytes, &end) || end > c->n)
      return bad_tensor(c, t, "unexpected end: its data need bytes %" PRIu64 " to %" PRIu64 ", the file has %zu", t->offset, t->offset + t->n_bytes, c->n);
    exact = t->n_bytes > 0;
    expected = end - start + (g->alignment - (end - start) % g->alignment) % g->alignment;
  }
  return TANDEM_OK;
}

/* Enters tensor i in the table of names. */
static status enter_tensor(gguf *g, cursor *c, size_t i) {
  const gguf_tensor *t = &g->tensors[i];
  uint32_t *s = table_slot(g, &g->tensor_table, tensor_name, t->name, strlen(t->name));
  if (*s) return bad_tensor(c, t, "stands twice");
  *s = (uint32_t)i + 1;
  return TANDEM_OK;
}

static status read_tensors(gguf *g, cursor *c, uint64_t n) {
  void *p;
  TRY(arena_alloc(g->memory, (size_t)(n + 1) * sizeof *g->tensors, &p, c->err));
  g->tensors = p;
  TRY(table_open(g, &g->tensor_table, (size_t)n, c->err));
  for (uint64_t i = 0; i < n; i++) {
    TRY(read_tensor(g, c, &g->tensors[i]));
    TRY(enter_tensor(g, c, i));
    g->n_tensors++;
  }
  return place_tensors(g, c, (c->at + g->alignment - 1) / g->alignment * g->alignment);
}

/* ---- a file ------------------------------------------------------------------------------------------------------ */

static status check_magic(cursor *c, uint32_t *version) {
  uint32_t magic;
  if (c->n == 0) return base_fail_at(c->err, TANDEM_ERROR_FORMAT, NULL, 0, "the file is empty");
  TRY(read_u32(c, &magic));
  const uint8_t *m = c->bytes;
  if (!memcmp(m, "lmgg", 4) || !memcmp(m, "fmgg", 4) || !memcmp(m, "tjgg", 4))
    return base_fail_at(c->err, TANDEM_ERROR_FORMAT, NULL, 0, "a GGML file from before GGUF, convert it with a tool of its time");
  if (memcmp(m, "GGUF", 4))
    return base_fail_at(c->err, TANDEM_ERROR_FORMAT, NULL, 0, "not a GGUF file: it begins with bytes %02x %02x %02x %02x, 'GGUF' expected", m[0], m[1], m[2], m[3]);
  TRY(read_u32(c, version));
  if (*version && (*version & 0xffff) == 0)
    return base_fail_at(c->err, TANDEM_ERROR_FORMAT, NULL, 4, "a big-endian GGUF file, this build reads little-endian ones");
  if (*version != 2 && *version != 3) return base_fail_at(c->err, TANDEM_ERROR_FORMAT, NULL, 4, "GGUF version %u, supported are 2 and 3", *version);
  return TANDEM_OK;
}

static status read_counts(cursor *c, uint64_t *n_tensors, uint64_t *n_keys) {
  size_t at = c->at;
  TRY(read_u64(c, n_tensors));
  TRY(read_u64(c, n_keys));
  uint64_t room = c->n - c->at;
  if (*n_tensors > MAX_COUNT || *n_tensors > room / MIN_TENSOR_RECORD)
    return base_fail_at(c->err, TANDEM_ERROR_FORMAT, "n_tensors", at, "n_tensors=%" PRIu64 ", the %" PRIu64 " bytes that follow cannot hold them", *n_tensors, room);
  if (*n_keys > MAX_COUNT || *n_keys > room / MIN_KEY_RECORD)
    return base_fail_at(c->err, TANDEM_ERROR_FORMAT, "n_kv", at + 8, "n_kv=%" PRIu64 ", the %" PRIu64 " bytes that follow cannot hold them", *n_keys, room);
  return TANDEM_OK;
}

static status read_alignment(gguf *g, cursor *c) {
  const gguf_key *k = gguf_find_key(g, "general.alignment");
  g->alignment = DEFAULT_ALIGNMENT;
  if (!k) return TANDEM_OK;
  int64_t v;
  if (k->type != GGUF_U32 || !gguf_int(k, 0, &v))
    return base_fail_at(c->err, TANDEM_ERROR_FORMAT, k->name, k->offset, "general.alignment: u32 expected, file has %s", gguf_type_name(k->type));
  if (v < MIN_ALIGNMENT || v > MAX_ALIGNMENT || (v & (v - 1)))
    return bad_key(c, k, "must be a power of two from 8 to 1048576, is", (uint64_t)v);
  g->alignment = (uint64_t)v;
  return TANDEM_OK;
}

/* One part, from bytes that the caller keeps. */
static status open_part(gguf **out, os_file file, bool borrowed, const char *path, error *err) {
  void *p;
  uint64_t n_tensors, n_keys;
  uint32_t version = 0;
  status st;
  *out = NULL;
  TRY(base_alloc(&p, sizeof(gguf), "gguf", err));
  gguf *g = p;
  g->file = file;
  g->borrowed = true; /* until the part is whole, the file stays the caller's */
  g->n_files = 1;
  g->file_bytes = file.n;
  cursor c = {.bytes = file.bytes, .n = file.n, .err = err};
  TRY_DONE(arena_open(&g->memory, "gguf directory", err));
  TRY_DONE(arena_text(g->memory, path, strlen(path), &g->path, err));
  TRY_DONE(check_magic(&c, &version));
  g->version = (int)version;
  TRY_DONE(read_counts(&c, &n_tensors, &n_keys));
  TRY_DONE(read_keys(g, &c, n_keys));
  TRY_DONE(read_alignment(g, &c));
  TRY_DONE(read_tensors(g, &c, n_tensors));
  g->borrowed = borrowed;
  *out = g;
  return TANDEM_OK;
done:
  gguf_close(g);
  return st;
}

static status open_file(gguf **g, const char *path, error *err) {
  os_file file;
  char name[300];
  TRY(os_map(&file, path, err));
  status st = open_part(g, file, false, path, err);
  if (!st) return TANDEM_OK;
  os_unmap(&file);
  if (st == TANDEM_ERROR_FORMAT) base_fail_in(err, text_escape(name, sizeof name, path, strlen(path)));
  return st;
}

void gguf_close(gguf *g) {
  if (!g) return;
  for (int i = 0; g->parts && i < g->n_files - 1; i++) gguf_close(g->parts[i]);
  if (!g->borrowed) os_unmap(&g->file);
  arena_close(g->memory);
  base_free(g);
}

status gguf_open_memory(gguf **g, const void *bytes, size_t n, error *err) {
  return open_part(g, (os_file){bytes, n}, true, "memory", err);
}

/* ---- split models ------------------------------------------------------------------------------------------------ */

/* A split.* key of a part; absent: `otherwise`. */
static status split_key(const gguf *g, const char *name, int64_t otherwise, int64_t *v, error *err) {
  const gguf_key *k = gguf_find_key(g, name);
  *v = otherwise;
  if (!k || gguf_int(k, 0, v)) return TANDEM_OK;
  return base_fail_at(err, TANDEM_ERROR_FORMAT, name, k->offset, "%s: %s: an integer expected, file has %s", g->path, name, gguf_type_name(k->type));
}

/* PREFIX-00001-of-00003.gguf -> the name of part i (from 1). False if the path is not of that form. */
static bool part_path(const char *path, int64_t i, int64_t n, char *out, size_t size) {
  char suffix[32];
  size_t length = strlen(path);
  int k = snprintf(suffix, sizeof suffix, "-00001-of-%05d.gguf", (int)n);
  if (k < 0 || length < (size_t)k || strcmp(path + length - (size_t)k, suffix)) return false;
  k = snprintf(out, size, "%.*s-%05d-of-%05d.gguf", (int)(length - (size_t)k), path, (int)i, (int)n);
  return k > 0 && (size_t)k < size;
}

static status open_other_part(gguf *g, int64_t i, int64_t n, error *err) {
  char path[4096];
  int64_t no, count;
  if (!part_path(g->path, i + 1, n, path, sizeof path))
    return base_fail(err, TANDEM_ERROR_FORMAT, "split.count", "%s: split.count=%" PRId64 ", but the name does not end in -00001-of-%05d.gguf", g->path, n, (int)n);
  TRY(open_file(&g->parts[i - 1], path, err));
  g->n_files = (int)i + 1;
  const gguf *part = g->parts[i - 1];
  TRY(split_key(part, "split.no", -1, &no, err));
  TRY(split_key(part, "split.count", -1, &count, err));
  if (no != i) return base_fail(err, TANDEM_ERROR_FORMAT, "split.no", "%s: split.no=%" PRId64 ", %" PRId64 " expected by its name", path, no, i);
  if (count != n) return base_fail(err, TANDEM_ERROR_FORMAT, "split.count", "%s: split.count=%" PRId64 ", the first part has %" PRId64, path, count, n);
  const gguf_key *a = gguf_find_key(g, "general.architecture"), *b = gguf_find_key(part, "general.architecture");
  gguf_string x, y;
  if (a && b && gguf_string_value(a, &x) && gguf_string_value(b, &y) && (x.n != y.n || memcmp(x.s, y.s, x.n)))
    return base_fail(err, TANDEM_ERROR_FORMAT, "general.architecture", "%s: a part of another model than the first part", path);
  return TANDEM_OK;
}

/* One directory of all parts' tensors. */
static status join_parts(gguf *g, error *err) {
  size_t total = g->n_tensors, at = 0;
  void *p;
  for (int i = 0; i < g->n_files - 1; i++) total += g->parts[i]->n_tensors;
  TRY(arena_alloc(g->memory, (total + 1) * sizeof *g->tensors, &p, err));
  gguf_tensor *all = p;
  for (int i = 0; i < g->n_files; i++) {
    const gguf *part = i ? g->parts[i - 1] : g;
    for (size_t k = 0; k < part->n_tensors; k++) {
      all[at] = part->tensors[k];
      all[at++].i_file = i;
    }
    if (i) g->file_bytes += part->file_bytes;
  }
  g->tensors = all;
  g->n_tensors = total;
  TRY(table_open(g, &g->tensor_table, total, err));
  cursor c = {.err = err};
  for (size_t i = 0; i < total; i++) TRY(enter_tensor(g, &c, i));
  return TANDEM_OK;
}

static status open_split(gguf *g, error *err) {
  int64_t no, count, tensors;
  void *p;
  TRY(split_key(g, "split.count", 1, &count, err));
  if (count <= 1) return TANDEM_OK;
  if (count > MAX_PARTS) return base_fail(err, TANDEM_ERROR_FORMAT, "split.count", "%s: split.count=%" PRId64 ", at most %d are allowed", g->path, count, MAX_PARTS);
  TRY(split_key(g, "split.no", -1, &no, err));
  if (no != 0) return base_fail(err, TANDEM_ERROR_FORMAT, "split.no", "%s: split.no=%" PRId64 ": open the first part of a split model", g->path, no);
  TRY(arena_alloc(g->memory, (size_t)count * sizeof *g->parts, &p, err));
  g->parts = p;
  for (int64_t i = 1; i < count; i++) TRY(open_other_part(g, i, count, err));
  TRY(join_parts(g, err));
  TRY(split_key(g, "split.tensors.count", (int64_t)g->n_tensors, &tensors, err));
  if (tensors != (int64_t)g->n_tensors)
    return base_fail(err, TANDEM_ERROR_FORMAT, "split.tensors.count", "%s: split.tensors.count=%" PRId64 ", the parts have %zu", g->path, tensors, g->n_tensors);
  return TANDEM_OK;
}

status gguf_open(gguf **out, const char *path, error *err) {
  gguf *g;
  *out = NULL;
  TRY(open_file(&g, path, err));
  status st = open_split(g, err);
  if (st) gguf_close(g);
  else *out = g;
  return st;
}

/* ---- looking ----------------------------------------------------------------------------------------------------- */

const char *gguf_path(const gguf *g) { return g->path; }
int gguf_version(const gguf *g) { return g->version; }
int gguf_n_files(const gguf *g) { return g->n_files; }
uint64_t gguf_file_bytes(const gguf *g) { return g->file_bytes; }
uint64_t gguf_alignment(const gguf *g) { return g->alignment; }
size_t gguf_n_keys(const gguf *g) { return g->n_keys; }
const gguf_key *gguf_key_at(const gguf *g, size_t i) { return &g->keys[i]; }
size_t gguf_n_tensors(const gguf *g) { return g->n_tensors; }
const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i) { return &g->tensors[i]; }

const gguf_key *gguf_find_key(const gguf *g, const char *name) {
  uint32_t index = *table_slot(g, &g->key_table, key_name, name, strlen(name));
  return index ? &g->keys[index - 1] : NULL;
}

const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name) {
  uint32_t index = *table_slot(g, &g->tensor_table, tensor_name, name, strlen(name));
  return index ? &g->tensors[index - 1] : NULL;
}

static const os_file *file_of(const gguf *g, const gguf_tensor *t) { return t->i_file ? &g->parts[t->i_file - 1]->file : &g->file; }

status gguf_tensor_bytes(const gguf *g, const gguf_tensor *t, const uint8_t **bytes, error *err) {
  *bytes = NULL;
  if (base_fault_hit(FAULT_READ)) return base_fail_at(err, TANDEM_ERROR_IO, t->name, t->offset, "%s: its bytes cannot be read", t->name);
  *bytes = file_of(g, t)->bytes + t->offset;
  return TANDEM_OK;
}

void gguf_will_need(const gguf *g, const gguf_tensor *t) {
  if (!g->borrowed) os_will_need(file_of(g, t), (size_t)t->offset, (size_t)t->n_bytes);
}

void gguf_dont_need(const gguf *g, const gguf_tensor *t) {
  if (!g->borrowed) os_dont_need(file_of(g, t), (size_t)t->offset, (size_t)t->n_bytes);
}
