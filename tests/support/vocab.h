/* vocab.h: small vocabularies for tests, written as GGUF files in memory and opened as tokenizers. */
#ifndef VOCAB_H
#define VOCAB_H

#include "token/token.h"

typedef struct vocab {
  gguf_writer *w; /* other keys may be written to it before vocab_open_tokenizer */
  gguf_string *tokens, *merges;
  float *scores;
  int32_t *types;
  size_t n_tokens, n_merges;
  bool no_scores, no_types; /* leave the keys out */
} vocab;

/* An empty vocabulary of a model ("llama", "gpt2", "gemma4"); pre may be NULL. */
void vocab_begin(vocab *v, const char *model, const char *pre);
void vocab_free(vocab *v);
/* Returns the id. */
int32_t vocab_add(vocab *v, const char *spelling, size_t n, float score, int type);
int32_t vocab_word(vocab *v, const char *spelling, float score); /* a normal token, terminated */
void vocab_merge(vocab *v, const char *left, const char *right);
void vocab_merge_line(vocab *v, const char *line, size_t n);
/* 256 byte tokens: <0x00> .. <0xFF>, or the alphabet of gpt2. */
void vocab_add_bytes(vocab *v, bool alphabet);
/* The file is closed again: the tokenizer stands on its own. */
status vocab_open_tokenizer(vocab *v, tokenizer **t, error *err);

#endif
