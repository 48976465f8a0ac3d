/* Encodes and decodes arbitrary bytes with the shipped vocabulary and with a small one of each other kind, all flags.
 * What encoding made must decode to what went in; ids must be of the vocabulary; streaming must give valid UTF-8. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "token/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void demand(bool holds) {
  if (!holds) abort();
}

static tokenizer *open_memory(const void *bytes, size_t n) {
  gguf *g = NULL;
  tokenizer *t = NULL;
  demand(gguf_open_memory(&g, bytes, n, NULL) == TANDEM_OK && token_open(&t, g, NULL) == TANDEM_OK && t);
  gguf_close(g);
  return t;
}

static tokenizer *open_shipped(void) {
  const char *root = getenv("TANDEM_SOURCE");
  char path[4096];
  os_file file;
  demand(snprintf(path, sizeof path, "%s/models/tales.gguf", root ? root : ".") < (int)sizeof path);
  demand(os_map(&file, path, NULL) == TANDEM_OK);
  tokenizer *t = open_memory(file.bytes, file.n);
  os_unmap(&file);
  return t;
}

/* 256 bytes, a control token, a user-defined one, and a few merges of "a". */
static tokenizer *open_small(const char *model) {
  static const char *const words[] = {"<s>", "ab", "a", "aa", "aaa", "aaaa"}, *const merges[] = {"a a", "aa aa", "a aa"};
  bool alphabet = strcmp(model, "gpt2") == 0;
  char bytes[256][8];
  gguf_string tokens[262], lines[3];
  int32_t types[262];
  float scores[262] = {0};
  uint32_t next = 0x100;
  for (int b = 0; b < 256; b++) {
    bool printable = (b > 0x20 && b < 0x7f) || (b > 0xa0 && b != 0xad);
    int n = alphabet ? utf8_encode(printable ? (uint32_t)b : next++, bytes[b])
                     : snprintf(bytes[b], sizeof bytes[b], "<0x%02X>", (unsigned)b);
    tokens[b] = (gguf_string){bytes[b], (size_t)n};
    types[b] = alphabet ? TOKEN_NORMAL : TOKEN_BYTE;
  }
  for (int i = 0; i < 6; i++) {
    tokens[256 + i] = (gguf_string){words[i], strlen(words[i])};
    types[256 + i] = i == 0 ? TOKEN_CONTROL : i == 1 ? TOKEN_USER : TOKEN_NORMAL;
    scores[256 + i] = (float)(i % 3);
  }
  for (int i = 0; i < 3; i++) lines[i] = (gguf_string){merges[i], strlen(merges[i])};
  gguf_writer *w;
  const uint8_t *file;
  size_t n;
  demand(gguf_writer_open(&w, NULL) == TANDEM_OK);
  gguf_write_string(w, "tokenizer.ggml.model", model, strlen(model));
  gguf_write_string(w, "tokenizer.ggml.pre", "qwen2", 5);
  gguf_write_strings(w, "tokenizer.ggml.tokens", tokens, 262);
  gguf_write_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, 262);
  gguf_write_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, 262);
  gguf_write_strings(w, "tokenizer.ggml.merges", lines, 3);
  gguf_write_int(w, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, 0);
  gguf_write_int(w, "tokenizer.ggml.bos_token_id", GGUF_U32, 256);
  gguf_write_int(w, "tokenizer.ggml.add_bos_token", GGUF_BOOL, 1);
  demand(gguf_writer_bytes(w, &file, &n, NULL) == TANDEM_OK);
  tokenizer *t = open_memory(file, n);
  gguf_writer_close(w);
  return t;
}

/* The text with U+2581 read as a space, as vocabularies of pieces do. */
static size_t read_marks(const uint8_t *s, size_t n, bool marks, char *out) {
  size_t length = 0;
  for (size_t i = 0; i < n; i++) {
    bool mark = marks && n - i >= 3 && memcmp(s + i, "\xe2\x96\x81", 3) == 0;
    out[length++] = mark ? ' ' : (char)s[i];
    if (mark) i += 2;
  }
  return length;
}

static void check_stream(const tokenizer *t, const token_ids *ids) {
  token_stream stream = {0};
  size_t capacity = token_stream_capacity(t);
  char *out = malloc(capacity);
  demand(out != NULL);
  for (size_t i = 0; i <= ids->n; i++) {
    size_t n =
        i < ids->n ? token_stream_next(t, &stream, ids->ids[i], out, capacity) : token_stream_end(&stream, out, capacity);
    uint32_t rune;
    for (size_t at = 0; at < n;) {
      int length = utf8_decode(out + at, n - at, &rune);
      demand(length > 0);
      at += (size_t)length;
    }
  }
  free(out);
}

static void check(const tokenizer *t, const uint8_t *bytes, size_t n) {
  char *expected = malloc(n + 1);
  demand(expected != NULL);
  size_t n_expected = read_marks(bytes, n, strcmp(token_model(t), "gpt2") != 0, expected);
  for (unsigned flags = 0; flags < 4; flags++) {
    token_ids ids = {0};
    text out = {0};
    demand(token_encode(t, (const char *)bytes, n, flags, &ids, NULL) == TANDEM_OK);
    for (size_t i = 0; i < ids.n; i++) demand(ids.ids[i] >= 0 && ids.ids[i] < token_count(t));
    size_t first = flags & TANDEM_ADD_SPECIAL ? 1 : 0; /* BOS; none of these adds EOS */
    demand(token_decode(t, ids.ids + first, ids.n - first, true, &out, NULL) == TANDEM_OK);
    demand(out.n == n_expected && (n_expected == 0 || memcmp(out.bytes, expected, n_expected) == 0));
    check_stream(t, &ids);
    text_free(&out);
    token_ids_free(&ids);
  }
  free(expected);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
  static tokenizer *tokenizers[4]; /* for the life of the process */
  if (!tokenizers[0]) {
    tokenizers[0] = open_shipped();
    tokenizers[1] = open_small("llama");
    tokenizers[2] = open_small("gpt2");
    tokenizers[3] = open_small("gemma4");
  }
  for (size_t i = 0; i < COUNT_OF(tokenizers); i++) check(tokenizers[i], bytes, n);
  return 0;
}
