// SPDX-License-Identifier: Apache-2.0
/* Jobs: what takes long and a person can watch, as a durable row with named tasks.
 *
 *   running -> succeeded | failed | cancelled
 *
 * All functions belong to the loop thread. A turn decides and writes; when the turn is committed
 * the daemon calls jobs_turn_committed, and what was decided on starts in the pool. After a restart
 * an open job goes on with the task it was in: every task may be done again. */
#pragma once

#include "base/crypto.h"
#include "base/json.h"
#include "core/loop.h"
#include "core/pool.h"
#include "sites/estate.h"
#include "sites/site.h"
#include "state/state.h"

#include <stdbool.h>
#include <stdint.h>

/* Everything is borrowed and outlives the jobs. */
struct jobs_world {
    struct loop *loop;
    struct pool *pool;
    struct clock *clock;
    struct state *state;
    struct estate *estate;
    const char *site;
    struct site *here;                  /* this site's own */
    const char *dir;                    /* the site's state directory: what staging needs room in */
    uint8_t writer_key[SIGN_KEY_BYTES]; /* this site's public key, for the peer's replica */
    void *ctx;
    /* Pool threads. ERR_NOT_FOUND: not paired with that peer (names those we are paired with). */
    int (*open_link)(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *err);
    /* Something a watcher may want to see changed. Loop thread; may be NULL. */
    void (*changed)(void *ctx);
};

struct jobs;
struct jobs *jobs_new(const struct jobs_world *world);
/* Fires the cancels of what runs and starts nothing more; rows stay open and are taken up at the
 * next start. Step the loop until the pool is idle, then jobs_free. */
void jobs_stop(struct jobs *jobs);
void jobs_free(struct jobs *jobs); /* NULL is fine */
/* Call after each commit of a turn (state_turn_end): starts what the turn decided. */
void jobs_turn_committed(struct jobs *jobs);
/* At the daemon's start: open rows go on; one this program cannot go on with ends as failed. */
int jobs_take_up(struct jobs *jobs, struct err *err) MUST_CHECK;

/* What a protection's row keeps as JSON, at both sites:
 *   {policy: its name, the policy's fields as they hold (sync/policy.h), overrides: [keys that are
 *    set for this one alone], machines: [name]}
 * and the replica's besides: {writer_key: hex, disks: [{name, size}]}. The site that sends knows
 * the policy; at the other one its name says where the fields come from. */
struct job_settings {
    struct policy policy;
    char policy_name[NAME_MAX_BYTES]; /* "": default, and what differs from it is its own */
    uint32_t overrides;               /* bit i: policy_keys[i] */
    int64_t recreated_ms; /* when the row was made again, its database being lost; 0: never */
};
/* A row of before there were policies: of "default", with all that differs as its own. */
int job_settings_parse(const char *json, struct job_settings *ret_settings, struct err *err)
    MUST_CHECK;
/* Takes over what `in` says of a policy, its name and overrides; what it does not say stays. */
int job_settings_take(const json_t *in, struct job_settings *settings, struct err *err) MUST_CHECK;
/* Sets the same in an object that may hold more. */
void job_settings_put(const struct job_settings *settings, json_t *into);
/* Copies them as they are, those that are there. */
void job_settings_copy(const json_t *from, json_t *into);
bool job_settings_equal(const struct job_settings *a, const struct job_settings *b);
/* [key], and the other way: ERR_INVALID names a key that is none. */
json_t *job_overrides_json(uint32_t overrides);
int job_overrides_parse(const json_t *keys, uint32_t *ret_overrides, struct err *err) MUST_CHECK;
/* The JSON of a row with other settings; what else it holds stays. `*text` is owned by the row and
 * is replaced. */
int job_settings_change(char **text, const struct job_settings *settings, struct err *err)
    MUST_CHECK;
/* The machines that a row's settings name; those that name none: the one of the group's name. */
int job_machines(const struct state_protection *row, struct machine_names *ret_machines,
                 struct err *err) MUST_CHECK;
/* {network there: network at the other site}, each "user" or "bridge NAME"; NULL is fine. */
int job_networks_check(const json_t *networks, struct err *err) MUST_CHECK;
/* Those of a row's settings (a new reference, an object), and the other way. */
json_t *job_networks_get(const char *settings);
int job_networks_set(char **settings, const json_t *networks, struct err *err) MUST_CHECK;
/* The fields of a policy that `in` has are in their ranges. ERR_INVALID says the range. */
int job_settings_check(const json_t *in, struct err *err) MUST_CHECK;

json_t *job_seeds_get(const char *settings); /* of a row; {}: none */
int job_seeds_drop(char **settings, struct err *err) MUST_CHECK;

/* Strings are borrowed. A machine alone is a group of its name; several need a name of their own. */
struct job_protect {
    const char *machine;    /* one; NULL with `machines` */
    const json_t *machines; /* [name], borrowed; NULL: `machine` alone */
    const char *group;      /* NULL or "": that of the one machine */
    const char *peer;
    struct job_settings settings;
    const json_t *networks; /* borrowed; as job_networks_check; NULL: none of its own */
    const json_t *seeds;    /* borrowed; as job_seeds_take; NULL: none */
    bool force;             /* also when the peer could not start it now */
    const char *who;
};
/* Checks prerequisites, makes the relationship, copies, finalizes. What can be told at once is
 * told at once: ERR_NOT_FOUND (no such machine), ERR_EXISTS (protected already, alone or in a group; named
 * twice; a group called like a machine), ERR_INVALID (several without a group's name), ERR_LIMIT (a
 * disk's name in the group, or too many disks), ERR_STATE (a job works on it, by number). A protection that failed half-way goes on where it stood. */
int jobs_protect(struct jobs *jobs, const struct job_protect *spec, int64_t *ret_job,
                 struct err *err) MUST_CHECK;

/* The same checks alone: nothing is changed. ERR_NOT_FOUND: no such machine. */
struct jobs_check;
int jobs_check_new(struct jobs *jobs, const struct job_protect *spec, struct jobs_check **ret_check,
                   struct err *err) MUST_CHECK;
void jobs_check_free(struct jobs_check *check);
/* Not on the loop's thread; blocks. {group, machines, peer, policy, failed, warnings, checks: [...]}. */
int jobs_check_run(struct jobs_check *check, json_t **ret_json, struct cancel *cancel,
                   struct err *err) MUST_CHECK;

struct job_unprotect {
    const char *machine;
    bool keep;  /* the replica stays at the peer, as it is */
    bool force; /* go on when the peer does not answer: its side stays, and the job says so */
    const char *who;
};
/* At the site that sends: replication stops, the replica goes, then our side of it. At the one that
 * holds the replica: only a kept one, or with `force` (the other site is gone for good).
 * ERR_NOT_FOUND: not protected; ERR_STATE: a job works on it, a recovered machine uses it, or it
 * is to be done at the other site (names it). */
int jobs_unprotect(struct jobs *jobs, const struct job_unprotect *spec, int64_t *ret_job,
                   struct err *err) MUST_CHECK;
/* Would it be started, without force? The same errors, but for a job that is at it. */
int jobs_may_unprotect(struct jobs *jobs, const char *machine, struct err *err) MUST_CHECK;
/* This site's replica of `group` goes, data and key; gone already is fine. ERR_STATE: a run's
 * machine uses it (names the run). Any thread; blocks. */
int job_remove_local_replica(struct estate *estate, const char *group, struct err *err) MUST_CHECK;

struct job_reprotect {
    const char *machine;
    bool
        accept_branch; /* the other side may have writes of its own: they stay there, as a branch */
    const char *who;
};
/* At the site that has the machine after a commit: the other one becomes the replica, and what
 * differs is sent there. ERR_STATE: not committed, or a job works on it (by number). */
int jobs_reprotect(struct jobs *jobs, const struct job_reprotect *spec, int64_t *ret_job,
                   struct err *err) MUST_CHECK;
/* Would it be started? The same errors, but for a job that is at it. */
int jobs_may_reprotect(struct jobs *jobs, const char *machine, struct err *err) MUST_CHECK;
/* At the other site, asked by the promoted one's reprotect. */
struct job_follow {
    const char *group;
    const char *peer;
    const char *writer_key; /* hex */
    const char *tip;        /* manifests, as estate_follow takes them */
    const char *first;
    const json_t *proof; /* borrowed; may be NULL */
    uint64_t generation;
    struct job_settings settings;
    const char *who;
};
/* `ret_job` 0: it follows already. ERR_DENIED: not shared with that peer; ERR_FENCED: older than what
 * is here. */
int jobs_follow(struct jobs *jobs, const struct job_follow *spec, int64_t *ret_job, struct err *err)
    MUST_CHECK;

/* After a commit: the recovered machine's disks become its own. `ret_job` 0: they are already, it runs
 * on those it came from. */
int jobs_stream(struct jobs *jobs, const char *machine, const char *who, int64_t *ret_job,
                struct err *err) MUST_CHECK;

struct job_verify {
    const char *machine;
    uint64_t subset; /* 1 to `of`; 0 with of 0: all */
    uint64_t of;
    uint64_t point; /* 0: all */
    bool gently;    /* nobody waits for it: it rests four times as long as it works */
    const char *who;
};
/* Reads the replica, here or at the peer that keeps it, in slices; ends as failed (ERR_CORRUPT) when
 * anything is damaged. ERR_NOT_FOUND: not protected; ERR_INVALID: no such subset; ERR_STATE: one is
 * under way (by number). */
int jobs_verify(struct jobs *jobs, const struct job_verify *spec, int64_t *ret_job, struct err *err)
    MUST_CHECK;

struct job_point {
    const char *machine;
    const char *consistency; /* "application", "crash", or "": as the policy has them */
    const char *label;       /* of a pin; "": none */
    const char *who;
};
/* Makes a recovery point now, at either site; the task's "result" is what group.point answers.
 * ERR_NOT_FOUND: not protected; ERR_INVALID: no such consistency, no label. */
int jobs_point(struct jobs *jobs, const struct job_point *spec, int64_t *ret_job, struct err *err)
    MUST_CHECK;

/* Gives a stored plan to a peer; tries again until the peer is there. */
int jobs_copy_plan(struct jobs *jobs, const char *plan, const char *peer, const char *who,
                   int64_t *ret_job, struct err *err) MUST_CHECK;

/* Tells the peer that keeps its replica the settings of a group whose row was changed; tries again
 * until the peer is there, over restarts. What is sent is what the row says by then. */
int jobs_copy_settings(struct jobs *jobs, const char *group, const char *peer, const char *who,
                       int64_t *ret_job, struct err *err) MUST_CHECK;

/* Stops it and takes back what it did. ERR_NOT_FOUND; ERR_STATE: it has ended. */
int jobs_cancel(struct jobs *jobs, int64_t id, const char *who, struct err *err) MUST_CHECK;

/* A job for people and programs (new reference):
 *   {id, kind, object, state, error, error_code, who, started_ms, ended_ms,
 *    tasks: [{name, state: "waiting"|"running"|"done"|"failed"|"cancelled", done, total, unit,
 *             started_ms, ended_ms, error, note, rate_per_s, left_ms,
 *             disks: [{name, size, done, total}], checks: [...] of the task that looks at
             prerequisites (run/prerequisites.h), result: {...} of a task that has one}]}
 * `error_code` as err_code_name, "" without an error. Times are milliseconds since 1970, 0: not yet. `done` of `total` `unit`s ("bytes"), 0 of 0 when
 * a task has no measure; left_ms -1: cannot be told. */
int jobs_get(struct jobs *jobs, int64_t id, json_t **ret_json, struct err *err) MUST_CHECK;
/* Newest first; `open_only`: those that run. */
int jobs_list(struct jobs *jobs, bool open_only, json_t **ret_json, struct err *err) MUST_CHECK;
/* Rises with every change of any job: for watchers. */
uint64_t jobs_changes(const struct jobs *jobs);
