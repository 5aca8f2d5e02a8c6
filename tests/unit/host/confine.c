// SPDX-License-Identifier: Apache-2.0
/* The fence behind the sandbox: what a child could do if Lua itself were broken. */
#include "host/child.h"
#include "support/expect.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static int pair[2];

/* The wait status of a confined child that does `act`; `ret_says` gets what it sent us. */
static int confined(int (*act)(void), char *ret_says)
{
    const struct child_bounds bounds = {.address_bytes = 1ULL << 30, .cpu_ms = 200};
    int status = 0;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct err why;
        if (child_confine(pair[1], &bounds, &why) < 0)
            _exit(99);
        _exit(act());
    }
    (void)close(pair[1]);
    *ret_says = '-';
    (void)!read(pair[0], ret_says, 1);
    (void)close(pair[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int act_send(void)
{
    return send(pair[1], "y", 1, MSG_NOSIGNAL) == 1 ? 0 : 1;
}

static int act_open(void)
{
    return open("/etc/passwd", O_RDONLY) < 0;
}

static int act_socket(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0;
}

static int act_fork(void)
{
    return fork() < 0;
}

static int act_exec(void)
{
    return execl("/bin/true", "true", (char *)NULL);
}

static int act_kill(void)
{
    return kill(1, 0);
}

/* The other end was open when it was confined. */
static int act_other_fd(void)
{
    return write(pair[0], "n", 1) == 1;
}

static int act_code_memory(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
           == MAP_FAILED;
}

static int act_spin(void)
{
    volatile int i = 1;

    while (i)
        i = i > 1000 ? 1 : i + 1;
    return i;
}

static int act_memory(void)
{
    char *block = malloc(8U << 20);

    if (!block)
        return 1;
    memset(block, 1, 8U << 20);
    free(block);
    return 0;
}

static void a_confined_child_may_answer_and_use_memory(void **state)
{
    char says;

    (void)state;
    assert_int_equal(confined(act_send, &says), 0);
    assert_int_equal(says, 'y');
    assert_int_equal(confined(act_memory, &says), 0);
}

static void everything_else_kills_it(void **state)
{
    static int (*const acts[])(void) = {act_open, act_socket, act_fork,
                                        act_exec, act_kill,   act_other_fd};
    char says;

    (void)state;
    for (size_t i = 0; i < sizeof(acts) / sizeof(*acts); i++) {
        int status = confined(acts[i], &says);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSYS);
        assert_int_equal(says, '-');
    }
}

static void memory_is_never_code(void **state)
{
    char says;
    int status = confined(act_code_memory, &says);

    (void)state;
    if (CHILD_SANITIZED)
        skip();
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void a_child_that_spins_is_ended_by_its_timer(void **state)
{
    char says;
    int status = confined(act_spin, &says);

    (void)state;
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGPROF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_confined_child_may_answer_and_use_memory),
        cmocka_unit_test(everything_else_kills_it),
        cmocka_unit_test(memory_is_never_code),
        cmocka_unit_test(a_child_that_spins_is_ended_by_its_timer),
    };
    return cmocka_run_group_tests_name("confine", tests, NULL, NULL);
}
