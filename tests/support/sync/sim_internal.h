// SPDX-License-Identifier: Apache-2.0
/* What the simulation's files offer each other. */
#pragma once

#include "base/str.h"
#include "support/sync/sim.h"

/* The first one counts; false. */
bool sim_fail(struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The oracle's look. */
bool sim_check(struct sim *sim);

#define SIM_TURN_MS 600000 /* time passes at most so far in a step */

/* One of `sides`, by the seed. */
unsigned sim_dice(struct sim *sim, unsigned sides);
/* An event, for the log. */
void sim_say(struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Something happens. */
void sim_trouble(struct sim *sim, struct sim_counts *counts);
/* A turn, and the oracle. */
bool sim_step(struct sim *sim);
/* The faults end, replication catches up, and what there is then is whole. */
bool sim_finish(struct sim *sim);
/* Whoever died comes back. */
void sim_bury(struct sim *sim);
/* Lyon's daemon ends and starts; `power`: what was not synced may be lost. */
void sim_lyon_ends(struct sim *sim, bool power);
