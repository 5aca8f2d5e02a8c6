// SPDX-License-Identifier: Apache-2.0
/* A QMP monitor over its unix socket: commands, answers, events. A monitor serves one client at a
 * time; a second one waits in qmp_open until its cancel ends it. One thread at a time.
 *
 * Every answer is matched to its command by an id, so a command that was given up (ERR_TIMEOUT,
 * ERR_CANCELLED) leaves the connection usable: its answer is dropped when it comes. ERR_NET means
 * that the monitor closed, which QEMU does only by ending: the text says so, and every later call
 * fails with it too. */
#pragma once

#include "base/cancel.h"
#include "base/json.h"

#include <stdbool.h>

/* No command may take longer than this, whatever its cancel allows. */
#define QMP_COMMAND_LIMIT_MS 60000
/* Events kept per name until somebody asks; the oldest of that name make room. */
#define QMP_EVENTS_PER_NAME 64

struct qmp;
/* Connects and negotiates. ERR_NET: nothing listens there (the machine is not running). */
int qmp_open(const char *path, struct clock *clock, struct qmp **ret_qmp, struct cancel *cancel,
             struct err *err) MUST_CHECK;
void qmp_close(struct qmp *qmp); /* NULL is fine */
void qmp_closep(struct qmp **qmp);
const char *qmp_path(const struct qmp *qmp);

/* Runs a command; `arguments` is taken (NULL: none), `ret_result` may be NULL. QEMU's refusal is
 * ERR_STATE with its own words, ERR_NOT_FOUND for its DeviceNotFound, ERR_UNSUPPORTED for its
 * CommandNotFound; an answer that is no QMP is ERR_PROTOCOL. */
int qmp_command(struct qmp *qmp, const char *command, json_t *arguments, json_t **ret_result,
                struct cancel *cancel, struct err *err) MUST_CHECK;
/* The same with a descriptor travelling along (getfd). */
int qmp_command_fd(struct qmp *qmp, const char *command, json_t *arguments, int fd,
                   struct cancel *cancel, struct err *err) MUST_CHECK;

/* Which event: one of `names` (NULL-terminated) whose data has `value` in text field `key`
 * (NULL: any). */
struct qmp_want {
    const char *const *names;
    const char *key;
    const char *value;
};
/* Takes the oldest such event, waiting for it; the whole event ("event", "data", ...) is the
 * caller's. Events that come while commands run are kept. */
int qmp_wait_event(struct qmp *qmp, const struct qmp_want *want, json_t **ret_event,
                   struct cancel *cancel, struct err *err) MUST_CHECK;
/* The same without waiting; NULL: none has come. Reads what lies in the socket first, and keeps the
 * other events that it meets: ask for all of interest in one call before waiting for qmp_fd. */
int qmp_take_event(struct qmp *qmp, const struct qmp_want *want, json_t **ret_event,
                   struct err *err) MUST_CHECK;
/* Forgets events kept so far, so that what comes after is about what comes after. */
void qmp_drop_events(struct qmp *qmp);
/* To wait for events together with something else: readable when one may have come that is not kept
 * yet. */
int qmp_fd(const struct qmp *qmp);
