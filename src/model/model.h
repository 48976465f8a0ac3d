/* model: gguf + arch -> dimensions, weights bound and checked, then loaded into a device's layout.
 *
 * Owns the layers, the list of weights and where each will lie; not the file (borrowed until the weights are loaded) and not
 * the memory of the weights. Constant after model_open. Does not know what a plan does with a weight. */
#ifndef MODEL_H
#define MODEL_H

#include "arch/arch.h"
#include "device/device.h"
#include "gguf/gguf.h"

typedef struct model_weight {
  op_value value;            /* home OP_WEIGHT, offset in the region of all weights */
  const gguf_tensor *source; /* borrowed from the gguf */
  int64_t first_row;         /* of the source's rows (of each slab): a part of a fused tensor */
  arch_tensor tensor;
  bool ordered;              /* its rows are the source's rows model->order, cut into slabs */
  bool mapped;               /* the file's bytes are used where they lie */
} model_weight;

enum { ROPE_FULL, ROPE_SLIDING, ROPE_SETS };

typedef struct model_layer {
  int32_t n_heads, n_heads_kv, k_dim, v_dim;
  int64_t n_ff;
  bool sliding;            /* sees the last `window` positions only */
  bool experts;
  int32_t kv_layer;        /* layer whose K/V it reads; itself if it owns them */
  int32_t cache;           /* index of that layer among those that own K/V */
  int32_t weight[T_COUNT]; /* index into weights, -1 = absent */
} model_layer;

typedef struct model {
  const arch *arch;
  arch_keys keys;
  const char *name;            /* general.name or "" */
  int64_t n_vocab;
  int64_t n_clusters;          /* of a head in clusters; 0 = the head is whole */
  int32_t n_clusters_used;
  int32_t *order;              /* [n_vocab] token of each row of T_CLUSTERS; filled by model_load */
  int32_t n_layers;            /* of the trunk */
  model_layer *layers;
  int32_t n_caches;            /* layers that own K/V */
  op_rope rope[ROPE_SETS];
  double q_scale;              /* 0 = 1 / sqrt(k_dim) of the layer */
  int32_t weight[T_MODEL_END];
  model_weight *weights;
  int32_t n_weights;
  size_t weight_bytes;         /* the region of all weights */
  uint64_t mapped_from;        /* the region begins with mapped_bytes of the file from here on; 0 bytes: with none. Packed files only */
  size_t mapped_bytes;
  uint64_t n_params;           /* elements of the bound tensors */
  size_t n_ignored;            /* tensors of the file that the architecture does not use */
  arena *memory;
} model;

/* Reads keys, binds and checks tensors, lays the weights out for the device. `g` is borrowed until model_load. */
status model_open(model **m, const gguf *g, const device_ops *ops, const device *d, error *err);
void model_close(model *m); /* NULL is allowed */

/* Brings all weights into `region` (model->weight_bytes, zeroed, aligned to pages). Calls progress (may be NULL) with bytes
 * of the file. *mapped: what is mapped over the region's beginning, or NULL; the caller closes it before he unmaps the region. */
status model_load(model *m, const gguf *g, const device_ops *ops, device *d, void *region, os_mapping **mapped,
                  tandem_progress_fn *progress, void *user, error *err);
/* Whether the tensor of w, all of it, can lie in a file as the device keeps it, in as many bytes as in rows. */
bool model_packs(const model_weight *w);

/* Size of a dimension for layer i (-1 for the model's own tensors). */
int64_t model_dim(const model *m, int i_layer, arch_dim dim);

/* Whether a layer has a block of its architecture's list. */
bool model_has_block(const model *m, const arch_block *block, const model_layer *l);

/* By how much model_load exceeds weight_bytes at its peak: pages of the file are mapped beside the weights loaded so far. */
size_t model_load_bytes(const model *m);

/* ---- within model/ ----------------------------------------------------------------------------------------------- */

/* keys.c: fills arch, keys, name and the layers' sizes from the file. */
status model_read_keys(model *m, const gguf *g, error *err);
/* bind.c: fills weights from the tensors. */
status model_bind(model *m, const gguf *g, const device_ops *ops, const device *d, error *err);
/* rope.c: the rotation of full and of sliding layers. */
status model_rope(model *m, const gguf *g, error *err);
/* The value of "{arch}.name": the key or NULL. */
const gguf_key *model_key(const model *m, const gguf *g, const char *name);
/* One integer for layer i of a key that holds one for all layers or one for each; in [min, max]. Absent: `otherwise`. */
status model_layer_int(const model *m, const gguf *g, const char *name, int i, int64_t otherwise, int64_t min, int64_t max,
                       int64_t *v, error *err);

#endif
