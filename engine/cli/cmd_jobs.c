// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/watch.h"

#include <inttypes.h>

static int run_list(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;

    if (client_get(cli, &reply, err, "/v1/jobs%s", cli_flag(cli, "open") ? "?open=true" : "") < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, json_object_get(reply, "jobs"));
        return 0;
    }
    show_jobs(json_object_get(reply, "jobs"), &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

static int run_show(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    struct look look;
    uint64_t id;

    if (cli_id_arg(cli, "JOB", &id, err) < 0
        || client_get(cli, &reply, err, "/v1/jobs/%" PRIu64, id) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, reply);
        return 0;
    }
    cli_look(cli, &look);
    show_job(reply, cli_now_ms(), &look, &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

static int run_watch(struct cli *cli, struct err *err)
{
    uint64_t id;

    if (cli_id_arg(cli, "JOB", &id, err) < 0)
        return -1;
    return watch_job(cli, id, err);
}

static int run_cancel(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    uint64_t id;

    if (cli_id_arg(cli, "JOB", &id, err) < 0)
        return -1;
    path = mem_printf("/v1/jobs/%" PRIu64 "/cancel", id);
    if (client_call(cli, "POST", path, NULL, &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "Job %" PRIu64 " is being stopped, and what it did taken back\n",
                      id);
    return 0;
}

const struct cmd *cmds_jobs(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "jobs",
            .help = "Lists jobs, newest first.",
            .options = {{"open", NULL, "only those that have not ended"}},
            .run = run_list,
        },
        {
            .words = "jobs list",
            .help = "The same.",
            .options = {{"open", NULL, "only those that have not ended"}},
            .hidden = true,
            .run = run_list,
        },
        {
            .words = "jobs show",
            .help = "Shows a job and its tasks.",
            .args = {{"JOB", false, "the job's number"}},
            .run = run_show,
        },
        {
            .words = "jobs watch",
            .help = "Shows a job live, until it has ended.",
            .args = {{"JOB", false, "the job's number"}},
            .run = run_watch,
        },
        {
            .words = "jobs cancel",
            .help = "Stops a job and takes back what it did.",
            .args = {{"JOB", false, "the job's number"}},
            .run = run_cancel,
        },
        {0},
    };

    return cmds;
}
