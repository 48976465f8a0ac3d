/* pack_test.c: packed models. The same bits as of the original, mapped or copied, on every level; a file that changes under an engine is
 * an error and nothing else; what lies about its panels is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/engine.h"
#include "support/guess.h"
#include "support/levels.h"
#include "support/saved.h"

static const char *const models[] = {"tests/data/zoo/llama.gguf", "tests/data/zoo/mixtral.gguf", "tests/data/zoo/qwen2.gguf",
                                     "tests/data/zoo/qwen3moe.gguf", "tests/data/zoo/gemma2.gguf", "tests/data/zoo/gemma3.gguf",
                                     "tests/data/zoo/gemma4.gguf", "tests/data/zoo/gemma4-e2b.gguf", "tests/data/zoo/gemma4-moe.gguf",
                                     "models/tales.gguf"};

/* A file in the folder of saved.c, which is emptied after each test. */
static const char *in_folder(char out[128], const char *name) {
  const char *slash = strrchr(saved_path, '/');
  snprintf(out, 128, "%.*s/%s", (int)(slash - saved_path), saved_path, name);
  return out;
}

static void pack_to(const char *from, const char *out) {
  tandem_error err = {0};
  guess_ok(tandem_pack(from, out, 2, NULL, NULL, NULL, &err), &err);
}

/* ---- the same bits ------------------------------------------------------------------------------------------------ */

static void logits_are_those_of_the_original(void **state) {
  (void)state;
  char packed[128];
  in_folder(packed, "packed.gguf");
  for (size_t i = 0; i < COUNT_OF(models); i++) {
    if (!os_exists(models[i])) fail_msg("%s is missing", models[i]);
    pack_to(models[i], packed);
    for (size_t k = 0; k < COUNT_OF(test_levels); k++) {
      if (!test_level_present(test_levels[k])) continue;
      saved_setup a = {.model = models[i], .context = 512, .cpu = test_levels[k], .threads = 2}, b = a;
      b.model = packed;
      tandem_engine *e = saved_open_engine(&a), *f = saved_open_engine(&b);
      assert_null(e->mapped);
      assert_non_null(f->mapped);
      tandem_session *s = saved_open_session(e), *t = saved_open_session(f);
      saved_fill(s, 30, 1);
      saved_fill(t, 30, 1);
      assert_memory_equal(tandem_session_logits(s), tandem_session_logits(t), (size_t)e->model->n_vocab * sizeof(float));
      text x = saved_bytes(s), y = saved_bytes(t);
      assert_true(saved_same(&x, &y)); /* also: a session of the one is a session of the other */
      text_free(&x);
      text_free(&y);
      tandem_session_close(s);
      tandem_session_close(t);
      tandem_engine_close(e);
      tandem_engine_close(f);
    }
  }
  unlink(packed);
}

/* Weights of a model as they are in memory. */
typedef struct loaded {
  gguf *g;
  model *m;
  void *region;
  os_mapping *mapped;
} loaded;

static void load(loaded *l, gguf *g, const device_ops *ops, device *d) {
  tandem_error err = {0};
  *l = (loaded){.g = g};
  guess_ok(model_open(&l->m, g, ops, d, &err), &err);
  guess_ok(base_map(&l->region, l->m->weight_bytes, true, "weights", &err), &err);
  guess_ok(model_load(l->m, g, ops, d, l->region, &l->mapped, NULL, NULL, &err), &err);
}

static void drop(loaded *l) {
  os_mapping_close(l->mapped);
  base_unmap(l->region, l->m->weight_bytes);
  model_close(l->m);
  gguf_close(l->g);
}

static void same_weights(const loaded *a, const loaded *b) {
  assert_int_equal(a->m->n_weights, b->m->n_weights);
  for (int32_t i = 0; i < a->m->n_weights; i++) {
    const op_value *v = &a->m->weights[i].value, *w = &b->m->weights[i].value;
    assert_int_equal(v->extent, w->extent);
    assert_true(w->offset + w->extent <= b->m->weight_bytes);
    if (memcmp((char *)a->region + v->offset, (char *)b->region + w->offset, v->extent)) fail_msg("%s differs", v->name);
  }
}

/* From memory nothing can stay mapped: panels are copied. */
static void weights_are_those_of_the_original(void **state) {
  (void)state;
  char packed[128];
  tandem_error err = {0};
  const device_ops *ops = device_find("cpu");
  device *d;
  in_folder(packed, "packed.gguf");
  guess_ok(ops->open(&d, &(device_params){.n_threads = 2}, &err), &err);
  for (size_t i = 0; i < COUNT_OF(models); i++) {
    gguf *g[3];
    loaded l[3];
    os_file file;
    pack_to(models[i], packed);
    guess_ok(os_map(&file, packed, &err), &err);
    guess_ok(gguf_open(&g[0], models[i], &err), &err);
    guess_ok(gguf_open(&g[1], packed, &err), &err);
    guess_ok(gguf_open_memory(&g[2], file.bytes, file.n, &err), &err);
    for (int k = 0; k < 3; k++) load(&l[k], g[k], ops, d);
    assert_true(!l[0].mapped && l[1].mapped && !l[2].mapped);
    same_weights(&l[0], &l[1]);
    same_weights(&l[0], &l[2]);
    for (int k = 0; k < 3; k++) drop(&l[k]);
    os_unmap(&file);
  }
  ops->close(d);
  unlink(packed);
}

static void packing_twice_changes_nothing(void **state) {
  (void)state;
  char a[128], b[128];
  in_folder(a, "a.gguf");
  in_folder(b, "b.gguf");
  pack_to("models/tales.gguf", a);
  pack_to(a, b);
  text x = saved_read_file(a), y = saved_read_file(b);
  assert_true(saved_same(&x, &y));
  text_free(&x);
  text_free(&y);
  unlink(a);
  unlink(b);
}

/* ---- a file that changes ------------------------------------------------------------------------------------------ */

static const char *changing; /* path of the packed model */

static void cut(void) { assert_int_equal(truncate(changing, 100000), 0); }
static void empty(void) { assert_int_equal(truncate(changing, 0), 0); }
static void write_one_byte(void) {
  int fd = open(changing, O_WRONLY);
  assert_int_equal(pwrite(fd, "x", 1, 3000000), 1);
  close(fd);
}
static void touch(void) {
  const struct timespec now[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
  assert_int_equal(utimensat(AT_FDCWD, changing, now, 0), 0);
}

static void a_changed_file_is_an_error(void **state) {
  (void)state;
  static void (*const changes[])(void) = {cut, empty, write_one_byte, touch};
  char packed[128];
  changing = in_folder(packed, "packed.gguf");
  for (size_t i = 0; i < COUNT_OF(changes); i++) {
    tandem_error err = {0};
    int32_t id = 7;
    pack_to("models/tales.gguf", packed);
    usleep(20000); /* the clock of files is coarse */
    tandem_engine *e = saved_open_engine(&(saved_setup){.model = packed, .context = 256, .threads = 2});
    tandem_engine *other = saved_open_engine(&(saved_setup){.model = "models/tales-draft.gguf", .context = 256});
    tandem_session *s = saved_open_session(e), *t = saved_open_session(other);
    saved_fill(s, 20, 0);
    changes[i]();
    for (int again = 0; again < 2; again++) {
      assert_int_equal(tandem_session_decode(s, &id, 1, NULL, NULL, &err), TANDEM_ERROR_IO);
      if (!strstr(err.text, "packed.gguf: was written to")) fail_msg("'%s'", err.text);
      assert_int_equal(tandem_session_length(s), 20);
    }
    saved_fill(t, 20, 0); /* the process and what else is in it go on */
    text kept = saved_bytes(s); /* and the conversation can be kept, for the original */
    tandem_engine *original = saved_open_engine(&(saved_setup){.model = "models/tales.gguf", .context = 256});
    tandem_session *u = saved_open_session(original);
    guess_ok(saved_load(u, kept.bytes, kept.n, &err), &err);
    assert_int_equal(tandem_session_length(u), 20);
    guess_ok(tandem_session_decode(u, &id, 1, NULL, NULL, &err), &err);
    text_free(&kept);
    tandem_session_close(u);
    tandem_engine_close(original);
    tandem_session_close(s);
    tandem_engine_close(e);
    tandem_session_close(t);
    tandem_engine_close(other);
  }
  unlink(packed);
}

static bool cut_it(void *user, const char *what, uint64_t done, uint64_t total) {
  (void)user, (void)what;
  if (done > total / 4) cut();
  return true;
}

/* While it is loaded, packed or not; while it is packed. */
static void a_file_cut_while_it_is_read_is_an_error(void **state) {
  (void)state;
  char path[128], out[128];
  changing = in_folder(path, "model.gguf");
  in_folder(out, "out.gguf");
  for (int i = 0; i < 3; i++) {
    tandem_error err = {0};
    tandem_engine *e = NULL;
    tandem_engine_params p;
    text whole = saved_read_file("models/tales.gguf");
    if (i == 1) pack_to("models/tales.gguf", path);
    else guess_ok(os_write_all(path, whole.bytes, whole.n, &err), &err);
    tandem_engine_params_init(&p);
    p.model = path;
    p.n_threads = 1;
    p.progress = cut_it;
    status st = i < 2 ? tandem_engine_open(&e, &p, &err) : tandem_pack(path, out, 1, cut_it, NULL, NULL, &err);
    assert_null(e);
    assert_int_equal(st, TANDEM_ERROR_IO);
    if (!strstr(err.text, i == 1 ? "model.gguf: was written to while it was in use" : "model.gguf: became shorter while it was read")) fail_msg("'%s'", err.text);
    unlink(path);
    assert_int_equal(saved_count_files(), 0);
    text_free(&whole);
  }
}

/* The old file stays what it was for those who have it. */
static void a_replaced_file_is_none(void **state) {
  (void)state;
  char packed[128];
  tandem_error err = {0};
  int32_t id = 7;
  in_folder(packed, "packed.gguf");
  pack_to("models/tales.gguf", packed);
  tandem_engine *e = saved_open_engine(&(saved_setup){.model = packed, .context = 256});
  tandem_session *s = saved_open_session(e);
  pack_to("models/tales-draft.gguf", packed);
  guess_ok(tandem_session_decode(s, &id, 1, NULL, NULL, &err), &err);
  unlink(packed);
  guess_ok(tandem_session_decode(s, &id, 1, NULL, NULL, &err), &err);
  tandem_session_close(s);
  tandem_engine_close(e);
}

static sigjmp_buf jump;
static void on_own_bus(int number) {
  (void)number;
  siglongjmp(jump, 1);
}

/* A fault that is not of a packed model reaches the handler that was there before, which is there again afterwards. */
static void other_faults_go_where_they_went(void **state) {
  (void)state;
  char packed[128], short_file[128];
  struct sigaction own = {.sa_handler = on_own_bus}, before, now;
  sigaction(SIGBUS, &own, &before);
  pack_to("models/tales-draft.gguf", in_folder(packed, "packed.gguf"));
  tandem_engine *e = saved_open_engine(&(saved_setup){.model = packed, .context = 256});
  struct sigaction ours;
  sigaction(SIGBUS, &own, &ours); /* somebody else's, and ours again when nobody needs it: it must not call itself */
  tandem_engine_close(e);
  sigaction(SIGBUS, &ours, NULL);
  e = saved_open_engine(&(saved_setup){.model = packed, .context = 256});
  int fd = open(in_folder(short_file, "short"), O_RDWR | O_CREAT, 0600);
  assert_int_equal(ftruncate(fd, 8192), 0);
  const volatile char *p = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
  assert_int_equal(ftruncate(fd, 0), 0);
  bool reached = sigsetjmp(jump, 1);
  if (!reached) fail_msg("%d was read", p[4096]);
  tandem_engine_close(e);
  sigaction(SIGBUS, &before, &now);
  assert_true(now.sa_handler == on_own_bus);
  munmap((void *)(uintptr_t)p, 8192);
  close(fd);
  unlink(short_file);
  unlink(packed);
}

/* ---- what is refused ----------------------------------------------------------------------------------------------- */

/* A copy of `from` with tensor i, if it is one, said to be in panels, of that version. */
static bool claim_panels(const char *from, const char *to, size_t i, int version) {
  tandem_error err = {0};
  gguf *g;
  gguf_writer *w;
  guess_ok(gguf_open(&g, from, &err), &err);
  guess_ok(gguf_writer_open(&w, &err), &err);
  for (size_t k = 0; k < gguf_n_keys(g); k++)
    if (!engine_is_container_key(gguf_key_at(g, k)->name)) gguf_write_key(w, gguf_key_at(g, k));
  if (version >= 0) gguf_write_int(w, "tandem.panels", GGUF_U32, version);
  for (size_t k = 0; k < gguf_n_tensors(g); k++) {
    const gguf_tensor *t = gguf_tensor_at(g, k);
    const uint8_t *bytes;
    guess_ok(gguf_tensor_bytes(g, t, &bytes, &err), &err);
    (k == i ? gguf_write_panels : gguf_write_tensor)(w, t->name, t->type, t->n_dims, t->dims, bytes);
  }
  bool more = i < gguf_n_tensors(g);
  status st = gguf_writer_save(w, to, &err);
  if (st) { /* no whole panels */
    assert_non_null(strstr(err.text, "must be a multiple of 16"));
    unlink(to);
  }
  gguf_writer_close(w);
  gguf_close(g);
  return more;
}

static void any_tensor_may_claim_panels(void **state) {
  (void)state;
  char path[128];
  int n_open = 0, n_refused = 0;
  in_folder(path, "claims.gguf");
  for (size_t m = 0; m < COUNT_OF(models); m++)
    for (size_t i = 0; claim_panels(models[m], path, i, device_find("cpu")->panels); i++) {
      tandem_engine_params p;
      tandem_engine *e;
      tandem_error err = {0};
      if (!os_exists(path)) continue;
      tandem_engine_params_init(&p);
      p.model = path;
      p.n_context = 64;
      p.n_threads = 1;
      if (tandem_engine_open(&e, &p, &err)) {
        n_refused++;
        if (!strstr(err.text, "rows expected, file has panels")) fail_msg("%s, tensor %zu: '%s'", models[m], i, err.text);
        continue;
      }
      tandem_session *s = saved_open_session(e);
      int32_t id = 5;
      tandem_session_decode(s, &id, 1, NULL, NULL, &err); /* other numbers, perhaps none that are finite */
      tandem_session_close(s);
      tandem_engine_close(e);
      n_open++;
    }
  unlink(path);
  assert_true(n_open > 200 && n_refused > 2);
}

static size_t index_of(const char *file, const char *tensor) {
  gguf *g;
  size_t i = 0;
  assert_int_equal(gguf_open(&g, file, NULL), TANDEM_OK);
  while (strcmp(gguf_tensor_at(g, i)->name, tensor)) i++;
  gguf_close(g);
  return i;
}

static void another_version_is_refused(void **state) {
  (void)state;
  char path[128], expected[80];
  size_t query = index_of("models/tales.gguf", "blk.0.attn_q.weight");
  in_folder(path, "version.gguf");
  for (int version = -1; version < 9; version++) {
    tandem_engine_params p;
    tandem_engine *e;
    tandem_error err = {0};
    if (version == device_find("cpu")->panels) continue;
    claim_panels("models/tales.gguf", path, query, version);
    assert_true(os_exists(path));
    tandem_engine_params_init(&p);
    p.model = path;
    assert_int_equal(tandem_engine_open(&e, &p, &err), TANDEM_ERROR_UNSUPPORTED);
    snprintf(expected, sizeof expected, "tandem.panels: %d expected, file has %d", device_find("cpu")->panels, version < 0 ? 0 : version);
    if (!strstr(err.text, expected)) fail_msg("'%s'", err.text);
  }
  unlink(path);
}

static bool stop_at_once(void *user, const char *what, uint64_t done, uint64_t total) {
  (void)what, (void)total;
  return done <= *(uint64_t *)user;
}

static void what_fails_leaves_nothing(void **state) {
  (void)state;
  char out[128];
  tandem_error err = {0};
  uint64_t limit = 1000000;
  in_folder(out, "never.gguf");
  assert_int_equal(tandem_pack("models/tales.gguf", "models/../models/tales.gguf", 1, NULL, NULL, NULL, &err), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(tandem_pack("no such file", out, 1, NULL, NULL, NULL, &err), TANDEM_ERROR_OPEN);
  assert_int_equal(tandem_pack("README.md", out, 1, NULL, NULL, NULL, &err), TANDEM_ERROR_FORMAT);
  assert_int_equal(tandem_pack("models/tales.gguf", out, -1, NULL, NULL, NULL, &err), TANDEM_ERROR_ARGUMENT);
  assert_int_equal(tandem_pack("models/tales.gguf", out, 1, stop_at_once, &limit, NULL, &err), TANDEM_ERROR_CANCELLED);
  assert_int_equal(saved_count_files(), 0);
  static const enum base_fault kinds[] = {FAULT_MEMORY, FAULT_READ, FAULT_WRITE};
  for (size_t k = 0; k < COUNT_OF(kinds); k++) {
    status st = TANDEM_ERROR_MEMORY;
    for (uint64_t n = 1; st; n += n < 40 ? 1 : 7) {
      base_fault_arm(kinds[k], n, false);
      st = tandem_pack("models/tales-draft.gguf", out, 1, NULL, NULL, NULL, &err);
      base_fault_arm(kinds[k], 0, false);
      if (st) assert_int_equal(saved_count_files(), 0);
      if (st && kinds[k] == FAULT_MEMORY) assert_int_equal(st, TANDEM_ERROR_MEMORY);
    }
    assert_int_equal(saved_count_files(), 1);
    unlink(out);
  }
}

static void opening_fails_cleanly(void **state) {
  (void)state;
  char packed[128];
  pack_to("models/tales-draft.gguf", in_folder(packed, "packed.gguf"));
  static const enum base_fault kinds[] = {FAULT_MEMORY, FAULT_READ};
  for (size_t k = 0; k < COUNT_OF(kinds); k++) {
    status st = TANDEM_ERROR_MEMORY;
    for (uint64_t n = 1; st; n += n < 60 ? 1 : 5) {
      tandem_engine_params p;
      tandem_engine *e;
      tandem_error err = {0};
      tandem_engine_params_init(&p);
      p.model = packed;
      p.n_threads = 1;
      base_fault_arm(kinds[k], n, false);
      st = tandem_engine_open(&e, &p, &err);
      base_fault_arm(kinds[k], 0, false);
      if (!st) tandem_engine_close(e);
    }
  }
  unlink(packed);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(logits_are_those_of_the_original),
      cmocka_unit_test(weights_are_those_of_the_original),
      cmocka_unit_test(packing_twice_changes_nothing),
      cmocka_unit_test(a_changed_file_is_an_error),
      cmocka_unit_test(a_file_cut_while_it_is_read_is_an_error),
      cmocka_unit_test(a_replaced_file_is_none),
      cmocka_unit_test(other_faults_go_where_they_went),
      cmocka_unit_test(any_tensor_may_claim_panels),
      cmocka_unit_test(another_version_is_refused),
      cmocka_unit_test(what_fails_leaves_nothing),
      cmocka_unit_test(opening_fails_cleanly),
  };
  return cmocka_run_group_tests(tests, saved_make_folder, saved_remove_folder);
}
