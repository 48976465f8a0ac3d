/* Tokenizers: recorded ids, the merging against an obvious version of it, round trips, special tokens, streaming, faults.
 * Recordings of other people's vocabularies lie in the shared folder and are skipped where that is missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "support/tiny.h"
#include "support/vocab.h"

static uint64_t draw(uint64_t *seed) {
  *seed = *seed * 6364136223846793005u + 1442695040888963407u;
  return *seed >> 33;
}

/* ---- merging against its definition ------------------------------------------------------------------------------ */

/* A vocabulary over the letters a b c, and all pairs of its tokens that merge: the better the rank, the earlier. */
typedef struct toy {
  char spelling[64][48];
  int n;
  float score[64];
  int left[64], right[64], result[64], n_merges;
} toy;

static int toy_find(const toy *v, const char *s, size_t n) {
  for (int i = 0; i < v->n; i++)
    if (strlen(v->spelling[i]) == n && memcmp(v->spelling[i], s, n) == 0) return i;
  return -1;
}

/* `deep`: long tokens of one letter. */
static void toy_random(toy *v, bool deep, uint64_t *seed) {
  *v = (toy){.spelling = {"a", "b", "c"}, .n = 3};
  for (int tries = 0; v->n < 40 && tries < 1000; tries++) {
    int l = (int)(draw(seed) % (uint64_t)v->n), r = (int)(draw(seed) % (uint64_t)v->n);
    if (deep && (l == 1 || l == 2 || r == 1 || r == 2)) continue;
    char s[96];
    size_t n = (size_t)snprintf(s, sizeof s, "%s%s", v->spelling[l], v->spelling[r]);
    if (n >= sizeof v->spelling[0]) continue;
    int known = toy_find(v, s, n);
    if (known < 0) {
      known = v->n++;
      memcpy(v->spelling[known], s, n + 1);
      v->score[known] = (float)(draw(seed) % 8) * (draw(seed) % 2 ? 1.0f : -1.0f); /* few scores: many ties; -0 is 0 */
    }
    if (v->n_merges == 64) continue;
    v->left[v->n_merges] = l;
    v->right[v->n_merges] = r;
    v->result[v->n_merges++] = known;
  }
}

/* Rank of a pair, lower is better, and what it makes; -1 if it does not merge. */
static int toy_merge(const toy *v, bool by_score, int l, int r, double *rank) {
  if (by_score) {
    char s[96];
    int id = toy_find(v, s, (size_t)snprintf(s, sizeof s, "%s%s", v->spelling[l], v->spelling[r]));
    if (id >= 0) *rank = -v->score[id];
    return id;
  }
  for (int i = 0; i < v->n_merges; i++)
    if (v->left[i] == l && v->right[i] == r) return *rank = i, v->result[i];
  return -1;
}

static size_t toy_encode(const toy *v, bool by_score, const char *s, size_t n, int *ids) {
  for (size_t i = 0; i < n; i++) ids[i] = s[i] - 'a';
  for (;;) {
    size_t best = n;
    double best_rank = 1e9, rank = 0;
    for (size_t i = 0; i + 1 < n; i++)
      if (toy_merge(v, by_score, ids[i], ids[i + 1], &rank) >= 0 && rank < best_rank) best = i, best_rank = rank;
    if (best == n) return n;
    ids[best] = toy_merge(v, by_score, ids[best], ids[best + 1], &rank);
    memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
    n--;
  }
}

static tokenizer *toy_open(const toy *y, const char *model) {
  vocab v;
  vocab_begin(&v, model, "gpt-2");
  for (int i = 0; i < y->n; i++) vocab_word(&v, y->spelling[i], y->score[i]);
  for (int i = 0; i < y->n_merges; i++) vocab_merge(&v, y->spelling[y->left[i]], y->spelling[y->right[i]]);
  gguf_write_int(v.w, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, 0);
  return open_vocab(&v);
}

static void merging_follows_its_definition(void **state) {
  (void)state;
  static const char *const models[] = {"llama", "gpt2", "gemma4"};
  uint64_t seed = 3;
  for (int k = 0; k < 60; k++) {
    toy y;
    toy_random(&y, k % 2, &seed);
    const char *model = models[k % 3];
    tokenizer *t = toy_open(&y, model);
    for (int round = 0; round < 20; round++) {
      static const size_t sizes[] = {1, 2, 15, 16, 17, 40, 255, 257, 600};
      char s[600];
      int expected[600];
      size_t n = sizes[draw(&seed) % COUNT_OF(sizes)], letters = k % 2 ? 1 : 1 + draw(&seed) % 3;
      for (size_t i = 0; i < n; i++) s[i] = (char)('a' + draw(&seed) % letters);
      size_t n_expected = toy_encode(&y, strcmp(model, "llama") == 0, s, n, expected);
      token_ids ids = encode(t, s, n, 0);
      if (ids.n != n_expected || memcmp(ids.ids, expected, ids.n * sizeof *expected)) fail_msg("%s: %.*s", model, (int)n, s);
      token_ids_free(&ids);
    }
    token_close(t);
  }
}

/* ---- round trips ------------------------------------------------------------------------------------------------- */

static void check_round_trip(const tokenizer *t, const char *s, size_t n) {
  token_ids ids = encode(t, s, n, 0);
  text out = decode(t, ids, false);
  if (out.n != n || (n && memcmp(out.bytes, s, n))) {
    char was[300], is[300];
    fail_msg("\"%s\" came back as \"%s\"", text_escape(was, sizeof was, s, n), text_escape(is, sizeof is, out.bytes, out.n));
  }
  token_ids_free(&ids);
  text_free(&out);
}

/* A vocabulary of bytes, some merges, and nothing decoding would change. */
static tokenizer *open_bytes(const char *model) {
  vocab v;
  bool alphabet = strcmp(model, "gpt2") == 0;
  vocab_begin(&v, model, "qwen2");
  vocab_add(&v, "<unk>", 5, 0, TOKEN_UNKNOWN);
  vocab_add(&v, "<s>", 3, 0, TOKEN_CONTROL);
  vocab_add(&v, "</s>", 4, 0, TOKEN_CONTROL);
  vocab_add_bytes(&v, alphabet);
  static const char *const words[] = {"h",  "e",  "l",    "o",     "\xe2\x96\x81",  "\xc3\xa9",
                                      "he", "ll", "hell", "hello", "\xe2\x96\x81h", "\xe2\x96\x81hello"};
  for (size_t i = alphabet ? 6 : 0; i < COUNT_OF(words); i++) vocab_word(&v, words[i], (float)i);
  vocab_merge(&v, "h", "e");
  vocab_merge(&v, "l", "l");
  vocab_merge(&v, "he", "ll");
  vocab_merge(&v, "hell", "o");
  return open_vocab(&v);
}

static void any_bytes_come_back(void **state) {
  (void)state;
  static const char *const models[] = {"llama", "gpt2", "gemma4", "tales"};
  static const char *const odd[] = {"\xc0\x80",
                                    "\xed\xa0\x80",
                                    "\xf4\x90\x80\x80",
                                    "\x80",
                                    "\xef\xbb\xbf",
                                    "\xef\xbf\xbe",
                                    " ",
                                    "  ",
                                    "   hello ",
                                    "hello hello\n\n\nhello",
                                    "\xf0\x9f\x98\x81\xe2\x80\x8d",
                                    "\xe2\x96",
                                    "a\xe2\x96\x80",
                                    "\r\n\t"};
  uint64_t seed = 11;
  for (size_t k = 0; k < COUNT_OF(models); k++) {
    tokenizer *t = k == 3 ? open_tales() : open_bytes(models[k]);
    for (size_t i = 0; i < COUNT_OF(odd); i++) check_round_trip(t, odd[i], strlen(odd[i]));
    check_round_trip(t, "\0a\0", 3);
    for (int x = 0; x < 65536; x++) check_round_trip(t, (const char[]){(char)x, (char)(x >> 8)}, x < 256 ? 1 : 2);
    static const uint8_t kinds[] = {0,    10,   32,   65,   104,  127,  0x80, 0x81, 0x96, 0xa0,
                                    0xbf, 0xc0, 0xc3, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0xf4, 0xff};
    for (size_t x = 0; x < 20 * 20 * 20; x++) {
      char s[3] = {(char)kinds[x % 20], (char)kinds[x / 20 % 20], (char)kinds[x / 400]};
      if (memcmp(s, "\xe2\x96\x81", 3)) check_round_trip(t, s, 3); /* U+2581 is how these vocabularies write a space */
    }
    for (int i = 0; i < 200; i++) {
      char s[300];
      size_t n = draw(&seed) % sizeof s;
      for (size_t j = 0; j < n; j++) s[j] = (char)draw(&seed);
      check_round_trip(t, s, n);
    }
    token_close(t);
  }
}

static void bytes_without_a_token_become_unknown(void **state) {
  (void)state;
  vocab v;
  vocab_begin(&v, "llama", NULL);
  int32_t unknown = vocab_add(&v, "<unk>", 5, 0, TOKEN_UNKNOWN), a = vocab_word(&v, "a", 0),
          space = vocab_word(&v, "\xe2\x96\x81", 0);
  tokenizer *t = open_vocab(&v);
  assert_true(token_n_warnings(t) > 0);
  check_ids(t, "a\xe4\xb8\xad" "a", 0, IDS(space, a, unknown, a)); /* one for a character, not for a byte */
  token_close(t);
}

/* ---- special tokens ---------------------------------------------------------------------------------------------- */

static tokenizer *open_special(const char *name) {
  vocab v;
  vocab_begin(&v, "llama", NULL);
  vocab_add(&v, "<unk>", 5, 0, TOKEN_UNKNOWN);
  vocab_add(&v, "<s>", 3, 0, TOKEN_CONTROL);
  vocab_add(&v, "</s>", 4, 0, TOKEN_CONTROL);
  vocab_word(&v, "a", 0); /* 3 */
  vocab_word(&v, "b", 0);
  vocab_word(&v, "\xe2\x96\x81", 0); /* 5 */
  vocab_add(&v, "[x]", 3, 0, TOKEN_USER);
  vocab_add(&v, "[x][y]", 6, 0, TOKEN_USER); /* 7 */
  vocab_add(&v, "<|a|>", 5, 0, TOKEN_CONTROL);
  vocab_add(&v, "y][x", 4, 0, TOKEN_USER);   /* 9 */
  vocab_add(&v, "[x]", 3, 0, TOKEN_USER);
  vocab_add_bytes(&v, false); /* 11 .. */
  if (name) gguf_write_string(v.w, "general.name", name, strlen(name));
  gguf_write_int(v.w, "tokenizer.ggml.add_eos_token", GGUF_BOOL, 1);
  return open_vocab(&v);
}

static void special_tokens_are_found_leftmost_then_longest(void **state) {
  (void)state;
  enum { BYTE = 11 };
  tokenizer *t = open_special(NULL);
  check_ids(t, "", 0, IDS(-1));
  check_ids(t, "", TANDEM_ADD_SPECIAL, IDS(1, 2));
  check_ids(t, "a", TANDEM_ADD_SPECIAL, IDS(1, 5, 3, 2));
  check_ids(t, "a[x]b", 0, IDS(5, 3, 6, 5, 4)); /* user-defined tokens always, and the text behind begins anew */
  check_ids(t, "[x][y][x]", 0, IDS(7, 6));      /* not y][x, which begins later */
  check_ids(t, "[x]a<|a|>", TANDEM_PARSE_SPECIAL, IDS(6, 5, 3, 8));
  check_ids(t, "<s>", 0, IDS(5, BYTE + '<', BYTE + 's', BYTE + '>')); /* control tokens only if asked for */
  check_ids(t, "<s>a</s><unk>", TANDEM_PARSE_SPECIAL, IDS(1, 5, 3, 2, 0));
  check_ids(t, "<|a|> a", TANDEM_PARSE_SPECIAL, IDS(8, 5, 5, 3));
  token_close(t);
  t = open_special("My Phi-3 mini");
  check_ids(t, "<|a|> \n a", TANDEM_PARSE_SPECIAL, IDS(8, 5, 3)); /* tokens of this family swallow white space behind */
  check_ids(t, "<s> a", TANDEM_PARSE_SPECIAL, IDS(1, 5, 5, 3));
  token_close(t);
}

/* User-defined tokens over two letters against the definition, in texts longer than what is looked at at once. */
static void special_tokens_follow_their_definition(void **state) {
  (void)state;
  enum { TOKENS = 12, SIZE = 66000 };
  uint64_t seed = 5;
  char *s = malloc(SIZE);
  assert_non_null(s);
  for (int k = 0; k < 8; k++) {
    vocab v;
    char spelling[TOKENS][12];
    vocab_begin(&v, "llama", NULL);
    for (int i = 0; i < TOKENS; i++) {
      size_t n = 1 + draw(&seed) % 9;
      if (k % 2) n += 2; /* single letters match everywhere */
      for (size_t j = 0; j < n; j++) spelling[i][j] = (char)('a' + draw(&seed) % 2);
      spelling[i][n] = 0;
      vocab_add(&v, spelling[i], n, 0, TOKEN_USER);
    }
    vocab_add_bytes(&v, false);
    gguf_write_int(v.w, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, 0);
    tokenizer *t = open_vocab(&v);
    for (size_t i = 0; i < SIZE; i++) s[i] = (char)('a' + draw(&seed) % 8 % (k < 4 ? 2 : 3));
    token_ids ids = encode(t, s, SIZE, 0);
    size_t n = 0;
    for (size_t at = 0; at < SIZE; n++) {
      int best = -1;
      size_t longest = 0;
      for (int i = 0; i < TOKENS; i++) {
        size_t length = strlen(spelling[i]);
        if (length > longest && length <= SIZE - at && memcmp(s + at, spelling[i], length) == 0) best = i, longest = length;
      }
      int32_t expected = best < 0 ? TOKENS + s[at] : best;
      if (n >= ids.n || ids.ids[n] != expected) fail_msg("vocabulary %d: id %zu at %zu is not %d", k, n, at, expected);
      at += best < 0 ? 1 : longest;
    }
    assert_int_equal(n, ids.n);
    token_ids_free(&ids);
    token_close(t);
  }
  free(s);
}

static void no_text_is_merged_to_a_control_token(void **state) {
  (void)state;
  vocab v;
  vocab_begin(&v, "llama", NULL);
  int32_t a = vocab_word(&v, "a", 0), b = vocab_word(&v, "b", 0);
  vocab_add(&v, "ab", 2, 9, TOKEN_CONTROL);
  gguf_write_int(v.w, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, 0);
  tokenizer *t = open_vocab(&v);
  check_ids(t, "ab", 0, IDS(a, b));
  check_ids(t, "ab", TANDEM_PARSE_SPECIAL, IDS(2));
  token_close(t);
  vocab_begin(&v, "gpt2", "gpt-2");
  vocab_add_bytes(&v, true);
  vocab_add(&v, "ab", 2, 0, TOKEN_CONTROL);
  vocab_merge(&v, "a", "b");
  t = open_vocab(&v);
  check_ids(t, "ab", 0, IDS('a', 'b'));
  token_close(t);
}

static void words_that_are_tokens_are_not_merged(void **state) {
  (void)state;
  for (int whole = 0; whole < 2; whole++) {
    vocab v;
    vocab_begin(&v, "gpt2", whole ? "llama-bpe" : "smaug-bpe");
    vocab_add_bytes(&v, true);
    int32_t bc = vocab_word(&v, "bc", 0), abc = vocab_word(&v, "abc", 0);
    vocab_merge(&v, "b", "c");
    tokenizer *t = open_vocab(&v);
    check_ids(t, "abc", 0, whole ? IDS(abc) : IDS('a', bc));
    token_close(t);
  }
}

static void gemma4_takes_runs_of_lines_whole(void **state) {
  (void)state;
  vocab v;
  vocab_begin(&v, "gemma4", NULL);
  int32_t eos = vocab_add(&v, "<eos>", 5, 0, TOKEN_NORMAL), bos = vocab_add(&v, "<bos>", 5, 0, TOKEN_CONTROL);
  int32_t lines = vocab_word(&v, "\n\n\n", 0), one = vocab_word(&v, "\n", 0), a = vocab_word(&v, "a", 0);
  int32_t mark = vocab_word(&v, "\xe2\x96\x81", 0), mark_a = vocab_word(&v, "\xe2\x96\x81" "a", 0);
  vocab_merge(&v, "\xe2\x96\x81", "a");
  vocab_word(&v, "\na", 0);
  vocab_merge(&v, "\n", "a"); /* never used: text is cut there */
  gguf_write_int(v.w, "tokenizer.ggml.bos_token_id", GGUF_U32, bos);
  gguf_write_int(v.w, "tokenizer.ggml.add_bos_token", GGUF_BOOL, 0); /* as the files say, wrongly */
  tokenizer *t = open_vocab(&v);
  assert_string_equal(token_model(t), "gemma4");
  check_ids(t, "a a\n\n\na\n\n  a", TANDEM_ADD_SPECIAL, IDS(bos, a, mark_a, lines, a, one, one, mark, mark_a));
  check_ids(t, "\n\na\n", 0, IDS(one, one, a, one));
  assert_true(token_is_end(t, eos));
  assert_int_equal(token_attribute(t, eos), TOKEN_CONTROL);
  token_close(t);
}

static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* Time to encode n bytes of a repeated text, the less of two. */
static double time_of(const tokenizer *t, const char *unit, size_t n) {
  size_t n_unit = strlen(unit);
  char *s = malloc(n);
  double least = 1e9;
  assert_non_null(s);
  for (size_t i = 0; i < n; i++) s[i] = unit[i % n_unit];
  for (int i = 0; i < 2; i++) {
    double start = seconds();
    token_ids ids = encode(t, s, n, TANDEM_PARSE_SPECIAL);
    double took = seconds() - start;
    token_ids_free(&ids);
    if (took < least) least = took;
  }
  free(s);
  return least;
}

/* Not a benchmark: 16 times the text may take 16 times the time, with room for noise; a square would take 256 times. */
static void check_linear(const tokenizer *t, const char *unit) {
  double small = time_of(t, unit, 1 << 13), large = time_of(t, unit, 1 << 17);
  if (large > 80 * small + 0.05) fail_msg("\"%.8s\": %.4f s for 8 KiB, %.4f s for 128 KiB", unit, small, large);
}

static void time_is_linear(void **state) {
  (void)state;
  static const char *const units[] = {"a",
                                      " ",
                                      "\n",
                                      "1",
                                      "!",
                                      "\xcc\x81",
                                      "\xf0\x9f\x98\x81",
                                      "\xf0\x9f\x91\xa9\xe2\x80\x8d",
                                      "\xd7\xa9",
                                      "\xe1\xa0\x8e",
                                      "\xc2\x85",
                                      "\xff"};
  static const char *const pres[] = {"gpt-2", "llama-bpe", "gpt-4o", "deepseek-llm", "tiny_aya", "superbpe", "chameleon"};
  tokenizer *tales = open_tales(), *pieces = open_bytes("llama"), *ranked = open_bytes("gemma4");
  for (size_t i = 0; i < COUNT_OF(units); i++) {
    check_linear(tales, units[i]);
    check_linear(pieces, units[i]);
    check_linear(ranked, units[i]);
  }
  for (size_t k = 0; k < COUNT_OF(pres); k++) {
    vocab v;
    vocab_begin(&v, "gpt2", pres[k]);
    vocab_add_bytes(&v, true);
    vocab_word(&v, "aa", 0);
    vocab_merge(&v, "a", "a");
    tokenizer *t = open_vocab(&v);
    for (size_t i = 0; i < COUNT_OF(units); i++) check_linear(t, units[i]);
    token_close(t);
  }
  token_close(tales);
  token_close(pieces);
  token_close(ranked);
}

/* Spellings that share long beginnings with the text and never, or always, end in it. */
static void many_special_tokens_stay_linear(void **state) {
  (void)state;
  vocab v;
  char s[2048];
  vocab_begin(&v, "llama", NULL);
  vocab_add_bytes(&v, false);
  for (int i = 0; i < 100000; i++) vocab_add(&v, s, (size_t)snprintf(s, sizeof s, "<|%d|>", i), 0, TOKEN_USER);
  for (int i = 1; i < 400; i++) {
    memset(s, 'a', sizeof s);
    s[i] = 'b';
    vocab_add(&v, s, (size_t)i + 1, 0, TOKEN_USER);
  }
  vocab_add(&v, "a", 1, 0, TOKEN_USER);
  tokenizer *t = open_vocab(&v);
  check_ids(t, "<|77777|><|7|>", 0, IDS(256 + 77777, 256 + 7));
  check_linear(t, "a");
  check_linear(t, "<|1");
  check_linear(t, "<|12345|>");
  token_close(t);
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

static void decoding_undoes_the_leading_space(void **state) {
  (void)state;
  tokenizer *t = open_special(NULL);
  token_ids ids = encode(t, "a b", 3, TANDEM_ADD_SPECIAL);
  text out = decode(t, ids, false), shown = decode(t, ids, true);
  assert_string_equal(out.bytes, "a b");
  assert_string_equal(shown.bytes, "<s> a b</s>");
  text_free(&out);
  text_free(&shown);
  token_ids_free(&ids);
  char byte[2] = "#";
  assert_int_equal(token_bytes(t, 5, false, byte, 0), 1); /* the length, though there is no room */
  assert_int_equal(byte[0], '#');
  assert_int_equal(token_bytes(t, 1, false, byte, 1), 0);
  assert_int_equal(token_bytes(t, 1, true, byte, 1), 3);
  assert_int_equal(byte[0], '<');
  assert_int_equal(token_bytes(t, 11 + 0xe4, false, byte, 1), 1);
  assert_int_equal((uint8_t)byte[0], 0xe4);
  token_close(t);
}

static void decoding_cleans_spaces_where_the_vocabulary_says_so(void **state) {
  (void)state;
  static const char *const was = " . a ? b !c ,d' e ' f 's 'm 're 've 'll 'd 't  ' g '",
                           *const is = ". a? b!c,d' e'f's'm're've 'll 'd 't 'g '";
  for (int clean = 0; clean < 2; clean++) {
    vocab v;
    vocab_begin(&v, "gpt2", clean ? "gpt-2" : "qwen2");
    vocab_add_bytes(&v, true);
    vocab_merge(&v, "a", "a");
    tokenizer *t = open_vocab(&v);
    token_ids ids = encode(t, was, strlen(was), 0);
    text out = decode(t, ids, false);
    assert_string_equal(out.bytes, clean ? is : was);
    text_free(&out);
    token_ids_free(&ids);
    token_close(t);
  }
}

static void stream_bytes(const tokenizer *t, const char *s, size_t n, const char *expected) {
  token_stream stream = {0};
  char out[512];
  size_t used = 0;
  for (size_t i = 0; i < n; i++) {
    size_t added = token_stream_next(t, &stream, (uint8_t)s[i], out + used, token_stream_capacity(t));
    assert_int_equal(utf8_complete(out, used + added), used + added);
    used += added;
  }
  used += token_stream_end(&stream, out + used, 8);
  assert_int_equal(stream.n_held, 0);
  if (used != strlen(expected) || memcmp(out, expected, used))
    fail_msg("\"%s\" expected, \"%.*s\" found", expected, (int)used, out);
}

static void streams_give_whole_characters(void **state) {
  (void)state;
#define BAD "\xef\xbf\xbd"
  vocab v;
  vocab_begin(&v, "gpt2", "qwen2");
  vocab_add_bytes(&v, true);
  int32_t many = vocab_word(&v, "\xc3\xbf\xc3\xbf\xc3\xbf\xc3\xbf", 0); /* 0xff four times */
  vocab_merge(&v, "a", "a");
  tokenizer *t = open_vocab(&v);
  stream_bytes(t, "a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x81z", 11, "a\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x81z");
  stream_bytes(t, "\xe4\xb8", 2, BAD);
  stream_bytes(t, "\xe4\xb8" "a", 3, BAD BAD "a");
  stream_bytes(t, "\xff\x80\xc0\x80\xed\xa0\x80x", 8, BAD BAD BAD BAD BAD BAD BAD "x");
  stream_bytes(t, "\xf0\x9f\xf0\x9f\x98\x81", 6, BAD BAD "\xf0\x9f\x98\x81");
  token_stream s = {0};
  char *out = malloc(token_stream_capacity(t));
  assert_non_null(out);
  assert_int_equal(token_stream_next(t, &s, 0xf0, out, 0), 0);
  assert_int_equal(token_stream_next(t, &s, 0x9f, out, 0), 0);
  assert_int_equal(token_stream_next(t, &s, many, out, token_stream_capacity(t)), 18); /* six bytes, none of use */
  assert_int_equal(token_stream_next(t, &s, many, out, 7), 6);                          /* no room: cut, not overrun */
  free(out);
  token_close(t);
}

static void ids_are_appended(void **state) {
  (void)state;
  tokenizer *t = open_special(NULL);
  token_ids ids = {0};
  error err;
  assert_int_equal(token_encode(t, NULL, 0, 0, &ids, &err), TANDEM_OK);
  for (size_t i = 0; i < 1000; i++) {
    assert_int_equal(token_encode(t, "a", 1, 0, &ids, &err), TANDEM_OK);
    assert_int_equal(ids.n, 2 * i + 2);
  }
  for (size_t i = 0; i < ids.n; i++) assert_int_equal(ids.ids[i], i % 2 ? 3 : 5);
  token_ids_free(&ids);
  token_close(t);
}

/* ---- fuzzing ----------------------------------------------------------------------------------------------------- */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void corpus_of_the_fuzz_target(void **state) {
  (void)state;
  static const char *const names[] = {"empty",   "words",   "code", "spaces", "special",
                                      "unicode", "invalid", "mark", "repeat", "fallback"};
  for (size_t i = 0; i < COUNT_OF(names); i++) {
    char relative[64], path[512];
    text file = {0};
    error err;
    snprintf(relative, sizeof relative, "tests/fuzz/corpus/token/%s", names[i]);
    if (!test_data(path, sizeof path, relative)) fail_msg("%s is missing", relative);
    if (os_read_all(&file, path, 1 << 20, &err)) fail_msg("%s", err.text);
    assert_int_equal(LLVMFuzzerTestOneInput((const uint8_t *)file.bytes, file.n), 0);
    text_free(&file);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(merging_follows_its_definition), cmocka_unit_test(any_bytes_come_back),
      cmocka_unit_test(bytes_without_a_token_become_unknown),
      cmocka_unit_test(special_tokens_are_found_leftmost_then_longest),
      cmocka_unit_test(special_tokens_follow_their_definition),
      cmocka_unit_test(no_text_is_merged_to_a_control_token), cmocka_unit_test(words_that_are_tokens_are_not_merged),
      cmocka_unit_test(gemma4_takes_runs_of_lines_whole), cmocka_unit_test(time_is_linear),
      cmocka_unit_test(many_special_tokens_stay_linear), cmocka_unit_test(decoding_undoes_the_leading_space),
      cmocka_unit_test(decoding_cleans_spaces_where_the_vocabulary_says_so),
      cmocka_unit_test(streams_give_whole_characters), cmocka_unit_test(ids_are_appended),
      cmocka_unit_test(corpus_of_the_fuzz_target)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
