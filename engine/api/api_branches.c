// SPDX-License-Identifier: Apache-2.0
/* Branches, and looking at what a disk held. The server of a view is a child of the command that
 * looks, so that it ends with it; here it is told what to run. */
#include "api/api_tables.h"
#include "base/fs.h"
#include "base/mem.h"
#include "core/config.h"
#include "sites/branch.h"
#include "sites/viewing.h"
#include "state/state.h"

#include <inttypes.h>

#define LIST_MS 10000
#define VIEW_MS 30000

/* --- Listing ---------------------------------------------------------------------------------- */

static int ask_peer(const struct api_world *world, const char *name, const char *peer,
                    json_t *ret_branches, struct cancel *cancel, struct err *err)
{
    CLEANUP(site_closep) struct site *site = site_remote_new(world->estate, peer);
    CLEANUP(json_freep) json_t *reply = NULL;

    if (site_ask(site, "group.branches", json_pack("{s:s}", "group", name), &reply, cancel, err)
        < 0) {
        const struct err cause = *err;
        return err_set(
            err, cause.code, 0,
            "branches of %s may be kept at %s: %.700s; hint: ask there: `muster branches "
            "%s`",
            name, peer, cause.text, name);
    }
    (void)json_array_extend(ret_branches, json_object_get(reply, "branches"));
    return 0;
}

static int list_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    const char *name = json_get_str(in, "name", "");
    const char *peer = json_get_str(in, "peer", "");
    CLEANUP(json_freep) json_t *branches = NULL;

    if (branch_list(world->estate, name, &branches, err) < 0
        || (*peer && ask_peer(world, name, peer, branches, cancel, err) < 0))
        return -1;
    *ret_out = json_pack("{s:s, s:O}", "name", name, "branches", branches);
    return 0;
}

/* What is kept here, and, where the replica is, what the site keeps that sent it. */
static int list_branches(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    CLEANUP(state_protection_done) struct state_protection row = {0};

    (void)ret_reply;
    if (state_protection_of(api_world_of(req)->state, name, &row, err) < 0)
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_NOT_FOUND, 0,
                             "%s is not protected; hint: `muster status` lists what is", name)
                   : -1;
    return api_defer(req,
                     json_pack("{s:s, s:s}", "name", row.group, "peer",
                               str_eq(row.role, "replica") ? row.peer : ""),
                     LIST_MS, list_work, NULL);
}

/* --- Looking ---------------------------------------------------------------------------------- */

static json_t *point_command(const struct api_world *world, const struct viewing *viewing,
                             const char *socket, const char *pid_path)
{
    CLEANUP(mem_freep) char *dir = mem_printf("dir=%s", viewing->replica_dir);
    CLEANUP(mem_freep) char *disk = mem_printf("disk=%s", viewing->disk);
    CLEANUP(mem_freep) char *point = mem_printf("point=%" PRIu64, viewing->point);
    CLEANUP(mem_freep) char *key = mem_printf("keyfile=%s", viewing->key_path);

    json_t *command = json_pack("[s, s, s, s, s, s, s, s, s, s, s, s, s]", "nbdkit", "--foreground",
                                "--readonly", "--unix", socket, "--pidfile", pid_path,
                                world->config->plugin, "mode=view", dir, disk, point, key);
    if (viewing->luks_path) {
        CLEANUP(mem_freep) char *luks = mem_printf("luks=%s", viewing->luks_path);
        (void)json_array_append_new(command, json_string(luks));
    }
    return command;
}

static json_t *disk_command(const struct viewing *viewing, const char *socket, const char *pid_path)
{
    return json_pack("[s, s, s, s, s, s, s, s, s, s, s, s]", "qemu-nbd", "--read-only",
                     "--persistent", "--shared", "0", "--format", viewing->format, "--pid-file",
                     pid_path, "--socket", socket, viewing->path);
}

static json_t *view_reply(const struct api_world *world, const struct viewing *viewing)
{
    CLEANUP(mem_freep) char *socket = path_join(viewing->dir, "nbd");
    CLEANUP(mem_freep) char *pid_path = path_join(viewing->dir, "pid");
    CLEANUP(mem_freep) char *log = path_join(viewing->dir, "log");
    json_t *command = viewing->replica_dir ? point_command(world, viewing, socket, pid_path)
                                           : disk_command(viewing, socket, pid_path);

    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o}", "view", viewing->name, "disk", viewing->disk,
                     "socket", socket, "ready", pid_path, "log", log, "command", command);
}

static int view_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    const struct viewing_want want = {
        .point = json_get_u64(in, "point", 0),
        .branch = json_get_u64(in, "branch", 0),
        .disk = json_get_str(in, "disk", ""),
        .machine = json_get_str(in, "machine", ""),
        .pid = (int64_t)json_get_u64(in, "pid", 0),
    };
    CLEANUP(viewing_done) struct viewing viewing = {.point = 0};

    if (viewing_begin(world->estate, json_get_str(in, "name", ""), &want, &viewing, cancel, err)
        < 0)
        return -1;
    *ret_out = view_reply(world, &viewing);
    return 0;
}

/* Said where it can be done: the replica's points here, or the branch of a machine of ours. */
static int check_side(const struct api_request *req, const char *name, bool branch, json_t *args,
                      struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (state_protection_of(api_world_of(req)->state, name, &row, err) < 0)
        return err->code == ERR_NOT_FOUND
                   ? err_set(err, ERR_NOT_FOUND, 0,
                             "%s is not protected; hint: `muster status` lists what is", name)
                   : -1;
    if (!branch && str_eq(row.role, "source"))
        return err_set(err, ERR_STATE, 0, "the points of %s are kept at %s; hint: look there", name,
                       row.peer);
    (void)json_object_set_new(args, "name", json_string(row.group));
    (void)json_object_set_new(args, "machine", json_string(str_eq(row.group, name) ? "" : name));
    return 0;
}

static int begin_view(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    const json_t *in = api_in(req);
    bool branch = json_get_u64(in, "branch", 0) != 0;

    (void)ret_reply;
    if ((json_get_u64(in, "point", 0) != 0) == branch)
        return err_set(err, ERR_INVALID, 0, "name a point or a branch of %s, one of the two", name);
    CLEANUP(json_freep) json_t *args = json_deep_copy(in);
    if (check_side(req, name, branch, args, err) < 0)
        return -1;
    return api_defer(req, TAKE(args), VIEW_MS, view_work, NULL);
}

static int end_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                    struct cancel *cancel, struct err *err)
{
    (void)ret_out;
    (void)cancel;
    return viewing_end(world->estate, json_get_str(in, "view", ""), err);
}

static int end_view(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *view = api_param(req, "name");

    (void)ret_reply;
    if (!str_starts(view, "view-"))
        return err_set(err, ERR_NOT_FOUND, 0, "\"%s\" is not a view", view);
    return api_defer(req, json_pack("{s:s}", "view", view), VIEW_MS, end_work, NULL);
}

const struct api_route *api_routes_branches(void)
{
    static const struct api_field view_fields[] = {
        {"point", API_NUMBER, false, "a point of the replica that is kept here"},
        {"branch", API_NUMBER, false, "a branch that is kept here"},
        {"disk", API_TEXT, false,
         "the disk, of a group of several `MACHINE.DISK`, or named by its machine `DISK`; the only "
         "one without it"},
        {"pid", API_NUMBER, true, "the process that looks: with its end the view ends"},
        {0},
    };
    static const struct api_route routes[] = {
        {"GET", "/v1/protections/{name}/branches", list_branches,
         "Lists what an old machine wrote that no point holds.",
         "`{name, branches: [{group, point, parent, generation, cut_ms, extent, note, site, by, "
         "promoted, since_ms, where, disks: [{name, size, bytes, sealed, path, format}]}]}`; "
         "`extent` is `known`, or `unknown` (then `bytes` and `sealed` are -1)",
         NULL},
        {"POST", "/v1/protections/{name}/view", begin_view,
         "Keeps a point for as long as a process lives, and says how to serve its disk.",
         "`{view, disk, socket, ready, log, command: [text]}`: the server to run, and the file it "
         "writes when it is ready",
         view_fields},
        {"DELETE", "/v1/views/{name}", end_view, "Ends a view.", "`{}`", NULL},
        {0},
    };

    return routes;
}
