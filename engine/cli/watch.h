// SPDX-License-Identifier: Apache-2.0
/* Watching what is under way: a tree that is redrawn on a terminal, a line per change elsewhere.
 * Ctrl-C stops the watching, never what is watched. A daemon that is restarted meanwhile is waited
 * for. */
#pragma once

#include "cli/cmd.h"
#include "cli/show.h"

struct watch;
struct watch *watch_begin(struct cli *cli);
void watch_end(struct watch *watch); /* the last picture stays */
void watch_endp(struct watch **watch);
/* On a terminal: replaces the last picture. */
void watch_draw(struct watch *watch, const struct str *picture);
/* GET, until it answers (at most a minute of a daemon that is away). */
int watch_get(struct watch *watch, const char *path, json_t **ret_reply, struct err *err)
    MUST_CHECK;
/* Until something changed, at most `wait_ms`. ERR_CANCELLED: Ctrl-C; the text ends with `hint`. */
int watch_wait(struct watch *watch, int64_t wait_ms, const char *hint, struct err *err) MUST_CHECK;

void cli_look(const struct cli *cli, struct look *ret_look);
int64_t cli_now_ms(void);

/* Until the job has ended; ERR_* by its end. */
int watch_job(struct cli *cli, uint64_t id, struct err *err) MUST_CHECK;
/* {job}, just begun: the same, or, with --no-wait, what to watch it by. */
int watch_begun(struct cli *cli, const json_t *reply, struct err *err) MUST_CHECK;
/* Until the run does nothing more; prints its report. An end that is no success is an error. */
int watch_run(struct cli *cli, uint64_t id, struct err *err) MUST_CHECK;
/* The same for one that was told to stop: "cancelled" is what was asked for. */
int watch_cancelled_run(struct cli *cli, uint64_t id, struct err *err) MUST_CHECK;
