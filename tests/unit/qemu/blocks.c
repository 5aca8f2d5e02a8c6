// SPDX-License-Identifier: Apache-2.0
#include "qemu/blocks.h"

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

static bool is(const json_t *command, const char *name)
{
    return str_eq(json_get_str(command, "execute", ""), name);
}

static char *some_nodes(void *ctx, const json_t *command)
{
    (void)ctx;
    if (!is(command, "query-named-block-nodes"))
        return fake_qmp_ok();
    return fake_qmp_say(
        "{\"id\": @ID, \"return\": [{\"node-name\": \"d0\", \"image\": {\"virtual-size\": 1024, "
        "\"actual-size\": 512}, \"dirty-bitmaps\": [{\"name\": \"a\", \"granularity\": 4096, "
        "\"count\": 8192, \"recording\": true, \"busy\": false}, {\"granularity\": 65536}, "
        "{\"name\": \"b\", \"inconsistent\": true, \"busy\": true, \"recording\": false}]}, "
        "{\"node-name\": \"a-name-of-more-than-thirty-one-bytes\"}, {\"image\": {}}, "
        "{\"node-name\": \"d1\"}]}");
}

static void nodes_and_their_bitmaps_are_listed(void **dir)
{
    CLEANUP(blocks_nodes_done) struct blocks_nodes nodes = VEC_EMPTY;
    const struct blocks_node *node;

    connect_to(*dir, some_nodes);
    EXPECT_OK(blocks_list(monitor.qmp, &nodes, monitor.cancel, &err));
    assert_int_equal(nodes.len, 2);
    node = blocks_find(&nodes, "d0");
    assert_non_null(node);
    assert_int_equal(node->size, 1024);
    assert_int_equal(node->actual_bytes, 512);
    assert_int_equal(node->bitmaps.len, 2);
    assert_int_equal(blocks_find_bitmap(node, "a")->count, 8192);
    assert_true(blocks_find_bitmap(node, "a")->recording);
    assert_true(blocks_find_bitmap(node, "b")->inconsistent);
    assert_null(blocks_find_bitmap(node, "c"));
    assert_null(blocks_find(&nodes, "d2"));
}

static void an_empty_transaction_is_not_sent(void **dir)
{
    connect_to(*dir, some_nodes);
    EXPECT_OK(blocks_transaction(monitor.qmp, json_array(), monitor.cancel, &err));
    assert_int_equal(fake_qmp_count(monitor.fake, "transaction"), 0);
}

static char *jobs_that_end(void *ctx, const json_t *command)
{
    (void)ctx;
    if (is(command, "transaction"))
        return fake_qmp_say(
            "{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"bad\", \"error\": "
            "\"No space left on device\"}}\n"
            "{\"event\": \"BLOCK_JOB_CANCELLED\", \"data\": {\"device\": \"gone\"}}\n"
            "{\"event\": \"BLOCK_JOB_COMPLETED\", \"data\": {\"device\": \"good\"}}\n"
            "{\"return\": {}, \"id\": @ID}");
    if (is(command, "block-job-cancel"))
        return fake_qmp_say("{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no job\"}, "
                            "\"id\": @ID}");
    if (is(command, "query-jobs"))
        return fake_qmp_say("{\"return\": [{\"id\": \"other\", \"current-progress\": 1, "
                            "\"total-progress\": 2}], \"id\": @ID}");
    return fake_qmp_ok();
}

static void a_jobs_end_is_what_its_event_says(void **dir)
{
    connect_to(*dir, jobs_that_end);
    EXPECT_OK(blocks_transaction(monitor.qmp, json_pack("[{}]"), monitor.cancel, &err));
    EXPECT_OK(blocks_wait_job(monitor.qmp, "good", monitor.cancel, &err));
    EXPECT_ERR(ERR_IO, blocks_wait_job(monitor.qmp, "bad", monitor.cancel, &err));
    EXPECT_TEXT("No space left");
    EXPECT_ERR(ERR_CANCELLED, blocks_wait_job(monitor.qmp, "gone", monitor.cancel, &err));
}

static char *a_job_that_is_paused(void *ctx, const json_t *command)
{
    (void)ctx;
    if (!is(command, "query-jobs"))
        return fake_qmp_ok();
    return fake_qmp_say("{\"id\": @ID, \"return\": [{\"id\": \"other\", \"status\": \"running\"}, "
                        "{\"id\": \"j\", \"status\": \"paused\"}]}");
}

static void a_job_that_qemu_holds_still_is_not_waited_for_for_ever(void **dir)
{
    connect_to(*dir, a_job_that_is_paused);
    EXPECT_ERR(ERR_BUSY, blocks_wait_job(monitor.qmp, "j", monitor.cancel, &err));
    EXPECT_TEXT("block job j stands still");
}

static void cancelling_a_job_that_is_gone_is_fine(void **dir)
{
    connect_to(*dir, jobs_that_end);
    EXPECT_OK(blocks_cancel_job(monitor.qmp, "mine", monitor.cancel, &err));
}

static void a_job_that_does_not_end_is_given_up_with_the_cancel(void **dir)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 300);

    connect_to(*dir, jobs_that_end);
    EXPECT_ERR(ERR_TIMEOUT, blocks_cancel_job(monitor.qmp, "other", soon, &err));
}

#define BLOCKS_TEST(f) cmocka_unit_test_setup_teardown(f, tmpdir_setup, disconnect)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BLOCKS_TEST(nodes_and_their_bitmaps_are_listed),
        BLOCKS_TEST(an_empty_transaction_is_not_sent),
        BLOCKS_TEST(a_jobs_end_is_what_its_event_says),
        BLOCKS_TEST(a_job_that_qemu_holds_still_is_not_waited_for_for_ever),
        BLOCKS_TEST(cancelling_a_job_that_is_gone_is_fine),
        BLOCKS_TEST(a_job_that_does_not_end_is_given_up_with_the_cancel),
    };
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
