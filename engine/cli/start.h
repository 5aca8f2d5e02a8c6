// SPDX-License-Identifier: Apache-2.0
/* Starting a run from the command line: what it would do and lose, the question, the run, its
 * watching. Shared by `run`, `failover`, `test-failover` and `cleanup`. */
#pragma once

#include "cli/point.h"

struct start {
    const char *plan; /* one of the two */
    const char *machine;
    const char *kind;       /* of a run, but dry */
    struct cli_point point; /* not said: the newest */
    uint64_t of_run;        /* cleanup, commit, rollback, change-point; 0: not said */
    bool last_delta;
    bool yes;     /* do not ask */
    bool no_wait; /* do not watch */
};
int start_run(struct cli *cli, const struct start *start, struct err *err) MUST_CHECK;
