/* layout.c: offsets of scratch values by lifetime. A value lives from the step that writes it to the last one that reads it,
 * both widened to the meetings around them, because steps between two meetings run at the same time. First fit over the live
 * intervals, in the order of birth: the list is short and the result is the same on every machine. */
#include "plan/plan.h"

enum { SCRATCH_ALIGN = 64 };

typedef struct life {
  int32_t value, first, last; /* meetings' regions */
} life;

static status lives_of(const plan *p, life **out, int32_t *n, error *err) {
  void *memory;
  TRY(arena_alloc(p->memory, ((size_t)p->n_values + 1) * sizeof(life), &memory, err));
  life *lives = memory;
  for (int32_t v = 0; v < p->n_values; v++) lives[v] = (life){v, -1, -1};
  int32_t region = 0;
  for (int32_t i = 0; i < p->n_steps; i++) {
    const op_step *s = &p->steps[i];
    for (int k = -1; k < op_table[s->op].n_src; k++) {
      int32_t v = plan_root(p, k < 0 ? s->dst : s->src[k]);
      if (v < 0) continue;
      if (lives[v].first < 0) lives[v].first = region;
      lives[v].last = region;
    }
    region += s->sync;
  }
  *n = 0;
  for (int32_t v = 0; v < p->n_values; v++)
    if (p->values[v].home == OP_SCRATCH && p->values[v].view_of < 0 && lives[v].first >= 0) lives[(*n)++] = lives[v];
  for (int32_t i = 1; i < *n; i++) /* by birth; stable insertion, nearly sorted already */
    for (int32_t j = i; j > 0 && lives[j].first < lives[j - 1].first; j--) {
      life t = lives[j];
      lives[j] = lives[j - 1];
      lives[j - 1] = t;
    }
  *out = lives;
  return TANDEM_OK;
}

/* The lowest offset at which value lives[i] meets no earlier-placed value that is alive with it. */
static size_t first_fit(const plan *p, const life *lives, int32_t i) {
  size_t at = 0, bytes = size_align(p->values[lives[i].value].extent, SCRATCH_ALIGN);
  for (bool moved = true; moved;) {
    moved = false;
    for (int32_t j = 0; j < i; j++) {
      const op_value *o = &p->values[lives[j].value];
      if (lives[j].last < lives[i].first || lives[j].first > lives[i].last) continue;
      size_t end = o->offset + size_align(o->extent, SCRATCH_ALIGN);
      if (at < end && o->offset < at + bytes) {
        at = end;
        moved = true;
      }
    }
  }
  return at;
}

/* A view's offset was relative to its parent; views of views do not occur. */
static void place_views(plan *p) {
  for (int32_t v = 0; v < p->n_values; v++) {
    op_value *view = &p->values[v];
    if (view->view_of < 0) continue;
    const op_value *parent = &p->values[view->view_of];
    view->extent = (size_t)(view->rows - 1) * view->stride + op_row_bytes(view->type, view->cols);
    view->slab = view->extent;
    view->offset += parent->offset;
    view->home = parent->home;
  }
}

status plan_layout(plan *p, error *err) {
  life *lives;
  int32_t n;
  size_t scratch = 0;
  TRY(lives_of(p, &lives, &n, err));
  for (int32_t i = 0; i < n; i++) {
    op_value *v = &p->values[lives[i].value];
    v->offset = first_fit(p, lives, i);
    size_t end = v->offset + size_align(v->extent, SCRATCH_ALIGN);
    if (end > scratch) scratch = end;
  }
  place_views(p);
  p->home_bytes[OP_SCRATCH] = scratch;
  p->home_bytes[OP_LOGITS] = p->values[p->logits].extent;
  p->home_bytes[OP_WEIGHT] = p->model->weight_bytes;
  p->home_bytes[OP_LENT] = p->source ? p->source->model->weight_bytes : 0;
  for (int32_t v = 0; v < p->n_values; v++)
    if (p->values[v].home == OP_HIDDEN && p->values[v].view_of < 0) p->home_bytes[OP_HIDDEN] = p->values[v].extent;
  return TANDEM_OK;
}
