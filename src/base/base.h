/* base: what every folder stands on. Errors, memory, checked sizes, arenas, text, checksums, JSON out, files, clock, worker pool.
 *
 * Knows nothing of models. Takes status and error from the public header, so that there is one definition of each. */
#ifndef BASE_H
#define BASE_H

#include <assert.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tandem.h"

typedef tandem_status status;
typedef tandem_error error;

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* ---- status.c: faults are described once, where they are seen ---------------------------------------------------- */

/* Fills err (may be NULL) and returns code. `field` is the key, tensor or option at fault, or NULL. */
status base_fail(error *err, status code, const char *field, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The same with the file offset of the fault; the text gets " (offset 0x...)" appended. */
status base_fail_at(error *err, status code, const char *field, uint64_t offset, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Puts "prefix: " in front of err's text (a file name, for example); keeps the rest. Returns err's code. */
status base_fail_in(error *err, const char *prefix);
/* Number of candidates, index of the one nearest to `word` by edit distance, or -1 if none is near: "did you mean". */
int base_nearest(const char *word, const char *const *candidates, size_t n);

/* Forward a failure; or go to the label done, where `st` is returned after cleaning up. */
#define TRY(call)                       \
  do {                                  \
    status try_status = (call);         \
    if (try_status) return try_status;  \
  } while (0)
#define TRY_DONE(call)                  \
  do {                                  \
    if ((st = (call))) goto done;       \
  } while (0)

/* ---- memory.c: the one malloc gate ------------------------------------------------------------------------------- */

/* Zeroed memory, aligned to 64 bytes; n_bytes 0 gives a unique pointer. Fails with TANDEM_ERROR_MEMORY naming `what`. */
status base_alloc(void **p, size_t n_bytes, const char *what, error *err);
/* The same for n elements of `size` bytes, product checked. */
status base_alloc_array(void **p, size_t n, size_t size, const char *what, error *err);
/* Grows *p from old_bytes to new_bytes, keeping its content (new bytes are zero). On failure *p stays as it was. */
status base_realloc(void **p, size_t old_bytes, size_t new_bytes, const char *what, error *err);
void base_free(void *p); /* NULL is allowed */
/* A large region of untouched zero pages: costs memory only where written. `huge` asks for 2 MiB pages. */
status base_map(void **p, size_t n_bytes, bool huge, const char *what, error *err);
void base_unmap(void *p, size_t n_bytes); /* NULL is allowed */
/* Calls of base_alloc, base_alloc_array, base_realloc and base_map so far. */
uint64_t base_alloc_count(void);

/* Fault injection for tests: the n-th call from now on (n >= 1) of this kind fails, and if `and_after` all later ones.
 * n = 0 disarms. Returns the number of calls of the kind since the last arm. Not for several threads at once. */
enum base_fault { FAULT_MEMORY, FAULT_READ, FAULT_WRITE, FAULT_COUNT }; /* WRITE: opening, writing, fsync, rename */
uint64_t base_fault_arm(enum base_fault kind, uint64_t n, bool and_after);
/* For the gates: counts a call, true if it must fail. */
bool base_fault_hit(enum base_fault kind);

/* a * b, a + b; false and *r untouched if it does not fit. */
static inline bool size_mul(size_t a, size_t b, size_t *r) { size_t t; if (__builtin_mul_overflow(a, b, &t)) return false; *r = t; return true; }
static inline bool size_add(size_t a, size_t b, size_t *r) { size_t t; if (__builtin_add_overflow(a, b, &t)) return false; *r = t; return true; }
/* Rounded up to a multiple of `to` (a power of two). Callers pass values far below SIZE_MAX. */
static inline size_t size_align(size_t a, size_t to) { return (a + to - 1) & ~(to - 1); }

/* ---- arena.c: allocations of one life, freed together ------------------------------------------------------------ */

typedef struct arena arena;
status arena_open(arena **a, const char *what, error *err);
void arena_close(arena *a); /* NULL is allowed */
/* Zeroed, aligned to 16 bytes. */
status arena_alloc(arena *a, size_t n_bytes, void **p, error *err);
/* A terminated copy of n bytes. */
status arena_text(arena *a, const char *s, size_t n, const char **copy, error *err);
size_t arena_bytes(const arena *a);

/* ---- text.c: growing text, escaping, UTF-8 ----------------------------------------------------------------------- */

typedef struct text {
  char *bytes; /* always terminated once something was added; owned */
  size_t n, capacity;
} text;
status text_add(text *t, const char *s, size_t n, error *err);
status text_printf(text *t, error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
void text_free(text *t);
/* Writes s so that it is safe in a message or a log: control and invalid bytes as \n or \xHH, cut at 256 bytes with
 * "...(n bytes)". Returns out. */
const char *text_escape(char *out, size_t capacity, const char *s, size_t n);
/* Decodes one character: its length 1..4 and *rune, or 0 if the bytes at s are not valid UTF-8 (overlong, surrogate,
 * above U+10FFFF, cut short). n >= 1. */
int utf8_decode(const char *s, size_t n, uint32_t *rune);
int utf8_encode(uint32_t rune, char out[4]); /* length */
/* Length of the longest prefix of s that does not end inside a character that more bytes could complete. */
size_t utf8_complete(const char *s, size_t n);

/* ---- checksum.c: XXH3, 64 bits: finds damage, proves nothing against malice --------------------------------------- */

typedef struct checksum { /* plain data */
  _Alignas(64) unsigned char state[640];
} checksum;
void checksum_open(checksum *c, uint64_t seed);
void checksum_add(checksum *c, const void *bytes, size_t n);
uint64_t checksum_value(const checksum *c); /* of what was added so far */
uint64_t checksum_bytes(const void *bytes, size_t n, uint64_t seed);

/* ---- json.c: JSON out; every string becomes valid UTF-8 ---------------------------------------------------------- */

typedef struct json {
  text out;
  error *err;   /* gets the first failure; later calls do nothing */
  status st;
  bool comma;   /* the next value needs one */
  int indent;   /* current depth */
  bool pretty;  /* newlines and two spaces a level */
} json;
void json_open(json *j, bool pretty, error *err);
void json_put_object(json *j, const char *key); /* key NULL inside an array and at the top */
void json_put_array(json *j, const char *key);
void json_put_end_object(json *j);
void json_put_end_array(json *j);
void json_put_string(json *j, const char *key, const char *s, size_t n);
void json_put_int(json *j, const char *key, int64_t v);
void json_put_uint(json *j, const char *key, uint64_t v);
void json_put_double(json *j, const char *key, double v); /* shortest text that reads back equal; NaN and inf give null */
void json_put_bool(json *j, const char *key, bool v);
void json_put_null(json *j, const char *key);
/* Status of the whole; the text is j->out, which the caller frees. */
status json_close(json *j);

/* ---- os.c: files, clock, processors, memory ---------------------------------------------------------------------- */

enum { OS_PATH_BYTES = 4096 }; /* the longest path that is written to */
/* A fault in a mapped file brings in the aligned 64 KiB around it, if the system has them. */
enum { OS_FAULT_AROUND = 65536 };

/* Guards a mapping of a file, in mapped.c: if the file becomes shorter nobody dies of it, all of the mapping is zeros from then on, and
 * os_guard_lost tells. False, and no guard, if there are 256 or the system refuses. Close it before the mapping goes. Any thread. */
typedef struct os_guard {
  int range; /* 0: none */
} os_guard;
bool os_guard_open(os_guard *g, const void *at, size_t n);
bool os_guard_lost(const os_guard *g);
void os_guard_close(os_guard *g);

/* Which file it is, and in which state. */
typedef struct os_identity {
  uint64_t device, file, bytes;
  int64_t seconds, nanoseconds; /* when it was written last */
} os_identity;
bool os_identify(int fd, os_identity *is); /* false: fstat failed */
/* A whole file, read-only, mapped and guarded. Regular files only, never blocks on a FIFO or device. */
typedef struct os_file {
  const uint8_t *bytes; /* NULL if n is 0 */
  size_t n;
  os_identity is;
  os_guard guard;
} os_file;
status os_map(os_file *file, const char *path, error *err); /* counts as a read for fault injection */
void os_unmap(os_file *file);
/* Advice: these bytes will be read soon, or will not be needed again. */
void os_will_need(const os_file *file, size_t offset, size_t n);
void os_dont_need(const os_file *file, size_t offset, size_t n);
/* A whole small file or stream (path "-" is standard input) into a text. At most `limit` bytes, more is an error. */
status os_read_all(text *out, const char *path, size_t limit, error *err);
/* Writes a whole file through a temporary one beside it, fsync and rename: the old or the new file, never a third. */
status os_write_all(const char *path, const void *bytes, size_t n, error *err);
/* The same piece by piece. The temporary file is PATH.unfinished; what a killed process has left of that name is removed by
 * the next writer, and a second writer at the same time is refused (TANDEM_ERROR_BUSY). Plain data; open fills all of it. */
typedef struct os_writer {
  int fd;           /* -1: not open */
  const char *path; /* borrowed until it is closed */
  char target[OS_PATH_BYTES], temporary[OS_PATH_BYTES + 16];
} os_writer;
status os_writer_open(os_writer *w, const char *path, error *err);
status os_writer_add(os_writer *w, const void *bytes, size_t n, error *err);
/* Brings the bytes to the disk and the file to its place. Close must follow, also after a failure. */
status os_writer_commit(os_writer *w, error *err);
void os_writer_close(os_writer *w); /* without commit: the temporary file goes, the old file stays */
bool os_exists(const char *path);   /* something has this name, if only a link to nowhere */
bool os_same_file(const char *a, const char *b); /* both are there, and one and the same */
double os_seconds(void);      /* monotonic */
int os_processors(void);      /* processors this process may use: affinity and cgroup cpu.max */
uint64_t os_memory_free(void);/* bytes available now, the smaller of MemAvailable and the cgroup's room */
uint64_t os_memory_peak(void);/* peak resident bytes of this process since its program was started */
/* What this process holds now, and what it may still map (RLIMIT_AS; UINT64_MAX: no limit). Bytes. */
typedef struct os_memory {
  uint64_t resident, anonymous; /* resident: with the pages of files, anonymous: without */
  uint64_t mappable;
} os_memory;
os_memory os_memory_now(void);
uint64_t os_random(void);
bool os_is_terminal(int fd);
bool os_is_file(int fd);        /* a regular one */
void os_pause(void);           /* tells the processor that this is a spin loop */

/* ---- mapped.c: bytes of a file in place of a part of a region, for as long as they are used ---------------------------- */

/* Maps n bytes of the file from `offset` on, read-only, over those at `at`; both multiples of the page. It must still be the file
 * that `is` says. The mapping is guarded (os_guard), or it fails.
 * The region stays the caller's, who unmaps it after closing. Any thread. */
typedef struct os_mapping os_mapping;
status os_mapping_open(os_mapping **m, const char *path, const os_identity *is, uint64_t offset, size_t n, void *at, error *err);
void os_mapping_close(os_mapping *m); /* NULL is allowed */
/* Of the bytes of such a mapping: asks the system for n, and waits until n are in memory. Any thread. */
void os_mapping_ask(const void *at, size_t n);
void os_mapping_bring(const void *at, size_t n);
/* TANDEM_ERROR_IO if the file is not what it was when it was opened: written to, or cut. One fstat. */
status os_mapping_check(const os_mapping *m, error *err);

/* ---- pool.c: worker threads -------------------------------------------------------------------------------------- */

/* n - 1 workers and the caller. Waiting spins for some microseconds, then sleeps on a futex. */
typedef struct pool pool;
typedef void pool_fn(void *arg, int i_thread, int n_threads);
status pool_open(pool **p, int n_threads, error *err); /* 1..1024 */
void pool_close(pool *p);                              /* NULL is allowed */
int pool_threads(const pool *p);
/* Runs fn on every thread, the caller being thread 0, and returns when all have finished. One caller at a time. */
void pool_run(pool *p, pool_fn *fn, void *arg);
/* Inside a pool_fn: returns when every thread has called it. What was written before is visible after. */
void pool_barrier(pool *p);

/* A counter on a cache line of its own, from which threads claim units of work. */
typedef struct pool_counter {
  _Alignas(64) _Atomic int64_t next;
  char pad[64 - sizeof(_Atomic int64_t)];
} pool_counter;
static inline int64_t pool_claim(pool_counter *c, int64_t n) { return atomic_fetch_add_explicit(&c->next, n, memory_order_relaxed); }

#endif
