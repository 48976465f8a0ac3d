/* spm: pieces of characters with byte fallback, merged by score (`llama`) or by rank (`gemma4`): scores to ranks, raw text
 * to the text that is merged, and where that may be cut. Owns nothing.
 *
 * No merge can reach over a place where no token of the vocabulary has these two characters side by side, so a text is cut
 * there and its parts are merged alone: mostly words. The test looks at the last byte of the one and the first of the
 * other character and may miss a place, never invent one. Does not know how pairs are chosen (merge.c). */
#include "token/vocab.h"

/* U+2581 stands for a space in spellings; in raw text it is read as one. */
static bool is_mark(const char *s, size_t n) { return n >= 3 && memcmp(s, "\xe2\x96\x81", 3) == 0; }

size_t token_spm_key(const char *s, size_t n, char *out) {
  size_t length = 0;
  for (size_t i = 0; i < n;) {
    bool mark = is_mark(s + i, n - i);
    out[length++] = mark ? ' ' : s[i];
    i += mark ? 3 : 1;
  }
  return length;
}

size_t token_spm_unit(const char *s, size_t n, char *byte) {
  *byte = *s;
  if (is_mark(s, n)) {
    *byte = ' ';
    return 3;
  }
  uint32_t rune;
  return token_character(s, n, &rune);
}

/* ---- scores ------------------------------------------------------------------------------------------------------ */

/* An unsigned number in the order of the scores, best first; what is no number comes last. */
static uint32_t score_order(double score) {
  float f = (float)score;
  uint32_t bits;
  memcpy(&bits, &f, sizeof bits);
  if (f != f) return UINT32_MAX;
  if (f == 0) bits = 0; /* -0 is 0 */
  return bits >> 31 ? bits : 0x7fffffffu - bits;
}

enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };

/* Sorts ids by order[id], stable, by three digits of 11 bits. `other` has room for n. */
static void sort_ids(uint32_t *ids, uint32_t *other, const uint32_t *order, size_t n) {
  for (int shift = 0; shift < 32; shift += DIGIT_BITS) {
    size_t count[DIGITS] = {0}, sum = 0;
    for (size_t i = 0; i < n; i++) count[order[ids[i]] >> shift & (DIGITS - 1)]++;
    for (int d = 0; d < DIGITS; d++) {
      size_t here = count[d];
      count[d] = sum;
      sum += here;
    }
    for (size_t i = 0; i < n; i++) other[count[order[ids[i]] >> shift & (DIGITS - 1)]++] = ids[i];
    memcpy(ids, other, n * sizeof *ids);
  }
}

status token_spm_read(tokenizer *t, const gguf *g, error *err) {
  static const char name[] = "tokenizer.ggml.scores";
  const gguf_key *key = gguf_find_key(g, name);
  size_t n = (size_t)t->n, n_odd = 0;
  if (!key) return token_warn(t, err, "%s is missing: all scores are taken as equal", name);
  double probe;
  if (key->type != GGUF_ARRAY || (key->n > 0 && !gguf_double(key, 0, &probe)))
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: an array of numbers expected, found %s", name,
                        gguf_type_name(key->type == GGUF_ARRAY ? key->element : key->type));
  if (key->n != n)
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: %llu scores for %llu tokens", name,
                        (unsigned long long)key->n, (unsigned long long)n);
  void *p;
  TRY(base_alloc_array(&p, 3 * n, sizeof(uint32_t), "tokenizer: scores", err));
  uint32_t *order = p, *ids = order + n, *other = ids + n;
  for (size_t i = 0; i < n; i++) {
    double score = 0;
    gguf_double(key, i, &score);
    if (score != score) n_odd++;
    order[i] = score_order(score);
    ids[i] = (uint32_t)i;
  }
  sort_ids(ids, other, order, n);
  uint32_t rank = 0;
  for (size_t i = 0; i < n; i++) {
    if (i > 0 && order[ids[i]] != order[ids[i - 1]]) rank++;
    t->rank[ids[i]] = rank;
  }
  base_free(p);
  return n_odd ? token_warn(t, err, "%s: %zu scores are not numbers and were taken as the worst", name, n_odd) : TANDEM_OK;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

/* Where the part of s that begins at `from` ends, and its length as it is merged; that text is in `out` if it has room. */
typedef struct part {
  size_t end, length;
} part;

static part next_part(const tokenizer *t, const char *s, size_t n, size_t from, bool prefix, char *out, size_t capacity) {
  part p = {from, 0};
  uint8_t last = ' ';
  bool lines = s[from] == '\n';
  if (prefix) {
    p.length = 1;
    if (capacity > 0) out[0] = ' ';
  }
  while (p.end < n) {
    char byte;
    size_t length = token_spm_unit(s + p.end, n - p.end, &byte), merged = (byte == ' ') ? 1 : length;
    unsigned pair = (unsigned)last << 8 | (uint8_t)byte;
    if (p.length > 0 && !(t->pairs[pair >> 3] >> (pair & 7) & 1)) break;
    if (p.length > 0 && t->kind == KIND_RANKED && lines != (byte == '\n')) break;
    if (p.length + merged <= capacity) {
      if (merged == 1) out[p.length] = byte;
      else memcpy(out + p.length, s + p.end, merged);
    }
    last = byte == ' ' ? ' ' : (uint8_t)s[p.end + length - 1];
    p.length += merged;
    p.end += length;
  }
  return p;
}

/* gemma4: a run of line ends that is a token is that token, whatever the merges say. Length of the run that `at` begins,
 * 0 if it is none. */
static size_t line_run(const char *s, size_t n, size_t at) {
  size_t end = at;
  while (end < n && s[end] == '\n') end++;
  return end - at;
}

status token_spm_encode(token_work *w, const char *s, size_t n, bool prefix) {
  const tokenizer *t = w->t;
  for (size_t at = 0; at < n;) {
    if (t->kind == KIND_RANKED && s[at] == '\n' && (at == 0 || s[at - 1] != '\n')) {
      size_t run = line_run(s, n, at);
      int32_t id = token_find_text(t, s + at, run);
      if (id >= 0) {
        TRY(token_reserve(w, 1));
        w->ids->ids[w->ids->n++] = id;
        at += run;
        continue;
      }
    }
    part p = next_part(t, s, n, at, prefix, w->text, w->text_capacity);
    if (p.length > w->text_capacity) {
      TRY(token_work_text(w, p.length));
      next_part(t, s, n, at, prefix, w->text, w->text_capacity);
    }
    TRY(token_merge_units(w, w->text, p.length));
    prefix = false;
    at = p.end;
  }
  return TANDEM_OK;
}
