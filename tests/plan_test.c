/* plan_test.c: the verifier refuses every kind of broken plan and says where; what it accepts is laid out without waste. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plan/plan.h"
#include "support/tiny.h"

typedef struct fixture {
  gguf_writer *w;
  gguf *g;
  const device_ops *ops;
  device *d;
  model *m;
  plan *p;
} fixture;

static void ok(status st, const error *err) {
  if (st) fail_msg("%s: %s", tandem_status_name(st), err->text);
}

static void open_fixture(fixture *f, const tiny_shape *shape) {
  error err = {0};
  const uint8_t *bytes;
  size_t n;
  plan_limits limits = {.n_context = 600, .n_sequences = 2, .max_tokens = 32, .max_outputs = 32, .k_type = QUANT_F16, .v_type = QUANT_F16};
  ok(tiny_build(&f->w, shape, &err), &err);
  ok(gguf_writer_bytes(f->w, &bytes, &n, &err), &err);
  ok(gguf_open_memory(&f->g, bytes, n, &err), &err);
  f->ops = device_find("cpu");
  ok(f->ops->open(&f->d, &(device_params){.n_threads = 1}, &err), &err);
  ok(model_open(&f->m, f->g, f->ops, f->d, &err), &err);
  ok(plan_open(&f->p, f->m, f->ops, f->d, &limits, &err), &err);
}

static void close_fixture(fixture *f) {
  plan_close(f->p);
  model_close(f->m);
  f->ops->close(f->d);
  gguf_close(f->g);
  gguf_writer_close(f->w);
}

static tiny_shape experts_shape(void) {
  tiny_shape s = tiny_llama(QUANT_Q4_K);
  s.n_ff = 256;
  s.n_experts = 4;
  s.n_used = 2;
  return s;
}

static int32_t find_step(const plan *p, op_kind op) {
  for (int32_t i = 0; i < p->n_steps; i++)
    if (p->steps[i].op == op) return i;
  fail_msg("no %s in the plan", op_table[op].name);
  return -1;
}

/* ---- broken plans ------------------------------------------------------------------------------------------------ */

static int n_refused;

/* The plan as it is now must be refused at this step with words that say why. */
static void refused(const plan *p, int32_t step, const char *words) {
  error err = {0};
  char where[32];
  snprintf(where, sizeof where, "step %d ", step);
  status st = plan_verify(p, &err);
  if (st != TANDEM_ERROR_INTERNAL) fail_msg("accepted, but %s was broken at step %d", words, step);
  if (step >= 0 && !strstr(err.text, where)) fail_msg("'%s' does not name step %d", err.text, step);
  if (!strstr(err.text, words)) fail_msg("'%s' does not say '%s'", err.text, words);
  n_refused++;
}

/* Breaks one field, expects refusal, mends it. */
#define BREAK(field, value, step, words) \
  do { \
    __typeof__(field) was = (field); \
    (field) = (value); \
    refused(p, step, words); \
    (field) = was; \
  } while (0)

static void operands_that_leave_their_buffer_are_refused(void **state) {
  (void)state;
  tiny_shape shape = experts_shape();
  fixture f = {0};
  open_fixture(&f, &shape);
  plan *p = f.p;
  for (int32_t i = 0; i < p->n_steps; i++) { /* each step, each operand: one byte too far, one row too many, wrapping sizes */
    const op_step *s = &p->steps[i];
    for (int k = -1; k < op_table[s->op].n_src; k++) {
      int32_t v = k < 0 ? s->dst : s->src[k];
      if (v < 0) continue;
      op_value *x = &p->values[v];
      op_value saved = *x;
      size_t reach = x->layout == OP_PANELS ? x->extent : (size_t)(x->rows - 1) * x->stride + op_row_bytes(x->type, x->cols);
      x->offset = p->home_bytes[x->home] - reach + 1;
      refused(p, -1, "leave the");
      x->offset = SIZE_MAX - 10;
      refused(p, -1, "leave the");
      *x = saved;
      if (x->layout == OP_PANELS) BREAK(x->slab, x->slab + 64, -1, "leave the");
      else if (x->rows > 1) BREAK(x->stride, SIZE_MAX / 2, -1, "leave the");
      if (v != p->logits) BREAK(x->home, (op_home)OP_HOMES, -1, "home");
    }
  }
  for (int h = 0; h < OP_HOMES; h++)
    if (p->home_bytes[h]) BREAK(p->home_bytes[h], p->home_bytes[h] / 2, -1, "leave the");
  error err = {0};
  ok(plan_verify(p, &err), &err); /* everything was mended */
  close_fixture(&f);
}

static void operands_that_do_not_exist_are_refused(void **state) {
  (void)state;
  tiny_shape shape = experts_shape();
  fixture f = {0};
  open_fixture(&f, &shape);
  plan *p = f.p;
  for (int32_t i = 0; i < p->n_steps; i++) {
    op_step *s = &p->steps[i];
    if (s->op != OP_STORE) BREAK(s->dst, p->n_values, i, "dst");
    if (s->op != OP_STORE) BREAK(s->dst, -2, i, "dst");
    for (int k = 0; k < op_table[s->op].n_src; k++) BREAK(s->src[k], p->n_values + k, i, "src");
    BREAK(s->op, OP_COUNT, i, "op");
  }
  close_fixture(&f);
}

static void shapes_that_do_not_fit_are_refused(void **state) {
  (void)state;
  tiny_shape shape = experts_shape();
  fixture f = {0};
  open_fixture(&f, &shape);
  plan *p = f.p;
  int32_t i = find_step(p, OP_MM);
  op_step *s = &p->steps[i];
  BREAK(p->values[s->dst].cols, p->values[s->dst].cols - 1, -1, "columns");
  BREAK(p->values[s->src[1]].rows, p->values[s->src[1]].rows + 1, -1, "columns");
  BREAK(p->values[s->src[0]].type, QUANT_Q8_0, -1, "type");
  BREAK(p->values[s->dst].by, OP_OUTPUTS, -1, "row count");
  BREAK(p->values[s->dst].rows, p->limits.max_tokens - 1, -1, "rows");
  i = find_step(p, OP_NORM);
  BREAK(p->steps[i].group, 7, i, "group");
  BREAK(p->steps[i].group, 0, i, "group");
  i = find_step(p, OP_ROPE);
  BREAK(p->steps[i].n_heads, p->steps[i].n_heads + 1, i, "columns");
  BREAK(p->steps[i].rope.n_rot, p->steps[i].rope.n_rot + 2, i, "columns");
  i = find_step(p, OP_ANGLES);
  BREAK(p->steps[i].rope.n_rot, 0, i, "columns");
  i = find_step(p, OP_ATTEND);
  BREAK(p->steps[i].n_heads, 3, i, "heads");
  BREAK(p->steps[i].n_heads, 0, i, "heads");
  i = find_step(p, OP_EMBED);
  BREAK(p->values[p->steps[i].src[0]].rows, 299, -1, "");
  i = find_step(p, OP_ROUTE);
  BREAK(p->steps[i].n_used, 5, i, "experts");
  BREAK(p->steps[i].n_used, 0, i, "experts");
  i = find_step(p, OP_MMX);
  BREAK(p->values[p->steps[i].src[1]].n_slabs, 3, -1, "");
  BREAK(p->steps[i].n_used, 3, i, "columns");
  i = find_step(p, OP_MIX);
  BREAK(p->steps[i].n_used, 1, i, "columns");
  BREAK(p->logits, -1, -1, "logits");
  close_fixture(&f);
}

static void cells_outside_their_store_are_refused(void **state) {
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  fixture f = {0};
  open_fixture(&f, &shape);
  plan *p = f.p;
  int32_t store = find_step(p, OP_STORE);
  op_cache *c = &p->caches[0];
  BREAK(p->steps[store].cache, p->n_caches, store, "cache");
  BREAK(p->steps[store].cache, -1, store, "cache");
  BREAK(c->group, p->n_groups, store, "group");
  BREAK(c->n_pages, c->n_pages + 1, store, "pages");
  BREAK(c->k_offset, p->groups[0].store_bytes - c->k_page * (size_t)c->n_pages + 64, store, "K");
  BREAK(c->v_offset, p->groups[0].store_bytes, store, "V");
  BREAK(c->k_page, SIZE_MAX / 4, store, "K");
  BREAK(c->k_block, c->k_block - 64, store, "K");
  BREAK(c->v_block, c->v_block - 64, store, "V");
  BREAK(c->v_page, c->v_page / 2, store, "V");
  BREAK(c->k_dim, c->k_dim * 2, store, "K");
  BREAK(c->n_heads, c->n_heads + 1, store, "K");
  BREAK(p->groups[0].store_bytes, p->groups[0].store_bytes - 1, -1, "leave the store");
  close_fixture(&f);
}

static void order_and_overlap_are_checked(void **state) {
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  fixture f = {0};
  open_fixture(&f, &shape);
  plan *p = f.p;
  for (int32_t i = 0; i + 1 < p->n_steps; i++) /* every meeting is needed */
    if (p->steps[i].sync) BREAK(p->steps[i].sync, false, -1, "step");
  BREAK(p->steps[p->n_steps - 1].sync, false, p->n_steps - 1, "sync");
  int32_t i = find_step(p, OP_QUANT);
  op_step *s = &p->steps[i];
  BREAK(p->values[s->dst].offset, p->values[s->src[0]].offset, -1, "overwritten"); /* writes over what it reads */
  op_step first = p->steps[0], second = p->steps[1];
  p->steps[0] = second; /* reads what no step has written yet */
  p->steps[1] = first;
  refused(p, -1, "step");
  p->steps[0] = first;
  p->steps[1] = second;
  i = find_step(p, OP_STORE);
  BREAK(p->steps[i].cache, 1, -1, "stores"); /* ATTEND reads cells that nobody wrote */
  close_fixture(&f);
}

static void zz_count(void **state) {
  (void)state;
  print_message("  %d broken plans refused\n", n_refused);
  assert_true(n_refused > 300);
}

/* ---- layout ------------------------------------------------------------------------------------------------------ */

static void scratch_is_reused(void **state) {
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  fixture two = {0}, ten = {0};
  open_fixture(&two, &shape);
  shape.n_layers = 10;
  open_fixture(&ten, &shape);
  assert_int_equal(two.p->home_bytes[OP_SCRATCH], ten.p->home_bytes[OP_SCRATCH]);
  close_fixture(&two);
  close_fixture(&ten);
}

static void every_architecture_verifies(void **state) {
  static const char *const zoo[] = {"llama", "llama-yarn", "mixtral", "qwen2", "qwen3", "qwen3moe", "gemma2", "gemma3", "gemma4", "gemma4-e2b", "gemma4-moe"};
  static const int32_t limits[] = {1, 2, 8, 512};
  (void)state;
  for (size_t z = 0; z < COUNT_OF(zoo); z++)
    for (size_t l = 0; l < COUNT_OF(limits); l++) {
      char relative[96], path[256];
      error err = {0};
      tandem_engine_params p;
      tandem_engine *e;
      snprintf(relative, sizeof relative, "tests/data/zoo/%s.gguf", zoo[z]);
      assert_true(test_data(path, sizeof path, relative));
      tandem_engine_params_init(&p);
      p.model = path;
      p.plan_only = true;
      p.n_ubatch = limits[l];
      ok(tandem_engine_open(&e, &p, &err), &err);
      tandem_engine_close(e);
    }
}

static bool collect(void *user, const char *s, size_t n) { return text_add(user, s, n, NULL) == TANDEM_OK; }

static void explain_shows_every_step(void **state) {
  (void)state;
  char path[64];
  tiny_shape shape = tiny_llama(QUANT_Q4_K);
  error err = {0};
  tandem_engine_params p;
  tandem_engine *e;
  text out = {0};
  ok(tiny_write(path, &shape, &err), &err);
  tandem_engine_params_init(&p);
  p.model = path;
  p.plan_only = true;
  ok(tandem_engine_open(&e, &p, &err), &err);
  ok(tandem_explain(e, 4, false, collect, &out, &err), &err);
  assert_non_null(strstr(out.bytes, "ATTEND"));
  assert_non_null(strstr(out.bytes, "blk.1.ffn_down.weight q4_K[256 x 512]"));
  assert_non_null(strstr(out.bytes, "verified"));
  text_free(&out);
  ok(tandem_explain(e, 4, true, collect, &out, &err), &err);
  assert_non_null(strstr(out.bytes, "\"op\": \"ATTEND\""));
  text_free(&out);
  assert_int_equal(tandem_explain(e, 0, false, collect, &out, &err), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(tandem_explain(e, 513, false, collect, &out, &err), TANDEM_ERROR_ARGUMENT);
  tandem_engine_close(e);
  tiny_remove(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(operands_that_leave_their_buffer_are_refused),
      cmocka_unit_test(operands_that_do_not_exist_are_refused),
      cmocka_unit_test(shapes_that_do_not_fit_are_refused),
      cmocka_unit_test(cells_outside_their_store_are_refused),
      cmocka_unit_test(order_and_overlap_are_checked),
      cmocka_unit_test(zz_count),
      cmocka_unit_test(scratch_is_reused),
      cmocka_unit_test(every_architecture_verifies),
      cmocka_unit_test(explain_shows_every_step),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
