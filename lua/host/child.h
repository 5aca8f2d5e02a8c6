// SPDX-License-Identifier: Apache-2.0
/* How the child gives up the world, and the words between parent and child.
 *
 * The parent sends one line of JSON, the child answers with one, then nothing more:
 *   parent  {"mode": "plan"|"data"|"body", "text": T, "words": {...}|null, "step": "s3"|null,
 *            "memory_bytes": N, "result_bytes": N, "cpu_ms": N}
 *   child   {"value": V}  or  {"error": {"code": "invalid", "text": T, "line": N, "path": P}}
 * A "body" may ask before it ends, as often as it likes, one line for one line (body.c).
 * A child that dies without a line was killed by one of its bounds; its wait status says which. */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* A sanitizer built in needs more of the system; such builds are for our own tests. */
#ifdef __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CHILD_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CHILD_SANITIZED 1
#endif
#ifndef CHILD_SANITIZED
#define CHILD_SANITIZED 0
#endif

/* A job is a text of at most 16 MiB, escaped, and its words. */
#define CHILD_JOB_BYTES_MAX ((size_t)100 * 1024 * 1024)

struct child_bounds {
    uint64_t address_bytes; /* of the whole process; not set where a sanitizer is built in */
    int64_t cpu_ms;         /* from now on; the process is killed with SIGPROF, later SIGKILL */
};

/* Gives up everything but reading and writing `fd`, memory, and the end, for ever: other
 * descriptors are closed, any other system call kills the process (SIGSYS). ERR_UNSUPPORTED: this
 * kernel cannot confine. */
int child_confine(int fd, const struct child_bounds *bounds, struct err *err) MUST_CHECK;
