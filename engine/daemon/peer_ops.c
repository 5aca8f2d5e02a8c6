// SPDX-License-Identifier: Apache-2.0
/* What a peer may ask of the daemon itself, for groups shared with it:
 *
 *   ping            {}                        -> {site, version, wall_ms, free_bytes}
 *   replica.check   {group, machine: definition}  -> the same and {replica: "absent"|"ours"|"other",
 *                    why, networks: [{there, here}], problems: [text], host: {memory_bytes,
 *                    memory_available_bytes, cpus}}   the last three with `machine`: peer_check.c
 *                   with seeds: {disk: {file, size}} also seeds: {disk: {format, size} or {problem}}
 *   replica.create  {group, key, writer_key, disks: [{name, size}], machines: {NAME: definition},
 *                    generation, and as replica.settings} -> {encryption, machines: how many}   repeating it is
 *                    fine
 *   replica.state   {group, state: "initial-copy"|"protected", networks: {there: here}}   -> {}
 *   replica.settings {group, the policy's fields, policy, overrides}  -> {}   policy: its name at
 *                                                      the site that sends
 *   replica.follow  {group, writer_key, tip, first, generation, job, and as replica.settings}
 *                                              -> {done} or {job, note}: see peer_follow.c
 *   replica.remove  {group, keep, key}        -> {}   a kept one stays as it is, and readable; with
 *                                                      a key only the one that was begun with it
 *   plan.put        {name, source, hash, origin} -> {}  loaded and checked here too
 *
 * `key` and `writer_key` are hex. Rows are written on the loop; files by the link's thread. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/peer_ask.h"
#include "plan/plan.h"

#include <inttypes.h>
#include <stdio.h>

static int64_t now(const struct daemon *daemon)
{
    return daemon->clock->wall_ms(daemon->clock);
}

static int audit(struct daemon *daemon, const struct ask *ask, const char *act, const char *object,
                 const char *detail, struct err *err)
{
    CLEANUP(mem_freep) char *who = mem_printf("site %s", ask->peer);

    return state_audit(daemon->state, now(daemon), who, act, object, detail, err);
}

/* --- Looking ----------------------------------------------------------------------------- */

static int ping(struct ask *ask, struct err *err)
{
    struct daemon *daemon = ask->daemon;
    uint64_t free_bytes = 0;

    if (fs_free_bytes(daemon->config.dir, &free_bytes, err) < 0)
        return -1;
    ask->answer =
        json_pack("{s:s, s:s, s:I, s:I}", "site", daemon->config.site, "version", MUSTER_VERSION,
                  "wall_ms", (json_int_t)now(daemon), "free_bytes", (json_int_t)free_bytes);
    return 0;
}

/* 0: there is none, and `err` is clear; -1: there may be. */
static int absent(struct err *err)
{
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    return 0;
}

/* A machine of that name that is our own would be taken for the one that is to come over; one of
 * another group's, for that one. */
static int check_name(struct daemon *daemon, const char *name, struct err *err)
{
    CLEANUP(state_machine_done) struct state_machine own = {0};
    CLEANUP(state_instance_done) struct state_instance recovered = {0};
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (state_instance_recovered(daemon->state, name, &recovered, err) == 0)
        return err_set(err, ERR_EXISTS, 0,
                       "%s has a machine called %s that was failed over to it by %s; hint: give "
                       "one of the two another name",
                       daemon->config.site, name, recovered.run);
    if (absent(err) < 0)
        return -1;
    if (state_machine_get(daemon->state, name, &own, err) == 0)
        return err_set(err, ERR_EXISTS, 0,
                       "%s has a machine of its own called %s; hint: `muster machine remove %s` "
                       "there forgets it and leaves its disks; or give one of the two another name",
                       daemon->config.site, name, name);
    if (absent(err) < 0)
        return -1;
    if (state_protection_of(daemon->state, name, &row, err) == 0)
        return err_set(
            err, ERR_EXISTS, 0,
            "%s has the group %s with %s, a machine or a group called %s; hint: unprotect "
            "that one first, or give one of the two another name",
            daemon->config.site, row.group, row.peer, name);
    return absent(err);
}

/* The group's, and those of its machines: one in a check, all in what follows. */
static int check_names(struct daemon *daemon, const struct ask *ask, struct err *err)
{
    const char *one = json_get_str(json_object_get(ask->head, "machine"), "name", ask->group);
    const char *name;
    json_t *definition;

    if (check_name(daemon, ask->group, err) < 0
        || (!str_eq(one, ask->group) && check_name(daemon, one, err) < 0))
        return -1;
    json_object_foreach(json_object_get(ask->head, "machines"), name, definition) {
        if (!str_eq(name, ask->group) && check_name(daemon, name, err) < 0)
            return -1;
    }
    return 0;
}

/* The group's row: none, this peer's replica (its state in ask->row_state), or ERR_EXISTS. */
static int look_up(struct daemon *daemon, void *ctx, struct err *err)
{
    struct ask *ask = ctx;
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct err missing = ERR_EMPTY;

    if (state_protection_get(daemon->state, ask->group, &row, &missing) < 0) {
        if (missing.code == ERR_NOT_FOUND)
            return check_names(daemon, ask, err);
        *err = missing;
        return -1;
    }
    if (!str_eq(row.role, "replica"))
        return err_set(err, ERR_EXISTS, 0, "%s is a group of %s's own, protected to %s", ask->group,
                       daemon->config.site, row.peer);
    if (!str_eq(row.peer, ask->peer))
        return err_set(err, ERR_EXISTS, 0, "%s holds a replica of %s from %s", daemon->config.site,
                       ask->group, row.peer);
    if (str_eq(row.state, "kept"))
        return err_set(err, ERR_EXISTS, 0,
                       "%s keeps an earlier replica of %s; hint: muster unprotect %s there first",
                       daemon->config.site, ask->group, ask->group);
    ask->row_state = TAKE(row.state);
    return 0;
}

static int replica_check(struct ask *ask, struct err *err)
{
    struct err why = ERR_EMPTY;
    int rc = daemon_on_loop(ask->daemon, look_up, ask, &why);

    if ((rc < 0 && why.code != ERR_EXISTS) || ping(ask, err) < 0) {
        if (rc < 0)
            *err = why;
        return -1;
    }
    const char *replica = rc < 0 ? "other" : ask->row_state ? "ours" : "absent";
    (void)json_object_set_new(ask->answer, "replica", json_string(replica));
    (void)json_object_set_new(ask->answer, "why", json_string(why.text));
    peer_seeds(ask);
    return peer_check(ask, err);
}

/* --- Create ------------------------------------------------------------------------------ */

static json_t *create_settings(const struct ask *ask)
{
    static const char *const fields[] = {"writer_key", "disks"};
    json_t *settings = json_object();
    json_t *machines = json_array();
    json_t *agents = json_array();
    const char *name;
    json_t *definition;

    for (size_t i = 0; i < ARRAY_LEN(fields); i++)
        (void)json_object_set(settings, fields[i], json_object_get(ask->head, fields[i]));
    job_settings_copy(ask->head, settings);
    json_object_foreach(json_object_get(ask->head, "machines"), name, definition) {
        (void)json_array_append_new(machines, json_string(name));
        if (json_get_bool(definition, "agent", false))
            (void)json_array_append_new(agents, json_string(name));
    }
    (void)json_object_set_new(settings, "machines", machines);
    (void)json_object_set_new(settings, "agents", agents);
    return settings;
}

static int create_row(struct daemon *daemon, void *ctx, struct err *err)
{
    struct ask *ask = ctx;

    if (look_up(daemon, ctx, err) < 0)
        return -1;
    if (ask->row_state && !str_eq(ask->row_state, "initial-copy"))
        return 0; /* it stands already */
    CLEANUP(json_freep) json_t *settings = create_settings(ask);
    (void)json_object_set_new(settings, "created_ms", json_integer(now(daemon)));
    CLEANUP(mem_freep) char *text = json_text(settings);
    CLEANUP(mem_freep) char *group = mem_strdup(ask->group);
    CLEANUP(mem_freep) char *peer = mem_strdup(ask->peer);
    const struct state_protection row = {
        .group = group,
        .peer = peer,
        .role = (char[]){"replica"},
        .state = (char[]){"initial-copy"},
        .settings = text,
        .generation = json_get_u64(ask->head, "generation", 1),
        .since_ms = now(daemon),
    };
    if (state_protection_put(daemon->state, &row, err) < 0)
        return -1;
    if (!ask->row_state)
        log_info("daemon", "replica made group=%s peer=%s", ask->group, ask->peer);
    return audit(daemon, ask, "replica.create", ask->group, "", err);
}

/* A key that is not the one this replica was begun with: fine while there are no points, then what
 * was copied under the old one is worth nothing. */
static int settle_key(struct ask *ask, const struct key *key, struct err *err)
{
    struct estate *estate = ask->daemon->estate;
    CLEANUP(key_wipe) struct key have = {{0}};
    struct err missing = ERR_EMPTY;

    if (estate_key_read(estate, ask->group, &have, &missing) == 0) {
        if (memcmp(have.bytes, key->bytes, sizeof(have.bytes)) == 0)
            return 0;
        if (ask->row_state && !str_eq(ask->row_state, "initial-copy"))
            return err_set(err, ERR_STATE, 0,
                           "the replica of %s here was made with another key; hint: unprotect it "
                           "first",
                           ask->group);
        if (job_remove_local_replica(estate, ask->group, err) < 0)
            return -1;
    } else if (missing.code != ERR_NOT_FOUND) {
        *err = missing;
        return -1;
    }
    return estate_key_write(estate, ask->group, key, err);
}

static int replica_create(struct ask *ask, struct err *err)
{
    CLEANUP(key_wipe) struct key key = {{0}};
    struct estate_replica replica = {.group = ""};
    const char *key_hex;
    const char *writer_hex;
    json_t *disks;
    json_t *machines;

    if (json_need_str(ask->head, "key", "replica.create", &key_hex, err) < 0
        || json_need_str(ask->head, "writer_key", "replica.create", &writer_hex, err) < 0
        || json_need_array(ask->head, "disks", "replica.create", &disks, err) < 0
        || json_need_object(ask->head, "machines", "replica.create", &machines, err) < 0
        || machine_names_of(machines, ask->group, &replica.machines, err) < 0)
        return -1;
    if (!str_unhex(key_hex, key.bytes, sizeof(key.bytes))
        || !str_unhex(writer_hex, replica.writer_key, sizeof(replica.writer_key)))
        return err_set(err, ERR_INVALID, 0, "replica.create: a key is not %d bytes in hex",
                       KEY_BYTES);
    (void)snprintf(replica.group, sizeof(replica.group), "%s", ask->group);
    (void)snprintf(replica.peer, sizeof(replica.peer), "%s", ask->peer);
    if (peer_at_rest(ask, &replica.at_rest, err) < 0
        || daemon_on_loop(ask->daemon, create_row, ask, err) < 0 || settle_key(ask, &key, err) < 0
        || peer_settle_heads(ask, replica.at_rest, err) < 0)
        return -1;
    ask->answer = json_pack("{s:s, s:I}", "encryption", replica.at_rest ? "at-rest" : "none",
                            "machines", (json_int_t)replica.machines.count);
    return estate_replica_add(ask->daemon->estate, &replica, err);
}

/* --- State, remove ----------------------------------------------------------------------- */

/* The group's own networks, when the peer says them. `ret_changed`: the row is to be written. */
static int take_networks(struct daemon *daemon, const struct ask *ask, struct state_protection *row,
                         bool *ret_changed, struct err *err)
{
    const json_t *networks = json_object_get(ask->head, "networks");
    CLEANUP(json_freep) json_t *have = job_networks_get(row->settings);

    *ret_changed = networks && !json_equal(networks, have);
    if (!*ret_changed)
        return 0;
    if (job_networks_check(networks, err) < 0
        || job_networks_set(&row->settings, networks, err) < 0)
        return -1;
    estate_networks_set(daemon->estate, ask->group, networks);
    return 0;
}

/* This peer's replica, of whatever state. */
static int own_row(struct daemon *daemon, const struct ask *ask, struct state_protection *ret_row,
                   struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (state_protection_get(daemon->state, ask->group, &row, err) < 0)
        return -1;
    if (!str_eq(row.role, "replica") || !str_eq(row.peer, ask->peer))
        return err_set(err, ERR_DENIED, 0, "%s is not a replica from %s", ask->group, ask->peer);
    *ret_row = row;
    row = (struct state_protection){0};
    return 0;
}

static int put_state(struct daemon *daemon, const struct ask *ask, const char *state,
                     struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    bool changed;
    if (own_row(daemon, ask, &row, err) < 0 || take_networks(daemon, ask, &row, &changed, err) < 0)
        return -1;
    if (str_eq(row.state, state) && !changed)
        return 0;
    free(row.state);
    row.state = mem_strdup(state);
    row.since_ms = now(daemon);
    if (state_protection_put(daemon->state, &row, err) < 0)
        return -1;
    log_info("daemon", "replica group=%s state=%s", ask->group, state);
    return 0;
}

static int state_row(struct daemon *daemon, void *ctx, struct err *err)
{
    struct ask *ask = ctx;

    return put_state(daemon, ask, json_get_str(ask->head, "state", ""), err);
}

static int replica_state(struct ask *ask, struct err *err)
{
    const char *state = json_get_str(ask->head, "state", "");

    if (!str_eq(state, "initial-copy") && !str_eq(state, "protected"))
        return err_set(err, ERR_INVALID, 0, "replica.state: \"%s\"", state);
    return daemon_on_loop(ask->daemon, state_row, ask, err);
}

static int settings_row(struct daemon *daemon, void *ctx, struct err *err)
{
    const struct ask *ask = ctx;
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct job_settings have;

    if (own_row(daemon, ask, &row, err) < 0 || job_settings_parse(row.settings, &have, err) < 0)
        return -1;
    struct job_settings told = have;
    if (job_settings_take(ask->head, &told, err) < 0)
        return -1;
    told.policy.encryption = have.policy.encryption; /* the replica's, as it was made */
    bool changed;
    if (take_networks(daemon, ask, &row, &changed, err) < 0)
        return -1;
    if (job_settings_equal(&told, &have) && !changed)
        return 0;
    if (job_settings_change(&row.settings, &told, err) < 0
        || state_protection_put(daemon->state, &row, err) < 0)
        return -1;
    CLEANUP(json_freep) json_t *json = json_object();
    job_settings_put(&told, json);
    (void)json_object_set_new(json, "networks", job_networks_get(row.settings));
    CLEANUP(mem_freep) char *detail = json_text(json);
    log_info("daemon", "replica settings group=%s %s", ask->group, detail);
    return audit(daemon, ask, "replica.change", ask->group, detail, err);
}

static int replica_settings(struct ask *ask, struct err *err)
{
    if (job_settings_check(ask->head, err) < 0)
        return err_wrap(err, "replica.settings");
    return daemon_on_loop(ask->daemon, settings_row, ask, err);
}

static int check_row(struct daemon *daemon, void *ctx, struct err *err)
{
    struct ask *ask = ctx;
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (own_row(daemon, ask, &row, err) < 0)
        return -1;
    ask->row_state = TAKE(row.state);
    return 0;
}

static int keep_row(struct daemon *daemon, void *ctx, struct err *err)
{
    if (put_state(daemon, ctx, "kept", err) < 0)
        return -1;
    return audit(daemon, ctx, "replica.keep", ((struct ask *)ctx)->group, "", err);
}

static int remove_row(struct daemon *daemon, void *ctx, struct err *err)
{
    const struct ask *ask = ctx;

    if (state_protection_remove(daemon->state, ask->group, err) < 0)
        return -1;
    log_info("daemon", "replica removed group=%s peer=%s", ask->group, ask->peer);
    return audit(daemon, ask, "replica.remove", ask->group, "", err);
}

static int begun_otherwise(const struct ask *ask, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, 0, "the replica of %s here was not begun with this key",
                   ask->group);
}

/* With a key: only the replica that was begun with it, and that nobody asked to keep. */
static int check_begun_with(const struct ask *ask, struct err *err)
{
    struct err missing = ERR_EMPTY;
    const char *hex = json_get_str(ask->head, "key", NULL);
    CLEANUP(key_wipe) struct key have = {{0}};
    CLEANUP(key_wipe) struct key begun = {{0}};

    if (!hex)
        return 0;
    if (!str_unhex(hex, begun.bytes, sizeof(begun.bytes)))
        return err_set(err, ERR_INVALID, 0, "replica.remove: a key is not %d bytes in hex",
                       KEY_BYTES);
    if (str_eq(ask->row_state, "kept"))
        return begun_otherwise(ask, err);
    if (estate_key_read(ask->daemon->estate, ask->group, &have, &missing) == 0)
        return memcmp(have.bytes, begun.bytes, sizeof(have.bytes)) == 0 ? 0
                                                                        : begun_otherwise(ask, err);
    if (missing.code == ERR_NOT_FOUND && str_eq(ask->row_state, "initial-copy"))
        return 0; /* cut before the key was written */
    if (missing.code == ERR_NOT_FOUND)
        return begun_otherwise(ask, err);
    *err = missing;
    return -1;
}

static int replica_remove(struct ask *ask, struct err *err)
{
    struct daemon *daemon = ask->daemon;

    if (json_get_bool(ask->head, "keep", false))
        return daemon_on_loop(daemon, keep_row, ask, err);
    if (daemon_on_loop(daemon, check_row, ask, err) < 0 || check_begun_with(ask, err) < 0
        || job_remove_local_replica(daemon->estate, ask->group, err) < 0)
        return -1;
    return daemon_on_loop(daemon, remove_row, ask, err);
}

/* --- Plans ------------------------------------------------------------------------------- */

static int put_plan(struct daemon *daemon, void *ctx, struct err *err)
{
    const struct ask *ask = ctx;
    CLEANUP(mem_freep) char *document = json_text(ask->plan->document);
    CLEANUP(mem_freep) char *origin = mem_strdup(json_get_str(ask->head, "origin", ask->peer));
    const struct state_plan row = {
        .name = ask->plan->name,
        .source = ask->plan->source,
        .document = document,
        .hash = ask->plan->hash,
        .origin = origin,
        .added_ms = now(daemon),
    };

    if (state_plan_put(daemon->state, &row, err) < 0)
        return -1;
    log_info("daemon", "plan copied plan=%s from=%s", row.name, ask->peer);
    return audit(daemon, ask, "plan.add", row.name, row.hash, err);
}

/* The text is loaded here too: what a peer says a plan means is not taken on trust. */
static int plan_put(struct ask *ask, struct err *err)
{
    struct plan_world world = {0};
    const char *source;
    const char *name;
    const char *hash;

    world.verbs = verb_all(&world.verb_count);
    if (json_need_str(ask->head, "name", "plan.put", &name, err) < 0
        || json_need_str(ask->head, "source", "plan.put", &source, err) < 0
        || json_need_str(ask->head, "hash", "plan.put", &hash, err) < 0
        || plan_load(&ask->daemon->host, &world, name, source, strlen(source), &ask->plan, NULL,
                     ask->cancel, err)
               < 0)
        return -1;
    int rc = 0;
    if (!str_eq(ask->plan->hash, hash))
        rc = err_set(err, ERR_INVALID, 0,
                     "plan %s is %.12s at %s and %.12s here; hint: run the same release at both "
                     "sites",
                     name, hash, ask->peer, ask->plan->hash);
    else
        rc = daemon_on_loop(ask->daemon, put_plan, ask, err);
    plan_free(ask->plan);
    return rc;
}

/* --- The door ---------------------------------------------------------------------------- */

static int answer(struct ask *ask, struct err *err)
{
    static const struct {
        const char *op;
        int (*fn)(struct ask *ask, struct err *err);
    } ops[] = {
        {"ping", ping},
        {"replica.check", replica_check},
        {"replica.create", replica_create},
        {"replica.state", replica_state},
        {"replica.settings", replica_settings},
        {"replica.follow", peer_follow},
        {"replica.remove", replica_remove},
        {"plan.put", plan_put},
    };
    const char *op = json_get_str(ask->head, "op", "");

    if (str_starts(op, "replica.") && !str_is_name(ask->group))
        return err_set(err, ERR_INVALID, 0, "%s: \"%s\" is not a group's name", op, ask->group);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (str_eq(ops[i].op, op))
            return ops[i].fn(ask, err);
    return err_set(err, ERR_UNSUPPORTED, 0,
                   "%s %s does not know \"%.60s\"; hint: run the same release at both sites",
                   ask->daemon->config.site, MUSTER_VERSION, op);
}

int daemon_peer_op(struct daemon *daemon, struct link *link, struct link_msg *msg,
                   struct cancel *cancel, struct err *err)
{
    struct ask ask = {
        .daemon = daemon,
        .peer = link_peer(link),
        .head = msg->head,
        .group = json_get_str(msg->head, "group", ""),
        .cancel = cancel,
    };
    struct err failure = ERR_EMPTY;
    int rc = answer(&ask, &failure);

    if (rc < 0) {
        log_warn("daemon", "refused peer=%s op=%s error=\"%s\"", ask.peer,
                 json_get_str(msg->head, "op", ""), failure.text);
        rc = link_answer_err(link, &failure, cancel, err);
    } else {
        CRASH_POINT(json_get_str(msg->head, "op", ""));
        if (!ask.answer)
            ask.answer = json_object();
        rc = link_answer(link, ask.answer, NULL, 0, cancel, err);
    }
    json_decref(ask.answer);
    free(ask.row_state);
    return rc;
}
