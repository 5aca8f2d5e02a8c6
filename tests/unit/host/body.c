// SPDX-License-Identifier: Apache-2.0
/* The function of a step: what it asks, what it is told, and for each mistake one clear error with its
 * line. Each test is a plan of one step whose function is given here; it begins on line 2. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/host/host_child.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define OK "{\"result\": {\"answer\": true}}"

/* A conversation: the answers in order; the last one again when there are no more. */
struct talk {
    const char *before; /* lines before the plan; "" */
    const char *body;   /* of function(act) */
    const char *const *answers;
    char asked[1024]; /* all requests, one per line */
};

static struct host small_host(void)
{
    struct host host = host_for_test();

    host.limits.cpu_ms = 300;
    host.limits.memory_bytes = 8U << 20;
    return host;
}

static struct host_body *begin(const struct host *host, const struct talk *talk, const char *step)
{
    CLEANUP(json_freep)
    json_t *words = json_pack("{s:s, s:n, s:n}", "failover", "machine", "wait_until", "check");
    CLEANUP(mem_freep)
    char *text =
        mem_printf("%sreturn plan \"p\" { stage \"S\" { step \"T\" {\nfunction(act)%s\nend } } }",
                   talk->before ? talk->before : "", talk->body);
    struct host_body *body = NULL;

    EXPECT_OK(host_body_start(host, "shop", text, strlen(text), words, step, &body, &err));
    return body;
}

/* The value it returns, as JSON text (free it), or NULL with the error in `err`. */
static char *converse(const struct host *host, struct talk *talk)
{
    struct host_body *body = begin(host, talk, "s1");
    CLEANUP(json_freep) json_t *answer = NULL;
    const char *const *next = talk->answers;
    char *value = NULL;

    for (;;) {
        CLEANUP(json_freep) json_t *request = NULL;
        if (host_body_ask(body, answer, &request, NULL, &err) < 0)
            break;
        if (json_object_get(request, "value")) {
            value = json_dumps(json_object_get(request, "value"), JSON_COMPACT | JSON_ENCODE_ANY);
            break;
        }
        CLEANUP(mem_freep) char *text = json_text(request);
        strncat(talk->asked, text, sizeof(talk->asked) - strlen(talk->asked) - 2);
        strcat(talk->asked, "\n");
        json_decref(answer);
        const char *line = next && *next ? *next : OK;
        EXPECT_OK(json_parse(line, strlen(line), &answer, &err));
        next += next && *next;
    }
    host_body_free(body);
    return value;
}

static void gives(const char *body, const char *want, const char *asked)
{
    struct host host = small_host();
    struct talk talk = {.body = body};
    CLEANUP(mem_freep) char *value = converse(&host, &talk);

    if (!value)
        fail_msg("%s", err.text);
    assert_string_equal(value, want);
    if (asked)
        assert_string_equal(talk.asked, asked);
}

static void fails_with(struct talk *talk, enum err_code code, const char *message)
{
    struct host host = small_host();
    CLEANUP(mem_freep) char *value = converse(&host, talk);

    if (value)
        fail_msg("%s gives %s", talk->body, value);
    if (err.code != code || !strstr(err.text, message))
        fail_msg("%s\n gives %s: %s\n not %s", talk->body, err_code_name(err.code), err.text,
                 message);
}

static void fails(const char *body, enum err_code code, const char *message)
{
    struct talk talk = {.body = body};

    fails_with(&talk, code, message);
}

/* --- What it asks ---------------------------------------------------------------------------- */

static void an_act_is_asked_with_its_verb_arguments_and_line(void **state)
{
    (void)state;
    gives(" act(check { tcp = 'db1:80' })\n act(wait_until { agent = \"web1\" })", "null",
          "{\"act\":{\"args\":{\"tcp\":\"db1:80\"},\"verb\":\"check\"},\"line\":2}\n"
          "{\"act\":{\"args\":{\"agent\":\"web1\"},\"verb\":\"wait_until\"},\"line\":3}\n");
}

static void what_the_verb_gave_is_what_act_returns(void **state)
{
    (void)state;
    gives(" local up = act(check { tcp = 'db1:80' })\n return { up = up.answer }", "{\"up\":true}",
          NULL);
    gives(" local list = {}\n for i = 1, 3 do list[i] = act(check { tcp = 'db1:80' }).answer end\n"
          " return list",
          "[true,true,true]", NULL);
}

static void the_value_may_be_any_data(void **state)
{
    (void)state;
    gives(" return 5", "5", "");
    gives(" return 'warm'", "\"warm\"", "");
    gives(" return {}", "[]", "");
    gives(" return false", "false", "");
    gives(" act(check { tcp = 'db1:80' })", "null", NULL);
}

static void an_error_of_a_verb_is_raised_with_code_message_and_verb(void **state)
{
    static const char *const answers[] = {
        "{\"error\": {\"code\": \"timeout\", \"message\": \"db1 sleeps\", \"verb\": \"check\"}}",
        NULL};
    struct host host = small_host();
    struct talk talk = {.answers = answers,
                        .body = " local ok, e = pcall(act, check { tcp = 'db1:80' })\n"
                                " return { ok, e.code, e.message, e.verb, tostring(e),"
                                " ('%s!'):format(e), type(e) }"};
    CLEANUP(mem_freep) char *value = converse(&host, &talk);

    (void)state;
    assert_string_equal(value, "[false,\"timeout\",\"db1 sleeps\",\"check\",\"db1 sleeps\","
                               "\"db1 sleeps!\",\"table\"]");
}

static void after_an_error_that_was_caught_it_goes_on(void **state)
{
    static const char *const answers[] = {
        "{\"error\": {\"code\": \"state\", \"message\": \"no\", \"verb\": \"check\"}}", OK, NULL};
    struct host host = small_host();
    struct talk talk = {.answers = answers,
                        .body = " if not pcall(act, check { tcp = 'a:1' }) then\n"
                                " return act(wait_until { tcp = 'a:1' }).answer end"};
    CLEANUP(mem_freep) char *value = converse(&host, &talk);

    (void)state;
    assert_string_equal(value, "true");
}

static void an_error_that_is_let_pass_ends_it_with_the_verbs_code_and_the_acts_line(void **state)
{
    static const char *const answers[] = {
        OK,
        "{\"error\": {\"code\": \"timeout\", \"message\": \"db1 sleeps\", \"verb\": \"check\"}}",
        NULL};
    struct talk plain = {.answers = answers,
                         .body = "\n act(check { tcp = 'a:1' })\n act(check { tcp = 'b:1' })"};
    struct talk tail = {.answers = answers + 1, .body = "\n return act(check { tcp = 'b:1' })"};
    struct talk again = {.answers = answers + 1,
                         .body = "\n local _, e = pcall(act, check { tcp = 'b:1' })\n error(e)"};

    (void)state;
    fails_with(&plain, ERR_TIMEOUT, "shop:4: db1 sleeps");
    fails_with(&tail, ERR_TIMEOUT, "shop:3: db1 sleeps");
    fails_with(&again, ERR_TIMEOUT, "shop:3: db1 sleeps");
}

static void an_earlier_steps_result_is_asked_for_by_title(void **state)
{
    static const char *const answers[] = {"{\"result\": {\"warmed\": 3}}", "{}", NULL};
    struct host host = small_host();
    struct talk talk = {.answers = answers,
                        .body = " return { result(\"Warm\").warmed, result \"Other\" == nil }"};
    CLEANUP(mem_freep) char *value = converse(&host, &talk);

    (void)state;
    assert_string_equal(value, "[3,true]");
    assert_string_equal(talk.asked, "{\"line\":2,\"result_of\":\"Warm\"}\n"
                                    "{\"line\":2,\"result_of\":\"Other\"}\n");
}

static void helpers_of_the_plan_work_in_functions(void **state)
{
    struct host host = small_host();
    struct talk talk = {.before = "local list = { 'db1', 'web1' }\n"
                                  "local function up(m) return wait_until { agent = m } end\n",
                        .body = " for _, m in ipairs(list) do act(up(m)) end"};
    CLEANUP(mem_freep) char *value = converse(&host, &talk);

    (void)state;
    assert_string_equal(value, "null");
    assert_string_equal(
        talk.asked,
        "{\"act\":{\"args\":{\"agent\":\"db1\"},\"verb\":\"wait_until\"},\"line\":4}\n"
        "{\"act\":{\"args\":{\"agent\":\"web1\"},\"verb\":\"wait_until\"},\"line\":4}\n");
}

static void the_function_of_each_step_is_found_by_its_place(void **state)
{
    static const char text[] =
        "return plan 'p' { stage 'A' { step 'x' { check { agent = 'a' } },\n"
        "  parallel { step 'y' { function() return 2 end }, step 'z' { function() return 3 end } } },\n"
        "  stage 'B' { step 'w' { function() return 4 end } } }";
    static const char *const want[] = {NULL, NULL, "2", "3", "4"};
    CLEANUP(json_freep) json_t *words = json_pack("{s:n}", "check");
    struct host host = small_host();

    (void)state;
    for (int i = 2; i <= 4; i++) {
        char step[8];
        CLEANUP(json_freep) json_t *request = NULL;
        struct host_body *body;
        (void)snprintf(step, sizeof(step), "s%d", i);
        EXPECT_OK(host_body_start(&host, "p", text, strlen(text), words, step, &body, &err));
        EXPECT_OK(host_body_ask(body, NULL, &request, NULL, &err));
        CLEANUP(mem_freep)
        char *value = json_dumps(json_object_get(request, "value"), JSON_ENCODE_ANY);
        assert_string_equal(value, want[i]);
        host_body_free(body);
    }
    struct host_body *body;
    json_t *request;
    EXPECT_OK(host_body_start(&host, "p", text, strlen(text), words, "s1", &body, &err));
    EXPECT_ERR(ERR_INVALID, host_body_ask(body, NULL, &request, NULL, &err));
    EXPECT_TEXT("step s1 of the plan has no function");
    host_body_free(body);
}

/* --- Mistakes -------------------------------------------------------------------------------- */

static void one_that_does_nothing_is_a_mistake(void **state)
{
    (void)state;
    fails("", ERR_INVALID, "shop:2: the function does nothing");
    fails(" local x = 1 + 1", ERR_INVALID, "hint: act(check { ... }), or return");
}

static void what_is_made_and_not_done_is_a_mistake(void **state)
{
    (void)state;
    fails("\n act(check { tcp = 'a:1' })\n check { tcp = 'b:1' }", ERR_INVALID,
          "shop:4: check is made here and not done; hint: act(check ...)");
}

static void act_takes_a_verb_and_nothing_else(void **state)
{
    (void)state;
    fails("\n act()", ERR_INVALID, "shop:3: act is given a nil; hint: act(check { ... })");
    fails("\n act('check')", ERR_INVALID, "shop:3: act is given the text \"check\"");
    fails("\n act(check)", ERR_INVALID, "shop:3: act is given a function");
    fails("\n act({ verb = 'check', args = {} })", ERR_INVALID, "shop:3: act is given a table");
    fails("\n act(check { tcp = 'a:1' }, 2)", ERR_INVALID, "act is given more than one value");
    fails("\n act(act)", ERR_INVALID, "shop:3: act is given a function");
}

static void a_mistake_cannot_be_caught(void **state)
{
    (void)state;
    fails("\n pcall(act, 5)\n return 1", ERR_INVALID, "act is given a number");
    fails("\n pcall(function()\n step 'x' {} end)\n return 1", ERR_INVALID,
          "shop:4: a step cannot be made inside");
    fails("\n pcall(parallel, {})\n return 1", ERR_INVALID, "a parallel cannot be made inside");
    fails("\n pcall(check, { tcp = print })\n return 1", ERR_DENIED, "'print' prints nothing");
    fails("\n pcall(check, { tcp = error })\n return 1", ERR_INVALID,
          "check: 'tcp': a function cannot stand here");
}

static void a_global_cannot_be_written(void **state)
{
    (void)state;
    fails("\n count = 1\n return 1", ERR_INVALID, "shop:3: global 'count' is not declared");
    fails("\n result = 1\n return 1", ERR_INVALID, "shop:3: 'result' is a word of the language");
}

static void writes_to(const char *before, const char *body, const char *name)
{
    struct talk talk = {.before = before, .body = body};
    CLEANUP(mem_freep)
    char *text = mem_printf("the function writes to '%s', which it shares", name);

    fails_with(&talk, ERR_INVALID, text);
}

static void a_write_to_a_shared_variable_names_it(void **state)
{
    (void)state;
    writes_to("local count = 0\n", " count = count + 1\n return count", "count");
    writes_to("local seen = {}\n", " seen.db1 = true\n return 1", "seen");
    writes_to("local seen = { a = {} }\n", " table.insert(seen.a, 1)\n return 1", "seen");
    writes_to("local seen = { 1 }\n", " seen[1] = nil\n return 1", "seen");
    writes_to("local n = 0\nlocal function up() n = n + 1 end\n", " up()\n return 1", "n");
    writes_to("local n = 0\nlocal tools = { up = function() n = n + 1 end }\n",
              " tools.up()\n return 1", "n");
}

static void a_write_to_a_shared_variable_is_found_before_the_next_act(void **state)
{
    struct talk talk = {.before = "local n = 0\n", .body = " n = 1\n act(check { tcp = 'a:1' })"};

    (void)state;
    fails_with(&talk, ERR_INVALID, "shop:4: the function writes to 'n'");
    assert_string_equal(talk.asked, "");
}

static void what_is_only_read_may_be_shared(void **state)
{
    struct host host = small_host();
    struct talk talk = {.before = "local nan = 0/0\nlocal ring = {}; ring.ring = ring\n"
                                  "local function twice(n) return n * 2 end\n",
                        .body = " local own = { nan }\n own[2] = twice(4)\n"
                                " act(check { tcp = 'a:1' })\n return own[2], ring"};
    CLEANUP(mem_freep) char *value = converse(&host, &talk);

    (void)state;
    assert_string_equal(value, "8");
}

static void errors_of_the_author_are_his_word_and_may_be_tried_again(void **state)
{
    (void)state;
    fails("\n error('only 2 of 3 answer')", ERR_STATE, "shop:3: only 2 of 3 answer");
    fails("\n assert(false, 'not warm')", ERR_STATE, "shop:3: not warm");
    fails("\n assert(nil)", ERR_STATE, "shop:3: assertion failed!");
    fails("\n error('x', 0)", ERR_STATE, "shop:3: x");
}

static void mistakes_in_lua_are_told_with_their_line(void **state)
{
    (void)state;
    fails("\n local t\n return t.x", ERR_INVALID, "shop:4: attempt to index a nil value");
    fails("\n error({ 1 })", ERR_INVALID, "shop:3: an error was raised with a table");
    fails("\n local function f() return 1 + f() end\n f()", ERR_LIMIT,
          "a function that calls itself, for ever");
    fails("\n for w in pairs({ [{}] = 1 }) do end", ERR_INVALID, "a key is a table");
    fails("\n return os.time()", ERR_DENIED, "shop:3: 'os' is not here");
    fails("\n return math.random()", ERR_INVALID, "shop:3: attempt to call a nil value");
}

static void a_value_that_cannot_be_kept_is_told(void **state)
{
    (void)state;
    fails("\n return act", ERR_INVALID,
          "shop:2: what the function returns cannot be kept: the value is a function");
    fails("\n return { warm = { by = pairs } }", ERR_INVALID, "warm.by is a function");
    fails("\n local t = {}; t.me = t\n return t", ERR_INVALID, "a table in itself");
    fails("\n return 0/0", ERR_INVALID, "is not a finite number");
    fails("\n return ('x'):rep(1000000) .. ('y'):rep(100000)", ERR_LIMIT, "larger than 1.0 MiB");
}

/* --- Bounds, and being killed ----------------------------------------------------------------- */

static void one_that_never_ends_is_ended(void **state)
{
    (void)state;
    fails(" while true do end", ERR_LIMIT, "shop: ran for more than 300 ms of processor time");
    fails(" act(check { tcp = 'a:1' })\n while true do pcall(error) end", ERR_LIMIT,
          "of processor time");
}

static void one_that_allocates_without_end_is_ended(void **state)
{
    (void)state;
    fails(" local t = {}\n while true do t[#t + 1] = ('x'):rep(1000) .. #t end", ERR_LIMIT,
          "needs more than 8.0 MiB of memory");
}

/* The processes that are our children. */
static pid_t only_child(void)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)gettid());
    EXPECT_OK(fs_read_file(fs_real(), path, 4096, &text, &err));
    return (pid_t)strtol(str_text(&text), NULL, 10);
}

static void one_that_is_killed_from_outside_is_told_from_its_own_faults(void **state)
{
    struct host host = small_host();
    struct talk talk = {.body = " act(check { tcp = 'a:1' })"};
    struct host_body *body = begin(&host, &talk, "s1");
    json_t *request = NULL;

    (void)state;
    EXPECT_OK(host_body_ask(body, NULL, &request, NULL, &err));
    pid_t pid = only_child();
    assert_true(pid > 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
    CLEANUP(json_freep) json_t *answer = json_pack("{s:{}}", "result");
    json_decref(request);
    EXPECT_ERR(ERR_IO, host_body_ask(body, answer, &request, NULL, &err));
    EXPECT_TEXT("shop: the child that ran the function was killed");
    host_body_free(body);
    assert_int_equal(only_child(), 0);
}

static void one_that_waits_for_an_answer_uses_up_no_time(void **state)
{
    struct host host = small_host();
    struct talk talk = {.body = " act(check { tcp = 'a:1' })"};

    (void)state;
    host.limits.wall_ms = 400;
    struct host_body *body = begin(&host, &talk, "s1");
    json_t *request = NULL;
    EXPECT_OK(host_body_ask(body, NULL, &request, NULL, &err));
    json_decref(request);
    CLEANUP(cancel_freep) struct cancel *never = cancel_new(clock_real(), NULL, CANCEL_NEVER);
    EXPECT_OK(cancel_sleep(never, 600, &err)); /* the action takes longer than the wall clock's */
    CLEANUP(json_freep) json_t *answer = json_pack("{s:{}}", "result");
    EXPECT_OK(host_body_ask(body, answer, &request, NULL, &err));
    assert_true(json_is_null(json_object_get(request, "value")));
    json_decref(request);
    host_body_free(body);
}

static void a_cancel_ends_the_wait_for_it(void **state)
{
    struct host host = host_for_test();
    struct talk talk = {.body = " while true do end"};
    struct host_body *body = begin(&host, &talk, "s1");
    CLEANUP(cancel_freep) struct cancel *soon = cancel_new(clock_real(), NULL, 100);
    json_t *request;

    (void)state;
    EXPECT_ERR(ERR_TIMEOUT, host_body_ask(body, NULL, &request, soon, &err));
    host_body_free(body);
    assert_int_equal(only_child(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_act_is_asked_with_its_verb_arguments_and_line),
        cmocka_unit_test(what_the_verb_gave_is_what_act_returns),
        cmocka_unit_test(the_value_may_be_any_data),
        cmocka_unit_test(an_error_of_a_verb_is_raised_with_code_message_and_verb),
        cmocka_unit_test(after_an_error_that_was_caught_it_goes_on),
        cmocka_unit_test(an_error_that_is_let_pass_ends_it_with_the_verbs_code_and_the_acts_line),
        cmocka_unit_test(an_earlier_steps_result_is_asked_for_by_title),
        cmocka_unit_test(helpers_of_the_plan_work_in_functions),
        cmocka_unit_test(the_function_of_each_step_is_found_by_its_place),
        cmocka_unit_test(one_that_does_nothing_is_a_mistake),
        cmocka_unit_test(what_is_made_and_not_done_is_a_mistake),
        cmocka_unit_test(act_takes_a_verb_and_nothing_else),
        cmocka_unit_test(a_mistake_cannot_be_caught),
        cmocka_unit_test(a_global_cannot_be_written),
        cmocka_unit_test(a_write_to_a_shared_variable_names_it),
        cmocka_unit_test(a_write_to_a_shared_variable_is_found_before_the_next_act),
        cmocka_unit_test(what_is_only_read_may_be_shared),
        cmocka_unit_test(errors_of_the_author_are_his_word_and_may_be_tried_again),
        cmocka_unit_test(mistakes_in_lua_are_told_with_their_line),
        cmocka_unit_test(a_value_that_cannot_be_kept_is_told),
        cmocka_unit_test(one_that_never_ends_is_ended),
        cmocka_unit_test(one_that_allocates_without_end_is_ended),
        cmocka_unit_test(one_that_is_killed_from_outside_is_told_from_its_own_faults),
        cmocka_unit_test(one_that_waits_for_an_answer_uses_up_no_time),
        cmocka_unit_test(a_cancel_ends_the_wait_for_it),
    };
    return cmocka_run_group_tests_name("body", tests, NULL, NULL);
}
