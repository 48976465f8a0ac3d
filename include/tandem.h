/* tandem.h: the public interface of Tandem, an inference engine for GGUF language models.
 *
 * Handles are opaque and there are no globals: an engine owns a model (weights, tokenizer, plans, the pool of K/V pages),
 * a session is one sequence of tokens on it. Every fallible function returns a status (0 = ok) and describes the fault in
 * the error it is given (NULL is allowed). Nothing here prints, exits or changes the locale. A handler of SIGBUS is there while a
 * file is mapped, for the addresses of that file: one that becomes shorter is an error. Others go to the handler that was there before.
 *
 * Threads: an engine may be read by any thread (info, tokenize, explain). The sessions of one engine share its pool and
 * its worker threads, so calls that evaluate tokens are serialised by the caller: one thread at a time per engine.
 * Sizes: size_t bytes and counts, int32_t token ids, int64_t positions. Text is UTF-8, a pointer and a length. */
#ifndef TANDEM_H
#define TANDEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TANDEM_VERSION_MAJOR 0
#define TANDEM_VERSION_MINOR 1
#define TANDEM_VERSION_PATCH 0

#if defined(__GNUC__)
#define TANDEM_API __attribute__((visibility("default")))
#else
#define TANDEM_API
#endif

/* ---- status and error ------------------------------------------------------------------------------------------- */

/* Numbers are pinned: they may be stored and compared across releases. */
typedef enum tandem_status {
  TANDEM_OK = 0,
  TANDEM_ERROR_ARGUMENT = 1,     /* a parameter is missing or out of range */
  TANDEM_ERROR_MEMORY = 2,       /* an allocation failed, or the plan does not fit the memory there is */
  TANDEM_ERROR_OPEN = 3,         /* a file is missing or cannot be opened */
  TANDEM_ERROR_IO = 4,           /* reading or writing failed */
  TANDEM_ERROR_FORMAT = 5,       /* a file's content is not what its format allows */
  TANDEM_ERROR_UNSUPPORTED = 6,  /* well formed, but not something this build can do */
  TANDEM_ERROR_CONTEXT = 7,      /* more tokens than the context holds */
  TANDEM_ERROR_CANCELLED = 8,    /* a callback asked to stop */
  TANDEM_ERROR_NONFINITE = 9,    /* the model produced NaN or infinity where a number is needed */
  TANDEM_ERROR_BUSY = 10,        /* the pool of K/V pages is exhausted, or an object is still lent out */
  TANDEM_ERROR_INTERNAL = 11     /* a mistake of ours: a plan that does not verify, for example */
} tandem_status;

typedef struct tandem_error {
  int32_t code;    /* a tandem_status */
  uint64_t offset; /* of the fault in a file, in bytes; 0 if there is none */
  char field[64];  /* the key, tensor, option or parameter at fault, or "" */
  char text[512];  /* one line: the thing, what is wrong, both values */
} tandem_error;

/* Name of a status such as "TANDEM_ERROR_FORMAT"; never NULL. Static storage. Any thread. */
TANDEM_API const char *tandem_status_name(tandem_status status);

/* "0.1.0 (compiler, build type)"; static storage. Any thread. */
TANDEM_API const char *tandem_version(void);

/* ---- engine ------------------------------------------------------------------------------------------------------ */

typedef struct tandem_engine tandem_engine;
typedef struct tandem_session tandem_session;

/* Element type of the K/V cache. */
typedef enum tandem_kv_type { TANDEM_KV_F16 = 0, TANDEM_KV_F32 = 1, TANDEM_KV_BF16 = 2, TANDEM_KV_Q8_0 = 3 } tandem_kv_type;

/* Called while a model is opened or packed: `what` is being done ("load", "pack"), `done` of `total` bytes. Return false to cancel.
 * Runs on the thread that called tandem_engine_open or tandem_pack. */
typedef bool tandem_progress_fn(void *user, const char *what, uint64_t done, uint64_t total);

/* When a named drafter cannot be used, the engine opens without it and tandem_engine_info.draft_off says why; or that is an
 * error. */
typedef enum tandem_draft_wish {
  TANDEM_DRAFT_IF_USABLE = 0, /* never an error */
  TANDEM_DRAFT_IF_IT_FITS = 1,/* only lack of memory is none */
  TANDEM_DRAFT_REQUIRED = 2   /* always an error */
} tandem_draft_wish;

/* An n-gram drafter. 0 = the default. */
typedef struct tandem_ngram {
  int32_t n_match;  /* tokens that must match, 1 .. 64; simple 12, mod 24 */
  int32_t n_max;    /* tokens to continue with, 1 .. 64; 48 */
  int32_t min_hits; /* occurrences there must be, 1 .. 16; 1; simple only */
} tandem_ngram;

typedef struct tandem_engine_params {
  size_t size;                /* set by tandem_engine_params_init */
  const char *model;          /* path of a GGUF file (the first one if it is split); borrowed for the call */
  int64_t n_context;          /* tokens a session may hold, or TANDEM_ERROR_MEMORY; 0 = the default: as many as fit the memory,
                                 up to the trained length */
  int32_t n_sequences;        /* sessions that can hold a full context at once, 1..64; default 1 */
  int32_t n_ubatch;           /* tokens evaluated in one pass at most, 1..4096; default 512 */
  int32_t n_threads;          /* 1..1024; 0 = the processors this process may use */
  tandem_kv_type kv_type_k;   /* default F16 */
  tandem_kv_type kv_type_v;   /* default F16 */
  const char *cpu;            /* "scalar", "avx2", "avxvnni", "avx512", "avx512bf16"; NULL = the best the machine has */
  uint64_t memory;            /* bytes the process may have at its peak, with all it has already; 0 = no limit but what the
                                 machine, the cgroups and RLIMIT_AS leave, which always holds. See tandem_fit */
  bool plan_only;             /* read the metadata and plan, load no weights: for info and explain. Lack of memory is no error */
  tandem_progress_fn *progress; /* may be NULL */
  void *user;                 /* for progress */
  bool vocab_only;            /* read the vocabulary alone: for tandem_tokenize and its relatives; the file may be without tensors */
  const char *draft;          /* path of a drafter's GGUF file, NULL = none: a draft head over the target's own cells, or a
                                 small model of the same vocabulary; the file says which */
  tandem_ngram ngram_simple, ngram_mod;
  tandem_draft_wish draft_wish; /* what if it cannot be used; default TANDEM_DRAFT_IF_USABLE */
  int32_t draft_depth;        /* guesses in a row that there is room for in the pass that verifies them, 1 .. 64; default 16; may
                                 give way to the memory */
  int64_t n_context_min;      /* a context of 0 is not cut below this; other things give way first, see tandem_fit. 0 = 512, or
                                 the trained length if that is less */
  bool kv_type_lower;         /* the types of K/V may be lowered to Q8_0 before the engine does not open; default false */
  int32_t draft_behind;       /* a draft head is run at the position of the newest token (1, the default), whose cell is not
                                 there yet, or at that of the last cell (0): some are trained for the one, some for the other */
} tandem_engine_params;

/* Fills in the defaults. */
TANDEM_API void tandem_engine_params_init(tandem_engine_params *params);

/* Opens a model: reads and checks the file, compiles and verifies the plans, loads the weights. On failure *engine is
 * NULL and nothing is left behind. The file is not needed afterwards, unless it is a packed one (tandem_pack). */
TANDEM_API tandem_status tandem_engine_open(tandem_engine **engine, const tandem_engine_params *params, tandem_error *error);

/* Closes an engine. Its sessions must be closed before. NULL is allowed. */
TANDEM_API void tandem_engine_close(tandem_engine *engine);

/* What a machine can do at most of one kind: tandem_measure_ceiling. */
typedef enum tandem_ceiling {
  TANDEM_CEILING_READ, /* reading memory, bytes a second */
  TANDEM_CEILING_INT8, /* int8 multiply and add, operations a second (two a multiply-add) */
  TANDEM_CEILING_F32,  /* f32 fused multiply-add, operations a second (two each) */
  TANDEM_CEILING_BF16  /* the same of pairs of bf16; as f32 where the machine has no instruction for it */
} tandem_ceiling;
enum { TANDEM_CEILINGS = TANDEM_CEILING_BF16 + 1 };

typedef struct tandem_engine_info {
  size_t size;            /* set by the caller to sizeof(tandem_engine_info) */
  const char *arch;       /* general.architecture; lives as long as the engine, like the other strings */
  const char *name;       /* general.name, or "" */
  const char *cpu;        /* instruction set level in use */
  int32_t n_vocab;        /* ids are 0 .. n_vocab - 1 */
  int32_t n_layers;
  int32_t n_embd;
  int32_t n_threads;
  int32_t n_ubatch;
  int64_t n_context;      /* tokens a session may hold */
  int64_t n_context_train;
  bool has_vocab;         /* false: the file has no tokenizer, only ids can be used */
  uint64_t n_params;      /* number of weights */
  uint64_t weight_bytes;  /* weights as they lie in memory */
  uint64_t read_bytes;    /* weight bytes read to evaluate one token (experts that are used, one embedding row) */
  uint64_t expert_bytes;  /* of these: experts, of which a token uses */
  int32_t n_experts_used; /* so many, */
  int32_t n_experts;      /* of so many; 0 = there are none */
  uint64_t kv_bytes;      /* all K/V pages */
  uint64_t scratch_bytes; /* intermediates, logits, inputs */
  uint64_t macs;          /* multiply-adds of weights for one token with logits */
  tandem_ceiling arithmetic; /* that of most of them */
  int64_t window;         /* positions that a layer with a sliding window sees; 0 = no layer has one */
  uint64_t cell_bytes, window_cell_bytes; /* K/V that a token reads for each position it sees: in layers that see all, in the others */
  uint64_t cell_macs, window_cell_macs;   /* multiply-adds of attention, likewise */
  tandem_ceiling cell_arithmetic;         /* that of the keys */
  uint64_t peak_bytes;    /* resident bytes of the process at its peak, as predicted, with all cells in use */
  const char *draft_kind; /* "shared", "model", or "" without a drafter that is a model */
  const char *draft_name; /* its general.name, or "" */
  const char *draft_off;  /* why the drafter that was named is not used, or "" */
  uint64_t draft_weight_bytes;  /* of its weights */
  uint64_t draft_kv_bytes;      /* of its own cells: none for a draft head */
  uint64_t draft_scratch_bytes; /* intermediates, logits, hidden rows */
  int64_t draft_context_train;  /* its trained length: it follows the target's context, whatever this is */
  uint64_t draft_companion_bytes; /* what its K/V would take: on the target's pages, */
  uint64_t draft_separate_bytes;  /* and in a cache of its trained length. For comparison only */
} tandem_engine_info;

/* Fills `info`. Any thread. */
TANDEM_API tandem_status tandem_engine_get_info(const tandem_engine *engine, tandem_engine_info *info, tandem_error *error);

/* Receives a piece of text; return false to stop. */
typedef bool tandem_write_fn(void *user, const char *text, size_t n_bytes);

/* Writes the plan that evaluates n_tokens at once: steps, shapes, bytes, flops, offsets, scratch; as text or as JSON.
 * n_tokens is 1 .. n_ubatch. */
TANDEM_API tandem_status tandem_explain(const tandem_engine *engine, int32_t n_tokens, bool json, tandem_write_fn *write,
                                        void *user, tandem_error *error);

typedef struct tandem_pack_info {
  uint64_t n_tensors, n_bytes;       /* of the model */
  uint64_t n_packed, n_packed_bytes; /* and of those whose order has changed */
} tandem_pack_info;

/* Writes a copy of the model at `path` to `out` (a temporary file beside it, then renamed) whose matrices lie as this engine keeps them.
 * An engine opened from the copy uses them where they lie in the file: nothing is read, written or allocated for them, and processes
 * share them. Same weights, same logits, same sessions (tandem_session_save). Such a file serves every instruction set, and this
 * program only: others refuse its types, and a later version may ask for it to be packed again. While an engine is open that was
 * opened from it, it must not be written to: passes fail with TANDEM_ERROR_IO then. n_threads: 1..1024; 0 = the processors this
 * process may use. `progress` and `info` may be NULL. */
TANDEM_API tandem_status tandem_pack(const char *path, const char *out, int32_t n_threads, tandem_progress_fn *progress, void *user,
                                     tandem_pack_info *info, tandem_error *error);

/* Says what tandem_engine_open would grant with these parameters, what each part of it takes, and why: as text (`explain` adds the
 * budgets at which each wish gives way) or as JSON. All of K/V counts, for n_sequences sessions with a full context,
 * although it takes memory only as it fills. When it does not fit, gives way in this order: a context of 0 down to
 * n_context_min, the pool of n-grams, the types of K/V if they may, the depth of guesses, the drafter unless it is
 * required. Then TANDEM_ERROR_MEMORY, naming the context that would fit or the least that is needed; the text is written all the
 * same. Reads no weights. */
TANDEM_API tandem_status tandem_fit(const tandem_engine_params *params, bool json, bool explain, tandem_write_fn *write, void *user,
                                    tandem_error *error);

/* ---- text and tokens --------------------------------------------------------------------------------------------- */

enum {
  TANDEM_ADD_SPECIAL = 1,  /* add BOS and EOS as the vocabulary says */
  TANDEM_PARSE_SPECIAL = 2 /* read special tokens written out in the text */
};

/* Tokens of a text. Writes at most `capacity` ids and always sets *n_ids to the number there are; the result is
 * complete iff *n_ids <= capacity. `ids` may be NULL if capacity is 0. Any bytes are accepted. Any thread. */
TANDEM_API tandem_status tandem_tokenize(const tandem_engine *engine, const char *text, size_t n_bytes, unsigned flags,
                                         int32_t *ids, size_t capacity, size_t *n_ids, tandem_error *error);

/* Text of one token as raw bytes (perhaps part of a UTF-8 character). Writes at most `capacity` bytes and always sets
 * *n_bytes to the length. Control tokens have no text unless `special` is set. Any thread. */
TANDEM_API tandem_status tandem_token_bytes(const tandem_engine *engine, int32_t id, bool special, char *bytes,
                                            size_t capacity, size_t *n_bytes, tandem_error *error);

/* True for a token that ends a generation (EOS, EOT and their relatives). Any thread. */
TANDEM_API bool tandem_token_is_end(const tandem_engine *engine, int32_t id);

/* ---- sessions ---------------------------------------------------------------------------------------------------- */

typedef struct tandem_logit_bias {
  int32_t id;
  float bias; /* added to the logit; -INFINITY bans the token */
} tandem_logit_bias;

/* How the next token is drawn from the logits. Applied in this order: bias, penalties, DRY, top-k, typical, top-p,
 * min-p, XTC, temperature. Each default leaves the logits as they are unless a value is shown. */
typedef struct tandem_sampling {
  size_t size;              /* set by tandem_sampling_init */
  uint64_t seed;            /* default 0; the draw depends on (seed, position) only */
  float temperature;        /* >= 0; 0 = greedy, ties to the lowest id; default 0.8 */
  int32_t top_k;            /* >= 0; 0 = off; default 40 */
  float top_p;              /* (0, 1]; default 0.95 */
  float min_p;              /* [0, 1]; default 0.05 */
  float typical_p;          /* (0, 1]; 1 = off */
  float xtc_probability;    /* [0, 1]; 0 = off */
  float xtc_threshold;      /* [0, 1]; default 0.1; above 0.5 = off */
  int32_t repeat_last_n;    /* tokens the penalties look at, 0 = off, -1 = all; default 64 */
  float repeat_penalty;     /* > 0; 1 = off */
  float frequency_penalty;  /* [-100, 100]; 0 = off */
  float presence_penalty;   /* [-100, 100]; 0 = off */
  float dry_multiplier;     /* >= 0; 0 = off */
  float dry_base;           /* >= 1; default 1.75 */
  int32_t dry_allowed_length; /* >= 0; default 2 */
  int32_t dry_last_n;       /* tokens DRY looks at, 0 = off, -1 = all; default 64 */
  const char *const *dry_breakers; /* strings that end a repetition; borrowed for the call */
  size_t n_dry_breakers;    /* at most 64; default 4: newline, colon, quote, asterisk */
  const tandem_logit_bias *bias; /* borrowed for the call */
  size_t n_bias;            /* at most 4096 */
} tandem_sampling;

/* Fills in the defaults. */
TANDEM_API void tandem_sampling_init(tandem_sampling *sampling);

/* Opens an empty session. `sampling` may be NULL: greedy. */
TANDEM_API tandem_status tandem_session_open(tandem_session **session, tandem_engine *engine,
                                             const tandem_sampling *sampling, tandem_error *error);

/* Opens a session that begins with the first n tokens of `source` (their cells are shared, not copied). The source must
 * hold them: 0 <= n <= tandem_session_length(source). It has the source's sampling. */
TANDEM_API tandem_status tandem_session_fork(tandem_session **session, const tandem_session *source, int64_t n,
                                             tandem_error *error);

/* Closes a session and returns its pages. NULL is allowed. */
TANDEM_API void tandem_session_close(tandem_session *session);

/* Replaces the sampling parameters; on error the old ones stay. */
TANDEM_API tandem_status tandem_session_set_sampling(tandem_session *session, const tandem_sampling *sampling,
                                                     tandem_error *error);

/* Tokens evaluated so far: the next one has this position. */
TANDEM_API int64_t tandem_session_length(const tandem_session *session);

/* The tokens evaluated so far, tandem_session_length of them; valid until the session changes. */
TANDEM_API const int32_t *tandem_session_tokens(const tandem_session *session);

/* Called after each pass of a long evaluation with the tokens done and to do. Return false to cancel. */
typedef bool tandem_pass_fn(void *user, int64_t done, int64_t total);

/* Evaluates n more tokens in passes of at most n_ubatch. Afterwards tandem_session_logits gives the row of the last
 * one. On error the session holds the tokens of the passes that were complete. n = 0 does nothing. */
TANDEM_API tandem_status tandem_session_decode(tandem_session *session, const int32_t *ids, int64_t n,
                                               tandem_pass_fn *pass, void *user, tandem_error *error);

/* The same, and writes the logits of every token: rows [n][n_vocab]. */
TANDEM_API tandem_status tandem_session_decode_all(tandem_session *session, const int32_t *ids, int64_t n, float *rows,
                                                   tandem_error *error);

/* Makes the session hold exactly these tokens: keeps the common prefix, drops what follows it, evaluates the rest (at
 * least the last token, so that there are logits). */
TANDEM_API tandem_status tandem_session_sync(tandem_session *session, const int32_t *ids, int64_t n, tandem_pass_fn *pass,
                                             void *user, tandem_error *error);

/* Forgets the tokens from position n on. If a sliding window has already let go of cells that position n needs, the
 * session is re-evaluated from the start. */
TANDEM_API tandem_status tandem_session_truncate(tandem_session *session, int64_t n, tandem_error *error);

/* Logits of the last token evaluated, n_vocab of them; NULL if there are none. Valid until the session changes. */
TANDEM_API const float *tandem_session_logits(const tandem_session *session);

/* Draws the next token from those logits. It is not evaluated: pass it to tandem_session_decode. */
TANDEM_API tandem_status tandem_session_sample(tandem_session *session, int32_t *id, tandem_error *error);

/* Receives generated text, whole UTF-8 characters only. Return false to stop. */
typedef bool tandem_text_fn(void *user, int32_t id, const char *text, size_t n_bytes);

typedef enum tandem_stop {
  TANDEM_STOP_LENGTH = 0, /* n_max tokens were generated */
  TANDEM_STOP_END = 1,    /* the model ended its text */
  TANDEM_STOP_CONTEXT = 2,/* the context is full */
  TANDEM_STOP_USER = 3    /* the callback asked to stop */
} tandem_stop;

/* Samples and evaluates up to n_max tokens (-1: until the end or a full context), handing text to `on_text` as it comes.
 * Needs the logits of at least one evaluated token. An end token is counted but gives no text; the last token drawn is not
 * evaluated. Bytes left of an incomplete character come at the end with id -1. */
TANDEM_API tandem_status tandem_session_generate(tandem_session *session, int64_t n_max, tandem_text_fn *on_text, void *user,
                                                 int64_t *n_generated, tandem_stop *stop, tandem_error *error);

/* ---- sessions on disk -------------------------------------------------------------------------------------------- */

/* Writes the session to a file: its tokens, their cells, the logits of the last one. Through PATH.unfinished beside it, fsync
 * and rename: at any moment path is the old file or the new one. Equal sessions give equal bytes. */
TANDEM_API tandem_status tandem_session_save(const tandem_session *session, const char *path, tandem_error *error);

/* Replaces what the session holds by what a file holds; it then goes on bit for bit as the saved one would have. The engine
 * must have the same model (its file's keys and tensors, and a sample of the weights' bytes, are compared) and K/V types, and a
 * context that holds the tokens. Sampling is not part of a file. Everything is checked before the session is touched: a file
 * that is damaged or belongs to something else is refused, and nothing has changed. */
TANDEM_API tandem_status tandem_session_load(tandem_session *session, const char *path, tandem_error *error);

/* ---- speculation ------------------------------------------------------------------------------------------------- */

enum { TANDEM_MAX_DRAFT = 64, TANDEM_DRAFT_POSITIONS = 16, TANDEM_DRAFTERS = 4 };

/* Name of drafter i, 0 .. TANDEM_DRAFTERS - 1, as in tandem_speculation.kinds; NULL beyond. Static storage. */
TANDEM_API const char *tandem_drafter_name(int i);

/* How a session guesses ahead. It changes how fast tokens come, never which: every token is drawn from the model's own
 * logits. */
typedef struct tandem_speculation {
  size_t size;         /* set by tandem_speculation_init */
  const char *kinds;   /* drafters to ask, in order: "ngram-simple", "ngram-mod", "shared", "model", with commas between
                          ("ngram" = both); "off"; NULL or "auto" = ngram-mod and the model the engine has, the most promising first.
                          Borrowed for the call */
  int32_t depth;       /* tokens to guess: -1 = by measured acceptance and cost (the default); 0 .. 64 = always so many */
  int32_t n_max;       /* bounds on that, 0 .. 64; default 16 */
  int32_t n_min;       /* a shorter guess is dropped; default 0 */
  float p_min;         /* a guess the drafter holds less likely is not taken, [0, 1]; default 0 */
  uint64_t depth_seed; /* for tests: not 0 = a random depth 0 .. n_max for every step */
} tandem_speculation;

/* Fills in the defaults. */
TANDEM_API void tandem_speculation_init(tandem_speculation *speculation);

/* Replaces the session's speculation; on error the old one stays. A kind that needs a model is silent where the engine has
 * none. */
TANDEM_API tandem_status tandem_session_set_speculation(tandem_session *session, const tandem_speculation *speculation,
                                                        tandem_error *error);

typedef struct tandem_draft_stats {
  size_t size;               /* set by the caller to sizeof(tandem_draft_stats) */
  int64_t n_steps;           /* passes that verified at least one guess */
  int64_t n_plain;           /* passes without a guess */
  int64_t n_drafted;         /* guesses verified */
  int64_t n_accepted;        /* of which were right */
  int64_t n_tokens;          /* tokens drawn by all passes */
  int64_t drafted_at[TANDEM_DRAFT_POSITIONS];  /* by place in the guess; the last counts all behind */
  int64_t accepted_at[TANDEM_DRAFT_POSITIONS];
  int64_t drafted_by[TANDEM_DRAFTERS];         /* by drafter, in the order of tandem_drafter_name */
  int64_t accepted_by[TANDEM_DRAFTERS];
  double seconds;            /* all passes, drafting included */
  double plain_seconds;      /* what a pass over one token costs, as measured or estimated; 0 = not known */
} tandem_draft_stats;

/* Counts since the session was opened. */
TANDEM_API tandem_status tandem_session_get_draft_stats(const tandem_session *session, tandem_draft_stats *stats, tandem_error *error);

/* One session's part of a step. */
typedef struct tandem_step {
  tandem_session *session;
  int32_t last;         /* in: its newest token, drawn but not evaluated */
  int32_t n_max;        /* in: tokens wanted at most, >= 1 */
  int32_t n;            /* out: tokens drawn, 1 .. n_max; an end token is the last of them. 0 on failure */
  int32_t ids[TANDEM_MAX_DRAFT + 1]; /* out */
  int32_t n_drafted, n_accepted;     /* out: ids[0 .. n_accepted - 1] had been guessed */
  tandem_status status; /* out: of this session; a failure of one does not stop the others */
} tandem_step;

/* Evaluates each session's newest token together with guesses at what follows, all in one pass, and draws the tokens behind
 * it: the same ones that tandem_session_decode and tandem_session_sample would give one by one. Afterwards a session holds
 * all of them but the last, and its logits are those the last was drawn from. 1 .. 64 different sessions of one engine.
 * Returns the first failure. */
TANDEM_API tandem_status tandem_advance(tandem_step *steps, int32_t n_steps, tandem_error *error);

/* Inside a tandem_text_fn: had the token been guessed? */
TANDEM_API bool tandem_session_was_drafted(const tandem_session *session);

/* What the engine's model drafter would say: k guesses behind `last` (not evaluated), greedy, and its logits [k][n_vocab].
 * Nothing changes but the drafter's own cells. For tests and measurements. */
TANDEM_API tandem_status tandem_session_draft(tandem_session *session, int32_t last, int32_t k, int32_t *ids, float *rows,
                                              tandem_error *error);

/* 64-bit hash of the session's cells: keys and values of all positions that the next token sees; 0 without memory for it. */
TANDEM_API uint64_t tandem_session_hash(const tandem_session *session);

/* ---- measuring --------------------------------------------------------------------------------------------------- */

/* What this machine can do at most, measured now, for about `seconds`, by the engine's threads: an average, to be held
 * against what the engine did just before or after. Evaluates tokens in no sense, but wants the engine for itself as those
 * calls do; the first reading maps a buffer larger than all caches, which the engine keeps. */
TANDEM_API tandem_status tandem_measure_ceiling(tandem_engine *engine, tandem_ceiling what, double seconds, double *per_second,
                                                tandem_error *error);

/* A pool of K/V pages after many random appends, verifications with rollback, truncations and forks. */
typedef struct tandem_pool_report {
  size_t size;          /* set by the caller to sizeof(tandem_pool_report) */
  int64_t n_operations, n_appends;
  int64_t n_refused;    /* appends for which there were not pages enough */
  int64_t n_unusable;   /* ... though there were: fragmentation */
  int64_t n_lost;       /* pages not back in the pool when all sequences have ended */
  uint64_t n_allocations;
  double mean_used;     /* share of the pages */
  double mean_waste, worst_waste; /* share of the cells of used pages that hold nothing */
  double seconds;
} tandem_pool_report;

TANDEM_API tandem_status tandem_measure_pool(int32_t n_pages, int32_t n_sequences, int64_t n_operations, uint64_t seed,
                                             tandem_pool_report *report, tandem_error *error);

/* Allocations made through the library's allocator in this process since it started. */
TANDEM_API uint64_t tandem_allocation_count(void);

#ifdef __cplusplus
}
#endif
#endif
