// SPDX-License-Identifier: Apache-2.0
/* What authors get back: values, and for each mistake or attack one clear error. */
#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/host/host_child.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

static int run_with(const struct host *host, enum host_mode mode, const char *text, char **ret_json)
{
    CLEANUP(json_freep)
    json_t *words = json_pack("{s:s, s:n, s:n}", "failover", "machine", "wait_until", "check");
    json_t *value = NULL;
    int rc = host_run(host, mode, "dir/shop.lua", text, strlen(text), words, &value, NULL, &err);

    if (rc == 0 && ret_json)
        *ret_json = json_text(value);
    json_decref(value);
    return rc;
}

static int run(enum host_mode mode, const char *text)
{
    struct host host = host_for_test();

    return run_with(&host, mode, text, NULL);
}

/* The data file `text` gives the JSON `want`. */
static void data_gives(const char *text, const char *want)
{
    CLEANUP(mem_freep) char *json = NULL;
    struct host host = host_for_test();

    EXPECT_OK(run_with(&host, HOST_DATA, text, &json));
    assert_string_equal(json, want);
}

static void data_fails(enum err_code code, const char *text, const char *message)
{
    EXPECT_ERR(code, run(HOST_DATA, text));
    EXPECT_TEXT(message);
}

static void plan_fails(enum err_code code, const char *text, const char *message)
{
    EXPECT_ERR(code, run(HOST_PLAN, text));
    EXPECT_TEXT(message);
}

/* --- Values ------------------------------------------------------------------------------- */

static void a_table_of_data_comes_back_as_json(void **state)
{
    (void)state;
    data_gives("return { name = \"db1\", cpus = 2, disks = { { path = 'a' }, {} }, on = true }",
               "{\"cpus\":2,\"disks\":[{\"path\":\"a\"},[]],\"name\":\"db1\",\"on\":true}");
    data_gives("return {}", "{}");
    data_gives("return { 1, 2.5, -3, 0.5, 4.0 }", "[1,2.5,-3,0.5,4.0]");
    data_gives("return { umlaut = \"\\u{e4}\", quote = '\"\\n' }",
               "{\"quote\":\"\\\"\\n\",\"umlaut\":\"\xc3\xa4\"}");
    data_gives("\xef\xbb\xbfreturn { marked = true }", "{\"marked\":true}");
}

static void helper_functions_and_loops_may_build_data(void **state)
{
    (void)state;
    data_gives("local function disk(n) return { path = (\"disk%d.raw\"):format(n) } end\n"
               "local all = {}\n"
               "for n = 1, 2 do table.insert(all, disk(n)) end\n"
               "return { disks = all }",
               "{\"disks\":[{\"path\":\"disk1.raw\"},{\"path\":\"disk2.raw\"}]}");
}

static void what_is_no_data_is_refused_with_its_place_and_line(void **state)
{
    (void)state;
    data_fails(ERR_INVALID, "return {\n  disks = {\n    { hook = function() end },\n  },\n}",
               "dir/shop.lua:3: disks[1].hook is a function");
    data_fails(ERR_INVALID, "local t = {}\nt.a = { b = t }\nreturn t",
               "dir/shop.lua: a.b is the whole table again");
    data_fails(ERR_INVALID, "local t = { name = {} }\nt.name.inner = { up = t.name }\nreturn t",
               "name.inner.up is name again: a table in itself");
    data_fails(ERR_INVALID, "return { 1, 2, x = 3 }", "both named and unnamed values, as 'x'");
    data_fails(ERR_INVALID, "return { a = { [1] = 1, [3] = 3 } }", "a has a gap");
    data_fails(ERR_INVALID, "return { a = { [1.5] = 1 } }", "a has a key that is neither");
    data_fails(ERR_INVALID, "return { a = 0/0 }", "a is not a finite number");
    data_fails(ERR_INVALID, "return {\n a = \"\\xff\" }", "dir/shop.lua:2: a is not UTF-8");
    data_fails(ERR_INVALID, "return { a = \"x\\0y\" }", "a holds a NUL byte");
    data_fails(ERR_INVALID, "return { [\"\\xff\"] = 1 }", "not UTF-8");
    data_fails(ERR_INVALID, "return 7", "returns number; hint: the file ends with return { ... }");
    data_fails(ERR_INVALID, "local x = 1", "returns nothing");
    data_fails(ERR_LIMIT, "local t = {}\nfor i = 1, 100 do t = { t } end\nreturn t",
               "nested deeper than 64");
}

static void only_text_reaches_lua(void **state)
{
    struct host host = host_for_test();
    json_t *value = NULL;

    (void)state;
    data_fails(ERR_DENIED, "\x1bLua\x54", "compiled Lua is not run");
    EXPECT_ERR(ERR_INVALID,
               host_run(&host, HOST_DATA, "n.lua", "return {\n\0}", 11, NULL, &value, NULL, &err));
    EXPECT_TEXT("n.lua:2: a NUL byte");
    data_fails(ERR_INVALID, "return {\n\n a = '\xff' }", "dir/shop.lua:3: not UTF-8 text");
}

static void a_syntax_error_names_file_and_line(void **state)
{
    (void)state;
    data_fails(ERR_INVALID, "return {\n  a = 1\n  b = 2\n}", "dir/shop.lua:3: '}' expected");
    data_fails(ERR_INVALID, "return {", "dir/shop.lua:1: unexpected symbol near <eof>");
}

static void a_long_file_name_is_not_cut(void **state)
{
    struct host host = host_for_test();
    char name[200];
    json_t *value = NULL;

    (void)state;
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    EXPECT_ERR(ERR_INVALID,
               host_run(&host, HOST_DATA, name, "return x", 8, NULL, &value, NULL, &err));
    EXPECT_TEXT(name);
    EXPECT_TEXT("n:1: unknown word 'x'");
}

static void a_file_that_is_not_there_is_told(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "none.lua");
    struct host host = host_for_test();
    json_t *value = NULL;

    EXPECT_ERR(ERR_NOT_FOUND, host_run_file(&host, HOST_DATA, path, NULL, &value, NULL, &err));
    EXPECT_TEXT(path);
}

/* --- Words that are not there --------------------------------------------------------------- */

static void an_unknown_word_names_the_nearest(void **state)
{
    (void)state;
    plan_fails(ERR_INVALID, "return plan \"x\" {\n  failovr \"db1\",\n}",
               "dir/shop.lua:2: unknown word 'failovr' (did you mean 'failover'?)");
    data_fails(ERR_INVALID, "return { a = yes }",
               "dir/shop.lua:1: unknown word 'yes'; hint: texts");
    data_fails(ERR_INVALID, "return { a = plan }", "unknown word 'plan'");
}

static void a_global_is_refused_by_name(void **state)
{
    (void)state;
    data_fails(ERR_INVALID, "local a = 1\nb = 2\nreturn {}",
               "dir/shop.lua:2: global 'b' is not declared; hint: write \"local b\"");
    plan_fails(ERR_INVALID, "step = 1", "dir/shop.lua:1: 'step' is a word of the language");
    plan_fails(ERR_INVALID, "function help() end", "global 'help' is not declared");
}

static void the_world_is_out_of_reach(void **state)
{
    static const char *const tries[] = {
        "io.open('/etc/passwd')",
        "os.execute('id')",
        "require('socket')",
        "load('return 1')",
        "loadstring('return')",
        "dofile('/etc/passwd')",
        "debug.getregistry()",
        "package.loadlib('x')",
        "collectgarbage()",
        "setmetatable({}, { __gc = function() end })",
        "getmetatable('')",
        "coroutine.create(function() end)",
        "_G.x",
        "rawset({}, 1, 2)",
        "next({})",
        "print('hello')",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        CLEANUP(mem_freep) char *text = mem_printf("\nlocal _ = %s\nreturn {}", tries[i]);
        CLEANUP(mem_freep)
        char *name = mem_printf("dir/shop.lua:2: '%.*s'", (int)strcspn(tries[i], ".({"), tries[i]);
        data_fails(ERR_DENIED, text, name);
    }
    data_fails(ERR_DENIED, "print(1) return {}", "hint: use error(");
    data_fails(ERR_INVALID, "return { x = string.dump(function() end) }",
               "dir/shop.lua:1: attempt to call a nil value (field 'dump')");
    data_fails(ERR_INVALID, "return { x = math.random() }", "field 'random'");
}

static void an_own_error_is_told_with_its_line(void **state)
{
    (void)state;
    data_fails(ERR_INVALID, "\nerror(\"no such site\")", "dir/shop.lua:2: no such site");
    data_fails(ERR_INVALID, "\n\nerror({})", "dir/shop.lua:3: an error was raised with a table");
    data_fails(ERR_INVALID, "error()", "with a nil for its message");
    data_fails(ERR_INVALID, "error(\"two\\nlines \\xff\")", "two lines ?");
    data_fails(ERR_INVALID, "local t\nreturn { a = t.b }",
               "dir/shop.lua:2: attempt to index a nil");
}

/* --- The same every time -------------------------------------------------------------------- */

static void nothing_differs_from_load_to_load(void **state)
{
    (void)state;
    data_gives("local t, names = { c = 1, a = 2, b = 3, 10, 20, [true] = 5 }, {}\n"
               "for k, v in pairs(t) do names[#names + 1] = tostring(k) .. '=' .. v end\n"
               "return names",
               "[\"true=5\",\"1=10\",\"2=20\",\"a=2\",\"b=3\",\"c=1\"]");
    data_gives("return { tostring({}), tostring(nil), ('%s %s'):format({}, error) }",
               "[\"table\",\"nil\",\"table function\"]");
}

static void addresses_are_not_to_be_had(void **state)
{
    (void)state;
    data_fails(ERR_INVALID, "return { ('%p'):format({}) }", "dir/shop.lua:1: string.format: %p");
    data_fails(ERR_INVALID, "return { ('%%%-20p'):format({}) }", "string.format: %p");
    data_gives("return { ('%%p %5.1f'):format(1) }", "[\"%p   1.0\"]");
}

/* More keys than the C library sorts on its stack. */
static void large_tables_come_back_too(void **state)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct host host = host_for_test();
    CLEANUP(mem_freep) char *json = NULL;

    (void)state;
    EXPECT_OK(run_with(&host, HOST_DATA,
                       "local t = {}; for i = 1, 2000 do t['key' .. i] = i end; return t", &json));
    assert_non_null(strstr(json, "\"key2000\":2000"));
    str_add(&text, "return plan 'p' {");
    for (int i = 0; i < 500; i++)
        str_addf(&text, " step 's%d' { failover 'm%d' },", i, i);
    str_add(&text, " }");
    EXPECT_OK(run_with(&host, HOST_PLAN, str_text(&text), NULL));
}

static void sorting_is_stable_and_asks_no_clock(void **state)
{
    (void)state;
    data_gives("local t = { 3, 1, 2 } table.sort(t) return t", "[1,2,3]");
    data_gives("local t = { 'b2', 'a1', 'b1', 'a2' }\n"
               "table.sort(t, function(x, y) return x:sub(1, 1) < y:sub(1, 1) end) return t",
               "[\"a1\",\"a2\",\"b2\",\"b1\"]");
    data_gives("local t = {} for i = 1, 5000 do t[i] = (i * 7919) % 5000 end\n"
               "table.sort(t)\n"
               "for i = 2, #t do assert(t[i - 1] <= t[i]) end\n"
               "return { #t, t[1], t[5000] }",
               "[5000,0,4999]");
    data_fails(ERR_INVALID, "table.sort({ 1, 'a' }) return {}",
               "dir/shop.lua:1: attempt to compare");
}

/* --- Bounds --------------------------------------------------------------------------------- */

static void a_loop_that_never_ends_is_killed(void **state)
{
    struct host host = host_for_test();

    (void)state;
    host.limits.cpu_ms = 150;
    EXPECT_ERR(ERR_LIMIT, run_with(&host, HOST_PLAN, "while true do end", NULL));
    EXPECT_TEXT("dir/shop.lua: ran for more than 150 ms of processor time");
    EXPECT_ERR(ERR_LIMIT, run_with(&host, HOST_DATA, "while true do pcall(error, 1) end", NULL));
}

static void a_pattern_that_never_ends_is_killed(void **state)
{
    struct host host = host_for_test();

    (void)state;
    host.limits.cpu_ms = 150;
    EXPECT_ERR(ERR_LIMIT,
               run_with(&host, HOST_DATA,
                        "return { (('a'):rep(5000)):find(('a-'):rep(30) .. 'b') }", NULL));
    EXPECT_TEXT("or a text pattern that never ends");
}

static void memory_without_end_is_refused(void **state)
{
    struct host host = host_for_test();

    (void)state;
    host.limits.memory_bytes = 4U << 20;
    EXPECT_ERR(ERR_LIMIT,
               run_with(&host, HOST_DATA, "local t = {} while true do t[#t + 1] = {} end", NULL));
    EXPECT_TEXT("dir/shop.lua: needs more than 4.0 MiB of memory");
    EXPECT_ERR(ERR_LIMIT,
               run_with(&host, HOST_DATA, "local s = 'x' while true do s = s .. s end", NULL));
    EXPECT_ERR(ERR_LIMIT, run_with(&host, HOST_DATA,
                                   "local s = ('x'):rep(1e6)\n"
                                   "return { (s:gsub('x', s)) }",
                                   NULL));
    EXPECT_TEXT("needs more than 4.0 MiB");
}

static void a_repetition_bomb_is_refused_at_once(void **state)
{
    (void)state;
    data_fails(ERR_LIMIT, "\nreturn { ('x'):rep(1e9) }", "dir/shop.lua:2: string.rep: the text");
    data_fails(ERR_LIMIT, "return { string.rep('', 1 << 60, 'ab') }", "string.rep: the text");
    data_gives("return { ('ab'):rep(2, '-'), (''):rep(-1) }", "[\"ab-ab\",\"\"]");
}

static void calls_without_end_are_refused(void **state)
{
    (void)state;
    data_fails(ERR_LIMIT, "local function f(n) return 1 + f(n) end\nreturn { f(1) }",
               "dir/shop.lua");
    data_fails(ERR_LIMIT, "local function f(s) return (s:gsub('.', f)) end\nreturn { f('x') }",
               "nested too deep");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    str_add(&text, "return ");
    for (int i = 0; i < 1000; i++)
        str_add(&text, "{");
    data_fails(ERR_LIMIT, text.ptr, "nested too deep");
}

static void a_result_without_end_is_refused(void **state)
{
    struct host host = host_for_test();

    (void)state;
    host.limits.result_bytes = 1U << 20;
    EXPECT_ERR(ERR_LIMIT, run_with(&host, HOST_DATA,
                                   "local t = { 'x' }\n"
                                   "for i = 1, 40 do t = { t, t } end\n"
                                   "return t",
                                   NULL));
    EXPECT_TEXT("the result is larger than 1.0 MiB");
}

static void wall_time_is_bounded_too(void **state)
{
    struct host host = host_for_test();

    (void)state;
    host.limits.wall_ms = 100;
    host.limits.cpu_ms = 60000;
    EXPECT_ERR(ERR_LIMIT, run_with(&host, HOST_DATA, "while true do end", NULL));
    EXPECT_TEXT("dir/shop.lua: not finished after 100 ms");
}

static void a_cancel_of_the_caller_is_no_limit(void **state)
{
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(NULL, NULL, CANCEL_NEVER);
    struct host host = host_for_test();
    json_t *value = NULL;

    (void)state;
    cancel_fire(cancel);
    EXPECT_ERR(ERR_CANCELLED, host_run(&host, HOST_DATA, "a.lua", "while true do end", 17, NULL,
                                       &value, cancel, &err));
}

/* --- A child that is at fault ---------------------------------------------------------------- */

static void fake_child(const char *dir, const char *script, struct host *ret_host)
{
    static char path[512];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/child", dir);
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fprintf(file, "#!/bin/sh\n%s\n", script);
    (void)fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    *ret_host = host_for_test();
    ret_host->program = path;
}

static void how_a_child_died_decides_the_error(void **state)
{
    struct host host;

    fake_child(*state, "kill -SYS $$", &host);
    EXPECT_ERR(ERR_DENIED, run_with(&host, HOST_DATA, "return {}", NULL));
    EXPECT_TEXT("dir/shop.lua: tried to reach out of its sandbox");
    fake_child(*state, "kill -KILL $$", &host);
    EXPECT_ERR(ERR_LIMIT, run_with(&host, HOST_DATA, "return {}", NULL));
    fake_child(*state, "kill -SEGV $$", &host);
    EXPECT_ERR(ERR_PROTOCOL, run_with(&host, HOST_DATA, "return {}", NULL));
    EXPECT_TEXT("died by signal 11");
    fake_child(*state, "exit 7", &host);
    EXPECT_ERR(ERR_PROTOCOL, run_with(&host, HOST_DATA, "return {}", NULL));
    EXPECT_TEXT("ended with code 7");
}

static void an_answer_that_is_none_is_a_fault_of_the_child(void **state)
{
    struct host host;

    fake_child(*state, "echo nonsense >&$2", &host);
    EXPECT_ERR(ERR_PROTOCOL, run_with(&host, HOST_DATA, "return {}", NULL));
    fake_child(*state, "echo '{}' >&$2", &host);
    EXPECT_ERR(ERR_PROTOCOL, run_with(&host, HOST_DATA, "return {}", NULL));
    fake_child(*state, "while :; do printf '%4096d' 0 >&$2; done", &host);
    host.limits.result_bytes = 1000;
    EXPECT_ERR(ERR_LIMIT, run_with(&host, HOST_DATA, "return {}", NULL));
    EXPECT_TEXT("answers without end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_of_data_comes_back_as_json),
        cmocka_unit_test(helper_functions_and_loops_may_build_data),
        cmocka_unit_test(what_is_no_data_is_refused_with_its_place_and_line),
        cmocka_unit_test(only_text_reaches_lua),
        cmocka_unit_test(a_syntax_error_names_file_and_line),
        cmocka_unit_test(a_long_file_name_is_not_cut),
        TMPDIR_TEST(a_file_that_is_not_there_is_told),
        cmocka_unit_test(an_unknown_word_names_the_nearest),
        cmocka_unit_test(a_global_is_refused_by_name),
        cmocka_unit_test(the_world_is_out_of_reach),
        cmocka_unit_test(an_own_error_is_told_with_its_line),
        cmocka_unit_test(nothing_differs_from_load_to_load),
        cmocka_unit_test(addresses_are_not_to_be_had),
        cmocka_unit_test(large_tables_come_back_too),
        cmocka_unit_test(sorting_is_stable_and_asks_no_clock),
        cmocka_unit_test(a_loop_that_never_ends_is_killed),
        cmocka_unit_test(a_pattern_that_never_ends_is_killed),
        cmocka_unit_test(memory_without_end_is_refused),
        cmocka_unit_test(a_repetition_bomb_is_refused_at_once),
        cmocka_unit_test(calls_without_end_are_refused),
        cmocka_unit_test(a_result_without_end_is_refused),
        cmocka_unit_test(wall_time_is_bounded_too),
        cmocka_unit_test(a_cancel_of_the_caller_is_no_limit),
        TMPDIR_TEST(how_a_child_died_decides_the_error),
        TMPDIR_TEST(an_answer_that_is_none_is_a_fault_of_the_child),
    };
    return cmocka_run_group_tests_name("host", tests, NULL, NULL);
}
