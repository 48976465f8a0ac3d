/* cli: the program. Commands, options, exit codes, and what people read on their terminal.
 *
 * Results go to stdout, all else to stderr. Sees the public interface and base (inspect: gguf and quant as well). Only
 * main.c ends the process, only args.c reads the environment. The tables are cli_commands (main.c), cli_args (args.c)
 * and cli_exits (main.c); help, manual and completions are made from them. */
#ifndef CLI_H
#define CLI_H

#include "base/base.h"

typedef enum cli_command_id {
  CLI_RUN,
  CLI_TOKENIZE,
  CLI_LOGITS,
  CLI_BENCH,
  CLI_BENCH_SHARE,
  CLI_INSPECT,
  CLI_EXPLAIN,
  CLI_FIT,
  CLI_PACK,
  CLI_VERSION,
  CLI_HELP,
  CLI_COMPLETION,
  CLI_MAN,
  CLI_COMMANDS
} cli_command_id;

enum { CLI_LIST = 16 }; /* values of an option that may be given again */
typedef struct cli_list {
  int64_t v[CLI_LIST];
  int n;
  bool given;
} cli_list;
typedef struct cli_words {
  const char *v[CLI_LIST]; /* the strings are those of argv */
  int n;
} cli_words;

/* What the options say. A switch is 1, 0, or -1 where it was not given and the command decides. */
typedef struct cli_options {
  const char *word; /* the argument that is no option: MODEL, COMMAND, SHELL */
  const char *model; /* the last of models */
  cli_words models;
  const char *prompt, *file, *tokens, *output, *session;
  int64_t context; /* -1: not given */
  int64_t fit_context;
  int fit_kv, explain;
  int64_t predict;
  int64_t share_prompt, repetitions;
  cli_list prompts, predicts, depths, verifies; /* of bench */
  cli_words compare, from;
  int sweep;
  int32_t threads, ubatch, explain_tokens;
  int kv_type, kv_type_k, kv_type_v; /* a tandem_kv_type; -1: not given */
  const char *cpu;
  uint64_t memory;
  uint64_t seed;
  int seed_given;           /* 0: draw one */
  tandem_sampling sampling; /* but seed, bias and breakers */
  const char *draft, *spec, *plot;
  tandem_speculation speculation; /* but kinds */
  int32_t draft_behind, draft_steps;
  tandem_ngram ngram_simple, ngram_mod;
  int draft_use, show_draft;
  tandem_logit_bias *bias;  /* owned, like breakers */
  size_t n_bias;
  const char **breakers; /* the strings are those of argv */
  size_t n_breakers;
  int breakers_given;
  int special, ignore_eos, escape, display_prompt, json, color, progress, timings, help;
} cli_options;

typedef struct cli_command {
  const char *name;
  const char *aliases[3];
  const char *program;        /* argv[0] that means this command, or NULL */
  const char *word;           /* name of the argument that is no option, or NULL; [X] if it may be absent */
  const char *synopsis;       /* after the name */
  const char *summary;        /* one line */
  const char *about;          /* paragraphs for --help */
  const char *examples[4][2]; /* what it does, the arguments after "tandem" */
  bool needs_model, hidden;
  status (*run)(const cli_options *o, error *err);
} cli_command;

extern const cli_command cli_commands[CLI_COMMANDS];

/* ---- args.c ------------------------------------------------------------------------------------------------------- */

typedef enum cli_arg_kind {
  ARG_FLAG,    /* int: 1, and 0 for --no-x */
  ARG_TEXT,    /* const char *, borrowed from argv */
  ARG_WORD,    /* the same, one of `choices` */
  ARG_CHOICE,  /* int: index in `choices` */
  ARG_INT,     /* int64_t */
  ARG_INT32,
  ARG_FLOAT,   /* float */
  ARG_SIZE,    /* uint64_t bytes, with K, M, G */
  ARG_SEED,    /* seed and seed_given */
  ARG_BIAS,    /* ID+B, appended to bias */
  ARG_BREAKER, /* appended to breakers; "none" clears */
  ARG_LIST,    /* cli_list: N[,N...]; the first one clears the default */
  ARG_WORDS,   /* cli_words: appended */
  ARG_MODEL    /* model, and appended to models */
} cli_arg_kind;

typedef struct cli_arg {
  const char *names[5]; /* short ones first */
  const char *value;    /* FILE, N, ...; NULL for a switch */
  const char *group;    /* heading in the help */
  const char *help;
  const char *unset;   /* in place of the default value in the help */
  const char *choices; /* separated by spaces */
  const char *env[2];  /* read as TANDEM_X and LLAMA_ARG_X */
  double low, high;    /* range of a number, both allowed */
  size_t at;           /* offset in cli_options */
  unsigned commands;   /* bits 1 << cli_command_id */
  cli_arg_kind kind;
  bool low_excluded;
} cli_arg;

extern const cli_arg cli_args[];
extern const size_t cli_n_args;

void cli_options_init(cli_options *o);
void cli_options_free(cli_options *o);
/* Reads the arguments of a command (argv[0] is the first one), then the environment for what they leave open. Returns an
 * exit code, 0 for go on; err says what is wrong. Notices go to stderr. */
int cli_args_parse(cli_options *o, cli_command_id id, int argc, char **argv, error *err);
/* Writes what may be given ("0..100", "one of a, b") and the default; both may be "". */
void cli_arg_range(const cli_arg *a, char *out, size_t capacity);
void cli_arg_default(const cli_arg *a, char *out, size_t capacity);
/* Colours on this stream? The option, then NO_COLOR, CLICOLOR_FORCE and TERM, then whether it is a terminal. */
bool cli_color(const cli_options *o, int fd);

/* ---- main.c ------------------------------------------------------------------------------------------------------- */

/* Exit codes that do not come from a status. */
enum { EXIT_USAGE = 2, EXIT_SYSTEM = 71, EXIT_CONFIGURATION = 78, EXIT_INTERRUPT = 130 };

typedef struct cli_exit {
  status code;       /* of the error */
  const char *field; /* of the error, or NULL for any */
  int exit;
  const char *meaning;
} cli_exit;

extern const cli_exit cli_exits[];
extern const size_t cli_n_exits;

/* From now on Ctrl-C only sets a mark, and the second one ends the process. */
void cli_watch_interrupt(void);
bool cli_interrupted(void);
/* The command of that name or alias, or CLI_COMMANDS. */
cli_command_id cli_find_command(const char *name);
/* The visible command nearest to a misspelt name, or NULL. */
const char *cli_nearest_command(const char *name);

/* ---- open.c ------------------------------------------------------------------------------------------------------- */

/* Opens the model as the options say; `params` brings what the command wants (tandem_engine_params_init, plan_only,
 * n_context used where -c is not given). Shows progress. */
status cli_open(tandem_engine **engine, tandem_engine_params *params, const cli_options *o, error *err);
/* How far loading or packing is: at most ten lines a second on a terminal, else one for every tenth. */
typedef struct cli_progress {
  const char *name;
  bool show, terminal;
  double start, last;
  int tenths;
} cli_progress;
void cli_progress_open(cli_progress *p, const cli_options *o);
/* A tandem_progress_fn; `user` is the cli_progress. Stops at Ctrl-C. */
bool cli_progress_show(void *user, const char *what, uint64_t done, uint64_t total);
void cli_progress_close(const cli_progress *p);
/* The parameters that options say. */
void cli_set_params(tandem_engine_params *params, const cli_options *o);
/* "5.9 MiB" */
void cli_size_text(char out[32], uint64_t bytes);
/* Writes a JSON text and a newline to stdout and frees it. */
status cli_json_out(json *j);
status cli_write(const char *s, size_t n, error *err);
/* A tandem_write_fn to stdout; `user` is a cli_sink. Stops at Ctrl-C. */
typedef struct cli_sink {
  status st; /* of the writing */
  error *err;
} cli_sink;
bool cli_sink_write(void *user, const char *s, size_t n);

/* ---- draft.c ------------------------------------------------------------------------------------------------------ */

/* The drafter the options name or, if they name none, one that lies beside the model, into params; `path` holds its name and
 * outlives them. */
status cli_find_draft(tandem_engine_params *params, text *path, const cli_options *o, error *err);
/* What the options say about guessing. */
tandem_speculation cli_speculation(const cli_options *o);
/* One line on stderr if the drafter that was meant is not used, or no longer: true. Not again if `warned`. */
bool cli_warn_draft(const tandem_engine *engine, bool warned);
/* What came of guessing: " · draft ..." for the footer; a member "draft" of an object. Nothing if nothing was guessed. */
void cli_draft_footer(const tandem_session *session);
void cli_draft_json(json *j, const tandem_session *session);

/* ---- measure.c ---------------------------------------------------------------------------------------------------- */

/* Sorts v [n], n >= 1. */
double cli_median(double *v, size_t n);
/* Random ids that no cache has seen; the same in every run of the program, so that runs can be compared. */
void cli_fill_ids(int32_t *ids, size_t n, int32_t n_vocab);

/* ---- run.c -------------------------------------------------------------------------------------------------------- */

/* The text of -p (with its escapes), -f or standard input; `trim` drops one newline at the end of the latter two. */
status cli_read_text(text *out, const cli_options *o, bool trim, error *err);
/* All tokens of a text; *ids is the caller's. */
status cli_tokens_of(const tandem_engine *engine, const text *t, unsigned flags, int32_t **ids, size_t *n_ids, error *err);

/* ---- session.c: --session; without it they do nothing ------------------------------------------------------------- */

status cli_session_check(const cli_options *o, error *err);
/* Loads the file if there is one. */
status cli_session_resume(tandem_session *session, const cli_options *o, error *err);
/* `missing`: token `last` was drawn but not evaluated; it joins the others. */
status cli_session_save(tandem_session *session, const cli_options *o, int32_t last, bool missing, error *err);

/* ---- commands ----------------------------------------------------------------------------------------------------- */

status cli_run(const cli_options *o, error *err);
status cli_tokenize(const cli_options *o, error *err);
status cli_logits(const cli_options *o, error *err);
status cli_bench(const cli_options *o, error *err);
status cli_bench_share(const cli_options *o, error *err);
status cli_inspect(const cli_options *o, error *err);
status cli_explain(const cli_options *o, error *err);
status cli_fit(const cli_options *o, error *err);
status cli_pack(const cli_options *o, error *err);
status cli_version(const cli_options *o, error *err);
status cli_help(const cli_options *o, error *err);
status cli_completion(const cli_options *o, error *err);
status cli_man(const cli_options *o, error *err);
/* Help of one command. */
void cli_help_command(cli_command_id id);
/* Names the commands; `to_errors`: on stderr. */
void cli_help_overview(bool to_errors);

#endif
