// SPDX-License-Identifier: Apache-2.0
/* What is held, for guardian*.c: machines, the note about them, and letting go. One thread. */
#pragma once

#include "base/json.h"
#include "qemu/agent.h"

struct hold_machine {
    const char *name; /* of `what` */
    const char *agent_path;
    const char *qmp_path;
    const char *still_path;
    struct agent *agent;
    bool asked;    /* to freeze: it may be frozen */
    bool may_stop; /* it may be stopped */
    bool free;
    uint64_t thawed; /* file systems */
};

struct hold {
    char *note_path;
    json_t *what;   /* {"machines": [{"name", "agent", "qmp", "still"}], "by"} */
    const char *by; /* of `what` */
    struct clock *clock;
    struct hold_machine *machines;
    size_t count;
    int64_t answer_ms;
};

/* Takes `what`. */
int hold_init(struct hold *hold, const char *note_path, json_t *what, struct err *err) MUST_CHECK;
void hold_done(struct hold *hold); /* also for CLEANUP */

/* Durable before anything is held; names this process. */
int hold_write_note(const struct hold *hold, struct err *err) MUST_CHECK;
/* ERR_NOT_FOUND: there is none. ERR_BUSY: the process it names lives. */
int hold_read_note(const char *note_path, struct hold *ret_hold, struct err *err) MUST_CHECK;

/* Tries once, each for `answer_ms` at most: 0 when all are free or gone; then the note goes. The error
 * is about the first that is not. */
int hold_let_go(struct hold *hold, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Until it is so. */
int hold_let_go_at_last(struct hold *hold, struct cancel *cancel, struct err *err) MUST_CHECK;
