/* base_test.c: errors, memory, arenas, text, JSON, files. The pool has base_pool_test.c. */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "support/folder.h"

/* A folder that each test of files fills and empties. */
static char folder[64];

static const char *in_folder(const char *name) {
  static char path[16][256]; /* a result lives as long as a test needs it */
  static int turn;
  turn = (turn + 1) % 16;
  snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
  return path[turn];
}

static void write_plain(const char *path, const char *s) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(s, 1, strlen(s), f), strlen(s));
  assert_int_equal(fclose(f), 0);
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static void test_every_status_has_a_name(void **state) {
  (void)state;
  for (int i = 0; i <= TANDEM_ERROR_INTERNAL; i++) assert_int_equal(strncmp(tandem_status_name((status)i), "TANDEM_", 7), 0);
  assert_string_equal(tandem_status_name(TANDEM_ERROR_FORMAT), "TANDEM_ERROR_FORMAT");
  assert_string_equal(tandem_status_name((status)12), "unknown status");
  assert_string_equal(tandem_status_name((status)-1), "unknown status");
}

static void test_failure_fills_the_error(void **state) {
  (void)state;
  error err;
  memset(&err, 0xff, sizeof err);
  assert_int_equal(base_fail(&err, TANDEM_ERROR_IO, "top_k", "%s: %d", "top_k", 7), TANDEM_ERROR_IO);
  assert_int_equal(err.code, TANDEM_ERROR_IO);
  assert_int_equal(err.offset, 0);
  assert_string_equal(err.field, "top_k");
  assert_string_equal(err.text, "top_k: 7");
  assert_int_equal(base_fail(NULL, TANDEM_ERROR_BUSY, NULL, "x"), TANDEM_ERROR_BUSY);
  assert_int_equal(base_fail(&err, TANDEM_ERROR_BUSY, NULL, "x"), TANDEM_ERROR_BUSY);
  assert_string_equal(err.field, "");
}

static void test_failure_with_offset(void **state) {
  (void)state;
  error err;
  char name[1000];
  assert_int_equal(base_fail_at(&err, TANDEM_ERROR_FORMAT, NULL, 0x1a2f0, "dims[1]=0"), TANDEM_ERROR_FORMAT);
  assert_string_equal(err.text, "dims[1]=0 (offset 0x1a2f0)");
  assert_int_equal(err.offset, 0x1a2f0);
  memset(name, 'x', sizeof name - 1);
  name[sizeof name - 1] = 0;
  base_fail_at(&err, TANDEM_ERROR_FORMAT, name, UINT64_MAX, "%s", name); /* the offset survives, field and text are cut */
  assert_int_equal(strlen(err.text), sizeof err.text - 1);
  assert_string_equal(err.text + strlen(err.text) - 28, " (offset 0xffffffffffffffff)");
  assert_int_equal(strlen(err.field), sizeof err.field - 1);
}

static void test_cut_text_ends_with_a_whole_character(void **state) {
  (void)state;
  error err;
  char name[1000];
  for (size_t shift = 0; shift < 3; shift++) {
    memset(name, 'x', shift);
    for (size_t i = shift; i + 3 < sizeof name; i += 3) memcpy(name + i, "\xe2\x82\xac", 4);
    base_fail(&err, TANDEM_ERROR_FORMAT, name, "%s", name);
    size_t n = strlen(err.text);
    assert_int_equal((n - shift) % 3, 0);
    assert_in_range(n, sizeof err.text - 3, sizeof err.text - 1);
    assert_int_equal((strlen(err.field) - shift) % 3, 0);
  }
}

static void test_prefix(void **state) {
  (void)state;
  error err;
  char path[1000];
  base_fail(&err, TANDEM_ERROR_FORMAT, "a", "bad");
  assert_int_equal(base_fail_in(&err, "model.gguf"), TANDEM_ERROR_FORMAT);
  assert_string_equal(err.text, "model.gguf: bad");
  assert_string_equal(err.field, "a");
  memset(path, '/', sizeof path);
  strcpy(path + 900, "/name.gguf");
  base_fail_in(&err, path); /* the reason and the end of the path are kept */
  assert_int_equal(strlen(err.text), sizeof err.text - 1);
  assert_int_equal(strncmp(err.text, "...//", 5), 0);
  assert_non_null(strstr(err.text, "/name.gguf: model.gguf: bad"));
  base_fail_in(&err, path); /* nothing left to cut but the reason */
  assert_non_null(strstr(err.text, "/name.gguf: ...//"));
  assert_int_equal(base_fail_in(NULL, "x"), TANDEM_ERROR_INTERNAL);
}

static void test_prefix_of_every_length(void **state) {
  (void)state;
  error err;
  char prefix[700], whole[800];
  for (size_t n = 0; n < sizeof prefix; n++) {
    memset(prefix, 'p', n);
    prefix[n] = 0;
    base_fail(&err, TANDEM_ERROR_FORMAT, NULL, "the reason");
    base_fail_in(&err, prefix);
    snprintf(whole, sizeof whole, "%s: the reason", prefix);
    if (strlen(whole) < sizeof err.text) {
      assert_string_equal(err.text, whole);
    } else { /* as long as can be, and only the start of the prefix is lost */
      assert_int_equal(strlen(err.text), sizeof err.text - 1);
      assert_memory_equal(err.text, "...p", 4);
      assert_string_equal(err.text + 3, whole + strlen(whole) - (sizeof err.text - 1 - 3));
    }
  }
}

static void test_nearest_word(void **state) {
  (void)state;
  static const char *const words[] = {"--threads", "--temp", "--top-k", "--top-p", "-m"};
  static char long_word[300];
  memset(long_word, 'x', sizeof long_word - 1);
  assert_int_equal(base_nearest("--thread", words, 5), 0);
  assert_int_equal(base_nearest("--tpm", words, 5), 1);
  assert_int_equal(base_nearest("--top-k", words, 5), 2);
  assert_int_equal(base_nearest("--top-x", words, 5), 2); /* two are as near: the first */
  assert_int_equal(base_nearest("--top-p", words, 5), 3); /* the last letter counts */
  assert_int_equal(base_nearest("--grammar", words, 5), -1);
  assert_int_equal(base_nearest("x", words, 5), -1);
  assert_int_equal(base_nearest("", words, 5), -1);
  assert_int_equal(base_nearest(long_word, words, 5), -1);
  const char *const only[] = {long_word};
  assert_int_equal(base_nearest("--temp", only, 1), -1);
  assert_int_equal(base_nearest("--temp", words, 0), -1);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static void test_memory_is_zero_and_aligned(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 63, 64, 65, 4096, 1000000};
  for (size_t i = 0; i < COUNT_OF(sizes); i++) {
    void *p;
    assert_int_equal(base_alloc(&p, sizes[i], "test", NULL), TANDEM_OK);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (size_t k = 0; k < sizes[i]; k++) assert_int_equal(((char *)p)[k], 0);
    memset(p, 0xff, sizes[i]); /* so that a later one is zero by work, not by chance */
    base_free(p);
  }
  base_free(NULL);
}

static void test_impossible_sizes_are_refused(void **state) {
  (void)state;
  error err;
  void *p = &err;
  assert_int_equal(base_alloc(&p, SIZE_MAX, "weights", &err), TANDEM_ERROR_MEMORY);
  assert_null(p);
  assert_non_null(strstr(err.text, "weights: 18446744073709551615 bytes"));
  assert_int_equal(base_alloc(&p, SIZE_MAX - 64, "weights", &err), TANDEM_ERROR_MEMORY);
  assert_int_equal(base_alloc_array(&p, SIZE_MAX / 8, 9, "rows", &err), TANDEM_ERROR_MEMORY);
  assert_non_null(strstr(err.text, "rows: "));
  assert_int_equal(base_map(&p, SIZE_MAX / 2, false, "cache", &err), TANDEM_ERROR_MEMORY);
  assert_null(p);
}

static void test_realloc_keeps_content(void **state) {
  (void)state;
  void *p = NULL;
  assert_int_equal(base_realloc(&p, 0, 100, "test", NULL), TANDEM_OK);
  memset(p, 7, 100);
  assert_int_equal(base_realloc(&p, 100, 1000, "test", NULL), TANDEM_OK);
  for (int i = 0; i < 1000; i++) assert_int_equal(((char *)p)[i], i < 100 ? 7 : 0);
  assert_int_equal(base_realloc(&p, 1000, 10, "test", NULL), TANDEM_OK);
  assert_int_equal(((char *)p)[9], 7);
  void *before = p;
  base_fault_arm(FAULT_MEMORY, 1, false);
  assert_int_equal(base_realloc(&p, 10, 20, "test", NULL), TANDEM_ERROR_MEMORY);
  base_fault_arm(FAULT_MEMORY, 0, false);
  assert_ptr_equal(p, before);
  assert_int_equal(((char *)p)[9], 7);
  base_free(p);
}

static void test_map_is_zero_and_costs_nothing_until_written(void **state) {
  (void)state;
  char *p;
  size_t n = (size_t)1 << 36;
  uint64_t before = os_memory_peak();
  assert_int_equal(base_map((void **)&p, n, true, "cache", NULL), TANDEM_OK);
  assert_int_equal(p[0], 0);
  p[n - 1] = 5;
  assert_int_equal(p[n / 2], 0);
  assert_in_range(os_memory_peak() - before, 0, 64 << 20);
  base_unmap(p, n);
  base_unmap(NULL, 5);
  assert_int_equal(base_map((void **)&p, 0, false, "cache", NULL), TANDEM_OK);
  base_unmap(p, 0);
}

static void test_fault_injection_counts_and_fails(void **state) {
  (void)state;
  void *p;
  error err;
  uint64_t calls = base_alloc_count();
  base_fault_arm(FAULT_MEMORY, 2, false);
  assert_int_equal(base_alloc(&p, 1, "a", NULL), TANDEM_OK);
  base_free(p);
  assert_int_equal(base_alloc_array(&p, 1, 1, "b", &err), TANDEM_ERROR_MEMORY);
  assert_null(p);
  assert_string_equal(err.field, "b");
  assert_int_equal(base_alloc(&p, 1, "c", NULL), TANDEM_OK);
  base_free(p);
  assert_int_equal(base_fault_arm(FAULT_MEMORY, 1, true), 3);
  assert_int_equal(base_map(&p, 1, false, "d", NULL), TANDEM_ERROR_MEMORY);
  assert_int_equal(base_alloc(&p, 1, "e", NULL), TANDEM_ERROR_MEMORY);
  assert_int_equal(base_fault_arm(FAULT_MEMORY, 0, true), 2);
  assert_int_equal(base_alloc(&p, 1, "f", NULL), TANDEM_OK);
  base_free(p);
  assert_int_equal(base_alloc_count() - calls, 6);
}

static void test_checked_sizes(void **state) {
  (void)state;
  size_t r = 5;
  assert_true(size_mul(SIZE_MAX / 3, 3, &r) && r == SIZE_MAX);
  r = 5;
  assert_false(size_mul(SIZE_MAX / 3 + 1, 3, &r));
  assert_int_equal(r, 5);
  assert_true(size_add(SIZE_MAX - 1, 1, &r) && r == SIZE_MAX);
  r = 5;
  assert_false(size_add(SIZE_MAX, 1, &r));
  assert_int_equal(r, 5);
  assert_int_equal(size_align(0, 64), 0);
  assert_int_equal(size_align(65, 64), 128);
}

static void test_arena(void **state) {
  (void)state;
  arena *a;
  char *p[2000];
  const char *s;
  assert_int_equal(arena_open(&a, "names", NULL), TANDEM_OK);
  for (size_t i = 0; i < COUNT_OF(p); i++) {
    size_t n = i % 100 == 99 ? 100000 : i % 77; /* large ones between small ones */
    assert_int_equal(arena_alloc(a, n, (void **)&p[i], NULL), TANDEM_OK);
    assert_int_equal((uintptr_t)p[i] % 16, 0);
    for (size_t k = 0; k < n; k++) assert_int_equal(p[i][k], 0);
    memset(p[i], (int)i, n);
  }
  for (size_t i = 0; i < COUNT_OF(p); i++) {
    size_t n = i % 100 == 99 ? 100000 : i % 77;
    for (size_t k = 0; k < n; k++) assert_int_equal(p[i][k], (char)i);
  }
  assert_in_range(arena_bytes(a), 2000000, 4000000);
  assert_int_equal(arena_text(a, "abcdef", 3, &s, NULL), TANDEM_OK);
  assert_string_equal(s, "abc");
  error err;
  assert_int_equal(arena_alloc(a, SIZE_MAX - 8, (void **)&p[0], &err), TANDEM_ERROR_MEMORY);
  assert_null(p[0]);
  assert_int_equal(arena_text(a, "", SIZE_MAX, &s, &err), TANDEM_ERROR_MEMORY);
  base_fault_arm(FAULT_MEMORY, 1, false);
  assert_int_equal(arena_alloc(a, 2000000, (void **)&p[0], &err), TANDEM_ERROR_MEMORY);
  base_fault_arm(FAULT_MEMORY, 1, false);
  arena *b;
  assert_int_equal(arena_open(&b, "names", &err), TANDEM_ERROR_MEMORY);
  base_fault_arm(FAULT_MEMORY, 0, false);
  assert_null(b);
  arena_close(a);
  arena_close(NULL);
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void test_text_grows(void **state) {
  (void)state;
  text t = {0};
  for (int i = 0; i < 1000; i++) assert_int_equal(text_printf(&t, NULL, "%d,", i), TANDEM_OK);
  assert_int_equal(t.n, 10 * 2 + 90 * 3 + 900 * 4);
  assert_int_equal(t.bytes[t.n], 0);
  assert_int_equal(strncmp(t.bytes, "0,1,2,", 6), 0);
  assert_string_equal(t.bytes + t.n - 8, "998,999,");
  assert_int_equal(text_add(&t, "\0x", 2, NULL), TANDEM_OK);
  assert_int_equal(t.bytes[t.n - 1], 'x');
  error err;
  assert_int_equal(text_add(&t, "", SIZE_MAX, &err), TANDEM_ERROR_MEMORY);
  text_free(&t);
  assert_null(t.bytes);
  assert_int_equal(text_add(&t, "", 0, NULL), TANDEM_OK);
  assert_string_equal(t.bytes, "");
  base_fault_arm(FAULT_MEMORY, 1, true);
  assert_int_equal(text_printf(&t, &err, "%300d", 1), TANDEM_ERROR_MEMORY);
  base_fault_arm(FAULT_MEMORY, 0, false);
  assert_string_equal(t.bytes, "");
  text_free(&t);
}

static void check_escape(const char *s, size_t n, const char *expected) {
  char out[1100];
  assert_string_equal(text_escape(out, sizeof out, s, n), expected);
}

static void test_escape(void **state) {
  (void)state;
  check_escape("plain \xc3\xa9\xe2\x82\xac", 11, "plain \xc3\xa9\xe2\x82\xac");
  check_escape("a\nb", 3, "a\\nb");
  check_escape("\x1b[31m\r\t\0\x7f", 9, "\\x1b[31m\\x0d\\x09\\x00\\x7f");
  check_escape("\xff\xc3", 2, "\\xff\\xc3");
  check_escape("\xc2\x9b", 2, "\\xc2\\x9b"); /* a control character of two bytes */
  check_escape("\xc3\xa9", 1, "\\xc3"); /* the rest of the character is not ours */
  check_escape("\xc2\xa0", 2, "\xc2\xa0");
  check_escape("\xed\xa0\x80", 3, "\\xed\\xa0\\x80");
  check_escape("", 0, "");
}

static void test_escape_cuts(void **state) {
  (void)state;
  char s[300], out[1100];
  memset(s, 'y', sizeof s);
  text_escape(out, sizeof out, s, 256);
  assert_int_equal(strlen(out), 256);
  text_escape(out, sizeof out, s, 257);
  assert_int_equal(strlen(out), 256 + strlen("...(257 bytes)"));
  assert_string_equal(out + 256, "...(257 bytes)");
  memset(s, '\xff', sizeof s);
  text_escape(out, sizeof out, s, 300);
  assert_int_equal(strlen(out), 4 * 256 + strlen("...(300 bytes)"));
  assert_string_equal(text_escape(NULL, 0, "abc", 3), "");
  for (size_t capacity = 1; capacity < 60; capacity++) { /* never beyond the buffer, never half an escape */
    memset(out, 'Q', sizeof out);
    text_escape(out, capacity, "\x01\x02\x03\x04\x05\x06\x07", 7);
    assert_int_equal(out[capacity], 'Q');
    size_t n = strlen(out);
    assert_in_range(n, 0, capacity - 1);
    if (capacity > 28) assert_int_equal(n, 28);
    else if (capacity > 13) assert_string_equal(out + n - 12, "...(7 bytes)");
    else assert_int_equal(n % 4, 0);
  }
}

/* The definition, by another way: encode every character, and compare all sequences of up to three bytes with that list. */
static int slow_decode(const uint8_t *b, size_t n, uint32_t *rune) {
  static const uint32_t from[] = {0, 0x80, 0x800, 0x10000}, to[] = {0x7f, 0x7ff, 0xffff, 0x10ffff};
  static const uint8_t head[] = {0, 0xc0, 0xe0, 0xf0}, mask[] = {0x80, 0xe0, 0xf0, 0xf8};
  for (int k = 0; k < 4; k++) {
    if ((b[0] & mask[k]) != head[k]) continue;
    if (n < (size_t)k + 1) return 0;
    uint32_t r = (uint32_t)(b[0] & ~mask[k]);
    for (int i = 1; i <= k; i++) {
      if ((b[i] & 0xc0) != 0x80) return 0;
      r = r * 64 + (b[i] & 0x3f);
    }
    if (r < from[k] || r > to[k] || (r >= 0xd800 && r <= 0xdfff)) return 0;
    *rune = r;
    return k + 1;
  }
  return 0;
}

static void test_utf8_decode(void **state) {
  (void)state;
  for (uint32_t v = 0; v < 1u << 24; v += v >= 0xe00000 ? 1 : 7) { /* all that three bytes decide, a sample of the rest */
    uint8_t b[4] = {(uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v, 0x80};
    uint32_t x = 1, y = 1;
    size_t n = 1 + v % 4;
    int k = utf8_decode((const char *)b, n, &x), slow = slow_decode(b, n, &y);
    if (k != slow || x != y) fail_msg("%02x %02x %02x, %zu bytes: %d, %d expected", b[0], b[1], b[2], n, k, slow);
  }
}

static void test_utf8_encode_round_trip(void **state) {
  (void)state;
  for (uint32_t r = 0; r <= 0x110000; r++) {
    char s[4];
    uint32_t back = 0;
    if ((r >= 0xd800 && r <= 0xdfff) || r > 0x10ffff) continue;
    int n = utf8_encode(r, s);
    if (utf8_decode(s, (size_t)n, &back) != n || back != r) fail_msg("U+%04X: %d bytes, U+%04X", r, n, back);
  }
}

/* The tail that more bytes could complete is the longest suffix that is a proper prefix of some character. */
static bool can_be_completed(const uint8_t *b, size_t n) {
  for (uint32_t fill = 0; fill < 1u << 6; fill++) { /* the second byte matters, the others may be anything */
    uint8_t try[4] = {b[0], (uint8_t)(0x80 | fill), 0x80, 0x80};
    uint32_t rune;
    memcpy(try, b, n);
    if (slow_decode(try, 4, &rune) > (int)n) return true;
    if (n > 1) return false;
  }
  return false;
}

static void test_utf8_complete(void **state) {
  (void)state;
  for (uint32_t v = 0; v < 1u << 24; v += v >= 0xe00000 ? 1 : 7) {
    uint8_t b[4] = {'a', (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    size_t expected = 4;
    for (size_t n = 3; n >= 1; n--) {
      if (can_be_completed(b + 4 - n, n)) {
        expected = 4 - n;
        break;
      }
    }
    size_t have = utf8_complete((const char *)b, 4);
    if (have != expected) fail_msg("61 %02x %02x %02x: %zu, %zu expected", b[1], b[2], b[3], have, expected);
  }
  assert_int_equal(utf8_complete("", 0), 0);
  assert_int_equal(utf8_complete("\xe2\x82", 2), 0);
  assert_int_equal(utf8_complete(&"\xe2\x82\x80"[1], 1), 1); /* what stands before is not ours */
  assert_int_equal(utf8_complete(&"\xe2\x82\x80"[1], 2), 2);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void write_sample(json *j) {
  json_put_object(j, NULL);
  json_put_string(j, "s", "a\"\\\n\x01\xff\xc3\xa9/", 9);
  json_put_int(j, "i", INT64_MIN);
  json_put_uint(j, "u", UINT64_MAX);
  json_put_bool(j, "b", true);
  json_put_null(j, "n");
  json_put_array(j, "a");
  json_put_int(j, NULL, 1);
  json_put_object(j, NULL);
  json_put_end_object(j);
  json_put_array(j, NULL);
  json_put_end_array(j);
  json_put_end_array(j);
  json_put_end_object(j);
}

static void test_json(void **state) {
  (void)state;
  json j;
  json_open(&j, false, NULL);
  write_sample(&j);
  assert_int_equal(json_close(&j), TANDEM_OK);
  assert_string_equal(j.out.bytes, "{\"s\":\"a\\\"\\\\\\n\\u0001\xef\xbf\xbd\xc3\xa9/\","
                                   "\"i\":-9223372036854775808,\"u\":18446744073709551615,"
                                   "\"b\":true,\"n\":null,\"a\":[1,{},[]]}");
  text_free(&j.out);
  json_open(&j, true, NULL);
  json_put_object(&j, NULL);
  json_put_array(&j, "a");
  json_put_int(&j, NULL, 1);
  json_put_int(&j, NULL, 2);
  json_put_end_array(&j);
  json_put_object(&j, "e");
  json_put_end_object(&j);
  json_put_end_object(&j);
  assert_string_equal(j.out.bytes, "{\n  \"a\": [\n    1,\n    2\n  ],\n  \"e\": {}\n}");
  text_free(&j.out);
}

static void test_json_strings(void **state) {
  (void)state;
  static const struct {
    const char *s;
    size_t n;
    const char *expected;
  } cases[] = {{" ~\x7f", 3, "\" ~\x7f\""}, {"\x1f\0", 2, "\"\\u001f\\u0000\""}, {"\xc3\xa9", 1, "\"\xef\xbf\xbd\""},
               {"\b\t\f\r", 4, "\"\\b\\t\\f\\r\""}, {"\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""}};
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    json j;
    json_open(&j, false, NULL);
    json_put_string(&j, NULL, cases[i].s, cases[i].n);
    assert_string_equal(j.out.bytes, cases[i].expected);
    text_free(&j.out);
  }
}

static void check_double(double v, const char *expected) {
  json j;
  json_open(&j, false, NULL);
  json_put_double(&j, NULL, v);
  assert_int_equal(json_close(&j), TANDEM_OK);
  assert_string_equal(j.out.bytes, expected);
  text_free(&j.out);
}

static void test_json_doubles(void **state) {
  (void)state;
  check_double(0.1, "0.1");
  check_double(1.0 / 3, "0.3333333333333333");
  check_double(1500, "1500");
  check_double(-0.0, "-0");
  check_double(1e300, "1e+300");
  check_double(5e-324, "5e-324");
  check_double(9007199254740991, "9007199254740991");
  check_double(NAN, "null");
  check_double(-INFINITY, "null");
  uint64_t x = 1;
  for (int i = 0; i < 20000; i++) {
    json j;
    double v, back;
    x = x * 6364136223846793005u + 1442695040888963407u;
    memcpy(&v, &x, sizeof v);
    json_open(&j, false, NULL);
    json_put_double(&j, NULL, v);
    back = strtod(j.out.bytes, NULL);
    if (isfinite(v)) assert_memory_equal(&v, &back, sizeof v);
    text_free(&j.out);
  }
}

/* A host program may have set a locale whose decimal point is a comma. */
static void test_json_doubles_in_a_locale(void **state) {
  (void)state;
  static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR", "it_IT.UTF-8"};
  size_t i = 0;
  while (i < COUNT_OF(names) && !setlocale(LC_NUMERIC, names[i])) i++;
  if (i == COUNT_OF(names)) skip();
  check_double(0.5, "0.5");
  check_double(-1.25e-100, "-1.25e-100");
  setlocale(LC_NUMERIC, "C");
}

static void test_json_keeps_the_first_failure(void **state) {
  (void)state;
  error err;
  for (uint64_t n = 1; n <= 2; n++) {
    json j;
    base_fault_arm(FAULT_MEMORY, n, true);
    json_open(&j, true, &err);
    write_sample(&j);
    write_sample(&j);
    base_fault_arm(FAULT_MEMORY, 0, false);
    assert_int_equal(json_close(&j), TANDEM_ERROR_MEMORY);
    assert_int_equal(err.code, TANDEM_ERROR_MEMORY);
    text_free(&j.out);
  }
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static void test_map_reads_a_file(void **state) {
  (void)state;
  os_file f;
  const char *path = in_folder("file");
  write_plain(path, "content");
  assert_int_equal(os_map(&f, path, NULL), TANDEM_OK);
  assert_int_equal(f.n, 7);
  assert_memory_equal(f.bytes, "content", 7);
  os_will_need(&f, 0, 7);
  os_will_need(&f, 3, 1);
  os_dont_need(&f, 0, 7);
  os_will_need(&f, 100, SIZE_MAX); /* beyond the end: no effect */
  os_dont_need(&f, SIZE_MAX, SIZE_MAX);
  assert_memory_equal(f.bytes, "content", 7);
  os_unmap(&f);
  assert_null(f.bytes);
  os_unmap(&f);
  unlink(path);
}

static void test_map_of_an_empty_file(void **state) {
  (void)state;
  os_file f;
  const char *path = in_folder("empty");
  write_plain(path, "");
  assert_int_equal(os_map(&f, path, NULL), TANDEM_OK);
  assert_null(f.bytes);
  assert_int_equal(f.n, 0);
  os_unmap(&f);
  unlink(path);
}

static void check_map_fails(const char *path, const char *reason) {
  os_file f;
  error err;
  assert_int_equal(os_map(&f, path, &err), TANDEM_ERROR_OPEN);
  assert_null(f.bytes);
  bool right = strstr(err.text, reason) && !strncmp(err.text, path, strlen(path));
  if (!right) fail_msg("'%s', '%s: ...%s' expected", err.text, path, reason);
}

static void test_map_refuses_what_is_no_regular_file(void **state) {
  (void)state;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  check_map_fails(in_folder("missing"), "No such file");
  check_map_fails(folder, "is a directory");
  check_map_fails("/dev/zero", "is a device");
  assert_int_equal(mkfifo(in_folder("fifo"), 0600), 0);
  check_map_fails(in_folder("fifo"), "is a FIFO"); /* at once: nobody writes to it */
  unlink(in_folder("fifo"));
  snprintf(address.sun_path, sizeof address.sun_path, "%s", in_folder("socket"));
  int s = socket(AF_UNIX, SOCK_STREAM, 0);
  assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof address), 0);
  check_map_fails(in_folder("socket"), "is a socket");
  close(s);
  unlink(in_folder("socket"));
  assert_int_equal(symlink("loop", in_folder("loop")), 0);
  check_map_fails(in_folder("loop"), "symbolic links");
  unlink(in_folder("loop"));
  write_plain(in_folder("secret"), "x");
  chmod(in_folder("secret"), 0);
  if (geteuid() != 0) check_map_fails(in_folder("secret"), "Permission denied"); /* root may read anything */
  unlink(in_folder("secret"));
}

static void test_map_escapes_the_name(void **state) {
  (void)state;
  os_file f;
  error err;
  assert_int_equal(os_map(&f, "no\nsuch\x1b[0m", &err), TANDEM_ERROR_OPEN);
  assert_int_equal(strncmp(err.text, "no\\nsuch\\x1b[0m: cannot open: ", 29), 0);
}

static void test_read_faults(void **state) {
  (void)state;
  os_file f;
  error err;
  text t = {0};
  const char *path = in_folder("file");
  write_plain(path, "content");
  base_fault_arm(FAULT_READ, 1, false);
  assert_int_equal(os_map(&f, path, &err), TANDEM_ERROR_IO);
  assert_null(f.bytes);
  base_fault_arm(FAULT_READ, 2, false);
  assert_int_equal(os_read_all(&t, path, 100, &err), TANDEM_ERROR_IO);
  base_fault_arm(FAULT_READ, 0, false);
  text_free(&t);
  unlink(path);
}

static void test_read_all(void **state) {
  (void)state;
  text t = {0};
  error err;
  const char *path = in_folder("file");
  write_plain(path, "content");
  assert_int_equal(os_read_all(&t, path, 7, &err), TANDEM_OK);
  assert_string_equal(t.bytes, "content");
  assert_int_equal(os_read_all(&t, path, 7, &err), TANDEM_OK); /* appends; the limit is the file's alone */
  assert_string_equal(t.bytes, "contentcontent");
  text_free(&t);
  assert_int_equal(os_read_all(&t, path, 6, &err), TANDEM_ERROR_IO);
  assert_non_null(strstr(err.text, "more than 6 bytes"));
  text_free(&t);
  assert_int_equal(os_read_all(&t, folder, 6, &err), TANDEM_ERROR_OPEN);
  assert_non_null(strstr(err.text, "is a directory"));
  assert_int_equal(os_read_all(&t, in_folder("missing"), 6, &err), TANDEM_ERROR_OPEN);
  assert_int_equal(os_read_all(&t, "/dev/zero", 100000, &err), TANDEM_ERROR_IO);
  text_free(&t);
  unlink(path);
}

static void test_write_all_replaces_a_file(void **state) {
  (void)state;
  const char *path = in_folder("out");
  assert_int_equal(os_write_all(path, "one", 3, NULL), TANDEM_OK);
  folder_check(path, "one");
  assert_int_equal(os_write_all(path, "two!", 4, NULL), TANDEM_OK);
  folder_check(path, "two!");
  assert_int_equal(os_write_all(path, "", 0, NULL), TANDEM_OK);
  folder_check(path, "");
  assert_int_equal(folder_count(folder), 1); /* no temporary file is left */
  assert_int_equal(symlink("out", in_folder("link")), 0);
  assert_int_equal(os_write_all(in_folder("link"), "three", 5, NULL), TANDEM_OK);
  folder_check(path, "three"); /* through the link, which stays one */
  struct stat s;
  assert_int_equal(lstat(in_folder("link"), &s), 0);
  assert_true(S_ISLNK(s.st_mode));
  unlink(in_folder("link"));
  unlink(path);
}

static void test_write_all_leaves_nothing_on_failure(void **state) {
  (void)state;
  error err;
  static char long_name[5000];
  memset(long_name, 'n', sizeof long_name - 1);
  assert_int_equal(os_write_all("/dev/null", "x", 1, &err), TANDEM_ERROR_IO);
  assert_non_null(strstr(err.text, "/dev/null: is a device"));
  assert_true(exists("/dev/null"));
  assert_int_equal(os_write_all(folder, "x", 1, &err), TANDEM_ERROR_IO);
  assert_int_equal(os_write_all(in_folder("no/such"), "x", 1, &err), TANDEM_ERROR_IO);
  assert_non_null(strstr(err.text, "No such file"));
  assert_int_equal(os_write_all(long_name, "x", 1, &err), TANDEM_ERROR_IO);
  assert_int_equal(os_write_all("", "x", 1, &err), TANDEM_ERROR_IO);
  assert_int_equal(folder_count(folder), 0);
}

/* ---- the machine ------------------------------------------------------------------------------------------------- */

static void test_machine(void **state) {
  (void)state;
  double t = os_seconds();
  assert_true(os_seconds() >= t);
  assert_in_range(os_processors(), 1, sysconf(_SC_NPROCESSORS_ONLN));
  assert_in_range(os_memory_free(), 1 << 20, (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
  assert_in_range(os_memory_peak(), 1 << 20, UINT64_C(1) << 40);
  assert_true(os_random() != os_random());
  assert_false(os_is_terminal(-1));
}

static int open_folder(void **state) {
  (void)state;
  snprintf(folder, sizeof folder, P_tmpdir "/base_test.XXXXXX");
  return mkdtemp(folder) ? 0 : -1;
}

static int close_folder(void **state) {
  (void)state;
  return rmdir(folder); /* fails if a test left a file */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_status_has_a_name),
      cmocka_unit_test(test_failure_fills_the_error),
      cmocka_unit_test(test_failure_with_offset),
      cmocka_unit_test(test_cut_text_ends_with_a_whole_character),
      cmocka_unit_test(test_prefix),
      cmocka_unit_test(test_prefix_of_every_length),
      cmocka_unit_test(test_nearest_word),
      cmocka_unit_test(test_memory_is_zero_and_aligned),
      cmocka_unit_test(test_impossible_sizes_are_refused),
      cmocka_unit_test(test_realloc_keeps_content),
      cmocka_unit_test(test_map_is_zero_and_costs_nothing_until_written),
      cmocka_unit_test(test_fault_injection_counts_and_fails),
      cmocka_unit_test(test_checked_sizes),
      cmocka_unit_test(test_arena),
      cmocka_unit_test(test_text_grows),
      cmocka_unit_test(test_escape),
      cmocka_unit_test(test_escape_cuts),
      cmocka_unit_test(test_utf8_decode),
      cmocka_unit_test(test_utf8_encode_round_trip),
      cmocka_unit_test(test_utf8_complete),
      cmocka_unit_test(test_json),
      cmocka_unit_test(test_json_strings),
      cmocka_unit_test(test_json_doubles),
      cmocka_unit_test(test_json_doubles_in_a_locale),
      cmocka_unit_test(test_json_keeps_the_first_failure),
      cmocka_unit_test(test_map_reads_a_file),
      cmocka_unit_test(test_map_of_an_empty_file),
      cmocka_unit_test(test_map_refuses_what_is_no_regular_file),
      cmocka_unit_test(test_map_escapes_the_name),
      cmocka_unit_test(test_read_faults),
      cmocka_unit_test(test_read_all),
      cmocka_unit_test(test_write_all_replaces_a_file),
      cmocka_unit_test(test_write_all_leaves_nothing_on_failure),
      cmocka_unit_test(test_machine),
  };
  return cmocka_run_group_tests_name("base", tests, open_folder, close_folder);
}
