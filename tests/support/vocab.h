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
  bool no_tokens, no_scores, no_types, no_merges; /* write none, or leave the key out */
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


/* The following fail the test where something goes wrong. */
tokenizer *open_vocab(vocab *v);  /* opens and frees the vocabulary */
tokenizer *open_file(const char *path, const char *pre); /* pre replaces tokenizer.ggml.pre if it is not NULL */
tokenizer *open_tales(void);      /* the vocabulary of models/tales.gguf */
token_ids encode(const tokenizer *t, const char *s, size_t n, unsigned flags);
text decode(const tokenizer *t, token_ids ids, bool special);
/* The ids of the terminated s must be those given; IDS closes a list by -1. */
void check_ids(const tokenizer *t, const char *s, unsigned flags, const int32_t *expected);
#define IDS(...) ((const int32_t[]){__VA_ARGS__, -1})

#endif
