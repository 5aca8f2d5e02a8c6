// SPDX-License-Identifier: Apache-2.0
/* Web hooks, against a server of our own that says what a test wants. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/sites/estates.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER(status, more) "HTTP/1.1 " status "\r\nConnection: close\r\n" more "\r\n"

struct server {
    struct estates *e;
    int listen_fd;
    int port;
    const char *_Atomic answer; /* NULL: none */
    _Atomic bool endless;       /* and it goes on for ever */
    char request[8192];         /* the last one */
    _Atomic unsigned requests;
    _Atomic bool stop;
    pthread_t thread;
};

static void read_request(struct server *server, int fd)
{
    size_t len = 0;
    ssize_t n;

    while (len + 1 < sizeof(server->request)
           && (n = read(fd, server->request + len, sizeof(server->request) - 1 - len)) > 0) {
        len += (size_t)n;
        server->request[len] = '\0';
        const char *body = strstr(server->request, "\r\n\r\n");
        const char *length = strstr(server->request, "Content-Length: ");
        if (body && length && strlen(body + 4) >= (size_t)atoi(length + 16))
            break;
    }
    server->requests++;
}

static void wait_closed(struct server *server, int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    while (!server->stop && poll(&poll_fd, 1, 20) == 0)
        ;
}

static void *serve(void *ctx)
{
    struct server *server = ctx;
    static const char filler[4096] = {' '};

    for (;;) {
        int fd = accept(server->listen_fd, NULL, NULL);
        if (fd < 0 || server->stop) {
            if (fd >= 0)
                (void)close(fd);
            return NULL;
        }
        read_request(server, fd);
        const char *answer = server->answer;
        if (answer)
            (void)send(fd, answer, strlen(answer), MSG_NOSIGNAL);
        while (server->endless && send(fd, filler, sizeof(filler), MSG_NOSIGNAL) > 0)
            ;
        if (!answer)
            wait_closed(server, fd);
        (void)close(fd);
    }
}

static int setup(void **state)
{
    struct server *server = mem_new(struct server);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    void *estates;

    if (estates_setup(&estates) < 0)
        return -1;
    (void)unsetenv("http_proxy");
    server->e = estates;
    server->answer = ANSWER("204 No Content", "");
    server->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listen_fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(server->listen_fd, 8), 0);
    assert_int_equal(getsockname(server->listen_fd, (struct sockaddr *)&address, &len), 0);
    server->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
    *state = server;
    return 0;
}

static int teardown(void **state)
{
    struct server *server = *state;
    void *estates = server->e;

    server->stop = true;
    (void)shutdown(server->listen_fd, SHUT_RDWR);
    (void)pthread_join(server->thread, NULL);
    (void)close(server->listen_fd);
    free(server);
    return estates_teardown(&estates);
}

static json_t *asked(const struct server *server, const char *scheme, const char *token)
{
    CLEANUP(mem_freep) char *url = mem_printf("%s://127.0.0.1:%d/hook", scheme, server->port);

    return json_pack("{s:s, s:s, s:{s:s}, s:s, s:i}", "url", url, "key", "lyon-4.3.1.0", "body",
                     "text", "hello", "token_file", token, "within_ms", 5000);
}

static int post(const struct server *server, json_t *args)
{
    return site_ask(server->e->at_lyon, "hook.post", args, NULL, NULL, &err);
}

/* Puts DIR/secrets/hook.token there. */
static void put_token(const struct server *server, const char *text, mode_t mode)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/lyon/secrets", server->e->root);
    CLEANUP(mem_freep) char *path = path_join(dir, "hook.token");

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    EXPECT_OK(fs_replace_file(fs_real(), path, text, strlen(text), 0600, &err));
    assert_int_equal(chmod(path, mode), 0);
}

/* --- Sent --------------------------------------------------------------------------------------- */

static void a_message_is_posted_as_json_with_its_key(void **state)
{
    struct server *server = *state;

    EXPECT_OK(post(server, asked(server, "http", "")));
    assert_int_equal(server->requests, 1);
    assert_true(str_starts(server->request, "POST /hook HTTP/1.1\r\n"));
    assert_non_null(strstr(server->request, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(server->request, "\r\nIdempotency-Key: lyon-4.3.1.0\r\n"));
    assert_non_null(strstr(server->request, "\r\n\r\n{\"text\":\"hello\"}"));
    assert_null(strstr(server->request, "Authorization"));
}

static void a_token_goes_into_a_header(void **state)
{
    struct server *server = *state;

    put_token(server, "s3cr3t\n", 0600);
    EXPECT_OK(post(server, asked(server, "http", "hook.token")));
    assert_non_null(strstr(server->request, "\r\nAuthorization: Bearer s3cr3t\r\n"));
}

/* --- Refused ------------------------------------------------------------------------------------ */

static void a_token_that_others_can_read_is_not_used(void **state)
{
    struct server *server = *state;

    EXPECT_ERR(ERR_NOT_FOUND, post(server, asked(server, "http", "hook.token")));
    put_token(server, "s3cr3t", 0640);
    EXPECT_ERR(ERR_DENIED, post(server, asked(server, "http", "hook.token")));
    EXPECT_TEXT("is not for the daemon alone; hint: ");
    put_token(server, "two words", 0600);
    EXPECT_ERR(ERR_INVALID, post(server, asked(server, "http", "hook.token")));
    assert_null(strstr(err.text, "two words"));
    put_token(server, "", 0600);
    EXPECT_ERR(ERR_INVALID, post(server, asked(server, "http", "hook.token")));
    EXPECT_ERR(ERR_INVALID, post(server, asked(server, "http", "../keys/db1.key")));
    assert_int_equal(server->requests, 0);
}

static void a_status_that_is_no_success_is_an_error(void **state)
{
    struct server *server = *state;

    put_token(server, "s3cr3t", 0600);
    server->answer = ANSWER("404 Not Found", "");
    EXPECT_ERR(ERR_STATE, post(server, asked(server, "http", "hook.token")));
    EXPECT_TEXT("the hook answers with status 404");
    assert_null(strstr(err.text, "s3cr3t"));
    server->answer = ANSWER("503 Service Unavailable", "");
    EXPECT_ERR(ERR_BUSY, post(server, asked(server, "http", "")));
}

static void a_redirect_is_not_followed(void **state)
{
    struct server *server = *state;

    server->answer = ANSWER("307 Temporary Redirect", "Location: http://127.0.0.1:1/\r\n");
    EXPECT_ERR(ERR_STATE, post(server, asked(server, "http", "")));
    EXPECT_TEXT("status 307, a redirect; hint: write the URL it leads to");
    assert_int_equal(server->requests, 1);
}

static void a_hook_that_does_not_answer_is_a_timeout(void **state)
{
    struct server *server = *state;
    json_t *args = asked(server, "http", "");

    server->answer = NULL;
    (void)json_object_set_new(args, "within_ms", json_integer(200));
    EXPECT_ERR(ERR_TIMEOUT, post(server, args));
}

static void a_person_who_cancels_does_not_wait_for_the_hook(void **state)
{
    struct server *server = *state;
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(NULL, NULL, CANCEL_NEVER);

    server->answer = NULL;
    cancel_fire(cancel);
    EXPECT_ERR(ERR_CANCELLED, site_ask(server->e->at_lyon, "hook.post", asked(server, "http", ""),
                                       NULL, cancel, &err));
}

static void an_answer_without_end_is_ended(void **state)
{
    struct server *server = *state;

    server->answer = ANSWER("200 OK", "");
    server->endless = true;
    EXPECT_ERR(ERR_LIMIT, post(server, asked(server, "http", "")));
    EXPECT_TEXT("the answer has more than 1048576 bytes");
}

static void nobody_there_is_a_network_error(void **state)
{
    struct server *server = *state;
    json_t *args = asked(server, "http", "");

    (void)json_object_set_new(args, "url", json_string("http://127.0.0.1:1/hook"));
    EXPECT_ERR(ERR_NET, post(server, args));
    args = asked(server, "http", "");
    (void)json_object_set_new(args, "url", json_string("file:///etc/passwd"));
    EXPECT_ERR(ERR_INVALID, post(server, args));
}

/* openssl's own server, with a certificate nobody has signed. */
static void a_certificate_that_nobody_vouches_for_is_refused(void **state)
{
    struct server *server = *state;
    CLEANUP(mem_freep) char *key = path_join(server->e->root, "key.pem");
    CLEANUP(mem_freep) char *cert = path_join(server->e->root, "cert.pem");
    CLEANUP(mem_freep) char *log = path_join(server->e->root, "tls.log");
    CLEANUP(cancel_freep) struct cancel *wait = cancel_new(NULL, NULL, 20000);
    const char *const make[] = {
        "openssl", "req",   "-x509", "-newkey", "ec",    "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes",  "-days", "2",     "-subj",   "/CN=x", "-addext",  "subjectAltName=IP:127.0.0.1",
        "-keyout", key,     "-out",  cert,      NULL};
    const char *const run[] = {"openssl", "s_server", "-accept", "127.0.0.1:0", "-key",
                               key,       "-cert",    cert,      "-www",        NULL};
    const struct proc_spec spec = {.argv = run, .log_path = log};
    struct proc_id id;
    int port = 0;

    EXPECT_OK(proc_must(make, NULL, &err));
    EXPECT_OK(proc_spawn_child(&spec, &id, &err));
    while (port == 0) {
        CLEANUP(str_free) struct str text = STR_EMPTY;
        EXPECT_OK(fs_read_file(fs_real(), log, 65536, &text, &err));
        const char *line = strstr(str_text(&text), "ACCEPT 127.0.0.1:");
        if (line && strchr(line, '\n'))
            port = atoi(line + strlen("ACCEPT 127.0.0.1:"));
        else
            EXPECT_OK(cancel_sleep(wait, 20, &err));
    }
    json_t *args = asked(server, "https", "");
    CLEANUP(mem_freep) char *url = mem_printf("https://127.0.0.1:%d/hook", port);
    (void)json_object_set_new(args, "url", json_string(url));
    int rc = post(server, args);
    proc_reap(&id, NULL);
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_AUTH);
    EXPECT_TEXT("certificate");
}

#define HOOK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        HOOK_TEST(a_message_is_posted_as_json_with_its_key),
        HOOK_TEST(a_token_goes_into_a_header),
        HOOK_TEST(a_token_that_others_can_read_is_not_used),
        HOOK_TEST(a_status_that_is_no_success_is_an_error),
        HOOK_TEST(a_redirect_is_not_followed),
        HOOK_TEST(a_hook_that_does_not_answer_is_a_timeout),
        HOOK_TEST(a_person_who_cancels_does_not_wait_for_the_hook),
        HOOK_TEST(an_answer_without_end_is_ended),
        HOOK_TEST(nobody_there_is_a_network_error),
        HOOK_TEST(a_certificate_that_nobody_vouches_for_is_refused),
    };

    return cmocka_run_group_tests_name("hook", tests, NULL, NULL);
}
