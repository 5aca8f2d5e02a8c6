// SPDX-License-Identifier: Apache-2.0
/* A replica that was made elsewhere, and a site that does not know it. */
#include "sites/taking.h"

#include "base/luks.h"
#include "base/mem.h"
#include "replica/inspect.h"
#include "sites/estate_internal.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct place {
    struct fixture *f;
    struct clock_fake clock;
    struct estate *estate;
    char *dir; /* of the site */
    char *key; /* the files that were saved with the replica */
    struct taking taking;
};

static int setup_as(void **state, bool at_rest)
{
    struct place *p = mem_new(struct place);
    void *fixture;

    if (fixture_setup(&fixture) < 0)
        return -1;
    p->f = fixture;
    if (at_rest) {
        store_closep(&p->f->store);
        kit_at_rest(&p->f->kit, p->f->root);
        EXPECT_OK(kit_open(&p->f->kit, fs_real(), &p->f->store, &err));
    }
    fixture_copy(p->f);
    fixture_points(p->f, 3);
    store_closep(&p->f->store);
    clock_fake_init(&p->clock, INT64_C(1700000000000));
    p->dir = path_join(p->f->root, "site");
    p->key = path_join(p->f->root, "web.key");
    EXPECT_OK(fs_replace_file(fs_real(), p->key, p->f->kit.key.bytes, KEY_BYTES, 0600, &err));
    const struct estate_config config = {.site = "lyon", .dir = p->dir, .clock = &p->clock.clock};
    p->estate = estate_new(&config);
    p->taking = (struct taking){
        .dir = p->f->kit.dir, .key = p->key, .luks_key = p->f->kit.luks_key, .move = true};
    *state = p;
    return 0;
}

static int setup(void **state)
{
    return setup_as(state, false);
}

static int at_rest_setup(void **state)
{
    return setup_as(state, true);
}

static int teardown(void **state)
{
    struct place *p = *state;
    void *fixture = p->f;

    estate_free(p->estate);
    free(p->dir);
    free(p->key);
    free(p);
    return fixture_teardown(&fixture);
}
#define PLACE_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

static int look(struct place *p)
{
    CLEANUP(json_freep) json_t *report = NULL;

    err_clear(&err);
    return taking_look(p->estate, &p->taking, &report, &err);
}

static void it_is_moved_with_its_keys_and_the_same_again_is_fine(void **state)
{
    struct place *p = *state;
    CLEANUP(mem_freep) char *target = estate_replica_dir(p->estate, "web");
    CLEANUP(mem_freep) char *luks = estate_luks_path(p->estate, "web");
    CLEANUP(json_freep) json_t *report = NULL;
    struct key key;

    EXPECT_OK(look(p));
    EXPECT_OK(taking_do(p->estate, &p->taking, "web", &err));
    EXPECT_OK(replica_inspect(target, &report, &err));
    assert_false(fs_exists(p->f->kit.dir));
    EXPECT_OK(estate_key_read(p->estate, "web", &key, &err));
    assert_memory_equal(key.bytes, p->f->kit.key.bytes, KEY_BYTES);
    assert_true(fs_exists(luks));
    p->taking = (struct taking){.dir = target};
    EXPECT_OK(look(p)); /* with the keys that are here now */
    EXPECT_OK(taking_do(p->estate, &p->taking, "web", &err));
}

static void it_is_moved_only_when_that_was_said_and_never_onto_another(void **state)
{
    struct place *p = *state;
    CLEANUP(mem_freep) char *target = estate_replica_dir(p->estate, "web");

    p->taking.move = false;
    EXPECT_ERR(ERR_STATE, look(p));
    EXPECT_TEXT("--move moves it there, or copy it, `cp -a --sparse=always ");
    p->taking.move = true;
    EXPECT_OK(fs_make_dirs(fs_real(), target, 0700, &err));
    EXPECT_ERR(ERR_EXISTS, look(p));
    EXPECT_TEXT("replicas/web is there already");
}

static void another_key_a_readable_key_and_no_key_are_refused(void **state)
{
    struct place *p = *state;
    CLEANUP(mem_freep) char *own = estate_key_path(p->estate, "web");
    struct key other;

    p->taking.key = NULL;
    EXPECT_ERR(ERR_NOT_FOUND, look(p));
    EXPECT_TEXT("there is no such key; hint: name its file with --key");
    p->taking.key = p->key;
    assert_int_equal(chmod(p->key, 0644), 0);
    EXPECT_ERR(ERR_DENIED, look(p));
    assert_int_equal(chmod(p->key, 0600), 0);
    key_new(&other);
    EXPECT_OK(estate_key_write(p->estate, "web", &other, &err));
    EXPECT_OK(look(p));
    EXPECT_ERR(ERR_EXISTS, taking_do(p->estate, &p->taking, "web", &err));
    EXPECT_TEXT("keys/web.key is there already, and another key than ");
    assert_true(fs_exists(p->f->kit.dir));
    p->taking.key = own;
    EXPECT_ERR(ERR_AUTH, look(p));
    EXPECT_TEXT("it is not the key of this replica");
}

static void an_old_copy_is_refused(void **state)
{
    struct place *p = *state;
    const struct estate_mark mark = {.generation = 4};
    CLEANUP(json_freep) json_t *described = json_pack("{s:i}", "generation", 2);

    EXPECT_OK(estate_mark_write(p->estate, "web", &mark, &err));
    EXPECT_ERR(ERR_FENCED, look(p));
    EXPECT_TEXT("it is at generation 1, but web is at 4 by now: an old copy would let an old");
    EXPECT_OK(estate_mark_clear(p->estate, "web", &err));
    EXPECT_OK(replica_describe(fs_real(), p->taking.dir, described, &err));
    EXPECT_ERR(ERR_FENCED, look(p));
}

static void one_that_is_damaged_open_or_without_a_point_is_refused(void **state)
{
    struct place *p = *state;
    struct store *store;

    EXPECT_OK(kit_open(&p->f->kit, fs_real(), &store, &err));
    EXPECT_ERR(ERR_BUSY, look(p));
    EXPECT_TEXT("a process has it open");
    store_close(store);
    fixture_flip(p->f, "applied", 3);
    EXPECT_ERR(ERR_CORRUPT, look(p));
    EXPECT_TEXT("things of it are damaged or missing, the first: ");
    fixture_flip(p->f, "applied", 3);
    EXPECT_OK(look(p));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_moved_with_its_keys_and_the_same_again_is_fine,
                                        at_rest_setup, teardown),
        PLACE_TEST(it_is_moved_only_when_that_was_said_and_never_onto_another),
        PLACE_TEST(another_key_a_readable_key_and_no_key_are_refused),
        PLACE_TEST(an_old_copy_is_refused),
        PLACE_TEST(one_that_is_damaged_open_or_without_a_point_is_refused),
    };
    return cmocka_run_group_tests_name("taking", tests, NULL, NULL);
}
