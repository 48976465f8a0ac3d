/* os.c: files, clock, processors, memory: the only file that asks the operating system (memory.c and pool.c aside). */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

/* ---- files ------------------------------------------------------------------------------------------------------- */

static const char *kind_of(mode_t mode) {
  return S_ISDIR(mode) ? "a directory" : S_ISFIFO(mode) ? "a FIFO" : S_ISCHR(mode) || S_ISBLK(mode) ? "a device" : S_ISSOCK(mode) ? "a socket" : "special";
}

static status cannot(error *err, status code, const char *path, const char *what) {
  char name[300];
  return base_fail(err, code, path, "%s: cannot %s: %s", text_escape(name, sizeof name, path, strlen(path)), what, strerror(errno));
}

/* A regular file, and never a wait for a FIFO's writer or a device. */
static status open_regular(const char *path, int *fd, size_t *n, error *err) {
  struct stat s;
  char name[300];
  *fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (*fd < 0) return cannot(err, TANDEM_ERROR_OPEN, path, "open");
  status st = TANDEM_OK;
  if (fstat(*fd, &s)) st = cannot(err, TANDEM_ERROR_IO, path, "look at");
  else if (!S_ISREG(s.st_mode))
    st = base_fail(err, TANDEM_ERROR_OPEN, path, "%s: is %s, a regular file expected", text_escape(name, sizeof name, path, strlen(path)), kind_of(s.st_mode));
  if (st) close(*fd);
  else *n = (size_t)s.st_size;
  return st;
}

status os_map(os_file *file, const char *path, error *err) {
  int fd;
  size_t n;
  *file = (os_file){NULL, 0};
  if (base_fault_hit(FAULT_READ)) {
    errno = EIO;
    return cannot(err, TANDEM_ERROR_IO, path, "read");
  }
  TRY(open_regular(path, &fd, &n, err));
  status st = TANDEM_OK;
  if (n) {
    void *p = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) st = cannot(err, TANDEM_ERROR_IO, path, "map");
    else *file = (os_file){p, n};
  }
  close(fd);
  return st;
}

void os_unmap(os_file *file) {
  if (file->bytes) munmap((void *)(uintptr_t)file->bytes, file->n);
  *file = (os_file){NULL, 0};
}

static void advise(const os_file *file, size_t offset, size_t n, int advice) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), from = offset & ~(page - 1), end;
  if (!size_add(offset, n, &end) || end > file->n || n == 0) return;
  madvise((void *)(uintptr_t)(file->bytes + from), end - from, advice);
}

void os_will_need(const os_file *file, size_t offset, size_t n) { advise(file, offset, n, MADV_WILLNEED); }

/* Whole pages inside the range only: the border pages belong to neighbours too. */
void os_dont_need(const os_file *file, size_t offset, size_t n) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), from = size_align(offset, page), end = (offset + n) & ~(page - 1);
  if (end > from) advise(file, from, end - from, MADV_DONTNEED);
}

static status read_stream(text *out, int fd, const char *path, size_t limit, error *err) {
  char buffer[65536];
  for (;;) {
    ssize_t n = base_fault_hit(FAULT_READ) ? (errno = EIO, -1) : read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return cannot(err, TANDEM_ERROR_IO, path, "read");
    if (n == 0) return text_add(out, "", 0, err);
    if ((size_t)n > limit - out->n) return base_fail(err, TANDEM_ERROR_IO, path, "%s: more than %zu bytes", path, limit);
    TRY(text_add(out, buffer, (size_t)n, err));
  }
}

status os_read_all(text *out, const char *path, size_t limit, error *err) {
  if (!strcmp(path, "-")) return read_stream(out, STDIN_FILENO, "standard input", limit, err);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat s;
  if (fd < 0) return cannot(err, TANDEM_ERROR_OPEN, path, "open");
  status st = TANDEM_OK;
  if (fstat(fd, &s) || S_ISDIR(s.st_mode)) {
    errno = S_ISDIR(s.st_mode) ? EISDIR : errno;
    st = cannot(err, TANDEM_ERROR_OPEN, path, "read");
  }
  if (!st) st = read_stream(out, fd, path, limit, err);
  close(fd);
  return st;
}

static bool write_bytes(int fd, const char *bytes, size_t n) {
  while (n) {
    ssize_t k = write(fd, bytes, n);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) return false;
    bytes += k;
    n -= (size_t)k;
  }
  return true;
}

/* The directory's entry must be on the disk too. */
static void sync_directory(const char *path) {
  char directory[4096];
  const char *slash = strrchr(path, '/');
  int n = snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
  if (n < 0 || (size_t)n >= sizeof directory) return;
  int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

status os_write_all(const char *path, const void *bytes, size_t n, error *err) {
  char temporary[4096];
  int length = snprintf(temporary, sizeof temporary, "%s.%016" PRIx64 ".tmp", path, os_random());
  if (length < 0 || (size_t)length >= sizeof temporary) {
    errno = ENAMETOOLONG;
    return cannot(err, TANDEM_ERROR_IO, path, "write");
  }
  int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return cannot(err, TANDEM_ERROR_IO, path, "write");
  bool written = write_bytes(fd, bytes, n) && fsync(fd) == 0;
  if (close(fd) || !written || rename(temporary, path)) {
    int cause = errno;
    unlink(temporary);
    errno = cause;
    return cannot(err, TANDEM_ERROR_IO, path, "write");
  }
  sync_directory(path);
  return TANDEM_OK;
}

/* ---- clock, chance, terminal ------------------------------------------------------------------------------------- */

double os_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t os_random(void) {
  uint64_t r;
  if (getrandom(&r, sizeof r, 0) == sizeof r) return r;
  struct timespec t; /* a kernel without getrandom: time is what there is */
  clock_gettime(CLOCK_REALTIME, &t);
  return ((uint64_t)t.tv_sec * 1000000007u) ^ (uint64_t)t.tv_nsec ^ ((uint64_t)getpid() << 40);
}

bool os_is_terminal(int fd) { return isatty(fd) == 1; }

void os_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* ---- what this process may use ----------------------------------------------------------------------------------- */

/* The start of a small file of /proc or /sys, terminated; false if there is none. */
static bool small_file(const char *path, char *out, size_t n) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t got = read(fd, out, n - 1);
  close(fd);
  if (got < 0) return false;
  out[got] = 0;
  return true;
}

static bool small_number(const char *path, double *v) {
  char s[64], *end;
  if (!small_file(path, s, sizeof s)) return false;
  *v = strtod(s, &end);
  return end != s;
}

/* Processors of the cgroup's quota, version 2 or 1; 0 = no limit. */
static double cgroup_processors(void) {
  char s[64];
  double quota = 0, period = 0;
  if (small_file("/sys/fs/cgroup/cpu.max", s, sizeof s) && sscanf(s, "%lf %lf", &quota, &period) == 2 && period > 0) return quota / period;
  if (small_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota) && small_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period) && quota > 0 && period > 0)
    return quota / period;
  return 0;
}

int os_processors(void) {
  cpu_set_t set;
  int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
  double quota = cgroup_processors();
  if (quota > 0 && quota < n) n = quota < 1 ? 1 : (int)quota;
  return n < 1 ? 1 : n;
}

/* The cgroup's limit less what it uses; false without a limit. A version 1 "no limit" is a number near 2^63. */
static bool cgroup_room(const char *limit_path, const char *usage_path, double *room) {
  double limit, usage;
  if (!small_number(limit_path, &limit) || !small_number(usage_path, &usage) || limit > 0x1p62) return false;
  *room = limit > usage ? limit - usage : 0;
  return true;
}

uint64_t os_memory_free(void) {
  char s[4096];
  double available = 0x1p62, room;
  if (small_file("/proc/meminfo", s, sizeof s)) {
    const char *line = strstr(s, "MemAvailable:");
    if (line) available = strtod(line + strlen("MemAvailable:"), NULL) * 1024;
  }
  if (cgroup_room("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", &room) && room < available) available = room;
  if (cgroup_room("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes", &room) && room < available) available = room;
  return (uint64_t)available;
}

uint64_t os_memory_peak(void) {
  struct rusage r;
  return getrusage(RUSAGE_SELF, &r) == 0 ? (uint64_t)r.ru_maxrss * 1024 : 0;
}
