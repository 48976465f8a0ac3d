/* borrow: a drafter's hold on a target's cells. It is made from the source and has no size of its own: no function here takes
 * a number of cells, and there is none to append, truncate, clear, resize or save. The lender counts its borrowers and is not
 * closed before they are. What the pages were when the borrow was renewed is remembered as their generation: a read after
 * the pages changed behind the borrower's back is an error, not a read. */
#include "kv/kv.h"

status kv_borrow_fits(const kv_layer *source, const char *source_name, int32_t i_source, const kv_layer *reader, int32_t i_reader, error *err) {
  if (reader->k_dim != source->k_dim || reader->v_dim != source->v_dim)
    return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "attention.key_length",
                     "drafter's layer %d reads keys of %d and values of %d, %s layer %d of the target holds %d and %d", i_reader, reader->k_dim,
                     reader->v_dim, source_name, i_source, source->k_dim, source->v_dim);
  if (source->n_heads < 1 || reader->n_heads % source->n_heads)
    return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "attention.head_count",
                     "drafter's layer %d has %d query heads, no multiple of the %d K/V heads of %s layer %d of the target", i_reader,
                     reader->n_heads, source->n_heads, source_name, i_source);
  return TANDEM_OK;
}

void kv_borrow_open(kv_borrow *b, kv_pages *source) {
  kv_pages_lend(source);
  b->pages = source;
  b->generation = kv_pages_generation(source);
}

void kv_borrow_close(kv_borrow *b) {
  if (b->pages) kv_pages_return(b->pages);
  b->pages = NULL;
}

void kv_borrow_renew(kv_borrow *b) { b->generation = kv_pages_generation(b->pages); }

status kv_borrow_check(const kv_borrow *b, int32_t seq, int64_t position, error *err) {
  if (!b->pages) return base_fail(err, TANDEM_ERROR_INTERNAL, "borrow", "the borrow was given back");
  if (b->generation != kv_pages_generation(b->pages))
    return base_fail(err, TANDEM_ERROR_INTERNAL, "borrow", "the borrow is stale: the pages are of generation %llu, it was made for %llu",
                     (unsigned long long)kv_pages_generation(b->pages), (unsigned long long)b->generation);
  int64_t first = kv_pages_first(b->pages, seq), length = kv_pages_length(b->pages, seq), window = kv_pages_get_shape(b->pages)->window;
  int64_t from = window > 0 && position >= window ? position - window + 1 : 0, to = position < length ? position : length - 1;
  if (position < 0 || position > length || from > to || from < first)
    return base_fail(err, TANDEM_ERROR_CONTEXT, "borrow", "sequence %d: position %lld would see cells %lld to %lld, there are %lld to %lld", seq,
                     (long long)position, (long long)from, (long long)to, (long long)first, (long long)length - 1);
  return TANDEM_OK;
}
