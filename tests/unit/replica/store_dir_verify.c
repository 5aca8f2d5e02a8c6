// SPDX-License-Identifier: Apache-2.0
#include "base/mem.h"
#include "support/expect.h"
#include "support/replica/fixture.h"

#include <stdlib.h>

static int verify(struct fixture *f)
{
    err_clear(&err);
    return store_dir_verify(f->store, NULL, &err);
}

static void a_healthy_store_verifies(void **state)
{
    struct fixture *f = *state;

    EXPECT_ERR(ERR_STATE, verify(f));
    fixture_copy(f);
    EXPECT_OK(verify(f));
    fixture_points(f, 3);
    EXPECT_OK(verify(f));
}

static void a_flipped_bit_in_head_is_found_with_its_place(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 2);
    fixture_flip(f, "web.vdb/head.raw", 5 * 65536 + 77);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    EXPECT_TEXT("web.vdb/head.raw");
    EXPECT_TEXT("at 327680 (chunk 5)");
    fixture_flip(f, "web.vdb/head.raw", 5 * 65536 + 77);
    EXPECT_OK(verify(f));
}

static void a_flipped_bit_in_a_digest_is_found(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_flip(f, "web.vda/digests", 4096 + 3 * 16 + 2);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    EXPECT_TEXT("chunk 3");
}

static void a_flipped_bit_in_the_past_is_found(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 3);
    fixture_flip(f, "web.vda/undo/00000000000000000002", 1000);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    EXPECT_TEXT("web.vda/undo/00000000000000000002");
    fixture_flip(f, "web.vda/undo/00000000000000000002", 1000);
    EXPECT_OK(verify(f));
}

static void a_manifest_that_was_changed_is_found(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    fixture_points(f, 2);
    fixture_flip(f, "manifests/00000000000000000001", 100);
    EXPECT_ERR(ERR_CORRUPT, verify(f));
    EXPECT_TEXT("manifests/00000000000000000001");
}

static void verifying_can_be_cancelled(void **state)
{
    struct fixture *f = *state;

    fixture_copy(f);
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(clock_real(), NULL, CANCEL_NEVER);
    cancel_fire(cancel);
    EXPECT_ERR(ERR_CANCELLED, store_dir_verify(f->store, cancel, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        STORE_TEST(a_healthy_store_verifies),
        STORE_TEST(a_flipped_bit_in_head_is_found_with_its_place),
        STORE_TEST(a_flipped_bit_in_a_digest_is_found),
        STORE_TEST(a_flipped_bit_in_the_past_is_found),
        STORE_TEST(a_manifest_that_was_changed_is_found),
        STORE_TEST(verifying_can_be_cancelled),
    };
    return cmocka_run_group_tests_name("store_dir_verify", tests, NULL, NULL);
}
