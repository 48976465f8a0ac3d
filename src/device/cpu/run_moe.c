/* run_moe: the drivers of experts. ROUTE picks the experts of a token, MMX multiplies each (token, slot) by its expert, MIX
 * adds a token's slots up in slot order (rule R9). A head whose vocabulary is cut into clusters is the same thing: clusters are
 * experts, and SCATTER puts their results where their tokens are.
 *
 * MMX sorts the slots by expert, so that an expert's slots are the columns of one matrix product. Every thread sorts for
 * itself: some microseconds of the same work, and no barrier and no list that another step could still be reading. */
#include <string.h>

#include "device/cpu/mm.h"

static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- ROUTE ---------------------------------------------------------------------------------------------------------- */

/* The best index not yet taken (taken ones are -1, probabilities are not negative; NaN never wins, but may be left). */
static int32_t best_left(const float *p, int64_t n) {
  int32_t best = -1;
  for (int32_t i = 0; i < n; i++)
    if (p[i] != -1.0f && (best < 0 || p[i] > p[best])) best = i;
  return best;
}

static void route_row(const cpu_kernels *kernels, const float *x, float *p, int64_t n, int n_used, char *to) {
  const float least = 6.103515625e-5f; /* the smallest normal f16: no division by a vanishing sum */
  float m = x[0], sum = 0;
  for (int64_t i = 1; i < n; i++) m = x[i] > m ? x[i] : m;
  float total = kernels->exp_sum(x, m, p, n);
  for (int64_t i = 0; i < n; i++) p[i] /= total;
  int32_t ids[OP_MAX_USED];
  float weights[OP_MAX_USED];
  for (int s = 0; s < n_used; s++) {
    ids[s] = best_left(p, n);
    weights[s] = p[ids[s]];
    p[ids[s]] = -1.0f;
    sum += weights[s];
  }
  for (int s = 0; s < n_used; s++) weights[s] /= sum > least ? sum : least;
  memcpy(to, ids, sizeof(int32_t) * (size_t)n_used);
  memcpy(to + sizeof(int32_t) * (size_t)n_used, weights, sizeof(float) * (size_t)n_used);
}

void cpu_run_route(const cpu_run *r, int i_step, int i_thread) {
  const op_step *s = &r->program->steps[i_step];
  const op_value *dst = &r->program->values[s->dst], *src = &r->program->values[s->src[0]];
  float *p = (float *)(void *)(r->work + (size_t)i_thread * r->work_stride);
  int64_t n = op_rows_of(dst, r->batch);
  for (int64_t t = i_thread; t < n; t += r->device->n_threads) {
    const float *x = (const float *)(const void *)(cpu_at(r, src) + (size_t)t * src->stride);
    route_row(&r->device->kernels, x, p, src->cols, s->n_used, cpu_at(r, dst) + (size_t)t * dst->stride);
  }
}

/* ---- MMX ------------------------------------------------------------------------------------------------------------ */

/* Slots by expert: those of expert e are slots[start[e]] .. slots[start[e + 1] - 1], each a token * n_used + slot, in
 * increasing order. */
typedef struct expert_lists {
  int32_t *slots; /* [n_tokens * n_used] */
  int32_t *start; /* [n_experts + 1] */
} expert_lists;

static int32_t id_at(const char *row, int s) {
  int32_t id;
  memcpy(&id, row + sizeof(int32_t) * (size_t)s, sizeof id);
  return id;
}

/* Counting sort; fill is [n_experts + 1]. */
static void sort_slots(const expert_lists *l, int32_t *fill, const char *routes, size_t stride, int64_t n_tokens, int n_used,
                       int64_t n_experts) {
  memset(l->start, 0, sizeof(int32_t) * (size_t)(n_experts + 1));
  for (int64_t t = 0; t < n_tokens; t++)
    for (int s = 0; s < n_used; s++) l->start[id_at(routes + (size_t)t * stride, s) + 1]++;
  for (int64_t e = 0; e < n_experts; e++) l->start[e + 1] += l->start[e];
  memcpy(fill, l->start, sizeof(int32_t) * (size_t)(n_experts + 1));
  for (int64_t t = 0; t < n_tokens; t++)
    for (int s = 0; s < n_used; s++) l->slots[fill[id_at(routes + (size_t)t * stride, s)]++] = (int32_t)(t * n_used + s);
}

/* The rows a step reads and writes, by slot. */
typedef struct slot_rows {
  const char *x;
  char *y;
  size_t x_stride, y_stride, x_part, y_part; /* from token to token, from slot to slot */
  int n_used;
} slot_rows;

static void slot_columns(const slot_rows *a, const int32_t *slots, int n, const void **xs, float **ys) {
  for (int c = 0; c < n; c++) {
    size_t token = (size_t)(slots[c] / a->n_used), slot = (size_t)(slots[c] % a->n_used);
    xs[c] = a->x + token * a->x_stride + slot * a->x_part;
    ys[c] = (float *)(void *)(a->y + token * a->y_stride + slot * a->y_part);
  }
}

/* One MMX on one thread. */
typedef struct by_expert {
  const op_value *w;
  const char *panels; /* of expert 0 */
  cpu_matrix m;
  expert_lists lists;
  slot_rows rows;
  float *tail;
} by_expert;

/* Panels p0 .. p0 + n_panels - 1 of an expert for n_cols of its slots from c0 on. */
static void expert_unit(by_expert *a, int64_t expert, int64_t p0, int64_t n_panels, int64_t c0, int n_cols) {
  const void *xs[CPU_MM_COLUMNS];
  float *ys[CPU_MM_COLUMNS];
  slot_columns(&a->rows, a->lists.slots + a->lists.start[expert] + c0, n_cols, xs, ys);
  a->m.panels = a->panels + (size_t)expert * a->w->slab;
  cpu_matrix_unit(&a->m, p0, n_panels, xs, ys, NULL, n_cols, a->tail);
}

/* Up to CPU_FEW_COLUMNS tokens, each of whose experts are different ones, so no expert has more columns than that: the panels of all
 * experts in use are one row of panels, of which each thread reads slabs. */
static void few_slots(by_expert *a, const int32_t *active, int64_t n_active, cpu_spans s) {
  s.n = n_active * a->m.n_panels;
  for (int64_t q, end; cpu_next_span(&s, &q, &end);)
    for (int64_t n; q < end; q += n) {
      int64_t expert = active[q / a->m.n_panels], p0 = q % a->m.n_panels;
      n = min_of(end - q, a->m.n_panels - p0);
      expert_unit(a, expert, p0, n, 0, a->lists.start[expert + 1] - a->lists.start[expert]);
    }
}

/* Many: threads claim units, which are numbered by expert, then block of its columns, then group of panels. A thread's claims only
 * grow, so it walks the experts once: `base` is the first unit of an expert. */
static void many_slots(by_expert *a, const int32_t *active, int64_t n_active, int64_t most, const cpu_spans *s) {
  const expert_lists *l = &a->lists;
  int64_t mean = (l->start[a->w->n_slabs] + n_active - 1) / n_active, n_panels = a->m.n_panels;
  int64_t group = cpu_matrix_group(&a->m, min_of(mean, most), n_active, s->n_threads), n_groups = (n_panels + group - 1) / group;
  int64_t u = pool_claim(s->claims, 1), base = 0;
  for (int64_t i = 0; i < n_active; i++) {
    int64_t e = active[i], n_cols = l->start[e + 1] - l->start[e], end = base + (n_cols + most - 1) / most * n_groups;
    for (; u < end; u = pool_claim(s->claims, 1)) {
      int64_t c0 = (u - base) / n_groups * most, p0 = (u - base) % n_groups * group;
      expert_unit(a, e, p0, min_of(group, n_panels - p0), c0, (int)min_of(most, n_cols - c0));
    }
    base = end;
  }
}

void cpu_run_mmx(const cpu_run *r, int i_step, int i_thread) {
  const op_step *s = &r->program->steps[i_step];
  const op_value *v = r->program->values, *dst = &v[s->dst], *src = &v[s->src[0]], *w = &v[s->src[1]], *route = &v[s->src[2]];
  int64_t n = op_rows_of(dst, r->batch), n_active = 0;
  char *work = r->work + (size_t)i_thread * r->work_stride;
  by_expert a = {w, cpu_at(r, w), cpu_matrix_of(r, w, 0, NULL), {.start = (int32_t *)(void *)(work + CPU_MM_TAIL)},
                 {cpu_at(r, src), cpu_at(r, dst), src->stride, dst->stride, src->cols == w->cols ? 0 : op_row_bytes(src->type, w->cols),
                  sizeof(float) * (size_t)w->rows, s->n_used}, (float *)(void *)work};
  int32_t *start = a.lists.start, *active = start + w->n_slabs + 1;
  a.lists.slots = active + w->n_slabs + 1;
  sort_slots(&a.lists, active, cpu_at(r, route), route->stride, n, s->n_used, w->n_slabs);
  for (int32_t e = 0; e < w->n_slabs; e++)
    if (start[e + 1] > start[e]) active[n_active++] = e;
  if (!n_active) return;
  cpu_spans spans = {.claims = &r->counters[i_step], .i_thread = i_thread, .n_threads = r->device->n_threads};
  if (n <= CPU_FEW_COLUMNS) few_slots(&a, active, n_active, spans);
  else many_slots(&a, active, n_active, cpu_matrix_columns(op_row_bytes(src->type, w->cols)), &spans);
}

/* Lists are each thread's own, in cpu_mm_work. */
size_t cpu_moe_shared(const device_program *p) { return (void)p, 0; }

/* ---- MIX ------------------------------------------------------------------------------------------------------------ */

/* Columns c0 .. c0 + n - 1 of one token. */
static void mix_part(const cpu_kernels *kernels, const float *y, const char *route, const float *scales, int n_used, int64_t cols,
                     int64_t c0, int64_t n, float *to) {
  memset(to + c0, 0, sizeof(float) * (size_t)n);
  for (int s = 0; s < n_used; s++) {
    float weight;
    memcpy(&weight, route + sizeof(float) * (size_t)(n_used + s), sizeof weight);
    if (scales) weight *= scales[id_at(route, s)];
    kernels->axpy(weight, y + s * cols + c0, to + c0, n);
  }
}

void cpu_run_mix(const cpu_run *r, int i_step, int i_thread) {
  const op_step *s = &r->program->steps[i_step];
  const op_value *v = r->program->values, *dst = &v[s->dst], *y = &v[s->src[0]], *route = &v[s->src[1]];
  const float *scales = s->src[2] >= 0 ? (const float *)(const void *)cpu_at(r, &v[s->src[2]]) : NULL;
  const int64_t part = 1024; /* columns of a unit: few tokens should still occupy several threads */
  int64_t n = op_rows_of(dst, r->batch), parts = (dst->cols + part - 1) / part;
  for (int64_t u = i_thread; u < n * parts; u += r->device->n_threads) {
    size_t t = (size_t)(u / parts);
    int64_t c0 = u % parts * part;
    mix_part(&r->device->kernels, (const float *)(const void *)(cpu_at(r, y) + t * y->stride), cpu_at(r, route) + t * route->stride,
             scales, s->n_used, dst->cols, c0, min_of(part, dst->cols - c0), (float *)(void *)(cpu_at(r, dst) + t * dst->stride));
  }
}

/* ---- SCATTER -------------------------------------------------------------------------------------------------------- */

/* Columns c0 .. c1 - 1 of one token: each thread fills its own and looks through all results for those that belong there. The order
 * is a permutation (model/load.c), so every column has one writer. */
static void scatter_part(const float *y, int64_t n_y, const char *route, const float *order, int64_t rows, int64_t c0, int64_t c1, float *to) {
  float least = y[0];
  for (int64_t i = 1; i < n_y; i++) least = y[i] < least ? y[i] : least;
  for (int64_t c = c0; c < c1; c++) to[c] = least - 1;
  for (int64_t i = 0; i < n_y; i++) {
    int64_t c = (int64_t)order[id_at(route, (int)(i / rows)) * rows + i % rows];
    if (c >= c0 && c < c1) to[c] = y[i];
  }
}

void cpu_run_scatter(const cpu_run *r, int i_step, int i_thread) {
  const op_step *s = &r->program->steps[i_step];
  const op_value *v = r->program->values, *dst = &v[s->dst], *y = &v[s->src[0]], *route = &v[s->src[1]];
  const float *order = (const float *)(const void *)cpu_at(r, &v[s->src[2]]);
  int64_t n = op_rows_of(dst, r->batch), part = dst->cols / r->device->n_threads, c0 = part * i_thread;
  int64_t c1 = i_thread + 1 == r->device->n_threads ? dst->cols : c0 + part;
  for (int64_t t = 0; t < n; t++)
    scatter_part((const float *)(const void *)(cpu_at(r, y) + (size_t)t * y->stride), y->cols, cpu_at(r, route) + (size_t)t * route->stride, order,
                 y->cols / s->n_used, c0, c1, (float *)(void *)(cpu_at(r, dst) + (size_t)t * dst->stride));
}
