// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/cmd.h"

/* The command that is exactly these words. */
static const struct cmd *find(const char *words)
{
    CLEANUP(mem_freep) const struct cmd **all = cmd_all();

    for (const struct cmd *const *cmd = all; *cmd; cmd++)
        if (str_eq((*cmd)->words, words))
            return *cmd;
    return NULL;
}

static int help_on(struct cli *cli, struct str *out, struct err *err)
{
    CLEANUP(str_free) struct str words = STR_EMPTY;
    const struct cmd *cmd;

    for (size_t i = 0; i < CMD_ARGS_MAX && cli->args[i]; i++)
        str_addf(&words, "%s%s", i ? " " : "", cli->args[i]);
    cmd = find(str_text(&words));
    if (cmd)
        help_command(cmd, out);
    else if (!words.len)
        help_overview(out);
    else if (!help_family(str_text(&words), out))
        return cli_usage(cli, err, "no command \"%s\"; hint: `muster help` lists all",
                         str_text(&words));
    return 0;
}

static int run_help(struct cli *cli, struct err *err)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;
    CLEANUP(mem_freep) char *made = NULL;

    if (cli_flag(cli, "man"))
        made = help_man();
    else if (cli_flag(cli, "markdown"))
        made = help_markdown();
    else if (help_on(cli, &out, err) < 0)
        return -1;
    (void)fputs(made ? made : str_text(&out), cli->out);
    return 0;
}

const struct cmd *cmds_help(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "help",
            .help = "Explains a command, or lists all.",
            .args = {{"COMMAND", true, "its words"}, {"WORD", true, NULL}, {"WORD", true, NULL}},
            .options = {{"man", NULL, "the manual page, for man"},
                        {"markdown", NULL, "the manual in Markdown"}},
            .examples = {"help protect", "help --man | man -l -"},
            .run = run_help,
        },
        {0},
    };

    return cmds;
}
