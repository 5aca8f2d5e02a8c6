// SPDX-License-Identifier: Apache-2.0
#include "replica/view.h"

#include "base/mem.h"
#include "replica/chain.h"
#include "replica/chunk.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DISK "web.vdb"

static int open_view(struct fixture *f, uint64_t point, struct view **ret_view)
{
    return view_open(f->kit.dir, DISK, point, &f->kit.key, NULL, ret_view, &err);
}

/* One read at a random place, compared with what the disk held. */
static void read_somewhere(struct fixture *f, struct view *view, uint64_t point, uint64_t *seed)
{
    const uint8_t *want = kit_image(&f->kit, point)->bytes[1];
    uint64_t size = view_size(view);
    uint8_t have[3 * CHUNK_BYTES];

    *seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    uint64_t off = (*seed >> 20) % size;
    size_t len = (size_t)(*seed >> 44) % (*seed % 16 == 0 ? sizeof(have) : 8192) + 1;
    if (len > size - off)
        len = (size_t)(size - off);
    EXPECT_OK(view_read(view, off, have, len, &err));
    assert_memory_equal(have, want + off, len);
}

static void any_range_of_an_older_point_reads_as_it_was(void **state)
{
    struct fixture *f = *state;
    uint64_t seed = 1;

    fixture_copy(f);
    fixture_points(f, 4);
    for (uint64_t point = 1; point <= 4; point++) {
        CLEANUP(view_closep) struct view *view = NULL;
        EXPECT_OK(open_view(f, point, &view));
        for (size_t i = 0; i < 300; i++)
            read_somewhere(f, view, point, &seed);
    }
}

static void a_view_keeps_its_point_while_others_are_applied(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    uint64_t seed = 2;

    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_OK(open_view(f, 2, &view)); /* head itself, at first */
    for (size_t round = 0; round < 8; round++) {
        for (size_t i = 0; i < 100; i++)
            read_somewhere(f, view, 2, &seed);
        fixture_points(f, 1);
    }
}

static void a_view_lives_through_a_restart_of_the_store(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    uint64_t seed = 3;

    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_OK(open_view(f, 2, &view));
    fixture_reopen(f);
    fixture_points(f, 2);
    store_closep(&f->store);
    for (size_t i = 0; i < 100; i++)
        read_somewhere(f, view, 2, &seed);
    EXPECT_OK(kit_open(&f->kit, fs_real(), &f->store, &err));
    fixture_points(f, 1);
    for (size_t i = 0; i < 100; i++)
        read_somewhere(f, view, 2, &seed);
}

/* --- Against another process ------------------------------------------------------------- */

/* The child applies points for ever, pruning behind the pin, until it is killed. */
static void apply_for_ever(struct fixture *f)
{
    struct err failed;

    for (;;) {
        kit_scribble(&f->kit, 40);
        if (kit_point_applied(&f->kit, f->store, &failed) < 0
            || kit_prune(f->store, 3, &failed) < 0) {
            (void)fprintf(stderr, "%s\n", failed.text);
            _exit(1);
        }
    }
}

static void a_pinned_view_is_bit_exact_while_another_process_applies(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    uint64_t seed = 4;
    uint64_t pinned;
    int status;

    fixture_copy(f);
    fixture_points(f, 3);
    EXPECT_OK(f->store->ops->pin(f->store, 0, "drill", &pinned, &err));
    EXPECT_OK(open_view(f, pinned, &view));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        apply_for_ever(f);
    for (size_t i = 0; i < 20000; i++)
        read_somewhere(f, view, pinned, &seed);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    /* It was killed somewhere in an apply. The page stays; the store recovers under the view. */
    for (size_t i = 0; i < 200; i++)
        read_somewhere(f, view, pinned, &seed);
    fixture_reopen(f);
    for (size_t i = 0; i < 200; i++)
        read_somewhere(f, view, pinned, &seed);
    EXPECT_OK(kit_check_view(&f->kit, pinned, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    assert_true(fixture_info(f).applied_point > 3);
}

/* --- The newest point, as it stops being the newest ---------------------------------------- */

/* Each block says at which point it was written. */
static void stamp(struct fixture *f, size_t count)
{
    uint64_t block[512];
    uint64_t point = f->kit.point + 1;

    for (size_t i = 0; i < ARRAY_LEN(block); i++)
        block[i] = point;
    for (size_t i = 0; i < count; i++)
        kit_write(&f->kit, 1, kit_random(&f->kit, f->kit.disks[1].size / 4096) * 4096, block,
                  sizeof(block));
}

static void stamp_for_ever(struct fixture *f)
{
    struct err failed;

    for (;;) {
        stamp(f, 60);
        if (kit_point_applied(&f->kit, f->store, &failed) < 0
            || kit_prune(f->store, 200, &failed) < 0) {
            (void)fprintf(stderr, "%s\n", failed.text);
            _exit(1);
        }
    }
}

static uint64_t newest_of(const struct chain *chain)
{
    CLEANUP(chain_points_free) struct chain_points points = VEC_EMPTY;
    uint64_t seq;
    uint64_t head;

    do
        chain_read(chain, &seq, &head, &points);
    while (head == 0);
    return head;
}

static void no_read_of_the_newest_point_sees_the_next_one(void **state)
{
    struct fixture *f = *state;
    CLEANUP(chain_freep) struct chain *chain = NULL;
    CLEANUP(mem_freep) uint64_t *have = mem_alloc((size_t)f->kit.disks[1].size, 1);
    size_t words = (size_t)f->kit.disks[1].size / sizeof(*have);
    int status;

    memset(f->kit.disks[1].bytes, 0, (size_t)f->kit.disks[1].size);
    fixture_copy(f);
    stamp(f, 60);
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
    EXPECT_OK(chain_map(f->kit.dir, &chain, &err));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        stamp_for_ever(f);
    for (size_t i = 0; i < 1000; i++) {
        CLEANUP(view_closep) struct view *view = NULL;
        uint64_t newest = newest_of(chain);
        EXPECT_OK(open_view(f, newest, &view));
        EXPECT_OK(view_read(view, 0, have, words * sizeof(*have), &err));
        for (size_t k = 0; k < words; k++)
            if (have[k] > newest)
                fail_msg("view of point %" PRIu64 " has a block of %" PRIu64, newest, have[k]);
    }
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
}

/* --- Threads ----------------------------------------------------------------------------- */

struct reader {
    struct view *view;
    const uint8_t *want;
    uint64_t seed;
    uint64_t wrong;
};

static void *read_on(void *arg)
{
    struct reader *r = arg;
    uint8_t have[8192];

    for (size_t i = 0; i < 3000; i++) {
        struct err failed;
        r->seed = r->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint64_t off = (r->seed >> 20) % (view_size(r->view) - sizeof(have));
        if (view_read(r->view, off, have, sizeof(have), &failed) < 0
            || memcmp(have, r->want + off, sizeof(have)) != 0)
            r->wrong++;
    }
    return NULL;
}

static void many_threads_read_one_view_while_points_come(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    struct reader readers[3];
    pthread_t threads[3];

    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_OK(open_view(f, 2, &view));
    for (size_t i = 0; i < 3; i++) {
        readers[i] = (struct reader){view, kit_image(&f->kit, 2)->bytes[1], i + 1, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
    }
    fixture_points(f, 10);
    for (size_t i = 0; i < 3; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].wrong, 0);
    }
}

/* --- Export, errors ---------------------------------------------------------------------- */

static void an_exported_point_is_a_plain_sparse_image(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    CLEANUP(mem_freep) char *path = path_join(f->root, "export.raw");
    CLEANUP(str_free) struct str bytes = STR_EMPTY;
    struct stat st;

    fixture_copy(f);
    fixture_points(f, 3);
    EXPECT_OK(open_view(f, 2, &view));
    EXPECT_OK(view_export(view, path, &err));
    EXPECT_OK(fs_read_file(fs_real(), path, SIZE_MAX / 2, &bytes, &err));
    assert_int_equal(bytes.len, view_size(view));
    assert_memory_equal(bytes.ptr, kit_image(&f->kit, 2)->bytes[1], bytes.len);
    assert_int_equal(stat(path, &st), 0);
    assert_true((uint64_t)st.st_blocks * 512 <= bytes.len);
}

static void what_is_not_there_is_said_with_what_is(void **state)
{
    struct fixture *f = *state;
    struct view *view;

    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_ERR(ERR_NOT_FOUND, open_view(f, 7, &view));
    EXPECT_TEXT("there are: 1 2");
    EXPECT_ERR(ERR_NOT_FOUND, open_view(f, 0, &view));
    EXPECT_ERR(ERR_NOT_FOUND, view_open(f->kit.dir, "web.vdz", 1, &f->kit.key, NULL, &view, &err));
    EXPECT_TEXT("there are: web.vda web.vdb");
    EXPECT_ERR(ERR_INVALID, view_open(f->kit.dir, "../web.vda", 1, &f->kit.key, NULL, &view, &err));
    EXPECT_OK(open_view(f, 1, &view));
    uint8_t byte;
    EXPECT_ERR(ERR_INVALID, view_read(view, view_size(view), &byte, 1, &err));
    view_close(view);
}

static void a_damaged_undo_file_is_named_with_the_chunk(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    CLEANUP(mem_freep) uint8_t *bytes = NULL;

    fixture_copy(f);
    fixture_points(f, 2);
    fixture_flip(f, "web.vdb/undo/00000000000000000001", 400);
    EXPECT_OK(open_view(f, 1, &view));
    bytes = mem_alloc((size_t)view_size(view), 1);
    EXPECT_ERR(ERR_CORRUPT, view_read(view, 0, bytes, (size_t)view_size(view), &err));
    EXPECT_TEXT("web.vdb/undo/00000000000000000001");
    EXPECT_TEXT("chunk");
}

static void a_pruned_point_is_refused_not_made_up(void **state)
{
    struct fixture *f = *state;
    CLEANUP(view_closep) struct view *view = NULL;
    uint8_t bytes[512];

    fixture_copy(f);
    fixture_points(f, 3);
    EXPECT_OK(open_view(f, 1, &view)); /* not pinned */
    EXPECT_OK(kit_prune(f->store, 1, &err));
    EXPECT_ERR(ERR_NOT_FOUND, view_read(view, 0, bytes, sizeof(bytes), &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(any_range_of_an_older_point_reads_as_it_was),
        STORE_TEST(a_view_keeps_its_point_while_others_are_applied),
        STORE_TEST(a_view_lives_through_a_restart_of_the_store),
        STORE_TEST(a_pinned_view_is_bit_exact_while_another_process_applies),
        STORE_TEST(no_read_of_the_newest_point_sees_the_next_one),
        STORE_TEST(many_threads_read_one_view_while_points_come),
        STORE_TEST(an_exported_point_is_a_plain_sparse_image),
        STORE_TEST(what_is_not_there_is_said_with_what_is),
        STORE_TEST(a_damaged_undo_file_is_named_with_the_chunk),
        STORE_TEST(a_pruned_point_is_refused_not_made_up),
    };
    return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
