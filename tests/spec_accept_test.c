/* spec_accept_test.c: how many guesses of the shipped pair are right, and where a draft head should stand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "support/guess.h"

typedef struct acceptance {
  int64_t drafted, accepted, at[3];
} acceptance;

/* Guesses of depth 3 over texts that the target tells itself: the same on every machine, since every bit is. */
static acceptance accept(int behind, float temperature, const char *draft, const char *words) {
  static const char *const prompts[] = {"Once upon a time there was a king who", "The old woman said to the fox", "In the forest there lived",
                                        "\"Open the door,\" cried the", "Next morning the youngest brother", "She went down to the river and"};
  tandem_engine_params p;
  acceptance a = {0};
  tandem_error err = {0};
  guess_params(&p, "models/tales.gguf", draft);
  p.draft_behind = behind;
  tandem_engine *e = guess_open_engine(&p);
  for (size_t i = 0; i < COUNT_OF(prompts); i++) {
    int32_t ids[64];
    size_t n;
    guess_ok(tandem_tokenize(e, prompts[i], strlen(prompts[i]), TANDEM_ADD_SPECIAL, ids, 64, &n, &err), &err);
    tandem_sampling sampling = guess_sampling(temperature, 11 + i);
    tandem_speculation spec = guess_kinds(words, 3);
    guess_result r;
    guess_generate(e, ids, (int)n, 250, &sampling, &spec, &r);
    a.drafted += r.stats.n_drafted;
    a.accepted += r.stats.n_accepted;
    for (int k = 0; k < 3; k++) a.at[k] += r.stats.accepted_at[k];
    guess_free_result(&r);
  }
  tandem_engine_close(e);
  return a;
}

static void print_acceptance(const char *what, const acceptance *a) {
  print_message("  %-44s %lld of %lld, %.1f %%, by position %lld %lld %lld\n", what, (long long)a->accepted, (long long)a->drafted,
                100.0 * (double)a->accepted / (double)a->drafted, (long long)a->at[0], (long long)a->at[1], (long long)a->at[2]);
}

/* A change that costs acceptance changes no text: only these counts show it. */
typedef struct recorded {
  const char *what;
  int behind;
  float temperature;
  const char *draft, *words;
  int64_t drafted, accepted;
} recorded;

static const recorded counts[] = {
    {"head at the newest token, temperature 0", 1, 0, "models/tales-assistant.gguf", "shared", 1720, 917},
    {"head at the newest token, temperature 0.8", 1, 0.8f, "models/tales-assistant.gguf", "shared", 1835, 877},
    {"head at the last cell, temperature 0", 0, 0, "models/tales-assistant.gguf", "shared", 1708, 921},
    {"head at the last cell, temperature 0.8", 0, 0.8f, "models/tales-assistant.gguf", "shared", 1850, 872},
    {"model, temperature 0", 1, 0, "models/tales-draft.gguf", "model", 2388, 692},
    {"model, temperature 0.8", 1, 0.8f, "models/tales-draft.gguf", "model", 2300, 722},
};

static void as_many_guesses_are_right_as_before(void **state) {
  acceptance got[COUNT_OF(counts)];
  (void)state;
  for (size_t i = 0; i < COUNT_OF(counts); i++) {
    const recorded *c = &counts[i];
    got[i] = accept(c->behind, c->temperature, c->draft, c->words);
    print_acceptance(c->what, &got[i]);
    assert_int_equal(got[i].drafted, c->drafted);
    assert_int_equal(got[i].accepted, c->accepted);
  }
  /* The default place of the head, the newest token's, is the better one. */
  assert_true((got[0].accepted + got[1].accepted) * (got[2].drafted + got[3].drafted) >= (got[2].accepted + got[3].accepted) * (got[0].drafted + got[1].drafted));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(as_many_guesses_are_right_as_before)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
