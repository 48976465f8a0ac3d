/* Opening a model as the options say, with a progress line; and small helpers of output. */
#include "cli/cli.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cli_size_text(char out[32], uint64_t bytes) {
  static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double v = (double)bytes;
  size_t unit = 0;
  for (; v >= 1024 && unit + 1 < COUNT_OF(units); unit++) v /= 1024;
  snprintf(out, 32, unit && v < 100 ? "%.1f %s" : "%.0f %s", v, units[unit]);
}

status cli_write(const char *s, size_t n, error *err) {
  if (fwrite(s, 1, n, stdout) == n) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_IO, NULL, "standard output: %s", strerror(errno));
}

bool cli_sink_write(void *user, const char *s, size_t n) {
  cli_sink *k = user;
  k->st = cli_write(s, n, k->err);
  return !k->st && !cli_interrupted();
}

status cli_json_out(json *j) {
  status st = json_close(j);
  if (!st) st = cli_write(j->out.bytes, j->out.n, j->err);
  if (!st) st = cli_write("\n", 1, j->err);
  text_free(&j->out);
  return st;
}

void cli_progress_open(cli_progress *p, const cli_options *o) {
  const char *slash = strrchr(o->model, '/');
  bool terminal = os_is_terminal(STDERR_FILENO);
  *p = (cli_progress){.name = slash ? slash + 1 : o->model, .start = os_seconds(), .terminal = terminal};
  p->show = o->progress >= 0 ? o->progress : terminal;
  cli_watch_interrupt();
}

void cli_progress_close(const cli_progress *p) {
  if (p->show && p->terminal) fputs("\r\033[K", stderr);
}

bool cli_progress_show(void *user, const char *what, uint64_t done, uint64_t total) {
  cli_progress *p = user;
  (void)what;
  if (cli_interrupted()) return false;
  if (!p->show || !total) return true;
  double now = os_seconds(), seconds = now - p->start;
  int tenths = (int)((double)done / (double)total * 10);
  bool due = p->terminal ? now - p->last >= 0.1 : tenths > p->tenths;
  if (!due && done != total) return true;
  p->last = now;
  p->tenths = tenths;
  char so_far[32], all[32];
  cli_size_text(so_far, done);
  cli_size_text(all, total);
  double speed = seconds > 0 ? (double)done / seconds : 0;
  fprintf(stderr, "%s%s  %s / %s  %.0f MB/s  ETA %.0f s%s", p->terminal ? "\r\033[K" : "", p->name, so_far, all, speed / 1e6,
          speed > 0 ? (double)(total - done) / speed : 0.0, p->terminal ? "" : "\n");
  return true;
}

void cli_set_params(tandem_engine_params *params, const cli_options *o) {
  int kv_type = o->kv_type >= 0 ? o->kv_type : (int)params->kv_type_k;
  params->model = o->model;
  params->n_threads = o->threads;
  params->n_ubatch = o->ubatch;
  params->kv_type_k = (tandem_kv_type)(o->kv_type_k >= 0 ? o->kv_type_k : kv_type);
  params->kv_type_v = (tandem_kv_type)(o->kv_type_v >= 0 ? o->kv_type_v : kv_type);
  params->kv_type_lower = o->fit_kv;
  params->cpu = o->cpu;
  params->n_context_min = o->fit_context;
  params->draft_depth = o->speculation.depth > 0 ? o->speculation.depth : o->speculation.n_max > 0 ? o->speculation.n_max : 1;
  if (o->memory) params->memory = o->memory;
  if (o->context >= 0) params->n_context = o->context;
}

status cli_open(tandem_engine **engine, tandem_engine_params *params, const cli_options *o, error *err) {
  cli_progress p;
  cli_progress_open(&p, o);
  cli_set_params(params, o);
  params->progress = cli_progress_show;
  params->user = &p;
  status st = tandem_engine_open(engine, params, err);
  cli_progress_close(&p);
  params->progress = NULL;
  params->user = NULL;
  return st;
}
