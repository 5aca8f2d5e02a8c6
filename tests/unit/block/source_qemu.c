// SPDX-License-Identifier: Apache-2.0
/* Against a real QEMU whose guest is the test: it writes through the nodes. All of it twice: with a
 * monitor of our own, and with one that is lent. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"
#include "block/source.h"
#include "support/block/bare_qemu.h"
#include "support/expect.h"
#include "support/source_apply.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static struct bare_qemu qemu;
static struct source *source;
static struct cancel *cancel;
static const char *dir;
static bool lent;

static const char *in_dir(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % ARRAY_LEN(paths)];

    (void)snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
    return path;
}

static void make_raw(const char *path, uint64_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    (void)close(fd);
}

static int open_source_of(uint64_t generation)
{
    const struct source_qemu_disk disks[] = {
        {"vda", "d0", in_dir("a.raw"), "raw"},
        {"vdb", "d1", in_dir("b.qcow2"), "qcow2"},
    };
    const struct source_qemu_config config = {
        .group = "shop",
        .generation = generation,
        .qmp_path = qemu.path,
        .lent = lent,
        .disks = disks,
        .disk_count = 2,
        .work_dir = in_dir("work"),
        .plugin_path = MUSTER_BINARY_DIR "/nbdkit-muster-plugin.so",
    };

    source_closep(&source);
    return source_qemu_open(&config, &source, cancel, &err);
}

/* As the daemon does after a restart. */
static void reopen(void)
{
    EXPECT_OK(open_source_of(3));
}

/* Two disks of 64 MiB, a.raw and b.qcow2, in a QEMU; a source of generation 3 over them. */
static int start(void **state)
{
    char *raw, *qcow2;

    lent = *state != NULL;
    if (tmpdir_setup(state) < 0)
        return -1;
    dir = *state;
    cancel = cancel_new(NULL, NULL, 60000);
    make_raw(in_dir("a.raw"), 64 * MIB);
    const char *const create[] = {"qemu-img", "create",          "-q",  "-f",
                                  "qcow2",    in_dir("b.qcow2"), "64M", NULL};
    if (proc_must(create, NULL, &err) < 0)
        return -1;
    raw = mem_printf("raw:%s", in_dir("a.raw"));
    qcow2 = mem_printf("qcow2:%s", in_dir("b.qcow2"));
    bare_qemu_start(&qemu, dir, (const char *const[]){raw, qcow2, NULL});
    free(raw);
    free(qcow2);
    reopen();
    return 0;
}

static int stop(void **state)
{
    fault_clear();
    source_closep(&source);
    bare_qemu_kill(&qemu);
    cancel_freep(&cancel);
    return tmpdir_teardown(state);
}

static struct source_state look(void)
{
    struct source_state found;

    EXPECT_OK(source->ops->inspect(source, &found, cancel, &err));
    return found;
}

static void track(uint64_t serial)
{
    EXPECT_OK(source->ops->track(source, serial, cancel, &err));
}

static void cut(uint64_t serial)
{
    struct source_cut made;

    EXPECT_OK(source->ops->cut(source, serial, &made, cancel, &err));
    assert_true(made.wall_ms > 0);
}

static void end(bool delivered)
{
    EXPECT_OK(source->ops->end(source, delivered, cancel, &err));
}

static uint64_t changed(const char *disk)
{
    CLEANUP(source_extents_free) struct source_extents extents = VEC_EMPTY;
    uint64_t bytes = 0;

    EXPECT_OK(source->ops->changes(source, disk, &extents, cancel, &err));
    VEC_FOREACH(extent, &extents) {
        bytes += extent->len;
    }
    return bytes;
}

static void expect_byte(const char *disk, uint64_t off, uint8_t want)
{
    uint8_t buf[4096];

    EXPECT_OK(source->ops->read(source, disk, off, buf, sizeof(buf), cancel, &err));
    for (size_t i = 0; i < sizeof(buf); i++)
        assert_int_equal(buf[i], want);
}

/* Names of nodes, jobs and files of ours: there must be none after `end`. */
static void expect_nothing_left(void)
{
    CLEANUP(json_freep) json_t *nodes = NULL;
    CLEANUP(json_freep) json_t *jobs = NULL;
    CLEANUP(fs_names_free) struct fs_names files = {0};
    char *text;

    EXPECT_OK(qmp_command(qemu.qmp, "query-named-block-nodes", NULL, &nodes, cancel, &err));
    EXPECT_OK(qmp_command(qemu.qmp, "query-jobs", NULL, &jobs, cancel, &err));
    text = json_text(nodes);
    assert_null(strstr(text, "stage-"));
    free(text);
    assert_int_equal(json_array_size(jobs), 0);
    EXPECT_OK(fs_list(in_dir("work"), &files, &err));
    assert_int_equal(files.len, 0);
}

static void nothing_is_tracked_at_first(void **unused)
{
    struct source_state found = look();

    (void)unused;
    assert_int_equal(found.open, 0);
    assert_true(found.running);
    assert_non_null(strstr(found.note, "vda"));
}

static void a_cut_has_what_was_written_before_it_and_nothing_later(void **unused)
{
    (void)unused;
    track(1);
    bare_qemu_write(&qemu, "d0", 8 * MIB, 4096, 1);
    bare_qemu_write(&qemu, "d1", 3 * MIB, 8192, 2);
    cut(2);
    bare_qemu_write(&qemu, "d0", 8 * MIB, 4096, 9);
    bare_qemu_write(&qemu, "d1", 40 * MIB, 4096, 9);
    assert_int_equal(changed("vda"), 4096);
    assert_int_equal(changed("vdb"), 8192);
    expect_byte("vda", 8 * MIB, 1);
    expect_byte("vdb", 3 * MIB + 4096, 2);
    end(true);
    cut(3);
    assert_int_equal(changed("vda"), 4096);
    assert_int_equal(changed("vdb"), 4096);
    expect_byte("vda", 8 * MIB, 9);
    expect_byte("vdb", 40 * MIB, 9);
    end(true);
    expect_nothing_left();
}

static void what_a_map_is_begun_with_is_in_the_next_cut(void **unused)
{
    CLEANUP(source_extents_free) struct source_extents extents = VEC_EMPTY;
    const struct source_marks marks = {"vdb", &extents};

    (void)unused;
    *source_extents_push(&extents) = (struct source_extent){MIB, 8192};
    EXPECT_OK(source_track_from(source, 1, &marks, 1, cancel, &err));
    bare_qemu_write(&qemu, "d1", 2 * MIB, 4096, 1);
    cut(2);
    assert_int_equal(changed("vda"), 0);
    assert_int_equal(changed("vdb"), 12288);
    end(true);
    expect_nothing_left();
}

static void undelivered_changes_are_in_the_next_cut(void **unused)
{
    (void)unused;
    track(1);
    bare_qemu_write(&qemu, "d0", 0, 4096, 1);
    cut(2);
    bare_qemu_write(&qemu, "d0", MIB, 4096, 2);
    end(false);
    assert_int_equal(look().open, 2);
    assert_int_equal(look().frozen, 0);
    cut(3);
    assert_int_equal(changed("vda"), 8192);
    expect_byte("vda", 0, 1);
    expect_byte("vda", MIB, 2);
    end(true);
    expect_nothing_left();
}

static void delivered_changes_are_not_in_the_next_cut(void **unused)
{
    (void)unused;
    track(1);
    bare_qemu_write(&qemu, "d0", 0, 4096, 1);
    cut(2);
    end(true);
    cut(3);
    assert_int_equal(changed("vda"), 0);
    assert_int_equal(changed("vdb"), 0);
    end(true);
}

static void a_restarted_daemon_finds_the_frozen_map_and_ends_it(void **unused)
{
    struct source_state found;

    (void)unused;
    track(1);
    bare_qemu_write(&qemu, "d0", 0, 4096, 1);
    cut(2);
    reopen();
    found = look();
    assert_int_equal(found.open, 2);
    assert_int_equal(found.frozen, 1);
    end(false);
    cut(3);
    assert_int_equal(changed("vda"), 4096);
    reopen();
    end(true);
    assert_int_equal(look().frozen, 0);
    expect_nothing_left();
}

static void a_cut_while_one_is_frozen_is_refused(void **unused)
{
    struct source_cut made;

    (void)unused;
    track(1);
    cut(2);
    EXPECT_ERR(ERR_STATE, source->ops->cut(source, 3, &made, cancel, &err));
    reopen();
    assert_int_equal(look().frozen, 1);
}

static void a_cut_that_skips_a_serial_is_refused(void **unused)
{
    struct source_cut made;

    (void)unused;
    track(1);
    EXPECT_ERR(ERR_STATE, source->ops->cut(source, 3, &made, cancel, &err));
    EXPECT_TEXT("map 1 is open");
    reopen();
    assert_int_equal(look().open, 1);
    expect_nothing_left();
}

static void maps_of_another_generation_are_dropped_by_track(void **unused)
{
    (void)unused;
    track(1);
    EXPECT_OK(open_source_of(4));
    assert_int_equal(look().open, 0);
    assert_non_null(strstr(look().note, "generation 3"));
    track(1);
    assert_int_equal(look().open, 1);
    EXPECT_OK(open_source_of(3));
    assert_int_equal(look().open, 0);
}

static void forget_leaves_no_trace(void **unused)
{
    CLEANUP(json_freep) json_t *nodes = NULL;
    char *text;

    (void)unused;
    track(1);
    cut(2);
    EXPECT_OK(source->ops->forget(source, cancel, &err));
    EXPECT_OK(qmp_command(qemu.qmp, "query-named-block-nodes", NULL, &nodes, cancel, &err));
    text = json_text(nodes);
    assert_null(strstr(text, "muster-shop"));
    free(text);
    expect_nothing_left();
}

static void pending_counts_the_open_maps(void **unused)
{
    uint64_t bytes = 99;

    (void)unused;
    EXPECT_OK(source->ops->pending(source, &bytes, cancel, &err));
    assert_int_equal(bytes, 0);
    track(1);
    bare_qemu_write(&qemu, "d0", 5, 10, 1);
    bare_qemu_write(&qemu, "d1", MIB, 65536, 1);
    EXPECT_OK(source->ops->pending(source, &bytes, cancel, &err));
    assert_int_equal(bytes, 4096 + 65536);
}

static void many_scattered_changes_are_read_exactly(void **unused)
{
    (void)unused;
    assert_true(source_apply_scan(source, "vda", in_dir("copy.raw"), cancel) == 0);
    track(1);
    for (unsigned i = 0; i < 600; i++)
        bare_qemu_write(&qemu, "d0", i * 7919 % 16384 * 4096, 4096, i % 255 + 1);
    bare_qemu_write(&qemu, "d0", 20 * MIB, 5 * MIB, 77);
    cut(2);
    assert_true(source_apply_changes(source, "vda", in_dir("copy.raw"), cancel) >= 5 * MIB);
    end(true);
    assert_true(source_apply_equal(in_dir("copy.raw"), in_dir("a.raw")));
}

static void without_room_for_staging_no_cut_is_made(void **unused)
{
    struct source_cut made;

    (void)unused;
    track(1);
    bare_qemu_write(&qemu, "d0", 0, 4 * MIB, 1);
    fault_arm("stage.reserve", 1, ENOSPC); /* the second disk's */
    EXPECT_ERR(ERR_SPACE, source->ops->cut(source, 2, &made, cancel, &err));
    EXPECT_TEXT("vdb");
    EXPECT_TEXT("make room there");
    reopen();
    assert_int_equal(look().open, 1);
    assert_int_equal(look().frozen, 0);
    expect_nothing_left();
}

static void a_copy_that_fails_after_the_cut_loses_no_change(void **unused)
{
    struct source_cut made;

    (void)unused;
    track(1);
    bare_qemu_write(&qemu, "d0", 0, 4096, 1);
    fault_arm("source.copy", 0, EIO);
    EXPECT_ERR(ERR_IO, source->ops->cut(source, 2, &made, cancel, &err));
    reopen();
    assert_int_equal(look().frozen, 1);
    end(false);
    cut(3);
    assert_int_equal(changed("vda"), 4096);
    end(true);
    expect_nothing_left();
}

static void a_qemu_that_is_killed_is_said_to_have_died(void **unused)
{
    struct source_cut made;
    struct source_state found;

    (void)unused;
    track(1);
    bare_qemu_kill(&qemu);
    EXPECT_ERR(ERR_NET, source->ops->cut(source, 2, &made, cancel, &err));
    EXPECT_TEXT("QEMU died");
    EXPECT_ERR(ERR_NET, source->ops->inspect(source, &found, cancel, &err));
    EXPECT_TEXT("QEMU died");
}

static void expect_copy_of_qcow2(void)
{
    const char *const compare[] = {
        "qemu-img",         "compare",         "-U", "-f", "raw", "-F", "qcow2",
        in_dir("copy.raw"), in_dir("b.qcow2"), NULL};

    EXPECT_OK(proc_must(compare, NULL, &err));
}

static void a_mirrored_disk_is_its_copy(void **unused)
{
    (void)unused;
    bare_qemu_write(&qemu, "d1", 0, 65536, 1);
    bare_qemu_write(&qemu, "d1", 10 * MIB + 4096, 5 * MIB, 2);
    bare_qemu_write(&qemu, "d1", 64 * MIB - 512, 512, 3);
    track(1);
    assert_true(source_apply_scan(source, "vdb", in_dir("copy.raw"), cancel) > 0);
    bare_qemu_write(&qemu, "d1", 30 * MIB, 4096, 4);
    cut(2);
    assert_int_equal(source_apply_changes(source, "vdb", in_dir("copy.raw"), cancel), 4096);
    end(true);
    expect_nothing_left();
    bare_qemu_flush(&qemu, "d1");
    expect_copy_of_qcow2();
}

static void a_mirror_given_up_leaves_nothing(void **unused)
{
    struct source_piece piece;
    bool ordered = true;

    (void)unused;
    bare_qemu_write(&qemu, "d1", 0, 40 * MIB, 1);
    EXPECT_OK(source->ops->scan_begin(source, "vdb", 7 * MIB, &ordered, cancel, &err));
    assert_false(ordered);
    for (int i = 0; i < 10; i++)
        EXPECT_OK(source->ops->scan_next(source, &piece, cancel, &err));
    source->ops->scan_end(source);
    expect_nothing_left();
    EXPECT_OK(source->ops->scan_begin(source, "vdb", 0, &ordered, cancel, &err));
    EXPECT_OK(source->ops->scan_next(source, &piece, cancel, &err));
    reopen(); /* closes it in the middle */
    expect_nothing_left();
    assert_true(source_apply_scan(source, "vdb", in_dir("copy.raw"), cancel) >= 40);
}

static void kill_our_nbdkit(void)
{
    char parent[32];
    const char *const argv[] = {"pgrep", "-P", parent, "nbdkit", NULL};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str text = STR_EMPTY;
    uint64_t pid = 0;
    int status;

    (void)snprintf(parent, sizeof(parent), "%d", (int)getpid());
    EXPECT_OK(proc_run(&spec, 100, &text, &status, cancel, &err));
    assert_true(str_to_u64(str_text(&text), &pid));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
}

static void a_sink_that_dies_ends_the_scan_and_not_qemu(void **unused)
{
    struct source_piece piece;
    bool ordered;
    int rc;

    (void)unused;
    bare_qemu_write(&qemu, "d1", 0, 40 * MIB, 1);
    track(1);
    EXPECT_OK(source->ops->scan_begin(source, "vdb", 0, &ordered, cancel, &err));
    EXPECT_OK(source->ops->scan_next(source, &piece, cancel, &err));
    kill_our_nbdkit();
    do
        rc = source->ops->scan_next(source, &piece, cancel, &err);
    while (rc == 0 && piece.len > 0);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_IO);
    EXPECT_TEXT("vdb");
    reopen();
    assert_int_equal(look().open, 1);
    expect_nothing_left();
}

static void a_disk_that_is_not_there_is_named(void **unused)
{
    CLEANUP(source_extents_free) struct source_extents extents = VEC_EMPTY;
    bool ordered;

    (void)unused;
    EXPECT_ERR(ERR_NOT_FOUND, source->ops->scan_begin(source, "vdx", 0, &ordered, cancel, &err));
    EXPECT_TEXT("vdx");
    EXPECT_ERR(ERR_STATE, source->ops->changes(source, "vda", &extents, cancel, &err));
}

static void disks_have_the_size_the_guest_sees(void **unused)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;

    (void)unused;
    EXPECT_OK(source->ops->disks(source, &disks, cancel, &err));
    assert_int_equal(disks.len, 2);
    assert_string_equal(disks.at[1].name, "vdb");
    assert_int_equal(disks.at[0].size, 64 * MIB);
    assert_int_equal(disks.at[1].size, 64 * MIB);
    assert_true(disks.at[1].allocated_bytes < 64 * MIB);
}

static void resize(const char *node, uint64_t size)
{
    EXPECT_OK(qmp_command(qemu.qmp, "block_resize",
                          json_pack("{s:s, s:I}", "node-name", node, "size", (json_int_t)size),
                          NULL, cancel, &err));
}

/* Maps grow with their disk, and have what is written to what is new. */
static void a_disk_that_is_resized_keeps_its_map(void **unused)
{
    CLEANUP(source_disks_free) struct source_disks disks = VEC_EMPTY;
    struct source_cut made;
    uint64_t pending[2];

    (void)unused;
    track(1);
    bare_qemu_write(&qemu, "d0", MIB, 4096, 1);
    resize("d0", 80 * MIB);
    resize("d1", 96 * MIB);
    bare_qemu_write(&qemu, "d0", 80 * MIB - 4096, 4096, 2);
    bare_qemu_write(&qemu, "d1", 70 * MIB, 8192, 3);
    assert_int_equal(look().open, 1);
    EXPECT_OK(source_pending(source, pending, 2, cancel, &err));
    assert_int_equal(pending[0], 8192);
    assert_int_equal(pending[1], 8192);
    EXPECT_OK(source->ops->disks(source, &disks, cancel, &err));
    assert_int_equal(disks.at[0].size, 80 * MIB);
    assert_int_equal(disks.at[1].size, 96 * MIB);
    assert_true(disks.at[0].zero_tail && disks.at[1].zero_tail);
    /* This one still has the old sizes: it cannot cut, and nothing is lost by that. */
    if (source->ops->cut(source, 2, &made, cancel, &err) == 0)
        fail_msg("a cut with staging files of the old size");
    err_clear(&err);
    reopen();
    if (look().frozen)
        end(false);
    cut(look().open + 1);
    assert_int_equal(changed("vda"), 8192);
    assert_int_equal(changed("vdb"), 8192);
    expect_byte("vda", MIB, 1);
    expect_byte("vda", 80 * MIB - 4096, 2);
    expect_byte("vdb", 70 * MIB + 4096, 3);
    end(true);
    expect_nothing_left();
}

static void add_map(const char *name, uint64_t granularity)
{
    EXPECT_OK(qmp_command(qemu.qmp, "block-dirty-bitmap-add",
                          json_pack("{s:s, s:s, s:I}", "node", "d1", "name", name, "granularity",
                                    (json_int_t)granularity),
                          NULL, cancel, &err));
}

static void remove_map(const char *node, const char *name)
{
    EXPECT_OK(qmp_command(qemu.qmp, "block-dirty-bitmap-remove",
                          json_pack("{s:s, s:s}", "node", node, "name", name), NULL, cancel, &err));
}

static void a_map_that_is_gone_or_of_another_granularity_is_not_trusted(void **unused)
{
    struct source_cut made;

    (void)unused;
    track(1);
    remove_map("d1", "muster-shop-3-1");
    assert_int_equal(look().open, 0);
    assert_non_null(strstr(look().note, "disk vdb: no change map"));
    add_map("muster-shop-3-1", 65536);
    assert_int_equal(look().open, 0);
    assert_non_null(strstr(look().note, "has a granularity of 65536 bytes"));
    EXPECT_ERR(ERR_STATE, source->ops->cut(source, 2, &made, cancel, &err));
    track(2); /* takes it away, and begins anew */
    assert_int_equal(look().open, 2);
}

/* Persistent in a qcow2 disk whose QEMU was killed: it comes back, and says that it is worth nothing. */
static void an_inconsistent_map_of_a_killed_qemu_is_not_trusted(void **unused)
{
    CLEANUP(mem_freep) char *raw = mem_printf("raw:%s", in_dir("a.raw"));
    CLEANUP(mem_freep) char *qcow2 = mem_printf("qcow2:%s", in_dir("b.qcow2"));

    (void)unused;
    track(1);
    remove_map("d1", "muster-shop-3-1");
    EXPECT_OK(qmp_command(qemu.qmp, "block-dirty-bitmap-add",
                          json_pack("{s:s, s:s, s:i, s:b}", "node", "d1", "name", "muster-shop-3-1",
                                    "granularity", 4096, "persistent", 1),
                          NULL, cancel, &err));
    assert_int_equal(look().open, 1);
    bare_qemu_write(&qemu, "d1", 0, 4096, 1);
    bare_qemu_flush(&qemu, "d1");
    source_closep(&source);
    bare_qemu_kill(&qemu);
    bare_qemu_start(&qemu, dir, (const char *const[]){raw, qcow2, NULL});
    reopen();
    assert_int_equal(look().open, 0);
    track(2);
    assert_int_equal(look().open, 2);
}

static void expect_free_monitor(void)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 10000);
    CLEANUP(qmp_closep) struct qmp *other = NULL;

    EXPECT_OK(qmp_open(qemu.path, clock_real(), &other, soon, &err));
    EXPECT_OK(qmp_command(other, "query-status", NULL, NULL, soon, &err));
}

static void a_lent_monitor_is_free_for_others_between_all_calls(void **unused)
{
    struct source_piece piece;
    bool ordered;

    (void)unused;
    expect_free_monitor();
    bare_qemu_write(&qemu, "d1", 0, 40 * MIB, 1);
    track(1);
    expect_free_monitor();
    EXPECT_OK(source->ops->scan_begin(source, "vdb", 0, &ordered, cancel, &err));
    expect_free_monitor();
    do {
        EXPECT_OK(source->ops->scan_next(source, &piece, cancel, &err));
        expect_free_monitor();
    } while (piece.len > 0);
    source->ops->scan_end(source);
    cut(2);
    expect_free_monitor();
    end(true);
    expect_free_monitor();
    expect_nothing_left();
}

static void a_lent_monitor_that_another_has_is_waited_for(void **unused)
{
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(NULL, NULL, 100);
    CLEANUP(qmp_closep) struct qmp *other = NULL;
    struct source_state found;

    (void)unused;
    EXPECT_OK(qmp_open(qemu.path, clock_real(), &other, cancel, &err));
    EXPECT_ERR(ERR_TIMEOUT, source->ops->inspect(source, &found, soon, &err));
    EXPECT_TEXT("another client may hold it");
    qmp_closep(&other);
    EXPECT_OK(source->ops->inspect(source, &found, cancel, &err));
}

#define QEMU_TEST(f)                                                          \
    cmocka_unit_test_prestate_setup_teardown(f, start, stop, NULL),           \
    {                                                                         \
#f "_with_a_lent_monitor", f, start, stop, (void *)(uintptr_t) "lent" \
    }
#define LENT_TEST(f) \
    cmocka_unit_test_prestate_setup_teardown(f, start, stop, (void *)(uintptr_t) "lent")

int main(void)
{
    const struct CMUnitTest tests[] = {
        QEMU_TEST(nothing_is_tracked_at_first),
        QEMU_TEST(a_cut_has_what_was_written_before_it_and_nothing_later),
        QEMU_TEST(what_a_map_is_begun_with_is_in_the_next_cut),
        QEMU_TEST(undelivered_changes_are_in_the_next_cut),
        QEMU_TEST(delivered_changes_are_not_in_the_next_cut),
        QEMU_TEST(a_restarted_daemon_finds_the_frozen_map_and_ends_it),
        QEMU_TEST(a_cut_while_one_is_frozen_is_refused),
        QEMU_TEST(a_cut_that_skips_a_serial_is_refused),
        QEMU_TEST(maps_of_another_generation_are_dropped_by_track),
        QEMU_TEST(forget_leaves_no_trace),
        QEMU_TEST(pending_counts_the_open_maps),
        QEMU_TEST(many_scattered_changes_are_read_exactly),
        QEMU_TEST(without_room_for_staging_no_cut_is_made),
        QEMU_TEST(a_copy_that_fails_after_the_cut_loses_no_change),
        QEMU_TEST(a_qemu_that_is_killed_is_said_to_have_died),
        QEMU_TEST(a_mirrored_disk_is_its_copy),
        QEMU_TEST(a_mirror_given_up_leaves_nothing),
        QEMU_TEST(a_sink_that_dies_ends_the_scan_and_not_qemu),
        QEMU_TEST(a_disk_that_is_not_there_is_named),
        QEMU_TEST(disks_have_the_size_the_guest_sees),
        QEMU_TEST(a_disk_that_is_resized_keeps_its_map),
        QEMU_TEST(a_map_that_is_gone_or_of_another_granularity_is_not_trusted),
        QEMU_TEST(an_inconsistent_map_of_a_killed_qemu_is_not_trusted),
        LENT_TEST(a_lent_monitor_is_free_for_others_between_all_calls),
        LENT_TEST(a_lent_monitor_that_another_has_is_waited_for),
    };
    return cmocka_run_group_tests_name("source_qemu", tests, NULL, NULL);
}
