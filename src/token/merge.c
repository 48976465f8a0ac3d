/* merge: the merging of byte pair encoding, for both kinds of vocabulary: of all neighbours that may merge the pair with the
 * best rank goes first, the leftmost of equals, until no pair is left. Owns nothing but the room in token_work.
 *
 * Every byte of the piece has a slot of 32 bits, in the place where the ids will be; a symbol of bytes p .. p + k - 1 has
 *
 *   slot      p                    p + 1            ...              p + k - 1
 *   holds     rank of the pair     INSIDE | value   INSIDE | any     INSIDE | value       value: the id, or UNKNOWN + k
 *             it begins                                                                   (if k = 1 the byte tells it)
 *
 * so neighbours are found from either side, and the first slot of the smallest value is the next merge. It is found
 * through a tree of minima with 16 branches: time n log16 n, memory 4.3 bytes a byte, whatever the text.
 * Does not know where pieces come from. */
#include "token/vocab.h"

enum { BRANCHES = 16, MAX_LEVELS = 17, UNKNOWN = TOKEN_MAX };
static const uint32_t INSIDE = 0x80000000u, NO_RANK = 0x7fffffffu;

typedef struct piece {
  const tokenizer *t;
  const char *s;
  size_t n;
  uint32_t *level[MAX_LEVELS]; /* level[0]: the slots; level[k + 1][i]: minimum of level[k][16 i .. 16 i + 15] */
  size_t size[MAX_LEVELS];
  int top;                     /* the level with at most 16 entries */
} piece;

typedef struct symbol {
  size_t at, length;
  uint32_t value;
} symbol;

static inline size_t length_of(const tokenizer *t, uint32_t value) {
  return value < UNKNOWN ? t->length[value] : value - UNKNOWN;
}

static inline symbol symbol_at(const piece *p, size_t at) {
  if (at + 1 < p->n && p->level[0][at + 1] & INSIDE) {
    uint32_t value = p->level[0][at + 1] & ~INSIDE;
    return (symbol){at, length_of(p->t, value), value};
  }
  int32_t id = p->t->unit_id[(uint8_t)p->s[at]];
  return (symbol){at, 1, id >= 0 ? (uint32_t)id : UNKNOWN + 1};
}

/* The symbol that ends in front of `at` > 0. */
static inline symbol symbol_before(const piece *p, size_t at) {
  uint32_t slot = p->level[0][at - 1];
  if (!(slot & INSIDE)) return symbol_at(p, at - 1);
  uint32_t value = slot & ~INSIDE;
  size_t length = length_of(p->t, value);
  return (symbol){at - length, length, value};
}

/* The token two neighbours merge to, -1 if they do not, and its rank. */
static inline int32_t merged(const piece *p, symbol left, symbol right, uint32_t *rank) {
  *rank = NO_RANK;
  if (p->t->kind == KIND_PIECES) {
    int32_t id = token_find_text(p->t, p->s + left.at, left.length + right.length);
    if (id >= 0) *rank = p->t->rank[id];
    return id;
  }
  if (left.value >= UNKNOWN || right.value >= UNKNOWN) return -1;
  const token_merge *merge = token_find_merge(p->t, left.value, right.value);
  if (!merge) return -1;
  *rank = merge->rank;
  return (int32_t)merge->result - 1;
}

static void write_symbol(piece *p, symbol s) {
  uint32_t *slot = p->level[0];
  if (s.length > 1) slot[s.at + 1] = slot[s.at + s.length - 1] = INSIDE | s.value;
}

/* The units of the piece, and the rank of each with its right neighbour. */
static void fill(piece *p) {
  uint32_t *slot = p->level[0];
  symbol before = {0};
  for (size_t at = 0; at < p->n; at += before.length) {
    symbol s = {at, 1, 0};
    if (p->t->kind != KIND_BYTES) {
      uint32_t rune;
      s.length = token_character(p->s + at, p->n - at, &rune);
    }
    for (size_t i = 1; i < s.length; i++) slot[at + i] = INSIDE;
    slot[at] = NO_RANK;
    int32_t id = s.length > 1 ? token_find_text(p->t, p->s + at, s.length) : p->t->unit_id[(uint8_t)p->s[at]];
    s.value = id >= 0 ? (uint32_t)id : UNKNOWN + (uint32_t)s.length;
    write_symbol(p, s);
    if (at > 0) merged(p, before, s, &slot[before.at]);
    before = s;
  }
}

static inline uint32_t minimum(const uint32_t *v, size_t n) {
  uint32_t least = v[0];
  for (size_t i = 1; i < n; i++) least = v[i] < least ? v[i] : least;
  return least;
}

static inline size_t block_size(const piece *p, int level, size_t block) {
  size_t rest = p->size[level] - block * BRANCHES;
  return rest < BRANCHES ? rest : BRANCHES;
}

/* Carries a change of slot `at` up the tree. */
static void update(piece *p, size_t at) {
  for (int k = 0; k < p->top; k++) {
    at /= BRANCHES;
    uint32_t least = minimum(p->level[k] + at * BRANCHES, block_size(p, k, at));
    if (p->level[k + 1][at] == least) return;
    p->level[k + 1][at] = least;
  }
}

static void plant(piece *p) {
  for (int k = 0; k < p->top; k++)
    for (size_t i = 0; i < p->size[k + 1]; i++)
      p->level[k + 1][i] = minimum(p->level[k] + i * BRANCHES, block_size(p, k, i));
}

/* The first slot with the smallest rank; false if no pair merges. */
static bool find_best(const piece *p, size_t *at) {
  uint32_t least = minimum(p->level[p->top], p->size[p->top]);
  if (least >= NO_RANK) return false;
  size_t i = 0;
  for (int k = p->top; k >= 0; k--) {
    i = k == p->top ? 0 : i * BRANCHES;
    while (p->level[k][i] != least) i++;
  }
  *at = i;
  return true;
}

static void merge_at(piece *p, size_t at) {
  uint32_t *slot = p->level[0], rank;
  symbol left = symbol_at(p, at), right = symbol_at(p, at + left.length);
  symbol both = {at, left.length + right.length, 0};
  both.value = (uint32_t)merged(p, left, right, &rank);
  slot[right.at] = INSIDE;
  write_symbol(p, both);
  slot[at] = NO_RANK;
  size_t after = at + both.length;
  if (after < p->n) merged(p, both, symbol_at(p, after), &slot[at]);
  update(p, right.at);
  if (right.at / BRANCHES != at / BRANCHES) update(p, at);
  if (at == 0) return;
  symbol before = symbol_before(p, at);
  merged(p, before, both, &slot[before.at]);
  update(p, before.at);
}

/* The ids, written over the slots: a symbol of k bytes gives at most k ids. Returns their number. */
static size_t collect(const piece *p, int32_t *ids) {
  const tokenizer *t = p->t;
  size_t n = 0;
  for (size_t at = 0; at < p->n;) {
    symbol s = symbol_at(p, at);
    at += s.length;
    if (s.value < UNKNOWN) {
      ids[n++] = (int32_t)s.value;
      continue;
    }
    bool unknown = false; /* one UNK for all bytes of a character that have no token */
    for (size_t i = s.at; i < at; i++) {
      int32_t id = t->byte_id[(uint8_t)p->s[i]];
      if (id < 0 && !unknown) id = t->role[TOKEN_UNK], unknown = true;
      if (id >= 0) ids[n++] = id;
    }
  }
  return n;
}

/* Room for the levels above the slots: n / 16 + n / 256 + ... and one for each that is not full. */
static status grow_tree(token_work *w, size_t n) {
  size_t need = n / (BRANCHES - 1) + MAX_LEVELS;
  if (need <= w->tree_capacity) return TANDEM_OK;
  base_free(w->tree);
  w->tree = NULL;
  w->tree_capacity = 0;
  TRY(base_alloc_array((void **)&w->tree, need, sizeof(uint32_t), "tokenizer: tree of merges", w->err));
  w->tree_capacity = need;
  return TANDEM_OK;
}

status token_merge_units(token_work *w, const char *s, size_t n) {
  TRY(token_reserve(w, n));
  int32_t *ids = w->ids->ids + w->ids->n;
  piece p = {.t = w->t, .s = s, .n = n, .top = 0};
  p.level[0] = (uint32_t *)ids;
  p.size[0] = n;
  if (n > BRANCHES) TRY(grow_tree(w, n));
  uint32_t *room = w->tree;
  for (; p.size[p.top] > BRANCHES; p.top++) {
    p.level[p.top + 1] = room;
    p.size[p.top + 1] = (p.size[p.top] + BRANCHES - 1) / BRANCHES;
    room += p.size[p.top + 1];
  }
  fill(&p);
  plant(&p);
  size_t at;
  while (find_best(&p, &at)) merge_at(&p, at);
  w->ids->n += collect(&p, ids);
  return TANDEM_OK;
}
