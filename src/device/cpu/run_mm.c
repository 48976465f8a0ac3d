/* run_mm: the driver of MM. A unit is a group of panels times a block of columns; who computes a unit does not matter, since
 * an output is never split (rule R4).
 *
 * Few columns: reading the weights is the work. Every thread streams its own slab of panels, equal and always the same.
 * Many columns: arithmetic is the work. Threads claim units; a block of columns stays in the second level cache while the
 * panels pass by. */
#include <string.h>

#include "device/cpu/mm.h"

enum { FEW_COLUMNS = 16 };

static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }

cpu_matrix cpu_matrix_of(const cpu_run *r, const op_value *w, int64_t slab, const op_value *bias) {
  return (cpu_matrix){
      .mm = r->device->kernels.mm[w->type],
      .panels = cpu_at(r, w) + (size_t)slab * w->slab,
      .panel_bytes = cpu_panel_bytes(w->type, w->cols),
      .rows = w->rows,
      .n_panels = (w->rows + CPU_PANEL - 1) / CPU_PANEL,
      .k = w->cols,
      .bias = bias ? (const float *)(const void *)cpu_at(r, bias) : NULL,
  };
}

/* The last panel, if it is not whole: a kernel writes 16 rows, so it writes them elsewhere. */
static void last_panel(const cpu_matrix *m, const void *const *x, float *const *y, int n_cols, float *tail) {
  float *to[CPU_MM_COLUMNS];
  int64_t p = m->rows / CPU_PANEL;
  for (int c = 0; c < n_cols; c++) to[c] = tail + CPU_PANEL * c;
  m->mm(m->panels + (size_t)p * m->panel_bytes, m->panel_bytes, 1, m->k, x, to, n_cols);
  for (int c = 0; c < n_cols; c++) memcpy(y[c] + CPU_PANEL * p, to[c], (size_t)(m->rows % CPU_PANEL) * sizeof(float));
}

void cpu_matrix_unit(const cpu_matrix *m, int64_t p0, int64_t n_panels, const void *const *x, float *const *y, int n_cols, float *tail) {
  float *to[CPU_MM_COLUMNS];
  int64_t whole = min_of(n_panels, m->rows / CPU_PANEL - p0), row0 = CPU_PANEL * p0;
  for (int c = 0; c < n_cols; c++) to[c] = y[c] + row0;
  if (whole > 0) m->mm(m->panels + (size_t)p0 * m->panel_bytes, m->panel_bytes, (int)whole, m->k, x, to, n_cols);
  if (whole < n_panels) last_panel(m, x, y, n_cols, tail);
  if (!m->bias) return;
  int64_t n = min_of(m->rows - row0, CPU_PANEL * n_panels);
  for (int c = 0; c < n_cols; c++)
    for (int64_t i = 0; i < n; i++) to[c][i] += m->bias[row0 + i];
}

int cpu_matrix_columns(size_t row_bytes) {
  const size_t half = 512 * 1024;
  return (int)min_of(CPU_MM_COLUMNS, max_of(16, (int64_t)(half / row_bytes)));
}

int64_t cpu_matrix_group(const cpu_matrix *m, int64_t n_columns, int64_t n_blocks, int n_threads) {
  const int64_t macs = 16 << 20, least = 8; /* units a thread */
  int64_t by_time = macs / (CPU_PANEL * m->k * n_columns);
  int64_t by_share = m->n_panels * n_blocks / (least * n_threads);
  return max_of(1, min_of(by_time, by_share));
}

/* First panel of thread i of n. */
static int64_t slab_start(int64_t n_panels, int i, int n) { return n_panels * i / n; }

typedef struct rows {
  char *first;
  size_t stride;
} rows;

static void columns_at(const rows *x, const rows *y, int64_t first, int n, const void **xs, float **ys) {
  for (int c = 0; c < n; c++) {
    xs[c] = x->first + (size_t)(first + c) * x->stride;
    ys[c] = (float *)(void *)(y->first + (size_t)(first + c) * y->stride);
  }
}

void cpu_run_mm(const cpu_run *r, int i_step, int i_thread) {
  const op_step *s = &r->program->steps[i_step];
  const op_value *v = r->program->values, *dst = &v[s->dst], *src = &v[s->src[0]];
  cpu_matrix m = cpu_matrix_of(r, &v[s->src[1]], 0, s->src[2] >= 0 ? &v[s->src[2]] : NULL);
  rows x = {cpu_at(r, src), src->stride}, y = {cpu_at(r, dst), dst->stride};
  float *tail = (float *)(void *)(r->work + (size_t)i_thread * r->work_stride);
  int64_t n = op_rows_of(dst, r->batch);
  int n_threads = r->device->n_threads;
  const void *xs[CPU_MM_COLUMNS];
  float *ys[CPU_MM_COLUMNS];
  if (n <= FEW_COLUMNS) {
    int64_t p0 = slab_start(m.n_panels, i_thread, n_threads), p1 = slab_start(m.n_panels, i_thread + 1, n_threads);
    columns_at(&x, &y, 0, (int)n, xs, ys);
    if (p0 < p1 && n > 0) cpu_matrix_unit(&m, p0, p1 - p0, xs, ys, (int)n, tail);
    return;
  }
  int64_t most = cpu_matrix_columns(src->stride), n_blocks = (n + most - 1) / most, block = (n + n_blocks - 1) / n_blocks;
  int64_t group = cpu_matrix_group(&m, block, n_blocks, n_threads), n_groups = (m.n_panels + group - 1) / group;
  for (int64_t u; (u = pool_claim(&r->counters[i_step], 1)) < n_blocks * n_groups;) {
    int64_t c0 = u / n_groups * block, p0 = u % n_groups * group;
    int n_cols = (int)min_of(block, n - c0);
    columns_at(&x, &y, c0, n_cols, xs, ys);
    cpu_matrix_unit(&m, p0, min_of(group, m.n_panels - p0), xs, ys, n_cols, tail);
  }
}

/* What MMX keeps besides a tail, see run_moe.c: a list of its columns and where each expert's begin. */
static size_t step_work(const device_program *p, const op_step *s) {
  const op_value *v = p->values;
  switch (s->op) {
  case OP_MM: return CPU_MM_TAIL;
  case OP_MMX: return CPU_MM_TAIL + sizeof(int32_t) * (size_t)(v[s->dst].rows * s->n_used + 2 * v[s->src[1]].n_slabs + 2);
  case OP_ROUTE: return sizeof(float) * (size_t)v[s->src[0]].cols;
  default: return 0;
  }
}

size_t cpu_mm_work(const device_program *p) {
  size_t most = 0;
  for (int32_t i = 0; i < p->n_steps; i++) {
    size_t n = step_work(p, &p->steps[i]);
    if (n > most) most = n;
  }
  return size_align(most, 64);
}
