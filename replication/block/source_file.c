// SPDX-License-Identifier: Apache-2.0
/* Disks that nobody writes: images and block devices of machines that are off. Nothing tracks
 * them, so tracking lives only in this object, and holds only as long as the files have not been
 * touched: whoever starts a machine on them behind our back shows by their times. We hold no lock
 * on them, so that he can; what was read of them since is refused. */
#include "block/source_file.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/fs.h>

static struct source_file *source_file(struct source *source)
{
    return (struct source_file *)source;
}

static void file_close(struct source *source)
{
    struct source_file *file = source_file(source);

    file_clones_drop(file);
    scan_close(file->scan);
    for (size_t i = 0; i < file->disk_count; i++) {
        fd_close(&file->disks[i].fd);
        nbd_image_close(file->disks[i].image);
        free(file->disks[i].path);
        free(file->disks[i].format);
    }
    free(file->disks);
    free(file->work_dir);
    free(file);
}

static int find_disk(struct source_file *file, const char *name, struct file_disk **ret_disk,
                     struct err *err)
{
    for (size_t i = 0; i < file->disk_count; i++) {
        if (str_eq(file->disks[i].name, name)) {
            *ret_disk = &file->disks[i];
            return 0;
        }
    }
    return err_set(err, ERR_NOT_FOUND, 0, "no disk %s in this source", name);
}

int file_disk_stat(const struct file_disk *disk, struct stat *ret_stat, struct err *err)
{
    if ((file_disk_is_raw(disk) ? fstat(disk->fd, ret_stat) : stat(disk->path, ret_stat)) < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "disk %s: %s",
                       disk->name, disk->path);
    return 0;
}

bool file_is_same(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size
           && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* Of what is read. */
static int view_stat(const struct file_disk *disk, struct stat *ret_stat, struct err *err)
{
    if (disk->clone < 0)
        return file_disk_stat(disk, ret_stat, err);
    if (fstat(disk->clone, ret_stat) < 0)
        return err_set(err, ERR_IO, errno, "disk %s: the clone of %s", disk->name, disk->path);
    return 0;
}

/* What somebody wrote since tracking began, nothing tells: then nothing is tracked any more. */
static int check_untouched(struct source_file *file, const struct file_disk *disk, struct err *err)
{
    struct stat now;

    if (file_disk_stat(disk, &now, err) < 0)
        return -1;
    if (file_is_same(&disk->tracked, &now))
        return 0;
    file->open = file->frozen = 0;
    return err_set(
        err, ERR_STATE, 0,
        "disk %s: somebody wrote to %s, and nothing tracked it; hint: it will be compared "
        "as a whole",
        disk->name, disk->path);
}

/* The server of an image starts when it is first needed, and stays while nobody writes to the file: what
 * it keeps in memory of the image's tables would be of yesterday. */
static int need_image(struct source_file *file, struct file_disk *disk, struct cancel *cancel,
                      struct err *err)
{
    CLEANUP(nbd_image_closep) struct nbd_image *image = NULL;
    struct stat now;
    char *socket;
    int rc;

    if (view_stat(disk, &now, err) < 0)
        return -1;
    if (disk->image && file_is_same(&disk->served, &now))
        return 0;
    if (file->scan)
        scan_close(TAKE(file->scan)); /* it may be of this image */
    nbd_image_close(TAKE(disk->image));
    socket = mem_printf("%s/file-%zu.sock", file->work_dir, (size_t)(disk - file->disks));
    const struct nbd_image_config config = {.name = disk->name,
                                            .path = disk->path,
                                            .format = disk->format,
                                            .socket = socket,
                                            .shared = true,
                                            .fd = disk->clone < 0 ? NULL : &disk->clone};
    rc = nbd_image_start(&config, &image, err);
    free(socket);
    if (rc < 0 || nbd_image_connect(image, cancel, err) < 0)
        return -1;
    disk->served = now;
    disk->image = TAKE(image);
    return 0;
}

static int disk_size(struct source_file *file, struct file_disk *disk, uint64_t *ret_size,
                     struct cancel *cancel, struct err *err)
{
    struct stat st;

    if (!file_disk_is_raw(disk)) {
        if (need_image(file, disk, cancel, err) < 0)
            return -1;
        *ret_size = nbd_image_size(disk->image);
        return 0;
    }
    if (view_stat(disk, &st, err) < 0)
        return -1;
    *ret_size = (uint64_t)st.st_size;
    if (S_ISBLK(st.st_mode) && ioctl(disk->fd, BLKGETSIZE64, ret_size) < 0)
        return err_set(err, ERR_IO, errno, "disk %s: size of %s", disk->name, disk->path);
    *ret_size = (*ret_size + 511) / 512 * 512; /* as QEMU shows it to a guest */
    return 0;
}

static int file_disks(struct source *source, struct source_disks *ret_disks, struct cancel *cancel,
                      struct err *err)
{
    struct source_file *file = source_file(source);

    source_disks_clear(ret_disks);
    for (size_t i = 0; i < file->disk_count; i++) {
        struct file_disk *disk = &file->disks[i];
        struct source_disk *out = source_disks_push(ret_disks);
        struct stat st;

        memcpy(out->name, disk->name, sizeof(out->name));
        if (disk_size(file, disk, &out->size, cancel, err) < 0 || view_stat(disk, &st, err) < 0)
            return -1;
        out->zero_tail = !S_ISBLK(st.st_mode);
        out->allocated_bytes = S_ISBLK(st.st_mode) ? out->size : (uint64_t)st.st_blocks * 512;
        if (out->allocated_bytes > out->size)
            out->allocated_bytes = out->size;
    }
    return 0;
}

static int file_inspect(struct source *source, struct source_state *ret_state,
                        struct cancel *cancel, struct err *err)
{
    struct source_file *file = source_file(source);

    (void)cancel;
    (void)err;
    *ret_state = (struct source_state){
        .quiet = true, .open = file->open, .frozen = file->frozen, .cloned = file->cloned};
    if (!file->open)
        (void)snprintf(ret_state->note, sizeof(ret_state->note),
                       "nothing tracks these disks while no machine uses them");
    return 0;
}

static int file_pending(struct source *source, uint64_t *ret_bytes, struct cancel *cancel,
                        struct err *err)
{
    (void)source;
    (void)cancel;
    (void)err;
    *ret_bytes = 0;
    return 0;
}

static int file_track(struct source *source, uint64_t serial, struct cancel *cancel,
                      struct err *err)
{
    struct source_file *file = source_file(source);

    if (!file->joined && file_clones_make(file, cancel, err) < 0)
        return -1;
    for (size_t i = 0; !file->cloned && i < file->disk_count; i++)
        if (file_disk_stat(&file->disks[i], &file->disks[i].tracked, err) < 0)
            return -1;
    file->open = serial;
    file->frozen = 0;
    return 0;
}

static int open_raw(const struct file_disk *disk, uint64_t size, uint64_t from,
                    struct scan **ret_scan, struct err *err)
{
    return disk->clone < 0
               ? scan_raw_open(disk->name, disk->path, size, from, ret_scan, err)
               : scan_clone_open(disk->name, disk->path, disk->clone, size, from, ret_scan, err);
}

static int file_scan_begin(struct source *source, const char *name, uint64_t from,
                           bool *ret_ordered, struct cancel *cancel, struct err *err)
{
    struct source_file *file = source_file(source);
    struct file_disk *disk;
    uint64_t size;

    scan_close(TAKE(file->scan));
    if (find_disk(file, name, &disk, err) < 0 || disk_size(file, disk, &size, cancel, err) < 0)
        return -1;
    if (file_disk_is_raw(disk)) {
        if (open_raw(disk, size, from, &file->scan, err) < 0)
            return -1;
    } else {
        scan_image_open(disk->image, from, &file->scan);
    }
    *ret_ordered = true;
    return 0;
}

static int file_scan_open(struct source *source, const char *name, uint64_t from,
                          struct scan **ret_scan, struct cancel *cancel, struct err *err)
{
    struct source_file *file = source_file(source);
    struct file_disk *disk;
    uint64_t size;

    if (find_disk(file, name, &disk, err) < 0 || disk_size(file, disk, &size, cancel, err) < 0)
        return -1;
    if (file_disk_is_raw(disk))
        return open_raw(disk, size, from, ret_scan, err);
    *ret_scan = NULL;
    return 0;
}

static int file_scan_next(struct source *source, struct source_piece *ret_piece,
                          struct cancel *cancel, struct err *err)
{
    struct source_file *file = source_file(source);

    if (!file->scan)
        return err_set(err, ERR_STATE, 0, "no scan was begun");
    return scan_next(file->scan, ret_piece, cancel, err);
}

static void file_scan_end(struct source *source)
{
    scan_close(TAKE(source_file(source)->scan));
}

static int64_t clones_age(const struct source_file *file)
{
    int64_t age = clock_real()->now_ms(clock_real()) - file->cloned_ms;

    return age > 0 ? age : 1;
}

static int file_cut(struct source *source, uint64_t serial, struct source_cut *ret_cut,
                    struct cancel *cancel, struct err *err)
{
    struct source_file *file = source_file(source);

    (void)cancel;
    if (file->open == 0 || serial != file->open + 1 || file->frozen)
        return err_set(err, ERR_STATE, 0,
                       "cut %" PRIu64 ": map %" PRIu64 " is open and map %" PRIu64 " frozen",
                       serial, file->open, file->frozen);
    for (size_t i = 0; !file->cloned && i < file->disk_count; i++)
        if (check_untouched(file, &file->disks[i], err) < 0)
            return -1;
    file->frozen = file->open;
    file->open = serial;
    *ret_cut = file->cloned ? (struct source_cut){.wall_ms = file->cloned_wall_ms,
                                                  .age_ms = clones_age(file)}
                            : (struct source_cut){.wall_ms = clock_real()->wall_ms(clock_real())};
    return 0;
}

static int file_changes(struct source *source, const char *name, struct source_extents *ret_extents,
                        struct cancel *cancel, struct err *err)
{
    struct file_disk *disk;

    (void)cancel;
    if (find_disk(source_file(source), name, &disk, err) < 0)
        return -1;
    source_extents_clear(ret_extents);
    return 0;
}

static int read_raw(const struct file_disk *disk, uint64_t off, uint8_t *buf, size_t len,
                    struct err *err)
{
    while (len > 0) {
        ssize_t n = pread(disk->clone < 0 ? disk->fd : disk->clone, buf, len, (off_t)off);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_IO, errno, "disk %s: read %s at %" PRIu64, disk->name,
                           disk->path, off);
        if (n == 0) { /* a size that is no multiple of 512 */
            memset(buf, 0, len);
            return 0;
        }
        buf += n;
        off += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static int file_read(struct source *source, const char *name, uint64_t off, void *buf, size_t len,
                     struct cancel *cancel, struct err *err)
{
    struct source_file *file = source_file(source);
    struct file_disk *disk;
    int rc;

    if (find_disk(file, name, &disk, err) < 0)
        return -1;
    if (file_disk_is_raw(disk))
        rc = cancel_check(cancel, err) < 0 ? -1 : read_raw(disk, off, buf, len, err);
    else if (need_image(file, disk, cancel, err) < 0)
        return -1;
    else
        rc = nbd_image_read(disk->image, off, buf, len, cancel, err);
    return rc == 0 && file->open && disk->clone < 0 ? check_untouched(file, disk, err) : rc;
}

static int file_end(struct source *source, bool delivered, struct cancel *cancel, struct err *err)
{
    (void)cancel;
    (void)err;
    /* Nothing changed, so there is nothing to carry over. What is not delivered is cut once more. */
    if (delivered)
        file_clones_drop(source_file(source));
    source_file(source)->frozen = 0;
    return 0;
}

static int file_forget(struct source *source, struct cancel *cancel, struct err *err)
{
    (void)cancel;
    (void)err;
    file_clones_drop(source_file(source));
    source_file(source)->open = source_file(source)->frozen = 0;
    return 0;
}

static const struct source_ops file_ops = {
    .close = file_close,
    .disks = file_disks,
    .inspect = file_inspect,
    .pending = file_pending,
    .track = file_track,
    .scan_begin = file_scan_begin,
    .scan_next = file_scan_next,
    .scan_end = file_scan_end,
    .cut = file_cut,
    .changes = file_changes,
    .read = file_read,
    .end = file_end,
    .forget = file_forget,
    .scan_open = file_scan_open,
};

void source_file_join(struct source *source)
{
    if (source->ops == &file_ops)
        source_file(source)->joined = true;
}

int source_file_open(const struct source_file_disk *disks, size_t count, const char *work_dir,
                     struct source **ret_source, struct err *err)
{
    struct source_file *file = mem_new(struct source_file);
    CLEANUP(source_closep) struct source *source = &file->base;

    file->base.ops = &file_ops;
    file->work_dir = mem_strdup(work_dir);
    file->disks = mem_new_array(struct file_disk, count);
    for (size_t i = 0; i < count; i++) {
        struct file_disk *disk = &file->disks[i];

        disk->fd = disk->clone = -1;
        file->disk_count++;
        (void)snprintf(disk->name, sizeof(disk->name), "%s", disks[i].name);
        disk->path = mem_strdup(disks[i].path);
        disk->format = mem_strdup(disks[i].format);
        disk->fd = open(disk->path, O_RDONLY | O_CLOEXEC);
        if (disk->fd < 0)
            return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno, "disk %s: open %s",
                           disk->name, disk->path);
    }
    if (fs_make_dirs(fs_real(), work_dir, 0700, err) < 0)
        return -1;
    *ret_source = TAKE(source);
    return 0;
}
