// SPDX-License-Identifier: Apache-2.0
#include "cli/cli_view.h"

#include "base/fs.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/point.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define LOOK_MS  50
#define START_MS 30000
#define LOG_MAX  65536

static const char *told(const struct cli_view *view, const char *name)
{
    return json_get_str(view->reply, name, "");
}

const char *cli_view_disk(const struct cli_view *view)
{
    return told(view, "disk");
}

/* The last line of its log says why. */
static int server_ended(const struct cli_view *view, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;

    if (fs_read_file(fs_real(), told(view, "log"), LOG_MAX, &text, &none) < 0)
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
static int watch_signals(struct cli_view *view, struct err *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGHUP);
    (void)sigprocmask(SIG_BLOCK, &set, &view->old_mask);
    view->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return view->signal_fd < 0 ? err_set(err, ERR_IO, errno, "signalfd") : 0;
}

static bool told_to_end(const struct cli_view *view, int wait_ms)
{
    struct pollfd poller = {.fd = view->signal_fd, .events = POLLIN};
    struct signalfd_siginfo info;

    return poll(&poller, 1, wait_ms) == 1
           && read(view->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info);
}

int cli_view_wait(struct cli_view *view, int wait_ms, struct err *err)
{
    if (told_to_end(view, wait_ms))
        return 1;
    return proc_is_alive(&view->server) ? 0 : server_ended(view, err);
}

static int start_server(struct cli_view *view, struct err *err)
{
    const json_t *command = json_object_get(view->reply, "command");
    CLEANUP(mem_freep)
    const char **argv = mem_new_array(const char *, json_array_size(command) + 1);
    const json_t *word;
    size_t i;

    json_array_foreach(command, i, word)
        argv[i] = json_string_value(word);
    const struct proc_spec spec = {.argv = argv,
                                   .log_path = json_get_str(view->reply, "log", NULL)};
    if (!argv[0])
        return err_set(err, ERR_PROTOCOL, 0, "the daemon does not say how to serve it");
    if (proc_spawn_child(&spec, &view->server, err) < 0)
        return -1;
    view->serving = true;
    return 0;
}

static int serve(struct cli_view *view, struct err *err)
{
    if (watch_signals(view, err) < 0 || start_server(view, err) < 0)
        return -1;
    for (int waited = 0; !fs_exists(told(view, "ready")); waited += LOOK_MS) {
        if (waited > START_MS)
            return err_set(err, ERR_TIMEOUT, 0, "the server of the view does not come up");
        int rc = cli_view_wait(view, LOOK_MS, err);
        if (rc != 0)
            return rc < 0 ? -1 : 0;
    }
    view->uri = mem_printf("nbd+unix:///?socket=%s", told(view, "socket"));
    return 0;
}

int cli_view_open(struct cli *cli, struct cli_view *ret_view, struct err *err)
{
    CLEANUP(mem_freep) char *path = NULL;
    const char *disk = NULL;
    struct cli_point point = {0};
    uint64_t branch = 0;
    const char *name;

    *ret_view = (struct cli_view){.cli = cli, .signal_fd = -1};
    if (cli_name_arg(cli, "NAME", &name, err) < 0 || cli_point_option(cli, &point, err) < 0
        || cli_number_option(cli, "branch", 1, INT64_MAX, &branch, err) < 0
        || cli_name_option(cli, "disk", &disk, err) < 0)
        return -1;
    if ((point.number == 0 && !point.application) == (branch == 0))
        return cli_usage(cli, err, "say which: --point N or --branch N");
    if (point.application && cli_point_find(cli, name, &point.number, err) < 0)
        return -1;
    path = mem_printf("/v1/protections/%s/view", name);
    if (client_call(cli, "POST", path,
                    json_pack("{s:I, s:I, s:s, s:I}", "point", (json_int_t)point.number, "branch",
                              (json_int_t)branch, "disk", disk ? disk : "", "pid",
                              (json_int_t)getpid()),
                    &ret_view->reply, err)
        < 0)
        return -1;
    return serve(ret_view, err);
}

void cli_view_close(struct cli_view *view)
{
    CLEANUP(json_freep) json_t *ended = NULL;
    struct err late = ERR_EMPTY;

    if (view->serving)
        proc_reap(&view->server, NULL);
    if (view->signal_fd >= 0) {
        fd_close(&view->signal_fd);
        (void)sigprocmask(SIG_SETMASK, &view->old_mask, NULL);
    }
    if (view->reply) {
        CLEANUP(mem_freep) char *path = mem_printf("/v1/views/%s", told(view, "view"));
        /* A daemon that is away takes it away when it is back. */
        (void)(client_call(view->cli, "DELETE", path, NULL, &ended, &late) < 0);
    }
    json_decref(view->reply);
    free(view->uri);
    *view = (struct cli_view){.signal_fd = -1};
}
