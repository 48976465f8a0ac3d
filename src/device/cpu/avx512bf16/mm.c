/* avx512bf16/mm: the product of BF16 by its own instruction. Knows nothing of steps and threads. */
#include "device/cpu/avx512bf16/mm.inc"

void cpu_avx512bf16_mm(cpu_kernels *k) { k->mm[QUANT_BF16] = mm_bf16; }

enum { CHAINS = 16 }; /* independent: latency times throughput */

static float peak_bf16(int64_t rounds) {
  vec_f t[CHAINS];
  vec_i w = vec_int(0), x = vec_int(0x3f803f80);
  UNROLL for (int i = 0; i < CHAINS; i++) t[i] = vec_f_of(vec_int(i));
  for (int64_t n = 0; n < rounds; n++) {
    UNROLL for (int link = 0; link < LINKS; link++) {
      UNROLL for (int i = 0; i < CHAINS; i++) t[i] = vec_dot_bf16(t[i], w = vec_pin(w), x);
    }
  }
  float sum = 0, lanes[VEC_LANES];
  UNROLL for (int i = 0; i < CHAINS; i++) {
    vec_f_store(lanes, t[i]);
    sum += lanes[i % VEC_LANES];
  }
  return sum;
}

void cpu_avx512bf16_peak(cpu_peak *p) {
  p->bf16 = peak_bf16;
  p->bf16_ops = 4.0 * LINKS * CHAINS * VEC_LANES;
}
