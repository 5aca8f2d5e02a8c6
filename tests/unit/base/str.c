// SPDX-License-Identifier: Apache-2.0
#include "base/str.h"

#include "base/mem.h"
#include "support/expect.h"

#include <stdlib.h>

static void text_grows_by_pieces(void **state)
{
    CLEANUP(str_free) struct str s = STR_EMPTY;

    (void)state;
    assert_string_equal(str_text(&s), "");
    str_add(&s, "a");
    str_addf(&s, "%d-%s", 17, "b");
    str_add_bytes(&s, "xyz", 2);
    str_addf(&s, "%s", "");
    assert_string_equal(str_text(&s), "a17-bxy");
    assert_int_equal(s.len, 7);
    str_clear(&s);
    assert_string_equal(str_text(&s), "");
    for (int i = 0; i < 1000; i++)
        str_addf(&s, "%04d", i);
    assert_int_equal(s.len, 4000);
    assert_memory_equal(s.ptr + 3996, "0999", 5);
}

static void taken_text_belongs_to_the_taker(void **state)
{
    struct str s = STR_EMPTY;
    char *empty = str_take(&s);

    (void)state;
    str_add(&s, "mine");
    char *text = str_take(&s);
    assert_string_equal(empty, "");
    assert_string_equal(text, "mine");
    assert_null(s.ptr);
    free(empty);
    free(text);
}

static void numbers_are_decimal_and_whole(void **state)
{
    static const char *const wrong[] = {
        "", " ", "-1", "+1", "1a", "0x10", "1 2", "1.0", "18446744073709551616", NULL};
    uint64_t n = 99;

    (void)state;
    assert_true(str_to_u64("0", &n));
    assert_int_equal(n, 0);
    assert_true(str_to_u64(" 42\n", &n));
    assert_int_equal(n, 42);
    assert_true(str_to_u64("18446744073709551615", &n));
    assert_true(n == UINT64_MAX);
    n = 99;
    for (const char *const *text = wrong; *text; text++)
        if (str_to_u64(*text, &n))
            fail_msg("\"%s\" passed as a number", *text);
    assert_false(str_to_u64(NULL, &n));
    assert_int_equal(n, 99);
}

static void sizes_have_binary_units(void **state)
{
    static const char *const wrong[] = {"",      "MiB",    "64MB", "64 MiB",      "64mib",
                                        "-1KiB", "1.5GiB", "64M",  "16777216TiB", NULL};
    uint64_t n = 99;

    (void)state;
    assert_true(str_to_bytes("512", &n));
    assert_int_equal(n, 512);
    assert_true(str_to_bytes("4KiB", &n));
    assert_int_equal(n, 4096);
    assert_true(str_to_bytes("64MiB", &n));
    assert_int_equal(n, 64 << 20);
    assert_true(str_to_bytes("2TiB", &n));
    assert_true(n == UINT64_C(2) << 40);
    n = 99;
    for (const char *const *text = wrong; *text; text++)
        if (str_to_bytes(*text, &n))
            fail_msg("\"%s\" passed as a size", *text);
    assert_int_equal(n, 99);
}

static void durations_always_have_a_unit(void **state)
{
    static const char *const wrong[] = {
        "", "90", "s", "90 s", "1w", "-1s", "1.5h", "9223372036854775807ms", "106751991168d", NULL};
    int64_t ms = 99;

    (void)state;
    assert_true(str_to_ms("250ms", &ms));
    assert_int_equal(ms, 250);
    assert_true(str_to_ms("90s", &ms));
    assert_int_equal(ms, 90000);
    assert_true(str_to_ms("15m", &ms));
    assert_int_equal(ms, 900000);
    assert_true(str_to_ms("1h", &ms));
    assert_int_equal(ms, 3600000);
    assert_true(str_to_ms("2d", &ms));
    assert_int_equal(ms, 172800000);
    ms = 99;
    for (const char *const *text = wrong; *text; text++)
        if (str_to_ms(*text, &ms))
            fail_msg("\"%s\" passed as a duration", *text);
    assert_int_equal(ms, 99);
}

static void sizes_are_shown_with_one_digit(void **state)
{
    char buf[32];

    (void)state;
    assert_string_equal(str_bytes(0, buf, sizeof(buf)), "0 B");
    assert_string_equal(str_bytes(1023, buf, sizeof(buf)), "1023 B");
    assert_string_equal(str_bytes(1024, buf, sizeof(buf)), "1.0 KiB");
    assert_string_equal(str_bytes(8 << 20, buf, sizeof(buf)), "8.0 MiB");
    assert_string_equal(str_bytes((1 << 20) - 1, buf, sizeof(buf)), "1.0 MiB");
    assert_string_equal(str_bytes(UINT64_MAX, buf, sizeof(buf)), "16.0 EiB");
}

static void durations_are_shown_in_two_units(void **state)
{
    char buf[32];

    (void)state;
    assert_string_equal(str_duration(0, buf, sizeof(buf)), "0 ms");
    assert_string_equal(str_duration(999, buf, sizeof(buf)), "999 ms");
    assert_string_equal(str_duration(1500, buf, sizeof(buf)), "1.5 s");
    assert_string_equal(str_duration(59999, buf, sizeof(buf)), "59.9 s");
    assert_string_equal(str_duration(200000, buf, sizeof(buf)), "3 m 20 s");
    assert_string_equal(str_duration(3600000, buf, sizeof(buf)), "1 h");
    assert_string_equal(str_duration(90000000, buf, sizeof(buf)), "1 d 1 h");
    assert_string_equal(str_duration(-1500, buf, sizeof(buf)), "-1.5 s");
    assert_true(strlen(str_duration(INT64_MIN, buf, sizeof(buf))) < sizeof(buf));
}

static void times_are_utc_with_milliseconds(void **state)
{
    char buf[32];

    (void)state;
    assert_string_equal(str_time(0, buf, sizeof(buf)), "1970-01-01T00:00:00.000Z");
    assert_string_equal(str_time(INT64_C(1772366400123), buf, sizeof(buf)),
                        "2026-03-01T12:00:00.123Z");
    assert_string_equal(str_time(-1, buf, sizeof(buf)), "1969-12-31T23:59:59.999Z");
}

static void names_are_short_and_plain(void **state)
{
    char name[65];

    (void)state;
    assert_true(str_is_name("a"));
    assert_true(str_is_name("web-1.paris_x"));
    assert_true(str_is_name("0day"));
    assert_false(str_is_name(""));
    assert_false(str_is_name(NULL));
    assert_false(str_is_name("-web"));
    assert_false(str_is_name(".."));
    assert_false(str_is_name("Web"));
    assert_false(str_is_name("a/b"));
    assert_false(str_is_name("a b"));
    memset(name, 'a', sizeof(name));
    name[63] = '\0';
    assert_true(str_is_name(name));
    name[63] = 'a';
    name[64] = '\0';
    assert_false(str_is_name(name));
}

static void a_slip_finds_the_word_that_was_meant(void **state)
{
    static const char *const words[] = {"failover", "assign_ip", "wait_until", "approve", NULL};

    (void)state;
    assert_string_equal(str_nearest("failovr", words), "failover");
    assert_string_equal(str_nearest("fialover", words), "failover");
    assert_string_equal(str_nearest("asign_pi", words), "assign_ip");
    assert_string_equal(str_nearest("approve", words), "approve");
    assert_null(str_nearest("launch", words));
    assert_null(str_nearest("", words));
    assert_null(str_nearest(NULL, words));
}

static void short_words_bear_one_slip_only(void **state)
{
    static const char *const words[] = {"tcp", NULL};

    (void)state;
    assert_string_equal(str_nearest("tpc", words), "tcp");
    assert_null(str_nearest("udp", words));
}

static void hex_goes_both_ways(void **state)
{
    const uint8_t bytes[] = {0x00, 0x7f, 0xab, 0xff};
    uint8_t back[4];
    char hex[9];

    (void)state;
    str_hex(bytes, sizeof(bytes), hex);
    assert_string_equal(hex, "007fabff");
    assert_true(str_unhex("007FabFF", back, sizeof(back)));
    assert_memory_equal(back, bytes, sizeof(back));
    assert_false(str_unhex("007fabf", back, sizeof(back)));
    assert_false(str_unhex("007fabff0", back, sizeof(back)));
    assert_false(str_unhex("007fabfg", back, sizeof(back)));
    assert_false(str_unhex(NULL, back, sizeof(back)));
    assert_memory_equal(back, bytes, sizeof(back));
}

static void comparing_bears_null(void **state)
{
    (void)state;
    assert_true(str_eq(NULL, NULL));
    assert_false(str_eq(NULL, ""));
    assert_true(str_eq("a", "a"));
    assert_true(str_starts("abc", "ab"));
    assert_false(str_starts("a", "ab"));
}

static void a_span_is_written_as_it_is_read(void **state)
{
    static const char *const texts[] = {"250ms", "90s", "15m", "1h", "25h", "2d"};
    char buf[32];

    (void)state;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        int64_t ms;
        assert_true(str_to_ms(texts[i], &ms));
        assert_string_equal(str_ms(ms, buf, sizeof(buf)), texts[i]);
    }
    assert_string_equal(str_ms(24 * 3600 * 1000, buf, sizeof(buf)), "1d");
    assert_string_equal(str_ms(1500, buf, sizeof(buf)), "1500ms");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_span_is_written_as_it_is_read),
        cmocka_unit_test(text_grows_by_pieces),
        cmocka_unit_test(taken_text_belongs_to_the_taker),
        cmocka_unit_test(numbers_are_decimal_and_whole),
        cmocka_unit_test(sizes_have_binary_units),
        cmocka_unit_test(durations_always_have_a_unit),
        cmocka_unit_test(sizes_are_shown_with_one_digit),
        cmocka_unit_test(durations_are_shown_in_two_units),
        cmocka_unit_test(times_are_utc_with_milliseconds),
        cmocka_unit_test(names_are_short_and_plain),
        cmocka_unit_test(a_slip_finds_the_word_that_was_meant),
        cmocka_unit_test(short_words_bear_one_slip_only),
        cmocka_unit_test(hex_goes_both_ways),
        cmocka_unit_test(comparing_bears_null),
    };
    return cmocka_run_group_tests_name("str", tests, NULL, NULL);
}
