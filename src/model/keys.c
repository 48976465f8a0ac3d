/* keys.c: hyperparameters out of a GGUF: every key of arch_key_table with its range, then the sizes of each layer.
 * What is absent takes the architecture's default; what is out of range is an error with the key, the value and the limits. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

static void full_name(const model *m, const char *name, char *out, size_t n) { snprintf(out, n, "%s.%s", m->arch->name, name); }

const gguf_key *model_key(const model *m, const gguf *g, const char *name) {
  char full[128];
  full_name(m, name, full, sizeof full);
  return gguf_find_key(g, full);
}

static status wrong_type(const gguf_key *k, const char *wanted, error *err) {
  return base_fail_at(err, TANDEM_ERROR_FORMAT, k->name, k->offset, "%s: %s expected, file has %s%s", k->name, wanted,
                      k->type == GGUF_ARRAY ? "an array of " : "", gguf_type_name(k->element));
}

static status missing(const model *m, const char *name, error *err) {
  char full[128];
  full_name(m, name, full, sizeof full);
  return base_fail(err, TANDEM_ERROR_FORMAT, full, "key %s is missing, architecture %s needs it", full, m->arch->name);
}

static status int_in_range(const gguf_key *k, uint64_t i, int64_t min, int64_t max, int64_t *v, error *err) {
  if (!gguf_int(k, i, v)) return wrong_type(k, "an integer", err);
  if (*v < min || *v > max)
    return base_fail_at(err, TANDEM_ERROR_FORMAT, k->name, k->offset, "%s: %" PRId64 ", must be %" PRId64 " to %" PRId64, k->name,
                        *v, min, max);
  return TANDEM_OK;
}

static status float_in_range(const gguf_key *k, double min, double max, double *v, error *err) {
  if (k->type == GGUF_ARRAY || !gguf_double(k, 0, v)) return wrong_type(k, "a number", err);
  if (!(*v >= min && *v <= max))
    return base_fail_at(err, TANDEM_ERROR_FORMAT, k->name, k->offset, "%s: %g, must be %g to %g", k->name, *v, min, max);
  return TANDEM_OK;
}

static status read_key(model *m, const gguf *g, const arch_key *row, error *err) {
  char *field = (char *)&m->keys + row->field;
  const gguf_key *k = model_key(m, g, row->name);
  if (!k && row->required) return missing(m, row->name, err);
  if (row->kind == KEY_FLOAT) {
    double v = row->otherwise;
    if (k) TRY(float_in_range(k, row->min, row->max, &v, err));
    memcpy(field, &v, sizeof v);
  } else {
    int64_t v = (int64_t)row->otherwise;
    if (k && k->type == GGUF_ARRAY) return wrong_type(k, "an integer", err);
    if (k) TRY(int_in_range(k, 0, (int64_t)row->min, (int64_t)row->max, &v, err));
    memcpy(field, &v, sizeof v);
  }
  return TANDEM_OK;
}

status model_layer_int(const model *m, const gguf *g, const char *name, int i, int64_t otherwise, int64_t min, int64_t max,
                       int64_t *v, error *err) {
  const gguf_key *k = model_key(m, g, name);
  *v = otherwise;
  if (!k) return TANDEM_OK;
  if (k->type != GGUF_ARRAY) return int_in_range(k, 0, min, max, v, err);
  if ((int64_t)k->n != m->keys.n_layers)
    return base_fail_at(err, TANDEM_ERROR_FORMAT, k->name, k->offset, "%s: %" PRIu64 " entries, must be one or block_count = %" PRId64,
                        k->name, k->n, m->keys.n_layers);
  return int_in_range(k, (uint64_t)i, min, max, v, err);
}

/* ---- which layers slide ------------------------------------------------------------------------------------------ */

static status slides(const model *m, const gguf *g, int i, bool *sliding, error *err) {
  const gguf_key *k = model_key(m, g, "attention.sliding_window_pattern");
  int64_t period = m->arch->window_period;
  *sliding = false;
  if (m->arch->window_kind == WINDOW_NONE || m->keys.window == 0) return TANDEM_OK;
  if (m->arch->window_kind == WINDOW_ARRAY) {
    if (!k) return missing(m, "attention.sliding_window_pattern", err);
    uint64_t at = k->type == GGUF_ARRAY ? (uint64_t)i : 0;
    if (k->type == GGUF_ARRAY && (int64_t)k->n != m->keys.n_layers)
      return base_fail_at(err, TANDEM_ERROR_FORMAT, k->name, k->offset,
                          "%s: %" PRIu64 " entries, must be block_count = %" PRId64, k->name, k->n, m->keys.n_layers);
    if (!gguf_bool(k, at, sliding)) return wrong_type(k, "bools", err);
    return TANDEM_OK;
  }
  if (k && k->type != GGUF_ARRAY) TRY(int_in_range(k, 0, 0, ARCH_MAX_LAYERS, &period, err)); /* an array here is ignored */
  *sliding = period == 0 || i % period < period - 1;
  return TANDEM_OK;
}

/* ---- layers ------------------------------------------------------------------------------------------------------ */

static status head_dim(const model *m, const model_layer *l, int64_t full, int64_t swa, const char *name, int32_t *dim, error *err) {
  int64_t d = l->sliding && m->arch->swa_dims ? swa : full;
  if (l->sliding && m->arch->swa_dims && d == 0) return missing(m, name, err);
  if (d == 0) {
    if (m->keys.n_embd % l->n_heads)
      return base_fail(err, TANDEM_ERROR_FORMAT, "attention.head_count",
                       "%s.attention.head_count: %d does not divide embedding_length %" PRId64 " and there is no key_length",
                       m->arch->name, l->n_heads, m->keys.n_embd);
    d = m->keys.n_embd / l->n_heads;
  }
  *dim = (int32_t)d;
  return TANDEM_OK;
}

static status read_layer(model *m, const gguf *g, int i, error *err) {
  model_layer *l = &m->layers[i];
  int64_t heads, kv, ff;
  TRY(model_layer_int(m, g, "attention.head_count", i, 0, 1, 4096, &heads, err));
  if (heads == 0) return missing(m, "attention.head_count", err);
  TRY(model_layer_int(m, g, "attention.head_count_kv", i, heads, 1, 4096, &kv, err));
  if (!m->arch->borrows && (kv > heads || heads % kv)) /* a draft head has no K/V: the target's count is what counts */
    return base_fail(err, TANDEM_ERROR_FORMAT, "attention.head_count_kv",
                     "%s.attention.head_count_kv: %" PRId64 " in layer %d, must divide head_count %" PRId64, m->arch->name, kv, i, heads);
  TRY(model_layer_int(m, g, "feed_forward_length", i, 0, 0, 1 << 24, &ff, err));
  l->n_heads = (int32_t)heads;
  l->n_heads_kv = (int32_t)kv;
  l->n_ff = ff;
  TRY(slides(m, g, i, &l->sliding, err));
  TRY(head_dim(m, l, m->keys.key_length, m->keys.key_length_swa, "attention.key_length_swa", &l->k_dim, err));
  TRY(head_dim(m, l, m->keys.value_length, m->keys.value_length_swa, "attention.value_length_swa", &l->v_dim, err));
  char router[64];
  snprintf(router, sizeof router, "blk.%d.%s", i, arch_tensors[T_ROUTER].name);
  l->experts = m->arch->moe_by_tensor ? gguf_find_tensor(g, router) != NULL : m->keys.n_experts > 0;
  return TANDEM_OK;
}

/* Layers from `own` on have no K/V: they read the last layer of their type that has. */
static status find_owners(model *m, error *err) {
  if (m->arch->borrows) { /* layer i reads cache i of its plan, which is a layer of the target's */
    for (int i = 0; i < m->n_layers; i++) m->layers[i].kv_layer = -1, m->layers[i].cache = i;
    return TANDEM_OK;
  }
  int own = m->n_layers - (int)m->keys.n_shared_kv;
  if (own < 1)
    return base_fail(err, TANDEM_ERROR_FORMAT, "attention.shared_kv_layers",
                     "%s.attention.shared_kv_layers: %" PRId64 " of %d layers, at least one must have K/V of its own", m->arch->name,
                     m->keys.n_shared_kv, m->n_layers);
  for (int i = 0; i < m->n_layers; i++) {
    model_layer *l = &m->layers[i];
    l->kv_layer = i;
    l->cache = i;
    if (i < own) continue;
    int j = own - 1;
    while (j >= 0 && m->layers[j].sliding != l->sliding) j--;
    if (j < 0)
      return base_fail(err, TANDEM_ERROR_FORMAT, "attention.shared_kv_layers",
                       "%s: layer %d shares K/V, but none of the first %d layers is %s", m->arch->name, i, own,
                       l->sliding ? "sliding" : "full");
    const model_layer *o = &m->layers[j];
    if (o->n_heads_kv != l->n_heads_kv || o->k_dim != l->k_dim || o->v_dim != l->v_dim)
      return base_fail(err, TANDEM_ERROR_FORMAT, "attention.shared_kv_layers",
                       "%s: layer %d has %d K/V heads of %d, the layer %d it shares with has %d of %d", m->arch->name, i,
                       l->n_heads_kv, l->k_dim, j, o->n_heads_kv, o->k_dim);
    l->kv_layer = j;
    l->cache = j;
  }
  m->n_caches = own;
  return TANDEM_OK;
}

static status check_experts(const model *m, error *err) {
  const arch_keys *k = &m->keys;
  bool any = m->arch->experts_required;
  for (int i = 0; i < m->n_layers; i++) any |= m->layers[i].experts;
  if (!any) return TANDEM_OK;
  if (k->n_experts < 1) return missing(m, "expert_count", err);
  if (k->n_used < 1 || k->n_used > k->n_experts)
    return base_fail(err, TANDEM_ERROR_FORMAT, "expert_used_count", "%s.expert_used_count: %" PRId64 ", must be 1 to expert_count %" PRId64,
                     m->arch->name, k->n_used, k->n_experts);
  return TANDEM_OK;
}

static double query_scale(const model *m) {
  const arch_keys *k = &m->keys;
  int64_t own_rule = m->arch->scale == SCALE_GEMMA2 ? 46 : m->arch->scale == SCALE_GEMMA3 ? 62 : -1;
  if (m->arch->scale == SCALE_ONE) return 1.0;
  if (k->n_layers == own_rule) return 1.0 / sqrt((double)(k->n_embd / m->layers[0].n_heads)); /* the 27B models */
  return 0;
}

static status find_arch(model *m, const gguf *g, error *err) {
  const gguf_key *k = gguf_find_key(g, "general.architecture");
  gguf_string name;
  if (!k) return base_fail(err, TANDEM_ERROR_FORMAT, "general.architecture", "key general.architecture is missing");
  if (!gguf_string_value(k, &name)) return wrong_type(k, "a string", err);
  m->arch = arch_find(name.s, name.n);
  if (m->arch) return TANDEM_OK;
  char escaped[300], known[256] = "";
  for (size_t i = 0; i < arch_count; i++) {
    strncat(known, i ? " " : "", sizeof known - strlen(known) - 1);
    strncat(known, arch_table[i].name, sizeof known - strlen(known) - 1);
  }
  return base_fail_at(err, TANDEM_ERROR_UNSUPPORTED, k->name, k->offset, "architecture '%s' is not supported, this build has: %s",
                      text_escape(escaped, sizeof escaped, name.s, name.n), known);
}

static status read_name(model *m, const gguf *g, error *err) {
  const gguf_key *k = gguf_find_key(g, "general.name");
  gguf_string s = {"", 0};
  if (k) gguf_string_value(k, &s);
  return arena_text(m->memory, s.s, s.n, &m->name, err);
}

/* Keys whose default is the architecture's. */
static status arch_defaults(model *m, const gguf *g, error *err) {
  arch_keys *k = &m->keys;
  if (m->arch->window_kind == WINDOW_NONE) k->window = 0;
  else if (!model_key(m, g, "attention.sliding_window")) {
    if (m->arch->window_otherwise < 0) return missing(m, "attention.sliding_window", err);
    k->window = (int64_t)m->arch->window_otherwise;
  }
  if (m->arch->window_kind == WINDOW_ARRAY && k->window < 1)
    return base_fail(err, TANDEM_ERROR_FORMAT, "attention.sliding_window", "%s.attention.sliding_window: 0, must be at least 1", m->arch->name);
  if (m->arch->softcap == 0) k->softcap = 0;
  else if (!model_key(m, g, "attn_logit_softcapping")) k->softcap = m->arch->softcap;
  if (!m->arch->final_capped) k->final_cap = 0;
  else if (!model_key(m, g, "final_logit_softcapping")) k->final_cap = m->arch->final_cap;
  if (m->arch->borrows) {
    k->n_layers_mtp = 0; /* all its layers are the trunk */
    if (k->n_embd_out < 1) return missing(m, "embedding_length_out", err);
  }
  if (k->n_layers_mtp >= k->n_layers)
    return base_fail(err, TANDEM_ERROR_FORMAT, "nextn_predict_layers", "%s.nextn_predict_layers: %" PRId64 ", must be below block_count %" PRId64,
                     m->arch->name, k->n_layers_mtp, k->n_layers);
  return TANDEM_OK;
}

status model_read_keys(model *m, const gguf *g, error *err) {
  TRY(find_arch(m, g, err));
  TRY(read_name(m, g, err));
  for (size_t i = 0; i < arch_n_keys; i++) TRY(read_key(m, g, &arch_key_table[i], err));
  TRY(arch_defaults(m, g, err));
  m->n_layers = (int32_t)(m->keys.n_layers - m->keys.n_layers_mtp);
  void *layers;
  TRY(arena_alloc(m->memory, (size_t)m->n_layers * sizeof *m->layers, &layers, err));
  m->layers = layers;
  for (int i = 0; i < m->n_layers; i++) TRY(read_layer(m, g, i, err));
  TRY(find_owners(m, err));
  TRY(check_experts(m, err));
  int64_t used = m->keys.n_used ? m->keys.n_used : 1;
  if (m->arch->ff_is_expert) m->keys.expert_ff = m->layers[0].n_ff;
  else if (m->keys.expert_ff == 0) m->keys.expert_ff = m->layers[0].n_ff / used;
  m->q_scale = query_scale(m);
  return model_rope(m, g, err);
}
