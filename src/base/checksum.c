/* checksum.c: XXH3 with 64 bits, from xxhash.h alone: nothing to link against. The only file that knows the library. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/base.h"

static_assert(sizeof(XXH3_state_t) <= sizeof(checksum) && _Alignof(XXH3_state_t) <= _Alignof(checksum),
              "a checksum holds the library's state");

static XXH3_state_t *state_of(checksum *c) { return (XXH3_state_t *)(void *)c->state; }

void checksum_open(checksum *c, uint64_t seed) {
  *c = (checksum){{0}}; /* reset compares with the seed that is there */
  XXH3_64bits_reset_withSeed(state_of(c), seed);
}

void checksum_add(checksum *c, const void *bytes, size_t n) { XXH3_64bits_update(state_of(c), bytes, n); }

uint64_t checksum_value(const checksum *c) { return XXH3_64bits_digest((const XXH3_state_t *)(const void *)c->state); }

uint64_t checksum_bytes(const void *bytes, size_t n, uint64_t seed) { return XXH3_64bits_withSeed(bytes, n, seed); }
