/* save: the cells of one sequence of one group as a run of bytes. Owns nothing, knows no file.
 *
 *   layer 0: K [block][head][cell] row  V [block][head][cell] row | layer 1: ...     a row: dim values, encoded as in quant.h
 *
 * Only cells that are there: the first and the last block may be partly used, and what else lies on their pages is not looked
 * at. So equal cells give equal bytes, and the bytes do not depend on the pages or on a device's order inside a block. */
#include "kv/kv.h"

/* K or V of one layer. */
typedef struct side {
  bool v;
  quant_type type;
  int32_t n_heads, dim;
  size_t row;                    /* bytes of a cell of one head */
  size_t offset, page, block;    /* in the store, as in kv_layer */
} side;

static side side_of(const kv_cells *c, int32_t i_layer, bool v) {
  const kv_layer *l = &c->layers[i_layer];
  quant_type type = v ? c->shape->v_type : c->shape->k_type;
  int32_t dim = v ? l->v_dim : l->k_dim;
  return (side){.v = v, .type = type, .n_heads = l->n_heads, .dim = dim, .row = quant_row_bytes(type, dim),
                .offset = v ? l->v_offset : l->k_offset, .page = v ? l->v_page : l->k_page, .block = v ? l->v_block : l->k_block};
}

/* Where a head's part of a block lies. */
static char *block_at(const kv_cells *c, const side *s, int64_t block, int32_t head) {
  size_t page = (size_t)kv_pages_table(c->pages, c->sequence)[block];
  return (char *)c->store + s->offset + page * s->page + (size_t)head * s->block;
}

/* Cells of a block among positions first .. length - 1. */
static void cells_of(int64_t block, int64_t first, int64_t length, int32_t *from, int32_t *to) {
  int64_t start = block * KV_PAGE;
  *from = first > start ? (int32_t)(first - start) : 0;
  *to = length - start < KV_PAGE ? (int32_t)(length - start) : KV_PAGE;
}

bool kv_saved_bytes(const kv_cells *c, int64_t n, size_t *n_bytes) {
  size_t cell = 0;
  for (int32_t i = 0; i < c->shape->n_layers; i++)
    for (int v = 0; v < 2; v++) {
      side s = side_of(c, i, v);
      cell += (size_t)s.n_heads * s.row; /* kv_store_layout has checked 256 times as much */
    }
  return n >= 0 && size_mul(cell, (size_t)n, n_bytes);
}

size_t kv_save_scratch(const kv_cells *c) {
  size_t most = 0;
  for (int32_t i = 0; i < c->shape->n_layers; i++) {
    const kv_layer *l = &c->layers[i];
    if (l->k_page > most) most = l->k_page;
    if (l->v_page > most) most = l->v_page;
  }
  return most;
}

static status save_side(const kv_cells *c, const side *s, void *scratch, kv_sink *sink, void *user, error *err) {
  int64_t first = kv_pages_first(c->pages, c->sequence), length = kv_pages_length(c->pages, c->sequence);
  for (int64_t block = first / KV_PAGE; block * KV_PAGE < length && first < length; block++) {
    int32_t from, to;
    cells_of(block, first, length, &from, &to);
    size_t n = (size_t)(to - from) * s->row;
    for (int32_t head = 0; head < s->n_heads; head++)
      c->ops->cells_get(c->device, s->type, s->v, s->dim, block_at(c, s, block, head), from, to, (char *)scratch + (size_t)head * n);
    TRY(sink(user, scratch, n * (size_t)s->n_heads, err));
  }
  return TANDEM_OK;
}

status kv_save(const kv_cells *c, void *scratch, kv_sink *sink, void *user, error *err) {
  for (int32_t i = 0; i < c->shape->n_layers; i++)
    for (int v = 0; v < 2; v++) {
      side s = side_of(c, i, v);
      TRY(save_side(c, &s, scratch, sink, user, err));
    }
  return TANDEM_OK;
}

/* Walks all saved blocks, puts in those cells that are wanted, and returns where the next side begins. */
static const char *restore_side(const kv_cells *c, const side *s, int64_t saved, int64_t first, int64_t length, const char *bytes) {
  for (int64_t block = saved / KV_PAGE; block * KV_PAGE < length && saved < length; block++) {
    int32_t from, to, wanted, unused;
    cells_of(block, saved, length, &from, &to);
    cells_of(block, first, length, &wanted, &unused);
    for (int32_t head = 0; head < s->n_heads; head++, bytes += (size_t)(to - from) * s->row)
      if (wanted < to)
        c->ops->cells_put(c->device, s->type, s->v, s->dim, block_at(c, s, block, head), wanted, to,
                          bytes + (size_t)(wanted - from) * s->row);
  }
  return bytes;
}

void kv_restore(const kv_cells *c, int64_t saved, int64_t first, int64_t length, const void *bytes) {
  if (kv_pages_restore(c->pages, c->sequence, first, length, NULL)) return; /* never: it was checked */
  const char *at = bytes;
  for (int32_t i = 0; i < c->shape->n_layers; i++)
    for (int v = 0; v < 2; v++) {
      side s = side_of(c, i, v);
      at = restore_side(c, &s, saved, first, length, at);
    }
}
