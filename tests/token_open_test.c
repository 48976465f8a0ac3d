/* Opening a vocabulary: the parts tokens play, what files get wrong, limits, failing memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/tiny.h"
#include "support/vocab.h"

/* ---- roles ------------------------------------------------------------------------------------------------------- */

static void roles_come_from_keys(void **state) {
  (void)state;
  vocab v;
  vocab_begin(&v, "llama", NULL);
  for (int i = 0; i < 8; i++) vocab_add(&v, (char[]){(char)('a' + i)}, 1, 0, i < 3 ? TOKEN_CONTROL : TOKEN_NORMAL);
  gguf_write_int(v.w, "tokenizer.ggml.bos_token_id", GGUF_U32, 4);
  gguf_write_int(v.w, "tokenizer.ggml.eos_token_id", GGUF_U32, 8);           /* out of range */
  gguf_write_int(v.w, "tokenizer.ggml.unknown_token_id", GGUF_U32, UINT32_MAX); /* none */
  gguf_write_int(v.w, "tokenizer.ggml.padding_token_id", GGUF_I32, -1);      /* none */
  gguf_write_int(v.w, "tokenizer.ggml.eot_token_id", GGUF_U32, 5);
  gguf_write_int(v.w, "tokenizer.ggml.eom_token_id", GGUF_U32, 6);
  gguf_write_int(v.w, "tokenizer.ggml.add_eos_token", GGUF_BOOL, 1);
  tokenizer *t = open_vocab(&v);
  static const int32_t expected[TOKEN_ROLES] = {
      [TOKEN_BOS] = 4, [TOKEN_EOS] = -1, [TOKEN_EOT] = 5, [TOKEN_UNK] = -1, [TOKEN_PAD] = -1, [TOKEN_SEP] = -1};
  for (int i = 0; i < TOKEN_ROLES; i++) assert_int_equal(token_special(t, (token_role)i), expected[i]);
  for (int32_t id = -2; id < 10; id++) assert_int_equal(token_is_end(t, id), id == 5 || id == 6);
  bool named = false;
  for (size_t i = 0; i < token_n_warnings(t); i++) named |= strstr(token_warning(t, i), "eos_token_id = 8") != NULL;
  assert_true(named);
  for (size_t i = 0; i < token_n_warnings(t); i++) assert_null(strstr(token_warning(t, i), "unknown_token_id")); /* -1 is no fault */
  check_ids(t, "", TANDEM_ADD_SPECIAL, IDS(4)); /* there is no EOS to add */
  token_close(t);
}

static void small_vocabularies_have_no_usual_ids(void **state) {
  (void)state;
  vocab v;
  vocab_begin(&v, "llama", NULL);
  vocab_word(&v, "a", 0);
  tokenizer *t = open_vocab(&v);
  assert_int_equal(token_count(t), 1);
  assert_int_equal(token_special(t, TOKEN_BOS), -1);
  assert_int_equal(token_special(t, TOKEN_EOS), -1);
  token_ids ids = encode(t, "ba", 2, 3);
  token_ids_free(&ids);
  token_close(t);
}

static void ends_are_known_by_spelling(void **state) {
  (void)state;
  static const struct { const char *tokens[4]; bool ends[4]; } sets[] = {
      {{"<|eot_id|>", "<|eom_id|>", "x", "<|im_end|>"}, {true, true, false, true}},
      {{"<|end|>", "<|endoftext|>", "<|start|>", "</s>"}, {true, true, false, true}},
      {{"<|end|>", "<|return|>", "<|call|>", "x"}, {false, true, true, false}},
      {{"</s>", "<|tool_response>", "<turn|>", "<end_of_turn>"}, {false, true, true, true}},
      {{"<|fim_pad|>", "<|fim_prefix|>", "<PAD>", "<|file_sep|>"}, {true, false, false, true}}};
  for (size_t k = 0; k < COUNT_OF(sets); k++) {
    vocab v;
    vocab_begin(&v, "gpt2", "qwen2");
    for (int i = 0; i < 4; i++) vocab_word(&v, sets[k].tokens[i], 0);
    vocab_merge(&v, "x", "x");
    tokenizer *t = open_vocab(&v);
    for (int i = 0; i < 4; i++) {
      if (token_is_end(t, i) != sets[k].ends[i]) fail_msg("%s among %s", sets[k].tokens[i], sets[k].tokens[0]);
      if (sets[k].ends[i]) assert_int_equal(token_attribute(t, i), TOKEN_CONTROL);
    }
    token_close(t);
  }
}

static void asking_beyond_the_vocabulary_is_safe(void **state) {
  (void)state;
  static const int32_t ids[] = {-1, INT32_MIN, INT32_MAX, 4096};
  tokenizer *t = open_tales();
  assert_int_equal(token_count(t), 4096);
  char out[8];
  for (size_t i = 0; i < COUNT_OF(ids); i++) {
    assert_int_equal(token_spelling(t, ids[i]).n, 0);
    assert_int_equal(token_bytes(t, ids[i], true, out, sizeof out), 0);
    assert_false(token_is_end(t, ids[i]));
    assert_int_equal(token_attribute(t, ids[i]), TOKEN_UNUSED);
    token_stream s = {0};
    assert_int_equal(token_stream_next(t, &s, ids[i], out, sizeof out), 0);
  }
  assert_int_equal(token_special(t, TOKEN_ROLES), -1);
  assert_string_equal(token_warning(t, 1000), "");
  token_close(t);
  token_close(NULL);
}

/* ---- what files get wrong ---------------------------------------------------------------------------------------- */

typedef void spoil_fn(vocab *v);
static char long_token[(64 << 10) + 1];

static void no_tokens(vocab *v) { v->no_tokens = v->no_types = v->no_scores = true; }
static void long_one(vocab *v) {
  memset(long_token, 'x', sizeof long_token);
  vocab_add(v, long_token, sizeof long_token, 0, 1);
}
static void few_scores(vocab *v) {
  v->no_scores = true;
  gguf_write_array(v->w, "tokenizer.ggml.scores", GGUF_F32, v->scores, v->n_tokens - 1);
}
static void many_types(vocab *v) {
  v->no_types = true;
  gguf_write_array(v->w, "tokenizer.ggml.token_type", GGUF_I32, (int32_t[300]){1}, 300);
}
static void text_types(vocab *v) { v->no_types = true; gguf_write_string(v->w, "tokenizer.ggml.token_type", "x", 1); }
static void text_scores(vocab *v) {
  v->no_scores = true;
  gguf_write_strings(v->w, "tokenizer.ggml.scores", v->tokens, v->n_tokens);
}
static void text_bos(vocab *v) { gguf_write_string(v->w, "tokenizer.ggml.bos_token_id", "1", 1); }
static void number_add(vocab *v) { gguf_write_int(v->w, "tokenizer.ggml.add_bos_token", GGUF_U32, 7); }
static void number_pre(vocab *v) { gguf_write_int(v->w, "tokenizer.ggml.pre", GGUF_U32, 7); }
static void number_merges(vocab *v) {
  v->no_merges = true;
  gguf_write_array(v->w, "tokenizer.ggml.merges", GGUF_I32, (int32_t[]){1}, 1);
}
static void no_merges(vocab *v) { v->no_merges = true; }

static void spoiled_files_are_refused_by_name(void **state) {
  (void)state;
  static const struct { const char *model; spoil_fn *spoil; const char *says[3]; } bad[] = {
      {"llama", no_tokens, {"tokenizer.ggml.tokens", "0 tokens"}},
      {"llama", long_one, {"tokenizer.ggml.tokens", "65537", "65536"}},
      {"llama", few_scores, {"tokenizer.ggml.scores", "257", "258"}},
      {"llama", many_types, {"tokenizer.ggml.token_type", "300", "258"}},
      {"gpt2", text_types, {"tokenizer.ggml.token_type", "string"}},
      {"llama", text_scores, {"tokenizer.ggml.scores", "string"}},
      {"llama", text_bos, {"tokenizer.ggml.bos_token_id", "string"}},
      {"gpt2", number_add, {"tokenizer.ggml.add_bos_token", "bool"}},
      {"gpt2", number_pre, {"tokenizer.ggml.pre", "string"}},
      {"gpt2", number_merges, {"tokenizer.ggml.merges", "i32"}},
      {"gpt2", no_merges, {"tokenizer.ggml.merges", "missing"}},
      {"t5", no_merges, {"tokenizer.ggml.model", "t5"}}};
  for (size_t i = 0; i < COUNT_OF(bad); i++) {
    vocab v;
    tokenizer *t;
    error err = {0};
    vocab_begin(&v, bad[i].model, bad[i].spoil == number_pre ? NULL : "gpt-2");
    vocab_add_bytes(&v, strcmp(bad[i].model, "gpt2") == 0);
    vocab_word(&v, "aa", 0);
    vocab_word(&v, "bb", 0);
    vocab_merge(&v, "a", "a");
    bad[i].spoil(&v);
    status expected = strcmp(bad[i].model, "t5") ? TANDEM_ERROR_FORMAT : TANDEM_ERROR_UNSUPPORTED;
    if (vocab_open_tokenizer(&v, &t, &err) != expected) fail_msg("case %zu: %s", i, err.text);
    assert_null(t);
    assert_string_equal(err.field, bad[i].says[0]);
    for (int k = 0; k < 3 && bad[i].says[k]; k++)
      if (!strstr(err.text, bad[i].says[k])) fail_msg("\"%s\" does not say %s", err.text, bad[i].says[k]);
    vocab_free(&v);
  }
}

static void odd_files_are_repaired_with_a_warning(void **state) {
  (void)state;
  vocab v;
  memset(long_token, 'x', sizeof long_token);
  vocab_begin(&v, "llama", NULL);
  vocab_add(&v, "<unk>", 5, 0, TOKEN_UNKNOWN);
  int32_t a = vocab_word(&v, "a", 0);
  vocab_word(&v, "a", 5);
  vocab_add(&v, "", 0, 0, TOKEN_NORMAL); /* 3 */
  vocab_add(&v, "<0x-1>", 6, 0, TOKEN_BYTE);
  vocab_add(&v, "<0xZZ>", 6, 0, TOKEN_BYTE);
  vocab_add(&v, "<0x1>", 5, 0, TOKEN_BYTE);
  vocab_add(&v, "<0x41>", 6, 0, TOKEN_BYTE); /* 7 */
  vocab_add(&v, "b", 1, (float)strtod("nan", NULL), 9);
  vocab_add(&v, long_token, sizeof long_token - 1, 0, TOKEN_NORMAL); /* the longest allowed */
  gguf_write_int(v.w, "tokenizer.ggml.add_space_prefix", GGUF_BOOL, 0);
  tokenizer *t = open_vocab(&v);
  static const char *const warnings[] = {"repeat an earlier one", "empty", "<0x00>", "1 .. 6", "scores", "bytes have no token"};
  for (size_t i = 0; i < COUNT_OF(warnings); i++) {
    bool found = false;
    for (size_t k = 0; k < token_n_warnings(t); k++) found |= strstr(token_warning(t, k), warnings[i]) != NULL;
    if (!found) fail_msg("no warning says \"%s\"", warnings[i]);
  }
  for (int32_t id = 3; id < 7; id++) assert_int_equal(token_attribute(t, id), TOKEN_UNUSED);
  check_ids(t, "aA\x01", 0, IDS(a, 7, 0));
  token_close(t);
}

static void merges_that_make_nothing_are_dropped(void **state) {
  (void)state;
  static const char *const lines[] = {"", " ", "a", "a ", " a", "a b c", "x y", "a b", "b a", "a b", "ab a", "q\xff z"};
  vocab v;
  vocab_begin(&v, "gpt2", "qwen2");
  vocab_add_bytes(&v, true);
  int32_t ab = vocab_word(&v, "ab", 0);
  vocab_word(&v, "ba", 0);
  for (size_t i = 0; i < COUNT_OF(lines); i++) vocab_merge_line(&v, lines[i], strlen(lines[i]));
  tokenizer *t = open_vocab(&v);
  assert_int_equal(token_n_warnings(t), 3); /* useless, repeated, and no end of generation */
  assert_non_null(strstr(token_warning(t, 1), "9 of 12"));
  assert_non_null(strstr(token_warning(t, 2), "1 merges"));
  check_ids(t, "aba", 0, IDS(ab, 'a'));
  token_close(t);
}

static void files_without_a_vocabulary_give_none(void **state) {
  (void)state;
  for (int i = 0; i < 2; i++) {
    gguf_writer *w;
    gguf *g;
    tokenizer *t = (tokenizer *)&w;
    error err;
    const uint8_t *bytes;
    size_t n;
    assert_int_equal(gguf_writer_open(&w, &err), TANDEM_OK);
    gguf_write_string(w, i ? "tokenizer.ggml.model" : "general.name", "no_vocab", 8);
    assert_int_equal(gguf_writer_bytes(w, &bytes, &n, &err), TANDEM_OK);
    assert_int_equal(gguf_open_memory(&g, bytes, n, &err), TANDEM_OK);
    assert_int_equal(token_open(&t, g, &err), TANDEM_OK);
    assert_null(t);
    gguf_close(g);
    gguf_writer_close(w);
  }
}

/* ---- failing memory ---------------------------------------------------------------------------------------------- */

static void every_allocation_may_fail(void **state) {
  (void)state;
  static const char *const models[] = {"llama", "gpt2", "gemma4"};
  for (size_t k = 0; k < COUNT_OF(models); k++) {
    vocab v;
    const uint8_t *bytes;
    size_t n;
    gguf *g;
    error err;
    bool alphabet = k == 1;
    vocab_begin(&v, models[k], "llama-bpe");
    vocab_add_bytes(&v, alphabet);
    vocab_add(&v, "<s>", 3, 0, TOKEN_CONTROL);
    vocab_word(&v, "aa", 0);
    vocab_word(&v, "aa", 0);
    gguf_write_strings(v.w, "tokenizer.ggml.tokens", v.tokens, v.n_tokens);
    gguf_write_array(v.w, "tokenizer.ggml.token_type", GGUF_I32, v.types, v.n_tokens);
    gguf_write_array(v.w, "tokenizer.ggml.scores", GGUF_F32, v.scores, v.n_tokens);
    gguf_write_strings(v.w, "tokenizer.ggml.merges", &(gguf_string){"a a", 3}, 1);
    assert_int_equal(gguf_writer_bytes(v.w, &bytes, &n, &err), TANDEM_OK);
    assert_int_equal(gguf_open_memory(&g, bytes, n, &err), TANDEM_OK);
    tokenizer *t = NULL;
    status st = TANDEM_ERROR_MEMORY;
    for (uint64_t i = 1; st; i++) {
      base_fault_arm(FAULT_MEMORY, i, false);
      st = token_open(&t, g, &err);
      base_fault_arm(FAULT_MEMORY, 0, false);
      if (st) assert_int_equal(st, TANDEM_ERROR_MEMORY);
      if (st) assert_null(t);
    }
    static char s[8000];
    memset(s, 'a', sizeof s);
    memcpy(s, "x <s>", 5);
    token_ids ids = {0};
    for (st = TANDEM_ERROR_MEMORY; st;) {
      static uint64_t i;
      base_fault_arm(FAULT_MEMORY, ++i, false);
      st = token_encode(t, s, sizeof s, 3, &ids, &err);
      base_fault_arm(FAULT_MEMORY, 0, false);
      if (st) assert_int_equal(ids.n, 0);
    }
    assert_true(ids.n > 2000);
    token_ids_free(&ids);
    token_close(t);
    gguf_close(g);
    vocab_free(&v);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(roles_come_from_keys), cmocka_unit_test(small_vocabularies_have_no_usual_ids),
      cmocka_unit_test(ends_are_known_by_spelling), cmocka_unit_test(asking_beyond_the_vocabulary_is_safe),
      cmocka_unit_test(spoiled_files_are_refused_by_name), cmocka_unit_test(odd_files_are_repaired_with_a_warning),
      cmocka_unit_test(merges_that_make_nothing_are_dropped), cmocka_unit_test(files_without_a_vocabulary_give_none),
      cmocka_unit_test(every_allocation_may_fail)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
