/* bench_rows: the rows of a benchmark: names of tests, order, medians of several runs. */
#include "cli/bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const bench_test_names[BENCH_TESTS] = {[BENCH_PROMPT] = "prompt", [BENCH_DECODE] = "decode", [BENCH_VERIFY] = "verify"};
const char *const bench_roof_names[TANDEM_CEILINGS] = {
    [TANDEM_CEILING_READ] = "read", [TANDEM_CEILING_INT8] = "int8", [TANDEM_CEILING_F32] = "f32", [TANDEM_CEILING_BF16] = "bf16"};

#define NUMBER(member, by_roof) {#member, offsetof(bench_row, member), by_roof}
const bench_number bench_numbers[BENCH_NUMBERS] = {
    NUMBER(tokens_per_second, false), NUMBER(of_roof, false), NUMBER(with_attention, false), NUMBER(gb_per_second, true),
    NUMBER(tops, true),               NUMBER(ceiling, true),  NUMBER(cost, false),           NUMBER(roof_cost, false),
};

double *bench_number_of(const bench_row *r, int i) { return (double *)(void *)((char *)(uintptr_t)r + bench_numbers[i].at); }

status bench_rows_add(bench_rows *rows, const bench_row *row, error *err) {
  if (rows->n == rows->capacity) {
    size_t more = rows->capacity ? 2 * rows->capacity : 32;
    TRY(base_realloc((void **)&rows->v, rows->capacity * sizeof *row, more * sizeof *row, "rows of the benchmark", err));
    rows->capacity = more;
  }
  rows->v[rows->n++] = *row;
  return TANDEM_OK;
}

void bench_rows_free(bench_rows *rows) {
  base_free(rows->v);
  arena_close(rows->names);
  *rows = (bench_rows){0};
}

const char *bench_row_text(const bench_row *r, char out[64]) {
  int n = snprintf(out, 64, "%s %" PRId64, bench_test_names[r->test], r->n);
  if (r->depth) snprintf(out + n, 64 - (size_t)n, " @ %" PRId64, r->depth);
  return out;
}

double bench_roof_share(const bench_row *r) { return r->with_attention > 0 ? r->with_attention : r->of_roof; }

double bench_roof_speed(const bench_row *r) { return bench_roof_share(r) > 0 ? r->tokens_per_second / bench_roof_share(r) : 0; }

/* ---- order ---------------------------------------------------------------------------------------------------------- */

/* 0 for the rows of one test. */
static int compare(const void *x, const void *y) {
  const bench_row *a = x, *b = y;
  int names = strcmp(a->model, b->model), types = strcmp(a->type, b->type);
  if (a->n_params != b->n_params) return a->n_params < b->n_params ? -1 : 1;
  if (names || types) return names ? names : types;
  if (a->threads != b->threads) return a->threads < b->threads ? -1 : 1;
  if (a->test != b->test) return a->test < b->test ? -1 : 1;
  if (a->n != b->n) return a->n < b->n ? -1 : 1;
  return (a->depth > b->depth) - (a->depth < b->depth);
}

bool bench_same_model(const bench_row *a, const bench_row *b) {
  return !strcmp(a->model, b->model) && !strcmp(a->type, b->type) && a->n_params == b->n_params;
}

bool bench_same_test(const bench_row *a, const bench_row *b) { return a->test == b->test && a->n == b->n && a->depth == b->depth; }

/* The first of n rows gets the median of each number that is known. */
static void merge(bench_row *first, size_t n, double *values) {
  for (int k = 0; k < BENCH_NUMBERS; k++) {
    size_t known = 0;
    for (size_t i = 0; i < n; i++) {
      bool fits = !bench_numbers[k].by_roof || first[i].roof == first->roof;
      if (fits && *bench_number_of(&first[i], k) > 0) values[known++] = *bench_number_of(&first[i], k);
    }
    if (known) *bench_number_of(first, k) = cli_median(values, known);
  }
}

status bench_rows_merge(bench_rows *rows, error *err) {
  void *values;
  size_t kept = 0;
  if (rows->n) qsort(rows->v, rows->n, sizeof *rows->v, compare);
  TRY(base_alloc_array(&values, rows->n, sizeof(double), "medians", err));
  for (size_t i = 0, n; i < rows->n; i += n) {
    for (n = 1; i + n < rows->n && compare(&rows->v[i], &rows->v[i + n]) == 0;) n++;
    merge(&rows->v[i], n, values);
    rows->v[kept++] = rows->v[i];
  }
  rows->n = kept;
  base_free(values);
  return TANDEM_OK;
}

status bench_rows_ceilings(bench_rows *rows, error *err) {
  void *memory;
  int64_t threads = 0;
  TRY(base_alloc_array(&memory, rows->n, sizeof(double), "medians", err));
  for (size_t i = 0; i < rows->n; i++)
    if (rows->v[i].threads > threads) threads = rows->v[i].threads;
  for (int roof = 0; roof < TANDEM_CEILINGS; roof++) {
    double *values = memory;
    size_t n = 0;
    for (size_t i = 0; i < rows->n; i++) {
      const bench_row *r = &rows->v[i];
      if ((int)r->roof == roof && r->threads == threads && r->ceiling > 0) values[n++] = r->ceiling;
    }
    if (n) rows->ceilings[roof] = cli_median(values, n) * (roof == TANDEM_CEILING_READ ? 1e9 : 1e12);
  }
  base_free(memory);
  return TANDEM_OK;
}
