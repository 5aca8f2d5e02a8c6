// SPDX-License-Identifier: Apache-2.0
#include "sync/digests.h"

#include "base/mem.h"
#include "replica/chunk.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    const char *dir;
    struct store_disks disks;
    struct digest want[2][64]; /* what the copy should say */
    uint64_t counts[2];
    struct digests_end end;
};

static void fixture_done(struct fixture *f)
{
    store_disks_free(&f->disks);
}

static struct digests_tip tip(uint64_t point)
{
    struct digests_tip t = {.point = point};

    memset(t.hash.bytes, (int)point, sizeof(t.hash.bytes));
    return t;
}

static struct digest made_up(uint64_t number)
{
    struct digest d;

    memset(d.bytes, (int)(number * 37 + 1), sizeof(d.bytes));
    return d;
}

static void make_copy(struct fixture *f, const char *dir)
{
    CLEANUP(digests_writer_freep) struct digests_writer *writer = NULL;
    static const uint64_t sizes[] = {CHUNK_BYTES * 40, CHUNK_BYTES * 7 + 512};
    struct digests_tip t = tip(1);

    memset(f, 0, sizeof(*f));
    f->dir = dir;
    for (size_t i = 0; i < 2; i++) {
        struct store_disk *disk = store_disks_push(&f->disks);
        (void)snprintf(disk->name, sizeof(disk->name), "disk%zu", i);
        disk->size = sizes[i];
        f->counts[i] = chunk_count(sizes[i]);
        for (uint64_t k = 0; k < f->counts[i]; k++)
            f->want[i][k] = made_up(i * 100 + k);
    }
    EXPECT_OK(digests_writer_open(dir, &f->disks, &writer, &err));
    for (size_t i = 0; i < 2; i++)
        EXPECT_OK(digests_writer_add(writer, f->want[i], f->counts[i], &err));
    EXPECT_OK(digests_writer_commit(writer, &t, &err));
}

static int change(struct fixture *f, uint64_t from, uint64_t to)
{
    CLEANUP(store_digests_free) struct store_digests a = VEC_EMPTY;
    CLEANUP(store_digests_free) struct store_digests b = VEC_EMPTY;
    struct digests_tip t_from = tip(from);
    struct digests_tip t_to = tip(to);

    *store_digests_push(&a) = (struct store_digest){to % 40, made_up(to * 3)};
    *store_digests_push(&a) = (struct store_digest){(to + 1) % 40, {{0}}};
    *store_digests_push(&b) = (struct store_digest){to % 8, made_up(to * 5)};
    const struct store_digests changed[2] = {a, b};
    int rc = digests_append(f->dir, &t_from, &t_to, &f->disks, changed, &f->end, &err);
    if (rc == 0) {
        f->want[0][to % 40] = made_up(to * 3);
        memset(&f->want[0][(to + 1) % 40], 0, sizeof(struct digest));
        f->want[1][to % 8] = made_up(to * 5);
    }
    return rc;
}

static void check_at(struct fixture *f, uint64_t point)
{
    CLEANUP(digests_closep) struct digests *d = NULL;
    struct digest got[64];
    struct digests_tip t = tip(point);

    f->end.known = false;
    EXPECT_OK(digests_open(f->dir, &f->disks, &t, &d, &err));
    for (size_t i = 0; i < 2; i++) {
        EXPECT_OK(digests_read(d, i, 0, f->counts[i], got, &err));
        assert_memory_equal(got, f->want[i], f->counts[i] * sizeof(struct digest));
    }
}

static void expect_none(struct fixture *f, uint64_t point)
{
    struct digests *d = NULL;
    struct digests_tip t = tip(point);

    EXPECT_ERR(ERR_NOT_FOUND, digests_open(f->dir, &f->disks, &t, &d, &err));
}

static void a_copy_is_used_for_its_own_point_only(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    make_copy(&f, *state);
    check_at(&f, 1);
    expect_none(&f, 2);
    f.disks.at[0].size += CHUNK_BYTES;
    expect_none(&f, 1);
}

static void it_moves_on_with_each_acknowledgement(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    make_copy(&f, *state);
    EXPECT_OK(change(&f, 1, 2));
    EXPECT_OK(change(&f, 2, 3));
    check_at(&f, 3); /* folds the log */
    EXPECT_OK(change(&f, 3, 4));
    check_at(&f, 4);
    check_at(&f, 4);
}

static void an_acknowledgement_for_another_point_changes_nothing(void **state)
{
    CLEANUP(fixture_done) struct fixture f;

    make_copy(&f, *state);
    EXPECT_ERR(ERR_NOT_FOUND, change(&f, 2, 3));
    check_at(&f, 1);
}

static void a_torn_record_leaves_the_point_before_it(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *path = mem_printf("%s/digests.log", (const char *)*state);
    struct fixture before;
    struct stat st;

    make_copy(&f, *state);
    EXPECT_OK(change(&f, 1, 2));
    before = f;
    EXPECT_OK(change(&f, 2, 3));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size - 1), 0);
    expect_none(&f, 3);
    memcpy(f.want, before.want, sizeof(f.want));
    f.end.known = false;         /* another life */
    EXPECT_OK(change(&f, 2, 4)); /* over the torn one */
    check_at(&f, 4);
}

static void a_record_with_a_flipped_bit_ends_the_log(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *path = mem_printf("%s/digests.log", (const char *)*state);

    make_copy(&f, *state);
    EXPECT_OK(change(&f, 1, 2));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, 120), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, 120), 1);
    (void)close(fd);
    expect_none(&f, 2);
}

static void a_long_log_is_folded(void **state)
{
    CLEANUP(fixture_done) struct fixture f;
    CLEANUP(mem_freep) char *path = mem_printf("%s/digests.log", (const char *)*state);
    struct stat st;

    make_copy(&f, *state);
    for (uint64_t point = 2; point < 9000; point++)
        if (change(&f, point - 1, point) < 0)
            fail_msg("%s", err.text);
    check_at(&f, 8999);
    if (stat(path, &st) == 0)
        assert_true(st.st_size < 1200000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_copy_is_used_for_its_own_point_only),
        TMPDIR_TEST(it_moves_on_with_each_acknowledgement),
        TMPDIR_TEST(an_acknowledgement_for_another_point_changes_nothing),
        TMPDIR_TEST(a_torn_record_leaves_the_point_before_it),
        TMPDIR_TEST(a_record_with_a_flipped_bit_ends_the_log),
        TMPDIR_TEST(a_long_log_is_folded),
    };
    return cmocka_run_group_tests_name("digests", tests, NULL, NULL);
}
