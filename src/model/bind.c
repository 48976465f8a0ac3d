/* bind.c: from an architecture's blocks to the tensors they need: found by name, shape and type checked, laid out for the
 * device in one region. Fused tensors (attn_qkv, ffn_gate_up_exps) are bound as parts, each a range of their rows.
 *
 * A wrong tensor is an error with its name, both shapes and the offset of its record. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

enum { WEIGHT_ALIGN = 64 };

typedef struct binder {
  model *m;
  const gguf *g;
  const device_ops *ops;
  const device *device;
  int32_t capacity;
  error *err;
} binder;

int64_t model_dim(const model *m, int i, arch_dim dim) {
  const arch_keys *k = &m->keys;
  const model_layer *l = i >= 0 ? &m->layers[i] : NULL;
  switch (dim) {
  case DIM_ONE: return 1;
  case DIM_E: return k->n_embd;
  case DIM_V: return m->n_vocab;
  case DIM_QD: return (int64_t)l->n_heads * l->k_dim;
  case DIM_KD: return (int64_t)l->n_heads_kv * l->k_dim;
  case DIM_VD: return (int64_t)l->n_heads_kv * l->v_dim;
  case DIM_OD: return (int64_t)l->n_heads * l->v_dim;
  case DIM_QKV: return model_dim(m, i, DIM_QD) + model_dim(m, i, DIM_KD) + model_dim(m, i, DIM_VD);
  case DIM_D: return l->k_dim;
  case DIM_F: return l->n_ff;
  case DIM_FX: return k->expert_ff;
  case DIM_FX2: return 2 * k->expert_ff;
  case DIM_X: return k->n_experts;
  case DIM_P: return k->n_per_layer;
  case DIM_PL: return k->n_per_layer * m->n_layers;
  case DIM_ROT2: return m->rope[ROPE_FULL].n_rot / 2;
  case DIM_T: return k->n_embd_out;
  case DIM_T2: return 2 * k->n_embd_out;
  case DIM_C: return m->n_clusters;
  default: return 1;
  }
}

static void tensor_name(arch_tensor t, int layer, char *out, size_t n) {
  if (layer < 0) snprintf(out, n, "%s", arch_tensors[t].name);
  else snprintf(out, n, "blk.%d.%s", layer, arch_tensors[t].name);
}

static const gguf_tensor *find(const binder *b, arch_tensor t, int layer) {
  char name[96];
  tensor_name(t, layer, name, sizeof name);
  return gguf_find_tensor(b->g, name);
}

static void shape_text(int n, const int64_t *dims, char *out, size_t size) {
  size_t at = 0;
  out[0] = 0;
  for (int i = 0; i < n && at < size; i++)
    at += (size_t)snprintf(out + at, size - at, "%s%" PRId64, i ? " x " : "", dims[i]);
}

static status check_shape(const binder *b, const gguf_tensor *s, arch_tensor t, int layer) {
  int64_t want[4] = {1, 1, 1, 1};
  int n = 0;
  bool same = true;
  for (; n < 3 && arch_tensors[t].dims[n] != DIM_NONE; n++) want[n] = model_dim(b->m, layer, arch_tensors[t].dims[n]);
  for (int i = 0; i < 4; i++) same &= s->dims[i] == want[i];
  if (!same) {
    char expected[128], found[128];
    shape_text(n, want, expected, sizeof expected);
    shape_text(s->n_dims, s->dims, found, sizeof found);
    return base_fail_at(b->err, TANDEM_ERROR_FORMAT, s->name, s->info_offset, "%s: %s expected, file has %s", s->name, expected, found);
  }
  const quant_info *q = quant_find(s->type);
  if (!q || !q->decode)
    return base_fail_at(b->err, TANDEM_ERROR_UNSUPPORTED, s->name, s->info_offset,
                        "%s: type %s (%d) is not supported by this build", s->name, q ? q->name : "unknown", (int)s->type);
  if (arch_tensors[t].dims[1] == DIM_NONE && q->block > 1)
    return base_fail_at(b->err, TANDEM_ERROR_FORMAT, s->name, s->info_offset, "%s: type f32, f16 or bf16 expected, file has %s", s->name, q->name);
  return TANDEM_OK;
}

/* ---- adding a weight --------------------------------------------------------------------------------------------- */

/* Read by a matrix product (and lookups): panels. Only looked up, or a vector: rows. */
static op_layout layout_of(const binder *b, arch_tensor t) {
  if (arch_tensors[t].dims[1] == DIM_NONE) return OP_ROW_MAJOR;
  if (t == T_PL_TOKEN_EMBD) return OP_ROW_MAJOR;
  if (t == T_TOKEN_EMBD && !b->m->arch->tied_only && find(b, T_OUTPUT, -1)) return OP_ROW_MAJOR;
  return OP_PANELS;
}

static status no_panels(const binder *b, const gguf_tensor *s) {
  return base_fail_at(b->err, TANDEM_ERROR_FORMAT, s->name, s->info_offset, "%s: rows expected, file has panels", s->name);
}

/* Panels of the file are those of the device, and whole ones make the weight. */
static status check_panels(const binder *b, const model_weight *w) {
  const gguf_tensor *s = w->source;
  const gguf_key *k = gguf_find_key(b->g, "tandem.panels");
  int64_t version = 0;
  if (!k || !gguf_int(k, 0, &version) || version != b->ops->panels)
    return base_fail_at(b->err, TANDEM_ERROR_UNSUPPORTED, "tandem.panels", k ? k->offset : s->info_offset,
                        "tandem.panels: %d expected, file has %" PRId64 ": pack the original again with this version", b->ops->panels, version);
  return model_packs(w) ? TANDEM_OK : no_panels(b, s);
}

/* Rows first .. first + rows - 1 (of each slab) of tensor s become the weight t. */
static status add_weight(binder *b, const gguf_tensor *s, arch_tensor t, int64_t first, int64_t rows, int32_t *index) {
  model *m = b->m;
  if (m->n_weights == b->capacity)
    return base_fail(b->err, TANDEM_ERROR_INTERNAL, s->name, "%s: more than %d weights", s->name, b->capacity);
  model_weight *w = &m->weights[m->n_weights];
  bool vector = arch_tensors[t].dims[1] == DIM_NONE;
  *w = (model_weight){.source = s, .first_row = first, .tensor = t};
  op_value *v = &w->value;
  TRY(arena_text(m->memory, s->name, strlen(s->name), &v->name, b->err));
  v->home = OP_WEIGHT;
  v->by = OP_FIXED;
  v->layout = layout_of(b, t);
  v->type = vector ? QUANT_F32 : s->type; /* vectors are widened when loaded */
  v->rows = vector ? 1 : rows;
  v->cols = vector ? rows : s->dims[0];
  v->n_slabs = s->dims[2];
  v->view_of = -1;
  TRY(b->ops->weight_layout(b->device, v, b->err));
  if (s->panels) TRY(check_panels(b, w));
  m->n_params += (uint64_t)(v->rows * v->cols * v->n_slabs);
  *index = m->n_weights++;
  return TANDEM_OK;
}

static status missing(const binder *b, arch_tensor t, int layer) {
  char name[96], shape[128];
  int64_t want[3];
  int n = 0;
  tensor_name(t, layer, name, sizeof name);
  for (; n < 3 && arch_tensors[t].dims[n] != DIM_NONE; n++) want[n] = model_dim(b->m, layer, arch_tensors[t].dims[n]);
  shape_text(n, want, shape, sizeof shape);
  return base_fail(b->err, TANDEM_ERROR_FORMAT, name, "%s: tensor is missing, %s of %s expected", name, b->m->arch->name, shape);
}

static status bind_tensor(binder *b, arch_tensor t, int layer, bool required, int32_t *index) {
  const gguf_tensor *s = find(b, t, layer);
  if (!s) return required ? missing(b, t, layer) : TANDEM_OK;
  TRY(check_shape(b, s, t, layer));
  bool vector = arch_tensors[t].dims[1] == DIM_NONE;
  return add_weight(b, s, t, 0, vector ? s->dims[0] : s->dims[1], index);
}

/* A fused tensor stands for `n` parts, one after another in its rows. */
static status bind_fused(binder *b, arch_tensor fused, const arch_tensor *parts, const arch_dim *rows, int n, int layer, bool *found) {
  const gguf_tensor *s = find(b, fused, layer);
  *found = s != NULL;
  if (!s) return TANDEM_OK;
  TRY(check_shape(b, s, fused, layer));
  int64_t at = 0;
  for (int i = 0; i < n; i++) {
    int64_t count = model_dim(b->m, layer, rows[i]);
    TRY(add_weight(b, s, parts[i], at, count, &b->m->layers[layer].weight[parts[i]]));
    at += count;
  }
  return TANDEM_OK;
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

bool model_has_block(const model *m, const arch_block *block, const model_layer *l) {
  switch (block->when) {
  case WHEN_DENSE: return !l->experts;
  case WHEN_EXPERTS: return l->experts;
  case WHEN_PER_LAYER: return m->keys.n_per_layer > 0;
  default: return true;
  }
}

static status bind_one(binder *b, const arch_block *block, const arch_binding *need, int layer) {
  const model_layer *l = &b->m->layers[layer];
  bool own = l->kv_layer == layer, qk_norm = block->flags & ATTN_QK_NORM, own_norms = block->flags & MOE_OWN_NORMS;
  bool required = false, wanted = true;
  switch (need->need) {
  case NEED: required = true; break;
  case NEED_OWN_KV: required = wanted = own; break;
  case MAY_OWN_KV: wanted = own; break;
  case NEED_QK_NORM: required = wanted = qk_norm; break;
  case NEED_QK_NORM_KV: required = wanted = qk_norm && own; break;
  case NEED_OWN_NORMS: required = wanted = own_norms; break;
  case MAY_OWN_NORMS: wanted = own_norms; break;
  case MAY: break;
  }
  if (need->tensor == T_ATTN_V && (block->flags & ATTN_V_OPTIONAL)) required = false;
  int32_t *index = &b->m->layers[layer].weight[need->tensor];
  if (!wanted || *index >= 0) return TANDEM_OK; /* not of this layer, or bound as a part of a fused tensor */
  return bind_tensor(b, need->tensor, layer, required, index);
}

static status bind_block(binder *b, const arch_block *block, int layer) {
  static const arch_tensor qkv[] = {T_ATTN_Q, T_ATTN_K, T_ATTN_V}, qkv_b[] = {T_ATTN_Q_B, T_ATTN_K_B, T_ATTN_V_B};
  static const arch_dim qkv_rows[] = {DIM_QD, DIM_KD, DIM_VD}, expert_rows[] = {DIM_FX, DIM_FX};
  static const arch_tensor experts[] = {T_GATE_EXPS, T_UP_EXPS};
  bool fused;
  if (block->kind == BLOCK_NORM) return bind_tensor(b, block->tensor, layer, true, &b->m->layers[layer].weight[block->tensor]);
  if (block->kind == BLOCK_SCALE) return bind_tensor(b, block->tensor, layer, block->flags & SCALE_NEEDED, &b->m->layers[layer].weight[block->tensor]);
  if (block->kind == BLOCK_ATTN && (block->flags & ATTN_FUSED)) {
    TRY(bind_fused(b, T_ATTN_QKV, qkv, qkv_rows, 3, layer, &fused));
    TRY(bind_fused(b, T_ATTN_QKV_B, qkv_b, qkv_rows, 3, layer, &fused));
  }
  if (block->kind == BLOCK_MOE) TRY(bind_fused(b, T_GATE_UP_EXPS, experts, expert_rows, 2, layer, &fused));
  for (const arch_binding *need = arch_bindings(block->kind); need->tensor != T_COUNT; need++) TRY(bind_one(b, block, need, layer));
  return TANDEM_OK;
}

static status bind_layer(binder *b, int i) {
  model_layer *l = &b->m->layers[i];
  for (int t = 0; t < T_COUNT; t++) l->weight[t] = -1;
  if (!l->experts && l->n_ff < 1)
    return base_fail(b->err, TANDEM_ERROR_FORMAT, "feed_forward_length", "%s.feed_forward_length: %" PRId64 " in layer %d, must be at least 1",
                     b->m->arch->name, l->n_ff, i);
  for (int k = 0; k < b->m->arch->n_blocks; k++)
    if (model_has_block(b->m, &b->m->arch->layer[k], l)) TRY(bind_block(b, &b->m->arch->layer[k], i));
  return TANDEM_OK;
}

/* A head in clusters, if the file has one: centroids [E, C], the order of the tokens, and C equal parts of the embedding in
 * that order. It replaces the whole head. */
static status bind_clusters(binder *b) {
  model *m = b->m;
  const gguf_tensor *c = find(b, T_CENTROIDS, -1), *o = find(b, T_ORDERING, -1), *e = find(b, T_TOKEN_EMBD, -1);
  if (!m->arch->borrows || !c || !o || !e) return TANDEM_OK;
  if (o->panels || e->panels) return no_panels(b, o->panels ? o : e);
  m->n_clusters = c->dims[1];
  if (m->n_clusters < 1 || m->n_vocab % m->n_clusters)
    return base_fail_at(b->err, TANDEM_ERROR_FORMAT, c->name, c->info_offset, "%s: %" PRId64 " clusters do not divide %" PRId64 " tokens", c->name,
                        m->n_clusters, m->n_vocab);
  if (o->type != QUANT_I32 && o->type != QUANT_I64)
    return base_fail_at(b->err, TANDEM_ERROR_FORMAT, o->name, o->info_offset, "%s: type i32 or i64 expected, file has %s", o->name,
                        quant_find(o->type) ? quant_table[o->type].name : "another");
  if (o->dims[0] != m->n_vocab || o->dims[1] != 1 || o->dims[2] != 1)
    return base_fail_at(b->err, TANDEM_ERROR_FORMAT, o->name, o->info_offset, "%s: %" PRId64 " expected, file has %" PRId64 " x %" PRId64, o->name,
                        m->n_vocab, o->dims[0], o->dims[1]);
  m->n_clusters_used = (int32_t)(m->keys.clusters_used < m->n_clusters ? m->keys.clusters_used : m->n_clusters);
  void *order;
  TRY(arena_alloc(m->memory, (size_t)m->n_vocab * sizeof *m->order, &order, b->err));
  m->order = order;
  TRY(bind_tensor(b, T_CENTROIDS, -1, true, &m->weight[T_CENTROIDS]));
  TRY(add_weight(b, o, T_ORDERING, 0, m->n_vocab, &m->weight[T_ORDERING])); /* before the clusters, which are loaded by it */
  gguf_tensor part = *e;
  part.dims[2] = m->n_clusters;
  TRY(check_shape(b, e, T_TOKEN_EMBD, -1));
  TRY(add_weight(b, &part, T_CLUSTERS, 0, m->n_vocab / m->n_clusters, &m->weight[T_CLUSTERS]));
  m->weights[m->weight[T_CLUSTERS]].source = e;
  m->weights[m->weight[T_CLUSTERS]].ordered = true;
  return TANDEM_OK;
}

static status bind_model(binder *b) {
  model *m = b->m;
  bool per_layer = m->keys.n_per_layer > 0, any_full = false;
  for (int i = 0; i < m->n_layers; i++) any_full |= !m->layers[i].sliding;
  for (int t = 0; t < T_MODEL_END; t++) m->weight[t] = -1;
  TRY(bind_clusters(b));
  if (!m->n_clusters) TRY(bind_tensor(b, T_TOKEN_EMBD, -1, true, &m->weight[T_TOKEN_EMBD]));
  TRY(bind_tensor(b, T_OUTPUT_NORM, -1, true, &m->weight[T_OUTPUT_NORM]));
  if (!m->arch->tied_only) TRY(bind_tensor(b, T_OUTPUT, -1, false, &m->weight[T_OUTPUT]));
  if (m->arch->output_bias) TRY(bind_tensor(b, T_OUTPUT_B, -1, false, &m->weight[T_OUTPUT_B]));
  if (any_full) TRY(bind_tensor(b, T_ROPE_FREQS, -1, m->arch->factors_full_only, &m->weight[T_ROPE_FREQS]));
  TRY(bind_tensor(b, T_ROPE_LONG, -1, false, &m->weight[T_ROPE_LONG]));
  TRY(bind_tensor(b, T_ROPE_SHORT, -1, false, &m->weight[T_ROPE_SHORT]));
  if (m->arch->borrows) TRY(bind_tensor(b, T_PRE_PROJ, -1, true, &m->weight[T_PRE_PROJ]));
  if (m->arch->borrows) TRY(bind_tensor(b, T_POST_PROJ, -1, true, &m->weight[T_POST_PROJ]));
  if (!per_layer) return TANDEM_OK;
  TRY(bind_tensor(b, T_PL_TOKEN_EMBD, -1, true, &m->weight[T_PL_TOKEN_EMBD]));
  TRY(bind_tensor(b, T_PL_MODEL_PROJ, -1, true, &m->weight[T_PL_MODEL_PROJ]));
  return bind_tensor(b, T_PL_PROJ_NORM, -1, true, &m->weight[T_PL_PROJ_NORM]);
}

/* V is the embedding's slowest dimension. */
static status find_vocab(binder *b) {
  const gguf_tensor *t = find(b, T_TOKEN_EMBD, -1);
  if (!t) {
    b->m->n_vocab = 0;
    return missing(b, T_TOKEN_EMBD, -1);
  }
  b->m->n_vocab = t->dims[1];
  if (b->m->n_vocab > 1 << 22)
    return base_fail_at(b->err, TANDEM_ERROR_FORMAT, t->name, t->info_offset, "%s: %" PRId64 " rows, at most %d tokens are supported",
                        t->name, b->m->n_vocab, 1 << 22);
  return TANDEM_OK;
}

static size_t count_ignored(const model *m, const gguf *g) {
  size_t used = 0;
  for (int32_t i = 0; i < m->n_weights; i++) used += m->weights[i].first_row == 0;
  return gguf_n_tensors(g) - used;
}

/* ---- where weights lie ------------------------------------------------------------------------------------------- */

bool model_packs(const model_weight *w) {
  const op_value *v = &w->value;
  return v->layout == OP_PANELS && !w->ordered && w->first_row % GGUF_PANEL_ROWS == 0 && v->rows % GGUF_PANEL_ROWS == 0 &&
         v->slab == (size_t)v->rows * quant_row_bytes(v->type, v->cols);
}

/* Where in the file a weight's first row lies. */
static uint64_t file_offset(const model_weight *w) {
  return w->source->offset + (uint64_t)w->first_row * quant_row_bytes(w->source->type, w->source->dims[0]);
}

/* The file holds the weight as the device keeps it: in one piece, so no part of several slabs, and nothing to be gathered or widened. */
static bool is_stored(const model_weight *w) {
  bool vector = arch_tensors[w->tensor].dims[1] == DIM_NONE, one_piece = w->value.n_slabs == 1 || w->value.extent == w->source->n_bytes;
  return !vector && !w->ordered && w->tensor != T_ORDERING && one_piece && w->source->panels == (w->value.layout == OP_PANELS) &&
         file_offset(w) % WEIGHT_ALIGN == 0;
}

/* Of a packed file, what is stored is used where it lies: the region begins with that stretch of the file, cut at 2 MiB so that large
 * pages of both meet. */
static void map_stored(binder *b) {
  const uint64_t large = (uint64_t)2 << 20;
  model *m = b->m;
  uint64_t from = UINT64_MAX, to = 0;
  bool packed = gguf_mappable(b->g) && gguf_find_key(b->g, "tandem.panels");
  for (int32_t i = 0; i < m->n_weights && packed; i++) {
    model_weight *w = &m->weights[i];
    w->mapped = is_stored(w);
    if (!w->mapped) continue;
    if (file_offset(w) < from) from = file_offset(w);
    if (file_offset(w) + w->value.extent > to) to = file_offset(w) + w->value.extent;
  }
  if (to == 0) return;
  m->mapped_from = from & ~(large - 1);
  m->mapped_bytes = to - m->mapped_from;
}

/* The others follow, in the order they were bound. */
static status place_weights(binder *b) {
  enum { PAGE = 1 << 16 }; /* the largest there is */
  model *m = b->m;
  map_stored(b);
  m->weight_bytes = size_align(m->mapped_bytes, m->mapped_bytes ? PAGE : 1);
  for (int32_t i = 0; i < m->n_weights; i++) {
    op_value *v = &m->weights[i].value;
    if (m->weights[i].mapped) {
      v->offset = file_offset(&m->weights[i]) - m->mapped_from;
      continue;
    }
    v->offset = size_align(m->weight_bytes, WEIGHT_ALIGN);
    if (!size_add(v->offset, v->extent, &m->weight_bytes) || m->weight_bytes > ((size_t)1 << 46))
      return base_fail(b->err, TANDEM_ERROR_FORMAT, v->name, "%s: the weights exceed 64 TiB", v->name);
  }
  m->weight_bytes = size_align(m->weight_bytes, WEIGHT_ALIGN);
  return TANDEM_OK;
}

status model_bind(model *m, const gguf *g, const device_ops *ops, const device *d, error *err) {
  binder b = {.m = m, .g = g, .ops = ops, .device = d, .err = err};
  b.capacity = T_MODEL_END + m->n_layers * (T_COUNT - T_MODEL_END);
  /* A file has at most so many tensors, and each is split in at most three. */
  int64_t limit = 3 * (int64_t)gguf_n_tensors(g);
  if (limit < b.capacity) b.capacity = (int32_t)limit;
  void *weights;
  TRY(arena_alloc(m->memory, ((size_t)b.capacity + 1) * sizeof *m->weights, &weights, err));
  m->weights = weights;
  TRY(find_vocab(&b));
  TRY(bind_model(&b));
  for (int i = 0; i < m->n_layers; i++) TRY(bind_layer(&b, i));
  m->n_ignored = count_ignored(m, g);
  return place_weights(&b);
}
