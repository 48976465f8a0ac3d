/* bench: what the parts of 'tandem bench' tell each other. A row is one test with all that was found out about it; rows come from
 * measuring (bench.c, bench_time.c) or from files (bench_read.c), and go into a table or JSON (bench_out.c) or a picture
 * (bench_plot.c). */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli/cli.h"

typedef enum bench_test { BENCH_PROMPT, BENCH_DECODE, BENCH_VERIFY, BENCH_TESTS } bench_test;
extern const char *const bench_test_names[BENCH_TESTS];
extern const char *const bench_roof_names[TANDEM_CEILINGS];

/* A number that was not measured is 0. */
typedef struct bench_row {
  const char *model, *type; /* name of its file, type of most of its weights; "" = not known. Borrowed */
  uint64_t n_params;
  int64_t threads;
  bench_test test;
  int64_t n, depth;          /* tokens; tokens in the context before them */
  double tokens_per_second;
  tandem_ceiling roof;       /* which one it is held against */
  double of_roof;            /* share */
  double with_attention;     /* of a prompt or pass: share of the roof that counts attention too */
  double gb_per_second, tops;/* what the roof counts: the one or the other */
  double ceiling;            /* the roof beside the test, in the same unit */
  double cost, roof_cost;    /* of a pass: in times of one token; what the roofs with attention make of it */
} bench_row;

/* The members of a row that are measured: written, read and merged by this table. */
typedef struct bench_number {
  const char *key;
  size_t at;
  bool by_roof; /* in the unit of the roof: not to be merged with that of a run which met another */
} bench_number;
enum { BENCH_NUMBERS = 8 };
extern const bench_number bench_numbers[BENCH_NUMBERS];
double *bench_number_of(const bench_row *r, int i);

typedef struct bench_rows {
  bench_row *v; /* owned */
  size_t n, capacity;
  arena *names; /* owned; what the rows borrow, if they come from a file */
  const char *cpu;
  double ceilings[TANDEM_CEILINGS]; /* a second; 0 = not measured */
} bench_rows;

/* ---- bench_rows.c ------------------------------------------------------------------------------------------------- */

status bench_rows_add(bench_rows *rows, const bench_row *row, error *err);
void bench_rows_free(bench_rows *rows);
/* Sorts by model (size, name), threads, test, n, depth; rows of the same test become one with the medians of their numbers. */
status bench_rows_merge(bench_rows *rows, error *err);
bool bench_same_model(const bench_row *a, const bench_row *b);
bool bench_same_test(const bench_row *a, const bench_row *b); /* on whatever model and threads */
/* Share of the roof that grows with the depth, and the tokens a second it allows; 0 = not known. */
double bench_roof_share(const bench_row *r);
double bench_roof_speed(const bench_row *r);
/* Fills ceilings from the rows with most threads, where they have them: medians. */
status bench_rows_ceilings(bench_rows *rows, error *err);
/* "prompt 512 @ 2048" */
const char *bench_row_text(const bench_row *r, char out[64]);

/* ---- bench_time.c: one model on so many threads -------------------------------------------------------------------- */

typedef struct bench_run bench_run;

/* Opens it for contexts of n_context tokens and passes over up to n_rows. `planned` is of an engine that was planned only. */
status bench_run_open(bench_run **r, const cli_options *o, const tandem_engine_info *planned, int64_t n_context, int64_t n_rows, error *err);
void bench_run_close(bench_run *r); /* NULL is allowed */
const tandem_engine_info *bench_run_info(const bench_run *r);
/* Evaluates the context; tests go on from it. */
status bench_run_depth(bench_run *r, int64_t depth);
/* BENCH_PROMPT or BENCH_DECODE of row->n tokens; fills the numbers of the row. */
status bench_run_tokens(bench_run *r, bench_row *row);
/* Passes over rows[i].n tokens each; fills the numbers. */
status bench_run_passes(bench_run *r, bench_row *rows, int n);
/* What the machine can do, a second. */
status bench_run_ceiling(bench_run *r, tandem_ceiling what, double *per_second);
/* Share of the slices of ceilings in which something else took a thread away. */
double bench_run_disturbed(const bench_run *r);

/* ---- bench_read.c, bench_out.c, bench_plot.c ----------------------------------------------------------------------- */

/* Appends the tests of a file: what bench --json wrote, or llama-bench or llama-batched-bench as JSON or JSON lines. */
status bench_read(bench_rows *to, const char *path, error *err);

/* Somebody else's rows, to be compared with. */
typedef struct bench_peer {
  const char *name; /* borrowed */
  bench_rows rows;
} bench_peer;

/* Their speed in our test (the median if they did it several times); 0 = they did not do it. */
double bench_peer_speed(const bench_peer *p, const bench_row *ours);
void bench_table(const bench_rows *rows, const bench_peer *peers, int n_peers);
status bench_json(const bench_rows *rows, const bench_peer *peers, int n_peers, double disturbed, error *err);
status bench_plot(const bench_rows *rows, const char *path, error *err);

#endif
