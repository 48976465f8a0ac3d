/* vocab.c: see vocab.h. Memory that cannot be had ends the test: nothing here is under test. */
#include "support/vocab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/tiny.h"

static gguf_string copy(const char *s, size_t n) {
  char *bytes = malloc(n + 1);
  if (!bytes) abort();
  if (n > 0) memcpy(bytes, s, n);
  bytes[n] = 0;
  return (gguf_string){bytes, n};
}

static void *grow(void *p, size_t n, size_t size) {
  if (n & (n - 1)) return p; /* doubles at powers of two */
  p = realloc(p, (n ? 2 * n : 1) * size);
  if (!p) abort();
  return p;
}

void vocab_begin(vocab *v, const char *model, const char *pre) {
  *v = (vocab){0};
  if (gguf_writer_open(&v->w, NULL)) abort();
  gguf_write_string(v->w, "tokenizer.ggml.model", model, strlen(model));
  if (pre) gguf_write_string(v->w, "tokenizer.ggml.pre", pre, strlen(pre));
}

void vocab_free(vocab *v) {
  for (size_t i = 0; i < v->n_tokens; i++) free((char *)v->tokens[i].s);
  for (size_t i = 0; i < v->n_merges; i++) free((char *)v->merges[i].s);
  free(v->tokens);
  free(v->merges);
  free(v->scores);
  free(v->types);
  gguf_writer_close(v->w);
  *v = (vocab){0};
}

int32_t vocab_add(vocab *v, const char *spelling, size_t n, float score, int type) {
  v->tokens = grow(v->tokens, v->n_tokens, sizeof *v->tokens);
  v->scores = grow(v->scores, v->n_tokens, sizeof *v->scores);
  v->types = grow(v->types, v->n_tokens, sizeof *v->types);
  v->tokens[v->n_tokens] = copy(spelling, n);
  v->scores[v->n_tokens] = score;
  v->types[v->n_tokens] = type;
  return (int32_t)v->n_tokens++;
}

int32_t vocab_word(vocab *v, const char *spelling, float score) {
  return vocab_add(v, spelling, strlen(spelling), score, TOKEN_NORMAL);
}

void vocab_merge_line(vocab *v, const char *line, size_t n) {
  v->merges = grow(v->merges, v->n_merges, sizeof *v->merges);
  v->merges[v->n_merges++] = copy(line, n);
}

void vocab_merge(vocab *v, const char *left, const char *right) {
  char line[256];
  int n = snprintf(line, sizeof line, "%s %s", left, right);
  vocab_merge_line(v, line, (size_t)n);
}

void vocab_add_bytes(vocab *v, bool alphabet) {
  uint32_t next = 0x100;
  for (int b = 0; b < 256; b++) {
    char spelling[8];
    int n;
    if (alphabet) {
      bool printable = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
      n = utf8_encode(printable ? (uint32_t)b : next++, spelling);
    } else {
      n = snprintf(spelling, sizeof spelling, "<0x%02X>", (unsigned)b);
    }
    vocab_add(v, spelling, (size_t)n, 0, alphabet ? TOKEN_NORMAL : TOKEN_BYTE);
  }
}

status vocab_open_tokenizer(vocab *v, tokenizer **t, error *err) {
  const uint8_t *bytes;
  size_t n;
  gguf *g = NULL;
  *t = NULL;
  gguf_write_strings(v->w, "tokenizer.ggml.tokens", v->tokens, v->no_tokens ? 0 : v->n_tokens);
  if (!v->no_types) gguf_write_array(v->w, "tokenizer.ggml.token_type", GGUF_I32, v->types, v->n_tokens);
  if (!v->no_scores) gguf_write_array(v->w, "tokenizer.ggml.scores", GGUF_F32, v->scores, v->n_tokens);
  if (v->n_merges && !v->no_merges) gguf_write_strings(v->w, "tokenizer.ggml.merges", v->merges, v->n_merges);
  status st = gguf_writer_bytes(v->w, &bytes, &n, err);
  if (!st) st = gguf_open_memory(&g, bytes, n, err);
  if (!st) st = token_open(t, g, err);
  gguf_close(g);
  return st;
}

/* ---- with cmocka ------------------------------------------------------------------------------------------------- */

tokenizer *open_vocab(vocab *v) {
  tokenizer *t;
  error err;
  if (vocab_open_tokenizer(v, &t, &err)) fail_msg("%s", err.text);
  vocab_free(v);
  return t;
}

tokenizer *open_file(const char *path, const char *pre) {
  gguf *g = NULL, *changed = NULL;
  gguf_writer *w = NULL;
  tokenizer *t = NULL;
  error err;
  if (gguf_open(&g, path, &err)) fail_msg("%s", err.text);
  if (pre) {
    const uint8_t *bytes;
    size_t n;
    assert_int_equal(gguf_writer_open(&w, &err), TANDEM_OK);
    for (size_t i = 0; i < gguf_n_keys(g); i++) {
      const gguf_key *key = gguf_key_at(g, i);
      if (strcmp(key->name, "tokenizer.ggml.pre") == 0) gguf_write_string(w, key->name, pre, strlen(pre));
      else gguf_write_key(w, key);
    }
    assert_int_equal(gguf_writer_bytes(w, &bytes, &n, &err), TANDEM_OK);
    assert_int_equal(gguf_open_memory(&changed, bytes, n, &err), TANDEM_OK);
  }
  if (token_open(&t, changed ? changed : g, &err)) fail_msg("%s: %s", path, err.text);
  gguf_close(changed);
  gguf_close(g);
  gguf_writer_close(w);
  assert_non_null(t);
  return t;
}

tokenizer *open_tales(void) {
  char path[512];
  assert_true(test_data(path, sizeof path, "models/tales.gguf"));
  return open_file(path, NULL);
}

token_ids encode(const tokenizer *t, const char *s, size_t n, unsigned flags) {
  token_ids ids = {0};
  error err;
  if (token_encode(t, s, n, flags, &ids, &err)) fail_msg("%s", err.text);
  return ids;
}

text decode(const tokenizer *t, token_ids ids, bool special) {
  text out = {0};
  error err;
  if (token_decode(t, ids.ids, ids.n, special, &out, &err)) fail_msg("%s", err.text);
  return out;
}

void check_ids(const tokenizer *t, const char *s, unsigned flags, const int32_t *expected) {
  token_ids ids = encode(t, s, strlen(s), flags);
  for (size_t i = 0; i < ids.n; i++)
    if (expected[i] != ids.ids[i]) fail_msg("\"%s\": id %zu is %d, expected %d", s, i, ids.ids[i], expected[i]);
  if (expected[ids.n] != -1) fail_msg("\"%s\": %zu ids, expected more", s, ids.n);
  token_ids_free(&ids);
}
