// SPDX-License-Identifier: Apache-2.0
/* A program is started by fork and exec. The daemon has threads, so between the two only
 * async-signal-safe calls are made: everything that needs memory or a search (the program's
 * path, the sorted list of descriptors) is prepared before.
 *
 *   caller        child                    grandchild (detached only)
 *     |- fork ----->|- setsid, fork ---------->|
 *     |             |- _exit                   |- stdio, netns, signals, close fds
 *     |<------- "pid N" ----- pipe ------------|
 *     |<------- "failed step, errno" or end of file at exec (pipe is close-on-exec)
 *
 * So the caller knows for sure whether the program runs, and which step failed if not. */
#include "base/proc_spawn.h"

#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* What a child says through the pipe. */
struct report {
    enum { REPORT_PID, REPORT_FAILED } kind;
    int value;     /* pid, or errno */
    char step[24]; /* what failed */
};

/* All that the child needs, made before the fork. */
struct plan {
    char *program; /* a path, found already */
    char **argv;
    int stdout_fd;
    int netns_fd; /* -1: ours */
    int report_fd;
    int *keep; /* sorted, with report_fd among them */
    size_t keep_count;
    enum spawn_kind kind;
    bool own_group;
    pid_t parent;
};

static void plan_done(struct plan *plan)
{
    free(plan->program);
    free(plan->argv);
    free(plan->keep);
    fd_close(&plan->stdout_fd);
    fd_close(&plan->netns_fd);
    fd_close(&plan->report_fd);
}

static bool is_program(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* The path of argv[0], by PATH when it has no slash. */
static char *find_program(const char *name, struct err *err)
{
    const char *path = getenv("PATH");

    if (strchr(name, '/')) {
        if (is_program(name))
            return mem_strdup(name);
        (void)err_set(err, ERR_NOT_FOUND, 0, "%s: no such program", name);
        return NULL;
    }
    if (!path || !*path)
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    for (const char *at = path; *at && *name; at += *at == ':') {
        size_t len = strcspn(at, ":");
        char *candidate = mem_printf("%.*s/%s", (int)len, at, name);
        if (len > 0 && is_program(candidate))
            return candidate;
        free(candidate);
        at += len;
    }
    (void)err_set(err, ERR_NOT_FOUND, 0, "%s: no such program in PATH; hint: install it", name);
    return NULL;
}

static int open_log(const char *path, int *ret_fd, struct err *err)
{
    int flags = O_WRONLY | O_CLOEXEC | (path ? O_CREAT | O_APPEND : 0);
    int fd = open(path ? path : "/dev/null", flags, 0600);

    if (fd < 0)
        return err_set(err, ERR_IO, errno, "%s: open log", path ? path : "/dev/null");
    *ret_fd = fd;
    return 0;
}

static int open_netns(const char *name, int *ret_fd, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join("/run/netns", name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno,
                       "%s: open network namespace", path);
    *ret_fd = fd;
    return 0;
}

/* --- In the child: async-signal-safe calls only, no locks, no memory ---------------------- */

static _Noreturn void child_fail(const struct plan *plan, const char *step)
{
    struct report report = {.kind = REPORT_FAILED, .value = errno};

    (void)strncpy(report.step, step, sizeof(report.step) - 1);
    (void)!write(plan->report_fd, &report, sizeof(report));
    _exit(127);
}

/* Closes everything above stderr but the kept ones, in the gaps between them. */
static void child_close_fds(const struct plan *plan)
{
    unsigned from = 3;

    for (size_t i = 0; i < plan->keep_count; i++) {
        unsigned keep = (unsigned)plan->keep[i];
        if (keep < from)
            continue;
        if (keep > from && syscall(SYS_close_range, from, keep - 1, 0) < 0)
            child_fail(plan, "close_range");
        from = keep + 1;
    }
    if (syscall(SYS_close_range, from, ~0U, 0) < 0)
        child_fail(plan, "close_range");
}

/* The daemon's masks and handlers mean nothing to another program; SIGPIPE ignored would. */
static void child_reset_signals(void)
{
    struct sigaction action;
    sigset_t none;

    memset(&action, 0, sizeof(action));
    action.sa_handler = SIG_DFL;
    for (int n = 1; n < NSIG; n++)
        (void)sigaction(n, &action, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_stdio(const struct plan *plan)
{
    int null_fd = open("/dev/null", O_RDONLY);

    if (null_fd < 0)
        child_fail(plan, "open /dev/null");
    if (null_fd != 0 && dup2(null_fd, 0) < 0)
        child_fail(plan, "dup2 stdin");
    if (dup2(plan->stdout_fd, 1) < 0 || dup2(plan->stdout_fd, 2) < 0)
        child_fail(plan, "dup2 stdout");
}

static void child_keep_open(const struct plan *plan)
{
    for (size_t i = 0; i < plan->keep_count; i++) {
        if (plan->keep[i] == plan->report_fd)
            continue;
        int flags = fcntl(plan->keep[i], F_GETFD);
        if (flags < 0 || fcntl(plan->keep[i], F_SETFD, flags & ~FD_CLOEXEC) < 0)
            child_fail(plan, "keep descriptor");
    }
}

static _Noreturn void child_exec(const struct plan *plan)
{
    child_stdio(plan);
    child_keep_open(plan);
    child_close_fds(plan);
    execv(plan->program, plan->argv);
    child_fail(plan, "exec");
}

static _Noreturn void child_run(const struct plan *plan)
{
    child_reset_signals();
    if (plan->own_group && setpgid(0, 0) < 0)
        child_fail(plan, "setpgid");
    if (plan->netns_fd >= 0 && setns(plan->netns_fd, CLONE_NEWNET) < 0)
        child_fail(plan, "setns");
    if (plan->kind == SPAWN_CHILD) {
        /* If the parent died before prctl, the signal never comes: so look after it. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
            child_fail(plan, "prctl");
        if (getppid() != plan->parent)
            _exit(127);
        child_exec(plan);
    }
    if (setsid() < 0)
        child_fail(plan, "setsid");
    pid_t between = getpid();
    pid_t pid = fork();
    if (pid < 0)
        child_fail(plan, "fork");
    if (pid > 0)
        _exit(0);
    /* Some programs (nbdkit in the foreground) ask to be ended with their parent as soon as they
     * run: that must not be the process between us, which is about to end. */
    const struct timespec moment = {.tv_nsec = 100000};
    while (getppid() == between)
        (void)nanosleep(&moment, NULL);
    struct report report = {.kind = REPORT_PID, .value = getpid()};
    (void)setpgid(0, 0); /* leads its group: it can be ended with all it starts */
    if (write(plan->report_fd, &report, sizeof(report)) != (ssize_t)sizeof(report))
        _exit(127);
    child_exec(plan);
}

/* ------------------------------------------------------------------------------------------ */

static int by_number(const void *a, const void *b)
{
    int x = *(const int *)a;
    int y = *(const int *)b;

    return (x > y) - (x < y);
}

/* Reads until all writing ends are closed, which exec does. */
static int read_reports(const char *program, int fd, pid_t *pid, struct err *err)
{
    struct report report;
    int result = 0;

    for (;;) {
        ssize_t n = read(fd, &report, sizeof(report));
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            return result;
        /* Smaller than PIPE_BUF: reports come whole. */
        if (n != (ssize_t)sizeof(report))
            return err_set(err, ERR_IO, n < 0 ? errno : 0, "%s: start: no report", program);
        if (report.kind == REPORT_PID)
            *pid = report.value;
        else
            result = err_set(
                err, report.value == ENOENT || report.value == ENOTDIR ? ERR_NOT_FOUND : ERR_IO,
                report.value, "%s: start: %s", program, report.step);
    }
}

static void wait_for(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
}

/* A descriptor for stdout must lie above 2, or setting up stdio would overwrite it. */
static int move_up(int *fd, struct err *err)
{
    if (*fd > 2)
        return 0;
    int higher = fcntl(*fd, F_DUPFD_CLOEXEC, 3);
    if (higher < 0)
        return err_set(err, ERR_IO, errno, "dup");
    (void)close(*fd);
    *fd = higher;
    return 0;
}

/* Forks with all signals held, so that no handler of ours runs in the child. */
static pid_t fork_quietly(const struct plan *plan)
{
    sigset_t all;
    sigset_t old;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = fork();
    if (pid == 0)
        child_run(plan);
    int saved = errno;
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    errno = saved;
    return pid;
}

/* `output_fd` -1: the spec's log. */
static int plan_output(struct plan *plan, const char *log_path, int output_fd, struct err *err)
{
    if (output_fd < 0)
        return open_log(log_path, &plan->stdout_fd, err) < 0 ? -1 : move_up(&plan->stdout_fd, err);
    plan->stdout_fd = fcntl(output_fd, F_DUPFD_CLOEXEC, 3);
    return plan->stdout_fd < 0 ? err_set(err, ERR_IO, errno, "dup") : 0;
}

/* The pipe's writing end stays in the plan; `ret_fd` is the reading one. */
static int plan_report(struct plan *plan, int *ret_fd, struct err *err)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(err, ERR_IO, errno, "pipe");
    *ret_fd = ends[0];
    plan->report_fd = ends[1];
    return move_up(&plan->report_fd, err);
}

static void plan_lists(struct plan *plan, const struct proc_spec *spec)
{
    size_t argc = 0;

    while (spec->argv[argc])
        argc++;
    /* execv takes char *const *: the strings are copied by pointer, never written. */
    plan->argv = mem_new_array(char *, argc + 1);
    memcpy(plan->argv, spec->argv, argc * sizeof(*plan->argv));
    plan->keep_count = spec->keep_fd_count + 1;
    plan->keep = mem_new_array(int, plan->keep_count);
    if (spec->keep_fd_count > 0)
        memcpy(plan->keep, spec->keep_fds, spec->keep_fd_count * sizeof(*plan->keep));
    plan->keep[spec->keep_fd_count] = plan->report_fd;
    qsort(plan->keep, plan->keep_count, sizeof(*plan->keep), by_number);
}

int spawn(const struct proc_spec *spec, enum spawn_kind kind, int output_fd, bool own_group,
          pid_t *ret_pid, struct err *err)
{
    CLEANUP(plan_done)
    struct plan plan = {
        .stdout_fd = -1,
        .netns_fd = -1,
        .report_fd = -1,
        .kind = kind,
        .own_group = own_group,
        .parent = getpid(),
    };
    CLEANUP(fd_close) int read_fd = -1;

    plan.program = find_program(spec->argv[0], err);
    if (!plan.program)
        return -1;
    if ((spec->netns && open_netns(spec->netns, &plan.netns_fd, err) < 0)
        || plan_output(&plan, spec->log_path, output_fd, err) < 0
        || plan_report(&plan, &read_fd, err) < 0)
        return err_wrap(err, "%s: start", plan.program);
    plan_lists(&plan, spec);

    pid_t child = fork_quietly(&plan);
    if (child < 0)
        return err_set(err, ERR_IO, errno, "%s: start: fork", plan.program);
    fd_close(&plan.report_fd);
    pid_t pid = kind == SPAWN_CHILD ? child : -1;
    int result = read_reports(plan.program, read_fd, &pid, err);
    if (result < 0 || kind == SPAWN_DETACHED)
        wait_for(child);
    if (result < 0)
        return -1;
    if (pid < 0)
        return err_set(err, ERR_IO, 0, "%s: start: the process ended before it told its pid",
                       plan.program);
    *ret_pid = pid;
    return 0;
}

int proc_spawn_detached(const struct proc_spec *spec, struct proc_id *ret_id, struct err *err)
{
    pid_t pid;

    if (spawn(spec, SPAWN_DETACHED, -1, false, &pid, err) < 0)
        return -1;
    /* It may be over already; then nobody is left to be identified. */
    if (proc_identify(pid, ret_id, err) < 0)
        return err_wrap(err, "%s ended at once", spec->argv[0]);
    return 0;
}

int proc_spawn_child(const struct proc_spec *spec, struct proc_id *ret_id, struct err *err)
{
    pid_t pid;

    if (spawn(spec, SPAWN_CHILD, -1, false, &pid, err) < 0)
        return -1;
    /* At worst a zombie, which still has its entry. */
    if (proc_identify(pid, ret_id, err) < 0) {
        struct proc_id id = {.pid = pid};
        proc_reap(&id, NULL);
        return -1;
    }
    return 0;
}
