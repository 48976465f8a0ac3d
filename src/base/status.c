/* status.c: filling an error where the fault is seen, and "did you mean". */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

static const char *const status_names[] = {
    [TANDEM_OK] = "TANDEM_OK", [TANDEM_ERROR_ARGUMENT] = "TANDEM_ERROR_ARGUMENT", [TANDEM_ERROR_MEMORY] = "TANDEM_ERROR_MEMORY",
    [TANDEM_ERROR_OPEN] = "TANDEM_ERROR_OPEN", [TANDEM_ERROR_IO] = "TANDEM_ERROR_IO", [TANDEM_ERROR_FORMAT] = "TANDEM_ERROR_FORMAT",
    [TANDEM_ERROR_UNSUPPORTED] = "TANDEM_ERROR_UNSUPPORTED", [TANDEM_ERROR_CONTEXT] = "TANDEM_ERROR_CONTEXT",
    [TANDEM_ERROR_CANCELLED] = "TANDEM_ERROR_CANCELLED", [TANDEM_ERROR_NONFINITE] = "TANDEM_ERROR_NONFINITE",
    [TANDEM_ERROR_BUSY] = "TANDEM_ERROR_BUSY", [TANDEM_ERROR_INTERNAL] = "TANDEM_ERROR_INTERNAL"};

const char *tandem_status_name(tandem_status st) {
  return (unsigned)st < COUNT_OF(status_names) && status_names[st] ? status_names[st] : "unknown status";
}

static status fill(error *err, status code, const char *field, uint64_t offset, const char *format, va_list args) {
  if (!err) return code;
  err->code = code;
  err->offset = offset;
  snprintf(err->field, sizeof err->field, "%s", field ? field : "");
  vsnprintf(err->text, sizeof err->text, format, args);
  return code;
}

status base_fail(error *err, status code, const char *field, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fill(err, code, field, 0, format, args);
  va_end(args);
  return code;
}

status base_fail_at(error *err, status code, const char *field, uint64_t offset, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fill(err, code, field, offset, format, args);
  va_end(args);
  if (err) {
    size_t n = strlen(err->text);
    snprintf(err->text + n, sizeof err->text - n, " (offset 0x%" PRIx64 ")", offset);
  }
  return code;
}

status base_fail_in(error *err, const char *prefix) {
  char rest[sizeof err->text];
  if (!err) return TANDEM_ERROR_INTERNAL;
  memcpy(rest, err->text, sizeof rest);
  int n = snprintf(err->text, sizeof err->text, "%.200s: ", prefix);
  snprintf(err->text + n, sizeof err->text - (size_t)n, "%s", rest);
  return (status)err->code;
}

/* ---- the nearest word -------------------------------------------------------------------------------------------- */

enum { WORD_MAX = 64 };

static int least(int a, int b, int c) { return a < b ? (a < c ? a : c) : (b < c ? b : c); }

/* Levenshtein distance of words of at most WORD_MAX bytes, one row at a time. */
static int distance(const char *a, const char *b) {
  int row[WORD_MAX + 1], n_a = (int)strlen(a), n_b = (int)strlen(b);
  if (n_a > WORD_MAX || n_b > WORD_MAX) return WORD_MAX;
  for (int j = 0; j <= n_b; j++) row[j] = j;
  for (int i = 1; i <= n_a; i++) {
    int diagonal = row[0];
    row[0] = i;
    for (int j = 1; j <= n_b; j++) {
      int above = row[j];
      row[j] = least(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
      diagonal = above;
    }
  }
  return row[n_b];
}

int base_nearest(const char *word, const char *const *candidates, size_t n) {
  int best = -1, best_distance = (int)strlen(word) / 3 + 1;
  for (size_t i = 0; i < n; i++) {
    int d = distance(word, candidates[i]);
    if (d > best_distance || (d == best_distance && best >= 0)) continue;
    best = (int)i;
    best_distance = d;
  }
  return best;
}
