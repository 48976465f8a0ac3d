/* detect: which instruction set levels this machine and this build have, and the kernel table of a level. Levels are a
 * cascade: each overrides slots of those below. Knows nothing of what kernels do. */
#include <string.h>

#include "device/cpu/mm.h"

/* What a level overrides of those below it, and its loops of mm.h. */
typedef struct level_info {
  bool (*present)(void); /* NULL: this build lacks it */
  void (*fill[4])(cpu_kernels *k); /* products, attention, rows, products of pairs of panels; NULL: as below */
  void (*peak)(cpu_peak *p);
} level_info;

static bool always(void) { return true; }

enum { ZEN4 = 0x19, ZEN5 = 0x1a }; /* families of AMD that have AVX-512; no other maker has these numbers */

#if defined(CPU_HAVE_X86)
#include <cpuid.h>

/* Register state the operating system saves: bits 1, 2 SSE and AVX; 5, 6, 7 mask registers and the 512-bit halves. */
static uint64_t saved_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

static bool all(uint64_t have, uint64_t want) { return (have & want) == want; }

static bool has_avx2(void) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
  const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29, avx2 = 1u << 5;
  if (!all(c, fma | osxsave | avx | f16c) || !all(saved_state(), 0x6)) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && all(b, avx2);
}

static bool has_avx512(void) {
  unsigned a, b, c, d;
  if (!has_avx2() || !all(saved_state(), 0xe6) || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31, vnni = 1u << 11;
  return all(b, f | dq | bw | vl) && all(c, vnni);
}

/* A bit of what came later. */
static bool has_later(unsigned bit) {
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || a < 1) return false; /* a: the last subleaf */
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && all(a, bit);
}

static bool has_avxvnni(void) { return has_avx2() && has_later(1u << 4); }

static bool has_avx512bf16(void) { return has_avx512() && has_later(1u << 5); }

/* With the extension that is counted from 15 on. */
static unsigned family(void) {
  unsigned a, b, c, d;
  return __get_cpuid(1, &a, &b, &c, &d) ? (a >> 8 & 15) + (a >> 20 & 255) : 0;
}
#else
static unsigned family(void) { return 0; }
#endif

static const level_info levels[CPU_LEVELS] = {
    [CPU_SCALAR] = {always, {cpu_scalar_mm, cpu_scalar_attn, cpu_scalar_row}, cpu_scalar_peak},
#if defined(CPU_HAVE_X86)
    [CPU_AVX2] = {has_avx2, {cpu_avx2_mm, cpu_avx2_attn, cpu_avx2_row}, cpu_avx2_peak},
    [CPU_AVXVNNI] = {has_avxvnni, {cpu_avxvnni_mm}, cpu_avxvnni_peak},
    [CPU_AVX512] = {has_avx512, {cpu_avx512_mm, cpu_avx512_attn, cpu_avx512_row, cpu_avx512_mm_two}, cpu_avx512_peak},
    [CPU_AVX512BF16] = {has_avx512bf16, {cpu_avx512bf16_mm, cpu_avx512bf16_attn, NULL, cpu_avx512bf16_mm_two}, cpu_avx512bf16_peak},
#endif
};

const char *cpu_level_name(cpu_level level) {
  static const char *const names[] = {
#define LEVEL(id, name) #name,
#include "device/cpu/level.def"
#undef LEVEL
  };
  return (unsigned)level < CPU_LEVELS ? names[level] : "unknown";
}

bool cpu_level_present(cpu_level level) {
  return (unsigned)level < CPU_LEVELS && levels[level].present && levels[level].present();
}

void cpu_kernels_fill(cpu_kernels *k, cpu_level level) {
  memset(k, 0, sizeof *k);
  const unsigned processor = family();
  k->near = processor == ZEN5;
  for (int l = 0; l <= (int)level; l++)
    for (size_t i = 0; i < COUNT_OF(levels[l].fill); i++)
      if (levels[l].fill[i]) levels[l].fill[i](k);
  if (processor == ZEN4) memset(k->mm_two, 0, sizeof k->mm_two); /* multiplies one line a cycle, for which it loads enough */
}

void cpu_level_peak(cpu_level level, cpu_peak *p) {
  memset(p, 0, sizeof *p);
  for (int l = 0; l <= (int)level; l++)
    if (levels[l].peak) levels[l].peak(p);
}
