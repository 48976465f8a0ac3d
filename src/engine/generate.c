/* generate.c: drawing tokens and streaming their text. */
#include "engine/engine.h"

tandem_status tandem_session_sample(tandem_session *s, int32_t *id, tandem_error *err) {
  *id = -1;
  if (!s->has_logits) return base_fail(err, TANDEM_ERROR_ARGUMENT, "session", "no token has been evaluated, there are no logits to draw from");
  return sample_draw(s->sampler, s->logits, s->tokens, s->n, (uint64_t)s->n, id, err);
}

typedef struct output {
  token_stream stream;
  tandem_text_fn *on_text;
  void *user;
  int64_t n, n_max;
  tandem_stop why;
} output;

/* Hands one drawn token out; false: the text ends with it, and `why` says so. */
static bool hand_out(tandem_session *s, output *o, int32_t id, bool drafted) {
  const tokenizer *t = s->engine->tokens;
  o->n++;
  s->drafted = drafted;
  if (tandem_token_is_end(s->engine, id)) {
    o->why = TANDEM_STOP_END;
    return false;
  }
  size_t n = t && o->on_text ? token_stream_next(t, &o->stream, id, s->piece, s->piece_capacity) : 0;
  if (o->on_text && !o->on_text(o->user, id, s->piece, n)) {
    o->why = TANDEM_STOP_USER;
    return false;
  }
  return o->n != o->n_max;
}

/* Hands out what a step drew. If the text ends before its last token, what was evaluated behind is taken back, so that the
 * session is as plain decoding would have left it. */
static bool hand_out_step(tandem_session *s, output *o, const tandem_step *step) {
  int64_t before = s->n - step->n;
  for (int32_t i = 0; i < step->n; i++) {
    if (hand_out(s, o, step->ids[i], i < step->n_accepted)) continue;
    if (i + 1 < step->n) {
      engine_rewind(s, before + i + 1, i);
      engine_tell_drafters(s, -1);
    }
    return false;
  }
  return true;
}

tandem_status tandem_session_generate(tandem_session *s, int64_t n_max, tandem_text_fn *on_text, void *user, int64_t *n_generated, tandem_stop *stop,
                                      tandem_error *err) {
  output o = {.on_text = on_text, .user = user, .n_max = n_max < 0 ? -1 : n_max, .why = TANDEM_STOP_LENGTH};
  status st = TANDEM_OK;
  int32_t last = -1;
  bool on = n_max != 0 && !(st = tandem_session_sample(s, &last, err)) && hand_out(s, &o, last, false);
  while (on) {
    if (s->n == s->engine->plan->limits.n_context) {
      o.why = TANDEM_STOP_CONTEXT;
      break;
    }
    int64_t left = n_max < 0 ? TANDEM_MAX_DRAFT + 1 : n_max - o.n;
    tandem_step step = {.session = s, .last = last, .n_max = (int32_t)(left > TANDEM_MAX_DRAFT + 1 ? TANDEM_MAX_DRAFT + 1 : left)};
    if ((st = tandem_advance(&step, 1, err))) break;
    on = hand_out_step(s, &o, &step);
    last = step.ids[step.n - 1];
  }
  size_t rest = token_stream_end(&o.stream, s->piece, s->piece_capacity);
  if (rest && on_text && o.why != TANDEM_STOP_USER) on_text(user, -1, s->piece, rest);
  if (n_generated) *n_generated = o.n;
  if (stop) *stop = o.why;
  return st;
}
