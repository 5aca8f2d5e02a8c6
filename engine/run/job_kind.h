// SPDX-License-Identifier: Apache-2.0
/* For job_*.c: what a kind of job is made of. A task begins on the loop (reads and writes rows),
 * works in the pool (blocks, watches job->base.cancel, may be asked to work again), and ends on the
 * loop. Between begin and end the job's args, data and progress belong to the pool thread. Every
 * task may be begun again after a crash. */
#pragma once

#include "run/job.h"

#define JOB_TASKS_MAX 4

/* A task that is at it: work() again after job->again_ms. */
#define JOB_AGAIN 1

struct job;
struct job_task {
    const char *name;
    int (*begin)(struct job *job, struct err *err); /* NULL: nothing */
    int (*work)(struct job *job, struct err *err);  /* 0, JOB_AGAIN or -1 */
    int (*end)(struct job *job, struct err *err);   /* NULL: nothing */
    int (*again)(struct job *job, struct err *err); /* on the loop, before it works again; NULL */
};

struct job_kind {
    const char *name;
    const struct job_task *tasks;
    size_t task_count;
    bool exclusive; /* one such job per object, of any exclusive kind */
    /* After a cancel or a failure, on the loop: is there anything to take back? NULL: never. */
    bool (*wants_undo)(struct job *job);
    /* Pool; then on the loop `settled`, also without undo and after success: the rows are brought
     * to where the job leaves things. `failure` NULL: it succeeded. */
    int (*undo)(struct job *job, struct err *err);
    int (*settled)(struct job *job, const struct err *failure, struct err *err);
    void (*data_free)(void *data); /* NULL: no data */
};
const struct job_kind *job_kind_protect(void);
const struct job_kind *job_kind_unprotect(void);
const struct job_kind *job_kind_reprotect(void);
const struct job_kind *job_kind_follow(void);
const struct job_kind *job_kind_stream(void);
const struct job_kind *job_kind_verify(void);
const struct job_kind *job_kind_point(void);
const struct job_kind *job_kind_copy_plan(void);
const struct job_kind *job_kind_copy_settings(void);

struct job_progress {
    uint64_t done;
    uint64_t total;
    const char *unit;
    uint64_t rate_per_s;
    int64_t left_ms; /* -1: cannot be told */
    char note[512];
    json_t *checks; /* of prerequisites (run/prerequisites.h), owned; NULL */
    size_t disk_count;
    struct session_disk_progress disks[SESSION_DISKS_MAX];
};

struct job {
    struct pool_job base; /* first */
    struct jobs *jobs;
    struct job *next;
    const struct job_kind *kind;
    int64_t id;
    char *object;
    char *who;
    json_t *args;
    json_t *tasks; /* as in state_job.tasks */
    int64_t started_ms;
    size_t task;        /* the one under way */
    bool undoing;       /* what it did is being taken back */
    bool undo_failed;   /* not all of it could be */
    struct err failure; /* why it is undone, or failed */
    bool ready;         /* to be submitted when the turn is committed */
    bool in_pool;
    bool cancel_asked;
    uint64_t timer;
    int result; /* of the last work */
    struct err work_err;
    int64_t again_ms;
    struct job_progress progress;
    void *data;
};

struct jobs {
    struct jobs_world world;
    struct job *first; /* open ones */
    bool stopping;
    uint64_t changes;
};
int64_t jobs_wall_ms(const struct jobs *jobs);

/* A task's JSON: as in state_job.tasks. */
json_t *job_task_new(const char *name);
void job_show_progress(struct job *job);
/* The present task is "running" since now, or ended now as "done", "failed", "cancelled". */
void job_task_state(struct job *job, const char *state, const char *error);

const struct jobs_world *job_world(const struct job *job);
/* On the loop, between two works: its args as they are now are in its row. */
void job_keep(struct job *job);
/* A work() that failed with `err` waits and tries again: says for what, clears `err`, JOB_AGAIN. */
int job_wait(struct job *job, int64_t ms, struct err *err) MUST_CHECK;
/* The same when the peer may only be away, for a while or for days; else, or cancelled, -1. */
int job_wait_for_peer(struct job *job, int64_t ms, struct err *err) MUST_CHECK;
/* Makes a job of that kind, durable with the turn; takes `args`. ERR_STATE: another open job works
 * on the same object. */
int job_start(struct jobs *jobs, const struct job_kind *kind, const char *object, json_t *args,
              const char *who, int64_t *ret_id, struct err *err) MUST_CHECK;
/* The open job of that kind, object and peer, or NULL. */
struct job *job_find(struct jobs *jobs, const struct job_kind *kind, const char *object,
                     const char *peer);
/* The world of `jobs`, for what checks before a job is made. */
const struct jobs_world *jobs_world_of(const struct jobs *jobs);

/* The run whose recovered machine it is; "": it runs on its own disks, or is not here. */
int job_instance_of(const struct jobs *jobs, const char *machine, char ret_run[NAME_MAX_BYTES],
                    struct err *err) MUST_CHECK;

/* Definitions of machines of this site. */
VEC_DEFINE(job_machine_list, struct machine)
void job_machine_list_done(struct job_machine_list *list); /* also for CLEANUP */
/* In the order of the names. ERR_NOT_FOUND: one is no machine of this site. Loop. */
int job_machine_list_load(struct state *state, const struct machine_names *names,
                          struct job_machine_list *ret_list, struct err *err) MUST_CHECK;

/* Parts of protect and unprotect. */

/* job_group.c: the group that is asked for, by name and machines. ERR_INVALID, ERR_EXISTS, ERR_LIMIT as
 * jobs_protect. Loop. */
int job_group_take(struct state *state, const struct job_protect *spec,
                   char ret_group[NAME_MAX_BYTES], struct machine_names *ret_machines,
                   struct err *err) MUST_CHECK;
/* Each disk's name in the group is one, and they are no more than a session sends. */
int job_group_check_disks(const struct job_machine_list *machines,
                          const struct machine_names *names, struct err *err) MUST_CHECK;
/* {disk: file at the peer}, disks as the group's points call them, checked; "" for a disk: the only one.
 * NULL: none. ERR_INVALID. */
int job_seeds_take(const json_t *seeds, const struct job_machine_list *machines,
                   const struct machine_names *names, json_t **ret_seeds, struct err *err)
    MUST_CHECK;

/* Everything that stands in the way in the error's text (ERR_STATE); the whole list goes to the
 * progress' checks, warnings to its note. Pool. */
int job_check_prerequisites(struct job *job, const struct job_machine_list *machines,
                            const struct policy *policy, struct err *err) MUST_CHECK;
struct job_disk {
    char name[MACHINE_NAME_BYTES];
    uint64_t size; /* as the guest sees it */
};
VEC_DEFINE(job_disks, struct job_disk)
/* ERR_UNSUPPORTED: format; ERR_INVALID: a size nobody can replicate. */
int job_disk_size(const char *path, const char *format, uint64_t *ret_size, struct err *err)
    MUST_CHECK;
/* Stops sending `group` and forgets tracking and checkpoint. Pool. */
int job_forget_source(struct job *job, const char *group, struct err *err) MUST_CHECK;
/* The peer removes its side, or keeps it; it has none: fine. With a key (else NULL) it removes only
 * the replica that was begun with this key, and an earlier one stays. Pool. */
int job_remove_replica(struct job *job, const char *peer, const char *group, bool keep,
                       const struct key *begun_with, struct err *err) MUST_CHECK;
/* The group's row gets another state, or goes; it is gone already: fine. Loop. */
int job_protection_state(struct job *job, const char *group, const char *state, struct err *err)
    MUST_CHECK;
int job_protection_remove(struct job *job, const char *group, struct err *err) MUST_CHECK;
