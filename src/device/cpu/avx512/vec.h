/* avx512/vec: the words of mm.inc on 512-bit vectors: a vector lane is a row of a panel, a vector is a whole panel line.
 * Dot products are vpdpbusd, exact in int32. 8 columns keep 8 + 8 accumulators and their 8 addresses in registers; 12 of a
 * plain type, whose addresses are then partly reloaded, hide behind the multiply-adds. */
#ifndef CPU_AVX512_VEC_H
#define CPU_AVX512_VEC_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VEC_INLINE static inline __attribute__((always_inline))

typedef __m512i vec_i;
typedef __m512 vec_f;

/* A core that multiplies two lines a cycle and loads no more than two wants tiles of two panels, which share what is broadcast: mm_two.c. */
#ifndef TILE_PANELS
#define TILE_PANELS 1
#endif
#if TILE_PANELS == 1
#define VEC_COLUMNS 8        /* of a tile */
#define VEC_COLUMNS_4 8      /* of Q4_K */
#define VEC_DIRECT 8         /* of a tile that unpacks blocks of 256 in registers */
#define VEC_STAGED 8         /* of a tile that meets unpacked blocks of 256 */
#define VEC_STAGED_FROM_6 16 /* columns of Q6_K up to which all tiles unpack in registers */
#define VEC_JOINED 3         /* of a tile of Q6_K that takes all sub-blocks of a part line by line */
#define VEC_KEPT 1           /* the first of many tiles of blocks of 256 unpacks them for the others */
#define VEC_NEXT 0           /* tiles ask for the next panels, not for what comes VEC_AHEAD bytes later */
#define VEC_STRETCH 0        /* blocks of Q4_K whose scales are unpacked for many columns (mm_stretch.inc); 0: it is done without */
#else
#define VEC_COLUMNS 6
#define VEC_COLUMNS_4 4
#define VEC_DIRECT 4
#define VEC_STAGED 4
#define VEC_STAGED_FROM_6 4
#define VEC_JOINED 1
#define VEC_KEPT 0
#define VEC_NEXT 1
#define VEC_STRETCH 4
#endif
#define VEC_STAGED_FROM_4 0  /* columns of Q4_K up to which all tiles unpack in registers; 0: any number */
#define VEC_COLUMNS_PLAIN 12 /* of a tile of a plain type, which has no second accumulator */
#define VEC_WHOLE_6 0        /* of Q6_K always so many: the last computes some column twice */
#define VEC_SIGNED_8 0       /* many columns of Q8_0 meet magnitudes and signs of weights (mm_signed8.inc) */
#define VEC_WIDENED 0
#define VEC_AHEAD 8192       /* bytes that weights are fetched ahead, into the second level cache */
#define VEC_NEAR 6144        /* the same into the first level, if a slot is told to, */
#define VEC_NEAR_6 6144      /* of up to VEC_JOINED columns of Q6_K, */
#define VEC_NEAR_32 8192     /* of blocks of 32, */
#define VEC_NEAR_8_FROM 3    /* of Q8_0 from so many columns on, up to VEC_FORESEEN */
#define VEC_NEAR_MORE 0      /* all of them so much further */
#define VEC_NEAR_ALWAYS 0    /* told to or not */
#define VEC_NEAR_UP_TO 8     /* columns for which that is so whether they are foreseen or not */
#define VEC_FORESEEN 3       /* columns up to which hardware foresees what is read */
enum {
  VEC_LANES = 16,
  VEC_ACC32 = 1,      /* vec_dot accumulates int32, and may start from any int32 */
  VEC_PAIRS = 1,      /* sums of blocks of 256 fit int16 (QUANT_REACH): two are scaled at once, which is cheaper */
  VEC_OFFSET_8 = 128, /* what vec_weight_8 adds to a weight */
  VEC_DEPTH_4 = 8,    /* dot products that may be added up before vec_scaled, by bits of a weight: any number */
  VEC_DEPTH_5 = 8,
  VEC_DEPTH_6 = 8
};

VEC_INLINE void vec_fetch(const char *p) { _mm_prefetch(p, _MM_HINT_T1); }
/* As assembly: gcc 12 gathers intrinsics for a dozen lines at one place, where a core that waits for memory drops most of them. */
VEC_INLINE void vec_fetch_near(const char *p) { __asm__ volatile("prefetcht0 %0" : : "m"(*p)); }
/* A line that will be written; a processor that has no such instruction does nothing. */
VEC_INLINE void vec_fetch_to_write(const void *p) { __asm__ volatile("prefetchw %0" : : "m"(*(const char *)p)); }

/* ---- integers ------------------------------------------------------------------------------------------------------- */

VEC_INLINE vec_i vec_load(const void *p) { return _mm512_loadu_si512(p); }
VEC_INLINE void vec_store(void *p, vec_i a) { _mm512_storeu_si512(p, a); }
/* The same value, of which the compiler knows nothing: keeps it from reordering sums, which costs registers. */
VEC_INLINE vec_i vec_pin(vec_i a) {
  __asm__("" : "+v"(a));
  return a;
}
/* The same for an address: what was loaded from there is loaded again. */
VEC_INLINE const char *vec_same(const char *p) {
  __asm__ volatile("" : "+r"(p));
  return p;
}
/* The same for a number: an offset that is added to many addresses is not added up with each of them. */
VEC_INLINE size_t vec_number(size_t n) {
  __asm__("" : "+r"(n));
  return n;
}
VEC_INLINE vec_i vec_zero(void) { return _mm512_setzero_si512(); }
VEC_INLINE vec_i vec_int(int32_t x) { return _mm512_set1_epi32(x); }
VEC_INLINE vec_i vec_byte(int x) { return _mm512_set1_epi8((char)x); }
VEC_INLINE vec_i vec_add(vec_i a, vec_i b) { return _mm512_add_epi32(a, b); }
VEC_INLINE vec_i vec_and(vec_i a, vec_i b) { return _mm512_and_si512(a, b); }
VEC_INLINE vec_i vec_mul(vec_i a, vec_i b) { return _mm512_mullo_epi32(a, b); }
/* The four bytes at p in every lane. */
VEC_INLINE vec_i vec_spread(const void *p) {
  int32_t x;
  memcpy(&x, p, sizeof x);
  return _mm512_set1_epi32(x);
}
/* Every 16 bits shifted down by 2. */
VEC_INLINE vec_i vec_shift_down2(vec_i a) { return _mm512_srli_epi16(a, 2); }
/* Low or high four bits of every byte. */
VEC_INLINE vec_i vec_low4(vec_i a) { return _mm512_and_si512(a, vec_byte(15)); }
VEC_INLINE vec_i vec_high4(vec_i a) { return _mm512_and_si512(_mm512_srli_epi16(a, 4), vec_byte(15)); }
/* Four bits of a (low or high) and the bits of b that `mask` has above bit 3. */
VEC_INLINE vec_i vec_join(vec_i a, int high, vec_i b, int mask) {
  if (high) a = _mm512_srli_epi16(a, 4);
  return _mm512_and_si512(_mm512_ternarylogic_epi32(a, b, vec_byte(15), 0xe4), vec_byte(mask));
}
/* Bytes of which a has bits 0 and 1, b bits 2 and 3, c bits 4 and 5, on top of theirs. */
VEC_INLINE vec_i vec_fourth(vec_i a, vec_i b, vec_i c) {
  vec_i low = _mm512_ternarylogic_epi32(_mm512_srli_epi16(a, 6), _mm512_srli_epi16(b, 4), vec_byte(3), 0xe4);
  return vec_and(_mm512_ternarylogic_epi32(low, _mm512_srli_epi16(c, 2), vec_byte(15), 0xe4), vec_byte(0x3f));
}
/* Bit down + bit of every byte becomes bit 4; what the others become is not said. bit is a constant, 4 at most. */
VEC_INLINE vec_i vec_to_bit4(vec_i a, int down, int bit) { return _mm512_rolv_epi32(a, vec_int((4 - down - bit) & 31)); }

/* ---- dot products --------------------------------------------------------------------------------------------------- */

/* t + four products of unsigned weights and signed activations a lane. The intrinsic would have gcc 12 keep half of many sums in memory. */
VEC_INLINE vec_i vec_dot(vec_i t, vec_i w, vec_i x) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(t) : "v"(w), "v"(x));
  return t;
}
/* The same with the four activations at x for every lane. One instruction, of which compilers make two: on a busy machine that costs
 * 5 to 10 % of a product. */
VEC_INLINE vec_i vec_dot_at(vec_i t, vec_i w, const int8_t *x) {
  __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(t) : "v"(w), "m"(*(const int8_t(*)[4])x));
  return t;
}
/* The same for signed weights, which vec_weight_8 has made unsigned. */
VEC_INLINE vec_i vec_weight_8(vec_i w) { return _mm512_xor_si512(w, vec_byte(-128)); }
VEC_INLINE vec_i vec_dot_8(vec_i t, vec_i w, vec_i x) { return vec_dot(t, w, x); }
VEC_INLINE vec_i vec_dot_8_at(vec_i t, vec_i w, const int8_t *x) { return vec_dot_at(t, w, x); }
/* Sum of dot products as int32. */
VEC_INLINE vec_i vec_total(vec_i t) { return t; }
/* i + t * scale. */
VEC_INLINE vec_i vec_scaled(vec_i i, vec_i t, vec_i scale) { return vec_add(i, vec_mul(t, scale)); }
/* Byte b of every lane as a scale, unsigned or signed. */
VEC_INLINE vec_i vec_scale(vec_i a, int b) {
  const vec_i first = _mm512_set4_epi32((int)0x8080800c, (int)0x80808008, (int)0x80808004, (int)0x80808000);
  return _mm512_shuffle_epi8(a, _mm512_add_epi8(first, vec_byte(b)));
}
VEC_INLINE vec_i vec_scale_signed(vec_i a, int b) { return _mm512_srai_epi32(_mm512_sllv_epi32(a, vec_int(24 - 8 * b)), 24); }
/* i + two products of int16 pairs. */
VEC_INLINE vec_i vec_dot_16(vec_i i, vec_i a, vec_i b) { return _mm512_dpwssd_epi32(i, a, b); }
/* The same with the pair at x for every lane, as vec_dot_at. */
VEC_INLINE vec_i vec_dot_16_at(vec_i i, vec_i a, const int16_t *x) {
  __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(i) : "v"(a), "m"(*(const int16_t(*)[2])x));
  return i;
}
/* The low halves of two int32 a lane, as a pair. */
VEC_INLINE vec_i vec_pair(vec_i a, vec_i b) { return _mm512_mask_blend_epi16(0xaaaaaaaau, a, _mm512_slli_epi32(b, 16)); }
/* Bytes 2 b and 2 b + 1 of every lane as a pair of int16, unsigned or signed. */
VEC_INLINE vec_i vec_byte_pair(vec_i a, int b) {
  const vec_i first = _mm512_set4_epi32((int)0x800d800c, (int)0x80098008, (int)0x80058004, (int)0x80018000);
  return _mm512_shuffle_epi8(a, _mm512_add_epi8(first, vec_int(b ? 0x00020002 : 0)));
}
VEC_INLINE vec_i vec_signed_pair(vec_i a, int b) {
  const vec_i first = _mm512_set4_epi32((int)0x0d800c80, (int)0x09800880, (int)0x05800480, (int)0x01800080);
  return _mm512_srai_epi16(_mm512_shuffle_epi8(a, _mm512_add_epi8(first, vec_int(b ? 0x02000200 : 0))), 8);
}

/* ---- floats --------------------------------------------------------------------------------------------------------- */

VEC_INLINE vec_f vec_f_pin(vec_f a) {
  __asm__("" : "+v"(a));
  return a;
}
VEC_INLINE vec_f vec_f_zero(void) { return _mm512_setzero_ps(); }
VEC_INLINE vec_f vec_f_load(const float *p) { return _mm512_loadu_ps(p); }
VEC_INLINE void vec_f_store(float *p, vec_f a) { _mm512_storeu_ps(p, a); }
VEC_INLINE vec_f vec_f_spread(const float *p) { return _mm512_set1_ps(*p); }
VEC_INLINE vec_f vec_f_of(vec_i a) { return _mm512_cvtepi32_ps(a); }
VEC_INLINE vec_f vec_f_add(vec_f a, vec_f b) { return _mm512_add_ps(a, b); }
VEC_INLINE vec_f vec_f_mul(vec_f a, vec_f b) { return _mm512_mul_ps(a, b); }
/* a times the power of two at p, of which the logarithm is at log2_p. Two pipes multiply, dot products among the rest; this runs on the
 * others. One instruction, as vec_dot_at. */
VEC_INLINE vec_f vec_f_power(vec_f a, const float *p, const float *log2_p) {
  vec_f y;
  (void)p;
  __asm__("vscalefps %2%{1to16%}, %1, %0" : "=v"(y) : "v"(a), "m"(*log2_p));
  return y;
}
/* c + a * b, c - a * b */
VEC_INLINE vec_f vec_f_fma(vec_f a, vec_f b, vec_f c) { return _mm512_fmadd_ps(a, b, c); }
VEC_INLINE vec_f vec_f_fnma(vec_f a, vec_f b, vec_f c) { return _mm512_fnmadd_ps(a, b, c); }
/* c + a * b, where c is the end of a chain of them. */
VEC_INLINE vec_f vec_f_chain(vec_f a, vec_f b, vec_f c) { return vec_f_fma(a, b, c); }
VEC_INLINE vec_f vec_f16_load(const void *p) { return _mm512_cvtph_ps(_mm256_loadu_si256(p)); }
VEC_INLINE vec_f vec_bf16_low(vec_i a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
VEC_INLINE vec_f vec_bf16_high(vec_i a) { return _mm512_castsi512_ps(_mm512_and_si512(a, vec_int((int32_t)0xffff0000))); }

#endif
