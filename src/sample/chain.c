/* chain: the filters from logits to a token, as one table, and the draw at its end.
 *
 *   logits [n_vocab] --EDIT: bias, penalties, DRY--> edited --SELECT: top-k .. XTC, temperature--> candidates --draw--> id
 *
 * Owns a sampler: a copy of the parameters and scratch for one draw; nothing survives a draw. Candidates are always in
 * increasing order of their ids, so "ties to the lowest id" is "the first". Nothing is sorted: a filter that keeps the best
 * candidates finds where they end by weighing bins (keep_best).
 * Probabilities are exp(logit - largest logit) in double, never divided by their sum. Does not know sequences or models. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "sample/sample.h"

/* Candidates of one stretch of ranks, for keep_best. */
typedef struct bin {
  double mass;
  double low, high; /* ranks that occur */
} bin;

enum {
  FEW_BINS = 256, /* clearing many costs more than a pass over few candidates */
  MANY_BINS = 4096,
  MANY_FROM = 4096,  /* candidates */
  GATHER_ROOM = 1024 /* a gathering for top-k is thinned out when it has at least this many */
};

struct sampler {
  tandem_sampling params; /* its pointers lead into this allocation */
  int32_t n_vocab;
  float *edited;    /* [n_vocab], if a filter edits */
  int32_t *count;   /* [n_vocab], if penalties or DRY are on; zero between draws */
  int32_t capacity; /* of the candidates; 0 if greedy */
  int32_t *id;      /* [capacity] increasing */
  double *logit;    /* [capacity] */
  double *weight;   /* [capacity] exp(logit - largest when weighed), valid if the draw says so */
  double *rank;     /* [capacity], if typical is on */
  bin *bins;        /* [MANY_BINS] */
  sample_dry *dry;  /* NULL if off */
};

typedef struct draw {
  sampler *s;
  const float *logits; /* the caller's, or the edited ones */
  const int32_t *history;
  int64_t n_history;
  uint64_t index;
  int32_t n;          /* candidates; -1: not gathered yet, all are */
  double max;         /* the largest logit of all candidates */
  double temperature; /* what differences to it are divided by */
  bool weighed;       /* weights are valid */
} draw;

/* ---- looking at logits -------------------------------------------------------------------------------------------- */

typedef struct extremes {
  float max; /* -inf if all are */
  bool bad;  /* a NaN or +inf is there */
} extremes;

static extremes scan(const float *x, int32_t n) {
  enum { LANES = 16 };
  float max[LANES];
  int bad[LANES] = {0};
  for (int j = 0; j < LANES; j++) max[j] = -INFINITY;
  int32_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int j = 0; j < LANES; j++) {
      float v = x[i + j];
      max[j] = v > max[j] ? v : max[j];
      bad[j] |= !(v <= FLT_MAX);
    }
  for (; i < n; i++) {
    max[0] = x[i] > max[0] ? x[i] : max[0];
    bad[0] |= !(x[i] <= FLT_MAX);
  }
  extremes e = {max[0], bad[0] != 0};
  for (int j = 1; j < LANES; j++) {
    e.max = max[j] > e.max ? max[j] : e.max;
    e.bad |= bad[j] != 0;
  }
  return e;
}

static int32_t first_of(const float *x, int32_t n, float value) {
  int32_t i = 0;
  while (i < n - 1 && x[i] != value) i++;
  return i;
}

/* +inf is as bad as NaN: a draw from these logits is refused. */
int32_t sample_argmax(const float *logits, int32_t n_vocab) {
  extremes e = scan(logits, n_vocab);
  return e.bad || e.max == -INFINITY ? -1 : first_of(logits, n_vocab, e.max);
}

static status check_logits(const float *logits, int32_t n, const char *what, double *max, error *err) {
  extremes e = scan(logits, n);
  *max = (double)e.max;
  if (!e.bad && e.max > -INFINITY) return TANDEM_OK;
  int32_t id = 0;
  while (e.bad && logits[id] <= FLT_MAX) id++;
  if (e.bad)
    return base_fail(err, TANDEM_ERROR_NONFINITE, "logits", "%s: the one of id %d is %g", what, id, (double)logits[id]);
  return base_fail(err, TANDEM_ERROR_NONFINITE, "logits", "%s: all %d are -inf, from id 0 on", what, n);
}

/* ---- filters that edit logits ------------------------------------------------------------------------------------- */

float sample_settle(double logit) {
  if (logit == -INFINITY) return -INFINITY;
  return logit > FLT_MAX ? FLT_MAX : logit < -FLT_MAX ? -FLT_MAX : (float)logit;
}

static bool bias_on(const tandem_sampling *p) { return p->n_bias > 0; }

static void apply_bias(draw *d) {
  const tandem_sampling *p = &d->s->params;
  float *x = d->s->edited;
  for (size_t i = 0; i < p->n_bias; i++) x[p->bias[i].id] = sample_settle((double)x[p->bias[i].id] + (double)p->bias[i].bias);
}

static bool penalties_on(const tandem_sampling *p) {
  return p->repeat_last_n != 0 && (p->repeat_penalty != 1 || p->frequency_penalty != 0 || p->presence_penalty != 0);
}

/* Repetition (Keskar et al., CTRL): a positive logit is divided, a negative one multiplied; then, once for each token that
 * occurs among the last n: logit -= count * frequency + presence. */
static void apply_penalties(draw *d) {
  const tandem_sampling *p = &d->s->params;
  float *x = d->s->edited;
  int32_t *count = d->s->count, n_vocab = d->s->n_vocab;
  int64_t n = p->repeat_last_n < 0 || p->repeat_last_n > d->n_history ? d->n_history : p->repeat_last_n;
  const int32_t *window = d->history + (d->n_history - n);
  for (int64_t i = 0; i < n; i++)
    if (window[i] >= 0 && window[i] < n_vocab) count[window[i]]++;
  for (int64_t i = 0; i < n; i++) {
    int32_t id = window[i];
    if (id < 0 || id >= n_vocab || count[id] == 0) continue;
    double v = (double)x[id], repeat = (double)p->repeat_penalty;
    v = v > 0 ? v / repeat : v * repeat;
    v -= count[id] * (double)p->frequency_penalty + (double)p->presence_penalty;
    x[id] = sample_settle(v);
    count[id] = 0;
  }
}

static bool dry_on(const tandem_sampling *p) { return p->dry_multiplier > 0 && p->dry_last_n != 0; }

static void apply_dry(draw *d) {
  sample_dry_apply(d->s->dry, d->history, d->n_history, d->s->n_vocab, d->s->count, d->s->edited);
}

/* ---- candidates --------------------------------------------------------------------------------------------------- */

static void move(const sampler *s, int32_t to, int32_t from) {
  s->id[to] = s->id[from];
  s->logit[to] = s->logit[from];
  s->weight[to] = s->weight[from];
}

/* Where the best candidates end: ranks above `high` are in, those below `low` are out, those between are as good as
 * equal, and in while `above`, the weight of all before, is below the target. */
typedef struct border {
  double low, high, above;
} border;

/* Cuts the range of ranks into equal bins, as a bucket sort would, but follows only the bin in which the target is
 * reached, until its ranks are equal. The largest and the smallest rank never share a bin, so every round narrows the
 * range, most often by the number of bins. weight NULL: each weighs 1. */
static border find_border(const sampler *s, int32_t n, const double *rank, const double *weight, double target) {
  border b = {rank[0], rank[0], 0};
  int n_bins = n > MANY_FROM ? MANY_BINS : FEW_BINS;
  for (int32_t i = 0; i < n; i++) {
    b.low = rank[i] < b.low ? rank[i] : b.low;
    b.high = rank[i] > b.high ? rank[i] : b.high;
  }
  while (b.low < b.high) {
    double scale = (n_bins - 1) / (b.high - b.low);
    if (scale > DBL_MAX) break; /* they differ by less than 1e-304 */
    for (int i = 0; i < n_bins; i++) s->bins[i] = (bin){0, INFINITY, -INFINITY};
    for (int32_t i = 0; i < n; i++) {
      double x = rank[i];
      if (x < b.low || x > b.high) continue;
      bin *at = &s->bins[(int)((x - b.low) * scale)];
      at->mass += weight ? weight[i] : 1;
      at->low = x < at->low ? x : at->low;
      at->high = x > at->high ? x : at->high;
    }
    const bin *at = &s->bins[n_bins - 1];
    for (; at > s->bins && b.above + at->mass < target; at--) b.above += at->mass;
    b.low = at->low;
    b.high = at->high;
  }
  return b;
}

/* Keeps the smallest set of candidates, best rank first and lower ids first among equals, whose weight reaches the target;
 * at least one. rank may be the logits. */
static void keep_best(draw *d, const double *rank, const double *weight, double target) {
  border b = find_border(d->s, d->n, rank, weight, target);
  int32_t n = 0;
  for (int32_t i = 0; i < d->n; i++) {
    bool at_border = rank[i] <= b.high;
    if (rank[i] < b.low || (at_border && b.above >= target)) continue;
    if (at_border) b.above += weight ? weight[i] : 1;
    move(d->s, n++, i);
  }
  d->n = n;
}

/* Keeps the candidates whose value is at least `least`. */
static void keep_from(draw *d, const double *value, double least) {
  int32_t n = 0;
  for (int32_t i = 0; i < d->n; i++)
    if (value[i] >= least) move(d->s, n++, i);
  d->n = n;
}

/* Makes candidates of the tokens that are not banned, k > 0: of the k best of them. With k there is room for a few times
 * as many; whenever it is full only the best k stay, and the worst of them is what a later token must exceed. */
static void gather(draw *d, int32_t k) {
  sampler *s = d->s;
  if (d->n >= 0) return;
  d->n = 0;
  float least = -INFINITY;
  for (int32_t id = 0; id < s->n_vocab; id++) {
    if (!(d->logits[id] > least)) continue;
    s->id[d->n] = id;
    s->logit[d->n++] = (double)d->logits[id];
    if (d->n < s->capacity || id == s->n_vocab - 1) continue;
    keep_best(d, s->logit, NULL, k);
    double worst = s->logit[0];
    for (int32_t i = 1; i < d->n; i++) worst = s->logit[i] < worst ? s->logit[i] : worst;
    least = (float)worst; /* is one */
  }
  if (k > 0 && d->n > k) keep_best(d, s->logit, NULL, k);
}

/* Makes the weights valid; returns their sum. */
static double weigh(draw *d) {
  double sum[4] = {0};
  if (!d->weighed) sample_exps(d->s->logit, d->n, d->max, d->s->weight);
  d->weighed = true;
  for (int32_t i = 0; i < d->n; i++) sum[i % 4] += d->s->weight[i];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* The candidate with the largest logit may be gone. Weights stay as they are: relative to each other they are right. */
static void find_largest(draw *d) {
  d->max = d->s->logit[0];
  for (int32_t i = 1; i < d->n; i++) d->max = d->s->logit[i] > d->max ? d->s->logit[i] : d->max;
}

/* ---- filters that select ------------------------------------------------------------------------------------------ */

static bool top_k_on(const tandem_sampling *p) { return p->top_k > 0; }

static void apply_top_k(draw *d) { gather(d, d->s->params.top_k); }

static bool typical_on(const tandem_sampling *p) { return p->typical_p < 1; }

/* Locally typical sampling (Meister et al. 2022): the smallest set with probability typical_p, those first whose surprise
 * -ln p is nearest to the entropy. With x = logit - largest, ln p = x - ln sum. */
static void apply_typical(draw *d) {
  sampler *s = d->s;
  gather(d, 0);
  double sum = weigh(d), mean = 0;
  for (int32_t i = 0; i < d->n; i++) mean += s->weight[i] * (s->logit[i] - d->max);
  mean /= sum; /* of x: the entropy is ln sum - mean, so -ln p is as far from it as x from the mean */
  for (int32_t i = 0; i < d->n; i++) {
    double distance = s->logit[i] - d->max - mean;
    s->rank[i] = distance < 0 ? distance : -distance;
  }
  keep_best(d, s->rank, s->weight, (double)s->params.typical_p * sum);
  find_largest(d);
}

static bool top_p_on(const tandem_sampling *p) { return p->top_p < 1; }

/* Those that weigh less than (1 - p) sum / n are not needed, even together: most go at once. */
static void apply_top_p(draw *d) {
  gather(d, 0);
  double sum = weigh(d), p = (double)d->s->params.top_p;
  keep_from(d, d->s->weight, (1 - p) * sum / d->n);
  keep_best(d, d->s->logit, d->s->weight, p * sum);
}

static bool min_p_on(const tandem_sampling *p) { return p->min_p > 0; }

/* p >= min_p * largest p, in logarithms. */
static void apply_min_p(draw *d) {
  gather(d, 0);
  keep_from(d, d->s->logit, d->max + sample_log((double)d->s->params.min_p));
}

static bool xtc_on(const tandem_sampling *p) { return p->xtc_probability > 0 && p->xtc_threshold <= 0.5f; }

/* "Exclude top choices" (p-e-w, text-generation-webui #6335): with probability xtc_probability, of all candidates with
 * p >= threshold only the least likely stays, the last one among equals. */
static void apply_xtc(draw *d) {
  sampler *s = d->s;
  if (sample_uniform(s->params.seed, d->index, SAMPLE_STREAM_XTC, 0, 0) >= (double)s->params.xtc_probability) return;
  gather(d, 0);
  double least = weigh(d) * (double)s->params.xtc_threshold;
  int32_t last = -1, n = 0;
  for (int32_t i = 0; i < d->n; i++)
    if (s->weight[i] >= least && (last < 0 || s->logit[i] <= s->logit[last])) last = i;
  for (int32_t i = 0; i < d->n; i++) {
    if (s->weight[i] >= least && i != last) continue;
    move(s, n++, i);
  }
  d->n = n;
  find_largest(d);
}

static bool temperature_on(const tandem_sampling *p) { return p->temperature > 0; }

static void apply_temperature(draw *d) {
  gather(d, 0);
  d->temperature = (double)d->s->params.temperature;
}

/* ---- the table ---------------------------------------------------------------------------------------------------- */

typedef enum phase { EDIT, SELECT } phase;

typedef struct filter {
  const char *name;
  phase phase;
  bool (*active)(const tandem_sampling *p);
  void (*apply)(draw *d);
} filter;

/* In this order. Those that select are not asked at temperature 0. */
static const filter filters[] = {
    {"bias", EDIT, bias_on, apply_bias},
    {"penalties", EDIT, penalties_on, apply_penalties},
    {"dry", EDIT, dry_on, apply_dry},
    {"top_k", SELECT, top_k_on, apply_top_k},
    {"typical_p", SELECT, typical_on, apply_typical},
    {"top_p", SELECT, top_p_on, apply_top_p},
    {"min_p", SELECT, min_p_on, apply_min_p},
    {"xtc", SELECT, xtc_on, apply_xtc},
    {"temperature", SELECT, temperature_on, apply_temperature},
};

static bool edits(const tandem_sampling *p) {
  for (size_t i = 0; i < COUNT_OF(filters); i++)
    if (filters[i].phase == EDIT && filters[i].active(p)) return true;
  return false;
}

static void run_filters(draw *d, phase which) {
  for (size_t i = 0; i < COUNT_OF(filters); i++)
    if (filters[i].phase == which && filters[i].active(&d->s->params)) filters[i].apply(d);
}

/* ---- the draw ----------------------------------------------------------------------------------------------------- */

/* Words of the blocks first .. first + n - 1; ids 2 i and 2 i + 1 share block i. */
typedef struct noise {
  uint32_t key[2], counter[4];
  uint32_t first, n;
  uint32_t words[4][SAMPLE_LANES];
} noise;

/* Brings the block of candidate i. Where at least half of the next ids are candidates, many blocks at once are cheaper. */
static uint32_t bring_block(noise *z, const draw *d, int32_t i) {
  const int32_t *id = d->s->id;
  uint32_t block = (uint32_t)id[i] >> 1, one[4];
  if (block - z->first < z->n) return block - z->first;
  z->first = z->counter[3] = block;
  if (d->n - i > SAMPLE_LANES && id[i + SAMPLE_LANES] - id[i] <= 2 * SAMPLE_LANES) {
    z->n = SAMPLE_LANES;
    sample_philox_run(z->key, z->counter, z->words);
  } else {
    z->n = 1;
    sample_philox(z->key, z->counter, one);
    for (int j = 0; j < 4; j++) z->words[j][0] = one[j];
  }
  return 0;
}

/* argmax of s + G, G = -ln(-ln u), s = (logit - largest) / temperature: Gumbel-max. ln p is s less a constant, which does
 * not move the maximum. Most candidates need no logarithm: if u begins with n ones then 1 - u >= 2^-(n + 1), and
 * -ln u >= 1 - u gives G <= (n + 1) ln 2. No u gives more than 53 ln 2. */
static int32_t pick(const draw *d) {
  static const double ln2 = 0x1.62e42fefa39efp-1, slack = 1e-9; /* for the rounding of both sides */
  const sampler *s = d->s;
  uint64_t seed = s->params.seed;
  noise z = {.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
             .counter = {(uint32_t)d->index, (uint32_t)(d->index >> 32), SAMPLE_STREAM_DRAW << 24}};
  double best = -INFINITY;
  int32_t best_id = s->id[0];
  for (int32_t i = 0; i < d->n; i++) {
    double value = (s->logit[i] - d->max) / d->temperature;
    if (value + (53 * ln2 + slack) < best) continue;
    uint32_t lane = bring_block(&z, d, i);
    int pair = s->id[i] & 1 ? 2 : 0;
    uint32_t low = z.words[pair][lane], high = z.words[pair + 1][lane];
    int n_ones = high == UINT32_MAX ? 52 : __builtin_clz(~high);
    if (value + ((n_ones + 1) * ln2 + slack) < best) continue;
    double score = value - sample_log(-sample_log(sample_unit(low, high)));
    if (score > best) {
      best = score;
      best_id = s->id[i];
    }
  }
  return best_id;
}

status sample_draw(sampler *s, const float *logits, const int32_t *history, int64_t n_history, uint64_t index, int32_t *id,
                   error *err) {
  *id = -1;
  if (n_history < 0 || (n_history > 0 && !history))
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "history", "history: %lld tokens%s", (long long)n_history,
                     n_history < 0 ? ", must be at least 0" : " at NULL");
  draw d = {.s = s, .logits = logits, .history = history, .n_history = n_history, .index = index, .n = -1};
  TRY(check_logits(logits, s->n_vocab, "logits", &d.max, err));
  if (s->edited) {
    memcpy(s->edited, logits, (size_t)s->n_vocab * sizeof *logits);
    d.logits = s->edited;
    run_filters(&d, EDIT);
    TRY(check_logits(s->edited, s->n_vocab, "logits with their bias", &d.max, err)); /* it may ban what was left */
  }
  if (s->params.temperature == 0) {
    *id = first_of(d.logits, s->n_vocab, (float)d.max);
    return TANDEM_OK;
  }
  run_filters(&d, SELECT);
  *id = pick(&d);
  return TANDEM_OK;
}

/* ---- open and close ----------------------------------------------------------------------------------------------- */

/* Cuts arrays out of one allocation; without a base it only counts. */
typedef struct carver {
  char *base;
  size_t n_bytes;
  bool overflow;
} carver;

static void *carve(carver *c, size_t n, size_t size) {
  size_t start, bytes, end;
  if (n == 0) return NULL;
  if (!size_add(c->n_bytes, 63, &start) || !size_mul(n, size, &bytes) || !size_add(start & ~(size_t)63, bytes, &end)) {
    c->overflow = true;
    return NULL;
  }
  c->n_bytes = end;
  return c->base ? c->base + (start & ~(size_t)63) : NULL;
}

static int32_t capacity_for(const tandem_sampling *p, int32_t n_vocab) {
  if (p->temperature == 0) return 0;
  int64_t room = 2 * (int64_t)p->top_k;
  if (room < GATHER_ROOM) room = GATHER_ROOM;
  return p->top_k == 0 || room > n_vocab ? n_vocab : (int32_t)room;
}

/* Everything but the texts of the breakers. */
static void lay_out(sampler *s, carver *c) {
  const tandem_sampling *p = &s->params;
  size_t n_vocab = (size_t)s->n_vocab, capacity = (size_t)s->capacity;
  s->edited = carve(c, edits(p) ? n_vocab : 0, sizeof *s->edited);
  s->count = carve(c, penalties_on(p) || dry_on(p) ? n_vocab : 0, sizeof *s->count);
  s->id = carve(c, capacity, sizeof *s->id);
  s->logit = carve(c, capacity, sizeof *s->logit);
  s->weight = carve(c, capacity, sizeof *s->weight);
  s->rank = carve(c, typical_on(p) ? capacity : 0, sizeof *s->rank);
  s->bins = carve(c, capacity > 0 ? MANY_BINS : 0, sizeof *s->bins);
}

/* Copies what the parameters point to. */
static void copy_params(sampler *s, carver *c, const tandem_sampling *from) {
  tandem_logit_bias *bias = carve(c, from->n_bias, sizeof *bias);
  const char **breakers = carve(c, from->n_dry_breakers, sizeof *breakers);
  for (size_t i = 0; i < from->n_dry_breakers; i++) {
    size_t n = strlen(from->dry_breakers[i]) + 1;
    char *copy = carve(c, n, 1);
    if (!copy) continue; /* only counting */
    memcpy(copy, from->dry_breakers[i], n);
    breakers[i] = copy;
  }
  if (bias) memcpy(bias, from->bias, from->n_bias * sizeof *bias);
  s->params.bias = bias;
  s->params.dry_breakers = breakers;
}

size_t sample_bytes(const tandem_sampling *params, int32_t n_vocab) {
  sampler plan = {.params = *params, .n_vocab = n_vocab, .capacity = capacity_for(params, n_vocab)};
  carver count = {.n_bytes = sizeof(sampler)};
  lay_out(&plan, &count);
  copy_params(&plan, &count, params);
  return count.overflow ? SIZE_MAX : count.n_bytes;
}

status sample_open(sampler **s, const tandem_sampling *params, int32_t n_vocab, const tokenizer *t, error *err) {
  *s = NULL;
  tandem_sampling greedy;
  if (!params) { /* as a session without sampling */
    tandem_sampling_init(&greedy);
    greedy.temperature = 0;
    params = &greedy;
  }
  TRY(sample_check(params, n_vocab, err));
  size_t n_bytes = sample_bytes(params, n_vocab);
  if (n_bytes == SIZE_MAX)
    return base_fail(err, TANDEM_ERROR_MEMORY, "n_vocab", "sampler: scratch for %d tokens does not fit", n_vocab);
  void *memory;
  TRY(base_alloc(&memory, n_bytes, "sampler", err));
  carver cut = {.base = memory, .n_bytes = sizeof(sampler)};
  sampler *opened = memory;
  *opened = (sampler){.params = *params, .n_vocab = n_vocab, .capacity = capacity_for(params, n_vocab)};
  lay_out(opened, &cut);
  copy_params(opened, &cut, params);
  if (dry_on(params)) {
    status st = sample_dry_open(&opened->dry, &opened->params, t, err);
    if (st) {
      sample_close(opened);
      return st;
    }
  }
  *s = opened;
  return TANDEM_OK;
}

void sample_close(sampler *s) {
  if (!s) return;
  sample_dry_close(s->dry);
  base_free(s);
}

const tandem_sampling *sample_params(const sampler *s) { return &s->params; }
