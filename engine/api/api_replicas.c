// SPDX-License-Identifier: Apache-2.0
/* Adopting a replica's folder: looked at on a pool thread, its names checked on the loop, moved and its
 * keys kept on a pool thread again, and then its row. Cut anywhere, it is asked for again. */
#include "api/api_tables.h"
#include "base/mem.h"
#include "link/tls.h"
#include "run/job.h"
#include "sites/taking.h"
#include "state/state.h"

#include <inttypes.h>
#include <stdio.h>

#define ADOPT_MS 120000

/* --- The row ------------------------------------------------------------------------------ */

/* Of a replica that was never described: what its points tell, and the defaults. */
static json_t *settings_from_points(const json_t *report)
{
    json_t *machines = json_array();
    json_t *agents = json_array();
    json_t *disks = json_array();
    struct policy policy;
    const char *name;
    json_t *value;
    size_t i;

    json_object_foreach(json_object_get(report, "machines"), name, value) {
        (void)json_array_append_new(machines, json_string(name));
        if (json_get_bool(value, "agent", false))
            (void)json_array_append_new(agents, json_string(name));
    }
    json_array_foreach(json_object_get(report, "disks"), i, value)
        (void)json_array_append_new(disks,
                                    json_pack("{s:s, s:I}", "name", json_get_str(value, "name", ""),
                                              "size", (json_int_t)json_get_u64(value, "size", 0)));
    json_t *settings =
        json_pack("{s:s, s:o, s:o, s:o}", "writer_key", json_get_str(report, "writer_key", ""),
                  "disks", disks, "machines", machines, "agents", agents);
    policy_init(&policy);
    if (str_eq(json_get_str(report, "encryption", ""), "at-rest"))
        policy.encryption = POLICY_ENCRYPTION_AT_REST;
    policy_put(&policy, settings);
    return settings;
}

static json_t *settings_of(const json_t *report, int64_t now_ms)
{
    json_t *kept = json_object_get(json_object_get(report, "protection"), "settings");
    json_t *settings = json_is_object(kept) && *json_get_str(kept, "writer_key", "")
                           ? json_deep_copy(kept)
                           : settings_from_points(report);

    (void)json_object_set_new(settings, "recreated_ms", json_integer(now_ms));
    return settings;
}

/* The site that sends it: said, described, or the one that made its points. */
static const char *peer_of(const json_t *in, const json_t *report)
{
    const char *described = json_get_str(json_object_get(report, "protection"), "peer", "");
    const char *said = json_get_str(in, "peer", "");

    if (*said)
        return said;
    return *described ? described : json_get_str(report, "site", "");
}

static int check_peer(const struct api_world *world, const char *peer, struct err *err)
{
    if (!str_is_name(peer))
        return err_set(err, ERR_INVALID, 0,
                       "the replica does not say which site it comes from; hint: --from SITE");
    if (str_eq(peer, estate_site(world->estate)))
        return err_set(err, ERR_INVALID, 0,
                       "the replica comes from %s, which is this site; hint: --from SITE names the "
                       "other one",
                       peer);
    return 0;
}

/* Neither the group's name nor that of a machine of it is anybody's here. */
static int check_names(const struct api_world *world, const json_t *report, struct err *err)
{
    const char *group = json_get_str(report, "group", "");
    struct machine_names names;

    if (machine_names_of(json_object_get(report, "machines"), group, &names, err) < 0
        || api_machine_check_new(world, group, err) < 0)
        return -1;
    for (size_t i = 0; i < names.count; i++)
        if (!str_eq(names.at[i], group) && api_machine_check_new(world, names.at[i], err) < 0)
            return -1;
    return 0;
}

static int put_row(const struct api_world *world, const json_t *in, const json_t *report,
                   struct err *err)
{
    int64_t now = world->clock->wall_ms(world->clock);
    const json_t *described = json_object_get(report, "protection");
    bool kept = str_eq(json_get_str(described, "state", ""), "kept");
    CLEANUP(json_freep) json_t *settings = settings_of(report, now);
    CLEANUP(mem_freep) char *text = json_text(settings);
    CLEANUP(mem_freep) char *group = mem_strdup(json_get_str(report, "group", ""));
    CLEANUP(mem_freep) char *peer = mem_strdup(peer_of(in, report));
    CLEANUP(mem_freep) char *state = mem_strdup(kept ? "kept" : "protected");
    struct estate_replica replica = {.group = ""};
    struct job_settings parsed;
    const struct state_protection row = {
        .group = group,
        .peer = peer,
        .role = (char[]){"replica"},
        .state = state,
        .settings = text,
        .generation = json_get_u64(report, "generation", 1),
        .since_ms = now,
    };

    if (job_settings_parse(text, &parsed, err) < 0 || job_machines(&row, &replica.machines, err) < 0
        || !str_unhex(json_get_str(settings, "writer_key", ""), replica.writer_key,
                      sizeof(replica.writer_key)))
        return err_set(err, ERR_CORRUPT, 0, "%s: what it says of its protection cannot be read",
                       group);
    replica.at_rest = parsed.policy.encryption == POLICY_ENCRYPTION_AT_REST;
    (void)snprintf(replica.group, sizeof(replica.group), "%s", group);
    (void)snprintf(replica.peer, sizeof(replica.peer), "%s", peer);
    return state_protection_put(world->state, &row, err) < 0
               ? -1
               : estate_replica_add(world->estate, &replica, err);
}

/* --- Work --------------------------------------------------------------------------------- */

static struct taking taking_of(const json_t *in)
{
    return (struct taking){
        .dir = json_get_str(in, "dir", ""),
        .key = json_get_str(in, "key", NULL),
        .luks_key = json_get_str(in, "luks_key", NULL),
        .move = json_get_bool(in, "move", false),
    };
}

static int look_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    const struct taking taking = taking_of(in);

    (void)cancel;
    return taking_look(world->estate, &taking, ret_out, err);
}

static bool is_paired(const struct api_world *world, const char *peer)
{
    struct err none = ERR_EMPTY;
    struct tls_peer *peers = NULL;
    size_t count = 0;
    bool found = false;

    if (pair_list(world->keys_dir, &peers, &count, &none) < 0)
        return false;
    for (size_t i = 0; i < count; i++)
        found |= str_eq(peers[i].name, peer);
    free(peers);
    return found;
}

static int do_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                   struct cancel *cancel, struct err *err)
{
    const struct taking taking = taking_of(in);
    const json_t *report = json_object_get(in, "report");

    (void)cancel;
    if (taking_do(world->estate, &taking, json_get_str(report, "group", ""), err) < 0)
        return -1;
    *ret_out = json_pack("{s:b}", "paired", is_paired(world, peer_of(in, report)));
    return 0;
}

static int do_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                     struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const json_t *report = json_object_get(in, "report");
    const json_t *points = json_object_get(report, "points");
    const json_t *newest = json_array_get(points, json_array_size(points) - 1);
    const char *group = json_get_str(report, "group", "");
    const char *peer = peer_of(in, report);

    /* Asked again: two may have asked for it at once. */
    if (check_names(world, report, err) < 0 || put_row(world, in, report, err) < 0
        || api_audit(req, "replica.adopt", group, json_get_str(in, "dir", ""), err) < 0)
        return -1;
    *ret_reply = json_pack("{s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:s, s:b}", "name", group,
                           "site", estate_site(world->estate), "peer", peer, "paired",
                           json_get_bool(out, "paired", false), "generation",
                           (json_int_t)json_get_u64(report, "generation", 0), "points",
                           (json_int_t)json_array_size(points), "newest_point",
                           (json_int_t)json_get_u64(newest, "point", 0), "newest_cut_ms",
                           (json_int_t)json_get_u64(newest, "cut_ms", 0), "encryption",
                           json_get_str(report, "encryption", ""), "described",
                           json_is_object(json_object_get(report, "protection")));
    return 0;
}

static int look_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                       struct err *err)
{
    const struct api_world *world = api_world_of(req);
    json_t *next;

    (void)ret_reply;
    if (check_names(world, out, err) < 0 || check_peer(world, peer_of(in, out), err) < 0)
        return -1;
    next = json_deep_copy(in);
    (void)json_object_set(next, "report", out);
    return api_defer(req, next, ADOPT_MS, do_work, do_finish);
}

static int adopt_replica(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    (void)err;
    return api_defer(req, json_deep_copy(api_in(req)), ADOPT_MS, look_work, look_finish);
}

const struct api_route *api_routes_replicas(void)
{
    static const struct api_field fields[] = {
        {"dir", API_TEXT, true, "its folder, an absolute path on this host"},
        {"key", API_TEXT, false, "the file of the group's key; the site's own `keys/GROUP.key`"},
        {"luks_key", API_TEXT, false,
         "what opens one that is encrypted at rest; the site's own `keys/GROUP.luks`"},
        {"peer", API_NAME, false, "the site that it comes from; as it says itself"},
        {"move", API_BOOL, false, "it may be moved to where the site has its replicas"},
        {0},
    };
    static const struct api_route routes[] = {
        {"POST", "/v1/replicas", adopt_replica,
         "Takes a replica's folder that this site does not know: its database, or a whole site, was "
         "lost. The folder says what it is.",
         "`{name, site, peer, paired, generation, points, newest_point, newest_cut_ms, encryption, "
         "described}`: `paired`, whether the site that sends it can go on by itself; `described`, "
         "whether the settings of its protection came with it (else they are the defaults)",
         fields},
        {0},
    };

    return routes;
}
