// SPDX-License-Identifier: Apache-2.0
/* A name is looked up by openat2(2) with RESOLVE_BENEATH: the kernel itself refuses to leave the folder.
 * A symbolic link in it is followed as far as it stays inside; a file system mounted in it is inside.
 *
 * Of a qcow2 file (QEMU, docs/interop/qcow2.txt) the header is read before QEMU is let at it: what names
 * other files of the host (a backing file, a data file) is refused, for whoever made the image would
 * choose which ones. Everything else is raw: a raw disk whose guest wrote such a header to its first
 * sector is read wrongly, which costs time and no data. */
#include "replica/seed.h"

#include "base/fs_nbd.h"
#include "base/mem.h"
#include "base/nbd_server.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SECTOR            512U
#define QEMU_LOCK_WRITERS 101 /* the byte that a QEMU holds which writes (block/file-posix.c) */
#define DATA_FILE         (UINT64_C(1) << 2) /* of a qcow2's incompatible features */
#define HEAD_NAME         "head."

struct qcow2_header {
    uint8_t magic[4];
    uint32_t version;
    uint64_t backing_off;
    uint32_t backing_len;
    uint32_t cluster_bits;
    uint64_t size;
    uint32_t encryption;
    uint32_t tables[9];
    uint64_t features;
};

/* --- The file -------------------------------------------------------------------------------- */

/* Whose seeds they are: the folder's own name. What stands in a message is read by the peer, who is to know
 * nothing of where this site keeps what. */
static const char *owner(const struct seed_folder *folder)
{
    const char *slash = strrchr(folder->dir, '/');

    return slash ? slash + 1 : folder->dir;
}

/* Below the folder: an absolute name without the folder's. */
static int relative(const struct seed_folder *folder, const char *name, const char **ret_name,
                    struct err *err)
{
    size_t len = strlen(folder->dir);

    if (name[0] == '/' && strncmp(name, folder->dir, len) == 0 && name[len] == '/')
        name += len + 1;
    if (!*name || strlen(name) >= SEED_NAME_BYTES || strpbrk(name, "\n\r"))
        return err_set(err, ERR_INVALID, 0,
                       "a seed's name has 1 to %d bytes and no line breaks; this one: \"%.80s\"",
                       SEED_NAME_BYTES - 1, name);
    if (name[0] == '/')
        return err_set(
            err, ERR_DENIED, 0,
            "%s is not in %s/ of that site's folder of seeds; hint: put it there, or have "
            "`seeds` in that site's config.lua name another folder",
            name, owner(folder));
    *ret_name = name;
    return 0;
}

static int refused(const struct seed_folder *folder, const char *name, int sys, struct err *err)
{
    if (sys == EXDEV || sys == ELOOP)
        return err_set(
            err, ERR_DENIED, 0,
            "%s leads out of %s/ of that site's folder of seeds; hint: put the file itself "
            "there",
            name, owner(folder));
    if (sys == ENOENT || sys == ENOTDIR)
        return err_set(err, ERR_NOT_FOUND, 0,
                       "%s is not there; hint: put it into %s/ of that site's folder of seeds, or "
                       "protect without a seed",
                       name, owner(folder));
    return err_set(err, sys == EACCES ? ERR_DENIED : ERR_IO, sys, "%s", name);
}

static int open_below(const struct seed_folder *folder, const char *name, int *ret_fd,
                      struct err *err)
{
    const struct open_how how = {
        .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    CLEANUP(fd_close) int dir = open(folder->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, errno == ENOENT ? 0 : errno,
                       "%s/ of that site's folder of seeds%s", owner(folder),
                       errno == ENOENT ? " is not there; hint: make it, and put the file into it"
                                       : "");
    long fd = syscall(SYS_openat2, dir, name, &how, sizeof(how));
    if (fd < 0)
        return refused(folder, name, errno, err);
    *ret_fd = (int)fd;
    return 0;
}

static char *path_of(int fd, const char *otherwise)
{
    CLEANUP(mem_freep) char *link = mem_printf("/proc/self/fd/%d", fd);
    char path[PATH_MAX];
    ssize_t len = readlink(link, path, sizeof(path) - 1);

    if (len <= 0)
        return mem_strdup(otherwise);
    path[len] = '\0';
    return mem_strdup(path);
}

/* --- What it is ------------------------------------------------------------------------------ */

/* One that is linked into the folder, say. */
static int check_no_head(const struct seed_folder *folder, const struct seed *seed,
                         const struct stat *st, struct err *err)
{
    CLEANUP(fs_names_free) struct fs_names groups = {0};

    if (!folder->replicas || !fs_exists(folder->replicas))
        return 0;
    if (fs_list(folder->replicas, &groups, err) < 0)
        return -1;
    for (size_t i = 0; i < groups.len; i++) {
        CLEANUP(mem_freep) char *group = path_join(folder->replicas, groups.at[i]);
        CLEANUP(fs_names_free) struct fs_names disks = {0};
        if (fs_list(group, &disks, NULL) < 0)
            continue;
        for (size_t k = 0; k < disks.len; k++) {
            CLEANUP(mem_freep) char *raw = mem_printf("%s/%s/" HEAD_NAME "raw", group, disks.at[k]);
            CLEANUP(mem_freep)
            char *luks = mem_printf("%s/%s/" HEAD_NAME "luks", group, disks.at[k]);
            struct stat head;
            if ((stat(raw, &head) == 0 || stat(luks, &head) == 0) && head.st_dev == st->st_dev
                && head.st_ino == st->st_ino)
                return err_set(
                    err, ERR_STATE, 0,
                    "%s is the head of a replica; hint: export a point of it, and seed with "
                    "that",
                    seed->name);
        }
    }
    return 0;
}

static int check_unused(const struct seed *seed, int fd, struct err *err)
{
    struct flock writer = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = QEMU_LOCK_WRITERS, .l_len = 1};

    if (fcntl(fd, F_OFD_GETLK, &writer) < 0 || writer.l_type == F_UNLCK)
        return 0;
    return err_set(err, ERR_BUSY, 0,
                   "%s is in use: a QEMU writes to it; hint: seed with a copy of it", seed->name);
}

static int check_qcow2(const struct seed *seed, const struct qcow2_header *header, struct err *err)
{
    const char *what = NULL;

    if (be64toh(header->backing_off) != 0)
        what = "has a backing file";
    else if (be32toh(header->version) >= 3 && (be64toh(header->features) & DATA_FILE))
        what = "keeps its data in another file";
    else if (header->encryption)
        what = "is encrypted";
    else if (be32toh(header->version) < 2 || be32toh(header->version) > 3)
        what = "is of a version that is not known here";
    if (!what)
        return 0;
    return err_set(err, ERR_UNSUPPORTED, 0,
                   "%s %s; hint: `qemu-img convert -O raw` makes one that can be a seed",
                   seed->name, what);
}

/* Its format, and, of a raw one, its size. `ret_size`: of the file. */
static int look(const struct seed_folder *folder, struct seed *seed, int fd, struct err *err)
{
    struct qcow2_header header = {.version = 0};
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(err, ERR_IO, errno, "%s", seed->name);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, 0, "%s is no file", seed->name);
    if (st.st_size == 0)
        return err_set(err, ERR_INVALID, 0, "%s is empty", seed->name);
    if (check_no_head(folder, seed, &st, err) < 0 || check_unused(seed, fd, err) < 0)
        return -1;
    seed->stamp = fs_stamp_of(&st);
    seed->size = (uint64_t)st.st_size;
    ssize_t got = pread(fd, &header, sizeof(header), 0);
    if (got < 0)
        return err_set(err, ERR_IO, errno, "%s: read", seed->name);
    bool qcow2 = got >= 32 && memcmp(header.magic, "QFI\xfb", sizeof(header.magic)) == 0;
    (void)snprintf(seed->format, sizeof(seed->format), "%s", qcow2 ? "qcow2" : "raw");
    seed->plain = !qcow2;
    if (!qcow2)
        return 0;
    seed->size = be64toh(header.size);
    return check_qcow2(seed, &header, err);
}

/* QEMU is let at the file that was looked at, and at no other that somebody puts in its place; that its
 * header is still the one that was read is looked at once more when QEMU has read it. */
static int serve(const struct seed_folder *folder, struct seed *seed, int *file, struct err *err)
{
    struct nbd_pin pin = {.stamp = seed->stamp};
    struct seed again = *seed;
    int fd;

    pin.fd = seed->file = fd_take(file);
    seed->fs = fs_nbd_new(fs_real());
    fs_nbd_serve_pinned(seed->fs, seed->name, &pin, seed->format, folder->run_dir);
    if (seed->fs->open(seed->fs, seed->name, O_RDONLY, 0, &fd, err) < 0)
        return -1;
    seed->fd = fd;
    if (look(folder, &again, seed->file, err) < 0)
        return -1;
    if (again.plain || !fs_stamp_equal(&again.stamp, &seed->stamp))
        return err_set(err, ERR_BUSY, 0, "%s was written to while it was opened", seed->name);
    off_t size = lseek(fd, 0, SEEK_END);
    if (size < 0 || (uint64_t)size < seed->size)
        return err_set(err, ERR_IO, 0, "%s: its server shows %jd bytes of %" PRIu64, seed->name,
                       (intmax_t)size, seed->size);
    return 0;
}

/* "PLACE/x" becomes "x". */
static void hide(struct err *err, const char *place)
{
    size_t len = place ? strlen(place) : 0;
    char *at = err->text;

    while (len > 0 && (at = strstr(at, place)) != NULL) {
        size_t cut = len + (at[len] == '/');
        memmove(at, at + cut, strlen(at + cut) + 1);
    }
}

static int open_named(const struct seed_folder *folder, const char *name, struct seed *ret_seed,
                      struct err *err)
{
    CLEANUP(seed_close) struct seed seed = {.fd = -1};
    CLEANUP(fd_close) int fd = -1;

    if (relative(folder, name, &name, err) < 0 || open_below(folder, name, &fd, err) < 0)
        return -1;
    (void)snprintf(seed.name, sizeof(seed.name), "%s", name);
    CLEANUP(mem_freep) char *said = path_join(folder->dir, name);
    seed.path = path_of(fd, said);
    if (look(folder, &seed, fd, err) < 0)
        return -1;
    if (seed.plain) {
        seed.fs = fs_real();
        seed.fd = fd_take(&fd);
    } else if (serve(folder, &seed, &fd, err) < 0) {
        return -1;
    }
    *ret_seed = seed;
    seed = (struct seed){.fd = -1};
    return 0;
}

int seed_open(const struct seed_folder *folder, const char *name, struct seed *ret_seed,
              struct err *err)
{
    if (open_named(folder, name, ret_seed, err) == 0)
        return 0;
    hide(err, folder->dir);
    hide(err, folder->replicas);
    hide(err, folder->run_dir);
    return -1;
}

void seed_close(struct seed *seed)
{
    if (seed->fs && seed->fd >= 0)
        (void)seed->fs->close(seed->fs, seed->fd);
    if (seed->fs && !seed->plain) {
        fs_nbd_free(seed->fs);
        fd_close(&seed->file);
    }
    free(seed->path);
    *seed = (struct seed){.fd = -1};
}

/* --- What it holds --------------------------------------------------------------------------- */

int seed_fits(const struct seed *seed, const char *disk, uint64_t size, struct err *err)
{
    if (seed->size < size + SECTOR)
        return 0;
    return err_set(err, ERR_STATE, 0,
                   "%s holds %" PRIu64 " bytes, disk %s has %" PRIu64
                   ": a seed is of the size of its disk, or smaller; hint: is it of this disk? "
                   "`qemu-img resize --shrink` cuts a copy of it",
                   seed->name, seed->size, disk, size);
}

int seed_read(const struct seed *seed, void *buf, size_t len, uint64_t off, struct err *err)
{
    uint64_t left = off < seed->size ? seed->size - off : 0;
    size_t n = left < len ? (size_t)left : len;

    memset((uint8_t *)buf + n, 0, len - n);
    if (n > 0 && seed->fs->pread(seed->fs, seed->fd, buf, n, off, err) < 0)
        return err_wrap(err, "seed %s", seed->name);
    return 0;
}

uint64_t seed_next_data(const struct seed *seed, uint64_t off)
{
    if (off >= seed->size)
        return seed->size;
    if (!seed->plain)
        return off;
    off_t at = lseek(seed->fd, (off_t)off, SEEK_DATA);
    if (at < 0)
        return errno == ENXIO ? seed->size : off;
    return (uint64_t)at < seed->size ? (uint64_t)at : seed->size;
}
