/* arena.c: allocations of one life, freed together. Chunks grow by doubling; a large request gets a chunk of its own. */
#include <string.h>

#include "base/base.h"

enum { FIRST_CHUNK = 4096, LAST_CHUNK = 1 << 20, ALIGN = 16 };

typedef struct chunk {
  struct chunk *next;
  size_t used, capacity;
  _Alignas(16) char bytes[];
} chunk;

struct arena {
  chunk *head;
  const char *what;
  size_t bytes, next_chunk;
};

status arena_open(arena **a, const char *what, error *err) {
  void *p;
  *a = NULL;
  TRY(base_alloc(&p, sizeof(arena), what, err));
  *a = p;
  (*a)->what = what;
  (*a)->next_chunk = FIRST_CHUNK;
  return TANDEM_OK;
}

void arena_close(arena *a) {
  if (!a) return;
  for (chunk *c = a->head, *next; c; c = next) {
    next = c->next;
    base_free(c);
  }
  base_free(a);
}

static status too_large(const arena *a, size_t n_bytes, error *err) {
  return base_fail(err, TANDEM_ERROR_MEMORY, a->what, "%s: %zu bytes cannot be allocated", a->what, n_bytes);
}

/* A chunk made for one large request goes behind the head, whose free bytes stay in use. */
static status add_chunk(arena *a, size_t n_bytes, chunk **added, error *err) {
  void *p;
  bool own = n_bytes > a->next_chunk;
  size_t capacity = own ? n_bytes : a->next_chunk, total;
  if (!size_add(capacity, sizeof(chunk), &total)) return too_large(a, n_bytes, err);
  TRY(base_alloc(&p, total, a->what, err));
  chunk *c = *added = p, **at = own && a->head ? &a->head->next : &a->head;
  c->capacity = capacity;
  c->next = *at;
  *at = c;
  a->bytes += total;
  if (!own && a->next_chunk < LAST_CHUNK) a->next_chunk *= 2;
  return TANDEM_OK;
}

status arena_alloc(arena *a, size_t n_bytes, void **p, error *err) {
  *p = NULL;
  if (n_bytes > SIZE_MAX / 2) return too_large(a, n_bytes, err);
  size_t n = size_align(n_bytes ? n_bytes : 1, ALIGN);
  chunk *c = a->head;
  if (!c || c->capacity - c->used < n) TRY(add_chunk(a, n, &c, err));
  *p = c->bytes + c->used;
  c->used += n;
  return TANDEM_OK;
}

status arena_text(arena *a, const char *s, size_t n, const char **copy, error *err) {
  void *p;
  size_t total;
  *copy = NULL;
  if (!size_add(n, 1, &total)) return too_large(a, n, err);
  TRY(arena_alloc(a, total, &p, err));
  if (n) memcpy(p, s, n);
  *copy = p;
  return TANDEM_OK;
}

size_t arena_bytes(const arena *a) { return a->bytes; }
