// SPDX-License-Identifier: Apache-2.0
/* Sessions of a machine whose disks lie on a file system that clones them. Of one that is off, what is cut
 * is of the instant at which tracking began. */
#include "base/fs.h"
#include "block/scan.h"
#include "support/expect.h"
#include "support/reflink.h"
#include "support/sync/fixture.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define REST_MS 50 /* more than a tick of the clock of files */

/* The fake machine's bytes are what its images hold, or are to hold. */
static struct fixture f;
static char *folder; /* of the images; NULL: nothing can be cloned here */
static const struct source_ops *honest;
static unsigned write_after_track; /* so many times */

static char *image_of(size_t disk)
{
    return mem_printf("%s/%s.raw", folder, f.machine->disks[disk].name);
}

static void write_images(void)
{
    for (size_t i = 0; i < f.machine->disk_count; i++) {
        const struct fake_disk *d = &f.machine->disks[i];
        CLEANUP(mem_freep) char *path = image_of(i);
        CLEANUP(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_int_equal(pwrite(fd, d->bytes, d->size, 0), d->size);
    }
}

/* As whoever knows nothing of us. */
static void somebody_writes(void)
{
    EXPECT_OK(cancel_sleep(NULL, REST_MS, &err));
    fake_write_random(f.machine, &f.seed, 30);
    write_images();
    EXPECT_OK(cancel_sleep(NULL, REST_MS, &err));
}

static void note_the_instant(void)
{
    for (size_t i = 0; i < f.machine->disk_count; i++)
        memcpy(f.machine->disks[i].cut, f.machine->disks[i].bytes, f.machine->disks[i].size);
}

static int track(struct source *source, uint64_t serial, struct cancel *cancel, struct err *e)
{
    int rc = honest->track(source, serial, cancel, e);

    note_the_instant();
    if (rc == 0 && write_after_track > 0) {
        write_after_track--;
        somebody_writes();
    }
    return rc;
}

static int open_images(void *ctx, struct source **ret_source, struct cancel *cancel, struct err *e)
{
    static struct source_ops noted;
    CLEANUP(mem_freep) char *first = image_of(0);
    CLEANUP(mem_freep) char *second = image_of(1);
    CLEANUP(mem_freep) char *work = mem_printf("%s/work", f.bed.dir);
    const struct source_file_disk disks[] = {{f.machine->disks[0].name, first, "raw"},
                                             {f.machine->disks[1].name, second, "raw"}};

    (void)ctx;
    (void)cancel;
    if (source_file_open(disks, 2, work, ret_source, e) < 0)
        return -1;
    honest = (*ret_source)->ops;
    noted = *honest;
    noted.track = track;
    (*ret_source)->ops = &noted;
    return 0;
}

/* Of more pieces than are under way at a time, which no compression makes less. */
static void make_machine(void)
{
    static const uint64_t sizes[] = {16 * MIB, 3 * MIB + 4096 + 512};
    CLEANUP(mem_freep) uint64_t *noise = mem_alloc(sizes[0], 1);

    memset(&f, 0, sizeof(f));
    f.seed = 1;
    f.machine = fake_machine_new(sizes, ARRAY_LEN(sizes));
    for (size_t i = 0; i < sizes[0] / sizeof(*noise); i++)
        noise[i] = fake_random(&f.seed);
    fake_write(f.machine, 0, 0, noise, sizes[0]);
    fake_write_random(f.machine, &f.seed, 100);
}

static int set_up(void **state)
{
    if (tmpdir_setup(state) < 0)
        return -1;
    make_machine();
    bed_init(&f.bed, *state, f.machine);
    if (!reflink_mount(*state, &folder))
        return 0;
    write_images();
    f.bed.config.open_source = open_images;
    bed_open_session(&f.bed);
    return 0;
}

static int tear_down(void **state)
{
    write_after_track = 0;
    fixture_done(&f);
    reflink_unmount(&folder);
    return tmpdir_teardown(state);
}

#define NEEDS_CLONES() \
    do {               \
        if (!folder)   \
            skip();    \
    } while (0)

static bool now_is_the_cut(void)
{
    bool same = true;

    for (size_t i = 0; i < f.machine->disk_count; i++) {
        const struct fake_disk *d = &f.machine->disks[i];
        same = same && memcmp(d->bytes, d->cut, d->size) == 0;
    }
    return same;
}

static void a_copy_that_is_written_to_is_the_point_of_its_instant_and_the_next_has_the_rest(
    void **unused)
{
    (void)unused;
    NEEDS_CLONES();
    write_after_track = 1;
    bed_turns_until(&f.bed, 1, 10);
    assert_int_equal(write_after_track, 0);
    assert_true(bed_replica_equals_cut(&f.bed));
    assert_false(now_is_the_cut());
    bed_turns_until(&f.bed, 2, 10);
    assert_true(bed_replica_equals_cut(&f.bed));
    assert_true(now_is_the_cut());
}

static void a_copy_says_that_it_reads_a_clone(void **unused)
{
    bool said = false;

    (void)unused;
    NEEDS_CLONES();
    for (int i = 0; i < 10 && bed_status(&f.bed).applied_point < 1; i++) {
        bed_turn(&f.bed);
        said = said || strstr(bed_status(&f.bed).note, "clone");
    }
    assert_true(said);
    assert_string_equal(bed_status(&f.bed).note, "");
}

/* Whoever asks for the last changes gets those of the moment he asks. */
static void a_final_sync_has_what_was_written_while_disks_were_compared(void **unused)
{
    uint64_t point = 0;

    (void)unused;
    NEEDS_CLONES();
    bed_turns_until(&f.bed, 1, 10);
    somebody_writes();
    write_after_track = 2;
    EXPECT_OK(session_sync_now(f.bed.session, true, &point, NULL, &err));
    assert_int_equal(write_after_track, 0);
    assert_true(point > 1);
    assert_true(bed_replica_equals_cut(&f.bed));
    assert_true(now_is_the_cut());
}

/* --- A machine that runs ---------------------------------------------------------------------- */

/* Its changes are tracked by the fake; its disks are read from their images. */
static int open_scan(struct source *source, const char *disk, uint64_t from, struct scan **ret_scan,
                     struct cancel *cancel, struct err *e)
{
    (void)source;
    (void)cancel;
    write_images();
    for (size_t i = 0; i < f.machine->disk_count; i++) {
        const struct fake_disk *d = &f.machine->disks[i];
        CLEANUP(mem_freep) char *path = image_of(i);
        if (str_eq(d->name, disk))
            return scan_written_open(disk, path, d->size, from, 0, ret_scan, e);
    }
    return err_set(e, ERR_NOT_FOUND, 0, "%s", disk);
}

static int open_running(void *ctx, struct source **ret_source, struct cancel *cancel, struct err *e)
{
    static struct source_ops noted;

    (void)ctx;
    (void)cancel;
    (void)e;
    *ret_source = fake_source_new(f.machine);
    noted = *(*ret_source)->ops;
    noted.scan_open = open_scan;
    (*ret_source)->ops = &noted;
    return 0;
}

#define LINK_PER_S 2000000u

static void begin_a_slow_copy(void)
{
    bed_drop_session(&f.bed);
    f.bed.config.open_source = open_running;
    f.bed.link_per_s = LINK_PER_S;
    bed_open_session(&f.bed);
    for (int i = 0; i < 10 && !strstr(bed_status(&f.bed).note, "clone"); i++)
        bed_turn(&f.bed);
    assert_non_null(strstr(bed_status(&f.bed).note, "clone"));
    assert_true(bed_status(&f.bed).disks[0].done_bytes < f.machine->disks[0].size);
}

static void finish_the_copy(void)
{
    fake_write_random(f.machine, &f.seed, 30);
    write_images();
    f.bed.link_per_s = 0;
    bed_turns_until(&f.bed, 1, 30);
    assert_true(bed_replica_equals_cut(&f.bed));
}

static void a_copy_that_is_paused_gives_its_clones_up_and_goes_on(void **unused)
{
    int64_t next;

    (void)unused;
    NEEDS_CLONES();
    begin_a_slow_copy();
    session_pause(f.bed.session, true);
    session_turn(f.bed.session, NULL, &next);
    assert_string_equal(bed_status(&f.bed).note, "");
    session_pause(f.bed.session, false);
    finish_the_copy();
}

static void a_copy_gives_its_clones_up_when_their_file_system_gets_full(void **unused)
{
    CLEANUP(mem_freep) char *filler = NULL;
    CLEANUP(fd_close) int fd = -1;
    uint64_t room = 0;

    (void)unused;
    NEEDS_CLONES();
    begin_a_slow_copy();
    filler = path_join(folder, "filler");
    fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_OK(fs_free_bytes(folder, &room, &err));
    assert_int_equal(posix_fallocate(fd, 0, (off_t)(room - 12 * MIB)), 0);
    bed_turn(&f.bed);
    assert_null(strstr(bed_status(&f.bed).note, "clone"));
    finish_the_copy();
}

#define CLONE_TEST(t) cmocka_unit_test_setup_teardown(t, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CLONE_TEST(a_copy_that_is_written_to_is_the_point_of_its_instant_and_the_next_has_the_rest),
        CLONE_TEST(a_copy_says_that_it_reads_a_clone),
        CLONE_TEST(a_copy_that_is_paused_gives_its_clones_up_and_goes_on),
        CLONE_TEST(a_copy_gives_its_clones_up_when_their_file_system_gets_full),
        CLONE_TEST(a_final_sync_has_what_was_written_while_disks_were_compared),
    };
    return cmocka_run_group_tests_name("session_clone", tests, NULL, NULL);
}
