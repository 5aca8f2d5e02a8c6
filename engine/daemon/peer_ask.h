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

/* peer_seeds.c: adds to the answer. */
void peer_seeds(struct ask *ask);

/* peer_heads.c: is the replica that is asked for to be encrypted at rest? Any thread. */
int peer_at_rest(const struct ask *ask, bool *ret_at_rest, struct err *err) MUST_CHECK;
/* What an earlier try left is removed unless it is so already (ERR_STATE once it has points), and the
 * key is there when it is needed. The link's thread. */
int peer_settle_heads(struct ask *ask, bool at_rest, struct err *err) MUST_CHECK;
