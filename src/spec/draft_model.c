/* draft_model: an independent small model of the same vocabulary. Its K/V lie in stores of their own on the target's pages: same
 * page ids, same positions, same sequences, so append, fork and truncate happen once for both, and there is no second
 * context to size. Only how far its cells are filled is its own affair: `done` tokens of a sequence.
 *
 * It catches up when it is asked, a whole stretch in one pass; while it sleeps it costs nothing. If it has layers whose window
 * lets go of pages, it catches up when it is told of new tokens (settle), before the pages it needs are gone; what it
 * missed while it was not told cannot be made up for, and it stays silent until the sequence begins anew. */
#include <string.h>

#include "spec/spec.h"

typedef struct model_drafter {
  spec_drafter base;
  spec_host host;
  kv_borrow borrows[OP_MAX_GROUPS];
  int32_t n_borrows, max_rows;
  bool slides;                                    /* some layer of it loses cells */
  int64_t done[PLAN_MAX_SESSIONS];                /* tokens whose cells are filled */
  bool lost[PLAN_MAX_SESSIONS];
  int32_t *ids, *positions, *sequences, *outputs; /* [max_rows] */
  spec_ask *row[PLAN_MAX_SESSIONS];
  float *wide;                                    /* [n_vocab of the target], if the drafter's is another */
} model_drafter;

static status run(model_drafter *d, int32_t n, int32_t n_outputs, error *err) {
  op_batch b = {.n_tokens = n, .n_outputs = n_outputs, .ids = d->ids, .positions = d->positions, .sequences = d->sequences, .outputs = d->outputs};
  for (int g = 0; g < d->host.plan->n_groups; g++) b.tables[g] = d->host.tables[g];
  return plan_run(d->host.plan, d->host.ops, d->host.device, d->host.memory, &b, err);
}

static bool is_id(const model_drafter *d, int32_t id) { return id >= 0 && id < d->host.plan->model->n_vocab; }

/* Puts tokens from .. to - 1 of a sequence behind the n rows there are. */
static int32_t add_rows(model_drafter *d, int32_t n, int32_t sequence, const int32_t *tokens, int64_t from, int64_t to) {
  for (int64_t p = from; p < to; p++, n++) {
    d->ids[n] = is_id(d, tokens[p]) ? tokens[p] : 0; /* a token it does not know: its guesses suffer, no more */
    d->positions[n] = (int32_t)p;
    d->sequences[n] = sequence;
  }
  return n;
}

/* Are the pages still there that the token at `position` sees? */
static bool reachable(const model_drafter *d, int32_t sequence, int64_t position) {
  const plan *p = d->host.plan;
  for (int32_t i = 0; i < p->n_caches; i++) {
    int64_t window = p->groups[p->caches[i].group].window;
    int64_t from = window > 0 && position >= window ? position - window + 1 : 0;
    if (window > 0 && kv_pages_first(d->host.pages[p->caches[i].group], sequence) > from) return false;
  }
  return true;
}

/* Fills cells up to `to`. */
static status catch_up(model_drafter *d, int32_t sequence, const int32_t *tokens, int64_t to, error *err) {
  while (d->done[sequence] < to) {
    int64_t from = d->done[sequence], end = to - from > d->max_rows ? from + d->max_rows : to;
    if (d->slides && !reachable(d, sequence, from)) {
      d->lost[sequence] = true;
      return TANDEM_OK;
    }
    TRY(run(d, add_rows(d, 0, sequence, tokens, from, end), 0, err));
    d->done[sequence] = end;
  }
  return TANDEM_OK;
}

/* Brings each sequence to its last token, which is the row it drafts from. What is missing in front goes along in the same pass. */
static status first_rows(model_drafter *d, spec_ask *asks, int32_t n_asks, int32_t *n_rows, error *err) {
  int32_t n = 0;
  *n_rows = 0;
  for (int32_t i = 0; i < n_asks; i++) {
    spec_ask *a = &asks[i];
    int32_t s = a->sequence;
    a->n_out = 0;
    if (d->lost[s]) continue;
    int64_t missing = a->n - d->done[s];
    if (missing + 1 > d->max_rows - n) {
      if (n == 0 || *n_rows == 0) TRY(catch_up(d, s, a->tokens, a->n, err)); /* overwrites the rows: there are none yet */
      else continue; /* no room beside the others this time */
      if (d->lost[s]) continue;
    }
    if (d->slides && !reachable(d, s, d->done[s])) {
      d->lost[s] = true;
      continue;
    }
    n = add_rows(d, n, s, a->tokens, d->done[s], a->n + 1);
    d->done[s] = a->n + 1;
    d->outputs[*n_rows] = n - 1;
    d->row[(*n_rows)++] = a;
  }
  return n ? run(d, n, *n_rows, err) : TANDEM_OK;
}

/* The drafter's row as wide as the target's vocabulary; what the drafter does not have is banned. */
static const float *row_of(const model_drafter *d, int32_t i) {
  int64_t own = d->host.plan->model->n_vocab;
  const float *row = d->host.memory->logits + (size_t)i * (size_t)own;
  if (!d->wide) return row;
  for (int64_t id = 0; id < d->host.n_vocab; id++) d->wide[id] = id < own ? row[id] : -__builtin_inff();
  return d->wide;
}

static int32_t take_rows(model_drafter *d, int32_t n) {
  int32_t on = 0;
  for (int32_t i = 0; i < n; i++) {
    spec_ask *a = d->row[i];
    const float *logits = row_of(d, i);
    if (a->rows) memcpy(a->rows + (size_t)a->n_out * (size_t)d->host.n_vocab, logits, (size_t)d->host.n_vocab * sizeof *logits);
    if (spec_take(a, logits, d->host.n_vocab)) d->row[on++] = a;
  }
  return on;
}

static status propose(spec_drafter *base, spec_ask *asks, int32_t n_asks, error *err) {
  model_drafter *d = (model_drafter *)base;
  int32_t n;
  for (int g = 0; g < d->n_borrows; g++) kv_borrow_renew(&d->borrows[g]);
  TRY(first_rows(d, asks, n_asks, &n, err));
  while ((n = take_rows(d, n)) > 0) {
    for (int32_t i = 0; i < n; i++) { /* each evaluates its newest draft */
      const spec_ask *a = d->row[i];
      add_rows(d, i, a->sequence, a->tokens, a->n + a->n_out, a->n + a->n_out + 1);
      d->done[a->sequence] = a->n + a->n_out + 1;
      d->outputs[i] = i;
    }
    TRY(run(d, n, n, err));
  }
  return TANDEM_OK;
}

/* Cells of the first n tokens stay good: they are a function of those tokens alone. */
static void begin(spec_drafter *base, int32_t sequence, const int32_t *tokens, int64_t n) {
  model_drafter *d = (model_drafter *)base;
  (void)tokens;
  if (d->done[sequence] > n) d->done[sequence] = n;
  if (n == 0) d->lost[sequence] = false;
}

static void settle(spec_drafter *base, int32_t sequence, const int32_t *tokens, int64_t from, int64_t n) {
  model_drafter *d = (model_drafter *)base;
  /* Drafts that were not accepted left cells behind: the tokens there are others now. Token `from` is the last that was known
   * before the drafts; accepted ones beyond are told by being in tokens. */
  (void)from;
  if (d->done[sequence] > n) d->done[sequence] = n;
  if (d->slides && !d->lost[sequence] && catch_up(d, sequence, tokens, n, NULL)) d->lost[sequence] = true;
}

static void share_prefix(spec_drafter *base, int32_t from, int32_t to, int64_t n) {
  model_drafter *d = (model_drafter *)base;
  d->done[to] = d->done[from] < n ? d->done[from] : n;
  d->lost[to] = d->lost[from];
}

static void close_model(spec_drafter *base) {
  model_drafter *d = (model_drafter *)base;
  if (!d) return;
  for (int g = 0; g < d->n_borrows; g++) kv_borrow_close(&d->borrows[g]);
  base_free(d->ids);
  base_free(d->wide);
  base_free(d);
}

const spec_ops spec_model = {.name = "model", .alias = "draft-simple", .summary = "a small model of the same vocabulary", .needs_model = true, .close = close_model,
                             .begin = begin, .propose = propose, .settle = settle, .fork = share_prefix};

status spec_model_open(spec_drafter **out, const spec_host *host, error *err) {
  void *memory;
  status st;
  *out = NULL;
  TRY(base_alloc(&memory, sizeof(model_drafter), "drafter", err));
  model_drafter *d = memory;
  d->base.ops = &spec_model;
  d->host = *host;
  d->max_rows = host->plan->limits.max_tokens;
  for (int g = 0; g < host->plan->n_groups; g++) d->slides |= host->plan->groups[g].n_layers > 0 && host->plan->groups[g].window > 0;
  TRY_DONE(base_alloc_array(&memory, 4 * (size_t)d->max_rows, sizeof(int32_t), "drafter's batch", err));
  d->ids = memory;
  d->positions = d->ids + d->max_rows;
  d->sequences = d->positions + d->max_rows;
  d->outputs = d->sequences + d->max_rows;
  if (host->plan->model->n_vocab != host->n_vocab) {
    TRY_DONE(base_alloc_array(&memory, (size_t)host->n_vocab, sizeof(float), "drafter's logits", err));
    d->wide = memory;
  }
  for (; d->n_borrows < host->plan->n_groups; d->n_borrows++) kv_borrow_open(&d->borrows[d->n_borrows], host->pages[d->n_borrows]);
  *out = &d->base;
  return TANDEM_OK;
done:
  close_model(&d->base);
  return st;
}
