/* session.c: one sequence of tokens: which cells it has, evaluating more, going back, forking. The invariant: every group of
 * the cache holds exactly the positions 0 .. n - 1 of session->tokens (or what its window needs of them). */
#include <inttypes.h>
#include <string.h>

#include "engine/engine.h"

/* ---- life -------------------------------------------------------------------------------------------------------- */

static status take_sequence(tandem_engine *e, int32_t *sequence, error *err) {
  for (int32_t s = 0; s < PLAN_MAX_SESSIONS; s++)
    if (!e->taken[s]) {
      e->taken[s] = true;
      *sequence = s;
      return TANDEM_OK;
    }
  return base_fail(err, TANDEM_ERROR_BUSY, "session", "%d sessions are open, there can be no more", PLAN_MAX_SESSIONS);
}

tandem_status tandem_session_open(tandem_session **session, tandem_engine *e, const tandem_sampling *sampling, tandem_error *err) {
  void *p = NULL;
  tandem_sampling greedy;
  *session = NULL;
  if (!e->loaded) return base_fail(err, TANDEM_ERROR_ARGUMENT, "plan_only", "the engine was opened without weights");
  if (!sampling) {
    tandem_sampling_init(&greedy);
    greedy.temperature = 0;
    sampling = &greedy;
  }
  TRY(base_alloc(&p, sizeof(tandem_session), "session", err));
  tandem_session *s = p;
  status st;
  s->engine = e;
  s->sequence = -1;
  TRY_DONE(take_sequence(e, &s->sequence, err));
  TRY_DONE(base_alloc_array(&p, (size_t)e->plan->limits.n_context, sizeof(int32_t), "tokens", err));
  s->tokens = p;
  TRY_DONE(base_alloc_array(&p, (size_t)e->model->n_vocab, sizeof(float), "session logits", err));
  s->logits = p;
  if (e->plan->limits.hidden) {
    TRY_DONE(base_alloc_array(&p, (size_t)e->model->keys.n_embd, sizeof(float), "hidden row", err));
    s->hidden = p;
  }
  tandem_speculation otherwise;
  tandem_speculation_init(&otherwise);
  TRY_DONE(tandem_session_set_speculation(s, &otherwise, err));
  TRY_DONE(sample_open(&s->sampler, sampling, (int32_t)e->model->n_vocab, e->tokens, err));
  s->piece_capacity = e->tokens ? token_stream_capacity(e->tokens) : 1;
  TRY_DONE(base_alloc(&p, s->piece_capacity, "text", err));
  s->piece = p;
  *session = s;
  return TANDEM_OK;
done:
  tandem_session_close(s);
  return st;
}

static void clear_cells(tandem_session *s) {
  const plan *p = s->engine->plan;
  for (int g = 0; g < p->n_groups; g++) kv_pages_truncate(s->engine->pages[g], s->sequence, 0, NULL);
}

void tandem_session_close(tandem_session *s) {
  if (!s) return;
  if (s->sequence >= 0) {
    clear_cells(s);
    s->n = 0;
    engine_tell_drafters(s, -1); /* the next one with this sequence begins from nothing */
    s->engine->taken[s->sequence] = false;
  }
  sample_close(s->sampler);
  base_free(s->piece);
  base_free(s->hidden);
  base_free(s->logits);
  base_free(s->tokens);
  base_free(s);
}

tandem_status tandem_session_set_sampling(tandem_session *s, const tandem_sampling *sampling, tandem_error *err) {
  sampler *fresh = NULL;
  TRY(sample_open(&fresh, sampling, (int32_t)s->engine->model->n_vocab, s->engine->tokens, err));
  sample_close(s->sampler);
  s->sampler = fresh;
  return TANDEM_OK;
}

int64_t tandem_session_length(const tandem_session *s) { return s->n; }
const int32_t *tandem_session_tokens(const tandem_session *s) { return s->tokens; }
const float *tandem_session_logits(const tandem_session *s) { return s->has_logits ? s->logits : NULL; }

/* ---- one pass ---------------------------------------------------------------------------------------------------- */

/* A page that is written to must be the session's own, in the target's stores and in those of a drafter that rides on it. */
static void copy_page(tandem_engine *e, int g, kv_copy copy) {
  const plan *p = e->plan, *d = e->draft.plan;
  kv_store_copy(&p->groups[g].store, p->groups[g].layers, e->memory.stores[g], copy);
  if (d && !d->model->arch->borrows && d->groups[g].n_layers) kv_store_copy(&d->groups[g].store, d->groups[g].layers, e->draft.memory.stores[g], copy);
}

status engine_take_cells(tandem_session *s, int32_t n, error *err) {
  const plan *p = s->engine->plan;
  status st = TANDEM_OK;
  int g = 0;
  for (; g < p->n_groups && !st; g++) {
    kv_copy copy = {-1, -1};
    kv_pages_slide(s->engine->pages[g], s->sequence, s->n);
    st = kv_pages_append(s->engine->pages[g], s->sequence, n, &copy, err);
    if (!st && copy.from >= 0) copy_page(s->engine, g, copy);
  }
  for (int undo = 0; st && undo < g - 1; undo++) kv_pages_truncate(s->engine->pages[undo], s->sequence, s->n, NULL);
  return st;
}

void engine_keep_row(tandem_session *s, int32_t row) {
  const tandem_engine *e = s->engine;
  size_t n_vocab = (size_t)e->model->n_vocab;
  memcpy(s->logits, e->memory.logits + (size_t)row * n_vocab, n_vocab * sizeof(float));
  s->has_logits = true;
  s->has_hidden = s->hidden != NULL;
  if (!s->hidden) return;
  const op_value *h = &e->plan->values[e->plan->hidden];
  memcpy(s->hidden, (const char *)e->memory.hidden + h->offset + (size_t)row * h->stride, (size_t)h->cols * sizeof(float));
}

void engine_tell_drafters(tandem_session *s, int64_t from) {
  tandem_engine *e = s->engine;
  for (int k = 0; k < SPEC_KINDS; k++)
    if (e->drafters[k] && e->drafters[k]->ops->begin && from < 0) e->drafters[k]->ops->begin(e->drafters[k], s->sequence, s->tokens, s->n);
  for (int32_t i = 0; i < s->speculation.policy.n_kinds && from >= 0; i++) {
    spec_drafter *d = e->drafters[s->speculation.policy.kinds[i]];
    if (d && d->ops->settle) d->ops->settle(d, s->sequence, s->tokens, from, s->n);
  }
}

void engine_rewind(tandem_session *s, int64_t n, int32_t row) {
  const tandem_engine *e = s->engine;
  for (int g = 0; g < e->plan->n_groups; g++) kv_pages_truncate(e->pages[g], s->sequence, n, NULL);
  s->n = n;
  engine_keep_row(s, row);
}

status engine_run(tandem_engine *e, const op_batch *b, error *err) {
  TRY(plan_run(e->plan, e->ops, e->device, &e->memory, b, err));
  return e->mapped ? os_mapping_check(e->mapped, err) : TANDEM_OK;
}

status engine_pass(tandem_session *s, const int32_t *ids, int32_t n, int32_t n_outputs, error *err) {
  tandem_engine *e = s->engine;
  TRY(engine_take_cells(s, n, err));
  for (int32_t i = 0; i < n; i++) {
    e->ids[i] = ids[i];
    e->positions[i] = (int32_t)(s->n + i);
    e->sequences[i] = s->sequence;
  }
  for (int32_t o = 0; o < n_outputs; o++) e->outputs[o] = n - n_outputs + o;
  op_batch b = {.n_tokens = n, .n_outputs = n_outputs, .ids = e->ids, .positions = e->positions, .sequences = e->sequences, .outputs = e->outputs};
  for (int g = 0; g < e->plan->n_groups; g++) b.tables[g] = e->tables[g];
  status st = engine_run(e, &b, err);
  if (st) {
    for (int g = 0; g < e->plan->n_groups; g++) kv_pages_truncate(e->pages[g], s->sequence, s->n, NULL);
    return st;
  }
  if (s->tokens + s->n != ids) memmove(s->tokens + s->n, ids, (size_t)n * sizeof *ids);
  s->n += n;
  s->has_logits = n_outputs > 0;
  if (s->has_logits) engine_keep_row(s, n_outputs - 1);
  engine_tell_drafters(s, s->n - n);
  return TANDEM_OK;
}

/* ---- evaluating -------------------------------------------------------------------------------------------------- */

static status check_ids(const tandem_session *s, const int32_t *ids, int64_t n, error *err) {
  int64_t room = s->engine->plan->limits.n_context - s->n;
  if (n < 0) return base_fail(err, TANDEM_ERROR_ARGUMENT, "n", "n: %" PRId64 ", must be at least 0", n);
  if (n > room)
    return base_fail(err, TANDEM_ERROR_CONTEXT, "n_context", "%" PRId64 " tokens after %" PRId64 " do not fit the context of %" PRId64, n, s->n,
                     s->engine->plan->limits.n_context);
  for (int64_t i = 0; i < n; i++)
    if (ids[i] < 0 || ids[i] >= s->engine->model->n_vocab)
      return base_fail(err, TANDEM_ERROR_ARGUMENT, "ids", "token %" PRId64 ": id %d, must be 0 to %" PRId64, i, ids[i], s->engine->model->n_vocab - 1);
  return TANDEM_OK;
}

tandem_status tandem_session_decode(tandem_session *s, const int32_t *ids, int64_t n, tandem_pass_fn *pass, void *user, tandem_error *err) {
  TRY(check_ids(s, ids, n, err));
  int32_t most = s->engine->plan->limits.max_tokens;
  for (int64_t done = 0; done < n;) {
    int32_t now = (int32_t)(n - done < most ? n - done : most);
    TRY(engine_pass(s, ids + done, now, done + now == n, err));
    done += now;
    if (pass && !pass(user, done, n)) return base_fail(err, TANDEM_ERROR_CANCELLED, NULL, "cancelled after %" PRId64 " of %" PRId64 " tokens", done, n);
  }
  return TANDEM_OK;
}

tandem_status tandem_session_decode_all(tandem_session *s, const int32_t *ids, int64_t n, float *rows, tandem_error *err) {
  TRY(check_ids(s, ids, n, err));
  size_t row = (size_t)s->engine->model->n_vocab;
  int32_t most = s->engine->plan->limits.max_outputs;
  for (int64_t done = 0; done < n;) {
    int32_t now = (int32_t)(n - done < most ? n - done : most);
    TRY(engine_pass(s, ids + done, now, now, err));
    memcpy(rows + (size_t)done * row, s->engine->memory.logits, (size_t)now * row * sizeof(float));
    done += now;
  }
  return TANDEM_OK;
}

/* ---- going back -------------------------------------------------------------------------------------------------- */

tandem_status tandem_session_truncate(tandem_session *s, int64_t n, tandem_error *err) {
  const plan *p = s->engine->plan;
  if (n < 0 || n > s->n) return base_fail(err, TANDEM_ERROR_ARGUMENT, "n", "n: %" PRId64 ", must be 0 to %" PRId64, n, s->n);
  if (n == s->n) return TANDEM_OK;
  bool gone = false;
  for (int g = 0; g < p->n_groups && !gone; g++) gone = kv_pages_truncate(s->engine->pages[g], s->sequence, n, NULL) != TANDEM_OK;
  s->has_logits = false;
  s->n = n;
  engine_tell_drafters(s, -1);
  if (!gone) return TANDEM_OK;
  clear_cells(s); /* a window has let go of what position n needs: begin again */
  s->n = 0;
  engine_tell_drafters(s, -1);
  return tandem_session_decode(s, s->tokens, n, NULL, NULL, err);
}

tandem_status tandem_session_sync(tandem_session *s, const int32_t *ids, int64_t n, tandem_pass_fn *pass, void *user, tandem_error *err) {
  if (n < 0 || n > s->engine->plan->limits.n_context)
    return base_fail(err, TANDEM_ERROR_CONTEXT, "n_context", "%" PRId64 " tokens do not fit the context of %" PRId64, n, s->engine->plan->limits.n_context);
  int64_t same = 0;
  while (same < n && same < s->n && ids[same] == s->tokens[same]) same++;
  if (same == n && same == s->n && s->has_logits) return TANDEM_OK;
  if (same == n && n > 0) same--;
  TRY(tandem_session_truncate(s, same, err));
  return tandem_session_decode(s, ids + s->n, n - s->n, pass, user, err);
}

/* ---- forking ----------------------------------------------------------------------------------------------------- */

static status share_cells(tandem_session *s, const tandem_session *source, int64_t n, error *err) {
  const plan *p = s->engine->plan;
  status st = TANDEM_OK;
  for (int g = 0; g < p->n_groups && !st; g++) st = kv_pages_fork(s->engine->pages[g], source->sequence, s->sequence, n, err);
  if (!st) {
    s->n = n;
    for (int k = 0; k < SPEC_KINDS; k++) {
      spec_drafter *d = s->engine->drafters[k];
      if (d && d->ops->fork) d->ops->fork(d, source->sequence, s->sequence, n);
    }
    engine_tell_drafters(s, -1);
    return TANDEM_OK;
  }
  clear_cells(s);
  if (st != TANDEM_ERROR_CONTEXT) return st;
  return tandem_session_decode(s, s->tokens, n, NULL, NULL, err); /* the window has moved on: evaluate again */
}

tandem_status tandem_session_fork(tandem_session **session, const tandem_session *source, int64_t n, tandem_error *err) {
  *session = NULL;
  if (n < 0 || n > source->n) return base_fail(err, TANDEM_ERROR_ARGUMENT, "n", "n: %" PRId64 ", must be 0 to %" PRId64, n, source->n);
  tandem_session *s;
  TRY(tandem_session_open(&s, source->engine, sample_params(source->sampler), err));
  memcpy(s->tokens, source->tokens, (size_t)n * sizeof *s->tokens);
  s->speculation.policy = source->speculation.policy;
  status st = share_cells(s, source, n, err);
  if (st) {
    tandem_session_close(s);
    return st;
  }
  if (n == source->n && source->has_logits) {
    memcpy(s->logits, source->logits, (size_t)s->engine->model->n_vocab * sizeof(float));
    s->has_hidden = source->has_hidden;
    if (s->has_hidden) memcpy(s->hidden, source->hidden, (size_t)s->engine->model->keys.n_embd * sizeof(float));
    s->has_logits = true;
  }
  *session = s;
  return TANDEM_OK;
}
