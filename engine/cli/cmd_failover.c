// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd.h"
#include "cli/start.h"

static int run_test_failover(struct cli *cli, struct err *err)
{
    struct start start = {.kind = "test", .no_wait = cli_flag(cli, "no-wait")};

    if (cli_name_arg(cli, "NAME", &start.machine, err) < 0
        || cli_number_option(cli, "point", 1, INT64_MAX, &start.point, err) < 0)
        return -1;
    return start_run(cli, &start, err);
}

/* A number is a run; a name is a plan or a machine: the runs of both bear it. */
static int run_cleanup(struct cli *cli, struct err *err)
{
    struct start start = {.kind = "cleanup", .no_wait = cli_flag(cli, "no-wait")};
    const char *text = cli_arg(cli, "WHAT");

    if (!(str_to_u64(text, &start.of_run) && start.of_run > 0)
        && cli_name_arg(cli, "WHAT", &start.plan, err) < 0)
        return -1;
    return start_run(cli, &start, err);
}

static int run_failover(struct cli *cli, struct err *err)
{
    bool planned = cli_flag(cli, "planned");
    struct start start = {
        .kind = planned ? "planned" : "unplanned",
        .last_delta = cli_flag(cli, "last-delta"),
        .yes = cli_flag(cli, "yes"),
        .no_wait = cli_flag(cli, "no-wait"),
    };

    if (cli_name_arg(cli, "NAME", &start.machine, err) < 0
        || cli_number_option(cli, "point", 1, INT64_MAX, &start.point, err) < 0)
        return -1;
    if (planned == cli_flag(cli, "unplanned"))
        return cli_usage(cli, err,
                         "say which: --planned (both sites work, nothing is lost) or --unplanned "
                         "(the other site is gone)");
    return start_run(cli, &start, err);
}

const struct cmd *cmds_failover(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "test-failover",
            .help = "Starts a copy of a machine on an isolated network.",
            .about = "Replication goes on; source and replica are not touched. `muster cleanup` "
                     "takes the copy away.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"point", "N", "the point to use; the newest one without it"},
                        {"no-wait", NULL, "start it and return"}},
            .examples = {"test-failover db1"},
            .run = run_test_failover,
        },
        {
            .words = "cleanup",
            .help = "Takes a test away, and counts what it could not.",
            .args = {{"WHAT", false,
                      "the plan or machine that was tested, or the test's run number"}},
            .options = {{"no-wait", NULL, "start it and return"}},
            .examples = {"cleanup shop", "cleanup 7"},
            .run = run_cleanup,
        },
        {
            .words = "failover",
            .help = "Moves a machine to this site.",
            .about =
                "Says what may be lost, and asks before it starts. Waits for the guest agent of "
                "a machine that has one, 5 minutes at most.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"planned", NULL,
                         "both sites work: shut down, last delta; nothing is lost"},
                        {"unplanned", NULL, "the other site is gone: use what is here"},
                        {"point", "N", "the point to use; the newest one without it"},
                        {"last-delta", NULL,
                         "unplanned: try to shut the machine down and fetch a last delta"},
                        {"yes", NULL, "do not ask"},
                        {"no-wait", NULL, "start it and return"}},
            .examples = {"failover db1 --planned", "failover db1 --unplanned"},
            .run = run_failover,
        },
        {0},
    };

    return cmds;
}
