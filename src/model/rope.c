/* rope.c: the rotation of full and of sliding layers out of the rope.* keys: plain, linear and YaRN scaling.
 *
 * YaRN: the pairs that turn often within the original context keep their angle, the slow ones are interpolated, with a ramp
 * between the pairs `low` and `high`; cos and sin grow by 1 + 0.1 ln(factor). (Peng et al. 2023, "YaRN", sections 3.2, 3.4.) */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "model/model.h"

typedef enum scaling { SCALING_NONE, SCALING_LINEAR, SCALING_YARN, SCALING_LONGROPE, SCALING_COUNT } scaling;
static const char *const scaling_names[SCALING_COUNT] = {"none", "linear", "yarn", "longrope"};

static status scaling_type(const model *m, const gguf *g, scaling *type, error *err) {
  const gguf_key *k = model_key(m, g, "rope.scaling.type");
  gguf_string s;
  *type = SCALING_LINEAR; /* a factor without a type means linear */
  if (!k) return TANDEM_OK;
  if (!gguf_string_value(k, &s))
    return base_fail_at(err, TANDEM_ERROR_FORMAT, k->name, k->offset, "%s: a string expected", k->name);
  for (int i = 0; i < SCALING_COUNT; i++)
    if (strlen(scaling_names[i]) == s.n && !memcmp(s.s, scaling_names[i], s.n)) {
      *type = (scaling)i;
      return TANDEM_OK;
    }
  char escaped[300];
  return base_fail_at(err, TANDEM_ERROR_FORMAT, k->name, k->offset, "%s: '%s', must be none, linear, yarn or longrope", k->name,
                      text_escape(escaped, sizeof escaped, s.s, s.n));
}

/* The pair that makes `turns` turns within n_orig positions. */
static double pair_of(double turns, double n_rot, double n_orig, double base) {
  return n_rot * log(n_orig / (turns * 2 * 3.14159265358979323846)) / (2 * log(base));
}

static void set_yarn(op_rope *r, double factor, double attn_factor, double n_orig) {
  double low = floor(pair_of(32, r->n_rot, n_orig, r->base)), high = ceil(pair_of(1, r->n_rot, n_orig, r->base));
  double cancel = factor > 1 ? 0.1 * log(factor) + 1 : 1; /* A of the specification is cancel / (1 + 0.1 ln f) */
  double a = cancel / (1 + 0.1 * log(factor)) * attn_factor;
  r->yarn = true;
  r->low = low > 0 ? low : 0;
  r->high = high < r->n_rot - 1 ? high : r->n_rot - 1;
  r->magnitude = a * (1 + 0.1 * log(1 / r->freq_scale));
}

static status check_rot(const model *m, const op_rope *r, bool sliding, error *err) {
  for (int i = 0; i < m->n_layers; i++) {
    const model_layer *l = &m->layers[i];
    if (l->sliding != sliding) continue;
    bool whole = !m->arch->full_rope || r->n_rot == l->k_dim;
    if (r->n_rot % 2 || r->n_rot > l->k_dim || !whole)
      return base_fail(err, TANDEM_ERROR_FORMAT, "rope.dimension_count", "%s.rope.dimension_count%s: %d, must be %s head size %d of layer %d",
                       m->arch->name, sliding ? "_swa" : "", r->n_rot, m->arch->full_rope ? "the" : "even and at most the", l->k_dim, i);
  }
  return TANDEM_OK;
}

/* Rotated components: the key, else the head size of the first layer of that kind. */
static int32_t rotated(const model *m, int64_t key, bool sliding) {
  if (key) return (int32_t)key;
  for (int i = 0; i < m->n_layers; i++)
    if (m->layers[i].sliding == sliding) return m->layers[i].k_dim;
  return 0;
}

status model_rope(model *m, const gguf *g, error *err) {
  const arch_keys *k = &m->keys;
  scaling type;
  TRY(scaling_type(m, g, &type, err));
  double factor = k->rope_factor;
  if (!model_key(m, g, "rope.scaling.factor")) {
    const gguf_key *old = model_key(m, g, "rope.scale_linear");
    if (old && !gguf_double(old, 0, &factor)) factor = 0;
  }
  if (factor == 0 || type == SCALING_NONE) factor = 1;
  if (!(factor >= 1e-6 && factor <= 1e6))
    return base_fail(err, TANDEM_ERROR_FORMAT, "rope.scaling.factor", "%s.rope.scaling.factor: %g, must be 1e-6 to 1e6", m->arch->name, factor);
  op_rope full = {.n_rot = rotated(m, k->n_rot, false), .neox = m->arch->neox, .base = k->rope_base, .freq_scale = 1 / factor,
                  .magnitude = k->rope_attn_factor};
  op_rope sliding = full;
  double n_orig = k->rope_original ? (double)k->rope_original : (double)k->n_context;
  if (type == SCALING_YARN && !(full.base > 1))
    return base_fail(err, TANDEM_ERROR_FORMAT, "rope.freq_base", "%s.rope.freq_base: %g, must be above 1 for yarn", m->arch->name, full.base);
  if (type == SCALING_YARN) set_yarn(&full, factor, k->rope_attn_factor, n_orig);
  if (m->arch->swa_rope) sliding = (op_rope){.n_rot = 0, .neox = m->arch->neox, .base = k->rope_base_swa ? k->rope_base_swa : 10000, .freq_scale = 1, .magnitude = 1};
  else if (type == SCALING_YARN) sliding = full;
  sliding.n_rot = m->arch->swa_dims ? rotated(m, k->n_rot_swa, true) : rotated(m, k->n_rot, true);
  m->rope[ROPE_FULL] = full;
  m->rope[ROPE_SLIDING] = sliding;
  TRY(check_rot(m, &full, false, err));
  return check_rot(m, &sliding, true, err);
}
