// SPDX-License-Identifier: Apache-2.0
/* What is wanted of a card, and whether it is so: values alone. */
#include "qemu/guest_net.h"

#include "base/ip.h"
#include "base/mem.h"
#include "qemu/guest_net_internal.h"

#include <stdio.h>
#include <string.h>

#define NAMESERVER "nameserver"

const struct guest_net_family guest_net_families[GUEST_NET_FAMILIES] = {
    {"ipv4", "-4"},
    {"ipv6", "-6"},
};

/* --- What is wanted --------------------------------------------------------------------------- */

static bool parse(const char *text, bool cidr, struct ip *ret_ip)
{
    return text && (cidr ? ip_parse_cidr(text, ret_ip) : ip_parse(text, ret_ip));
}

static const char *write_ip(const struct ip *ip, bool cidr, char buf[IP_TEXT_BYTES])
{
    return cidr ? ip_cidr_text(ip, buf) : ip_text(ip, buf);
}

static json_t *family_of(json_t *wanted, bool is_v6)
{
    const char *name = guest_net_families[is_v6].name;

    if (!json_object_get(wanted, name))
        (void)json_object_set_new(wanted, name, json_object());
    return json_object_get(wanted, name);
}

/* Each text of `list` goes to its family, under `key`; NULL: all into `flat`. */
static int sort_in(const json_t *list, const char *what, bool cidr, json_t *wanted, json_t *flat,
                   struct err *err)
{
    CLEANUP(json_freep)
    json_t *texts =
        json_is_string(list) ? json_pack("[O]", list) : json_copy((json_t *)(uintptr_t)list);
    const json_t *item;
    char buf[IP_TEXT_BYTES];
    struct ip ip;
    size_t i;

    json_array_foreach(texts, i, item) {
        json_t *into = flat;
        if (!parse(json_string_value(item), cidr, &ip))
            return err_set(err, ERR_INVALID, 0, "%s: \"%.80s\" is no address%s", what,
                           json_string_value(item) ? json_string_value(item) : "?",
                           cidr ? " with a prefix" : "");
        if (!into) {
            json_t *family = family_of(wanted, ip.is_v6);
            if (!json_object_get(family, what))
                (void)json_object_set_new(family, what, json_array());
            into = json_object_get(family, what);
        }
        (void)json_array_append_new(into, json_string(write_ip(&ip, cidr, buf)));
    }
    return 0;
}

int guest_net_wanted(const json_t *addresses, const json_t *gateways, const json_t *dns,
                     json_t **ret_wanted, struct err *err)
{
    CLEANUP(json_freep) json_t *wanted = json_object();
    CLEANUP(json_freep) json_t *servers = json_array();

    if (sort_in(addresses, "addresses", true, wanted, NULL, err) < 0
        || sort_in(gateways, "gateways", false, wanted, NULL, err) < 0
        || sort_in(dns, "dns", false, NULL, servers, err) < 0)
        return -1;
    for (size_t i = 0; i < GUEST_NET_FAMILIES; i++) {
        const json_t *family = json_object_get(wanted, guest_net_families[i].name);
        if (json_array_size(json_object_get(family, "gateways")) > 1)
            return err_set(err, ERR_INVALID, 0, "two gateways of one family; hint: name one");
    }
    if (json_array_size(servers) > 0)
        (void)json_object_set(wanted, "dns", servers);
    *ret_wanted = TAKE(wanted);
    return 0;
}

json_t *guest_net_back(const json_t *before, const json_t *wanted)
{
    static const char *const keys[] = {"addresses", "gateways"};
    json_t *back = json_object();

    for (size_t i = 0; i < GUEST_NET_FAMILIES; i++) {
        const json_t *asked = json_object_get(wanted, guest_net_families[i].name);
        const json_t *was = json_object_get(before, guest_net_families[i].name);
        for (size_t k = 0; asked && k < ARRAY_LEN(keys); k++) {
            const json_t *list = json_object_get(was, keys[k]);
            if (json_object_get(asked, keys[k]))
                (void)json_object_set_new(family_of(back, i == 1), keys[k],
                                          list ? json_deep_copy(list) : json_array());
        }
    }
    if (json_object_get(wanted, "dns") && json_object_get(before, "resolv_conf"))
        (void)json_object_set(back, "resolv_conf", json_object_get(before, "resolv_conf"));
    return back;
}

/* --- Comparing -------------------------------------------------------------------------------- */

bool guest_net_has(const json_t *list, const char *text)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        if (str_eq(json_string_value(item), text))
            return true;
    }
    return false;
}

static bool has_all(const json_t *list, const json_t *of)
{
    const json_t *item;
    size_t i;

    json_array_foreach(of, i, item) {
        if (!guest_net_has(list, json_string_value(item)))
            return false;
    }
    return true;
}

/* NULL: nothing is wanted of it. */
bool guest_net_addresses_hold(const json_t *is, const json_t *wanted)
{
    return !wanted || (has_all(is, wanted) && has_all(wanted, is));
}

/* Of several default routes (by metric) the first is enough. */
bool guest_net_gateways_hold(const json_t *is, const json_t *wanted)
{
    const char *first = json_string_value(json_array_get(wanted, 0));

    return !wanted || (has_all(wanted, is) && (!first || guest_net_has(is, first)));
}

/* The text with other name servers. */
char *guest_net_with_servers(const char *text, const json_t *servers)
{
    struct str out = STR_EMPTY;
    const json_t *item;
    size_t i;

    for (const char *line = text; *line;) {
        size_t len = strcspn(line, "\n");
        if (strncmp(line, NAMESERVER, strlen(NAMESERVER)) != 0) {
            str_add_bytes(&out, line, len);
            str_add(&out, "\n");
        }
        line += len + (line[len] == '\n');
    }
    json_array_foreach(servers, i, item)
        str_addf(&out, NAMESERVER " %s\n", json_string_value(item));
    str_add(&out, "");
    return str_take(&out);
}

bool guest_net_dns_holds(const json_t *network, const json_t *wanted)
{
    const char *is = json_get_str(network, "resolv_conf", "");
    const char *text = json_get_str(wanted, "resolv_conf", NULL);
    const json_t *servers = json_object_get(wanted, "dns");

    if (text)
        return str_eq(is, text);
    if (!servers)
        return true;
    CLEANUP(mem_freep) char *want = guest_net_with_servers(is, servers);
    return str_eq(is, want);
}

bool guest_net_holds(const json_t *network, const json_t *wanted)
{
    for (size_t i = 0; i < GUEST_NET_FAMILIES; i++) {
        const json_t *is = json_object_get(network, guest_net_families[i].name);
        const json_t *asked = json_object_get(wanted, guest_net_families[i].name);
        if (!guest_net_addresses_hold(json_object_get(is, "addresses"),
                                      json_object_get(asked, "addresses"))
            || !guest_net_gateways_hold(json_object_get(is, "gateways"),
                                        json_object_get(asked, "gateways")))
            return false;
    }
    return guest_net_dns_holds(network, wanted);
}

static void add_list(struct str *text, const json_t *list, const char *word)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item)
        str_addf(text, "%s%s%s", text->len ? ", " : "", word, json_string_value(item));
}

char *guest_net_text(const json_t *network)
{
    struct str text = STR_EMPTY;

    for (size_t i = 0; i < GUEST_NET_FAMILIES; i++) {
        const json_t *family = json_object_get(network, guest_net_families[i].name);
        add_list(&text, json_object_get(family, "addresses"), "");
        add_list(&text, json_object_get(family, "gateways"), "gateway ");
    }
    add_list(&text, json_object_get(network, "dns"), "name server ");
    if (text.len == 0)
        str_add(&text, "no address");
    return str_take(&text);
}
