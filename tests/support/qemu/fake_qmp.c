// SPDX-License-Identifier: Apache-2.0
#include "support/qemu/fake_qmp.h"

#include "base/json.h"
#include "base/mem.h"

#include <assert.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct fake_qmp {
    struct fake_qmp_config config;
    char *path;
    int listener;
    int stop_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    json_t *counts; /* under lock */
    int client;     /* the same; -1: none */
};

char *fake_qmp_ok(void)
{
    return mem_strdup("{\"return\": {}, \"id\": @ID}\n");
}

char *fake_qmp_say(const char *text)
{
    return mem_printf("%s\n", text);
}

static bool send_all(int fd, const char *text, size_t len)
{
    while (len > 0) {
        ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

static bool send_answer(int fd, const char *text, const json_t *command)
{
    const char *mark;

    while ((mark = strstr(text, "@ID")) != NULL) {
        char *id = json_text(json_object_get(command, "id") ? json_object_get(command, "id")
                                                            : json_null());
        bool sent = send_all(fd, text, (size_t)(mark - text)) && send_all(fd, id, strlen(id));
        free(id);
        if (!sent)
            return false;
        text = mark + 3;
    }
    return send_all(fd, text, strlen(text));
}

static void set_client(struct fake_qmp *fake, int fd)
{
    (void)pthread_mutex_lock(&fake->lock);
    fake->client = fd;
    (void)pthread_mutex_unlock(&fake->lock);
}

void fake_qmp_tell(struct fake_qmp *fake, const char *text)
{
    (void)pthread_mutex_lock(&fake->lock);
    assert(fake->client >= 0);
    bool sent = send_all(fake->client, text, strlen(text));
    assert(sent);
    (void)sent;
    (void)pthread_mutex_unlock(&fake->lock);
}

static void count(struct fake_qmp *fake, const char *name)
{
    (void)pthread_mutex_lock(&fake->lock);
    json_int_t n = json_integer_value(json_object_get(fake->counts, name));
    (void)json_object_set_new(fake->counts, name, json_integer(n + 1));
    (void)pthread_mutex_unlock(&fake->lock);
}

static bool handle_line(struct fake_qmp *fake, int fd, const char *line)
{
    json_error_t why;
    const char *start = strchr(line, '{'); /* the agent's 0xFF stands before it */
    json_t *command = start ? json_loads(start, 0, &why) : NULL;
    char *answer;
    bool go_on;

    if (!command)
        return true;
    count(fake, json_get_str(command, "execute", ""));
    answer = fake->config.answer(fake->config.ctx, command);
    go_on = answer && send_answer(fd, answer, command);
    free(answer);
    json_decref(command);
    return go_on;
}

/* As QEMU does when two of its threads accept. */
static void wait_for_another(struct fake_qmp *fake)
{
    for (;;) {
        struct pollfd fds[2] = {{.fd = fake->listener, .events = POLLIN},
                                {.fd = fake->stop_fd, .events = POLLIN}};

        if (poll(fds, 2, 1) < 0 || fds[1].revents)
            return;
        if (fds[0].revents) {
            (void)close(accept(fake->listener, NULL, NULL));
            return;
        }
        fake->config.while_stuck(fake->config.ctx);
    }
}

static void serve(struct fake_qmp *fake, int fd)
{
    const char *greeting = fake->config.greeting ? fake->config.greeting
                                                 : "{\"QMP\": {\"version\": {}, "
                                                   "\"capabilities\": []}}\n";
    CLEANUP(str_free) struct str in = STR_EMPTY;

    if (fake->config.stuck == FAKE_QMP_STUCK_BEFORE_GREETING)
        wait_for_another(fake);
    if (!send_all(fd, greeting, strlen(greeting)))
        return;
    if (fake->config.stuck == FAKE_QMP_STUCK_AFTER_GREETING)
        wait_for_another(fake);
    for (;;) {
        struct pollfd fds[2] = {{.fd = fd, .events = POLLIN},
                                {.fd = fake->stop_fd, .events = POLLIN}};
        char buf[4096];
        char *end;
        ssize_t n;

        if (poll(fds, 2, -1) < 0 || fds[1].revents)
            return;
        n = recv(fd, buf, sizeof(buf), 0);
        if (n <= 0)
            return;
        str_add_bytes(&in, buf, (size_t)n);
        while (in.len && (end = memchr(in.ptr, '\n', in.len)) != NULL) {
            size_t used = (size_t)(end - in.ptr) + 1;
            *end = '\0';
            if (!handle_line(fake, fd, in.ptr))
                return;
            memmove(in.ptr, in.ptr + used, in.len - used + 1);
            in.len -= used;
        }
    }
}

static void *run(void *arg)
{
    struct fake_qmp *fake = arg;

    for (;;) {
        struct pollfd fds[2] = {{.fd = fake->listener, .events = POLLIN},
                                {.fd = fake->stop_fd, .events = POLLIN}};
        int fd;

        if (poll(fds, 2, -1) < 0 || fds[1].revents)
            return NULL;
        fd = accept(fake->listener, NULL, NULL);
        if (fd < 0)
            continue;
        set_client(fake, fd);
        serve(fake, fd);
        set_client(fake, -1);
        (void)close(fd);
    }
}

struct fake_qmp *fake_qmp_new(const struct fake_qmp_config *config)
{
    struct fake_qmp *fake = mem_new(struct fake_qmp);
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    fake->config = *config;
    fake->client = -1;
    fake->path = mem_strdup(config->path);
    assert(strlen(config->path) < sizeof(at.sun_path));
    memcpy(at.sun_path, config->path, strlen(config->path));
    (void)unlink(config->path);
    fake->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fake->stop_fd = eventfd(0, EFD_CLOEXEC);
    fake->counts = json_object();
    (void)pthread_mutex_init(&fake->lock, NULL);
    if (bind(fake->listener, (const struct sockaddr *)&at, sizeof(at)) < 0
        || listen(fake->listener, 4) < 0 || pthread_create(&fake->thread, NULL, run, fake) != 0)
        abort();
    return fake;
}

unsigned fake_qmp_count(struct fake_qmp *fake, const char *command)
{
    json_int_t n;

    (void)pthread_mutex_lock(&fake->lock);
    n = json_integer_value(json_object_get(fake->counts, command));
    (void)pthread_mutex_unlock(&fake->lock);
    return (unsigned)n;
}

void fake_qmp_free(struct fake_qmp *fake)
{
    uint64_t one = 1;

    if (!fake)
        return;
    (void)!write(fake->stop_fd, &one, sizeof(one));
    (void)pthread_join(fake->thread, NULL);
    (void)close(fake->listener);
    (void)close(fake->stop_fd);
    (void)unlink(fake->path);
    (void)pthread_mutex_destroy(&fake->lock);
    json_decref(fake->counts);
    free(fake->path);
    free(fake);
}
