// SPDX-License-Identifier: Apache-2.0
/* Three fences, each enough for what it is there for: bounds of the system (time, memory, no core
 * file with secrets in it), no new privileges, and a seccomp filter that kills. */
#include "host/child.h"

#include "base/mem.h"

#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static int close_others(int fd, struct err *err)
{
    unsigned keep = (unsigned)fd;

    /* A sanitizer reports to stderr, which is a log file or /dev/null. */
    unsigned from = CHILD_SANITIZED ? 3 : 0;
    if ((keep > from && syscall(SYS_close_range, from, keep - 1, 0) < 0)
        || syscall(SYS_close_range, keep + 1, ~0U, 0) < 0)
        return err_set(err, ERR_UNSUPPORTED, errno, "close_range");
    return 0;
}

static int set_bound(int resource, rlim_t soft, rlim_t hard, const char *what, struct err *err)
{
    const struct rlimit limit = {soft, hard};

    if (setrlimit((__rlimit_resource_t)resource, &limit) < 0)
        return err_set(err, ERR_UNSUPPORTED, errno, "setrlimit %s", what);
    return 0;
}

/* The timer counts milliseconds of our own time; RLIMIT_CPU, in seconds, stands behind it. */
static int bound_cpu(int64_t cpu_ms, struct err *err)
{
    struct itimerval timer = {.it_value = {cpu_ms / 1000, cpu_ms % 1000 * 1000}};
    struct rusage used;

    if (getrusage(RUSAGE_SELF, &used) < 0)
        return err_set(err, ERR_UNSUPPORTED, errno, "getrusage");
    rlim_t seconds = (rlim_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec + cpu_ms / 1000 + 2);
    if (set_bound(RLIMIT_CPU, seconds, seconds + 1, "cpu", err) < 0)
        return -1;
    if (signal(SIGPROF, SIG_DFL) == SIG_ERR || setitimer(ITIMER_PROF, &timer, NULL) < 0)
        return err_set(err, ERR_UNSUPPORTED, errno, "setitimer");
    return 0;
}

static int bound_system(const struct child_bounds *bounds, struct err *err)
{
    if (set_bound(RLIMIT_CORE, 0, 0, "core", err) < 0
        || set_bound(RLIMIT_FSIZE, 0, 0, "fsize", err) < 0
        || set_bound(RLIMIT_NPROC, 0, 0, "nproc", err) < 0 || bound_cpu(bounds->cpu_ms, err) < 0)
        return -1;
    if (!CHILD_SANITIZED
        && set_bound(RLIMIT_AS, bounds->address_bytes, bounds->address_bytes, "as", err) < 0)
        return -1;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return err_set(err, ERR_UNSUPPORTED, errno, "prctl");
    return 0;
}

/* A call with only this descriptor. */
static int allow_on(scmp_filter_ctx filter, int call, int fd)
{
    const struct scmp_arg_cmp only = {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)fd};

    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &only);
}

/* What the sanitizers do behind our back. */
static int allow_sanitizer(scmp_filter_ctx filter)
{
    static const int calls[] = {
        SCMP_SYS(mmap),      SCMP_SYS(mprotect),      SCMP_SYS(sigaltstack),
        SCMP_SYS(futex),     SCMP_SYS(getpid),        SCMP_SYS(gettid),
        SCMP_SYS(nanosleep), SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigprocmask),
        SCMP_SYS(tgkill),    SCMP_SYS(sched_yield),   SCMP_SYS(rt_sigaction),
    };
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(calls) && rc == 0; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
    return rc ? rc : allow_on(filter, SCMP_SYS(write), STDERR_FILENO);
}

/* Memory for data, never for code, and no file's. */
static int allow_mmap(scmp_filter_ctx filter)
{
    const struct scmp_arg_cmp data[] = {
        {.arg = 2, .op = SCMP_CMP_MASKED_EQ, .datum_a = PROT_EXEC, .datum_b = 0},
        {.arg = 3, .op = SCMP_CMP_MASKED_EQ, .datum_a = MAP_ANONYMOUS, .datum_b = MAP_ANONYMOUS},
    };

    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(mmap), ARRAY_LEN(data), data);
}

static int allow(scmp_filter_ctx filter, int fd)
{
    static const int always[] = {
        SCMP_SYS(brk),          SCMP_SYS(munmap),     SCMP_SYS(mremap),
        SCMP_SYS(madvise),      SCMP_SYS(exit_group), SCMP_SYS(exit),
        SCMP_SYS(rt_sigreturn), SCMP_SYS(sysinfo), /* glibc's qsort asks how much memory there is */
    };
    static const int on_socket[] = {
        SCMP_SYS(read),
        SCMP_SYS(write),
        SCMP_SYS(recvfrom),
        SCMP_SYS(sendto),
    };
    int rc = 0;

    for (size_t i = 0; i < ARRAY_LEN(always) && rc == 0; i++)
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, always[i], 0);
    for (size_t i = 0; i < ARRAY_LEN(on_socket) && rc == 0; i++)
        rc = allow_on(filter, on_socket[i], fd);
    if (rc)
        return rc;
    return CHILD_SANITIZED ? allow_sanitizer(filter) : allow_mmap(filter);
}

int child_confine(int fd, const struct child_bounds *bounds, struct err *err)
{
    if (close_others(fd, err) < 0 || bound_system(bounds, err) < 0)
        return err_wrap(err, "confine");
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int rc = filter ? allow(filter, fd) : -ENOMEM;
    if (rc == 0)
        rc = seccomp_load(filter);
    if (filter)
        seccomp_release(filter);
    if (rc < 0)
        return err_set(err, ERR_UNSUPPORTED, -rc,
                       "confine: seccomp; hint: the kernel must have CONFIG_SECCOMP_FILTER");
    return 0;
}
