/* plan_pair_test.c: the plans of drafters. Every way of leaving the target's cells, its weights or the rows between passes is refused
 * by the verifier; what a drafter inherits it inherits exactly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"

static void ok(status st, const error *err) {
  if (st) fail_msg("%s: %s", tandem_status_name(st), err->text);
}

static tandem_engine *open_plans(const char *target, const char *draft, int64_t n_context, tandem_kv_type kv) {
  tandem_engine_params p;
  tandem_engine *e;
  error err = {0};
  tandem_engine_params_init(&p);
  p.model = target;
  p.draft = draft;
  p.draft_wish = TANDEM_DRAFT_REQUIRED;
  p.plan_only = true;
  p.n_context = n_context;
  p.n_sequences = 3;
  p.kv_type_k = p.kv_type_v = kv;
  ok(tandem_engine_open(&e, &p, &err), &err);
  return e;
}

static int32_t find_step(const plan *p, op_kind op) {
  for (int32_t i = 0; i < p->n_steps; i++)
    if (p->steps[i].op == op) return i;
  fail_msg("no %s in the plan", op_table[op].name);
  return -1;
}

static void refused(const plan *p, const char *words) {
  error err = {0};
  assert_int_equal(plan_verify(p, &err), TANDEM_ERROR_INTERNAL);
  if (!strstr(err.text, words)) fail_msg("'%s' expected in: %s", words, err.text);
}

#define BREAK(field, value, words) \
  do { \
    __typeof__(field) saved = (field); \
    (field) = (value); \
    refused(p, words); \
    (field) = saved; \
  } while (0)

static void a_borrow_cannot_leave_its_source(void **state) {
  (void)state;
  tandem_engine *e = open_plans("models/tales.gguf", "models/tales-assistant.gguf", 600, TANDEM_KV_F16);
  plan *p = e->draft.plan;
  error err = {0};
  for (int32_t i = 0; i < p->n_caches; i++) {
    op_cache *c = &p->caches[i];
    BREAK(c->n_pages, c->n_pages + 1, "pages is");
    BREAK(c->k_offset, e->plan->groups[c->group].store_bytes, "leave the store");
    BREAK(c->v_page, c->v_page * 1000, "leave the store");
    BREAK(c->k_dim, 2 * c->k_dim, "");
    BREAK(c->n_heads, 3, "");
    BREAK(c->group, p->n_groups, "group");
    BREAK(c->borrowed, false, "positions behind");
  }
  op_step *attend = &p->steps[find_step(p, OP_ATTEND)];
  BREAK(attend->behind, 0, "positions behind");
  BREAK(p->caches[attend->cache].window, 1, "window"); /* it would see nothing */
  BREAK(p->home_bytes[OP_HIDDEN], p->home_bytes[OP_HIDDEN] / 2, "hidden buffer");
  BREAK(p->home_bytes[OP_LENT], p->home_bytes[OP_LENT] / 1000, "lent buffer");
  op_step *embed = &p->steps[find_step(p, OP_EMBED)];
  BREAK(p->values[embed->src[0]].home, OP_HIDDEN, "");
  BREAK(p->values[embed->dst].home, OP_LENT, "");
  ok(plan_verify(p, &err), &err); /* everything was mended */
  tandem_engine_close(e);
}

/* A step that writes to borrowed cells does not pass, whatever it is made of. */
static void a_borrow_has_no_store(void **state) {
  (void)state;
  tandem_engine *e = open_plans("models/tales.gguf", "models/tales-draft.gguf", 600, TANDEM_KV_F16);
  plan *p = e->draft.plan;
  error err = {0};
  ok(plan_verify(p, &err), &err);
  for (int32_t i = 0; i < p->n_caches; i++) BREAK(p->caches[i].borrowed, true, "borrowed");
  tandem_engine_close(e);
}

static void what_is_inherited_is_equal(void **state) {
  static const tandem_kv_type kv[] = {TANDEM_KV_F16, TANDEM_KV_F32, TANDEM_KV_BF16, TANDEM_KV_Q8_0};
  static const char *const drafts[] = {"models/tales-assistant.gguf", "models/tales-draft.gguf"};
  (void)state;
  for (size_t d = 0; d < COUNT_OF(drafts); d++)
    for (size_t k = 0; k < COUNT_OF(kv); k++)
      for (int64_t n_context = 1; n_context < 5000; n_context = n_context * 2 + 37) {
        tandem_engine *e = open_plans("models/tales.gguf", drafts[d], n_context, kv[k]);
        const plan *target = e->plan, *p = e->draft.plan;
        bool borrows = p->model->arch->borrows;
        assert_int_equal(p->n_groups, target->n_groups);
        for (int g = 0; g < p->n_groups; g++) {
          assert_memory_equal(&p->groups[g].pages, &target->groups[g].pages, sizeof p->groups[g].pages);
          if (borrows) assert_int_equal(p->groups[g].store_bytes, target->groups[g].store_bytes);
        }
        for (int32_t i = 0; i < p->n_caches; i++) {
          const op_cache *c = &p->caches[i];
          assert_int_equal(c->borrowed, borrows);
          assert_int_equal(c->k_type, target->caches[0].k_type);
          if (!borrows) continue;
          /* The last layer of its kind that owns K/V: 4 slides, 5 is full. */
          op_cache want = target->caches[p->model->layers[i].sliding ? 4 : 5];
          want.borrowed = true;
          assert_memory_equal(c, &want, sizeof want);
        }
        tandem_engine_close(e);
      }
}

/* The target's last layers share K/V of others: the head reads the last ones that own theirs. */
static void layers_that_share_are_not_sources(void **state) {
  (void)state;
  tandem_engine *e = open_plans("tests/data/zoo/gemma4-e2b.gguf", "tests/data/zoo/gemma4-assistant.gguf", 300, TANDEM_KV_F16);
  const plan *p = e->draft.plan;
  for (int32_t i = 0; i < p->n_caches; i++) {
    op_cache want = e->plan->caches[p->model->layers[i].sliding ? 1 : 2];
    want.borrowed = true;
    assert_memory_equal(&p->caches[i], &want, sizeof want);
  }
  tandem_engine_close(e);
}

/* A copy of a head with one key changed. */
static void write_changed(const char *to, const char *key, double v) {
  gguf *g;
  gguf_writer *w;
  error err = {0};
  ok(gguf_open(&g, "tests/data/zoo/gemma4-assistant.gguf", &err), &err);
  ok(gguf_writer_open(&w, &err), &err);
  for (size_t i = 0; i < gguf_n_keys(g); i++) {
    const gguf_key *k = gguf_key_at(g, i);
    if (strcmp(k->name, key)) gguf_write_key(w, k);
    else if (k->type == GGUF_F32) gguf_write_float(w, key, GGUF_F32, v);
    else gguf_write_int(w, key, k->type, (int64_t)v);
  }
  for (size_t i = 0; i < gguf_n_tensors(g); i++) {
    const gguf_tensor *t = gguf_tensor_at(g, i);
    const uint8_t *bytes;
    ok(gguf_tensor_bytes(g, t, &bytes, &err), &err);
    gguf_write_tensor(w, t->name, t->type, t->n_dims, t->dims, bytes);
  }
  ok(gguf_writer_save(w, to, &err), &err);
  gguf_writer_close(w);
  gguf_close(g);
}

/* What would make guesses wrong without any error elsewhere is an error here. */
static void heads_that_read_keys_otherwise_are_refused(void **state) {
  static const struct {
    const char *key, *words;
    double v;
    bool fits;
  } cases[] = {{"gemma4-assistant.rope.freq_base", "rotate full layers differently", 500000, false},
               {"gemma4-assistant.rope.freq_base_swa", "rotate sliding layers differently", 20000, false},
               {"gemma4-assistant.rope.dimension_count_swa", "rotate sliding layers differently", 8, false},
               {"gemma4-assistant.context_length", "", 999999, true},
               {"gemma4-assistant.attention.sliding_window", "", 4096, true}};
  (void)state;
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    char path[64];
    tandem_engine_params p;
    tandem_engine *e = NULL;
    error err = {0};
    snprintf(path, sizeof path, "/tmp/tandem-pair-%d.gguf", (int)getpid());
    write_changed(path, cases[i].key, cases[i].v);
    tandem_engine_params_init(&p);
    p.model = "tests/data/zoo/gemma4.gguf";
    p.draft = path;
    p.draft_wish = TANDEM_DRAFT_REQUIRED;
    p.plan_only = true;
    status st = tandem_engine_open(&e, &p, &err);
    assert_int_equal(st, cases[i].fits ? TANDEM_OK : TANDEM_ERROR_UNSUPPORTED);
    if (!strstr(err.text, cases[i].words)) fail_msg("'%s' expected in: %s", cases[i].words, err.text);
    tandem_engine_close(e);
    unlink(path);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_borrow_cannot_leave_its_source),
      cmocka_unit_test(a_borrow_has_no_store),
      cmocka_unit_test(what_is_inherited_is_equal),
      cmocka_unit_test(layers_that_share_are_not_sources),
      cmocka_unit_test(heads_that_read_keys_otherwise_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
