/* pair.c: the caches of a drafter, made from its target's groups. Nothing in here takes a size: pages, positions and sequences
 * are the target's, so a drafter cannot be larger or smaller than what it rides on.
 *
 *   borrow      a draft head without K/V of its own: layer i reads the last layer of the same kind (full, sliding) of the target
 *               that owns K/V; geometry, rotation and width are held against it
 *   companion   a model with K/V of its own: a store of its own over the same pages, in the group that keeps what it sees */
#include "plan/plan.h"

static const char *const kinds[] = {"full", "sliding"};

static status differ(error *err, const char *what, int64_t drafter, int64_t target) {
  return base_fail(err, TANDEM_ERROR_UNSUPPORTED, what, "drafter and target differ in %s: %lld and %lld", what, (long long)drafter, (long long)target);
}

/* ---- borrow ------------------------------------------------------------------------------------------------------ */

/* The last layer of that kind that owns K/V, or -1. */
static int source_layer(const model *target, bool sliding) {
  int j = target->n_caches - 1;
  while (j >= 0 && target->layers[j].sliding != sliding) j--;
  return j;
}

/* Keys were turned by the target: queries must be turned alike. */
static status check_rope(const model *m, const model *target, bool sliding, error *err) {
  const op_rope *a = &m->rope[sliding ? ROPE_SLIDING : ROPE_FULL], *b = &target->rope[sliding ? ROPE_SLIDING : ROPE_FULL];
  if (a->n_rot == b->n_rot && a->neox == b->neox && a->base == b->base && a->freq_scale == b->freq_scale && a->magnitude == b->magnitude &&
      a->yarn == b->yarn)
    return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "rope.freq_base",
                   "drafter and target rotate %s layers differently: %d components of base %g scaled by %g, and %d of %g by %g", kinds[sliding],
                   a->n_rot, a->base, a->freq_scale, b->n_rot, b->base, b->freq_scale);
}

static status borrow_layer(plan *p, int i, error *err) {
  const model *m = p->model, *target = p->source->model;
  const model_layer *l = &m->layers[i];
  int j = source_layer(target, l->sliding);
  if (j < 0)
    return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "attention.sliding_window_pattern", "drafter's layer %d is %s, the target has no such layer with K/V",
                     i, kinds[l->sliding]);
  const op_cache *c = &p->source->caches[j];
  kv_layer lent = {.n_heads = c->n_heads, .k_dim = c->k_dim, .v_dim = c->v_dim};
  TRY(kv_borrow_fits(&lent, kinds[l->sliding], j, &(kv_layer){.n_heads = l->n_heads, .k_dim = l->k_dim, .v_dim = l->v_dim}, i, err));
  TRY(check_rope(m, target, l->sliding, err));
  p->caches[i] = *c;
  p->caches[i].borrowed = true;
  return TANDEM_OK;
}

static status borrow(plan *p, error *err) {
  const model *m = p->model, *target = p->source->model;
  void *caches;
  if (m->keys.n_embd_out != target->keys.n_embd) return differ(err, "embedding_length_out and embedding_length", m->keys.n_embd_out, target->keys.n_embd);
  if (m->n_vocab != target->n_vocab) return differ(err, "the number of tokens", m->n_vocab, target->n_vocab);
  TRY(arena_alloc(p->memory, (size_t)m->n_layers * sizeof *p->caches, &caches, err));
  p->caches = caches;
  p->n_caches = m->n_layers;
  p->n_groups = p->source->n_groups;
  for (int g = 0; g < p->n_groups; g++) p->groups[g] = p->source->groups[g];
  for (int i = 0; i < m->n_layers; i++) TRY(borrow_layer(p, i, err));
  return TANDEM_OK;
}

/* ---- companion --------------------------------------------------------------------------------------------------- */

/* The group of the target that keeps every cell a layer with this window (0: all) sees, the narrowest of them; or -1. */
static int group_for(const plan *target, int64_t window) {
  int best = -1;
  for (int g = 0; g < target->n_groups; g++) {
    int64_t kept = target->groups[g].window;
    if (kept != 0 && (window == 0 || kept < window)) continue;
    if (best < 0 || (kept != 0 && (target->groups[best].window == 0 || kept < target->groups[best].window))) best = g;
  }
  return best;
}

static int64_t window_of(const model *m, int i) { return m->layers[i].sliding ? m->keys.window : 0; }

static status companion_group(plan *p, int g, error *err) {
  const model *m = p->model;
  plan_group *group = &p->groups[g];
  void *layers;
  *group = p->source->groups[g];
  group->n_layers = 0;
  group->layers = NULL;
  group->store_bytes = 0;
  for (int i = 0; i < m->n_caches; i++) group->n_layers += group_for(p->source, window_of(m, i)) == g;
  if (group->n_layers == 0) return TANDEM_OK;
  TRY(arena_alloc(p->memory, (size_t)group->n_layers * sizeof *group->layers, &layers, err));
  group->layers = layers;
  int at = 0;
  for (int i = 0; i < m->n_caches; i++)
    if (group_for(p->source, window_of(m, i)) == g)
      group->layers[at++] = (kv_layer){.n_heads = m->layers[i].n_heads_kv, .k_dim = m->layers[i].k_dim, .v_dim = m->layers[i].v_dim};
  group->store.n_layers = group->n_layers;
  return kv_store_layout(&group->store, group->layers, &group->store_bytes, err);
}

static status companion(plan *p, error *err) {
  const model *m = p->model;
  void *caches;
  TRY(arena_alloc(p->memory, (size_t)m->n_caches * sizeof *p->caches, &caches, err));
  p->caches = caches;
  p->n_caches = m->n_caches;
  p->n_groups = p->source->n_groups;
  for (int i = 0; i < m->n_caches; i++)
    if (group_for(p->source, window_of(m, i)) < 0)
      return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "attention.sliding_window",
                       "drafter's layer %d sees %lld positions (0 = all), the target keeps fewer in every layer", i, (long long)window_of(m, i));
  for (int g = 0; g < p->n_groups; g++) TRY(companion_group(p, g, err));
  int at[OP_MAX_GROUPS] = {0};
  for (int i = 0; i < m->n_caches; i++) {
    int g = group_for(p->source, window_of(m, i));
    p->caches[i] = plan_cache(&p->groups[g], g, &p->groups[g].layers[at[g]++]);
    p->caches[i].window = window_of(m, i);
  }
  return TANDEM_OK;
}

status plan_pair(plan *p, error *err) { return p->model->arch->borrows ? borrow(p, err) : companion(p, err); }

/* ---- comparison -------------------------------------------------------------------------------------------------- */

size_t plan_draft_kv_bytes(const plan *p, int64_t n_context) {
  size_t all = 0;
  for (int32_t i = 0; i < p->n_caches; i++) {
    const op_cache *c = &p->caches[i];
    const plan_limits *l = &p->source->limits;
    kv_pages_shape pages;
    kv_layer layer = {.n_heads = c->n_heads, .k_dim = c->k_dim, .v_dim = c->v_dim};
    size_t n_bytes = 0;
    if (!plan_pool_shape(n_context, c->window, l->max_tokens, l->n_sequences, &pages)) return SIZE_MAX;
    kv_store_shape shape = {.n_pages = pages.n_pages, .n_layers = 1, .k_type = c->k_type, .v_type = c->v_type};
    if (kv_store_layout(&shape, &layer, &n_bytes, NULL) || !size_add(all, n_bytes, &all)) return SIZE_MAX;
  }
  return all;
}
