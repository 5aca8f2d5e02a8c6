// SPDX-License-Identifier: Apache-2.0
/* What the core's verbs for the side that writes now have in common. */
#pragma once

#include "verbs/verb_help.h"

/* A source that swallows packets must not keep an unplanned failover waiting. */
#define CORE_REACH_MS 15000

/* {group, run}, of the argument "group"; new. */
json_t *core_group_args(const struct verb_call *call);
/* "group.observe" of the source; bounded when it may be gone. */
int core_observe_group(const struct verb_call *call, json_t **ret_reply, struct cancel *cancel,
                       struct err *err);
/* "machine.observe" of the source. */
int core_observe_machine(const struct verb_call *call, const char *machine, json_t **ret_reply,
                         struct cancel *cancel, struct err *err);
