// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/client.h"
#include "cli/show.h"
#include "cli/watch.h"

#include <inttypes.h>

static int done(struct cli *cli, const json_t *reply, const char *name, const char *what)
{
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "Point %" PRIu64 " of %s %s \"%s\".\n",
                      json_get_u64(reply, "point", 0), name, what,
                      json_get_str(reply, "label", ""));
    return 0;
}

static void print_made(struct cli *cli, const char *name, const json_t *made)
{
    const char *note = json_get_str(made, "note", "");
    const char *label = json_get_str(made, "label", "");

    if (*note)
        (void)fprintf(stderr, "warning: not application-consistent: %s\n", note);
    (void)fprintf(cli->out, "Point %" PRIu64 " of %s, %s-consistent%s%s%s%s.\n",
                  json_get_u64(made, "point", 0), name, json_get_str(made, "consistency", ""),
                  json_get_bool(made, "made", true) ? "" : ": it is off, nothing was written since",
                  *label ? ", stays, pinned as \"" : "", label, *label ? "\"" : "");
}

static int run_create(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(json_freep) json_t *job = NULL;
    CLEANUP(json_freep) json_t *body = json_object();
    const char *consistency = cli_option(cli, "consistency");
    const char *label = NULL;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0 || cli_name_option(cli, "label", &label, err) < 0)
        return -1;
    if (consistency && !str_eq(consistency, "application") && !str_eq(consistency, "crash"))
        return cli_usage(cli, err, "--consistency %.40s is none; hint: application or crash",
                         consistency);
    if (consistency)
        (void)json_object_set_new(body, "consistency", json_string(consistency));
    if (label)
        (void)json_object_set_new(body, "label", json_string(label));
    CLEANUP(mem_freep) char *path = mem_printf("/v1/protections/%s/points", name);
    if (client_call(cli, "POST", path, TAKE(body), &reply, err) < 0
        || watch_begun(cli, reply, err) < 0)
        return -1;
    if (cli->json || cli_flag(cli, "no-wait"))
        return 0;
    if (client_get(cli, &job, err, "/v1/jobs/%" PRIu64, json_get_u64(reply, "job", 0)) < 0)
        return -1;
    print_made(cli, name,
               json_object_get(json_array_get(json_object_get(job, "tasks"), 0), "result"));
    return 0;
}

static int run_pin(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    const char *name;
    const char *label = NULL;
    uint64_t point;

    if (cli_name_arg(cli, "NAME", &name, err) < 0 || cli_id_arg(cli, "POINT", &point, err) < 0
        || cli_name_option(cli, "label", &label, err) < 0)
        return -1;
    if (!label)
        return cli_usage(cli, err, "--label L is missing; hint: a name to unpin it by");
    CLEANUP(mem_freep) char *path = mem_printf("/v1/protections/%s/pins", name);
    if (client_call(cli, "POST", path,
                    json_pack("{s:I, s:s}", "point", (json_int_t)point, "label", label), &reply,
                    err)
        < 0)
        return -1;
    return done(cli, reply, name, "stays, pinned as");
}

static int run_unpin(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    const char *name;
    const char *label;

    if (cli_name_arg(cli, "NAME", &name, err) < 0 || cli_name_arg(cli, "LABEL", &label, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *path = mem_printf("/v1/protections/%s/pins/%s", name, label);
    if (client_call(cli, "DELETE", path, NULL, &reply, err) < 0)
        return -1;
    return done(cli, reply, name, "is no longer pinned as");
}

static int run_prune(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    const char *name;
    uint64_t keep = 0;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || cli_number_option(cli, "keep", 1, 10000, &keep, err) < 0)
        return -1;
    CLEANUP(mem_freep) char *path = mem_printf("/v1/protections/%s/prune", name);
    json_t *body = json_pack("{s:b}", "dry_run", cli_flag(cli, "dry-run"));
    if (keep)
        (void)json_object_set_new(body, "keep", json_integer((json_int_t)keep));
    if (client_call(cli, "POST", path, body, &reply, err) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, reply);
        return 0;
    }
    show_prune(reply, &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

const struct cmd *cmds_points(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "point create",
            .help = "Makes a point of a machine now, and waits until it is there.",
            .about =
                "At either site. `application` freezes the guest's file systems for the cut by "
                "its agent; when that cannot be,\nthe point is made all the same, and a "
                "warning says why. Without --consistency it is as the policy has\nits points: "
                "frozen where that has an interval for such points. With --label it is pinned, "
                "and stays.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"consistency", "C", "application or crash"},
                        {"label", "L", "a name to pin it by"},
                        {"no-wait", NULL, "do not wait until it is there"}},
            .examples = {"point create db1",
                         "point create db1 --consistency application --label before-upgrade"},
            .run = run_create,
        },
        {
            .words = "point pin",
            .help = "Pins a point of a machine's replica: it stays until it is unpinned.",
            .about = "At either site. `muster points` shows pins in the column KEPT. Runs, views "
                     "and branches pin what they\nneed by themselves.",
            .args = {{"NAME", false, "the machine"},
                     {"POINT", false, "the point's number, from `muster points`"}},
            .options = {{"label", "L", "a name for the pin"}},
            .examples = {"point pin db1 17 --label before-upgrade"},
            .run = run_pin,
        },
        {
            .words = "point unpin",
            .help = "Ends a pin: the point goes when the policy does not keep it.",
            .about = "Pins of runs, views and branches end with them.",
            .args = {{"NAME", false, "the machine"}, {"LABEL", false, "the pin's name"}},
            .examples = {"point unpin db1 before-upgrade"},
            .run = run_unpin,
        },
        {
            .words = "prune",
            .help = "Removes points that the policy does not keep, now.",
            .about = "At either site; it says what goes, what stays, and why. Points are pruned "
                     "with each new point, so this is\nfor a full disk, or for fewer points once. "
                     "Pinned points always stay, and so does the newest.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"keep", "N", "only the newest N, this once, 1 to 10000"},
                        {"dry-run", NULL, "only say what would go"}},
            .examples = {"prune db1 --dry-run", "prune db1 --keep 3"},
            .run = run_prune,
        },
        {0},
    };

    return cmds;
}
