/* load.c: opens a model (keys, then tensors) and brings its weights into the device's layout, tensor by tensor, letting go
 * of the file's pages behind it. */
#include <inttypes.h>
#include <string.h>

#include "model/model.h"

status model_open(model **out, const gguf *g, const device_ops *ops, const device *d, error *err) {
  void *p = NULL;
  *out = NULL;
  TRY(base_alloc(&p, sizeof(model), "model", err));
  model *m = p;
  status st;
  TRY_DONE(arena_open(&m->memory, "model", err));
  TRY_DONE(model_read_keys(m, g, err));
  TRY_DONE(model_bind(m, g, ops, d, err));
  *out = m;
  return TANDEM_OK;
done:
  model_close(m);
  return st;
}

void model_close(model *m) {
  if (!m) return;
  arena_close(m->memory);
  base_free(m);
}

/* A vector of any type becomes f32. */
static void load_vector(const model_weight *w, const uint8_t *from, char *to) {
  quant_table[w->source->type].decode(from, (float *)(void *)to, w->value.cols);
}

/* Each slab on its own: a part of a fused tensor is not contiguous over slabs. */
static status load_matrix(const model_weight *w, const device_ops *ops, device *d, const uint8_t *from, char *to, error *err) {
  size_t row = quant_row_bytes(w->source->type, w->source->dims[0]);
  size_t slab = row * (size_t)w->source->dims[1];
  op_value one = w->value;
  one.n_slabs = 1;
  one.extent = w->value.slab;
  for (int64_t s = 0; s < w->value.n_slabs; s++)
    TRY(ops->weight_load(d, &one, from + (size_t)s * slab + (size_t)w->first_row * row, to + (size_t)s * w->value.slab, err));
  return TANDEM_OK;
}

/* The order of the tokens: every id once. It is also a weight, as floats, which hold ids of this size exactly. */
static status load_order(const model *m, const model_weight *w, const uint8_t *from, float *to, error *err) {
  bool wide = w->source->type == QUANT_I64;
  for (int64_t i = 0; i < m->n_vocab; i++) m->order[i] = -1;
  for (int64_t i = 0; i < m->n_vocab; i++) { /* order is its own inverse while it is checked: order[id] = place */
    int64_t id = 0;
    int32_t narrow;
    memcpy(wide ? (void *)&id : (void *)&narrow, from + (size_t)i * (wide ? 8 : 4), wide ? 8 : 4);
    if (!wide) id = narrow;
    if (id < 0 || id >= m->n_vocab || m->order[id] >= 0)
      return base_fail(err, TANDEM_ERROR_FORMAT, w->source->name, "%s: entry %" PRId64 " is %" PRId64 ", every id from 0 to %" PRId64 " expected once",
                       w->source->name, i, id, m->n_vocab - 1);
    m->order[id] = (int32_t)i;
    to[i] = (float)id;
  }
  for (int64_t i = 0; i < m->n_vocab; i++) m->order[i] = (int32_t)to[i];
  return TANDEM_OK;
}

/* Gathers the rows of each slab before they are packed. */
static status load_ordered(const model *m, const model_weight *w, const device_ops *ops, device *d, const uint8_t *from, char *to, error *err) {
  size_t row = quant_row_bytes(w->source->type, w->source->dims[0]);
  void *rows;
  TRY(base_alloc_array(&rows, (size_t)w->value.rows, row, "rows of a cluster", err));
  op_value one = w->value;
  one.n_slabs = 1;
  one.extent = w->value.slab;
  status st = TANDEM_OK;
  for (int64_t s = 0; s < w->value.n_slabs && !st; s++) {
    for (int64_t i = 0; i < w->value.rows; i++)
      memcpy((char *)rows + (size_t)i * row, from + (size_t)m->order[s * w->value.rows + i] * row, row);
    st = ops->weight_load(d, &one, rows, to + (size_t)s * w->value.slab, err);
  }
  base_free(rows);
  return st;
}

status model_load(model *m, const gguf *g, const device_ops *ops, device *d, void *region, tandem_progress_fn *progress,
                  void *user, error *err) {
  uint64_t total = 0, done = 0;
  for (int32_t i = 0; i < m->n_weights; i++) total += m->weights[i].value.extent;
  for (int32_t i = 0; i < m->n_weights; i++) {
    const model_weight *w = &m->weights[i];
    const uint8_t *from;
    char *to = (char *)region + w->value.offset;
    if (progress && !progress(user, "load", done, total))
      return base_fail(err, TANDEM_ERROR_CANCELLED, NULL, "loading was cancelled");
    if (i + 1 < m->n_weights) gguf_will_need(g, m->weights[i + 1].source);
    TRY(gguf_tensor_bytes(g, w->source, &from, err));
    if (w->tensor == T_ORDERING) TRY(load_order(m, w, from, (float *)(void *)to, err));
    else if (w->ordered) TRY(load_ordered(m, w, ops, d, from, to, err));
    else if (arch_tensors[w->tensor].dims[1] == DIM_NONE) load_vector(w, from + (size_t)w->first_row * quant_row_bytes(w->source->type, 1), to);
    else TRY(load_matrix(w, ops, d, from, to, err));
    if (i + 1 == m->n_weights || m->weights[i + 1].source != w->source) gguf_dont_need(g, w->source);
    done += w->value.extent;
  }
  if (progress && !progress(user, "load", total, total)) return base_fail(err, TANDEM_ERROR_CANCELLED, NULL, "loading was cancelled");
  return TANDEM_OK;
}
