/* fit_text.c: what fits, told to people and to programs. Every number comes from plan_fit. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "plan/plan.h"

static const char *k_name(const plan_fit_wish *w, int32_t type) { return quant_table[w->types[type].k].name; }
static const char *v_name(const plan_fit_wish *w, int32_t type) { return quant_table[w->types[type].v].name; }

/* ---- text -------------------------------------------------------------------------------------------------------- */

static status rows_text(const plan_fit *f, const plan_fit_wish *w, text *out, error *err) {
  const plan_fit_sum *s = &f->sum;
  char size[32];
  for (int32_t i = 0; i < s->n_rows; i++) {
    const plan_fit_row *r = &s->rows[i];
    if (r->bytes == 0 && !r->detail[0]) continue;
    const char *detail = r->when == PLAN_FIT_LOADING ? "while loading only" : r->detail;
    TRY(text_printf(out, err, "%-8s %-20s %16" PRIu64 " %12s%s%s\n", r->whose, r->name, r->bytes, plan_fit_size(size, r->bytes), detail[0] ? "  " : "", detail));
  }
  TRY(text_printf(out, err, "%-29s %16" PRIu64 " %12s\n", "peak while loading", s->loading, plan_fit_size(size, s->loading)));
  TRY(text_printf(out, err, "%-29s %16" PRIu64 " %12s\n", "peak while running", s->running, plan_fit_size(size, s->running)));
  return text_printf(out, err, "%-29s %16" PRIu64 " %12s  %s\n", "budget", w->budget, plan_fit_size(size, w->budget), w->budget_is);
}

static status choice_text(const plan_fit_wish *w, plan_fit_choice c, const char *with, text *out, error *err) {
  TRY(text_printf(out, err, "%" PRId64 ", K/V %s %s", c.n_context, k_name(w, c.type), v_name(w, c.type)));
  if (c.drafter) TRY(text_printf(out, err, ", drafter with depth %d", plan_fit_depth(w, c)));
  else if (w->has_drafter) TRY(text_printf(out, err, ", no drafter"));
  return text_printf(out, err, "%s\n", with);
}

/* Each thing that gave way, with the numbers that made it. */
static status reasons_text(const plan_fit *f, const plan_fit_wish *w, text *out, error *err) {
  char a[32], b[32];
  const plan_fit_choice *g = &f->granted;
  if (!f->fits) return text_printf(out, err, "why      nothing fits: this is the least that is needed\n");
  if (f->asked_peak <= w->budget)
    return text_printf(out, err, "why      all of it fits: %s of %s\n", plan_fit_size(a, f->sum.peak), plan_fit_size(b, w->budget));
  TRY(text_printf(out, err, "why      what was asked for needs %s, the budget is %s\n", plan_fit_size(a, f->asked_peak), plan_fit_size(b, w->budget)));
  if (g->n_context < f->asked.n_context)
    TRY(text_printf(out, err, "         context: %" PRId64 " instead of %" PRId64 "; one token more would need %s (%" PRIu64 " bytes)\n", g->n_context,
                    f->asked.n_context, plan_fit_size(a, f->next_peak), f->next_peak));
  if (g->type) TRY(text_printf(out, err, "         K/V types: %s %s instead of %s %s\n", k_name(w, g->type), v_name(w, g->type), k_name(w, 0), v_name(w, 0)));
  if (f->asked.ngrams && !g->ngrams) TRY(text_printf(out, err, "         the pool of n-grams is left out\n"));
  if (g->drafter && g->shape)
    TRY(text_printf(out, err, "         depth: %d instead of %d\n", plan_fit_depth(w, *g), plan_fit_depth(w, f->asked)));
  if (f->asked.drafter && !g->drafter) TRY(text_printf(out, err, "         the drafter is left out\n"));
  return TANDEM_OK;
}

/* The bounds of a range of budgets, in bytes and in units. */
static status range_text(uint64_t from, uint64_t to, text *out, error *err) {
  char a[32], b[32];
  if (to == UINT64_MAX) return text_printf(out, err, "  %16" PRIu64 "   and more         %12s and more", from, plan_fit_size(a, from));
  return text_printf(out, err, "  %16" PRIu64 " %16" PRIu64 "  %12s %12s", from, to - 1, plan_fit_size(a, from), plan_fit_size(b, to - 1));
}

/* A stage is cut where its context is whole. */
static status stage_text(const plan_fit *f, const plan_fit_wish *w, const plan_fit_stage *s, text *out, error *err) {
  const char *with = !s->least.ngrams && w->ngrams ? ", no n-grams" : "";
  plan_fit_choice c = s->least;
  if (s->full < s->to) {
    TRY(range_text(s->full, s->to, out, err));
    c.n_context = f->asked.n_context;
    TRY(text_printf(out, err, "%s  context ", s->to == UINT64_MAX ? "    " : ""));
    TRY(choice_text(w, c, with, out, err));
  }
  if (s->full <= s->from) return TANDEM_OK;
  TRY(range_text(s->from, s->full < s->to ? s->full : s->to, out, err));
  TRY(text_printf(out, err, "  context from "));
  return choice_text(w, s->least, with, out, err);
}

static status conditions_text(const plan_fit *f, const plan_fit_wish *w, text *out, error *err) {
  char size[32];
  TRY(text_printf(out, err, "\nat budgets of\n"));
  for (int32_t i = 0; i < f->n_stages; i++) TRY(stage_text(f, w, &f->stages[i], out, err));
  if (f->n_stages) {
    uint64_t smallest = f->stages[f->n_stages - 1].from;
    TRY(text_printf(out, err, "  %16d %16" PRIu64 "  %12s %12s  nothing fits\n", 0, smallest - 1, "0 B", plan_fit_size(size, smallest - 1)));
  }
  if (!f->asked.drafter) return TANDEM_OK;
  TRY(text_printf(out, err, "\nthe context is below the drafter's trained length of %" PRId64 " at budgets of\n", w->drafter.n_trained));
  bool none = true;
  for (int32_t i = 0; i < f->n_stages; i++) {
    const plan_fit_stage *s = &f->stages[i];
    uint64_t end = s->short_of_drafter < s->to ? s->short_of_drafter : s->to;
    if (end <= s->from) continue;
    none = false;
    TRY(range_text(s->from, end, out, err));
    TRY(text_printf(out, err, "\n"));
  }
  return none ? text_printf(out, err, "  none\n") : TANDEM_OK;
}

static status write_text(const plan_fit *f, const plan_fit_wish *w, bool explain, text *out, error *err) {
  TRY(text_printf(out, err, "%-29s %16s\n", "what", "bytes"));
  TRY(rows_text(f, w, out, err));
  TRY(text_printf(out, err, "\nasked    %s", w->n_context ? "context " : "context as large as fits, up to the trained "));
  TRY(choice_text(w, f->asked, "", out, err));
  TRY(text_printf(out, err, "%s  context ", f->fits ? "granted" : "least  "));
  TRY(choice_text(w, f->granted, "", out, err));
  TRY(reasons_text(f, w, out, err));
  if (explain) TRY(conditions_text(f, w, out, err));
  if (!f->fits) return TANDEM_OK;
  return text_printf(out, err, "\n-c %" PRId64 " -ctk %s -ctv %s -ub %d\n", f->granted.n_context, k_name(w, f->granted.type), v_name(w, f->granted.type), w->max_tokens);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------- */

static void put_text(json *j, const char *key, const char *s) { json_put_string(j, key, s, strlen(s)); }

static void choice_json(json *j, const char *key, const plan_fit_wish *w, plan_fit_choice c) {
  json_put_object(j, key);
  json_put_int(j, "context", c.n_context);
  put_text(j, "k_type", k_name(w, c.type));
  put_text(j, "v_type", v_name(w, c.type));
  json_put_int(j, "ubatch", w->max_tokens);
  json_put_int(j, "sequences", w->n_sequences);
  json_put_bool(j, "drafter", c.drafter);
  json_put_int(j, "depth", plan_fit_depth(w, c));
  json_put_bool(j, "ngrams", c.ngrams);
  json_put_end_object(j);
}

static void row_json(json *j, const plan_fit_row *r) {
  json_put_object(j, NULL);
  put_text(j, "model", r->whose);
  put_text(j, "name", r->name);
  put_text(j, "detail", r->detail);
  json_put_uint(j, "bytes", r->bytes);
  json_put_bool(j, "loading", r->when & PLAN_FIT_LOADING);
  json_put_bool(j, "running", r->when & PLAN_FIT_RUNNING);
  json_put_end_object(j);
}

static void stage_json(json *j, const plan_fit_wish *w, const plan_fit_stage *s) {
  json_put_object(j, NULL);
  json_put_uint(j, "from", s->from);
  json_put_uint(j, "below", s->to);
  json_put_uint(j, "full_from", s->full);
  json_put_uint(j, "short_of_drafter_below", s->short_of_drafter);
  choice_json(j, "least", w, s->least);
  json_put_end_object(j);
}

static void body_json(json *j, const plan_fit *f, const plan_fit_wish *w) {
  json_put_object(j, NULL);
  put_text(j, "schema", "fit.v1");
  json_put_bool(j, "fits", f->fits);
  json_put_bool(j, "context_given", w->n_context > 0);
  choice_json(j, "asked", w, f->asked);
  choice_json(j, "granted", w, f->granted);
  json_put_array(j, "rows");
  for (int32_t i = 0; i < f->sum.n_rows; i++) row_json(j, &f->sum.rows[i]);
  json_put_end_array(j);
  json_put_uint(j, "loading", f->sum.loading);
  json_put_uint(j, "running", f->sum.running);
  json_put_uint(j, "peak", f->sum.peak);
  json_put_uint(j, "budget", w->budget);
  put_text(j, "budget_is", w->budget_is);
  json_put_uint(j, "asked_peak", f->asked_peak);
  if (f->next_peak) json_put_uint(j, "next_peak", f->next_peak);
  else json_put_null(j, "next_peak");
  json_put_array(j, "below");
  for (int32_t i = 0; i < f->n_conditions; i++) {
    json_put_object(j, NULL);
    put_text(j, "name", f->conditions[i].name);
    put_text(j, "text", f->conditions[i].says);
    json_put_uint(j, "bytes", f->conditions[i].bytes);
    json_put_end_object(j);
  }
  json_put_end_array(j);
  json_put_array(j, "stages");
  for (int32_t i = 0; i < f->n_stages; i++) stage_json(j, w, &f->stages[i]);
  json_put_end_array(j);
  json_put_end_object(j);
}

static status write_json(const plan_fit *f, const plan_fit_wish *w, text *out, error *err) {
  json j;
  json_open(&j, true, err);
  body_json(&j, f, w);
  status st = json_close(&j);
  if (!st) st = text_add(out, j.out.bytes, j.out.n, err);
  if (!st) st = text_add(out, "\n", 1, err);
  text_free(&j.out);
  return st;
}

status plan_fit_write(const plan_fit *f, const plan_fit_wish *w, bool as_json, bool explain, text *out, error *err) {
  return as_json ? write_json(f, w, out, err) : write_text(f, w, explain, out, err);
}
