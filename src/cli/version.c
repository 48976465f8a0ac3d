/* tandem version. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

status cli_version(const cli_options *o, error *err) {
  char number[32];
  const char *version = tandem_version();
  snprintf(number, sizeof number, "%d.%d.%d", TANDEM_VERSION_MAJOR, TANDEM_VERSION_MINOR, TANDEM_VERSION_PATCH);
  if (!o->json) {
    printf("tandem %s\n", version);
    return TANDEM_OK;
  }
  json j;
  json_open(&j, false, err);
  json_put_object(&j, NULL);
  json_put_string(&j, "version", number, strlen(number));
  json_put_string(&j, "build", version, strlen(version));
  json_put_end_object(&j);
  return cli_json_out(&j);
}
