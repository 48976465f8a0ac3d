/* memory.c: the one gate through which memory comes, so that it can be counted and made to fail.
 *
 * The counters of fault injection are the only mutable statics of the library: a test has to reach calls deep inside it
 * without a handle. They are atomic, and armed by tests only. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/base.h"

enum { ALIGN = 64, HUGE_PAGE = 2 << 20 };

/* More than the address space of a process: not even asked for. */
static const size_t bytes_max = (size_t)1 << 47;

static _Atomic uint64_t n_allocations;
static _Atomic uint64_t n_calls[FAULT_COUNT], fail_at[FAULT_COUNT];
static _Atomic bool fail_after[FAULT_COUNT];

uint64_t base_alloc_count(void) { return atomic_load_explicit(&n_allocations, memory_order_relaxed); }

uint64_t base_fault_arm(enum base_fault kind, uint64_t n, bool and_after) {
  atomic_store(&fail_at[kind], n);
  atomic_store(&fail_after[kind], and_after);
  return atomic_exchange(&n_calls[kind], 0);
}

bool base_fault_hit(enum base_fault kind) {
  uint64_t call = atomic_fetch_add_explicit(&n_calls[kind], 1, memory_order_relaxed) + 1;
  uint64_t at = atomic_load_explicit(&fail_at[kind], memory_order_relaxed);
  return at && (call == at || (call > at && atomic_load_explicit(&fail_after[kind], memory_order_relaxed)));
}

static bool refused(void) {
  atomic_fetch_add_explicit(&n_allocations, 1, memory_order_relaxed);
  return base_fault_hit(FAULT_MEMORY);
}

static status out_of_memory(const char *what, size_t n, error *err) {
  return base_fail(err, TANDEM_ERROR_MEMORY, what, "%s: %zu bytes cannot be allocated", what, n);
}

status base_alloc(void **p, size_t n_bytes, const char *what, error *err) {
  *p = NULL;
  if (refused() || n_bytes > bytes_max) return out_of_memory(what, n_bytes, err);
  size_t n = size_align(n_bytes ? n_bytes : 1, ALIGN);
  *p = aligned_alloc(ALIGN, n);
  if (!*p) return out_of_memory(what, n_bytes, err);
  memset(*p, 0, n);
  return TANDEM_OK;
}

status base_alloc_array(void **p, size_t n, size_t size, const char *what, error *err) {
  size_t bytes;
  *p = NULL;
  if (!size_mul(n, size, &bytes))
    return base_fail(err, TANDEM_ERROR_MEMORY, what, "%s: %zu x %zu bytes cannot be allocated", what, n, size);
  return base_alloc(p, bytes, what, err);
}

status base_realloc(void **p, size_t old_bytes, size_t new_bytes, const char *what, error *err) {
  void *fresh;
  TRY(base_alloc(&fresh, new_bytes, what, err));
  if (*p) memcpy(fresh, *p, old_bytes < new_bytes ? old_bytes : new_bytes);
  free(*p);
  *p = fresh;
  return TANDEM_OK;
}

void base_free(void *p) { free(p); }

status base_map(void **p, size_t n_bytes, bool huge, const char *what, error *err) {
  *p = NULL;
  if (refused() || n_bytes > bytes_max) return out_of_memory(what, n_bytes, err);
  size_t n = n_bytes ? n_bytes : 1;
  void *region = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (region == MAP_FAILED) return out_of_memory(what, n_bytes, err);
  if (huge && n >= HUGE_PAGE) madvise(region, n, MADV_HUGEPAGE); /* advice: its failure costs speed only */
  *p = region;
  return TANDEM_OK;
}

void base_unmap(void *p, size_t n_bytes) {
  if (p) munmap(p, n_bytes ? n_bytes : 1);
}
