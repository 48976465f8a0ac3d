/* tandem logits: token ids in, the logits of every position out as little-endian f32, [token][vocabulary]. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_TOKENS_BYTES = 1 << 28 };

typedef struct id_list {
  int32_t *ids;
  size_t n;
} id_list;

/* One decimal id a line; empty lines are skipped. The list is sized by the number of newlines. */
static status parse_ids(id_list *list, const text *t, const char *name, error *err) {
  const char *s = t->bytes ? t->bytes : "", *end = s + t->n;
  size_t n_lines = 1, line = 1;
  for (const char *c = s; c < end; c++) n_lines += *c == '\n';
  TRY(base_alloc_array((void **)&list->ids, n_lines, sizeof *list->ids, "token ids", err));
  for (; s < end; s++, line++) {
    const char *stop = memchr(s, '\n', (size_t)(end - s));
    if (!stop) stop = end;
    while (s < stop && isspace((unsigned char)*s)) s++;
    const char *last = stop;
    while (last > s && isspace((unsigned char)last[-1])) last--;
    int64_t id = 0;
    for (const char *c = s; c < last; c++) {
      id = isdigit((unsigned char)*c) && id <= INT32_MAX ? id * 10 + (*c - '0') : INT64_MAX / 16;
      if (id <= INT32_MAX) continue;
      char shown[64];
      text_escape(shown, sizeof shown, s, (size_t)(last - s < 40 ? last - s : 40));
      return base_fail(err, TANDEM_ERROR_FORMAT, "tokens", "%s: line %zu: '%s' is no token id, 0 to %d is allowed", name, line,
                       shown, INT32_MAX);
    }
    if (last > s) list->ids[list->n++] = (int32_t)id;
    s = stop;
  }
  if (!list->n) return base_fail(err, TANDEM_ERROR_FORMAT, "tokens", "%s: has no token ids, at least one is needed", name);
  return TANDEM_OK;
}

static status check_ids(const id_list *list, int32_t n_vocab, const char *name, error *err) {
  for (size_t i = 0; i < list->n; i++)
    if (list->ids[i] >= n_vocab)
      return base_fail(err, TANDEM_ERROR_FORMAT, "tokens", "%s: token %zu is %" PRId32 ", the vocabulary has 0 to %" PRId32,
                       name, i + 1, list->ids[i], n_vocab - 1);
  return TANDEM_OK;
}

/* Evaluates pass by pass, so that only the rows of one pass are in memory. */
static status write_rows(tandem_session *session, const id_list *list, const tandem_engine_info *info, FILE *out,
                         const char *name, error *err) {
  size_t n_pass = (size_t)info->n_ubatch < list->n ? (size_t)info->n_ubatch : list->n, n_row = (size_t)info->n_vocab;
  float *rows = NULL;
  status st;
  TRY_DONE(base_alloc_array((void **)&rows, n_pass, n_row * sizeof *rows, "rows of logits", err));
  for (size_t i = 0; i < list->n; i += n_pass) {
    size_t n = list->n - i < n_pass ? list->n - i : n_pass;
    if (cli_interrupted()) {
      st = base_fail(err, TANDEM_ERROR_CANCELLED, NULL, "stopped");
      goto done;
    }
    TRY_DONE(tandem_session_decode_all(session, list->ids + i, (int64_t)n, rows, err));
    if (fwrite(rows, n_row * sizeof *rows, n, out) == n) continue;
    st = base_fail(err, TANDEM_ERROR_IO, "output", "%s: %s", name, strerror(errno));
    goto done;
  }
  if (fflush(out)) st = base_fail(err, TANDEM_ERROR_IO, "output", "%s: %s", name, strerror(errno));
done:
  base_free(rows);
  return st;
}

/* The last token's row, then those of the drafter's greedy steps behind it. */
static status write_draft(tandem_session *session, const id_list *list, const tandem_engine_info *info, int32_t n_steps, FILE *out,
                          const char *name, error *err) {
  size_t n_row = (size_t)info->n_vocab;
  int32_t ids[TANDEM_MAX_DRAFT], first;
  float *rows = NULL;
  status st;
  TRY_DONE(base_alloc_array((void **)&rows, (size_t)n_steps + 1, n_row * sizeof *rows, "rows of logits", err));
  TRY_DONE(tandem_session_decode(session, list->ids, (int64_t)list->n, NULL, NULL, err));
  memcpy(rows, tandem_session_logits(session), n_row * sizeof *rows);
  TRY_DONE(tandem_session_sample(session, &first, err));
  if (n_steps) TRY_DONE(tandem_session_draft(session, first, n_steps, ids, rows + n_row, err));
  fprintf(stderr, "draft: %d", first);
  for (int32_t i = 0; i < n_steps; i++) fprintf(stderr, " %d", ids[i]);
  fputc('\n', stderr);
  size_t n = (size_t)n_steps + 1;
  if (fwrite(rows, n_row * sizeof *rows, n, out) != n || fflush(out)) st = base_fail(err, TANDEM_ERROR_IO, "output", "%s: %s", name, strerror(errno));
done:
  base_free(rows);
  return st;
}

/* Opens OUT, fills it, and takes half a file away again. */
static status write_one(tandem_session *session, const id_list *list, const tandem_engine_info *info, const cli_options *o, FILE *out,
                        const char *name, error *err) {
  if (o->draft) return write_draft(session, list, info, o->draft_steps, out, name, err);
  return write_rows(session, list, info, out, name, err);
}

static status write_file(tandem_session *session, const id_list *list, const tandem_engine_info *info, const cli_options *o, error *err) {
  const char *path = o->output;
  if (!strcmp(path, "-")) return write_one(session, list, info, o, stdout, "standard output", err);
  FILE *out = fopen(path, "wb");
  if (!out) return base_fail(err, TANDEM_ERROR_IO, "output", "%s: cannot be written: %s", path, strerror(errno));
  status st = write_one(session, list, info, o, out, path, err);
  if (fclose(out) && !st) st = base_fail(err, TANDEM_ERROR_IO, "output", "%s: %s", path, strerror(errno));
  struct stat about;
  if (st && !stat(path, &about) && S_ISREG(about.st_mode)) unlink(path);
  return st;
}

status cli_logits(const cli_options *o, error *err) {
  tandem_engine_params params;
  tandem_engine_info info = {.size = sizeof info};
  tandem_engine *engine = NULL;
  tandem_session *session = NULL;
  id_list list = {0};
  text t = {0};
  status st;
  if (!o->tokens) return base_fail(err, TANDEM_ERROR_ARGUMENT, "tokens", "--tokens: missing, a file of token ids is needed");
  if (o->draft_steps && !o->draft) return base_fail(err, TANDEM_ERROR_ARGUMENT, "draft", "--draft-steps: needs a drafter, -d FILE");
  if (!o->output) return base_fail(err, TANDEM_ERROR_ARGUMENT, "output", "-o: missing, a file for the logits is needed");
  tandem_engine_params_init(&params);
  const char *name = strcmp(o->tokens, "-") ? o->tokens : "standard input";
  TRY_DONE(os_read_all(&t, o->tokens, MAX_TOKENS_BYTES, err));
  TRY_DONE(parse_ids(&list, &t, name, err));
  params.n_context = (int64_t)list.n + (o->draft ? o->draft_steps + 1 : 0);
  params.draft = o->draft;
  params.draft_wish = TANDEM_DRAFT_REQUIRED;
  params.draft_behind = o->draft_behind;
  TRY_DONE(cli_open(&engine, &params, o, err));
  TRY_DONE(tandem_engine_get_info(engine, &info, err));
  TRY_DONE(check_ids(&list, info.n_vocab, name, err));
  if ((int64_t)list.n > info.n_context) {
    st = base_fail(err, TANDEM_ERROR_CONTEXT, "tokens", "%s: has %zu token ids, the context holds %" PRId64, name, list.n,
                   info.n_context);
    goto done;
  }
  TRY_DONE(tandem_session_open(&session, engine, NULL, err));
  st = write_file(session, &list, &info, o, err);
done:
  tandem_session_close(session);
  tandem_engine_close(engine);
  base_free(list.ids);
  text_free(&t);
  return st;
}
