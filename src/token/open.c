/* open: reads and checks the vocabulary of a GGUF. What a file may get wrong is refused, or repaired with a warning that
 * names it; nothing read here is trusted later without this check. Owns the tokenizer while it is being made. Does not know
 * how text is encoded. */
#include <stdarg.h>
#include <stdio.h>

#include "token/vocab.h"

enum { MAX_WARNINGS = 64 };
static const char tokens_key[] = "tokenizer.ggml.tokens";

status token_warn(tokenizer *t, error *err, const char *format, ...) {
  char line[512];
  va_list args;
  va_start(args, format);
  int n = vsnprintf(line, sizeof line, format, args);
  va_end(args);
  if (n < 0 || t->n_warnings == MAX_WARNINGS) return TANDEM_OK;
  if (!t->warnings) {
    void *p;
    TRY(arena_alloc(t->memory, MAX_WARNINGS * sizeof *t->warnings, &p, err));
    t->warnings = p;
  }
  TRY(arena_text(t->memory, line, strlen(line), &t->warnings[t->n_warnings], err));
  t->n_warnings++;
  return TANDEM_OK;
}

static status allocate(tokenizer *t, size_t n, size_t size, void **p, error *err) {
  size_t n_bytes;
  if (!size_mul(n, size, &n_bytes))
    return base_fail(err, TANDEM_ERROR_MEMORY, tokens_key, "vocabulary: %zu x %zu bytes", n, size);
  return arena_alloc(t->memory, n_bytes, p, err);
}

/* ---- tokens ------------------------------------------------------------------------------------------------------ */

static status find_array(const gguf *g, const char *name, gguf_type element, const gguf_key **key, error *err) {
  *key = gguf_find_key(g, name);
  if (!*key) return TANDEM_OK;
  gguf_type found = (*key)->type == GGUF_ARRAY ? (*key)->element : (*key)->type;
  if ((*key)->type != GGUF_ARRAY || (element != GGUF_TYPE_END && found != element))
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, (*key)->offset, "%s: an array%s expected, found %s%s", name,
                        element == GGUF_STRING ? " of strings" : "", (*key)->type == GGUF_ARRAY ? "an array of " : "",
                        gguf_type_name(found));
  return TANDEM_OK;
}

/* Counts and sizes first, then one copy of all spellings. */
static status read_spellings(tokenizer *t, const gguf *g, error *err) {
  const gguf_key *key;
  TRY(find_array(g, tokens_key, GGUF_STRING, &key, err));
  if (!key)
    return base_fail(err, TANDEM_ERROR_FORMAT, tokens_key, "%s is missing, though tokenizer.ggml.model is there", tokens_key);
  if (key->n < 1 || key->n > TOKEN_MAX)
    return base_fail_at(err, TANDEM_ERROR_FORMAT, tokens_key, key->offset, "%s: %llu tokens, must be 1 .. %d", tokens_key,
                        (unsigned long long)key->n, TOKEN_MAX);
  t->n = (int32_t)key->n;
  size_t n = (size_t)t->n;
  void *p;
  TRY(allocate(t, n + 1, sizeof(size_t), &p, err));
  t->spelling_at = p;
  uint64_t at = 0;
  gguf_string s;
  for (size_t i = 0; i < n; i++) {
    if (!gguf_next_string(key, &at, &s))
      return base_fail_at(err, TANDEM_ERROR_FORMAT, tokens_key, key->offset, "%s: string %zu of %zu cannot be read", tokens_key,
                          i, n);
    if (s.n > TOKEN_MAX_BYTES)
      return base_fail_at(err, TANDEM_ERROR_FORMAT, tokens_key, key->offset, "%s: token %zu has %zu bytes, at most %d",
                          tokens_key, i, s.n, TOKEN_MAX_BYTES);
    t->spelling_at[i + 1] = t->spelling_at[i] + s.n;
    if (s.n > t->longest_piece) t->longest_piece = s.n;
  }
  TRY(allocate(t, t->spelling_at[n] + 1, 1, &p, err));
  t->spellings = p;
  at = 0;
  for (size_t i = 0; i < n && gguf_next_string(key, &at, &s); i++)
    if (s.n > 0) memcpy(t->spellings + t->spelling_at[i], s.s, s.n);
  return TANDEM_OK;
}

static status read_attributes(tokenizer *t, const gguf *g, error *err) {
  static const char name[] = "tokenizer.ggml.token_type";
  const gguf_key *key;
  void *p;
  TRY(allocate(t, (size_t)t->n, 1, &p, err));
  t->attr = p;
  TRY(allocate(t, (size_t)t->n, 1, &p, err));
  t->flags = p;
  TRY(find_array(g, name, GGUF_TYPE_END, &key, err));
  int64_t v = TOKEN_NORMAL;
  if (key && key->n != (uint64_t)t->n)
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: %llu types for %d tokens", name,
                        (unsigned long long)key->n, t->n);
  if (key && !gguf_int(key, 0, &v))
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: an array of integers expected, found %s", name,
                        gguf_type_name(key->element));
  size_t n_odd = 0, n_empty = 0, n_bad_bytes = 0;
  for (int32_t i = 0; i < t->n; i++) {
    if (key && (!gguf_int(key, (uint64_t)i, &v) || v < TOKEN_NORMAL || v > TOKEN_BYTE)) v = TOKEN_UNUSED, n_odd++;
    gguf_string s = token_spelling(t, i);
    t->attr[i] = (uint8_t)v;
    if (v != TOKEN_UNUSED && s.n == 0) t->attr[i] = TOKEN_UNUSED, n_empty++;
    else if (v == TOKEN_BYTE && token_byte_value(s) < 0) t->attr[i] = TOKEN_UNUSED, n_bad_bytes++;
  }
  if (n_odd) TRY(token_warn(t, err, "%s: %zu values are not 1 .. 6, such tokens are not used", name, n_odd));
  if (n_empty) TRY(token_warn(t, err, "%s: %zu empty tokens are not used", tokens_key, n_empty));
  if (n_bad_bytes)
    TRY(token_warn(t, err, "%s: %zu byte tokens are not spelled <0x00> .. <0xFF> and are not used", tokens_key, n_bad_bytes));
  return TANDEM_OK;
}

/* ---- keys -------------------------------------------------------------------------------------------------------- */

static status make_keys(tokenizer *t, error *err) {
  size_t n = (size_t)t->n;
  void *p;
  if (t->kind == KIND_BYTES) {
    t->keys = t->spellings;
    t->key_at = t->spelling_at;
    return TANDEM_OK;
  }
  TRY(allocate(t, n + 1, sizeof(size_t), &p, err));
  t->key_at = p;
  TRY(allocate(t, t->spelling_at[n] + 1, 1, &p, err));
  t->keys = p;
  for (size_t i = 0; i < n; i++) {
    gguf_string s = token_spelling(t, (int32_t)i);
    t->key_at[i + 1] = t->key_at[i] + token_spm_key(s.s, s.n, t->keys + t->key_at[i]);
  }
  return TANDEM_OK;
}

/* Bytes of text that a key stands for. */
static uint32_t count_units(const tokenizer *t, gguf_string key) {
  if (t->kind != KIND_BYTES) return (uint32_t)key.n;
  uint32_t n = 0, rune;
  for (size_t i = 0; i < key.n; n++) i += token_character(key.s + i, key.n - i, &rune);
  return n;
}

/* Can text lead to this key? A space that was spelled as such is found among special tokens only. */
static bool is_reachable(const tokenizer *t, int32_t id) {
  gguf_string s = token_spelling(t, id);
  return s.n > 0 && (t->kind == KIND_BYTES || !memchr(s.s, ' ', s.n));
}

/* False if there is a token with this key. */
static bool add_key(tokenizer *t, int32_t id) {
  gguf_string key = token_key(t, id);
  for (size_t i = (size_t)token_hash(t->seed, key.s, key.n) & t->place_mask;; i = (i + 1) & t->place_mask) {
    if (t->places[i] == 0) {
      t->places[i] = (uint32_t)id + 1;
      return true;
    }
    gguf_string other = token_key(t, (int32_t)t->places[i] - 1);
    if (other.n == key.n && memcmp(other.s, key.s, key.n) == 0) return false;
  }
}

static status index_keys(tokenizer *t, error *err) {
  size_t places = 64, n_double = 0;
  int32_t first_double = -1;
  while (places < 2 * (size_t)t->n) places *= 2;
  void *p;
  TRY(allocate(t, places, sizeof(uint32_t), &p, err));
  t->places = p;
  t->place_mask = places - 1;
  TRY(allocate(t, (size_t)t->n, sizeof(uint32_t), &p, err));
  t->length = p;
  for (int32_t id = 0; id < t->n; id++) {
    gguf_string key = token_key(t, id);
    t->length[id] = count_units(t, key);
    if (!is_reachable(t, id)) continue;
    if (key.n > t->longest_key) t->longest_key = key.n;
    if (add_key(t, id)) continue;
    if (n_double++ == 0) first_double = id;
  }
  if (n_double == 0) return TANDEM_OK;
  char shown[128];
  gguf_string s = token_spelling(t, first_double);
  text_escape(shown, sizeof shown, s.s, s.n);
  return token_warn(t, err, "%s: %zu tokens repeat an earlier one, which is used instead; the first is %d \"%s\"", tokens_key,
                    n_double, first_double, shown);
}

int32_t token_find_spelling(const tokenizer *t, const char *spelling) {
  char key[64];
  size_t n = strlen(spelling);
  if (n > sizeof key) return -1;
  if (t->kind == KIND_BYTES) return token_find(t, spelling, n);
  return token_find(t, key, token_spm_key(spelling, n, key));
}

/* Which characters stand side by side in tokens; see spm.c. */
static void note_pairs(tokenizer *t) {
  for (int32_t id = 0; id < t->n; id++) {
    gguf_string key = token_key(t, id);
    uint32_t rune;
    for (size_t i = 0; i < key.n;) {
      i += token_character(key.s + i, key.n - i, &rune);
      if (i >= key.n) break;
      unsigned pair = (unsigned)(uint8_t)key.s[i - 1] << 8 | (uint8_t)key.s[i];
      t->pairs[pair >> 3] |= (uint8_t)(1u << (pair & 7));
    }
  }
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static status find_bytes(tokenizer *t, error *err) {
  int n_missing = 0;
  for (int b = 0; b < 256; b++) {
    char spelling[8], unit[5];
    int n_unit = 1;
    unit[0] = (char)b;
    if (t->kind == KIND_BYTES) n_unit = utf8_encode(token_rune_of_byte((uint8_t)b), unit);
    t->unit_id[b] = t->kind == KIND_BYTES || b < 0x80 ? token_find_text(t, unit, (size_t)n_unit) : -1;
    snprintf(spelling, sizeof spelling, "<0x%02X>", (unsigned)b);
    t->byte_id[b] = token_find_spelling(t, spelling);
    if (t->byte_id[b] < 0) t->byte_id[b] = t->unit_id[b];
    if (t->byte_id[b] < 0) n_missing++;
  }
  if (n_missing == 0) return TANDEM_OK;
  return token_warn(t, err, "%s: %d bytes have no token and %s", tokens_key, n_missing,
                    t->role[TOKEN_UNK] >= 0 ? "become the unknown token" : "are lost");
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static status find_pre(tokenizer *t, const gguf *g, error *err) {
  static const char name[] = "tokenizer.ggml.pre";
  const gguf_key *key = gguf_find_key(g, name);
  gguf_string s = {"default", 7};
  if (t->kind != KIND_BYTES) return TANDEM_OK;
  if (!key)
    TRY(token_warn(t, err, "%s is missing: text is cut into words by the rules of \"default\", which may be wrong", name));
  else if (!gguf_string_value(key, &s))
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: a string expected, found %s", name,
                        gguf_type_name(key->type));
  t->pre = token_pre_find(s.s, s.n);
  if (t->pre) {
    token_pre_traits traits = token_pre_traits_of(t->pre);
    t->clean_spaces = traits.clean_spaces;
    t->whole_words = traits.whole_words;
    return TANDEM_OK;
  }
  char shown[128];
  text_escape(shown, sizeof shown, s.s, s.n);
  const char *names[256];
  size_t n = token_pre_names(names, COUNT_OF(names));
  int near = base_nearest(shown, names, n);
  return base_fail_at(err, TANDEM_ERROR_UNSUPPORTED, name, key ? key->offset : 0, "%s: \"%s\" is unknown to this build%s%s%s",
                      name, shown, near >= 0 ? "; the nearest it knows is \"" : "", near >= 0 ? names[near] : "",
                      near >= 0 ? "\"" : "");
}

static status read_all(tokenizer *t, const gguf *g, error *err) {
  TRY(read_spellings(t, g, err));
  TRY(read_attributes(t, g, err));
  TRY(make_keys(t, err));
  TRY(index_keys(t, err));
  TRY(find_pre(t, g, err));
  TRY(token_roles_read(t, g, err));
  TRY(find_bytes(t, err));
  if (t->kind != KIND_BYTES) note_pairs(t);
  if (t->kind == KIND_PIECES) {
    void *p;
    TRY(allocate(t, (size_t)t->n, sizeof(uint32_t), &p, err));
    t->rank = p;
    TRY(token_spm_read(t, g, err));
  } else {
    TRY(token_bpe_read(t, g, err));
  }
  return token_special_open(t, err);
}

static const struct { const char *name; token_kind kind; } models[] = {
    {"llama", KIND_PIECES}, {"gpt2", KIND_BYTES}, {"gemma4", KIND_RANKED}};

status token_open(tokenizer **t, const gguf *g, error *err) {
  static const char name[] = "tokenizer.ggml.model";
  const gguf_key *key = gguf_find_key(g, name);
  gguf_string s;
  *t = NULL;
  if (!key) return TANDEM_OK;
  if (!gguf_string_value(key, &s))
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: a string expected, found %s", name,
                        gguf_type_name(key->type));
  if ((s.n == 8 && memcmp(s.s, "no_vocab", 8) == 0) || (s.n == 4 && memcmp(s.s, "none", 4) == 0)) return TANDEM_OK;
  size_t i = 0;
  while (i < COUNT_OF(models) && (s.n != strlen(models[i].name) || memcmp(s.s, models[i].name, s.n) != 0)) i++;
  if (i == COUNT_OF(models)) {
    char shown[128];
    return base_fail_at(err, TANDEM_ERROR_UNSUPPORTED, name, key->offset,
                        "%s: \"%s\" is unknown to this build (llama, gpt2, gemma4)", name,
                        text_escape(shown, sizeof shown, s.s, s.n));
  }
  arena *memory;
  void *p;
  TRY(arena_open(&memory, "tokenizer", err));
  status st = arena_alloc(memory, sizeof(tokenizer), &p, err);
  if (!st) {
    tokenizer *made = p;
    made->memory = memory;
    made->model = models[i].name;
    made->kind = models[i].kind;
    made->seed = os_random();
    st = read_all(made, g, err);
    if (!st) *t = made;
  }
  if (st) arena_close(memory);
  return st;
}
