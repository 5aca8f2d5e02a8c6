// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/table.h"
#include "cli/watch.h"
#include "sync/policy.h"

#include <inttypes.h>

/* The reply has a job's number: watches it, or says how to. */
static int follow(struct cli *cli, const json_t *reply, struct err *err)
{
    uint64_t job = json_get_u64(reply, "job", 0);

    if (!cli_flag(cli, "no-wait"))
        return watch_job(cli, job, err);
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "Job %" PRIu64 " has begun; `muster jobs watch %" PRIu64 "`\n", job,
                      job);
    return 0;
}

static int take_settings(struct cli *cli, int64_t *ret_interval_ms, uint64_t *ret_keep,
                         struct err *err)
{
    if (cli_duration_option(cli, "interval", POLICY_INTERVAL_MIN_MS, POLICY_INTERVAL_MAX_MS,
                            ret_interval_ms, err)
        < 0)
        return -1;
    return cli_number_option(cli, "keep", 1, RETENTION_KEEP_MAX, ret_keep, err);
}

static int run_protect(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    static const char *const compressions[] = {"none", "zstd", "lz4", NULL};
    const char *peer = NULL;
    const char *compression = NULL;
    int64_t interval_ms = 0;
    uint64_t keep = 0;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || take_settings(cli, &interval_ms, &keep, err) < 0
        || cli_name_option(cli, "to", &peer, err) < 0
        || cli_word_option(cli, "compression", compressions, &compression, err) < 0)
        return -1;
    if (!peer)
        return cli_usage(cli, err, "--to SITE is missing; hint: muster protect %s --to SITE", name);
    (void)json_object_set_new(body, "machine", json_string(name));
    (void)json_object_set_new(body, "peer", json_string(peer));
    if (cli_flag(cli, "interval"))
        (void)json_object_set_new(body, "interval_ms", json_integer((json_int_t)interval_ms));
    if (cli_flag(cli, "keep"))
        (void)json_object_set_new(body, "keep", json_integer((json_int_t)keep));
    if (compression)
        (void)json_object_set_new(body, "compression", json_string(compression));
    if (client_call(cli, "POST", "/v1/protections", TAKE(body), &reply, err) < 0
        || follow(cli, reply, err) < 0)
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
    if (client_call(cli, method, path, TAKE(taken), &reply, err) < 0 || follow(cli, reply, err) < 0)
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
    int64_t interval_ms = 0;
    uint64_t keep = 0;
    const char *name;
    char text[32];

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || take_settings(cli, &interval_ms, &keep, err) < 0)
        return -1;
    if (cli_flag(cli, "interval"))
        (void)json_object_set_new(body, "interval_ms", json_integer((json_int_t)interval_ms));
    if (cli_flag(cli, "keep"))
        (void)json_object_set_new(body, "keep", json_integer((json_int_t)keep));
    path = mem_printf("/v1/protections/%s/settings", name);
    if (client_call(cli, "PUT", path, TAKE(body), &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "%s: a point every %s, %" PRId64 " kept\n", name,
                      str_duration(json_get_int(reply, "interval_ms", 0), text, sizeof(text)),
                      json_get_int(reply, "keep", 0));
    return 0;
}

const struct cmd *cmds_protect(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "protect",
            .help = "Keeps a machine's disks current at another site.",
            .about = "Checks what is needed and names each thing that is missing, copies the disks "
                     "while the machine works, then\nmakes a point every interval. Waits for the "
                     "first point and shows the progress.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"to", "SITE", "the paired site that keeps the replica"},
                        {"interval", "DURATION", "from point to point, 1s to 24h; 15s"},
                        {"keep", "N", "how many points the replica keeps, 1 to 10000; 24"},
                        {"compression", "HOW", "none, zstd or lz4; zstd"},
                        {"no-wait", NULL, "do not wait for the job"}},
            .examples = {"protect db1 --to lyon --interval 5s"},
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
            .args = {{"NAME", false, "the machine"}},
            .options = {{"force", NULL, "go on when the other site does not answer"},
                        {"keep-replica", NULL, "the replica stays at the other site, as it is"},
                        {"no-wait", NULL, "do not wait for the job"}},
            .run = run_unprotect,
        },
        {
            .words = "retry",
            .help = "Tries again now, whatever stopped replication.",
            .args = {{"NAME", false, "the machine"}},
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
            .args = {{"NAME", false, "the machine"}},
            .options = {{"now", NULL, "begin at once, and work through"}},
            .examples = {"resync db1", "resync db1 --now"},
            .run = run_resync,
        },
        {
            .words = "pause",
            .help = "Makes no more points of a machine.",
            .args = {{"NAME", false, "the machine"}},
            .run = run_pause,
        },
        {
            .words = "resume",
            .help = "Makes points of a machine again.",
            .args = {{"NAME", false, "the machine"}},
            .run = run_resume,
        },
        {
            .words = "settings",
            .help = "Changes how often points are made, and how many are kept.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"interval", "DURATION", "from point to point, 1s to 24h"},
                        {"keep", "N", "how many points the replica keeps, 1 to 10000"}},
            .examples = {"settings db1 --interval 1s"},
            .run = run_settings,
        },
        {0},
    };

    return cmds;
}
