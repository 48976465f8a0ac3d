/* arch: architectures as data. A layer is a short list of blocks; what varies is a field of a block or of the architecture's
 * row. From these tables follow the keys that are read, the tensors that are bound and checked, the K/V sizes and the plan.
 *
 * Knows no file, no memory, no device. A new family is one row (and perhaps one list) in decoders.c; new mathematics is a
 * new block kind with its mixer in plan/mixers.c. */
#ifndef ARCH_H
#define ARCH_H

#include "op/op.h"

/* ---- sizes a tensor's shape is made of --------------------------------------------------------------------------- */

typedef enum arch_dim {
  DIM_NONE,  /* no such dimension */
  DIM_ONE,
  DIM_E,     /* embedding_length */
  DIM_V,     /* vocabulary */
  DIM_QD,    /* query heads * key size of the layer */
  DIM_KD,    /* key/value heads * key size */
  DIM_VD,    /* key/value heads * value size */
  DIM_OD,    /* query heads * value size */
  DIM_QKV,   /* QD + KD + VD */
  DIM_D,     /* key size of the layer */
  DIM_F,     /* width of the layer's feed-forward */
  DIM_FX,    /* width of an expert */
  DIM_FX2,   /* 2 FX */
  DIM_X,     /* experts */
  DIM_P,     /* per-layer input */
  DIM_PL,    /* P * layers */
  DIM_ROT2,  /* rotated components of full layers / 2 */
  DIM_T,     /* embedding_length_out: width of the target's rows that a draft head takes and gives */
  DIM_T2,    /* 2 T */
  DIM_C,     /* clusters of the vocabulary */
  DIM_COUNT
} arch_dim;

/* ---- tensors ----------------------------------------------------------------------------------------------------- */

typedef enum arch_tensor {
  /* of the model */
  T_TOKEN_EMBD, T_OUTPUT, T_OUTPUT_B, T_OUTPUT_NORM, T_ROPE_FREQS, T_ROPE_LONG, T_ROPE_SHORT,
  T_PL_TOKEN_EMBD, T_PL_MODEL_PROJ, T_PL_PROJ_NORM, T_PRE_PROJ, T_POST_PROJ,
  T_CENTROIDS, T_ORDERING, T_CLUSTERS, /* a head in clusters; the last is token_embd in the order of the second */
  T_MODEL_END,
  /* of a layer */
  T_ATTN_NORM = T_MODEL_END, T_ATTN_QKV, T_ATTN_QKV_B, T_ATTN_Q, T_ATTN_Q_B, T_ATTN_K, T_ATTN_K_B, T_ATTN_V, T_ATTN_V_B,
  T_ATTN_Q_NORM, T_ATTN_K_NORM, T_ATTN_OUT, T_ATTN_OUT_B, T_POST_ATTN_NORM,
  T_FFN_NORM, T_FFN_GATE, T_FFN_GATE_B, T_FFN_UP, T_FFN_UP_B, T_FFN_DOWN, T_FFN_DOWN_B, T_POST_FFW_NORM,
  T_ROUTER, T_ROUTER_SCALE, T_GATE_EXPS, T_UP_EXPS, T_GATE_UP_EXPS, T_DOWN_EXPS, T_DOWN_EXPS_SCALE,
  T_PRE_FFW_NORM_2, T_POST_FFW_NORM_1, T_POST_FFW_NORM_2,
  T_INP_GATE, T_PROJ, T_POST_NORM, T_LAYER_SCALE,
  T_COUNT
} arch_tensor;

typedef struct arch_tensor_info {
  const char *name;   /* with suffix; a layer's tensors get "blk.N." in front */
  arch_dim dims[3];   /* fastest first, DIM_NONE beyond the last */
} arch_tensor_info;
extern const arch_tensor_info arch_tensors[T_COUNT];

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

typedef enum arch_block_kind {
  BLOCK_SAVE,      /* remember x as the residual */
  BLOCK_ADD,       /* x = residual + x */
  BLOCK_FORK,      /* begin of two branches from the same x */
  BLOCK_NEXT,      /* second branch: keep the first one's result, go back to the forked x */
  BLOCK_JOIN,      /* x = first branch + second branch */
  BLOCK_NORM,      /* x = RMS(x; tensor) */
  BLOCK_ATTN,      /* x = attention(x) */
  BLOCK_FFN,       /* x = down(act(gate x) * up x) */
  BLOCK_MOE,       /* x = sum of the chosen experts */
  BLOCK_PER_LAYER, /* x = proj(gelu(inp_gate x) * per-layer input) */
  BLOCK_SCALE,     /* x = x * tensor[0], if the file has it */
  BLOCK_KINDS
} arch_block_kind;

typedef enum arch_when { WHEN_ALWAYS, WHEN_DENSE, WHEN_EXPERTS, WHEN_PER_LAYER } arch_when; /* which layers have the block */

enum {                      /* flags of BLOCK_ATTN */
  ATTN_QK_NORM = 1,         /* RMS per head on q and k before RoPE */
  ATTN_V_NORM = 2,          /* RMS per head without weight on v */
  ATTN_V_OPTIONAL = 4,      /* without attn_v the raw k is the value */
  ATTN_FUSED = 8,           /* attn_qkv may replace attn_q, attn_k, attn_v */
  MOE_OWN_NORMS = 16,       /* BLOCK_MOE: the router and the experts norm the forked x themselves (gemma4) */
  SCALE_NEEDED = 32         /* BLOCK_SCALE: the file must have it */
};

typedef struct arch_block {
  arch_block_kind kind;
  arch_when when;
  arch_tensor tensor; /* NORM, SCALE */
  op_act act;         /* FFN, MOE */
  unsigned flags;
} arch_block;

/* One tensor a block binds: needed where the layer has what `of` names, or optional. */
typedef enum arch_need { NEED, NEED_OWN_KV, NEED_QK_NORM, NEED_QK_NORM_KV, MAY, MAY_OWN_KV, NEED_OWN_NORMS, MAY_OWN_NORMS } arch_need;
typedef struct arch_binding {
  arch_tensor tensor;
  arch_need need;
} arch_binding;
/* The tensors of a block kind, ended by T_COUNT; NORM and SCALE bind their own. */
const arch_binding *arch_bindings(arch_block_kind kind);

/* ---- keys -------------------------------------------------------------------------------------------------------- */

enum { ARCH_MAX_LAYERS = 4096 };

/* Hyperparameters as the file gives them, defaults filled in. */
typedef struct arch_keys {
  int64_t n_layers, n_context, n_embd, n_layers_mtp;
  int64_t key_length, value_length, key_length_swa, value_length_swa; /* 0 = absent */
  int64_t window, n_rot, n_rot_swa;
  int64_t n_experts, n_used, expert_ff;
  int64_t n_per_layer, n_shared_kv, n_embd_out, clusters_used;
  int64_t rope_original;
  double eps, rope_base, rope_base_swa, rope_factor, rope_attn_factor, softcap, final_cap;
} arch_keys;

typedef enum arch_key_kind { KEY_INT, KEY_FLOAT } arch_key_kind;
typedef struct arch_key {
  const char *name;     /* behind "{arch}." */
  arch_key_kind kind;
  size_t field;         /* offset of an int64_t or double in arch_keys */
  bool required;        /* for every architecture; a row of `arch` may ask for more */
  double otherwise;     /* default */
  double min, max;
} arch_key;
extern const arch_key arch_key_table[];
extern const size_t arch_n_keys;

/* ---- architectures ----------------------------------------------------------------------------------------------- */

typedef enum arch_window { WINDOW_NONE, WINDOW_PERIOD, WINDOW_ARRAY } arch_window; /* how sliding layers are named */
typedef enum arch_scale { SCALE_HEAD, SCALE_ONE, SCALE_GEMMA2, SCALE_GEMMA3 } arch_scale; /* what q . k is multiplied by */

typedef struct arch {
  const char *name;            /* general.architecture */
  const arch_block *layer;     /* blocks of a layer, n of them */
  int n_blocks;
  bool neox;                   /* RoPE pairs (i, i + n/2) */
  bool embed_scaled;           /* token embeddings times sqrt(E) */
  bool tied_only;              /* output.weight does not exist */
  bool output_bias;            /* output.bias may exist */
  bool full_rope;              /* the rotated part must be the whole head */
  arch_scale scale;
  arch_window window_kind;
  int window_period;           /* layer i slides iff i % period < period - 1 */
  double window_otherwise;     /* default of attention.sliding_window; -1 = required, 0 = none */
  bool swa_rope;               /* sliding layers have their own base (default 10000) and no scaling */
  bool swa_dims;               /* sliding layers have their own key and value length (required) */
  bool factors_full_only;      /* rope_freqs are for full layers only */
  double softcap;              /* default of the attention's soft cap; 0 = there is none, whatever the file says */
  bool final_capped;           /* logits have a soft cap, its default being: */
  double final_cap;
  bool moe_by_tensor;          /* a layer has experts iff it has a router, else iff expert_count > 0 */
  bool ff_is_expert;           /* expert width is feed_forward_length */
  bool experts_required;       /* expert_count must be > 0 */
  bool borrows;                /* a draft head: queries only, over the cells of a target; its input is the target's embedding of
                                  a token and a row of width T, its output logits and the next such row */
} arch;
extern const arch arch_table[];
extern const size_t arch_count;

/* The row of an architecture, or NULL. */
const arch *arch_find(const char *name, size_t n);

#endif
