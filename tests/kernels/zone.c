/* zone: buffers between pages that cannot be touched, pattern bytes around what is placed in them, and random data. */
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kernels/check.h"

enum { PAGE = 4096, MARGIN = 512, PATTERN = 0xFF }; /* 0xFFFFFFFF is a quiet NaN: it shows wherever it is used */

void zone_open(zone *z, size_t capacity) {
  size_t n = size_align(capacity + 4 * MARGIN, PAGE);
  z->map = mmap(NULL, n + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (z->map == MAP_FAILED || mprotect(z->map + PAGE, n, PROT_READ | PROT_WRITE)) {
    perror("kernels_check: no memory");
    _exit(2);
  }
  z->map += PAGE;
  z->end = z->map + n;
  z->capacity = capacity;
  z->data = z->end;
  z->n = 0;
}

void *zone_place(zone *z, size_t n, size_t align, bool tight) {
  if (n > z->capacity) {
    fprintf(stderr, "kernels_check: %zu bytes asked, %zu there\n", n, z->capacity);
    _exit(2);
  }
  size_t slack = tight ? 0 : align * (size_t)(1 + random_below((int)(MARGIN / align)));
  uint8_t *data = z->end - slack - n;
  data -= (uintptr_t)data % align;
  /* Nothing of the last placement may lie around this one. */
  uint8_t *from = data - MARGIN < z->data - MARGIN ? data - MARGIN : z->data - MARGIN;
  memset(from, PATTERN, (size_t)(z->end - from));
  z->data = data;
  z->n = n;
  return data;
}

void zone_blank(zone *z) { memset(z->data, PATTERN, z->n); }

void zone_seal(zone *z, bool sealed) {
  if (mprotect(z->map, (size_t)(z->end - z->map), sealed ? PROT_READ : PROT_READ | PROT_WRITE)) _exit(2);
}

bool zone_intact(const zone *z) {
  for (const uint8_t *p = z->data - MARGIN; p < z->end; p++) {
    if (p == z->data) p += z->n;
    if (p < z->end && *p != PATTERN) return false;
  }
  return true;
}

/* ---- random data --------------------------------------------------------------------------------------------------- */

static uint64_t state = 1; /* of this process */

uint64_t random_seed(uint64_t seed) { return state = seed * 2 + 1; }

uint32_t random_bits(void) { /* xorshift64* */
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (uint32_t)((state * 0x2545F4914F6CDD1Du) >> 32);
}

int random_below(int n) { return (int)(random_bits() % (uint32_t)n); }
float random_unit(void) { return (float)((double)random_bits() / 2147483648.0 - 1.0); }
float random_normal(void) { return random_unit() + random_unit() + random_unit(); }

const char *data_name(data_kind kind) {
  static const char *const names[DATA_KINDS] = {"normal", "wide", "zeros", "large", "small", "brink"};
  return names[kind];
}

/* large: products of two and sums of thousands stay finite. small: subnormals among them, also in products. */
void random_floats(float *x, int64_t n, data_kind kind) {
  for (int64_t i = 0; i < n; i++) {
    switch (kind) {
    case DATA_WIDE: x[i] = ldexpf(random_unit(), random_below(40) - 20); break;
    case DATA_ZEROS: x[i] = random_below(4) ? random_below(2) ? 0.0f : -0.0f : random_normal(); break;
    case DATA_LARGE: x[i] = random_unit() * 1e15f; break;
    case DATA_SMALL: {
      static const float sizes[] = {1e-19f, 1e-19f, 1e-39f, 1};
      x[i] = random_unit() * sizes[random_below(4)];
      break;
    }
    case DATA_BRINK: {
      static const int exponents[] = {-63, -63, -63, -64, -70, -76, -77};
      x[i] = ldexpf(random_below(2) ? 1 : 1 + fabsf(random_unit()), exponents[random_below(7)]) * (random_below(2) ? 1.0f : -1.0f);
      break;
    }
    default: x[i] = random_normal();
    }
  }
}
