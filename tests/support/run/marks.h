// SPDX-License-Identifier: Apache-2.0
/* Verbs for functions of steps, over plain memory that may be shared by processes: what they did is
 * counted, they fail on request, and each is a place to be killed before and after its effect.
 *   mark "NAME"    has an exact probe and an undo; "bad..." always fails
 *   shout "NAME"   nobody can tell afterwards whether it happened
 *   own "NAME"     moves ownership */
#pragma once

#include "verbs/verb.h"

#define MARKS_MAX 16

struct mark {
    char name[32]; /* "": free place */
    bool is_set;
    unsigned done; /* how often it was set, or shouted */
    unsigned undone;
};

struct marks {
    struct mark at[MARKS_MAX];
    unsigned fail_skip; /* the calls of run that succeed first */
    unsigned fail_times;
    enum err_code fail_code;
    char order[256]; /* names as they were undone, each with a blank behind */
};

/* The marks that the verbs work on from now on. */
void marks_use(struct marks *marks);
const struct mark *marks_find(const struct marks *marks, const char *name); /* NULL: never asked */
/* The real verbs and these. Static. */
const struct verb *const *marks_verbs(size_t *ret_count);
