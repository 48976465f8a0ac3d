/* svg: axes with round numbers, lines, a legend below. */
#include "cli/svg.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *const colors[] = {"#c0392b", "#2471a3", "#7f8c8d", "#1e8449", "#d68910", "#7d3c98", "#148f77", "#2c3e50"};
static const char *const pens[] = {[SVG_LINE] = "", [SVG_POINTS] = "", [SVG_DASHES] = " stroke-dasharray=\"5 4\" stroke-opacity=\"0.7\""};
enum { TICKS = 5, LEGEND = 46, LEGEND_LINE = 15, LABEL_WIDTH = 42 }; /* in pixels, but TICKS */

#define ADD(...) \
  do { \
    if (!s->st) s->st = text_printf(&s->out, s->err, __VA_ARGS__); \
  } while (0)

/* Text of which nothing is markup and everything is printable. */
static void add_escaped(svg *s, const char *plain) {
  char shown[160];
  for (const char *c = text_escape(shown, sizeof shown, plain, strlen(plain)); *c; c++)
    switch (*c) {
    case '<': ADD("&lt;"); break;
    case '>': ADD("&gt;"); break;
    case '&': ADD("&amp;"); break;
    default: ADD("%c", *c);
    }
}

void svg_begin(svg *s, int width, int height) {
  ADD("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, height);
  ADD("<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n");
}

void svg_range(svg_panel *p, const double *x, const double *y, int n) {
  for (int i = 0; i < n; i++) {
    p->left = !p->ranged || x[i] < p->left ? x[i] : p->left;
    p->right = !p->ranged || x[i] > p->right ? x[i] : p->right;
    p->bottom = !p->ranged || y[i] < p->bottom ? y[i] : p->bottom;
    p->top = !p->ranged || y[i] > p->top ? y[i] : p->top;
    p->ranged = true;
  }
}

/* 1, 2 or 5 times a power of ten, so that about TICKS of them make up `range`. */
static double tick_of(double range) {
  double rough = range / TICKS, power = pow(10, floor(log10(rough > 0 ? rough : 1))), part = rough / power;
  return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

/* The place of v between low and high, 0 .. 1. */
static double share_of(double v, double low, double high, bool logarithmic) {
  if (!(high > low)) return 0.5;
  return logarithmic ? log(v / low) / log(high / low) : (v - low) / (high - low);
}

static double at_x(const svg_panel *p, double x) { return p->x + p->w * share_of(x, p->left, p->right, p->log_x); }

static double at_y(const svg_panel *p, double y) {
  return p->y + p->h * (1 - share_of(y < p->top ? y : p->top, p->log_y ? p->bottom : 0, p->top, p->log_y));
}

static void x_tick(svg *s, const svg_panel *p, double x, double shown) {
  bool kilo = p->log_x && shown >= 1024 && fmod(shown, 1024) == 0;
  ADD("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g%s</text>\n", at_x(p, x), p->y + p->h + 16, kilo ? shown / 1024 : shown, kilo ? "K" : "");
}

static void y_tick(svg *s, const svg_panel *p, double y) {
  ADD("<path d=\"M%.1f %.1fh%.1f\" stroke=\"#ddd\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", p->x, at_y(p, y), p->w, p->x - 6,
      at_y(p, y) + 4, y);
}

/* Powers of two, of which as many are left out as there is no room for. */
static void log_x_ticks(svg *s, const svg_panel *p) {
  double step = 2, first = exp2(ceil(log2(p->zero > 0 ? 2 * p->zero : p->left) - 1e-9));
  while (p->right > p->left && p->w * log(step) / log(p->right / p->left) < LABEL_WIDTH) step *= 2;
  if (p->zero > 0) x_tick(s, p, p->zero, 0);
  for (double x = first; x <= p->right * 1.001; x *= step) x_tick(s, p, x, x);
}

static void log_y_ticks(svg *s, const svg_panel *p) {
  static const double parts[] = {1, 2, 5};
  for (double power = pow(10, floor(log10(p->bottom))); power <= p->top; power *= 10)
    for (size_t i = 0; i < COUNT_OF(parts); i++)
      if (power * parts[i] >= p->bottom * 0.999 && power * parts[i] <= p->top * 1.001) y_tick(s, p, power * parts[i]);
}

void svg_axes(svg *s, const svg_panel *p) {
  double dx = tick_of(p->right - p->left), dy = tick_of(p->top);
  ADD("<text x=\"%.1f\" y=\"%.1f\" font-weight=\"bold\">%s</text>\n", p->x, p->y - 14, p->title);
  ADD("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", p->x + p->w / 2, p->y + p->h + 32, p->label);
  if (p->log_y) log_y_ticks(s, p);
  for (double y = 0; !p->log_y && y <= p->top * 1.001 && dy > 0; y += dy) y_tick(s, p, y);
  if (p->log_x) log_x_ticks(s, p);
  for (double x = ceil(p->left / dx) * dx; !p->log_x && x <= p->right * 1.001 && dx > 0; x += dx) x_tick(s, p, x, x);
  ADD("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#333\"/>\n", p->x, p->y, p->w, p->h);
}

void svg_line(svg *s, const svg_panel *p, int k, svg_pen pen, const char *name, const double *x, const double *y, int n) {
  const char *color = colors[(size_t)k % COUNT_OF(colors)];
  double legend = p->y + p->h + LEGEND + LEGEND_LINE * k;
  ADD("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s points=\"", color, pens[pen]);
  if (n == 1) ADD("%.1f,%.1f %.1f,%.1f", at_x(p, x[0]) - 14, at_y(p, y[0]), at_x(p, x[0]) + 14, at_y(p, y[0])); /* or nothing were seen */
  for (int i = 0; i < n && n > 1; i++) ADD("%.1f,%.1f ", at_x(p, x[i]), at_y(p, y[i]));
  ADD("\"/>\n");
  for (int i = 0; i < n && pen == SVG_POINTS; i++) ADD("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>\n", at_x(p, x[i]), at_y(p, y[i]), color);
  if (!name) return;
  ADD("<path d=\"M%.1f %.1fh18\" stroke=\"%s\" stroke-width=\"2\"%s/><text x=\"%.1f\" y=\"%.1f\">", p->x, legend - 4, color, pens[pen], p->x + 24, legend);
  add_escaped(s, name);
  ADD("</text>\n");
}

void svg_end(svg *s) { ADD("</svg>\n"); }
