/* engine.c: opens a model: file, vocabulary, device, dimensions, what fits, plan, memory, weights; in this order, so that everything is
 * sized and verified before anything large is allocated. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

/* ---- parameters -------------------------------------------------------------------------------------------------- */

void tandem_engine_params_init(tandem_engine_params *p) {
  *p = (tandem_engine_params){.size = sizeof *p, .n_sequences = 1, .n_ubatch = 512, .draft_behind = 1, .draft_depth = 16};
}

static status check_params(const tandem_engine_params *p, error *err) {
  if (!p || p->size != sizeof *p)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "size", "size: %zu, must be %zu (tandem_engine_params_init sets it)", p ? p->size : 0, sizeof *p);
  if (!p->model || !p->model[0]) return base_fail(err, TANDEM_ERROR_ARGUMENT, "model", "model: no file is named");
  if (p->n_threads < 0 || p->n_threads > 1024)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_threads", "n_threads: %d, must be 1 to 1024, or 0", p->n_threads);
  if (p->n_ubatch < 1 || p->n_ubatch > 4096)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_ubatch", "n_ubatch: %d, must be 1 to 4096", p->n_ubatch);
  if (p->n_context < 0 || p->n_context > 1 << 27)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_context", "n_context: %" PRId64 ", must be 1 to %d, or 0", p->n_context, 1 << 27);
  if (p->n_context_min < 0 || p->n_context_min > 1 << 27)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_context_min", "n_context_min: %" PRId64 ", must be 1 to %d, or 0", p->n_context_min, 1 << 27);
  if (p->n_sequences < 1 || p->n_sequences > PLAN_MAX_SESSIONS)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_sequences", "n_sequences: %d, must be 1 to %d", p->n_sequences, PLAN_MAX_SESSIONS);
  if (p->draft_depth < 1 || p->draft_depth > TANDEM_MAX_DRAFT)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "draft_depth", "draft_depth: %d, must be 1 to %d", p->draft_depth, TANDEM_MAX_DRAFT);
  if ((unsigned)p->draft_wish > TANDEM_DRAFT_REQUIRED)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "draft_wish", "draft_wish: %d, must be 0 to 2", (int)p->draft_wish);
  TRY(spec_ngram_check(&p->ngram_simple, "ngram-simple", err));
  TRY(spec_ngram_check(&p->ngram_mod, "ngram-mod", err));
  if (p->draft_behind != 0 && p->draft_behind != 1)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "draft_behind", "draft_behind: %d, must be 0 or 1", p->draft_behind);
  if ((unsigned)p->kv_type_k >= ENGINE_KV_TYPES || (unsigned)p->kv_type_v >= ENGINE_KV_TYPES)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "kv_type", "kv_type: %d and %d, must be 0 to %d", (int)p->kv_type_k, (int)p->kv_type_v,
                     ENGINE_KV_TYPES - 1);
  return TANDEM_OK;
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static status check_vocab(const tandem_engine *e, error *err) {
  if (e->tokens && token_count(e->tokens) != e->model->n_vocab)
    return base_fail(err, TANDEM_ERROR_FORMAT, "tokenizer.ggml.tokens", "tokenizer.ggml.tokens: %d tokens, token_embd.weight has %" PRId64 " rows",
                     token_count(e->tokens), e->model->n_vocab);
  return TANDEM_OK;
}

static size_t kv_bytes(const plan *p) {
  size_t n = 0;
  for (int g = 0; g < p->n_groups; g++) n += p->groups[g].store_bytes + kv_pages_bytes(&p->groups[g].pages);
  return n;
}

static size_t scratch_bytes(const plan *p) {
  return p->home_bytes[OP_SCRATCH] + p->home_bytes[OP_LOGITS] + p->home_bytes[OP_HIDDEN] + p->work_bytes;
}

static status map_memory(tandem_engine *e, error *err) {
  const plan *p = e->plan;
  void *region;
  TRY(base_map(&region, e->model->weight_bytes, true, "weights", err));
  e->memory.weights = region;
  TRY(base_map(&e->memory.scratch, p->home_bytes[OP_SCRATCH], true, "scratch", err));
  TRY(base_map(&region, p->home_bytes[OP_LOGITS], true, "logits", err));
  e->memory.logits = region;
  if (p->home_bytes[OP_HIDDEN]) TRY(base_map(&e->memory.hidden, p->home_bytes[OP_HIDDEN], true, "hidden rows", err));
  TRY(base_map(&e->memory.work, p->work_bytes, true, "work area", err));
  for (int g = 0; g < p->n_groups; g++) {
    TRY(base_map(&e->memory.stores[g], p->groups[g].store_bytes, false, "K/V", err));
    TRY(kv_pages_open(&e->pages[g], &p->groups[g].pages, err));
    for (int32_t s = 0; s < PLAN_MAX_SESSIONS; s++) e->tables[g][s] = kv_pages_table(e->pages[g], s);
  }
  TRY(base_alloc_array(&region, 4 * (size_t)p->limits.max_tokens, sizeof(int32_t), "batch", err));
  e->ids = region;
  e->positions = e->ids + p->limits.max_tokens;
  e->sequences = e->positions + p->limits.max_tokens;
  e->outputs = e->sequences + p->limits.max_tokens;
  return TANDEM_OK;
}

static status open_device(tandem_engine *e, const tandem_engine_params *params, error *err) {
  device_params dp = {.n_threads = params->n_threads ? params->n_threads : os_processors(), .level = params->cpu};
  if (params->plan_only && params->n_threads == 0) dp.n_threads = 1; /* nothing will run */
  e->ops = device_find("cpu");
  return e->ops->open(&e->device, &dp, err);
}

/* Drafters that need no model; without memory for them there are fewer. */
static void open_ngrams(tandem_engine *e, const tandem_engine_params *params) {
  spec_ngram_simple_open(&e->drafters[SPEC_NGRAM_SIMPLE], &params->ngram_simple, NULL);
  if (e->fit.granted.ngrams || !e->wish.ngrams) spec_ngram_mod_open(&e->drafters[SPEC_NGRAM_MOD], &params->ngram_mod, NULL);
}

/* Everything that reads the file. */
static status open_from(tandem_engine *e, const gguf *g, const tandem_engine_params *params, error *err) {
  TRY(token_open(&e->tokens, g, err));
  if (params->vocab_only) return TANDEM_OK;
  TRY(open_device(e, params, err));
  TRY(model_open(&e->model, g, e->ops, e->device, err));
  e->file_hash = engine_hash_file(g);
  TRY(check_vocab(e, err));
  TRY(engine_fit(e, g, params, err));
  if (params->plan_only) return TANDEM_OK;
  TRY(map_memory(e, err));
  TRY(model_load(e->model, g, e->ops, e->device, (void *)(uintptr_t)e->memory.weights, &e->mapped, params->progress, params->user, err));
  if (e->mapped) e->weights_hash = engine_hash_weights(e);
  error why = {0};
  if (e->draft.plan) TRY(engine_without_drafter(e, params, engine_draft_load(e, params, &why), &why, err));
  open_ngrams(e, params);
  e->loaded = true;
  return TANDEM_OK;
}

tandem_status tandem_engine_open(tandem_engine **engine, const tandem_engine_params *params, tandem_error *err) {
  void *memory = NULL;
  gguf *g = NULL;
  status st;
  if (!engine) return base_fail(err, TANDEM_ERROR_ARGUMENT, "engine", "engine: NULL");
  *engine = NULL;
  TRY(check_params(params, err));
  os_memory before = os_memory_now();
  TRY(base_alloc(&memory, sizeof(tandem_engine), "engine", err));
  tandem_engine *e = memory;
  e->program = before.resident;
  e->program_files = before.resident - before.anonymous;
  TRY_DONE(gguf_open(&g, params->model, err));
  st = open_from(e, g, params, err);
  bool named = err && (strstr(err->text, params->model) || (params->draft && strstr(err->text, params->draft)));
  if (st && st != TANDEM_ERROR_MEMORY && st != TANDEM_ERROR_CANCELLED && st != TANDEM_ERROR_ARGUMENT && err && !named)
    base_fail_in(err, params->model);
done:
  gguf_close(g);
  if (st) {
    tandem_engine_close(e);
    return st;
  }
  *engine = e;
  return TANDEM_OK;
}

void tandem_engine_close(tandem_engine *e) {
  if (!e) return;
  const plan *p = e->plan;
  engine_draft_close(e);
  for (int k = 0; k < SPEC_KINDS; k++)
    if (e->drafters[k]) e->drafters[k]->ops->close(e->drafters[k]);
  for (int g = 0; p && g < p->n_groups; g++) {
    kv_pages_close(e->pages[g], NULL);
    base_unmap(e->memory.stores[g], p->groups[g].store_bytes);
  }
  if (p) {
    base_unmap(e->memory.work, p->work_bytes);
    base_unmap(e->memory.hidden, p->home_bytes[OP_HIDDEN]);
    base_unmap(e->memory.logits, p->home_bytes[OP_LOGITS]);
    base_unmap(e->memory.scratch, p->home_bytes[OP_SCRATCH]);
    os_mapping_close(e->mapped);
    base_unmap((void *)(uintptr_t)e->memory.weights, e->model->weight_bytes);
  }
  base_free(e->ids);
  plan_close(e->plan);
  model_close(e->model);
  token_close(e->tokens);
  if (e->ops) e->ops->close(e->device);
  base_free(e);
}

/* ---- looking ----------------------------------------------------------------------------------------------------- */

static status need_model(const tandem_engine *e, error *err) {
  if (e->plan) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_ARGUMENT, "vocab_only", "the engine was opened for its vocabulary only");
}

/* What attention costs a token for each position it sees. A cell that several layers read counts for each. */
static void add_attention(const plan *p, tandem_engine_info *info) {
  for (int32_t i = 0; i < p->n_steps; i++) {
    const op_step *s = &p->steps[i];
    if (s->op != OP_ATTEND) continue;
    const op_cache *c = &p->caches[s->cache];
    info->cell_arithmetic = op_cell_arithmetic(c->k_type);
    uint64_t bytes = (uint64_t)c->n_heads * (op_row_bytes(c->k_type, c->k_dim) + op_row_bytes(c->v_type, c->v_dim));
    uint64_t macs = (uint64_t)s->n_heads * (uint64_t)(c->k_dim + c->v_dim);
    *(c->window ? &info->window_cell_bytes : &info->cell_bytes) += bytes;
    *(c->window ? &info->window_cell_macs : &info->cell_macs) += macs;
    if (c->window) info->window = c->window;
  }
}

tandem_status tandem_engine_get_info(const tandem_engine *e, tandem_engine_info *info, tandem_error *err) {
  if (!info || info->size != sizeof *info)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "size", "size: %zu, must be %zu", info ? info->size : 0, sizeof *info);
  TRY(need_model(e, err));
  device_info d;
  e->ops->info(e->device, &d);
  const plan *p = e->plan;
  const plan_costs cost = plan_cost(p);
  *info = (tandem_engine_info){
      .size = sizeof *info, .arch = e->model->arch->name, .name = e->model->name, .cpu = d.level, .n_vocab = (int32_t)e->model->n_vocab,
      .n_layers = e->model->n_layers, .n_embd = (int32_t)e->model->keys.n_embd, .n_threads = d.n_threads, .n_ubatch = p->limits.max_tokens,
      .n_context = p->limits.n_context, .n_context_train = e->model->keys.n_context, .has_vocab = e->tokens != NULL,
      .n_params = e->model->n_params, .weight_bytes = e->model->weight_bytes, .kv_bytes = kv_bytes(p), .scratch_bytes = scratch_bytes(p),
      .peak_bytes = e->fit.sum.peak, .read_bytes = cost.read_bytes, .expert_bytes = cost.expert_bytes, .n_experts = cost.n_experts,
      .n_experts_used = cost.n_used, .macs = cost.macs, .arithmetic = cost.arithmetic};
  add_attention(p, info);
  info->draft_kind = info->draft_name = "";
  info->draft_off = e->draft.off;
  spec_kind kind = e->draft.plan && e->draft.model->arch->borrows ? SPEC_SHARED : SPEC_MODEL;
  if (!e->draft.plan || (e->loaded && !e->drafters[kind])) return TANDEM_OK; /* none, or it failed on the way */
  info->draft_kind = spec_table[kind]->name;
  info->draft_name = e->draft.model->name;
  info->draft_weight_bytes = e->draft.model->weight_bytes;
  info->draft_kv_bytes = engine_draft_kv_bytes(e);
  info->draft_scratch_bytes = engine_draft_scratch_bytes(e);
  info->draft_context_train = e->draft.model->keys.n_context;
  info->draft_companion_bytes = plan_draft_kv_bytes(e->draft.plan, p->limits.n_context);
  info->draft_separate_bytes = plan_draft_kv_bytes(e->draft.plan, e->draft.model->keys.n_context);
  return TANDEM_OK;
}

tandem_status tandem_explain(const tandem_engine *e, int32_t n_tokens, bool as_json, tandem_write_fn *write, void *user, tandem_error *err) {
  text out = {0};
  device_info d;
  TRY(need_model(e, err));
  e->ops->info(e->device, &d);
  status st = plan_explain(e->plan, &d, n_tokens, as_json, &out, err);
  if (!st && !write(user, out.bytes, out.n)) st = base_fail(err, TANDEM_ERROR_CANCELLED, NULL, "explaining was cancelled");
  text_free(&out);
  return st;
}

static status need_vocab(const tandem_engine *e, error *err) {
  if (e->tokens) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "tokenizer.ggml.model", "the model has no vocabulary: only token ids can be used");
}

tandem_status tandem_tokenize(const tandem_engine *e, const char *s, size_t n, unsigned flags, int32_t *ids, size_t capacity, size_t *n_ids,
                              tandem_error *err) {
  token_ids all = {0};
  *n_ids = 0;
  TRY(need_vocab(e, err));
  status st = token_encode(e->tokens, s, n, flags, &all, err);
  if (!st) {
    *n_ids = all.n;
    if (all.n && capacity) memcpy(ids, all.ids, (all.n < capacity ? all.n : capacity) * sizeof *ids);
  }
  token_ids_free(&all);
  return st;
}

tandem_status tandem_token_bytes(const tandem_engine *e, int32_t id, bool special, char *bytes, size_t capacity, size_t *n_bytes, tandem_error *err) {
  *n_bytes = 0;
  TRY(need_vocab(e, err));
  if (id < 0 || id >= token_count(e->tokens))
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "id", "id: %d, must be 0 to %d", id, token_count(e->tokens) - 1);
  *n_bytes = token_bytes(e->tokens, id, special, bytes, capacity);
  return TANDEM_OK;
}

bool tandem_token_is_end(const tandem_engine *e, int32_t id) { return e->tokens && token_is_end(e->tokens, id); }

tandem_status tandem_measure_ceiling(tandem_engine *e, tandem_ceiling what, double seconds, double *per_second, tandem_error *err) {
  TRY(need_model(e, err));
  if ((unsigned)what >= TANDEM_CEILINGS)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "what", "ceiling: %d, must be 0 to %d", (int)what, TANDEM_CEILINGS - 1);
  return e->ops->ceiling(e->device, what, seconds, per_second, err);
}

uint64_t tandem_allocation_count(void) { return base_alloc_count(); }

#define QUOTE_VALUE(x) #x
#define QUOTE(x) QUOTE_VALUE(x)

const char *tandem_version(void) {
  return QUOTE(TANDEM_VERSION_MAJOR) "." QUOTE(TANDEM_VERSION_MINOR) "." QUOTE(TANDEM_VERSION_PATCH) " (" TANDEM_COMPILER ", " TANDEM_BUILD_TYPE ")";
}
