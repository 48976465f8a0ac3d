/* check: every kernel slot against the scalar one, bit for bit, and scalar against oracle.c. One line a slot and type:
 *
 *   mm q4_K      scalar avx2 avx512    150 shapes  ok
 *
 * The levels named are those that have a kernel of their own.
 *   kernels_check [--level L] [--slot NAME] [--bench]
 * --level restricts the instruction sets (scalar is always run, the others are compared with it), --slot the lines ("mm",
 * "mm q4_K"). --bench times the matrix products ("mm") and attention ("attention") instead. Exit status 0: all passed; 1: not; 2: wrong
 * usage. */
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/check.h"

enum { MAX_MESSAGES = 4, LIMIT_SECONDS = 400 };

/* What a line's process tells its parent, also when it dies. */
typedef struct progress {
  char shape[200], note[160];
  cpu_level level;
  bool ran[CPU_LEVELS];
  long shapes, failures;
  bool done;
} progress;

static progress *told;

/* ---- messages of a line ---------------------------------------------------------------------------------------------- */

void check_shape(check *c, const char *format, ...) {
  va_list args;
  va_start(args, format);
  vsnprintf(told->shape, sizeof told->shape, format, args);
  va_end(args);
  told->shapes = ++c->shapes;
}

void check_level(cpu_level level) {
  told->level = level;
  told->ran[level] = true;
}

static bool same_kernel(const check *c, int a, int b, size_t slot_offset) {
  return memcmp((const char *)&c->kernels[a] + slot_offset, (const char *)&c->kernels[b] + slot_offset, sizeof(void (*)(void))) == 0;
}

bool check_runs(const check *c, int level, size_t slot_offset) {
  if (level == CPU_SCALAR) return true;
  if (!c->wanted[level] || same_kernel(c, level, CPU_SCALAR, slot_offset)) return false;
  for (int below = CPU_SCALAR + 1; below < level; below++) {
    if (c->wanted[below] && same_kernel(c, level, below, slot_offset)) return false;
  }
  return true;
}

void check_fail(check *c, const char *format, ...) {
  va_list args;
  told->failures = ++c->failures;
  if (c->failures > MAX_MESSAGES) return;
  printf("  %s (%s, %s): ", c->name, cpu_level_name(told->level), told->shape);
  va_start(args, format);
  vprintf(format, args);
  va_end(args);
  putchar('\n');
}

void check_bits(check *c, const char *what, const float *got, const float *want, int64_t n) {
  if (memcmp(got, want, (size_t)n * sizeof *got) == 0) return;
  int64_t i = 0, wrong = 0, first = -1;
  for (; i < n; i++) {
    if (memcmp(&got[i], &want[i], sizeof *got) == 0) continue;
    if (wrong++ == 0) first = i;
  }
  check_fail(c, "%s: %lld of %lld values differ, the first is [%lld] = %a, expected %a", what, (long long)wrong, (long long)n,
             (long long)first, (double)got[first], (double)want[first]);
}

void check_near(check *c, const char *what, const float *got, const double *want, const double *bound, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    if (fabs((double)got[i] - want[i]) <= bound[i]) continue;
    check_fail(c, "%s[%lld] = %.9g, oracle %.9g, off by %.3g, bound %.3g", what, (long long)i, (double)got[i], want[i],
               fabs((double)got[i] - want[i]), bound[i]);
    return;
  }
}

void check_zone(check *c, const char *what, const zone *z) {
  if (!zone_intact(z)) check_fail(c, "%s: bytes before or after it were written", what);
}

/* ---- lines ----------------------------------------------------------------------------------------------------------- */

#define TYPES_8(name, run) \
  {name, run, QUANT_F32}, {name, run, QUANT_F16}, {name, run, QUANT_BF16}, {name, run, QUANT_Q8_0}, \
  {name, run, QUANT_Q4_0}, {name, run, QUANT_Q4_K}, {name, run, QUANT_Q5_K}, {name, run, QUANT_Q6_K}
#define TYPES_KV(name, run) \
  {name, run, QUANT_F32}, {name, run, QUANT_F16}, {name, run, QUANT_BF16}, {name, run, QUANT_Q8_0}
static const check_line lines[] = {
    TYPES_8("pack", check_pack),
    TYPES_8("mm", check_mm),
    TYPES_KV("score", check_score),
    TYPES_KV("value", check_value),
    TYPES_KV("put_k", check_put_k),
    TYPES_KV("put_v", check_put_v),
    {"softmax", check_softmax, QUANT_TYPE_END},
    {"merge", check_merge, QUANT_TYPE_END},
    {"norm", check_norm, QUANT_TYPE_END},
    {"quant", check_quant, QUANT_BF16},
    {"quant", check_quant, QUANT_A32},
    {"quant", check_quant, QUANT_A256},
    {"add", check_add, QUANT_TYPE_END},
    {"scale", check_scale, QUANT_TYPE_END},
    {"axpy", check_axpy, QUANT_TYPE_END},
    {"glu silu", check_silu, QUANT_TYPE_END},
    {"glu gelu", check_gelu, QUANT_TYPE_END},
    {"cap", check_cap, QUANT_TYPE_END},
    {"rope", check_rope, QUANT_TYPE_END},
    {"exp_sum", check_exp_sum, QUANT_TYPE_END},
    {"exp", check_exp, QUANT_TYPE_END},
    {"tanh", check_tanh, QUANT_TYPE_END},
    {"angles", check_angles, QUANT_TYPE_END},
};

static void line_name(const check_line *line, char *name, size_t n) {
  bool typed = line->type != QUANT_TYPE_END;
  snprintf(name, n, "%s%s%s", line->name, typed ? " " : "", typed ? quant_find(line->type)->name : "");
}

static int run_line(const check_line *line, const char *name, const cpu_kernels *kernels, const bool *wanted) {
  check c = {.name = name, .type = line->type, .kernels = kernels, .wanted = wanted};
  uint64_t seed = 14695981039346656037u;
  for (const char *p = name; *p; p++) seed = (seed ^ (uint8_t)*p) * 1099511628211u;
  random_seed(seed);
  alarm(LIMIT_SECONDS);
  line->run(&c);
  snprintf(told->note, sizeof told->note, "%s", c.note);
  told->done = true;
  fflush(stdout);
  return c.failures != 0;
}

static bool check_one(const check_line *line, const cpu_kernels *kernels, const bool *wanted) {
  char name[40], levels[64] = "";
  int how = 0;
  line_name(line, name, sizeof name);
  memset(told, 0, sizeof *told);
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) _exit(run_line(line, name, kernels, wanted));
  if (child < 0 || waitpid(child, &how, 0) != child) {
    perror("kernels_check");
    exit(2);
  }
  if (!told->done) {
    printf("  %s (%s, %s): ended by %s %d\n", name, cpu_level_name(told->level), told->shape,
           WIFSIGNALED(how) ? "signal" : "status", WIFSIGNALED(how) ? WTERMSIG(how) : WEXITSTATUS(how));
  }
  bool ok = told->done && told->failures == 0;
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (told->ran[l]) strncat(strncat(levels, l ? " " : "", 2), cpu_level_name((cpu_level)l), 20);
  }
  printf("%-12s %-18s %6ld shapes  %s%s%s\n", name, levels, told->shapes, ok ? "ok" : "FAILED", told->note[0] ? "  " : "",
         told->note);
  return ok;
}

/* ---- options --------------------------------------------------------------------------------------------------------- */

typedef struct options {
  const char *slot;
  int level; /* -1: all */
  bool bench;
} options;

static bool parse(int argc, char **argv, options *o) {
  *o = (options){.level = -1};
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--bench") == 0) {
      o->bench = true;
    } else if (strcmp(argv[i], "--slot") == 0 && i + 1 < argc) {
      o->slot = argv[++i];
    } else if (strcmp(argv[i], "--level") == 0 && i + 1 < argc) {
      i++;
      for (int l = 0; l < CPU_LEVELS; l++) o->level = strcmp(argv[i], cpu_level_name((cpu_level)l)) == 0 ? l : o->level;
      if (o->level >= 0 && cpu_level_present((cpu_level)o->level)) continue;
      fprintf(stderr, "kernels_check: --level %s: not here\n", argv[i]);
      return false;
    } else {
      fprintf(stderr, "usage: kernels_check [--level NAME] [--slot NAME] [--bench]\n");
      return false;
    }
  }
  return true;
}

/* "mm" means all types of mm. */
static bool slot_meant(const options *o, const char *name) {
  size_t n = o->slot ? strlen(o->slot) : 0;
  return n == 0 || (strncasecmp(name, o->slot, n) == 0 && (name[n] == 0 || name[n] == ' '));
}

static int bench(const options *o, const cpu_kernels *kernels, const bool *wanted) {
  quant_type type = QUANT_TYPE_END;
  if (o->slot && strncmp(o->slot, "mm ", 3) == 0) {
    int t = quant_by_name(o->slot + 3);
    if (t < 0 || !kernels[CPU_SCALAR].mm[t]) {
      fprintf(stderr, "kernels_check: --slot %s: no such matrix product\n", o->slot);
      return 2;
    }
    type = (quant_type)t;
  }
  if (o->slot && strcmp(o->slot, "attention") == 0) return bench_attn(kernels, wanted);
  int failed = bench_mm(kernels, wanted, type);
  return failed || o->slot ? failed : bench_attn(kernels, wanted);
}

int main(int argc, char **argv) {
  static cpu_kernels kernels[CPU_LEVELS];
  bool wanted[CPU_LEVELS] = {false};
  options o;
  if (!parse(argc, argv, &o)) return 2;
  for (int l = 0; l < CPU_LEVELS; l++) {
    if (!cpu_level_present((cpu_level)l)) continue;
    cpu_kernels_fill(&kernels[l], (cpu_level)l);
    wanted[l] = o.level < 0 || o.level == l;
  }
  if (o.bench) return bench(&o, kernels, wanted);
  told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (told == MAP_FAILED) return 2;
  int passed = 0, failed = 0;
  for (size_t i = 0; i < COUNT_OF(lines); i++) {
    char name[40];
    line_name(&lines[i], name, sizeof name);
    if (!slot_meant(&o, name)) continue;
    if (check_one(&lines[i], kernels, wanted)) passed++;
    else failed++;
  }
  if (passed + failed == 0) {
    fprintf(stderr, "kernels_check: --slot %s: no such slot\n", o.slot);
    return 2;
  }
  printf("%d passed, %d failed\n", passed, failed);
  return failed != 0;
}
