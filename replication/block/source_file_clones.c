// SPDX-License-Identifier: Apache-2.0
/* All disks of a machine that is off as they were at one instant. That nobody wrote to any of them from
 * before the first was cloned until after the last is seen by their times, which have a coarse clock: a
 * file that was written a moment ago could be written again and not show. So it is left to rest first. */
#include "block/source_file.h"

#include "base/clock.h"
#include "base/fs.h"
#include "block/clone.h"

#include <endian.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define TRIES   3
#define REST_MS 20 /* more than a tick of the clock of files */

/* The start of a qcow2 header (QEMU docs/interop/qcow2.txt), big endian. */
struct qcow2_start {
    uint8_t magic[4];
    uint32_t version;
    uint64_t backing_off;
    uint8_t others[56];
    uint64_t features; /* incompatible ones; of version 3 */
};
#define FEATURE_DATA_FILE UINT64_C(4)

/* An image that reads from other files is not whole without them, and they are not cloned. */
static bool is_whole(const struct file_disk *disk, int fd)
{
    struct qcow2_start start;

    if (file_disk_is_raw(disk))
        return true;
    if (!str_eq(disk->format, "qcow2") || pread(fd, &start, sizeof(start), 0) != sizeof(start)
        || memcmp(start.magic, "QFI\xfb", sizeof(start.magic)) != 0)
        return false;
    return start.backing_off == 0
           && (be32toh(start.version) < 3 || !(be64toh(start.features) & FEATURE_DATA_FILE));
}

static int clone_disk(struct file_disk *disk, uint64_t room, struct err *err)
{
    CLEANUP(fd_close) int opened = -1;
    int from = disk->fd;

    if (!file_disk_is_raw(disk)) /* by its name, as it is served */
        from = opened = open(disk->path, O_RDONLY | O_CLOEXEC);
    if (from < 0 || !is_whole(disk, from))
        return err_set(err, ERR_UNSUPPORTED, 0, "disk %s: not whole in one file", disk->name);
    const struct clone_wish wish = {.from = from, .path = disk->path, .room = room};
    return clone_make(&wish, &disk->clone, err);
}

static bool is_recent(const struct stat *st)
{
    int64_t now = clock_real()->wall_ms(clock_real());
    int64_t changed = (int64_t)st->st_mtim.tv_sec * 1000 + st->st_mtim.tv_nsec / 1000000;

    return changed <= now && changed > now - REST_MS;
}

static int rest(struct source_file *file, struct cancel *cancel, struct err *err)
{
    for (size_t i = 0; i < file->disk_count; i++) {
        struct stat st;

        if (file_disk_stat(&file->disks[i], &st, err) < 0)
            return -1;
        if (is_recent(&st))
            return cancel_sleep(cancel, REST_MS, err);
    }
    return 0;
}

static int look_at_all(struct source_file *file, bool *ret_same, struct err *err)
{
    *ret_same = true;
    for (size_t i = 0; i < file->disk_count; i++) {
        struct stat before = file->disks[i].tracked;

        if (file_disk_stat(&file->disks[i], &file->disks[i].tracked, err) < 0)
            return -1;
        *ret_same = *ret_same && file_is_same(&before, &file->disks[i].tracked);
    }
    return 0;
}

static int clone_all(struct source_file *file, struct err *err)
{
    uint64_t room = 0;

    for (size_t i = 0; i < file->disk_count; i++)
        room += clone_room(file->disks[i].path);
    for (size_t i = 0; i < file->disk_count; i++)
        if (clone_disk(&file->disks[i], room, err) < 0)
            return -1;
    return 0;
}

static bool is_resting(const struct source_file *file)
{
    for (size_t i = 0; i < file->disk_count; i++)
        if (is_recent(&file->disks[i].tracked))
            return false;
    return true;
}

/* `ret_done`: no other try is worth it. */
static int try_once(struct source_file *file, bool *ret_done, struct cancel *cancel,
                    struct err *err)
{
    struct clock *clock = clock_real();
    struct err why = ERR_EMPTY;
    bool same;

    if (rest(file, cancel, err) < 0 || look_at_all(file, &same, err) < 0)
        return -1;
    file->cloned_wall_ms = clock->wall_ms(clock);
    file->cloned_ms = clock->now_ms(clock);
    bool resting = is_resting(file);
    bool cloned = clone_all(file, &why) == 0;
    if (look_at_all(file, &same, err) < 0)
        return -1;
    file->cloned = cloned && resting && same;
    *ret_done = file->cloned || !cloned;
    return 0;
}

int file_clones_make(struct source_file *file, struct cancel *cancel, struct err *err)
{
    bool done = false;
    int rc = 0;

    for (unsigned i = 0; rc == 0 && !done && i < TRIES; i++) {
        file_clones_drop(file);
        rc = try_once(file, &done, cancel, err);
    }
    if (!file->cloned)
        file_clones_drop(file);
    return rc;
}

void file_clones_drop(struct source_file *file)
{
    for (size_t i = 0; i < file->disk_count; i++) {
        struct file_disk *disk = &file->disks[i];

        if (disk->clone < 0)
            continue;
        scan_close(TAKE(file->scan)); /* it may be of this image */
        nbd_image_close(TAKE(disk->image));
        fd_close(&disk->clone);
    }
    file->cloned = false;
}
