/* avx512/mm: the matrix products of mm.inc on 512-bit vectors. Overrides every slot. Knows nothing of steps and threads. */
#include "device/cpu/avx512/vec.h"
#include "device/cpu/mm.h"
#include "device/cpu/mm.inc"

void cpu_avx512_mm(cpu_kernels *k) { fill_mm(k->mm); }

void cpu_avx512_peak(cpu_peak *p) { fill_peak(p); }
