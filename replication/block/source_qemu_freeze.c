// SPDX-License-Identifier: Apache-2.0
/* The freeze around a cut. Nothing here fails: what cannot be frozen is cut as it is, and the cut says
 * why it is no application-consistent one.
 *
 *   the agent is found ─ staging files, which take long ─ freeze ─ cut ─ thaw ─ blocks copied aside */
#include "block/source_qemu.h"

#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

void freeze_fail(struct freeze *freeze, const char *why)
{
    freeze->state = SOURCE_FREEZE_FAILED;
    (void)snprintf(freeze->note, sizeof(freeze->note), "%.*s", (int)sizeof(freeze->note) - 1, why);
}

/* A guest that is shut down, or stands still, answers nobody. */
bool freeze_has_guest(struct source_qemu *qemu, struct freeze *freeze, struct cancel *cancel)
{
    CLEANUP(mem_freep) char *why = NULL;
    struct err err = ERR_EMPTY;
    char status[32];

    if (blocks_machine_status(qemu->qmp, status, sizeof(status), cancel, &err) < 0) {
        freeze_fail(freeze, err.text);
        return false;
    }
    if (str_eq(status, "shutdown"))
        return false;
    if (str_eq(status, "running"))
        return true;
    why = mem_printf("%s is %s; hint: continue it", qemu->machine, status);
    freeze_fail(freeze, why);
    return false;
}

static void open_guardian(struct source_qemu *qemu, struct freeze *freeze, struct cancel *cancel)
{
    CLEANUP(mem_freep) char *note = path_join(qemu->work_dir, FREEZE_NOTE);
    const struct guardian_machine machine = {.name = qemu->machine, .agent_path = qemu->agent_path};
    const struct guardian_config config = {
        .note_path = note, .machines = &machine, .count = 1, .program = qemu->guardian_path};
    struct err err = ERR_EMPTY;

    if (guardian_open(&config, &freeze->guardian, cancel, &err) < 0)
        freeze_fail(freeze, err.text);
}

void freeze_prepare(struct source_qemu *qemu, struct freeze *freeze, struct cancel *cancel)
{
    if (!freeze->wanted || !freeze_has_guest(qemu, freeze, cancel))
        return;
    if (qemu->agent_path) {
        open_guardian(qemu, freeze, cancel);
        return;
    }
    CLEANUP(mem_freep)
    char *why = mem_printf("%s has no port for a guest agent; hint: agent = true in its definition",
                           qemu->machine);
    freeze_fail(freeze, why);
}

void freeze_begin(struct freeze *freeze, struct clock *clock, struct cancel *cancel)
{
    struct err err = ERR_EMPTY;

    if (!freeze->guardian)
        return;
    freeze->begun_ms = clock->now_ms(clock);
    if (guardian_freeze(freeze->guardian, cancel, &err) < 0) {
        freeze_fail(freeze, err.text);
        guardian_closep(&freeze->guardian);
    }
    CRASH_POINT("source.cut.frozen");
}

void freeze_end(struct freeze *freeze, struct clock *clock, struct source_cut *cut)
{
    struct err err = ERR_EMPTY;
    bool held = false;

    if (freeze->guardian) {
        int rc = guardian_release(freeze->guardian, false, &held, &err);
        /* What could not be thawed was most likely held all the time; most likely is not enough. */
        freeze->state = rc == 0 && held ? SOURCE_FREEZE_HELD : SOURCE_FREEZE_FAILED;
        if (rc < 0)
            (void)snprintf(freeze->note, sizeof(freeze->note),
                           "it is frozen, and is thawed as soon as its agent lets us: %.300s",
                           err.text);
        else if (!held)
            freeze_fail(freeze, "the guest was thawed before the cut was made");
    }
    if (!cut)
        return;
    cut->freeze = freeze->state;
    memcpy(cut->freeze_note, freeze->note, sizeof(cut->freeze_note));
    if (freeze->begun_ms)
        cut->stall_us = (clock->now_ms(clock) - freeze->begun_ms) * 1000;
}

void freeze_done(struct freeze *freeze)
{
    guardian_closep(&freeze->guardian);
}

int source_qemu_thaw_left(const char *work_dir, const char *guardian_path, struct err *err)
{
    CLEANUP(mem_freep) char *held = path_join(work_dir, FREEZE_NOTE);
    CLEANUP(mem_freep) char *stopped = path_join(work_dir, STOP_NOTE);

    if (guardian_settle_later(stopped, guardian_path, err) < 0)
        return -1;
    return guardian_settle_later(held, guardian_path, err);
}
