// SPDX-License-Identifier: Apache-2.0
/* Named policies, and the protections that use them. A policy belongs to the site that has it: it
 * holds for what is sent from there. All functions belong to the loop thread; what they write is
 * durable with the turn. Either everything of a call is written, or nothing. */
#pragma once

#include "run/job.h"

/* Always there, also without a row; can be changed, not removed. */
#define POLICY_DEFAULT "default"

/* ERR_NOT_FOUND names the nearest one. */
int policies_get(struct state *state, const char *name, struct policy *ret_policy, struct err *err)
    MUST_CHECK;
/* {name, added_ms, changed_ms (0: never), machines: [name], own: {MACHINE: [key]}, the fields,
 *  notes: [text]} */
int policies_show(struct state *state, const char *name, json_t **ret_json, struct err *err)
    MUST_CHECK;
/* All of them, by name: [as above]. */
int policies_list(struct state *state, json_t **ret_json, struct err *err) MUST_CHECK;

/* `fields` are those of the JSON form, over the built-in defaults. ERR_EXISTS; ERR_INVALID: a value,
 * or two that contradict each other. */
int policies_add(struct state *state, const char *name, const json_t *fields, int64_t now_ms,
                 struct err *err) MUST_CHECK;
/* ERR_STATE: used (names by whom), or the built-in one. */
int policies_remove(struct state *state, const char *name, struct err *err) MUST_CHECK;

/* The groups sent from here whose settings were changed. */
struct policies_changed {
    char group[NAME_MAX_BYTES];
    char peer[NAME_MAX_BYTES];
    struct policy policy;
};
VEC_DEFINE(policies_changes, struct policies_changed)
/* Changes the policy and every protection that uses it; what is a machine's own stays. ERR_STATE:
 * something that cannot change while machines are protected (names field and machines). */
int policies_change(struct state *state, const char *name, const json_t *fields, int64_t now_ms,
                    struct policies_changes *ret_changes, struct err *err) MUST_CHECK;

/* Settings of a protection to be: policy `name` ("": default) with `fields` of its own. */
int policies_settings(struct state *state, const char *name, const json_t *fields,
                      struct job_settings *ret_settings, struct err *err) MUST_CHECK;
/* Another policy (NULL: the same), other fields of its own, and fields that are its own no more
 * (`reset`: [option or key]; "all" for all). A policy this site does not know is fine as long as it
 * is not asked for anything. ERR_STATE: encryption; `name` is for texts. */
int policies_resettle(struct state *state, const char *name, const char *policy,
                      const json_t *fields, const json_t *reset, struct job_settings *settings,
                      struct err *err) MUST_CHECK;
/* Settings that come with a machine from another site, whose policies are not known here: nothing that
 * holds changes. A policy of that name that is here stays as it is, and what differs from it becomes the
 * machine's own; without one it is made, of the fields that are not the machine's own. */
int policies_arrive(struct state *state, struct job_settings *settings, int64_t now_ms,
                    struct err *err) MUST_CHECK;
/* The present fields of the policy, under what is its own. A policy that is not known here any more
 * changes nothing. */
int policies_renew(struct state *state, struct job_settings *settings, struct err *err) MUST_CHECK;
