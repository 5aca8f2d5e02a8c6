// SPDX-License-Identifier: Apache-2.0
/* The Lua state that runs a plan, a step's function or data: what is in it, and what is not. Only in the child, after
 * it gave up the world (child.h); one thread. What can be taken away from Lua is taken away here
 * so that an author gets a clear error; what must hold even if Lua has a fault is seccomp's. */
#pragma once

#include "base/json.h"
#include "host/host.h"

struct sandbox_job {
    enum host_mode mode;
    const char *text;
    size_t len;
    const json_t *words; /* not HOST_DATA: {NAME: key or null} */
    size_t memory_bytes;
    size_t result_bytes;
    /* HOST_BODY: which step's function; how it asks (a line with its end; the answer is a new
     * reference), and how it is ended when it must not go on (does not return). */
    const char *step;
    int (*ask)(void *ctx, const char *line, size_t len, json_t **ret_answer, struct err *err);
    void (*fail)(void *ctx, const struct err *err, unsigned line);
    void *ctx;
};

/* Why it failed, beside the error: the line in the text (0: none), and the place in the value
 * ("disks[2].hook", empty: none). */
struct sandbox_place {
    unsigned line;
    struct str path;
};

/* Runs the text and appends its value as JSON (of a step's function: null when it returned nothing).
 * Errors as host_run, without name and line. */
int sandbox_run(const struct sandbox_job *job, struct str *ret_json,
                struct sandbox_place *ret_place, struct err *err) MUST_CHECK;
