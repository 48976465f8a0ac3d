/* engine: owns everything below it and implements tandem.h. The tensor side (device, model, kv, plan) and the text side
 * (token, sample) meet here only. */
#ifndef ENGINE_H
#define ENGINE_H

#include "device/device.h"
#include "kv/kv.h"
#include "model/model.h"
#include "plan/plan.h"
#include "sample/sample.h"
#include "spec/spec.h"
#include "token/token.h"

/* The drafter that is a model: its own weights and plan on the target's pages. */
typedef struct engine_draft {
  gguf *file;                      /* while it is being opened */
  model *model;
  plan *plan;                      /* NULL: there is none */
  device_binding memory;
  os_mapping *mapped;              /* part of its weights; NULL: none is */
  char off[600];                   /* why there is none, though one was named */
} engine_draft;

enum { ENGINE_KV_TYPES = 4 }; /* values of tandem_kv_type */

/* What tandem_speculation says, checked. */
typedef struct engine_policy {
  spec_bounds bounds;
  spec_kind kinds[SPEC_KINDS];
  int32_t n_kinds;
  bool by_value;
  uint64_t depth_seed;
} engine_policy;

typedef struct engine_speculation {
  engine_policy policy;
  spec_depth depth;
  tandem_draft_stats stats;
} engine_speculation;

/* One session's part of the step being made. */
typedef struct engine_part {
  tandem_step *step;
  tandem_session *s;
  int32_t limit;             /* drafts there is room for */
  struct engine_candidate {
    spec_kind kind;
    int32_t n;               /* tokens to ask for */
    double rate;             /* tokens a second that the rule expects of it */
  } order[SPEC_KINDS];       /* in which they are asked */
  int32_t n_order, k;        /* k: cells taken behind the last token's */
  int32_t first_row, n_draft;
  spec_kind kind;            /* whose drafts these are */
  float p[SPEC_MAX_DEPTH];
} engine_part;

struct tandem_engine {
  const device_ops *ops;
  device *device;
  model *model;
  plan *plan;
  tokenizer *tokens;               /* NULL: the file has no vocabulary */
  kv_pages *pages[OP_MAX_GROUPS];
  device_binding memory;           /* regions of the homes and stores */
  os_mapping *mapped;              /* over a part of the weights, of a packed file; NULL: none is mapped */
  uint64_t file_hash;              /* of the model's keys and tensor directory */
  uint64_t weights_hash;           /* of mapped weights, whose file may change before a session is saved; 0: not taken */
  bool loaded;                     /* false: opened to plan only */
  engine_draft draft;
  plan_fit_wish wish;              /* what was asked of the memory, and what it was said to be able to give */
  plan_fit fit;
  uint64_t program, program_files; /* resident before it was opened, and how much of that are pages of files */
  spec_drafter *drafters[SPEC_KINDS]; /* NULL: not there */
  spec_costs costs;
  engine_part parts[PLAN_MAX_SESSIONS]; /* of the step being made, n_parts of them */
  int32_t n_parts;
  spec_ask asks[PLAN_MAX_SESSIONS];
  int32_t ask_of[PLAN_MAX_SESSIONS];    /* [ask] -> part */
  bool taken[PLAN_MAX_SESSIONS];   /* sequence ids of open sessions */
  /* One batch, filled for each pass. */
  int32_t *ids, *positions, *sequences, *outputs; /* [max_tokens], one allocation */
  const int32_t *tables[OP_MAX_GROUPS][PLAN_MAX_SESSIONS];
};

struct tandem_session {
  tandem_engine *engine;
  int32_t sequence;
  int32_t *tokens;                 /* [n_context], n of them evaluated */
  int64_t n;
  float *logits;                   /* [n_vocab] of the last token */
  float *hidden;                   /* [n_embd] its row after the last norm; NULL: the plan does not keep it */
  bool has_logits;
  bool has_hidden;                 /* counts while there are logits: engine_hidden asks both */
  bool drafted;                    /* the token being handed out was guessed */
  engine_speculation speculation;
  sampler *sampler;
  char *piece;                     /* room for one piece of streamed text */
  size_t piece_capacity;
};

/* session.c: runs the target's plan. Fails too if the file its weights are mapped from has changed: nothing that was computed counts. */
status engine_run(tandem_engine *e, const op_batch *b, error *err);
/* One pass. Takes cells for n tokens (at most max_tokens) of the session, evaluates them, and leaves n_outputs
 * rows of logits, of the last tokens, in the engine's logits. On failure nothing has changed. */
status engine_pass(tandem_session *s, const int32_t *ids, int32_t n, int32_t n_outputs, error *err);
/* Cells for n more positions in every group, copying what is shared, or nothing and an error. */
status engine_take_cells(tandem_session *s, int32_t n, error *err);
/* Takes back what was evaluated from position n on, which no window has let go of; row `row` of the last pass gave the token of
 * index n. */
void engine_rewind(tandem_session *s, int64_t n, int32_t row);
/* Row `row` of the engine's logits (and hidden rows) becomes the session's. */
void engine_keep_row(tandem_session *s, int32_t row);
/* The hidden row of the last token, or NULL. */
static inline const float *engine_hidden(const tandem_session *s) { return s->has_logits && s->has_hidden ? s->hidden : NULL; }
/* Tells the drafters that the session has tokens from .. n - 1 now, or that its history is another (from < 0). */
void engine_tell_drafters(tandem_session *s, int64_t from);

/* fit.c: asks what fits, and compiles the plans for what is granted (plan_only: for what was asked, if nothing fits). */
status engine_fit(tandem_engine *e, const gguf *g, const tandem_engine_params *params, error *err);

/* draft.c: opens the drafter's file; plans on the target's plan, before anything is allocated; loads. */
status engine_draft_open(tandem_engine *e, const tandem_engine_params *params, error *err);
/* What a failure `st` of the drafter means for the engine: it is passed on if the drafter was demanded, else the drafter is closed
 * and the reason kept. */
status engine_without_drafter(tandem_engine *e, const tandem_engine_params *params, status st, const error *why, error *err);
status engine_draft_plan(tandem_engine *e, const tandem_engine_params *params, error *err);
status engine_draft_load(tandem_engine *e, const tandem_engine_params *params, error *err);
void engine_draft_close(tandem_engine *e);
size_t engine_draft_batch_bytes(const tandem_engine *e); /* of its rows of ids and positions */
size_t engine_draft_kv_bytes(const tandem_engine *e);
size_t engine_draft_scratch_bytes(const tandem_engine *e);

/* pack.c: true of keys that say how a file is made, not what is in it. */
bool engine_is_container_key(const char *name);

/* save.c: what tells one model file from another of the same shape, but for the values of its weights. */
uint64_t engine_hash_file(const gguf *g);
/* A sample of the values of its weights. */
uint64_t engine_hash_weights(const tandem_engine *e);
/* The bytes of tandem_session_save handed to a sink, and tandem_session_load from memory. */
status engine_save(const tandem_session *s, kv_sink *sink, void *user, error *err);
status engine_load(tandem_session *s, const uint8_t *bytes, size_t n, error *err);

#endif
