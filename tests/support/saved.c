/* saved.c: see saved.h. Every fault fails the test at once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/guess.h"
#include "support/folder.h"
#include "support/saved.h"
#include "support/tiny.h"

char saved_path[64];
static char folder[] = "/tmp/tandem-test-XXXXXX";

tandem_engine *saved_open_engine(const saved_setup *s) {
  char path[256], draft[256];
  tandem_engine_params p;
  tandem_engine *e;
  tandem_error err = {0};
  tandem_engine_params_init(&p);
  p.model = s->model[0] == '/' ? s->model : (assert_true(test_data(path, sizeof path, s->model)), path);
  p.n_threads = s->threads ? s->threads : 1;
  p.n_ubatch = s->ubatch ? s->ubatch : 64;
  p.n_context = s->context ? s->context : 64;
  p.kv_type_k = s->k;
  p.kv_type_v = s->v;
  p.cpu = s->cpu;
  if (s->sequences) p.n_sequences = s->sequences;
  if (s->draft) {
    assert_true(test_data(draft, sizeof draft, s->draft));
    p.draft = draft;
    p.draft_wish = TANDEM_DRAFT_REQUIRED;
  }
  guess_ok(tandem_engine_open(&e, &p, &err), &err);
  return e;
}

tandem_session *saved_open_session(tandem_engine *e) {
  tandem_session *s;
  tandem_error err = {0};
  guess_ok(tandem_session_open(&s, e, NULL, &err), &err);
  return s;
}

void saved_fill(tandem_session *s, int64_t n, int salt) {
  tandem_error err = {0};
  int32_t ids[2048];
  for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)((i * 7919 + i * i * 31 + 5 + salt) % s->engine->model->n_vocab);
  guess_ok(tandem_session_decode(s, ids, n, NULL, NULL, &err), &err);
}

static status collect(void *user, const void *bytes, size_t n, error *err) { return text_add(user, bytes, n, err); }

text saved_bytes(const tandem_session *s) {
  text t = {0};
  tandem_error err = {0};
  guess_ok(engine_save(s, collect, &t, &err), &err);
  return t;
}

status saved_load(tandem_session *s, const void *bytes, size_t n, tandem_error *err) {
  uint8_t *copy = malloc(n ? n : 1); /* of this size, so that a sanitizer sees a byte too far */
  assert_non_null(copy);
  if (n) memcpy(copy, bytes, n);
  status st = engine_load(s, copy, n, err);
  free(copy);
  return st;
}

bool saved_same(const text *a, const text *b) { return a->n == b->n && !memcmp(a->bytes, b->bytes, a->n); }

text saved_read_file(const char *path) {
  text t = {0};
  tandem_error err = {0};
  guess_ok(os_read_all(&t, path, 1 << 30, &err), &err);
  return t;
}

int saved_count_files(void) { return folder_count(folder); }

void saved_open_victim(saved_victim *v, const saved_setup *how, int64_t n) {
  v->e = saved_open_engine(how);
  v->s = saved_open_session(v->e);
  saved_fill(v->s, n, 0);
  v->file = saved_bytes(v->s);
  tandem_session_truncate(v->s, 0, NULL);
  saved_fill(v->s, 2, 5);
  v->held = saved_bytes(v->s);
}

void saved_close_victim(saved_victim *v) {
  text_free(&v->file);
  text_free(&v->held);
  tandem_session_close(v->s);
  tandem_engine_close(v->e);
}

int saved_make_folder(void **state) {
  (void)state;
  if (!mkdtemp(folder)) return -1;
  snprintf(saved_path, sizeof saved_path, "%s/saved", folder);
  return 0;
}

int saved_remove_folder(void **state) {
  (void)state;
  unlink(saved_path);
  return rmdir(folder);
}
