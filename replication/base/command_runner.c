// SPDX-License-Identifier: Apache-2.0
/* The runner: one process per command, in a session of its own, that lives as long as its program.
 * The program leads a process group and dies with the runner, so there is never a program without
 * one who writes down its end. What leaves the group by itself (a service it started) is left alone.
 *
 *   wait: the program's end | its output | SIGTERM to us | the deadline
 *   deadline or SIGTERM: SIGTERM to the group, then after the grace SIGKILL to the group */
#include "base/command.h"
#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/proc_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_NOT_BEGUN 1
#define DRAIN_READS    32 /* a pipe full, and more: what children go on writing is not waited for */

struct output {
    int file; /* -1: could not be written any more; counted all the same */
    uint64_t total;
    size_t head;
    char tail[COMMAND_TAIL_BYTES]; /* a ring; the last byte stands before `at` */
    size_t at;
    uint64_t in_tail; /* bytes that ever came into it */
};

struct runner {
    const char *dir;
    json_t *spec;
    const char *program;
    const char **argv;
    int64_t grace_ms;
    int64_t deadline_ms; /* monotonic; of the next signal */
    pid_t pid;
    int pid_fd;
    int out_fd;
    int signal_fd;
    bool timed_out;
    bool stopped;
    bool killed;
    struct output output;
};

static int64_t now_ms(void)
{
    return clock_real()->now_ms(clock_real());
}

static int64_t wall_ms(void)
{
    return clock_real()->wall_ms(clock_real());
}

/* --- Output ----------------------------------------------------------------------------------- */

static void put(struct output *output, const char *bytes, size_t len)
{
    while (len > 0 && output->file >= 0) {
        ssize_t n = write(output->file, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            fd_close(&output->file); /* a full disk costs output, not the command */
            return;
        }
        bytes += n;
        len -= (size_t)n;
    }
}

static void take(struct output *output, const char *bytes, size_t len)
{
    size_t room = COMMAND_HEAD_BYTES - output->head;
    size_t head = len < room ? len : room;

    output->total += len;
    output->head += head;
    put(output, bytes, head);
    for (size_t i = head; i < len; i++) {
        output->tail[output->at] = bytes[i];
        output->at = (output->at + 1) % COMMAND_TAIL_BYTES;
    }
    output->in_tail += len - head;
}

static uint64_t dropped(const struct output *output)
{
    return output->in_tail > COMMAND_TAIL_BYTES ? output->in_tail - COMMAND_TAIL_BYTES : 0;
}

static void finish_output(struct output *output)
{
    char line[80];

    if (dropped(output) > 0) {
        int len = snprintf(line, sizeof(line), "\n(%" PRIu64 " bytes of output left out)\n",
                           dropped(output));
        put(output, line, (size_t)len);
        put(output, output->tail + output->at, COMMAND_TAIL_BYTES - output->at);
    }
    put(output, output->tail, output->at);
    if (output->file >= 0)
        (void)fsync(output->file);
}

/* 1 more may come, 0 end, -1 nothing there now. */
static int read_some(struct runner *runner)
{
    char buf[16384];
    ssize_t n = read(runner->out_fd, buf, sizeof(buf));

    if (n < 0)
        return errno == EINTR ? 1 : -1;
    take(&runner->output, buf, (size_t)n);
    return n > 0;
}

/* --- The program ------------------------------------------------------------------------------ */

/* The program's end is seen by pid_fd, before it is reaped: until then the number of its group
 * belongs to nobody else. */
static void signal_group(const struct runner *runner, int number)
{
    (void)kill(-runner->pid, number);
}

static void end_group(struct runner *runner)
{
    if (runner->timed_out || runner->stopped) {
        signal_group(runner, SIGKILL);
        runner->killed = true;
        runner->deadline_ms = INT64_MAX;
        return;
    }
    signal_group(runner, SIGTERM);
    runner->deadline_ms = now_ms() + runner->grace_ms;
}

static int wait_ms(const struct runner *runner)
{
    int64_t left = runner->deadline_ms == INT64_MAX ? -1 : runner->deadline_ms - now_ms();

    if (runner->deadline_ms != INT64_MAX && left < 0)
        left = 0;
    return left > 60000 ? 60000 : (int)left;
}

static void on_deadline(struct runner *runner)
{
    bool first = !runner->timed_out && !runner->stopped;

    end_group(runner);
    if (first)
        runner->timed_out = true;
}

static void on_signal(struct runner *runner)
{
    struct signalfd_siginfo info;

    if (read(runner->signal_fd, &info, sizeof(info)) != (ssize_t)sizeof(info) || runner->timed_out
        || runner->stopped)
        return;
    end_group(runner);
    runner->stopped = true;
}

/* Until the program is over. */
static void follow(struct runner *runner)
{
    bool open = true;

    for (;;) {
        struct pollfd fds[3] = {
            {.fd = runner->pid_fd, .events = POLLIN},
            {.fd = runner->signal_fd, .events = POLLIN},
            {.fd = open ? runner->out_fd : -1, .events = POLLIN},
        };
        if (poll(fds, 3, wait_ms(runner)) < 0)
            continue; /* EINTR: nothing else can be */
        if (fds[2].revents)
            open = read_some(runner) != 0;
        if (fds[0].revents)
            break;
        if (fds[1].revents)
            on_signal(runner);
        if (now_ms() >= runner->deadline_ms)
            on_deadline(runner);
    }
    for (int i = 0; open && i < DRAIN_READS && read_some(runner) > 0; i++)
        ;
    if (runner->timed_out || runner->stopped)
        signal_group(runner, SIGKILL); /* what it left behind in its group */
}

static int start_program(struct runner *runner, struct err *err)
{
    CLEANUP(fd_close) int in_fd = -1;
    const struct proc_spec spec = {.argv = runner->argv};
    const char *key;
    json_t *value;
    int ends[2];

    json_object_foreach(json_object_get(runner->spec, "env"), key, value) {
        if (setenv(key, json_string_value(value) ? json_string_value(value) : "", 1) < 0)
            return err_set(err, ERR_INVALID, errno, "env: %s", key);
    }
    if (pipe2(ends, O_CLOEXEC) < 0)
        return err_set(err, ERR_IO, errno, "pipe");
    runner->out_fd = ends[0];
    in_fd = ends[1];
    if (fcntl(runner->out_fd, F_SETFL, O_NONBLOCK) < 0)
        return err_set(err, ERR_IO, errno, "pipe");
    if (spawn(&spec, SPAWN_CHILD, in_fd, true, &runner->pid, err) < 0)
        return -1;
    runner->pid_fd = (int)syscall(SYS_pidfd_open, runner->pid, 0);
    if (runner->pid_fd >= 0)
        return 0;
    (void)err_set(err, ERR_IO, errno, "pidfd_open");
    signal_group(runner, SIGKILL);
    return -1;
}

/* --- Records ---------------------------------------------------------------------------------- */

static int write_started(const struct runner *runner, struct err *err)
{
    CLEANUP(json_freep) json_t *started = NULL;
    struct proc_id self;
    char boot[64];

    if (command_boot_id(boot, err) < 0 || proc_identify(getpid(), &self, err) < 0)
        return -1;
    started =
        json_pack("{s:s, s:I, s:I, s:I}", "boot_id", boot, "pid", (json_int_t)self.pid,
                  "start_ticks", (json_int_t)self.start_ticks, "started_ms", (json_int_t)wall_ms());
    return command_write(runner->dir, "started.json", started, err);
}

static int write_result(struct runner *runner, int status, const char *why, struct err *err)
{
    bool signalled = !*why && WIFSIGNALED(status);
    int exit_status = *why || signalled ? -1 : WEXITSTATUS(status);
    CLEANUP(json_freep)
    json_t *result = json_pack(
        "{s:i, s:i, s:b, s:b, s:s, s:I, s:I, s:I}", "exit_status", exit_status, "signal",
        signalled ? WTERMSIG(status) : 0, "timed_out", runner->timed_out, "stopped",
        runner->stopped, "why", why, "ended_ms", (json_int_t)wall_ms(), "output_bytes",
        (json_int_t)runner->output.total, "dropped_bytes", (json_int_t)dropped(&runner->output));

    return command_write(runner->dir, "result.json", result, err);
}

static int read_spec(struct runner *runner, struct err *err)
{
    uint64_t within_ms;
    uint64_t grace_ms;
    json_t *args;

    if (command_read(runner->dir, "spec.json", &runner->spec, err) < 0
        || json_need_str(runner->spec, "program", "spec.json", &runner->program, err) < 0
        || json_need_array(runner->spec, "args", "spec.json", &args, err) < 0
        || json_need_u64(runner->spec, "within_ms", "spec.json", &within_ms, err) < 0
        || json_need_u64(runner->spec, "grace_ms", "spec.json", &grace_ms, err) < 0)
        return -1;
    size_t count = json_array_size(args);
    runner->argv = mem_new_array(const char *, count + 2);
    runner->argv[0] = runner->program;
    for (size_t i = 0; i < count; i++) {
        runner->argv[i + 1] = json_string_value(json_array_get(args, i));
        if (!runner->argv[i + 1])
            return err_set(err, ERR_INVALID, 0, "spec.json: argument %zu is no text", i + 1);
    }
    runner->grace_ms = (int64_t)grace_ms;
    runner->deadline_ms = now_ms() + (int64_t)within_ms;
    return 0;
}

/* SIGTERM reaches us by a descriptor; the program gets clean signals from spawn(). */
static int catch_signals(struct runner *runner, struct err *err)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return err_set(err, ERR_IO, errno, "block signals");
    runner->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return runner->signal_fd < 0 ? err_set(err, ERR_IO, errno, "signalfd") : 0;
}

static int open_output(struct runner *runner, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(runner->dir, "output");

    runner->output.file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    return runner->output.file < 0 ? err_set(err, ERR_IO, errno, "%s: open", path) : 0;
}

/* From here on it has been begun: whatever fails goes into the result. */
static int run_program(struct runner *runner, struct err *err)
{
    struct err failure = ERR_EMPTY;
    int status = 0;

    if (start_program(runner, &failure) < 0)
        return write_result(runner, 0, failure.text, err);
    follow(runner);
    const struct proc_id id = {.pid = runner->pid};
    proc_reap(&id, &status);
    finish_output(&runner->output);
    return write_result(runner, status, "", err);
}

static bool is_there(const struct runner *runner, const char *name)
{
    CLEANUP(mem_freep) char *path = path_join(runner->dir, name);

    return fs_exists(path);
}

static int serve(struct runner *runner, struct err *err)
{
    CLEANUP(mem_freep) char *lock = path_join(runner->dir, "lock");
    CLEANUP(fd_close) int lock_fd = -1;

    if (fs_lock(lock, &lock_fd, err) < 0) {
        if (err->code != ERR_BUSY)
            return -1;
        return 0; /* another one does it */
    }
    if (is_there(runner, "started.json") || is_there(runner, "result.json"))
        return 0;
    if (read_spec(runner, err) < 0 || catch_signals(runner, err) < 0 || open_output(runner, err) < 0
        || write_started(runner, err) < 0)
        return -1;
    return run_program(runner, err);
}

int command_main(int argc, char **argv)
{
    struct err err = ERR_EMPTY;

    if (argc != 3)
        return 2; /* only ever called by command_begin */
    struct runner *runner = mem_new(struct runner);
    runner->dir = argv[2];
    runner->pid_fd = runner->out_fd = runner->signal_fd = runner->output.file = -1;
    int rc = serve(runner, &err);
    if (rc < 0)
        (void)fprintf(stderr, "%s\n", err.text);
    fd_close(&runner->pid_fd);
    fd_close(&runner->out_fd);
    fd_close(&runner->signal_fd);
    fd_close(&runner->output.file);
    json_decref(runner->spec);
    free(runner->argv);
    free(runner);
    return rc < 0 ? EXIT_NOT_BEGUN : 0;
}
