/* fit.c: brings the numbers to plan/fit: sizes of models and plans, what the machine has, what was asked. Compiles the plans that
 * are asked about, with limits that the answer may change; no weights are read and nothing large is allocated. Then checks that
 * the plan which was granted is as large as it was said to be. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

/* ---- limits ------------------------------------------------------------------------------------------------------ */

enum { LOGITS_BYTES = 64 << 20, MIN_OUTPUTS = 16 };

/* Rows of logits one pass may have: as many as tokens, but at most 64 MiB of them, and what a verification needs. */
static int32_t outputs_limit(const tandem_engine_params *params, int32_t max_tokens, int64_t n_vocab, int32_t depth) {
  int64_t rows = LOGITS_BYTES / (n_vocab * (int64_t)sizeof(float)), verify = depth ? (int64_t)params->n_sequences * (depth + 1) : 0;
  if (rows < MIN_OUTPUTS) rows = MIN_OUTPUTS;
  if (rows < verify) rows = verify;
  return (int32_t)(rows < max_tokens ? rows : max_tokens);
}

static const quant_type kv_types[] = {[TANDEM_KV_F16] = QUANT_F16, [TANDEM_KV_F32] = QUANT_F32, [TANDEM_KV_BF16] = QUANT_BF16,
                                      [TANDEM_KV_Q8_0] = QUANT_Q8_0};
static_assert(COUNT_OF(kv_types) == ENGINE_KV_TYPES, "a type for each tandem_kv_type");

/* Limits of a target's plan; depth 0: without a drafter. */
static plan_limits limits_for(const tandem_engine *e, const tandem_engine_params *params, const plan_fit_wish *w, plan_fit_choice c) {
  int32_t depth = plan_fit_depth(w, c);
  return (plan_limits){.n_context = c.n_context, .n_sequences = params->n_sequences, .max_tokens = w->max_tokens,
                       .max_outputs = outputs_limit(params, w->max_tokens, e->model->n_vocab, depth), .k_type = w->types[c.type].k,
                       .v_type = w->types[c.type].v, .hidden = c.drafter};
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

static plan_fit_shape shape_of(const plan *p, int32_t depth) {
  return (plan_fit_shape){.depth = depth, .n_rows = p->limits.max_outputs, .scratch = p->home_bytes[OP_SCRATCH], .logits = p->home_bytes[OP_LOGITS],
                          .hidden = p->home_bytes[OP_HIDDEN], .work = p->work_bytes};
}

/* Bytes of a page of all layers of a group, for each pair of types; a type that a layer's size does not allow ends the list. */
static status page_bytes(plan_fit_wish *w, const plan_group *g, plan_fit_group *out, error *err) {
  for (int32_t t = 0; t < w->n_types; t++) {
    kv_store_shape one = {.n_pages = 1, .n_layers = g->n_layers, .k_type = w->types[t].k, .v_type = w->types[t].v};
    size_t n_bytes;
    status st = kv_store_layout(&one, g->layers, &n_bytes, t ? NULL : err);
    if (st && t == 0) return st;
    if (st) w->n_types = t;
    else out->page_bytes[t] = n_bytes;
  }
  return TANDEM_OK;
}

/* The probe's layers are laid out anew here; the plan is compiled again before it is used. */
static status add_groups(plan_fit_wish *w, const plan *p, plan_fit_model *m, error *err) {
  for (int32_t g = 0; g < p->n_groups; g++) {
    if (p->groups[g].n_layers == 0) continue;
    plan_fit_group *group = &m->groups[m->n_groups++];
    *group = (plan_fit_group){.name = p->groups[g].name, .window = p->groups[g].window, .n_layers = p->groups[g].n_layers, .follows = g};
    TRY(page_bytes(w, &p->groups[g], group, err));
  }
  return TANDEM_OK;
}

static uint64_t tables_of(const model *m, const plan *p) { return sizeof *m + sizeof *p + arena_bytes(m->memory) + arena_bytes(p->memory); }

static void add_target(plan_fit_wish *w, const tandem_engine *e, const gguf *g, const plan *p) {
  w->target.weights = e->model->weight_bytes;
  w->target.tables = sizeof *e + tables_of(e->model, p);
  w->target.tokenizer = token_memory(e->tokens);
  w->target.batch = 4 * sizeof(int32_t) * (uint64_t)w->max_tokens;
  w->target.reading = gguf_memory(g) + model_load_bytes(e->model);
  w->target.n_trained = e->model->keys.n_context;
}

/* One sequence: its tokens, a row of logits, and a sampler with every filter on. */
static void add_session(plan_fit_wish *w, const tandem_engine *e) {
  tandem_sampling dearest;
  tandem_sampling_init(&dearest);
  dearest.top_k = 0;
  dearest.typical_p = 0.5f;
  dearest.repeat_penalty = 1.5f;
  w->session = sizeof(tandem_session) + (uint64_t)e->model->n_vocab * sizeof(float) + sample_bytes(&dearest, (int32_t)e->model->n_vocab) +
               (e->tokens ? token_stream_capacity(e->tokens) : 1);
  w->session_token = sizeof(int32_t);
  w->session_draft = (uint64_t)e->model->keys.n_embd * sizeof(float);
  w->ngrams = spec_ngram_mod_bytes();
}

/* Types as asked; where lowering is allowed then Q8_0 for what is wider. */
static void add_types(plan_fit_wish *w, const tandem_engine_params *params) {
  w->types[w->n_types++] = (struct plan_fit_type){kv_types[params->kv_type_k], kv_types[params->kv_type_v]};
  if (!params->kv_type_lower) return;
  bool wide = params->kv_type_k == TANDEM_KV_F32 || params->kv_type_v == TANDEM_KV_F32;
  if (wide) w->types[w->n_types++] = (struct plan_fit_type){QUANT_F16, QUANT_F16};
  if (w->types[w->n_types - 1].k != QUANT_Q8_0 || w->types[w->n_types - 1].v != QUANT_Q8_0)
    w->types[w->n_types++] = (struct plan_fit_type){QUANT_Q8_0, QUANT_Q8_0};
}

/* ---- budget ------------------------------------------------------------------------------------------------------ */

/* Code that runs later (the text of the library and of libc, of which a part is resident from the start), stacks of threads,
 * what malloc keeps: measured 1.2 to 1.9 MiB and 10 to 30 KiB a thread (tests/fit_test.c holds it to that). */
enum { PROGRAM_LATER = 1536 << 10, THREAD_BYTES = 24 << 10, RESERVE = 1 << 20, RESERVE_PART = 64 };

/* What the process may have at its peak:
 *   what it holds now + what is free - 1 MiB - 1/64 of what is free
 * free: MemAvailable and the room in each of its cgroups, whichever is least. The reserve is for what the kernel keeps about
 * memory (page tables are 1/512 of it) and for what others take meanwhile. A limit of the address space (RLIMIT_AS) counts what is mapped,
 * `counted` bytes of which are there already. params->memory caps it all. */
static void find_budget(plan_fit_wish *w, const tandem_engine_params *params, uint64_t counted) {
  os_memory now = os_memory_now();
  uint64_t available = os_memory_free(), reserve = RESERVE + available / RESERVE_PART;
  w->budget = now.anonymous + (available > reserve ? available - reserve : 0);
  w->budget_is = "free memory";
  if (now.mappable != UINT64_MAX) {
    uint64_t mappable = counted + (now.mappable > RESERVE ? now.mappable - RESERVE : 0);
    if (mappable < w->budget) {
      w->budget = mappable;
      w->budget_is = "the limit of the address space";
    }
  }
  if (params->memory && params->memory < w->budget) {
    w->budget = params->memory;
    w->budget_is = "--memory";
  }
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

/* A context that can be planned for: the largest if there are pages for it. */
static int64_t probe_context(const plan_fit_wish *w, int64_t most) {
  kv_pages_shape shape;
  while (most > 1 && !plan_pool_shape(most, 0, w->max_tokens, w->n_sequences, &shape)) most /= 2;
  return most;
}

static status probe(plan **p, tandem_engine *e, const tandem_engine_params *params, const plan_fit_wish *w, plan_fit_choice c, error *err) {
  plan_limits l = limits_for(e, params, w, c);
  return plan_open(p, e->model, e->ops, e->device, &l, err);
}

/* Depths halve until they no longer save a row of logits. */
static status add_shapes(plan_fit_wish *w, tandem_engine *e, const tandem_engine_params *params, int64_t n_context, error *err) {
  for (int32_t depth = params->draft_depth; depth >= 1 && w->n_shapes < PLAN_FIT_SHAPES; depth /= 2) {
    plan_fit_choice c = {.n_context = n_context, .shape = w->n_shapes, .drafter = true};
    plan *p;
    w->shapes[w->n_shapes] = (plan_fit_shape){.depth = depth};
    if (w->n_shapes && limits_for(e, params, w, c).max_outputs == w->shapes[w->n_shapes - 1].n_rows) continue;
    TRY(probe(&p, e, params, w, c, err));
    w->shapes[w->n_shapes++] = shape_of(p, depth);
    plan_close(p);
  }
  return TANDEM_OK;
}

/* The drafter's sizes, by planning it on a target's plan. */
static status add_drafter(plan_fit_wish *w, tandem_engine *e, const tandem_engine_params *params, int64_t n_context, error *err) {
  plan_fit_choice c = {.n_context = n_context, .drafter = true};
  engine_draft *d = &e->draft;
  status st;
  TRY(add_shapes(w, e, params, n_context, err));
  TRY(probe(&e->plan, e, params, w, c, err));
  TRY_DONE(engine_draft_plan(e, params, err));
  const plan *p = d->plan;
  w->drafting = shape_of(p, 0);
  w->drafter.weights = d->model->weight_bytes;
  w->drafter.tables = tables_of(d->model, p);
  w->drafter.batch = engine_draft_batch_bytes(e);
  w->drafter.reading = gguf_memory(d->file) + model_load_bytes(d->model);
  w->drafter.n_trained = d->model->keys.n_context;
  if (!d->model->arch->borrows) st = add_groups(w, p, &w->drafter, err);
  w->has_drafter = !st;
done:
  plan_close(d->plan);
  plan_close(e->plan);
  d->plan = e->plan = NULL;
  return st;
}

static status gather(plan_fit_wish *w, tandem_engine *e, const gguf *g, const tandem_engine_params *params, error *err) {
  int64_t most = params->n_context ? params->n_context : e->model->keys.n_context;
  device_info d;
  plan *p;
  *w = (plan_fit_wish){.n_context = params->n_context, .n_context_min = params->n_context_min, .n_sequences = params->n_sequences,
                       .max_tokens = params->n_ubatch < most ? params->n_ubatch : (int32_t)most,
                       .drafter_demanded = params->draft_wish == TANDEM_DRAFT_REQUIRED};
  add_types(w, params);
  int64_t n_context = probe_context(w, most);
  TRY(probe(&p, e, params, w, (plan_fit_choice){.n_context = n_context}, err));
  w->alone = shape_of(p, 0);
  add_target(w, e, g, p);
  status st = add_groups(w, p, &w->target, err);
  plan_close(p);
  if (st) return st;
  add_session(w, e);
  error why = {0};
  if (params->draft) {
    TRY(engine_without_drafter(e, params, engine_draft_open(e, params, &why), &why, err));
    if (e->draft.model) TRY(engine_without_drafter(e, params, add_drafter(w, e, params, n_context, &why), &why, err));
    if (!w->has_drafter) w->n_shapes = 0;
  }
  e->ops->info(e->device, &d);
  w->program = e->program + PROGRAM_LATER + THREAD_BYTES * (uint64_t)d.n_threads;
  os_memory now = os_memory_now();
  uint64_t files = now.resident - now.anonymous; /* of the keys and records that were read */
  if (files > e->program_files) w->target.reading += files - e->program_files;
  find_budget(w, params, w->program + w->target.tables + w->target.tokenizer + (w->has_drafter ? w->drafter.tables : 0));
  return TANDEM_OK;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static uint64_t cells_of(const plan *p) {
  uint64_t n = 0;
  for (int32_t g = 0; g < p->n_groups; g++) n += p->groups[g].store_bytes;
  return n;
}

static uint64_t predicted(const plan_fit *f, const char *whose) {
  uint64_t n = 0;
  for (int32_t i = 0; i < f->sum.n_rows; i++) {
    const plan_fit_row *r = &f->sum.rows[i];
    bool shared = !strcmp(whose, "target") && !strcmp(r->name, "verification rows");
    bool memory = !strncmp(r->name, "K/V", 3) || !strcmp(r->name, "page tables") || !strcmp(r->name, "scratch") || !strcmp(r->name, "logits") ||
                  !strcmp(r->name, "work of threads");
    if (shared || (memory && !strcmp(r->whose, whose))) n += r->bytes;
  }
  return n;
}

/* The plan is what was priced, to the byte; anything else is a mistake of ours. */
static status check_plan(const plan_fit *f, const plan *p, const char *whose, bool own_pages, error *err) {
  plan_fit_shape s = shape_of(p, 0);
  uint64_t real = s.scratch + s.logits + s.hidden + s.work + (p->model->arch->borrows ? 0 : cells_of(p)), said = predicted(f, whose);
  for (int32_t g = 0; own_pages && g < p->n_groups; g++) real += kv_pages_bytes(&p->groups[g].pages);
  if (real == said) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_INTERNAL, "fit", "fit: the %s's plan takes %" PRIu64 " bytes, %" PRIu64 " were predicted", whose, real, said);
}

/* Why the drafter that could be used is not. */
static void leave_out(tandem_engine *e) {
  char need[32], have[32];
  const plan_fit *f = &e->fit;
  snprintf(e->draft.off, sizeof e->draft.off, "it does not fit beside the model: both need %s, have %s (%s)", plan_fit_size(need, f->asked_peak),
           plan_fit_size(have, e->wish.budget), e->wish.budget_is);
  engine_draft_close(e);
}

status engine_fit(tandem_engine *e, const gguf *g, const tandem_engine_params *params, error *err) {
  plan_fit *f = &e->fit;
  TRY(gather(&e->wish, e, g, params, err));
  status st = plan_fit_solve(f, &e->wish, err);
  if (st && !params->plan_only) return st;
  plan_fit_choice c = st && params->n_context ? f->asked : f->granted; /* a plan to look at needs no memory */
  if (st) plan_fit_add(&e->wish, c, &f->sum);
  if (e->draft.model && !c.drafter) leave_out(e);
  plan_limits l = limits_for(e, params, &e->wish, c);
  TRY(plan_open(&e->plan, e->model, e->ops, e->device, &l, err));
  TRY(check_plan(f, e->plan, "target", true, err));
  if (!c.drafter) return TANDEM_OK;
  TRY(engine_draft_plan(e, params, err));
  return check_plan(f, e->draft.plan, "drafter", false, err);
}

tandem_status tandem_fit(const tandem_engine_params *params, bool as_json, bool explain, tandem_write_fn *write, void *user, tandem_error *err) {
  tandem_engine_params look;
  tandem_engine *e;
  text out = {0};
  plan_fit f;
  if (!params || params->size != sizeof *params || params->vocab_only)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "params", "params: those of tandem_engine_open are needed, without vocab_only");
  look = *params;
  look.plan_only = true;
  if (look.n_threads == 0) look.n_threads = os_processors(); /* each has memory of its own */
  TRY(tandem_engine_open(&e, &look, err));
  status fits = plan_fit_solve(&f, &e->wish, err), st = plan_fit_write(&f, &e->wish, as_json, explain, &out, fits ? NULL : err);
  if (!st && !write(user, out.bytes, out.n)) st = base_fail(err, TANDEM_ERROR_CANCELLED, NULL, "telling what fits was cancelled");
  text_free(&out);
  tandem_engine_close(e);
  return st ? st : fits;
}
