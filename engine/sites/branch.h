// SPDX-License-Identifier: Apache-2.0
/* Branches: what a machine of this site wrote beyond the last point both sites have, before it was
 * fenced. Kept until a person removes them. Files, so any thread. */
#pragma once

#include "sites/group_disks.h"
#include "sync/session.h"

/* How the pin of a branch that is a point of a replica is called, followed by its number. */
#define BRANCH_PIN "branch-"

/* "DIR/branches/GROUP"; free with free(). */
char *branch_dir(struct estate *estate, const char *group);
/* Keeps what is known of a branch beside it. Again: what was known better stays. */
int branch_note(struct estate *estate, const char *group, const struct group_owns *owns,
                const struct estate_mark *mark, const struct session_branch *branch,
                struct err *err) MUST_CHECK;
/* Its machines' processes are gone: what its disks' files look like now, so that a change of them
 * shows. */
int branch_note_disks(struct estate *estate, const char *group, uint64_t point,
                      const struct group_owns *owns, struct err *err) MUST_CHECK;
/* All of a group, oldest first: [{point, parent, generation, cut_ms, extent: "known"|"unknown",
 * note, site, by, promoted, since_ms, where, disks: [{name, size, bytes, sealed, path, format}]}]
 * (new reference); bytes and sealed are -1 where nobody knows. */
int branch_list(struct estate *estate, const char *group, json_t **ret_list, struct err *err)
    MUST_CHECK;

/* Where the content of a branch's disk can be read. */
enum branch_place_kind {
    BRANCH_AT_DISK, /* the machine's own disk, as its process left it */
    BRANCH_AT_POINT /* a point of the group's replica here */
};
struct branch_place {
    enum branch_place_kind kind;
    char disk[MACHINE_NAME_BYTES];
    char path[MACHINE_PATH_BYTES]; /* of the disk */
    char format[16];               /* of the disk */
    uint64_t point;                /* of the replica */
};
/* `disk` "": the only one (ERR_INVALID lists them when there are more). ERR_NOT_FOUND: no such
 * branch or disk (names those there are); ERR_STATE: its disk was changed since; ERR_BUSY: it is in
 * use. */
int branch_find(struct estate *estate, const char *group, uint64_t point, const char *disk,
                struct branch_place *ret_place, struct cancel *cancel, struct err *err) MUST_CHECK;
