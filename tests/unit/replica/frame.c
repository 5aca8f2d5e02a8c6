// SPDX-License-Identifier: Apache-2.0
#include "replica/frame.h"

#include "base/mem.h"
#include "support/expect.h"

#include <stdlib.h>

#define PAYLOAD 20480U

static const struct extent some[] = {
    {4096, 4096, false}, {65536, 1048576, true}, {2097152, 16384, false}};

struct fixture {
    struct key key;
    struct uuid uuid;
    uint8_t payload[FRAME_PAYLOAD_MAX];
    uint8_t frame[FRAME_SEALED_MAX];
    size_t len;
};

static int setup(void **state)
{
    struct fixture *f = mem_new(struct fixture);

    key_new(&f->key);
    uuid_new(&f->uuid);
    for (size_t i = 0; i < sizeof(f->payload); i++)
        f->payload[i] = (uint8_t)("a block of some text "[i % 21] + (char)(i / 4096 % 7));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    free(*state);
    return 0;
}

static void seal(struct fixture *f, enum compression compression, uint64_t number)
{
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = frame_coder_new(&f->key, &f->uuid, compression);

    frame_seal(coder, number, some, ARRAY_LEN(some), f->payload, PAYLOAD, f->frame, &f->len);
}

static int open_frame(struct fixture *f, uint64_t number, const void *bytes, size_t len)
{
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = frame_coder_new(&f->key, &f->uuid, COMPRESSION_NONE);
    struct frame_view view;

    err_clear(&err);
    return frame_open(coder, number, bytes, len, &view, &err);
}

static void a_frame_opens_to_what_was_sealed_whatever_the_compression(void **state)
{
    struct fixture *f = *state;

    for (unsigned c = COMPRESSION_NONE; c <= COMPRESSION_LZ4; c++) {
        CLEANUP(frame_coder_freep)
        struct frame_coder *coder = frame_coder_new(&f->key, &f->uuid, COMPRESSION_NONE);
        struct frame_view view;
        seal(f, (enum compression)c, 7);
        assert_int_equal(frame_sealed_len(f->frame, f->len), f->len);
        EXPECT_OK(frame_open(coder, 7, f->frame, f->len, &view, &err));
        assert_int_equal(view.extent_count, ARRAY_LEN(some));
        for (size_t i = 0; i < ARRAY_LEN(some); i++) {
            assert_int_equal(view.extents[i].off, some[i].off);
            assert_int_equal(view.extents[i].len, some[i].len);
            assert_int_equal(view.extents[i].zero, some[i].zero);
        }
        assert_int_equal(view.payload_len, PAYLOAD);
        assert_memory_equal(view.payload, f->payload, PAYLOAD);
        if (c != COMPRESSION_NONE)
            assert_true(f->len < PAYLOAD / 2);
    }
}

static void bytes_that_do_not_compress_are_stored_as_they_are(void **state)
{
    struct fixture *f = *state;

    random_bytes(f->payload, PAYLOAD);
    seal(f, COMPRESSION_ZSTD, 0);
    assert_int_equal(f->len, FRAME_HEADER_BYTES + ARRAY_LEN(some) * 16 + PAYLOAD + SEAL_TAG_BYTES);
    assert_int_equal(open_frame(f, 0, f->frame, f->len), 0);
}

static void the_largest_frame_fits_its_bound(void **state)
{
    struct fixture *f = *state;
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = frame_coder_new(&f->key, &f->uuid, COMPRESSION_ZSTD);
    CLEANUP(mem_freep) struct extent *extents = mem_new_array(struct extent, FRAME_EXTENTS_MAX);

    random_bytes(f->payload, FRAME_PAYLOAD_MAX);
    for (size_t i = 0; i < FRAME_EXTENTS_MAX; i++)
        extents[i] = (struct extent){i * 4096, i < 256 ? 4096 : 512, i >= 256};
    frame_seal(coder, 1, extents, FRAME_EXTENTS_MAX, f->payload, FRAME_PAYLOAD_MAX, f->frame,
               &f->len);
    assert_true(f->len <= FRAME_SEALED_MAX);
    assert_int_equal(open_frame(f, 1, f->frame, f->len), 0);
}

static void a_frame_without_data_opens(void **state)
{
    struct fixture *f = *state;
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = frame_coder_new(&f->key, &f->uuid, COMPRESSION_ZSTD);

    frame_seal(coder, 0, &some[1], 1, NULL, 0, f->frame, &f->len);
    assert_int_equal(open_frame(f, 0, f->frame, f->len), 0);
}

static void no_flipped_bit_gets_through(void **state)
{
    struct fixture *f = *state;

    seal(f, COMPRESSION_ZSTD, 3);
    for (size_t i = 0; i < f->len; i++) {
        f->frame[i] ^= (uint8_t)(1U << (i % 8));
        assert_int_equal(open_frame(f, 3, f->frame, f->len), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
        f->frame[i] ^= (uint8_t)(1U << (i % 8));
    }
    assert_int_equal(open_frame(f, 3, f->frame, f->len), 0);
}

static void a_frame_cut_anywhere_is_corrupt(void **state)
{
    struct fixture *f = *state;

    seal(f, COMPRESSION_LZ4, 3);
    for (size_t len = 0; len < f->len; len++) {
        /* In a block of just that size, so that a read past it is seen. */
        CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(len + 1, 1);
        memcpy(bytes, f->frame, len);
        assert_int_equal(open_frame(f, 3, bytes, len), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
    }
}

static void a_frame_out_of_its_place_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct uuid right = f->uuid;

    seal(f, COMPRESSION_ZSTD, 3);
    assert_int_equal(open_frame(f, 4, f->frame, f->len), -1);
    EXPECT_TEXT("number 3");
    uuid_new(&f->uuid);
    assert_int_equal(open_frame(f, 3, f->frame, f->len), -1);
    f->uuid = right;
    key_new(&f->key);
    assert_int_equal(open_frame(f, 3, f->frame, f->len), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
}

/* One who has the key may still be wrong, or worse. */
static void sealed_nonsense_is_corrupt(void **state)
{
    static const struct {
        struct extent extents[2];
        size_t payload_len;
    } wrong[] = {
        {{{0, 4096, false}, {4096, 4096, false}}, 4096},              /* more than there is */
        {{{0, 4096, false}, {4096, 4096, true}}, 8192},               /* less */
        {{{100, 4096, false}, {8192, 4096, true}}, 4096},             /* not aligned */
        {{{0, 0, true}, {8192, 4096, false}}, 4096},                  /* empty */
        {{{0, 4096, false}, {UINT64_MAX - 511, 4096, true}}, 4096},   /* beyond all ends */
        {{{0, 4096, false}, {4096, UINT64_MAX / 2 - 511, false}}, 0}, /* overflow */
    };
    struct fixture *f = *state;
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = frame_coder_new(&f->key, &f->uuid, COMPRESSION_ZSTD);

    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        frame_seal(coder, i, wrong[i].extents, 2, f->payload, wrong[i].payload_len, f->frame,
                   &f->len);
        assert_int_equal(open_frame(f, i, f->frame, f->len), -1);
        assert_int_equal(err.code, ERR_CORRUPT);
    }
}

static void random_bytes_are_no_frame(void **state)
{
    struct fixture *f = *state;
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = frame_coder_new(&f->key, &f->uuid, COMPRESSION_NONE);
    struct frame_view view;
    uint16_t dice[3];

    seal(f, COMPRESSION_ZSTD, 0);
    for (size_t round = 0; round < 3000; round++) {
        CLEANUP(mem_freep) uint8_t *bytes = mem_alloc(f->len, 1);
        memcpy(bytes, f->frame, f->len);
        random_bytes(dice, sizeof(dice));
        size_t len = dice[0] % f->len;
        random_bytes(bytes + dice[1] % f->len, 1);
        random_bytes(bytes + dice[2] % FRAME_HEADER_BYTES, 1);
        (void)frame_sealed_len(bytes, len);
        assert_int_equal(frame_open(coder, 0, bytes, len, &view, &err), -1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_opens_to_what_was_sealed_whatever_the_compression),
        cmocka_unit_test(bytes_that_do_not_compress_are_stored_as_they_are),
        cmocka_unit_test(the_largest_frame_fits_its_bound),
        cmocka_unit_test(a_frame_without_data_opens),
        cmocka_unit_test(no_flipped_bit_gets_through),
        cmocka_unit_test(a_frame_cut_anywhere_is_corrupt),
        cmocka_unit_test(a_frame_out_of_its_place_is_corrupt),
        cmocka_unit_test(sealed_nonsense_is_corrupt),
        cmocka_unit_test(random_bytes_are_no_frame),
    };
    return cmocka_run_group_tests_name("frame", tests, setup, teardown);
}
