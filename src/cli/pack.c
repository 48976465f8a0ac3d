/* tandem pack: a copy of a model that opens at once. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static status write_json(const tandem_pack_info *info, const cli_options *o, double seconds, error *err) {
  json j;
  json_open(&j, true, err);
  json_put_object(&j, NULL);
  json_put_string(&j, "file", o->output, strlen(o->output));
  json_put_uint(&j, "tensors", info->n_tensors);
  json_put_uint(&j, "packed", info->n_packed);
  json_put_uint(&j, "bytes", info->n_bytes);
  json_put_uint(&j, "packed_bytes", info->n_packed_bytes);
  json_put_double(&j, "seconds", seconds);
  json_put_end_object(&j);
  return cli_json_out(&j);
}

status cli_pack(const cli_options *o, error *err) {
  tandem_pack_info info;
  cli_progress p;
  double start = os_seconds();
  if (!o->output || !o->output[0]) return base_fail(err, TANDEM_ERROR_ARGUMENT, "output", "no file to write to; name it with -o");
  cli_progress_open(&p, o);
  status st = tandem_pack(o->model, o->output, o->threads, cli_progress_show, &p, &info, err);
  cli_progress_close(&p);
  TRY(st);
  double seconds = os_seconds() - start;
  if (o->json) return write_json(&info, o, seconds, err);
  char size[32], all[32];
  cli_size_text(size, info.n_packed_bytes);
  cli_size_text(all, info.n_bytes);
  printf("%s: %s in %" PRIu64 " tensors, of which %s in %" PRIu64 " lie as they are used; %.1f s\n", o->output, all, info.n_tensors, size,
         info.n_packed, seconds);
  return TANDEM_OK;
}
