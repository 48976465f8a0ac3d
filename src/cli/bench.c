/* tandem bench: which tests, on which models, threads and depths; then table, JSON, picture. What a test is and what it is held
 * against is said in bench_time.c. */
#include "cli/bench.h"

#include "gguf/gguf.h"
#include "quant/quant.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const cli_list sweep_depths = {.v = {512, 2048, 8192, 32768}, .n = 4}, nothing = {0};
static const double too_disturbed = 0.1;

typedef struct bench {
  const cli_options *o;
  error *err;
  bench_rows rows;
  text heading; /* a line for each model */
  cli_list depths;
  const cli_list *verifies;
  int64_t n_most;      /* tokens behind a context */
  int64_t n_rows;      /* of logits of a pass */
  int32_t threads;     /* at most */
  double disturbed;    /* of the run that was most */
  bench_peer peers[CLI_LIST];
  int n_peers;
} bench;

/* ---- one model on so many threads ------------------------------------------------------------------------------------ */

/* What is done now: one line on a terminal, written over by the next. No row: none. A row of no tokens: its context is evaluated. */
static void show(const bench *b, const bench_row *row) {
  char what[64] = "";
  if (!os_is_terminal(STDERR_FILENO) || b->o->progress == 0) return;
  fputs("\r\033[K", stderr);
  if (row && row->n) bench_row_text(row, what);
  else if (row) snprintf(what, sizeof what, "context of %" PRId64, row->depth);
  if (row) fprintf(stderr, "%s, %d thread%s: %s", row->model, (int)row->threads, row->threads == 1 ? "" : "s", what);
  fflush(stderr);
}

static status time_tokens(bench *b, bench_run *r, bench_row row, bench_test test, const cli_list *counts) {
  row.test = test;
  for (int i = 0; i < counts->n; i++) {
    bench_row one = row;
    one.n = counts->v[i];
    if (!one.n) continue;
    show(b, &one);
    TRY(bench_run_tokens(r, &one));
    TRY(bench_rows_add(&b->rows, &one, b->err));
  }
  return TANDEM_OK;
}

static status time_passes(bench *b, bench_run *r, bench_row row, const cli_list *counts) {
  bench_row rows[CLI_LIST];
  int n = 0;
  row.test = BENCH_VERIFY;
  for (int i = 0; i < counts->n; i++) {
    if (!counts->v[i]) continue;
    rows[n] = row;
    rows[n++].n = counts->v[i];
  }
  if (!n) return TANDEM_OK;
  show(b, &rows[0]);
  TRY(bench_run_passes(r, rows, n));
  for (int i = 0; i < n; i++) TRY(bench_rows_add(&b->rows, &rows[i], b->err));
  return TANDEM_OK;
}

/* Opens the model for the deepest context. A sweep leaves out what does not fit the memory. */
static status open_run(bench *b, bench_run **r, const cli_options *o, const char *name, const tandem_engine_info *planned, cli_list *depths) {
  while (depths->n) {
    int deepest = 0;
    for (int i = 0; i < depths->n; i++)
      if (depths->v[i] > depths->v[deepest]) deepest = i;
    status st = bench_run_open(r, o, planned, depths->v[deepest] + b->n_most, b->n_rows, b->err);
    if (st != TANDEM_ERROR_MEMORY || !o->sweep) return st;
    fprintf(stderr, "tandem: %s: depth %" PRId64 " is left out: %s\n", name, depths->v[deepest], b->err->text);
    *b->err = (error){0};
    depths->v[deepest] = depths->v[--depths->n];
  }
  return TANDEM_OK;
}

static status run_threads(bench *b, bench_row row, const cli_options *o, const tandem_engine_info *planned, cli_list depths) {
  bench_run *r = NULL;
  status st;
  TRY(open_run(b, &r, o, row.model, planned, &depths));
  if (!r) return TANDEM_OK;
  row.threads = bench_run_info(r)->n_threads;
  for (int i = 0; i < depths.n; i++) {
    row.depth = depths.v[i];
    show(b, &row);
    TRY_DONE(bench_run_depth(r, row.depth));
    TRY_DONE(time_tokens(b, r, row, BENCH_PROMPT, &o->prompts));
    TRY_DONE(time_tokens(b, r, row, BENCH_DECODE, &o->predicts));
    TRY_DONE(time_passes(b, r, row, b->verifies));
  }
  for (int i = 0; i < TANDEM_CEILINGS && o->threads == b->threads; i++)
    if (b->rows.ceilings[i] <= 0) TRY_DONE(bench_run_ceiling(r, (tandem_ceiling)i, &b->rows.ceilings[i]));
  if (bench_run_disturbed(r) > b->disturbed) b->disturbed = bench_run_disturbed(r);
done:
  show(b, NULL);
  bench_run_close(r);
  return st;
}

/* ---- models ---------------------------------------------------------------------------------------------------------- */

/* A name that outlives its source. */
static status keep(bench *b, const char *s, size_t n, const char **kept) {
  if (!b->rows.names) TRY(arena_open(&b->rows.names, "names of models", b->err));
  return arena_text(b->rows.names, s, n, kept, b->err);
}

/* The name of a file without folder and ending. */
static status keep_stem(bench *b, const char *path, const char **kept) {
  static const char *const endings[] = {".gguf", ".json", ".jsonl"};
  const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path, *dot = strrchr(name, '.');
  size_t n = strlen(name);
  for (size_t i = 0; dot && dot > name && i < COUNT_OF(endings); i++)
    if (!strcmp(dot, endings[i])) n = (size_t)(dot - name);
  return keep(b, name, n, kept);
}

/* The type that most bytes of a file's tensors have. */
static status find_type(bench *b, const char *path, const char **name) {
  uint64_t bytes[QUANT_TYPE_END] = {0};
  int most = 0;
  gguf *g = NULL;
  TRY(gguf_open(&g, path, b->err));
  for (size_t i = 0; i < gguf_n_tensors(g); i++) {
    const gguf_tensor *t = gguf_tensor_at(g, i);
    if ((unsigned)t->type < QUANT_TYPE_END) bytes[t->type] += t->n_bytes;
  }
  for (int i = 0; i < QUANT_TYPE_END; i++)
    if (bytes[i] > bytes[most]) most = i;
  gguf_close(g);
  const quant_info *info = quant_find(most);
  return keep(b, info ? info->name : "", info ? strlen(info->name) : 0, name);
}

/* Reads the metadata alone. The strings of *info do not outlive it. */
static status plan_model(bench *b, const cli_options *o, tandem_engine_info *info, const char **type) {
  tandem_engine_params params;
  tandem_engine *e = NULL;
  status st;
  tandem_engine_params_init(&params);
  cli_set_params(&params, o);
  params.plan_only = true;
  params.n_context = 1;
  *info = (tandem_engine_info){.size = sizeof *info};
  TRY_DONE(tandem_engine_open(&e, &params, b->err));
  TRY_DONE(tandem_engine_get_info(e, info, b->err));
  TRY_DONE(find_type(b, o->model, type));
  TRY_DONE(keep(b, info->cpu, strlen(info->cpu), &b->rows.cpu));
  char size[32], arch[64], name[128], threads[32] = "";
  if (!o->sweep) snprintf(threads, sizeof threads, ", %d thread%s", (int)o->threads, o->threads == 1 ? "" : "s");
  cli_size_text(size, info->weight_bytes);
  text_escape(arch, sizeof arch, info->arch, strlen(info->arch));
  text_escape(name, sizeof name, info->name, strlen(info->name));
  st = text_printf(&b->heading, b->err, "%s %s, %s, %.1f M parameters, %s of weights, %s%s\n", arch, name, *type,
                   (double)info->n_params / 1e6, size, info->cpu, threads);
done:
  tandem_engine_close(e);
  return st;
}

/* A sweep stays within what the model was trained for. */
static cli_list depths_of(const bench *b, const char *name, int64_t n_trained) {
  cli_list kept = {0};
  for (int i = 0; i < b->depths.n; i++) {
    int64_t depth = b->depths.v[i];
    if (!b->o->sweep || depth + b->n_most <= n_trained) kept.v[kept.n++] = depth;
    else fprintf(stderr, "tandem: %s: depth %" PRId64 " is left out: with the %" PRId64 " tokens behind it that is more than the trained %" PRId64 "\n", name,
                 depth, b->n_most, n_trained);
  }
  return kept;
}

static status run_model(bench *b, const char *path) {
  cli_options o = *b->o;
  tandem_engine_info planned;
  bench_row row = {0};
  o.model = path;
  o.threads = b->threads;
  TRY(plan_model(b, &o, &planned, &row.type));
  TRY(keep_stem(b, path, &row.model));
  row.n_params = planned.n_params;
  cli_list depths = depths_of(b, row.model, planned.n_context_train);
  for (o.threads = o.sweep ? 1 : b->threads; depths.n; o.threads = 2 * o.threads < b->threads ? 2 * o.threads : b->threads) {
    TRY(run_threads(b, row, &o, &planned, depths));
    if (o.threads == b->threads) break;
  }
  return TANDEM_OK;
}

static int64_t most_of(const cli_list *l, int64_t most) {
  for (int i = 0; i < l->n; i++)
    if (l->v[i] > most) most = l->v[i];
  return most;
}

static status measure(bench *b) {
  const cli_options *o = b->o;
  b->depths = o->sweep && !o->depths.given ? sweep_depths : o->depths;
  b->verifies = o->sweep && !o->verifies.given ? &nothing : &o->verifies;
  b->threads = o->threads ? o->threads : os_processors();
  b->n_rows = most_of(b->verifies, 1);
  b->n_most = most_of(&o->prompts, most_of(&o->predicts, b->n_rows));
  for (int i = 0; i < o->models.n; i++) TRY(run_model(b, o->models.v[i]));
  if (!b->rows.n) return base_fail(b->err, TANDEM_ERROR_ARGUMENT, "bench", "nothing is left to measure");
  if (b->disturbed > too_disturbed)
    fprintf(stderr, "tandem: something else runs: it took a thread away in %.0f %% of the slices that ceilings were measured in. Shares are too low\n",
            100 * b->disturbed);
  return TANDEM_OK;
}

/* ---- files ----------------------------------------------------------------------------------------------------------- */

/* NAME=FILE, or a FILE that names itself. Files of one name are one peer. */
static status read_peer(bench *b, const char *word) {
  const char *equals = strchr(word, '='), *slash = strchr(word, '/'), *name;
  bool named = equals && equals > word && (!slash || slash > equals);
  const char *path = named ? equals + 1 : word;
  if (named) TRY(keep(b, word, (size_t)(equals - word), &name));
  else TRY(keep_stem(b, path, &name));
  int i = 0;
  while (i < b->n_peers && strcmp(b->peers[i].name, name) != 0) i++;
  if (i == b->n_peers) b->peers[b->n_peers++].name = name;
  return bench_read(&b->peers[i].rows, path, b->err);
}

static status read_files(bench *b) {
  for (int i = 0; i < b->o->from.n; i++) TRY(bench_read(&b->rows, b->o->from.v[i], b->err));
  for (int i = 0; i < b->o->compare.n; i++) TRY(read_peer(b, b->o->compare.v[i]));
  for (int i = 0; i < b->n_peers; i++) TRY(bench_rows_merge(&b->peers[i].rows, b->err));
  return TANDEM_OK;
}

/* The model of a table that does not name it. */
static status head_rows(bench *b) {
  const bench_row *r = &b->rows.v[0];
  char model[128], type[32];
  text_escape(model, sizeof model, r->model, strlen(r->model));
  text_escape(type, sizeof type, r->type, strlen(r->type));
  return text_printf(&b->heading, b->err, "%s, %s, %.1f M parameters, %d thread%s\n", *model ? model : "?", *type ? type : "?", (double)r->n_params / 1e6,
                     (int)r->threads, r->threads == 1 ? "" : "s");
}

static void warn_strangers(const bench *b) {
  for (int i = 0; i < b->n_peers; i++) {
    const bench_row *theirs = &b->peers[i].rows.v[0], *ours = &b->rows.v[0];
    char a[64], c[64];
    bool met = false;
    for (size_t k = 0; k < b->rows.n && !met; k++) met = bench_peer_speed(&b->peers[i], &b->rows.v[k]) > 0;
    if (!met)
      fprintf(stderr, "tandem: %s: no test in common: there %s on %d threads (%.1f M parameters) is the first, here %s on %d threads (%.1f M)\n",
              b->peers[i].name, bench_row_text(theirs, a), (int)theirs->threads, (double)theirs->n_params / 1e6, bench_row_text(ours, c),
              (int)ours->threads, (double)ours->n_params / 1e6);
  }
}

static status tell(bench *b) {
  TRY(bench_rows_merge(&b->rows, b->err));
  TRY(bench_rows_ceilings(&b->rows, b->err));
  warn_strangers(b);
  if (b->o->plot) TRY(bench_plot(&b->rows, b->o->plot, b->err));
  if (b->o->json) return bench_json(&b->rows, b->peers, b->n_peers, b->disturbed, b->err);
  if (!b->heading.n) TRY(head_rows(b));
  printf("%s\n", b->heading.bytes);
  bench_table(&b->rows, b->peers, b->n_peers);
  return TANDEM_OK;
}

status cli_bench(const cli_options *o, error *err) {
  bench b = {.o = o, .err = err};
  status st;
  TRY_DONE(read_files(&b));
  if (!o->from.n) TRY_DONE(measure(&b));
  TRY_DONE(tell(&b));
done:
  bench_rows_free(&b.rows);
  for (int i = 0; i < b.n_peers; i++) bench_rows_free(&b.peers[i].rows);
  text_free(&b.heading);
  return st;
}
