/* token: the public functions of the folder: what a token is, text to ids, ids to text, streaming. Owns the buffers of one
 * encoding. Does not know how a vocabulary is read (open.c) nor how a piece of text is merged (bpe.c, spm.c). */
#include "token/token.h"
#include "token/vocab.h"

void token_close(tokenizer *t) {
  if (t) arena_close(t->memory); /* t itself lives there */
}

size_t token_memory(const tokenizer *t) { return t ? arena_bytes(t->memory) : 0; }
const char *token_model(const tokenizer *t) { return t->model; }
int32_t token_count(const tokenizer *t) { return t->n; }

static bool is_id(const tokenizer *t, int32_t id) { return id >= 0 && id < t->n; }

gguf_string token_spelling(const tokenizer *t, int32_t id) {
  if (!is_id(t, id)) return (gguf_string){"", 0};
  return (gguf_string){t->spellings + t->spelling_at[id], t->spelling_at[id + 1] - t->spelling_at[id]};
}

token_attr token_attribute(const tokenizer *t, int32_t id) { return is_id(t, id) ? (token_attr)t->attr[id] : TOKEN_UNUSED; }
int32_t token_special(const tokenizer *t, token_role role) { return role < TOKEN_ROLES ? t->role[role] : -1; }
bool token_is_end(const tokenizer *t, int32_t id) { return is_id(t, id) && t->flags[id] & FLAG_END; }
size_t token_n_warnings(const tokenizer *t) { return t->n_warnings; }
const char *token_warning(const tokenizer *t, size_t i) { return i < t->n_warnings ? t->warnings[i] : ""; }

void token_ids_free(token_ids *ids) {
  base_free(ids->ids);
  *ids = (token_ids){0};
}

/* ---- encode ------------------------------------------------------------------------------------------------------ */

status token_reserve(token_work *w, size_t n) {
  token_ids *ids = w->ids;
  size_t need, old_bytes, new_bytes;
  if (!size_add(ids->n, n, &need)) return base_fail(w->err, TANDEM_ERROR_MEMORY, NULL, "tokenizer: too many tokens");
  if (need <= ids->capacity) return TANDEM_OK;
  /* At most one id a byte of the text: a list is moved once or twice. */
  size_t capacity = need <= w->bound ? w->bound : need + need / 8;
  if (!size_mul(capacity, sizeof(int32_t), &new_bytes) || !size_mul(ids->capacity, sizeof(int32_t), &old_bytes))
    return base_fail(w->err, TANDEM_ERROR_MEMORY, NULL, "tokenizer: %zu tokens", capacity);
  void *p = ids->ids;
  TRY(base_realloc(&p, old_bytes, new_bytes, "tokenizer: ids", w->err));
  ids->ids = p;
  ids->capacity = capacity;
  return TANDEM_OK;
}

status token_work_text(token_work *w, size_t n) {
  if (n <= w->text_capacity) return TANDEM_OK;
  base_free(w->text);
  w->text = NULL;
  w->text_capacity = 0;
  void *p;
  TRY(base_alloc(&p, n, "tokenizer: a piece of text", w->err));
  w->text = p;
  w->text_capacity = n;
  return TANDEM_OK;
}

static status add_id(token_work *w, int32_t id) {
  TRY(token_reserve(w, 1));
  w->ids->ids[w->ids->n++] = id;
  return TANDEM_OK;
}

static bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* Text between special tokens. `prefix`: it is the first or follows one. */
static status encode_text(token_work *w, const char *s, size_t n, bool prefix) {
  if (n == 0) return TANDEM_OK;
  if (w->t->kind == KIND_BYTES) return token_bpe_encode(w, s, n);
  return token_spm_encode(w, s, n, prefix && w->t->space_prefix);
}

static status encode_all(token_work *w, token_special_walk *walk, const char *s, size_t n) {
  size_t from = 0, at;
  bool prefix = true;
  int32_t id;
  while (token_special_next(walk, from, &at, &id)) {
    size_t end = at;
    if (w->t->flags[id] & FLAG_STRIP_LEFT)
      while (end > from && is_blank(s[end - 1])) end--;
    TRY(encode_text(w, s + from, end - from, prefix));
    TRY(add_id(w, id));
    prefix = true;
    from = at + token_spelling(w->t, id).n;
    if (w->t->flags[id] & FLAG_STRIP_RIGHT)
      while (from < n && is_blank(s[from])) from++;
  }
  return encode_text(w, s + from, n - from, prefix);
}

status token_encode(const tokenizer *t, const char *s, size_t n, unsigned flags, token_ids *ids, error *err) {
  enum { SMALL = 4096 };
  token_work w = {.t = t, .ids = ids, .err = err};
  token_special_walk walk = {0};
  size_t n_before = ids->n;
  status st = TANDEM_OK;
  if (n == 0) s = ""; /* may be NULL */
  /* English text has a token in four bytes; what has more pays for a move. */
  w.bound = n_before + n / 3 + 64;
  TRY_DONE(token_reserve(&w, n / 3 + 64));
  w.bound = n_before + n + 3;
  TRY_DONE(token_work_text(&w, n < SMALL ? n + 1 : SMALL));
  TRY_DONE(token_special_walk_open(&walk, t, s, n, flags & TANDEM_PARSE_SPECIAL, err));
  if (flags & TANDEM_ADD_SPECIAL && t->add_bos) TRY_DONE(add_id(&w, t->role[TOKEN_BOS]));
  TRY_DONE(encode_all(&w, &walk, s, n));
  if (flags & TANDEM_ADD_SPECIAL && t->add_eos) TRY_DONE(add_id(&w, t->role[TOKEN_EOS]));
done:
  token_special_walk_close(&walk);
  base_free(w.text);
  base_free(w.tree);
  if (st) {
    ids->n = n_before;
    return st;
  }
  if (ids->capacity > SMALL && ids->capacity / 2 > ids->n) { /* gives back what merging needed; a failure costs nothing */
    void *p = ids->ids;
    if (base_realloc(&p, ids->capacity * sizeof(int32_t), ids->n * sizeof(int32_t), "tokenizer: ids", NULL)) return TANDEM_OK;
    ids->ids = p;
    ids->capacity = ids->n;
  }
  return TANDEM_OK;
}

/* ---- decode ------------------------------------------------------------------------------------------------------ */

/* Bytes of a token, one by one: as spelled, with marks read as spaces, or from the alphabet of bytes. */
typedef struct reader {
  const char *s;
  size_t n, at;
  bool alphabet; /* s is written in the alphabet of `gpt2` */
  char held[4];  /* of a character that stands for no byte */
  int n_held, i_held;
} reader;

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int token_byte_value(gguf_string s) {
  if (s.n != 6 || memcmp(s.s, "<0x", 3) != 0 || s.s[5] != '>') return -1;
  int high = hex_digit(s.s[3]), low = hex_digit(s.s[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static reader read_token(const tokenizer *t, int32_t id, bool special) {
  reader r = {0};
  if (!is_id(t, id)) return r;
  gguf_string s = token_spelling(t, id);
  int byte;
  switch (t->attr[id]) {
  case TOKEN_CONTROL:
  case TOKEN_UNKNOWN:
    if (!special) return r;
    break;
  case TOKEN_USER: break;
  case TOKEN_NORMAL:
    if (t->kind == KIND_BYTES) r.alphabet = true;
    else s = token_key(t, id);
    break;
  case TOKEN_BYTE:
    byte = token_byte_value(s);
    if (byte < 0) return r;
    r.held[0] = (char)byte;
    r.n_held = 1;
    return r;
  default: return r; /* unused tokens have no text */
  }
  r.s = s.s;
  r.n = s.n;
  return r;
}

/* False at the end. */
static bool next_byte(reader *r, char *byte) {
  if (r->i_held < r->n_held) {
    *byte = r->held[r->i_held++];
    return true;
  }
  if (r->at == r->n) return false;
  if (!r->alphabet) {
    *byte = r->s[r->at++];
    return true;
  }
  uint32_t rune;
  size_t length = token_character(r->s + r->at, r->n - r->at, &rune);
  int value = length == 1 && (uint8_t)r->s[r->at] >= 0x80 ? -1 : token_byte_of_rune(rune);
  if (value < 0) {
    memcpy(r->held, r->s + r->at, length);
    r->n_held = (int)length;
    r->i_held = 1;
  }
  *byte = value < 0 ? r->s[r->at] : (char)value;
  r->at += length;
  return true;
}

size_t token_bytes(const tokenizer *t, int32_t id, bool special, char *out, size_t capacity) {
  reader r = read_token(t, id, special);
  char byte;
  size_t n = 0;
  for (; next_byte(&r, &byte); n++)
    if (n < capacity) out[n] = byte;
  return n;
}

/* Removes from the n bytes at s, and returns what is left of n: spaces in front of ? ! . , and around a lone apostrophe,
 * and in front of 's 'm 're 've. Some vocabularies ask for it, and only the whole text shows where. */
static size_t clean_punctuation(char *s, size_t n) {
  size_t out = 0;
  for (size_t i = 0; i < n; i++)
    if (s[i] != ' ' || i + 1 == n || !memchr("?!.,", s[i + 1], 4)) s[out++] = s[i];
  return out;
}

static size_t clean_lone_apostrophes(char *s, size_t n) {
  size_t out = 0;
  for (size_t i = 0; i < n; i++) {
    bool lone = i + 2 < n && s[i] == ' ' && s[i + 1] == '\'' && s[i + 2] == ' ';
    if (lone) i++;
    s[out++] = s[i];
    if (lone) i++;
  }
  return out;
}

static bool is_suffix(const char *s, size_t n) {
  if (n < 2 || s[0] != '\'') return false;
  if (s[1] == 's' || s[1] == 'm') return true;
  return n >= 3 && (s[1] == 'r' || s[1] == 'v') && s[2] == 'e';
}

static size_t clean_suffixes(char *s, size_t n) {
  size_t out = 0;
  for (size_t i = 0; i < n; i++)
    if (s[i] != ' ' || !is_suffix(s + i + 1, n - i - 1)) s[out++] = s[i];
  return out;
}

status token_decode(const tokenizer *t, const int32_t *ids, size_t n, bool special, text *out, error *err) {
  size_t n_before = out->n;
  status st = TANDEM_OK;
  bool first = t->space_prefix; /* nothing was written yet: a space is not part of the text */
  for (size_t i = 0; i < n; i++) {
    char buffer[256];
    size_t used = 0;
    reader r = read_token(t, ids[i], special);
    for (char byte; next_byte(&r, &byte);) {
      if (first && byte == ' ') {
        first = false;
        continue;
      }
      first = false;
      buffer[used++] = byte;
      if (used < sizeof buffer) continue;
      TRY_DONE(text_add(out, buffer, used, err));
      used = 0;
    }
    if (used > 0) TRY_DONE(text_add(out, buffer, used, err));
  }
  if (!t->clean_spaces || out->n == n_before) goto done;
  char *s = out->bytes + n_before;
  out->n = n_before + clean_suffixes(s, clean_lone_apostrophes(s, clean_punctuation(s, out->n - n_before)));
  out->bytes[out->n] = 0;
done:
  if (st && out->n > n_before) out->bytes[out->n = n_before] = 0;
  return st;
}

/* ---- streaming --------------------------------------------------------------------------------------------------- */

typedef struct sink {
  char *out;
  size_t n, capacity;
} sink;

static void write_bytes(sink *k, const char *s, size_t n) {
  if (k->capacity - k->n < n) return; /* the caller broke the rule of the capacity: cut, never overrun */
  memcpy(k->out + k->n, s, n);
  k->n += n;
}

static void write_replacement(sink *k) { write_bytes(k, "\xef\xbf\xbd", 3); }

/* Writes what is whole or can never be; keeps the rest. */
static void settle(token_stream *s, sink *k) {
  while (s->n_held > 0 && utf8_complete(s->held, s->n_held) > 0) {
    uint32_t rune;
    int length = utf8_decode(s->held, s->n_held, &rune);
    if (length > 0) write_bytes(k, s->held, (size_t)length);
    else {
      write_replacement(k);
      length = 1;
    }
    s->n_held -= (size_t)length;
    memmove(s->held, s->held + length, s->n_held);
  }
}

size_t token_stream_next(const tokenizer *t, token_stream *s, int32_t id, char *out, size_t capacity) {
  sink k = {out, 0, capacity};
  reader r = read_token(t, id, false);
  for (char byte; next_byte(&r, &byte); settle(s, &k)) s->held[s->n_held++] = byte;
  return k.n;
}

size_t token_stream_end(token_stream *s, char *out, size_t capacity) {
  sink k = {out, 0, capacity};
  settle(s, &k);
  if (s->n_held > 0) write_replacement(&k);
  s->n_held = 0;
  return k.n;
}

/* Every byte may become U+FFFD. */
size_t token_stream_capacity(const tokenizer *t) { return 3 * (t->longest_piece + sizeof((token_stream){0}.held)); }
