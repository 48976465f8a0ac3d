/* advance.c: one step of one or several sessions: guess, evaluate, sample and match, roll back.
 *
 *   open_part   how many guesses there is room for, whom to ask and for how many
 *   ask         the drafters, kind by kind; a sequence takes the first proposal that is not empty
 *   evaluate    one pass over every session's last token and its drafts, never split
 *   close_part  the target's tokens are drawn; cells and tokens behind the last match are taken back; all is measured
 *
 * If anything about guessing fails, there are no guesses. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/engine.h"

static int32_t min_of(int64_t a, int64_t b) { return (int32_t)(a < b ? a : b); }

/* ---- before the pass --------------------------------------------------------------------------------------------- */

static status check_step(const tandem_step *steps, int32_t i, error *err) {
  const tandem_session *s = steps[i].session;
  const tandem_engine *e = s->engine;
  if (e != steps[0].session->engine) return base_fail(err, TANDEM_ERROR_ARGUMENT, "steps", "step %d: a session of another engine", i);
  for (int32_t j = 0; j < i; j++)
    if (steps[j].session == s) return base_fail(err, TANDEM_ERROR_ARGUMENT, "steps", "steps %d and %d: the same session", j, i);
  if (steps[i].n_max < 1) return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_max", "step %d: n_max: %d, must be at least 1", i, steps[i].n_max);
  if (steps[i].last < 0 || steps[i].last >= e->model->n_vocab)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "last", "step %d: id %d, must be 0 to %" PRId64, i, steps[i].last, e->model->n_vocab - 1);
  if (s->n >= e->plan->limits.n_context)
    return base_fail(err, TANDEM_ERROR_CONTEXT, "n_context", "1 token after %" PRId64 " does not fit the context of %" PRId64, s->n, e->plan->limits.n_context);
  return TANDEM_OK;
}

/* A number below n out of a seed and a position: for tests with random depths. */
static int32_t random_below(uint64_t seed, int64_t position, int32_t n) {
  return (int32_t)(sample_uniform(seed, (uint64_t)position, 7, 0, 0) * n);
}

/* Is the depth left to the rule of depth.c? */
static bool by_rule(const engine_policy *p) { return p->bounds.depth < 0 && !p->depth_seed; }

/* How many tokens to ask of a kind. */
static int32_t ask_for(engine_part *p, spec_kind kind, int32_t n_sessions) {
  tandem_session *s = p->s;
  const engine_policy *policy = &s->speculation.policy;
  if (policy->depth_seed) return min_of(p->limit, random_below(policy->depth_seed, s->n, policy->bounds.n_max + 1));
  if (policy->bounds.depth >= 0) return min_of(p->limit, policy->bounds.depth);
  return spec_depth_ask(&s->speculation.depth, &s->engine->costs, kind, p->limit, n_sessions, s->n);
}

/* Whom to ask, in which order: as listed, or by what each promises. */
static void order_kinds(engine_part *p, int32_t n_sessions) {
  tandem_session *s = p->s;
  const engine_policy *policy = &s->speculation.policy;
  p->n_order = 0;
  for (int32_t i = 0; i < policy->n_kinds && p->limit > 0; i++) {
    struct engine_candidate c = {.kind = policy->kinds[i]};
    if (!s->engine->drafters[c.kind] || (c.n = ask_for(p, c.kind, n_sessions)) < 1) continue;
    c.rate = s->speculation.depth.rate;
    int32_t at = p->n_order++;
    for (; at > 0 && by_rule(policy) && policy->by_value && c.rate > p->order[at - 1].rate; at--) p->order[at] = p->order[at - 1];
    p->order[at] = c;
  }
}

static void open_part(tandem_engine *e, engine_part *p, tandem_step *step, int32_t n_steps) {
  tandem_session *s = step->session;
  int32_t rows = min_of(e->plan->limits.max_tokens, e->plan->limits.max_outputs);
  *p = (engine_part){.step = step, .s = s, .first_row = -1};
  p->limit = min_of(s->speculation.policy.bounds.n_max, e->plan->limits.n_context - s->n - 1);
  p->limit = min_of(p->limit, step->n_max - 1);
  p->limit = min_of(p->limit, rows / n_steps - 1);
  order_kinds(p, n_steps);
  for (int32_t i = 0; i < p->n_order; i++) p->k = p->order[i].n > p->k ? p->order[i].n : p->k;
}

/* Cells for the last token and all guesses: a companion writes there before the target does. Without room no guesses. */
static status take_cells(engine_part *p, error *err) {
  if (p->k > 0 && !engine_take_cells(p->s, 1 + p->k, NULL)) return TANDEM_OK;
  p->k = p->n_order = 0;
  return engine_take_cells(p->s, 1, err);
}

/* ---- guessing ---------------------------------------------------------------------------------------------------- */

static void add_ask(tandem_engine *e, int32_t i_part, int32_t place, int32_t *n) {
  engine_part *p = &e->parts[i_part];
  tandem_session *s = p->s;
  struct engine_candidate *c = &p->order[place];
  bool ruled = by_rule(&s->speculation.policy);
  /* The rule remembers one decision: it is made again for the kind that is asked now. */
  if (ruled && p->n_order > 1) c->n = spec_depth_ask(&s->speculation.depth, &e->costs, c->kind, p->limit, e->n_parts, s->n);
  if (c->n > p->k) c->n = p->k;
  if (c->n < 1) return;
  e->ask_of[*n] = i_part;
  e->asks[(*n)++] = (spec_ask){.sequence = s->sequence, .tokens = s->tokens, .n = s->n, .k = c->n, .sampler = s->sampler,
                               .hidden = engine_hidden(s), .depth = ruled ? &s->speculation.depth : NULL, .costs = &e->costs,
                               .p_min = s->speculation.policy.bounds.p_min};
}

/* Proposals are used up to the first id that is none. */
static void take_proposal(tandem_engine *e, engine_part *p, const spec_ask *a, spec_kind kind) {
  int32_t n = 0;
  while (n < a->n_out && n < a->k && a->tokens[a->n + 1 + n] >= 0 && a->tokens[a->n + 1 + n] < e->model->n_vocab) n++;
  if (n < 1 || n < p->s->speculation.policy.bounds.n_min) return;
  p->n_draft = n;
  p->kind = kind;
  memcpy(p->p, a->p, sizeof a->p);
}

/* The drafter fails: the engine goes on without it. */
static void drop_drafter(tandem_engine *e, spec_kind kind, const error *why) {
  snprintf(e->draft.off, sizeof e->draft.off, "%s: %s", spec_table[kind]->name, why->text);
  e->drafters[kind]->ops->close(e->drafters[kind]);
  e->drafters[kind] = NULL;
}

static void ask_kind(tandem_engine *e, spec_kind kind, int32_t place) {
  int32_t n = 0, n_drafted = 0;
  error why = {0};
  for (int32_t i = 0; i < e->n_parts; i++) {
    engine_part *p = &e->parts[i];
    if (!p->n_draft && place < p->n_order && p->order[place].kind == kind) add_ask(e, i, place, &n);
  }
  if (n == 0) return;
  double start = os_seconds();
  status st = e->drafters[kind]->ops->propose(e->drafters[kind], e->asks, n, &why);
  if (st) {
    drop_drafter(e, kind, &why);
    return;
  }
  for (int32_t i = 0; i < n; i++) {
    if (e->asks[i].n_out > n_drafted) n_drafted = e->asks[i].n_out;
    take_proposal(e, &e->parts[e->ask_of[i]], &e->asks[i], kind);
  }
  if (n_drafted) spec_costs_draft(&e->costs, kind, n_drafted, os_seconds() - start);
}

static void ask_drafters(tandem_engine *e) {
  for (int32_t place = 0; place < SPEC_KINDS; place++)
    for (int kind = 0; kind < SPEC_KINDS; kind++)
      if (e->drafters[kind]) ask_kind(e, (spec_kind)kind, place);
}

/* ---- the pass ---------------------------------------------------------------------------------------------------- */

static status evaluate(tandem_engine *e, int32_t *n_rows, error *err) {
  int32_t n = 0;
  for (int32_t i = 0; i < e->n_parts; i++) {
    engine_part *p = &e->parts[i];
    p->first_row = n;
    for (int32_t k = 0; k <= p->n_draft; k++, n++) {
      e->ids[n] = p->s->tokens[p->s->n + k];
      e->positions[n] = (int32_t)(p->s->n + k);
      e->sequences[n] = p->s->sequence;
      e->outputs[n] = n;
    }
  }
  op_batch b = {.n_tokens = n, .n_outputs = n, .ids = e->ids, .positions = e->positions, .sequences = e->sequences, .outputs = e->outputs};
  for (int g = 0; g < e->plan->n_groups; g++) b.tables[g] = e->tables[g];
  *n_rows = n;
  return engine_run(e, &b, err);
}

/* ---- after the pass ---------------------------------------------------------------------------------------------- */

static void count(engine_part *p, double seconds) {
  tandem_draft_stats *t = &p->s->speculation.stats;
  const tandem_step *step = p->step;
  *(p->n_draft ? &t->n_steps : &t->n_plain) += 1;
  t->n_drafted += p->n_draft;
  t->n_accepted += step->n_accepted;
  t->drafted_by[p->kind] += p->n_draft;
  t->accepted_by[p->kind] += step->n_accepted;
  t->n_tokens += step->n;
  t->seconds += seconds;
  for (int32_t i = 0; i < p->n_draft; i++) {
    int at = i < TANDEM_DRAFT_POSITIONS ? i : TANDEM_DRAFT_POSITIONS - 1;
    t->drafted_at[at]++;
    t->accepted_at[at] += i < step->n_accepted;
  }
}

/* Every kind's clock goes on; the one that guessed learns how well. */
static void learn(tandem_engine *e, engine_part *p) {
  engine_speculation *sp = &p->s->speculation;
  for (int32_t i = 0; i < sp->policy.n_kinds; i++) {
    spec_kind kind = sp->policy.kinds[i];
    bool mine = p->n_draft > 0 && p->kind == kind;
    if (e->drafters[kind]) spec_depth_learn(&sp->depth, &e->costs, kind, mine ? p->n_draft : 0, mine ? p->step->n_accepted : 0, mine ? p->p : NULL, p->step->n);
  }
}

/* A row that is not finite ends its session's part; what was drawn before it stands. */
static void close_part(tandem_engine *e, engine_part *p, double seconds, error *err) {
  tandem_session *s = p->s;
  tandem_step *step = p->step;
  const float *rows = e->memory.logits + (size_t)p->first_row * (size_t)e->model->n_vocab;
  int64_t n = s->n;
  step->status = spec_match(s->sampler, e->tokens, rows, e->model->n_vocab, s->tokens, n, p->n_draft, step->ids, &step->n, err);
  while (step->n_accepted < step->n && step->n_accepted < p->n_draft && step->ids[step->n_accepted] == s->tokens[n + 1 + step->n_accepted]) step->n_accepted++;
  step->n_drafted = p->n_draft;
  int32_t evaluated = step->n > 0 ? step->n : 1; /* the last token was evaluated, whatever its row */
  if (step->status && step->n > 0) step->status = TANDEM_OK; /* the bad row is met again, as the first of a step */
  engine_rewind(s, n + evaluated, p->first_row + evaluated - 1);
  engine_tell_drafters(s, n);
  count(p, seconds);
  learn(e, p);
}

static void give_up(tandem_engine *e, status st) {
  for (int32_t i = 0; i < e->n_parts; i++) {
    engine_part *p = &e->parts[i];
    for (int g = 0; g < e->plan->n_groups; g++) kv_pages_truncate(e->pages[g], p->s->sequence, p->s->n, NULL);
    engine_tell_drafters(p->s, -1);
    p->step->status = st;
  }
}

/* Sessions that cannot go on are left out; the others make the batch. */
static status open_parts(tandem_engine *e, tandem_step *steps, int32_t n_steps, error *err) {
  status first = TANDEM_OK;
  error why = {0};
  e->n_parts = 0;
  for (int32_t i = 0; i < n_steps; i++) {
    steps[i].n = steps[i].n_drafted = steps[i].n_accepted = 0;
    steps[i].status = check_step(steps, i, &why);
    engine_part *p = &e->parts[e->n_parts];
    if (!steps[i].status) {
      open_part(e, p, &steps[i], n_steps);
      steps[i].status = take_cells(p, &why);
    }
    if (steps[i].status && !first) {
      first = steps[i].status;
      if (err) *err = why;
    }
    if (steps[i].status) continue;
    p->s->tokens[p->s->n] = steps[i].last;
    e->n_parts++;
  }
  return first;
}

tandem_status tandem_advance(tandem_step *steps, int32_t n_steps, tandem_error *err) {
  if (n_steps < 1 || n_steps > PLAN_MAX_SESSIONS || !steps || !steps[0].session)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_steps", "n_steps: %d, must be 1 to %d", n_steps, PLAN_MAX_SESSIONS);
  tandem_engine *e = steps[0].session->engine;
  if (n_steps > e->plan->limits.max_tokens || n_steps > e->plan->limits.max_outputs)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_steps", "n_steps: %d, one pass takes %d tokens", n_steps,
                     min_of(e->plan->limits.max_tokens, e->plan->limits.max_outputs));
  double start = os_seconds();
  int32_t n_rows;
  error why = {0};
  status first = open_parts(e, steps, n_steps, err);
  if (e->n_parts == 0) return first;
  ask_drafters(e);
  double drafted = os_seconds();
  status st = evaluate(e, &n_rows, &why);
  double end = os_seconds();
  if (st) give_up(e, st);
  else spec_costs_pass(&e->costs, n_rows, e->parts[0].s->n, end - drafted);
  for (int32_t i = 0; i < e->n_parts && !st; i++) {
    error own = {0};
    close_part(e, &e->parts[i], (end - start) / e->n_parts, &own);
    if (e->parts[i].step->status && !first) {
      first = e->parts[i].step->status;
      if (err) *err = own;
    }
  }
  if (st && !first && err) *err = why;
  return first ? first : st;
}
