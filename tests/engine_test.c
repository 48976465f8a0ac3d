/* engine_test.c: the promises of tandem.h. The same bits whatever the threads, passes, forks and truncations; errors that name
 * the thing and leave the session as it was; nothing allocated while tokens are produced; every failed allocation and read
 * clean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "spec/spec.h"
#include "support/tiny.h"

enum { N = 100 }; /* tokens of the common prompt: more than one tile, less than a page */

static const quant_type weight_types[] = {QUANT_F32, QUANT_F16, QUANT_BF16, QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};

static void fill_prompt(int32_t *ids, int64_t n, int n_vocab) {
  for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)((i * 7919 + i * i * 31 + 5) % n_vocab);
}

static tandem_engine *open_engine(const char *path, int threads, int ubatch, tandem_kv_type kv, int64_t context) {
  tandem_engine_params p;
  tandem_engine *e;
  tandem_error err = {0};
  tandem_engine_params_init(&p);
  p.model = path;
  p.n_threads = threads;
  p.n_ubatch = ubatch;
  p.n_context = context;
  p.kv_type_k = p.kv_type_v = kv;
  p.n_sequences = 4;
  if (tandem_engine_open(&e, &p, &err)) fail_msg("%s", err.text);
  return e;
}

static tandem_session *open_session(tandem_engine *e) {
  tandem_session *s;
  tandem_error err = {0};
  if (tandem_session_open(&s, e, NULL, &err)) fail_msg("%s", err.text);
  return s;
}

static void ok(tandem_status st, const tandem_error *err) {
  if (st) fail_msg("%s: %s", tandem_status_name(st), err->text);
}

/* ---- the same bits ----------------------------------------------------------------------------------------------- */

static void same_bits_for(const tiny_shape *shape, tandem_kv_type kv) {
  static const int ubatches[] = {1, 7, 31, 32, 33, 512};
  char path[64];
  tandem_error err = {0};
  int32_t ids[N];
  size_t n_values = (size_t)N * (size_t)shape->n_vocab;
  float *first = calloc(n_values, sizeof *first), *rows = calloc(n_values, sizeof *rows);
  fill_prompt(ids, N, shape->n_vocab);
  ok(tiny_write(path, shape, &err), &err);
  for (size_t u = 0; u < COUNT_OF(ubatches); u++)
    for (int threads = 1; threads <= 4; threads++) {
      bool all_threads = ubatches[u] == 1 || ubatches[u] == 33; /* the other sizes with two */
      if (!all_threads && threads != 2) continue;
      tandem_engine *e = open_engine(path, threads, ubatches[u], kv, 512);
      tandem_session *s = open_session(e);
      bool is_first = u == 0 && threads == 1;
      ok(tandem_session_decode_all(s, ids, N, is_first ? first : rows, &err), &err);
      if (!is_first && memcmp(first, rows, n_values * sizeof *rows))
        fail_msg("%s, %d experts: other bits with %d threads, ubatch %d", quant_table[shape->type].name, shape->n_experts, threads, ubatches[u]);
      tandem_session_close(s);
      tandem_engine_close(e);
    }
  for (size_t i = 0; i < n_values; i++) assert_true(isfinite(first[i]));
  tiny_remove(path);
  free(first);
  free(rows);
}

static void threads_and_passes_do_not_change_a_bit(void **state) {
  (void)state;
  for (size_t t = 0; t < COUNT_OF(weight_types); t++) {
    tiny_shape shape = tiny_llama(weight_types[t]);
    same_bits_for(&shape, TANDEM_KV_F16);
  }
}

static void experts_do_not_change_a_bit(void **state) {
  (void)state;
  for (size_t t = 0; t < COUNT_OF(weight_types); t++) {
    tiny_shape shape = tiny_llama(weight_types[t]);
    shape.n_layers = 1;
    shape.n_ff = 256;
    shape.n_experts = 5;
    shape.n_used = 2;
    same_bits_for(&shape, TANDEM_KV_F16);
  }
}

static void every_cache_type_keeps_the_bits(void **state) {
  static const tandem_kv_type kv[] = {TANDEM_KV_F32, TANDEM_KV_BF16, TANDEM_KV_Q8_0};
  (void)state;
  for (size_t k = 0; k < COUNT_OF(kv); k++) {
    tiny_shape shape = tiny_llama(QUANT_Q4_K);
    same_bits_for(&shape, kv[k]);
  }
}

static void a_sliding_window_keeps_the_bits(void **state) {
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  shape.arch = "gemma3";
  shape.n_layers = 7; /* six slide, one is full */
  shape.window = 20;
  same_bits_for(&shape, TANDEM_KV_F16);
}

/* ---- going back, forking ----------------------------------------------------------------------------------------- */

/* Logits of the last of n tokens, evaluated in one go by a fresh session. */
static void reference(tandem_engine *e, const int32_t *ids, int64_t n, float *row, int n_vocab) {
  tandem_session *s = open_session(e);
  tandem_error err = {0};
  ok(tandem_session_decode(s, ids, n, NULL, NULL, &err), &err);
  memcpy(row, tandem_session_logits(s), (size_t)n_vocab * sizeof *row);
  tandem_session_close(s);
}

static void prefixes_forked_or_replayed(const tiny_shape *shape, int64_t n, tandem_kv_type kv) {
  char path[64];
  tandem_error err = {0};
  size_t row = (size_t)shape->n_vocab * sizeof(float);
  int32_t *ids = calloc((size_t)n, sizeof *ids);
  float *want = malloc(row);
  fill_prompt(ids, n, shape->n_vocab);
  ok(tiny_write(path, shape, &err), &err);
  tandem_engine *e = open_engine(path, 2, 64, kv, 1024);
  reference(e, ids, n, want, shape->n_vocab);
  tandem_session *s = open_session(e), *f;
  ok(tandem_session_decode(s, ids, n, NULL, NULL, &err), &err);
  for (int64_t cut = 0; cut < n; cut += n / 7 + 1) { /* fork at several places, inside and at the border of pages */
    ok(tandem_session_fork(&f, s, cut, &err), &err);
    ok(tandem_session_decode(f, ids + cut, n - cut, NULL, NULL, &err), &err);
    assert_memory_equal(tandem_session_logits(f), want, row);
    tandem_session_close(f);
  }
  for (int64_t cut = n - 1; cut >= 0; cut -= n / 5 + 1) { /* wrong tokens from `cut` on, then back */
    ok(tandem_session_truncate(s, cut, &err), &err);
    for (int64_t i = cut; i < n; i++) ok(tandem_session_decode(s, &ids[n - 1 - i % n], 1, NULL, NULL, &err), &err);
    ok(tandem_session_sync(s, ids, n, NULL, NULL, &err), &err);
    assert_memory_equal(tandem_session_logits(s), want, row);
  }
  ok(tandem_session_fork(&f, s, n, &err), &err); /* a fork of everything has the logits too */
  assert_memory_equal(tandem_session_logits(f), want, row);
  ok(tandem_session_decode(f, ids, 1, NULL, NULL, &err), &err); /* writes into a shared page: must not show in s */
  ok(tandem_session_truncate(s, n - 1, &err), &err);
  ok(tandem_session_decode(s, ids + n - 1, 1, NULL, NULL, &err), &err);
  assert_memory_equal(tandem_session_logits(s), want, row);
  tandem_session_close(f);
  tandem_session_close(s);
  tandem_engine_close(e);
  tiny_remove(path);
  free(ids);
  free(want);
}

static void prefixes_forked_or_replayed_give_the_same_bits(void **state) {
  (void)state;
  for (size_t t = 0; t < COUNT_OF(weight_types); t++) {
    tiny_shape shape = tiny_llama(weight_types[t]);
    prefixes_forked_or_replayed(&shape, 300, TANDEM_KV_F16);
  }
  tiny_shape sliding = tiny_llama(QUANT_Q8_0);
  sliding.arch = "gemma3";
  sliding.n_layers = 7;
  sliding.window = 70;
  prefixes_forked_or_replayed(&sliding, 700, TANDEM_KV_Q8_0);
}

/* ---- generating -------------------------------------------------------------------------------------------------- */

typedef struct heard {
  char text[4096];
  size_t n;
  int n_tokens, stop_after;
} heard;

static bool hear(void *user, int32_t id, const char *s, size_t n) {
  heard *h = user;
  if (h->n + n < sizeof h->text) memcpy(h->text + h->n, s, n);
  h->n += n;
  h->n_tokens += id >= 0;
  return h->n_tokens != h->stop_after;
}

static tandem_engine *open_tales(int threads) {
  char path[256];
  assert_true(test_data(path, sizeof path, "models/tales.gguf"));
  return open_engine(path, threads, 128, TANDEM_KV_F16, 512);
}

static void generate(tandem_engine *e, const tandem_sampling *sampling, heard *h, uint64_t *allocations) {
  static const char prompt[] = "Once upon a time there was a king who had three sons";
  int32_t ids[64];
  size_t n;
  tandem_error err = {0};
  tandem_session *s;
  int64_t made;
  tandem_stop stop;
  ok(tandem_tokenize(e, prompt, sizeof prompt - 1, TANDEM_ADD_SPECIAL, ids, COUNT_OF(ids), &n, &err), &err);
  assert_in_range(n, 5, COUNT_OF(ids));
  ok(tandem_session_open(&s, e, sampling, &err), &err);
  uint64_t before = tandem_allocation_count();
  ok(tandem_session_decode(s, ids, (int64_t)n, NULL, NULL, &err), &err);
  ok(tandem_session_generate(s, 60, hear, h, &made, &stop, &err), &err);
  *allocations = tandem_allocation_count() - before;
  tandem_session_close(s);
}

static void the_token_loop_allocates_nothing(void **state) {
  tandem_sampling sampling;
  uint64_t allocations;
  (void)state;
  tandem_engine *e = open_tales(2);
  heard greedy = {0}, drawn = {0};
  generate(e, NULL, &greedy, &allocations);
  assert_int_equal(allocations, 0);
  tandem_sampling_init(&sampling);
  sampling.repeat_penalty = 1.1f;
  sampling.dry_multiplier = 0.8f;
  sampling.typical_p = 0.9f;
  sampling.xtc_probability = 0.5f;
  generate(e, &sampling, &drawn, &allocations);
  assert_int_equal(allocations, 0);
  assert_true(greedy.n > 60 && drawn.n > 60);
  tandem_engine_close(e);
}

static void text_depends_on_the_seed_only(void **state) {
  tandem_sampling sampling;
  uint64_t unused;
  heard h[4] = {0};
  (void)state;
  tandem_sampling_init(&sampling);
  for (int i = 0; i < 4; i++) {
    tandem_engine *e = open_tales(i == 3 ? 1 : 2);
    sampling.seed = i == 2 ? 43 : 42;
    generate(e, &sampling, &h[i], &unused);
    tandem_engine_close(e);
  }
  assert_int_equal(h[0].n, h[1].n);
  assert_memory_equal(h[0].text, h[1].text, h[0].n);
  assert_int_equal(h[0].n, h[3].n);
  assert_memory_equal(h[0].text, h[3].text, h[0].n);
  assert_true(h[0].n != h[2].n || memcmp(h[0].text, h[2].text, h[0].n));
}

static void a_callback_can_stop(void **state) {
  (void)state;
  tandem_engine *e = open_tales(1);
  heard h = {.stop_after = 5};
  uint64_t unused;
  generate(e, NULL, &h, &unused);
  assert_int_equal(h.n_tokens, 5);
  tandem_engine_close(e);
}

/* ---- errors ------------------------------------------------------------------------------------------------------ */

static void too_many_tokens_are_refused_and_change_nothing(void **state) {
  (void)state;
  char path[64];
  tandem_error err = {0};
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  int32_t ids[65], bad = 300;
  fill_prompt(ids, 65, shape.n_vocab);
  ok(tiny_write(path, &shape, &err), &err);
  tandem_engine *e = open_engine(path, 1, 16, TANDEM_KV_F16, 64);
  tandem_session *s = open_session(e);
  assert_int_equal(tandem_session_decode(s, ids, 65, NULL, NULL, &err), TANDEM_ERROR_CONTEXT);
  assert_non_null(strstr(err.text, "65"));
  assert_non_null(strstr(err.text, "64"));
  assert_int_equal(tandem_session_length(s), 0);
  ok(tandem_session_decode(s, ids, 64, NULL, NULL, &err), &err);
  assert_int_equal(tandem_session_decode(s, ids, 1, NULL, NULL, &err), TANDEM_ERROR_CONTEXT);
  ok(tandem_session_truncate(s, 10, &err), &err);
  assert_int_equal(tandem_session_decode(s, &bad, 1, NULL, NULL, &err), TANDEM_ERROR_ARGUMENT);
  assert_non_null(strstr(err.text, "300"));
  bad = -1;
  assert_int_equal(tandem_session_decode(s, &bad, 1, NULL, NULL, &err), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(tandem_session_length(s), 10);
  int32_t id;
  assert_int_equal(tandem_session_sample(s, &id, &err), TANDEM_ERROR_ARGUMENT); /* no logits after truncate */
  ok(tandem_session_decode(s, ids + 10, 1, NULL, NULL, &err), &err);
  ok(tandem_session_sample(s, &id, &err), &err);
  tandem_session_close(s);
  tandem_engine_close(e);
  tiny_remove(path);
}

static void a_full_pool_is_busy_and_recovers(void **state) {
  (void)state;
  char path[64];
  tandem_error err = {0};
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  int32_t ids[512];
  tandem_session *s[16];
  int n = 0;
  fill_prompt(ids, 512, shape.n_vocab);
  ok(tiny_write(path, &shape, &err), &err);
  tandem_engine *e = open_engine(path, 2, 64, TANDEM_KV_F16, 512); /* four sequences of 512 */
  tandem_status st = TANDEM_OK;
  while (n < 16 && !st) {
    s[n] = open_session(e);
    st = tandem_session_decode(s[n++], ids, 512, NULL, NULL, &err);
  }
  assert_int_equal(st, TANDEM_ERROR_BUSY);
  assert_true(n > 4);
  tandem_session_close(s[0]);
  ok(tandem_session_sync(s[n - 1], ids, 512, NULL, NULL, &err), &err);
  float *want = malloc((size_t)shape.n_vocab * sizeof *want);
  memcpy(want, tandem_session_logits(s[1]), (size_t)shape.n_vocab * sizeof *want);
  assert_memory_equal(tandem_session_logits(s[n - 1]), want, (size_t)shape.n_vocab * sizeof *want);
  free(want);
  for (int i = 1; i < n; i++) tandem_session_close(s[i]);
  tandem_engine_close(e);
  tiny_remove(path);
}

static void parameters_out_of_range_are_named(void **state) {
  static const struct { int64_t context; int threads, ubatch, sequences; const char *cpu, *field; } cases[] = {
      {-1, 1, 1, 1, NULL, "n_context"}, {(1 << 27) + 1, 1, 1, 1, NULL, "n_context"}, {64, -1, 1, 1, NULL, "n_threads"},
      {64, 1025, 1, 1, NULL, "n_threads"}, {64, 1, 0, 1, NULL, "n_ubatch"}, {64, 1, 4097, 1, NULL, "n_ubatch"},
      {64, 1, 1, 0, NULL, "n_sequences"}, {64, 1, 1, 65, NULL, "n_sequences"}, {64, 1, 1, 1, "mmx", "mmx"}};
  (void)state;
  char path[64];
  tandem_error err = {0};
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  ok(tiny_write(path, &shape, &err), &err);
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    tandem_engine_params p;
    tandem_engine *e = (tandem_engine *)1;
    tandem_engine_params_init(&p);
    p.model = path;
    p.n_context = cases[i].context;
    p.n_threads = cases[i].threads;
    p.n_ubatch = cases[i].ubatch;
    p.n_sequences = cases[i].sequences;
    p.cpu = cases[i].cpu;
    assert_int_not_equal(tandem_engine_open(&e, &p, &err), TANDEM_OK);
    assert_null(e);
    if (!strstr(err.text, cases[i].field)) fail_msg("'%s' does not name %s", err.text, cases[i].field);
  }
  tiny_remove(path);
}

static void memory_that_does_not_suffice_is_an_error_with_numbers(void **state) {
  (void)state;
  char path[64];
  tandem_error err = {0};
  tandem_engine_params p;
  tandem_engine *e;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  ok(tiny_write(path, &shape, &err), &err);
  tandem_engine_params_init(&p);
  p.model = path;
  p.memory = 100000;
  assert_int_equal(tandem_engine_open(&e, &p, &err), TANDEM_ERROR_MEMORY);
  assert_non_null(strstr(err.text, "weights"));
  tiny_remove(path);
}

typedef struct told {
  char text[8192];
  size_t n;
} told;

static bool listen(void *user, const char *s, size_t n) {
  told *h = user;
  size_t take = n < sizeof h->text - 1 - h->n ? n : sizeof h->text - 1 - h->n;
  memcpy(h->text + h->n, s, take);
  h->n += take;
  return true;
}

/* What attention costs by position: 2 layers of the shipped model see all with one head of 64 + 64 for K and V, 4 see a window of 128 with
 * two; 4 query heads. */
static void attention_is_priced_by_position(void **state) {
  (void)state;
  tandem_error err = {0};
  tandem_engine_params p;
  tandem_engine *e;
  tandem_engine_info info = {.size = sizeof info};
  tandem_engine_params_init(&p);
  p.model = "models/tales.gguf";
  p.plan_only = true;
  p.kv_type_v = TANDEM_KV_F32;
  ok(tandem_engine_open(&e, &p, &err), &err);
  ok(tandem_engine_get_info(e, &info, &err), &err);
  assert_int_equal(info.window, 128);
  assert_int_equal(info.cell_bytes, 2 * 64 * (2 + 4));
  assert_int_equal(info.window_cell_bytes, 4 * 2 * 64 * (2 + 4));
  assert_int_equal(info.cell_macs, 2 * 4 * (64 + 64));
  assert_int_equal(info.arithmetic, TANDEM_CEILING_INT8);
  assert_int_equal(info.cell_arithmetic, TANDEM_CEILING_F32);
  double per_second;
  assert_int_equal(tandem_measure_ceiling(e, (tandem_ceiling)TANDEM_CEILINGS, 0.001, &per_second, &err), TANDEM_ERROR_ARGUMENT);
  assert_non_null(strstr(err.text, "4, must be 0 to 3"));
  ok(tandem_measure_ceiling(e, TANDEM_CEILING_BF16, 0.001, &per_second, &err), &err);
  assert_true(per_second > 0);
  assert_int_equal(info.window_cell_macs, 4 * 4 * (64 + 64));
  tandem_engine_close(e);
}

/* As much as fits up to the trained length; what is asked for exactly, or an error that says what would fit, and does. */
static void the_context_is_as_large_as_fits(void **state) {
  (void)state;
  char path[64];
  tandem_error err = {0};
  tandem_engine_params p;
  tandem_engine *e;
  tandem_engine_info info = {.size = sizeof info}, cut = info;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  ok(tiny_write(path, &shape, &err), &err);
  tandem_engine_params_init(&p);
  p.model = path;
  p.n_threads = 1;
  ok(tandem_engine_open(&e, &p, &err), &err);
  ok(tandem_engine_get_info(e, &info, &err), &err);
  assert_int_equal(info.n_context, 2048);
  tandem_engine_close(e);
  p.memory = info.peak_bytes - 500000 - spec_ngram_mod_bytes();
  p.n_context_min = 1;
  ok(tandem_engine_open(&e, &p, &err), &err);
  ok(tandem_engine_get_info(e, &cut, &err), &err);
  assert_in_range(cut.n_context, 1, 2047);
  assert_true(cut.peak_bytes <= p.memory);
  tandem_engine_close(e);
  p.n_context = 2048;
  assert_int_equal(tandem_engine_open(&e, &p, &err), TANDEM_ERROR_MEMORY);
  const char *would = strstr(err.text, "-c ");
  long long n = 0;
  assert_true(would && sscanf(would, "-c %lld would fit", &n) == 1 && n > 0 && n < 2048);
  p.plan_only = true; /* to look at, it may be larger than the memory */
  ok(tandem_engine_open(&e, &p, &err), &err);
  ok(tandem_engine_get_info(e, &cut, &err), &err);
  assert_int_equal(cut.n_context, 2048);
  tandem_engine_close(e);
  p.plan_only = false;
  p.n_context = n - 4096 > 1 ? n - 4096 : n * 9 / 10; /* the process has grown by what it opened meanwhile */
  told h = {0};
  p.memory += 1 << 20;
  ok(tandem_engine_open(&e, &p, &err), &err);
  tandem_engine_close(e);
  ok(tandem_fit(&p, false, true, listen, &h, &err), &err);
  assert_non_null(strstr(h.text, "nothing fits"));
  p.memory = 1000;
  h = (told){0};
  assert_int_equal(tandem_fit(&p, true, false, listen, &h, &err), TANDEM_ERROR_MEMORY);
  assert_non_null(strstr(h.text, "\"fits\": false"));
  p.vocab_only = true;
  assert_int_equal(tandem_fit(&p, true, false, listen, &h, &err), TANDEM_ERROR_ARGUMENT);
  tiny_remove(path);
}

/* ---- failures ---------------------------------------------------------------------------------------------------- */

/* Opens, evaluates, draws. */
static tandem_status whole_run(const char *path, int32_t *id, tandem_error *err) {
  tandem_engine_params p;
  tandem_engine *e = NULL;
  tandem_session *s = NULL, *f = NULL;
  int32_t ids[20];
  fill_prompt(ids, 20, 300);
  tandem_engine_params_init(&p);
  p.model = path;
  p.n_threads = 2;
  p.n_context = 64;
  tandem_status st = tandem_engine_open(&e, &p, err);
  if (!st) st = tandem_session_open(&s, e, NULL, err);
  if (!st) st = tandem_session_decode(s, ids, 20, NULL, NULL, err);
  if (!st) st = tandem_session_fork(&f, s, 20, err);
  if (!st) st = tandem_session_sample(f, id, err);
  tandem_session_close(f);
  tandem_session_close(s);
  tandem_engine_close(e);
  return st;
}

static void every_call_that_can_fail_fails(enum base_fault kind, tandem_status expected) {
  char path[64];
  tandem_error err = {0};
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  int32_t id, want;
  shape.n_layers = 1;
  ok(tiny_write(path, &shape, &err), &err);
  base_fault_arm(kind, 0, false);
  ok(whole_run(path, &want, &err), &err);
  uint64_t n = base_fault_arm(kind, 0, false);
  assert_true(n > 5);
  for (uint64_t k = 1; k <= n; k++)
    for (int and_after = 0; and_after < 2; and_after++) {
      base_fault_arm(kind, k, and_after);
      err = (tandem_error){0};
      tandem_status st = whole_run(path, &id, &err);
      base_fault_arm(kind, 0, false);
      if (!st && kind == FAULT_MEMORY && id == want) continue; /* an n-gram drafter less */
      if (st != expected) fail_msg("call %llu of %llu failing gives %s: %s", (unsigned long long)k, (unsigned long long)n, tandem_status_name(st), err.text);
      assert_true(err.text[0]);
    }
  ok(whole_run(path, &id, &err), &err);
  assert_int_equal(id, want);
  print_message("  %llu calls, each failed alone and with all after it\n", (unsigned long long)n);
  tiny_remove(path);
}

static void every_allocation_may_fail(void **state) {
  (void)state;
  every_call_that_can_fail_fails(FAULT_MEMORY, TANDEM_ERROR_MEMORY);
}

static void every_read_may_fail(void **state) {
  (void)state;
  every_call_that_can_fail_fails(FAULT_READ, TANDEM_ERROR_IO);
}

static void a_vocabulary_can_be_opened_alone(void **state) {
  (void)state;
  char path[256];
  tandem_error err = {0};
  tandem_engine_params p;
  tandem_engine *e;
  tandem_session *s;
  tandem_engine_info info = {.size = sizeof info};
  int32_t ids[8];
  size_t n;
  assert_true(test_data(path, sizeof path, "models/tales.gguf"));
  tandem_engine_params_init(&p);
  p.model = path;
  p.vocab_only = true;
  ok(tandem_engine_open(&e, &p, &err), &err);
  ok(tandem_tokenize(e, "Hello world", 11, 0, ids, 8, &n, &err), &err);
  assert_int_equal(n, 4);
  assert_int_equal(ids[0], 4062);
  assert_int_equal(tandem_engine_get_info(e, &info, &err), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(tandem_explain(e, 1, false, NULL, NULL, &err), TANDEM_ERROR_ARGUMENT);
  double per_second;
  assert_int_equal(tandem_measure_ceiling(e, TANDEM_CEILING_F32, 0.001, &per_second, &err), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(tandem_session_open(&s, e, NULL, &err), TANDEM_ERROR_ARGUMENT);
  tandem_engine_close(e);
}

typedef struct watched {
  int n, cancel_at;
  uint64_t done, total;
} watched;

static bool watch(void *user, const char *what, uint64_t done, uint64_t total) {
  watched *w = user;
  assert_string_equal(what, "load");
  assert_true(done >= w->done && done <= total);
  w->done = done;
  w->total = total;
  return ++w->n != w->cancel_at;
}

static void loading_shows_progress_and_can_be_cancelled(void **state) {
  (void)state;
  char path[256];
  tandem_error err = {0};
  tandem_engine_params p;
  tandem_engine *e;
  watched whole = {0};
  assert_true(test_data(path, sizeof path, "models/tales-draft.gguf"));
  tandem_engine_params_init(&p);
  p.model = path;
  p.progress = watch;
  p.user = &whole;
  ok(tandem_engine_open(&e, &p, &err), &err);
  tandem_engine_close(e);
  assert_true(whole.n > 5 && whole.done == whole.total);
  for (int at = 1; at <= whole.n; at++) {
    watched w = {.cancel_at = at};
    p.user = &w;
    assert_int_equal(tandem_engine_open(&e, &p, &err), TANDEM_ERROR_CANCELLED);
    assert_null(e);
    assert_int_equal(w.n, at);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(loading_shows_progress_and_can_be_cancelled),
      cmocka_unit_test(a_vocabulary_can_be_opened_alone),
      cmocka_unit_test(threads_and_passes_do_not_change_a_bit),
      cmocka_unit_test(experts_do_not_change_a_bit),
      cmocka_unit_test(every_cache_type_keeps_the_bits),
      cmocka_unit_test(a_sliding_window_keeps_the_bits),
      cmocka_unit_test(prefixes_forked_or_replayed_give_the_same_bits),
      cmocka_unit_test(the_token_loop_allocates_nothing),
      cmocka_unit_test(text_depends_on_the_seed_only),
      cmocka_unit_test(a_callback_can_stop),
      cmocka_unit_test(too_many_tokens_are_refused_and_change_nothing),
      cmocka_unit_test(a_full_pool_is_busy_and_recovers),
      cmocka_unit_test(parameters_out_of_range_are_named),
      cmocka_unit_test(memory_that_does_not_suffice_is_an_error_with_numbers),
      cmocka_unit_test(attention_is_priced_by_position),
      cmocka_unit_test(the_context_is_as_large_as_fits),
      cmocka_unit_test(every_allocation_may_fail),
      cmocka_unit_test(every_read_may_fail),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
