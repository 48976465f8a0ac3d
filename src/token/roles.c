/* roles: which tokens have a part to play: special ids from the keys, tokens known by their spelling where files say nothing
 * or the wrong thing, the set of tokens that end a generation, and spaces that special tokens swallow. Owns nothing.
 * Does not know how text is encoded. */
#include "token/vocab.h"

/* ---- keys -------------------------------------------------------------------------------------------------------- */

/* Reads a special id into *id, which keeps its value if there is no such key. -1 says "none". */
static status read_id(tokenizer *t, const gguf *g, const char *name, int32_t *id, error *err) {
  const gguf_key *key = gguf_find_key(g, name);
  int64_t v;
  if (!key) return TANDEM_OK;
  if (key->type == GGUF_ARRAY || !gguf_int(key, 0, &v))
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: an integer expected, found %s", name,
                        gguf_type_name(key->type));
  *id = -1;
  if (v == -1 || v == UINT32_MAX) return TANDEM_OK;
  if (v < 0 || v >= t->n) return token_warn(t, err, "%s = %lld: not a token of %d, ignored", name, (long long)v, t->n);
  *id = (int32_t)v;
  return TANDEM_OK;
}

static status read_bool(const gguf *g, const char *name, bool *v, error *err) {
  const gguf_key *key = gguf_find_key(g, name);
  if (!key) return TANDEM_OK;
  if (key->type == GGUF_ARRAY || !gguf_bool(key, 0, v))
    return base_fail_at(err, TANDEM_ERROR_FORMAT, name, key->offset, "%s: a bool expected, found %s", name,
                        gguf_type_name(key->type));
  return TANDEM_OK;
}

static status read_roles(tokenizer *t, const gguf *g, error *err) {
  static const struct { const char *key; int32_t usual; } roles[TOKEN_ROLES] = { /* usual: of llama, if the file is silent */
      [TOKEN_BOS] = {"tokenizer.ggml.bos_token_id", 1},      [TOKEN_EOS] = {"tokenizer.ggml.eos_token_id", 2},
      [TOKEN_EOT] = {"tokenizer.ggml.eot_token_id", -1},     [TOKEN_UNK] = {"tokenizer.ggml.unknown_token_id", 0},
      [TOKEN_PAD] = {"tokenizer.ggml.padding_token_id", -1}, [TOKEN_SEP] = {"tokenizer.ggml.seperator_token_id", -1}};
  for (int i = 0; i < TOKEN_ROLES; i++) {
    t->role[i] = t->kind == KIND_PIECES && roles[i].usual < t->n ? roles[i].usual : -1;
    TRY(read_id(t, g, roles[i].key, &t->role[i], err));
  }
  return TANDEM_OK;
}

/* What is added around a text, and whether a space is put in front of it. */
static status read_additions(tokenizer *t, const gguf *g, error *err) {
  t->add_bos = t->kind == KIND_PIECES || (t->kind == KIND_BYTES && token_pre_traits_of(t->pre).add_bos);
  t->space_prefix = true;
  TRY(read_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, err));
  TRY(read_bool(g, "tokenizer.ggml.add_eos_token", &t->add_eos, err));
  TRY(read_bool(g, "tokenizer.ggml.add_space_prefix", &t->space_prefix, err));
  t->space_prefix = t->space_prefix && t->kind == KIND_PIECES;
  if (t->kind == KIND_RANKED && !t->add_bos) { /* files of this kind say false and are wrong: the models need it */
    t->add_bos = true;
    TRY(token_warn(t, err, "tokenizer.ggml.add_bos_token: taken as true for %s", t->model));
  }
  if (t->add_bos && t->role[TOKEN_BOS] < 0) {
    t->add_bos = false;
    TRY(token_warn(t, err, "tokenizer.ggml.add_bos_token is true, but there is no BOS: none is added"));
  }
  if (t->add_eos && t->role[TOKEN_EOS] < 0) {
    t->add_eos = false;
    TRY(token_warn(t, err, "tokenizer.ggml.add_eos_token is true, but there is no EOS: none is added"));
  }
  return TANDEM_OK;
}

/* ---- tokens known by their spelling ------------------------------------------------------------------------------ */

/* One token has the part of a group: the one that a key names, or else the first in the table that the vocabulary has.
 * `all`: the others of the group are what they are too. */
typedef enum group { END, EOT, EOM, FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE, FIM_PAD, FIM_REPO, FIM_FILE, GROUPS } group;

static const struct { const char *key; bool ends, all; } groups[GROUPS] = {
    [END] = {NULL, true, true},
    [EOT] = {NULL, true, true}, /* its key is read as a role */
    [EOM] = {"tokenizer.ggml.eom_token_id", true, true},
    [FIM_PREFIX] = {"tokenizer.ggml.fim_pre_token_id", false, false},
    [FIM_SUFFIX] = {"tokenizer.ggml.fim_suf_token_id", false, false},
    [FIM_MIDDLE] = {"tokenizer.ggml.fim_mid_token_id", false, false},
    [FIM_PAD] = {"tokenizer.ggml.fim_pad_token_id", true, false},
    [FIM_REPO] = {"tokenizer.ggml.fim_rep_token_id", true, false},
    [FIM_FILE] = {"tokenizer.ggml.fim_sep_token_id", true, false}};

static const struct { const char *spelling; group group; } known[] = {
    {"<|eot_id|>", EOT}, {"<|im_end|>", EOT}, {"<|end|>", EOT}, {"<end_of_turn>", EOT}, {"<turn|>", EOT},
    {"<|endoftext|>", EOT}, {"<|end_of_text|>", EOT}, {"<EOT>", EOT}, {"_<EOT>", EOT}, {"[EOT]", EOT},
    {"<\xef\xbd\x9c" "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>", EOT}, {"<end_of_utterance>", EOT},
    {"<|eom_id|>", EOM},
    {"</s>", END}, {"<eos>", END}, {"[EOS]", END}, {"<|return|>", END}, {"<|call|>", END}, {"<|calls|>", END},
    {"<|flush|>", END}, {"<|tool_response>", END}, {"[e~[", END},
    {"<|fim_prefix|>", FIM_PREFIX}, {"<fim-prefix>", FIM_PREFIX}, {"<fim_prefix>", FIM_PREFIX}, {"<PRE>", FIM_PREFIX},
    {"\xe2\x96\x81<PRE>", FIM_PREFIX}, {"<|code_prefix|>", FIM_PREFIX},
    {"<|fim_suffix|>", FIM_SUFFIX}, {"<fim-suffix>", FIM_SUFFIX}, {"<fim_suffix>", FIM_SUFFIX}, {"<SUF>", FIM_SUFFIX},
    {"\xe2\x96\x81<SUF>", FIM_SUFFIX}, {"<|code_suffix|>", FIM_SUFFIX},
    {"<|fim_middle|>", FIM_MIDDLE}, {"<fim-middle>", FIM_MIDDLE}, {"<fim_middle>", FIM_MIDDLE}, {"<MID>", FIM_MIDDLE},
    {"\xe2\x96\x81<MID>", FIM_MIDDLE}, {"<|code_middle|>", FIM_MIDDLE},
    {"<|fim_pad|>", FIM_PAD}, {"<fim-pad>", FIM_PAD}, {"<fim_pad>", FIM_PAD}, {"<PAD>", FIM_PAD}, {"[PAD]", FIM_PAD},
    {"<|fim_repo|>", FIM_REPO}, {"<|repo_name|>", FIM_REPO}, {"<fim-repo>", FIM_REPO}, {"<REPO>", FIM_REPO},
    {"<reponame>", FIM_REPO}, {"<|file_sep|>", FIM_FILE}};

static bool has(const tokenizer *t, const char *spelling) { return token_find_spelling(t, spelling) >= 0; }

/* Vocabularies in which a usual end is not one. */
static bool is_no_end(const tokenizer *t, const char *spelling) {
  if (strcmp(spelling, "<|end|>") == 0)
    return (has(t, "<|return|>") && has(t, "<|call|>")) || (has(t, "<|flush|>") && (has(t, "<|call|>") || has(t, "<|calls|>")));
  return strcmp(spelling, "</s>") == 0 && has(t, "<|tool_response>");
}

static status find_known(tokenizer *t, const gguf *g, error *err) {
  int32_t id[GROUPS];
  size_t n_odd = 0;
  const char *odd = "";
  for (int i = 0; i < GROUPS; i++) {
    id[i] = i == EOT ? t->role[TOKEN_EOT] : -1;
    if (groups[i].key) TRY(read_id(t, g, groups[i].key, &id[i], err));
  }
  for (size_t i = 0; i < COUNT_OF(known); i++) {
    int32_t found = token_find_spelling(t, known[i].spelling);
    group part = known[i].group;
    if (found < 0 || is_no_end(t, known[i].spelling) || (!groups[part].all && id[part] >= 0)) continue;
    if (id[part] < 0) id[part] = found;
    if (groups[part].ends) t->flags[found] |= FLAG_END;
    if (t->attr[found] == TOKEN_CONTROL) continue;
    t->attr[found] = TOKEN_CONTROL;
    n_odd++;
    odd = known[i].spelling;
  }
  t->role[TOKEN_EOT] = id[EOT];
  for (int i = EOT; i < GROUPS; i++)
    if (id[i] >= 0 && groups[i].ends) t->flags[id[i]] |= FLAG_END;
  if (t->role[TOKEN_EOS] >= 0) t->flags[t->role[TOKEN_EOS]] |= FLAG_END;
  if (n_odd) return token_warn(t, err, "%zu tokens such as %s are taken as control tokens", n_odd, odd);
  return TANDEM_OK;
}

/* ---- spaces that special tokens swallow; files do not say it ----------------------------------------------------- */

/* Is `part` (lower case) in s, whatever the case of s? */
static bool contains(gguf_string s, const char *part) {
  size_t n = strlen(part);
  for (size_t i = 0; i + n <= s.n; i++) {
    size_t k = 0;
    while (k < n && (s.s[i + k] >= 'A' && s.s[i + k] <= 'Z' ? s.s[i + k] + 32 : s.s[i + k]) == part[k]) k++;
    if (k == n) return true;
  }
  return false;
}

static bool value_contains(const gguf *g, const char *name, const char *part) {
  const gguf_key *key = gguf_find_key(g, name);
  gguf_string s;
  return key && gguf_string_value(key, &s) && contains(s, part);
}

static void find_strips(tokenizer *t, const gguf *g) {
  if (value_contains(g, "general.name", "phi-3") || value_contains(g, "general.name", "phi3")) {
    static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
    for (int32_t id = 0; id < t->n; id++)
      if (t->attr[id] == TOKEN_CONTROL || t->attr[id] == TOKEN_USER || t->attr[id] == TOKEN_UNKNOWN)
        t->flags[id] |= FLAG_STRIP_RIGHT;
    for (size_t i = 0; i < COUNT_OF(plain); i++)
      if (has(t, plain[i])) t->flags[token_find_spelling(t, plain[i])] &= (uint8_t)~FLAG_STRIP_RIGHT;
  }
  int32_t mask = token_find_spelling(t, "<mask>");
  if (mask >= 0 && value_contains(g, "tokenizer.ggml.pre", "jina-v2-")) t->flags[mask] |= FLAG_STRIP_LEFT;
}

status token_roles_read(tokenizer *t, const gguf *g, error *err) {
  TRY(read_roles(t, g, err));
  TRY(read_additions(t, g, err));
  TRY(find_known(t, g, err));
  find_strips(t, g);
  for (int32_t id = 0; id < t->n; id++)
    if (t->flags[id] & FLAG_END) return TANDEM_OK;
  return token_warn(t, err, "no token ends a generation");
}
