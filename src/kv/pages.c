/* pages: which page holds which positions of which sequence. Owns the page tables, the reference counts and the list of
 * free pages, in one allocation:
 *
 *   kv_pages | length, first [sequence] | table [sequence][block] | references [page] | free [page] (a stack)
 *
 * A page is free iff its references are 0, and references are the number of table entries that name it. Cells from `first`
 * to `length` - 1 are there; a block in front of `first` was released, a block behind `length` has no page. Does not know
 * what a cell holds: a copy on write is reported, the store does it. */
#include "kv/kv.h"

enum { MAX_PAGES = 1 << 24 };

struct kv_pages {
  kv_pages_shape shape;
  int64_t n_blocks;        /* entries of one sequence's table */
  int64_t *length, *first; /* [sequence] */
  int32_t *table;          /* [sequence][block] -> page or -1 */
  int32_t *references;     /* [page] */
  int32_t *free;           /* [n_free] used as a stack */
  int32_t n_free;
  int64_t n_lent;
  uint64_t generation;
};

/* Offsets of the arrays behind the struct. */
typedef struct pages_layout {
  size_t length, first, table, references, free, n_bytes;
} pages_layout;

static int64_t blocks_of(int64_t n_positions) { return n_positions / KV_PAGE + (n_positions % KV_PAGE != 0); }

/* Puts n elements behind what is laid out so far; false if the size does not fit. */
static bool place(size_t *n_bytes, size_t n, size_t size, size_t *offset) {
  size_t array, start;
  if (!size_add(*n_bytes, 63, &start) || !size_mul(n, size, &array)) return false;
  *offset = start & ~(size_t)63;
  return size_add(*offset, array, n_bytes);
}

static bool lay_out(const kv_pages_shape *shape, pages_layout *l) {
  size_t n_sequences = (size_t)shape->n_sequences, n_pages = (size_t)shape->n_pages, n_entries;
  l->n_bytes = sizeof(kv_pages);
  return size_mul(n_sequences, (size_t)blocks_of(shape->n_positions), &n_entries) &&
         place(&l->n_bytes, n_sequences, sizeof(int64_t), &l->length) &&
         place(&l->n_bytes, n_sequences, sizeof(int64_t), &l->first) &&
         place(&l->n_bytes, n_entries, sizeof(int32_t), &l->table) &&
         place(&l->n_bytes, n_pages, sizeof(int32_t), &l->references) && place(&l->n_bytes, n_pages, sizeof(int32_t), &l->free);
}

static status check_shape(const kv_pages_shape *shape, error *err) {
  if (shape->n_pages < 1 || shape->n_pages > MAX_PAGES)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_pages", "K/V pool: %d pages, must be 1 .. %d", shape->n_pages, MAX_PAGES);
  if (shape->n_sequences < 1)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_sequences", "K/V pool: %d sequences, must be at least 1",
                     shape->n_sequences);
  if (shape->n_positions < 1)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_positions", "K/V pool: %lld positions, must be at least 1",
                     (long long)shape->n_positions);
  if (shape->window < 0)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "window", "K/V pool: a window of %lld, must be at least 1, or 0 for none",
                     (long long)shape->window);
  return TANDEM_OK;
}

/* 0 if the shape is broken or its size does not fit; opening it says which. */
size_t kv_pages_bytes(const kv_pages_shape *shape) {
  pages_layout l;
  return check_shape(shape, NULL) == TANDEM_OK && lay_out(shape, &l) ? l.n_bytes : 0;
}

status kv_pages_open(kv_pages **p, const kv_pages_shape *shape, error *err) {
  *p = NULL;
  TRY(check_shape(shape, err));
  pages_layout l;
  if (!lay_out(shape, &l))
    return base_fail(err, TANDEM_ERROR_MEMORY, "n_positions", "K/V pool: tables of %d sequences x %lld positions do not fit",
                     shape->n_sequences, (long long)shape->n_positions);
  void *memory;
  TRY(base_alloc(&memory, l.n_bytes, "K/V page tables", err));
  char *at = memory;
  kv_pages *k = memory;
  k->shape = *shape;
  k->n_blocks = blocks_of(shape->n_positions);
  k->length = (int64_t *)(at + l.length);
  k->first = (int64_t *)(at + l.first);
  k->table = (int32_t *)(at + l.table);
  k->references = (int32_t *)(at + l.references);
  k->free = (int32_t *)(at + l.free);
  size_t n_entries = (size_t)shape->n_sequences * (size_t)k->n_blocks; /* lay_out has checked the product */
  for (size_t i = 0; i < n_entries; i++) k->table[i] = -1;
  for (int32_t i = 0; i < shape->n_pages; i++) k->free[i] = shape->n_pages - 1 - i; /* page 0 is taken first */
  k->n_free = shape->n_pages;
  *p = k;
  return TANDEM_OK;
}

status kv_pages_close(kv_pages *p, error *err) {
  if (p && p->n_lent > 0)
    return base_fail(err, TANDEM_ERROR_BUSY, NULL, "K/V pool: cannot be closed, it is lent out %lld times",
                     (long long)p->n_lent);
  base_free(p);
  return TANDEM_OK;
}

const kv_pages_shape *kv_pages_get_shape(const kv_pages *p) { return &p->shape; }

static bool is_sequence(const kv_pages *p, int32_t seq) { return seq >= 0 && seq < p->shape.n_sequences; }

static status check_sequence(const kv_pages *p, int32_t seq, error *err) {
  if (is_sequence(p, seq)) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_ARGUMENT, "sequence", "sequence %d: the K/V pool has 0 .. %d", seq,
                   p->shape.n_sequences - 1);
}

static int32_t *table_of(const kv_pages *p, int32_t seq) { return p->table + (size_t)seq * (size_t)p->n_blocks; }

static int32_t take_page(kv_pages *p) {
  int32_t page = p->free[--p->n_free];
  p->references[page] = 1;
  return page;
}

/* Takes a block out of a sequence; the page is free again when nobody else has it. */
static void drop_block(kv_pages *p, int32_t *entry) {
  if (*entry >= 0 && --p->references[*entry] == 0) p->free[p->n_free++] = *entry;
  *entry = -1;
}

/* Would the next position be written to a page that another sequence sees? */
static bool last_is_shared(const kv_pages *p, int32_t seq) {
  int64_t length = p->length[seq];
  if (length % KV_PAGE == 0) return false;
  int32_t page = table_of(p, seq)[length / KV_PAGE];
  return page >= 0 && p->references[page] > 1;
}

/* Are the cells there that position n sees before itself: max(0, n - window + 1) .. n - 1? */
static bool can_continue(const kv_pages *p, int32_t seq, int64_t n) {
  if (p->shape.window == 0) return true;
  int64_t from = n - p->shape.window + 1;
  if (from < 0) from = 0;
  return from >= n || p->first[seq] <= from;
}

int32_t kv_pages_needed(const kv_pages *p, int32_t seq, int64_t n) {
  if (!is_sequence(p, seq) || n <= 0) return 0;
  int64_t length = p->length[seq], block = length / KV_PAGE;
  int64_t end = n > INT64_MAX - length ? INT64_MAX : length + n;
  int64_t n_needed = (end - 1) / KV_PAGE - block; /* blocks behind the one that is being filled never have a page */
  if (length % KV_PAGE == 0 || table_of(p, seq)[block] < 0 || last_is_shared(p, seq)) n_needed++;
  return n_needed > INT32_MAX ? INT32_MAX : (int32_t)n_needed;
}

status kv_pages_append(kv_pages *p, int32_t seq, int64_t n, kv_copy *copy, error *err) {
  *copy = (kv_copy){-1, -1};
  TRY(check_sequence(p, seq, err));
  int64_t length = p->length[seq];
  if (n < 0)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n", "sequence %d: %lld positions to append, must be at least 0", seq,
                     (long long)n);
  if (n > p->shape.n_positions - length)
    return base_fail(err, TANDEM_ERROR_CONTEXT, NULL, "sequence %d: %lld positions and %lld more, the context holds %lld", seq,
                     (long long)length, (long long)n, (long long)p->shape.n_positions);
  int32_t n_needed = kv_pages_needed(p, seq, n);
  if (n_needed > p->n_free)
    return base_fail(err, TANDEM_ERROR_BUSY, NULL, "sequence %d: %lld more positions need %d K/V pages, %d of %d are free", seq,
                     (long long)n, n_needed, p->n_free, p->shape.n_pages);
  if (n == 0) return TANDEM_OK;
  int32_t *table = table_of(p, seq);
  int64_t block = length / KV_PAGE;
  if (last_is_shared(p, seq)) {
    *copy = (kv_copy){table[block], take_page(p)};
    p->references[copy->from]--;
    table[block] = copy->to;
  }
  for (; block <= (length + n - 1) / KV_PAGE; block++)
    if (table[block] < 0) table[block] = take_page(p);
  p->length[seq] = length + n;
  return TANDEM_OK;
}

static status check_prefix(const kv_pages *p, int32_t seq, int64_t n, error *err) {
  if (n < 0 || n > p->length[seq])
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n", "sequence %d: prefix of %lld positions, must be 0 .. %lld", seq,
                     (long long)n, (long long)p->length[seq]);
  if (!can_continue(p, seq, n))
    return base_fail(err, TANDEM_ERROR_CONTEXT, NULL,
                     "sequence %d: position %lld sees a window of %lld, but cells before %lld were released", seq, (long long)n,
                     (long long)p->shape.window, (long long)p->first[seq]);
  return TANDEM_OK;
}

status kv_pages_fork(kv_pages *p, int32_t src, int32_t dst, int64_t n, error *err) {
  TRY(check_sequence(p, src, err));
  TRY(check_sequence(p, dst, err));
  if (p->length[dst] != 0 || src == dst)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "dst",
                     "fork of sequence %d to %d: the latter holds %lld positions, must be another and empty", src, dst,
                     (long long)p->length[dst]);
  TRY(check_prefix(p, src, n, err));
  const int32_t *from = table_of(p, src);
  int32_t *to = table_of(p, dst);
  for (int64_t block = p->first[src] / KV_PAGE; block < blocks_of(n); block++) {
    to[block] = from[block];
    if (to[block] >= 0) p->references[to[block]]++;
  }
  p->length[dst] = n;
  p->first[dst] = p->first[src] < n ? p->first[src] : n;
  return TANDEM_OK;
}

status kv_pages_truncate(kv_pages *p, int32_t seq, int64_t n, error *err) {
  TRY(check_sequence(p, seq, err));
  TRY(check_prefix(p, seq, n, err));
  int32_t *table = table_of(p, seq);
  for (int64_t block = blocks_of(n); block < blocks_of(p->length[seq]); block++) drop_block(p, &table[block]);
  p->length[seq] = n;
  if (p->first[seq] > n) p->first[seq] = n;
  p->generation++;
  return TANDEM_OK;
}

void kv_pages_slide(kv_pages *p, int32_t seq, int64_t from) {
  if (!is_sequence(p, seq)) return;
  p->generation++;
  if (p->shape.window == 0 || from < 0) return;
  if (from > p->length[seq]) from = p->length[seq]; /* the next position is the furthest that can come next */
  int64_t visible = from - p->shape.window + 1;
  int32_t *table = table_of(p, seq);
  for (int64_t block = p->first[seq] / KV_PAGE; (block + 1) * KV_PAGE <= visible; block++) {
    drop_block(p, &table[block]);
    p->first[seq] = (block + 1) * KV_PAGE;
  }
}

/* The first page that kv_pages_slide would leave if `length` were the next position. */
int64_t kv_pages_least(const kv_pages *p, int64_t length) {
  int64_t visible = p->shape.window == 0 ? 0 : length - p->shape.window + 1;
  return visible <= 0 ? 0 : visible / KV_PAGE * KV_PAGE;
}

static int64_t blocks_between(int64_t first, int64_t length) {
  return first < length ? (length - 1) / KV_PAGE - first / KV_PAGE + 1 : 0;
}

/* Pages that would return to the pool if the sequence went. */
static int64_t own_pages(const kv_pages *p, int32_t seq) {
  const int32_t *table = table_of(p, seq);
  int64_t n = 0;
  for (int64_t block = 0; block < blocks_of(p->length[seq]); block++) n += table[block] >= 0 && p->references[table[block]] == 1;
  return n;
}

status kv_pages_restore_check(const kv_pages *p, int32_t seq, int64_t first, int64_t length, error *err) {
  TRY(check_sequence(p, seq, err));
  if (length > p->shape.n_positions)
    return base_fail(err, TANDEM_ERROR_CONTEXT, NULL, "sequence %d: %lld positions to restore, the context holds %lld", seq,
                     (long long)length, (long long)p->shape.n_positions);
  int64_t most = p->shape.window == 0 || length < p->shape.window ? 0 : length - p->shape.window + 1;
  if (length < 0 || first < 0 || first > most)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "first",
                     "sequence %d: %lld positions to restore from %lld on, must begin at 0 .. %lld for a window of %lld", seq,
                     (long long)length, (long long)first, (long long)most, (long long)p->shape.window);
  int64_t needed = blocks_between(first, length), there = p->n_free + own_pages(p, seq);
  if (needed > there)
    return base_fail(err, TANDEM_ERROR_BUSY, NULL, "sequence %d: %lld positions to restore need %lld K/V pages, %lld of %d are free",
                     seq, (long long)(length - first), (long long)needed, (long long)there, p->shape.n_pages);
  return TANDEM_OK;
}

status kv_pages_restore(kv_pages *p, int32_t seq, int64_t first, int64_t length, error *err) {
  TRY(kv_pages_restore_check(p, seq, first, length, err));
  int32_t *table = table_of(p, seq);
  for (int64_t block = 0; block < blocks_of(p->length[seq]); block++) drop_block(p, &table[block]);
  int64_t n = blocks_between(first, length);
  for (int64_t block = first / KV_PAGE; n > 0; block++, n--) table[block] = take_page(p);
  p->length[seq] = length;
  p->first[seq] = first;
  p->generation++;
  return TANDEM_OK;
}

int64_t kv_pages_length(const kv_pages *p, int32_t seq) { return is_sequence(p, seq) ? p->length[seq] : 0; }

int64_t kv_pages_first(const kv_pages *p, int32_t seq) { return is_sequence(p, seq) ? p->first[seq] : 0; }

const int32_t *kv_pages_table(const kv_pages *p, int32_t seq) { return is_sequence(p, seq) ? table_of(p, seq) : NULL; }

int32_t kv_pages_free(const kv_pages *p) { return p->n_free; }

int32_t kv_pages_references(const kv_pages *p, int32_t page) {
  return page >= 0 && page < p->shape.n_pages ? p->references[page] : 0;
}

void kv_pages_lend(kv_pages *p) { p->n_lent++; }

void kv_pages_return(kv_pages *p) {
  if (p->n_lent > 0) p->n_lent--;
}

uint64_t kv_pages_generation(const kv_pages *p) { return p->generation; }
