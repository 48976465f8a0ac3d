/* mm: how weights lie in panels. Shared by packing and by the matrix products of every level; private to device/cpu.
 *
 * A panel is 16 rows. Its unit is the lane line: [16 rows][4 bytes] = 64 bytes, one dword of each row, so that a vector
 * lane is a row and a broadcast dword of activations meets 4 k of all rows at once. Quantised rows are cut into groups
 * of 256 k; a group is the 16 source blocks (or 16 x 8 blocks of 32) with their dwords transposed, in the order in which
 * a product needs them, scales first: memory is read as one stream, which hardware foresees. Bytes do not grow: reading
 * a panel costs what reading the file's blocks would.
 *
 * Knows nothing of steps, threads and values. */
#ifndef CPU_MM_H
#define CPU_MM_H

#include "device/cpu/cpu.h"

/* Files may hold panels (GGUF_PANELS): who changes what is inside raises the version. */
enum { CPU_PANELS_VERSION = 1 };

typedef uint8_t cpu_line[CPU_PANEL][4];

/* Plain types: [k][16 rows] elements; BF16 in pairs of k, [k / 2][16 rows][2]. Byte of row r at k: */
static inline size_t cpu_plain_at(quant_type type, int64_t k, int r) {
  if (type == QUANT_BF16) return (size_t)(k / 2) * 64 + (size_t)(4 * r) + (size_t)(2 * (k % 2));
  return ((size_t)k * CPU_PANEL + (size_t)r) * (type == QUANT_F32 ? 4 : 2);
}

/* Blocks of 32: groups of 8, the last perhaps fewer: [n blocks][16 f16 d][n blocks] lines. Line j of Q4_0: low nibble of
 * byte b is k = 4 j + b, high nibble 16 further. */
enum { CPU_Q8_0_LINES = 8, CPU_Q4_0_LINES = 4, CPU_GROUP = 8 };

/* Blocks of 256. Line j of q: low nibble of byte b is k = 64 (j / 8) + 4 (j % 8) + b, high nibble 32 further. */
typedef struct cpu_q4_k {
  uint16_t d[CPU_PANEL], dmin[CPU_PANEL];
  cpu_line scales[3]; /* the 12 bytes of a row, packed as in the source */
  cpu_line q[32];
} cpu_q4_k;

/* Line j of h: bit s is bit 4 of k = 32 s + 4 j + b. */
typedef struct cpu_q5_k {
  uint16_t d[CPU_PANEL], dmin[CPU_PANEL];
  cpu_line scales[3];
  cpu_line h[8];
  cpu_line q[32];
} cpu_q5_k;

/* Byte b of line [n][j][g]: below, the 6 bits of k = 128 n + 32 g + 4 j + b; on top, bits 2 g and 2 g + 1 of k = 128 n + 96 + 4 j + b:
 * three of four weights lie ready to use. Scale k / 16. What is needed together lies together, so that few columns read one stream.
 * Pairs of blocks: [2 blocks][16 f16 d][2 blocks], the last block perhaps alone. */
typedef struct cpu_q6_k {
  cpu_line scales[4]; /* int8 */
  cpu_line lines[2][8][3];
} cpu_q6_k;

static_assert(sizeof(cpu_q4_k) == 144 * 16 && sizeof(cpu_q5_k) == 176 * 16 && sizeof(cpu_q6_k) == 208 * 16, "no padding");

/* Where in a panel block i of n_blocks lies: its lines, and its scales d. Lines are aligned to 64 bytes but for a last
 * group of an odd number of blocks. */
static inline size_t cpu_q6_k_at(int64_t i, int64_t n_blocks) {
  size_t n = (i | 1) < n_blocks ? 2 : 1;
  return (size_t)(i / 2) * 2 * (sizeof(cpu_q6_k) + 32) + n * 32 + (size_t)(i % 2) * sizeof(cpu_q6_k);
}
static inline size_t cpu_q6_k_d(int64_t i) { return (size_t)(i / 2) * 2 * (sizeof(cpu_q6_k) + 32) + (size_t)(i % 2) * 32; }

/* The same for blocks of 32 of n_lines lines each. */
static inline size_t cpu_q32_at(int64_t i, int64_t n_blocks, int n_lines) {
  size_t first = (size_t)i / CPU_GROUP * CPU_GROUP, left = (size_t)n_blocks - first, n = left < CPU_GROUP ? left : CPU_GROUP;
  return first * ((size_t)n_lines * 64 + 32) + n * 32 + ((size_t)i - first) * (size_t)n_lines * 64;
}
static inline size_t cpu_q32_d(int64_t i, int n_lines) {
  size_t first = (size_t)i / CPU_GROUP * CPU_GROUP;
  return first * ((size_t)n_lines * 64 + 32) + ((size_t)i - first) * 32;
}

/* ---- what the drivers of MM and MMX share (run_mm.c) ------------------------------------------------------------------ */

/* The product by the faster of the slots of that type: any number of panels and columns. */
void cpu_mm(const cpu_kernels *k, quant_type type, const void *panels, size_t panel_bytes, int n_panels, int64_t k_row, const void *const *x,
            float *const *y, int n_cols);

enum { CPU_MM_COLUMNS = 128 }; /* most columns of one unit */

/* One matrix of a step. */
typedef struct cpu_matrix {
  quant_type type;
  const char *panels;
  size_t panel_bytes;
  int64_t rows, n_panels, k;
  const float *bias; /* [rows] or NULL */
  const cpu_kernels *kernels;
} cpu_matrix;

cpu_matrix cpu_matrix_of(const cpu_run *r, const op_value *w, int64_t slab, const op_value *bias);
/* Panels p0 .. p0 + n_panels - 1 for n_cols <= CPU_MM_COLUMNS columns; y[c] is output row c from its first element, to which
 * addend[c] is added (NULL: nothing). tail: CPU_MM_COLUMNS x CPU_PANEL floats of this thread, for a last panel that is not whole. */
void cpu_matrix_unit(const cpu_matrix *m, int64_t p0, int64_t n_panels, const void *const *x, float *const *y, const float *const *addend,
                     int n_cols, float *tail);
/* Columns of a unit, for rows of activations of that many bytes: they fit half of a second level cache. */
int cpu_matrix_columns(size_t row_bytes);
/* How many of n columns, at most `most`, each unit takes: about as many, and whole tiles. */
int64_t cpu_matrix_block(int64_t n, int64_t most);
/* Panels of a unit: about 100 us of work, but enough units that the last ones do not keep the other threads waiting. */
int64_t cpu_matrix_group(const cpu_matrix *m, int64_t n_columns, int64_t n_blocks, int n_threads);

/* Few columns: reading is the work. Each thread goes through most of its slab of n at once, then all of them share what is left in small
 * spans, because no two cores read equally fast. */
enum { CPU_FEW_COLUMNS = 16 };
typedef struct cpu_spans {
  pool_counter *claims;
  int64_t n; /* of what is split */
  int i_thread, n_threads;
  bool begun;
} cpu_spans;
/* The next span of this thread, perhaps empty; false: there is none. */
bool cpu_next_span(cpu_spans *s, int64_t *from, int64_t *to);
enum { CPU_MM_TAIL = CPU_MM_COLUMNS * CPU_PANEL * (int)sizeof(float) };

/* ---- loops that show what a level can do (ceilings.c) ----------------------------------------------------------------- */

/* The results depend on every round, so that no compiler drops one. */
typedef struct cpu_peak {
  int32_t (*int8)(int64_t rounds); /* dot products of int8 in registers, as the level's kernels do them */
  float (*f32)(int64_t rounds);    /* fused multiply-adds in registers */
  float (*bf16)(int64_t rounds);   /* dot products of pairs of bf16, or what stands for them */
  int32_t (*read)(const void *bytes, size_t n_bytes); /* plain loads; a multiple of 4096 bytes, aligned to 64 */
  double int8_ops, f32_ops, bf16_ops; /* of a round: a multiply-add is two */
} cpu_peak;
void cpu_level_peak(cpu_level level, cpu_peak *p); /* detect.c */
#define LEVEL(id, name) void cpu_##name##_peak(cpu_peak *p);
#include "device/cpu/level.def"
#undef LEVEL

#endif
