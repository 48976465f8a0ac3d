/* The program: commands, exit codes, signals. The only place where the process ends. */
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* clang-format off */
const cli_command cli_commands[CLI_COMMANDS] = {
    [CLI_RUN] = {.name = "run", .aliases = {"complete"}, .program = "llama-completion", .run = cli_run, .needs_model = true,
      .synopsis = "-m MODEL [-p TEXT | -f FILE] [options]",
      .summary = "continue a prompt",
      .about = "Writes the continuation of a prompt to standard output as it is generated. The prompt comes from -p, from a\n"
               "file, or from standard input. Speed, memory and a hash of the last logits follow on standard error.\n"
               "With --json one object is written at the end: text, tokens, n_prompt, n_resumed, n_generated, seconds,\n"
               "logits_hash, stop, seed.\n"
               "With --session FILE the prompt continues the conversation in FILE, without BOS and without evaluating\n"
               "it again; an empty prompt goes on where the answer stopped. At the end FILE holds the conversation with\n"
               "prompt and answer, also if Ctrl-C ended the answer; a token that ends the text is left out. A FILE of\n"
               "another model or K/V type, or longer than the context, is refused and stays as it is.",
      .examples = {{"tell a tale", "run -m models/tales.gguf -p \"Once upon a time\" -n 200"},
                   {"always the likeliest token", "run -m models/tales.gguf -p \"The king said\" -n 40 --temp 0"},
                   {"a prompt from a pipe, the answer as JSON", "run -m models/tales.gguf -n 40 --json < prompt.txt"}}},
    [CLI_TOKENIZE] = {.name = "tokenize", .program = "llama-tokenize", .run = cli_tokenize, .needs_model = true,
      .synopsis = "-m MODEL [-p TEXT | -f FILE] [--special]",
      .summary = "text to token ids",
      .about = "Writes the ids of a text as a JSON array. Without --special the text is taken as plain text.",
      .examples = {{"ids of a sentence", "tokenize -m models/tales.gguf -p \"Once upon a time\""},
                   {"ids of a file, with BOS", "tokenize -m models/tales.gguf --special --file tale.txt"}}},
    [CLI_LOGITS] = {.name = "logits", .run = cli_logits, .needs_model = true,
      .synopsis = "-m MODEL --tokens FILE -o OUT [options]",
      .summary = "logits of every position, as raw numbers",
      .about = "Evaluates token ids and writes the logits of every position: number of tokens times size of the vocabulary\n"
               "little-endian 32-bit floats, without a header. Works for a model without a vocabulary.",
      .examples = {{"logits of some ids", "logits -m models/tales.gguf --tokens ids.txt -o logits.f32"},
                   {"the same through pipes, cache in f32",
                    "logits -m models/tales.gguf --tokens - -o - --kv-type f32 < ids.txt"}}},
    [CLI_BENCH] = {.name = "bench", .program = "llama-bench", .run = cli_bench, .needs_model = true,
      .synopsis = "-m MODEL [-p N] [-n N] [-d N] [--verify N] [--sweep] [--compare FILE] [--plot FILE] [--json]",
      .summary = "speed, and how near it is to what the machine can do",
      .about = "Times the evaluation of prompts of random ids, the generation token by token, and passes of a few tokens with\n"
               "all their logits, as a verification of guesses needs them; behind each depth of context that -d lists. Each is\n"
               "held against a roof measured beside it, in the same run:\n"
               "  prompt  the arithmetic of the processor (8-bit integers, bf16 or floats, as the model is) at two operations per\n"
               "          multiply-add of weights, the head counted once\n"
               "  decode  reading from memory the weights, keys and values that a token needs\n"
               "  verify  the slower of the two for the whole pass, every row of logits counted. The cost of a pass is its time\n"
               "          over that of one token\n"
               "The arithmetic is that of weights alone, so the share of a prompt falls with the depth; '+attention' is the share of\n"
               "a roof that has attention too.\n"
               "With several depths, 'time x' tells how much longer a token takes than at the least of them, 'roof x' how much\n"
               "longer it must. --sweep does so for thread counts and for each -m. --compare adds what was measured before or by\n"
               "others: their tokens/s in the same test on as many threads, and ours over theirs.",
      .examples = {{"the table", "bench -m models/tales.gguf"},
                   {"with 1024 tokens of context, as a picture", "bench -m models/tales.gguf -p 128 -d 0,256,1024 --plot speed.svg"},
                   {"cost by threads and depth", "bench --sweep -m models/tales.gguf -m models/tales-draft.gguf -p 128 -d 256,512,1024"},
                   {"against an earlier run", "bench -m models/tales.gguf --json > before.json; tandem bench -m models/tales.gguf --compare before.json"}}},
    [CLI_BENCH_SHARE] = {.name = "bench-share", .run = cli_bench_share, .needs_model = true,
      .synopsis = "-m MODEL -d DRAFTER [-p N] [-r N] [--json] [--plot FILE]",
      .summary = "what sharing the cache between a model and its drafter saves and costs",
      .about = "Also written 'tandem bench share'. Bytes of the drafter's keys and values when it reads the model's own, when it\n"
               "has cells of its own on the model's pages, and when it has a cache of its own trained length; time to the first\n"
               "guess, of a guess, of a verification; the pool of pages after a million random operations of 64 sequences;\n"
               "allocations while tokens are produced; and for pairs of trained lengths and budgets of memory, which context\n"
               "the model is granted, and what two releases of llama.cpp would do by their published rule.",
      .examples = {{"the shipped pair", "bench share -m models/tales.gguf -d models/tales-assistant.gguf"},
                   {"with pictures", "bench share -m models/tales.gguf -d models/tales-draft.gguf --plot share.svg"}}},
    [CLI_INSPECT] = {.name = "inspect", .aliases = {"show", "gguf"}, .word = "MODEL", .run = cli_inspect, .needs_model = true,
      .synopsis = "MODEL [--json]",
      .summary = "keys and tensors of a model file",
      .about = "Lists what a GGUF file holds: keys with their values (of long arrays the beginning), tensors with type,\n"
               "shape, bytes and offset, and totals. The file is checked while it is read.",
      .examples = {{"what is in a file", "inspect models/tales.gguf"}, {"for scripts", "inspect models/tales.gguf --json"}}},
    [CLI_EXPLAIN] = {.name = "explain", .word = "MODEL", .run = cli_explain, .needs_model = true,
      .synopsis = "MODEL [-n N] [--json]",
      .summary = "the plan that evaluates a model, step by step",
      .about = "Prints the plan for N tokens in one pass: steps, shapes, bytes, operations, offsets and memory. No weights\n"
               "are loaded.",
      .examples = {{"one token", "explain models/tales.gguf"}, {"a prompt of 64 tokens", "explain models/tales.gguf -n 64"}}},
    [CLI_FIT] = {.name = "fit", .aliases = {"fit-params"}, .word = "MODEL", .program = "llama-fit-params", .run = cli_fit, .needs_model = true,
      .synopsis = "-m MODEL [-d DRAFTER] [-c N] [--memory SIZE] [--explain] [--json]",
      .summary = "what fits the memory, and why",
      .about = "Prints what a model and its drafter take in memory, byte by byte, what context they get and what gave way: first\n"
               "the context down to --fit-ctx, then the types of K/V if --fit-kv allows it, then the depth of guesses, then the\n"
               "drafter. A context given with -c does not give way: if it does not fit, the error says which would. With\n"
               "--explain the budgets follow at which each of these happens. No weights are loaded. The last line is what to\n"
               "pass on.",
      .examples = {{"what would this machine grant", "fit -m models/tales.gguf"},
                   {"in 20 MiB, with the conditions", "fit -m models/tales.gguf --memory 20M --explain"},
                   {"for scripts", "fit -m models/tales.gguf -c 1024 --json"}}},
    [CLI_PACK] = {.name = "pack", .word = "MODEL", .run = cli_pack, .needs_model = true,
      .synopsis = "MODEL -o FILE [-t N] [--json]",
      .summary = "a copy of a model that opens at once",
      .about = "Writes a copy whose matrices lie in the file as they are used. It opens without reading and rearranging them, takes\n"
               "no memory of its own for them, and processes that use it share them. Weights, logits and sessions are the same.\n"
               "Other programs cannot read the copy, and a later version may want it packed again: keep the original. It must not\n"
               "be written to while it is in use; if it is, evaluation ends with an error.",
      .examples = {{"pack a model and use it", "pack models/tales.gguf -o tales-packed.gguf; tandem run -m tales-packed.gguf -p \"Once upon a time\""}}},
    [CLI_VERSION] = {.name = "version", .synopsis = "[--json]", .summary = "version and build", .run = cli_version,
      .about = "Prints the version, and how the program was built.",
      .examples = {{"which version is this", "version"}}},
    [CLI_HELP] = {.name = "help", .word = "[COMMAND]", .synopsis = "[COMMAND]", .run = cli_help,
      .summary = "help, also of one command",
      .about = "Lists the commands, or the options of one.",
      .examples = {{"options of run", "help run"}}},
    [CLI_COMPLETION] = {.name = "completion", .word = "bash|zsh|fish", .hidden = true, .run = cli_completion,
      .synopsis = "bash|zsh|fish",
      .summary = "completions for a shell",
      .about = "Prints a script that completes commands and options.",
      .examples = {{"for this shell", "completion bash > /etc/bash_completion.d/tandem"}}},
    [CLI_MAN] = {.name = "man", .synopsis = "", .hidden = true, .summary = "the manual page", .run = cli_man,
      .about = "Prints the manual page in troff.",
      .examples = {{"read it", "man | man -l -"}}},
};
/* clang-format on */

/* The first row that fits decides. */
const cli_exit cli_exits[] = {
    {TANDEM_OK, NULL, 0, "done"},
    {TANDEM_ERROR_UNSUPPORTED, "cpu", 69, "the machine lacks what was asked for"},
    {TANDEM_ERROR_UNSUPPORTED, NULL, 65, "the model is damaged, or this version cannot run it; bad data file"},
    {TANDEM_ERROR_FORMAT, NULL, 65, NULL},
    {TANDEM_ERROR_NONFINITE, NULL, 65, NULL},
    {TANDEM_ERROR_ARGUMENT, NULL, EXIT_USAGE, "wrong option, value or combination; prompt longer than the context"},
    {TANDEM_ERROR_CONTEXT, NULL, EXIT_USAGE, NULL},
    {TANDEM_ERROR_OPEN, NULL, 66, "a file is missing or cannot be read"},
    {TANDEM_ERROR_MEMORY, NULL, EXIT_SYSTEM, "not enough memory, or the system refused"},
    {TANDEM_ERROR_IO, NULL, 74, "reading or writing failed, or the disk is full"},
    {TANDEM_ERROR_CANCELLED, NULL, EXIT_INTERRUPT, "stopped by Ctrl-C"},
    {TANDEM_ERROR_BUSY, NULL, 1, "another failure"},
    {TANDEM_ERROR_INTERNAL, NULL, 1, NULL},
    {-1, NULL, EXIT_CONFIGURATION, "an environment variable has a wrong value"},
};
const size_t cli_n_exits = COUNT_OF(cli_exits);

/* A signal handler has nothing else to write to. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
  (void)signal_number;
  interrupted = 1;
}

/* Nobody reads any more: that is no failure. */
static void on_broken_pipe(int signal_number) {
  (void)signal_number;
  _exit(0);
}

void cli_watch_interrupt(void) {
  struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
  sigaction(SIGINT, &action, NULL);
}

bool cli_interrupted(void) { return interrupted; }

cli_command_id cli_find_command(const char *name) {
  for (int i = 0; i < CLI_COMMANDS; i++) {
    const cli_command *c = &cli_commands[i];
    if (!strcmp(c->name, name)) return (cli_command_id)i;
    for (size_t k = 0; k < COUNT_OF(c->aliases) && c->aliases[k]; k++)
      if (!strcmp(c->aliases[k], name)) return (cli_command_id)i;
  }
  return CLI_COMMANDS;
}

const char *cli_nearest_command(const char *name) {
  const char *names[CLI_COMMANDS];
  size_t n = 0;
  for (int i = 0; i < CLI_COMMANDS; i++)
    if (!cli_commands[i].hidden) names[n++] = cli_commands[i].name;
  int nearest = base_nearest(name, names, n);
  return nearest < 0 ? NULL : names[nearest];
}

static int exit_code(const error *err, status st) {
  for (size_t i = 0; i < cli_n_exits; i++)
    if (cli_exits[i].code == st && (!cli_exits[i].field || !strcmp(cli_exits[i].field, err->field))) return cli_exits[i].exit;
  return 1;
}

/* One line; what a file put into a message cannot move the cursor. */
static void print_error(error *err) {
  for (char *c = err->text; *c; c++)
    if ((unsigned char)*c < ' ' || *c == 0x7f) *c = '?';
  fprintf(stderr, "tandem: %s\n", err->text);
}

/* Writes what is left, so that a full disk is a failure and not a short answer. */
static int finish_output(int code) {
  if (!fflush(stdout) && !ferror(stdout)) return code;
  fprintf(stderr, "tandem: standard output: %s\n", strerror(errno));
  return code ? code : exit_code(&(error){0}, TANDEM_ERROR_IO);
}

static int run_command(cli_command_id id, int argc, char **argv) {
  const cli_command *c = &cli_commands[id];
  cli_options o;
  error err = {0};
  cli_options_init(&o);
  int code = cli_args_parse(&o, id, argc, argv, &err);
  if (!code && o.help) {
    cli_help_command(id);
  } else if (!code) {
    status st = TANDEM_OK;
    if (!o.model && !o.from.n && c->needs_model)
      st = base_fail(&err, TANDEM_ERROR_ARGUMENT, "model", "no model; give its file with -m, or in TANDEM_MODEL");
    else
      st = c->run(&o, &err);
    code = exit_code(&err, st);
  }
  if (err.text[0] && code != EXIT_INTERRUPT) print_error(&err);
  cli_options_free(&o);
  return code;
}

static int unknown_command(const char *name) {
  char shown[64];
  text_escape(shown, sizeof shown, name, strlen(name));
  const char *nearest = cli_nearest_command(shown);
  if (nearest)
    fprintf(stderr, "tandem: %s: unknown command; did you mean '%s'?\n", shown, nearest);
  else
    fprintf(stderr, "tandem: %s: unknown command; 'tandem help' lists those there are\n", shown);
  return EXIT_USAGE;
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_handler = on_broken_pipe};
  sigaction(SIGPIPE, &action, NULL);
  const char *program = argc > 0 ? argv[0] : "tandem";
  if (strrchr(program, '/')) program = strrchr(program, '/') + 1;
  for (int i = 0; i < CLI_COMMANDS; i++)
    if (cli_commands[i].program && !strcmp(cli_commands[i].program, program))
      return finish_output(run_command((cli_command_id)i, argc - 1, argv + 1));

  const char *name = argc > 1 ? argv[1] : NULL;
  if (!name) {
    cli_help_overview(true);
    return EXIT_USAGE;
  }
  if (!strcmp(name, "--version")) name = "version";
  if (!strcmp(name, "--help") || !strcmp(name, "-h")) name = "help";
  cli_command_id id = cli_find_command(name);
  char both[64]; /* "bench share" is the command bench-share */
  if (argc > 2 && id != CLI_COMMANDS && snprintf(both, sizeof both, "%s-%s", cli_commands[id].name, argv[2]) < (int)sizeof both &&
      cli_find_command(both) != CLI_COMMANDS)
    return finish_output(run_command(cli_find_command(both), argc - 3, argv + 3));
  return finish_output(id == CLI_COMMANDS ? unknown_command(name) : run_command(id, argc - 2, argv + 2));
}
