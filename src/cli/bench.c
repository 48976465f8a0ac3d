/* tandem bench: speed, held against roofs measured in the same run.
 *
 *   prefill roof   seconds = 2 (n (macs - head) + head) / peak: every multiply-add of weights is two operations; the head
 *                  (n_embd x n_vocab) is needed for the last token only. The peak is that of int8, or that of f32 if the
 *                  weights take two bytes or more each.
 *   decode roof    seconds = bytes of weights read for a token / read bandwidth
 *   cost           time of one pass over n tokens with all their logits / time of one token
 * The ceilings are measured before and after; the larger counts, since a roof that was missed is no roof. */
#include "cli/cli.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERIFY_DEPTH = 32, VERIFY_ROWS = 16, MIN_PASSES = 5, MAX_PASSES = 200, COUNT_VERIFY = 4 };
static const double verify_seconds = 0.25; /* passes are repeated for this long, so that short ones are timed well */
static const int verify_rows[COUNT_VERIFY] = {2, 4, 8, 16};

typedef struct bench {
  const cli_options *o;
  tandem_session *session;
  tandem_engine_info info;
  int32_t *ids;                                      /* random, enough for everything */
  float *rows;                                       /* [VERIFY_ROWS][n_vocab] */
  double *times;                                     /* room for the repetitions of one measurement */
  double prefill, decode, one, verify[COUNT_VERIFY]; /* median seconds of a run */
  tandem_ceilings ceilings;
  error *err;
} bench;

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *v, size_t n) {
  qsort(v, n, sizeof *v, compare);
  return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Ids that no cache has seen; the same in every run of the program, so that runs can be compared. */
static void fill_ids(int32_t *ids, size_t n, int32_t n_vocab) {
  uint64_t x = 0x9e3779b97f4a7c15u;
  for (size_t i = 0; i < n; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    ids[i] = (int32_t)((x >> 20) % (uint64_t)n_vocab);
  }
}

static status stopped(const bench *b) {
  return cli_interrupted() ? base_fail(b->err, TANDEM_ERROR_CANCELLED, NULL, "stopped") : TANDEM_OK;
}

static status measure_ceilings(bench *b) {
  tandem_ceilings c;
  TRY(stopped(b));
  TRY(tandem_measure_ceilings(b->info.cpu, b->info.n_threads, &c, b->err));
  b->ceilings.read_gb_per_second = fmax(b->ceilings.read_gb_per_second, c.read_gb_per_second);
  b->ceilings.int8_tops = fmax(b->ceilings.int8_tops, c.int8_tops);
  b->ceilings.f32_gflops = fmax(b->ceilings.f32_gflops, c.f32_gflops);
  return TANDEM_OK;
}

/* The prompt at once, or token by token. */
static status time_tokens(bench *b, int64_t n, bool at_once, double *seconds) {
  for (int64_t r = -1; r < b->o->repetitions; r++) { /* the first run warms up */
    TRY(stopped(b));
    TRY(tandem_session_truncate(b->session, 0, b->err));
    double start = os_seconds();
    if (at_once) TRY(tandem_session_decode(b->session, b->ids, n, NULL, NULL, b->err));
    for (int64_t i = 0; !at_once && i < n && !cli_interrupted(); i++)
      TRY(tandem_session_decode(b->session, b->ids + i, 1, NULL, NULL, b->err));
    if (r >= 0) b->times[r] = os_seconds() - start;
  }
  *seconds = median(b->times, (size_t)b->o->repetitions);
  return TANDEM_OK;
}

/* One pass over n tokens behind the same few, with all logits. */
static status time_pass(bench *b, int n, double *seconds) {
  double times[MAX_PASSES], all = 0;
  int n_times = 0;
  TRY(tandem_session_sync(b->session, b->ids, VERIFY_DEPTH, NULL, NULL, b->err));
  for (int r = -1; r < MAX_PASSES; r++) {
    TRY(stopped(b));
    double start = os_seconds();
    TRY(tandem_session_decode_all(b->session, b->ids + VERIFY_DEPTH, n, b->rows, b->err));
    double t = os_seconds() - start;
    TRY(tandem_session_truncate(b->session, VERIFY_DEPTH, b->err));
    if (r < 0) continue;
    times[n_times++] = t;
    all += t;
    if (n_times >= MIN_PASSES && all > verify_seconds) break;
  }
  *seconds = median(times, (size_t)n_times);
  return TANDEM_OK;
}

static double per_second(double n, double seconds) { return seconds > 0 ? n / seconds : 0; }

/* Parts of the roof that were reached. */
static double prefill_of_roof(const bench *b) {
  double n = (double)b->o->bench_prompt, head = (double)b->info.n_embd * b->info.n_vocab, body = (double)b->info.macs - head;
  bool floats = b->info.n_params && (double)b->info.weight_bytes / (double)b->info.n_params >= 1.9;
  double peak = floats ? b->ceilings.f32_gflops * 1e9 : b->ceilings.int8_tops * 1e12;
  if (body < 0) head = (double)b->info.macs, body = 0;
  return peak > 0 && b->prefill > 0 ? 2 * (n * body + head) / peak / b->prefill : 0;
}

static double decode_gb(const bench *b) {
  return per_second((double)b->info.read_bytes * (double)b->o->bench_predict, b->decode) / 1e9;
}

static double decode_of_roof(const bench *b) {
  return b->ceilings.read_gb_per_second > 0 ? decode_gb(b) / b->ceilings.read_gb_per_second : 0;
}

static status write_json(const bench *b) {
  json j;
  json_open(&j, false, b->err);
  json_object(&j, NULL);
  if (b->o->bench_prompt) {
    json_object(&j, "prefill");
    json_int(&j, "tokens", b->o->bench_prompt);
    json_double(&j, "tokens_per_second", per_second((double)b->o->bench_prompt, b->prefill));
    json_double(&j, "of_roof", prefill_of_roof(b));
    json_end_object(&j);
  } else
    json_null(&j, "prefill");
  if (b->o->bench_predict) {
    json_object(&j, "decode");
    json_int(&j, "tokens", b->o->bench_predict);
    json_double(&j, "tokens_per_second", per_second((double)b->o->bench_predict, b->decode));
    json_double(&j, "of_roof", decode_of_roof(b));
    json_double(&j, "gb_per_second", decode_gb(b));
    json_end_object(&j);
  } else
    json_null(&j, "decode");
  json_array(&j, "verify");
  for (int i = 0; i < COUNT_VERIFY; i++) {
    json_object(&j, NULL);
    json_int(&j, "n", verify_rows[i]);
    json_double(&j, "tokens_per_second", per_second(verify_rows[i], b->verify[i]));
    json_double(&j, "cost", b->one > 0 ? b->verify[i] / b->one : 0);
    json_end_object(&j);
  }
  json_end_array(&j);
  json_object(&j, "ceilings");
  json_double(&j, "read_gb_per_second", b->ceilings.read_gb_per_second);
  json_double(&j, "int8_tops", b->ceilings.int8_tops);
  json_double(&j, "f32_gflops", b->ceilings.f32_gflops);
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
    printf("prompt %-5" PRId64 " %12.1f %9.1f%%\n", b->o->bench_prompt, per_second((double)b->o->bench_prompt, b->prefill),
           100 * prefill_of_roof(b));
  if (b->o->bench_predict)
    printf("decode %-5" PRId64 " %12.1f %9.1f%%   %.2f GB/s\n", b->o->bench_predict,
           per_second((double)b->o->bench_predict, b->decode), 100 * decode_of_roof(b), decode_gb(b));
  for (int i = 0; i < COUNT_VERIFY; i++)
    printf("verify %-5d %12.1f              cost %.2f\n", verify_rows[i], per_second(verify_rows[i], b->verify[i]),
           b->one > 0 ? b->verify[i] / b->one : 0);
  printf("\nceilings: read %.1f GB/s, int8 %.3f TOP/s, f32 %.1f GFLOP/s\n", b->ceilings.read_gb_per_second,
         b->ceilings.int8_tops, b->ceilings.f32_gflops);
}

static status measure(bench *b) {
  TRY(measure_ceilings(b));
  if (b->o->bench_prompt) TRY(time_tokens(b, b->o->bench_prompt, true, &b->prefill));
  if (b->o->bench_predict) TRY(time_tokens(b, b->o->bench_predict, false, &b->decode));
  TRY(time_pass(b, 1, &b->one));
  for (int i = 0; i < COUNT_VERIFY; i++) TRY(time_pass(b, verify_rows[i], &b->verify[i]));
  TRY(measure_ceilings(b));
  return stopped(b);
}

status cli_bench(const cli_options *o, error *err) {
  bench b = {.o = o, .err = err, .info = {.size = sizeof b.info}};
  tandem_engine_params params;
  tandem_engine *engine = NULL;
  status st;
  int64_t n = VERIFY_DEPTH + VERIFY_ROWS;
  if (o->bench_prompt > n) n = o->bench_prompt;
  if (o->bench_predict > n) n = o->bench_predict;
  tandem_engine_params_init(&params);
  params.n_context = n;
  TRY_DONE(cli_open(&engine, &params, o, err));
  TRY_DONE(tandem_engine_get_info(engine, &b.info, err));
  TRY_DONE(base_alloc_array((void **)&b.ids, (size_t)n, sizeof *b.ids, "random ids", err));
  TRY_DONE(base_alloc_array((void **)&b.rows, (size_t)b.info.n_vocab, VERIFY_ROWS * sizeof *b.rows, "rows of logits", err));
  TRY_DONE(base_alloc_array((void **)&b.times, (size_t)o->repetitions, sizeof *b.times, "times", err));
  fill_ids(b.ids, (size_t)n, b.info.n_vocab);
  TRY_DONE(tandem_session_open(&b.session, engine, NULL, err));
  TRY_DONE(measure(&b));
  if (o->json)
    st = write_json(&b);
  else
    write_table(&b);
done:
  tandem_session_close(b.session);
  tandem_engine_close(engine);
  base_free(b.ids);
  base_free(b.rows);
  base_free(b.times);
  return st;
}
