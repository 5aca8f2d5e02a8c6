// SPDX-License-Identifier: Apache-2.0
/* MUSTER_UPDATE_DOCS=1 writes docs/api.md instead of comparing it. */
#include "api/api_tables.h"
#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"

#include <stdlib.h>

static void the_api_s_manual_is_what_the_tables_say(void **state)
{
    CLEANUP(mem_freep) char *made = api_markdown();
    CLEANUP(str_free) struct str there = STR_EMPTY;
    const char *path = MUSTER_SOURCE_DIR "/docs/api.md";

    (void)state;
    if (getenv("MUSTER_UPDATE_DOCS"))
        EXPECT_OK(fs_replace_file(fs_real(), path, made, strlen(made), 0644, &err));
    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 20, &there, &err));
    assert_string_equal(str_text(&there), made);
}

static void for_each_route(void (*check)(const struct api_route *route))
{
    struct api_table tables[API_TABLES_MAX];

    api_tables_fill(tables);
    for (const struct api_table *table = tables; table->routes; table++)
        for (const struct api_route *route = table->routes; route->method; route++)
            check(route);
}

static void check_words(const struct api_route *route)
{
    size_t len = strlen(route->help);

    if (!str_starts(route->path, "/v1"))
        fail_msg("%s is outside /v1", route->path);
    if (len == 0 || route->help[len - 1] != '.')
        fail_msg("%s %s: \"%s\" is no sentence", route->method, route->path, route->help);
    if (!route->reply || !*route->reply)
        fail_msg("%s %s does not say what it answers", route->method, route->path);
}

static void each_endpoint_says_what_it_does_and_answers(void **state)
{
    (void)state;
    for_each_route(check_words);
}

static void check_reachable(const struct api_route *route)
{
    struct api_table tables[API_TABLES_MAX];
    CLEANUP(str_free) struct str path = STR_EMPTY;
    char *params[API_PARAMS_MAX];
    const struct api_route *found;

    api_tables_fill(tables);
    for (const char *at = route->path; *at; at++) {
        if (str_starts(at, "{id}"))
            str_add(&path, "17");
        else if (*at == '{')
            str_add(&path, "some-name");
        else
            str_add_bytes(&path, at, 1);
        if (*at == '{')
            at += strcspn(at, "}");
    }
    found = api_route_find(tables, route->method, str_text(&path), params, &err);
    for (size_t i = 0; found && i < API_PARAMS_MAX; i++)
        free(params[i]);
    if (found != route)
        fail_msg("%s %s finds %s", route->method, str_text(&path), found ? found->path : "nothing");
}

static void no_endpoint_hides_another(void **state)
{
    (void)state;
    for_each_route(check_reachable);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_api_s_manual_is_what_the_tables_say),
        cmocka_unit_test(each_endpoint_says_what_it_does_and_answers),
        cmocka_unit_test(no_endpoint_hides_another),
    };
    return cmocka_run_group_tests_name("docs", tests, NULL, NULL);
}
