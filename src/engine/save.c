/* save.c: a session as a file, and its cells as a hash. Little-endian, nothing aligned, no padding. The input of engine_load is hostile: every number in
 * it is held against the engine's own before it is used, and nothing is allocated by a number from the file but the tokens,
 * which the context bounds.
 *
 *   head     magic, version, number of sections, bytes of the file, checksum of the head
 *   section  type, flags, bytes of the payload | payload | checksum of all that, seeded by the section's offset
 *     1 model   what the cells were computed with: architecture, sizes, hashes of keys, tensors and weights
 *     2 cache   K/V types and page; for each group window, first and length; for each layer of it heads and dims
 *     3 tokens  int32 each
 *     4 logits  of the last token, float32 each; absent if there are none
 *     5 cells   group after group as kv/save.c draws it
 *     6 hidden  the last token's row after the last norm, float32 each; optional: a draft head guesses from it
 *
 * Sections come in the order of their types. One of an unknown type is skipped, or refused if its flags say mandatory. */
#include <inttypes.h>
#include <string.h>

#include "engine/engine.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "values are copied as they are");

enum { SAVE_VERSION = 1, SECTION_MANDATORY = 1 };

typedef enum section_type { SECTION_MODEL = 1, SECTION_CACHE, SECTION_TOKENS, SECTION_LOGITS, SECTION_CELLS, SECTION_HIDDEN, SECTIONS } section_type;

static const char *const section_names[SECTIONS] = {
    [SECTION_MODEL] = "model", [SECTION_CACHE] = "cache", [SECTION_TOKENS] = "tokens", [SECTION_LOGITS] = "logits", [SECTION_CELLS] = "cells",
    [SECTION_HIDDEN] = "hidden"};

/* What text files never begin with, and a transfer that changes line ends breaks. */
static const char magic[8] = "\x89TSES\r\n\x1a";

typedef struct file_head {
  char magic[8];
  uint32_t version, n_sections;
  uint64_t n_bytes;
  uint64_t checksum; /* of the bytes before */
} file_head;
static_assert(sizeof(file_head) == 32, "as on disk");

typedef struct section_head {
  uint32_t type, flags;
  uint64_t n_bytes;
} section_head;
static_assert(sizeof(section_head) == 16, "as on disk");

enum { SECTION_EXTRA = sizeof(section_head) + sizeof(uint64_t) }; /* bytes of a section that are not payload */

typedef struct saved_model {
  char arch[32];
  uint64_t n_layers, n_embd, n_vocab;
  uint64_t file_hash, weights_hash;
} saved_model;
static_assert(sizeof(saved_model) == 72, "as on disk");

typedef struct saved_cache {
  uint32_t page, k_type, v_type, n_groups;
} saved_cache;
static_assert(sizeof(saved_cache) == 16, "as on disk");

typedef struct saved_group {
  int64_t window, first, length;
  uint64_t n_layers;
} saved_group;
static_assert(sizeof(saved_group) == 32, "as on disk");

typedef struct saved_layer {
  uint32_t n_heads, k_dim, v_dim;
} saved_layer;
static_assert(sizeof(saved_layer) == 12, "as on disk");

/* ---- whose cells these are --------------------------------------------------------------------------------------- */

static void add_text(checksum *c, const char *s) { checksum_add(c, s, strlen(s) + 1); }

uint64_t engine_hash_file(const gguf *g) {
  checksum c;
  checksum_open(&c, 0);
  for (size_t i = 0; i < gguf_n_keys(g); i++) {
    const gguf_key *k = gguf_key_at(g, i);
    uint64_t shape[] = {k->type, k->element, k->n, k->n_bytes};
    if (engine_is_container_key(k->name)) continue; /* a packed copy is the same model */
    add_text(&c, k->name);
    checksum_add(&c, shape, sizeof shape);
    checksum_add(&c, k->value, k->n_bytes);
  }
  for (size_t i = 0; i < gguf_n_tensors(g); i++) {
    const gguf_tensor *t = gguf_tensor_at(g, i);
    uint64_t shape[] = {t->type, (uint64_t)t->dims[0], (uint64_t)t->dims[1], (uint64_t)t->dims[2], (uint64_t)t->dims[3]};
    add_text(&c, t->name);
    checksum_add(&c, shape, sizeof shape);
  }
  return checksum_value(&c);
}

/* Of each weight the first and the last bytes and some between: a training step changes all of them, and a sample costs the
 * same for any size. 16 KiB a weight are read in microseconds. */
enum { SAMPLES = 64, SAMPLE_BYTES = 256 };

uint64_t engine_hash_weights(const tandem_engine *e) {
  checksum c;
  if (e->weights_hash) return e->weights_hash;
  checksum_open(&c, 0);
  for (int32_t i = 0; i < e->model->n_weights; i++) {
    const op_value *v = &e->model->weights[i].value;
    const char *bytes = (const char *)e->memory.weights + v->offset;
    if (v->extent <= SAMPLES * SAMPLE_BYTES) {
      checksum_add(&c, bytes, v->extent);
      continue;
    }
    size_t step = (v->extent - SAMPLE_BYTES) / (SAMPLES - 1);
    for (size_t k = 0; k + 1 < SAMPLES; k++) checksum_add(&c, bytes + k * step, SAMPLE_BYTES);
    checksum_add(&c, bytes + v->extent - SAMPLE_BYTES, SAMPLE_BYTES);
  }
  return checksum_value(&c);
}

static saved_model describe_model(const tandem_engine *e) {
  const model *m = e->model;
  saved_model d = {.n_layers = (uint64_t)m->n_layers, .n_embd = (uint64_t)m->keys.n_embd, .n_vocab = (uint64_t)m->n_vocab,
                   .file_hash = e->file_hash, .weights_hash = engine_hash_weights(e)};
  size_t n = strlen(m->arch->name);
  memcpy(d.arch, m->arch->name, n < sizeof d.arch ? n : sizeof d.arch);
  return d;
}

static saved_layer describe_layer(const kv_layer *l) {
  return (saved_layer){.n_heads = (uint32_t)l->n_heads, .k_dim = (uint32_t)l->k_dim, .v_dim = (uint32_t)l->v_dim};
}

static kv_cells cells_of(const tandem_session *s, int g) {
  const tandem_engine *e = s->engine;
  return (kv_cells){.pages = e->pages[g], .sequence = s->sequence, .shape = &e->plan->groups[g].store,
                    .layers = e->plan->groups[g].layers, .store = e->memory.stores[g], .ops = e->ops, .device = e->device};
}

static size_t cache_bytes(const plan *p) {
  size_t n = sizeof(saved_cache);
  for (int g = 0; g < p->n_groups; g++) n += sizeof(saved_group) + (size_t)p->groups[g].n_layers * sizeof(saved_layer);
  return n;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

typedef struct writing {
  const tandem_session *s;
  kv_sink *sink;
  void *user;
  error *err;
  uint64_t at; /* bytes written */
  checksum sum;
} writing;

static status put(void *user, const void *bytes, size_t n, error *err) {
  writing *w = user;
  TRY(w->sink(w->user, bytes, n, err));
  checksum_add(&w->sum, bytes, n);
  w->at += n;
  return TANDEM_OK;
}

static status begin_section(writing *w, section_type type, size_t n) {
  section_head h = {.type = type, .flags = type == SECTION_HIDDEN ? 0 : SECTION_MANDATORY, .n_bytes = n};
  checksum_open(&w->sum, w->at);
  return put(w, &h, sizeof h, w->err);
}

static status end_section(writing *w) {
  uint64_t sum = checksum_value(&w->sum);
  return put(w, &sum, sizeof sum, w->err);
}

static status write_section(writing *w, section_type type, const void *bytes, size_t n) {
  TRY(begin_section(w, type, n));
  TRY(put(w, bytes, n, w->err));
  return end_section(w);
}

static status write_cache(writing *w) {
  const plan *p = w->s->engine->plan;
  saved_cache c = {.page = KV_PAGE, .k_type = (uint32_t)p->limits.k_type, .v_type = (uint32_t)p->limits.v_type, .n_groups = (uint32_t)p->n_groups};
  TRY(begin_section(w, SECTION_CACHE, cache_bytes(p)));
  TRY(put(w, &c, sizeof c, w->err));
  for (int g = 0; g < p->n_groups; g++) {
    const plan_group *group = &p->groups[g];
    saved_group d = {.window = group->window, .first = kv_pages_first(w->s->engine->pages[g], w->s->sequence), .length = w->s->n,
                     .n_layers = (uint64_t)group->n_layers};
    TRY(put(w, &d, sizeof d, w->err));
    for (int32_t i = 0; i < group->n_layers; i++) {
      saved_layer l = describe_layer(&group->layers[i]);
      TRY(put(w, &l, sizeof l, w->err));
    }
  }
  return end_section(w);
}

/* Bytes of all cells, and of the largest page. */
static status count_cells(const tandem_session *s, size_t *n_bytes, size_t *scratch, error *err) {
  *n_bytes = *scratch = 0;
  for (int g = 0; g < s->engine->plan->n_groups; g++) {
    kv_cells c = cells_of(s, g);
    size_t n, page = kv_save_scratch(&c);
    if (!kv_saved_bytes(&c, s->n - kv_pages_first(c.pages, s->sequence), &n) || !size_add(*n_bytes, n, n_bytes))
      return base_fail(err, TANDEM_ERROR_MEMORY, "cells", "cells: their bytes cannot be counted");
    if (page > *scratch) *scratch = page;
  }
  return TANDEM_OK;
}

static status write_cells(writing *w, size_t n_bytes, void *scratch) {
  TRY(begin_section(w, SECTION_CELLS, n_bytes));
  for (int g = 0; g < w->s->engine->plan->n_groups; g++) {
    kv_cells c = cells_of(w->s, g);
    TRY(kv_save(&c, kv_pages_first(c.pages, c.sequence), scratch, put, w, w->err));
  }
  return end_section(w);
}

static size_t hidden_bytes(const tandem_engine *e) { return (size_t)e->model->keys.n_embd * sizeof(float); }

status engine_save(const tandem_session *s, kv_sink *sink, void *user, error *err) {
  const tandem_engine *e = s->engine;
  writing w = {.s = s, .sink = sink, .user = user, .err = err};
  size_t cells, scratch_bytes, tokens = (size_t)s->n * sizeof *s->tokens;
  size_t logits = s->has_logits ? (size_t)e->model->n_vocab * sizeof(float) : 0;
  size_t hidden = engine_hidden(s) ? hidden_bytes(e) : 0;
  void *scratch;
  status st;
  TRY(count_cells(s, &cells, &scratch_bytes, err));
  TRY(base_alloc(&scratch, scratch_bytes, "saving", err));
  file_head h = {.version = SAVE_VERSION, .n_sections = 4 + (logits > 0) + (hidden > 0)};
  memcpy(h.magic, magic, sizeof magic);
  h.n_bytes = sizeof h + sizeof(saved_model) + cache_bytes(e->plan) + tokens + logits + cells + hidden + (uint64_t)h.n_sections * SECTION_EXTRA;
  h.checksum = checksum_bytes(&h, offsetof(file_head, checksum), 0);
  saved_model m = describe_model(e);
  checksum_open(&w.sum, 0);
  TRY_DONE(put(&w, &h, sizeof h, err));
  TRY_DONE(write_section(&w, SECTION_MODEL, &m, sizeof m));
  TRY_DONE(write_cache(&w));
  TRY_DONE(write_section(&w, SECTION_TOKENS, s->tokens, tokens));
  if (logits) TRY_DONE(write_section(&w, SECTION_LOGITS, s->logits, logits));
  TRY_DONE(write_cells(&w, cells, scratch));
  if (hidden) TRY_DONE(write_section(&w, SECTION_HIDDEN, s->hidden, hidden));
done:
  base_free(scratch);
  return st;
}

static status to_file(void *user, const void *bytes, size_t n, error *err) { return os_writer_add(user, bytes, n, err); }

tandem_status tandem_session_save(const tandem_session *s, const char *path, tandem_error *err) {
  os_writer w;
  if (!path || !path[0]) return base_fail(err, TANDEM_ERROR_ARGUMENT, "path", "path: no file is named");
  TRY(os_writer_open(&w, path, err));
  status st = engine_save(s, to_file, &w, err);
  if (!st) st = os_writer_commit(&w, err);
  os_writer_close(&w);
  return st;
}

/* ---- hashing ----------------------------------------------------------------------------------------------------- */

static status to_hash(void *user, const void *bytes, size_t n, error *err) {
  (void)err;
  checksum_add(user, bytes, n);
  return TANDEM_OK;
}

/* Of what a window shows to the next token; where the pages in front of that begin depends on how the tokens came. */
static int64_t first_seen(const plan_group *g, int64_t n) { return g->window > 0 && n >= g->window ? n - g->window + 1 : 0; }

uint64_t tandem_session_hash(const tandem_session *s) {
  const plan *p = s->engine->plan;
  size_t unused, scratch_bytes;
  void *scratch;
  checksum sum;
  if (count_cells(s, &unused, &scratch_bytes, NULL) || base_alloc(&scratch, scratch_bytes, "hashing", NULL)) return 0;
  checksum_open(&sum, 0);
  for (int g = 0; g < p->n_groups; g++) {
    kv_cells c = cells_of(s, g);
    kv_save(&c, first_seen(&p->groups[g], s->n), scratch, to_hash, &sum, NULL);
  }
  base_free(scratch);
  return checksum_value(&sum);
}

/* ---- reading: checks, which change nothing ----------------------------------------------------------------------- */

typedef struct section {
  const uint8_t *bytes; /* of the payload; NULL = absent */
  uint64_t offset;      /* of it */
  uint64_t n;
} section;

typedef struct reading {
  tandem_session *s;
  const uint8_t *bytes;
  size_t n;
  error *err;
  section sections[SECTIONS];
  int64_t n_tokens;
  int32_t *tokens;                                   /* a copy, so that what was checked is what is used */
  int64_t saved[OP_MAX_GROUPS], first[OP_MAX_GROUPS];/* first cells in the file, and to be restored */
} reading;

static status damaged(const reading *r, const char *name, uint64_t offset, const char *what, uint64_t there, uint64_t expected) {
  return base_fail_at(r->err, TANDEM_ERROR_FORMAT, name, offset, "%s: %s %" PRIu64 ", must be %" PRIu64, name, what, there, expected);
}

/* The file is sound, but not for this engine. */
static status differs(const reading *r, const char *name, uint64_t offset, const char *what, uint64_t there, uint64_t here) {
  if (there == here) return TANDEM_OK;
  return base_fail_at(r->err, TANDEM_ERROR_UNSUPPORTED, name, offset, "%s: %s %" PRIu64 " in the file, %" PRIu64 " here", name, what, there, here);
}

static status check_head(const reading *r, file_head *h) {
  if (r->n < sizeof *h) return damaged(r, "head", r->n, "bytes of the file:", r->n, sizeof *h);
  memcpy(h, r->bytes, sizeof *h);
  if (memcmp(h->magic, magic, sizeof magic)) return base_fail_at(r->err, TANDEM_ERROR_FORMAT, "magic", 0, "is no saved session");
  TRY(differs(r, "version", offsetof(file_head, version), "format", h->version, SAVE_VERSION));
  uint64_t sum = checksum_bytes(r->bytes, offsetof(file_head, checksum), 0);
  if (sum != h->checksum)
    return base_fail_at(r->err, TANDEM_ERROR_FORMAT, "head", offsetof(file_head, checksum),
                        "head: damaged, its checksum is %016" PRIx64 ", the bytes give %016" PRIx64, h->checksum, sum);
  if (h->n_bytes != r->n) return damaged(r, "head", r->n, "cut short or grown, bytes of the file:", r->n, h->n_bytes);
  return TANDEM_OK;
}

/* Finds the sections. Only places are taken from the file here. */
static status find_sections(reading *r, uint32_t n_sections) {
  size_t at = sizeof(file_head);
  for (uint32_t i = 0, last = 0; i < n_sections; i++) {
    section_head h;
    if (r->n - at < SECTION_EXTRA) return damaged(r, "sections", at, "number of sections:", i, n_sections);
    memcpy(&h, r->bytes + at, sizeof h);
    uint64_t room = r->n - at - SECTION_EXTRA;
    bool known = h.type > 0 && h.type < SECTIONS;
    if (h.n_bytes > room)
      return base_fail_at(r->err, TANDEM_ERROR_FORMAT, "sections", at, "section %u of type %u: %" PRIu64 " bytes, %" PRIu64 " are left", i, h.type,
                          h.n_bytes, room);
    if (!known && (h.flags & SECTION_MANDATORY))
      return base_fail_at(r->err, TANDEM_ERROR_UNSUPPORTED, "sections", at, "section %u: type %u is mandatory, this version knows 1 to %d", i, h.type,
                          SECTIONS - 1);
    if (known && h.type <= last) return damaged(r, section_names[h.type], at, "out of order, comes after section type", last, h.type - 1);
    if (known) {
      r->sections[h.type] = (section){.bytes = r->bytes + at + sizeof h, .offset = at + sizeof h, .n = h.n_bytes};
      last = h.type;
    }
    at += (size_t)h.n_bytes + SECTION_EXTRA;
  }
  return at == r->n ? TANDEM_OK : damaged(r, "sections", at, "bytes in all sections:", at, r->n);
}

/* The section is there and has n bytes; only then are they read. */
static status check_section(const reading *r, section_type type, uint64_t n) {
  const section *s = &r->sections[type];
  const char *name = section_names[type];
  if (!s->bytes) return base_fail_at(r->err, TANDEM_ERROR_FORMAT, name, r->n, "%s: the section is missing", name);
  if (s->n != n) return damaged(r, name, s->offset, "bytes of the section:", s->n, n);
  uint64_t sum, start = s->offset - sizeof(section_head);
  memcpy(&sum, s->bytes + s->n, sizeof sum);
  uint64_t given = checksum_bytes(r->bytes + start, sizeof(section_head) + (size_t)s->n, start);
  if (sum == given) return TANDEM_OK;
  return base_fail_at(r->err, TANDEM_ERROR_FORMAT, name, start, "%s: damaged, the checksum is %016" PRIx64 ", the bytes give %016" PRIx64, name, sum, given);
}

static status check_model(const reading *r) {
  saved_model here = describe_model(r->s->engine), there;
  uint64_t at = r->sections[SECTION_MODEL].offset;
  TRY(check_section(r, SECTION_MODEL, sizeof there));
  memcpy(&there, r->sections[SECTION_MODEL].bytes, sizeof there);
  if (memcmp(there.arch, here.arch, sizeof here.arch)) {
    char name[2 * sizeof there.arch];
    text_escape(name, sizeof name, there.arch, strnlen(there.arch, sizeof there.arch));
    return base_fail_at(r->err, TANDEM_ERROR_UNSUPPORTED, "model", at, "another model: architecture '%s' in the file, '%s' here", name,
                        r->s->engine->model->arch->name);
  }
  TRY(differs(r, "model", at + offsetof(saved_model, n_layers), "another one: layers", there.n_layers, here.n_layers));
  TRY(differs(r, "model", at + offsetof(saved_model, n_embd), "another one: columns", there.n_embd, here.n_embd));
  TRY(differs(r, "model", at + offsetof(saved_model, n_vocab), "another one: tokens of the vocabulary", there.n_vocab, here.n_vocab));
  TRY(differs(r, "model", at + offsetof(saved_model, file_hash), "another one: hash of keys and tensors", there.file_hash, here.file_hash));
  return differs(r, "model", at + offsetof(saved_model, weights_hash), "another one: hash of the weights", there.weights_hash, here.weights_hash);
}

static status check_type(const reading *r, uint64_t at, const char *side, uint32_t there, quant_type here) {
  if (there == (uint32_t)here) return TANDEM_OK;
  const quant_info *info = quant_find((quant_type)there);
  return base_fail_at(r->err, TANDEM_ERROR_UNSUPPORTED, "kv_type", at, "type of %s in the cache: %s (%u) in the file, %s here", side,
                      info ? info->name : "unknown", there, quant_table[here].name);
}

/* Reads a group's place and takes its geometry for what the engine has. */
static status check_group(reading *r, int g, uint64_t *at) {
  const plan_group *group = &r->s->engine->plan->groups[g];
  saved_group d;
  memcpy(&d, r->bytes + *at, sizeof d);
  TRY(differs(r, "cache", *at + offsetof(saved_group, window), "sliding window", (uint64_t)d.window, (uint64_t)group->window));
  TRY(differs(r, "cache", *at + offsetof(saved_group, n_layers), "layers of a group", d.n_layers, (uint64_t)group->n_layers));
  if (d.length != r->n_tokens)
    return damaged(r, "cache", *at + offsetof(saved_group, length), "length of a group", (uint64_t)d.length, (uint64_t)r->n_tokens);
  r->saved[g] = r->first[g] = d.first;
  *at += sizeof d;
  for (int32_t i = 0; i < group->n_layers; i++, *at += sizeof(saved_layer)) {
    saved_layer there, here = describe_layer(&group->layers[i]);
    memcpy(&there, r->bytes + *at, sizeof there);
    TRY(differs(r, "cache", *at + offsetof(saved_layer, n_heads), "K/V heads of a layer", there.n_heads, here.n_heads));
    TRY(differs(r, "cache", *at + offsetof(saved_layer, k_dim), "columns of K", there.k_dim, here.k_dim));
    TRY(differs(r, "cache", *at + offsetof(saved_layer, v_dim), "columns of V", there.v_dim, here.v_dim));
  }
  return TANDEM_OK;
}

static status check_cache(reading *r) {
  const plan *p = r->s->engine->plan;
  saved_cache c;
  uint64_t at = r->sections[SECTION_CACHE].offset;
  TRY(check_section(r, SECTION_CACHE, cache_bytes(p)));
  memcpy(&c, r->bytes + at, sizeof c);
  TRY(differs(r, "cache", at + offsetof(saved_cache, page), "cells of a page", c.page, KV_PAGE));
  TRY(check_type(r, at + offsetof(saved_cache, k_type), "keys", c.k_type, p->limits.k_type));
  TRY(check_type(r, at + offsetof(saved_cache, v_type), "values", c.v_type, p->limits.v_type));
  TRY(differs(r, "cache", at + offsetof(saved_cache, n_groups), "groups", c.n_groups, (uint64_t)p->n_groups));
  at += sizeof c;
  for (int g = 0; g < p->n_groups; g++) TRY(check_group(r, g, &at));
  return TANDEM_OK;
}

static status check_tokens(reading *r) {
  const tandem_engine *e = r->s->engine;
  const section *s = &r->sections[SECTION_TOKENS];
  void *copy;
  if (s->bytes && s->n / sizeof *r->tokens > (uint64_t)e->plan->limits.n_context)
    return base_fail_at(r->err, TANDEM_ERROR_CONTEXT, "n_context", s->offset, "tokens: %" PRIu64 " are saved, the context holds %" PRId64,
                        s->n / sizeof *r->tokens, e->plan->limits.n_context);
  if (s->n % sizeof *r->tokens) return damaged(r, "tokens", s->offset, "bytes of the section:", s->n, s->n / sizeof *r->tokens * sizeof *r->tokens);
  TRY(check_section(r, SECTION_TOKENS, s->n));
  TRY(base_alloc(&copy, (size_t)s->n, "saved tokens", r->err));
  r->tokens = copy;
  r->n_tokens = (int64_t)(s->n / sizeof *r->tokens);
  memcpy(copy, s->bytes, (size_t)s->n);
  for (int64_t i = 0; i < r->n_tokens; i++)
    if (r->tokens[i] < 0 || r->tokens[i] >= e->model->n_vocab)
      return base_fail_at(r->err, TANDEM_ERROR_FORMAT, "tokens", s->offset + (uint64_t)i * sizeof *r->tokens,
                          "tokens: token %" PRId64 " has id %d, must be 0 to %" PRId64, i, r->tokens[i], e->model->n_vocab - 1);
  return TANDEM_OK;
}

/* All the cells are there, and there is room for them. A pool made for shorter passes may be too small for cells behind the
 * window that the saved session still had: then only what the window sees is restored. */
static status check_cells(reading *r) {
  size_t total = 0;
  for (int g = 0; g < r->s->engine->plan->n_groups; g++) {
    kv_cells c = cells_of(r->s, g);
    size_t n = 0;
    int64_t least = kv_pages_least(c.pages, r->n_tokens);
    bool tight = kv_pages_restore_check(c.pages, c.sequence, r->saved[g], r->n_tokens, NULL) == TANDEM_ERROR_BUSY;
    if (tight && least > r->saved[g]) r->first[g] = least;
    status st = kv_pages_restore_check(c.pages, c.sequence, r->first[g], r->n_tokens, r->err);
    if (st == TANDEM_ERROR_ARGUMENT)
      return base_fail_at(r->err, TANDEM_ERROR_FORMAT, "cache", r->sections[SECTION_CACHE].offset,
                          "cache: a group with cells %" PRId64 " .. %" PRId64 " lacks some that a window of %" PRId64 " sees", r->saved[g],
                          r->n_tokens - 1, r->s->engine->plan->groups[g].window);
    TRY(st);
    if (!kv_saved_bytes(&c, r->n_tokens - r->saved[g], &n) || !size_add(total, n, &total))
      return base_fail(r->err, TANDEM_ERROR_FORMAT, "cells", "cells: their bytes cannot be counted");
  }
  return check_section(r, SECTION_CELLS, total);
}

/* A row of the last token, which need not be there. */
static status check_row(const reading *r, section_type type, uint64_t n_bytes) {
  const section *s = &r->sections[type];
  if (!s->bytes) return TANDEM_OK;
  if (r->n_tokens == 0) return damaged(r, section_names[type], s->offset, "rows without a token:", 1, 0);
  return check_section(r, type, n_bytes);
}

/* ---- reading: what was accepted ---------------------------------------------------------------------------------- */

/* Cannot fail: nothing is allocated, and the room was counted. */
static void restore(const reading *r) {
  tandem_session *s = r->s;
  s->n = 0;
  engine_tell_drafters(s, -1); /* what they keep on the pages goes with them */
  const uint8_t *at = r->sections[SECTION_CELLS].bytes;
  for (int g = 0; g < s->engine->plan->n_groups; g++) {
    kv_cells c = cells_of(s, g);
    size_t n = 0;
    kv_restore(&c, r->saved[g], r->first[g], r->n_tokens, at);
    if (kv_saved_bytes(&c, r->n_tokens - r->saved[g], &n)) at += n;
  }
  if (r->n_tokens) memcpy(s->tokens, r->tokens, (size_t)r->n_tokens * sizeof *s->tokens);
  s->n = r->n_tokens;
  engine_tell_drafters(s, -1);
  s->has_logits = r->sections[SECTION_LOGITS].bytes != NULL;
  if (s->has_logits) memcpy(s->logits, r->sections[SECTION_LOGITS].bytes, (size_t)s->engine->model->n_vocab * sizeof(float));
  s->has_hidden = s->hidden && r->sections[SECTION_HIDDEN].bytes; /* without it a draft head waits for the next token */
  if (s->has_hidden) memcpy(s->hidden, r->sections[SECTION_HIDDEN].bytes, hidden_bytes(s->engine));
}

/* Cheap checks first: a file of another model is refused before gigabytes of its cells are read. */
status engine_load(tandem_session *s, const uint8_t *bytes, size_t n, error *err) {
  reading r = {.s = s, .bytes = bytes, .n = n, .err = err};
  file_head h = {0};
  status st;
  TRY(check_head(&r, &h));
  TRY(find_sections(&r, h.n_sections));
  TRY(check_model(&r));
  TRY_DONE(check_tokens(&r));
  TRY_DONE(check_cache(&r));
  TRY_DONE(check_row(&r, SECTION_LOGITS, (uint64_t)s->engine->model->n_vocab * sizeof(float)));
  TRY_DONE(check_row(&r, SECTION_HIDDEN, hidden_bytes(s->engine)));
  TRY_DONE(check_cells(&r));
  restore(&r);
done:
  base_free(r.tokens);
  return st;
}

tandem_status tandem_session_load(tandem_session *s, const char *path, tandem_error *err) {
  os_file file;
  if (!path || !path[0]) return base_fail(err, TANDEM_ERROR_ARGUMENT, "path", "path: no file is named");
  TRY(os_map(&file, path, err));
  status st = engine_load(s, file.bytes, file.n, err);
  os_unmap(&file);
  char name[300];
  if (st && err) base_fail_in(err, text_escape(name, sizeof name, path, strlen(path)));
  return st;
}
