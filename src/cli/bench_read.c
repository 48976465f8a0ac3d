/* bench_read: results out of files. Four kinds of value are known, one or many in a file:
 *
 *   {"tests": [{"test": .., "n": .., ..}]}               bench --json; an older one has "prefill", "decode" and "verify" instead
 *   [{"avg_ts": ..}, ..] and {"avg_ts": ..}              llama-bench -o json and -o jsonl
 *   {"speed_tg": ..}                                     llama-batched-bench --output-format jsonl: pl sequences behind pp tokens are
 *                                                        held against a pass over pl tokens
 *
 * Nothing in a file is taken on trust; jansson parses, and limits how deep values lie in each other. */
#include "cli/bench.h"

#include <jansson.h>

#include <inttypes.h>
#include <string.h>

enum { MAX_FILE_BYTES = 64 << 20 };

typedef struct reader {
  bench_rows *to;
  const char *path;
  size_t i_value;  /* which value of the file, and which test in it: for messages */
  size_t i_test;
  int64_t threads; /* of the whole value */
  error *err;
} reader;

/* ---- members -------------------------------------------------------------------------------------------------------- */

static status bad_member(const reader *r, const char *key, const char *wanted) {
  return base_fail(r->err, TANDEM_ERROR_FORMAT, key, "%s: value %zu, test %zu: \"%s\" is missing or wrong, %s is needed", r->path, r->i_value + 1,
                   r->i_test + 1, key, wanted);
}

/* A whole number 0 .. 2^31 - 1; what is not there is `otherwise`, or an error if that is negative. */
static status get_int(const reader *r, const json_t *o, const char *key, int64_t otherwise, int64_t *v) {
  const json_t *member = json_object_get(o, key);
  *v = member ? json_is_integer(member) ? (int64_t)json_integer_value(member) : -1 : otherwise;
  return *v < 0 || *v > INT32_MAX ? bad_member(r, key, "a whole number from 0 to 2147483647") : TANDEM_OK;
}

/* A number whose products and quotients are numbers, or 0 for what is not there and not needed. */
static status get_double(const reader *r, const json_t *o, const char *key, bool needed, double *v) {
  const json_t *member = json_object_get(o, key);
  *v = 0;
  if (!needed && (!member || json_is_null(member))) return TANDEM_OK;
  if (json_is_number(member)) *v = json_number_value(member);
  bool good = (*v >= 1e-9 && *v <= 1e15) || (!needed && json_is_number(member) && *v == 0);
  return good ? TANDEM_OK : bad_member(r, key, "a number from 1e-9 to 1e15");
}

/* A text that outlives the file; "" for what is not there. */
static status get_text(const reader *r, const json_t *o, const char *key, const char **s) {
  const json_t *member = json_object_get(o, key);
  *s = "";
  if (!member || json_is_null(member)) return TANDEM_OK;
  if (!json_is_string(member)) return bad_member(r, key, "a string");
  return arena_text(r->to->names, json_string_value(member), json_string_length(member), s, r->err);
}

/* Index of a member's text in a table. */
static status get_name(const reader *r, const json_t *o, const char *key, const char *const *names, int n, int *i) {
  const char *s = json_string_value(json_object_get(o, key));
  for (*i = 0; s && *i < n; ++*i)
    if (!strcmp(s, names[*i])) return TANDEM_OK;
  return bad_member(r, key, "one of those that bench --json writes");
}

/* ---- what bench --json writes --------------------------------------------------------------------------------------- */

static status read_test(const reader *r, const json_t *o) {
  bench_row row = {0};
  int64_t n_params;
  int test, roof;
  TRY(get_name(r, o, "test", bench_test_names, BENCH_TESTS, &test));
  TRY(get_name(r, o, "roof", bench_roof_names, TANDEM_CEILINGS, &roof));
  row.test = (bench_test)test;
  row.roof = (tandem_ceiling)roof;
  TRY(get_text(r, o, "model", &row.model));
  TRY(get_text(r, o, "type", &row.type));
  n_params = json_integer_value(json_object_get(o, "n_params"));
  row.n_params = n_params > 0 ? (uint64_t)n_params : 0;
  TRY(get_int(r, o, "threads", r->threads, &row.threads));
  TRY(get_int(r, o, "n", -1, &row.n));
  TRY(get_int(r, o, "depth", 0, &row.depth));
  for (int i = 0; i < BENCH_NUMBERS; i++) TRY(get_double(r, o, bench_numbers[i].key, i == 0, bench_number_of(&row, i)));
  return bench_rows_add(r->to, &row, r->err);
}

/* A member of an older file: {"tokens" or "n", "tokens_per_second", ..}. */
static status read_old_test(const reader *r, const json_t *o, bench_test test, const char *n) {
  bench_row row = {.model = "", .type = "", .test = test, .threads = r->threads, .roof = test == BENCH_PROMPT ? TANDEM_CEILING_INT8 : TANDEM_CEILING_READ};
  if (!o || json_is_null(o)) return TANDEM_OK;
  TRY(get_int(r, o, n, -1, &row.n));
  for (int i = 0; i < BENCH_NUMBERS; i++) TRY(get_double(r, o, bench_numbers[i].key, i == 0, bench_number_of(&row, i)));
  return bench_rows_add(r->to, &row, r->err);
}

static status read_ours(reader *r, const json_t *root) {
  const json_t *tests = json_object_get(root, "tests"), *verify = json_object_get(root, "verify");
  size_t n = json_array_size(tests);
  TRY(get_int(r, root, "threads", 0, &r->threads));
  TRY(get_text(r, root, "cpu", &r->to->cpu));
  if (tests && !json_is_array(tests)) return bad_member(r, "tests", "an array");
  for (r->i_test = 0; r->i_test < n; r->i_test++) TRY(read_test(r, json_array_get(tests, r->i_test)));
  if (tests) return TANDEM_OK;
  TRY(read_old_test(r, json_object_get(root, "prefill"), BENCH_PROMPT, "tokens"));
  TRY(read_old_test(r, json_object_get(root, "decode"), BENCH_DECODE, "tokens"));
  for (r->i_test = 0; r->i_test < json_array_size(verify); r->i_test++)
    TRY(read_old_test(r, json_array_get(verify, r->i_test), BENCH_VERIFY, "n"));
  return TANDEM_OK;
}

/* ---- what others write ----------------------------------------------------------------------------------------------- */

/* n_prompt, n_gen, n_depth. Both n_prompt and n_gen: the sum was timed, which is no test of ours; but "tgN@ppM" is N tokens
 * generated behind M. */
static status read_llama_bench(const reader *r, const json_t *o) {
  bench_row row = {.type = ""};
  int64_t n_prompt, n_gen, n_params;
  TRY(get_int(r, o, "n_prompt", -1, &n_prompt));
  TRY(get_int(r, o, "n_gen", -1, &n_gen));
  TRY(get_int(r, o, "n_depth", 0, &row.depth));
  TRY(get_int(r, o, "n_threads", 0, &row.threads));
  TRY(get_text(r, o, "model_filename", &row.model));
  TRY(get_double(r, o, "avg_ts", true, &row.tokens_per_second));
  n_params = json_integer_value(json_object_get(o, "model_n_params"));
  row.n_params = n_params > 0 ? (uint64_t)n_params : 0;
  row.test = n_gen ? BENCH_DECODE : BENCH_PROMPT;
  row.n = n_gen ? n_gen : n_prompt;
  if (n_gen && n_prompt) {
    const char *name = json_string_value(json_object_get(o, "test"));
    if (!name || strncmp(name, "tg", 2) != 0 || !strchr(name, '@')) return TANDEM_OK;
    row.depth += n_prompt;
  }
  return bench_rows_add(r->to, &row, r->err);
}

static status read_batched_bench(const reader *r, const json_t *o) {
  bench_row row = {.model = "", .type = ""};
  int64_t n_prompt, n_sequences;
  TRY(get_int(r, o, "pp", -1, &n_prompt));
  TRY(get_int(r, o, "pl", -1, &n_sequences));
  TRY(get_int(r, o, "n_threads", 0, &row.threads));
  row.test = BENCH_VERIFY;
  row.n = n_sequences;
  row.depth = n_prompt;
  TRY(get_double(r, o, "speed_tg", true, &row.tokens_per_second));
  return bench_rows_add(r->to, &row, r->err);
}

/* ---- files ---------------------------------------------------------------------------------------------------------- */

static status read_value(reader *r, const json_t *v) {
  static const struct {
    const char *key;
    status (*read)(const reader *r, const json_t *o);
  } kinds[] = {{"avg_ts", read_llama_bench}, {"speed_tg", read_batched_bench}};
  r->i_test = 0;
  if (json_object_get(v, "tests") || json_object_get(v, "prefill")) return read_ours(r, v);
  bool many = json_is_array(v);
  size_t n = many ? json_array_size(v) : 1;
  for (; r->i_test < n; r->i_test++) {
    const json_t *o = many ? json_array_get(v, r->i_test) : v;
    size_t k = 0;
    while (k < COUNT_OF(kinds) && !json_object_get(o, kinds[k].key)) k++;
    if (k == COUNT_OF(kinds)) return bad_member(r, "tests", "or \"avg_ts\" or \"speed_tg\": no benchmark that is known here");
    TRY(kinds[k].read(r, o));
  }
  return TANDEM_OK;
}

static status read_text(reader *r, const text *t) {
  size_t at = 0;
  for (;; r->i_value++) {
    json_error_t fault;
    at += strspn(t->bytes + at, " \t\r\n");
    if (at >= t->n) return TANDEM_OK;
    json_t *v = json_loadb(t->bytes + at, t->n - at, JSON_DISABLE_EOF_CHECK, &fault);
    at += fault.position > 0 ? (size_t)fault.position : 0;
    if (!v) return base_fail_at(r->err, TANDEM_ERROR_FORMAT, "json", at, "%s: value %zu: %s", r->path, r->i_value + 1, fault.text);
    status st = read_value(r, v);
    json_decref(v);
    if (st) return st;
  }
}

status bench_read(bench_rows *to, const char *path, error *err) {
  text content = {0};
  reader r = {.to = to, .path = path, .err = err};
  size_t before = to->n;
  if (!to->names) TRY(arena_open(&to->names, "names of models", err));
  TRY(os_read_all(&content, path, MAX_FILE_BYTES, err));
  status st = content.n ? read_text(&r, &content) : TANDEM_OK;
  text_free(&content);
  if (!st && to->n == before) st = base_fail(err, TANDEM_ERROR_FORMAT, "tests", "%s: no tests", path);
  return st;
}
