// SPDX-License-Identifier: Apache-2.0
/* What must be so before a machine, or a group of several, can be protected: looked at at both sites, nothing changed.
 * Everything that is not so is named at once, so that nobody mends one thing after the other. */
#pragma once

#include "run/job.h"

/* Everything is borrowed. */
struct prerequisites_ask {
    const struct jobs_world *world;
    const char *group;
    const struct machine *machines; /* all of the group */
    size_t machine_count;
    const struct policy *policy;
    const char *peer;
    const json_t *networks; /* the group's own, as in struct job_protect */
    const json_t *seeds;    /* {disk: file at the peer}; NULL: none */
    bool force;             /* what only a recovery at the peer needs is a warning */
    struct cancel *cancel;
};

struct prerequisites {
    /* [{what, site, state: "ok"|"warning"|"failed", needed, found, text, hint}]: `needed` and `found`
     * as people read them, "" where there is nothing to compare; `text` and `hint` "" when ok. */
    json_t *list;
    size_t failed;
    size_t warnings;
};
void prerequisites_done(struct prerequisites *all); /* also for CLEANUP */

/* Any thread but the loop's; blocks, for as long as the peer takes to answer. ERR_CANCELLED. */
int prerequisites_look(const struct prerequisites_ask *ask, struct prerequisites *ret_all,
                       struct err *err) MUST_CHECK;
/* What failed, numbered, as one error; 0 when nothing did. */
int prerequisites_judge(const struct prerequisites *all, const char *group, struct err *err)
    MUST_CHECK;
/* Warnings in one line. */
void prerequisites_note(const struct prerequisites *all, char *ret_note, size_t len);

/* What the undo of a replica of so many bytes may come to, by a rule of thumb. */
#define PREREQUISITE_CHANGE_PERCENT 10 /* of the disks, a day */
uint64_t prerequisites_undo_bytes(const struct policy *policy, uint64_t bytes,
                                  int64_t *ret_kept_ms);
