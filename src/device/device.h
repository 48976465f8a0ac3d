/* device: the contract between a plan and what runs it. A device holds buffers, stores weights in its own layout, says which
 * steps it can do, and walks a program's steps for a batch. Devices are rows of device_table and never see each other.
 *
 * A program is what was verified: values and steps with offsets into four homes. The device trusts it, and checks only what
 * comes at run time (n_tokens within the limit; ids, positions, pages are checked by the engine before). */
#ifndef DEVICE_H
#define DEVICE_H

#include "op/op.h"

typedef struct device device;

enum { DEVICE_ROWS = 64 }; /* rows of a matrix that can be brought in alone; see weight_layout */

typedef struct device_params {
  int32_t n_threads;   /* >= 1 */
  const char *level;   /* instruction set level; NULL = best */
} device_params;

typedef struct device_program {
  const op_value *values;
  int32_t n_values;
  const op_step *steps;
  int32_t n_steps;
  const op_cache *caches;
  int32_t n_caches;
  int32_t max_tokens, max_outputs; /* limits of a batch */
} device_program;

/* Memory of the homes. For the CPU these are host addresses. */
typedef struct device_binding {
  const void *weights;
  const void *lent;            /* OP_LENT */
  void *scratch;
  float *logits;
  void *hidden;                /* OP_HIDDEN */
  void *stores[OP_MAX_GROUPS]; /* K/V bytes of each group */
  void *work;                  /* device_info.work_bytes of the program */
} device_binding;

typedef struct device_info {
  const char *name;  /* "cpu" */
  const char *level; /* "avx512" */
  int32_t n_threads;
} device_info;

typedef void device_cells_get(const device *d, quant_type type, bool v, int32_t dim, const void *block, int32_t from, int32_t to,
                              void *rows);
typedef void device_cells_put(const device *d, quant_type type, bool v, int32_t dim, void *block, int32_t from, int32_t to,
                              const void *rows);

typedef struct device_ops {
  const char *name;
  int panels; /* version of its layout OP_PANELS, which files may hold ("tandem.panels"); grows when that changes */
  status (*open)(device **d, const device_params *params, error *err);
  void (*close)(device *d); /* NULL is allowed */
  void (*info)(const device *d, device_info *info);
  /* How this device stores a weight of n_slabs matrices: fills layout's slab, stride and extent of *v from its type, rows,
   * cols, n_slabs and layout. The first n rows of a matrix, n a multiple of DEVICE_ROWS, lie as a matrix of n rows would, and
   * the rest behind them likewise: so a large one can be brought in by parts. */
  status (*weight_layout)(const device *d, op_value *v, error *err);
  /* Brings rows of file bytes into that layout at `to` (the value's first byte). All threads work on it. */
  status (*weight_load)(device *d, const op_value *v, const void *from, void *to, error *err);
  /* Brings n bytes into memory that lie mapped from a file at `at`, and asks for the n_ahead that follow them. All threads work on it. */
  void (*weight_bring)(device *d, const void *at, size_t n, size_t n_ahead);
  /* Can it do this step with these operand types and layouts? Names the step and the operand if not. */
  status (*supports)(const device *d, const device_program *p, const op_step *s, error *err);
  /* Bytes of work area a program needs: per-thread temporaries, column lists. */
  size_t (*work_bytes)(const device *d, const device_program *p);
  /* Evaluates a batch. Allocates nothing. */
  status (*run)(device *d, const device_program *p, const device_binding *bind, const op_batch *batch, error *err);
  /* Cells from .. to - 1 of a block of K (or V: the page's part of one head) as rows of dim values, one after another in the
   * type's own encoding: out of the block, and into it. Exact, so that saved cells do not depend on the device. */
  device_cells_get *cells_get;
  device_cells_put *cells_put;
  /* What the machine can do, as tandem_measure_ceiling says. */
  status (*ceiling)(device *d, tandem_ceiling what, double seconds, double *per_second, error *err);
} device_ops;

extern const device_ops *const device_table[];
extern const int device_count;

/* The device of that name, or NULL. */
const device_ops *device_find(const char *name);

#endif
