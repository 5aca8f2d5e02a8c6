// SPDX-License-Identifier: Apache-2.0
#include "core/config.h"

#include "base/mem.h"
#include "support/expect.h"

static unsigned line_of(const char *text, size_t len, const char *path)
{
    const char *found = strstr(text, path);
    unsigned line = 1;

    (void)len;
    for (const char *c = text; found && c < found; c++)
        line += *c == '\n';
    return found ? line : 0;
}

static int parse(const char *text, struct config *ret_config)
{
    CLEANUP(json_freep) json_t *json = NULL;
    const struct config_origin origin = {
        .file = "config.lua",
        .base_dir = "/srv/paris",
        .text = text,
        .len = strlen(text),
        .line_of = line_of,
    };

    EXPECT_OK(json_parse(text, strlen(text), &json, &err));
    err_clear(&err);
    return config_from_json(json, &origin, ret_config, &err);
}

static void expect_refused(const char *text, const char *part)
{
    struct config config;

    if (parse(text, &config) == 0)
        fail_msg("%s: was accepted", text);
    assert_int_equal(err.code, ERR_INVALID);
    EXPECT_TEXT(part);
}

static void a_config_with_a_name_alone_gets_the_defaults(void **state)
{
    struct config config;

    (void)state;
    assert_int_equal(parse("{\"site\": \"paris\"}", &config), 0);
    assert_string_equal(config.site, "paris");
    assert_string_equal(config.dir, "/srv/paris");
    assert_string_equal(config.address, "0.0.0.0:7700");
    assert_string_equal(config.advertise, "0.0.0.0:7700");
    assert_string_equal(config.socket, "/srv/paris/muster.sock");
    assert_string_equal(config.qemu, "qemu-system-x86_64");
    assert_non_null(strstr(config.plugin, "/nbdkit-muster-plugin.so"));
    assert_int_equal(config.plugin[0], '/');
    assert_int_equal(config.data_threads, 4);
    assert_string_equal(config.log_level, "info");
    assert_null(config.networks);
    assert_string_equal(config.seeds, "/srv/paris/seeds");
    config_done(&config);
}

/* Peers name files in it. */
static void seeds_are_nowhere_near_the_site_s_own_files(void **state)
{
    static const char *const wrong[] = {"/srv", "/srv/paris", "/srv/paris/",   "replicas",
                                        "keys", "seedsmore",  "seeds/../keys", "/"};
    static const char *const fine[] = {"seeds", "seeds/peers", "/var/seeds", "/srv/paris2"};
    struct config config;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        CLEANUP(mem_freep)
        char *text = mem_printf("{\"site\": \"paris\", \"seeds\": \"%s\"}", wrong[i]);
        expect_refused(text, "seeds: ");
    }
    for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
        CLEANUP(mem_freep)
        char *text = mem_printf("{\"site\": \"paris\", \"seeds\": \"%s\"}", fine[i]);
        assert_int_equal(parse(text, &config), 0);
        config_done(&config);
    }
}

static void relative_paths_begin_where_the_config_is(void **state)
{
    struct config config;

    (void)state;
    assert_int_equal(parse("{\"site\": \"paris\", \"dir\": \"state\", \"qemu\": \"bin/qemu\","
                           " \"plugin\": \"/lib/p.so\"}",
                           &config),
                     0);
    assert_string_equal(config.dir, "/srv/paris/state");
    assert_string_equal(config.socket, "/srv/paris/state/muster.sock");
    assert_string_equal(config.qemu, "/srv/paris/bin/qemu");
    assert_string_equal(config.plugin, "/lib/p.so");
    config_done(&config);
}

static void a_misspelt_field_is_named_with_its_line_and_the_nearest_word(void **state)
{
    (void)state;
    expect_refused("{\"site\": \"paris\",\n \"adress\": \"127.0.0.1:1\"}",
                   "config.lua:2: adress: ");
    EXPECT_TEXT("did you mean \"address\"?");
}

static void a_value_of_the_wrong_kind_is_named_with_its_line(void **state)
{
    (void)state;
    expect_refused("{\"site\": 5}", "config.lua:1: site: must be a text");
    expect_refused("{\"address\": \"127.0.0.1:1\"}", "config.lua: site: is missing");
    expect_refused("{\"site\": \"Paris!\"}", "\"Paris!\" is no name");
    expect_refused("{\"site\": \"paris\",\n\"data_threads\": 0}", "config.lua:2: data_threads");
    expect_refused("{\"site\": \"paris\", \"address\": \"here\"}", "is not \"HOST:PORT\"");
    expect_refused("{\"site\": \"paris\", \"address\": \"here:70000\"}", "is not \"HOST:PORT\"");
    expect_refused("{\"site\": \"paris\", \"log_level\": \"loud\"}", "none of debug, info");
    expect_refused("{\"site\": \"paris\", \"networks\": \"lan\"}", "networks: must be a table");
    expect_refused("{\"site\": \"paris\", \"networks\": {\"lan\": 1}}", "for \"lan\" must be");
    expect_refused("{\"site\": \"paris\", \"commands\": \"/bin/x\"}", "commands: must be a list");
    expect_refused("{\"site\": \"paris\", \"commands\": [\"x\"]}", "\"x\" is no absolute path");
    expect_refused("{\"site\": \"paris\", \"commands\": [5]}", "is no absolute path");
    expect_refused("[]", "config.lua: must return a table");
}

static void a_socket_path_too_long_for_the_kernel_is_refused_with_both_lengths(void **state)
{
    char text[300] = "{\"site\": \"paris\", \"socket\": \"/";

    (void)state;
    memset(text + strlen(text), 'x', 120);
    (void)strcat(text, "\"}");
    expect_refused(text, "121 bytes, a unix socket's path has at most 107");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_config_with_a_name_alone_gets_the_defaults),
        cmocka_unit_test(seeds_are_nowhere_near_the_site_s_own_files),
        cmocka_unit_test(relative_paths_begin_where_the_config_is),
        cmocka_unit_test(a_misspelt_field_is_named_with_its_line_and_the_nearest_word),
        cmocka_unit_test(a_value_of_the_wrong_kind_is_named_with_its_line),
        cmocka_unit_test(a_socket_path_too_long_for_the_kernel_is_refused_with_both_lengths),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
