/* scalar/mm: the matrix product of every weight type, written to be read. It defines the bits: what is inside a block is
 * summed exactly in int32, blocks are joined in increasing k by the fma steps named in cpu.h. One row of a panel and one
 * column at a time; the layout of panels is in mm.h. Knows nothing of steps, threads and values. */
#include <math.h>
#include <string.h>

#include "device/cpu/mm.h"
#include "device/cpu/scalar/math.h"

/* A dot product of row `row` of a panel with one column. */
typedef float row_fn(const char *panel, int row, int64_t k, const void *x);

static void each_row(row_fn *dot, const char *panels, size_t panel_bytes, int n_panels, int64_t k, const void *const *x,
                     float *const *y, int n_cols) {
  for (int p = 0; p < n_panels; p++)
    for (int c = 0; c < n_cols; c++)
      for (int row = 0; row < CPU_PANEL; row++) y[c][CPU_PANEL * p + row] = dot(panels + (size_t)p * panel_bytes, row, k, x[c]);
}

static float scale_at(const void *scales, int row) {
  uint16_t h;
  memcpy(&h, (const char *)scales + 2 * row, 2);
  return quant_f16_to_f32(h);
}

/* ---- plain types ---------------------------------------------------------------------------------------------------- */

static float widen(quant_type type, const char *at) {
  float f;
  uint16_t h;
  if (type == QUANT_F32) return memcpy(&f, at, 4), f;
  memcpy(&h, at, 2);
  return quant_f16_to_f32(h);
}

static float row_plain(quant_type type, const char *panel, int row, int64_t k, const float *x) {
  float y = 0;
  for (int64_t i0 = 0; i0 < k; i0 += 256) {
    float b = 0;
    for (int64_t i = i0; i < k && i < i0 + 256; i++) b = fmaf(widen(type, panel + cpu_plain_at(type, i, row)), x[i], b);
    y += b;
  }
  return y;
}

static float row_f32(const char *panel, int row, int64_t k, const void *x) { return row_plain(QUANT_F32, panel, row, k, x); }
static float row_f16(const char *panel, int row, int64_t k, const void *x) { return row_plain(QUANT_F16, panel, row, k, x); }

/* ---- bf16: what vdpbf16ps computes ------------------------------------------------------------------------------------- */

static float bf16_at(const void *p) {
  uint16_t h;
  memcpy(&h, p, 2);
  return math_flushed(quant_bf16_to_f32(h));
}

static float row_bf16(const char *panel, int row, int64_t k, const void *x) {
  float y = 0;
  for (int64_t i = 0; i < k; i += 2)
    for (int64_t j = i + 1; j >= i; j--) { /* the odd one first */
      bool there = j < k;
      y = math_fma_flushed(there ? bf16_at(panel + cpu_plain_at(QUANT_BF16, j, row)) : 0, there ? bf16_at((const char *)x + 2 * j) : 0, y);
    }
  return y;
}

/* ---- blocks of 32 --------------------------------------------------------------------------------------------------- */

static float row_q8_0(const char *panel, int row, int64_t k, const void *x) {
  const quant_a32 *a = x;
  int64_t n = k / 32;
  float y = 0;
  for (int64_t i = 0; i < n; i++) {
    const cpu_line *q = (const cpu_line *)(panel + cpu_q32_at(i, n, CPU_Q8_0_LINES));
    int32_t sum = 0;
    for (int e = 0; e < 32; e++) sum += (int8_t)q[e / 4][row][e % 4] * a[i].q[e];
    y = fmaf((float)sum, scale_at(panel + cpu_q32_d(i, CPU_Q8_0_LINES), row) * a[i].d, y);
  }
  return y;
}

static float row_q4_0(const char *panel, int row, int64_t k, const void *x) {
  const quant_a32 *a = x;
  int64_t n = k / 32;
  float y = 0;
  for (int64_t i = 0; i < n; i++) {
    const cpu_line *q = (const cpu_line *)(panel + cpu_q32_at(i, n, CPU_Q4_0_LINES));
    int32_t sum = 0;
    for (int e = 0; e < 16; e++) {
      uint8_t byte = q[e / 4][row][e % 4];
      sum += ((byte & 15) - 8) * a[i].q[e] + ((byte >> 4) - 8) * a[i].q[16 + e];
    }
    y = fmaf((float)sum, scale_at(panel + cpu_q32_d(i, CPU_Q4_0_LINES), row) * a[i].d, y);
  }
  return y;
}

/* ---- blocks of 256 -------------------------------------------------------------------------------------------------- */

/* Scale and minimum of sub-block s out of the 12 packed bytes of a row. */
static void scale_min(const cpu_line *scales, int row, int s, int *scale, int *min) {
  uint8_t b[12];
  for (int i = 0; i < 12; i++) b[i] = scales[i / 4][row][i % 4];
  *scale = s < 4 ? b[s] & 63 : (b[s + 4] & 15) | b[s - 4] >> 6 << 4;
  *min = s < 4 ? b[s + 4] & 63 : b[s + 4] >> 4 | b[s] >> 6 << 4;
}

/* Q4_K and Q5_K differ by the plane h of fifth bits, which may be NULL. */
static float block_k(const cpu_line *q, const cpu_line *h, const cpu_line *scales, float d, float dmin, int row, const quant_a256 *a,
                     float y) {
  int32_t sum = 0, mins = 0;
  for (int s = 0; s < 8; s++) {
    int32_t dot = 0;
    for (int e = 0; e < 32; e++) {
      int v = (q[8 * (s / 2) + e / 4][row][e % 4] >> 4 * (s % 2)) & 15;
      if (h) v |= (h[e / 4][row][e % 4] >> s & 1) << 4;
      dot += v * a->q[32 * s + e];
    }
    int scale, min;
    scale_min(scales, row, s, &scale, &min);
    sum += scale * dot;
    mins += min * a->sums32[s];
  }
  y = fmaf((float)sum, d * a->d, y);
  return fmaf(-(float)mins, dmin * a->d, y);
}

static float row_q4_k(const char *panel, int row, int64_t k, const void *x) {
  const cpu_q4_k *w = (const void *)panel;
  const quant_a256 *a = x;
  float y = 0;
  for (int64_t i = 0; i < k / 256; i++)
    y = block_k(w[i].q, NULL, w[i].scales, scale_at(w[i].d, row), scale_at(w[i].dmin, row), row, &a[i], y);
  return y;
}

static float row_q5_k(const char *panel, int row, int64_t k, const void *x) {
  const cpu_q5_k *w = (const void *)panel;
  const quant_a256 *a = x;
  float y = 0;
  for (int64_t i = 0; i < k / 256; i++)
    y = block_k(w[i].q, w[i].h, w[i].scales, scale_at(w[i].d, row), scale_at(w[i].dmin, row), row, &a[i], y);
  return y;
}

static float row_q6_k(const char *panel, int row, int64_t k, const void *x) {
  const quant_a256 *a = x;
  int64_t n = k / 256;
  float y = 0;
  for (int64_t i = 0; i < n; i++) {
    const cpu_q6_k *w = (const void *)(panel + cpu_q6_k_at(i, n));
    int32_t sum = 0;
    for (int e = 0; e < 256; e++) {
      int half = e / 128, g = e % 128 / 32, j = e % 32 / 4, b = e % 4;
      int w0 = w->lines[half][j][0][row][b], w1 = w->lines[half][j][1][row][b], w2 = w->lines[half][j][2][row][b];
      int q = g < 3 ? w->lines[half][j][g][row][b] & 63 : w0 >> 6 | (w1 >> 6) << 2 | (w2 >> 6) << 4;
      int scale = (int8_t)w->scales[e / 64][row][e / 16 % 4];
      sum += scale * (q - 32) * a[i].q[e];
    }
    y = fmaf((float)sum, scale_at(panel + cpu_q6_k_d(i), row) * a[i].d, y);
  }
  return y;
}

/* ---- slots ---------------------------------------------------------------------------------------------------------- */

static cpu_mm_fn mm_f32, mm_f16, mm_bf16, mm_q8_0, mm_q4_0, mm_q4_k, mm_q5_k, mm_q6_k;

static void mm_f32(const void *w, size_t panel_bytes, int n_panels, int64_t k, const void *const *x, float *const *y, int n_cols,
                   bool near) {
  (void)near;
  each_row(row_f32, w, panel_bytes, n_panels, k, x, y, n_cols);
}
static void mm_f16(const void *w, size_t panel_bytes, int n_panels, int64_t k, const void *const *x, float *const *y, int n_cols,
                   bool near) {
  (void)near;
  each_row(row_f16, w, panel_bytes, n_panels, k, x, y, n_cols);
}
static void mm_bf16(const void *w, size_t panel_bytes, int n_panels, int64_t k, const void *const *x, float *const *y, int n_cols,
                   bool near) {
  (void)near;
  each_row(row_bf16, w, panel_bytes, n_panels, k, x, y, n_cols);
}
static void mm_q8_0(const void *w, size_t panel_bytes, int n_panels, int64_t k, const void *const *x, float *const *y, int n_cols,
                   bool near) {
  (void)near;
  each_row(row_q8_0, w, panel_bytes, n_panels, k, x, y, n_cols);
}
static void mm_q4_0(const void *w, size_t panel_bytes, int n_panels, int64_t k, const void *const *x, float *const *y, int n_cols,
                   bool near) {
  (void)near;
  each_row(row_q4_0, w, panel_bytes, n_panels, k, x, y, n_cols);
}
static void mm_q4_k(const void *w, size_t panel_bytes, int n_panels, int64_t k, const void *const *x, float *const *y, int n_cols,
                   bool near) {
  (void)near;
  each_row(row_q4_k, w, panel_bytes, n_panels, k, x, y, n_cols);
}
static void mm_q5_k(const void *w, size_t panel_bytes, int n_panels, int64_t k, const void *const *x, float *const *y, int n_cols,
                   bool near) {
  (void)near;
  each_row(row_q5_k, w, panel_bytes, n_panels, k, x, y, n_cols);
}
static void mm_q6_k(const void *w, size_t panel_bytes, int n_panels, int64_t k, const void *const *x, float *const *y, int n_cols,
                   bool near) {
  (void)near;
  each_row(row_q6_k, w, panel_bytes, n_panels, k, x, y, n_cols);
}

void cpu_scalar_mm(cpu_kernels *k) {
  k->mm[QUANT_F32] = mm_f32;
  k->mm[QUANT_F16] = mm_f16;
  k->mm[QUANT_BF16] = mm_bf16;
  k->mm[QUANT_Q8_0] = mm_q8_0;
  k->mm[QUANT_Q4_0] = mm_q4_0;
  k->mm[QUANT_Q4_K] = mm_q4_k;
  k->mm[QUANT_Q5_K] = mm_q5_k;
  k->mm[QUANT_Q6_K] = mm_q6_k;
}

/* ---- ceilings ------------------------------------------------------------------------------------------------------- */

enum { CHAINS = 64 };

static int32_t peak_int8(int64_t rounds) {
  int8_t w[CHAINS], x[CHAINS];
  int32_t sum = 0;
  for (int i = 0; i < CHAINS; i++) w[i] = (int8_t)(i - 32), x[i] = (int8_t)(3 * i + (int)(rounds & 7));
  for (int64_t n = 0; n < rounds; n++) {
    int32_t dot = 0;
    for (int i = 0; i < CHAINS; i++) dot += w[i] * x[i];
    sum ^= dot;
    x[n % CHAINS] ^= (int8_t)n;
  }
  return sum;
}

static float peak_f32(int64_t rounds) {
  float a[8] = {1, 2, 3, 4, 5, 6, 7, 8}, sum = 0;
  for (int64_t n = 0; n < rounds; n++)
    for (int i = 0; i < 8; i++) a[i] = fmaf(a[i], 0.5f, 1.0f);
  for (int i = 0; i < 8; i++) sum += a[i];
  return sum;
}

static int32_t peak_read(const void *bytes, size_t n_bytes) {
  const char *p = bytes;
  uint64_t sum[4] = {0}, v[4];
  for (size_t i = 0; i < n_bytes; i += sizeof v) {
    memcpy(v, p + i, sizeof v);
    for (int j = 0; j < 4; j++) sum[j] ^= v[j];
  }
  return (int32_t)(sum[0] ^ sum[1] ^ sum[2] ^ sum[3]);
}

void cpu_scalar_peak(cpu_peak *p) {
  *p = (cpu_peak){.int8 = peak_int8, .f32 = peak_f32, .bf16 = peak_f32, .read = peak_read, .int8_ops = 2.0 * CHAINS,
                  .f32_ops = 16, .bf16_ops = 16};
}
