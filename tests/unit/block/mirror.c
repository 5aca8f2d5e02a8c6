// SPDX-License-Identifier: Apache-2.0
/* The mirror against a monitor that says things in an order a real QEMU keeps only now and then. */
#undef _FORTIFY_SOURCE /* it makes an inline function of recv, which is ours here */
#include "block/mirror.h"

#include "base/fs.h"
#include "base/mem.h"
#include "qemu/graph.h"
#include "support/expect.h"
#include "support/qemu/fake_monitor.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MIB (UINT64_C(1) << 20)

static struct fake_monitor monitor;
static char job[64];

/* Ready as soon as it starts; its end stands before the answer to the cancel. */
static char *ends_before_it_answers(void *ctx, const json_t *command)
{
    const char *name = json_get_str(command, "execute", "");
    CLEANUP(mem_freep) char *text = NULL;

    (void)ctx;
    if (str_eq(name, "blockdev-mirror")) {
        (void)snprintf(job, sizeof(job), "%s",
                       json_get_str(json_object_get(command, "arguments"), "job-id", ""));
        text =
            mem_printf("{\"return\": {}, \"id\": @ID}\n{\"event\": \"BLOCK_JOB_READY\", \"data\": "
                       "{\"device\": \"%s\"}}",
                       job);
        return fake_qmp_say(text);
    }
    if (str_eq(name, "block-job-cancel")) {
        text = mem_printf("{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"%s\"}}\n"
                          "{\"return\": {}, \"id\": @ID}",
                          job);
        return fake_qmp_say(text);
    }
    return fake_qmp_ok();
}

static struct mirror_config config_in(const char *dir)
{
    return (struct mirror_config){.disk = "vda",
                                  .node = "d0",
                                  .size = 64 * MIB,
                                  .tag = "muster-test",
                                  .work_dir = dir,
                                  .plugin_path = MUSTER_BINARY_DIR "/nbdkit-muster-plugin.so"};
}

static int disconnect(void **state)
{
    fake_monitor_close(&monitor);
    return tmpdir_teardown(state);
}

static void an_end_that_comes_before_the_answer_to_the_cancel_is_seen(void **dir)
{
    const struct mirror_config config = config_in(*dir);
    struct mirror *mirror = NULL;
    struct source_piece piece;

    fake_monitor_open(&monitor, *dir, ends_before_it_answers);
    EXPECT_OK(mirror_open(&config, monitor.qmp, &mirror, monitor.cancel, &err));
    EXPECT_OK(mirror_next(mirror, &piece, monitor.cancel, &err));
    assert_int_equal(piece.len, 0);
    mirror_close(mirror);
}

/* --- An event at any moment ------------------------------------------------------------------- */

#define MOMENTS 4

static int watched = -1;       /* the monitor's socket */
static unsigned looks_to_come; /* that find it empty; after the last one the mirror is ready */

/* The program's own, so that the moment is exact: just after the socket was seen empty. */
ssize_t recv(int fd, void *buf, size_t len, int flags)
{
    ssize_t n = recvfrom(fd, buf, len, flags, NULL, NULL);

    if (n < 0 && errno == EAGAIN && fd == watched && looks_to_come) {
        fake_qmp_tell(monitor.fake, --looks_to_come == 0
                                        ? "{\"event\": \"BLOCK_JOB_READY\", \"data\": "
                                          "{\"device\": \"muster-test-mirror\"}}\n"
                                        : "{\"event\": \"RTC_CHANGE\"}\n");
        errno = EAGAIN;
    }
    return n;
}

static char *says_when_it_is_ready_later(void *ctx, const json_t *command)
{
    return str_eq(json_get_str(command, "execute", ""), "blockdev-mirror")
               ? fake_qmp_ok()
               : ends_before_it_answers(ctx, command);
}

static void a_ready_that_comes_at_any_moment_is_seen(void **dir)
{
    const struct mirror_config config = config_in(*dir);
    struct source_piece piece;

    (void)snprintf(job, sizeof(job), "muster-test-mirror");
    fake_monitor_open(&monitor, *dir, says_when_it_is_ready_later);
    watched = qmp_fd(monitor.qmp);
    for (unsigned moment = 1; moment <= MOMENTS; moment++) {
        struct mirror *mirror = NULL;

        EXPECT_OK(mirror_open(&config, monitor.qmp, &mirror, monitor.cancel, &err));
        looks_to_come = moment;
        EXPECT_OK(mirror_next(mirror, &piece, monitor.cancel, &err));
        assert_int_equal(piece.len, 0);
        assert_int_equal(looks_to_come, 0);
        mirror_close(mirror);
    }
}

static void a_job_is_let_end_only_with_the_lock(void **dir)
{
    CLEANUP(mem_freep) char *monitor_path = path_join(*dir, "qmp");
    struct mirror_config config = config_in(*dir);
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 100);
    CLEANUP(fd_close) int theirs = -1;
    struct mirror *mirror = NULL;
    struct source_piece piece;

    config.qmp_path = monitor_path;
    fake_monitor_open(&monitor, *dir, ends_before_it_answers);
    EXPECT_OK(mirror_open(&config, monitor.qmp, &mirror, monitor.cancel, &err));
    EXPECT_OK(graph_lock(monitor_path, &theirs, NULL, &err));
    EXPECT_ERR(ERR_TIMEOUT, mirror_next(mirror, &piece, soon, &err));
    assert_int_equal(fake_qmp_count(monitor.fake, "block-job-cancel"), 0);
    fd_close(&theirs);
    EXPECT_OK(mirror_next(mirror, &piece, monitor.cancel, &err));
    assert_int_equal(piece.len, 0);
    assert_int_equal(fake_qmp_count(monitor.fake, "block-job-cancel"), 1);
    EXPECT_OK(graph_lock(monitor_path, &theirs, NULL, &err)); /* let go with the job */
    mirror_close(mirror);
}

/* --- With a monitor that is lent ------------------------------------------------------------ */

static const char *listed; /* what query-block-jobs says; it ends when it is cancelled */

static char *tells_only_who_asks(void *ctx, const json_t *command)
{
    const char *name = json_get_str(command, "execute", "");
    CLEANUP(mem_freep) char *text = NULL;

    (void)ctx;
    if (str_eq(name, "block-job-cancel"))
        listed = "[]";
    if (!str_eq(name, "query-block-jobs"))
        return fake_qmp_ok();
    text = mem_printf("{\"return\": %s, \"id\": @ID}", listed);
    return fake_qmp_say(text);
}

static struct mirror *open_lent(const char *dir)
{
    struct mirror_config config = config_in(dir);
    struct mirror *mirror = NULL;

    config.lent = true;
    fake_monitor_open(&monitor, dir, tells_only_who_asks);
    EXPECT_OK(mirror_open(&config, monitor.qmp, &mirror, monitor.cancel, &err));
    return mirror;
}

static void a_job_that_is_ready_is_let_end_and_then_all_has_come(void **dir)
{
    struct mirror *mirror = open_lent(*dir);
    struct source_piece piece;

    listed = "[{\"device\": \"muster-test-mirror\", \"ready\": false}]";
    EXPECT_OK(mirror_look(mirror, monitor.cancel, &err));
    assert_int_equal(fake_qmp_count(monitor.fake, "block-job-cancel"), 0);
    assert_int_equal(mirror_next_within(mirror, 1, &piece, monitor.cancel, &err), 0);
    listed = "[{\"device\": \"muster-test-mirror\", \"ready\": true}]";
    EXPECT_OK(mirror_look(mirror, monitor.cancel, &err));
    assert_int_equal(fake_qmp_count(monitor.fake, "block-job-cancel"), 1);
    assert_int_equal(mirror_next_within(mirror, 1, &piece, monitor.cancel, &err), 0);
    EXPECT_OK(mirror_look(mirror, monitor.cancel, &err));
    assert_int_equal(mirror_next_within(mirror, 1, &piece, monitor.cancel, &err), 1);
    assert_int_equal(piece.len, 0);
    assert_false(mirror_wants_a_look(mirror, 0));
    mirror_close(mirror);
}

static void a_job_that_is_gone_before_it_was_ready_has_failed(void **dir)
{
    struct mirror *mirror = open_lent(*dir);

    listed = "[{\"device\": \"another\", \"ready\": true}]";
    EXPECT_ERR(ERR_IO, mirror_look(mirror, monitor.cancel, &err));
    EXPECT_TEXT("disk vda: the mirror ended before it was through");
    mirror_close(mirror);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_end_that_comes_before_the_answer_to_the_cancel_is_seen,
                                        tmpdir_setup, disconnect),
        cmocka_unit_test_setup_teardown(a_ready_that_comes_at_any_moment_is_seen, tmpdir_setup,
                                        disconnect),
        cmocka_unit_test_setup_teardown(a_job_is_let_end_only_with_the_lock, tmpdir_setup,
                                        disconnect),
        cmocka_unit_test_setup_teardown(a_job_that_is_ready_is_let_end_and_then_all_has_come,
                                        tmpdir_setup, disconnect),
        cmocka_unit_test_setup_teardown(a_job_that_is_gone_before_it_was_ready_has_failed,
                                        tmpdir_setup, disconnect),
    };
    return cmocka_run_group_tests_name("mirror", tests, NULL, NULL);
}
