/* directory.c: one file's header, keys and tensor records, read and checked.
 *
 *   "GGUF" version n_tensors n_keys | name type value ... | name n_dims dims type offset ... | padding | data
 *
 * A cursor walks the bytes; nothing is read that it has not compared with the bytes that remain, and counts are compared
 * with the smallest records they could mean before anything is allocated: memory is proportional to the file. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gguf/directory.h"

/* Limits beyond those the bytes of the file set. */
enum { KEY_NAME_MAX = 65535, TENSOR_NAME_MAX = 63, RECORDS_MAX = 1 << 20, STRING_MAX = 256 << 20, ELEMENTS_MAX = 1 << 28 };
static const int64_t dim_max = INT64_C(1) << 40;

enum {
  KEY_BYTES_MIN = 8 + 1 + 4 + 1,            /* name of one byte, type, value of one byte */
  TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8, /* name of one byte, number of dims, one dim, type, offset */
};

static const struct {
  const char *name;
  size_t bytes;
} types[GGUF_TYPE_END] = {
    [GGUF_U8] = {"u8", 1},         [GGUF_I8] = {"i8", 1},       [GGUF_U16] = {"u16", 2}, [GGUF_I16] = {"i16", 2},
    [GGUF_U32] = {"u32", 4},       [GGUF_I32] = {"i32", 4},     [GGUF_F32] = {"f32", 4}, [GGUF_BOOL] = {"bool", 1},
    [GGUF_STRING] = {"string", 8}, [GGUF_ARRAY] = {"array", 0}, [GGUF_U64] = {"u64", 8}, [GGUF_I64] = {"i64", 8},
    [GGUF_F64] = {"f64", 8},
};

const char *gguf_type_name(gguf_type type) { return (unsigned)type < GGUF_TYPE_END ? types[type].name : "?"; }
size_t gguf_type_bytes(gguf_type type) { return (unsigned)type < GGUF_TYPE_END ? types[type].bytes : 0; }

/* ---- cursor ------------------------------------------------------------------------------------------------------ */

typedef struct cursor {
  const uint8_t *bytes;
  uint64_t n, at;   /* at <= n */
  const char *kind; /* what is being read, for messages: "key", "tensor", or NULL: the header */
  uint64_t i;       /* which of its kind */
  gguf_string name; /* of it, once known */
  error *err;
} cursor;

/* "tensor 'blk.3.attn_q.weight': reason (offset 0x1a2f0)" */
static status __attribute__((format(printf, 3, 4))) fail(const cursor *c, uint64_t offset, const char *format, ...) {
  char name[GGUF_NAME_SHOWN] = "", subject[GGUF_NAME_SHOWN + 32] = "", reason[256];
  va_list args;
  va_start(args, format);
  vsnprintf(reason, sizeof reason, format, args);
  va_end(args);
  if (c->name.s) text_escape(name, sizeof name, c->name.s, c->name.n);
  if (c->kind && c->name.s)
    snprintf(subject, sizeof subject, "%s '%s': ", c->kind, name);
  else if (c->kind)
    snprintf(subject, sizeof subject, "%s %" PRIu64 ": ", c->kind, c->i);
  return base_fail_at(c->err, TANDEM_ERROR_FORMAT, name, offset, "%s%s", subject, reason);
}

static uint64_t left(const cursor *c) { return c->n - c->at; }

static status need(const cursor *c, uint64_t n) {
  if (n <= left(c)) return TANDEM_OK;
  return fail(c, c->at, "unexpected end: need %" PRIu64 " bytes, have %" PRIu64, n, left(c));
}

static status read_u32(cursor *c, uint32_t *v) {
  TRY(need(c, sizeof *v));
  *v = gguf_load_u32(c->bytes + c->at);
  c->at += sizeof *v;
  return TANDEM_OK;
}

static status read_u64(cursor *c, uint64_t *v) {
  TRY(need(c, sizeof *v));
  *v = gguf_load_u64(c->bytes + c->at);
  c->at += sizeof *v;
  return TANDEM_OK;
}

static status read_string(cursor *c, gguf_string *s) {
  uint64_t n;
  TRY(read_u64(c, &n));
  TRY(need(c, n));
  if (n > STRING_MAX) return fail(c, c->at, "a string of %" PRIu64 " bytes, at most %d are allowed", n, STRING_MAX);
  *s = (gguf_string){(const char *)c->bytes + c->at, n};
  c->at += n;
  return TANDEM_OK;
}

/* Names are looked up as C strings, so a byte of zero would hide what follows it. */
static status read_name(cursor *c, size_t n_max, arena *names, const char **name) {
  gguf_string s;
  uint64_t start = c->at;
  TRY(read_string(c, &s));
  c->name = s;
  if (s.n == 0 || s.n > n_max) return fail(c, start, "a name of %zu bytes, must be 1 to %zu", s.n, n_max);
  if (memchr(s.s, 0, s.n)) return fail(c, start, "a zero byte in the name");
  return arena_text(names, s.s, s.n, name, c->err);
}

/* ---- header ------------------------------------------------------------------------------------------------------ */

static status read_magic(cursor *c) {
  static const char *const old[] = {"lmgg", "fmgg", "tjgg", "algg"}; /* GGML, GGMF, GGJT, GGLA as little-endian words */
  char shown[20];
  TRY(need(c, 4));
  const char *magic = (const char *)c->bytes;
  text_escape(shown, sizeof shown, magic, 4);
  for (size_t i = 0; i < COUNT_OF(old); i++) {
    if (!memcmp(magic, old[i], 4))
      return fail(c, 0, "magic '%s' is a format older than GGUF, versions 2 and 3 of which are read", shown);
  }
  if (!memcmp(magic, "FUGG", 4))
    return fail(c, 0, "magic '%s': the bytes are swapped, only little-endian files are read", shown);
  if (memcmp(magic, "GGUF", 4)) return fail(c, 0, "magic '%s', must be 'GGUF': not a GGUF file", shown);
  c->at = 4;
  return TANDEM_OK;
}

static status read_version(cursor *c, int *version) {
  uint32_t v;
  TRY(read_u32(c, &v));
  *version = (int)v;
  if (v == 2 || v == 3) return TANDEM_OK;
  if (v == 0 || (v & 0xffff)) return fail(c, 4, "version %" PRIu32 ", versions 2 and 3 are read", v);
  return fail(c, 4, "version 0x%08" PRIx32 " is that of a big-endian file, only little-endian ones are read", v);
}

static status read_count(cursor *c, const char *what, uint64_t *n) {
  TRY(read_u64(c, n));
  if (*n <= RECORDS_MAX) return TANDEM_OK;
  return fail(c, c->at - 8, "%s=%" PRId64 ", must be 0 to %d", what, (int64_t)*n, RECORDS_MAX);
}

/* Both counts together must fit what is left of the file. */
static status read_header(cursor *c, gguf_directory *d) {
  uint64_t n_tensors, n_keys;
  TRY(read_magic(c));
  TRY(read_version(c, &d->version));
  TRY(read_count(c, "n_tensors", &n_tensors));
  TRY(read_count(c, "n_kv", &n_keys));
  uint64_t least = n_tensors * TENSOR_BYTES_MIN + n_keys * KEY_BYTES_MIN;
  if (least > left(c)) {
    return fail(c, 8, "unexpected end: n_tensors=%" PRIu64 ", n_kv=%" PRIu64 " need %" PRIu64 " bytes, have %" PRIu64,
                n_tensors, n_keys, least, left(c));
  }
  d->n_tensors = n_tensors;
  d->n_keys = n_keys;
  return TANDEM_OK;
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static status read_type(cursor *c, gguf_type *type) {
  uint32_t v;
  TRY(read_u32(c, &v));
  if (v >= GGUF_TYPE_END) return fail(c, c->at - 4, "value type %" PRIu32 ", must be 0 to %d", v, GGUF_TYPE_END - 1);
  *type = (gguf_type)v;
  return TANDEM_OK;
}

static status read_array_head(cursor *c, gguf_key *k) {
  TRY(read_type(c, &k->element));
  if (k->element == GGUF_ARRAY) return fail(c, c->at - 4, "an array of arrays, which GGUF does not allow");
  TRY(read_u64(c, &k->n));
  if (k->n <= ELEMENTS_MAX) return TANDEM_OK;
  return fail(c, c->at - 8, "an array of %" PRIu64 " elements, at most %d are allowed", k->n, ELEMENTS_MAX);
}

static status read_elements(cursor *c, gguf_key *k) {
  uint64_t start = c->at, n_bytes = k->n * types[k->element].bytes; /* at most 2^28 x 8 */
  gguf_string s;
  TRY(need(c, n_bytes));
  k->value = c->bytes + start;
  if (k->element == GGUF_STRING) {
    for (uint64_t i = 0; i < k->n; i++) TRY(read_string(c, &s));
  } else {
    c->at += n_bytes;
  }
  k->n_bytes = c->at - start;
  for (uint64_t i = 0; k->element == GGUF_BOOL && i < k->n; i++) {
    if (k->value[i] > 1) return fail(c, start + i, "a bool of value %d, must be 0 or 1", k->value[i]);
  }
  return TANDEM_OK;
}

static status read_key(cursor *c, gguf_key *k, arena *names) {
  k->offset = c->at;
  TRY(read_name(c, KEY_NAME_MAX, names, &k->name));
  TRY(read_type(c, &k->type));
  k->element = k->type;
  k->n = 1;
  if (k->type == GGUF_ARRAY) TRY(read_array_head(c, k));
  return read_elements(c, k);
}

/* The one key whose meaning the container defines. */
static status find_alignment(cursor *c, gguf_directory *d) {
  size_t i = gguf_table_find(&d->table, d->keys, sizeof *d->keys, "general.alignment");
  d->alignment = GGUF_ALIGNMENT;
  if (i == SIZE_MAX) return TANDEM_OK;
  const gguf_key *k = &d->keys[i];
  c->name = (gguf_string){k->name, strlen(k->name)};
  if (k->type != GGUF_U32) return fail(c, k->offset, "is %s, must be u32", gguf_type_name(k->type));
  uint32_t v = gguf_load_u32(k->value);
  if (v < GGUF_ALIGNMENT_MIN || v > GGUF_ALIGNMENT_MAX || (v & (v - 1)))
    return fail(c, k->offset, "is %" PRIu32 ", must be a power of two, %d to %d", v, GGUF_ALIGNMENT_MIN, GGUF_ALIGNMENT_MAX);
  d->alignment = v;
  return TANDEM_OK;
}

static status read_keys(cursor *c, gguf_directory *d, arena *names) {
  void *p;
  size_t duplicate;
  TRY(base_alloc_array(&p, d->n_keys, sizeof *d->keys, "keys", c->err));
  d->keys = p;
  c->kind = "key";
  for (c->i = 0; c->i < d->n_keys; c->i++) {
    c->name = (gguf_string){NULL, 0};
    TRY(read_key(c, &d->keys[c->i], names));
  }
  TRY(gguf_table_build(&d->table, d->keys, sizeof *d->keys, d->n_keys, &duplicate, c->err));
  if (duplicate < d->n_keys) {
    const gguf_key *k = &d->keys[duplicate];
    c->name = (gguf_string){k->name, strlen(k->name)};
    return fail(c, k->offset, "occurs twice");
  }
  return find_alignment(c, d);
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

static status read_dims(cursor *c, gguf_tensor *t) {
  uint32_t n_dims;
  int64_t elements = 1;
  TRY(read_u32(c, &n_dims));
  if (n_dims < 1 || n_dims > 4) return fail(c, c->at - 4, "n_dims=%" PRIu32 ", must be 1 to 4", n_dims);
  t->n_dims = (int)n_dims;
  for (int i = 0; i < 4; i++) t->dims[i] = 1;
  for (int i = 0; i < t->n_dims; i++) {
    uint64_t v;
    TRY(read_u64(c, &v));
    int64_t dim = (int64_t)v;
    if (dim < 1) return fail(c, c->at - 8, "dims[%d]=%" PRId64 ", must be >= 1", i, dim);
    if (dim > dim_max) return fail(c, c->at - 8, "dims[%d]=%" PRId64 ", must be <= %" PRId64, i, dim, dim_max);
    if (__builtin_mul_overflow(elements, dim, &elements))
      return fail(c, c->at - 8, "dims[%d]=%" PRId64 " makes 2^63 elements or more", i, dim);
    t->dims[i] = dim;
  }
  return TANDEM_OK;
}

/* A type that this build does not know leaves n_bytes 0: the tensor cannot be read, but its file can be looked at. */
static status size_tensor(cursor *c, gguf_tensor *t, uint32_t id) {
  bool panels = id >= GGUF_PANELS && id < GGUF_PANELS + QUANT_FILE_END;
  int64_t type = panels ? (int64_t)id - GGUF_PANELS : id;
  const quant_info *info = type < QUANT_FILE_END ? quant_find(type) : NULL;
  t->type = (quant_type)id;
  if (!info) return TANDEM_OK;
  const int64_t *d = t->dims;
  t->type = (quant_type)type;
  t->panels = panels;
  if (panels && d[1] % GGUF_PANEL_ROWS)
    return fail(c, t->info_offset, "dims[1]=%" PRId64 ", must be a multiple of %d for rows in panels", d[1], GGUF_PANEL_ROWS);
  if (d[0] % info->block)
    return fail(c, t->info_offset, "dims[0]=%" PRId64 ", must be a multiple of %d, the block of %s", d[0], info->block,
                info->name);
  size_t n = quant_row_bytes(t->type, d[0]);
  for (int i = 1; i < t->n_dims; i++) {
    if (!size_mul(n, (size_t)d[i], &n)) n = 0;
  }
  if (n == 0 || n > INT64_MAX)
    return fail(c, t->info_offset, "dims %" PRId64 " x %" PRId64 " x %" PRId64 " x %" PRId64 " make 2^63 bytes or more", d[0],
                d[1], d[2], d[3]);
  t->n_bytes = n;
  return TANDEM_OK;
}

static status read_tensor(cursor *c, gguf_tensor *t, arena *names) {
  uint32_t type;
  t->info_offset = c->at;
  TRY(read_name(c, TENSOR_NAME_MAX, names, &t->name));
  TRY(read_dims(c, t));
  TRY(read_u32(c, &type));
  TRY(read_u64(c, &t->offset));
  return size_tensor(c, t, type);
}

/* Offsets in the file count from the start of the data. Each must be where the tensor before it ends, rounded up to the
 * alignment. Where that tensor's type is unknown its end is too: then only the order can be checked. */
static status place_tensor(cursor *c, gguf_tensor *t, const gguf_tensor *before, uint64_t alignment, uint64_t end) {
  char shown[GGUF_NAME_SHOWN];
  bool known = !before || before->n_bytes;
  c->name = (gguf_string){t->name, strlen(t->name)};
  if (t->offset % alignment)
    return fail(c, t->info_offset, "offset %" PRIu64 ", must be a multiple of the alignment %" PRIu64, t->offset, alignment);
  if (known ? t->offset == end : t->offset >= end) return TANDEM_OK;
  if (!before) return fail(c, t->info_offset, "offset %" PRIu64 ", must be 0 as it is the first", t->offset);
  text_escape(shown, sizeof shown, before->name, strlen(before->name));
  return fail(c, t->info_offset, "offset %" PRIu64 ", must be %s%" PRIu64 " to follow tensor '%s'", t->offset,
              known ? "" : "at least ", end, shown);
}

static status place_tensors(cursor *c, gguf_directory *d) {
  uint64_t start = size_align(c->at, d->alignment), n_data = start < c->n ? c->n - start : 0, end = 0;
  for (size_t i = 0; i < d->n_tensors; i++) {
    gguf_tensor *t = &d->tensors[i];
    uint64_t n = t->n_bytes ? t->n_bytes : 1;
    TRY(place_tensor(c, t, i ? t - 1 : NULL, d->alignment, end));
    uint64_t have = t->offset < n_data ? n_data - t->offset : 0;
    t->offset += start; /* if it wraps, there is nothing to have */
    if (n > have) return fail(c, t->info_offset, "unexpected end: need %" PRIu64 " bytes of data, have %" PRIu64, n, have);
    end = size_align(t->offset - start + n, d->alignment);
  }
  return TANDEM_OK;
}

static status read_tensors(cursor *c, gguf_directory *d, int i_file, arena *names) {
  void *p;
  TRY(base_alloc_array(&p, d->n_tensors, sizeof *d->tensors, "tensor records", c->err));
  d->tensors = p;
  c->kind = "tensor";
  for (c->i = 0; c->i < d->n_tensors; c->i++) {
    c->name = (gguf_string){NULL, 0};
    TRY(read_tensor(c, &d->tensors[c->i], names));
    d->tensors[c->i].i_file = i_file;
  }
  return place_tensors(c, d);
}

status gguf_fail_duplicate(const gguf_tensor *t, error *err) {
  cursor c = {.kind = "tensor", .name = {t->name, strlen(t->name)}, .err = err};
  return fail(&c, t->info_offset, "occurs twice");
}

status gguf_directory_read(gguf_directory *d, const os_file *file, int i_file, arena *names, error *err) {
  cursor c = {.bytes = file->bytes, .n = file->n, .err = err};
  *d = (gguf_directory){0};
  TRY(read_header(&c, d));
  TRY(read_keys(&c, d, names));
  return read_tensors(&c, d, i_file, names);
}

void gguf_directory_close(gguf_directory *d) {
  base_free(d->keys);
  base_free(d->table.slots);
  base_free(d->tensors);
  *d = (gguf_directory){0};
}
