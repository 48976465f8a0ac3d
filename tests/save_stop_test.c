/* save_stop_test.c: a save that is stopped anywhere, by a failing call, a full disk or a kill, leaves the old file or the new one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support/guess.h"
#include "support/saved.h"

static const saved_setup small = {.model = "tests/data/zoo/gemma3.gguf"};

static void every_failing_call_is_clean(void **state) {
  (void)state;
  static const struct { enum base_fault kind; status wanted; } kinds[] = {
      {FAULT_MEMORY, TANDEM_ERROR_MEMORY}, {FAULT_READ, TANDEM_ERROR_IO}, {FAULT_WRITE, TANDEM_ERROR_IO}};
  saved_victim v;
  tandem_error err = {0};
  saved_open_victim(&v, &small, 40);
  guess_ok(os_write_all(saved_path, v.file.bytes, v.file.n, &err), &err);
  for (size_t k = 0; k < COUNT_OF(kinds); k++)
    for (int saves = 0; saves < 2; saves++) {
      uint64_t n = 1;
      for (;; n++) {
        base_fault_arm(kinds[k].kind, n, false);
        status st = saves ? tandem_session_save(v.s, saved_path, &err) : tandem_session_load(v.s, saved_path, &err);
        uint64_t met = base_fault_arm(kinds[k].kind, 0, false);
        assert_int_equal(st, met >= n ? kinds[k].wanted : TANDEM_OK);
        if (!st) break; /* went through: the file or the session is the new one now */
        text now = saved_bytes(v.s), file = saved_read_file(saved_path);
        assert_true(saved_same(&now, &v.held) && saved_same(&file, &v.file));
        assert_int_equal(saved_count_files(), 1);
        text_free(&now);
        text_free(&file);
      }
      print_message("  %s, kind %zu: %llu calls\n", saves ? "save" : "load", k, (unsigned long long)n - 1);
      guess_ok(saved_load(v.s, v.held.bytes, v.held.n, &err), &err);
      guess_ok(os_write_all(saved_path, v.file.bytes, v.file.n, &err), &err);
    }
  saved_close_victim(&v);
}

/* The file is old or new; what lies beside it is at most one piece of litter, gone with the next save. */
static void old_or_new(saved_victim *v, int *n_new) {
  text file = saved_read_file(saved_path);
  tandem_error err = {0};
  bool is_new = saved_same(&file, &v->held);
  if (!is_new && !saved_same(&file, &v->file)) fail_msg("neither the old file nor the new one: %zu bytes", file.n);
  *n_new += is_new;
  assert_in_range(saved_count_files(), 1, 2);
  text_free(&file);
  guess_ok(os_write_all(saved_path, v->file.bytes, v->file.n, &err), &err);
  assert_int_equal(saved_count_files(), 1);
}

/* A limit on the size of files ends the process in the middle of a write, at any byte that is asked for. */
static void killed_at_any_byte_of_a_save(void **state) {
  (void)state;
  saved_victim v;
  tandem_error err = {0};
  int n_new = 0, n_killed = 0;
  saved_open_victim(&v, &small, 3);
  guess_ok(os_write_all(saved_path, v.file.bytes, v.file.n, &err), &err);
  for (size_t n = 0; n < v.held.n + 60; n += n < 200 ? 1 : 37) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      struct rlimit core = {0, 0}, size = {n, n};
      setrlimit(RLIMIT_CORE, &core);
      setrlimit(RLIMIT_FSIZE, &size);
      _exit(tandem_session_save(v.s, saved_path, NULL) ? 1 : 0);
    }
    int how;
    waitpid(child, &how, 0);
    bool killed = WIFSIGNALED(how) && WTERMSIG(how) == SIGXFSZ;
    if (killed != (n < v.held.n) || (!killed && how)) fail_msg("limit of %zu bytes: the process ended with %x", n, how);
    n_killed += killed;
    old_or_new(&v, &n_new);
  }
  assert_true(n_killed > 100 && n_new > 0);
  signal(SIGXFSZ, SIG_IGN); /* the same limit as an error: a full disk */
  struct rlimit before, size;
  getrlimit(RLIMIT_FSIZE, &before);
  size = before;
  size.rlim_cur = v.held.n / 2;
  setrlimit(RLIMIT_FSIZE, &size);
  status st = tandem_session_save(v.s, saved_path, &err);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, SIG_DFL);
  assert_int_equal(st, TANDEM_ERROR_IO);
  assert_int_equal(saved_count_files(), 1);
  old_or_new(&v, &n_new);
  saved_close_victim(&v);
}

static void killed_at_any_moment(void **state) {
  (void)state;
  enum { KILLS = 150 };
  saved_victim v;
  tandem_error err = {0};
  int n_new = 0;
  uint64_t random = 7;
  saved_open_victim(&v, &(saved_setup){.model = "models/tales.gguf", .context = 300}, 280);
  guess_ok(os_write_all(saved_path, v.file.bytes, v.file.n, &err), &err);
  double start = os_seconds();
  guess_ok(tandem_session_save(v.s, saved_path, &err), &err);
  double span = 1e6 * (os_seconds() - start) * 3 + 2000; /* microseconds; some of the children finish */
  guess_ok(os_write_all(saved_path, v.file.bytes, v.file.n, &err), &err);
  for (int i = 0; i < KILLS; i++) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      for (;;) tandem_session_save(v.s, saved_path, NULL);
    }
    random = random * 6364136223846793005u + 1442695040888963407u;
    usleep((useconds_t)((double)(random >> 40) / (1 << 24) * span));
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    old_or_new(&v, &n_new);
    guess_ok(tandem_session_load(v.s, saved_path, &err), &err);
    guess_ok(saved_load(v.s, v.held.bytes, v.held.n, &err), &err);
  }
  print_message("  %d kills, %d times the new file\n", KILLS, n_new);
  saved_close_victim(&v);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_failing_call_is_clean),
      cmocka_unit_test(killed_at_any_byte_of_a_save),
      cmocka_unit_test(killed_at_any_moment),
  };
  return cmocka_run_group_tests_name("save_stop", tests, saved_make_folder, saved_remove_folder);
}
