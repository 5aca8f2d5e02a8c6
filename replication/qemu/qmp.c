// SPDX-License-Identifier: Apache-2.0
/* QMP is one JSON object per line (docs/interop/qmp-spec.txt of QEMU). The monitor speaks first:
 * {"QMP": {"version": ...}}; it answers {"return": ..., "id": n} or {"error": {"class", "desc"},
 * "id": n}; events {"event": NAME, "data": {...}} come at any time between. */
#include "qemu/qmp.h"

#include "base/fs.h"
#include "base/mem.h"
#include "qemu/line.h"

#include <poll.h>
#include <string.h>

/* A monitor that says nothing for so long at the beginning may wait for somebody else. */
#define NUDGE_MS 2000

struct qmp {
    char *path;
    struct clock *clock;
    struct line_socket *socket;
    uint64_t last_id;
    json_t *events; /* array, oldest first */
};

/* --- Events -------------------------------------------------------------------------------- */

static const char *event_name(const json_t *event)
{
    return json_get_str(event, "event", "");
}

/* A storm of one kind of event must neither eat memory nor push out another kind. */
static void event_keep(struct qmp *qmp, json_t *event)
{
    size_t same = 0, oldest = 0;

    for (size_t i = json_array_size(qmp->events); i-- > 0;) {
        if (str_eq(event_name(json_array_get(qmp->events, i)), event_name(event))) {
            same++;
            oldest = i;
        }
    }
    if (same >= QMP_EVENTS_PER_NAME)
        (void)json_array_remove(qmp->events, oldest);
    (void)json_array_append(qmp->events, event);
}

static bool event_fits(const json_t *event, const struct qmp_want *want)
{
    for (const char *const *name = want->names; *name; name++) {
        if (!str_eq(*name, event_name(event)))
            continue;
        return !want->key
               || str_eq(json_get_str(json_object_get(event, "data"), want->key, NULL),
                         want->value);
    }
    return false;
}

static json_t *event_take(struct qmp *qmp, const struct qmp_want *want)
{
    json_t *event;
    size_t i;

    json_array_foreach(qmp->events, i, event) {
        if (event_fits(event, want)) {
            json_incref(event);
            (void)json_array_remove(qmp->events, i);
            return event;
        }
    }
    return NULL;
}

/* --- Messages ------------------------------------------------------------------------------ */

static int closed(struct qmp *qmp, struct err *err)
{
    if (err && err->code == ERR_NET)
        return err_set(err, ERR_NET, 0, "QEMU died: its monitor %s closed", qmp->path);
    return err_wrap(err, "monitor %s", qmp->path);
}

/* The next object; events are kept and not given. `wait` false: *ret_message may be NULL. */
static int next_message(struct qmp *qmp, bool wait, json_t **ret_message, struct cancel *cancel,
                        struct err *err)
{
    for (;;) {
        CLEANUP(json_freep) json_t *message = NULL;
        const char *line;
        size_t len;

        if (line_receive(qmp->socket, wait, &line, &len, cancel, err) < 0)
            return closed(qmp, err);
        if (!line) {
            *ret_message = NULL;
            return 0;
        }
        if (json_parse(line, len, &message, err) < 0 || !json_is_object(message)) {
            line_break(qmp->socket);
            return err_set(err, ERR_PROTOCOL, 0, "monitor %s said what is no QMP: %.80s", qmp->path,
                           line);
        }
        if (!json_object_get(message, "event")) {
            *ret_message = TAKE(message);
            return 0;
        }
        event_keep(qmp, message);
    }
}

static int refusal(const char *command, const json_t *error, struct err *err)
{
    const char *class = json_get_str(error, "class", "");
    const char *words = json_get_str(error, "desc", "no reason given");
    enum err_code code = ERR_STATE;

    if (str_eq(class, "DeviceNotFound"))
        code = ERR_NOT_FOUND;
    else if (str_eq(class, "CommandNotFound"))
        code = ERR_UNSUPPORTED;
    return err_set(err, code, 0, "QEMU refused %s: %s", command, words);
}

static int send_command(struct qmp *qmp, const char *command, json_t *arguments, int fd,
                        struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep)
    json_t *message = json_pack("{s:s, s:I}", "execute", command, "id", (json_int_t)++qmp->last_id);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char *json;

    if (arguments)
        (void)json_object_set_new(message, "arguments", arguments);
    json = json_text(message);
    str_add(&text, json);
    str_add(&text, "\n");
    free(json);
    if (line_send(qmp->socket, text.ptr, text.len, fd, cancel, err) < 0)
        return closed(qmp, err);
    return 0;
}

static int run_command(struct qmp *qmp, const char *command, json_t *arguments, int fd,
                       json_t **ret_result, struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep)
    struct cancel *limit = cancel_new(qmp->clock, cancel, QMP_COMMAND_LIMIT_MS);

    if (send_command(qmp, command, arguments, fd, limit, err) < 0)
        return err_wrap(err, "%s", command);
    for (;;) {
        CLEANUP(json_freep) json_t *answer = NULL;
        json_t *result;

        if (next_message(qmp, true, &answer, limit, err) < 0)
            return err_wrap(err, "%s", command);
        if (json_get_u64(answer, "id", 0) != qmp->last_id
            && (json_object_get(answer, "id") || !json_object_get(answer, "error")))
            continue; /* the answer of a command that was given up */
        if (json_object_get(answer, "error"))
            return refusal(command, json_object_get(answer, "error"), err);
        result = json_object_get(answer, "return");
        if (!result)
            return err_set(err, ERR_PROTOCOL, 0, "monitor %s: %s: neither return nor error",
                           qmp->path, command);
        if (ret_result)
            *ret_result = json_incref(result);
        return 0;
    }
}

int qmp_command(struct qmp *qmp, const char *command, json_t *arguments, json_t **ret_result,
                struct cancel *cancel, struct err *err)
{
    return run_command(qmp, command, arguments, -1, ret_result, cancel, err);
}

int qmp_command_fd(struct qmp *qmp, const char *command, json_t *arguments, int fd,
                   struct cancel *cancel, struct err *err)
{
    return run_command(qmp, command, arguments, fd, NULL, cancel, err);
}

int qmp_wait_event(struct qmp *qmp, const struct qmp_want *want, json_t **ret_event,
                   struct cancel *cancel, struct err *err)
{
    for (;;) {
        json_t *event;

        if (qmp_take_event(qmp, want, &event, err) < 0)
            return -1;
        if (event) {
            *ret_event = event;
            return 0;
        }
        if (cancel_poll(cancel, line_fd(qmp->socket), POLLIN, err) < 0)
            return err_wrap(err, "monitor %s: wait for %s", qmp->path, want->names[0]);
    }
}

int qmp_take_event(struct qmp *qmp, const struct qmp_want *want, json_t **ret_event,
                   struct err *err)
{
    json_t *event = event_take(qmp, want);

    while (!event) {
        CLEANUP(json_freep) json_t *stale = NULL;

        if (next_message(qmp, false, &stale, NULL, err) < 0)
            return -1;
        event = event_take(qmp, want);
        if (!stale)
            break;
    }
    *ret_event = event;
    return 0;
}

void qmp_drop_events(struct qmp *qmp)
{
    (void)json_array_clear(qmp->events);
}

int qmp_fd(const struct qmp *qmp)
{
    return line_fd(qmp->socket);
}

const char *qmp_path(const struct qmp *qmp)
{
    return qmp->path;
}

/* --- Opening ------------------------------------------------------------------------------- */

/* QEMU 7.2 listens on a monitor's socket in two threads for a moment of its start. One of them takes
 * our connection, the other waits in accept() for another, and QEMU with it: for ever, if none comes.
 * One does no harm: while ours is open it is not answered. */
static void nudge(const struct qmp *qmp, struct cancel *cancel)
{
    struct line_socket *other = NULL;
    struct err ignored = ERR_EMPTY;

    if (line_connect(qmp->path, &other, cancel, &ignored) == 0)
        line_close(other);
}

/* The next step: the greeting, then the one command that is allowed before all others. */
static int negotiate_step(struct qmp *qmp, bool *greeted, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *greeting = NULL;

    if (*greeted) {
        int rc = qmp_command(qmp, "qmp_capabilities", NULL, NULL, cancel, err);
        /* Asked a second time: the first one was heard after all. */
        if (rc < 0 && err->code == ERR_UNSUPPORTED) {
            err_clear(err);
            return 0;
        }
        return rc;
    }
    if (next_message(qmp, true, &greeting, cancel, err) < 0)
        return err->code == ERR_TIMEOUT ? err_wrap(err, "no greeting (another client may hold it)")
                                        : -1;
    if (!json_is_object(json_object_get(greeting, "QMP")))
        return err_set(err, ERR_PROTOCOL, 0, "monitor %s: no QMP greeting", qmp->path);
    *greeted = true;
    return 0;
}

static int negotiate(struct qmp *qmp, struct cancel *cancel, struct err *err)
{
    bool greeted = false;

    for (;;) {
        CLEANUP(cancel_freep) struct cancel *slice = cancel_new(qmp->clock, cancel, NUDGE_MS);
        bool was_greeted = greeted;
        struct err why = ERR_EMPTY;

        if (negotiate_step(qmp, &greeted, slice, &why) == 0) {
            if (was_greeted)
                return 0;
            continue;
        }
        if (why.code != ERR_TIMEOUT || cancel_left_ms(cancel) == 0)
            return err_set(err, why.code, why.sys, "%s", why.text);
        nudge(qmp, cancel);
    }
}

int qmp_open(const char *path, struct clock *clock, struct qmp **ret_qmp, struct cancel *cancel,
             struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock, cancel, QMP_COMMAND_LIMIT_MS);
    CLEANUP(qmp_closep) struct qmp *qmp = mem_new(struct qmp);

    qmp->path = mem_strdup(path);
    qmp->clock = clock;
    qmp->events = json_array();
    if (line_connect(path, &qmp->socket, limit, err) < 0)
        return err_wrap(err, "monitor");
    if (negotiate(qmp, limit, err) < 0)
        return -1;
    *ret_qmp = TAKE(qmp);
    return 0;
}

void qmp_close(struct qmp *qmp)
{
    if (!qmp)
        return;
    line_close(qmp->socket);
    json_decref(qmp->events);
    free(qmp->path);
    free(qmp);
}

void qmp_closep(struct qmp **qmp)
{
    qmp_close(*qmp);
    *qmp = NULL;
}
