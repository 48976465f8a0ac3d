/* kv: the pages against a reference that is too simple to be wrong, by a million random operations; the store's layout.
 *
 * The reference holds every sequence as a plain list of numbers, one a position, each written once in the life of the
 * test. The bytes are simulated by one number a cell, changed only as the engine would: copies that append reports, and
 * new numbers at appended positions, through the page tables. What is then read through the tables must be the list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "kv/kv.h"

/* ---- the reference ------------------------------------------------------------------------------------------------ */

enum { SEQUENCES = 8, POSITIONS = 2048, BLOCKS = POSITIONS / KV_PAGE, PAGES = 40 };

typedef struct model_sequence {
  int64_t length;
  int64_t value[POSITIONS];
  bool gone[POSITIONS]; /* released because the window had passed */
  int page[BLOCKS];     /* reference page of a block, -1 = none */
} model_sequence;

typedef struct model_page {
  bool owner[SEQUENCES];
  int n_owners;
  int32_t id; /* what kv_pages calls it */
} model_page;

typedef struct model {
  kv_pages_shape shape;
  model_sequence sequences[SEQUENCES];
  model_page pages[PAGES];
  int64_t cells[PAGES][KV_PAGE]; /* the simulated bytes, indexed by kv_pages' ids */
  int64_t next_value;
  int n_lent;
  uint64_t generation, random;
  long outcomes[TANDEM_ERROR_INTERNAL + 1], n_copies, n_released, n_restored;
  kv_pages *p;
} model;

static uint64_t draw(model *m, uint64_t below) { /* splitmix64 */
  uint64_t z = m->random += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return (z ^ (z >> 31)) % below;
}

static int model_free(const model *m) {
  int n = 0;
  for (int i = 0; i < m->shape.n_pages; i++) n += m->pages[i].n_owners == 0;
  return n;
}

static int64_t model_first(const model_sequence *s) {
  int64_t first = 0;
  while (first < s->length && s->gone[first]) first++;
  return first;
}

static void model_own(model *m, int seq, int64_t block, int page) {
  m->sequences[seq].page[block] = page;
  m->pages[page].owner[seq] = true;
  m->pages[page].n_owners++;
}

static void model_disown(model *m, int seq, int64_t block) {
  int page = m->sequences[seq].page[block];
  if (page < 0) return;
  m->sequences[seq].page[block] = -1;
  m->pages[page].owner[seq] = false;
  m->pages[page].n_owners--;
}

/* Does the next position fall into a page that others own too? */
static bool model_shared(const model *m, int seq) {
  const model_sequence *s = &m->sequences[seq];
  if (s->length == m->shape.n_positions || s->page[s->length / KV_PAGE] < 0) return false;
  return m->pages[s->page[s->length / KV_PAGE]].n_owners > 1;
}

static int model_needed(const model *m, int seq, int64_t n) {
  const model_sequence *s = &m->sequences[seq];
  int needed = 0;
  for (int64_t i = s->length; i < s->length + n; i++) {
    bool begins = i == s->length || i % KV_PAGE == 0;
    if (begins && (s->page[i / KV_PAGE] < 0 || (i == s->length && model_shared(m, seq)))) needed++;
  }
  return needed;
}

/* Is every cell there that a query at position n of this sequence sees before itself? */
static bool model_sees(const model *m, int seq, int64_t n) {
  const model_sequence *s = &m->sequences[seq];
  for (int64_t i = 0; i < n; i++)
    if (s->gone[i] && (m->shape.window == 0 || i > n - m->shape.window)) return false;
  return true;
}

static void model_check(const model *m) {
  int32_t n_used = 0;
  bool used[PAGES] = {false};
  for (int i = 0; i < m->shape.n_pages; i++) {
    const model_page *page = &m->pages[i];
    if (page->n_owners == 0) continue;
    assert_false(used[page->id]); /* two pages of the reference would be one */
    used[page->id] = true;
    n_used++;
    assert_int_equal(kv_pages_references(m->p, page->id), page->n_owners);
  }
  for (int32_t id = 0; id < m->shape.n_pages; id++)
    if (!used[id]) assert_int_equal(kv_pages_references(m->p, id), 0);
  assert_int_equal(kv_pages_free(m->p), m->shape.n_pages - n_used);
  assert_true(kv_pages_generation(m->p) == m->generation);
  int64_t n_blocks = (m->shape.n_positions + KV_PAGE - 1) / KV_PAGE;
  for (int seq = 0; seq < m->shape.n_sequences; seq++) {
    const model_sequence *s = &m->sequences[seq];
    const int32_t *table = kv_pages_table(m->p, seq);
    int64_t first = model_first(s);
    assert_int_equal(kv_pages_length(m->p, seq), s->length);
    assert_int_equal(kv_pages_first(m->p, seq), first);
    for (int64_t block = 0; block < n_blocks; block++) {
      assert_int_equal(table[block], s->page[block] < 0 ? -1 : m->pages[s->page[block]].id);
      int64_t from = block * KV_PAGE, to = from + KV_PAGE;
      if (from < first) from = first;
      if (to > s->length) to = s->length;
      if (from >= to) continue;
      assert_true(table[block] >= 0);
      assert_true(memcmp(&m->cells[table[block]][from % KV_PAGE], &s->value[from], (size_t)(to - from) * sizeof(int64_t)) == 0);
    }
  }
}

/* ---- one operation on both ---------------------------------------------------------------------------------------- */

static void expect(model *m, status got, status wanted, const error *err) {
  assert_int_equal(got, wanted);
  if (got) assert_true(err->text[0] != 0 && err->code == (int32_t)got);
  m->outcomes[got]++;
}

static void try_append(model *m, int seq, int64_t n) {
  model_sequence *s = &m->sequences[seq];
  bool fits = n <= m->shape.n_positions - s->length;
  status wanted = !fits ? TANDEM_ERROR_CONTEXT : model_needed(m, seq, n) > model_free(m) ? TANDEM_ERROR_BUSY : TANDEM_OK;
  if (fits) assert_int_equal(kv_pages_needed(m->p, seq, n), model_needed(m, seq, n));
  kv_copy copy = {7, 7};
  error err = {0};
  expect(m, kv_pages_append(m->p, seq, n, &copy, &err), wanted, &err);
  bool copies = wanted == TANDEM_OK && n > 0 && model_shared(m, seq);
  const int32_t *table = kv_pages_table(m->p, seq);
  if (!copies) assert_true(copy.from == -1 && copy.to == -1);
  if (copies) {
    m->n_copies++;
    int64_t block = s->length / KV_PAGE;
    assert_int_equal(copy.from, m->pages[s->page[block]].id);
    assert_int_equal(copy.to, table[block]);
    memcpy(m->cells[copy.to], m->cells[copy.from], sizeof m->cells[0]);
    model_disown(m, seq, block);
  }
  if (wanted != TANDEM_OK) return;
  for (int64_t i = 0; i < n; i++, s->length++) {
    int64_t block = s->length / KV_PAGE;
    if (s->page[block] < 0) {
      int page = 0;
      while (m->pages[page].n_owners > 0) page++;
      model_own(m, seq, block, page);
      assert_in_range(table[block], 0, m->shape.n_pages - 1);
      m->pages[page].id = table[block];
    }
    s->gone[s->length] = false;
    s->value[s->length] = m->cells[table[block]][s->length % KV_PAGE] = m->next_value++;
  }
}

static void try_fork(model *m, int src, int dst, int64_t n) {
  model_sequence *s = &m->sequences[src], *d = &m->sequences[dst];
  status wanted = src == dst || d->length > 0 || n < 0 || n > s->length ? TANDEM_ERROR_ARGUMENT
                  : !model_sees(m, src, n)                              ? TANDEM_ERROR_CONTEXT
                                                                        : TANDEM_OK;
  error err = {0};
  expect(m, kv_pages_fork(m->p, src, dst, n, &err), wanted, &err);
  if (wanted != TANDEM_OK) return;
  memcpy(d->value, s->value, (size_t)n * sizeof s->value[0]);
  memcpy(d->gone, s->gone, (size_t)n * sizeof s->gone[0]);
  d->length = n;
  for (int64_t block = 0; block * KV_PAGE < n; block++)
    if (s->page[block] >= 0) model_own(m, dst, block, s->page[block]);
}

static void try_truncate(model *m, int seq, int64_t n) {
  model_sequence *s = &m->sequences[seq];
  status wanted = n < 0 || n > s->length ? TANDEM_ERROR_ARGUMENT : !model_sees(m, seq, n) ? TANDEM_ERROR_CONTEXT : TANDEM_OK;
  error err = {0};
  expect(m, kv_pages_truncate(m->p, seq, n, &err), wanted, &err);
  if (wanted != TANDEM_OK) return;
  for (int64_t block = 0; block < BLOCKS; block++)
    if (block * KV_PAGE >= n) model_disown(m, seq, block);
  s->length = n;
  m->generation++;
}

static void try_slide(model *m, int seq, int64_t from) {
  model_sequence *s = &m->sequences[seq];
  kv_pages_slide(m->p, seq, from);
  m->generation++;
  if (m->shape.window == 0) return;
  int64_t query = from < s->length ? from : s->length; /* no position behind the next one can come first */
  for (int64_t block = 0; (block + 1) * KV_PAGE <= s->length; block++) {
    int64_t last = (block + 1) * KV_PAGE - 1;
    if (last > query - m->shape.window) continue; /* the query still sees the block's last cell */
    m->n_released += s->page[block] >= 0;
    model_disown(m, seq, block);
    for (int64_t i = block * KV_PAGE; i <= last; i++) s->gone[i] = true;
  }
}

static void try_restore(model *m, int seq, int64_t first, int64_t length) {
  model_sequence *s = &m->sequences[seq];
  bool sees = length >= 0 && first >= 0 && first <= length; /* would the next position find all its cells? */
  for (int64_t i = 0; sees && i < first; i++) sees = m->shape.window > 0 && i <= length - m->shape.window;
  int64_t n_needed = 0, n_there = model_free(m);
  for (int64_t i = first; sees && i < length; i++) n_needed += i == first || i % KV_PAGE == 0;
  for (int block = 0; block < BLOCKS; block++) n_there += s->page[block] >= 0 && m->pages[s->page[block]].n_owners == 1;
  status wanted = length > m->shape.n_positions ? TANDEM_ERROR_CONTEXT
                  : !sees                       ? TANDEM_ERROR_ARGUMENT
                  : n_needed > n_there          ? TANDEM_ERROR_BUSY
                                                : TANDEM_OK;
  error err = {0};
  assert_int_equal(kv_pages_restore_check(m->p, seq, first, length, NULL), wanted);
  expect(m, kv_pages_restore(m->p, seq, first, length, &err), wanted, &err);
  if (wanted != TANDEM_OK) return;
  m->n_restored++;
  m->generation++;
  for (int64_t block = 0; block < BLOCKS; block++) model_disown(m, seq, block);
  s->length = length;
  const int32_t *table = kv_pages_table(m->p, seq);
  for (int64_t i = 0; i < length; i++) {
    s->gone[i] = i < first;
    if (i < first) continue;
    if (s->page[i / KV_PAGE] < 0) {
      int page = 0;
      while (m->pages[page].n_owners > 0) page++;
      model_own(m, seq, i / KV_PAGE, page);
      assert_in_range(table[i / KV_PAGE], 0, m->shape.n_pages - 1);
      m->pages[page].id = table[i / KV_PAGE];
    }
    s->value[i] = m->cells[table[i / KV_PAGE]][i % KV_PAGE] = m->next_value++;
  }
}

static void random_restore(model *m, int seq) {
  int64_t length = (int64_t)draw(m, (uint64_t)m->shape.n_positions + 3) - 1, first = 0;
  if (draw(m, 4)) first = kv_pages_least(m->p, length);
  if (draw(m, 4) == 0) first += (int64_t)draw(m, 400) - 200;
  try_restore(m, seq, first, length);
}

static void try_loan(model *m, bool lend) {
  error err = {0};
  if (lend) {
    kv_pages_lend(m->p);
    m->n_lent++;
  } else if (m->n_lent > 0) {
    kv_pages_return(m->p);
    m->n_lent--;
  }
  if (m->n_lent > 0) expect(m, kv_pages_close(m->p, &err), TANDEM_ERROR_BUSY, &err);
}

static void random_operation(model *m) {
  int seq = (int)draw(m, (uint64_t)m->shape.n_sequences), other = (int)draw(m, (uint64_t)m->shape.n_sequences);
  int64_t length = m->sequences[seq].length, any = (int64_t)draw(m, (uint64_t)length + 3) - 1;
  uint64_t kind = draw(m, 100);
  if (kind < 40) {
    int64_t most = draw(m, 4) == 0 ? 600 : 40; /* a prompt, or a few tokens */
    try_append(m, seq, (int64_t)draw(m, (uint64_t)most));
  } else if (kind < 60) {
    for (int i = 0; i < m->shape.n_sequences && draw(m, 8) && m->sequences[other].length > 0; i++)
      other = (other + 1) % m->shape.n_sequences; /* most often to an empty one, if there is one */
    try_fork(m, seq, other, draw(m, 2) ? length : any);
  } else if (kind < 75) {
    int64_t back = (int64_t)draw(m, 24); /* rejected drafts, or any place */
    try_truncate(m, seq, draw(m, 3) && back <= length ? length - back : any);
  } else if (kind < 90) {
    try_slide(m, seq, draw(m, 8) == 0 ? length + 1000 : draw(m, 2) ? length : any + 2);
  } else if (kind < 93) {
    random_restore(m, seq);
  } else if (kind < 96) {
    try_truncate(m, seq, 0);
  } else {
    try_loan(m, draw(m, 2));
  }
}

static const struct {
  kv_pages_shape shape;
  int n_operations;
} runs[] = {
    {{8, 3, 1024, 0}, 130000},   {{6, 4, 600, 0}, 130000},     {{24, 8, 1100, 512}, 110000}, {{12, 4, 1500, 300}, 120000},
    {{5, 3, 2000, 1}, 120000},   {{40, 6, 2048, 1024}, 90000}, {{3, 2, 300, 0}, 100000},     {{7, 5, 999, 100000}, 90000},
    {{20, 8, 2048, 256}, 90000}, {{1, 1, 1, 0}, 20000},
};

static void run_model(model *m, size_t i) {
  memset(m, 0, sizeof *m);
  m->shape = runs[i].shape;
  m->random = 1000 + i;
  for (int seq = 0; seq < SEQUENCES; seq++)
    for (int block = 0; block < BLOCKS; block++) m->sequences[seq].page[block] = -1;
  assert_int_equal(kv_pages_open(&m->p, &m->shape, NULL), TANDEM_OK);
  model_check(m);
  for (int n = 0; n < runs[i].n_operations; n++) {
    random_operation(m);
    model_check(m);
  }
  for (int seq = 0; seq < m->shape.n_sequences; seq++) try_truncate(m, seq, 0);
  model_check(m);
  assert_int_equal(kv_pages_free(m->p), m->shape.n_pages);
  while (m->n_lent > 0) try_loan(m, false);
  assert_int_equal(kv_pages_close(m->p, NULL), TANDEM_OK);
}

static void pages_agree_with_the_reference(void **state) {
  (void)state;
  static model m;
  long copies = 0, released = 0, restored = 0, busy = 0, context = 0;
  int n_operations = 0;
  for (size_t i = 0; i < COUNT_OF(runs); i++) {
    run_model(&m, i);
    copies += m.n_copies;
    released += m.n_released;
    restored += m.n_restored;
    busy += m.outcomes[TANDEM_ERROR_BUSY];
    context += m.outcomes[TANDEM_ERROR_CONTEXT];
    n_operations += runs[i].n_operations;
  }
  assert_int_equal(n_operations, 1000000);
  /* The mixture must have met every path often, or the run says nothing. */
  assert_true(copies > 10000 && released > 10000 && restored > 2000 && busy > 10000 && context > 10000);
}

/* ---- pages, one behaviour each ------------------------------------------------------------------------------------ */

static void broken_shapes_are_named(void **state) {
  (void)state;
  static const struct {
    kv_pages_shape shape;
    status wanted;
    const char *field, *value, *limit;
  } cases[] = {
      {{0, 1, 1, 0}, TANDEM_ERROR_ARGUMENT, "n_pages", "0 pages", "16777216"},
      {{(1 << 24) + 1, 1, 1, 0}, TANDEM_ERROR_ARGUMENT, "n_pages", "16777217", "16777216"},
      {{1, 0, 1, 0}, TANDEM_ERROR_ARGUMENT, "n_sequences", "0 sequences", "at least 1"},
      {{1, 1, 0, 0}, TANDEM_ERROR_ARGUMENT, "n_positions", "0 positions", "at least 1"},
      {{1, 1, -5, 0}, TANDEM_ERROR_ARGUMENT, "n_positions", "-5", "at least 1"},
      {{1, 1, 1, -1}, TANDEM_ERROR_ARGUMENT, "window", "-1", "at least 1"},
      {{1, INT32_MAX, INT64_MAX, 0}, TANDEM_ERROR_MEMORY, "n_positions", "2147483647", "9223372036854775807"},
  };
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    kv_pages *p = (kv_pages *)(uintptr_t)1;
    error err = {0};
    assert_int_equal(kv_pages_open(&p, &cases[i].shape, &err), cases[i].wanted);
    assert_null(p);
    assert_string_equal(err.field, cases[i].field);
    assert_non_null(strstr(err.text, cases[i].value));
    assert_non_null(strstr(err.text, cases[i].limit));
    assert_int_equal(kv_pages_bytes(&cases[i].shape), 0);
  }
}

static void one_allocation_of_the_stated_size(void **state) {
  (void)state;
  kv_pages_shape shape = {1024, 7, 10000, 0}, more = {2048, 7, 10000, 0};
  kv_pages *p;
  uint64_t before = base_alloc_count();
  assert_int_equal(kv_pages_open(&p, &shape, NULL), TANDEM_OK);
  assert_int_equal(base_alloc_count() - before, 1);
  assert_memory_equal(kv_pages_get_shape(p), &shape, sizeof shape);
  assert_true(kv_pages_bytes(&shape) >= 7 * 40 * 4 + 7 * 16 + 1024 * 8);
  assert_int_equal(kv_pages_bytes(&more) - kv_pages_bytes(&shape), 1024 * 8);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
  assert_int_equal(kv_pages_close(NULL, NULL), TANDEM_OK);
}

static void a_failed_allocation_leaves_nothing(void **state) {
  (void)state;
  kv_pages_shape shape = {4, 2, 1000, 0};
  kv_pages *p;
  error err = {0};
  base_fault_arm(FAULT_MEMORY, 1, false);
  assert_int_equal(kv_pages_open(&p, &shape, &err), TANDEM_ERROR_MEMORY);
  base_fault_arm(FAULT_MEMORY, 0, false);
  assert_null(p);
}

static kv_pages *open_pages(int32_t n_pages, int32_t n_sequences, int64_t n_positions, int64_t window) {
  kv_pages *p;
  kv_pages_shape shape = {n_pages, n_sequences, n_positions, window};
  assert_int_equal(kv_pages_open(&p, &shape, NULL), TANDEM_OK);
  return p;
}

static void bad_arguments_change_nothing(void **state) {
  (void)state;
  kv_pages *p = open_pages(4, 2, 1000, 0);
  kv_copy copy;
  error err;
  assert_int_equal(kv_pages_append(p, 2, 1, &copy, &err), TANDEM_ERROR_ARGUMENT);
  assert_non_null(strstr(err.text, "sequence 2"));
  assert_non_null(strstr(err.text, "0 .. 1"));
  assert_int_equal(kv_pages_append(p, -1, 1, &copy, NULL), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(kv_pages_append(p, 0, -1, &copy, NULL), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(kv_pages_append(p, 0, INT64_MAX, &copy, NULL), TANDEM_ERROR_CONTEXT);
  assert_int_equal(kv_pages_fork(p, 0, 2, 0, NULL), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(kv_pages_fork(p, 5, 0, 0, NULL), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(kv_pages_fork(p, 0, 0, 0, NULL), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(kv_pages_truncate(p, 0, 1, NULL), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(kv_pages_truncate(p, 9, 0, NULL), TANDEM_ERROR_ARGUMENT);
  kv_pages_slide(p, 9, 100);
  kv_pages_slide(p, -1, 100);
  assert_int_equal(kv_pages_generation(p), 0);
  assert_int_equal(kv_pages_length(p, 7), 0);
  assert_int_equal(kv_pages_first(p, 7), 0);
  assert_null(kv_pages_table(p, 7));
  assert_int_equal(kv_pages_references(p, 4), 0);
  assert_int_equal(kv_pages_references(p, -1), 0);
  assert_int_equal(kv_pages_free(p), 4);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
}

static void needed_never_overflows(void **state) {
  (void)state;
  kv_pages *p = open_pages(4, 1, INT32_MAX, 0);
  kv_copy copy;
  assert_int_equal(kv_pages_needed(p, 0, 0), 0);
  assert_int_equal(kv_pages_needed(p, 0, -3), 0);
  assert_int_equal(kv_pages_needed(p, 3, 1), 0);
  assert_int_equal(kv_pages_needed(p, 0, INT64_MAX), INT32_MAX);
  assert_int_equal(kv_pages_append(p, 0, 255, &copy, NULL), TANDEM_OK);
  assert_int_equal(kv_pages_needed(p, 0, 1), 0);
  assert_int_equal(kv_pages_needed(p, 0, 2), 1);
  assert_int_equal(kv_pages_needed(p, 0, INT64_MAX), INT32_MAX);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
}

static void an_exhausted_pool_names_both_numbers(void **state) {
  (void)state;
  kv_pages *p = open_pages(3, 2, 5000, 0);
  kv_copy copy;
  error err;
  assert_int_equal(kv_pages_append(p, 0, 513, &copy, &err), TANDEM_OK);
  assert_int_equal(kv_pages_append(p, 1, 1, &copy, &err), TANDEM_ERROR_BUSY);
  assert_non_null(strstr(err.text, "need 1 "));
  assert_non_null(strstr(err.text, "0 of 3"));
  assert_int_equal(kv_pages_append(p, 1, 5001, &copy, &err), TANDEM_ERROR_CONTEXT);
  assert_non_null(strstr(err.text, "5001"));
  assert_non_null(strstr(err.text, "5000"));
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
}

static void a_lent_pool_refuses_to_close(void **state) {
  (void)state;
  kv_pages *p = open_pages(3, 1, 700, 0);
  kv_copy copy;
  error err;
  kv_pages_lend(p);
  kv_pages_lend(p);
  assert_int_equal(kv_pages_append(p, 0, 300, &copy, NULL), TANDEM_OK);
  assert_int_equal(kv_pages_close(p, &err), TANDEM_ERROR_BUSY);
  assert_non_null(strstr(err.text, "2"));
  assert_int_equal(kv_pages_length(p, 0), 300);
  kv_pages_return(p);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_ERROR_BUSY);
  kv_pages_return(p);
  kv_pages_return(p); /* one too many does not turn into credit */
  kv_pages_lend(p);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_ERROR_BUSY);
  kv_pages_return(p);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
}

static void a_window_lets_go_of_what_nobody_sees(void **state) {
  (void)state;
  kv_pages *p = open_pages(8, 2, 2000, 100);
  kv_copy copy;
  error err;
  assert_int_equal(kv_pages_append(p, 0, 600, &copy, NULL), TANDEM_OK);
  kv_pages_slide(p, 0, 354); /* sees 255 .. 354 */
  assert_int_equal(kv_pages_first(p, 0), 0);
  kv_pages_slide(p, 0, 355);
  assert_int_equal(kv_pages_first(p, 0), 256);
  assert_int_equal(kv_pages_table(p, 0)[0], -1);
  assert_int_equal(kv_pages_free(p), 6);
  assert_int_equal(kv_pages_truncate(p, 0, 354, &err), TANDEM_ERROR_CONTEXT);
  assert_non_null(strstr(err.text, "354"));
  assert_non_null(strstr(err.text, "256"));
  assert_int_equal(kv_pages_fork(p, 0, 1, 354, NULL), TANDEM_ERROR_CONTEXT);
  assert_int_equal(kv_pages_fork(p, 0, 1, 355, NULL), TANDEM_OK);
  assert_int_equal(kv_pages_first(p, 1), 256);
  assert_int_equal(kv_pages_truncate(p, 0, 355, NULL), TANDEM_OK);
  assert_int_equal(kv_pages_truncate(p, 0, 0, NULL), TANDEM_OK); /* the way to start again */
  assert_int_equal(kv_pages_first(p, 0), 0);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
}

static void a_restored_sequence_goes_on_as_it_would_have(void **state) {
  (void)state;
  kv_pages *p = open_pages(4, 2, 2000, 100);
  kv_copy copy;
  error err;
  assert_int_equal(kv_pages_least(p, 99), 0);
  assert_int_equal(kv_pages_least(p, 354), 0);
  assert_int_equal(kv_pages_least(p, 355), 256);
  assert_int_equal(kv_pages_least(p, 1000), 768);
  assert_int_equal(kv_pages_restore(p, 0, 902, 1000, &err), TANDEM_ERROR_ARGUMENT); /* position 1000 sees 901 */
  assert_non_null(strstr(err.text, "1000 positions to restore from 902"));
  assert_non_null(strstr(err.text, "0 .. 901"));
  assert_int_equal(kv_pages_restore(p, 0, 0, 2001, &err), TANDEM_ERROR_CONTEXT);
  assert_int_equal(kv_pages_restore(p, 0, 0, INT64_MIN, &err), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(kv_pages_restore(p, 0, 511, 1537, &err), TANDEM_ERROR_BUSY); /* blocks 1 .. 6 */
  assert_non_null(strstr(err.text, "need 6 "));
  assert_non_null(strstr(err.text, "4 of 4"));
  assert_int_equal(kv_pages_generation(p), 0);
  assert_int_equal(kv_pages_restore(p, 0, 901, 1000, &err), TANDEM_OK);
  assert_int_equal(kv_pages_free(p), 3);
  assert_int_equal(kv_pages_first(p, 0), 901);
  assert_int_equal(kv_pages_append(p, 0, 24, &copy, &err), TANDEM_OK);
  assert_int_equal(kv_pages_free(p), 3);
  kv_pages_slide(p, 0, 1024); /* still sees 925 */
  assert_int_equal(kv_pages_first(p, 0), 901);
  kv_pages_slide(p, 0, 2000);
  assert_int_equal(kv_pages_first(p, 0), 901);
  assert_int_equal(kv_pages_append(p, 0, 99, &copy, &err), TANDEM_OK);
  kv_pages_slide(p, 0, 1123);
  assert_int_equal(kv_pages_first(p, 0), 1024);
  assert_int_equal(kv_pages_restore(p, 0, 256, 1000, &err), TANDEM_OK); /* three pages, its own among them */
  assert_int_equal(kv_pages_fork(p, 0, 1, 1000, &err), TANDEM_OK);
  assert_int_equal(kv_pages_restore(p, 1, 0, 513, &err), TANDEM_ERROR_BUSY); /* the shared ones do not come back */
  assert_int_equal(kv_pages_restore(p, 1, 0, 200, &err), TANDEM_OK);
  assert_int_equal(kv_pages_restore(p, 0, 0, 0, &err), TANDEM_OK);
  assert_int_equal(kv_pages_free(p), 3);
  assert_int_equal(kv_pages_close(p, NULL), TANDEM_OK);
}

/* ---- store -------------------------------------------------------------------------------------------------------- */

static void the_layout_is_as_drawn(void **state) {
  (void)state;
  kv_store_shape shape = {3, 2, QUANT_F16, QUANT_Q8_0};
  kv_layer layers[2] = {{.n_heads = 2, .k_dim = 64, .v_dim = 32}, {.n_heads = 5, .k_dim = 7, .v_dim = 96}};
  size_t n_bytes;
  assert_int_equal(kv_store_layout(&shape, layers, &n_bytes, NULL), TANDEM_OK);
  assert_int_equal(layers[0].k_block, 256 * 64 * 2);
  assert_int_equal(layers[0].v_block, 256 * 34);
  assert_int_equal(layers[1].k_block, 256 * 7 * 2);
  assert_int_equal(layers[1].v_block, 256 * 34 * 3);
  size_t offset = 0;
  for (int i = 0; i < 2; i++) {
    assert_int_equal(layers[i].k_page, layers[i].k_block * (size_t)layers[i].n_heads);
    assert_int_equal(layers[i].v_page, layers[i].v_block * (size_t)layers[i].n_heads);
    assert_int_equal(layers[i].k_offset, offset);
    assert_int_equal(layers[i].v_offset, offset + 3 * layers[i].k_page);
    offset += 3 * (layers[i].k_page + layers[i].v_page);
    assert_int_equal((layers[i].k_offset | layers[i].v_offset | layers[i].k_block | layers[i].v_block) % 64, 0);
  }
  assert_int_equal(n_bytes, offset);
}

static void a_layout_that_cannot_be_is_named(void **state) {
  (void)state;
  static const struct {
    kv_store_shape shape;
    kv_layer layer;
    status wanted;
    const char *field, *value, *limit;
  } cases[] = {
      {{0, 1, QUANT_F16, QUANT_F16}, {.n_heads = 1, .k_dim = 8, .v_dim = 8}, TANDEM_ERROR_ARGUMENT, "n_pages", "0 pages", "1"},
      {{1, 0, QUANT_F16, QUANT_F16},
       {.n_heads = 1, .k_dim = 8, .v_dim = 8},
       TANDEM_ERROR_ARGUMENT,
       "n_layers",
       "0 layers",
       "1"},
      {{1, 1, QUANT_F16, QUANT_F16}, {.n_heads = 0, .k_dim = 8, .v_dim = 8}, TANDEM_ERROR_ARGUMENT, "n_heads", "0 heads", "1"},
      {{1, 1, QUANT_Q4_K, QUANT_F16},
       {.n_heads = 1, .k_dim = 8, .v_dim = 8},
       TANDEM_ERROR_UNSUPPORTED,
       "k_type",
       "q4_K",
       "Q8_0"},
      {{1, 1, QUANT_F16, 999}, {.n_heads = 1, .k_dim = 8, .v_dim = 8}, TANDEM_ERROR_UNSUPPORTED, "v_type", "999", "Q8_0"},
      {{1, 1, QUANT_Q8_0, QUANT_F16}, {.n_heads = 1, .k_dim = 80, .v_dim = 8}, TANDEM_ERROR_UNSUPPORTED, "k_dim", "80", "32"},
      {{1, 1, QUANT_F16, QUANT_Q8_0}, {.n_heads = 1, .k_dim = 8, .v_dim = 33}, TANDEM_ERROR_UNSUPPORTED, "v_dim", "33", "32"},
      {{1, 1, QUANT_F16, QUANT_F16}, {.n_heads = 1, .k_dim = 0, .v_dim = 8}, TANDEM_ERROR_UNSUPPORTED, "k_dim", "0", "1"},
      {{1, 1, QUANT_F16, QUANT_F16}, {.n_heads = 1, .k_dim = 8, .v_dim = -8}, TANDEM_ERROR_UNSUPPORTED, "v_dim", "-8", "1"},
      {{INT32_MAX, 1, QUANT_F32, QUANT_F32},
       {.n_heads = INT32_MAX, .k_dim = INT32_MAX, .v_dim = 8},
       TANDEM_ERROR_MEMORY,
       "",
       "2147483647 pages",
       "2147483647 heads"},
  };
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    kv_layer layer = cases[i].layer;
    size_t n_bytes = 1;
    error err = {0};
    assert_int_equal(kv_store_layout(&cases[i].shape, &layer, &n_bytes, &err), cases[i].wanted);
    assert_int_equal(n_bytes, 0);
    assert_string_equal(err.field, cases[i].field);
    assert_non_null(strstr(err.text, cases[i].value));
    assert_non_null(strstr(err.text, cases[i].limit));
  }
}

static void sizes_are_summed_with_care(void **state) {
  (void)state;
  enum { LAYERS = 64 }; /* each fits, together they do not */
  kv_store_shape shape = {1 << 24, LAYERS, QUANT_F32, QUANT_F32};
  kv_layer layers[LAYERS];
  for (int i = 0; i < LAYERS; i++) layers[i] = (kv_layer){.n_heads = 4096, .k_dim = 8192, .v_dim = 8192};
  size_t n_bytes = 1;
  assert_int_equal(kv_store_layout(&shape, layers, &n_bytes, NULL), TANDEM_ERROR_MEMORY);
  assert_int_equal(n_bytes, 0);
  shape.n_layers = 1;
  assert_int_equal(kv_store_layout(&shape, layers, &n_bytes, NULL), TANDEM_OK);
  assert_true(n_bytes == ((size_t)1 << 24) * 4096 * 2 * 256 * 8192 * 4);
}

static void a_copy_moves_one_page_of_every_layer(void **state) {
  (void)state;
  kv_store_shape shape = {4, 2, QUANT_F16, QUANT_Q8_0};
  kv_layer layers[2] = {{.n_heads = 1, .k_dim = 2, .v_dim = 32}, {.n_heads = 2, .k_dim = 3, .v_dim = 32}};
  size_t n_bytes;
  void *bytes, *wanted;
  assert_int_equal(kv_store_layout(&shape, layers, &n_bytes, NULL), TANDEM_OK);
  assert_int_equal(base_alloc(&bytes, n_bytes, "test", NULL), TANDEM_OK);
  assert_int_equal(base_alloc(&wanted, n_bytes, "test", NULL), TANDEM_OK);
  uint8_t *b = bytes, *w = wanted;
  for (size_t i = 0; i < n_bytes; i++) b[i] = w[i] = (uint8_t)(i * 2654435761u >> 13);
  kv_store_copy(&shape, layers, bytes, (kv_copy){-1, -1});
  kv_store_copy(&shape, layers, bytes, (kv_copy){2, 2});
  assert_memory_equal(bytes, wanted, n_bytes);
  kv_store_copy(&shape, layers, bytes, (kv_copy){3, 1});
  for (int i = 0; i < 2; i++) {
    for (size_t j = 0; j < layers[i].k_page; j++)
      w[layers[i].k_offset + layers[i].k_page + j] = w[layers[i].k_offset + 3 * layers[i].k_page + j];
    for (size_t j = 0; j < layers[i].v_page; j++)
      w[layers[i].v_offset + layers[i].v_page + j] = w[layers[i].v_offset + 3 * layers[i].v_page + j];
  }
  assert_memory_equal(bytes, wanted, n_bytes);
  base_free(bytes);
  base_free(wanted);
}

/* ---- saving ------------------------------------------------------------------------------------------------------- */

static status collect(void *user, const void *bytes, size_t n, error *err) { return text_add(user, bytes, n, err); }

static void save_cells(const kv_cells *c, text *out) {
  void *scratch;
  size_t n_bytes;
  assert_int_equal(base_alloc(&scratch, kv_save_scratch(c), "test", NULL), TANDEM_OK);
  assert_int_equal(kv_save(c, kv_pages_first(c->pages, c->sequence), scratch, collect, out, NULL), TANDEM_OK);
  assert_true(kv_saved_bytes(c, kv_pages_length(c->pages, c->sequence) - kv_pages_first(c->pages, c->sequence), &n_bytes));
  assert_int_equal(out->n, n_bytes);
  base_free(scratch);
}

static void fill_noise(uint8_t *bytes, size_t n, uint32_t seed) {
  for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)((i + seed) * 2654435761u >> 13);
}

/* Saved from one pool, restored into another, with other garbage around the cells, saved again. */
static void cells_survive(quant_type k_type, quant_type v_type, int64_t first, int64_t length) {
  kv_store_shape shape = {9, 2, k_type, v_type};
  kv_layer layers[2] = {{.n_heads = 1, .k_dim = 64, .v_dim = 32}, {.n_heads = 3, .k_dim = 32, .v_dim = 96}};
  kv_cells c[2];
  text saved[3] = {0};
  size_t n_bytes, n_saved;
  assert_int_equal(kv_store_layout(&shape, layers, &n_bytes, NULL), TANDEM_OK);
  for (int i = 0; i < 2; i++) {
    c[i] = (kv_cells){.pages = open_pages(9, 4, 2000, first ? 100 : 0), .sequence = i, .shape = &shape, .layers = layers,
                      .ops = device_find("cpu")};
    kv_copy copy;
    assert_int_equal(kv_pages_append(c[i].pages, 3, 1 + 256 * i, &copy, NULL), TANDEM_OK); /* other pages than the other's */
    assert_int_equal(base_alloc(&c[i].store, n_bytes, "test", NULL), TANDEM_OK);
    fill_noise(c[i].store, n_bytes, (uint32_t)i);
  }
  assert_int_equal(kv_pages_restore(c[0].pages, 0, first, length, NULL), TANDEM_OK);
  save_cells(&c[0], &saved[0]);
  assert_int_equal(kv_pages_restore_check(c[1].pages, 1, first, length, NULL), TANDEM_OK);
  kv_restore(&c[1], first, first, length, saved[0].bytes);
  assert_int_equal(kv_pages_first(c[1].pages, 1), first);
  save_cells(&c[1], &saved[1]);
  assert_int_equal(saved[1].n, saved[0].n);
  assert_memory_equal(saved[1].bytes, saved[0].bytes, saved[0].n);
  int64_t later = kv_pages_least(c[0].pages, length); /* leaving out what comes before */
  if (later > first) {
    kv_restore(&c[1], first, later, length, saved[0].bytes);
    save_cells(&c[1], &saved[2]);
    assert_int_equal(kv_pages_restore(c[0].pages, 0, 0, 0, NULL), TANDEM_OK);
    kv_restore(&c[0], later, later, length, saved[2].bytes);
    saved[1].n = 0;
    save_cells(&c[0], &saved[1]);
    assert_memory_equal(saved[1].bytes, saved[2].bytes, saved[2].n);
    assert_true(kv_saved_bytes(&c[0], length - later, &n_saved) && saved[2].n == n_saved && n_saved < saved[0].n);
    /* The rows of the first head of the last layer's V stand at the end of the whole, too. */
    assert_memory_equal(saved[2].bytes + saved[2].n - 16, saved[0].bytes + saved[0].n - 16, 16);
  }
  for (int i = 0; i < 2; i++) {
    kv_pages_close(c[i].pages, NULL);
    base_free(c[i].store);
  }
  for (int i = 0; i < 3; i++) text_free(&saved[i]);
}

static void saved_cells_come_back(void **state) {
  (void)state;
  static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q8_0};
  static const int64_t spans[][2] = {{0, 0}, {0, 1}, {0, 255}, {0, 256}, {0, 257}, {0, 1100}, {256, 700}, {301, 400}, {3, 690}, {512, 1400}};
  for (size_t k = 0; k < 4; k++)
    for (size_t v = 0; v < 4; v++)
      for (size_t i = 0; i < COUNT_OF(spans); i++) cells_survive(types[k], types[v], spans[i][0], spans[i][1]);
}

static void a_saved_cell_is_a_row_of_its_type(void **state) {
  (void)state;
  static const quant_type types[] = {QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q8_0};
  const device_ops *ops = device_find("cpu");
  static uint8_t block[256 * 64 * 4];
  uint8_t rows[3 * 64 * 4], back[sizeof rows];
  for (size_t t = 0; t < 4; t++)
    for (int v = 0; v < 2; v++) {
      size_t row = quant_row_bytes(types[t], 64);
      fill_noise(rows, sizeof rows, (uint32_t)t);
      memset(block, 0xee, sizeof block);
      ops->cells_put(NULL, types[t], v, 64, block, 14, 17, rows);
      ops->cells_get(NULL, types[t], v, 64, block, 14, 17, back);
      assert_memory_equal(back, rows, 3 * row);
      size_t n = 0; /* and nothing else was touched */
      for (size_t i = 0; i < sizeof block; i++) n += block[i] != 0xee;
      assert_true(n <= 3 * row && n > 3 * row * 9 / 10);
      if (!v || types[t] == QUANT_Q8_0) continue;
      if (types[t] != QUANT_BF16) assert_memory_equal(block + 14 * row, rows, 3 * row); /* V lies in rows, */
      for (size_t i = 0; i < 3 * 64 && types[t] == QUANT_BF16; i++)                     /* or in rows of pairs of cells */
        assert_memory_equal(block + (14 + i / 64) / 2 * 2 * row + 4 * (i % 64) + 2 * ((14 + i / 64) % 2), rows + 2 * i, 2);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pages_agree_with_the_reference),       cmocka_unit_test(broken_shapes_are_named),
      cmocka_unit_test(one_allocation_of_the_stated_size),    cmocka_unit_test(a_failed_allocation_leaves_nothing),
      cmocka_unit_test(bad_arguments_change_nothing),         cmocka_unit_test(needed_never_overflows),
      cmocka_unit_test(an_exhausted_pool_names_both_numbers), cmocka_unit_test(a_lent_pool_refuses_to_close),
      cmocka_unit_test(a_window_lets_go_of_what_nobody_sees), cmocka_unit_test(a_restored_sequence_goes_on_as_it_would_have), cmocka_unit_test(the_layout_is_as_drawn),
      cmocka_unit_test(a_layout_that_cannot_be_is_named),     cmocka_unit_test(sizes_are_summed_with_care),
      cmocka_unit_test(a_copy_moves_one_page_of_every_layer), cmocka_unit_test(saved_cells_come_back),
      cmocka_unit_test(a_saved_cell_is_a_row_of_its_type),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
