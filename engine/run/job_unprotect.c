// SPDX-License-Identifier: Apache-2.0
/* unprotect: stop replication, remove the replica, drop our side. Each part is asked for again by a
 * daemon that was restarted; what is gone already is fine. A failure leaves the row "disabling-
 * failed": unprotect again goes on. */
#include "base/fs.h"
#include "base/mem.h"
#include "link/ask.h"
#include "run/job_kind.h"
#include "sites/branch.h"
#include "sites/keeping.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PEER_MS              30000
#define REOPENED_INTERVAL_MS 3600000

static bool arg(const struct job *job, const char *name)
{
    return json_get_bool(job->args, name, false);
}

/* --- Parts shared with protect's undo ---------------------------------------------------- */

/* A row in the middle of an unprotect is not sent after a restart; its tracking is still there. */
static int reopen(struct job *job, const char *group, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(mem_freep) char *dir = mem_printf("%s/sessions/%s", world->dir, group);
    struct estate_group again = {.generation = 1};

    if (!fs_exists(dir))
        return 1;
    if (machine_names_parse(json_object_get(job->args, "machines"), group, &again.machines, err)
        < 0)
        return -1;
    (void)snprintf(again.group, sizeof(again.group), "%s", group);
    policy_init(&again.policy);
    again.policy.interval_ms = REOPENED_INTERVAL_MS;
    (void)snprintf(again.peer, sizeof(again.peer), "%s", json_get_str(job->args, "peer", ""));
    return estate_group_add(world->estate, &again, err);
}

int job_forget_source(struct job *job, const char *group, struct err *err)
{
    struct estate *estate = job_world(job)->estate;

    if (estate_session_get(estate, group)) {
        estate_session_put(estate, group);
    } else {
        int rc = reopen(job, group, err);
        if (rc != 0)
            return rc < 0 ? -1 : 0;
    }
    if (estate_group_forget(estate, group, job->base.cancel, err) < 0)
        return err_wrap(err, "stop replication of %s", group);
    return 0;
}

int job_remove_replica(struct job *job, const char *peer, const char *group, bool keep,
                       const struct key *begun_with, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(world->clock, job->base.cancel, PEER_MS);
    CLEANUP(json_freep)
    json_t *ask =
        json_pack("{s:s, s:s, s:b}", "op", "replica.remove", "group", group, "keep", keep);
    char key_hex[2 * KEY_BYTES + 1];

    if (begun_with) {
        str_hex(begun_with->bytes, sizeof(begun_with->bytes), key_hex);
        (void)json_object_set_new(ask, "key", json_string(key_hex));
        explicit_bzero(key_hex, sizeof(key_hex));
    }

    if (link_ask(world->open_link, world->ctx, peer, ask, NULL, world->clock, cancel, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    err_clear(err);
    return 0;
}

/* Pins belong to runs whose machines read their disks from the replica. A store that cannot be opened
 * (damaged, or its key is gone) cannot say; what those machines have on disk can, see below. `but`: a run
 * whose machine reads from it no longer; NULL. */
static int check_unpinned(struct estate *estate, const char *group, const char *but,
                          struct err *err)
{
    CLEANUP(store_pins_free) struct store_pins pins = VEC_EMPTY;
    const struct store_pin *held = NULL;
    struct store *store;

    if (estate_store_get(estate, group, &store, err) < 0) {
        if (err->code != ERR_CORRUPT && err->code != ERR_NOT_FOUND && err->code != ERR_AUTH)
            return -1;
        err_clear(err);
        return 0;
    }
    store_dir_pins(store, &pins);
    estate_store_put(estate, group, store, false);
    VEC_FOREACH(pin, &pins)
        if (!str_starts(pin->label, BRANCH_PIN) && !(but && str_eq(pin->label, but)))
            held = pin; /* a branch's segments stay, and its disk as it is */
    if (!held)
        return 0;
    if (str_starts(held->label, PERSON_PIN))
        return err_set(err, ERR_STATE, 0,
                       "point %" PRIu64 " of %s is pinned as \"%s\"; hint: `muster point unpin %s "
                       "%s` first, or `muster unprotect %s --keep-replica`",
                       held->point, group, pin_shown(held->label), group, pin_shown(held->label),
                       group);
    return err_set(err, ERR_STATE, 0,
                   "the replica of %s is in use by \"%s\"; hint: clean up that run first", group,
                   held->label);
}

static int remove_local(struct estate *estate, const char *group, const char *but, struct err *err)
{
    CLEANUP(mem_freep) char *dir = estate_replica_dir(estate, group);

    if (estate_check_unused(estate, group, err) < 0 || check_unpinned(estate, group, but, err) < 0)
        return -1;
    estate_replica_remove(estate, group);
    if (fs_exists(dir) && store_dir_remove(fs_real(), dir, err) < 0)
        return err_wrap(err, "remove the replica of %s", group);
    return estate_keys_remove(estate, group, err);
}

int job_remove_local_replica(struct estate *estate, const char *group, struct err *err)
{
    return remove_local(estate, group, NULL, err);
}

/* --- Tasks ------------------------------------------------------------------------------- */

static int stop_begin(struct job *job, struct err *err)
{
    return job_protection_state(job, job->object, "disabling", err);
}

/* What a recovered machine's QEMU tracks ends with its process: it may be off, and need not be asked. */
static int forget_recovered(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(mem_freep) char *dir = mem_printf("%s/sessions/%s", world->dir, job->object);

    estate_group_remove(world->estate, job->object);
    if (fs_remove_tree(fs_real(), dir, err) < 0)
        return -1;
    return estate_group_forget(world->estate, job->object, job->base.cancel, err);
}

static int stop_work(struct job *job, struct err *err)
{
    if (arg(job, "replica"))
        return 0;
    return *json_get_str(job->args, "run", "") ? forget_recovered(job, err)
                                               : job_forget_source(job, job->object, err);
}

static int replica_work(struct job *job, struct err *err)
{
    const char *peer = json_get_str(job->args, "peer", "");

    if (arg(job, "replica"))
        return remove_local(job_world(job)->estate, job->object, json_get_str(job->args, "run", ""),
                            err);
    if (job_remove_replica(job, peer, job->object, arg(job, "keep"), NULL, err) == 0)
        return 0;
    if (!arg(job, "force"))
        return err_wrap(err,
                        "the replica at %s was not removed; hint: try again when it answers, or "
                        "--force leaves it there",
                        peer);
    (void)snprintf(job->progress.note, sizeof(job->progress.note),
                   "the replica at %.60s was left there: %.400s", peer, err->text);
    err_clear(err);
    return 0;
}

/* A machine that was recovered here left the replica it came from. */
static int drop_work(struct job *job, struct err *err)
{
    struct estate *estate = job_world(job)->estate;
    CLEANUP(mem_freep) char *dir = estate_replica_dir(estate, job->object);

    return fs_exists(dir)
               ? remove_local(estate, job->object, json_get_str(job->args, "run", ""), err)
               : estate_keys_remove(estate, job->object, err);
}

static int settled(struct job *job, const struct err *failure, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    int64_t now = world->clock->wall_ms(world->clock);

    if (failure) {
        if (job_protection_state(job, job->object, "disabling-failed", err) < 0)
            return -1;
        return state_audit(world->state, now, job->who, "protection.failed", job->object,
                           failure->text, err);
    }
    if (job_protection_remove(job, job->object, err) < 0)
        return -1;
    return state_audit(world->state, now, job->who, "protection.removed", job->object, "", err);
}

const struct job_kind *job_kind_unprotect(void)
{
    static const struct job_task tasks[] = {
        {"stop replication", stop_begin, stop_work, NULL, NULL},
        {"remove the replica", NULL, replica_work, NULL, NULL},
        {"drop keys", NULL, drop_work, NULL, NULL},
    };
    static const struct job_kind kind = {
        .name = "unprotect",
        .tasks = tasks,
        .task_count = ARRAY_LEN(tasks),
        .exclusive = true,
        .settled = settled,
    };

    return &kind;
}

/* --- Asked for --------------------------------------------------------------------------- */

/* What stops the machine from being started twice would go with the protection. */
static int refuse_retired(struct estate *estate, const struct state_protection *row,
                          struct err *err)
{
    struct estate_mark mark;

    if (estate_mark_read(estate, row->group, &mark, err) < 0)
        return -1;
    if (mark.retired)
        return err_set(err, ERR_STATE, 0,
                       "%s was failed over to %s (generation %" PRIu64 "): without its protection "
                       "nothing would keep it from being started here, too; hint: --force when it "
                       "does not run there any more",
                       row->group, row->peer, mark.retired);
    return 0;
}

/* Committed here, protected again or about to be: only its protection leads it anywhere else. */
static int refuse_recovered(const struct state_protection *row, struct err *err)
{
    return err_set(err, ERR_STATE, 0,
                   "%s was failed over to here from %s: without its protection there is no way "
                   "back, and nothing tells %s any more to leave its old one off; hint: bring it "
                   "back first, `muster failback %s` at %s; --force when %s is gone for good: then "
                   "`muster machine keep %s` makes it an ordinary machine here, to be protected "
                   "anew",
                   row->group, row->peer, row->peer, row->group, row->peer, row->peer, row->group);
}

/* The run of its recovered machines, when this is their protection; "": it is somebody else's. */
static int recovered(const struct jobs *jobs, const struct state_protection *row,
                     char ret_run[NAME_MAX_BYTES], struct err *err)
{
    bool ours = str_eq(row->role, "source") || str_eq(row->state, "committed")
                || str_starts(row->state, "reprotecting") || str_starts(row->state, "disabling");

    struct machine_names machines;

    ret_run[0] = '\0';
    if (job_machines(row, &machines, err) < 0)
        return -1;
    for (size_t i = 0; ours && !*ret_run && i < machines.count; i++)
        if (job_instance_of(jobs, machines.at[i], ret_run, err) < 0)
            return -1;
    return 0;
}

static int check_unprotect(struct jobs *jobs, const struct state_protection *row, const char *run,
                           bool force, struct err *err)
{
    struct estate *estate = jobs_world_of(jobs)->estate;
    bool replica = str_eq(row->role, "replica");

    if (!replica && !force && refuse_retired(estate, row, err) < 0)
        return -1;
    if (!force && *run)
        return refuse_recovered(row, err);
    if (replica && !force && !str_eq(row->state, "kept"))
        return err_set(err, ERR_STATE, 0,
                       "%s is sent here by %s; hint: unprotect it there, or --force when that "
                       "site is gone for good",
                       row->group, row->peer);
    /* With or without --force: what a machine reads its disks from does not go. */
    return replica || *run ? estate_check_unused(estate, row->group, err) : 0;
}

int jobs_may_unprotect(struct jobs *jobs, const char *machine, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};
    char run[NAME_MAX_BYTES];

    if (state_protection_of(jobs_world_of(jobs)->state, machine, &row, err) < 0
        || recovered(jobs, &row, run, err) < 0)
        return -1;
    return check_unprotect(jobs, &row, run, false, err);
}

int jobs_unprotect(struct jobs *jobs, const struct job_unprotect *spec, int64_t *ret_job,
                   struct err *err)
{
    const struct jobs_world *world = jobs_world_of(jobs);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    struct machine_names machines;
    char run[NAME_MAX_BYTES];

    if (state_protection_of(world->state, spec->machine, &row, err) < 0
        || job_machines(&row, &machines, err) < 0 || recovered(jobs, &row, run, err) < 0
        || check_unprotect(jobs, &row, run, spec->force, err) < 0)
        return -1;
    json_t *args = json_pack("{s:s, s:b, s:b, s:b, s:s, s:o}", "peer", row.peer, "keep", spec->keep,
                             "force", spec->force, "replica", str_eq(row.role, "replica"), "run",
                             run, "machines", machine_names_json(&machines));
    return job_start(jobs, job_kind_unprotect(), row.group, args, spec->who, ret_job, err);
}
