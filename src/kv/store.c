/* store: where the K and V bytes of a group lie. Owns nothing: the memory is the caller's, of the size given here.
 *
 *   layer 0: K [page][head][block]  V [page][head][block] | layer 1: ...      every block starts at a multiple of 64
 *
 * Does not know the order of values inside a block (the device's business), nor which pages are in use. */
#include "kv/kv.h"

#include <string.h>

enum { STORE_ALIGN = 64 }; /* a cache line, and the widest vector */

static const quant_type store_types[] = {QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q8_0};

static status check_type(const char *field, quant_type type, error *err) {
  for (size_t i = 0; i < COUNT_OF(store_types); i++)
    if (store_types[i] == type) return TANDEM_OK;
  const quant_info *info = quant_find(type);
  return base_fail(err, TANDEM_ERROR_UNSUPPORTED, field, "K/V store: element type %d (%s), must be F32, F16, BF16 or Q8_0",
                   (int)type, info ? info->name : "unknown");
}

/* Bytes of a block of KV_PAGE rows of dim values. */
static status block_bytes(const char *field, int32_t i_layer, quant_type type, int32_t dim, size_t *n_bytes, error *err) {
  size_t row = dim < 1 ? 0 : quant_row_bytes(type, dim), rows, padded;
  if (row == 0)
    return base_fail(err, TANDEM_ERROR_UNSUPPORTED, field,
                     "K/V store: layer %d: %s is %d, must be a whole number of blocks of %d (%s)", i_layer, field, dim,
                     quant_table[type].block, quant_table[type].name);
  if (!size_mul(row, KV_PAGE, &rows) || !size_add(rows, STORE_ALIGN - 1, &padded))
    return base_fail(err, TANDEM_ERROR_MEMORY, field, "K/V store: layer %d: %d rows of %zu bytes do not fit", i_layer, KV_PAGE,
                     row);
  *n_bytes = size_align(rows, STORE_ALIGN);
  return TANDEM_OK;
}

/* Lays the n_pages pages of one region behind what is there. */
static status place_region(const kv_store_shape *shape, int32_t i_layer, int32_t n_heads, size_t block, size_t *page,
                           size_t *offset, size_t *n_bytes, error *err) {
  size_t region, end;
  if (!size_mul(block, (size_t)n_heads, page) || !size_mul(*page, (size_t)shape->n_pages, &region) ||
      !size_add(*n_bytes, region, &end))
    return base_fail(err, TANDEM_ERROR_MEMORY, NULL, "K/V store: layer %d: %d pages of %d heads x %zu bytes do not fit",
                     i_layer, shape->n_pages, n_heads, block);
  *offset = *n_bytes;
  *n_bytes = end;
  return TANDEM_OK;
}

static status layout_layer(const kv_store_shape *shape, int32_t i, kv_layer *l, size_t *n_bytes, error *err) {
  if (l->n_heads < 1)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_heads", "K/V store: layer %d: %d heads, must be at least 1", i, l->n_heads);
  TRY(block_bytes("k_dim", i, shape->k_type, l->k_dim, &l->k_block, err));
  TRY(block_bytes("v_dim", i, shape->v_type, l->v_dim, &l->v_block, err));
  TRY(place_region(shape, i, l->n_heads, l->k_block, &l->k_page, &l->k_offset, n_bytes, err));
  return place_region(shape, i, l->n_heads, l->v_block, &l->v_page, &l->v_offset, n_bytes, err);
}

status kv_store_layout(const kv_store_shape *shape, kv_layer *layers, size_t *n_bytes, error *err) {
  *n_bytes = 0;
  if (shape->n_pages < 1)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_pages", "K/V store: %d pages, must be at least 1", shape->n_pages);
  if (shape->n_layers < 1)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_layers", "K/V store: %d layers, must be at least 1", shape->n_layers);
  TRY(check_type("k_type", shape->k_type, err));
  TRY(check_type("v_type", shape->v_type, err));
  size_t total = 0;
  for (int32_t i = 0; i < shape->n_layers; i++) TRY(layout_layer(shape, i, &layers[i], &total, err));
  *n_bytes = total;
  return TANDEM_OK;
}

void kv_store_copy(const kv_store_shape *shape, const kv_layer *layers, void *bytes, kv_copy copy) {
  if (copy.from < 0 || copy.to < 0 || copy.from == copy.to) return;
  for (int32_t i = 0; i < shape->n_layers; i++) {
    const kv_layer *l = &layers[i];
    char *k = (char *)bytes + l->k_offset, *v = (char *)bytes + l->v_offset;
    memcpy(k + (size_t)copy.to * l->k_page, k + (size_t)copy.from * l->k_page, l->k_page);
    memcpy(v + (size_t)copy.to * l->v_page, v + (size_t)copy.from * l->v_page, l->v_page);
  }
}
