// SPDX-License-Identifier: Apache-2.0
/* Which files may be seeds, and what a store makes of them. */
#include "replica/seed.h"

#include "base/crypto.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/reflink.h"
#include "support/replica/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* "ROOT/seeds/NAME", made with these bytes. */
static char *put(const struct fixture *f, const char *name, const void *bytes, size_t len)
{
    CLEANUP(mem_freep) char *dir = path_join(f->root, "seeds");
    char *path = path_join(dir, name);

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), path, bytes, len, 0600, &err));
    return path;
}

static void put_file(const struct fixture *f, const char *name, const void *bytes, size_t len)
{
    free(put(f, name, bytes, len));
}

static int open_seed(const struct fixture *f, const char *name, struct seed *ret_seed)
{
    CLEANUP(mem_freep) char *dir = path_join(f->root, "seeds");
    CLEANUP(mem_freep) char *run = path_join(f->root, "run");
    const struct seed_folder folder = {.dir = dir, .replicas = f->root, .run_dir = run};

    err_clear(&err);
    return seed_open(&folder, name, ret_seed, &err);
}

/* qemu-img, quietly. */
static void img(const char *a, const char *b, const char *c, const char *d, const char *e)
{
    const char *const argv[] = {"qemu-img", a, "-q", b, c, d, e, NULL};

    EXPECT_OK(proc_must(argv, NULL, &err));
}

static void names_do_not_lead_out_of_the_folder(void **state)
{
    static const char *const names[] = {
        "../secret", "a/../../secret",  "/etc/passwd", "out", "in/out",
        "..",        "./../seeds/../x", "proc"};
    struct fixture *f = *state;
    put_file(f, "a", "x", 1);
    CLEANUP(mem_freep) char *secret = path_join(f->root, "secret");
    CLEANUP(mem_freep) char *out = mem_printf("%s/seeds/out", f->root);
    CLEANUP(mem_freep) char *in = mem_printf("%s/seeds/in", f->root);
    CLEANUP(mem_freep) char *in_out = mem_printf("%s/seeds/in/out", f->root);
    CLEANUP(mem_freep) char *proc = mem_printf("%s/seeds/proc", f->root);
    struct seed seed;

    EXPECT_OK(fs_replace_file(fs_real(), secret, "key", 3, 0600, &err));
    assert_int_equal(symlink(secret, out), 0);
    assert_int_equal(mkdir(in, 0700), 0);
    assert_int_equal(symlink("../../secret", in_out), 0);
    assert_int_equal(symlink("/proc/self/exe", proc), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (open_seed(f, names[i], &seed) == 0)
            fail_msg("%s was opened", names[i]);
        assert_true(err.code == ERR_DENIED || err.code == ERR_NOT_FOUND);
    }
    EXPECT_ERR(ERR_INVALID, open_seed(f, "", &seed));
    EXPECT_ERR(ERR_INVALID, open_seed(f, "a\nb", &seed));
}

static void a_name_inside_is_found_also_by_its_whole_path_and_a_link(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = put(f, "a b,c", "12345", 5);
    CLEANUP(mem_freep) char *link = mem_printf("%s/seeds/link", f->root);

    assert_int_equal(symlink("a b,c", link), 0);
    const char *const names[] = {"a b,c", path, "link", "./link"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(seed_close) struct seed seed;
        char buf[8];
        EXPECT_OK(open_seed(f, names[i], &seed));
        assert_string_equal(seed.format, "raw");
        assert_int_equal(seed.size, 5);
        EXPECT_OK(seed_read(&seed, buf, sizeof(buf), 1, &err));
        assert_memory_equal(buf, "2345\0\0\0\0", 8);
    }
}

static void what_is_no_file_is_no_seed(void **state)
{
    struct fixture *f = *state;
    put_file(f, "empty", "", 0);
    CLEANUP(mem_freep) char *folder = mem_printf("%s/seeds/folder", f->root);
    CLEANUP(mem_freep) char *fifo = mem_printf("%s/seeds/fifo", f->root);
    struct seed seed;

    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    EXPECT_ERR(ERR_INVALID, open_seed(f, "empty", &seed));
    EXPECT_ERR(ERR_INVALID, open_seed(f, "folder", &seed));
    EXPECT_ERR(ERR_INVALID, open_seed(f, "fifo", &seed)); /* and nobody waits for its other end */
    EXPECT_ERR(ERR_NOT_FOUND, open_seed(f, "missing", &seed));
}

static void the_head_of_a_replica_is_no_seed(void **state)
{
    struct fixture *f = *state;
    put_file(f, "a", "x", 1);
    CLEANUP(mem_freep) char *linked = mem_printf("%s/seeds/linked", f->root);
    struct seed seed;

    fixture_copy(f);
    CLEANUP(mem_freep)
    char *head = mem_printf("%s/store/%s/head.raw", f->root, f->kit.disks[0].name);
    assert_int_equal(link(head, linked), 0);
    EXPECT_ERR(ERR_STATE, open_seed(f, "linked", &seed));
}

static void a_file_that_a_qemu_writes_to_is_no_seed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *path = put(f, "a", "x", 1);
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock writer = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1};
    struct seed seed;

    assert_int_equal(fcntl(fd, F_OFD_SETLK, &writer), 0);
    EXPECT_ERR(ERR_BUSY, open_seed(f, "a", &seed));
}

static void an_image_that_names_other_files_is_no_seed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *raw = put(f, "raw", "0123456789abcdef", 16);
    CLEANUP(mem_freep) char *backed = mem_printf("%s/seeds/backed", f->root);
    CLEANUP(mem_freep) char *external = mem_printf("%s/seeds/external", f->root);
    CLEANUP(mem_freep) char *option = mem_printf("data_file=%s.data", external);
    const char *const make_backed[] = {"qemu-img", "create", "-q", "-f",   "qcow2", "-F",
                                       "raw",      "-b",     raw,  backed, "1M",    NULL};
    const char *const make_external[] = {"qemu-img", "create", "-q",     "-f", "qcow2",
                                         "-o",       option,   external, "1M", NULL};
    struct seed seed;

    EXPECT_OK(proc_must(make_backed, NULL, &err));
    EXPECT_OK(proc_must(make_external, NULL, &err));
    EXPECT_ERR(ERR_UNSUPPORTED, open_seed(f, "backed", &seed));
    assert_non_null(strstr(err.text, "backing file"));
    EXPECT_ERR(ERR_UNSUPPORTED, open_seed(f, "external", &seed));
    assert_non_null(strstr(err.text, "another file"));
}

/* --- While it is opened ---------------------------------------------------------------------- */

/* A qcow2 of that name in folder "NAME", filled with that byte, and what it would be if it were swapped. */
static void make_filled(const struct fixture *f, const char *folder, const char *byte)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/%s", f->root, folder);
    CLEANUP(mem_freep) char *path = mem_printf("%s/image", dir);
    CLEANUP(mem_freep) char *write = mem_printf("write -q -P %s 0 64k", byte);
    const char *const create[] = {"qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL};
    const char *const fill[] = {"qemu-io", "-f", "qcow2", "-c", write, path, NULL};

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(proc_must(create, NULL, &err));
    EXPECT_OK(proc_must(fill, NULL, &err));
}

/* From now on somebody does that, in the fixture's folder, in the moment before QEMU opens an image; the
 * PATH as it was. */
static char *meddle(const struct fixture *f, const char *what)
{
    char *path = mem_strdup(getenv("PATH"));
    CLEANUP(mem_freep) char *bin = path_join(f->root, "bin");
    CLEANUP(mem_freep) char *program = path_join(bin, "qemu-nbd");
    CLEANUP(mem_freep) char *with = mem_printf("%s:%s", bin, path);
    CLEANUP(mem_freep)
    char *script = mem_printf("#!/bin/sh\n(cd '%s' && %s)\nPATH='%s' exec qemu-nbd \"$@\"\n",
                              f->root, what, path);

    EXPECT_OK(fs_make_dirs(fs_real(), bin, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), program, script, strlen(script), 0700, &err));
    assert_int_equal(setenv("PATH", with, 1), 0);
    return path;
}

static void what_was_looked_at_is_shown_not_what_lies_there_since(void **state)
{
    struct fixture *f = *state;
    CLEANUP(seed_close) struct seed seed = {.fd = -1};
    uint8_t byte = 0;

    make_filled(f, "seeds/in", "0x11");
    make_filled(f, "other", "0x22");
    CLEANUP(mem_freep) char *path = meddle(f, "mv seeds/in old && mv other seeds/in");
    int rc = open_seed(f, "in/image", &seed);
    assert_int_equal(setenv("PATH", path, 1), 0);
    EXPECT_OK(rc);
    EXPECT_OK(seed_read(&seed, &byte, 1, 0, &err));
    assert_int_equal(byte, 0x11);
}

static void one_that_becomes_another_while_it_is_opened_is_no_seed(void **state)
{
    struct fixture *f = *state;
    CLEANUP(seed_close) struct seed seed = {.fd = -1};

    make_filled(f, "seeds", "0x11");
    make_filled(f, "other", "0x22");
    CLEANUP(mem_freep) char *path = meddle(f, "cat other/image >> seeds/image");
    assert_int_equal(open_seed(f, "image", &seed), -1);
    assert_int_equal(setenv("PATH", path, 1), 0);
    assert_int_equal(err.code, ERR_BUSY);
    EXPECT_TEXT("image was written to while it was opened");
    CLEANUP(mem_freep) char *run = path_join(f->root, "run");
    CLEANUP(fs_names_free) struct fs_names left = {0};
    EXPECT_OK(fs_list(run, &left, &err));
    for (size_t i = 0; i < left.len; i++)
        assert_null(strstr(left.at[i], ".sock")); /* nor is anybody left who serves it */
}

/* The peer that named it reads them. */
static void messages_say_no_place_of_this_site(void **state)
{
    static const char *const names[] = {"missing", "empty", "folder", "link", "/etc/passwd",
                                        "backed",  "short", "linked", "torn"};
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *raw = put(f, "raw", "0123456789abcdef", 16);
    CLEANUP(mem_freep) char *link_path = mem_printf("%s/seeds/link", f->root);
    CLEANUP(mem_freep) char *folder = mem_printf("%s/seeds/folder", f->root);
    CLEANUP(mem_freep) char *backed = mem_printf("%s/seeds/backed", f->root);
    CLEANUP(mem_freep) char *linked = mem_printf("%s/seeds/linked", f->root);
    const char *const make_backed[] = {"qemu-img", "create", "-q", "-f",   "qcow2", "-F",
                                       "raw",      "-b",     raw,  backed, "1M",    NULL};
    struct seed seed;

    put_file(f, "empty", "", 0);
    put_file(f, "short", "QFI\xfb\0\0\0\3", 8);
    put_file(f, "torn", "QFI\xfb\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\0", 32);
    assert_int_equal(symlink(f->root, link_path), 0);
    assert_int_equal(mkdir(folder, 0700), 0);
    EXPECT_OK(proc_must(make_backed, NULL, &err));
    fixture_copy(f);
    CLEANUP(mem_freep)
    char *head = mem_printf("%s/store/%s/head.raw", f->root, f->kit.disks[0].name);
    assert_int_equal(link(head, linked), 0);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (open_seed(f, names[i], &seed) == 0) {
            seed_close(&seed); /* raw, by its first bytes */
            continue;
        }
        if (strstr(err.text, f->root) || !strstr(err.text, names[i]))
            fail_msg("%s", err.text);
    }
}

static void a_smaller_seed_fits_and_a_larger_one_does_not(void **state)
{
    const struct seed seed = {.name = "x", .size = 10000};

    (void)state;
    EXPECT_OK(seed_fits(&seed, "vda", 10240, &err));
    EXPECT_OK(seed_fits(&seed, "vda", 9728, &err)); /* its last sector is not whole */
    EXPECT_ERR(ERR_STATE, seed_fits(&seed, "vda", 9216, &err));
    assert_non_null(strstr(err.text, "10000"));
    assert_non_null(strstr(err.text, "9216"));
}

/* --- In a store ------------------------------------------------------------------------------ */

static void fill(struct fixture *f, size_t disk, const char *name)
{
    const struct kit_disk *to = &f->kit.disks[disk];
    CLEANUP(seed_close) struct seed seed;
    struct store_seeding seeding;

    EXPECT_OK(open_seed(f, name, &seed));
    do
        EXPECT_OK(f->store->ops->base_seed(f->store, to->name, &seed, &seeding, NULL, &err));
    while (seeding.done_bytes < to->size);
}

/* What the replica says that differs is sent, and nothing else: then it is the source. */
static void compare_and_send(struct fixture *f)
{
    struct digester *digester = chunk_digester_new(&f->kit.key);

    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct kit_disk *disk = &f->kit.disks[i];
        memset(disk->dirty, 0, disk->size / 4096);
        for (uint64_t chunk = 0; chunk < chunk_count(disk->size); chunk++) {
            size_t len = chunk_len(disk->size, chunk);
            const uint8_t *bytes = disk->bytes + chunk * CHUNK_BYTES;
            struct digest here, there;
            chunk_digest(digester, bytes, len, &here);
            EXPECT_OK(f->store->ops->digests(f->store, disk->name, 0, chunk, 1, &there, &err));
            if (memcmp(&here, &there, sizeof(here)) != 0)
                kit_write(&f->kit, i, chunk * CHUNK_BYTES, bytes, len);
        }
    }
    digester_free(digester);
    EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
    EXPECT_OK(kit_check_head(&f->kit, f->kit.point, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
}

static void seeded_and_compared(struct fixture *f, const char *first, const char *second)
{
    EXPECT_OK(kit_begin(&f->kit, f->store, &err));
    fill(f, 0, first);
    fill(f, 1, second);
    EXPECT_OK(f->store->ops->base_end(f->store, &err));
    compare_and_send(f);
}

static void raw_and_qcow2_seeds_become_points_once_they_are_compared(void **state)
{
    struct fixture *f = *state;
    kit_scribble(&f->kit, 40);
    put_file(f, "raw", f->kit.disks[0].bytes, f->kit.disks[0].size);
    CLEANUP(mem_freep) char *other = put(f, "other", f->kit.disks[1].bytes, f->kit.disks[1].size);
    CLEANUP(mem_freep) char *qcow2 = mem_printf("%s/seeds/qcow2", f->root);

    img("convert", "-Oqcow2", "-fraw", other, qcow2);
    kit_scribble(&f->kit, 5);
    seeded_and_compared(f, "raw", "qcow2");
}

static void containers_are_seeded_too(void **state)
{
    struct fixture *f = *state;

    store_close(TAKE(f->store));
    kit_at_rest(&f->kit, f->root);
    EXPECT_OK(kit_open(&f->kit, fs_real(), &f->store, &err));
    kit_scribble(&f->kit, 40);
    put_file(f, "a", f->kit.disks[0].bytes, f->kit.disks[0].size);
    put_file(f, "b", f->kit.disks[1].bytes, f->kit.disks[1].size / 2);
    kit_scribble(&f->kit, 5);
    seeded_and_compared(f, "a", "b");
}

static void a_seed_that_was_changed_begins_anew(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) uint8_t *noise = mem_alloc(f->kit.disks[0].size, 1);

    random_bytes(noise, f->kit.disks[0].size);
    put_file(f, "a", noise, f->kit.disks[0].size);
    EXPECT_OK(kit_begin(&f->kit, f->store, &err));
    fill(f, 0, "a");
    fixture_reopen(f);
    EXPECT_OK(kit_begin(&f->kit, f->store, &err));
    put_file(f, "a", f->kit.disks[0].bytes, f->kit.disks[0].size);
    fill(f, 0, "a");
    fill(f, 1, "a");
    EXPECT_OK(f->store->ops->base_end(f->store, &err));
    compare_and_send(f);
}

static void a_fault_at_any_call_only_costs_time(void **state)
{
    static const char *const calls[] = {"fs.pread", "fs.pwrite", "fs.sync",
                                        "fs.punch", "fs.open",   "fs.rename"};
    struct fixture *f = *state;
    unsigned failed = 0;

    kit_scribble(&f->kit, 40);
    put_file(f, "a", f->kit.disks[0].bytes, f->kit.disks[0].size);
    EXPECT_OK(kit_begin(&f->kit, f->store, &err));
    for (size_t i = 0; i < ARRAY_LEN(calls); i++)
        for (int skip = 0; skip < 4; skip++) {
            put_file(f, "a", f->kit.disks[0].bytes, f->kit.disks[0].size);
            CLEANUP(seed_close) struct seed seed;
            struct store_seeding seeding;
            EXPECT_OK(open_seed(f, "a", &seed));
            fault_arm(calls[i], skip, EIO);
            int rc = f->store->ops->base_seed(f->store, f->kit.disks[0].name, &seed, &seeding, NULL,
                                              &err);
            fault_clear();
            failed += rc < 0;
            if (rc < 0)
                fixture_reopen(f);
            EXPECT_OK(kit_begin(&f->kit, f->store, &err));
        }
    assert_true(failed > 8);
    fill(f, 0, "a");
    fill(f, 1, "a");
    EXPECT_OK(f->store->ops->base_end(f->store, &err));
    compare_and_send(f);
}

static void after_the_copy_has_ended_nothing_is_seeded(void **state)
{
    struct fixture *f = *state;
    put_file(f, "a", f->kit.disks[0].bytes, f->kit.disks[0].size);
    CLEANUP(seed_close) struct seed seed;
    struct store_seeding seeding;

    fixture_copy(f);
    EXPECT_OK(open_seed(f, "a", &seed));
    EXPECT_ERR(ERR_STATE, f->store->ops->base_seed(f->store, f->kit.disks[0].name, &seed, &seeding,
                                                   NULL, &err));
}

/* --- Reflinks -------------------------------------------------------------------------------- */

static void where_the_file_system_can_head_shares_the_seed_s_blocks(void **state)
{
    struct fixture *f = *state;
    char *dir = NULL;

    if (!reflink_mount(f->root, &dir))
        skip();
    struct fixture on = {.root = dir};
    kit_init(&on.kit, dir, 8 << 20, 7);
    EXPECT_OK(kit_open(&on.kit, fs_real(), &on.store, &err));
    for (size_t i = 0; i < KIT_DISKS; i++)
        random_bytes(on.kit.disks[i].bytes, on.kit.disks[i].size);
    put_file(&on, "a", on.kit.disks[0].bytes, on.kit.disks[0].size);
    put_file(&on, "b", on.kit.disks[1].bytes, on.kit.disks[1].size - 70000);
    uint64_t before, after;
    EXPECT_OK(kit_begin(&on.kit, on.store, &err));
    sync();
    EXPECT_OK(fs_free_bytes(dir, &before, &err));
    fill(&on, 0, "a");
    fill(&on, 1, "b");
    sync();
    EXPECT_OK(fs_free_bytes(dir, &after, &err));
    assert_true(before < after + (2 << 20)); /* of 16 MiB */
    EXPECT_OK(on.store->ops->base_end(on.store, &err));
    compare_and_send(&on);
    store_close(on.store);
    kit_done(&on.kit);
    reflink_unmount(&dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(names_do_not_lead_out_of_the_folder),
        STORE_TEST(a_name_inside_is_found_also_by_its_whole_path_and_a_link),
        STORE_TEST(what_is_no_file_is_no_seed),
        STORE_TEST(the_head_of_a_replica_is_no_seed),
        STORE_TEST(a_file_that_a_qemu_writes_to_is_no_seed),
        STORE_TEST(an_image_that_names_other_files_is_no_seed),
        STORE_TEST(what_was_looked_at_is_shown_not_what_lies_there_since),
        STORE_TEST(one_that_becomes_another_while_it_is_opened_is_no_seed),
        STORE_TEST(messages_say_no_place_of_this_site),
        STORE_TEST(a_smaller_seed_fits_and_a_larger_one_does_not),
        STORE_TEST(raw_and_qcow2_seeds_become_points_once_they_are_compared),
        STORE_TEST(containers_are_seeded_too),
        STORE_TEST(a_seed_that_was_changed_begins_anew),
        STORE_TEST(a_fault_at_any_call_only_costs_time),
        STORE_TEST(after_the_copy_has_ended_nothing_is_seeded),
        STORE_TEST(where_the_file_system_can_head_shares_the_seed_s_blocks),
    };
    return cmocka_run_group_tests_name("seed", tests, NULL, NULL);
}
