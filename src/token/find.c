/* find: lookups by key and by pair. Owns nothing. Both tables are open addressing with linear probing, at most half full;
 * the hashes are seeded at random, so a file cannot be made whose keys collide. */
#include "token/vocab.h"

/* Product of 64 x 64 bits folded to 64: every bit of the operands reaches every bit of the result. */
static inline uint64_t fold(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Two odd constants without pattern: fractions of the square roots of 2 and 3. */
#define FIRST_FACTOR 0x6a09e667f3bcc909u
#define SECOND_FACTOR 0xbb67ae8584caa73bu

static inline uint64_t load(const char *s, size_t n) {
  uint64_t word = 0;
  if (n >= 8) {
    memcpy(&word, s, 8);
    return word;
  }
  if (n >= 4) { /* two halves that overlap */
    uint32_t first, last;
    memcpy(&first, s, 4);
    memcpy(&last, s + n - 4, 4);
    return (uint64_t)last << 32 | first;
  }
  for (size_t i = 0; i < n; i++) word = word << 8 | (uint8_t)s[i];
  return word;
}

uint64_t token_hash(uint64_t seed, const char *s, size_t n) {
  uint64_t hash = seed ^ fold(n + 1, SECOND_FACTOR);
  for (; n > 8; s += 8, n -= 8) hash = fold(hash ^ load(s, 8), FIRST_FACTOR ^ seed);
  hash = fold(hash ^ load(s, n), FIRST_FACTOR ^ seed);
  return fold(hash, SECOND_FACTOR);
}

uint64_t token_hash_pair(uint64_t seed, uint32_t a, uint32_t b) {
  return fold(((uint64_t)a << 32 | b) ^ seed, FIRST_FACTOR ^ seed);
}

int32_t token_find(const tokenizer *t, const char *key, size_t n) {
  if (n > t->longest_key) return -1;
  for (size_t i = (size_t)token_hash(t->seed, key, n) & t->place_mask;; i = (i + 1) & t->place_mask) {
    if (t->places[i] == 0) return -1;
    int32_t id = (int32_t)t->places[i] - 1;
    gguf_string other = token_key(t, id);
    if (other.n == n && memcmp(other.s, key, n) == 0) return id;
  }
}

bool token_is_text(const tokenizer *t, int32_t id) {
  return t->attr[id] != TOKEN_CONTROL && t->attr[id] != TOKEN_UNKNOWN && t->attr[id] != TOKEN_BYTE;
}

int32_t token_find_text(const tokenizer *t, const char *key, size_t n) {
  int32_t id = token_find(t, key, n);
  return id >= 0 && token_is_text(t, id) ? id : -1;
}

const token_merge *token_find_merge(const tokenizer *t, uint32_t left, uint32_t right) {
  for (size_t i = (size_t)token_hash_pair(t->seed, left, right) & t->merge_mask;; i = (i + 1) & t->merge_mask) {
    const token_merge *merge = &t->merges[i];
    if (merge->result == 0) return NULL;
    if (merge->left == left && merge->right == right) return merge;
  }
}
