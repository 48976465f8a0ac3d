/* mixers.c: what each kind of block computes, as steps. A mixer gets the row of its block and returns the block's result; it
 * never sees the residual stream. Formulas: Vaswani et al. 2017 (attention), Su et al. 2021 (RoPE), Shazeer 2020 (GLU),
 * Fedus et al. 2021 (experts); the variants are those of the published models. */
#include <math.h>

#include "plan/plan.h"

static int32_t layer_weight(plan_builder *b, int i, arch_tensor t) { return plan_weight(b, b->m->layers[i].weight[t]); }

/* ---- attention --------------------------------------------------------------------------------------------------- */

static int32_t factors_of(plan_builder *b, bool sliding) {
  const model *m = b->m;
  if (sliding && (m->arch->factors_full_only || m->arch->swa_rope)) return -1;
  if (m->weight[T_ROPE_FREQS] >= 0) return plan_weight(b, m->weight[T_ROPE_FREQS]);
  int64_t original = m->keys.rope_original ? m->keys.rope_original : m->keys.n_context;
  return plan_weight(b, m->weight[b->p->limits.n_context > original ? T_ROPE_LONG : T_ROPE_SHORT]);
}

/* Angles are computed once a pass, where the first layer needs them. */
static int32_t angles_of(plan_builder *b, bool sliding) {
  int set = sliding ? ROPE_SLIDING : ROPE_FULL;
  if (b->angles[set] >= 0) return b->angles[set];
  const op_rope *r = &b->m->rope[set];
  int32_t dst = plan_value(b, sliding ? "angles_sliding" : "angles", OP_TOKENS, QUANT_F32, r->n_rot);
  b->angles[set] = plan_emit(b, (op_step){.op = OP_ANGLES, .dst = dst, .src = {factors_of(b, sliding), -1, -1, -1}, .rope = *r});
  return b->angles[set];
}

static int32_t rotated(plan_builder *b, const char *name, int32_t x, int32_t n_heads, int32_t dim, bool sliding) {
  int32_t angles = angles_of(b, sliding);
  int32_t dst = plan_value(b, name, OP_TOKENS, QUANT_F32, (int64_t)n_heads * dim);
  return plan_emit(b, (op_step){.op = OP_ROPE, .dst = dst, .src = {x, angles, -1, -1}, .n_heads = n_heads, .head_dim = dim,
                                .rope = b->m->rope[sliding ? ROPE_SLIDING : ROPE_FULL]});
}

/* Steps of one kind stand together, so that the threads meet once after all of them. Without a v of its own (and K/V of its
 * own at all) the raw k is the value. */
int32_t plan_mix_attention(plan_builder *b, const arch_block *block, int i, int32_t x) {
  const model_layer *l = &b->m->layers[i];
  bool own = l->kv_layer == i, qk_norm = block->flags & ATTN_QK_NORM;
  int32_t k = -1, v = -1, wv = own ? layer_weight(b, i, T_ATTN_V) : -1;
  int32_t q = plan_linear(b, "q", x, layer_weight(b, i, T_ATTN_Q), layer_weight(b, i, T_ATTN_Q_B));
  if (own) k = v = plan_linear(b, "k", x, layer_weight(b, i, T_ATTN_K), layer_weight(b, i, T_ATTN_K_B));
  if (wv >= 0) v = plan_linear(b, "v", x, wv, layer_weight(b, i, T_ATTN_V_B));
  if (own && (block->flags & ATTN_V_NORM)) v = plan_norm(b, "v_norm", v, -1, l->v_dim, 1);
  if (own && qk_norm) k = plan_norm(b, "k_norm", k, layer_weight(b, i, T_ATTN_K_NORM), l->k_dim, 1);
  if (qk_norm) q = plan_norm(b, "q_norm", q, layer_weight(b, i, T_ATTN_Q_NORM), l->k_dim, 1);
  if (own) k = rotated(b, "k_rope", k, l->n_heads_kv, l->k_dim, l->sliding);
  q = rotated(b, "q_rope", q, l->n_heads, l->k_dim, l->sliding);
  if (own) plan_emit(b, (op_step){.op = OP_STORE, .dst = -1, .src = {k, v, -1, -1}, .cache = l->cache});
  double scale = b->m->q_scale != 0 ? b->m->q_scale : 1.0 / sqrt((double)l->k_dim);
  int32_t o = plan_value(b, "heads", OP_TOKENS, QUANT_F32, (int64_t)l->n_heads * l->v_dim);
  plan_emit(b, (op_step){.op = OP_ATTEND, .dst = o, .src = {q, -1, -1, -1}, .scale = (float)scale, .softcap = (float)b->m->keys.softcap,
                         .n_heads = l->n_heads, .cache = l->cache, .behind = b->p->limits.behind});
  return plan_linear(b, "attn_out", o, layer_weight(b, i, T_ATTN_OUT), layer_weight(b, i, T_ATTN_OUT_B));
}

/* ---- feed-forward ------------------------------------------------------------------------------------------------ */

static int32_t gated(plan_builder *b, int32_t gate, int32_t up, op_act act) {
  if (b->st) return -1;
  int32_t dst = plan_value(b, "act", OP_TOKENS, QUANT_F32, b->p->values[gate].cols);
  return plan_emit(b, (op_step){.op = OP_GLU, .dst = dst, .src = {gate, up, -1, -1}, .act = act});
}

int32_t plan_mix_ffn(plan_builder *b, const arch_block *block, int i, int32_t x) {
  int32_t gate = plan_linear(b, "gate", x, layer_weight(b, i, T_FFN_GATE), layer_weight(b, i, T_FFN_GATE_B));
  int32_t up = plan_linear(b, "up", x, layer_weight(b, i, T_FFN_UP), layer_weight(b, i, T_FFN_UP_B));
  int32_t h = gated(b, gate, up, block->act);
  return plan_linear(b, "ffn_out", h, layer_weight(b, i, T_FFN_DOWN), layer_weight(b, i, T_FFN_DOWN_B));
}

int32_t plan_route(plan_builder *b, int32_t scores, int32_t used) {
  int32_t route = plan_value(b, "route", OP_TOKENS, QUANT_F32, 2 * used);
  return plan_emit(b, (op_step){.op = OP_ROUTE, .dst = route, .src = {scores, -1, -1, -1}, .n_used = used});
}

/* Slot s of a token by its expert: [token][slot][rows]. */
int32_t plan_by_expert(plan_builder *b, const char *name, int32_t x, int32_t w, int32_t route, int32_t used) {
  if (b->st) return -1;
  int32_t q = plan_quantised(b, x, b->p->values[w].type);
  if (b->st) return -1;
  int32_t dst = plan_value(b, name, OP_TOKENS, QUANT_F32, b->p->values[w].rows * used);
  return plan_emit(b, (op_step){.op = OP_MMX, .dst = dst, .src = {q, w, route, -1}, .n_used = used});
}

int32_t plan_mix_experts(plan_builder *b, const arch_block *block, int i, int32_t x) {
  int32_t used = (int32_t)b->m->keys.n_used, router_in = x, expert_in = x;
  if (block->flags & MOE_OWN_NORMS) {
    float scale = (float)(1.0 / sqrt((double)b->m->keys.n_embd));
    router_in = plan_norm(b, "router_norm", x, layer_weight(b, i, T_ROUTER_SCALE), b->m->keys.n_embd, scale);
    expert_in = plan_norm(b, "pre_ffw_norm_2", x, layer_weight(b, i, T_PRE_FFW_NORM_2), b->m->keys.n_embd, 1);
  }
  int32_t logits = plan_linear(b, "router", router_in, layer_weight(b, i, T_ROUTER), -1);
  int32_t route = plan_route(b, logits, used);
  int32_t gate = plan_by_expert(b, "gate_exps", expert_in, layer_weight(b, i, T_GATE_EXPS), route, used);
  int32_t up = plan_by_expert(b, "up_exps", expert_in, layer_weight(b, i, T_UP_EXPS), route, used);
  int32_t down = plan_by_expert(b, "down_exps", gated(b, gate, up, block->act), layer_weight(b, i, T_DOWN_EXPS), route, used);
  int32_t dst = plan_value(b, "moe_out", OP_TOKENS, QUANT_F32, b->m->keys.n_embd);
  return plan_emit(b, (op_step){.op = OP_MIX, .dst = dst, .src = {down, route, layer_weight(b, i, T_DOWN_EXPS_SCALE), -1}, .n_used = used});
}

/* ---- per-layer inputs (gemma 3n, 4) ------------------------------------------------------------------------------ */

int32_t plan_mix_per_layer(plan_builder *b, int i, int32_t x) {
  int64_t p = b->m->keys.n_per_layer;
  int32_t gate = plan_linear(b, "inp_gate", x, layer_weight(b, i, T_INP_GATE), -1);
  int32_t slice = plan_view(b, "per_layer_slice", b->per_layer, i * p, p);
  int32_t h = gated(b, gate, slice, OP_GELU);
  return plan_linear(b, "per_layer_out", h, layer_weight(b, i, T_PROJ), -1);
}
