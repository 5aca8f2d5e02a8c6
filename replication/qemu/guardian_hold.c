// SPDX-License-Identifier: Apache-2.0
/* The note: {"by", "machines": [{"name", "agent", "qmp", "still", "asked", "stop"}], "pid",
 * "start_ticks", "since_ms"}; paths that are not there are "". "asked": its guest is to be frozen;
 * "stop": it is to be stopped, claimed in the file "still" with the words "by". It is written before that is done, and removed once all are seen to be free: so a guest that
 * is held stands in a note, and one in a note may be free. */
#include "qemu/guardian_hold.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "qemu/qmp.h"
#include "qemu/standstill.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define NOTE_MAX   (1u << 20)
#define AGAIN_MS   200
#define AGAIN_MOST 10000
#define ANSWER_MS  5000

static const char *path_or_null(const json_t *entry, const char *key)
{
    const char *path = json_get_str(entry, key, "");

    return *path ? path : NULL;
}

int hold_init(struct hold *hold, const char *note_path, json_t *what, struct err *err)
{
    json_t *machines;
    json_t *entry;
    size_t i;

    *hold = (struct hold){.note_path = mem_strdup(note_path),
                          .what = what,
                          .by = json_get_str(what, "by", ""),
                          .clock = clock_real(),
                          .answer_ms = ANSWER_MS};
    if (json_need_array(what, "machines", note_path, &machines, err) < 0)
        return -1;
    hold->machines = mem_new_array(struct hold_machine, json_array_size(machines) + 1);
    hold->count = json_array_size(machines);
    json_array_foreach(machines, i, entry) {
        struct hold_machine *machine = &hold->machines[i];

        machine->agent_path = path_or_null(entry, "agent");
        machine->qmp_path = path_or_null(entry, "qmp");
        machine->still_path = path_or_null(entry, "still");
        machine->asked = json_get_bool(entry, "asked", false);
        machine->may_stop = json_get_bool(entry, "stop", false);
        if (json_need_str(entry, "name", note_path, &machine->name, err) < 0)
            return -1;
    }
    return 0;
}

void hold_done(struct hold *hold)
{
    for (size_t i = 0; i < hold->count; i++)
        agent_close(hold->machines[i].agent);
    free(hold->machines);
    json_decref(hold->what);
    free(hold->note_path);
    *hold = (struct hold){0};
}

/* --- The note ------------------------------------------------------------------------------ */

int hold_write_note(const struct hold *hold, struct err *err)
{
    CLEANUP(json_freep) json_t *machines = json_array();
    CLEANUP(json_freep) json_t *note = NULL;
    struct proc_id self;

    if (proc_identify(getpid(), &self, err) < 0)
        return -1;
    for (size_t i = 0; i < hold->count; i++) {
        const struct hold_machine *machine = &hold->machines[i];

        (void)json_array_append_new(
            machines, json_pack("{s:s, s:s, s:s, s:s, s:b, s:b}", "name", machine->name, "agent",
                                machine->agent_path ? machine->agent_path : "", "qmp",
                                machine->qmp_path ? machine->qmp_path : "", "still",
                                machine->still_path ? machine->still_path : "", "asked",
                                machine->asked, "stop", machine->may_stop));
    }
    note = json_pack("{s:s, s:O, s:I, s:I, s:I}", "by", hold->by, "machines", machines, "pid",
                     (json_int_t)self.pid, "start_ticks", (json_int_t)self.start_ticks, "since_ms",
                     (json_int_t)hold->clock->wall_ms(hold->clock));
    CLEANUP(mem_freep) char *text = json_text(note);
    return fs_replace_file(fs_real(), hold->note_path, text, strlen(text), 0600, err);
}

int hold_read_note(const char *note_path, struct hold *ret_hold, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    json_t *what = NULL;

    *ret_hold = (struct hold){0};
    if (fs_read_file(fs_real(), note_path, NOTE_MAX, &text, err) < 0)
        return -1;
    if (json_parse(str_text(&text), text.len, &what, err) < 0)
        return err_wrap(err, "%s", note_path);
    const struct proc_id keeper = {
        .pid = (pid_t)json_get_u64(what, "pid", 0),
        .start_ticks = json_get_u64(what, "start_ticks", 0),
    };
    if (hold_init(ret_hold, note_path, what, err) < 0)
        return -1;
    if (keeper.pid > 0 && keeper.pid != getpid() && proc_is_alive(&keeper))
        return err_set(err, ERR_BUSY, 0,
                       "process %ld still lets go of what was held for an earlier cut of %s",
                       (long)keeper.pid, ret_hold->count ? ret_hold->machines[0].name : "?");
    return 0;
}

/* --- Letting go ---------------------------------------------------------------------------- */

static bool nobody_listens(const struct err *err)
{
    return err->code == ERR_NET && (err->sys == ECONNREFUSED || err->sys == ENOENT);
}

/* By the agent in hand; one that is silent, or at odds with us, is spoken to anew. */
static int thaw(struct hold *hold, struct hold_machine *machine, struct cancel *cancel,
                struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(hold->clock, cancel, hold->answer_ms);

    if (!machine->agent
        && agent_open(machine->agent_path, hold->clock, &machine->agent, limit, err) < 0) {
        if (!nobody_listens(err))
            return -1;
        err_clear(err);
        return 0; /* its machine is gone */
    }
    if (agent_thaw(machine->agent, &machine->thawed, limit, err) == 0)
        return 0;
    /* A refusal leaves the connection in step. */
    if (err->code != ERR_STATE && err->code != ERR_UNSUPPORTED)
        agent_closep(&machine->agent);
    return -1;
}

/* Only one that was claimed and stopped, and that nobody took over since. */
static int go_on(struct hold *hold, const struct hold_machine *machine, struct cancel *cancel,
                 struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(hold->clock, cancel, hold->answer_ms);
    CLEANUP(qmp_closep) struct qmp *qmp = NULL;
    bool stood;

    if (qmp_open(machine->qmp_path, hold->clock, &qmp, limit, err) < 0) {
        if (!nobody_listens(err))
            return -1;
        err_clear(err);
        return 0;
    }
    return standstill_end(machine->still_path, hold->by, qmp, &stood, limit, err);
}

/* First it must run: an agent in a machine that stands still is silent. */
static int let_go_of(struct hold *hold, struct hold_machine *machine, struct cancel *cancel,
                     struct err *err)
{
    if (machine->may_stop && machine->qmp_path && machine->still_path) {
        if (go_on(hold, machine, cancel, err) < 0)
            return err_wrap(err, "continue %s", machine->name);
        machine->may_stop = false;
    }
    if (machine->asked && machine->agent_path) {
        if (thaw(hold, machine, cancel, err) < 0)
            return err_wrap(err, "thaw %s", machine->name);
        machine->asked = false;
    }
    machine->free = true;
    return 0;
}

int hold_let_go(struct hold *hold, struct cancel *cancel, struct err *err)
{
    struct err first = ERR_EMPTY;

    for (size_t i = 0; i < hold->count; i++) {
        struct err why = ERR_EMPTY;

        if (!hold->machines[i].free && let_go_of(hold, &hold->machines[i], cancel, &why) < 0
            && first.code == ERR_NONE)
            first = why;
    }
    if (first.code != ERR_NONE) {
        if (err)
            *err = first;
        return -1;
    }
    /* One that stays says too much, which is safe. */
    (void)unlink(hold->note_path);
    return 0;
}

int hold_let_go_at_last(struct hold *hold, struct cancel *cancel, struct err *err)
{
    int64_t wait = AGAIN_MS;

    while (hold_let_go(hold, cancel, err) < 0) {
        struct err ended = ERR_EMPTY;

        if (cancel_sleep(cancel, wait, &ended) < 0)
            return -1; /* and says what is held */
        wait = wait * 2 < AGAIN_MOST ? wait * 2 : AGAIN_MOST;
        err_clear(err);
    }
    return 0;
}
