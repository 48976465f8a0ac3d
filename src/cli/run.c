/* tandem run: a prompt in, its continuation out. */
#include "cli/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PROMPT_BYTES = 1 << 30 };

/* One generation; owns what it points to but the options. */
typedef struct generation {
  const cli_options *o;
  tandem_engine *engine;
  tandem_session *session;
  tandem_engine_info info;
  text prompt;
  int32_t *ids; /* of the prompt */
  size_t n_ids;
  int64_t n_resumed; /* tokens of --session before it */
  text answer; /* kept for --json */
  text drawn;  /* int32_t ids of the answer, as bytes */
  int64_t n_generated;
  tandem_stop stop;
  double prompt_seconds, answer_seconds;
  uint64_t seed;
  bool show_draft;
  bool terminal; /* stdout is one */
  bool stream;   /* somebody may read along: every piece is sent at once */
  status st;     /* of the text callback */
  error *err;
} generation;

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Byte that an escape at s (behind the backslash) stands for and its length, or 0: leave both characters as they are. */
static size_t unescape(const char *s, char *byte) {
  static const char letters[] = "nrt'\"\\", bytes[] = "\n\r\t'\"\\";
  const char *letter = *s ? strchr(letters, *s) : NULL;
  if (letter) {
    *byte = bytes[letter - letters];
    return 1;
  }
  if (*s != 'x' || hex_digit(s[1]) < 0 || hex_digit(s[2]) < 0) return 0;
  *byte = (char)(hex_digit(s[1]) * 16 + hex_digit(s[2]));
  return 3;
}

status cli_read_text(text *out, const cli_options *o, bool trim, error *err) {
  const char *path = o->file ? o->file : "-";
  if (o->prompt && o->file)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "prompt", "-p and -f: both give the text, one is allowed");
  if (!o->prompt) {
    if (!o->file && os_is_terminal(STDIN_FILENO))
      return base_fail(err, TANDEM_ERROR_ARGUMENT, "prompt", "no text; give it with -p TEXT or -f FILE, or pipe it in");
    TRY(os_read_all(out, path, MAX_PROMPT_BYTES, err));
    if (trim && out->n && out->bytes[out->n - 1] == '\n') out->bytes[--out->n] = 0;
    return TANDEM_OK;
  }
  for (const char *s = o->prompt; *s;) {
    char c = *s++;
    if (c == '\\' && o->escape) s += unescape(s, &c);
    TRY(text_add(out, &c, 1, err));
  }
  return TANDEM_OK;
}

status cli_tokens_of(const tandem_engine *engine, const text *t, unsigned flags, int32_t **ids, size_t *n_ids, error *err) {
  const char *bytes = t->bytes ? t->bytes : "";
  TRY(tandem_tokenize(engine, bytes, t->n, flags, NULL, 0, n_ids, err));
  TRY(base_alloc_array((void **)ids, *n_ids, sizeof **ids, "token ids", err));
  return tandem_tokenize(engine, bytes, t->n, flags, *ids, *n_ids, n_ids, err);
}

/* The sampling options, with the bans of --ignore-eos behind those of --logit-bias. */
static status set_sampling(generation *g, tandem_logit_bias **bias, tandem_sampling *s, error *err) {
  const cli_options *o = g->o;
  *s = o->sampling;
  size_t n = o->n_bias;
  s->seed = g->seed = o->seed_given ? o->seed : os_random();
  for (int32_t id = 0; o->ignore_eos && id < g->info.n_vocab; id++) n += tandem_token_is_end(g->engine, id);
  TRY(base_alloc_array((void **)bias, n, sizeof **bias, "logit biases", err));
  if (o->n_bias) memcpy(*bias, o->bias, o->n_bias * sizeof **bias);
  n = o->n_bias;
  for (int32_t id = 0; o->ignore_eos && id < g->info.n_vocab; id++)
    if (tandem_token_is_end(g->engine, id)) (*bias)[n++] = (tandem_logit_bias){.id = id, .bias = -INFINITY};
  s->bias = *bias;
  s->n_bias = n;
  if (o->breakers_given) {
    s->dry_breakers = o->breakers;
    s->n_dry_breakers = o->n_breakers;
  }
  return TANDEM_OK;
}

static bool on_pass(void *user, int64_t done, int64_t total) {
  (void)user, (void)done, (void)total;
  return !cli_interrupted();
}

static bool on_text(void *user, int32_t id, const char *s, size_t n) {
  generation *g = user;
  if (id >= 0) g->st = text_add(&g->drawn, (const char *)&id, sizeof id, g->err);
  if (!g->st && g->o->json && n) g->st = text_add(&g->answer, s, n, g->err);
  bool guessed = g->show_draft && n && id >= 0 && tandem_session_was_drafted(g->session);
  if (!g->st && guessed && !g->o->json) g->st = cli_write("\033[32m", 5, g->err);
  if (!g->st && !g->o->json) g->st = cli_write(s, n, g->err);
  if (!g->st && guessed && !g->o->json) g->st = cli_write("\033[0m", 4, g->err);
  if (g->stream && fflush(stdout)) return false;
  return !g->st && !cli_interrupted();
}

/* 64-bit FNV-1a over the bytes of the logits; the same number from two runs means the same bits. */
static bool hash_logits(const generation *g, char out[17]) {
  const float *logits = tandem_session_logits(g->session);
  uint64_t h = 0xcbf29ce484222325u;
  if (!logits) return false;
  const unsigned char *bytes = (const unsigned char *)logits;
  for (size_t i = 0; i < (size_t)g->info.n_vocab * sizeof *logits; i++) h = (h ^ bytes[i]) * 0x100000001b3u;
  snprintf(out, 17, "%016" PRIx64, h);
  return true;
}

static status write_json(generation *g) {
  static const char *const stops[] = {"length", "end", "context", "user"};
  json j;
  char hash[17];
  json_open(&j, false, g->err);
  json_put_object(&j, NULL);
  json_put_string(&j, "text", g->answer.bytes ? g->answer.bytes : "", g->answer.n);
  json_put_array(&j, "tokens");
  for (size_t i = 0; i < g->drawn.n; i += sizeof(int32_t)) {
    int32_t id;
    memcpy(&id, g->drawn.bytes + i, sizeof id);
    json_put_int(&j, NULL, id);
  }
  json_put_end_array(&j);
  json_put_uint(&j, "n_prompt", g->n_ids);
  json_put_int(&j, "n_resumed", g->n_resumed);
  json_put_int(&j, "n_generated", g->n_generated);
  json_put_double(&j, "seconds", g->prompt_seconds + g->answer_seconds);
  if (hash_logits(g, hash))
    json_put_string(&j, "logits_hash", hash, strlen(hash));
  else
    json_put_null(&j, "logits_hash");
  json_put_string(&j, "stop", stops[g->stop], strlen(stops[g->stop]));
  json_put_uint(&j, "seed", g->seed);
  cli_draft_json(&j, g->session);
  json_put_end_object(&j);
  return cli_json_out(&j);
}

/* The line on stderr that says how it went. */
static void write_footer(const generation *g) {
  char planned[32], peak[32], hash[17];
  uint64_t bytes = g->info.weight_bytes + g->info.kv_bytes + g->info.scratch_bytes + g->info.draft_weight_bytes + g->info.draft_kv_bytes +
                   g->info.draft_scratch_bytes;
  cli_size_text(planned, bytes);
  cli_size_text(peak, os_memory_peak());
  fprintf(stderr,
          "prompt %zu tok %.1f t/s · gen %" PRId64 " tok %.1f t/s · %.2f s · memory %s planned, %s peak · seed %" PRIu64,
          g->n_ids, g->prompt_seconds > 0 ? (double)g->n_ids / g->prompt_seconds : 0.0, g->n_generated,
          g->answer_seconds > 0 ? (double)g->n_generated / g->answer_seconds : 0.0, g->prompt_seconds + g->answer_seconds,
          planned, peak, g->seed);
  cli_draft_footer(g->session);
  if (hash_logits(g, hash)) fprintf(stderr, " · logits %s", hash);
  fputc('\n', stderr);
}

static status show_prompt(const generation *g) {
  bool color = cli_color(g->o, STDOUT_FILENO);
  if (color) TRY(cli_write("\033[33m", 5, g->err));
  TRY(cli_write(g->prompt.bytes ? g->prompt.bytes : "", g->prompt.n, g->err));
  return color ? cli_write("\033[0m", 4, g->err) : TANDEM_OK;
}

static status generate(generation *g) {
  error *err = g->err;
  double start = os_seconds();
  if (g->o->display_prompt && !g->o->json) TRY(show_prompt(g));
  if (g->n_ids) TRY(tandem_session_decode(g->session, g->ids, (int64_t)g->n_ids, on_pass, NULL, err));
  else TRY(tandem_session_sync(g->session, tandem_session_tokens(g->session), g->n_resumed, on_pass, NULL, err));
  double middle = os_seconds();
  g->prompt_seconds = middle - start;
  if (g->o->predict) TRY(tandem_session_generate(g->session, g->o->predict, on_text, g, &g->n_generated, &g->stop, err));
  g->answer_seconds = os_seconds() - middle;
  TRY(g->st);
  /* The token that ended the text is counted but was not handed out; drawing at the same position gives it again. */
  if (g->stop == TANDEM_STOP_END && g->drawn.n / sizeof(int32_t) < (size_t)g->n_generated) {
    int32_t id;
    TRY(tandem_session_sample(g->session, &id, err));
    TRY(text_add(&g->drawn, (const char *)&id, sizeof id, err));
  }
  return TANDEM_OK;
}

/* The answer joins the conversation, also one that Ctrl-C has ended. The last token drawn was not evaluated: if it ended the
 * text it is left out, so that what comes next continues the text; if the context is full there is no room for it. */
static status save_session(const generation *g) {
  size_t n = g->drawn.n / sizeof(int32_t);
  int64_t length = tandem_session_length(g->session), whole = g->n_resumed + (int64_t)(g->n_ids + n);
  int32_t last = -1;
  if (n > 0) memcpy(&last, g->drawn.bytes + (n - 1) * sizeof last, sizeof last);
  bool missing = g->stop != TANDEM_STOP_END && length < whole && length < g->info.n_context;
  return cli_session_save(g->session, g->o, last, missing, g->err);
}

static status check_prompt(const generation *g) {
  if (g->n_resumed > 0 && (int64_t)g->n_ids > g->info.n_context - g->n_resumed)
    return base_fail(g->err, TANDEM_ERROR_CONTEXT, "prompt", "the prompt: has %zu tokens after the session's %" PRId64 ", the context holds %" PRId64 "; -c gives more",
                     g->n_ids, g->n_resumed, g->info.n_context);
  if (g->n_ids == 0 && g->n_resumed == 0)
    return base_fail(g->err, TANDEM_ERROR_ARGUMENT, "prompt", "the prompt: has no tokens, at least one is needed");
  if ((uint64_t)g->n_ids > (uint64_t)g->info.n_context)
    return base_fail(g->err, TANDEM_ERROR_CONTEXT, "prompt",
                     "the prompt: has %zu tokens, the context holds %" PRId64 "; -c gives more", g->n_ids, g->info.n_context);
  return TANDEM_OK;
}

status cli_run(const cli_options *o, error *err) {
  generation g = {.o = o, .err = err, .info = {.size = sizeof g.info}, .terminal = os_is_terminal(STDOUT_FILENO),
                  .stream = !o->json && !os_is_file(STDOUT_FILENO),
                  .show_draft = o->show_draft && cli_color(o, STDOUT_FILENO)};
  tandem_engine_params params;
  tandem_sampling sampling;
  tandem_logit_bias *bias = NULL;
  text draft = {0};
  status st;
  tandem_engine_params_init(&params);
  TRY_DONE(cli_read_text(&g.prompt, o, true, err));
  TRY_DONE(cli_session_check(o, err));
  TRY_DONE(cli_find_draft(&params, &draft, o, err));
  TRY_DONE(cli_open(&g.engine, &params, o, err));
  bool warned = cli_warn_draft(g.engine, false);
  TRY_DONE(tandem_engine_get_info(g.engine, &g.info, err));
  TRY_DONE(set_sampling(&g, &bias, &sampling, err));
  TRY_DONE(tandem_session_open(&g.session, g.engine, &sampling, err));
  TRY_DONE(cli_session_resume(g.session, o, err));
  g.n_resumed = tandem_session_length(g.session);
  unsigned flags = g.n_resumed ? TANDEM_PARSE_SPECIAL : TANDEM_ADD_SPECIAL | TANDEM_PARSE_SPECIAL; /* BOS stands at the beginning only */
  TRY_DONE(cli_tokens_of(g.engine, &g.prompt, flags, &g.ids, &g.n_ids, err));
  TRY_DONE(check_prompt(&g));
  tandem_speculation guessing = cli_speculation(o);
  TRY_DONE(tandem_session_set_speculation(g.session, &guessing, err));
  TRY_DONE(generate(&g));
  if (o->json)
    TRY_DONE(write_json(&g));
  else if (g.terminal)
    TRY_DONE(cli_write("\n", 1, err));
  fflush(stdout);
  cli_warn_draft(g.engine, warned);
  if (o->timings >= 0 ? o->timings : !o->json) write_footer(&g);
  TRY_DONE(save_session(&g));
  if (cli_interrupted()) st = TANDEM_ERROR_CANCELLED;
done:
  tandem_session_close(g.session);
  tandem_engine_close(g.engine);
  text_free(&draft);
  base_free(bias);
  base_free(g.ids);
  text_free(&g.prompt);
  text_free(&g.answer);
  text_free(&g.drawn);
  return st;
}
