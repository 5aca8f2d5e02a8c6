// SPDX-License-Identifier: Apache-2.0
#include "base/json.h"

#include "base/mem.h"
#include "support/expect.h"

static json_t *parsed(const char *text)
{
    json_t *json = NULL;

    EXPECT_OK(json_parse(text, strlen(text), &json, &err));
    return json;
}

static void text_does_not_depend_on_the_order_of_fields(void **state)
{
    CLEANUP(json_freep)
    json_t *a = parsed("{\"b\": [1, 2.5, null], \"a\": {\"y\":1, \"x\": true}}");
    CLEANUP(json_freep) json_t *b = parsed("{\"a\":{\"x\":true,\"y\":1},\"b\":[1,2.5,null]}");
    CLEANUP(mem_freep) char *text_a = json_text(a);
    CLEANUP(mem_freep) char *text_b = json_text(b);

    (void)state;
    assert_string_equal(text_a, "{\"a\":{\"x\":true,\"y\":1},\"b\":[1,2.5,null]}");
    assert_string_equal(text_a, text_b);
}

static void what_is_not_json_is_refused_with_its_place(void **state)
{
    static const char *const wrong[] = {
        "", "{", "{\"a\":1,}", "{\"a\":1} x", "{\"a\":1,\"a\":2}", "\xff", NULL};
    json_t *json = NULL;

    (void)state;
    for (const char *const *text = wrong; *text; text++)
        EXPECT_ERR(ERR_INVALID, json_parse(*text, strlen(*text), &json, &err));
    EXPECT_ERR(ERR_INVALID, json_parse("{\n\"a\": ?}", 9, &json, &err));
    EXPECT_TEXT("line 2");
    EXPECT_ERR(ERR_INVALID, json_parse("\"a\0b\"", 5, &json, &err));
    assert_null(json);
}

static void a_needed_field_is_named_when_it_is_wrong(void **state)
{
    CLEANUP(json_freep) json_t *obj = parsed("{\"n\":7,\"neg\":-1,\"s\":\"x\",\"a\":[],\"o\":{}}");
    const char *text = NULL;
    uint64_t n = 0;
    json_t *sub = NULL;

    (void)state;
    EXPECT_OK(json_need_str(obj, "s", "hello", &text, &err));
    assert_string_equal(text, "x");
    EXPECT_OK(json_need_u64(obj, "n", "hello", &n, &err));
    assert_int_equal(n, 7);
    EXPECT_OK(json_need_array(obj, "a", "hello", &sub, &err));
    EXPECT_OK(json_need_object(obj, "o", "hello", &sub, &err));

    EXPECT_ERR(ERR_INVALID, json_need_str(obj, "n", "hello", &text, &err));
    EXPECT_TEXT("hello: field \"n\" must be a text, but is an integer");
    EXPECT_ERR(ERR_INVALID, json_need_u64(obj, "neg", "hello", &n, &err));
    EXPECT_TEXT("\"neg\"");
    EXPECT_ERR(ERR_INVALID, json_need_u64(obj, "gone", "hello", &n, &err));
    EXPECT_TEXT("missing");
    EXPECT_ERR(ERR_INVALID, json_need_array(obj, "o", "hello", &sub, &err));
    EXPECT_ERR(ERR_INVALID, json_need_object(obj, "a", "hello", &sub, &err));
    EXPECT_ERR(ERR_INVALID, json_need_str(json_object_get(obj, "a"), "s", "hello", &text, &err));
    EXPECT_TEXT("not an object");
    EXPECT_ERR(ERR_INVALID, json_need_str(NULL, "s", "hello", &text, &err));
    assert_string_equal(text, "x");
    assert_int_equal(n, 7);
}

static void a_field_of_the_wrong_type_counts_as_absent(void **state)
{
    CLEANUP(json_freep) json_t *obj = parsed("{\"n\":7,\"neg\":-1,\"s\":\"x\",\"b\":true}");

    (void)state;
    assert_string_equal(json_get_str(obj, "s", "y"), "x");
    assert_string_equal(json_get_str(obj, "n", "y"), "y");
    assert_null(json_get_str(obj, "gone", NULL));
    assert_int_equal(json_get_u64(obj, "n", 3), 7);
    assert_int_equal(json_get_u64(obj, "neg", 3), 3);
    assert_int_equal(json_get_u64(NULL, "n", 3), 3);
    assert_true(json_get_bool(obj, "b", false));
    assert_true(json_get_bool(obj, "n", true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_does_not_depend_on_the_order_of_fields),
        cmocka_unit_test(what_is_not_json_is_refused_with_its_place),
        cmocka_unit_test(a_needed_field_is_named_when_it_is_wrong),
        cmocka_unit_test(a_field_of_the_wrong_type_counts_as_absent),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
