// SPDX-License-Identifier: Apache-2.0
#include "replica/chain.h"

#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static struct chain_points points_to(uint64_t count)
{
    struct chain_points points = VEC_EMPTY;

    for (uint64_t i = 1; i <= count; i++)
        *chain_points_push(&points) = i;
    return points;
}

static void publish(struct chain *chain, uint64_t head, uint64_t count)
{
    CLEANUP(chain_points_free) struct chain_points points = points_to(count);

    chain_publish(chain, head, &points);
}

static void a_reader_sees_what_was_published_last(void **dir)
{
    CLEANUP(chain_freep) struct chain *writer = NULL;
    CLEANUP(chain_freep) struct chain *reader = NULL;
    CLEANUP(chain_points_free) struct chain_points points = VEC_EMPTY;
    uint64_t seq;
    uint64_t head;

    EXPECT_OK(chain_open(fs_real(), *dir, &writer, &err));
    EXPECT_OK(chain_map(*dir, &reader, &err));
    publish(writer, 9, 8);
    uint64_t before = chain_seq(reader);
    publish(writer, 0, 9);
    assert_int_not_equal(chain_seq(reader), before);
    chain_read(reader, &seq, &head, &points);
    assert_int_equal(seq, chain_seq(reader));
    assert_int_equal(head, 0);
    assert_int_equal(points.len, 9);
    assert_int_equal(points.at[8], 9);
}

static void a_reader_lives_through_a_restart_of_the_writer(void **dir)
{
    CLEANUP(chain_freep) struct chain *reader = NULL;
    CLEANUP(chain_points_free) struct chain_points points = VEC_EMPTY;
    struct chain *writer;
    uint64_t seq;
    uint64_t head;

    EXPECT_OK(chain_open(fs_real(), *dir, &writer, &err));
    publish(writer, 3, 2);
    EXPECT_OK(chain_map(*dir, &reader, &err));
    uint64_t before = chain_seq(reader);
    chain_free(writer);
    EXPECT_OK(chain_open(fs_real(), *dir, &writer, &err));
    assert_int_equal(chain_seq(reader), before); /* opening alone changes nothing */
    publish(writer, 4, 3);
    assert_int_equal(chain_seq(reader), before + 1);
    chain_read(reader, &seq, &head, &points);
    assert_int_equal(head, 4);
    chain_free(writer);
}

static void a_page_from_before_the_systems_start_is_not_believed(void **dir)
{
    CLEANUP(mem_freep) char *path = path_join(*dir, CHAIN_FILE);
    CLEANUP(chain_points_free) struct chain_points points = VEC_EMPTY;
    CLEANUP(fd_close) int fd = -1;
    struct chain *writer;
    struct chain *reader;
    uint64_t seq;
    uint64_t head;

    EXPECT_OK(chain_open(fs_real(), *dir, &writer, &err));
    publish(writer, 3, 2);
    chain_free(writer);
    fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pwrite(fd, "another start", 13, 16), 13);
    EXPECT_ERR(ERR_STATE, chain_map(*dir, &reader, &err));
    EXPECT_TEXT("since this system started");
    EXPECT_OK(chain_open(fs_real(), *dir, &writer, &err));
    EXPECT_OK(chain_map(*dir, &reader, &err));
    chain_read(reader, &seq, &head, &points);
    assert_int_equal(head, 0);
    assert_int_equal(points.len, 0);
    chain_free(writer);
    chain_free(reader);
}

static void no_page_or_a_strange_one_is_an_error(void **dir)
{
    CLEANUP(mem_freep) char *path = path_join(*dir, CHAIN_FILE);
    struct chain *reader;

    EXPECT_ERR(ERR_NOT_FOUND, chain_map(*dir, &reader, &err));
    EXPECT_OK(fs_replace_file(fs_real(), path, "hello", 5, 0600, &err));
    EXPECT_ERR(ERR_STATE, chain_map(*dir, &reader, &err));
}

struct race {
    struct chain *chain;
    atomic_bool stop;
};

static void *publish_on_and_on(void *arg)
{
    struct race *race = arg;

    for (uint64_t n = 1; !atomic_load(&race->stop); n++)
        publish(race->chain, n % 50, n % 50);
    return NULL;
}

static void a_list_is_never_seen_half(void **dir)
{
    CLEANUP(chain_freep) struct chain *reader = NULL;
    CLEANUP(chain_points_free) struct chain_points points = VEC_EMPTY;
    struct race race = {.stop = false};
    pthread_t writer;

    EXPECT_OK(chain_open(fs_real(), *dir, &race.chain, &err));
    EXPECT_OK(chain_map(*dir, &reader, &err));
    assert_int_equal(pthread_create(&writer, NULL, publish_on_and_on, &race), 0);
    for (size_t i = 0; i < 20000; i++) {
        uint64_t seq;
        uint64_t head;
        chain_read(reader, &seq, &head, &points);
        assert_int_equal(head, points.len);
        for (size_t k = 0; k < points.len; k++)
            assert_int_equal(points.at[k], k + 1);
    }
    atomic_store(&race.stop, true);
    (void)pthread_join(writer, NULL);
    chain_free(race.chain);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_reader_sees_what_was_published_last),
        TMPDIR_TEST(a_reader_lives_through_a_restart_of_the_writer),
        TMPDIR_TEST(a_page_from_before_the_systems_start_is_not_believed),
        TMPDIR_TEST(no_page_or_a_strange_one_is_an_error),
        TMPDIR_TEST(a_list_is_never_seen_half),
    };
    return cmocka_run_group_tests_name("chain", tests, NULL, NULL);
}
