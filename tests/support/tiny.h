/* tiny.h: small random models for tests, written with our own writer and encoders. */
#ifndef TINY_H
#define TINY_H

#include "gguf/gguf.h"

typedef struct tiny_shape {
  const char *arch;     /* "llama", "gemma3": what tiny.c knows */
  quant_type type;      /* of all matrices; vectors and the router are F32 */
  int n_layers, n_embd, n_heads, n_heads_kv, head_dim, n_ff, n_vocab;
  int n_experts, n_used; /* 0 = dense */
  int window;           /* gemma3: sliding window */
  uint64_t seed;
} tiny_shape;

/* A llama of 256 columns, so that every block type fits: 2 layers, 4 heads of 64 over 2 K/V heads, 512 wide, 300 tokens. */
tiny_shape tiny_llama(quant_type type);

/* The model as a file in memory (owned by the writer that *w gets). */
status tiny_build(gguf_writer **w, const tiny_shape *shape, error *err);
/* The model in a temporary file, whose path is written to path (at least 64 bytes). Remove it with tiny_remove. */
status tiny_write(char *path, const tiny_shape *shape, error *err);
void tiny_remove(const char *path);

/* Path of a file under the source tree or the shared folder; false if it does not exist. */
bool test_data(char *out, size_t n, const char *relative);
bool test_shared(char *out, size_t n, const char *relative);

#endif
