/* cpu: the CPU as a device: opening a level, saying what is supported, walking the steps of a run with all threads.
 * Owns the pool of threads. Knows no kernel and no driver from inside.
 *
 * Work area: [counter of each step][shared by all threads][thread 0][thread 1]...   each part a multiple of 64 bytes. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "device/cpu/mm.h"

cpu_driver *const cpu_drivers[OP_COUNT] = {
    [OP_EMBED] = cpu_run_embed,   [OP_ROWS] = cpu_run_rows,   [OP_NORM] = cpu_run_norm,     [OP_QUANT] = cpu_run_quant,
    [OP_MM] = cpu_run_mm,         [OP_ROPE] = cpu_run_rope,   [OP_ANGLES] = cpu_run_angles, [OP_STORE] = cpu_run_store,
    [OP_ATTEND] = cpu_run_attend, [OP_GLU] = cpu_run_glu,     [OP_ADD] = cpu_run_add,       [OP_SCALE] = cpu_run_scale,
    [OP_CAP] = cpu_run_cap,       [OP_ROUTE] = cpu_run_route, [OP_MMX] = cpu_run_mmx,       [OP_MIX] = cpu_run_mix,
    [OP_SCATTER] = cpu_run_scatter, [OP_MMGLU] = cpu_run_mmglu,
};

/* ---- open and close ------------------------------------------------------------------------------------------------- */

static status choose_level(const char *name, cpu_level *level, error *err) {
  char present[64] = "";
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!cpu_level_present((cpu_level)l)) continue;
    size_t n = strlen(present);
    snprintf(present + n, sizeof present - n, "%s%s", n ? ", " : "", cpu_level_name((cpu_level)l));
    *level = (cpu_level)l; /* the last one present is the best */
  }
  if (!name) return TANDEM_OK;
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (strcmp(name, cpu_level_name((cpu_level)l))) continue;
    *level = (cpu_level)l;
    if (cpu_level_present(*level)) return TANDEM_OK;
    return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "cpu", "cpu: this machine or build lacks %s, it has %s", name, present);
  }
  char shown[80];
  return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "cpu", "cpu: unknown level '%s', this machine has %s",
                   text_escape(shown, sizeof shown, name, strlen(name)), present);
}

static void cpu_close(device *d) {
  cpu_device *c = (cpu_device *)d;
  if (!d) return;
  pool_close(c->pool);
  base_unmap(c->read_buffer, c->read_bytes);
  base_free(d);
}

static status cpu_open(device **out, const device_params *params, error *err) {
  void *memory;
  cpu_level level = CPU_SCALAR;
  *out = NULL;
  TRY(choose_level(params->level, &level, err));
  TRY(base_alloc(&memory, sizeof(cpu_device), "cpu device", err));
  cpu_device *d = memory;
  status st = pool_open(&d->pool, params->n_threads, err);
  if (st) {
    base_free(d);
    return st;
  }
  d->level = level;
  d->n_threads = params->n_threads;
  cpu_kernels_fill(&d->kernels, level);
  *out = (device *)d;
  return TANDEM_OK;
}

static void cpu_info(const device *d, device_info *info) {
  const cpu_device *c = (const cpu_device *)d;
  *info = (device_info){.name = "cpu", .level = cpu_level_name(c->level), .n_threads = c->n_threads};
}

/* ---- what it can do ------------------------------------------------------------------------------------------------- */

/* The step that is looked at, for messages. */
typedef struct inspection {
  const cpu_kernels *kernels;
  const device_program *p;
  const op_step *s;
  error *err;
} inspection;

static const char *type_name(quant_type type) {
  const quant_info *info = quant_find((int64_t)type);
  return info ? info->name : "unknown";
}

static status lacks(const inspection *c, const char *operand, const char *what, quant_type type) {
  return base_fail(c->err, TANDEM_ERROR_UNSUPPORTED, operand, "cpu: step %td %s: %s %s is %s, for which there is no kernel",
                   c->s - c->p->steps, op_table[c->s->op].name, operand, what, type_name(type));
}

static status wants(const inspection *c, const char *operand, const char *what, int64_t is, int64_t wanted) {
  return base_fail(c->err, TANDEM_ERROR_UNSUPPORTED, operand, "cpu: step %td %s: %s: %s is %" PRId64 ", must be %" PRId64,
                   c->s - c->p->steps, op_table[c->s->op].name, operand, what, is, wanted);
}

static const op_value *source(const inspection *c, int k) { return &c->p->values[c->s->src[k]]; }

/* Rows of one type, one after another. */
static status rows_of(const inspection *c, const char *operand, int32_t v, quant_type type) {
  const op_value *x = &c->p->values[v];
  if (x->layout != OP_ROW_MAJOR) return wants(c, operand, "layout", x->layout, OP_ROW_MAJOR);
  if (x->type != type) return lacks(c, operand, "type", x->type);
  return TANDEM_OK;
}

static status all_f32(const inspection *c) {
  static const char *const names[] = {"src 0", "src 1", "src 2", "src 3"};
  if (c->s->dst >= 0) TRY(rows_of(c, "dst", c->s->dst, QUANT_F32));
  for (int k = 0; k < op_table[c->s->op].n_src; k++)
    if (c->s->src[k] >= 0) TRY(rows_of(c, names[k], c->s->src[k], QUANT_F32));
  return TANDEM_OK;
}

static status check_embed(const inspection *c) {
  const op_value *w = source(c, 0);
  const quant_info *info = quant_find((int64_t)w->type);
  TRY(rows_of(c, "dst", c->s->dst, QUANT_F32));
  if (!info || !info->decode) return lacks(c, "w", "type", w->type);
  if (w->layout == OP_PANELS && !c->kernels->mm[w->type]) return lacks(c, "w", "panel type", w->type);
  return TANDEM_OK;
}

/* Rows of f32, or of a partner format in whole blocks. */
static status check_rows_out(const inspection *c) {
  const op_value *dst = &c->p->values[c->s->dst];
  if (!quant_is_partner(dst->type)) return rows_of(c, "dst", c->s->dst, QUANT_F32);
  int64_t rest = dst->cols % quant_table[dst->type].block;
  if (rest) return wants(c, "dst", "columns beyond a whole number of blocks", rest, 0);
  return rows_of(c, "dst", c->s->dst, dst->type);
}

static status check_quant(const inspection *c) {
  const op_value *dst = &c->p->values[c->s->dst];
  TRY(rows_of(c, "x", c->s->src[0], QUANT_F32));
  if (!quant_is_partner(dst->type) || !c->kernels->quant[dst->type]) return lacks(c, "dst", "type", dst->type);
  return check_rows_out(c);
}

static status check_weight(const inspection *c, const char *operand, int k) {
  const op_value *w = source(c, k);
  if (!quant_find((int64_t)w->type) || !c->kernels->mm[w->type]) return lacks(c, operand, "type", w->type);
  if (w->layout != OP_PANELS) return wants(c, operand, "layout", w->layout, OP_PANELS);
  return rows_of(c, "x", c->s->src[0], quant_table[w->type].partner);
}

static status check_product(const inspection *c) {
  TRY(check_weight(c, "w", 1));
  TRY(rows_of(c, "dst", c->s->dst, QUANT_F32));
  if (c->s->src[2] >= 0) TRY(rows_of(c, c->s->op == OP_MM ? "b" : "r", c->s->src[2], QUANT_F32));
  if (c->s->src[3] >= 0) TRY(rows_of(c, "y", c->s->src[3], QUANT_F32));
  return TANDEM_OK;
}

static status check_gated(const inspection *c) {
  TRY(check_weight(c, "g", 1));
  TRY(check_weight(c, "u", 2));
  return check_rows_out(c);
}

/* K or V: a kernel for the type, whole blocks of it in a row. */
static status check_cells(const inspection *c, const char *operand, quant_type type, int dim, bool has_kernel) {
  if (!has_kernel) return lacks(c, operand, "type", type);
  int rest = dim % quant_table[type].block;
  return rest ? wants(c, operand, "values beyond whole blocks", rest, 0) : TANDEM_OK;
}

static status check_attention(const inspection *c) {
  const cpu_kernels *k = c->kernels;
  bool store = c->s->op == OP_STORE;
  if (c->s->cache < 0 || c->s->cache >= c->p->n_caches) return wants(c, "cache", "index", c->s->cache, c->p->n_caches - 1);
  const op_cache *cache = &c->p->caches[c->s->cache];
  bool known_k = quant_find((int64_t)cache->k_type), known_v = quant_find((int64_t)cache->v_type);
  TRY(all_f32(c));
  TRY(check_cells(c, "K", cache->k_type, cache->k_dim,
                  known_k && (store ? !!k->put_k[cache->k_type] : !!k->score[cache->k_type])));
  return check_cells(c, "V", cache->v_type, cache->v_dim,
                     known_v && (store ? !!k->put_v[cache->v_type] : !!k->value[cache->v_type]));
}

static status check_norm(const inspection *c) {
  const op_value *dst = &c->p->values[c->s->dst];
  if (c->s->group < 1 || dst->cols % c->s->group)
    return wants(c, "dst", "columns beyond whole groups", c->s->group < 1 ? dst->cols : dst->cols % c->s->group, 0);
  if (dst->type == QUANT_F32) return all_f32(c);
  if (c->s->group != dst->cols) return wants(c, "dst", "columns of a group in blocks", c->s->group, dst->cols);
  TRY(check_rows_out(c));
  TRY(rows_of(c, "x", c->s->src[0], QUANT_F32));
  return c->s->src[1] >= 0 ? rows_of(c, "g", c->s->src[1], QUANT_F32) : TANDEM_OK;
}

static status cpu_supports(const device *d, const device_program *p, const op_step *s, error *err) {
  const inspection c = {&((const cpu_device *)d)->kernels, p, s, err};
  if ((unsigned)s->op >= OP_COUNT || !cpu_drivers[s->op])
    return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "op", "cpu: step %td: op %d has no driver, there are %d", s - p->steps,
                     (int)s->op, OP_COUNT);
  switch (s->op) {
  case OP_EMBED: return check_embed(&c);
  case OP_QUANT: return check_quant(&c);
  case OP_MM:
  case OP_MMX: return check_product(&c);
  case OP_STORE:
  case OP_ATTEND: return check_attention(&c);
  case OP_MMGLU: return check_gated(&c);
  case OP_NORM: return check_norm(&c);
  default: return all_f32(&c);
  }
}

/* ---- running -------------------------------------------------------------------------------------------------------- */

static size_t counters_bytes(const device_program *p) { return (size_t)p->n_steps * sizeof(pool_counter); }
static size_t shared_bytes(const device_program *p, int n_threads) {
  size_t moe = cpu_moe_shared(p), attn = cpu_attn_shared(p, n_threads);
  return size_align(moe > attn ? moe : attn, 64);
}

/* A thread uses its part for one step at a time. */
static size_t thread_bytes(const device_program *p) {
  size_t mm = cpu_mm_work(p), attn = cpu_attn_work(p);
  return size_align(mm > attn ? mm : attn, 64);
}

static size_t cpu_work_bytes(const device *d, const device_program *p) {
  int n_threads = ((const cpu_device *)d)->n_threads;
  return counters_bytes(p) + shared_bytes(p, n_threads) + (size_t)n_threads * thread_bytes(p);
}

static void walk(void *arg, int i_thread, int n_threads) {
  const cpu_run *r = arg;
  (void)n_threads;
  for (int i = 0; i < r->program->n_steps; i++) {
    const op_step *s = &r->program->steps[i];
    cpu_drivers[s->op](r, i, i_thread);
    if (s->sync) pool_barrier(r->device->pool);
  }
}

static status cpu_run_batch(device *d, const device_program *p, const device_binding *bind, const op_batch *batch, error *err) {
  cpu_device *c = (cpu_device *)d;
  char *work = bind->work;
  if (batch->n_tokens < 1 || batch->n_tokens > p->max_tokens)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_tokens", "cpu: batch of %d tokens, must be 1 to %d", batch->n_tokens,
                     p->max_tokens);
  if (batch->n_outputs < 0 || batch->n_outputs > p->max_outputs)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_outputs", "cpu: batch of %d outputs, must be 0 to %d", batch->n_outputs,
                     p->max_outputs);
  memset(work, 0, counters_bytes(p));
  cpu_run r = {
      .device = c,
      .program = p,
      .bind = bind,
      .batch = batch,
      .counters = (pool_counter *)(void *)work,
      .shared = work + counters_bytes(p),
      .work = work + counters_bytes(p) + shared_bytes(p, c->n_threads),
      .work_stride = thread_bytes(p),
  };
  pool_run(c->pool, walk, &r);
  return TANDEM_OK;
}

const device_ops cpu_device_ops = {
    .panels = CPU_PANELS_VERSION,
    .name = "cpu",
    .open = cpu_open,
    .close = cpu_close,
    .info = cpu_info,
    .weight_layout = cpu_weight_layout,
    .weight_load = cpu_weight_load,
    .weight_bring = cpu_weight_bring,
    .supports = cpu_supports,
    .work_bytes = cpu_work_bytes,
    .run = cpu_run_batch,
    .cells_get = cpu_cells_get,
    .cells_put = cpu_cells_put,
    .ceiling = cpu_ceiling,
};
