// SPDX-License-Identifier: Apache-2.0
/* A plan with three functions is killed at each of its journal records and effects (the daemon), and
 * at each line of the conversations with its functions (their children). It ends as the run that
 * nobody killed, with the same journal and no effect twice; or it waits for a person, exactly when
 * an action was begun of which nobody can tell. */
#include "base/mem.h"
#include "base/proc.h"
#include "plan/plan.h"
#include "run/run.h"
#include "support/expect.h"
#include "support/host/host_child.h"
#include "support/run/marks.h"
#include "support/run/run_world.h"
#include "support/tmpdir.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define POINTS_MAX 1000
#define WALL_MS    1700000000000

static const char source[] =
    "local names = { \"a\", \"b\" }\n"
    "return plan \"shop\" {\n"
    "  stage \"S\" {\n"
    "    step \"Up\" { failover \"db1\" },\n"
    "    step \"One\" {\n"
    "      function(act)\n"
    "        act(wait_until { agent = \"db1\", within = \"10m\" })\n"
    "        for _, name in ipairs(names) do act(mark(name)) end\n"
    "        local ok, e = pcall(act, mark \"bad\")\n"
    "        return { count = #names, ok = ok, code = e.code }\n"
    "      end,\n"
    "    },\n"
    "    parallel {\n"
    "      step \"Two\" {\n"
    "        function(act)\n"
    "          for i = 1, result(\"One\").count do act(mark(\"c\" .. i)) end\n"
    "          act(shout \"d\")\n"
    "          return act(mark(result(\"One\").code)).mark\n"
    "        end,\n"
    "      },\n"
    "      step \"Beside\" { mark \"e\" },\n"
    "    },\n"
    "    step \"Three\" {\n"
    "      function(act)\n"
    "        if act(check { agent = \"db1\" }).answer then act(mark(\"f\" .. result \"Two\")) end\n"
    "        error(\"not today\")\n"
    "      end,\n"
    "      retry = { times = 1, wait = \"1s\" }, on_failure = \"continue\",\n"
    "    },\n"
    "  },\n"
    "}\n";

/* Lines between daemon and children, counted over all of them; at line `kill_at` the child is killed,
 * before it is passed on or after. */
struct relay {
    _Atomic int lines;
    int kill_at; /* 0: never */
    bool after;
};

struct shared {
    struct clock_tick tick;
    struct sim_world sim;
    struct marks marks;
    struct relay relay;
    char end[32];
};

/* --- The relay, which stands for the child ------------------------------------------------------- */

static void relay_die(pid_t child)
{
    (void)kill(child, SIGKILL);
    (void)kill(getpid(), SIGKILL);
}

/* Passes on what is there; false at the end. `begun`: within a line. */
static bool pass(struct relay *relay, int from, int to, bool *begun, pid_t child)
{
    static char chunk[65536];
    ssize_t n = read(from, chunk, sizeof(chunk));
    bool is_it = false;

    if (n <= 0)
        return false;
    if (!*begun)
        is_it = atomic_fetch_add(&relay->lines, 1) + 1 == relay->kill_at;
    *begun = chunk[n - 1] != '\n';
    if (is_it && !relay->after)
        relay_die(child);
    for (ssize_t at = 0; at < n;) {
        ssize_t sent = send(to, chunk + at, (size_t)(n - at), MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
    }
    if (is_it && !*begun)
        relay_die(child);
    return true;
}

/* As host_main: MUSTER lua-host DESCRIPTOR. The real child is behind us. */
static int relay_main(const char *descriptor)
{
    int fd = (int)strtol(descriptor, NULL, 10);
    int memory = open(getenv("BODY_RELAY"), O_RDWR | O_CLOEXEC);
    struct shared *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    const char *program = MUSTER_BINARY_DIR "/muster-lua-host-test";
    bool begun[2] = {false, false};
    char text[16];
    int pair[2];

    if (shared == MAP_FAILED || socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0)
        return 3;
    (void)snprintf(text, sizeof(text), "%d", pair[1]);
    pid_t child = fork();
    if (child == 0) {
        (void)close(fd);
        (void)close(pair[0]);
        (void)execl(program, program, "lua-host", text, (char *)NULL);
        _exit(4);
    }
    (void)close(pair[1]);
    (void)fcntl(fd, F_SETFL, 0);
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = pair[0], .events = POLLIN}};
    while (poll(fds, 2, -1) > 0) {
        if (fds[0].revents && !pass(&shared->relay, fd, pair[0], &begun[0], child))
            break;
        if (fds[1].revents && !pass(&shared->relay, pair[0], fd, &begun[1], child))
            break;
    }
    int status = 0;
    (void)close(pair[0]);
    (void)waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 5;
}

/* --- The life of one process ----------------------------------------------------------------------- */

static int64_t find_run(struct run_world *world)
{
    struct state_runs rows = VEC_EMPTY;
    int64_t id = 0;

    EXPECT_OK(state_run_list(world->state, false, &rows, &err));
    if (rows.len > 0)
        id = rows.at[0].id;
    state_runs_done(&rows);
    return id;
}

static void open_world(struct run_world *world, struct host *host, const char *dir,
                       struct shared *shared)
{
    static char self[256];
    struct run_tools tools = {.host = host};
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

    assert_true(len > 0);
    *host = host_for_test();
    if (getenv("BODY_RELAY"))
        host->program = self;
    tools.verbs = marks_verbs(&tools.verb_count);
    marks_use(&shared->marks);
    run_world_open_with(world, dir, &shared->tick, &shared->sim, &tools);
}

static void live(const char *dir, struct shared *shared)
{
    struct run_world world;
    struct host host;

    open_world(&world, &host, dir, shared);
    EXPECT_OK(runner_recover(world.runner, &err));
    run_world_commit(&world);
    int64_t run = find_run(&world);
    if (!run)
        run = run_world_start_stored(&world, "shop", RUN_TEST);
    (void)snprintf(shared->end, sizeof(shared->end), "%s", run_world_settle(&world, run));
    run_world_close(&world);
}

/* True: it was killed at its `nth` point; false: it came to its end before. */
static bool live_in_child(const char *dir, struct shared *shared, int nth)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        CLEANUP(mem_freep) char *spec = mem_printf("*:%d", nth);
        if (nth > 0)
            (void)setenv("MUSTER_CRASH", spec, 1);
        live(dir, shared);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && nth > 0)
        return true;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_msg("point %d: the process ended with %d", nth, status);
    return false;
}

/* The plan and the protections are there before the first run. */
static void prepare(const char *dir, struct shared *shared)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct host host = host_for_test();
        struct plan_world plans = {.here = "lyon"};
        struct run_world world;
        struct plan *plan;
        plans.verbs = marks_verbs(&plans.verb_count);
        EXPECT_OK(
            plan_load(&host, &plans, "shop.lua", source, strlen(source), &plan, NULL, NULL, &err));
        open_world(&world, &host, dir, shared);
        run_world_protect(&world);
        run_world_store(&world, "shop", source, plan->document);
        run_world_close(&world);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* --- One try ----------------------------------------------------------------------------------------- */

struct
try {
    struct shared *shared;
    void *dir;
    char path[256]; /* of the shared memory */
};

static void try_begin(struct try *try)
{
    assert_int_equal(tmpdir_setup(&try->dir), 0);
    (void)snprintf(try->path, sizeof(try->path), "%s/shared", (char *)try->dir);
    int fd = open(try->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, sizeof(struct shared)), 0);
    try->shared = mmap(NULL, sizeof(*try->shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(try->shared, MAP_FAILED);
    (void)close(fd);
    clock_tick_init(&try->shared->tick, WALL_MS, 100);
    run_world_people(&try->shared->sim, &try->shared->tick);
    try->shared->sim.boot_ms = 600;
    prepare(try->dir, try->shared);
}

static void try_end(struct try *try)
{
    (void)munmap(try->shared, sizeof(*try->shared));
    assert_int_equal(tmpdir_teardown(&try->dir), 0);
}

static void read_journal(const struct try *try, struct state_actions *ret_rows)
{
    CLEANUP(mem_freep) char *path = mem_printf("%s/state.db", (char *)try->dir);
    struct state *state = NULL;

    EXPECT_OK(state_open(path, &state, &err));
    EXPECT_OK(state_action_list(state, 1, ret_rows, &err));
    state_close(state);
}

/* All that does not depend on when: results of waiting, and of starting, have times in them. */
static char *journal_text(const struct try *try)
{
    CLEANUP(state_actions_done) struct state_actions rows = VEC_EMPTY;
    struct str text = STR_EMPTY;

    read_journal(try, &rows);
    str_add(&text, "");
    VEC_FOREACH(row, &rows) {
        bool timed = strcmp(row->verb, "wait_until") == 0 || strcmp(row->verb, "failover") == 0
                     || strncmp(row->verb, "core_", 5) == 0;
        str_addf(&text, "%d.%d.%d %s %s: %s %s %s\n", (int)row->step, (int)row->attempt,
                 (int)row->action, row->verb, row->args, row->state, timed ? "" : row->result,
                 row->error);
    }
    return str_take(&text);
}

/* An action was begun, has no result, and leaves no trace. */
static bool is_beyond_telling(const struct try *try)
{
    CLEANUP(state_actions_done) struct state_actions rows = VEC_EMPTY;
    bool is_it = false;

    read_journal(try, &rows);
    VEC_FOREACH(row, &rows)
        is_it = is_it || (strcmp(row->verb, "shout") == 0 && strcmp(row->state, "started") == 0);
    return is_it;
}

static void compare_marks(const struct marks *uncut, const struct marks *cut, bool unknown)
{
    for (size_t i = 0; i < MARKS_MAX; i++) {
        const struct mark *want = &uncut->at[i];
        const struct mark *mark = want->name[0] ? marks_find(cut, want->name) : NULL;
        unsigned done = mark ? mark->done : 0;
        if (done > want->done || (done < want->done && !unknown))
            fail_msg("%s was done %u times", want->name, done);
    }
}

static void compare(const struct try *uncut, const struct try *cut, const char *when)
{
    CLEANUP(mem_freep) char *want = journal_text(uncut);
    CLEANUP(mem_freep) char *journal = journal_text(cut);

    if (strcmp(uncut->shared->end, cut->shared->end) != 0 || strcmp(want, journal) != 0)
        fail_msg("%s: %s with\n%s\nnot %s with\n%s", when, cut->shared->end, journal,
                 uncut->shared->end, want);
    compare_marks(&uncut->shared->marks, &cut->shared->marks, false);
}

/* It waits, and what it has done so far is the beginning of what the uncut run did. */
static void check_unknown(const struct try *uncut, const struct try *cut)
{
    CLEANUP(state_actions_done) struct state_actions rows = VEC_EMPTY;
    unsigned unknown = 0;

    assert_string_equal(cut->shared->end, "paused");
    read_journal(cut, &rows);
    VEC_FOREACH(row, &rows) {
        bool is_it = strcmp(row->state, "unknown") == 0;
        unknown += is_it;
        assert_true(is_it == (strcmp(row->verb, "shout") == 0));
    }
    assert_int_equal(unknown, 1);
    compare_marks(&uncut->shared->marks, &cut->shared->marks, true);
}

static void uncut_run(struct try *try)
{
    try_begin(try);
    assert_false(live_in_child(try->dir, try->shared, 0));
    assert_string_equal(try->shared->end, "cleanup-due");
}

/* --- The sweeps ---------------------------------------------------------------------------------------- */

/* False: that point was never reached. */
static bool daemon_killed_at(const struct try *uncut, int nth, int second, unsigned *unknown)
{
    CLEANUP(mem_freep) char *when = mem_printf("killed at %d and %d", nth, second);
    struct try try;

    try_begin(&try);
    bool killed = live_in_child(try.dir, try.shared, nth);
    bool beyond = killed && is_beyond_telling(&try);
    bool again = killed && second > 0 && live_in_child(try.dir, try.shared, second);
    beyond = beyond || (again && is_beyond_telling(&try));
    if (killed && (again || second == 0))
        (void)live_in_child(try.dir, try.shared, 0);
    if (beyond)
        check_unknown(uncut, &try);
    else
        compare(uncut, &try, when);
    *unknown += beyond;
    try_end(&try);
    return killed;
}

static void sweep_daemon(int step, bool twice)
{
    struct try uncut;
    unsigned unknown = 0;
    int points = 1;

    uncut_run(&uncut);
    while (points < POINTS_MAX
           && daemon_killed_at(&uncut, points, twice ? 1 + points * 7 % 23 : 0, &unknown))
        points += step;
    print_message("%d points, at %u of them nobody can tell\n", (points - 1) / step, unknown);
    assert_in_range(points, 60, POINTS_MAX - 1);
    assert_true(unknown > 0);
    try_end(&uncut);
}

static void killed_at_any_record_it_ends_as_if_it_had_not_been(void **state)
{
    (void)state;
    sweep_daemon(1, false);
}

static void a_recovery_that_is_killed_goes_on_as_well(void **state)
{
    (void)state;
    sweep_daemon(5, true);
}

static bool child_killed_at(const struct try *uncut, int line, bool after)
{
    CLEANUP(mem_freep)
    char *when = mem_printf("child killed %s line %d", after ? "after" : "before", line);
    struct try try;

    try_begin(&try);
    try.shared->relay.kill_at = line;
    try.shared->relay.after = after;
    (void)setenv("BODY_RELAY", try.path, 1);
    assert_false(live_in_child(try.dir, try.shared, 0));
    (void)unsetenv("BODY_RELAY");
    bool reached = atomic_load(&try.shared->relay.lines) >= line;
    compare(uncut, &try, when);
    try_end(&try);
    return reached;
}

static void with_its_child_killed_at_any_line_it_ends_as_if_it_had_not_been(void **state)
{
    struct try uncut;

    (void)state;
    uncut_run(&uncut);
    for (int after = 0; after <= 1; after++) {
        int line = 1;
        while (line < POINTS_MAX && child_killed_at(&uncut, line, after))
            line++;
        print_message("%d lines\n", line - 1);
        assert_in_range(line, 30, POINTS_MAX - 1);
    }
    try_end(&uncut);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_at_any_record_it_ends_as_if_it_had_not_been),
        cmocka_unit_test(a_recovery_that_is_killed_goes_on_as_well),
        cmocka_unit_test(with_its_child_killed_at_any_line_it_ends_as_if_it_had_not_been),
    };

    if (argc == 3 && strcmp(argv[1], "lua-host") == 0)
        return relay_main(argv[2]);
    /* Processes are killed here, not machines: memory is as good as a disk, and faster. */
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
        (void)setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests_name("run body crash", tests, NULL, NULL);
}
