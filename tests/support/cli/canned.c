// SPDX-License-Identifier: Apache-2.0
#include "support/cli/canned.h"

#include "base/fs.h"
#include "base/mem.h"
#include "cli/cli.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ARGS_MAX 24

/* --- The daemon -------------------------------------------------------------------------------- */

static int listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    (void)unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 8) < 0)
        abort();
    return fd;
}

/* Headers and body; false when the client has nothing more to say. */
static bool read_request(int fd, struct str *ret_request)
{
    char buf[4096];

    for (;;) {
        const char *end = strstr(str_text(ret_request), "\r\n\r\n");
        const char *length = strcasestr(str_text(ret_request), "content-length:");
        size_t body = length && end && length < end ? strtoul(length + 15, NULL, 10) : 0;
        ssize_t n;

        if (end && ret_request->len >= (size_t)(end + 4 - ret_request->ptr) + body)
            return true;
        n = read(fd, buf, sizeof(buf));
        if (n <= 0)
            return false;
        str_add_bytes(ret_request, buf, (size_t)n);
    }
}

static bool is_next(const struct canned *canned, const struct str *request)
{
    size_t len = canned->request ? strlen(canned->request) : 0;

    return len && strncmp(request->ptr, canned->request, len) == 0 && request->ptr[len] == ' '
           && (!canned->body || strstr(request->ptr, canned->body));
}

static void answer(int fd, int status, const char *text)
{
    CLEANUP(mem_freep)
    char *reply =
        mem_printf("HTTP/1.1 %d x\r\nContent-Length: %zu\r\n\r\n%s", status, strlen(text), text);

    if (write(fd, reply, strlen(reply)) < 0)
        abort();
}

/* Until it is killed: how many answers were given goes to `count_fd`, one byte each. */
static void serve(int listen_fd, const struct canned *canned, int count_fd)
{
    for (;;) {
        CLEANUP(fd_close) int fd = accept(listen_fd, NULL, NULL);

        for (;;) {
            CLEANUP(str_free) struct str request = STR_EMPTY;

            if (!read_request(fd, &request))
                break;
            if (!is_next(canned, &request)) {
                answer(fd, 500, "{\"error\":{\"code\":\"protocol\",\"message\":\"not expected\"}}");
                (void)fprintf(stderr, "canned: not expected: %s\n", request.ptr);
                continue;
            }
            if (write(count_fd, "", 1) < 0) /* first: after the answer we may be killed */
                abort();
            answer(fd, canned->status ? canned->status : 200, canned->answer);
            canned++;
        }
    }
}

/* --- The command line -------------------------------------------------------------------------- */

static int no_serve(const char *config_path, int ready_fd, struct err *err)
{
    return err_set(err, ERR_STATE, 0, "serves %s to %d", config_path, ready_fd);
}

static int open_or_die(const char *dir, const char *name, int flags)
{
    CLEANUP(mem_freep) char *path = path_join(dir, name);
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0)
        abort();
    return fd;
}

static void write_input(const char *dir, const char *input)
{
    CLEANUP(fd_close) int fd = open_or_die(dir, "stdin", O_WRONLY | O_CREAT | O_TRUNC);

    if (write(fd, input, strlen(input)) < 0)
        abort();
}

/* In a child, so that stdin, stdout and stderr are its own. */
static int run_cli(const char *dir, const char *words)
{
    CLEANUP(mem_freep) char *line = mem_strdup(words);
    char *argv[ARGS_MAX] = {(char[]){"muster"}, (char[]){"--dir"}, mem_strdup(dir)};
    const struct cli_hooks hooks = {.serve = no_serve};
    int argc = 3, code;
    char *rest = line, *word;

    if (dup2(open_or_die(dir, "stdin", O_RDONLY), STDIN_FILENO) < 0
        || dup2(open_or_die(dir, "stdout", O_WRONLY | O_CREAT | O_TRUNC), STDOUT_FILENO) < 0
        || dup2(open_or_die(dir, "stderr", O_WRONLY | O_CREAT | O_TRUNC), STDERR_FILENO) < 0)
        abort();
    while ((word = strsep(&rest, " ")) && argc + 1 < ARGS_MAX) {
        for (char *at = word; *at; at++)
            if (*at == '_')
                *at = ' ';
        argv[argc++] = word;
    }
    code = cli_main(argc, argv, &hooks);
    (void)fflush(NULL);
    free(argv[2]);
    return code;
}

static pid_t fork_or_die(void)
{
    pid_t pid;

    (void)fflush(NULL);
    pid = fork();
    if (pid < 0)
        abort();
    return pid;
}

static void read_back(const char *dir, const char *name, struct str *ret_text)
{
    CLEANUP(mem_freep) char *path = path_join(dir, name);
    struct err err = ERR_EMPTY;

    if (fs_read_file(fs_real(), path, 1 << 20, ret_text, &err) < 0)
        abort();
}

void canned_run(const char *dir, const struct canned *canned, const char *words, const char *input,
                struct canned_result *ret_result)
{
    CLEANUP(mem_freep) char *socket_path = path_join(dir, "muster.sock");
    int counts[2], status, given;
    pid_t daemon, cli;
    char bytes[64];

    memset(ret_result, 0, sizeof(*ret_result));
    write_input(dir, input ? input : "");
    if (pipe2(counts, O_CLOEXEC | O_NONBLOCK) < 0)
        abort();
    int listen_fd = listen_at(socket_path);
    daemon = fork_or_die();
    if (daemon == 0)
        serve(listen_fd, canned, counts[1]);
    (void)close(listen_fd);
    cli = fork_or_die();
    if (cli == 0)
        _exit(run_cli(dir, words));
    if (waitpid(cli, &status, 0) < 0)
        abort();
    (void)kill(daemon, SIGKILL);
    (void)waitpid(daemon, NULL, 0);
    given = (int)read(counts[0], bytes, sizeof(bytes));
    (void)close(counts[0]);
    (void)close(counts[1]);
    for (given = given < 0 ? 0 : given; canned[given].request; given++)
        ret_result->unasked++;
    ret_result->code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    read_back(dir, "stdout", &ret_result->out);
    read_back(dir, "stderr", &ret_result->err);
    (void)unlink(socket_path);
}

void canned_result_done(struct canned_result *result)
{
    str_free(&result->out);
    str_free(&result->err);
}
