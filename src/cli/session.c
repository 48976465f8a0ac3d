/* --session: a conversation kept in a file. What the file holds is resumed, the prompt continues it, and at the end prompt and
 * answer are saved in its place. On any refusal the file stays as it is. */
#include "cli/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Before the model is loaded: can the file be written? What a killed run has left beside it goes. */
status cli_session_check(const cli_options *o, error *err) {
  os_writer w;
  if (!o->session) return TANDEM_OK;
  if (!strcmp(o->session, "-") || !o->session[0])
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "session", "--session: '%s' is no file to be read and written again", o->session);
  TRY(os_writer_open(&w, o->session, err));
  os_writer_close(&w);
  return TANDEM_OK;
}

status cli_session_resume(tandem_session *session, const cli_options *o, error *err) {
  if (!o->session || !os_exists(o->session)) return TANDEM_OK;
  TRY(tandem_session_load(session, o->session, err));
  fprintf(stderr, "session %s: %" PRId64 " tokens resumed\n", o->session, tandem_session_length(session));
  return TANDEM_OK;
}

status cli_session_save(tandem_session *session, const cli_options *o, int32_t last, bool missing, error *err) {
  if (!o->session) return TANDEM_OK;
  if (missing) TRY(tandem_session_decode(session, &last, 1, NULL, NULL, err));
  TRY(tandem_session_save(session, o->session, err));
  fprintf(stderr, "session %s: %" PRId64 " tokens saved\n", o->session, tandem_session_length(session));
  return TANDEM_OK;
}
