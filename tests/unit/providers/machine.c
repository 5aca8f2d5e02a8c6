// SPDX-License-Identifier: Apache-2.0
#include "providers/machine.h"

#include "support/expect.h"

#include <stdlib.h>

#define GOOD                                                                                    \
    "{\"name\":\"db1\",\"memory\":\"256MiB\",\"cpus\":2,\"kernel\":\"/k\",\"initrd\":\"/i\","   \
    "\"cmdline\":\"quiet\",\"agent\":true,\"disks\":[{\"path\":\"/a.raw\",\"format\":\"raw\"}," \
    "{\"path\":\"/b.qcow2\",\"format\":\"qcow2\",\"iothread\":true}],"                          \
    "\"nics\":[{\"mac\":\"52:54:00:00:00:01\",\"network\":\"bridge br0\"}]}"

static int parse(const char *text, struct machine *machine)
{
    CLEANUP(json_freep) json_t *json = json_loads(text, 0, NULL);

    assert_non_null(json);
    return machine_from_json(json, machine, &err);
}

static void refused(const char *text, const char *why)
{
    struct machine machine;

    err_clear(&err);
    if (parse(text, &machine) >= 0)
        fail_msg("accepted: %s", text);
    assert_int_not_equal(err.code, ERR_NONE);
    EXPECT_TEXT(why);
}

static void a_definition_survives_the_way_to_json_and_back(void **state)
{
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(machine_done) struct machine again;
    CLEANUP(json_freep) json_t *json = NULL;
    CLEANUP(json_freep) json_t *twice = NULL;

    (void)state;
    machine_init(&machine);
    machine_init(&again);
    EXPECT_OK(parse(GOOD, &machine));
    assert_string_equal(machine.disks.at[1].name, "vdb");
    assert_true(machine.disks.at[1].iothread);
    assert_string_equal(machine.accel, "auto");
    json = machine_to_json(&machine);
    EXPECT_OK(machine_from_json(json, &again, &err));
    twice = machine_to_json(&again);
    assert_true(json_equal(json, twice));
}

static void what_is_true_at_one_site_only_does_not_travel(void **state)
{
    CLEANUP(machine_done) struct machine machine;
    CLEANUP(json_freep) json_t *json = NULL;

    (void)state;
    machine_init(&machine);
    EXPECT_OK(parse("{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"/a\","
                    "\"format\":\"raw\"}],\"qmp\":\"/run/a.qmp\",\"agent\":true,"
                    "\"agent_socket\":\"/run/a.ga\",\"complete\":true}",
                    &machine));
    assert_string_equal(machine.qmp, "/run/a.qmp");
    assert_string_equal(machine.agent_socket, "/run/a.ga");
    machine_make_portable(&machine);
    json = machine_to_json(&machine);
    assert_null(json_object_get(json, "qmp"));
    assert_null(json_object_get(json, "agent_socket"));
    assert_null(json_object_get(json, "complete"));
    assert_true(json_is_true(json_object_get(json, "agent")));
}

static void a_misspelt_field_is_named_with_the_nearest_one(void **state)
{
    (void)state;
    refused("{\"name\":\"db1\",\"memroy\":\"1GiB\"}", "unknown field 'memroy'");
    EXPECT_TEXT("did you mean 'memory'?");
    refused(
        "{\"name\":\"db1\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"/a\",\"fromat\":\"raw\"}]}",
        "disks[1]: unknown field 'fromat'; hint: did you mean 'format'?");
}

static void what_cannot_be_a_machine_is_refused(void **state)
{
    static const struct {
        const char *text;
        const char *why;
    } cases[] = {
        {"[]", "must be a table"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"qmp\":\"a.qmp\"}",
         "'qmp' must be an absolute path"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"complete\":true}", "which has a 'qmp'"},
        {"{\"memory\":\"1GiB\"}", "machine: 'name' is missing; hint: name = \"db1\""},
        {"{\"nmae\":\"a\",\"memory\":\"1GiB\"}", "did you mean 'name'?"},
        {"{\"name\":\"../x\",\"memory\":\"1GiB\"}", "is no name"},
        {"{\"name\":\"a\"}", "a: 'memory' is missing; hint: memory = \"2GiB\""},
        {"{\"name\":\"a\",\"memory\":1024}", "'memory' must be a size"},
        {"{\"name\":\"a\",\"memory\":\"1MiB\"}", "16MiB to 64TiB"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"cpus\":0}", "'cpus' must be a number from 1"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\"}", "a: 'disks' is missing; hint: disks = {"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[]}", "'disks' must list at least one"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"format\":\"raw\"}]}",
         "'path' is missing"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"a\",\"format\":\"raw\"}]}",
         "absolute path"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"/a\"}]}",
         "disks[1]: 'format' is missing; hint: format = \"qcow2\" or \"raw\""},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"/a\",\"format\":\"vmdk\"}]}",
         "not \"vmdk\""},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"/a\",\"format\":\"raw\"},"
         "{\"path\":\"/a\",\"format\":\"raw\"}]}",
         "two disks have the path /a"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"name\":\"x\",\"path\":\"/a\",\"format\":"
         "\"raw\"},{\"name\":\"x\",\"path\":\"/b\",\"format\":\"raw\"}]}",
         "two disks are named 'x'"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"/a\",\"format\":\"raw\"}],"
         "\"nics\":[{\"mac\":\"5254\",\"network\":\"user\"}]}",
         "'mac' must be like"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"/a\",\"format\":\"raw\"}],"
         "\"nics\":[{\"network\":\"user\"}]}",
         "nics[1]: 'mac' is missing"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"disks\":[{\"path\":\"/a\",\"format\":\"raw\"}],"
         "\"nics\":[{\"mac\":\"52:54:00:00:00:01\",\"network\":\"brigde x\"}]}",
         "'network' must be"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"initrd\":\"/i\",\"disks\":[{\"path\":\"/a\","
         "\"format\":\"raw\"}]}",
         "need a 'kernel'"},
        {"{\"name\":\"a\",\"memory\":\"1GiB\",\"accel\":\"xen\",\"disks\":[{\"path\":\"/a\","
         "\"format\":\"raw\"}]}",
         "'accel' must be"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        refused(cases[i].text, cases[i].why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_definition_survives_the_way_to_json_and_back),
        cmocka_unit_test(what_is_true_at_one_site_only_does_not_travel),
        cmocka_unit_test(a_misspelt_field_is_named_with_the_nearest_one),
        cmocka_unit_test(what_cannot_be_a_machine_is_refused),
    };
    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
