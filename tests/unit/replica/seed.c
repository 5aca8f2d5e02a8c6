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

static void a_smaller_seed_fits_and_a_larger_one_does_not(void **state)
{
    const struct seed seed = {.path = (char[]){"x"}, .size = 10000};

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
