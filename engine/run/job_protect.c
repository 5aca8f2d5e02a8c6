// SPDX-License-Identifier: Apache-2.0
/* protect: check prerequisites, create the relationship, initial copy, finalize. The row of the
 * protection says how far it is:
 *
 *   (none) -> enabling -> initial-copy -> finalizing -> protected
 *                 `-> enabling-failed  `-> initial-copy-failed: protect again goes on
 *
 * A cancel takes everything back, here and at the peer. */
#include "base/mem.h"
#include "link/ask.h"
#include "run/job_kind.h"
#include "run/policies.h"

#include <inttypes.h>
#include <stdio.h>

#define FIRST_GENERATION 1
#define PEER_MS          30000
#define WAIT_MS          2000

enum { TASK_CHECK, TASK_CREATE, TASK_COPY, TASK_FINALIZE };

struct protect {
    struct job_machine_list machines;
    struct job_settings settings;
    struct estate_group group;
    json_t *networks; /* its own, for the other site; NULL: not known yet */
    json_t *seeds;    /* of the initial copy; NULL: not known yet */
};

static void protect_free(void *data)
{
    struct protect *protect = data;

    job_machine_list_done(&protect->machines);
    json_decref(protect->networks);
    json_decref(protect->seeds);
    free(protect);
}

/* As the job was told, under its policy as that is by now; from the moment there is a row, that has
 * the say: settings may be changed while it works. */
static int load_settings(struct job *job, struct err *err)
{
    struct state *state = job_world(job)->state;
    struct protect *protect = job->data;
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct job_settings settings = {.policy_name = POLICY_DEFAULT};
    struct err missing = ERR_EMPTY;

    policy_init(&settings.policy);
    if (job->task > TASK_CREATE && state_protection_get(state, job->object, &row, &missing) == 0) {
        if (job_settings_parse(row.settings, &settings, err) < 0)
            return -1;
        json_decref(protect->networks);
        protect->networks = job_networks_get(row.settings);
        json_decref(protect->seeds);
        protect->seeds = job_seeds_get(row.settings);
    } else if (missing.code != ERR_NONE && missing.code != ERR_NOT_FOUND) {
        *err = missing;
        return -1;
    } else if (job_settings_take(job->args, &settings, err) < 0
               || policies_renew(state, &settings, err) < 0) {
        return -1;
    }
    protect->settings = settings;
    protect->group.policy = settings.policy;
    return 0;
}

/* What each task needs from the rows, read anew: the job may have been taken up with this one. */
static int load(struct job *job, struct err *err)
{
    struct machine_names names;

    if (job->data)
        return load_settings(job, err);
    if (machine_names_parse(json_object_get(job->args, "machines"), job->object, &names, err) < 0)
        return -1;
    struct protect *protect = mem_new(struct protect);
    job->data = protect;
    if (job_machine_list_load(job_world(job)->state, &names, &protect->machines, err) < 0
        || job_group_check_disks(&protect->machines, &names, err) < 0)
        return -1;
    struct estate_group *group = &protect->group;
    (void)snprintf(group->group, sizeof(group->group), "%s", job->object);
    (void)snprintf(group->peer, sizeof(group->peer), "%s", json_get_str(job->args, "peer", ""));
    group->generation = FIRST_GENERATION;
    group->machines = names;
    return load_settings(job, err);
}

static int put_protection(struct job *job, const char *state, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    const struct protect *protect = job->data;
    CLEANUP(json_freep)
    json_t *settings = json_pack("{s:o}", "machines", machine_names_json(&protect->group.machines));
    job_settings_put(&protect->settings, settings);
    if (json_object_get(job->args, "networks"))
        (void)json_object_set(settings, "networks", json_object_get(job->args, "networks"));
    if (json_object_size(json_object_get(job->args, "seeds")) > 0)
        (void)json_object_set(settings, "seeds", json_object_get(job->args, "seeds"));
    CLEANUP(mem_freep) char *text = json_text(settings);
    CLEANUP(mem_freep) char *peer = mem_strdup(protect->group.peer);
    CLEANUP(mem_freep) char *state_text = mem_strdup(state);
    const struct state_protection row = {
        .group = job->object,
        .peer = peer,
        .role = (char[]){"source"},
        .state = state_text,
        .settings = text,
        .generation = protect->group.generation,
        .since_ms = world->clock->wall_ms(world->clock),
    };

    return state_protection_put(world->state, &row, err);
}

int job_protection_state(struct job *job, const char *group, const char *state, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct err missing = ERR_EMPTY;

    if (state_protection_get(world->state, group, &row, &missing) < 0) {
        if (missing.code == ERR_NOT_FOUND)
            return 0;
        *err = missing;
        return -1;
    }
    free(row.state);
    row.state = mem_strdup(state);
    row.since_ms = world->clock->wall_ms(world->clock);
    return state_protection_put(world->state, &row, err);
}

int job_protection_remove(struct job *job, const char *group, struct err *err)
{
    struct err failure = ERR_EMPTY;

    if (state_protection_remove(job_world(job)->state, group, &failure) == 0
        || failure.code == ERR_NOT_FOUND)
        return 0;
    *err = failure;
    return -1;
}

/* --- Check ------------------------------------------------------------------------------- */

static int check_work(struct job *job, struct err *err)
{
    const struct protect *protect = job->data;

    return job_check_prerequisites(job, &protect->machines, &protect->group.policy, err);
}

/* --- Create the relationship ------------------------------------------------------------- */

static int create_begin(struct job *job, struct err *err)
{
    if (load(job, err) < 0)
        return -1;
    return put_protection(job, "enabling", err);
}

/* The group's key, made when there is none; a second try finds the first one's. */
static int group_key(struct estate *estate, const char *group, struct key *ret_key, struct err *err)
{
    struct err missing = ERR_EMPTY;

    if (estate_key_read(estate, group, ret_key, &missing) == 0)
        return 0;
    if (missing.code != ERR_NOT_FOUND) {
        *err = missing;
        return -1;
    }
    key_new(ret_key);
    return estate_key_write(estate, group, ret_key, err);
}

static int add_disks(const struct machine *machine, const struct machine_names *names,
                     json_t *disks, struct err *err)
{
    VEC_FOREACH(disk, &machine->disks) {
        char name[GROUP_NAME_BYTES];
        uint64_t size = 0;

        if (machine_disk_in(names, machine->name, disk->name, name, err) < 0)
            return -1;
        if (job_disk_size(disk->path, disk->format, &size, err) < 0)
            return err_wrap(err, "disk %s", name);
        (void)json_array_append_new(
            disks, json_pack("{s:s, s:I}", "name", name, "size", (json_int_t)size));
    }
    return 0;
}

/* Of all machines, and their definitions. */
static int describe(const struct protect *protect, json_t *disks, json_t *definitions,
                    struct err *err)
{
    VEC_FOREACH(machine, &protect->machines) {
        if (add_disks(machine, &protect->group.machines, disks, err) < 0)
            return -1;
        (void)json_object_set_new(definitions, machine->name, machine_to_json(machine));
    }
    return 0;
}

static int create_ask(struct job *job, const struct key *key, json_t **ret_ask, struct err *err)
{
    const struct protect *protect = job->data;
    char key_hex[2 * KEY_BYTES + 1];
    char writer_hex[2 * SIGN_KEY_BYTES + 1];
    CLEANUP(json_freep) json_t *disks = json_array();
    CLEANUP(json_freep) json_t *definitions = json_object();

    if (describe(protect, disks, definitions, err) < 0)
        return -1;
    str_hex(key->bytes, KEY_BYTES, key_hex);
    str_hex(job_world(job)->writer_key, SIGN_KEY_BYTES, writer_hex);
    *ret_ask =
        json_pack("{s:s, s:s, s:s, s:s, s:O, s:O, s:I}", "op", "replica.create", "group",
                  protect->group.group, "key", key_hex, "writer_key", writer_hex, "disks", disks,
                  "machines", definitions, "generation", (json_int_t)protect->group.generation);
    job_settings_put(&protect->settings, *ret_ask);
    explicit_bzero(key_hex, sizeof(key_hex));
    return 0;
}

/* `ret_reply` may be NULL. */
static int call_peer(struct job *job, const char *peer, const json_t *ask, json_t **ret_reply,
                     struct err *err)
{
    const struct jobs_world *world = job_world(job);
    struct cancel *cancel = cancel_new(world->clock, job->base.cancel, PEER_MS);
    int rc =
        link_ask(world->open_link, world->ctx, peer, ask, ret_reply, world->clock, cancel, err);

    cancel_free(cancel);
    return rc;
}

/* An older release does not know of it, says nothing, and would keep the disks in the clear, or could
 * recover none of several machines. */
static int check_reply(const struct protect *protect, const json_t *reply, struct err *err)
{
    if (protect->group.machines.count > 1
        && json_get_u64(reply, "machines", 0) != protect->group.machines.count)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "%s keeps no groups of several machines; hint: run the same release at both "
                       "sites",
                       protect->group.peer);
    if (protect->group.policy.encryption == POLICY_ENCRYPTION_NONE
        || str_eq(json_get_str(reply, "encryption", ""), "at-rest"))
        return 0;
    return err_set(err, ERR_UNSUPPORTED, 0,
                   "%s does not encrypt replicas at rest; hint: run the same release at both sites",
                   protect->group.peer);
}

static int create_work(struct job *job, struct err *err)
{
    const struct protect *protect = job->data;
    CLEANUP(key_wipe) struct key key = {{0}};
    CLEANUP(json_freep) json_t *ask = NULL;
    CLEANUP(json_freep) json_t *reply = NULL;

    if (group_key(job_world(job)->estate, job->object, &key, err) < 0
        || create_ask(job, &key, &ask, err) < 0)
        return -1;
    if (call_peer(job, protect->group.peer, ask, &reply, err) == 0)
        return check_reply(protect, reply, err);
    /* It answered the check a moment ago: away it is waited for, what it says is its answer. */
    bool away = err->code == ERR_NET || err->code == ERR_TIMEOUT || err->code == ERR_BUSY;
    return away ? job_wait_for_peer(job, WAIT_MS, err) : -1;
}

/* --- Initial copy ------------------------------------------------------------------------ */

static int copy_begin(struct job *job, struct err *err)
{
    if (load(job, err) < 0)
        return -1;
    return job_protection_state(job, job->object, "initial-copy", err);
}

/* ERR_STATE: the session ended up where only a person can help. */
static int stuck(const struct session_status *status, struct err *err)
{
    if (status->state != SESSION_CRITICAL && status->state != SESSION_FENCED)
        return 0;
    *err = status->error;
    if (err->code == ERR_NONE)
        return err_set(err, ERR_STATE, 0, "replication is %s", session_state_name(status->state));
    return -1;
}

static void note_of(const struct session_status *status, char *ret_note, size_t size)
{
    char time[32], same[32], data[32];

    if (status->state == SESSION_BACKING_OFF)
        (void)snprintf(ret_note, size, "tried again at %s: %.400s",
                       str_time(status->retry_at_ms, time, sizeof(time)), status->error.text);
    else if (status->state == SESSION_PAUSED)
        (void)snprintf(ret_note, size, "paused");
    else if (status->seed_data_bytes && !status->note[0])
        (void)snprintf(ret_note, size, "%s of %s were there already",
                       str_bytes(status->seed_same_bytes, same, sizeof(same)),
                       str_bytes(status->seed_data_bytes, data, sizeof(data)));
    else
        (void)snprintf(ret_note, size, "%s", status->note);
}

static void copy_progress(struct job *job, const struct session_status *status)
{
    struct job_progress *p = &job->progress;

    *p = (struct job_progress){.unit = "bytes", .rate_per_s = status->rate_per_s, .left_ms = -1};
    p->disk_count = status->disk_count;
    for (size_t i = 0; i < status->disk_count; i++) {
        p->disks[i] = status->disks[i];
        p->done += status->disks[i].done_bytes;
        p->total += status->disks[i].total_bytes;
    }
    if (p->rate_per_s > 0 && p->total >= p->done)
        p->left_ms = (int64_t)((p->total - p->done) / p->rate_per_s * 1000);
    note_of(status, p->note, sizeof(p->note));
}

/* The session's status; opens the session when this site does not send the group yet. */
static int sample(struct job *job, struct session_status *ret_status, struct err *err)
{
    struct estate *estate = job_world(job)->estate;
    const struct protect *protect = job->data;
    struct session *session = estate_session_get(estate, job->object);

    if (!session) {
        if (estate_group_add(estate, &protect->group, err) < 0)
            return -1;
        session = estate_session_get(estate, job->object);
    }
    if (!session)
        return err_set(err, ERR_STATE, 0, "%s is not sent from here any more", job->object);
    session_status(session, ret_status);
    estate_session_put(estate, job->object);
    return 0;
}

/* The session that is there, of an earlier try, had others. */
static int use_seeds(struct job *job, struct err *err)
{
    const struct protect *protect = job->data;
    struct estate *estate = job_world(job)->estate;

    if (!protect->seeds || !estate_seeds_set(estate, job->object, protect->seeds))
        return 0;
    return estate_group_reopen(estate, job->object, err);
}

static int copy_work(struct job *job, struct err *err)
{
    struct session_status status;

    if (use_seeds(job, err) < 0 || sample(job, &status, err) < 0)
        return -1;
    copy_progress(job, &status);
    if (stuck(&status, err) < 0)
        return -1;
    bool copying = status.state == SESSION_COPYING || status.state == SESSION_SCHEDULED
                   || status.state == SESSION_BACKING_OFF || status.state == SESSION_PAUSED
                   || status.state == SESSION_RESYNCING;
    return copying && status.durable_point == 0 ? JOB_AGAIN : 0;
}

/* --- Finalize ---------------------------------------------------------------------------- */

static int finalize_begin(struct job *job, struct err *err)
{
    if (load(job, err) < 0)
        return -1;
    return job_protection_state(job, job->object, "finalizing", err);
}

/* The peer is told what holds from now on: its row says the same, and its networks are those the
 * machine is recovered to. It may be away for a while. */
static int tell_peer(struct job *job, struct err *err)
{
    const struct protect *protect = job->data;
    CLEANUP(json_freep)
    json_t *ask = json_pack("{s:s, s:s, s:s, s:O*}", "op", "replica.state", "group", job->object,
                            "state", "protected", "networks", protect->networks);

    return call_peer(job, protect->group.peer, ask, NULL, err) < 0
               ? job_wait_for_peer(job, WAIT_MS, err)
               : 0;
}

static int finalize_work(struct job *job, struct err *err)
{
    struct session_status status;

    if (sample(job, &status, err) < 0 || stuck(&status, err) < 0)
        return -1;
    note_of(&status, job->progress.note, sizeof(job->progress.note));
    if (status.durable_point == 0 || status.applied_point == 0)
        return JOB_AGAIN;
    return tell_peer(job, err);
}

/* --- Ends -------------------------------------------------------------------------------- */

/* After a cancel everything; after a failure nothing is there yet or worth nothing before the
 * copy, and worth keeping from then on. */
static bool wants_undo(struct job *job)
{
    if (job->task == TASK_CHECK)
        return false;
    return job->cancel_asked || job->task == TASK_CREATE;
}

/* The peer may have refused because it has a replica of an earlier protection: that one is none of
 * ours to remove. */
static int undo(struct job *job, struct err *err)
{
    struct estate *estate = job_world(job)->estate;
    CLEANUP(key_wipe) struct key key = {{0}};
    struct err missing = ERR_EMPTY;

    if (job_forget_source(job, job->object, err) < 0)
        return -1;
    if (estate_key_read(estate, job->object, &key, &missing) == 0) {
        if (job_remove_replica(job, json_get_str(job->args, "peer", ""), job->object, false, &key,
                               err)
            < 0)
            return -1;
    } else if (missing.code != ERR_NOT_FOUND) { /* without a key none was asked for */
        *err = missing;
        return -1;
    }
    return estate_keys_remove(estate, job->object, err);
}

/* They served their time: another copy, should there ever be one, is not to begin from them. */
static int drop_seeds(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(state_protection_done) struct state_protection row = {0};

    (void)estate_seeds_set(world->estate, job->object, NULL);
    if (state_protection_get(world->state, job->object, &row, err) < 0
        || job_seeds_drop(&row.settings, err) < 0)
        return -1;
    return state_protection_put(world->state, &row, err);
}

static int settle_row(struct job *job, const struct err *failure, struct err *err)
{
    if (!failure)
        return drop_seeds(job, err) < 0 ? -1
                                        : job_protection_state(job, job->object, "protected", err);
    if (job->undoing && !job->undo_failed)
        return job_protection_remove(job, job->object, err);
    if (job->task == TASK_CHECK)
        return 0;
    return job_protection_state(
        job, job->object, job->task == TASK_CREATE ? "enabling-failed" : "initial-copy-failed",
        err);
}

static int settled(struct job *job, const struct err *failure, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(mem_freep)
    char *detail = failure ? mem_printf("%s: %.600s", job->cancel_asked ? "cancelled" : "failed",
                                        failure->text)
                           : mem_printf("to %s", json_get_str(job->args, "peer", ""));

    if (settle_row(job, failure, err) < 0)
        return -1;
    return state_audit(world->state, world->clock->wall_ms(world->clock), job->who,
                       failure ? "protection.failed" : "protection.added", job->object, detail,
                       err);
}

const struct job_kind *job_kind_protect(void)
{
    static const struct job_task tasks[] = {
        [TASK_CHECK] = {"check prerequisites", load, check_work, NULL, NULL},
        [TASK_CREATE] = {"create the relationship", create_begin, create_work, NULL, NULL},
        [TASK_COPY] = {"initial copy", copy_begin, copy_work, NULL, NULL},
        [TASK_FINALIZE] = {"finalize", finalize_begin, finalize_work, NULL, NULL},
    };
    static const struct job_kind kind = {
        .name = "protect",
        .tasks = tasks,
        .task_count = ARRAY_LEN(tasks),
        .exclusive = true,
        .wants_undo = wants_undo,
        .undo = undo,
        .settled = settled,
        .data_free = protect_free,
    };

    return &kind;
}
