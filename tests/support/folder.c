/* folder.c: see folder.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <string.h>

#include "base/base.h"
#include "support/folder.h"

int folder_count(const char *path) {
  int n = 0;
  DIR *d = opendir(path);
  assert_non_null(d);
  for (struct dirent *e; (e = readdir(d));) n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
  closedir(d);
  return n;
}

void folder_check(const char *path, const char *expected) {
  text t = {0};
  assert_int_equal(os_read_all(&t, path, 1000, NULL), TANDEM_OK);
  assert_string_equal(t.bytes, expected);
  text_free(&t);
}
