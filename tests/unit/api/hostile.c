// SPDX-License-Identifier: Apache-2.0
/* Requests that are wrong, by mistake or on purpose: refused in words, and others are served. */
#include "base/fs.h"
#include "support/api/things.h"
#include "support/expect.h"

static void an_unknown_path_is_404_and_says_where_to_look(void **state)
{
    things_expect(*state, "GET", "/v1/nothing", "", 404, "GET /v1 describes");
    things_expect(*state, "GET", "/", "", 404, "not-found");
    things_expect(*state, "GET", "/v1/things/db1/", "", 404, "not-found");
    things_expect(*state, "GET", "/v1/things/", "", 404, "not-found");
}

static void a_name_with_dots_and_slashes_does_not_match(void **state)
{
    things_expect(*state, "GET", "/v1/things/../../etc", "", 404, "not-found");
    things_expect(*state, "GET", "/v1/things/%2e%2e", "", 404, "not-found");
    things_expect(*state, "GET", "/v1/things/a%2fb", "", 404, "not-found");
    things_expect(*state, "GET", "/v1/numbers/0", "", 404, "not-found");
    things_expect(*state, "GET", "/v1/numbers/99999999999999999999", "", 404, "not-found");
    things_expect(*state, "GET", "/v1/numbers/12x", "", 404, "not-found");
}

static void bytes_that_are_no_text_are_refused_in_words(void **state)
{
    things_expect(*state, "GET", "/v1/%ff%fe", "", 404, "there is nothing at /v1/??");
    things_expect(*state, "GET", "/v1/wait?%ff=1", "", 400, "invalid");
    things_expect(*state, "GET", "/v1/wait?since=%ff", "", 400, "invalid");
}

static void a_wrong_method_is_405_and_names_the_right_ones(void **state)
{
    things_expect(*state, "DELETE", "/v1/things/db1", "", 405, "possible: GET, POST");
    things_expect(*state, "BREW", "/v1/things/db1", "", 405, "possible: GET, POST");
}

static void a_body_that_is_no_json_is_400(void **state)
{
    things_expect(*state, "POST", "/v1/things/db1", "{\"size\":", 400, "invalid");
    things_expect(*state, "POST", "/v1/things/db1", "[1]", 400, "must be a JSON object");
    things_expect(*state, "POST", "/v1/things/db1", "\xff\xfe", 400, "invalid");
}

static void a_field_of_the_wrong_type_is_named(void **state)
{
    things_expect(*state, "POST", "/v1/things/db1", "{\"size\":\"9\"}", 400,
                  "field \\\"size\\\" must be a number");
    things_expect(*state, "POST", "/v1/things/db1", "{\"size\":-9}", 400,
                  "field \\\"size\\\" must be a number");
    things_expect(*state, "POST", "/v1/things/db1", "{\"size\":1,\"peer\":\"../x\"}", 400,
                  "field \\\"peer\\\" must be a name");
    things_expect(*state, "POST", "/v1/things/db1", "{\"size\":1,\"parts\":[]}", 400,
                  "field \\\"parts\\\" must be an object");
}

static void a_misspelt_field_is_answered_with_the_nearest(void **state)
{
    things_expect(*state, "POST", "/v1/things/db1", "{\"size\":1,\"color\":\"red\"}", 400,
                  "\"hint\":\"did you mean \\\"colour\\\"?\"");
}

static void a_missing_field_is_named(void **state)
{
    things_expect(*state, "POST", "/v1/things/db1", "{}", 400, "field \\\"size\\\" is missing");
    things_expect(*state, "POST", "/v1/things/db1", "", 400, "field \\\"size\\\" is missing");
}

static void the_query_is_typed_like_a_body(void **state)
{
    things_expect(*state, "GET", "/v1/wait?since=none", "", 400, "must be a number");
    things_expect(*state, "GET", "/v1/wait?sinse=1", "", 400, "did you mean");
    things_expect(*state, "GET", "/v1/wait?wait_ms=0", "", 200, "\"change\":0");
}

static void garbage_is_refused_and_others_are_served(void **state)
{
    static const char garbage[] = "\x16\x03\x01\x02\x00 this is no HTTP \r\n\r\n\r\n";
    struct things *fx = *state;
    CLEANUP(fd_close) int fd = things_client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;

    assert_true(things_say(fx, fd, garbage, sizeof(garbage) - 1));
    things_hear(fx, fd, &answer);
    assert_int_not_equal(things_status(&answer), 200);
    things_expect(fx, "GET", "/v1/things/db1", "", 200, "db1");
}

static void endless_headers_are_cut_off(void **state)
{
    struct things *fx = *state;
    CLEANUP(fd_close) int fd = things_client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    CLEANUP(str_free) struct str text = STR_EMPTY;

    str_add(&text, "GET /v1/things/db1 HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 4000; i++)
        str_addf(&text, "X-Header-%d: aaaaaaaaaaaaaaaaaaaaaaaa\r\n", i);
    if (things_say(fx, fd, text.ptr, text.len))
        things_hear(fx, fd, &answer);
    assert_int_not_equal(things_status(&answer), 200);
    things_expect(fx, "GET", "/v1/things/db1", "", 200, "db1");
}

static void a_body_too_large_is_413_before_it_is_sent(void **state)
{
    static const char head[] = "POST /v1/things/db1 HTTP/1.1\r\nHost: x\r\n"
                               "Content-Length: 17000000\r\n\r\n";
    struct things *fx = *state;
    CLEANUP(fd_close) int fd = things_client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;

    assert_true(things_say(fx, fd, head, sizeof(head) - 1));
    things_hear(fx, fd, &answer);
    assert_int_equal(things_status(&answer), 413);
    assert_non_null(strstr(things_body(&answer), "the most is 16777216"));
}

static void a_chunked_body_is_cut_at_the_limit(void **state)
{
    static const char head[] = "POST /v1/things/db1 HTTP/1.1\r\nHost: x\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    struct things *fx = *state;
    CLEANUP(fd_close) int fd = things_client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    CLEANUP(str_free) struct str chunk = STR_EMPTY;
    bool open = true;

    str_add(&chunk, "100000\r\n");
    for (int i = 0; i < 1 << 20; i++)
        str_add(&chunk, " ");
    str_add(&chunk, "\r\n");
    assert_true(things_say(fx, fd, head, sizeof(head) - 1));
    for (int i = 0; i < 17 && open; i++)
        open = things_say(fx, fd, chunk.ptr, chunk.len);
    if (open)
        (void)things_say(fx, fd, "0\r\n\r\n", 5);
    things_hear(fx, fd, &answer);
    assert_int_equal(things_status(&answer), 413);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        THINGS_TEST(an_unknown_path_is_404_and_says_where_to_look),
        THINGS_TEST(a_name_with_dots_and_slashes_does_not_match),
        THINGS_TEST(bytes_that_are_no_text_are_refused_in_words),
        THINGS_TEST(a_wrong_method_is_405_and_names_the_right_ones),
        THINGS_TEST(a_body_that_is_no_json_is_400),
        THINGS_TEST(a_field_of_the_wrong_type_is_named),
        THINGS_TEST(a_misspelt_field_is_answered_with_the_nearest),
        THINGS_TEST(a_missing_field_is_named),
        THINGS_TEST(the_query_is_typed_like_a_body),
        THINGS_TEST(garbage_is_refused_and_others_are_served),
        THINGS_TEST(endless_headers_are_cut_off),
        THINGS_TEST(a_body_too_large_is_413_before_it_is_sent),
        THINGS_TEST(a_chunked_body_is_cut_at_the_limit),
    };
    return cmocka_run_group_tests_name("hostile", tests, NULL, NULL);
}
