/* load.c: opens a model (keys, then tensors) and brings its weights into the device's layout, tensor by tensor, letting go
 * of the file's pages behind it. */
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
    if (arch_tensors[w->tensor].dims[1] == DIM_NONE) load_vector(w, from + (size_t)w->first_row * quant_row_bytes(w->source->type, 1), to);
    else TRY(load_matrix(w, ops, d, from, to, err));
    if (i + 1 == m->n_weights || m->weights[i + 1].source != w->source) gguf_dont_need(g, w->source);
    done += w->value.extent;
  }
  if (progress && !progress(user, "load", total, total)) return base_fail(err, TANDEM_ERROR_CANCELLED, NULL, "loading was cancelled");
  return TANDEM_OK;
}
