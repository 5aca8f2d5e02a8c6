// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/start.h"
#include "cli/watch.h"
#include "verbs/verb.h"

#include <inttypes.h>

static int run_run(struct cli *cli, struct err *err)
{
    struct start start = {
        .kind = cli_option(cli, "kind"),
        .last_delta = cli_flag(cli, "last-delta"),
        .yes = cli_flag(cli, "yes"),
        .no_wait = cli_flag(cli, "no-wait"),
    };

    if (cli_name_arg(cli, "PLAN", &start.plan, err) < 0
        || cli_point_option(cli, &start.point, err) < 0)
        return -1;
    if (!start.kind)
        return cli_usage(cli, err, "--kind is missing; hint: test, planned, unplanned or failback");
    if (run_kind_parse(start.kind) < 0)
        return cli_usage(cli, err,
                         "--kind: \"%.32s\" is no kind of run; hint: test, planned, unplanned, "
                         "failback or cleanup",
                         start.kind);
    return start_run(cli, &start, err);
}

static int run_list(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;

    if (client_get(cli, &reply, err, "/v1/runs") < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, json_object_get(reply, "runs"));
        return 0;
    }
    show_runs(json_object_get(reply, "runs"), &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

static int run_show(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    struct look look;
    uint64_t id;

    if (cli_id_arg(cli, "RUN", &id, err) < 0
        || client_get(cli, &reply, err, "/v1/runs/%" PRIu64, id) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, reply);
        return 0;
    }
    cli_look(cli, &look);
    show_run(reply, cli_now_ms(), &look, &out);
    if (!json_get_bool(reply, "active", false)) {
        str_add(&out, "\n");
        show_run_end(reply, &out);
    }
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

static int run_watch(struct cli *cli, struct err *err)
{
    uint64_t id;

    if (cli_id_arg(cli, "RUN", &id, err) < 0)
        return -1;
    return watch_run(cli, id, err);
}

static int run_cancel(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    uint64_t id;

    if (cli_id_arg(cli, "RUN", &id, err) < 0)
        return -1;
    path = mem_printf("/v1/runs/%" PRIu64 "/cancel", id);
    if (client_call(cli, "POST", path, NULL, &reply, err) < 0)
        return -1;
    if (cli_flag(cli, "no-wait")) {
        if (cli->json)
            cli_print_json(cli, reply);
        return 0;
    }
    return watch_cancelled_run(cli, id, err);
}

static int decide(struct cli *cli, const char *decision, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    const char *reason = cli_option(cli, "reason");
    uint64_t id, step = 0;
    json_t *body;

    if (cli_id_arg(cli, "RUN", &id, err) < 0
        || cli_number_option(cli, "step", 1, INT64_MAX, &step, err) < 0)
        return -1;
    if (!cli_flag(cli, "step"))
        return cli_usage(
            cli, err, "--step N is missing; hint: `muster run show %" PRIu64 "` shows what waits",
            id);
    if (str_eq(decision, "skip") && (!reason || !*reason))
        return cli_usage(cli, err, "--reason TEXT is missing: a step is skipped with a reason");
    body = json_pack("{s:I, s:s, s:s}", "step", (json_int_t)step - 1, "decision", decision,
                     "reason", reason ? reason : "");
    path = mem_printf("/v1/runs/%" PRIu64 "/decide", id);
    if (client_call(cli, "POST", path, body, &reply, err) < 0)
        return -1;
    return watch_run(cli, id, err);
}

static int run_retry(struct cli *cli, struct err *err)
{
    return decide(cli, "retry", err);
}

static int run_skip(struct cli *cli, struct err *err)
{
    return decide(cli, "skip", err);
}

static int run_fail(struct cli *cli, struct err *err)
{
    return decide(cli, "fail", err);
}

static int answer(struct cli *cli, const char *word, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    const char *note = cli_option(cli, "note");
    uint64_t id, step = 0;
    json_t *body;

    if (cli_id_arg(cli, "RUN", &id, err) < 0
        || cli_number_option(cli, "step", 1, INT64_MAX, &step, err) < 0)
        return -1;
    body = json_pack("{s:s}", "note", note ? note : "");
    if (step > 0)
        (void)json_object_set_new(body, "step", json_integer((json_int_t)step - 1));
    path = mem_printf("/v1/runs/%" PRIu64 "/%s", id, word);
    if (client_call(cli, "POST", path, body, &reply, err) < 0)
        return -1;
    if (!cli_flag(cli, "no-wait"))
        return watch_run(cli, id, err);
    if (cli->json)
        cli_print_json(cli, reply);
    return 0;
}

static int run_approve(struct cli *cli, struct err *err)
{
    return answer(cli, "approve", err);
}

static int run_deny(struct cli *cli, struct err *err)
{
    return answer(cli, "deny", err);
}

static const struct cmd cmds[] = {
    {
        .words = "run",
        .help = "Runs a plan, and shows it live.",
        .about = "Prints the runbook first. A planned or unplanned run says what it may lose, "
                 "and asks before it starts.\nCtrl-C stops the showing, not the run. Run it at "
                 "the site that is to own the machines.",
        .args = {{"PLAN", false, "a stored plan"}},
        .options = {{"kind", "KIND", "test, planned, unplanned, failback or cleanup"},
                    {"point", "N", "the point to use, or `application`; the newest one without it"},
                    {"last-delta", NULL,
                     "unplanned: try to shut the machines down and fetch a last delta"},
                    {"yes", NULL, "do not ask"},
                    {"no-wait", NULL, "start it and return"}},
        .examples = {"run shop --kind test", "run shop --kind planned",
                     "run shop --kind unplanned --yes", "run shop --kind failback"},
        .run = run_run,
    },
    {
        .words = "run list",
        .help = "Lists runs, newest first.",
        .run = run_list,
    },
    {
        .words = "run show",
        .help = "Shows a run, its steps and its report.",
        .args = {{"RUN", false, "the run's number"}},
        .run = run_show,
    },
    {
        .words = "run watch",
        .help = "Shows a run live, until it does nothing more.",
        .args = {{"RUN", false, "the run's number"}},
        .run = run_watch,
    },
    {
        .words = "run cancel",
        .help = "Lets what is in flight finish, then takes back what can be.",
        .args = {{"RUN", false, "the run's number"}},
        .options = {{"no-wait", NULL, "do not wait for its end"}},
        .run = run_cancel,
    },
    {
        .words = "run approve",
        .help = "Says yes to a step that asks.",
        .about = "Whom the plan names may answer, known by his user name on this host. The answer "
                 "is kept with the run.",
        .args = {{"RUN", false, "the run's number"}},
        .options = {{"step", "N", "which step, counted from 1; needed when several ask"},
                    {"note", "TEXT", "why"},
                    {"no-wait", NULL, "do not wait for the run's end"}},
        .examples = {"run approve 12", "run approve 12 --step 4 --note fine --no-wait"},
        .run = run_approve,
    },
    {
        .words = "run deny",
        .help = "Says no to a step that asks: it fails.",
        .args = {{"RUN", false, "the run's number"}},
        .options = {{"step", "N", "which step, counted from 1; needed when several ask"},
                    {"note", "TEXT", "why"},
                    {"no-wait", NULL, "do not wait for the run's end"}},
        .run = run_deny,
    },
    {
        .words = "run retry",
        .help = "Does a step of a paused run again.",
        .args = {{"RUN", false, "the run's number"}},
        .options = {{"step", "N", "which step, counted from 1"}},
        .run = run_retry,
    },
    {
        .words = "run skip",
        .help = "Takes a step of a paused run as done.",
        .args = {{"RUN", false, "the run's number"}},
        .options = {{"step", "N", "which step, counted from 1"},
                    {"reason", "TEXT", "why; it is kept with the run"}},
        .run = run_skip,
    },
    {
        .words = "run fail",
        .help = "Takes a step of a paused run as failed.",
        .args = {{"RUN", false, "the run's number"}},
        .options = {{"step", "N", "which step, counted from 1"},
                    {"reason", "TEXT", "why; it is kept with the run"}},
        .run = run_fail,
    },
    {0},
};

const struct cmd *cmds_run(void)
{
    return cmds;
}
