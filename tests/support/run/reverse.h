// SPDX-License-Identifier: Apache-2.0
/* lyon's jobs that turn a protection round, over real stores and rows; the other site is a pipe that
 * answers what it was given beforehand. */
#pragma once

#include "run/job.h"
#include "support/run/jobs_desk.h"
#include "support/sites/estates.h"

struct reverse {
    struct estates *e;
    struct jobs_desk desk;
    char *dir; /* the site's */
    bool away;
    struct err refusal; /* ERR_NONE: it answers */
    json_t *answers;    /* one after another; the last one stays */
};

/* The next answer of the other site; taken. */
void reverse_answers(struct reverse *r, json_t *answer);
json_t *reverse_clean_side(void);
json_t *reverse_branched_side(void);
json_t *reverse_taken_over(void);
/* The daemon's start, its end and start, all that is due now, all that is due in five seconds. */
void reverse_begin(struct reverse *r);
void reverse_restart(struct reverse *r);
void reverse_settle(struct reverse *r);
void reverse_later(struct reverse *r);
/* The group's row, with paris; `more` of its settings as ",\"name\":value". */
void reverse_put_row(struct reverse *r, const char *role, const char *state, uint64_t generation,
                     const char *more);
void reverse_expect_row(struct reverse *r, const char *role, const char *state);
void reverse_expect_setting(struct reverse *r, const char *name, const char *want);
void reverse_expect_job(struct reverse *r, int64_t id, const char *state, const char *error_part);
void reverse_expect_note(struct reverse *r, int64_t id, size_t task, const char *part);
/* db1 was recovered here by lyon-4, from the promotion of point 3. */
void reverse_recover(struct reverse *r);
size_t reverse_instances(struct reverse *r);
void reverse_promote(struct reverse *r);
/* What the session has delivered beyond the promotion, as it finds it when it is opened. */
void reverse_deliver(struct reverse *r, uint64_t durable, uint64_t applied);

int reverse_setup(void **state);
int reverse_teardown(void **state);
#define REVERSE_TEST(f) cmocka_unit_test_setup_teardown(f, reverse_setup, reverse_teardown)
