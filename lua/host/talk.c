// SPDX-License-Identifier: Apache-2.0
#include "host/talk.h"

#include "base/fs.h"
#include "base/mem.h"
#include "host/child.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEXT_BYTES_MAX ((size_t)16 * 1024 * 1024)
/* An answer is the value and a little around it. */
#define ANSWER_SPARE_BYTES 16384

/* --- The text, before anybody runs it ------------------------------------------------------- */

/* The first line of `text` that is not UTF-8. */
static unsigned bad_line(const char *text, size_t len)
{
    unsigned line = 1;

    for (const char *at = text; at < text + len; line++) {
        const char *end = memchr(at, '\n', (size_t)(text + len - at));
        size_t line_len = (size_t)((end ? end : text + len) - at);
        CLEANUP(json_freep) json_t *json = json_stringn(at, line_len);
        if (!json)
            return line;
        at += line_len + 1;
    }
    return line;
}

static unsigned line_at(const char *text, const char *at)
{
    unsigned line = 1;

    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

/* Compiled Lua can break Lua itself. */
int talk_check_text(const struct child *child, json_t **ret_text, struct err *err)
{
    const char *nul = child->len ? memchr(child->text, '\0', child->len) : NULL;

    if (child->len > TEXT_BYTES_MAX)
        return err_set(err, ERR_LIMIT, 0, "%s: larger than 16 MiB", child->name);
    if (child->len && child->text[0] == '\x1b')
        return err_set(err, ERR_DENIED, 0,
                       "%s: compiled Lua is not run; hint: give the text it was compiled from",
                       child->name);
    if (nul)
        return err_set(err, ERR_INVALID, 0, "%s:%u: a NUL byte; hint: is this a text file?",
                       child->name, line_at(child->text, nul));
    *ret_text = json_stringn(child->text, child->len);
    if (!*ret_text)
        return err_set(err, ERR_INVALID, 0, "%s:%u: not UTF-8 text", child->name,
                       bad_line(child->text, child->len));
    return 0;
}

/* --- Talking ---------------------------------------------------------------------------------- */

int talk_start(struct child *child, struct err *err)
{
    int pair[2];
    char fd_text[16];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return err_set(err, ERR_IO, errno, "lua host: socketpair");
    child->fd = pair[0];
    CLEANUP(fd_close) int child_end = pair[1];
    if (fcntl(child->fd, F_SETFL, O_NONBLOCK) < 0)
        return err_set(err, ERR_IO, errno, "lua host: socket");
    (void)snprintf(fd_text, sizeof(fd_text), "%d", child_end);
    const char *program = child->host->program ? child->host->program : "/proc/self/exe";
    const char *const argv[] = {program, "lua-host", fd_text, NULL};
    const struct proc_spec spec = {.argv = argv, .keep_fds = &child_end, .keep_fd_count = 1};
    if (proc_spawn_child(&spec, &child->id, err) < 0)
        return err_wrap(err, "lua host");
    return 0;
}

/* A child may die while it is written to; why is found out later, by its end. */
int talk_send(const struct child *child, const char *line, size_t len, struct cancel *cancel,
              struct err *err)
{
    while (len > 0) {
        ssize_t n = send(child->fd, line, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            if (cancel_poll(cancel, child->fd, POLLOUT, err) < 0)
                return -1;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return 0;
        line += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Reads up to the end of the line or of the child. */
int talk_read(const struct child *child, struct str *ret_answer, struct cancel *cancel,
              struct err *err)
{
    char chunk[16384];

    for (;;) {
        ssize_t n = recv(child->fd, chunk, sizeof(chunk), 0);
        if (n < 0 && errno == EAGAIN) {
            if (cancel_poll(cancel, child->fd, POLLIN, err) < 0)
                return -1;
            continue;
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            str_clear(ret_answer); /* half an answer is none */
            return 0;
        }
        str_add_bytes(ret_answer, chunk, (size_t)n);
        if (chunk[n - 1] == '\n')
            return 0;
        if (ret_answer->len > child->host->limits.result_bytes + ANSWER_SPARE_BYTES)
            return err_set(err, ERR_LIMIT, 0, "%s: the lua host answers without end", child->name);
    }
}

/* --- What came of it -------------------------------------------------------------------------- */

/* A child without an answer: its bounds are told apart by the signal that ended it. */
int talk_judge_end(const struct child *child, int status, struct err *err)
{
    int number = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    char cpu[32];

    if (number == SIGPROF || number == SIGXCPU)
        return err_set(
            err, ERR_LIMIT, 0,
            "%s: ran for more than %s of processor time; hint: look for a loop or a text "
            "pattern that never ends",
            child->name, str_duration(child->host->limits.cpu_ms, cpu, sizeof(cpu)));
    if (number == SIGSYS)
        return err_set(
            err, ERR_DENIED, 0,
            "%s: tried to reach out of its sandbox and was killed (forbidden system call)",
            child->name);
    if (number == SIGKILL)
        return err_set(err, ERR_LIMIT, 0,
                       "%s: was killed; hint: by a person, or because the host is out of memory",
                       child->name);
    if (number)
        return err_set(err, ERR_PROTOCOL, 0, "%s: the lua host died by signal %d (%s)", child->name,
                       number, strsignal(number));
    return err_set(
        err, ERR_PROTOCOL, 0,
        "%s: the lua host ended with code %d and no answer; hint: is %s of this version?",
        child->name, WEXITSTATUS(status),
        child->host->program ? child->host->program : "the program");
}

/* "NAME:LINE: text", with the line of the place in the value when Lua gave none. */
static int judge_error(const struct child *child, const json_t *error, struct err *err)
{
    enum err_code code = err_code_parse(json_get_str(error, "code", ""));
    const char *text = json_get_str(error, "text", "unknown error");
    const char *path = json_get_str(error, "path", "");
    uint64_t line = json_get_u64(error, "line", 0);

    if (!line && *path)
        line = host_line_of(child->text, child->len, path);
    return line ? err_set(err, code, 0, "%s:%" PRIu64 ": %s", child->name, line, text)
                : err_set(err, code, 0, "%s: %s", child->name, text);
}

int talk_judge_answer(const struct child *child, const struct str *answer, json_t **ret_value,
                      struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;

    if (json_parse(answer->ptr, answer->len, &json, err) < 0) {
        err->code = ERR_PROTOCOL;
        return err_wrap(err, "%s: answer of the lua host", child->name);
    }
    json_t *value = json_object_get(json, "value");
    const json_t *error = json_object_get(json, "error");
    if (value) {
        *ret_value = json_incref(value);
        return 0;
    }
    if (!error)
        return err_set(err, ERR_PROTOCOL, 0, "%s: the lua host answers neither value nor error",
                       child->name);
    return judge_error(child, error, err);
}

/* The wall clock is ours; the caller's end is the caller's. */
int talk_judge_wait(const struct child *child, struct cancel *cancel, struct err *err)
{
    char wall[32];

    if (err->code != ERR_TIMEOUT || cancel_check(cancel, err) < 0)
        return err_wrap(err, "%s", child->name);
    return err_set(err, ERR_LIMIT, 0, "%s: not finished after %s", child->name,
                   str_duration(child->host->limits.wall_ms, wall, sizeof(wall)));
}
