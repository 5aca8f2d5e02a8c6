// SPDX-License-Identifier: Apache-2.0
/* Help on the terminal, the man page and docs/cli.md, all from the rows. */
#include "cli/cmd.h"

#include "base/mem.h"

#include <ctype.h>
#include <string.h>

#define HELP_COLUMN 34

static const struct {
    const char *code;
    const char *means;
} exits[] = {
    {"0", "done"},
    {"1", "failed"},
    {"2", "the command line is wrong"},
    {"3", "not found"},
    {"4", "refused: not possible in the present state, not allowed, or there already"},
    {"5", "the daemon or the other site cannot be reached"},
    {"6", "timeout"},
};

static const struct {
    const char *name;
    const char *means;
} variables[] = {
    {"MUSTER_DIR", "the site's directory, when `--dir` is not given"},
    {"NO_COLOR", "when set, nothing is coloured"},
};

void help_synopsis(const struct cmd *cmd, struct str *out)
{
    str_addf(out, "muster %s", cmd->words);
    for (const struct cmd_arg *arg = cmd->args; arg->name && arg->help; arg++)
        str_addf(out, arg->optional ? " [%s%s]" : " %s%s", arg->name,
                 cmd->repeated && !arg[1].name ? "..." : "");
    if (cmd->options[0].name)
        str_add(out, " [OPTIONS]");
}

static void option_text(const struct cmd_option *option, struct str *out)
{
    str_addf(out, "--%s", option->name);
    if (option->value)
        str_addf(out, " %s", option->value);
}

/* "  LEFT          right", right in a column of its own, on the next line when left is long. */
static void add_row(struct str *out, const char *left, const char *right)
{
    int pad = HELP_COLUMN - 2 - (int)strlen(left);

    if (pad < 2)
        str_addf(out, "  %s\n%*s%s\n", left, HELP_COLUMN, "", right);
    else
        str_addf(out, "  %s%*s%s\n", left, pad, "", right);
}

static void add_options(struct str *out, const struct cmd_option *options)
{
    for (; options->name; options++) {
        CLEANUP(str_free) struct str left = STR_EMPTY;

        option_text(options, &left);
        add_row(out, str_text(&left), options->help);
    }
}

static void add_command_row(struct str *out, const struct cmd *cmd)
{
    CLEANUP(str_free) struct str left = STR_EMPTY;

    str_add(&left, cmd->words);
    for (const struct cmd_arg *arg = cmd->args; arg->name && arg->help; arg++)
        str_addf(&left, arg->optional ? " [%s]" : " %s", arg->name);
    add_row(out, str_text(&left), cmd->help);
}

void help_overview(struct str *out)
{
    struct cmd_family families[CMD_FAMILIES_MAX];

    str_add(out, "Usage: muster [--dir DIR] [--json] COMMAND ...\n");
    cmd_families(families);
    for (const struct cmd_family *family = families; family->title; family++) {
        str_addf(out, "\n%s:\n", family->title);
        for (const struct cmd *cmd = family->cmds; cmd->words; cmd++)
            if (!cmd->hidden)
                add_command_row(out, cmd);
    }
    str_add(out, "\n`muster COMMAND --help` explains a command.\n");
}

void help_command(const struct cmd *cmd, struct str *out)
{
    str_add(out, "Usage: ");
    help_synopsis(cmd, out);
    str_addf(out, "\n\n%s\n", cmd->help);
    if (cmd->about)
        str_addf(out, "\n%s\n", cmd->about);
    if (cmd->args[0].name)
        str_add(out, "\nArguments:\n");
    for (const struct cmd_arg *arg = cmd->args; arg->name && arg->help; arg++)
        add_row(out, arg->name, arg->help);
    if (cmd->options[0].name)
        str_add(out, "\nOptions:\n");
    add_options(out, cmd->options);
    str_add(out, "\nEverywhere:\n");
    add_options(out, cmd_global_options);
    if (cmd->examples[0])
        str_add(out, "\nExamples:\n");
    for (const char *const *example = cmd->examples; *example; example++)
        str_addf(out, "  muster %s\n", *example);
}

bool help_family(const char *words, struct str *out)
{
    CLEANUP(mem_freep) const struct cmd **all = cmd_all();
    size_t len = strlen(words);
    bool any = false;

    for (const struct cmd *const *cmd = all; *cmd; cmd++) {
        if ((*cmd)->hidden || strncmp((*cmd)->words, words, len) != 0 || (*cmd)->words[len] != ' ')
            continue;
        if (!any)
            str_addf(out, "Usage: muster %s ...\n\n", words);
        any = true;
        add_command_row(out, *cmd);
    }
    return any;
}

/* --- The man page ------------------------------------------------------------------------------ */

/* roff: a backslash and a leading dot or quote would be commands; a minus is not a hyphen. */
static void add_roff(struct str *out, const char *text)
{
    for (const char *at = text; *at; at++) {
        bool first = at == text || at[-1] == '\n';

        if (*at == '\\')
            str_add(out, "\\e");
        else if (*at == '-')
            str_add(out, "\\-");
        else if (*at == '`')
            continue;
        else if (first && (*at == '.' || *at == '\''))
            str_addf(out, "\\&%c", *at);
        else
            str_add_bytes(out, at, 1);
    }
}

static void roff_pair(struct str *out, const char *left, const char *right)
{
    str_add(out, ".TP\n.B ");
    add_roff(out, left);
    str_add(out, "\n");
    add_roff(out, right);
    str_add(out, "\n");
}

static void roff_options(struct str *out, const struct cmd_option *options)
{
    for (; options->name; options++) {
        CLEANUP(str_free) struct str left = STR_EMPTY;

        option_text(options, &left);
        roff_pair(out, str_text(&left), options->help);
    }
}

static void roff_command(struct str *out, const struct cmd *cmd)
{
    CLEANUP(str_free) struct str synopsis = STR_EMPTY;

    help_synopsis(cmd, &synopsis);
    str_add(out, ".SS ");
    add_roff(out, str_text(&synopsis));
    str_add(out, "\n");
    add_roff(out, cmd->help);
    str_add(out, "\n");
    if (cmd->about) {
        str_add(out, ".PP\n");
        add_roff(out, cmd->about);
        str_add(out, "\n");
    }
    for (const struct cmd_arg *arg = cmd->args; arg->name && arg->help; arg++)
        roff_pair(out, arg->name, arg->help);
    roff_options(out, cmd->options);
    for (const char *const *example = cmd->examples; *example; example++) {
        str_add(out, ".PP\n.RS\n.B muster ");
        add_roff(out, *example);
        str_add(out, "\n.RE\n");
    }
}

char *help_man(void)
{
    struct cmd_family families[CMD_FAMILIES_MAX];
    struct str out = STR_EMPTY;

    str_add(&out, ".TH MUSTER 1 \"\" \"Muster " MUSTER_VERSION "\"\n.SH NAME\n"
                  "muster \\- disaster recovery for QEMU/KVM hosts\n.SH SYNOPSIS\n"
                  ".B muster\n[\\-\\-dir DIR] [\\-\\-json] COMMAND ...\n.SH DESCRIPTION\n"
                  "Muster keeps replicas of machines' disks current at another site and runs "
                  "recovery plans over them. These commands ask the site's daemon over its unix "
                  "socket.\n.SH OPTIONS\n");
    roff_options(&out, cmd_global_options);
    cmd_families(families);
    for (const struct cmd_family *family = families; family->title; family++) {
        str_add(&out, ".SH ");
        for (const char *at = family->title; *at; at++)
            str_addf(&out, "%c", toupper((unsigned char)*at));
        str_add(&out, "\n");
        for (const struct cmd *cmd = family->cmds; cmd->words; cmd++)
            if (!cmd->hidden)
                roff_command(&out, cmd);
    }
    str_add(&out, ".SH EXIT STATUS\n");
    for (size_t i = 0; i < ARRAY_LEN(exits); i++)
        roff_pair(&out, exits[i].code, exits[i].means);
    str_add(&out, ".SH ENVIRONMENT\n");
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        roff_pair(&out, variables[i].name, variables[i].means);
    return str_take(&out);
}

/* --- docs/cli.md ------------------------------------------------------------------------------- */

static void markdown_command(struct str *out, const struct cmd *cmd)
{
    str_add(out, "### ");
    help_synopsis(cmd, out);
    str_addf(out, "\n\n%s\n", cmd->help);
    if (cmd->about)
        str_addf(out, "\n%s\n", cmd->about);
    if (cmd->args[0].name || cmd->options[0].name)
        str_add(out, "\n| | |\n|---|---|\n");
    for (const struct cmd_arg *arg = cmd->args; arg->name && arg->help; arg++)
        str_addf(out, "| `%s` | %s%s |\n", arg->name, arg->help,
                 arg->optional ? " (optional)" : "");
    for (const struct cmd_option *option = cmd->options; option->name; option++) {
        CLEANUP(str_free) struct str left = STR_EMPTY;

        option_text(option, &left);
        str_addf(out, "| `%s` | %s |\n", str_text(&left), option->help);
    }
    if (cmd->examples[0])
        str_add(out, "\n");
    for (const char *const *example = cmd->examples; *example; example++)
        str_addf(out, "    muster %s\n", *example);
    str_add(out, "\n");
}

char *help_markdown(void)
{
    struct cmd_family families[CMD_FAMILIES_MAX];
    struct str out = STR_EMPTY;

    str_add(&out, "<!-- Made by `muster help --markdown`; a test checks that it is so. -->\n"
                  "# The command line\n\n"
                  "`muster [--dir DIR] [--json] COMMAND ...` asks the site's daemon over its unix "
                  "socket. Errors go to stderr,\none line, with a hint in a line of its own. "
                  "`--json` prints what the [API](api.md) answers.\n\n"
                  "| everywhere | |\n|---|---|\n");
    for (const struct cmd_option *option = cmd_global_options; option->name; option++)
        str_addf(&out, "| `--%s%s%s` | %s |\n", option->name, option->value ? " " : "",
                 option->value ? option->value : "", option->help);
    str_add(&out, "\n| exit code | means |\n|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(exits); i++)
        str_addf(&out, "| %s | %s |\n", exits[i].code, exits[i].means);
    str_add(&out,
            "\nA command that waits for a job or a run ends by the code of what failed in it.\n");
    str_add(&out, "\n| variable | |\n|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(variables); i++)
        str_addf(&out, "| `%s` | %s |\n", variables[i].name, variables[i].means);
    cmd_families(families);
    for (const struct cmd_family *family = families; family->title; family++) {
        str_addf(&out, "\n## %s\n\n", family->title);
        for (const struct cmd *cmd = family->cmds; cmd->words; cmd++)
            if (!cmd->hidden)
                markdown_command(&out, cmd);
        out.ptr[--out.len] = '\0'; /* the next heading brings its own empty line */
    }
    return str_take(&out);
}
