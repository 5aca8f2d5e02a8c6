// SPDX-License-Identifier: Apache-2.0
/* A view's server is a child of this program: the kernel ends it with us, however we end. What the
 * daemon keeps for it (a folder, a pin) goes when we say so, or when the daemon finds us gone. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/table.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LOOK_MS  50
#define START_MS 30000
#define LOG_MAX  65536

/* --- branches --------------------------------------------------------------------------------- */

static void add_disk(struct table *table, const json_t *branch, const json_t *disk)
{
    int64_t bytes = json_get_int(disk, "bytes", -1);
    char text[32];

    table_addf(table, "%" PRIu64, json_get_u64(branch, "point", 0));
    table_addf(table, "%" PRIu64, json_get_u64(branch, "parent", 0));
    table_addf(table, "%" PRIu64, json_get_u64(branch, "generation", 0));
    table_add(table, text_when(json_get_int(branch, "cut_ms", 0), text, sizeof(text)));
    table_add(table, json_get_str(disk, "name", ""));
    table_add(table, bytes < 0 ? "unknown" : str_bytes((uint64_t)bytes, text, sizeof(text)));
    table_add(table, json_get_str(branch, "site", ""));
    table_add(table, json_get_str(branch, "where", ""));
}

static void print_branches(const struct cli *cli, const char *name, const json_t *branches)
{
    static const char *const columns[] = {">BRANCH",  ">AFTER", ">GENERATION", "CUT", "DISK",
                                          ">CHANGED", "SITE",   "WHERE",       NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    CLEANUP(str_free) struct str out = STR_EMPTY;
    const json_t *branch, *disk;
    size_t i, k;

    json_array_foreach(branches, i, branch)
        json_array_foreach(json_object_get(branch, "disks"), k, disk)
            add_disk(table, branch, disk);
    table_render(table, &out);
    if (json_array_size(branches) == 0)
        str_addf(&out, "%s has no branch: nothing was written that no point holds\n", name);
    json_array_foreach(branches, i, branch)
        if (*json_get_str(branch, "note", ""))
            str_addf(&out, "Branch %" PRIu64 ": %s\n", json_get_u64(branch, "point", 0),
                     json_get_str(branch, "note", ""));
    (void)fputs(str_text(&out), cli->out);
}

static int run_branches(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || client_get(cli, &reply, err, "/v1/protections/%s/branches", name) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, json_object_get(reply, "branches"));
    else
        print_branches(cli, name, json_object_get(reply, "branches"));
    return 0;
}

/* --- view ------------------------------------------------------------------------------------- */

struct server {
    struct proc_id id;
    int signal_fd;
    sigset_t old_mask;
};

/* The last line of its log says why. */
static int server_ended(const json_t *view, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;

    if (fs_read_file(fs_real(), json_get_str(view, "log", ""), LOG_MAX, &text, &none) < 0)
        str_clear(&text);
    while (text.len && text.ptr[text.len - 1] == '\n')
        text.ptr[--text.len] = '\0';
    const char *line = text.len ? strrchr(text.ptr, '\n') : NULL;
    const char *words = line ? line + 1 : text.len ? text.ptr : "it said nothing";
    bool in_use = strstr(words, "Failed to get") && strstr(words, "lock");
    return err_set(err, in_use ? ERR_BUSY : ERR_IO, 0, "%s: %.600s",
                   in_use ? "the disk is in use elsewhere" : "the server of the view ended", words);
}

/* Signals that end us are read, not taken: the view is put away first. */
static int watch_signals(struct server *server, struct err *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, &server->old_mask);
    server->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return server->signal_fd < 0 ? err_set(err, ERR_IO, errno, "signalfd") : 0;
}

/* True: somebody wants us to end. */
static bool told_to_end(const struct server *server, int wait_ms)
{
    struct pollfd poller = {.fd = server->signal_fd, .events = POLLIN};
    struct signalfd_siginfo info;

    return poll(&poller, 1, wait_ms) == 1
           && read(server->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}

static int start_server(const json_t *view, struct server *server, struct err *err)
{
    const json_t *command = json_object_get(view, "command");
    CLEANUP(mem_freep)
    const char **argv = mem_new_array(const char *, json_array_size(command) + 1);
    const json_t *word;
    size_t i;

    json_array_foreach(command, i, word)
        argv[i] = json_string_value(word);
    const struct proc_spec spec = {.argv = argv, .log_path = json_get_str(view, "log", NULL)};
    if (!argv[0])
        return err_set(err, ERR_PROTOCOL, 0, "the daemon does not say how to serve it");
    return proc_spawn_child(&spec, &server->id, err);
}

static int serve(struct cli *cli, const json_t *view, const struct server *server, struct err *err)
{
    CLEANUP(mem_freep)
    char *uri = mem_printf("nbd+unix:///?socket=%s", json_get_str(view, "socket", ""));
    int waited = 0;

    while (!fs_exists(json_get_str(view, "ready", ""))) {
        if (!proc_is_alive(&server->id))
            return server_ended(view, err);
        if (told_to_end(server, LOOK_MS))
            return 0;
        if ((waited += LOOK_MS) > START_MS)
            return err_set(err, ERR_TIMEOUT, 0, "the server of the view does not come up");
    }
    if (cli->json) {
        CLEANUP(json_freep)
        json_t *json =
            json_pack("{s:s, s:s, s:s}", "uri", uri, "disk", json_get_str(view, "disk", ""), "view",
                      json_get_str(view, "view", ""));
        cli_print_json(cli, json);
    } else {
        (void)fprintf(cli->out, "%s\n", uri);
    }
    (void)fflush(cli->out);
    while (!told_to_end(server, 500))
        if (!proc_is_alive(&server->id))
            return server_ended(view, err);
    return 0;
}

static int show(struct cli *cli, const json_t *view, struct err *err)
{
    struct server server = {.signal_fd = -1};
    int rc = watch_signals(&server, err);

    if (rc == 0)
        rc = start_server(view, &server, err);
    if (rc == 0) {
        rc = serve(cli, view, &server, err);
        proc_reap(&server.id, NULL);
    }
    fd_close(&server.signal_fd);
    (void)sigprocmask(SIG_SETMASK, &server.old_mask, NULL);
    return rc;
}

static int run_view(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *view = NULL;
    CLEANUP(json_freep) json_t *ended = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    const char *disk = NULL;
    uint64_t point = 0;
    uint64_t branch = 0;
    struct err late = ERR_EMPTY;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || cli_number_option(cli, "point", 1, INT64_MAX, &point, err) < 0
        || cli_number_option(cli, "branch", 1, INT64_MAX, &branch, err) < 0
        || cli_name_option(cli, "disk", &disk, err) < 0)
        return -1;
    if ((point == 0) == (branch == 0))
        return cli_usage(cli, err, "say which: --point N or --branch N");
    path = mem_printf("/v1/protections/%s/view", name);
    if (client_call(cli, "POST", path,
                    json_pack("{s:I, s:I, s:s, s:I}", "point", (json_int_t)point, "branch",
                              (json_int_t)branch, "disk", disk ? disk : "", "pid",
                              (json_int_t)getpid()),
                    &view, err)
        < 0)
        return -1;
    int rc = show(cli, view, err);
    free(path);
    path = mem_printf("/v1/views/%s", json_get_str(view, "view", ""));
    /* A daemon that is away takes it away when it is back. */
    (void)(client_call(cli, "DELETE", path, NULL, &ended, &late) < 0);
    return rc;
}

const struct cmd *cmds_branches(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "branches",
            .help = "Lists what an old machine wrote that no point holds.",
            .about =
                "When a machine was failed over while its site was cut off, it may have written "
                "on. Once the sites meet\nit is stopped, and its writes since the last point both "
                "sites have are kept: a branch.",
            .args = {{"NAME", false, "the machine"}},
            .examples = {"branches db1"},
            .run = run_branches,
        },
        {
            .words = "view",
            .help = "Shows a disk as it was, read-only, until Ctrl-C.",
            .about = "Prints the address of an NBD export on a unix socket of this host. A point "
                     "is looked at where the\nreplica is kept, and is kept as long; a branch "
                     "where its machine ran. Nothing is left behind.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"point", "N", "a point of the replica"},
                        {"branch", "N", "a branch"},
                        {"disk", "NAME", "which disk, when there are several"}},
            .examples = {"view db1 --point 17", "view db1 --branch 18 --disk vda"},
            .run = run_view,
        },
        {0},
    };

    return cmds;
}
