/* arch.c: the tables every architecture shares: tensors with their shapes, tensors of each block kind, keys with their ranges. */
#include <string.h>

#include "arch/arch.h"

const arch_tensor_info arch_tensors[T_COUNT] = {
    [T_TOKEN_EMBD] = {"token_embd.weight", {DIM_E, DIM_V}},
    [T_OUTPUT] = {"output.weight", {DIM_E, DIM_V}},
    [T_OUTPUT_B] = {"output.bias", {DIM_V}},
    [T_OUTPUT_NORM] = {"output_norm.weight", {DIM_E}},
    [T_ROPE_FREQS] = {"rope_freqs.weight", {DIM_ROT2}},
    [T_ROPE_LONG] = {"rope_factors_long.weight", {DIM_ROT2}},
    [T_ROPE_SHORT] = {"rope_factors_short.weight", {DIM_ROT2}},
    [T_PL_TOKEN_EMBD] = {"per_layer_token_embd.weight", {DIM_PL, DIM_V}},
    [T_PL_MODEL_PROJ] = {"per_layer_model_proj.weight", {DIM_E, DIM_PL}},
    [T_PL_PROJ_NORM] = {"per_layer_proj_norm.weight", {DIM_P}},
    [T_PRE_PROJ] = {"nextn.pre_projection.weight", {DIM_T2, DIM_E}},
    [T_CENTROIDS] = {"masked_embd_centroids.weight", {DIM_E, DIM_C}},
    [T_ORDERING] = {"masked_embd_ordering", {DIM_V}},
    [T_CLUSTERS] = {"token_embd.weight", {DIM_E, DIM_V}},
    [T_POST_PROJ] = {"nextn.post_projection.weight", {DIM_E, DIM_T}},
    [T_ATTN_NORM] = {"attn_norm.weight", {DIM_E}},
    [T_ATTN_QKV] = {"attn_qkv.weight", {DIM_E, DIM_QKV}},
    [T_ATTN_QKV_B] = {"attn_qkv.bias", {DIM_QKV}},
    [T_ATTN_Q] = {"attn_q.weight", {DIM_E, DIM_QD}},
    [T_ATTN_Q_B] = {"attn_q.bias", {DIM_QD}},
    [T_ATTN_K] = {"attn_k.weight", {DIM_E, DIM_KD}},
    [T_ATTN_K_B] = {"attn_k.bias", {DIM_KD}},
    [T_ATTN_V] = {"attn_v.weight", {DIM_E, DIM_VD}},
    [T_ATTN_V_B] = {"attn_v.bias", {DIM_VD}},
    [T_ATTN_Q_NORM] = {"attn_q_norm.weight", {DIM_D}},
    [T_ATTN_K_NORM] = {"attn_k_norm.weight", {DIM_D}},
    [T_ATTN_OUT] = {"attn_output.weight", {DIM_OD, DIM_E}},
    [T_ATTN_OUT_B] = {"attn_output.bias", {DIM_E}},
    [T_POST_ATTN_NORM] = {"post_attention_norm.weight", {DIM_E}},
    [T_FFN_NORM] = {"ffn_norm.weight", {DIM_E}},
    [T_FFN_GATE] = {"ffn_gate.weight", {DIM_E, DIM_F}},
    [T_FFN_GATE_B] = {"ffn_gate.bias", {DIM_F}},
    [T_FFN_UP] = {"ffn_up.weight", {DIM_E, DIM_F}},
    [T_FFN_UP_B] = {"ffn_up.bias", {DIM_F}},
    [T_FFN_DOWN] = {"ffn_down.weight", {DIM_F, DIM_E}},
    [T_FFN_DOWN_B] = {"ffn_down.bias", {DIM_E}},
    [T_POST_FFW_NORM] = {"post_ffw_norm.weight", {DIM_E}},
    [T_ROUTER] = {"ffn_gate_inp.weight", {DIM_E, DIM_X}},
    [T_ROUTER_SCALE] = {"ffn_gate_inp.scale", {DIM_E}},
    [T_GATE_EXPS] = {"ffn_gate_exps.weight", {DIM_E, DIM_FX, DIM_X}},
    [T_UP_EXPS] = {"ffn_up_exps.weight", {DIM_E, DIM_FX, DIM_X}},
    [T_GATE_UP_EXPS] = {"ffn_gate_up_exps.weight", {DIM_E, DIM_FX2, DIM_X}},
    [T_DOWN_EXPS] = {"ffn_down_exps.weight", {DIM_FX, DIM_E, DIM_X}},
    [T_DOWN_EXPS_SCALE] = {"ffn_down_exps.scale", {DIM_X}},
    [T_PRE_FFW_NORM_2] = {"pre_ffw_norm_2.weight", {DIM_E}},
    [T_POST_FFW_NORM_1] = {"post_ffw_norm_1.weight", {DIM_E}},
    [T_POST_FFW_NORM_2] = {"post_ffw_norm_2.weight", {DIM_E}},
    [T_INP_GATE] = {"inp_gate.weight", {DIM_E, DIM_P}},
    [T_PROJ] = {"proj.weight", {DIM_P, DIM_E}},
    [T_POST_NORM] = {"post_norm.weight", {DIM_E}},
    [T_LAYER_SCALE] = {"layer_output_scale.weight", {DIM_ONE}},
};

static const arch_binding none[] = {{T_COUNT, NEED}};

/* T_ATTN_QKV, T_GATE_UP_EXPS and their parts replace each other: the binder splits the fused form (model/bind.c). */
static const arch_binding attn[] = {
    {T_ATTN_Q, NEED},           {T_ATTN_Q_B, MAY},
    {T_ATTN_K, NEED_OWN_KV},    {T_ATTN_K_B, MAY_OWN_KV},
    {T_ATTN_V, NEED_OWN_KV},    {T_ATTN_V_B, MAY_OWN_KV},
    {T_ATTN_Q_NORM, NEED_QK_NORM}, {T_ATTN_K_NORM, NEED_QK_NORM_KV},
    {T_ATTN_OUT, NEED},         {T_ATTN_OUT_B, MAY},
    {T_COUNT, NEED}};

static const arch_binding ffn[] = {
    {T_FFN_GATE, NEED}, {T_FFN_GATE_B, MAY}, {T_FFN_UP, NEED}, {T_FFN_UP_B, MAY}, {T_FFN_DOWN, NEED}, {T_FFN_DOWN_B, MAY},
    {T_COUNT, NEED}};

static const arch_binding moe[] = {
    {T_ROUTER, NEED},      {T_ROUTER_SCALE, NEED_OWN_NORMS}, {T_GATE_EXPS, NEED},       {T_UP_EXPS, NEED},
    {T_DOWN_EXPS, NEED},   {T_DOWN_EXPS_SCALE, MAY},         {T_PRE_FFW_NORM_2, NEED_OWN_NORMS},
    {T_COUNT, NEED}};

static const arch_binding per_layer[] = {{T_INP_GATE, NEED}, {T_PROJ, NEED}, {T_COUNT, NEED}};

const arch_binding *arch_bindings(arch_block_kind kind) {
  switch (kind) {
  case BLOCK_ATTN: return attn;
  case BLOCK_FFN: return ffn;
  case BLOCK_MOE: return moe;
  case BLOCK_PER_LAYER: return per_layer;
  default: return none;
  }
}

#define FIELD(name) offsetof(arch_keys, name)
#define BIG 1e30
const arch_key arch_key_table[] = {
    {"block_count", KEY_INT, FIELD(n_layers), true, 0, 1, ARCH_MAX_LAYERS},
    {"context_length", KEY_INT, FIELD(n_context), true, 0, 1, 1 << 27},
    {"embedding_length", KEY_INT, FIELD(n_embd), true, 0, 1, 1 << 20},
    {"nextn_predict_layers", KEY_INT, FIELD(n_layers_mtp), false, 0, 0, ARCH_MAX_LAYERS},
    {"attention.key_length", KEY_INT, FIELD(key_length), false, 0, 1, 1 << 16},
    {"attention.value_length", KEY_INT, FIELD(value_length), false, 0, 1, 1 << 16},
    {"attention.key_length_swa", KEY_INT, FIELD(key_length_swa), false, 0, 1, 1 << 16},
    {"attention.value_length_swa", KEY_INT, FIELD(value_length_swa), false, 0, 1, 1 << 16},
    {"attention.layer_norm_rms_epsilon", KEY_FLOAT, FIELD(eps), true, 0, 1e-30, 1},
    {"attention.sliding_window", KEY_INT, FIELD(window), false, 0, 0, 1 << 27},
    {"attention.shared_kv_layers", KEY_INT, FIELD(n_shared_kv), false, 0, 0, ARCH_MAX_LAYERS},
    {"attn_logit_softcapping", KEY_FLOAT, FIELD(softcap), false, 0, 0, BIG},
    {"final_logit_softcapping", KEY_FLOAT, FIELD(final_cap), false, 0, 0, BIG},
    {"rope.dimension_count", KEY_INT, FIELD(n_rot), false, 0, 2, 1 << 16},
    {"rope.dimension_count_swa", KEY_INT, FIELD(n_rot_swa), false, 0, 2, 1 << 16},
    {"rope.freq_base", KEY_FLOAT, FIELD(rope_base), false, 10000, 1e-3, BIG},
    {"rope.freq_base_swa", KEY_FLOAT, FIELD(rope_base_swa), false, 0, 1e-3, BIG},
    {"rope.scaling.factor", KEY_FLOAT, FIELD(rope_factor), false, 0, 0, BIG},
    {"rope.scaling.attn_factor", KEY_FLOAT, FIELD(rope_attn_factor), false, 1, -BIG, BIG},
    {"rope.scaling.original_context_length", KEY_INT, FIELD(rope_original), false, 0, 0, 1 << 27},
    {"expert_count", KEY_INT, FIELD(n_experts), false, 0, 0, 4096},
    {"expert_used_count", KEY_INT, FIELD(n_used), false, 0, 0, OP_MAX_USED},
    {"expert_feed_forward_length", KEY_INT, FIELD(expert_ff), false, 0, 0, 1 << 24},
    {"centroid_top_k", KEY_INT, FIELD(clusters_used), false, 32, 1, OP_MAX_USED},
    {"embedding_length_out", KEY_INT, FIELD(n_embd_out), false, 0, 1, 1 << 20},
    {"embedding_length_per_layer_input", KEY_INT, FIELD(n_per_layer), false, 0, 0, 1 << 16},
};
const size_t arch_n_keys = COUNT_OF(arch_key_table);

const arch *arch_find(const char *name, size_t n) {
  for (size_t i = 0; i < arch_count; i++)
    if (strlen(arch_table[i].name) == n && !memcmp(arch_table[i].name, name, n)) return &arch_table[i];
  return NULL;
}
