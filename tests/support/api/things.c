// SPDX-License-Identifier: Apache-2.0
#include "support/api/things.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* --- The routes --------------------------------------------------------------- */

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
const struct api_table things_tables[] = {
    {"Things", "What there is.", thing_routes},
    {0},
};

/* --- The fixture --------------------------------------------------------------------------- */

static void commit(void *ctx)
{
    struct gate *gate = ctx;

    gate->commits++;
    gate->durable = gate->written;
}

struct api_world things_world(struct things *fx)
{
    return (struct api_world){
        .loop = fx->loop,
        .pool = fx->pool,
        .clock = clock_real(),
        .ctx = &fx->gate,
        .commit = commit,
    };
}

int things_setup(void **state)
{
    struct things *fx = mem_new(struct things);
    void *dir;

    log_set_level(LOG_LEVEL_ERROR);
    if (tmpdir_setup(&dir) < 0)
        return -1;
    fx->dir = dir;
    fx->path = path_join(dir, "s");
    fx->loop = loop_new(clock_real());
    fx->pool = pool_new(fx->loop, 4);
    struct api_world world = things_world(fx);
    EXPECT_OK(api_server_start(&world, things_tables, fx->path, &fx->api, &err));
    *state = fx;
    return 0;
}

int things_teardown(void **state)
{
    struct things *fx = *state;
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

int things_client(struct things *fx)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", fx->path);
    assert_return_code(connect(fd, (struct sockaddr *)&to, sizeof(to)), errno);
    assert_return_code(fcntl(fd, F_SETFL, O_NONBLOCK), errno);
    return fd;
}

/* Sends all of it, turning the loop; false when the server hung up meanwhile. */
bool things_say(struct things *fx, int fd, const char *bytes, size_t len)
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
void things_hear(struct things *fx, int fd, struct str *ret_answer)
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

unsigned things_status(const struct str *answer)
{
    return answer->len > 12 ? (unsigned)strtoul(answer->ptr + 9, NULL, 10) : 0;
}

const char *things_body(const struct str *answer)
{
    const char *body = strstr(str_text(answer), "\r\n\r\n");

    return body ? body + 4 : "";
}

static void ask(struct things *fx, const char *method, const char *path, const char *body,
                struct str *ret_answer)
{
    CLEANUP(fd_close) int fd = things_client(fx);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    str_addf(&text, "%s %s HTTP/1.1\r\nHost: muster\r\nContent-Length: %zu\r\n\r\n%s", method, path,
             strlen(body), body);
    assert_true(things_say(fx, fd, text.ptr, text.len));
    things_hear(fx, fd, ret_answer);
}

void things_expect(struct things *fx, const char *method, const char *path, const char *body,
                   unsigned status, const char *part)
{
    CLEANUP(str_free) struct str answer = STR_EMPTY;

    ask(fx, method, path, body, &answer);
    if (things_status(&answer) != status || !strstr(things_body(&answer), part))
        fail_msg("%s %s: wanted %u with %s, got:\n%s", method, path, status, part,
                 str_text(&answer));
}
