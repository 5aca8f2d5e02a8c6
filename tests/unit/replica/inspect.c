// SPDX-License-Identifier: Apache-2.0
#include "replica/inspect.h"

#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPS (f->store->ops)

static int at_rest_setup(void **state)
{
    if (fixture_setup(state) < 0)
        return -1;
    struct fixture *f = *state;
    store_closep(&f->store);
    kit_at_rest(&f->kit, f->root);
    return kit_open(&f->kit, fs_real(), &f->store, &err);
}

static json_t *inspected(const char *dir)
{
    json_t *report = NULL;

    EXPECT_OK(replica_inspect(dir, &report, &err));
    return report;
}

static const char *fault(const json_t *report, size_t i)
{
    const char *text = json_string_value(json_array_get(json_object_get(report, "faults"), i));

    return text ? text : "";
}

static void expect_faults(const json_t *report, size_t count)
{
    if (json_array_size(json_object_get(report, "faults")) != count)
        fail_msg("%zu faults, the first: %s", json_array_size(json_object_get(report, "faults")),
                 fault(report, 0));
}

/* What can be seen of a folder from outside, its times among it. */
static char *seen_of(const char *dir)
{
    const char *const argv[] = {"find", dir, "-printf", "%p %s %i %T@ %C@\\n", NULL};
    const struct proc_spec spec = {.argv = argv};
    CLEANUP(str_free) struct str said = STR_EMPTY;
    int status;

    EXPECT_OK(proc_run(&spec, 1 << 20, &said, &status, NULL, &err));
    return str_take(&said);
}

static void a_replica_tells_what_it_is_and_nothing_of_it_is_changed(void **state)
{
    struct fixture *f = *state;
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 3);
    EXPECT_OK(OPS->pin(f->store, 2, "drill", &pinned, &err));
    EXPECT_OK(kit_point(&f->kit, f->store, &err));
    store_closep(&f->store);
    CLEANUP(mem_freep) char *before = seen_of(f->kit.dir);
    CLEANUP(json_freep) json_t *report = inspected(f->kit.dir);
    CLEANUP(mem_freep) char *after = seen_of(f->kit.dir);
    assert_string_equal(before, after);
    expect_faults(report, 0);
    assert_string_equal(json_get_str(report, "group", ""), "web");
    assert_string_equal(json_get_str(report, "state", ""), "ready");
    assert_string_equal(json_get_str(report, "encryption", ""), "none");
    assert_int_equal(json_get_u64(report, "generation", 0), 1);
    assert_int_equal(json_get_u64(report, "applied", 0), 3);
    assert_false(json_get_bool(report, "in_use", true));
    const json_t *disks = json_object_get(report, "disks");
    assert_int_equal(json_array_size(disks), 2);
    assert_string_equal(json_get_str(json_array_get(disks, 1), "name", ""), "web.vdb");
    assert_int_equal(json_get_u64(json_array_get(disks, 1), "size", 0), f->kit.disks[1].size);
    const json_t *points = json_object_get(report, "points");
    assert_int_equal(json_array_size(points), 4);
    const json_t *pins = json_object_get(json_array_get(points, 1), "pins");
    assert_int_equal(json_array_size(pins), 1);
    assert_string_equal(json_string_value(json_array_get(pins, 0)), "drill");
    assert_true(json_get_bool(json_array_get(points, 2), "applied", false));
    assert_false(json_get_bool(json_array_get(points, 3), "applied", true));
    assert_int_equal(strlen(json_get_str(report, "writer_key", "")), 64);
}

static void one_that_is_open_is_told_as_such_and_goes_on(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 1);
    CLEANUP(json_freep) json_t *report = inspected(f->kit.dir);
    assert_true(json_get_bool(report, "in_use", false));
    expect_faults(report, 0);
    fixture_points(f, 1);
    fixture_reopen(f);
}

static void a_copy_of_it_tells_the_same(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *copy = path_join(f->root, "copy");
    const char *const argv[] = {"cp", "-a", f->kit.dir, copy, NULL};

    fixture_copy(f);
    fixture_points(f, 2);
    store_closep(&f->store);
    EXPECT_OK(proc_must(argv, NULL, &err));
    CLEANUP(json_freep) json_t *one = inspected(f->kit.dir);
    CLEANUP(json_freep) json_t *two = inspected(copy);
    assert_true(json_equal(json_object_get(one, "points"), json_object_get(two, "points")));
    expect_faults(two, 0);
}

static void what_it_was_given_travels_with_it(void **state)
{
    struct fixture *f = *state;
    CLEANUP(json_freep)
    json_t *given = json_pack("{s:s, s:{s:i}}", "peer", "paris", "settings", "interval_ms", 5000);

    fixture_copy(f);
    EXPECT_OK(replica_describe(fs_real(), f->kit.dir, given, &err));
    fixture_reopen(f);
    CLEANUP(json_freep) json_t *report = inspected(f->kit.dir);
    assert_true(json_equal(json_object_get(report, "protection"), given));
    fixture_flip(f, "protection", 5);
    CLEANUP(json_freep) json_t *damaged = inspected(f->kit.dir);
    expect_faults(damaged, 1);
    assert_non_null(strstr(fault(damaged, 0), "/protection: damaged"));
}

static void a_folder_that_is_none_is_told(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *no = path_join(f->root, "no");
    json_t *report;

    EXPECT_ERR(ERR_NOT_FOUND, replica_inspect(f->root, &report, &err));
    EXPECT_TEXT("there is no replica in it; hint: its folder holds a file \"replica\"");
    EXPECT_ERR(ERR_NOT_FOUND, replica_inspect(no, &report, &err));
    EXPECT_TEXT("nor is there such a folder");
}

/* --- Damage ------------------------------------------------------------------------------- */

static void remove_file(const struct fixture *f, const char *name)
{
    CLEANUP(mem_freep) char *path = fixture_path(f, name);

    assert_int_equal(unlink(path), 0);
}

static void all_that_is_damaged_or_missing_is_named_at_once(void **state)
{
    static const char *const names[] = {
        "/pins: damaged",
        "/replica: damaged",
    };
    struct fixture *f = *state;
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 4);
    EXPECT_OK(OPS->pin(f->store, 2, "drill", &pinned, &err));
    store_closep(&f->store);
    fixture_flip(f, "pins", 2);
    fixture_flip(f, "replica", 30);
    CLEANUP(json_freep) json_t *report = inspected(f->kit.dir);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(mem_freep) char *all = json_text(json_object_get(report, "faults"));
        if (!strstr(all, names[i]))
            fail_msg("%s is not in %s", names[i], all);
    }
    /* The points tell whose it is. */
    assert_string_equal(json_get_str(report, "group", ""), "web");
    assert_int_equal(json_array_size(json_object_get(report, "points")), 4);
}

static void a_point_that_is_gone_and_an_undo_file_that_is_gone_are_named(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 4);
    store_closep(&f->store);
    remove_file(f, "manifests/00000000000000000002");
    remove_file(f, "web.vdb/undo/00000000000000000003");
    CLEANUP(json_freep) json_t *report = inspected(f->kit.dir);
    CLEANUP(mem_freep) char *all = json_text(json_object_get(report, "faults"));
    assert_non_null(strstr(all, "point 2 is missing"));
    assert_non_null(strstr(all, "web.vdb/undo: undo file of point 3 is missing"));
    assert_int_equal(json_array_size(json_object_get(report, "points")), 3);
}

static void points_that_were_removed_in_the_middle_are_no_damage(void **state)
{
    struct fixture *f = *state;
    uint64_t pinned;

    fixture_copy(f);
    fixture_points(f, 2);
    EXPECT_OK(OPS->pin(f->store, 2, "drill", &pinned, &err));
    fixture_points(f, 5);
    const struct retention retention = {.keep = 1};
    EXPECT_OK(OPS->prune(f->store, &retention, &err));
    fixture_points(f, 1);
    store_closep(&f->store);
    CLEANUP(json_freep) json_t *report = inspected(f->kit.dir);
    expect_faults(report, 0);
    CLEANUP(store_points_free) struct store_points kept = VEC_EMPTY;
    EXPECT_OK(kit_open(&f->kit, fs_real(), &f->store, &err));
    EXPECT_OK(OPS->points(f->store, &kept, &err));
    const json_t *points = json_object_get(report, "points");
    assert_int_equal(json_array_size(points), kept.len);
    for (size_t i = 0; i < kept.len; i++)
        assert_int_equal(json_get_u64(json_array_get(points, i), "point", 0), kept.at[i].point);
}

static void a_head_of_another_size_and_digests_that_are_gone_are_named(void **state)
{
    struct fixture *f = *state;
    CLEANUP(mem_freep) char *head = fixture_path(f, "web.vda/head.raw");

    fixture_copy(f);
    fixture_points(f, 1);
    store_closep(&f->store);
    assert_int_equal(truncate(head, 4096), 0);
    remove_file(f, "web.vdb/digests");
    CLEANUP(json_freep) json_t *report = inspected(f->kit.dir);
    expect_faults(report, 2);
    assert_non_null(strstr(fault(report, 0), "head.raw: 4096 bytes, but it is to have 1048576"));
    assert_non_null(strstr(fault(report, 1), "web.vdb/digests"));
}

static void containers_are_told_as_such_without_any_key(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 2);
    store_closep(&f->store);
    CLEANUP(json_freep) json_t *report = inspected(f->kit.dir);
    expect_faults(report, 0);
    assert_string_equal(json_get_str(report, "encryption", ""), "at-rest");
    fixture_flip(f, "web.vda/head.luks", 2);
    CLEANUP(json_freep) json_t *damaged = inspected(f->kit.dir);
    expect_faults(damaged, 1);
    assert_non_null(strstr(fault(damaged, 0), "web.vda/head.luks: no header of a LUKS container"));
}

/* --- Its key ------------------------------------------------------------------------------ */

static void its_key_is_told_from_another(void **state)
{
    struct fixture *f = *state;
    struct key other;

    key_new(&other);
    fixture_copy(f);
    EXPECT_OK(replica_check_key(f->kit.dir, &f->kit.key, NULL, &err));
    EXPECT_ERR(ERR_AUTH, replica_check_key(f->kit.dir, &other, NULL, &err));
    EXPECT_TEXT("it is not the key of this replica: none of ");
    fixture_points(f, 2);
    EXPECT_OK(replica_check_key(f->kit.dir, &f->kit.key, NULL, &err));
    fixture_flip(f, "web.vda/head.raw", 70000); /* some damage does not make it another's */
    EXPECT_OK(replica_check_key(f->kit.dir, &f->kit.key, NULL, &err));
    EXPECT_ERR(ERR_AUTH, replica_check_key(f->kit.dir, &other, NULL, &err));
}

static void a_replica_at_rest_needs_both_keys(void **state)
{
    struct fixture *f = *state;
    struct key other;

    key_new(&other);
    fixture_copy(f);
    fixture_points(f, 1);
    EXPECT_OK(replica_check_key(f->kit.dir, &f->kit.key, f->kit.luks_key, &err));
    EXPECT_ERR(ERR_AUTH, replica_check_key(f->kit.dir, &other, f->kit.luks_key, &err));
    EXPECT_ERR(ERR_UNSUPPORTED, replica_check_key(f->kit.dir, &f->kit.key, NULL, &err));
    EXPECT_TEXT("web is encrypted at rest, and no key was given that opens its disks");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_replica_tells_what_it_is_and_nothing_of_it_is_changed),
        STORE_TEST(one_that_is_open_is_told_as_such_and_goes_on),
        STORE_TEST(a_copy_of_it_tells_the_same),
        STORE_TEST(what_it_was_given_travels_with_it),
        STORE_TEST(a_folder_that_is_none_is_told),
        STORE_TEST(all_that_is_damaged_or_missing_is_named_at_once),
        STORE_TEST(a_point_that_is_gone_and_an_undo_file_that_is_gone_are_named),
        STORE_TEST(points_that_were_removed_in_the_middle_are_no_damage),
        STORE_TEST(a_head_of_another_size_and_digests_that_are_gone_are_named),
        cmocka_unit_test_setup_teardown(containers_are_told_as_such_without_any_key, at_rest_setup,
                                        fixture_teardown),
        STORE_TEST(its_key_is_told_from_another),
        cmocka_unit_test_setup_teardown(a_replica_at_rest_needs_both_keys, at_rest_setup,
                                        fixture_teardown),
    };
    return cmocka_run_group_tests_name("inspect", tests, NULL, NULL);
}
