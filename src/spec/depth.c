/* depth.c: how far to guess. Renewal-reward: the best rate R* = max_k E(k) / C(k) prices time, so a draft is worth a row if it
 * brings more tokens than R* times the row's seconds. Everything is measured while running, there is nothing to set.
 *
 *   T(N)      seconds of a pass: means by rows and context, made non-decreasing, interpolated
 *   c         seconds of a draft
 *   a(i, p)   does draft i match if all before did: counts of the sequence, shrunk to the engine's, those to a prior
 *   asleep    no guess paid for a while: only probes, further and further apart
 *
 * Mistakes cost time, never tokens. */
#include <math.h>
#include <string.h>

#include "spec/spec.h"

enum {
  MAX_ROWS = SPEC_MAX_DEPTH + 1,
  FRESH = 4,          /* measurements until a mean is believed: the first meet cold caches and workers that sleep */
  MEMORY = 50,        /* = 1 / (1 - DECAY): measurements that a mean remembers */
  SPIKE = 4,          /* longer than so many times what is expected: another process was on the machine */
  EXPLORE = 64,       /* every 64th decision is another depth */
  DOZE = 64,          /* tokens without a guess that pays, then asleep */
  FIRST_WAIT = 32, LAST_WAIT = 1024,
  STREAK = 32,        /* probes in a row; if they do not wake it, matching is not what is wrong */
  TRIAL = 256,        /* drafts after which a model that never matches is given up */
};
static const double DECAY = 0.98, DECAY_NEWS = 0.8;
static const double WEIGHT_ENGINE = 8, WEIGHT_PRIOR = 32;
/* Behind the first measurements the cut is nearer: on a busy machine one pass in ten is interrupted for many times its length, and
 * what is compared is the undisturbed pass. A machine that became slower is followed by 1 % a measurement. */
static const double LONG = 1.5, LONG_EARLY = 2; /* the latter among the first, where means are rough */
static const double PER_ROW = 0.03;    /* a row more, as a share of one, until it is measured */
static const double WAKE = 1.05;       /* gain to wake up for */
static const double HOPELESS = 0.02;
static const double PROBE_SHARE = 0.01;/* a probe may cost so much of the time it watches over */
static const double SURE = 0.98;       /* the best draft there is, for the room that is asked for */

/* ---- what a pass costs ------------------------------------------------------------------------------------------- */

static int context_of(int64_t n) { return n < 1 ? 0 : 63 - __builtin_clzll((uint64_t)n) > 31 ? 31 : 63 - __builtin_clzll((uint64_t)n); }

/* The bucket nearest to `b` in which N rows were measured; there is one. */
static int nearest_context(uint32_t known, int b) {
  uint32_t below = known & (0xffffffffu >> (31 - b)), above = known >> b;
  if (!below) return b + __builtin_ctz(above);
  int down = 31 - __builtin_clz(below);
  return above && __builtin_ctz(above) < b - down ? b + __builtin_ctz(above) : down;
}

static double by_rows(int32_t n) { return 1 + PER_ROW * (n - 1); }

/* A single measurement may have been cold: it is tried again before it counts. */
static bool counts_already(const spec_costs *c, int32_t rows, int at) { return rows == 1 || c->n_pass[rows][at] >= 2; }

/* T of 1 .. n rows into t[n + 1]; false if nothing was measured. Measured numbers of rows that get cheaper with more are pooled (the
 * algorithm of pool adjacent violators), what lies between two is interpolated, beyond them goes by_rows. */
static bool fill_times(const spec_costs *c, int64_t n_context, int32_t n, double *t) {
  double mean[MAX_ROWS], weight[MAX_ROWS];
  int32_t last[MAX_ROWS], first[MAX_ROWS], n_pools = 0;
  int b = context_of(n_context);
  for (int32_t rows = 1; rows <= MAX_ROWS; rows++) {
    if (!c->known[rows]) continue;
    int at = nearest_context(c->known[rows], b);
    if (!counts_already(c, rows, at)) continue;
    mean[n_pools] = c->pass[rows][at], weight[n_pools] = c->n_pass[rows][at];
    first[n_pools] = last[n_pools] = rows;
    for (; n_pools > 0 && mean[n_pools - 1] > mean[n_pools]; n_pools--) {
      double w = weight[n_pools - 1] + weight[n_pools];
      mean[n_pools - 1] = (mean[n_pools - 1] * weight[n_pools - 1] + mean[n_pools] * weight[n_pools]) / w;
      weight[n_pools - 1] = w;
      last[n_pools - 1] = last[n_pools];
    }
    n_pools++;
  }
  if (n_pools == 0) return false;
  for (int32_t rows = 1, at = 0; rows <= n; rows++) {
    while (at < n_pools && last[at] < rows) at++;
    if (at == n_pools) t[rows] = mean[at - 1] * by_rows(rows) / by_rows(last[at - 1]);
    else if (rows >= first[at]) t[rows] = mean[at];
    else if (at == 0) t[rows] = mean[0] * by_rows(rows) / by_rows(first[0]);
    else t[rows] = mean[at - 1] + (mean[at] - mean[at - 1]) * (rows - last[at - 1]) / (first[at] - last[at - 1]);
  }
  return true;
}

/* The same for any number of rows, NULL if nothing was measured: as a rule it is there already, in the costs. */
static const double *times_of(const spec_costs *c, int64_t n_context, double room[MAX_ROWS + 1]) {
  if (c->times_at == context_of(n_context) + 1) return c->times;
  return fill_times(c, n_context, MAX_ROWS, room) ? room : NULL;
}

/* A decayed mean with a memory of 50. Spikes are cut; the first measurements are high rather than low. */
static void add_time(float *mean, uint8_t *n, double x) {
  double most = (*n > FRESH ? LONG : LONG_EARLY) * (double)*mean;
  if (*n && *mean > 0 && x > most) x = most;
  if (*n && *n <= FRESH && x < *mean / 2) *n = 0;
  if (*n < MEMORY) ++*n;
  *mean = *n == 1 ? (float)x : *mean + (float)((x - *mean) / *n);
}

void spec_costs_pass(spec_costs *c, int32_t n_rows, int64_t n_context, double seconds) {
  int b = context_of(n_context);
  if (n_rows < 1 || n_rows > MAX_ROWS || !(seconds > 0)) return;
  if (!(c->known[n_rows] >> b & 1)) {
    double t[MAX_ROWS + 1];
    bool any = fill_times(c, n_context, n_rows, t);
    if (c->known[n_rows]) { /* starts from its neighbour's, which is worth what is behind it */
      int at = nearest_context(c->known[n_rows], b);
      bool counts = counts_already(c, n_rows, at);
      c->pass[n_rows][b] = counts ? (float)t[n_rows] : c->pass[n_rows][at];
      c->n_pass[n_rows][b] = c->n_pass[n_rows][at] < FRESH ? c->n_pass[n_rows][at] : FRESH;
    } else if (any && seconds > SPIKE * t[n_rows]) {
      seconds = SPIKE * t[n_rows];
    }
    c->known[n_rows] |= 1u << b;
  }
  add_time(&c->pass[n_rows][b], &c->n_pass[n_rows][b], seconds);
  c->times_at = fill_times(c, n_context, MAX_ROWS, c->times) ? b + 1 : 0;
}

double spec_costs_pass_seconds(const spec_costs *c, int32_t n_rows, int64_t n_context) {
  double room[MAX_ROWS + 1];
  const double *t = times_of(c, n_context, room);
  if (n_rows < 1 || !t) return 0;
  return n_rows > MAX_ROWS ? t[MAX_ROWS] * by_rows(n_rows) / by_rows(MAX_ROWS) : t[n_rows];
}

/* One time for two unknowns: both are off by the same factor. A difference could make one of them 0, and a time that is cut at a
 * multiple of 0 leads nowhere. */
void spec_costs_draft(spec_costs *c, spec_kind kind, int32_t n, double seconds) {
  float *cost = c->draft[kind];
  if (n < 1 || !(seconds >= 0)) return;
  c->newest[kind] = (float)seconds;
  double guess = cost[0] + (n - 1) * (c->n_draft[kind][1] ? (double)cost[1] : (double)cost[0]);
  double off = guess > 0 ? seconds / guess : 0;
  double first = guess > 0 ? cost[0] * off : seconds / n;
  double next = guess > 0 && c->n_draft[kind][1] ? cost[1] * off : first;
  add_time(&cost[0], &c->n_draft[kind][0], first);
  if (n > 1) add_time(&cost[1], &c->n_draft[kind][1], next);
}

/* Seconds of draft i = 1, 2, ..; t_1: a pass of one row, for guessing. */
static double draft_seconds(const spec_costs *c, spec_kind kind, int32_t i, double t_1) {
  double guess = kind >= SPEC_SHARED ? 0.05 * t_1 : 0;
  if (i > 1 && c->n_draft[kind][1] >= FRESH) return c->draft[kind][1];
  if (c->n_draft[kind][0] >= FRESH) return c->draft[kind][0];
  return c->n_draft[kind][0] && (double)c->draft[kind][0] < guess ? c->draft[kind][0] : guess;
}

/* ---- acceptance -------------------------------------------------------------------------------------------------- */

static int bucket_of(float p) {
  static const float edges[SPEC_BUCKETS - 1] = {.1f, .25f, .4f, .55f, .7f, .85f, .95f};
  int b = 0;
  while (b < SPEC_BUCKETS - 1 && p >= edges[b]) b++;
  return b;
}

static int position_of(int32_t i) { return i < SPEC_POSITIONS ? i - 1 : SPEC_POSITIONS - 1; }

/* Start values. Models: measured on Gemma 4 26B with its assistant, given that all before matched: .84 .71 .64 .70. */
static double start_of(spec_kind kind, int32_t i) { return kind < SPEC_SHARED ? .5 : i == 1 ? .8 : i == 2 ? .7 : .65; }

/* The prior is forgotten as fast as old observations are: what is left of its weight after `seen` decayed ones. */
static double prior_weight(double seen) { return seen < MEMORY ? WEIGHT_PRIOR * (1 - seen * (1 - DECAY)) : 0; }

static double engine_mean(double matched, double seen, double prior) {
  double w = prior_weight(seen);
  return (matched + w * prior) / (seen + w);
}

/* The engine's acceptance at position i, of all buckets. Where little was seen it follows from the position before, as the start
 * values do: what holds for the first drafts holds for the next. `before`: of position i - 1. */
static double engine_next(const spec_costs *c, spec_kind kind, int32_t i, double before) {
  int at = position_of(i);
  double prior = i == 1 ? start_of(kind, 1) : before * start_of(kind, i) / start_of(kind, i - 1);
  return i > SPEC_POSITIONS ? before : engine_mean(c->taken[kind][at], c->offered[kind][at], prior);
}

static double shrink(double matched, double seen, double engine) { return (matched + WEIGHT_ENGINE * engine) / (seen + WEIGHT_ENGINE); }

/* Of a draft that is not there yet. */
static double expect(const spec_depth *d, spec_kind kind, int32_t i, double engine) {
  int at = position_of(i);
  return shrink(d->taken[kind][at], d->offered[kind][at], engine);
}

/* Of one that is there. An n-gram's promise is better than what all of them kept; a model's is not known to mean anything. */
static double expect_of(const spec_depth *d, const spec_costs *c, int32_t i, float p) {
  static const double by_promise[SPEC_BUCKETS] = {.5, .5, .5, .5, .625, .775, .9, .97};
  spec_kind kind = d->kind;
  int at = position_of(i), b = bucket_of(p);
  double all = d->engine[i];
  if (!(p >= 0)) return d->expected[i];
  double engine = engine_mean(c->accepted[kind][at][b], c->seen[kind][at][b], kind < SPEC_SHARED ? by_promise[b] : all);
  return shrink(d->accepted[kind][at][b], d->seen[kind][at][b], engine);
}

static void observe(float *matched, float *seen, bool match, double decay) {
  *matched = (float)(*matched * decay + match);
  *seen = (float)(*seen * decay + 1);
}

/* A match in sleep is news: it outweighs the misses before it. */
static double decay_of(const spec_depth *d, spec_kind kind, bool match) { return match && d->sleep[kind].asleep ? DECAY_NEWS : DECAY; }

static void observe_offer(spec_depth *d, spec_costs *c, spec_kind kind, int32_t i, bool match) {
  int at = position_of(i);
  observe(&d->taken[kind][at], &d->offered[kind][at], match, decay_of(d, kind, match));
  observe(&c->taken[kind][at], &c->offered[kind][at], match, DECAY);
}

static void observe_draft(spec_depth *d, spec_costs *c, spec_kind kind, int32_t i, float p, bool match) {
  int at = position_of(i), b = bucket_of(p);
  observe(&d->accepted[kind][at][b], &d->seen[kind][at][b], match, decay_of(d, kind, match));
  observe(&c->accepted[kind][at][b], &c->seen[kind][at][b], match, DECAY);
  observe_offer(d, c, kind, i, match);
}

/* ---- the decision ------------------------------------------------------------------------------------------------ */

typedef struct depth_plan {
  int32_t best, room;   /* best depth; the deepest that could pay if the drafter is sure */
  double rate, plain;   /* tokens a second at the best depth and at 0 */
  double ideal;         /* ... if every draft matched, of the depths that were tried */
  float expected[SPEC_MAX_DEPTH + 1], engine[SPEC_MAX_DEPTH + 1];
} depth_plan;

/* Rows of depth k, as an index of the times. */
static int32_t rows_of(int32_t n_sequences, int64_t k) { return n_sequences * (k + 1) > MAX_ROWS ? MAX_ROWS : (int32_t)(n_sequences * (k + 1)); }

/* The most rows whose time counts. Passes are never tried with more than twice as many: by_rows knows nothing of this machine. */
static int32_t tried_rows(const spec_costs *c, int32_t n_sequences, int64_t n_context) {
  int32_t most = MAX_ROWS, b = context_of(n_context);
  while (most > n_sequences && !(c->known[most] && counts_already(c, most, nearest_context(c->known[most], b)))) most--;
  return most;
}

static bool make_plan(const spec_depth *d, const spec_costs *c, spec_kind kind, int32_t limit, int32_t n, int64_t n_context, depth_plan *p) {
  double room[MAX_ROWS + 1], reach = 1, tokens = n, drafting = 0, engine = 0;
  const double *t = times_of(c, n_context, room);
  if (limit > SPEC_MAX_DEPTH) limit = SPEC_MAX_DEPTH;
  if (n * (limit + 1) > MAX_ROWS) limit = MAX_ROWS / n - 1;
  int32_t tried = tried_rows(c, n, n_context);
  if (2 * tried / n - 1 < limit) limit = 2 * tried / n - 1;
  if (limit < 1 || !t) return false;
  *p = (depth_plan){.plain = n / t[n], .rate = n / t[n]};
  for (int32_t k = 1; k <= limit; k++) {
    engine = engine_next(c, kind, k, engine);
    p->engine[k] = (float)engine;
    p->expected[k] = (float)expect(d, kind, k, engine);
    reach *= p->expected[k];
    tokens += n * reach;
    drafting += draft_seconds(c, kind, k, t[1]);
    double rate = tokens / (t[rows_of(n, k)] + drafting), ideal = n * (k + 1) / (t[rows_of(n, k)] + drafting);
    if (ideal > p->ideal && (n * (k + 1) <= tried || tried == n)) p->ideal = ideal;
    if (rate > p->rate) p->rate = rate, p->best = k;
  }
  double sure = pow(SURE, p->best);
  for (p->room = p->best; p->best > 0 && p->room < limit; p->room++) {
    sure *= SURE;
    if (n * sure <= p->rate * (t[rows_of(n, p->room + 1)] - t[rows_of(n, p->room)] + draft_seconds(c, kind, p->room + 1, t[1]))) break;
  }
  return true;
}

void spec_depth_begin(spec_depth *d) {
  *d = (spec_depth){0};
  for (int k = 0; k < SPEC_KINDS; k++) d->sleep[k].wait = FIRST_WAIT;
}

/* A plain pass must be known to be worth beating; its mean is renewed by the plain steps among the explorations. */
static bool plain_known(const spec_costs *c, int32_t n, int64_t n_context) {
  return n > MAX_ROWS || (c->known[n] && c->n_pass[n][nearest_context(c->known[n], context_of(n_context))] >= FRESH);
}

/* Every 64th decision: one deeper, none, one deeper, one less. */
static int32_t explore(const struct spec_sleep *s, int32_t limit, const depth_plan *p, bool *forced) {
  if (s->decisions % EXPLORE != EXPLORE - 1) return p->room;
  uint32_t turn = s->decisions / EXPLORE % 4;
  if (turn == 1) return 0;
  if (turn == 3) return p->best - 1;
  *forced = p->best < limit;
  return *forced ? p->best + 1 : p->best;
}

int32_t spec_depth_ask(spec_depth *d, const spec_costs *c, spec_kind kind, int32_t limit, int32_t n_sequences, int64_t n_context) {
  struct spec_sleep *s = &d->sleep[kind];
  depth_plan p;
  bool forced = false;
  if (s->asleep && s->next > 0) return 0;
  if (s->off || limit < 1 || n_sequences < 1 || !plain_known(c, n_sequences, n_context)) return 0;
  if (!make_plan(d, c, kind, limit, n_sequences, n_context, &p)) return 0;
  if (s->asleep && p.best > 0 && p.rate >= WAKE * p.plain) {
    s->asleep = false;
    s->wait = FIRST_WAIT;
  }
  s->best = s->asleep ? 0 : p.best;
  s->hopeful = p.ideal >= WAKE * p.plain;
  int32_t k = s->asleep ? (forced = true) : s->best ? explore(s, limit, &p, &forced) : 0;
  s->plain = k == 0 && s->best > 0;
  if (k == 0) return 0;
  d->kind = kind;
  d->asked = k;
  d->dropped = 0;
  d->forced = forced;
  d->n_sequences = n_sequences;
  d->n_context = n_context;
  d->rate = p.rate;
  d->reach = 1;
  memcpy(d->expected, p.expected, sizeof p.expected);
  memcpy(d->engine, p.engine, sizeof p.engine);
  return k;
}

/* What further drafts behind draft i bring at best, in tokens, time priced by the rate: 0 if none. A step may lose by one draft and
 * win by three, where rows come in tiles. */
static double outlook(const spec_depth *d, const spec_costs *c, int32_t i, double reach, const double *t) {
  double gain = 0, most = 0;
  int32_t at = rows_of(d->n_sequences, i);
  for (int32_t j = i + 1; j <= d->asked; j++) {
    int32_t rows = rows_of(d->n_sequences, j);
    reach *= d->expected[j];
    gain += d->n_sequences * reach - d->rate * (t[rows] - t[at] + draft_seconds(c, d->kind, j, t[1]));
    if (gain > most) most = gain;
    at = rows;
  }
  return most;
}

spec_verdict spec_depth_more(spec_depth *d, const spec_costs *c, int32_t i, float p) {
  double room[MAX_ROWS + 1];
  const double *t = times_of(c, d->n_context, room);
  int32_t n = d->n_sequences;
  if (d->forced || !t || i > d->asked) return (spec_verdict){true, i < d->asked};
  double reach = d->reach * expect_of(d, c, i, p), further = outlook(d, c, i, reach, t);
  if (n * reach + further <= d->rate * (t[rows_of(n, i)] - t[rows_of(n, i - 1)])) {
    d->dropped = i;
    return (spec_verdict){false, false};
  }
  d->reach = reach;
  return (spec_verdict){true, further > 0};
}

/* ---- what came of it --------------------------------------------------------------------------------------------- */

/* A probe that matched is followed by another at once: either it wakes the drafter or was luck. */
static void after_probe(spec_depth *d, const spec_costs *c, spec_kind kind, bool matched) {
  struct spec_sleep *s = &d->sleep[kind];
  double watched = (double)s->wait * spec_costs_pass_seconds(c, 1, d->n_context);
  s->streak = matched ? s->streak + 1 : 0;
  if (matched && s->hopeful && s->streak < STREAK) {
    s->wait = FIRST_WAIT;
    s->next = 0;
    return;
  }
  /* A drafter that must catch up with all it slept through can be dearer awake than asleep. */
  if (kind >= SPEC_SHARED && s->wait > FIRST_WAIT && (double)c->newest[kind] > PROBE_SHARE * watched) s->off = true;
  s->wait = s->wait * 2 < LAST_WAIT ? s->wait * 2 : LAST_WAIT;
  s->next = s->wait;
}

static void doze(struct spec_sleep *s, int32_t committed) {
  s->idle = s->best > 0 ? 0 : s->idle + committed;
  if (s->asleep || s->idle < DOZE) return;
  s->asleep = true;
  s->wait = s->next = FIRST_WAIT;
}

static void give_up(struct spec_sleep *s) {
  if (s->n_tried < TRIAL) return;
  s->off = s->n_matched < HOPELESS * s->n_tried;
  s->n_tried = s->n_matched = 0;
}

void spec_depth_learn(spec_depth *d, spec_costs *c, spec_kind kind, int32_t drafted, int32_t accepted, const float *p, int32_t committed) {
  struct spec_sleep *s = &d->sleep[kind];
  bool mine = d->kind == kind && d->asked > 0, was_asleep = s->asleep;
  if (accepted > drafted) accepted = drafted;
  for (int32_t i = 1; i <= drafted && i <= accepted + 1; i++) observe_draft(d, c, kind, i, p ? p[i - 1] : -1, i <= accepted);
  if (was_asleep) s->next -= committed;
  if (kind >= SPEC_SHARED && drafted > 0) {
    s->n_tried += accepted < drafted ? accepted + 1 : accepted;
    s->n_matched += accepted;
    give_up(s);
  }
  if (mine) {
    /* Time was spent on a draft that was not kept: it counts as one that did not match. An n-gram that is not found is free. */
    if (drafted == accepted && d->dropped == drafted + 1) observe_offer(d, c, kind, d->dropped, false);
    else if (drafted == 0 && kind >= SPEC_SHARED) observe_offer(d, c, kind, 1, false);
    if (was_asleep && (drafted > 0 || kind >= SPEC_SHARED)) after_probe(d, c, kind, accepted > 0);
    d->asked = 0;
  }
  s->decisions += mine || s->plain;
  s->plain = false;
  doze(s, committed);
}
