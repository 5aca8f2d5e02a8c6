// SPDX-License-Identifier: Apache-2.0
/* Plans: from Lua text to an immutable graph, its checks, its runbook, and the one list of tasks
 * that runbook and executor share: what you read is what runs. A plan is made and freed by one
 * owner; read-only in between, by any thread. Calls that take a host block (pool thread, CLI). */
#pragma once

#include "base/vec.h"
#include "host/host.h"
#include "verbs/verb.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PLAN_NAME_BYTES 64
#define PLAN_ID_BYTES   96
#define PLAN_HASH_BYTES 65 /* SHA-256 in hex, with its NUL */

/* What a plan is checked against. Everything is borrowed for the call; verbs for as long as the
 * plan lives (they are static rows). */
struct plan_world {
    const struct verb *const *verbs; /* verb_all() */
    size_t verb_count;
    const char *const *machines; /* NULL-terminated; NULL: not known, names are not checked */
    const char *const *sites;    /* NULL-terminated; NULL: not known */
    /* The site that is to own the machines, for plan_expand: { lyon = ..., paris = ... } becomes its
     * value. NULL: such values stay as they are. */
    const char *here;
    /* For plan_expand of what follows a failover: that failover's kind, whose steps and machines are
     * meant. RUN_TEST: not known, those of all real kinds. */
    enum run_kind of_kind;
    /* Groups of several machines, {MACHINE: {group: NAME, ...}} with all machines of each. One that is
     * not in it is a group by itself. NULL: not known, each is; nothing is checked then. */
    const json_t *groups;
};

/* One thing to say about a plan. Errors forbid to run it. */
struct plan_problem {
    bool warning;
    unsigned line; /* 0: the plan as a whole */
    char *text;    /* without file and line; may hold "; hint: ..." */
};
VEC_DEFINE(plan_problems, struct plan_problem)
void plan_problems_done(struct plan_problems *problems); /* also for CLEANUP */
/* "FILE:LINE: error|warning: TEXT" per line, by line number; free with free(). */
char *plan_problems_text(const struct plan_problems *problems, const char *file);

enum plan_on_failure {
    PLAN_FAIL_DEFAULT, /* as the kind of run has it: see plan_task */
    PLAN_FAIL_STOP,
    PLAN_FAIL_CONTINUE,
    PLAN_FAIL_PAUSE,
};
const char *plan_on_failure_name(enum plan_on_failure on_failure); /* "stop", ... */

#define PLAN_KIND_BIT(kind) RUN_KIND_BIT(kind)

struct plan_action {
    const struct verb *verb;
    const json_t *args; /* object; keys by verb_arg_key; values as written; owned by document */
    unsigned line;
};
VEC_DEFINE(plan_actions, struct plan_action)

struct plan_step {
    char id[PLAN_ID_BYTES]; /* "s1" .. "sN" in order of the text */
    const char *title;
    unsigned line;
    size_t stage;      /* index in plan->stages */
    unsigned group;    /* 0: alone; steps of one parallel block have the same number, 1.. */
    unsigned kinds;    /* PLAN_KIND_BIT set of the kinds it is for (stage's and its own `only`) */
    int64_t within_ms; /* 0: no bound of its own */
    unsigned retry_times;  /* further attempts after the first; 0: none */
    int64_t retry_wait_ms; /* between two attempts */
    enum plan_on_failure on_failure;
    /* Either at least one action, in order, or a function: its lines in the source, else 0. What a
     * function does, nobody knows before it runs. */
    struct plan_actions actions;
    unsigned body_first;
    unsigned body_last;
};
VEC_DEFINE(plan_steps, struct plan_step)

struct plan_stage {
    const char *title;
    unsigned line;
    unsigned kinds;
};
VEC_DEFINE(plan_stages, struct plan_stage)

struct plan {
    char name[PLAN_NAME_BYTES];
    /* Over the canonical document, which has the source's hash when a step is a function: what an
     * approval is bound to. */
    char hash[PLAN_HASH_BYTES];
    char *file;     /* its name in messages */
    char *source;   /* the Lua text, or NULL (from a document) */
    int64_t rto_ms; /* 0: not promised */
    int64_t rpo_ms;
    struct plan_stages stages;
    struct plan_steps steps; /* of all stages, in order */
    json_t *document;        /* keeps the strings above alive; the run stores a copy of it */
};
void plan_free(struct plan *plan); /* NULL is fine */
MEM_FREEP(struct plan, plan_free)

/* Loads `text` twice in the host (two different graphs: ERR_INVALID), builds and checks it. All
 * errors and warnings are added to `problems` (may be NULL), sorted by line. With at least one
 * error it fails with ERR_INVALID whose text is the first one, "FILE:LINE: what", and how many
 * there are. What stops Lua itself (syntax, an unknown word, a limit of the host) is told by the error
 * alone, as in host_run. */
int plan_load(const struct host *host, const struct plan_world *world, const char *file,
              const char *text, size_t len, struct plan **ret_plan, struct plan_problems *problems,
              struct cancel *cancel, struct err *err) MUST_CHECK;
/* The same for a file (at most 1 MiB). */
int plan_load_file(const struct host *host, const struct plan_world *world, const char *path,
                   struct plan **ret_plan, struct plan_problems *problems, struct cancel *cancel,
                   struct err *err) MUST_CHECK;
/* From the document a run has stored; no Lua. The same hash as the plan it was taken from. The
 * functions of its steps are in the source only: plan_source_check. */
int plan_from_document(const struct plan_world *world, const char *file, const json_t *document,
                       struct plan **ret_plan, struct plan_problems *problems, struct err *err)
    MUST_CHECK;

/* Is this the text the document was made of? ERR_INVALID: a step is a function, and there is no text
 * (NULL) or another one. Plans without functions need none. */
int plan_source_check(const struct plan *plan, const char *source, struct err *err) MUST_CHECK;

/* What the function of a step asks for: checked as the actions of a plan are at load, with the same
 * words. `args` is {KEY: VALUE} (or an empty array, Lua's empty table); `ret_args` (new reference) has
 * the values of `world->here`. ERR_INVALID: "FILE:LINE: what"; a verb that moves ownership, too. */
struct plan_act {
    const char *file;
    const char *source;
    const char *verb;
    const json_t *args;
    unsigned line;
};
int plan_check_act(const struct plan_world *world, const struct plan_act *act,
                   const struct verb **ret_verb, json_t **ret_args, struct err *err) MUST_CHECK;
/* The verbs as host_run takes them for plans: {NAME: key of the value without a name, or null} (new
 * reference). */
json_t *plan_words(const struct plan_world *world);

/* --- One list of tasks per kind of run --------------------------------------------------------
 * The fixed safe core of the kind with the plan's own steps in it: once per machine, or once per group,
 * in the order of their first machines. Core actions use these verbs (rows with `core` set) with these
 * args:
 *
 *   planned, failback  core_shutdown {machine}  last stage first
 *                      core_final_sync {group}
 *                      core_promote {group}     point of no return
 *                      core_retire {group}      the old side gives up
 *                      the plan's stages; ends in awaiting-commit
 *   unplanned          core_hold {group}        succeeds when the other site is out of reach
 *                      core_promote {group}     point of no return
 *                      core_retire {group}      succeeds when the other site is out of reach
 *                      the plan's stages; ends in awaiting-commit
 *   test               core_pin {group}, core_network {}
 *                      the plan's stages; ends in cleanup-due
 *   cleanup            core_cleanup {machine}   test instance gone; last one first
 *                      core_unpin {group}
 *                      core_network_remove {}
 *                      core_leftovers {}        fails when anything is left
 *
 * `failover` (a verb with moves_ownership) starts the machine: a test instance or the real one, by
 * kind. Only machines that a step of this kind fails over are in the core. */
enum plan_phase {
    PLAN_CORE_BEFORE, /* the engine's own, before the stages */
    PLAN_STAGES,      /* the plan's steps */
};

struct plan_task_action {
    const struct verb *verb;
    json_t *args;  /* owned */
    unsigned line; /* 0: the core's */
};
VEC_DEFINE(plan_task_actions, struct plan_task_action)

struct plan_task {
    char id[PLAN_ID_BYTES]; /* the step's, or "core.shutdown.db1"; unique within the list */
    enum plan_phase phase;
    char *title;    /* imperative sentence */
    char *stage;    /* heading: the plan's stage, or the core's ("Shut down at the source") */
    unsigned group; /* 0: alone, after all before it; else with its neighbours of that number */
    int64_t within_ms;
    unsigned retry_times;
    int64_t retry_wait_ms;
    /* Never DEFAULT. Without a word of the plan: `stop`, except in an unplanned run, where what
     * concerns one machine (core, failover) continues with the others. */
    enum plan_on_failure on_failure;
    bool point_of_no_return;          /* the first destructive one */
    struct plan_task_actions actions; /* none when it is a function */
    unsigned body_first;              /* its lines in the source; 0: it is none */
    unsigned body_last;
};
VEC_DEFINE(plan_tasks, struct plan_task)
void plan_tasks_done(struct plan_tasks *tasks); /* also for CLEANUP */

/* ERR_INVALID: nothing to do for that kind; ERR_UNSUPPORTED: a dry run, or a core verb that is not
 * in the world's table. */
int plan_expand(const struct plan *plan, const struct plan_world *world, enum run_kind kind,
                struct plan_tasks *ret_tasks, struct err *err) MUST_CHECK;

/* Machines that a run of this kind brings up, in order: new reference, array of names. */
json_t *plan_machines(const struct plan *plan, enum run_kind kind);
/* The plan that fails over one machine, for `muster failover` without a plan of one's own: a
 * document for plan_from_document (new reference). With an agent it waits until that answers, 5
 * minutes at most; else for nothing. */
json_t *plan_document_for_machine(const char *machine, bool agent);
/* The same for a group: all `machines` [name] at once, then waiting for those that are in `agents`
 * [name] (may be NULL). */
json_t *plan_document_for_group(const char *group, const json_t *machines, const json_t *agents);

/* --- The runbook ------------------------------------------------------------------------------
 * For people to follow by hand if need be. Text: numbered stages and steps, what each verb does,
 * the point of no return, what the run ends in. Free with free(). */
int plan_show_text(const struct plan *plan, const struct plan_world *world, enum run_kind kind,
                   char **ret_text, struct err *err) MUST_CHECK;
/* {plan, hash, kind, ends_in, notes: [text], tasks: [{id, number, phase, stage, title, group?,
 * within?, retry?, on_failure, point_of_no_return, line, body?: {first, last},
 * actions: [{verb, args, describe}]}]} */
int plan_show_json(const struct plan *plan, const struct plan_world *world, enum run_kind kind,
                   json_t **ret_json, struct err *err) MUST_CHECK;
