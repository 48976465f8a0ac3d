/* avx512/attn: kernels of this level. Knows nothing of steps, threads and values. */
#include "device/cpu/cpu.h"

void cpu_avx512_attn(cpu_kernels *k) { (void)k; }
