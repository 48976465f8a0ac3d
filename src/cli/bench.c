/* tandem bench: speed, held against roofs measured between the stretches of the same run.
 *
 *   prefill roof   2 (n (macs - head) + head) operations for n tokens: every multiply-add of weights is two; the head
 *                  (n_embd x n_vocab) is needed for the last token only. The peak is that of int8, or that of f32 if the
 *                  weights take two bytes or more each.
 *   decode roof    the bytes of weights read for a token, at the speed of reading memory
 *   cost           time of one pass over n tokens with all their logits / time of one token
 *
 * Memory and clock of a shared machine change within seconds, so nothing is compared with another minute:
 *   ceiling, stretch, ceiling, stretch, .. ceiling   a stretch's share is of the mean of the ceilings on its two sides
 *   1, 2, 1, 4, 1, 8, 1, 16, 1, ..                   a pass's cost is in the mean of the single ones on its two sides
 * What is reported are medians: of speeds, of shares, of ceilings, of costs. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERIFY_DEPTH = 32, VERIFY_ROWS = 16, MIN_ROUNDS = 5, MAX_ROUNDS = 200, MIN_STRETCHES = 5, MAX_STRETCHES = 4096, COUNT_VERIFY = 4, CEILINGS = 3 };
static const double verify_seconds = 3;      /* rounds of passes are repeated for this long, so that medians settle */
static const double stretch_seconds = 0.02;  /* at least: what a ceiling drove out of the caches is then no matter */
static const double ceiling_seconds = 0.005; /* at least */
static const int verify_rows[COUNT_VERIFY] = {2, 4, 8, 16};

/* What stretches came to: medians. */
typedef struct speed {
  double tokens_per_second, of_roof;
} speed;

typedef struct bench {
  const cli_options *o;
  tandem_engine *engine;
  tandem_session *session;
  tandem_engine_info info;
  int32_t *ids;                        /* random, enough for everything */
  float *rows;                         /* [VERIFY_ROWS][n_vocab] */
  double rates[MAX_STRETCHES], shares[MAX_STRETCHES], roofs[MAX_STRETCHES + 1];
  int64_t at;                          /* tokens of the session, decoding token by token */
  speed prefill, decode;
  double verify[COUNT_VERIFY];         /* median seconds of a pass */
  double cost[COUNT_VERIFY];
  double ceilings[CEILINGS];           /* by tandem_ceiling, a second; 0: not yet measured */
  error *err;
} bench;

static status stopped(const bench *b) {
  return cli_interrupted() ? base_fail(b->err, TANDEM_ERROR_CANCELLED, NULL, "stopped") : TANDEM_OK;
}

/* Work for stretch_seconds: whole prompts, or tokens one by one, n and then from the start again. */
static status run_stretch(bench *b, int64_t n, bool at_once, int64_t *n_done, double *tokens_per_second) {
  double start = os_seconds(), taken;
  int64_t done = 0;
  do {
    TRY(stopped(b));
    if (at_once || b->at >= n) {
      TRY(tandem_session_truncate(b->session, 0, b->err));
      b->at = 0;
    }
    int64_t many = at_once ? n : 1;
    TRY(tandem_session_decode(b->session, b->ids + b->at, many, NULL, NULL, b->err));
    b->at += many;
    done += many;
    taken = os_seconds() - start;
  } while (taken < stretch_seconds);
  *n_done += done;
  *tokens_per_second = (double)done / taken;
  return TANDEM_OK;
}

static status measure_ceiling(bench *b, tandem_ceiling what, double *per_second) {
  TRY(stopped(b));
  return tandem_measure_ceiling(b->engine, what, ceiling_seconds, per_second, b->err);
}

/* Ceilings and stretches by turns until n tokens were timed as often as the options say. work: bytes or operations that a
 * token needs. */
static status time_tokens(bench *b, int64_t n, bool at_once, tandem_ceiling what, double work, speed *to) {
  int64_t done = 0, wanted = n * b->o->repetitions;
  size_t i = 0;
  TRY(tandem_session_truncate(b->session, b->at = 0, b->err));
  TRY(run_stretch(b, n, at_once, &done, &b->rates[0])); /* warms up */
  TRY(measure_ceiling(b, what, &b->roofs[0]));
  for (done = 0; i < MAX_STRETCHES && (i < MIN_STRETCHES || done < wanted); i++) {
    TRY(run_stretch(b, n, at_once, &done, &b->rates[i]));
    TRY(measure_ceiling(b, what, &b->roofs[i + 1]));
    b->shares[i] = b->rates[i] * work / ((b->roofs[i] + b->roofs[i + 1]) / 2);
  }
  *to = (speed){.tokens_per_second = cli_median(b->rates, i), .of_roof = cli_median(b->shares, i)};
  b->ceilings[what] = cli_median(b->roofs, i + 1);
  return TANDEM_OK;
}

/* One pass over n tokens behind the same few, with all logits. */
static status time_pass(bench *b, int n, double *seconds) {
  TRY(stopped(b));
  double start = os_seconds();
  TRY(tandem_session_decode_all(b->session, b->ids + VERIFY_DEPTH, n, b->rows, b->err));
  *seconds = os_seconds() - start;
  return tandem_session_truncate(b->session, VERIFY_DEPTH, b->err);
}

static status time_passes(bench *b) {
  double seconds[COUNT_VERIFY][MAX_ROUNDS], costs[COUNT_VERIFY][MAX_ROUNDS], before, after, end;
  size_t r = 0;
  TRY(tandem_session_sync(b->session, b->ids, VERIFY_DEPTH, NULL, NULL, b->err));
  TRY(time_pass(b, VERIFY_ROWS, &before)); /* warms up */
  TRY(time_pass(b, 1, &before));
  end = os_seconds() + verify_seconds;
  for (; r < MAX_ROUNDS && (r < MIN_ROUNDS || os_seconds() < end); r++) {
    for (int i = 0; i < COUNT_VERIFY; i++, before = after) {
      TRY(time_pass(b, verify_rows[i], &seconds[i][r]));
      TRY(time_pass(b, 1, &after));
      costs[i][r] = seconds[i][r] / ((before + after) / 2);
    }
  }
  for (int i = 0; i < COUNT_VERIFY; i++) {
    b->verify[i] = cli_median(seconds[i], r);
    b->cost[i] = cli_median(costs[i], r);
  }
  return TANDEM_OK;
}

static double per_second(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

/* Operations of a token of a prompt of n, and the ceiling they are held against. */
static double prefill_work(const bench *b, double n, tandem_ceiling *what) {
  double head = (double)b->info.n_embd * b->info.n_vocab, body = (double)b->info.macs - head;
  bool floats = b->info.n_params && (double)b->info.weight_bytes / (double)b->info.n_params >= 1.9;
  *what = floats ? TANDEM_CEILING_F32 : TANDEM_CEILING_INT8;
  if (body < 0) head = (double)b->info.macs, body = 0;
  return 2 * (body + head / n);
}

static double decode_gb(const bench *b) { return (double)b->info.read_bytes * b->decode.tokens_per_second / 1e9; }

static status write_json(const bench *b) {
  json j;
  json_open(&j, false, b->err);
  json_object(&j, NULL);
  if (b->o->bench_prompt) {
    json_object(&j, "prefill");
    json_int(&j, "tokens", b->o->bench_prompt);
    json_double(&j, "tokens_per_second", b->prefill.tokens_per_second);
    json_double(&j, "of_roof", b->prefill.of_roof);
    json_end_object(&j);
  } else
    json_null(&j, "prefill");
  if (b->o->bench_predict) {
    json_object(&j, "decode");
    json_int(&j, "tokens", b->o->bench_predict);
    json_double(&j, "tokens_per_second", b->decode.tokens_per_second);
    json_double(&j, "of_roof", b->decode.of_roof);
    json_double(&j, "gb_per_second", decode_gb(b));
    json_end_object(&j);
  } else
    json_null(&j, "decode");
  json_array(&j, "verify");
  for (int i = 0; i < COUNT_VERIFY; i++) {
    json_object(&j, NULL);
    json_int(&j, "n", verify_rows[i]);
    json_double(&j, "tokens_per_second", per_second(verify_rows[i], b->verify[i]));
    json_double(&j, "cost", b->cost[i]);
    json_end_object(&j);
  }
  json_end_array(&j);
  json_object(&j, "ceilings");
  json_double(&j, "read_gb_per_second", b->ceilings[TANDEM_CEILING_READ] / 1e9);
  json_double(&j, "int8_tops", b->ceilings[TANDEM_CEILING_INT8] / 1e12);
  json_double(&j, "f32_gflops", b->ceilings[TANDEM_CEILING_F32] / 1e9);
  json_end_object(&j);
  json_int(&j, "threads", b->info.n_threads);
  json_string(&j, "cpu", b->info.cpu, strlen(b->info.cpu));
  json_end_object(&j);
  return cli_json_out(&j);
}

static void write_table(const bench *b) {
  char size[32];
  cli_size_text(size, b->info.weight_bytes);
  printf("%s %s, %.1f M parameters, %s of weights, %s, %d thread%s\n\n", b->info.arch, b->info.name,
         (double)b->info.n_params / 1e6, size, b->info.cpu, (int)b->info.n_threads, b->info.n_threads == 1 ? "" : "s");
  printf("%-12s %12s %10s\n", "test", "tokens/s", "of roof");
  if (b->o->bench_prompt)
    printf("prompt %-5" PRId64 " %12.1f %9.1f%%\n", b->o->bench_prompt, b->prefill.tokens_per_second,
           100 * b->prefill.of_roof);
  if (b->o->bench_predict)
    printf("decode %-5" PRId64 " %12.1f %9.1f%%   %.2f GB/s\n", b->o->bench_predict,
           b->decode.tokens_per_second, 100 * b->decode.of_roof, decode_gb(b));
  for (int i = 0; i < COUNT_VERIFY; i++)
    printf("verify %-5d %12.1f              cost %.2f\n", verify_rows[i], per_second(verify_rows[i], b->verify[i]),
           b->cost[i]);
  printf("\nceilings: read %.1f GB/s, int8 %.3f TOP/s, f32 %.1f GFLOP/s\n", b->ceilings[TANDEM_CEILING_READ] / 1e9,
         b->ceilings[TANDEM_CEILING_INT8] / 1e12, b->ceilings[TANDEM_CEILING_F32] / 1e9);
}

static status measure(bench *b) {
  int64_t n_prompt = b->o->bench_prompt, n_predict = b->o->bench_predict;
  tandem_ceiling what;
  double work = prefill_work(b, n_prompt ? (double)n_prompt : 1, &what);
  if (n_prompt) TRY(time_tokens(b, n_prompt, true, what, work, &b->prefill));
  if (n_predict) TRY(time_tokens(b, n_predict, false, TANDEM_CEILING_READ, (double)b->info.read_bytes, &b->decode));
  TRY(time_passes(b));
  for (int i = 0; i < CEILINGS; i++)
    if (b->ceilings[i] <= 0) TRY(measure_ceiling(b, (tandem_ceiling)i, &b->ceilings[i]));
  return stopped(b);
}

status cli_bench(const cli_options *o, error *err) {
  bench b = {.o = o, .err = err, .info = {.size = sizeof b.info}};
  tandem_engine_params params;
  status st;
  int64_t n = VERIFY_DEPTH + VERIFY_ROWS;
  if (o->bench_prompt > n) n = o->bench_prompt;
  if (o->bench_predict > n) n = o->bench_predict;
  tandem_engine_params_init(&params);
  params.n_context = n;
  TRY_DONE(cli_open(&b.engine, &params, o, err));
  TRY_DONE(tandem_engine_get_info(b.engine, &b.info, err));
  TRY_DONE(base_alloc_array((void **)&b.ids, (size_t)n, sizeof *b.ids, "random ids", err));
  TRY_DONE(base_alloc_array((void **)&b.rows, (size_t)b.info.n_vocab, VERIFY_ROWS * sizeof *b.rows, "rows of logits", err));
  cli_fill_ids(b.ids, (size_t)n, b.info.n_vocab);
  TRY_DONE(tandem_session_open(&b.session, b.engine, NULL, err));
  TRY_DONE(measure(&b));
  if (o->json)
    st = write_json(&b);
  else
    write_table(&b);
done:
  tandem_session_close(b.session);
  tandem_engine_close(b.engine);
  base_free(b.ids);
  base_free(b.rows);
  return st;
}
