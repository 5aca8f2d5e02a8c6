// SPDX-License-Identifier: Apache-2.0
#include "cli/watch.h"

#include "base/clock.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/table.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define AWAY_MS 60000
#define POLL_MS 500

/* Ctrl-C is blocked and looked for between two requests: no handler, nothing global. */
struct watch {
    struct cli *cli;
    sigset_t old_mask;
    size_t drawn; /* lines of the last picture */
    uint64_t change;
};

int64_t cli_now_ms(void)
{
    struct clock *clock = clock_real();

    return clock->wall_ms(clock);
}

void cli_look(const struct cli *cli, struct look *ret_look)
{
    *ret_look = (struct look){
        .utf8 = cli->utf8,
        .colour = cli->tty && !getenv("NO_COLOR"),
    };
}

static void interrupt_set(sigset_t *ret_set)
{
    (void)sigemptyset(ret_set);
    (void)sigaddset(ret_set, SIGINT);
}

struct watch *watch_begin(struct cli *cli)
{
    struct watch *watch = mem_new(struct watch);
    sigset_t set;

    watch->cli = cli;
    interrupt_set(&set);
    (void)sigprocmask(SIG_BLOCK, &set, &watch->old_mask);
    return watch;
}

static bool interrupted(void)
{
    const struct timespec now = {0};
    sigset_t set;

    interrupt_set(&set);
    return sigtimedwait(&set, NULL, &now) == SIGINT;
}

void watch_end(struct watch *watch)
{
    if (!watch)
        return;
    (void)sigprocmask(SIG_SETMASK, &watch->old_mask, NULL);
    free(watch);
}

void watch_endp(struct watch **watch)
{
    watch_end(*watch);
    *watch = NULL;
}

/* --- Drawing ----------------------------------------------------------------------------------- */

static void terminal_size(const struct cli *cli, size_t *ret_rows, size_t *ret_columns)
{
    struct winsize size;

    *ret_rows = 24;
    *ret_columns = 80;
    if (ioctl(fileno(cli->out), TIOCGWINSZ, &size) == 0 && size.ws_row && size.ws_col) {
        *ret_rows = size.ws_row;
        *ret_columns = size.ws_col;
    }
}

/* At most `columns` wide: a wrapped line would be two, and the next picture would stand askew.
 * Escape sequences take no room. */
static void cut_line(const char *line, size_t len, size_t columns, struct str *out)
{
    size_t width = 0;

    for (size_t i = 0; i < len; i++) {
        if (line[i] == '\033') {
            size_t end = i;

            while (end < len && line[end] != 'm')
                end++;
            str_add_bytes(out, line + i, end < len ? end - i + 1 : end - i);
            i = end;
            continue;
        }
        if (((unsigned char)line[i] & 0xC0) != 0x80 && ++width > columns)
            break;
        str_add_bytes(out, line + i, 1);
    }
    str_add(out, "\033[K\n");
}

static size_t line_count(const char *text)
{
    size_t count = 0;

    for (; *text; text++)
        count += *text == '\n';
    return count;
}

/* The last lines when all do not fit: what is going on is below what is done. */
static const char *last_lines(const char *text, size_t rows)
{
    size_t count = line_count(text);

    while (count > rows) {
        text = strchr(text, '\n') + 1;
        count--;
    }
    return text;
}

void watch_draw(struct watch *watch, const struct str *picture)
{
    CLEANUP(str_free) struct str out = STR_EMPTY;
    size_t rows, columns;

    terminal_size(watch->cli, &rows, &columns);
    if (watch->drawn)
        str_addf(&out, "\033[%zuA", watch->drawn);
    watch->drawn = 0;
    for (const char *at = last_lines(str_text(picture), rows > 1 ? rows - 1 : 1); *at;) {
        size_t len = strcspn(at, "\n");

        cut_line(at, len, columns, &out);
        watch->drawn++;
        at += len + (at[len] == '\n');
    }
    str_add(&out, "\033[J");
    (void)fputs(str_text(&out), watch->cli->out);
    (void)fflush(watch->cli->out);
}

/* --- Asking ------------------------------------------------------------------------------------ */

int watch_get(struct watch *watch, const char *path, json_t **ret_reply, struct err *err)
{
    struct clock *clock = clock_real();
    int64_t until = clock->now_ms(clock) + AWAY_MS;

    for (bool said = false;; said = true) {
        if (client_call(watch->cli, "GET", path, NULL, ret_reply, err) == 0)
            return 0;
        if (err->code != ERR_NET || clock->now_ms(clock) >= until || interrupted())
            return -1;
        if (!said)
            (void)fprintf(stderr, "muster: the daemon is away; waiting for it\n");
        watch->change = 0;
        err_clear(err);
        (void)poll(NULL, 0, POLL_MS);
    }
}

int watch_wait(struct watch *watch, int64_t wait_ms, const char *hint, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    char path[128];

    (void)fflush(watch->cli->out);
    (void)snprintf(path, sizeof(path), "/v1/events?since=%" PRIu64 "&wait_ms=%" PRId64,
                   watch->change, wait_ms);
    if (!interrupted() && watch_get(watch, path, &reply, err) < 0)
        return -1;
    if (reply)
        watch->change = json_get_u64(reply, "change", 0);
    if (!reply || interrupted())
        return err_set(err, ERR_CANCELLED, 0, "no longer watching; hint: %s", hint);
    return 0;
}

/* --- Jobs -------------------------------------------------------------------------------------- */

static int job_end(const json_t *job, struct err *err)
{
    const char *state = json_get_str(job, "state", "");
    int64_t id = json_get_int(job, "id", 0);
    const char *code = json_get_str(job, "error_code", "");

    if (str_eq(state, "succeeded"))
        return 0;
    if (str_eq(state, "cancelled"))
        return err_set(err, ERR_CANCELLED, 0, "job %" PRId64 " was cancelled", id);
    return err_set(err, *code ? err_code_parse(code) : ERR_UNKNOWN, 0, "job %" PRId64 " failed: %s",
                   id, json_get_str(job, "error", ""));
}

static void print_text(const struct cli *cli, const struct str *text)
{
    (void)fputs(str_text(text), cli->out);
    (void)fflush(cli->out);
}

int watch_job(struct cli *cli, uint64_t id, struct err *err)
{
    CLEANUP(watch_endp) struct watch *watch = watch_begin(cli);
    CLEANUP(mem_freep) char *path = mem_printf("/v1/jobs/%" PRIu64, id);
    CLEANUP(mem_freep)
    char *hint =
        mem_printf("job %" PRIu64 " goes on; `muster jobs watch %" PRIu64 "` comes back", id, id);
    CLEANUP(json_freep) json_t *before = NULL;
    struct look look;

    cli_look(cli, &look);
    for (;;) {
        CLEANUP(str_free) struct str text = STR_EMPTY;
        json_t *job = NULL;

        if (watch_get(watch, path, &job, err) < 0)
            return -1;
        if (cli->tty && !cli->json) {
            show_job(job, cli_now_ms(), &look, &text);
            watch_draw(watch, &text);
        } else if (!cli->json) {
            show_job_changes(before, job, cli_now_ms(), &text);
            print_text(cli, &text);
        }
        json_decref(before);
        before = job;
        if (!str_eq(json_get_str(job, "state", ""), "running"))
            break;
        if (watch_wait(watch, POLL_MS, hint, err) < 0)
            return -1;
    }
    if (cli->json)
        cli_print_json(cli, before);
    return job_end(before, err);
}

/* --- Runs -------------------------------------------------------------------------------------- */

static bool is_good_end(const char *state)
{
    static const char *const good[] = {"succeeded", "awaiting-commit", "committed", "cleanup-due",
                                       "clean",     "rolled-back",     NULL};

    for (const char *const *at = good; *at; at++)
        if (str_eq(*at, state))
            return true;
    return false;
}

/* The first step that failed says what went wrong, by code. */
static int run_end(const json_t *run, struct err *err)
{
    const char *state = json_get_str(run, "state", "");
    const char *reason = json_get_str(run, "reason", "");
    const json_t *step;
    enum err_code code = ERR_UNKNOWN;
    size_t i;

    json_array_foreach(json_object_get(run, "steps"), i, step) {
        if (!str_eq(json_get_str(step, "state", ""), "failed"))
            continue;
        code = err_code_parse(json_get_str(step, "error_code", ""));
        break;
    }
    if (str_eq(state, "cancelled"))
        return err_set(err, ERR_CANCELLED, 0, "run %" PRId64 " was cancelled%s%s",
                       json_get_int(run, "id", 0), *reason ? ": " : "", reason);
    if (is_good_end(state) && str_eq(json_get_str(run, "outcome", ""), "failed"))
        return err_set(err, code, 0, "run %" PRId64 " failed%s%s", json_get_int(run, "id", 0),
                       *reason ? ": " : "", reason);
    if (is_good_end(state))
        return 0;
    return err_set(err, code, 0, "run %" PRId64 " is %s%s%s", json_get_int(run, "id", 0), state,
                   *reason ? ": " : "", reason);
}

static void draw_run(struct watch *watch, const json_t *before, const json_t *run)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct cli *cli = watch->cli;
    struct look look;

    cli_look(cli, &look);
    if (cli->json)
        return;
    if (cli->tty) {
        show_run(run, cli_now_ms(), &look, &text);
        watch_draw(watch, &text);
    } else {
        show_run_changes(before, run, cli_now_ms(), &text);
        print_text(cli, &text);
    }
}

static bool is_asking(const json_t *run)
{
    const json_t *step;
    size_t i;

    json_array_foreach(json_object_get(run, "steps"), i, step) {
        if (str_eq(json_get_str(step, "state", ""), "asking"))
            return true;
    }
    return false;
}

/* Somebody must answer; nobody is there to when the output is no terminal. */
static int check_paused(const struct cli *cli, const json_t *run, struct err *err)
{
    int64_t id = json_get_int(run, "id", 0);

    if (cli->tty || !str_eq(json_get_str(run, "state", ""), "paused"))
        return 0;
    if (is_asking(run)) /* the reason has its own hint */
        return err_set(err, ERR_STATE, 0, "run %" PRId64 " waits for a person: %s", id,
                       json_get_str(run, "reason", ""));
    return err_set(err, ERR_STATE, 0,
                   "run %" PRId64 " waits for a person: %s; hint: `muster run show %" PRId64
                   "`, then `muster run retry|skip|fail %" PRId64 " --step N`",
                   id, json_get_str(run, "reason", ""), id, id);
}

/* `ret_run` gets the run as it was when it did nothing more. */
static int watch_to_end(struct cli *cli, uint64_t id, json_t **ret_run, struct err *err)
{
    CLEANUP(watch_endp) struct watch *watch = watch_begin(cli);
    CLEANUP(mem_freep) char *path = mem_printf("/v1/runs/%" PRIu64, id);
    CLEANUP(mem_freep)
    char *hint =
        mem_printf("run %" PRIu64 " goes on; `muster run watch %" PRIu64 "` comes back", id, id);
    CLEANUP(json_freep) json_t *before = NULL;
    CLEANUP(str_free) struct str end = STR_EMPTY;

    for (;;) {
        json_t *run = NULL;

        if (watch_get(watch, path, &run, err) < 0)
            return -1;
        draw_run(watch, before, run);
        json_decref(before);
        before = run;
        if (!json_get_bool(run, "active", false))
            break;
        if (check_paused(cli, run, err) < 0 || watch_wait(watch, POLL_MS, hint, err) < 0)
            return -1;
    }
    if (cli->json) {
        cli_print_json(cli, before);
    } else {
        show_run_end(before, &end);
        (void)fprintf(cli->out, "\n");
        print_text(cli, &end);
    }
    *ret_run = TAKE(before);
    return 0;
}

int watch_run(struct cli *cli, uint64_t id, struct err *err)
{
    CLEANUP(json_freep) json_t *run = NULL;

    return watch_to_end(cli, id, &run, err) < 0 ? -1 : run_end(run, err);
}

int watch_cancelled_run(struct cli *cli, uint64_t id, struct err *err)
{
    CLEANUP(json_freep) json_t *run = NULL;

    if (watch_to_end(cli, id, &run, err) < 0)
        return -1;
    return str_eq(json_get_str(run, "state", ""), "cancelled") ? 0 : run_end(run, err);
}

int watch_begun(struct cli *cli, const json_t *reply, struct err *err)
{
    uint64_t job = json_get_u64(reply, "job", 0);

    if (!cli_flag(cli, "no-wait"))
        return watch_job(cli, job, err);
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "Job %" PRIu64 " has begun; `muster jobs watch %" PRIu64 "`\n", job,
                      job);
    return 0;
}
