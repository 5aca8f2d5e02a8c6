// SPDX-License-Identifier: Apache-2.0
/* Fork and exec, for proc_*.c only. Any thread. */
#pragma once

#include "base/proc.h"

enum spawn_kind {
    SPAWN_CHILD,    /* dies with the thread that started it */
    SPAWN_DETACHED, /* own session, child of nobody here */
};

/* `output_fd` becomes stdout and stderr; -1: the spec's log, or /dev/null. `own_group`: the
 * child leads a process group, so that it can be killed with all it started. */
int spawn(const struct proc_spec *spec, enum spawn_kind kind, int output_fd, bool own_group,
          pid_t *ret_pid, struct err *err) MUST_CHECK;
