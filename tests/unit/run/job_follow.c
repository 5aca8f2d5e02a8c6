// SPDX-License-Identifier: Apache-2.0
/* follow, at the site that had the machine. */
#include "base/fs.h"
#include "base/mem.h"
#include "replica/manifest.h"
#include "support/expect.h"
#include "support/run/reverse.h"

#include <stdio.h>
#include <stdlib.h>

/* paris was promoted from point 3, to that generation. */
static char *tip_of(struct reverse *r, uint64_t generation)
{
    CLEANUP(manifest_done) struct manifest m;
    struct store *store;
    struct store_info info;
    uint8_t sign[SIGN_KEY_BYTES];

    memset(sign, 1, sizeof(sign));
    EXPECT_OK(estate_store_get(r->e->lyon, "db1", &store, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    estate_store_put(r->e->lyon, "db1", store, false);
    manifest_init(&m);
    (void)snprintf(m.group, sizeof(m.group), "db1");
    (void)snprintf(m.site, sizeof(m.site), "paris");
    m.generation = generation;
    m.point = info.durable_point + 1;
    m.parent = info.durable_hash;
    m.promotion = true;
    struct manifest_disk *disk = manifest_disks_push(&m.disks);
    memset(disk, 0, sizeof(*disk));
    (void)snprintf(disk->name, sizeof(disk->name), "vda");
    disk->size = 65536;
    m.machines = json_object();
    manifest_sign(&m, sign);
    return manifest_text(&m);
}

static int follow_as(struct reverse *r, const char *peer, uint64_t generation, const char *tip,
                     int64_t *ret_id)
{
    uint8_t sign[SIGN_KEY_BYTES];
    uint8_t key[SIGN_KEY_BYTES];
    char hex[2 * SIGN_KEY_BYTES + 1];

    memset(sign, 1, sizeof(sign));
    sign_public(sign, key);
    str_hex(key, sizeof(key), hex);
    struct job_follow spec = {.group = "db1",
                              .peer = peer,
                              .writer_key = hex,
                              .tip = tip,
                              .first = "",
                              .generation = generation,
                              .who = "site paris"};

    policy_init(&spec.settings.policy);
    spec.settings.policy.interval_ms = 7000;
    spec.settings.policy.retention.keep = 9;
    spec.settings.policy.compression = COMPRESSION_LZ4;
    err_clear(&err);
    return jobs_follow(r->desk.jobs, &spec, ret_id, &err);
}

static uint64_t generation_here(struct reverse *r)
{
    struct store *store;
    struct store_info info;

    EXPECT_OK(estate_store_get(r->e->lyon, "db1", &store, &err));
    EXPECT_OK(store->ops->info(store, &info, &err));
    estate_store_put(r->e->lyon, "db1", store, false);
    return info.generation;
}

static void the_side_that_had_the_machine_becomes_the_replica(void **state)
{
    struct reverse *r = *state;
    CLEANUP(mem_freep) char *tip = tip_of(r, 2);
    int64_t id = 0;

    reverse_recover(r);
    reverse_put_row(r, "source", "protected", 1, ",\"instance\":\"lyon-4\"");
    EXPECT_OK(follow_as(r, "paris", 2, tip, &id));
    reverse_settle(r);
    reverse_expect_job(r, id, "succeeded", "");
    reverse_expect_row(r, "replica", "reprotecting");
    reverse_expect_setting(r, "instance", "");
    reverse_expect_setting(r, "compression", "lz4");
    assert_int_equal(generation_here(r), 2);
    assert_int_equal(reverse_instances(r), 0);
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/instances/lyon-4-db1", r->e->root);
    assert_false(fs_exists(dir));
    EXPECT_OK(follow_as(r, "paris", 2, tip, &id));
    assert_int_equal(id, 0);
}

static void asked_twice_it_is_one_job_and_a_restart_goes_on_with_it(void **state)
{
    struct reverse *r = *state;
    CLEANUP(mem_freep) char *tip = tip_of(r, 2);
    int64_t id = 0;
    int64_t again = 0;

    reverse_put_row(r, "source", "protected", 1, "");
    EXPECT_OK(follow_as(r, "paris", 2, tip, &id));
    EXPECT_OK(follow_as(r, "paris", 2, tip, &again));
    assert_int_equal(id, again);
    EXPECT_OK(state_turn_end(r->desk.state, &err));
    reverse_restart(r);
    reverse_settle(r);
    reverse_expect_job(r, id, "succeeded", "");
    reverse_expect_row(r, "replica", "reprotecting");
}

static void a_stranger_and_an_old_promotion_are_not_followed(void **state)
{
    struct reverse *r = *state;
    CLEANUP(mem_freep) char *tip = tip_of(r, 2);
    int64_t id;

    EXPECT_ERR(ERR_NOT_FOUND, follow_as(r, "paris", 2, tip, &id));
    reverse_put_row(r, "source", "protected", 3, "");
    EXPECT_ERR(ERR_DENIED, follow_as(r, "rome", 4, tip, &id));
    EXPECT_TEXT("db1 is not shared with rome, but with paris");
    EXPECT_ERR(ERR_FENCED, follow_as(r, "paris", 2, tip, &id));
    EXPECT_TEXT("db1 is at generation 3 here, the promotion is of generation 2");
}

static void a_tip_that_does_not_follow_changes_no_role(void **state)
{
    struct reverse *r = *state;
    int64_t id = 0;

    reverse_put_row(r, "source", "protected", 1, "");
    EXPECT_OK(follow_as(r, "paris", 2, "{}", &id));
    reverse_settle(r);
    reverse_expect_job(r, id, "failed", "make the disks of db1 a replica of paris");
    reverse_expect_row(r, "source", "reprotecting-failed");
    assert_int_equal(generation_here(r), 1);
    CLEANUP(mem_freep) char *tip = tip_of(r, 2);
    EXPECT_OK(follow_as(r, "paris", 2, tip, &id));
    reverse_settle(r);
    reverse_expect_job(r, id, "succeeded", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        REVERSE_TEST(the_side_that_had_the_machine_becomes_the_replica),
        REVERSE_TEST(asked_twice_it_is_one_job_and_a_restart_goes_on_with_it),
        REVERSE_TEST(a_stranger_and_an_old_promotion_are_not_followed),
        REVERSE_TEST(a_tip_that_does_not_follow_changes_no_role),
    };
    return cmocka_run_group_tests_name("job_follow", tests, NULL, NULL);
}
