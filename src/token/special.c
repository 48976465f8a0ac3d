/* special: finds control and user-defined tokens in a text: the leftmost, of those that begin at one place the longest.
 *
 * Owns an Aho-Corasick automaton over the reversed spellings. It reads a window of the text from the right to the left;
 * its state after a byte tells the longest spelling that begins there, so one pass knows all candidates and nothing is
 * read twice, however many tokens there are and however they overlap. Windows overlap by the longest spelling: linear
 * time, memory of one window. Does not know what the rest of the text becomes. */
#include "token/vocab.h"

enum { WINDOW = 64 << 10 };

struct token_automaton {
  uint64_t seed;
  size_t n_nodes;       /* node 0 is the root */
  uint32_t *parent;     /* [n_nodes] */
  uint8_t *byte;        /* [n_nodes] on the edge from the parent */
  uint32_t *fail;       /* [n_nodes] the longest other node that ends like this one */
  uint32_t *best[2];    /* [n_nodes] id + 1 of the longest spelling a path to here ends with; [0]: user-defined ones */
  uint32_t *edges;      /* [edge_mask + 1] node by (parent, byte); 0: empty */
  size_t edge_mask;
  uint32_t root[256];   /* children of the root, where most bytes of a text are read */
  bool any[2];          /* is there a spelling of the kind */
  size_t longest;       /* spelling, in bytes */
};

static uint32_t find_child(const token_automaton *a, uint32_t node, uint8_t byte) {
  for (size_t i = (size_t)token_hash_pair(a->seed, node, byte) & a->edge_mask;; i = (i + 1) & a->edge_mask) {
    uint32_t child = a->edges[i];
    if (child == 0 || (a->parent[child] == node && a->byte[child] == byte)) return child;
  }
}

static uint32_t add_child(token_automaton *a, uint32_t node, uint8_t byte) {
  size_t i = (size_t)token_hash_pair(a->seed, node, byte) & a->edge_mask;
  for (; a->edges[i]; i = (i + 1) & a->edge_mask)
    if (a->parent[a->edges[i]] == node && a->byte[a->edges[i]] == byte) return a->edges[i];
  uint32_t child = (uint32_t)a->n_nodes++;
  a->parent[child] = node;
  a->byte[child] = byte;
  a->edges[i] = child;
  if (node == 0) a->root[byte] = child;
  return child;
}

/* The state behind `byte`. Fewer steps back than forward over a whole text. */
static inline uint32_t step(const token_automaton *a, uint32_t state, uint8_t byte) {
  for (; state; state = a->fail[state]) {
    uint32_t child = find_child(a, state, byte);
    if (child) return child;
  }
  return a->root[byte];
}

static bool is_special(const tokenizer *t, int32_t id) {
  return t->attr[id] == TOKEN_CONTROL || t->attr[id] == TOKEN_USER || t->attr[id] == TOKEN_UNKNOWN;
}

static void add_spelling(token_automaton *a, const tokenizer *t, int32_t id) {
  gguf_string s = token_spelling(t, id);
  uint32_t node = 0;
  for (size_t i = s.n; i > 0; i--) node = add_child(a, node, (uint8_t)s.s[i - 1]);
  for (int control = t->attr[id] != TOKEN_USER; control < 2; control++) {
    a->any[control] = true;
    if (a->best[control][node] == 0) a->best[control][node] = (uint32_t)id + 1; /* of equal spellings the first id */
  }
  if (s.n > a->longest) a->longest = s.n;
}

/* Links every node to its failure, shorter paths first; `depth`, `order` and `first` are scratch. */
static void link_nodes(token_automaton *a, uint32_t *depth, uint32_t *order, uint32_t *first) {
  for (uint32_t i = 1; i < a->n_nodes; i++) depth[i] = depth[a->parent[i]] + 1; /* parents have smaller numbers */
  for (uint32_t i = 0; i < a->n_nodes; i++) first[depth[i] + 1]++;
  for (size_t d = 1; d <= a->longest; d++) first[d] += first[d - 1];
  for (uint32_t i = 0; i < a->n_nodes; i++) order[first[depth[i]]++] = i;
  for (size_t i = 1; i < a->n_nodes; i++) {
    uint32_t node = order[i], up = a->parent[node];
    a->fail[node] = up == 0 ? 0 : step(a, a->fail[up], a->byte[node]);
    for (int control = 0; control < 2; control++)
      if (a->best[control][node] == 0) a->best[control][node] = a->best[control][a->fail[node]];
  }
}

static status allocate(token_automaton *a, arena *memory, size_t n_nodes, error *err) {
  size_t places = 64;
  while (places < 2 * n_nodes) places *= 2;
  a->edge_mask = places - 1;
  struct { void **p; size_t n_bytes; } parts[] = {
      {(void **)&a->parent, n_nodes * sizeof(uint32_t)}, {(void **)&a->byte, n_nodes},
      {(void **)&a->fail, n_nodes * sizeof(uint32_t)},   {(void **)&a->best[0], n_nodes * sizeof(uint32_t)},
      {(void **)&a->best[1], n_nodes * sizeof(uint32_t)}, {(void **)&a->edges, places * sizeof(uint32_t)}};
  for (size_t i = 0; i < COUNT_OF(parts); i++) TRY(arena_alloc(memory, parts[i].n_bytes, parts[i].p, err));
  return TANDEM_OK;
}

status token_special_open(tokenizer *t, error *err) {
  size_t n_bytes = 0;
  for (int32_t id = 0; id < t->n; id++)
    if (is_special(t, id)) n_bytes += token_spelling(t, id).n;
  if (n_bytes == 0) return TANDEM_OK;
  if (n_bytes > TOKEN_MAX_SPECIAL)
    return base_fail(err, TANDEM_ERROR_FORMAT, "tokenizer.ggml.tokens",
                     "tokenizer.ggml.tokens: control and user-defined tokens of %zu bytes, at most %d", n_bytes,
                     TOKEN_MAX_SPECIAL);
  void *p;
  TRY(arena_alloc(t->memory, sizeof(token_automaton), &p, err));
  token_automaton *a = p;
  a->seed = t->seed;
  a->n_nodes = 1;
  TRY(allocate(a, t->memory, n_bytes + 1, err));
  for (int32_t id = 0; id < t->n; id++)
    if (is_special(t, id)) add_spelling(a, t, id);
  TRY(base_alloc_array(&p, 2 * a->n_nodes + a->longest + 2, sizeof(uint32_t), "tokenizer: special tokens", err));
  uint32_t *scratch = p;
  link_nodes(a, scratch, scratch + a->n_nodes, scratch + 2 * a->n_nodes);
  base_free(p);
  t->special = a;
  return TANDEM_OK;
}

/* ---- walk -------------------------------------------------------------------------------------------------------- */

status token_special_walk_open(token_special_walk *w, const tokenizer *t, const char *s, size_t n, bool control, error *err) {
  *w = (token_special_walk){.special = t->special, .s = s, .n = n, .control = control};
  if (!w->special || !w->special->any[control]) return TANDEM_OK;
  size_t room = n < WINDOW ? n : WINDOW;
  void *p;
  TRY(base_alloc_array(&p, room, sizeof(int32_t), "tokenizer: special tokens of a text", err));
  w->found = p;
  return TANDEM_OK;
}

void token_special_walk_close(token_special_walk *w) {
  base_free(w->found);
  w->found = NULL;
}

/* Describes the window that begins at `first`. */
static void read_window(token_special_walk *w, size_t first) {
  const token_automaton *a = w->special;
  const uint32_t *best = a->best[w->control];
  w->first = first;
  w->last = w->n - first > WINDOW ? first + WINDOW : w->n;
  size_t at = w->n - w->last > a->longest ? w->last + a->longest : w->n;
  uint32_t state = 0;
  while (at > w->last) state = step(a, state, (uint8_t)w->s[--at]);
  while (at > first) {
    state = step(a, state, (uint8_t)w->s[--at]);
    w->found[at - first] = (int32_t)best[state] - 1;
  }
}

bool token_special_next(token_special_walk *w, size_t from, size_t *at, int32_t *id) {
  for (*at = from; w->found && *at < w->n; ++*at) {
    if (*at >= w->last || *at < w->first) read_window(w, *at);
    *id = w->found[*at - w->first];
    if (*id >= 0) return true;
  }
  *at = w->n;
  return false;
}
