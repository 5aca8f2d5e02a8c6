// SPDX-License-Identifier: Apache-2.0
/* A daemon that gives canned answers on a unix socket, in a child process, and the command line
 * run against it: what it prints, and how it ends. */
#pragma once

#include "base/str.h"

/* One request it expects, in order; a request that is not the next one is answered with 500. */
struct canned {
    const char *request; /* "GET /v1/site"; NULL ends the list */
    const char *body;    /* part of the body it must have; NULL: any */
    int status;          /* 0: 200 */
    const char *answer;  /* JSON */
};

struct canned_result {
    int code;       /* exit code */
    struct str out; /* stdout */
    struct str err; /* stderr */
    int unasked;    /* answers nobody asked for */
};
void canned_result_done(struct canned_result *result);

/* Runs `muster --dir DIR WORDS...` (split at blanks, '_' stands for a blank in a word) with `input` on stdin. */
void canned_run(const char *dir, const struct canned *canned, const char *words, const char *input,
                struct canned_result *ret_result);
