/* save_fuzz.c: any bytes as a saved session: as they are, and with their checksums made right, so that what lies behind these is
 * met. Refused, and the session is as it was; or accepted, and then saving gives bytes that load and save to the same again.
 *
 * Also linked into save_test, which replays tests/fuzz/corpus/save. A broken promise ends in a trap. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
void save_reseal(uint8_t *bytes, size_t n);

enum { HEAD = 32, SECTION = 16, SUM = 8, MODEL = 72, CONTEXT = 64 };

static void require(bool condition) {
  if (!condition) __builtin_trap();
}

/* Writes the length of the file into its head, then every checksum that can be found. */
void save_reseal(uint8_t *bytes, size_t n) {
  if (n < HEAD) return;
  uint64_t length = n, sum;
  memcpy(bytes + 16, &length, sizeof length);
  sum = checksum_bytes(bytes, 24, 0);
  memcpy(bytes + 24, &sum, sizeof sum);
  for (size_t at = HEAD; n - at >= SECTION + SUM; at += SECTION + SUM + (size_t)length) {
    memcpy(&length, bytes + at + 8, sizeof length);
    if (length > n - at - SECTION - SUM) return;
    sum = checksum_bytes(bytes + at, SECTION + (size_t)length, at);
    memcpy(bytes + at + SECTION + length, &sum, sizeof sum);
  }
}

static status collect(void *user, const void *bytes, size_t n, error *err) { return text_add(user, bytes, n, err); }

/* What the target works on: a session of three tokens, and the bytes of it. */
static tandem_session *session;
static text first;

static void save(text *out) {
  out->n = 0;
  require(engine_save(session, collect, out, NULL) == TANDEM_OK);
}

static void open_once(void) {
  const char *root = getenv("TANDEM_SOURCE");
  char path[4096];
  tandem_engine_params p;
  tandem_engine *e;
  static const int32_t ids[] = {2, 17, 5};
  tandem_engine_params_init(&p);
  snprintf(path, sizeof path, "%s/tests/data/zoo/gemma3.gguf", root ? root : ".");
  p.model = path;
  p.n_context = CONTEXT;
  p.n_threads = 1;
  require(tandem_engine_open(&e, &p, NULL) == TANDEM_OK);
  require(tandem_session_open(&session, e, NULL, NULL) == TANDEM_OK);
  require(tandem_session_decode(session, ids, 3, NULL, NULL, NULL) == TANDEM_OK);
  save(&first);
}

/* Whatever the bytes were, the session ends as it began. */
static void try_bytes(const uint8_t *bytes, size_t n) {
  error err = {0};
  text a = {0}, b = {0};
  status st = engine_load(session, bytes, n, &err);
  save(&a);
  if (st) {
    require(err.code == (int32_t)st && err.text[0] && !strpbrk(err.text, "\n\r\x1b") && err.offset <= n);
    require(a.n == first.n && !memcmp(a.bytes, first.bytes, a.n));
  } else {
    require(!err.text[0] && tandem_session_length(session) <= CONTEXT);
    require(engine_load(session, (const uint8_t *)a.bytes, a.n, NULL) == TANDEM_OK);
    save(&b);
    require(a.n == b.n && !memcmp(a.bytes, b.bytes, a.n));
    int32_t id = 7; /* what was accepted can be gone on from; its numbers may be anything */
    if (tandem_session_length(session) < CONTEXT) tandem_session_decode(session, &id, 1, NULL, NULL, NULL);
    require(engine_load(session, (const uint8_t *)first.bytes, first.n, NULL) == TANDEM_OK);
  }
  text_free(&a);
  text_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
  if (!session) open_once();
  try_bytes(bytes, n);
  uint8_t *copy = malloc(n ? n : 1); /* of this size, so that a sanitizer sees a byte too far */
  require(copy != NULL);
  if (n) memcpy(copy, bytes, n);
  if (n > HEAD + SECTION + MODEL) memcpy(copy + HEAD + SECTION, first.bytes + HEAD + SECTION, MODEL); /* of our model, too */
  save_reseal(copy, n);
  try_bytes(copy, n);
  free(copy);
  return 0;
}
