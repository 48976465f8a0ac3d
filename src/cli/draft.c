/* The drafter of a command: which file, which wishes, and what came of it. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool ends_with(const char *s, size_t n, const char *end) {
  size_t m = strlen(end);
  return n >= m && !memcmp(s + n - m, end, m);
}

/* Is there a file of that name? `a` and `b` are parts of the model's name around the word. */
static status try_name(text *path, int n_a, const char *a, const char *word, int n_b, const char *b, bool *found, error *err) {
  path->n = 0;
  TRY(text_printf(path, err, "%.*s-%s%.*s.gguf", n_a, a, word, n_b, b));
  *found = !access(path->bytes, R_OK);
  return TANDEM_OK;
}

/* Beside X.gguf: X-assistant.gguf, X-draft.gguf; beside X-TYPE.gguf also X-assistant-TYPE.gguf, X-assistant.gguf and the same with
 * draft. */
static status look_beside(text *path, const char *model, bool *found, error *err) {
  static const char *const words[] = {"assistant", "draft"};
  const char *slash = strrchr(model, '/'), *name = slash ? slash + 1 : model;
  size_t n = strlen(model);
  if (!ends_with(model, n, ".gguf")) return TANDEM_OK;
  n -= strlen(".gguf");
  const char *dash = model + n;
  while (dash > name && *dash != '-') dash--;
  for (size_t i = 0; i < COUNT_OF(words); i++)
    if (ends_with(model, n, words[i])) return TANDEM_OK; /* it is a drafter itself */
  for (size_t i = 0; i < COUNT_OF(words) && !*found; i++) {
    TRY(try_name(path, (int)n, model, words[i], 0, "", found, err));
    if (*found || *dash != '-') continue;
    TRY(try_name(path, (int)(dash - model), model, words[i], (int)(model + n - dash), dash, found, err));
    if (!*found) TRY(try_name(path, (int)(dash - model), model, words[i], 0, "", found, err));
  }
  return TANDEM_OK;
}

status cli_find_draft(tandem_engine_params *params, text *path, const cli_options *o, error *err) {
  bool found = false, on = o->spec && !strcmp(o->spec, "on"), off = !o->draft_use || (o->spec && (!strcmp(o->spec, "off") || !strcmp(o->spec, "none")));
  params->draft_behind = o->draft_behind;
  params->ngram_simple = o->ngram_simple;
  params->ngram_mod = o->ngram_mod;
  if (off) return TANDEM_OK;
  if (o->draft) {
    params->draft = o->draft;
    params->draft_wish = on ? TANDEM_DRAFT_REQUIRED : TANDEM_DRAFT_IF_IT_FITS;
    return TANDEM_OK;
  }
  TRY(look_beside(path, o->model, &found, err));
  if (!found && on)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "spec", "--spec on: there is no drafter beside %s; -d names one", o->model);
  if (!found) return TANDEM_OK;
  params->draft = path->bytes;
  params->draft_wish = on ? TANDEM_DRAFT_REQUIRED : TANDEM_DRAFT_IF_USABLE;
  return TANDEM_OK;
}

tandem_speculation cli_speculation(const cli_options *o) {
  tandem_speculation s = o->speculation;
  s.kinds = !o->draft_use ? "off" : o->spec && strcmp(o->spec, "on") ? o->spec : "auto";
  return s;
}

bool cli_warn_draft(const tandem_engine *engine, bool warned) {
  tandem_engine_info info = {.size = sizeof info};
  if (warned || tandem_engine_get_info(engine, &info, NULL) || !info.draft_off[0]) return warned;
  fprintf(stderr, "tandem: no drafter: %s\n", info.draft_off);
  return true;
}

static double share(int64_t a, int64_t b) { return b > 0 ? (double)a / (double)b : 0; }

/* Tokens drawn times what one costs alone, over the time that was taken; 0 = not known. */
static double speed_up(const tandem_draft_stats *t) {
  return t->seconds > 0 ? t->plain_seconds * (double)t->n_tokens / t->seconds : 0;
}

static int positions(const tandem_draft_stats *t) {
  int n = TANDEM_DRAFT_POSITIONS;
  while (n > 0 && !t->drafted_at[n - 1]) n--;
  return n;
}

void cli_draft_footer(const tandem_session *session) {
  tandem_draft_stats t = {.size = sizeof t};
  if (tandem_session_get_draft_stats(session, &t, NULL) || !t.n_drafted) return;
  fprintf(stderr, " · draft %" PRId64 "/%" PRId64 " accepted %.1f %%, %.2f tokens a step, by position", t.n_accepted, t.n_drafted,
          100 * share(t.n_accepted, t.n_drafted), share(t.n_tokens, t.n_steps + t.n_plain));
  for (int i = 0; i < positions(&t); i++) fprintf(stderr, " %" PRId64 "/%" PRId64, t.accepted_at[i], t.drafted_at[i]);
  if (speed_up(&t) > 0) fprintf(stderr, ", speed-up %.2f", speed_up(&t));
}

void cli_draft_json(json *j, const tandem_session *session) {
  tandem_draft_stats t = {.size = sizeof t};
  if (tandem_session_get_draft_stats(session, &t, NULL) || !t.n_drafted) return;
  json_put_object(j, "draft");
  char who[80] = ""; /* those that guessed */
  for (int i = 0; i < TANDEM_DRAFTERS; i++)
    if (t.drafted_by[i]) snprintf(who + strlen(who), sizeof who - strlen(who), "%s%s", who[0] ? "," : "", tandem_drafter_name(i));
  json_put_string(j, "type", who, strlen(who));
  json_put_int(j, "drafted", t.n_drafted);
  json_put_int(j, "accepted", t.n_accepted);
  json_put_array(j, "per_position");
  for (int i = 0; i < positions(&t); i++) {
    json_put_object(j, NULL);
    json_put_int(j, "drafted", t.drafted_at[i]);
    json_put_int(j, "accepted", t.accepted_at[i]);
    json_put_end_object(j);
  }
  json_put_end_array(j);
  json_put_double(j, "mean_len", share(t.n_tokens, t.n_steps + t.n_plain));
  json_put_int(j, "steps", t.n_steps);
  json_put_int(j, "plain_steps", t.n_plain);
  json_put_double(j, "speed_up", speed_up(&t));
  json_put_end_object(j);
}
