/* speculation.c: a session's wishes about guessing, checked; what came of it, counted. */

#include "engine/engine.h"

void tandem_speculation_init(tandem_speculation *s) {
  *s = (tandem_speculation){.size = sizeof *s, .depth = -1, .n_max = 16};
}

static status in_range(const char *name, int32_t v, int32_t low, int32_t high, error *err) {
  if (v >= low && v <= high) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s: %d, must be %d to %d", name, v, low, high);
}

tandem_status tandem_session_set_speculation(tandem_session *s, const tandem_speculation *w, tandem_error *err) {
  engine_policy p = {0};
  if (!w || w->size != sizeof *w)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "size", "size: %zu, must be %zu (tandem_speculation_init sets it)", w ? w->size : 0, sizeof *w);
  TRY(in_range("depth", w->depth, -1, TANDEM_MAX_DRAFT, err));
  TRY(in_range("n_max", w->n_max, 0, TANDEM_MAX_DRAFT, err));
  TRY(in_range("n_min", w->n_min, 0, TANDEM_MAX_DRAFT, err));
  if (!(w->p_min >= 0 && w->p_min <= 1)) return base_fail(err, TANDEM_ERROR_ARGUMENT, "p_min", "p_min: %g, must be 0 to 1", (double)w->p_min);
  TRY(spec_parse(w->kinds, p.kinds, &p.n_kinds, &p.by_value, err));
  p.bounds = (spec_bounds){.n_max = w->n_max, .n_min = w->n_min, .p_min = w->p_min, .depth = w->depth};
  if (w->depth > w->n_max) p.bounds.n_max = w->depth;
  p.depth_seed = w->depth_seed;
  s->speculation.policy = p;
  spec_depth_begin(&s->speculation.depth);
  engine_tell_drafters(s, -1);
  return TANDEM_OK;
}

tandem_status tandem_session_get_draft_stats(const tandem_session *s, tandem_draft_stats *stats, tandem_error *err) {
  if (!stats || stats->size != sizeof *stats)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "size", "size: %zu, must be %zu", stats ? stats->size : 0, sizeof *stats);
  *stats = s->speculation.stats;
  stats->size = sizeof *stats;
  stats->plain_seconds = spec_costs_pass_seconds(&s->engine->costs, 1, s->n);
  return TANDEM_OK;
}

bool tandem_session_was_drafted(const tandem_session *s) { return s->drafted; }

tandem_status tandem_session_draft(tandem_session *s, int32_t last, int32_t k, int32_t *ids, float *rows, tandem_error *err) {
  tandem_engine *e = s->engine;
  spec_drafter *d = e->drafters[SPEC_SHARED] ? e->drafters[SPEC_SHARED] : e->drafters[SPEC_MODEL];
  if (!d) return base_fail(err, TANDEM_ERROR_ARGUMENT, "draft", "the engine has no drafter that is a model%s%s", e->draft.off[0] ? ": " : "", e->draft.off);
  if (!s->has_logits) return base_fail(err, TANDEM_ERROR_ARGUMENT, "session", "no token has been evaluated, there is nothing to draft behind");
  if (last < 0 || last >= e->model->n_vocab)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "last", "id %d, must be 0 to %lld", last, (long long)e->model->n_vocab - 1);
  TRY(in_range("k", k, 1, TANDEM_MAX_DRAFT, err));
  if (s->n + 1 + k > e->plan->limits.n_context)
    return base_fail(err, TANDEM_ERROR_CONTEXT, "n_context", "%d tokens after %lld do not fit the context of %lld", k + 1, (long long)s->n,
                     (long long)e->plan->limits.n_context);
  TRY(engine_take_cells(s, k + 1, err)); /* a companion writes there */
  s->tokens[s->n] = last;
  spec_ask a = {.sequence = s->sequence, .tokens = s->tokens, .n = s->n, .k = k, .sampler = s->sampler, .hidden = s->hidden, .rows = rows};
  status st = d->ops->propose(d, &a, 1, err);
  for (int32_t i = 0; i < a.n_out; i++) ids[i] = s->tokens[s->n + 1 + i];
  for (int g = 0; g < e->plan->n_groups; g++) kv_pages_truncate(e->pages[g], s->sequence, s->n, NULL);
  engine_tell_drafters(s, -1);
  if (!st && a.n_out < k) st = base_fail(err, TANDEM_ERROR_NONFINITE, "draft", "the drafter stopped after %d of %d tokens", a.n_out, k);
  return st;
}

/* FNV-1a in 64 bits. */
static uint64_t hash_bytes(uint64_t h, const void *bytes, size_t n) {
  for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3u;
  return h;
}

static uint64_t hash_cell(const tandem_session *s, const op_cache *c, int64_t position, float *x, uint64_t h) {
  const tandem_engine *e = s->engine;
  int32_t page = e->tables[c->group][s->sequence][position / KV_PAGE];
  for (int32_t head = 0; head < c->n_heads; head++)
    for (int v = 0; v < 2; v++) {
      e->ops->read_cell(c, e->memory.stores[c->group], page, head, (int32_t)(position % KV_PAGE), v, x);
      h = hash_bytes(h, x, (size_t)(v ? c->v_dim : c->k_dim) * sizeof *x);
    }
  return h;
}

uint64_t tandem_session_hash(const tandem_session *s) {
  const plan *p = s->engine->plan;
  uint64_t h = 0xcbf29ce484222325u;
  for (int32_t i = 0; i < p->n_caches; i++) {
    const op_cache *c = &p->caches[i];
    void *x;
    if (base_alloc_array(&x, (size_t)(c->k_dim > c->v_dim ? c->k_dim : c->v_dim), sizeof(float), "cell", NULL)) return 0;
    /* What a window shows to the next token; where the pages in front of it begin depends on how the tokens came. */
    int64_t from = c->window > 0 && s->n > c->window ? s->n - c->window : 0;
    for (int64_t position = from; position < s->n; position++) h = hash_cell(s, c, position, x, h);
    base_free(x);
  }
  return h;
}
