/* run_mm: the drivers of MM and MMGLU. A unit is a group of panels times a block of columns; who computes a unit does not matter, since
 * an output is never split (rule R4).
 *
 * Few columns: reading the weights is the work. Every thread streams a slab of panels of its own, then what is left of all.
 * Many columns: arithmetic is the work. Threads claim units; a block of columns stays in the second level cache while the
 * panels pass by. */
#include <string.h>

#include "device/cpu/mm.h"

static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }

/* Columns from which two panels are better than one: enough tiles must ask for the next panels. Of plain types always: a sum of one panel would
 * wait for itself. 0: never. */
static const uint8_t two_from[QUANT_TYPE_END] = {
    [QUANT_F32] = 1,   [QUANT_F16] = 1,   [QUANT_BF16] = 1,  [QUANT_Q8_0] = 9,
    [QUANT_Q4_0] = 6,  [QUANT_Q4_K] = 9,  [QUANT_Q5_K] = 9,  [QUANT_Q6_K] = 9,
};

void cpu_mm(const cpu_kernels *k, quant_type type, const void *panels, size_t panel_bytes, int n_panels, int64_t k_row, const void *const *x,
            float *const *y, int n_cols) {
  float *rest[CPU_MM_COLUMNS];
  const bool two = k->mm_two[type] && two_from[type] && n_cols >= two_from[type] && n_cols <= CPU_MM_COLUMNS;
  const int n = two ? n_panels - n_panels % 2 : 0;
  if (n) k->mm_two[type](panels, panel_bytes, n, k_row, x, y, n_cols, k->near);
  if (n == n_panels) return;
  for (int c = 0; c < n_cols && n; c++) rest[c] = y[c] + CPU_PANEL * n;
  k->mm[type]((const char *)panels + (size_t)n * panel_bytes, panel_bytes, n_panels - n, k_row, x, n ? rest : y, n_cols, k->near);
}

cpu_matrix cpu_matrix_of(const cpu_run *r, const op_value *w, int64_t slab, const op_value *bias) {
  return (cpu_matrix){
      .type = w->type,
      .panels = cpu_at(r, w) + (size_t)slab * w->slab,
      .panel_bytes = cpu_panel_bytes(w->type, w->cols),
      .rows = w->rows,
      .n_panels = (w->rows + CPU_PANEL - 1) / CPU_PANEL,
      .k = w->cols,
      .bias = bias ? (const float *)(const void *)cpu_at(r, bias) : NULL,
      .kernels = &r->device->kernels,
  };
}

static void matrix_panels(const cpu_matrix *m, int64_t p, int n_panels, const void *const *x, float *const *y, int n_cols) {
  cpu_mm(m->kernels, m->type, m->panels + (size_t)p * m->panel_bytes, m->panel_bytes, n_panels, m->k, x, y, n_cols);
}

/* The last panel, if it is not whole: a kernel writes 16 rows, so it writes them elsewhere. */
static void last_panel(const cpu_matrix *m, const void *const *x, float *const *y, int n_cols, float *tail) {
  float *to[CPU_MM_COLUMNS];
  int64_t p = m->rows / CPU_PANEL;
  for (int c = 0; c < n_cols; c++) to[c] = tail + CPU_PANEL * c;
  matrix_panels(m, p, 1, x, to, n_cols);
  for (int c = 0; c < n_cols; c++) memcpy(y[c] + CPU_PANEL * p, to[c], (size_t)(m->rows % CPU_PANEL) * sizeof(float));
}

void cpu_matrix_unit(const cpu_matrix *m, int64_t p0, int64_t n_panels, const void *const *x, float *const *y, const float *const *addend,
                     int n_cols, float *tail) {
  float *to[CPU_MM_COLUMNS];
  int64_t whole = min_of(n_panels, m->rows / CPU_PANEL - p0), row0 = CPU_PANEL * p0;
  for (int c = 0; c < n_cols; c++) to[c] = y[c] + row0;
  if (whole > 0) matrix_panels(m, p0, (int)whole, x, to, n_cols);
  if (whole < n_panels) last_panel(m, x, y, n_cols, tail);
  int64_t n = min_of(m->rows - row0, CPU_PANEL * n_panels);
  for (int c = 0; c < n_cols && m->bias; c++) m->kernels->add(m->bias + row0, to[c], to[c], n);
  for (int c = 0; c < n_cols && addend; c++) m->kernels->add(addend[c] + row0, to[c], to[c], n);
}

enum { TILE = 8 }; /* columns of most tiles, of which a block should be a multiple */

int cpu_matrix_columns(size_t row_bytes) {
  const size_t half = 512 * 1024;
  return (int)min_of(CPU_MM_COLUMNS, max_of(16, (int64_t)(half / row_bytes) / TILE * TILE));
}

int64_t cpu_matrix_block(int64_t n, int64_t most) {
  int64_t n_blocks = (n + most - 1) / most;
  return min_of(most, ((n + n_blocks - 1) / n_blocks + TILE - 1) / TILE * TILE);
}

int64_t cpu_matrix_group(const cpu_matrix *m, int64_t n_columns, int64_t n_blocks, int n_threads) {
  const int64_t macs = 16 << 20, least = 8; /* units a thread */
  int64_t by_time = macs / (CPU_PANEL * m->k * n_columns);
  int64_t by_share = m->n_panels * n_blocks / (least * n_threads);
  int64_t group = max_of(1, min_of(by_time, by_share));
  return group + group % 2; /* cpu_mm takes pairs */
}

/* A slab's share that is left to all, and in how many spans. Spans are claimed slab by slab in turn: threads that are equally fast read
 * on where they are, and what they have asked for ahead of a span's end is theirs. */
enum { TAIL = 4, SPANS = 8 };

static int64_t slab_start(const cpu_spans *s, int i) { return s->n * i / s->n_threads; }
static int64_t tail_start(const cpu_spans *s, int i) {
  int64_t end = slab_start(s, i + 1);
  return s->n_threads == 1 ? end : end - (end - slab_start(s, i)) / TAIL;
}

bool cpu_next_span(cpu_spans *s, int64_t *from, int64_t *to) {
  if (!s->begun) {
    s->begun = true;
    *from = slab_start(s, s->i_thread);
    *to = tail_start(s, s->i_thread);
    return true;
  }
  if (s->n_threads == 1) return false;
  int64_t u = pool_claim(s->claims, 1), i = u / s->n_threads; /* span i of a slab */
  if (i >= SPANS) return false;
  int slab = (int)(u % s->n_threads);
  int64_t start = tail_start(s, slab), length = slab_start(s, slab + 1) - start;
  *from = start + length * i / SPANS;
  *to = start + length * (i + 1) / SPANS;
  return true;
}

/* MM as its units see it. */
typedef struct product {
  const cpu_run *r;
  cpu_matrix m;
  const op_value *dst, *x, *addend; /* addend: NULL if absent */
  float *tail;
} product;

static void product_unit(const product *p, int64_t p0, int64_t n_panels, int64_t c0, int n_cols) {
  const void *x[CPU_MM_COLUMNS];
  float *y[CPU_MM_COLUMNS];
  const float *addend[CPU_MM_COLUMNS];
  for (int c = 0; c < n_cols; c++) {
    x[c] = cpu_row(p->r, p->x, c0 + c);
    y[c] = (float *)(void *)cpu_row(p->r, p->dst, c0 + c);
    if (p->addend) addend[c] = (const float *)(const void *)cpu_row(p->r, p->addend, c0 + c);
  }
  cpu_matrix_unit(&p->m, p0, n_panels, x, y, p->addend ? addend : NULL, n_cols, p->tail);
}

void cpu_run_mm(const cpu_run *r, int i_step, int i_thread) {
  const op_step *step = &r->program->steps[i_step];
  const op_value *v = r->program->values;
  product p = {.r = r, .m = cpu_matrix_of(r, &v[step->src[1]], 0, step->src[2] >= 0 ? &v[step->src[2]] : NULL), .dst = &v[step->dst],
               .x = &v[step->src[0]], .addend = step->src[3] >= 0 ? &v[step->src[3]] : NULL,
               .tail = (float *)(void *)(r->work + (size_t)i_thread * r->work_stride)};
  int64_t n = op_rows_of(p.dst, r->batch), n_panels = p.m.n_panels;
  int n_threads = r->device->n_threads;
  if (n <= CPU_FEW_COLUMNS) {
    cpu_spans s = {&r->counters[i_step], n_panels, i_thread, n_threads, false};
    for (int64_t p0, p1; n > 0 && cpu_next_span(&s, &p0, &p1);)
      if (p0 < p1) product_unit(&p, p0, p1 - p0, 0, (int)n);
    return;
  }
  int64_t block = cpu_matrix_block(n, cpu_matrix_columns(p.x->stride)), n_blocks = (n + block - 1) / block;
  int64_t group = cpu_matrix_group(&p.m, block, n_blocks, n_threads), n_groups = (n_panels + group - 1) / group;
  for (int64_t u; (u = pool_claim(&r->counters[i_step], 1)) < n_blocks * n_groups;) {
    int64_t c0 = u / n_groups * block, p0 = u % n_groups * group;
    product_unit(&p, p0, min_of(group, n_panels - p0), c0, (int)min_of(block, n - c0));
  }
}

/* ---- MMGLU ---------------------------------------------------------------------------------------------------------- */

/* Both products of GLU_ROWS outputs go to this thread's work area, from where they are gated, and turned into activation blocks if
 * that is what dst holds: a unit is whole blocks. Rows lie GLU_STRIDE apart, so that they do not meet in a few sets of the cache. */
enum { GLU_COLUMNS = 64, GLU_ROWS = 256, GLU_PANELS = GLU_ROWS / CPU_PANEL, GLU_STRIDE = GLU_ROWS + CPU_PANEL };

typedef struct gated {
  const cpu_run *r;
  const op_step *s;
  cpu_matrix gate, up;
  const op_value *dst, *x;
  float *work; /* [2][GLU_COLUMNS][GLU_STRIDE] */
} gated;

static void gated_unit(const gated *a, int64_t p0, int64_t n_panels, int64_t c0, int n_cols) {
  const void *x[GLU_COLUMNS];
  float *g[GLU_COLUMNS], *u[GLU_COLUMNS];
  int64_t row0 = CPU_PANEL * p0, n = min_of(a->gate.rows - row0, CPU_PANEL * n_panels);
  bool floats = a->dst->type == QUANT_F32;
  for (int c = 0; c < n_cols; c++) {
    x[c] = cpu_row(a->r, a->x, c0 + c);
    g[c] = a->work + GLU_STRIDE * c;
    u[c] = a->work + GLU_STRIDE * (GLU_COLUMNS + c);
  }
  matrix_panels(&a->gate, p0, (int)n_panels, x, g, n_cols);
  matrix_panels(&a->up, p0, (int)n_panels, x, u, n_cols);
  for (int c = 0; c < n_cols; c++) {
    float *to = floats ? (float *)(void *)cpu_row(a->r, a->dst, c0 + c) + row0 : g[c];
    a->r->device->kernels.glu[a->s->act](g[c], u[c], to, n);
    if (!floats) cpu_put_blocks(a->r, a->dst, c0 + c, row0, to, n);
  }
}

/* Panels p0 .. p1 - 1 in units. */
static void gated_units(const gated *a, int64_t p0, int64_t p1, int64_t c0, int n_cols) {
  for (; p0 < p1; p0 += GLU_PANELS) gated_unit(a, p0, min_of(GLU_PANELS, p1 - p0), c0, n_cols);
}

void cpu_run_mmglu(const cpu_run *r, int i_step, int i_thread) {
  const op_step *s = &r->program->steps[i_step];
  const op_value *v = r->program->values;
  gated a = {r, s, cpu_matrix_of(r, &v[s->src[1]], 0, NULL), cpu_matrix_of(r, &v[s->src[2]], 0, NULL), &v[s->dst], &v[s->src[0]],
             (float *)(void *)(r->work + (size_t)i_thread * r->work_stride)};
  int64_t n = op_rows_of(a.dst, r->batch), n_panels = a.gate.n_panels;
  int64_t grain = (quant_table[a.dst->type].block + CPU_PANEL - 1) / CPU_PANEL; /* panels of a block of dst */
  if (n <= CPU_FEW_COLUMNS) {
    cpu_spans of = {&r->counters[i_step], (n_panels + grain - 1) / grain, i_thread, r->device->n_threads, false};
    for (int64_t p0, p1; n > 0 && cpu_next_span(&of, &p0, &p1);) gated_units(&a, grain * p0, min_of(grain * p1, n_panels), 0, (int)n);
    return;
  }
  int64_t block = cpu_matrix_block(n, min_of(cpu_matrix_columns(a.x->stride), GLU_COLUMNS)), n_blocks = (n + block - 1) / block;
  int64_t n_groups = (n_panels + GLU_PANELS - 1) / GLU_PANELS;
  for (int64_t i; (i = pool_claim(&r->counters[i_step], 1)) < n_blocks * n_groups;) {
    int64_t c0 = i / n_groups * block, p0 = i % n_groups * GLU_PANELS;
    gated_unit(&a, p0, min_of(GLU_PANELS, n_panels - p0), c0, (int)min_of(block, n - c0));
  }
}

/* ---- work areas ----------------------------------------------------------------------------------------------------- */

/* What MMX keeps besides a tail, see run_moe.c: a list of its columns and where each expert's begin. */
static size_t step_work(const device_program *p, const op_step *s) {
  const op_value *v = p->values;
  switch (s->op) {
  case OP_MM: return CPU_MM_TAIL;
  case OP_MMGLU: return 2 * sizeof(float) * GLU_COLUMNS * GLU_STRIDE;
  case OP_NORM: return v[s->dst].type == QUANT_F32 ? 0 : sizeof(float) * (size_t)v[s->dst].cols; /* the row before it is quantised */
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
