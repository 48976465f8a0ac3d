/* types: the table of element types, lookup in it, and conversions between float32 and the 16-bit floats.
 *
 * A row of the table is all the rest of the engine knows of a type. Does not know how a block is searched for. */
#include <strings.h>

#include "quant/blocks.h"

const quant_info quant_table[QUANT_TYPE_END] = {
    [QUANT_F32] = {"f32", 1, 4, QUANT_F32, quant_decode_f32, quant_encode_f32},
    [QUANT_F16] = {"f16", 1, 2, QUANT_F32, quant_decode_f16, quant_encode_f16},
    [QUANT_Q4_0] = {"q4_0", 32, 18, QUANT_A32, quant_decode_q4_0, quant_encode_q4_0},
    [QUANT_Q4_1] = {"q4_1", 32, 20, QUANT_A32, NULL, NULL},
    [QUANT_Q5_0] = {"q5_0", 32, 22, QUANT_A32, NULL, NULL},
    [QUANT_Q5_1] = {"q5_1", 32, 24, QUANT_A32, NULL, NULL},
    [QUANT_Q8_0] = {"q8_0", 32, 34, QUANT_A32, quant_decode_q8_0, quant_encode_q8_0},
    [QUANT_Q8_1] = {"q8_1", 32, 36, QUANT_A32, NULL, NULL},
    [QUANT_Q2_K] = {"q2_K", 256, 84, QUANT_A256, NULL, NULL},
    [QUANT_Q3_K] = {"q3_K", 256, 110, QUANT_A256, NULL, NULL},
    [QUANT_Q4_K] = {"q4_K", 256, 144, QUANT_A256, quant_decode_q4_k, quant_encode_q4_k},
    [QUANT_Q5_K] = {"q5_K", 256, 176, QUANT_A256, quant_decode_q5_k, quant_encode_q5_k},
    [QUANT_Q6_K] = {"q6_K", 256, 210, QUANT_A256, quant_decode_q6_k, quant_encode_q6_k},
    [QUANT_Q8_K] = {"q8_K", 256, 292, QUANT_A256, NULL, NULL},
    [QUANT_IQ2_XXS] = {"iq2_xxs", 256, 66, QUANT_A256, NULL, NULL},
    [QUANT_IQ2_XS] = {"iq2_xs", 256, 74, QUANT_A256, NULL, NULL},
    [QUANT_IQ3_XXS] = {"iq3_xxs", 256, 98, QUANT_A256, NULL, NULL},
    [QUANT_IQ1_S] = {"iq1_s", 256, 50, QUANT_A256, NULL, NULL},
    [QUANT_IQ4_NL] = {"iq4_nl", 32, 18, QUANT_A32, NULL, NULL},
    [QUANT_IQ3_S] = {"iq3_s", 256, 110, QUANT_A256, NULL, NULL},
    [QUANT_IQ2_S] = {"iq2_s", 256, 82, QUANT_A256, NULL, NULL},
    [QUANT_IQ4_XS] = {"iq4_xs", 256, 136, QUANT_A256, NULL, NULL},
    [QUANT_I8] = {"i8", 1, 1, QUANT_F32, NULL, NULL},
    [QUANT_I16] = {"i16", 1, 2, QUANT_F32, NULL, NULL},
    [QUANT_I32] = {"i32", 1, 4, QUANT_F32, NULL, NULL},
    [QUANT_I64] = {"i64", 1, 8, QUANT_F32, NULL, NULL},
    [QUANT_F64] = {"f64", 1, 8, QUANT_F32, NULL, NULL},
    [QUANT_IQ1_M] = {"iq1_m", 256, 56, QUANT_A256, NULL, NULL},
    [QUANT_BF16] = {"bf16", 1, 2, QUANT_BF16, quant_decode_bf16, quant_encode_bf16},
    [QUANT_TQ1_0] = {"tq1_0", 256, 54, QUANT_A256, NULL, NULL},
    [QUANT_TQ2_0] = {"tq2_0", 256, 66, QUANT_A256, NULL, NULL},
    [QUANT_MXFP4] = {"mxfp4", 32, 17, QUANT_A32, NULL, NULL},
    [QUANT_NVFP4] = {"nvfp4", 64, 36, QUANT_A32, NULL, NULL},
    [QUANT_Q1_0] = {"q1_0", 128, 18, QUANT_A32, NULL, NULL},
    [QUANT_Q2_0] = {"q2_0", 64, 18, QUANT_A32, NULL, NULL},
    [QUANT_A32] = {"a32", 32, sizeof(quant_a32), QUANT_A32, quant_decode_a32, NULL},
    [QUANT_A256] = {"a256", 256, sizeof(quant_a256), QUANT_A256, quant_decode_a256, NULL},
};
static_assert(COUNT_OF(quant_table) == QUANT_TYPE_END, "a row for every id");

const quant_info *quant_find(int64_t type) {
  if (type < 0 || type >= QUANT_TYPE_END || !quant_table[type].name) return NULL;
  return &quant_table[type];
}

int quant_by_name(const char *name) {
  for (int i = 0; name && i < QUANT_TYPE_END; i++) {
    if (quant_table[i].name && strcasecmp(quant_table[i].name, name) == 0) return i;
  }
  return -1;
}

bool quant_is_partner(int64_t type) {
  for (int i = 0; i < QUANT_TYPE_END; i++)
    if (quant_table[i].name && quant_table[i].partner == type && type != QUANT_F32) return true;
  return false;
}

size_t quant_row_bytes(quant_type type, int64_t n) {
  const quant_info *info = quant_find((int64_t)type);
  size_t n_bytes;
  if (!info || n < 0 || n % info->block != 0) return 0;
  return size_mul((size_t)(n / info->block), (size_t)info->bytes, &n_bytes) ? n_bytes : 0;
}

void quant_decode_a32(const void *blocks, float *y, int64_t n) {
  for (int64_t b = 0; b < n / 32; b++) {
    quant_a32 block;
    memcpy(&block, (const quant_a32 *)blocks + b, sizeof block);
    for (int i = 0; i < 32; i++) y[32 * b + i] = block.d * (float)block.q[i];
  }
}

void quant_decode_a256(const void *blocks, float *y, int64_t n) {
  for (int64_t b = 0; b < n / 256; b++) {
    quant_a256 block;
    memcpy(&block, (const quant_a256 *)blocks + b, sizeof block);
    for (int i = 0; i < 256; i++) y[256 * b + i] = block.d * (float)block.q[i];
  }
}

/* ---- 16-bit floats: integer arithmetic only, so that neither a compiler nor a mode of the processor has a say -------- */

static float bits_to_f32(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* binary16: sign, 5 bits of exponent (bias 15), 10 of fraction. A NaN becomes quiet, as it does in processors. */
float quant_f16_to_f32(uint16_t h) {
  uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3FF;
  if (exponent == 31) return bits_to_f32(sign | 0x7F800000 | (fraction ? 0x400000 | fraction << 13 : 0));
  if (exponent == 0) {
    float x = (float)fraction * 0x1p-24f; /* exact */
    return sign ? -x : x;
  }
  return bits_to_f32(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}

/* v >> shift, to nearest even. 1 <= shift <= 31. */
static uint32_t shift_round(uint32_t v, int shift) {
  uint32_t half = (uint32_t)1 << (shift - 1), odd = (v >> shift) & 1;
  return (v + half - 1 + odd) >> shift;
}

uint16_t quant_f32_to_f16(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  uint32_t sign = (u >> 16) & 0x8000, a = u & 0x7FFFFFFF;
  if (a > 0x7F800000) return (uint16_t)(sign | 0x7E00 | ((a >> 13) & 0x3FF));
  if (a >= 0x477FF000) return (uint16_t)(sign | 0x7C00); /* 65520, halfway between 65504 and 65536, and above */
  /* Normal: the exponent changes its bias; a carry out of the fraction runs into it, which is right. */
  if (a >= 0x38800000) return (uint16_t)(sign | shift_round(a - ((uint32_t)(127 - 15) << 23), 13));
  if (a <= 0x33000000) return (uint16_t)sign; /* 2^-25, halfway to the smallest subnormal, and below */
  /* Subnormal: units of 2^-24. The fraction with its leading one is in units of 2^(exponent - 150). */
  return (uint16_t)(sign | shift_round((a & 0x7FFFFF) | 0x800000, 126 - (int)(a >> 23)));
}

uint16_t quant_f32_to_bf16(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  if ((u & 0x7FFFFFFF) > 0x7F800000) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)((u + 0x7FFF + ((u >> 16) & 1)) >> 16);
}
