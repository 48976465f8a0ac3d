/* op: THE op table, and what a compiled plan is made of: values and steps.
 *
 * A value is a matrix of rows somewhere in a buffer; a step applies one op to values. Both are plain data with offsets, no
 * pointers: the plan makes them, the verifier proves them, the device interprets them. Knows no model and no device. */
#ifndef OP_H
#define OP_H

#include "quant/quant.h"

typedef enum op_kind {
#define OP(name, n_src, own, operands, formula) OP_##name,
#include "op/op.def"
#undef OP
  OP_COUNT
} op_kind;

typedef struct op_info {
  const char *name;     /* "MM" */
  int n_src;            /* most sources; trailing optional ones may be -1 */
  bool own;             /* each thread does rows of its own */
  const char *operands; /* "dst x w b?": names by position, '?' = optional */
  const char *formula;
} op_info;
extern const op_info op_table[OP_COUNT];

/* Which buffer a value lives in. HIDDEN: rows that one pass hands to another (to a drafter, to its next step). LENT: weights
 * of another model, read only. */
typedef enum op_home { OP_WEIGHT, OP_SCRATCH, OP_LOGITS, OP_HIDDEN, OP_LENT, OP_HOMES } op_home;
extern const char *const op_home_names[OP_HOMES];
static inline bool op_home_is_weights(op_home home) { return home == OP_WEIGHT || home == OP_LENT; }
/* What counts its rows at run time. `rows` is the limit of that count. */
typedef enum op_rows { OP_FIXED, OP_TOKENS, OP_OUTPUTS } op_rows;
/* How a weight lies: rows of blocks as in the file, or the device's own panels (read by MM, MMX and EMBED only). */
typedef enum op_layout { OP_ROW_MAJOR, OP_PANELS } op_layout;

typedef struct op_value {
  const char *name;   /* tensor name or a label for explain; borrowed */
  op_home home;
  op_rows by;
  op_layout layout;
  quant_type type;
  int64_t rows;       /* at most; weights of experts: rows of one expert */
  int64_t cols;       /* elements of a row */
  int64_t n_slabs;    /* experts: matrices one after another, `slab` bytes apart; else 1 */
  size_t slab;
  size_t stride;      /* bytes from row to row; 0 for panels */
  size_t offset;      /* in its home */
  size_t extent;      /* bytes from offset to the end of the last row of the last slab */
  int32_t view_of;    /* value whose bytes this one is a part of, or -1 */
} op_value;

typedef enum op_act { OP_SILU, OP_GELU } op_act; /* gelu: tanh form */

/* Angles of rotary position embedding: theta_i = p * base^(-2i/n_rot) / f[i] in double; see spec of rope scaling. */
typedef struct op_rope {
  int32_t n_rot;       /* components rotated, even */
  bool neox;           /* pairs (i, i + n_rot / 2), else (2 i, 2 i + 1) */
  double base;
  double freq_scale;   /* 1 / factor */
  double magnitude;    /* on cos and sin */
  bool yarn;           /* blend by the ramp between pairs low and high */
  double low, high;
} op_rope;

typedef struct op_step {
  op_kind op;
  int32_t dst;         /* value; -1 for STORE */
  int32_t src[4];      /* values; -1 = absent */
  /* Arguments; those an op does not name are zero. */
  float scale;         /* EMBED, NORM, SCALE, CAP, ATTEND */
  float eps;           /* NORM */
  float softcap;       /* ATTEND: 0 = none */
  int32_t group;       /* NORM: columns normalised together, divides cols */
  int32_t n_heads;     /* ROPE, ATTEND: query heads; ROPE of k: its heads */
  int32_t head_dim;    /* ROPE */
  op_act act;          /* GLU, MMGLU */
  op_rope rope;        /* ROPE (n_rot, neox), ANGLES */
  int32_t cache;       /* STORE, ATTEND: index into the cache layers the device is bound to */
  int32_t behind;      /* ATTEND: 1 = the token's own cell is not there, it sees the positions before its own; else 0 */
  int32_t n_used;      /* ROUTE, MMX, MIX, SCATTER: experts (or clusters of the vocabulary) of a token */
  int32_t block;       /* index of the model layer, -1 outside; for explain */
  bool sync;           /* all threads meet after this step: a later one touches what it wrote or read */
} op_step;

/* A layer of the cache as a step refers to it: which group's page tables, and where in that group's store. Mirrors
 * kv_layer (kv/kv.h), which op does not know. */
typedef struct op_cache {
  int32_t group;
  int32_t n_heads, k_dim, v_dim;
  quant_type k_type, v_type;
  int32_t n_pages;
  bool borrowed;       /* another plan's cells: no STORE */
  int64_t window;      /* 0 = all positions */
  size_t k_offset, v_offset, k_page, v_page, k_block, v_block;
} op_cache;

enum { OP_MAX_GROUPS = 8, OP_MAX_USED = 64 };

/* A row of ROUTE's result: n_used ids (int32) and then n_used weights (f32), as one F32 row of 2 * n_used columns. */

/* What a run is given: the batch. All arrays are the caller's. */
typedef struct op_batch {
  int32_t n_tokens;          /* 1 .. the plan's limit */
  int32_t n_outputs;         /* rows that want logits; may be 0 */
  const int32_t *ids;        /* [n_tokens] */
  const int32_t *positions;  /* [n_tokens] */
  const int32_t *sequences;  /* [n_tokens] */
  const int32_t *outputs;    /* [n_outputs] indexes of tokens, increasing */
  const int32_t *const *tables[OP_MAX_GROUPS]; /* [group][sequence] -> page of each block */
} op_batch;

/* Bytes of a row of `cols` elements as a value of that type holds it. */
size_t op_row_bytes(quant_type type, int64_t cols);
/* Rows of a value in this batch. */
static inline int64_t op_rows_of(const op_value *v, const op_batch *b) { return v->by == OP_TOKENS ? b->n_tokens : v->by == OP_OUTPUTS ? b->n_outputs : v->rows; }
/* Floating point operations (a multiply-add is two) of a step for n_tokens tokens of which n_outputs want logits, without
 * the attention's dependence on the position (n_positions cells are seen). Bytes of weights it reads. */
double op_flops(const op_step *s, const op_value *values, int64_t n_tokens, int64_t n_outputs, int64_t n_positions);
double op_weight_bytes(const op_step *s, const op_value *values, int64_t n_tokens);
/* What products with weights of that type are made of. */
tandem_ceiling op_arithmetic(quant_type weights);
/* And with cells of that type. */
tandem_ceiling op_cell_arithmetic(quant_type cells);

#endif
