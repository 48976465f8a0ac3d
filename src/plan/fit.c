/* fit.c: which context, K/V types, depth and drafter the memory allows, from sizes alone. The peak of a choice is a step
 * function of the context that never falls, so the largest context that fits is found by halving, exactly.
 *
 *   loading   program, tables, weights, the file's pages being read
 *   running   program, tables, weights, K/V with its page tables, scratch, sessions, verification rows, server
 *   peak      the larger of the two: K/V and scratch are not touched before the weights are there
 *
 * Nothing is read from the machine here; engine/fit.c brings the numbers. */
#include <inttypes.h>
#include <stdio.h>

#include "plan/plan.h"

static uint64_t add(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

static uint64_t mul(uint64_t a, uint64_t b) {
  uint64_t r;
  return __builtin_mul_overflow(a, b, &r) ? UINT64_MAX : r;
}

const char *plan_fit_size(char out[32], uint64_t bytes) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double v = (double)bytes;
  size_t unit = 0;
  for (; v >= 1024 && unit + 1 < COUNT_OF(units); unit++) v /= 1024;
  if (bytes == UINT64_MAX) snprintf(out, 32, "more than 64 bits count");
  else snprintf(out, 32, unit ? "%.2f %s" : "%.0f %s", v, units[unit]);
  return out;
}

/* ---- the sum of a choice ----------------------------------------------------------------------------------------- */

static_assert(2 + PLAN_FIT_TYPES + PLAN_FIT_SHAPES + 2 + PLAN_FIT_TYPES <= PLAN_FIT_STAGES, "with a drafter and without one");
enum { MODEL_ROWS = 8 + OP_MAX_GROUPS, COMMON_ROWS = 6 };
static_assert(2 * MODEL_ROWS + COMMON_ROWS <= PLAN_FIT_ROWS, "rows of two models and of what they share");

static plan_fit_row *put(plan_fit_sum *s, const char *whose, const char *name, uint64_t bytes, int when) {
  plan_fit_row *r = &s->rows[s->n_rows++];
  *r = (plan_fit_row){.whose = whose, .bytes = bytes, .when = when};
  snprintf(r->name, sizeof r->name, "%s", name);
  if (when & PLAN_FIT_LOADING) s->loading = add(s->loading, bytes);
  if (when & PLAN_FIT_RUNNING) s->running = add(s->running, bytes);
  return r;
}

/* K/V of a model. A drafter's groups have the pages of the target's group that they follow, and no tables of their own. */
static void add_cells(const plan_fit_wish *w, plan_fit_choice c, const plan_fit_model *m, const char *whose, plan_fit_sum *s) {
  bool own = m == &w->target;
  uint64_t tables = 0;
  for (int32_t g = 0; g < m->n_groups; g++) {
    const plan_fit_group *group = &m->groups[g], *from = own ? group : &w->target.groups[group->follows];
    kv_pages_shape shape = {0};
    char title[40];
    bool possible = plan_pool_shape(c.n_context, from->window, w->max_tokens, w->n_sequences, &shape);
    snprintf(title, sizeof title, "K/V %s", group->name);
    plan_fit_row *r = put(s, whose, title, possible ? mul((uint64_t)shape.n_pages, group->page_bytes[c.type]) : UINT64_MAX, PLAN_FIT_RUNNING);
    snprintf(r->detail, sizeof r->detail, "%d layers, %d pages of %d cells, %s K, %s V", group->n_layers, shape.n_pages, KV_PAGE,
             quant_table[w->types[c.type].k].name, quant_table[w->types[c.type].v].name);
    tables = add(tables, possible ? kv_pages_bytes(&shape) : UINT64_MAX);
  }
  if (own) put(s, whose, "page tables", tables, PLAN_FIT_ALWAYS);
  else if (!m->n_groups) snprintf(put(s, whose, "K/V", 0, PLAN_FIT_RUNNING)->detail, sizeof s->rows->detail, "reads the target's");
}

static void add_model(const plan_fit_wish *w, plan_fit_choice c, const plan_fit_model *m, const plan_fit_shape *shape, const char *whose,
                      plan_fit_sum *s) {
  put(s, whose, "weights", m->weights, PLAN_FIT_ALWAYS);
  add_cells(w, c, m, whose, s);
  put(s, whose, "scratch", shape->scratch, PLAN_FIT_RUNNING);
  put(s, whose, "work of threads", shape->work, PLAN_FIT_RUNNING);
  put(s, whose, "batch", m->batch, PLAN_FIT_ALWAYS);
  put(s, whose, "model and plan", m->tables, PLAN_FIT_ALWAYS);
  put(s, whose, "tokenizer", m->tokenizer, PLAN_FIT_ALWAYS);
}

static void add_logits(plan_fit_sum *s, const char *whose, const char *name, uint64_t bytes, int32_t n_rows, int32_t depth) {
  plan_fit_row *r = put(s, whose, name, bytes, PLAN_FIT_RUNNING);
  if (depth) snprintf(r->detail, sizeof r->detail, "logits and hidden rows for depth %d", depth);
  else snprintf(r->detail, sizeof r->detail, "%d rows", n_rows);
}

/* What a verification needs beyond the rows of logits that there are anyway. */
static uint64_t verification(const plan_fit_shape *shape, const plan_fit_shape *alone) {
  return add(shape->hidden, shape->logits > alone->logits ? shape->logits - alone->logits : 0);
}

void plan_fit_add(const plan_fit_wish *w, plan_fit_choice c, plan_fit_sum *s) {
  const plan_fit_shape *shape = c.drafter ? &w->shapes[c.shape] : &w->alone;
  uint64_t session = add(w->session, mul(w->session_token, (uint64_t)c.n_context)), reading = w->target.reading;
  *s = (plan_fit_sum){0};
  add_model(w, c, &w->target, shape, "target", s);
  add_logits(s, "target", "logits", w->alone.logits, w->alone.n_rows, 0);
  if (c.drafter) {
    add_model(w, c, &w->drafter, &w->drafting, "drafter", s);
    add_logits(s, "drafter", "logits", add(w->drafting.logits, w->drafting.hidden), w->drafting.n_rows, 0);
    add_logits(s, "", "verification rows", verification(shape, &w->alone), shape->n_rows, shape->depth);
    session = add(session, w->session_draft);
    /* The target is read before the drafter's weights are there, which are in the sum. */
    reading = reading > w->drafter.weights ? reading - w->drafter.weights : 0;
    if (w->drafter.reading > reading) reading = w->drafter.reading;
  }
  plan_fit_row *r = put(s, "", "sessions", mul((uint64_t)w->n_sequences, session), PLAN_FIT_RUNNING);
  snprintf(r->detail, sizeof r->detail, "%d with the dearest sampling", w->n_sequences);
  if (c.ngrams) put(s, "", "n-grams", w->ngrams, PLAN_FIT_RUNNING);
  put(s, "", "server buffers", w->server, PLAN_FIT_RUNNING);
  put(s, "", "program", w->program, PLAN_FIT_ALWAYS);
  put(s, "", "file being read", reading, PLAN_FIT_LOADING);
  s->peak = s->loading > s->running ? s->loading : s->running;
}

int32_t plan_fit_depth(const plan_fit_wish *w, plan_fit_choice c) { return c.drafter ? w->shapes[c.shape].depth : 0; }

uint64_t plan_fit_peak(const plan_fit_wish *w, plan_fit_choice c) {
  plan_fit_sum s;
  plan_fit_add(w, c, &s);
  return s.peak;
}

/* ---- searching --------------------------------------------------------------------------------------------------- */

static bool fits(const plan_fit_wish *w, plan_fit_choice c) {
  uint64_t peak = plan_fit_peak(w, c);
  return peak <= w->budget && peak != UINT64_MAX;
}

/* The largest context of least .. most that fits, `least` being known to. */
static int64_t most_context(const plan_fit_wish *w, plan_fit_choice c, int64_t least, int64_t most) {
  while (least < most) {
    c.n_context = least + (most - least + 1) / 2;
    if (fits(w, c)) least = c.n_context;
    else most = c.n_context - 1;
  }
  return least;
}

/* The next choice in the order of giving way, or false. */
static bool give_way(const plan_fit_wish *w, plan_fit_choice *c) {
  if (c->ngrams) {
    c->ngrams = false;
    return true;
  }
  if (c->type + 1 < w->n_types) {
    c->type++;
    return true;
  }
  if (!c->drafter) return false;
  if (c->shape + 1 < w->n_shapes) {
    c->shape++;
    return true;
  }
  if (w->drafter_demanded) return false;
  *c = (plan_fit_choice){.n_context = c->n_context, .ngrams = w->ngrams > 0};
  return true;
}

static plan_fit_choice all_of(const plan_fit_wish *w, int64_t n_context) {
  return (plan_fit_choice){.n_context = n_context, .drafter = w->has_drafter, .ngrams = w->ngrams > 0};
}

/* Grants the first choice of that order that fits at the least context, with the largest context it has room for. False if
 * there is none: then *c is the one that needs least. */
static bool grant(const plan_fit_wish *w, int64_t least, int64_t most, plan_fit_choice *c) {
  plan_fit_choice try = all_of(w, least);
  uint64_t least_peak = UINT64_MAX;
  *c = try;
  do {
    uint64_t peak = plan_fit_peak(w, try);
    if (peak <= w->budget && peak != UINT64_MAX) {
      *c = try;
      c->n_context = most_context(w, try, least, most);
      return true;
    }
    if (peak < least_peak) {
      least_peak = peak;
      *c = try;
    }
  } while (give_way(w, &try));
  return false;
}

static int64_t least_context(const plan_fit_wish *w, int64_t most) {
  int64_t least = w->n_context_min > 0 ? w->n_context_min : PLAN_FIT_MIN_CONTEXT;
  return least < most ? least : most;
}

/* The choice that needs least. */
static plan_fit_choice smallest(const plan_fit_wish *w, int64_t least) {
  plan_fit_wish nothing = *w;
  plan_fit_choice c;
  nothing.budget = 0;
  grant(&nothing, least, least, &c);
  return c;
}

/* ---- conditions -------------------------------------------------------------------------------------------------- */

static void condition(plan_fit *f, const char *name, const char *says, uint64_t bytes) {
  f->conditions[f->n_conditions++] = (plan_fit_condition){name, says, bytes};
}

/* Below which budget the context is shorter than the drafter's trained length. */
static uint64_t drafter_longer(const plan_fit_wish *w, plan_fit_choice asked, int64_t least) {
  plan_fit_choice c = asked;
  c.n_context = w->drafter.n_trained;
  if (c.n_context > asked.n_context) return UINT64_MAX;
  return c.n_context <= least ? 0 : plan_fit_peak(w, c);
}

/* The numbers at which each wish gives way, whatever the budget is now: walks the order of giving way at the least context. */
static void add_conditions(const plan_fit_wish *w, plan_fit *f, int64_t least) {
  plan_fit_choice c = all_of(w, least);
  if (least < f->asked.n_context) condition(f, "context", "the context is shorter than was asked for", f->asked_peak);
  if (c.drafter) condition(f, "drafter_trained", "the context is below the drafter's trained length", drafter_longer(w, f->asked, least));
  if (c.ngrams) condition(f, "ngrams", "there is no pool of n-grams", plan_fit_peak(w, c));
  c.ngrams = false;
  if (w->n_types > 1) condition(f, "kv_type", "the K/V types are lowered", plan_fit_peak(w, c));
  c.type = w->n_types - 1;
  if (c.drafter && w->n_shapes > 1) condition(f, "depth", "the depth is lowered", plan_fit_peak(w, c));
  c.shape = c.drafter ? w->n_shapes - 1 : 0;
  if (c.drafter && !w->drafter_demanded) condition(f, "drafter", "the drafter is left out", plan_fit_peak(w, c));
  condition(f, "smallest", "nothing fits", plan_fit_peak(w, smallest(w, least)));
}

/* Every choice of the order that some budget is granted. */
static void add_stages(const plan_fit_wish *w, plan_fit *f, int64_t least) {
  plan_fit_choice c = all_of(w, least);
  uint64_t to = UINT64_MAX;
  do {
    plan_fit_stage s = {.least = c, .from = plan_fit_peak(w, c), .to = to};
    plan_fit_choice longer = c;
    if (s.from >= to) continue; /* needs no less than what was tried before it */
    longer.n_context = f->asked.n_context;
    s.full = plan_fit_peak(w, longer);
    longer.n_context = w->drafter.n_trained < f->asked.n_context ? w->drafter.n_trained : f->asked.n_context;
    if (c.drafter && w->drafter.n_trained > f->asked.n_context) s.short_of_drafter = UINT64_MAX;
    else if (c.drafter && w->drafter.n_trained > least) s.short_of_drafter = plan_fit_peak(w, longer);
    f->stages[f->n_stages++] = s;
    to = s.from;
  } while (give_way(w, &c));
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

static status does_not_fit(const plan_fit_wish *w, const plan_fit *f, int64_t most, error *err) {
  char need[32], have[32], weights[32];
  plan_fit_choice c;
  plan_fit_size(have, w->budget);
  if (w->n_context && grant(w, 1, most, &c))
    return base_fail(err, TANDEM_ERROR_MEMORY, "n_context", "a context of %" PRId64 " does not fit: need %s, have %s (%s); -c %" PRId64 " would fit",
                     w->n_context, plan_fit_size(need, f->asked_peak), have, w->budget_is, c.n_context);
  c = smallest(w, least_context(w, most));
  return base_fail(err, TANDEM_ERROR_MEMORY, "memory", "the model does not fit: need at least %s for a context of %" PRId64 " (weights %s), have %s (%s)%s",
                   plan_fit_size(need, plan_fit_peak(w, c)), c.n_context, plan_fit_size(weights, w->target.weights), have, w->budget_is,
                   w->max_tokens > 32 ? "; a smaller -ub needs less" : "");
}

status plan_fit_solve(plan_fit *f, const plan_fit_wish *w, error *err) {
  int64_t most = w->n_context ? w->n_context : w->target.n_trained;
  int64_t least = w->n_context ? most : least_context(w, most);
  *f = (plan_fit){.asked = all_of(w, most)};
  f->asked_peak = plan_fit_peak(w, f->asked);
  f->fits = grant(w, least, most, &f->granted);
  plan_fit_add(w, f->granted, &f->sum);
  if (f->fits && f->granted.n_context < most) {
    plan_fit_choice next = f->granted;
    next.n_context++;
    f->next_peak = plan_fit_peak(w, next);
  }
  add_conditions(w, f, least);
  add_stages(w, f, least);
  return f->fits ? TANDEM_OK : does_not_fit(w, f, most, err);
}
