// SPDX-License-Identifier: Apache-2.0
/* The barrier. What takes long comes before it and after it:
 *
 *   staging files of all ─ [freeze all] ─ note ─ stop all ─ cut each ─ continue all ─ [thaw all] ─ copies
 *
 * While the last one is stopped and the first one is not yet continued nothing is written by any: the
 * transactions in between are one instant. Machines that stand still already are not touched, and one
 * that somebody else stops meanwhile, for good, is not continued (qemu/standstill.h). */
#include "block/source_group.h"

#include "base/crypto.h"
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STILL_MS \
    8000 /* from the first one's stop to the last one's cut; a guardian's patience is longer */
#define CONTINUE_MS 5000

struct barrier {
    struct source_group *group;
    struct freeze freeze;
    struct guardian *stopper; /* NULL: nothing is to be stopped */
    char by[STANDSTILL_BY_BYTES];
    bool *runs;    /* each machine, when it was looked at */
    bool *stopped; /* by us */
    bool *prepared;
    int *held;
    int64_t begun_ms;
};

/* Whatever is still held is let go of, and nothing is left in any machine. */
static void barrier_done(struct barrier *barrier)
{
    struct source_group *group = barrier->group;

    guardian_closep(&barrier->stopper);
    freeze_done(&barrier->freeze);
    for (size_t i = 0; i < group->member_count; i++) {
        if (barrier->prepared[i])
            source_qemu_abandon(group->members[i].qemu);
        fd_close(&barrier->held[i]);
        if (group->members[i].qemu)
            source_qemu_give_back(group->members[i].qemu);
    }
    free(barrier->runs);
    free(barrier->stopped);
    free(barrier->prepared);
    free(barrier->held);
}

static void barrier_init(struct barrier *barrier, struct source_group *group, bool application)
{
    struct uuid uuid;
    char text[2 * sizeof(uuid.bytes) + 1];

    uuid_new(&uuid);
    str_hex(uuid.bytes, sizeof(uuid.bytes), text);
    *barrier = (struct barrier){.group = group,
                                .freeze = {.wanted = application},
                                .runs = mem_new_array(bool, group->member_count + 1),
                                .stopped = mem_new_array(bool, group->member_count + 1),
                                .prepared = mem_new_array(bool, group->member_count + 1),
                                .held = mem_new_array(int, group->member_count + 1)};
    (void)snprintf(barrier->by, sizeof(barrier->by), "the cut %s", text);
    for (size_t i = 0; i < group->member_count; i++)
        barrier->held[i] = -1;
}

/* --- Before -------------------------------------------------------------------------------- */

static int look(struct barrier *barrier, struct cancel *cancel, struct err *err)
{
    struct source_group *group = barrier->group;

    for (size_t i = 0; i < group->member_count; i++) {
        struct source_qemu *qemu = group->members[i].qemu;
        char status[32];

        if (!qemu)
            continue;
        if (source_qemu_borrow(qemu, cancel, err) < 0
            || blocks_machine_status(qemu->qmp, status, sizeof(status), cancel, err) < 0)
            return -1;
        barrier->runs[i] = str_eq(status, "running");
    }
    return 0;
}

/* All guests or none: a point that is consistent for one application alone is not what is asked for. */
static void find_agents(struct barrier *barrier, struct cancel *cancel)
{
    struct source_group *group = barrier->group;
    struct freeze *freeze = &barrier->freeze;
    CLEANUP(mem_freep) char *note = path_join(group->work_dir, FREEZE_NOTE);
    CLEANUP(mem_freep)
    struct guardian_machine *machines =
        mem_new_array(struct guardian_machine, group->member_count + 1);
    struct guardian_config config = {
        .note_path = note, .machines = machines, .program = group->guardian_path};
    struct err err = ERR_EMPTY;

    for (size_t i = 0; i < group->member_count && freeze->state == SOURCE_FREEZE_NONE; i++) {
        struct source_qemu *qemu = group->members[i].qemu;

        if (!qemu || !freeze_has_guest(qemu, freeze, cancel))
            continue;
        if (!qemu->agent_path) {
            CLEANUP(mem_freep)
            char *why = mem_printf("%s has no port for a guest agent; hint: agent = true in its "
                                   "definition",
                                   group->members[i].name);
            freeze_fail(freeze, why);
        }
        machines[config.count++] = (struct guardian_machine){.name = group->members[i].name,
                                                             .agent_path = qemu->agent_path};
    }
    if (freeze->state == SOURCE_FREEZE_NONE && config.count > 0
        && guardian_open(&config, &freeze->guardian, cancel, &err) < 0)
        freeze_fail(freeze, err.text);
}

static int prepare_all(struct barrier *barrier, uint64_t serial, struct cancel *cancel,
                       struct err *err)
{
    struct source_group *group = barrier->group;

    for (size_t i = 0; i < group->member_count; i++) {
        struct source_qemu *qemu = group->members[i].qemu;

        if (qemu && source_qemu_cut_prepare(qemu, serial, &barrier->held[i], cancel, err) < 0)
            return err_wrap(err, "%s", group->members[i].name);
        barrier->prepared[i] = qemu != NULL;
    }
    return 0;
}

/* --- The barrier --------------------------------------------------------------------------- */

static size_t running_count(const struct barrier *barrier)
{
    size_t count = 0;

    for (size_t i = 0; i < barrier->group->member_count; i++)
        count += barrier->runs[i];
    return count;
}

/* One that runs alone is one instant by itself. */
static int find_stopper(struct barrier *barrier, struct cancel *cancel, struct err *err)
{
    struct source_group *group = barrier->group;
    CLEANUP(mem_freep) char *note = path_join(group->work_dir, STOP_NOTE);
    CLEANUP(mem_freep)
    struct guardian_machine *machines =
        mem_new_array(struct guardian_machine, group->member_count + 1);
    struct guardian_config config = {.note_path = note,
                                     .by = barrier->by,
                                     .machines = machines,
                                     .program = group->guardian_path};

    if (running_count(barrier) < 2)
        return 0;
    for (size_t i = 0; i < group->member_count; i++)
        if (barrier->runs[i])
            machines[config.count++] =
                (struct guardian_machine){.name = group->members[i].name,
                                          .qmp_path = group->members[i].spare_qmp,
                                          .still_path = group->members[i].qemu->still_path};
    if (guardian_open(&config, &barrier->stopper, cancel, err) < 0)
        return err_wrap(err, "group %s: nobody would continue its machines", group->group);
    return 0;
}

static int stop_all(struct barrier *barrier, struct cancel *cancel, struct err *err)
{
    struct source_group *group = barrier->group;

    if (!barrier->stopper)
        return 0;
    if (guardian_will_stop(barrier->stopper, cancel, err) < 0)
        return -1;
    for (size_t i = 0; i < group->member_count; i++) {
        struct source_qemu *qemu = group->members[i].qemu;

        if (barrier->runs[i]
            && standstill_begin(qemu->still_path, barrier->by, qemu->qmp, &barrier->stopped[i],
                                cancel, err)
                   < 0)
            return err_wrap(err, "stop %s", group->members[i].name);
    }
    CRASH_POINT("source.cut.stopped");
    return 0;
}

/* What stood still already did so all the time, but for one that runs alone. */
static int check_others(struct barrier *barrier, struct cancel *cancel, struct err *err)
{
    struct source_group *group = barrier->group;

    for (size_t i = 0; i < group->member_count; i++) {
        struct source_qemu *qemu = group->members[i].qemu;
        char status[32];

        if (!qemu || barrier->stopped[i] || (barrier->runs[i] && !barrier->stopper))
            continue;
        if (blocks_machine_status(qemu->qmp, status, sizeof(status), cancel, err) < 0)
            return err_wrap(err, "%s", group->members[i].name);
        if (str_eq(status, "running"))
            return err_set(err, ERR_BUSY, 0, "%s was started in the middle of it",
                           group->members[i].name);
    }
    return 0;
}

/* Under a limit of its own, and all of them, whatever came before. */
static int continue_all(struct barrier *barrier, struct err *err)
{
    struct source_group *group = barrier->group;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, CONTINUE_MS);
    const char *taken = NULL;
    bool failed = false;
    bool held = false;

    if (!barrier->stopper)
        return 0;
    for (size_t i = 0; i < group->member_count; i++) {
        struct source_qemu *qemu = group->members[i].qemu;
        struct err ignored = ERR_EMPTY;
        bool stood = false;

        if (!barrier->runs[i])
            continue;
        if (standstill_end(qemu->still_path, barrier->by, qemu->qmp, &stood, limit, &ignored) < 0)
            failed = true;
        else if (barrier->stopped[i] && !stood)
            taken = group->members[i].name;
    }
    if (guardian_release(barrier->stopper, failed, &held, err) < 0)
        return err_wrap(err, "group %s: continue its machines", group->group);
    if (!held)
        return err_set(err, ERR_TIMEOUT, 0, "group %s: its machines went on before all were cut",
                       group->group);
    return taken ? err_set(err, ERR_BUSY, 0,
                           "group %s: somebody else stopped or continued %s in the middle of it",
                           group->group, taken)
                 : 0;
}

static int cut_each(struct barrier *barrier, uint64_t serial, struct source_cut *ret_cut,
                    struct cancel *cancel, struct err *err)
{
    struct source_group *group = barrier->group;
    struct source_cut all = {.wall_ms = group->clock->wall_ms(group->clock)};

    for (size_t i = 0; i < group->member_count; i++) {
        struct group_member *member = &group->members[i];
        struct source_cut one = {0};
        int rc = member->qemu ? source_qemu_cut_make(member->qemu, serial, &one, cancel, err)
                              : member->source->ops->cut(member->source, serial, &one, cancel, err);

        if (rc < 0)
            return err_wrap(err, "%s", member->name);
        all.stall_us += one.stall_us;
        CRASH_POINT("source.cut.one");
    }
    *ret_cut = all;
    return 0;
}

static int at_one_instant(struct barrier *barrier, uint64_t serial, struct source_cut *ret_cut,
                          struct cancel *cancel, struct err *err)
{
    struct clock *clock = barrier->group->clock;
    CLEANUP(cancel_freep)
    struct cancel *within = cancel_new(clock, cancel, barrier->stopper ? STILL_MS : CANCEL_NEVER);
    struct err later = ERR_EMPTY;
    struct source_cut cut;
    int rc;

    freeze_begin(&barrier->freeze, clock, cancel);
    int64_t before = clock->now_ms(clock);
    rc = stop_all(barrier, within, err);
    if (rc == 0)
        rc = cut_each(barrier, serial, &cut, within, err);
    if (rc == 0)
        rc = check_others(barrier, within, err);
    if (continue_all(barrier, rc == 0 ? err : &later) < 0)
        rc = -1;
    if (rc == 0 && barrier->stopper)
        cut.stall_us = (clock->now_ms(clock) - before) * 1000;
    freeze_end(&barrier->freeze, clock, rc == 0 ? &cut : NULL);
    if (rc == 0)
        *ret_cut = cut;
    return rc;
}

/* --- After --------------------------------------------------------------------------------- */

static int stage_all(struct barrier *barrier, uint64_t serial, struct cancel *cancel,
                     struct err *err)
{
    struct source_group *group = barrier->group;

    for (size_t i = 0; i < group->member_count; i++)
        if (group->members[i].qemu
            && source_qemu_cut_stage(group->members[i].qemu, serial, cancel, err) < 0)
            return err_wrap(err, "%s", group->members[i].name);
    /* The files are ours now. */
    for (size_t i = 0; i < group->member_count; i++)
        barrier->prepared[i] = false;
    return 0;
}

static int cut(struct source_group *group, uint64_t serial, bool application,
               struct source_cut *ret_cut, struct cancel *cancel, struct err *err)
{
    CLEANUP(barrier_done) struct barrier barrier;
    struct source_cut made;

    barrier_init(&barrier, group, application);
    if (look(&barrier, cancel, err) < 0)
        return -1;
    if (application)
        find_agents(&barrier, cancel);
    if (prepare_all(&barrier, serial, cancel, err) < 0 || find_stopper(&barrier, cancel, err) < 0
        || at_one_instant(&barrier, serial, &made, cancel, err) < 0
        || stage_all(&barrier, serial, cancel, err) < 0)
        return err_wrap(err, "group %s: cut %" PRIu64, group->group, serial);
    *ret_cut = made;
    return 0;
}

int source_group_cut(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                     struct cancel *cancel, struct err *err)
{
    return cut(source_group(source), serial, false, ret_cut, cancel, err);
}

int source_group_cut_application(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                                 struct cancel *cancel, struct err *err)
{
    return cut(source_group(source), serial, true, ret_cut, cancel, err);
}

/* --- A cut that was not made by all -------------------------------------------------------- */

/* Some have map N+1 open and N frozen, the others N open: nothing else is half a cut. */
static bool is_half_cut(const struct source_group *group, uint64_t *ret_serial)
{
    uint64_t serial = 0;
    bool some = false;
    bool others = false;

    for (size_t i = 0; i < group->member_count; i++)
        if (group->members[i].open > serial)
            serial = group->members[i].open;
    for (size_t i = 0; i < group->member_count; i++) {
        const struct group_member *member = &group->members[i];

        if (!member->qemu || serial < 2)
            return false;
        if (member->open == serial)
            some = true;
        else if (member->open == serial - 1 && member->frozen == 0)
            others = true;
        else
            return false;
    }
    *ret_serial = serial;
    return some && others;
}

static int catch_up(struct group_member *member, uint64_t serial, struct cancel *cancel,
                    struct err *err)
{
    if (member->open == serial)
        return 0;
    if (source_qemu_borrow(member->qemu, cancel, err) < 0)
        return -1;
    int rc = source_qemu_catch_up(member->qemu, serial, cancel, err);
    source_qemu_give_back(member->qemu);
    return rc;
}

int source_group_mend(struct source_group *group, struct cancel *cancel, struct err *err)
{
    struct source_state state;
    uint64_t serial;

    if (group->base.ops->inspect(&group->base, &state, cancel, err) < 0)
        return -1;
    if (!is_half_cut(group, &serial))
        return 0;
    for (size_t i = 0; i < group->member_count; i++)
        if (catch_up(&group->members[i], serial, cancel, err) < 0)
            return err_wrap(err, "%s", group->members[i].name);
    return group->base.ops->end(&group->base, false, cancel, err);
}
