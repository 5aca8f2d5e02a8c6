// SPDX-License-Identifier: Apache-2.0
#include "base/luks.h"
#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PLAIN_BYTES ((size_t)8 * LUKS_SECTOR_BYTES)

struct made {
    struct luks_secret secret;
    struct uuid uuid;
    uint8_t *header;
};

static void make(struct made *made)
{
    luks_secret_new(&made->secret);
    uuid_new(&made->uuid);
    EXPECT_OK(luks_format(&made->secret, &made->uuid, &made->header, &err));
}

static void made_done(struct made *made)
{
    free(made->header);
}

static int unlock(const struct made *made, const struct luks_secret *secret,
                  struct luks_volume *ret_volume)
{
    return luks_unlock(made->header, LUKS_HEADER_BYTES, secret, "x.luks", ret_volume, &err);
}

static void a_header_opens_with_its_secret_and_no_other(void **state)
{
    CLEANUP(made_done) struct made made = {0};
    CLEANUP(made_done) struct made other = {0};
    struct luks_volume first, again;
    uint64_t len;

    (void)state;
    make(&made);
    make(&other);
    EXPECT_OK(luks_header_bytes(made.header, LUKS_HEADER_BYTES, "x.luks", &len, &err));
    assert_int_equal(len, LUKS_HEADER_BYTES);
    EXPECT_OK(unlock(&made, &made.secret, &first));
    EXPECT_OK(unlock(&made, &made.secret, &again));
    assert_memory_equal(&first, &again, sizeof(first));
    assert_memory_equal(&first.uuid, &made.uuid, sizeof(made.uuid));
    EXPECT_ERR(ERR_AUTH, unlock(&made, &other.secret, &first));
    EXPECT_TEXT("x.luks: none of its key slots opens with the key; hint: it is another");
}

static void a_damaged_header_is_told(void **state)
{
    static const size_t places[] = {0, 5, 7, 9, 50, 74, 109, 120, 170, 4096 + 17};
    CLEANUP(made_done) struct made made = {0};
    struct luks_volume volume, whole;

    (void)state;
    make(&made);
    EXPECT_OK(unlock(&made, &made.secret, &whole));
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        uint64_t len;
        made.header[places[i]] ^= 0x10;
        err_clear(&err);
        if (luks_header_bytes(made.header, LUKS_HEADER_BYTES, "x.luks", &len, &err) == 0
            && len == LUKS_HEADER_BYTES && unlock(&made, &made.secret, &volume) == 0)
            fail_msg("byte %zu is changed, and nobody saw it", places[i]);
        assert_true(err.code == ERR_CORRUPT || err.code == ERR_AUTH || err.code == ERR_UNSUPPORTED);
        made.header[places[i]] ^= 0x10;
    }
    EXPECT_OK(unlock(&made, &made.secret, &volume));
    assert_memory_equal(volume.key, whole.key, LUKS_KEY_BYTES);
}

static void what_is_no_container_is_told(void **state)
{
    uint8_t bytes[1024] = "QFI\xfb";
    uint64_t len;

    (void)state;
    EXPECT_ERR(ERR_CORRUPT, luks_header_bytes(bytes, sizeof(bytes), "x.luks", &len, &err));
    EXPECT_TEXT("x.luks: no header of a LUKS container of version 1");
    EXPECT_ERR(ERR_CORRUPT, luks_header_bytes("LUKS\xba\xbe\0\1", 8, "x.luks", &len, &err));
}

static void sectors_are_sealed_each_by_its_number(void **state)
{
    CLEANUP(made_done) struct made made = {0};
    struct luks_volume volume;
    uint8_t plain[PLAIN_BYTES] = {1};
    uint8_t sealed[PLAIN_BYTES];
    uint8_t opened[PLAIN_BYTES];

    (void)state;
    make(&made);
    EXPECT_OK(unlock(&made, &made.secret, &volume));
    luks_seal(&volume, 7, plain, sizeof(plain), sealed);
    for (size_t i = 0; i + 1 < PLAIN_BYTES / LUKS_SECTOR_BYTES; i++)
        assert_memory_not_equal(sealed + i * LUKS_SECTOR_BYTES,
                                sealed + (i + 1) * LUKS_SECTOR_BYTES, LUKS_SECTOR_BYTES);
    luks_open(&volume, 7, sealed, sizeof(sealed), opened);
    assert_memory_equal(opened, plain, sizeof(plain));
    luks_open(&volume, 9, sealed + 2 * (size_t)LUKS_SECTOR_BYTES, LUKS_SECTOR_BYTES, opened);
    assert_memory_equal(opened, plain + 2 * (size_t)LUKS_SECTOR_BYTES, LUKS_SECTOR_BYTES);
    luks_open(&volume, 8, sealed, LUKS_SECTOR_BYTES, opened);
    assert_memory_not_equal(opened, plain, LUKS_SECTOR_BYTES);
    memset(sealed, 0, LUKS_SECTOR_BYTES); /* never written */
    luks_open(&volume, 7, sealed, LUKS_SECTOR_BYTES, opened);
    assert_memory_equal(opened, sealed, LUKS_SECTOR_BYTES);
}

/* --- The key file ------------------------------------------------------------------------- */

static void a_secret_is_kept_in_a_file_that_nobody_else_reads_and_nothing_replaces(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "web.luks");
    struct luks_secret secret, read;
    struct stat st;

    luks_secret_new(&secret);
    assert_int_equal(secret.len, 64);
    EXPECT_OK(luks_secret_write(path, &secret, &err));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777U, 0600);
    assert_int_equal(st.st_size, 64);
    EXPECT_OK(luks_secret_read(path, &read, &err));
    assert_string_equal(read.text, secret.text);
    EXPECT_ERR(ERR_EXISTS, luks_secret_write(path, &secret, &err));
    assert_int_equal(chmod(path, 0640), 0);
    EXPECT_ERR(ERR_DENIED, luks_secret_read(path, &read, &err));
    EXPECT_TEXT("can be read by others (mode 0640); hint: chmod 600");
}

static void a_key_file_with_a_line_end_is_refused(void **state)
{
    static const char *const texts[] = {"", "abc\n", "\xff\xfe"};
    CLEANUP(mem_freep) char *path = path_join(*state, "web.luks");
    struct luks_secret secret;

    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        EXPECT_OK(fs_replace_file(fs_real(), path, texts[i], strlen(texts[i]), 0600, &err));
        EXPECT_ERR(ERR_INVALID, luks_secret_read(path, &secret, &err));
        EXPECT_TEXT("it must be as it was made, byte for byte");
    }
    (void)unlink(path);
    EXPECT_ERR(ERR_NOT_FOUND, luks_secret_read(path, &secret, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_header_opens_with_its_secret_and_no_other),
        cmocka_unit_test(a_damaged_header_is_told),
        cmocka_unit_test(what_is_no_container_is_told),
        cmocka_unit_test(sectors_are_sealed_each_by_its_number),
        TMPDIR_TEST(a_secret_is_kept_in_a_file_that_nobody_else_reads_and_nothing_replaces),
        TMPDIR_TEST(a_key_file_with_a_line_end_is_refused),
    };
    return cmocka_run_group_tests_name("luks", tests, NULL, NULL);
}
