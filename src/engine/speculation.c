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

static_assert((int)TANDEM_DRAFTERS == (int)SPEC_KINDS, "a name for every drafter");
const char *tandem_drafter_name(int i) { return i >= 0 && i < SPEC_KINDS ? spec_table[i]->name : NULL; }

bool tandem_session_was_drafted(const tandem_session *s) { return s->drafted; }

tandem_status tandem_session_draft(tandem_session *s, int32_t last, int32_t k, int32_t *ids, float *rows, tandem_error *err) {
  tandem_engine *e = s->engine;
  spec_drafter *d = e->drafters[SPEC_SHARED] ? e->drafters[SPEC_SHARED] : e->drafters[SPEC_MODEL];
  if (!d) return base_fail(err, TANDEM_ERROR_ARGUMENT, "draft", "the engine has no drafter that is a model%s%s", e->draft.off[0] ? ": " : "", e->draft.off);
  if (!s->has_logits) return base_fail(err, TANDEM_ERROR_ARGUMENT, "session", "no token has been evaluated, there is nothing to draft behind");
  if (d == e->drafters[SPEC_SHARED] && !engine_hidden(s))
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "session", "the file it was loaded from has no hidden row, which a draft head needs; the next token gives one");
  if (last < 0 || last >= e->model->n_vocab)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "last", "id %d, must be 0 to %lld", last, (long long)e->model->n_vocab - 1);
  TRY(in_range("k", k, 1, TANDEM_MAX_DRAFT, err));
  if (s->n + 1 + k > e->plan->limits.n_context)
    return base_fail(err, TANDEM_ERROR_CONTEXT, "n_context", "%d tokens after %lld do not fit the context of %lld", k + 1, (long long)s->n,
                     (long long)e->plan->limits.n_context);
  TRY(engine_take_cells(s, k + 1, err)); /* a companion writes there */
  s->tokens[s->n] = last;
  spec_ask a = {.sequence = s->sequence, .tokens = s->tokens, .n = s->n, .k = k, .sampler = s->sampler, .hidden = engine_hidden(s), .rows = rows};
  status st = d->ops->propose(d, &a, 1, err);
  for (int32_t i = 0; i < a.n_out; i++) ids[i] = s->tokens[s->n + 1 + i];
  for (int g = 0; g < e->plan->n_groups; g++) kv_pages_truncate(e->pages[g], s->sequence, s->n, NULL);
  engine_tell_drafters(s, -1);
  if (!st && a.n_out < k) st = base_fail(err, TANDEM_ERROR_NONFINITE, "draft", "the drafter stopped after %d of %d tokens", a.n_out, k);
  return st;
}
