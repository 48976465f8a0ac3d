/* plan: model + limits -> steps and a memory map, proved before it runs.
 *
 *   lower    walks the blocks of each layer and emits steps over values (lower.c, mixers.c)
 *   fuse     folds adjacent steps, drops dead ones, decides after which steps the threads meet (fuse.c)
 *   layout   gives scratch values their offsets by lifetime (layout.c)
 *   verify   proves that no operand can leave its buffer, for any batch up to the limits and any page of the pools (verify.c)
 *   run      binds a batch, after checking what only the batch can tell (run.c)
 *   explain  prints all of it (explain.c)
 *   fit      which limits the memory allows, before there is a plan (fit.c, fit_text.c)
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

/* Of one token with logits: bytes of weights read, and of these the bytes of experts, n_used of n_experts (0: there are none);
 * multiply-adds of weights, and what most of them are. */
typedef struct plan_costs {
  uint64_t read_bytes, expert_bytes, macs;
  int32_t n_used, n_experts;
  tandem_ceiling arithmetic;
} plan_costs;
plan_costs plan_cost(const plan *p);

/* ---- fit.c: which limits the memory allows ----------------------------------------------------------------------- */

/* Plain numbers, and pure functions of them: no file, no device, no clock, no allocation. A sum that does not fit 64 bits is
 * UINT64_MAX, which no budget holds. What is sized here is what the engine maps and allocates, to the byte; how resident
 * memory can differ from it is said in docs/ARCHITECTURE.md. */
enum { PLAN_FIT_TYPES = 4, PLAN_FIT_SHAPES = 8, PLAN_FIT_ROWS = 48, PLAN_FIT_CONDITIONS = 8, PLAN_FIT_STAGES = 24, PLAN_FIT_MIN_CONTEXT = 512 };

/* Layers of a model whose pages come and go together. */
typedef struct plan_fit_group {
  const char *name;
  int64_t window;                      /* of a target's group; 0 = all */
  int32_t n_layers;
  int32_t follows;                     /* of a drafter's group: the target's group whose page ids it uses */
  uint64_t page_bytes[PLAN_FIT_TYPES]; /* of all its layers, for each pair of types of the wish */
} plan_fit_group;

/* What a model takes whatever the context. A drafter that borrows has no groups: it has no cells, so no bytes for them. One
 * with cells of its own (a companion) has groups that follow the target's: as many pages, whatever its own trained length. */
typedef struct plan_fit_model {
  uint64_t weights;                    /* as they lie in memory */
  uint64_t tables;                     /* dimensions, tensors, plan */
  uint64_t tokenizer;
  uint64_t batch;                      /* ids, positions, rows of one */
  uint64_t reading;                    /* only while its file is read: directory and pages of the file */
  int64_t n_trained;
  int32_t n_groups;
  plan_fit_group groups[OP_MAX_GROUPS];
} plan_fit_model;

/* The working memory of a plan. The target's depends on how deep guesses are: each is a row of logits and of hidden state. */
typedef struct plan_fit_shape {
  int32_t depth;                       /* 0 without a drafter */
  int32_t n_rows;                      /* that a pass can give */
  uint64_t scratch, logits, hidden, work;
} plan_fit_shape;

typedef struct plan_fit_wish {
  plan_fit_model target, drafter;
  plan_fit_shape alone;                /* the target without a drafter */
  plan_fit_shape shapes[PLAN_FIT_SHAPES]; /* with one: the depth that is asked for, then what it may be lowered to */
  int32_t n_shapes;                    /* >= 1 with a drafter */
  plan_fit_shape drafting;             /* the drafter's own */
  bool has_drafter;
  bool drafter_demanded;               /* failing is better than going without */
  int64_t n_context;                   /* exactly so many; 0 = as many as fit, up to the trained length */
  int64_t n_context_min;               /* below which the context does not give way; 0 = 512, or the trained length if less */
  int32_t n_sequences, max_tokens;     /* as in plan_limits */
  int32_t n_types;                     /* 1 .. PLAN_FIT_TYPES: the types asked for, then what they may be lowered to */
  struct plan_fit_type { quant_type k, v; } types[PLAN_FIT_TYPES];
  uint64_t session, session_token;     /* of one sequence, and for each token of its context */
  uint64_t session_draft;              /* of one sequence, with a drafter */
  uint64_t ngrams;                     /* the pool of n-grams, which is done without before anything but the context gives way */
  uint64_t server;                     /* buffers of a server */
  uint64_t program;                    /* resident before anything was opened, and code that is run later */
  uint64_t budget;                     /* what the process may have at its peak */
  const char *budget_is;               /* "free memory", "--memory", ... */
} plan_fit_wish;

typedef struct plan_fit_choice {
  int64_t n_context;
  int32_t type, shape;                 /* indexes into types and shapes */
  bool drafter, ngrams;
} plan_fit_choice;

enum { PLAN_FIT_LOADING = 1, PLAN_FIT_RUNNING = 2, PLAN_FIT_ALWAYS = 3 };

typedef struct plan_fit_row {
  const char *whose;                   /* "target", "drafter" or "" */
  char name[40], detail[72];
  uint64_t bytes;
  int when;                            /* PLAN_FIT_LOADING and PLAN_FIT_RUNNING */
} plan_fit_row;

typedef struct plan_fit_sum {
  plan_fit_row rows[PLAN_FIT_ROWS];
  int32_t n_rows;
  uint64_t loading, running, peak;     /* peak = the larger */
} plan_fit_sum;

/* Below `bytes` this wish gives way first (0: at no budget, UINT64_MAX: at all); from the same sums. When a later one gives way the
 * context grows again, so where it is short is told by the stages. */
typedef struct plan_fit_condition {
  const char *name, *says;
  uint64_t bytes;
} plan_fit_condition;

/* At budgets of from <= budget < to, and no others, this choice is granted, with the context least.n_context at `from`, growing
 * up to what was asked at `full` and above. Below `short_of_drafter` it is less than the drafter's trained length. */
typedef struct plan_fit_stage {
  plan_fit_choice least;
  uint64_t from, to, full, short_of_drafter;
} plan_fit_stage;

typedef struct plan_fit {
  bool fits;
  plan_fit_choice asked, granted;      /* granted: the smallest there is if nothing fits */
  plan_fit_sum sum;                    /* of what is granted */
  uint64_t asked_peak;
  uint64_t next_peak;                  /* with one more token of context; 0 if it is the context asked for */
  plan_fit_condition conditions[PLAN_FIT_CONDITIONS];
  int32_t n_conditions;
  plan_fit_stage stages[PLAN_FIT_STAGES]; /* from the largest budgets down */
  int32_t n_stages;
} plan_fit;

/* Rows and sums of a choice. */
void plan_fit_add(const plan_fit_wish *w, plan_fit_choice c, plan_fit_sum *sum);
/* Its peak alone. Never falls when n_context grows. */
uint64_t plan_fit_peak(const plan_fit_wish *w, plan_fit_choice c);
/* Grants what fits. In this order gives way: the context down to its minimum, the pool of n-grams, the types, the depth, the
 * drafter; when the drafter is gone the others start again from what was asked. A context asked for exactly does not give way. Nothing fits:
 * TANDEM_ERROR_MEMORY with what would fit, or with the smallest need; *f is filled in all the same. */
status plan_fit_solve(plan_fit *f, const plan_fit_wish *w, error *err);
/* fit_text.c: the rows, what was asked and granted and why, as a table or as JSON; `explain` adds the conditions to the table. */
status plan_fit_write(const plan_fit *f, const plan_fit_wish *w, bool json, bool explain, text *out, error *err);
/* Tokens of a proposal that a choice has room for. */
int32_t plan_fit_depth(const plan_fit_wish *w, plan_fit_choice c);
/* "3.10 GiB" */
const char *plan_fit_size(char out[32], uint64_t bytes);

/* ---- within plan/ ------------------------------------------------------------------------------------------------ */

status plan_groups_open(plan *p, error *err);  /* groups.c: which layers share pages, and how large the pools are */
/* The pool of a group; false if it would have more pages than a pool can. The one place where pages are counted. */
bool plan_pool_shape(int64_t n_context, int64_t window, int32_t max_tokens, int32_t n_sequences, kv_pages_shape *shape);
/* A layer of a group as a step refers to it. */
op_cache plan_cache(const plan_group *g, int group, const kv_layer *l);
status plan_pair(plan *p, error *err);         /* pair.c: the caches of a drafter, out of its source's groups */
status plan_lower(plan *p, error *err);        /* lower.c */
/* True if every thread does the same rows of both steps, and nothing of others. */
bool plan_same_rows(const plan *p, const op_step *a, const op_step *b);
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
