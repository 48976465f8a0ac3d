/* fused: steps that a plan folds into one give the same bits as the steps apart: a product with its addend, two products with their
 * gate, a norm or a gate that writes activation blocks; for every way threads and columns can be split. And a plan folds them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan/plan.h"
#include "support/tiny.h"
#include "support/levels.h"

enum { MAX_TOKENS = 70, WEIGHTS = 1 << 24, SCRATCH = 1 << 24, MAX_VALUES = 16, MAX_STEPS = 8 };

typedef struct fixture {
  const device_ops *ops;
  device *d;
  op_value values[MAX_VALUES];
  op_step steps[MAX_STEPS];
  device_program p;
  char *weights, *scratch;
  size_t weights_used, scratch_used;
  uint64_t seed;
} fixture;

static float noise(fixture *f) { /* -1 .. 1 */
  f->seed = f->seed * 6364136223846793005u + 1442695040888963407u;
  return (float)((double)(f->seed >> 40) / 8388608.0 - 1);
}

static void open_fixture(fixture *f, const char *level, int n_threads) {
  error err = {0};
  *f = (fixture){.ops = device_find("cpu"), .p = {.max_tokens = MAX_TOKENS, .max_outputs = 1}, .seed = 7};
  if (f->ops->open(&f->d, &(device_params){.n_threads = n_threads, .level = level}, &err)) f->d = NULL; /* this machine lacks it */
  f->p.values = f->values;
  f->p.steps = f->steps;
  f->weights = aligned_alloc(64, WEIGHTS);
  f->scratch = calloc(1, SCRATCH);
  assert_true(f->weights && f->scratch);
}

static void close_fixture(fixture *f) {
  f->ops->close(f->d);
  free(f->weights);
  free(f->scratch);
}

static int32_t add_rows(fixture *f, quant_type type, int64_t cols) {
  op_value *v = &f->values[f->p.n_values];
  size_t stride = size_align(op_row_bytes(type, cols), 64);
  *v = (op_value){.name = "rows", .home = OP_SCRATCH, .by = OP_TOKENS, .type = type, .rows = MAX_TOKENS, .cols = cols, .n_slabs = 1,
                  .stride = stride, .extent = stride * MAX_TOKENS, .slab = stride * MAX_TOKENS, .offset = f->scratch_used, .view_of = -1};
  f->scratch_used += v->extent;
  assert_true(f->scratch_used <= SCRATCH);
  return f->p.n_values++;
}

static int32_t add_random(fixture *f, int64_t cols) {
  int32_t v = add_rows(f, QUANT_F32, cols);
  for (int64_t t = 0; t < MAX_TOKENS; t++)
    for (int64_t i = 0; i < cols; i++) ((float *)(void *)(f->scratch + f->values[v].offset + (size_t)t * f->values[v].stride))[i] = noise(f);
  return v;
}

/* rows == 1: a vector of floats. */
static int32_t add_weight(fixture *f, quant_type type, int64_t rows, int64_t cols) {
  error err = {0};
  op_value *v = &f->values[f->p.n_values];
  size_t row = quant_row_bytes(type, cols);
  *v = (op_value){.name = "w", .home = OP_WEIGHT, .by = OP_FIXED, .layout = rows > 1 ? OP_PANELS : OP_ROW_MAJOR, .type = type, .rows = rows,
                  .cols = cols, .n_slabs = 1, .offset = f->weights_used, .view_of = -1};
  if (f->ops->weight_layout(f->d, v, &err)) fail_msg("%s", err.text);
  f->weights_used += size_align(v->extent, 64);
  assert_true(f->weights_used <= WEIGHTS);
  float *x = malloc((size_t)cols * sizeof *x);
  char *bytes = malloc(row * (size_t)rows);
  for (int64_t r = 0; r < rows; r++) {
    for (int64_t i = 0; i < cols; i++) x[i] = noise(f);
    quant_table[type].encode(x, bytes + row * (size_t)r, cols, NULL);
  }
  if (f->ops->weight_load(f->d, v, bytes, f->weights + v->offset, &err)) fail_msg("%s", err.text);
  free(x);
  free(bytes);
  return f->p.n_values++;
}

static void add_step(fixture *f, op_step s) {
  s.sync = true;
  assert_true(f->p.n_steps < MAX_STEPS);
  f->steps[f->p.n_steps++] = s;
}

static void run(fixture *f, int n_tokens) {
  error err = {0};
  static const int32_t numbers[MAX_TOKENS];
  op_batch batch = {.n_tokens = n_tokens, .ids = numbers, .positions = numbers, .sequences = numbers, .outputs = numbers};
  for (int i = 0; i < f->p.n_steps; i++)
    if (f->ops->supports(f->d, &f->p, &f->steps[i], &err)) fail_msg("%s", err.text);
  void *work = aligned_alloc(64, size_align(f->ops->work_bytes(f->d, &f->p) + 64, 64));
  device_binding bind = {.weights = f->weights, .scratch = f->scratch, .work = work};
  if (f->ops->run(f->d, &f->p, &bind, &batch, &err)) fail_msg("%s", err.text);
  free(work);
}

static void same_rows(const fixture *f, int32_t a, int32_t b, int n_tokens, const char *what) {
  size_t n = op_row_bytes(f->values[a].type, f->values[a].cols);
  for (int t = 0; t < n_tokens; t++)
    if (memcmp(f->scratch + f->values[a].offset + (size_t)t * f->values[a].stride, f->scratch + f->values[b].offset + (size_t)t * f->values[b].stride, n))
      fail_msg("%s: token %d of %d differs", what, t, n_tokens);
}

/* ---- the same bits -------------------------------------------------------------------------------------------------- */

static int32_t in_blocks(fixture *f, int32_t x, quant_type type) {
  if (type == QUANT_F32) return x;
  int32_t q = add_rows(f, type, f->values[x].cols);
  add_step(f, (op_step){.op = OP_QUANT, .dst = q, .src = {x, -1, -1, -1}});
  return q;
}

typedef void fused_case(fixture *f, quant_type type, int64_t rows, int32_t *apart, int32_t *fused);

static void addend(fixture *f, quant_type type, int64_t rows, int32_t *apart, int32_t *fused) {
  int32_t x = in_blocks(f, add_random(f, 512), quant_table[type].partner), w = add_weight(f, type, rows, 512), b = add_weight(f, QUANT_F32, 1, rows);
  int32_t y = add_random(f, rows), product = add_rows(f, QUANT_F32, rows);
  *apart = add_rows(f, QUANT_F32, rows);
  *fused = add_rows(f, QUANT_F32, rows);
  add_step(f, (op_step){.op = OP_MM, .dst = product, .src = {x, w, b, -1}});
  add_step(f, (op_step){.op = OP_ADD, .dst = *apart, .src = {y, product, -1, -1}});
  add_step(f, (op_step){.op = OP_MM, .dst = *fused, .src = {x, w, b, y}});
}

static void gate(fixture *f, quant_type type, int64_t rows, int32_t *apart, int32_t *fused) {
  quant_type partner = quant_table[type].partner;
  int32_t x = in_blocks(f, add_random(f, 256), partner), g = add_weight(f, type, rows, 256), u = add_weight(f, type, rows, 256);
  int32_t yg = add_rows(f, QUANT_F32, rows), yu = add_rows(f, QUANT_F32, rows), y = add_rows(f, QUANT_F32, rows);
  bool whole = rows % quant_table[partner].block == 0;
  add_step(f, (op_step){.op = OP_MM, .dst = yg, .src = {x, g, -1, -1}});
  add_step(f, (op_step){.op = OP_MM, .dst = yu, .src = {x, u, -1, -1}});
  add_step(f, (op_step){.op = OP_GLU, .dst = y, .src = {yg, yu, -1, -1}, .act = OP_SILU});
  *apart = whole ? in_blocks(f, y, partner) : y;
  *fused = add_rows(f, f->values[*apart].type, rows);
  add_step(f, (op_step){.op = OP_MMGLU, .dst = *fused, .src = {x, g, u, -1}, .act = OP_SILU});
}

static void norm(fixture *f, quant_type type, int64_t rows, int32_t *apart, int32_t *fused) {
  quant_type partner = quant_table[type].partner;
  int64_t cols = (rows + 255) / 256 * 256;
  int32_t x = add_random(f, cols), w = add_weight(f, QUANT_F32, 1, cols), y = add_rows(f, QUANT_F32, cols);
  op_step s = {.op = OP_NORM, .dst = y, .src = {x, w, -1, -1}, .eps = 1e-5f, .scale = 0.5f, .group = (int32_t)cols};
  add_step(f, s);
  *apart = in_blocks(f, y, partner);
  *fused = s.dst = add_rows(f, partner, cols);
  add_step(f, s);
}

static void fused_steps_give_the_bits_of_the_steps_apart(void **state) {
  (void)state;
  static const struct { const char *name; fused_case *make; } cases[] = {{"addend", addend}, {"gate", gate}, {"norm", norm}};
  static const quant_type types[] = {QUANT_F16, QUANT_BF16, QUANT_Q8_0, QUANT_Q4_K};
  static const int64_t rows[] = {40, 768, 2304};
  static const int n_tokens[] = {1, 2, 16, 17, 70};
  for (size_t k = 0; k < COUNT_OF(cases) * COUNT_OF(types) * COUNT_OF(rows); k++)
    for (size_t l = 0; l < COUNT_OF(test_levels); l++)
      for (int n_threads = 1; n_threads <= 3; n_threads++) {
        if (l == 0 && (n_threads != 2 || rows[k % COUNT_OF(rows)] > 768)) continue; /* slow */
        for (size_t t = 0; t < COUNT_OF(n_tokens); t++) {
          fixture f;
          int32_t apart, fused;
          open_fixture(&f, test_levels[l], n_threads);
          if (f.d) {
            cases[k / COUNT_OF(rows) % COUNT_OF(cases)].make(&f, types[k / COUNT_OF(rows) / COUNT_OF(cases)], rows[k % COUNT_OF(rows)], &apart, &fused);
            run(&f, n_tokens[t]);
            same_rows(&f, apart, fused, n_tokens[t], cases[k / COUNT_OF(rows) % COUNT_OF(cases)].name);
          }
          close_fixture(&f);
        }
      }
}

/* ---- what a plan folds ---------------------------------------------------------------------------------------------- */

static int count_steps(const plan *p, op_kind op) {
  int n = 0;
  for (int32_t i = 0; i < p->n_steps; i++) n += p->steps[i].op == op;
  return n;
}

static void a_plan_folds_what_follows_products(void **state) {
  (void)state;
  tiny_shape shape = tiny_llama(QUANT_Q8_0);
  gguf *g = NULL;
  model *m = NULL;
  plan *p = NULL;
  error err = {0};
  char path[64];
  shape.n_ff = 1024; /* blocks enough for MMGLU to write them */
  if (tiny_write(path, &shape, &err) || gguf_open(&g, path, &err)) fail_msg("%s", err.text);
  const device_ops *ops = device_find("cpu");
  device *d;
  if (ops->open(&d, &(device_params){.n_threads = 1}, &err) || model_open(&m, g, ops, d, &err)) fail_msg("%s", err.text);
  plan_limits limits = {.n_context = 512, .max_tokens = 32, .max_outputs = 4, .n_sequences = 1, .k_type = QUANT_F16, .v_type = QUANT_F16};
  if (plan_open(&p, m, ops, d, &limits, &err)) fail_msg("%s", err.text);
  assert_int_equal(count_steps(p, OP_ADD), 0);
  assert_int_equal(count_steps(p, OP_GLU), 0);
  assert_int_equal(count_steps(p, OP_MMGLU), shape.n_layers);
  assert_int_equal(count_steps(p, OP_QUANT), shape.n_layers); /* what attention gives */
  int meetings = 0;
  for (int32_t i = 0; i < p->n_steps; i++) meetings += p->steps[i].sync;
  assert_true(meetings <= 9 * shape.n_layers + 4);
  plan_close(p);
  model_close(m);
  ops->close(d);
  gguf_close(g);
  tiny_remove(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fused_steps_give_the_bits_of_the_steps_apart),
      cmocka_unit_test(a_plan_folds_what_follows_products),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
