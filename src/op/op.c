/* op.c: the op table and what follows from it: sizes of rows, work and weight traffic of a step. */
#include "op/op.h"

const char *const op_home_names[OP_HOMES] = {"weights", "scratch", "logits", "hidden", "lent"};

const op_info op_table[OP_COUNT] = {
#define OP(name, n_src, own, operands, formula) {#name, n_src, own, operands, formula},
#include "op/op.def"
#undef OP
};

size_t op_row_bytes(quant_type type, int64_t cols) { return quant_row_bytes(type, cols); }

/* Cells a query at the end of n_positions sees through a window. */
static double visible(int64_t n_positions) { return n_positions > 0 ? (double)n_positions : 1.0; }

double op_flops(const op_step *s, const op_value *values, int64_t n_tokens, int64_t n_outputs, int64_t n_positions) {
  const op_value *dst = s->dst >= 0 ? &values[s->dst] : NULL;
  const op_value *x = s->src[0] >= 0 ? &values[s->src[0]] : NULL;
  double rows = !dst ? 0 : dst->by == OP_OUTPUTS ? (double)n_outputs : dst->by == OP_TOKENS ? (double)n_tokens : (double)dst->rows;
  double cells = dst ? rows * (double)dst->cols : 0;
  switch (s->op) {
  case OP_MM: return 2.0 * cells * (double)values[s->src[1]].cols;
  case OP_MMX: return 2.0 * cells * (double)values[s->src[1]].cols;
  case OP_MMGLU: return 4.0 * cells * (double)values[s->src[1]].cols;
  case OP_ATTEND: return 2.0 * rows * visible(n_positions) * (double)(x->cols + dst->cols);
  case OP_NORM: return 4.0 * cells;
  case OP_QUANT: return 3.0 * cells;
  case OP_ROPE: return 3.0 * cells;
  case OP_GLU: case OP_CAP: return 10.0 * cells;
  case OP_MIX: return 2.0 * cells * s->n_used;
  case OP_ADD: case OP_SCALE: return cells;
  default: return 0;
  }
}

tandem_ceiling op_arithmetic(quant_type weights) {
  quant_type partner = quant_table[weights].partner;
  return partner == QUANT_F32 ? TANDEM_CEILING_F32 : partner == QUANT_BF16 ? TANDEM_CEILING_BF16 : TANDEM_CEILING_INT8;
}

tandem_ceiling op_cell_arithmetic(quant_type cells) { return cells == QUANT_BF16 ? TANDEM_CEILING_BF16 : TANDEM_CEILING_F32; }

double op_weight_bytes(const op_step *s, const op_value *values, int64_t n_tokens) {
  if (s->op == OP_EMBED) {
    const op_value *w = &values[s->src[0]];
    return (double)n_tokens * (double)op_row_bytes(w->type, w->cols);
  }
  double bytes = 0;
  for (int i = 0; i < op_table[s->op].n_src; i++) {
    const op_value *v = s->src[i] >= 0 ? &values[s->src[i]] : NULL;
    if (!v || v->home != OP_WEIGHT) continue;
    double slabs = (double)v->n_slabs;
    if (s->op == OP_MMX && i == 1 && n_tokens * s->n_used < v->n_slabs) slabs = (double)(n_tokens * s->n_used);
    bytes += (double)v->extent * slabs / (double)v->n_slabs;
  }
  return bytes;
}
