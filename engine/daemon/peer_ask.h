// SPDX-License-Identifier: Apache-2.0
/* For peer_*.c: one question of a peer. On its link's thread. */
#pragma once

#include "daemon/daemon_internal.h"
#include "plan/plan.h"

struct ask {
    struct daemon *daemon;
    const char *peer;
    const json_t *head;
    const char *group; /* of replica.* */
    struct cancel *cancel;
    /* what the loop has to say */
    char *row_state; /* of the group's row; NULL: there is none */
    json_t *answer;
    struct plan *plan;
};

/* peer_follow.c */
int peer_follow(struct ask *ask, struct err *err);
/* peer_check.c: adds to the answer. */
int peer_check(struct ask *ask, struct err *err);
