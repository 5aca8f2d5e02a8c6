// SPDX-License-Identifier: Apache-2.0
/* The first point on the way back, and those after it. */
#include "base/log.h"
#include "base/mem.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/sync/reverse.h"
#include "support/tmpdir.h"

#include <stdatomic.h>
#include <stdio.h>

#define KIB 1024u
#define MIB (1024u * 1024u)

static const uint64_t sizes[REVERSE_DISKS] = {4 * MIB, 3 * MIB + 4096 + 512};

/* Both sides wrote, here and there in blocks, and in longer runs; some of it in the same places. */
static void diverge(struct reverse *r, const char *dir)
{
    reverse_begin(r, dir, sizes);
    reverse_write(r, 120, 1);
    reverse_write(r, 4, 20);
    reverse_start_machine(r);
    reverse_write(r, 100, 1);
    reverse_write(r, 3, 30);
    reverse_follow(r);
}

static void the_replica_is_at(struct reverse *r, uint64_t point)
{
    struct store_info info;

    EXPECT_OK(bed_store(&r->bed)->ops->info(r->bed.store, &info, &err));
    bed_store_put(&r->bed);
    assert_int_equal(info.durable_point, point);
    assert_int_equal(info.applied_point, point);
    assert_true(bed_replica_equals_cut(&r->bed));
}

/* What the failed site's disks held when it was taken over. */
static void the_branch_is_there(struct reverse *r)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/replica", r->bed.dir);

    for (size_t i = 0; i < REVERSE_DISKS; i++) {
        CLEANUP(view_closep) struct view *view = NULL;
        uint64_t size = r->machine->disks[i].size;
        CLEANUP(mem_freep) uint8_t *have = mem_alloc(size, 1);
        EXPECT_OK(view_open(dir, r->machine->disks[i].name, 2, &r->bed.config.group_key, NULL,
                            &view, &err));
        EXPECT_OK(view_read(view, 0, have, size, &err));
        assert_memory_equal(have, r->head[i], size);
    }
}

static void manifest_of(struct reverse *r, uint64_t point, struct manifest *ret_manifest)
{
    char *text;

    EXPECT_OK(bed_store(&r->bed)->ops->point_manifest(r->bed.store, point, &text, &err));
    bed_store_put(&r->bed);
    EXPECT_OK(manifest_parse(text, strlen(text), ret_manifest, &err));
    free(text);
}

static void the_first_reverse_point_costs_what_differs(void **state)
{
    CLEANUP(reverse_done) struct reverse r;
    CLEANUP(manifest_done) struct manifest m;

    manifest_init(&m);
    diverge(&r, *state);
    uint64_t scanned = r.machine->scanned;
    bed_turns_until(&r.bed, REVERSE_TIP + 1, 20);
    uint64_t sent = atomic_load(&r.bed.sent);
    uint64_t differs = reverse_difference(&r);
    (void)printf("%llu bytes differ, %llu were sent (%.3f)\n", (unsigned long long)differs,
                 (unsigned long long)sent, (double)sent / (double)differs);
    assert_true(differs > 1 * MIB);
    assert_true(sent * 10 < differs * 11);
    assert_int_equal(r.machine->scanned, scanned);
    the_replica_is_at(&r, REVERSE_TIP + 1);
    the_branch_is_there(&r);
    manifest_of(&r, REVERSE_TIP + 1, &m);
    assert_memory_equal(&m.parent, &r.tip, sizeof(r.tip));
    assert_int_equal(m.base_point, 2);
    assert_int_equal(m.generation, 2);

    reverse_write(&r, 5, 1);
    bed_turns_until(&r.bed, REVERSE_TIP + 2, 5);
    the_replica_is_at(&r, REVERSE_TIP + 2);
    the_branch_is_there(&r);
    manifest_done(&m);
    manifest_init(&m);
    manifest_of(&r, REVERSE_TIP + 2, &m);
    assert_int_equal(m.base_point, 0);
}

/* Nothing was written here, and the machine stands still: a point all the same, for the replica has
 * to leave its own history. */
static void a_machine_that_wrote_nothing_makes_a_first_point_too(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    reverse_begin(&r, *state, sizes);
    reverse_start_machine(&r);
    reverse_follow(&r);
    bed_turns_until(&r.bed, REVERSE_TIP + 1, 20);
    the_replica_is_at(&r, REVERSE_TIP + 1);
    assert_int_equal(r.base_reads, 0);
    assert_true(atomic_load(&r.bed.sent) < 16 * KIB);
}

static void blocks_written_on_both_sides_are_sent_once(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    reverse_begin(&r, *state, sizes);
    uint64_t same = r.seed;
    reverse_write(&r, 150, 1);
    reverse_start_machine(&r);
    uint64_t next = r.seed;
    r.seed = same; /* the same places once more */
    reverse_write(&r, 150, 1);
    r.seed = next;
    reverse_follow(&r);
    bed_turns_until(&r.bed, REVERSE_TIP + 1, 20);
    assert_true(atomic_load(&r.bed.sent) * 10 < reverse_difference(&r) * 11);
    the_replica_is_at(&r, REVERSE_TIP + 1);
}

static void a_replica_of_the_first_release_is_sent_whole_chunks(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    diverge(&r, *state);
    r.bed.first_release = true;
    bed_turns_until(&r.bed, REVERSE_TIP + 1, 20);
    assert_true(atomic_load(&r.bed.sent) * 2 > reverse_difference(&r) * 3);
    the_replica_is_at(&r, REVERSE_TIP + 1);
    the_branch_is_there(&r);
}

/* --- The base is lost -------------------------------------------------------------------- */

static bool note_says(struct reverse *r, const char *part)
{
    struct session_status status = bed_status(&r->bed);

    return strstr(status.note, part) != NULL;
}

static void all_is_read_and_it_is_said(struct reverse *r, const char *part)
{
    bool said = false;

    for (int i = 0; i < 20 && bed_status(&r->bed).applied_point < REVERSE_TIP + 1; i++) {
        bed_turn(&r->bed);
        said |= note_says(r, part);
    }
    assert_true(said);
    assert_true(r->machine->scanned > 0);
    the_replica_is_at(r, REVERSE_TIP + 1);
    the_branch_is_there(r);
    assert_true(atomic_load(&r->bed.sent) * 10 < reverse_difference(r) * 11);
}

static void a_base_that_is_gone_is_said_and_all_is_read(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    diverge(&r, *state);
    r.machine->scanned = 0;
    r.base_fails = ERR_NOT_FOUND;
    all_is_read_and_it_is_said(&r, "what the disks held before cannot be read (its replica is not");
}

static void a_base_that_is_damaged_in_the_middle_is_said_and_all_is_read(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    diverge(&r, *state);
    r.machine->scanned = 0;
    r.base_fails = ERR_CORRUPT;
    r.base_fails_after = 10;
    all_is_read_and_it_is_said(&r, "what the disks held before cannot be read");
}

static void a_map_of_another_serial_is_said_and_all_is_read(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    diverge(&r, *state);
    r.machine->scanned = 0;
    r.machine->open = 5; /* armed anew since: what changed before is lost */
    all_is_read_and_it_is_said(&r, "what changed since map 1 is not known (open is 5)");
    assert_int_equal(r.base_reads, 0);
}

static void maps_lost_in_the_middle_are_said_and_all_is_read(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    diverge(&r, *state);
    r.machine->scanned = 0;
    fake_fail(r.machine, "cut", 0, ERR_IO);
    while (r.base_reads == 0)
        bed_turn(&r.bed);
    fake_restart(r.machine);
    all_is_read_and_it_is_said(&r, "QEMU was restarted");
}

static void a_base_that_cannot_be_read_for_a_while_is_tried_again(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    diverge(&r, *state);
    r.machine->scanned = 0;
    r.base_fails = ERR_IO;
    bed_turn(&r.bed);
    bed_turn(&r.bed);
    assert_int_equal(bed_status(&r.bed).state, SESSION_BACKING_OFF);
    r.base_fails = ERR_NONE;
    session_retry(r.bed.session);
    bed_turns_until(&r.bed, REVERSE_TIP + 1, 20);
    assert_int_equal(r.machine->scanned, 0);
    the_replica_is_at(&r, REVERSE_TIP + 1);
}

/* --- Where the chain goes on -------------------------------------------------------------- */

static void a_session_killed_while_it_compares_goes_on(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    diverge(&r, *state);
    while (r.base_reads == 0)
        bed_turn(&r.bed);
    uint64_t reads = r.base_reads;
    bed_drop_session(&r.bed);
    bed_open_session(&r.bed);
    bed_turns_until(&r.bed, REVERSE_TIP + 1, 20);
    the_replica_is_at(&r, REVERSE_TIP + 1);
    /* A disk that was compared is not compared again. */
    assert_true(r.base_reads - reads < reads);
}

static void a_lost_checkpoint_after_the_first_point_is_an_ordinary_comparison(void **state)
{
    CLEANUP(reverse_done) struct reverse r;
    CLEANUP(manifest_done) struct manifest m;

    manifest_init(&m);
    diverge(&r, *state);
    bed_turns_until(&r.bed, REVERSE_TIP + 1, 20);
    bed_drop_session(&r.bed);
    CLEANUP(mem_freep) char *session = mem_printf("%s/session", r.bed.dir);
    EXPECT_OK(fs_remove_tree(fs_real(), session, &err));
    bed_open_session(&r.bed);
    reverse_write(&r, 5, 1);
    bed_turns_until(&r.bed, REVERSE_TIP + 2, 20);
    the_replica_is_at(&r, REVERSE_TIP + 2);
    manifest_of(&r, REVERSE_TIP + 2, &m);
    assert_int_equal(m.base_point, 0);
}

static void an_empty_replica_is_copied_and_begins_after_the_promotion(void **state)
{
    CLEANUP(reverse_done) struct reverse r;
    CLEANUP(manifest_done) struct manifest m;

    manifest_init(&m);
    diverge(&r, *state);
    bed_drop_session(&r.bed);
    bed_restart_replica(&r.bed);
    CLEANUP(mem_freep) char *replica = mem_printf("%s/replica", r.bed.dir);
    EXPECT_OK(store_dir_remove(fs_real(), replica, &err));
    bed_open_session(&r.bed);
    bed_turns_until(&r.bed, REVERSE_TIP + 1, 40);
    the_replica_is_at(&r, REVERSE_TIP + 1);
    manifest_of(&r, REVERSE_TIP + 1, &m);
    assert_int_equal(m.base_point, 0);
    assert_memory_equal(&m.parent, &r.tip, sizeof(r.tip));
}

/* A replica that has our promotion for its newest point is one of our own line. */
static void a_replica_at_the_promotion_itself_gets_its_successor(void **state)
{
    CLEANUP(reverse_done) struct reverse r;
    CLEANUP(manifest_done) struct manifest m;
    struct store_info info;
    uint64_t generation;
    uint64_t chosen;

    manifest_init(&m);
    reverse_begin(&r, *state, sizes);
    reverse_start_machine(&r);
    reverse_write(&r, 10, 1);
    struct store *store = bed_store(&r.bed);
    EXPECT_OK(store->ops->promote(store, 1, 0, "run", "lyon", r.bed.config.sign_key, 1, &generation,
                                  &chosen, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    bed_store_put(&r.bed);
    r.bed.config.generation = 2;
    r.bed.config.tip = (struct session_tip){info.durable_point, info.durable_hash};
    bed_open_session(&r.bed);
    bed_turns_until(&r.bed, info.durable_point + 1, 20);
    the_replica_is_at(&r, info.durable_point + 1);
    manifest_of(&r, info.durable_point + 1, &m);
    assert_int_equal(m.base_point, 0);
    assert_memory_equal(&m.parent, &info.durable_hash, sizeof(m.parent));
}

static void a_replica_that_does_not_follow_fences_the_session(void **state)
{
    CLEANUP(reverse_done) struct reverse r;

    reverse_begin(&r, *state, sizes);
    reverse_start_machine(&r);
    r.bed.config.generation = 2;
    r.bed.config.tip = (struct session_tip){REVERSE_TIP, {{1}}};
    bed_open_session(&r.bed);
    bed_turn(&r.bed);
    assert_int_equal(bed_status(&r.bed).state, SESSION_FENCED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(the_first_reverse_point_costs_what_differs),
        TMPDIR_TEST(a_machine_that_wrote_nothing_makes_a_first_point_too),
        TMPDIR_TEST(blocks_written_on_both_sides_are_sent_once),
        TMPDIR_TEST(a_replica_of_the_first_release_is_sent_whole_chunks),
        TMPDIR_TEST(a_base_that_is_gone_is_said_and_all_is_read),
        TMPDIR_TEST(a_base_that_is_damaged_in_the_middle_is_said_and_all_is_read),
        TMPDIR_TEST(a_map_of_another_serial_is_said_and_all_is_read),
        TMPDIR_TEST(maps_lost_in_the_middle_are_said_and_all_is_read),
        TMPDIR_TEST(a_base_that_cannot_be_read_for_a_while_is_tried_again),
        TMPDIR_TEST(a_session_killed_while_it_compares_goes_on),
        TMPDIR_TEST(a_lost_checkpoint_after_the_first_point_is_an_ordinary_comparison),
        TMPDIR_TEST(an_empty_replica_is_copied_and_begins_after_the_promotion),
        TMPDIR_TEST(a_replica_at_the_promotion_itself_gets_its_successor),
        TMPDIR_TEST(a_replica_that_does_not_follow_fences_the_session),
    };
    log_set_level(LOG_LEVEL_ERROR);
    return cmocka_run_group_tests_name("session_reverse", tests, NULL, NULL);
}
