/* run.c: what the verifier could not know, checked for each batch: ids, positions, sequences, and that every page a step will
 * read or write is in the table and in the pool. Then the device walks the steps. Allocates nothing. */
#include "plan/plan.h"

/* The cells that a token at `position` sees and perhaps writes; `behind` as in ATTEND. */
static status check_pages(const plan_group *g, const int32_t *table, int32_t position, int32_t behind, int32_t i, error *err) {
  if (position < behind)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "positions", "token %d at position %d: no cell is visible", i, position);
  int64_t first = g->window > 0 && position >= g->window ? position - g->window + 1 : 0;
  for (int64_t b = first / KV_PAGE; b <= (position - behind) / KV_PAGE; b++)
    if (table[b] < 0 || table[b] >= g->pages.n_pages)
      return base_fail(err, TANDEM_ERROR_INTERNAL, "page", "token %d at position %d: block %lld of group %s has page %d of %d", i, position,
                       (long long)b, g->name, table[b], g->pages.n_pages);
  return TANDEM_OK;
}

static status check_token(const plan *p, const op_batch *b, int32_t i, error *err) {
  int32_t id = b->ids[i], position = b->positions[i], sequence = b->sequences[i];
  if (id < 0 || id >= p->model->n_vocab)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "ids", "token %d: id %d, must be 0 to %lld", i, id, (long long)p->model->n_vocab - 1);
  if (position < 0 || position >= p->limits.n_context)
    return base_fail(err, TANDEM_ERROR_CONTEXT, "positions", "token %d: position %d, the context has %lld", i, position, (long long)p->limits.n_context);
  if (sequence < 0 || sequence >= PLAN_MAX_SESSIONS)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "sequences", "token %d: sequence %d, must be 0 to %d", i, sequence, PLAN_MAX_SESSIONS - 1);
  bool follows = i > 0 && b->sequences[i - 1] == sequence && b->positions[i - 1] + 1 == position;
  if (follows && position % KV_PAGE) return TANDEM_OK; /* same page as the token before, whose window began no later */
  for (int g = 0; g < p->n_groups; g++)
    if (p->groups[g].n_layers) TRY(check_pages(&p->groups[g], b->tables[g][sequence], position, p->limits.behind, i, err));
  return TANDEM_OK;
}

status plan_run(const plan *p, const device_ops *ops, device *d, const device_binding *bind, const op_batch *b, error *err) {
  if (b->n_tokens < 1 || b->n_tokens > p->limits.max_tokens)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_tokens", "n_tokens: %d, must be 1 to %d", b->n_tokens, p->limits.max_tokens);
  if (b->n_outputs < 0 || b->n_outputs > p->limits.max_outputs)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_outputs", "n_outputs: %d, must be 0 to %d", b->n_outputs, p->limits.max_outputs);
  for (int32_t i = 0; i < b->n_tokens; i++) TRY(check_token(p, b, i, err));
  for (int32_t o = 0; o < b->n_outputs; o++)
    if (b->outputs[o] < 0 || b->outputs[o] >= b->n_tokens)
      return base_fail(err, TANDEM_ERROR_ARGUMENT, "outputs", "output %d: token %d, must be 0 to %d", o, b->outputs[o], b->n_tokens - 1);
  device_program program = plan_program(p);
  return ops->run(d, &program, bind, b, err);
}
