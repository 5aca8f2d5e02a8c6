// SPDX-License-Identifier: Apache-2.0
/* Reads are asked for ahead in pieces: the plan's extents widened to 64 KiB (what lies between two
 * changed blocks of one cluster costs nothing to read), joined, cut at PIECE_MAX. `slots` holds the
 * pieces under way or there, oldest first:
 *
 *   pieces   ... | 4 | 5 | 6 | 7 | 8 | 9 ...
 *   slots              [5] [6] [7]             head = 5, next to ask for = 8
 *
 * A read of piece 6 drops 5 and asks for 8. A read of a piece outside the slots waits for those
 * under way and starts over there. */
#include "block/nbd_image.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"

#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLUSTER        (64U << 10)
#define PIECE_MAX      (512U << 10)
#define SLOTS          16
#define STATUS_MAX     (UINT64_C(1) << 31)
#define CONNECT_MS     30000
#define ENDING_LOOKS   40
#define ENDING_LOOK_MS 5

struct slot {
    uint8_t *buf; /* PIECE_MAX */
    bool done;
    int error; /* errno of the server's answer */
};

struct nbd_image {
    char *name;
    char *path;
    char *socket;
    struct proc_id server; /* pid 0: none */
    char *log;
    struct nbd_handle *nbd;
    uint64_t size;
    struct source_extents pieces;
    struct slot slots[SLOTS]; /* piece i lies in slot i % SLOTS */
    size_t head;              /* pieces [head, next) have a slot */
    size_t next;
};

/* --- The server ---------------------------------------------------------------------------- */

/* QEMU's option parser takes a doubled comma for one. */
static char *image_options(const struct nbd_image_config *config)
{
    struct str text = STR_EMPTY;

    str_addf(&text, "driver=%s,force-share=%s,file.driver=file,file.filename=", config->format,
             config->shared ? "on" : "off");
    if (config->fd) {
        str_addf(&text, "/proc/self/fd/%d", *config->fd);
        return str_take(&text);
    }
    for (const char *at = config->path; *at; at++) {
        str_add_bytes(&text, at, 1);
        if (*at == ',')
            str_add(&text, ",");
    }
    return str_take(&text);
}

int nbd_image_start(const struct nbd_image_config *config, struct nbd_image **ret_image,
                    struct err *err)
{
    CLEANUP(mem_freep) char *what = image_options(config);
    const char *argv[] = {"qemu-nbd", "--read-only",  "--persistent", "--image-opts",
                          "--socket", config->socket, what,           NULL};
    CLEANUP(nbd_image_closep) struct nbd_image *image = mem_new(struct nbd_image);
    struct proc_spec spec = {
        .argv = argv, .keep_fds = config->fd, .keep_fd_count = config->fd ? 1 : 0};

    image->name = mem_strdup(config->name);
    image->path = mem_strdup(config->path);
    image->socket = mem_strdup(config->socket);
    image->log = mem_printf("%s.log", config->socket);
    if (strlen(config->socket) >= sizeof(((struct sockaddr_un *)0)->sun_path))
        return err_set(err, ERR_INVALID, 0,
                       "%s: too long for a socket; hint: use a shorter work folder",
                       config->socket);
    spec.log_path = image->log;
    (void)unlink(config->socket);
    (void)unlink(image->log);
    if (proc_spawn_child(&spec, &image->server, err) < 0)
        return err_wrap(err, "disk %s: serve %s", config->name, config->path);
    *ret_image = TAKE(image);
    return 0;
}

void nbd_image_close(struct nbd_image *image)
{
    if (!image)
        return;
    nbd_close(image->nbd);
    if (image->server.pid)
        proc_reap(&image->server, NULL);
    (void)unlink(image->socket);
    (void)unlink(image->log);
    for (size_t i = 0; i < SLOTS; i++)
        free(image->slots[i].buf);
    source_extents_free(&image->pieces);
    free(image->name);
    free(image->path);
    free(image->socket);
    free(image->log);
    free(image);
}

void nbd_image_closep(struct nbd_image **image)
{
    nbd_image_close(*image);
    *image = NULL;
}

/* Why it ended, in its own last words. */
static int server_ended(struct nbd_image *image, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;
    const char *last;

    if (fs_read_file(fs_real(), image->log, 65536, &text, &none) < 0)
        err_clear(&none);
    while (text.len && text.ptr[text.len - 1] == '\n')
        text.ptr[--text.len] = '\0';
    last = strrchr(str_text(&text), '\n');
    return err_set(err, ERR_IO, 0, "disk %s: qemu-nbd for %s ended: %s", image->name, image->path,
                   last ? last + 1 : str_text(&text));
}

static int lost(struct nbd_image *image, const char *what, struct err *err)
{
    struct err none = ERR_EMPTY;

    /* libnbd's words before ours; then a server that is ending gets the time to say why. */
    err_put(err, ERR_IO, nbd_get_errno(), "disk %s: %s %s: %s", image->name, what, image->path,
            nbd_get_error());
    for (int i = 0; i < ENDING_LOOKS; i++) {
        if (!proc_is_alive(&image->server))
            return server_ended(image, err);
        if (cancel_sleep(NULL, ENDING_LOOK_MS, &none) < 0)
            break;
    }
    return -1;
}

/* After a cancel in the middle of a question the connection is of no more use. */
static int broke_off(const struct nbd_image *image, struct err *err)
{
    return err_set(err, ERR_STATE, 0, "disk %s: %s: reading broke off before", image->name,
                   image->path);
}

/* Waits for the server and lets libnbd take one step. */
static int nbd_step(struct nbd_image *image, struct cancel *cancel, struct err *err)
{
    struct pollfd fd = {.fd = nbd_aio_get_fd(image->nbd)};
    unsigned direction = nbd_aio_get_direction(image->nbd);
    int rc = 0;

    if (fd.fd < 0 || nbd_aio_is_dead(image->nbd) || nbd_aio_is_closed(image->nbd))
        return lost(image, "talk to the server of", err);
    if (direction & LIBNBD_AIO_DIRECTION_READ)
        fd.events |= POLLIN;
    if (direction & LIBNBD_AIO_DIRECTION_WRITE)
        fd.events |= POLLOUT;
    if (cancel_poll(cancel, fd.fd, fd.events, err) < 0 || poll(&fd, 1, 0) < 0)
        return err_wrap(err, "disk %s: read %s", image->name, image->path);
    if (fd.revents & (POLLIN | POLLHUP | POLLERR))
        rc = nbd_aio_notify_read(image->nbd);
    else if (fd.revents & POLLOUT)
        rc = nbd_aio_notify_write(image->nbd);
    return rc < 0 ? lost(image, "talk to the server of", err) : 0;
}

/* The server makes its socket when it is ready. */
static int wait_for_socket(struct nbd_image *image, struct cancel *cancel, struct err *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    memcpy(at.sun_path, image->socket, strlen(image->socket));
    for (;;) {
        CLEANUP(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (connect(fd, (const struct sockaddr *)&at, sizeof(at)) == 0) {
            /* libnbd takes the descriptor over, also when it fails */
            return nbd_aio_connect_socket(image->nbd, fd_take(&fd)) < 0
                       ? lost(image, "connect to", err)
                       : 0;
        }
        if (!proc_is_alive(&image->server))
            return server_ended(image, err);
        if (cancel_sleep(cancel, 2, err) < 0)
            return err_wrap(err, "disk %s: wait for qemu-nbd", image->name);
    }
}

int nbd_image_connect(struct nbd_image *image, struct cancel *cancel, struct err *err)
{
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(NULL, cancel, CONNECT_MS);
    int64_t size;

    image->nbd = nbd_create();
    if (!image->nbd || nbd_add_meta_context(image->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0)
        return lost(image, "connect to", err);
    if (wait_for_socket(image, limit, err) < 0)
        return -1;
    while (nbd_aio_is_connecting(image->nbd) > 0)
        if (nbd_step(image, limit, err) < 0)
            return -1;
    size = nbd_aio_is_ready(image->nbd) > 0 ? nbd_get_size(image->nbd) : -1;
    if (size < 0)
        return lost(image, "connect to", err);
    image->size = (uint64_t)size;
    return 0;
}

uint64_t nbd_image_size(const struct nbd_image *image)
{
    return image->size;
}

/* --- Extents ------------------------------------------------------------------------------- */

struct collector {
    struct source_extents *extents;
    uint64_t start, end; /* asked for */
    uint64_t upto;       /* told so far */
    bool done;
    int error;
};

static void add_extent(struct source_extents *extents, uint64_t off, uint64_t len)
{
    struct source_extent *last = extents->len ? &extents->at[extents->len - 1] : NULL;

    if (last && last->off + last->len == off)
        last->len += len;
    else
        *source_extents_push(extents) = (struct source_extent){off, len};
}

static int on_extents(void *data, const char *context, uint64_t off, uint32_t *entries,
                      size_t count, int *error)
{
    struct collector *to = data;

    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
        return 0;
    for (size_t i = 0; i + 1 < count && off < to->end; i += 2) {
        uint64_t len = entries[i] < to->end - off ? entries[i] : to->end - off;
        if (!(entries[i + 1] & LIBNBD_STATE_ZERO) && len)
            add_extent(to->extents, off, len);
        off += len;
    }
    to->upto = off;
    return 0;
}

static int on_extents_done(void *data, int *error)
{
    struct collector *to = data;

    to->error = *error;
    to->done = true;
    return 1;
}

/* Asks about [collector->start, collector->end) and waits for the answer. */
static int ask_extents(struct nbd_image *image, struct collector *collector, struct cancel *cancel,
                       struct err *err)
{
    nbd_extent_callback each = {.callback = on_extents, .user_data = collector};
    nbd_completion_callback end = {.callback = on_extents_done, .user_data = collector};

    collector->done = false;
    collector->upto = collector->start;
    if (nbd_aio_block_status(image->nbd, collector->end - collector->start, collector->start, each,
                             end, 0)
        < 0)
        return lost(image, "ask about the blocks of", err);
    while (!collector->done) {
        if (nbd_step(image, cancel, err) < 0) {
            nbd_close(TAKE(image->nbd)); /* so that nobody calls back into `collector` */
            return -1;
        }
    }
    if (collector->error || collector->upto <= collector->start)
        return err_set(err, ERR_IO, collector->error, "disk %s: %s: blocks at %llu", image->name,
                       image->path, (unsigned long long)collector->start);
    return 0;
}

int nbd_image_extents(struct nbd_image *image, uint64_t from, uint64_t to,
                      struct source_extents *extents, struct cancel *cancel, struct err *err)
{
    struct collector collector = {.extents = extents};

    if (!image->nbd)
        return broke_off(image, err);
    if (nbd_can_meta_context(image->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1) {
        add_extent(extents, from, to - from); /* a server that knows nothing: all is data */
        return 0;
    }
    for (; from < to; from = collector.upto) {
        collector.start = from;
        collector.end = to - from < STATUS_MAX ? to : from + STATUS_MAX;
        if (ask_extents(image, &collector, cancel, err) < 0)
            return -1;
    }
    return 0;
}

/* --- Reading ------------------------------------------------------------------------------- */

static int on_read_done(void *data, int *error)
{
    struct slot *slot = data;

    slot->error = *error;
    slot->done = true;
    return 1;
}

void nbd_image_plan(struct nbd_image *image, const struct source_extents *extents)
{
    source_extents_clear(&image->pieces);
    image->head = image->next = 0;
    VEC_FOREACH(extent, extents) {
        uint64_t off = extent->off / CLUSTER * CLUSTER;
        uint64_t end = (extent->off + extent->len + CLUSTER - 1) / CLUSTER * CLUSTER;

        end = end < image->size ? end : image->size;
        while (off < end) {
            struct source_extent *last =
                image->pieces.len ? &image->pieces.at[image->pieces.len - 1] : NULL;
            uint64_t len = end - off < PIECE_MAX ? end - off : PIECE_MAX;

            if (last && last->off + last->len > off) { /* the cluster the one before ended in */
                off = last->off + last->len;
                continue;
            }
            if (last && last->off + last->len == off && last->len < PIECE_MAX) {
                len = len < PIECE_MAX - last->len ? len : PIECE_MAX - last->len;
                last->len += len;
            } else {
                *source_extents_push(&image->pieces) = (struct source_extent){off, len};
            }
            off += len;
        }
    }
}

static int ask(struct nbd_image *image, struct slot *slot, uint64_t off, size_t len,
               struct err *err)
{
    if (!slot->buf)
        slot->buf = mem_alloc(PIECE_MAX, 1);
    slot->done = false;
    slot->error = 0;
    if (nbd_aio_pread(image->nbd, slot->buf, len, off,
                      (nbd_completion_callback){.callback = on_read_done, .user_data = slot}, 0)
        < 0)
        return lost(image, "read", err);
    return 0;
}

static int wait_slot(struct nbd_image *image, struct slot *slot, struct cancel *cancel,
                     struct err *err)
{
    while (!slot->done)
        if (nbd_step(image, cancel, err) < 0)
            return -1;
    return 0;
}

/* The piece that holds `off`, or `pieces.len`. */
static size_t find_piece(const struct nbd_image *image, uint64_t off)
{
    size_t low = 0, high = image->pieces.len;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct source_extent *piece = &image->pieces.at[middle];

        if (off < piece->off)
            high = middle;
        else if (off >= piece->off + piece->len)
            low = middle + 1;
        else
            return middle;
    }
    return image->pieces.len;
}

/* Makes `piece` the oldest one held, and asks ahead. */
static int move_to(struct nbd_image *image, size_t piece, struct cancel *cancel, struct err *err)
{
    bool restart = piece < image->head || piece > image->next;

    /* A slot is used again only when its answer is there. */
    while (image->head < image->next && (restart || image->head < piece)) {
        if (wait_slot(image, &image->slots[image->head % SLOTS], cancel, err) < 0)
            return -1;
        image->head++;
    }
    if (restart)
        image->head = image->next = piece;
    while (image->next < image->pieces.len && image->next - image->head < SLOTS) {
        const struct source_extent *ahead = &image->pieces.at[image->next];

        if (ask(image, &image->slots[image->next % SLOTS], ahead->off, ahead->len, err) < 0)
            return -1;
        image->next++;
    }
    return 0;
}

/* Reads what stands in no plan, with all slots idle. */
static int read_alone(struct nbd_image *image, uint64_t off, uint8_t *buf, size_t len,
                      struct cancel *cancel, struct err *err)
{
    struct slot *slot = &image->slots[0];

    for (; image->head < image->next; image->head++)
        if (wait_slot(image, &image->slots[image->head % SLOTS], cancel, err) < 0)
            return -1;
    if (ask(image, slot, off, len, err) < 0 || wait_slot(image, slot, cancel, err) < 0)
        return -1;
    if (slot->error)
        return err_set(err, ERR_IO, slot->error, "disk %s: read %s at %llu", image->name,
                       image->path, (unsigned long long)off);
    memcpy(buf, slot->buf, len);
    return 0;
}

int nbd_image_read(struct nbd_image *image, uint64_t off, void *buf, size_t len,
                   struct cancel *cancel, struct err *err)
{
    uint8_t *to = buf;

    if (!image->nbd)
        return broke_off(image, err);
    if (off > image->size || len > image->size - off)
        return err_set(err, ERR_INVALID, 0, "disk %s: read of %zu bytes at %llu, but it has %llu",
                       image->name, len, (unsigned long long)off, (unsigned long long)image->size);
    while (len > 0) {
        size_t i = find_piece(image, off);
        size_t n = len < PIECE_MAX ? len : PIECE_MAX;

        if (i == image->pieces.len) {
            if (read_alone(image, off, to, n, cancel, err) < 0)
                return -1;
        } else {
            const struct source_extent *piece = &image->pieces.at[i];
            struct slot *slot = &image->slots[i % SLOTS];
            uint64_t rest = piece->off + piece->len - off;

            n = len < rest ? len : (size_t)rest;
            if (move_to(image, i, cancel, err) < 0 || wait_slot(image, slot, cancel, err) < 0)
                return -1;
            if (slot->error)
                return err_set(err, ERR_IO, slot->error, "disk %s: read %s at %llu", image->name,
                               image->path, (unsigned long long)off);
            memcpy(to, slot->buf + (off - piece->off), n);
        }
        off += n;
        to += n;
        len -= n;
    }
    return 0;
}
