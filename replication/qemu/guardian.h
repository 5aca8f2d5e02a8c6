// SPDX-License-Identifier: Apache-2.0
/* Guests that are held still for the length of a cut, and let go again whatever happens. A guest
 * stays frozen (or stopped) until somebody thaws (or continues) it, so that is not left to the process
 * that makes the cut: a guardian, a process of its own, freezes the guests, and lets go of them when it
 * is told to, when whoever asked for it is gone (their socket closes), or when they were held for too
 * long. A guardian that is killed is noticed by the other end, which does its work then; and if both
 * are, a note that was durable before anything was held says to the next one what to do:
 *
 *   daemon    open ─────── freeze ──────────── cut ─ thaw ──────── close
 *   guardian  agents answer ─ note ─ freeze ─ held ─ ─ thaw ─ note away ─ end
 *                                              └─ deadline, or the socket closed: the same
 *
 * It does not end before the guests are free or gone, however long their agents are silent. One
 * thread at a time. The messages stand in guardian_serve.c. */
#pragma once

#include "base/cancel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The name under which the program runs guardian_main. */
#define GUARDIAN_WORD "guardian"

struct guardian_machine {
    const char *name;
    const char *agent_path; /* its guest is frozen; NULL: it has no agent */
    const char *qmp_path;   /* a monitor by which the guardian continues it; NULL: never stopped */
    const char
        *still_path; /* with a monitor: the file by which it is claimed (qemu/standstill.h) */
};

struct guardian_config {
    const char *note_path; /* on a local disk; one per group */
    const char *by;        /* who claims what is stopped; NULL: nothing is */
    const struct guardian_machine *machines;
    size_t count;
    const char *program; /* has guardian_main under GUARDIAN_WORD; NULL: this program */
    int64_t answer_ms;   /* within which an agent must answer at all; 0: 5 s */
    int64_t freeze_ms;   /* within which all guests must be frozen; 0: 20 s */
    int64_t hold_ms;     /* how long they are held at most; 0: 10 s */
};

struct guardian;
/* Nothing is held yet: the guardian is there, and all agents answer and may freeze and thaw. ERR_BUSY:
 * another one still lets go of what it held. ERR_TIMEOUT: an agent does not answer; ERR_NET: its machine
 * does not run; ERR_UNSUPPORTED: it may not freeze; ERR_STATE: its guest is frozen by somebody else. */
int guardian_open(const struct guardian_config *config, struct guardian **ret_guardian,
                  struct cancel *cancel, struct err *err) MUST_CHECK;
/* All guests are frozen when it returns. After an error none stays so; an agent that is late, too,
 * finds its guest thawed at once. */
int guardian_freeze(struct guardian *guardian, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Those with a monitor are about to be stopped (standstill_begin): from here on the guardian continues
 * them, too, unless somebody else took them over. */
int guardian_will_stop(struct guardian *guardian, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* Lets go of all. `ret_held`: up to this call every one of them was held. An error says what could
 * not be let go of yet; the guardian goes on trying. `cont`: also continues what was to be stopped (and
 * may have been). Never longer than some seconds, and not ended by a cancel. */
int guardian_release(struct guardian *guardian, bool cont, bool *ret_held, struct err *err)
    MUST_CHECK;
/* Lets go of what is held, without waiting. NULL is fine. */
void guardian_close(struct guardian *guardian);
void guardian_closep(struct guardian **guardian);

/* What a note says is held by nobody: is let go of. 0: there is no note, or no more. ERR_BUSY: its
 * guardian lives and sees to it. Else it is not free yet, and may be asked for again. */
int guardian_settle(const char *note_path, struct cancel *cancel, struct err *err) MUST_CHECK;
/* The same by a process of its own, at once; nothing is started where there is no note. */
int guardian_settle_later(const char *note_path, const char *program, struct err *err) MUST_CHECK;

/* PROGRAM guardian FD | PROGRAM guardian NOTE. Returns its exit code. */
int guardian_main(int argc, char **argv);
