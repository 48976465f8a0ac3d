/* status.c: filling an error where the fault is seen, and "did you mean". */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"

static const char *const status_names[] = {
    [TANDEM_OK] = "TANDEM_OK",
    [TANDEM_ERROR_ARGUMENT] = "TANDEM_ERROR_ARGUMENT",
    [TANDEM_ERROR_MEMORY] = "TANDEM_ERROR_MEMORY",
    [TANDEM_ERROR_OPEN] = "TANDEM_ERROR_OPEN",
    [TANDEM_ERROR_IO] = "TANDEM_ERROR_IO",
    [TANDEM_ERROR_FORMAT] = "TANDEM_ERROR_FORMAT",
    [TANDEM_ERROR_UNSUPPORTED] = "TANDEM_ERROR_UNSUPPORTED",
    [TANDEM_ERROR_CONTEXT] = "TANDEM_ERROR_CONTEXT",
    [TANDEM_ERROR_CANCELLED] = "TANDEM_ERROR_CANCELLED",
    [TANDEM_ERROR_NONFINITE] = "TANDEM_ERROR_NONFINITE",
    [TANDEM_ERROR_BUSY] = "TANDEM_ERROR_BUSY",
    [TANDEM_ERROR_INTERNAL] = "TANDEM_ERROR_INTERNAL",
};
static_assert(COUNT_OF(status_names) == TANDEM_ERROR_INTERNAL + 1, "a name for every status");

const char *tandem_status_name(tandem_status st) {
  return (unsigned)st < COUNT_OF(status_names) ? status_names[st] : "unknown status";
}

/* A cut text must not end inside a character. */
static void trim(char *s, size_t capacity) {
  size_t n = strlen(s);
  if (n + 1 == capacity) s[utf8_complete(s, n)] = 0;
}

/* The text takes what `tail` leaves of the line, so that a long name never costs the offset. */
static status fill(error *err, status code, const char *field, uint64_t offset, const char *tail, const char *format,
                   va_list args) {
  if (!err) return code;
  size_t room = sizeof err->text - strlen(tail);
  err->code = code;
  err->offset = offset;
  snprintf(err->field, sizeof err->field, "%s", field ? field : "");
  vsnprintf(err->text, room, format, args);
  trim(err->field, sizeof err->field);
  trim(err->text, room);
  memcpy(err->text + strlen(err->text), tail, strlen(tail) + 1);
  return code;
}

status base_fail(error *err, status code, const char *field, const char *format, ...) {
  va_list args;
  va_start(args, format);
  fill(err, code, field, 0, "", format, args);
  va_end(args);
  return code;
}

status base_fail_at(error *err, status code, const char *field, uint64_t offset, const char *format, ...) {
  char tail[40];
  va_list args;
  snprintf(tail, sizeof tail, " (offset 0x%" PRIx64 ")", offset);
  va_start(args, format);
  fill(err, code, field, offset, tail, format, args);
  va_end(args);
  return code;
}

/* A prefix too long for the line loses its start: of a path, the end tells more. At least a tenth of the line is its. */
status base_fail_in(error *err, const char *prefix) {
  char rest[sizeof err->text];
  if (!err) return TANDEM_ERROR_INTERNAL;
  memcpy(rest, err->text, sizeof rest);
  size_t n = strlen(prefix), n_rest = strlen(rest), least = sizeof rest / 10, room = sizeof rest - 3; /* ": " and the end */
  room = n_rest + least < room ? room - n_rest : least;
  const char *dots = n > room ? "..." : "", *start = n > room ? prefix + n - (room - 3) : prefix;
  while ((*start & 0xc0) == 0x80) start++;
  int at = snprintf(err->text, sizeof err->text, "%s%s: ", dots, start);
  snprintf(err->text + at, sizeof err->text - (size_t)at, "%.*s", (int)sizeof err->text - 1 - at, rest);
  trim(err->text, sizeof err->text);
  return (status)err->code;
}

/* ---- the nearest word -------------------------------------------------------------------------------------------- */

enum { WORD_MAX = 64 };

static int least(int a, int b, int c) { return a < b ? (a < c ? a : c) : (b < c ? b : c); }

/* Levenshtein distance of words of at most WORD_MAX bytes, one row at a time. */
static int distance(const char *a, int n_a, const char *b, int n_b) {
  int row[WORD_MAX + 1];
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

/* Near is a distance of at most a third of the word, rounded up, and something of the word left. */
int base_nearest(const char *word, const char *const *candidates, size_t n) {
  size_t length = strlen(word);
  if (length == 0 || length > WORD_MAX) return -1;
  int best = -1, n_word = (int)length, best_distance = n_word < 2 ? 1 : (n_word + 2) / 3 + 1;
  for (size_t i = 0; i < n; i++) {
    size_t n_candidate = strlen(candidates[i]);
    int d = n_candidate > WORD_MAX ? best_distance : distance(word, n_word, candidates[i], (int)n_candidate);
    if (d >= best_distance) continue;
    best = (int)i;
    best_distance = d;
  }
  return best;
}
