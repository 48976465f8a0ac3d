/* fit_test.c: what is said to fit is exact, gives way in the stated order, and holds. The pure function is held against a formula of
 * its own; then real models are opened in processes of their own, all of their memory touched, and the peak is compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"

#include "support/tiny.h"

static uint64_t random_state = 0x853c49e6748fea9bu;
static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state * 0x2545f4914f6cdd1du;
}
static int64_t between(int64_t low, int64_t high) { return low + (int64_t)(next_random() % (uint64_t)(high - low + 1)); }

/* A pair of about 5 GB: full and sliding layers, three pairs of types, depths 16, 8, 4. */
static plan_fit_wish a_wish(void) {
  plan_fit_wish w = {.n_sequences = 2, .max_tokens = 512, .n_types = 3, .n_shapes = 3, .has_drafter = true, .session = 900001,
                     .session_token = 4, .session_draft = 4096, .server = 12345, .program = 3000000, .budget_is = "a test"};
  w.types[0] = (struct plan_fit_type){QUANT_F32, QUANT_F32};
  w.types[1] = (struct plan_fit_type){QUANT_F16, QUANT_F16};
  w.types[2] = (struct plan_fit_type){QUANT_Q8_0, QUANT_Q8_0};
  w.target = (plan_fit_model){.weights = 4000000000, .tables = 2000000, .tokenizer = 30000000, .batch = 8192, .reading = 33000000,
                              .n_trained = 131072, .n_groups = 2};
  w.target.groups[0] = (plan_fit_group){.name = "full", .n_layers = 8, .page_bytes = {8 << 20, 4 << 20, 2300000}};
  w.target.groups[1] = (plan_fit_group){.name = "sliding", .window = 1024, .n_layers = 40, .page_bytes = {40 << 20, 20 << 20, 11500000}};
  w.alone = (plan_fit_shape){.n_rows = 16, .scratch = 90000000, .logits = 16000000, .work = 2000000};
  for (int i = 0; i < 3; i++)
    w.shapes[i] = (plan_fit_shape){.depth = 16 >> i, .n_rows = 2 * ((16 >> i) + 1), .scratch = 90000000 + (uint64_t)(3 - i) * 1000000,
                                   .logits = 2000000 * (uint64_t)((16 >> i) + 1), .hidden = 16384 * (uint64_t)((16 >> i) + 1), .work = 2000000};
  w.drafter = (plan_fit_model){.weights = 300000000, .tables = 100000, .batch = 100, .reading = 20000000, .n_trained = 8192};
  w.drafting = (plan_fit_shape){.n_rows = 2, .scratch = 100000, .logits = 2000000, .hidden = 8192, .work = 2000000};
  return w;
}

/* The drafter with cells of its own, in the target's sliding group. */
static void make_companion(plan_fit_wish *w) {
  w->drafter.n_groups = 1;
  w->drafter.groups[0] = (plan_fit_group){.name = "sliding", .n_layers = 4, .follows = 1, .page_bytes = {4 << 20, 2 << 20, 1150000}};
}

static plan_fit_choice all_of(const plan_fit_wish *w, int64_t n) {
  return (plan_fit_choice){.n_context = n, .drafter = w->has_drafter, .ngrams = w->ngrams > 0};
}

static uint64_t peak_at(const plan_fit_wish *w, int64_t n) { return plan_fit_peak(w, all_of(w, n)); }

static plan_fit solve(plan_fit_wish w, uint64_t budget, status expected) {
  plan_fit f;
  error err = {0};
  w.budget = budget;
  status st = plan_fit_solve(&f, &w, &err);
  if (st != expected) fail_msg("budget %" PRIu64 ": %s: %s", budget, tandem_status_name(st), err.text);
  assert_int_equal(f.fits, st == TANDEM_OK);
  return f;
}

static const plan_fit_row *row_of(const plan_fit_sum *s, const char *whose, const char *name) {
  for (int32_t i = 0; i < s->n_rows; i++)
    if (!strcmp(s->rows[i].whose, whose) && !strcmp(s->rows[i].name, name)) return &s->rows[i];
  fail_msg("no row '%s %s'", whose, name);
  return NULL;
}

static uint64_t condition_of(const plan_fit *f, const char *name) {
  for (int32_t i = 0; i < f->n_conditions; i++)
    if (!strcmp(f->conditions[i].name, name)) return f->conditions[i].bytes;
  fail_msg("no condition '%s'", name);
  return 0;
}

/* ---- the sum ----------------------------------------------------------------------------------------------------- */

/* Pages of a sequence by the words of groups.c: all, or window and batch and a page at either end; and one to copy. */
static uint64_t pages_by_hand(int64_t n, int64_t window, int32_t batch) {
  uint64_t all = (uint64_t)ceil((double)n / 256), needed = (uint64_t)ceil((double)(window + batch) / 256) + 2;
  return (window && needed < all ? needed : all) + 1;
}

static void the_sum_is_what_the_words_say(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  make_companion(&w);
  for (int i = 0; i < 3000; i++) {
    int64_t n = i < 1000 ? i + 1 : between(1, 131072);
    int32_t type = (int32_t)between(0, 2), shape = (int32_t)between(0, 2);
    plan_fit_sum s;
    plan_fit_add(&w, (plan_fit_choice){.n_context = n, .type = type, .shape = shape, .drafter = true}, &s);
    uint64_t full = 2 * pages_by_hand(n, 0, 512), sliding = 2 * pages_by_hand(n, 1024, 512);
    assert_int_equal(row_of(&s, "target", "K/V full")->bytes, full * w.target.groups[0].page_bytes[type]);
    assert_int_equal(row_of(&s, "target", "K/V sliding")->bytes, sliding * w.target.groups[1].page_bytes[type]);
    assert_int_equal(row_of(&s, "drafter", "K/V sliding")->bytes, sliding * w.drafter.groups[0].page_bytes[type]);
    assert_int_equal(row_of(&s, "", "sessions")->bytes, 2 * (900001 + 4096 + 4 * (uint64_t)n));
    uint64_t sum[2] = {0, 0};
    for (int32_t r = 0; r < s.n_rows; r++) {
      sum[0] += s.rows[r].when & PLAN_FIT_LOADING ? s.rows[r].bytes : 0;
      sum[1] += s.rows[r].when & PLAN_FIT_RUNNING ? s.rows[r].bytes : 0;
    }
    assert_int_equal(s.loading, sum[0]);
    assert_int_equal(s.running, sum[1]);
    assert_int_equal(s.peak, sum[0] > sum[1] ? sum[0] : sum[1]);
  }
}

static void a_page_begins_behind_its_edge(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  w.has_drafter = false;
  for (int64_t k = 16; k < 500; k++) { /* the sliding group is full: a page more of the full one for each of two sequences */
    uint64_t at = peak_at(&w, 256 * k), behind = peak_at(&w, 256 * k + 1), tables;
    kv_pages_shape a, b;
    assert_true(plan_pool_shape(256 * k, 0, 512, 2, &a) && plan_pool_shape(256 * k + 1, 0, 512, 2, &b));
    tables = kv_pages_bytes(&b) - kv_pages_bytes(&a);
    assert_true(plan_pool_shape(256 * k, 1024, 512, 2, &a) && plan_pool_shape(256 * k + 1, 1024, 512, 2, &b));
    tables += kv_pages_bytes(&b) - kv_pages_bytes(&a);
    assert_int_equal(behind - at, 2 * (w.target.groups[0].page_bytes[0] + 4) + tables);
    assert_int_equal(at - peak_at(&w, 256 * k - 1), 2 * 4); /* inside a page only the tokens themselves */
  }
}

static void more_context_never_takes_less(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  make_companion(&w);
  for (int i = 0; i < 20000; i++) {
    int64_t a = between(1, 131072), b = between(a, 131072);
    plan_fit_choice c = {.type = (int32_t)between(0, 2), .shape = (int32_t)between(0, 2), .drafter = between(0, 1) == 1};
    c.n_context = a;
    uint64_t less = plan_fit_peak(&w, c);
    c.n_context = b;
    assert_true(plan_fit_peak(&w, c) >= less);
  }
}

/* ---- what is granted --------------------------------------------------------------------------------------------- */

static void the_largest_context_is_granted(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  for (int i = 0; i < 3000; i++) {
    int64_t n = i % 3 ? between(512, 131072) : 256 * between(2, 512) + between(-1, 1);
    if (n < 512 || n > 131072) continue;
    uint64_t need = peak_at(&w, n);
    plan_fit f = solve(w, need, TANDEM_OK);
    assert_true(f.granted.n_context >= n && peak_at(&w, f.granted.n_context) <= need);
    if (f.granted.n_context < 131072) assert_true(f.next_peak > need && f.next_peak == peak_at(&w, f.granted.n_context + 1));
    if (n > 512) {
      f = solve(w, need - 1, TANDEM_OK);
      assert_true(f.granted.n_context < n);
    }
  }
}

/* How much was given up: larger is worse, in the stated order. */
static int64_t sacrifice(const plan_fit *f) {
  const plan_fit_choice *c = &f->granted;
  return (int64_t)!c->drafter << 60 | (int64_t)c->shape << 50 | (int64_t)c->type << 40 | (int64_t)(f->asked.ngrams && !c->ngrams) << 30 |
         (f->asked.n_context - c->n_context);
}

static void gives_way_in_the_stated_order(void **state) {
  (void)state;
  for (int k = 0; k < 4; k++) {
    plan_fit_wish w = a_wish();
    if (k & 1) make_companion(&w);
    w.ngrams = k & 2 ? 16 << 20 : 0;
    plan_fit first = solve(w, UINT64_MAX - 1, TANDEM_OK);
    uint64_t smallest = condition_of(&first, "smallest"), all = first.asked_peak;
    assert_int_equal(sacrifice(&first), 0);
    int64_t last = 0;
    bool seen_type = false, seen_depth = false, seen_alone = false;
    for (uint64_t budget = all; budget >= smallest; budget -= (all - smallest) / 5000) {
      plan_fit f = solve(w, budget, TANDEM_OK);
      const plan_fit_choice *c = &f.granted;
      assert_true(f.sum.peak <= budget);
      if (c->drafter) { /* while the drafter is there */
        assert_true(sacrifice(&f) >= last || c->n_context > 512);
        last = sacrifice(&f);
      }
      seen_type |= c->type > 0;
      seen_depth |= c->shape > 0;
      seen_alone |= !c->drafter;
      /* Nothing gives way while an earlier choice would fit at the least context. */
      plan_fit_choice before = all_of(&w, 512);
      if (c->type > 0 && c->drafter) assert_true(plan_fit_peak(&w, before) > budget);
      before.type = 2;
      before.ngrams = false;
      if (c->shape > 0) assert_true(plan_fit_peak(&w, before) > budget);
      before.shape = 2;
      if (!c->drafter) assert_true(plan_fit_peak(&w, before) > budget);
    }
    assert_true(seen_type && seen_depth && seen_alone);
    solve(w, smallest, TANDEM_OK);
    solve(w, smallest - 1, TANDEM_ERROR_MEMORY);
  }
}

/* Each condition is the edge: at its budget nothing has happened, a byte below it has. */
static void conditions_are_exact(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  w.ngrams = 16 << 20;
  plan_fit f = solve(w, UINT64_MAX - 1, TANDEM_OK);
  uint64_t edge = condition_of(&f, "context");
  assert_int_equal(solve(w, edge, TANDEM_OK).granted.n_context, 131072);
  assert_true(solve(w, edge - 1, TANDEM_OK).granted.n_context < 131072);
  edge = condition_of(&f, "drafter_trained");
  assert_true(solve(w, edge, TANDEM_OK).granted.n_context >= 8192);
  assert_true(solve(w, edge - 1, TANDEM_OK).granted.n_context < 8192);
  edge = condition_of(&f, "ngrams");
  assert_true(solve(w, edge, TANDEM_OK).granted.ngrams && !solve(w, edge - 1, TANDEM_OK).granted.ngrams);
  edge = condition_of(&f, "kv_type");
  assert_true(solve(w, edge, TANDEM_OK).granted.type == 0 && solve(w, edge - 1, TANDEM_OK).granted.type > 0);
  edge = condition_of(&f, "depth");
  assert_true(solve(w, edge, TANDEM_OK).granted.shape == 0 && solve(w, edge - 1, TANDEM_OK).granted.shape > 0);
  edge = condition_of(&f, "drafter");
  assert_true(solve(w, edge, TANDEM_OK).granted.drafter && !solve(w, edge - 1, TANDEM_OK).granted.drafter);
}

/* Each budget lies in one stage, and that is what it is granted. */
static void stages_are_what_is_granted(void **state) {
  (void)state;
  for (int k = 0; k < 4; k++) {
    plan_fit_wish w = a_wish();
    if (k & 1) make_companion(&w);
    w.ngrams = k & 2 ? 16 << 20 : 0;
    plan_fit all = solve(w, UINT64_MAX - 1, TANDEM_OK);
    for (int32_t i = 0; i < all.n_stages; i++) {
      const plan_fit_stage *s = &all.stages[i];
      assert_int_equal(s->to, i ? all.stages[i - 1].from : UINT64_MAX);
      uint64_t budgets[] = {s->from, s->to - 1, s->full, s->full - 1, s->short_of_drafter, s->short_of_drafter - 1, s->from + (s->to - s->from) / 3};
      for (size_t b = 0; b < COUNT_OF(budgets); b++) {
        if (budgets[b] < s->from || budgets[b] >= s->to) continue;
        plan_fit_choice c = solve(w, budgets[b], TANDEM_OK).granted;
        assert_true(c.drafter == s->least.drafter && c.ngrams == s->least.ngrams && c.type == s->least.type && c.shape == s->least.shape);
        assert_int_equal(c.n_context == 131072, budgets[b] >= s->full);
        if (c.drafter) assert_int_equal(c.n_context < 8192, budgets[b] < s->short_of_drafter);
      }
    }
    assert_true(all.n_stages > 5);
    solve(w, all.stages[all.n_stages - 1].from - 1, TANDEM_ERROR_MEMORY);
  }
}

static void without_leave_the_types_stay(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  w.n_types = w.n_shapes = 1;
  w.has_drafter = false;
  plan_fit f = solve(w, peak_at(&w, 512), TANDEM_OK);
  assert_int_equal(f.granted.type, 0);
  solve(w, peak_at(&w, 512) - 1, TANDEM_ERROR_MEMORY);
  w.n_context_min = 4096;
  solve(w, peak_at(&w, 4096), TANDEM_OK);
  solve(w, peak_at(&w, 4096) - 1, TANDEM_ERROR_MEMORY);
  w.n_context_min = 1 << 20; /* more than was trained: all of it, then */
  solve(w, peak_at(&w, 131072), TANDEM_OK);
  solve(w, peak_at(&w, 131072) - 1, TANDEM_ERROR_MEMORY);
}

static void an_exact_wish_is_met_or_an_error_that_says_what_would(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  w.n_types = w.n_shapes = 1;
  w.drafter_demanded = true;
  w.n_context = 60000;
  solve(w, peak_at(&w, 60000), TANDEM_OK);
  for (int i = 0; i < 300; i++) {
    plan_fit f;
    error err = {0};
    long long would = 0;
    w.budget = peak_at(&w, between(1, 59999));
    assert_int_equal(plan_fit_solve(&f, &w, &err), TANDEM_ERROR_MEMORY);
    const char *at = strstr(err.text, "-c ");
    assert_non_null(at);
    assert_int_equal(sscanf(at, "-c %lld would fit", &would), 1);
    assert_true(peak_at(&w, would) <= w.budget && peak_at(&w, would + 1) > w.budget);
    assert_non_null(strstr(err.text, "60000"));
    assert_non_null(strstr(err.text, "need"));
    assert_non_null(strstr(err.text, "a test"));
  }
  plan_fit f;
  error err = {0};
  w.budget = peak_at(&w, 1) - 1;
  assert_int_equal(plan_fit_solve(&f, &w, &err), TANDEM_ERROR_MEMORY);
  assert_non_null(strstr(err.text, "at least"));
}

/* ---- drafters ---------------------------------------------------------------------------------------------------- */

static void a_drafter_has_no_context_of_its_own(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  for (int i = 0; i < 500; i++) {
    int64_t n = between(1, 131072);
    plan_fit_sum s, t;
    w.drafter.n_trained = between(1, 1 << 20);
    plan_fit_add(&w, all_of(&w, n), &s);
    assert_int_equal(row_of(&s, "drafter", "K/V")->bytes, 0); /* it borrows */
    w.drafter.n_trained = between(1, 1 << 20);
    plan_fit_add(&w, all_of(&w, n), &t);
    assert_int_equal(s.peak, t.peak);
  }
  w.drafter.n_trained = 1 << 20;
  plan_fit f = solve(w, UINT64_MAX - 1, TANDEM_OK);
  assert_int_equal(condition_of(&f, "drafter_trained"), UINT64_MAX); /* longer than the target: at any budget */
  w.drafter.n_trained = 400;
  f = solve(w, UINT64_MAX - 1, TANDEM_OK);
  assert_int_equal(condition_of(&f, "drafter_trained"), 0); /* never below the least context */
}

static void a_demanded_drafter_is_not_left_out(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  plan_fit f = solve(w, UINT64_MAX - 1, TANDEM_OK);
  uint64_t edge = condition_of(&f, "drafter");
  assert_false(solve(w, edge - 1, TANDEM_OK).granted.drafter);
  w.drafter_demanded = true;
  solve(w, edge - 1, TANDEM_ERROR_MEMORY);
  solve(w, edge, TANDEM_OK);
}

static void verification_rows_grow_with_depth(void **state) {
  (void)state;
  plan_fit_wish w = a_wish();
  plan_fit_sum s;
  uint64_t expected[] = {17 * 2000000 - 16000000 + 17 * 16384, 9 * 2000000 - 16000000 + 9 * 16384, 5 * 16384};
  for (int32_t i = 0; i < 3; i++) {
    plan_fit_add(&w, (plan_fit_choice){.n_context = 512, .shape = i, .drafter = true}, &s);
    assert_int_equal(row_of(&s, "", "verification rows")->bytes, expected[i]);
  }
}

/* ---- absurd numbers ---------------------------------------------------------------------------------------------- */

static void absurd_numbers_do_not_wrap(void **state) {
  (void)state;
  for (int i = 0; i < 2000; i++) {
    plan_fit_wish w = a_wish();
    if (i & 1) make_companion(&w);
    uint64_t *fields[] = {&w.target.weights, &w.drafter.weights, &w.target.groups[0].page_bytes[0], &w.drafter.groups[0].page_bytes[0], &w.session,
                          &w.session_token, &w.server, &w.program, &w.shapes[0].logits, &w.shapes[0].hidden, &w.target.reading, &w.alone.scratch};
    *fields[between(0, COUNT_OF(fields) - 1)] = UINT64_MAX - (uint64_t)between(0, 1000);
    *fields[between(0, COUNT_OF(fields) - 1)] = UINT64_MAX / 2 + next_random() / 2;
    w.n_sequences = (int32_t)between(1, 64);
    w.target.n_trained = between(1, 1 << 27);
    w.n_context = i % 3 ? 0 : between(1, 1 << 27);
    w.budget = i % 2 ? UINT64_MAX : next_random();
    plan_fit f;
    error err = {0};
    status st = plan_fit_solve(&f, &w, &err);
    if (st) assert_true(st == TANDEM_ERROR_MEMORY && err.text[0]);
    else assert_true(f.sum.peak <= w.budget && f.sum.peak < UINT64_MAX);
  }
  plan_fit_wish w = a_wish(); /* more pages than a pool can have: 2^27 tokens of 64 sequences */
  w.n_sequences = 64;
  w.n_context = 1 << 27;
  plan_fit f = solve(w, UINT64_MAX, TANDEM_ERROR_MEMORY);
  assert_int_equal(f.asked_peak, UINT64_MAX);
  w.n_context = 0;
  w.target.n_trained = 1 << 27;
  f = solve(w, UINT64_MAX, TANDEM_OK);
  assert_int_equal(f.granted.n_context, (int64_t)256 * ((1 << 24) / 64 - 1));
}

static void tables_and_json_can_be_written(void **state) {
  (void)state;
  static const uint64_t budgets[] = {UINT64_MAX - 1, 8000000000, 5200000000, 4400000000, 1000};
  for (size_t i = 0; i < COUNT_OF(budgets); i++)
    for (int k = 0; k < 4; k++) {
      plan_fit_wish w = a_wish();
      plan_fit f;
      text out = {0};
      error err = {0};
      if (k & 2) make_companion(&w);
      w.budget = budgets[i];
      status st = plan_fit_solve(&f, &w, NULL);
      if (plan_fit_write(&f, &w, k & 1, true, &out, &err)) fail_msg("%s", err.text);
      assert_non_null(strstr(out.bytes, k & 1 ? "\"budget_is\"" : "budget"));
      if (!(k & 1)) assert_true((strstr(out.bytes, "\n-c ") != NULL) == (st == TANDEM_OK));
      text_free(&out);
    }
}

/* ---- real models ------------------------------------------------------------------------------------------------- */

/* Memory that a sanitizer or valgrind adds is not ours to predict: then only failures count. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MEASURED = 0, N_REAL = 40 };
#else
enum { MEASURED = 1, N_REAL = 200 };
#endif

/* Of a process of few MiB 2 % are less than what code is paged in differs: allowed on top. */
enum { SLACK = 1 << 20, PERCENT = 2 };

typedef struct real_case {
  char model[64], draft[64]; /* draft "": none */
  tandem_engine_params params;
  uint64_t mappable;   /* RLIMIT_AS above what is mapped; 0 = none */
  char cgroup[128];    /* a memory cgroup to enter first, or "" */
} real_case;

typedef struct outcome {
  tandem_status open, later; /* of opening; of what follows */
  uint64_t predicted, measured;
  int64_t n_context;
  bool drafter;
  char text[600];
} outcome;

static const char *const small_models[] = {"gemma2", "gemma3", "gemma4-e2b", "gemma4-moe", "gemma4", "llama", "llama3-ropefreqs", "mixtral", "qwen2", "qwen3",
                                           "qwen3moe"};
enum { N_SMALL = COUNT_OF(small_models) };
static char small_paths[N_SMALL][64];
enum { N_LARGE = 3 };
static char large_paths[N_LARGE][64];

static void fill(void *p, size_t n) {
  if (n) memset(p, 1, n);
}

/* Every byte of every region is written, the pool of n-grams by a long text of chance. */
static void touch_regions(tandem_engine *e) {
  const plan *plans[] = {e->plan, e->draft.plan};
  device_binding *bindings[] = {&e->memory, &e->draft.memory};
  for (int i = 0; i < 2; i++) {
    const plan *p = plans[i];
    if (!p) continue;
    fill(bindings[i]->scratch, p->home_bytes[OP_SCRATCH]);
    fill(bindings[i]->logits, p->home_bytes[OP_LOGITS]);
    fill(bindings[i]->hidden, p->home_bytes[OP_HIDDEN]);
    fill(bindings[i]->work, p->work_bytes);
    for (int g = 0; g < p->n_groups && !p->model->arch->borrows; g++) fill(bindings[i]->stores[g], p->groups[g].store_bytes);
  }
  enum { N_TEXT = 60000 };
  spec_drafter *mod = e->drafters[SPEC_NGRAM_MOD];
  static int32_t words[N_TEXT]; /* zero pages until here */
  if (!mod) return;
  for (int i = 0; i < N_TEXT; i++) words[i] = (int32_t)(next_random() % 30000);
  mod->ops->begin(mod, 0, words, 30); /* in stretches, as sessions tell it */
  for (int i = 30; i < N_TEXT; i += 30) mod->ops->settle(mod, 0, words, i, i + 30);
}

/* Sessions with the dearest sampling, some tokens each, then everything there is. */
static tandem_status use_all(tandem_engine *e, int32_t n_sequences, tandem_session *s[4], tandem_error *err) {
  tandem_sampling dearest;
  int32_t ids[4] = {1, 2, 3, 4}, id;
  int64_t n = e->plan->limits.n_context < 4 ? e->plan->limits.n_context : 4;
  tandem_sampling_init(&dearest);
  dearest.top_k = 0;
  dearest.typical_p = 0.5f;
  dearest.repeat_penalty = 1.5f;
  for (int32_t i = 0; i < n_sequences; i++) {
    TRY(tandem_session_open(&s[i], e, &dearest, err));
    TRY(tandem_session_decode(s[i], ids, n, NULL, NULL, err));
    TRY(tandem_session_sample(s[i], &id, err));
    fill(s[i]->tokens, (size_t)e->plan->limits.n_context * sizeof(int32_t));
  }
  touch_regions(e);
  return TANDEM_OK;
}

static bool put_number(const char *folder, const char *name, uint64_t v) {
  char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *f = fopen(path, "w");
  if (!f) return false;
  bool done = fprintf(f, "%" PRIu64 "\n", v) > 0;
  return !fclose(f) && done;
}

/* The program was started with --case: its case comes from standard input, its outcome goes to standard output. */
static int run_child(void) {
  real_case read_case, *c = &read_case;
  outcome o = {0};
  if (read(STDIN_FILENO, c, sizeof *c) != sizeof *c) return 3;
  c->params.model = c->model;
  c->params.draft = c->draft[0] ? c->draft : NULL;
  tandem_engine *e = NULL;
  tandem_error err = {0};
  if (c->cgroup[0] && !put_number(c->cgroup, "cgroup.procs", (uint64_t)getpid())) return 2;
  if (c->mappable) {
    char s[64] = "";
    FILE *f = fopen("/proc/self/statm", "r");
    unsigned long long pages = f && fgets(s, sizeof s, f) ? strtoull(s, NULL, 10) : 0;
    if (f) fclose(f);
    struct rlimit r = {pages * (uint64_t)sysconf(_SC_PAGESIZE) + c->mappable, RLIM_INFINITY};
    setrlimit(RLIMIT_AS, &r);
  }
  o.open = tandem_engine_open(&e, &c->params, &err);
  if (!o.open) {
    o.predicted = e->fit.sum.peak;
    o.n_context = e->plan->limits.n_context;
    o.drafter = e->draft.plan != NULL;
    tandem_session *s[4] = {0};
    o.later = use_all(e, c->params.n_sequences, s, &err);
    o.measured = os_memory_peak();
    if (!o.later) snprintf(err.text, sizeof err.text, "%.500s", e->draft.off);
    for (int i = 0; i < 4; i++) tandem_session_close(s[i]);
    tandem_engine_close(e);
  }
  snprintf(o.text, sizeof o.text, "%s", err.text);
  ssize_t n = write(STDOUT_FILENO, &o, sizeof o);
  return n == sizeof o ? 0 : 1;
}

static const char *named(const char *draft) { return draft[0] ? draft : "none"; }

/* A process of its own, with a memory of its own. */
static outcome run_case(const real_case *c) {
  int in[2], out[2], how = 0;
  outcome o = {0};
  assert_true(pipe(in) == 0 && pipe(out) == 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    close(in[1]);
    execl("/proc/self/exe", "fit_test", "--case", (char *)NULL);
    _exit(4);
  }
  close(in[0]);
  close(out[1]);
  ssize_t sent = write(in[1], c, sizeof *c), n = read(out[0], &o, sizeof o);
  close(in[1]);
  close(out[0]);
  assert_int_equal(waitpid(child, &how, 0), child);
  if (sent != sizeof *c || n != sizeof o || !WIFEXITED(how) || WEXITSTATUS(how))
    fail_msg("%s, draft %s: the process ended with %d", c->model, named(c->draft), how);
  return o;
}

/* The same cases whatever other tests have drawn; TANDEM_SEED gives others. */
static void begin_cases(void) {
  const char *seed = getenv("TANDEM_SEED");
  random_state = 0x853c49e6748fea9bu ^ (seed ? strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15u : 0);
}

static bool valgrind(void) {
  const char *preload = getenv("LD_PRELOAD");
  return preload && strstr(preload, "vgpreload");
}

static real_case random_case(int i) {
  static const int32_t batches[] = {1, 16, 64, 512};
  static const char *const pairs[][2] = {{"models/tales.gguf", "models/tales-draft.gguf"}, {"models/tales.gguf", "models/tales-assistant.gguf"},
                                         {"models/tales.gguf", ""}, {"tests/data/zoo/gemma4.gguf", "tests/data/zoo/gemma4-assistant.gguf"}};
  real_case c = {.mappable = 0};
  int kind = i % 10;
  const char *alone = kind < 7 ? large_paths[between(0, N_LARGE - 1)] : small_paths[between(0, N_SMALL - 1)];
  snprintf(c.model, sizeof c.model, "%s", kind < 4 ? pairs[kind][0] : alone);
  if (kind < 4) snprintf(c.draft, sizeof c.draft, "%s", pairs[kind][1]);
  tandem_engine_params *p = &c.params;
  tandem_engine_params_init(p);
  p->n_threads = (int32_t)between(1, 3);
  p->n_ubatch = batches[between(0, 3)];
  p->n_sequences = (int32_t)between(1, kind < 4 ? 4 : 2);
  if (p->n_ubatch < p->n_sequences) p->n_ubatch = p->n_sequences;
  p->n_context = between(0, 2) ? 0 : between(1, 20000);
  p->kv_type_k = (tandem_kv_type)between(0, 3);
  p->kv_type_v = (tandem_kv_type)between(0, 3);
  p->n_context_min = between(0, 300);
  p->kv_type_lower = between(0, 1);
  p->draft_wish = between(0, 3) ? TANDEM_DRAFT_IF_IT_FITS : TANDEM_DRAFT_REQUIRED;
  return c;
}

static uint64_t file_bytes(const real_case *c) {
  const char *paths[] = {c->model, c->draft};
  uint64_t n = 0; /* a file of no name has none */
  struct stat s;
  for (int i = 0; i < 2; i++)
    if (stat(paths[i], &s) == 0) n += (uint64_t)s.st_size;
  return n;
}

/* What was granted can be had: no allocation fails, the peak is the predicted one, and never above the budget. */
static void what_fits_is_held(void **state) {
  (void)state;
  double worst = 0, worst_large = 0;
  int n_open = 0, n_refused = 0, n_cut = 0, n_without = 0, n_limited = 0;
  bool measured = MEASURED && !valgrind();
  begin_cases();
  for (int i = 0; i < N_REAL; i++) {
    real_case c = random_case(i);
    outcome free_of = run_case(&c), o = free_of;
    if (free_of.open == TANDEM_ERROR_UNSUPPORTED && strstr(free_of.text, "q8_0")) { /* heads of 16 hold no block of 32 */
      c.params.kv_type_k = c.params.kv_type_v = TANDEM_KV_F16;
      o = free_of = run_case(&c);
    }
    if (free_of.open) fail_msg("%s in free memory: %s", c.model, free_of.text);
    /* The pool of n-grams is large beside these models, and gives way early: budgets are about what remains. */
    uint64_t about = between(0, 3) && free_of.predicted > spec_ngram_mod_bytes() ? free_of.predicted - spec_ngram_mod_bytes() : free_of.predicted;
    if (i % 3 == 1) c.params.memory = about * (uint64_t)between(60, 103) / 100;
    /* Stacks of threads and the files are mapped before the question is asked. */
    if (i % 3 == 2 && measured) c.mappable = about * (uint64_t)between(50, 110) / 100 + (uint64_t)c.params.n_threads * (9 << 20) + file_bytes(&c);
    if (c.params.memory || c.mappable) o = run_case(&c);
    n_limited += c.mappable > 0;
    if (o.open) {
      n_refused++;
      if (o.open != TANDEM_ERROR_MEMORY || !strstr(o.text, "fit")) fail_msg("%s: %s: %s", c.model, tandem_status_name(o.open), o.text);
      continue;
    }
    n_open++;
    n_cut += o.n_context < free_of.n_context;
    n_without += c.draft[0] && !o.drafter;
    if (o.later || strstr(o.text, "cannot be allocated"))
      fail_msg("%s, draft %s, context %" PRId64 ": it was said to fit, then: %s", c.model, named(c.draft), o.n_context, o.text);
    if (c.params.memory) assert_true(o.predicted <= c.params.memory);
    if (!measured) continue;
    double off = (double)o.measured - (double)o.predicted, relative = fabs(off) / (double)o.predicted;
    if (relative > worst) worst = relative;
    if (o.predicted > 100 << 20 && relative > worst_large) worst_large = relative;
    if (fabs(off) > SLACK + (double)o.predicted * PERCENT / 100)
      fail_msg("case %d: %s, draft %s, context %" PRId64 ", %d sequences, ubatch %d: peak %.2f MiB predicted, %.2f measured", i, c.model, named(c.draft),
               o.n_context, c.params.n_sequences, c.params.n_ubatch, (double)o.predicted / 0x1p20, (double)o.measured / 0x1p20);
  }
  print_message("  %d opened (%d with a shorter context, %d without their drafter), %d refused, %d under a limit of the address space\n", n_open, n_cut, n_without,
                n_refused, n_limited);
  if (measured) print_message("  peak against prediction: at most %.1f %% off, %.1f %% above 100 MiB\n", 100 * worst, 100 * worst_large);
  if (measured) assert_true(n_cut > 0 && n_without > 0 && n_refused > 0);
}

/* A new memory cgroup below the process's own (version 1, or 2), or at the root of the controller; false: not allowed to. */
static bool make_cgroup(char *path, size_t n, const char **limit) {
  static const char *const roots[][2] = {{"/sys/fs/cgroup/memory", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "memory.max"}};
  for (size_t i = 0; i < COUNT_OF(roots); i++) {
    char file[256];
    snprintf(path, n, "%s/tandem-test-%d", roots[i][0], (int)getpid());
    if (mkdir(path, 0755)) continue;
    snprintf(file, sizeof file, "%s/%s", path, roots[i][1]);
    *limit = roots[i][1];
    if (!access(file, W_OK)) return true;
    rmdir(path);
  }
  return false;
}

static char cgroup_path[128]; /* taken away at the end, also of a test that failed */

/* The limit of a cgroup is seen, kept to, and nothing is killed while all memory is used. */
static void a_cgroup_is_kept_to(void **state) {
  (void)state;
  const char *limit = "", *path = cgroup_path;
  int n_cut = 0;
  if (!MEASURED || valgrind() || !make_cgroup(cgroup_path, sizeof cgroup_path, &limit)) skip();
  for (int i = 0; i < 30; i++) {
    real_case c = random_case(i);
    c.params.n_context = 0;
    c.params.n_threads = 2;
    c.params.kv_type_k = c.params.kv_type_v = TANDEM_KV_F16;
    outcome o = run_case(&c);
    int64_t free_context = o.n_context;
    /* The kernel charges by pages and in lots: room beside the prediction, which fit knows as its reserve. */
    uint64_t bytes = o.predicted * (uint64_t)between(50, 110) / 100;
    assert_true(put_number(path, limit, bytes));
    snprintf(c.cgroup, sizeof c.cgroup, "%s", path);
    o = run_case(&c); /* fails if the kernel had to kill it */
    if (o.open && (o.open != TANDEM_ERROR_MEMORY || !strstr(o.text, "fit"))) fail_msg("%s: %s", c.model, o.text);
    assert_int_equal(o.later, TANDEM_OK);
    assert_true(o.open || o.predicted <= bytes);
    n_cut += !o.open && o.n_context < free_context;
  }
  assert_true(n_cut > 0);
}

static int write_models(void **state) {
  (void)state;
  error err = {0};
  begin_cases();
  for (int i = 0; i < N_SMALL; i++) snprintf(small_paths[i], sizeof small_paths[i], "tests/data/zoo/%s.gguf", small_models[i]);
  for (int i = 0; i < N_LARGE; i++) { /* shapes of chance: Llama, Llama of experts, Gemma with a window */
    tiny_shape shape = tiny_llama(i ? QUANT_F16 : QUANT_Q8_0);
    shape.n_layers = (int)between(3, 6);
    shape.n_embd = 256 * (int)between(2, 4);
    shape.n_heads_kv = 1 << between(1, 2);
    shape.n_heads = shape.n_heads_kv * (int)between(1, 2);
    shape.head_dim = 64 << between(0, 1);
    shape.n_ff = 256 * (int)between(2, i == 1 ? 4 : 10);
    shape.n_vocab = (int)between(2000, 20000);
    if (i == 1) shape.n_experts = 4, shape.n_used = 2;
    if (i == 2) shape.arch = "gemma3", shape.window = 300;
    if (tiny_write(large_paths[i], &shape, &err)) fail_msg("%s", err.text);
  }
  return 0;
}

static int remove_models(void **state) {
  (void)state;
  for (int i = 0; i < N_LARGE; i++) tiny_remove(large_paths[i]);
  if (cgroup_path[0]) rmdir(cgroup_path);
  return 0;
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "--case")) return run_child();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_sum_is_what_the_words_say),
      cmocka_unit_test(a_page_begins_behind_its_edge),
      cmocka_unit_test(more_context_never_takes_less),
      cmocka_unit_test(the_largest_context_is_granted),
      cmocka_unit_test(gives_way_in_the_stated_order),
      cmocka_unit_test(conditions_are_exact),
      cmocka_unit_test(stages_are_what_is_granted),
      cmocka_unit_test(without_leave_the_types_stay),
      cmocka_unit_test(an_exact_wish_is_met_or_an_error_that_says_what_would),
      cmocka_unit_test(a_drafter_has_no_context_of_its_own),
      cmocka_unit_test(a_demanded_drafter_is_not_left_out),
      cmocka_unit_test(verification_rows_grow_with_depth),
      cmocka_unit_test(absurd_numbers_do_not_wrap),
      cmocka_unit_test(tables_and_json_can_be_written),
      cmocka_unit_test(what_fits_is_held),
      cmocka_unit_test(a_cgroup_is_kept_to),
  };
  return cmocka_run_group_tests(tests, write_models, remove_models);
}
