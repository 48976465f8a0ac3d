/* avx2/mm: the matrix product for this level. Knows nothing of steps, threads and values. */
#include "device/cpu/mm.h"

void cpu_avx2_mm(cpu_kernels *k) { (void)k; }

void cpu_avx2_peak(cpu_peak *p) { cpu_scalar_peak(p); }
