/* gguf_split_test.c: models of several files, and memory and reads that fail while one is opened. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "gguf/gguf.h"

static char folder[64];

static const char *in_folder(const char *name) {
  static char path[16][256]; /* a result lives as long as a test needs it */
  static int turn;
  turn = (turn + 1) % 16;
  snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
  return path[turn];
}

static const float row_a[8] = {0, 1, 2, 3, 4, 5, 6, 7};

static gguf_writer *open_writer(void) {
  gguf_writer *w;
  assert_int_equal(gguf_writer_open(&w, NULL), TANDEM_OK);
  return w;
}

static void write_keys(gguf_writer *w) {
  static const int32_t numbers[] = {1, -2, 3};
  const gguf_string words[] = {{"one", 3}, {"", 0}};
  gguf_write_string(w, "general.architecture", "llama", 5);
  gguf_write_float(w, "f32", GGUF_F32, 0.1);
  gguf_write_array(w, "numbers", GGUF_I32, numbers, COUNT_OF(numbers));
  gguf_write_strings(w, "words", words, COUNT_OF(words));
}

/* ---- failing memory and reads ------------------------------------------------------------------------------------ */

static status open_and_read(const char *path, error *err) {
  gguf *g;
  const uint8_t *bytes;
  status st = gguf_open(&g, path, err);
  assert_int_equal(st != TANDEM_OK, g == NULL);
  for (size_t i = 0; !st && i < gguf_n_tensors(g); i++) st = gguf_tensor_bytes(g, gguf_tensor_at(g, i), &bytes, err);
  gguf_close(g);
  return st;
}

static status write_to(const char *path, error *err) {
  gguf_writer *w;
  status st = gguf_writer_open(&w, err);
  if (st) return st;
  write_keys(w);
  gguf_write_tensor(w, "a", QUANT_F32, 1, (const int64_t[]){8}, row_a);
  st = gguf_writer_save(w, path, err);
  gguf_writer_close(w);
  return st;
}

typedef status job(const char *path, error *err);

/* The n-th call fails, alone or with all later ones, for every n: a status each time, and then it works. */
static void fail_each(enum base_fault kind, status expected, job *run, const char *path, uint64_t at_least) {
  for (int after = 0; after < 2; after++) {
    uint64_t n = 1;
    for (;; n++) {
      error err = {0};
      base_fault_arm(kind, n, after);
      status st = run(path, &err);
      base_fault_arm(kind, 0, false);
      if (st == TANDEM_OK) break;
      assert_int_equal(st, expected);
      assert_int_equal(err.code, expected);
      assert_true(strlen(err.text) > 0);
    }
    assert_in_range(n - 1, at_least, 1000);
  }
}

static void write_part(const char *path, int no, int count, int n_tensors, const char *name, const char *arch) {
  gguf_writer *w = open_writer();
  if (no == 0) write_keys(w);
  else if (arch) gguf_write_string(w, "general.architecture", arch, strlen(arch));
  gguf_write_int(w, "split.no", GGUF_U16, no);
  gguf_write_int(w, "split.count", GGUF_U16, count);
  gguf_write_int(w, "split.tensors.count", GGUF_I32, n_tensors);
  if (name) gguf_write_tensor(w, name, QUANT_F32, 1, (const int64_t[]){8}, row_a);
  assert_int_equal(gguf_writer_save(w, path, NULL), TANDEM_OK);
  gguf_writer_close(w);
}

static const char *part_path(int i) {
  char name[32];
  snprintf(name, sizeof name, "m-%05d-of-00003.gguf", i);
  return in_folder(name);
}

static void write_parts(void) {
  write_part(part_path(1), 0, 3, 3, "a", NULL);
  write_part(part_path(2), 1, 3, 3, "b", "llama");
  write_part(part_path(3), 2, 3, 3, "c", NULL);
}

static void remove_parts(void) {
  for (int i = 1; i <= 3; i++) unlink(part_path(i));
}

static void test_every_allocation_may_fail(void **state) {
  (void)state;
  write_parts();
  fail_each(FAULT_MEMORY, TANDEM_ERROR_MEMORY, open_and_read, part_path(1), 10);
  remove_parts();
  fail_each(FAULT_MEMORY, TANDEM_ERROR_MEMORY, write_to, in_folder("w.gguf"), 8);
  unlink(in_folder("w.gguf"));
}

static void test_every_read_may_fail(void **state) {
  (void)state;
  write_parts();
  fail_each(FAULT_READ, TANDEM_ERROR_IO, open_and_read, part_path(1), 6); /* three files, three tensors */
  remove_parts();
}

/* ---- split models ------------------------------------------------------------------------------------------------ */

static void test_split_model(void **state) {
  (void)state;
  gguf *g;
  const uint8_t *bytes;
  struct stat s;
  uint64_t total = 0;
  write_parts();
  assert_int_equal(gguf_open(&g, part_path(1), NULL), TANDEM_OK);
  assert_int_equal(gguf_n_files(g), 3);
  assert_int_equal(gguf_n_tensors(g), 3);
  assert_int_equal(gguf_n_keys(g), 7); /* those of the first part */
  for (int i = 0; i < 3; i++) {
    const gguf_tensor *t = gguf_tensor_at(g, (size_t)i);
    assert_string_equal(t->name, i == 0 ? "a" : i == 1 ? "b" : "c");
    assert_int_equal(t->i_file, i);
    assert_ptr_equal(gguf_find_tensor(g, t->name), t);
    assert_int_equal(gguf_tensor_bytes(g, t, &bytes, NULL), TANDEM_OK);
    assert_memory_equal(bytes, row_a, sizeof row_a);
    gguf_will_need(g, t);
    gguf_dont_need(g, t);
    assert_int_equal(stat(part_path(i + 1), &s), 0);
    total += (uint64_t)s.st_size;
  }
  assert_int_equal(gguf_file_bytes(g), total);
  gguf_close(g);
  remove_parts();
}

static void check_split_refused(const char *path, status code, const char *reason) {
  gguf *g;
  error err;
  assert_int_equal(gguf_open(&g, path, &err), code);
  assert_null(g);
  bool right = !strncmp(err.text, path, strlen(path)) && strstr(err.text, reason);
  if (!right) fail_msg("'%s', '%s: ...%s' expected", err.text, path, reason);
}

static void test_split_part_missing(void **state) {
  (void)state;
  write_parts();
  unlink(part_path(2));
  check_split_refused(part_path(1), TANDEM_ERROR_OPEN, "m-00002-of-00003.gguf: cannot open: No such file");
  check_split_refused(part_path(1), TANDEM_ERROR_OPEN, ".gguf: part 2 of 3: ");
  remove_parts();
}

static void test_split_parts_swapped(void **state) {
  (void)state;
  write_parts();
  rename(part_path(2), in_folder("x"));
  rename(part_path(3), part_path(2));
  rename(in_folder("x"), part_path(3));
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "m-00002-of-00003.gguf: split.no=2, must be 1");
  write_parts();
  write_part(part_path(3), 1, 3, 3, "b", NULL); /* the same part twice */
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "m-00003-of-00003.gguf: split.no=1, must be 2");
  remove_parts();
}

static void test_split_opened_at_another_part(void **state) {
  (void)state;
  int home = open(".", O_RDONLY | O_DIRECTORY);
  write_parts();
  check_split_refused(part_path(2), TANDEM_ERROR_FORMAT, "is part 2 of 3 of a model: open the first part");
  rename(part_path(1), in_folder("renamed.gguf"));
  check_split_refused(in_folder("renamed.gguf"), TANDEM_ERROR_FORMAT, "its name must end in -00001-of-00003.gguf");
  assert_int_equal(chdir(folder), 0);
  rename("renamed.gguf", "r"); /* shorter than any ending */
  check_split_refused("r", TANDEM_ERROR_FORMAT, "its name must end in -00001-of-00003.gguf");
  unlink("r");
  assert_int_equal(fchdir(home), 0);
  close(home);
  write_part(part_path(1), 3, 3, 3, "a", "llama");
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "key 'split.no': is 3, must be 0 to 2");
  remove_parts();
}

static void test_split_counts_that_lie(void **state) {
  (void)state;
  write_parts();
  write_part(part_path(2), 1, 4, 3, "b", NULL);
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "split.count=4, the first part has 3");
  for (int i = 0; i < 3; i++) write_part(part_path(i + 1), i, 3, 4, i == 0 ? "a" : i == 1 ? "b" : "c", NULL);
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "split.tensors.count=4, the 3 parts have 3");
  write_parts();
  write_part(part_path(3), 2, 3, 3, "a", NULL);
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "tensor 'a': occurs twice");
  remove_parts();
}

/* Part 3 with one more key of 4 bytes, or of three elements of 4 bytes. */
static void write_odd_key(const char *name, gguf_type type, gguf_type element, const char *bytes) {
  const uint64_t n = type == GGUF_ARRAY ? 3 : 1;
  const gguf_key k = {.name = name, .type = type, .element = element, .n = n, .n_bytes = 4 * n, .value = (const uint8_t *)bytes};
  gguf_writer *w = open_writer();
  gguf_write_int(w, "split.no", GGUF_U16, 2);
  gguf_write_int(w, "split.count", GGUF_U16, 3);
  gguf_write_int(w, "split.tensors.count", GGUF_I32, 3);
  gguf_write_key(w, &k);
  assert_int_equal(gguf_writer_save(w, part_path(3), NULL), TANDEM_OK);
  gguf_writer_close(w);
}

static void test_split_parts_of_two_models(void **state) {
  (void)state;
  write_parts();
  write_part(part_path(3), 2, 3, 3, "c", "gemma");
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "key 'general.architecture': differs from the first part");
  write_part(part_path(3), 2, 3, 17, "c", NULL);
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "key 'split.tensors.count': differs from the first part");
  gguf_writer *w = open_writer();
  gguf_write_int(w, "split.no", GGUF_U16, 2);
  gguf_write_int(w, "split.count", GGUF_U16, 3);
  gguf_write_int(w, "split.tensors.count", GGUF_I32, 3);
  gguf_write_int(w, "foreign", GGUF_U8, 1);
  assert_int_equal(gguf_writer_save(w, part_path(3), NULL), TANDEM_OK);
  gguf_writer_close(w);
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "key 'foreign': is not in the first part");
  write_odd_key("f32", GGUF_U32, GGUF_U32, "\xcd\xcc\xcc\x3d"); /* the same bytes as another type */
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "key 'f32': differs from the first part");
  write_odd_key("numbers", GGUF_ARRAY, GGUF_U32, "\1\0\0\0\xfe\xff\xff\xff\3\0\0\0");
  check_split_refused(part_path(1), TANDEM_ERROR_FORMAT, "key 'numbers': differs from the first part");
  remove_parts();
}

static void test_split_first_part_without_tensors(void **state) {
  (void)state;
  gguf *g;
  write_part(part_path(1), 0, 3, 2, NULL, NULL);
  write_part(part_path(2), 1, 3, 2, "b", NULL);
  write_part(part_path(3), 2, 3, 2, "c", NULL);
  assert_int_equal(gguf_open(&g, part_path(1), NULL), TANDEM_OK);
  assert_int_equal(gguf_n_tensors(g), 2);
  assert_int_equal(gguf_tensor_at(g, 0)->i_file, 1);
  gguf_close(g);
  remove_parts();
}

static void check_split_keys(gguf_type type, int64_t count, status code, const char *reason) {
  const char *path = in_folder("keys.gguf");
  gguf *g;
  error err;
  gguf_writer *w = open_writer();
  if (type == GGUF_STRING) gguf_write_string(w, "split.count", "3", 1);
  else gguf_write_int(w, "split.count", type, count);
  assert_int_equal(gguf_writer_save(w, path, NULL), TANDEM_OK);
  gguf_writer_close(w);
  assert_int_equal(gguf_open(&g, path, &err), code);
  if (code && !strstr(err.text, reason)) fail_msg("'%s', '...%s' expected", err.text, reason);
  gguf_close(g);
  unlink(path);
}

static void test_split_keys_are_checked(void **state) {
  (void)state;
  check_split_keys(GGUF_U16, 0, TANDEM_OK, "");
  check_split_keys(GGUF_U16, 1, TANDEM_OK, ""); /* one part is the whole */
  check_split_keys(GGUF_I64, -1, TANDEM_ERROR_FORMAT, "key 'split.count': is -1, must be 0 to 99999");
  check_split_keys(GGUF_U32, 100000, TANDEM_ERROR_FORMAT, "key 'split.count': is 100000, must be 0 to 99999");
  check_split_keys(GGUF_STRING, 0, TANDEM_ERROR_FORMAT, "key 'split.count': is string, must be an integer");
  check_split_keys(GGUF_U16, 3, TANDEM_ERROR_FORMAT, "key 'split.no': is missing");
}

static int open_folder(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, P_tmpdir "/gguf_split_test.XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

static int close_folder(void **state) {
  (void)state;
  return rmdir(folder); /* fails if a test left a file */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_allocation_may_fail),
      cmocka_unit_test(test_every_read_may_fail),
      cmocka_unit_test(test_split_model),
      cmocka_unit_test(test_split_part_missing),
      cmocka_unit_test(test_split_parts_swapped),
      cmocka_unit_test(test_split_opened_at_another_part),
      cmocka_unit_test(test_split_counts_that_lie),
      cmocka_unit_test(test_split_parts_of_two_models),
      cmocka_unit_test(test_split_first_part_without_tensors),
      cmocka_unit_test(test_split_keys_are_checked),
  };
  return cmocka_run_group_tests_name("gguf_split", tests, open_folder, close_folder);
}
