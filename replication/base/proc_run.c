// SPDX-License-Identifier: Apache-2.0
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/proc_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* One read: 1 more may come, 0 end, -1 nothing there now. */
static int take_output(int fd, size_t max, struct str *output, uint64_t *dropped)
{
    char buf[8192];
    ssize_t n = read(fd, buf, sizeof(buf));

    if (n < 0)
        return errno == EINTR ? 1 : -1;
    if (n == 0)
        return 0;
    size_t room = max > output->len ? max - output->len : 0;
    size_t keep = (size_t)n < room ? (size_t)n : room;
    str_add_bytes(output, buf, keep);
    *dropped += (uint64_t)n - keep;
    return 1;
}

/* Output still on its way when the program is over: at most a pipe full (64 KiB). What children of
 * its own go on writing is not waited for. */
static void drain(int fd, size_t max, struct str *output, uint64_t *dropped)
{
    for (int reads = 0; reads < 32; reads++)
        if (take_output(fd, max, output, dropped) <= 0)
            return;
}

/* Until the process is over. */
static int follow(int pid_fd, int out_fd, size_t max, struct str *output, uint64_t *dropped,
                  struct cancel *cancel, struct err *err)
{
    bool open = true;

    for (;;) {
        struct pollfd fds[2] = {
            {.fd = pid_fd, .events = POLLIN},
            {.fd = open ? out_fd : -1, .events = POLLIN},
        };
        /* A cancel has one descriptor to wait for, we have two: short slices of both. */
        if (poll(fds, 2, cancel ? 20 : -1) < 0 && errno != EINTR)
            return err_set(err, ERR_IO, errno, "poll");
        if (open && fds[1].revents)
            open = take_output(out_fd, max, output, dropped) != 0;
        if (fds[0].revents) {
            if (open)
                drain(out_fd, max, output, dropped);
            return 0;
        }
        if (cancel_check(cancel, err) < 0)
            return -1;
    }
}

int proc_run(const struct proc_spec *spec, size_t max_output, struct str *ret_output,
             int *ret_status, struct cancel *cancel, struct err *err)
{
    CLEANUP(str_free) struct str output = STR_EMPTY;
    CLEANUP(fd_close) int out_fd = -1;
    CLEANUP(fd_close) int in_fd = -1;
    CLEANUP(fd_close) int pid_fd = -1;
    uint64_t dropped = 0;
    int status = 0;
    int ends[2];
    pid_t pid;

    if (cancel_check(cancel, err) < 0)
        return err_wrap(err, "%s", spec->argv[0]);
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(err, ERR_IO, errno, "%s: pipe", spec->argv[0]);
    out_fd = ends[0];
    in_fd = ends[1];
    if (fcntl(out_fd, F_SETFL, O_NONBLOCK) < 0)
        return err_set(err, ERR_IO, errno, "%s: pipe", spec->argv[0]);
    if (spawn(spec, SPAWN_CHILD, in_fd, true, &pid, err) < 0)
        return -1;
    fd_close(&in_fd);
    pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    int result = pid_fd < 0 ? err_set(err, ERR_IO, errno, "pidfd_open")
                            : follow(pid_fd, out_fd, max_output, &output, &dropped, cancel, err);
    if (result < 0)
        (void)kill(-pid, SIGKILL); /* with all it started */
    struct proc_id id = {.pid = pid};
    proc_reap(&id, &status);
    if (result < 0)
        return err_wrap(err, "%s", spec->argv[0]);
    if (dropped > 0)
        str_addf(&output, "\n(%" PRIu64 " more bytes of output were dropped)\n", dropped);
    str_free(ret_output);
    *ret_output = output;
    output = (struct str)STR_EMPTY;
    *ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return 0;
}

/* Cuts `text` down to its last line that is not empty. */
static const char *last_line(char *text)
{
    size_t len = strlen(text);

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r' || text[len - 1] == ' '))
        text[--len] = '\0';
    char *newline = strrchr(text, '\n');
    return newline ? newline + 1 : text;
}

int proc_must(const char *const *argv, struct cancel *cancel, struct err *err)
{
    return proc_must_in(NULL, argv, cancel, err);
}

int proc_must_in(const char *netns, const char *const *argv, struct cancel *cancel, struct err *err)
{
    const struct proc_spec spec = {.argv = argv, .netns = netns};

    return proc_must_be(&spec, cancel, err);
}

int proc_must_be(const struct proc_spec *spec, struct cancel *cancel, struct err *err)
{
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status;

    if (proc_run(spec, 1 << 16, &output, &status, cancel, err) < 0)
        return -1;
    if (status == 0)
        return 0;
    CLEANUP(mem_freep) char *text = str_take(&output);
    return err_set(err, ERR_IO, 0, "%s: exit code %d: %s", spec->argv[0], status, last_line(text));
}
