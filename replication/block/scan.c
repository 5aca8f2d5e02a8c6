// SPDX-License-Identifier: Apache-2.0
#include "block/scan.h"

#include "base/fs.h"
#include "base/mem.h"
#include "block/clone.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define UNIT      (UINT64_C(64) << 10)
#define PIECE_MAX (1U << 20)
/* How far an image is asked about its blocks at a time. */
#define WINDOW (UINT64_C(1) << 30)

struct scan {
    char *name;
    char *path;
    int fd;                  /* raw; -1: an image */
    int written;             /* the image itself while `fd` is a clone of it; -1 */
    bool clone;              /* `fd` is one */
    struct nbd_image *image; /* borrowed */
    struct source_extents extents;
    size_t extent;      /* next of them */
    uint64_t known_end; /* extents are known up to here */
    uint64_t size;
    uint64_t at;
    uint64_t data_end; /* [at, data_end) is data */
    uint8_t *buf;      /* PIECE_MAX; NULL until used */
};

bool scan_is_zero(const uint8_t *bytes, size_t len)
{
    /* Equal to itself moved by 16 bytes, and the first 16 are zero. */
    static const uint8_t zeros[16];
    size_t head = len < sizeof(zeros) ? len : sizeof(zeros);

    return memcmp(bytes, zeros, head) == 0
           && (len <= sizeof(zeros) || memcmp(bytes, bytes + 16, len - 16) == 0);
}

static struct scan *scan_new(uint64_t size, uint64_t from)
{
    struct scan *scan = mem_new(struct scan);

    scan->fd = scan->written = -1;
    scan->size = size;
    scan->at = scan->known_end = from / UNIT * UNIT;
    return scan;
}

int scan_raw_open(const char *name, const char *path, uint64_t size, uint64_t from,
                  struct scan **ret_scan, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "disk %s: open %s",
                       name, path);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    *ret_scan = scan_new(size, from);
    (*ret_scan)->fd = fd;
    (*ret_scan)->name = mem_strdup(name);
    (*ret_scan)->path = mem_strdup(path);
    return 0;
}

int scan_written_open(const char *name, const char *path, uint64_t size, uint64_t from,
                      uint64_t room, struct scan **ret_scan, struct err *err)
{
    struct scan *scan;
    struct err why = ERR_EMPTY;
    int clone = -1;

    if (scan_raw_open(name, path, size, from, &scan, err) < 0)
        return -1;
    const struct clone_wish wish = {.from = scan->fd, .path = path, .room = room, .written = true};
    if (clone_make(&wish, &clone, &why) == 0) {
        (void)posix_fadvise(clone, 0, 0, POSIX_FADV_SEQUENTIAL);
        scan->written = scan->fd;
        scan->fd = clone;
        scan->clone = true;
    }
    *ret_scan = scan;
    return 0;
}

int scan_clone_open(const char *name, const char *path, int clone, uint64_t size, uint64_t from,
                    struct scan **ret_scan, struct err *err)
{
    int fd = fcntl(clone, F_DUPFD_CLOEXEC, 3);

    if (fd < 0)
        return err_set(err, ERR_IO, errno, "disk %s: read the clone of %s", name, path);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    *ret_scan = scan_new(size, from);
    (*ret_scan)->fd = fd;
    (*ret_scan)->clone = true;
    (*ret_scan)->name = mem_strdup(name);
    (*ret_scan)->path = mem_strdup(path);
    return 0;
}

bool scan_is_clone(const struct scan *scan)
{
    return scan && scan->clone;
}

void scan_give_up_clone(struct scan *scan)
{
    if (!scan || scan->written < 0)
        return;
    fd_close(&scan->fd);
    scan->fd = fd_take(&scan->written);
    scan->clone = false;
}

void scan_mind_room(struct scan *scan)
{
    if (scan && scan->written >= 0 && clone_lacks_room(scan->fd))
        scan_give_up_clone(scan);
}

void scan_image_open(struct nbd_image *image, uint64_t from, struct scan **ret_scan)
{
    *ret_scan = scan_new(nbd_image_size(image), from);
    (*ret_scan)->image = image;
}

void scan_close(struct scan *scan)
{
    if (!scan)
        return;
    fd_close(&scan->fd);
    fd_close(&scan->written);
    source_extents_free(&scan->extents);
    free(scan->buf);
    free(scan->name);
    free(scan->path);
    free(scan);
}

static uint64_t round_up(const struct scan *scan, uint64_t off)
{
    off = (off + UNIT - 1) / UNIT * UNIT;
    return off < scan->size ? off : scan->size;
}

/* Where the next data begins and ends, at `scan->at` or behind; both the size: nowhere. */
static int raw_find_data(struct scan *scan, uint64_t *ret_start, uint64_t *ret_end, struct err *err)
{
    off_t start = lseek(scan->fd, (off_t)scan->at, SEEK_DATA);
    off_t end;

    *ret_start = *ret_end = scan->size;
    if (start < 0 && errno == ENXIO) /* nothing but a hole up to the end */
        return 0;
    if (start < 0 && errno != EINVAL)
        return err_set(err, ERR_IO, errno, "disk %s: look for data in %s", scan->name, scan->path);
    if (start < 0) { /* it does not know: all is data */
        *ret_start = scan->at;
        return 0;
    }
    end = lseek(scan->fd, start, SEEK_HOLE);
    *ret_start = (uint64_t)start / UNIT * UNIT;
    *ret_end = end < 0 ? scan->size : round_up(scan, (uint64_t)end);
    return 0;
}

static int image_find_data(struct scan *scan, uint64_t *ret_start, uint64_t *ret_end,
                           struct cancel *cancel, struct err *err)
{
    while (scan->extent == scan->extents.len && scan->known_end < scan->size) {
        uint64_t from = scan->known_end;
        uint64_t to = scan->size - from < WINDOW ? scan->size : from + WINDOW;

        source_extents_clear(&scan->extents);
        scan->extent = 0;
        if (nbd_image_extents(scan->image, from, to, &scan->extents, cancel, err) < 0)
            return -1;
        nbd_image_plan(scan->image, &scan->extents);
        scan->known_end = to;
    }
    *ret_start = *ret_end = scan->size;
    if (scan->extent < scan->extents.len) {
        const struct source_extent *extent = &scan->extents.at[scan->extent++];
        *ret_start = extent->off / UNIT * UNIT;
        *ret_end = round_up(scan, extent->off + extent->len);
    }
    return 0;
}

int scan_read(const struct scan *scan, uint64_t off, void *buf, size_t len, struct err *err)
{
    uint8_t *to = buf;
    size_t got = 0;

    while (got < len) {
        ssize_t n = pread(scan->fd, to + got, len - got, (off_t)(off + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_IO, errno, "disk %s: read %s at %llu", scan->name, scan->path,
                           (unsigned long long)(off + got));
        if (n == 0) {
            memset(to + got, 0, len - got);
            break;
        }
        got += (size_t)n;
    }
    return 0;
}

/* Skips to the next data: true when a hole lies before it, as `ret_piece`. */
static int find_data(struct scan *scan, struct source_piece *ret_piece, struct cancel *cancel,
                     struct err *err)
{
    uint64_t start, end;
    uint64_t hole_at = scan->at;

    do {
        if ((scan->fd >= 0 ? raw_find_data(scan, &start, &end, err)
                           : image_find_data(scan, &start, &end, cancel, err))
            < 0)
            return -1;
    } while (end <= scan->at && start < scan->size); /* rounded out, the last one covered it */
    scan->at = start > scan->at ? start : scan->at;
    scan->data_end = end;
    *ret_piece = (struct source_piece){.off = hole_at, .len = scan->at - hole_at, .zero = true};
    return 0;
}

static int next_place(struct scan *scan, struct source_piece *ret_piece, struct cancel *cancel,
                      struct err *err)
{
    struct source_piece piece = {.off = scan->at};

    if (cancel_check(cancel, err) < 0)
        return -1;
    if (scan->at < scan->size && scan->at >= scan->data_end) {
        if (find_data(scan, &piece, cancel, err) < 0)
            return -1;
        if (piece.len > 0) {
            *ret_piece = piece;
            return 0;
        }
    }
    if (scan->at >= scan->size) {
        *ret_piece = (struct source_piece){.off = scan->size};
        return 0;
    }
    uint64_t left = scan->data_end - scan->at;
    *ret_piece = (struct source_piece){.off = scan->at, .len = left < PIECE_MAX ? left : PIECE_MAX};
    return 0;
}

int scan_next_place(struct scan *scan, struct source_piece *ret_piece, struct cancel *cancel,
                    struct err *err)
{
    assert(scan->fd >= 0);
    if (next_place(scan, ret_piece, cancel, err) < 0)
        return -1;
    scan->at = ret_piece->off + ret_piece->len;
    return 0;
}

int scan_next(struct scan *scan, struct source_piece *ret_piece, struct cancel *cancel,
              struct err *err)
{
    struct source_piece piece;

    if (next_place(scan, &piece, cancel, err) < 0)
        return -1;
    if (!piece.zero && piece.len > 0) {
        size_t len = (size_t)piece.len;
        if (!scan->buf)
            scan->buf = mem_alloc(PIECE_MAX, 1);
        if ((scan->fd >= 0 ? scan_read(scan, scan->at, scan->buf, len, err)
                           : nbd_image_read(scan->image, scan->at, scan->buf, len, cancel, err))
            < 0)
            return -1;
        piece.zero = scan_is_zero(scan->buf, len);
        piece.data = scan->buf;
        scan->at += len;
    }
    *ret_piece = piece;
    return 0;
}
