/* philox: Philox4x32-10, a counter-based generator: what it gives is a function of key and counter, there is no state.
 *
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the constants are theirs.
 * Does not know what the numbers are for: counters are laid out here, once. */
#include <string.h>

#include "sample/sample.h"

enum { ROUNDS = 10 };

void sample_philox(const uint32_t key[2], const uint32_t counter[4], uint32_t words[4]) {
  uint32_t k0 = key[0], k1 = key[1];
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  for (int i = 0; i < ROUNDS; i++) {
    uint64_t a = (uint64_t)0xd2511f53u * c0, b = (uint64_t)0xcd9e8d57u * c2;
    c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
    c1 = (uint32_t)b;
    c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
    c3 = (uint32_t)a;
    k0 += 0x9e3779b9u; /* golden ratio */
    k1 += 0xbb67ae85u; /* sqrt(3) - 1 */
  }
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

/* The same rounds on SAMPLE_LANES counters side by side, in a form that compilers turn into vector instructions. */
void sample_philox_run(const uint32_t key[2], const uint32_t counter[4], uint32_t words[4][SAMPLE_LANES]) {
  uint32_t k0 = key[0], k1 = key[1];
  uint32_t c0[SAMPLE_LANES], c1[SAMPLE_LANES], c2[SAMPLE_LANES], c3[SAMPLE_LANES];
  for (uint32_t j = 0; j < SAMPLE_LANES; j++) {
    c0[j] = counter[0];
    c1[j] = counter[1];
    c2[j] = counter[2];
    c3[j] = counter[3] + j;
  }
  for (int i = 0; i < ROUNDS; i++) {
    for (int j = 0; j < SAMPLE_LANES; j++) {
      uint64_t a = (uint64_t)0xd2511f53u * c0[j], b = (uint64_t)0xcd9e8d57u * c2[j];
      c0[j] = (uint32_t)(b >> 32) ^ c1[j] ^ k0;
      c1[j] = (uint32_t)b;
      c2[j] = (uint32_t)(a >> 32) ^ c3[j] ^ k1;
      c3[j] = (uint32_t)a;
    }
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
  memcpy(words[0], c0, sizeof c0);
  memcpy(words[1], c1, sizeof c1);
  memcpy(words[2], c2, sizeof c2);
  memcpy(words[3], c3, sizeof c3);
}

/* x = high, low; (x >> 11) + 1/2 rounds to 2^53 for the very largest x: that one is kept below 1. */
double sample_unit(uint32_t low, uint32_t high) {
  uint64_t x = (uint64_t)high << 32 | low;
  double u = ((double)(x >> 11) + 0.5) * 0x1p-53;
  return u < 1 ? u : 1 - 0x1p-53;
}

double sample_uniform(uint64_t seed, uint64_t index, uint32_t stream, uint32_t choice, uint32_t id) {
  uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
  uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), stream << 24 | (choice & 0xffffffu), id >> 1};
  uint32_t words[4];
  sample_philox(key, counter, words);
  return id & 1 ? sample_unit(words[2], words[3]) : sample_unit(words[0], words[1]);
}
