/* explain.c: prints a plan. It is the debugger, the documentation and the memory model in one page. */
#include <inttypes.h>
#include <stdio.h>

#include "plan/plan.h"


static int64_t rows_for(const op_value *v, int32_t n_tokens) { return v->by == OP_TOKENS ? n_tokens : v->by == OP_OUTPUTS ? 1 : v->rows; }

typedef struct totals {
  double flops, weight_bytes;
  int32_t n_meetings;
} totals;

static totals sum(const plan *p, int32_t n_tokens) {
  totals t = {0, 0, 0};
  for (int32_t i = 0; i < p->n_steps; i++) {
    t.flops += op_flops(&p->steps[i], p->values, n_tokens, 1, n_tokens);
    t.weight_bytes += op_weight_bytes(&p->steps[i], p->values, n_tokens);
    t.n_meetings += p->steps[i].sync;
  }
  return t;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

static void operand(char *out, size_t n, const plan *p, int32_t v, int32_t n_tokens) {
  const op_value *x = v >= 0 ? &p->values[v] : NULL;
  if (!x) snprintf(out, n, "-");
  else if (op_home_is_weights(x->home) && x->n_slabs > 1)
    snprintf(out, n, "%s %s[%" PRId64 " x %" PRId64 " x %" PRId64 "]", x->name, quant_table[x->type].name, x->n_slabs, x->rows, x->cols);
  else if (op_home_is_weights(x->home)) snprintf(out, n, "%s %s[%" PRId64 " x %" PRId64 "]", x->name, quant_table[x->type].name, x->rows, x->cols);
  else snprintf(out, n, "%%%d %s %s[%" PRId64 " x %" PRId64 "]@%zu", v, x->name, quant_table[x->type].name, rows_for(x, n_tokens), x->cols, x->offset);
}

static status step_text(const plan *p, int32_t i, int32_t n_tokens, text *out, error *err) {
  const op_step *s = &p->steps[i];
  char dst[160], layer[16] = "";
  operand(dst, sizeof dst, p, s->dst, n_tokens);
  if (s->block >= 0) snprintf(layer, sizeof layer, "%d", s->block);
  if (s->dst < 0) snprintf(dst, sizeof dst, "cells of cache %d", s->cache);
  TRY(text_printf(out, err, "%5d %3s %-6s %-44s <-", i, layer, op_table[s->op].name, dst));
  for (int k = 0; k < op_table[s->op].n_src; k++) {
    if (s->src[k] < 0) continue;
    char x[160];
    operand(x, sizeof x, p, s->src[k], n_tokens);
    TRY(text_printf(out, err, " %s", x));
  }
  if (s->op == OP_ATTEND) TRY(text_printf(out, err, " cache %d, window %" PRId64, s->cache, p->caches[s->cache].window));
  double bytes = op_weight_bytes(s, p->values, n_tokens), flops = op_flops(s, p->values, n_tokens, 1, n_tokens);
  if (bytes > 0) TRY(text_printf(out, err, "  %.0f B", bytes));
  if (flops > 0) TRY(text_printf(out, err, "  %.0f flop", flops));
  return text_printf(out, err, "%s\n", s->sync ? "  |" : "");
}

static status explain_text(const plan *p, const device_info *d, int32_t n_tokens, text *out, error *err) {
  totals t = sum(p, n_tokens);
  TRY(text_printf(out, err, "plan of %s for %d token%s on %s (%s, %d thread%s)\n\n", p->model->arch->name, n_tokens, n_tokens > 1 ? "s" : "",
                  d->name, d->level, d->n_threads, d->n_threads > 1 ? "s" : ""));
  TRY(text_printf(out, err, " step lay op     result                                       <- operands; %%value name type[rows x cols]@offset; | = all threads meet\n"));
  for (int32_t i = 0; i < p->n_steps; i++) TRY(step_text(p, i, n_tokens, out, err));
  TRY(text_printf(out, err, "\nops\n"));
  bool used[OP_COUNT] = {false};
  for (int32_t i = 0; i < p->n_steps; i++) used[p->steps[i].op] = true;
  for (int k = 0; k < OP_COUNT; k++)
    if (used[k]) TRY(text_printf(out, err, "  %-6s %-12s %s\n", op_table[k].name, op_table[k].operands, op_table[k].formula));
  TRY(text_printf(out, err, "\nmemory\n"));
  for (int h = 0; h < OP_HOMES; h++) TRY(text_printf(out, err, "  %-18s %14zu B\n", op_home_names[h], p->home_bytes[h]));
  TRY(text_printf(out, err, "  %-18s %14zu B\n", "work of device", p->work_bytes));
  for (int g = 0; g < p->n_groups; g++)
    TRY(text_printf(out, err, "  K/V %-14s %14zu B  %d layers, %d pages of %d cells, %s K, %s V, window %" PRId64 "\n", p->groups[g].name,
                    p->groups[g].store_bytes, p->groups[g].n_layers, p->groups[g].pages.n_pages, KV_PAGE,
                    quant_table[p->groups[g].store.k_type].name, quant_table[p->groups[g].store.v_type].name, p->groups[g].window));
  return text_printf(out, err, "\ntotal: %d steps, %d meetings, %.0f weight bytes, %.4g flop, context %" PRId64 "\nverified: every operand of every step lies inside its buffer\n",
                     p->n_steps, t.n_meetings, t.weight_bytes, t.flops, p->limits.n_context);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void put_text(json *j, const char *key, const char *s) {
  size_t n = 0;
  while (s && s[n]) n++;
  json_put_string(j, key, s ? s : "", n);
}

static void value_json(json *j, const char *key, const plan *p, int32_t v, int32_t n_tokens) {
  const op_value *x = &p->values[v];
  json_put_object(j, key);
  json_put_int(j, "value", v);
  put_text(j, "name", x->name);
  put_text(j, "home", op_home_names[x->home]);
  put_text(j, "type", quant_table[x->type].name);
  json_put_int(j, "rows", rows_for(x, n_tokens));
  json_put_int(j, "cols", x->cols);
  json_put_int(j, "slabs", x->n_slabs);
  json_put_uint(j, "stride", x->stride);
  json_put_uint(j, "offset", x->offset);
  json_put_uint(j, "extent", x->extent);
  json_put_end_object(j);
}

static void step_json(json *j, const plan *p, int32_t i, int32_t n_tokens) {
  const op_step *s = &p->steps[i];
  json_put_object(j, NULL);
  json_put_int(j, "step", i);
  put_text(j, "op", op_table[s->op].name);
  json_put_int(j, "layer", s->block);
  if (s->dst >= 0) value_json(j, "dst", p, s->dst, n_tokens);
  json_put_array(j, "src");
  for (int k = 0; k < op_table[s->op].n_src; k++)
    if (s->src[k] >= 0) value_json(j, NULL, p, s->src[k], n_tokens);
  json_put_end_array(j);
  if (s->op == OP_STORE || s->op == OP_ATTEND) json_put_int(j, "cache", s->cache);
  json_put_double(j, "weight_bytes", op_weight_bytes(s, p->values, n_tokens));
  json_put_double(j, "flops", op_flops(s, p->values, n_tokens, 1, n_tokens));
  json_put_bool(j, "sync", s->sync);
  json_put_end_object(j);
}

static void group_json(json *j, const plan_group *g) {
  json_put_object(j, NULL);
  put_text(j, "name", g->name);
  json_put_int(j, "window", g->window);
  json_put_int(j, "layers", g->n_layers);
  json_put_int(j, "pages", g->pages.n_pages);
  json_put_int(j, "page_cells", KV_PAGE);
  put_text(j, "k_type", quant_table[g->store.k_type].name);
  put_text(j, "v_type", quant_table[g->store.v_type].name);
  json_put_uint(j, "bytes", g->store_bytes);
  json_put_end_object(j);
}

static status explain_json(const plan *p, const device_info *d, int32_t n_tokens, text *out, error *err) {
  json j;
  totals t = sum(p, n_tokens);
  json_open(&j, true, err);
  json_put_object(&j, NULL);
  put_text(&j, "arch", p->model->arch->name);
  put_text(&j, "device", d->name);
  put_text(&j, "level", d->level);
  json_put_int(&j, "threads", d->n_threads);
  json_put_int(&j, "tokens", n_tokens);
  json_put_array(&j, "steps");
  for (int32_t i = 0; i < p->n_steps; i++) step_json(&j, p, i, n_tokens);
  json_put_end_array(&j);
  json_put_object(&j, "memory");
  for (int h = 0; h < OP_HOMES; h++) json_put_uint(&j, op_home_names[h], p->home_bytes[h]);
  json_put_uint(&j, "work", p->work_bytes);
  json_put_array(&j, "kv");
  for (int g = 0; g < p->n_groups; g++) group_json(&j, &p->groups[g]);
  json_put_end_array(&j);
  json_put_end_object(&j);
  json_put_int(&j, "meetings", t.n_meetings);
  json_put_double(&j, "weight_bytes", t.weight_bytes);
  json_put_double(&j, "flops", t.flops);
  json_put_int(&j, "context", p->limits.n_context);
  json_put_bool(&j, "verified", true);
  json_put_end_object(&j);
  status st = json_close(&j);
  if (!st) st = text_add(out, j.out.bytes, j.out.n, err);
  if (!st) st = text_add(out, "\n", 1, err);
  text_free(&j.out);
  return st;
}

status plan_explain(const plan *p, const device_info *d, int32_t n_tokens, bool as_json, text *out, error *err) {
  if (n_tokens < 1 || n_tokens > p->limits.max_tokens)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_tokens", "n_tokens: %d, must be 1 to %d", n_tokens, p->limits.max_tokens);
  return as_json ? explain_json(p, d, n_tokens, out, err) : explain_text(p, d, n_tokens, out, err);
}
