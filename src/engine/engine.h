/* engine: owns everything below it and implements tandem.h. The tensor side (device, model, kv, plan) and the text side
 * (token, sample) meet here only. */
#ifndef ENGINE_H
#define ENGINE_H

#include "device/device.h"
#include "kv/kv.h"
#include "model/model.h"
#include "plan/plan.h"
#include "sample/sample.h"
#include "token/token.h"

struct tandem_engine {
  const device_ops *ops;
  device *device;
  model *model;
  plan *plan;
  tokenizer *tokens;               /* NULL: the file has no vocabulary */
  kv_pages *pages[OP_MAX_GROUPS];
  device_binding memory;           /* regions of the homes and stores */
  uint64_t file_hash;              /* of the model's keys and tensor directory */
  bool loaded;                     /* false: opened to plan only */
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
  bool has_logits;
  sampler *sampler;
  char *piece;                     /* room for one piece of streamed text */
  size_t piece_capacity;
};

/* session.c: one pass. Takes cells for n tokens (at most max_tokens) of the session, evaluates them, and leaves n_outputs
 * rows of logits, of the last tokens, in the engine's logits. On failure nothing has changed. */
status engine_pass(tandem_session *s, const int32_t *ids, int32_t n, int32_t n_outputs, error *err);

/* save.c: what tells one model file from another of the same shape, but for the values of its weights. */
uint64_t engine_hash_file(const gguf *g);
/* The bytes of tandem_session_save handed to a sink, and tandem_session_load from memory. */
status engine_save(const tandem_session *s, kv_sink *sink, void *user, error *err);
status engine_load(tandem_session *s, const uint8_t *bytes, size_t n, error *err);

#endif
