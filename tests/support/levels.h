/* levels.h: the instruction set levels by name, for tests that go through all of them. */
#ifndef LEVELS_H
#define LEVELS_H

static const char *const test_levels[] = {"scalar", "avx2", "avx512", "avx512bf16"};

#endif
