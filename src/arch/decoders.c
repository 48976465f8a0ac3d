/* decoders.c: the families of decoders as lists of blocks, and THE architecture table. */
#include "arch/arch.h"

#define SAVE {.kind = BLOCK_SAVE}
#define ADD {.kind = BLOCK_ADD}
#define FORK(w) {.kind = BLOCK_FORK, .when = w}
#define NEXT(w) {.kind = BLOCK_NEXT, .when = w}
#define JOIN(w) {.kind = BLOCK_JOIN, .when = w}
#define NORM(t) {.kind = BLOCK_NORM, .tensor = t}
#define NORM_WHEN(t, w) {.kind = BLOCK_NORM, .tensor = t, .when = w}
#define ATTN(f) {.kind = BLOCK_ATTN, .flags = f}
#define FFN(a, w) {.kind = BLOCK_FFN, .act = a, .when = w}
#define MOE(a, f) {.kind = BLOCK_MOE, .act = a, .flags = f, .when = WHEN_EXPERTS}
#define LIST(blocks) .layer = blocks, .n_blocks = COUNT_OF(blocks)

static const arch_block llama[] = {
    SAVE, NORM(T_ATTN_NORM), ATTN(ATTN_FUSED), ADD,
    SAVE, NORM(T_FFN_NORM), FFN(OP_SILU, WHEN_DENSE), MOE(OP_SILU, 0), ADD};

static const arch_block qwen3[] = {
    SAVE, NORM(T_ATTN_NORM), ATTN(ATTN_QK_NORM | ATTN_FUSED), ADD,
    SAVE, NORM(T_FFN_NORM), FFN(OP_SILU, WHEN_DENSE), MOE(OP_SILU, 0), ADD};

static const arch_block gemma2[] = {
    SAVE, NORM(T_ATTN_NORM), ATTN(ATTN_FUSED), NORM(T_POST_ATTN_NORM), ADD,
    SAVE, NORM(T_FFN_NORM), FFN(OP_GELU, WHEN_ALWAYS), NORM(T_POST_FFW_NORM), ADD};

static const arch_block gemma3[] = {
    SAVE, NORM(T_ATTN_NORM), ATTN(ATTN_QK_NORM | ATTN_FUSED), NORM(T_POST_ATTN_NORM), ADD,
    SAVE, NORM(T_FFN_NORM), FFN(OP_GELU, WHEN_ALWAYS), NORM(T_POST_FFW_NORM), ADD};

static const arch_block gemma4[] = {
    SAVE, NORM(T_ATTN_NORM), ATTN(ATTN_QK_NORM | ATTN_V_NORM | ATTN_V_OPTIONAL), NORM(T_POST_ATTN_NORM), ADD,
    SAVE, FORK(WHEN_EXPERTS),
    NORM(T_FFN_NORM), FFN(OP_GELU, WHEN_ALWAYS), NORM_WHEN(T_POST_FFW_NORM_1, WHEN_EXPERTS),
    NEXT(WHEN_EXPERTS), MOE(OP_GELU, MOE_OWN_NORMS), NORM_WHEN(T_POST_FFW_NORM_2, WHEN_EXPERTS), JOIN(WHEN_EXPERTS),
    NORM(T_POST_FFW_NORM), ADD,
    {.kind = BLOCK_SAVE, .when = WHEN_PER_LAYER}, {.kind = BLOCK_PER_LAYER, .when = WHEN_PER_LAYER},
    NORM_WHEN(T_POST_NORM, WHEN_PER_LAYER), {.kind = BLOCK_ADD, .when = WHEN_PER_LAYER},
    {.kind = BLOCK_SCALE, .tensor = T_LAYER_SCALE}};

static const arch_block gemma4_assistant[] = {
    SAVE, NORM(T_ATTN_NORM), ATTN(ATTN_QK_NORM), NORM(T_POST_ATTN_NORM), ADD,
    SAVE, NORM(T_FFN_NORM), FFN(OP_GELU, WHEN_ALWAYS), NORM(T_POST_FFW_NORM), ADD,
    {.kind = BLOCK_SCALE, .tensor = T_LAYER_SCALE, .flags = SCALE_NEEDED}};

const arch arch_table[] = {
    {.name = "llama", LIST(llama), .full_rope = true, .ff_is_expert = true},
    {.name = "qwen2", LIST(llama), .neox = true, .output_bias = true},
    {.name = "qwen3", LIST(qwen3), .neox = true},
    {.name = "qwen3moe", LIST(qwen3), .neox = true, .experts_required = true},
    {.name = "gemma2", LIST(gemma2), .neox = true, .embed_scaled = true, .tied_only = true, .scale = SCALE_GEMMA2,
     .window_kind = WINDOW_PERIOD, .window_period = 2, .window_otherwise = 4096, .softcap = 50, .final_capped = true,
     .final_cap = 30},
    {.name = "gemma3", LIST(gemma3), .neox = true, .embed_scaled = true, .scale = SCALE_GEMMA3, .window_kind = WINDOW_PERIOD,
     .window_period = 6, .swa_rope = true, .final_capped = true},
    {.name = "gemma4", LIST(gemma4), .neox = true, .embed_scaled = true, .scale = SCALE_ONE, .window_kind = WINDOW_ARRAY,
     .window_otherwise = -1, .swa_rope = true, .swa_dims = true, .factors_full_only = true,
     .final_capped = true, .final_cap = 30, .moe_by_tensor = true},
    {.name = "gemma4-assistant", LIST(gemma4_assistant), .neox = true, .tied_only = true, .scale = SCALE_ONE,
     .window_kind = WINDOW_ARRAY, .window_otherwise = -1, .swa_rope = true, .swa_dims = true, .factors_full_only = true,
     .borrows = true},
};
const size_t arch_count = COUNT_OF(arch_table);
