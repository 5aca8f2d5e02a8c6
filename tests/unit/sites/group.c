// SPDX-License-Identifier: Apache-2.0
/* A group of several machines at one site: what is asked of it is done to each of them. paris sends
 * "shop", app1 and web1, to lyon, which holds points 1..3 of it. */
#include "base/fs.h"
#include "base/mem.h"
#include "sites/branch.h"
#include "sites/estate_base.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const names[] = {"app1", "web1"};

/* --- What there is ------------------------------------------------------------------------------ */

static json_t *definition_of(const char *name)
{
    CLEANUP(mem_freep) char *path = mem_printf("/srv/%s.raw", name);

    return json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "name", name, "memory", "128MiB", "disks",
                     "path", path, "format", "raw");
}

static json_t *definitions(void)
{
    json_t *all = json_object();

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        (void)json_object_set_new(all, names[i], definition_of(names[i]));
    return all;
}

static void add_point(struct store *store, uint64_t number, struct sha256 *parent)
{
    CLEANUP(manifest_done) struct manifest manifest;
    uint8_t sign[SIGN_KEY_BYTES];
    uint64_t applied;

    memset(sign, 1, sizeof(sign));
    manifest_init(&manifest);
    (void)snprintf(manifest.group, sizeof(manifest.group), "shop");
    (void)snprintf(manifest.site, sizeof(manifest.site), "paris");
    manifest.generation = 1;
    manifest.point = number;
    manifest.parent = *parent;
    manifest.cut_wall_ms = 1700000000000;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct manifest_disk *disk = manifest_disks_push(&manifest.disks);
        (void)snprintf(disk->name, sizeof(disk->name), "%s.vda", names[i]);
        disk->size = 65536;
    }
    manifest.machines = definitions();
    manifest_sign(&manifest, sign);
    CLEANUP(mem_freep) char *text = manifest_text(&manifest);
    EXPECT_OK(store->ops->point_commit(store, text, strlen(text), &err));
    EXPECT_OK(store->ops->point_apply(store, &applied, NULL, NULL, &err));
    manifest_hash(&manifest, parent);
}

static void fill_store(struct store *store)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    struct sha256 parent = {{0}};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct store_disk *disk = store_disks_push(&disks);
        (void)snprintf(disk->name, sizeof(disk->name), "%s.vda", names[i]);
        disk->size = 65536;
    }
    EXPECT_OK(store->ops->base_begin(store, &disks, 65536, 1, 1, &err));
    EXPECT_OK(store->ops->base_end(store, &err));
    for (uint64_t number = 1; number <= 3; number++)
        add_point(store, number, &parent);
}

static int setup(void **state)
{
    struct estate_group group = {.group = "shop", .peer = "lyon", .generation = 1};
    struct estate_replica replica = {.group = "shop", .peer = "paris"};
    struct store *store;
    struct key key;

    if (estates_setup(state) < 0)
        return -1;
    struct estates *e = *state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(machine_done) struct machine machine;
        CLEANUP(json_freep) json_t *json = definition_of(names[i]);
        machine_init(&machine);
        EXPECT_OK(machine_from_json(json, &machine, &err));
        estate_machine_put(e->paris, &machine);
        EXPECT_OK(machine_names_add(&group.machines, names[i], &err));
    }
    policy_init(&group.policy);
    replica.machines = group.machines;
    key_new(&key);
    EXPECT_OK(estate_key_write(e->paris, "shop", &key, &err));
    EXPECT_OK(estate_key_write(e->lyon, "shop", &key, &err));
    EXPECT_OK(estate_group_add(e->paris, &group, &err));
    EXPECT_OK(estate_replica_add(e->lyon, &replica, &err));
    EXPECT_OK(estate_store_get(e->lyon, "shop", &store, &err));
    fill_store(store);
    estate_store_put(e->lyon, "shop", store, false);
    return 0;
}

#define GROUP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, estates_teardown)

/* --- Asking ------------------------------------------------------------------------------------- */

static json_t *instance_args(const char *machine, bool test)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:i}", "machine", machine, "group", "shop", "run",
                     "lyon-4", "test", test, "point", 2);
}

static void start_both(struct estates *e)
{
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        estates_tell(e->at_paris, "machine.start", json_pack("{s:s}", "machine", names[i]));
}

static enum instance_state state_of(struct estates *e, const char *machine)
{
    CLEANUP(mem_freep) char *dir = mem_printf("machines/%s", machine);
    const struct fake_machine *found = provider_fake_find(&e->fake, dir);

    return found ? found->state : INSTANCE_OFF;
}

static struct estate_mark mark_of(struct estates *e)
{
    struct estate_mark mark;

    EXPECT_OK(estate_mark_read(e->paris, "shop", &mark, &err));
    return mark;
}

/* --- The recovery site -------------------------------------------------------------------------- */

static void each_machine_is_recovered_from_its_own_disks_in_the_group(void **state)
{
    struct estates *e = *state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(mem_freep) char *dir = mem_printf("instances/lyon-4-%s", names[i]);
        CLEANUP(mem_freep) char *disk = mem_printf("%s.vda", names[i]);
        estates_tell(e->at_lyon, "instance.start", instance_args(names[i], true));
        const struct fake_machine *machine = provider_fake_find(&e->fake, dir);
        assert_int_equal(machine->state, INSTANCE_RUNNING);
        assert_string_equal(machine->replica_disk, disk);
        assert_int_equal(machine->point, 2);
        assert_non_null(strstr(machine->overlay, "/vda.qcow2")); /* as the machine calls it */
    }
}

/* Its folder says what its disks are called there, whoever has forgotten the group. */
static void a_recovered_machine_knows_its_disks_when_nobody_knows_the_group(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "instance.start", instance_args("web1", true));
    estates_tell(e->at_lyon, "instance.stop", instance_args("web1", true));
    estate_replica_remove(e->lyon, "shop");
    estates_tell(e->at_lyon, "instance.start", instance_args("web1", true));
    assert_string_equal(provider_fake_find(&e->fake, "lyon-4-web1")->replica_disk, "web1.vda");
}

static void machines_of_one_run_are_tracked_under_one_serial(void **state)
{
    struct estates *e = *state;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(mem_freep) char *dir = mem_printf("instances/lyon-4-%s", names[i]);
        CLEANUP(mem_freep) char *work = mem_printf("sessions/shop/work/%s", names[i]);
        estates_tell(e->at_lyon, "instance.start", instance_args(names[i], false));
        const struct fake_machine *machine = provider_fake_find(&e->fake, dir);
        assert_false(machine->ran_untracked);
        assert_int_equal(machine->tracked, 1);
        assert_non_null(strstr(machine->work_dir, work)); /* none stages where another does */
    }
}

static void a_group_that_is_in_use_by_any_of_its_machines_is_not_given_up(void **state)
{
    struct estates *e = *state;

    estates_tell(e->at_lyon, "instance.start", instance_args("web1", true));
    EXPECT_ERR(ERR_STATE, estate_check_unused(e->lyon, "shop", &err));
    EXPECT_TEXT("run lyon-4 started web1 from it");
    estates_tell(e->at_lyon, "instance.remove", instance_args("web1", true));
    EXPECT_OK(estate_check_unused(e->lyon, "shop", &err));
}

/* --- The old site -------------------------------------------------------------------------------- */

static void a_retired_group_has_no_machine_that_runs(void **state)
{
    struct estates *e = *state;

    start_both(e);
    CLEANUP(json_freep)
    json_t *reply = estates_ask(
        e->at_paris, "group.retire",
        json_pack("{s:s, s:s, s:i}", "group", "shop", "run", "lyon-4", "generation", 2));
    assert_true(json_get_bool(reply, "settled", false));
    assert_int_equal(mark_of(e).retired, 2);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        assert_int_equal(state_of(e, names[i]), INSTANCE_OFF);
        EXPECT_ERR(ERR_FENCED, site_ask(e->at_paris, "machine.start",
                                        json_pack("{s:s}", "machine", names[i]), NULL, NULL, &err));
    }
}

static void one_that_does_not_stop_keeps_no_other_running(void **state)
{
    struct estates *e = *state;
    uint32_t done;

    start_both(e);
    e->fake.fail = ERR_TIMEOUT;
    EXPECT_ERR(ERR_TIMEOUT, site_ask(e->at_paris, "group.retire",
                                     json_pack("{s:s, s:s, s:i}", "group", "shop", "run", "lyon-4",
                                               "generation", 2),
                                     NULL, NULL, &err));
    EXPECT_TEXT("stop the old shop: app1: pause fails");
    assert_int_equal(state_of(e, "web1"), INSTANCE_PAUSED);
    EXPECT_OK(estate_fence_all(e->paris, &done, NULL, &err));
    assert_int_equal(state_of(e, "app1"), INSTANCE_OFF);
    assert_int_equal(state_of(e, "web1"), INSTANCE_OFF);
    assert_int_equal(mark_of(e).settled, 2);
}

static void a_branch_names_the_disks_of_all_machines(void **state)
{
    struct estates *e = *state;
    CLEANUP(json_freep) json_t *list = NULL;
    CLEANUP(group_owns_free) struct group_owns owns = VEC_EMPTY;
    struct session_branch branch = {
        .kind = SESSION_BRANCH_UNKNOWN, .point = 4, .parent = 3, .generation = 1, .disk_count = 2};
    const struct estate_mark mark = {.retired = 2, .by = "lyon"};

    (void)snprintf(branch.disks[0].name, sizeof(branch.disks[0].name), "app1.vda");
    (void)snprintf(branch.disks[1].name, sizeof(branch.disks[1].name), "web1.vda");
    EXPECT_OK(group_owns_here(e->paris, "shop", &owns, &err));
    EXPECT_OK(branch_note(e->paris, "shop", &owns, &mark, &branch, &err));
    EXPECT_OK(branch_list(e->paris, "shop", &list, &err));
    const json_t *disks = json_object_get(json_array_get(list, 0), "disks");
    assert_string_equal(json_get_str(json_array_get(disks, 0), "path", ""), "/srv/app1.raw");
    assert_string_equal(json_get_str(json_array_get(disks, 1), "path", ""), "/srv/web1.raw");
}

static void a_group_that_is_given_back_starts_the_machines_that_ran(void **state)
{
    struct estates *e = *state;

    start_both(e);
    estates_tell(e->at_paris, "group.retire",
                 json_pack("{s:s, s:s, s:i}", "group", "shop", "run", "lyon-4", "generation", 2));
    estates_tell(e->at_paris, "group.return",
                 json_pack("{s:s, s:s, s:i, s:b, s:[s]}", "group", "shop", "run", "lyon-4",
                           "generation", 3, "start", 1, "machines", "web1"));
    assert_int_equal(state_of(e, "app1"), INSTANCE_OFF);
    assert_int_equal(state_of(e, "web1"), INSTANCE_RUNNING);
    assert_int_equal(mark_of(e).retired, 0);
    struct machine_names machines;
    estate_group_machines(e->paris, "shop", &machines);
    assert_int_equal(machines.count, 2);
}

/* --- Own disks ----------------------------------------------------------------------------------- */

static void put_base(struct estates *e)
{
    static const char text[] =
        "{\"point\": 3, \"hash\": "
        "\"0000000000000000000000000000000000000000000000000000000000000000\","
        " \"generation\": 3, \"cut_ms\": 1, \"armed\": 0, \"disks\": [], \"tip\": \"\","
        " \"first\": \"\", \"proof\": []}";
    CLEANUP(mem_freep) char *dir = mem_printf("%s/paris/sessions/shop.base", e->root);
    CLEANUP(mem_freep) char *path = path_join(dir, "base.json");

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0600, &err));
}

static uint64_t armed_of(struct estates *e)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/paris/sessions/shop.base/base.json", e->root);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;

    EXPECT_OK(fs_read_file(fs_real(), path, 65536, &text, &err));
    EXPECT_OK(json_parse(str_text(&text), text.len, &json, &err));
    return json_get_u64(json, "armed", 99);
}

static void a_base_is_one_when_all_machines_are_tracked(void **state)
{
    struct estates *e = *state;
    bool unarmed;

    put_base(e);
    EXPECT_OK(estate_base_armed(e->paris, "shop", "web1", 1, &err));
    assert_int_equal(armed_of(e), 0);
    EXPECT_OK(estate_base_unarmed(e->paris, "shop", "web1", &unarmed, &err));
    assert_false(unarmed);
    EXPECT_OK(estate_base_unarmed(e->paris, "shop", "app1", &unarmed, &err));
    assert_true(unarmed);
    EXPECT_OK(estate_base_armed(e->paris, "shop", "app1", 1, &err));
    assert_int_equal(armed_of(e), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        GROUP_TEST(each_machine_is_recovered_from_its_own_disks_in_the_group),
        GROUP_TEST(a_recovered_machine_knows_its_disks_when_nobody_knows_the_group),
        GROUP_TEST(machines_of_one_run_are_tracked_under_one_serial),
        GROUP_TEST(a_group_that_is_in_use_by_any_of_its_machines_is_not_given_up),
        GROUP_TEST(a_retired_group_has_no_machine_that_runs),
        GROUP_TEST(one_that_does_not_stop_keeps_no_other_running),
        GROUP_TEST(a_branch_names_the_disks_of_all_machines),
        GROUP_TEST(a_group_that_is_given_back_starts_the_machines_that_ran),
        GROUP_TEST(a_base_is_one_when_all_machines_are_tracked),
    };
    return cmocka_run_group_tests_name("group", tests, NULL, NULL);
}
