/* spec: guess tokens, check them against the target, decide how far to guess. Speculation never changes a bit of the output:
 * what is committed is what the target's own sampler draws from the target's own rows (verify.c), drafters only say which
 * tokens are worth a row. So everything in here may be wrong, slow or absent, and the text stays the same.
 *
 *   spec.c        the table of drafters; the chain: who proposes for a sequence; the words of --spec
 *   verify.c      sample and match
 *   depth.c       how far to guess: costs and acceptance, measured; no knobs
 *   draft_*.c     one drafter each
 *
 * Terms (Leviathan et al. 2023; Chen et al. 2023): n tokens of a sequence are evaluated; `last` is its newest token, at
 * index n, not evaluated; a drafter proposes d_1 .. d_k for the indexes n + 1 ..; row i of the verification (position n + i)
 * evaluates `last` (i = 0) or d_i and gives t_i, the token of index n + i + 1. m = matches: t_i = d_(i+1) for all i < m.
 * t_0 .. t_m are committed.
 *
 * One thread at a time. Nothing here allocates after open. */
#ifndef SPEC_H
#define SPEC_H

#include "kv/kv.h"
#include "model/model.h"
#include "plan/plan.h"
#include "sample/sample.h"
#include "token/token.h"

enum {
  SPEC_MAX_DEPTH = 64, /* tokens of one proposal */
  SPEC_POSITIONS = 16, /* draft positions with acceptance of their own; deeper ones count as the last */
  SPEC_BUCKETS = 8,    /* of the drafter's probability, edges .1 .25 .4 .55 .7 .85 .95 */
};

/* In the order in which a chain asks: cheap ones first. */
typedef enum spec_kind { SPEC_NGRAM_SIMPLE, SPEC_NGRAM_MOD, SPEC_SHARED, SPEC_MODEL, SPEC_KINDS } spec_kind;

/* ---- depth.c: how far to guess ----------------------------------------------------------------------------------- */

/* What things cost, learned while running; one for an engine. Seconds. */
typedef struct spec_costs {
  /* A pass of the target with N rows: decayed means by number of rows (index N, beyond the last: extrapolated) and by the
   * logarithm of the context; n_pass measurements behind each (they stop counting at 50), bit b of known[N]: there are some. */
  float pass[SPEC_MAX_DEPTH + 2][32];
  uint8_t n_pass[SPEC_MAX_DEPTH + 2][32];
  uint32_t known[SPEC_MAX_DEPTH + 2];
  double times[SPEC_MAX_DEPTH + 2]; /* T(N) in the context bucket of the newest pass */
  int32_t times_at;           /* that bucket + 1; 0: none */
  float draft[SPEC_KINDS][2]; /* [0] what the first token of a proposal costs, [1] each further one */
  uint8_t n_draft[SPEC_KINDS][2];
  float newest[SPEC_KINDS];   /* what the newest proposal cost in all */
  float accepted[SPEC_KINDS][SPEC_POSITIONS][SPEC_BUCKETS], seen[SPEC_KINDS][SPEC_POSITIONS][SPEC_BUCKETS]; /* decayed */
  float taken[SPEC_KINDS][SPEC_POSITIONS], offered[SPEC_KINDS][SPEC_POSITIONS]; /* of all buckets; dropped drafts are offers too */
} spec_costs;

/* One sequence's acceptance and its drafters' sleep. */
typedef struct spec_depth {
  float accepted[SPEC_KINDS][SPEC_POSITIONS][SPEC_BUCKETS], seen[SPEC_KINDS][SPEC_POSITIONS][SPEC_BUCKETS]; /* decayed */
  float taken[SPEC_KINDS][SPEC_POSITIONS], offered[SPEC_KINDS][SPEC_POSITIONS];
  struct spec_sleep {
    int64_t idle;   /* tokens committed since the best depth was last above 0 */
    int64_t wait;   /* tokens between probes, while asleep; doubles up to 1024 */
    int64_t next;   /* tokens left until the next one */
    int32_t best;   /* the best depth when last asked */
    int32_t n_tried, n_matched; /* drafts that were put to the test since the last count, and matches among them */
    uint32_t decisions;
    int32_t streak;   /* probes that matched, one after the other */
    bool hopeful;     /* if every draft matched, it would pay */
    bool plain;       /* this step goes without a guess to see what it costs */
    bool asleep, off; /* off: until begin (it never matches, or looking again costs too much) */
  } sleep[SPEC_KINDS];
  /* The decision being carried out. */
  spec_kind kind;
  int32_t asked;    /* 0: none */
  int32_t dropped;  /* draft i was not kept; 0: none */
  bool forced;      /* taken whatever the rule says: a probe, or one deeper */
  int32_t n_sequences;
  double rate;      /* R*: tokens a second of the best depth */
  double reach;     /* probability that all drafts so far are accepted */
  int64_t n_context;
  float expected[SPEC_MAX_DEPTH + 1], engine[SPEC_MAX_DEPTH + 1]; /* acceptance at position i: of this sequence, of all */
} spec_depth;

/* Forgets nothing of the engine's costs. */
void spec_depth_begin(spec_depth *d);

/* How many tokens `kind` should be asked for at most. The best depth is the k in 0 .. limit that maximises tokens a second,
 *   E(k) = n_sequences (1 + sum_{i <= k} A_i),  C(k) = T(n_sequences (k + 1)) + sum_{i <= k} c_i,  R* = max_k E(k) / C(k).
 * If it is 0, so is the answer; otherwise there is room for more, in case that the drafter turns out to be sure of itself:
 * spec_depth_more says where to stop. Now and then one more, one less or none so that estimates stay fresh; 0 while the drafter
 * sleeps, and 1 for a probe. n_sequences: how many share the pass (they are taken to be alike). An answer above 0 is remembered
 * for spec_depth_more; asking again before something was learned gives the same. */
int32_t spec_depth_ask(spec_depth *d, const spec_costs *c, spec_kind kind, int32_t limit, int32_t n_sequences, int64_t n_context);

/* After draft i (1, 2, ..) was proposed with probability p (< 0: not known): should it be kept, by A_(i-1) a(i, p) > R*
 * (T(i+1) - T(i)), or for what can follow it; and should another be drafted, because some depth below pays for all on its way? */
typedef struct spec_verdict {
  bool keep, more;
} spec_verdict;
spec_verdict spec_depth_more(spec_depth *d, const spec_costs *c, int32_t i, float p);

/* What came of a proposal of `drafted` tokens, of which `accepted` were; p[drafted] as reported (NULL: not known). drafted = 0
 * is a plain step: the sleep's clock goes on by `committed` tokens. */
void spec_depth_learn(spec_depth *d, spec_costs *c, spec_kind kind, int32_t drafted, int32_t accepted, const float *p, int32_t committed);

/* A pass of n_rows rows at that context took so long; drafting n tokens for n_sequences took so long. */
void spec_costs_pass(spec_costs *c, int32_t n_rows, int64_t n_context, double seconds);
void spec_costs_draft(spec_costs *c, spec_kind kind, int32_t n, double seconds);
/* Estimated seconds of a pass; 0 if none was ever measured. */
double spec_costs_pass_seconds(const spec_costs *c, int32_t n_rows, int64_t n_context);

/* ---- drafters ---------------------------------------------------------------------------------------------------- */

/* What a request may bound, of every kind in the chain. */
typedef struct spec_bounds {
  int32_t n_max;  /* tokens of a proposal at most, 0 .. SPEC_MAX_DEPTH */
  int32_t n_min;  /* a shorter proposal is dropped */
  float p_min;    /* a draft less likely than this is not taken; 0 = off */
  int32_t depth;  /* >= 0: exactly so many if the drafter has them; -1: by the rule of depth.c */
} spec_bounds;

/* One sequence that wants a proposal. The drafter writes ids at tokens[n + 1 ..] and sets n_out. */
typedef struct spec_ask {
  int32_t sequence;   /* 0 .. PLAN_MAX_SESSIONS - 1 */
  int32_t *tokens;    /* [n] evaluated, [n] = last; room for k behind */
  int64_t n;
  int32_t k;          /* at most so many, 1 .. SPEC_MAX_DEPTH */
  sampler *sampler;   /* proposals are drawn from a drafter's logits as the target's token will be: same chain, same noise */
  const float *hidden;/* the target's row after its last norm, of position n - 1 [n_embd]; NULL: not known */
  spec_depth *depth;  /* NULL: take all k */
  const spec_costs *costs;
  float p_min;
  float *rows;        /* for who wants to see a model drafter's logits: [k][n_vocab]; NULL: nobody */
  /* The answer. */
  int32_t n_out;
  float p[SPEC_MAX_DEPTH]; /* the drafter's probability of each; < 0: not known */
} spec_ask;

typedef struct spec_drafter spec_drafter; /* each kind's own struct, beginning with `const spec_ops *ops` */

typedef struct spec_ops {
  const char *name;     /* of --spec */
  const char *alias;    /* llama.cpp's name of the same, or NULL */
  const char *summary;  /* one line for help */
  bool needs_model;     /* a second GGUF file */
  void (*close)(spec_drafter *d);
  /* Proposes for all at once. n_out = 0 is a fine answer. A failure: the engine goes on without the drafter. */
  status (*propose)(spec_drafter *d, spec_ask *asks, int32_t n_asks, error *err);
  /* The next three may be NULL: nothing is remembered of a sequence. A sequence begins anew, or its history was changed behind the drafter's back (fork, restore, truncate): tokens[n]. */
  void (*begin)(spec_drafter *d, int32_t sequence, const int32_t *tokens, int64_t n);
  /* The sequence now has n evaluated tokens, tokens[n] (and perhaps last at [n]); the ones from `from` on are new. */
  void (*settle)(spec_drafter *d, int32_t sequence, const int32_t *tokens, int64_t from, int64_t n);
  /* Sequence `to` now shares the first n tokens of `from`. */
  void (*fork)(spec_drafter *d, int32_t from, int32_t to, int64_t n);
} spec_ops;

struct spec_drafter {
  const spec_ops *ops;
};

extern const spec_ops spec_ngram_simple, spec_ngram_mod, spec_shared, spec_model;
extern const spec_ops *const spec_table[SPEC_KINDS]; /* spec.c */

/* What an engine lends to a drafter that is a model; all of it outlives the drafter. */
typedef struct spec_host {
  const plan *plan;      /* the drafter's own: plan_open_draft */
  const device_ops *ops;
  device *device;
  const device_binding *memory;
  kv_pages *const *pages;                        /* [group] the target's */
  const int32_t *const *tables[OP_MAX_GROUPS];   /* [group][sequence] */
  int64_t n_vocab;       /* the target's */
} spec_host;

/* draft_shared.c: queries only, over the target's cells (gemma4-assistant). Needs the target's hidden row; stores nothing. */
status spec_shared_open(spec_drafter **d, const spec_host *host, error *err);
/* draft_model.c: a model with K/V of its own on the target's pages, which catches up when it is asked. */
status spec_model_open(spec_drafter **d, const spec_host *host, error *err);

/* rows.c, for these two: draws the next draft of `a` from a row of n logits with the chain and the noise that the target's
 * token will be drawn with, unless the row is not finite, p_min or the rule of depth.c speak against it. True: go on. */
bool spec_take(spec_ask *a, const float *row, int64_t n);

/* The words of --spec: "auto", "off", or kinds separated by commas in the order to ask. An unknown word is an error that names
 * the kinds. `kinds` [SPEC_KINDS]; *by_value: whoever promises most is asked first ("auto"). */
status spec_parse(const char *words, spec_kind *kinds, int32_t *n_kinds, bool *by_value, error *err);

/* pair.c: can a model with the vocabulary `drafter` draft for one with `target`? The error shows the first differences. Either
 * may be NULL: then only the numbers of tokens are compared. */
status spec_same_vocab(const tokenizer *target, int64_t n_target, const tokenizer *drafter, int64_t n_drafter, error *err);

/* draft_ngram.c. Simple: the last earlier occurrence of the newest `n_match` tokens (`last` included), continued; no state.
 * Mod: a pool of 2^22 next tokens by the hash of the last n_match, shared by all sequences of the engine (16 MiB, mapped
 * lazily); emptied when a quarter full of stale entries. p tells how far the match reached. */
/* Is every parameter in its range? The error names it with `whose`. */
status spec_ngram_check(const tandem_ngram *params, const char *whose, error *err);
status spec_ngram_simple_open(spec_drafter **d, const tandem_ngram *params, error *err);
status spec_ngram_mod_open(spec_drafter **d, const tandem_ngram *params, error *err);
size_t spec_ngram_mod_bytes(void);

/* ---- verify.c ---------------------------------------------------------------------------------------------------- */

/* Draws t_0 .. from rows [k + 1][n_vocab] behind tokens[n] = last, which d_1 .. d_k follow at tokens[n + 1 ..]: row i with the
 * history tokens[0 .. n + i] and the noise of index n + i + 1, as plain decoding would. Stops behind the first that is not
 * the draft's, at k, or at an end token of `t` (may be NULL). *n_drawn = m + 1 tokens are in drawn. On a failure
 * (non-finite row i), *n_drawn = i tokens before it are good. */
status spec_match(sampler *s, const tokenizer *t, const float *rows, int64_t n_vocab, const int32_t *tokens, int64_t n, int32_t k,
                  int32_t *drawn, int32_t *n_drawn, error *err);

#endif
