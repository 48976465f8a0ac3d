/* guess.c: see guess.h. Every fault fails the test at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "support/guess.h"

static uint64_t guess_state = 88172645463325252u;
uint32_t guess_next_random(void) {
  guess_state ^= guess_state << 13;
  guess_state ^= guess_state >> 7;
  guess_state ^= guess_state << 17;
  return (uint32_t)(guess_state >> 24);
}
int guess_below(int n) { return (int)(guess_next_random() % (uint32_t)n); }

void guess_ok(tandem_status st, const tandem_error *err) {
  if (st) fail_msg("%s: %s", tandem_status_name(st), err->text);
}

/* ---- engines and runs -------------------------------------------------------------------------------------------- */

void guess_params(tandem_engine_params *p, const char *target, const char *draft) {
  tandem_engine_params_init(p);
  p->model = target;
  p->draft = draft;
  p->draft_wish = TANDEM_DRAFT_REQUIRED;
  p->n_context = 512;
  p->n_sequences = 8;
  p->n_ubatch = 64;
  p->n_threads = 2;
}

tandem_engine *guess_open_engine(const tandem_engine_params *p) {
  tandem_engine *e;
  tandem_error err = {0};
  guess_ok(tandem_engine_open(&e, p, &err), &err);
  return e;
}

tandem_engine *guess_open_pair(const char *target, const char *draft) {
  tandem_engine_params p;
  guess_params(&p, target, draft);
  return guess_open_engine(&p);
}

void guess_collect_end(guess_result *r, tandem_session *s) {
  r->cells = tandem_session_hash(s);
  r->n_vocab = (size_t)s->engine->model->n_vocab;
  r->logits = malloc(r->n_vocab * sizeof *r->logits);
  memcpy(r->logits, tandem_session_logits(s), r->n_vocab * sizeof *r->logits);
  r->stats.size = sizeof r->stats;
  guess_ok(tandem_session_get_draft_stats(s, &r->stats, NULL), NULL);
}

bool guess_collect(void *user, int32_t id, const char *piece, size_t n) {
  guess_result *r = user;
  (void)piece, (void)n;
  if (id >= 0) r->ids[r->n++] = id;
  return true;
}

tandem_session *guess_open_session(tandem_engine *e, const tandem_sampling *sampling, const tandem_speculation *spec) {
  tandem_session *s;
  tandem_error err = {0};
  guess_ok(tandem_session_open(&s, e, sampling, &err), &err);
  guess_ok(tandem_session_set_speculation(s, spec, &err), &err);
  return s;
}

void guess_generate(tandem_engine *e, const int32_t *prompt, int n_prompt, int n_max, const tandem_sampling *sampling,
                     const tandem_speculation *spec, guess_result *r) {
  tandem_error err = {0};
  tandem_session *s = guess_open_session(e, sampling, spec);
  memset(r, 0, sizeof *r);
  guess_ok(tandem_session_decode(s, prompt, n_prompt, NULL, NULL, &err), &err);
  guess_ok(tandem_session_generate(s, n_max, guess_collect, r, NULL, NULL, &err), &err);
  guess_collect_end(r, s);
  tandem_session_close(s);
}

tandem_speculation guess_kinds(const char *words, int depth) {
  tandem_speculation s;
  tandem_speculation_init(&s);
  s.kinds = words;
  s.depth = depth;
  return s;
}

void guess_assert_same(const guess_result *want, const guess_result *got, const char *what) {
  if (want->n != got->n || memcmp(want->ids, got->ids, (size_t)want->n * sizeof *want->ids)) {
    int i = 0;
    while (i < want->n && i < got->n && want->ids[i] == got->ids[i]) i++;
    fail_msg("%s: token %d of %d is another (%d tokens)", what, i, want->n, got->n);
  }
  if (memcmp(want->logits, got->logits, want->n_vocab * sizeof *want->logits)) fail_msg("%s: other logits", what);
  if (want->cells != got->cells) fail_msg("%s: other cells", what);
}

void guess_free_result(guess_result *r) { free(r->logits); }

tandem_sampling guess_sampling(float temperature, uint64_t seed) {
  tandem_sampling s;
  tandem_sampling_init(&s);
  s.temperature = temperature;
  s.seed = seed;
  return s;
}
