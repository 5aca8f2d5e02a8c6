// SPDX-License-Identifier: Apache-2.0
#include "base/fault.h"
#include "base/mem.h"
#include "replica/view.h"
#include "support/expect.h"
#include "support/replica/kit.h"
#include "support/tmpdir.h"

#include <inttypes.h>
#include <stdlib.h>

#define SIZE (1024u * 1024u)

struct fixture {
    char *root;
    struct kit kit;
    struct store *store;
};

static int setup(void **state)
{
    struct fixture *f = mem_new(struct fixture);
    void *root;

    if (tmpdir_setup(&root) < 0)
        return -1;
    f->root = root;
    kit_init(&f->kit, f->root, SIZE, 1);
    kit_scribble(&f->kit, 30);
    *state = f;
    return kit_open(&f->kit, fs_real(), &f->store, &err);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    void *root = f->root;

    fault_clear();
    store_close(f->store);
    kit_done(&f->kit);
    free(f);
    return tmpdir_teardown(&root);
}

static void copied(struct fixture *f)
{
    EXPECT_OK(kit_copy(&f->kit, f->store, &err));
}

static void add_points(struct fixture *f, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        kit_scribble(&f->kit, 12);
        EXPECT_OK(kit_point_applied(&f->kit, f->store, &err));
    }
}

static void reopen(struct fixture *f)
{
    store_closep(&f->store);
    EXPECT_OK(kit_open(&f->kit, fs_real(), &f->store, &err));
}

static struct store_info info_of(struct fixture *f)
{
    struct store_info info;

    EXPECT_OK(f->store->ops->info(f->store, &info, &err));
    return info;
}

static void every_kept_point_is_what_the_disks_held(void **state)
{
    struct fixture *f = *state;

    copied(f);
    add_points(f, 5);
    EXPECT_OK(kit_check_head(&f->kit, 5, &err));
    for (uint64_t point = 1; point <= 5; point++)
        EXPECT_OK(kit_check_view(&f->kit, point, &err));
    EXPECT_OK(store_dir_verify(f->store, NULL, &err));
    reopen(f);
    for (uint64_t point = 1; point <= 5; point++)
        EXPECT_OK(kit_check_view(&f->kit, point, &err));
    assert_int_equal(info_of(f).applied_point, 5);
    assert_int_equal(info_of(f).state, STORE_READY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kept_point_is_what_the_disks_held, setup, teardown),
    };
    return cmocka_run_group_tests_name("store_dir", tests, NULL, NULL);
}
