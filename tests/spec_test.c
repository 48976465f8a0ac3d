/* spec_test.c: speculation is a pure optimisation. The same tokens, logits and cells with and without it, for every drafter, depth,
 * temperature, cache type, pass length and number of threads, for one sequence and for eight in one batch; with drafters
 * that lie, fail and know everything. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/guess.h"
#include "support/tiny.h"
#include "support/levels.h"

/* ---- the pair of the recordings ---------------------------------------------------------------------------------- */

static double nmse(const float *a, const float *ref, size_t n) {
  double d = 0, r = 0;
  for (size_t i = 0; i < n; i++) d += ((double)a[i] - ref[i]) * ((double)a[i] - ref[i]), r += (double)ref[i] * ref[i];
  return d / r;
}

static size_t read_numbers(const char *path, int32_t *v, size_t capacity) {
  FILE *f = fopen(path, "r");
  size_t n = 0;
  assert_non_null(f);
  while (n < capacity && fscanf(f, "%d", &v[n]) == 1) n++;
  fclose(f);
  return n;
}

static void draft_steps_equal_the_recordings(void **state) {
  enum { ROWS = 6, VOCAB = 288 };
  static float ref[ROWS * VOCAB], rows[ROWS * VOCAB];
  int32_t prompt[64], want[8], ids[ROWS];
  double worst = 0;
  (void)state;
  size_t n_prompt = read_numbers("tests/data/zoo/gemma4+assistant.tokens", prompt, 64);
  assert_int_equal(read_numbers("tests/data/zoo/gemma4+assistant.draft", want, 8), ROWS);
  FILE *f = fopen("tests/data/zoo/gemma4+assistant.f32", "rb");
  assert_non_null(f);
  assert_int_equal(fread(ref, sizeof *ref, ROWS * VOCAB, f), ROWS * VOCAB);
  fclose(f);
  for (size_t l = 0; l < COUNT_OF(test_levels); l++)
    for (int threads = 1; threads <= 2; threads++) {
      tandem_engine_params p;
      tandem_engine *e;
      tandem_error err = {0};
      guess_params(&p, "tests/data/zoo/gemma4.gguf", "tests/data/zoo/gemma4-assistant.gguf");
      p.kv_type_k = p.kv_type_v = TANDEM_KV_F32;
      p.cpu = test_levels[l];
      p.n_threads = threads;
      tandem_status st = tandem_engine_open(&e, &p, &err);
      if (st == TANDEM_ERROR_UNSUPPORTED) continue; /* not on this machine */
      guess_ok(st, &err);
      tandem_session *s;
      guess_ok(tandem_session_open(&s, e, NULL, &err), &err);
      guess_ok(tandem_session_decode(s, prompt, (int64_t)n_prompt, NULL, NULL, &err), &err);
      memcpy(rows, tandem_session_logits(s), VOCAB * sizeof *rows);
      guess_ok(tandem_session_sample(s, &ids[0], &err), &err);
      guess_ok(tandem_session_draft(s, ids[0], ROWS - 1, ids + 1, rows + VOCAB, &err), &err);
      assert_memory_equal(ids, want, sizeof ids);
      for (int i = 0; i < ROWS; i++) {
        double d = nmse(rows + i * VOCAB, ref + i * VOCAB, VOCAB);
        worst = d > worst ? d : worst;
        if (!(d <= 1e-6)) fail_msg("row %d at %s: NMSE %g, must be at most 1e-6", i, test_levels[l], d);
      }
      tandem_session_close(s);
      tandem_engine_close(e);
    }
  print_message("  gemma4+assistant: worst NMSE %.2e (bound 1e-06)\n", worst);
}

/* ---- the same text ----------------------------------------------------------------------------------------------- */

typedef struct pair {
  const char *target, *draft;
} pair;

static const pair pairs[] = {{"models/tales.gguf", "models/tales-assistant.gguf"},
                             {"models/tales.gguf", "models/tales-draft.gguf"},
                             {"tests/data/zoo/gemma4.gguf", "tests/data/zoo/gemma4-assistant.gguf"},
                             {"tests/data/zoo/gemma3.gguf", "tests/data/zoo/gemma2.gguf"},
                             {"tests/data/zoo/qwen3.gguf", "tests/data/zoo/llama.gguf"}};

/* The last one only where a head has whole blocks of it. */
static const tandem_kv_type kv_types[] = {TANDEM_KV_F16, TANDEM_KV_F32, TANDEM_KV_BF16, TANDEM_KV_Q8_0};

static void fill_prompt(int32_t *ids, int n, int n_vocab) {
  for (int i = 0; i < n; i++) ids[i] = i % 3 == 2 && i > 8 ? ids[i - 6] : 5 + guess_below(n_vocab - 5); /* some of it repeats */
}

static tandem_speculation random_speculation(void) {
  static const char *const words[] = {"auto", "shared,model", "model,shared", "ngram-simple", "ngram-mod,shared", "ngram-simple,ngram-mod,model"};
  static const int depths[] = {-1, 0, 1, 2, 3, 5, 8, 16, 64};
  tandem_speculation s = guess_kinds(words[guess_below(COUNT_OF(words))], depths[guess_below(COUNT_OF(depths))]);
  s.n_max = 1 + guess_below(20);
  if (guess_below(3) == 0) s.depth_seed = 1 + guess_next_random(), s.depth = -1;
  if (guess_below(4) == 0) s.n_min = guess_below(3);
  if (guess_below(4) == 0) s.p_min = (float)guess_below(8) / 10;
  return s;
}

static tandem_sampling random_sampling(void) {
  static const float temperatures[] = {0, 0, 0.3f, 0.8f, 1, 2};
  tandem_sampling s = guess_sampling(temperatures[guess_below(COUNT_OF(temperatures))], guess_next_random());
  if (guess_below(3) == 0) s.repeat_penalty = 1.3f;
  if (guess_below(4) == 0) s.dry_multiplier = 0.8f;
  if (guess_below(4) == 0) s.xtc_probability = 0.5f;
  if (guess_below(3) == 0) s.top_k = guess_below(3) ? 5 : 0;
  if (guess_below(4) == 0) s.typical_p = 0.7f;
  if (guess_below(4) == 0) s.frequency_penalty = 0.4f;
  return s;
}

static void any_guess_gives_the_same_text(void **state) {
  static const int ubatches[] = {1, 7, 64, 512};
  int32_t prompt[300];
  int64_t drafted = 0, accepted = 0;
  (void)state;
  for (int round = 0; round < 60; round++) {
    const pair *p = &pairs[round % (int)COUNT_OF(pairs)];
    tandem_engine_params params;
    guess_params(&params, p->target, p->draft);
    params.kv_type_k = params.kv_type_v = kv_types[guess_below(p->target[0] == 'm' ? 4 : 3)];
    params.n_ubatch = ubatches[guess_below(4)];
    params.n_threads = 1 + guess_below(3);
    tandem_engine *e = guess_open_engine(&params);
    int n_vocab = (int)e->model->n_vocab;
    for (int i = 0; i < 4; i++) {
      int n_prompt = 1 + guess_below(i == 3 ? 290 : 40);
      fill_prompt(prompt, n_prompt, n_vocab);
      tandem_sampling sampling = random_sampling();
      tandem_speculation off = guess_kinds("off", -1), spec = random_speculation();
      guess_result want, got;
      char what[200];
      snprintf(what, sizeof what, "%s + %s, %s, depth %d, max %d, random %d, temperature %g, ubatch %d, %d threads", p->target, p->draft, spec.kinds,
               spec.depth, spec.n_max, spec.depth_seed != 0, (double)sampling.temperature, params.n_ubatch, params.n_threads);
      guess_generate(e, prompt, n_prompt, 60, &sampling, &off, &want);
      guess_generate(e, prompt, n_prompt, 60, &sampling, &spec, &got);
      guess_assert_same(&want, &got, what);
      drafted += got.stats.n_drafted;
      accepted += got.stats.n_accepted;
      guess_free_result(&want);
      guess_free_result(&got);
    }
    tandem_engine_close(e);
  }
  print_message("  240 texts, %lld guesses, %lld right\n", (long long)drafted, (long long)accepted);
  assert_true(accepted > 200);
}

/* ---- several sequences ------------------------------------------------------------------------------------------- */

enum { CROWD = 8, CROWD_TOKENS = 48 };

/* One member of a crowd: begins and ends at its own time. */
typedef struct member {
  tandem_session *s;
  int32_t prompt[40];
  int n_prompt, begins, wanted;
  tandem_sampling sampling;
  guess_result plain, got;
  int32_t last;
} member;

static void begin_member(tandem_engine *e, member *m, const tandem_speculation *spec) {
  tandem_error err = {0};
  m->s = guess_open_session(e, &m->sampling, spec);
  guess_ok(tandem_session_decode(m->s, m->prompt, m->n_prompt, NULL, NULL, &err), &err);
  guess_ok(tandem_session_sample(m->s, &m->last, &err), &err);
  m->got.ids[m->got.n++] = m->last;
}

static void end_member(member *m) {
  guess_collect_end(&m->got, m->s);
  tandem_session_close(m->s);
  m->s = NULL;
}

static void step_crowd(member *crowd) {
  tandem_step steps[CROWD];
  member *of[CROWD];
  int n = 0;
  tandem_error err = {0};
  for (int i = 0; i < CROWD; i++)
    if (crowd[i].s) {
      of[n] = &crowd[i];
      steps[n++] = (tandem_step){.session = crowd[i].s, .last = crowd[i].last, .n_max = crowd[i].wanted - crowd[i].got.n};
    }
  if (!n) return;
  guess_ok(tandem_advance(steps, n, &err), &err);
  for (int k = 0; k < n; k++) {
    member *m = of[k];
    assert_true(steps[k].n >= 1 && steps[k].n <= m->wanted - m->got.n);
    assert_true(steps[k].n_accepted <= steps[k].n_drafted);
    for (int i = 0; i < steps[k].n; i++) m->got.ids[m->got.n++] = steps[k].ids[i];
    m->last = steps[k].ids[steps[k].n - 1];
    bool ended = tandem_token_is_end(m->s->engine, m->last);
    if (ended || m->got.n == m->wanted) end_member(m);
  }
}

static void sequences_in_one_batch_do_not_meet(void **state) {
  (void)state;
  for (size_t round = 0; round < 2 * COUNT_OF(pairs); round++) {
    const pair *p = &pairs[round % COUNT_OF(pairs)];
    tandem_engine_params params;
    guess_params(&params, p->target, p->draft);
    params.kv_type_k = params.kv_type_v = kv_types[guess_below(p->target[0] == 'm' ? 4 : 3)];
    params.n_ubatch = 8 + guess_below(100);
    params.n_threads = 1 + guess_below(3);
    tandem_engine *e = guess_open_engine(&params);
    static member crowd[CROWD];
    tandem_speculation off = guess_kinds("off", -1);
    memset(crowd, 0, sizeof crowd);
    for (int i = 0; i < CROWD; i++) {
      member *m = &crowd[i];
      m->n_prompt = 1 + guess_below(40);
      m->begins = guess_below(12);
      m->wanted = 2 + guess_below(CROWD_TOKENS);
      m->sampling = random_sampling();
      fill_prompt(m->prompt, m->n_prompt, (int)e->model->n_vocab);
      guess_generate(e, m->prompt, m->n_prompt, m->wanted, &m->sampling, &off, &m->plain);
    }
    for (int t = 0; t < 200; t++) {
      for (int i = 0; i < CROWD; i++) {
        tandem_speculation spec = random_speculation();
        if (t == crowd[i].begins) begin_member(e, &crowd[i], &spec);
        if (crowd[i].s && crowd[i].got.n == crowd[i].wanted) end_member(&crowd[i]);
      }
      step_crowd(crowd);
    }
    for (int i = 0; i < CROWD; i++) {
      assert_null(crowd[i].s);
      guess_assert_same(&crowd[i].plain, &crowd[i].got, p->draft);
      guess_free_result(&crowd[i].plain);
      guess_free_result(&crowd[i].got);
    }
    for (int g = 0; g < e->plan->n_groups; g++) assert_int_equal(kv_pages_free(e->pages[g]), e->plan->groups[g].pages.n_pages);
    tandem_engine_close(e);
  }
}

/* ---- drafters that lie, fail and know everything ----------------------------------------------------------------- */

typedef enum lie { LIE_RANDOM, LIE_END, LIE_ALTERNATE, LIE_TRUTH, LIE_NOTHING, LIE_FAIL, LIE_BAD_IDS, LIE_LATE, LIES } lie;

typedef struct liar {
  spec_drafter base;
  lie kind;
  const guess_result *truth;
  int n_prompt, calls, n_vocab;
} liar;

static status liar_propose(spec_drafter *d, spec_ask *asks, int32_t n, error *err) {
  liar *l = (liar *)d;
  l->calls++;
  if (l->kind == LIE_FAIL && l->calls % 3 == 0) return base_fail(err, TANDEM_ERROR_MEMORY, NULL, "the liar has no memory");
  for (int32_t i = 0; i < n; i++) {
    spec_ask *a = &asks[i];
    a->n_out = 0;
    for (int32_t k = 0; k < a->k && l->kind != LIE_NOTHING; k++) {
      int64_t index = a->n + 1 + k, at = index - l->n_prompt;
      int32_t truth = at >= 0 && at < l->truth->n ? l->truth->ids[at] : 7, id = (int32_t)(guess_next_random() % (uint32_t)l->n_vocab);
      if (l->kind == LIE_END) id = 1;
      if (l->kind == LIE_TRUTH || l->kind == LIE_FAIL || (l->kind == LIE_ALTERNATE && k % 2 == 0) || (l->kind == LIE_LATE && k < 2)) id = truth;
      if (l->kind == LIE_BAD_IDS) id = k == 1 ? -5 : k == 2 ? l->n_vocab : truth;
      a->tokens[index] = id;
      a->p[a->n_out++] = -1;
    }
  }
  return TANDEM_OK;
}
static void liar_close(spec_drafter *d) { (void)d; }
static void liar_begin(spec_drafter *d, int32_t s, const int32_t *t, int64_t n) { (void)d, (void)s, (void)t, (void)n; }
static void liar_settle(spec_drafter *d, int32_t s, const int32_t *t, int64_t from, int64_t n) { (void)d, (void)s, (void)t, (void)from, (void)n; }
static const spec_ops liar_ops = {.name = "liar", .close = liar_close, .begin = liar_begin, .propose = liar_propose, .settle = liar_settle};

static void put_liar(tandem_engine *e, liar *l) {
  spec_drafter **slot = &e->drafters[SPEC_NGRAM_SIMPLE];
  if (*slot) (*slot)->ops->close(*slot);
  *slot = &l->base;
}

static void no_drafter_can_change_the_text(void **state) {
  static const float temperatures[] = {0, 1};
  int32_t prompt[20];
  (void)state;
  fill_prompt(prompt, 20, 4096);
  for (int kind = 0; kind < LIES; kind++)
    for (int depth = 1; depth <= 15; depth += 2)
      for (size_t t = 0; t < COUNT_OF(temperatures); t++) {
        tandem_engine *e = guess_open_pair("models/tales.gguf", NULL);
        tandem_sampling sampling = guess_sampling(temperatures[t], 3);
        tandem_speculation off = guess_kinds("off", -1), spec = guess_kinds("ngram-simple", depth);
        guess_result want, got;
        char what[64];
        snprintf(what, sizeof what, "lie %d, depth %d", kind, depth);
        guess_generate(e, prompt, 20, 50, &sampling, &off, &want);
        liar l = {{&liar_ops}, (lie)kind, &want, 20, 0, 4096};
        put_liar(e, &l);
        guess_generate(e, prompt, 20, 50, &sampling, &spec, &got);
        guess_assert_same(&want, &got, what);
        if (kind == LIE_TRUTH) assert_int_equal(got.stats.n_accepted, got.stats.n_drafted);
        if (kind == LIE_TRUTH) assert_true(got.stats.n_steps <= 49 / (depth + 1) + 1);
        if (kind == LIE_NOTHING) assert_int_equal(got.stats.n_drafted, 0);
        if (kind == LIE_FAIL) assert_null(e->drafters[SPEC_NGRAM_SIMPLE]);
        if (kind == LIE_FAIL) assert_non_null(strstr(e->draft.off, "no memory"));
        guess_free_result(&want);
        guess_free_result(&got);
        tandem_engine_close(e);
      }
}

/* A model that fails while it is asked is given up: told once, and the text goes on. */
static void a_failing_model_is_given_up(void **state) {
  (void)state;
  tandem_engine *e = guess_open_pair("models/tales.gguf", "models/tales-assistant.gguf");
  tandem_engine_info info = {.size = sizeof info};
  int32_t prompt[20];
  fill_prompt(prompt, 20, 4096);
  tandem_speculation off = guess_kinds("off", -1), spec = guess_kinds("shared", 3);
  guess_result want, got;
  guess_generate(e, prompt, 20, 50, NULL, &off, &want);
  guess_ok(tandem_engine_get_info(e, &info, NULL), NULL);
  assert_string_equal(info.draft_kind, "shared");
  liar l = {{&liar_ops}, LIE_FAIL, &want, 20, 0, 4096};
  e->drafters[SPEC_SHARED]->ops->close(e->drafters[SPEC_SHARED]);
  e->drafters[SPEC_SHARED] = &l.base;
  guess_generate(e, prompt, 20, 50, NULL, &spec, &got);
  guess_assert_same(&want, &got, "a failing model");
  guess_ok(tandem_engine_get_info(e, &info, NULL), NULL);
  assert_string_equal(info.draft_kind, "");
  assert_non_null(strstr(info.draft_off, "shared: the liar has no memory"));
  guess_free_result(&want);
  guess_free_result(&got);
  tandem_engine_close(e);
}

/* A callback that stops in the middle of a step leaves the session as plain decoding would. */
typedef struct stopper {
  int n, stop_at;
} stopper;
static bool stop_after(void *user, int32_t id, const char *piece, size_t n) {
  stopper *s = user;
  (void)piece, (void)n;
  return id < 0 || ++s->n < s->stop_at;
}

static void stopping_inside_a_step_takes_the_rest_back(void **state) {
  int32_t prompt[20];
  (void)state;
  fill_prompt(prompt, 20, 4096);
  tandem_engine *e = guess_open_pair("models/tales.gguf", NULL);
  tandem_speculation off = guess_kinds("off", -1), spec = guess_kinds("ngram-simple", 7);
  guess_result truth;
  guess_generate(e, prompt, 20, 60, NULL, &off, &truth);
  liar l = {{&liar_ops}, LIE_TRUTH, &truth, 20, 0, 4096};
  put_liar(e, &l);
  for (int at = 1; at <= 20; at++) {
    tandem_error err = {0};
    tandem_stop why;
    int64_t n[2];
    tandem_session *s[2];
    for (int k = 0; k < 2; k++) {
      stopper stop = {0, at};
      s[k] = guess_open_session(e, NULL, k ? &spec : &off);
      guess_ok(tandem_session_decode(s[k], prompt, 20, NULL, NULL, &err), &err);
      guess_ok(tandem_session_generate(s[k], 60, stop_after, &stop, &n[k], &why, &err), &err);
      assert_int_equal(why, TANDEM_STOP_USER);
      assert_int_equal(n[k], at);
    }
    assert_int_equal(tandem_session_length(s[0]), tandem_session_length(s[1]));
    assert_true(tandem_session_hash(s[0]) == tandem_session_hash(s[1]));
    assert_memory_equal(tandem_session_logits(s[0]), tandem_session_logits(s[1]), truth.n_vocab * sizeof(float));
    tandem_session_close(s[0]);
    tandem_session_close(s[1]);
  }
  guess_free_result(&truth);
  tandem_engine_close(e);
}

static void the_context_may_be_full(void **state) {
  (void)state;
  for (size_t p = 0; p < 2; p++) {
    tandem_engine_params params;
    guess_params(&params, pairs[p].target, pairs[p].draft);
    params.n_context = 40;
    params.n_sequences = 1;
    tandem_engine *e = guess_open_engine(&params);
    int32_t prompt[10];
    fill_prompt(prompt, 10, 4096);
    tandem_speculation off = guess_kinds("off", -1), spec = guess_kinds("shared,model", 6);
    guess_result want, got;
    guess_generate(e, prompt, 10, -1, NULL, &off, &want);
    guess_generate(e, prompt, 10, -1, NULL, &spec, &got);
    guess_assert_same(&want, &got, pairs[p].draft);
    assert_true(got.stats.n_drafted > 0);
    guess_free_result(&want);
    guess_free_result(&got);
    tandem_engine_close(e);
  }
}

/* A session without a token has no cell that a head could see: it goes on without guesses. */
static void an_empty_session_has_nothing_to_see(void **state) {
  (void)state;
  for (size_t p = 0; p < 2; p++) {
    tandem_engine *e = guess_open_pair(pairs[p].target, pairs[p].draft);
    tandem_speculation spec = guess_kinds("shared,model", 4);
    tandem_session *s = guess_open_session(e, NULL, &spec);
    tandem_error err = {0};
    tandem_step step = {.session = s, .last = 2, .n_max = 8};
    guess_ok(tandem_advance(&step, 1, &err), &err);
    assert_true(step.n >= 1);
    assert_true(p == 1 || step.n_drafted == 0);
    tandem_session_close(s);
    tandem_engine_close(e);
  }
}

/* ---- forks, syncs, going back ------------------------------------------------------------------------------------ */

static void forks_and_changes_of_mind_keep_the_text(void **state) {
  (void)state;
  for (size_t p = 0; p < COUNT_OF(pairs); p++) {
    tandem_engine *e = guess_open_pair(pairs[p].target, pairs[p].draft);
    tandem_error err = {0};
    int32_t prompt[300], id;
    fill_prompt(prompt, 300, (int)e->model->n_vocab);
    tandem_speculation off = guess_kinds("off", -1), spec = guess_kinds("shared,model,ngram-simple", 4);
    guess_result r;
    tandem_session *s = guess_open_session(e, NULL, &spec), *f;
    guess_ok(tandem_session_decode(s, prompt, 270, NULL, NULL, &err), &err);
    guess_ok(tandem_session_generate(s, 20, NULL, NULL, NULL, NULL, &err), &err);
    for (int i = 0; i < 12; i++) {
      int64_t n = 1 + guess_below(260);
      guess_ok(tandem_session_fork(&f, s, n, &err), &err);
      if (tandem_session_logits(f) == NULL) guess_ok(tandem_session_decode(f, prompt + 280, 1, NULL, NULL, &err), &err), n++;
      memset(&r, 0, sizeof r);
      guess_ok(tandem_session_generate(f, 12, guess_collect, &r, NULL, NULL, &err), &err);
      guess_collect_end(&r, f);
      int32_t again[300];
      memcpy(again, tandem_session_tokens(f), (size_t)n * sizeof *again);
      guess_result want;
      guess_generate(e, again, (int)n, 12, NULL, &off, &want);
      guess_assert_same(&want, &r, "fork");
      tandem_session_close(f);
      guess_free_result(&r);
      guess_free_result(&want);
      n = 2 + guess_below(200); /* and the source goes another way */
      again[n - 1] = 5 + guess_below(200);
      memcpy(again, prompt, (size_t)(n - 1) * sizeof *again);
      guess_ok(tandem_session_sync(s, again, n, NULL, NULL, &err), &err);
      memset(&r, 0, sizeof r);
      guess_ok(tandem_session_generate(s, 12, guess_collect, &r, NULL, NULL, &err), &err);
      guess_collect_end(&r, s);
      guess_generate(e, again, (int)n, 12, NULL, &off, &want);
      guess_assert_same(&want, &r, "sync");
      guess_free_result(&r);
      guess_free_result(&want);
      guess_ok(tandem_session_sync(s, prompt, 270, NULL, NULL, &err), &err);
      guess_ok(tandem_session_sample(s, &id, &err), &err);
    }
    tandem_session_close(s);
    tandem_engine_close(e);
  }
}

/* ---- the source is left alone ------------------------------------------------------------------------------------ */

static void a_drafter_leaves_its_source_alone(void **state) {
  (void)state;
  for (size_t p = 0; p < 3; p++) {
    tandem_engine *e = guess_open_pair(pairs[p].target, NULL);
    tandem_error err = {0};
    tandem_engine_params params;
    guess_params(&params, pairs[p].target, pairs[p].draft);
    int32_t prompt[40], ids[8];
    fill_prompt(prompt, 40, (int)e->model->n_vocab);
    tandem_speculation off = guess_kinds("off", -1);
    tandem_session *s = guess_open_session(e, NULL, &off);
    guess_ok(tandem_session_decode(s, prompt, 40, NULL, NULL, &err), &err);
    uint64_t before = tandem_session_hash(s);
    int32_t free_pages = kv_pages_free(e->pages[0]);
    size_t bytes = e->plan->groups[0].store_bytes;
    void *copy = malloc(bytes);
    memcpy(copy, e->memory.stores[0], bytes);
    tandem_session_close(s);
    tandem_engine_close(e);

    e = guess_open_engine(&params);
    s = guess_open_session(e, NULL, &off);
    guess_ok(tandem_session_decode(s, prompt, 40, NULL, NULL, &err), &err);
    guess_ok(tandem_session_draft(s, prompt[3], 6, ids, NULL, &err), &err);
    assert_true(tandem_session_hash(s) == before);
    assert_int_equal(kv_pages_free(e->pages[0]), free_pages);
    assert_memory_equal(copy, e->memory.stores[0], bytes);
    engine_draft_close(e);
    assert_true(tandem_session_hash(s) == before);
    assert_memory_equal(copy, e->memory.stores[0], bytes);
    tandem_session_close(s);
    tandem_engine_close(e);
    free(copy);
  }
}

static void a_lent_pool_is_not_closed(void **state) {
  (void)state;
  tandem_engine *e = guess_open_pair(pairs[0].target, pairs[0].draft);
  for (int g = 0; g < e->plan->n_groups; g++) {
    tandem_error err = {0};
    assert_int_equal(kv_pages_close(e->pages[g], &err), TANDEM_ERROR_BUSY);
    assert_non_null(strstr(err.text, "lent"));
  }
  tandem_engine_close(e);
}

/* The drafter's file says another length than the target's: it does not matter, it has no context of its own. */
static void a_drafter_has_no_context(void **state) {
  (void)state;
  for (int64_t context = 40; context <= 4000; context = context * 3 + 7) {
    tandem_engine_params p;
    guess_params(&p, pairs[0].target, pairs[0].draft);
    p.n_context = context;
    p.n_sequences = 1;
    for (int k = 0; k < 2; k++) {
      p.draft = pairs[k].draft;
      tandem_engine *e = guess_open_engine(&p);
      tandem_engine_info info = {.size = sizeof info};
      guess_ok(tandem_engine_get_info(e, &info, NULL), NULL);
      assert_int_equal(info.draft_context_train, 2048);
      assert_int_equal(e->draft.plan->limits.n_context, context);
      for (int g = 0; g < e->plan->n_groups; g++) assert_int_equal(e->draft.plan->groups[g].pages.n_pages, e->plan->groups[g].pages.n_pages);
      assert_true(k == 0 ? info.draft_kv_bytes == 0 : info.draft_kv_bytes > 0);
      tandem_engine_close(e);
    }
  }
}

/* ---- pairs that do not fit --------------------------------------------------------------------------------------- */

static void refused(const char *target, const char *draft, const char *words) {
  tandem_engine_params p;
  tandem_engine *e;
  tandem_error err = {0};
  guess_params(&p, target, draft);
  assert_int_not_equal(tandem_engine_open(&e, &p, &err), TANDEM_OK);
  if (!strstr(err.text, words)) fail_msg("'%s' expected in: %s", words, err.text);
  p.draft_wish = TANDEM_DRAFT_IF_USABLE; /* without it the engine opens, and says why */
  guess_ok(tandem_engine_open(&e, &p, &err), &err);
  tandem_engine_info info = {.size = sizeof info};
  guess_ok(tandem_engine_get_info(e, &info, NULL), NULL);
  if (!strstr(info.draft_off, words)) fail_msg("'%s' expected in: %s", words, info.draft_off);
  assert_string_equal(info.draft_kind, "");
  tandem_engine_close(e);
}

static void pairs_that_do_not_fit_are_refused(void **state) {
  (void)state;
  refused("tests/data/zoo/gemma2.gguf", "tests/data/zoo/gemma4-assistant.gguf", "sliding layer 2 of the target holds 32");
  refused("tests/data/zoo/llama.gguf", "tests/data/zoo/gemma4-assistant.gguf", "no such layer");
  refused("models/tales.gguf", "tests/data/zoo/llama.gguf", "tokens: 4096 and 288");
  refused("tests/data/zoo/llama.gguf", "models/tales-assistant.gguf", "differ in");
  refused("models/tales.gguf", "models/no-such-file.gguf", "no-such-file");
  tandem_engine_params p;
  tandem_engine *e;
  tandem_error err = {0};
  guess_params(&p, "models/tales-assistant.gguf", NULL);
  assert_int_equal(tandem_engine_open(&e, &p, &err), TANDEM_ERROR_UNSUPPORTED);
  assert_non_null(strstr(err.text, "-d"));
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static void the_loop_allocates_nothing(void **state) {
  (void)state;
  for (size_t p = 0; p < COUNT_OF(pairs); p++) {
    tandem_engine *e = guess_open_pair(pairs[p].target, pairs[p].draft);
    tandem_error err = {0};
    int32_t prompt[40];
    fill_prompt(prompt, 40, (int)e->model->n_vocab);
    tandem_sampling sampling = guess_sampling(0.8f, 1);
    tandem_speculation spec = guess_kinds("ngram-simple,ngram-mod,shared,model", 4);
    tandem_session *s = guess_open_session(e, &sampling, &spec);
    guess_ok(tandem_session_decode(s, prompt, 40, NULL, NULL, &err), &err);
    uint64_t before = tandem_allocation_count();
    guess_ok(tandem_session_generate(s, 300, NULL, NULL, NULL, NULL, &err), &err);
    assert_true(tandem_allocation_count() == before);
    tandem_session_close(s);
    tandem_engine_close(e);
  }
}

/* The n-th allocation fails for every n while a pair is opened and used: the engine opens without the drafter or not at all, and
 * what it tells is the same. */
static void without_memory_there_is_no_drafter_but_the_same_text(void **state) {
  int32_t prompt[20];
  int opened = 0, without = 0, failed = 0;
  (void)state;
  fill_prompt(prompt, 20, 4096);
  for (size_t p = 0; p < 2; p++) {
    tandem_engine_params params;
    guess_result want;
    guess_params(&params, pairs[p].target, pairs[p].draft);
    params.draft_wish = TANDEM_DRAFT_IF_USABLE;
    params.n_sequences = 2;
    tandem_engine *e = guess_open_engine(&params);
    tandem_speculation off = guess_kinds("off", -1), spec = guess_kinds("shared,model", 3);
    guess_generate(e, prompt, 20, 12, NULL, &off, &want);
    tandem_engine_close(e);
    for (uint64_t n = 1;; n++) {
      tandem_error err = {0};
      base_fault_arm(FAULT_MEMORY, n, false);
      tandem_status st = tandem_engine_open(&e, &params, &err);
      bool hit = base_fault_arm(FAULT_MEMORY, 0, false) >= n;
      if (!hit) {
        tandem_engine_close(e);
        break;
      }
      if (st) {
        assert_int_equal(st, TANDEM_ERROR_MEMORY);
        failed++;
        continue;
      }
      guess_result got;
      guess_generate(e, prompt, 20, 12, NULL, &spec, &got);
      guess_assert_same(&want, &got, "after a failed allocation");
      *(e->draft.plan ? &opened : &without) += 1;
      assert_true(e->draft.plan || e->draft.off[0]);
      guess_free_result(&got);
      tandem_engine_close(e);
    }
    guess_free_result(&want);
  }
  print_message("  %d times no engine, %d times no drafter, %d times an n-gram drafter less\n", failed, without, opened);
  assert_true(without > 20);
}

/* ---- wishes ------------------------------------------------------------------------------------------------------ */

static void wishes_are_checked(void **state) {
  (void)state;
  tandem_engine *e = guess_open_pair(pairs[0].target, NULL);
  tandem_session *s;
  tandem_error err = {0};
  guess_ok(tandem_session_open(&s, e, NULL, &err), &err);
  tandem_speculation w = guess_kinds("auto", -2);
  assert_int_equal(tandem_session_set_speculation(s, &w, &err), TANDEM_ERROR_ARGUMENT);
  assert_non_null(strstr(err.text, "depth: -2"));
  w = guess_kinds("gues", -1);
  assert_int_equal(tandem_session_set_speculation(s, &w, &err), TANDEM_ERROR_ARGUMENT);
  assert_non_null(strstr(err.text, "'gues'"));
  w = guess_kinds("shared,shared", -1);
  assert_int_equal(tandem_session_set_speculation(s, &w, &err), TANDEM_ERROR_ARGUMENT);
  w = guess_kinds("auto", -1);
  w.p_min = NAN;
  assert_int_equal(tandem_session_set_speculation(s, &w, &err), TANDEM_ERROR_ARGUMENT);
  w = guess_kinds("auto", -1);
  w.n_max = 65;
  assert_int_equal(tandem_session_set_speculation(s, &w, &err), TANDEM_ERROR_ARGUMENT);
  w = guess_kinds("ngram,model", -1);
  assert_int_equal(tandem_session_set_speculation(s, &w, &err), TANDEM_OK);
  assert_int_equal(s->speculation.policy.n_kinds, 3);
  w = guess_kinds("ngram-mod,ngram", -1);
  assert_int_equal(tandem_session_set_speculation(s, &w, &err), TANDEM_ERROR_ARGUMENT);
  tandem_engine_params bad;
  tandem_engine *none;
  guess_params(&bad, pairs[0].target, NULL);
  bad.ngram_mod.n_match = 65;
  assert_int_equal(tandem_engine_open(&none, &bad, &err), TANDEM_ERROR_ARGUMENT);
  assert_non_null(strstr(err.text, "ngram-mod: n_match: 65, must be 1 to 64"));
  int32_t ids[4];
  assert_int_equal(tandem_session_draft(s, 5, 2, ids, NULL, &err), TANDEM_ERROR_ARGUMENT);
  tandem_step step = {.session = s, .last = 5, .n_max = 0};
  assert_int_equal(tandem_advance(&step, 1, &err), TANDEM_ERROR_ARGUMENT);
  step = (tandem_step){.session = s, .last = 4096, .n_max = 4};
  assert_int_equal(tandem_advance(&step, 1, &err), TANDEM_ERROR_ARGUMENT);
  tandem_step twice[2] = {{.session = s, .last = 5, .n_max = 4}, {.session = s, .last = 5, .n_max = 4}};
  assert_int_equal(tandem_advance(twice, 2, &err), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(twice[0].status, TANDEM_OK); /* the first one was done */
  assert_true(twice[0].n >= 1);
  tandem_session_close(s);
  tandem_engine_close(e);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(draft_steps_equal_the_recordings),
      cmocka_unit_test(any_guess_gives_the_same_text),
      cmocka_unit_test(sequences_in_one_batch_do_not_meet),
      cmocka_unit_test(no_drafter_can_change_the_text),
      cmocka_unit_test(a_failing_model_is_given_up),
      cmocka_unit_test(stopping_inside_a_step_takes_the_rest_back),
      cmocka_unit_test(the_context_may_be_full),
      cmocka_unit_test(an_empty_session_has_nothing_to_see),
      cmocka_unit_test(forks_and_changes_of_mind_keep_the_text),
      cmocka_unit_test(a_drafter_leaves_its_source_alone),
      cmocka_unit_test(a_lent_pool_is_not_closed),
      cmocka_unit_test(a_drafter_has_no_context),
      cmocka_unit_test(pairs_that_do_not_fit_are_refused),
      cmocka_unit_test(the_loop_allocates_nothing),
      cmocka_unit_test(without_memory_there_is_no_drafter_but_the_same_text),
      cmocka_unit_test(wishes_are_checked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
