// SPDX-License-Identifier: Apache-2.0
/* Runs: executing a plan, with a journal that survives a crash at any instant.
 *
 *   checking -> running <-> paused -> awaiting-commit | succeeded | failed
 *                  |                  |`-> committed
 *                  |                  `-> rolling-back -> rolled-back
 *                  |                  test: cleanup-due -> cleaning -> clean | cleanup-failed
 *                  `-> cancelling -> cancelled
 *
 * Everything here belongs to the loop thread. A turn decides and writes (intents, results, states)
 * into state.db; when the turn is committed, the daemon calls runner_turn_committed and the jobs
 * that were decided on start. So an effect never starts before its intent is durable. When a
 * commit fails the daemon must end: what memory holds is ahead of what is durable then.
 *
 * A run executes at the site that is to own the machines, the one that holds their replicas. */
#pragma once

#include "base/json.h"
#include "core/loop.h"
#include "core/pool.h"
#include "host/host.h"
#include "sites/site.h"
#include "state/state.h"
#include "verbs/verb.h"

#include <stdbool.h>
#include <stdint.h>

/* Everything is borrowed and outlives the runner. */
struct runner_world {
    struct loop *loop;
    struct pool *pool;
    struct state *state;
    struct site *here; /* this site: site_local_new, or a simulated one */
    void *ctx;
    /* The peer of that name; NULL: not paired. Stays the world's, lives as long as the runner. */
    struct site *(*peer)(void *ctx, const char *name);
    const struct host *host;         /* runs the functions of steps; NULL: such plans are refused */
    const struct verb *const *verbs; /* what plans can do; NULL: verb_all() */
    size_t verb_count;
    /* Something of this run changed (state, step, result). Cheap; may be NULL. */
    void (*changed)(void *ctx, int64_t run);
    /* A group's failover was committed by `who`, in this turn, with those machines [NAME]. May be NULL. */
    void (*committed)(void *ctx, const char *group, const json_t *machines, const char *who);
};

struct runner;
struct runner *runner_new(const struct runner_world *world);
/* The daemon is to end: fires the cancels of what is in flight, and starts nothing more. What is cut
 * by this has no result, and is in doubt at the next start. */
void runner_stop(struct runner *runner);
/* Forgets the runs; all that is durable stays. Before this, runner_stop, and step the loop until
 * the pool is idle. NULL is fine. */
void runner_free(struct runner *runner);
/* Call after each commit of a turn (state_turn_end): starts what the turn decided. */
void runner_turn_committed(struct runner *runner);

/* What is asked. Strings are borrowed. */
struct runner_spec {
    const char *plan; /* name of a stored plan; or, with `document`, what it shall be called */
    const json_t *document; /* a plan's document made for the occasion (one machine; no step of it
                               is a function); NULL: `plan` is looked up */
    enum run_kind kind;     /* all but dry */
    uint64_t point; /* 0: the newest applied when the run takes it; a change-point's new one */
    const json_t
        *points;     /* {MACHINE or GROUP: point}: of those for which it is another, with all of
                             their group; NULL: of none */
    bool last_delta; /* unplanned: try to shut the machines down and fetch a last delta */
    int64_t of_run;  /* cleanup: the test run; commit, rollback, change-point: the failover;
                               0: the newest of that plan (or machine) */
    const char *who; /* a person's name, for journal and audit */
};
/* Durable with the turn. ERR_NOT_FOUND: no such plan, or a machine this site holds no replica of;
 * ERR_STATE: another run has one of the machines (names it, and what to do), or it is at the
 * wrong site (names the right one). */
int runner_start(struct runner *runner, const struct runner_spec *spec, int64_t *ret_run,
                 struct err *err) MUST_CHECK;
/* Lets what is in flight finish, then walks the undo list, last first. ERR_STATE past the point
 * of no return (says what to do instead), or when the run has ended. */
int runner_cancel(struct runner *runner, int64_t run, const char *who, struct err *err) MUST_CHECK;

/* Answers to a run that is paused: by an error (on_failure = "pause"), or because nobody can tell
 * whether an effect happened. `step` counts from 0. */
enum runner_decision {
    RUNNER_RETRY, /* do it again */
    RUNNER_SKIP,  /* taken as done; `reason` is kept */
    RUNNER_FAIL,  /* taken as failed */
};
int runner_decide(struct runner *runner, int64_t run, size_t step, enum runner_decision decision,
                  const char *reason, const char *who, struct err *err) MUST_CHECK;

/* Answers the step that asks (state "asking"); `step` SIZE_MAX: the only one. The answer is kept with
 * who gave it and the hash of the run's plan; a yes holds for later attempts of the step as well.
 * ERR_STATE: none asks, or several do and none is named; ERR_DENIED: names who may answer. */
int runner_answer(struct runner *runner, int64_t run, size_t step, bool granted, const char *note,
                  const char *who, size_t *ret_step, struct err *err) MUST_CHECK;

/* At the daemon's start: takes up every run that has not ended. Actions that were started and have
 * no result are in doubt: their verb's probe says done, not done, or unknown (paused then). */
int runner_recover(struct runner *runner, struct err *err) MUST_CHECK;

/* A run for people and programs (new reference):
 *   {id, name, plan, hash, kind, state, reason, who, declared_ms, ended_ms, active, outcome,
 *    of_run, cancellable, past_no_return,
 *    machines: {NAME: {group, peer, point, cut_ms, generation}},
 *    steps: [{index, id, stage, title, state, required, on_failure, started_ms, ended_ms, attempts,
 *             error, error_code, point_of_no_return,
 *             asks: {question, by, until_ms, silence} (while it is "asking"),
 *             actions: [{verb, args, state, result, error, attempt}]}],
 *    report: {rto_ms, rto_goal_ms, rpo_ms, rpo_goal_ms, met, leftovers: [text], leftover_count}}
 * The actions of a step that is a function are those its newest attempt has asked for; the last one is
 * "return" with result {value} when it has ended. step state: "waiting", "running", "retrying", "done",
 * "failed", "skipped", "unknown", "undone", "asking".
 * rto_ms, rpo_ms: -1 while they cannot be told; rto_ms also of a run that did not bring up all.
 * `within` bounds one attempt of a step. `active`: something is being done, or waits for a person's
 * answer; a watcher may leave when it turns false. */
int runner_get(struct runner *runner, int64_t run, json_t **ret_json, struct err *err) MUST_CHECK;
/* Newest first, without steps; at most `limit`. */
int runner_list(struct runner *runner, size_t limit, json_t **ret_json, struct err *err) MUST_CHECK;
/* Rises with every change of any run: for watchers. */
uint64_t runner_changes(const struct runner *runner);

/* What may be done with a machine here now, run by run: [{operation, allowed, why}], `operation` as the
 * command line has it (new reference). Of a failover nothing is asked but what this site knows. */
json_t *runner_allowed(struct runner *runner, const char *machine);

/* Names of this site's machines and of those in groups that it sends or holds: what a plan may name (new
 * reference). */
int runner_machines(struct state *state, json_t **ret_names, struct err *err) MUST_CHECK;
/* The groups of several machines that this site sends or holds, as plan_world has them: {MACHINE: {group}}
 * (new reference). */
int runner_groups(struct state *state, json_t **ret_groups, struct err *err) MUST_CHECK;
/* The plan, made for the occasion, that fails over the group of that name, or of that machine (new
 * reference). `ret_group`: its name. */
json_t *runner_group_document(struct state *state, const char *name, char ret_group[64]);

/* What a run would do and promise, before it is asked for. Its two halves, because asking the
 * sites blocks: runner_preview_begin on the loop thread gathers what is known and checks the spec
 * as runner_start does; runner_preview_ask, on any thread, asks the sites. The JSON:
 *   {plan, kind, machines: [{machine, group, peer, durable_point, durable_age_ms, applied_point,
 *    applied_age_ms, point, loss_bound_ms, peer_answers}], loss_bound_ms, steps: [title],
 *    warnings: [text]}
 * ERR_NET: planned, and a peer does not answer (names it, and what to do).
 * loss_bound_ms: the age of the point a run would use; what was written after it is lost. 0 for
 * planned. Ages are by this site's clock. */
struct runner_preview;
int runner_preview_begin(struct runner *runner, const struct runner_spec *spec,
                         struct runner_preview **ret_preview, struct err *err) MUST_CHECK;
int runner_preview_ask(struct runner_preview *preview, json_t **ret_json, struct cancel *cancel,
                       struct err *err) MUST_CHECK;
void runner_preview_free(struct runner_preview *preview);
