// SPDX-License-Identifier: Apache-2.0
/* A program that outlives whoever asked for it, run at most once per folder. A detached runner
 * (`MUSTER run-command DIR`) starts it, keeps its output in bounds, ends it when its time is over
 * and writes down what became of it; whoever looks into the folder later knows exactly, unless the
 * host was started anew or the runner was killed. Any thread; the format stands in command.c. */
#pragma once

#include "base/cancel.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

/* Of the output the first bytes are kept, and the last; what is between is counted. */
#define COMMAND_HEAD_BYTES 65536
#define COMMAND_TAIL_BYTES 65536
/* The end of it that command_look gives. */
#define COMMAND_LAST_BYTES 2048
/* Between SIGTERM and SIGKILL. */
#define COMMAND_GRACE_MS 10000
/* The name under which the program that called command_begin runs command_main. */
#define COMMAND_WORD "run-command"

struct command_spec {
    const char *program; /* an absolute path */
    const json_t *args;  /* array of texts; NULL: none */
    const json_t *env;   /* object of texts, besides what we have; NULL: none */
    int64_t within_ms;   /* from its start; then SIGTERM to its process group */
    int64_t grace_ms;    /* and SIGKILL after that */
};

enum command_state {
    COMMAND_NONE,    /* not begun */
    COMMAND_RUNNING, /* its runner lives */
    COMMAND_ENDED,
    COMMAND_LOST, /* begun, and nobody can tell how it ended: `why` */
};
const char *command_state_name(enum command_state state);

struct command_status {
    enum command_state state;
    int64_t started_ms; /* wall clock */
    int64_t ended_ms;
    int exit_status; /* 0..255; -1: it was ended by a signal, or could not be started */
    int signal;      /* 0: none */
    bool timed_out;
    bool stopped;  /* by command_stop */
    char why[512]; /* LOST; or ENDED: why it could not be started */
    uint64_t output_bytes;
    uint64_t dropped_bytes;                   /* of them not kept */
    char last_output[COMMAND_LAST_BYTES + 1]; /* its last lines: printable text and newlines */
};

/* Begins it in the folder `dir` (made when missing), unless it was begun there before: then nothing
 * is done, whatever became of it. `self` has command_main under COMMAND_WORD; NULL: this
 * program. Returns when the runner has begun or failed to. ERR_EXISTS: another command stands in
 * that folder. */
int command_begin(const char *dir, const struct command_spec *spec, const char *self,
                  struct cancel *cancel, struct err *err) MUST_CHECK;
int command_look(const char *dir, struct command_status *ret_status, struct err *err) MUST_CHECK;
/* SIGTERM, SIGKILL after the grace, for the whole process group; 0 when it has ended, or had. One
 * that was not begun is never begun after this. */
int command_stop(const char *dir, struct cancel *cancel, struct err *err) MUST_CHECK;

/* The runner: PROGRAM run-command DIR. Returns its exit code. */
int command_main(int argc, char **argv);

/* --- For command*.c ------------------------------------------------------------------------- */
int command_boot_id(char ret_id[64], struct err *err) MUST_CHECK;
int command_read(const char *dir, const char *name, json_t **ret_json, struct err *err) MUST_CHECK;
int command_write(const char *dir, const char *name, const json_t *json, struct err *err)
    MUST_CHECK;
