// SPDX-License-Identifier: Apache-2.0
#include "base/fs.h"

#include "base/fault.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static enum err_code code_of(int sys)
{
    if (sys == ENOENT)
        return ERR_NOT_FOUND;
    return sys == EEXIST ? ERR_EXISTS : ERR_IO;
}

/* The error for a failed call on `path`. */
static int failed(const char *what, const char *path, int sys, struct err *err)
{
    return err_set(err, code_of(sys), sys, "%s: %s", path, what);
}

/* The same for a descriptor; the system still knows its path. */
static int failed_fd(const char *what, int fd, int sys, struct err *err)
{
    char path[PATH_MAX];
    char name[64];

    (void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(name, path, sizeof(path) - 1);
    if (len < 0)
        return err_set(err, ERR_IO, sys, "descriptor %d: %s", fd, what);
    path[len] = '\0';
    return err_set(err, ERR_IO, sys, "%s: %s", path, what);
}

static int real_open(struct fs *fs, const char *path, int flags, mode_t mode, int *ret_fd,
                     struct err *err)
{
    (void)fs;
    int sys = fault_hit("fs.open");
    if (sys)
        return failed("open", path, sys, err);
    int fd;
    do
        fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return failed(flags & O_CREAT ? "create" : "open", path, errno, err);
    *ret_fd = fd;
    return 0;
}

static int real_close(struct fs *fs, int fd)
{
    (void)fs;
    return close(fd);
}

static int real_pread(struct fs *fs, int fd, void *buf, size_t len, uint64_t off, struct err *err)
{
    char what[96];
    size_t done = 0;

    (void)fs;
    (void)snprintf(what, sizeof(what), "read %zu bytes at %" PRIu64, len, off);
    int sys = fault_hit("fs.pread");
    if (sys)
        return failed_fd(what, fd, sys, err);
    while (done < len) {
        ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed_fd(what, fd, errno, err);
        if (n == 0) {
            (void)failed_fd(what, fd, 0, err);
            char *text = err ? mem_strdup(err->text) : NULL;
            err_put(err, ERR_CORRUPT, 0, "%s: short, the file ends after %zu", text, done);
            free(text);
            return -1;
        }
        done += (size_t)n;
    }
    return 0;
}

static int real_pwrite(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                       struct err *err)
{
    char what[96];
    size_t done = 0;

    (void)fs;
    (void)snprintf(what, sizeof(what), "write %zu bytes at %" PRIu64, len, off);
    int sys = fault_hit("fs.pwrite");
    if (sys)
        return failed_fd(what, fd, sys, err);
    while (done < len) {
        ssize_t n = pwrite(fd, (const char *)buf + done, len - done, (off_t)(off + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return failed_fd(what, fd, n < 0 ? errno : ENOSPC, err);
        done += (size_t)n;
    }
    return 0;
}

static int real_sync(struct fs *fs, int fd, struct err *err)
{
    (void)fs;
    /* fdatasync flushes the size too whenever it is needed to read the data back. Never
     * repeated on error: the kernel reports a lost page once and then calls it clean. */
    int sys = fault_hit("fs.sync");
    if (!sys && fdatasync(fd) < 0)
        sys = errno;
    return sys ? failed_fd("sync", fd, sys, err) : 0;
}

static int real_truncate(struct fs *fs, int fd, uint64_t size, struct err *err)
{
    char what[64];

    (void)fs;
    (void)snprintf(what, sizeof(what), "set size to %" PRIu64, size);
    int sys = fault_hit("fs.truncate");
    if (sys)
        return failed_fd(what, fd, sys, err);
    while (ftruncate(fd, (off_t)size) < 0)
        if (errno != EINTR)
            return failed_fd(what, fd, errno, err);
    return 0;
}

/* Where the file system has no holes: zeros, up to the file's end. */
static int write_zeros(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err)
{
    static const char zeros[1 << 16];
    struct stat st;

    if (fstat(fd, &st) < 0)
        return failed_fd("stat", fd, errno, err);
    uint64_t size = (uint64_t)st.st_size;
    while (len > 0 && off < size) {
        size_t n = len < sizeof(zeros) ? (size_t)len : sizeof(zeros);
        if (n > size - off)
            n = (size_t)(size - off);
        if (real_pwrite(fs, fd, zeros, n, off, err) < 0)
            return -1;
        off += n;
        len -= n;
    }
    return 0;
}

static int real_punch(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err)
{
    char what[96];

    if (len == 0)
        return 0;
    (void)snprintf(what, sizeof(what), "punch %" PRIu64 " bytes at %" PRIu64, len, off);
    int sys = fault_hit("fs.punch");
    if (sys)
        return failed_fd(what, fd, sys, err);
    while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) < 0) {
        if (errno == EOPNOTSUPP)
            return write_zeros(fs, fd, off, len, err);
        if (errno != EINTR)
            return failed_fd(what, fd, errno, err);
    }
    return 0;
}

static int real_rename(struct fs *fs, const char *from, const char *to, struct err *err)
{
    (void)fs;
    int sys = fault_hit("fs.rename");
    if (!sys && rename(from, to) < 0)
        sys = errno;
    return sys ? err_set(err, code_of(sys), sys, "%s: rename to %s", from, to) : 0;
}

static int real_unlink(struct fs *fs, const char *path, struct err *err)
{
    (void)fs;
    int sys = fault_hit("fs.unlink");
    if (!sys && unlink(path) < 0)
        sys = errno;
    return sys ? failed("remove", path, sys, err) : 0;
}

static int real_mkdir(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    (void)fs;
    int sys = fault_hit("fs.mkdir");
    if (!sys && mkdir(path, mode) < 0)
        sys = errno;
    return sys ? failed("make folder", path, sys, err) : 0;
}

static int real_rmdir(struct fs *fs, const char *path, struct err *err)
{
    (void)fs;
    int sys = fault_hit("fs.rmdir");
    if (!sys && rmdir(path) < 0)
        sys = errno;
    return sys ? failed("remove folder", path, sys, err) : 0;
}

static int real_sync_dir(struct fs *fs, const char *path, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;

    (void)fs;
    int sys = fault_hit("fs.sync_dir");
    if (sys)
        return failed("sync folder", path, sys, err);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failed("open folder", path, errno, err);
    return fsync(fd) < 0 ? failed("sync folder", path, errno, err) : 0;
}

static int64_t ns_of(const struct timespec *at)
{
    return (int64_t)at->tv_sec * 1000000000 + at->tv_nsec;
}

struct fs_stamp fs_stamp_of(const struct stat *st)
{
    if (!S_ISREG(st->st_mode))
        return (struct fs_stamp){.known = false};
    return (struct fs_stamp){true, (uint64_t)st->st_ino, (uint64_t)st->st_size, ns_of(&st->st_mtim),
                             ns_of(&st->st_ctim)};
}

/* Times are written with the rest by fsync alone: fdatasync may leave older ones on the disk. */
static int real_stamp(struct fs *fs, const char *path, struct fs_stamp *ret_stamp, struct err *err)
{
    CLEANUP(fd_close) int fd = -1;
    struct stat st;

    (void)fs;
    int sys = fault_hit("fs.stamp");
    if (sys)
        return failed("stamp", path, sys, err);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return failed("open", path, errno, err);
    if (S_ISREG(st.st_mode) && fsync(fd) < 0)
        return failed("sync", path, errno, err);
    *ret_stamp = fs_stamp_of(&st);
    return 0;
}

/* Whatever the system has against it (other file systems, no reflinks, odd places): it can be copied,
 * and room that is lacking is met then. */
static int real_clone(struct fs *fs, int from, int fd, uint64_t off, uint64_t len, struct err *err)
{
    struct file_clone_range range = {
        .src_fd = from, .src_offset = off, .src_length = len, .dest_offset = off};

    (void)fs;
    int sys = fault_hit("fs.clone");
    if (sys)
        return failed_fd("clone", fd, sys, err);
    if (ioctl(fd, FICLONERANGE, &range) == 0)
        return 0;
    if (errno == EIO)
        return failed_fd("clone", fd, errno, err);
    return err_set(err, ERR_UNSUPPORTED, errno, "its file system clones nothing there");
}

struct fs *fs_real(void)
{
    static struct fs real = {
        .open = real_open,
        .close = real_close,
        .pread = real_pread,
        .pwrite = real_pwrite,
        .sync = real_sync,
        .truncate = real_truncate,
        .punch = real_punch,
        .rename = real_rename,
        .unlink = real_unlink,
        .mkdir = real_mkdir,
        .rmdir = real_rmdir,
        .sync_dir = real_sync_dir,
        .stamp = real_stamp,
        .clone = real_clone,
    };
    return &real;
}

void fd_close(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

char *path_join(const char *dir, const char *name)
{
    size_t len = strlen(dir);
    const char *slash = len > 0 && dir[len - 1] == '/' ? "" : "/";

    return mem_printf("%s%s%s", dir, slash, name);
}
