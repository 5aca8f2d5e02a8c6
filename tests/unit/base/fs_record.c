// SPDX-License-Identifier: Apache-2.0
/* The record is judged by what its replays leave on a disk. */
#include "base/crypto.h"
#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define SEEDS 64

struct fixture {
    char *dir;  /* the test's folder */
    char *live; /* below it: what is recorded */
    char *disk; /* below it: the newest replay */
    struct fs_record *record;
    struct fs *fs;
};

static int setup(void **state)
{
    struct fixture *f = mem_new(struct fixture);
    void *dir = NULL;

    if (tmpdir_setup(&dir) < 0)
        return -1;
    f->dir = dir;
    f->live = path_join(f->dir, "live");
    f->disk = path_join(f->dir, "disk");
    if (mkdir(f->live, 0700) < 0)
        return -1;
    f->record = fs_record_new(f->live);
    f->fs = fs_record_fs(f->record);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *dir = f->dir;

    fs_record_free(f->record);
    free(f->live);
    free(f->disk);
    free(f);
    return tmpdir_teardown(&dir);
}

#define RECORD_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static char *live(struct fixture *f, const char *name)
{
    return path_join(f->live, name);
}

static int create(struct fixture *f, const char *name)
{
    CLEANUP(mem_freep) char *path = live(f, name);
    int fd = -1;

    EXPECT_OK(f->fs->open(f->fs, path, O_RDWR | O_CREAT, 0600, &fd, &err));
    return fd;
}

static void put(struct fixture *f, int fd, const char *text, uint64_t off)
{
    EXPECT_OK(f->fs->pwrite(f->fs, fd, text, strlen(text), off, &err));
}

static void sync_dir(struct fixture *f, const char *name)
{
    CLEANUP(mem_freep) char *path = live(f, name);

    EXPECT_OK(f->fs->sync_dir(f->fs, path, &err));
}

static void make_dir(struct fixture *f, const char *name)
{
    CLEANUP(mem_freep) char *path = live(f, name);

    EXPECT_OK(f->fs->mkdir(f->fs, path, 0700, &err));
}

static void rename_file(struct fixture *f, const char *from, const char *to)
{
    CLEANUP(mem_freep) char *path = live(f, from);
    CLEANUP(mem_freep) char *path_to = live(f, to);

    EXPECT_OK(f->fs->rename(f->fs, path, path_to, &err));
}

/* A file with its name durable and its bytes too. */
static int durable(struct fixture *f, const char *name, const char *text)
{
    int fd = create(f, name);

    put(f, fd, text, 0);
    EXPECT_OK(f->fs->sync(f->fs, fd, &err));
    sync_dir(f, ".");
    return fd;
}

static void replay(struct fixture *f, size_t prefix, enum fs_loss loss, uint64_t seed)
{
    EXPECT_OK(fs_remove_tree(fs_real(), f->disk, &err));
    assert_int_equal(mkdir(f->disk, 0700), 0);
    EXPECT_OK(fs_record_replay(f->record, prefix, loss, seed, f->disk, &err));
}

static void replay_all(struct fixture *f, enum fs_loss loss, uint64_t seed)
{
    replay(f, fs_record_count(f->record), loss, seed);
}

/* What the replayed disk holds under a name; NULL when there is nothing. The caller frees. */
static char *on_disk(struct fixture *f, const char *name)
{
    CLEANUP(mem_freep) char *path = path_join(f->disk, name);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (!fs_exists(path))
        return NULL;
    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 24, &text, &err));
    return str_take(&text);
}

static bool disk_has(struct fixture *f, const char *name)
{
    CLEANUP(mem_freep) char *path = path_join(f->disk, name);

    return fs_exists(path);
}

static void expect_on_disk(struct fixture *f, const char *name, const char *want)
{
    CLEANUP(mem_freep) char *text = on_disk(f, name);

    if (!text)
        fail_msg("%s is not there", name);
    assert_string_equal(text, want);
}

static void every_operation_is_noted_in_order(void **state)
{
    struct fixture *f = *state;
    static const enum fs_op_kind want[] = {
        FS_OP_MKDIR,  FS_OP_CREATE,   FS_OP_WRITE, FS_OP_SYNC,   FS_OP_TRUNCATE, FS_OP_PUNCH,
        FS_OP_RENAME, FS_OP_SYNC_DIR, FS_OP_MARK,  FS_OP_UNLINK, FS_OP_RMDIR};
    CLEANUP(mem_freep) char *dir = live(f, "d");
    CLEANUP(mem_freep) char *path = live(f, "d/b");

    make_dir(f, "d");
    int fd = create(f, "d/a");
    put(f, fd, "hello", 3);
    EXPECT_OK(f->fs->sync(f->fs, fd, &err));
    EXPECT_OK(f->fs->truncate(f->fs, fd, 6, &err));
    EXPECT_OK(f->fs->punch(f->fs, fd, 1, 2, &err));
    (void)f->fs->close(f->fs, fd);
    rename_file(f, "d/a", "d/b");
    sync_dir(f, "d");
    fs_record_mark(f->record, "told");
    EXPECT_OK(f->fs->unlink(f->fs, path, &err));
    EXPECT_OK(f->fs->rmdir(f->fs, dir, &err));

    assert_int_equal(fs_record_count(f->record), ARRAY_LEN(want));
    for (size_t i = 0; i < ARRAY_LEN(want); i++)
        assert_int_equal(fs_record_at(f->record, i)->kind, want[i]);
    const struct fs_op *write = fs_record_at(f->record, 2);
    assert_int_equal(write->file, fs_record_at(f->record, 1)->file);
    assert_int_equal(write->off, 3);
    assert_memory_equal(write->bytes, "hello", 5);
    assert_int_equal(fs_record_at(f->record, 4)->len, 6);
    assert_string_equal(fs_record_at(f->record, 6)->path, "d/a");
    assert_string_equal(fs_record_at(f->record, 6)->path_to, "d/b");
    assert_string_equal(fs_record_at(f->record, 7)->path, "d");
    assert_string_equal(fs_record_at(f->record, 8)->bytes, "told");
}

static void a_failed_operation_is_not_noted(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *none = live(f, "none");
    int fd;

    EXPECT_ERR(ERR_NOT_FOUND, f->fs->open(f->fs, none, O_RDWR, 0, &fd, &err));
    EXPECT_ERR(ERR_NOT_FOUND, f->fs->unlink(f->fs, none, &err));
    EXPECT_ERR(ERR_NOT_FOUND, f->fs->rename(f->fs, none, none, &err));
    EXPECT_ERR(ERR_NOT_FOUND, f->fs->sync_dir(f->fs, none, &err));
    assert_int_equal(fs_record_count(f->record), 0);
}

static void what_lies_elsewhere_is_not_noted(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = path_join(f->dir, "elsewhere");
    int fd = -1;

    EXPECT_OK(f->fs->open(f->fs, path, O_RDWR | O_CREAT, 0600, &fd, &err));
    put(f, fd, "x", 0);
    EXPECT_OK(f->fs->sync(f->fs, fd, &err));
    (void)f->fs->close(f->fs, fd);
    assert_int_equal(fs_record_count(f->record), 0);
}

static void a_killed_process_loses_nothing(void **state)
{
    struct fixture *f = *state;
    int fd = create(f, "a");

    put(f, fd, "abcdef", 0);
    EXPECT_OK(f->fs->punch(f->fs, fd, 2, 1, &err));
    put(f, fd, "-", 2);
    EXPECT_OK(f->fs->truncate(f->fs, fd, 5, &err));
    (void)f->fs->close(f->fs, fd);
    make_dir(f, "d");
    rename_file(f, "a", "d/b");
    replay_all(f, FS_LOSS_NONE, 0);
    expect_on_disk(f, "d/b", "ab-de");
    assert_false(disk_has(f, "a"));
}

static void a_prefix_holds_what_had_been_done_by_then(void **state)
{
    struct fixture *f = *state;
    int fd = create(f, "a");

    put(f, fd, "one", 0);
    put(f, fd, "two", 0);
    (void)f->fs->close(f->fs, fd);
    replay(f, 0, FS_LOSS_NONE, 0);
    assert_false(disk_has(f, "a"));
    replay(f, 1, FS_LOSS_NONE, 0);
    expect_on_disk(f, "a", "");
    replay(f, 2, FS_LOSS_NONE, 0);
    expect_on_disk(f, "a", "one");
    replay(f, 3, FS_LOSS_NONE, 0);
    expect_on_disk(f, "a", "two");
    EXPECT_ERR(ERR_INVALID, fs_record_replay(f->record, 4, FS_LOSS_NONE, 0, f->disk, &err));
}

static void synced_bytes_under_a_synced_name_always_survive(void **state)
{
    static const enum fs_loss losses[] = {FS_LOSS_NONE, FS_LOSS_ALL, FS_LOSS_SOME, FS_LOSS_TORN};
    struct fixture *f = *state;
    int fd = durable(f, "a", "kept");
    size_t from = fs_record_count(f->record);

    put(f, fd, "more", 4);
    int other = create(f, "b");
    put(f, other, "x", 0);
    (void)f->fs->close(f->fs, other);
    (void)f->fs->close(f->fs, fd);
    for (size_t loss = 0; loss < ARRAY_LEN(losses); loss++)
        for (size_t prefix = from; prefix <= fs_record_count(f->record); prefix++)
            for (uint64_t seed = 0; seed < SEEDS / 8; seed++) {
                replay(f, prefix, losses[loss], seed);
                CLEANUP(mem_freep) char *text = on_disk(f, "a");
                assert_non_null(text);
                assert_memory_equal(text, "kept", 4);
            }
}

static void bytes_not_synced_are_lost_when_all_is_lost(void **state)
{
    struct fixture *f = *state;
    int fd = durable(f, "a", "old");

    put(f, fd, "new and longer", 0);
    EXPECT_OK(f->fs->truncate(f->fs, fd, 1, &err));
    (void)f->fs->close(f->fs, fd);
    replay_all(f, FS_LOSS_ALL, 0);
    expect_on_disk(f, "a", "old");
}

static void a_name_not_synced_is_lost_and_its_bytes_with_it(void **state)
{
    struct fixture *f = *state;
    int fd = create(f, "a");

    put(f, fd, "x", 0);
    EXPECT_OK(f->fs->sync(f->fs, fd, &err));
    (void)f->fs->close(f->fs, fd);
    replay_all(f, FS_LOSS_ALL, 0);
    assert_false(disk_has(f, "a"));
    sync_dir(f, ".");
    replay_all(f, FS_LOSS_ALL, 0);
    expect_on_disk(f, "a", "x");
}

static void a_name_may_reach_the_disk_before_its_bytes(void **state)
{
    struct fixture *f = *state;
    int fd = create(f, "a");

    put(f, fd, "x", 0);
    (void)f->fs->close(f->fs, fd);
    sync_dir(f, ".");
    replay_all(f, FS_LOSS_ALL, 0);
    expect_on_disk(f, "a", "");
}

static void a_folder_counts_only_when_its_parent_was_synced(void **state)
{
    struct fixture *f = *state;

    make_dir(f, "d");
    (void)f->fs->close(f->fs, create(f, "d/a"));
    sync_dir(f, "d");
    replay_all(f, FS_LOSS_ALL, 0);
    assert_false(disk_has(f, "d"));
    sync_dir(f, ".");
    replay_all(f, FS_LOSS_ALL, 0);
    assert_true(disk_has(f, "d/a"));
}

static void a_replaced_file_is_the_old_or_the_new_one_at_every_instant(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = live(f, "conf");
    bool seen_old = false;
    bool seen_new = false;

    EXPECT_OK(fs_replace_file(f->fs, path, "old", 3, 0600, &err));
    size_t from = fs_record_count(f->record);
    EXPECT_OK(fs_replace_file(f->fs, path, "new", 3, 0600, &err));
    size_t end = fs_record_count(f->record);
    for (size_t prefix = from; prefix <= end; prefix++)
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            replay(f, prefix, seed % 2 ? FS_LOSS_SOME : FS_LOSS_TORN, seed);
            CLEANUP(mem_freep) char *text = on_disk(f, "conf");
            assert_non_null(text);
            bool is_new = strcmp(text, "new") == 0;
            assert_true(is_new || (prefix < end && strcmp(text, "old") == 0));
            seen_old |= !is_new;
            seen_new |= is_new && prefix < end;
        }
    assert_true(seen_old);
    assert_true(seen_new);
}

/* The mistake everybody makes once: rename without a sync of the bytes. */
static void a_replacement_without_sync_is_caught(void **state)
{
    struct fixture *f = *state;
    bool seen_empty = false;

    (void)f->fs->close(f->fs, durable(f, "conf", "old"));
    int fd = create(f, "conf.tmp");
    put(f, fd, "new", 0);
    (void)f->fs->close(f->fs, fd);
    rename_file(f, "conf.tmp", "conf");
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        replay_all(f, FS_LOSS_SOME, seed);
        CLEANUP(mem_freep) char *text = on_disk(f, "conf");
        assert_non_null(text);
        seen_empty |= *text == '\0';
    }
    assert_true(seen_empty);
}

static void names_of_a_folder_are_lost_from_the_newest_on(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"a", "b", "c", "d"};
    bool seen[ARRAY_LEN(names) + 1] = {false};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        (void)f->fs->close(f->fs, create(f, names[i]));
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        size_t there = 0;
        replay_all(f, FS_LOSS_SOME, seed);
        while (there < ARRAY_LEN(names) && disk_has(f, names[there]))
            there++;
        for (size_t i = there; i < ARRAY_LEN(names); i++)
            assert_false(disk_has(f, names[i]));
        seen[there] = true;
    }
    for (size_t i = 0; i < ARRAY_LEN(seen); i++)
        assert_true(seen[i]);
}

static void writes_of_a_file_are_lost_one_by_one(void **state)
{
    struct fixture *f = *state;
    int fd = durable(f, "a", "....");
    bool seen[16] = {false};

    for (uint64_t i = 0; i < 4; i++)
        put(f, fd, "x", i);
    (void)f->fs->close(f->fs, fd);
    for (uint64_t seed = 0; seed < 4 * SEEDS; seed++) {
        replay_all(f, FS_LOSS_SOME, seed);
        CLEANUP(mem_freep) char *text = on_disk(f, "a");
        assert_non_null(text);
        unsigned set = 0;
        for (unsigned i = 0; i < 4; i++)
            set |= (text[i] == 'x' ? 1u : 0u) << i;
        seen[set] = true;
    }
    for (size_t set = 0; set < ARRAY_LEN(seen); set++)
        assert_true(seen[set]);
}

static void a_torn_write_is_cut_at_a_sector_of_the_file(void **state)
{
    struct fixture *f = *state;
    char big[2000];
    unsigned cuts = 0;

    memset(big, 'x', sizeof(big));
    int fd = durable(f, "a", "");
    EXPECT_OK(f->fs->truncate(f->fs, fd, 4096, &err));
    EXPECT_OK(f->fs->sync(f->fs, fd, &err));
    EXPECT_OK(f->fs->pwrite(f->fs, fd, big, sizeof(big), 100, &err)); /* sectors 0 to 4 */
    (void)f->fs->close(f->fs, fd);
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        replay_all(f, FS_LOSS_TORN, seed);
        CLEANUP(mem_freep) char *path = path_join(f->disk, "a");
        CLEANUP(str_free) struct str text = STR_EMPTY;
        EXPECT_OK(fs_read_file(fs_real(), path, 4096, &text, &err));
        assert_int_equal(text.len, 4096);
        size_t changes = 0;
        for (size_t i = 101; i < 2100; i++)
            if (text.ptr[i] != text.ptr[i - 1]) {
                assert_int_equal(i % 512, 0);
                cuts |= 1u << (i / 512 * 2 + (text.ptr[i] == 'x'));
                changes++;
            }
        assert_int_equal(changes, 1);
    }
    assert_int_equal(cuts, 0x3fc); /* each of the 4 boundaries, the front kept and the end kept */
}

static void a_rename_between_folders_needs_both_of_them(void **state)
{
    struct fixture *f = *state;

    make_dir(f, "from");
    make_dir(f, "to");
    sync_dir(f, ".");
    (void)f->fs->close(f->fs, create(f, "from/a"));
    sync_dir(f, "from");
    rename_file(f, "from/a", "to/b");
    size_t renamed = fs_record_count(f->record);
    sync_dir(f, "to");
    replay_all(f, FS_LOSS_ALL, 0);
    assert_true(disk_has(f, "from/a"));
    assert_false(disk_has(f, "to/b"));
    sync_dir(f, "from");
    replay_all(f, FS_LOSS_ALL, 0);
    assert_false(disk_has(f, "from/a"));
    assert_true(disk_has(f, "to/b"));
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        replay(f, renamed, FS_LOSS_SOME, seed);
        assert_int_equal(disk_has(f, "from/a"), !disk_has(f, "to/b"));
    }
}

static void a_file_made_anew_is_another_file(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = live(f, "a");

    (void)f->fs->close(f->fs, durable(f, "a", "first"));
    EXPECT_OK(f->fs->unlink(f->fs, path, &err));
    int fd = create(f, "a");
    put(f, fd, "second", 0);
    EXPECT_OK(f->fs->sync(f->fs, fd, &err));
    (void)f->fs->close(f->fs, fd);
    replay_all(f, FS_LOSS_ALL, 0);
    expect_on_disk(f, "a", "first");
    sync_dir(f, ".");
    replay_all(f, FS_LOSS_ALL, 0);
    expect_on_disk(f, "a", "second");
}

static void opening_to_empty_a_file_is_a_change_like_others(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = live(f, "a");
    int fd = -1;

    (void)f->fs->close(f->fs, durable(f, "a", "old"));
    EXPECT_OK(f->fs->open(f->fs, path, O_WRONLY | O_TRUNC, 0, &fd, &err));
    (void)f->fs->close(f->fs, fd);
    replay_all(f, FS_LOSS_ALL, 0);
    expect_on_disk(f, "a", "old");
    replay_all(f, FS_LOSS_NONE, 0);
    expect_on_disk(f, "a", "");
}

static void what_was_there_at_the_start_is_durable(void **state)
{
    struct fixture *f = *state;

    (void)f->fs->close(f->fs, durable(f, "a", "kept"));
    make_dir(f, "d");
    (void)f->fs->close(f->fs, create(f, "d/b"));
    fs_record_free(f->record);
    f->record = fs_record_new(f->live);
    f->fs = fs_record_fs(f->record);
    assert_int_equal(fs_record_count(f->record), 0);
    int fd = create(f, "a");
    put(f, fd, "lost", 0);
    (void)f->fs->close(f->fs, fd);
    assert_int_equal(fs_record_count(f->record), 1);
    replay_all(f, FS_LOSS_ALL, 0);
    expect_on_disk(f, "a", "kept");
    expect_on_disk(f, "d/b", "");
    replay_all(f, FS_LOSS_NONE, 0);
    expect_on_disk(f, "a", "lost");
}

static void a_folder_synced_by_its_descriptor_is_synced(void **state)
{
    struct fixture *f = *state;
    int fd = -1;

    (void)f->fs->close(f->fs, create(f, "a"));
    EXPECT_OK(f->fs->open(f->fs, f->live, O_RDONLY | O_DIRECTORY, 0, &fd, &err));
    EXPECT_OK(f->fs->sync(f->fs, fd, &err));
    (void)f->fs->close(f->fs, fd);
    replay_all(f, FS_LOSS_ALL, 0);
    assert_true(disk_has(f, "a"));
}

static void one_seed_always_gives_one_disk(void **state)
{
    struct fixture *f = *state;
    int fd = durable(f, "a", "................");

    for (uint64_t i = 0; i < 16; i++)
        put(f, fd, "x", i);
    (void)f->fs->close(f->fs, fd);
    replay_all(f, FS_LOSS_TORN, 12345);
    CLEANUP(mem_freep) char *once = on_disk(f, "a");
    replay_all(f, FS_LOSS_TORN, 12345);
    CLEANUP(mem_freep) char *again = on_disk(f, "a");
    assert_string_equal(once, again);
}

/* Whatever is done, losing nothing gives what the recorder's own folder holds. */
static void what_a_failed_sync_lost_no_later_sync_brings_back(void **state)
{
    struct fixture *f = *state;
    int fd = durable(f, "a", "first");

    put(f, fd, "SECOND", 0);
    fs_record_sync_failed(f->record, fd);
    put(f, fd, "3", 2);
    EXPECT_OK(f->fs->sync(f->fs, fd, &err));
    fd_close(&fd);
    replay_all(f, FS_LOSS_ALL, 0);
    expect_on_disk(f, "a", "fi3st");
    replay_all(f, FS_LOSS_NONE, 0);
    expect_on_disk(f, "a", "SE3OND");
}

/* What a replay left: names and bytes of "a", "b" and "c". */
static void disk_key(struct fixture *f, struct sha256 *ret_key)
{
    static const char *const names[] = {"a", "b", "c"};
    struct sha256_run *run = sha256_begin();

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(mem_freep) char *text = disk_has(f, names[i]) ? on_disk(f, names[i]) : NULL;
        sha256_add(run, text ? "+" : "-", 1);
        if (text)
            sha256_add(run, text, strlen(text) + 1);
    }
    sha256_end(run, ret_key);
}

static void the_same_key_means_the_same_disk(void **state)
{
    struct fixture *f = *state;
    struct sha256 keys[400];
    struct sha256 disks[400];
    size_t count = 0;
    size_t same = 0;

    durable(f, "a", "first");
    int fd = create(f, "b");
    put(f, fd, "not synced", 0);
    put(f, fd, "later", 3);
    fd_close(&fd);
    rename_file(f, "a", "c");
    for (unsigned loss = FS_LOSS_NONE; loss <= FS_LOSS_TORN; loss++)
        for (size_t prefix = 0; prefix <= fs_record_count(f->record); prefix++)
            for (uint64_t seed = 0; seed < 5; seed++) {
                assert_true(count < ARRAY_LEN(keys));
                replay(f, prefix, (enum fs_loss)loss, seed);
                disk_key(f, &disks[count]);
                EXPECT_OK(fs_record_replay_key(f->record, prefix, (enum fs_loss)loss, seed,
                                               &keys[count], &err));
                count++;
            }
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            if (memcmp(&keys[i], &keys[k], sizeof(keys[i])) == 0) {
                assert_memory_equal(&disks[i], &disks[k], sizeof(disks[i]));
                same++;
            }
    assert_true(same > count); /* or the key would be of no use */
    EXPECT_ERR(ERR_INVALID, fs_record_replay_key(f->record, fs_record_count(f->record) + 1,
                                                 FS_LOSS_NONE, 0, &keys[0], &err));
}

static void replaying_it_all_gives_the_same_tree(void **state)
{
    struct fixture *f = *state;
    uint8_t dice[3 * 400];
    char bytes[3000];

    random_bytes(dice, sizeof(dice));
    make_dir(f, "0");
    make_dir(f, "1");
    for (size_t i = 0; i < 400; i++) {
        const uint8_t *d = &dice[3 * i];
        char from[] = {(char)('0' + d[0] % 2), '/', (char)('a' + d[1] % 4), '\0'};
        char to[] = {(char)('0' + d[0] / 2 % 2), '/', (char)('a' + d[2] % 4), '\0'};
        CLEANUP(mem_freep) char *path = live(f, from);
        if (d[0] % 7 == 0 && fs_exists(path)) {
            EXPECT_OK(f->fs->unlink(f->fs, path, &err));
        } else if (d[0] % 7 == 1 && fs_exists(path)) {
            rename_file(f, from, to);
        } else {
            int fd = create(f, from);
            memset(bytes, 'a' + d[1] % 26, sizeof(bytes));
            EXPECT_OK(f->fs->pwrite(f->fs, fd, bytes, 10u * d[1], 7u * d[2], &err));
            if (d[0] % 5 == 0)
                EXPECT_OK(f->fs->punch(f->fs, fd, d[2], d[1], &err));
            if (d[0] % 11 == 0)
                EXPECT_OK(f->fs->truncate(f->fs, fd, 9u * d[2], &err));
            (void)f->fs->close(f->fs, fd);
        }
    }
    replay_all(f, FS_LOSS_NONE, 0);
    for (char dir = '0'; dir <= '1'; dir++)
        for (char name = 'a'; name <= 'd'; name++) {
            char file[] = {dir, '/', name, '\0'};
            CLEANUP(mem_freep) char *want = live(f, file);
            CLEANUP(mem_freep) char *have = path_join(f->disk, file);
            CLEANUP(str_free) struct str want_text = STR_EMPTY;
            CLEANUP(str_free) struct str have_text = STR_EMPTY;
            assert_int_equal(fs_exists(want), fs_exists(have));
            if (!fs_exists(want))
                continue;
            EXPECT_OK(fs_read_file(fs_real(), want, 1 << 20, &want_text, &err));
            EXPECT_OK(fs_read_file(fs_real(), have, 1 << 20, &have_text, &err));
            assert_int_equal(want_text.len, have_text.len);
            if (want_text.len > 0)
                assert_memory_equal(want_text.ptr, have_text.ptr, want_text.len);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        RECORD_TEST(every_operation_is_noted_in_order),
        RECORD_TEST(a_failed_operation_is_not_noted),
        RECORD_TEST(what_lies_elsewhere_is_not_noted),
        RECORD_TEST(a_killed_process_loses_nothing),
        RECORD_TEST(a_prefix_holds_what_had_been_done_by_then),
        RECORD_TEST(synced_bytes_under_a_synced_name_always_survive),
        RECORD_TEST(bytes_not_synced_are_lost_when_all_is_lost),
        RECORD_TEST(a_name_not_synced_is_lost_and_its_bytes_with_it),
        RECORD_TEST(a_name_may_reach_the_disk_before_its_bytes),
        RECORD_TEST(a_folder_counts_only_when_its_parent_was_synced),
        RECORD_TEST(a_replaced_file_is_the_old_or_the_new_one_at_every_instant),
        RECORD_TEST(a_replacement_without_sync_is_caught),
        RECORD_TEST(names_of_a_folder_are_lost_from_the_newest_on),
        RECORD_TEST(writes_of_a_file_are_lost_one_by_one),
        RECORD_TEST(a_torn_write_is_cut_at_a_sector_of_the_file),
        RECORD_TEST(a_rename_between_folders_needs_both_of_them),
        RECORD_TEST(a_file_made_anew_is_another_file),
        RECORD_TEST(opening_to_empty_a_file_is_a_change_like_others),
        RECORD_TEST(what_was_there_at_the_start_is_durable),
        RECORD_TEST(a_folder_synced_by_its_descriptor_is_synced),
        RECORD_TEST(one_seed_always_gives_one_disk),
        RECORD_TEST(what_a_failed_sync_lost_no_later_sync_brings_back),
        RECORD_TEST(the_same_key_means_the_same_disk),
        RECORD_TEST(replaying_it_all_gives_the_same_tree),
    };
    return cmocka_run_group_tests_name("fs_record", tests, NULL, NULL);
}
