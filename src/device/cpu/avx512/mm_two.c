/* avx512/mm_two: the same as avx512/mm in tiles of two panels. Knows nothing of steps and threads. */
#define TILE_PANELS 2
#define MM_NO_PEAK
#include "device/cpu/avx512/vec.h"
#include "device/cpu/mm.h"
#include "device/cpu/mm.inc"

void cpu_avx512_mm_two(cpu_kernels *k) { fill_mm(k->mm_two); }
