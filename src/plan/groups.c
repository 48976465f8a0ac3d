/* groups.c: the caches of a model cut into groups (full, sliding), with the geometry of each layer and the size of each pool.
 *
 * A full group needs pages for every position of every sequence. A sliding one needs its window, the longest batch, and a page
 * at either end that is only partly used; what lies behind the window is given back (kv_pages_slide). Each sequence gets one
 * page more, so that a fork can copy its last page while the pool is full. */
#include "plan/plan.h"

enum { MAX_PAGES = 1 << 24 }; /* of a pool, as kv_pages wants it */

static int64_t pages_of(int64_t positions) { return (positions + KV_PAGE - 1) / KV_PAGE; }

bool plan_pool_shape(int64_t n_context, int64_t window, int32_t max_tokens, int32_t n_sequences, kv_pages_shape *shape) {
  int64_t all = pages_of(n_context), needed = window ? pages_of(window + max_tokens) + 2 : all;
  int64_t n_pages = ((needed < all ? needed : all) + 1) * n_sequences;
  if (n_pages > MAX_PAGES) return false;
  *shape = (kv_pages_shape){.n_pages = (int32_t)n_pages, .n_sequences = PLAN_MAX_SESSIONS, .n_positions = n_context, .window = window};
  return true;
}

static status open_group(plan *p, bool sliding, const char *name, error *err) {
  const model *m = p->model;
  plan_group *g = &p->groups[p->n_groups];
  void *layers;
  *g = (plan_group){.name = name, .window = sliding ? m->keys.window : 0};
  for (int i = 0; i < m->n_caches; i++) g->n_layers += m->layers[i].sliding == sliding;
  if (g->n_layers == 0) return TANDEM_OK;
  TRY(arena_alloc(p->memory, (size_t)g->n_layers * sizeof *g->layers, &layers, err));
  g->layers = layers;
  int at = 0;
  for (int i = 0; i < m->n_caches; i++) {
    const model_layer *l = &m->layers[i];
    if (l->sliding == sliding) g->layers[at++] = (kv_layer){.n_heads = l->n_heads_kv, .k_dim = l->k_dim, .v_dim = l->v_dim};
  }
  const plan_limits *limits = &p->limits;
  if (!plan_pool_shape(limits->n_context, g->window, limits->max_tokens, limits->n_sequences, &g->pages))
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_context", "%lld tokens x %d sequences need more than %d pages, which is the most there can be",
                     (long long)limits->n_context, limits->n_sequences, MAX_PAGES);
  g->store = (kv_store_shape){.n_pages = g->pages.n_pages, .n_layers = g->n_layers, .k_type = limits->k_type, .v_type = limits->v_type};
  TRY(kv_store_layout(&g->store, g->layers, &g->store_bytes, err));
  p->n_groups++;
  return TANDEM_OK;
}

op_cache plan_cache(const plan_group *g, int group, const kv_layer *l) {
  return (op_cache){.group = group, .n_heads = l->n_heads, .k_dim = l->k_dim, .v_dim = l->v_dim, .k_type = g->store.k_type,
                    .v_type = g->store.v_type, .n_pages = g->store.n_pages, .window = g->window, .k_offset = l->k_offset,
                    .v_offset = l->v_offset, .k_page = l->k_page, .v_page = l->v_page, .k_block = l->k_block, .v_block = l->v_block};
}

status plan_groups_open(plan *p, error *err) {
  const model *m = p->model;
  void *caches;
  int group_of[2];
  for (int sliding = 0; sliding < 2; sliding++) {
    group_of[sliding] = p->n_groups;
    TRY(open_group(p, sliding, sliding ? "sliding" : "full", err));
  }
  TRY(arena_alloc(p->memory, (size_t)m->n_caches * sizeof *p->caches, &caches, err));
  p->caches = caches;
  p->n_caches = m->n_caches;
  int at[2] = {0, 0};
  for (int i = 0; i < m->n_caches; i++) {
    bool s = m->layers[i].sliding;
    p->caches[i] = plan_cache(&p->groups[group_of[s]], group_of[s], &p->groups[group_of[s]].layers[at[s]++]);
  }
  return TANDEM_OK;
}
