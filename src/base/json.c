/* json.c: JSON out. An append-only writer; strings are made valid UTF-8, numbers read back equal. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

static void put(json *j, const char *s, size_t n) {
  if (!j->st) j->st = text_add(&j->out, s, n, j->err);
}

static void put_line(json *j) {
  if (!j->pretty) return;
  put(j, "\n", 1);
  for (int i = 0; i < j->indent; i++) put(j, "  ", 2);
}

static void put_escaped(json *j, const char *s, size_t n) {
  static const char *const short_escapes[0x20] = {
      ['\b'] = "\\b", ['\t'] = "\\t", ['\n'] = "\\n", ['\f'] = "\\f", ['\r'] = "\\r"};
  put(j, "\"", 1);
  for (size_t i = 0; i < n;) {
    uint32_t rune;
    char escape[8];
    int length = utf8_decode(s + i, n - i, &rune);
    if (length == 0) put(j, "\xef\xbf\xbd", 3); /* U+FFFD */
    else if (rune == '"' || rune == '\\') put(j, rune == '"' ? "\\\"" : "\\\\", 2);
    else if (rune < 0x20 && short_escapes[rune]) put(j, short_escapes[rune], 2);
    else if (rune < 0x20) put(j, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned)rune));
    else put(j, s + i, (size_t)length);
    i += length ? (size_t)length : 1;
  }
  put(j, "\"", 1);
}

/* Comma, line, key: what stands before any value. */
static void begin(json *j, const char *key) {
  if (j->comma) put(j, ",", 1);
  if (j->indent) put_line(j);
  if (key) {
    put_escaped(j, key, strlen(key));
    put(j, j->pretty ? ": " : ":", j->pretty ? 2 : 1);
  }
  j->comma = true;
}

static void open_bracket(json *j, const char *key, const char *bracket) {
  begin(j, key);
  put(j, bracket, 1);
  j->indent++;
  j->comma = false;
}

static void close_bracket(json *j, const char *bracket) {
  j->indent--;
  if (j->comma) put_line(j); /* something was inside */
  put(j, bracket, 1);
  j->comma = true;
}

void json_open(json *j, bool pretty, error *err) { *j = (json){.err = err, .pretty = pretty}; }
void json_put_object(json *j, const char *key) { open_bracket(j, key, "{"); }
void json_put_array(json *j, const char *key) { open_bracket(j, key, "["); }
void json_put_end_object(json *j) { close_bracket(j, "}"); }
void json_put_end_array(json *j) { close_bracket(j, "]"); }

void json_put_string(json *j, const char *key, const char *s, size_t n) {
  begin(j, key);
  put_escaped(j, s, n);
}

static void number(json *j, const char *key, const char *format, ...) {
  char s[40];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(s, sizeof s, format, args);
  va_end(args);
  begin(j, key);
  put(j, s, (size_t)n);
}

void json_put_int(json *j, const char *key, int64_t v) { number(j, key, "%" PRId64, v); }
void json_put_uint(json *j, const char *key, uint64_t v) { number(j, key, "%" PRIu64, v); }

/* The decimal point is the locale's, which is the host program's affair: whatever it is, it becomes a point. */
static size_t put_point(char *s) {
  size_t n = 0;
  for (const char *c = s; *c; c++) {
    bool plain = (*c >= '0' && *c <= '9') || *c == '-' || *c == '+' || *c == 'e';
    if (plain || n == 0 || s[n - 1] != '.') s[n++] = plain ? *c : '.';
  }
  s[n] = 0;
  return n;
}

/* Whole numbers that a double holds exactly are written as such: 1500 and not 1.5e+03. */
void json_put_double(json *j, const char *key, double v) {
  char s[40];
  if (!isfinite(v)) {
    json_put_null(j, key);
    return;
  }
  if (fabs(v) < 0x1p53 && trunc(v) == v) {
    snprintf(s, sizeof s, "%.0f", v);
  } else {
    int digits = 1;
    do snprintf(s, sizeof s, "%.*g", digits, v);
    while (strtod(s, NULL) != v && digits++ < 17);
  }
  begin(j, key);
  put(j, s, put_point(s));
}

void json_put_bool(json *j, const char *key, bool v) { number(j, key, "%s", v ? "true" : "false"); }
void json_put_null(json *j, const char *key) { number(j, key, "null"); }
status json_close(json *j) { return j->st; }
