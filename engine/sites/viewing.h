// SPDX-License-Identifier: Apache-2.0
/* Somebody looks at a disk as it was at a point, or as a branch left it: for as long as his process
 * lives. That process runs the server; what is here says what to serve, keeps the point as long,
 * and takes away what is left of those who are gone. Any thread. */
#pragma once

#include "sites/estate.h"

struct viewing_want {
    uint64_t point;   /* of the replica here; 0: a branch */
    uint64_t branch;  /* its point's number */
    const char *disk; /* "": the only one */
    /* Of a group of several: the machine whose disk it is, which goes before its name; NULL or "": any,
     * and the name is the group's for it. */
    const char *machine;
    int64_t pid; /* the process that looks */
};
struct viewing {
    char name[NAME_MAX_BYTES]; /* "view-PID-START": also the pin's label */
    char disk[MACHINE_NAME_BYTES];
    char *dir; /* DIR/views/NAME: a folder for the server's socket, pid file and log */
    /* A point: the replica's folder and its key. */
    uint64_t point;
    char *replica_dir;
    char *key_path;
    char *luks_path; /* NULL: it is not encrypted at rest */
    /* A machine's own disk. */
    char path[MACHINE_PATH_BYTES];
    char format[16];
};
void viewing_done(struct viewing *viewing); /* for CLEANUP */

/* Errors of branch_find, and for a point those of the store. ERR_NOT_FOUND also: no such process.
 *  */
int viewing_begin(struct estate *estate, const char *group, const struct viewing_want *want,
                  struct viewing *ret_viewing, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Gone already: fine. */
int viewing_end(struct estate *estate, const char *name, struct err *err) MUST_CHECK;
/* Ends those whose process is gone. For now and then. */
int viewing_tidy(struct estate *estate, struct err *err) MUST_CHECK;
