/* make_unicode: writes src/token/unicode_tables.c, the general categories of all code points, from libutf8proc.
 *
 *   cc -O1 -o make_unicode tools/make_unicode.c -lutf8proc && ./make_unicode > src/token/unicode_tables.c
 *
 * Its output is in the tree: building Tandem does not need this program or the library. The numbers are utf8proc's own
 * order of categories (0 = Cn, unassigned, to 29 = Co) and two of our own for the control characters that are white
 * space: 30 for tab, vertical tab, form feed and U+0085, 31 for line feed and carriage return. */
#include <stdio.h>
#include <utf8proc.h>

enum { CODE_POINTS = 0x110000, PER_LINE = 10, CONTROL_SPACE = 30, LINE_END = 31 };

static int category(int rune) {
  if (rune == '\n' || rune == '\r') return LINE_END;
  if (rune == '\t' || rune == '\v' || rune == '\f' || rune == 0x85) return CONTROL_SPACE;
  return (int)utf8proc_category(rune);
}

int main(void) {
  int n = 0, last = -1;
  for (int rune = 0; rune < CODE_POINTS; rune++)
    if (category(rune) != last) n++, last = category(rune);

  printf("/* General categories of Unicode %s, written by tools/make_unicode.c; do not edit.\n", utf8proc_unicode_version());
  printf(" *\n * Runs of equal category in ascending order, each as its first code point << 8 | category. */\n");
  printf("#include \"token/vocab.h\"\n\nconst size_t token_n_category_runs = %d;\n", n);
  printf("const uint32_t token_category_runs[%d] = {\n", n);
  n = 0;
  last = -1;
  for (int rune = 0; rune < CODE_POINTS; rune++) {
    if (category(rune) == last) continue;
    last = category(rune);
    printf("%s0x%x,%s", n % PER_LINE ? " " : "  ", (unsigned)rune << 8 | (unsigned)last,
           n % PER_LINE == PER_LINE - 1 ? "\n" : "");
    n++;
  }
  printf("%s};\n", n % PER_LINE ? "\n" : "");
  return 0;
}
