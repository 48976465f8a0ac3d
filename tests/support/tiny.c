/* tiny.c: writes small random models, so that tests need no large files and can have any weight type. */
#include "support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

tiny_shape tiny_llama(quant_type type) {
  return (tiny_shape){.arch = "llama", .type = type, .n_layers = 2, .n_embd = 256, .n_heads = 4, .n_heads_kv = 2, .head_dim = 64, .n_ff = 512,
                      .n_vocab = 300, .seed = 7};
}

/* ---- random numbers ---------------------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state) { /* splitmix64 */
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* About normal, variance 1: the sum of twelve uniforms less six. */
static float normal(uint64_t *state) {
  double s = -6;
  for (int i = 0; i < 12; i++) s += (double)(next_random(state) >> 11) * 0x1p-53;
  return (float)s;
}

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

typedef struct maker {
  gguf_writer *w;
  const tiny_shape *s;
  uint64_t random;
  void **owned; /* bytes lent to the writer until it saves */
  int n_owned;
  bool failed;
} maker;

static void *keep(maker *m, size_t n) {
  void *p = calloc(1, n);
  m->failed |= !p || m->n_owned == 1024;
  if (m->failed) return NULL;
  m->owned[m->n_owned++] = p;
  return p;
}

static void matrix(maker *m, const char *name, quant_type type, int64_t cols, int64_t rows, int64_t slabs) {
  int64_t dims[3] = {cols, rows, slabs};
  size_t row = quant_row_bytes(type, cols);
  char *bytes = keep(m, row * (size_t)(rows * slabs));
  float *x = keep(m, (size_t)cols * sizeof *x);
  if (m->failed) return;
  for (int64_t r = 0; r < rows * slabs; r++) {
    for (int64_t c = 0; c < cols; c++) x[c] = normal(&m->random) / sqrtf((float)cols);
    quant_table[type].encode(x, bytes + (size_t)r * row, cols, NULL);
  }
  gguf_write_tensor(m->w, name, type, slabs > 1 ? 3 : 2, dims, bytes);
}

static void vector(maker *m, const char *name, int64_t n) {
  float *x = keep(m, (size_t)n * sizeof *x);
  if (m->failed) return;
  for (int64_t i = 0; i < n; i++) x[i] = 1 + 0.1f * normal(&m->random);
  gguf_write_tensor(m->w, name, QUANT_F32, 1, &n, x);
}

static void layer_matrix(maker *m, int layer, const char *name, quant_type type, int64_t cols, int64_t rows, int64_t slabs) {
  char full[96];
  snprintf(full, sizeof full, "blk.%d.%s", layer, name);
  matrix(m, full, type, cols, rows, slabs);
}

static void layer_vector(maker *m, int layer, const char *name, int64_t n) {
  char full[96];
  snprintf(full, sizeof full, "blk.%d.%s", layer, name);
  vector(m, full, n);
}

static void layer(maker *m, int i) {
  const tiny_shape *s = m->s;
  bool gemma = !strcmp(s->arch, "gemma3");
  layer_vector(m, i, "attn_norm.weight", s->n_embd);
  layer_matrix(m, i, "attn_q.weight", s->type, s->n_embd, s->n_heads * s->head_dim, 1);
  layer_matrix(m, i, "attn_k.weight", s->type, s->n_embd, s->n_heads_kv * s->head_dim, 1);
  layer_matrix(m, i, "attn_v.weight", s->type, s->n_embd, s->n_heads_kv * s->head_dim, 1);
  layer_matrix(m, i, "attn_output.weight", s->type, s->n_heads * s->head_dim, s->n_embd, 1);
  layer_vector(m, i, "ffn_norm.weight", s->n_embd);
  if (gemma) {
    layer_vector(m, i, "attn_q_norm.weight", s->head_dim);
    layer_vector(m, i, "attn_k_norm.weight", s->head_dim);
    layer_vector(m, i, "post_attention_norm.weight", s->n_embd);
    layer_vector(m, i, "post_ffw_norm.weight", s->n_embd);
  }
  if (s->n_experts) {
    layer_matrix(m, i, "ffn_gate_inp.weight", QUANT_F32, s->n_embd, s->n_experts, 1);
    layer_matrix(m, i, "ffn_gate_exps.weight", s->type, s->n_embd, s->n_ff, s->n_experts);
    layer_matrix(m, i, "ffn_up_exps.weight", s->type, s->n_embd, s->n_ff, s->n_experts);
    layer_matrix(m, i, "ffn_down_exps.weight", s->type, s->n_ff, s->n_embd, s->n_experts);
    return;
  }
  layer_matrix(m, i, "ffn_gate.weight", s->type, s->n_embd, s->n_ff, 1);
  layer_matrix(m, i, "ffn_up.weight", s->type, s->n_embd, s->n_ff, 1);
  layer_matrix(m, i, "ffn_down.weight", s->type, s->n_ff, s->n_embd, 1);
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static void key(maker *m, const char *name, int64_t v) {
  char full[96];
  snprintf(full, sizeof full, "%s.%s", m->s->arch, name);
  gguf_write_int(m->w, full, GGUF_U32, v);
}

static void keys(maker *m) {
  const tiny_shape *s = m->s;
  char full[96];
  gguf_write_string(m->w, "general.architecture", s->arch, strlen(s->arch));
  gguf_write_string(m->w, "general.name", "tiny", 4);
  gguf_write_string(m->w, "tokenizer.ggml.model", "no_vocab", 8);
  key(m, "block_count", s->n_layers);
  key(m, "context_length", 2048);
  key(m, "embedding_length", s->n_embd);
  key(m, "feed_forward_length", s->n_ff);
  key(m, "attention.head_count", s->n_heads);
  key(m, "attention.head_count_kv", s->n_heads_kv);
  key(m, "attention.key_length", s->head_dim);
  key(m, "attention.value_length", s->head_dim);
  key(m, "rope.dimension_count", s->head_dim);
  if (s->n_experts) key(m, "expert_count", s->n_experts);
  if (s->n_experts) key(m, "expert_used_count", s->n_used);
  if (s->window) key(m, "attention.sliding_window", s->window);
  snprintf(full, sizeof full, "%s.attention.layer_norm_rms_epsilon", s->arch);
  gguf_write_float(m->w, full, GGUF_F32, 1e-5);
}

static status make(maker *m, const tiny_shape *s, error *err) {
  keys(m);
  matrix(m, "token_embd.weight", s->type, s->n_embd, s->n_vocab, 1);
  vector(m, "output_norm.weight", s->n_embd);
  for (int i = 0; i < s->n_layers; i++) layer(m, i);
  if (m->failed) return base_fail(err, TANDEM_ERROR_MEMORY, "tiny", "out of memory for a test model");
  return TANDEM_OK;
}

status tiny_build(gguf_writer **w, const tiny_shape *s, error *err) {
  void *owned[1024];
  maker m = {.s = s, .random = s->seed, .owned = owned};
  const uint8_t *bytes;
  size_t n;
  TRY(gguf_writer_open(&m.w, err));
  status st = make(&m, s, err);
  if (!st) st = gguf_writer_bytes(m.w, &bytes, &n, err); /* serialised: the lent bytes are no longer needed */
  for (int i = 0; i < m.n_owned; i++) free(owned[i]);
  if (st) gguf_writer_close(m.w);
  else *w = m.w;
  return st;
}

status tiny_write(char *path, const tiny_shape *s, error *err) {
  gguf_writer *w;
  const uint8_t *bytes;
  size_t n;
  snprintf(path, 64, "/tmp/tandem-test-XXXXXX");
  int fd = mkstemp(path);
  if (fd < 0) return base_fail(err, TANDEM_ERROR_IO, path, "%s: cannot be made", path);
  close(fd);
  TRY(tiny_build(&w, s, err));
  status st = gguf_writer_bytes(w, &bytes, &n, err);
  if (!st) st = os_write_all(path, bytes, n, err);
  gguf_writer_close(w);
  return st;
}

void tiny_remove(const char *path) { unlink(path); }

/* ---- where data lies --------------------------------------------------------------------------------------------- */

static bool readable(char *out, size_t n, const char *root, const char *relative) {
  int length = snprintf(out, n, "%s/%s", root, relative);
  return length > 0 && (size_t)length < n && access(out, R_OK) == 0;
}

bool test_data(char *out, size_t n, const char *relative) {
  const char *root = getenv("TANDEM_SOURCE");
  return readable(out, n, root ? root : ".", relative);
}

bool test_shared(char *out, size_t n, const char *relative) {
  const char *root = getenv("TANDEM_SHARED");
  return readable(out, n, root ? root : "../shared", relative);
}
