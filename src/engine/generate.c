/* generate.c: drawing tokens and streaming their text. */
#include "engine/engine.h"

tandem_status tandem_session_sample(tandem_session *s, int32_t *id, tandem_error *err) {
  *id = -1;
  if (!s->has_logits) return base_fail(err, TANDEM_ERROR_ARGUMENT, "session", "no token has been evaluated, there are no logits to draw from");
  return sample_draw(s->sampler, s->logits, s->tokens, s->n, (uint64_t)s->n, id, err);
}

/* False if the callback asked to stop. */
static bool hand_out(tandem_session *s, token_stream *stream, int32_t id, tandem_text_fn *on_text, void *user) {
  const tokenizer *t = s->engine->tokens;
  if (!on_text) return true;
  size_t n = t ? token_stream_next(t, stream, id, s->piece, s->piece_capacity) : 0;
  return on_text(user, id, s->piece, n);
}

tandem_status tandem_session_generate(tandem_session *s, int64_t n_max, tandem_text_fn *on_text, void *user, int64_t *n_generated, tandem_stop *stop,
                                      tandem_error *err) {
  token_stream stream = {0};
  status st = TANDEM_OK;
  tandem_stop why = TANDEM_STOP_LENGTH;
  int64_t n = 0;
  while (n_max < 0 || n < n_max) {
    int32_t id;
    if ((st = tandem_session_sample(s, &id, err))) break;
    n++;
    if (tandem_token_is_end(s->engine, id)) {
      why = TANDEM_STOP_END;
      break;
    }
    if (!hand_out(s, &stream, id, on_text, user)) {
      why = TANDEM_STOP_USER;
      break;
    }
    if (n == n_max) break;
    if (s->n == s->engine->plan->limits.n_context) {
      why = TANDEM_STOP_CONTEXT;
      break;
    }
    if ((st = tandem_session_decode(s, &id, 1, NULL, NULL, err))) break;
  }
  size_t rest = token_stream_end(&stream, s->piece, s->piece_capacity);
  if (rest && on_text && why != TANDEM_STOP_USER) on_text(user, -1, s->piece, rest);
  if (n_generated) *n_generated = n;
  if (stop) *stop = why;
  return st;
}
