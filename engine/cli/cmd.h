// SPDX-License-Identifier: Apache-2.0
/* A command is a row: words, arguments, options, help and what it does. Parsing, help, the man page
 * and docs/cli.md are made from rows; a command's file holds its row and its work. */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "base/str.h"
#include "cli/cli.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct cli;

struct cmd_arg {
    const char *name; /* "NAME"; ends with NULL */
    bool optional;
    const char *help; /* NULL: not shown */
};
struct cmd_option {
    const char *name;  /* "interval"; ends with NULL */
    const char *value; /* "DURATION"; NULL: a switch */
    const char *help;
};
#define CMD_ARGS_MAX    3
#define CMD_OPTIONS_MAX 22
#define CMD_MORE_MAX    63
struct cmd {
    const char *words; /* "machine add" */
    const char *help;  /* one sentence */
    const char *about; /* more of it, in whole lines; may be NULL */
    struct cmd_arg args[CMD_ARGS_MAX + 1];
    bool repeated; /* the last one: several may be given; cli->more has those after the first */
    struct cmd_option options[CMD_OPTIONS_MAX + 1];
    const char *examples[6]; /* "machine add db1.lua"; ends with NULL */
    bool hidden;
    int (*run)(struct cli *cli, struct err *err);
};

struct cmd_family {
    const char *title;      /* of a section of the manual; ends with NULL */
    const struct cmd *cmds; /* ends with words NULL */
};
#define CMD_FAMILIES_MAX 24
void cmd_families(struct cmd_family out[CMD_FAMILIES_MAX]);
/* All commands in the order of the manual; ends with NULL; free with free(). */
const struct cmd **cmd_all(void);
extern const struct cmd_option cmd_global_options[]; /* --dir, --json, ...; ends with name NULL */
/* Those of one file each; end with words NULL. */
const struct cmd *cmds_site(void);
const struct cmd *cmds_serve(void);
const struct cmd *cmds_machine(void);
const struct cmd *cmds_protect(void);
const struct cmd *cmds_policy(void);
const struct cmd *cmds_status(void);
const struct cmd *cmds_points(void);
const struct cmd *cmds_branches(void);
const struct cmd *cmds_export(void);
const struct cmd *cmds_replica(void);
const struct cmd *cmds_plan(void);
const struct cmd *cmds_run(void);
const struct cmd *cmds_failover(void);
const struct cmd *cmds_jobs(void);
const struct cmd *cmds_audit(void);
const struct cmd *cmds_help(void);

/* What a command works with; made by cli_main. */
struct cli {
    const struct cli_hooks *hooks;
    int argc;
    char **argv;
    const struct cmd *cmd;
    const char *dir; /* --dir or MUSTER_DIR; NULL: the standard paths */
    bool json;
    bool help;
    bool version;
    const char *args[CMD_ARGS_MAX];
    const char *more[CMD_MORE_MAX];
    size_t more_count;
    const char *options[CMD_OPTIONS_MAX]; /* a switch that is set: "" */
    bool usage_error;
    char *socket; /* of the site's daemon, once it was needed */
    void *curl;
    int64_t answer_ms; /* how long the daemon may think about a question; 0: two minutes */
    FILE *out;
    FILE *in;
    bool tty;  /* out is a terminal */
    bool utf8; /* and can show more than ASCII */
};

const char *cli_arg(const struct cli *cli, const char *name);    /* NULL: not given */
const char *cli_option(const struct cli *cli, const char *name); /* NULL: not given */
bool cli_flag(const struct cli *cli, const char *name);
/* A mistake on the command line: ERR_INVALID and exit code 2. */
#define cli_usage(cli, err, ...) \
    ((cli)->usage_error = true, err_set((err), ERR_INVALID, 0, __VA_ARGS__))

/* Arguments as what they stand for; wrong ones are usage errors that name the option, what it was
 * given and what may be. Absent options leave `ret` alone. */
int cli_name_arg(struct cli *cli, const char *name, const char **ret_name, struct err *err)
    MUST_CHECK;
/* All that a repeated one was given. A new reference. */
int cli_names_arg(struct cli *cli, const char *name, json_t **ret_names, struct err *err)
    MUST_CHECK;
int cli_id_arg(struct cli *cli, const char *name, uint64_t *ret_id, struct err *err) MUST_CHECK;
/* `max` INT64_MAX: no bound worth naming. */
int cli_number_option(struct cli *cli, const char *name, uint64_t min, uint64_t max,
                      uint64_t *ret_value, struct err *err) MUST_CHECK;
int cli_duration_option(struct cli *cli, const char *name, int64_t min_ms, int64_t max_ms,
                        int64_t *ret_ms, struct err *err) MUST_CHECK;
/* One of `words` (ends with NULL). */
int cli_word_option(struct cli *cli, const char *name, const char *const *words,
                    const char **ret_word, struct err *err) MUST_CHECK;
int cli_name_option(struct cli *cli, const char *name, const char **ret_name, struct err *err)
    MUST_CHECK;

/* Prints "QUESTION [yes/no] " and reads a line; true for "yes" (or "y") only. */
bool cli_confirm(struct cli *cli, const char *question);
/* Prints one JSON value in one line; --json's way. */
void cli_print_json(const struct cli *cli, const json_t *json);

/* --- The site's files ---------------------------------------------------------------------- */

/* The folder of config.lua: --dir, MUSTER_DIR or /etc/muster. */
const char *cli_config_dir(const struct cli *cli);
char *cli_config_path(const struct cli *cli); /* free with free() */
/* Reads a file people wrote, at most 16 MiB. */
int cli_read_file(const char *path, struct str *ret_text, struct err *err) MUST_CHECK;

/* --- Parsing and help (cli_parse.c, cli_help.c) ---------------------------------------------- */

/* Fills cli->cmd, args and options. ERR_INVALID names the nearest command or option. */
int cli_parse(struct cli *cli, struct err *err) MUST_CHECK;
void help_overview(struct str *out);
void help_command(const struct cmd *cmd, struct str *out);
/* Commands that begin with `words` ("machine"); false: none. */
bool help_family(const char *words, struct str *out);
char *help_man(void);      /* muster.1; free with free() */
char *help_markdown(void); /* docs/cli.md */
/* "muster machine add FILE [OPTIONS]" */
void help_synopsis(const struct cmd *cmd, struct str *out);
