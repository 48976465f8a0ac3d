/* avx512bf16/attn: scores and values of BF16 by vdpbf16ps, which defines what cpu.h says of pairs: twice the multiply-adds of f32, and
 * nothing to widen. */
#include "device/cpu/avx512/vecf.h"
#include "device/cpu/scalar/math.h"

#include "device/cpu/math.inc"

/* The words for pairs: both elements at once, in any mode. */
enum { PAIR_PARTS = 1 };

VECF_INLINE uint32_t pairs_begin(void) { return 0; }
VECF_INLINE void pairs_end(uint32_t before) { (void)before; }

VECF_INLINE vecf pair_part(veci pairs, int part) {
  (void)part;
  return vecf_from_bits(pairs);
}
VECF_INLINE vecf pair_add(vecf sum, vecf a, vecf b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }

/* n values as b[c] of a tile: rounded to bf16, subnormals zeros; up to 32 beyond n are written, a float for two. */
VECF_INLINE void pairs_round(const float *x, int n, float *to) {
  int i = 0;
  for (; i + 32 <= n; i += 32) vecf_store(to + i / 2, (vecf)_mm512_cvtne2ps_pbh(vecf_load(x + i + 16), vecf_load(x + i)));
  if (i == n) return;
  vecf low = n - i < 16 ? vecf_load_n(x + i, n - i) : vecf_load(x + i);
  vecf high = n - i > 16 ? vecf_load_n(x + i + 16, n - i - 16) : vecf_zero();
  vecf_store(to + i / 2, (vecf)_mm512_cvtne2ps_pbh(high, low));
}

#include "device/cpu/attn_tile.inc"
#include "device/cpu/attn_bf16.inc"

void cpu_avx512bf16_attn(cpu_kernels *k) {
  k->score[QUANT_BF16] = score_bf16;
  k->value[QUANT_BF16] = value_bf16;
}
