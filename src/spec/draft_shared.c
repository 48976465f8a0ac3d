/* draft_shared: a draft head that reads the target's cells (gemma4-assistant). It computes queries only: step i gets a token, a row
 * of the target's width and one constant position, sees the committed cells, and gives logits and the row for the next step.
 * Nothing is stored, so a rejected draft leaves nothing behind and a prompt costs it nothing.
 *
 * All sequences that are drafting are rows of one batch; a sequence that stops drops out and the rest close ranks. Owns the
 * arrays of the batch and its holds on the target's pages; the rows between steps lie in OP_HIDDEN. */
#include <string.h>

#include "spec/spec.h"

typedef struct shared_drafter {
  spec_drafter base;
  spec_host host;
  kv_borrow borrows[OP_MAX_GROUPS];
  int32_t n_borrows, max_rows;
  int32_t *ids, *positions, *sequences; /* [max_rows] */
  spec_ask **row;                       /* [max_rows] whose row it is */
} shared_drafter;

static char *given(const shared_drafter *d, int32_t row) {
  const op_value *v = &d->host.plan->values[d->host.plan->given];
  return (char *)d->host.memory->hidden + v->offset + (size_t)row * v->stride;
}

static size_t given_bytes(const shared_drafter *d) { return (size_t)d->host.plan->values[d->host.plan->given].cols * sizeof(float); }

/* The sequences that can draft: a hidden row, and cells to see. */
static int32_t begin_rows(shared_drafter *d, spec_ask *asks, int32_t n_asks) {
  int32_t n = 0, behind = d->host.plan->limits.behind;
  for (int g = 0; g < d->n_borrows; g++) kv_borrow_renew(&d->borrows[g]);
  for (int32_t i = 0; i < n_asks; i++) {
    spec_ask *a = &asks[i];
    a->n_out = 0;
    bool visible = a->hidden && a->n > 0 && n < d->max_rows;
    for (int g = 0; visible && g < d->n_borrows; g++) visible = !kv_borrow_check(&d->borrows[g], a->sequence, a->n - 1 + behind, NULL);
    if (!visible) continue;
    d->ids[n] = a->tokens[a->n];
    d->positions[n] = (int32_t)(a->n - 1 + behind);
    d->sequences[n] = a->sequence;
    memcpy(given(d, n), a->hidden, given_bytes(d));
    d->row[n++] = a;
  }
  return n;
}

/* Draws a token from each row; those that go on move up. Returns how many do. */
static int32_t take_rows(shared_drafter *d, int32_t n) {
  size_t n_vocab = (size_t)d->host.n_vocab;
  int32_t on = 0;
  for (int32_t i = 0; i < n; i++) {
    spec_ask *a = d->row[i];
    const float *logits = d->host.memory->logits + (size_t)i * n_vocab;
    if (a->rows) memcpy(a->rows + (size_t)a->n_out * n_vocab, logits, n_vocab * sizeof *logits);
    if (!spec_take(a, logits, d->host.n_vocab)) continue;
    if (on < i) memcpy(given(d, on), given(d, i), given_bytes(d));
    d->ids[on] = a->tokens[a->n + a->n_out];
    d->positions[on] = d->positions[i];
    d->sequences[on] = d->sequences[i];
    d->row[on++] = a;
  }
  return on;
}

static status propose(spec_drafter *base, spec_ask *asks, int32_t n_asks, error *err) {
  shared_drafter *d = (shared_drafter *)base;
  int32_t n = begin_rows(d, asks, n_asks);
  while (n > 0) {
    op_batch b = {.n_tokens = n, .ids = d->ids, .positions = d->positions, .sequences = d->sequences};
    for (int32_t i = 0; i < n; i++)
      for (int g = 0; g < d->n_borrows; g++) TRY(kv_borrow_check(&d->borrows[g], d->sequences[i], d->positions[i], err));
    for (int g = 0; g < d->host.plan->n_groups; g++) b.tables[g] = d->host.tables[g];
    TRY(plan_run(d->host.plan, d->host.ops, d->host.device, d->host.memory, &b, err));
    n = take_rows(d, n);
  }
  return TANDEM_OK;
}

static void close_shared(spec_drafter *base) {
  shared_drafter *d = (shared_drafter *)base;
  if (!d) return;
  for (int g = 0; g < d->n_borrows; g++) kv_borrow_close(&d->borrows[g]);
  base_free(d->ids);
  base_free(d->row);
  base_free(d);
}

const spec_ops spec_shared = {.name = "shared", .alias = "draft-mtp", .summary = "a draft head over the target's own cells", .needs_model = true,
                              .close = close_shared, .propose = propose};

status spec_shared_open(spec_drafter **out, const spec_host *host, error *err) {
  void *memory;
  status st;
  *out = NULL;
  TRY(base_alloc(&memory, sizeof(shared_drafter), "drafter", err));
  shared_drafter *d = memory;
  d->base.ops = &spec_shared;
  d->host = *host;
  d->max_rows = host->plan->limits.max_tokens;
  TRY_DONE(base_alloc_array(&memory, 3 * (size_t)d->max_rows, sizeof(int32_t), "drafter's batch", err));
  d->ids = memory;
  d->positions = d->ids + d->max_rows;
  d->sequences = d->positions + d->max_rows;
  TRY_DONE(base_alloc_array(&memory, (size_t)d->max_rows, sizeof(spec_ask *), "drafter's rows", err));
  d->row = memory;
  for (; d->n_borrows < host->plan->n_groups; d->n_borrows++) kv_borrow_open(&d->borrows[d->n_borrows], host->pages[d->n_borrows]);
  *out = &d->base;
  return TANDEM_OK;
done:
  close_shared(&d->base);
  return st;
}
