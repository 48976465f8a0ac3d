/* rows: from a drafter's logits to a proposed token. The token is drawn as the target's will be: the same chain of filters, the
 * same noise at the same index, so that at a temperature above 0 both tend to pick the same (Daliri, Musco, Suresh 2024).
 * What is drawn here never reaches the output. */
#include <math.h>

#include "spec/spec.h"

enum { CONFIDENCE_TOP = 10 };

/* Probability of `id` among the ten largest logits at temperature 1, or 0 if it is not one of them. */
static float confidence(const float *row, int64_t n, int32_t id) {
  float top[CONFIDENCE_TOP];
  int n_top = 0;
  for (int64_t i = 0; i < n; i++) {
    if (n_top == CONFIDENCE_TOP && row[i] <= top[n_top - 1]) continue;
    int at = n_top < CONFIDENCE_TOP ? n_top++ : n_top - 1;
    for (; at > 0 && top[at - 1] < row[i]; at--) top[at] = top[at - 1];
    top[at] = row[i];
  }
  float sum = 0;
  for (int i = 0; i < n_top; i++) sum += expf(top[i] - top[0]);
  return row[id] < top[n_top - 1] ? 0 : expf(row[id] - top[0]) / sum;
}

bool spec_take(spec_ask *a, const float *row, int64_t n) {
  int64_t index = a->n + 1 + a->n_out;
  int32_t id;
  if (a->n_out >= a->k || sample_draw(a->sampler, row, a->tokens, index, (uint64_t)index, &id, NULL)) return false;
  float p = confidence(row, n, id);
  if (a->p_min > 0 && p < a->p_min) return false;
  spec_verdict v = {true, true};
  if (a->depth) v = spec_depth_more(a->depth, a->costs, a->n_out + 1, p);
  if (!v.keep) return false;
  a->tokens[index] = id;
  a->p[a->n_out++] = p;
  return v.more && a->n_out < a->k;
}
