// SPDX-License-Identifier: Apache-2.0
/* The QEMU guest agent over the host's side of its virtio-serial port. The port takes bytes
 * whether or not an agent listens, and an agent may die or be frozen at any time: so every call
 * ends with its cancel, and no answer within 30 s is ERR_TIMEOUT. One thread at a time; after
 * ERR_TIMEOUT, ERR_NET or ERR_PROTOCOL close it. */
#pragma once

#include "base/cancel.h"
#include "base/json.h"
#include "base/vec.h"

struct agent;
/* Connects and waits until the agent answers (guest-sync-delimited, asked again every second).
 * ERR_NET: no such port (the machine is not running). ERR_TIMEOUT: no agent answers. */
int agent_open(const char *path, struct clock *clock, struct agent **ret_agent,
               struct cancel *cancel, struct err *err) MUST_CHECK;
void agent_close(struct agent *agent); /* NULL is fine */
void agent_closep(struct agent **agent);

/* Runs a command; `arguments` is taken (NULL: none), `ret_result` may be NULL. A refusal is
 * ERR_STATE with the agent's words; a command it does not have or that its administrator blocked
 * is ERR_UNSUPPORTED. */
int agent_command(struct agent *agent, const char *command, json_t *arguments, json_t **ret_result,
                  struct cancel *cancel, struct err *err) MUST_CHECK;

/* Asks for a clean power-off. No answer comes when it works: watch the machine. */
int agent_shutdown(struct agent *agent, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Freezes and thaws the guest's file systems; the count of them. Thawing what is not frozen is
 * fine. A guest stays frozen until somebody thaws it: whoever freezes must. */
int agent_freeze(struct agent *agent, uint64_t *ret_count, struct cancel *cancel, struct err *err)
    MUST_CHECK;
int agent_thaw(struct agent *agent, uint64_t *ret_count, struct cancel *cancel, struct err *err)
    MUST_CHECK;
/* agent_freeze in two halves, so that several guests freeze side by side. */
int agent_freeze_begin(struct agent *agent, struct cancel *cancel, struct err *err) MUST_CHECK;
int agent_freeze_end(struct agent *agent, uint64_t *ret_count, struct cancel *cancel,
                     struct err *err) MUST_CHECK;
/* Before a freeze. ERR_UNSUPPORTED: this agent may not freeze, or not thaw. ERR_STATE: the guest is
 * frozen already, by somebody who will thaw it. */
int agent_check_freeze(struct agent *agent, struct cancel *cancel, struct err *err) MUST_CHECK;

struct agent_address {
    char interface[32];
    char mac[18];
    char address[64]; /* without the prefix length */
    uint32_t prefix;
    bool is_ipv6;
};
VEC_DEFINE(agent_addresses, struct agent_address)
/* Addresses of all interfaces but the loopback. */
int agent_addresses(struct agent *agent, struct agent_addresses *ret_addresses,
                    struct cancel *cancel, struct err *err) MUST_CHECK;

/* Runs a program in the guest to its end; `argv` is NULL-terminated, argv[0] is looked up in the
 * agent's PATH. `input` becomes its stdin (NULL: none). Output (stdout, then stderr) is appended to
 * `ret_output`; the agent itself bounds it at 16 MiB. */
int agent_exec(struct agent *agent, const char *const *argv, const char *input,
               struct str *ret_output, int *ret_status, struct cancel *cancel, struct err *err)
    MUST_CHECK;
