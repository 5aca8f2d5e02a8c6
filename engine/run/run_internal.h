// SPDX-License-Identifier: Apache-2.0
/* For run_*.c: a run in memory, and who does what with it. All on the loop thread.
 *
 *   run_start.c    may it start, and with what          run_load.c    from its row and journal
 *   run_sched.c    what may start next                  run_exec.c    intent, job, result
 *   run_recover.c  in doubt after a crash               run_cancel.c  the undo list
 *   run_ask.c      waiting for a person's yes or no
 *   run_finish.c   what a run ends in                   run_report.c  a run for people
 *   run_after.c    commit, rollback, another point      run_allowed.c what may be done now
 *   run_body.c     a step that is a function            run_body_journal.c  its rows
 *   run_group.c    groups of several machines           run_cleanup.c  which test a cleanup is of
 */
#pragma once

#include "base/sm.h"
#include "plan/plan.h"
#include "run/run.h"

enum run_state {
    RUN_CHECKING,
    RUN_RUNNING,
    RUN_PAUSED,
    RUN_SUCCEEDED,
    RUN_FAILED,
    RUN_AWAITING_COMMIT,
    RUN_CANCELLING,
    RUN_CANCELLED,
    RUN_CLEANUP_DUE,
    RUN_CLEANING,
    RUN_CLEAN,
    RUN_CLEANUP_FAILED,
    RUN_COMMITTED,
    RUN_ROLLING_BACK,
    RUN_ROLLED_BACK,
    RUN_STATE_COUNT
};
extern const struct sm run_sm;

enum step_state {
    STEP_WAITING,
    STEP_RUNNING,
    STEP_RETRYING, /* failed, and will be tried again */
    STEP_ASKING,   /* a person is to say yes or no */
    STEP_DONE,
    STEP_FAILED,
    STEP_SKIPPED, /* by a person */
    STEP_UNKNOWN, /* nobody can tell whether it happened */
    STEP_UNDONE,
    STEP_STATE_COUNT
};
extern const struct sm step_sm;

struct run;

/* The function of a step at work (run_body.c). */
struct run_body {
    struct host_body *child;        /* NULL: to be started, or lent to the job that talks to it */
    struct plan_task_action action; /* the one it asked for; verb NULL: it thinks */
    unsigned deaths;                /* of its child, in a row */
};

struct run_step {
    struct run *run;
    size_t index;
    int state; /* enum step_state */
    int64_t attempt;
    size_t action;         /* the one at hand */
    struct run_body *body; /* while its function works; NULL: it is none, or does not */
    bool busy;             /* its action's job is decided on, or in the pool */
    bool doubt;            /* started before a crash: to be probed, not run */
    bool doubt_settled;    /* the probe said: not done; run it without a new intent */
    unsigned doubts;       /* probes that failed in a row */
    int64_t deadline_ms;   /* monotonic, of this attempt; 0: none */
    uint64_t timer;
    int64_t started_ms;
    int64_t ended_ms;
    struct err error;      /* of the last failed attempt */
    struct cancel *cancel; /* of the job in flight; the job's */
};

struct run {
    struct runner *runner;
    struct state_run row;
    enum run_kind kind;
    int state;          /* enum run_state */
    char name[64];      /* "lyon-12" */
    json_t *inputs;     /* as the row has them */
    const char *source; /* the plan's text, in `inputs`; "": no step needs it */
    json_t *machines;   /* as verb_call has them: inputs' and the facts since */
    struct plan *plan;
    struct plan_tasks tasks;
    struct run_step *steps;       /* as many as tasks */
    struct state_actions journal; /* all rows, in memory */
    size_t undo_left;             /* journal rows before this one are still to be looked at */
    unsigned undo_tries;
    bool undo_busy;
    bool undo_failed;
    uint64_t undo_timer;
};
VEC_DEFINE(run_list, struct run *)

struct runner {
    struct runner_world world;
    struct clock *clock;
    struct run_list runs;    /* those being worked on */
    struct run_list ended;   /* freed at the next turn: their callbacks are on the stack */
    struct run_job *pending; /* decided on; submitted when the turn is committed */
    struct run_job **pending_end;
    struct run_job *flying;
    struct site nobody; /* stands for a peer we are not paired with: never reached */
    uint64_t changes;
    bool stopping; /* what is cut now goes on at the next start */
};

/* --- run.c ---------------------------------------------------------------------------------- */
struct run *runner_find(struct runner *runner, int64_t id); /* of those worked on; or NULL */
int64_t runner_wall(const struct runner *runner);
const struct verb *runner_verb(const struct runner *runner, const char *name); /* NULL: none */
/* The verbs, for what the plan room asks; no machines, no sites. */
struct plan_world runner_plan_world(const struct runner *runner);
/* What is durable is older than what memory holds: the daemon ends and takes the run up anew. */
void run_must(int result, const struct err *err);
/* Writes the row: state, reason, inputs, ended. */
void run_save(struct run *run);
void run_move(struct run *run, enum run_state state, const char *reason);
void run_changed(struct run *run);
void run_free(struct run *run);
/* It needs no more work: out of the list, freed after this turn. */
void run_retire(struct run *run);
bool run_is_active(int state); /* being worked on, or waiting for a person's answer */
bool run_is_real(enum run_kind kind);
const struct plan_task *run_task(const struct run_step *step);
const struct plan_task_action *run_action(const struct run_step *step);
void step_move(struct run_step *step, enum step_state state);

/* --- run_load.c ----------------------------------------------------------------------------- */
/* A run from its row (taken) and what the journal says; nothing is started. */
int run_load(struct runner *runner, struct state_run *row, struct run **ret_run, struct err *err)
    MUST_CHECK;
/* The plan's tasks for this kind: checked against the verbs there are, and its source (may be NULL)
 * when a step is a function. `of_kind` and `groups`: as in struct plan_world. */
struct run_of {
    enum run_kind kind;
    enum run_kind of_kind;
    const json_t *groups;
};
int run_tasks(struct runner *runner, const json_t *document, const char *source,
              const struct run_of *of, struct plan **ret_plan, struct plan_tasks *ret_tasks,
              struct err *err) MUST_CHECK;
void run_learn(struct run *run, const json_t *result); /* facts about machines */
/* The journal's row, or NULL. */
struct state_action *run_journal_find(struct run *run, const struct run_step *step);
/* The newest row of that step and action index. */
struct state_action *run_journal_newest(struct run *run, size_t step, size_t action);

/* --- run_sched.c ---------------------------------------------------------------------------- */
/* Looks what may start, what is over; called after every change. */
void run_schedule(struct run *run);
/* One attempt failed with step->error: retry, or failed for good. */
void step_failed(struct run_step *step);
void step_unknown(struct run_step *step);
void step_done(struct run_step *step);
bool step_may_retry(const struct run_step *step); /* by its attempts and its error */
void step_retry_in(struct run_step *step, int64_t wait_ms);
void step_set_deadline(struct run_step *step);

/* --- run_exec.c ----------------------------------------------------------------------------- */
enum run_mode { MODE_RUN, MODE_PROBE, MODE_UNDO, MODE_BODY };
struct run_job {
    struct pool_job job;
    struct run_job *next; /* in `pending` or `flying` */
    struct run *run;
    struct run_step *step;
    size_t row; /* MODE_UNDO: of the journal */
    enum run_mode mode;
    const struct verb *verb;
    struct verb_call call;
    json_t *args;
    json_t *machines;
    char *call_run;
    char action_id[64];
    char *plan;
    char *title;           /* the step's */
    struct run_talk *talk; /* MODE_BODY */
    int rc;
    enum verb_answer answer;
    json_t *result; /* MODE_BODY: the request */
    struct err error;
};
/* A job for the pool, decided on; `within_ms` as cancel_new. */
struct run_job *run_job_add(struct run *run, enum run_mode mode, int64_t within_ms);
/* What is left of the attempt's time. */
int64_t run_left_ms(const struct run_step *step);
/* Writes the intent of step's action at hand (unless its doubt is settled) and decides its job. */
void run_exec(struct run_step *step);
void run_exec_probe(struct run_step *step);
void run_exec_undo(struct run *run, size_t row);
/* A new row of the step's attempt for its action at hand, "started", not yet written; and its end.
 * Other rows may have moved. `args` NULL: {}. */
struct state_action *run_journal_add(struct run_step *step, const char *verb, const json_t *args);
void run_write_result(struct run *run, struct state_action *row, const char *state,
                      const json_t *result, const struct err *error);
/* The step's action at hand is done, or nobody can tell: result and states. */
void run_action_done(struct run_step *step, const json_t *result);
void run_action_unknown(struct run_step *step);
/* With step->error; `result` may be NULL. */
void run_action_failed(struct run_step *step, const json_t *result);
void run_write_undo(struct run *run, size_t row, const char *state, const struct err *error);
bool run_in_flight(const struct run *run);
void runner_drop_jobs(struct runner *runner);

/* --- run_ask.c ------------------------------------------------------------------------------ */
/* The action at hand is a question (verb->asks), its intent is written. */
void run_ask(struct run_step *step);
/* Those that wait for an answer wait no more: failed with that reason. */
void run_ask_drop(struct run *run, const char *why);
/* Pauses a run in which nothing goes on but waiting for answers. */
void run_ask_pause(struct run *run);
/* {question, by, until_ms, silence} of a step that asks (new reference). */
json_t *run_ask_json(const struct run_step *step);

/* --- run_recover.c --------------------------------------------------------------------------- */
void run_probe_done(struct run_step *step, int rc, enum verb_answer answer, json_t *result,
                    const struct err *error);
/* Sets steps' states by the journal. */
void run_rebuild(struct run *run);
void step_load_error(struct run_step *step, const struct state_action *row);
/* The step's action at hand was started and has no result: asks its verb's probe, or runs it again. */
void run_doubt(struct run_step *step);

/* --- run_body.c ------------------------------------------------------------------------------ */
bool step_has_body(const struct run_step *step);
/* It has been decided that its function thinks, or it does: harmless to be ended. */
bool run_body_thinks(const struct run_step *step);
/* From its first line: a new attempt, or after a crash over the journal of the attempt. */
void run_body_begin(struct run_step *step);
/* The action at hand has a result in the journal, or failed: the function is told. */
void run_body_answer(struct run_step *step);
/* The action at hand failed with step->error, and so does the step: it is told nothing more. */
void run_body_give_up(struct run_step *step);
/* It does not go on. Also when there is none. */
void run_body_drop(struct run_step *step);
/* The job of MODE_BODY: on a pool thread; on the loop, what it heard; what it held. */
void run_talk_run(struct run_job *job);
void run_talk_done(struct run_step *step, struct run_job *job);
void run_talk_free(struct run_talk *talk);

/* --- run_body_journal.c ---------------------------------------------------------------------- */
/* What an action in the journal was: NULL for the end of a function. Args: a new reference. */
const struct verb *run_row_verb(const struct run *run, const struct state_action *row);
json_t *run_row_args(const struct run *run, const struct state_action *row);
/* The number of actions that the step's newest attempt has in the journal, its end as well. */
size_t run_body_rows(const struct run_step *step);
/* Writes its end: "done" with {value}, or "failed". */
void run_body_write_end(struct run_step *step, const char *state, const json_t *value,
                        const struct err *error);
/* A person's word about it: the end of the attempt at hand. */
int run_body_decide(struct run_step *step, const char *state, const char *text, struct err *err)
    MUST_CHECK;
/* Sets the step's state by its journal. */
void run_body_rebuild(struct run_step *step);
/* What `result "TITLE"` gives in the function of `step`: {result: V}, or {} for nil (new
 * reference). ERR_INVALID: that step is none, or not over by then. */
int run_body_result_of(const struct run_step *step, const char *title, json_t **ret_answer,
                       struct err *err) MUST_CHECK;

/* --- run_group.c ----------------------------------------------------------------------------- */
/* Of a run's machines (as verb_call has them): what is known of a machine, or of the first one of a
 * group; NULL: nothing. */
const json_t *run_known(const json_t *machines, const char *name);
/* The machine's group, or the group itself; borrowed. */
const char *run_group_name(const json_t *machines, const char *name);
/* The group's machines, [NAME] (new reference). */
json_t *run_group_machines(const json_t *machines, const char *group);
/* What concerns the group as a whole is done where its first machine stands. */
bool run_is_first_of_group(const json_t *machines, const char *name);

/* --- run_cancel.c ---------------------------------------------------------------------------- */
bool run_past_return(const struct run *run);
bool run_machine_past_return(const struct run *run, const char *machine);
/* The next undo, or the end of the cancelling. */
void run_undo_next(struct run *run);
void run_undo_done(struct run *run, size_t row, int rc, const struct err *error);

/* --- run_finish.c ---------------------------------------------------------------------------- */
/* All steps are over; `failed` NULL or the step that stopped the run. */
void run_finish(struct run *run, const struct run_step *failed);
void run_finish_cancelled(struct run *run);
/* The protections' rows of a real run's machines. */
void run_set_protections(struct run *run, const char *state);
/* Rows of recovered machines, by a result. */
void run_note_result(struct run *run, const struct run_step *step, const json_t *result);
/* The row of the run that this one works on (a cleanup's test, a commit's failover); moves it. */
void run_move_of(struct run *run, enum run_state state, const char *reason);
/* The same state, another reason. */
void run_note_of(struct run *run, const char *reason);

/* --- run_after.c ----------------------------------------------------------------------------- */
bool run_is_after(enum run_kind kind);
void run_after_begun(struct run *run);
void run_finish_after(struct run *run, bool failed, const char *reason);
/* The world is told which of its machines are committed. */
void run_tell_committed(struct run *run);
