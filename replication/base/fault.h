// SPDX-License-Identifier: Apache-2.0
/* Faults on request, for tests. Off, it costs one relaxed load. A point has a name
 * ("fs.fsync", "link.send", "sync.after-durable"); the table is global by design. */
#pragma once

#include "base/err.h"

#include <stdbool.h>

/* The next use of `name` after `skip` uses fails with errno `sys` (EIO when 0). */
void fault_arm(const char *name, int skip, int sys);
void fault_clear(void);
/* errno to fail with, or 0. */
int fault_hit(const char *name);

/* A place where a crash must be survived. When the environment has MUSTER_CRASH=NAME:N the
 * process kills itself with SIGKILL at the N-th pass (from 1) of that name; NAME "*" counts
 * all. MUSTER_CRASH_LIST=FILE appends each name passed. */
void crash_point(const char *name);
/* The same from now on, whatever the environment had; either may be NULL. For a child that was forked
 * after its parent passed some. Before there are threads. */
void crash_arm(const char *spec, const char *list);
#define CRASH_POINT(name) crash_point(name)
