/* quant: what a block is. The table of element types, reference encode and decode.
 *
 * A row is a whole number of blocks. Decoding is defined bit for bit (products rounded to float32 in the written order);
 * encoding equals the recorded blocks byte for byte. Activation formats live here too, since they are blocks: they never
 * occur in a file. Knows nothing of tensors, files or processors. */
#ifndef QUANT_H
#define QUANT_H

#include "base/base.h"

/* Ids below QUANT_FILE_END are those of GGUF tensor infos. */
typedef enum quant_type {
  QUANT_F32 = 0, QUANT_F16 = 1, QUANT_Q4_0 = 2, QUANT_Q4_1 = 3, QUANT_Q5_0 = 6, QUANT_Q5_1 = 7, QUANT_Q8_0 = 8, QUANT_Q8_1 = 9,
  QUANT_Q2_K = 10, QUANT_Q3_K = 11, QUANT_Q4_K = 12, QUANT_Q5_K = 13, QUANT_Q6_K = 14, QUANT_Q8_K = 15, QUANT_IQ2_XXS = 16,
  QUANT_IQ2_XS = 17, QUANT_IQ3_XXS = 18, QUANT_IQ1_S = 19, QUANT_IQ4_NL = 20, QUANT_IQ3_S = 21, QUANT_IQ2_S = 22, QUANT_IQ4_XS = 23,
  QUANT_I8 = 24, QUANT_I16 = 25, QUANT_I32 = 26, QUANT_I64 = 27, QUANT_F64 = 28, QUANT_IQ1_M = 29, QUANT_BF16 = 30, QUANT_TQ1_0 = 34,
  QUANT_TQ2_0 = 35, QUANT_MXFP4 = 39, QUANT_NVFP4 = 40, QUANT_Q1_0 = 41, QUANT_Q2_0 = 42,
  QUANT_FILE_END = 43,
  QUANT_A32 = 43,  /* activations in blocks of 32: quant_a32 */
  QUANT_A256 = 44, /* activations in blocks of 256: quant_a256 */
  QUANT_TYPE_END
} quant_type;

typedef struct quant_info {
  const char *name;  /* "q4_K"; NULL: the id is removed or unknown */
  int block;         /* values in a block */
  int bytes;         /* bytes of a block */
  quant_type partner;/* what a row of activations is turned into for a matrix product: F32, BF16, A32 or A256 */
  void (*decode)(const void *blocks, float *y, int64_t n); /* n values, a multiple of block; NULL: cannot be decoded */
  /* One row of n values. weight: importance of each column, or NULL for the plain rule (models are recorded with ones).
   * NULL: cannot be encoded. Allocates nothing. */
  void (*encode)(const float *x, void *blocks, int64_t n, const float *weight);
} quant_info;

extern const quant_info quant_table[QUANT_TYPE_END];

/* The row of a type, or NULL if the id has none. Any value is allowed. */
const quant_info *quant_find(int64_t type);
/* Type of that name ("q4_K", "q4_k"), or -1. */
int quant_by_name(const char *name);
/* True of what rows of activations are turned into for some type of weights. */
bool quant_is_partner(int64_t type);
/* Bytes of a row of n values; 0 if n is not a whole number of blocks or does not fit. */
size_t quant_row_bytes(quant_type type, int64_t n);

/* Activation blocks, q = nearest even of x / d. A row whose length is a multiple of 32 (A32) or of 256 (A256). Depends on the values of
 * the block only (rule R3). A block of zeros has d = 0.
 * A32: d is the least power of two with |q| <= 127: vectors scale by one beside their multipliers.
 * A256: d = max|x| / 127, or as much more as it takes for sums of products with 5 bits over 32 values, with -32 .. 31 over 16, and with 6
 * bits over the 8 of 16 that a 16-bit lane meets (bytes 0 and 1, or 2 and 3, of each dword), to fit int16, so that fewer of them must be
 * widened: QUANT_REACH. Rare: nearly all of many neighbours are large then. */
typedef struct quant_a32 {
  float d, log2_d;         /* 0 and -infinity; NaN or infinity both */
  int32_t start4, start8;  /* -8 and -128 times the sum of q: from where products with weights 8, or 128, too large start */
  int8_t q[32];
} quant_a32;
enum {
  QUANT_REACH8 = INT16_MAX / 63,  /* most of the sum of q of one sign over such 8, */
  QUANT_REACH16 = INT16_MAX / 32, /* of the sum of |q| over 16, */
  QUANT_REACH32 = INT16_MAX / 31  /* of the sum of q of one sign over 32 */
};
typedef struct quant_a256 {
  int8_t q[256];
  int16_t starts[16]; /* -32 times the sums of 16: from where products with weights 32 too large start */
  int16_t sums32[8];
  float d;
  int32_t unused[3];  /* 0; a block is five cache lines */
} quant_a256;
static_assert(sizeof(quant_a32) == 48 && sizeof(quant_a256) == 320, "activation blocks have no padding");

float quant_f16_to_f32(uint16_t h);
uint16_t quant_f32_to_f16(float x);   /* to nearest even, subnormals kept, overflow to infinity */
static inline float quant_bf16_to_f32(uint16_t b) { union { uint32_t u; float f; } v = {(uint32_t)b << 16}; return v.f; }
uint16_t quant_f32_to_bf16(float x);  /* to nearest even; a NaN keeps its upper half with bit 6 set */

#endif
