// SPDX-License-Identifier: Apache-2.0
/* The API's machinery over tables of this test's own: bytes go in on a real unix socket, the loop
 * is turned by the test. */
#include "api/api_server.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/str.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* --- The routes of this test --------------------------------------------------------------- */

struct gate {
    _Atomic bool open;
    _Atomic int waiting;
    int finished;
    int commits;
    int written; /* by a handler, made durable by a commit */
    int durable;
};

static struct gate *gate_of(const struct api_world *world)
{
    return world->ctx;
}

static int get_thing(struct api_request *req, json_t **ret_reply, struct err *failure)
{
    (void)failure;
    *ret_reply = json_pack("{s:s, s:s, s:O}", "name", api_param(req, "name"), "who", api_who(req),
                           "in", api_in(req));
    return 0;
}

static int put_thing(struct api_request *req, json_t **ret_reply, struct err *failure)
{
    (void)failure;
    gate_of(api_world_of(req))->written++;
    *ret_reply = json_pack("{s:O}", "in", api_in(req));
    return 0;
}

static int fail_thing(struct api_request *req, json_t **ret_reply, struct err *failure)
{
    (void)ret_reply;
    return err_set(failure, ERR_STATE, 0, "%s is busy being born; hint: wait",
                   api_param(req, "name"));
}

static int wait_for_gate(const struct api_world *world, const json_t *in, json_t **ret_out,
                         struct cancel *cancel, struct err *failure)
{
    struct gate *gate = gate_of(world);

    gate->waiting++;
    while (!gate->open)
        if (cancel_sleep(cancel, 1, failure) < 0)
            return -1;
    *ret_out = json_pack("{s:O}", "asked", in);
    return 0;
}

static int finish_slow(struct api_request *req, const json_t *in, json_t *out, json_t **ret_reply,
                       struct err *failure)
{
    (void)in;
    (void)failure;
    gate_of(api_world_of(req))->finished++;
    *ret_reply = json_incref(out);
    return 0;
}

static int slow_thing(struct api_request *req, json_t **ret_reply, struct err *failure)
{
    (void)ret_reply;
    (void)failure;
    return api_defer(req, json_pack("{s:s}", "name", api_param(req, "name")), 60000, wait_for_gate,
                     finish_slow);
}

static int hasty_thing(struct api_request *req, json_t **ret_reply, struct err *failure)
{
    (void)ret_reply;
    (void)failure;
    return api_defer(req, json_object(), 30, wait_for_gate, NULL);
}

static int wait_thing(struct api_request *req, json_t **ret_reply, struct err *failure)
{
    (void)ret_reply;
    (void)failure;
    return api_hold_for_change(req, json_get_u64(api_in(req), "since", 0),
                               (int64_t)json_get_u64(api_in(req), "wait_ms", 60000));
}

static const struct api_field thing_fields[] = {
    {"size", API_NUMBER, true, "how big it is"},
    {"colour", API_TEXT, false, "what it looks like"},
    {"peer", API_NAME, false, "where it goes"},
    {"force", API_BOOL, false, "whatever happens"},
    {"parts", API_OBJECT, false, "what it is made of"},
    {0},
};
static const struct api_field wait_fields[] = {
    {"since", API_NUMBER, false, "the last change you know"},
    {"wait_ms", API_NUMBER, false, "how long to wait"},
    {0},
};
static const struct api_route thing_routes[] = {
    {"GET", "/v1/things/{name}", get_thing, "Shows a thing.", "`{name}`", NULL},
    {"POST", "/v1/things/{name}", put_thing, "Makes a thing.", "`{in}`", thing_fields},
    {"POST", "/v1/things/{name}/slow", slow_thing, "Takes its time.", "`{}`", NULL},
    {"GET", "/v1/things/{name}/hasty", hasty_thing, "Gives up soon.", "`{}`", NULL},
    {"POST", "/v1/things/{name}/fail", fail_thing, "Fails.", "`{}`", NULL},
    {"GET", "/v1/wait", wait_thing, "Waits.", "`{change}`", wait_fields},
    {"GET", "/v1/numbers/{id}", get_thing, "Shows a number.", "`{}`", NULL},
    {0},
};
static const struct api_table tables[] = {
    {"Things", "What there is.", thing_routes},
    {0},
};

/* --- The fixture --------------------------------------------------------------------------- */

struct fixture {
    char *dir;
    char *path;
    struct loop *loop;
    struct pool *pool;
    struct api *api;
    struct gate gate;
};

static void commit(void *ctx)
{
    struct gate *gate = ctx;

    gate->commits++;
    gate->durable = gate->written;
}

static struct api_world world_of(struct fixture *fx)
{
    return (struct api_world){
        .loop = fx->loop,
        .pool = fx->pool,
        .clock = clock_real(),
        .ctx = &fx->gate,
        .commit = commit,
    };
}

static int setup(void **state)
{
    struct fixture *fx = mem_new(struct fixture);
    void *dir;

    log_set_level(LOG_LEVEL_ERROR);
    if (tmpdir_setup(&dir) < 0)
        return -1;
    fx->dir = dir;
    fx->path = path_join(dir, "s");
    fx->loop = loop_new(clock_real());
    fx->pool = pool_new(fx->loop, 4);
    struct api_world world = world_of(fx);
    EXPECT_OK(api_server_start(&world, tables, fx->path, &fx->api, &err));
    *state = fx;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;
    void *dir = fx->dir;

    api_stop(fx->api);
    fx->gate.open = true;
    while (pool_busy(fx->pool))
        (void)loop_step(fx->loop, 10);
    pool_free(fx->pool);
    while (loop_step(fx->loop, 0))
        ;
    loop_free(fx->loop);
    free(fx->path);
    free(fx);
    return tmpdir_teardown(&dir);
}

static int client(struct fixture *fx)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", fx->path);
    assert_return_code(connect(fd, (struct sockaddr *)&to, sizeof(to)), errno);
    assert_return_code(fcntl(fd, F_SETFL, O_NONBLOCK), errno);
    return fd;
}

/* Sends all of it, turning the loop; false when the server hung up meanwhile. */
static bool say(struct fixture *fx, int fd, const char *bytes, size_t len)
{
    while (len) {
        ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

        if (n < 0 && errno != EAGAIN)
            return false;
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
        (void)loop_step(fx->loop, 1);
    }
    return true;
}

static size_t wanted_len(const char *answer)
{
    const char *body = strstr(answer, "\r\n\r\n");
    const char *length = strcasestr(answer, "content-length:");

    if (!body || !length)
        return SIZE_MAX;
    return (size_t)(body + 4 - answer) + strtoul(length + 15, NULL, 10);
}

/* Reads one answer, or until the server hangs up, turning the loop. */
static void hear(struct fixture *fx, int fd, struct str *ret_answer)
{
    char buf[4096];

    for (int quiet = 0; quiet < 2000; quiet++) {
        ssize_t n = recv(fd, buf, sizeof(buf), 0);

        if (n == 0 || (n < 0 && errno != EAGAIN))
            return;
        if (n > 0) {
            quiet = 0;
            str_add_bytes(ret_answer, buf, (size_t)n);
            if (ret_answer->len >= wanted_len(ret_answer->ptr))
                return;
            continue;
        }
        (void)loop_step(fx->loop, 5);
    }
    fail_msg("no answer; so far: %s", str_text(ret_answer));
}

static unsigned status_of(const struct str *answer)
{
    return answer->len > 12 ? (unsigned)strtoul(answer->ptr + 9, NULL, 10) : 0;
}

static const char *body_of(const struct str *answer)
{
    const char *body = strstr(str_text(answer), "\r\n\r\n");

    return body ? body + 4 : "";
}

static void ask(struct fixture *fx, const char *method, const char *path, const char *body,
                struct str *ret_answer)
{
    CLEANUP(fd_close) int fd = client(fx);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    str_addf(&text, "%s %s HTTP/1.1\r\nHost: muster\r\nContent-Length: %zu\r\n\r\n%s", method, path,
             strlen(body), body);
    assert_true(say(fx, fd, text.ptr, text.len));
    hear(fx, fd, ret_answer);
}

static void expect_answer(struct fixture *fx, const char *method, const char *path,
                          const char *body, unsigned status, const char *part)
{
    CLEANUP(str_free) struct str answer = STR_EMPTY;

    ask(fx, method, path, body, &answer);
    if (status_of(&answer) != status || !strstr(body_of(&answer), part))
        fail_msg("%s %s: wanted %u with %s, got:\n%s", method, path, status, part,
                 str_text(&answer));
}

/* --- Tests --------------------------------------------------------------------------------- */

static void a_request_reaches_its_handler_with_its_parameters(void **state)
{
    expect_answer(*state, "GET", "/v1/things/db1", "", 200, "\"name\":\"db1\"");
}

static void the_caller_is_who_the_kernel_says(void **state)
{
    CLEANUP(mem_freep) char *want = NULL;
    const struct passwd *me = getpwuid(getuid());

    want =
        me ? mem_printf("\"who\":\"%s\"", me->pw_name) : mem_printf("\"who\":\"uid-%u\"", getuid());
    expect_answer(*state, "GET", "/v1/things/db1", "", 200, want);
}

static void an_unknown_path_is_404_and_says_where_to_look(void **state)
{
    expect_answer(*state, "GET", "/v1/nothing", "", 404, "GET /v1 describes");
    expect_answer(*state, "GET", "/", "", 404, "not-found");
    expect_answer(*state, "GET", "/v1/things/db1/", "", 404, "not-found");
    expect_answer(*state, "GET", "/v1/things/", "", 404, "not-found");
}

static void a_name_with_dots_and_slashes_does_not_match(void **state)
{
    expect_answer(*state, "GET", "/v1/things/../../etc", "", 404, "not-found");
    expect_answer(*state, "GET", "/v1/things/%2e%2e", "", 404, "not-found");
    expect_answer(*state, "GET", "/v1/things/a%2fb", "", 404, "not-found");
    expect_answer(*state, "GET", "/v1/numbers/0", "", 404, "not-found");
    expect_answer(*state, "GET", "/v1/numbers/99999999999999999999", "", 404, "not-found");
    expect_answer(*state, "GET", "/v1/numbers/12x", "", 404, "not-found");
}

static void bytes_that_are_no_text_are_refused_in_words(void **state)
{
    expect_answer(*state, "GET", "/v1/%ff%fe", "", 404, "there is nothing at /v1/??");
    expect_answer(*state, "GET", "/v1/wait?%ff=1", "", 400, "invalid");
    expect_answer(*state, "GET", "/v1/wait?since=%ff", "", 400, "invalid");
}

static void a_wrong_method_is_405_and_names_the_right_ones(void **state)
{
    expect_answer(*state, "DELETE", "/v1/things/db1", "", 405, "possible: GET, POST");
    expect_answer(*state, "BREW", "/v1/things/db1", "", 405, "possible: GET, POST");
}

static void a_body_that_is_no_json_is_400(void **state)
{
    expect_answer(*state, "POST", "/v1/things/db1", "{\"size\":", 400, "invalid");
    expect_answer(*state, "POST", "/v1/things/db1", "[1]", 400, "must be a JSON object");
    expect_answer(*state, "POST", "/v1/things/db1", "\xff\xfe", 400, "invalid");
}

static void a_field_of_the_wrong_type_is_named(void **state)
{
    expect_answer(*state, "POST", "/v1/things/db1", "{\"size\":\"9\"}", 400,
                  "field \\\"size\\\" must be a number");
    expect_answer(*state, "POST", "/v1/things/db1", "{\"size\":-9}", 400,
                  "field \\\"size\\\" must be a number");
    expect_answer(*state, "POST", "/v1/things/db1", "{\"size\":1,\"peer\":\"../x\"}", 400,
                  "field \\\"peer\\\" must be a name");
    expect_answer(*state, "POST", "/v1/things/db1", "{\"size\":1,\"parts\":[]}", 400,
                  "field \\\"parts\\\" must be a object");
}

static void a_misspelt_field_is_answered_with_the_nearest(void **state)
{
    expect_answer(*state, "POST", "/v1/things/db1", "{\"size\":1,\"color\":\"red\"}", 400,
                  "\"hint\":\"did you mean \\\"colour\\\"?\"");
}

static void a_missing_field_is_named(void **state)
{
    expect_answer(*state, "POST", "/v1/things/db1", "{}", 400, "field \\\"size\\\" is missing");
    expect_answer(*state, "POST", "/v1/things/db1", "", 400, "field \\\"size\\\" is missing");
}

static void an_error_has_code_message_and_hint_apart(void **state)
{
    expect_answer(
        *state, "POST", "/v1/things/db1/fail", "", 409,
        "{\"error\":{\"code\":\"state\",\"hint\":\"wait\",\"message\":\"db1 is busy being "
        "born\"}}");
}

static void a_change_is_durable_before_its_answer(void **state)
{
    struct fixture *fx = *state;

    expect_answer(fx, "POST", "/v1/things/db1", "{\"size\":1}", 200, "size");
    assert_int_equal(fx->gate.durable, 1);
    expect_answer(fx, "GET", "/v1/things/db1", "", 200, "db1");
    assert_int_equal(fx->gate.commits, 1);
}

static void the_query_is_typed_like_a_body(void **state)
{
    expect_answer(*state, "GET", "/v1/wait?since=none", "", 400, "must be a number");
    expect_answer(*state, "GET", "/v1/wait?sinse=1", "", 400, "did you mean");
    expect_answer(*state, "GET", "/v1/wait?wait_ms=0", "", 200, "\"change\":0");
}

static void garbage_is_refused_and_others_are_served(void **state)
{
    static const char garbage[] = "\x16\x03\x01\x02\x00 this is no HTTP \r\n\r\n\r\n";
    struct fixture *fx = *state;
    CLEANUP(fd_close) int fd = client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;

    assert_true(say(fx, fd, garbage, sizeof(garbage) - 1));
    hear(fx, fd, &answer);
    assert_int_not_equal(status_of(&answer), 200);
    expect_answer(fx, "GET", "/v1/things/db1", "", 200, "db1");
}

static void endless_headers_are_cut_off(void **state)
{
    struct fixture *fx = *state;
    CLEANUP(fd_close) int fd = client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    CLEANUP(str_free) struct str text = STR_EMPTY;

    str_add(&text, "GET /v1/things/db1 HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < 4000; i++)
        str_addf(&text, "X-Header-%d: aaaaaaaaaaaaaaaaaaaaaaaa\r\n", i);
    if (say(fx, fd, text.ptr, text.len))
        hear(fx, fd, &answer);
    assert_int_not_equal(status_of(&answer), 200);
    expect_answer(fx, "GET", "/v1/things/db1", "", 200, "db1");
}

static void a_body_too_large_is_413_before_it_is_sent(void **state)
{
    static const char head[] = "POST /v1/things/db1 HTTP/1.1\r\nHost: x\r\n"
                               "Content-Length: 17000000\r\n\r\n";
    struct fixture *fx = *state;
    CLEANUP(fd_close) int fd = client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;

    assert_true(say(fx, fd, head, sizeof(head) - 1));
    hear(fx, fd, &answer);
    assert_int_equal(status_of(&answer), 413);
    assert_non_null(strstr(body_of(&answer), "the most is 16777216"));
}

static void a_chunked_body_is_cut_at_the_limit(void **state)
{
    static const char head[] = "POST /v1/things/db1 HTTP/1.1\r\nHost: x\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    struct fixture *fx = *state;
    CLEANUP(fd_close) int fd = client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    CLEANUP(str_free) struct str chunk = STR_EMPTY;
    bool open = true;

    str_add(&chunk, "100000\r\n");
    for (int i = 0; i < 1 << 20; i++)
        str_add(&chunk, " ");
    str_add(&chunk, "\r\n");
    assert_true(say(fx, fd, head, sizeof(head) - 1));
    for (int i = 0; i < 17 && open; i++)
        open = say(fx, fd, chunk.ptr, chunk.len);
    if (open)
        (void)say(fx, fd, "0\r\n\r\n", 5);
    hear(fx, fd, &answer);
    assert_int_equal(status_of(&answer), 413);
}

static void a_slow_answer_does_not_hold_up_others(void **state)
{
    struct fixture *fx = *state;
    CLEANUP(fd_close) int fd = client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    static const char head[] = "POST /v1/things/db1/slow HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(say(fx, fd, head, sizeof(head) - 1));
    while (fx->gate.waiting == 0)
        (void)loop_step(fx->loop, 5);
    expect_answer(fx, "GET", "/v1/things/web1", "", 200, "web1");
    fx->gate.open = true;
    hear(fx, fd, &answer);
    assert_int_equal(status_of(&answer), 200);
    assert_non_null(strstr(body_of(&answer), "\"asked\":{\"name\":\"db1\"}"));
}

static void a_peer_that_does_not_answer_in_time_is_504(void **state)
{
    expect_answer(*state, "GET", "/v1/things/db1/hasty", "", 504, "timeout");
}

static void who_hangs_up_does_not_stop_what_he_asked_for(void **state)
{
    struct fixture *fx = *state;
    int fd = client(fx);
    static const char head[] = "POST /v1/things/db1/slow HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(say(fx, fd, head, sizeof(head) - 1));
    while (fx->gate.waiting == 0)
        (void)loop_step(fx->loop, 5);
    fd_close(&fd);
    fx->gate.open = true;
    while (pool_busy(fx->pool))
        (void)loop_step(fx->loop, 5);
    while (loop_step(fx->loop, 0))
        ;
    assert_int_equal(fx->gate.finished, 1);
    expect_answer(fx, "GET", "/v1/things/web1", "", 200, "web1");
}

static void stopping_while_a_request_is_in_the_pool_leaves_nothing(void **state)
{
    struct fixture *fx = *state;
    CLEANUP(fd_close) int fd = client(fx);
    static const char head[] = "POST /v1/things/db1/slow HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(say(fx, fd, head, sizeof(head) - 1));
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
    struct fixture *fx = *state;
    CLEANUP(fd_close) int fd = client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    static const char head[] = "GET /v1/wait?since=0&wait_ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(say(fx, fd, head, sizeof(head) - 1));
    while (loop_step(fx->loop, 20))
        ;
    api_changed(fx->api);
    hear(fx, fd, &answer);
    assert_non_null(strstr(body_of(&answer), "\"change\":1"));
}

static void a_watcher_is_answered_when_nothing_changes(void **state)
{
    expect_answer(*state, "GET", "/v1/wait?since=0&wait_ms=20", "", 200, "\"change\":0");
}

static void stopping_lets_watchers_go(void **state)
{
    struct fixture *fx = *state;
    CLEANUP(fd_close) int fd = client(fx);
    CLEANUP(str_free) struct str answer = STR_EMPTY;
    static const char head[] = "GET /v1/wait?since=0&wait_ms=60000 HTTP/1.1\r\nHost: x\r\n\r\n";

    assert_true(say(fx, fd, head, sizeof(head) - 1));
    while (loop_step(fx->loop, 20))
        ;
    api_stop(fx->api);
    fx->api = NULL;
    hear(fx, fd, &answer);
    assert_int_equal(answer.len, 0);
}

static void several_requests_share_a_connection(void **state)
{
    struct fixture *fx = *state;
    CLEANUP(fd_close) int fd = client(fx);
    static const char head[] = "GET /v1/things/db1 HTTP/1.1\r\nHost: x\r\n\r\n";

    for (int i = 0; i < 3; i++) {
        CLEANUP(str_free) struct str answer = STR_EMPTY;

        assert_true(say(fx, fd, head, sizeof(head) - 1));
        hear(fx, fd, &answer);
        assert_int_equal(status_of(&answer), 200);
    }
}

static void the_socket_is_for_owner_and_group_only(void **state)
{
    struct fixture *fx = *state;
    struct stat st;

    assert_return_code(stat(fx->path, &st), errno);
    assert_int_equal(st.st_mode & 0777, 0660);
}

static void a_second_daemon_on_the_socket_is_refused(void **state)
{
    struct fixture *fx = *state;
    struct api_world world = world_of(fx);
    struct api *second = NULL;

    EXPECT_ERR(ERR_BUSY, api_server_start(&world, tables, fx->path, &second, &err));
    EXPECT_TEXT("muster serve");
    expect_answer(fx, "GET", "/v1/things/db1", "", 200, "db1");
}

static void a_socket_left_by_a_killed_daemon_is_taken_over(void **state)
{
    struct fixture *fx = *state;
    struct api_world world = world_of(fx);
    CLEANUP(mem_freep) char *stale = path_join(fx->dir, "stale");
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct api *second = NULL;

    (void)snprintf(at.sun_path, sizeof(at.sun_path), "%s", stale);
    assert_return_code(bind(fd, (struct sockaddr *)&at, sizeof(at)), errno);
    (void)close(fd);
    EXPECT_OK(api_server_start(&world, tables, stale, &second, &err));
    api_stop(second);
}

static void a_file_in_the_socket_s_place_is_not_touched(void **state)
{
    struct fixture *fx = *state;
    struct api_world world = world_of(fx);
    CLEANUP(mem_freep) char *file = path_join(fx->dir, "file");
    struct api *second = NULL;

    EXPECT_OK(fs_replace_file(fs_real(), file, "mine", 4, 0600, &err));
    EXPECT_ERR(ERR_EXISTS, api_server_start(&world, tables, file, &second, &err));
    assert_true(fs_exists(file));
}

static void a_path_too_long_for_a_socket_says_both_lengths(void **state)
{
    struct fixture *fx = *state;
    struct api_world world = world_of(fx);
    CLEANUP(mem_freep) char *file = mem_printf("%s/%0120d", fx->dir, 0);
    struct api *second = NULL;

    EXPECT_ERR(ERR_LIMIT, api_server_start(&world, tables, file, &second, &err));
    EXPECT_TEXT("takes 107");
}

static void the_description_names_each_endpoint_and_field(void **state)
{
    CLEANUP(mem_freep) char *text = api_tables_markdown(tables);
    CLEANUP(json_freep) json_t *json = api_tables_json(tables);

    (void)state;
    assert_non_null(strstr(text, "### POST /v1/things/{name}\n\nMakes a thing.\n"));
    assert_non_null(strstr(text, "| `size` | number | required | how big it is |"));
    assert_int_equal(json_array_size(json_object_get(json, "endpoints")), 7);
}

#define SERVER_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SERVER_TEST(a_request_reaches_its_handler_with_its_parameters),
        SERVER_TEST(the_caller_is_who_the_kernel_says),
        SERVER_TEST(an_unknown_path_is_404_and_says_where_to_look),
        SERVER_TEST(a_name_with_dots_and_slashes_does_not_match),
        SERVER_TEST(bytes_that_are_no_text_are_refused_in_words),
        SERVER_TEST(a_wrong_method_is_405_and_names_the_right_ones),
        SERVER_TEST(a_body_that_is_no_json_is_400),
        SERVER_TEST(a_field_of_the_wrong_type_is_named),
        SERVER_TEST(a_misspelt_field_is_answered_with_the_nearest),
        SERVER_TEST(a_missing_field_is_named),
        SERVER_TEST(an_error_has_code_message_and_hint_apart),
        SERVER_TEST(a_change_is_durable_before_its_answer),
        SERVER_TEST(the_query_is_typed_like_a_body),
        SERVER_TEST(garbage_is_refused_and_others_are_served),
        SERVER_TEST(endless_headers_are_cut_off),
        SERVER_TEST(a_body_too_large_is_413_before_it_is_sent),
        SERVER_TEST(a_chunked_body_is_cut_at_the_limit),
        SERVER_TEST(a_slow_answer_does_not_hold_up_others),
        SERVER_TEST(a_peer_that_does_not_answer_in_time_is_504),
        SERVER_TEST(who_hangs_up_does_not_stop_what_he_asked_for),
        SERVER_TEST(stopping_while_a_request_is_in_the_pool_leaves_nothing),
        SERVER_TEST(a_watcher_hears_of_a_change_at_once),
        SERVER_TEST(a_watcher_is_answered_when_nothing_changes),
        SERVER_TEST(stopping_lets_watchers_go),
        SERVER_TEST(several_requests_share_a_connection),
        SERVER_TEST(the_socket_is_for_owner_and_group_only),
        SERVER_TEST(a_second_daemon_on_the_socket_is_refused),
        SERVER_TEST(a_socket_left_by_a_killed_daemon_is_taken_over),
        SERVER_TEST(a_file_in_the_socket_s_place_is_not_touched),
        SERVER_TEST(a_path_too_long_for_a_socket_says_both_lengths),
        cmocka_unit_test(the_description_names_each_endpoint_and_field),
    };
    return cmocka_run_group_tests_name("server", tests, NULL, NULL);
}
