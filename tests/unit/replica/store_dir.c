// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/replica/dying_fs.h"
#include "support/replica/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANNOT_MOUNT 77

static int open_again(struct fixture *f)
{
    store_closep(&f->store);
    err_clear(&err);
    return kit_open(&f->kit, fs_real(), &f->store, &err);
}

/* A store with everything in it: points, a pin, a promotion, something pruned. */
static void fill(struct fixture *f)
{
    uint64_t generation;
    uint64_t point;

    fixture_copy(f);
    fixture_points(f, 4);
    EXPECT_OK(f->store->ops->pin(f->store, 3, "drill", &point, &err));
    EXPECT_OK(kit_prune(f->store, 1, &err));
    EXPECT_OK(f->store->ops->promote(f->store, 1, 0, "token", "lyon", f->kit.sign, 1, &generation,
                                     &point, &err));
}

static void a_new_directory_is_an_empty_store(void **state)
{
    struct fixture *f = *state;
    struct store_info info = fixture_info(f);

    assert_int_equal(info.state, STORE_EMPTY);
    assert_int_equal(info.generation, 0);
    assert_int_equal(info.durable_point, 0);
    assert_int_equal(open_again(f), 0);
    assert_int_equal(fixture_info(f).state, STORE_EMPTY);
}

static void every_kept_point_is_what_the_disks_held(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    assert_int_equal(fixture_info(f).state, STORE_COPIED);
    fixture_points(f, 5);
    EXPECT_OK(kit_check_head(&f->kit, 5, &err));
    for (size_t round = 0; round < 2; round++) {
        for (uint64_t point = 1; point <= 5; point++)
            EXPECT_OK(kit_check_view(&f->kit, point, &err));
        EXPECT_OK(store_dir_verify(f->store, NULL, &err));
        assert_int_equal(fixture_info(f).applied_point, 5);
        assert_int_equal(fixture_info(f).state, STORE_READY);
        fixture_reopen(f);
    }
}

static void a_store_is_open_once(void **state)
{
    struct fixture *f = *state;
    struct store *second;
    char pid[32];

    (void)snprintf(pid, sizeof(pid), "process %d", (int)getpid());
    EXPECT_ERR(ERR_BUSY, kit_open(&f->kit, fs_real(), &second, &err));
    EXPECT_TEXT(pid);
    EXPECT_ERR(ERR_BUSY, store_dir_remove(fs_real(), f->kit.dir, &err));
}

static void a_foreign_file_is_named_and_left_alone(void **state)
{
    static const char *const places[] = {
        "notes.txt",
        "manifests/README",
        "manifests/7",
        "web.vda/backup.raw",
        "web.vda/undo/old",
        "web.vdb/segments/x.seg",
        "web.vdb/undo/00000000000000000009",
    };
    struct fixture *f = *state;

    fill(f);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        CLEANUP(mem_freep) char *path = fixture_path(f, places[i]);
        CLEANUP(str_free) struct str text = STR_EMPTY;
        fixture_write(f, places[i], "somebody's own");
        assert_int_equal(open_again(f), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        EXPECT_TEXT(path);
        EXPECT_TEXT("; hint: ");
        EXPECT_OK(fs_read_file(fs_real(), path, 100, &text, &err));
        assert_string_equal(text.ptr, "somebody's own");
        if (i < ARRAY_LEN(places) - 1) /* the last one has a name of ours */
            EXPECT_ERR(ERR_CORRUPT, store_dir_remove(fs_real(), f->kit.dir, &err));
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(open_again(f), 0);
}

static void a_changed_bit_is_found_and_its_file_named(void **state)
{
    static const char *const files[] = {
        "replica",
        "generation",
        "applied",
        "pins",
        "pruned",
        "promotion",
        "manifests/00000000000000000003",
        "manifests/00000000000000000005",
        "web.vda/digests",
    };
    struct fixture *f = *state;

    fill(f);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        for (int64_t at = 1; at < 18; at += 5) {
            fixture_flip(f, files[i], at);
            assert_int_equal(open_again(f), -1);
            assert_int_equal(err.code, ERR_CORRUPT);
            EXPECT_TEXT(files[i]);
            fixture_flip(f, files[i], at);
        }
    assert_int_equal(open_again(f), 0);
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void a_lost_file_is_found(void **state)
{
    static const char *const files[] = {
        "replica",
        "generation",
        "manifests/00000000000000000004",
        "manifests/00000000000000000005",
        "web.vda/undo/00000000000000000003",
        "web.vdb/head.raw",
        "web.vdb/digests",
    };
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *aside = path_join(f->root, "aside");

    fill(f);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        CLEANUP(mem_freep) char *path = fixture_path(f, files[i]);
        assert_int_equal(rename(path, aside), 0);
        assert_int_equal(open_again(f), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        if (fs_exists(path)) /* never made up */
            fail_msg("%s was made anew", path);
        assert_int_equal(rename(aside, path), 0);
    }
    assert_int_equal(open_again(f), 0);
}

static void an_older_number_put_back_is_found(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = fixture_path(f, "generation");
    CLEANUP(str_free) struct str old = STR_EMPTY;

    fixture_copy(f);
    EXPECT_OK(fs_read_file(fs_real(), path, 100, &old, &err));
    fixture_points(f, 1);
    uint64_t generation;
    uint64_t point;
    EXPECT_OK(f->store->ops->promote(f->store, 1, 0, "token", "lyon", f->kit.sign, 1, &generation,
                                     &point, &err));
    EXPECT_OK(f->store->ops->promote(f->store, 2, 0, "other", "lyon", f->kit.sign, 1, &generation,
                                     &point, &err));
    store_closep(&f->store);
    CLEANUP(mem_freep) char *promotion = fixture_path(f, "promotion");
    assert_int_equal(unlink(promotion), 0);
    EXPECT_OK(fs_replace_file(fs_real(), path, old.ptr, old.len, 0600, &err));
    assert_int_equal(open_again(f), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    EXPECT_TEXT("generation");
}

static void a_head_of_another_size_is_refused(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = fixture_path(f, "web.vda/head.raw");

    fixture_copy(f);
    assert_int_equal(truncate(path, 4096), 0);
    assert_int_equal(open_again(f), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    EXPECT_TEXT("4096 bytes");
}

static void half_written_files_of_ours_are_removed(void **state)
{
    static const char *const files[] = {
        "applied.tmp",
        "manifests/00000000000000000002.tmp",
        "web.vda/undo/00000000000000000001.tmp",
    };
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 1);
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        fixture_write(f, files[i], "half");
    assert_int_equal(open_again(f), 0);
    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        CLEANUP(mem_freep) char *path = fixture_path(f, files[i]);
        assert_false(fs_exists(path));
    }
}

static void another_groups_replica_is_refused(void **state)
{
    struct fixture *f = *state;
    struct store_dir_config config = kit_config(&f->kit, fs_real());
    struct store *store;

    fixture_copy(f);
    store_closep(&f->store);
    config.group = "mail";
    EXPECT_ERR(ERR_STATE, store_dir_open(&config, &store, &err));
    EXPECT_TEXT("group \"web\"");
    config.group = "../web";
    EXPECT_ERR(ERR_INVALID, store_dir_open(&config, &store, &err));
}

static void after_a_failed_sync_nothing_goes_on_until_it_is_opened_again(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 2);
    kit_scribble(&f->kit, 5);
    EXPECT_OK(kit_point(&f->kit, f->store, &err));
    fault_arm("fs.sync", 1, EIO); /* the first is of the intent */
    uint64_t point;
    EXPECT_ERR(ERR_IO, f->store->ops->point_apply(f->store, &point, NULL, NULL, &err));
    fault_clear();
    EXPECT_ERR(ERR_IO, f->store->ops->point_apply(f->store, &point, NULL, NULL, &err));
    EXPECT_TEXT("open it again");
    EXPECT_ERR(ERR_IO, kit_prune(f->store, 1, &err));
    EXPECT_OK(kit_check_view(&f->kit, 2, &err));
    fixture_reopen(f); /* rolls forward */
    assert_int_equal(fixture_info(f).applied_point, 3);
    EXPECT_OK(kit_check_head(&f->kit, 3, &err));
    EXPECT_OK(kit_check_view(&f->kit, 1, &err));
}

/* In a mount namespace of its own, where the directory is read-only. */
static int open_read_only(struct fixture *f)
{
    struct store *store;
    const char *dir = f->kit.dir;

    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0
        || mount(dir, dir, NULL, MS_BIND, NULL) < 0
        || mount(NULL, dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
        return CANNOT_MOUNT;
    if (kit_open(&f->kit, fs_real(), &store, &err) == 0)
        return 1;
    return err.code == ERR_IO && err.sys == EROFS && strstr(err.text, dir) ? 0 : 2;
}

static void a_read_only_directory_is_said(void **state)
{
    struct fixture *f = *state;
    int status;

    fixture_copy(f);
    store_closep(&f->store);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(open_read_only(f));
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_MOUNT)
        skip();
    assert_int_equal(status, 0);
}

static void head_tells_its_bytes_and_the_digests_of_its_blocks(void **state)
{
    struct fixture *f = *state;
    const struct kit_disk *disk = &f->kit.disks[1]; /* ends within a chunk */
    const uint64_t chunks[] = {16, 0, 3};
    struct digest have[3 * CHUNK_BLOCKS];
    struct digest want[CHUNK_BLOCKS];
    uint8_t bytes[5000];

    fixture_copy(f);
    fixture_points(f, 2);
    struct digester *digester = chunk_digester_new(&f->kit.key);
    EXPECT_OK(f->store->ops->block_digests(f->store, disk->name, 2, chunks, 3, have, &err));
    for (size_t i = 0; i < 3; i++) {
        chunk_block_digests(digester, disk->bytes + chunks[i] * CHUNK_BYTES,
                            chunk_len(disk->size, chunks[i]), want);
        assert_memory_equal(have + i * CHUNK_BLOCKS, want, sizeof(want));
    }
    digester_free(digester);
    EXPECT_ERR(ERR_STATE,
               f->store->ops->block_digests(f->store, disk->name, 1, chunks, 3, have, &err));
    const uint64_t beyond = 17;
    EXPECT_ERR(ERR_INVALID,
               f->store->ops->block_digests(f->store, disk->name, 2, &beyond, 1, have, &err));
    EXPECT_ERR(ERR_NOT_FOUND,
               f->store->ops->block_digests(f->store, "vdz", 2, chunks, 1, have, &err));
    EXPECT_OK(f->store->ops->read(f->store, disk->name, 70001, bytes, sizeof(bytes), &err));
    assert_memory_equal(bytes, disk->bytes + 70001, sizeof(bytes));
    EXPECT_ERR(ERR_INVALID,
               f->store->ops->read(f->store, disk->name, disk->size - 10, bytes, 11, &err));
}

static void a_removed_replica_leaves_nothing(void **state)
{
    struct fixture *f = *state;

    fill(f);
    store_closep(&f->store);
    EXPECT_OK(store_dir_remove(fs_real(), f->kit.dir, &err));
    assert_false(fs_exists(f->kit.dir));
    EXPECT_OK(store_dir_remove(fs_real(), f->kit.dir, &err));
}

/* Killed at every change: whoever asks again finds nothing that is not the replica's. */
static void a_removal_that_was_cut_anywhere_goes_on(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *saved = mem_printf("%s.saved", f->kit.dir);
    CLEANUP(mem_freep) char *copy = mem_printf("cp -a %s %s", f->kit.dir, saved);
    CLEANUP(mem_freep)
    char *again = mem_printf("rm -rf %s && cp -a %s %s", f->kit.dir, saved, f->kit.dir);
    struct dying_fs dying;
    int rc = -1;

    fill(f);
    store_closep(&f->store);
    assert_int_equal(system(copy), 0); /* NOLINT(cert-env33-c): a test's own folder */
    for (uint64_t changes = 0; rc < 0; changes++) {
        assert_int_equal(system(again), 0); /* NOLINT(cert-env33-c) */
        dying_fs_init(&dying, fs_real(), changes);
        err_clear(&err);
        rc = store_dir_remove(&dying.fs, f->kit.dir, &err);
        EXPECT_OK(store_dir_remove(fs_real(), f->kit.dir, &err));
        assert_false(fs_exists(f->kit.dir));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_new_directory_is_an_empty_store),
        STORE_TEST(every_kept_point_is_what_the_disks_held),
        STORE_TEST(a_store_is_open_once),
        STORE_TEST(a_foreign_file_is_named_and_left_alone),
        STORE_TEST(a_changed_bit_is_found_and_its_file_named),
        STORE_TEST(a_lost_file_is_found),
        STORE_TEST(an_older_number_put_back_is_found),
        STORE_TEST(a_head_of_another_size_is_refused),
        STORE_TEST(half_written_files_of_ours_are_removed),
        STORE_TEST(another_groups_replica_is_refused),
        STORE_TEST(after_a_failed_sync_nothing_goes_on_until_it_is_opened_again),
        STORE_TEST(a_read_only_directory_is_said),
        STORE_TEST(head_tells_its_bytes_and_the_digests_of_its_blocks),
        STORE_TEST(a_removed_replica_leaves_nothing),
        STORE_TEST(a_removal_that_was_cut_anywhere_goes_on),
    };
    return cmocka_run_group_tests_name("store_dir", tests, NULL, NULL);
}
