// SPDX-License-Identifier: Apache-2.0
/* The daemon's end of a guardian. When that is killed, or silent for too long, its work is done here. */
#include "qemu/guardian.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "qemu/guardian_hold.h"
#include "qemu/guardian_wire.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MESSAGE_MAX (256u * 1024u)
#define ANSWER_MS   5000
#define FREEZE_MS   20000
#define HOLD_MS     10000
#define MARGIN_MS   2000 /* for the guardian itself, beyond what it waits for */

struct guardian {
    int fd;
    char *note_path;
    char *program; /* NULL: this one */
    size_t count;
    int64_t answer_ms;
    int64_t freeze_ms;
    bool may_hold; /* and was not told to let go */
};

/* --- Messages ------------------------------------------------------------------------------ */

int guardian_pair(int ret_fds[2], struct err *err)
{
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ret_fds) < 0)
        return err_set(err, ERR_IO, errno, "socketpair");
    return 0;
}

void guardian_send(int fd, const json_t *message)
{
    CLEANUP(mem_freep) char *text = json_text(message);

    while (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

int guardian_receive(int fd, json_t **ret_message, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *text = mem_alloc(MESSAGE_MAX, 1);

    for (;;) {
        ssize_t n = recv(fd, text, MESSAGE_MAX, 0);
        if (n > 0)
            return json_parse(text, (size_t)n, ret_message, err);
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return err_set(err, ERR_NET, n < 0 ? errno : 0, "the other end is gone");
        if (cancel_poll(cancel, fd, POLLIN, err) < 0)
            return -1;
    }
}

/* Takes `message`. */
static int ask(const struct guardian *guardian, json_t *message, int64_t within_ms,
               json_t **ret_answer, struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, within_ms + MARGIN_MS);
    CLEANUP(json_freep) json_t *owned = message;
    CLEANUP(json_freep) json_t *answer = NULL;

    guardian_send(guardian->fd, owned);
    if (guardian_receive(guardian->fd, &answer, limit, err) < 0)
        return err_wrap(err, "the guardian of the freeze");
    if (json_object_get(answer, "error"))
        return err_set(err, err_code_parse(json_get_str(answer, "error", "")), 0, "%s",
                       json_get_str(answer, "text", ""));
    if (ret_answer)
        *ret_answer = TAKE(answer);
    return 0;
}

/* --- Opening ------------------------------------------------------------------------------- */

static int start(struct guardian *guardian, struct err *err)
{
    CLEANUP(fd_close) int theirs = -1;
    char number[16];
    const char *argv[] = {guardian->program ? guardian->program : "/proc/self/exe", GUARDIAN_WORD,
                          number, NULL};
    struct proc_spec spec = {.argv = argv, .keep_fds = &theirs, .keep_fd_count = 1};
    struct proc_id id;
    int fds[2];

    if (guardian_pair(fds, err) < 0)
        return -1;
    guardian->fd = fds[0];
    theirs = fds[1];
    (void)snprintf(number, sizeof(number), "%d", theirs);
    return proc_spawn_detached(&spec, &id, err);
}

static const char *text_or_none(const char *text)
{
    return text ? text : "";
}

static json_t *spec_json(const struct guardian_config *config, const struct guardian *guardian)
{
    json_t *machines = json_array();
    int64_t hold_ms = config->hold_ms ? config->hold_ms : HOLD_MS;

    for (size_t i = 0; i < config->count; i++) {
        const struct guardian_machine *machine = &config->machines[i];

        (void)json_array_append_new(machines,
                                    json_pack("{s:s, s:s, s:s, s:s}", "name", machine->name,
                                              "agent", text_or_none(machine->agent_path), "qmp",
                                              text_or_none(machine->qmp_path), "still",
                                              text_or_none(machine->still_path)));
    }
    return json_pack("{s:s, s:s, s:o, s:I, s:I, s:I}", "note", config->note_path, "by",
                     text_or_none(config->by), "machines", machines, "answer_ms",
                     (json_int_t)guardian->answer_ms, "freeze_ms", (json_int_t)guardian->freeze_ms,
                     "hold_ms", (json_int_t)hold_ms);
}

int guardian_open(const struct guardian_config *config, struct guardian **ret_guardian,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(guardian_closep) struct guardian *guardian = mem_new(struct guardian);

    guardian->fd = -1;
    guardian->note_path = mem_strdup(config->note_path);
    guardian->program = config->program ? mem_strdup(config->program) : NULL;
    guardian->count = config->count;
    guardian->answer_ms = config->answer_ms ? config->answer_ms : ANSWER_MS;
    guardian->freeze_ms = config->freeze_ms ? config->freeze_ms : FREEZE_MS;
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(NULL, cancel, guardian->answer_ms);
    if (guardian_settle(config->note_path, limit, err) < 0 || start(guardian, err) < 0
        || ask(guardian, spec_json(config, guardian), guardian->answer_ms * (int64_t)config->count,
               NULL, cancel, err)
               < 0)
        return -1;
    *ret_guardian = TAKE(guardian);
    return 0;
}

void guardian_close(struct guardian *guardian)
{
    struct err ignored = ERR_EMPTY;

    if (!guardian)
        return;
    bool may_hold = guardian->may_hold;
    bool held;
    if (may_hold && guardian_release(guardian, true, &held, &ignored) < 0)
        err_clear(&ignored); /* it is seen to */
    fd_close(&guardian->fd);
    free(guardian->note_path);
    free(guardian->program);
    free(guardian);
}

void guardian_closep(struct guardian **guardian)
{
    guardian_close(*guardian);
    *guardian = NULL;
}

/* --- Holding ------------------------------------------------------------------------------- */

int guardian_will_stop(struct guardian *guardian, struct cancel *cancel, struct err *err)
{
    guardian->may_hold = true;
    return ask(guardian, json_pack("{s:s}", "do", "stop"), guardian->answer_ms, NULL, cancel, err);
}

/* It may have been killed: then nobody lets go of what it held but us. */
static int release_without(struct guardian *guardian, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, guardian->answer_ms);
    struct err ignored = ERR_EMPTY;

    if (guardian_settle(guardian->note_path, limit, err) == 0)
        return 0;
    if (err->code == ERR_BUSY) /* it lives, and will see that the socket is closed */
        return -1;
    if (guardian_settle_later(guardian->note_path, guardian->program, &ignored) < 0)
        return err_wrap(err, "%s", ignored.text);
    return -1;
}

int guardian_freeze(struct guardian *guardian, struct cancel *cancel, struct err *err)
{
    struct err spare = ERR_EMPTY, ignored = ERR_EMPTY;

    err = err ? err : &spare; /* the code is looked at */
    guardian->may_hold = true;
    if (ask(guardian, json_pack("{s:s}", "do", "freeze"), guardian->freeze_ms, NULL, cancel, err)
        == 0)
        return 0;
    /* It lets go by itself, also of guests that freeze late; nobody waits for that. */
    guardian->may_hold = false;
    fd_close(&guardian->fd);
    if (err->code == ERR_NET && release_without(guardian, &ignored) < 0)
        err_clear(&ignored);
    return -1;
}

int guardian_release(struct guardian *guardian, bool cont, bool *ret_held, struct err *err)
{
    CLEANUP(json_freep) json_t *answer = NULL;
    int64_t within_ms = 2 * guardian->answer_ms * (int64_t)guardian->count;
    struct err spare = ERR_EMPTY;

    err = err ? err : &spare; /* the code is looked at */
    guardian->may_hold = false;
    if (ask(guardian, json_pack("{s:s, s:b}", "do", "release", "cont", cont), within_ms, &answer,
            NULL, err)
        == 0) {
        *ret_held = json_get_bool(answer, "held", false);
        return 0;
    }
    fd_close(&guardian->fd);
    if (err->code != ERR_NET)
        return -1;
    err_clear(err);
    if (release_without(guardian, err) < 0)
        return -1;
    *ret_held = false; /* who knows since when */
    return 0;
}

/* --- What was left ------------------------------------------------------------------------- */

int guardian_settle(const char *note_path, struct cancel *cancel, struct err *err)
{
    CLEANUP(hold_done) struct hold hold = {0};
    struct err spare = ERR_EMPTY;

    err = err ? err : &spare; /* the code is looked at */
    if (hold_read_note(note_path, &hold, err) < 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        err_clear(err);
        return 0;
    }
    return hold_let_go_at_last(&hold, cancel, err);
}

int guardian_settle_later(const char *note_path, const char *program, struct err *err)
{
    const char *argv[] = {program ? program : "/proc/self/exe", GUARDIAN_WORD, note_path, NULL};
    const struct proc_spec spec = {.argv = argv};
    struct proc_id id;

    if (!fs_exists(note_path))
        return 0;
    if (proc_spawn_detached(&spec, &id, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND || fs_exists(note_path))
        return -1;
    err_clear(err); /* it ended at once: all is done */
    return 0;
}
