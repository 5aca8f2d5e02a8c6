// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/settings.h"
#include "cli/table.h"
#include "cli/watch.h"

#include <inttypes.h>
#include <string.h>

/* The reply has a job's number: watches it, or says how to. */
/* Exit code 4 when something is not met: scripts can ask. Takes `body`. */
static int check_only(struct cli *cli, json_t *body, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;

    if (client_call(cli, "POST", "/v1/protections/check", body, &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        show_checks(json_object_get(reply, "checks"), "", &out);
    (void)fputs(str_text(&out), cli->out);
    uint64_t failed = json_get_u64(reply, "failed", 0);
    if (failed)
        return err_set(err, ERR_STATE, 0, "%" PRIu64 " prerequisite%s of protecting %s %s not met",
                       failed, failed == 1 ? "" : "s", json_get_str(reply, "group", ""),
                       failed == 1 ? "is" : "are");
    return 0;
}

/* One is a group of its own name; several are one of that name. `ret_name`: of the group. */
static int take_machines(struct cli *cli, json_t *body, const char **ret_name, struct err *err)
{
    CLEANUP(json_freep) json_t *names = NULL;
    const char *group = NULL;

    if (cli_names_arg(cli, "NAME", &names, err) < 0
        || cli_name_option(cli, "group", &group, err) < 0)
        return -1;
    if (json_array_size(names) > 1 && !group)
        return cli_usage(cli, err,
                         "several machines are a group, which needs a name; hint: --group NAME, or "
                         "protect one after the other, each with points of its own");
    *ret_name = group ? group : cli_arg(cli, "NAME");
    if (json_array_size(names) == 1)
        (void)json_object_set(body, "machine", json_array_get(names, 0));
    else
        (void)json_object_set(body, "machines", names);
    if (group)
        (void)json_object_set_new(body, "group", json_string(group));
    return 0;
}

static int run_protect(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    const char *peer = NULL;
    const char *policy = NULL;
    const char *name;
    size_t count;

    if (take_machines(cli, body, &name, err) < 0 || cli_name_option(cli, "to", &peer, err) < 0
        || cli_name_option(cli, "policy", &policy, err) < 0
        || cli_settings(cli, body, &count, err) < 0 || cli_networks(cli, body, err) < 0
        || cli_seeds(cli, body, err) < 0)
        return -1;
    if (!peer)
        return cli_usage(cli, err, "--to SITE is missing; hint: muster protect %s --to SITE", name);
    (void)json_object_set_new(body, "peer", json_string(peer));
    if (policy)
        (void)json_object_set_new(body, "policy", json_string(policy));
    if (cli_flag(cli, "force"))
        (void)json_object_set_new(body, "force", json_true());
    if (cli_flag(cli, "dry-run"))
        return check_only(cli, TAKE(body), err);
    if (client_call(cli, "POST", "/v1/protections", TAKE(body), &reply, err) < 0
        || watch_begun(cli, reply, err) < 0)
        return -1;
    if (!cli->json && !cli_flag(cli, "no-wait"))
        (void)fprintf(cli->out, "%s is protected: its points are kept at %s\n", name, peer);
    return 0;
}

/* Asks for a job on one machine and follows it; `done` is said of it when it has
 * ended well. Takes `body`. */
static int start_job(struct cli *cli, const char *method, const char *folder, const char *verb,
                     json_t *body, const char *done, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *taken = body;
    CLEANUP(mem_freep) char *path = NULL;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0)
        return -1;
    path = mem_printf("/v1/%s/%s%s", folder, name, verb);
    if (client_call(cli, method, path, TAKE(taken), &reply, err) < 0
        || watch_begun(cli, reply, err) < 0)
        return -1;
    if (!cli->json && !cli_flag(cli, "no-wait"))
        (void)fprintf(cli->out, "%s %s\n", name, done);
    return 0;
}

static int run_unprotect(struct cli *cli, struct err *err)
{
    return start_job(cli, "DELETE", "protections", "",
                     json_pack("{s:b, s:b}", "force", cli_flag(cli, "force"), "keep_replica",
                               cli_flag(cli, "keep-replica")),
                     "is no longer protected", err);
}

static int run_stream(struct cli *cli, struct err *err)
{
    return start_job(cli, "POST", "machines", "/stream", NULL, "has disks of its own", err);
}

static int run_reprotect(struct cli *cli, struct err *err)
{
    return start_job(cli, "POST", "protections", "/reprotect",
                     json_pack("{s:b}", "accept_branch", cli_flag(cli, "accept-branch")),
                     "is protected again, to the other site", err);
}

/* "2/5" */
static int take_subset(struct cli *cli, json_t *body, struct err *err)
{
    const char *text = cli_option(cli, "subset");
    CLEANUP(mem_freep) char *first = NULL;
    const char *slash = text ? strchr(text, '/') : NULL;
    uint64_t subset = 0;
    uint64_t of = 0;

    if (!text)
        return 0;
    if (slash)
        first = mem_printf("%.*s", (int)(slash - text), text);
    if (!slash || !str_to_u64(first, &subset) || !str_to_u64(slash + 1, &of) || subset == 0
        || subset > of || of > 1000000)
        return cli_usage(cli, err, "--subset %.40s is none; hint: 1/5 to 5/5 are five fifths",
                         text);
    (void)json_object_set_new(body, "subset", json_integer((json_int_t)subset));
    (void)json_object_set_new(body, "of", json_integer((json_int_t)of));
    return 0;
}

static int run_verify(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *body = json_object();
    uint64_t point = 0;

    if (take_subset(cli, body, err) < 0
        || cli_number_option(cli, "point", 1, INT64_MAX, &point, err) < 0)
        return -1;
    if (point)
        (void)json_object_set_new(body, "point", json_integer((json_int_t)point));
    return start_job(cli, "POST", "protections", "/verify", TAKE(body),
                     "was read: all of it is as it was written", err);
}

/* POST on one protection, and a line about it. */
static int act(struct cli *cli, const char *verb, const char *done, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0)
        return -1;
    path = mem_printf("/v1/protections/%s/%s", name, verb);
    if (client_call(cli, "POST", path, NULL, &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "%s: %s\n", name, done);
    return 0;
}

static int run_retry(struct cli *cli, struct err *err)
{
    return act(cli, "retry", "tried again now; `muster status` shows how it goes", err);
}

static int run_resync(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(mem_freep) char *path = NULL;
    const char *name;
    char text[32];

    if (cli_name_arg(cli, "NAME", &name, err) < 0)
        return -1;
    path = mem_printf("/v1/protections/%s/resync", name);
    if (client_call(cli, "POST", path, json_pack("{s:b}", "now", cli_flag(cli, "now")), &reply, err)
        < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else if (json_get_bool(reply, "paused", false))
        (void)fprintf(cli->out, "%s: compared with its replica after `muster resume %s`\n", name,
                      name);
    else if (json_get_bool(reply, "now", false))
        (void)fprintf(cli->out,
                      "%s: compared with its replica now; `muster status %s` shows how far it is\n",
                      name, name);
    else
        (void)fprintf(cli->out, "%s: compared with its replica from %s on; --now begins at once\n",
                      name, text_when(json_get_int(reply, "at_ms", 0), text, sizeof(text)));
    return 0;
}

static int run_pause(struct cli *cli, struct err *err)
{
    return act(cli, "pause", "replication is paused", err);
}

static int run_resume(struct cli *cli, struct err *err)
{
    return act(cli, "resume", "replication goes on", err);
}

static int run_settings(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    CLEANUP(mem_freep) char *path = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    const char *policy = NULL;
    const char *name;
    size_t count;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || cli_name_option(cli, "policy", &policy, err) < 0
        || cli_settings(cli, body, &count, err) < 0 || cli_networks(cli, body, err) < 0)
        return -1;
    if (policy)
        (void)json_object_set_new(body, "policy", json_string(policy));
    if (cli_flag(cli, "reset"))
        (void)json_object_set_new(body, "reset", json_string(cli_option(cli, "reset")));
    path = mem_printf("/v1/protections/%s%s", name, json_object_size(body) ? "/settings" : "");
    bool change = json_object_size(body) > 0;
    if (client_call(cli, change ? "PUT" : "GET", path, change ? TAKE(body) : NULL, &reply, err) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, reply);
        return 0;
    }
    show_settings(reply, json_object_get(reply, "overrides"), json_get_str(reply, "policy", ""),
                  &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

const struct cmd *cmds_protect(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "protect",
            .help = "Keeps disks of a machine, or of several, current at another site.",
            .about =
                "Checks what is needed and names each thing that is missing, copies the disks "
                "while the machine works, then\nmakes a point every interval. Waits for the "
                "first point and shows the progress.\nSettings come from the policy; those that are given "
                "here are this machine's own.\n"
                "Several machines with a --group share one history: each point holds all of them at "
                "one instant, for which those\nthat run are stopped for some milliseconds. They "
                "are failed over together.",
            .args = {{"NAME", false, "the machine, or all machines of a group"}},
            .repeated = true,
            .options =
                {{"to", "SITE", "the paired site that keeps the replica"},
                 {"group", "GROUP", "several machines: what they are called together"},
                 {"policy", "POLICY", "what is not said here comes from it; default"},
                 NETWORKS_OPTION("networks of its cards at the other site"),
                 {"seed", "[DISK=]FILE",
                  "an older copy of the disk at the other site, in its folder of our seeds: only "
                  "what differs is sent; once for each disk"},
                 {"dry-run", NULL, "look at what it takes, and change nothing"},
                 {"force", NULL, "also when it could not be recovered there now"},
                 {"no-wait", NULL, "do not wait for the job"},
                 POLICY_FIELDS(SETTING_OPTION)},
            .examples = {"protect db1 --to lyon", "protect db1 --to lyon --dry-run",
                         "protect db1 --to lyon --seed vda=db1-sunday.qcow2",
                         "protect db1 --to lyon --policy gold --interval 5s",
                         "protect db1 web1 --to lyon --group shop"},
            .run = run_protect,
        },
        {
            .words = "reprotect",
            .help = "Protects a committed machine again, to the site it came from.",
            .about = "A commit does that by itself, unless the other site may have writes of its "
                     "own: those stay there as a branch, listed by `muster branches`, and a person "
                     "says so.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"accept-branch", NULL,
                         "the other site may have writes of its own: keep them there as a branch"},
                        {"no-wait", NULL, "start it and return"}},
            .examples = {"reprotect db1", "reprotect db1 --accept-branch"},
            .run = run_reprotect,
        },
        {
            .words = "stream",
            .help = "Gives a recovered machine disks of its own, while it works.",
            .about = "After a commit its disks are still overlays above a point of the replica; "
                     "afterwards it needs neither. It takes room for all of its disks.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"no-wait", NULL, "start it and return"}},
            .examples = {"stream db1"},
            .run = run_stream,
        },
        {
            .words = "unprotect",
            .help = "Ends a protection: replication stops, and the replica is removed.",
            .args = {{"NAME", false, "the machine, or its group"}},
            .options = {{"force", NULL, "go on when the other site does not answer"},
                        {"keep-replica", NULL, "the replica stays at the other site, as it is"},
                        {"no-wait", NULL, "do not wait for the job"}},
            .run = run_unprotect,
        },
        {
            .words = "verify",
            .help = "Reads a machine's replica and compares all of it with its digests.",
            .about =
                "Damage is named and noted: points that need it are not promoted, and what the "
                "newest point lacks is fetched from the\nsource again with the next one. The exit "
                "code tells whether anything was found. Points come in meanwhile.",
            .args = {{"NAME", false, "the machine, or its group"}},
            .options = {{"subset", "N/M", "only the N-th of M parts: some today, the rest later"},
                        {"point", "N", "only what this point needs"},
                        {"no-wait", NULL, "do not wait for the job"}},
            .examples = {"verify db1", "verify db1 --subset 1/7", "verify db1 --point 17"},
            .run = run_verify,
        },
        {
            .words = "retry",
            .help = "Tries again now, whatever stopped replication.",
            .args = {{"NAME", false, "the machine, or its group"}},
            .run = run_retry,
        },
        {
            .words = "resync",
            .help = "Compares a machine's disks with its replica, sends what differs.",
            .about = "It reads the disks and this site's copy of the replica's digests. What "
                     "differs travels as one point: the replica stays at its last one until "
                     "then, and can be tested and failed over to. It begins in the policy's "
                     "window, stops at its end and goes on in the next; `muster pause` holds it, "
                     "`muster resume` goes on where it was.",
            .args = {{"NAME", false, "the machine, or its group"}},
            .options = {{"now", NULL, "begin at once, and work through"}},
            .examples = {"resync db1", "resync db1 --now"},
            .run = run_resync,
        },
        {
            .words = "pause",
            .help = "Makes no more points of a machine.",
            .args = {{"NAME", false, "the machine, or its group"}},
            .run = run_pause,
        },
        {
            .words = "resume",
            .help = "Makes points of a machine again.",
            .args = {{"NAME", false, "the machine, or its group"}},
            .run = run_resume,
        },
        {
            .words = "settings",
            .help = "Shows or changes the settings of a protected machine, while it runs.",
            .about =
                "What is given becomes the machine's own; --reset makes it the policy's again. "
                "The other site hears of it as soon as it answers.",
            .args = {{"NAME", false, "the machine, or its group"}},
            .options = {{"policy", "POLICY", "another policy; what is the machine's own stays"},
                        NETWORKS_OPTION("networks at the other site, all of them, or none"),
                        {"reset", "SETTING",
                         "a setting that is to be the policy's again, or several with commas, or "
                         "all"},
                        POLICY_FIELDS(SETTING_OPTION)},
            .examples = {"settings db1", "settings db1 --interval 1s",
                         "settings db1 --policy gold --reset interval"},
            .run = run_settings,
        },
        {0},
    };

    return cmds;
}
