/* clusters_test.c: a draft head in clusters (centroids, then the tokens of the likeliest ones) against the same head whole: equal bits
 * where a cluster was chosen, one less than the smallest elsewhere. Orders that are none are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "support/tiny.h"

static void ok(tandem_status st, const tandem_error *err) {
  if (st) fail_msg("%s: %s", tandem_status_name(st), err->text);
}

typedef struct clusters {
  const char *head;  /* a draft head with a whole head */
  int64_t n, n_used; /* clusters, clusters looked into */
  bool wide;         /* the order as i64 */
  int broken;        /* 1: an id twice, 2: one out of range, 3: a wrong number of clusters, 4: a type that holds no ids */
} clusters;

/* The head again, with random centroids and a shuffled vocabulary. */
static void write_head(char *path, const clusters *c) {
  gguf *g;
  gguf_writer *w;
  tandem_error err = {0};
  uint64_t x = 12345;
  ok(gguf_open(&g, c->head, &err), &err);
  const gguf_tensor *e = gguf_find_tensor(g, "token_embd.weight");
  int64_t n_embd = e->dims[0], n_vocab = e->dims[1], n = c->broken == 3 ? c->n - 1 : c->n;
  float *centroids = malloc((size_t)(n_embd * n) * sizeof *centroids);
  int64_t *order = malloc((size_t)n_vocab * sizeof *order);
  int32_t *narrow = malloc((size_t)n_vocab * sizeof *narrow);
  for (int64_t i = 0; i < n_embd * n; i++) centroids[i] = (float)((x = x * 6364136223846793005u + 1442695040888963407u) >> 40) / (1 << 24) - 0.5f;
  for (int64_t i = 0; i < n_vocab; i++) order[i] = i;
  for (int64_t i = n_vocab - 1; i > 0; i--) {
    int64_t j = (int64_t)(((x = x * 6364136223846793005u + 1442695040888963407u) >> 33) % (uint64_t)(i + 1)), t = order[i];
    order[i] = order[j];
    order[j] = t;
  }
  if (c->broken == 1) order[3] = order[7];
  if (c->broken == 2) order[5] = n_vocab;
  for (int64_t i = 0; i < n_vocab; i++) narrow[i] = (int32_t)order[i];
  ok(gguf_writer_open(&w, &err), &err);
  for (size_t i = 0; i < gguf_n_keys(g); i++) gguf_write_key(w, gguf_key_at(g, i));
  gguf_write_int(w, "gemma4-assistant.centroid_top_k", GGUF_U32, c->n_used);
  for (size_t i = 0; i < gguf_n_tensors(g); i++) {
    const gguf_tensor *t = gguf_tensor_at(g, i);
    const uint8_t *bytes;
    ok(gguf_tensor_bytes(g, t, &bytes, &err), &err);
    gguf_write_tensor(w, t->name, t->type, t->n_dims, t->dims, bytes);
  }
  gguf_write_tensor(w, "masked_embd_centroids.weight", QUANT_F32, 2, (int64_t[]){n_embd, n}, centroids);
  if (c->broken == 4) gguf_write_tensor(w, "masked_embd_ordering", QUANT_F32, 1, &n_vocab, narrow);
  else gguf_write_tensor(w, "masked_embd_ordering", c->wide ? QUANT_I64 : QUANT_I32, 1, &n_vocab, c->wide ? (void *)order : (void *)narrow);
  snprintf(path, 64, "/tmp/tandem-test-XXXXXX");
  int fd = mkstemp(path);
  assert_true(fd >= 0);
  close(fd);
  ok(gguf_writer_save(w, path, &err), &err);
  gguf_writer_close(w);
  gguf_close(g);
  free(centroids);
  free(order);
  free(narrow);
}

static tandem_status open_pair(tandem_engine **e, const char *target, const char *draft, int threads, tandem_error *err) {
  tandem_engine_params p;
  tandem_engine_params_init(&p);
  p.model = target;
  p.draft = draft;
  p.draft_wish = TANDEM_DRAFT_REQUIRED;
  p.n_context = 128;
  p.n_threads = threads;
  return tandem_engine_open(e, &p, err);
}

/* One step of the head behind a prompt; returns the number of tokens. */
static int64_t first_row(const char *target, const char *draft, int threads, float *row, size_t capacity) {
  tandem_engine *e;
  tandem_session *s;
  tandem_error err = {0};
  int32_t prompt[30], id;
  for (int i = 0; i < 30; i++) prompt[i] = 5 + i * 7 % 200;
  ok(open_pair(&e, target, draft, threads, &err), &err);
  assert_true((size_t)e->model->n_vocab <= capacity);
  ok(tandem_session_open(&s, e, NULL, &err), &err);
  ok(tandem_session_decode(s, prompt, 30, NULL, NULL, &err), &err);
  ok(tandem_session_draft(s, 11, 1, &id, row, &err), &err);
  int64_t n = e->model->n_vocab;
  tandem_session_close(s);
  tandem_engine_close(e);
  return n;
}

static void clusters_give_the_bits_of_the_whole_head(void **state) {
  static const struct {
    const char *target;
    clusters c;
  } cases[] = {{"tests/data/zoo/gemma4.gguf", {"tests/data/zoo/gemma4-assistant.gguf", 18, 18, false, 0}},
               {"tests/data/zoo/gemma4.gguf", {"tests/data/zoo/gemma4-assistant.gguf", 18, 5, true, 0}},
               {"tests/data/zoo/gemma4.gguf", {"tests/data/zoo/gemma4-assistant.gguf", 32, 7, false, 0}}, /* 9 tokens each: no whole panel */
               {"models/tales.gguf", {"models/tales-assistant.gguf", 64, 64, false, 0}},
               {"models/tales.gguf", {"models/tales-assistant.gguf", 128, 32, true, 0}}};
  static float whole[4096], some[4096], again[4096];
  (void)state;
  for (size_t i = 0; i < COUNT_OF(cases); i++) {
    char path[64];
    const clusters *c = &cases[i].c;
    write_head(path, c);
    int64_t n = first_row(cases[i].target, c->head, 2, whole, 4096), n_equal = 0;
    first_row(cases[i].target, path, 2, some, 4096);
    first_row(cases[i].target, path, 1, again, 4096);
    assert_memory_equal(some, again, (size_t)n * sizeof *some);
    float least = 3e38f, lowest = 3e38f;
    for (int64_t k = 0; k < n; k++) lowest = some[k] < lowest ? some[k] : lowest;
    for (int64_t k = 0; k < n; k++)
      if (!memcmp(&some[k], &whole[k], sizeof *some)) n_equal++, least = some[k] < least ? some[k] : least;
    assert_int_equal(n_equal, n / c->n * (c->n_used < c->n ? c->n_used : c->n));
    for (int64_t k = 0; k < n && c->n_used < c->n; k++)
      if (memcmp(&some[k], &whole[k], sizeof *some)) assert_true(some[k] == least - 1);
    unlink(path);
  }
}

static void broken_clusters_are_refused(void **state) {
  static const char *const words[] = {"", "once", "once", "do not divide", "i32 or i64"};
  (void)state;
  for (int broken = 1; broken <= 4; broken++) {
    char path[64];
    tandem_engine *e;
    tandem_error err = {0};
    clusters c = {"tests/data/zoo/gemma4-assistant.gguf", 18, 4, false, broken};
    write_head(path, &c);
    assert_int_equal(open_pair(&e, "tests/data/zoo/gemma4.gguf", path, 1, &err), TANDEM_ERROR_FORMAT);
    if (!strstr(err.text, words[broken])) fail_msg("'%s' expected in: %s", words[broken], err.text);
    unlink(path);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(clusters_give_the_bits_of_the_whole_head),
      cmocka_unit_test(broken_clusters_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
