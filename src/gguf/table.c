/* table.c: names -> records, by open addressing in a table at most half full. */
#include <string.h>

#include "gguf/directory.h"

/* Eight bytes a step, each multiplied into 128 bits whose halves are folded: every bit of a name reaches every bit of the
 * hash, and without the seed no two names can be said to collide. */
static uint64_t fold(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t hash_name(const char *name, size_t n, uint64_t seed) {
  const uint64_t odd = 0x9e3779b97f4a7c15u; /* 2^64 / golden ratio */
  uint64_t h = seed ^ n, word;
  for (; n >= sizeof word; n -= sizeof word, name += sizeof word) {
    memcpy(&word, name, sizeof word);
    h = fold(h ^ word, odd ^ seed);
  }
  word = 0;
  memcpy(&word, name, n);
  return fold(h ^ word ^ odd, seed | 1);
}

static const char *name_of(const void *records, size_t size, size_t i) {
  const char *name;
  memcpy(&name, (const char *)records + i * size, sizeof name);
  return name;
}

/* The slot that holds the name, or the free one where it belongs. */
static size_t find_slot(const gguf_table *t, const void *records, size_t size, const char *name) {
  size_t at = hash_name(name, strlen(name), t->seed) & (t->n_slots - 1);
  while (t->slots[at] && strcmp(name_of(records, size, t->slots[at] - 1), name)) at = (at + 1) & (t->n_slots - 1);
  return at;
}

status gguf_table_build(gguf_table *t, const void *records, size_t size, size_t n, size_t *duplicate, error *err) {
  void *slots;
  size_t n_slots = 4;
  *duplicate = n;
  if (n >= UINT32_MAX) return base_fail(err, TANDEM_ERROR_FORMAT, NULL, "%zu names are too many", n);
  while (n_slots < 2 * n) n_slots *= 2;
  TRY(base_alloc_array(&slots, n_slots, sizeof *t->slots, "table of names", err));
  *t = (gguf_table){slots, n_slots, os_random()};
  for (size_t i = 0; i < n; i++) {
    size_t at = find_slot(t, records, size, name_of(records, size, i));
    if (t->slots[at] == 0)
      t->slots[at] = (uint32_t)i + 1;
    else if (*duplicate == n)
      *duplicate = i;
  }
  return TANDEM_OK;
}

size_t gguf_table_find(const gguf_table *t, const void *records, size_t size, const char *name) {
  uint32_t slot = t->n_slots ? t->slots[find_slot(t, records, size, name)] : 0;
  return slot ? slot - 1 : SIZE_MAX;
}
