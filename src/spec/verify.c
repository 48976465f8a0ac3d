/* verify: sample and match. Every committed token is drawn by the target's chain from the target's row with the noise of its
 * index; a draft only decides whether the next row may be used. So the text is that of plain decoding, whatever the draft. */
#include "spec/spec.h"

status spec_match(sampler *s, const tokenizer *t, const float *rows, int64_t n_vocab, const int32_t *tokens, int64_t n, int32_t k,
                  int32_t *drawn, int32_t *n_drawn, error *err) {
  *n_drawn = 0;
  for (int32_t i = 0; i <= k; i++) {
    int64_t index = n + i + 1;
    TRY(sample_draw(s, rows + (size_t)i * (size_t)n_vocab, tokens, index, (uint64_t)index, &drawn[i], err));
    (*n_drawn)++;
    if (t && token_is_end(t, drawn[i])) break;
    if (i < k && drawn[i] != tokens[index]) break;
  }
  return TANDEM_OK;
}
