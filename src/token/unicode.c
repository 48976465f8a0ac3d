/* unicode: characters of a text and what they are: their general category, and the alphabet in which `gpt2` vocabularies
 * write bytes. Owns nothing; the categories are in unicode_tables.c. Does not know what a word is. */
#include "token/vocab.h"

token_category token_category_of(uint32_t rune) {
  size_t low = 0, high = token_n_category_runs;
  while (high - low > 1) {
    size_t middle = low + (high - low) / 2;
    if (token_category_runs[middle] >> 8 <= rune) low = middle;
    else high = middle;
  }
  return (token_category)(token_category_runs[low] & 0xff);
}

size_t token_character(const char *s, size_t n, uint32_t *rune) {
  if ((uint8_t)*s < 0x80) {
    *rune = (uint8_t)*s;
    return 1;
  }
  int length = utf8_decode(s, n, rune);
  if (length > 0) return (size_t)length;
  *rune = 0xfffd;
  return 1;
}

/* Bytes that are printable characters of Latin-1 stand for themselves; the other 68 follow from U+0100 on, in order:
 * 0x00..0x20 at U+0100..U+0120, 0x7f..0xa0 at U+0121..U+0142, 0xad at U+0143. */
uint32_t token_rune_of_byte(uint8_t byte) {
  if (byte <= 0x20) return 0x100u + byte;
  if (byte >= 0x7f && byte <= 0xa0) return 0x121u + (byte - 0x7fu);
  return byte == 0xad ? 0x143u : byte;
}

int token_byte_of_rune(uint32_t rune) {
  if (rune >= 0x100) {
    if (rune <= 0x120) return (int)(rune - 0x100);
    if (rune <= 0x142) return (int)(rune - 0x121 + 0x7f);
    return rune == 0x143 ? 0xad : -1;
  }
  return token_rune_of_byte((uint8_t)rune) == rune ? (int)rune : -1;
}
