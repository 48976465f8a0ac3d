/* The pre-tokenisers: words by hand, and against the published regular expressions run by PCRE2 where that is installed
 * (opened at run time; nothing is linked). */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/vocab.h"

static tokenizer *open_pre(const char *pre) {
  vocab v;
  vocab_begin(&v, "gpt2", pre);
  vocab_add_bytes(&v, true);
  vocab_merge(&v, "a", "b");
  return open_vocab(&v);
}

/* ---- by hand ----------------------------------------------------------------------------------------------------- */

static const struct { const char *pre, *text, *words; } cases[] = { /* words are parted by _ */
    {"gpt-2", "Hello world  12 !?\n\n x", "Hello_ world_ _ 12_ !?_\n\n_ x"},
    {"gpt-2", "don't DON'T we'll", "don_'t_ DON_'_T_ we_'ll"},
    {"gpt-2", "a\tb \t ", "a_\t_b_ \t "},
    {"gpt-2", "x=y+1", "x_=_y_+_1"},
    {"llama-bpe", "Hello world1234567 (x)", "Hello_ world_123_456_7_ (_x_)"},
    {"llama-bpe", "DON'T 'Re\n\n  z", "DON_'T_ '_Re_\n\n_ _ z"},
    {"llama-bpe", "a!!\r\n\r\nb", "a_!!\r\n\r\n_b"},
    {"llama-bpe", "\tx", "\tx"},
    {"qwen2", "a123 4", "a_1_2_3_ _4"},
    {"qwen2", "e\xcc\x81t", "e_\xcc\x81t"},
    {"qwen35", "e\xcc\x81t", "e\xcc\x81t"},
    {"seed-coder", "a!!\nb", "a_!!_\n_b"},
    {"gpt-4o", "camelCase HTTPServer it'S x//\n/y", "camel_Case_ HTTPServer_ it'S_ x_//\n/_y"},
    {"gpt-4o", "ABC 12345", "ABC_ _123_45"},
    {"tekken", "it's 123", "it_'s_ _1_2_3"},
    {"deepseek-v3", "a=b .c 12345", "a_=b_ ._c_ _123_45"},
    {"deepseek-coder", "int x;\n 12", "int_ x_;_\n_ _1_2"},
    {"deepseek-llm", "a \xe4\xb8\xad\xe6\x96\x87" "12  ", "a_ _\xe4\xb8\xad\xe6\x96\x87_12_  "},
    {"starcoder", "x 123", "x_ _1_2_3"},
    {"default", "x<=y 12345", "x_<=_y_ _123_45"},
    {"falcon", "x`y 12345", "x_`_y_ _123_45"},
    {"bloom", "a  b,c", "a_ _ b_,_c"},
    {"viking", "a 12,", "a_ _1_2_,"},
    {"tiny_aya", "1234567 12345x", "1_234_567_ _123_45_x"},
    {"superbpe", "ab cd 12345 ef", "ab cd _12_345_ ef"},
    {"afmoe", "1234 ab", "1_234_ ab"},
    {"kimi-k2", "\xe4\xb8\xad" "a1234", "\xe4\xb8\xad_a_123_4"},
    {"youtu", "\xea\xb0\x80" "ab12", "\xea\xb0\x80_ab_1_2"},
    {"chameleon", "a     b!!", "a_    _ b_!_!"},
    {"laguna", "a \n\n b", "a_ _\n\n_ b"}};

static void words_by_hand(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    tokenizer *t = open_pre(cases[i].pre);
    char found[256] = "";
    token_words w;
    size_t at, length, n = 0;
    token_words_open(&w, t, cases[i].text, strlen(cases[i].text));
    while (token_words_next(&w, &at, &length))
      n += (size_t)snprintf(found + n, sizeof found - n, "%s%.*s", n ? "_" : "", (int)length, cases[i].text + at);
    if (strcmp(found, cases[i].words) != 0)
      fail_msg("%s: \"%s\" gives \"%s\", not \"%s\"", cases[i].pre, cases[i].text, found, cases[i].words);
    token_close(t);
  }
}

/* ---- PCRE2 ------------------------------------------------------------------------------------------------------- */

enum { PCRE_UTF = 0x00080000, PCRE_UCP = 0x00020000, MAX_STAGES = 6, MAX_WORDS = 4096 };

typedef struct pcre {
  void *library;
  void *(*compile)(const char *, size_t, uint32_t, int *, size_t *, void *);
  int (*match)(const void *, const char *, size_t, size_t, uint32_t, void *, void *);
  void *(*new_data)(uint32_t, void *);
  size_t *(*ovector)(void *);
  void (*free_code)(void *);
  void (*free_data)(void *);
} pcre;

/* A function out of the library; ISO C has no conversion from an object pointer. */
static void find_function(void *library, const char *name, void *function) {
  void *p = dlsym(library, name);
  memcpy(function, &p, sizeof p);
}

static bool open_pcre(pcre *p) {
  *p = (pcre){.library = dlopen("libpcre2-8.so.0", RTLD_NOW)};
  if (!p->library) return false;
  find_function(p->library, "pcre2_compile_8", &p->compile);
  find_function(p->library, "pcre2_match_8", &p->match);
  find_function(p->library, "pcre2_match_data_create_8", &p->new_data);
  find_function(p->library, "pcre2_get_ovector_pointer_8", &p->ovector);
  find_function(p->library, "pcre2_code_free_8", &p->free_code);
  find_function(p->library, "pcre2_match_data_free_8", &p->free_data);
  return p->compile && p->match && p->new_data && p->ovector && p->free_code && p->free_data;
}

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define SUFFIX "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3(digits) SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES
#define U "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define L "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?"
#define GPT4O(suffix, digits, tail)                                                                                            \
  LEAD U "*" L "+" suffix "|" LEAD U "+" L "*" suffix "|" digits "| ?[^\\s\\p{L}\\p{N}]+" tail "|" SPACES
#define NO_HAN_U "(?:(?!\\p{sc:Han})" U ")"
#define NO_HAN_L "(?:(?!\\p{sc:Han})" L ")"
#define DEEPSEEK3                                                                                                      \
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"                      \
  "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" SPACES
#define STOPS " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"

static const struct { const char *pre, *stages[MAX_STAGES];
} rules[] = {
    {"gpt-2", {GPT2}},
    {"default", {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {"starcoder", {"\\p{N}", GPT2}},
    {"falcon", {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {"llama-bpe", {LLAMA3("\\p{N}{1,3}")}},
    {"qwen2", {LLAMA3("\\p{N}")}},
    {"bailingmoe",
     {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| "
      "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {"qwen35", {SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" SPACES}},
    {"seed-coder", {SUFFIX "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" SPACES}},
    {"laguna", {"[^\\n]+|[\\n]+", LLAMA3("\\p{N}")}},
    {"gpt-4o", {GPT4O(SUFFIX "?", "\\p{N}{1,3}", "[\\r\\n/]*")}},
    {"tekken", {GPT4O("", "\\p{N}", "[\\r\\n/]*")}},
    {"kimi-k2",
     {"\\p{sc:Han}+", LEAD NO_HAN_U "*" NO_HAN_L "+" SUFFIX "?|" LEAD NO_HAN_U "+" NO_HAN_L "*" SUFFIX
                                    "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES}},
    {"tiny_aya", {"\\d{1,3}(?=(?:\\d{3})*(?![\\dA-Za-z_]))", GPT4O(SUFFIX "?", "\\p{N}{1,3}", "[\\r\\n/]*")}},
    {"superbpe", {"\\p{N}+", "\\d{1,3}(?=(?:\\d{3})*(?!\\d))"}},
    {"youtu",
     {"[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}\\x{2019}\\x{2014}\\x{ff1a}"
      "\\x{ff1b}\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+|[\\x{3105}-\\x{312f}]+|[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{"
      "30ff}]+",
      GPT4O(SUFFIX "?", "\\p{N}", "[\\r\\n/]*")}},
    {"deepseek-v3", {"\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{30ff}]+", DEEPSEEK3}},
    {"afmoe",
     {"\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))",
      "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{f900}-\\x{faff}\\x{3040}-\\x{30ff}\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}"
      "\\x{e40}-\\x{eff}\\x{1780}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}\\x{a9e0}-\\x{a9ff}\\x{ac00}-\\x{d7af}"
      "\\x{1100}-\\x{11ff}]+",
      DEEPSEEK3}},
    {"deepseek-coder",
     {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", "\\p{N}"}},
    {"bloom", {STOPS}},
    {"viking", {STOPS, "\\p{N}"}},
    {"chameleon", {"[\\t\\n]|    |  ", "\\p{N}", "[\\p{P}!-/:-@\\[-`{-~]", GPT2}}};

static const char *const alphabet[] = {"a",
                                       "b",
                                       "s",
                                       "t",
                                       "re",
                                       "A",
                                       "B",
                                       "S",
                                       "LL",
                                       "\xc3\xa9",
                                       "\xc3\x89",
                                       "\xc7\x85",
                                       "\xca\xb0",
                                       "\xc2\xaa",
                                       "\xd0\x9f",
                                       "\xd1\x80",
                                       "\xe4\xb8\xad",
                                       "\xe6\x96\x87",
                                       "\xe3\x80\x85",
                                       "\xe3\x80\x87",
                                       "\xe3\x81\xb2",
                                       "\xe3\x82\xab",
                                       "\xea\xb0\x80",
                                       "\xe3\x84\xb1",
                                       "\xe3\x84\x85",
                                       "\xe0\xb8\x81",
                                       "\xd8\xa7",
                                       "\xe0\xa4\x95",
                                       "\xcc\x81",
                                       "\xe0\xa4\x83",
                                       "\xe2\x83\x9d",
                                       "0",
                                       "1",
                                       "7",
                                       "\xd9\xa3",
                                       "\xc2\xbd",
                                       "\xe2\x85\xb7",
                                       " ",
                                       " ",
                                       " ",
                                       "\t",
                                       "\n",
                                       "\r",
                                       "\r\n",
                                       "\v",
                                       "\xc2\x85",
                                       "\xc2\xa0",
                                       "\xe2\x80\x83",
                                       "\xe2\x80\xa8",
                                       "\xe3\x80\x80",
                                       "'",
                                       "'s",
                                       "'t",
                                       "'LL",
                                       "'Re",
                                       "!",
                                       "?",
                                       ".",
                                       ",",
                                       "(",
                                       ")",
                                       "-",
                                       "_",
                                       "/",
                                       "\"",
                                       "\\",
                                       "\xe2\x80\x94",
                                       "\xe2\x80\x9c",
                                       "\xe3\x80\x82",
                                       "\xef\xbc\x8c",
                                       "\xef\xbc\x81",
                                       "$",
                                       "+",
                                       "<",
                                       "=",
                                       "^",
                                       "`",
                                       "|",
                                       "~",
                                       "\xe2\x82\xac",
                                       "\xe2\x88\x91",
                                       "\xf0\x9f\x98\x81",
                                       "\xe2\x80\x8d",
                                       "\xef\xb8\x8f",
                                       "\x01",
                                       "\x7f",
                                       "\xee\x80\x80",
                                       "\xcd\xb8",
                                       "\xe2\x80\x8b",
                                       "\xf0\xa0\x80\x80",
                                       "\xf0\x90\x8d\x88",
                                       "\xef\xac\x81"};

static uint64_t draw(uint64_t *seed) {
  *seed = *seed * 6364136223846793005u + 1442695040888963407u;
  return *seed >> 33;
}

static size_t random_text(char *out, size_t room, uint64_t *seed) {
  size_t n = 0, n_parts = draw(seed) % 24;
  for (size_t i = 0; i < n_parts; i++) {
    const char *part = alphabet[draw(seed) % COUNT_OF(alphabet)];
    size_t length = strlen(part), times = draw(seed) % 3 ? 1 : 1 + draw(seed) % 7;
    for (; times > 0 && n + length < room; times--, n += length) memcpy(out + n, part, length);
  }
  return n;
}

/* Cuts the pieces that end at `ends` once more: at the borders of every match. */
static size_t cut(const pcre *p, const void *code, void *data, const char *s, size_t *ends, size_t n_ends) {
  size_t cuts[MAX_WORDS], n = 0, start = 0;
  for (size_t i = 0; i < n_ends; start = ends[i++]) {
    size_t at = start;
    while (at < ends[i]) {
      int rc = p->match(code, s + start, ends[i] - start, at - start, 0, data, NULL);
      size_t *found = p->ovector(data);
      size_t from = rc > 0 ? start + found[0] : ends[i], to = rc > 0 ? start + found[1] : ends[i];
      if (from > at) cuts[n++] = from;
      if (to > from) cuts[n++] = to;
      at = to;
    }
  }
  memcpy(ends, cuts, n * sizeof *ends);
  return n;
}

static void check_text(const pcre *p, const tokenizer *t, size_t i_rule, void **code, int n_stages, void *data, const char *s,
                       size_t n) {
  size_t ends[MAX_WORDS] = {n}, n_ends = n > 0, i = 0, at, length;
  for (int k = 0; k < n_stages; k++) n_ends = cut(p, code[k], data, s, ends, n_ends);
  token_words w;
  token_words_open(&w, t, s, n);
  while (token_words_next(&w, &at, &length)) {
    if (i < n_ends && at + length == ends[i++]) continue;
    char shown[512];
    fail_msg("%s: \"%s\": a word ends at %zu, expected %zu", rules[i_rule].pre, text_escape(shown, sizeof shown, s, n),
             at + length, i > 0 ? ends[i - 1] : 0);
  }
  assert_int_equal(i, n_ends);
}

static void words_equal_pcre2(void **state) {
  (void)state;
  pcre p;
  uint64_t seed = 20240917;
  if (!open_pcre(&p)) skip();
  void *data = p.new_data(8, NULL);
  for (size_t i = 0; i < COUNT_OF(rules); i++) {
    void *code[MAX_STAGES];
    int n_stages = 0, code_error;
    size_t offset;
    for (; n_stages < MAX_STAGES && rules[i].stages[n_stages]; n_stages++) {
      const char *regex = rules[i].stages[n_stages];
      code[n_stages] = p.compile(regex, strlen(regex), PCRE_UTF | PCRE_UCP, &code_error, &offset, NULL);
      if (!code[n_stages]) fail_msg("%s: %s: offset %zu", rules[i].pre, regex, offset);
    }
    tokenizer *t = open_pre(rules[i].pre);
    for (int k = 0; k < 3000; k++) {
      char s[1024];
      size_t n = random_text(s, sizeof s, &seed);
      check_text(&p, t, i, code, n_stages, data, s, n);
    }
    token_close(t);
    while (n_stages > 0) p.free_code(code[--n_stages]);
  }
  p.free_data(data);
  dlclose(p.library);
}

/* ---- any bytes --------------------------------------------------------------------------------------------------- */

static void words_cover_any_bytes(void **state) {
  (void)state;
  static const char *const pres[] = {"gpt-2", "default", "llama-bpe", "gpt-4o", "deepseek-v3", "deepseek-coder", "deepseek-llm",
                                     "afmoe", "tiny_aya", "superbpe", "youtu", "chameleon", "kimi-k2", "bloom"};
  uint64_t seed = 7;
  for (size_t i = 0; i < COUNT_OF(pres); i++) {
    tokenizer *t = open_pre(pres[i]);
    for (int k = 0; k < 500; k++) {
      char s[64];
      size_t n = draw(&seed) % sizeof s, at, length, end = 0;
      for (size_t j = 0; j < n; j++) s[j] = draw(&seed) % 3 ? (char)draw(&seed) : " \n1a\xe4\xb8"[draw(&seed) % 6];
      token_words w;
      token_words_open(&w, t, s, n);
      for (; token_words_next(&w, &at, &length); end = at + length) {
        assert_int_equal(at, end);
        assert_true(length > 0);
      }
      assert_int_equal(end, n);
    }
    token_close(t);
  }
}

static void unknown_name_is_refused_with_the_nearest(void **state) {
  (void)state;
  vocab v;
  tokenizer *t;
  error err;
  vocab_begin(&v, "gpt2", "lama-bpe");
  vocab_add_bytes(&v, true);
  vocab_merge(&v, "a", "b");
  assert_int_equal(vocab_open_tokenizer(&v, &t, &err), TANDEM_ERROR_UNSUPPORTED);
  assert_null(t);
  assert_non_null(strstr(err.text, "lama-bpe"));
  assert_non_null(strstr(err.text, "llama-bpe"));
  vocab_free(&v);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(words_by_hand), cmocka_unit_test(words_equal_pcre2), cmocka_unit_test(words_cover_any_bytes),
      cmocka_unit_test(unknown_name_is_refused_with_the_nearest)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
