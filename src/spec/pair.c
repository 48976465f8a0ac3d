/* pair: may a model with one vocabulary draft for one with another? Ids must mean the same. Small differences at the end of the
 * table (padding) and in the first few, special ones are common among models of one family and are let through. */
#include <stdio.h>
#include <string.h>

#include "spec/spec.h"

enum { MAX_SIZE_DIFFERENCE = 128, FIRST_COMPARED = 5, MAX_SHOWN = 4 };

static status note(text *table, error *err, const char *what, gguf_string a, gguf_string b) {
  char x[80], y[80];
  return text_printf(table, err, "%s%s: '%s' and '%s'", table->n ? "; " : "", what, text_escape(x, sizeof x, a.s, a.n), text_escape(y, sizeof y, b.s, b.n));
}

static status note_id(text *table, error *err, const char *what, int32_t a, int32_t b) {
  return text_printf(table, err, "%s%s: %d and %d", table->n ? "; " : "", what, a, b);
}

static status compare(const tokenizer *t, const tokenizer *d, text *table, error *err) {
  const char *a = token_model(t), *b = token_model(d);
  if (strcmp(a, b)) TRY(note(table, err, "kind", (gguf_string){a, strlen(a)}, (gguf_string){b, strlen(b)}));
  if (token_special(t, TOKEN_BOS) != token_special(d, TOKEN_BOS)) TRY(note_id(table, err, "BOS", token_special(t, TOKEN_BOS), token_special(d, TOKEN_BOS)));
  if (token_special(t, TOKEN_EOS) != token_special(d, TOKEN_EOS)) TRY(note_id(table, err, "EOS", token_special(t, TOKEN_EOS), token_special(d, TOKEN_EOS)));
  int32_t n = token_count(t) < token_count(d) ? token_count(t) : token_count(d), different = 0;
  for (int32_t id = FIRST_COMPARED; id < n; id++) {
    gguf_string x = token_spelling(t, id), y = token_spelling(d, id);
    if (x.n == y.n && !memcmp(x.s, y.s, x.n)) continue;
    if (different++ >= MAX_SHOWN) continue;
    char what[32];
    snprintf(what, sizeof what, "token %d", id);
    TRY(note(table, err, what, x, y));
  }
  if (different > MAX_SHOWN) TRY(text_printf(table, err, "; and %d more tokens", different - MAX_SHOWN));
  return TANDEM_OK;
}

status spec_same_vocab(const tokenizer *target, int64_t n_target, const tokenizer *drafter, int64_t n_drafter, error *err) {
  text table = {0};
  status st = TANDEM_OK;
  if (n_target - n_drafter > MAX_SIZE_DIFFERENCE || n_drafter - n_target > MAX_SIZE_DIFFERENCE)
    st = text_printf(&table, err, "tokens: %lld and %lld", (long long)n_target, (long long)n_drafter);
  if (!st && target && drafter) st = compare(target, drafter, &table, err);
  if (!st && table.n)
    st = base_fail(err, TANDEM_ERROR_UNSUPPORTED, "tokenizer.ggml.tokens", "the vocabularies of target and drafter differ in %s", table.bytes);
  text_free(&table);
  return st;
}
