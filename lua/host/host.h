// SPDX-License-Identifier: Apache-2.0
/* Lua, confined. Text is run by a short-lived child (`muster lua-host`): seccomp, memory bound in
 * Lua's allocator, CPU limit, wall-clock kill, no files, no network, text chunks only. The
 * daemon never runs Lua. Calls block (any pool thread, the CLI). */
#pragma once

#include "base/cancel.h"
#include "base/json.h"

enum host_mode {
    HOST_DATA, /* the chunk returns a table of data: config, machine definitions */
    HOST_PLAN, /* the chunk returns plan "..." { ... }; the words of lua/muster are there */
    HOST_BODY, /* as HOST_PLAN, then the function of one of its steps: host_body_start */
};

struct host_limits {
    size_t memory_bytes; /* 64 MiB */
    int64_t cpu_ms;      /* 2 s */
    int64_t wall_ms;     /* 10 s */
    size_t result_bytes; /* 16 MiB */
};
void host_limits_default(struct host_limits *ret_limits);

struct host {
    const char *program; /* the muster binary; NULL: /proc/self/exe */
    struct host_limits limits;
    struct clock *clock;
};

/* Runs `text` (named `name` in messages) and gives its value as JSON. In HOST_PLAN mode `words`
 * names the verbs: {NAME: KEY of the value without a name, or null}; the value is {plan: document,
 * problems: [{line, text, word, field}]}. In HOST_DATA mode it is the table the text returns, as
 * plain JSON; an empty table inside it is an empty array; the line of a key is found afterwards with
 * host_line_of.
 * ERR_INVALID: "NAME:LINE: what; hint: ..." for a syntax error, an error raised, an unknown word
 * (with the nearest one), a value that is no data; ERR_LIMIT: which budget was used up; ERR_DENIED:
 * what it tried; ERR_PROTOCOL: the child itself is at fault. */
int host_run(const struct host *host, enum host_mode mode, const char *name, const char *text,
             size_t len, const json_t *words, json_t **ret_value, struct cancel *cancel,
             struct err *err) MUST_CHECK;
/* The same for a file (at most 16 MiB). */
int host_run_file(const struct host *host, enum host_mode mode, const char *path,
                  const json_t *words, json_t **ret_value, struct cancel *cancel, struct err *err)
    MUST_CHECK;

/* --- The function of a step -------------------------------------------------------------------
 * A child that loads a plan's text and runs the function of one of its steps. It asks for effects
 * one at a time, and waits for each answer. Its processor time is bounded as a whole, the wall clock
 * runs only while it is asked: what an answer takes is not its own. It may be killed at any
 * time: a new one that is given the same answers comes to the same place.
 * One thread at a time; the thread that starts it must outlive it (it dies with that thread). */
struct host_body;

/* The largest request, answer of a request, and value, as JSON. */
#define HOST_BODY_BYTES_MAX ((size_t)1024 * 1024)

/* `step` counts the plan's steps in order of the text: "s1". Nothing is run before the first
 * host_body_ask. Errors as host_run. */
int host_body_start(const struct host *host, const char *name, const char *text, size_t len,
                    const json_t *words, const char *step, struct host_body **ret_body,
                    struct err *err) MUST_CHECK;
/* Gives the answer to the last request (NULL: begin) and waits for the next one (new reference):
 *   {"act": {"verb": V, "args": A}, "line": N}   answer {"result": R}, R an object, or
 *                                                {"error": {"code": C, "message": T, "verb": V}}
 *   {"result_of": TITLE, "line": N}              answer {"result": R}; {} is nil
 *   {"value": V}                                 it has returned V, null: nothing; the child is gone
 * Errors as host_run, the child is gone then; also an error that the function raised: ERR_STATE when
 * it called error or assert, the code of the verb when it let one pass. ERR_IO: the child was killed
 * from outside. */
int host_body_ask(struct host_body *body, const json_t *answer, json_t **ret_request,
                  struct cancel *cancel, struct err *err) MUST_CHECK;
/* Kills it when it is still there. NULL is fine. */
void host_body_free(struct host_body *body);

/* The line on which the data key `path` ("disks[2].format") is written in `text`, or 0. "": the line
 * on which the table itself begins. */
unsigned host_line_of(const char *text, size_t len, const char *path);
/* The line of `field` in the table given to the word `word` that stands on `line`; `line` itself
 * when it is not written there. For plans: word "step", field "wihtin". */
unsigned host_line_of_field(const char *text, size_t len, unsigned line, const char *word,
                            const char *field);

/* The child's main, with what the program was given: MUSTER lua-host DESCRIPTOR. Does not return
 * once it has begun. */
int host_main(int argc, char **argv);
