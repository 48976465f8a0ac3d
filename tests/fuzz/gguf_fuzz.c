/* gguf_fuzz.c: any bytes as a GGUF file. What is accepted can be read to the end, and written again with equal content.
 *
 * Also linked into gguf_test, which replays tests/fuzz/corpus/gguf through it. A broken promise ends in a trap. */
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static volatile uint64_t sink; /* so that reading is not optimised away */

static void require(bool condition) {
  if (!condition) __builtin_trap();
}

static void touch(const void *p, size_t n) {
  uint64_t sum = 0;
  for (size_t i = 0; i < n; i++) sum += ((const uint8_t *)p)[i];
  sink += sum;
}

static void walk_key(const gguf *g, const gguf_key *k) {
  int64_t whole;
  double real;
  bool flag;
  gguf_string s;
  uint64_t at = 0, n_strings = 0;
  require(gguf_find_key(g, k->name) == k);
  require(k->element != GGUF_ARRAY && k->type < GGUF_TYPE_END && k->element < GGUF_TYPE_END);
  touch(k->value, k->n_bytes);
  for (uint64_t i = 0; i < k->n && i < 1000; i++) {
    bool is_int = gguf_int(k, i, &whole), is_double = gguf_double(k, i, &real), is_bool = gguf_bool(k, i, &flag);
    require(k->element != GGUF_STRING || !(is_int || is_double || is_bool));
    require(k->element != GGUF_BOOL || is_bool);
  }
  require(!gguf_int(k, k->n, &whole) && !gguf_double(k, k->n, &real) && !gguf_bool(k, k->n, &flag));
  while (gguf_next_string(k, &at, &s)) {
    touch(s.s, s.n);
    n_strings++;
  }
  require(n_strings == (k->element == GGUF_STRING ? k->n : 0));
  require(gguf_string_value(k, &s) == (k->type == GGUF_STRING));
}

static void walk_tensor(const gguf *g, const gguf_tensor *t) {
  const uint8_t *bytes;
  error err;
  char shown[600];
  require(gguf_find_tensor(g, t->name) == t);
  require(t->n_dims >= 1 && t->n_dims <= 4 && t->i_file == 0);
  for (int i = 0; i < 4; i++) require(t->dims[i] >= 1 && (i < t->n_dims || t->dims[i] == 1));
  gguf_will_need(g, t);
  gguf_dont_need(g, t);
  text_escape(shown, sizeof shown, t->name, strlen(t->name));
  status st = gguf_tensor_bytes(g, t, &bytes, &err);
  require(st == (t->n_bytes ? TANDEM_OK : TANDEM_ERROR_UNSUPPORTED));
  require(st || t->offset + t->n_bytes <= gguf_file_bytes(g));
  if (!st) touch(bytes, t->n_bytes);
}

static void compare_keys(const gguf *a, const gguf *b) {
  require(gguf_n_keys(a) == gguf_n_keys(b));
  for (size_t i = 0; i < gguf_n_keys(a); i++) {
    const gguf_key *x = gguf_key_at(a, i), *y = gguf_key_at(b, i);
    require(!strcmp(x->name, y->name) && x->type == y->type && x->element == y->element);
    require(x->n == y->n && x->n_bytes == y->n_bytes && (x->n_bytes == 0 || !memcmp(x->value, y->value, x->n_bytes)));
  }
}

static void compare_tensor(const gguf *a, const gguf_tensor *x, const gguf *b, const gguf_tensor *y) {
  const uint8_t *p, *q;
  require(!strcmp(x->name, y->name) && x->type == y->type && x->n_dims == y->n_dims && x->n_bytes == y->n_bytes);
  for (int i = 0; i < 4; i++) require(x->dims[i] == y->dims[i]);
  require(!gguf_tensor_bytes(a, x, &p, NULL) && !gguf_tensor_bytes(b, y, &q, NULL) && !memcmp(p, q, x->n_bytes));
}

/* Tensors of a type that this build does not know cannot be written. */
static void compare_tensors(const gguf *a, const gguf *b) {
  size_t n = 0;
  for (size_t i = 0; i < gguf_n_tensors(a); i++) {
    const gguf_tensor *x = gguf_tensor_at(a, i);
    if (x->n_bytes == 0) continue;
    require(n < gguf_n_tensors(b));
    compare_tensor(a, x, b, gguf_tensor_at(b, n++));
  }
  require(n == gguf_n_tensors(b));
}

static void write_again(const gguf *g) {
  gguf_writer *w;
  gguf *again;
  const uint8_t *bytes;
  size_t n;
  if (gguf_writer_open(&w, NULL)) return;
  for (size_t i = 0; i < gguf_n_keys(g); i++) gguf_write_key(w, gguf_key_at(g, i));
  for (size_t i = 0; i < gguf_n_tensors(g); i++) {
    const gguf_tensor *t = gguf_tensor_at(g, i);
    if (t->n_bytes && !gguf_tensor_bytes(g, t, &bytes, NULL)) gguf_write_tensor(w, t->name, t->type, t->n_dims, t->dims, bytes);
  }
  require(!gguf_writer_bytes(w, &bytes, &n, NULL));
  require(!gguf_open_memory(&again, bytes, n, NULL));
  require(gguf_version(again) == 3 && gguf_alignment(again) == gguf_alignment(g));
  compare_keys(g, again);
  compare_tensors(g, again);
  gguf_close(again);
  gguf_writer_close(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
  gguf *g;
  error err = {0};
  status st = gguf_open_memory(&g, bytes, n, &err);
  require((g == NULL) == (st != TANDEM_OK));
  if (st) { /* one line that can be shown, and an offset in the file */
    require(err.code == (int32_t)st && strlen(err.text) > 0 && !strpbrk(err.text, "\n\r\x1b") && err.offset <= n);
    return 0;
  }
  for (size_t i = 0; i < gguf_n_keys(g); i++) walk_key(g, gguf_key_at(g, i));
  for (size_t i = 0; i < gguf_n_tensors(g); i++) walk_tensor(g, gguf_tensor_at(g, i));
  write_again(g);
  gguf_close(g);
  return 0;
}
