/* panel: packs rows of weights into panels and takes single rows out again. Packing only moves bytes, and bits of Q6_K (mm.h), so a
 * row out of a panel decodes to the same bits as the file's. This is the load time of a model: 4 x 4 dwords are transposed at a
 * time, in the compiler's portable vectors. Knows nothing of steps, threads and buffers. */
#include <string.h>

#include "device/cpu/mm.h"

size_t cpu_panel_bytes(quant_type type, int64_t cols) {
  return size_align(quant_row_bytes(type, cols) * CPU_PANEL, 64);
}

/* ---- transposing ---------------------------------------------------------------------------------------------------- */

typedef uint32_t dword4 __attribute__((vector_size(16)));

/* Four dwords from byte `at` on of four rows, from row r on: the four rows of dword 0, of dword 1, ... */
static inline void transpose4(const char *const *row, size_t at, int r, dword4 out[4]) {
  dword4 a, b, c, d;
  memcpy(&a, row[r] + at, 16);
  memcpy(&b, row[r + 1] + at, 16);
  memcpy(&c, row[r + 2] + at, 16);
  memcpy(&d, row[r + 3] + at, 16);
  dword4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  dword4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  out[0] = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5), out[1] = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
  out[2] = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5), out[3] = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

/* n_lines dwords of 16 rows, from byte `at` of each. */
static void pack_lines(const char *const *row, size_t at, cpu_line *to, int n_lines) {
  int j = 0;
  dword4 out[4];
  for (; j + 4 <= n_lines; j += 4)
    for (int r = 0; r < CPU_PANEL; r += 4) {
      transpose4(row, at + 4 * (size_t)j, r, out);
      for (int i = 0; i < 4; i++) memcpy(to[j + i][r], &out[i], 16);
    }
  for (; j < n_lines; j++)
    for (int r = 0; r < CPU_PANEL; r++) memcpy(to[j][r], row[r] + at + 4 * (size_t)j, 4);
}

static void pack_halves(const char *const *row, size_t at, void *to) {
  for (int r = 0; r < CPU_PANEL; r++) memcpy((char *)to + 2 * r, row[r] + at, 2);
}

static void unpack_apart(char *row, const cpu_line *from, int stride, int n_lines, int r) {
  for (int j = 0; j < n_lines; j++) memcpy(row + 4 * (size_t)j, from[stride * j][r], 4);
}

static void unpack_lines(char *row, const cpu_line *from, int n_lines, int r) { unpack_apart(row, from, 1, n_lines, r); }

static void unpack_half(char *row, const void *from, int r) { memcpy(row, (const char *)from + 2 * r, 2); }

/* Q6_K. Four weights in three bytes: two bits each in h, nibbles in q0 (of weights 0 and 2) and q1 (1 and 3), become weights 0, 1 and
 * 2 with two bits of weight 3 on top of each. Four lanes of such bytes, and back n bytes of each. */
static inline void join_q6(dword4 *h, dword4 *q0, dword4 *q1) {
  dword4 high = *h, low0 = *q0, low1 = *q1, last = (low1 >> 4 & 0x0f0f0f0f) | (high >> 2 & 0x30303030);
  *h = (low0 & 0x0f0f0f0f) | (high & 0x03030303) << 4 | (last & 0x03030303) << 6;
  *q0 = (low1 & 0x0f0f0f0f) | (high & 0x0c0c0c0c) << 2 | (last & 0x0c0c0c0c) << 4;
  *q1 = (low0 >> 4 & 0x0f0f0f0f) | (high & 0x30303030) | (last & 0x30303030) << 2;
}

/* Half a block: its h lies at h_at, its nibbles at q_at. */
static void pack_q6(const char *const *row, size_t h_at, size_t q_at, cpu_line (*to)[3]) {
  dword4 line[3][4];
  for (int j = 0; j < 8; j += 4)
    for (int r = 0; r < CPU_PANEL; r += 4) {
      transpose4(row, h_at + 4 * (size_t)j, r, line[0]);
      transpose4(row, q_at + 4 * (size_t)j, r, line[1]);
      transpose4(row, q_at + 32 + 4 * (size_t)j, r, line[2]);
      for (int i = 0; i < 4; i++) {
        join_q6(&line[0][i], &line[1][i], &line[2][i]);
        for (int l = 0; l < 3; l++) memcpy(to[j + i][l][r], &line[l][i], 16);
      }
    }
}

static void part_q6(uint8_t *h, uint8_t *q0, uint8_t *q1, int n) {
  for (int i = 0; i < n; i++) {
    int w0 = h[i] & 63, w1 = q0[i] & 63, w2 = q1[i] & 63, last = h[i] >> 6 | (q0[i] >> 6) << 2 | (q1[i] >> 6) << 4;
    h[i] = (uint8_t)(w0 >> 4 | (w1 >> 4) << 2 | (w2 >> 4) << 4 | (last >> 4) << 6);
    q0[i] = (uint8_t)((w0 & 15) | w2 << 4);
    q1[i] = (uint8_t)((w1 & 15) | last << 4);
  }
}

/* ---- one block of 16 rows, there and back --------------------------------------------------------------------------- */

/* Block i of n of a panel; row[] points at the source blocks. */
static void pack_block(quant_type type, const char *const *row, char *panel, int64_t i, int64_t n) {
  if (type == QUANT_Q8_0 || type == QUANT_Q4_0) {
    int n_lines = type == QUANT_Q8_0 ? CPU_Q8_0_LINES : CPU_Q4_0_LINES;
    pack_halves(row, 0, panel + cpu_q32_d(i, n_lines));
    pack_lines(row, 2, (cpu_line *)(panel + cpu_q32_at(i, n, n_lines)), n_lines);
  } else if (type == QUANT_Q4_K) {
    cpu_q4_k *b = (cpu_q4_k *)panel + i;
    pack_halves(row, 0, b->d);
    pack_halves(row, 2, b->dmin);
    pack_lines(row, 4, b->scales, 3);
    pack_lines(row, 16, b->q, 32);
  } else if (type == QUANT_Q5_K) {
    cpu_q5_k *b = (cpu_q5_k *)panel + i;
    pack_halves(row, 0, b->d);
    pack_halves(row, 2, b->dmin);
    pack_lines(row, 4, b->scales, 3);
    pack_lines(row, 16, b->h, 8);
    pack_lines(row, 48, b->q, 32);
  } else if (type == QUANT_Q6_K) {
    cpu_q6_k *b = (cpu_q6_k *)(panel + cpu_q6_k_at(i, n));
    for (int half = 0; half < 2; half++) {
      pack_q6(row, 128 + 32 * (size_t)half, 64 * (size_t)half, b->lines[half]);
    }
    pack_lines(row, 192, b->scales, 4);
    pack_halves(row, 208, panel + cpu_q6_k_d(i));
  }
}

/* Row r of block i of n of a panel, as the source block. */
static void unpack_block(quant_type type, const char *panel, int r, int64_t i, int64_t n, char *block) {
  if (type == QUANT_Q8_0 || type == QUANT_Q4_0) {
    int n_lines = type == QUANT_Q8_0 ? CPU_Q8_0_LINES : CPU_Q4_0_LINES;
    unpack_half(block, panel + cpu_q32_d(i, n_lines), r);
    unpack_lines(block + 2, (const cpu_line *)(panel + cpu_q32_at(i, n, n_lines)), n_lines, r);
  } else if (type == QUANT_Q4_K) {
    const cpu_q4_k *b = (const cpu_q4_k *)panel + i;
    unpack_half(block, b->d, r);
    unpack_half(block + 2, b->dmin, r);
    unpack_lines(block + 4, b->scales, 3, r);
    unpack_lines(block + 16, b->q, 32, r);
  } else if (type == QUANT_Q5_K) {
    const cpu_q5_k *b = (const cpu_q5_k *)panel + i;
    unpack_half(block, b->d, r);
    unpack_half(block + 2, b->dmin, r);
    unpack_lines(block + 4, b->scales, 3, r);
    unpack_lines(block + 16, b->h, 8, r);
    unpack_lines(block + 48, b->q, 32, r);
  } else if (type == QUANT_Q6_K) {
    const cpu_q6_k *b = (const cpu_q6_k *)(panel + cpu_q6_k_at(i, n));
    for (int half = 0; half < 2; half++) {
      const cpu_line *line = b->lines[half][0];
      unpack_apart(block + 128 + 32 * half, line, 3, 8, r);
      unpack_apart(block + 64 * half, line + 1, 3, 8, r);
      unpack_apart(block + 64 * half + 32, line + 2, 3, 8, r);
      uint8_t *low = (uint8_t *)block + 64 * half;
      part_q6((uint8_t *)block + 128 + 32 * half, low, low + 32, 32);
    }
    unpack_lines(block + 192, b->scales, 4, r);
    unpack_half(block + 208, panel + cpu_q6_k_d(i), r);
  }
}

/* ---- whole rows ----------------------------------------------------------------------------------------------------- */

static const char no_block[256]; /* what missing rows are packed from: longer than any block */

/* F16: two k at a time are a dword, split again into the halves of two lines. */
static void pack_f16(const char *const *row, int64_t cols, uint16_t *to) {
  cpu_line lines[4];
  int64_t i = 0;
  for (; i + 8 <= cols; i += 8) {
    pack_lines(row, 2 * (size_t)i, lines, 4);
    for (int j = 0; j < 8; j++, to += CPU_PANEL)
      for (int r = 0; r < CPU_PANEL; r++) memcpy(to + r, &lines[j / 2][r][2 * (j % 2)], 2);
  }
  for (; i < cols; i++, to += CPU_PANEL) pack_halves(row, 2 * (size_t)i, to);
}

/* BF16: pairs of k; the second half of an odd last line is zero. */
static void pack_bf16(const char *const *row, int64_t cols, char *to) {
  for (int64_t i = 0; i + 1 < cols; i += 16) pack_lines(row, 2 * (size_t)i, (cpu_line *)to + i / 2, cols - i < 16 ? (int)(cols - i) / 2 : 8);
  if (cols % 2 == 0) return;
  memset(to + 32 * (cols - 1), 0, 64);
  for (int r = 0; r < CPU_PANEL; r++) memcpy(to + 32 * (cols - 1) + 4 * r, row[r] + 2 * (cols - 1), 2);
}

/* Missing rows are packed from row 0 and then cleared: lanes from n_rows on of lines of `size` bytes a row. */
static void pack_plain(quant_type type, int64_t cols, const char *rows, size_t row_bytes, int n_rows, char *panel) {
  const char *row[CPU_PANEL];
  for (int r = 0; r < CPU_PANEL; r++) row[r] = rows + (size_t)(r < n_rows ? r : 0) * row_bytes;
  size_t size = type == QUANT_F16 ? 2 : 4, lines = type == QUANT_BF16 ? (size_t)(cols + 1) / 2 : (size_t)cols;
  if (type == QUANT_F16) pack_f16(row, cols, (uint16_t *)(void *)panel);
  else if (type == QUANT_BF16) pack_bf16(row, cols, panel);
  else for (int64_t i = 0; i < cols; i += 8) pack_lines(row, 4 * (size_t)i, (cpu_line *)panel + i, cols - i < 8 ? (int)(cols - i) : 8);
  for (size_t i = 0; n_rows < CPU_PANEL && i < lines; i++)
    memset(panel + (CPU_PANEL * i + (size_t)n_rows) * size, 0, (size_t)(CPU_PANEL - n_rows) * size);
}

/* A processor does not see ahead in sixteen rows: the same block of the next panel's is asked for, where there may be none. */
static void fetch_block(const char *block, int n_bytes) {
  for (int i = 0; i < n_bytes; i += 64) __builtin_prefetch(block + i);
}

void cpu_panel_pack(quant_type type, int64_t cols, const void *rows, size_t row_bytes, int n_rows, void *panel) {
  const quant_info *info = &quant_table[type];
  size_t used = quant_row_bytes(type, cols) * CPU_PANEL;
  memset((char *)panel + used, 0, cpu_panel_bytes(type, cols) - used);
  if (info->block == 1) {
    pack_plain(type, cols, rows, row_bytes, n_rows, panel);
    return;
  }
  int64_t n = cols / info->block;
  for (int64_t i = 0; i < n; i++) {
    const char *row[CPU_PANEL];
    for (int r = 0; r < CPU_PANEL; r++)
      row[r] = r < n_rows ? (const char *)rows + (size_t)r * row_bytes + (size_t)i * (size_t)info->bytes : no_block;
    for (int r = 0; r < n_rows; r++) fetch_block(row[r] + CPU_PANEL * row_bytes, info->bytes);
    pack_block(type, row, panel, i, n);
  }
}

static void decode_panel(quant_type type, int64_t cols, const char *panel, int r, float *y) {
  const quant_info *info = &quant_table[type];
  _Alignas(16) char block[256];
  if (info->block > 1) {
    int64_t n = cols / info->block;
    for (int64_t i = 0; i < n; i++) {
      unpack_block(type, panel, r, i, n, block);
      info->decode(block, y + i * info->block, info->block);
    }
    return;
  }
  int size = info->bytes, many = (int)sizeof block / size;
  for (int64_t i0 = 0; i0 < cols; i0 += many) {
    int n = cols - i0 < many ? (int)(cols - i0) : many;
    for (int i = 0; i < n; i++) memcpy(block + size * i, panel + cpu_plain_at(type, i0 + i, r), (size_t)size);
    info->decode(block, y + i0, n);
  }
}

void cpu_decode_row(const op_value *w, const void *bytes, int64_t row, float *y) {
  if (w->layout == OP_ROW_MAJOR) {
    quant_table[w->type].decode((const char *)bytes + (size_t)row * w->stride, y, w->cols);
    return;
  }
  const char *panel = (const char *)bytes + (size_t)(row / CPU_PANEL) * cpu_panel_bytes(w->type, w->cols);
  decode_panel(w->type, w->cols, panel, (int)(row % CPU_PANEL), y);
}
