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
