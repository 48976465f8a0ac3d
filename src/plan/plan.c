/* plan.c: opens a plan (groups, lower, fuse, layout, verify) and says what it costs. */
#include "plan/plan.h"

static status check_limits(const plan_limits *l, error *err) {
  if (l->n_context < 1 || l->n_context > 1 << 27)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_context", "n_context: %lld, must be 1 to %d", (long long)l->n_context, 1 << 27);
  if (l->max_tokens < 1 || l->max_tokens > 4096)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_ubatch", "n_ubatch: %d, must be 1 to 4096", l->max_tokens);
  if (l->max_outputs < 1 || l->max_outputs > l->max_tokens)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "max_outputs", "max_outputs: %d, must be 1 to %d", l->max_outputs, l->max_tokens);
  if (l->n_sequences < 1 || l->n_sequences > PLAN_MAX_SESSIONS)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "n_sequences", "n_sequences: %d, must be 1 to %d", l->n_sequences, PLAN_MAX_SESSIONS);
  return TANDEM_OK;
}

static status check_support(const plan *p, const device_ops *ops, const device *d, error *err) {
  device_program program = plan_program(p);
  for (int32_t i = 0; i < p->n_steps; i++) TRY(ops->supports(d, &program, &p->steps[i], err));
  return TANDEM_OK;
}

static status open_plan(plan **out, const model *m, const plan *source, const device_ops *ops, const device *d, const plan_limits *limits,
                        error *err) {
  void *memory = NULL;
  *out = NULL;
  TRY(check_limits(limits, err));
  TRY(base_alloc(&memory, sizeof(plan), "plan", err));
  plan *p = memory;
  status st;
  p->model = m;
  p->source = source;
  p->limits = *limits;
  p->hidden = p->logits = p->given = -1;
  TRY_DONE(arena_open(&p->memory, "plan", err));
  TRY_DONE(source ? plan_pair(p, err) : plan_groups_open(p, err));
  TRY_DONE(plan_lower(p, err));
  plan_fuse(p);
  TRY_DONE(plan_layout(p, err));
  TRY_DONE(plan_verify(p, err));
  TRY_DONE(check_support(p, ops, d, err));
  device_program program = plan_program(p);
  p->work_bytes = ops->work_bytes(d, &program);
  *out = p;
  return TANDEM_OK;
done:
  plan_close(p);
  return st;
}

status plan_open(plan **p, const model *m, const device_ops *ops, const device *d, const plan_limits *limits, error *err) {
  if (m->arch->borrows)
    return base_fail(err, TANDEM_ERROR_UNSUPPORTED, "general.architecture",
                     "architecture %s is a draft head: it cannot run alone, name it as the drafter of its target (-d)", m->arch->name);
  return open_plan(p, m, NULL, ops, d, limits, err);
}

status plan_open_draft(plan **p, const model *m, const plan *source, const device_ops *ops, const device *d, int32_t max_tokens, int32_t behind,
                       error *err) {
  plan_limits l = source->limits;
  l.max_tokens = max_tokens;
  l.max_outputs = l.n_sequences < max_tokens ? l.n_sequences : max_tokens; /* each drafts from one row at a time */
  l.behind = m->arch->borrows ? behind : 0;
  l.hidden = false;
  return open_plan(p, m, source, ops, d, &l, err);
}

void plan_close(plan *p) {
  if (!p) return;
  arena_close(p->memory);
  base_free(p);
}

device_program plan_program(const plan *p) {
  return (device_program){.values = p->values, .n_values = p->n_values, .steps = p->steps, .n_steps = p->n_steps, .caches = p->caches,
                          .n_caches = p->n_caches, .max_tokens = p->limits.max_tokens, .max_outputs = p->limits.max_outputs};
}

plan_costs plan_cost(const plan *p) {
  plan_costs c = {.arithmetic = TANDEM_CEILING_INT8};
  double bytes = 0, of_experts = 0, flops = 0, of[TANDEM_CEILINGS] = {0};
  for (int32_t i = 0; i < p->n_steps; i++) {
    const op_step *s = &p->steps[i];
    double read = op_weight_bytes(s, p->values, 1);
    bytes += read;
    if (s->op == OP_MMX) {
      of_experts += read;
      c.n_used = s->n_used;
      c.n_experts = (int32_t)p->values[s->src[1]].n_slabs;
    }
    if (s->op != OP_MM && s->op != OP_MMGLU && s->op != OP_MMX) continue;
    double some = op_flops(s, p->values, 1, 1, 0);
    flops += some;
    of[op_arithmetic(p->values[s->src[1]].type)] += some;
  }
  c.read_bytes = (uint64_t)bytes;
  c.expert_bytes = (uint64_t)of_experts;
  c.macs = (uint64_t)(flops / 2);
  for (int i = 0; i < TANDEM_CEILINGS; i++)
    if (of[i] > of[c.arithmetic]) c.arithmetic = (tandem_ceiling)i;
  return c;
}
