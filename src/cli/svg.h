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
  double left, right, top;    /* range of x, largest y; the lowest y is 0 */
  bool ranged;
} svg_panel;

void svg_begin(svg *s, int width, int height);
/* Widens the panel's range so that these points fit. */
void svg_range(svg_panel *p, const double *x, const double *y, int n);
void svg_axes(svg *s, const svg_panel *p);
/* Line k of a panel (its colour, and its place in the legend below). */
void svg_line(svg *s, const svg_panel *p, int k, const char *name, const double *x, const double *y, int n);
void svg_end(svg *s);

#endif
