/* read.c: opening a model of one or several files, and looking things up in it.
 *
 * Owns the mapped files, the keys of the first and the tensors of all. What a file holds is read by directory.c. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gguf/directory.h"

enum { PARTS_MAX = 99999, PATH_BYTES = 4096 };

struct gguf {
  const char *path;
  arena *names;   /* of keys and tensors, and the path */
  os_file *files; /* [n_files] */
  int n_files, files_capacity;
  bool borrowed; /* opened from memory: nothing to unmap, no advice to give */
  uint64_t file_bytes;
  gguf_directory directory; /* of the first file; its tensors are those of all files */
  size_t tensors_capacity;
  gguf_table tensor_table;
};

static const os_file *file_of(const gguf *g, const gguf_tensor *t) { return &g->files[t->i_file]; }

/* ---- one file ---------------------------------------------------------------------------------------------------- */

static status open_empty(gguf **out, const char *path, error *err) {
  void *p;
  status st;
  TRY(base_alloc(&p, sizeof(gguf), "gguf", err));
  gguf *g = p;
  TRY_DONE(arena_open(&g->names, "gguf names", err));
  TRY_DONE(arena_text(g->names, path, strlen(path), &g->path, err));
  *out = g;
  return TANDEM_OK;
done:
  gguf_close(g);
  return st;
}

/* Room for one more element in an array that doubles. */
static status grow(void **p, size_t used, size_t *capacity, size_t more, size_t size, const char *what, error *err) {
  size_t wanted = used + more, n = *capacity ? *capacity : 1, old_bytes, new_bytes;
  if (wanted <= *capacity) return TANDEM_OK;
  while (n < wanted) n *= 2;
  if (!size_mul(*capacity, size, &old_bytes) || !size_mul(n, size, &new_bytes))
    return base_fail(err, TANDEM_ERROR_MEMORY, what, "%s: %zu cannot be held", what, wanted);
  TRY(base_realloc(p, old_bytes, new_bytes, what, err));
  *capacity = n;
  return TANDEM_OK;
}

static status add_file(gguf *g, os_file file, error *err) {
  void *p = g->files;
  size_t capacity = (size_t)g->files_capacity;
  TRY(grow(&p, (size_t)g->n_files, &capacity, 1, sizeof *g->files, "files", err));
  g->files = p;
  g->files_capacity = (int)capacity;
  g->files[g->n_files++] = file;
  g->file_bytes += file.n;
  return TANDEM_OK;
}

static status map_file(gguf *g, const char *path, error *err) {
  os_file file;
  TRY(os_map(&file, path, err));
  status st = add_file(g, file, err);
  if (st) os_unmap(&file);
  return st;
}

/* ---- split models: PREFIX-00001-of-00003.gguf -------------------------------------------------------------------- */

typedef struct split {
  int64_t no, count, n_tensors;
} split;

static status __attribute__((format(printf, 3, 4))) fail_key(const gguf_key *k, error *err, const char *format, ...) {
  char name[GGUF_NAME_SHOWN], reason[200];
  va_list args;
  va_start(args, format);
  vsnprintf(reason, sizeof reason, format, args);
  va_end(args);
  text_escape(name, sizeof name, k->name, strlen(k->name));
  return base_fail_at(err, TANDEM_ERROR_FORMAT, name, k->offset, "key '%s': %s", name, reason);
}

static status get_split_key(const gguf_directory *d, const char *name, int64_t most, int64_t *v, error *err) {
  size_t i = gguf_table_find(&d->table, d->keys, sizeof *d->keys, name);
  if (i == SIZE_MAX) return base_fail(err, TANDEM_ERROR_FORMAT, name, "key '%s': is missing", name);
  const gguf_key *k = &d->keys[i];
  if (k->type == GGUF_ARRAY || !gguf_int(k, 0, v))
    return fail_key(k, err, "is %s, must be an integer", gguf_type_name(k->type));
  if (*v >= 0 && *v <= most) return TANDEM_OK;
  return fail_key(k, err, "is %" PRId64 ", must be 0 to %" PRId64, *v, most);
}

static status get_split(const gguf_directory *d, split *s, error *err) {
  *s = (split){.no = 0, .count = 1};
  if (gguf_table_find(&d->table, d->keys, sizeof *d->keys, "split.count") == SIZE_MAX) return TANDEM_OK;
  TRY(get_split_key(d, "split.count", PARTS_MAX, &s->count, err));
  if (s->count <= 1) return TANDEM_OK;
  TRY(get_split_key(d, "split.no", s->count - 1, &s->no, err));
  return get_split_key(d, "split.tensors.count", INT32_MAX, &s->n_tensors, err);
}

/* The path of part i, counted from 0, from that of the first. False if the first is not named so, or the path is too long. */
static bool name_part(const char *first, int64_t i, int64_t count, char *path) {
  char suffix[32];
  size_t n = strlen(first), n_suffix = (size_t)snprintf(suffix, sizeof suffix, "-00001-of-%05d.gguf", (int)count);
  if (n < n_suffix || n >= PATH_BYTES || strcmp(first + n - n_suffix, suffix)) return false;
  snprintf(path, PATH_BYTES, "%.*s-%05d-of-%05d.gguf", (int)(n - n_suffix), first, (int)i + 1, (int)count);
  return true;
}

static status check_first(const gguf *g, const split *s, error *err) {
  char path[PATH_BYTES];
  int no = (int)s->no, n = (int)s->count;
  if (no) return base_fail(err, TANDEM_ERROR_FORMAT, "split.no", "is part %d of %d of a model: open the first part", no + 1, n);
  if (name_part(g->path, 0, n, path)) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_FORMAT, "split.count",
                   "is the first of %d parts, its name must end in -00001-of-%05d.gguf", n, n);
}

static bool is_own_key(const char *name) { return !strcmp(name, "split.no") || !strcmp(name, "general.alignment"); }

static bool same_value(const gguf_key *a, const gguf_key *b) {
  if (a->type != b->type || a->element != b->element || a->n_bytes != b->n_bytes) return false;
  return a->n_bytes == 0 || !memcmp(a->value, b->value, a->n_bytes);
}

/* The first part has all keys; those of another part are either its own or the same. */
static status check_keys(const gguf_directory *first, const gguf_directory *part, error *err) {
  for (size_t i = 0; i < part->n_keys; i++) {
    const gguf_key *k = &part->keys[i];
    if (is_own_key(k->name)) continue;
    size_t at = gguf_table_find(&first->table, first->keys, sizeof *first->keys, k->name);
    const gguf_key *f = at == SIZE_MAX ? NULL : &first->keys[at];
    if (!f) return fail_key(k, err, "is not in the first part: is this a part of another model?");
    if (!same_value(f, k)) return fail_key(k, err, "differs from the first part: is this a part of another model?");
  }
  return TANDEM_OK;
}

static status check_part(const gguf *g, const split *s, const gguf_directory *part, int i, error *err) {
  split own;
  TRY(get_split(part, &own, err));
  int count = (int)own.count, no = (int)own.no;
  if (count != s->count)
    return base_fail(err, TANDEM_ERROR_FORMAT, "split.count", "split.count=%d, the first part has %d", count, (int)s->count);
  if (no != i) return base_fail(err, TANDEM_ERROR_FORMAT, "split.no", "split.no=%d, must be %d", no, i);
  return check_keys(&g->directory, part, err);
}

static status append_tensors(gguf *g, const gguf_directory *part, error *err) {
  gguf_directory *d = &g->directory;
  void *p = d->tensors;
  TRY(grow(&p, d->n_tensors, &g->tensors_capacity, part->n_tensors, sizeof *d->tensors, "tensor records", err));
  d->tensors = p;
  if (part->n_tensors) memcpy(d->tensors + d->n_tensors, part->tensors, part->n_tensors * sizeof *d->tensors);
  d->n_tensors += part->n_tensors;
  return TANDEM_OK;
}

static status add_part(gguf *g, const split *s, int i, error *err) {
  char path[PATH_BYTES], shown[PATH_BYTES], prefix[32];
  gguf_directory part = {0};
  status st;
  st = name_part(g->path, i, s->count, path) ? map_file(g, path, err) : base_fail(err, TANDEM_ERROR_INTERNAL, NULL, "no name");
  if (!st) {
    st = gguf_directory_read(&part, &g->files[i], i, g->names, err);
    if (!st) st = check_part(g, s, &part, i, err);
    if (!st) st = append_tensors(g, &part, err);
    gguf_directory_close(&part);
    if (st) base_fail_in(err, text_escape(shown, sizeof shown, path, strlen(path)));
  }
  snprintf(prefix, sizeof prefix, "part %d of %d", i + 1, (int)s->count);
  if (st) base_fail_in(err, prefix);
  return st;
}

static status add_parts(gguf *g, error *err) {
  split s;
  TRY(get_split(&g->directory, &s, err));
  if (s.count <= 1) return TANDEM_OK;
  TRY(check_first(g, &s, err));
  for (int i = 1; i < s.count; i++) TRY(add_part(g, &s, i, err));
  if (g->directory.n_tensors == (size_t)s.n_tensors) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_FORMAT, "split.tensors.count", "split.tensors.count=%" PRId64 ", the %d parts have %zu",
                   s.n_tensors, (int)s.count, g->directory.n_tensors);
}

/* ---- open, close ------------------------------------------------------------------------------------------------- */

/* A name may occur once over all files. */
static status index_tensors(gguf *g, error *err) {
  const gguf_directory *d = &g->directory;
  size_t duplicate;
  TRY(gguf_table_build(&g->tensor_table, d->tensors, sizeof *d->tensors, d->n_tensors, &duplicate, err));
  return duplicate < d->n_tensors ? gguf_fail_duplicate(&d->tensors[duplicate], err) : TANDEM_OK;
}

static status read_files(gguf *g, error *err) {
  TRY(gguf_directory_read(&g->directory, &g->files[0], 0, g->names, err));
  g->tensors_capacity = g->directory.n_tensors;
  if (!g->borrowed) TRY(add_parts(g, err));
  return index_tensors(g, err);
}

status gguf_open(gguf **out, const char *path, error *err) {
  gguf *g = NULL;
  char shown[PATH_BYTES];
  status st;
  *out = NULL;
  TRY(open_empty(&g, path, err));
  TRY_DONE(map_file(g, path, err));
  if ((st = read_files(g, err))) base_fail_in(err, text_escape(shown, sizeof shown, path, strlen(path)));
  if (st) goto done;
  *out = g;
  return TANDEM_OK;
done:
  gguf_close(g);
  return st;
}

status gguf_open_memory(gguf **out, const void *bytes, size_t n, error *err) {
  gguf *g = NULL;
  status st;
  *out = NULL;
  TRY(open_empty(&g, "memory", err));
  g->borrowed = true;
  TRY_DONE(add_file(g, (os_file){.bytes = bytes, .n = n}, err));
  if ((st = read_files(g, err))) base_fail_in(err, "memory");
  if (st) goto done;
  *out = g;
  return TANDEM_OK;
done:
  gguf_close(g);
  return st;
}

void gguf_close(gguf *g) {
  if (!g) return;
  for (int i = 0; i < g->n_files && !g->borrowed; i++) os_unmap(&g->files[i]);
  base_free(g->files);
  gguf_directory_close(&g->directory);
  base_free(g->tensor_table.slots);
  arena_close(g->names);
  base_free(g);
}

/* ---- looking up -------------------------------------------------------------------------------------------------- */

const char *gguf_path(const gguf *g) { return g->path; }
int gguf_version(const gguf *g) { return g->directory.version; }
int gguf_n_files(const gguf *g) { return g->n_files; }
uint64_t gguf_file_bytes(const gguf *g) { return g->file_bytes; }
uint64_t gguf_alignment(const gguf *g) { return g->directory.alignment; }
size_t gguf_n_keys(const gguf *g) { return g->directory.n_keys; }
const gguf_key *gguf_key_at(const gguf *g, size_t i) { return &g->directory.keys[i]; }
size_t gguf_n_tensors(const gguf *g) { return g->directory.n_tensors; }
const gguf_tensor *gguf_tensor_at(const gguf *g, size_t i) { return &g->directory.tensors[i]; }

const gguf_key *gguf_find_key(const gguf *g, const char *name) {
  const gguf_directory *d = &g->directory;
  size_t i = gguf_table_find(&d->table, d->keys, sizeof *d->keys, name);
  return i == SIZE_MAX ? NULL : &d->keys[i];
}

const gguf_tensor *gguf_find_tensor(const gguf *g, const char *name) {
  const gguf_directory *d = &g->directory;
  size_t i = gguf_table_find(&g->tensor_table, d->tensors, sizeof *d->tensors, name);
  return i == SIZE_MAX ? NULL : &d->tensors[i];
}

/* "type 43 unknown to this build, nearest is 42 (q2_0)" */
static status fail_type(const gguf_tensor *t, error *err) {
  char name[GGUF_NAME_SHOWN];
  int64_t id = (int64_t)t->type, nearest = 0;
  for (int64_t i = 1; i < QUANT_FILE_END; i++) {
    int64_t now = i < id ? id - i : i - id, best = nearest < id ? id - nearest : nearest - id;
    if (quant_find(i) && now < best) nearest = i;
  }
  text_escape(name, sizeof name, t->name, strlen(t->name));
  return base_fail_at(err, TANDEM_ERROR_UNSUPPORTED, name, t->info_offset,
                      "tensor '%s': type %" PRId64 " unknown to this build, the nearest known is %" PRId64 " (%s)", name, id,
                      nearest, quant_table[nearest].name);
}

status gguf_tensor_bytes(const gguf *g, const gguf_tensor *t, const uint8_t **bytes, error *err) {
  char name[GGUF_NAME_SHOWN];
  *bytes = NULL;
  if (t->n_bytes == 0) return fail_type(t, err);
  if (!base_fault_hit(FAULT_READ)) {
    *bytes = file_of(g, t)->bytes + t->offset;
    return TANDEM_OK;
  }
  text_escape(name, sizeof name, t->name, strlen(t->name));
  return base_fail_at(err, TANDEM_ERROR_IO, name, t->offset, "tensor '%s': its bytes cannot be read", name);
}

void gguf_will_need(const gguf *g, const gguf_tensor *t) {
  if (!g->borrowed) os_will_need(file_of(g, t), t->offset, t->n_bytes);
}

void gguf_dont_need(const gguf *g, const gguf_tensor *t) {
  if (!g->borrowed) os_dont_need(file_of(g, t), t->offset, t->n_bytes);
}

void gguf_dont_need_part(const gguf *g, const gguf_tensor *t, uint64_t first, uint64_t n) {
  if (!g->borrowed && first <= t->n_bytes && n <= t->n_bytes - first) os_dont_need(file_of(g, t), t->offset + first, n);
}

status gguf_check(const gguf *g, error *err) {
  for (int i = 0; i < g->n_files; i++)
    if (os_guard_lost(&g->files[i].guard)) {
      char name[300];
      text_escape(name, sizeof name, g->path, strlen(g->path));
      return base_fail(err, TANDEM_ERROR_IO, name, "%s: became shorter while it was read", name);
    }
  return TANDEM_OK;
}

bool gguf_mappable(const gguf *g) { return !g->borrowed && g->n_files == 1; }

status gguf_map(const gguf *g, uint64_t offset, size_t n, void *at, os_mapping **m, error *err) {
  return os_mapping_open(m, g->path, &g->files[0].is, offset, n, at, err);
}

size_t gguf_memory(const gguf *g) {
  const gguf_directory *d = &g->directory;
  size_t slots = d->table.n_slots + g->tensor_table.n_slots;
  return sizeof *g + arena_bytes(g->names) + (size_t)g->files_capacity * sizeof *g->files + d->n_keys * sizeof *d->keys +
         (g->tensors_capacity > d->n_tensors ? g->tensors_capacity : d->n_tensors) * sizeof *d->tensors + slots * sizeof *d->table.slots;
}
