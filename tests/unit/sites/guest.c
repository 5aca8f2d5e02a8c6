// SPDX-License-Identifier: Apache-2.0
/* The network of a recovered machine's guest. */
#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sites/estates.h"

static json_t *asked(const char *id, const char *address)
{
    return json_pack("{s:s, s:s, s:b, s:s, s:s}", "machine", "db1", "run", "lyon-4", "test", 1,
                     "id", id, "addresses", address);
}

static void start(struct estates *e)
{
    estates_tell(e->at_lyon, "instance.start",
                 json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", "db1", "group", "db1", "run",
                           "lyon-4", "test", 1, "point", 2));
    e->fake.guest =
        json_pack("{s:{s:[s], s:[]}}", "ipv4", "addresses", "10.10.0.11/24", "gateways");
}

static const char *address_of(struct estates *e)
{
    const json_t *list = json_object_get(json_object_get(e->fake.guest, "ipv4"), "addresses");

    return json_string_value(json_array_get(list, 0));
}

static void a_card_is_found_by_its_place_or_its_mac(void **state)
{
    struct estates *e = *state;
    json_t *by_mac = asked("lyon-4.3.0", "10.20.0.11/24");
    json_t *by_number = asked("lyon-4.3.0", "10.20.0.11/24");
    json_t *wrong = asked("lyon-4.3.0", "10.20.0.11/24");

    start(e);
    (void)json_object_set_new(by_mac, "nic", json_string("52:54:00:77:00:11"));
    (void)json_object_set_new(by_number, "nic", json_integer(2));
    (void)json_object_set_new(wrong, "nic", json_string("52:54:00:00:00:99"));
    estates_tell(e->at_lyon, "guest.assign", by_mac);
    assert_string_equal(e->fake.guest_mac, "52:54:00:77:00:11");
    EXPECT_ERR(ERR_NOT_FOUND, site_ask(e->at_lyon, "guest.assign", by_number, NULL, NULL, &err));
    EXPECT_TEXT("db1 has no network card 2; it has 1");
    EXPECT_ERR(ERR_NOT_FOUND, site_ask(e->at_lyon, "guest.assign", wrong, NULL, NULL, &err));
    EXPECT_TEXT("db1 has no network card 52:54:00:00:00:99");
}

static void what_was_there_comes_back_even_after_a_failed_try(void **state)
{
    struct estates *e = *state;

    start(e);
    e->fake.guest_fail = ERR_STATE;
    EXPECT_ERR(ERR_STATE, site_ask(e->at_lyon, "guest.assign", asked("lyon-4.3.0", "10.20.0.11/24"),
                                   NULL, NULL, &err));
    EXPECT_TEXT("db1: the guest refuses");
    assert_string_equal(address_of(e), "10.20.0.11/24"); /* half of it was done */
    CLEANUP(json_freep)
    json_t *seen = estates_ask(e->at_lyon, "guest.assign", asked("lyon-4.3.0", "10.20.0.11/24"));
    assert_true(json_get_bool(seen, "holds", false));
    assert_string_equal(json_get_str(seen, "text", ""), "10.20.0.11/24");
    const json_t *before = json_object_get(json_object_get(seen, "before"), "ipv4");
    assert_string_equal(json_string_value(json_array_get(json_object_get(before, "addresses"), 0)),
                        "10.10.0.11/24");
    estates_tell(e->at_lyon, "guest.restore", asked("lyon-4.3.0", "10.20.0.11/24"));
    assert_string_equal(address_of(e), "10.10.0.11/24");
    estates_tell(e->at_lyon, "guest.restore", asked("lyon-4.3.0", "10.20.0.11/24"));
    assert_int_equal(e->fake.assignments, 3);
}

static void two_steps_are_put_back_one_after_the_other(void **state)
{
    struct estates *e = *state;

    start(e);
    estates_tell(e->at_lyon, "guest.assign", asked("lyon-4.3.0", "10.20.0.11/24"));
    estates_tell(e->at_lyon, "guest.assign", asked("lyon-4.4.0", "10.30.0.11/24"));
    estates_tell(e->at_lyon, "guest.restore", asked("lyon-4.4.0", ""));
    assert_string_equal(address_of(e), "10.20.0.11/24");
    estates_tell(e->at_lyon, "guest.restore", asked("lyon-4.3.0", ""));
    assert_string_equal(address_of(e), "10.10.0.11/24");
}

static void of_a_machine_that_is_off_or_gone_nothing_is_put_back(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "guest.restore", asked("lyon-4.3.0", ""));
    start(e);
    estates_tell(e->at_lyon, "guest.assign", asked("lyon-4.3.0", "10.20.0.11/24"));
    provider_fake_find(&e->fake, "lyon-4-db1")->state = INSTANCE_OFF;
    estates_tell(e->at_lyon, "guest.restore", asked("lyon-4.3.0", ""));
    assert_int_equal(e->fake.assignments, 1);
}

static void a_machine_that_was_not_brought_up_is_not_found(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_NOT_FOUND, site_ask(e->at_lyon, "guest.assign",
                                       asked("lyon-4.3.0", "10.20.0.11/24"), NULL, NULL, &err));
    EXPECT_TEXT("db1 was not started by run lyon-4");
}

static void a_failback_s_own_machine_is_found(void **state)
{
    struct estates *e = *state;
    json_t *args = asked("paris-4.3.0", "10.20.0.11/24");

    (void)json_object_set_new(args, "test", json_false());
    estates_tell(e->at_paris, "guest.assign", args);
    assert_string_equal(e->fake.guest_mac, "52:54:00:77:00:11");
}

static void a_peer_may_not_touch_guests(void **state)
{
    struct estates *e = *state;

    EXPECT_ERR(ERR_DENIED, site_ask(e->paris_from_lyon, "guest.assign",
                                    asked("lyon-4.3.0", "10.20.0.11/24"), NULL, NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(a_card_is_found_by_its_place_or_its_mac),
        ESTATES_TEST(what_was_there_comes_back_even_after_a_failed_try),
        ESTATES_TEST(two_steps_are_put_back_one_after_the_other),
        ESTATES_TEST(of_a_machine_that_is_off_or_gone_nothing_is_put_back),
        ESTATES_TEST(a_machine_that_was_not_brought_up_is_not_found),
        ESTATES_TEST(a_failback_s_own_machine_is_found),
        ESTATES_TEST(a_peer_may_not_touch_guests),
    };

    return cmocka_run_group_tests_name("guest", tests, NULL, NULL);
}
