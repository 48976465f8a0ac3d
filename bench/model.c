/* model.c: writes a GGUF model of a known shape with random weights, for benchmarks: bench_model SHAPE OUT.gguf [TYPE [HEAD_TYPE]]
 * [--vocab MODEL.gguf]. Matrices become TYPE, the head (output.weight, or token_embd.weight if there is none) HEAD_TYPE, norms
 * and routers stay F32. Which tensors an architecture has, and of what size, is asked of arch/.
 *
 * Weights are normal (sums of twelve uniform numbers) of variance 1 / columns, norms are 1: so the logits are normal too. Encoding
 * billions takes minutes, so few are encoded: a row is put together from pieces of 256 values, drawn at random from the
 * PIECES of its tensor, and a layer has the rows of the layer before from row SHIFT on:
 *
 *   strip of a tensor   |<------- layer 0 ------->|                 in memory: the file, such strips, the embeddings
 *                       |SHIFT|<------- layer 1 ------->|
 *
 * Integers, division and square root only: the same arguments give the same file on every machine. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arch/arch.h"
#include "gguf/gguf.h"

enum {
  PIECE = 256,       /* the largest block of a type: any row of pieces is a row of blocks */
  PIECES = 2048,     /* 2048^2 rows of two pieces: hardly any two are the same */
  SHIFT = 97,        /* rows; prime, so that neither heads nor experts of two layers lie on each other */
  CONTEXT = 131072,
  MAX_TENSORS = 32,  /* kinds; qwen3moe has 15 */
  TOKEN_UNUSED = 5   /* tokenizer.ggml.token_type */
};

typedef struct shape {
  const char *name, *arch;
  int layers, embd, heads, kv, head, ff, vocab; /* ff: of an expert, if there are any */
  bool tied;
  double rope_base;
  int experts, used;
} shape;

/* Rows of matrices are multiples of 256 long. The first two are for tests. */
static const shape shapes[] = {
    /* name         arch       layers embd heads kv head    ff   vocab  tied   rope  experts used */
    {"tiny",        "llama",       2,  512,  8,  4,  64,   768,   4608, true,  1e4, 0, 0},
    {"tiny-moe",    "qwen3moe",    2,  512,  8,  4,  64,   256,   4608, false, 1e6, 8, 2},
    {"llama-110m",  "llama",      12,  768, 12, 12,  64,  2048,  32000, false, 1e4, 0, 0},
    {"qwen3-0.6b",  "qwen3",      28, 1024, 16,  8, 128,  3072, 151936, true,  1e6, 0, 0},
    {"llama-1b",    "llama",      16, 2048, 32,  8,  64,  8192, 128256, true,  5e5, 0, 0},
    {"qwen3-1.7b",  "qwen3",      28, 2048, 16,  8, 128,  6144, 151936, true,  1e6, 0, 0},
    {"llama-3b",    "llama",      28, 3072, 24,  8, 128,  8192, 128256, true,  5e5, 0, 0},
    {"llama-8b",    "llama",      32, 4096, 32,  8, 128, 14336, 128256, false, 5e5, 0, 0},
    {"mixtral-1b",  "llama",      16, 1536, 12,  4, 128,  5632,  32000, false, 1e6, 8, 2},
    {"qwen3moe-1b", "qwen3moe",   16, 2048, 32,  4, 128,   512, 151936, false, 1e6, 128, 8},
};

/* ---- tensors of a shape ------------------------------------------------------------------------------------------ */

typedef struct tensor {
  const char *name;
  int n_layers, n_dims; /* n_layers: 0 if it is the model's */
  int64_t dims[3];
  quant_type type;
  double deviation; /* of matrices */
  uint8_t *strip;   /* rows of all layers, overlapping */
} tensor;

typedef struct tensors {
  tensor list[MAX_TENSORS];
  int n;
} tensors;

static void add(tensors *all, const shape *s, arch_tensor id, quant_type type) {
  const int64_t size[DIM_COUNT] = {
      [DIM_E] = s->embd, [DIM_V] = s->vocab, [DIM_F] = s->ff, [DIM_FX] = s->ff, [DIM_X] = s->experts, [DIM_D] = s->head,
      [DIM_QD] = s->heads * s->head, [DIM_OD] = s->heads * s->head, [DIM_KD] = s->kv * s->head, [DIM_VD] = s->kv * s->head};
  const arch_tensor_info *info = &arch_tensors[id];
  tensor *t = &all->list[all->n++];
  *t = (tensor){.name = info->name, .n_layers = id < T_MODEL_END ? 0 : s->layers, .dims = {1, 1, 1}};
  for (; t->n_dims < 3 && info->dims[t->n_dims] != DIM_NONE; t->n_dims++) t->dims[t->n_dims] = size[info->dims[t->n_dims]];
  t->type = t->n_dims == 1 || id == T_ROUTER ? QUANT_F32 : type;
  /* As large as what all layers add: else the mean of the values that tokens share drowns what token it is, and a router sends
   * all to the same experts. A tied head needs them small: it would answer with the token it was given. */
  t->deviation = id == T_TOKEN_EMBD && !s->tied ? sqrt(s->layers) : 1 / sqrt((double)t->dims[0]);
}

static bool needed(const arch_binding *b, const arch_block *block) {
  switch (b->need) {
  case NEED:
  case NEED_OWN_KV: return true;
  case NEED_QK_NORM:
  case NEED_QK_NORM_KV: return block->flags & ATTN_QK_NORM;
  default: return false;
  }
}

static tensors tensors_of(const shape *s, quant_type type, quant_type head) {
  const arch *a = arch_find(s->arch, strlen(s->arch));
  tensors all = {.n = 0};
  add(&all, s, T_TOKEN_EMBD, s->tied ? head : type);
  add(&all, s, T_OUTPUT_NORM, QUANT_F32);
  if (!s->tied) add(&all, s, T_OUTPUT, head);
  for (int i = 0; i < a->n_blocks; i++) {
    const arch_block *block = &a->layer[i];
    if (block->when == (s->experts ? WHEN_DENSE : WHEN_EXPERTS)) continue;
    if (block->kind == BLOCK_NORM) add(&all, s, block->tensor, QUANT_F32);
    for (const arch_binding *b = arch_bindings(block->kind); b->tensor != T_COUNT; b++)
      if (needed(b, block)) add(&all, s, b->tensor, type);
  }
  return all;
}

/* In millions; active: what a token is multiplied with, so not the embeddings if there is a head of its own. */
static void count_parameters(const shape *s, double *total, double *active) {
  tensors all = tensors_of(s, QUANT_F32, QUANT_F32);
  *total = *active = 0;
  for (int i = 0; i < all.n; i++) {
    const tensor *t = &all.list[i];
    double n = 1e-6 * (double)(t->dims[0] * t->dims[1] * t->dims[2]) * (t->n_layers ? t->n_layers : 1);
    *total += n;
    if (t->n_dims == 3) *active += n * s->used / s->experts;
    else if (i > 0 || s->tied) *active += n;
  }
}

/* ---- random strips ----------------------------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea, Flood, 2014). Streams begin less than 2^46 apart; 2000 steps end no nearer to where they began than
 * 2^52, as steps are the golden ratio: no two streams meet. */
static uint64_t next_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

/* Twelve numbers of 16 bits, each of variance (2^32 - 1) / 12, less their mean. */
static float next_normal(uint64_t *state) {
  int32_t sum = -6 * 65535;
  for (int i = 0; i < 3; i++)
    for (uint64_t r = next_random(state), k = 0; k < 4; k++, r >>= 16) sum += (int32_t)(r & 65535);
  return (float)sum * 0x1p-16f;
}

typedef struct job {
  const tensor *t;
  uint64_t i_tensor;
  int64_t n_rows;
  uint8_t *pieces; /* [PIECES] encoded */
  pool *pool;
} job;

static int64_t strip_rows(const tensor *t) { return t->dims[1] * t->dims[2] + (t->n_layers > 1 ? (t->n_layers - 1) * SHIFT : 0); }

static void fill(void *arg, int i_thread, int n_threads) {
  const job *j = arg;
  const tensor *t = j->t;
  size_t piece_bytes = quant_row_bytes(t->type, PIECE);
  float x[PIECE], scale = (float)t->deviation;
  for (int64_t i = i_thread; i < PIECES; i += n_threads) {
    uint64_t state = (2 * j->i_tensor) << 40 | (uint64_t)i;
    for (int k = 0; k < PIECE; k++) x[k] = scale * next_normal(&state);
    quant_table[t->type].encode(x, j->pieces + (size_t)i * piece_bytes, PIECE, NULL);
  }
  pool_barrier(j->pool);
  int64_t row_pieces = t->dims[0] / PIECE;
  for (int64_t r = i_thread; r < j->n_rows; r += n_threads) {
    uint64_t state = (2 * j->i_tensor + 1) << 40 | (uint64_t)r;
    uint8_t *to = t->strip + (size_t)(r * row_pieces) * piece_bytes;
    for (int64_t k = 0; k < row_pieces; k++, to += piece_bytes)
      memcpy(to, j->pieces + next_random(&state) % PIECES * piece_bytes, piece_bytes);
  }
}

static size_t strip_bytes(const tensor *t) { return (size_t)strip_rows(t) * quant_row_bytes(t->type, t->dims[0]); }

static status make_strip(tensor *t, int i_tensor, pool *p, uint8_t *pieces, error *err) {
  void *strip;
  TRY(base_map(&strip, strip_bytes(t), true, t->name, err));
  t->strip = strip;
  if (t->n_dims == 1)
    for (int64_t i = 0; i < strip_rows(t) * t->dims[0]; i++) ((float *)strip)[i] = 1;
  else
    pool_run(p, fill, &(job){t, (uint64_t)i_tensor, strip_rows(t), pieces, p});
  return TANDEM_OK;
}

static void show(const char *what) {
  if (os_is_terminal(2)) fprintf(stderr, "\r%-40s\r", what);
}

static status make_strips(tensors *all, error *err) {
  pool *p = NULL;
  void *pieces = NULL;
  status st;
  TRY_DONE(pool_open(&p, os_processors(), err));
  TRY_DONE(base_alloc_array(&pieces, PIECES, PIECE * sizeof(float), "pieces", err));
  for (int i = 0; i < all->n; i++) {
    show(all->list[i].name);
    TRY_DONE(make_strip(&all->list[i], i, p, pieces, err));
  }
done:
  base_free(pieces);
  pool_close(p);
  return st;
}

static void write_tensors(gguf_writer *w, const tensors *all, int n_layers) {
  for (int layer = -1; layer < n_layers; layer++)
    for (int i = 0; i < all->n; i++) {
      const tensor *t = &all->list[i];
      char name[64];
      if ((t->n_layers > 0) != (layer >= 0)) continue;
      if (layer < 0) snprintf(name, sizeof name, "%s", t->name);
      else snprintf(name, sizeof name, "blk.%d.%s", layer, t->name);
      size_t first = layer > 0 ? (size_t)layer * SHIFT * quant_row_bytes(t->type, t->dims[0]) : 0;
      gguf_write_tensor(w, name, t->type, t->n_dims, t->dims, t->strip + first);
    }
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static const struct {
  const char *name; /* behind "{arch}." */
  size_t field;     /* an int of shape; not written if it is 0 */
} int_keys[] = {
    {"block_count", offsetof(shape, layers)},
    {"embedding_length", offsetof(shape, embd)},
    {"feed_forward_length", offsetof(shape, ff)},
    {"attention.head_count", offsetof(shape, heads)},
    {"attention.head_count_kv", offsetof(shape, kv)},
    {"attention.key_length", offsetof(shape, head)},
    {"attention.value_length", offsetof(shape, head)},
    {"rope.dimension_count", offsetof(shape, head)},
    {"vocab_size", offsetof(shape, vocab)},
    {"expert_count", offsetof(shape, experts)},
    {"expert_used_count", offsetof(shape, used)},
};

static void write_int(gguf_writer *w, const shape *s, const char *name, int v) {
  char key[96];
  snprintf(key, sizeof key, "%s.%s", s->arch, name);
  if (v) gguf_write_int(w, key, GGUF_U32, v);
}

static void write_float(gguf_writer *w, const shape *s, const char *name, double v) {
  char key[96];
  snprintf(key, sizeof key, "%s.%s", s->arch, name);
  gguf_write_float(w, key, GGUF_F32, v);
}

static void write_keys(gguf_writer *w, const shape *s) {
  char name[64];
  int n = snprintf(name, sizeof name, "random-%s", s->name);
  gguf_write_string(w, "general.architecture", s->arch, strlen(s->arch));
  gguf_write_string(w, "general.name", name, (size_t)n);
  gguf_write_int(w, "general.quantization_version", GGUF_U32, 2);
  for (size_t i = 0; i < COUNT_OF(int_keys); i++) {
    int v;
    memcpy(&v, (const char *)s + int_keys[i].field, sizeof v);
    write_int(w, s, int_keys[i].name, v);
  }
  write_int(w, s, "expert_feed_forward_length", s->experts ? s->ff : 0);
  write_int(w, s, "context_length", CONTEXT);
  write_float(w, s, "rope.freq_base", s->rope_base);
  write_float(w, s, "attention.layer_norm_rms_epsilon", 1e-5);
}

/* ---- vocabulary: another model's, padded with unused tokens ------------------------------------------------------ */

static const struct {
  const char *name;
  gguf_type element;
  uint32_t padding; /* bits of an element */
} token_arrays[] = {
    {"tokenizer.ggml.tokens", GGUF_STRING, 0},
    {"tokenizer.ggml.scores", GGUF_F32, 0},
    {"tokenizer.ggml.token_type", GGUF_I32, TOKEN_UNUSED},
};

static status write_tokens(gguf_writer *w, const gguf_key *k, uint64_t n, arena *a, error *err) {
  void *p;
  TRY(arena_alloc(a, n * sizeof(gguf_string), &p, err));
  gguf_string *all = p;
  for (uint64_t i = 0, at = 0; i < n; i++) {
    char name[32];
    if (i < k->n) {
      gguf_next_string(k, &at, &all[i]); /* true: what was opened can be read */
      continue;
    }
    all[i].n = (size_t)snprintf(name, sizeof name, "<unused%d>", (int)i);
    TRY(arena_text(a, name, all[i].n, &all[i].s, err));
  }
  gguf_write_strings(w, k->name, all, n);
  return TANDEM_OK;
}

static status write_padded(gguf_writer *w, const gguf_key *k, uint64_t n, uint32_t padding, arena *a, error *err) {
  void *p;
  TRY(arena_alloc(a, n * sizeof padding, &p, err));
  memcpy(p, k->value, k->n * sizeof padding);
  for (uint64_t i = k->n; i < n; i++) memcpy((uint32_t *)p + i, &padding, sizeof padding);
  gguf_write_array(w, k->name, k->element, p, n);
  return TANDEM_OK;
}

static status write_tokenizer_key(gguf_writer *w, const gguf_key *k, uint64_t n_file, uint64_t n, arena *a, error *err) {
  for (size_t i = 0; i < COUNT_OF(token_arrays); i++) {
    if (strcmp(k->name, token_arrays[i].name)) continue;
    if (k->type != GGUF_ARRAY || k->element != token_arrays[i].element || k->n != n_file)
      return base_fail(err, TANDEM_ERROR_FORMAT, k->name, "%s: an array of %d x %s expected", k->name, (int)n_file,
                       gguf_type_name(token_arrays[i].element));
    return i == 0 ? write_tokens(w, k, n, a, err) : write_padded(w, k, n, token_arrays[i].padding, a, err);
  }
  gguf_write_key(w, k);
  return TANDEM_OK;
}

static status write_vocabulary(gguf_writer *w, const char *path, const shape *s, error *err) {
  gguf *g = NULL;
  arena *a = NULL;
  status st;
  TRY_DONE(gguf_open(&g, path, err));
  TRY_DONE(arena_open(&a, "vocabulary", err));
  const gguf_key *tokens = gguf_find_key(g, token_arrays[0].name);
  if (!tokens) {
    st = base_fail(err, TANDEM_ERROR_FORMAT, "--vocab", "%s: key %s is missing", path, token_arrays[0].name);
    goto done;
  }
  if (tokens->n > (uint64_t)s->vocab) {
    st = base_fail(err, TANDEM_ERROR_ARGUMENT, "--vocab", "%s: vocabulary of %d tokens, %s has at most %d", path, (int)tokens->n, s->name,
                   s->vocab);
    goto done;
  }
  for (size_t i = 0; i < gguf_n_keys(g); i++) {
    const gguf_key *k = gguf_key_at(g, i);
    if (!strncmp(k->name, "tokenizer.", 10)) TRY_DONE(write_tokenizer_key(w, k, tokens->n, (uint64_t)s->vocab, a, err));
  }
done:
  arena_close(a);
  gguf_close(g);
  return st;
}

/* ---- command line ------------------------------------------------------------------------------------------------ */

static status write_model(const shape *s, const char *path, const char *vocab, quant_type type, quant_type head, error *err) {
  tensors all = tensors_of(s, type, head);
  gguf_writer *w;
  status st;
  TRY_DONE(gguf_writer_open(&w, err));
  write_keys(w, s);
  TRY_DONE(write_vocabulary(w, vocab, s, err));
  TRY_DONE(make_strips(&all, err));
  write_tensors(w, &all, s->layers);
  show(path);
  TRY_DONE(gguf_writer_save(w, path, err));
  show("");
done:
  for (int i = 0; i < all.n; i++) base_unmap(all.list[i].strip, strip_bytes(&all.list[i]));
  gguf_writer_close(w);
  return st;
}

static status find_shape(const char *name, const shape **s, error *err) {
  for (size_t i = 0; i < COUNT_OF(shapes); i++)
    if (!strcmp(shapes[i].name, name)) {
      *s = &shapes[i];
      return TANDEM_OK;
    }
  char known[256] = "";
  for (size_t i = 0, n = 0; i < COUNT_OF(shapes); i++) n += (size_t)snprintf(known + n, sizeof known - n, " %s", shapes[i].name);
  return base_fail(err, TANDEM_ERROR_ARGUMENT, "SHAPE", "shape '%s' is unknown, there are:%s", name, known);
}

static status find_type(const char *name, quant_type *type, error *err) {
  int id = quant_by_name(name);
  if (id >= 0 && quant_table[id].encode) {
    *type = (quant_type)id;
    return TANDEM_OK;
  }
  char known[256] = "";
  for (size_t i = 0, n = 0; i < QUANT_TYPE_END; i++)
    if (quant_table[i].encode) n += (size_t)snprintf(known + n, sizeof known - n, " %s", quant_table[i].name);
  return base_fail(err, TANDEM_ERROR_ARGUMENT, "TYPE", "type '%s' is unknown or cannot be encoded, these can:%s", name, known);
}

static int usage(void) {
  fprintf(stderr, "usage: bench_model SHAPE OUT.gguf [TYPE [HEAD_TYPE]] [--vocab MODEL.gguf]\n"
                  "TYPE is q4_K, HEAD_TYPE q6_K, the vocabulary that of models/tales.gguf if they are not given.\n\n"
                  "SHAPE         arch      parameters     active\n");
  for (size_t i = 0; i < COUNT_OF(shapes); i++) {
    double total, active;
    count_parameters(&shapes[i], &total, &active);
    fprintf(stderr, "%-12s  %-8s  %8.1f M  %7.1f M\n", shapes[i].name, shapes[i].arch, total, active);
  }
  return 2;
}

int main(int argc, char **argv) {
  const char *given[4] = {NULL, NULL, "q4_K", "q6_K"}, *vocab = "models/tales.gguf";
  const shape *s = NULL;
  quant_type type = QUANT_F32, head = QUANT_F32;
  error err = {0};
  int n = 0;
  for (int i = 1; i < argc; i++) {
    bool option = !strcmp(argv[i], "--vocab");
    if (option ? i + 1 == argc : n == 4) return usage();
    if (option) vocab = argv[++i];
    else given[n++] = argv[i];
  }
  if (n < 2) return usage();
  if (!find_shape(given[0], &s, &err) && !find_type(given[2], &type, &err) && !find_type(given[3], &head, &err) &&
      !write_model(s, given[1], vocab, type, head, &err))
    return 0;
  fprintf(stderr, "bench_model: %s\n", err.text);
  return 1;
}
