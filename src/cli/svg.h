/* svg: plain line plots for the benchmarks. Text goes into `out`, which the caller frees; the first failure is kept. */
#ifndef CLI_SVG_H
#define CLI_SVG_H

#include "base/base.h"

typedef struct svg {
  text out;
  error *err;
  status st;
} svg;

typedef struct svg_panel {
  double x, y, w, h;          /* of the plot in the picture */
  const char *title, *label;  /* above; below the x axis */
  bool log_x, log_y;          /* powers of two; 1, 2, 5 times powers of ten. No value <= 0 then */
  double zero;                /* log_x: the place that stands for 0, left of all others; 0 = none does */
  double left, right;         /* range of x */
  double bottom, top;         /* of y; the axis begins at 0 if it is linear */
  bool ranged;
} svg_panel;

typedef enum svg_pen { SVG_LINE, SVG_POINTS, SVG_DASHES } svg_pen; /* POINTS: a line with dots on it */

void svg_begin(svg *s, int width, int height);
/* Widens the panel's range so that these points fit. */
void svg_range(svg_panel *p, const double *x, const double *y, int n);
void svg_axes(svg *s, const svg_panel *p);
/* Line k of a panel (its colour, and its place in the legend below). `name` may hold anything; NULL: not in the legend. */
void svg_line(svg *s, const svg_panel *p, int k, svg_pen pen, const char *name, const double *x, const double *y, int n);
void svg_end(svg *s);

#endif
