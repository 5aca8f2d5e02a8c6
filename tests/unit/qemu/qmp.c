// SPDX-License-Identifier: Apache-2.0
#include "qemu/qmp.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/qemu/fake_monitor.h"
#include "support/tmpdir.h"

#include <stdlib.h>

static struct fake_monitor monitor;

static void connect_to(const char *dir, char *(*answer)(void *ctx, const json_t *command))
{
    fake_monitor_open(&monitor, dir, answer);
}

static int disconnect(void **state)
{
    fake_monitor_close(&monitor);
    return tmpdir_teardown(state);
}

static const char *command_name(const json_t *command)
{
    return json_get_str(command, "execute", "");
}

static char *refuse(void *ctx, const json_t *command)
{
    (void)ctx;
    if (str_eq(command_name(command), "stop"))
        return fake_qmp_say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no way\"}, "
                            "\"id\": @ID}");
    if (str_eq(command_name(command), "blockdev-del"))
        return fake_qmp_say("{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"what?\"}, "
                            "\"id\": @ID}");
    if (str_eq(command_name(command), "unknown"))
        return fake_qmp_say("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"?\"}, "
                            "\"id\": @ID}");
    if (str_eq(command_name(command), "query-status"))
        return fake_qmp_say("{\"return\": {\"status\": \"running\"}, \"id\": @ID}");
    return fake_qmp_ok();
}

static void a_result_is_given(void **dir)
{
    CLEANUP(json_freep) json_t *result = NULL;

    connect_to(*dir, refuse);
    EXPECT_OK(qmp_command(monitor.qmp, "query-status", NULL, &result, monitor.cancel, &err));
    assert_string_equal(json_get_str(result, "status", ""), "running");
}

static void a_refusal_has_qemus_words(void **dir)
{
    connect_to(*dir, refuse);
    EXPECT_ERR(ERR_STATE, qmp_command(monitor.qmp, "stop", NULL, NULL, monitor.cancel, &err));
    EXPECT_TEXT("QEMU refused stop: no way");
    EXPECT_ERR(ERR_NOT_FOUND,
               qmp_command(monitor.qmp, "blockdev-del", NULL, NULL, monitor.cancel, &err));
    EXPECT_ERR(ERR_UNSUPPORTED,
               qmp_command(monitor.qmp, "unknown", NULL, NULL, monitor.cancel, &err));
}

static char *say_garbage(void *ctx, const json_t *command)
{
    (void)ctx;
    if (str_eq(command_name(command), "stop"))
        return fake_qmp_say("{\"return\": {, \"id\": 1}");
    if (str_eq(command_name(command), "cont"))
        return fake_qmp_say("{\"id\": @ID}");
    return fake_qmp_ok();
}

static void an_answer_that_is_no_json_is_a_protocol_error(void **dir)
{
    connect_to(*dir, say_garbage);
    EXPECT_ERR(ERR_PROTOCOL, qmp_command(monitor.qmp, "stop", NULL, NULL, monitor.cancel, &err));
    EXPECT_ERR(ERR_NET, qmp_command(monitor.qmp, "query-status", NULL, NULL, monitor.cancel, &err));
}

static void an_answer_without_a_return_is_a_protocol_error(void **dir)
{
    connect_to(*dir, say_garbage);
    EXPECT_ERR(ERR_PROTOCOL, qmp_command(monitor.qmp, "cont", NULL, NULL, monitor.cancel, &err));
}

static char *die_in_the_middle(void *ctx, const json_t *command)
{
    (void)ctx;
    if (str_eq(command_name(command), "qmp_capabilities"))
        return fake_qmp_ok();
    return NULL;
}

static void a_closed_monitor_means_that_qemu_died(void **dir)
{
    connect_to(*dir, die_in_the_middle);
    EXPECT_ERR(ERR_NET, qmp_command(monitor.qmp, "stop", NULL, NULL, monitor.cancel, &err));
    EXPECT_TEXT("QEMU died");
    EXPECT_ERR(ERR_NET, qmp_command(monitor.qmp, "cont", NULL, NULL, monitor.cancel, &err));
    EXPECT_TEXT("QEMU died");
}

/* The answer is cut in the middle of its line. */
static char *half_an_answer(void *ctx, const json_t *command)
{
    bool *said = ctx;
    (void)said;
    if (str_eq(command_name(command), "qmp_capabilities"))
        return fake_qmp_ok();
    if (str_eq(command_name(command), "stop"))
        return mem_strdup("{\"return\": {\"sta");
    return NULL;
}

static void an_answer_cut_in_the_middle_never_counts(void **dir)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 50);

    connect_to(*dir, half_an_answer);
    EXPECT_ERR(ERR_TIMEOUT, qmp_command(monitor.qmp, "stop", NULL, NULL, soon, &err));
    EXPECT_ERR(ERR_NET, qmp_command(monitor.qmp, "cont", NULL, NULL, monitor.cancel, &err));
}

/* "slow" is answered only when the next command comes. */
static char *answer_late(void *ctx, const json_t *command)
{
    (void)ctx;
    if (str_eq(command_name(command), "slow"))
        return mem_strdup("");
    if (str_eq(command_name(command), "next"))
        return fake_qmp_say("{\"return\": \"late\", \"id\": 2}\n"
                            "{\"return\": \"mine\", \"id\": @ID}");
    return fake_qmp_ok();
}

static void a_late_answer_is_not_taken_for_the_next_one(void **dir)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 50);
    CLEANUP(json_freep) json_t *result = NULL;

    connect_to(*dir, answer_late);
    EXPECT_ERR(ERR_TIMEOUT, qmp_command(monitor.qmp, "slow", NULL, NULL, soon, &err));
    EXPECT_OK(qmp_command(monitor.qmp, "next", NULL, &result, monitor.cancel, &err));
    assert_string_equal(json_string_value(result), "mine");
}

static void a_fired_cancel_ends_a_command(void **dir)
{
    CLEANUP(cancel_freep) struct cancel *fired = cancel_new(NULL, NULL, CANCEL_NEVER);

    connect_to(*dir, answer_late);
    cancel_fire(fired);
    EXPECT_ERR(ERR_CANCELLED, qmp_command(monitor.qmp, "slow", NULL, NULL, fired, &err));
}

/* A thousand events before the answer, one of another kind first. */
static char *storm(void *ctx, const json_t *command)
{
    (void)ctx;
    if (str_eq(command_name(command), "storm")) {
        struct str text = STR_EMPTY;
        str_add(&text, "{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"j1\"}}\n");
        for (int i = 0; i < 1000; i++)
            str_addf(&text, "{\"event\": \"BLOCK_IO_ERROR\", \"data\": {\"n\": %d}}\r\n", i);
        str_add(&text, "{\"return\": {}, \"id\": @ID}\n");
        return str_take(&text);
    }
    return fake_qmp_ok();
}

static void a_storm_of_events_pushes_no_other_kind_out(void **dir)
{
    static const char *const ends[] = {"BLOCK_JOB_CANCELLED", "BLOCK_JOB_COMPLETED", NULL};
    static const char *const errors[] = {"BLOCK_IO_ERROR", NULL};
    const struct qmp_want want = {ends, "device", "j1"};
    const struct qmp_want noise = {errors, NULL, NULL};
    CLEANUP(json_freep) json_t *event = NULL;
    CLEANUP(json_freep) json_t *oldest = NULL;

    connect_to(*dir, storm);
    EXPECT_OK(qmp_command(monitor.qmp, "storm", NULL, NULL, monitor.cancel, &err));
    EXPECT_OK(qmp_wait_event(monitor.qmp, &want, &event, monitor.cancel, &err));
    EXPECT_OK(qmp_wait_event(monitor.qmp, &noise, &oldest, monitor.cancel, &err));
    assert_int_equal(json_get_u64(json_object_get(oldest, "data"), "n", 0),
                     1000 - QMP_EVENTS_PER_NAME);
}

static void an_event_of_another_job_is_not_taken(void **dir)
{
    static const char *const ends[] = {"BLOCK_JOB_COMPLETED", NULL};
    const struct qmp_want want = {ends, "device", "j2"};
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 50);
    json_t *event = NULL;

    connect_to(*dir, storm);
    EXPECT_OK(qmp_command(monitor.qmp, "storm", NULL, NULL, monitor.cancel, &err));
    EXPECT_ERR(ERR_TIMEOUT, qmp_wait_event(monitor.qmp, &want, &event, soon, &err));
    EXPECT_OK(qmp_take_event(monitor.qmp, &want, &event, &err));
    assert_null(event);
}

static void a_socket_nobody_listens_on_is_a_net_error(void **dir)
{
    char *path = path_join(*dir, "nobody");

    EXPECT_ERR(ERR_NET, qmp_open(path, clock_real(), &monitor.qmp, NULL, &err));
    EXPECT_TEXT("nobody");
    free(path);
}

static void a_path_too_long_for_a_socket_is_said(void **dir)
{
    char path[200];

    (void)dir;
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    EXPECT_ERR(ERR_INVALID, qmp_open(path, clock_real(), &monitor.qmp, NULL, &err));
    EXPECT_TEXT("shorter folder");
}

static void a_monitor_that_greets_nobody_times_out(void **dir)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 50);
    char *path = path_join(*dir, "qmp");
    struct fake_qmp_config config = {.path = path, .greeting = "", .answer = refuse};

    monitor.fake = fake_qmp_new(&config);
    EXPECT_ERR(ERR_TIMEOUT, qmp_open(path, clock_real(), &monitor.qmp, soon, &err));
    EXPECT_TEXT("another client");
    free(path);
}

static void a_monitor_that_greets_with_something_else_is_refused(void **dir)
{
    char *path = path_join(*dir, "qmp");
    struct fake_qmp_config config = {
        .path = path, .greeting = "{\"hello\": 1}\n", .answer = refuse};

    monitor.fake = fake_qmp_new(&config);
    EXPECT_ERR(ERR_PROTOCOL, qmp_open(path, clock_real(), &monitor.qmp, NULL, &err));
    free(path);
}

static int asked;

/* The second time it is asked for its capabilities it has given them. */
static char *say_five(void *ctx, const json_t *command)
{
    (void)ctx;
    if (str_eq(command_name(command), "five"))
        return fake_qmp_say("{\"return\": {\"number\": 5}, \"id\": @ID}");
    return asked++ > 0 ? fake_qmp_say("{\"error\": {\"class\": \"CommandNotFound\", \"desc\": "
                                      "\"already complete\"}, \"id\": @ID}")
                       : fake_qmp_ok();
}

static void a_second_passes(void *ctx)
{
    clock_fake_advance(ctx, 1000);
}

/* QEMU 7.2 at its start, one time in some thousand. */
static void a_monitor_that_waits_for_another_client_is_given_one(const char *dir, bool greeted)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "qmp");
    struct clock_fake clock;
    const struct fake_qmp_config config = {.path = path,
                                           .answer = say_five,
                                           .ctx = &clock,
                                           .stuck = greeted ? FAKE_QMP_STUCK_AFTER_GREETING
                                                            : FAKE_QMP_STUCK_BEFORE_GREETING,
                                           .while_stuck = a_second_passes};

    asked = 0;
    clock_fake_init(&clock, 1000000);
    monitor.fake = fake_qmp_new(&config);
    EXPECT_OK(qmp_open(path, &clock.clock, &monitor.qmp, NULL, &err));
    CLEANUP(json_freep) json_t *result = NULL;
    EXPECT_OK(qmp_command(monitor.qmp, "five", NULL, &result, NULL, &err));
    assert_int_equal(json_integer_value(json_object_get(result, "number")), 5);
}

static void a_monitor_stuck_before_its_greeting_is_freed(void **dir)
{
    a_monitor_that_waits_for_another_client_is_given_one(*dir, false);
}

static void a_monitor_stuck_after_its_greeting_is_freed(void **dir)
{
    a_monitor_that_waits_for_another_client_is_given_one(*dir, true);
}

#define QMP_TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, disconnect)

int main(void)
{
    const struct CMUnitTest tests[] = {
        QMP_TEST(a_result_is_given),
        QMP_TEST(a_refusal_has_qemus_words),
        QMP_TEST(an_answer_that_is_no_json_is_a_protocol_error),
        QMP_TEST(an_answer_without_a_return_is_a_protocol_error),
        QMP_TEST(a_closed_monitor_means_that_qemu_died),
        QMP_TEST(an_answer_cut_in_the_middle_never_counts),
        QMP_TEST(a_late_answer_is_not_taken_for_the_next_one),
        QMP_TEST(a_fired_cancel_ends_a_command),
        QMP_TEST(a_storm_of_events_pushes_no_other_kind_out),
        QMP_TEST(a_monitor_stuck_before_its_greeting_is_freed),
        QMP_TEST(a_monitor_stuck_after_its_greeting_is_freed),
        QMP_TEST(an_event_of_another_job_is_not_taken),
        QMP_TEST(a_socket_nobody_listens_on_is_a_net_error),
        QMP_TEST(a_path_too_long_for_a_socket_is_said),
        QMP_TEST(a_monitor_that_greets_nobody_times_out),
        QMP_TEST(a_monitor_that_greets_with_something_else_is_refused),
    };
    return cmocka_run_group_tests_name("qmp", tests, NULL, NULL);
}
