/* text.c: growing text, escaping for messages, UTF-8. */
#include <stdio.h>
#include <string.h>

#include "base/base.h"

static status reserve(text *t, size_t more, error *err) {
  size_t need;
  if (!size_add(t->n, more, &need) || !size_add(need, 1, &need))
    return base_fail(err, TANDEM_ERROR_MEMORY, "text", "text of %zu bytes cannot grow by %zu", t->n, more);
  if (need <= t->capacity) return TANDEM_OK;
  size_t capacity = t->capacity ? t->capacity : 128;
  while (capacity < need) capacity = capacity <= SIZE_MAX / 2 ? 2 * capacity : need;
  void *p = t->bytes;
  TRY(base_realloc(&p, t->n, capacity, "text", err));
  t->bytes = p;
  t->capacity = capacity;
  return TANDEM_OK;
}

status text_add(text *t, const char *s, size_t n, error *err) {
  TRY(reserve(t, n, err));
  if (n) memcpy(t->bytes + t->n, s, n);
  t->n += n;
  t->bytes[t->n] = 0;
  return TANDEM_OK;
}

status text_printf(text *t, error *err, const char *format, ...) {
  va_list args, again;
  va_start(args, format);
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, args);
  status st = TANDEM_ERROR_INTERNAL;
  if (n < 0) base_fail(err, st, "text", "format '%s' cannot be printed", format);
  else st = reserve(t, (size_t)n, err);
  if (!st) {
    vsnprintf(t->bytes + t->n, (size_t)n + 1, format, again);
    t->n += (size_t)n;
  }
  va_end(again);
  va_end(args);
  return st;
}

void text_free(text *t) {
  base_free(t->bytes);
  *t = (text){0};
}

/* ---- escaping ---------------------------------------------------------------------------------------------------- */

enum { ESCAPE_MAX = 256 };

/* One character as it is, or one byte escaped; *used is what it took of s. Returns the bytes written, at most 4. */
static size_t escape_one(char piece[8], const char *s, size_t n, size_t *used) {
  uint32_t rune;
  int length = utf8_decode(s, n, &rune);
  *used = 1;
  if (*s == '\n') return (size_t)snprintf(piece, 8, "\\n");
  bool plain = length > 0 && rune >= 0x20 && (rune < 0x7f || rune >= 0xa0);
  if (!plain) return (size_t)snprintf(piece, 8, "\\x%02x", (unsigned char)*s);
  *used = (size_t)length;
  memcpy(piece, s, *used);
  return *used;
}

const char *text_escape(char *out, size_t capacity, const char *s, size_t n) {
  char piece[8], suffix[40];
  size_t n_suffix = (size_t)snprintf(suffix, sizeof suffix, "...(%zu bytes)", n);
  size_t at = 0, room = 0, i = 0, used; /* room: the last place from which the suffix still fits */
  if (capacity == 0) return "";
  while (i < n && i < ESCAPE_MAX) {
    size_t written = escape_one(piece, s + i, n - i, &used);
    if (written >= capacity - at) break;
    memcpy(out + at, piece, written);
    at += written;
    i += used;
    if (n_suffix < capacity - at) room = at;
  }
  if (i < n && n_suffix < capacity) {
    memcpy(out + room, suffix, n_suffix);
    at = room + n_suffix;
  }
  out[at] = 0;
  return out;
}

/* ---- UTF-8 (RFC 3629) -------------------------------------------------------------------------------------------- */

int utf8_decode(const char *s, size_t n, uint32_t *rune) {
  static const uint32_t smallest[5] = {0, 0, 0x80, 0x800, 0x10000};
  const uint8_t *b = (const uint8_t *)s;
  if (b[0] < 0x80) {
    *rune = b[0];
    return 1;
  }
  int length = b[0] >= 0xf0 && b[0] < 0xf5 ? 4 : b[0] >= 0xe0 && b[0] < 0xf0 ? 3 : b[0] >= 0xc2 && b[0] < 0xe0 ? 2 : 0;
  if (length == 0 || (size_t)length > n) return 0;
  uint32_t r = b[0] & (0x7fu >> length);
  for (int i = 1; i < length; i++) {
    if ((b[i] & 0xc0) != 0x80) return 0;
    r = r << 6 | (b[i] & 0x3f);
  }
  if (r < smallest[length] || r > 0x10ffff || (r >= 0xd800 && r < 0xe000)) return 0;
  *rune = r;
  return length;
}

int utf8_encode(uint32_t r, char out[4]) {
  if (r < 0x80) {
    out[0] = (char)r;
    return 1;
  }
  int length = r < 0x800 ? 2 : r < 0x10000 ? 3 : 4;
  for (int i = length - 1; i > 0; i--, r >>= 6) out[i] = (char)(0x80 | (r & 0x3f));
  out[0] = (char)((0xf00u >> length & 0xff) | r);
  return length;
}

/* A lead byte in the last three that wants more bytes than there are, with what follows it valid so far, is held back. */
size_t utf8_complete(const char *s, size_t n) {
  for (size_t back = 1; back <= 3 && back <= n; back++) {
    uint8_t lead = (uint8_t)s[n - back];
    if (lead < 0x80) return n;
    if (lead < 0xc0) continue;
    char padded[4] = {(char)0, (char)0x80, (char)0x80, (char)0x80};
    memcpy(padded, s + n - back, back);
    /* the second byte narrows the first for four leads: try both ends of its range */
    uint32_t rune;
    if (back == 1 && (lead == 0xe0 || lead == 0xf0)) padded[1] = (char)0xbf;
    int length = utf8_decode(padded, 4, &rune);
    return length > (int)back ? n - back : n;
  }
  return n;
}
