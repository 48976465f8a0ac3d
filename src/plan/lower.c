/* lower.c: from the blocks of an architecture to steps. Knows the residual stream and the branches of a layer; what a block
 * computes is mixers.c's business. Every value is written by one step only (but for the soft cap, which works in place). */
#include <math.h>

#include "plan/plan.h"

/* ---- emitting ---------------------------------------------------------------------------------------------------- */

static int32_t fail(plan_builder *b, status st) {
  if (!b->st) b->st = st;
  return -1;
}

static status grow(plan *p, void **array, int32_t n, int32_t *capacity, size_t size, error *err) {
  if (n < *capacity) return TANDEM_OK;
  int32_t larger = *capacity ? 2 * *capacity : 256;
  void *fresh;
  TRY(arena_alloc(p->memory, (size_t)larger * size, &fresh, err));
  for (size_t i = 0; i < (size_t)n * size; i++) ((char *)fresh)[i] = ((const char *)*array)[i];
  *array = fresh;
  *capacity = larger;
  return TANDEM_OK;
}

static int32_t add_value(plan_builder *b, const op_value *v) {
  plan *p = b->p;
  void *values = p->values;
  status st = b->st;
  if (!st) st = grow(p, &values, p->n_values, &p->values_capacity, sizeof *p->values, b->err);
  p->values = values;
  if (st) return fail(b, st);
  p->values[p->n_values] = *v;
  return p->n_values++;
}

/* Bytes from row to row: whole cache lines, but not a multiple of half a page, or the same k of all rows would meet in one or two sets
 * of the first level cache. */
static size_t row_stride(size_t row) {
  size_t stride = size_align(row, 64);
  return stride % 2048 ? stride : stride + 64;
}

int32_t plan_value(plan_builder *b, const char *name, op_rows by, quant_type type, int64_t cols) {
  int64_t rows = by == OP_OUTPUTS ? b->p->limits.max_outputs : b->p->limits.max_tokens;
  size_t row = op_row_bytes(type, cols), extent;
  if (b->st) return -1;
  if (row == 0 || !size_mul(row_stride(row), (size_t)rows, &extent))
    return fail(b, base_fail(b->err, TANDEM_ERROR_UNSUPPORTED, name, "%s: rows of %lld %s values cannot be made", name, (long long)cols,
                             quant_table[type].name));
  return add_value(b, &(op_value){.name = name, .home = OP_SCRATCH, .by = by, .type = type, .rows = rows, .cols = cols, .n_slabs = 1,
                                  .slab = extent, .stride = row_stride(row), .extent = extent, .view_of = -1});
}

int32_t plan_view(plan_builder *b, const char *name, int32_t of, int64_t first, int64_t cols) {
  if (b->st) return -1;
  int32_t view = plan_value(b, name, b->p->values[of].by, QUANT_F32, cols);
  if (b->st) return -1;
  op_value *v = &b->p->values[view];
  v->view_of = of;
  v->stride = b->p->values[of].stride;
  v->offset = (size_t)first * sizeof(float); /* from the parent's first byte until layout adds the parent's */
  return view;
}

int32_t plan_weight(plan_builder *b, int32_t w) {
  if (w < 0 || b->st) return -1;
  if (b->weights[w] < 0) b->weights[w] = add_value(b, &b->m->weights[w].value);
  return b->weights[w];
}

int32_t plan_emit(plan_builder *b, op_step step) {
  plan *p = b->p;
  void *steps = p->steps;
  status st = b->st;
  if (!st) st = grow(p, &steps, p->n_steps, &p->steps_capacity, sizeof *p->steps, b->err);
  p->steps = steps;
  if (st) return fail(b, st);
  for (int k = 0; k < 4; k++)
    if (k >= op_table[step.op].n_src) step.src[k] = -1;
  step.block = b->block;
  p->steps[p->n_steps++] = step;
  return step.dst;
}

/* ---- the operations every mixer uses ----------------------------------------------------------------------------- */

int32_t plan_norm(plan_builder *b, const char *name, int32_t x, int32_t g, int64_t group, float scale) {
  if (b->st) return -1;
  int32_t dst = plan_value(b, name, b->p->values[x].by, QUANT_F32, b->p->values[x].cols);
  return plan_emit(b, (op_step){.op = OP_NORM, .dst = dst, .src = {x, g, -1, -1}, .scale = scale, .eps = (float)b->m->keys.eps,
                                .group = (int32_t)group});
}

int32_t plan_quantised(plan_builder *b, int32_t x, quant_type weight_type) {
  quant_type partner = quant_table[weight_type].partner;
  if (b->st || partner == QUANT_F32) return x;
  for (int32_t i = b->p->n_steps - 1; i >= 0; i--) { /* once for all weights that want it */
    const op_step *s = &b->p->steps[i];
    if (s->op == OP_QUANT && s->src[0] == x && b->p->values[s->dst].type == partner) return s->dst;
  }
  int32_t dst = plan_value(b, quant_table[partner].name, b->p->values[x].by, partner, b->p->values[x].cols);
  return plan_emit(b, (op_step){.op = OP_QUANT, .dst = dst, .src = {x, -1, -1, -1}});
}

int32_t plan_linear(plan_builder *b, const char *name, int32_t x, int32_t w, int32_t bias) {
  if (b->st) return -1;
  int32_t q = plan_quantised(b, x, b->p->values[w].type);
  int32_t dst = plan_value(b, name, b->p->values[x].by, QUANT_F32, b->p->values[w].rows);
  return plan_emit(b, (op_step){.op = OP_MM, .dst = dst, .src = {q, w, bias, -1}});
}

static int32_t elementwise(plan_builder *b, op_kind op, const char *name, int32_t a, int32_t c, float scale) {
  if (b->st) return -1;
  int32_t dst = plan_value(b, name, b->p->values[a].by, QUANT_F32, b->p->values[a].cols);
  return plan_emit(b, (op_step){.op = op, .dst = dst, .src = {a, c, -1, -1}, .scale = scale});
}

/* ---- a layer ----------------------------------------------------------------------------------------------------- */

static int32_t lower_layer(plan_builder *b, int i, int32_t x) {
  const model *m = b->m;
  int32_t residual = x, forked = x, first = x;
  b->block = i;
  for (int k = 0; k < m->arch->n_blocks && !b->st; k++) {
    const arch_block *block = &m->arch->layer[k];
    if (!model_has_block(m, block, &m->layers[i])) continue;
    int32_t w = block->kind == BLOCK_NORM || block->kind == BLOCK_SCALE ? plan_weight(b, m->layers[i].weight[block->tensor]) : -1;
    switch (block->kind) {
    case BLOCK_SAVE: residual = x; break;
    case BLOCK_ADD: x = elementwise(b, OP_ADD, "residual", residual, x, 0); break;
    case BLOCK_FORK: forked = x; break;
    case BLOCK_NEXT: first = x; x = forked; break;
    case BLOCK_JOIN: x = elementwise(b, OP_ADD, "joined", first, x, 0); break;
    case BLOCK_NORM: x = plan_norm(b, "norm", x, w, m->keys.n_embd, 1); break;
    case BLOCK_ATTN: x = plan_mix_attention(b, block, i, x); break;
    case BLOCK_FFN: x = plan_mix_ffn(b, block, i, x); break;
    case BLOCK_MOE: x = plan_mix_experts(b, block, i, x); break;
    case BLOCK_PER_LAYER: x = plan_mix_per_layer(b, i, x); break;
    case BLOCK_SCALE: if (w >= 0) x = elementwise(b, OP_SCALE, "scaled", x, w, 1); break;
    default: return fail(b, base_fail(b->err, TANDEM_ERROR_INTERNAL, NULL, "block kind %d has no mixer", (int)block->kind));
    }
  }
  b->block = -1;
  return x;
}

/* ---- begin and end of a pass ------------------------------------------------------------------------------------- */

static int32_t embed(plan_builder *b, const char *name, arch_tensor t, double scale) {
  int32_t w = plan_weight(b, b->m->weight[t]);
  if (b->st) return -1;
  int32_t dst = plan_value(b, name, OP_TOKENS, QUANT_F32, b->p->values[w].cols);
  return plan_emit(b, (op_step){.op = OP_EMBED, .dst = dst, .src = {w, -1, -1, -1}, .scale = (float)scale});
}

/* u_l = (e_l + RMS(W x0 / sqrt(E))) / sqrt(2) for all layers at once; the factor is applied to both summands. */
static int32_t per_layer_inputs(plan_builder *b, int32_t x) {
  const model *m = b->m;
  double half = sqrt(0.5), p = (double)m->keys.n_per_layer;
  int32_t e = embed(b, "per_layer_embd", T_PL_TOKEN_EMBD, sqrt(p) * half);
  int32_t c = plan_linear(b, "per_layer_proj", x, plan_weight(b, m->weight[T_PL_MODEL_PROJ]), -1);
  c = elementwise(b, OP_SCALE, "per_layer_scaled", c, -1, (float)(1.0 / sqrt((double)m->keys.n_embd)));
  c = plan_norm(b, "per_layer_norm", c, plan_weight(b, m->weight[T_PL_PROJ_NORM]), m->keys.n_per_layer, (float)half);
  return elementwise(b, OP_ADD, "per_layer_inputs", e, c, 0);
}

/* A head in clusters: the likeliest centroids, then the logits of their tokens alone. */
static int32_t lower_clusters(plan_builder *b, int32_t x) {
  const model *m = b->m;
  int32_t used = m->n_clusters_used;
  int32_t scores = plan_linear(b, "centroids", x, plan_weight(b, m->weight[T_CENTROIDS]), -1);
  int32_t route = plan_route(b, scores, used);
  int32_t y = plan_by_expert(b, "cluster_logits", x, plan_weight(b, m->weight[T_CLUSTERS]), route, used);
  int32_t order = plan_weight(b, m->weight[T_ORDERING]);
  int32_t dst = plan_value(b, "logits", OP_TOKENS, QUANT_F32, m->n_vocab);
  return plan_emit(b, (op_step){.op = OP_SCATTER, .dst = dst, .src = {y, route, order, -1}, .n_used = used});
}

static void lower_head(plan_builder *b, int32_t x) {
  const model *m = b->m;
  int32_t head = m->weight[T_OUTPUT] >= 0 ? m->weight[T_OUTPUT] : m->weight[T_TOKEN_EMBD];
  if (b->st) return;
  int32_t rows = plan_value(b, "rows", OP_OUTPUTS, QUANT_F32, m->keys.n_embd);
  if (m->arch->borrows) rows = x; /* every token of a draft head wants logits */
  else plan_emit(b, (op_step){.op = OP_ROWS, .dst = rows, .src = {x, -1, -1, -1}});
  b->p->hidden = plan_norm(b, "output_norm", rows, plan_weight(b, m->weight[T_OUTPUT_NORM]), m->keys.n_embd, 1);
  if (b->p->limits.hidden && !b->st) b->p->values[b->p->hidden].home = OP_HIDDEN;
  int32_t logits = m->n_clusters ? lower_clusters(b, b->p->hidden)
                                 : plan_linear(b, "logits", b->p->hidden, plan_weight(b, head), plan_weight(b, m->weight[T_OUTPUT_B]));
  if (b->st) return;
  op_value *v = &b->p->values[logits];
  v->home = OP_LOGITS;
  v->stride = (size_t)v->cols * sizeof(float); /* rows lie densely: this buffer is what the caller reads */
  v->extent = v->slab = v->stride * (size_t)v->rows;
  b->p->logits = logits;
  if (m->keys.final_cap != 0)
    plan_emit(b, (op_step){.op = OP_CAP, .dst = logits, .src = {logits, -1, -1, -1}, .scale = (float)m->keys.final_cap});
}

/* A draft head's input: the target's embedding of the token, then the row that is given. [2 T] */
static int32_t lower_pair(plan_builder *b) {
  const model *m = b->m, *target = b->p->source->model;
  int64_t width = m->keys.n_embd_out;
  int32_t pair = plan_value(b, "pair", OP_TOKENS, QUANT_F32, 2 * width), table = -1;
  if (b->st) return -1;
  b->p->values[pair].home = OP_HIDDEN;
  b->p->given = plan_view(b, "given", pair, width, width);
  int32_t embd = plan_view(b, "target_embd", pair, 0, width);
  if (!b->st) table = add_value(b, &target->weights[target->weight[T_TOKEN_EMBD]].value);
  if (b->st) return -1;
  b->p->values[table].home = OP_LENT;
  double scale = target->arch->embed_scaled ? sqrt((double)width) : 1;
  plan_emit(b, (op_step){.op = OP_EMBED, .dst = embd, .src = {table, -1, -1, -1}, .scale = (float)scale});
  return plan_linear(b, "pre_projection", pair, plan_weight(b, m->weight[T_PRE_PROJ]), -1);
}

/* The row for the next step goes where this step's came from. */
static void lower_given(plan_builder *b) {
  int32_t next = plan_linear(b, "post_projection", b->p->hidden, plan_weight(b, b->m->weight[T_POST_PROJ]), -1);
  if (b->st) return;
  op_value *v = &b->p->values[next];
  const op_value *given = &b->p->values[b->p->given];
  v->view_of = given->view_of;
  v->stride = given->stride;
  v->offset = given->offset;
}

status plan_lower(plan *p, error *err) {
  const model *m = p->model;
  plan_builder b = {.p = p, .m = m, .err = err, .angles = {-1, -1}, .per_layer = -1, .block = -1};
  void *weights;
  TRY(arena_alloc(p->memory, ((size_t)m->n_weights + 1) * sizeof(int32_t), &weights, err));
  b.weights = weights;
  for (int32_t i = 0; i < m->n_weights; i++) b.weights[i] = -1;
  int32_t x = m->arch->borrows ? lower_pair(&b) : embed(&b, "embd", T_TOKEN_EMBD, m->arch->embed_scaled ? sqrt((double)m->keys.n_embd) : 1);
  if (m->keys.n_per_layer > 0) b.per_layer = per_layer_inputs(&b, x);
  for (int i = 0; i < m->n_layers && !b.st; i++) x = lower_layer(&b, i, x);
  lower_head(&b, x);
  if (m->arch->borrows) lower_given(&b);
  return b.st;
}
