/* run_attn: drivers of STORE and ATTEND. Position p of a sequence lies in the page its table names for block p / 256, cell
 * p % 256. A tile is some consecutive tokens of one sequence times query heads that share a KV head: its columns read the
 * same K and V. For each block in increasing position: score, softmax, value, then joined to what came before; the result of
 * a column is the same whatever tile it is in (rule R5).
 *
 *   many tiles   a unit is a tile; its thread walks the blocks
 *   few tiles    a unit is a tile's block; partial results wait in the work areas and are joined in order afterwards
 *
 * Work area of a thread: [chunks of the batch][scores][results of a tile][results of a block]. Shared by all: slots of partial
 * results. Knows no instruction set and no order inside a block. */
#include <string.h>

#include "device/cpu/cpu.h"
#include "device/cpu/scalar/math.h"

enum {
  TILE_COLUMNS = 36,       /* most columns of a tile: 36 KiB of scores, six of the kernels' tiles; 5 % faster than 32 */
  FEW_TILES = 16,          /* a thread: with fewer, blocks become units */
  SLOT_BYTES = 512 * 1024, /* of partial results, a thread; always MIN_SLOTS for each of few tiles */
  MIN_SLOTS = 2,
};

static int64_t min_of(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t max_of(int64_t a, int64_t b) { return a > b ? a : b; }

static char *block_at(const cpu_run *r, const op_cache *c, bool v, int32_t sequence, int64_t i_block, int head) {
  int32_t page = r->batch->tables[c->group][sequence][i_block];
  char *store = r->bind->stores[c->group];
  if (v) return store + c->v_offset + (size_t)page * c->v_page + (size_t)head * c->v_block;
  return store + c->k_offset + (size_t)page * c->k_page + (size_t)head * c->k_block;
}

/* ---- STORE ---------------------------------------------------------------------------------------------------------- */

void cpu_run_store(const cpu_run *r, int i_step, int i_thread) {
  const op_step *s = &r->program->steps[i_step];
  const op_value *k = &r->program->values[s->src[0]], *v = &r->program->values[s->src[1]];
  const op_cache *c = &r->program->caches[s->cache];
  const op_batch *b = r->batch;
  int n_threads = r->device->n_threads;
  int32_t t0 = (int32_t)cpu_share(b->n_tokens, i_thread, n_threads), n = (int32_t)cpu_share(b->n_tokens, i_thread + 1, n_threads) - t0;
  /* Rows of its own; by head, then token: the cells of neighbouring positions of K share cache lines. */
  for (int64_t i = 0; i < (int64_t)c->n_heads * n; i++) {
    int head = (int)(i / n);
    int64_t t = t0 + i % n, position = b->positions[t];
    const float *k_row = (const float *)(void *)(cpu_at(r, k) + (size_t)t * k->stride);
    const float *v_row = (const float *)(void *)(cpu_at(r, v) + (size_t)t * v->stride);
    int cell = (int)(position % CPU_BLOCK);
    r->device->kernels.put_k[c->k_type](block_at(r, c, false, b->sequences[t], position / CPU_BLOCK, head), cell,
                                        k_row + head * c->k_dim, c->k_dim);
    r->device->kernels.put_v[c->v_type](block_at(r, c, true, b->sequences[t], position / CPU_BLOCK, head), cell,
                                        v_row + head * c->v_dim, c->v_dim);
  }
}

/* ---- the shape of a step -------------------------------------------------------------------------------------------- */

/* Consecutive tokens of one sequence at consecutive positions. */
typedef struct chunk {
  int32_t first, n;
} chunk;

typedef struct attend {
  const cpu_run *r;
  const op_step *s;
  const op_cache *c;
  const op_value *q, *dst;
  const float *sinks; /* [n_heads] or NULL */
  int group;      /* query heads of a KV head */
  int tile_heads; /* query heads of a tile */
  int head_tiles; /* tiles that share a KV head */
  int tile_tokens;
  int64_t n_chunks, n_tiles, most_blocks;
  const chunk *chunks; /* this thread's areas from here on */
  float *scores;       /* [TILE_COLUMNS][CPU_BLOCK] */
  float *o, *o_block;  /* [TILE_COLUMNS][o_stride] */
  int64_t o_stride;    /* v_dim rounded up to a cache line */
} attend;

static int64_t row_floats(int dim) { return (dim + 15) / 16 * 16; }
static int64_t slot_floats(int64_t n_cols, int dim) { return n_cols * (row_floats(dim) + 16); }

static size_t chunk_bytes(const device_program *p) { return size_align((size_t)p->max_tokens * sizeof(chunk), 64); }
static size_t tile_bytes(int v_dim) { return sizeof(float) * TILE_COLUMNS * (size_t)(CPU_BLOCK + 2 * row_floats(v_dim)); }
static size_t slots_bytes(int v_dim) {
  size_t least = sizeof(float) * FEW_TILES * MIN_SLOTS * (size_t)slot_floats(TILE_COLUMNS, v_dim);
  return least > SLOT_BYTES ? least : SLOT_BYTES;
}

/* The widest V of the program's ATTEND steps; 0 if there is none. */
static int most_v_dim(const device_program *p) {
  int most = 0;
  for (int32_t i = 0; i < p->n_steps; i++)
    if (p->steps[i].op == OP_ATTEND) most = (int)max_of(most, p->caches[p->steps[i].cache].v_dim);
  return most;
}

size_t cpu_attn_work(const device_program *p) {
  int v_dim = most_v_dim(p);
  return v_dim ? chunk_bytes(p) + tile_bytes(v_dim) : 0;
}

size_t cpu_attn_shared(const device_program *p, int n_threads) {
  int v_dim = most_v_dim(p);
  return v_dim && n_threads > 1 ? (size_t)n_threads * slots_bytes(v_dim) : 0;
}

/* Positions a token sees: first .. position. */
static int64_t first_seen(const op_cache *c, int64_t position) {
  return c->window > 0 ? max_of(0, position - c->window + 1) : 0;
}
static int64_t first_block(const attend *a, const chunk *u) {
  return first_seen(a->c, a->r->batch->positions[u->first]) / CPU_BLOCK;
}
static int64_t n_blocks(const attend *a, const chunk *u) {
  return (a->r->batch->positions[u->first + u->n - 1] - a->s->behind) / CPU_BLOCK - first_block(a, u) + 1;
}

/* Cuts the batch into chunks of at most tile_tokens. */
static void cut_chunks(attend *a, chunk *chunks) {
  const op_batch *b = a->r->batch;
  a->n_chunks = a->most_blocks = 0;
  for (int32_t t = 0; t < b->n_tokens; t++) {
    bool follows = t > 0 && b->sequences[t] == b->sequences[t - 1] && b->positions[t] == b->positions[t - 1] + 1;
    if (follows && chunks[a->n_chunks - 1].n < a->tile_tokens)
      chunks[a->n_chunks - 1].n++;
    else
      chunks[a->n_chunks++] = (chunk){t, 1};
  }
  for (int64_t i = 0; i < a->n_chunks; i++) a->most_blocks = max_of(a->most_blocks, n_blocks(a, &chunks[i]));
}

static void set_tiles(attend *a, chunk *chunks, int tile_heads) {
  a->tile_heads = tile_heads;
  a->head_tiles = (a->group + tile_heads - 1) / tile_heads;
  a->tile_tokens = TILE_COLUMNS / tile_heads;
  cut_chunks(a, chunks);
  a->n_tiles = a->n_chunks * a->c->n_heads * a->head_tiles;
}

static attend attend_of(const cpu_run *r, int i_step, int i_thread) {
  const op_step *s = &r->program->steps[i_step];
  attend a = {.r = r,
              .s = s,
              .c = &r->program->caches[s->cache],
              .q = &r->program->values[s->src[0]],
              .dst = &r->program->values[s->dst],
              .sinks = s->src[1] >= 0 ? (const float *)(const void *)cpu_at(r, &r->program->values[s->src[1]]) : NULL};
  char *work = r->work + (size_t)i_thread * r->work_stride;
  a.group = s->n_heads / a.c->n_heads;
  a.o_stride = row_floats(a.c->v_dim);
  a.chunks = (chunk *)(void *)work;
  a.scores = (float *)(void *)(work + chunk_bytes(r->program));
  a.o = a.scores + TILE_COLUMNS * CPU_BLOCK;
  a.o_block = a.o + TILE_COLUMNS * a.o_stride;
  set_tiles(&a, (chunk *)(void *)work, (int)min_of(a.group, TILE_COLUMNS));
  /* One block and fewer KV heads than threads: the query heads are split. */
  while (a.n_tiles < r->device->n_threads && a.most_blocks == 1 && a.tile_heads > 1)
    set_tiles(&a, (chunk *)(void *)work, (a.tile_heads + 1) / 2);
  return a;
}

/* ---- one tile ------------------------------------------------------------------------------------------------------- */

typedef struct tile {
  const chunk *chunk;
  int kv_head, first_head, n_heads;
  int n_cols; /* [token][head] */
  int32_t sequence;
  int64_t first_block, n_blocks;
  const float *q[TILE_COLUMNS];
  float *dst[TILE_COLUMNS];
} tile;

static int head_of(const tile *t, int c) { return t->first_head + c % t->n_heads; }

/* Tiles of the last tokens come first: they see most, and the last units should be small. */
static void tile_at(const attend *a, int64_t i, tile *t) {
  const op_batch *b = a->r->batch;
  int64_t per_chunk = (int64_t)a->c->n_heads * a->head_tiles, in_chunk = i % per_chunk;
  t->chunk = &a->chunks[a->n_chunks - 1 - i / per_chunk];
  t->kv_head = (int)(in_chunk / a->head_tiles);
  int first = (int)(in_chunk % a->head_tiles) * a->tile_heads;
  t->first_head = t->kv_head * a->group + first;
  t->n_heads = (int)min_of(a->tile_heads, a->group - first);
  t->n_cols = t->chunk->n * t->n_heads;
  t->sequence = b->sequences[t->chunk->first];
  t->first_block = first_block(a, t->chunk);
  t->n_blocks = n_blocks(a, t->chunk);
  for (int c = 0; c < t->n_cols; c++) {
    size_t token = (size_t)(t->chunk->first + c / t->n_heads), head = (size_t)head_of(t, c);
    t->q[c] = (const float *)(void *)(cpu_at(a->r, a->q) + token * a->q->stride) + head * (size_t)a->c->k_dim;
    t->dst[c] = (float *)(void *)(cpu_at(a->r, a->dst) + token * a->dst->stride) + head * (size_t)a->c->v_dim;
  }
}

/* What the tile reads of K or V of block i_block: up to the last position that its last token sees. */
static cpu_soon soon_of(const attend *a, const tile *t, int64_t i_block, bool v) {
  int64_t last = a->r->batch->positions[t->chunk->first + t->chunk->n - 1] - a->s->behind;
  size_t n = (size_t)min_of(CPU_BLOCK, last + 1 - i_block * CPU_BLOCK), cell_bytes = (v ? a->c->v_block : a->c->k_block) / CPU_BLOCK;
  const char *block = block_at(a->r, a->c, v, t->sequence, i_block, t->kv_head);
  return (cpu_soon){block, block + n * cell_bytes, a->r->device->kernels.near};
}

/* Scores, softmax and values of block i_block for the columns that see it, which are columns c0 .. c1 - 1. Results go to
 * o[c], m[c] and l[c]; l[c] of a column that sees nothing is set to 0, which no sum can be. `next` is the K that this
 * thread will read after this block, if any. */
static void attend_block(const attend *a, const tile *t, int64_t i_block, cpu_soon next, float *const *o, float *m, float *l) {
  const cpu_kernels *k = &a->r->device->kernels;
  int lo[TILE_COLUMNS], hi[TILE_COLUMNS], c0 = t->n_cols, c1 = 0, end = 0;
  float *s[TILE_COLUMNS];
  for (int c = 0; c < t->n_cols; c++) {
    int64_t position = a->r->batch->positions[t->chunk->first + c / t->n_heads], start = i_block * CPU_BLOCK;
    lo[c] = (int)min_of(CPU_BLOCK, max_of(0, first_seen(a->c, position) - start));
    hi[c] = (int)max_of(0, min_of(CPU_BLOCK, position + 1 - a->s->behind - start));
    s[c] = a->scores + c * CPU_BLOCK;
    l[c] = 0;
    if (lo[c] >= hi[c]) continue;
    c0 = c < c0 ? c : c0;
    c1 = c + 1;
    end = hi[c] > end ? hi[c] : end;
  }
  if (c0 >= c1) return;
  const char *k_block = block_at(a->r, a->c, false, t->sequence, i_block, t->kv_head);
  cpu_soon v = soon_of(a, t, i_block, true);
  int n = c1 - c0;
  k->score[a->c->k_type](k_block, a->c->k_dim, (end + 15) / 16, t->q + c0, s + c0, n, v);
  k->softmax(s + c0, lo + c0, hi + c0, n, a->s->scale, a->s->softcap, m + c0, l + c0);
  const float *p[TILE_COLUMNS];
  for (int c = c0; c < c1; c++) p[c] = s[c];
  k->value[a->c->v_type](v.at, a->c->v_dim, lo + c0, hi + c0, p + c0, o + c0, n, next);
}

/* Joins a block's result to the running one of a column; the first result is the running one. */
static void join(const attend *a, float *o, float *m, float *l, const float *o_block, float m_block, float l_block) {
  if (l_block == 0) return;
  if (*l == 0) {
    memcpy(o, o_block, sizeof(float) * (size_t)a->c->v_dim);
    *m = m_block;
    *l = l_block;
  } else {
    a->r->device->kernels.merge(o, m, l, o_block, m_block, l_block, a->c->v_dim);
  }
}

/* A sink is the last block of its head: one score, whose value is zero. */
static void finish(const attend *a, int head, const float *o, float m, float l, float *dst) {
  float part = 1;
  if (a->sinks) {
    float most = math_max(m, a->sinks[head]);
    part = math_exp(m - most);
    l = fmaf(l, part, math_exp(a->sinks[head] - most));
  }
  a->r->device->kernels.scale(o, part / l, dst, a->c->v_dim);
}

static void attend_tile(const attend *a, int64_t i) {
  float m[TILE_COLUMNS], l[TILE_COLUMNS], m_block[TILE_COLUMNS], l_block[TILE_COLUMNS];
  float *o[TILE_COLUMNS], *o_block[TILE_COLUMNS];
  tile t;
  tile_at(a, i, &t);
  for (int c = 0; c < t.n_cols; c++) {
    o[c] = a->o + c * a->o_stride;
    o_block[c] = a->o_block + c * a->o_stride;
  }
  for (int64_t b = 0; b < t.n_blocks; b++) {
    int64_t i_block = t.first_block + b;
    cpu_soon next = b + 1 < t.n_blocks ? soon_of(a, &t, i_block + 1, false) : (cpu_soon){0};
    attend_block(a, &t, i_block, next, b ? o_block : o, b ? m_block : m, b ? l_block : l);
    for (int c = 0; b && c < t.n_cols; c++) join(a, o[c], &m[c], &l[c], o_block[c], m_block[c], l_block[c]);
  }
  for (int c = 0; c < t.n_cols; c++) finish(a, head_of(&t, c), o[c], m[c], l[c], t.dst[c]);
}

/* ---- few tiles ------------------------------------------------------------------------------------------------------ */

/* A slot holds what one block gives to one tile: for each column o, then m and l. Blocks are taken in waves of as many as
 * there are slots; slot 0 of a tile keeps the running result. */
typedef struct slots {
  float *first;
  int64_t column, tile; /* floats from column to column, from tile to tile */
  int64_t slot, n;      /* floats of a slot, slots of a tile */
} slots;

static slots slots_of(const attend *a) {
  slots s = {.first = (float *)(void *)a->r->shared, .column = slot_floats(1, a->c->v_dim)};
  s.slot = s.column * min_of(a->tile_tokens, a->r->batch->n_tokens) * a->tile_heads;
  int64_t most = (int64_t)(cpu_attn_shared(a->r->program, a->r->device->n_threads) / sizeof(float)) / (s.slot * a->n_tiles);
  s.n = min_of(a->most_blocks, most);
  s.tile = s.slot * s.n;
  return s;
}

/* Which block of which tile a unit is: a block of all tiles, then the next, as blocks of KV heads lie in a page. */
typedef struct unit {
  tile t;
  int64_t i_tile, i_block; /* the block counted from the tile's first */
  cpu_soon k;              /* empty: there is no such unit, or no such block in the tile */
} unit;

static void unit_at(const attend *a, int64_t i, int64_t b0, int64_t b1, unit *u) {
  u->k = (cpu_soon){0};
  u->i_tile = i % a->n_tiles;
  u->i_block = b0 + i / a->n_tiles;
  if (u->i_block >= b1) return;
  tile_at(a, u->i_tile, &u->t);
  if (u->i_block < u->t.n_blocks) u->k = soon_of(a, &u->t, u->t.first_block + u->i_block, false);
}

static void attend_slot(const attend *a, const unit *u, cpu_soon next, float *slot, int64_t column) {
  float *o[TILE_COLUMNS], m[TILE_COLUMNS], l[TILE_COLUMNS];
  for (int c = 0; c < u->t.n_cols; c++) o[c] = slot + c * column;
  attend_block(a, &u->t, u->t.first_block + u->i_block, next, o, m, l);
  for (int c = 0; c < u->t.n_cols; c++) {
    o[c][a->o_stride] = m[c];
    o[c][a->o_stride + 1] = l[c];
  }
}

/* Joins slots from .. to - 1 of a column to slot 0. */
static void join_slots(const attend *a, const slots *s, float *first, int64_t from, int64_t to) {
  float *m = first + a->o_stride, *l = m + 1;
  for (int64_t i = from; i < to; i++) {
    const float *o = first + i * s->slot;
    join(a, first, m, l, o, o[a->o_stride], o[a->o_stride + 1]);
  }
}

/* Units of blocks b0 .. b1 - 1 of every tile, counted from its first. A thread claims its next unit before it does the last
 * one, so that it knows what to fetch. */
static void attend_units(const attend *a, const slots *s, pool_counter *units, int64_t b0, int64_t b1) {
  int64_t first_slot = b0 > 0;
  unit u[2]; /* this one and the next */
  unit_at(a, pool_claim(units, 1), b0, b1, &u[0]);
  for (int i = 0; u[i].i_block < b1; i = !i) {
    unit_at(a, pool_claim(units, 1), b0, b1, &u[!i]);
    float *slot = s->first + u[i].i_tile * s->tile + (first_slot + u[i].i_block - b0) * s->slot;
    if (u[i].k.at) attend_slot(a, &u[i], u[!i].k, slot, s->column);
  }
}

/* Joins the results of those blocks to slot 0, which they begin with in the first wave, and finishes after the last. */
static void join_units(const attend *a, const slots *s, int i_thread, int64_t b0, int64_t b1) {
  tile t;
  for (int64_t i = 0; i < a->n_tiles; i++) {
    tile_at(a, i, &t);
    int64_t end = (b0 > 0) + min_of(b1, t.n_blocks) - b0;
    for (int c = 0; c < t.n_cols; c++) {
      if ((i * t.n_cols + c) % a->r->device->n_threads != i_thread) continue;
      float *first = s->first + i * s->tile + c * s->column, *m = first + a->o_stride, *l = m + 1;
      join_slots(a, s, first, 1, end);
      if (b1 == a->most_blocks) finish(a, head_of(&t, c), first, *m, *l, t.dst[c]);
    }
  }
}

static void attend_waves(const attend *a, pool_counter *units, int i_thread) {
  slots s = slots_of(a);
  for (int64_t b0 = 0, b1; b0 < a->most_blocks; b0 = b1) {
    b1 = min_of(a->most_blocks, b0 + s.n - (b0 > 0));
    attend_units(a, &s, units, b0, b1);
    pool_barrier(a->r->device->pool);
    if (i_thread == 0) atomic_store_explicit(&units->next, 0, memory_order_relaxed);
    join_units(a, &s, i_thread, b0, b1);
    pool_barrier(a->r->device->pool);
  }
}

void cpu_run_attend(const cpu_run *r, int i_step, int i_thread) {
  attend a = attend_of(r, i_step, i_thread);
  pool_counter *units = &r->counters[i_step];
  int n_threads = r->device->n_threads;
  if (n_threads == 1 || a.n_tiles >= FEW_TILES * n_threads || a.most_blocks == 1) {
    for (int64_t i; (i = pool_claim(units, 1)) < a.n_tiles;) attend_tile(&a, i);
    return;
  }
  attend_waves(&a, units, i_thread);
}
