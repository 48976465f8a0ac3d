/* avxvnni/mm: the matrix products of mm.inc on 256-bit vectors with dot products of bytes, for processors that have no AVX-512. Overrides
 * the slots of quantised types. Knows nothing of steps and threads. */
#define MM_NO_PLAIN
#include "device/cpu/avxvnni/vec.h"
#include "device/cpu/mm.h"
#include "device/cpu/mm.inc"

void cpu_avxvnni_mm(cpu_kernels *k) { fill_mm(k->mm); }

void cpu_avxvnni_peak(cpu_peak *p) { fill_peak(p); }
