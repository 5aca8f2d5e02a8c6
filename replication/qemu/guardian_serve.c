// SPDX-License-Identifier: Apache-2.0
/* The guardian's own process. Messages are JSON objects, one per packet of a socket pair; each has an
 * answer, {"error": code, "text"} when it could not be done:
 *
 *   {"note", "by", "machines": [{"name", "agent", "qmp", "still"}],
 *    "answer_ms", "freeze_ms", "hold_ms"}                                     -> {}
 *   {"do": "freeze"}                                   all are asked at once    -> {}
 *   {"do": "stop"}      those with a monitor may be stopped from here on        -> {}
 *   {"do": "release", "cont"}                     -> {"held"}, or an error and it goes on trying
 *
 * When the socket closes, or something was held for `hold_ms`, it lets go of all without being told. */
#include "qemu/guardian.h"

#include "base/fault.h"
#include "base/mem.h"
#include "qemu/guardian_hold.h"
#include "qemu/guardian_wire.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>

#define LOOK_MS 100
#define IDLE_MS 300000 /* nothing is held: somebody prepares a cut */

struct guard {
    int fd;
    struct hold hold;
    int64_t freeze_ms;
    int64_t hold_ms;
    int64_t held_until_ms; /* monotonic; 0: nothing is held */
    bool released;
    bool early; /* let go of before it was asked for */
};

static int64_t now_ms(void)
{
    return clock_real()->now_ms(clock_real());
}

/* --- Messages ------------------------------------------------------------------------------ */

static int find_agent(struct hold_machine *machine, int64_t within_ms, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, within_ms);

    if (agent_open(machine->agent_path, NULL, &machine->agent, limit, err) == 0)
        return agent_check_freeze(machine->agent, limit, err);
    if (err->code != ERR_TIMEOUT)
        return -1;
    return err_set(err, ERR_TIMEOUT, 0,
                   "the guest agent of %s does not answer; hint: is qemu-guest-agent installed and "
                   "running in the guest?",
                   machine->name);
}

static int begin(struct guard *guard, const json_t *spec, struct err *err)
{
    const char *note;

    if (json_need_str(spec, "note", "spec", &note, err) < 0
        || hold_init(&guard->hold, note, json_deep_copy(spec), err) < 0)
        return -1;
    guard->hold.answer_ms = (int64_t)json_get_u64(spec, "answer_ms", 0);
    guard->freeze_ms = (int64_t)json_get_u64(spec, "freeze_ms", 0);
    guard->hold_ms = (int64_t)json_get_u64(spec, "hold_ms", 0);
    for (size_t i = 0; i < guard->hold.count; i++)
        if (guard->hold.machines[i].agent_path
            && find_agent(&guard->hold.machines[i], guard->hold.answer_ms, err) < 0)
            return -1;
    return 0;
}

static bool is_alone(const struct guard *guard)
{
    struct pollfd end = {.fd = guard->fd};

    return poll(&end, 1, 0) > 0 && (end.revents & (POLLHUP | POLLERR));
}

/* While it waits it looks now and then whether anybody still wants it. */
static int wait_frozen(const struct guard *guard, struct agent *agent, uint64_t *ret_count,
                       struct cancel *limit, struct err *err)
{
    for (;;) {
        CLEANUP(cancel_freep) struct cancel *slice = cancel_new(NULL, limit, LOOK_MS);
        struct err ended = ERR_EMPTY;

        if (agent_freeze_end(agent, ret_count, slice, err) == 0)
            return 0;
        if (err->code != ERR_TIMEOUT || cancel_check(limit, &ended) < 0)
            return -1;
        if (is_alone(guard))
            return err_set(err, ERR_CANCELLED, 0, "nobody waits for it any more");
        err_clear(err);
    }
}

static int end_freeze(const struct guard *guard, struct hold_machine *machine, struct cancel *limit,
                      struct err *err)
{
    uint64_t count = 0;
    char within[32];

    if (wait_frozen(guard, machine->agent, &count, limit, err) == 0)
        return count > 0 ? 0
                         : err_set(err, ERR_STATE, 0,
                                   "the guest of %s has no file system that can be frozen",
                                   machine->name);
    if (err->code == ERR_STATE || err->code == ERR_UNSUPPORTED)
        return err_wrap(err, "freeze %s", machine->name);
    /* Its answer may still come: nothing may take that for another one's. */
    agent_closep(&machine->agent);
    if (err->code != ERR_TIMEOUT)
        return err_wrap(err, "freeze %s", machine->name);
    return err_set(
        err, ERR_TIMEOUT, 0,
        "the guest of %s was not frozen within %s; hint: look at the freeze hooks of its "
        "guest agent",
        machine->name, str_duration(guard->freeze_ms, within, sizeof(within)));
}

static int freeze(struct guard *guard, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, guard->freeze_ms);
    struct hold *hold = &guard->hold;

    for (size_t i = 0; i < hold->count; i++)
        hold->machines[i].asked = hold->machines[i].agent != NULL;
    if (hold_write_note(hold, err) < 0)
        return err_wrap(err, "note what is to be frozen");
    guard->held_until_ms = now_ms() + guard->freeze_ms + guard->hold_ms;
    for (size_t i = 0; i < hold->count; i++)
        if (hold->machines[i].asked && agent_freeze_begin(hold->machines[i].agent, limit, err) < 0)
            return err_wrap(err, "freeze %s", hold->machines[i].name);
    for (size_t i = 0; i < hold->count; i++)
        if (hold->machines[i].asked && end_freeze(guard, &hold->machines[i], limit, err) < 0)
            return -1;
    guard->held_until_ms = now_ms() + guard->hold_ms;
    CRASH_POINT("guardian.frozen");
    return 0;
}

static int will_stop(struct guard *guard, struct err *err)
{
    struct hold *hold = &guard->hold;

    for (size_t i = 0; i < hold->count; i++)
        hold->machines[i].may_stop = hold->machines[i].qmp_path != NULL;
    if (hold_write_note(hold, err) < 0)
        return err_wrap(err, "note what is to be stopped");
    guard->held_until_ms = now_ms() + guard->hold_ms;
    return 0;
}

/* The first try; an answer needs no more than that. */
static int release(struct guard *guard, struct err *err)
{
    guard->held_until_ms = 0;
    guard->released = true;
    return hold_let_go(&guard->hold, NULL, err);
}

/* A guest that thaws nothing was thawed by somebody else before: what was cut then is not known. */
static bool was_held(const struct guard *guard)
{
    for (size_t i = 0; i < guard->hold.count; i++)
        if (guard->hold.machines[i].agent_path && guard->hold.machines[i].thawed == 0)
            return false;
    return !guard->early;
}

static int on_release(struct guard *guard, const json_t *message, json_t **ret_answer,
                      struct err *err)
{
    if (!json_get_bool(message, "cont", false))
        for (size_t i = 0; i < guard->hold.count; i++)
            guard->hold.machines[i].may_stop = false;
    if (!guard->released && release(guard, err) < 0)
        return -1;
    *ret_answer = json_pack("{s:b}", "held", was_held(guard));
    return 0;
}

static int act(struct guard *guard, const json_t *message, json_t **ret_answer, struct err *err)
{
    const char *what = json_get_str(message, "do", "");

    if (str_eq(what, "release"))
        return on_release(guard, message, ret_answer, err);
    if (guard->released)
        return err_set(err, ERR_TIMEOUT, 0, "what was held was let go of: it took too long");
    if (str_eq(what, "freeze"))
        return freeze(guard, err);
    if (str_eq(what, "stop"))
        return will_stop(guard, err);
    return err_set(err, ERR_PROTOCOL, 0, "unknown message \"%s\"", what);
}

/* --- The process --------------------------------------------------------------------------- */

/* 1: a message, 0: its time is over, -1: nobody is there any more. */
static int next_message(struct guard *guard, json_t **ret_message)
{
    int64_t until = guard->held_until_ms ? guard->held_until_ms : now_ms() + IDLE_MS;
    int64_t left = until - now_ms();
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, left > 0 ? left : 0);
    struct err err = ERR_EMPTY;

    if (guardian_receive(guard->fd, ret_message, limit, &err) == 0)
        return 1;
    return err.code == ERR_TIMEOUT ? 0 : -1;
}

static void answer(const struct guard *guard, json_t *result, const struct err *failure)
{
    CLEANUP(json_freep)
    json_t *said =
        failure->code != ERR_NONE
            ? json_pack("{s:s, s:s}", "error", err_code_name(failure->code), "text", failure->text)
            : (result ? result : json_object());

    guardian_send(guard->fd, said);
}

/* Until nobody asks for anything any more. */
static void serve_messages(struct guard *guard)
{
    for (;;) {
        CLEANUP(json_freep) json_t *message = NULL;
        json_t *result = NULL;
        struct err err = ERR_EMPTY;
        int got = next_message(guard, &message);

        if (got < 0 || (got == 0 && !guard->held_until_ms))
            return;
        if (got == 0) {
            guard->early = true;
            if (release(guard, &err) < 0)
                return;
            continue; /* and says so when it is asked */
        }
        int rc = act(guard, message, &result, &err);
        answer(guard, result, &err);
        if (rc < 0 || guard->released)
            return; /* what was begun is let go of */
    }
}

/* Prompt, unlike the data thread that started it: a guest waits. */
static void settle_in(void)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGPIPE};

    (void)setpriority(PRIO_PROCESS, 0, 0);
    for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
        (void)signal(ignored[i], SIG_IGN);
}

static int serve(int fd)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, IDLE_MS);
    CLEANUP(json_freep) json_t *spec = NULL;
    struct guard guard = {.fd = fd};
    struct err err = ERR_EMPTY;

    if (guardian_receive(fd, &spec, limit, &err) < 0)
        return 1;
    int rc = begin(&guard, spec, &err);
    answer(&guard, NULL, &err);
    if (rc == 0) {
        serve_messages(&guard);
        err_clear(&err);
        rc = hold_let_go_at_last(&guard.hold, NULL, &err);
    }
    hold_done(&guard.hold);
    return rc < 0 ? 1 : 0;
}

static int serve_note(const char *path)
{
    CLEANUP(hold_done) struct hold hold = {0};
    struct err err = ERR_EMPTY;

    /* One that is busy has somebody who lives. */
    if (hold_read_note(path, &hold, &err) < 0 || hold_write_note(&hold, &err) < 0
        || hold_let_go_at_last(&hold, NULL, &err) < 0)
        return err.code == ERR_NOT_FOUND || err.code == ERR_BUSY ? 0 : 1;
    return 0;
}

int guardian_main(int argc, char **argv)
{
    uint64_t fd;

    if (argc != 3)
        return 2; /* only ever called by guardian.c */
    settle_in();
    return str_to_u64(argv[2], &fd) ? serve((int)fd) : serve_note(argv[2]);
}
