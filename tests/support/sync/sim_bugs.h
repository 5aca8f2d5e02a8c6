// SPDX-License-Identifier: Apache-2.0
/* Builds that are wrong, each by a filter over one seam: what the simulation must catch. */
#pragma once

#include "support/sync/sim.h"

extern const struct sim_bug sim_bugs[];
size_t sim_bug_count(void);
