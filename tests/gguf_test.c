/* gguf_test.c: what is written is read back; what cannot be read, allocated or trusted is a status.
 *
 * Malformed files with the line each leads to are in gguf_corpus_test.c, split models in gguf_split_test.c. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gguf/gguf.h"

#define CORPUS "tests/fuzz/corpus/gguf"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n); /* tests/fuzz/gguf_fuzz.c */

static char folder[64];

static const char *in_folder(const char *name) {
  static char path[16][256]; /* a result lives as long as a test needs it */
  static int turn;
  turn = (turn + 1) % 16;
  snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
  return path[turn];
}

static gguf_string string_of(const char *s) { return (gguf_string){s, strlen(s)}; }

/* ---- a small file with everything in it -------------------------------------------------------------------------- */

static const float row_a[8] = {0, 1, 2, 3, 4, 5, 6, 7};
static const uint8_t blocks_b[2 * 18] = {1, 2, 3, [35] = 9}; /* q4_0: two blocks of 32 values */

static void write_keys(gguf_writer *w) {
  static const int32_t numbers[] = {1, -2, 3};
  static const uint8_t flags[] = {0, 1};
  const gguf_string words[] = {string_of(""), string_of("two"), {"\xff\n\0", 3}};
  gguf_write_string(w, "general.architecture", "llama", 5);
  gguf_write_int(w, "u8", GGUF_U8, 255);
  gguf_write_int(w, "i8", GGUF_I8, -128);
  gguf_write_int(w, "u16", GGUF_U16, 65535);
  gguf_write_int(w, "i16", GGUF_I16, -32768);
  gguf_write_int(w, "u32", GGUF_U32, UINT32_MAX);
  gguf_write_int(w, "i32", GGUF_I32, INT32_MIN);
  gguf_write_int(w, "u64", GGUF_U64, INT64_MAX);
  gguf_write_int(w, "i64", GGUF_I64, INT64_MIN);
  gguf_write_int(w, "bool", GGUF_BOOL, 1);
  gguf_write_int(w, "zero", GGUF_U64, 0);
  gguf_write_int(w, "no", GGUF_BOOL, 0);
  gguf_write_float(w, "f32", GGUF_F32, 0.1);
  gguf_write_float(w, "f64", GGUF_F64, 0.1);
  gguf_write_array(w, "numbers", GGUF_I32, numbers, COUNT_OF(numbers));
  gguf_write_array(w, "flags", GGUF_BOOL, flags, COUNT_OF(flags));
  gguf_write_array(w, "none", GGUF_F32, NULL, 0);
  gguf_write_strings(w, "words", words, COUNT_OF(words));
  gguf_write_strings(w, "no words", NULL, 0);
}

static void write_tensors(gguf_writer *w) {
  gguf_write_tensor(w, "a", QUANT_F32, 1, (const int64_t[]){8}, row_a);
  gguf_write_tensor(w, "b", QUANT_Q4_0, 4, (const int64_t[]){32, 1, 2, 1}, blocks_b);
  gguf_write_tensor(w, "c", QUANT_I8, 2, (const int64_t[]){3, 1}, "xyz");
}

static gguf_writer *open_writer(void) {
  gguf_writer *w;
  assert_int_equal(gguf_writer_open(&w, NULL), TANDEM_OK);
  return w;
}

static gguf_writer *write_small(const uint8_t **bytes, size_t *n) {
  gguf_writer *w = open_writer();
  write_keys(w);
  write_tensors(w);
  assert_int_equal(gguf_writer_bytes(w, bytes, n, NULL), TANDEM_OK);
  return w;
}

static void check_small(const gguf *g) {
  const gguf_tensor *a = gguf_find_tensor(g, "a"), *b = gguf_find_tensor(g, "b"), *c = gguf_find_tensor(g, "c");
  const uint8_t *bytes;
  assert_int_equal(gguf_n_keys(g), 19);
  assert_int_equal(gguf_n_tensors(g), 3);
  assert_ptr_equal(gguf_tensor_at(g, 1), b);
  assert_int_equal(b->type, QUANT_Q4_0);
  assert_int_equal(b->n_dims, 4);
  assert_int_equal(b->dims[2], 2);
  assert_int_equal(b->n_bytes, sizeof blocks_b);
  assert_int_equal(c->dims[3], 1);
  assert_int_equal(gguf_tensor_bytes(g, a, &bytes, NULL), TANDEM_OK);
  assert_memory_equal(bytes, row_a, sizeof row_a);
  assert_int_equal(gguf_tensor_bytes(g, b, &bytes, NULL), TANDEM_OK);
  assert_memory_equal(bytes, blocks_b, sizeof blocks_b);
  assert_int_equal(gguf_tensor_bytes(g, c, &bytes, NULL), TANDEM_OK);
  assert_memory_equal(bytes, "xyz", 3);
}

static void check_int(const gguf *g, const char *name, int64_t expected) {
  int64_t v;
  const gguf_key *k = gguf_find_key(g, name);
  assert_non_null(k);
  assert_true(gguf_int(k, 0, &v));
  assert_true(v == expected);
  assert_false(gguf_int(k, 1, &v));
}

static void test_written_keys_are_read(void **state) {
  (void)state;
  const uint8_t *bytes;
  size_t n;
  gguf *g;
  int64_t v;
  double x;
  bool b;
  gguf_writer *w = write_small(&bytes, &n);
  assert_int_equal(gguf_open_memory(&g, bytes, n, NULL), TANDEM_OK);
  assert_int_equal(gguf_version(g), 3);
  assert_int_equal(gguf_alignment(g), 32);
  assert_int_equal(gguf_n_files(g), 1);
  assert_int_equal(gguf_file_bytes(g), n);
  assert_string_equal(gguf_path(g), "memory");
  check_small(g);
  check_int(g, "u8", 255);
  check_int(g, "i8", -128);
  check_int(g, "u16", 65535);
  check_int(g, "i16", -32768);
  check_int(g, "u32", UINT32_MAX);
  check_int(g, "i32", INT32_MIN);
  check_int(g, "u64", INT64_MAX);
  check_int(g, "i64", INT64_MIN);
  check_int(g, "zero", 0);
  assert_true(gguf_bool(gguf_find_key(g, "bool"), 0, &b) && b);
  assert_true(gguf_bool(gguf_find_key(g, "no"), 0, &b) && !b);
  assert_true(gguf_double(gguf_find_key(g, "f32"), 0, &x) && x == (double)0.1f);
  assert_true(gguf_double(gguf_find_key(g, "f64"), 0, &x) && x == 0.1);
  const gguf_key *numbers = gguf_find_key(g, "numbers");
  assert_int_equal(numbers->type, GGUF_ARRAY);
  assert_int_equal(numbers->element, GGUF_I32);
  assert_int_equal(numbers->n, 3);
  assert_int_equal(numbers->n_bytes, 12);
  assert_true(gguf_int(numbers, 1, &v) && v == -2);
  assert_false(gguf_int(numbers, 3, &v));
  assert_string_equal(gguf_key_at(g, 1)->name, "u8");
  assert_null(gguf_find_key(g, "u"));
  assert_null(gguf_find_key(g, ""));
  assert_null(gguf_find_tensor(g, "u8"));
  gguf_close(g);
  gguf_writer_close(w);
}

static void test_strings(void **state) {
  (void)state;
  const uint8_t *bytes;
  size_t n;
  gguf *g;
  gguf_string s;
  uint64_t at = 0;
  gguf_writer *w = write_small(&bytes, &n);
  assert_int_equal(gguf_open_memory(&g, bytes, n, NULL), TANDEM_OK);
  assert_true(gguf_string_value(gguf_find_key(g, "general.architecture"), &s));
  assert_int_equal(s.n, 5);
  assert_memory_equal(s.s, "llama", 5);
  const gguf_key *words = gguf_find_key(g, "words");
  assert_false(gguf_string_value(words, &s));
  assert_true(gguf_next_string(words, &at, &s) && s.n == 0);
  assert_true(gguf_next_string(words, &at, &s) && s.n == 3 && !memcmp(s.s, "two", 3));
  assert_true(gguf_next_string(words, &at, &s) && s.n == 3 && !memcmp(s.s, "\xff\n\0", 3));
  assert_false(gguf_next_string(words, &at, &s));
  at = 0;
  assert_false(gguf_next_string(gguf_find_key(g, "no words"), &at, &s));
  assert_false(gguf_next_string(gguf_find_key(g, "numbers"), &at, &s));
  assert_false(gguf_string_value(gguf_find_key(g, "u8"), &s));
  gguf_close(g);
  gguf_writer_close(w);
}

/* ---- conversions ------------------------------------------------------------------------------------------------- */

static gguf_key scalar(gguf_type type, const void *value, size_t n) {
  return (gguf_key){.name = "k", .type = type, .element = type, .n = 1, .n_bytes = n, .value = value};
}

static void test_conversions_lose_nothing(void **state) {
  (void)state;
  const uint64_t large = (UINT64_C(1) << 63), odd = (UINT64_C(1) << 53) + 1, even = UINT64_C(1) << 53;
  const int64_t minus = -(INT64_C(1) << 53);
  const float half = 0.5f, nan = NAN;
  int64_t v;
  double x;
  bool b;
  gguf_key k = scalar(GGUF_U64, &large, 8);
  assert_false(gguf_int(&k, 0, &v));
  assert_false(gguf_double(&k, 0, &x));
  k = scalar(GGUF_U64, &odd, 8);
  assert_true(gguf_int(&k, 0, &v) && v == (int64_t)odd);
  assert_false(gguf_double(&k, 0, &x));
  k = scalar(GGUF_I64, &even, 8);
  assert_true(gguf_double(&k, 0, &x) && x == 0x1p53);
  k = scalar(GGUF_I64, &minus, 8);
  assert_true(gguf_double(&k, 0, &x) && x == -0x1p53);
  k = scalar(GGUF_I64, &large, 8); /* the least there is */
  assert_true(gguf_int(&k, 0, &v) && v == INT64_MIN);
  assert_false(gguf_double(&k, 0, &x));
  k = scalar(GGUF_F32, &half, 4);
  assert_false(gguf_int(&k, 0, &v));
  assert_false(gguf_bool(&k, 0, &b));
  assert_true(gguf_double(&k, 0, &x) && x == 0.5);
  k = scalar(GGUF_F32, &nan, 4);
  assert_true(gguf_double(&k, 0, &x) && isnan(x));
  k = scalar(GGUF_BOOL, "\1", 1);
  assert_true(gguf_bool(&k, 0, &b) && b);
  assert_false(gguf_int(&k, 0, &v));
  assert_false(gguf_double(&k, 0, &x));
}

static void test_flags_may_be_words_in_arrays(void **state) {
  (void)state;
  static const uint32_t words[] = {0, 1, 2};
  bool b;
  gguf_key k = scalar(GGUF_U32, words + 1, 4);
  assert_false(gguf_bool(&k, 0, &b));
  k = (gguf_key){.type = GGUF_ARRAY, .element = GGUF_U32, .n = 3, .n_bytes = 12, .value = (const uint8_t *)words};
  assert_true(gguf_bool(&k, 0, &b) && !b);
  assert_true(gguf_bool(&k, 1, &b) && b);
  assert_false(gguf_bool(&k, 2, &b));
  assert_false(gguf_bool(&k, 3, &b));
  k.element = GGUF_I32;
  assert_true(gguf_bool(&k, 1, &b) && b);
  k.element = GGUF_F32;
  assert_false(gguf_bool(&k, 0, &b));
  k.element = GGUF_U16;
  assert_false(gguf_bool(&k, 0, &b));
}

static void test_type_names(void **state) {
  (void)state;
  assert_string_equal(gguf_type_name(GGUF_U8), "u8");
  assert_string_equal(gguf_type_name(GGUF_F64), "f64");
  assert_string_equal(gguf_type_name(GGUF_ARRAY), "array");
  assert_string_equal(gguf_type_name(GGUF_TYPE_END), "?");
  assert_string_equal(gguf_type_name((gguf_type)-1), "?");
}

/* ---- the writer -------------------------------------------------------------------------------------------------- */

static void check_refused(gguf_writer *w, const char *reason) {
  error err = {0};
  const uint8_t *bytes;
  size_t n;
  assert_int_not_equal(gguf_writer_bytes(w, &bytes, &n, &err), TANDEM_OK);
  if (!strstr(err.text, reason)) fail_msg("'%s', '...%s' expected", err.text, reason);
  gguf_write_int(w, "later", GGUF_U8, 1); /* does nothing: the first failure stays */
  assert_int_not_equal(gguf_writer_save(w, in_folder("never"), &err), TANDEM_OK);
  if (!strstr(err.text, reason)) fail_msg("'%s', '...%s' expected", err.text, reason);
  assert_int_not_equal(access(in_folder("never"), F_OK), 0);
  gguf_writer_close(w);
}

static void test_writer_refuses_values_that_do_not_fit(void **state) {
  (void)state;
  static const struct {
    gguf_type type;
    int64_t v;
  } bad[] = {{GGUF_U8, 256}, {GGUF_U8, -1}, {GGUF_I8, 128}, {GGUF_I8, -129}, {GGUF_U16, 65536}, {GGUF_I16, -32769},
             {GGUF_U32, INT64_C(1) << 32}, {GGUF_I32, INT64_C(1) << 31}, {GGUF_U64, -1}, {GGUF_BOOL, 2}, {GGUF_F32, 1},
             {GGUF_STRING, 1}, {GGUF_ARRAY, 1}, {GGUF_TYPE_END, 1}};
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    gguf_writer *w = open_writer();
    gguf_write_int(w, "k", bad[i].type, bad[i].v);
    check_refused(w, "'k': ");
  }
  gguf_writer *w = open_writer();
  gguf_write_float(w, "k", GGUF_U32, 1);
  check_refused(w, "a float cannot be of type u32");
  w = open_writer();
  gguf_write_array(w, "k", GGUF_STRING, NULL, 1);
  check_refused(w, "no array");
  w = open_writer();
  gguf_write_array(w, "k", GGUF_U64, NULL, SIZE_MAX / 4);
  check_refused(w, "no array");
}

static void test_writer_refuses_impossible_tensors(void **state) {
  (void)state;
  static const struct {
    quant_type type;
    int n_dims;
    int64_t dims[4];
  } bad[] = {{QUANT_F32, 0, {1}}, {QUANT_F32, 5, {1}}, {QUANT_F32, 1, {0}}, {QUANT_F32, 2, {1, 0}}, {QUANT_F32, 2, {4, -1}},
             {QUANT_Q4_0, 1, {33}}, {(quant_type)4, 1, {32}}, {QUANT_A32, 1, {32}}, {(quant_type)999, 1, {32}},
             {QUANT_F64, 3, {1 << 30, 1 << 30, 8}}};
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    gguf_writer *w = open_writer();
    gguf_write_tensor(w, "t", bad[i].type, bad[i].n_dims, bad[i].dims, "");
    check_refused(w, "'t': its type");
  }
}

/* What the reader refuses, the writer does not write. */
static void test_writer_keeps_the_limits(void **state) {
  (void)state;
  char name[65];
  memset(name, 'n', sizeof name);
  name[64] = 0;
  gguf_writer *w = open_writer();
  gguf_write_int(w, "twice", GGUF_U8, 1);
  gguf_write_int(w, "twice", GGUF_U8, 1);
  check_refused(w, "key 'twice': occurs twice");
  w = open_writer();
  gguf_write_tensor(w, "t", QUANT_F32, 1, (const int64_t[]){8}, row_a);
  gguf_write_tensor(w, "t", QUANT_F32, 1, (const int64_t[]){8}, row_a);
  check_refused(w, "tensor 't': occurs twice");
  w = open_writer();
  gguf_write_tensor(w, name, QUANT_F32, 1, (const int64_t[]){8}, row_a);
  check_refused(w, "a name of 64 bytes");
  w = open_writer();
  gguf_write_int(w, "", GGUF_U8, 1);
  check_refused(w, "a name of 0 bytes");
  w = open_writer();
  gguf_write_int(w, "general.alignment", GGUF_U32, 24);
  check_refused(w, "must be a power of two");
  w = open_writer();
  write_tensors(w);
  gguf_write_int(w, "general.alignment", GGUF_U32, 64);
  check_refused(w, "before the first tensor");
}

static void test_writer_follows_the_alignment(void **state) {
  (void)state;
  static const int64_t alignments[] = {8, 32, 64, 1 << 20};
  for (size_t i = 0; i < COUNT_OF(alignments); i++) {
    const uint8_t *bytes;
    size_t n;
    gguf *g;
    gguf_writer *w = open_writer();
    write_keys(w);
    gguf_write_int(w, "general.alignment", GGUF_U32, alignments[i]);
    write_tensors(w);
    assert_int_equal(gguf_writer_bytes(w, &bytes, &n, NULL), TANDEM_OK);
    assert_int_equal(n % (size_t)alignments[i], 0);
    assert_int_equal(gguf_open_memory(&g, bytes, n, NULL), TANDEM_OK);
    assert_int_equal(gguf_alignment(g), alignments[i]);
    for (size_t k = 0; k < 3; k++) assert_int_equal(gguf_tensor_at(g, k)->offset % (uint64_t)alignments[i], 0);
    gguf_close(g);
    gguf_writer_close(w);
  }
}

static void test_writer_can_go_on(void **state) {
  (void)state;
  const uint8_t *bytes;
  size_t n, longer;
  gguf *g;
  gguf_writer *w = write_small(&bytes, &n);
  gguf_write_tensor(w, "d", QUANT_F32, 1, (const int64_t[]){8}, row_a);
  assert_int_equal(gguf_writer_bytes(w, &bytes, &longer, NULL), TANDEM_OK);
  assert_in_range(longer, n + 32, n + 128);
  assert_int_equal(gguf_open_memory(&g, bytes, longer, NULL), TANDEM_OK);
  assert_int_equal(gguf_n_tensors(g), 4);
  gguf_close(g);
  gguf_writer_close(w);
}

static void test_many_tensors(void **state) {
  (void)state;
  enum { N = 1000 };
  static float rows[N][8];
  const uint8_t *bytes;
  size_t n;
  gguf *g;
  char name[16];
  gguf_writer *w = open_writer();
  for (int i = 0; i < N; i++) {
    rows[i][0] = (float)i;
    snprintf(name, sizeof name, "blk.%d", i);
    gguf_write_tensor(w, name, QUANT_F32, 1, (const int64_t[]){8}, rows[i]);
  }
  assert_int_equal(gguf_writer_bytes(w, &bytes, &n, NULL), TANDEM_OK);
  assert_int_equal(gguf_open_memory(&g, bytes, n, NULL), TANDEM_OK);
  for (int i = 0; i < N; i++) {
    snprintf(name, sizeof name, "blk.%d", i);
    const gguf_tensor *t = gguf_find_tensor(g, name);
    assert_ptr_equal(t, gguf_tensor_at(g, (size_t)i));
    assert_int_equal(gguf_tensor_bytes(g, t, &bytes, NULL), TANDEM_OK);
    assert_memory_equal(bytes, rows[i], sizeof rows[i]);
  }
  assert_null(gguf_find_tensor(g, "blk.1000"));
  gguf_close(g);
  gguf_writer_close(w);
}

/* Announced without bytes, which come in pieces: the same file. What comes is counted. */
static void test_file_piece_by_piece(void **state) {
  (void)state;
  enum { ROWS = 32, COLS = 64 };
  static uint8_t rows[ROWS * COLS * 2];
  static const struct {
    size_t pieces[4]; /* 0: commit */
    const char *says; /* NULL: it is the file */
  } cases[] = {{{sizeof rows, 3}, NULL},
               {{100, sizeof rows - 100, 1, 2}, NULL},
               {{sizeof rows + 1}, "tensor 0 of 2: 4097 bytes after 0 of 4096"},
               {{sizeof rows, 2, 2}, "tensor 1 of 2: 2 bytes after 2 of 3"},
               {{sizeof rows, 3, 1}, "tensor 2 of 2: 1 bytes after 0 of 0"},
               {{sizeof rows, 2}, "1 tensors were given, 2 were announced"},
               {{0}, "0 tensors were given, 2 were announced"}};
  const char *path = in_folder("pieces.gguf");
  for (size_t i = 0; i < sizeof rows; i++) rows[i] = (uint8_t)(i * 7);
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    const int64_t dims[] = {COLS, ROWS}, three = 3;
    error err = {0};
    gguf *g;
    gguf_writer *w = open_writer();
    gguf_write_panels(w, "matrix", QUANT_F16, 2, dims, NULL);
    gguf_write_tensor(w, "vector", QUANT_I8, 1, &three, NULL);
    status st = gguf_writer_begin(w, path, &err);
    size_t at = 0;
    for (int k = 0; k < 4 && cases[i].pieces[k] && !st; at += cases[i].pieces[k++]) {
      const uint8_t *from = at < sizeof rows ? rows + at : (const uint8_t *)"xyz" + (at - sizeof rows) % 3;
      st = gguf_writer_add(w, from, cases[i].pieces[k], &err);
    }
    if (!st) st = gguf_writer_commit(w, &err);
    assert_int_not_equal(gguf_writer_add(w, "", 0, NULL), TANDEM_OK); /* there is no file any more */
    gguf_writer_close(w);
    if (cases[i].says) {
      if (!st || !strstr(err.text, cases[i].says)) fail_msg("'%s', '%s' expected", err.text, cases[i].says);
      assert_int_equal(gguf_open(&g, path, NULL), TANDEM_ERROR_OPEN);
      continue;
    }
    assert_int_equal(st, TANDEM_OK);
    assert_int_equal(gguf_open(&g, path, &err), TANDEM_OK);
    const gguf_tensor *t = gguf_find_tensor(g, "matrix");
    const uint8_t *bytes;
    assert_true(t->panels && t->type == QUANT_F16 && t->n_bytes == sizeof rows && !gguf_find_tensor(g, "vector")->panels);
    assert_int_equal(gguf_tensor_bytes(g, t, &bytes, NULL), TANDEM_OK);
    assert_memory_equal(bytes, rows, sizeof rows);
    assert_int_equal(gguf_tensor_bytes(g, gguf_find_tensor(g, "vector"), &bytes, NULL), TANDEM_OK);
    assert_memory_equal(bytes, "xyz", 3);
    gguf_close(g);
    unlink(path);
  }
}

/* Panels hold 16 rows each; an id whose type is unknown is unknown in panels too. */
static void test_panels_are_whole(void **state) {
  (void)state;
  static uint8_t bytes[4096];
  for (int64_t rows = 1; rows < 40; rows++) {
    const int64_t dims[] = {8, rows};
    const uint8_t *file;
    size_t n;
    error err = {0};
    gguf_writer *w = open_writer();
    gguf_write_panels(w, "t", QUANT_F32, 2, dims, bytes);
    status st = gguf_writer_bytes(w, &file, &n, &err);
    assert_int_equal(st, rows % 16 ? TANDEM_ERROR_FORMAT : TANDEM_OK);
    if (st) assert_non_null(strstr(err.text, "must be a multiple of 16 for rows in panels"));
    gguf_writer_close(w);
  }
}

static void test_saved_file_is_read(void **state) {
  (void)state;
  const char *path = in_folder("small.gguf");
  gguf *g;
  error err;
  gguf_writer *w = open_writer();
  write_keys(w);
  write_tensors(w);
  assert_int_equal(gguf_writer_save(w, path, NULL), TANDEM_OK);
  gguf_writer_close(w);
  assert_int_equal(gguf_open(&g, path, &err), TANDEM_OK);
  assert_string_equal(gguf_path(g), path);
  check_small(g);
  for (size_t i = 0; i < gguf_n_tensors(g); i++) {
    gguf_will_need(g, gguf_tensor_at(g, i));
    gguf_dont_need(g, gguf_tensor_at(g, i));
  }
  check_small(g);
  gguf_close(g);
  unlink(path);
  assert_int_equal(gguf_open(&g, path, &err), TANDEM_ERROR_OPEN);
  assert_null(g);
  assert_int_equal(strncmp(err.text, path, strlen(path)), 0);
  assert_int_equal(gguf_open(&g, folder, &err), TANDEM_ERROR_OPEN);
  assert_non_null(strstr(err.text, "is a directory"));
  gguf_close(NULL);
  gguf_writer_close(NULL);
}

/* ---- damage ------------------------------------------------------------------------------------------------------ */

/* A copy of exactly n bytes, so that the sanitizer sees a byte too many. */
static void feed(const uint8_t *bytes, size_t n) {
  uint8_t *copy = malloc(n + !n);
  assert_non_null(copy);
  memcpy(copy, bytes, n);
  LLVMFuzzerTestOneInput(copy, n);
  free(copy);
}

static void test_truncated_at_every_byte(void **state) {
  (void)state;
  const uint8_t *bytes;
  size_t n, needed;
  gguf *g;
  gguf_writer *w = write_small(&bytes, &n);
  assert_int_equal(gguf_open_memory(&g, bytes, n, NULL), TANDEM_OK);
  const gguf_tensor *last = gguf_tensor_at(g, 2);
  needed = (size_t)(last->offset + last->n_bytes); /* what follows is padding */
  gguf_close(g);
  for (size_t k = 0; k < n; k++) {
    error err;
    uint8_t *copy = malloc(k + !k);
    assert_non_null(copy);
    memcpy(copy, bytes, k);
    status st = gguf_open_memory(&g, copy, k, &err);
    assert_int_equal(st, k < needed ? TANDEM_ERROR_FORMAT : TANDEM_OK);
    if (k < needed && !strstr(err.text, "unexpected end: ")) fail_msg("%zu bytes: %s", k, err.text);
    gguf_close(g);
    free(copy);
  }
  gguf_writer_close(w);
}

static void test_every_flipped_byte(void **state) {
  (void)state;
  const uint8_t *bytes;
  size_t n;
  gguf_writer *w = write_small(&bytes, &n);
  uint8_t *copy = malloc(n);
  assert_non_null(copy);
  for (size_t i = 0; i < n; i++) {
    memcpy(copy, bytes, n);
    for (int bit = 0; bit < 8; bit++) {
      copy[i] = (uint8_t)(bytes[i] ^ 1 << bit);
      feed(copy, n);
    }
    copy[i] = 0xff;
    feed(copy, n);
    copy[i] = 0x7f;
    feed(copy, n);
    copy[i] = 0;
    feed(copy, n);
  }
  free(copy);
  gguf_writer_close(w);
}

static void test_corpus_replay(void **state) {
  (void)state;
  int n = 0;
  DIR *d = opendir(CORPUS);
  assert_non_null(d);
  for (struct dirent *e; (e = readdir(d));) {
    char path[300];
    os_file f;
    if (e->d_name[0] == '.') continue;
    snprintf(path, sizeof path, CORPUS "/%s", e->d_name);
    assert_int_equal(os_map(&f, path, NULL), TANDEM_OK);
    feed(f.bytes ? f.bytes : (const uint8_t *)"", f.n);
    os_unmap(&f);
    n++;
  }
  closedir(d);
  assert_in_range(n, 90, 1000);
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static void put(text *t, const void *bytes, size_t n) { assert_int_equal(text_add(t, bytes, n, NULL), TANDEM_OK); }
static void put_u32(text *t, uint32_t v) { put(t, &v, sizeof v); }
static void put_u64(text *t, uint64_t v) { put(t, &v, sizeof v); }

static void put_header(text *t, uint64_t n_tensors, uint64_t n_keys) {
  put(t, "GGUF\3\0\0\0", 8);
  put_u64(t, n_tensors);
  put_u64(t, n_keys);
}

static status open_text(text *t, error *err) {
  gguf *g;
  status st = gguf_open_memory(&g, t->bytes, t->n, err);
  gguf_close(g);
  text_free(t);
  return st;
}

static status open_with_key_of(size_t n_name, error *err) {
  text t = {0};
  char *name = malloc(n_name);
  assert_non_null(name);
  memset(name, 'n', n_name);
  put_header(&t, 0, 1);
  put_u64(&t, n_name);
  put(&t, name, n_name);
  put_u32(&t, GGUF_U8);
  put(&t, "x", 1);
  free(name);
  return open_text(&t, err);
}

static void test_length_of_key_names(void **state) {
  (void)state;
  error err;
  assert_int_equal(open_with_key_of(65535, &err), TANDEM_OK);
  assert_int_equal(open_with_key_of(65536, &err), TANDEM_ERROR_FORMAT);
  assert_non_null(strstr(err.text, "...(65536 bytes)': a name of 65536 bytes, must be 1 to 65535"));
}

static status open_with_keys(uint64_t n, error *err) {
  text t = {0};
  char name[16];
  put_header(&t, 0, n);
  for (uint64_t i = 0; i < n; i++) {
    snprintf(name, sizeof name, "%06x", (unsigned)i);
    put_u64(&t, 6);
    put(&t, name, 6);
    put_u32(&t, GGUF_U8);
    put(&t, "x", 1);
  }
  return open_text(&t, err);
}

static void test_number_of_keys(void **state) {
  (void)state;
  error err;
  assert_int_equal(open_with_keys(1 << 20, &err), TANDEM_OK);
  assert_int_equal(open_with_keys((1 << 20) + 1, &err), TANDEM_ERROR_FORMAT);
  assert_non_null(strstr(err.text, "n_kv=1048577, must be 0 to 1048576"));
}

/* A file of one key whose value's bytes are a hole: it costs neither disk nor time. */
static status open_with_hole(gguf_type type, uint64_t n, error *err) {
  text t = {0};
  gguf *g;
  const char *path = in_folder("hole.gguf");
  put_header(&t, 0, 1);
  put_u64(&t, 1);
  put(&t, "k", 1);
  put_u32(&t, type == GGUF_STRING ? GGUF_STRING : GGUF_ARRAY);
  if (type != GGUF_STRING) put_u32(&t, type);
  put_u64(&t, n);
  assert_int_equal(os_write_all(path, t.bytes, t.n, NULL), TANDEM_OK);
  assert_int_equal(truncate(path, (off_t)(t.n + n)), 0);
  status st = gguf_open(&g, path, err);
  gguf_close(g);
  text_free(&t);
  unlink(path);
  return st;
}

static void test_length_of_strings_and_arrays(void **state) {
  (void)state;
  error err;
  const uint64_t most = 1 << 28; /* 256 MiB, 2^28 elements */
  assert_int_equal(open_with_hole(GGUF_STRING, most, &err), TANDEM_OK);
  assert_int_equal(open_with_hole(GGUF_STRING, most + 1, &err), TANDEM_ERROR_FORMAT);
  assert_non_null(strstr(err.text, "key 'k': a string of 268435457 bytes, at most 268435456"));
  assert_int_equal(open_with_hole(GGUF_U8, most, &err), TANDEM_OK);
  assert_int_equal(open_with_hole(GGUF_U8, most + 1, &err), TANDEM_ERROR_FORMAT);
  assert_non_null(strstr(err.text, "key 'k': an array of 268435457 elements, at most 268435456"));
}

static int open_folder(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, P_tmpdir "/gguf_test.XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

static int close_folder(void **state) {
  (void)state;
  return rmdir(folder); /* fails if a test left a file */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_written_keys_are_read),
      cmocka_unit_test(test_strings),
      cmocka_unit_test(test_conversions_lose_nothing),
      cmocka_unit_test(test_flags_may_be_words_in_arrays),
      cmocka_unit_test(test_type_names),
      cmocka_unit_test(test_writer_refuses_values_that_do_not_fit),
      cmocka_unit_test(test_writer_refuses_impossible_tensors),
      cmocka_unit_test(test_writer_keeps_the_limits),
      cmocka_unit_test(test_writer_follows_the_alignment),
      cmocka_unit_test(test_writer_can_go_on),
      cmocka_unit_test(test_many_tensors),
      cmocka_unit_test(test_file_piece_by_piece),
      cmocka_unit_test(test_panels_are_whole),
      cmocka_unit_test(test_saved_file_is_read),
      cmocka_unit_test(test_truncated_at_every_byte),
      cmocka_unit_test(test_every_flipped_byte),
      cmocka_unit_test(test_corpus_replay),
      cmocka_unit_test(test_length_of_key_names),
      cmocka_unit_test(test_number_of_keys),
      cmocka_unit_test(test_length_of_strings_and_arrays),
  };
  return cmocka_run_group_tests_name("gguf", tests, open_folder, close_folder);
}
