/* oracle.h: what kernels must compute, said a second time: in double precision with an error bound, and, where cpu.h fixes
 * every rounding, as the exact float. Reads weights and cells from row-major blocks through quant's decoders, so it shares
 * neither layouts nor code with the kernels. */
#ifndef ORACLE_H
#define ORACLE_H

#include "quant/quant.h"

/* u: half a unit in the last place of 1, the relative error of one rounding. A result below the normal range is off by at
 * most half of the smallest subnormal instead. */
#define ORACLE_U 0x1p-24
#define ORACLE_TINY 0x1p-149

typedef struct oracle_result {
  float exact;          /* by the formula of cpu.h */
  double value, bound;  /* |value - scalar kernel| <= bound */
} oracle_result;

/* One dot product of a row of blocks and a column in the type's partner format. */
oracle_result oracle_mm(quant_type type, const void *row, const void *x, int64_t k);
/* Chain of fma from +0 over n values: a[i * a_step] * b[i * b_step]. */
oracle_result oracle_chain(const float *a, int64_t a_step, const float *b, int64_t b_step, int64_t n);
/* The chain of BF16: pairs of i, aligned to even ones, the odd element first and subnormals flushed, of i = from .. to - 1; what of a pair is
 * outside counts as zero. The value is of a as it is, the exact float of a rounded to bf16, which the bound allows. */
oracle_result oracle_pairs(const float *a, int64_t a_step, const float *b, int64_t b_step, int64_t from, int64_t to);
/* lanes16 of cpu.h: of x, or with fma of x * x. */
float oracle_lanes16(const float *x, int64_t n, bool squares);

/* n values in a partner format; returns their bytes. */
size_t oracle_quant(quant_type format, const float *x, void *y, int64_t n);

#endif
