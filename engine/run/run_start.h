// SPDX-License-Identifier: Apache-2.0
/* What somebody asks for, checked: for runner_start and for the preview. */
#pragma once

#include "run/run_internal.h"

struct run_request {
    enum run_kind kind;
    char plan_name[PLAN_NAME_BYTES];
    json_t *document;
    char *source; /* the text of `document` when it is needed; NULL */
    struct plan *plan;
    struct plan_tasks tasks;
    json_t *machines; /* as verb_call has them; "run" only where an earlier run is gone on with */
    json_t *test_inputs; /* a cleanup's */
    int64_t of_run;
    enum run_kind of_kind; /* what follows a failover: the failover's; else RUN_TEST */
};
void run_request_done(struct run_request *request); /* also for CLEANUP; also after an error */
/* Of a commit, a rollback, another point: all but the tasks. ERR_NOT_FOUND: no such failover;
 * ERR_STATE: it is in no state for that (says which, and what to do). */
int run_request_after(struct runner *runner, const struct runner_spec *spec,
                      struct run_request *request, struct err *err) MUST_CHECK;
/* The same of a cleanup. ERR_STATE: its test goes on still, or is clean. */
int run_request_cleanup(struct runner *runner, const struct runner_spec *spec,
                        struct run_request *request, struct err *err) MUST_CHECK;
/* What a run knows of a machine says that it is back on its own disks: they hold what it wrote since, so
 * there is no rollback and no change of the point. The second says so: ERR_UNSUPPORTED. */
bool run_is_own(const json_t *known);
int run_refuse_own(enum run_kind kind, const char *machine, const char *plan, struct err *err);
int run_request_make(struct runner *runner, const struct runner_spec *spec,
                     struct run_request *request, struct err *err) MUST_CHECK;
/* The points that are asked for belong to machines (or groups) of the run, one to a group; of a
 * change-point each has one. */
int run_check_points(const struct runner_spec *spec, const json_t *machines, struct err *err)
    MUST_CHECK;
/* The point that is asked for of that machine of a run, or for another of its group; 0: the newest. After
 * run_check_points. */
uint64_t run_point_of(const struct runner_spec *spec, const json_t *machines, const char *machine);
/* Any point is asked for. */
bool run_has_points(const struct runner_spec *spec);
