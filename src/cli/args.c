/* Options: the table, the parser, the environment. An option that has no row here does not exist; the help, the manual and
 * the completions print these rows. The only file that reads the environment. */
#include "cli/cli.h"

#include <ctype.h>
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
  RUN = 1 << CLI_RUN,
  TOKENIZE = 1 << CLI_TOKENIZE,
  LOGITS = 1 << CLI_LOGITS,
  BENCH = 1 << CLI_BENCH,
  SHARE = 1 << CLI_BENCH_SHARE,
  INSPECT = 1 << CLI_INSPECT,
  EXPLAIN = 1 << CLI_EXPLAIN,
  FIT = 1 << CLI_FIT,
  PACK = 1 << CLI_PACK,
  VERSION = 1 << CLI_VERSION,
  EVALUATE = RUN | LOGITS | BENCH | SHARE,
  ENGINE = EVALUATE | EXPLAIN | FIT,
  ANY = (1 << CLI_COMMANDS) - 1
};
#define AT(member) offsetof(cli_options, member)
#define KV_TYPES "f16 f32 bf16 q8_0" /* in the order of tandem_kv_type */
static_assert(TANDEM_KV_F16 == 0 && TANDEM_KV_F32 == 1 && TANDEM_KV_BF16 == 2 && TANDEM_KV_Q8_0 == 3, "order of KV_TYPES");

#define MODEL_GROUP "Model and memory"
#define TEXT_GROUP "Prompt and answer"
#define FILES_GROUP "Input and output"
#define BENCH_GROUP "Measurements"
#define PLAN_GROUP "Plan"
#define SAMPLING_GROUP "Sampling"
#define DRAFT_GROUP "Guessing ahead"
#define OUTPUT_GROUP "Output"

/* clang-format off */
const cli_arg cli_args[] = {
    {.names = {"-m", "--model"}, .value = "FILE", .group = MODEL_GROUP, .commands = ENGINE | TOKENIZE | INSPECT | PACK,
     .kind = ARG_MODEL, .env = {"MODEL"}, .unset = "",
     .help = "the model, a GGUF file (of a split one the first part); bench takes several"},
    {.names = {"-c", "--ctx-size"}, .value = "N", .group = MODEL_GROUP, .commands = RUN | LOGITS | EXPLAIN | FIT,
     .kind = ARG_INT, .at = AT(context), .low = 0, .high = INT32_MAX, .env = {"CTX_SIZE"},
     .unset = "as many as fit, up to the trained length",
     .help = "tokens of context; 0 = as many as fit, up to the trained length; a number that does not fit is an error"},
    {.names = {"-fitc", "--fit-ctx"}, .value = "N", .group = MODEL_GROUP, .commands = RUN | LOGITS | EXPLAIN | FIT,
     .kind = ARG_INT, .at = AT(fit_context), .low = 0, .high = 1 << 27, .env = {"FIT_CTX"}, .unset = "512",
     .help = "without -c: tokens below which the context is not cut to fit the memory; other things give way then"},
    {.names = {"--fit-kv"}, .group = MODEL_GROUP, .commands = RUN | LOGITS | FIT,
     .kind = ARG_FLAG, .at = AT(fit_kv),
     .help = "lower the types of keys and values to q8_0 rather than not fit"},
    {.names = {"-t", "--threads"}, .value = "N", .group = MODEL_GROUP, .commands = ENGINE | PACK,
     .kind = ARG_INT32, .at = AT(threads), .low = 0, .high = 1024, .env = {"THREADS"},
     .help = "threads; 0 = the processors this process may use"},
    {.names = {"-ub", "--ubatch-size", "--ubatch"}, .value = "N", .group = MODEL_GROUP, .commands = ENGINE,
     .kind = ARG_INT32, .at = AT(ubatch), .low = 1, .high = 4096, .env = {"UBATCH"},
     .help = "tokens evaluated in one pass at most"},
    {.names = {"--kv-type"}, .value = "TYPE", .group = MODEL_GROUP, .commands = ENGINE,
     .kind = ARG_CHOICE, .at = AT(kv_type), .choices = KV_TYPES, .unset = "f16",
     .help = "element type of keys and values in the cache"},
    {.names = {"-ctk", "--cache-type-k"}, .value = "TYPE", .group = MODEL_GROUP, .commands = ENGINE,
     .kind = ARG_CHOICE, .at = AT(kv_type_k), .choices = KV_TYPES, .env = {"CACHE_TYPE_K"}, .unset = "--kv-type",
     .help = "element type of the keys alone"},
    {.names = {"-ctv", "--cache-type-v"}, .value = "TYPE", .group = MODEL_GROUP, .commands = ENGINE,
     .kind = ARG_CHOICE, .at = AT(kv_type_v), .choices = KV_TYPES, .env = {"CACHE_TYPE_V"}, .unset = "--kv-type",
     .help = "element type of the values alone"},
    {.names = {"--cpu"}, .value = "LEVEL", .group = MODEL_GROUP, .commands = ENGINE,
     .kind = ARG_WORD, .at = AT(cpu), .choices = "scalar avx2 avxvnni avx512 avx512bf16", .env = {"CPU"}, .unset = "the best the machine has",
     .help = "instruction set to use"},
    {.names = {"--memory"}, .value = "SIZE", .group = MODEL_GROUP, .commands = ENGINE,
     .kind = ARG_SIZE, .at = AT(memory), .env = {"MEMORY"}, .unset = "what the machine has free",
     .help = "bytes the process may use at its peak, with K, M or G for 1024, 1024^2, 1024^3"},

    {.names = {"-p", "--prompt"}, .value = "TEXT", .group = TEXT_GROUP, .commands = RUN,
     .kind = ARG_TEXT, .at = AT(prompt), .unset = "",
     .help = "the prompt; without -p and -f it is read from standard input"},
    {.names = {"-p", "--prompt"}, .value = "TEXT", .group = TEXT_GROUP, .commands = TOKENIZE,
     .kind = ARG_TEXT, .at = AT(prompt), .unset = "",
     .help = "the text; without -p and -f it is read from standard input"},
    {.names = {"-f", "--file"}, .value = "FILE", .group = TEXT_GROUP, .commands = RUN,
     .kind = ARG_TEXT, .at = AT(file), .unset = "",
     .help = "a file with the prompt, - = standard input; one newline at its end is left out"},
    {.names = {"-f", "--file"}, .value = "FILE", .group = TEXT_GROUP, .commands = TOKENIZE,
     .kind = ARG_TEXT, .at = AT(file), .unset = "",
     .help = "a file with the text, - = standard input; taken as it is"},
    {.names = {"-e", "--escape"}, .group = TEXT_GROUP, .commands = RUN | TOKENIZE,
     .kind = ARG_FLAG, .at = AT(escape),
     .help = "turn \\n, \\r, \\t, \\', \\\", \\\\ and \\xHH in -p into what they mean"},
    {.names = {"--special"}, .group = TEXT_GROUP, .commands = TOKENIZE,
     .kind = ARG_FLAG, .at = AT(special),
     .help = "add BOS and EOS as the vocabulary says and read special tokens in the text"},
    {.names = {"-n", "--predict", "--n-predict"}, .value = "N", .group = TEXT_GROUP, .commands = RUN,
     .kind = ARG_INT, .at = AT(predict), .low = -1, .high = INT32_MAX, .env = {"N_PREDICT"},
     .help = "tokens to generate; -1 = until the model ends or the context is full"},
    {.names = {"--ignore-eos"}, .group = TEXT_GROUP, .commands = RUN,
     .kind = ARG_FLAG, .at = AT(ignore_eos),
     .help = "never end: tokens that would are banned"},
    {.names = {"--display-prompt"}, .group = TEXT_GROUP, .commands = RUN,
     .kind = ARG_FLAG, .at = AT(display_prompt),
     .help = "write the prompt before the answer"},
    {.names = {"--session"}, .value = "FILE", .group = TEXT_GROUP, .commands = RUN,
     .kind = ARG_TEXT, .at = AT(session), .unset = "",
     .help = "keep the conversation in FILE: resumed if it is there, continued by the prompt, saved at the end"},
    {.names = {"--tokens"}, .value = "FILE", .group = FILES_GROUP, .commands = LOGITS,
     .kind = ARG_TEXT, .at = AT(tokens), .unset = "",
     .help = "a file of token ids, one a line, - = standard input"},
    {.names = {"-o", "--output"}, .value = "FILE", .group = FILES_GROUP, .commands = LOGITS,
     .kind = ARG_TEXT, .at = AT(output), .unset = "",
     .help = "where the logits go, - = standard output"},
    {.names = {"-o", "--output"}, .value = "FILE", .group = FILES_GROUP, .commands = PACK,
     .kind = ARG_TEXT, .at = AT(output), .unset = "",
     .help = "the copy; what has that name is replaced when the copy is complete"},
    {.names = {"-n", "--n-tokens"}, .value = "N", .group = PLAN_GROUP, .commands = EXPLAIN,
     .kind = ARG_INT32, .at = AT(explain_tokens), .low = 1, .high = 4096,
     .help = "explain the evaluation of N tokens in one pass"},
    {.names = {"--explain"}, .group = PLAN_GROUP, .commands = FIT,
     .kind = ARG_FLAG, .at = AT(explain),
     .help = "also tell the budgets at which each wish gives way"},
    {.names = {"-p", "--n-prompt"}, .value = "N", .group = BENCH_GROUP, .commands = SHARE,
     .kind = ARG_INT, .at = AT(share_prompt), .low = 1, .high = 1 << 20,
     .help = "tokens of the prompt to time"},
    {.names = {"-p", "--n-prompt"}, .value = "N,..", .group = BENCH_GROUP, .commands = BENCH,
     .kind = ARG_LIST, .at = AT(prompts), .low = 0, .high = 1 << 20,
     .help = "tokens of the prompts to time, 0 = none"},
    {.names = {"-n", "--n-gen"}, .value = "N,..", .group = BENCH_GROUP, .commands = BENCH,
     .kind = ARG_LIST, .at = AT(predicts), .low = 0, .high = 1 << 20,
     .help = "tokens to generate and time, 0 = none"},
    {.names = {"-d", "--depth", "--n-depth"}, .value = "N,..", .group = BENCH_GROUP, .commands = BENCH,
     .kind = ARG_LIST, .at = AT(depths), .low = 0, .high = 1 << 24,
     .help = "tokens the context holds before; all else is timed behind each of them"},
    {.names = {"--verify"}, .value = "N,..", .group = BENCH_GROUP, .commands = BENCH,
     .kind = ARG_LIST, .at = AT(verifies), .low = 0, .high = TANDEM_MAX_DRAFT,
     .help = "tokens evaluated in one pass with all their logits, timed against one token; 0 = none"},
    {.names = {"-r", "--repetitions"}, .value = "N", .group = BENCH_GROUP, .commands = BENCH | SHARE,
     .kind = ARG_INT, .at = AT(repetitions), .low = 1, .high = 1000,
     .help = "times each is done; the median counts"},
    {.names = {"--sweep"}, .group = BENCH_GROUP, .commands = BENCH,
     .kind = ARG_FLAG, .at = AT(sweep),
     .help = "prompt and decode on 1, 2, 4, .. threads up to -t, at depths 512,2048,8192,32768 unless -d names others"},
    {.names = {"--compare"}, .value = "FILE", .group = BENCH_GROUP, .commands = BENCH,
     .kind = ARG_WORDS, .at = AT(compare), .unset = "",
     .help = "a column with the speeds in FILE and ours over theirs: bench --json, or llama-bench -o json or jsonl; may be given "
             "again. NAME=FILE names the column; files of one name share it, and medians count"},
    {.names = {"--from"}, .value = "FILE", .group = BENCH_GROUP, .commands = BENCH,
     .kind = ARG_WORDS, .at = AT(from), .unset = "",
     .help = "measure nothing: the results are those of bench --json in FILE; of several files the medians"},

    {.names = {"-s", "--seed"}, .value = "N", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_SEED, .at = AT(seed),
     .help = "seed of the draws; -1 = a random one, which is reported"},
    {.names = {"--temp", "--temperature"}, .value = "X", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.temperature), .low = 0, .high = INFINITY,
     .help = "temperature; 0 = always the likeliest token"},
    {.names = {"--top-k"}, .value = "N", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(sampling.top_k), .low = 0, .high = INT32_MAX, .env = {"TOP_K"},
     .help = "only the N likeliest tokens; 0 = off"},
    {.names = {"--top-p"}, .value = "P", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.top_p), .low = 0, .high = 1, .low_excluded = true,
     .help = "only the likeliest tokens that make up P together; 1 = off"},
    {.names = {"--min-p"}, .value = "P", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.min_p), .low = 0, .high = 1,
     .help = "only tokens at least P times as likely as the likeliest; 0 = off"},
    {.names = {"--typical", "--typical-p"}, .value = "P", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.typical_p), .low = 0, .high = 1, .low_excluded = true,
     .help = "only the most typical tokens that make up P together; 1 = off"},
    {.names = {"--xtc-probability"}, .value = "P", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.xtc_probability), .low = 0, .high = 1,
     .help = "how often the likeliest choices are excluded (XTC); 0 = off"},
    {.names = {"--xtc-threshold"}, .value = "P", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.xtc_threshold), .low = 0, .high = 1,
     .help = "what XTC excludes is at least this likely; above 0.5 = off"},
    {.names = {"--repeat-last-n"}, .value = "N", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(sampling.repeat_last_n), .low = -1, .high = INT32_MAX,
     .help = "tokens the penalties look back at; 0 = off, -1 = all"},
    {.names = {"--repeat-penalty"}, .value = "X", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.repeat_penalty), .low = 0, .high = INFINITY, .low_excluded = true,
     .help = "penalty for tokens that occurred; 1 = off"},
    {.names = {"--presence-penalty"}, .value = "X", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.presence_penalty), .low = -100, .high = 100,
     .help = "subtracted once from tokens that occurred; 0 = off"},
    {.names = {"--frequency-penalty"}, .value = "X", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.frequency_penalty), .low = -100, .high = 100,
     .help = "subtracted for every time a token occurred; 0 = off"},
    {.names = {"--dry-multiplier"}, .value = "X", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.dry_multiplier), .low = 0, .high = INFINITY,
     .help = "penalty for going on with a repetition (DRY); 0 = off"},
    {.names = {"--dry-base"}, .value = "X", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(sampling.dry_base), .low = 1, .high = INFINITY,
     .help = "growth of DRY with the length of the repetition"},
    {.names = {"--dry-allowed-length"}, .value = "N", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(sampling.dry_allowed_length), .low = 0, .high = INT32_MAX,
     .help = "repetitions up to this length are free"},
    {.names = {"--dry-penalty-last-n"}, .value = "N", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(sampling.dry_last_n), .low = -1, .high = INT32_MAX,
     .help = "tokens DRY looks back at; 0 = off, -1 = all"},
    {.names = {"--dry-sequence-breaker"}, .value = "TEXT", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_BREAKER, .at = AT(breakers), .unset = "newline : \" *",
     .help = "ends a repetition; may be given again, the first one or \"none\" clears the default"},
    {.names = {"-l", "--logit-bias"}, .value = "ID+B", .group = SAMPLING_GROUP, .commands = RUN,
     .kind = ARG_BIAS, .at = AT(bias), .unset = "",
     .help = "add B to the logit of token ID (ID-B subtracts, ID-inf bans); may be given again"},

    {.names = {"-d", "-md", "--model-draft", "--draft-model", "--spec-draft-model"}, .value = "FILE", .group = DRAFT_GROUP,
     .commands = RUN | LOGITS | SHARE | FIT, .kind = ARG_TEXT, .at = AT(draft), .env = {"SPEC_DRAFT_MODEL"},
     .unset = "in run and fit: MODEL-assistant.gguf or MODEL-draft.gguf, if there is one",
     .help = "a drafter: a draft head for the model, or a small model of the same vocabulary"},
    {.names = {"--spec", "--spec-type"}, .value = "KINDS", .group = DRAFT_GROUP, .commands = RUN | FIT,
     .kind = ARG_TEXT, .at = AT(spec), .env = {"SPEC", "SPEC_TYPE"}, .unset = "auto",
     .help = "who guesses: auto, off, on (a drafter must be there), or a list of ngram (ngram-simple, ngram-mod), shared, model"},
    {.names = {"--draft"}, .group = DRAFT_GROUP, .commands = RUN | FIT,
     .kind = ARG_FLAG, .at = AT(draft_use), .unset = "yes",
     .help = "guess ahead; --no-draft is --spec off"},
    {.names = {"--spec-depth"}, .value = "N", .group = DRAFT_GROUP, .commands = RUN | FIT,
     .kind = ARG_INT32, .at = AT(speculation.depth), .low = -1, .high = TANDEM_MAX_DRAFT, .env = {"SPEC_DEPTH"},
     .help = "tokens to guess for every step; -1 = as many as pay, by measured acceptance and cost"},
    {.names = {"--draft-max", "--draft-n", "--spec-draft-n-max"}, .value = "N", .group = DRAFT_GROUP, .commands = RUN | FIT,
     .kind = ARG_INT32, .at = AT(speculation.n_max), .low = 0, .high = TANDEM_MAX_DRAFT, .env = {"SPEC_DRAFT_N_MAX", "DRAFT_MAX"},
     .help = "tokens to guess at most"},
    {.names = {"--draft-min", "--draft-n-min", "--spec-draft-n-min"}, .value = "N", .group = DRAFT_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(speculation.n_min), .low = 0, .high = TANDEM_MAX_DRAFT, .env = {"SPEC_DRAFT_N_MIN", "DRAFT_MIN"},
     .help = "a shorter guess is dropped"},
    {.names = {"--draft-p-min", "--spec-draft-p-min"}, .value = "P", .group = DRAFT_GROUP, .commands = RUN,
     .kind = ARG_FLOAT, .at = AT(speculation.p_min), .low = 0, .high = 1, .env = {"SPEC_DRAFT_P_MIN"},
     .help = "a guess the drafter holds less likely than P is not taken"},
    {.names = {"--spec-ngram-simple-size-n"}, .value = "N", .group = DRAFT_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(ngram_simple.n_match), .low = 1, .high = 64, .unset = "12",
     .help = "ngram-simple: newest tokens that must have occurred before"},
    {.names = {"--spec-ngram-simple-size-m"}, .value = "N", .group = DRAFT_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(ngram_simple.n_max), .low = 1, .high = TANDEM_MAX_DRAFT, .unset = "48",
     .help = "ngram-simple: tokens to go on with"},
    {.names = {"--spec-ngram-simple-min-hits"}, .value = "N", .group = DRAFT_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(ngram_simple.min_hits), .low = 1, .high = 16, .unset = "1",
     .help = "ngram-simple: times they must have occurred"},
    {.names = {"--spec-ngram-mod-n-match"}, .value = "N", .group = DRAFT_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(ngram_mod.n_match), .low = 1, .high = 64, .unset = "24",
     .help = "ngram-mod: newest tokens whose successor is looked up"},
    {.names = {"--spec-ngram-mod-n-max"}, .value = "N", .group = DRAFT_GROUP, .commands = RUN,
     .kind = ARG_INT32, .at = AT(ngram_mod.n_max), .low = 1, .high = TANDEM_MAX_DRAFT, .unset = "48",
     .help = "ngram-mod: tokens to go on with"},
    {.names = {"--spec-depth-random"}, .value = "SEED", .group = DRAFT_GROUP, .commands = RUN,
     .kind = ARG_SIZE, .at = AT(speculation.depth_seed), .unset = "off",
     .help = "for tests: a random number of tokens to guess for every step"},
    {.names = {"--draft-behind"}, .value = "N", .group = DRAFT_GROUP, .commands = RUN | LOGITS | FIT,
     .kind = ARG_INT32, .at = AT(draft_behind), .low = 0, .high = 1,
     .help = "a draft head runs at the position of the newest token (1) or of the last cell (0)"},
    {.names = {"--draft-steps"}, .value = "K", .group = DRAFT_GROUP, .commands = LOGITS,
     .kind = ARG_INT32, .at = AT(draft_steps), .low = 0, .high = TANDEM_MAX_DRAFT,
     .help = "write the last token's logits and those of K greedy steps of the drafter behind it, instead of all tokens'"},
    {.names = {"--show-draft"}, .group = DRAFT_GROUP, .commands = RUN,
     .kind = ARG_FLAG, .at = AT(show_draft), .unset = "no",
     .help = "show in colour the tokens that had been guessed"},

    {.names = {"--plot"}, .value = "FILE", .group = OUTPUT_GROUP, .commands = BENCH | SHARE,
     .kind = ARG_TEXT, .at = AT(plot), .unset = "",
     .help = "draw the results as SVG"},
    {.names = {"--json"}, .group = OUTPUT_GROUP, .commands = RUN | BENCH | SHARE | INSPECT | EXPLAIN | FIT | PACK | VERSION,
     .kind = ARG_FLAG, .at = AT(json),
     .help = "write the result as JSON"},
    {.names = {"--color"}, .group = OUTPUT_GROUP, .commands = RUN,
     .kind = ARG_FLAG, .at = AT(color), .unset = "on a terminal",
     .help = "show a displayed prompt and guessed tokens in colour"},
    {.names = {"--progress"}, .group = OUTPUT_GROUP, .commands = EVALUATE | PACK,
     .kind = ARG_FLAG, .at = AT(progress), .unset = "on a terminal",
     .help = "show how far loading, packing and measuring are"},
    {.names = {"--show-timings"}, .group = OUTPUT_GROUP, .commands = RUN,
     .kind = ARG_FLAG, .at = AT(timings), .env = {"SHOW_TIMINGS", "PERF"}, .unset = "yes, but not with --json",
     .help = "report speed, memory and the hash of the last logits at the end"},
    {.names = {"-h", "--help"}, .group = OUTPUT_GROUP, .commands = ANY,
     .kind = ARG_FLAG, .at = AT(help), .unset = "",
     .help = "show this help"},
};
/* clang-format on */
const size_t cli_n_args = COUNT_OF(cli_args);
enum { N_ARGS = COUNT_OF(cli_args), MAX_BIAS = 4096, MAX_BREAKERS = 64 };

void cli_options_init(cli_options *o) {
  memset(o, 0, sizeof *o);
  tandem_engine_params params;
  tandem_engine_params_init(&params);
  tandem_sampling_init(&o->sampling);
  o->context = o->predict = -1;
  o->share_prompt = 512;
  o->prompts = (cli_list){.v = {512}, .n = 1};
  o->predicts = (cli_list){.v = {64}, .n = 1};
  o->depths = (cli_list){.v = {0}, .n = 1};
  o->verifies = (cli_list){.v = {2, 4, 8, 16}, .n = 4};
  o->repetitions = 3;
  o->explain_tokens = 1;
  o->threads = params.n_threads;
  o->ubatch = params.n_ubatch;
  o->kv_type = o->kv_type_k = o->kv_type_v = -1;
  o->escape = 1;
  tandem_speculation_init(&o->speculation);
  o->draft_use = 1;
  o->draft_behind = params.draft_behind;
  o->color = o->progress = o->timings = -1;
}

void cli_options_free(cli_options *o) {
  base_free(o->bias);
  base_free(o->breakers);
}

/* ---- what is allowed ------------------------------------------------------------------------------------------------ */

void cli_arg_range(const cli_arg *a, char *out, size_t capacity) {
  out[0] = 0;
  if (a->choices) {
    snprintf(out, capacity, "%s", a->choices);
    for (char *c = out; *c; c++)
      if (*c == ' ') *c = '|';
  } else if (a->kind == ARG_FLOAT && isinf(a->high)) {
    snprintf(out, capacity, a->low_excluded ? "above %g" : "at least %g", a->low);
  } else if (a->kind == ARG_FLOAT) {
    snprintf(out, capacity, a->low_excluded ? "above %g, at most %g" : "%g to %g", a->low, a->high);
  } else if (a->kind == ARG_INT || a->kind == ARG_INT32 || a->kind == ARG_LIST) {
    snprintf(out, capacity, "%.0f to %.0f", a->low, a->high);
  } else if (a->kind == ARG_SIZE) {
    snprintf(out, capacity, "a number of bytes such as 800M or 4G");
  } else if (a->kind == ARG_BIAS) {
    snprintf(out, capacity, "ID+B, ID-B or ID-inf");
  } else if (a->kind == ARG_SEED) {
    snprintf(out, capacity, "-1 to %llu", (unsigned long long)UINT64_MAX);
  }
}

/* "2,4,8,16" */
static void list_text(const cli_list *l, char *out, size_t capacity) {
  size_t used = 0;
  out[0] = 0;
  for (int i = 0; i < l->n && used < capacity; i++)
    used += (size_t)snprintf(out + used, capacity - used, "%s%" PRId64, i ? "," : "", l->v[i]);
}

void cli_arg_default(const cli_arg *a, char *out, size_t capacity) {
  cli_options o;
  cli_options_init(&o);
  const char *at = (const char *)&o + a->at;
  out[0] = 0;
  if (a->unset)
    snprintf(out, capacity, "%s", a->unset);
  else if (a->kind == ARG_INT)
    snprintf(out, capacity, "%lld", (long long)*(const int64_t *)(const void *)at);
  else if (a->kind == ARG_INT32)
    snprintf(out, capacity, "%d", (int)*(const int32_t *)(const void *)at);
  else if (a->kind == ARG_FLOAT)
    snprintf(out, capacity, "%g", (double)*(const float *)(const void *)at);
  else if (a->kind == ARG_LIST)
    list_text((const cli_list *)(const void *)at, out, capacity);
  else if (a->kind == ARG_SEED)
    snprintf(out, capacity, "-1");
  else if (a->kind == ARG_FLAG)
    snprintf(out, capacity, "%s", *(const int *)(const void *)at ? "yes" : "no");
}

/* ---- values --------------------------------------------------------------------------------------------------------- */

/* Index of `word` in a list separated by spaces, or -1. */
static int find_choice(const char *choices, const char *word) {
  size_t n = strlen(word);
  int i = 0;
  for (const char *c = choices; *c; i++) {
    size_t length = strcspn(c, " ");
    if (length == n && !strncmp(c, word, n)) return i;
    c += length;
    if (*c == ' ') c++;
  }
  return -1;
}

static status bad_value(const cli_arg *a, const char *name, const char *value, error *err) {
  char range[160], shown[128];
  cli_arg_range(a, range, sizeof range);
  text_escape(shown, sizeof shown, value, strlen(value));
  bool whole = a->kind == ARG_INT || a->kind == ARG_INT32 || a->kind == ARG_SEED;
  const char *kind = a->kind == ARG_FLOAT ? "a number " : whole ? "a whole number " : a->kind == ARG_LIST ? "whole numbers with commas between, " : "";
  return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s: '%s' is not possible, allowed is %s%s", name, shown, kind, range);
}

/* A decimal number and nothing else; the range is checked by the caller. */
static bool parse_int(const char *s, int64_t *v) {
  const char *digits = *s == '-' || *s == '+' ? s + 1 : s;
  if (!isdigit((unsigned char)*digits)) return false;
  char *end;
  errno = 0;
  long long x = strtoll(s, &end, 10);
  if (errno || *end) return false;
  *v = x;
  return true;
}

static bool parse_float(const char *s, double *v) {
  if (!*s || strspn(s, "+-.0123456789eE") != strlen(s)) return false;
  char *end;
  *v = strtod(s, &end);
  return !*end && isfinite(*v);
}

static bool parse_size(const char *s, uint64_t *v) {
  if (!isdigit((unsigned char)*s)) return false;
  char *end;
  errno = 0;
  unsigned long long x = strtoull(s, &end, 10);
  int shift = 0;
  if (*end) {
    static const char units[] = "kmgt";
    const char *unit = strchr(units, tolower((unsigned char)*end));
    if (!unit || end[1]) return false;
    shift = 10 * (int)(unit - units + 1);
  }
  if (errno || x == 0 || x > (UINT64_MAX >> shift)) return false;
  *v = (uint64_t)x << shift;
  return true;
}

/* -1 leaves the seed to chance. */
static bool set_seed(cli_options *o, const char *value) {
  char *end;
  if (!strcmp(value, "-1")) {
    o->seed_given = 0;
    return true;
  }
  if (!isdigit((unsigned char)*value)) return false;
  errno = 0;
  o->seed = strtoull(value, &end, 10);
  o->seed_given = 1;
  return !errno && !*end;
}

/* ID+B, ID-B, ID-inf */
static status add_bias(cli_options *o, const cli_arg *a, const char *name, const char *value, error *err) {
  tandem_logit_bias bias = {0};
  char id[16];
  size_t n = strspn(value, "0123456789");
  int64_t number = 0;
  double amount = 0;
  if (n == 0 || n >= sizeof id || (value[n] != '+' && value[n] != '-')) return bad_value(a, name, value, err);
  memcpy(id, value, n);
  id[n] = 0;
  if (!parse_int(id, &number) || number > INT32_MAX) return bad_value(a, name, value, err);
  if (!strcmp(value + n, "-inf"))
    amount = -INFINITY;
  else if (!parse_float(value + n, &amount))
    return bad_value(a, name, value, err);
  if (o->n_bias == MAX_BIAS) return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s: given more than %d times", name, MAX_BIAS);
  TRY(base_realloc((void **)&o->bias, o->n_bias * sizeof bias, (o->n_bias + 1) * sizeof bias, "logit biases", err));
  bias.id = (int32_t)number;
  bias.bias = (float)amount;
  o->bias[o->n_bias++] = bias;
  return TANDEM_OK;
}

static status add_breaker(cli_options *o, const char *name, const char *value, error *err) {
  o->breakers_given = 1;
  if (!strcmp(value, "none")) {
    o->n_breakers = 0;
    return TANDEM_OK;
  }
  if (o->n_breakers == MAX_BREAKERS)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s: given more than %d times", name, MAX_BREAKERS);
  size_t n = o->n_breakers;
  TRY(base_realloc((void **)&o->breakers, n * sizeof value, (n + 1) * sizeof value, "sequence breakers", err));
  o->breakers[o->n_breakers++] = value;
  return TANDEM_OK;
}

static status full_list(const char *name, error *err) {
  return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s: more than %d values", name, CLI_LIST);
}

/* N[,N...] */
static status add_numbers(cli_list *l, const cli_arg *a, const char *name, const char *value, error *err) {
  if (!l->given) *l = (cli_list){.given = true}; /* the default goes */
  for (const char *s = value;; s++) {
    char one[24];
    size_t n = strcspn(s, ",");
    int64_t v;
    snprintf(one, sizeof one, "%.*s", (int)(n < sizeof one ? n : sizeof one), s);
    if (n >= sizeof one || !parse_int(one, &v) || (double)v < a->low || (double)v > a->high) return bad_value(a, name, value, err);
    if (l->n == CLI_LIST) return full_list(name, err);
    l->v[l->n++] = v;
    s += n;
    if (!*s) return TANDEM_OK;
  }
}

static status add_word(cli_words *w, const char *name, const char *value, error *err) {
  if (w->n == CLI_LIST) return full_list(name, err);
  w->v[w->n++] = value;
  return TANDEM_OK;
}

/* Stores a value; `name` is the option or variable it came from. */
static status set_value(cli_options *o, const cli_arg *a, const char *name, const char *value, error *err) {
  void *at = (char *)o + a->at;
  int64_t whole = 0;
  double number = 0;
  switch (a->kind) {
  case ARG_TEXT: memcpy(at, &value, sizeof value); return TANDEM_OK;
  case ARG_WORD:
    if (find_choice(a->choices, value) < 0) return bad_value(a, name, value, err);
    memcpy(at, &value, sizeof value);
    return TANDEM_OK;
  case ARG_CHOICE:
    whole = find_choice(a->choices, value);
    if (whole < 0) return bad_value(a, name, value, err);
    memcpy(at, &(int){(int)whole}, sizeof(int));
    return TANDEM_OK;
  case ARG_INT:
  case ARG_INT32:
    if (!parse_int(value, &whole) || (double)whole < a->low || (double)whole > a->high) return bad_value(a, name, value, err);
    if (a->kind == ARG_INT)
      memcpy(at, &whole, sizeof whole);
    else
      memcpy(at, &(int32_t){(int32_t)whole}, sizeof(int32_t));
    return TANDEM_OK;
  case ARG_FLOAT:
    if (!parse_float(value, &number) || number < a->low || number > a->high) return bad_value(a, name, value, err);
    if ((a->low_excluded && number <= a->low) || fabs(number) > FLT_MAX) return bad_value(a, name, value, err);
    memcpy(at, &(float){(float)number}, sizeof(float));
    return TANDEM_OK;
  case ARG_SIZE: return parse_size(value, at) ? TANDEM_OK : bad_value(a, name, value, err);
  case ARG_SEED: return set_seed(o, value) ? TANDEM_OK : bad_value(a, name, value, err);
  case ARG_BIAS: return add_bias(o, a, name, value, err);
  case ARG_BREAKER: return add_breaker(o, name, value, err);
  case ARG_LIST: return add_numbers(at, a, name, value, err);
  case ARG_WORDS: return add_word(at, name, value, err);
  case ARG_MODEL: o->model = value; return add_word(&o->models, name, value, err);
  case ARG_FLAG: break;
  }
  return base_fail(err, TANDEM_ERROR_ARGUMENT, name, "%s takes no value, not even '%s'", name, value);
}

/* ---- the command line ----------------------------------------------------------------------------------------------- */

typedef struct parser {
  cli_options *o;
  cli_command_id id;
  bool seen[N_ARGS];
} parser;

/* Are these the same? _ and - are equal inside long names, that is behind the two dashes. */
static bool same_rest(const char *a, const char *b, size_t n_b) {
  if (strlen(a) != n_b) return false;
  for (size_t i = 0; i < n_b; i++)
    if (a[i] != (b[i] == '_' ? '-' : b[i])) return false;
  return true;
}

static bool same_name(const char *a, const char *b, size_t n_b) {
  if (strncmp(a, "--", 2)) return strlen(a) == n_b && !memcmp(a, b, n_b);
  return n_b > 2 && !memcmp(b, "--", 2) && same_rest(a + 2, b + 2, n_b - 2);
}

/* The row of an option of this command; *off if it is the --no-x of a switch. -1: there is none. */
static int find_arg(unsigned commands, const char *name, size_t n, bool *off) {
  for (int i = 0; i < N_ARGS; i++) {
    const cli_arg *a = &cli_args[i];
    if (!(a->commands & commands)) continue;
    for (size_t k = 0; k < COUNT_OF(a->names) && a->names[k]; k++) {
      *off = false;
      if (same_name(a->names[k], name, n)) return i;
      *off = true;
      bool negative = a->kind == ARG_FLAG && a->names[k][1] == '-' && n > 5 && same_name("--no-", name, 5);
      if (negative && same_rest(a->names[k] + 2, name + 5, n - 5)) return i;
    }
  }
  return -1;
}

/* Nobody is left to guess: the nearest option, or the commands that have this one. */
static status unknown_option(cli_command_id id, const char *name, size_t n, error *err) {
  const char *candidates[N_ARGS * COUNT_OF(cli_args[0].names)];
  size_t n_candidates = 0;
  char shown[64];
  bool off;
  text_escape(shown, sizeof shown, name, n < 48 ? n : 48);
  const char *command = cli_commands[id].name;
  int elsewhere = find_arg(ANY, name, n, &off);
  if (elsewhere >= 0) {
    int other = 0;
    while (!(cli_args[elsewhere].commands & (1u << other))) other++;
    return base_fail(err, TANDEM_ERROR_ARGUMENT, shown, "%s: not an option of 'tandem %s', but of 'tandem %s'", shown, command,
                     cli_commands[other].name);
  }
  for (int i = 0; i < N_ARGS; i++) {
    const cli_arg *a = &cli_args[i];
    bool ours = a->commands & (1u << id);
    for (size_t k = 0; ours && k < COUNT_OF(a->names) && a->names[k]; k++) candidates[n_candidates++] = a->names[k];
  }
  int nearest = n > 2 ? base_nearest(shown, candidates, n_candidates) : -1; /* every letter is near to every other */
  if (nearest >= 0)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, shown, "%s: unknown option; did you mean %s?", shown, candidates[nearest]);
  return base_fail(err, TANDEM_ERROR_ARGUMENT, shown, "%s: unknown option; 'tandem help %s' lists those there are", shown,
                   command);
}

/* Does a second value join the first? Else it takes its place. */
static bool joins(const cli_arg *a, cli_command_id id) {
  switch (a->kind) {
  case ARG_BIAS:
  case ARG_BREAKER:
  case ARG_LIST:
  case ARG_WORDS: return true;
  case ARG_MODEL: return id == CLI_BENCH;
  default: return false;
  }
}

/* Takes the option at argv[*i] and its value. */
static status parse_option(parser *p, int argc, char **argv, int *i, error *err) {
  const char *name = argv[*i];
  size_t n = name[1] == '-' ? strcspn(name, "=") : strlen(name);
  const char *value = name[n] == '=' ? name + n + 1 : NULL;
  bool off = false;
  int row = find_arg(1u << p->id, name, n, &off);
  if (row < 0) return unknown_option(p->id, name, n, err);
  const cli_arg *a = &cli_args[row];
  char plain[64];
  snprintf(plain, sizeof plain, "%.*s", (int)n, name);
  if (a->kind == ARG_FLAG) {
    if (value) return set_value(p->o, a, plain, value, err);
    memcpy((char *)p->o + a->at, &(int){!off}, sizeof(int));
    p->seen[row] = true;
    return TANDEM_OK;
  }
  if (!value) {
    if (*i + 1 >= argc) return base_fail(err, TANDEM_ERROR_ARGUMENT, plain, "%s: needs a value, %s", plain, a->value);
    value = argv[++*i];
  }
  if (p->seen[row] && !joins(a, p->id))
    fprintf(stderr, "tandem: %s: given twice, the last one counts\n", plain);
  p->seen[row] = true;
  return set_value(p->o, a, plain, value, err);
}

static status parse_word(parser *p, const char *word, error *err) {
  const cli_command *c = &cli_commands[p->id];
  char shown[128];
  text_escape(shown, sizeof shown, word, strlen(word));
  if (!c->word)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, NULL, "'%s': 'tandem %s' takes options only%s", shown, c->name,
                     p->id == CLI_RUN || p->id == CLI_TOKENIZE ? "; a text is given with -p, a model with -m" : "");
  if (p->o->word) return base_fail(err, TANDEM_ERROR_ARGUMENT, NULL, "'%s': 'tandem %s' takes one %s", shown, c->name, c->word);
  p->o->word = word;
  return TANDEM_OK;
}

/* The argument that is no option may be the model. */
static status take_model_word(parser *p, error *err) {
  cli_options *o = p->o;
  if (!o->word || !cli_commands[p->id].needs_model) return TANDEM_OK;
  if (o->model)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, "model", "%s and %s: two models, one is allowed", o->model, o->word);
  o->model = o->word;
  for (int i = 0; i < N_ARGS; i++)
    if (cli_args[i].kind == ARG_MODEL) p->seen[i] = true;
  return TANDEM_OK;
}

/* ---- the environment ------------------------------------------------------------------------------------------------ */

static status set_switch(cli_options *o, const cli_arg *a, const char *name, const char *value, error *err) {
  static const char on[] = "true 1 on enabled", off[] = "false 0 off disabled";
  int v = find_choice(on, value) >= 0 ? 1 : find_choice(off, value) >= 0 ? 0 : -1;
  if (v < 0)
    return base_fail(err, TANDEM_ERROR_ARGUMENT, name,
                     "%s: '%s' is not possible, allowed is true|1|on|enabled or false|0|off|disabled", name, value);
  memcpy((char *)o + a->at, &v, sizeof v);
  return TANDEM_OK;
}

/* What the command line left open is read from TANDEM_X, else from LLAMA_ARG_X. An empty variable counts as unset. */
static status read_environment(parser *p, error *err) {
  static const char *const prefixes[] = {"TANDEM_", "LLAMA_ARG_"};
  for (int i = 0; i < N_ARGS; i++) {
    const cli_arg *a = &cli_args[i];
    if (!(a->commands & (1u << p->id)) || p->seen[i]) continue;
    for (size_t k = 0; k < COUNT_OF(prefixes) * COUNT_OF(a->env); k++) {
      const char *suffix = a->env[k % COUNT_OF(a->env)];
      char name[64];
      if (!suffix) continue;
      snprintf(name, sizeof name, "%s%s", prefixes[k / COUNT_OF(a->env)], suffix);
      const char *value = getenv(name);
      if (!value || !*value) continue;
      TRY(a->kind == ARG_FLAG ? set_switch(p->o, a, name, value, err) : set_value(p->o, a, name, value, err));
      break;
    }
  }
  return TANDEM_OK;
}

bool cli_color(const cli_options *o, int fd) {
  const char *no = getenv("NO_COLOR"), *force = getenv("CLICOLOR_FORCE"), *term = getenv("TERM");
  if (o->color >= 0) return o->color;
  if (no && *no) return false;
  if (force && *force && strcmp(force, "0")) return true;
  return os_is_terminal(fd) && !(term && !strcmp(term, "dumb"));
}

int cli_args_parse(cli_options *o, cli_command_id id, int argc, char **argv, error *err) {
  parser p = {.o = o, .id = id};
  bool words_only = false;
  for (int i = 0; i < argc; i++) {
    const char *s = argv[i];
    status st;
    if (!words_only && !strcmp(s, "--")) {
      words_only = true;
      continue;
    }
    st = words_only || s[0] != '-' || !s[1] ? parse_word(&p, s, err) : parse_option(&p, argc, argv, &i, err);
    if (st) return st == TANDEM_ERROR_ARGUMENT ? EXIT_USAGE : EXIT_SYSTEM;
  }
  if (o->help) return 0;
  if (take_model_word(&p, err)) return EXIT_USAGE;
  return read_environment(&p, err) ? EXIT_CONFIGURATION : 0;
}
