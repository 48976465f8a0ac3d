/* vocab: what the files of token/ share. Other folders see token.h alone.
 *
 * A vocabulary spells its tokens in its own way; its *keys* are what text is looked up by: for `gpt2` the spelling itself
 * (bytes written as printable characters), else the spelling with U+2581 replaced by a space, as the text is while it is
 * being merged. `length` counts a key in units of that text: bytes of raw text for `gpt2`, bytes of the key else. */
#ifndef TOKEN_VOCAB_H
#define TOKEN_VOCAB_H

#include <string.h>

#include "token/token.h"

/* ---- unicode.c, unicode_tables.c --------------------------------------------------------------------------------- */

/* General categories; the last two are control characters that are white space. */
typedef enum token_category {
  CATEGORY_CN, CATEGORY_LU, CATEGORY_LL, CATEGORY_LT, CATEGORY_LM, CATEGORY_LO, CATEGORY_MN, CATEGORY_MC, CATEGORY_ME,
  CATEGORY_ND, CATEGORY_NL, CATEGORY_NO, CATEGORY_PC, CATEGORY_PD, CATEGORY_PS, CATEGORY_PE, CATEGORY_PI, CATEGORY_PF,
  CATEGORY_PO, CATEGORY_SM, CATEGORY_SC, CATEGORY_SK, CATEGORY_SO, CATEGORY_ZS, CATEGORY_ZL, CATEGORY_ZP, CATEGORY_CC,
  CATEGORY_CF, CATEGORY_CS, CATEGORY_CO, CATEGORY_CONTROL_SPACE, CATEGORY_LINE_END, CATEGORY_COUNT
} token_category;

extern const size_t token_n_category_runs;
extern const uint32_t token_category_runs[]; /* first code point << 8 | category, ascending */

token_category token_category_of(uint32_t rune);
/* Length of the character at s (n >= 1) and its rune. A byte that begins no valid character is one of its own, U+FFFD. */
size_t token_character(const char *s, size_t n, uint32_t *rune);
/* The printable character that stands for a byte in the spellings of `gpt2`, and back: -1 if it stands for none. */
uint32_t token_rune_of_byte(uint8_t byte);
int token_byte_of_rune(uint32_t rune);

/* ---- pretok.c: words, the pieces of a text that are merged on their own ------------------------------------------ */

typedef struct token_pre token_pre;
typedef struct token_pre_traits {
  bool add_bos;      /* if the file does not say */
  bool clean_spaces; /* decoding takes out spaces in front of punctuation */
  bool whole_words;  /* a word that is a token is not merged */
} token_pre_traits;

const token_pre *token_pre_find(const char *name, size_t n); /* NULL: unknown */
token_pre_traits token_pre_traits_of(const token_pre *pre);
size_t token_pre_names(const char **names, size_t capacity); /* for messages; returns how many it wrote */

/* ---- the vocabulary ---------------------------------------------------------------------------------------------- */

typedef enum token_kind {
  KIND_PIECES, /* `llama`: characters merged by the score of the result, byte fallback */
  KIND_BYTES,  /* `gpt2`: bytes merged by rank inside words */
  KIND_RANKED  /* `gemma4`: characters merged by rank, byte fallback */
} token_kind;

enum {
  TOKEN_MAX = 1 << 22,          /* tokens of a vocabulary */
  TOKEN_MAX_BYTES = 64 << 10,   /* of a spelling */
  TOKEN_MAX_MERGES = 1 << 24,
  TOKEN_MAX_SPECIAL = 16 << 20, /* bytes of all control and user-defined spellings */
  FLAG_END = 1, FLAG_STRIP_LEFT = 2, FLAG_STRIP_RIGHT = 4
};

typedef struct token_merge {
  uint32_t left, right; /* ids */
  uint32_t result;      /* id + 1; 0: the place is empty */
  uint32_t rank;        /* lower is merged first */
} token_merge;

/* special.c: an automaton that finds spellings in a text. */
typedef struct token_automaton token_automaton;

struct tokenizer {
  arena *memory;        /* owns everything below */
  const char *model;
  token_kind kind;
  int32_t n;
  uint64_t seed;        /* of the hashes: a file cannot choose keys that collide */
  char *spellings;
  size_t *spelling_at;  /* [n + 1] */
  char *keys;           /* for gpt2 the spellings */
  size_t *key_at;       /* [n + 1] */
  uint8_t *attr;        /* [n] token_attr */
  uint8_t *flags;       /* [n] FLAG_ */
  uint32_t *length;     /* [n] units of text a token stands for */
  uint32_t *rank;       /* [n] place of its score, the best is 0; llama only */
  uint32_t *places;     /* [place_mask + 1] id + 1 by key */
  size_t place_mask;
  token_merge *merges;  /* [merge_mask + 1]; NULL for llama */
  size_t merge_mask;
  int32_t byte_id[256]; /* token of a byte that nothing else covers, or -1 */
  int32_t unit_id[256]; /* token of a unit of one byte, or -1 */
  uint8_t pairs[8192];  /* bit x << 8 | y: a token has a unit that ends in byte x before one that begins with y */
  size_t longest_key, longest_piece;
  int32_t role[TOKEN_ROLES];
  bool add_bos, add_eos, space_prefix, clean_spaces, whole_words;
  const token_pre *pre;
  token_automaton *special;
  const char **warnings;
  size_t n_warnings;
};

static inline gguf_string token_key(const tokenizer *t, int32_t id) {
  return (gguf_string){t->keys + t->key_at[id], t->key_at[id + 1] - t->key_at[id]};
}

/* ---- find.c: hashes and lookups ---------------------------------------------------------------------------------- */

uint64_t token_hash(uint64_t seed, const char *s, size_t n);
uint64_t token_hash_pair(uint64_t seed, uint32_t a, uint32_t b);
int32_t token_find(const tokenizer *t, const char *key, size_t n); /* id, -1 if there is none */
/* The same for text: control, unknown and byte tokens are not found, so no text is ever merged to one. */
int32_t token_find_text(const tokenizer *t, const char *key, size_t n);
bool token_is_text(const tokenizer *t, int32_t id);
const token_merge *token_find_merge(const tokenizer *t, uint32_t left, uint32_t right); /* NULL if there is none */

/* ---- merge.c, bpe.c, spm.c: a piece of text to ids --------------------------------------------------------------- */

/* Buffers of one encoding. */
typedef struct token_work {
  const tokenizer *t;
  token_ids *ids;
  size_t bound;         /* what ids will hold at most, nearly always */
  char *text;           /* the piece as it is merged */
  size_t text_capacity;
  uint32_t *tree;       /* see merge.c */
  size_t tree_capacity;
  error *err;
} token_work;

/* Room for `n` more ids. */
status token_reserve(token_work *w, size_t n);
/* Room for a piece of n bytes; what was in it is lost. */
status token_work_text(token_work *w, size_t n);
/* Merges the units of s and appends the ids. s must not lie in w->ids. */
status token_merge_units(token_work *w, const char *s, size_t n);
/* The ids of n raw bytes, from bpe.c for gpt2, from spm.c for the others (`prefix`: as if a space stood in front). */
status token_bpe_encode(token_work *w, const char *s, size_t n);
status token_spm_encode(token_work *w, const char *s, size_t n, bool prefix);
/* Length of the unit at s (n >= 1) in raw text; *byte is its byte in merged text if that is another or the only one. */
size_t token_spm_unit(const char *s, size_t n, char *byte);
/* s with every U+2581 replaced by a space; out has room for n bytes. Returns the length. */
size_t token_spm_key(const char *s, size_t n, char *out);

/* ---- special.c --------------------------------------------------------------------------------------------------- */

status token_special_open(tokenizer *t, error *err);
/* Walks the control and user-defined tokens (or the latter alone) that stand in a text: leftmost, then longest. */
typedef struct token_special_walk {
  const token_automaton *special;
  const char *s;
  size_t n;
  bool control;         /* find control and unknown tokens too */
  size_t first, last;   /* part of the text that `found` describes */
  int32_t *found;       /* [last - first] token that begins there, or -1; owned */
} token_special_walk;
status token_special_walk_open(token_special_walk *w, const tokenizer *t, const char *s, size_t n, bool control, error *err);
void token_special_walk_close(token_special_walk *w);
/* The first token at or behind `from`: true, its place and id. False: none, *at = n. */
bool token_special_next(token_special_walk *w, size_t from, size_t *at, int32_t *id);

/* ---- token.c ------------------------------------------------------------------------------------------------------ */

int token_byte_value(gguf_string spelling); /* 0..255 of "<0x41>", -1 if it is nothing of the kind */

/* ---- open.c ------------------------------------------------------------------------------------------------------ */

status token_warn(tokenizer *t, error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
int32_t token_find_spelling(const tokenizer *t, const char *spelling); /* terminated; -1 if there is none */
status token_bpe_read(tokenizer *t, const gguf *g, error *err);  /* merges */
status token_spm_read(tokenizer *t, const gguf *g, error *err);  /* scores */
/* roles.c: special ids, tokens that end a generation, what is known by name alone. */
status token_roles_read(tokenizer *t, const gguf *g, error *err);

#endif
