/* plan: model + limits -> steps and a memory map, proved before it runs.
 *
 *   lower    walks the blocks of each layer and emits steps over values (lower.c, mixers.c)
 *   fuse     folds adjacent steps, drops dead ones, decides after which steps the threads meet (fuse.c)
 *   layout   gives scratch values their offsets by lifetime (layout.c)
 *   verify   proves that no operand can leave its buffer, for any batch up to the limits and any page of the pools (verify.c)
 *   run      binds a batch, after checking what only the batch can tell (run.c)
 *   explain  prints all of it (explain.c)
 *
 * Number of tokens, positions and page tables are run-time inputs: one plan serves every batch up to its limits. A plan is
 * constant after plan_open; it owns its arrays and borrows the model. */
#ifndef PLAN_H
#define PLAN_H

#include "device/device.h"
#include "kv/kv.h"
#include "model/model.h"

typedef struct plan_limits {
  int64_t n_context;            /* tokens of a sequence */
  int32_t n_sequences;          /* that can be full at once: sizes the pools */
  int32_t max_tokens;           /* of a batch */
  int32_t max_outputs;          /* rows with logits of a batch */
  quant_type k_type, v_type;
  bool hidden;                  /* rows after the last norm are wanted, in OP_HIDDEN: for a drafter */
  int32_t behind;               /* a borrowing draft head is run at the position of the newest token, whose cell is not there
                                   yet (1), or at that of the last cell (0) */
} plan_limits;

/* Layers whose cells come and go together. */
typedef struct plan_group {
  const char *name;             /* "full", "sliding" */
  int64_t window;               /* 0 = all */
  int32_t n_layers;
  kv_layer *layers;             /* geometry and offsets */
  kv_pages_shape pages;
  kv_store_shape store;
  size_t store_bytes;
} plan_group;

enum { PLAN_MAX_SESSIONS = 64 }; /* sequence ids in a pool */

typedef struct plan {
  const model *model;           /* borrowed; NULL in tests */
  const struct plan *source;    /* of a drafter: the target's plan, whose pages and cells it uses; borrowed; else NULL */
  plan_limits limits;
  op_value *values;
  int32_t n_values, values_capacity;
  op_step *steps;
  int32_t n_steps, steps_capacity;
  op_cache *caches;
  int32_t n_caches;
  plan_group groups[OP_MAX_GROUPS];
  int32_t n_groups;
  size_t home_bytes[OP_HOMES];  /* those of OP_LENT are another's */
  size_t work_bytes;            /* the device's own */
  int32_t hidden, logits;       /* values: rows after the last norm, logits */
  int32_t given;                /* a draft head's: the rows it is given before a pass and gives after it, in OP_HIDDEN; or -1 */
  arena *memory;
} plan;

/* Compiles, lays out and verifies. */
status plan_open(plan **p, const model *m, const device_ops *ops, const device *d, const plan_limits *limits, error *err);
/* The same for a drafter of `source`, whose limits it inherits but for the tokens and rows of a batch: it has no context and no
 * pages of its own. A borrowing head (arch.borrows) reads the target's cells; any other model is a companion with cells of
 * its own on the target's pages. What does not fit together is an error that names both. */
status plan_open_draft(plan **p, const model *m, const plan *source, const device_ops *ops, const device *d, int32_t max_tokens,
                       int32_t behind, error *err);
void plan_close(plan *p); /* NULL is allowed */

/* Bytes of K/V of a drafter's layers if it had cells of its own for n_context tokens, in pools of its own. For comparison. */
size_t plan_draft_kv_bytes(const plan *p, int64_t n_context);

/* The plan as the device sees it; borrows from p. */
device_program plan_program(const plan *p);

/* Proves the program: every operand inside its home, every shape as the op's rule wants it, no two live scratch values
 * overlapping, no step reading what another thread may still be writing. The error names step, operand, extent and buffer. */
status plan_verify(const plan *p, error *err);

/* Checks the batch (ids, positions, sequences, pages), then runs it. Tables as in op_batch. */
status plan_run(const plan *p, const device_ops *ops, device *d, const device_binding *bind, const op_batch *batch, error *err);

/* Steps, shapes, bytes, flops and offsets for a batch of n_tokens with one row of logits. */
status plan_explain(const plan *p, const device_info *device, int32_t n_tokens, bool json, text *out, error *err);

/* Bytes of weights read for one token, and multiply-adds of weights for one token with logits. */
void plan_cost(const plan *p, uint64_t *read_bytes, uint64_t *macs);

/* ---- within plan/ ------------------------------------------------------------------------------------------------ */

status plan_groups_open(plan *p, error *err);  /* groups.c: which layers share pages, and how large the pools are */
/* The pool of a group; false if it would have more pages than a pool can. The one place where pages are counted. */
bool plan_pool_shape(int64_t n_context, int64_t window, int32_t max_tokens, int32_t n_sequences, kv_pages_shape *shape);
/* A layer of a group as a step refers to it. */
op_cache plan_cache(const plan_group *g, int group, const kv_layer *l);
status plan_pair(plan *p, error *err);         /* pair.c: the caches of a drafter, out of its source's groups */
status plan_lower(plan *p, error *err);        /* lower.c */
void plan_fuse(plan *p);                       /* fuse.c */
status plan_layout(plan *p, error *err);       /* layout.c */
/* Value whose memory v is, through views. */
int32_t plan_root(const plan *p, int32_t v);
/* True if step s reads / writes value v's memory. */
bool plan_reads(const plan *p, const op_step *s, int32_t root);

/* The emitter shared by lower.c and mixers.c. */
typedef struct plan_builder {
  plan *p;
  const model *m;
  error *err;
  status st;                    /* first failure; later emits do nothing */
  int32_t *quantised[2];        /* [A32, A256][value] -> the value in that activation format, or -1 */
  int32_t *weights;             /* [model weight] -> value */
  int32_t angles[ROPE_SETS];    /* values, -1 = not needed yet */
  int32_t per_layer;            /* all per-layer inputs, or -1 */
  int32_t block;                /* model layer being lowered, -1 outside */
} plan_builder;

int32_t plan_value(plan_builder *b, const char *name, op_rows by, quant_type type, int64_t cols);
int32_t plan_weight(plan_builder *b, int32_t model_weight); /* -1 stays -1 */
/* Columns first .. first + cols of `of`, as rows of their own. */
int32_t plan_view(plan_builder *b, const char *name, int32_t of, int64_t first, int64_t cols);
int32_t plan_emit(plan_builder *b, op_step step);           /* returns step.dst; sets block */
int32_t plan_norm(plan_builder *b, const char *name, int32_t x, int32_t g, int64_t group, float scale);
int32_t plan_linear(plan_builder *b, const char *name, int32_t x, int32_t w, int32_t bias);
int32_t plan_quantised(plan_builder *b, int32_t x, quant_type weight_type);
int32_t plan_route(plan_builder *b, int32_t scores, int32_t used);
int32_t plan_by_expert(plan_builder *b, const char *name, int32_t x, int32_t w, int32_t route, int32_t used);
/* Mixers: one block kind each, from the row x of layer i to the block's result. */
int32_t plan_mix_attention(plan_builder *b, const arch_block *block, int i, int32_t x);
int32_t plan_mix_ffn(plan_builder *b, const arch_block *block, int i, int32_t x);
int32_t plan_mix_experts(plan_builder *b, const arch_block *block, int i, int32_t x);
int32_t plan_mix_per_layer(plan_builder *b, int i, int32_t x);

#endif
