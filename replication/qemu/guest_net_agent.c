// SPDX-License-Identifier: Apache-2.0
/* New addresses are added before old ones are deleted: a card without any loses its routes. Deleting
 * a first address takes those of the same network with it (unless promote_secondaries is set), so
 * it is looked at again, and what is missing is added once more; a default route that went with them,
 * and that nobody wanted changed, as well. */
#include "base/ip.h"
#include "base/mem.h"
#include "qemu/guest_net.h"
#include "qemu/guest_net_internal.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define ROUNDS_MAX  4
#define VERIFY_MS   10000
#define LOOK_MS     100
#define ARGV_MAX    12
#define RESOLV_CONF "/etc/resolv.conf"

/* --- Running ip(8) ---------------------------------------------------------------------------- */

static int blocked(struct err *err)
{
    if (err->code != ERR_UNSUPPORTED)
        return -1;
    return err_set(err, ERR_UNSUPPORTED, 0,
                   "the guest's agent does not run programs (guest-exec is blocked there); hint:"
                   " allow guest-exec in the guest, in qemu-ga's block-rpcs or allow-rpcs");
}

/* The last line that is not empty. */
static const char *last_line(char *text)
{
    size_t len = strlen(text);

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

/* The words after "ip", separated by blanks. */
static int run_ip(struct agent *agent, struct str *ret_output, struct cancel *cancel,
                  struct err *err, const char *words)
{
    CLEANUP(mem_freep) char *copy = mem_strdup(words);
    CLEANUP(str_free) struct str output = STR_EMPTY;
    const char *argv[ARGV_MAX] = {"ip"};
    char *rest = copy;
    int status = 0;

    for (size_t argc = 1; rest && argc < ARGV_MAX - 1;)
        argv[argc++] = strsep(&rest, " ");
    if (agent_exec(agent, argv, NULL, &output, &status, cancel, err) < 0)
        return blocked(err);
    if (status != 0) {
        CLEANUP(mem_freep) char *text = str_take(&output);
        return err_set(err, ERR_STATE, 0, "the guest refuses \"ip %s\": %s", words,
                       text ? last_line(text) : "it says nothing");
    }
    if (ret_output) {
        *ret_output = output;
        output = (struct str)STR_EMPTY;
    }
    return 0;
}

/* --- Looking ---------------------------------------------------------------------------------- */

/* Bridges and the like may have their card's MAC: the one with addresses is meant. */
static const json_t *find_interface(const json_t *interfaces, const char *mac)
{
    const json_t *found = NULL;
    const json_t *item;
    size_t i;

    json_array_foreach(interfaces, i, item) {
        if (strcasecmp(json_get_str(item, "hardware-address", ""), mac) != 0)
            continue;
        if (!found
            || (json_array_size(json_object_get(found, "ip-addresses")) == 0
                && json_array_size(json_object_get(item, "ip-addresses")) > 0))
            found = item;
    }
    return found;
}

static void take_addresses(const json_t *interface, json_t *network)
{
    const json_t *item;
    char buf[IP_TEXT_BYTES];
    struct ip ip;
    size_t i;

    json_array_foreach(json_object_get(interface, "ip-addresses"), i, item) {
        if (!ip_parse(json_get_str(item, "ip-address", ""), &ip)
            || (ip.is_v6 && ip_is_link_local(&ip)))
            continue;
        ip.prefix = (unsigned)json_get_u64(item, "prefix", ip.prefix);
        json_t *family = json_object_get(network, guest_net_families[ip.is_v6].name);
        (void)json_array_append_new(json_object_get(family, "addresses"),
                                    json_string(ip_cidr_text(&ip, buf)));
    }
}

/* Lines "default via 10.0.0.1 ..." */
static void take_gateways(const char *routes, json_t *gateways)
{
    static const char mark[] = "default via ";
    char buf[IP_TEXT_BYTES];
    struct ip ip;

    for (const char *line = routes; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!str_starts(line, mark))
            continue;
        const char *at = line + strlen(mark);
        (void)snprintf(buf, sizeof(buf), "%.*s", (int)strcspn(at, " \n"), at);
        if (ip_parse(buf, &ip))
            (void)json_array_append_new(gateways, json_string(ip_text(&ip, buf)));
    }
}

static int read_routes(struct agent *agent, const struct guest_net_family *family, json_t *network,
                       struct cancel *cancel, struct err *err)
{
    CLEANUP(str_free) struct str routes = STR_EMPTY;
    CLEANUP(mem_freep)
    char *words =
        mem_printf("%s route show dev %s", family->option, json_get_str(network, "interface", ""));
    json_t *gateways = json_object_get(json_object_get(network, family->name), "gateways");

    if (run_ip(agent, &routes, cancel, err, words) < 0)
        return -1;
    take_gateways(str_text(&routes), gateways);
    return 0;
}

static int read_resolv_conf(struct agent *agent, json_t *network, struct cancel *cancel,
                            struct err *err)
{
    static const char *const argv[] = {"cat", RESOLV_CONF, NULL};
    CLEANUP(str_free) struct str text = STR_EMPTY;
    int status;

    if (agent_exec(agent, argv, NULL, &text, &status, cancel, err) < 0)
        return blocked(err);
    json_t *json = json_string(status == 0 ? str_text(&text) : "");
    (void)json_object_set_new(network, "resolv_conf", json ? json : json_string(""));
    return 0;
}

int guest_net_read(struct agent *agent, const char *mac, const json_t *wanted, json_t **ret_network,
                   struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *interfaces = NULL;
    CLEANUP(json_freep) json_t *network = NULL;

    if (agent_command(agent, "guest-network-get-interfaces", NULL, &interfaces, cancel, err) < 0)
        return -1;
    const json_t *interface = find_interface(interfaces, mac);
    if (!interface)
        return err_set(err, ERR_NOT_FOUND, 0,
                       "the guest has no network card %s; hint: is its driver there?", mac);
    network = json_pack("{s:s, s:s, s:{s:[], s:[]}, s:{s:[], s:[]}}", "mac", mac, "interface",
                        json_get_str(interface, "name", ""), "ipv4", "addresses", "gateways",
                        "ipv6", "addresses", "gateways");
    take_addresses(interface, network);
    for (size_t i = 0; i < GUEST_NET_FAMILIES; i++)
        if (json_object_get(wanted, guest_net_families[i].name)
            && read_routes(agent, &guest_net_families[i], network, cancel, err) < 0)
            return -1;
    if ((json_object_get(wanted, "dns") || json_object_get(wanted, "resolv_conf"))
        && read_resolv_conf(agent, network, cancel, err) < 0)
        return -1;
    *ret_network = TAKE(network);
    return 0;
}

/* --- Setting ---------------------------------------------------------------------------------- */

/* "ip OPTION FORMAT TEXT dev INTERFACE" for each of `list` that is not in `but`. */
static int for_each_other(struct agent *agent, const struct guest_net_family *family,
                          const char *format, const json_t *list, const json_t *but,
                          const char *interface, struct cancel *cancel, struct err *err)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        CLEANUP(mem_freep)
        char *words = mem_printf("%s %s %s dev %s", family->option, format, json_string_value(item),
                                 interface);
        if (!guest_net_has(but, json_string_value(item))
            && run_ip(agent, NULL, cancel, err, words) < 0)
            return -1;
    }
    return 0;
}

static int set_addresses(struct agent *agent, const struct guest_net_family *family,
                         const json_t *wanted, json_t **network, struct cancel *cancel,
                         struct err *err)
{
    const json_t *want = json_object_get(json_object_get(wanted, family->name), "addresses");

    for (int round = 0; want && round < ROUNDS_MAX; round++) {
        CLEANUP(json_freep) json_t *old = *network;
        const json_t *is = json_object_get(json_object_get(old, family->name), "addresses");
        const char *interface = json_get_str(old, "interface", "");
        *network = NULL;
        if (for_each_other(agent, family, "addr add", want, is, interface, cancel, err) < 0
            || for_each_other(agent, family, "addr del", is, want, interface, cancel, err) < 0
            || guest_net_read(agent, json_get_str(old, "mac", ""), wanted, network, cancel, err)
                   < 0)
            return -1;
        if (guest_net_addresses_hold(
                json_object_get(json_object_get(*network, family->name), "addresses"), want))
            return 0;
    }
    return 0; /* said by the last look */
}

static bool is_reached(const json_t *addresses, const char *gateway)
{
    const json_t *item;
    struct ip address;
    struct ip ip;
    size_t i;

    json_array_foreach(addresses, i, item) {
        if (ip_parse(gateway, &ip) && ip_parse_cidr(json_string_value(item), &address)
            && ip_is_within(&ip, &address))
            return true;
    }
    return false;
}

/* The default route of `before`, if it is lost and leads somewhere still. */
static int keep_gateway(struct agent *agent, const struct guest_net_family *family,
                        const json_t *before, const json_t *network, struct cancel *cancel,
                        struct err *err)
{
    const json_t *had = json_object_get(json_object_get(before, family->name), "gateways");
    const json_t *has = json_object_get(network, family->name);
    const char *gateway = json_string_value(json_array_get(had, 0));

    if (!gateway || json_array_size(json_object_get(has, "gateways")) > 0
        || !is_reached(json_object_get(has, "addresses"), gateway))
        return 0;
    CLEANUP(mem_freep)
    char *words = mem_printf("%s route replace default via %s dev %s", family->option, gateway,
                             json_get_str(network, "interface", ""));
    return run_ip(agent, NULL, cancel, err, words);
}

static int set_gateways(struct agent *agent, const struct guest_net_family *family,
                        const json_t *wanted, const json_t *before, const json_t *network,
                        struct cancel *cancel, struct err *err)
{
    const json_t *want = json_object_get(json_object_get(wanted, family->name), "gateways");
    const json_t *is = json_object_get(json_object_get(network, family->name), "gateways");
    const char *interface = json_get_str(network, "interface", "");
    const char *first = json_string_value(json_array_get(want, 0));

    if (!want)
        return keep_gateway(agent, family, before, network, cancel, err);
    if (guest_net_gateways_hold(is, want))
        return 0;
    if (for_each_other(agent, family, "route del default via", is, want, interface, cancel, err)
        < 0)
        return -1;
    if (!first || guest_net_has(is, first))
        return 0;
    CLEANUP(mem_freep)
    char *words =
        mem_printf("%s route replace default via %s dev %s", family->option, first, interface);
    return run_ip(agent, NULL, cancel, err, words);
}

static int set_dns(struct agent *agent, const json_t *wanted, const json_t *network,
                   struct cancel *cancel, struct err *err)
{
    static const char *const argv[] = {"tee", RESOLV_CONF, NULL};
    CLEANUP(str_free) struct str said = STR_EMPTY;
    CLEANUP(mem_freep) char *text = NULL;
    int status;

    if (guest_net_dns_holds(network, wanted))
        return 0;
    if (json_object_get(wanted, "resolv_conf"))
        text = mem_strdup(json_get_str(wanted, "resolv_conf", ""));
    else
        text = guest_net_with_servers(json_get_str(network, "resolv_conf", ""),
                                      json_object_get(wanted, "dns"));
    if (agent_exec(agent, argv, text, &said, &status, cancel, err) < 0)
        return blocked(err);
    if (status == 0)
        return 0;
    CLEANUP(mem_freep) char *words = str_take(&said);
    return err_set(err, ERR_STATE, 0, "the guest refuses to write " RESOLV_CONF ": %s",
                   words ? last_line(words) : "");
}

/* The guest takes its time to show what was set. */
static int verify(struct agent *agent, const char *mac, const json_t *wanted, json_t **ret_network,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, VERIFY_MS);

    for (;;) {
        CLEANUP(json_freep) json_t *network = NULL;
        if (guest_net_read(agent, mac, wanted, &network, cancel, err) < 0)
            return -1;
        if (guest_net_holds(network, wanted)) {
            *ret_network = TAKE(network);
            return 0;
        }
        if (cancel_sleep(limit, LOOK_MS, err) == 0)
            continue;
        CLEANUP(mem_freep) char *is = guest_net_text(network);
        CLEANUP(mem_freep) char *want = guest_net_text(wanted);
        return cancel_check(cancel, err) < 0
                   ? -1
                   : err_set(err, ERR_STATE, 0, "the guest was told %s and shows %s", want, is);
    }
}

int guest_net_assign(struct agent *agent, const char *mac, const json_t *wanted,
                     json_t **ret_network, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *network = NULL;
    CLEANUP(json_freep) json_t *before = NULL;

    if (guest_net_read(agent, mac, wanted, &before, cancel, err) < 0)
        return -1;
    network = json_incref(before);
    CLEANUP(mem_freep)
    char *up = mem_printf("link set dev %s up", json_get_str(network, "interface", ""));
    if (run_ip(agent, NULL, cancel, err, up) < 0)
        return -1;
    for (size_t i = 0; i < GUEST_NET_FAMILIES; i++)
        if (set_addresses(agent, &guest_net_families[i], wanted, &network, cancel, err) < 0
            || set_gateways(agent, &guest_net_families[i], wanted, before, network, cancel, err)
                   < 0)
            return -1;
    if (set_dns(agent, wanted, network, cancel, err) < 0)
        return -1;
    return verify(agent, mac, wanted, ret_network, cancel, err);
}
