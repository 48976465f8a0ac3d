/* kv: who sits where, and the bytes of K and V. No model here, no kernel.
 *
 * A *group* is the layers whose cells come and go together: all full-attention layers, or all that slide with one window.
 * Per group, kv_pages cuts positions into pages of KV_PAGE cells anchored at position 0: position p of a sequence lies in
 * page table[p / KV_PAGE], cell p % KV_PAGE. A page belongs to all sequences that share that stretch of their prefix
 * (reference counted) and is copied before one of them writes to it. kv_store is the bytes: for each layer of the group one
 * K region and one V region of n_pages pages each.
 *
 *   layer 0: K [page][head][block]  V [page][head][block] | layer 1: ...      block = KV_PAGE cells of one head
 *
 * What is inside a block is the device's business; its size is KV_PAGE rows of the element type.
 * One thread at a time; the engine serialises. Sizes are known before anything is allocated. */
#ifndef KV_H
#define KV_H

#include "device/device.h"

enum { KV_PAGE = 256 }; /* cells in a page = positions in an attention block (rule R5) */

/* ---- pages.c ----------------------------------------------------------------------------------------------------- */

typedef struct kv_pages kv_pages;

typedef struct kv_pages_shape {
  int32_t n_pages;      /* in the pool, 1 .. 2^24 */
  int32_t n_sequences;  /* sequence ids are 0 .. n_sequences - 1 */
  int64_t n_positions;  /* longest sequence */
  int64_t window;       /* a cell is needed while fewer than `window` positions follow it (query at q sees q - window + 1
                           .. q); 0 = always */
} kv_pages_shape;

size_t kv_pages_bytes(const kv_pages_shape *shape); /* what kv_pages_open allocates */
status kv_pages_open(kv_pages **p, const kv_pages_shape *shape, error *err);
/* Refuses (TANDEM_ERROR_BUSY) while lent out; the pages stay. NULL is allowed. */
status kv_pages_close(kv_pages *p, error *err);
const kv_pages_shape *kv_pages_get_shape(const kv_pages *p);

typedef struct kv_copy { /* a page whose cells must be copied before the next write; from = -1: none */
  int32_t from, to;
} kv_copy;

/* Room for n more positions (n >= 0) of sequence seq. Takes pages as needed; if the last, partly filled page is shared it is
 * replaced by a fresh one and *copy says so. TANDEM_ERROR_BUSY if the pool has too few pages, TANDEM_ERROR_CONTEXT past
 * n_positions: nothing has changed then. */
status kv_pages_append(kv_pages *p, int32_t seq, int64_t n, kv_copy *copy, error *err);
/* Sequence dst, which must be empty, shares the first n positions of src. */
status kv_pages_fork(kv_pages *p, int32_t src, int32_t dst, int64_t n, error *err);
/* Forgets positions n and above; pages no longer used return to the pool. n <= length. With a window, position n may need
 * cells that were released: TANDEM_ERROR_CONTEXT, nothing changed (the caller starts again from 0). */
status kv_pages_truncate(kv_pages *p, int32_t seq, int64_t n, error *err);
/* Returns pages that no position >= `from` (the oldest that may still be evaluated) can see through the window. */
void kv_pages_slide(kv_pages *p, int32_t seq, int64_t from);

/* Sequence seq, whatever it held, shall hold positions first .. length - 1 on pages of its own, as if the cells before `first`
 * had been released. TANDEM_ERROR_ARGUMENT if the next position would miss a cell, TANDEM_ERROR_CONTEXT past n_positions,
 * TANDEM_ERROR_BUSY if the pool has too few pages, those counted that only this sequence holds. Check changes nothing; what
 * it accepts cannot fail. */
status kv_pages_restore_check(const kv_pages *p, int32_t seq, int64_t first, int64_t length, error *err);
status kv_pages_restore(kv_pages *p, int32_t seq, int64_t first, int64_t length, error *err);
/* The highest `first` of a sequence of that length: what position `length` does not see is not there. */
int64_t kv_pages_least(const kv_pages *p, int64_t length);

int64_t kv_pages_length(const kv_pages *p, int32_t seq);
int64_t kv_pages_first(const kv_pages *p, int32_t seq); /* first position whose cell is still there */
/* [block] -> page, -1 where released or never taken; (n_positions + KV_PAGE - 1) / KV_PAGE entries. Borrowed. */
const int32_t *kv_pages_table(const kv_pages *p, int32_t seq);
int32_t kv_pages_free(const kv_pages *p); /* pages in the pool */
int32_t kv_pages_references(const kv_pages *p, int32_t page);
/* Pages that n more positions of seq would take, the copy of a shared page included. */
int32_t kv_pages_needed(const kv_pages *p, int32_t seq, int64_t n);
/* Counted loans: while > 0, close refuses. The generation grows with every truncate and slide. */
void kv_pages_lend(kv_pages *p);
void kv_pages_return(kv_pages *p);
uint64_t kv_pages_generation(const kv_pages *p);

/* ---- borrow.c: a reader's hold on another's pages; it has no size ------------------------------------------------ */

typedef struct kv_borrow {
  kv_pages *pages;     /* the lender's; NULL: none */
  uint64_t generation; /* of the pages when it was renewed */
} kv_borrow;

/* Counts the borrow at its source, in which nothing else changes. */
void kv_borrow_open(kv_borrow *b, kv_pages *source);
void kv_borrow_close(kv_borrow *b); /* gives it back; may be called again */
/* From now on the pages are expected as they are now. */
void kv_borrow_renew(kv_borrow *b);
/* May a query at `position` (0 .. length) of seq read the cells it sees? TANDEM_ERROR_INTERNAL if the pages have changed since,
 * TANDEM_ERROR_CONTEXT if it would see no cell, or one that is not there. */
status kv_borrow_check(const kv_borrow *b, int32_t seq, int64_t position, error *err);

/* ---- store.c ----------------------------------------------------------------------------------------------------- */

typedef struct kv_layer {      /* geometry of one layer, then where it lies */
  int32_t n_heads, k_dim, v_dim;
  size_t k_offset, v_offset;   /* of page 0 in the store; a multiple of 64 */
  size_t k_page, v_page;       /* bytes of a page: n_heads blocks, each a multiple of 64 */
  size_t k_block, v_block;     /* bytes of a block: KV_PAGE rows of k_dim (v_dim) values, rounded up to 64 */
} kv_layer;

typedef struct kv_store_shape {
  int32_t n_pages, n_layers;
  quant_type k_type, v_type;   /* F32, F16, BF16, Q8_0 */
} kv_store_shape;

/* Fills the offsets of `layers` [n_layers] from their geometry and gives the bytes of the whole store. A dim that is not
 * a whole number of blocks of the type is an error naming both. */
status kv_store_layout(const kv_store_shape *shape, kv_layer *layers, size_t *n_bytes, error *err);
/* Can a reader with the given query heads (n_heads) and sizes read what the source layer holds? The error names both. */
status kv_borrow_fits(const kv_layer *source, const char *source_name, int32_t i_source, const kv_layer *reader, int32_t i_reader, error *err);
/* Copies the cells of a page in all layers. `bytes` is the store's memory. */
void kv_store_copy(const kv_store_shape *shape, const kv_layer *layers, void *bytes, kv_copy copy);

/* ---- save.c: the cells of a sequence as bytes, and back ---------------------------------------------------------- */

/* One sequence of one group, with all that it takes to find its bytes. Borrowed. */
typedef struct kv_cells {
  kv_pages *pages;
  int32_t sequence;
  const kv_store_shape *shape;
  const kv_layer *layers;
  void *store;
  const device_ops *ops;
  const device *device;
} kv_cells;

/* Takes the next n bytes. */
typedef status kv_sink(void *user, const void *bytes, size_t n, error *err);

/* Bytes of n cells in all layers; false if they cannot be counted. */
bool kv_saved_bytes(const kv_cells *c, int64_t n, size_t *n_bytes);
/* Bytes of scratch that kv_save needs: one page of rows. */
size_t kv_save_scratch(const kv_cells *c);
/* Hands the cells first .. length - 1 to the sink. Equal cells give equal bytes, whatever pages they lie on. */
status kv_save(const kv_cells *c, void *scratch, kv_sink *sink, void *user, error *err);
/* The sequence gets positions first .. length - 1, which kv_pages_restore_check has accepted. `bytes` are those of positions
 * saved .. length - 1 with saved <= first: what lies before `first` is left out. Cannot fail. */
void kv_restore(const kv_cells *c, int64_t saved, int64_t first, int64_t length, const void *bytes);

#endif
