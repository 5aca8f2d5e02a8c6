// SPDX-License-Identifier: Apache-2.0
/* For verb_*.c: the machine a call is about, what the run knows of it, and asking the sites. */
#pragma once

#include "verbs/verb.h"

/* args[key], or "". Borrowed. */
const char *verb_text(const struct verb_call *call, const char *key);
/* What the run knows about a machine, or about the first one of a group; NULL: nothing (borrowed). */
const json_t *verb_machine(const struct verb_call *call, const char *name);
/* The name under which everything of this machine is made: its own, else the run's. */
const char *verb_run_of(const struct verb_call *call, const char *machine);
/* Its group, or the group itself; a machine the run knows nothing of is one by itself. */
const char *verb_group_of(const struct verb_call *call, const char *name);
/* The machines of the group that this machine is in, or of the group of that name, as far as the run has
 * them: [NAME] (new reference); at least `name` itself. */
json_t *verb_group_machines(const struct verb_call *call, const char *name);
/* The group's name with its machines, for messages: "shop (db1, web1)"; of a group of one its name. Free
 * with free(). */
char *verb_group_text(const struct verb_call *call, const char *name);
uint64_t verb_point_of(const struct verb_call *call, const char *machine);
bool verb_is_test(const struct verb_call *call); /* a test, or the cleanup of one */

/* What follows a failover is about those that came over: another of its plan is no error, and the
 * result says so. */
bool verb_not_moved(const struct verb_call *call, const char *machine, json_t **ret_result);

/* {"facts": {MACHINE: facts}}; steals `facts`. */
json_t *verb_facts(const char *machine, json_t *facts);
/* The same for each machine of the group. */
json_t *verb_group_facts(const struct verb_call *call, const char *name, json_t *facts);
/* What a result says of the machines of a group: a name when there is one, else the list. Borrows
 * `machines`, gives a new reference. */
json_t *verb_names(const json_t *machines);
/* In an unplanned run a source that is out of reach is a warning, not an error: turns ERR_NET and
 * ERR_TIMEOUT into success with {"reached": false, "warning": text}. A cancel stays an error. */
int verb_forgive(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
                 struct err *err) MUST_CHECK;

/* Where wait_until and check look: tcp, agent or console. 1: it answers, 0: it does not, -1. */
int verb_look(const struct verb_call *call, struct cancel *cancel, struct err *err) MUST_CHECK;
/* "db1:5432 answers", for messages. Free with free(). */
char *verb_look_text(const json_t *args);
/* The `within` of the arguments, or the default. */
int verb_within(const struct verb_call *call, int64_t fallback_ms, int64_t *ret_ms, struct err *err)
    MUST_CHECK;

/* The site of that name, or `here` for "". ERR_INVALID names the two there are. */
int verb_site(const struct verb_call *call, const char *name, struct site **ret_site,
              struct err *err) MUST_CHECK;

/* The rows. */
extern const struct verb verb_failover;
extern const struct verb verb_failback;
extern const struct verb verb_commit;
extern const struct verb verb_rollback;
extern const struct verb verb_change_point;
extern const struct verb verb_reprotect;
extern const struct verb verb_wait_until;
extern const struct verb verb_check;
extern const struct verb verb_run_command;
extern const struct verb verb_approve;
extern const struct verb verb_assign_ip;
extern const struct verb verb_notify;
extern const struct verb verb_core_shutdown;
extern const struct verb verb_core_final_sync;
extern const struct verb verb_core_hold;
extern const struct verb verb_core_promote;
extern const struct verb verb_core_retire;
extern const struct verb verb_core_pin;
extern const struct verb verb_core_network;
extern const struct verb verb_core_cleanup;
extern const struct verb verb_core_unpin;
extern const struct verb verb_core_network_remove;
extern const struct verb verb_core_leftovers;
