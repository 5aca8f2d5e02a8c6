// SPDX-License-Identifier: Apache-2.0
#include "block/maps.h"

#include "support/expect.h"

#include <stdio.h>

static struct blocks_nodes nodes;
static struct source_state state;
static const struct maps_disk disks[] = {{"vda", "d0"}, {"vdb", "d1"}};

static int two_disks(void **unused)
{
    (void)unused;
    for (int i = 0; i < 2; i++) {
        struct blocks_node *node = blocks_nodes_push(&nodes);
        (void)snprintf(node->name, sizeof(node->name), "d%d", i);
    }
    return 0;
}

static int no_disks(void **unused)
{
    (void)unused;
    blocks_nodes_done(&nodes);
    return 0;
}

static struct blocks_bitmap *add(int disk, const char *name, bool recording)
{
    struct blocks_bitmap *bitmap = blocks_bitmaps_push(&nodes.at[disk].bitmaps);

    (void)snprintf(bitmap->name, sizeof(bitmap->name), "%s", name);
    bitmap->granularity = 4096;
    bitmap->recording = recording;
    return bitmap;
}

static void judge(void)
{
    EXPECT_OK(maps_judge(&nodes, disks, 2, "shop", 3, &state, &err));
}

static void a_map_on_every_disk_is_open(void **unused)
{
    (void)unused;
    add(0, "muster-shop-3-7", true);
    add(1, "muster-shop-3-7", true);
    judge();
    assert_int_equal(state.open, 7);
    assert_int_equal(state.frozen, 0);
    assert_string_equal(state.note, "");
}

static void a_frozen_map_counts_even_if_one_disk_has_dropped_it(void **unused)
{
    (void)unused;
    add(0, "muster-shop-3-7", false);
    add(0, "muster-shop-3-8", true);
    add(1, "muster-shop-3-8", true);
    judge();
    assert_int_equal(state.open, 8);
    assert_int_equal(state.frozen, 7);
}

static void a_disk_without_a_map_means_that_nothing_is_tracked(void **unused)
{
    (void)unused;
    add(0, "muster-shop-3-7", true);
    judge();
    assert_int_equal(state.open, 0);
    assert_non_null(strstr(state.note, "disk vdb: no change map"));
}

static void maps_of_different_serials_are_not_trusted(void **unused)
{
    (void)unused;
    add(0, "muster-shop-3-7", true);
    add(1, "muster-shop-3-6", true);
    judge();
    assert_int_equal(state.open, 0);
    assert_non_null(strstr(state.note, "vdb"));
}

static void an_inconsistent_map_is_not_trusted(void **unused)
{
    (void)unused;
    add(0, "muster-shop-3-7", true);
    add(1, "muster-shop-3-7", false)->inconsistent = true;
    judge();
    assert_int_equal(state.open, 0);
    assert_non_null(strstr(state.note, "inconsistent"));
}

static void a_map_of_another_granularity_is_not_trusted(void **unused)
{
    (void)unused;
    add(0, "muster-shop-3-7", true)->granularity = 65536;
    add(1, "muster-shop-3-7", true);
    judge();
    assert_int_equal(state.open, 0);
    assert_non_null(strstr(state.note, "65536"));
}

static void a_map_of_another_generation_is_not_trusted(void **unused)
{
    (void)unused;
    add(0, "muster-shop-3-7", true);
    add(0, "muster-shop-2-9", true);
    add(1, "muster-shop-3-7", true);
    judge();
    assert_int_equal(state.open, 0);
    assert_non_null(strstr(state.note, "generation 2"));
}

static void maps_of_other_groups_and_programs_are_not_ours(void **unused)
{
    (void)unused;
    add(0, "muster-shop-3-7", true);
    add(1, "muster-shop-3-7", true);
    add(1, "muster-shop-3-7-1", true);
    add(1, "muster-shop2-3-9", true);
    add(1, "backup", true);
    judge();
    assert_int_equal(state.open, 7);
}

static void a_frozen_map_that_does_not_precede_the_open_one_is_not_trusted(void **unused)
{
    (void)unused;
    add(0, "muster-shop-3-5", false);
    add(0, "muster-shop-3-7", true);
    add(1, "muster-shop-3-7", true);
    judge();
    assert_int_equal(state.open, 0);
    assert_int_equal(state.frozen, 0);
}

static void a_missing_node_is_an_error(void **unused)
{
    (void)unused;
    (void)snprintf(nodes.at[1].name, sizeof(nodes.at[1].name), "other");
    EXPECT_ERR(ERR_NOT_FOUND, maps_judge(&nodes, disks, 2, "shop", 3, &state, &err));
    EXPECT_TEXT("vdb");
}

static void names_are_parsed_back_exactly(void **unused)
{
    static const char *const bad[] = {
        "muster-shop-3-",
        "muster-shop-03-7",
        "muster-shop-3-07",
        "muster-shop--7",
        "muster-shop-3-7x",
        "muster-sho-3-7",
        "muster-shop",
        "musters-shop-3-7",
        "muster-shop-3- 7",
        "muster-shop-3-+7",
        "",
        "muster-shop-3-7-",
        "muster-shop-3-99999999999999999999",
    };
    char name[BLOCKS_NAME_BYTES];
    uint64_t generation = 0, serial = 0;

    (void)unused;
    maps_name("a-1-2", UINT64_MAX, 0, name);
    assert_true(maps_parse(name, "a-1-2", &generation, &serial));
    assert_true(generation == UINT64_MAX && serial == 0);
    assert_false(maps_parse(name, "a-1", &generation, &serial));
    assert_false(maps_parse(name, "a", &generation, &serial));
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (maps_parse(bad[i], "shop", &generation, &serial))
            fail_msg("%s was taken for a map", bad[i]);
}

#define MAPS_TEST(f) cmocka_unit_test_setup_teardown(f, two_disks, no_disks)

int main(void)
{
    const struct CMUnitTest tests[] = {
        MAPS_TEST(a_map_on_every_disk_is_open),
        MAPS_TEST(a_frozen_map_counts_even_if_one_disk_has_dropped_it),
        MAPS_TEST(a_disk_without_a_map_means_that_nothing_is_tracked),
        MAPS_TEST(maps_of_different_serials_are_not_trusted),
        MAPS_TEST(an_inconsistent_map_is_not_trusted),
        MAPS_TEST(a_map_of_another_granularity_is_not_trusted),
        MAPS_TEST(a_map_of_another_generation_is_not_trusted),
        MAPS_TEST(maps_of_other_groups_and_programs_are_not_ours),
        MAPS_TEST(a_frozen_map_that_does_not_precede_the_open_one_is_not_trusted),
        MAPS_TEST(a_missing_node_is_an_error),
        MAPS_TEST(names_are_parsed_back_exactly),
    };
    return cmocka_run_group_tests_name("maps", tests, NULL, NULL);
}
