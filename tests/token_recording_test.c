/* Tokenizers against recorded ids and texts. Ours are in tests/data; those of other people's vocabularies lie in the shared
 * folder and are skipped where that is missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support/tiny.h"
#include "support/vocab.h"

/* One line {"name":"text" or [ids],...} as our recordings have them. */
typedef struct line {
  char text[4096], detokenized[4096];
  size_t n_text, n_detokenized, n_plain, n_special;
  int32_t plain[2048], with_special[2048];
} line;

static const char *parse_string(const char *s, char *out, size_t *n) {
  *n = 0;
  for (s++; *s != '"';) {
    if (*s != '\\') {
      out[(*n)++] = *s++;
    } else if (s[1] == 'u') {
      unsigned rune = (unsigned)strtoul((char[5]){s[2], s[3], s[4], s[5], 0}, NULL, 16);
      *n += (size_t)utf8_encode(rune, out + *n);
      s += 6;
    } else {
      out[(*n)++] = s[1];
      s += 2;
    }
  }
  return s + 1;
}

static const char *parse_ids(const char *s, int32_t *ids, size_t *n) {
  char *end;
  for (*n = 0, s++; *s != ']'; s = *end == ',' ? end + 1 : end) ids[(*n)++] = (int32_t)strtol(s, &end, 10);
  return s + 1;
}

static void parse_line(const char *s, line *l) {
  for (s++; *s == '"';) {
    char name[64];
    size_t n;
    s = parse_string(s, name, &n);
    name[n] = 0;
    s++; /* colon */
    if (strcmp(name, "text") == 0) s = parse_string(s, l->text, &l->n_text);
    else if (strcmp(name, "detokenized") == 0) s = parse_string(s, l->detokenized, &l->n_detokenized);
    else if (strcmp(name, "plain") == 0) s = parse_ids(s, l->plain, &l->n_plain);
    else if (strcmp(name, "with_special") == 0) s = parse_ids(s, l->with_special, &l->n_special);
    else fail_msg("unknown member %s", name);
    if (*s == ',') s++;
  }
}

static void check_line(const tokenizer *t, const line *l, const char *name) {
  char shown[300];
  text_escape(shown, sizeof shown, l->text, l->n_text);
  token_ids ids = encode(t, l->text, l->n_text, 0);
  if (ids.n != l->n_plain || memcmp(ids.ids, l->plain, ids.n * sizeof *ids.ids))
    fail_msg("%s: \"%s\": ids differ", name, shown);
  text out = decode(t, ids, false);
  if (out.n != l->n_detokenized || (out.n && memcmp(out.bytes, l->detokenized, out.n)))
    fail_msg("%s: \"%s\": text differs", name, shown);
  token_ids_free(&ids);
  text_free(&out);
  ids = encode(t, l->text, l->n_text, TANDEM_ADD_SPECIAL | TANDEM_PARSE_SPECIAL);
  if (ids.n != l->n_special || memcmp(ids.ids, l->with_special, ids.n * sizeof *ids.ids))
    fail_msg("%s: \"%s\": ids with special tokens differ", name, shown);
  token_ids_free(&ids);
}

static void check_recording(const tokenizer *t, const char *path) {
  text file = {0};
  error err;
  line *l = malloc(sizeof *l);
  assert_non_null(l);
  if (os_read_all(&file, path, 1 << 20, &err)) fail_msg("%s", err.text);
  int n = 0;
  for (char *s = file.bytes, *end; (end = strchr(s, '\n')); s = end + 1, n++) {
    parse_line(s, l);
    check_line(t, l, path);
  }
  assert_int_equal(n, 38);
  free(l);
  text_free(&file);
}

static void recording_of_tales(void **state) {
  (void)state;
  char path[512];
  tokenizer *t = open_tales();
  assert_true(test_data(path, sizeof path, "tests/data/tokenizer/tales.jsonl"));
  check_recording(t, path);
  token_close(t);
}

/* State: "NAME", the vocabulary of that name, or "pre/NAME": gpt-2 with other rules for words. */
static void recording(void **state) {
  const char *name = *state;
  bool is_pre = strncmp(name, "pre/", 4) == 0;
  char relative[128], golden[512], path[512];
  snprintf(relative, sizeof relative, "goldens/tokenizer/%s.jsonl", name);
  bool found = test_shared(golden, sizeof golden, relative);
  snprintf(relative, sizeof relative, "vocab/%s.gguf", is_pre ? "gpt-2" : name);
  if (!found || !test_shared(path, sizeof path, relative)) skip();
  tokenizer *t = open_file(path, is_pre ? name + 4 : NULL);
  check_recording(t, golden);
  token_close(t);
}

#define RECORDING(name) {"recording of " name, recording, NULL, NULL, (void *)(name)}
#define PRE(name) RECORDING("pre/" name)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(recording_of_tales), RECORDING("llama-spm"), RECORDING("phi-3"), RECORDING("gpt-2"),
      RECORDING("deepseek-coder"), RECORDING("falcon"), RECORDING("starcoder"), PRE("afmoe"), PRE("bailingmoe"),
      PRE("bloom"), PRE("chameleon"), PRE("chatglm-bpe"), PRE("codeshell"), PRE("command-r"), PRE("dbrx"),
      PRE("deepseek-coder"), PRE("deepseek-llm"), PRE("deepseek-v3"), PRE("default"), PRE("exaone"), PRE("falcon"),
      PRE("falcon3"), PRE("gigachat"), PRE("glm4"), PRE("gpt-4o"), PRE("granite-docling"), PRE("grok-2"),
      PRE("hunyuan-dense"), PRE("jais"), PRE("jais-2"), PRE("jina-v2-code"), PRE("joyai-llm"), PRE("kimi-k2"),
      PRE("laguna"), PRE("lfm2"), PRE("llama-bpe"), PRE("llama4"), PRE("megrez"), PRE("midm-2.0"), PRE("minerva-7b"),
      PRE("minimax-m2"), PRE("modern-bert"), PRE("mpt"), PRE("olmo"), PRE("pixtral"), PRE("poro-chat"), PRE("qwen2"),
      PRE("qwen35"), PRE("refact"), PRE("seed-coder"), PRE("smaug-bpe"), PRE("smollm"), PRE("solar-open"),
      PRE("stablelm2"), PRE("starcoder"), PRE("superbpe"), PRE("tekken"), PRE("tiny_aya"), PRE("trillion"), PRE("viking"),
      PRE("youtu")};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
