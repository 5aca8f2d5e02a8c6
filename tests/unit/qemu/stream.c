// SPDX-License-Identifier: Apache-2.0
#include "qemu/stream.h"

#include "base/fs.h"
#include "base/mem.h"
#include "qemu/graph.h"
#include "support/expect.h"
#include "support/qemu/fake_monitor.h"
#include "support/tmpdir.h"

#include <stdlib.h>

static struct fake_monitor monitor;
static const char *status; /* of job "s"; NULL: it is gone */
static bool finalizes_itself;

static char *one_stream(void *ctx, const json_t *command)
{
    const char *name = json_get_str(command, "execute", "");
    CLEANUP(mem_freep) char *text = NULL;

    (void)ctx;
    if (str_eq(name, "block-stream"))
        finalizes_itself =
            json_get_bool(json_object_get(command, "arguments"), "auto-finalize", true);
    if (str_eq(name, "job-finalize"))
        status = NULL;
    if (!str_eq(name, "query-block-jobs"))
        return fake_qmp_ok();
    text =
        mem_printf("{\"id\": @ID, \"return\": [%s%s%s]}",
                   status ? "{\"device\": \"s\", \"type\": \"stream\", \"offset\": 5, \"len\": 5, "
                            "\"io-status\": \"ok\", \"status\": \""
                          : "",
                   status ? status : "", status ? "\"}" : "");
    return fake_qmp_say(text);
}

static int disconnect(void **state)
{
    fake_monitor_close(&monitor);
    return tmpdir_teardown(state);
}

static void a_stream_waits_to_be_let_go(void **dir)
{
    struct stream_state now;

    fake_monitor_open(&monitor, *dir, one_stream);
    EXPECT_OK(stream_start(monitor.qmp, "s", "overlay0", 0, monitor.cancel, &err));
    assert_false(finalizes_itself);

    status = "running";
    EXPECT_OK(stream_look(monitor.qmp, "s", &now, monitor.cancel, &err));
    assert_true(now.there && !now.copied);
    EXPECT_ERR(ERR_STATE, stream_finish(monitor.qmp, "s", monitor.cancel, &err));
    assert_int_equal(fake_qmp_count(monitor.fake, "job-finalize"), 0);

    status = "pending";
    EXPECT_OK(stream_look(monitor.qmp, "s", &now, monitor.cancel, &err));
    assert_true(now.there && now.copied);
    EXPECT_OK(stream_finish(monitor.qmp, "s", monitor.cancel, &err));
    assert_int_equal(fake_qmp_count(monitor.fake, "job-finalize"), 1);
    EXPECT_OK(stream_finish(monitor.qmp, "s", monitor.cancel, &err)); /* gone: nothing to do */
    assert_int_equal(fake_qmp_count(monitor.fake, "job-finalize"), 1);
}

static void one_at_a_time_changes_the_jobs_of_a_qemu(void **dir)
{
    CLEANUP(mem_freep) char *control = path_join(*dir, "qmp");
    CLEANUP(mem_freep) char *data = path_join(*dir, "qmp-data");
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 20);
    CLEANUP(fd_close) int first = -1;
    CLEANUP(fd_close) int second = -1;

    EXPECT_OK(graph_lock(control, &first, NULL, &err));
    EXPECT_ERR(ERR_TIMEOUT, graph_lock(data, &second, soon, &err));
    EXPECT_TEXT("graph.lock");
    fd_close(&first);
    EXPECT_OK(graph_lock(data, &second, NULL, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_stream_waits_to_be_let_go, tmpdir_setup, disconnect),
        TMPDIR_TEST(one_at_a_time_changes_the_jobs_of_a_qemu),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
