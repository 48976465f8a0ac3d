/* Help, manual page and completions: three views of the tables of commands, options and exit codes. */
#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

enum { HELP_COLUMN = 34, HELP_WIDTH = 100 };

static bool has_arg(cli_command_id id, const cli_arg *a) { return a->commands & (1u << id); }

/* "--no-x" of a switch's long name. */
static void negative_name(const cli_arg *a, char out[48]) {
  const char *name = NULL;
  for (size_t k = 0; k < COUNT_OF(a->names) && a->names[k]; k++)
    if (!strncmp(a->names[k], "--", 2)) name = a->names[k];
  snprintf(out, 48, "--no-%s", name ? name + 2 : "");
}

/* Switches that are also useful the other way round; --no-help is not. */
static bool has_negative(const cli_arg *a) { return a->kind == ARG_FLAG && strcmp(a->names[0], "-h") != 0; }

/* "-c, --ctx-size N" */
static void arg_heading(const cli_arg *a, char *out, size_t capacity) {
  size_t n = 0;
  for (size_t k = 0; k < COUNT_OF(a->names) && a->names[k]; k++)
    n += (size_t)snprintf(out + n, capacity - n, "%s%s", k ? ", " : "", a->names[k]);
  if (a->value) snprintf(out + n, capacity - n, " %s", a->value);
}

/* What stands behind the help text: "(1 to 4096; default 512; TANDEM_UBATCH)". */
static void arg_details(const cli_arg *a, char *out, size_t capacity) {
  char range[160], value[96];
  const char *parts[4] = {0};
  char preset[112], negative[48], env[80];
  size_t n = 0, used = 0;
  cli_arg_range(a, range, sizeof range);
  cli_arg_default(a, value, sizeof value);
  if (range[0] && a->kind != ARG_SEED && a->kind != ARG_SIZE && a->kind != ARG_BIAS &&
      !(a->high >= INT32_MAX && a->high < 1e30))
    parts[n++] = range;
  snprintf(preset, sizeof preset, "default %s", value);
  if (value[0]) parts[n++] = preset;
  negative_name(a, negative);
  if (has_negative(a)) parts[n++] = negative;
  if (a->env[0]) {
    snprintf(env, sizeof env, "TANDEM_%s", a->env[0]);
    parts[n++] = env;
  }
  out[0] = 0;
  for (size_t i = 0; i < n; i++) used += (size_t)snprintf(out + used, capacity - used, "%s%s", i ? "; " : " (", parts[i]);
  if (n) snprintf(out + used, capacity - used, ")");
}

/* ---- help ----------------------------------------------------------------------------------------------------------- */

/* Writes words from `column` on, breaking lines before HELP_WIDTH. */
static void print_wrapped(const char *s, int column) {
  int at = column;
  while (*s) {
    int n = (int)strcspn(s, " ");
    if (at > column && at + 1 + n > HELP_WIDTH) {
      printf("\n%*s", column, "");
      at = column;
    } else if (at > column) {
      putchar(' ');
      at++;
    }
    printf("%.*s", n, s);
    at += n;
    s += n + (s[n] == ' ');
  }
  putchar('\n');
}

static void print_arg(const cli_arg *a) {
  char heading[96], details[400], line[640];
  arg_heading(a, heading, sizeof heading);
  arg_details(a, details, sizeof details);
  snprintf(line, sizeof line, "%s%s", a->help, details);
  printf("  %-*s", HELP_COLUMN - 2, heading);
  if (strlen(heading) > HELP_COLUMN - 3) printf("\n%*s", HELP_COLUMN, "");
  print_wrapped(line, HELP_COLUMN);
}

void cli_help_command(cli_command_id id) {
  const cli_command *c = &cli_commands[id];
  const char *group = NULL;
  printf("tandem %s: %s\n\nUsage: tandem %s %s\n", c->name, c->summary, c->name, c->synopsis);
  if (c->aliases[0]) {
    printf("Also: ");
    for (size_t k = 0; k < COUNT_OF(c->aliases) && c->aliases[k]; k++) printf("%standem %s", k ? ", " : "", c->aliases[k]);
    putchar('\n');
  }
  printf("\n%s\n", c->about);
  for (size_t i = 0; i < cli_n_args; i++) {
    if (!has_arg(id, &cli_args[i])) continue;
    if (!group || strcmp(group, cli_args[i].group)) printf("\n%s\n", cli_args[i].group);
    group = cli_args[i].group;
    print_arg(&cli_args[i]);
  }
  printf("\nExamples\n");
  for (size_t k = 0; k < COUNT_OF(c->examples) && c->examples[k][0]; k++)
    printf("  %s:\n    tandem %s\n", c->examples[k][0], c->examples[k][1]);
}

void cli_help_overview(bool to_errors) {
  FILE *f = to_errors ? stderr : stdout;
  fprintf(f, "tandem: runs GGUF language models\n\nUsage: tandem COMMAND [options]\n\nCommands\n");
  for (int i = 0; i < CLI_COMMANDS; i++)
    if (!cli_commands[i].hidden) fprintf(f, "  %-12s%s\n", cli_commands[i].name, cli_commands[i].summary);
  fprintf(f, "\n'tandem help COMMAND' or 'tandem COMMAND --help' shows options and examples.\n");
}

status cli_help(const cli_options *o, error *err) {
  if (!o->word) {
    cli_help_overview(false);
    return TANDEM_OK;
  }
  cli_command_id id = cli_find_command(o->word);
  char shown[64];
  if (id != CLI_COMMANDS) {
    cli_help_command(id);
    return TANDEM_OK;
  }
  text_escape(shown, sizeof shown, o->word, strlen(o->word));
  const char *nearest = cli_nearest_command(shown);
  if (nearest) return base_fail(err, TANDEM_ERROR_ARGUMENT, NULL, "%s: unknown command; did you mean '%s'?", shown, nearest);
  return base_fail(err, TANDEM_ERROR_ARGUMENT, NULL, "%s: unknown command; 'tandem help' lists those there are", shown);
}

/* ---- manual --------------------------------------------------------------------------------------------------------- */

/* Text for troff: a backslash, a dash, and a dot or quote at the beginning of a line mean something there. */
static void print_troff(const char *s) {
  bool start = true;
  for (; *s; s++) {
    if (start && (*s == '.' || *s == '\'')) fputs("\\&", stdout);
    start = *s == '\n';
    if (*s == '\\')
      fputs("\\e", stdout);
    else if (*s == '-')
      fputs("\\-", stdout);
    else
      putchar(*s);
  }
}

static void man_command(cli_command_id id) {
  const cli_command *c = &cli_commands[id];
  printf(".SS tandem %s ", c->name);
  print_troff(c->synopsis);
  putchar('\n');
  print_troff(c->about);
  putchar('\n');
  for (size_t k = 0; k < COUNT_OF(c->examples) && c->examples[k][0]; k++) {
    printf(".PP\n");
    print_troff(c->examples[k][0]);
    printf(":\n.PP\n.RS 4\n.nf\ntandem ");
    print_troff(c->examples[k][1]);
    printf("\n.fi\n.RE\n");
  }
}

static void man_arg(const cli_arg *a) {
  char heading[96], details[400];
  bool first = true;
  arg_heading(a, heading, sizeof heading);
  arg_details(a, details, sizeof details);
  printf(".TP\n.B ");
  print_troff(heading);
  putchar('\n');
  print_troff(a->help);
  print_troff(details);
  printf("\n.br\nTaken by: ");
  for (int i = 0; i < CLI_COMMANDS; i++) {
    if (!has_arg((cli_command_id)i, a) || cli_commands[i].hidden) continue;
    printf("%s%s", first ? "" : ", ", cli_commands[i].name);
    first = false;
  }
  printf(".\n");
}

status cli_man(const cli_options *o, error *err) {
  (void)o, (void)err;
  printf(".TH TANDEM 1 \"\" \"tandem %d.%d.%d\" \"User Commands\"\n", TANDEM_VERSION_MAJOR, TANDEM_VERSION_MINOR,
         TANDEM_VERSION_PATCH);
  printf(".SH NAME\ntandem \\- runs GGUF language models\n.SH SYNOPSIS\n.B tandem\n.I COMMAND\n[options]\n");
  printf(".SH DESCRIPTION\nResults go to standard output, everything else to standard error.\n");
  printf(".SH COMMANDS\n");
  for (int i = 0; i < CLI_COMMANDS; i++)
    if (!cli_commands[i].hidden) man_command((cli_command_id)i);
  printf(
      ".SH OPTIONS\nA value follows its option as the next word, or behind an equals sign. In long names _ and \\- are equal.\n"
      "A lone \\-\\- ends the options.\n");
  for (size_t i = 0; i < cli_n_args; i++) man_arg(&cli_args[i]);
  printf(".SH ENVIRONMENT\nAn option that is not given is read from the first of these variables that is set and not empty.\n");
  for (size_t i = 0; i < cli_n_args; i++) {
    for (size_t k = 0; k < COUNT_OF(cli_args[i].env) && cli_args[i].env[k]; k++) {
      printf(".TP\n.BR TANDEM_%s \", \" LLAMA_ARG_%s\nas ", cli_args[i].env[k], cli_args[i].env[k]);
      print_troff(cli_args[i].names[1] ? cli_args[i].names[1] : cli_args[i].names[0]);
      putchar('\n');
    }
  }
  printf(".TP\n.BR NO_COLOR \", \" CLICOLOR_FORCE \", \" TERM\nwhether a terminal gets colours\n");
  printf(".SH EXIT STATUS\n");
  for (size_t i = 0; i < cli_n_exits; i++)
    if (cli_exits[i].meaning) printf(".TP\n.B %d\n%s\n", cli_exits[i].exit, cli_exits[i].meaning);
  return TANDEM_OK;
}

/* ---- completions ---------------------------------------------------------------------------------------------------- */

static bool takes_file(const cli_arg *a) { return a->value && !strcmp(a->value, "FILE"); }

static void print_names(cli_command_id id) {
  char negative[48];
  for (size_t i = 0; i < cli_n_args; i++) {
    const cli_arg *a = &cli_args[i];
    if (!has_arg(id, a)) continue;
    for (size_t k = 0; k < COUNT_OF(a->names) && a->names[k]; k++) printf("%s ", a->names[k]);
    negative_name(a, negative);
    if (has_negative(a)) printf("%s ", negative);
  }
}

static void print_commands(void) {
  for (int i = 0; i < CLI_COMMANDS; i++)
    if (!cli_commands[i].hidden) printf("%s ", cli_commands[i].name);
}

/* A case pattern of all names of the options that `want` accepts. */
static void print_pattern(bool (*want)(const cli_arg *)) {
  bool first = true;
  for (size_t i = 0; i < cli_n_args; i++) {
    for (size_t k = 0; want(&cli_args[i]) && k < COUNT_OF(cli_args[i].names) && cli_args[i].names[k]; k++) {
      printf("%s%s", first ? "" : "|", cli_args[i].names[k]);
      first = false;
    }
  }
}

static void complete_bash(void) {
  printf("# bash completion of tandem\n_tandem() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
         "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    COMPREPLY=($(compgen -W \"");
  print_commands();
  printf("\" -- \"$cur\"))\n    return\n  fi\n  case $prev in\n    ");
  print_pattern(takes_file);
  printf(") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n");
  for (size_t i = 0; i < cli_n_args; i++) {
    if (!cli_args[i].choices) continue;
    printf("    ");
    for (size_t k = 0; k < COUNT_OF(cli_args[i].names) && cli_args[i].names[k]; k++)
      printf("%s%s", k ? "|" : "", cli_args[i].names[k]);
    printf(") COMPREPLY=($(compgen -W \"%s\" -- \"$cur\")); return ;;\n", cli_args[i].choices);
  }
  printf("  esac\n  case ${COMP_WORDS[1]} in\n");
  for (int i = 0; i < CLI_COMMANDS; i++) {
    if (cli_commands[i].hidden) continue;
    printf("    %s) COMPREPLY=($(compgen -W \"", cli_commands[i].name);
    print_names((cli_command_id)i);
    if (i == CLI_HELP) print_commands();
    printf("\" -- \"$cur\")) ;;\n");
  }
  printf("  esac\n  [ ${#COMPREPLY[@]} -gt 0 ] || COMPREPLY=($(compgen -f -- \"$cur\"))\n}\ncomplete -o filenames -F _tandem "
         "tandem\n");
}

/* Text inside quotes of a shell: ' would end them, and zsh gives [ ] : a meaning. */
static void print_quoted(const char *s) {
  for (; *s; s++) {
    if (*s == '\'')
      fputs("'\\''", stdout);
    else if (strchr("[]:\\", *s))
      printf("\\%c", *s);
    else
      putchar(*s);
  }
}

static void zsh_arg(const cli_arg *a) {
  char negative[48];
  for (size_t k = 0; k < COUNT_OF(a->names) && a->names[k]; k++) {
    printf("        '*%s[", a->names[k]);
    print_quoted(a->help);
    printf("]");
    if (takes_file(a))
      printf(":file:_files");
    else if (a->choices)
      printf(":%s:(%s)", a->value, a->choices);
    else if (a->value)
      printf(":%s:", a->value);
    printf("' \\\n");
  }
  negative_name(a, negative);
  if (has_negative(a)) printf("        '%s' \\\n", negative);
}

static void complete_zsh(void) {
  printf("#compdef tandem\n_tandem() {\n  local -a commands=(\n");
  for (int i = 0; i < CLI_COMMANDS; i++) {
    if (cli_commands[i].hidden) continue;
    printf("    '%s:", cli_commands[i].name);
    print_quoted(cli_commands[i].summary);
    printf("'\n");
  }
  printf("  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n"
         "  local command=$words[2]\n  shift words\n  (( CURRENT-- ))\n  case $command in\n");
  for (int i = 0; i < CLI_COMMANDS; i++) {
    if (cli_commands[i].hidden) continue;
    printf("    %s)\n      _arguments \\\n", cli_commands[i].name);
    for (size_t k = 0; k < cli_n_args; k++)
      if (has_arg((cli_command_id)i, &cli_args[k])) zsh_arg(&cli_args[k]);
    if (i == CLI_HELP) {
      printf("        '1:command:(");
      print_commands();
      printf(")' ;;\n");
    } else
      printf("        '*:file:_files' ;;\n");
  }
  printf("  esac\n}\n_tandem \"$@\"\n");
}

static void fish_arg(const char *command, const cli_arg *a) {
  char negative[48];
  printf("complete -c tandem -n '__fish_seen_subcommand_from %s'", command);
  for (size_t k = 0; k < COUNT_OF(a->names) && a->names[k]; k++) {
    const char *name = a->names[k];
    printf(" %s %s", name[1] == '-' ? "-l" : strlen(name) == 2 ? "-s" : "-o", name + (name[1] == '-' ? 2 : 1));
  }
  if (takes_file(a))
    printf(" -r -F");
  else if (a->choices)
    printf(" -x -a '%s'", a->choices);
  else if (a->value)
    printf(" -x");
  printf(" -d '");
  for (const char *s = a->help; *s; s++) printf(*s == '\'' || *s == '\\' ? "\\%c" : "%c", *s);
  printf("'\n");
  negative_name(a, negative);
  if (has_negative(a)) printf("complete -c tandem -n '__fish_seen_subcommand_from %s' -l %s\n", command, negative + 2);
}

static void complete_fish(void) {
  for (int i = 0; i < CLI_COMMANDS; i++) {
    const cli_command *c = &cli_commands[i];
    if (c->hidden) continue;
    printf("complete -c tandem -n __fish_use_subcommand -f -a %s -d '%s'\n", c->name, c->summary);
    for (size_t k = 0; k < cli_n_args; k++)
      if (has_arg((cli_command_id)i, &cli_args[k])) fish_arg(c->name, &cli_args[k]);
  }
  printf("complete -c tandem -n '__fish_seen_subcommand_from help' -f -a '");
  print_commands();
  printf("'\n");
}

status cli_completion(const cli_options *o, error *err) {
  static const struct {
    const char *shell;
    void (*print)(void);
  } shells[] = {{"bash", complete_bash}, {"zsh", complete_zsh}, {"fish", complete_fish}};
  for (size_t i = 0; o->word && i < COUNT_OF(shells); i++) {
    if (strcmp(o->word, shells[i].shell)) continue;
    shells[i].print();
    return TANDEM_OK;
  }
  char shown[64];
  text_escape(shown, sizeof shown, o->word ? o->word : "", o->word ? strlen(o->word) : 0);
  return base_fail(err, TANDEM_ERROR_ARGUMENT, NULL, "'%s': unknown shell, bash, zsh or fish is allowed", shown);
}
