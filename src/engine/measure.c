/* measure.c: what a pool of K/V pages looks like after many random operations. A page is of one size and any free page serves any
 * sequence, so nothing can become unusable; what is measured is how much of the pages in use holds nothing, and that no append was
 * ever refused while there were pages enough. */
#include <string.h>

#include "engine/engine.h"

typedef struct pool_walk {
  kv_pages *pages;
  uint64_t random;
  int32_t n_sequences, n_pages;
  tandem_pool_report *r;
  double waste;
} pool_walk;

static uint64_t next_random(pool_walk *w) { /* splitmix64 */
  uint64_t z = (w->random += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

static int64_t below(pool_walk *w, int64_t n) { return (int64_t)(next_random(w) % (uint64_t)n); }

/* A step of decoding, a verification and its rollback, or a prompt. */
static void grow(pool_walk *w, int32_t seq) {
  kv_copy copy;
  int64_t kind = below(w, 10), n = kind < 6 ? 1 : kind < 9 ? 1 + below(w, 16) : 1 + below(w, 2000);
  int32_t needed = kv_pages_needed(w->pages, seq, n), there = kv_pages_free(w->pages);
  status st = kv_pages_append(w->pages, seq, n, &copy, NULL);
  w->r->n_appends++;
  if (st == TANDEM_ERROR_BUSY) w->r->n_refused++;
  if (st == TANDEM_ERROR_BUSY && needed <= there) w->r->n_unusable++;
  if (!st && kind >= 6 && kind < 9) kv_pages_truncate(w->pages, seq, kv_pages_length(w->pages, seq) - below(w, n), NULL);
}

static void change(pool_walk *w) {
  int32_t seq = (int32_t)below(w, w->n_sequences), other = (int32_t)below(w, w->n_sequences);
  int64_t kind = below(w, 1000), length = kv_pages_length(w->pages, seq);
  if (kind < 940) grow(w, seq);
  else if (kind < 970) kv_pages_truncate(w->pages, seq, below(w, length + 1), NULL);
  else if (kind < 985) kv_pages_truncate(w->pages, seq, 0, NULL);
  else if (kv_pages_length(w->pages, other) == 0) kv_pages_fork(w->pages, seq, other, length, NULL);
}

/* Cells of used pages that hold nothing, as a share: the ends of last pages. A page shared by several counts once. */
static double waste_of(const pool_walk *w) {
  int64_t used = w->n_pages - kv_pages_free(w->pages), empty = 0;
  for (int32_t s = 0; s < w->n_sequences; s++) {
    int64_t length = kv_pages_length(w->pages, s), rest = length % KV_PAGE;
    if (rest && kv_pages_references(w->pages, kv_pages_table(w->pages, s)[length / KV_PAGE]) == 1) empty += KV_PAGE - rest;
  }
  return used ? (double)empty / (double)(used * KV_PAGE) : 0;
}

tandem_status tandem_measure_pool(int32_t n_pages, int32_t n_sequences, int64_t n_operations, uint64_t seed, tandem_pool_report *r, tandem_error *err) {
  enum { SAMPLE = 97 };
  if (!r || r->size != sizeof *r) return base_fail(err, TANDEM_ERROR_ARGUMENT, "size", "size: %zu, must be %zu", r ? r->size : 0, sizeof *r);
  kv_pages_shape shape = {.n_pages = n_pages, .n_sequences = n_sequences, .n_positions = 1 << 20};
  pool_walk w = {.random = seed, .n_sequences = n_sequences, .n_pages = n_pages, .r = r};
  TRY(kv_pages_open(&w.pages, &shape, err));
  *r = (tandem_pool_report){.size = sizeof *r, .n_operations = n_operations};
  uint64_t allocations = base_alloc_count();
  double start = os_seconds();
  int64_t n_samples = 0;
  for (int64_t i = 0; i < n_operations; i++) {
    change(&w);
    if (i % SAMPLE) continue;
    double waste = waste_of(&w);
    r->mean_waste += waste;
    r->worst_waste = waste > r->worst_waste ? waste : r->worst_waste;
    r->mean_used += 1 - (double)kv_pages_free(w.pages) / n_pages;
    n_samples++;
  }
  r->seconds = os_seconds() - start;
  r->n_allocations = base_alloc_count() - allocations;
  r->mean_waste /= n_samples ? (double)n_samples : 1;
  r->mean_used /= n_samples ? (double)n_samples : 1;
  for (int32_t s = 0; s < n_sequences; s++) kv_pages_truncate(w.pages, s, 0, NULL);
  r->n_lost = n_pages - kv_pages_free(w.pages);
  return kv_pages_close(w.pages, err);
}
