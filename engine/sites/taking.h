// SPDX-License-Identifier: Apache-2.0
/* A replica's folder that this site does not know: because its database was lost, or the whole site but
 * this folder and its keys. Any thread; blocks. */
#pragma once

#include "sites/estate.h"

struct taking {
    const char *dir;      /* absolute */
    const char *key;      /* the group's key file; NULL: keys/GROUP.key of this site */
    const char *luks_key; /* for a replica encrypted at rest; NULL: keys/GROUP.luks of this site */
    bool move;            /* it may be moved to where this site has its replicas */
};

/* May it be taken? `ret_report` is what it says of itself (replica/inspect.h). ERR_NOT_FOUND: it is none,
 * or a key file is not there; ERR_CORRUPT: it is damaged; ERR_BUSY: a process has it open; ERR_STATE: it
 * holds no point, is in another place, or its disks here are their machine's own again; ERR_EXISTS:
 * another replica, or key, is in its place; ERR_AUTH: not its keys; ERR_FENCED: this site knows of a
 * later generation, so it is an old copy. */
int taking_look(struct estate *estate, const struct taking *taking, json_t **ret_report,
                struct err *err) MUST_CHECK;
/* After that: it is moved, if need be, and its keys are put beside those of this site. Asked for again it
 * does what is left. */
int taking_do(struct estate *estate, const struct taking *taking, const char *group,
              struct err *err) MUST_CHECK;
