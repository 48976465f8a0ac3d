/* run_row: drivers of ops that treat each row alone. Threads split rows; ROWS and CAP, which do not follow each other on the same
 * rows, split columns where rows are few and wide. The bits do not depend on it (rule R4).
 *
 * Knows nothing of instruction sets, weights' layouts and the cache. */
#include <string.h>

#include "device/cpu/cpu.h"

/* What one thread does of a step: rows r0 .. r1 - 1, columns c0 .. c1 - 1. */
typedef struct part {
  int64_t r0, r1, c0, c1;
} part;

/* Rows of this thread's own (op.def). */
static part own_rows(const cpu_run *r, int i_thread, const op_value *dst) {
  int64_t rows = op_rows_of(dst, r->batch);
  int n = r->device->n_threads;
  return (part){cpu_share(rows, i_thread, n), cpu_share(rows, i_thread + 1, n), 0, dst->cols};
}

/* Rows, or columns where rows are few and wide. */
static part part_of(const cpu_run *r, int i_thread, const op_value *dst) {
  const int64_t least = 1024, grain = 16; /* columns that are worth another thread's cache misses; of a cache line */
  int64_t rows = op_rows_of(dst, r->batch), grains = dst->cols / grain;
  int n = r->device->n_threads;
  if (rows >= 4 * n || dst->cols < least * n) return own_rows(r, i_thread, dst);
  int64_t c1 = i_thread + 1 == n ? dst->cols : cpu_share(grains, i_thread + 1, n) * grain;
  return (part){0, rows, cpu_share(grains, i_thread, n) * grain, c1};
}

static float *floats(const cpu_run *r, const op_value *v, int64_t i) { return (float *)(void *)cpu_row(r, v, i); }

typedef struct operands {
  const op_step *s;
  const op_value *dst, *a, *b; /* b: NULL if absent */
} operands;

static operands operands_of(const cpu_run *r, int i_step) {
  const op_step *s = &r->program->steps[i_step];
  const op_value *v = r->program->values;
  return (operands){s, &v[s->dst], s->src[0] >= 0 ? &v[s->src[0]] : NULL, s->src[1] >= 0 ? &v[s->src[1]] : NULL};
}

/* ---- rows in and out ------------------------------------------------------------------------------------------------ */

void cpu_run_embed(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  part p = own_rows(r, i_thread, o.dst);
  for (int64_t t = p.r0; t < p.r1; t++) {
    float *y = floats(r, o.dst, t);
    cpu_decode_row(o.a, cpu_at(r, o.a), r->batch->ids[t], y);
    if (o.s->scale != 1.0f) r->device->kernels.scale(y, o.s->scale, y, o.dst->cols);
  }
}

void cpu_run_rows(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  part p = part_of(r, i_thread, o.dst);
  for (int64_t i = p.r0; i < p.r1; i++)
    memcpy(floats(r, o.dst, i) + p.c0, floats(r, o.a, r->batch->outputs[i]) + p.c0, (size_t)(p.c1 - p.c0) * sizeof(float));
}

/* ---- groups and blocks of columns ----------------------------------------------------------------------------------- */

void cpu_put_blocks(const cpu_run *r, const op_value *dst, int64_t t, int64_t c, const float *x, int64_t n) {
  const quant_info *info = &quant_table[dst->type];
  void *y = cpu_row(r, dst, t) + c / info->block * info->bytes;
  r->device->kernels.quant[dst->type](x, y, n);
}

/* Whole rows, which leave as blocks. */
static void norm_to_blocks(const cpu_run *r, const operands *o, const float *g, int i_thread) {
  float *row = (float *)(void *)(r->work + (size_t)i_thread * r->work_stride);
  part p = own_rows(r, i_thread, o->dst);
  for (int64_t t = p.r0; t < p.r1; t++) {
    r->device->kernels.norm(floats(r, o->a, t), g, row, (int)o->dst->cols, o->s->eps, o->s->scale);
    cpu_put_blocks(r, o->dst, t, 0, row, o->dst->cols);
  }
}

void cpu_run_norm(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  int group = o.s->group;
  const float *g = o.b ? floats(r, o.b, 0) : NULL;
  if (o.dst->type != QUANT_F32) {
    norm_to_blocks(r, &o, g, i_thread);
    return;
  }
  part p = own_rows(r, i_thread, o.dst);
  for (int64_t t = p.r0; t < p.r1; t++)
    for (int64_t c = p.c0; c < p.c1; c += group)
      r->device->kernels.norm(floats(r, o.a, t) + c, g, floats(r, o.dst, t) + c, group, o.s->eps, o.s->scale);
}

void cpu_run_quant(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  part p = own_rows(r, i_thread, o.dst);
  for (int64_t t = p.r0; t < p.r1; t++) cpu_put_blocks(r, o.dst, t, p.c0, floats(r, o.a, t) + p.c0, p.c1 - p.c0);
}

void cpu_run_rope(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  int dim = o.s->head_dim;
  part p = own_rows(r, i_thread, o.dst);
  for (int64_t t = p.r0; t < p.r1; t++)
    for (int64_t c = p.c0; c < p.c1; c += dim)
      r->device->kernels.rope(floats(r, o.a, t) + c, floats(r, o.b, t), floats(r, o.dst, t) + c, dim, o.s->rope.n_rot,
                              o.s->rope.neox);
}

void cpu_run_angles(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  const float *factors = o.a ? floats(r, o.a, 0) : NULL;
  part p = own_rows(r, i_thread, o.dst);
  for (int64_t t = p.r0; t < p.r1; t++) cpu_angles(&o.s->rope, factors, r->batch->positions[t], floats(r, o.dst, t));
}

/* ---- value by value ------------------------------------------------------------------------------------------------- */

void cpu_run_glu(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  part p = own_rows(r, i_thread, o.dst);
  for (int64_t t = p.r0; t < p.r1; t++)
    r->device->kernels.glu[o.s->act](floats(r, o.a, t) + p.c0, floats(r, o.b, t) + p.c0, floats(r, o.dst, t) + p.c0,
                                     p.c1 - p.c0);
}

void cpu_run_add(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  part p = own_rows(r, i_thread, o.dst);
  for (int64_t t = p.r0; t < p.r1; t++)
    r->device->kernels.add(floats(r, o.a, t) + p.c0, floats(r, o.b, t) + p.c0, floats(r, o.dst, t) + p.c0, p.c1 - p.c0);
}

void cpu_run_scale(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  float scale = o.b ? o.s->scale * floats(r, o.b, 0)[0] : o.s->scale;
  part p = own_rows(r, i_thread, o.dst);
  for (int64_t t = p.r0; t < p.r1; t++)
    r->device->kernels.scale(floats(r, o.a, t) + p.c0, scale, floats(r, o.dst, t) + p.c0, p.c1 - p.c0);
}

void cpu_run_cap(const cpu_run *r, int i_step, int i_thread) {
  operands o = operands_of(r, i_step);
  part p = part_of(r, i_thread, o.dst);
  for (int64_t t = p.r0; t < p.r1; t++)
    r->device->kernels.cap(floats(r, o.a, t) + p.c0, o.s->scale, floats(r, o.dst, t) + p.c0, p.c1 - p.c0);
}
