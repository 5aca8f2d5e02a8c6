// SPDX-License-Identifier: Apache-2.0
/* A host that went down without a word: what its machines wait for. */
#include "sites/estate.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/sites/estates.h"

/* Paris' daemon of this start of the host. */
static void boot(struct estates *e, const char *id)
{
    estates_restart_paris(e);
    EXPECT_OK(estate_boot_begin(e->paris, id, &err));
}

static void crash_and_boot(struct estates *e)
{
    boot(e, "boot-1");
    EXPECT_OK(estate_boot_trust(e->paris, "db1", &err)); /* whatever was before */
    boot(e, "boot-2");
}

static json_t *start_args(bool without_peer)
{
    return json_pack("{s:s, s:b}", "machine", "db1", "without_peer", without_peer);
}

static enum instance_state db1(struct estates *e)
{
    const struct fake_machine *machine = provider_fake_find(&e->fake, "machines/db1");

    return machine ? machine->state : INSTANCE_OFF;
}

static void after_a_crash_of_the_host_a_machine_waits_for_its_peer(void **state)
{
    struct estates *e = *state;

    crash_and_boot(e);
    EXPECT_ERR(ERR_STATE,
               site_ask(e->at_paris, "machine.start", start_args(false), NULL, NULL, &err));
    EXPECT_TEXT("lyon, which may have taken db1 over, has not answered");
    EXPECT_TEXT("`muster machine start db1 --without-peer`");
    assert_int_equal(db1(e), INSTANCE_OFF);
}

static void a_restart_of_the_daemon_alone_does_not_forget_the_doubt(void **state)
{
    struct estates *e = *state;

    crash_and_boot(e);
    boot(e, "boot-2");
    assert_true(estate_boot_doubts(e->paris, "db1"));
    EXPECT_OK(estate_boot_end(e->paris, &err));
    boot(e, "boot-3"); /* ended cleanly, and still nobody has heard of lyon */
    assert_true(estate_boot_doubts(e->paris, "db1"));
}

static void a_peer_that_answers_ends_the_doubt(void **state)
{
    struct estates *e = *state;

    crash_and_boot(e);
    e->lyon_answers = true;
    estates_tell(e->at_paris, "machine.start", start_args(false));
    assert_int_equal(db1(e), INSTANCE_RUNNING);
    boot(e, "boot-2");
    assert_false(estate_boot_doubts(e->paris, "db1"));
}

static void a_peer_that_took_it_over_keeps_it_from_being_started(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "group.promote",
                 json_pack("{s:s, s:s, s:i, s:i}", "group", "db1", "run", "lyon-4", "point", 0,
                           "expected", 1));
    crash_and_boot(e);
    e->lyon_answers = true;
    EXPECT_ERR(ERR_FENCED,
               site_ask(e->at_paris, "machine.start", start_args(false), NULL, NULL, &err));
    EXPECT_TEXT("failed over to lyon (generation 2)");
    assert_int_equal(db1(e), INSTANCE_OFF);
    EXPECT_ERR(ERR_FENCED,
               site_ask(e->at_paris, "machine.start", start_args(true), NULL, NULL, &err));
}

static void a_person_can_take_it_on_himself(void **state)
{
    struct estates *e = *state;

    crash_and_boot(e);
    estates_tell(e->at_paris, "machine.start", start_args(true));
    assert_int_equal(db1(e), INSTANCE_RUNNING);
    assert_false(estate_boot_doubts(e->paris, "db1"));
}

static void a_host_that_was_shut_down_starts_as_before(void **state)
{
    struct estates *e = *state;

    boot(e, "boot-1");
    EXPECT_OK(estate_boot_trust(e->paris, "db1", &err));
    EXPECT_OK(estate_boot_end(e->paris, &err));
    boot(e, "boot-2");
    estates_tell(e->at_paris, "machine.start", start_args(false));
    assert_int_equal(db1(e), INSTANCE_RUNNING);
}

static void a_daemon_that_was_killed_starts_as_before(void **state)
{
    struct estates *e = *state;

    boot(e, "boot-1");
    EXPECT_OK(estate_boot_trust(e->paris, "db1", &err));
    boot(e, "boot-1");
    estates_tell(e->at_paris, "machine.start", start_args(false));
    assert_int_equal(db1(e), INSTANCE_RUNNING);
}

static void a_note_that_cannot_be_read_is_no_clean_end(void **state)
{
    struct estates *e = *state;
    CLEANUP(mem_freep) char *path = mem_printf("%s/paris/boot.json", e->root);

    EXPECT_OK(fs_replace_file(fs_real(), path, "{\"boot\"", 7, 0600, &err));
    boot(e, "boot-1");
    assert_true(estate_boot_doubts(e->paris, "db1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ESTATES_TEST(after_a_crash_of_the_host_a_machine_waits_for_its_peer),
        ESTATES_TEST(a_restart_of_the_daemon_alone_does_not_forget_the_doubt),
        ESTATES_TEST(a_peer_that_answers_ends_the_doubt),
        ESTATES_TEST(a_peer_that_took_it_over_keeps_it_from_being_started),
        ESTATES_TEST(a_person_can_take_it_on_himself),
        ESTATES_TEST(a_host_that_was_shut_down_starts_as_before),
        ESTATES_TEST(a_daemon_that_was_killed_starts_as_before),
        ESTATES_TEST(a_note_that_cannot_be_read_is_no_clean_end),
    };
    return cmocka_run_group_tests_name("boot", tests, NULL, NULL);
}
