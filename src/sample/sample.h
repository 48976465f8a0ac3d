/* sample: logits -> id. A chain of filters whose only state is its parameters, so that a token drawn at a position is a
 * pure function of (logits, tokens before it, seed, position): speculation may sample a position twice and get the same.
 *
 * Filters are rows of the table in chain.c, applied in its order: bias, penalties, DRY, top-k, typical, top-p, min-p, XTC,
 * temperature, draw. Randomness: Philox4x32-10 indexed by (seed, position, stream, token id), Gumbel-max over the
 * surviving candidates in double with our own logarithm, ties to the lowest id. Allocates at open only. */
#ifndef SAMPLE_H
#define SAMPLE_H

#include "token/token.h"

typedef struct sampler sampler;

/* Checks every parameter (out of range: an error that names it, the value and the limits) and copies what it needs.
 * `t` (may be NULL) is for DRY's sequence breakers and is borrowed. n_vocab >= 1. */
status sample_open(sampler **s, const tandem_sampling *params, int32_t n_vocab, const tokenizer *t, error *err);
void sample_close(sampler *s); /* NULL is allowed */
/* What sample_open allocates, without DRY's tables; SIZE_MAX if it does not fit. */
size_t sample_bytes(const tandem_sampling *params, int32_t n_vocab);
const tandem_sampling *sample_params(const sampler *s);

/* Draws the token for position `index` (= number of tokens of the sequence before it). logits [n_vocab] are only read;
 * history [n_history] are the tokens before it. NaN or +inf among the logits, or nothing finite, is
 * TANDEM_ERROR_NONFINITE naming the first bad id; -inf bans a token. Never returns an id that is banned as long as one is
 * not. One thread at a time. */
status sample_draw(sampler *s, const float *logits, const int32_t *history, int64_t n_history, uint64_t index, int32_t *id,
                   error *err);

/* Greedy choice alone: the largest logit, ties to the lowest id; -1 if there is a NaN or nothing is finite. */
int32_t sample_argmax(const float *logits, int32_t n_vocab);

/* Uniform in (0, 1): u = ((x >> 11) + 0.5) * 2^-53, x = two words of Philox4x32-10(key seed, counter (index, stream << 24
 * | choice, id / 2)); words 0, 1 for an even id, 2, 3 for an odd one. */
enum { SAMPLE_STREAM_DRAW = 0, SAMPLE_STREAM_XTC = 1 };
double sample_uniform(uint64_t seed, uint64_t index, uint32_t stream, uint32_t choice, uint32_t id);

/* ---- inside the folder, and for its test -------------------------------------------------------------------------- */

enum {
  SAMPLE_MAX_BIAS = 4096,
  SAMPLE_MAX_BREAKERS = 64,
  SAMPLE_MAX_BREAKER_BYTES = 256,
  SAMPLE_MAX_DRY = 65536, /* tokens DRY looks at, at most: its scratch is allocated when the sampler is opened */
  SAMPLE_LANES = 32       /* blocks of Philox made at once */
};

/* math.c: within 1 unit in the last place, the same bits on every machine. */
double sample_log(double x);
void sample_exps(const double *restrict x, int32_t n, double shift, double *restrict y); /* exp(x - shift), -708 .. 709 */

/* philox.c: Philox4x32-10; for SAMPLE_LANES values of counter[3] on, side by side; the number that two words make. */
void sample_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t words[4]);
void sample_philox_run(const uint32_t key[2], const uint32_t counter[4], uint32_t words[4][SAMPLE_LANES]);
double sample_unit(uint32_t low, uint32_t high);

/* params.c: every parameter in its range, every pointer usable. */
status sample_check(const tandem_sampling *params, int32_t n_vocab, error *err);

/* An edited logit as float32: what is finite stays finite, a ban stays a ban. */
float sample_settle(double logit);

/* dry.c: apply subtracts penalties from logits [n_vocab]; longest [n_vocab] is scratch, zero before and after. */
typedef struct sample_dry sample_dry;
status sample_dry_open(sample_dry **d, const tandem_sampling *params, const tokenizer *t, error *err);
void sample_dry_close(sample_dry *d); /* NULL is allowed */
void sample_dry_apply(sample_dry *d, const int32_t *history, int64_t n_history, int32_t n_vocab, int32_t *longest,
                      float *logits);

#endif
