// SPDX-License-Identifier: Apache-2.0
#include "base/ip.h"

#include "support/expect.h"

static struct ip cidr(const char *text)
{
    struct ip ip;

    if (!ip_parse_cidr(text, &ip))
        fail_msg("\"%s\" was refused", text);
    return ip;
}

static void what_is_parsed_is_written_in_its_usual_form(void **state)
{
    struct ip ip;
    char buf[IP_TEXT_BYTES];

    (void)state;
    ip = cidr("10.20.0.11/24");
    assert_string_equal(ip_cidr_text(&ip, buf), "10.20.0.11/24");
    assert_string_equal(ip_text(&ip, buf), "10.20.0.11");
    ip = cidr("2001:DB8:0:0::11/64");
    assert_string_equal(ip_cidr_text(&ip, buf), "2001:db8::11/64");
    assert_true(ip_parse("10.0.0.1", &ip));
    assert_int_equal(ip.prefix, 32);
    assert_true(ip_parse("fe80::1", &ip));
    assert_int_equal(ip.prefix, 128);
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const bad[] = {"",
                                      "10.0.0.1",
                                      "10.0.0.1/",
                                      "10.0.0.1/33",
                                      "10.0.0/24",
                                      "10.0.0.256/8",
                                      "10.0.0.1/-1",
                                      "10.0.0.1/ 8",
                                      "::1/129",
                                      "db1/24",
                                      "10.0.0.1/24x",
                                      "/24",
                                      "10.0.0.1/1/2"};
    struct ip ip;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (ip_parse_cidr(bad[i], &ip))
            fail_msg("\"%s\" was taken", bad[i]);
    assert_false(ip_parse("10.0.0.1/24", &ip));
    assert_false(ip_parse("web1", &ip));
}

static void a_network_has_those_of_its_prefix(void **state)
{
    struct ip net = cidr("10.20.1.11/23");
    struct ip six = cidr("2001:db8:0:8::1/61");
    struct ip ip;

    (void)state;
    assert_true(ip_parse("10.20.0.1", &ip) && ip_is_within(&ip, &net));
    assert_true(ip_parse("10.20.2.1", &ip) && !ip_is_within(&ip, &net));
    assert_true(ip_parse("2001:db8:0:f::1", &ip) && ip_is_within(&ip, &six));
    assert_true(ip_parse("2001:db8:0:10::1", &ip) && !ip_is_within(&ip, &six));
    assert_false(ip_is_within(&ip, &net));
}

static void some_addresses_are_no_machine_s(void **state)
{
    static const char *const bad[] = {
        "10.20.0.0/24", "10.20.0.255/24", "127.0.0.1/8", "0.0.0.0/8",     "224.0.0.1/24",
        "::/64",        "::1/128",        "ff02::1/64",  "2001:db8::/64", "10.0.0.1/0"};
    static const char *const good[] = {"10.20.0.1/24", "10.20.0.0/31",   "10.20.0.255/16",
                                       "10.20.0.1/32", "2001:db8::1/64", "2001:db8::/127"};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct ip ip = cidr(bad[i]);
        if (ip_is_host(&ip))
            fail_msg("%s was taken", bad[i]);
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct ip ip = cidr(good[i]);
        if (!ip_is_host(&ip))
            fail_msg("%s was refused", good[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_parsed_is_written_in_its_usual_form),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(a_network_has_those_of_its_prefix),
        cmocka_unit_test(some_addresses_are_no_machine_s),
    };
    return cmocka_run_group_tests_name("ip", tests, NULL, NULL);
}
