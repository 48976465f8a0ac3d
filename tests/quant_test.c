/* quant_test.c: the type table, 16-bit floats against exact arithmetic, decode and encode against recorded blocks.
 * tests/data/quant holds 4 rows of 512 values (source.f32), their blocks as recorded with an importance of ones
 * (NAME.blocks), and those decoded (NAME.f32). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"

enum { ROWS = 4, COLS = 512, N = ROWS * COLS };

static const quant_type types[] = {QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q8_0,
                                   QUANT_Q4_0, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};

static uint64_t random_state = 0x9E3779B97F4A7C15u;
static uint32_t random_bits(void) { /* xorshift64* */
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return (uint32_t)((random_state * 0x2545F4914F6CDD1Du) >> 32);
}
static float random_float(void) { return (float)((double)random_bits() / 2147483648.0 - 1.0); }

static float from_bits(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}
static uint32_t to_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

/* Reads a recorded file of at most `capacity` bytes; returns its length. */
static size_t load(const char *name, const char *ending, void *bytes, size_t capacity) {
  char path[512];
  const char *root = getenv("TANDEM_SOURCE");
  snprintf(path, sizeof path, "%s/tests/data/quant/%s.%s", root ? root : ".", name, ending);
  FILE *f = fopen(path, "rb");
  if (!f) fail_msg("%s: cannot be opened", path);
  size_t n = fread(bytes, 1, capacity, f);
  fclose(f);
  return n;
}

static const float *ones(void) {
  static float w[COLS];
  for (int i = 0; i < COLS; i++) w[i] = 1;
  return w;
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

static void table_has_names_and_sizes(void **state) {
  static const struct { int id; const char *name; int block, bytes; } rows[] = {
      {0, "f32", 1, 4}, {1, "f16", 1, 2}, {2, "q4_0", 32, 18}, {3, "q4_1", 32, 20}, {6, "q5_0", 32, 22}, {7, "q5_1", 32, 24},
      {8, "q8_0", 32, 34}, {9, "q8_1", 32, 36}, {10, "q2_K", 256, 84}, {11, "q3_K", 256, 110}, {12, "q4_K", 256, 144},
      {13, "q5_K", 256, 176}, {14, "q6_K", 256, 210}, {15, "q8_K", 256, 292}, {16, "iq2_xxs", 256, 66}, {17, "iq2_xs", 256, 74},
      {18, "iq3_xxs", 256, 98}, {19, "iq1_s", 256, 50}, {20, "iq4_nl", 32, 18}, {21, "iq3_s", 256, 110}, {22, "iq2_s", 256, 82},
      {23, "iq4_xs", 256, 136}, {24, "i8", 1, 1}, {25, "i16", 1, 2}, {26, "i32", 1, 4}, {27, "i64", 1, 8}, {28, "f64", 1, 8},
      {29, "iq1_m", 256, 56}, {30, "bf16", 1, 2}, {34, "tq1_0", 256, 54}, {35, "tq2_0", 256, 66}, {39, "mxfp4", 32, 17},
      {40, "nvfp4", 64, 36}, {41, "q1_0", 128, 18}, {42, "q2_0", 64, 18}, {43, "a32", 32, 48}, {44, "a256", 256, 320}};
  (void)state;
  int known = 0;
  for (size_t i = 0; i < COUNT_OF(rows); i++) {
    const quant_info *info = quant_find(rows[i].id);
    assert_non_null(info);
    assert_string_equal(info->name, rows[i].name);
    assert_int_equal(info->block, rows[i].block);
    assert_int_equal(info->bytes, rows[i].bytes);
    assert_int_equal(quant_by_name(rows[i].name), rows[i].id);
  }
  for (int id = 0; id < QUANT_TYPE_END; id++) known += quant_find(id) != NULL;
  assert_int_equal(known, COUNT_OF(rows));
}

static void removed_and_unknown_ids_have_no_row(void **state) {
  static const int64_t ids[] = {4, 5, 31, 32, 33, 36, 37, 38, QUANT_TYPE_END, -1, INT64_MIN, INT64_MAX, (int64_t)1 << 32};
  (void)state;
  for (size_t i = 0; i < COUNT_OF(ids); i++) assert_null(quant_find(ids[i]));
}

static void names_ignore_case(void **state) {
  (void)state;
  assert_int_equal(quant_by_name("q4_k"), QUANT_Q4_K);
  assert_int_equal(quant_by_name("Q4_K"), QUANT_Q4_K);
  assert_int_equal(quant_by_name("BF16"), QUANT_BF16);
  assert_int_equal(quant_by_name("q4"), -1);
  assert_int_equal(quant_by_name("q4_K_M"), -1);
  assert_int_equal(quant_by_name(""), -1);
  assert_int_equal(quant_by_name(NULL), -1);
}

static void row_bytes_refuse_broken_blocks_and_overflow(void **state) {
  (void)state;
  assert_int_equal(quant_row_bytes(QUANT_F32, 7), 28);
  assert_int_equal(quant_row_bytes(QUANT_Q4_0, 64), 36);
  assert_int_equal(quant_row_bytes(QUANT_Q6_K, 512), 420);
  assert_int_equal(quant_row_bytes(QUANT_Q4_0, 33), 0);
  assert_int_equal(quant_row_bytes(QUANT_Q6_K, 128), 0);
  assert_int_equal(quant_row_bytes(QUANT_F32, -4), 0);
  assert_int_equal(quant_row_bytes(QUANT_F64, INT64_MAX), 0);
  assert_int_equal(quant_row_bytes((quant_type)5, 32), 0);
  assert_int_equal(quant_row_bytes(QUANT_TYPE_END, 32), 0);
}

static void partners_follow_the_block(void **state) {
  (void)state;
  for (size_t i = 0; i < COUNT_OF(types); i++) {
    const quant_info *info = quant_find(types[i]);
    assert_int_equal(info->partner, types[i] == QUANT_BF16 ? QUANT_BF16 : info->block == 1 ? QUANT_F32 : info->block == 32 ? QUANT_A32 : QUANT_A256);
    assert_non_null(info->decode);
    assert_non_null(info->encode);
    assert_int_equal(COLS % quant_table[info->partner].block, 0);
  }
}

/* ---- 16-bit floats ----------------------------------------------------------------------------------------------- */

/* The value of a half by its definition. */
static double half_value(unsigned h) {
  int exponent = (h >> 10) & 31, fraction = (int)h & 0x3FF;
  double v = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
  return h & 0x8000 ? -v : v;
}

static void every_half_round_trips(void **state) {
  (void)state;
  for (unsigned h = 0; h < 65536; h++) {
    float x = quant_f16_to_f32((uint16_t)h);
    unsigned back = quant_f32_to_f16(x);
    if ((h & 0x7C00) != 0x7C00) {
      assert_true((double)x == half_value(h) && !signbit(x) == !(h & 0x8000));
    } else {
      assert_true(h & 0x3FF ? isnan(x) : isinf(x));
    }
    if ((h & 0x7C00) == 0x7C00 && h & 0x3FF) assert_int_equal(back, h | 0x200); /* a NaN becomes quiet */
    else assert_int_equal(back, h);
  }
}

/* The nearest half, by rounding in units of its last place in double, where everything is exact. */
static unsigned nearest_half(float x) {
  unsigned sign = signbit(x) ? 0x8000 : 0;
  double a = fabs((double)x);
  if (isinf(x)) return sign | 0x7C00;
  int exponent = a > 0 ? ilogb(a) : -14;
  if (exponent < -14) exponent = -14;
  double units = nearbyint(ldexp(a, 10 - exponent)); /* 1024..2048 if normal */
  unsigned bits = (unsigned)units + (units >= 1024 ? (unsigned)(exponent + 14) * 1024 : 0);
  return sign | (bits >= 0x7C00 || exponent > 16 ? 0x7C00 : bits);
}

static void check_half(uint32_t u) {
  float x = from_bits(u);
  unsigned h = quant_f32_to_f16(x);
  if (isnan(x)) {
    assert_true((h & 0x7E00) == 0x7E00);
    return;
  }
  if (h != nearest_half(x)) fail_msg("%a: 0x%04x, the nearest half is 0x%04x", (double)x, h, nearest_half(x));
}

static void floats_round_to_the_nearest_half(void **state) {
  (void)state;
  /* Around every half and every midpoint of two. */
  for (unsigned h = 0; h < 0x7C00; h++) {
    float low = quant_f16_to_f32((uint16_t)h), high = h == 0x7BFF ? 65536.0f : quant_f16_to_f32((uint16_t)(h + 1));
    uint32_t at[2] = {to_bits(low), to_bits(low + (high - low) / 2)};
    for (int i = 0; i < 2; i++) {
      for (int step = -2; step <= 2; step++) {
        uint32_t u = at[i] + (uint32_t)step;
        if (u > 0x7F800000) continue; /* below zero */
        check_half(u);
        check_half(u | 0x80000000);
      }
    }
  }
  for (int i = 0; i < 1000000; i++) check_half(random_bits());
}

#if defined(__x86_64__)
#include <immintrin.h>
__attribute__((target("avx2,f16c"))) static void compare_with_processor(void) {
  for (unsigned h = 0; h < 65536; h++) assert_int_equal(to_bits(_cvtsh_ss((uint16_t)h)), to_bits(quant_f16_to_f32((uint16_t)h)));
  for (int i = 0; i < 1000000; i++) {
    float x = from_bits(random_bits());
    assert_int_equal(quant_f32_to_f16(x), _cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT));
  }
}
static void halves_are_those_of_the_processor(void **state) {
  (void)state;
  if (!__builtin_cpu_supports("avx2")) skip();
  compare_with_processor();
}
#else
static void halves_are_those_of_the_processor(void **state) {
  (void)state;
  skip();
}
#endif

static void bf16_rounds_to_even(void **state) {
  (void)state;
  for (unsigned b = 0; b < 65536; b++) {
    float x = quant_bf16_to_f32((uint16_t)b);
    assert_int_equal(quant_f32_to_bf16(x), isnan(x) ? b | 0x40 : b);
  }
  assert_int_equal(quant_f32_to_bf16(from_bits(0x3F808000)), 0x3F80); /* a tie goes down to even */
  assert_int_equal(quant_f32_to_bf16(from_bits(0x3F818000)), 0x3F82); /* and up to even */
  assert_int_equal(quant_f32_to_bf16(from_bits(0x3F808001)), 0x3F81);
  assert_int_equal(quant_f32_to_bf16(from_bits(0x7F7FFFFF)), 0x7F80);
  assert_int_equal(quant_f32_to_bf16(from_bits(0x7F800001)), 0x7FC0); /* a NaN stays one */
  assert_int_equal(quant_f32_to_bf16(from_bits(0xFFA12345)), 0xFFE1);
}

/* ---- blocks ------------------------------------------------------------------------------------------------------ */

static void blocks_decode_to_the_recorded_values(void **state) {
  (void)state;
  for (size_t t = 0; t < COUNT_OF(types); t++) {
    const quant_info *info = quant_find(types[t]);
    uint8_t bytes[4 * N + 1];
    float expected[N], y[N];
    bool plain = types[t] == QUANT_F32;
    size_t row = quant_row_bytes(types[t], COLS);
    assert_int_equal(load(plain ? "source" : info->name, plain ? "f32" : "blocks", bytes + 1, sizeof bytes - 1), ROWS * row);
    assert_int_equal(load(plain ? "source" : info->name, "f32", expected, sizeof expected), sizeof expected);
    for (int r = 0; r < ROWS; r++) info->decode(bytes + 1 + (size_t)r * row, y + r * COLS, COLS); /* unaligned */
    for (int i = 0; i < N; i++) {
      if (to_bits(y[i]) != to_bits(expected[i])) {
        fail_msg("%s: value %d is %a, recorded %a", info->name, i, (double)y[i], (double)expected[i]);
      }
    }
  }
}

static void rows_encode_to_the_recorded_blocks(void **state) {
  (void)state;
  float source[N];
  assert_int_equal(load("source", "f32", source, sizeof source), sizeof source);
  for (size_t t = 0; t < COUNT_OF(types); t++) {
    const quant_info *info = quant_find(types[t]);
    uint8_t expected[4 * N], bytes[4 * N + 16];
    bool plain = types[t] == QUANT_F32;
    size_t row = quant_row_bytes(types[t], COLS);
    load(plain ? "source" : info->name, plain ? "f32" : "blocks", expected, sizeof expected);
    memset(bytes, 0xA5, sizeof bytes);
    for (int r = 0; r < ROWS; r++) info->encode(source + r * COLS, bytes + 1 + (size_t)r * row, COLS, ones());
    for (size_t i = 0; i < ROWS * row; i++) {
      if (bytes[1 + i] != expected[i]) fail_msg("%s: byte %zu is %u, recorded %u", info->name, i, bytes[1 + i], expected[i]);
    }
    assert_int_equal(bytes[0], 0xA5);
    assert_int_equal(bytes[1 + ROWS * row], 0xA5);
  }
}

/* The weight decides where the error goes: columns of weight 1000 come out better than with equal weights. */
static void weights_draw_the_error_away(void **state) {
  static const quant_type weighted[] = {QUANT_Q4_0, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K};
  (void)state;
  for (size_t t = 0; t < COUNT_OF(weighted); t++) {
    const quant_info *info = quant_find(weighted[t]);
    double err[2] = {0, 0};
    for (int row = 0; row < 16; row++) {
      float x[COLS], w[COLS], y[COLS];
      uint8_t bytes[4 * COLS];
      for (int i = 0; i < COLS; i++) {
        x[i] = random_float() + random_float() + random_float();
        w[i] = i % 8 == 3 ? 1000.0f : 1.0f;
      }
      for (int pass = 0; pass < 2; pass++) {
        info->encode(x, bytes, COLS, pass ? w : ones());
        info->decode(bytes, y, COLS);
        for (int i = 3; i < COLS; i += 8) err[pass] += pow((double)y[i] - (double)x[i], 2);
      }
    }
    if (!(err[1] < 0.9 * err[0])) fail_msg("%s: error %g with weights, %g without", info->name, err[1], err[0]);
  }
}

/* Relative error of the plain path on a normal-like row. A step of b bits over a range of about 6 sigma has the variance
 * (6 / 2^b)^2 / 12: 0.0117 for 4 bits, a quarter of that a bit; measured values lie below. */
static void plain_encoding_is_as_good_as_its_bits(void **state) {
  static const struct { quant_type type; double limit; } rows[] = {
      {QUANT_F16, 1e-6}, {QUANT_BF16, 1e-5}, {QUANT_Q8_0, 5e-5}, {QUANT_Q4_0, 0.0117}, {QUANT_Q4_K, 0.0117},
      {QUANT_Q5_K, 0.0029}, {QUANT_Q6_K, 0.00073}};
  (void)state;
  for (size_t t = 0; t < COUNT_OF(rows); t++) {
    const quant_info *info = quant_find(rows[t].type);
    double err = 0, norm = 0;
    for (int row = 0; row < 16; row++) {
      float x[COLS], y[COLS];
      uint8_t bytes[4 * COLS];
      for (int i = 0; i < COLS; i++) x[i] = random_float() + random_float() + random_float();
      info->encode(x, bytes, COLS, NULL);
      info->decode(bytes, y, COLS);
      for (int i = 0; i < COLS; i++) {
        err += pow((double)y[i] - (double)x[i], 2);
        norm += (double)x[i] * (double)x[i];
      }
    }
    if (!(err < rows[t].limit * norm)) fail_msg("%s: relative error %g, limit %g", info->name, err / norm, rows[t].limit);
  }
}

/* By hand: max = -4 gives d = 0.5, 1 / d = 2; level = trunc(2 x + 8.5), at most 15. */
static void plain_q4_0_puts_the_largest_on_level_0(void **state) {
  float x[32] = {[0] = -4, [1] = 4, [2] = 0.25f, [3] = 0.24f, [16] = 3.5f, [17] = -0.25f, [18] = -0.26f};
  uint8_t bytes[18];
  (void)state;
  quant_find(QUANT_Q4_0)->encode(x, bytes, 32, NULL);
  static const uint8_t expected[18] = {0x00, 0x38, 0xF0, 0x8F, 0x79, 0x88, 0x88, 0x88, 0x88, 0x88,
                                       0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88, 0x88};
  assert_memory_equal(bytes, expected, sizeof expected);
}

/* Halves go away from zero: max = 127 gives d = 1. */
static void q8_0_rounds_halves_away_from_zero(void **state) {
  float x[32] = {127, 0.5f, -0.5f, 1.5f, -2.5f, 0.49f, -127};
  uint8_t bytes[34];
  (void)state;
  quant_find(QUANT_Q8_0)->encode(x, bytes, 32, NULL);
  static const int8_t expected[7] = {127, 1, -1, 2, -3, 0, -127};
  assert_int_equal(bytes[0] | bytes[1] << 8, 0x3C00);
  assert_memory_equal(bytes + 2, expected, sizeof expected);
}

/* Whatever the input, every byte of the row is written and no other; zeros stay zeros. */
static void odd_values_do_no_harm(void **state) {
  static const uint32_t odd[] = {0, 0x80000000, 1, 0x80000001, 0x00800000, 0x7F7FFFFF, 0xFF7FFFFF,
                                 0x7F800000, 0xFF800000, 0x7FC00000, 0x00000200, 0x0B000000};
  (void)state;
  for (size_t t = 0; t < COUNT_OF(types); t++) {
    const quant_info *info = quant_find(types[t]);
    size_t row = quant_row_bytes(types[t], COLS);
    for (int turn = 0; turn < 400; turn++) {
      float x[COLS], y[COLS];
      uint8_t bytes[2][4 * COLS + 1];
      /* One odd value alone, everywhere, or mixed with others. */
      for (int i = 0; i < COLS; i++) {
        uint32_t which = turn < 12 ? (uint32_t)turn : turn < 24 && i == 40 ? (uint32_t)turn - 12 : random_bits() % COUNT_OF(odd);
        x[i] = turn >= 12 && turn < 24 && i != 40 ? random_float() : from_bits(odd[which]);
      }
      for (int fill = 0; fill < 2; fill++) {
        memset(bytes[fill], fill ? 0xFF : 0, sizeof bytes[fill]);
        info->encode(x, bytes[fill], COLS, turn % 2 ? ones() : NULL);
        assert_int_equal(bytes[fill][row], fill ? 0xFF : 0);
      }
      assert_memory_equal(bytes[0], bytes[1], row);
      info->decode(bytes[0], y, COLS);
      for (int i = 0; turn == 0 && i < COLS; i++) assert_true(y[i] == 0);
    }
  }
}

/* A block has no memory of its neighbours, but for the variance of the row in weighted q4_0. */
static void decode_takes_blocks_one_by_one(void **state) {
  (void)state;
  for (size_t t = 0; t < COUNT_OF(types); t++) {
    const quant_info *info = quant_find(types[t]);
    float x[COLS], whole[COLS], part[COLS];
    uint8_t bytes[4 * COLS];
    for (int i = 0; i < COLS; i++) x[i] = random_float();
    info->encode(x, bytes, COLS, NULL);
    info->decode(bytes, whole, COLS);
    for (int i = 0; i < COLS / info->block; i++) info->decode(bytes + i * info->bytes, part + i * info->block, info->block);
    assert_memory_equal(whole, part, sizeof whole);
  }
}

static void activations_decode(void **state) {
  (void)state;
  quant_a32 a = {.d = 0.5f, .log2_d = -1, .q = {[0] = -127, [31] = 3}};
  quant_a256 b = {.d = 0.25f, .q = {[255] = 127}};
  float y[256];
  quant_find(QUANT_A32)->decode(&a, y, 32);
  assert_true(y[0] == -63.5f && y[1] == 0 && y[31] == 1.5f);
  quant_find(QUANT_A256)->decode(&b, y, 256);
  assert_true(y[0] == 0 && y[255] == 31.75f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(table_has_names_and_sizes),
      cmocka_unit_test(removed_and_unknown_ids_have_no_row),
      cmocka_unit_test(names_ignore_case),
      cmocka_unit_test(row_bytes_refuse_broken_blocks_and_overflow),
      cmocka_unit_test(partners_follow_the_block),
      cmocka_unit_test(every_half_round_trips),
      cmocka_unit_test(floats_round_to_the_nearest_half),
      cmocka_unit_test(halves_are_those_of_the_processor),
      cmocka_unit_test(bf16_rounds_to_even),
      cmocka_unit_test(blocks_decode_to_the_recorded_values),
      cmocka_unit_test(rows_encode_to_the_recorded_blocks),
      cmocka_unit_test(weights_draw_the_error_away),
      cmocka_unit_test(plain_encoding_is_as_good_as_its_bits),
      cmocka_unit_test(plain_q4_0_puts_the_largest_on_level_0),
      cmocka_unit_test(q8_0_rounds_halves_away_from_zero),
      cmocka_unit_test(odd_values_do_no_harm),
      cmocka_unit_test(decode_takes_blocks_one_by_one),
      cmocka_unit_test(activations_decode),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
