// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/show.h"
#include "cli/table.h"
#include "host/host.h"
#include "providers/machine.h"
#include "sites/site.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- machine add ----------------------------------------------------------------------------- */

/* The place in the file an error of machine_from_json speaks of: "disks[2]", 'format' -> the key's
 * path, in `ret_path`. */
static void path_in(const char *message, char *ret_path, size_t len)
{
    const char *list = strstr(message, "disks[");
    const char *open = strchr(message, '\'');
    const char *close = open ? strchr(open + 1, '\'') : NULL;
    int field_len = close ? (int)(close - open - 1) : 0;

    if (!list)
        list = strstr(message, "nics[");
    if (list)
        (void)snprintf(ret_path, len, "%.*s%s%.*s", (int)strcspn(list, "]") + 1, list,
                       field_len ? "." : "", field_len, open ? open + 1 : "");
    else
        (void)snprintf(ret_path, len, "%.*s", field_len, open ? open + 1 : "");
}

/* Puts "FILE:LINE: " before the message, as near as the place can be told. */
static void add_place(struct err *err, const char *file, const struct str *text)
{
    char path[128];
    unsigned line;

    path_in(err->text, path, sizeof(path));
    line = host_line_of(str_text(text), text->len, path);
    /* What is missing has no line: the table it should stand in has. */
    while (line == 0 && *path) {
        path[strchr(path, '.') ? (size_t)(strchr(path, '.') - path) : 0] = '\0';
        line = host_line_of(str_text(text), text->len, path);
    }
    if (line)
        err_prefix(err, "%s:%u", file, line);
    else
        err_prefix(err, "%s", file);
}

static int load_machine(const char *file, json_t **ret_definition, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    CLEANUP(machine_done) struct machine machine;
    struct host host;

    machine_init(&machine);
    client_host(&host);
    if (cli_read_file(file, &text, err) < 0
        || host_run(&host, HOST_DATA, file, str_text(&text), text.len, NULL, &json, NULL, err) < 0)
        return -1;
    if (machine_from_json(json, &machine, err) < 0) {
        add_place(err, file, &text);
        return -1;
    }
    *ret_definition = TAKE(json);
    return 0;
}

static int run_add(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    json_t *definition, *warning;
    size_t i;

    if (load_machine(cli_arg(cli, "FILE"), &definition, err) < 0
        || client_call(cli, "POST", "/v1/machines", json_pack("{s:o}", "definition", definition),
                       &reply, err)
               < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, reply);
        return 0;
    }
    (void)fprintf(cli->out, "Machine %s added\n", json_get_str(reply, "name", ""));
    json_array_foreach(json_object_get(reply, "warnings"), i, warning)
        (void)fprintf(cli->out, "  it would not start: %s\n", json_string_value(warning));
    return 0;
}

/* --- machine adopt --------------------------------------------------------------------------- */

static void print_lines(const struct cli *cli, const char *mark, const json_t *lines)
{
    for (size_t i = 0; i < json_array_size(lines); i++)
        (void)fprintf(cli->out, "  %s%s\n", mark, json_string_value(json_array_get(lines, i)));
}

/* The daemon may run elsewhere in the file system. */
static int put_path(struct cli *cli, const char *option, json_t *body, struct err *err)
{
    const char *given = cli_option(cli, option);
    CLEANUP(mem_freep) char *cwd = NULL;
    CLEANUP(mem_freep) char *path = NULL;

    if (!given)
        return 0;
    if (given[0] != '/') {
        cwd = getcwd(NULL, 0);
        if (!cwd)
            return err_set(err, ERR_IO, errno, "the current folder");
    }
    path = mem_printf("%s%s%s", cwd ? cwd : "", cwd ? "/" : "", given);
    (void)json_object_set_new(body, option, json_string(path));
    return 0;
}

static int run_adopt(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    CLEANUP(mem_freep) char *path = NULL;
    const char *file = cli_option(cli, "definition");
    const char *name;
    json_t *definition;

    if (cli_name_arg(cli, "NAME", &name, err) < 0)
        return -1;
    if (!cli_option(cli, "qmp"))
        return cli_usage(cli, err, "--qmp is missing; hint: --qmp SOCKET, as QEMU was given it");
    if (put_path(cli, "qmp", body, err) < 0 || put_path(cli, "agent", body, err) < 0)
        return -1;
    if (file) {
        if (load_machine(file, &definition, err) < 0)
            return -1;
        (void)json_object_set_new(body, "definition", definition);
    }
    path = mem_printf("/v1/machines/%s/adopt", name);
    if (client_call(cli, "POST", path, TAKE(body), &reply, err) < 0)
        return -1;
    bool adopted = json_get_bool(reply, "adopted", false);
    if (cli->json) {
        cli_print_json(cli, reply);
    } else if (adopted) {
        (void)fprintf(cli->out, "Machine %s adopted; it runs on as before\n", name);
        print_lines(cli, "note: ", json_object_get(reply, "notes"));
    } else {
        print_lines(cli, "", json_object_get(reply, "problems"));
    }
    if (adopted)
        return 0;
    return err_set(err, ERR_STATE, 0, "%s cannot be adopted; nothing was changed", name);
}

/* --- machine keep ---------------------------------------------------------------------------- */

static int run_keep(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    const json_t *disk;
    const char *name;
    size_t i;

    if (cli_name_arg(cli, "NAME", &name, err) < 0)
        return -1;
    path = mem_printf("/v1/machines/%s/keep", name);
    if (client_call(cli, "POST", path, NULL, &reply, err) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, reply);
        return 0;
    }
    (void)fprintf(cli->out, "%s is an ordinary machine of this site now; its disks are\n", name);
    json_array_foreach(json_object_get(json_object_get(reply, "definition"), "disks"), i, disk)
        (void)fprintf(cli->out, "  %s\n", json_get_str(disk, "path", "?"));
    return 0;
}

/* --- The others ------------------------------------------------------------------------------ */

static int run_list(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;

    if (client_get(cli, &reply, err, "/v1/machines") < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, json_object_get(reply, "machines"));
        return 0;
    }
    show_machines(json_object_get(reply, "machines"), &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

static int run_show(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || client_get(cli, &reply, err, "/v1/machines/%s", name) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, reply);
        return 0;
    }
    show_machine(reply, &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

/* POST or DELETE on one machine, and a line about it. */
static int act(struct cli *cli, const char *method, const char *verb, json_t *body,
               const char *done, struct err *err)
{
    CLEANUP(json_freep) json_t *taken = body;
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0)
        return -1;
    path = mem_printf("/v1/machines/%s%s", name, verb);
    if (client_call(cli, method, path, TAKE(taken), &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "Machine %s %s\n", name, done);
    return 0;
}

static int run_start(struct cli *cli, struct err *err)
{
    json_t *body = cli_flag(cli, "without-peer") ? json_pack("{s:b}", "without_peer", true) : NULL;

    return act(cli, "POST", "/start", body, "runs", err);
}

static int run_stop(struct cli *cli, struct err *err)
{
    int64_t within_ms = 0;
    json_t *body;

    if (cli_duration_option(cli, "within", 1000, SITE_WITHIN_MAX_MS, &within_ms, err) < 0)
        return -1;
    body = json_pack("{s:b}", "force", cli_flag(cli, "force"));
    if (within_ms)
        (void)json_object_set_new(body, "within_ms", json_integer((json_int_t)within_ms));
    return act(cli, "POST", "/stop", body, "is off", err);
}

static int run_remove(struct cli *cli, struct err *err)
{
    return act(cli, "DELETE", "", NULL, "is no longer known here; its disks stay", err);
}

const struct cmd *cmds_machine(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "machine add",
            .help = "Adds a machine, as a Lua file describes it.",
            .about = "The file returns one table; nothing in it can act:\n\n"
                     "    return {\n"
                     "      name = \"db1\", memory = \"2GiB\", cpus = 2, agent = true,\n"
                     "      disks = { { path = \"/srv/db1.qcow2\", format = \"qcow2\" } },\n"
                     "      nics = { { mac = \"52:54:00:00:00:01\", network = \"bridge lan\" } },\n"
                     "    }",
            .args = {{"FILE", false, "the Lua file"}},
            .examples = {"machine add db1.lua"},
            .run = run_add,
        },
        {
            .words = "machine adopt",
            .help = "Takes over the care of a running machine that is not Muster's.",
            .about =
                "The machine runs on; from then on it can be protected, tested and failed over. Its "
                "definition is learned from it, or the given one is checked against it. Its QEMU's "
                "process stays when its guest shuts down, so that nothing is lost: `muster machine "
                "stop` ends it, `muster machine remove` gives the machine back.",
            .args = {{"NAME", false, "what it is to be called here"}},
            .options = {{"qmp", "SOCKET", "its QMP monitor, as given to QEMU by -qmp unix:SOCKET"},
                        {"agent", "SOCKET", "its guest agent's port; found out"},
                        {"definition", "FILE", "a Lua file as of `muster machine add`; learned"}},
            .examples = {"machine adopt db1 --qmp /run/db1.qmp"},
            .run = run_adopt,
        },
        {
            .words = "machine keep",
            .help = "Makes a recovered machine an ordinary one of this site.",
            .about =
                "For when the site it came from is gone for good: commit it, end its protection "
                "(`muster unprotect NAME --force`), shut it down, and keep it. Its disks, which are "
                "its own by then, move to the site's folder instances/kept/NAME. It can be started, protected "
                "and removed like any other.",
            .args = {{"NAME", false, "the machine"}},
            .examples = {"machine keep db1"},
            .run = run_keep,
        },
        {
            .words = "machine list",
            .help = "Lists machines, and those recovered here, with their state.",
            .run = run_list,
        },
        {
            .words = "machine show",
            .help = "Shows a machine.",
            .args = {{"NAME", false, "the machine"}},
            .run = run_show,
        },
        {
            .words = "machine start",
            .help = "Starts a machine.",
            .about =
                "Where a machine was failed over to, it starts as it was: from the same point, "
                "with what it wrote since. Where it was failed over from, it is refused.\nAfter its "
                "host went down without being shut down, a protected machine is started only once "
                "its peer has answered.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"without-peer", NULL,
                         "start it although the peer, which may have taken it over, does not "
                         "answer; recorded"}},
            .run = run_start,
        },
        {
            .words = "machine stop",
            .help = "Shuts the guest down, then ends the machine; its disks stay.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"force", NULL, "end it like a power cut, without asking the guest"},
                        {"within", "DURATION",
                         "how long the guest may take to shut down, 1s to 1h; 120s"}},
            .run = run_stop,
        },
        {
            .words = "machine remove",
            .help = "Forgets a machine that is off and not protected; its disks stay.",
            .about = "One that was adopted need not be off: it is given back and runs on.",
            .args = {{"NAME", false, "the machine"}},
            .run = run_remove,
        },
        {0},
    };

    return cmds;
}
