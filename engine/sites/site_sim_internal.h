// SPDX-License-Identifier: Apache-2.0
/* For site_sim*.c: one ask under way, and the table of asks. */
#pragma once

#include "sites/site_sim.h"

#include "base/json.h"

#include <pthread.h>

struct sim {
    struct sim_world *world;
    struct clock *clock;
    pthread_mutex_t lock;
};

struct sim_ask {
    struct sim *sim;
    struct sim_world *world;
    const char *what;
    const json_t *args;
    const char *run;
    const char *object; /* machine or group, or the run when neither is named */
    json_t **ret_result;
};

typedef int sim_fn(struct sim_ask *ask, struct err *err);
/* The instance that is asked about, or NULL. */
struct sim_instance *sim_find_instance(struct sim_ask *ask);
/* site_sim_guest.c */
sim_fn sim_guest_network, sim_guest_assign, sim_guest_restore;
/* site_sim_command.c */
sim_fn sim_command_start, sim_command_observe, sim_command_stop;
/* site_sim_after.c */
sim_fn sim_instance_commit, sim_group_return, sim_group_reprotect;
/* The machine that is asked about, or the first one of the group; NULL: ERR_NOT_FOUND. */
struct sim_machine *sim_need_machine(struct sim_ask *ask, struct err *err);
/* The group's next machine after `before` (NULL: the first); NULL: no more. */
struct sim_machine *sim_next(struct sim_ask *ask, const char *group, struct sim_machine *before);
/* Under which the source writes. */
uint64_t sim_source_generation(const struct sim_machine *machine);
/* NULL: that side does not do it. Under the lock. */
sim_fn *sim_find(const char *what, bool source);
/* Points that came since the last look. */
void sim_replicate(struct sim_ask *ask);

/* For asks that change something: counts, fails on request, and is a place to be killed, before the
 * change and after it. */
int sim_begin(struct sim_ask *ask, struct err *err);
int sim_end(struct sim_ask *ask, bool changed, struct err *err);
/* For those that do not: fails on request. */
int sim_look(struct sim_ask *ask, struct err *err);
void sim_copy_name(char *to, const char *from);
