// SPDX-License-Identifier: Apache-2.0
/* A guest in this process: its agent answers, and its ip(8) does what it is told, or does not. */
#include "qemu/guest_net.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/qemu/fake_qmp.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>

#define MAC "52:54:00:00:00:01"

struct guest {
    json_t *addresses[2]; /* IPv4, IPv6 */
    char gateway[2][64];
    char resolv_conf[256];
    const char *refuses;  /* "addr add" of what holds this */
    bool blocked;         /* guest-exec */
    bool no_ip;           /* no such program */
    bool takes_all_along; /* deleting an address deletes all of that family */
    bool forgets;         /* what is added is not there */
    bool hangs;           /* programs do not end */
    char said[256];       /* of the last program */
    int status;
    unsigned programs;
};

static struct guest guest;
static struct fake_qmp *fake;
static struct agent *agent;
static struct cancel *cancel;

/* --- The guest ---------------------------------------------------------------------------------- */

static bool has(const json_t *list, const char *text, size_t *ret_at)
{
    const json_t *item;
    size_t i;

    json_array_foreach(list, i, item) {
        if (!str_eq(json_string_value(item), text))
            continue;
        *ret_at = i;
        return true;
    }
    return false;
}

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static char *encode(const char *text)
{
    size_t len = strlen(text);
    struct str out = STR_EMPTY;

    for (size_t bits = 0; bits < len * 8; bits += 6) {
        unsigned value = (unsigned)(unsigned char)text[bits / 8] << 8;
        value |= bits / 8 + 1 < len ? (unsigned char)text[bits / 8 + 1] : 0;
        str_addf(&out, "%c", digits[value >> (10 - bits % 8) & 63]);
    }
    while (out.len % 4)
        str_add(&out, "=");
    str_add(&out, "");
    return str_take(&out);
}

static void decode(const char *text, char *ret_text)
{
    unsigned bits = 0;
    int have = 0;

    for (; *text && *text != '='; text++) {
        bits = bits << 6 | (unsigned)(strchr(digits, *text) - digits);
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        *ret_text++ = (char)(bits >> have & 255);
    }
    *ret_text = '\0';
}

static void say(int status, const char *text)
{
    guest.status = status;
    (void)snprintf(guest.said, sizeof(guest.said), "%s", text);
}

static void do_address(int family, const char *verb, const char *address)
{
    size_t at = 0;
    bool there = has(guest.addresses[family], address, &at);

    if (str_eq(verb, "add") && guest.refuses && strstr(address, guest.refuses))
        say(2, "RTNETLINK answers: Permission denied\n");
    else if (str_eq(verb, "add") && there)
        say(2, "RTNETLINK answers: File exists\n");
    else if (str_eq(verb, "add") && !guest.forgets)
        (void)json_array_append_new(guest.addresses[family], json_string(address));
    else if (str_eq(verb, "del") && !there)
        say(2, "RTNETLINK answers: Cannot assign requested address\n");
    else if (str_eq(verb, "del") && guest.takes_all_along)
        (void)json_array_clear(guest.addresses[family]);
    else if (str_eq(verb, "del"))
        (void)json_array_remove(guest.addresses[family], at);
}

static void do_route(int family, const char *verb, const char *via)
{
    char *gateway = guest.gateway[family];
    const size_t size = sizeof(guest.gateway[0]);

    if (str_eq(verb, "show") && *gateway)
        (void)snprintf(guest.said, sizeof(guest.said),
                       "default via %s proto static metric 100\n10.0.0.0/24 scope link\n", gateway);
    else if (str_eq(verb, "replace"))
        (void)snprintf(gateway, size, "%s", via);
    else if (str_eq(verb, "del"))
        gateway[0] = '\0';
}

/* ip -4 addr add X dev eth0 | ip -4 route show dev eth0 | ip -4 route replace default via X dev eth0 */
static void do_ip(const json_t *arg)
{
    const char *words[8] = {"", "", "", "", "", "", "", ""};

    for (size_t i = 0; i < 8 && i < json_array_size(arg); i++)
        words[i] = json_string_value(json_array_get(arg, i));
    if (str_eq(words[0], "link"))
        return;
    int family = str_eq(words[0], "-6");
    if (str_eq(words[1], "addr"))
        do_address(family, words[2], words[3]);
    else
        do_route(family, words[2], words[5]);
}

static char *do_program(const json_t *command)
{
    const json_t *args = json_object_get(command, "arguments");
    const char *path = json_get_str(args, "path", "");
    const char *input = json_get_str(args, "input-data", "");

    guest.programs++;
    if (guest.blocked)
        return fake_qmp_say("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"Command"
                            " guest-exec has been disabled\"}}");
    if (guest.no_ip)
        return fake_qmp_say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"Guest agent"
                            " command failed, error was 'Failed to execute child process'\"}}");
    say(0, "");
    if (str_eq(path, "ip"))
        do_ip(json_object_get(args, "arg"));
    else if (str_eq(path, "cat"))
        (void)snprintf(guest.said, sizeof(guest.said), "%s", guest.resolv_conf);
    else if (str_eq(path, "tee"))
        decode(input, guest.resolv_conf);
    return fake_qmp_say("{\"return\": {\"pid\": 7}}");
}

static char *do_status(void)
{
    if (guest.hangs)
        return fake_qmp_say("{\"return\": {\"exited\": false}}");
    CLEANUP(mem_freep) char *text = encode(guest.said);
    return mem_printf("{\"return\": {\"exited\": true, \"exitcode\": %d, \"out-data\": \"%s\"}}\n",
                      guest.status, text);
}

static char *do_interfaces(void)
{
    CLEANUP(json_freep) json_t *list = json_array();
    const json_t *item;
    size_t i;

    for (int family = 0; family < 2; family++)
        json_array_foreach(guest.addresses[family], i, item) {
            CLEANUP(mem_freep) char *text = mem_strdup(json_string_value(item));
            char *slash = strchr(text, '/');
            *slash = '\0';
            (void)json_array_append_new(
                list, json_pack("{s:s, s:i, s:s}", "ip-address", text, "prefix", atoi(slash + 1),
                                "ip-address-type", family ? "ipv6" : "ipv4"));
        }
    (void)json_array_append_new(list, json_pack("{s:s, s:i, s:s}", "ip-address", "fe80::1",
                                                "prefix", 64, "ip-address-type", "ipv6"));
    CLEANUP(json_freep)
    json_t *answer = json_pack("{s:[{s:s, s:s}, {s:s, s:s, s:O}, {s:s, s:s}]}", "return", "name",
                               "lo", "hardware-address", "00:00:00:00:00:00", "name", "eth0",
                               "hardware-address", "52:54:00:00:00:01", "ip-addresses", list,
                               "name", "eth1", "hardware-address", "52:54:00:00:00:02");
    CLEANUP(mem_freep) char *text = json_text(answer);
    return mem_printf("%s\n", text);
}

static char *answer(void *ctx, const json_t *command)
{
    const char *name = json_get_str(command, "execute", "");

    (void)ctx;
    if (str_eq(name, "guest-sync-delimited"))
        return mem_printf("\xff{\"return\": %lld}\n",
                          (long long)json_integer_value(
                              json_object_get(json_object_get(command, "arguments"), "id")));
    if (str_eq(name, "guest-exec"))
        return do_program(command);
    if (str_eq(name, "guest-exec-status"))
        return do_status();
    return do_interfaces();
}

static int setup(void **state)
{
    struct fake_qmp_config config = {.greeting = "", .answer = answer};

    if (tmpdir_setup(state) < 0)
        return -1;
    CLEANUP(mem_freep) char *path = path_join(*state, "agent");
    memset(&guest, 0, sizeof(guest));
    guest.addresses[0] = json_pack("[s]", "10.10.0.11/24");
    guest.addresses[1] = json_array();
    (void)snprintf(guest.gateway[0], sizeof(guest.gateway[0]), "10.10.0.1");
    (void)snprintf(guest.resolv_conf, sizeof(guest.resolv_conf),
                   "search example.com\nnameserver 10.10.0.2\n");
    config.path = path;
    cancel = cancel_new(NULL, NULL, 20000);
    fake = fake_qmp_new(&config);
    EXPECT_OK(agent_open(path, NULL, &agent, cancel, &err));
    return 0;
}

static int teardown(void **state)
{
    agent_closep(&agent);
    fake_qmp_free(fake);
    cancel_freep(&cancel);
    json_decref(guest.addresses[0]);
    json_decref(guest.addresses[1]);
    return tmpdir_teardown(state);
}

/* --- What is asked ------------------------------------------------------------------------------ */

static json_t *wanted_of(const char *addresses, const char *gateways, const char *dns)
{
    json_t *parsed[3] = {NULL};
    const char *texts[] = {addresses, gateways, dns};
    json_t *wanted = NULL;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i])
            EXPECT_OK(json_parse(texts[i], strlen(texts[i]), &parsed[i], &err));
    EXPECT_OK(guest_net_wanted(parsed[0], parsed[1], parsed[2], &wanted, &err));
    for (size_t i = 0; i < ARRAY_LEN(parsed); i++)
        json_decref(parsed[i]);
    return wanted;
}

static int assign(json_t *wanted, json_t **ret_network)
{
    CLEANUP(json_freep) json_t *owned = wanted;
    CLEANUP(json_freep) json_t *network = NULL;
    int rc = guest_net_assign(agent, MAC, owned, &network, cancel, &err);

    if (ret_network)
        *ret_network = json_incref(network);
    return rc;
}

static void expect_addresses(int family, const char *want)
{
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(json_parse(want, strlen(want), &json, &err));
    CLEANUP(mem_freep) char *is = json_text(guest.addresses[family]);
    if (!json_equal(json, guest.addresses[family]))
        fail_msg("the guest has %s, wanted %s", is, want);
}

static void a_card_gets_its_address_and_loses_the_old_one(void **state)
{
    CLEANUP(json_freep) json_t *network = NULL;

    (void)state;
    EXPECT_OK(assign(wanted_of("[\"10.20.0.11/24\"]", "[\"10.20.0.1\"]", NULL), &network));
    expect_addresses(0, "[\"10.20.0.11/24\"]");
    assert_string_equal(guest.gateway[0], "10.20.0.1");
    assert_string_equal(json_get_str(network, "interface", ""), "eth0");
    CLEANUP(mem_freep) char *text = guest_net_text(network);
    assert_string_equal(text, "10.20.0.11/24, gateway 10.20.0.1");
}

static void both_families_are_set_in_one_step(void **state)
{
    (void)state;
    EXPECT_OK(assign(wanted_of("[\"10.20.0.11/24\", \"2001:DB8::11/64\"]",
                               "[\"10.20.0.1\", \"2001:db8::1\"]", NULL),
                     NULL));
    expect_addresses(0, "[\"10.20.0.11/24\"]");
    expect_addresses(1, "[\"2001:db8::11/64\"]");
    assert_string_equal(guest.gateway[1], "2001:db8::1");
}

static void a_family_that_is_not_named_is_left_alone(void **state)
{
    (void)state;
    EXPECT_OK(assign(wanted_of("[\"2001:db8::11/64\"]", NULL, NULL), NULL));
    expect_addresses(0, "[\"10.10.0.11/24\"]");
    assert_string_equal(guest.gateway[0], "10.10.0.1");
    expect_addresses(1, "[\"2001:db8::11/64\"]");
}

static void what_is_so_already_is_not_touched(void **state)
{
    (void)state;
    EXPECT_OK(assign(wanted_of("[\"10.10.0.11/24\"]", "[\"10.10.0.1\"]", NULL), NULL));
    expect_addresses(0, "[\"10.10.0.11/24\"]");
}

static void a_delete_that_takes_others_along_is_made_good(void **state)
{
    (void)state;
    guest.takes_all_along = true;
    EXPECT_OK(assign(wanted_of("[\"10.10.0.12/24\"]", NULL, NULL), NULL));
    expect_addresses(0, "[\"10.10.0.12/24\"]");
}

static void what_was_there_can_be_put_back(void **state)
{
    CLEANUP(json_freep) json_t *before = NULL;
    CLEANUP(json_freep)
    json_t *wanted = wanted_of("[\"10.20.0.11/24\", \"2001:db8::11/64\"]",
                               "[\"10.20.0.1\", \"2001:db8::1\"]", "[\"10.20.0.2\"]");

    (void)state;
    EXPECT_OK(guest_net_read(agent, MAC, wanted, &before, cancel, &err));
    EXPECT_OK(assign(json_incref(wanted), NULL));
    assert_string_equal(guest.resolv_conf, "search example.com\nnameserver 10.20.0.2\n");
    EXPECT_OK(assign(guest_net_back(before, wanted), NULL));
    expect_addresses(0, "[\"10.10.0.11/24\"]");
    expect_addresses(1, "[]");
    assert_string_equal(guest.gateway[0], "10.10.0.1");
    assert_string_equal(guest.gateway[1], "");
    assert_string_equal(guest.resolv_conf, "search example.com\nnameserver 10.10.0.2\n");
}

/* --- What goes wrong ---------------------------------------------------------------------------- */

static void an_address_that_the_guest_refuses_is_told_in_its_words(void **state)
{
    (void)state;
    guest.refuses = "10.20";
    EXPECT_ERR(ERR_STATE, assign(wanted_of("[\"10.20.0.11/24\"]", NULL, NULL), NULL));
    EXPECT_TEXT("the guest refuses \"ip -4 addr add 10.20.0.11/24 dev eth0\": RTNETLINK answers:"
                " Permission denied");
    expect_addresses(0, "[\"10.10.0.11/24\"]");
}

static void what_the_guest_does_not_show_was_not_done(void **state)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 500);
    CLEANUP(json_freep) json_t *wanted = wanted_of("[\"10.20.0.11/24\"]", NULL, NULL);
    json_t *network = NULL;

    (void)state;
    guest.forgets = true;
    EXPECT_ERR(ERR_TIMEOUT, guest_net_assign(agent, MAC, wanted, &network, soon, &err));
}

static void a_blocked_guest_exec_says_what_to_allow(void **state)
{
    (void)state;
    guest.blocked = true;
    EXPECT_ERR(ERR_UNSUPPORTED, assign(wanted_of("[\"10.20.0.11/24\"]", NULL, NULL), NULL));
    EXPECT_TEXT("guest-exec is blocked there); hint: allow guest-exec in the guest");
}

static void a_guest_without_ip_is_told_in_its_words(void **state)
{
    (void)state;
    guest.no_ip = true;
    EXPECT_ERR(ERR_STATE, assign(wanted_of("[\"10.20.0.11/24\"]", NULL, NULL), NULL));
    EXPECT_TEXT("run ip in the guest");
    EXPECT_TEXT("Failed to execute child process");
}

static void a_program_that_hangs_ends_with_the_callers_time(void **state)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 300);
    CLEANUP(json_freep) json_t *wanted = wanted_of("[\"10.20.0.11/24\"]", NULL, NULL);
    json_t *network = NULL;

    (void)state;
    guest.hangs = true;
    EXPECT_ERR(ERR_TIMEOUT, guest_net_assign(agent, MAC, wanted, &network, soon, &err));
    EXPECT_TEXT("wait for ip in the guest");
}

static void a_card_that_is_not_in_the_guest_is_not_found(void **state)
{
    json_t *network = NULL;

    (void)state;
    EXPECT_ERR(ERR_NOT_FOUND,
               guest_net_read(agent, "52:54:00:00:00:99", NULL, &network, cancel, &err));
    EXPECT_TEXT("no network card 52:54:00:00:00:99");
}

static void lists_that_are_no_addresses_are_refused(void **state)
{
    CLEANUP(json_freep) json_t *bad = json_pack("[s]", "10.0.0.5");
    CLEANUP(json_freep) json_t *two = json_pack("[s, s]", "10.0.0.1", "10.0.0.2");
    json_t *wanted = NULL;

    (void)state;
    EXPECT_ERR(ERR_INVALID, guest_net_wanted(bad, NULL, NULL, &wanted, &err));
    EXPECT_ERR(ERR_INVALID, guest_net_wanted(NULL, two, NULL, &wanted, &err));
    EXPECT_TEXT("two gateways of one family");
}

#define GUEST_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        GUEST_TEST(a_card_gets_its_address_and_loses_the_old_one),
        GUEST_TEST(both_families_are_set_in_one_step),
        GUEST_TEST(a_family_that_is_not_named_is_left_alone),
        GUEST_TEST(what_is_so_already_is_not_touched),
        GUEST_TEST(a_delete_that_takes_others_along_is_made_good),
        GUEST_TEST(what_was_there_can_be_put_back),
        GUEST_TEST(an_address_that_the_guest_refuses_is_told_in_its_words),
        GUEST_TEST(what_the_guest_does_not_show_was_not_done),
        GUEST_TEST(a_blocked_guest_exec_says_what_to_allow),
        GUEST_TEST(a_guest_without_ip_is_told_in_its_words),
        GUEST_TEST(a_program_that_hangs_ends_with_the_callers_time),
        GUEST_TEST(a_card_that_is_not_in_the_guest_is_not_found),
        cmocka_unit_test(lists_that_are_no_addresses_are_refused),
    };
    return cmocka_run_group_tests_name("guest_net", tests, NULL, NULL);
}
