// SPDX-License-Identifier: Apache-2.0
/* What is shown of a protection comes from who knows it: the row from state.db (put into the entry
 * on the loop), the session's snapshot, or the replica's store (asked in the pool: a store may be
 * applying). */
#pragma once

#include "api/api_server.h"

/* An api_work_fn. `in`: {protections: [{name, role, state, interval_ms, ...}]}; the answer is the same
 * with points, ages, progress, errors and health in each entry. */
int api_status_work(const struct api_world *world, const json_t *in, json_t **ret_out,
                    struct cancel *cancel, struct err *err);
/* An api_finish_fn for it: reasons of health that nobody knows the age of get the time they were first
 * seen by this daemon. */
api_finish_fn api_status_finish;
/* The same for `in` of one entry: the answer is that entry. */
api_finish_fn api_status_finish_one;
