/* bpe: byte-level byte pair encoding (`gpt2`): the table of merges, and words to ids. The table serves `gemma4` too, whose
 * merges are of characters. Owns nothing. Does not know how words are found (pretok.c) nor how pairs are chosen (merge.c). */
#include "token/vocab.h"

/* Key of one half of a merge, or of both with nothing between, in `out` (room for TOKEN_MAX_BYTES); 0: too long. */
static size_t half_key(const tokenizer *t, gguf_string half, char *out) {
  if (half.n > TOKEN_MAX_BYTES) return 0;
  if (t->kind != KIND_BYTES) return token_spm_key(half.s, half.n, out);
  memcpy(out, half.s, half.n);
  return half.n;
}

/* "left right": the first space that is not the first character parts them. */
static bool split_merge(gguf_string line, gguf_string *left, gguf_string *right) {
  const char *space = line.n > 1 ? memchr(line.s + 1, ' ', line.n - 1) : NULL;
  if (!space) return false;
  *left = (gguf_string){line.s, (size_t)(space - line.s)};
  *right = (gguf_string){space + 1, line.n - left->n - 1};
  return right->n > 0;
}

/* Ids of the halves and of what they make; false if one of the three is no token. */
static bool resolve_merge(const tokenizer *t, gguf_string line, char *buffer, token_merge *merge) {
  gguf_string left, right;
  if (!split_merge(line, &left, &right)) return false;
  size_t n_left = half_key(t, left, buffer), n_right = half_key(t, right, buffer + n_left);
  if (n_left == 0 || n_right == 0) return false;
  int32_t l = token_find(t, buffer, n_left), r = token_find(t, buffer + n_left, n_right),
          both = token_find(t, buffer, n_left + n_right);
  if (l < 0 || r < 0 || both < 0 || !token_is_text(t, both) || t->length[both] != t->length[l] + t->length[r]) return false;
  *merge = (token_merge){.left = (uint32_t)l, .right = (uint32_t)r, .result = (uint32_t)both + 1, .rank = merge->rank};
  return true;
}

/* False if the pair is there already: the first has the better rank. */
static bool add_merge(tokenizer *t, const token_merge *merge) {
  for (size_t i = (size_t)token_hash_pair(t->seed, merge->left, merge->right) & t->merge_mask;; i = (i + 1) & t->merge_mask) {
    token_merge *place = &t->merges[i];
    if (place->result && place->left == merge->left && place->right == merge->right) return false;
    if (place->result) continue;
    *place = *merge;
    return true;
  }
}

status token_bpe_read(tokenizer *t, const gguf *g, error *err) {
  static const char name[] = "tokenizer.ggml.merges";
  const gguf_key *key = gguf_find_key(g, name);
  if (!key) return base_fail(err, TANDEM_ERROR_FORMAT, name, "%s is missing, %s needs it", name, t->model);
  if (key->type != GGUF_ARRAY || key->element != GGUF_STRING)
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: an array of strings expected, found %s", name,
                        gguf_type_name(key->type == GGUF_ARRAY ? key->element : key->type));
  if (key->n > TOKEN_MAX_MERGES)
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: %llu merges, at most %d", name,
                        (unsigned long long)key->n, TOKEN_MAX_MERGES);
  size_t places = 64;
  while (places < 2 * key->n) places *= 2;
  void *p;
  TRY(arena_alloc(t->memory, places * sizeof(token_merge), &p, err));
  t->merges = p;
  t->merge_mask = places - 1;

  TRY(base_alloc(&p, 2 * TOKEN_MAX_BYTES, "tokenizer: a merge", err));
  char *buffer = p;
  uint64_t at = 0, n = 0, n_useless = 0, n_double = 0;
  gguf_string line;
  for (; n < key->n && gguf_next_string(key, &at, &line); n++) {
    token_merge merge = {.rank = (uint32_t)n};
    if (!resolve_merge(t, line, buffer, &merge)) n_useless++;
    else if (!add_merge(t, &merge)) n_double++;
  }
  base_free(buffer);
  if (n < key->n)
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: string %llu of %llu cannot be read", name,
                        (unsigned long long)n, (unsigned long long)key->n);
  if (n_useless)
    TRY(token_warn(t, err, "%s: %llu of %llu merges dropped: not two tokens that make a token", name,
                   (unsigned long long)n_useless, (unsigned long long)n));
  if (n_double)
    TRY(token_warn(t, err, "%s: %llu merges repeat an earlier pair and were dropped", name, (unsigned long long)n_double));
  return TANDEM_OK;
}

/* The token that is a whole word, or -1. */
static int32_t find_word(token_work *w, const char *s, size_t n) {
  if (n > w->t->longest_key) return -1;
  size_t n_key = 0; /* in w->text, which has room for two bytes a byte of the longest key */
  for (size_t i = 0; i < n; i++) n_key += (size_t)utf8_encode(token_rune_of_byte((uint8_t)s[i]), w->text + n_key);
  return token_find_text(w->t, w->text, n_key);
}

status token_bpe_encode(token_work *w, const char *s, size_t n) {
  if (w->t->whole_words) TRY(token_work_text(w, 2 * w->t->longest_key + 4));
  token_words words;
  token_words_open(&words, w->t, s, n);
  size_t at, length;
  while (token_words_next(&words, &at, &length)) {
    int32_t id = w->t->whole_words ? find_word(w, s + at, length) : -1;
    if (id < 0) {
      TRY(token_merge_units(w, s + at, length));
      continue;
    }
    TRY(token_reserve(w, 1));
    w->ids->ids[w->ids->n++] = id;
  }
  return TANDEM_OK;
}
