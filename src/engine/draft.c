/* draft.c: the drafter beside the target: found by its file, planned on the target's pages, loaded. If it cannot be used, the
 * engine goes on without it and remembers why. */
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

size_t engine_draft_kv_bytes(const tandem_engine *e) {
  const plan *p = e->draft.plan;
  size_t n = 0;
  if (!p || p->model->arch->borrows) return 0;
  for (int g = 0; g < p->n_groups; g++) n += p->groups[g].store_bytes;
  return n;
}

size_t engine_draft_scratch_bytes(const tandem_engine *e) {
  const plan *p = e->draft.plan;
  return p ? p->home_bytes[OP_SCRATCH] + p->home_bytes[OP_LOGITS] + p->home_bytes[OP_HIDDEN] + p->work_bytes : 0;
}

static status check_vocab(const tandem_engine *e, error *err) {
  tokenizer *own = NULL;
  TRY(token_open(&own, e->draft.file, err));
  status st = spec_same_vocab(e->tokens, e->model->n_vocab, own, e->draft.model->n_vocab, err);
  token_close(own);
  return st;
}

/* Errors of a file begin with its name. */
static status named(const tandem_engine_params *params, status st, error *err) {
  if (st && st != TANDEM_ERROR_MEMORY && err && !strstr(err->text, params->draft)) base_fail_in(err, params->draft);
  return st;
}

status engine_draft_open(tandem_engine *e, const tandem_engine_params *params, error *err) {
  engine_draft *d = &e->draft;
  status st = gguf_open(&d->file, params->draft, err);
  if (!st) st = model_open(&d->model, d->file, e->ops, e->device, err);
  if (!st) st = check_vocab(e, err);
  return named(params, st, err);
}

status engine_draft_plan(tandem_engine *e, const tandem_engine_params *params, error *err) {
  engine_draft *d = &e->draft;
  /* A head takes one row for each sequence; a model must also catch up, with passes as long as the target's. */
  const plan_limits *l = &e->plan->limits;
  int32_t rows = d->model->arch->borrows ? l->n_sequences : l->max_tokens;
  return named(params, plan_open_draft(&d->plan, d->model, e->plan, e->ops, e->device, rows, params->draft_behind, err), err);
}

size_t engine_draft_batch_bytes(const tandem_engine *e) {
  const engine_draft *d = &e->draft;
  size_t rows = (size_t)d->plan->limits.max_tokens, wide = d->model->n_vocab == e->model->n_vocab ? 0 : (size_t)e->model->n_vocab * sizeof(float);
  return rows * (4 * sizeof(int32_t) + sizeof(void *)) + wide;
}

status engine_without_drafter(tandem_engine *e, const tandem_engine_params *params, status st, const error *why, error *err) {
  if (!st) return TANDEM_OK;
  bool matters = params->draft_wish == TANDEM_DRAFT_REQUIRED || (params->draft_wish == TANDEM_DRAFT_IF_IT_FITS && st != TANDEM_ERROR_MEMORY);
  if (matters || st == TANDEM_ERROR_CANCELLED) {
    if (err) *err = *why;
    return st;
  }
  snprintf(e->draft.off, sizeof e->draft.off, "%s", why->text);
  engine_draft_close(e);
  return TANDEM_OK;
}

static status map_memory(tandem_engine *e, error *err) {
  engine_draft *d = &e->draft;
  const plan *p = d->plan;
  void *region;
  TRY(base_map(&region, d->model->weight_bytes, true, "drafter's weights", err));
  d->memory.weights = region;
  d->memory.lent = e->memory.weights;
  TRY(base_map(&d->memory.scratch, p->home_bytes[OP_SCRATCH], true, "drafter's scratch", err));
  TRY(base_map(&region, p->home_bytes[OP_LOGITS], true, "drafter's logits", err));
  d->memory.logits = region;
  if (p->home_bytes[OP_HIDDEN]) TRY(base_map(&d->memory.hidden, p->home_bytes[OP_HIDDEN], true, "hidden rows", err));
  TRY(base_map(&d->memory.work, p->work_bytes, true, "drafter's work area", err));
  for (int g = 0; g < p->n_groups; g++) {
    if (d->model->arch->borrows) d->memory.stores[g] = e->memory.stores[g];
    else if (p->groups[g].store_bytes) TRY(base_map(&d->memory.stores[g], p->groups[g].store_bytes, false, "drafter's K/V", err));
  }
  return TANDEM_OK;
}

/* Keys of full layers were turned with the target's factors, where it has any: queries must be turned with the same. */
static status check_factors(const tandem_engine *e, error *err) {
  const engine_draft *d = &e->draft;
  int32_t a = d->model->weight[T_ROPE_FREQS], b = e->model->weight[T_ROPE_FREQS];
  if (!d->model->arch->borrows || a < 0) return TANDEM_OK;
  const op_value *x = &d->model->weights[a].value;
  const float *own = (const float *)(const void *)((const char *)d->memory.weights + x->offset), *target = NULL;
  if (b >= 0) target = (const float *)(const void *)((const char *)e->memory.weights + e->model->weights[b].value.offset);
  for (int64_t i = 0; i < x->cols; i++) {
    float want = target ? target[i] : 1;
    if (own[i] != want)
      return base_fail(err, TANDEM_ERROR_UNSUPPORTED, x->name, "%s: factor %lld is %g, the target turned its keys with %g", x->name, (long long)i,
                       (double)own[i], (double)want);
  }
  return TANDEM_OK;
}

status engine_draft_load(tandem_engine *e, const tandem_engine_params *params, error *err) {
  engine_draft *d = &e->draft;
  bool head = d->model->arch->borrows;
  TRY(map_memory(e, err));
  TRY(model_load(d->model, d->file, e->ops, e->device, (void *)(uintptr_t)d->memory.weights, &d->mapped, params->progress, params->user, err));
  TRY(check_factors(e, err));
  gguf_close(d->file);
  d->file = NULL;
  spec_host host = {.plan = d->plan, .ops = e->ops, .device = e->device, .memory = &d->memory, .pages = e->pages, .n_vocab = e->model->n_vocab};
  for (int g = 0; g < d->plan->n_groups; g++) host.tables[g] = e->tables[g];
  return head ? spec_shared_open(&e->drafters[SPEC_SHARED], &host, err) : spec_model_open(&e->drafters[SPEC_MODEL], &host, err);
}

void engine_draft_close(tandem_engine *e) {
  static const spec_kind models[] = {SPEC_SHARED, SPEC_MODEL};
  engine_draft *d = &e->draft;
  const plan *p = d->plan;
  for (size_t i = 0; i < COUNT_OF(models); i++) {
    if (e->drafters[models[i]]) e->drafters[models[i]]->ops->close(e->drafters[models[i]]);
    e->drafters[models[i]] = NULL;
  }
  if (p) {
    for (int g = 0; g < p->n_groups && !p->model->arch->borrows; g++) base_unmap(d->memory.stores[g], p->groups[g].store_bytes);
    base_unmap(d->memory.work, p->work_bytes);
    base_unmap(d->memory.hidden, p->home_bytes[OP_HIDDEN]);
    base_unmap(d->memory.logits, p->home_bytes[OP_LOGITS]);
    base_unmap(d->memory.scratch, p->home_bytes[OP_SCRATCH]);
    os_mapping_close(d->mapped);
    base_unmap((void *)(uintptr_t)d->memory.weights, d->model->weight_bytes);
  }
  d->memory = (device_binding){0};
  d->mapped = NULL;
  plan_close(d->plan);
  model_close(d->model);
  gguf_close(d->file);
  d->plan = NULL;
  d->model = NULL;
  d->file = NULL;
}
