/* fuse.c: rewrites on the finished list of steps. Each keeps the bits of every result that is read.
 *
 *   dead    a step whose result nobody reads is dropped
 *   sync    the threads meet after a step only if a later one, up to the next meeting, touches what it wrote; so q, k and v,
 *           or gate and up, run side by side without a barrier between them */
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
    for (int32_t j = i + 1; j < p->n_steps; j++) p->steps[j - 1] = p->steps[j];
    p->n_steps--;
  }
}

/* ---- meetings ---------------------------------------------------------------------------------------------------- */

/* True if step b must not start before every thread is done with step a. */
static bool depends(const plan *p, const op_step *a, const op_step *b) {
  if (a->op == OP_MMX && b->op == OP_MMX) return true; /* one area for the lists of columns */
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
  place_meetings(p);
}
