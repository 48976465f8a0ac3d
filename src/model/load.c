/* load.c: opens a model (keys, then tensors) and brings its weights into the device's layout, tensor by tensor, letting go
 * of the file's pages behind it. What a packed file has in that layout is mapped where it can be, and copied where not. */
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

/* Bytes of the file that are mapped at once: large enough for all threads, small beside a model. */
enum { STRETCH = 16 << 20 };

/* Rows that are read at once, a multiple of DEVICE_ROWS. */
static int64_t stretch_rows(size_t row_bytes) {
  int64_t n = (int64_t)(STRETCH / row_bytes) / DEVICE_ROWS * DEVICE_ROWS;
  return n ? n : DEVICE_ROWS;
}

/* One slab, stretch by stretch; the file's pages are let go of behind each. `first`: of the slab's bytes in the source. */
static status load_slab(const model_weight *w, const gguf *g, const device_ops *ops, device *d, size_t first, const uint8_t *from, char *to,
                        error *err) {
  size_t row = quant_row_bytes(w->source->type, w->source->dims[0]), at = 0;
  int64_t most = stretch_rows(row);
  op_value part = w->value;
  part.n_slabs = 1;
  for (int64_t r = 0; r < w->value.rows; r += most, at += part.slab) {
    size_t offset = first + (size_t)r * row;
    part.rows = w->value.rows - r < most ? w->value.rows - r : most;
    TRY(ops->weight_layout(d, &part, err));
    if (w->source->panels) memcpy(to + at, from + offset, part.extent);
    else TRY(ops->weight_load(d, &part, from + offset, to + at, err));
    if (w->value.rows > most) gguf_dont_need_part(g, w->source, offset, (uint64_t)part.rows * row);
  }
  return TANDEM_OK;
}

/* Each slab on its own: a part of a fused tensor is not contiguous over slabs. */
static status load_matrix(const model_weight *w, const gguf *g, const device_ops *ops, device *d, const uint8_t *from, char *to, error *err) {
  size_t row = quant_row_bytes(w->source->type, w->source->dims[0]), slab = row * (size_t)w->source->dims[1], kept = 0;
  for (int64_t s = 0; s < w->value.n_slabs; s++) {
    size_t first = (size_t)s * slab + (size_t)w->first_row * row;
    TRY(load_slab(w, g, ops, d, first, from, to + (size_t)s * w->value.slab, err));
    kept += slab;
    if (kept < STRETCH) continue;
    gguf_dont_need_part(g, w->source, (size_t)(s + 1) * slab - kept, kept);
    kept = 0;
  }
  return TANDEM_OK;
}

/* Bytes of the file that are mapped while a weight is loaded: all of a vector, one stretch of a large slab, of small ones as many
 * as make a stretch. */
static size_t mapped_for(const model_weight *w) {
  const gguf_tensor *t = w->source;
  size_t row = quant_row_bytes(t->type, t->dims[0]), slab = row * (size_t)t->dims[1], stretch = (size_t)stretch_rows(row) * row;
  if (w->mapped) return 0;
  if (w->ordered || arch_tensors[w->tensor].dims[1] == DIM_NONE || slab == 0) return t->n_bytes;
  size_t n = slab > stretch ? stretch : (STRETCH + slab - 1) / slab * slab;
  return n < t->n_bytes ? n : t->n_bytes;
}

size_t model_load_bytes(const model *m) {
  size_t most = m->weight_bytes;
  for (int32_t i = 0; i < m->n_weights; i++) { /* those in front of it are there, those behind are not */
    const op_value *v = &m->weights[i].value;
    size_t n = v->offset + v->extent + mapped_for(&m->weights[i]);
    if (n > most) most = n;
  }
  return most - m->weight_bytes;
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

static status load_weight(const model *m, const model_weight *w, const gguf *g, const device_ops *ops, device *d, char *to, error *err) {
  const uint8_t *from;
  TRY(gguf_tensor_bytes(g, w->source, &from, err));
  if (w->tensor == T_ORDERING) return load_order(m, w, from, (float *)(void *)to, err);
  if (w->ordered) return load_ordered(m, w, ops, d, from, to, err);
  if (arch_tensors[w->tensor].dims[1] != DIM_NONE) return load_matrix(w, g, ops, d, from, to, err);
  load_vector(w, from + (size_t)w->first_row * quant_row_bytes(w->source->type, 1), to);
  return TANDEM_OK;
}

/* How far loading is, and whom to tell. */
typedef struct advance {
  tandem_progress_fn *tell;
  void *user;
  uint64_t done, total;
} advance;

static status tell(const advance *a, error *err) {
  if (!a->tell || a->tell(a->user, "load", a->done, a->total)) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_CANCELLED, NULL, "loading was cancelled");
}

enum { BRING = 64 << 20 }; /* bytes that stay in their file and are brought in at once */

static status bring_mapped(const model *m, const device_ops *ops, device *d, const char *region, advance *a, error *err) {
  for (size_t at = 0, n; at < m->mapped_bytes; at += n) {
    size_t left = m->mapped_bytes - at;
    n = left < BRING ? left : BRING;
    TRY(tell(a, err));
    ops->weight_bring(d, region + at, n, left - n < BRING ? left - n : BRING);
    a->done += n;
  }
  return TANDEM_OK;
}

status model_load(model *m, const gguf *g, const device_ops *ops, device *d, void *region, os_mapping **mapped,
                  tandem_progress_fn *progress, void *user, error *err) {
  advance a = {.tell = progress, .user = user, .total = m->mapped_bytes};
  *mapped = NULL;
  for (int32_t i = 0; i < m->n_weights; i++) a.total += m->weights[i].mapped ? 0 : m->weights[i].value.extent;
  if (m->mapped_bytes) {
    TRY(gguf_map(g, m->mapped_from, m->mapped_bytes, region, mapped, err));
    TRY(bring_mapped(m, ops, d, region, &a, err));
  }
  for (int32_t i = 0; i < m->n_weights; i++) {
    const model_weight *w = &m->weights[i];
    if (w->mapped) continue;
    TRY(tell(&a, err));
    if (i + 1 < m->n_weights && !m->weights[i + 1].mapped) gguf_will_need(g, m->weights[i + 1].source);
    TRY(load_weight(m, w, g, ops, d, (char *)region + w->value.offset, err));
    if (i + 1 == m->n_weights || m->weights[i + 1].source != w->source) gguf_dont_need(g, w->source);
    a.done += w->value.extent;
  }
  TRY(tell(&a, err));
  if (*mapped) TRY(os_mapping_check(*mapped, err));
  return gguf_check(g, err);
}
