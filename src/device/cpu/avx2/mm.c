/* avx2/mm: the matrix products of mm.inc on 256-bit vectors. Overrides every slot. Knows nothing of steps and threads. */
#include "device/cpu/avx2/vec.h"
#include "device/cpu/mm.h"
#include "device/cpu/mm.inc"

void cpu_avx2_mm(cpu_kernels *k) { fill_mm(k->mm); }

void cpu_avx2_peak(cpu_peak *p) { fill_peak(p); }
