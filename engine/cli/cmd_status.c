// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/table.h"
#include "cli/watch.h"

#define WATCH_MS 1000

/* One machine in full, or all in a line each. */
static int status_text(struct cli *cli, const char *name, const json_t *reply, struct str *out)
{
    struct look look;

    cli_look(cli, &look);
    if (name)
        show_protection(reply, out);
    else
        show_status(json_object_get(reply, "protections"), &look, out);
    return 0;
}

static void print(struct cli *cli, const char *name, const json_t *reply)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;

    if (cli->json) {
        cli_print_json(cli, name ? reply : json_object_get(reply, "protections"));
        return;
    }
    (void)status_text(cli, name, reply, &out);
    (void)fputs(str_text(&out), cli->out);
}

/* Ctrl-C is the way out, and no mistake. */
static int watch(struct cli *cli, const char *name, const char *path, struct err *err)
{
    CLEANUP(watch_endp) struct watch *watch = watch_begin(cli);
    int64_t next_ms = cli_now_ms();

    for (;;) {
        CLEANUP(json_freep) json_t *reply = NULL;
        CLEANUP(str_free) struct str out = STR_EMPTY;
        int64_t left;

        if (watch_get(watch, path, &reply, err) < 0)
            return -1;
        if (cli->tty && !cli->json) {
            (void)status_text(cli, name, reply, &out);
            watch_draw(watch, &out);
        } else {
            print(cli, name, reply);
        }
        next_ms += WATCH_MS;
        while ((left = next_ms - cli_now_ms()) > 0) {
            if (watch_wait(watch, left, "", err) == 0)
                continue;
            if (err->code != ERR_CANCELLED)
                return -1;
            err_clear(err);
            return 0;
        }
    }
}

static int run_status(struct cli *cli, struct err *err)
{
    CLEANUP(mem_freep) char *path = NULL;
    CLEANUP(json_freep) json_t *reply = NULL;
    const char *name = NULL;

    if (cli_arg(cli, "NAME") && cli_name_arg(cli, "NAME", &name, err) < 0)
        return -1;
    path = name ? mem_printf("/v1/protections/%s", name) : mem_strdup("/v1/protections");
    if (cli_flag(cli, "watch"))
        return watch(cli, name, path, err);
    if (client_call(cli, "GET", path, NULL, &reply, err) < 0)
        return -1;
    print(cli, name, reply);
    return 0;
}

/* A machine that is not protected has no status: that is no error here. */
static int run_show(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *status = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    struct err none = ERR_EMPTY;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || client_get(cli, &reply, err, "/v1/machines/%s/operations", name) < 0)
        return -1;
    if (*json_get_str(reply, "role", "")
        && client_get(cli, &status, &none, "/v1/protections/%s", name) == 0)
        (void)json_object_set(reply, "protection", status);
    if (cli->json) {
        cli_print_json(cli, reply);
        return 0;
    }
    if (status)
        show_protection(status, &out);
    else
        str_addf(&out, "%s: %s\n", name, json_get_str(reply, "state", ""));
    show_operations(reply, &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

static int run_points(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || client_get(cli, &reply, err, "/v1/protections/%s/points", name) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, json_object_get(reply, "points"));
        return 0;
    }
    show_points(json_object_get(reply, "points"), &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

const struct cmd *cmds_status(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "status",
            .help = "Shows protected machines, a line each; or one in full.",
            .about = "RPO NOW is the age of the newest point that is safe at the other site: what "
                     "would be lost now.\nREADY is the age of the newest point that can be used "
                     "without further work.",
            .args = {{"NAME", true, "the machine"}},
            .options = {{"watch", NULL, "go on showing it, every second"}},
            .examples = {"status", "status --watch", "status db1"},
            .run = run_status,
        },
        {
            .words = "show",
            .help = "Shows a machine's state, and what may be done with it here now.",
            .about = "What may not be done is listed with the reason.",
            .args = {{"NAME", false, "the machine"}},
            .examples = {"show db1"},
            .run = run_show,
        },
        {
            .words = "points",
            .help = "Lists the points of a machine's replica, newest first.",
            .about = "At the site that sends the machine, the one that keeps its replica is asked.",
            .args = {{"NAME", false, "the machine"}},
            .run = run_points,
        },
        {0},
    };

    return cmds;
}
