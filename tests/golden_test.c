/* golden_test.c: logits against recordings of another engine (tests/data/zoo), K/V in f32: every family, every instruction set
 * this machine has, 1 and 2 threads, passes of 1, 7 and 512 tokens. All of these must also be the same bits.
 *
 * The recorded engine rounds GELU through half precision, so models with GELU have a wider bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/tiny.h"
#include "support/levels.h"

enum { N_TOKENS = 40, N_VOCAB = 288 };

typedef struct golden {
  const char *name;
  double nmse; /* bound */
} golden;

static const golden goldens[] = {
    {"llama", 1e-9},    {"llama3-ropefreqs", 1e-9}, {"llama-yarn", 1e-9}, {"llama-linear", 1e-9}, {"mixtral", 1e-9},
    {"qwen2", 1e-9},    {"qwen3", 1e-9},            {"qwen3moe", 1e-9},   {"gemma2", 1e-6},       {"gemma3", 1e-6},
    {"gemma3-linear", 1e-6}, {"gemma4", 1e-6},      {"gemma4-e2b", 1e-6}, {"gemma4-moe", 1e-6},
};

static void read_tokens(int32_t *ids) {
  char path[256];
  assert_true(test_data(path, sizeof path, "tests/data/zoo/tokens.txt"));
  FILE *f = fopen(path, "r");
  assert_non_null(f);
  for (int i = 0; i < N_TOKENS; i++) assert_int_equal(fscanf(f, "%d", &ids[i]), 1);
  fclose(f);
}

static void read_rows(const char *name, float *rows) {
  char relative[128], path[256];
  snprintf(relative, sizeof relative, "tests/data/zoo/%s.f32", name);
  assert_true(test_data(path, sizeof path, relative));
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  assert_int_equal(fread(rows, sizeof *rows, (size_t)N_TOKENS * N_VOCAB, f), (size_t)N_TOKENS * N_VOCAB);
  fclose(f);
}

static void run(const char *name, const char *cpu, int threads, int ubatch, const int32_t *ids, float *rows) {
  char relative[128], path[256];
  tandem_engine_params p;
  tandem_engine *e = NULL;
  tandem_session *s = NULL;
  tandem_error err = {0};
  snprintf(relative, sizeof relative, "tests/data/zoo/%s.gguf", name);
  assert_true(test_data(path, sizeof path, relative));
  tandem_engine_params_init(&p);
  p.model = path;
  p.cpu = cpu;
  p.n_threads = threads;
  p.n_ubatch = ubatch;
  p.n_context = 256;
  p.kv_type_k = p.kv_type_v = TANDEM_KV_F32;
  tandem_status st = tandem_engine_open(&e, &p, &err);
  if (!st) st = tandem_session_open(&s, e, NULL, &err);
  if (!st) st = tandem_session_decode_all(s, ids, N_TOKENS, rows, &err);
  if (st) fail_msg("%s: %s", name, err.text);
  tandem_session_close(s);
  tandem_engine_close(e);
}

static double nmse(const float *a, const float *ref, size_t n) {
  double d = 0, r = 0;
  for (size_t i = 0; i < n; i++) {
    d += ((double)a[i] - ref[i]) * ((double)a[i] - ref[i]);
    r += (double)ref[i] * ref[i];
  }
  return d / r;
}

static void logits_equal_the_recordings(void **state) {
  static const int ubatches[] = {1, 7, 512};
  static float ref[N_TOKENS * N_VOCAB], first[N_TOKENS * N_VOCAB], rows[N_TOKENS * N_VOCAB];
  int32_t ids[N_TOKENS];
  (void)state;
  read_tokens(ids);
  for (size_t g = 0; g < COUNT_OF(goldens); g++) {
    bool have_first = false;
    int n = 0;
    read_rows(goldens[g].name, ref);
    for (size_t l = 0; l < COUNT_OF(test_levels); l++) {
      if (!test_level_present(test_levels[l])) continue;
      for (int threads = 1; threads <= 2; threads++)
        for (size_t u = 0; u < COUNT_OF(ubatches); u++, n++) {
          run(goldens[g].name, test_levels[l], threads, ubatches[u], ids, rows);
          double e = nmse(rows, ref, N_TOKENS * N_VOCAB);
          if (!(e <= goldens[g].nmse))
            fail_msg("%s at %s, %d threads, ubatch %d: NMSE %g, must be at most %g", goldens[g].name, test_levels[l], threads, ubatches[u], e, goldens[g].nmse);
          if (have_first && memcmp(first, rows, sizeof rows))
            fail_msg("%s at %s, %d threads, ubatch %d: other bits than the first run", goldens[g].name, test_levels[l], threads, ubatches[u]);
          if (!have_first) memcpy(first, rows, sizeof rows);
          have_first = true;
        }
    }
    print_message("  %-18s NMSE %.2e (bound %.0e), %d runs with the same bits\n", goldens[g].name, nmse(first, ref, N_TOKENS * N_VOCAB), goldens[g].nmse, n);
  }
  for (size_t l = 0; l < COUNT_OF(test_levels); l++)
    if (!test_level_present(test_levels[l])) print_message("  skipped: this machine has no %s\n", test_levels[l]);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(logits_equal_the_recordings)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
