// SPDX-License-Identifier: Apache-2.0
/* A world to check plans against: machines db1, web1, web2; sites lyon and paris; the real verbs,
 * and two more that have every kind of argument. */
#pragma once

#include "plan/plan.h"

const struct plan_world *plan_world_for_test(void);
