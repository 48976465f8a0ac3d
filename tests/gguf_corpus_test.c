/* gguf_corpus_test.c: the malformed and the odd files of tests/fuzz/corpus/gguf, each with the line it must lead to.
 *
 * tests/fuzz/make_corpus.py writes the files; the numbers in their names are those of the faults they stand for. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gguf/gguf.h"

#define CORPUS "tests/fuzz/corpus/gguf"

static const struct {
  const char *file;
  const char *text; /* after the file's name; NULL: accepted */
} cases[] = {
    {"a01-cut-before-data", "tensor 'a': unexpected end: need 32 bytes of data, have 0 (offset 0x45)"},
    {"a01-cut-in-counts", "unexpected end: need 8 bytes, have 4 (offset 0x10)"},
    {"a01-cut-in-data", "tensor 'b': unexpected end: need 32 bytes of data, have 31 (offset 0x66)"},
    {"a01-cut-in-key", "key 'k': unexpected end: need 3 bytes, have 2 (offset 0x5a)"},
    {"a01-cut-in-version", "unexpected end: need 4 bytes, have 1 (offset 0x4)"},
    {"a02-empty", "unexpected end: need 4 bytes, have 0 (offset 0x0)"},
    {"a02-magic-only", "unexpected end: need 4 bytes, have 0 (offset 0x4)"},
    {"a03-magic", "magic 'ABCD', must be 'GGUF': not a GGUF file (offset 0x0)"},
    {"a03-magic-ggjt", "magic 'tjgg' is a format older than GGUF, versions 2 and 3 of which are read (offset 0x0)"},
    {"a03-magic-ggmf", "magic 'fmgg' is a format older than GGUF, versions 2 and 3 of which are read (offset 0x0)"},
    {"a03-magic-ggml", "magic 'lmgg' is a format older than GGUF, versions 2 and 3 of which are read (offset 0x0)"},
    {"a03-magic-swapped", "magic 'FUGG': the bytes are swapped, only little-endian files are read (offset 0x0)"},
    {"a03-magic-unprintable", "magic '\\x00\\n\\xff\\x1b', must be 'GGUF': not a GGUF file (offset 0x0)"},
    {"a03-version-0", "version 0, versions 2 and 3 are read (offset 0x4)"},
    {"a03-version-1", "version 1, versions 2 and 3 are read (offset 0x4)"},
    {"a03-version-4", "version 4, versions 2 and 3 are read (offset 0x4)"},
    {"a03-version-big-endian",
     "version 0x03000000 is that of a big-endian file, only little-endian ones are read (offset 0x4)"},
    {"a03-version-max", "version 4294967295, versions 2 and 3 are read (offset 0x4)"},
    {"a04-more-than-fit", "unexpected end: n_tensors=1, n_kv=2 need 61 bytes, have 45 (offset 0x8)"},
    {"a04-n-kv-100000000", "n_kv=4294967296, must be 0 to 1048576 (offset 0x10)"},
    {"a04-n-kv-555555555555556", "n_kv=384307168202282326, must be 0 to 1048576 (offset 0x10)"},
    {"a04-n-kv-80000000", "n_kv=2147483648, must be 0 to 1048576 (offset 0x10)"},
    {"a04-n-kv-8000000000000000", "n_kv=-9223372036854775808, must be 0 to 1048576 (offset 0x10)"},
    {"a04-n-kv-ffffffffffffffff", "n_kv=-1, must be 0 to 1048576 (offset 0x10)"},
    {"a04-n-tensors-100000000", "n_tensors=4294967296, must be 0 to 1048576 (offset 0x8)"},
    {"a04-n-tensors-555555555555556", "n_tensors=384307168202282326, must be 0 to 1048576 (offset 0x8)"},
    {"a04-n-tensors-80000000", "n_tensors=2147483648, must be 0 to 1048576 (offset 0x8)"},
    {"a04-n-tensors-8000000000000000", "n_tensors=-9223372036854775808, must be 0 to 1048576 (offset 0x8)"},
    {"a04-n-tensors-ffffffffffffffff", "n_tensors=-1, must be 0 to 1048576 (offset 0x8)"},
    {"a05-key-empty", "key '': a name of 0 bytes, must be 1 to 65535 (offset 0x18)"},
    {"a05-key-long", "key 0: unexpected end: need 65536 bytes, have 32 (offset 0x20)"},
    {"a05-key-nul", "key 'a\\x00b': a zero byte in the name (offset 0x18)"},
    {"a05-odd-names", NULL},
    {"a05-string-2-63", "key 'k': unexpected end: need 9223372036854775808 bytes, have 19 (offset 0x2d)"},
    {"a05-string-max", "key 'k': unexpected end: need 18446744073709551615 bytes, have 19 (offset 0x2d)"},
    {"a05-string-one-too-long", "key 'k': unexpected end: need 9 bytes, have 8 (offset 0x2d)"},
    {"a06-array-of-arrays", "key 'k': an array of arrays, which GGUF does not allow (offset 0x25)"},
    {"a06-bool-2", "key 'k': a bool of value 2, must be 0 or 1 (offset 0x25)"},
    {"a06-bool-array-2", "key 'k': a bool of value 2, must be 0 or 1 (offset 0x33)"},
    {"a06-count-2-28", "key 'k': unexpected end: need 268435456 bytes, have 47 (offset 0x31)"},
    {"a06-count-2-61", "key 'k': an array of 2305843009213693952 elements, at most 268435456 are allowed (offset 0x29)"},
    {"a06-count-max", "key 'k': an array of 18446744073709551615 elements, at most 268435456 are allowed (offset 0x29)"},
    {"a06-element-13", "key 'k': value type 13, must be 0 to 12 (offset 0x25)"},
    {"a06-element-255", "key 'k': value type 255, must be 0 to 12 (offset 0x25)"},
    {"a06-empty-strings", "key 'k': an array of 1073741824 elements, at most 268435456 are allowed (offset 0x29)"},
    {"a06-strings-one-too-many", "key 'k': unexpected end: need 24 bytes, have 16 (offset 0x31)"},
    {"a06-type-13", "key 'k': value type 13, must be 0 to 12 (offset 0x21)"},
    {"a06-type-max", "key 'k': value type 4294967295, must be 0 to 12 (offset 0x21)"},
    {"a07-duplicate-key", "key 'general.architecture': occurs twice (offset 0x53)"},
    {"a08-bytes", "tensor 'w': dims 2147483648 x 2147483648 x 1 x 1 make 2^63 bytes or more (offset 0x18)"},
    {"a08-dim-0", "tensor 'w': dims[1]=0, must be >= 1 (offset 0x2d)"},
    {"a08-dim-2-40", "tensor 'w': unexpected end: need 4398046511104 bytes of data, have 32 (offset 0x18)"},
    {"a08-dim-2-40-and-1", "tensor 'w': dims[0]=1099511627777, must be <= 1099511627776 (offset 0x25)"},
    {"a08-dim-2-62", "tensor 'w': dims[0]=4611686018427387904, must be <= 1099511627776 (offset 0x25)"},
    {"a08-dim-minus-1", "tensor 'w': dims[0]=-1, must be >= 1 (offset 0x25)"},
    {"a08-n-dims-0", "tensor 'w': n_dims=0, must be 1 to 4 (offset 0x21)"},
    {"a08-n-dims-5", "tensor 'w': n_dims=5, must be 1 to 4 (offset 0x21)"},
    {"a08-n-dims-max", "tensor 'w': n_dims=4294967295, must be 1 to 4 (offset 0x21)"},
    {"a08-no-whole-block", "tensor 'w': dims[0]=33, must be a multiple of 32, the block of q4_0 (offset 0x18)"},
    {"a08-product", "tensor 'w': dims[1]=2147483648 makes 2^63 elements or more (offset 0x2d)"},
    {"a09-order-after-unknown", "tensor 'z': offset 32, must be at least 64 to follow tensor 'w' (offset 0x5a)"},
    {"a09-type-255", NULL},
    {"a09-type-36", NULL},
    {"a09-type-4", NULL},
    {"a09-type-5", NULL},
    {"a09-type-38", NULL},
    {"a09-type-4294967295", NULL},
    {"a09-type-43", NULL},
    {"a09-type-44", NULL},
    {"a09-unknown-at-end", "tensor 'w': unexpected end: need 1 bytes of data, have 0 (offset 0x39)"},
    {"a10-first-not-0", "tensor 'a': offset 32, must be 0 as it is the first (offset 0x18)"},
    {"a10-gap", "tensor 'b': offset 64, must be 32 to follow tensor 'a' (offset 0x39)"},
    {"a10-gap-2-40", "tensor 'b': offset 1099511627776, must be 32 to follow tensor 'a' (offset 0x39)"},
    {"a10-offset-wraps", "tensor 'b': offset 18446744073709551584, must be 32 to follow tensor 'a' (offset 0x39)"},
    {"a10-overlap", "tensor 'b': offset 32, must be 64 to follow tensor 'a' (offset 0x39)"},
    {"a10-reordered", "tensor 'b': offset 32, must be 0 as it is the first (offset 0x18)"},
    {"a10-unaligned", "tensor 'b': offset 33, must be a multiple of the alignment 32 (offset 0x39)"},
    {"a10-unknown-wraps", "tensor 'b': unexpected end: need 32 bytes of data, have 0 (offset 0x39)"},
    {"a11-duplicate", "tensor 'a': occurs twice (offset 0x39)"},
    {"a11-name-64",
     "tensor 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn': "
     "a name of 64 bytes, must be 1 to 63 (offset 0x18)"},
    {"a11-name-empty", "tensor '': a name of 0 bytes, must be 1 to 63 (offset 0x18)"},
    {"a11-name-nul", "tensor 'a\\x00b': a zero byte in the name (offset 0x18)"},
    {"a12-alignment-0", "key 'general.alignment': is 0, must be a power of two, 8 to 1048576 (offset 0x18)"},
    {"a12-alignment-12", "key 'general.alignment': is 12, must be a power of two, 8 to 1048576 (offset 0x18)"},
    {"a12-alignment-2097152", "key 'general.alignment': is 2097152, must be a power of two, 8 to 1048576 (offset 0x18)"},
    {"a12-alignment-2147483648", "key 'general.alignment': is 2147483648, must be a power of two, 8 to 1048576 (offset 0x18)"},
    {"a12-alignment-3", "key 'general.alignment': is 3, must be a power of two, 8 to 1048576 (offset 0x18)"},
    {"a12-alignment-4", "key 'general.alignment': is 4, must be a power of two, 8 to 1048576 (offset 0x18)"},
    {"a12-alignment-array", "key 'general.alignment': is array, must be u32 (offset 0x18)"},
    {"a12-alignment-i32", "key 'general.alignment': is i32, must be u32 (offset 0x18)"},
    {"a12-alignment-string", "key 'general.alignment': is string, must be u32 (offset 0x18)"},
    {"a12-alignment-u64", "key 'general.alignment': is u64, must be u32 (offset 0x18)"},
    {"good", NULL},
    {"good-alignment-1048576", NULL},
    {"good-alignment-8", NULL},
    {"good-bytes-after", NULL},
    {"good-name-63", NULL},
    {"good-nothing", NULL},
    {"good-smallest", NULL},
    {"good-version-2", NULL},
};

static void test_every_file_leads_to_its_line(void **state) {
  (void)state;
  int n_wrong = 0;
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    char path[200], expected[700];
    gguf *g;
    error err = {0};
    snprintf(path, sizeof path, CORPUS "/%s", cases[i].file);
    snprintf(expected, sizeof expected, "%s: %s", path, cases[i].text ? cases[i].text : "");
    status st = gguf_open(&g, path, &err);
    bool right = cases[i].text ? st == TANDEM_ERROR_FORMAT && !strcmp(err.text, expected) && !g : st == TANDEM_OK && g;
    if (!right) print_error("%s: %s\n", cases[i].file, st ? err.text : "accepted");
    n_wrong += !right;
    gguf_close(g);
  }
  assert_int_equal(n_wrong, 0);
}

static void test_every_file_is_in_the_table(void **state) {
  (void)state;
  size_t n_found = 0;
  DIR *folder = opendir(CORPUS);
  assert_non_null(folder);
  for (struct dirent *e; (e = readdir(folder));) {
    size_t i = 0;
    if (e->d_name[0] == '.') continue;
    while (i < COUNT_OF(cases) && strcmp(cases[i].file, e->d_name)) i++;
    if (i == COUNT_OF(cases)) fail_msg("%s has no line in the table", e->d_name);
    n_found++;
  }
  closedir(folder);
  assert_int_equal(n_found, COUNT_OF(cases));
}

/* A type that this build does not know costs the tensor, not the file. */
static void test_unknown_types_stay_inspectable(void **state) {
  (void)state;
  static const struct {
    const char *file, *reason;
  } unknown[] = {
      {"a09-type-4", "type 4 unknown to this build, the nearest known is 3 (q4_1)"},
      {"a09-type-5", "type 5 unknown to this build, the nearest known is 6 (q5_0)"},
      {"a09-type-38", "type 38 unknown to this build, the nearest known is 39 (mxfp4)"},
      {"a09-type-36", "type 36 unknown to this build, the nearest known is 35 (tq2_0)"},
      {"a09-type-43", "type 43 unknown to this build, the nearest known is 42 (q2_0)"},
      {"a09-type-44", "type 44 unknown to this build, the nearest known is 42 (q2_0)"},
      {"a09-type-255", "type 255 unknown to this build, the nearest known is 42 (q2_0)"},
      {"a09-type-4294967295", "type 4294967295 unknown to this build, the nearest known is 42 (q2_0)"},
  };
  for (size_t i = 0; i < COUNT_OF(unknown); i++) {
    char path[200];
    gguf *g;
    error err;
    const uint8_t *bytes;
    snprintf(path, sizeof path, CORPUS "/%s", unknown[i].file);
    assert_int_equal(gguf_open(&g, path, &err), TANDEM_OK);
    const gguf_tensor *t = gguf_find_tensor(g, "w"), *z = gguf_find_tensor(g, "z");
    assert_int_equal(t->n_bytes, 0);
    assert_int_equal(t->dims[0], 8);
    assert_int_equal(gguf_tensor_bytes(g, t, &bytes, &err), TANDEM_ERROR_UNSUPPORTED);
    assert_null(bytes);
    assert_non_null(strstr(err.text, unknown[i].reason));
    assert_int_equal(gguf_tensor_bytes(g, z, &bytes, &err), TANDEM_OK);
    float x;
    memcpy(&x, bytes + 7 * sizeof x, sizeof x);
    assert_true(x == 7);
    gguf_close(g);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_every_file_leads_to_its_line),
      cmocka_unit_test(test_every_file_is_in_the_table),
      cmocka_unit_test(test_unknown_types_stay_inspectable),
  };
  return cmocka_run_group_tests_name("gguf_corpus", tests, NULL, NULL);
}
