/* avx2/attn: attn.inc on this level's vectors. */
#include "device/cpu/avx2/vecf.h"
#include "device/cpu/scalar/math.h"

#include "device/cpu/math.inc"
#include "device/cpu/pairs_fma.inc"
#include "device/cpu/attn_tile.inc"
#include "device/cpu/attn_bf16.inc"
#include "device/cpu/attn.inc"

void cpu_avx2_attn(cpu_kernels *k) { attn_fill(k); }
