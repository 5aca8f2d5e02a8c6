// SPDX-License-Identifier: Apache-2.0
/* One bit of a replica's files is flipped, again and again, each time in a fresh copy of a replica of
 * 4 MiB with kept points, undo files, a pin, a promotion and a durable point that is not applied yet.
 * Then it is opened, verified, every kept point is read, and points are promoted. Whatever differs
 * from what the disks held must have been refused, or named; and a point that verify does not name
 * must read as it was.
 * MUSTER_FLIPS (2000) says how many, MUSTER_FLIP_SEED (1) from where. */
#include "base/mem.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/kit.h"
#include "support/replica/signs.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE ((uint64_t)2 * 1024 * 1024) /* of each of the two disks */

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer) \
    || __has_feature(thread_sanitizer)
#define DEFAULT_FLIPS 200U
#else
#define DEFAULT_FLIPS 2000U
#endif

/* --- A replica, and its files in memory -------------------------------------------------- */

struct file {
    char *path; /* below the root */
    uint8_t *bytes;
    size_t len;
};
VEC_DEFINE(files, struct file)

struct original {
    char *root;
    struct kit kit;
    struct files files;
    uint64_t total; /* bytes of all of them */
};

static void live(struct original *o)
{
    struct store *store;
    uint64_t generation;
    uint64_t chosen;
    struct store_info info;

    EXPECT_OK(kit_open(&o->kit, fs_real(), &store, &err));
    kit_scribble(&o->kit, 80);
    EXPECT_OK(kit_copy(&o->kit, store, &err));
    for (size_t i = 0; i < 3; i++) {
        kit_scribble(&o->kit, 12);
        EXPECT_OK(kit_point_applied(&o->kit, store, &err));
    }
    EXPECT_OK(store->ops->pin(store, 2, "drill", &chosen, &err));
    EXPECT_OK(kit_prune(store, 2, &err));
    EXPECT_OK(store->ops->promote(store, 1, 0, "run-1/promote", "lyon", o->kit.sign, 1700000100000,
                                  &generation, &chosen, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    kit_promoted(&o->kit, info.durable_point, &info.durable_hash, chosen, generation);
    for (size_t i = 0; i < 2; i++) {
        kit_scribble(&o->kit, 12);
        EXPECT_OK(kit_point_applied(&o->kit, store, &err));
    }
    kit_scribble(&o->kit, 3);
    EXPECT_OK(kit_point(&o->kit, store, &err));
    store_close(store);
}

static void take_folder(struct original *o, const char *folder)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};

    EXPECT_OK(fs_list(folder, &names, &err));
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *path = path_join(folder, names.at[i]);
        CLEANUP(str_free) struct str bytes = STR_EMPTY;
        struct stat st;
        assert_int_equal(stat(path, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            take_folder(o, path);
            continue;
        }
        EXPECT_OK(fs_read_file(fs_real(), path, SIZE_MAX / 2, &bytes, &err));
        struct file *file = files_push(&o->files);
        file->path = mem_strdup(path + strlen(o->root));
        file->len = bytes.len;
        file->bytes = (uint8_t *)str_take(&bytes);
        o->total += file->len;
    }
}

/* What the last one left differs in a few places only. */
static void write_difference(int fd, const struct file *file)
{
    uint8_t have[65536];

    assert_int_equal(ftruncate(fd, (off_t)file->len), 0);
    for (size_t off = 0; off < file->len; off += sizeof(have)) {
        size_t len = file->len - off < sizeof(have) ? file->len - off : sizeof(have);
        assert_true(pread(fd, have, len, (off_t)off) == (ssize_t)len);
        if (memcmp(have, file->bytes + off, len) != 0)
            assert_true(pwrite(fd, file->bytes + off, len, (off_t)off) == (ssize_t)len);
    }
}

static void put_file(const char *root, const struct file *file)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s%s", root, file->path);

    for (char *slash = strchr(path + strlen(root) + 1, '/'); slash;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)mkdir(path, 0700);
        *slash = '/';
    }
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    write_difference(fd, file);
}

/* Files of the last one that this one does not have. */
static void drop_others(const struct original *o, const char *root, const char *folder)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};

    if (!fs_exists(folder))
        return;
    EXPECT_OK(fs_list(folder, &names, &err));
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *path = path_join(folder, names.at[i]);
        struct stat st;
        bool known = false;
        assert_int_equal(stat(path, &st), 0);
        if (S_ISDIR(st.st_mode)) {
            drop_others(o, root, path);
            continue;
        }
        VEC_FOREACH(file, &o->files)
            known |= str_eq(file->path, path + strlen(root));
        if (!known)
            assert_int_equal(unlink(path), 0);
    }
}

/* --- One flip ---------------------------------------------------------------------------- */

enum outcome { REFUSED, NAMED, UNTOUCHED, OUTCOMES };

struct tally {
    uint64_t of[OUTCOMES];
    uint64_t unreadable; /* kept points that a view refused, wholly or in part */
};

struct hit {
    const char *path;
    uint64_t seed;
};

/* A file of one disk says nothing about the other one, which is read now and then. */
static bool is_read(const struct kit *kit, size_t disk, const char *hit, uint64_t seed)
{
    CLEANUP(mem_freep) char *own = mem_printf("/store/%s/", kit->disks[disk].name);
    CLEANUP(mem_freep) char *other = mem_printf("/store/%s/", kit->disks[1 - disk].name);

    return str_starts(hit, own) || !str_starts(hit, other) || seed % 8 == 0;
}

/* Bytes other than what the disks held are the one thing that must not come. */
static bool reads_right(struct kit *kit, uint64_t point, const struct hit *hit)
{
    bool all = true;
    uint8_t have[65536];

    for (size_t i = 0; i < KIT_DISKS; i++) {
        CLEANUP(view_closep) struct view *view = NULL;
        if (!is_read(kit, i, hit->path, hit->seed))
            continue;
        err_clear(&err);
        if (view_open(kit->dir, kit->disks[i].name, point, &kit->key, NULL, &view, &err) < 0) {
            all = false;
            continue;
        }
        for (uint64_t off = 0; off < SIZE; off += sizeof(have)) {
            err_clear(&err);
            if (view_read(view, off, have, sizeof(have), &err) < 0) {
                assert_int_equal(err.code, ERR_CORRUPT);
                all = false;
            } else if (memcmp(have, kit_image(kit, point)->bytes[i] + off, sizeof(have)) != 0) {
                fail_msg("point %" PRIu64 " of disk %s reads wrong at %" PRIu64, point,
                         kit->disks[i].name, off);
            }
        }
    }
    return all;
}

/* Promoted, a point reads as it was in full, or where it cannot the read fails. */
static void promote(struct kit *kit, struct store *store, uint64_t point, bool whole,
                    const struct hit *hit)
{
    struct store_info info;
    uint64_t generation;
    uint64_t chosen;
    uint64_t applied;

    EXPECT_OK(store->ops->info(store, &info, &err));
    err_clear(&err);
    if (store->ops->promote(store, info.generation, point, "run-2/promote", "lyon", kit->sign,
                            1700000200000, &generation, &chosen, &err)
        < 0) {
        assert_true(err.code == ERR_CORRUPT);
        return;
    }
    if (!whole)
        fail_msg("point %" PRIu64 " was promoted, and is damaged", point);
    err_clear(&err);
    if (store->ops->point_apply(store, &applied, NULL, NULL, &err) < 0)
        assert_int_equal(err.code, ERR_CORRUPT);
    (void)reads_right(kit, chosen, hit);
}

static bool verify_names_something(struct store *store)
{
    err_clear(&err);
    if (store_dir_verify(store, NULL, &err) == 0)
        return false;
    assert_int_equal(err.code, ERR_CORRUPT);
    return true;
}

/* Reads all points that are applied; those that cannot be read in full are marked. */
static bool read_all(struct kit *kit, const struct store_points *kept, uint64_t applied,
                     bool *ret_wrong, const struct hit *hit, struct tally *tally)
{
    bool all = true;

    VEC_FOREACH(point, kept) {
        const struct kit_image *image = kit_image(kit, point->point);
        assert_non_null(image);
        assert_memory_equal(&image->hash, &point->hash, sizeof(point->hash));
        if (point->point <= applied && !reads_right(kit, point->point, hit)) {
            ret_wrong[point - kept->at] = true;
            tally->unreadable++;
            all = false;
        }
    }
    return all;
}

static enum outcome judge_open(struct kit *kit, struct store *store, const struct hit *hit,
                               struct tally *tally)
{
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    struct store_info info;
    uint64_t seed = hit->seed;
    bool wrong[64] = {false};
    bool verified = seed / 2 % 3 != 2;
    bool named = seed / 2 % 3 == 0 && verify_names_something(store);

    EXPECT_OK(store->ops->info(store, &info, &err));
    EXPECT_OK(store->ops->points(store, &kept, &err));
    assert_true(kept.len <= 64);
    named |= !read_all(kit, &kept, info.applied_point, wrong, hit, tally);
    named |= seed / 2 % 3 == 1 && verify_names_something(store);
    EXPECT_OK(store->ops->points(store, &kept, &err));
    for (size_t i = 0; verified && i < kept.len; i++)
        if (wrong[i] && kept.at[i].damaged_chunks == 0)
            fail_msg("verify did not name what is wrong with point %" PRIu64, kept.at[i].point);
    const struct store_point *chosen = &kept.at[seed / 6 % kept.len];
    promote(kit, store, chosen->point, !verified || chosen->damaged_chunks == 0, hit);
    return named ? NAMED : UNTOUCHED;
}

static enum outcome judge(const struct original *o, const char *root, const struct hit *hit,
                          struct tally *tally)
{
    CLEANUP(store_closep) struct store *store = NULL;
    enum outcome outcome = REFUSED;
    struct kit kit;

    kit_resume(&kit, &o->kit, root, o->kit.point, o->kit.generation);
    err_clear(&err);
    if (kit_open(&kit, fs_real(), &store, &err) == 0)
        outcome = judge_open(&kit, store, hit, tally);
    else
        assert_true(err.code == ERR_CORRUPT || err.code == ERR_UNSUPPORTED
                    || err.code == ERR_STATE);
    kit_done(&kit);
    return outcome;
}

static void flip(struct original *o, const char *root, uint64_t seed, struct tally *tally)
{
    uint64_t at = kit_random(&o->kit, o->total * 8);
    size_t i = 0;

    while (at / 8 >= o->files.at[i].len)
        at -= (uint64_t)o->files.at[i++].len * 8;
    struct file *hit = &o->files.at[i];
    CLEANUP(mem_freep) char *store = path_join(root, "store");
    drop_others(o, root, store);
    hit->bytes[at / 8] ^= (uint8_t)(1U << (at % 8));
    VEC_FOREACH(file, &o->files)
        put_file(root, file);
    hit->bytes[at / 8] ^= (uint8_t)(1U << (at % 8));
    if (getenv("MUSTER_FLIP_SAY"))
        (void)fprintf(stderr, "flip %" PRIu64 ": bit %" PRIu64 " of %s\n", seed, at, hit->path);
    const struct hit where = {hit->path, seed};
    tally->of[judge(o, root, &where, tally)]++;
}

static uint64_t wanted(const char *name, uint64_t by_default)
{
    const char *text = getenv(name);
    uint64_t count = 0;

    return text && str_to_u64(text, &count) && count > 0 ? count : by_default;
}

/* Every other one, in a process of its own. */
static void run(struct original *o, uint64_t first, uint64_t count)
{
    struct tally tally = {.unreadable = 0};
    void *root;

    assert_int_equal(tmpdir_setup(&root), 0);
    for (uint64_t i = first; i < count; i += 2) {
        o->kit.seed = wanted("MUSTER_FLIP_SEED", 1) * 1000003 + i;
        flip(o, root, i, &tally);
    }
    assert_int_equal(tmpdir_teardown(&root), 0);
    (void)printf("%" PRIu64 " flips: %" PRIu64 " replicas refused, %" PRIu64
                 " named by verify or at use (%" PRIu64
                 " points could not be read in full), %" PRIu64 " changed nothing that is kept\n",
                 tally.of[REFUSED] + tally.of[NAMED] + tally.of[UNTOUCHED], tally.of[REFUSED],
                 tally.of[NAMED], tally.unreadable, tally.of[UNTOUCHED]);
    (void)fflush(stdout);
}

static void no_flipped_bit_of_a_replica_is_ever_shown_or_promoted(void **state)
{
    struct original o = {0};
    uint64_t count = wanted("MUSTER_FLIPS", DEFAULT_FLIPS);
    void *root;
    int status;

    (void)state;
    assert_int_equal(tmpdir_setup(&root), 0);
    o.root = root;
    kit_init(&o.kit, o.root, SIZE, 2718);
    live(&o);
    take_folder(&o, o.kit.dir);
    (void)fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    run(&o, child == 0 ? 1 : 0, count);
    if (child == 0)
        _exit(0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    VEC_FOREACH(file, &o.files) {
        free(file->path);
        free(file->bytes);
    }
    files_free(&o.files);
    kit_done(&o.kit);
    assert_int_equal(tmpdir_teardown(&root), 0);
}

int main(void)
{
    (void)setenv("TMPDIR", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", 0);
    signs_remember();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_flipped_bit_of_a_replica_is_ever_shown_or_promoted),
    };
    return cmocka_run_group_tests_name("crash flip", tests, NULL, NULL);
}
