/* tandem explain: the plan of a model as text or JSON. Reads no weights. */
#include "cli/cli.h"

status cli_explain(const cli_options *o, error *err) {
  tandem_engine_params params;
  tandem_engine *engine = NULL;
  cli_sink k = {.err = err};
  cli_options wide = *o;
  if (wide.ubatch < o->explain_tokens) wide.ubatch = o->explain_tokens;
  tandem_engine_params_init(&params);
  params.plan_only = true;
  TRY(cli_open(&engine, &params, &wide, err));
  status st = tandem_explain(engine, o->explain_tokens, o->json, cli_sink_write, &k, err);
  tandem_engine_close(engine);
  return k.st ? k.st : st;
}
