/* pretok: cuts a text into the words that `gpt2` vocabularies merge on their own.
 *
 * A vocabulary names its rules (tokenizer.ggml.pre); they were published as regular expressions. Here a name is a row of
 * the table at the end of this file: up to six stages, each of which cuts the pieces of the one before it. A stage finds
 * matches from the left to the right; what lies between two matches is a piece too. The stages are few of kind (runs of a
 * class, "words", groups of digits) and are scanned by hand: every stage reads a text a bounded number of times, never
 * backwards, whatever the text. Constant tables only. Does not know what becomes of a word. */
#include "token/vocab.h"

/* ---- classes of characters --------------------------------------------------------------------------------------- */

#define BIT(name) (1u << CATEGORY_##name)
#define LETTER (BIT(LU) | BIT(LL) | BIT(LT) | BIT(LM) | BIT(LO))
#define MARK (BIT(MN) | BIT(MC) | BIT(ME))
#define NUMBER (BIT(ND) | BIT(NL) | BIT(NO))
#define PUNCTUATION (BIT(PC) | BIT(PD) | BIT(PS) | BIT(PE) | BIT(PI) | BIT(PF) | BIT(PO))
#define SYMBOL (BIT(SM) | BIT(SC) | BIT(SK) | BIT(SO))
#define LINE_END BIT(LINE_END)
#define SPACE (BIT(ZS) | BIT(ZL) | BIT(ZP) | BIT(CONTROL_SPACE) | LINE_END)
#define UPPER (BIT(LU) | BIT(LT) | BIT(LM) | BIT(LO) | MARK)
#define LOWER (BIT(LL) | BIT(LM) | BIT(LO) | MARK)
#define ALL 0xffffffffu
_Static_assert(CATEGORY_COUNT == 32, "a class is a mask of 32 bits");

typedef struct range {
  uint32_t first, last;
} range;

/* Characters of these categories or ranges; `except`: all others. */
typedef struct class {
  uint32_t categories;
  const range *ranges;
  int n_ranges;
  bool except;
} class;

static bool in_class(const class *c, uint32_t rune) {
  bool in = false;
  for (int i = 0; i < c->n_ranges && !in; i++) in = rune >= c->ranges[i].first && rune <= c->ranges[i].last;
  if (!in && c->categories) in = c->categories >> token_category_of(rune) & 1;
  return in != c->except;
}

/* A character of the text: its end is `at` plus its length; past the end of the piece it belongs to no class. */
typedef struct character {
  uint32_t rune, bit; /* bit: of its category */
  size_t end;
} character;

static inline character character_at(const char *s, size_t at, size_t end) {
  character c = {UINT32_MAX, 0, at};
  if (at >= end) return c;
  c.end = at + token_character(s + at, end - at, &c.rune);
  c.bit = 1u << token_category_of(c.rune);
  return c;
}

/* End of the run of characters of these categories that begins at `at`. */
static size_t run_end(const char *s, size_t at, size_t end, uint32_t categories) {
  for (;;) {
    character c = character_at(s, at, end);
    if (!(c.bit & categories)) return at;
    at = c.end;
  }
}

/* ---- stages ------------------------------------------------------------------------------------------------------ */

/* A run of `least` to `most` characters of a class (most 0: any number), perhaps behind one of `before` or a space. */
typedef struct run {
  class of;
  uint32_t before;
  bool space_before;
  int least, most;
} run;

typedef enum contraction { NONE, IN_FRONT, IN_FRONT_ANY_CASE, BEHIND_ANY_CASE } contraction;

/* Alternatives, tried in this order at every place:
 *   's 't 're 've 'm 'll 'd | (one ASCII punctuation, ASCII letters) | lead? letters+ | ' '? digits+ | ' '? symbols+ tail*
 *   | \s*[\r\n]+ | \s+(?!\S) | \s+                                                                                       */
typedef struct words {
  contraction contraction;
  uint32_t lead;     /* one of these may stand in front of letters; 0: a space may */
  uint32_t letters;
  bool cased;        /* letters are UPPER* LOWER+ or else UPPER+ LOWER*, and may be followed by a contraction */
  bool no_han;       /* Han characters are no letters */
  bool punctuated;   /* the second alternative is there */
  int most_digits;   /* 0: none, -1: any number and a space in front */
  uint32_t symbols;
  const char *tail;
  bool line_ends;    /* \s*[\r\n]+ is there */
} words;

typedef enum stage_kind { RUN, WORDS, GROUPS, BLANKS, LAST_SPACES } stage_kind;

typedef struct stage {
  stage_kind kind;
  const run *run;
  const words *words;
  uint32_t digits;     /* GROUPS: digits in groups of three, counted from the end of their run */
  bool bounded;        /* GROUPS: only if no ASCII letter, digit or underscore follows the run */
} stage;

struct token_pre {
  const char *name;
  const stage *stages;
  int n_stages;
  token_pre_traits traits;
};

/* Each match_ function gives the end of a match that begins at `at` (< end), or `at` if there is none. */

static size_t match_run(const run *r, const char *s, size_t at, size_t end) {
  size_t from = at;
  character c = character_at(s, at, end), next = character_at(s, c.end, end);
  bool before = c.bit & r->before || (r->space_before && c.rune == ' ');
  if (before && next.bit && in_class(&r->of, next.rune)) from = c.end;
  int n = 0;
  size_t to = from;
  for (; r->most == 0 || n < r->most; n++) {
    c = character_at(s, to, end);
    if (!c.bit || !in_class(&r->of, c.rune)) break;
    to = c.end;
  }
  return n >= r->least ? to : at;
}

/* Length of the contraction at `at`: an apostrophe and s t m d re ve ll. */
static size_t contraction_length(const char *s, size_t at, size_t end, bool any_case) {
  char c[3] = {0};
  for (size_t i = 0; i < 3 && at + i < end; i++) c[i] = s[at + i];
  if (c[0] != '\'') return 0;
  for (int i = 1; i < 3 && any_case; i++)
    if (c[i] >= 'A' && c[i] <= 'Z') c[i] = (char)(c[i] + 32);
  if (c[1] == 's' || c[1] == 't' || c[1] == 'm' || c[1] == 'd') return 2;
  bool two = (c[1] == 'r' && c[2] == 'e') || (c[1] == 'v' && c[2] == 'e') || (c[1] == 'l' && c[2] == 'l');
  return two ? 3 : 0;
}

static const range han_ranges[] = {{0x2e80, 0x2e99},   {0x2e9b, 0x2ef3},   {0x2f00, 0x2fd5},  {0x3005, 0x3005},
                                   {0x3007, 0x3007},   {0x3021, 0x3029},   {0x3038, 0x303b},  {0x3400, 0x4dbf},
                                   {0x4e00, 0x9fff},   {0xf900, 0xfa6d},   {0xfa70, 0xfad9},  {0x16fe2, 0x16fe3},
                                   {0x16ff0, 0x16ff1}, {0x20000, 0x2fa1f}, {0x30000, 0x323af}};
static const class han = {.ranges = han_ranges, .n_ranges = COUNT_OF(han_ranges)};

static bool is_letter(const words *w, character c, uint32_t letters) {
  return c.bit & letters && !(w->no_han && in_class(&han, c.rune));
}

/* UPPER* LOWER+ from `at`, or UPPER+ LOWER* if `either`; `at` if neither. Greedy, as far as LOWER+ leaves it room: if no
 * LOWER follows the run of UPPER, the last character of the run that is both is the whole of LOWER+. */
static size_t match_cased(const words *w, const char *s, size_t at, size_t end, bool either) {
  size_t upper = at, both = at;
  for (character c; c = character_at(s, upper, end), is_letter(w, c, UPPER); upper = c.end)
    if (c.bit & LOWER) both = c.end;
  size_t lower = upper;
  for (character c; c = character_at(s, lower, end), is_letter(w, c, LOWER);) lower = c.end;
  if (lower > upper) return lower;
  return either ? upper : both;
}

static size_t match_letters(const words *w, const char *s, size_t at, size_t end) {
  character c = character_at(s, at, end), next = character_at(s, c.end, end);
  bool lead = w->lead ? (c.bit & w->lead) != 0 : c.rune == ' ';
  if (!w->cased) {
    size_t to = lead && is_letter(w, next, w->letters) ? c.end : at;
    for (; c = character_at(s, to, end), is_letter(w, c, w->letters);) to = c.end;
    return to;
  }
  size_t to = at;
  for (int either = 0; either < 2 && to == at; either++) {
    if (lead) to = match_cased(w, s, c.end, end, either);
    if (to <= c.end) to = match_cased(w, s, at, end, either);
  }
  return to;
}

static size_t match_digits(const words *w, const char *s, size_t at, size_t end) {
  size_t to = at;
  if (w->most_digits < 0) {
    size_t from = s[at] == ' ' ? at + 1 : at;
    to = run_end(s, from, end, NUMBER);
    return to > from ? to : at;
  }
  for (int n = 0; n < w->most_digits; n++) {
    character c = character_at(s, to, end);
    if (!(c.bit & NUMBER)) break;
    to = c.end;
  }
  return to;
}

static size_t match_symbols(const words *w, const char *s, size_t at, size_t end) {
  size_t from = s[at] == ' ' ? at + 1 : at, to = run_end(s, from, end, w->symbols);
  if (to == from) return at;
  while (to < end && s[to] && strchr(w->tail, s[to])) to++;
  return to;
}

/* \s*[\r\n]+ (all up to the last line end), \s+(?!\S) (all but the last, if there is text behind), \s+ */
static size_t match_spaces(const words *w, const char *s, size_t at, size_t end) {
  size_t to = at, last = at, line_end = at;
  for (character c; c = character_at(s, to, end), c.bit & SPACE; to = c.end) {
    last = to;
    if (c.bit & LINE_END) line_end = c.end;
  }
  if (w->line_ends && line_end > at) return line_end;
  return to == end || last == at ? to : last;
}

static bool is_ascii_letter(char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }
static bool is_ascii_word(char c) { return is_ascii_letter(c) || (c >= '0' && c <= '9') || c == '_'; }
static bool is_ascii_punctuation(char c) { return c > ' ' && c < 0x7f && !is_ascii_letter(c) && !(c >= '0' && c <= '9'); }

static size_t match_words(const words *w, const char *s, size_t at, size_t end) {
  size_t to;
  if (w->contraction == IN_FRONT || w->contraction == IN_FRONT_ANY_CASE) {
    to = at + contraction_length(s, at, end, w->contraction == IN_FRONT_ANY_CASE);
    if (to > at) return to;
  }
  if (w->punctuated && is_ascii_punctuation(s[at]) && at + 1 < end && is_ascii_letter(s[at + 1])) {
    for (to = at + 1; to < end && is_ascii_letter(s[to]);) to++;
    return to;
  }
  if ((to = match_letters(w, s, at, end)) > at) {
    if (w->contraction == BEHIND_ANY_CASE) to += contraction_length(s, to, end, true);
    return to;
  }
  if ((to = match_digits(w, s, at, end)) > at) return to;
  if ((to = match_symbols(w, s, at, end)) > at) return to;
  return match_spaces(w, s, at, end);
}

/* A tab, a line feed, four spaces or two. */
static size_t match_blanks(const char *s, size_t at, size_t end) {
  if (s[at] == '\t' || s[at] == '\n') return at + 1;
  size_t n = 0;
  while (n < 4 && at + n < end && s[at + n] == ' ') n++;
  return n == 4 ? at + 4 : n >= 2 ? at + 2 : at;
}

/* The run of digits is measured once: memory holds first (where it began), last (its end) and cut (end of the first
 * group, or `first` if it does not count). */
static size_t match_groups(const stage *g, token_words *t, int i, size_t at, size_t end) {
  if (!t->memory[i].known || at < t->memory[i].first || at >= t->memory[i].last) {
    size_t n = 0, to = at;
    for (character c; c = character_at(t->s, to, end), c.bit & g->digits; to = c.end) n++;
    if (n == 0) return at;
    size_t cut = at;
    if (!g->bounded || to == end || !is_ascii_word(t->s[to]))
      for (size_t k = 0; k < (n % 3 ? n % 3 : 3); k++) cut = character_at(t->s, cut, end).end;
    t->memory[i].known = true;
    t->memory[i].first = at;
    t->memory[i].last = to;
    t->memory[i].cut = cut;
  }
  if (t->memory[i].cut == t->memory[i].first) return at;
  if (at == t->memory[i].first) return t->memory[i].cut;
  for (int k = 0; k < 3; k++) at = character_at(t->s, at, end).end;
  return at;
}

/* White space up to the end of the piece; where it begins is found once a piece. */
static size_t match_last_spaces(token_words *t, int i, size_t at, size_t end) {
  if (!t->memory[i].known || t->memory[i].last != end) {
    size_t begin = at;
    for (size_t to = at; to < end;) {
      character c = character_at(t->s, to, end);
      to = c.end;
      if (!(c.bit & SPACE)) begin = to;
    }
    t->memory[i].known = true;
    t->memory[i].first = begin;
    t->memory[i].last = end;
  }
  return at >= t->memory[i].first ? end : at;
}

static size_t match(token_words *t, int i, size_t at, size_t end) {
  const stage *g = &t->pre->stages[i];
  switch (g->kind) {
  case RUN: return match_run(g->run, t->s, at, end);
  case WORDS: return match_words(g->words, t->s, at, end);
  case GROUPS: return match_groups(g, t, i, at, end);
  case BLANKS: return match_blanks(t->s, at, end);
  case LAST_SPACES: return match_last_spaces(t, i, at, end);
  }
  return end;
}

/* End of the piece of stage i that begins at `at`: of a match, or of what lies in front of the next one. */
static size_t piece_end(token_words *t, int i, size_t at, size_t end) {
  size_t to = match(t, i, at, end);
  if (to > at) return to;
  do to = character_at(t->s, to, end).end;
  while (to < end && match(t, i, to, end) == to);
  return to;
}

void token_words_open(token_words *w, const tokenizer *t, const char *s, size_t n) {
  *w = (token_words){.pre = t->pre, .s = s, .n = n};
}

bool token_words_next(token_words *w, size_t *at, size_t *length) {
  if (w->at >= w->n) return false;
  size_t end = w->n;
  for (int i = 0; w->pre && i < w->pre->n_stages; i++) {
    if (w->at >= w->end[i]) w->end[i] = piece_end(w, i, w->at, end);
    end = w->end[i];
  }
  *at = w->at;
  *length = end - w->at;
  w->at = end;
  return true;
}

/* ---- rules ------------------------------------------------------------------------------------------------------- */

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static const words gpt2_words = {.contraction = IN_FRONT, .letters = LETTER, .most_digits = -1,
                                 .symbols = ALL & ~(SPACE | LETTER | NUMBER), .tail = ""};

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
 * and its relatives: qwen2 takes single digits, qwen35 counts marks as letters, seed-coder has no tail. */
#define LLAMA3(marks, digits, ends)                                                                                    \
  {.contraction = IN_FRONT_ANY_CASE, .lead = ALL & ~(LINE_END | LETTER | NUMBER), .letters = LETTER | (marks),         \
   .most_digits = (digits), .symbols = ALL & ~(SPACE | LETTER | NUMBER | (marks)), .tail = (ends), .line_ends = true}
static const words llama3_words = LLAMA3(0, 3, "\r\n"), qwen2_words = LLAMA3(0, 1, "\r\n"),
                   qwen35_words = LLAMA3(MARK, 1, "\r\n"), seed_words = LLAMA3(0, 1, "");

/* [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
 * [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|
 * \p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
#define GPT4O(behind, digits, ends)                                                                                    \
  {.contraction = (behind), .lead = ALL & ~(LINE_END | LETTER | NUMBER), .cased = true, .most_digits = (digits),       \
   .symbols = ALL & ~(SPACE | LETTER | NUMBER), .tail = (ends), .line_ends = true}
static const words gpt4o_words = GPT4O(BEHIND_ANY_CASE, 3, "\r\n/"), youtu_words = GPT4O(BEHIND_ANY_CASE, 1, "\r\n/"),
                   tekken_words = GPT4O(NONE, 1, "\r\n/");
static const words kimi_words = {.contraction = BEHIND_ANY_CASE, .lead = ALL & ~(LINE_END | LETTER | NUMBER), .cased = true,
                                 .no_han = true, .most_digits = 3, .symbols = ALL & ~(SPACE | LETTER | NUMBER), .tail = "\r\n",
                                 .line_ends = true};

/* [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static const words deepseek3_words = {.lead = ALL & ~(LINE_END | LETTER | PUNCTUATION | SYMBOL), .letters = LETTER | MARK,
                                      .punctuated = true, .symbols = PUNCTUATION | SYMBOL, .tail = "\r\n", .line_ends = true};

#define CLASS(list) {.ranges = (list), .n_ranges = COUNT_OF(list)}
static const run one_number = {.of = {.categories = NUMBER}, .least = 1, .most = 1};
static const run three_numbers = {.of = {.categories = NUMBER}, .least = 1, .most = 3};
static const run numbers = {.of = {.categories = NUMBER}, .least = 1};
static const range ascii_digits[] = {{'0', '9'}};
static const run three_digits = {.of = CLASS(ascii_digits), .least = 3, .most = 3};
static const range operators[] = {{'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'}, {'|', '|'}, {'~', '~'}};
static const run default_punctuation = {.of = {.categories = PUNCTUATION, .ranges = operators, .n_ranges = 6}, .least = 1};
static const range falcon_operators[] = {{'$', '$'}, {'+', '+'}, {'<', '>'}, {'^', '^'}, {'`', '`'}, {'|', '|'}, {'~', '~'}};
static const run falcon_punctuation = {.of = {.categories = PUNCTUATION, .ranges = falcon_operators, .n_ranges = 7},
                                       .least = 1};
static const run line_end = {.of = {.categories = LINE_END}, .least = 1, .most = 1};
static const range line_feed[] = {{'\n', '\n'}};
static const run other_lines = {.of = {.ranges = line_feed, .n_ranges = 1, .except = true}, .least = 1};

/* ` ?[^(\s|.,!?` and the full stops and commas of other scripts `]+` */
static const range bloom_stops[] = {{'(', '('}, {'|', '|'}, {'.', '.'}, {',', ','}, {'!', '!'}, {'?', '?'}, {')', ')'},
                                    {0x2026, 0x2026}, {0x3002, 0x3002}, {0xff0c, 0xff0c}, {0x3001, 0x3001}, {0x964, 0x964},
                                    {0x6d4, 0x6d4}, {0x60c, 0x60c}};
static const run bloom_run = {
    .of = {.categories = SPACE, .ranges = bloom_stops, .n_ranges = COUNT_OF(bloom_stops), .except = true},
    .space_before = true,
    .least = 1};

/* deepseek-coder and deepseek-llm */
static const range old_cjk[] = {{0x800, 0x9fa5}, {0xac00, 0xd7ff}}; /* as published: most of the plane */
static const run old_cjk_run = {.of = CLASS(old_cjk), .least = 1};
static const run letters_behind_space = {.of = {.categories = LETTER}, .before = SPACE, .least = 1};
static const run punctuation_behind_space = {.of = {.categories = PUNCTUATION}, .before = SPACE, .least = 1};
static const range cased_letters[] = {
    {0x41, 0x5a}, {0x61, 0x7a}, {0xb5, 0xb5}, {0xc0, 0xd6}, {0xd8, 0xf6}, {0xf8, 0x1ba}, {0x1bc, 0x1bf}, {0x1c4, 0x293},
    {0x295, 0x2af}, {0x370, 0x373}, {0x376, 0x377}, {0x37b, 0x37d}, {0x37f, 0x37f}, {0x386, 0x386}, {0x388, 0x38a},
    {0x38c, 0x38c}, {0x38e, 0x3a1}, {0x3a3, 0x3f5}, {0x3f7, 0x481}, {0x48a, 0x52f}, {0x531, 0x556}, {0x10a0, 0x10c5},
    {0x13a0, 0x13f5}, {0x13f8, 0x13fd}, {0x1c90, 0x1cba}, {0x1cbd, 0x1cbf}, {0x1d00, 0x1d2b}, {0x1d6b, 0x1d77},
    {0x1d79, 0x1d9a}, {0x1e00, 0x1f15}, {0x1f18, 0x1f1d}, {0x1f20, 0x1f45}, {0x1f48, 0x1f4d}, {0x1f50, 0x1f57},
    {0x1f59, 0x1f59}, {0x1f5b, 0x1f5b}, {0x1f5d, 0x1f5d}, {0x1f5f, 0x1f7d}, {0x1f80, 0x1fb4}, {0x1fb6, 0x1fbc},
    {0x1fbe, 0x1fbe}, {0x1fc2, 0x1fc4}, {0x1fc6, 0x1fcc}, {0x1fd0, 0x1fd3}, {0x1fd6, 0x1fdb}, {0x1fe0, 0x1fec},
    {0x1ff2, 0x1ff4}, {0x1ff6, 0x1ffc}, {0x2102, 0x2102}, {0x2107, 0x2107}, {0x210a, 0x2113}, {0x2115, 0x2115},
    {0x2119, 0x211d}, {0x2124, 0x2124}, {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212a, 0x212d}, {0x212f, 0x2134},
    {0x2139, 0x2139}, {0x213c, 0x213f}, {0x2145, 0x2149}, {0x214e, 0x214e}, {0x2183, 0x2184}, {0x2c00, 0x2c7b},
    {0x2c7e, 0x2ce4}, {0x2ceb, 0x2cee}, {0x2cf2, 0x2cf3}, {0xa640, 0xa66d}, {0xa680, 0xa69b}, {0xa722, 0xa76f},
    {0xa771, 0xa787}, {0xa78b, 0xa78e}, {0xab70, 0xabbf}, {0xfb00, 0xfb06}, {0xfb13, 0xfb17}, {0xff21, 0xff3a},
    {0xff41, 0xff5a}, {0x10400, 0x1044f}, {0x104b0, 0x104d3}, {0x104d8, 0x104fb}, {0x10c80, 0x10cb2}, {0x10cc0, 0x10cf2},
    {0x118a0, 0x118df}, {0x1e900, 0x1e943}};
static const run cased_letters_run = {.of = CLASS(cased_letters), .before = SPACE, .least = 1};
static const range wide_punctuation[] = {{'!', '/'},       {':', '~'},       {0xff01, 0xff0f},
                                         {0xff1a, 0xff5e}, {0x2018, 0x201f}, {0x3000, 0x3002}};
static const run wide_punctuation_run = {.of = CLASS(wide_punctuation), .before = SPACE, .least = 1};

/* deepseek-v3, afmoe, youtu */
static const range new_cjk[] = {{0x4e00, 0x9fa5}, {0x3040, 0x30ff}};
static const run new_cjk_run = {.of = CLASS(new_cjk), .least = 1};
static const range asian[] = {{0x4e00, 0x9fff}, {0x3400, 0x4dbf}, {0xf900, 0xfaff}, {0x3040, 0x30ff}, {0xff65, 0xff9f},
                              {0x2f00, 0x2fdf}, {0xe40, 0xeff},   {0x1780, 0x17ff}, {0x1000, 0x109f}, {0xaa60, 0xaa7f},
                              {0xa9e0, 0xa9ff}, {0xac00, 0xd7af}, {0x1100, 0x11ff}};
static const run asian_run = {.of = CLASS(asian), .least = 1};
static const range hangul[] = {{0xac00, 0xd7a3}, {0x3131, 0x318e}};
static const run hangul_run = {.of = CLASS(hangul), .least = 1};
static const range cjk_punctuation[] = {{0xff01, 0xff01}, {0x2026, 0x2026}, {0x201c, 0x201d},
                                        {0x2018, 0x2019}, {0x2014, 0x2014}, {0xff1a, 0xff1b},
                                        {0xff0c, 0xff0c}, {0x3001, 0x303f}, {0xfe30, 0xfe4f}};
static const run cjk_punctuation_run = {.of = CLASS(cjk_punctuation), .least = 1};
static const range bopomofo[] = {{0x3105, 0x312f}};
static const run bopomofo_run = {.of = CLASS(bopomofo), .least = 1};

static const run han_run = {.of = CLASS(han_ranges), .least = 1};
static const range chameleon_marks[] = {{'!', '/'}, {':', '@'}, {'[', '`'}, {'{', '~'}};
static const run chameleon_punctuation = {
    .of = {.categories = PUNCTUATION, .ranges = chameleon_marks, .n_ranges = 4}, .least = 1, .most = 1};

/* ---- the table --------------------------------------------------------------------------------------------------- */

#define RUN_OF(r) {.kind = RUN, .run = &(r)}
#define WORDS_OF(w) {.kind = WORDS, .words = &(w)}

static const stage by_default[] = {RUN_OF(default_punctuation), WORDS_OF(gpt2_words), RUN_OF(numbers), RUN_OF(three_digits)};
static const stage by_gpt2[] = {WORDS_OF(gpt2_words)};
static const stage by_llama3[] = {WORDS_OF(llama3_words)};
static const stage by_qwen2[] = {WORDS_OF(qwen2_words)};
static const stage by_qwen35[] = {WORDS_OF(qwen35_words)};
static const stage by_seed[] = {WORDS_OF(seed_words)};
static const stage by_laguna[] = {RUN_OF(other_lines), WORDS_OF(qwen2_words)};
static const stage by_starcoder[] = {RUN_OF(one_number), WORDS_OF(gpt2_words)};
static const stage by_falcon[] = {RUN_OF(falcon_punctuation), WORDS_OF(gpt2_words), RUN_OF(three_digits)};
static const stage by_bloom[] = {RUN_OF(bloom_run)};
static const stage by_viking[] = {RUN_OF(bloom_run), RUN_OF(one_number)};
static const stage by_gpt4o[] = {WORDS_OF(gpt4o_words)};
static const stage by_tekken[] = {WORDS_OF(tekken_words)};
static const stage by_kimi[] = {RUN_OF(han_run), WORDS_OF(kimi_words)};
static const stage by_aya[] = {{.kind = GROUPS, .digits = BIT(ND), .bounded = true}, WORDS_OF(gpt4o_words)};
static const stage by_superbpe[] = {RUN_OF(numbers), {.kind = GROUPS, .digits = BIT(ND)}};
static const stage by_afmoe[] = {{.kind = GROUPS, .digits = NUMBER}, RUN_OF(asian_run), WORDS_OF(deepseek3_words)};
static const stage by_deepseek3[] = {RUN_OF(three_numbers), RUN_OF(new_cjk_run), WORDS_OF(deepseek3_words)};
static const stage by_deepseek_coder[] = {RUN_OF(line_end), RUN_OF(letters_behind_space), RUN_OF(punctuation_behind_space),
                                          RUN_OF(old_cjk_run), RUN_OF(one_number)};
static const stage by_deepseek_llm[] = {RUN_OF(line_end), RUN_OF(cased_letters_run), RUN_OF(wide_punctuation_run),
                                        {.kind = LAST_SPACES}, RUN_OF(old_cjk_run), RUN_OF(numbers)};
static const stage by_youtu[] = {RUN_OF(hangul_run), RUN_OF(cjk_punctuation_run), RUN_OF(bopomofo_run), RUN_OF(new_cjk_run),
                                 WORDS_OF(youtu_words)};
static const stage by_chameleon[] = {{.kind = BLANKS}, RUN_OF(one_number), RUN_OF(chameleon_punctuation), WORDS_OF(gpt2_words)};

#define BY(rules) .stages = (rules), .n_stages = COUNT_OF(rules)
#define CLEAN .clean_spaces = true

static const token_pre table[] = {
    {"default", BY(by_default), {CLEAN}},
    {"gpt-2", BY(by_gpt2), {CLEAN}},
    {"phi-2", BY(by_gpt2), {CLEAN}},
    {"gigachat", BY(by_gpt2), {CLEAN}},
    {"jais", BY(by_gpt2), {CLEAN}},
    {"jina-v2-code", BY(by_gpt2), {CLEAN}},
    {"modern-bert", BY(by_gpt2), {CLEAN}},
    {"mpt", BY(by_gpt2), {CLEAN}},
    {"olmo", BY(by_gpt2), {CLEAN}},
    {"trillion", BY(by_gpt2), {0}},
    {"granite-docling", BY(by_gpt2), {0}},
    {"starcoder", BY(by_starcoder), {CLEAN}},
    {"refact", BY(by_starcoder), {CLEAN}},
    {"codeshell", BY(by_starcoder), {CLEAN}},
    {"exaone", BY(by_starcoder), {CLEAN}},
    {"minerva-7b", BY(by_starcoder), {CLEAN}},
    {"command-r", BY(by_starcoder), {0}},
    {"smollm", BY(by_starcoder), {0}},
    {"falcon", BY(by_falcon), {CLEAN}},
    {"llama3", BY(by_llama3), {CLEAN, .add_bos = true, .whole_words = true}},
    {"llama-v3", BY(by_llama3), {CLEAN, .add_bos = true, .whole_words = true}},
    {"llama-bpe", BY(by_llama3), {CLEAN, .add_bos = true, .whole_words = true}},
    {"falcon3", BY(by_llama3), {CLEAN, .add_bos = true, .whole_words = true}},
    {"lfm2", BY(by_llama3), {CLEAN, .add_bos = true, .whole_words = true}},
    {"midm-2.0", BY(by_llama3), {CLEAN, .add_bos = true, .whole_words = true}},
    {"pixtral", BY(by_llama3), {CLEAN, .add_bos = true, .whole_words = true}},
    {"dbrx", BY(by_llama3), {CLEAN}},
    {"smaug-bpe", BY(by_llama3), {CLEAN}},
    {"jais-2", BY(by_llama3), {CLEAN}},
    {"glm4", BY(by_llama3), {CLEAN}},
    {"chatglm-bpe", BY(by_llama3), {CLEAN}},
    {"qwen2", BY(by_qwen2), {0}},
    {"deepseek-r1-qwen", BY(by_qwen2), {0}},
    {"qwen35", BY(by_qwen35), {0}},
    {"stablelm2", BY(by_qwen2), {CLEAN}},
    {"megrez", BY(by_qwen2), {CLEAN}},
    {"grok-2", BY(by_qwen2), {0}},
    {"solar-open", BY(by_qwen2), {0}},
    {"bailingmoe", BY(by_qwen2), {0}},
    {"laguna", BY(by_laguna), {0}},
    {"seed-coder", BY(by_seed), {0}},
    {"gpt-4o", BY(by_gpt4o), {0}},
    {"llama4", BY(by_gpt4o), {0}},
    {"minimax-m2", BY(by_gpt4o), {0}},
    {"tekken", BY(by_tekken), {.add_bos = true, .whole_words = true}},
    {"kimi-k2", BY(by_kimi), {0}},
    {"tiny_aya", BY(by_aya), {0}},
    {"superbpe", BY(by_superbpe), {0}},
    {"youtu", BY(by_youtu), {.whole_words = true}},
    {"afmoe", BY(by_afmoe), {0}},
    {"deepseek-v3", BY(by_deepseek3), {0}},
    {"hunyuan-dense", BY(by_deepseek3), {0}},
    {"joyai-llm", BY(by_deepseek3), {0}},
    {"deepseek-coder", BY(by_deepseek_coder), {0}},
    {"deepseek-llm", BY(by_deepseek_llm), {0}},
    {"bloom", BY(by_bloom), {CLEAN}},
    {"poro-chat", BY(by_bloom), {0}},
    {"viking", BY(by_viking), {0}},
    {"chameleon", BY(by_chameleon), {.add_bos = true}}};
_Static_assert(COUNT_OF(by_deepseek_llm) <= TOKEN_STAGES, "token_words has room for the stages");

const token_pre *token_pre_find(const char *name, size_t n) {
  for (size_t i = 0; i < COUNT_OF(table); i++)
    if (strlen(table[i].name) == n && memcmp(table[i].name, name, n) == 0) return &table[i];
  return NULL;
}

token_pre_traits token_pre_traits_of(const token_pre *pre) { return pre->traits; }

size_t token_pre_names(const char **names, size_t capacity) {
  size_t n = 0;
  for (; n < COUNT_OF(table) && n < capacity; n++) names[n] = table[n].name;
  return n;
}
