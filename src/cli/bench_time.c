/* bench_time: speed, held against roofs measured between the stretches of the same run.
 *
 *   prompt    2 (n (macs - head) + head) operations for n tokens: every multiply-add of weights is two; the head (n_embd x n_vocab)
 *             is needed for the last token only. The peak is that of int8, bf16 or f32: what most of them are
 *   decode    bytes of weights and of the keys and values that a token reads, at the speed of reading memory
 *   verify    the slower of the two for a pass over n tokens with all their logits: reading once, or n times the arithmetic. Of E
 *             experts, k used by a token, n tokens read E (1 - (1 - k / E)^n): what is chosen evenly, as by random weights
 *
 * Prompts and passes are held against a second roof as well, in which attention is computed at its own peak: f32, or bf16
 * if keys are.
 * Memory and clock of a shared machine change within seconds, so nothing is compared with another minute:
 *   ceilings, stretch, ceilings, .. ceilings   a stretch's share is of the mean of the ceilings on its two sides
 *   1, 2, 1, 4, 1, 8, 1, 16, 1, ..             a pass's cost is in the mean of the single ones on its two sides
 * What is reported are medians. Those of stretches feel what else runs; a ceiling is the best of some slices. */
#include "cli/bench.h"

#include <inttypes.h>
#include <math.h>

enum { MIN_ROUNDS = 5, MAX_ROUNDS = 1000, MIN_STRETCHES = 5, MIN_LONG_STRETCHES = 3, MAX_STRETCHES = 4096, MAX_SLICES = 12 };
static const double verify_seconds = 1;      /* for each repetition: rounds of passes go on for this long, so that medians settle */
static const double stretch_seconds = 0.02;  /* at least: what a ceiling drove out of the caches is then no matter */
static const double long_seconds = 10;       /* stretches so long need no more than MIN_LONG_STRETCHES */
/* A thread that is taken away is back after some milliseconds: a slice is shorter than that, so that some are whole, and enough of
 * them are taken that the best two are. */
static const double slice_seconds = 0.002, ceiling_seconds = 0.008, longest_ceiling = 0.2;
static const double agreement = 0.97, disturbed = 0.7; /* of the best slice */

typedef struct roofs {
  double at[TANDEM_CEILINGS]; /* by tandem_ceiling, a second; 0 = not needed */
} roofs;

struct bench_run {
  const cli_options *o;
  error *err;
  tandem_engine *engine;
  tandem_engine_info info;
  tandem_session *base;    /* if the model has windows: holds the context, as they let go of what going back to it needs */
  tandem_session *session; /* goes on from the context */
  int32_t *ids;            /* [n_context] random: position i always holds ids[i] */
  float *logits;           /* [n_rows][n_vocab] */
  int64_t depth;
  int64_t n_slices, n_disturbed;
  double rates[MAX_STRETCHES], shares[MAX_STRETCHES], with_attention[MAX_STRETCHES];
  roofs roofs[MAX_STRETCHES + 1];
  struct { double seconds[MAX_ROUNDS], cost[MAX_ROUNDS], share[MAX_ROUNDS], with_attention[MAX_ROUNDS]; } passes[CLI_LIST];
};

/* Of one token, or of one pass. */
typedef struct work {
  double bytes, ops, attention; /* attention: operations */
} work;

static status stopped(const bench_run *r) {
  return cli_interrupted() ? base_fail(r->err, TANDEM_ERROR_CANCELLED, NULL, "stopped") : TANDEM_OK;
}

/* ---- roofs --------------------------------------------------------------------------------------------------------- */

status bench_run_ceiling(bench_run *r, tandem_ceiling what, double *best) {
  double slices[MAX_SLICES], second = 0, start = os_seconds(), taken;
  int n = 0;
  *best = 0;
  do {
    TRY(stopped(r));
    double *v = &slices[n++];
    TRY(tandem_measure_ceiling(r->engine, what, slice_seconds, v, r->err));
    if (*v > *best) second = *best, *best = *v;
    else if (*v > second) second = *v;
    taken = os_seconds() - start;
  } while (n < MAX_SLICES && taken < longest_ceiling && (taken < ceiling_seconds || second < agreement * *best));
  for (int i = 0; i < n; i++) r->n_disturbed += slices[i] < disturbed * *best;
  r->n_slices += n;
  return TANDEM_OK;
}

double bench_run_disturbed(const bench_run *r) { return r->n_slices ? (double)r->n_disturbed / (double)r->n_slices : 0; }

/* kinds: bits 1 << tandem_ceiling. */
static status measure_roofs(bench_run *r, unsigned kinds, roofs *to) {
  for (int i = 0; i < TANDEM_CEILINGS; i++) {
    to->at[i] = 0;
    if (kinds & 1u << i) TRY(bench_run_ceiling(r, (tandem_ceiling)i, &to->at[i]));
  }
  return TANDEM_OK;
}

static double between(const roofs *two, int what) { return (two[0].at[what] + two[1].at[what]) / 2; }

static double median_roof(const bench_run *r, int what, size_t n) {
  double v[MAX_STRETCHES + 1];
  for (size_t i = 0; i < n; i++) v[i] = r->roofs[i].at[what];
  return cli_median(v, n);
}

/* Positions that n tokens behind the context see, on average; through a window if it is not 0. */
static double mean_seen(const bench_run *r, int64_t n, int64_t window) {
  double sum = 0;
  for (int64_t i = 1; i <= n; i++) sum += (double)(window && window < r->depth + i ? window : r->depth + i);
  return sum / (double)n;
}

/* How many times as many experts n tokens use as one, if each uses any with the same chance and whatever the others use. */
static double more_experts(const tandem_engine_info *i, int64_t n) {
  if (!i->n_experts) return 1;
  double used = (double)i->n_experts_used / i->n_experts;
  return (1 - pow(1 - used, (double)n)) / used;
}

/* Of one of n tokens of a prompt, which have one row of logits between them, or of decode; bytes of a pass are those of all its tokens. */
static work work_of(const bench_run *r, int64_t n, bench_test test) {
  const tandem_engine_info *i = &r->info;
  double head = (double)i->n_embd * i->n_vocab, body = (double)i->macs - head, all = mean_seen(r, n, 0), few = mean_seen(r, n, i->window);
  if (body < 0) head = (double)i->macs, body = 0;
  double weights = (double)i->read_bytes + (test == BENCH_VERIFY ? more_experts(i, n) - 1 : 0) * (double)i->expert_bytes;
  return (work){.bytes = weights + all * (double)i->cell_bytes + few * (double)i->window_cell_bytes,
                .ops = 2 * (body + (test == BENCH_PROMPT ? head / (double)n : head)),
                .attention = 2 * (all * (double)i->cell_macs + few * (double)i->window_cell_macs)};
}

/* ---- the context ---------------------------------------------------------------------------------------------------- */

status bench_run_open(bench_run **run, const cli_options *o, const tandem_engine_info *planned, int64_t n_context, int64_t n_rows,
                      error *err) {
  void *memory;
  tandem_engine_params params;
  status st;
  *run = NULL;
  TRY(base_alloc(&memory, sizeof **run, "benchmark", err));
  bench_run *r = memory; /* zero */
  r->o = o;
  r->err = err;
  r->info.size = sizeof r->info;
  tandem_engine_params_init(&params);
  params.n_context = n_context;
  params.n_sequences = planned->window ? 2 : 1;
  TRY_DONE(cli_open(&r->engine, &params, o, err));
  TRY_DONE(tandem_engine_get_info(r->engine, &r->info, err));
  TRY_DONE(base_alloc_array((void **)&r->ids, (size_t)n_context, sizeof *r->ids, "random ids", err));
  TRY_DONE(base_alloc_array((void **)&r->logits, (size_t)r->info.n_vocab, (size_t)n_rows * sizeof *r->logits, "rows of logits", err));
  cli_fill_ids(r->ids, (size_t)n_context, r->info.n_vocab);
  if (r->info.window) TRY_DONE(tandem_session_open(&r->base, r->engine, NULL, err));
  TRY_DONE(tandem_session_open(&r->session, r->engine, NULL, err));
done:
  if (st) bench_run_close(r);
  else *run = r;
  return st;
}

void bench_run_close(bench_run *r) {
  if (!r) return;
  tandem_session_close(r->session);
  tandem_session_close(r->base);
  tandem_engine_close(r->engine);
  base_free(r->ids);
  base_free(r->logits);
  base_free(r);
}

const tandem_engine_info *bench_run_info(const bench_run *r) { return &r->info; }

/* A fork copies the page it shares when it writes there: at the first token, which is evaluated here and forgotten. */
static status fork_again(bench_run *r) {
  tandem_session_close(r->session);
  r->session = NULL;
  TRY(tandem_session_fork(&r->session, r->base, r->depth, r->err));
  TRY(tandem_session_decode(r->session, r->ids + r->depth, 1, NULL, NULL, r->err));
  return tandem_session_truncate(r->session, r->depth, r->err);
}

static status go_back(bench_run *r) { return r->base ? fork_again(r) : tandem_session_truncate(r->session, r->depth, r->err); }

static bool go_on(void *user, int64_t done, int64_t total) {
  (void)user, (void)done, (void)total;
  return !cli_interrupted();
}

status bench_run_depth(bench_run *r, int64_t depth) {
  r->depth = depth;
  if (!r->base) return tandem_session_sync(r->session, r->ids, depth, go_on, NULL, r->err);
  TRY(tandem_session_truncate(r->session, 0, r->err)); /* its pages are free */
  TRY(tandem_session_sync(r->base, r->ids, depth, go_on, NULL, r->err));
  return fork_again(r);
}

/* ---- tokens --------------------------------------------------------------------------------------------------------- */

/* Work for stretch_seconds: whole prompts, or tokens one by one, n and then from the context again. Going back is not timed. */
static status run_stretch(bench_run *r, int64_t n, bool at_once, int64_t *n_done, double *tokens_per_second) {
  double taken = 0;
  int64_t done = 0;
  do {
    TRY(stopped(r));
    if (at_once || tandem_session_length(r->session) >= r->depth + n) TRY(go_back(r));
    int64_t at = tandem_session_length(r->session), many = at_once ? n : 1;
    double start = os_seconds();
    TRY(tandem_session_decode(r->session, r->ids + at, many, NULL, NULL, r->err));
    taken += os_seconds() - start;
    done += many;
  } while (taken < stretch_seconds);
  *n_done += done;
  *tokens_per_second = (double)done / taken;
  return TANDEM_OK;
}

static void fill_row(bench_row *row, double per_token, double ceiling) {
  bool read = row->roof == TANDEM_CEILING_READ;
  row->ceiling = ceiling / (read ? 1e9 : 1e12);
  *(read ? &row->gb_per_second : &row->tops) = row->tokens_per_second * per_token / (read ? 1e9 : 1e12);
}

status bench_run_tokens(bench_run *r, bench_row *row) {
  bool prompt = row->test == BENCH_PROMPT;
  work w = work_of(r, row->n, row->test);
  row->roof = prompt ? r->info.arithmetic : TANDEM_CEILING_READ;
  unsigned kinds = 1u << row->roof | (prompt ? 1u << r->info.cell_arithmetic : 0);
  double per_token = prompt ? w.ops : w.bytes, start;
  int64_t done = 0, wanted = row->n * r->o->repetitions;
  size_t i = 0;
  TRY(go_back(r));
  TRY(run_stretch(r, row->n, prompt, &done, &r->rates[0])); /* warms up */
  TRY(measure_roofs(r, kinds, &r->roofs[0]));
  start = os_seconds();
  for (done = 0; i < MAX_STRETCHES; i++) {
    size_t least = os_seconds() - start > long_seconds ? MIN_LONG_STRETCHES : MIN_STRETCHES;
    if (i >= least && done >= wanted) break;
    TRY(run_stretch(r, row->n, prompt, &done, &r->rates[i]));
    TRY(measure_roofs(r, kinds, &r->roofs[i + 1]));
    double seconds = per_token / between(&r->roofs[i], row->roof);
    r->shares[i] = r->rates[i] * seconds;
    if (prompt) r->with_attention[i] = r->rates[i] * (seconds + w.attention / between(&r->roofs[i], (int)r->info.cell_arithmetic));
  }
  row->tokens_per_second = cli_median(r->rates, i);
  row->of_roof = cli_median(r->shares, i);
  if (prompt) row->with_attention = cli_median(r->with_attention, i);
  fill_row(row, per_token, median_roof(r, row->roof, i + 1));
  return go_back(r);
}

/* ---- passes --------------------------------------------------------------------------------------------------------- */

/* One pass over n tokens behind the context, with all logits. */
static status time_pass(bench_run *r, int64_t n, double *seconds) {
  TRY(stopped(r));
  double start = os_seconds();
  TRY(tandem_session_decode_all(r->session, r->ids + r->depth, n, r->logits, r->err));
  *seconds = os_seconds() - start;
  return tandem_session_truncate(r->session, r->depth, r->err);
}

/* Seconds that a pass over n tokens must take; cells: the peak of attention, 0 = it is not counted. */
static double slower_roof(const work *w, double read, double arithmetic, double cells, int64_t n, bool *reads) {
  double reading = w->bytes / read, computing = (double)n * (w->ops / arithmetic + (cells > 0 ? w->attention / cells : 0));
  *reads = reading >= computing;
  return *reads ? reading : computing;
}

static void fill_pass(const bench_run *r, int i_pass, size_t rounds, bench_row *row) {
  tandem_ceiling arithmetic = r->info.arithmetic;
  work w = work_of(r, row->n, BENCH_VERIFY), one = work_of(r, 1, BENCH_VERIFY);
  double read = median_roof(r, TANDEM_CEILING_READ, rounds + 1), ops = median_roof(r, (int)arithmetic, rounds + 1);
  double cells = median_roof(r, (int)r->info.cell_arithmetic, rounds + 1), seconds[MAX_ROUNDS];
  bool reads;
  for (size_t k = 0; k < rounds; k++) seconds[k] = r->passes[i_pass].seconds[k];
  row->roof_cost = slower_roof(&w, read, ops, cells, row->n, &reads) / slower_roof(&one, read, ops, cells, 1, &reads);
  slower_roof(&w, read, ops, 0, row->n, &reads);
  row->roof = reads ? TANDEM_CEILING_READ : arithmetic;
  row->tokens_per_second = (double)row->n / cli_median(seconds, rounds);
  fill_row(row, reads ? w.bytes / (double)row->n : w.ops, reads ? read : ops);
}

/* Shares of the round between two measurements of the roofs. */
static void add_shares(bench_run *r, const bench_row *rows, int n, size_t round) {
  const roofs *beside = &r->roofs[round];
  double read = between(beside, TANDEM_CEILING_READ), ops = between(beside, (int)r->info.arithmetic), cells = between(beside, (int)r->info.cell_arithmetic);
  bool reads;
  for (int i = 0; i < n; i++) {
    work w = work_of(r, rows[i].n, BENCH_VERIFY);
    double seconds = r->passes[i].seconds[round];
    r->passes[i].share[round] = slower_roof(&w, read, ops, 0, rows[i].n, &reads) / seconds;
    r->passes[i].with_attention[round] = slower_roof(&w, read, ops, cells, rows[i].n, &reads) / seconds;
  }
}

status bench_run_passes(bench_run *r, bench_row *rows, int n) {
  unsigned kinds = 1u << TANDEM_CEILING_READ | 1u << r->info.arithmetic | 1u << r->info.cell_arithmetic;
  double before, after, end;
  size_t k = 0;
  for (int i = 0; i < n; i++) TRY(time_pass(r, rows[i].n, &before)); /* warms up */
  TRY(measure_roofs(r, kinds, &r->roofs[0]));
  for (end = os_seconds() + verify_seconds * (double)r->o->repetitions; k < MAX_ROUNDS && (k < MIN_ROUNDS || os_seconds() < end); k++) {
    TRY(time_pass(r, 1, &before)); /* finds the caches as the ceiling left them */
    TRY(time_pass(r, 1, &before));
    for (int i = 0; i < n; i++, before = after) {
      TRY(time_pass(r, rows[i].n, &r->passes[i].seconds[k]));
      TRY(time_pass(r, 1, &after));
      r->passes[i].cost[k] = r->passes[i].seconds[k] / ((before + after) / 2);
    }
    TRY(measure_roofs(r, kinds, &r->roofs[k + 1]));
    add_shares(r, rows, n, k);
  }
  for (int i = 0; i < n; i++) {
    fill_pass(r, i, k, &rows[i]);
    rows[i].cost = cli_median(r->passes[i].cost, k);
    rows[i].of_roof = cli_median(r->passes[i].share, k);
    rows[i].with_attention = cli_median(r->passes[i].with_attention, k);
  }
  return TANDEM_OK;
}
