/* tandem fit: what of a model and its drafter fits the memory, and why. Reads no weights. */
#include "cli/cli.h"

status cli_fit(const cli_options *o, error *err) {
  tandem_engine_params params;
  text draft = {0};
  cli_sink k = {.err = err};
  tandem_engine_params_init(&params);
  status st = cli_find_draft(&params, &draft, o, err);
  cli_set_params(&params, o);
  if (!st) st = tandem_fit(&params, o->json, o->explain, cli_sink_write, &k, err);
  text_free(&draft);
  return k.st ? k.st : st;
}
