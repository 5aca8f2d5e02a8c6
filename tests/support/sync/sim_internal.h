// SPDX-License-Identifier: Apache-2.0
/* What the simulation's files offer each other. */
#pragma once

#include "base/str.h"
#include "support/sync/sim.h"

/* The first one counts; false. */
bool sim_fail(struct sim *sim, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The oracle's look. */
bool sim_check(struct sim *sim);
