// SPDX-License-Identifier: Apache-2.0
/* Options may stand anywhere, as --name VALUE or --name=VALUE; "--" ends them. The command is found
 * first, from the leading words, because only it knows which of its options take a value. */
#include "cli/cmd.h"

#include "base/mem.h"
#include "base/vec.h"

#include <string.h>

#define WORDS_MAX 3 /* of a command */

VEC_DEFINE(names, const char *)

static const struct cmd_option *option_in(const struct cmd_option *options, const char *name,
                                          size_t len)
{
    for (; options->name; options++)
        if (strlen(options->name) == len && memcmp(options->name, name, len) == 0)
            return options;
    return NULL;
}

static bool is_option(const char *text)
{
    return text[0] == '-' && text[1] != '\0';
}

/* --- Which command --------------------------------------------------------------------------- */

/* How many of the words, at least one, `cmd` is; 0: it is not meant. */
static size_t words_of(const struct cmd *cmd, const char *const *words, size_t count)
{
    const char *at = cmd->words;
    size_t n = 0;

    while (*at) {
        size_t len = strcspn(at, " ");

        if (n == count || strlen(words[n]) != len || memcmp(words[n], at, len) != 0)
            return 0;
        n++;
        at += len + (at[len] == ' ');
    }
    return n;
}

static const struct cmd *longest(const char *const *words, size_t count, size_t *ret_used)
{
    CLEANUP(mem_freep) const struct cmd **all = cmd_all();
    const struct cmd *best = NULL;

    *ret_used = 0;
    for (const struct cmd *const *cmd = all; *cmd; cmd++) {
        size_t used = words_of(*cmd, words, count);

        if (used > *ret_used) {
            best = *cmd;
            *ret_used = used;
        }
    }
    return best;
}

/* The leading words, without options of every command and their values. */
static size_t leading_words(const struct cli *cli, const char *ret_words[WORDS_MAX])
{
    size_t count = 0;

    for (int i = 1; i < cli->argc && count < WORDS_MAX; i++) {
        const char *text = cli->argv[i];

        if (str_eq(text, "--dir"))
            i++;
        else if (is_option(text) && option_in(cmd_global_options, text + 2, strcspn(text + 2, "=")))
            continue;
        else if (is_option(text))
            break;
        else
            ret_words[count++] = text;
    }
    return count;
}

static int unknown_command(struct cli *cli, const char *const *words, size_t count, struct err *err)
{
    CLEANUP(str_free) struct str said = STR_EMPTY;
    CLEANUP(str_free) struct str family = STR_EMPTY;
    CLEANUP(names_free) struct names known = VEC_EMPTY;
    CLEANUP(mem_freep) const struct cmd **all = cmd_all();
    const char *near;

    for (size_t i = 0; i < count && i < 2; i++)
        str_addf(&said, "%s%s", i ? " " : "", words[i]);
    for (const struct cmd *const *cmd = all; *cmd; cmd++)
        if (!(*cmd)->hidden)
            *names_push(&known) = (*cmd)->words;
    *names_push(&known) = NULL;
    near = str_nearest(str_text(&said), known.at);
    if (!near)
        near = str_nearest(words[0], known.at);
    bool is_family = help_family(words[0], &family);
    if (near && !(is_family && count == 1))
        return cli_usage(cli, err, "unknown command \"%s\"; hint: did you mean \"%s\"?",
                         str_text(&said), near);
    if (is_family)
        return cli_usage(cli, err,
                         "\"%s\" is not a whole command; hint: `muster %s --help` lists "
                         "what there is",
                         str_text(&said), words[0]);
    return cli_usage(cli, err, "unknown command \"%s\"; hint: `muster help` lists all", words[0]);
}

/* --- Options and arguments --------------------------------------------------------------------- */

static int unknown_option(struct cli *cli, const char *text, struct err *err)
{
    CLEANUP(names_free) struct names known = VEC_EMPTY;
    CLEANUP(mem_freep) char *name = mem_printf("%.*s", (int)strcspn(text, "="), text);
    const char *near;

    for (const struct cmd_option *option = cmd_global_options; option->name; option++)
        *names_push(&known) = option->name;
    for (const struct cmd_option *option = cli->cmd ? cli->cmd->options : cmd_global_options;
         option->name; option++)
        *names_push(&known) = option->name;
    *names_push(&known) = NULL;
    near = str_nearest(name + strspn(name, "-"), known.at);
    if (near)
        return cli_usage(cli, err, "unknown option %s; hint: did you mean --%s?", name, near);
    return cli_usage(cli, err, "unknown option %s; hint: `muster %s%s--help` lists them", name,
                     cli->cmd ? cli->cmd->words : "", cli->cmd ? " " : "");
}

static void set_global(struct cli *cli, const char *name, const char *value)
{
    if (str_eq(name, "dir"))
        cli->dir = value;
    else if (str_eq(name, "json"))
        cli->json = true;
    else if (str_eq(name, "help"))
        cli->help = true;
    else
        cli->version = true;
}

static int take_option(struct cli *cli, int *at, struct err *err)
{
    const char *text = cli->argv[*at];
    const char *name = text + (str_starts(text, "--") ? 2 : 1);
    size_t len = strcspn(name, "=");
    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    const struct cmd_option *global, *own, *option;

    if (str_eq(text, "-h")) {
        cli->help = true;
        return 0;
    }
    global = option_in(cmd_global_options, name, len);
    own = cli->cmd ? option_in(cli->cmd->options, name, len) : NULL;
    option = own ? own : global;
    if (!option || !str_starts(text, "--"))
        return unknown_option(cli, text, err);
    if (!option->value && value)
        return cli_usage(cli, err, "--%s takes no value", option->name);
    if (option->value && !value) {
        if (*at + 1 >= cli->argc)
            return cli_usage(cli, err, "--%s needs a %s", option->name, option->value);
        value = cli->argv[++*at];
    }
    if (own)
        cli->options[own - cli->cmd->options] = value ? value : "";
    else
        set_global(cli, option->name, value);
    return 0;
}

static int take_arg(struct cli *cli, size_t *count, const char *text, struct err *err)
{
    if (cli->cmd && cli->cmd->repeated && *count > 0 && !cli->cmd->args[*count].name
        && cli->more_count < CMD_MORE_MAX) {
        cli->more[cli->more_count++] = text;
        return 0;
    }
    if (!cli->cmd || *count >= CMD_ARGS_MAX || !cli->cmd->args[*count].name)
        return cli_usage(cli, err, "\"%s\" is one argument too many; hint: `muster %s%s--help`",
                         text, cli->cmd ? cli->cmd->words : "", cli->cmd ? " " : "");
    cli->args[(*count)++] = text;
    return 0;
}

static int check_args(struct cli *cli, size_t count, struct err *err)
{
    CLEANUP(str_free) struct str synopsis = STR_EMPTY;

    if (cli->help || !cli->cmd || count >= CMD_ARGS_MAX || !cli->cmd->args[count].name
        || cli->cmd->args[count].optional)
        return 0;
    help_synopsis(cli->cmd, &synopsis);
    return cli_usage(cli, err, "%s is missing; hint: %s", cli->cmd->args[count].name,
                     str_text(&synopsis));
}

static bool asks_for_help(const struct cli *cli)
{
    for (int i = 1; i < cli->argc; i++)
        if (str_eq(cli->argv[i], "--help") || str_eq(cli->argv[i], "-h"))
            return true;
    return false;
}

int cli_parse(struct cli *cli, struct err *err)
{
    const char *words[WORDS_MAX];
    size_t count = leading_words(cli, words);
    size_t skip, args = 0;
    bool ended = false;

    cli->cmd = longest(words, count, &skip);
    if (!cli->cmd && count && !asks_for_help(cli))
        return unknown_command(cli, words, count, err);
    for (int i = 1; i < cli->argc; i++) {
        const char *text = cli->argv[i];

        if (!ended && str_eq(text, "--"))
            ended = true;
        else if (!ended && is_option(text)) {
            if (take_option(cli, &i, err) < 0)
                return -1;
        } else if (skip) {
            skip--;
        } else if (cli->cmd && take_arg(cli, &args, text, err) < 0) {
            return -1;
        }
    }
    return check_args(cli, args, err);
}
