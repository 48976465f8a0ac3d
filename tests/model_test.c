/* model_test.c: what a model's file may get wrong, and what the message then says: the key or tensor, what was expected, what
 * the file has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "support/tiny.h"

typedef struct file { /* a model in memory that can be patched */
  uint8_t *bytes;
  size_t n;
} file;

static void ok(status st, const error *err) {
  if (st) fail_msg("%s: %s", tandem_status_name(st), err->text);
}

static file build(const tiny_shape *shape) {
  gguf_writer *w;
  error err = {0};
  const uint8_t *bytes;
  file f;
  ok(tiny_build(&w, shape, &err), &err);
  ok(gguf_writer_bytes(w, &bytes, &f.n, &err), &err);
  f.bytes = malloc(f.n);
  assert_non_null(f.bytes);
  memcpy(f.bytes, bytes, f.n);
  gguf_writer_close(w);
  return f;
}

static uint8_t *find(const file *f, const char *name) {
  uint8_t *p = memmem(f->bytes, f->n, name, strlen(name));
  assert_non_null(p);
  return p;
}

/* The u32 or f32 value of a key. */
static uint8_t *value_of(const file *f, const char *key) { return find(f, key) + strlen(key) + 4; }

static void set_u32(const file *f, const char *key, uint32_t v) { memcpy(value_of(f, key), &v, sizeof v); }

static status open_model(const file *f, error *err) {
  gguf *g;
  device *d;
  model *m;
  const device_ops *ops = device_find("cpu");
  TRY(gguf_open_memory(&g, f->bytes, f->n, err));
  status st = ops->open(&d, &(device_params){.n_threads = 1}, err);
  if (!st) {
    st = model_open(&m, g, ops, d, err);
    if (!st) model_close(m);
    ops->close(d);
  }
  gguf_close(g);
  return st;
}

/* Must be refused with all of these words. */
static void refused(const file *f, const char *a, const char *b, const char *c) {
  error err = {0};
  if (open_model(f, &err) == TANDEM_OK) fail_msg("accepted: %s %s %s", a, b, c);
  const char *words[] = {a, b, c};
  for (int i = 0; i < 3; i++)
    if (words[i] && !strstr(err.text, words[i])) fail_msg("'%s' does not say '%s'", err.text, words[i]);
}

static void keys_out_of_range_are_named(void **state) {
  static const struct { const char *key; uint32_t v; const char *says; } cases[] = {
      {"llama.block_count", 0, "must be 1 to 4096"}, {"llama.block_count", 4097, "must be 1 to 4096"}, {"llama.block_count", UINT32_MAX, "must be"},
      {"llama.block_count", 3, "blk.2"}, {"llama.context_length", 0, "must be"}, {"llama.context_length", UINT32_MAX, "must be"},
      {"llama.embedding_length", 0, "must be"}, {"llama.embedding_length", 128, "128"}, {"llama.feed_forward_length", 0, "must be"},
      {"llama.feed_forward_length", 256, "256 x 256 expected"}, {"llama.attention.head_count", 0, "must be"},
      {"llama.attention.head_count", 4097, "must be"}, {"llama.attention.head_count_kv", 0, "must be"},
      {"llama.attention.head_count_kv", 3, "divide"}, {"llama.attention.head_count_kv", 8, "divide"},
      {"llama.rope.dimension_count", 63, "rope.dimension_count"}, {"llama.rope.dimension_count", 0, "must be"},
      {"llama.rope.dimension_count", 128, "rope.dimension_count"}, {"llama.attention.key_length", 32, "head size 32"},
      {"llama.attention.layer_norm_rms_epsilon", 0, "must be"}, {"llama.attention.layer_norm_rms_epsilon", 0x7fc00000, "must be"},
      {"llama.attention.layer_norm_rms_epsilon", 0x7f800000, "must be"}};
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    file f = build(&shape);
    set_u32(&f, cases[i].key, cases[i].v);
    refused(&f, cases[i].says, NULL, NULL);
    free(f.bytes);
  }
}

static void missing_and_mistyped_keys_are_named(void **state) {
  static const char *const required[] = {"llama.block_count", "llama.context_length", "llama.embedding_length", "llama.attention.head_count",
                                         "llama.attention.layer_norm_rms_epsilon", "general.architecture"};
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  for (size_t i = 0; i < COUNT_OF(required); i++) {
    file f = build(&shape);
    find(&f, required[i])[0] = 'X'; /* another key now */
    refused(&f, required[i], "missing", NULL);
    free(f.bytes);
  }
  file f = build(&shape);
  uint32_t type = GGUF_BOOL; /* 4 bytes of u32 become a bool and three strays: pick a type of the same size */
  type = GGUF_F32;
  memcpy(value_of(&f, "llama.block_count") - 4, &type, sizeof type);
  refused(&f, "llama.block_count", "integer", "f32");
  free(f.bytes);
}

static void an_unknown_architecture_lists_the_known(void **state) {
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  file f = build(&shape);
  uint8_t *value = value_of(&f, "general.architecture");
  assert_memory_equal(value + 8, "llama", 5);
  memcpy(value + 8, "lambda", 5);
  refused(&f, "lambd", "gemma4", "qwen3moe");
  free(f.bytes);
}

static void tensors_that_are_missing_or_misshapen_are_named(void **state) {
  static const char *const needed[] = {"token_embd.weight", "output_norm.weight", "blk.0.attn_q.weight", "blk.1.attn_k.weight", "blk.0.attn_v.weight",
                                       "blk.1.attn_output.weight", "blk.0.ffn_gate.weight", "blk.1.ffn_up.weight", "blk.0.ffn_down.weight", "blk.1.ffn_norm.weight"};
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  for (size_t i = 0; i < COUNT_OF(needed); i++) {
    file f = build(&shape);
    find(&f, needed[i])[0] = 'X';
    refused(&f, needed[i], "missing", NULL);
    free(f.bytes);
  }
  file f = build(&shape);
  uint8_t *dims = find(&f, "blk.1.attn_q.weight") + strlen("blk.1.attn_q.weight") + 4;
  int64_t swapped[2] = {128, 512};
  memcpy(dims, swapped, sizeof swapped);
  refused(&f, "blk.1.attn_q.weight", "256 x 256 expected", "128 x 512");
  free(f.bytes);
}

static void expert_counts_are_checked(void **state) {
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  shape.n_experts = 4;
  shape.n_used = 2;
  static const uint32_t used[] = {0, 5};
  for (size_t i = 0; i < 2; i++) {
    file f = build(&shape);
    set_u32(&f, "llama.expert_used_count", used[i]);
    refused(&f, "expert_used_count", NULL, NULL);
    free(f.bytes);
  }
  file f = build(&shape);
  set_u32(&f, "llama.expert_count", 3);
  refused(&f, "ffn_gate_inp", "256 x 3", "256 x 4");
  free(f.bytes);
}

static void every_type_of_the_shipped_model_is_bound(void **state) {
  (void)state;
  char path[256];
  error err = {0};
  gguf *g;
  device *d;
  model *m;
  const device_ops *ops = device_find("cpu");
  assert_true(test_data(path, sizeof path, "models/tales.gguf"));
  ok(gguf_open(&g, path, &err), &err);
  ok(ops->open(&d, &(device_params){.n_threads = 1}, &err), &err);
  ok(model_open(&m, g, ops, d, &err), &err);
  assert_int_equal(m->n_layers, 6);
  assert_int_equal(m->keys.n_embd, 256);
  assert_true(m->layers[0].sliding && m->layers[1].sliding && !m->layers[2].sliding);
  assert_int_equal(m->layers[2].n_heads_kv, 1);
  assert_int_equal(m->layers[0].n_heads_kv, 2);
  assert_int_equal(m->n_ignored, 0);
  assert_in_range(m->n_params, 5500000, 5900000);
  model_close(m);
  ops->close(d);
  gguf_close(g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keys_out_of_range_are_named),
      cmocka_unit_test(missing_and_mistyped_keys_are_named),
      cmocka_unit_test(an_unknown_architecture_lists_the_known),
      cmocka_unit_test(tensors_that_are_missing_or_misshapen_are_named),
      cmocka_unit_test(expert_counts_are_checked),
      cmocka_unit_test(every_type_of_the_shipped_model_is_bound),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
