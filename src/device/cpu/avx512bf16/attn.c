/* avx512bf16/attn: attn_bf16.inc by vdpbf16ps, which defines what cpu.h says of pairs. */
#include "device/cpu/avx512/vecf.h"
#include "device/cpu/cpu.h"

#include "device/cpu/attn_tile.inc"

#define ATTN_HAS_PAIRS
/* One pair: sum[c][v] += w[v] . x[c]. */
VECF_INLINE void step_pairs(vecf sum[NC][NV], const veci *w, const char *const *x, const int nv, const int nc) {
  UNROLL for (int c = 0; c < nc; c++) {
    veci e = veci_spread(x[c]);
    UNROLL for (int v = 0; v < nv; v++) sum[c][v] = _mm512_dpbf16_ps(sum[c][v], (__m512bh)w[v], (__m512bh)e);
  }
}
#include "device/cpu/attn_bf16.inc"

void cpu_avx512bf16_attn(cpu_kernels *k) { attn_bf16_fill(k); }
