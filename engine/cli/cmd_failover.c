// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd.h"
#include "cli/start.h"

static int run_test_failover(struct cli *cli, struct err *err)
{
    struct start start = {.kind = "test", .no_wait = cli_flag(cli, "no-wait")};

    if (cli_name_arg(cli, "NAME", &start.machine, err) < 0
        || cli_point_option(cli, &start.point, err) < 0)
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

/* A number is a run; a name is a plan or a machine. */
static int run_after(struct cli *cli, const char *kind, struct err *err)
{
    struct start start = {
        .kind = kind, .yes = cli_flag(cli, "yes"), .no_wait = cli_flag(cli, "no-wait")};
    const char *text = cli_arg(cli, "WHAT");

    if (!(str_to_u64(text, &start.of_run) && start.of_run > 0)
        && cli_name_arg(cli, "WHAT", &start.plan, err) < 0)
        return -1;
    if (str_eq(kind, "change-point")) {
        if (!cli_option(cli, "point"))
            return cli_usage(cli, err, "--point N is missing; hint: `muster points NAME`");
        if (cli_point_option(cli, &start.point, err) < 0)
            return -1;
    }
    return start_run(cli, &start, err);
}

static int run_commit(struct cli *cli, struct err *err)
{
    return run_after(cli, "commit", err);
}

static int run_rollback(struct cli *cli, struct err *err)
{
    return run_after(cli, "rollback", err);
}

static int run_change_point(struct cli *cli, struct err *err)
{
    return run_after(cli, "change-point", err);
}

static int run_failback(struct cli *cli, struct err *err)
{
    struct start start = {
        .kind = "failback", .yes = cli_flag(cli, "yes"), .no_wait = cli_flag(cli, "no-wait")};

    if (cli_name_arg(cli, "NAME", &start.machine, err) < 0)
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
        || cli_point_option(cli, &start.point, err) < 0)
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
            .options = {{"point", "N",
                         "the point to use, or `application`; the newest one without it"},
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
                        {"point", "N",
                         "the point to use, or `application`; the newest one without it"},
                        {"last-delta", NULL,
                         "unplanned: try to shut the machine down and fetch a last delta"},
                        {"yes", NULL, "do not ask"},
                        {"no-wait", NULL, "start it and return"}},
            .examples = {"failover db1 --planned", "failover db1 --unplanned"},
            .run = run_failover,
        },
        {
            .words = "commit",
            .help = "Makes a failover final, and protects the machines to the other site.",
            .about = "Nothing is destroyed: older points stay. There is no rollback afterwards; "
                     "`muster failback` brings machines back. When the other site may have writes "
                     "of its own, protecting waits for `muster reprotect NAME --accept-branch`.",
            .args = {{"WHAT", false, "the plan or machine, or the failover's run number"}},
            .options = {{"no-wait", NULL, "start it and return"}},
            .examples = {"commit db1", "commit shop", "commit 7"},
            .run = run_commit,
        },
        {
            .words = "rollback",
            .help = "Takes a failover back before its commit.",
            .about = "What the recovered machines wrote is given up; the old ones are started "
                     "again where they were. Both sites are needed.",
            .args = {{"WHAT", false, "the plan or machine, or the failover's run number"}},
            .options = {{"yes", NULL, "do not ask"}, {"no-wait", NULL, "start it and return"}},
            .examples = {"rollback db1"},
            .run = run_rollback,
        },
        {
            .words = "change-point",
            .help = "Starts failed-over machines anew from another point.",
            .about =
                "Before the commit. What the recovered machines wrote is given up; all points stay.",
            .args = {{"WHAT", false, "the plan or machine, or the failover's run number"}},
            .options = {{"point", "N", "the point to start from, or `application`"},
                        {"yes", NULL, "do not ask"},
                        {"no-wait", NULL, "start it and return"}},
            .examples = {"change-point db1 --point 41"},
            .run = run_change_point,
        },
        {
            .words = "failback",
            .help = "Brings a machine back to this site, where it came from.",
            .about = "As a planned failover in the other direction: nothing is lost. The machine "
                     "starts on its own disks, which replication has brought up meanwhile.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"yes", NULL, "do not ask"}, {"no-wait", NULL, "start it and return"}},
            .examples = {"failback db1"},
            .run = run_failback,
        },
        {0},
    };

    return cmds;
}
