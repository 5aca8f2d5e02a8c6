// SPDX-License-Identifier: Apache-2.0
/* An old primary that meets its peer again. Each step may be asked for again after a crash; the
 * order is what makes it safe:
 *
 *   mark      durable: which generation, who has it, since when; the machine is never started here,
 *             or continued, from now on
 *   stop      the processors of all its machines stand still: no further write exists
 *   branch    its last writes, sealed and durable (sync/session_branch.c), or known to be none
 *   end       the processes go, and the maps with them; what the disks look like then is noted
 *   settled   durable: nothing is left to do
 *
 * If the branch cannot be written, the process stays, paused: its maps are all that knows what was
 * written. It is tried again now and then. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "sites/branch.h"
#include "sites/site.h"
#include "sites/site_local.h"

#include <inttypes.h>
#include <stdio.h>

#define TRY_AGAIN_MS 15000
#define ASK_MS       5000
#define STOP_MS      20000

/* --- The mark and the stop -------------------------------------------------------------------- */

static int64_t wall_ms(struct estate *estate)
{
    struct clock *clock = estate_clock(estate);

    return clock->wall_ms(clock);
}

static int generation_of(struct estate *estate, const char *group, uint64_t *ret_generation,
                         struct err *err)
{
    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, group);
    if (sender)
        *ret_generation = sender->group.generation;
    estate_unlock(estate);
    return sender ? 0
                  : err_set(err, ERR_NOT_FOUND, 0, "%s does not send \"%s\"", estate->site, group);
}

/* Marks are read, changed and written by links, runs and the watch. */
static void lock_mark(struct estate *estate, const char *group, bool lock)
{
    CLEANUP(mem_freep) char *name = mem_printf("%s mark", group);

    if (lock)
        estate_machine_lock(estate, name);
    else
        estate_machine_unlock(estate, name);
}

/* Whoever holds the group for a failover: the generation decides, and it is higher. */
static int raise_mark(struct estate *estate, const char *group, const char *by, uint64_t generation,
                      struct err *err)
{
    struct estate_mark mark;

    if (estate_mark_read(estate, group, &mark, err) < 0)
        return -1;
    if (mark.retired >= generation)
        return 0;
    if (mark.retired == 0)
        mark.since_ms = wall_ms(estate);
    else if (mark.settled == mark.retired)
        mark.settled = generation; /* promoted once more: what was settled here still is */
    mark.retired = generation;
    (void)snprintf(mark.by, sizeof(mark.by), "%s", by);
    if (estate_mark_write(estate, group, &mark, err) < 0)
        return -1;
    CRASH_POINT("source.fenced");
    log_warn("fence", "group=%s retired by=%s generation=%" PRIu64, group, by, generation);
    estate_tell(estate, group, "retired", generation);
    return 0;
}

static int mark_retired(struct estate *estate, const char *group, const char *by,
                        uint64_t generation, struct err *err)
{
    lock_mark(estate, group, true);
    int rc = raise_mark(estate, group, by, generation, err);
    lock_mark(estate, group, false);
    return rc;
}

/* Nothing was written beyond the point; durable before the process, which knows it, ends. Settled:
 * the last word. */
static int mark_progress(struct estate *estate, const char *group, uint64_t clean, bool settled,
                         struct err *err)
{
    struct estate_mark mark;

    lock_mark(estate, group, true);
    int rc = estate_mark_read(estate, group, &mark, err);
    if (rc == 0) {
        mark.clean = clean ? clean : mark.clean;
        mark.settled = settled ? mark.retired : mark.settled;
        rc = settled ? estate_seal(estate, group, &mark, err)
                     : estate_mark_write(estate, group, &mark, err);
    }
    lock_mark(estate, group, false);
    return rc;
}

typedef int machine_fn(struct provider *provider, const struct provider_instance *instance,
                       struct cancel *cancel, struct err *err);

static int seat_of(struct estate *estate, const char *machine, struct site_seat *seat,
                   struct err *err)
{
    char run[NAME_MAX_BYTES];

    estate_seat_run(estate, machine, run);
    return site_seat_get(estate, machine, run, seat, err);
}

static int on_machine(struct estate *estate, const char *machine, machine_fn *fn, int64_t within_ms,
                      struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(estate_clock(estate), cancel, within_ms);
    CLEANUP(site_seat_done) struct site_seat seat = {0};
    struct err missing = ERR_EMPTY;

    if (seat_of(estate, machine, &seat, &missing) < 0)
        return 0; /* a machine that is no longer known here is not run by us */
    estate_machine_lock(estate, seat.lock);
    int rc = fn(provider, &seat.view, limit, err);
    estate_machine_unlock(estate, seat.lock);
    return rc;
}

/* Each machine of the group, whatever the others met; the first error is told. */
static int on_machines(struct estate *estate, const char *group, machine_fn *fn, int64_t within_ms,
                       struct cancel *cancel, struct err *err)
{
    struct machine_names machines;
    int rc = 0;

    estate_group_machines(estate, group, &machines);
    for (size_t i = 0; i < machines.count; i++) {
        struct err more = ERR_EMPTY;

        if (on_machine(estate, machines.at[i], fn, within_ms, cancel, &more) == 0)
            continue;
        if (rc == 0)
            rc = machines.count == 1
                     ? err_set(err, more.code, more.sys, "%s", more.text)
                     : err_set(err, more.code, more.sys, "%s: %s", machines.at[i], more.text);
    }
    return rc;
}

static int stand_still(struct provider *provider, const struct provider_instance *instance,
                       struct cancel *cancel, struct err *err)
{
    return provider->pause(provider, instance, cancel, err);
}

static int end(struct provider *provider, const struct provider_instance *instance,
               struct cancel *cancel, struct err *err)
{
    return provider->stop(provider, instance, cancel, err);
}

static int stop_machine(struct estate *estate, const char *group, struct cancel *cancel,
                        struct err *err)
{
    if (on_machines(estate, group, stand_still, STOP_MS, cancel, err) < 0)
        return err_wrap(err, "stop the old %s", group);
    CRASH_POINT("source.stopped");
    return 0;
}

int estate_retire(struct estate *estate, const char *group, const char *by, uint64_t generation,
                  struct cancel *cancel, struct err *err)
{
    struct session *session;
    uint64_t ours;

    if (generation_of(estate, group, &ours, err) < 0)
        return -1;
    if (generation <= ours)
        return err_set(err, ERR_STATE, 0,
                       "%s asks to retire %s by generation %" PRIu64
                       ", %s writes under generation %" PRIu64,
                       by, group, generation, estate->site, ours);
    if (mark_retired(estate, group, by, generation, err) < 0)
        return -1;
    session = estate_session_get(estate, group);
    if (session) {
        session_pause(session, true);
        estate_session_put(estate, group);
    }
    return stop_machine(estate, group, cancel, err);
}

/* --- The branch and the end ------------------------------------------------------------------- */

static int observe(struct estate *estate, const struct site_seat *seat, bool *ret_alive,
                   struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    enum instance_state state;

    estate_machine_lock(estate, seat->lock);
    int rc = provider->observe(provider, &seat->view, &state, cancel, err);
    estate_machine_unlock(estate, seat->lock);
    if (rc == 0)
        *ret_alive = state != INSTANCE_OFF;
    return rc;
}

/* A planned failover's last point holds all there is: the guest was off, and held since. */
static bool is_clean(const struct estate_mark *mark, const struct session_branch *branch)
{
    bool noted = branch->parent != 0
                 && (mark->final_point == branch->parent || mark->clean == branch->parent);

    return branch->kind == SESSION_BRANCH_NONE || (branch->kind == SESSION_BRANCH_UNKNOWN && noted);
}

struct asked {
    struct estate *estate;
    const char *group;
    const char *peer;
};

static int replica_holds(void *ctx, uint64_t point, const struct sha256 *hash, bool *ret_holds,
                         struct cancel *cancel, struct err *err)
{
    const struct asked *asked = ctx;
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(estate_clock(asked->estate), cancel, ASK_MS);
    CLEANUP(site_closep) struct site *site = site_remote_new(asked->estate, asked->peer);
    CLEANUP(json_freep) json_t *reply = NULL;
    char hex[2 * SHA256_BYTES + 1];
    const json_t *entry;
    size_t i;

    if (site_ask(site, "group.points",
                 json_pack("{s:s, s:I}", "group", asked->group, "before", (json_int_t)point + 1),
                 &reply, limit, err)
        < 0)
        return -1;
    str_hex(hash->bytes, SHA256_BYTES, hex);
    *ret_holds = false;
    json_array_foreach(json_object_get(reply, "points"), i, entry)
        if (json_get_u64(entry, "point", 0) == point)
            *ret_holds = str_eq(json_get_str(entry, "hash", ""), hex);
    return 0;
}

static int stop_again(void *ctx, struct cancel *cancel, struct err *err)
{
    const struct asked *asked = ctx;

    return on_machines(asked->estate, asked->group, stand_still, STOP_MS, cancel, err);
}

/* Their disks, and whether all of them have a process still: what one wrote only its own knows. */
static int look_at_machines(struct estate *estate, const char *group, struct group_owns *owns,
                            bool *ret_alive, struct cancel *cancel, struct err *err)
{
    struct machine_names machines;
    bool all = true;

    estate_group_machines(estate, group, &machines);
    for (size_t i = 0; i < machines.count; i++) {
        CLEANUP(site_seat_done) struct site_seat seat = {0};
        bool alive = false;

        if (seat_of(estate, machines.at[i], &seat, err) < 0
            || observe(estate, &seat, &alive, cancel, err) < 0
            || group_owns_add(&machines, seat.view.machine, owns, err) < 0)
            return -1;
        all = all && alive;
    }
    *ret_alive = all;
    return 0;
}

static int keep_branch(struct estate *estate, const char *group, struct session *session,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(group_owns_free) struct group_owns owns = VEC_EMPTY;
    CLEANUP(mem_freep) char *dir = branch_dir(estate, group);
    CLEANUP(mem_freep) struct session_branch *branch = mem_new(struct session_branch);
    struct estate_mark mark;
    bool alive = false;

    if (estate_mark_read(estate, group, &mark, err) < 0
        || look_at_machines(estate, group, &owns, &alive, cancel, err) < 0)
        return -1;
    struct asked asked = {estate, group, mark.by};
    const struct session_branch_ask ask = {
        .dir = dir, .alive = alive, .holds = replica_holds, .stop = stop_again, .ctx = &asked};
    if (session_branch(session, &ask, branch, cancel, err) < 0)
        return -1;
    bool clean = is_clean(&mark, branch);
    if (clean && mark_progress(estate, group, branch->parent, false, err) < 0)
        return -1;
    if (!clean && branch_note(estate, group, &owns, &mark, branch, err) < 0)
        return err_wrap(err, "the branch of %s", group);
    CRASH_POINT("source.branched");
    if (on_machines(estate, group, end, CANCEL_NEVER, cancel, err) < 0)
        return err_wrap(err, "end the old %s", group);
    if (!clean && branch_note_disks(estate, group, branch->point, &owns, err) < 0)
        return err_wrap(err, "the branch of %s", group);
    log_info("fence", "group=%s branch=%s point=%" PRIu64, group,
             clean                                   ? "none"
             : branch->kind == SESSION_BRANCH_SEALED ? "sealed"
                                                     : "unknown",
             clean ? branch->parent : branch->point);
    return 0;
}

static int settle(struct estate *estate, const char *group, struct cancel *cancel, struct err *err)
{
    struct session *session = estate_session_get(estate, group);

    if (!session)
        return err_set(err, ERR_NOT_FOUND, 0, "%s does not send \"%s\"", estate->site, group);
    int rc = stop_machine(estate, group, cancel, err);
    if (rc == 0)
        rc = keep_branch(estate, group, session, cancel, err);
    estate_session_put(estate, group);
    return rc < 0 ? -1 : mark_progress(estate, group, 0, true, err);
}

/* --- One at a time ---------------------------------------------------------------------------- */

static bool enter(struct estate *estate, const char *group)
{
    estate_lock(estate);
    struct estate_sender *sender = estate_find_sender(estate, group);
    bool ours = sender && !sender->fencing;
    if (ours)
        sender->fencing = true;
    estate_unlock(estate);
    return ours;
}

/* What a person should do, unless the error says so already. */
static void leave(struct estate *estate, const char *group, const struct err *problem)
{
    static const char hint[] =
        "; hint: mend that, then `muster retry`; it is tried again by itself";
    struct clock *clock = estate_clock(estate);

    estate_lock(estate);
    struct estate_sender *sender = estate_find_sender(estate, group);
    if (sender) {
        bool hinted = strstr(problem->text, "; hint: ") != NULL;
        sender->fencing = false;
        sender->fence_retry_ms = clock->now_ms(clock) + TRY_AGAIN_MS;
        (void)snprintf(sender->fence_problem, sizeof(sender->fence_problem), "%.400s%s",
                       problem->text, problem->code == ERR_NONE || hinted ? "" : hint);
    }
    estate_unlock(estate);
}

int estate_fence(struct estate *estate, const char *group, bool *ret_settled, struct cancel *cancel,
                 struct err *err)
{
    struct estate_mark mark;
    struct err problem = ERR_EMPTY;
    int rc = 0;

    *ret_settled = false;
    if (estate_mark_read(estate, group, &mark, err) < 0)
        return -1;
    if (mark.retired == 0)
        return err_set(err, ERR_STATE, 0, "%s is not retired here", group);
    if (mark.settled < mark.retired) {
        if (!enter(estate, group))
            return 0;
        rc = settle(estate, group, cancel, &problem);
        leave(estate, group, &problem);
    }
    if (rc < 0) {
        if (err)
            *err = problem;
        return -1;
    }
    *ret_settled = true;
    return 0;
}

static bool is_due(struct estate *estate, const char *group)
{
    struct clock *clock = estate_clock(estate);

    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, group);
    bool due = sender && !sender->fencing && sender->fence_retry_ms <= clock->now_ms(clock);
    estate_unlock(estate);
    return due;
}

void estate_fence_retry(struct estate *estate, const char *group)
{
    estate_lock(estate);
    struct estate_sender *sender = estate_find_sender(estate, group);
    if (sender)
        sender->fence_retry_ms = 0;
    estate_unlock(estate);
}

int estate_fence_show(struct estate *estate, const char *group, struct estate_fence *ret_fence,
                      struct err *err)
{
    struct estate_fence fence = {.problem = ""};

    if (estate_mark_read(estate, group, &fence.mark, err) < 0)
        return -1;
    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, group);
    if (sender && fence.mark.settled < fence.mark.retired)
        (void)snprintf(fence.problem, sizeof(fence.problem), "%s", sender->fence_problem);
    estate_unlock(estate);
    *ret_fence = fence;
    return 0;
}

/* --- Now and then ----------------------------------------------------------------------------- */

/* The peer refused our writes: its generation is higher; by how much, the sites tell each other. */
static int note_one(struct estate *estate, const struct estate_group *group, uint32_t *done,
                    struct cancel *cancel, struct err *err)
{
    struct session *session = estate_session_get(estate, group->group);
    struct session_status status = {.state = SESSION_PROTECTED};
    struct estate_mark mark;

    if (!session)
        return 0;
    session_status(session, &status);
    estate_session_put(estate, group->group);
    if (status.error.code != ERR_FENCED)
        return 0;
    if (estate_mark_read(estate, group->group, &mark, err) < 0)
        return -1;
    if (mark.retired)
        return 0;
    (*done)++;
    return estate_retire(estate, group->group, group->peer, group->generation + 1, cancel, err);
}

static int settle_one(struct estate *estate, const char *group, uint32_t *done,
                      struct cancel *cancel, struct err *err)
{
    struct estate_mark mark;
    bool settled = false;

    if (estate_mark_read(estate, group, &mark, err) < 0)
        return -1;
    if (mark.retired == 0 || mark.settled >= mark.retired || !is_due(estate, group))
        return 0;
    if (estate_fence(estate, group, &settled, cancel, err) < 0)
        return -1;
    *done += settled;
    return 0;
}

int estate_fence_all(struct estate *estate, uint32_t *ret_done, struct cancel *cancel,
                     struct err *err)
{
    size_t count;
    CLEANUP(mem_freep) struct estate_group *groups = estate_group_list(estate, &count);
    struct err last = ERR_EMPTY;

    *ret_done = 0;
    for (size_t i = 0; i < count; i++) {
        struct err one = ERR_EMPTY;

        if (note_one(estate, &groups[i], ret_done, cancel, &one) < 0
            || settle_one(estate, groups[i].group, ret_done, cancel, &one) < 0)
            last = one;
    }
    if (last.code == ERR_NONE)
        return 0;
    if (err)
        *err = last;
    return -1;
}
