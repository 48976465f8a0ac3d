/* device: the CPU as a plan sees it: opening, refusing, and the steps of row ops and attention. Results are compared with
 * double precision, and bit for bit between numbers of threads, instruction set levels and ways to cut a batch. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device/device.h"
#include "support/levels.h"


static const device_ops *cpu(void) {
  const device_ops *ops = device_find("cpu");
  assert_non_null(ops);
  return ops;
}

/* NULL if this machine lacks the level. */
static device *open_level(const char *level, int n_threads) {
  device *d;
  error err = {0};
  status st = cpu()->open(&d, &(device_params){.n_threads = n_threads, .level = level}, &err);
  if (st == TANDEM_ERROR_UNSUPPORTED) return NULL;
  if (st) fail_msg("%s", err.text);
  return d;
}

static float noise(uint64_t *state) { /* -1 .. 1 */
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (float)((double)(*state >> 40) / 8388608.0 - 1);
}

/* ---- opening and refusing ----------------------------------------------------------------------------------------- */

static void devices_are_found_by_name(void **state) {
  (void)state;
  assert_true(device_count >= 1);
  assert_ptr_equal(device_find("cpu"), device_table[0]);
  assert_null(device_find("abacus"));
  assert_null(device_find(NULL));
}

static void a_level_is_chosen_by_name(void **state) {
  (void)state;
  device_info info;
  device *d = open_level("scalar", 2);
  cpu()->info(d, &info);
  assert_string_equal(info.name, "cpu");
  assert_string_equal(info.level, "scalar");
  assert_int_equal(info.n_threads, 2);
  cpu()->close(d);
  d = open_level(NULL, 1);
  assert_non_null(d);
  cpu()->close(d);
  cpu()->close(NULL);
}

static void an_unknown_level_is_refused_with_those_there_are(void **state) {
  (void)state;
  device *d = (device *)1;
  error err = {0};
  assert_int_equal(cpu()->open(&d, &(device_params){.n_threads = 1, .level = "mmx\n"}, &err), TANDEM_ERROR_UNSUPPORTED);
  assert_null(d);
  assert_non_null(strstr(err.text, "mmx\\n"));
  assert_non_null(strstr(err.text, "scalar"));
}

static void no_threads_are_refused(void **state) {
  (void)state;
  device *d;
  error err = {0};
  assert_int_equal(cpu()->open(&d, &(device_params){.n_threads = 0}, &err), TANDEM_ERROR_ARGUMENT);
  assert_null(d);
}

/* ---- programs ------------------------------------------------------------------------------------------------------ */

enum { MAX_VALUES = 8, MAX_TOKENS = 96 };

typedef struct fixture {
  op_value values[MAX_VALUES];
  op_step steps[2];
  op_cache cache;
  device_program p;
  size_t scratch_bytes;
  char *scratch, *work;
  size_t work_bytes;
  void *store;
  int32_t ids[MAX_TOKENS], positions[MAX_TOKENS], sequences[MAX_TOKENS], outputs[MAX_TOKENS];
  const int32_t *tables[2];
  op_batch batch;
} fixture;

/* A value whose rows lie `pad` floats apart, as a view's do. */
static int add_value(fixture *f, op_rows by, quant_type type, int64_t cols, int pad) {
  op_value *v = &f->values[f->p.n_values];
  *v = (op_value){.name = "v",
                  .home = OP_SCRATCH,
                  .by = by,
                  .type = type,
                  .rows = by == OP_FIXED ? 1 : MAX_TOKENS,
                  .cols = cols,
                  .n_slabs = 1,
                  .view_of = -1};
  v->stride = op_row_bytes(type, cols) + 4 * (size_t)pad;
  v->extent = v->stride * (size_t)v->rows;
  v->offset = f->scratch_bytes;
  f->scratch_bytes += size_align(v->extent, 64);
  return f->p.n_values++;
}

static void reset(fixture *f) {
  *f = (fixture){.p = {.max_tokens = MAX_TOKENS, .max_outputs = MAX_TOKENS, .n_steps = 1}};
  f->p.values = f->values;
  f->p.steps = f->steps;
  f->p.caches = &f->cache;
  f->batch = (op_batch){.ids = f->ids, .positions = f->positions, .sequences = f->sequences, .outputs = f->outputs};
}

static float *row_of(const fixture *f, int v, int64_t i) {
  return (float *)(void *)(f->scratch + f->values[v].offset + (size_t)i * f->values[v].stride);
}

enum { GUARD = 4096 };

static void *aligned(size_t n) {
  void *p = aligned_alloc(64, size_align(n, 64));
  assert_non_null(p);
  return p;
}

/* Runs on a device; checks that nothing was allocated and nothing written behind the work area. */
static void run(fixture *f, device *d) {
  error err = {0};
  for (int i = 0; i < f->p.n_steps; i++)
    if (cpu()->supports(d, &f->p, &f->steps[i], &err)) fail_msg("%s", err.text);
  size_t n = cpu()->work_bytes(d, &f->p);
  char *work = aligned(n + GUARD);
  memset(work, 0x5a, n + GUARD);
  device_binding bind = {.scratch = f->scratch, .stores = {f->store}, .work = work};
  uint64_t before = base_alloc_count();
  if (cpu()->run(d, &f->p, &bind, &f->batch, &err)) fail_msg("%s", err.text);
  assert_int_equal(base_alloc_count(), before);
  for (int i = 0; i < GUARD; i++) assert_int_equal(work[n + (size_t)i], 0x5a);
  free(work);
}

/* ---- row ops -------------------------------------------------------------------------------------------------------- */

typedef double formula(const fixture *f, const float *a, const float *b, int64_t i, int64_t token);

typedef struct row_case {
  const char *name;
  op_step step; /* dst 0, src 1 and 2 are filled in if `b` says so */
  enum { NO_B, ROW_B, FIXED_B } b;
  formula *formula;
  double within; /* of the largest result; 0: exactly */
} row_case;

static double f_add(const fixture *f, const float *a, const float *b, int64_t i, int64_t t) {
  return (void)f, (void)t, (double)(a[i] + b[i]);
}
static double f_scale(const fixture *f, const float *a, const float *b, int64_t i, int64_t t) {
  return (void)t, (double)(a[i] * (f->steps[0].scale * b[0]));
}
static double f_rows(const fixture *f, const float *a, const float *b, int64_t i, int64_t t) {
  return (void)a, (void)b, (double)row_of(f, 1, f->outputs[t])[i];
}
static double f_norm(const fixture *f, const float *a, const float *b, int64_t i, int64_t t) {
  const op_step *s = &f->steps[0];
  int64_t first = i / s->group * s->group;
  double sum = 0;
  (void)t;
  for (int64_t k = first; k < first + s->group; k++) sum += (double)a[k] * (double)a[k];
  return (double)a[i] / sqrt(sum / s->group + (double)s->eps) * (double)b[i - first] * (double)s->scale;
}
static double f_silu(const fixture *f, const float *a, const float *b, int64_t i, int64_t t) {
  return (void)f, (void)t, (double)a[i] / (1 + exp(-(double)a[i])) * (double)b[i];
}
static double f_gelu(const fixture *f, const float *a, const float *b, int64_t i, int64_t t) {
  double x = (double)a[i];
  return (void)f, (void)t, 0.5 * x * (1 + tanh(0.79788456 * x * (1 + 0.044715 * x * x))) * (double)b[i];
}
static double f_cap(const fixture *f, const float *a, const float *b, int64_t i, int64_t t) {
  return (void)b, (void)t, (double)f->steps[0].scale * tanh((double)a[i] / (double)f->steps[0].scale);
}
static double f_rope(const fixture *f, const float *a, const float *b, int64_t i, int64_t t) {
  const op_step *s = &f->steps[0];
  int64_t in_head = i % s->head_dim, half = s->rope.n_rot / 2;
  const float *x = a + (i - in_head);
  (void)t;
  if (in_head >= s->rope.n_rot) return (double)a[i];
  int64_t k = s->rope.neox ? in_head % half : in_head / 2;
  bool second = s->rope.neox ? in_head >= half : in_head % 2;
  double p = (double)(s->rope.neox ? x[k] : x[2 * k]), q = (double)(s->rope.neox ? x[k + half] : x[2 * k + 1]);
  double c = (double)b[k], z = (double)b[half + k];
  return second ? p * z + q * c : p * c - q * z;
}

static const row_case row_cases[] = {
    {"add", {.op = OP_ADD}, ROW_B, f_add, 0},
    {"scale", {.op = OP_SCALE, .scale = 0.3f}, FIXED_B, f_scale, 0},
    {"rows", {.op = OP_ROWS}, NO_B, f_rows, 0},
    {"norm", {.op = OP_NORM, .group = 0, .eps = 1e-5f, .scale = 0.7f}, FIXED_B, f_norm, 1e-6},
    {"norm of heads", {.op = OP_NORM, .group = 40, .eps = 1e-5f, .scale = 1}, FIXED_B, f_norm, 1e-6},
    {"silu", {.op = OP_GLU, .act = OP_SILU}, ROW_B, f_silu, 1e-6},
    {"gelu", {.op = OP_GLU, .act = OP_GELU}, ROW_B, f_gelu, 1e-6},
    {"cap", {.op = OP_CAP, .scale = 0.5f}, NO_B, f_cap, 1e-6},
    {"rope", {.op = OP_ROPE, .head_dim = 40, .rope = {.n_rot = 32}}, ROW_B, f_rope, 1e-6},
    {"rope of halves", {.op = OP_ROPE, .head_dim = 40, .rope = {.n_rot = 38, .neox = true}}, ROW_B, f_rope, 1e-6},
};

/* dst value 0, x value 1, b value 2. */
static void make_rows(fixture *f, const row_case *c, int64_t cols, int n_tokens) {
  uint64_t seed = (uint64_t)cols * 31 + (uint64_t)n_tokens;
  bool rows = c->step.op == OP_ROWS;
  reset(f);
  add_value(f, rows ? OP_OUTPUTS : OP_TOKENS, QUANT_F32, cols, 3);
  add_value(f, OP_TOKENS, QUANT_F32, cols, 5);
  add_value(f, c->b == FIXED_B ? OP_FIXED : OP_TOKENS, QUANT_F32, cols, 0);
  f->steps[0] = c->step;
  if (c->step.op == OP_NORM && !c->step.group) f->steps[0].group = (int32_t)cols;
  f->steps[0].n_heads = (int32_t)(cols / 40);
  f->steps[0].dst = 0;
  f->steps[0].src[0] = 1;
  f->steps[0].src[1] = c->b == NO_B ? -1 : 2;
  f->steps[0].src[2] = f->steps[0].src[3] = -1;
  f->steps[0].sync = true;
  f->batch.n_tokens = n_tokens;
  f->batch.n_outputs = rows ? (n_tokens + 1) / 2 : 0;
  for (int i = 0; i < f->batch.n_outputs; i++) f->outputs[i] = 2 * i;
  f->scratch = aligned(f->scratch_bytes);
  float *x = (float *)(void *)f->scratch;
  for (size_t i = 0; i < f->scratch_bytes / 4; i++) x[i] = noise(&seed) * 3;
}

static void check_rows(const fixture *f, const row_case *c, int64_t cols, int n) {
  double worst = 0, largest = 0;
  for (int t = 0; t < n; t++)
    for (int64_t i = 0; i < cols; i++) {
      double want = c->formula(f, row_of(f, 1, t), row_of(f, 2, c->b == FIXED_B ? 0 : t), i, t);
      worst = fmax(worst, fabs(want - (double)row_of(f, 0, t)[i]));
      largest = fmax(largest, fabs(want));
    }
  if (!(worst <= c->within * largest)) fail_msg("%s, %d x %d: off by %g of %g", c->name, n, (int)cols, worst, largest);
}

static void row_ops_are_their_formulas_on_every_level(void **state) {
  static const int shapes[][2] = {{40, 1}, {40, 5}, {3160, 1}, {3160, 3}, {120, 96}}; /* columns, tokens */
  (void)state;
  for (size_t i = 0; i < COUNT_OF(row_cases) * COUNT_OF(shapes); i++) {
    const row_case *c = &row_cases[i / COUNT_OF(shapes)];
    const int *shape = shapes[i % COUNT_OF(shapes)];
    fixture f;
    make_rows(&f, c, shape[0], shape[1]);
    float *first = NULL;
    size_t extent = f.values[0].extent;
    for (int k = 0; k < 3 * (int)COUNT_OF(test_levels); k++) {
      device *d = open_level(test_levels[k / 3], k % 3 + 1);
      if (!d) continue;
      for (int t = 0; t < MAX_TOKENS; t++) memset(row_of(&f, 0, t), 0x7f, 4 * (size_t)shape[0]);
      run(&f, d);
      if (!first) {
        first = malloc(extent);
        memcpy(first, f.scratch, extent);
        check_rows(&f, c, shape[0], c->step.op == OP_ROWS ? f.batch.n_outputs : shape[1]);
      }
      if (memcmp(first, f.scratch, extent)) fail_msg("%s: level %s, %d threads: other bits", c->name, test_levels[k / 3], k % 3 + 1);
      cpu()->close(d);
    }
    free(first);
    free(f.scratch);
  }
}

static void quantised_rows_are_within_half_a_step(void **state) {
  (void)state;
  for (int type = 0; type < QUANT_TYPE_END; type++) {
    if (!quant_is_partner(type)) continue;
    fixture f;
    reset(&f);
    int dst = add_value(&f, OP_TOKENS, (quant_type)type, 4096, 0), x = add_value(&f, OP_TOKENS, QUANT_F32, 4096, 1);
    f.steps[0] = (op_step){.op = OP_QUANT, .dst = dst, .src = {x, -1, -1, -1}, .sync = true};
    f.batch.n_tokens = 3;
    f.scratch = aligned(f.scratch_bytes);
    uint64_t seed = 5;
    for (size_t i = 0; i < f.scratch_bytes / 4; i++) ((float *)(void *)f.scratch)[i] = noise(&seed);
    device *d = open_level(NULL, 2);
    run(&f, d);
    cpu()->close(d);
    float *y = malloc(sizeof(float) * 4096);
    for (int t = 0; t < 3; t++) {
      quant_table[type].decode(row_of(&f, dst, t), y, 4096);
      /* Noise is below 1: a step is at most the power of two above 1 / 127, and what A256 adds for its sums is less. */
      for (int i = 0; i < 4096; i++) assert_true(fabsf(y[i] - row_of(&f, x, t)[i]) <= 0.5f / 64);
    }
    free(y);
    free(f.scratch);
  }
}

static void embeddings_are_decoded_and_scaled(void **state) {
  (void)state;
  fixture f;
  reset(&f);
  int dst = add_value(&f, OP_TOKENS, QUANT_F32, 64, 2), w = add_value(&f, OP_TOKENS, QUANT_F32, 64, 0);
  f.values[w].by = OP_FIXED;
  f.steps[0] = (op_step){.op = OP_EMBED, .dst = dst, .src = {w, -1, -1, -1}, .scale = 1.5f, .sync = true};
  f.batch.n_tokens = 7;
  f.scratch = aligned(f.scratch_bytes);
  uint64_t seed = 9;
  for (size_t i = 0; i < f.scratch_bytes / 4; i++) ((float *)(void *)f.scratch)[i] = noise(&seed);
  for (int t = 0; t < 7; t++) f.ids[t] = t * 13;
  device *d = open_level(NULL, 2);
  run(&f, d);
  cpu()->close(d);
  for (int t = 0; t < 7; t++)
    for (int i = 0; i < 64; i++) assert_true(row_of(&f, dst, t)[i] == row_of(&f, w, 13 * t)[i] * 1.5f);
  free(f.scratch);
}

/* ---- angles --------------------------------------------------------------------------------------------------------- */

static double angle_of(const op_rope *r, const float *factors, int position, int i) {
  double theta = position * pow(r->base, -2.0 * i / r->n_rot) / (factors ? (double)factors[i] : 1);
  double ramp = (i - r->low) / fmax(0.001, r->high - r->low);
  ramp = r->yarn ? 1 - fmin(1, fmax(0, ramp)) : 0;
  return r->freq_scale * theta * (1 - ramp) + theta * ramp;
}

static void angles_are_those_of_libm(void **state) {
  static const op_rope ropes[] = {
      {.n_rot = 128, .base = 500000, .freq_scale = 1, .magnitude = 1},
      {.n_rot = 22, .base = 10000, .freq_scale = 0.25, .magnitude = 1},
      {.n_rot = 64, .base = 1e6, .freq_scale = 0.125, .magnitude = 1.2, .yarn = true, .low = 7, .high = 19},
      {.n_rot = 64, .base = 150000, .freq_scale = 0.03125, .magnitude = 1.35, .yarn = true, .low = 9, .high = 9},
  };
  (void)state;
  for (size_t k = 0; k < 2 * COUNT_OF(ropes); k++) {
    const op_rope *r = &ropes[k / 2];
    fixture f;
    reset(&f);
    int dst = add_value(&f, OP_TOKENS, QUANT_F32, r->n_rot, 1), factors = add_value(&f, OP_FIXED, QUANT_F32, r->n_rot / 2, 0);
    f.steps[0] = (op_step){.op = OP_ANGLES, .dst = dst, .src = {k % 2 ? factors : -1, -1, -1, -1}, .rope = *r, .sync = true};
    f.batch.n_tokens = MAX_TOKENS;
    f.scratch = aligned(f.scratch_bytes);
    for (int t = 0; t < MAX_TOKENS; t++) f.positions[t] = t < 64 ? t : (1 << (t - 64) * 27 / 32) - 1;
    for (int i = 0; i < r->n_rot / 2; i++) row_of(&f, factors, 0)[i] = 1 + (float)i;
    device *d = open_level(NULL, 2);
    run(&f, d);
    cpu()->close(d);
    for (int t = 0; t < MAX_TOKENS; t++)
      for (int i = 0; i < r->n_rot / 2; i++) {
        double a = angle_of(r, k % 2 ? row_of(&f, factors, 0) : NULL, f.positions[t], i);
        assert_true(fabs((double)row_of(&f, dst, t)[i] - cos(a) * r->magnitude) < 1e-7 * r->magnitude);
        assert_true(fabs((double)row_of(&f, dst, t)[r->n_rot / 2 + i] - sin(a) * r->magnitude) < 1e-7 * r->magnitude);
      }
    free(f.scratch);
  }
}

/* ---- refusals of steps ---------------------------------------------------------------------------------------------- */

static void expect_refusal(fixture *f, const char *operand, const char *words) {
  error err = {0};
  device *d = open_level("scalar", 1);
  assert_int_equal(cpu()->supports(d, &f->p, &f->steps[0], &err), TANDEM_ERROR_UNSUPPORTED);
  assert_string_equal(err.field, operand);
  if (!strstr(err.text, words)) fail_msg("'%s' does not say '%s'", err.text, words);
  cpu()->close(d);
}

static void steps_without_a_kernel_are_refused(void **state) {
  (void)state;
  fixture f;
  reset(&f);
  add_value(&f, OP_TOKENS, QUANT_F32, 256, 0);
  add_value(&f, OP_TOKENS, QUANT_F32, 256, 0);
  add_value(&f, OP_TOKENS, QUANT_Q2_K, 256, 0);
  add_value(&f, OP_TOKENS, QUANT_F16, 256, 0);
  f.steps[0] = (op_step){.op = OP_MM, .dst = 0, .src = {1, 2, -1, -1}};
  expect_refusal(&f, "w", "step 0 MM: w type is q2_K");
  f.steps[0] = (op_step){.op = OP_ADD, .dst = 0, .src = {1, 3, -1, -1}};
  expect_refusal(&f, "src 1", "step 0 ADD: src 1 type is f16");
  f.steps[0] = (op_step){.op = OP_NORM, .dst = 0, .src = {1, -1, -1, -1}, .group = 100};
  expect_refusal(&f, "dst", "is 56, must be 0");
  f.p.n_caches = 1;
  f.cache = (op_cache){.n_heads = 1, .k_dim = 256, .v_dim = 256, .k_type = QUANT_Q4_0, .v_type = QUANT_F16};
  f.steps[0] = (op_step){.op = OP_ATTEND, .dst = 0, .src = {1, -1, -1, -1}, .n_heads = 1};
  expect_refusal(&f, "K", "step 0 ATTEND: K type is q4_0");
  f.cache.k_type = QUANT_Q8_0;
  f.cache.k_dim = 80;
  expect_refusal(&f, "K", "is 16, must be 0");
}

static void a_batch_beyond_the_limit_is_refused(void **state) {
  (void)state;
  error err = {0};
  fixture f;
  make_rows(&f, &row_cases[0], 40, 1);
  device *d = open_level(NULL, 1);
  char *work = aligned(cpu()->work_bytes(d, &f.p));
  device_binding bind = {.scratch = f.scratch, .work = work};
  f.batch.n_tokens = MAX_TOKENS + 1;
  assert_int_equal(cpu()->run(d, &f.p, &bind, &f.batch, &err), TANDEM_ERROR_ARGUMENT);
  f.batch.n_tokens = 0;
  assert_int_equal(cpu()->run(d, &f.p, &bind, &f.batch, &err), TANDEM_ERROR_ARGUMENT);
  f.batch.n_tokens = 1;
  f.batch.n_outputs = -1;
  assert_int_equal(cpu()->run(d, &f.p, &bind, &f.batch, &err), TANDEM_ERROR_ARGUMENT);
  cpu()->close(d);
  free(work);
  free(f.scratch);
}

/* ---- attention ------------------------------------------------------------------------------------------------------ */

enum { POSITIONS = 600, SEQUENCES = 2, PAGES = 7 };

typedef struct attention {
  const char *name;
  int n_heads, n_kv, k_dim, v_dim, window;
  float cap;
  quant_type k_type, v_type;
  bool sinks;
} attention;

static const attention attentions[] = {
    {"grouped", 4, 2, 64, 64, 0, 0, QUANT_F16, QUANT_F16, false},
    {"one K/V head, 40 queries", 40, 1, 16, 16, 0, 0, QUANT_F32, QUANT_BF16, false},
    {"window", 6, 2, 32, 48, 100, 0, QUANT_BF16, QUANT_F16, false},
    {"window over blocks, soft cap", 2, 2, 32, 32, 300, 2, QUANT_Q8_0, QUANT_Q8_0, false},
    {"odd dimensions", 2, 1, 20, 24, 0, 0, QUANT_F16, QUANT_F32, false},
    {"pairs", 4, 1, 64, 64, 0, 0, QUANT_BF16, QUANT_BF16, false},
    {"pairs, odd dimensions, odd window", 3, 1, 37, 21, 77, 0, QUANT_BF16, QUANT_BF16, false},
    {"sinks", 6, 2, 32, 32, 300, 0, QUANT_F16, QUANT_Q8_0, true},
};

typedef struct story { /* what all runs are given, and what the first one found */
  const attention *a;
  float *q, *k, *v, *o; /* [sequence][position][head][dim] */
} story;

static float *numbers(size_t n, uint64_t seed) {
  float *x = malloc(n * sizeof *x);
  assert_non_null(x);
  for (size_t i = 0; i < n; i++) x[i] = 2 * noise(&seed);
  return x;
}

static story begin_story(const attention *a) {
  size_t rows = SEQUENCES * POSITIONS;
  return (story){a, numbers(rows * (size_t)(a->n_heads * a->k_dim), 1), numbers(rows * (size_t)(a->n_kv * a->k_dim), 2),
                 numbers(rows * (size_t)(a->n_kv * a->v_dim), 3), NULL};
}

static void end_story(story *s) {
  free(s->q);
  free(s->k);
  free(s->v);
  free(s->o);
}

/* Below, among and above the scores. */
static float sink_of(int head) { return 3.0f * (float)(head - 2); }

/* Values: 0 k, 1 v, 2 q, 3 result, 4 sinks; steps STORE and ATTEND. */
static void make_attention(fixture *f, const attention *a) {
  static const int32_t tables[SEQUENCES][3] = {{5, 2, 0}, {1, 6, 3}};
  reset(f);
  f->cache = (op_cache){.n_heads = a->n_kv,
                        .k_dim = a->k_dim,
                        .v_dim = a->v_dim,
                        .k_type = a->k_type,
                        .v_type = a->v_type,
                        .n_pages = PAGES,
                        .window = a->window};
  op_cache *c = &f->cache;
  c->k_block = size_align(256 * op_row_bytes(a->k_type, a->k_dim), 64);
  c->v_block = size_align(256 * op_row_bytes(a->v_type, a->v_dim), 64);
  c->k_page = c->k_block * (size_t)a->n_kv;
  c->v_page = c->v_block * (size_t)a->n_kv;
  c->v_offset = c->k_page * PAGES;
  f->p.n_caches = 1;
  f->store = aligned(c->v_offset + c->v_page * PAGES);
  memset(f->store, 0xff, c->v_offset + c->v_page * PAGES); /* NaN: cells that are not written are not read */
  add_value(f, OP_TOKENS, QUANT_F32, a->n_kv * a->k_dim, 1);
  add_value(f, OP_TOKENS, QUANT_F32, a->n_kv * a->v_dim, 2);
  add_value(f, OP_TOKENS, QUANT_F32, a->n_heads * a->k_dim, 3);
  add_value(f, OP_TOKENS, QUANT_F32, a->n_heads * a->v_dim, 5);
  f->steps[0] = (op_step){.op = OP_STORE, .dst = -1, .src = {0, 1, -1, -1}, .sync = true};
  f->steps[1] = (op_step){.op = OP_ATTEND,
                          .dst = 3,
                          .src = {2, -1, -1, -1},
                          .scale = 0.25f,
                          .softcap = a->cap,
                          .n_heads = a->n_heads,
                          .sync = true};
  f->p.n_steps = 2;
  if (a->sinks) f->steps[1].src[1] = add_value(f, OP_FIXED, QUANT_F32, a->n_heads, 0);
  f->scratch = aligned(f->scratch_bytes);
  for (int h = 0; h < a->n_heads && a->sinks; h++) row_of(f, 4, 0)[h] = sink_of(h);
  for (int i = 0; i < SEQUENCES; i++) f->tables[i] = tables[i];
  f->batch.tables[0] = f->tables;
}

/* Runs the next tokens of each sequence: n[s] of them from position at[s] on, in one order or the other. */
static void advance(fixture *f, device *d, const story *s, int *at, const int *n, bool backwards, float *o) {
  const int cols[] = {s->a->n_kv * s->a->k_dim, s->a->n_kv * s->a->v_dim, s->a->n_heads * s->a->k_dim,
                      s->a->n_heads * s->a->v_dim};
  const float *from[] = {s->k, s->v, s->q};
  int t = 0;
  for (int i = 0; i < SEQUENCES; i++) {
    int n_next = n[i] < POSITIONS - at[i] ? n[i] : POSITIONS - at[i];
    for (int k = 0; k < n_next; k++, t++) {
      f->positions[t] = backwards ? at[i] + n_next - 1 - k : at[i] + k;
      f->sequences[t] = i;
      size_t row = (size_t)(i * POSITIONS + f->positions[t]);
      for (int x = 0; x < 3; x++) memcpy(row_of(f, x, t), from[x] + row * (size_t)cols[x], sizeof(float) * (size_t)cols[x]);
    }
    at[i] += n_next;
  }
  if (!t) return;
  f->batch.n_tokens = t;
  run(f, d);
  for (int i = 0; i < t; i++)
    memcpy(o + (size_t)(f->sequences[i] * POSITIONS + f->positions[i]) * (size_t)cols[3], row_of(f, 3, i),
           sizeof(float) * (size_t)cols[3]);
}

/* As a block of that type will hold them. */
static float *rounded(const float *x, size_t n, quant_type type) {
  float *y = malloc(n * sizeof *y);
  void *blocks = malloc(quant_row_bytes(type, (int64_t)n));
  assert_true(y && blocks);
  quant_table[type].encode(x, blocks, (int64_t)n, NULL);
  quant_table[type].decode(blocks, y, (int64_t)n);
  free(blocks);
  return y;
}

/* One head of one token against double precision: how much further off it is than by the rounding of weights to bf16, which BF16
 * values are multiplied by. q is as the keys meet it. */
static double worst_of_head(const story *s, const float *q_rows, const float *k, const float *v, int i_seq, int position, int head) {
  const attention *a = s->a;
  int group = a->n_heads / a->n_kv, kv = head / group,
      first = a->window && position >= a->window ? position - a->window + 1 : 0;
  const float *q = q_rows + ((size_t)(i_seq * POSITIONS + position) * (size_t)a->n_heads + (size_t)head) * (size_t)a->k_dim;
  const float *o = s->o + ((size_t)(i_seq * POSITIONS + position) * (size_t)a->n_heads + (size_t)head) * (size_t)a->v_dim;
  double p[POSITIONS], sum = a->sinks ? exp((double)sink_of(head)) : 0, worst = 0;
  for (int j = first; j <= position; j++) {
    const float *row = k + ((size_t)(i_seq * POSITIONS + j) * (size_t)a->n_kv + (size_t)kv) * (size_t)a->k_dim;
    double x = 0;
    for (int d = 0; d < a->k_dim; d++) x += (double)q[d] * (double)row[d];
    x *= 0.25;
    p[j] = exp(a->cap > 0 ? (double)a->cap * tanh(x / (double)a->cap) : x);
    sum += p[j];
  }
  for (int d = 0; d < a->v_dim; d++) {
    double x = 0, size = 0;
    for (int j = first; j <= position; j++) {
      double term = p[j] * (double)v[((size_t)(i_seq * POSITIONS + j) * (size_t)a->n_kv + (size_t)kv) * (size_t)a->v_dim + (size_t)d];
      x += term;
      size += fabs(term);
    }
    worst = fmax(worst, fabs(x / sum - (double)o[d]) - (a->v_type == QUANT_BF16 ? 0x1p-8 * size / sum : 0));
  }
  return worst;
}

static void check_story(const story *s) {
  const attention *a = s->a;
  float *q = rounded(s->q, (size_t)(SEQUENCES * POSITIONS * a->n_heads * a->k_dim), a->k_type == QUANT_BF16 ? QUANT_BF16 : QUANT_F32);
  float *k = rounded(s->k, (size_t)(SEQUENCES * POSITIONS * a->n_kv * a->k_dim), a->k_type);
  float *v = rounded(s->v, (size_t)(SEQUENCES * POSITIONS * a->n_kv * a->v_dim), a->v_type);
  for (int i = 0; i < SEQUENCES; i++)
    for (int position = 0; position<POSITIONS; position += position % 256> 250 || position < 4 ? 1 : 31)
      for (int head = 0; head < a->n_heads; head += 1 + a->n_heads / 8) {
        double worst = worst_of_head(s, q, k, v, i, position, head);
        if (!(worst < 1e-5)) fail_msg("%s: sequence %d, position %d, head %d: off by %g", a->name, i, position, head, worst);
      }
  free(q);
  free(k);
  free(v);
}

/* Ways to cut the sequences into batches: tokens of each in turn; the last columns are for the end. */
static const struct cut {
  int n[SEQUENCES], last[SEQUENCES];
  bool backwards;
} cuts[] = {
    {{MAX_TOKENS, 0}, {MAX_TOKENS, 0}, false}, {{37, 59}, {5, 8}, false}, {{48, 48}, {1, 1}, false}, {{31, 8}, {3, 2}, true}};

static void tell(story *s, const char *level, int n_threads, const struct cut *cut) {
  size_t n = (size_t)(SEQUENCES * POSITIONS * s->a->n_heads * s->a->v_dim);
  int at[SEQUENCES] = {0};
  device *d = open_level(level, n_threads);
  if (!d) return;
  fixture f;
  make_attention(&f, s->a);
  float *o = numbers(n, 7);
  while (at[0] < POSITIONS || at[1] < POSITIONS) {
    const int *next = at[0] < POSITIONS - 30 ? cut->n : cut->last;
    const int alone[SEQUENCES] = {0, MAX_TOKENS};
    advance(&f, d, s, at, at[0] < POSITIONS ? next : alone, cut->backwards, o);
  }
  if (!s->o) {
    s->o = o;
    check_story(s);
  } else {
    if (memcmp(s->o, o, n * sizeof *o))
      fail_msg("%s: level %s, %d threads, cut %d: other bits", s->a->name, level, n_threads, (int)(cut - cuts));
    free(o);
  }
  cpu()->close(d);
  free(f.store);
  free(f.scratch);
}

static void attention_has_the_same_bits_however_it_is_cut(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT_OF(attentions); i++) {
    story s = begin_story(&attentions[i]);
    for (size_t c = 0; c < COUNT_OF(cuts); c++)
      for (int k = 1; k < (int)COUNT_OF(test_levels); k++)
        for (int n_threads = 1; n_threads <= 3; n_threads++) tell(&s, test_levels[k], n_threads, &cuts[c]);
    tell(&s, "scalar", 2, &cuts[1]);
    end_story(&s);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(devices_are_found_by_name),
      cmocka_unit_test(a_level_is_chosen_by_name),
      cmocka_unit_test(an_unknown_level_is_refused_with_those_there_are),
      cmocka_unit_test(no_threads_are_refused),
      cmocka_unit_test(row_ops_are_their_formulas_on_every_level),
      cmocka_unit_test(quantised_rows_are_within_half_a_step),
      cmocka_unit_test(embeddings_are_decoded_and_scaled),
      cmocka_unit_test(angles_are_those_of_libm),
      cmocka_unit_test(steps_without_a_kernel_are_refused),
      cmocka_unit_test(a_batch_beyond_the_limit_is_refused),
      cmocka_unit_test(attention_has_the_same_bits_however_it_is_cut),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
