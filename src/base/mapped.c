/* mapped.c: what happens if a mapped file becomes shorter; and bytes of a file that lie over a part of a region of memory for as long as
 * they are used.
 *
 * Reading a page that a mapped file no longer has raises SIGBUS. While a file is mapped a handler is installed: if the address is
 * inside one, the whole of it becomes zeros and is marked as lost, and the thread goes on; the owner asks afterwards and
 * throws away what was computed. Any other SIGBUS goes to the handler that was there before. A handler
 * cannot be given an argument, so the list of ranges is static: with the counters of memory.c the only state without a handle. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

enum { RANGES = 256 }; /* mapped at once in one process */

struct os_mapping {
  os_identity is;
  int fd;
  os_guard guard;
  char path[300]; /* as shown in messages */
};

typedef struct range {
  _Atomic uintptr_t from, to; /* to = 0: free */
  _Atomic bool lost;
} range;

static range ranges[RANGES];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows, and of taking a range */
static int n_open;
static struct sigaction before; /* never our own handler, which would call itself */

/* ---- the handler: nothing but loads, stores and mmap ------------------------------------------------------------------- */

static bool make_zeros(uintptr_t at) {
  for (int i = 0; i < RANGES; i++) {
    uintptr_t to = atomic_load(&ranges[i].to), from = atomic_load(&ranges[i].from);
    if (at < from || at >= to) continue;
    atomic_store(&ranges[i].lost, true);
    return mmap((void *)from, to - from, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
  }
  return false;
}

static void on_bus(int number, siginfo_t *info, void *context) {
  int saved = errno;
  bool done = make_zeros((uintptr_t)info->si_addr);
  errno = saved;
  if (done) return;
  if (before.sa_flags & SA_SIGINFO && before.sa_sigaction) before.sa_sigaction(number, info, context);
  else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) before.sa_handler(number);
  else signal(SIGBUS, SIG_DFL); /* the instruction is repeated, and ends the process as it would have */
}

/* ---- opening and closing -------------------------------------------------------------------------------------------- */

static bool is_ours(const struct sigaction *a) { return a->sa_flags & SA_SIGINFO && a->sa_sigaction == on_bus; }

static bool install(void) {
  struct sigaction action = {.sa_sigaction = on_bus, .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK)}, old;
  if (sigaction(SIGBUS, &action, &old)) return false;
  if (!is_ours(&old)) before = old;
  return true;
}

bool os_guard_open(os_guard *g, const void *at, size_t n) {
  int i = 0;
  pthread_mutex_lock(&lock);
  while (i < RANGES && atomic_load(&ranges[i].to)) i++;
  bool ok = i < RANGES && (n_open > 0 || install());
  if (ok) {
    n_open++;
    atomic_store(&ranges[i].lost, false);
    atomic_store(&ranges[i].from, (uintptr_t)at);
    atomic_store(&ranges[i].to, (uintptr_t)at + n);
  }
  pthread_mutex_unlock(&lock);
  g->range = ok ? i + 1 : 0;
  return ok;
}

bool os_guard_lost(const os_guard *g) { return g->range && atomic_load(&ranges[g->range - 1].lost); }

/* The handler goes with the last range, unless somebody has put another in its place, which may well call ours. */
void os_guard_close(os_guard *g) {
  struct sigaction now;
  if (!g->range) return;
  pthread_mutex_lock(&lock);
  atomic_store(&ranges[g->range - 1].to, 0);
  if (--n_open == 0 && !sigaction(SIGBUS, NULL, &now) && is_ours(&now)) sigaction(SIGBUS, &before, NULL);
  pthread_mutex_unlock(&lock);
  g->range = 0;
}

static os_identity identity_of(const struct stat *s) {
  return (os_identity){.device = s->st_dev, .file = s->st_ino, .bytes = (uint64_t)s->st_size, .seconds = s->st_mtim.tv_sec,
                       .nanoseconds = s->st_mtim.tv_nsec};
}

bool os_identify(int fd, os_identity *is) {
  struct stat s;
  if (fstat(fd, &s)) return false;
  *is = identity_of(&s);
  return true;
}

static bool same(const os_identity *a, const os_identity *b) {
  return a->device == b->device && a->file == b->file && a->bytes == b->bytes && a->seconds == b->seconds && a->nanoseconds == b->nanoseconds;
}

/* errno says why not. */
static bool map_over(os_mapping *m, const char *path, uint64_t offset, size_t n, void *at) {
  os_identity now;
  if (base_fault_hit(FAULT_READ)) {
    errno = EIO;
    return false;
  }
  m->fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (m->fd < 0 || !os_identify(m->fd, &now)) return false;
  if (!same(&now, &m->is)) {
    errno = ESTALE;
    return false;
  }
  if (mmap(at, n, PROT_READ, MAP_PRIVATE | MAP_FIXED, m->fd, (off_t)offset) == MAP_FAILED) return false;
  if (os_guard_open(&m->guard, at, n)) return true;
  errno = ENFILE;
  return false;
}

status os_mapping_open(os_mapping **out, const char *path, const os_identity *is, uint64_t offset, size_t n, void *at, error *err) {
  void *p;
  *out = NULL;
  TRY(base_alloc(&p, sizeof(os_mapping), "mapping", err));
  os_mapping *m = p;
  *m = (os_mapping){.is = *is, .fd = -1};
  text_escape(m->path, sizeof m->path, path, strlen(path));
  if (map_over(m, path, offset, n, at)) {
    *out = m;
    return TANDEM_OK;
  }
  int cause = errno;
  base_fail(err, TANDEM_ERROR_IO, m->path, "%s: %zu bytes from %" PRIu64 " on cannot be mapped: %s", m->path, n, offset, strerror(cause));
  if (m->fd >= 0) close(m->fd);
  base_free(m);
  return TANDEM_ERROR_IO;
}

void os_mapping_close(os_mapping *m) {
  if (!m) return;
  os_guard_close(&m->guard);
  close(m->fd);
  base_free(m);
}

/* ---- while it is open ----------------------------------------------------------------------------------------------- */

void os_mapping_ask(const void *at, size_t n) {
  size_t into = (uintptr_t)at & ((size_t)sysconf(_SC_PAGESIZE) - 1);
  if (n) madvise((char *)(uintptr_t)at - into, n + into, MADV_WILLNEED);
}

void os_mapping_bring(const void *at, size_t n) {
  const volatile unsigned char *bytes = at;
  unsigned char sum = 0;
  /* One byte of each stretch that a fault maps at once. */
  for (size_t i = 0; i < n; i += OS_FAULT_AROUND) sum ^= bytes[i];
  (void)sum;
}

status os_mapping_check(const os_mapping *m, error *err) {
  os_identity now;
  if (!os_guard_lost(&m->guard) && os_identify(m->fd, &now) && same(&now, &m->is)) return TANDEM_OK;
  return base_fail(err, TANDEM_ERROR_IO, m->path, "%s: was written to while it was in use", m->path);
}
