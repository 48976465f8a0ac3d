/* cpu: kernels as a table of slots. scalar fills every slot and defines the bits; the levels above (detect.c) override slots
 * and give the same bits (KERNELS.md R1..R7, docs/ARCHITECTURE.md). Private to device/cpu and to tests/kernels.
 *
 * Contracts that define the bits. All float arithmetic is f32, rounded to nearest even, subnormals kept; fma(a, b, c) is one
 * rounding.
 *   lanes16    a sum over n values: 16 accumulators from +0, value i goes to lane i % 16 in increasing i (plain add, or fma
 *              where said), then lane j += lane j+8 (j < 8), += j+4, += j+2, += j+1.
 *   pair       of bf16, as vdpbf16ps: pair(a0, a1, b0, b1, y): y = fma(a1, b1, y), then fma(a0, b0, y). Subnormal operands count as
 *              zeros of their sign, and so do results that are subnormal after rounding as if exponents had no end
 *   mm         see the slots below
 *   exp, tanh  the formulas in scalar/math.h, reproduced operation for operation */
#ifndef CPU_H
#define CPU_H

#include "device/device.h"
#include "quant/quant.h"

enum { CPU_PANEL = 16 };  /* rows of a weight that lie together: one 512-bit vector of f32 */
enum { CPU_BLOCK = 256 }; /* positions of an attention block = cells of a K/V page */

typedef enum cpu_level {
#define LEVEL(id, name) CPU_##id,
#include "device/cpu/level.def"
#undef LEVEL
  CPU_LEVELS
} cpu_level;
const char *cpu_level_name(cpu_level level);
bool cpu_level_present(cpu_level level); /* this machine and this build have it */

/* Weights. A panel is 16 rows (missing ones are zero); panels of a matrix follow each other, each
 * mm_panel_bytes(type, cols) long, a multiple of 64. What is inside is said at the type's row in scalar/mm.c. */
size_t cpu_panel_bytes(quant_type type, int64_t cols);
/* Packs rows r0 .. r0 + 15 of a row-major matrix (row_bytes apart; n_rows of them are there) into one panel. */
void cpu_panel_pack(quant_type type, int64_t cols, const void *rows, size_t row_bytes, int n_rows, void *panel);

/* dst tile: for each column c and panel p: y[c][16 p .. 16 p + 15] = the 16 dot products of the panel's rows with x[c].
 * Always writes whole panels. x[c]: a row in the type's partner format (quant.h).
 *   F32, F16      : per stretch of 256 k (the last may be shorter): b = +0; b = fma(w[k], x[k], b) in increasing k;
 *                   then y = y + b, from y = +0. Weights are widened exactly.
 *   BF16          : y = +0, then y = pair(w[2 i], w[2 i + 1], x[2 i], x[2 i + 1], y) in increasing i; a missing last element is a
 *                   pair of zeros
 *   Q8_0, Q4_0    : per 32 k: i = sum q_w * q_x exactly in int32; y = fma((float)i, d_w * d_x, y)
 *   Q4_K, Q5_K    : per 256 k, exactly in int32: i = sum_s scale_s * sum q_w q_x, m = sum_s min_s * sum_s q_x;
 *                   y = fma((float)i, d * d_x, y); y = fma(-(float)m, dmin * d_x, y)
 *   Q6_K          : per 256 k: i = sum_s scale_s * sum (q_w - 32) q_x exactly; y = fma((float)i, d * d_x, y)
 * Products such as d_w * d_x are rounded once.
 * near: cpu_kernels.near; the bits are the same. */
typedef void cpu_mm_fn(const void *panels, size_t panel_bytes, int n_panels, int64_t k, const void *const *x, float *const *y, int n_cols,
                       bool near);

/* What this thread will read next, if anything: score and value ask for it line by line while they work, and for nothing of their own. */
typedef struct cpu_soon {
  const char *at, *end;
  bool near; /* cpu_kernels.near */
} cpu_soon;

/* One KV head, one block of a page, n_cols query columns. K block: sub-blocks of 16 positions, [16 sub][dim][16 position]
 * elements; V block: [256 position][dim]. Q8_0: K [16 sub][dim][16] int8, then f16 scales [16 sub][dim / 32][16];
 * V [256][dim] int8, then f16 scales [256][dim / 32]. Elements are widened to f32 exactly (q * d is exact).
 * BF16 lies in pairs: K [16 sub][dim / 2][16 position][2 d], if dim is odd the last one as [16 position] at the end of each sub-block;
 * V [128][dim][2 positions]. q and p are rounded to bf16 (nearest even; subnormals count as zeros of their sign).
 *   score: s[c][p] = +0, then fma(q[c][d], K[p][d], s) in increasing d, for p < 16 * n_sub; q is not scaled.
 *          BF16: s = pair(K[p][2 i], K[p][2 i + 1], q[c][2 i], q[c][2 i + 1], s) in increasing i; a missing last one is a pair of zeros. */
typedef void cpu_score_fn(const void *k, int dim, int n_sub, const float *const *q, float *const *s, int n_cols, cpu_soon soon);
/*   value: o[c][d] = +0, then fma(p[c][i], V[i][d], o) for i = lo[c] .. hi[c] - 1 in increasing i.
 *          BF16: o = pair(V[2 i][d], V[2 i + 1][d], p[c][2 i], p[c][2 i + 1], o) in increasing i, of all pairs with a position in
 *          lo[c] .. hi[c] - 1; the other position of such a pair counts as a pair of zeros, whatever the cell holds. */
typedef void cpu_value_fn(const void *v, int dim, const int *lo, const int *hi, const float *const *p, float *const *o, int n_cols,
                          cpu_soon soon);
/* Where element d of a cell lies in its block, counted in elements; of Q8_0 that is its int8, and with dim / 32 its scales. */
static inline size_t cpu_k_at(quant_type type, int cell, int d, int dim) {
  size_t sub = (size_t)(cell / 16) * (size_t)dim * 16, position = (size_t)(cell % 16);
  if (type == QUANT_BF16 && (d | 1) < dim) return sub + (size_t)(d / 2) * 32 + 2 * position + (size_t)(d % 2);
  return sub + (size_t)d * 16 + position;
}
static inline size_t cpu_v_at(quant_type type, int cell, int d, int dim) {
  if (type == QUANT_BF16) return (size_t)(cell / 2) * (size_t)dim * 2 + 2 * (size_t)d + (size_t)(cell % 2);
  return (size_t)cell * (size_t)dim + (size_t)d;
}
/* Writes one row of K (or V) of one head into cell `cell` of its block, rounded to the type (Q8_0 as quant encodes it). */
typedef void cpu_cell_fn(void *block, int cell, const float *x, int dim);

typedef struct cpu_kernels {
  cpu_mm_fn *mm[QUANT_TYPE_END];
  cpu_mm_fn *mm_two[QUANT_TYPE_END]; /* the same for an even number of panels, faster with many columns; NULL: there is none */
  /* This processor reads weights and K/V from memory faster if they are asked for into the first level; at AVX2, where all are, from further
   * ahead than others want it. */
  bool near;
  cpu_score_fn *score[QUANT_TYPE_END];
  cpu_value_fn *value[QUANT_TYPE_END];
  cpu_cell_fn *put_k[QUANT_TYPE_END], *put_v[QUANT_TYPE_END];
  /* Of each column in place on s[lo .. hi - 1], the rest of s[0 .. 255] set to +0: s = s * scale; if cap > 0: s = cap * tanh(s / cap);
   * m = max; s = exp(s - m); l = lanes16 sum over all 256 (lane = position % 16). lo < hi. */
  void (*softmax)(float *const *s, const int *lo, const int *hi, int n_cols, float scale, float cap, float *m, float *l);
  /* Joins a later block (o_b, m_b, l_b) to a running result: m' = max; a = exp(m - m'), b = exp(m_b - m');
   * o = fma(o_b, b, o * a), l = fma(l_b, b, l * a). */
  void (*merge)(float *o, float *m, float *l, const float *o_b, float m_b, float l_b, int n);
  /* y = x * (1 / sqrt(lanes16 fma-sum of x^2 / n + eps)), then * g (NULL: skipped), then * scale (1: skipped). */
  void (*norm)(const float *x, const float *g, float *y, int n, float eps, float scale);
  /* By partner format: n values as quant.h says, whole blocks. NULL: F32, which needs none. */
  void (*quant[QUANT_TYPE_END])(const float *x, void *y, int64_t n);
  void (*add)(const float *a, const float *b, float *y, int64_t n);
  void (*scale)(const float *x, float s, float *y, int64_t n);
  void (*axpy)(float a, const float *x, float *y, int64_t n);                        /* y = fma(a, x, y) */
  void (*glu[2])(const float *g, const float *u, float *y, int64_t n);               /* by op_act */
  void (*cap)(const float *x, float c, float *y, int64_t n);                         /* c * tanh(x / c) */
  /* One head of n values: pairs turned by cs = n_rot / 2 cosines, then n_rot / 2 sines; the rest copied.
   * a' = fma(a, c, -(b * s)), b' = fma(a, s, b * c). */
  void (*rope)(const float *x, const float *cs, float *y, int n, int n_rot, bool neox);
  /* y = exp(x - m), and their lanes16 sum (for routing). */
  float (*exp_sum)(const float *x, float m, float *y, int64_t n);
} cpu_kernels;

/* Fills k with scalar and what the levels up to `level` override, for this processor. */
void cpu_kernels_fill(cpu_kernels *k, cpu_level level);
/* What a level overrides, where it does: products, attention, rows, products of pairs of panels. */
#define LEVEL(id, name)                      \
  void cpu_##name##_mm(cpu_kernels *k);      \
  void cpu_##name##_attn(cpu_kernels *k);    \
  void cpu_##name##_row(cpu_kernels *k);     \
  void cpu_##name##_mm_two(cpu_kernels *k);
#include "device/cpu/level.def"
#undef LEVEL

/* One row of a weight as f32 (embedding): from row-major blocks or out of panels. */
void cpu_decode_row(const op_value *w, const void *bytes, int64_t row, float *y);

/* cos and sin of the angles of one position; factors may be NULL. cs: n_rot / 2 cosines, then n_rot / 2 sines. In double
 * with our own sine and cosine, so that no libm decides the bits. */
void cpu_angles(const op_rope *r, const float *factors, int32_t position, float *cs);

/* ---- drivers: who does which unit (rule R4: units are outputs, never parts of a sum) ------------------------------- */

typedef struct cpu_device {
  pool *pool;
  cpu_kernels kernels;
  cpu_level level;
  int32_t n_threads;
  void *read_buffer; /* ceilings.c: NULL until reading is measured */
  size_t read_bytes, read_at; /* of a thread's share: where the next measurement begins */
} cpu_device;

/* One run of a program; shared by all threads, read-only but for counters and work. */
typedef struct cpu_run {
  const cpu_device *device;
  const device_program *program;
  const device_binding *bind;
  const op_batch *batch;
  pool_counter *counters; /* [n_steps], zero at the start of the run: a step claims its units from its own */
  char *shared;           /* work area all threads see (partial results of ATTEND) */
  char *work;             /* this thread's: + i_thread * work_stride */
  size_t work_stride;     /* cpu_work_bytes of the program, a multiple of 64 */
} cpu_run;

/* First byte of value v in its home. */
static inline char *cpu_at(const cpu_run *r, const op_value *v) {
  const device_binding *b = r->bind;
  const void *const homes[OP_HOMES] = {b->weights, b->scratch, b->logits, b->hidden, b->lent}; /* in the order of op_home */
  return (char *)(uintptr_t)homes[v->home] + v->offset;
}

/* Row i of v. */
static inline char *cpu_row(const cpu_run *r, const op_value *v, int64_t i) { return cpu_at(r, v) + (size_t)i * v->stride; }

/* Where the part of thread i of n begins: rows of its own (op.def) are cpu_share(rows, i, n) .. cpu_share(rows, i + 1, n) - 1 in every
 * driver that says so, or threads would have to meet. */
static inline int64_t cpu_share(int64_t rows, int i, int n) { return rows / n * i + rows % n * i / n; }

/* n values x as the activation blocks of dst, from column c of its row t on; whole blocks. run_row.c */
void cpu_put_blocks(const cpu_run *r, const op_value *dst, int64_t t, int64_t c, const float *x, int64_t n);

/* A driver does its share of step i_step on thread i_thread. All threads call it for every step, in order, with a barrier
 * after each. A driver that needs a barrier inside may call pool_barrier: every thread passes there. */
typedef void cpu_driver(const cpu_run *r, int i_step, int i_thread);
extern cpu_driver *const cpu_drivers[OP_COUNT]; /* cpu.c */
cpu_driver cpu_run_embed, cpu_run_rows, cpu_run_norm, cpu_run_quant, cpu_run_rope, cpu_run_angles, cpu_run_glu, cpu_run_add,
    cpu_run_scale, cpu_run_cap;                                  /* run_row.c */
cpu_driver cpu_run_store, cpu_run_attend;                        /* run_attn.c */
cpu_driver cpu_run_mm, cpu_run_mmglu;                            /* run_mm.c */
cpu_driver cpu_run_mmx, cpu_run_route, cpu_run_mix, cpu_run_scatter; /* run_moe.c */
/* Bytes one thread needs for any step of the program, and bytes shared by all. */
size_t cpu_mm_work(const device_program *p);
size_t cpu_attn_work(const device_program *p);
size_t cpu_moe_shared(const device_program *p);
size_t cpu_attn_shared(const device_program *p, int n_threads);
/* weight.c: the device_ops of the same names. */
status cpu_weight_layout(const device *d, op_value *v, error *err);
status cpu_weight_load(device *d, const op_value *v, const void *from, void *to, error *err);
void cpu_weight_bring(device *d, const void *at, size_t n, size_t n_ahead);
status cpu_ceiling(device *d, tandem_ceiling what, double seconds, double *per_second, error *err); /* ceilings.c */
device_cells_get cpu_cells_get;    /* cells.c */
device_cells_put cpu_cells_put;
extern const device_ops cpu_device_ops; /* cpu.c: the row of device_table */

#endif
