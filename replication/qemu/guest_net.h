// SPDX-License-Identifier: Apache-2.0
/* A network card of a guest, looked at and set through its agent (guest-network-get-interfaces, and
 * ip(8) by guest-exec). What is set holds until the guest is started anew or something in it sets
 * it otherwise. Blocks; with the agent's errors, and
 * ERR_STATE: the guest refuses (its own words); ERR_NOT_FOUND: no such card in the guest;
 * ERR_UNSUPPORTED: guest-exec is blocked there.
 *
 * A network: {mac, interface, ipv4: {addresses: ["10.0.0.5/24"], gateways: ["10.0.0.1"]}, ipv6: the
 * same, resolv_conf: text}. Addresses of the link alone (fe80::) are left out; gateways are those of
 * the default routes through the card. Families and resolv_conf are there when asked for.
 *
 * What is wanted: {ipv4: {addresses, gateways}, ipv6: {...}, dns: [address] or resolv_conf: text}.
 * Of a list that is there exactly these shall be; what is not there is left alone. */
#pragma once

#include "base/json.h"
#include "qemu/agent.h"

/* From lists of texts, each of which may be NULL or a single text. ERR_INVALID names what is no
 * address; two gateways of one family. */
int guest_net_wanted(const json_t *addresses, const json_t *gateways, const json_t *dns,
                     json_t **ret_wanted, struct err *err) MUST_CHECK;
/* What to want to have `before` again, where `wanted` has changed it (new reference). */
json_t *guest_net_back(const json_t *before, const json_t *wanted);
/* Is it so? */
bool guest_net_holds(const json_t *network, const json_t *wanted);
/* "10.20.0.11/24, gateway 10.20.0.1", of a network or of what is wanted. Free with free(). */
char *guest_net_text(const json_t *network);

/* Of the card with that MAC; what `wanted` speaks of. */
int guest_net_read(struct agent *agent, const char *mac, const json_t *wanted, json_t **ret_network,
                   struct cancel *cancel, struct err *err) MUST_CHECK;
/* Makes it so and looks whether it is. `ret_network`: as it is then. */
int guest_net_assign(struct agent *agent, const char *mac, const json_t *wanted,
                     json_t **ret_network, struct cancel *cancel, struct err *err) MUST_CHECK;
