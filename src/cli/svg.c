/* svg: axes with round numbers, lines, a legend below. */
#include "cli/svg.h"

#include <math.h>
#include <stdio.h>

static const char *const colors[] = {"#c0392b", "#2471a3", "#7f8c8d", "#1e8449"};
enum { TICKS = 5 };

#define ADD(...) \
  do { \
    if (!s->st) s->st = text_printf(&s->out, s->err, __VA_ARGS__); \
  } while (0)

void svg_begin(svg *s, int width, int height) {
  ADD("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" font-size=\"12\">\n", width, height);
  ADD("<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n");
}

void svg_range(svg_panel *p, const double *x, const double *y, int n) {
  for (int i = 0; i < n; i++) {
    p->left = !p->ranged || x[i] < p->left ? x[i] : p->left;
    p->right = !p->ranged || x[i] > p->right ? x[i] : p->right;
    p->top = !p->ranged || y[i] > p->top ? y[i] : p->top;
    p->ranged = true;
  }
}

/* 1, 2 or 5 times a power of ten, so that about TICKS of them make up `range`. */
static double tick_of(double range) {
  double rough = range / TICKS, power = pow(10, floor(log10(rough > 0 ? rough : 1))), part = rough / power;
  return power * (part < 1.5 ? 1 : part < 3.5 ? 2 : part < 7.5 ? 5 : 10);
}

static double at_x(const svg_panel *p, double x) { return p->x + p->w * (p->right > p->left ? (x - p->left) / (p->right - p->left) : 0.5); }
static double at_y(const svg_panel *p, double y) { return p->y + p->h * (1 - (p->top > 0 ? y / p->top : 0)); }

void svg_axes(svg *s, const svg_panel *p) {
  double dx = tick_of(p->right - p->left), dy = tick_of(p->top);
  ADD("<text x=\"%.1f\" y=\"%.1f\" font-weight=\"bold\">%s</text>\n", p->x, p->y - 14, p->title);
  ADD("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", p->x + p->w / 2, p->y + p->h + 32, p->label);
  for (double y = 0; y <= p->top * 1.001 && dy > 0; y += dy)
    ADD("<path d=\"M%.1f %.1fh%.1f\" stroke=\"#ddd\"/><text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", p->x, at_y(p, y), p->w, p->x - 6,
        at_y(p, y) + 4, y);
  for (double x = ceil(p->left / dx) * dx; x <= p->right * 1.001 && dx > 0; x += dx)
    ADD("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n", at_x(p, x), p->y + p->h + 16, x);
  ADD("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#333\"/>\n", p->x, p->y, p->w, p->h);
}

void svg_line(svg *s, const svg_panel *p, int k, const char *name, const double *x, const double *y, int n) {
  const char *color = colors[(size_t)k % COUNT_OF(colors)];
  ADD("<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", color);
  for (int i = 0; i < n; i++) ADD("%.1f,%.1f ", at_x(p, x[i]), at_y(p, y[i] < p->top ? y[i] : p->top));
  ADD("\"/>\n<path d=\"M%.1f %.1fh18\" stroke=\"%s\" stroke-width=\"2\"/><text x=\"%.1f\" y=\"%.1f\">%s</text>\n", p->x, p->y + p->h + 46 + 15 * k - 4, color,
      p->x + 24, p->y + p->h + 46 + 15.0 * k, name);
}

void svg_end(svg *s) { ADD("</svg>\n"); }
