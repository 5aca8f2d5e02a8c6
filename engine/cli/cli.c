// SPDX-License-Identifier: Apache-2.0
#include "cli/cli.h"

#include "base/fs.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"

#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#define FILE_MAX ((size_t)16 * 1024 * 1024)

enum cli_exit cli_exit_of(enum err_code code)
{
    switch (code) {
    case ERR_NONE: return CLI_OK;
    case ERR_NOT_FOUND: return CLI_NOT_FOUND;
    case ERR_BUSY:
    case ERR_EXISTS:
    case ERR_STATE:
    case ERR_FENCED:
    case ERR_AUTH:
    case ERR_DENIED: return CLI_REFUSED;
    case ERR_NET: return CLI_UNREACHABLE;
    case ERR_TIMEOUT: return CLI_TIMEOUT;
    case ERR_SPACE:
    case ERR_IO:
    case ERR_INVALID:
    case ERR_CORRUPT:
    case ERR_PROTOCOL:
    case ERR_UNSUPPORTED:
    case ERR_LIMIT:
    case ERR_CANCELLED:
    case ERR_UNKNOWN:
    case ERR_CODE_COUNT: return CLI_FAILED;
    }
    return CLI_FAILED;
}

/* --- What commands ask for ------------------------------------------------------------------- */

const char *cli_arg(const struct cli *cli, const char *name)
{
    for (size_t i = 0; i < CMD_ARGS_MAX && cli->cmd->args[i].name; i++)
        if (str_eq(cli->cmd->args[i].name, name))
            return cli->args[i];
    return NULL;
}

const char *cli_option(const struct cli *cli, const char *name)
{
    for (size_t i = 0; i < CMD_OPTIONS_MAX && cli->cmd->options[i].name; i++)
        if (str_eq(cli->cmd->options[i].name, name))
            return cli->options[i];
    return NULL;
}

bool cli_flag(const struct cli *cli, const char *name)
{
    return cli_option(cli, name) != NULL;
}

static int take_name(struct cli *cli, const char *what, const char *text, const char **ret_name,
                     struct err *err)
{
    if (!text || !str_is_name(text))
        return cli_usage(cli, err,
                         "%s: \"%.80s\" is no name; hint: 1 to 63 of a-z 0-9 . _ -, beginning with "
                         "a letter or digit",
                         what, text ? text : "");
    *ret_name = text;
    return 0;
}

int cli_name_arg(struct cli *cli, const char *name, const char **ret_name, struct err *err)
{
    return take_name(cli, name, cli_arg(cli, name), ret_name, err);
}

int cli_names_arg(struct cli *cli, const char *name, json_t **ret_names, struct err *err)
{
    CLEANUP(json_freep) json_t *names = json_array();
    const char *one;

    for (size_t i = 0; i <= cli->more_count; i++) {
        if (take_name(cli, name, i == 0 ? cli_arg(cli, name) : cli->more[i - 1], &one, err) < 0)
            return -1;
        (void)json_array_append_new(names, json_string(one));
    }
    *ret_names = TAKE(names);
    return 0;
}

int cli_name_option(struct cli *cli, const char *name, const char **ret_name, struct err *err)
{
    CLEANUP(mem_freep) char *what = mem_printf("--%s", name);

    return cli_flag(cli, name) ? take_name(cli, what, cli_option(cli, name), ret_name, err) : 0;
}

int cli_id_arg(struct cli *cli, const char *name, uint64_t *ret_id, struct err *err)
{
    const char *text = cli_arg(cli, name);

    if (!text || !str_to_u64(text, ret_id) || *ret_id == 0 || *ret_id > INT64_MAX)
        return cli_usage(cli, err, "%s: \"%.80s\" is no number", name, text ? text : "");
    return 0;
}

int cli_number_option(struct cli *cli, const char *name, uint64_t min, uint64_t max,
                      uint64_t *ret_value, struct err *err)
{
    CLEANUP(mem_freep)
    char *range = max < INT64_MAX ? mem_printf("%" PRIu64 " to %" PRIu64, min, max)
                                  : mem_printf("%" PRIu64 " or more", min);
    const char *text = cli_option(cli, name);
    uint64_t value;

    if (!text)
        return 0;
    if (!str_to_u64(text, &value))
        return cli_usage(cli, err, "--%s: \"%.80s\" is no number; hint: %s", name, text, range);
    if (value < min || value > max)
        return cli_usage(cli, err, "--%s: %.80s is out of range; hint: %s", name, text, range);
    *ret_value = value;
    return 0;
}

/* As it is typed: "90s", "24h". */
static void typed_duration(int64_t ms, char *ret_text, size_t len)
{
    static const struct {
        int64_t ms;
        const char *unit;
    } units[] = {{3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    size_t i = 0;

    while (ms % units[i].ms != 0)
        i++;
    (void)snprintf(ret_text, len, "%" PRId64 "%s", ms / units[i].ms, units[i].unit);
}

int cli_duration_option(struct cli *cli, const char *name, int64_t min_ms, int64_t max_ms,
                        int64_t *ret_ms, struct err *err)
{
    const char *text = cli_option(cli, name);
    char min[32], max[32];
    int64_t ms;

    if (!text)
        return 0;
    typed_duration(min_ms, min, sizeof(min));
    typed_duration(max_ms, max, sizeof(max));
    if (!str_to_ms(text, &ms))
        return cli_usage(cli, err,
                         "--%s: \"%.80s\" is no duration; hint: %s to %s, a number with its unit: "
                         "500ms, 5s, 15m, 1h",
                         name, text, min, max);
    if (ms < min_ms || ms > max_ms)
        return cli_usage(cli, err, "--%s: %.80s is out of range; hint: %s to %s", name, text, min,
                         max);
    *ret_ms = ms;
    return 0;
}

int cli_word_option(struct cli *cli, const char *name, const char *const *words,
                    const char **ret_word, struct err *err)
{
    CLEANUP(str_free) struct str known = STR_EMPTY;
    const char *text = cli_option(cli, name);

    for (size_t i = 0; text && words[i]; i++) {
        if (str_eq(text, words[i])) {
            *ret_word = text;
            return 0;
        }
        str_addf(&known, "%s%s", i == 0 ? "" : words[i + 1] ? ", " : " or ", words[i]);
    }
    if (!text)
        return 0;
    return cli_usage(cli, err, "--%s: \"%.80s\" is unknown; hint: %s", name, text,
                     str_text(&known));
}

bool cli_confirm(struct cli *cli, const char *question)
{
    char line[64] = "";

    (void)fprintf(cli->out, "%s [yes/no] ", question);
    (void)fflush(cli->out);
    if (!fgets(line, sizeof(line), cli->in)) {
        (void)fprintf(cli->out, "\n");
        return false;
    }
    line[strcspn(line, "\r\n")] = '\0';
    return str_eq(line, "yes") || str_eq(line, "y");
}

void cli_print_json(const struct cli *cli, const json_t *json)
{
    CLEANUP(mem_freep) char *text = json_text(json);

    (void)fprintf(cli->out, "%s\n", text);
}

const char *cli_config_dir(const struct cli *cli)
{
    return cli->dir ? cli->dir : "/etc/muster";
}

char *cli_config_path(const struct cli *cli)
{
    return path_join(cli_config_dir(cli), "config.lua");
}

int cli_read_file(const char *path, struct str *ret_text, struct err *err)
{
    return fs_read_file(fs_real(), path, FILE_MAX, ret_text, err);
}

/* --- main ---------------------------------------------------------------------------------- */

static void print_error(const struct cli *cli, const struct err *err)
{
    static const char mark[] = "; hint: ";
    const char *hint = strstr(err->text, mark);

    (void)fflush(cli->out);
    if (cli->json) {
        CLEANUP(json_freep)
        json_t *json = json_pack("{s:{s:s, s:s}}", "error", "code", err_code_name(err->code),
                                 "message", err->text);
        CLEANUP(mem_freep) char *text = json ? json_text(json) : NULL;

        (void)fprintf(stderr, "%s\n", text ? text : err->text);
        return;
    }
    if (!hint) {
        (void)fprintf(stderr, "muster: %s\n", err->text);
        return;
    }
    (void)fprintf(stderr, "muster: %.*s\n", (int)(hint - err->text), err->text);
    (void)fprintf(stderr, "hint: %s\n", hint + sizeof(mark) - 1);
}

static int show_help(const struct cli *cli, struct str *out)
{
    if (cli->version)
        str_add(out, "muster " MUSTER_VERSION "\n");
    else if (cli->cmd)
        help_command(cli->cmd, out);
    else if (cli->argc < 2 || !help_family(cli->argv[1], out))
        help_overview(out);
    return 0;
}

static int run(struct cli *cli, struct err *err)
{
    CLEANUP(str_free) struct str help = STR_EMPTY;

    if (cli_parse(cli, err) < 0)
        return -1;
    if (!cli->help && !cli->version && cli->cmd)
        return cli->cmd->run(cli, err);
    (void)show_help(cli, &help);
    (void)fputs(str_text(&help), cli->out);
    if (cli->cmd || cli->help || cli->version)
        return 0;
    return cli_usage(cli, err, "no command given");
}

int cli_main(int argc, char **argv, const struct cli_hooks *hooks)
{
    struct err err = ERR_EMPTY;
    struct cli cli = {.hooks = hooks, .argc = argc, .argv = argv, .out = stdout, .in = stdin};
    int code = CLI_OK;

    /* The confined child comes first: no locale, no environment, nothing else. */
    if (argc > 1 && str_eq(argv[1], "lua-host"))
        return hooks->lua_host(argc, argv);
    (void)setlocale(LC_CTYPE, "");
    cli.tty = isatty(STDOUT_FILENO) == 1;
    cli.utf8 = str_eq(nl_langinfo(CODESET), "UTF-8");
    cli.dir = getenv("MUSTER_DIR");
    if (run(&cli, &err) < 0) {
        print_error(&cli, &err);
        code = cli.usage_error ? CLI_USAGE : (int)cli_exit_of(err.code);
    }
    client_close(&cli);
    free(cli.socket);
    if (fflush(stdout) != 0 && code == CLI_OK)
        code = CLI_FAILED; /* a full disk behind a redirection */
    return code;
}
