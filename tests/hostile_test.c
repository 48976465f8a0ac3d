/* hostile_test.c: files that lie. A model cut at every 4 KiB, and with single bytes flipped: an error or a run, never a crash, a
 * hang or memory without bound. TANDEM_FLIPS sets how many flips (default 10000). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "support/tiny.h"

static const double seconds_allowed = 2;

typedef struct victim {
  char path[64];
  uint8_t *bytes;
  size_t n;
  int fd;
} victim;

static void open_victim(victim *v, const char *relative) {
  char path[256];
  text all = {0};
  error err = {0};
  assert_true(test_data(path, sizeof path, relative));
  if (os_read_all(&all, path, 1 << 28, &err)) fail_msg("%s", err.text);
  v->bytes = malloc(all.n);
  v->n = all.n;
  assert_non_null(v->bytes);
  memcpy(v->bytes, all.bytes, all.n);
  text_free(&all);
  snprintf(v->path, sizeof v->path, "/tmp/tandem-test-XXXXXX");
  v->fd = mkstemp(v->path);
  assert_true(v->fd >= 0);
  assert_int_equal(pwrite(v->fd, v->bytes, v->n, 0), v->n);
}

static void close_victim(victim *v) {
  close(v->fd);
  unlink(v->path);
  free(v->bytes);
}

/* Of this process: what a busy machine takes away does not count. */
static double processor_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* Opens and evaluates a few tokens. TANDEM_OK or an error with a text; true if it ran. */
static bool survives(const char *path) {
  tandem_engine_params p;
  tandem_engine *e = NULL;
  tandem_session *s = NULL;
  tandem_error err = {0};
  int32_t ids[3] = {2, 17, 100}, id;
  double start = processor_seconds();
  tandem_engine_params_init(&p);
  p.model = path;
  p.n_threads = 1;
  p.n_context = 64;
  p.memory = 1u << 30;
  tandem_status st = tandem_engine_open(&e, &p, &err);
  if (!st) st = tandem_session_open(&s, e, NULL, &err);
  if (!st) st = tandem_session_decode(s, ids, 3, NULL, NULL, &err);
  if (!st) st = tandem_session_sample(s, &id, &err);
  tandem_session_close(s);
  tandem_engine_close(e);
  if (st && !err.text[0]) fail_msg("status %s without a text", tandem_status_name(st));
  if (processor_seconds() - start > seconds_allowed) fail_msg("took %.1f s", processor_seconds() - start);
  return st == TANDEM_OK;
}

static void cut_at_every_4_kib(const char *relative) {
  victim v;
  int n = 0;
  open_victim(&v, relative);
  assert_true(survives(v.path));
  for (size_t at = (v.n - 1) & ~(size_t)4095;; at -= 4096, n++) {
    assert_int_equal(ftruncate(v.fd, (off_t)at), 0);
    if (survives(v.path)) fail_msg("%s cut to %zu of %zu bytes was accepted", relative, at, v.n);
    if (at == 0) break;
  }
  print_message("  %s: %d cuts refused\n", relative, n + 1);
  close_victim(&v);
}

static void a_model_cut_at_every_4_kib_is_refused(void **state) {
  (void)state;
  cut_at_every_4_kib("models/tales-draft.gguf");
  cut_at_every_4_kib("models/tales.gguf");
}

static uint64_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return *state >> 33;
}

/* Half of the flips hit the first 1/16 of the file, where the metadata are. */
static void flip_bytes(const char *relative, int n_flips) {
  victim v;
  uint64_t random = 2026;
  int ran = 0;
  open_victim(&v, relative);
  for (int i = 0; i < n_flips; i++) {
    size_t at = (size_t)(next_random(&random) % (i % 2 ? v.n : v.n / 16));
    uint8_t flipped = v.bytes[at] ^ (uint8_t)(1u << (next_random(&random) % 8));
    assert_int_equal(pwrite(v.fd, &flipped, 1, (off_t)at), 1);
    ran += survives(v.path);
    assert_int_equal(pwrite(v.fd, &v.bytes[at], 1, (off_t)at), 1);
  }
  print_message("  %s: %d flips, %d ran, %d were refused\n", relative, n_flips, ran, n_flips - ran);
  assert_true(survives(v.path));
  close_victim(&v);
}

static void flipped_bytes_are_an_error_or_a_run(void **state) {
  const char *n = getenv("TANDEM_FLIPS");
  (void)state;
  flip_bytes("models/tales-draft.gguf", n ? atoi(n) : 10000);
  flip_bytes("models/tales.gguf", (n ? atoi(n) : 10000) / 10);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(a_model_cut_at_every_4_kib_is_refused), cmocka_unit_test(flipped_bytes_are_an_error_or_a_run)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
