// SPDX-License-Identifier: Apache-2.0
/* What is asked of the side that writes: its machine, and its group's session. A hold is durable
 * before the session is paused, and lifted before it is released: a restart in between finds the
 * mark and does the rest. */
#include "base/fault.h"
#include "base/mem.h"
#include "sites/estate_base.h"
#include "sites/site_local.h"

#include <inttypes.h>
#include <stdio.h>

/* --- The machine itself --------------------------------------------------------------------- */

static int seat_of(struct estate *estate, const json_t *args, struct site_seat *seat,
                   struct err *err)
{
    const char *name;
    char run[NAME_MAX_BYTES];

    if (json_need_str(args, "machine", "ask", &name, err) < 0)
        return -1;
    estate_seat_run(estate, name, run);
    return site_seat_get(estate, name, run, seat, err);
}

typedef int seat_fn(struct provider *provider, const struct provider_instance *instance,
                    struct cancel *cancel, struct err *err);

/* Runs what starts or ends a machine's process, with its lock held: its session learns of it, but not
 * when nothing changed, since disks that nothing tracks are compared as a whole then. */
static int change_seat(struct estate *estate, const json_t *args, seat_fn *fn,
                       struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_seat_done) struct site_seat seat = {0};
    enum instance_state before;
    enum instance_state after;
    struct err unseen = ERR_EMPTY;

    if (seat_of(estate, args, &seat, err) < 0)
        return -1;
    estate_machine_lock(estate, seat.lock);
    int rc = provider->observe(provider, &seat.view, &before, cancel, err);
    if (rc == 0)
        rc = fn(provider, &seat.view, cancel, err);
    bool same = rc == 0 && provider->observe(provider, &seat.view, &after, cancel, &unseen) == 0
                && after == before;
    estate_machine_unlock(estate, seat.lock);
    if (!same)
        site_tell_session(estate, json_get_str(args, "machine", ""));
    return rc;
}

int ask_machine_observe(struct estate *estate, const json_t *args, json_t **ret_result,
                        struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_seat_done) struct site_seat seat = {0};
    enum instance_state state;

    if (seat_of(estate, args, &seat, err) < 0
        || provider->observe(provider, &seat.view, &state, cancel, err) < 0)
        return -1;
    *ret_result = json_pack("{s:s}", "state", instance_state_name(state));
    return 0;
}

int ask_machine_shutdown(struct estate *estate, const json_t *args, json_t **ret_result,
                         struct cancel *cancel, struct err *err)
{
    int64_t within = (int64_t)json_get_u64(args, "within_ms", INT64_MAX);
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(estate_clock(estate), cancel, within);
    CLEANUP(site_seat_done) struct site_seat seat = {0};

    (void)ret_result;
    if (seat_of(estate, args, &seat, err) < 0)
        return -1;
    return site_shutdown(estate, &seat.view, seat.lock, limit, err);
}

/* A process whose guest is shut down cannot be used again: it ends, a new one starts. Its maps are
 * gone with it, so the next cycle compares the disks with what the replica has. */
static int start(struct provider *provider, const struct provider_instance *instance,
                 struct cancel *cancel, struct err *err)
{
    enum instance_state state;

    if (provider->observe(provider, instance, &state, cancel, err) < 0)
        return -1;
    switch (state) {
    case INSTANCE_RUNNING: return 0;
    case INSTANCE_PAUSED:
    case INSTANCE_IO_ERROR: return provider->resume(provider, instance, cancel, err);
    case INSTANCE_SHUTDOWN:
        /* One that was adopted is its owner's process: it begins again as it is. */
        if (!instance->machine->qmp[0] && provider->stop(provider, instance, cancel, err) < 0)
            return -1;
        break;
    case INSTANCE_OFF: break;
    }
    return provider->start(provider, instance, false, cancel, err);
}

/* For the first time since it came back: what it writes is known from its first instruction. */
static int start_armed(struct estate *estate, const char *name, struct cancel *cancel,
                       struct err *err)
{
    CLEANUP(site_seat_done) struct site_seat seat = {0};
    char group[NAME_MAX_BYTES];

    (void)estate_group_of(estate, name, group);

    if (site_seat_get(estate, name, "", &seat, err) < 0)
        return -1;
    estate_machine_lock(estate, seat.lock);
    int rc = site_own_arm_start(estate, group, &seat.view, cancel, err);
    estate_machine_unlock(estate, seat.lock);
    site_tell_session(estate, name);
    return rc;
}

int ask_machine_start(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    const char *machine = json_get_str(args, "machine", "");

    (void)ret_result;
    char run[NAME_MAX_BYTES];

    if (estate_may_start(estate, machine, err) < 0)
        return -1;
    if (json_get_bool(args, "without_peer", false)
            ? estate_boot_trust(estate, machine, err) < 0
            : estate_boot_check(estate, machine, cancel, err) < 0)
        return -1;
    estate_seat_run(estate, machine, run);
    if (!*run) {
        bool unarmed = false;
        char group[NAME_MAX_BYTES];
        (void)estate_group_of(estate, machine, group);
        if (estate_base_unarmed(estate, group, machine, &unarmed, err) < 0)
            return -1;
        return unarmed ? start_armed(estate, machine, cancel, err)
                       : change_seat(estate, args, start, cancel, err);
    }
    CLEANUP(json_freep)
    json_t *recovered = json_pack("{s:s, s:s, s:b}", "machine", machine, "run", run, "test", 0);
    int rc = ask_instance_start(estate, recovered, NULL, cancel, err);
    site_tell_session(estate, machine);
    return rc;
}

static int stop(struct provider *provider, const struct provider_instance *instance,
                struct cancel *cancel, struct err *err)
{
    return provider->stop(provider, instance, cancel, err);
}

int ask_machine_stop(struct estate *estate, const json_t *args, json_t **ret_result,
                     struct cancel *cancel, struct err *err)
{
    (void)ret_result;
    return change_seat(estate, args, stop, cancel, err);
}

/* An adopted machine goes back to whoever started it. */
int ask_machine_release(struct estate *estate, const json_t *args, json_t **ret_result,
                        struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_seat_done) struct site_seat seat = {0};

    (void)ret_result;
    if (seat_of(estate, args, &seat, err) < 0)
        return -1;
    if (!provider->release)
        return err_set(err, ERR_UNSUPPORTED, 0, "provider %s adopts no machines", provider->name);
    estate_machine_lock(estate, seat.lock);
    int rc = provider->release(provider, &seat.view, cancel, err);
    estate_machine_unlock(estate, seat.lock);
    return rc;
}

/* --- The group's session -------------------------------------------------------------------- */

static int session_need(struct estate *estate, const json_t *args, const char **ret_group,
                        const char **ret_run, struct session **ret_session, struct err *err)
{
    if (json_need_str(args, "group", "ask", ret_group, err) < 0
        || json_need_str(args, "run", "ask", ret_run, err) < 0)
        return -1;
    *ret_session = estate_session_get(estate, *ret_group);
    if (!*ret_session)
        return err_set(err, ERR_NOT_FOUND, 0, "%s does not send \"%s\"", estate_site(estate),
                       *ret_group);
    return 0;
}

/* Held by another run: that one must end first. */
static int take_mark(struct estate *estate, const char *group, const char *run,
                     struct estate_mark *ret_mark, struct err *err)
{
    if (estate_mark_read(estate, group, ret_mark, err) < 0)
        return -1;
    if (ret_mark->held[0] && !str_eq(ret_mark->held, run))
        return err_set(err, ERR_STATE, 0,
                       "%s is held for the failover %s; hint: let that run end, or cancel it",
                       group, ret_mark->held);
    (void)snprintf(ret_mark->held, sizeof(ret_mark->held), "%s", run);
    return 0;
}

static int hold(struct estate *estate, const char *group, const char *run, struct session *session,
                struct err *err)
{
    struct estate_mark mark;

    if (take_mark(estate, group, run, &mark, err) < 0
        || estate_mark_write(estate, group, &mark, err) < 0)
        return -1;
    CRASH_POINT("source.held");
    session_pause(session, true);
    estate_tell(estate, group, "held", mark.retired);
    return 0;
}

int ask_group_hold(struct estate *estate, const json_t *args, json_t **ret_result,
                   struct cancel *cancel, struct err *err)
{
    const char *group;
    const char *run;
    struct session *session;

    (void)ret_result;
    (void)cancel;
    if (session_need(estate, args, &group, &run, &session, err) < 0)
        return -1;
    int rc = hold(estate, group, run, session, err);
    estate_session_put(estate, group);
    return rc;
}

int ask_group_release(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    const char *group;
    const char *run;
    struct session *session;
    struct estate_mark mark;
    const struct estate_mark none = {0};

    (void)ret_result;
    (void)cancel;
    if (session_need(estate, args, &group, &run, &session, err) < 0)
        return -1;
    int rc = estate_mark_read(estate, group, &mark, err);
    if (rc == 0 && mark.retired)
        rc = err_set(err, ERR_FENCED, 0, "%s was failed over (generation %" PRIu64 ")", group,
                     mark.retired);
    if (rc == 0 && str_eq(mark.held, run)) {
        rc = estate_mark_write(estate, group, &none, err);
        if (rc == 0) {
            session_pause(session, false);
            if (estate->config.scheduler)
                scheduler_kick(estate->config.scheduler, session);
            estate_tell(estate, group, "released", 0);
        }
    }
    estate_session_put(estate, group);
    return rc;
}

/* Held first: a machine that somebody starts between the last delta and the promotion would write
 * what nobody ever sees. The session makes its last cycle although it is paused. */
static int final_sync(struct estate *estate, const char *group, const char *run,
                      struct session *session, uint64_t *ret_point, struct cancel *cancel,
                      struct err *err)
{
    struct estate_mark mark;

    if (take_mark(estate, group, run, &mark, err) < 0)
        return -1;
    if (mark.final_point == 0) {
        if (hold(estate, group, run, session, err) < 0
            || session_sync_now(session, true, &mark.final_point, cancel, err) < 0)
            return -1;
        CRASH_POINT("source.synced");
        session_pause(session, true);
        if (estate_mark_write(estate, group, &mark, err) < 0)
            return -1;
    }
    *ret_point = mark.final_point;
    return 0;
}

int ask_group_final_sync(struct estate *estate, const json_t *args, json_t **ret_result,
                         struct cancel *cancel, struct err *err)
{
    const char *group;
    const char *run;
    struct session *session;
    uint64_t point;

    if (session_need(estate, args, &group, &run, &session, err) < 0)
        return -1;
    int rc = final_sync(estate, group, run, session, &point, cancel, err);
    estate_session_put(estate, group);
    if (rc == 0)
        *ret_result = json_pack("{s:I}", "point", (json_int_t)point);
    return rc;
}

/* What is so when it returns: marked for good, and the machine stands still. What is left (its branch,
 * its end) is done at once if it can be, and else now and then by itself (estate_fence.c). */
int ask_group_retire(struct estate *estate, const json_t *args, json_t **ret_result,
                     struct cancel *cancel, struct err *err)
{
    const char *group;
    uint64_t generation;
    char peer[NAME_MAX_BYTES] = "";
    struct err problem = ERR_EMPTY;
    bool settled = false;

    if (json_need_str(args, "group", "ask", &group, err) < 0
        || json_need_u64(args, "generation", "ask", &generation, err) < 0)
        return -1;
    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, group);
    if (sender)
        (void)snprintf(peer, sizeof(peer), "%s", sender->group.peer);
    estate_unlock(estate);
    if (estate_retire(estate, group, peer, generation, cancel, err) < 0)
        return -1;
    (void)(estate_fence(estate, group, &settled, cancel, &problem) < 0);
    *ret_result = json_pack("{s:b, s:s}", "settled", settled, "problem", problem.text);
    return 0;
}
