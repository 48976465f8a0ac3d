/* spec.c: THE table of drafters, and the words that choose among them. */
#include <string.h>

#include "spec/spec.h"

const spec_ops *const spec_table[SPEC_KINDS] = {
    [SPEC_NGRAM_SIMPLE] = &spec_ngram_simple,
    [SPEC_NGRAM_MOD] = &spec_ngram_mod,
    [SPEC_SHARED] = &spec_shared,
    [SPEC_MODEL] = &spec_model,
};

static status unknown(const char *word, size_t n, error *err) {
  char shown[80], known[200] = "auto, off, ngram";
  for (int k = 0; k < SPEC_KINDS; k++) {
    strncat(known, ", ", sizeof known - strlen(known) - 1);
    strncat(known, spec_table[k]->name, sizeof known - strlen(known) - 1);
  }
  return base_fail(err, TANDEM_ERROR_ARGUMENT, "spec", "spec: '%s' is no drafter, there are %s", text_escape(shown, sizeof shown, word, n), known);
}

static bool is(const char *word, size_t n, const char *name) { return strlen(name) == n && !memcmp(word, name, n); }

static int kind_of(const char *w, size_t n) {
  int k = 0;
  while (k < SPEC_KINDS && !is(w, n, spec_table[k]->name) && !(spec_table[k]->alias && is(w, n, spec_table[k]->alias))) k++;
  return k;
}

static status add_kind(spec_kind kind, spec_kind *kinds, int32_t *n_kinds, error *err) {
  for (int32_t i = 0; i < *n_kinds; i++)
    if (kinds[i] == kind) return base_fail(err, TANDEM_ERROR_ARGUMENT, "spec", "spec: '%s' is named twice", spec_table[kind]->name);
  kinds[(*n_kinds)++] = kind;
  return TANDEM_OK;
}

status spec_parse(const char *words, spec_kind *kinds, int32_t *n_kinds, bool *by_value, error *err) {
  static const spec_kind all[] = {SPEC_NGRAM_MOD, SPEC_SHARED, SPEC_MODEL};
  *n_kinds = 0;
  *by_value = !words || is(words, strlen(words), "auto");
  if (*by_value) {
    for (size_t i = 0; i < COUNT_OF(all); i++) kinds[(*n_kinds)++] = all[i];
    return TANDEM_OK;
  }
  if (is(words, strlen(words), "off") || is(words, strlen(words), "none")) return TANDEM_OK;
  for (const char *w = words;; w++) {
    size_t n = strcspn(w, ",");
    if (is(w, n, "ngram")) { /* both, the better first */
      TRY(add_kind(SPEC_NGRAM_SIMPLE, kinds, n_kinds, err));
      TRY(add_kind(SPEC_NGRAM_MOD, kinds, n_kinds, err));
    } else {
      int k = kind_of(w, n);
      if (k == SPEC_KINDS) return unknown(w, n, err);
      TRY(add_kind((spec_kind)k, kinds, n_kinds, err));
    }
    w += n;
    if (!*w) return TANDEM_OK;
  }
}
