// SPDX-License-Identifier: Apache-2.0
/* Recognising, ending and reaping processes; starting them is proc_spawn.c. */
#include "base/proc.h"

#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* How often a process that is about to end is looked at. */
#define LOOK_MS 5

struct proc_stat {
    char state;       /* field 3 of /proc/PID/stat (proc(5)), of the thread that began it */
    uint64_t threads; /* field 20, with that one, also when it is a zombie */
    uint64_t start;   /* field 22 */
};

/* Puts the number at `*at` into `ret_value`, and `*at` behind the space after it. */
static bool take_field(char **at, uint64_t *ret_value)
{
    char *end = *at + strcspn(*at, " \n");
    bool more = *end != '\0';

    *end = '\0';
    bool good = str_to_u64(*at, ret_value);
    *at = more ? end + 1 : end;
    return good;
}

/* The name in field 2 may hold anything, so counting starts behind its last ')'. */
static int read_stat(pid_t pid, struct proc_stat *ret_stat, struct err *err)
{
    uint64_t unused;
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    if (fs_read_file(fs_real(), path, 4096, &text, err) < 0) {
        if (err && err->code == ERR_IO && err->sys == ESRCH)
            err->code = ERR_NOT_FOUND; /* it ended between open and read */
        return -1;
    }
    char *at = strrchr(text.ptr ? text.ptr : "", ')');
    if (!at || at[1] != ' ' || !at[2])
        return err_set(err, ERR_PROTOCOL, 0, "%s: unknown form", path);
    at += 2;
    ret_stat->state = *at;
    for (int field = 3; field < 20 && at; field++) {
        at = strchr(at, ' ');
        at = at ? at + 1 : NULL;
    }
    if (!at || !take_field(&at, &ret_stat->threads) || !take_field(&at, &unused)
        || !take_field(&at, &ret_stat->start))
        return err_set(err, ERR_PROTOCOL, 0, "%s: no number of threads, or no start time", path);
    return 0;
}

int proc_identify(pid_t pid, struct proc_id *ret_id, struct err *err)
{
    struct proc_stat stat;

    if (read_stat(pid, &stat, err) < 0)
        return err_wrap(err, "process %ld", (long)pid);
    ret_id->pid = pid;
    ret_id->start_ticks = stat.start;
    return 0;
}

int64_t proc_age_ms(const struct proc_id *id)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;
    int64_t ticks = sysconf(_SC_CLK_TCK);

    /* What its start is counted by: time since the host's, sleep included. */
    if (ticks <= 0 || fs_read_file(fs_real(), "/proc/uptime", 128, &text, &none) < 0) {
        err_clear(&none);
        return 0;
    }
    int64_t now = (int64_t)(strtod(str_text(&text), NULL) * 1000);
    int64_t began = (int64_t)(id->start_ticks * 1000 / (uint64_t)ticks);
    return now > began ? now - began : 0;
}

bool proc_is_alive(const struct proc_id *id)
{
    struct proc_stat stat;
    struct err err;

    if (id->pid <= 0 || read_stat(id->pid, &stat, &err) < 0 || stat.start != id->start_ticks)
        return false;
    /* The first thread is a zombie before the others have ended: they may still be writing. */
    return (stat.state != 'Z' && stat.state != 'X') || stat.threads > 1;
}

static void fd_end(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
}

/* Sends a signal to exactly this process: the pid cannot be taken over once the pidfd is open
 * and the start time has been compared after that. 0 also when it is gone. */
static int send_signal(const struct proc_id *id, int signal_number, struct err *err)
{
    CLEANUP(fd_end) int fd = (int)syscall(SYS_pidfd_open, id->pid, 0);

    if (fd < 0 && errno != ESRCH)
        return err_set(err, ERR_IO, errno, "process %ld: pidfd_open", (long)id->pid);
    if (fd < 0 || !proc_is_alive(id))
        return 0;
    if (syscall(SYS_pidfd_send_signal, fd, signal_number, NULL, 0) < 0 && errno != ESRCH)
        return err_set(err, ERR_IO, errno, "process %ld: signal %d", (long)id->pid, signal_number);
    return 0;
}

/* 1: gone; 0: still there after `ms`; -1: cancelled. */
static int wait_gone(const struct proc_id *id, int64_t ms, struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *within = cancel_new(NULL, NULL, ms);
    struct err over;

    while (proc_is_alive(id)) {
        if (cancel_check(cancel, err) < 0)
            return -1;
        if (cancel_sleep(within, LOOK_MS, &over) < 0)
            return proc_is_alive(id) ? 0 : 1;
    }
    return 1;
}

int proc_end(const struct proc_id *id, int64_t grace_ms, struct cancel *cancel, struct err *err)
{
    int gone;

    if (!proc_is_alive(id))
        return 0;
    if (grace_ms > 0) {
        if (send_signal(id, SIGTERM, err) < 0)
            return -1;
        gone = wait_gone(id, grace_ms, cancel, err);
        if (gone != 0)
            return gone < 0 ? err_wrap(err, "end process %ld", (long)id->pid) : 0;
    }
    if (send_signal(id, SIGKILL, err) < 0)
        return -1;
    /* Only one stuck in the kernel outlives this. */
    gone = wait_gone(id, 10000, cancel, err);
    if (gone == 0)
        return err_set(err, ERR_TIMEOUT, 0, "process %ld does not end, even by SIGKILL",
                       (long)id->pid);
    return gone < 0 ? err_wrap(err, "end process %ld", (long)id->pid) : 0;
}

void proc_reap(const struct proc_id *id, int *ret_status)
{
    int status = 0;

    /* Until it is waited for, the pid of a child stays its own, dead or not; what is no child of
     * ours (any more) is not touched. */
    if (waitpid(id->pid, &status, WNOHANG) == 0) {
        (void)kill(id->pid, SIGKILL);
        while (waitpid(id->pid, &status, 0) < 0)
            if (errno != EINTR)
                break;
    }
    if (ret_status)
        *ret_status = status;
}
