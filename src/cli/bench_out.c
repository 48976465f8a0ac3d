/* bench_out: the rows of a benchmark as a table and as JSON. */
#include "cli/bench.h"

#include <stdio.h>
#include <string.h>

enum { CELL = 160 };
/* Of speeds that are held against a roof. */
static const char *unit_of(int roof) { return roof == TANDEM_CEILING_READ ? "GB/s" : "TOP/s"; }

/* ---- what rows say about each other --------------------------------------------------------------------------------- */

/* The same test at the least depth. */
static const bench_row *shallowest(const bench_rows *rows, const bench_row *r) {
  while (r > rows->v && bench_same_model(r - 1, r) && r[-1].threads == r->threads && r[-1].test == r->test && r[-1].n == r->n) r--;
  return r;
}

/* The same test on as many threads; of several models the one whose weights are nearest in number (some count a tied head twice),
 * and whose type is the same if both say it. */
double bench_peer_speed(const bench_peer *p, const bench_row *ours) {
  double speed = 0, nearest = 2;
  for (size_t i = 0; i < p->rows.n; i++) {
    const bench_row *r = &p->rows.v[i];
    double ratio = ours->n_params && r->n_params ? (double)r->n_params / (double)ours->n_params : 1;
    if (ratio < 1) ratio = 1 / ratio;
    if (!bench_same_test(r, ours) || (r->threads && r->threads != ours->threads) || ratio >= nearest) continue;
    if (*r->type && *ours->type && strcmp(r->type, ours->type) != 0) continue;
    nearest = ratio;
    speed = r->tokens_per_second;
  }
  return speed;
}

/* ---- table ---------------------------------------------------------------------------------------------------------- */

static bool models_differ(const bench_rows *rows, const bench_row *r) { return !bench_same_model(rows->v, r); }
static bool threads_differ(const bench_rows *rows, const bench_row *r) { return rows->v->threads != r->threads; }
static bool always(const bench_rows *rows, const bench_row *r) { return rows && r; }
static bool has_roof(const bench_rows *rows, const bench_row *r) { return rows && r->of_roof > 0; }
static bool has_rate(const bench_rows *rows, const bench_row *r) { return rows && r->gb_per_second + r->tops > 0; }
static bool has_attention(const bench_rows *rows, const bench_row *r) { return rows && r->with_attention > 0; }
static bool has_cost(const bench_rows *rows, const bench_row *r) { return rows && r->cost > 0; }
static bool has_depths(const bench_rows *rows, const bench_row *r) { return shallowest(rows, r) != r; }

static void print_model(const bench_rows *rows, const bench_row *r, char out[CELL]) { (void)rows, text_escape(out, CELL, r->model, strlen(r->model)); }
static void print_threads(const bench_rows *rows, const bench_row *r, char out[CELL]) { (void)rows, snprintf(out, CELL, "%d", (int)r->threads); }
static void print_test(const bench_rows *rows, const bench_row *r, char out[CELL]) { (void)rows, bench_row_text(r, out); }
static void print_speed(const bench_rows *rows, const bench_row *r, char out[CELL]) { (void)rows, snprintf(out, CELL, "%.1f", r->tokens_per_second); }
static void print_share(const bench_rows *rows, const bench_row *r, char out[CELL]) { (void)rows, snprintf(out, CELL, "%.1f%%", 100 * r->of_roof); }
static void print_attention(const bench_rows *rows, const bench_row *r, char out[CELL]) { (void)rows, snprintf(out, CELL, "%.1f%%", 100 * r->with_attention); }
static void print_cost(const bench_rows *rows, const bench_row *r, char out[CELL]) { (void)rows, snprintf(out, CELL, "%.2f", r->cost); }

static void print_rate(const bench_rows *rows, const bench_row *r, char out[CELL]) {
  (void)rows;
  bool read = r->roof == TANDEM_CEILING_READ;
  snprintf(out, CELL, read ? "%.2f %s" : "%.3f %s", read ? r->gb_per_second : r->tops, unit_of((int)r->roof));
}

static void print_roof_cost(const bench_rows *rows, const bench_row *r, char out[CELL]) {
  (void)rows;
  if (r->roof_cost > 0) snprintf(out, CELL, "%.2f", r->roof_cost);
}

static void print_time(const bench_rows *rows, const bench_row *r, char out[CELL]) {
  snprintf(out, CELL, "%.2f", shallowest(rows, r)->tokens_per_second / r->tokens_per_second);
}

static void print_roof_time(const bench_rows *rows, const bench_row *r, char out[CELL]) {
  double roof = bench_roof_speed(r), first = bench_roof_speed(shallowest(rows, r));
  if (roof > 0 && first > 0) snprintf(out, CELL, "%.2f", first / roof);
}

/* A column is there if one row has something for it; a row that has not shows "-". */
static const struct column {
  const char *title;
  bool left;
  bool (*has)(const bench_rows *rows, const bench_row *r);
  bool (*fills)(const bench_rows *rows, const bench_row *r);
  void (*print)(const bench_rows *rows, const bench_row *r, char out[CELL]);
} columns[] = {
    {"model", true, models_differ, always, print_model},
    {"threads", false, threads_differ, always, print_threads},
    {"test", true, always, always, print_test},
    {"tokens/s", false, always, always, print_speed},
    {"of roof", false, has_roof, has_roof, print_share},
    {"+attention", false, has_attention, has_attention, print_attention},
    {"rate", false, has_rate, has_rate, print_rate},
    {"cost", false, has_cost, has_cost, print_cost},
    {"roof cost", false, has_cost, has_cost, print_roof_cost},
    {"time x", false, has_depths, always, print_time},
    {"roof x", false, has_depths, always, print_roof_time},
};
enum { COLUMNS = COUNT_OF(columns), MAX_COLUMNS = COLUMNS + 2 * CLI_LIST };

/* Column i of the table: one of the above, then two for each peer. */
static bool has_column(const bench_rows *rows, int i) {
  if (i >= (int)COLUMNS) return true;
  for (size_t k = 0; k < rows->n; k++)
    if (columns[i].has(rows, &rows->v[k])) return true;
  return false;
}

static const char *title_of(const bench_peer *peers, int i) {
  if (i < (int)COLUMNS) return columns[i].title;
  return (i - (int)COLUMNS) % 2 ? "ratio" : peers[(i - (int)COLUMNS) / 2].name;
}

static void print_cell(const bench_rows *rows, const bench_peer *peers, int i, const bench_row *r, char out[CELL]) {
  snprintf(out, CELL, "-");
  if (i < (int)COLUMNS) {
    if (columns[i].fills(rows, r)) columns[i].print(rows, r, out);
    return;
  }
  double speed = bench_peer_speed(&peers[(i - (int)COLUMNS) / 2], r);
  if (speed <= 0) return;
  if ((i - (int)COLUMNS) % 2) snprintf(out, CELL, "%.2f", r->tokens_per_second / speed);
  else snprintf(out, CELL, "%.1f", speed);
}

static void write_ceilings(const bench_rows *rows) {
  const char *before = "\nceilings: ";
  for (int i = 0; i < TANDEM_CEILINGS; i++, before = ", ") {
    bool read = i == TANDEM_CEILING_READ;
    if (rows->ceilings[i] > 0) printf("%s%s %.*f %s", before, bench_roof_names[i], read ? 1 : 3, rows->ceilings[i] / (read ? 1e9 : 1e12), unit_of(i));
  }
  printf("\nroofs: of a prompt the arithmetic of its weights, of decode reading weights, keys and values, of a pass to verify the slower of both;\n"
         "+attention: and the arithmetic of attention. x: the time of a token over that at the least depth, and that of the roof\n");
}

void bench_table(const bench_rows *rows, const bench_peer *peers, int n_peers) {
  int n_columns = (int)COLUMNS + 2 * n_peers, widths[MAX_COLUMNS] = {0};
  char cell[CELL];
  for (int i = 0; i < n_columns; i++) {
    widths[i] = has_column(rows, i) ? (int)strlen(title_of(peers, i)) : -1;
    for (size_t k = 0; k < rows->n && widths[i] >= 0; k++) {
      print_cell(rows, peers, i, &rows->v[k], cell);
      if ((int)strlen(cell) > widths[i]) widths[i] = (int)strlen(cell);
    }
  }
  for (size_t k = 0; k <= rows->n; k++) { /* the titles first */
    const char *gap = "";
    for (int i = 0; i < n_columns; i++) {
      if (widths[i] < 0) continue;
      if (k) print_cell(rows, peers, i, &rows->v[k - 1], cell);
      else snprintf(cell, sizeof cell, "%s", title_of(peers, i));
      printf("%s%*s", gap, i < (int)COLUMNS && columns[i].left ? -widths[i] : widths[i], cell);
      gap = "  ";
    }
    putchar('\n');
  }
  write_ceilings(rows);
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static void json_numbers(json *j, const bench_row *r) {
  for (int i = 0; i < BENCH_NUMBERS; i++)
    if (*bench_number_of(r, i) > 0) json_put_double(j, bench_numbers[i].key, *bench_number_of(r, i));
}

/* The first test of a kind, as older versions wrote the only one. */
static void json_first(json *j, const bench_rows *rows, const char *key, bench_test test) {
  size_t i = 0;
  while (i < rows->n && rows->v[i].test != test) i++;
  if (i == rows->n) {
    json_put_null(j, key);
    return;
  }
  const bench_row *r = &rows->v[i];
  json_put_object(j, key);
  json_put_int(j, "tokens", r->n);
  json_numbers(j, r);
  json_put_end_object(j);
}

/* Passes of the first model at the first depth. */
static void json_verify(json *j, const bench_rows *rows) {
  const bench_row *first = NULL;
  json_put_array(j, "verify");
  for (size_t i = 0; i < rows->n; i++) {
    const bench_row *r = &rows->v[i];
    if (r->test != BENCH_VERIFY) continue;
    if (!first) first = r;
    if (!bench_same_model(r, first) || r->threads != first->threads || r->depth != first->depth) continue;
    json_put_object(j, NULL);
    json_put_int(j, "n", r->n);
    json_numbers(j, r);
    json_put_end_object(j);
  }
  json_put_end_array(j);
}

static void json_peers(json *j, const bench_row *r, const bench_peer *peers, int n_peers) {
  json_put_array(j, "peers");
  for (int i = 0; i < n_peers; i++) {
    double speed = bench_peer_speed(&peers[i], r);
    if (speed <= 0) continue;
    json_put_object(j, NULL);
    json_put_string(j, "name", peers[i].name, strlen(peers[i].name));
    json_put_double(j, "tokens_per_second", speed);
    json_put_double(j, "ratio", r->tokens_per_second / speed);
    json_put_end_object(j);
  }
  json_put_end_array(j);
}

static void json_tests(json *j, const bench_rows *rows, const bench_peer *peers, int n_peers) {
  json_put_array(j, "tests");
  for (size_t i = 0; i < rows->n; i++) {
    const bench_row *r = &rows->v[i];
    json_put_object(j, NULL);
    json_put_string(j, "model", r->model, strlen(r->model));
    json_put_string(j, "type", r->type, strlen(r->type));
    json_put_uint(j, "n_params", r->n_params);
    json_put_int(j, "threads", r->threads);
    json_put_string(j, "test", bench_test_names[r->test], strlen(bench_test_names[r->test]));
    json_put_int(j, "n", r->n);
    json_put_int(j, "depth", r->depth);
    json_put_string(j, "roof", bench_roof_names[r->roof], strlen(bench_roof_names[r->roof]));
    json_numbers(j, r);
    if (n_peers) json_peers(j, r, peers, n_peers);
    json_put_end_object(j);
  }
  json_put_end_array(j);
}

status bench_json(const bench_rows *rows, const bench_peer *peers, int n_peers, double disturbed, error *err) {
  json j;
  const char *cpu = rows->cpu ? rows->cpu : "";
  json_open(&j, false, err);
  json_put_object(&j, NULL);
  json_first(&j, rows, "prefill", BENCH_PROMPT);
  json_first(&j, rows, "decode", BENCH_DECODE);
  json_verify(&j, rows);
  json_put_object(&j, "ceilings");
  json_put_double(&j, "read_gb_per_second", rows->ceilings[TANDEM_CEILING_READ] / 1e9);
  json_put_double(&j, "int8_tops", rows->ceilings[TANDEM_CEILING_INT8] / 1e12);
  json_put_double(&j, "f32_gflops", rows->ceilings[TANDEM_CEILING_F32] / 1e9);
  json_put_double(&j, "bf16_gflops", rows->ceilings[TANDEM_CEILING_BF16] / 1e9);
  json_put_end_object(&j);
  json_put_double(&j, "disturbed", disturbed);
  json_put_int(&j, "threads", rows->v[rows->n - 1].threads);
  json_put_string(&j, "cpu", cpu, strlen(cpu));
  json_tests(&j, rows, peers, n_peers);
  json_put_end_object(&j);
  return cli_json_out(&j);
}
