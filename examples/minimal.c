/* The smallest whole program: opens a model, reads a prompt, prints what follows.
 *   cc minimal.c $(pkg-config --cflags --libs tandem) -o minimal
 *   ./minimal models/tales.gguf "Once upon a time" */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tandem.h>

enum { N_GENERATE = 48 };

static bool print_text(void *user, int32_t id, const char *text, size_t n_bytes) {
  (void)user, (void)id;
  return fwrite(text, 1, n_bytes, stdout) == n_bytes;
}

/* All ids of a text: the first call counts, the second one writes. */
static tandem_status read_prompt(const tandem_engine *engine, const char *text, int32_t **ids, size_t *n_ids,
                                 tandem_error *error) {
  unsigned flags = TANDEM_ADD_SPECIAL | TANDEM_PARSE_SPECIAL;
  tandem_status status = tandem_tokenize(engine, text, strlen(text), flags, NULL, 0, n_ids, error);
  if (status) return status;
  *ids = malloc((*n_ids + 1) * sizeof **ids);
  if (!*ids) return TANDEM_ERROR_MEMORY;
  return tandem_tokenize(engine, text, strlen(text), flags, *ids, *n_ids, n_ids, error);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL PROMPT\n", argv[0]);
    return 2;
  }
  tandem_error error = {0};
  tandem_engine *engine = NULL;
  tandem_session *session = NULL;
  int32_t *ids = NULL;
  size_t n_ids = 0;
  int64_t n_generated = 0;
  tandem_stop stop;

  tandem_engine_params params;
  tandem_engine_params_init(&params);
  params.model = argv[1];

  tandem_status status = tandem_engine_open(&engine, &params, &error);
  if (!status) status = tandem_session_open(&session, engine, NULL, &error); /* no sampling: always the likeliest token */
  if (!status) status = read_prompt(engine, argv[2], &ids, &n_ids, &error);
  if (!status) status = tandem_session_decode(session, ids, (int64_t)n_ids, NULL, NULL, &error);
  if (!status) status = tandem_session_generate(session, N_GENERATE, print_text, NULL, &n_generated, &stop, &error);
  if (status)
    fprintf(stderr, "%s: %s\n", tandem_status_name(status), error.text);
  else
    putchar('\n');

  tandem_session_close(session);
  tandem_engine_close(engine);
  free(ids);
  return status ? 1 : 0;
}
