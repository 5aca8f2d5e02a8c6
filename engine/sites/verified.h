// SPDX-License-Identifier: Apache-2.0
/* What was read of a replica by verifications, whoever asked for them: beside its store, so that it goes
 * where that goes. The format stands in verified.c. Any thread; the caller of verified_note has the
 * store. */
#pragma once

#include "base/json.h"
#include "replica/store.h"
#include "sites/estate.h"

/* {at_ms, subset, of, point, damaged_head, damaged_past, healed, faults: of the last one;
 *  whole_ms: when the last one ended that read all of it, in one or in parts, 0: none did;
 *  pass: {of, done, began_ms}: parts of one after the other}. A new reference; null: never, or it cannot
 * be read, which is the same. */
json_t *verified_read(struct estate *estate, const char *group);
/* A scrub is done. */
int verified_note(struct estate *estate, const char *group, const struct store_scrub *scrub,
                  struct err *err) MUST_CHECK;

/* Which part is to be read now so that all are in `every_ms`, in `parts` parts: 1 to `parts`, 0: none yet.
 * A clock that was set back makes none due for longer than a part's time. */
uint32_t verified_due(const json_t *verified, int64_t every_ms, uint32_t parts, int64_t now_ms);
