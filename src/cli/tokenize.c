/* tandem tokenize: text in, a JSON array of token ids out. Reads no weights. */
#include "cli/cli.h"

status cli_tokenize(const cli_options *o, error *err) {
  tandem_engine_params params;
  tandem_engine *engine = NULL;
  text t = {0};
  int32_t *ids = NULL;
  size_t n_ids = 0;
  status st;
  tandem_engine_params_init(&params);
  params.vocab_only = true;
  TRY_DONE(cli_read_text(&t, o, false, err));
  TRY_DONE(cli_open(&engine, &params, o, err));
  TRY_DONE(cli_tokens_of(engine, &t, o->special ? TANDEM_ADD_SPECIAL | TANDEM_PARSE_SPECIAL : 0, &ids, &n_ids, err));
  json j;
  json_open(&j, false, err);
  json_put_array(&j, NULL);
  for (size_t i = 0; i < n_ids; i++) json_put_int(&j, NULL, ids[i]);
  json_put_end_array(&j);
  st = cli_json_out(&j);
done:
  tandem_engine_close(engine);
  base_free(ids);
  text_free(&t);
  return st;
}
