/* weight: how the CPU stores weights, and bringing file bytes into that form with all threads. Knows what a panel costs,
 * not what is inside. */
#include <string.h>

#include "device/cpu/cpu.h"

/* Bytes of one matrix; false if they do not fit. */
static bool slab_bytes(const op_value *v, size_t row_bytes, size_t *slab) {
  if (v->layout == OP_ROW_MAJOR) return size_mul(row_bytes, (size_t)v->rows, slab);
  size_t n_panels = ((size_t)v->rows + CPU_PANEL - 1) / CPU_PANEL;
  return row_bytes <= SIZE_MAX / (4 * CPU_PANEL) && size_mul(n_panels, cpu_panel_bytes(v->type, v->cols), slab);
}

status cpu_weight_layout(const device *d, op_value *v, error *err) {
  const cpu_device *cpu = (const cpu_device *)(const void *)d;
  const quant_info *info = quant_find(v->type);
  size_t row_bytes = info && v->cols > 0 ? quant_row_bytes(v->type, v->cols) : 0;
  if (!row_bytes || v->rows <= 0 || v->n_slabs <= 0)
    return base_fail(err, TANDEM_ERROR_FORMAT, v->name, "%s: %lld x %lld x %lld is no shape of type %s (blocks of %d)", v->name,
                     (long long)v->cols, (long long)v->rows, (long long)v->n_slabs, info ? info->name : "unknown", info ? info->block : 0);
  if (v->layout == OP_PANELS && !cpu->kernels.mm[v->type])
    return base_fail(err, TANDEM_ERROR_UNSUPPORTED, v->name, "%s: no matrix product for type %s on the CPU", v->name, info->name);
  v->stride = v->layout == OP_PANELS ? 0 : row_bytes;
  if (slab_bytes(v, row_bytes, &v->slab) && size_mul(v->slab, (size_t)v->n_slabs, &v->extent)) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_MEMORY, v->name, "%s: %lld x %lld rows of %zu bytes do not fit the address space", v->name,
                   (long long)v->n_slabs, (long long)v->rows, row_bytes);
}

/* ---- loading -------------------------------------------------------------------------------------------------------- */

typedef struct load_job {
  pool_counter next;
  const op_value *v;
  const char *from;
  char *to;
} load_job;

enum { CHUNK = 256 * 1024 }; /* bytes a thread takes at a time: a second level cache holds both sides */

static void load_rows(load_job *j) {
  for (size_t at; (at = (size_t)pool_claim(&j->next, CHUNK)) < j->v->extent;) {
    size_t left = j->v->extent - at;
    memcpy(j->to + at, j->from + at, left < CHUNK ? left : CHUNK);
  }
}

static void load_panels(load_job *j) {
  const op_value *v = j->v;
  size_t row_bytes = quant_row_bytes(v->type, v->cols), panel_bytes = cpu_panel_bytes(v->type, v->cols);
  int64_t a_slab = (v->rows + CPU_PANEL - 1) / CPU_PANEL, n = a_slab * v->n_slabs, many = (int64_t)(CHUNK / panel_bytes) + 1;
  for (int64_t p; (p = pool_claim(&j->next, many)) < n;)
    for (int64_t end = p + many < n ? p + many : n; p < end; p++) {
      int64_t slab = p / a_slab, row = p % a_slab * CPU_PANEL, left = v->rows - row;
      cpu_panel_pack(v->type, v->cols, j->from + (size_t)(slab * v->rows + row) * row_bytes, row_bytes,
                     (int)(left < CPU_PANEL ? left : CPU_PANEL), j->to + (size_t)p * panel_bytes);
    }
}

static void load_share(void *arg, int i_thread, int n_threads) {
  load_job *j = arg;
  (void)i_thread, (void)n_threads;
  if (j->v->layout == OP_PANELS) load_panels(j);
  else load_rows(j);
}

status cpu_weight_load(device *d, const op_value *v, const void *from, void *to, error *err) {
  cpu_device *cpu = (cpu_device *)(void *)d;
  load_job j = {.v = v, .from = from, .to = to};
  (void)err;
  pool_run(cpu->pool, load_share, &j);
  return TANDEM_OK;
}

/* ---- weights that stay in their file -------------------------------------------------------------------------------- */

typedef struct bring_job {
  pool_counter next;
  const char *at;
  size_t n, n_ahead;
} bring_job;

enum { SPREAD = 1 << 20 }; /* bytes a thread takes at a time: enough that page tables are not shared */

static void bring_share(void *arg, int i_thread, int n_threads) {
  bring_job *j = arg;
  (void)n_threads;
  if (i_thread == 0) os_mapping_ask(j->at + j->n, j->n_ahead);
  for (size_t at; (at = (size_t)pool_claim(&j->next, SPREAD)) < j->n;) os_mapping_bring(j->at + at, j->n - at < SPREAD ? j->n - at : SPREAD);
}

void cpu_weight_bring(device *d, const void *at, size_t n, size_t n_ahead) {
  cpu_device *cpu = (cpu_device *)(void *)d;
  bring_job j = {.at = at, .n = n, .n_ahead = n_ahead};
  pool_run(cpu->pool, bring_share, &j);
}
