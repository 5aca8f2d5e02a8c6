// SPDX-License-Identifier: Apache-2.0
#include "host/host.h"
#include "support/expect.h"

static unsigned line_of(const char *text, const char *path)
{
    return host_line_of(text, strlen(text), path);
}

static const char config[] = "-- A comment with return { site = 1 }\n"                  /* 1 */
                             "local helper = function(x) return { site = x } end\n"     /* 2 */
                             "--[[ long\n"                                              /* 3 */
                             "return { site = 2 } ]]\n"                                 /* 4 */
                             "if helper then helper(1) end\n"                           /* 5 */
                             "return {\n"                                               /* 6 */
                             "  site = \"paris, { not a table\",\n"                     /* 7 */
                             "  hook = helper(function(a, b) local c, d = a, b end),\n" /* 8 */
                             "  disks = {\n"                                            /* 9 */
                             "    { path = 'a', format = [[raw\n"                       /* 10 */
                             "]] },\n"                                                  /* 11 */
                             "    { path = 'b\\'',\n"                                   /* 12 */
                             "      format = \"qcow2\" },\n"                            /* 13 */
                             "  };\n"                                                   /* 14 */
                             "  [\"odd name\"] = { [1] = 2,\n"                          /* 15 */
                             "    x = 1 == 2 },\n"                                      /* 16 */
                             "}\n";

static void a_key_is_found_where_it_is_written(void **state)
{
    (void)state;
    assert_int_equal(line_of(config, ""), 6);
    assert_int_equal(line_of(config, "site"), 7);
    assert_int_equal(line_of(config, "disks"), 9);
    assert_int_equal(line_of(config, "disks[1]"), 10);
    assert_int_equal(line_of(config, "disks[2]"), 12);
    assert_int_equal(line_of(config, "disks[2].path"), 12);
    assert_int_equal(line_of(config, "disks[2].format"), 13);
    assert_int_equal(line_of(config, "[\"odd name\"]"), 15);
    assert_int_equal(line_of(config, "[\"odd name\"].x"), 16);
}

static void a_key_that_is_not_written_has_no_line(void **state)
{
    (void)state;
    assert_int_equal(line_of(config, "sites"), 0);
    assert_int_equal(line_of(config, "disks[3]"), 0);
    assert_int_equal(line_of(config, "hook.site"), 0);
    assert_int_equal(line_of(config, "site.name"), 0);
    assert_int_equal(line_of("local t = { a = 1 } return t", "a"), 0);
    assert_int_equal(line_of("", "a"), 0);
}

static void broken_text_and_paths_are_survived(void **state)
{
    static const char *const texts[] = {
        "return {",    "return { a",  "return { a =",     "return { ]", "return { a = ) }",
        "return { \"", "return { [[", "return { [==[ ]]", "--[[",       "return { a = 'x\\",
    };
    static const char *const paths[] = {"a",   "a.",  "[",    "[x", "[1",
                                        "[0]", "[\"", "[\"a", ".",  "[]"};

    (void)state;
    for (size_t t = 0; t < sizeof(texts) / sizeof(*texts); t++)
        for (size_t p = 0; p < sizeof(paths) / sizeof(*paths); p++)
            (void)line_of(texts[t], paths[p]);
}

static void a_field_of_a_word_is_found_in_its_table(void **state)
{
    static const char text[] = "return plan \"x\" {\n"                         /* 1 */
                               "  stage \"A\" {\n"                             /* 2 */
                               "    step \"one\" { failover \"db1\" },\n"      /* 3 */
                               "    step(\"two\" .. n) { failover \"db1\",\n"  /* 4 */
                               "      wihtin = \"5m\" },\n"                    /* 5 */
                               "    step \"a\" { within = 1 }, step \"b\" {\n" /* 6 */
                               "      wait_until { tcp = \"a:1\",\n"           /* 7 */
                               "        within = \"1m\" },\n"                  /* 8 */
                               "      retry = { times = 2,\n"                  /* 9 */
                               "        wiat = \"1s\" } },\n"                  /* 10 */
                               "  },\n"
                               "}\n";
    const size_t len = strlen(text);

    (void)state;
    assert_int_equal(host_line_of_field(text, len, 4, "step", "wihtin"), 5);
    assert_int_equal(host_line_of_field(text, len, 6, "step", "retry.wiat"), 10);
    assert_int_equal(host_line_of_field(text, len, 7, "wait_until", "within"), 8);
    assert_int_equal(host_line_of_field(text, len, 3, "step", "within"), 3);
    assert_int_equal(host_line_of_field(text, len, 99, "step", "within"), 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_found_where_it_is_written),
        cmocka_unit_test(a_key_that_is_not_written_has_no_line),
        cmocka_unit_test(broken_text_and_paths_are_survived),
        cmocka_unit_test(a_field_of_a_word_is_found_in_its_table),
    };
    return cmocka_run_group_tests_name("lines", tests, NULL, NULL);
}
