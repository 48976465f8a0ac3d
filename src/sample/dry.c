/* dry: a penalty for tokens that would continue a repetition ("Don't repeat yourself", p-e-w, text-generation-webui #5677).
 *
 * If the last m tokens also occur earlier in the window, followed by token x, then x is penalised by multiplier *
 * base^(m - allowed_length); the longest such m >= max(1, allowed_length) counts. A breaker ends a repetition: the last m
 * tokens must all lie behind the last token in whose text a breaker ends (it may have begun in earlier tokens), and a token
 * that has a whole breaker in its own text is never penalised.
 * Linear time: the Z function of the window read backwards gives every m, one automaton finds all breakers. The window is
 * at most SAMPLE_MAX_DRY tokens, also where all are asked for, because the scratch is allocated at open. */
#include <float.h>
#include <string.h>

#include "sample/sample.h"

/* Aho-Corasick, completed to a table: state 0 is the start, class 0 is every byte that no breaker has. */
typedef struct automaton {
  uint8_t class_of[256];
  size_t n_classes, n_states;
  uint16_t *next;  /* [state][class] */
  uint8_t *accept; /* [state]: a breaker ends here */
} automaton;

static_assert(SAMPLE_MAX_BREAKERS * SAMPLE_MAX_BREAKER_BYTES < UINT16_MAX, "states are numbered in 16 bits");

struct sample_dry {
  const tokenizer *t; /* borrowed; NULL: no text, no breakers */
  double multiplier, base;
  int32_t allowed;
  int64_t window;
  int32_t *z; /* [window] */
  automaton breakers;
  char *text; /* of one token */
  size_t text_capacity;
};

/* ---- breakers ----------------------------------------------------------------------------------------------------- */

/* Adds one breaker to the trie; while it is built, 0 in next means there is no edge yet (nothing leads back to state 0). */
static void trie_add(automaton *a, const char *s) {
  size_t state = 0;
  for (; *s; s++) {
    uint16_t *edge = &a->next[state * a->n_classes + a->class_of[(uint8_t)*s]];
    if (*edge == 0) *edge = (uint16_t)a->n_states++;
    state = *edge;
  }
  a->accept[state] = 1;
}

/* Fills missing edges with those of the longest proper suffix that is a state. Breadth first: shorter ones are complete. */
static void trie_complete(automaton *a, uint16_t *queue, uint16_t *suffix) {
  size_t n_queue = 0;
  for (size_t c = 0; c < a->n_classes; c++)
    if (a->next[c]) queue[n_queue++] = a->next[c];
  for (size_t i = 0; i < n_queue; i++) {
    size_t state = queue[i];
    const uint16_t *shorter = &a->next[suffix[state] * a->n_classes];
    uint16_t *edges = &a->next[state * a->n_classes];
    a->accept[state] |= a->accept[suffix[state]];
    for (size_t c = 0; c < a->n_classes; c++) {
      if (edges[c] == 0) {
        edges[c] = shorter[c];
      } else {
        suffix[edges[c]] = shorter[c];
        queue[n_queue++] = edges[c];
      }
    }
  }
}

static status open_breakers(automaton *a, const tandem_sampling *params, error *err) {
  size_t n_states = 1;
  void *p;
  a->n_classes = 1;
  for (size_t i = 0; i < params->n_dry_breakers; i++) {
    const char *s = params->dry_breakers[i];
    for (size_t j = 0; s[j]; j++, n_states++)
      if (a->class_of[(uint8_t)s[j]] == 0) a->class_of[(uint8_t)s[j]] = (uint8_t)a->n_classes++; /* no breaker has byte 0 */
  }
  TRY(base_alloc_array(&p, n_states, a->n_classes * sizeof(uint16_t), "DRY breakers", err));
  a->next = p;
  TRY(base_alloc(&p, n_states, "DRY breakers", err));
  a->accept = p;
  TRY(base_alloc_array(&p, n_states, 2 * sizeof(uint16_t), "DRY breakers", err));
  a->n_states = 1;
  for (size_t i = 0; i < params->n_dry_breakers; i++) trie_add(a, params->dry_breakers[i]);
  trie_complete(a, p, (uint16_t *)p + n_states);
  base_free(p);
  return TANDEM_OK;
}

/* Reads the text of a token; *accepted: a breaker ended in it. Returns the state after it. */
static size_t read_token(sample_dry *d, size_t state, int32_t id, bool *accepted) {
  const automaton *a = &d->breakers;
  size_t n = token_bytes(d->t, id, true, d->text, d->text_capacity);
  *accepted = false;
  for (size_t i = 0; i < n && i < d->text_capacity; i++) {
    state = a->next[state * a->n_classes + a->class_of[(uint8_t)d->text[i]]];
    *accepted |= a->accept[state];
  }
  return state;
}

/* Tokens at the end of the window behind the last one in which a breaker ends. Tries a short stretch first, beginning so
 * far in front of it that every breaker that ends in it is seen whole. */
static int64_t unbroken(sample_dry *d, const int32_t *window, int64_t n) {
  if (!d->t || d->breakers.n_states == 1) return n;
  for (int64_t span = 64;; span *= 8) {
    int64_t begin = n - span - SAMPLE_MAX_BREAKER_BYTES, last = -1;
    if (begin < 0) begin = 0;
    size_t state = 0;
    for (int64_t i = begin; i < n; i++) {
      bool accepted;
      state = read_token(d, state, window[i], &accepted);
      if (accepted) last = i;
    }
    if (last >= n - span || begin == 0) return n - 1 - last;
  }
}

/* ---- repetitions -------------------------------------------------------------------------------------------------- */

/* z[i] = how many tokens in front of and with window[n - 1 - i] equal those at the end (z[0] is not used). */
static void match_suffix(const int32_t *window, int64_t n, int32_t *z) {
  const int32_t *last = window + n - 1; /* last[-i] is token i from the end */
  int64_t left = 0, right = 0;          /* the match that reaches furthest covers left .. right - 1 */
  for (int64_t i = 1; i < n; i++) {
    int64_t k = 0;
    if (i < right) k = z[i - left] < right - i ? z[i - left] : right - i;
    while (i + k < n && last[-k] == last[-i - k]) k++;
    z[i] = (int32_t)k;
    if (i + k > right) {
      left = i;
      right = i + k;
    }
  }
}

/* multiplier * base^n, at most FLT_MAX. */
static double penalty_of(const sample_dry *d, int64_t n) {
  double power = 1, square = d->base;
  for (; n > 0; n >>= 1, square *= square)
    if (n & 1) power *= square;
  double penalty = d->multiplier * power;
  return penalty < FLT_MAX ? penalty : FLT_MAX;
}

void sample_dry_apply(sample_dry *d, const int32_t *history, int64_t n_history, int32_t n_vocab, int32_t *longest,
                      float *logits) {
  int64_t n = n_history < d->window ? n_history : d->window;
  if (n < 2) return;
  const int32_t *window = history + (n_history - n);
  int64_t limit = unbroken(d, window, n);
  if (limit == 0 || limit < d->allowed) return;
  match_suffix(window, n, d->z);
  for (int64_t i = 1; i < n; i++) {
    int32_t id = window[n - i]; /* what followed */
    int32_t m = d->z[i] < limit ? d->z[i] : (int32_t)limit;
    if (id >= 0 && id < n_vocab && m > longest[id]) longest[id] = m;
  }
  for (int64_t i = 0; i < n; i++) {
    int32_t id = window[i];
    if (id < 0 || id >= n_vocab || longest[id] == 0) continue;
    int32_t m = longest[id];
    longest[id] = 0;
    if (m < d->allowed) continue;
    bool breaks = false;
    if (d->t) read_token(d, 0, id, &breaks);
    if (!breaks) logits[id] = sample_settle(logits[id] - penalty_of(d, m - d->allowed));
  }
}

/* ---- open and close ----------------------------------------------------------------------------------------------- */

static status open_text(sample_dry *d, error *err) {
  void *p;
  for (int32_t id = 0; id < token_count(d->t); id++) {
    size_t n = token_bytes(d->t, id, true, NULL, 0);
    if (n > d->text_capacity) d->text_capacity = n;
  }
  TRY(base_alloc(&p, d->text_capacity, "DRY token text", err));
  d->text = p;
  return TANDEM_OK;
}

status sample_dry_open(sample_dry **d, const tandem_sampling *params, const tokenizer *t, error *err) {
  status st;
  void *p;
  *d = NULL;
  TRY(base_alloc(&p, sizeof(sample_dry), "DRY", err));
  sample_dry *s = p;
  s->t = t;
  s->multiplier = (double)params->dry_multiplier;
  s->base = (double)params->dry_base;
  s->allowed = params->dry_allowed_length;
  s->window = params->dry_last_n < 0 || params->dry_last_n > SAMPLE_MAX_DRY ? SAMPLE_MAX_DRY : params->dry_last_n;
  TRY_DONE(base_alloc_array(&p, (size_t)s->window, sizeof(int32_t), "DRY window", err));
  s->z = p;
  TRY_DONE(open_breakers(&s->breakers, params, err));
  if (t) TRY_DONE(open_text(s, err));
  *d = s;
  return TANDEM_OK;
done:
  sample_dry_close(s);
  return st;
}

void sample_dry_close(sample_dry *d) {
  if (!d) return;
  base_free(d->z);
  base_free(d->breakers.next);
  base_free(d->breakers.accept);
  base_free(d->text);
  base_free(d);
}
