// SPDX-License-Identifier: Apache-2.0
#include "providers/machine_group.h"

#include "support/expect.h"

#include <stdio.h>
#include <string.h>

static struct machine_names names_of(const char *text)
{
    CLEANUP(json_freep) json_t *list = json_loads(text, 0, NULL);
    struct machine_names names;

    assert_non_null(list);
    EXPECT_OK(machine_names_parse(list, "shop", &names, &err));
    return names;
}

static void machines_are_kept_by_name_and_each_is_named_once(void **state)
{
    struct machine_names names = names_of("[\"web1\",\"db1\"]");
    char text[64];

    (void)state;
    machine_names_text(&names, text, sizeof(text));
    assert_string_equal(text, "db1, web1");
    assert_true(machine_names_have(&names, "web1"));
    assert_false(machine_names_have(&names, "web"));
    EXPECT_ERR(ERR_EXISTS, machine_names_add(&names, "db1", &err));
    EXPECT_TEXT("db1 is named twice");
    EXPECT_ERR(ERR_INVALID, machine_names_add(&names, "../db1", &err));
    CLEANUP(json_freep) json_t *json = machine_names_json(&names);
    struct machine_names again;
    EXPECT_OK(machine_names_parse(json, "shop", &again, &err));
    assert_true(machine_names_equal(&names, &again));
}

static void a_group_that_names_no_machine_is_the_machine_of_its_name(void **state)
{
    struct machine_names names;

    (void)state;
    EXPECT_OK(machine_names_parse(NULL, "db1", &names, &err));
    assert_int_equal(names.count, 1);
    assert_true(machine_names_have(&names, "db1"));
}

static void a_group_has_a_limit(void **state)
{
    struct machine_names names = {0};
    char name[16];

    (void)state;
    for (int i = 0; i < GROUP_MACHINES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "m%d", i);
        EXPECT_OK(machine_names_add(&names, name, &err));
    }
    EXPECT_ERR(ERR_LIMIT, machine_names_add(&names, "more", &err));
}

static void a_disk_has_its_machines_name_only_where_there_are_several(void **state)
{
    struct machine_names alone = names_of("[\"db1\"]");
    struct machine_names both = names_of("[\"db1\",\"web1\"]");
    char name[GROUP_NAME_BYTES];

    (void)state;
    EXPECT_OK(machine_disk_in(&alone, "db1", "vda", name, &err));
    assert_string_equal(name, "vda");
    EXPECT_OK(machine_disk_in(&both, "web1", "vda", name, &err));
    assert_string_equal(name, "web1.vda");
}

static void a_disks_name_in_a_group_must_fit(void **state)
{
    struct machine_names both = names_of("[\"db1\",\"web1\"]");
    char name[GROUP_NAME_BYTES];
    char machine[64] = "";

    (void)state;
    memset(machine, 'm', 59);
    EXPECT_OK(machine_disk_in(&both, machine, "vda", name, &err));
    assert_int_equal(strlen(name), 63);
    machine[59] = 'm';
    EXPECT_ERR(ERR_LIMIT, machine_disk_in(&both, machine, "vda", name, &err));
    EXPECT_TEXT("64 bytes, at most 63 are allowed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(machines_are_kept_by_name_and_each_is_named_once),
        cmocka_unit_test(a_group_that_names_no_machine_is_the_machine_of_its_name),
        cmocka_unit_test(a_group_has_a_limit),
        cmocka_unit_test(a_disk_has_its_machines_name_only_where_there_are_several),
        cmocka_unit_test(a_disks_name_in_a_group_must_fit),
    };
    return cmocka_run_group_tests_name("machine_group", tests, NULL, NULL);
}
