/* pack.c: writes a copy of a model whose matrices lie as the device keeps them, so that opening it reads and writes no weights: they are
 * used where they lie in the file (model/load). Same weights, same bits. */
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

enum { PACK_ALIGNMENT = 64, PACK_STRETCH = 16 << 20 };

typedef struct packer {
  const device_ops *ops;
  device *device;
  gguf *g;
  model *model;
  gguf_writer *w;
  void *buffer; /* PACK_STRETCH bytes, or DEVICE_ROWS rows of the longest */
  size_t buffer_bytes;
  tandem_progress_fn *progress;
  void *user;
  tandem_pack_info *info;
} packer;

/* Keys that say how a file is made, not what is in it. */
bool engine_is_container_key(const char *name) {
  return !strcmp(name, "general.alignment") || !strcmp(name, "tandem.panels") || !strncmp(name, "split.", 6);
}

/* Every weight made from the tensor can come from panels. */
static bool packs(const packer *p, const gguf_tensor *t) {
  bool some = false;
  for (int32_t i = 0; i < p->model->n_weights; i++) {
    const model_weight *w = &p->model->weights[i];
    if (w->source != t) continue;
    if (!model_packs(w)) return false;
    some = true;
  }
  return some;
}

/* Rows that are packed at once. */
static int64_t rows_at_once(const gguf_tensor *t) {
  int64_t n = (int64_t)(PACK_STRETCH / quant_row_bytes(t->type, t->dims[0])) / DEVICE_ROWS * DEVICE_ROWS;
  if (n == 0) n = DEVICE_ROWS;
  return n < t->dims[1] ? n : t->dims[1];
}

static status announce(packer *p, error *err) {
  for (size_t i = 0; i < gguf_n_keys(p->g); i++)
    if (!engine_is_container_key(gguf_key_at(p->g, i)->name)) gguf_write_key(p->w, gguf_key_at(p->g, i));
  gguf_write_int(p->w, "general.alignment", GGUF_U32, PACK_ALIGNMENT);
  gguf_write_int(p->w, "tandem.panels", GGUF_U32, p->ops->panels);
  for (size_t i = 0; i < gguf_n_tensors(p->g); i++) {
    const gguf_tensor *t = gguf_tensor_at(p->g, i);
    const uint8_t *bytes;
    TRY(gguf_tensor_bytes(p->g, t, &bytes, err)); /* a type that is not known cannot be copied */
    p->info->n_tensors++;
    p->info->n_bytes += t->n_bytes;
    if (!t->panels && !packs(p, t)) {
      gguf_write_tensor(p->w, t->name, t->type, t->n_dims, t->dims, NULL);
      continue;
    }
    gguf_write_panels(p->w, t->name, t->type, t->n_dims, t->dims, NULL);
    p->info->n_packed++;
    p->info->n_packed_bytes += t->n_bytes;
    size_t bytes_at_once = (size_t)rows_at_once(t) * quant_row_bytes(t->type, t->dims[0]);
    if (bytes_at_once > p->buffer_bytes) p->buffer_bytes = bytes_at_once;
  }
  return TANDEM_OK;
}

static status report(const packer *p, uint64_t done, error *err) {
  if (!p->progress || p->progress(p->user, "pack", done, p->info->n_bytes)) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_CANCELLED, NULL, "packing was cancelled");
}

static status copy_tensor(packer *p, const gguf_tensor *t, const uint8_t *from, uint64_t *done, error *err) {
  for (uint64_t at = 0, n; at < t->n_bytes; at += n) {
    n = t->n_bytes - at < PACK_STRETCH ? t->n_bytes - at : PACK_STRETCH;
    TRY(gguf_writer_add(p->w, from + at, n, err));
    TRY(report(p, *done += n, err));
  }
  return TANDEM_OK;
}

/* Slab by slab, some rows of it at once: device.h says that they lie as they would in the whole. */
static status pack_tensor(packer *p, const gguf_tensor *t, const uint8_t *from, uint64_t *done, error *err) {
  const int64_t rows = t->dims[1], most = rows_at_once(t);
  const size_t row = quant_row_bytes(t->type, t->dims[0]);
  op_value v = {.name = t->name, .type = t->type, .layout = OP_PANELS, .home = OP_WEIGHT, .cols = t->dims[0], .n_slabs = 1, .view_of = -1};
  for (int64_t s = 0; s < t->dims[2]; s++)
    for (int64_t r = 0; r < rows; r += most) {
      v.rows = rows - r < most ? rows - r : most;
      TRY(p->ops->weight_layout(p->device, &v, err));
      if (v.extent != (size_t)v.rows * row || v.extent > p->buffer_bytes)
        return base_fail(err, TANDEM_ERROR_INTERNAL, t->name, "%s: %zu bytes in panels, %zu in rows", t->name, v.extent, (size_t)v.rows * row);
      TRY(p->ops->weight_load(p->device, &v, from + (size_t)(s * rows + r) * row, p->buffer, err));
      TRY(gguf_writer_add(p->w, p->buffer, v.extent, err));
      TRY(report(p, *done += v.extent, err));
    }
  return TANDEM_OK;
}

static status write_tensors(packer *p, error *err) {
  uint64_t done = 0;
  TRY(report(p, 0, err));
  for (size_t i = 0; i < gguf_n_tensors(p->g); i++) {
    const gguf_tensor *t = gguf_tensor_at(p->g, i);
    const uint8_t *from;
    TRY(gguf_tensor_bytes(p->g, t, &from, err));
    if (t->panels || !packs(p, t)) TRY(copy_tensor(p, t, from, &done, err));
    else TRY(pack_tensor(p, t, from, &done, err));
    gguf_dont_need(p->g, t);
  }
  return TANDEM_OK;
}

static status pack(packer *p, const char *path, const char *out, int32_t n_threads, error *err) {
  device_params dp = {.n_threads = n_threads ? n_threads : os_processors()};
  if (os_same_file(path, out)) return base_fail(err, TANDEM_ERROR_ARGUMENT, "path", "%s: is the model itself", out);
  TRY(gguf_open(&p->g, path, err));
  p->ops = device_find("cpu");
  TRY(p->ops->open(&p->device, &dp, err));
  TRY(model_open(&p->model, p->g, p->ops, p->device, err));
  TRY(gguf_writer_open(&p->w, err));
  TRY(announce(p, err));
  TRY(base_map(&p->buffer, p->buffer_bytes, true, "panels", err));
  TRY(gguf_writer_begin(p->w, out, err));
  TRY(write_tensors(p, err));
  TRY(gguf_check(p->g, err));
  return gguf_writer_commit(p->w, err);
}

tandem_status tandem_pack(const char *path, const char *out, int32_t n_threads, tandem_progress_fn *progress, void *user, tandem_pack_info *info,
                          tandem_error *err) {
  tandem_pack_info own = {0};
  if (!path || !path[0] || !out || !out[0]) return base_fail(err, TANDEM_ERROR_ARGUMENT, "path", "path: no file is named");
  if (n_threads < 0 || n_threads > 1024)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_threads", "n_threads: %d, must be 1 to 1024, or 0", n_threads);
  packer p = {.progress = progress, .user = user, .info = &own};
  status st = pack(&p, path, out, n_threads, err);
  bool named = err && (strstr(err->text, path) || strstr(err->text, out));
  if (st && st != TANDEM_ERROR_MEMORY && st != TANDEM_ERROR_CANCELLED && err && !named) base_fail_in(err, path);
  gguf_writer_close(p.w);
  base_unmap(p.buffer, p.buffer_bytes);
  model_close(p.model);
  if (p.ops) p.ops->close(p.device);
  gguf_close(p.g);
  if (!st && info) *info = own;
  return st;
}
