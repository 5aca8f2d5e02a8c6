// SPDX-License-Identifier: Apache-2.0
/* What keeping points costs: bytes written per byte that changed, and work per call. The changes are
 * whole chunks that do not compress, the bytes are those of the write calls. */
#include "base/mem.h"
#include "replica/chunk.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/kit.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE    ((uint64_t)20 << 20) /* of each disk; a little more of the second */
#define CHANGED ((uint64_t)16 << 20)
#define MIB     ((double)(1 << 20))

struct counting_fs {
    struct fs fs;
    uint64_t written;
};

struct fixture {
    char *root;
    struct kit kit;
    struct counting_fs counting;
    struct store *store;
};

static int counted_pwrite(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                          struct err *failed)
{
    struct counting_fs *counting = (struct counting_fs *)(void *)fs;

    counting->written += len;
    return fs_real()->pwrite(fs_real(), fd, buf, len, off, failed);
}

static int setup(void **state)
{
    struct fixture *f = mem_new(struct fixture);
    void *root;

    if (access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 0);
    if (tmpdir_setup(&root) < 0)
        return -1;
    f->root = root;
    kit_init(&f->kit, f->root, SIZE, 1);
    f->counting.fs = *fs_real();
    f->counting.fs.pwrite = counted_pwrite;
    EXPECT_OK(kit_open(&f->kit, &f->counting.fs, &f->store, &err));
    EXPECT_OK(kit_copy(&f->kit, f->store, &err));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *root = f->root;

    store_close(f->store);
    kit_done(&f->kit);
    free(f);
    return tmpdir_teardown(&root);
}

static void prune(struct fixture *f, uint64_t keep)
{
    EXPECT_OK(kit_prune(f->store, keep, &err));
}

/* The next point: `count` chunks of the first disk from `first` on. */
static void change(struct fixture *f, uint64_t first, uint64_t count)
{
    uint64_t words[CHUNK_BYTES / 8];

    for (uint64_t chunk = first; chunk < first + count; chunk++) {
        for (size_t i = 0; i < ARRAY_LEN(words); i++)
            words[i] = kit_random(&f->kit, UINT64_MAX) * UINT64_C(0x9e3779b97f4a7c15)
                       ^ kit_random(&f->kit, UINT64_MAX);
        kit_write(&f->kit, 0, chunk * CHUNK_BYTES, words, sizeof(words));
    }
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
}

/* Of a few points, one after the other, each followed by its pruning. */
static double bytes_per_changed_byte(struct fixture *f, uint64_t keep)
{
    const size_t rounds = 4;

    f->counting.written = 0;
    for (size_t i = 0; i < rounds; i++) {
        change(f, 0, CHANGED / CHUNK_BYTES);
        prune(f, keep);
    }
    return (double)f->counting.written / (double)(rounds * CHANGED);
}

static void a_changed_byte_is_written_twice_or_with_a_kept_point_three_times(void **state)
{
    struct fixture *f = *state;
    uint64_t pinned;

    change(f, 0, CHANGED / CHUNK_BYTES);
    prune(f, 1);
    double alone = bytes_per_changed_byte(f, 1);
    EXPECT_OK(f->store->ops->pin(f->store, 0, "kept", &pinned, &err));
    change(f, 0, CHANGED / CHUNK_BYTES); /* from here on an older point has it all saved */
    double none = bytes_per_changed_byte(f, 1);
    prune(f, 100);
    double one = bytes_per_changed_byte(f, 100);
    (void)printf("bytes written per changed byte, %.0f MiB a point: %.3f without any older point,"
                 " %.3f with no kept point in between, %.3f with one\n",
                 (double)CHANGED / MIB, alone, none, one);
    assert_true(alone <= 2.1);
    assert_true(none <= 2.1);
    assert_true(one <= 3.2);
    EXPECT_OK(kit_check_view(&f->kit, pinned, &err));
}

static uint64_t undo_files(const struct fixture *f)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/web.vda/undo", f->kit.dir);
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};

    EXPECT_OK(fs_list(path, &names, &err));
    return names.len;
}

/* Two files of all of a disk, to be one. */
static uint64_t make_much_to_merge(struct fixture *f)
{
    uint64_t pinned;

    change(f, 0, SIZE / CHUNK_BYTES);
    EXPECT_OK(f->store->ops->pin(f->store, 0, "old", &pinned, &err));
    change(f, 0, SIZE / CHUNK_BYTES);
    change(f, 0, SIZE / CHUNK_BYTES);
    EXPECT_OK(f->store->ops->pin(f->store, 0, "young", &pinned, &err));
    change(f, 0, 1);
    return pinned;
}

static void a_large_merge_goes_on_a_part_at_a_time_between_applies(void **state)
{
    struct fixture *f = *state;
    uint64_t young = make_much_to_merge(f);

    f->counting.written = 0;
    prune(f, 1);
    assert_true(f->counting.written < (uint64_t)18 << 20);
    assert_int_equal(undo_files(f), 3 + 1); /* and the one on its way */
    change(f, 1, 1);
    EXPECT_OK(kit_check_view(&f->kit, 1, &err));
    prune(f, 1);
    assert_int_equal(undo_files(f), 3); /* 1, young, and what came since */
    assert_true(f->counting.written > SIZE);
    EXPECT_OK(kit_check_view(&f->kit, 1, &err));
    EXPECT_OK(kit_check_view(&f->kit, young, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void a_view_that_opens_meanwhile_puts_the_merge_off(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    CLEANUP(mem_freep) uint8_t *have = mem_alloc(CHUNK_BYTES, 1);
    (void)make_much_to_merge(f);

    prune(f, 1);
    EXPECT_OK(view_open(f->kit.dir, "web.vda", 1, &f->kit.key, NULL, &view, &err));
    prune(f, 1);
    prune(f, 1);
    assert_int_equal(undo_files(f), 3); /* as they were */
    for (uint64_t chunk = 0; chunk < SIZE / CHUNK_BYTES; chunk += 50) {
        EXPECT_OK(view_read(view, chunk * CHUNK_BYTES, have, CHUNK_BYTES, &err));
        assert_memory_equal(have, kit_image(&f->kit, 1)->bytes[0] + chunk * CHUNK_BYTES,
                            CHUNK_BYTES);
    }
    view_closep(&view);
    prune(f, 1);
    prune(f, 1);
    assert_int_equal(undo_files(f), 2);
    EXPECT_OK(kit_check_view(&f->kit, 1, &err));
}

static void a_merge_whose_point_goes_is_given_up(void **state)
{
    struct fixture *f = *state;
    uint64_t young = make_much_to_merge(f);

    prune(f, 1);
    EXPECT_OK(f->store->ops->unpin(f->store, "old", &err));
    prune(f, 1);
    assert_int_equal(undo_files(f), 1);
    EXPECT_OK(kit_check_view(&f->kit, young, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

#define COST_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        COST_TEST(a_changed_byte_is_written_twice_or_with_a_kept_point_three_times),
        COST_TEST(a_large_merge_goes_on_a_part_at_a_time_between_applies),
        COST_TEST(a_view_that_opens_meanwhile_puts_the_merge_off),
        COST_TEST(a_merge_whose_point_goes_is_given_up),
    };
    return cmocka_run_group_tests_name("store_dir_cost", tests, NULL, NULL);
}
