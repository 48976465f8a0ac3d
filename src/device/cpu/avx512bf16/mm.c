/* avx512bf16/mm: the matrix product of BF16 by vdpbf16ps, which defines what cpu.h says of pairs. Knows nothing of steps and threads. */
#include "device/cpu/avx512/vec.h"
#include "device/cpu/mm.h"
#include "device/cpu/mm_tile.inc"

/* c + two products a lane, the odd elements first; subnormals count as zeros. */
VEC_INLINE vec_f vec_dot_bf16(vec_f c, vec_i a, vec_i b) { return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b); }

/* The same with the pair at b for every lane, as vec_dot_at. */
VEC_INLINE vec_f vec_dot_bf16_at(vec_f c, vec_i a, const char *b) {
  __asm__("vdpbf16ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(a), "m"(*(const char(*)[4])b));
  return c;
}

VEC_INLINE void step_bf16(const tile_args *a, const char *line, const char *const *x, size_t at, vec_f sum[MAX_V][MAX_C], const int nv,
                          const int nc) {
  vec_i w[MAX_V];
  UNROLL for (int v = 0; v < nv; v++) w[v] = vec_load(rows_at(a, line, v, BYTES));
  UNROLL for (int c = 0; c < nc; c++) {
    if (nv == 1) {
      sum[0][c] = vec_dot_bf16_at(sum[0][c], w[0], x[c] + at);
      continue;
    }
    const vec_i e = vec_spread(x[c] + at);
    UNROLL for (int v = 0; v < nv; v++) sum[v][c] = vec_dot_bf16(sum[v][c], w[v], e);
  }
}

VEC_INLINE void tile_bf16(const tile_args *a, const int nv, const int nc) {
  const char *x[MAX_C], *line = a->panel;
  const size_t end = 2 * (size_t)a->k / 4 * 4; /* bytes of whole pairs of a column */
  vec_f sum[MAX_V][MAX_C];
  UNROLL for (int c = 0; c < nc; c++) {
    x[c] = a->x[c];
    UNROLL for (int v = 0; v < nv; v++) sum[v][c] = vec_f_zero();
  }
  for (size_t at = 0; at < end; at += 4, line += 64) {
    fetch_ahead(a, line, 1, nv, nc > 2);
    step_bf16(a, line, x, at, sum, nv, nc);
  }
  if (a->k % 2) {
    UNROLL for (int c = 0; c < nc; c++) {
      uint16_t last;
      memcpy(&last, x[c] + end, sizeof last);
      UNROLL for (int v = 0; v < nv; v++) sum[v][c] = vec_dot_bf16(sum[v][c], vec_load(rows_at(a, line, v, BYTES)), vec_int(last));
    }
  }
  store_tile(a, sum, nv, nc);
}

#define MM_COLUMNS VEC_COLUMNS_PLAIN
#define MM_COLUMNS_2 VEC_PAIRED_PLAIN
#define MM_PAIRED_FROM VEC_PAIRED_FROM_PLAIN
#define MM_TYPE bf16
#include "device/cpu/mm_slot.inc"
#undef MM_COLUMNS
#undef MM_COLUMNS_2
#undef MM_PAIRED_FROM

void cpu_avx512bf16_mm(cpu_kernels *k) { k->mm[QUANT_BF16] = mm_bf16; }

enum { CHAINS = 12 }; /* independent: latency times throughput */

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
