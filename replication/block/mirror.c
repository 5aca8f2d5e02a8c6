// SPDX-License-Identifier: Apache-2.0
/* The mirror ends in one of three ways:
 *   - BLOCK_JOB_READY: source and sink were equal for an instant; we cancel, it completes.
 *   - A data block comes a second time before that: QEMU's pass over the disk has come round, so
 *     all that was there at the start has been sent, and a guest faster than our link would keep it
 *     going for ever; we cancel. What follows is in the change map.
 *   - It fails.
 * The sink answers each record when its piece has been taken, so QEMU has at most BUFFER_BYTES
 * under way: that also bounds how long a reset of the guest's disk may wait for us.
 *
 * The job's end needs the lock of QEMU's jobs (qemu/graph.h). Somebody who has it may need our answers
 * to go on, so it is tried, not waited for; and it is held for no longer than QEMU needs: what it still
 * sends is taken at once, and handed out afterwards. */
#include "block/mirror.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/sink.h"
#include "block/scan.h"
#include "qemu/blocks.h"
#include "qemu/graph.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHUNK     (UINT64_C(64) << 10)
#define PIECE_MAX (UINT64_C(1) << 20)
/* Room for all requests that QEMU's mirror ever has under way (16 of at most 1 MiB). With less it
 * waits for room among its own requests, and QEMU 7.2 then crashes or stands still: seen in one copy
 * of four with 1 MiB, one of seven with 2 MiB. */
#define BUFFER_BYTES (16 << 20)
#define START_MS     30000
#define LOCK_LOOK_MS 20
#define MOMENT_MS    1000

/* A record that came while the job ended. */
struct late {
    struct sink_record record;
    uint8_t *data;
};
VEC_DEFINE(lates, struct late)

struct mirror {
    char *disk;
    char *node;
    char *plugin_path;
    uint64_t size;
    struct qmp *qmp;
    char job[64];
    char target[BLOCKS_NODE_BYTES];
    char *sink_path; /* we listen */
    char *nbd_path;  /* nbdkit listens */
    int listener, conn, epoll;
    struct proc_id server;
    bool has_target, running, ending;
    bool lent;         /* `qmp` comes and goes, and events with it: the job is looked at */
    int64_t looked_ms; /* when, last */

    uint8_t head[SINK_RECORD_BYTES];
    size_t head_len;
    struct sink_record record; /* valid when head is full */
    bool whole;                /* and its data is there */
    uint8_t *data;
    size_t data_cap, data_len;
    uint64_t given; /* bytes of the record that were handed out */
    uint8_t *seen;  /* bit per CHUNK: data came for it */
    bool through;   /* all that was there at the start has been sent */
    char *qmp_path; /* NULL: no lock */
    struct lates late;
    size_t late_given;
    int graph; /* the lock of QEMU's jobs, while this one ends; else -1 */
};

/* --- Start and stop ------------------------------------------------------------------------ */

static int listen_at(const char *path, int *ret_fd, struct err *err)
{
    CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    if (strlen(path) >= sizeof(at.sun_path))
        return err_set(err, ERR_INVALID, 0,
                       "%s: too long for a socket; hint: use a shorter work folder", path);
    memcpy(at.sun_path, path, strlen(path));
    (void)unlink(path);
    if (fd < 0 || bind(fd, (const struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 4) < 0)
        return err_set(err, ERR_IO, errno, "listen on %s", path);
    *ret_fd = fd_take(&fd);
    return 0;
}

static int watch(struct mirror *mirror, int fd, struct err *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    if (epoll_ctl(mirror->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return err_set(err, ERR_IO, errno, "disk %s: epoll", mirror->disk);
    return 0;
}

/* nbdkit writes its pid file when it takes connections; its socket is there a moment before. */
static int wait_for_server(struct mirror *mirror, const char *pid_path, const char *log,
                           struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, START_MS);

    while (!fs_exists(pid_path)) {
        if (!proc_is_alive(&mirror->server)) {
            CLEANUP(str_free) struct str words = STR_EMPTY;
            struct err none = ERR_EMPTY;
            if (fs_read_file(fs_real(), log, 65536, &words, &none) < 0)
                str_clear(&words);
            return err_set(err, ERR_IO, 0, "disk %s: nbdkit ended: %.400s", mirror->disk,
                           str_text(&words));
        }
        if (cancel_sleep(limit, 2, err) < 0)
            return err_wrap(err, "disk %s: wait for nbdkit", mirror->disk);
    }
    return 0;
}

static int start_server(struct mirror *mirror, struct cancel *cancel, struct err *err)
{
    CLEANUP(mem_freep) char *sink = mem_printf("socket=%s", mirror->sink_path);
    CLEANUP(mem_freep) char *size = mem_printf("size=%" PRIu64, mirror->size);
    CLEANUP(mem_freep) char *log = mem_printf("%s.log", mirror->nbd_path);
    CLEANUP(mem_freep) char *pid_path = mem_printf("%s.pid", mirror->nbd_path);
    const char *const argv[] = {"nbdkit",
                                "--foreground",
                                "--exit-with-parent",
                                "--unix",
                                mirror->nbd_path,
                                "--pidfile",
                                pid_path,
                                mirror->plugin_path,
                                "mode=sink",
                                sink,
                                size,
                                NULL};
    const struct proc_spec spec = {.argv = argv, .log_path = log};
    int rc;

    (void)unlink(mirror->nbd_path);
    (void)unlink(pid_path);
    (void)unlink(log);
    rc = proc_spawn_child(&spec, &mirror->server, err);
    if (rc == 0)
        rc = wait_for_server(mirror, pid_path, log, cancel, err);
    (void)unlink(pid_path);
    (void)unlink(log);
    return rc;
}

static int start_job(struct mirror *mirror, struct cancel *cancel, struct err *err)
{
    json_t *target = json_pack("{s:s, s:s, s:{s:s, s:s}, s:s, s:i}", "driver", "nbd", "node-name",
                               mirror->target, "server", "type", "unix", "path", mirror->nbd_path,
                               "export", "", "reconnect-delay", 0);

    CLEANUP(fd_close) int held = -1;

    if (mirror->qmp_path && graph_lock(mirror->qmp_path, &held, cancel, err) < 0) {
        json_decref(target);
        return err_wrap(err, "disk %s", mirror->disk);
    }
    if (blocks_add(mirror->qmp, target, cancel, err) < 0)
        return err_wrap(err, "disk %s", mirror->disk);
    mirror->has_target = true;
    if (qmp_command(mirror->qmp, "blockdev-mirror",
                    json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i}", "job-id", mirror->job,
                              "device", mirror->node, "target", mirror->target, "sync", "full",
                              "copy-mode", "background", "on-target-error", "report", "granularity",
                              (int)CHUNK, "buf-size", BUFFER_BYTES),
                    NULL, cancel, err)
        < 0)
        return err_wrap(err, "disk %s", mirror->disk);
    mirror->running = true;
    return 0;
}

static int mirror_start(struct mirror *mirror, struct cancel *cancel, struct err *err)
{
    uint64_t chunks = (mirror->size + CHUNK - 1) / CHUNK;

    mirror->seen = mem_try_alloc((size_t)(chunks / 8 + 1), "blocks seen by the mirror", err);
    if (!mirror->seen || listen_at(mirror->sink_path, &mirror->listener, err) < 0)
        return -1;
    mirror->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (mirror->epoll < 0)
        return err_set(err, ERR_IO, errno, "disk %s: epoll", mirror->disk);
    if (watch(mirror, mirror->listener, err) < 0
        || (!mirror->lent && watch(mirror, qmp_fd(mirror->qmp), err) < 0))
        return -1;
    qmp_drop_events(mirror->qmp);
    return start_server(mirror, cancel, err) < 0 ? -1 : start_job(mirror, cancel, err);
}

int mirror_open(const struct mirror_config *config, struct qmp *qmp, struct mirror **ret_mirror,
                struct cancel *cancel, struct err *err)
{
    struct mirror *mirror = mem_new(struct mirror);

    mirror->disk = mem_strdup(config->disk);
    mirror->node = mem_strdup(config->node);
    mirror->plugin_path = mem_strdup(config->plugin_path);
    mirror->size = config->size;
    mirror->qmp = qmp;
    mirror->lent = config->lent;
    mirror->listener = mirror->conn = mirror->epoll = mirror->graph = -1;
    if (!config->lent && config->qmp_path)
        mirror->qmp_path = mem_strdup(config->qmp_path);
    (void)snprintf(mirror->job, sizeof(mirror->job), "%s-mirror", config->tag);
    (void)snprintf(mirror->target, sizeof(mirror->target), "%s-m", config->tag);
    mirror->sink_path = mem_printf("%s/mirror.sink", config->work_dir);
    mirror->nbd_path = mem_printf("%s/mirror.nbd", config->work_dir);
    if (mirror_start(mirror, cancel, err) < 0) {
        mirror_close(mirror);
        return -1;
    }
    *ret_mirror = mirror;
    return 0;
}

static bool may_hold(const struct mirror *mirror)
{
    return mirror->running && mirror->qmp && mirror->qmp_path && mirror->graph < 0;
}

void mirror_close(struct mirror *mirror)
{
    struct err ignored = ERR_EMPTY;

    if (!mirror)
        return;
    /* The sink goes before all that waits: then nothing in QEMU can wait for an answer of ours. But
     * without it the job fails by itself, so the lock is better had before. */
    if (may_hold(mirror)) {
        CLEANUP(cancel_freep) struct cancel *moment = cancel_new(NULL, NULL, MOMENT_MS);
        if (graph_lock(mirror->qmp_path, &mirror->graph, moment, &ignored) < 0)
            err_clear(&ignored);
    }
    fd_close(&mirror->conn);
    fd_close(&mirror->listener);
    fd_close(&mirror->epoll);
    if (mirror->server.pid)
        proc_reap(&mirror->server, NULL);
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, NULL, START_MS);
    if (!mirror->qmp)
        mirror->running = mirror->has_target = false; /* whoever opens the source next finds them */
    if (may_hold(mirror) && graph_lock(mirror->qmp_path, &mirror->graph, limit, &ignored) < 0) {
        mirror->running = mirror->has_target = false;
        err_clear(&ignored);
    }
    if (mirror->running && blocks_cancel_job(mirror->qmp, mirror->job, limit, &ignored) < 0)
        err_clear(&ignored); /* whoever opens the source next finds it */
    if (mirror->has_target && blocks_remove(mirror->qmp, mirror->target, limit, &ignored) < 0)
        err_clear(&ignored);
    fd_close(&mirror->graph);
    (void)unlink(mirror->sink_path);
    (void)unlink(mirror->nbd_path);
    free(mirror->qmp_path);
    free(mirror->sink_path);
    free(mirror->nbd_path);
    free(mirror->disk);
    free(mirror->node);
    free(mirror->plugin_path);
    for (size_t i = mirror->late_given; i < mirror->late.len; i++)
        free(mirror->late.at[i].data);
    lates_free(&mirror->late);
    free(mirror->data);
    free(mirror->seen);
    free(mirror);
}

/* --- Records ------------------------------------------------------------------------------- */

static int sink_gone(struct mirror *mirror, struct err *err)
{
    return err_set(err, ERR_IO, 0, "disk %s: the mirror's sink closed", mirror->disk);
}

/* Reads what there is, up to `len` bytes in all: 1 when they are there, 0 when not yet. */
static int receive(struct mirror *mirror, uint8_t *to, size_t *have, size_t len, struct err *err)
{
    while (*have < len) {
        ssize_t n = recv(mirror->conn, to + *have, len - *have, 0);
        if (n > 0)
            *have += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            return 0;
        else if (n == 0 || errno != EINTR)
            return sink_gone(mirror, err);
    }
    return 1;
}

/* 1: a whole record, with its data, is there. */
static int receive_record(struct mirror *mirror, struct err *err)
{
    size_t len;
    int rc;

    if (mirror->conn < 0) {
        mirror->conn = accept4(mirror->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (mirror->conn < 0)
            return 0;
        if (watch(mirror, mirror->conn, err) < 0)
            return -1;
    }
    if (mirror->head_len < SINK_RECORD_BYTES) {
        rc = receive(mirror, mirror->head, &mirror->head_len, SINK_RECORD_BYTES, err);
        if (rc <= 0)
            return rc;
        if (!sink_get(mirror->head, &mirror->record) || mirror->record.off > mirror->size
            || mirror->record.len > mirror->size - mirror->record.off)
            return err_set(err, ERR_PROTOCOL, 0, "disk %s: the mirror's sink sent no record",
                           mirror->disk);
        mirror->data_len = 0;
        mirror->given = 0;
    }
    if (mirror->record.kind != SINK_DATA)
        return 1;
    len = (size_t)mirror->record.len;
    if (len > mirror->data_cap) {
        free(TAKE(mirror->data));
        mirror->data_cap = 0;
        mirror->data = mem_try_alloc(len, "a block of the mirror", err);
        if (!mirror->data)
            return -1;
        mirror->data_cap = len;
    }
    return receive(mirror, mirror->data, &mirror->data_len, len, err);
}

static int answer(struct mirror *mirror, struct err *err)
{
    const uint8_t ok[SINK_ANSWER_BYTES] = {0};

    mirror->head_len = 0;
    mirror->whole = false;
    /* Four bytes after a full exchange: there is always room in the socket. */
    if (send(mirror->conn, ok, sizeof(ok), MSG_NOSIGNAL) != (ssize_t)sizeof(ok))
        return sink_gone(mirror, err);
    return 0;
}

static void note_seen(struct mirror *mirror)
{
    uint64_t first = mirror->record.off / CHUNK;
    uint64_t end = (mirror->record.off + mirror->record.len + CHUNK - 1) / CHUNK;

    for (uint64_t i = first; i < end; i++) {
        uint8_t bit = (uint8_t)(1U << (i % 8));
        mirror->through |= (mirror->seen[i / 8] & bit) != 0;
        mirror->seen[i / 8] |= bit;
    }
}

/* Hands out the record's next piece: true when there was one. */
static bool give_piece(struct mirror *mirror, struct source_piece *ret_piece)
{
    const struct sink_record *record = &mirror->record;
    uint64_t len = record->len - mirror->given;
    bool zero = record->kind == SINK_ZERO;

    if (len == 0 || (!zero && record->kind != SINK_DATA))
        return false;
    if (!zero && len > PIECE_MAX)
        len = PIECE_MAX;
    if (!zero)
        zero = scan_is_zero(mirror->data + mirror->given, (size_t)len);
    *ret_piece = (struct source_piece){.off = record->off + mirror->given,
                                       .len = len,
                                       .zero = zero,
                                       .data = zero ? NULL : mirror->data + mirror->given};
    mirror->given += len;
    return true;
}

/* 1: there may be something; 0: nothing came within `ms`. */
static int wait_for_more(struct mirror *mirror, int64_t ms, struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, ms);
    struct err over = ERR_EMPTY;

    if (cancel_poll(limit, mirror->epoll, POLLIN, &over) == 0)
        return 1;
    if (over.code == ERR_TIMEOUT && cancel_check(cancel, err) == 0)
        return 0;
    if (over.code != ERR_TIMEOUT && err)
        *err = over;
    return err_wrap(err, "disk %s: mirror", mirror->disk);
}

/* --- The job ------------------------------------------------------------------------------- */

/* 1: the lock is ours, or there is none; 0: somebody else has it. */
static int try_lock(struct mirror *mirror, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *at_once = cancel_new(NULL, NULL, 0);
    struct err why = ERR_EMPTY;

    if (!mirror->qmp_path || mirror->graph >= 0
        || graph_lock(mirror->qmp_path, &mirror->graph, at_once, &why) == 0)
        return 1;
    return why.code == ERR_TIMEOUT ? 0 : err_set(err, why.code, why.sys, "%s", why.text);
}

/* It sets `ending`, or leaves it for later. */
static int let_it_end(struct mirror *mirror, struct cancel *cancel, struct err *err)
{
    int rc = mirror->ending ? 0 : try_lock(mirror, err);

    if (rc <= 0)
        return rc;
    mirror->ending = true;
    /* Not by force: what is under way still arrives. */
    return qmp_command(mirror->qmp, "block-job-cancel", json_pack("{s:s}", "device", mirror->job),
                       NULL, cancel, err);
}

static int job_ended(struct mirror *mirror, const json_t *event, struct err *err)
{
    const char *why = json_get_str(json_object_get(event, "data"), "error", NULL);

    mirror->running = false;
    fd_close(&mirror->graph);
    if (why)
        return err_set(err, ERR_IO, 0, "disk %s: the mirror failed: %s", mirror->disk, why);
    if (!mirror->ending)
        return err_set(err, ERR_CANCELLED, 0, "disk %s: somebody cancelled the mirror",
                       mirror->disk);
    return 0;
}

/* One question for all events of the job, until there is none: whatever reads from QEMU keeps the
 * events that nobody asked for, and for those the descriptor never becomes readable again. */
static int hear(struct mirror *mirror, struct err *err)
{
    static const char *const names[] = {"BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED",
                                        "BLOCK_JOB_CANCELLED", NULL};
    const struct qmp_want want = {names, "device", mirror->job};

    for (;;) {
        CLEANUP(json_freep) json_t *event = NULL;

        if (qmp_take_event(mirror->qmp, &want, &event, err) < 0)
            return -1;
        if (!event)
            return 0;
        if (!str_eq(json_get_str(event, "event", ""), names[0]))
            return job_ended(mirror, event, err);
        mirror->through = true;
    }
}

/* All that the ending job still sends; at most BUFFER_BYTES, and records without data. */
static int take_late(struct mirror *mirror, struct cancel *cancel, struct err *err)
{
    for (;;) {
        int rc;

        if (hear(mirror, err) < 0)
            return -1;
        if (!mirror->running)
            return 0;
        rc = receive_record(mirror, err);
        if (rc == 0)
            rc = wait_for_more(mirror, CANCEL_NEVER, cancel, err) < 0 ? -1 : 0;
        if (rc < 0)
            return -1;
        if (rc == 0)
            continue;
        struct late *late = lates_push(&mirror->late);
        *late = (struct late){.record = mirror->record};
        if (mirror->record.kind == SINK_DATA) {
            late->data = TAKE(mirror->data);
            mirror->data_cap = 0;
        }
        if (answer(mirror, err) < 0)
            return -1;
    }
}

/* The next of them: false when all were handed out. */
static bool next_late(struct mirror *mirror)
{
    if (mirror->late_given == mirror->late.len)
        return false;
    const struct late *late = &mirror->late.at[mirror->late_given++];
    free(mirror->data);
    mirror->record = late->record;
    mirror->data = late->data;
    mirror->data_cap = late->data ? (size_t)late->record.len : 0;
    mirror->given = 0;
    mirror->whole = true;
    return true;
}

static int look_at_job(struct mirror *mirror, struct cancel *cancel, struct err *err)
{
    if (hear(mirror, err) < 0)
        return -1;
    if (!mirror->running || !mirror->through)
        return 0;
    if (let_it_end(mirror, cancel, err) < 0)
        return -1;
    return mirror->ending ? take_late(mirror, cancel, err) : 0;
}

/* One step of receiving: 1 when `ret_piece` is set (or all of them were given), 0: nothing is there
 * yet. */
static int step(struct mirror *mirror, struct source_piece *ret_piece, struct cancel *cancel,
                struct err *err)
{
    int rc;

    if (cancel_check(cancel, err) < 0)
        return -1;
    if (mirror->whole && give_piece(mirror, ret_piece))
        return 1;
    if (mirror->whole && mirror->running && answer(mirror, err) < 0)
        return -1;
    mirror->whole = false;
    if (!mirror->lent && mirror->running && look_at_job(mirror, cancel, err) < 0)
        return -1;
    if (!mirror->running) {
        if (next_late(mirror))
            return 0;
        *ret_piece = (struct source_piece){.off = mirror->size};
        return 1;
    }
    rc = receive_record(mirror, err);
    if (rc < 0)
        return -1;
    mirror->whole = rc > 0;
    if (mirror->whole && mirror->record.kind == SINK_DATA)
        note_seen(mirror);
    return 0;
}

int mirror_next(struct mirror *mirror, struct source_piece *ret_piece, struct cancel *cancel,
                struct err *err)
{
    for (;;) {
        int rc = step(mirror, ret_piece, cancel, err);
        bool waits_for_lock = mirror->through && !mirror->ending;

        if (rc != 0)
            return rc < 0 ? -1 : 0;
        if (!mirror->whole
            && wait_for_more(mirror, waits_for_lock ? LOCK_LOOK_MS : CANCEL_NEVER, cancel, err) < 0)
            return -1;
    }
}

/* --- With a monitor that is lent ------------------------------------------------------------ */

void mirror_lend(struct mirror *mirror, struct qmp *qmp)
{
    if (mirror)
        mirror->qmp = qmp;
}

bool mirror_wants_a_look(const struct mirror *mirror, int64_t every_ms)
{
    struct clock *clock = clock_real();

    return mirror->running && clock->now_ms(clock) - mirror->looked_ms >= every_ms;
}

/* Its end is told to whoever listens just then; what is not listed any more has ended. When we let it
 * end, all that was there at the begin had been sent by then, and how it ended changes nothing. */
int mirror_look(struct mirror *mirror, struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *list = NULL;
    struct clock *clock = clock_real();
    bool there = false, ready = false;
    json_t *entry;
    size_t i;

    if (qmp_command(mirror->qmp, "query-block-jobs", NULL, &list, cancel, err) < 0)
        return -1;
    json_array_foreach(list, i, entry) {
        if (!str_eq(json_get_str(entry, "device", ""), mirror->job))
            continue;
        there = true;
        ready = json_get_bool(entry, "ready", false);
    }
    mirror->looked_ms = clock->now_ms(clock);
    if (there)
        return ready || mirror->through ? let_it_end(mirror, cancel, err) : 0;
    mirror->running = false;
    if (mirror->ending)
        return 0;
    return err_set(err, ERR_IO, 0,
                   "disk %s: the mirror ended before it was through; hint: QEMU's own log may say "
                   "why",
                   mirror->disk);
}

int mirror_next_within(struct mirror *mirror, int64_t ms, struct source_piece *ret_piece,
                       struct cancel *cancel, struct err *err)
{
    struct clock *clock = clock_real();
    int64_t until = clock->now_ms(clock) + ms;

    for (;;) {
        int64_t left = until - clock->now_ms(clock);
        int rc = step(mirror, ret_piece, cancel, err);

        if (rc != 0)
            return rc;
        if (mirror->whole)
            continue;
        rc = wait_for_more(mirror, left > 0 ? left : 0, cancel, err);
        if (rc <= 0)
            return rc;
    }
}
