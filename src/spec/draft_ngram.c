/* draft_ngram: text that repeats itself, continued as it went on before. No model, no weights, next to no time.
 *
 *   ngram-simple   looks through the history for the newest n_match tokens and copies what followed; no state
 *   ngram-mod      a pool of next tokens by the hash of the n_match tokens before them, for all sequences of an engine:
 *                  what one sequence said helps the others, and a guess costs one look a token
 *
 *   pool[first bits of the hash]:  | bits 14 .. 25 of the hash : 12 | next token + 1 : 20 |   0 = empty; the newest writer wins
 *
 * The pool starts with 2^14 entries and grows to 2^22, so that short texts touch few pages. What an entry keeps of its hash is
 * enough to find its place in a larger pool.
 *
 * Of a sequence only a cursor is kept: how many of its tokens are in the pool. Positions are never stored, so that nothing
 * in here can point behind a history that became shorter. */
#include <string.h>

#include "spec/spec.h"

enum {
  MAX_MATCH = 64,
  MAX_HITS = 16,
  MAX_BEYOND = 64,                         /* how far a longer match is followed: p is above .97 there */
  FIRST_BITS = 14, GROW_BITS = 2, POOL_BITS = 22,
  GROW_AT = 5,                             /* one entry in 32 is used: then one token in 32 writes over another's entry */
  POOL_FULL = 1 << (POOL_BITS - 2),        /* a quarter: then one look in four at random text meets an entry */
  TOKEN_BITS = 20,                         /* ids from 2^20 - 1 on are not entered */
  CHECK_BITS = 32 - TOKEN_BITS,
  KEEP = POOL_FULL / 2 / PLAN_MAX_SESSIONS /* newest tokens of each sequence that are entered again into an emptied pool */
};

static_assert((POOL_BITS - FIRST_BITS) % GROW_BITS == 0 && POOL_BITS - FIRST_BITS <= CHECK_BITS, "a check finds its place");

/* The longer the match, the likelier that it goes on: .5 at n_match, .75 at 4 more, .9 at 16 more. What depth.c makes of it
 * is learned, only the order matters. */
static float promise(int32_t beyond) { return 1 - .5f / (1 + (float)beyond / 4); }

/* Writes draft number n_out; true: go on. */
static bool take(spec_ask *a, int32_t id, int32_t beyond) {
  float p = promise(beyond < MAX_BEYOND ? beyond : MAX_BEYOND);
  spec_verdict v = {true, true};
  if (a->p_min > 0 && p < a->p_min) return false;
  if (a->depth) v = spec_depth_more(a->depth, a->costs, a->n_out + 1, p);
  if (!v.keep) return false;
  a->tokens[a->n + 1 + a->n_out] = id;
  a->p[a->n_out++] = p;
  return v.more;
}

static status in_range(const char *whose, const char *name, int32_t v, int32_t most, error *err) {
  if (v >= 0 && v <= most) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s: %s: %d, must be 1 to %d, or 0 for the default", whose, name, v, most);
}

status spec_ngram_check(const tandem_ngram *p, const char *whose, error *err) {
  TRY(in_range(whose, "n_match", p->n_match, MAX_MATCH, err));
  TRY(in_range(whose, "n_max", p->n_max, SPEC_MAX_DEPTH, err));
  return in_range(whose, "min_hits", p->min_hits, MAX_HITS, err);
}

/* The parameters with defaults filled in. */
static tandem_ngram filled(const tandem_ngram *p, int32_t n_match) {
  return (tandem_ngram){.n_match = p->n_match ? p->n_match : n_match, .n_max = p->n_max ? p->n_max : 48, .min_hits = p->min_hits ? p->min_hits : 1};
}

static int32_t limit_of(const spec_ask *a, int32_t n_max) { return a->k < n_max ? a->k : n_max; }

/* ---- ngram-simple ------------------------------------------------------------------------------------------------ */

typedef struct simple_drafter {
  spec_drafter base;
  tandem_ngram params;
} simple_drafter;

/* Where earlier occurrences of the newest n_match tokens end, newest first, at most `want`. The history is read backwards with
 * the key reversed (Knuth, Morris, Pratt 1977): at most two comparisons a token, whatever the text. */
static int32_t find_hits(const int32_t *tokens, int64_t n, int32_t n_match, int32_t want, int64_t *ends) {
  const int32_t *newest = tokens + n; /* newest[-i] is the key's element i */
  int32_t border[MAX_MATCH + 1], n_hits = 0, at = 0;
  border[0] = -1;
  for (int32_t i = 0, b = -1; i < n_match; border[++i] = ++b)
    while (b >= 0 && newest[-i] != newest[-b]) b = border[b];
  for (int64_t i = n - 1; i >= 0; i--) {
    /* Most tokens are not even the first of the key: four at a time. */
    while (at == 0 && i >= 3 && tokens[i] != *newest && tokens[i - 1] != *newest && tokens[i - 2] != *newest && tokens[i - 3] != *newest) i -= 4;
    if (i < 0) break;
    while (at >= 0 && (at == n_match || tokens[i] != newest[-at])) at = border[at];
    if (++at < n_match) continue;
    ends[n_hits++] = i + n_match - 1;
    if (n_hits == want) break;
  }
  return n_hits;
}

/* A continuation longer than what is left of the history repeats itself: it reads what was just written. */
static void propose_simple(const simple_drafter *d, spec_ask *a) {
  const tandem_ngram *p = &d->params;
  const int32_t *t = a->tokens;
  int64_t ends[MAX_HITS];
  int32_t beyond = 0, k = limit_of(a, p->n_max);
  a->n_out = 0;
  if (a->n < p->n_match || find_hits(t, a->n, p->n_match, p->min_hits, ends) < p->min_hits) return;
  while (beyond < MAX_BEYOND && ends[0] - p->n_match - beyond >= 0 && t[ends[0] - p->n_match - beyond] == t[a->n - p->n_match - beyond]) beyond++;
  while (a->n_out < k) {
    int32_t i = a->n_out + 1, id = t[ends[0] + i];
    for (int32_t h = 1; h < p->min_hits; h++)
      if (t[ends[h] + i] != id) return;
    if (!take(a, id, beyond + a->n_out)) return;
  }
}

static status simple_propose(spec_drafter *base, spec_ask *asks, int32_t n_asks, error *err) {
  (void)err;
  for (int32_t i = 0; i < n_asks; i++) propose_simple((const simple_drafter *)base, &asks[i]);
  return TANDEM_OK;
}

static void simple_close(spec_drafter *base) { base_free(base); }

const spec_ops spec_ngram_simple = {
    .name = "ngram-simple",
    .summary = "copies what followed the last time the newest tokens occurred in this text",
    .close = simple_close,
    .propose = simple_propose,
};

status spec_ngram_simple_open(spec_drafter **drafter, const tandem_ngram *params, error *err) {
  void *memory;
  *drafter = NULL;
  TRY(spec_ngram_check(params, "ngram-simple", err));
  TRY(base_alloc(&memory, sizeof(simple_drafter), "n-gram drafter", err));
  simple_drafter *d = memory;
  *d = (simple_drafter){.base.ops = &spec_ngram_simple, .params = filled(params, 12)};
  *drafter = &d->base;
  return TANDEM_OK;
}

/* ---- ngram-mod: the pool ----------------------------------------------------------------------------------------- */

typedef struct mod_drafter {
  spec_drafter base;
  tandem_ngram params;
  uint32_t *pool;                     /* [2^POOL_BITS], of which 2^bits are in use; owned */
  int bits;
  uint64_t leaving;                   /* what the oldest of n_match tokens adds to a hash, once the next is in */
  int64_t n_used;
  int64_t cursor[PLAN_MAX_SESSIONS];  /* tokens that are in the pool */
  int32_t beyond[PLAN_MAX_SESSIONS];  /* so many of the newest of them were foretold, one after the other */
} mod_drafter;

/* A polynomial modulo 2^64 whose oldest term can be taken away (Karp, Rabin 1987); ids are scattered first, they are small. */
static const uint64_t base_of_hash = 0x9e3779b97f4a7c15u;
static uint64_t scatter(int32_t id) { return ((uint64_t)(uint32_t)id + 1) * 0xd6e8feb86659fd93u; }

static uint64_t hash_of(const mod_drafter *d, const int32_t *before) {
  uint64_t h = 0;
  for (int32_t i = d->params.n_match; i > 0; i--) h = h * base_of_hash + scatter(before[-i]);
  return h;
}

/* The hash for the token at *next becomes the one for the token behind it. */
static uint64_t roll(const mod_drafter *d, uint64_t h, const int32_t *next) {
  return h * base_of_hash + scatter(*next) - scatter(next[-d->params.n_match]) * d->leaving;
}

static uint64_t mix(uint64_t h) { return (h ^ h >> 29) * 0xbf58476d1ce4e5b9u; }
static uint32_t *entry_of(const mod_drafter *d, uint64_t h) { return &d->pool[mix(h) >> (64 - d->bits)]; }
static uint32_t check_of(uint64_t h) { return (uint32_t)(mix(h) << FIRST_BITS >> (64 - CHECK_BITS)) << TOKEN_BITS; }

/* The token that follows, or -1. */
static int32_t look_up(const mod_drafter *d, uint64_t h) {
  uint32_t e = *entry_of(d, h), token = e & ((1u << TOKEN_BITS) - 1);
  return token && e - token == check_of(h) ? (int32_t)token - 1 : -1;
}

/* Entry i goes to one of the places from i << GROW_BITS on, which bits of its check tell. From the last to the first, no place
 * is written that was not moved yet. */
static void grow(mod_drafter *d) {
  int known = d->bits - FIRST_BITS; /* bits of the check that are in the index already */
  for (uint32_t i = 1u << d->bits; i-- > 0;) {
    uint32_t e = d->pool[i];
    d->pool[i] = 0;
    if (e) d->pool[i << GROW_BITS | e << known >> (32 - GROW_BITS)] = e;
  }
  d->bits += GROW_BITS;
}

static void enter(mod_drafter *d, uint64_t h, int32_t id) {
  if (d->bits < POOL_BITS && d->n_used >= 1 << (d->bits - GROW_AT)) grow(d);
  uint32_t *e = entry_of(d, h);
  if (id < 0 || id >= (1 << TOKEN_BITS) - 1) return;
  if (!*e) d->n_used++;
  *e = check_of(h) | ((uint32_t)id + 1);
}

/* The pool remembers everything that was ever said; when that is too much, only what the living sequences said last. */
static void empty(mod_drafter *d) {
  memset(d->pool, 0, spec_ngram_mod_bytes());
  d->n_used = 0;
  for (int32_t s = 0; s < PLAN_MAX_SESSIONS; s++) d->cursor[s] = d->cursor[s] > KEEP ? d->cursor[s] - KEEP : 0;
}

/* Was the token at `position` foretold by the pool? */
static bool foretold(const mod_drafter *d, const int32_t *tokens, int64_t position) {
  return position >= d->params.n_match && look_up(d, hash_of(d, tokens + position)) == tokens[position];
}

/* ---- ngram-mod: the drafter -------------------------------------------------------------------------------------- */

/* The history may be another, and shorter. What is in the pool stays good; only whether this history is in it is the question,
 * and the pool itself answers: it knows the newest token, or all is entered again. */
static void mod_begin(spec_drafter *base, int32_t sequence, const int32_t *tokens, int64_t n) {
  mod_drafter *d = (mod_drafter *)base;
  d->beyond[sequence] = 0;
  if (d->cursor[sequence] > n) d->cursor[sequence] = n;
  if (d->cursor[sequence] > 0 && !foretold(d, tokens, d->cursor[sequence] - 1)) d->cursor[sequence] = 0;
}

static void mod_settle(spec_drafter *base, int32_t sequence, const int32_t *tokens, int64_t from, int64_t n) {
  mod_drafter *d = (mod_drafter *)base;
  if (d->n_used >= POOL_FULL) empty(d);
  int64_t at = d->cursor[sequence];
  int32_t n_match = d->params.n_match, beyond = d->beyond[sequence];
  if (at > from) at = from, beyond = 0;
  if (at < n_match) at = n_match, beyond = 0;
  if (at < n) {
    uint64_t h = hash_of(d, tokens + at);
    for (; at < n; at++) {
      if (look_up(d, h) != tokens[at]) beyond = 0;
      else if (beyond < MAX_BEYOND) beyond++;
      enter(d, h, tokens[at]);
      h = roll(d, h, tokens + at);
    }
  }
  d->cursor[sequence] = n;
  d->beyond[sequence] = beyond;
}

static void propose_mod(const mod_drafter *d, spec_ask *a) {
  int32_t id, n_match = d->params.n_match, k = limit_of(a, d->params.n_max);
  a->n_out = 0;
  if (a->n + 1 < n_match) return;
  int32_t beyond = foretold(d, a->tokens, a->n) ? d->beyond[a->sequence] + 1 : 0;
  uint64_t h = hash_of(d, a->tokens + a->n + 1);
  while (a->n_out < k && (id = look_up(d, h)) >= 0 && take(a, id, beyond + a->n_out)) h = roll(d, h, a->tokens + a->n + a->n_out);
}

static status mod_propose(spec_drafter *base, spec_ask *asks, int32_t n_asks, error *err) {
  (void)err;
  for (int32_t i = 0; i < n_asks; i++) propose_mod((const mod_drafter *)base, &asks[i]);
  return TANDEM_OK;
}

static void mod_fork(spec_drafter *base, int32_t from, int32_t to, int64_t n) {
  mod_drafter *d = (mod_drafter *)base;
  d->cursor[to] = d->cursor[from] < n ? d->cursor[from] : n;
  d->beyond[to] = 0;
}

static void mod_close(spec_drafter *base) {
  mod_drafter *d = (mod_drafter *)base;
  if (!d) return;
  base_unmap(d->pool, spec_ngram_mod_bytes());
  base_free(d);
}

const spec_ops spec_ngram_mod = {
    .name = "ngram-mod",
    .summary = "remembers what followed which tokens in any text of this engine",
    .close = mod_close,
    .begin = mod_begin,
    .propose = mod_propose,
    .settle = mod_settle,
    .fork = mod_fork,
};

size_t spec_ngram_mod_bytes(void) { return sizeof(uint32_t) << POOL_BITS; }

status spec_ngram_mod_open(spec_drafter **drafter, const tandem_ngram *params, error *err) {
  void *memory, *region;
  status st;
  *drafter = NULL;
  TRY(spec_ngram_check(params, "ngram-mod", err));
  TRY(base_alloc(&memory, sizeof(mod_drafter), "n-gram drafter", err));
  mod_drafter *d = memory;
  d->base.ops = &spec_ngram_mod;
  d->params = filled(params, 24);
  d->bits = FIRST_BITS;
  d->leaving = 1;
  for (int32_t i = 0; i < d->params.n_match; i++) d->leaving *= base_of_hash;
  TRY_DONE(base_map(&region, spec_ngram_mod_bytes(), false, "n-gram pool", err));
  d->pool = region;
  *drafter = &d->base;
  return TANDEM_OK;
done:
  mod_close(&d->base);
  return st;
}
