// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "cli/cli_view.h"
#include "cli/client.h"
#include "cli/table.h"

#include <inttypes.h>

/* --- branches --------------------------------------------------------------------------------- */

static void add_disk(struct table *table, const json_t *branch, const json_t *disk)
{
    int64_t bytes = json_get_int(disk, "bytes", -1);
    char text[32];

    table_addf(table, "%" PRIu64, json_get_u64(branch, "point", 0));
    table_addf(table, "%" PRIu64, json_get_u64(branch, "parent", 0));
    table_addf(table, "%" PRIu64, json_get_u64(branch, "generation", 0));
    table_add(table, text_when(json_get_int(branch, "cut_ms", 0), text, sizeof(text)));
    table_add(table, json_get_str(disk, "name", ""));
    table_add(table, bytes < 0 ? "unknown" : str_bytes((uint64_t)bytes, text, sizeof(text)));
    table_add(table, json_get_str(branch, "site", ""));
    table_add(table, json_get_str(branch, "where", ""));
}

static void print_branches(const struct cli *cli, const char *name, const json_t *branches)
{
    static const char *const columns[] = {">BRANCH",  ">AFTER", ">GENERATION", "CUT", "DISK",
                                          ">CHANGED", "SITE",   "WHERE",       NULL};
    CLEANUP(table_freep) struct table *table = table_new(columns);
    CLEANUP(str_free) struct str out = STR_EMPTY;
    const json_t *branch, *disk;
    size_t i, k;

    json_array_foreach(branches, i, branch)
        json_array_foreach(json_object_get(branch, "disks"), k, disk)
            add_disk(table, branch, disk);
    table_render(table, &out);
    if (json_array_size(branches) == 0)
        str_addf(&out, "%s has no branch: nothing was written that no point holds\n", name);
    json_array_foreach(branches, i, branch)
        if (*json_get_str(branch, "note", ""))
            str_addf(&out, "Branch %" PRIu64 ": %s\n", json_get_u64(branch, "point", 0),
                     json_get_str(branch, "note", ""));
    (void)fputs(str_text(&out), cli->out);
}

static int run_branches(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    const char *name;

    if (cli_name_arg(cli, "NAME", &name, err) < 0
        || client_get(cli, &reply, err, "/v1/protections/%s/branches", name) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, json_object_get(reply, "branches"));
    else
        print_branches(cli, name, json_object_get(reply, "branches"));
    return 0;
}

/* --- view ------------------------------------------------------------------------------------- */

static void print_address(const struct cli *cli, const struct cli_view *view)
{
    if (cli->json) {
        CLEANUP(json_freep)
        json_t *json = json_pack("{s:s, s:s, s:s}", "uri", view->uri, "disk", cli_view_disk(view),
                                 "view", json_get_str(view->reply, "view", ""));
        cli_print_json(cli, json);
    } else {
        (void)fprintf(cli->out, "%s\n", view->uri);
    }
    (void)fflush(cli->out);
}

static int run_view(struct cli *cli, struct err *err)
{
    CLEANUP(cli_view_close) struct cli_view view = {.signal_fd = -1};
    int rc = 0;

    if (cli_view_open(cli, &view, err) < 0)
        return -1;
    if (!view.uri)
        return 0;
    print_address(cli, &view);
    while (rc == 0)
        rc = cli_view_wait(&view, 500, err);
    return rc < 0 ? -1 : 0;
}

const struct cmd *cmds_branches(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "branches",
            .help = "Lists what an old machine wrote that no point holds.",
            .about =
                "When a machine was failed over while its site was cut off, it may have written "
                "on. Once the sites meet\nit is stopped, and its writes since the last point both "
                "sites have are kept: a branch.",
            .args = {{"NAME", false, "the machine"}},
            .examples = {"branches db1"},
            .run = run_branches,
        },
        {
            .words = "view",
            .help = "Shows a disk as it was, read-only, until Ctrl-C.",
            .about = "Prints the address of an NBD export on a unix socket of this host. A point "
                     "is looked at where the\nreplica is kept, and is kept as long; a branch "
                     "where its machine ran. Nothing is left behind.",
            .args = {{"NAME", false, "the machine"}},
            .options = {{"point", "N", "a point of the replica, or `application`"},
                        {"branch", "N", "a branch"},
                        {"disk", "NAME", "which disk, when there are several"}},
            .examples = {"view db1 --point 17", "view db1 --branch 18 --disk vda"},
            .run = run_view,
        },
        {0},
    };

    return cmds;
}
