/* guess.h: engines with drafters for tests, and texts that can be compared to the last bit: ids, logits, cells. */
#ifndef GUESS_H
#define GUESS_H

#include "engine/engine.h"

enum { MAX_TOKENS = 400 };

typedef struct guess_result {
  int32_t ids[MAX_TOKENS];
  int n;
  uint64_t cells;
  float *logits; /* [n_vocab] of the last token; guess_free_result frees them */
  size_t n_vocab;
  tandem_draft_stats stats;
} guess_result;

uint32_t guess_next_random(void);
int guess_below(int n);
void guess_ok(tandem_status st, const tandem_error *err);
void guess_params(tandem_engine_params *p, const char *target, const char *draft);
tandem_engine *guess_open_engine(const tandem_engine_params *p);
tandem_engine *guess_open_pair(const char *target, const char *draft);
void guess_collect_end(guess_result *r, tandem_session *s);
bool guess_collect(void *user, int32_t id, const char *piece, size_t n);
tandem_session *guess_open_session(tandem_engine *e, const tandem_sampling *sampling, const tandem_speculation *spec);
void guess_generate(tandem_engine *e, const int32_t *prompt, int n_prompt, int n_max, const tandem_sampling *sampling, const tandem_speculation *spec, guess_result *r);
tandem_speculation guess_kinds(const char *words, int depth);
void guess_assert_same(const guess_result *want, const guess_result *got, const char *what);
void guess_free_result(guess_result *r);
tandem_sampling guess_sampling(float temperature, uint64_t seed);

#endif
