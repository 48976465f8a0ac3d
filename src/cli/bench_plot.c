/* bench_plot: the rows of a benchmark as a picture: speed and share of the roof by depth, cost of passes by their length. */
#include "cli/bench.h"
#include "cli/svg.h"

#include <stdio.h>
#include <string.h>

enum { MAX_POINTS = 64, PANEL_WIDTH = 380, PANEL_HEIGHT = 250, LEFT = 70, ABOVE = 50, BETWEEN = 100, LEGEND_TOP = 60, LEGEND_LINE = 15 };

static double speed(const bench_row *r) { return r->tokens_per_second; }
static double share(const bench_row *r) { return 100 * bench_roof_share(r); }
static double cost(const bench_row *r) { return r->cost; }
static double roof_cost(const bench_row *r) { return r->roof_cost; }

static const struct panel {
  const char *title, *label;
  bench_test test;
  bool by_depth; /* x is the depth, and each n has its line; or the other way round */
  double (*value)(const bench_row *r), (*roof)(const bench_row *r); /* 0: not known, not drawn */
} panels[] = {
    {"prompt, tokens/s (dashed: roof, with attention)", "tokens before", BENCH_PROMPT, true, speed, bench_roof_speed},
    {"decode, tokens/s (dashed: roof)", "tokens before", BENCH_DECODE, true, speed, bench_roof_speed},
    {"prompt, % of the roof with attention", "tokens before", BENCH_PROMPT, true, share, NULL},
    {"decode, % of the roof", "tokens before", BENCH_DECODE, true, share, NULL},
    {"one pass, in times of one token (dashed: roof, with attention)", "tokens in a pass", BENCH_VERIFY, false, cost, roof_cost},
    {"one pass, % of the roof with attention", "tokens in a pass", BENCH_VERIFY, false, share, NULL},
};

typedef struct line {
  const bench_row *first; /* whose model, threads and n (or depth) it is */
  double x[MAX_POINTS], y[MAX_POINTS], roof[MAX_POINTS];
  int n, n_roof;
} line;

static int64_t x_of(const struct panel *k, const bench_row *r) { return k->by_depth ? r->depth : r->n; }

static bool on_line(const struct panel *k, const bench_row *a, const bench_row *b) {
  return bench_same_model(a, b) && a->threads == b->threads && (k->by_depth ? a->n == b->n : a->depth == b->depth);
}

static bool shown(const struct panel *k, const bench_row *r) { return r->test == k->test && k->value(r) > 0; }

/* The next row, from *i on, that begins a line of its own; NULL: none. */
static const bench_row *next_line(const struct panel *k, const bench_rows *rows, size_t *i) {
  for (; *i < rows->n; ++*i) {
    const bench_row *r = &rows->v[*i];
    bool first = shown(k, r);
    for (size_t before = 0; before < *i && first; before++) first = !(shown(k, &rows->v[before]) && on_line(k, &rows->v[before], r));
    if (first) return &rows->v[(*i)++];
  }
  return NULL;
}

static int count_lines(const struct panel *k, const bench_rows *rows) {
  int n = 0;
  for (size_t i = 0; next_line(k, rows, &i);) n++;
  return n;
}

/* On a logarithmic axis depth 0 stands at half of the least other depth. */
static line collect(const struct panel *k, const bench_rows *rows, const bench_row *first, double zero) {
  line l = {.first = first};
  for (size_t i = 0; i < rows->n && l.n < MAX_POINTS; i++) {
    const bench_row *r = &rows->v[i];
    if (!shown(k, r) || !on_line(k, r, first)) continue;
    int64_t x = x_of(k, r);
    l.x[l.n] = x ? (double)x : zero;
    l.y[l.n] = k->value(r);
    l.roof[l.n] = k->roof ? k->roof(r) : 0;
    l.n_roof += l.roof[l.n++] > 0;
  }
  return l;
}

static double zero_of(const struct panel *k, const bench_rows *rows) {
  int64_t least = 0;
  bool zero = false;
  for (size_t i = 0; i < rows->n; i++) {
    int64_t x = x_of(k, &rows->v[i]);
    if (!shown(k, &rows->v[i])) continue;
    zero = zero || !x;
    if (x && (!least || x < least)) least = x;
  }
  return !zero ? 0 : least ? (double)least / 2 : 1;
}

/* What tells this line from the others: only what is not the same everywhere. */
static void name_line(const struct panel *k, const bench_rows *rows, const bench_row *r, char out[128]) {
  bool models = false, threads = false, others = false;
  size_t n = 0;
  for (size_t i = 0; i < rows->n; i++) {
    const bench_row *o = &rows->v[i];
    models = models || !bench_same_model(o, r);
    threads = threads || o->threads != r->threads;
    others = others || (shown(k, o) && (k->by_depth ? o->n != r->n : o->depth != r->depth));
  }
  out[0] = 0;
  if (models || !(threads || others)) n += (size_t)snprintf(out, 64, "%.40s%s%.16s", r->model, *r->type ? ", " : "", r->type);
  if (n > 63) n = 63;
  if (threads) n += (size_t)snprintf(out + n, 128 - n, "%s%d thread%s", n ? ", " : "", (int)r->threads, r->threads == 1 ? "" : "s");
  if (others) snprintf(out + n, 128 - n, "%s%s%d tokens", n ? ", " : "", k->by_depth ? "" : "behind ", (int)(k->by_depth ? r->n : r->depth));
}

static void draw_panel(svg *s, const struct panel *k, const bench_rows *rows, double x, double y) {
  svg_panel p = {.x = x, .y = y, .w = PANEL_WIDTH, .h = PANEL_HEIGHT, .title = k->title, .label = k->label, .log_x = true, .zero = zero_of(k, rows)};
  const bench_row *r;
  int n = 0;
  for (size_t i = 0; (r = next_line(k, rows, &i));) {
    line l = collect(k, rows, r, p.zero);
    svg_range(&p, l.x, l.y, l.n);
    if (l.n_roof == l.n) svg_range(&p, l.x, l.roof, l.n);
  }
  p.log_y = p.top / p.bottom > 20;
  p.top *= p.log_y ? 1.2 : 1.05;
  p.bottom /= 1.2;
  svg_axes(s, &p);
  for (size_t i = 0; (r = next_line(k, rows, &i)); n++) {
    char name[128];
    line l = collect(k, rows, r, p.zero);
    name_line(k, rows, r, name);
    if (l.n_roof == l.n) svg_line(s, &p, n, SVG_DASHES, NULL, l.x, l.roof, l.n);
    svg_line(s, &p, n, SVG_POINTS, name, l.x, l.y, l.n);
  }
}

status bench_plot(const bench_rows *rows, const char *path, error *err) {
  svg s = {.err = err};
  int there[COUNT_OF(panels)], lines[COUNT_OF(panels) + 1] = {0}, n = 0, height = 0;
  for (size_t k = 0; k < COUNT_OF(panels); k++)
    if ((lines[n] = count_lines(&panels[k], rows)) > 0) there[n++] = (int)k;
  if (!n) return base_fail(err, TANDEM_ERROR_ARGUMENT, "plot", "%s: there is nothing to draw", path);
  int columns = n > 1 ? 2 : 1, tops[COUNT_OF(panels)];
  for (int i = 0; i < n; i += columns) { /* row by row */
    int most = columns > 1 && lines[i + 1] > lines[i] ? lines[i + 1] : lines[i];
    tops[i / columns] = height + ABOVE;
    height += ABOVE + PANEL_HEIGHT + LEGEND_TOP + most * LEGEND_LINE;
  }
  svg_begin(&s, LEFT / 2 + columns * (LEFT + PANEL_WIDTH) + (columns - 1) * (BETWEEN - LEFT), height);
  for (int i = 0; i < n; i++) draw_panel(&s, &panels[there[i]], rows, LEFT + i % columns * (PANEL_WIDTH + BETWEEN), tops[i / columns]);
  svg_end(&s);
  status st = s.st ? s.st : os_write_all(path, s.out.bytes, s.out.n, err);
  text_free(&s.out);
  return st;
}
