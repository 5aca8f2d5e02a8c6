// SPDX-License-Identifier: Apache-2.0
/* Against agents that are played, by real guardians: this program is theirs, too. */
#include "qemu/guardian.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/qemu/fake_agent.h"
#include "support/tmpdir.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 20000

static struct fake_guest guest;
static struct fake_qmp *fake;
static struct guardian *guardian;
static struct cancel *cancel;
static char *agent_path, *note_path;
static struct guardian_machine machine;
static struct guardian_config config;

static int start(void **state)
{
    if (tmpdir_setup(state) < 0)
        return -1;
    fake_guest_init(&guest);
    agent_path = path_join(*state, "agent");
    note_path = path_join(*state, "held.json");
    cancel = cancel_new(NULL, NULL, PATIENCE_MS);
    fake = fake_agent_new(&guest, agent_path);
    machine = (struct guardian_machine){.name = "db1", .agent_path = agent_path};
    config = (struct guardian_config){.note_path = note_path,
                                      .machines = &machine,
                                      .count = 1,
                                      .answer_ms = 2000,
                                      .freeze_ms = 5000,
                                      .hold_ms = 10000};
    return 0;
}

/* Nothing outlives its test: a guardian ends when its machine is gone. */
static int end(void **state)
{
    guardian_closep(&guardian);
    fake_qmp_free(fake);
    cancel_freep(&cancel);
    free(TAKE(agent_path));
    free(TAKE(note_path));
    return tmpdir_teardown(state);
}

static void open_guardian(void)
{
    EXPECT_OK(guardian_open(&config, &guardian, cancel, &err));
}

static bool is_frozen(void)
{
    return fake_guest_is_frozen(&guest);
}

/* Thawed, and nothing is noted any more. */
static void wait_free(void)
{
    while (is_frozen() || fs_exists(note_path))
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
}

static void a_guest_is_frozen_until_it_is_released(void **state)
{
    bool held = false;

    (void)state;
    open_guardian();
    assert_false(is_frozen());
    EXPECT_OK(guardian_freeze(guardian, cancel, &err));
    assert_true(is_frozen());
    assert_true(fs_exists(note_path));
    EXPECT_OK(guardian_release(guardian, false, &held, &err));
    assert_true(held);
    assert_false(is_frozen());
    assert_false(fs_exists(note_path));
    assert_int_equal(guest.thaws, 1);
}

static void a_deaf_agent_is_told_before_anything_is_held(void **state)
{
    (void)state;
    guest.deaf = true;
    config.answer_ms = 200;
    EXPECT_ERR(ERR_TIMEOUT, guardian_open(&config, &guardian, cancel, &err));
    EXPECT_TEXT("does not answer");
    assert_false(fs_exists(note_path));
}

static void an_agent_that_may_not_thaw_does_not_freeze(void **state)
{
    (void)state;
    guest.blocked = true;
    EXPECT_ERR(ERR_UNSUPPORTED, guardian_open(&config, &guardian, cancel, &err));
    EXPECT_TEXT("may not thaw");
    EXPECT_TEXT("; hint: ");
}

static void what_somebody_else_froze_is_left_alone(void **state)
{
    (void)state;
    guest.frozen = true;
    EXPECT_ERR(ERR_STATE, guardian_open(&config, &guardian, cancel, &err));
    EXPECT_TEXT("frozen already");
    assert_int_equal(guest.thaws, 0);
}

static void a_refused_freeze_is_told_and_thawed(void **state)
{
    (void)state;
    guest.refuses = true;
    open_guardian();
    EXPECT_ERR(ERR_STATE, guardian_freeze(guardian, cancel, &err));
    EXPECT_TEXT("hook failed");
    wait_free();
}

static void a_guest_without_file_systems_is_not_consistent(void **state)
{
    (void)state;
    guest.has_nothing = true;
    open_guardian();
    EXPECT_ERR(ERR_STATE, guardian_freeze(guardian, cancel, &err));
    EXPECT_TEXT("no file system");
    wait_free();
}

/* It froze, but its answer never comes. */
static void a_freeze_that_is_late_is_thawed(void **state)
{
    (void)state;
    guest.silent_freeze = true;
    config.freeze_ms = 200;
    open_guardian();
    EXPECT_ERR(ERR_TIMEOUT, guardian_freeze(guardian, cancel, &err));
    wait_free();
    assert_int_equal(guest.freezes, 1);
}

static void an_agent_that_dies_in_between_is_thawed_when_it_is_back(void **state)
{
    (void)state;
    guest.dies_at_freeze = true;
    open_guardian();
    EXPECT_ERR(ERR_NET, guardian_freeze(guardian, cancel, &err));
    wait_free();
}

static void a_thaw_that_fails_is_tried_until_it_succeeds(void **state)
{
    bool held;

    (void)state;
    open_guardian();
    EXPECT_OK(guardian_freeze(guardian, cancel, &err));
    guest.refused_thaws = 2;
    EXPECT_ERR(ERR_STATE, guardian_release(guardian, false, &held, &err));
    EXPECT_TEXT("thaw db1");
    wait_free();
}

static void closing_it_thaws(void **state)
{
    (void)state;
    open_guardian();
    EXPECT_OK(guardian_freeze(guardian, cancel, &err));
    guardian_closep(&guardian);
    wait_free();
}

static void a_cancelled_freeze_is_thawed(void **state)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 100);

    (void)state;
    guest.silent_freeze = true;
    config.freeze_ms = 600000;
    open_guardian();
    EXPECT_ERR(ERR_TIMEOUT, guardian_freeze(guardian, soon, &err));
    wait_free();
}

static void what_is_held_too_long_is_let_go_of_and_does_not_count(void **state)
{
    bool held = true;

    (void)state;
    config.hold_ms = 100;
    open_guardian();
    EXPECT_OK(guardian_freeze(guardian, cancel, &err));
    wait_free();
    EXPECT_OK(guardian_release(guardian, false, &held, &err));
    assert_false(held);
}

static void a_guest_that_somebody_thawed_was_not_held(void **state)
{
    bool held = true;

    (void)state;
    open_guardian();
    EXPECT_OK(guardian_freeze(guardian, cancel, &err));
    fake_guest_thaw(&guest);
    EXPECT_OK(guardian_release(guardian, false, &held, &err));
    assert_false(held);
}

/* The one who asked is killed: a child of the test, so that the guardian is not. */
static void when_its_daemon_is_killed_the_guest_is_thawed(void **state)
{
    int ends[2];
    char byte;
    int status;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct err failure = ERR_EMPTY;
        if (guardian_open(&config, &guardian, NULL, &failure) < 0
            || guardian_freeze(guardian, NULL, &failure) < 0)
            _exit(1);
        (void)!write(ends[1], "x", 1);
        (void)pause();
    }
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_true(is_frozen());
    (void)kill(child, SIGKILL);
    (void)waitpid(child, &status, 0);
    wait_free();
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static pid_t keeper(void)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *note = NULL;

    EXPECT_OK(fs_read_file(fs_real(), note_path, 65536, &text, &err));
    EXPECT_OK(json_parse(str_text(&text), text.len, &note, &err));
    return (pid_t)json_get_u64(note, "pid", 0);
}

static void kill_keeper(void)
{
    const pid_t pid = keeper();
    struct proc_id id;

    EXPECT_OK(proc_identify(pid, &id, &err));
    (void)kill(pid, SIGKILL);
    while (proc_is_alive(&id))
        EXPECT_OK(cancel_sleep(cancel, 5, &err));
}

static void a_killed_guardian_is_replaced_by_whoever_asked_for_it(void **state)
{
    bool held = true;

    (void)state;
    open_guardian();
    EXPECT_OK(guardian_freeze(guardian, cancel, &err));
    kill_keeper();
    assert_true(is_frozen());
    EXPECT_OK(guardian_release(guardian, false, &held, &err));
    assert_false(held);
    assert_false(is_frozen());
    assert_false(fs_exists(note_path));
}

/* Neither guardian nor daemon: the note alone. */
static void leave_a_note(void)
{
    CLEANUP(mem_freep)
    char *text = mem_printf("{\"machines\":[{\"name\":\"db1\",\"agent\":\"%s\",\"qmp\":\"\","
                            "\"asked\":true,\"stop\":false}],\"pid\":0,\"start_ticks\":0}",
                            agent_path);

    guest.frozen = true;
    EXPECT_OK(fs_replace_file(fs_real(), note_path, text, strlen(text), 0600, &err));
}

static void what_a_note_says_is_thawed_by_the_next_one(void **state)
{
    (void)state;
    leave_a_note();
    EXPECT_OK(guardian_settle(note_path, cancel, &err));
    assert_false(is_frozen());
    assert_false(fs_exists(note_path));
    EXPECT_OK(guardian_settle(note_path, cancel, &err));
}

static void or_by_a_process_of_its_own(void **state)
{
    (void)state;
    EXPECT_OK(guardian_settle_later(note_path, NULL, &err));
    leave_a_note();
    EXPECT_OK(guardian_settle_later(note_path, NULL, &err));
    wait_free();
}

static void a_note_about_a_machine_that_is_gone_goes(void **state)
{
    (void)state;
    leave_a_note();
    fake_qmp_free(TAKE(fake));
    (void)unlink(agent_path);
    EXPECT_OK(guardian_settle(note_path, cancel, &err));
    assert_false(fs_exists(note_path));
}

static void nothing_is_frozen_anew_while_it_is_let_go_of(void **state)
{
    struct guardian *second = NULL;

    (void)state;
    open_guardian();
    EXPECT_OK(guardian_freeze(guardian, cancel, &err));
    EXPECT_ERR(ERR_BUSY, guardian_open(&config, &second, cancel, &err));
    EXPECT_TEXT("db1");
    assert_true(is_frozen());
}

#define GUARDIAN_TEST(f) cmocka_unit_test_setup_teardown(f, start, end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        GUARDIAN_TEST(a_guest_is_frozen_until_it_is_released),
        GUARDIAN_TEST(a_deaf_agent_is_told_before_anything_is_held),
        GUARDIAN_TEST(an_agent_that_may_not_thaw_does_not_freeze),
        GUARDIAN_TEST(what_somebody_else_froze_is_left_alone),
        GUARDIAN_TEST(a_refused_freeze_is_told_and_thawed),
        GUARDIAN_TEST(a_guest_without_file_systems_is_not_consistent),
        GUARDIAN_TEST(a_freeze_that_is_late_is_thawed),
        GUARDIAN_TEST(an_agent_that_dies_in_between_is_thawed_when_it_is_back),
        GUARDIAN_TEST(a_thaw_that_fails_is_tried_until_it_succeeds),
        GUARDIAN_TEST(closing_it_thaws),
        GUARDIAN_TEST(a_cancelled_freeze_is_thawed),
        GUARDIAN_TEST(what_is_held_too_long_is_let_go_of_and_does_not_count),
        GUARDIAN_TEST(a_guest_that_somebody_thawed_was_not_held),
        GUARDIAN_TEST(when_its_daemon_is_killed_the_guest_is_thawed),
        GUARDIAN_TEST(a_killed_guardian_is_replaced_by_whoever_asked_for_it),
        GUARDIAN_TEST(what_a_note_says_is_thawed_by_the_next_one),
        GUARDIAN_TEST(or_by_a_process_of_its_own),
        GUARDIAN_TEST(a_note_about_a_machine_that_is_gone_goes),
        GUARDIAN_TEST(nothing_is_frozen_anew_while_it_is_let_go_of),
    };

    if (argc > 1 && str_eq(argv[1], GUARDIAN_WORD))
        return guardian_main(argc, argv);
    return cmocka_run_group_tests_name("guardian", tests, NULL, NULL);
}
