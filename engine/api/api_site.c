// SPDX-License-Identifier: Apache-2.0
#include "api/api_tables.h"
#include "base/mem.h"
#include "link/shaper.h"
#include "link/tls.h"
#include "run/job.h"
#include "run/run.h"
#include "sites/estate.h"
#include "state/state.h"

#include <unistd.h>

#define PAIR_MS     30000
#define WAIT_MAX_MS 60000

/* --- Site ---------------------------------------------------------------------------------- */

static int get_description(struct api_request *req, json_t **ret_reply, struct err *err)
{
    struct api_table tables[API_TABLES_MAX];

    (void)req;
    (void)err;
    api_tables_fill(tables);
    *ret_reply = api_tables_json(tables);
    return 0;
}

static int get_site(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const struct config *config = world->config;
    struct state_machines machines = VEC_EMPTY;
    struct state_protections protections = VEC_EMPTY;

    if (state_machine_list(world->state, &machines, err) < 0)
        return -1;
    if (state_protection_list(world->state, &protections, err) < 0) {
        state_machines_done(&machines);
        return -1;
    }
    *ret_reply = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I}", "site",
                           config->site, "version", MUSTER_VERSION, "dir", config->dir, "address",
                           config->address, "advertise", config->advertise, "socket",
                           config->socket, "pid", (json_int_t)getpid(), "machines",
                           (json_int_t)machines.len, "protections", (json_int_t)protections.len,
                           "now_ms", (json_int_t)world->clock->wall_ms(world->clock));
    state_machines_done(&machines);
    state_protections_done(&protections);
    return 0;
}

static int get_events(struct api_request *req, json_t **ret_reply, struct err *err)
{
    uint64_t since = json_get_u64(api_in(req), "since", api_change_number(req));
    uint64_t wait_ms = json_get_u64(api_in(req), "wait_ms", 0);

    (void)ret_reply;
    (void)err;
    if (wait_ms > WAIT_MAX_MS)
        wait_ms = WAIT_MAX_MS;
    /* Numbers begin anew with the daemon: one that is ahead of us is of an earlier life. */
    if (since > api_change_number(req))
        wait_ms = 0;
    return api_hold_for_change(req, since, (int64_t)wait_ms);
}

const struct api_route *api_routes_site(void)
{
    static const struct api_field event_fields[] = {
        {"since", API_NUMBER, false,
         "the `change` of an earlier answer; without it, changes from now on"},
        {"wait_ms", API_NUMBER, false, "how long to wait for one, at most 60000; 0: not at all"},
        {0},
    };
    static const struct api_route routes[] = {
        {"GET", "/v1", get_description, "Describes every endpoint.",
         "`{service, version, endpoints: [{method, path, help, reply, fields}]}`", NULL},
        {"GET", "/v1/site", get_site, "Shows this site and its daemon.",
         "`{site, version, dir, address, advertise, socket, pid, machines, protections, now_ms}`",
         NULL},
        {"GET", "/v1/events", get_events,
         "Waits until something that can be watched (a run, a job, a protection) changed.",
         "`{change}`, the number of changes so far", event_fields},
        {0},
    };

    return routes;
}

/* --- Peers --------------------------------------------------------------------------------- */

static json_t *peer_json(const struct api_world *world, const struct tls_peer *peer)
{
    json_t *json = json_pack("{s:s, s:s}", "name", peer->name, "address", peer->address);
    char text[THROTTLE_TEXT_BYTES];
    struct shaper_status status;

    if (!world->estate)
        return json;
    shaper_status(estate_shaper(world->estate, peer->name), &status);
    (void)json_object_set_new(json, "throttle",
                              json_string(throttle_plan_text(&status.plan, text, sizeof(text))));
    (void)json_object_set_new(json, "limit_per_s", json_integer((json_int_t)status.limit_per_s));
    (void)json_object_set_new(json, "used_per_s", json_integer((json_int_t)status.used_per_s));
    return json;
}

static int list_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    struct tls_peer *peers = NULL;
    json_t *list = json_array();
    size_t count = 0;

    (void)in;
    (void)cancel;
    if (pair_list(world->keys_dir, &peers, &count, err) < 0) {
        json_decref(list);
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, peer_json(world, &peers[i]));
    free(peers);
    *ret_out = json_pack("{s:o}", "peers", list);
    return 0;
}

static int get_peers(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    (void)err;
    return api_defer(req, json_object(), PAIR_MS, list_work, NULL);
}

static int issue_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                      struct cancel *cancel, struct err *err)
{
    char token[PAIR_TOKEN_MAX];

    (void)in;
    (void)cancel;
    if (pair_issue(world->keys_dir, world->config->advertise, world->clock, token, err) < 0)
        return -1;
    *ret_out = json_pack("{s:s}", "token", token);
    return 0;
}

/* Peers are told to connect to what we advertise: an address of no host leads them to themselves. */
static int check_advertise(const struct config *config, struct err *err)
{
    if (str_starts(config->advertise, "0.0.0.0:") || str_starts(config->advertise, "[::]:"))
        return err_set(err, ERR_STATE, 0,
                       "peers cannot connect to %s; hint: set `advertise` in config.lua to the "
                       "address and port under which peers reach this site, and restart the daemon",
                       config->advertise);
    return 0;
}

static int issue_token(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    if (check_advertise(api_world_of(req)->config, err) < 0
        || api_audit(req, "pair.issue", api_world_of(req)->config->site, NULL, err) < 0)
        return -1;
    return api_defer(req, json_object(), PAIR_MS, issue_work, NULL);
}

static int join_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                     struct cancel *cancel, struct err *err)
{
    struct tls_peer peer;

    if (pair_join(world->keys_dir, json_get_str(in, "token", ""), world->config->advertise,
                  world->clock, cancel, &peer, err)
        < 0)
        return -1;
    *ret_out = json_pack("{s:s, s:s}", "name", peer.name, "address", peer.address);
    return 0;
}

static int join_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                       struct err *err)
{
    const struct api_world *world = api_world_of(req);

    (void)in;
    if (world->peers_changed)
        world->peers_changed(world->ctx);
    *ret_reply = json_incref(out);
    return api_audit(req, "pair.join", json_get_str(out, "name", ""),
                     json_get_str(out, "address", ""), err);
}

static int join_peer(struct api_request *req, json_t **ret_reply, struct err *err)
{
    (void)ret_reply;
    if (check_advertise(api_world_of(req)->config, err) < 0)
        return -1;
    return api_defer(req, json_deep_copy(api_in(req)), PAIR_MS, join_work, join_finish);
}

static int remove_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                       struct cancel *cancel, struct err *err)
{
    (void)cancel;
    (void)ret_out;
    return pair_remove(world->keys_dir, json_get_str(in, "name", ""), err);
}

static int remove_finish(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                         struct err *err)
{
    const struct api_world *world = api_world_of(req);

    (void)out;
    (void)ret_reply;
    if (world->peers_changed)
        world->peers_changed(world->ctx);
    return api_audit(req, "pair.remove", json_get_str(in, "name", ""), NULL, err);
}

static int remove_peer(struct api_request *req, json_t **ret_reply, struct err *err)
{
    const char *name = api_param(req, "name");
    struct state_protections protections = VEC_EMPTY;
    int rc = 0;

    (void)ret_reply;
    if (state_protection_list(api_world_of(req)->state, &protections, err) < 0)
        return -1;
    VEC_FOREACH(protection, &protections)
        if (rc == 0 && !json_get_bool(api_in(req), "force", false)
            && str_eq(protection->peer, name))
            rc = err_set(err, ERR_STATE, 0,
                         "%s is protected between this site and %s; hint: `muster unprotect %s` "
                         "first; when %s was set up anew and adopted its replicas, --force",
                         protection->group, name, protection->group, name);
    state_protections_done(&protections);
    if (rc < 0)
        return -1;
    return api_defer(req, json_pack("{s:s}", "name", name), PAIR_MS, remove_work, remove_finish);
}

static int throttle_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                         struct cancel *cancel, struct err *err)
{
    struct throttle_plan plan;

    (void)cancel;
    (void)ret_out;
    if (throttle_plan_parse(json_get_str(in, "throttle", ""), &plan, err) < 0)
        return -1;
    return pair_set_throttle(world->keys_dir, json_get_str(in, "name", ""), &plan, err);
}

static int throttle_finish(struct api_request *req, const json_t *in, json_t *out,
                           json_t **ret_reply, struct err *err)
{
    const struct api_world *world = api_world_of(req);
    const char *text = json_get_str(in, "throttle", "");
    const char *name = json_get_str(in, "name", "");
    struct throttle_plan plan;

    (void)out;
    (void)ret_reply;
    if (throttle_plan_parse(text, &plan, err) < 0)
        return -1;
    if (world->estate)
        shaper_set_plan(estate_shaper(world->estate, name), &plan);
    return api_audit(req, "pair.throttle", name, text, err);
}

static int set_throttle(struct api_request *req, json_t **ret_reply, struct err *err)
{
    json_t *in = json_pack("{s:s, s:s}", "name", api_param(req, "name"), "throttle",
                           json_get_str(api_in(req), "throttle", ""));

    (void)ret_reply;
    (void)err;
    return api_defer(req, in, PAIR_MS, throttle_work, throttle_finish);
}

const struct api_route *api_routes_peers(void)
{
    static const struct api_field throttle_fields[] = {
        {"throttle", API_TEXT, true,
         "bytes per second sent to that site by all machines together, and windows of the week with "
         "another rate: `50MiB; mon-fri 08:00-18:00 10MiB`; `none`"},
        {0},
    };
    static const struct api_field join_fields[] = {
        {"token", API_TEXT, true, "what the other site's `muster site pair issue` printed"},
        {0},
    };
    static const struct api_field remove_fields[] = {
        {"force", API_BOOL, false,
         "protections over it stay, and go on once the two are paired again: it was set up anew"},
        {0},
    };
    static const struct api_route routes[] = {
        {"GET", "/v1/peers", get_peers, "Lists the sites this one is paired with.",
         "`{peers: [{name, address, throttle, limit_per_s, used_per_s}]}`: what may be sent per second by "
         "the throttle now (0: no limit), and what was in the latest second",
         NULL},
        {"POST", "/v1/peers/token", issue_token,
         "Issues a token with which one other site can pair with this one, once, for an hour.",
         "`{token}`", NULL},
        {"POST", "/v1/peers", join_peer, "Pairs with the site that issued the token.",
         "`{name, address}` of that site", join_fields},
        {"PUT", "/v1/peers/{name}/throttle", set_throttle,
         "Limits what is sent to that site, at once and for good.", "`{}`", throttle_fields},
        {"DELETE", "/v1/peers/{name}", remove_peer,
         "Ends a pairing; refused while machines are protected over it.", "`{}`", remove_fields},
        {0},
    };

    return routes;
}
