/* cells: K and V of single cells out of their blocks and back, bit for bit. Outside, a cell is a row in the type's own
 * encoding (quant.h), as in a file; inside, cpu.h says where its elements lie. */
#include <string.h>

#include "device/cpu/cpu.h"

/* Element d of a cell whose rows have dim elements: K lies in sub-blocks of 16 positions, V row after row. */
static size_t element(bool v, int cell, int d, int dim) {
  if (v) return (size_t)cell * (size_t)dim + (size_t)d;
  return ((size_t)(cell / 16) * (size_t)dim + (size_t)d) * 16 + (size_t)(cell % 16);
}

/* Of BF16: pairs of dimensions of K, of which the last may be alone, pairs of positions of V. */
static size_t paired_element(bool v, int cell, int d, int dim) {
  if (v) return element(v, cell / 2, d, dim) * 2 + (size_t)(cell % 2);
  if (d == dim - 1 && dim % 2) return element(v, cell, d, dim);
  return element(v, cell - cell % 16, d - d % 2, dim) + (size_t)(cell % 16 * 2 + d % 2);
}

static void move(bool out, char *row, char *block, size_t width) {
  if (out) memcpy(row, block, width);
  else memcpy(block, row, width);
}

/* `width` is a constant where this is called, so that each copy is one load and one store. */
static inline void move_plain(bool out, bool v, int dim, char *block, int from, int to, char *rows, size_t width) {
  for (int cell = from; cell < to; cell++)
    for (int d = 0; d < dim; d++, rows += width) move(out, rows, block + element(v, cell, d, dim) * width, width);
}

static void move_bf16(bool out, bool v, int dim, char *block, int from, int to, char *rows) {
  for (int cell = from; cell < to; cell++)
    for (int d = 0; d < dim; d++, rows += 2) move(out, rows, block + 2 * paired_element(v, cell, d, dim), 2);
}

enum { Q8 = 32, Q8_BYTES = 34 }; /* Q8_0: an f16 scale, then 32 int8; a block of the cache has all int8 first, then the scales */

static void move_q8_0(bool out, bool v, int dim, char *block, int from, int to, char *rows) {
  char *scales = block + (size_t)CPU_BLOCK * (size_t)dim;
  for (int cell = from; cell < to; cell++)
    for (int b = 0; b < dim / Q8; b++, rows += Q8_BYTES) {
      move(out, rows, scales + 2 * element(v, cell, b, dim / Q8), 2);
      for (int i = 0; i < Q8; i++) move(out, rows + 2 + i, block + element(v, cell, Q8 * b + i, dim), 1);
    }
}

static void move_cells(bool out, quant_type type, bool v, int dim, char *block, int from, int to, char *rows) {
  if (type == QUANT_Q8_0) move_q8_0(out, v, dim, block, from, to, rows);
  else if (type == QUANT_F32) move_plain(out, v, dim, block, from, to, rows, 4);
  else if (type == QUANT_BF16) move_bf16(out, v, dim, block, from, to, rows);
  else move_plain(out, v, dim, block, from, to, rows, 2);
}

void cpu_cells_get(const device *d, quant_type type, bool v, int32_t dim, const void *block, int32_t from, int32_t to, void *rows) {
  (void)d;
  move_cells(true, type, v, dim, (char *)(uintptr_t)block, from, to, rows);
}

void cpu_cells_put(const device *d, quant_type type, bool v, int32_t dim, void *block, int32_t from, int32_t to, const void *rows) {
  (void)d;
  move_cells(false, type, v, dim, block, from, to, (char *)(uintptr_t)rows);
}
