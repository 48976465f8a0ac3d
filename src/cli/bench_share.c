/* tandem bench share: what it saves and costs that a drafter shares its target's cells. Everything is measured or computed now, on
 * the files named. The rule of llama.cpp is the published one (common/fit.cpp of b9549 and b9550, one device, margin 1 GiB):
 *
 *   F - M >= U(T)          the target gets T, its trained length
 *   else F - M > U(4096)   4096 + (T - 4096) (F - M - U(4096)) / (U(T) - U(4096)), down to a multiple of 256
 *   else                   4096
 *
 * with U(n) the bytes at context n, here those of Tandem's own plan. b9549 gives the drafter its own trained length D: when D is
 * larger than what the target got, its views leave the tensors and the program aborts. b9550 gives it the target's cells. */
#include "cli/cli.h"
#include "cli/svg.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  STEPS = 8,                       /* guesses timed at once */
  COUNT_ROWS = 4,                  /* verifications */
  COUNT_CONTEXTS = 8,
  COUNT_LENGTHS = 3,
  COUNT_DRAFTERS = 4,
  COUNT_BUDGETS = 25,
  FIT_MINIMUM = 4096,              /* of llama.cpp */
  FIT_STEP = 256,
  POOL_PAGES = 768,
  POOL_SEQUENCES = 64,
  POOL_OPERATIONS = 1000000,
  LOOP_TOKENS = 200
};
static const int verify_rows[COUNT_ROWS] = {1, 2, 4, 8};
static const int64_t lengths[COUNT_LENGTHS] = {8192, 32768, 131072};
static const int64_t drafters[COUNT_DRAFTERS] = {4096, 8192, 32768, 131072}; /* their trained lengths */
static const double margin = 1024.0 * 1024 * 1024;

typedef struct bytes_at { /* at one context */
  int64_t n_context;
  uint64_t target_kv, borrowed, companion, separate;
} bytes_at;

typedef struct budget {
  double bytes;
  int64_t llama[COUNT_LENGTHS], tandem[COUNT_LENGTHS]; /* by the target's trained length; 0 = nothing fits */
  double overrun[COUNT_LENGTHS]; /* bytes by which llama.cpp's context exceeds the budget */
} budget;

typedef struct share {
  const cli_options *o;
  error *err;
  tandem_engine_info info;
  bytes_at bytes[COUNT_CONTEXTS];
  int n_bytes;
  double prompt, first_guess, guess, verify[COUNT_ROWS]; /* median seconds */
  double alone_prompt, alone_step; /* the drafter as a program of its own; 0 = it cannot run alone */
  tandem_pool_report pool;
  uint64_t allocations;
  int64_t n_drafted, n_accepted;
  budget budgets[COUNT_BUDGETS];
  double crossing[COUNT_LENGTHS][COUNT_DRAFTERS]; /* room below which the target's grant is under the drafter's default; 0 = never,
                                                     INFINITY = always */
  struct { int64_t pages; double bytes; } known[1024]; /* of U(n) */
  int n_known;
} share;

static status stopped(const share *b) { return cli_interrupted() ? base_fail(b->err, TANDEM_ERROR_CANCELLED, NULL, "stopped") : TANDEM_OK; }

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

static status plan_at(const share *b, int64_t n_context, tandem_engine_info *info) {
  tandem_engine_params p;
  tandem_engine *engine = NULL;
  tandem_engine_params_init(&p);
  p.plan_only = true;
  p.model = b->o->model;
  p.draft = b->o->draft;
  p.draft_wish = TANDEM_DRAFT_REQUIRED;
  p.n_context = n_context;
  p.n_threads = b->info.n_threads;
  p.memory = UINT64_MAX / 2; /* nothing is allocated: any size may be asked for */
  TRY(tandem_engine_open(&engine, &p, b->err));
  *info = (tandem_engine_info){.size = sizeof *info};
  status st = tandem_engine_get_info(engine, info, b->err);
  tandem_engine_close(engine);
  return st;
}

static status count_bytes(share *b) {
  int64_t most = b->info.n_context_train > 131072 ? b->info.n_context_train : 131072;
  for (int64_t n = 1024; n <= most && b->n_bytes < COUNT_CONTEXTS; n *= 2) {
    tandem_engine_info i;
    TRY(plan_at(b, n, &i));
    b->bytes[b->n_bytes++] = (bytes_at){n, i.kv_bytes, i.draft_kv_bytes, i.draft_companion_bytes, i.draft_separate_bytes};
  }
  return TANDEM_OK;
}

/* U(n): all that a context of n tokens needs. Known by the page. */
static status bytes_of(share *b, int64_t n, double *bytes) {
  int64_t pages = (n + FIT_STEP - 1) / FIT_STEP;
  tandem_engine_info i;
  for (int k = 0; k < b->n_known; k++)
    if (b->known[k].pages == pages) return *bytes = b->known[k].bytes, TANDEM_OK;
  TRY(stopped(b));
  TRY(plan_at(b, pages * FIT_STEP, &i));
  *bytes = (double)i.weight_bytes + (double)i.kv_bytes + (double)i.scratch_bytes + (double)i.draft_weight_bytes + (double)i.draft_kv_bytes +
           (double)i.draft_scratch_bytes;
  if (b->n_known < (int)COUNT_OF(b->known)) {
    b->known[b->n_known].pages = pages;
    b->known[b->n_known++].bytes = *bytes;
  }
  return TANDEM_OK;
}

/* ---- contexts ---------------------------------------------------------------------------------------------------- */

static status llama_context(share *b, double room, int64_t trained, int64_t *n) {
  double least, most;
  TRY(bytes_of(b, FIT_MINIMUM, &least));
  TRY(bytes_of(b, trained, &most));
  *n = trained;
  if (room >= most || trained <= FIT_MINIMUM) return TANDEM_OK;
  *n = FIT_MINIMUM;
  if (room <= least) return TANDEM_OK;
  *n += (int64_t)((double)(trained - FIT_MINIMUM) * (room - least) / (most - least));
  *n -= *n % FIT_STEP;
  return TANDEM_OK;
}

/* The most that fits, in whole pages, by looking at the exact bytes. */
static status tandem_context(share *b, double room, int64_t trained, int64_t *n) {
  int64_t low = 0, high = trained / FIT_STEP;
  while (low < high) {
    int64_t middle = (low + high + 1) / 2;
    double bytes;
    TRY(bytes_of(b, middle * FIT_STEP, &bytes));
    if (bytes <= room) low = middle;
    else high = middle - 1;
  }
  *n = low * FIT_STEP;
  return TANDEM_OK;
}

static status sweep(share *b) {
  double least, most;
  TRY(bytes_of(b, 1024, &least));
  TRY(bytes_of(b, lengths[COUNT_LENGTHS - 1], &most));
  for (int i = 0; i < COUNT_BUDGETS; i++) {
    budget *g = &b->budgets[i];
    double room = least + (most - least) * 1.04 * i / (COUNT_BUDGETS - 1);
    g->bytes = room + margin;
    for (int k = 0; k < COUNT_LENGTHS; k++) {
      double used;
      TRY(llama_context(b, room, lengths[k], &g->llama[k]));
      TRY(tandem_context(b, room, lengths[k], &g->tandem[k]));
      TRY(bytes_of(b, g->llama[k], &used));
      g->overrun[k] = used > room ? used - room : 0;
    }
  }
  return TANDEM_OK;
}

/* The room from which on llama.cpp grants a target of this trained length at least D: its rule grows with the room. */
static status find_crossing(share *b, int64_t trained, int64_t wanted, double *room) {
  double low, high;
  int64_t n;
  *room = INFINITY;
  if (trained < wanted) return TANDEM_OK;
  TRY(bytes_of(b, FIT_MINIMUM, &low));
  TRY(bytes_of(b, trained, &high));
  TRY(llama_context(b, low, trained, &n));
  *room = 0;
  if (n >= wanted) return TANDEM_OK; /* it never grants less */
  while (high - low > 4096) {
    double middle = (low + high) / 2;
    TRY(llama_context(b, middle, trained, &n));
    *(n >= wanted ? &high : &low) = middle;
  }
  *room = high;
  return TANDEM_OK;
}

static status find_crossings(share *b) {
  for (int k = 0; k < COUNT_LENGTHS; k++)
    for (int d = 0; d < COUNT_DRAFTERS; d++) TRY(find_crossing(b, lengths[k], drafters[d], &b->crossing[k][d]));
  return TANDEM_OK;
}

/* ---- times ------------------------------------------------------------------------------------------------------- */

/* A prompt, the first guess behind it, more guesses, verifications. */
static status time_once(share *b, tandem_session *s, const int32_t *ids, float *rows, double *t) {
  int64_t n = b->o->share_prompt;
  int32_t guesses[STEPS];
  TRY(stopped(b));
  TRY(tandem_session_truncate(s, 0, b->err));
  double start = os_seconds();
  TRY(tandem_session_decode(s, ids, n, NULL, NULL, b->err));
  t[0] = os_seconds() - start;
  start = os_seconds();
  TRY(tandem_session_draft(s, ids[n], 1, guesses, NULL, b->err));
  t[1] = os_seconds() - start;
  start = os_seconds();
  TRY(tandem_session_draft(s, ids[n], 1, guesses, NULL, b->err));
  double one = os_seconds() - start;
  start = os_seconds();
  TRY(tandem_session_draft(s, ids[n], STEPS, guesses, NULL, b->err));
  t[2] = (os_seconds() - start - one) / (STEPS - 1);
  for (int i = -1; i < COUNT_ROWS; i++) { /* the drafter's weights are in the caches: the first pass warms up */
    start = os_seconds();
    TRY(tandem_session_decode_all(s, ids + n, verify_rows[i < 0 ? 0 : i], rows, b->err));
    if (i >= 0) t[3 + i] = os_seconds() - start;
    TRY(tandem_session_truncate(s, n, b->err));
    TRY(tandem_session_sync(s, ids, n, NULL, NULL, b->err));
  }
  return TANDEM_OK;
}

static status time_pair(share *b, tandem_session *s, const int32_t *ids, float *rows) {
  enum { TIMES = 3 + COUNT_ROWS, MOST = 100 };
  double all[TIMES][MOST], *to[TIMES] = {&b->prompt, &b->first_guess, &b->guess};
  size_t n = b->o->repetitions < MOST ? (size_t)b->o->repetitions : MOST;
  for (int i = 0; i < COUNT_ROWS; i++) to[3 + i] = &b->verify[i];
  for (size_t r = 0; r <= n; r++) { /* the first run warms up */
    double t[TIMES];
    TRY(time_once(b, s, ids, rows, t));
    for (int i = 0; i < TIMES && r > 0; i++) all[i][r - 1] = t[i];
  }
  for (int i = 0; i < TIMES; i++) *to[i] = cli_median(all[i], n);
  return TANDEM_OK;
}

/* The drafter in an engine of its own, with a cache of its own length: what a prompt and a token cost it there. */
static status time_alone(share *b, const int32_t *ids) {
  tandem_engine_params p;
  tandem_engine *engine = NULL;
  tandem_session *s = NULL;
  double all[2][100];
  size_t n = b->o->repetitions < 100 ? (size_t)b->o->repetitions : 100;
  status st;
  tandem_engine_params_init(&p);
  p.model = b->o->draft;
  p.n_threads = b->info.n_threads;
  TRY_DONE(tandem_engine_open(&engine, &p, b->err));
  TRY_DONE(tandem_session_open(&s, engine, NULL, b->err));
  for (size_t r = 0; r <= n; r++) {
    TRY_DONE(tandem_session_truncate(s, 0, b->err));
    double start = os_seconds();
    TRY_DONE(tandem_session_decode(s, ids, b->o->share_prompt, NULL, NULL, b->err));
    double middle = os_seconds();
    for (int i = 0; i < STEPS; i++) TRY_DONE(tandem_session_decode(s, ids + i, 1, NULL, NULL, b->err));
    if (r == 0) continue;
    all[0][r - 1] = middle - start;
    all[1][r - 1] = (os_seconds() - middle) / STEPS;
  }
  b->alone_prompt = cli_median(all[0], n);
  b->alone_step = cli_median(all[1], n);
done:
  tandem_session_close(s);
  tandem_engine_close(engine);
  return st;
}

static status count_allocations(share *b, tandem_session *s, const int32_t *ids) {
  tandem_draft_stats stats = {.size = sizeof stats};
  TRY(tandem_session_sync(s, ids, 16, NULL, NULL, b->err));
  uint64_t before = tandem_allocation_count();
  TRY(tandem_session_generate(s, LOOP_TOKENS, NULL, NULL, NULL, NULL, b->err));
  b->allocations = tandem_allocation_count() - before;
  TRY(tandem_session_get_draft_stats(s, &stats, b->err));
  b->n_drafted = stats.n_drafted;
  b->n_accepted = stats.n_accepted;
  return TANDEM_OK;
}

static status measure(share *b, tandem_engine *engine) {
  tandem_session *s = NULL;
  int32_t *ids = NULL;
  float *rows = NULL;
  int64_t n = b->o->share_prompt + STEPS + 1;
  tandem_speculation guessing;
  status st;
  TRY_DONE(base_alloc_array((void **)&ids, (size_t)n, sizeof *ids, "ids", b->err));
  TRY_DONE(base_alloc_array((void **)&rows, (size_t)b->info.n_vocab * STEPS, sizeof *rows, "rows", b->err));
  cli_fill_ids(ids, (size_t)n, b->info.n_vocab);
  TRY_DONE(tandem_session_open(&s, engine, NULL, b->err));
  tandem_speculation_init(&guessing);
  guessing.kinds = "shared,model";
  guessing.depth = 3;
  TRY_DONE(tandem_session_set_speculation(s, &guessing, b->err));
  TRY_DONE(time_pair(b, s, ids, rows));
  TRY_DONE(count_allocations(b, s, ids));
  if (!strcmp(b->info.draft_kind, "model")) TRY_DONE(time_alone(b, ids));
done:
  tandem_session_close(s);
  base_free(ids);
  base_free(rows);
  return st;
}

/* ---- output ------------------------------------------------------------------------------------------------------ */

static void write_bytes(const share *b) {
  printf("Keys and values of the drafter, beside the target's\n%10s %12s %12s %12s %12s\n", "context", "target", b->info.draft_kv_bytes ? "(here)" : "borrowed",
         "companion", "separate");
  for (int i = 0; i < b->n_bytes; i++) {
    char t[4][32];
    const bytes_at *a = &b->bytes[i];
    cli_size_text(t[0], a->target_kv);
    cli_size_text(t[1], a->borrowed);
    cli_size_text(t[2], a->companion);
    cli_size_text(t[3], a->separate);
    printf("%10" PRId64 " %12s %12s %12s %12s\n", a->n_context, t[0], t[1], t[2], t[3]);
  }
}

static void write_times(const share *b) {
  printf("\nTime, medians of %" PRId64 "\n  prompt of %" PRId64 " tokens%18.3f ms\n  first guess behind it%17.3f ms%s\n  each further guess%20.3f ms\n",
         b->o->repetitions, b->o->share_prompt, 1e3 * b->prompt, 1e3 * b->first_guess,
         b->info.draft_kv_bytes ? "  (the drafter reads the prompt now)" : "  (nothing to read: the cells are the target's)", 1e3 * b->guess);
  for (int i = 0; i < COUNT_ROWS; i++)
    printf("  pass over %d token%s%20.3f ms   x %.2f\n", verify_rows[i], verify_rows[i] > 1 ? "s" : " ", 1e3 * b->verify[i], b->verify[i] / b->verify[0]);
  if (b->alone_step > 0)
    printf("  the drafter alone, with a cache of its own length: prompt %.3f ms, token %.3f ms\n", 1e3 * b->alone_prompt, 1e3 * b->alone_step);
  printf("\nAllocations while %d tokens were produced with %" PRId64 " guesses (%" PRId64 " right): %" PRIu64 "\n", LOOP_TOKENS, b->n_drafted, b->n_accepted,
         b->allocations);
}

static void write_pool(const share *b) {
  const tandem_pool_report *p = &b->pool;
  printf("\nPool of %d pages after %d random operations of %d sequences\n  %" PRId64 " appends, %" PRId64 " refused for lack of pages, %" PRId64
         " refused though there were enough\n  used %.1f %% on average; cells of used pages that hold nothing %.2f %% on average, %.2f %% at most\n"
         "  pages lost %" PRId64 ", allocations %" PRIu64 ", %.0f ns an operation\n",
         POOL_PAGES, POOL_OPERATIONS, POOL_SEQUENCES, p->n_appends, p->n_refused, p->n_unusable, 100 * p->mean_used, 100 * p->mean_waste,
         100 * p->worst_waste, p->n_lost, p->n_allocations, 1e9 * p->seconds / POOL_OPERATIONS);
}

static void write_sweep(const share *b) {
  printf("\nContext granted in the room that a budget leaves behind llama.cpp's margin of 1 GiB; T: trained length of the target; over:\n"
         "bytes by which llama.cpp's grant exceeds the room (the margin pays)\n%10s", "room");
  for (int k = 0; k < COUNT_LENGTHS; k++) printf("  | T %-7" PRId64 " llama.cpp   over  tandem", lengths[k]);
  putchar('\n');
  for (int i = 0; i < COUNT_BUDGETS; i++) {
    char size[32];
    cli_size_text(size, (uint64_t)(b->budgets[i].bytes - margin));
    printf("%10s", size);
    for (int k = 0; k < COUNT_LENGTHS; k++) {
      char over[32];
      cli_size_text(over, (uint64_t)b->budgets[i].overrun[k]);
      printf("  | %19" PRId64 " %6s %7" PRId64, b->budgets[i].llama[k], b->budgets[i].overrun[k] > 0 ? over : "-", b->budgets[i].tandem[k]);
    }
    putchar('\n');
  }
}

static void write_crossings(const share *b) {
  printf("\nWhen the target's grant is below the drafter's default length D: b9549 aborts there, b9550 and Tandem run with the target's length\n");
  for (int k = 0; k < COUNT_LENGTHS; k++)
    for (int d = 0; d < COUNT_DRAFTERS; d++) {
      char room[32];
      cli_size_text(room, isfinite(b->crossing[k][d]) ? (uint64_t)b->crossing[k][d] : 0);
      printf("  T %-7" PRId64 " D %-7" PRId64 " ", lengths[k], drafters[d]);
      if (isinf(b->crossing[k][d])) puts("always: the target was trained for less");
      else if (b->crossing[k][d] == 0) puts("never: the target is granted at least 4096");
      else printf("room below %s\n", room);
    }
}

static status write_json(const share *b) {
  json j;
  json_open(&j, false, b->err);
  json_put_object(&j, NULL);
  json_put_string(&j, "draft_kind", b->info.draft_kind, strlen(b->info.draft_kind));
  json_put_array(&j, "bytes");
  for (int i = 0; i < b->n_bytes; i++) {
    json_put_object(&j, NULL);
    json_put_int(&j, "context", b->bytes[i].n_context);
    json_put_uint(&j, "target", b->bytes[i].target_kv);
    json_put_uint(&j, "here", b->bytes[i].borrowed);
    json_put_uint(&j, "companion", b->bytes[i].companion);
    json_put_uint(&j, "separate", b->bytes[i].separate);
    json_put_end_object(&j);
  }
  json_put_end_array(&j);
  json_put_object(&j, "seconds");
  json_put_int(&j, "prompt_tokens", b->o->share_prompt);
  json_put_double(&j, "prompt", b->prompt);
  json_put_double(&j, "first_guess", b->first_guess);
  json_put_double(&j, "guess", b->guess);
  json_put_array(&j, "verify");
  for (int i = 0; i < COUNT_ROWS; i++) {
    json_put_object(&j, NULL);
    json_put_int(&j, "rows", verify_rows[i]);
    json_put_double(&j, "seconds", b->verify[i]);
    json_put_end_object(&j);
  }
  json_put_end_array(&j);
  json_put_double(&j, "alone_prompt", b->alone_prompt);
  json_put_double(&j, "alone_step", b->alone_step);
  json_put_end_object(&j);
  json_put_uint(&j, "allocations", b->allocations);
  json_put_object(&j, "pool");
  json_put_int(&j, "operations", b->pool.n_operations);
  json_put_int(&j, "appends", b->pool.n_appends);
  json_put_int(&j, "refused", b->pool.n_refused);
  json_put_int(&j, "unusable", b->pool.n_unusable);
  json_put_int(&j, "lost", b->pool.n_lost);
  json_put_double(&j, "mean_waste", b->pool.mean_waste);
  json_put_double(&j, "worst_waste", b->pool.worst_waste);
  json_put_end_object(&j);
  json_put_array(&j, "crossings");
  for (int k = 0; k < COUNT_LENGTHS; k++)
    for (int d = 0; d < COUNT_DRAFTERS; d++) {
      json_put_object(&j, NULL);
      json_put_int(&j, "trained", lengths[k]);
      json_put_int(&j, "drafter", drafters[d]);
      json_put_double(&j, "room", b->crossing[k][d]);
      json_put_end_object(&j);
    }
  json_put_end_array(&j);
  json_put_array(&j, "budgets");
  for (int i = 0; i < COUNT_BUDGETS; i++)
    for (int k = 0; k < COUNT_LENGTHS; k++) {
      json_put_object(&j, NULL);
      json_put_double(&j, "bytes", b->budgets[i].bytes);
      json_put_int(&j, "trained", lengths[k]);
      json_put_int(&j, "llama", b->budgets[i].llama[k]);
      json_put_double(&j, "overrun", b->budgets[i].overrun[k]);
      json_put_int(&j, "tandem", b->budgets[i].tandem[k]);
      json_put_end_object(&j);
    }
  json_put_end_array(&j);
  json_put_end_object(&j);
  return cli_json_out(&j);
}

/* Two plots in one picture: bytes by context, context by budget. */
static status draw(const share *b, const char *path) {
  const double gib = 1024.0 * 1024 * 1024, mib = 1024.0 * 1024;
  svg s = {.err = b->err};
  svg_begin(&s, 980, 430);
  svg_panel kv = {.x = 70, .y = 50, .w = 380, .h = 290, .title = "keys and values of the drafter, MiB", .label = "context, tokens"};
  svg_panel fit = {.x = 560, .y = 50, .w = 380, .h = 290, .title = "context granted, T = 131072", .label = "budget, GiB"};
  const char *const names[] = {"separate (its own length)", "companion (target's pages)", "borrowed"};
  double x[COUNT_BUDGETS], y[3][COUNT_BUDGETS];
  for (int i = 0; i < b->n_bytes; i++) {
    x[i] = (double)b->bytes[i].n_context;
    y[0][i] = (double)b->bytes[i].separate / mib;
    y[1][i] = (double)b->bytes[i].companion / mib;
    y[2][i] = 0;
  }
  svg_range(&kv, x, y[0], b->n_bytes);
  svg_range(&kv, x, y[1], b->n_bytes);
  svg_axes(&s, &kv);
  for (int k = 0; k < 3; k++) svg_line(&s, &kv, k, SVG_LINE, names[k], x, y[k], b->n_bytes);
  const char *const rules[] = {"llama.cpp b9550 (the drafter follows)", "tandem", "a drafter's default, 32768: b9549 aborts below it"};
  for (int i = 0; i < COUNT_BUDGETS; i++) {
    x[i] = b->budgets[i].bytes / gib;
    y[0][i] = (double)b->budgets[i].llama[COUNT_LENGTHS - 1];
    y[1][i] = (double)b->budgets[i].tandem[COUNT_LENGTHS - 1];
    y[2][i] = 32768;
  }
  svg_range(&fit, x, y[0], COUNT_BUDGETS);
  svg_axes(&s, &fit);
  for (int k = 0; k < 3; k++) svg_line(&s, &fit, k, SVG_LINE, rules[k], x, y[k], COUNT_BUDGETS);
  svg_end(&s);
  status st = s.st ? s.st : os_write_all(path, s.out.bytes, s.out.n, b->err);
  text_free(&s.out);
  return st;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

status cli_bench_share(const cli_options *o, error *err) {
  static share b; /* 20 KiB, not for the stack */
  b = (share){.o = o, .err = err, .info = {.size = sizeof b.info}, .pool = {.size = sizeof b.pool}};
  tandem_engine_params params;
  tandem_engine *engine = NULL;
  status st;
  if (!o->draft) return base_fail(err, TANDEM_ERROR_ARGUMENT, "draft", "no drafter; give its file with -d");
  tandem_engine_params_init(&params);
  params.n_context = o->share_prompt + LOOP_TOKENS + STEPS + 32;
  params.draft = o->draft;
  params.draft_wish = TANDEM_DRAFT_REQUIRED;
  TRY_DONE(cli_open(&engine, &params, o, err));
  TRY_DONE(tandem_engine_get_info(engine, &b.info, err));
  TRY_DONE(measure(&b, engine));
  TRY_DONE(count_bytes(&b));
  TRY_DONE(tandem_measure_pool(POOL_PAGES, POOL_SEQUENCES, POOL_OPERATIONS, 1, &b.pool, err));
  TRY_DONE(sweep(&b));
  TRY_DONE(find_crossings(&b));
  if (o->plot) TRY_DONE(draw(&b, o->plot));
  if (o->json) {
    st = write_json(&b);
    goto done;
  }
  write_bytes(&b);
  write_times(&b);
  write_pool(&b);
  write_sweep(&b);
  write_crossings(&b);
done:
  tandem_engine_close(engine);
  return st;
}
