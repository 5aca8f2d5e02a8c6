// SPDX-License-Identifier: Apache-2.0
/* The runner is this program itself, called as `PROGRAM run-command DIR`. */
#include "base/command.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define WAIT_MS  30000
#define LONG_MS  60000
#define GRACE_MS 200

/* sh -c SCRIPT in TMP/cmd; `$1` is TMP/mark. */
struct shell {
    char *dir;
    char *mark;
    json_t *args;
    json_t *env;
    struct command_spec spec;
};

static void shell_init(struct shell *shell, const char *tmp, const char *script, int64_t within_ms)
{
    shell->dir = path_join(tmp, "cmd");
    shell->mark = path_join(tmp, "mark");
    shell->args = json_pack("[s, s, s, s]", "-c", script, "sh", shell->mark);
    shell->env = json_pack("{s:s}", "MUSTER_WORD", "blue");
    shell->spec = (struct command_spec){"/bin/sh", shell->args, shell->env, within_ms, GRACE_MS};
}

static void shell_done(struct shell *shell)
{
    free(shell->dir);
    free(shell->mark);
    json_decref(shell->args);
    json_decref(shell->env);
}

static void begin(const struct shell *shell)
{
    EXPECT_OK(command_begin(shell->dir, &shell->spec, NULL, NULL, &err));
}

static struct command_status ended(const char *dir)
{
    CLEANUP(cancel_freep) struct cancel *wait = cancel_new(NULL, NULL, WAIT_MS);
    struct command_status status;

    EXPECT_OK(command_look(dir, &status, &err));
    while (status.state == COMMAND_NONE || status.state == COMMAND_RUNNING) {
        EXPECT_OK(cancel_sleep(wait, 5, &err));
        EXPECT_OK(command_look(dir, &status, &err));
    }
    return status;
}

static char *text_of(const char *path)
{
    struct str text = STR_EMPTY;

    EXPECT_OK(fs_read_file(fs_real(), path, 1 << 20, &text, &err));
    str_add(&text, "");
    return str_take(&text);
}

/* The process whose number the script wrote into its mark, when the line is whole. */
static struct proc_id marked(const char *mark)
{
    CLEANUP(cancel_freep) struct cancel *wait = cancel_new(NULL, NULL, WAIT_MS);
    struct proc_id id = {0};

    for (;;) {
        CLEANUP(str_free) struct str text = STR_EMPTY;
        uint64_t pid;
        if (fs_read_file(fs_real(), mark, 100, &text, &err) == 0 && text.len > 0
            && text.ptr[text.len - 1] == '\n' && str_to_u64(text.ptr, &pid)) {
            EXPECT_OK(proc_identify((pid_t)pid, &id, &err));
            return id;
        }
        EXPECT_OK(cancel_sleep(wait, 5, &err));
    }
}

static void wait_gone(const struct proc_id *id)
{
    CLEANUP(cancel_freep) struct cancel *wait = cancel_new(NULL, NULL, WAIT_MS);

    while (proc_is_alive(id))
        EXPECT_OK(cancel_sleep(wait, 5, &err));
}

static struct proc_id runner_of(const char *dir)
{
    CLEANUP(json_freep) json_t *started = NULL;

    EXPECT_OK(command_read(dir, "started.json", &started, &err));
    return (struct proc_id){(pid_t)json_get_u64(started, "pid", 0),
                            json_get_u64(started, "start_ticks", 0)};
}

/* --- Its end ----------------------------------------------------------------------------------- */

static void its_exit_status_and_output_are_kept(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "echo hello; echo $MUSTER_WORD >&2; exit 3", LONG_MS);
    begin(&shell);
    struct command_status status = ended(shell.dir);
    assert_int_equal(status.state, COMMAND_ENDED);
    assert_int_equal(status.exit_status, 3);
    assert_int_equal(status.signal, 0);
    assert_string_equal(status.last_output, "hello\nblue\n");
    assert_int_equal(status.output_bytes, 11);
    assert_int_equal(status.dropped_bytes, 0);
    assert_true(status.ended_ms >= status.started_ms && status.started_ms > 0);
}

static void it_runs_once_however_often_it_is_begun(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "echo ran >> $1", LONG_MS);
    for (int i = 0; i < 3; i++)
        begin(&shell);
    (void)ended(shell.dir);
    begin(&shell);
    CLEANUP(mem_freep) char *text = text_of(shell.mark);
    assert_string_equal(text, "ran\n");
}

static void of_many_runners_at_once_one_runs_it(void **state)
{
    CLEANUP(shell_done) struct shell shell;
    const char *argv[] = {"/proc/self/exe", COMMAND_WORD, NULL, NULL};
    const struct proc_spec runner = {.argv = argv};
    struct proc_id ids[8];

    shell_init(&shell, *state, "echo ran >> $1", LONG_MS);
    argv[2] = shell.dir;
    /* What a daemon leaves that was killed before it started a runner. */
    CLEANUP(json_freep)
    json_t *spec = json_pack("{s:s, s:O, s:O, s:i, s:i}", "program", "/bin/sh", "args", shell.args,
                             "env", shell.env, "within_ms", LONG_MS, "grace_ms", GRACE_MS);
    EXPECT_OK(fs_make_dirs(fs_real(), shell.dir, 0700, &err));
    EXPECT_OK(command_write(shell.dir, "spec.json", spec, &err));
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        EXPECT_OK(proc_spawn_detached(&runner, &ids[i], &err));
    begin(&shell);
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        wait_gone(&ids[i]);
    assert_int_equal(ended(shell.dir).exit_status, 0);
    CLEANUP(mem_freep) char *text = text_of(shell.mark);
    assert_string_equal(text, "ran\n");
}

static void a_folder_with_another_command_is_refused(void **state)
{
    CLEANUP(shell_done) struct shell shell;
    struct command_spec other;

    shell_init(&shell, *state, "true", LONG_MS);
    begin(&shell);
    other = shell.spec;
    other.program = "/bin/false";
    EXPECT_ERR(ERR_EXISTS, command_begin(shell.dir, &other, NULL, NULL, &err));
    (void)ended(shell.dir);
}

static void a_program_that_is_not_there_is_its_end(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "true", LONG_MS);
    shell.spec.program = "/nowhere/prog";
    begin(&shell);
    struct command_status status = ended(shell.dir);
    assert_int_equal(status.state, COMMAND_ENDED);
    assert_int_equal(status.exit_status, -1);
    assert_non_null(strstr(status.why, "/nowhere/prog: no such program"));
}

/* --- Bad programs ------------------------------------------------------------------------------ */

static void output_without_end_is_bounded_and_the_rest_counted(void **state)
{
    CLEANUP(shell_done) struct shell shell;
    CLEANUP(mem_freep) char *path = NULL;
    struct stat st;

    shell_init(&shell, *state, "echo first; yes abcdefg", 500);
    begin(&shell);
    struct command_status status = ended(shell.dir);
    path = path_join(shell.dir, "output");
    assert_int_equal(stat(path, &st), 0);
    assert_true(status.timed_out);
    assert_true(status.dropped_bytes > 0);
    assert_true(st.st_size < COMMAND_HEAD_BYTES + COMMAND_TAIL_BYTES + 100);
    assert_int_equal(status.output_bytes - status.dropped_bytes,
                     COMMAND_HEAD_BYTES + COMMAND_TAIL_BYTES);
    CLEANUP(mem_freep) char *text = text_of(path);
    assert_memory_equal(text, "first\n", 6);
    assert_non_null(strstr(text, " bytes of output left out)\n"));
    assert_non_null(strstr(status.last_output, "\nabcdefg\n"));
}

static void bytes_that_are_no_text_become_question_marks(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "printf 'a\\000b\\033[2J\\377c\\n'", LONG_MS);
    begin(&shell);
    assert_string_equal(ended(shell.dir).last_output, "a?b?[2J?c\n");
}

static void one_that_never_ends_is_ended_by_sigterm(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "exec sleep 1000", 200);
    begin(&shell);
    struct command_status status = ended(shell.dir);
    assert_true(status.timed_out);
    assert_int_equal(status.signal, SIGTERM);
    assert_int_equal(status.exit_status, -1);
}

static void one_that_ignores_sigterm_is_killed_with_its_children(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state,
               "trap '' TERM; sleep 1000 & echo $! > $1; while :; do sleep 0.01; done", 500);
    begin(&shell);
    struct proc_id child = marked(shell.mark);
    struct command_status status = ended(shell.dir);
    assert_true(status.timed_out);
    assert_int_equal(status.signal, SIGKILL);
    wait_gone(&child);
}

static void one_that_ends_well_after_sigterm_was_too_late_all_the_same(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "trap 'exit 0' TERM; while :; do sleep 0.01; done", 300);
    begin(&shell);
    struct command_status status = ended(shell.dir);
    assert_true(status.timed_out);
    assert_int_equal(status.exit_status, 0);
}

/* A service that was started in the background keeps the pipe open. */
static void its_end_does_not_wait_for_what_it_left_in_the_background(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "sleep 1000 & echo $! > $1; echo done", LONG_MS);
    begin(&shell);
    struct command_status status = ended(shell.dir);
    assert_int_equal(status.exit_status, 0);
    assert_string_equal(status.last_output, "done\n");
    struct proc_id child = marked(shell.mark);
    EXPECT_OK(proc_end(&child, 0, NULL, &err));
}

/* --- Stopping ---------------------------------------------------------------------------------- */

static void a_stop_ends_it(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "echo $$ > $1; trap '' TERM; while :; do sleep 0.01; done", LONG_MS);
    begin(&shell);
    struct proc_id program = marked(shell.mark);
    EXPECT_OK(command_stop(shell.dir, NULL, &err));
    assert_false(proc_is_alive(&program));
    struct command_status status = ended(shell.dir);
    assert_true(status.stopped);
    assert_false(status.timed_out);
    EXPECT_OK(command_stop(shell.dir, NULL, &err));
}

static void one_that_was_stopped_before_it_began_never_begins(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "echo ran >> $1", LONG_MS);
    EXPECT_OK(command_stop(shell.dir, NULL, &err));
    begin(&shell);
    struct command_status status = ended(shell.dir);
    assert_true(status.stopped);
    assert_non_null(strstr(status.why, "before it began"));
    assert_false(fs_exists(shell.mark));
}

/* --- Nobody knows ------------------------------------------------------------------------------ */

static void a_killed_runner_takes_its_program_along_and_the_end_is_lost(void **state)
{
    CLEANUP(shell_done) struct shell shell;

    shell_init(&shell, *state, "echo $$ > $1; while :; do sleep 0.01; done", LONG_MS);
    begin(&shell);
    struct proc_id program = marked(shell.mark);
    struct proc_id runner = runner_of(shell.dir);
    EXPECT_OK(proc_end(&runner, 0, NULL, &err));
    wait_gone(&program);
    struct command_status status = ended(shell.dir);
    assert_int_equal(status.state, COMMAND_LOST);
    assert_non_null(strstr(status.why, "its runner was killed"));
    begin(&shell);
    assert_int_equal(ended(shell.dir).state, COMMAND_LOST);
}

static void after_a_new_start_of_the_host_nobody_knows(void **state)
{
    CLEANUP(shell_done) struct shell shell;
    CLEANUP(mem_freep) char *result = NULL;
    CLEANUP(json_freep) json_t *started = NULL;

    shell_init(&shell, *state, "true", LONG_MS);
    begin(&shell);
    (void)ended(shell.dir);
    EXPECT_OK(command_read(shell.dir, "started.json", &started, &err));
    (void)json_object_set_new(started, "boot_id", json_string("another"));
    EXPECT_OK(command_write(shell.dir, "started.json", started, &err));
    assert_int_equal(ended(shell.dir).state, COMMAND_ENDED); /* its end was written before */
    result = path_join(shell.dir, "result.json");
    assert_int_equal(remove(result), 0);
    struct command_status status = ended(shell.dir);
    assert_int_equal(status.state, COMMAND_LOST);
    assert_non_null(strstr(status.why, "the host was started anew"));
}

static void what_was_never_begun_is_none(void **state)
{
    CLEANUP(mem_freep) char *dir = path_join(*state, "nothing");
    struct command_status status;

    EXPECT_OK(command_look(dir, &status, &err));
    assert_int_equal(status.state, COMMAND_NONE);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(its_exit_status_and_output_are_kept),
        TMPDIR_TEST(it_runs_once_however_often_it_is_begun),
        TMPDIR_TEST(of_many_runners_at_once_one_runs_it),
        TMPDIR_TEST(a_folder_with_another_command_is_refused),
        TMPDIR_TEST(a_program_that_is_not_there_is_its_end),
        TMPDIR_TEST(output_without_end_is_bounded_and_the_rest_counted),
        TMPDIR_TEST(bytes_that_are_no_text_become_question_marks),
        TMPDIR_TEST(one_that_never_ends_is_ended_by_sigterm),
        TMPDIR_TEST(one_that_ignores_sigterm_is_killed_with_its_children),
        TMPDIR_TEST(one_that_ends_well_after_sigterm_was_too_late_all_the_same),
        TMPDIR_TEST(its_end_does_not_wait_for_what_it_left_in_the_background),
        TMPDIR_TEST(a_stop_ends_it),
        TMPDIR_TEST(one_that_was_stopped_before_it_began_never_begins),
        TMPDIR_TEST(a_killed_runner_takes_its_program_along_and_the_end_is_lost),
        TMPDIR_TEST(after_a_new_start_of_the_host_nobody_knows),
        TMPDIR_TEST(what_was_never_begun_is_none),
    };

    if (argc > 1 && str_eq(argv[1], COMMAND_WORD))
        return command_main(argc, argv);
    return cmocka_run_group_tests_name("command", tests, NULL, NULL);
}
