/* requantize.c: writes a copy of a GGUF model with its matrices in another type, for benchmarks: bench_requantize IN OUT TYPE
 * [HEAD_TYPE]. Matrices (names ending in .weight, two dimensions or more, not norms or routers) become TYPE; output.weight, or
 * token_embd.weight if there is none, becomes HEAD_TYPE (default: q6_K). Plain rule, no importance matrix. */
#include <stdio.h>
#include <string.h>

#include "gguf/gguf.h"

typedef struct job { /* rows of one tensor */
  const gguf_tensor *t;
  const uint8_t *from;
  uint8_t *to;
  quant_type type;
  pool_counter counter;
  float *rows; /* [thread][cols] */
} job;

static bool ends_in(const char *s, const char *end) {
  size_t n = strlen(s), m = strlen(end);
  return n >= m && !strcmp(s + n - m, end);
}

static quant_type type_of(const gguf *g, const gguf_tensor *t, quant_type type, quant_type head) {
  const char *head_name = gguf_find_tensor(g, "output.weight") ? "output.weight" : "token_embd.weight";
  if (t->n_dims < 2 || !ends_in(t->name, ".weight") || ends_in(t->name, "_norm.weight") || ends_in(t->name, "ffn_gate_inp.weight")) return t->type;
  quant_type wanted = strcmp(t->name, head_name) ? type : head;
  return t->dims[0] % quant_table[wanted].block ? t->type : wanted;
}

static void encode(void *arg, int i_thread, int n_threads) {
  job *j = arg;
  int64_t cols = j->t->dims[0], n = (int64_t)(j->t->n_bytes / quant_row_bytes(j->t->type, cols)), chunk = 16;
  size_t from = quant_row_bytes(j->t->type, cols), to = quant_row_bytes(j->type, cols);
  float *row = j->rows + (size_t)i_thread * (size_t)cols;
  (void)n_threads;
  for (int64_t r; (r = pool_claim(&j->counter, chunk)) < n;)
    for (int64_t i = r; i < r + chunk && i < n; i++) {
      quant_table[j->t->type].decode(j->from + (size_t)i * from, row, cols);
      quant_table[j->type].encode(row, j->to + (size_t)i * to, cols, NULL);
    }
}

static status convert(gguf_writer *w, const gguf *g, pool *p, const gguf_tensor *t, quant_type type, error *err) {
  job j = {.t = t, .type = type};
  void *to, *rows;
  TRY(gguf_tensor_bytes(g, t, &j.from, err));
  if (t->panels) return base_fail(err, TANDEM_ERROR_UNSUPPORTED, t->name, "%s: rows expected, file has panels: use the original", t->name);
  if (type == t->type) {
    gguf_write_tensor(w, t->name, type, t->n_dims, t->dims, j.from);
    return TANDEM_OK;
  }
  size_t n_rows = (size_t)t->n_bytes / quant_row_bytes(t->type, t->dims[0]);
  TRY(base_map(&to, n_rows * quant_row_bytes(type, t->dims[0]), true, t->name, err)); /* lives until the file is written */
  TRY(base_alloc_array(&rows, (size_t)pool_threads(p) * (size_t)t->dims[0], sizeof(float), "rows", err));
  j.to = to;
  j.rows = rows;
  pool_run(p, encode, &j);
  base_free(rows);
  gguf_write_tensor(w, t->name, type, t->n_dims, t->dims, to);
  return TANDEM_OK;
}

static status run(char **argv, quant_type type, quant_type head, error *err) {
  gguf *g;
  gguf_writer *w;
  pool *p;
  TRY(gguf_open(&g, argv[1], err));
  TRY(gguf_writer_open(&w, err));
  TRY(pool_open(&p, os_processors(), err));
  for (size_t i = 0; i < gguf_n_keys(g); i++) gguf_write_key(w, gguf_key_at(g, i));
  for (size_t i = 0; i < gguf_n_tensors(g); i++) {
    const gguf_tensor *t = gguf_tensor_at(g, i);
    TRY(convert(w, g, p, t, type_of(g, t, type, head), err));
    if (os_is_terminal(2)) fprintf(stderr, "\r%zu / %zu tensors", i + 1, gguf_n_tensors(g));
  }
  TRY(gguf_writer_save(w, argv[2], err));
  pool_close(p);
  gguf_writer_close(w);
  gguf_close(g);
  return TANDEM_OK;
}

int main(int argc, char **argv) {
  error err = {0};
  int type = argc > 3 ? quant_by_name(argv[3]) : -1, head = argc > 4 ? quant_by_name(argv[4]) : QUANT_Q6_K;
  if (argc < 4 || type < 0 || head < 0 || !quant_table[type].encode || !quant_table[head].encode) {
    fprintf(stderr, "usage: bench_requantize IN.gguf OUT.gguf TYPE [HEAD_TYPE]\n");
    return 2;
  }
  if (run(argv, (quant_type)type, (quant_type)head, &err)) {
    fprintf(stderr, "bench_requantize: %s\n", err.text);
    return 1;
  }
  return 0;
}
