// SPDX-License-Identifier: Apache-2.0
/* The parent's side of a child (child.h): starting it, a line there, a line back, and what its end
 * means. Blocks; any one thread at a time. */
#pragma once

#include "base/cancel.h"
#include "base/json.h"
#include "base/proc.h"
#include "host/host.h"

struct child {
    const char *name; /* in messages */
    const char *text; /* without a byte order mark */
    size_t len;
    const struct host *host;
    int fd; /* -1: not started */
    struct proc_id id;
};

/* Only text gets as far as a child: the text as JSON, or ERR_INVALID, ERR_DENIED, ERR_LIMIT. */
int talk_check_text(const struct child *child, json_t **ret_text, struct err *err) MUST_CHECK;
int talk_start(struct child *child, struct err *err) MUST_CHECK;
/* Success also when the child is dead: why is found out by its end. */
int talk_send(const struct child *child, const char *line, size_t len, struct cancel *cancel,
              struct err *err) MUST_CHECK;
/* One line, or nothing when the child has ended. */
int talk_read(const struct child *child, struct str *ret_answer, struct cancel *cancel,
              struct err *err) MUST_CHECK;
/* The last line of a child: its value, or its error as "NAME:LINE: text". */
int talk_judge_answer(const struct child *child, const struct str *answer, json_t **ret_value,
                      struct err *err) MUST_CHECK;
/* Always -1: a child that ended without an answer, by its wait status. */
int talk_judge_end(const struct child *child, int status, struct err *err) MUST_CHECK;
/* Always -1: the wait was ended, by the caller's `cancel` or by our wall clock. */
int talk_judge_wait(const struct child *child, struct cancel *cancel, struct err *err) MUST_CHECK;
