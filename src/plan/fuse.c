/* fuse.c: rewrites on the finished list of steps. Each keeps the bits of every result that is read.
 *
 *   fold    a step that only one other reads becomes a part of it, or takes it in: what is computed and in which order stays, but
 *           the result in between is never written, and the threads do not meet for it
 *   dead    a step whose result nobody reads is dropped
 *   sync    the threads meet after a step only if a later one, up to the next meeting, touches what another thread wrote: q, k and v
 *           run side by side, and steps on rows of their own follow each other, without a barrier between them */
#include "plan/plan.h"

int32_t plan_root(const plan *p, int32_t v) {
  while (v >= 0 && p->values[v].view_of >= 0) v = p->values[v].view_of;
  return v;
}

bool plan_reads(const plan *p, const op_step *s, int32_t root) {
  for (int k = 0; k < op_table[s->op].n_src; k++)
    if (s->src[k] >= 0 && plan_root(p, s->src[k]) == root) return true;
  return false;
}

/* ---- folding ----------------------------------------------------------------------------------------------------- */

static void drop_step(plan *p, int32_t i) {
  for (int32_t j = i + 1; j < p->n_steps; j++) p->steps[j - 1] = p->steps[j];
  p->n_steps--;
}

/* The step before i that writes v, if it is of that kind and no other than step i reads v; else -1. */
static int32_t feeder(const plan *p, int32_t i, int32_t v, op_kind op) {
  int32_t writer = -1, readers = 0;
  if (v < 0 || p->values[v].home != OP_SCRATCH || p->values[v].view_of >= 0) return -1;
  for (int32_t k = 0; k < p->n_steps; k++) {
    if (k < i && p->steps[k].dst >= 0 && plan_root(p, p->steps[k].dst) == v) writer = k;
    readers += plan_reads(p, &p->steps[k], v);
  }
  return writer >= 0 && readers == 1 && p->steps[writer].op == op && p->steps[writer].dst == v ? writer : -1;
}

/* QUANT i after a step that can write blocks itself. Threads share the blocks of a row out of MMGLU: there must be enough of them. */
static bool fold_quant(plan *p, int32_t i) {
  const int least_blocks = 24, least_block = 16;
  int32_t x = p->steps[i].src[0], norm = feeder(p, i, x, OP_NORM), glu = feeder(p, i, x, OP_MMGLU), to = norm >= 0 ? norm : glu;
  const op_value *dst = &p->values[p->steps[i].dst];
  const int block = quant_table[dst->type].block > least_block ? quant_table[dst->type].block : least_block;
  if (to < 0 || (norm >= 0 && p->steps[norm].group != p->values[x].cols)) return false;
  if (glu >= 0 && dst->cols / block < least_blocks) return false;
  p->steps[to].dst = p->steps[i].dst;
  drop_step(p, i);
  return true;
}

/* GLU i of two products of the same x. */
static bool fold_glu(plan *p, int32_t i) {
  op_step *s = &p->steps[i];
  int32_t g = feeder(p, i, s->src[0], OP_MM), u = feeder(p, i, s->src[1], OP_MM);
  if (g < 0 || u < 0 || p->steps[g].src[0] != p->steps[u].src[0]) return false;
  for (int k = 2; k < 4; k++)
    if (p->steps[g].src[k] >= 0 || p->steps[u].src[k] >= 0) return false;
  s->op = OP_MMGLU;
  s->src[0] = p->steps[g].src[0];
  s->src[1] = p->steps[g].src[1];
  s->src[2] = p->steps[u].src[1];
  drop_step(p, g > u ? g : u);
  drop_step(p, g > u ? u : g);
  return true;
}

/* ADD i of a product to something else. */
static bool fold_add(plan *p, int32_t i) {
  for (int k = 1; k >= 0; k--) {
    int32_t mm = feeder(p, i, p->steps[i].src[k], OP_MM);
    if (mm < 0 || p->steps[mm].src[3] >= 0) continue;
    op_step fused = p->steps[mm];
    fused.src[3] = p->steps[i].src[!k];
    fused.dst = p->steps[i].dst;
    p->steps[i] = fused;
    drop_step(p, mm);
    return true;
  }
  return false;
}

static void fold(plan *p) {
  bool (*const folds[OP_COUNT])(plan *, int32_t) = {[OP_GLU] = fold_glu, [OP_QUANT] = fold_quant, [OP_ADD] = fold_add};
  for (int32_t i = 0; i < p->n_steps; i++) {
    int32_t n = p->n_steps;
    if (folds[p->steps[i].op] && folds[p->steps[i].op](p, i)) i -= n - p->n_steps; /* those up to i are fewer now */
  }
}

/* ---- dead steps -------------------------------------------------------------------------------------------------- */

static bool read_later(const plan *p, int32_t i_step) {
  int32_t root = plan_root(p, p->steps[i_step].dst);
  if (p->values[root].home != OP_SCRATCH) return true; /* the caller reads it */
  for (int32_t i = i_step + 1; i < p->n_steps; i++)
    if (plan_reads(p, &p->steps[i], root)) return true;
  return false;
}

static void drop_dead(plan *p) {
  for (int32_t i = p->n_steps - 1; i >= 0; i--) { /* backwards: what fed a dead step only is dead too */
    if (p->steps[i].dst < 0 || read_later(p, i)) continue;
    drop_step(p, i);
  }
}

/* ---- meetings ---------------------------------------------------------------------------------------------------- */

bool plan_same_rows(const plan *p, const op_step *a, const op_step *b) {
  op_rows rows_a = a->dst < 0 ? OP_TOKENS : p->values[a->dst].by, rows_b = b->dst < 0 ? OP_TOKENS : p->values[b->dst].by;
  return op_table[a->op].own && op_table[b->op].own && rows_a == rows_b;
}

/* True if step b must not start before every thread is done with step a. */
static bool depends(const plan *p, const op_step *a, const op_step *b) {
  if (plan_same_rows(p, a, b)) return false;
  if (a->op == OP_STORE) return b->op == OP_ATTEND && b->cache == a->cache;
  if (a->dst < 0) return false;
  int32_t root = plan_root(p, a->dst);
  return plan_reads(p, b, root) || (b->dst >= 0 && plan_root(p, b->dst) == root);
}

static void place_meetings(plan *p) {
  int32_t first = 0; /* of the steps since the last meeting */
  for (int32_t i = 1; i < p->n_steps; i++) {
    bool meet = false;
    for (int32_t j = first; j < i && !meet; j++) meet = depends(p, &p->steps[j], &p->steps[i]);
    p->steps[i - 1].sync = meet;
    if (meet) first = i;
  }
  if (p->n_steps) p->steps[p->n_steps - 1].sync = true;
}

void plan_fuse(plan *p) {
  drop_dead(p);
  fold(p);
  place_meetings(p);
}
