// SPDX-License-Identifier: Apache-2.0
#include "replica/manifest.h"

#include "base/mem.h"
#include "support/expect.h"

#include <stdlib.h>

static uint8_t private_key[SIGN_KEY_BYTES];

static void fill(struct manifest *m)
{
    uint8_t public_key[SIGN_KEY_BYTES];

    manifest_init(m);
    sign_key_new(private_key, public_key);
    memcpy(m->group, "web", 4);
    memcpy(m->site, "paris", 6);
    m->generation = 2;
    m->point = 41;
    memset(m->parent.bytes, 0xab, SHA256_BYTES);
    m->cut_wall_ms = INT64_C(1767225600123);
    m->stall_us = 8200;
    m->consistency = CONSISTENCY_APPLICATION;
    struct manifest_disk *disk = manifest_disks_push(&m->disks);
    memcpy(disk->name, "web1.vda", 9);
    disk->size = 1U << 30;
    struct manifest_segment *segment = manifest_segments_push(&disk->segments);
    uuid_new(&segment->uuid);
    memset(segment->root.bytes, 0xcd, SHA256_BYTES);
    segment->bytes = 123456;
    disk = manifest_disks_push(&m->disks);
    memcpy(disk->name, "web1.vdb", 9);
    disk->size = 4096;
    m->machines = json_pack("{s:{s:i}}", "web1", "memory", 512);
    manifest_sign(m, private_key);
}

static void a_manifest_says_again_what_it_was_told(void **state)
{
    CLEANUP(manifest_done) struct manifest m;
    CLEANUP(manifest_done) struct manifest again;
    struct sha256 hash;
    struct sha256 hash_again;

    (void)state;
    manifest_init(&again);
    fill(&m);
    CLEANUP(mem_freep) char *text = manifest_text(&m);
    EXPECT_OK(manifest_parse(text, strlen(text), &again, &err));
    CLEANUP(mem_freep) char *text_again = manifest_text(&again);
    assert_string_equal(text, text_again);
    manifest_hash(&m, &hash);
    manifest_hash(&again, &hash_again);
    assert_memory_equal(&hash, &hash_again, sizeof(hash));
    assert_int_equal(again.point, 41);
    assert_int_equal(again.stall_us, 8200);
    assert_int_equal(again.consistency, CONSISTENCY_APPLICATION);
    assert_string_equal(again.disks.at[1].name, "web1.vdb");
    assert_int_equal(again.disks.at[0].segments.at[0].bytes, 123456);
    assert_non_null(json_object_get(again.machines, "web1"));
}

static int parse(const char *text)
{
    CLEANUP(manifest_done) struct manifest m;

    manifest_init(&m);
    err_clear(&err);
    return manifest_parse(text, strlen(text), &m, &err);
}

static void nobody_can_change_a_field(void **state)
{
    static const struct {
        const char *from;
        const char *to;
    } changes[] = {
        {"\"point\":41", "\"point\":42"},
        {"\"size\":4096", "\"size\":8192"},
        {"\"generation\":2", "\"generation\":3"},
        {"\"application\"", "\"crash\""},
        {"\"promotion\":false", "\"promotion\":true"},
        {"\"memory\":512", "\"memory\":513"},
        {"\"stall_us\":8200", "\"stall_us\":8201"},
        {"\"web1.vdb\"", "\"web1.vdc\""},
    };
    CLEANUP(manifest_done) struct manifest m;

    (void)state;
    fill(&m);
    CLEANUP(mem_freep) char *text = manifest_text(&m);
    for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
        char *at = strstr(text, changes[i].from);
        assert_non_null(at);
        CLEANUP(mem_freep)
        char *changed = mem_printf("%.*s%s%s", (int)(at - text), text, changes[i].to,
                                   at + strlen(changes[i].from));
        EXPECT_ERR(ERR_CORRUPT, parse(changed));
        EXPECT_TEXT("signature");
    }
}

static void a_wrong_field_is_named(void **state)
{
    static const struct {
        const char *from;
        const char *to;
        const char *named;
    } wrong[] = {
        {"\"point\":41", "\"point\":0", "point"},
        {"\"point\":41", "\"point\":-1", "point"},
        {"\"point\":41", "\"point\":\"41\"", "point"},
        {"\"web1.vdb\"", "\"../etc\"", "name"},
        {"\"web1.vdb\"", "\"web1.vda\"", "twice"},
        {"\"size\":4096", "\"size\":4097", "size"},
        {"\"application\"", "\"none\"", "consistency"},
        {"\"group\":\"web\"", "\"group\":\"\"", "group"},
        {"\"site\":\"paris\"", "\"site\":5", "site"},
        {"\"format\":1", "\"format\":\"x\"", "format"},
        {"\"parent\":\"ab", "\"parent\":\"zz", "parent"},
        {"\"bytes\":123456", "\"bytes\":1.5", "bytes"},
        {"\"machines\":{\"web1\":{\"memory\":512}}", "\"machines\":7", "machines"},
        {"\"promotion\":false", "\"promotion\":0", "promotion"},
    };
    CLEANUP(manifest_done) struct manifest m;

    (void)state;
    fill(&m);
    CLEANUP(mem_freep) char *text = manifest_text(&m);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        char *at = strstr(text, wrong[i].from);
        assert_non_null(at);
        CLEANUP(mem_freep)
        char *changed =
            mem_printf("%.*s%s%s", (int)(at - text), text, wrong[i].to, at + strlen(wrong[i].from));
        EXPECT_ERR(ERR_CORRUPT, parse(changed));
        EXPECT_TEXT(wrong[i].named);
    }
}

static void a_manifest_has_one_spelling(void **state)
{
    CLEANUP(manifest_done) struct manifest m;

    (void)state;
    fill(&m);
    CLEANUP(mem_freep) char *text = manifest_text(&m);
    CLEANUP(mem_freep) char *spaced = mem_printf(" %s", text);
    CLEANUP(mem_freep) char *extra = mem_printf("{\"a\":1,%s", text + 1);
    EXPECT_ERR(ERR_CORRUPT, parse(spaced));
    EXPECT_TEXT("canonical");
    EXPECT_ERR(ERR_CORRUPT, parse(extra));
}

static void a_later_format_is_not_called_corrupt(void **state)
{
    CLEANUP(manifest_done) struct manifest m;

    (void)state;
    fill(&m);
    CLEANUP(mem_freep) char *text = manifest_text(&m);
    *(strstr(text, "\"format\":1") + strlen("\"format\":")) = '2';
    EXPECT_ERR(ERR_UNSUPPORTED, parse(text));
}

static void a_manifest_cut_anywhere_is_corrupt(void **state)
{
    CLEANUP(manifest_done) struct manifest m;

    (void)state;
    fill(&m);
    CLEANUP(mem_freep) char *text = manifest_text(&m);
    for (size_t len = strlen(text); len-- > 0;) {
        text[len] = '\0';
        EXPECT_ERR(ERR_CORRUPT, parse(text));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_manifest_says_again_what_it_was_told),
        cmocka_unit_test(nobody_can_change_a_field),
        cmocka_unit_test(a_wrong_field_is_named),
        cmocka_unit_test(a_manifest_has_one_spelling),
        cmocka_unit_test(a_later_format_is_not_called_corrupt),
        cmocka_unit_test(a_manifest_cut_anywhere_is_corrupt),
    };
    return cmocka_run_group_tests_name("manifest", tests, NULL, NULL);
}
