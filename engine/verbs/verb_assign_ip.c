// SPDX-License-Identifier: Apache-2.0
/* assign_ip { "MACHINE", nic, address, gateway, dns, within }: gives a network card of a machine that
 * was brought up its addresses, through the guest's agent. Done when the guest shows them. Undone by
 * giving back what the site kept of before. In a test the machine is isolated, and gets them as well:
 * the plan that is drilled is the plan that is run. */
#include "base/ip.h"
#include "base/mem.h"
#include "verbs/verb_help.h"

#include <stdio.h>
#include <stdlib.h>

#define WITHIN_TEXT "2m"
#define WITHIN_MS   (2 * 60 * 1000)
#define RETRY_MS    1000
#define ID_BYTES    64

static const struct verb_arg args[] = {
    {.type = ARG_MACHINE, .required = true, .help = "The machine; a step before brings it up."},
    {.name = "nic",
     .type = ARG_NIC,
     .help = "Which network card: its place in the machine's definition, counted from 1 (so without"
             " it), or its MAC."},
    {.name = "address",
     .type = ARG_CIDRS,
     .required = true,
     .per_site = true,
     .help = "Its address with the prefix, or a list of IPv4 and IPv6 ones: of each family named,"
             " the card has these and no others then."},
    {.name = "gateway",
     .type = ARG_IPS,
     .per_site = true,
     .help = "Where its default route leads, one for each family; without it routes are left as"
             " they are."},
    {.name = "dns",
     .type = ARG_IPS,
     .per_site = true,
     .help = "Name servers, written into the guest's /etc/resolv.conf."},
    {.name = "within",
     .type = ARG_DURATION,
     .help = "How long the guest's agent may take to answer; " WITHIN_TEXT " by default."},
};

/* The same for all attempts of an action: what was there before the first is what counts. */
static void id_of(const struct verb_call *call, char ret_id[ID_BYTES])
{
    unsigned step = 0;
    unsigned action = 0;

    (void)sscanf(call->action_id, "%u.%*u.%u", &step, &action);
    (void)snprintf(ret_id, ID_BYTES, "%.40s.%u.%u", call->run_name, step, action);
}

static json_t *named(const struct verb_call *call)
{
    const char *machine = verb_text(call, "machine");
    char id[ID_BYTES];

    id_of(call, id);
    return json_pack("{s:s, s:s, s:b, s:s}", "machine", machine, "run", verb_run_of(call, machine),
                     "test", verb_is_test(call), "id", id);
}

static json_t *wanted(const struct verb_call *call)
{
    static const char *const keys[][2] = {
        {"nic", "nic"}, {"address", "addresses"}, {"gateway", "gateways"}, {"dns", "dns"}};
    json_t *asked = named(call);

    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        if (json_object_get(call->args, keys[i][0]))
            (void)json_object_set(asked, keys[i][1], json_object_get(call->args, keys[i][0]));
    return asked;
}

static const char *first_of(const json_t *value)
{
    const char *text = json_string_value(json_is_array(value) ? json_array_get(value, 0) : value);

    return text ? text : "";
}

/* Later looks at the machine by name go to its new address. */
static json_t *result_of(const struct verb_call *call, const json_t *seen)
{
    const char *machine = verb_text(call, "machine");
    char buf[IP_TEXT_BYTES];
    struct ip ip;

    if (!ip_parse_cidr(first_of(json_object_get(call->args, "address")), &ip))
        return json_deep_copy(seen);
    json_t *result = json_deep_copy(seen);
    json_t *facts = verb_facts(machine, json_pack("{s:s}", "address", ip_text(&ip, buf)));
    (void)json_object_update(result, facts);
    json_decref(facts);
    return result;
}

/* No agent yet, or no machine: both may come. */
static bool may_come(const struct err *err)
{
    return err->code == ERR_TIMEOUT || err->code == ERR_NET || err->code == ERR_BUSY;
}

static int run(const struct verb_call *call, json_t **ret_result, struct cancel *cancel,
               struct err *err)
{
    struct err last = ERR_EMPTY; /* what was in the way before time was over */
    struct err over = ERR_EMPTY;
    int64_t within_ms;

    if (verb_within(call, WITHIN_MS, &within_ms, err) < 0)
        return -1;
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(call->clock, cancel, within_ms);
    for (;;) {
        CLEANUP(json_freep) json_t *seen = NULL;
        if (site_ask(call->here, "guest.assign", wanted(call), &seen, limit, err) == 0) {
            *ret_result = result_of(call, seen);
            return 0;
        }
        if (may_come(err) && cancel_check(limit, &over) == 0) {
            last = *err;
            err_clear(err);
            if (cancel_sleep(limit, RETRY_MS, err) == 0)
                continue;
        }
        if (err->code == ERR_TIMEOUT && last.code)
            *err = last;
        return err_wrap(err, "give %s its address", verb_text(call, "machine"));
    }
}

static int probe(const struct verb_call *call, enum verb_answer *ret_answer, json_t **ret_result,
                 struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *seen = NULL;

    if (site_ask(call->here, "guest.network", wanted(call), &seen, cancel, err) < 0)
        return -1;
    *ret_answer = json_get_bool(seen, "holds", false) ? ANSWER_DONE : ANSWER_NOT_DONE;
    if (*ret_answer == ANSWER_DONE)
        *ret_result = result_of(call, seen);
    return 0;
}

static int undo(const struct verb_call *call, struct cancel *cancel, struct err *err)
{
    return site_ask(call->here, "guest.restore", named(call), NULL, cancel, err);
}

/* --- At load ---------------------------------------------------------------------------------- */

static size_t count_of(const json_t *value)
{
    return json_is_array(value) ? json_array_size(value) : json_is_string(value);
}

static const char *text_at(const json_t *value, size_t i)
{
    return json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
}

static int check_gateway(const json_t *addresses, const char *text, struct err *err)
{
    struct ip gateway;
    struct ip address;
    bool family = false;
    bool within = false;

    if (!ip_parse(text, &gateway))
        return 0; /* said already */
    for (size_t i = 0; i < count_of(addresses); i++) {
        if (!ip_parse_cidr(text_at(addresses, i), &address))
            continue;
        if (ip_same(&address, &gateway))
            return err_set(err, ERR_INVALID, 0, "the gateway %s is the machine's own address",
                           text);
        family = family || address.is_v6 == gateway.is_v6;
        within = within || ip_is_within(&gateway, &address);
    }
    if (!family)
        return err_set(err, ERR_INVALID, 0, "the gateway %s is %s, and no such address is given",
                       text, gateway.is_v6 ? "IPv6" : "IPv4");
    if (!within && !(gateway.is_v6 && ip_is_link_local(&gateway)))
        return err_set(err, ERR_INVALID, 0,
                       "the gateway %s is outside of %s: the machine could not reach it", text,
                       text_at(addresses, 0));
    return 0;
}

static int check_once(const json_t *addresses, struct err *err)
{
    struct ip a;
    struct ip b;

    for (size_t i = 0; i < count_of(addresses); i++)
        for (size_t k = 0; k < i; k++)
            if (ip_parse_cidr(text_at(addresses, i), &a) && ip_parse_cidr(text_at(addresses, k), &b)
                && ip_same(&a, &b))
                return err_set(err, ERR_INVALID, 0, "the address %s is given twice",
                               text_at(addresses, i));
    return 0;
}

static int check(const json_t *call_args, const char **ret_arg, struct err *err)
{
    const json_t *addresses = json_object_get(call_args, "address");
    const json_t *gateways = json_object_get(call_args, "gateway");
    size_t of_family[2] = {0};
    struct ip ip;

    *ret_arg = "address";
    if (count_of(addresses) == 0)
        return err_set(err, ERR_INVALID, 0, "no address is given");
    if (check_once(addresses, err) < 0)
        return -1;
    *ret_arg = "gateway";
    for (size_t i = 0; i < count_of(gateways); i++) {
        if (check_gateway(addresses, text_at(gateways, i), err) < 0)
            return -1;
        if (ip_parse(text_at(gateways, i), &ip) && of_family[ip.is_v6]++ > 0)
            return err_set(err, ERR_INVALID, 0, "two gateways of one family; hint: name one");
    }
    return 0;
}

/* --- For people ------------------------------------------------------------------------------- */

static void add_value(struct str *out, const json_t *value)
{
    const char *site;
    json_t *item;

    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, site, item) {
            str_addf(out, "%s at %s ", out->len ? "," : "", site);
            add_value(out, item);
        }
        return;
    }
    for (size_t i = 0; i < count_of(value); i++)
        str_addf(out, "%s%s", i ? " and " : "", text_at(value, i));
}

static char *describe(const json_t *call_args, enum run_kind kind)
{
    CLEANUP(str_free) struct str address = STR_EMPTY;
    CLEANUP(str_free) struct str gateway = STR_EMPTY;
    const json_t *nic = json_object_get(call_args, "nic");
    CLEANUP(mem_freep)
    char *card = json_is_string(nic)
                     ? mem_strdup(json_string_value(nic))
                     : mem_printf("%lld", nic ? (long long)json_integer_value(nic) : 1LL);

    (void)kind;
    add_value(&address, json_object_get(call_args, "address"));
    add_value(&gateway, json_object_get(call_args, "gateway"));
    return mem_printf("In %s, give network card %s the address %s%s%s.",
                      json_get_str(call_args, "machine", "?"), card, str_text(&address),
                      gateway.len ? ", gateway " : "", str_text(&gateway));
}

const struct verb verb_assign_ip = {
    .name = "assign_ip",
    .help = "Gives a machine its address at this site, by the guest's agent and ip(8). It holds"
            " until the guest is started anew.",
    .args = args,
    .arg_count = ARRAY_LEN(args),
    .effect = EFFECT_REVERSIBLE,
    .run = run,
    .probe = probe,
    .undo = undo,
    .check = check,
    .describe = describe,
};
