// SPDX-License-Identifier: Apache-2.0
#include "base/proc.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/process.h"
#include "support/tmpdir.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SPEC(...)                     \
    (struct proc_spec)                \
    {                                 \
        .argv = (const char *const[]) \
        {                             \
            __VA_ARGS__, NULL         \
        }                             \
    }

/* Waits for what another process does soon; fails after ten seconds. */
#define EVENTUALLY(condition)                                 \
    do {                                                      \
        for (int tries_ = 0; !(condition); tries_++) {        \
            if (tries_ == 5000)                               \
                fail_msg("%s did not come true", #condition); \
            EXPECT_OK(cancel_sleep(NULL, 2, &err));           \
        }                                                     \
    } while (0)

static void expect_run(const struct proc_spec *spec, int want_status, const char *want_output)
{
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status = -1;

    EXPECT_OK(proc_run(spec, 10000, &output, &status, NULL, &err));
    assert_string_equal(str_text(&output), want_output);
    assert_int_equal(status, want_status);
}

static void text_of(const char *path, struct str *ret_text)
{
    EXPECT_OK(fs_read_file(fs_real(), path, 10000, ret_text, &err));
}

static void output_and_exit_code_come_back(void **state)
{
    struct proc_spec spec = SPEC("sh", "-c", "echo out; echo err >&2; exit 3");

    (void)state;
    expect_run(&spec, 3, "out\nerr\n");
}

static void arguments_pass_no_shell(void **state)
{
    struct proc_spec spec = SPEC("printf", "%s|", "a b", "$HOME", "`id`", "");

    (void)state;
    expect_run(&spec, 0, "a b|$HOME|`id`||");
}

static void a_signal_counts_from_128(void **state)
{
    struct proc_spec spec = SPEC("sh", "-c", "kill -TERM $$");

    (void)state;
    expect_run(&spec, 128 + SIGTERM, "");
}

static void a_program_reads_nothing(void **state)
{
    struct proc_spec spec = SPEC("cat");

    (void)state;
    expect_run(&spec, 0, "");
}

static void a_missing_program_is_not_found(void **state)
{
    struct proc_spec by_name = SPEC("no-such-program-here");
    struct proc_spec by_path = SPEC("/no/such/program");
    struct proc_spec folder = SPEC("/tmp");
    CLEANUP(str_free) struct str output = STR_EMPTY;
    struct proc_id id;
    int status;

    (void)state;
    EXPECT_ERR(ERR_NOT_FOUND, proc_run(&by_name, 100, &output, &status, NULL, &err));
    EXPECT_TEXT("no-such-program-here");
    EXPECT_ERR(ERR_NOT_FOUND, proc_run(&by_path, 100, &output, &status, NULL, &err));
    EXPECT_ERR(ERR_NOT_FOUND, proc_run(&folder, 100, &output, &status, NULL, &err));
    EXPECT_ERR(ERR_NOT_FOUND, proc_spawn_detached(&by_name, &id, &err));
    EXPECT_ERR(ERR_NOT_FOUND, proc_spawn_child(&by_name, &id, &err));
}

static void a_file_that_cannot_be_executed_is_told_with_the_step(void **state)
{
    CLEANUP(mem_freep) char *path = path_join(*state, "prog");
    struct proc_spec spec = SPEC(path);
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status;

    EXPECT_OK(fs_replace_file(fs_real(), path, "no magic", 8, 0700, &err));
    EXPECT_ERR(ERR_IO, proc_run(&spec, 100, &output, &status, NULL, &err));
    EXPECT_TEXT("exec");
    EXPECT_TEXT("Exec format error");
    EXPECT_OK(fs_replace_file(fs_real(), path, "#!/no/interpreter\n", 18, 0700, &err));
    EXPECT_ERR(ERR_NOT_FOUND, proc_run(&spec, 100, &output, &status, NULL, &err));
}

static void too_much_output_is_dropped_and_said(void **state)
{
    struct proc_spec spec = SPEC("sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x");
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status;

    (void)state;
    EXPECT_OK(proc_run(&spec, 1000, &output, &status, NULL, &err));
    assert_int_equal(status, 0);
    assert_true(output.len < 1100);
    assert_non_null(strstr(output.ptr, "299000 more bytes"));
}

static void a_deadline_kills_the_program_and_what_it_started(void **state)
{
    CLEANUP(mem_freep) char *pid_file = path_join(*state, "pid");
    CLEANUP(mem_freep)
    char *script = mem_printf("sleep 1000 & echo $! > %s.new; mv %s.new %s; wait", pid_file,
                              pid_file, pid_file);
    struct proc_spec spec = SPEC("sh", "-c", script);
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(NULL, NULL, 300);
    CLEANUP(str_free) struct str output = STR_EMPTY;
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct proc_id id;
    uint64_t pid;
    int status;

    EXPECT_ERR(ERR_TIMEOUT, proc_run(&spec, 1000, &output, &status, cancel, &err));
    EXPECT_TEXT("sh");
    if (!fs_exists(pid_file))
        return; /* a busy machine: killed before it came that far */
    text_of(pid_file, &text);
    assert_true(str_to_u64(str_text(&text), &pid));
    err_clear(&err);
    if (proc_identify((pid_t)pid, &id, &err) == 0)
        EVENTUALLY(!proc_is_alive(&id));
}

static void a_cancelled_run_does_not_begin(void **state)
{
    struct proc_spec spec = SPEC("true");
    CLEANUP(cancel_freep) struct cancel *cancel = cancel_new(NULL, NULL, CANCEL_NEVER);
    CLEANUP(str_free) struct str output = STR_EMPTY;
    int status;

    (void)state;
    cancel_fire(cancel);
    EXPECT_ERR(ERR_CANCELLED, proc_run(&spec, 1000, &output, &status, cancel, &err));
}

static void a_program_that_leaves_a_child_behind_is_over_all_the_same(void **state)
{
    struct proc_spec spec = SPEC("sh", "-c", "sleep 30 & echo $!");
    CLEANUP(str_free) struct str output = STR_EMPTY;
    uint64_t pid;
    int status;

    (void)state;
    EXPECT_OK(proc_run(&spec, 1000, &output, &status, NULL, &err));
    assert_true(str_to_u64(str_text(&output), &pid));
    assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
}

static void a_program_that_must_succeed_tells_its_last_line(void **state)
{
    const char *const good[] = {"true", NULL};
    const char *const bad[] = {"sh", "-c", "echo first; echo the reason; echo; exit 4", NULL};

    (void)state;
    EXPECT_OK(proc_must(good, NULL, &err));
    EXPECT_ERR(ERR_IO, proc_must(bad, NULL, &err));
    assert_string_equal(err.text, "sh: exit code 4: the reason");
}

static void only_kept_descriptors_are_open_in_the_program(void **state)
{
    CLEANUP(fd_close) int leaked = open("/dev/null", O_RDONLY); /* without close-on-exec */
    CLEANUP(fd_close) int kept = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    CLEANUP(mem_freep) char *script = mem_printf("ls /proc/$$/fd; head -c 3 <&%d | wc -c", kept);
    CLEANUP(mem_freep) char *want = mem_printf("0\n1\n2\n%d\n3\n", kept);
    struct proc_spec spec = SPEC("sh", "-c", script);

    (void)state;
    assert_true(leaked >= 0 && kept > leaked);
    spec.keep_fds = &kept;
    spec.keep_fd_count = 1;
    expect_run(&spec, 0, want);
}

static void signals_of_ours_mean_nothing_to_the_program(void **state)
{
    struct proc_spec spec = SPEC("sh", "-c", "kill -PIPE $$; echo ignored");
    sigset_t pipe_only;

    (void)state;
    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    (void)sigprocmask(SIG_BLOCK, &pipe_only, NULL);
    expect_run(&spec, 128 + SIGPIPE, "");
    (void)sigprocmask(SIG_UNBLOCK, &pipe_only, NULL);
}

static void a_child_is_reaped_with_its_status(void **state)
{
    struct proc_spec ends = SPEC("sh", "-c", "exit 7");
    struct proc_spec stays = SPEC("sleep", "1000");
    struct proc_id id;
    int status;

    (void)state;
    EXPECT_OK(proc_spawn_child(&ends, &id, &err));
    EVENTUALLY(!proc_is_alive(&id));
    proc_reap(&id, &status);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    EXPECT_OK(proc_spawn_child(&stays, &id, &err));
    assert_true(proc_is_alive(&id));
    proc_reap(&id, &status);
    assert_true(WIFSIGNALED(status));
    assert_false(proc_is_alive(&id));
}

static void write_id(const char *dir, const char *name, const struct proc_id *id)
{
    CLEANUP(mem_freep) char *path = path_join(dir, name);

    if (fs_replace_file(fs_real(), path, id, sizeof(*id), 0600, NULL) < 0)
        _exit(1);
}

static void read_id(const char *dir, const char *name, struct proc_id *ret_id)
{
    CLEANUP(mem_freep) char *path = path_join(dir, name);
    CLEANUP(str_free) struct str bytes = STR_EMPTY;

    text_of(path, &bytes);
    assert_int_equal(bytes.len, sizeof(*ret_id));
    memcpy(ret_id, bytes.ptr, sizeof(*ret_id));
}

static void start_one_of_each(void *dir)
{
    struct proc_spec spec = SPEC("sleep", "1000");
    struct proc_id id;

    if (proc_spawn_child(&spec, &id, NULL) < 0)
        _exit(1);
    write_id(dir, "child", &id);
    if (proc_spawn_detached(&spec, &id, NULL) < 0)
        _exit(1);
    write_id(dir, "detached", &id);
    (void)kill(getpid(), SIGKILL);
}

static void a_child_dies_with_us_and_a_detached_program_does_not(void **state)
{
    struct proc_id child;
    struct proc_id detached;

    int status = process_status(start_one_of_each, *state);
    assert_true(WIFSIGNALED(status));
    read_id(*state, "child", &child);
    read_id(*state, "detached", &detached);
    EVENTUALLY(!proc_is_alive(&child));
    assert_true(proc_is_alive(&detached));
    assert_int_equal(getsid(detached.pid) == getsid(0), 0);
    assert_int_equal(getpgid(detached.pid), detached.pid);
    EXPECT_OK(proc_end(&detached, 10000, NULL, &err));
    assert_false(proc_is_alive(&detached));
    EXPECT_OK(proc_end(&detached, 10000, NULL, &err));
}

/* As nbdkit does in the foreground. */
static void a_detached_program_that_ends_with_its_parent_goes_on(void **state)
{
    struct proc_spec spec = SPEC("setpriv", "--pdeathsig", "TERM", "sleep", "100");
    struct proc_id ids[20];
    size_t alive = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        EXPECT_OK(proc_spawn_detached(&spec, &ids[i], &err));
    EXPECT_OK(cancel_sleep(NULL, 100, &err));
    for (size_t i = 0; i < ARRAY_LEN(ids); i++) {
        alive += proc_is_alive(&ids[i]);
        EXPECT_OK(proc_end(&ids[i], 1000, NULL, &err));
    }
    assert_int_equal(alive, ARRAY_LEN(ids));
}

static void who_ignores_sigterm_is_killed_after_the_grace(void **state)
{
    CLEANUP(mem_freep) char *ready = path_join(*state, "ready");
    CLEANUP(mem_freep)
    char *script = mem_printf("trap '' TERM; : > %s; while :; do sleep 0.01; done", ready);
    struct proc_spec spec = SPEC("sh", "-c", script);
    struct proc_id id;

    EXPECT_OK(proc_spawn_detached(&spec, &id, &err));
    EVENTUALLY(fs_exists(ready));
    EXPECT_OK(proc_end(&id, 50, NULL, &err));
    assert_false(proc_is_alive(&id));
}

static void *stay(void *unused)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        (void)pause();
    return unused;
}

/* As a QEMU that was killed and whose disk takes its time: one thread is still in a write. */
static void a_process_lives_as_long_as_any_of_its_threads(void **state)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct proc_id id;
    char path[64];

    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, stay, NULL) != 0)
            _exit(1);
        (void)syscall(SYS_exit, 0); /* of this thread alone */
    }
    EXPECT_OK(proc_identify(pid, &id, &err));
    (void)snprintf(path, sizeof(path), "/proc/%ld/status", (long)pid);
    EVENTUALLY((str_clear(&text), text_of(path, &text), strstr(str_text(&text), "Z (zombie)")));
    assert_true(proc_is_alive(&id));
    EXPECT_OK(proc_end(&id, 0, NULL, &err));
    assert_false(proc_is_alive(&id));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void the_age_of_a_process_is_counted_from_its_start(void **state)
{
    struct proc_id first, we;

    (void)state;
    EXPECT_OK(proc_identify(1, &first, &err));
    EXPECT_OK(proc_identify(getpid(), &we, &err));
    assert_true(proc_age_ms(&first) >= proc_age_ms(&we));
    assert_true(proc_age_ms(&we) < 600000);
    int64_t before = proc_age_ms(&we);
    usleep(20000);
    assert_true(proc_age_ms(&we) >= before + 20);
}

static void another_process_with_the_same_pid_is_not_ours(void **state)
{
    struct proc_spec spec = SPEC("sleep", "1000");
    struct proc_id id;

    (void)state;
    EXPECT_OK(proc_spawn_child(&spec, &id, &err));
    struct proc_id older = {id.pid, id.start_ticks - 1};
    assert_false(proc_is_alive(&older));
    EXPECT_OK(proc_end(&older, 1000, NULL, &err));
    assert_true(proc_is_alive(&id));
    proc_reap(&id, NULL);
    EXPECT_ERR(ERR_NOT_FOUND, proc_identify(id.pid, &older, &err));
}

static void output_is_appended_to_the_log(void **state)
{
    CLEANUP(mem_freep) char *log = path_join(*state, "log");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct proc_spec spec = SPEC("sh", "-c", "echo out; echo err >&2");
    struct proc_id id;

    spec.log_path = log;
    for (int i = 0; i < 2; i++) {
        EXPECT_OK(proc_spawn_child(&spec, &id, &err));
        EVENTUALLY(!proc_is_alive(&id));
        proc_reap(&id, NULL);
    }
    text_of(log, &text);
    assert_string_equal(str_text(&text), "out\nerr\nout\nerr\n");
}

static void a_network_namespace_that_is_missing_is_named(void **state)
{
    struct proc_spec spec = SPEC("true");
    struct proc_id id;

    (void)state;
    spec.netns = "no-such-namespace";
    EXPECT_ERR(ERR_NOT_FOUND, proc_spawn_child(&spec, &id, &err));
    EXPECT_TEXT("/run/netns/no-such-namespace");
}

static void a_program_enters_its_network_namespace(void **state)
{
    CLEANUP(mem_freep) char *name = mem_printf("muster-test-%ld", (long)getpid());
    const char *const add[] = {"ip", "netns", "add", name, NULL};
    const char *const del[] = {"ip", "netns", "del", name, NULL};
    struct proc_spec spec = SPEC("readlink", "/proc/self/ns/net");
    CLEANUP(str_free) struct str ours = STR_EMPTY;
    CLEANUP(str_free) struct str theirs = STR_EMPTY;
    int status;

    (void)state;
    if (getuid() != 0 || proc_must(add, NULL, &err) < 0)
        skip();
    EXPECT_OK(proc_run(&spec, 100, &ours, &status, NULL, &err));
    spec.netns = name;
    int result = proc_run(&spec, 100, &theirs, &status, NULL, &err);
    EXPECT_OK(proc_must(del, NULL, &err));
    assert_int_equal(result, 0);
    assert_true(str_starts(str_text(&theirs), "net:"));
    assert_string_not_equal(str_text(&ours), str_text(&theirs));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_exit_code_come_back),
        cmocka_unit_test(arguments_pass_no_shell),
        cmocka_unit_test(a_signal_counts_from_128),
        cmocka_unit_test(a_program_reads_nothing),
        cmocka_unit_test(a_missing_program_is_not_found),
        TMPDIR_TEST(a_file_that_cannot_be_executed_is_told_with_the_step),
        cmocka_unit_test(too_much_output_is_dropped_and_said),
        TMPDIR_TEST(a_deadline_kills_the_program_and_what_it_started),
        cmocka_unit_test(a_cancelled_run_does_not_begin),
        cmocka_unit_test(a_program_that_leaves_a_child_behind_is_over_all_the_same),
        cmocka_unit_test(a_program_that_must_succeed_tells_its_last_line),
        cmocka_unit_test(only_kept_descriptors_are_open_in_the_program),
        cmocka_unit_test(signals_of_ours_mean_nothing_to_the_program),
        cmocka_unit_test(a_child_is_reaped_with_its_status),
        TMPDIR_TEST(a_child_dies_with_us_and_a_detached_program_does_not),
        cmocka_unit_test(a_detached_program_that_ends_with_its_parent_goes_on),
        TMPDIR_TEST(who_ignores_sigterm_is_killed_after_the_grace),
        cmocka_unit_test(the_age_of_a_process_is_counted_from_its_start),
        cmocka_unit_test(a_process_lives_as_long_as_any_of_its_threads),
        cmocka_unit_test(another_process_with_the_same_pid_is_not_ours),
        TMPDIR_TEST(output_is_appended_to_the_log),
        cmocka_unit_test(a_network_namespace_that_is_missing_is_named),
        cmocka_unit_test(a_program_enters_its_network_namespace),
    };
    return cmocka_run_group_tests_name("proc", tests, NULL, NULL);
}
