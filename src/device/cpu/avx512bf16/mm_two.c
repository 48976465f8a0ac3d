/* avx512bf16/mm_two: the same as avx512bf16/mm in tiles of two panels. */
#define TILE_PANELS 2
#include "device/cpu/avx512bf16/mm.inc"

void cpu_avx512bf16_mm_two(cpu_kernels *k) { k->mm_two[QUANT_BF16] = mm_bf16; }
