// SPDX-License-Identifier: Apache-2.0
#include "block/clone.h"

#include "base/fs.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <linux/fiemap.h>
#include <linux/fs.h>

/* While an image is cloned its writers wait, for each piece that it lies in: 20 to 60 us were measured on
 * XFS (in a loop device, on a busy host). */
#define PIECES_MAX 2000u
/* What is left to everybody else: this part of a file system, or so much. */
#define RESERVE_PART 16u
#define RESERVE_MAX  (UINT64_C(8) << 30)

static int cannot(const struct clone_wish *wish, int sys, const char *what, struct err *err)
{
    return err_set(err, ERR_UNSUPPORTED, sys, "clone %s: %s", wish->path, what);
}

static int look_at_room(int fd, uint64_t *ret_free, uint64_t *ret_reserve)
{
    struct statvfs st;

    if (fstatvfs(fd, &st) < 0)
        return -1;
    uint64_t part = (uint64_t)st.f_blocks * st.f_frsize / RESERVE_PART;
    *ret_free = (uint64_t)st.f_bavail * st.f_frsize;
    *ret_reserve = part < RESERVE_MAX ? part : RESERVE_MAX;
    return 0;
}

uint64_t clone_room(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_blocks * 512 : 0;
}

bool clone_lacks_room(int fd)
{
    uint64_t have, reserve;

    return look_at_room(fd, &have, &reserve) < 0 || have < reserve;
}

static int check_room(const struct clone_wish *wish, struct err *err)
{
    uint64_t have, reserve;

    if (look_at_room(wish->from, &have, &reserve) < 0)
        return cannot(wish, errno, "how much room is there", err);
    if (have >= reserve && have - reserve >= wish->room)
        return 0;
    return err_set(err, ERR_UNSUPPORTED, 0,
                   "clone %s: what is written meanwhile may need %" PRIu64 " bytes, %" PRIu64
                   " are free",
                   wish->path, wish->room, have);
}

/* A file without a name in the folder of the image, wherever a link leads. */
static int make_nameless(const struct clone_wish *wish, int *ret_fd, struct err *err)
{
    char *real = realpath(wish->path, NULL);
    char *slash = real ? strrchr(real, '/') : NULL;
    int fd = -1;

    if (slash) {
        slash[slash == real] = '\0';
        fd = open(real, O_TMPFILE | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    }
    int sys = errno;
    free(real);
    if (fd < 0)
        return cannot(wish, sys, "its folder takes no files without a name", err);
    *ret_fd = fd;
    return 0;
}

/* Not of all of it at first: where nothing can be cloned, nothing is written out for that. What is in
 * memory only is written out before, rather than while the guest waits. */
static int prepare_written(const struct clone_wish *wish, uint64_t size, int to, struct err *err)
{
    struct fiemap map = {.fm_length = FIEMAP_MAX_OFFSET};
    struct statvfs st;

    if (fstatvfs(wish->from, &st) < 0)
        return err_set(err, ERR_UNSUPPORTED, errno, "what file system is it on");
    if (size >= st.f_bsize && fs_clone(fs_real(), wish->from, to, 0, st.f_bsize, err) < 0)
        return -1;
    if (ioctl(wish->from, FS_IOC_FIEMAP, &map) < 0)
        return err_set(err, ERR_UNSUPPORTED, errno, "how does it lie on the disk");
    if (map.fm_mapped_extents > PIECES_MAX)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "it lies in %" PRIu32 " pieces, its guest would wait too long",
                       map.fm_mapped_extents);
    return fdatasync(wish->from) < 0 ? err_set(err, ERR_UNSUPPORTED, errno, "write it out") : 0;
}

int clone_make(const struct clone_wish *wish, int *ret_fd, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    struct stat st;
    struct err why = ERR_EMPTY;

    if (fstat(wish->from, &st) < 0 || !S_ISREG(st.st_mode))
        return cannot(wish, 0, "no file", err);
    if (check_room(wish, err) < 0 || make_nameless(wish, &fd, err) < 0)
        return -1;
    if ((wish->written && prepare_written(wish, (uint64_t)st.st_size, fd, &why) < 0)
        || fs_clone(fs_real(), wish->from, fd, 0, 0, &why) < 0)
        return cannot(wish, why.sys, why.text, err);
    *ret_fd = fd_take(&fd);
    return 0;
}
