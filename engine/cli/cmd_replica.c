// SPDX-License-Identifier: Apache-2.0
/* Replicas as folders. `inspect` asks no daemon; `adopt` has the daemon take one. */
#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/show.h"
#include "cli/table.h"
#include "replica/inspect.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static int run_inspect(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *report = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    struct clock *clock = clock_real();
    const char *dir = cli_arg(cli, "DIR");

    if (replica_inspect(dir, &report, err) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, report);
    } else {
        show_replica(report, clock->wall_ms(clock), &out);
        (void)fputs(str_text(&out), cli->out);
    }
    size_t faults = json_array_size(json_object_get(report, "faults"));
    if (faults > 0)
        return err_set(err, ERR_CORRUPT, 0, "%s: %zu thing%s of it %s damaged or missing", dir,
                       faults, faults == 1 ? "" : "s", faults == 1 ? "is" : "are");
    return 0;
}

/* The daemon is somewhere else. */
static int put_path(json_t *body, const char *key, const char *path, struct err *err)
{
    if (!path)
        return 0;
    CLEANUP(mem_freep) char *whole = realpath(path, NULL);
    if (!whole)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "%s", path);
    (void)json_object_set_new(body, key, json_string(whole));
    return 0;
}

static void say_adopted(const struct cli *cli, const json_t *reply)
{
    const char *name = json_get_str(reply, "name", "");
    const char *peer = json_get_str(reply, "peer", "");
    char when[32];

    (void)fprintf(cli->out,
                  "The replica of %s from %s is this site's again: %" PRId64
                  " points, the newest %" PRId64 " of %s, generation %" PRId64 "\n",
                  name, peer, json_get_int(reply, "points", 0),
                  json_get_int(reply, "newest_point", 0),
                  text_when(json_get_int(reply, "newest_cut_ms", 0), when, sizeof(when)),
                  json_get_int(reply, "generation", 0));
    if (!json_get_bool(reply, "described", true))
        (void)fprintf(cli->out,
                      "Its settings did not come with it: they are the defaults until %s sends "
                      "them\n",
                      peer);
    (void)fprintf(cli->out, "It can be tested and failed over now: `muster test-failover %s`\n",
                  name);
    if (!json_get_bool(reply, "paired", true))
        (void)fprintf(cli->out,
                      "%s is not paired with this site: new points come once it is. Was this site "
                      "set up anew,\nsay `muster site pair remove %s --force` there first; then "
                      "`muster site pair issue` here and\n`muster site pair join TOKEN` there\n",
                      peer, json_get_str(reply, "site", "THIS-SITE"));
}

static int run_adopt(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    const char *peer = NULL;

    if (cli_name_option(cli, "from", &peer, err) < 0
        || put_path(body, "dir", cli_arg(cli, "DIR"), err) < 0
        || put_path(body, "key", cli_option(cli, "key"), err) < 0
        || put_path(body, "luks_key", cli_option(cli, "luks-key"), err) < 0)
        return -1;
    if (peer)
        (void)json_object_set_new(body, "peer", json_string(peer));
    if (cli_flag(cli, "move"))
        (void)json_object_set_new(body, "move", json_true());
    if (client_call(cli, "POST", "/v1/replicas", TAKE(body), &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        say_adopted(cli, reply);
    return 0;
}

const struct cmd *cmds_replica(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "replica inspect",
            .help = "Says what a replica's folder holds, and what is wrong with it.",
            .about = "Asks no daemon, needs no key and changes nothing: the folder may be a copy, "
                     "on a medium that is read-only,\nor in use. Damage makes the command fail. "
                     "What is in the disks is not read.",
            .args = {{"DIR", false, "the folder, replicas/NAME of a site"}},
            .examples = {"replica inspect /var/lib/muster/replicas/db1"},
            .run = run_inspect,
        },
        {
            .words = "replica adopt",
            .help = "Takes a replica's folder that this site does not know.",
            .about = "For a site that lost its database, or a new one in the place of one that was "
                     "lost. The folder says what it is;\nits keys are those of `keys/` of the site "
                     "that made it, and are kept by this one. Then the machine can be\ntested and "
                     "failed over, and gets new points once the site that sends it is paired.",
            .args = {{"DIR", false, "the folder; replicas/NAME of this site, or see --move"}},
            .options = {{"key", "FILE", "the group's key; keys/NAME.key of this site"},
                        {"luks-key", "FILE",
                         "what opens one encrypted at rest; keys/NAME.luks of this site"},
                        {"from", "SITE", "the site that sends it; as it says itself"},
                        {"move", NULL, "move the folder to where this site has its replicas"}},
            .examples = {"replica adopt /mnt/rescued/db1 --key /mnt/rescued/db1.key --move"},
            .run = run_adopt,
        },
        {0},
    };

    return cmds;
}
