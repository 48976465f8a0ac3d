/* kv_borrow_test.c: a borrow has no size, changes nothing, is counted, and is refused when it is stale or would see nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "kv/kv.h"

static kv_pages *open_pages(int64_t window) {
  kv_pages *p;
  kv_pages_shape shape = {.n_pages = 40, .n_sequences = 4, .n_positions = 4096, .window = window};
  assert_int_equal(kv_pages_open(&p, &shape, NULL), TANDEM_OK);
  return p;
}

static void append(kv_pages *p, int32_t seq, int64_t n) {
  kv_copy copy;
  error err = {0};
  if (kv_pages_append(p, seq, n, &copy, &err)) fail_msg("%s", err.text);
}

static void a_borrow_is_counted(void **state) {
  (void)state;
  kv_pages *p = open_pages(0);
  kv_borrow a, b;
  error err = {0};
  kv_borrow_open(&a, p);
  kv_borrow_open(&b, p);
  assert_int_equal(kv_pages_close(p, &err), TANDEM_ERROR_BUSY);
  kv_borrow_close(&a);
  kv_borrow_close(&a); /* again: nothing */
  assert_int_equal(kv_pages_close(p, &err), TANDEM_ERROR_BUSY);
  kv_borrow_close(&b);
  assert_int_equal(kv_pages_close(p, &err), TANDEM_OK);
  assert_int_equal(kv_borrow_check(&b, 0, 0, &err), TANDEM_ERROR_INTERNAL);
}

static void a_borrow_changes_nothing_in_its_source(void **state) {
  (void)state;
  kv_pages *p = open_pages(300);
  kv_borrow b;
  append(p, 1, 700);
  kv_pages_slide(p, 1, 700);
  int64_t length = kv_pages_length(p, 1), first = kv_pages_first(p, 1);
  int32_t free_pages = kv_pages_free(p), table[16];
  uint64_t generation = kv_pages_generation(p);
  memcpy(table, kv_pages_table(p, 1), sizeof table);
  kv_borrow_open(&b, p);
  for (int64_t position = 0; position < 1000; position++) kv_borrow_check(&b, 1, position, NULL);
  kv_borrow_renew(&b);
  kv_borrow_close(&b);
  assert_int_equal(kv_pages_length(p, 1), length);
  assert_int_equal(kv_pages_first(p, 1), first);
  assert_int_equal(kv_pages_free(p), free_pages);
  assert_true(kv_pages_generation(p) == generation);
  assert_memory_equal(kv_pages_table(p, 1), table, sizeof table);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
}

static void a_stale_borrow_is_an_error(void **state) {
  (void)state;
  kv_pages *p = open_pages(0);
  kv_borrow b;
  error err = {0};
  append(p, 0, 10);
  kv_borrow_open(&b, p);
  assert_int_equal(kv_borrow_check(&b, 0, 9, &err), TANDEM_OK);
  append(p, 0, 5); /* more cells do no harm to a reader */
  assert_int_equal(kv_borrow_check(&b, 0, 9, &err), TANDEM_OK);
  kv_pages_truncate(p, 0, 8, NULL);
  assert_int_equal(kv_borrow_check(&b, 0, 7, &err), TANDEM_ERROR_INTERNAL);
  assert_non_null(strstr(err.text, "stale"));
  kv_borrow_renew(&b);
  assert_int_equal(kv_borrow_check(&b, 0, 7, &err), TANDEM_OK);
  kv_borrow_close(&b);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
}

static void a_query_must_see_a_cell(void **state) {
  (void)state;
  kv_pages *p = open_pages(300);
  kv_borrow b;
  error err = {0};
  kv_borrow_open(&b, p);
  assert_int_equal(kv_borrow_check(&b, 2, 0, &err), TANDEM_ERROR_CONTEXT); /* an empty sequence */
  append(p, 2, 1000);
  kv_pages_slide(p, 2, 1000);
  kv_borrow_renew(&b);
  assert_int_equal(kv_borrow_check(&b, 2, 999, &err), TANDEM_OK);
  assert_int_equal(kv_borrow_check(&b, 2, 1000, &err), TANDEM_OK); /* the newest token, whose cell is not there */
  assert_int_equal(kv_borrow_check(&b, 2, 1001, &err), TANDEM_ERROR_CONTEXT);
  assert_int_equal(kv_borrow_check(&b, 2, -1, &err), TANDEM_ERROR_CONTEXT);
  assert_int_equal(kv_borrow_check(&b, 2, 600, &err), TANDEM_ERROR_CONTEXT); /* its window was let go of */
  assert_int_equal(kv_borrow_check(&b, 9, 3, &err), TANDEM_ERROR_CONTEXT);   /* no such sequence */
  kv_borrow_close(&b);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
}

static void geometry_is_held_against_the_source(void **state) {
  (void)state;
  kv_layer source = {.n_heads = 4, .k_dim = 64, .v_dim = 128}, reader = {.n_heads = 16, .k_dim = 64, .v_dim = 128};
  error err = {0};
  assert_int_equal(kv_borrow_fits(&source, "full", 5, &reader, 0, &err), TANDEM_OK);
  reader.v_dim = 64;
  assert_int_equal(kv_borrow_fits(&source, "full", 5, &reader, 3, &err), TANDEM_ERROR_UNSUPPORTED);
  assert_non_null(strstr(err.text, "layer 3 reads keys of 64 and values of 64, full layer 5 of the target holds 64 and 128"));
  reader.v_dim = 128;
  reader.n_heads = 6;
  assert_int_equal(kv_borrow_fits(&source, "sliding", 2, &reader, 1, &err), TANDEM_ERROR_UNSUPPORTED);
  assert_non_null(strstr(err.text, "6 query heads, no multiple of the 4 K/V heads"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_borrow_is_counted),          cmocka_unit_test(a_borrow_changes_nothing_in_its_source),
      cmocka_unit_test(a_stale_borrow_is_an_error),   cmocka_unit_test(a_query_must_see_a_cell),
      cmocka_unit_test(geometry_is_held_against_the_source),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
