// SPDX-License-Identifier: Apache-2.0
/* The schema of state.db and how it came to be: step N brings version N - 1 to version N. */
#pragma once

#include "base/db.h"

#include <stddef.h>

/* SQL of each step, in order; a step once released never changes. */
extern const char *const schema_steps[];
extern const size_t schema_step_count;

/* Brings `db` (named `path` in messages) from the version it has to `count`, all in one
 * transaction. ERR_CORRUPT: tables, but none of ours; or a version newer than `count` (both
 * numbers). Nothing is changed then. */
int schema_upgrade(struct db *db, const char *path, const char *const *steps, size_t count,
                   struct err *err) MUST_CHECK;
