// SPDX-License-Identifier: Apache-2.0
/* Whole files and folders, put together from the operations of a struct fs. */
#include "base/fault.h"
#include "base/fs.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LOCK_LOOK_MS 5

static int failed(const char *what, const char *path, int sys, struct err *err)
{
    enum err_code code = sys == ENOENT ? ERR_NOT_FOUND : ERR_IO;

    return err_set(err, code, sys, "%s: %s", path, what);
}

/* A descriptor opened through `fs`, closed through it at the end of its block. */
struct open_file {
    struct fs *fs;
    int fd;
};

static void open_file_close(struct open_file *file)
{
    if (file->fd >= 0)
        (void)file->fs->close(file->fs, file->fd);
    file->fd = -1;
}

int fs_read_file(struct fs *fs, const char *path, size_t max, struct str *ret_text, struct err *err)
{
    CLEANUP(open_file_close) struct open_file file = {fs, -1};
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char buf[16384];

    if (fs->open(fs, path, O_RDONLY, 0, &file.fd, err) < 0)
        return -1;
    int sys = fault_hit("fs.pread");
    if (sys)
        return failed("read", path, sys, err);
    /* To the end rather than by stat: files of /proc say they are empty. */
    for (;;) {
        ssize_t n = read(file.fd, buf, sizeof(buf));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed("read", path, errno, err);
        if (n == 0)
            break;
        if ((size_t)n > max - text.len)
            return err_set(err, ERR_LIMIT, 0, "%s: larger than %zu bytes", path, max);
        str_add_bytes(&text, buf, (size_t)n);
    }
    str_free(ret_text);
    *ret_text = text;
    text = (struct str)STR_EMPTY;
    return 0;
}

/* The folder that holds `path`, in malloc'ed memory. */
static char *parent_of(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    if (len == 0)
        return mem_strdup(".");
    while (len > 1 && path[len - 1] == '/')
        len--;
    return mem_printf("%.*s", (int)len, path);
}

static int write_new(struct fs *fs, const char *path, const void *bytes, size_t len, mode_t mode,
                     struct err *err)
{
    CLEANUP(open_file_close) struct open_file file = {fs, -1};

    if (fs->open(fs, path, O_WRONLY | O_CREAT | O_EXCL, mode, &file.fd, err) < 0)
        return -1;
    if (len > 0 && fs->pwrite(fs, file.fd, bytes, len, 0, err) < 0)
        return -1;
    return fs->sync(fs, file.fd, err);
}

int fs_stamp(struct fs *fs, const char *path, struct fs_stamp *ret_stamp, struct err *err)
{
    if (fs->stamp)
        return fs->stamp(fs, path, ret_stamp, err);
    memset(ret_stamp, 0, sizeof(*ret_stamp));
    return 0;
}

int fs_clone(struct fs *fs, int from, int fd, uint64_t off, uint64_t len, struct err *err)
{
    if (fs->clone)
        return fs->clone(fs, from, fd, off, len, err);
    return err_set(err, ERR_UNSUPPORTED, 0, "nothing is cloned here");
}

bool fs_stamp_equal(const struct fs_stamp *a, const struct fs_stamp *b)
{
    return a->inode == b->inode && a->size == b->size && a->mtime_ns == b->mtime_ns
           && a->ctime_ns == b->ctime_ns;
}

int fs_replace_file(struct fs *fs, const char *path, const void *bytes, size_t len, mode_t mode,
                    struct err *err)
{
    CLEANUP(mem_freep) char *tmp = mem_printf("%s.tmp", path);
    CLEANUP(mem_freep) char *dir = parent_of(path);
    struct err ignored;

    /* One left over from a crash might have other content and another mode. */
    if (fs_exists(tmp) && fs->unlink(fs, tmp, err) < 0)
        return err_wrap(err, "replace %s", path);
    if (write_new(fs, tmp, bytes, len, mode, err) < 0 || fs->rename(fs, tmp, path, err) < 0) {
        if (fs_exists(tmp))
            (void)fs->unlink(fs, tmp, &ignored);
        return err_wrap(err, "replace %s", path);
    }
    if (fs->sync_dir(fs, dir, err) < 0)
        return err_wrap(err, "replace %s", path);
    return 0;
}

static bool is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int make_dir(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    CLEANUP(mem_freep) char *parent = parent_of(path);

    if (is_dir(path))
        return 0;
    if (fs->mkdir(fs, path, mode, err) < 0) {
        /* Someone else may have been first. */
        if (!is_dir(path))
            return -1;
        err_clear(err);
        return 0;
    }
    if (fs->sync_dir(fs, parent, err) == 0)
        return 0;
    /* A folder that is there counts as durable, so this one must not stay. */
    (void)fs->rmdir(fs, path, NULL);
    return -1;
}

int fs_make_dirs(struct fs *fs, const char *path, mode_t mode, struct err *err)
{
    CLEANUP(mem_freep) char *copy = mem_strdup(path);

    for (char *at = copy + strspn(copy, "/"); *at;) {
        char *slash = strchr(at, '/');
        if (slash)
            *slash = '\0';
        if (make_dir(fs, copy, mode, err) < 0)
            return -1;
        if (!slash)
            break;
        *slash = '/';
        at = slash + strspn(slash, "/");
    }
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void dir_close(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

int fs_list(const char *path, struct fs_names *ret_names, struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    CLEANUP(dir_close) DIR *dir = opendir(path);
    size_t cap = 0;

    if (!dir)
        return failed("list", path, errno, err);
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno)
            return failed("list", path, errno, err);
        if (!entry)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (names.len == cap) {
            cap = cap ? cap * 2 : 16;
            names.at = mem_grow(names.at, cap, sizeof(*names.at));
        }
        names.at[names.len++] = mem_strdup(entry->d_name);
    }
    if (names.len > 1)
        qsort(names.at, names.len, sizeof(*names.at), by_name);
    *ret_names = names;
    names = (struct fs_names){NULL, 0};
    return 0;
}

void fs_names_free(struct fs_names *names)
{
    for (size_t i = 0; i < names->len; i++)
        free(names->at[i]);
    free(names->at);
    names->at = NULL;
    names->len = 0;
}

bool fs_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

int fs_remove_tree(struct fs *fs, const char *path, struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names names = {NULL, 0};
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : failed("stat", path, errno, err);
    if (!S_ISDIR(st.st_mode))
        return fs->unlink(fs, path, err);
    if (fs_list(path, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.len; i++) {
        CLEANUP(mem_freep) char *child = path_join(path, names.at[i]);
        if (fs_remove_tree(fs, child, err) < 0)
            return -1;
    }
    return fs->rmdir(fs, path, err);
}

static int say_who_locked(const char *path, int fd, struct err *err)
{
    char text[32] = "";
    uint64_t pid;

    if (pread(fd, text, sizeof(text) - 1, 0) > 0 && str_to_u64(text, &pid))
        return err_set(err, ERR_BUSY, 0, "%s: locked by process %" PRIu64, path, pid);
    return err_set(err, ERR_BUSY, 0, "%s: locked by another process", path);
}

int fs_lock(const char *path, int *ret_fd, struct err *err)
{
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char pid[32];

    if (fd < 0)
        return failed("open", path, errno, err);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            return say_who_locked(path, fd, err);
        if (errno != EINTR)
            return failed("lock", path, errno, err);
    }
    int len = snprintf(pid, sizeof(pid), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) < 0 || pwrite(fd, pid, (size_t)len, 0) != (ssize_t)len)
        return failed("write", path, errno, err);
    *ret_fd = fd;
    fd = -1;
    return 0;
}

int fs_lock_wait(const char *path, int *ret_fd, struct cancel *cancel, struct err *err)
{
    CLEANUP(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    if (fd < 0)
        return failed("open", path, errno, err);
    while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return failed("lock", path, errno, err);
        if (cancel_sleep(cancel, LOCK_LOOK_MS, err) < 0)
            return err_wrap(err, "%s", path);
    }
    *ret_fd = fd_take(&fd);
    return 0;
}

int fs_free_bytes(const char *path, uint64_t *ret_bytes, struct err *err)
{
    struct statvfs st;

    if (statvfs(path, &st) < 0)
        return failed("statvfs", path, errno, err);
    *ret_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return 0;
}
