/* avx512/row: row.inc on this level's vectors. */
#include "device/cpu/avx512/vecf.h"
#include "device/cpu/scalar/math.h"

#include "device/cpu/math.inc"
#include "device/cpu/row.inc"

void cpu_avx512_row(cpu_kernels *k) { row_fill(k); }
