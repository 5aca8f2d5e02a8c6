// SPDX-License-Identifier: Apache-2.0
/* reprotect: after a commit, back to the site that wrote before. Check what became of that side, have
 * it take the disks over (its follow job, watched by number), send what differs, finalize. The row:
 *
 *   committed -> reprotecting -> protected
 *                     `-> reprotecting-failed: reprotect again goes on
 *
 * It turns from replica to source when the peer has taken over, with `instance`, the run whose
 * recovered machines it sends. */
#include "base/mem.h"
#include "link/ask.h"
#include "replica/manifest.h"
#include "run/job_kind.h"
#include "run/policies.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PEER_MS 30000
#define WAIT_MS 1000

struct reprotect {
    struct estate_group group;
    struct job_settings settings;
    uint64_t tip_point;
    int64_t follow_job; /* at the peer; 0: not asked yet, -1: done */
};

static int load(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(json_freep) json_t *json = NULL;
    struct job_settings settings;
    struct machine_names machines;

    if (job->data)
        return 0;
    if (state_protection_get(world->state, job->object, &row, err) < 0
        || job_settings_parse(row.settings, &settings, err) < 0
        || job_machines(&row, &machines, err) < 0
        || json_parse(row.settings, strlen(row.settings), &json, err) < 0)
        return -1;
    struct reprotect *reprotect = mem_new(struct reprotect);
    struct estate_group *group = &reprotect->group;
    job->data = reprotect;
    (void)snprintf(group->group, sizeof(group->group), "%s", job->object);
    (void)snprintf(group->peer, sizeof(group->peer), "%s", row.peer);
    (void)snprintf(group->run, sizeof(group->run), "%s", json_get_str(job->args, "instance", ""));
    group->generation = row.generation;
    group->policy = settings.policy;
    group->machines = machines;
    reprotect->settings = settings;
    return 0;
}

static int call_peer(struct job *job, const json_t *ask, json_t **ret_answer, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    const struct reprotect *reprotect = job->data;
    CLEANUP(cancel_freep)
    struct cancel *cancel = cancel_new(world->clock, job->base.cancel, PEER_MS);

    return link_ask(world->open_link, world->ctx, reprotect->group.peer, ask, ret_answer,
                    world->clock, cancel, err);
}

/* --- Check ------------------------------------------------------------------------------- */

static int judge(struct job *job, const json_t *seen, struct err *err)
{
    const struct reprotect *reprotect = job->data;
    const char *peer = reprotect->group.peer;
    uint64_t theirs = json_get_u64(seen, "generation", 0);
    uint64_t ours = reprotect->group.generation;

    if (theirs > ours)
        return err_set(err, ERR_FENCED, 0,
                       "%s is at generation %" PRIu64 " of %s, this site is at %" PRIu64
                       ": it was promoted there since; hint: do not run the machine here",
                       peer, theirs, job->object, ours);
    if (!str_eq(json_get_str(seen, "role", ""), "source")
        || json_get_u64(seen, "final_point", 0) != 0 || json_get_u64(seen, "clean", 0) != 0
        || json_get_bool(job->args, "accept_branch", false))
        return 0;
    return err_set(err, ERR_STATE, 0,
                   "%s may have written at %s after point %" PRIu64
                   ", the last one that both sites have: a branch; hint: `muster reprotect %s "
                   "--accept-branch` keeps it there as a point and makes %s the replica",
                   job->object, peer, json_get_u64(seen, "durable_point", 0), job->object, peer);
}

static int check_work(struct job *job, struct err *err)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    CLEANUP(json_freep)
    json_t *ask = json_pack("{s:s, s:s, s:{s:s, s:s}}", "op", "site.ask", "what", "group.observe",
                            "args", "group", job->object, "run", "");

    if (call_peer(job, ask, &answer, err) < 0)
        return job_wait_for_peer(job, WAIT_MS, err);
    return judge(job, answer, err);
}

/* --- Hand over --------------------------------------------------------------------------- */

static int over_begin(struct job *job, struct err *err)
{
    if (load(job, err) < 0)
        return -1;
    return job_protection_state(job, job->object, "reprotecting", err);
}

static int promotion(struct job *job, struct estate_promotion *ret_promotion, struct err *err)
{
    struct reprotect *reprotect = job->data;
    CLEANUP(manifest_done) struct manifest tip;

    manifest_init(&tip);
    if (estate_promotion_get(job_world(job)->estate, job->object, ret_promotion, err) < 0
        || manifest_parse(ret_promotion->tip, strlen(ret_promotion->tip), &tip, err) < 0)
        return -1;
    reprotect->tip_point = tip.point;
    return 0;
}

static int ask_follow(struct job *job, const struct estate_promotion *from, json_t **ret_answer,
                      struct err *err)
{
    const struct reprotect *reprotect = job->data;
    const struct estate_group *group = &reprotect->group;
    char key[2 * SIGN_KEY_BYTES + 1];

    str_hex(job_world(job)->writer_key, SIGN_KEY_BYTES, key);
    CLEANUP(json_freep)
    json_t *ask = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:O?, s:I, s:I}", "op", "replica.follow", "group", job->object,
        "writer_key", key, "tip", from->tip, "first", from->first, "proof", from->proof,
        "generation", (json_int_t)group->generation, "job", (json_int_t)reprotect->follow_job);
    job_settings_put(&reprotect->settings, ask);
    return call_peer(job, ask, ret_answer, err);
}

static int over_work(struct job *job, struct err *err)
{
    struct reprotect *reprotect = job->data;
    CLEANUP(estate_promotion_done) struct estate_promotion from = {0};
    CLEANUP(json_freep) json_t *answer = NULL;

    if (promotion(job, &from, err) < 0)
        return -1;
    if (ask_follow(job, &from, &answer, err) < 0)
        return job_wait_for_peer(job, WAIT_MS, err);
    if (json_get_bool(answer, "done", false))
        return 0;
    reprotect->follow_job = (int64_t)json_get_u64(answer, "job", 0);
    (void)snprintf(job->progress.note, sizeof(job->progress.note), "%s takes the disks over%s%s",
                   reprotect->group.peer, *json_get_str(answer, "note", "") ? ": " : "",
                   json_get_str(answer, "note", ""));
    job->again_ms = WAIT_MS / 2;
    return JOB_AGAIN;
}

/* --- Reverse sync ------------------------------------------------------------------------ */

/* From here on this site is the source. */
static int sync_begin(struct job *job, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    CLEANUP(json_freep) json_t *settings = NULL;
    struct job_settings kept;

    if (load(job, err) < 0 || state_protection_get(world->state, job->object, &row, err) < 0
        || json_parse(row.settings, strlen(row.settings), &settings, err) < 0
        || job_settings_parse(row.settings, &kept, err) < 0
        || policies_arrive(world->state, &kept, world->clock->wall_ms(world->clock), err) < 0)
        return -1;
    const struct reprotect *reprotect = job->data;
    job_settings_put(&kept, settings);
    (void)json_object_del(settings, "seeds");
    (void)json_object_del(settings, "networks"); /* they were those of the other direction */
    (void)json_object_del(settings, "instance");
    if (reprotect->group.run[0])
        (void)json_object_set_new(settings, "instance", json_string(reprotect->group.run));
    else
        (void)json_object_del(settings, "writer_key"); /* there is no replica here any more */
    free(row.role);
    free(row.settings);
    row.role = mem_strdup("source");
    row.settings = json_text(settings);
    return state_protection_put(world->state, &row, err);
}

static void sync_progress(struct job *job, const struct session_status *status)
{
    struct job_progress *p = &job->progress;
    char time[32];

    *p = (struct job_progress){.unit = "bytes", .rate_per_s = status->rate_per_s, .left_ms = -1};
    p->disk_count = status->disk_count;
    for (size_t i = 0; i < status->disk_count; i++) {
        p->disks[i] = status->disks[i];
        p->done += status->disks[i].done_bytes;
        p->total += status->disks[i].total_bytes;
    }
    if (status->state == SESSION_BACKING_OFF)
        (void)snprintf(p->note, sizeof(p->note), "tried again at %s: %.400s",
                       str_time(status->retry_at_ms, time, sizeof(time)), status->error.text);
    else
        (void)snprintf(p->note, sizeof(p->note), "%s", status->note);
}

static int sync_work(struct job *job, struct err *err)
{
    struct estate *estate = job_world(job)->estate;
    struct reprotect *reprotect = job->data;
    CLEANUP(mem_freep) struct session_status *status = mem_new(struct session_status);
    CLEANUP(estate_promotion_done) struct estate_promotion from = {0};

    if ((reprotect->tip_point == 0 && promotion(job, &from, err) < 0)
        || estate_group_add(estate, &reprotect->group, err) < 0)
        return -1;
    struct session *session = estate_session_get(estate, job->object);
    if (!session)
        return err_set(err, ERR_STATE, 0, "%s is not sent from here any more", job->object);
    session_status(session, status);
    estate_session_put(estate, job->object);
    sync_progress(job, status);
    if (status->state == SESSION_CRITICAL || status->state == SESSION_FENCED) {
        *err = status->error;
        return -1;
    }
    if (status->durable_point > reprotect->tip_point
        && status->applied_point == status->durable_point)
        return 0;
    job->again_ms = WAIT_MS / 2;
    return JOB_AGAIN;
}

/* --- Finalize ---------------------------------------------------------------------------- */

static int finalize_work(struct job *job, struct err *err)
{
    CLEANUP(json_freep)
    json_t *ask = json_pack("{s:s, s:s, s:s}", "op", "replica.state", "group", job->object, "state",
                            "protected");

    if (call_peer(job, ask, NULL, err) < 0)
        return job_wait_for_peer(job, WAIT_MS, err);
    const struct estate_group *group = &((const struct reprotect *)job->data)->group;
    for (size_t i = 0; group->run[0] && i < group->machines.count; i++)
        if (estate_instance_drop_changes(job_world(job)->estate, group->run, group->machines.at[i],
                                         err)
            < 0)
            return -1;
    return 0;
}

static int settled(struct job *job, const struct err *failure, struct err *err)
{
    const struct jobs_world *world = job_world(job);
    const char *state = !failure         ? "protected"
                        : job->task == 0 ? "committed"
                                         : "reprotecting-failed";

    if (job_protection_state(job, job->object, state, err) < 0)
        return -1;
    return state_audit(world->state, world->clock->wall_ms(world->clock), job->who,
                       failure ? "protection.reverse-failed" : "protection.reversed", job->object,
                       failure ? failure->text : "", err);
}

static void reprotect_free(void *data)
{
    free(data);
}

const struct job_kind *job_kind_reprotect(void)
{
    static const struct job_task tasks[] = {
        {"check the other side", load, check_work, NULL, NULL},
        {"hand over", over_begin, over_work, NULL, NULL},
        {"reverse sync", sync_begin, sync_work, NULL, NULL},
        {"finalize", load, finalize_work, NULL, NULL},
    };
    static const struct job_kind kind = {
        .name = "reprotect",
        .tasks = tasks,
        .task_count = ARRAY_LEN(tasks),
        .exclusive = true,
        .settled = settled,
        .data_free = reprotect_free,
    };

    return &kind;
}

/* --- Asked for --------------------------------------------------------------------------- */

int job_instance_of(const struct jobs *jobs, const char *machine, char ret_run[NAME_MAX_BYTES],
                    struct err *err)
{
    CLEANUP(state_instance_done) struct state_instance instance = {0};
    struct err why = ERR_EMPTY;

    ret_run[0] = '\0';
    if (state_instance_recovered(jobs_world_of(jobs)->state, machine, &instance, &why) == 0) {
        (void)snprintf(ret_run, NAME_MAX_BYTES, "%s", instance.run);
        return 0;
    }
    if (why.code == ERR_NOT_FOUND)
        return 0;
    *err = why;
    return -1;
}

static int check_state(const struct state_protection *row, struct err *err)
{
    static const char *const from[] = {"committed", "reprotecting", "reprotecting-failed"};

    for (size_t i = 0; i < ARRAY_LEN(from); i++)
        if (str_eq(row->state, from[i]))
            return 0;
    if (str_eq(row->state, "failed-over") && str_eq(row->role, "replica"))
        return err_set(err, ERR_STATE, 0,
                       "%s was failed over and is not committed; hint: `muster commit %s` first",
                       row->group, row->group);
    return err_set(err, ERR_STATE, 0, "%s is %s here (%s, %s): there is nothing to reverse",
                   row->group, row->state, row->role, row->peer);
}

int jobs_may_reprotect(struct jobs *jobs, const char *machine, struct err *err)
{
    CLEANUP(state_protection_done) struct state_protection row = {0};

    if (state_protection_of(jobs_world_of(jobs)->state, machine, &row, err) < 0)
        return -1;
    return check_state(&row, err);
}

/* The run that recovered the group here; "": its machines are our own. All came by the same one. */
static int instance_of_group(struct jobs *jobs, const struct state_protection *row,
                             char ret_run[NAME_MAX_BYTES], struct err *err)
{
    struct machine_names machines;

    if (job_machines(row, &machines, err) < 0)
        return -1;
    for (size_t i = 0; i < machines.count; i++) {
        char run[NAME_MAX_BYTES];

        if (job_instance_of(jobs, machines.at[i], run, err) < 0)
            return -1;
        if (i == 0)
            memcpy(ret_run, run, sizeof(run));
        else if (!str_eq(run, ret_run))
            return err_set(err, ERR_STATE, 0,
                           "%s was brought here by \"%s\", %s of the same group by \"%s\"; hint: "
                           "`muster run list` shows what became of them",
                           machines.at[0], ret_run, machines.at[i], run);
    }
    return 0;
}

int jobs_reprotect(struct jobs *jobs, const struct job_reprotect *spec, int64_t *ret_job,
                   struct err *err)
{
    const struct jobs_world *world = jobs_world_of(jobs);
    CLEANUP(state_protection_done) struct state_protection row = {0};
    char run[NAME_MAX_BYTES];

    if (state_protection_of(world->state, spec->machine, &row, err) < 0
        || check_state(&row, err) < 0 || instance_of_group(jobs, &row, run, err) < 0)
        return -1;
    json_t *args = json_pack("{s:s, s:b, s:s}", "peer", row.peer, "accept_branch",
                             spec->accept_branch, "instance", run);
    return job_start(jobs, job_kind_reprotect(), row.group, args, spec->who, ret_job, err);
}
