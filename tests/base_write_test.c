/* base_write_test.c: a file written piece by piece is the old or the new one, whatever fails; checksums. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "support/folder.h"

static char folder[] = "/tmp/tandem-test-XXXXXX", out_path[64], litter_path[64];

static void test_a_writer_leaves_the_old_or_the_new_file(void **state) {
  (void)state;
  const char *path = out_path;
  error err = {0};
  os_writer w;
  assert_int_equal(os_write_all(path, "old", 3, NULL), TANDEM_OK);
  uint64_t n_calls = 5; /* opening, two pieces, fsync, rename */
  for (uint64_t n = 1; n <= n_calls + 1; n++) {
    base_fault_arm(FAULT_WRITE, n, false);
    status st = os_writer_open(&w, path, &err);
    if (!st) st = os_writer_add(&w, "ne", 2, &err);
    if (!st) st = os_writer_add(&w, "w", 1, &err);
    if (!st) st = os_writer_commit(&w, &err);
    os_writer_close(&w);
    uint64_t met = base_fault_arm(FAULT_WRITE, 0, false);
    assert_int_equal(st, n > n_calls ? TANDEM_OK : TANDEM_ERROR_IO);
    if (st) assert_non_null(strstr(err.text, "out: cannot write: No space left"));
    assert_int_equal(met, n > n_calls ? n_calls : n);
    folder_check(path, st ? "old" : "new");
    assert_int_equal(folder_count(folder), 1);
  }
  unlink(path);
}

static void test_writers_do_not_meet(void **state) {
  (void)state;
  const char *path = out_path, *litter = litter_path;
  error err = {0};
  os_writer a, b;
  assert_int_equal(os_writer_open(&a, path, &err), TANDEM_OK);
  assert_int_equal(os_writer_add(&a, "first", 5, &err), TANDEM_OK);
  assert_int_equal(os_writer_open(&b, path, &err), TANDEM_ERROR_BUSY);
  assert_non_null(strstr(err.text, "another process"));
  os_writer_close(&b);
  assert_int_equal(os_writer_commit(&a, &err), TANDEM_OK);
  os_writer_close(&a);
  folder_check(path, "first");
  FILE *f = fopen(litter, "w"); /* as a killed process leaves it */
  assert_non_null(f);
  fputs("half", f);
  fclose(f);
  assert_int_equal(os_write_all(path, "second", 6, &err), TANDEM_OK);
  folder_check(path, "second");
  assert_int_equal(folder_count(folder), 1);
  assert_int_equal(link(path, litter), 0); /* a second name of something precious is not written to */
  assert_int_equal(os_write_all(out_path, "third", 5, &err), TANDEM_OK);
  assert_int_equal(symlink("out", litter), 0);
  assert_int_equal(os_write_all(path, "x", 1, &err), TANDEM_ERROR_IO);
  folder_check(path, "third");
  assert_true(os_exists(path) && os_exists(litter) && !os_exists("/tmp/tandem-test-none"));
  unlink(litter);
  unlink(path);
}

static void test_checksums(void **state) {
  (void)state;
  uint8_t bytes[3000];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 31 + i / 7);
  assert_true(checksum_bytes("", 0, 0) == 0x2d06800538d394c2u); /* the published value: files stay readable */
  for (size_t n = 0; n < sizeof bytes; n += n / 5 + 1)
    for (size_t cut = 0; cut <= n; cut += n / 3 + 1) {
      checksum c;
      memset(&c, 1, sizeof c);
      checksum_open(&c, n % 2);
      checksum_add(&c, bytes, cut);
      checksum_add(&c, bytes + cut, n - cut);
      assert_true(checksum_value(&c) == checksum_bytes(bytes, n, n % 2));
    }
  assert_true(checksum_bytes(bytes, 100, 0) != checksum_bytes(bytes, 100, 1));
}

static int make_folder(void **state) {
  (void)state;
  if (!mkdtemp(folder)) return -1;
  snprintf(out_path, sizeof out_path, "%s/out", folder);
  snprintf(litter_path, sizeof litter_path, "%s/out.unfinished", folder);
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  return rmdir(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_a_writer_leaves_the_old_or_the_new_file),
      cmocka_unit_test(test_writers_do_not_meet),
      cmocka_unit_test(test_checksums),
  };
  return cmocka_run_group_tests_name("base_write", tests, make_folder, remove_folder);
}
