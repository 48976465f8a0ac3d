/* cells: K and V of single cells out of their blocks and back, bit for bit. Outside, a cell is a row in the type's own
 * encoding (quant.h), as in a file; inside, cpu.h says where its elements lie. */
#include <string.h>

#include "device/cpu/cpu.h"

static size_t element(quant_type type, bool v, int cell, int d, int dim) {
  return v ? cpu_v_at(type, cell, d, dim) : cpu_k_at(type, cell, d, dim);
}

static void move(bool out, char *row, char *block, size_t width) {
  if (out) memcpy(row, block, width);
  else memcpy(block, row, width);
}

/* `type` and `width` are constants where this is called, so that each copy is one load and one store. */
static inline void move_plain(bool out, quant_type type, bool v, int dim, char *block, int from, int to, char *rows, size_t width) {
  for (int cell = from; cell < to; cell++)
    for (int d = 0; d < dim; d++, rows += width) move(out, rows, block + element(type, v, cell, d, dim) * width, width);
}

enum { Q8 = 32, Q8_BYTES = 34 }; /* Q8_0: an f16 scale, then 32 int8; a block of the cache has all int8 first, then the scales */

static void move_q8_0(bool out, bool v, int dim, char *block, int from, int to, char *rows) {
  char *scales = block + (size_t)CPU_BLOCK * (size_t)dim;
  for (int cell = from; cell < to; cell++)
    for (int b = 0; b < dim / Q8; b++, rows += Q8_BYTES) {
      move(out, rows, scales + 2 * element(QUANT_Q8_0, v, cell, b, dim / Q8), 2);
      for (int i = 0; i < Q8; i++) move(out, rows + 2 + i, block + element(QUANT_Q8_0, v, cell, Q8 * b + i, dim), 1);
    }
}

static void move_cells(bool out, quant_type type, bool v, int dim, char *block, int from, int to, char *rows) {
  if (type == QUANT_Q8_0) move_q8_0(out, v, dim, block, from, to, rows);
  else if (type == QUANT_F32) move_plain(out, QUANT_F32, v, dim, block, from, to, rows, 4);
  else if (type == QUANT_BF16) move_plain(out, QUANT_BF16, v, dim, block, from, to, rows, 2);
  else move_plain(out, QUANT_F16, v, dim, block, from, to, rows, 2);
}

void cpu_cells_get(const device *d, quant_type type, bool v, int32_t dim, const void *block, int32_t from, int32_t to, void *rows) {
  (void)d;
  move_cells(true, type, v, dim, (char *)(uintptr_t)block, from, to, rows);
}

void cpu_cells_put(const device *d, quant_type type, bool v, int32_t dim, void *block, int32_t from, int32_t to, const void *rows) {
  (void)d;
  move_cells(false, type, v, dim, block, from, to, (char *)(uintptr_t)rows);
}
