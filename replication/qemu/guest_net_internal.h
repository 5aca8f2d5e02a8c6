// SPDX-License-Identifier: Apache-2.0
/* For guest_net*.c: the two families, and the pieces of the comparison. */
#pragma once

#include "base/json.h"

#define GUEST_NET_FAMILIES 2
extern const struct guest_net_family {
    const char *name;
    const char *option;                   /* of ip(8) */
} guest_net_families[GUEST_NET_FAMILIES]; /* IPv4, IPv6 */

bool guest_net_has(const json_t *list, const char *text);
/* `wanted` NULL: nothing is wanted of it. */
bool guest_net_addresses_hold(const json_t *is, const json_t *wanted);
/* Of several default routes (by metric) the first is enough. */
bool guest_net_gateways_hold(const json_t *is, const json_t *wanted);
bool guest_net_dns_holds(const json_t *network, const json_t *wanted);
/* The text of a resolv.conf with other name servers; free with free(). */
char *guest_net_with_servers(const char *text, const json_t *servers);
