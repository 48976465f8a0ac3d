/* saved.h: sessions and their bytes for the tests of sessions on disk, in a folder of their own. */
#ifndef SAVED_H
#define SAVED_H

#include "engine/engine.h"

extern char saved_path[64]; /* of the file, in the folder */
int saved_make_folder(void **state);
int saved_remove_folder(void **state);
int saved_count_files(void); /* in the folder */

typedef struct saved_setup {
  const char *model;
  int threads, ubatch;
  int64_t context;
  tandem_kv_type k, v;
  const char *cpu, *draft;
  int sequences;
} saved_setup;

tandem_engine *saved_open_engine(const saved_setup *s);
tandem_session *saved_open_session(tandem_engine *e);
/* Evaluates n tokens, others for another salt. */
void saved_fill(tandem_session *s, int64_t n, int salt);
text saved_bytes(const tandem_session *s);
status saved_load(tandem_session *s, const void *bytes, size_t n, tandem_error *err);
bool saved_same(const text *a, const text *b);
text saved_read_file(const char *path);

typedef struct saved_victim { /* a small file, and a session that holds something else */
  tandem_engine *e;
  tandem_session *s;
  text file, held;
} saved_victim;

void saved_open_victim(saved_victim *v, const saved_setup *how, int64_t n);
void saved_close_victim(saved_victim *v);

#endif
