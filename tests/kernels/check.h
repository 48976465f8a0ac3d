/* check.h: what the parts of the kernel checker share: guarded buffers, random data, the report of one line, and the lines.
 *
 * A line of the report is a slot and a type. It runs in a process of its own, so that a kernel that reads or writes where
 * nothing is mapped fails its line and no other. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <string.h>

#include "device/cpu/mm.h"
#include "kernels/oracle.h"
#include "support/levels.h"

/* ---- zone.c: buffers whose surroundings are watched ---------------------------------------------------------------- */

typedef struct zone {
  uint8_t *map, *end; /* pages between two that cannot be touched; end: of the last page that can */
  size_t capacity;
  uint8_t *data; /* what was placed */
  size_t n;
} zone;

void zone_open(zone *z, size_t capacity);
/* Room for n bytes, aligned to `align` and, if align is 4, to nothing more on purpose. Tight: the bytes end at the
 * untouchable page (or as near as align allows), so that reading past them is a crash. Else pattern bytes surround them. */
void *zone_place(zone *z, size_t n, size_t align, bool tight);
/* Fills what was placed with the pattern, whose floats are quiet NaNs, as an output before the call. */
void zone_blank(zone *z);
/* Read-only while `sealed`. */
void zone_seal(zone *z, bool sealed);
/* Are the bytes before and after still the pattern? */
bool zone_intact(const zone *z);

uint64_t random_seed(uint64_t seed); /* of this process; returns it */
uint32_t random_bits(void);
int random_below(int n);
float random_unit(void);   /* -1 .. 1 */
float random_normal(void); /* about a standard deviation of 1 */

/* Kinds of float data, from tame to rude; finite all. Brink: sums of products are about 2^-126, many by far less than it above or below. */
typedef enum data_kind { DATA_NORMAL, DATA_WIDE, DATA_ZEROS, DATA_LARGE, DATA_SMALL, DATA_BRINK, DATA_KINDS } data_kind;
void random_floats(float *x, int64_t n, data_kind kind);
const char *data_name(data_kind kind);

/* ---- check.c: the report ------------------------------------------------------------------------------------------- */

typedef struct check {
  const char *name;
  quant_type type;
  const cpu_kernels *kernels; /* [CPU_LEVELS] */
  const bool *wanted;         /* [CPU_LEVELS] levels to check; scalar is always run */
  long shapes, failures;
  char note[160];             /* printed behind the verdict: measured accuracy */
} check;

/* Says what is being run, for messages and for a crash; counts a shape. */
void check_shape(check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Which level runs now. */
void check_level(cpu_level level);
void check_fail(check *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Same bits? Names the first value that differs. */
void check_bits(check *c, const char *what, const float *got, const float *want, int64_t n);
/* |got - want| <= bound for each value, and finite where want is. */
void check_near(check *c, const char *what, const float *got, const double *want, const double *bound, int64_t n);
/* The surroundings of a buffer. */
void check_zone(check *c, const char *what, const zone *z);
/* Is there something to run at this level? Scalar always; another one if it is wanted and overrides the slot, a function pointer that lies so
 * far into cpu_kernels, and that kernel is not run already as the one of a level below. */
bool check_runs(const check *c, int level, size_t slot_offset);
#define CHECK_LEVEL(c, level, slot) check_runs(c, level, (size_t)((const char *)&(c)->kernels[0].slot - (const char *)&(c)->kernels[0]))

/* ---- the lines ----------------------------------------------------------------------------------------------------- */

typedef struct check_line {
  const char *name;
  void (*run)(check *c);
  quant_type type; /* QUANT_TYPE_END: the slot has none */
} check_line;

void check_mm(check *c), check_pack(check *c); /* check_mm.c */
void check_score(check *c), check_value(check *c), check_put_k(check *c), check_put_v(check *c), check_softmax(check *c),
    check_merge(check *c); /* check_attn.c */
void check_norm(check *c), check_quant(check *c), check_add(check *c), check_scale(check *c),
    check_axpy(check *c), check_silu(check *c), check_gelu(check *c), check_cap(check *c), check_rope(check *c),
    check_exp_sum(check *c), check_exp(check *c), check_tanh(check *c), check_angles(check *c); /* check_row.c */

/* ---- bench.c ------------------------------------------------------------------------------------------------------- */

/* Times mm of the type at the wanted levels; type QUANT_TYPE_END: of all. Returns an exit status. */
int bench_mm(const cpu_kernels *kernels, const bool *wanted, quant_type type);
/* Times score and value of all types at the wanted levels. */
int bench_attn(const cpu_kernels *kernels, const bool *wanted);

#endif
