/* token: text <-> ids. Owns the vocabulary read from a GGUF's tokenizer.* keys; constant after open, any thread may use it.
 *
 * Kinds: SentencePiece-type BPE (`llama`), the same with ranked merges (`gemma4`), and byte-level BPE (`gpt2`) with the
 * pre-tokenisers of the table in pretok.c.
 * Every input is accepted, time and memory are linear in it. Does not know what a model is. */
#ifndef TOKEN_H
#define TOKEN_H

#include "gguf/gguf.h"

typedef struct tokenizer tokenizer;

/* Reads and checks the vocabulary. A file without one (no tokenizer.ggml.model, or "no_vocab") gives *t = NULL and ok. */
status token_open(tokenizer **t, const gguf *g, error *err);
void token_close(tokenizer *t); /* NULL is allowed */

typedef enum token_attr { TOKEN_NORMAL = 1, TOKEN_UNKNOWN = 2, TOKEN_CONTROL = 3, TOKEN_USER = 4, TOKEN_UNUSED = 5, TOKEN_BYTE = 6 } token_attr;

size_t token_memory(const tokenizer *t); /* bytes it holds; 0 for NULL */
const char *token_model(const tokenizer *t);    /* "llama", "gpt2", "gemma4" */
int32_t token_count(const tokenizer *t);
/* The vocabulary's own spelling of a token, not terminated; ids out of range give n = 0. */
gguf_string token_spelling(const tokenizer *t, int32_t id);
token_attr token_attribute(const tokenizer *t, int32_t id);

/* Special ids, -1 if the vocabulary has none. */
typedef enum token_role { TOKEN_BOS, TOKEN_EOS, TOKEN_EOT, TOKEN_UNK, TOKEN_PAD, TOKEN_SEP, TOKEN_ROLES } token_role;
int32_t token_special(const tokenizer *t, token_role role);
bool token_is_end(const tokenizer *t, int32_t id); /* any token that ends a generation */
size_t token_n_warnings(const tokenizer *t);       /* oddities of the vocabulary that were repaired */
const char *token_warning(const tokenizer *t, size_t i);

/* Ids of n bytes. `flags`: TANDEM_ADD_SPECIAL, TANDEM_PARSE_SPECIAL. The ids are appended to *ids, which grows as needed. */
typedef struct token_ids {
  int32_t *ids; /* owned */
  size_t n, capacity;
} token_ids;
status token_encode(const tokenizer *t, const char *s, size_t n, unsigned flags, token_ids *ids, error *err);
void token_ids_free(token_ids *ids);

/* The words of a text that are merged on their own: what the pre-tokeniser of a `gpt2` vocabulary makes of it, else all of
 * it. Words are not empty and cover the text. Plain data, set up by token_words_open; the text must outlive it. */
enum { TOKEN_STAGES = 8 };
typedef struct token_words {
  const struct token_pre *pre;
  const char *s;
  size_t n, at;
  size_t end[TOKEN_STAGES]; /* of the piece of each stage that `at` lies in */
  struct { size_t first, last, cut; bool known; } memory[TOKEN_STAGES]; /* of stages that look far ahead */
} token_words;
void token_words_open(token_words *w, const tokenizer *t, const char *s, size_t n);
/* The next word is the *length bytes at s + *at; false at the end. */
bool token_words_next(token_words *w, size_t *at, size_t *length);

/* Bytes of a token as they appear in text (perhaps part of a character). Control tokens give none unless `special`.
 * Returns the length; writes at most `capacity` bytes. */
size_t token_bytes(const tokenizer *t, int32_t id, bool special, char *out, size_t capacity);
/* Text of a sequence, appended to out: token_bytes one after another, and what the vocabulary says about a leading
 * space is undone (as `detokenized` of the recordings). */
status token_decode(const tokenizer *t, const int32_t *ids, size_t n, bool special, text *out, error *err);

/* Streaming: holds back the bytes of an incomplete character. Plain data, start from zero. */
typedef struct token_stream {
  char held[8];
  size_t n_held;
} token_stream;
/* Appends the bytes of id; the part that is whole characters is written to out (at most `capacity` bytes, which
 * must hold n_held plus the token) and its length returned. Invalid bytes become U+FFFD. */
size_t token_stream_next(const tokenizer *t, token_stream *s, int32_t id, char *out, size_t capacity);
/* What is left at the end, as U+FFFD if it is not a whole character. */
size_t token_stream_end(token_stream *s, char *out, size_t capacity);
/* Capacity that always suffices for token_stream_next. */
size_t token_stream_capacity(const tokenizer *t);

#endif
