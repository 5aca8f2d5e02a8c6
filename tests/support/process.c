// SPDX-License-Identifier: Apache-2.0
#include "support/process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int process_status(void (*act)(void *arg), void *arg)
{
    int status = 0;
    pid_t pid = fork();

    if (pid < 0)
        abort();
    if (pid == 0) {
        int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            (void)dup2(fd, STDERR_FILENO);
        act(arg);
        _exit(0);
    }
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            abort();
    return status;
}

bool process_aborts(void (*act)(void *arg), void *arg)
{
    int status = process_status(act, arg);

    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}
