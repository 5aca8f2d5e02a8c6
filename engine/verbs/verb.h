// SPDX-License-Identifier: Apache-2.0
/* Verbs: what plans can do. One file and one table row each. A verb sees its arguments and the
 * sites; never the database, the run or Lua. run, probe and undo are called on pool threads and
 * block; asking for what is already so succeeds.
 *
 * Words for plans: failover "MACHINE" · failback "MACHINE" · commit "MACHINE" · rollback "MACHINE"
 * · change_point { "MACHINE", point = N } · reprotect "MACHINE" · wait_until { ... } · check { ... }
 * · run_command { "/PROGRAM", ... } · approve { "QUESTION", ... } · assign_ip { "MACHINE", ... }
 * · notify { "https://...", text = ... }
 * The safe core, put in by the engine per kind of run (plan/plan.h):
 *   core_shutdown {machine}     guest shut down, process kept; undo: started again
 *   core_final_sync {group}     the last delta of a quiet source, then no more; undo: released
 *   core_hold {group}           the source sends no more, after a last delta if asked; undo:
 *                               released, and what was shut down for it started again
 *   core_promote {group}        generation raised, the chosen point kept: no return
 *   core_retire {group}         the old machine is stopped for good
 *   core_pin {group}            the point stays as long as the test; undo: unpinned
 *   core_network {}             the test's isolated network; undo: removed
 *   core_cleanup {machine}      test machine, its disks' server and overlay gone
 *   core_unpin {group}          the point may go
 *   core_network_remove {}      the network gone
 *   core_leftovers {}           fails when anything of the test is still there, and lists it */
#pragma once

#include "base/cancel.h"
#include "base/clock.h"
#include "base/json.h"
#include "sites/site.h"

#include <stdbool.h>
#include <stdint.h>

enum run_kind {
    RUN_TEST,
    RUN_PLANNED,
    RUN_UNPLANNED,
    RUN_FAILBACK,
    RUN_CLEANUP,
    RUN_DRY,
    RUN_COMMIT, /* these three follow a failover, and work on its run */
    RUN_ROLLBACK,
    RUN_CHANGE_POINT,
    RUN_KIND_COUNT
};
const char *run_kind_name(enum run_kind kind);
int run_kind_parse(const char *name); /* -1: unknown */

enum verb_arg_type {
    ARG_TEXT,     /* any text */
    ARG_MACHINE,  /* a machine's name */
    ARG_ADDRESS,  /* "host:port"; host may be a machine's name */
    ARG_DURATION, /* "90s" */
    ARG_NUMBER,
    ARG_BOOL,
    ARG_PATH,   /* an absolute path */
    ARG_TEXTS,  /* a text or a list of texts */
    ARG_TABLE,  /* { NAME = "text", ... } */
    ARG_SITE,   /* a site's name */
    ARG_NIC,    /* a number from 1, or a MAC */
    ARG_CIDRS,  /* "10.0.0.5/24", or a list of such */
    ARG_IPS,    /* "10.0.0.5", or a list of such */
    ARG_URL,    /* "https://..." */
    ARG_DATA,   /* a table of whatever data */
    ARG_WORD,   /* one of `words` */
    ARG_PERSON, /* a user's name, or "@GROUP" */
};
struct verb_arg {
    const char *name; /* NULL: the value given without a name: failover "db1" */
    enum verb_arg_type type;
    bool required;
    bool per_site;    /* may be { lyon = ..., paris = ... } */
    const char *help; /* one sentence; also the documentation */
    bool choice;      /* with any_of_named: one of those of which exactly one must be there */
    const char *const *words; /* ARG_WORD: what it may be, NULL-terminated */
    const char *with;         /* goes with the argument of that name: both or neither; NULL: free */
};
/* The key under which an argument stands in verb_call.args: its name, and for the one value
 * without a name "machine", "address" or "value", by its type. */
static inline const char *verb_arg_key(const struct verb_arg *arg)
{
    if (arg->name)
        return arg->name;
    return arg->type == ARG_MACHINE ? "machine" : arg->type == ARG_ADDRESS ? "address" : "value";
}

#define RUN_KIND_BIT(kind) (1U << (unsigned)(kind))
/* Kinds that move a machine for real. */
#define RUN_KINDS_REAL \
    (RUN_KIND_BIT(RUN_PLANNED) | RUN_KIND_BIT(RUN_UNPLANNED) | RUN_KIND_BIT(RUN_FAILBACK))

enum verb_effect { EFFECT_NONE, EFFECT_REVERSIBLE, EFFECT_DESTRUCTIVE };
enum verb_answer { ANSWER_NOT_DONE, ANSWER_DONE, ANSWER_UNKNOWN };

struct verb_call {
    enum run_kind kind;
    const char *run; /* the run's name, "lyon-12" (a cleanup's: the test's): part of every name a
                        verb makes, so that it is found again. A machine's own `run` goes first:
                        it stays the same when a second run goes on with a failover */
    const char *action_id; /* "STEP.ATTEMPT.ACTION", a name: with the run's own name it stands for
                        this one action, before and after a crash, and for no other */
    const char *plan;      /* the plan's name */
    const char *step;      /* the step's title; "" for none */
    const char *run_name;  /* the run's own name: differs from `run` in a cleanup */
    const json_t *args;    /* checked at load; durations as "NAME_ms" numbers are NOT made: texts */
    const json_t *machines; /* of the plan, as the run knows them: name -> {group, peer, run, point
                               (0: the newest), generation (before promotion), last_delta} */
    struct site *here;      /* the site that is to own the machines */
    struct site *there;     /* the other one */
    struct clock *clock;
};

struct verb {
    const char *name;
    const char *help; /* one sentence */
    const struct verb_arg *args;
    size_t arg_count;
    bool any_of_named; /* exactly one of the args marked `choice` must be there */
    enum verb_effect effect;
    bool idempotent;      /* what may or may not have happened is simply done again */
    bool moves_ownership; /* a declaration only, never inside a body */
    bool brings_up;       /* a plan's verb that starts the machine: the safe core is built for it */
    unsigned only;        /* RUN_KIND_BIT set of the kinds it has a part in; 0: all */
    bool asks;            /* a person answers: the run waits for him instead of calling `run` */
    bool core;            /* used by the fixed safe core; not a word for plans */
    /* `ret_result` gets a new reference (an object) on success. Its "facts" {NAME: {...}} are what
     * later steps shall know about machines (point, generation, ...): the run merges them into
     * `machines`. Its "warning" is shown. "instance" {machine, run, group, test, point, run_dir,
     * netns, definition} is a machine that this started. */
    /* With a failure it may give a result too, for the report. One that asks a question gives {"answer":
     * true}, or {"answer": false} and ERR_STATE: a failure of a step, a result to a step's function. */
    int (*run)(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err);
    /* After a crash: was it done? Required unless effect is none or it is idempotent. */
    int (*probe)(const struct verb_call *call, enum verb_answer *ret_answer, json_t **ret_result,
                 struct cancel *cancel, struct err *err);
    int (*undo)(const struct verb_call *call, struct cancel *cancel,
                struct err *err); /* may be NULL */
    /* What shows only when arguments are seen together, at load; each is right by itself by then, and
     * stands for one site. ERR_INVALID; `ret_arg`: the argument to blame. May be NULL. */
    int (*check)(const json_t *args, const char **ret_arg, struct err *err);
    /* One line for the runbook: what an operator would do by hand; free with free(). */
    char *(*describe)(const json_t *args, enum run_kind kind);
};

/* The `within` of approve, when it is not said. */
#define VERB_APPROVE_WITHIN "24h"

const struct verb *verb_find(const char *name); /* NULL: none */
const struct verb *const *verb_all(size_t *ret_count);
/* The words for plans, as host_run takes them: {NAME: key of the value without a name, or null}
 * (new reference). The core's are not among them. */
json_t *verb_words(void);
