/* verify.c: the proof that a plan cannot leave its memory. For every step: the op exists, its operands are there, each lies
 * inside its home with all rows a batch may have, shapes obey the op's rule, cells lie inside their store for every page of
 * the pool. For the whole: live scratch values do not overlap, and nothing is read before the threads have met.
 *
 * Trusts nothing the planner computed: extents are computed again from rows, columns, type and stride. */
#include <inttypes.h>
#include <stdio.h>

#include "plan/plan.h"

typedef struct proof {
  const plan *p;
  const op_step *s;
  int32_t i_step;
  error *err;
} proof;

/* ---- messages ---------------------------------------------------------------------------------------------------- */

static const char *label(const proof *c, char *out, size_t n) {
  snprintf(out, n, "step %d %s", c->i_step, c->s->op < OP_COUNT ? op_table[c->s->op].name : "?");
  return out;
}

static status refuse(const proof *c, const char *operand, const char *what, int64_t is, int64_t wanted) {
  char step[64];
  label(c, step, sizeof step);
  return base_fail(c->err, TANDEM_ERROR_INTERNAL, operand, "plan: %s: %s: %s is %" PRId64 ", must be %" PRId64, step, operand, what, is, wanted);
}

#define WANT(operand, what, is, wanted) \
  do { \
    if ((int64_t)(is) != (int64_t)(wanted)) return refuse(c, operand, what, (int64_t)(is), (int64_t)(wanted)); \
  } while (0)

/* ---- one operand ------------------------------------------------------------------------------------------------- */

/* Bytes from a value's offset to the end of its last row, computed from its shape alone; panels are the device's matter,
 * so their extent is taken from the weight, whose layout the device gave. */
static bool true_extent(const op_value *v, size_t *extent) {
  size_t row = op_row_bytes(v->type, v->cols), last, slabs;
  if (v->layout == OP_PANELS) {
    *extent = v->extent;
    return v->n_slabs >= 1 && size_mul(v->slab, (size_t)v->n_slabs, &slabs) && slabs == v->extent;
  }
  if (row == 0 || v->rows < 1 || v->n_slabs < 1 || v->stride < row) return false;
  if (!size_mul((size_t)(v->rows - 1), v->stride, &last) || !size_add(last, row, &last)) return false;
  return size_mul(v->slab, (size_t)(v->n_slabs - 1), &slabs) && size_add(last, slabs, extent);
}

static status check_operand(const proof *c, const char *operand, int32_t index) {
  const plan *p = c->p;
  char step[64];
  if (index < 0 || index >= p->n_values) return refuse(c, operand, "value", index, p->n_values - 1);
  const op_value *v = &p->values[index];
  size_t extent, end;
  if ((unsigned)v->home >= OP_HOMES) return refuse(c, operand, "home", (int64_t)v->home, OP_HOMES - 1);
  if (!quant_find((int64_t)v->type)) return refuse(c, operand, "type", (int64_t)v->type, QUANT_F32);
  if (v->cols < 1) return refuse(c, operand, "columns", v->cols, 1);
  if (v->by == OP_TOKENS && v->rows < p->limits.max_tokens) return refuse(c, operand, "rows", v->rows, p->limits.max_tokens);
  if (v->by == OP_OUTPUTS && v->rows < p->limits.max_outputs) return refuse(c, operand, "rows", v->rows, p->limits.max_outputs);
  if (!true_extent(v, &extent) || !size_add(v->offset, extent, &end) || end > p->home_bytes[v->home])
    return base_fail(c->err, TANDEM_ERROR_INTERNAL, operand,
                     "plan: %s: %s '%s': %" PRId64 " rows of %" PRId64 " %s, stride %zu at offset %zu, leave the %s buffer of %zu bytes",
                     label(c, step, sizeof step), operand, v->name ? v->name : "", v->rows, v->cols, quant_table[v->type].name, v->stride,
                     v->offset, op_home_names[v->home], p->home_bytes[v->home]);
  if (op_home_is_weights(v->home) && v->by != OP_FIXED) return refuse(c, operand, "row count of a weight", (int64_t)v->by, OP_FIXED);
  return TANDEM_OK;
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

static const op_value *value(const proof *c, int32_t i) { return &c->p->values[i]; }
static const op_value *dst(const proof *c) { return value(c, c->s->dst); }
static const op_value *src(const proof *c, int k) { return value(c, c->s->src[k]); }
static bool has(const proof *c, int k) { return c->s->src[k] >= 0; }

/* An f32 row per token (or output). */
static status rows_f32(const proof *c, const char *name, const op_value *v, op_rows by) {
  WANT(name, "type", v->type, QUANT_F32);
  WANT(name, "layout", v->layout, OP_ROW_MAJOR);
  WANT(name, "row count", v->by, by);
  return TANDEM_OK;
}

static status vector_f32(const proof *c, const char *name, const op_value *v, int64_t cols) {
  TRY(rows_f32(c, name, v, OP_FIXED));
  if (v->cols < cols) return refuse(c, name, "columns", v->cols, cols);
  return TANDEM_OK;
}

static status rule_embed(const proof *c) {
  TRY(rows_f32(c, "dst", dst(c), OP_TOKENS));
  if (!op_home_is_weights(src(c, 0)->home)) return refuse(c, "w", "home", src(c, 0)->home, OP_WEIGHT);
  WANT("w", "columns", src(c, 0)->cols, dst(c)->cols);
  if (c->p->model) WANT("w", "rows", src(c, 0)->rows, c->p->model->n_vocab);
  return TANDEM_OK;
}

static status rule_rows(const proof *c) {
  TRY(rows_f32(c, "dst", dst(c), OP_OUTPUTS));
  TRY(rows_f32(c, "x", src(c, 0), OP_TOKENS));
  WANT("x", "columns", src(c, 0)->cols, dst(c)->cols);
  return TANDEM_OK;
}

/* f32 rows, or rows in a partner format. */
static status rows_out(const proof *c, op_rows by) {
  if (!quant_is_partner(dst(c)->type)) return rows_f32(c, "dst", dst(c), by);
  WANT("dst", "layout", dst(c)->layout, OP_ROW_MAJOR);
  WANT("dst", "row count", dst(c)->by, by);
  return TANDEM_OK;
}

static status rule_norm(const proof *c) {
  TRY(rows_out(c, src(c, 0)->by));
  TRY(rows_f32(c, "x", src(c, 0), dst(c)->by));
  WANT("x", "columns", src(c, 0)->cols, dst(c)->cols);
  if (c->s->group < 1 || dst(c)->cols % c->s->group) return refuse(c, "dst", "columns over the group", dst(c)->cols, c->s->group);
  if (dst(c)->type != QUANT_F32) WANT("dst", "group of columns in blocks", c->s->group, dst(c)->cols);
  if (has(c, 1)) TRY(vector_f32(c, "g", src(c, 1), c->s->group));
  return TANDEM_OK;
}

static status rule_quant(const proof *c) {
  TRY(rows_f32(c, "x", src(c, 0), dst(c)->by));
  TRY(rows_out(c, src(c, 0)->by));
  if (dst(c)->type == QUANT_F32) return refuse(c, "dst", "type", dst(c)->type, QUANT_A256);
  WANT("x", "columns", src(c, 0)->cols, dst(c)->cols);
  return TANDEM_OK;
}

static status weight_rule(const proof *c, const char *name, const op_value *x, const op_value *w) {
  if (!op_home_is_weights(w->home)) return refuse(c, name, "home", w->home, OP_WEIGHT);
  WANT(name, "layout", w->layout, OP_PANELS);
  WANT("x", "type", x->type, quant_table[w->type].partner);
  return TANDEM_OK;
}

static status rule_mm(const proof *c) {
  const op_value *x = src(c, 0), *w = src(c, 1);
  TRY(rows_f32(c, "dst", dst(c), x->by));
  TRY(weight_rule(c, "w", x, w));
  WANT("x", "columns", x->cols, w->cols);
  WANT("dst", "columns", dst(c)->cols, w->rows);
  if (has(c, 2)) TRY(vector_f32(c, "b", src(c, 2), w->rows));
  if (has(c, 3)) TRY(rows_f32(c, "y", src(c, 3), x->by));
  if (has(c, 3)) WANT("y", "columns", src(c, 3)->cols, w->rows);
  return TANDEM_OK;
}

static status rule_mmglu(const proof *c) {
  const op_value *x = src(c, 0);
  TRY(rows_out(c, x->by));
  for (int k = 1; k < 3; k++) {
    TRY(weight_rule(c, k == 1 ? "g" : "u", x, src(c, k)));
    WANT("x", "columns", x->cols, src(c, k)->cols);
    WANT("dst", "columns", dst(c)->cols, src(c, k)->rows);
    WANT(k == 1 ? "g" : "u", "experts", src(c, k)->n_slabs, 1);
  }
  return TANDEM_OK;
}

static status rule_angles(const proof *c) {
  TRY(rows_f32(c, "dst", dst(c), OP_TOKENS));
  WANT("dst", "columns", dst(c)->cols, c->s->rope.n_rot);
  if (c->s->rope.n_rot < 2 || c->s->rope.n_rot % 2) return refuse(c, "dst", "rotated components", c->s->rope.n_rot, 2);
  if (has(c, 0)) TRY(vector_f32(c, "f", src(c, 0), c->s->rope.n_rot / 2));
  return TANDEM_OK;
}

static status rule_rope(const proof *c) {
  const op_step *s = c->s;
  TRY(rows_f32(c, "dst", dst(c), OP_TOKENS));
  TRY(rows_f32(c, "x", src(c, 0), OP_TOKENS));
  TRY(rows_f32(c, "a", src(c, 1), OP_TOKENS));
  WANT("x", "columns", src(c, 0)->cols, (int64_t)s->n_heads * s->head_dim);
  WANT("dst", "columns", dst(c)->cols, src(c, 0)->cols);
  WANT("a", "columns", src(c, 1)->cols, s->rope.n_rot);
  if (s->rope.n_rot < 2 || s->rope.n_rot > s->head_dim) return refuse(c, "x", "rotated components", s->rope.n_rot, s->head_dim);
  return TANDEM_OK;
}

/* Cells of every page of the pool lie inside the store, and a block holds KV_PAGE rows. */
static status check_region(const proof *c, const char *operand, size_t offset, size_t page, size_t block, quant_type type, int dim, const op_cache *k) {
  char step[64];
  size_t rows, heads, pages, end, store = c->p->groups[k->group].store_bytes;
  size_t row = op_row_bytes(type, dim);
  bool fits = row > 0 && size_mul(row, KV_PAGE, &rows) && block >= rows && size_mul(block, (size_t)k->n_heads, &heads) && page >= heads &&
              size_mul(page, (size_t)k->n_pages, &pages) && size_add(offset, pages, &end) && end <= store;
  if (fits) return TANDEM_OK;
  return base_fail(c->err, TANDEM_ERROR_INTERNAL, operand,
                   "plan: %s: %s: %d pages of %zu bytes, blocks of %zu, at offset %zu leave the store of group %d with %zu bytes",
                   label(c, step, sizeof step), operand, k->n_pages, page, block, offset, k->group, store);
}

static status check_cache(const proof *c, const op_cache **out) {
  const plan *p = c->p;
  if (c->s->cache < 0 || c->s->cache >= p->n_caches) return refuse(c, "cache", "index", c->s->cache, p->n_caches - 1);
  const op_cache *k = &p->caches[c->s->cache];
  if (k->group < 0 || k->group >= p->n_groups) return refuse(c, "cache", "group", k->group, p->n_groups - 1);
  if (k->n_heads < 1 || k->n_pages < 1 || k->k_dim < 1 || k->v_dim < 1) return refuse(c, "cache", "heads", k->n_heads, 1);
  WANT("cache", "pages", k->n_pages, p->groups[k->group].pages.n_pages);
  TRY(check_region(c, "K", k->k_offset, k->k_page, k->k_block, k->k_type, k->k_dim, k));
  TRY(check_region(c, "V", k->v_offset, k->v_page, k->v_block, k->v_type, k->v_dim, k));
  *out = k;
  return TANDEM_OK;
}

static status rule_store(const proof *c) {
  const op_cache *k = NULL;
  TRY(check_cache(c, &k));
  WANT("cache", "borrowed", k->borrowed, false);
  TRY(rows_f32(c, "k", src(c, 0), OP_TOKENS));
  TRY(rows_f32(c, "v", src(c, 1), OP_TOKENS));
  WANT("k", "columns", src(c, 0)->cols, (int64_t)k->n_heads * k->k_dim);
  WANT("v", "columns", src(c, 1)->cols, (int64_t)k->n_heads * k->v_dim);
  return TANDEM_OK;
}

static status rule_attend(const proof *c) {
  const op_cache *k = NULL;
  TRY(check_cache(c, &k));
  TRY(rows_f32(c, "q", src(c, 0), OP_TOKENS));
  TRY(rows_f32(c, "dst", dst(c), OP_TOKENS));
  if (c->s->n_heads < 1 || c->s->n_heads % k->n_heads) return refuse(c, "q", "heads", c->s->n_heads, k->n_heads);
  WANT("q", "positions behind", c->s->behind, k->borrowed ? c->p->limits.behind : 0);
  if (c->s->behind && k->window == 1) return refuse(c, "q", "window", k->window, 2); /* it would see nothing */
  WANT("q", "columns", src(c, 0)->cols, (int64_t)c->s->n_heads * k->k_dim);
  WANT("dst", "columns", dst(c)->cols, (int64_t)c->s->n_heads * k->v_dim);
  if (has(c, 1)) TRY(vector_f32(c, "s", src(c, 1), c->s->n_heads));
  return TANDEM_OK;
}

static status rule_pair(const proof *c) { /* dst, a, b of one shape */
  for (int k = 0; k < op_table[c->s->op].n_src; k++) {
    TRY(rows_f32(c, k ? "b" : "a", src(c, k), dst(c)->by));
    WANT(k ? "b" : "a", "columns", src(c, k)->cols, dst(c)->cols);
  }
  return rows_f32(c, "dst", dst(c), src(c, 0)->by);
}

static status rule_scale(const proof *c) {
  TRY(rows_f32(c, "x", src(c, 0), dst(c)->by));
  TRY(rows_f32(c, "dst", dst(c), src(c, 0)->by));
  WANT("x", "columns", src(c, 0)->cols, dst(c)->cols);
  if (has(c, 1)) TRY(vector_f32(c, "w", src(c, 1), 1));
  return TANDEM_OK;
}

static status rule_route(const proof *c) {
  TRY(rows_f32(c, "x", src(c, 0), OP_TOKENS));
  TRY(rows_f32(c, "dst", dst(c), OP_TOKENS));
  if (c->s->n_used < 1 || c->s->n_used > src(c, 0)->cols || c->s->n_used > OP_MAX_USED) return refuse(c, "x", "experts", c->s->n_used, src(c, 0)->cols);
  WANT("dst", "columns", dst(c)->cols, 2 * c->s->n_used);
  return TANDEM_OK;
}

static status rule_mmx(const proof *c) {
  const op_value *x = src(c, 0), *w = src(c, 1);
  int64_t used = c->s->n_used;
  TRY(weight_rule(c, "w", x, w));
  TRY(rows_f32(c, "dst", dst(c), OP_TOKENS));
  TRY(rows_f32(c, "r", src(c, 2), OP_TOKENS));
  WANT("r", "columns", src(c, 2)->cols, 2 * used);
  WANT("x", "row count", x->by, OP_TOKENS);
  if (x->cols != w->cols) WANT("x", "columns", x->cols, used * w->cols);
  WANT("dst", "columns", dst(c)->cols, used * w->rows);
  return TANDEM_OK;
}

static status rule_mix(const proof *c) {
  int64_t used = c->s->n_used;
  TRY(rows_f32(c, "y", src(c, 0), OP_TOKENS));
  TRY(rows_f32(c, "r", src(c, 1), OP_TOKENS));
  TRY(rows_f32(c, "dst", dst(c), OP_TOKENS));
  WANT("r", "columns", src(c, 1)->cols, 2 * used);
  WANT("y", "columns", src(c, 0)->cols, used * dst(c)->cols);
  return TANDEM_OK;
}

static status rule_scatter(const proof *c) {
  int64_t used = c->s->n_used;
  TRY(rows_f32(c, "y", src(c, 0), OP_TOKENS));
  TRY(rows_f32(c, "r", src(c, 1), OP_TOKENS));
  TRY(rows_f32(c, "dst", dst(c), OP_TOKENS));
  TRY(vector_f32(c, "o", src(c, 2), dst(c)->cols));
  WANT("r", "columns", src(c, 1)->cols, 2 * used);
  if (used < 1 || src(c, 0)->cols % used) return refuse(c, "y", "columns over the clusters", src(c, 0)->cols, used);
  return TANDEM_OK;
}

static status (*const rules[OP_COUNT])(const proof *) = {
    [OP_EMBED] = rule_embed, [OP_ROWS] = rule_rows, [OP_NORM] = rule_norm,   [OP_QUANT] = rule_quant, [OP_MM] = rule_mm,
    [OP_ROPE] = rule_rope,   [OP_ANGLES] = rule_angles, [OP_STORE] = rule_store, [OP_ATTEND] = rule_attend, [OP_GLU] = rule_pair,
    [OP_ADD] = rule_pair,    [OP_SCALE] = rule_scale, [OP_CAP] = rule_pair,  [OP_ROUTE] = rule_route, [OP_MMX] = rule_mmx,
    [OP_MIX] = rule_mix,     [OP_SCATTER] = rule_scatter, [OP_MMGLU] = rule_mmglu,
};

/* Ids that ROUTE writes index the slabs of MMX's weights and MIX's scales: there must be as many as the router chose from. */
static status check_experts(const proof *c) {
  int32_t route = c->s->op == OP_MMX ? c->s->src[2] : c->s->op == OP_MIX || c->s->op == OP_SCATTER ? c->s->src[1] : -1;
  if (route < 0) return TANDEM_OK;
  for (int32_t i = 0; i < c->i_step; i++) {
    const op_step *r = &c->p->steps[i];
    if (r->op != OP_ROUTE || r->dst != route) continue;
    int64_t n = value(c, r->src[0])->cols;
    WANT("r", "experts of a token", r->n_used, c->s->n_used);
    if (c->s->op == OP_MMX) WANT("w", "experts", src(c, 1)->n_slabs, n);
    if (c->s->op == OP_SCATTER) WANT("dst", "columns", dst(c)->cols, n * (src(c, 0)->cols / c->s->n_used));
    if (c->s->op == OP_MIX && has(c, 2)) return vector_f32(c, "e", src(c, 2), n);
    return TANDEM_OK;
  }
  return refuse(c, "r", "step that routes", -1, c->i_step);
}

static bool optional(const op_step *s, int k) {
  static const int n_needed[OP_COUNT] = {[OP_NORM] = 1, [OP_MM] = 2, [OP_SCALE] = 1, [OP_MIX] = 2, [OP_ATTEND] = 1};
  return (n_needed[s->op] || s->op == OP_ANGLES) && k >= n_needed[s->op];
}

static status check_step(const proof *c) {
  static const char *const names[] = {"src 0", "src 1", "src 2", "src 3"};
  const op_step *s = c->s;
  if ((unsigned)s->op >= OP_COUNT) return refuse(c, "op", "number", (int64_t)s->op, OP_COUNT - 1);
  if (s->op != OP_STORE) TRY(check_operand(c, "dst", s->dst));
  for (int k = 0; k < op_table[s->op].n_src; k++)
    if (s->src[k] >= 0 || !optional(s, k)) TRY(check_operand(c, names[k], s->src[k]));
  if (s->op != OP_STORE && op_home_is_weights(dst(c)->home)) return refuse(c, "dst", "home", dst(c)->home, OP_SCRATCH);
  TRY(rules[s->op](c));
  return check_experts(c);
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static bool same_bytes(const op_value *a, const op_value *b) {
  return a->home == b->home && a->offset < b->offset + b->extent && b->offset < a->offset + a->extent;
}

/* What a step reads was written before, by a step after which the threads have met; and no other step has written over it
 * since, nor writes over it before the next meeting. */
static status check_source(const proof *c, int k) {
  const plan *p = c->p;
  int32_t v = c->s->src[k], root = plan_root(p, v);
  const op_value *x = &p->values[v];
  if (op_home_is_weights(x->home)) return TANDEM_OK;
  int32_t writer = c->i_step - 1;
  bool met = false;
  for (; writer >= 0; writer--) {
    const op_step *w = &p->steps[writer];
    met |= w->sync;
    if (w->dst < 0) continue;
    if (plan_root(p, w->dst) == root) break;
    if (same_bytes(&p->values[w->dst], x)) return refuse(c, op_table[c->s->op].name, "operand overwritten by step", writer, c->i_step);
  }
  if (writer < 0) return refuse(c, "source", "writer of the operand", -1, c->i_step);
  if (!met && !plan_same_rows(p, &p->steps[writer], c->s)) return refuse(c, "source", "operand not yet met for, written by step", writer, c->i_step);
  for (int32_t i = c->i_step; i < p->n_steps; i++) { /* side by side with this one */
    const op_step *w = &p->steps[i];
    bool mine = i == c->i_step;
    if (w->dst >= 0 && plan_root(p, w->dst) != root && same_bytes(&p->values[w->dst], x))
      return refuse(c, mine ? "dst" : "source", "operand overwritten by step", i, c->i_step);
    if (w->sync) break;
  }
  return TANDEM_OK;
}

/* ATTEND sees what STORE wrote in this pass; borrowed cells are there. */
static status check_cells(const proof *c) {
  if (c->s->op != OP_ATTEND || c->p->caches[c->s->cache].borrowed) return TANDEM_OK;
  bool met = false;
  for (int32_t i = c->i_step - 1; i >= 0; i--) {
    const op_step *w = &c->p->steps[i];
    met |= w->sync;
    if (w->op != OP_STORE || w->cache != c->s->cache) continue;
    return met ? TANDEM_OK : refuse(c, "cache", "cells not yet met for, written by step", i, c->i_step);
  }
  return refuse(c, "cache", "step that stores", -1, c->i_step);
}

/* Two steps between the same meetings do not write the same bytes. */
static status check_writes(const proof *c) {
  const plan *p = c->p;
  if (c->s->dst < 0) return TANDEM_OK;
  for (int32_t i = c->i_step - 1; i >= 0 && !p->steps[i].sync; i--)
    if (p->steps[i].dst >= 0 && same_bytes(&p->values[p->steps[i].dst], dst(c))) return refuse(c, "dst", "also written by step", i, c->i_step);
  return TANDEM_OK;
}

status plan_verify(const plan *p, error *err) {
  proof c = {.p = p, .err = err};
  if (p->n_steps < 1 || p->logits < 0 || p->logits >= p->n_values || p->values[p->logits].home != OP_LOGITS)
    return base_fail(err, TANDEM_ERROR_INTERNAL, "logits", "plan: no step writes logits");
  for (int32_t v = 0; v < p->n_values; v++)
    if (p->values[v].view_of >= v) return base_fail(err, TANDEM_ERROR_INTERNAL, "view", "plan: value %d is a view of %d", v, p->values[v].view_of);
  for (int pass = 0; pass < 2; pass++) /* shapes of all steps first: the second pass relies on them */
    for (c.i_step = 0; c.i_step < p->n_steps; c.i_step++) {
      c.s = &p->steps[c.i_step];
      if (pass == 0) TRY(check_step(&c));
      for (int k = 0; pass == 1 && k < op_table[c.s->op].n_src; k++)
        if (c.s->src[k] >= 0) TRY(check_source(&c, k));
      if (pass == 1) TRY(check_cells(&c));
      if (pass == 1) TRY(check_writes(&c));
    }
  if (!p->steps[p->n_steps - 1].sync) return refuse(&(proof){p, &p->steps[p->n_steps - 1], p->n_steps - 1, err}, "sync", "last step's", 0, 1);
  return TANDEM_OK;
}
