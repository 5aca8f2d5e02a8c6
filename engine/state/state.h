// SPDX-License-Identifier: Apache-2.0
/* The site's durable state: the only SQL of the control plane (state.db, SQLite, WAL,
 * synchronous=FULL). Belongs to the loop thread. Writes of one turn of the loop are one
 * transaction: state_turn_begin happens by itself at the first write, state_turn_end commits; what a
 * turn decided is durable before its jobs start and its replies leave.
 * Records are plain JSON-free structs where the code decides by a field, JSON text where it only
 * carries it. Strings in a returned record are owned by it (x_done). */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stdint.h>

struct state;
/* Opens or makes PATH and brings its schema up to date. ERR_CORRUPT: not ours, or newer than this
 * program (both numbers); it is never remade. */
int state_open(const char *path, struct state **ret_state, struct err *err) MUST_CHECK;
void state_close(struct state *state);
bool state_in_turn(const struct state *state);
int state_turn_end(struct state *state, struct err *err) MUST_CHECK;
void state_turn_abort(struct state *state);
/* Names of the machines and protections that were written or removed since the last call, as the keys
 * of an object (a new reference). */
json_t *state_touched_take(struct state *state);

/* --- Machines ---------------------------------------------------------------------------- */
struct state_machine {
    char *name;
    char *host;          /* the host of this site that runs it; "" until there are several */
    char *definition;    /* JSON (providers/machine.h) */
    bool wanted_running; /* what a person asked for last */
    int64_t added_ms;
};
VEC_DEFINE(state_machines, struct state_machine)
void state_machines_done(struct state_machines *machines);
int state_machine_put(struct state *state, const struct state_machine *machine, struct err *err)
    MUST_CHECK;
int state_machine_get(struct state *state, const char *name, struct state_machine *ret_machine,
                      struct err *err) MUST_CHECK; /* ERR_NOT_FOUND */
void state_machine_done(struct state_machine *machine);
int state_machine_list(struct state *state, struct state_machines *ret_machines, struct err *err)
    MUST_CHECK;
int state_machine_remove(struct state *state, const char *name, struct err *err) MUST_CHECK;

/* --- Protections: one row per group and side ---------------------------------------------- */
struct state_protection {
    char *group;
    char *peer;
    char *role;     /* "source" or "replica" */
    char *state;    /* the machine's state of DESIGN 5.3: "enabling", "initial-copy", "protected",
                      "failing-over", "failed-over", "disabling", ... */
    char *settings; /* JSON: policy (its name), the policy's fields as they hold (sync/policy.h),
                       overrides [keys set for this one alone], machines [names]; of a replica also
                       agents [names of those that have one] */
    uint64_t generation;
    int64_t since_ms; /* when `state` was entered */
};
VEC_DEFINE(state_protections, struct state_protection)
void state_protection_done(struct state_protection *protection);
void state_protections_done(struct state_protections *protections);
int state_protection_put(struct state *state, const struct state_protection *protection,
                         struct err *err) MUST_CHECK;
int state_protection_get(struct state *state, const char *group,
                         struct state_protection *ret_protection, struct err *err) MUST_CHECK;
/* That of the group of this name; else that of the group which has a machine of this name.
 * ERR_NOT_FOUND: neither is. */
int state_protection_of(struct state *state, const char *name,
                        struct state_protection *ret_protection, struct err *err) MUST_CHECK;
int state_protection_list(struct state *state, struct state_protections *ret_protections,
                          struct err *err) MUST_CHECK;
int state_protection_remove(struct state *state, const char *group, struct err *err) MUST_CHECK;

/* --- Policies ------------------------------------------------------------------------------ */
struct state_policy {
    char *name;
    char *settings; /* JSON: all fields of sync/policy.h */
    int64_t added_ms;
    int64_t changed_ms; /* as added_ms, until it is changed */
};
VEC_DEFINE(state_policies, struct state_policy)
void state_policy_done(struct state_policy *policy);
void state_policies_done(struct state_policies *policies);
int state_policy_put(struct state *state, const struct state_policy *policy, struct err *err)
    MUST_CHECK;
int state_policy_get(struct state *state, const char *name, struct state_policy *ret_policy,
                     struct err *err) MUST_CHECK; /* ERR_NOT_FOUND */
int state_policy_list(struct state *state, struct state_policies *ret_policies, struct err *err)
    MUST_CHECK; /* by name */
int state_policy_remove(struct state *state, const char *name, struct err *err) MUST_CHECK;

/* --- Recovered instances: machines started from a replica ---------------------------------- */
struct state_instance {
    char *run;
    char *machine;
    bool test;
    char *definition; /* JSON of the machine as started */
    char *group;
    uint64_t point;
    char *run_dir;
    char *netns; /* "" for a real one */
};
VEC_DEFINE(state_instances, struct state_instance)
void state_instance_done(struct state_instance *instance);
void state_instances_done(struct state_instances *instances);
int state_instance_put(struct state *state, const struct state_instance *instance, struct err *err)
    MUST_CHECK;
int state_instance_list(struct state *state, struct state_instances *ret_instances, struct err *err)
    MUST_CHECK;
/* The machine of that name that was failed over to here; no test's. ERR_NOT_FOUND: there is none. */
int state_instance_recovered(struct state *state, const char *machine,
                             struct state_instance *ret_instance, struct err *err) MUST_CHECK;
int state_instance_remove(struct state *state, const char *run, const char *machine,
                          struct err *err) MUST_CHECK;

/* --- Plans ------------------------------------------------------------------------------- */
struct state_plan {
    char *name;
    char *source;   /* Lua text */
    char *document; /* JSON, canonical */
    char *hash;     /* hex */
    char *origin;   /* site where it was added */
    int64_t added_ms;
};
VEC_DEFINE(state_plans, struct state_plan)
void state_plan_done(struct state_plan *plan);
void state_plans_done(struct state_plans *plans);
int state_plan_put(struct state *state, const struct state_plan *plan, struct err *err) MUST_CHECK;
int state_plan_get(struct state *state, const char *name, struct state_plan *ret_plan,
                   struct err *err) MUST_CHECK;
int state_plan_list(struct state *state, struct state_plans *ret_plans, struct err *err) MUST_CHECK;
int state_plan_remove(struct state *state, const char *name, struct err *err) MUST_CHECK;

/* --- Runs and their journal ---------------------------------------------------------------- */
struct state_run {
    int64_t id; /* 0 in put: a new one is given and written back */
    char *plan;
    char *kind;
    char *state;  /* the run machine's state name */
    char *reason; /* why it is there: an error, a prompt, "daemon restarted"; "" */
    char *inputs; /* JSON: point, who, machines as the run knows them, document, hash, site */
    char *who;
    int64_t declared_ms;
    int64_t ended_ms; /* 0: not yet */
};
VEC_DEFINE(state_runs, struct state_run)
void state_run_done(struct state_run *run);
void state_runs_done(struct state_runs *runs);
int state_run_put(struct state *state, struct state_run *run, struct err *err) MUST_CHECK;
int state_run_get(struct state *state, int64_t id, struct state_run *ret_run, struct err *err)
    MUST_CHECK;
/* Newest first; `open_only`: those that have not ended. */
int state_run_list(struct state *state, bool open_only, struct state_runs *ret_runs,
                   struct err *err) MUST_CHECK;

/* One journal row per (run, step, attempt, action). Written first as an intent (state
 * "started"), then with its result. */
struct state_action {
    int64_t run;
    int64_t step;    /* index in the run's expansion */
    int64_t attempt; /* from 1 */
    int64_t action;  /* index in the step */
    char *verb;      /* "return": the end of a step that is a function */
    char *args;      /* JSON, as the verb was given them; "" in rows of before version 3 */
    char *state;     /* "started", "done", "failed", "unknown", "undone", "skipped" */
    char *result;    /* JSON; "" until done */
    char *error;     /* text; "" */
    char *error_code;
    int64_t started_ms;
    int64_t ended_ms;
};
VEC_DEFINE(state_actions, struct state_action)
void state_action_done(struct state_action *action);
void state_actions_done(struct state_actions *actions);
int state_action_put(struct state *state, const struct state_action *action, struct err *err)
    MUST_CHECK;
int state_action_list(struct state *state, int64_t run, struct state_actions *ret_actions,
                      struct err *err) MUST_CHECK;

/* --- Jobs: anything long that a person can watch -------------------------------------------- */
struct state_job {
    int64_t id;   /* 0 in put: a new one is given and written back */
    char *kind;   /* "protect", "initial-copy", "resync", "run", "unprotect", ... */
    char *object; /* the machine, plan or run it works on */
    char *args;   /* JSON: what was asked, and what taking it up again needs */
    char *state;  /* "running", "succeeded", "failed", "cancelled" */
    char *tasks;  /* JSON: [{name, state, done, total, unit, started_ms, ended_ms, error}] */
    char *error;
    char *error_code; /* err_code_name; "" without an error */
    char *who;
    int64_t started_ms;
    int64_t ended_ms;
};
VEC_DEFINE(state_jobs, struct state_job)
void state_job_done(struct state_job *job);
void state_jobs_done(struct state_jobs *jobs);
int state_job_put(struct state *state, struct state_job *job, struct err *err) MUST_CHECK;
int state_job_get(struct state *state, int64_t id, struct state_job *ret_job, struct err *err)
    MUST_CHECK;
int state_job_list(struct state *state, bool open_only, struct state_jobs *ret_jobs,
                   struct err *err) MUST_CHECK;

/* --- Audit: hash-chained, in the same transaction as the act -------------------------------- */
/* `act` is noun.verb: "machine.start". */
int state_audit(struct state *state, int64_t wall_ms, const char *who, const char *act,
                const char *object, const char *detail, struct err *err) MUST_CHECK;
#define STATE_AUDIT_LIST_MAX 10000
/* Newest first, at most `limit`: {seq, at_ms, who, act, object, detail} (new reference). */
int state_audit_list(struct state *state, size_t limit, json_t **ret_entries, struct err *err)
    MUST_CHECK;
/* ERR_CORRUPT names the first entry that does not fit. */
int state_audit_verify(struct state *state, int64_t *ret_entries, struct err *err) MUST_CHECK;
