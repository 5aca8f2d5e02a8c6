// SPDX-License-Identifier: Apache-2.0
#include "replica/chunk.h"

#include "replica/view_map.h"
#include "support/expect.h"

#include <stdlib.h>

static void a_disk_is_cut_into_chunks_and_a_rest(void **state)
{
    (void)state;
    assert_int_equal(chunk_count(0), 0);
    assert_int_equal(chunk_count(512), 1);
    assert_int_equal(chunk_count(CHUNK_BYTES), 1);
    assert_int_equal(chunk_count(CHUNK_BYTES + 512), 2);
    assert_int_equal(chunk_len(CHUNK_BYTES + 512, 0), CHUNK_BYTES);
    assert_int_equal(chunk_len(CHUNK_BYTES + 512, 1), 512);
}

static void one_byte_anywhere_makes_zeros_none(void **state)
{
    uint8_t bytes[4096] = {0};

    (void)state;
    assert_true(bytes_are_zero(bytes, sizeof(bytes)));
    assert_true(bytes_are_zero(bytes, 0));
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = 1;
        assert_false(bytes_are_zero(bytes, sizeof(bytes)));
        bytes[i] = 0;
    }
}

static void both_sites_get_the_same_digest_and_other_groups_another(void **state)
{
    const struct digest zero = {{0}};
    uint8_t bytes[CHUNK_BYTES] = {1, 2, 3};
    struct digest a;
    struct digest b;
    struct key key;

    (void)state;
    key_new(&key);
    struct digester *here = chunk_digester_new(&key);
    struct digester *there = chunk_digester_new(&key);
    key_new(&key);
    struct digester *other = chunk_digester_new(&key);
    chunk_digest(here, bytes, sizeof(bytes), &a);
    chunk_digest(there, bytes, sizeof(bytes), &b);
    assert_memory_equal(&a, &b, sizeof(a));
    chunk_digest(other, bytes, sizeof(bytes), &b);
    assert_memory_not_equal(&a, &b, sizeof(a));
    memset(bytes, 0, sizeof(bytes));
    chunk_digest(here, bytes, sizeof(bytes), &a);
    assert_memory_equal(&a, &zero, sizeof(a));
    digester_free(here);
    digester_free(there);
    digester_free(other);
}

static void the_first_place_of_a_chunk_stays(void **state)
{
    struct view_map *map = view_map_new();

    (void)state;
    for (uint64_t round = 0; round < 2; round++)
        for (uint64_t chunk = 0; chunk < 5000; chunk++) {
            const struct view_place place = {.file = (uint32_t)round, .pos = chunk + round};
            EXPECT_OK(view_map_add(map, chunk * 4096, &place, &err));
        }
    for (uint64_t chunk = 0; chunk < 5000; chunk++) {
        const struct view_place *place = view_map_find(map, chunk * 4096);
        assert_non_null(place);
        assert_int_equal(place->file, 0);
        assert_int_equal(place->pos, chunk);
        assert_null(view_map_find(map, chunk * 4096 + 1));
    }
    view_map_free(map);
}

static void blocks_have_digests_of_their_own(void **state)
{
    const struct digest zero = {{0}};
    struct digest blocks[CHUNK_BLOCKS];
    struct digest one;
    uint8_t bytes[CHUNK_BYTES];
    struct key key;

    (void)state;
    key_new(&key);
    struct digester *digester = chunk_digester_new(&key);
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i / BLOCK_BYTES);
    chunk_block_digests(digester, bytes, 3 * BLOCK_BYTES + 512, blocks);
    assert_memory_equal(&blocks[0], &zero, sizeof(zero)); /* all zeros */
    chunk_digest(digester, bytes + 2 * BLOCK_BYTES, BLOCK_BYTES, &one);
    assert_memory_equal(&blocks[2], &one, sizeof(one));
    chunk_digest(digester, bytes + 3 * BLOCK_BYTES, 512, &one);
    assert_memory_equal(&blocks[3], &one, sizeof(one));
    for (size_t i = 4; i < CHUNK_BLOCKS; i++)
        assert_memory_equal(&blocks[i], &zero, sizeof(zero));
    digester_free(digester);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_is_cut_into_chunks_and_a_rest),
        cmocka_unit_test(one_byte_anywhere_makes_zeros_none),
        cmocka_unit_test(blocks_have_digests_of_their_own),
        cmocka_unit_test(both_sites_get_the_same_digest_and_other_groups_another),
        cmocka_unit_test(the_first_place_of_a_chunk_stays),
    };
    return cmocka_run_group_tests_name("chunk", tests, NULL, NULL);
}
