/* os.c: files, clock, processors, memory: the only file that asks the operating system (memory.c and pool.c aside). */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

/* ---- files ------------------------------------------------------------------------------------------------------- */

enum { PATH_SHOWN = 300 };

static const char *kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return S_ISCHR(mode) || S_ISBLK(mode) ? "a device" : "something special";
}

/* "path: cannot open: No such file or directory", from errno. */
static status cannot(error *err, status code, const char *path, const char *what) {
  char name[PATH_SHOWN];
  int cause = errno;
  text_escape(name, sizeof name, path, strlen(path));
  return base_fail(err, code, name, "%s: cannot %s: %s", name, what, strerror(cause));
}

static status not_regular(error *err, status code, const char *path, mode_t mode) {
  char name[PATH_SHOWN];
  text_escape(name, sizeof name, path, strlen(path));
  return base_fail(err, code, name, "%s: is %s, must be a regular file", name, kind_of(mode));
}

/* A regular file, and never a wait for a FIFO's writer or a device. */
static status open_regular(const char *path, int *fd, os_identity *is, error *err) {
  struct stat s;
  *fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (*fd < 0) {
    int cause = errno;
    bool special = stat(path, &s) == 0 && !S_ISREG(s.st_mode); /* a socket, for one, cannot even be opened */
    errno = cause;
    return special ? not_regular(err, TANDEM_ERROR_OPEN, path, s.st_mode) : cannot(err, TANDEM_ERROR_OPEN, path, "open");
  }
  status st = TANDEM_OK;
  if (fstat(*fd, &s)) st = cannot(err, TANDEM_ERROR_IO, path, "look at");
  else if (!S_ISREG(s.st_mode)) st = not_regular(err, TANDEM_ERROR_OPEN, path, s.st_mode);
  if (!st && !os_identify(*fd, is)) st = cannot(err, TANDEM_ERROR_IO, path, "look at");
  if (st) close(*fd);
  return st;
}

status os_map(os_file *file, const char *path, error *err) {
  int fd;
  os_identity is;
  *file = (os_file){0};
  if (base_fault_hit(FAULT_READ)) {
    errno = EIO;
    return cannot(err, TANDEM_ERROR_IO, path, "read");
  }
  TRY(open_regular(path, &fd, &is, err));
  status st = TANDEM_OK;
  if (is.bytes) {
    void *p = mmap(NULL, is.bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) st = cannot(err, TANDEM_ERROR_IO, path, "map");
    else *file = (os_file){.bytes = p, .n = is.bytes, .is = is};
    if (!st) os_guard_open(&file->guard, p, is.bytes); /* without one it is read all the same */
  }
  close(fd);
  return st;
}

void os_unmap(os_file *file) {
  os_guard_close(&file->guard);
  if (file->bytes) munmap((void *)(uintptr_t)file->bytes, file->n);
  *file = (os_file){0};
}

static void advise(const os_file *file, size_t offset, size_t n, int advice) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), from = offset & ~(page - 1), end;
  if (!size_add(offset, n, &end) || end > file->n || n == 0) return;
  madvise((void *)(uintptr_t)(file->bytes + from), end - from, advice);
}

void os_will_need(const os_file *file, size_t offset, size_t n) { advise(file, offset, n, MADV_WILLNEED); }

/* As far as a fault brings in, letting go reaches beyond the range. Pages of a file lose nothing by it: a neighbour that is still read
 * is found in the page cache. */
void os_dont_need(const os_file *file, size_t offset, size_t n) {
  size_t end;
  if (!size_add(offset, n, &end) || end > file->n || n == 0) return;
  size_t from = offset & ~(size_t)(OS_FAULT_AROUND - 1);
  end = end < file->n - end % OS_FAULT_AROUND ? size_align(end, OS_FAULT_AROUND) : file->n;
  advise(file, from, end - from, MADV_DONTNEED);
}

static status read_stream(text *out, int fd, const char *path, size_t limit, error *err) {
  char buffer[65536];
  size_t total = 0;
  for (;;) {
    ssize_t n = base_fault_hit(FAULT_READ) ? (errno = EIO, -1) : read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return cannot(err, TANDEM_ERROR_IO, path, "read");
    if (n == 0) return text_add(out, "", 0, err);
    total += (size_t)n;
    if (total > limit) {
      char name[PATH_SHOWN];
      text_escape(name, sizeof name, path, strlen(path));
      return base_fail(err, TANDEM_ERROR_IO, name, "%s: more than %zu bytes, the most that is read", name, limit);
    }
    TRY(text_add(out, buffer, (size_t)n, err));
  }
}

/* Waits for a FIFO: it is how a shell hands over what another program writes. */
status os_read_all(text *out, const char *path, size_t limit, error *err) {
  if (!strcmp(path, "-")) return read_stream(out, STDIN_FILENO, "standard input", limit, err);
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  struct stat s;
  if (fd < 0) return cannot(err, TANDEM_ERROR_OPEN, path, "open");
  status st = TANDEM_OK;
  if (fstat(fd, &s)) st = cannot(err, TANDEM_ERROR_IO, path, "look at");
  else if (S_ISDIR(s.st_mode)) st = not_regular(err, TANDEM_ERROR_OPEN, path, s.st_mode);
  if (!st) st = read_stream(out, fd, path, limit, err);
  close(fd);
  return st;
}

/* The directory's entry must be on the disk too. A file system that cannot do this has done what it can. */
static void sync_directory(const char *path) {
  char directory[OS_PATH_BYTES];
  const char *slash = strrchr(path, '/');
  int n = snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
  if (n < 0 || (size_t)n >= sizeof directory) return;
  int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

/* Where to write: what a link points to, and never over a device. */
static status find_target(const char *path, char target[OS_PATH_BYTES], error *err) {
  struct stat s;
  if (stat(path, &s) == 0) {
    if (!S_ISREG(s.st_mode)) return not_regular(err, TANDEM_ERROR_IO, path, s.st_mode);
    return realpath(path, target) ? TANDEM_OK : cannot(err, TANDEM_ERROR_IO, path, "write");
  }
  if (errno == ENOENT && (size_t)snprintf(target, OS_PATH_BYTES, "%s", path) >= OS_PATH_BYTES) errno = ENAMETOOLONG;
  return errno == ENOENT ? TANDEM_OK : cannot(err, TANDEM_ERROR_IO, path, "write");
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

enum { LITTER_TRIES = 8 }; /* each one too many means that somebody else has come in between */

static bool write_fails(void) {
  if (!base_fault_hit(FAULT_WRITE)) return false;
  errno = ENOSPC;
  return true;
}

/* Is this open file the one that has the name, and has it no other? */
static bool is_named(int fd, const char *path, struct stat *s) {
  struct stat named;
  return fstat(fd, s) == 0 && lstat(path, &named) == 0 && s->st_dev == named.st_dev && s->st_ino == named.st_ino;
}

/* One try to have an empty temporary file under a lock; *fd stays -1 if there was litter, which is gone now. Only who holds
 * the lock of the file that has the name removes or renames it. The lock ends with the process. */
static status take_temporary(os_writer *w, error *err) {
  struct stat s;
  int fd = write_fails() ? -1 : open(w->temporary, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0666);
  if (fd < 0) return cannot(err, TANDEM_ERROR_IO, w->path, "write");
  if (flock(fd, LOCK_EX | LOCK_NB)) {
    bool busy = errno == EWOULDBLOCK;
    status st = cannot(err, busy ? TANDEM_ERROR_BUSY : TANDEM_ERROR_IO, w->path, busy ? "write, another process does" : "lock");
    close(fd);
    return st;
  }
  if (is_named(fd, w->temporary, &s)) {
    if (S_ISREG(s.st_mode) && s.st_size == 0 && s.st_nlink == 1) {
      w->fd = fd;
      return TANDEM_OK;
    }
    unlink(w->temporary);
  }
  close(fd);
  return TANDEM_OK;
}

status os_writer_open(os_writer *w, const char *path, error *err) {
  w->fd = -1;
  w->path = path;
  TRY(find_target(path, w->target, err));
  snprintf(w->temporary, sizeof w->temporary, "%s.unfinished", w->target);
  for (int i = 0; i < LITTER_TRIES && w->fd < 0; i++) TRY(take_temporary(w, err));
  if (w->fd >= 0) return TANDEM_OK;
  errno = EBUSY;
  return cannot(err, TANDEM_ERROR_BUSY, path, "write");
}

status os_writer_add(os_writer *w, const void *bytes, size_t n, error *err) {
  const char *from = bytes;
  while (n) {
    ssize_t k = write_fails() ? -1 : write(w->fd, from, n);
    if (k < 0 && errno == EINTR) continue;
    if (k < 0) return cannot(err, TANDEM_ERROR_IO, w->path, "write");
    from += k;
    n -= (size_t)k;
  }
  return TANDEM_OK;
}

status os_writer_commit(os_writer *w, error *err) {
  if (write_fails() || fsync(w->fd) || write_fails() || rename(w->temporary, w->target))
    return cannot(err, TANDEM_ERROR_IO, w->path, "write");
  close(w->fd); /* the lock goes when the name is given up, and what fsync has brought to the disk is there */
  w->fd = -1;
  sync_directory(w->target);
  return TANDEM_OK;
}

void os_writer_close(os_writer *w) {
  if (w->fd < 0) return;
  unlink(w->temporary);
  close(w->fd);
  w->fd = -1;
}

status os_write_all(const char *path, const void *bytes, size_t n, error *err) {
  os_writer w;
  TRY(os_writer_open(&w, path, err));
  status st = os_writer_add(&w, bytes, n, err);
  if (!st) st = os_writer_commit(&w, err);
  os_writer_close(&w);
  return st;
}

bool os_exists(const char *path) {
  struct stat s;
  return lstat(path, &s) == 0;
}

bool os_same_file(const char *a, const char *b) {
  struct stat s, t;
  return !stat(a, &s) && !stat(b, &t) && s.st_dev == t.st_dev && s.st_ino == t.st_ino;
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

bool os_is_file(int fd) {
  struct stat s;
  return !fstat(fd, &s) && S_ISREG(s.st_mode);
}

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

/* A process may sit deep in the tree of its cgroups, and every level may have a limit. What a container sees as the root
 * has its limits too. */
typedef double cgroup_limit(const char *directory); /* INFINITY: none at this level */

static double least_limit(const char *mount, const char *path, cgroup_limit *limit) {
  char directory[1024];
  double least = INFINITY;
  if ((size_t)snprintf(directory, sizeof directory, "%s%s", mount, path) >= sizeof directory) return least;
  for (;;) {
    least = fmin(least, limit(directory));
    char *slash = strrchr(directory, '/');
    if (!slash || strlen(directory) <= strlen(mount)) return least;
    *slash = 0;
  }
}

/* Lines of /proc/self/cgroup: "0::/path" for version 2, "4:memory:/path" and "1:cpu,cpuacct:/path" for version 1. */
static double cgroup_least(const char *controller, const char *mount_1, cgroup_limit *limit_1, cgroup_limit *limit_2) {
  char s[4096], *save = NULL;
  double least = fmin(least_limit(mount_1, "", limit_1), least_limit("/sys/fs/cgroup", "", limit_2));
  if (!small_file("/proc/self/cgroup", s, sizeof s)) return least;
  for (char *line = strtok_r(s, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) continue;
    *path++ = 0;
    if (!strcmp(line, "0:")) least = fmin(least, least_limit("/sys/fs/cgroup", path, limit_2));
    else if (strstr(controllers, controller)) least = fmin(least, least_limit(mount_1, path, limit_1));
  }
  return least;
}

static bool cgroup_number(const char *directory, const char *file, double *v) {
  char path[1100];
  snprintf(path, sizeof path, "%s/%s", directory, file);
  return small_number(path, v);
}

static double processors_1(const char *directory) {
  double quota, period;
  bool limited = cgroup_number(directory, "cpu.cfs_quota_us", &quota) && cgroup_number(directory, "cpu.cfs_period_us", &period);
  return limited && quota > 0 && period > 0 ? quota / period : INFINITY;
}

static double processors_2(const char *directory) {
  char path[1100], s[64];
  double quota, period;
  snprintf(path, sizeof path, "%s/cpu.max", directory);
  bool limited = small_file(path, s, sizeof s) && sscanf(s, "%lf %lf", &quota, &period) == 2;
  return limited && quota > 0 && period > 0 ? quota / period : INFINITY;
}

int os_processors(void) {
  cpu_set_t set;
  int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
  double quota = cgroup_least("cpu", "/sys/fs/cgroup/cpu", processors_1, processors_2);
  if (quota < n) n = (int)quota;
  return n < 1 ? 1 : n;
}

/* "name 123" in a file of such lines; 0 if it is not there. */
static double stat_line(const char *s, const char *name) {
  size_t n = strlen(name);
  for (; s; s = strchr(s, '\n')) {
    s += *s == '\n';
    if (!strncmp(s, name, n) && s[n] == ' ') return strtod(s + n, NULL);
  }
  return 0;
}

/* Limit less usage. What the page cache holds of files is given up when memory is wanted, so it does not count as used: a
 * model that was just read would else look like a full machine. A version 1 "no limit" is a number near 2^63. */
static double room(const char *directory, const char *const names[4]) {
  char path[1100], s[8192] = "";
  double limit, usage;
  if (!cgroup_number(directory, names[0], &limit) || !cgroup_number(directory, names[1], &usage)) return INFINITY;
  if (limit > 0x1p62) return INFINITY;
  snprintf(path, sizeof path, "%s/memory.stat", directory);
  if (small_file(path, s, sizeof s)) usage -= stat_line(s, names[2]) + stat_line(s, names[3]);
  return fmax(0, limit - fmax(0, usage));
}

static double room_1(const char *directory) {
  static const char *const names[] = {"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
                                      "total_active_file"};
  return room(directory, names);
}

/* Above memory.high the kernel slows a process down until it stands still: a limit, too. */
static double room_2(const char *directory) {
  static const char *const most[] = {"memory.max", "memory.current", "inactive_file", "active_file"};
  static const char *const high[] = {"memory.high", "memory.current", "inactive_file", "active_file"};
  return fmin(room(directory, most), room(directory, high));
}

/* "Name:   123 kB" of a file of such lines in bytes; `otherwise` if it is not there. */
static double kib_line(const char *s, const char *name, double otherwise) {
  const char *line = strstr(s, name);
  return line ? strtod(line + strlen(name), NULL) * 1024 : otherwise;
}

/* Where the kernel promises no more than it has (vm.overcommit_memory = 2), a mapping counts although it is untouched. */
static double uncommitted(const char *meminfo) {
  double mode;
  if (!small_number("/proc/sys/vm/overcommit_memory", &mode) || mode != 2) return INFINITY;
  return fmax(0, kib_line(meminfo, "CommitLimit:", INFINITY) - kib_line(meminfo, "Committed_AS:", 0));
}

uint64_t os_memory_free(void) {
  char s[4096] = "";
  small_file("/proc/meminfo", s, sizeof s);
  double available = fmin(kib_line(s, "MemAvailable:", 0x1p62), uncommitted(s));
  return (uint64_t)fmin(fmin(available, 0x1p62), cgroup_least("memory", "/sys/fs/cgroup/memory", room_1, room_2));
}

os_memory os_memory_now(void) {
  char s[256], *at = s;
  uint64_t v[3] = {0}, page = (uint64_t)sysconf(_SC_PAGESIZE); /* of the address space, resident, of files */
  os_memory m = {.mappable = UINT64_MAX};
  if (!small_file("/proc/self/statm", s, sizeof s)) return m;
  for (int i = 0; i < 3; i++) v[i] = strtoull(at, &at, 10) * page;
  m.resident = v[1];
  m.anonymous = v[1] > v[2] ? v[1] - v[2] : 0;
  struct rlimit r;
  if (getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY) m.mappable = r.rlim_cur > v[0] ? r.rlim_cur - v[0] : 0;
  return m;
}

/* getrusage counts from before exec: what a large shell held when it forked would be ours. */
uint64_t os_memory_peak(void) {
  char s[4096] = "";
  struct rusage r;
  small_file("/proc/self/status", s, sizeof s);
  double peak = kib_line(s, "VmHWM:", 0);
  if (peak > 0) return (uint64_t)peak;
  return getrusage(RUSAGE_SELF, &r) == 0 ? (uint64_t)r.ru_maxrss * 1024 : 0;
}
