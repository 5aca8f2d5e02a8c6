// SPDX-License-Identifier: Apache-2.0
/* A request's way to its handler and back, now or later, and the socket. */
#include "base/fs.h"
#include "base/mem.h"
#include "support/api/things.h"
#include "support/expect.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static void a_request_reaches_its_handler_with_its_parameters(void **state)
{
    things_expect(*state, "GET", "/v1/things/db1", "", 200, "\"name\":\"db1\"");
}

static void the_caller_is_who_the_kernel_says(void **state)
{
    CLEANUP(mem_freep) char *want = NULL;
    const struct passwd *me = getpwuid(getuid());

    want =
        me ? mem_printf("\"who\":\"%s\"", me->pw_name) : mem_printf("\"who\":\"uid-%u\"", getuid());
    things_expect(*state, "GET", "/v1/things/db1", "", 200, want);
}

static void an_error_has_code_message_and_hint_apart(void **state)
{
    things_expect(
        *state, "POST", "/v1/things/db1/fail", "", 409,
        "{\"error\":{\"code\":\"state\",\"hint\":\"wait\",\"message\":\"db1 is busy being "
        "born\"}}");
}

static void a_change_is_durable_before_its_answer(void **state)
{
    struct things *fx = *state;

    things_expect(fx, "POST", "/v1/things/db1", "{\"size\":1}", 200, "size");
    assert_int_equal(fx->gate.durable, 1);
    things_expect(fx, "GET", "/v1/things/db1", "", 200, "db1");
    assert_int_equal(fx->gate.commits, 1);
}

static void a_slow_answer_does_not_hold_up_others(void **state)
{
    struct things *fx = *state;
    CLEANUP(fd_close) int fd = things_client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    static const char head[] = "POST /v1/things/db1/slow HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(things_say(fx, fd, head, sizeof(head) - 1));
    while (fx->gate.waiting == 0)
        (void)loop_step(fx->loop, 5);
    things_expect(fx, "GET", "/v1/things/web1", "", 200, "web1");
    fx->gate.open = true;
    things_hear(fx, fd, &answer);
    assert_int_equal(things_status(&answer), 200);
    assert_non_null(strstr(things_body(&answer), "\"asked\":{\"name\":\"db1\"}"));
}

static void a_peer_that_does_not_answer_in_time_is_504(void **state)
{
    things_expect(*state, "GET", "/v1/things/db1/hasty", "", 504, "timeout");
}

static void who_hangs_up_does_not_stop_what_he_asked_for(void **state)
{
    struct things *fx = *state;
    int fd = things_client(fx);
    static const char head[] = "POST /v1/things/db1/slow HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(things_say(fx, fd, head, sizeof(head) - 1));
    while (fx->gate.waiting == 0)
        (void)loop_step(fx->loop, 5);
    fd_close(&fd);
    fx->gate.open = true;
    while (pool_busy(fx->pool))
        (void)loop_step(fx->loop, 5);
    while (loop_step(fx->loop, 0))
        ;
    assert_int_equal(fx->gate.finished, 1);
    things_expect(fx, "GET", "/v1/things/web1", "", 200, "web1");
}

static void stopping_while_a_request_is_in_the_pool_leaves_nothing(void **state)
{
    struct things *fx = *state;
    CLEANUP(fd_close) int fd = things_client(fx);
    static const char head[] = "POST /v1/things/db1/slow HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(things_say(fx, fd, head, sizeof(head) - 1));
    while (fx->gate.waiting == 0)
        (void)loop_step(fx->loop, 5);
    api_stop(fx->api);
    fx->api = NULL;
    while (pool_busy(fx->pool))
        (void)loop_step(fx->loop, 5);
    while (loop_step(fx->loop, 0))
        ;
    assert_int_equal(fx->gate.finished, 0);
    assert_int_equal(access(fx->path, F_OK), -1);
}

static void a_watcher_hears_of_a_change_at_once(void **state)
{
    struct things *fx = *state;
    CLEANUP(fd_close) int fd = things_client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    static const char head[] = "GET /v1/wait?since=0&wait_ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(things_say(fx, fd, head, sizeof(head) - 1));
    while (loop_step(fx->loop, 20))
        ;
    api_changed(fx->api);
    things_hear(fx, fd, &answer);
    assert_non_null(strstr(things_body(&answer), "\"change\":1"));
}

static void a_watcher_is_answered_when_nothing_changes(void **state)
{
    things_expect(*state, "GET", "/v1/wait?since=0&wait_ms=20", "", 200, "\"change\":0");
}

static void stopping_lets_watchers_go(void **state)
{
    struct things *fx = *state;
    CLEANUP(fd_close) int fd = things_client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    static const char head[] = "GET /v1/wait?since=0&wait_ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(things_say(fx, fd, head, sizeof(head) - 1));
    while (loop_step(fx->loop, 20))
        ;
    api_stop(fx->api);
    fx->api = NULL;
    things_hear(fx, fd, &answer);
    assert_int_equal(answer.len, 0);
}

static void several_requests_share_a_connection(void **state)
{
    struct things *fx = *state;
    CLEANUP(fd_close) int fd = things_client(fx);
    static const char head[] = "GET /v1/things/db1 HTTP/1.1\r\nHost: x\r\n\r\n";

    for (int i = 0; i < 3; i++) {
        CLEANUP(str_free) struct str answer = STR_EMPTY;

        assert_true(things_say(fx, fd, head, sizeof(head) - 1));
        things_hear(fx, fd, &answer);
        assert_int_equal(things_status(&answer), 200);
    }
}

static void the_socket_is_for_owner_and_group_only(void **state)
{
    struct things *fx = *state;
    struct stat st;

    assert_return_code(stat(fx->path, &st), errno);
    assert_int_equal(st.st_mode & 0777, 0660);
}

static void a_second_daemon_on_the_socket_is_refused(void **state)
{
    struct things *fx = *state;
    struct api_world world = things_world(fx);
    struct api *second = NULL;

    EXPECT_ERR(ERR_BUSY, api_server_start(&world, things_tables, fx->path, &second, &err));
    EXPECT_TEXT("muster serve");
    things_expect(fx, "GET", "/v1/things/db1", "", 200, "db1");
}

static void a_socket_left_by_a_killed_daemon_is_taken_over(void **state)
{
    struct things *fx = *state;
    struct api_world world = things_world(fx);
    CLEANUP(mem_freep) char *stale = path_join(fx->dir, "stale");
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct api *second = NULL;

    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", stale);
    assert_return_code(bind(fd, (struct sockaddr *)&at, sizeof(at)), errno);
    (void)close(fd);
    EXPECT_OK(api_server_start(&world, things_tables, stale, &second, &err));
    api_stop(second);
}

static void a_file_in_the_socket_s_place_is_not_touched(void **state)
{
    struct things *fx = *state;
    struct api_world world = things_world(fx);
    CLEANUP(mem_freep) char *file = path_join(fx->dir, "file");
    struct api *second = NULL;

    EXPECT_OK(fs_replace_file(fs_real(), file, "mine", 4, 0600, &err));
    EXPECT_ERR(ERR_EXISTS, api_server_start(&world, things_tables, file, &second, &err));
    assert_true(fs_exists(file));
}

static void a_path_too_long_for_a_socket_says_both_lengths(void **state)
{
    struct things *fx = *state;
    struct api_world world = things_world(fx);
    CLEANUP(mem_freep) char *file = mem_printf("%s/%0120d", fx->dir, 0);
    struct api *second = NULL;

    EXPECT_ERR(ERR_LIMIT, api_server_start(&world, things_tables, file, &second, &err));
    EXPECT_TEXT("takes 107");
}

static void the_description_names_each_endpoint_and_field(void **state)
{
    CLEANUP(mem_freep) char *text = api_tables_markdown(things_tables);
    CLEANUP(json_freep) json_t *json = api_tables_json(things_tables);

    (void)state;
    assert_non_null(strstr(text, "### POST /v1/things/{name}\n\nMakes a thing.\n"));
    assert_non_null(strstr(text, "| `size` | number | required | how big it is |"));
    assert_int_equal(json_array_size(json_object_get(json, "endpoints")), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        THINGS_TEST(a_request_reaches_its_handler_with_its_parameters),
        THINGS_TEST(the_caller_is_who_the_kernel_says),
        THINGS_TEST(an_error_has_code_message_and_hint_apart),
        THINGS_TEST(a_change_is_durable_before_its_answer),
        THINGS_TEST(a_slow_answer_does_not_hold_up_others),
        THINGS_TEST(a_peer_that_does_not_answer_in_time_is_504),
        THINGS_TEST(who_hangs_up_does_not_stop_what_he_asked_for),
        THINGS_TEST(stopping_while_a_request_is_in_the_pool_leaves_nothing),
        THINGS_TEST(a_watcher_hears_of_a_change_at_once),
        THINGS_TEST(a_watcher_is_answered_when_nothing_changes),
        THINGS_TEST(stopping_lets_watchers_go),
        THINGS_TEST(several_requests_share_a_connection),
        THINGS_TEST(the_socket_is_for_owner_and_group_only),
        THINGS_TEST(a_second_daemon_on_the_socket_is_refused),
        THINGS_TEST(a_socket_left_by_a_killed_daemon_is_taken_over),
        THINGS_TEST(a_file_in_the_socket_s_place_is_not_touched),
        THINGS_TEST(a_path_too_long_for_a_socket_says_both_lengths),
        cmocka_unit_test(the_description_names_each_endpoint_and_field),
    };
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
