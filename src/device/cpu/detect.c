/* detect: which instruction set levels this machine and this build have, and the kernel table of a level. Levels are a
 * cascade: each overrides slots of those below. Knows nothing of what kernels do. */
#include <string.h>

#include "device/cpu/cpu.h"

static const char *const level_names[CPU_LEVELS] = {[CPU_SCALAR] = "scalar", [CPU_AVX2] = "avx2", [CPU_AVX512] = "avx512"};

const char *cpu_level_name(cpu_level level) { return (unsigned)level < CPU_LEVELS ? level_names[level] : "unknown"; }

#if defined(CPU_HAVE_X86)
#include <cpuid.h>

/* Register state the operating system saves: bits 1, 2 SSE and AVX; 5, 6, 7 mask registers and the 512-bit halves. */
static uint64_t saved_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

static bool all(uint64_t have, uint64_t want) { return (have & want) == want; }

static bool x86_present(cpu_level level) {
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return false;
  const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28, f16c = 1u << 29;
  if (!all(c, fma | osxsave | avx | f16c)) return false;
  uint64_t state = saved_state();
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const unsigned avx2 = 1u << 5, f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31, vnni = 1u << 11;
  if (!all(state, 0x6) || !all(b, avx2)) return false;
  return level == CPU_AVX2 || (all(state, 0xe6) && all(b, f | dq | bw | vl) && all(c, vnni));
}

static void x86_fill(cpu_kernels *k, cpu_level level) {
  if (level >= CPU_AVX2) {
    cpu_avx2_mm(k);
    cpu_avx2_attn(k);
    cpu_avx2_row(k);
  }
  if (level >= CPU_AVX512) {
    cpu_avx512_mm(k);
    cpu_avx512_attn(k);
    cpu_avx512_row(k);
  }
}
#else
static bool x86_present(cpu_level level) { return (void)level, false; }
static void x86_fill(cpu_kernels *k, cpu_level level) { (void)k, (void)level; }
#endif

bool cpu_level_present(cpu_level level) {
  if (level == CPU_SCALAR) return true;
  return (unsigned)level < CPU_LEVELS && x86_present(level);
}

void cpu_kernels_fill(cpu_kernels *k, cpu_level level) {
  memset(k, 0, sizeof *k);
  cpu_scalar_mm(k);
  cpu_scalar_attn(k);
  cpu_scalar_row(k);
  x86_fill(k, level);
}
