// SPDX-License-Identifier: Apache-2.0
/* The file seam of the store and of everything else that must survive a power cut. Descriptors
 * are plain ones. fs_real() does the work; fs_record_new() wraps it and writes down every
 * change in order, for the crash test to replay at every prefix. Faults (base/fault.h) are
 * asked for by the operation's name: "fs.open", "fs.pread", "fs.pwrite", "fs.sync",
 * "fs.truncate", "fs.punch", "fs.rename", "fs.unlink", "fs.mkdir", "fs.rmdir", "fs.sync_dir",
 * "fs.stamp", "fs.clone".
 * Errors: ERR_IO / ERR_SPACE with the path in the text, ERR_NOT_FOUND for ENOENT,
 * ERR_EXISTS for EEXIST. Any thread. */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* What tells from outside that a file was written to: all of it changes, or stays, together. */
struct fs_stamp {
    bool known; /* false: it cannot be told, as of a block device */
    uint64_t inode;
    uint64_t size;
    int64_t mtime_ns;
    int64_t ctime_ns;
};

/* As the system tells it; not known of what is no file. */
struct fs_stamp fs_stamp_of(const struct stat *st);

struct fs {
    int (*open)(struct fs *fs, const char *path, int flags, mode_t mode, int *ret_fd,
                struct err *err);
    int (*close)(struct fs *fs, int fd);
    /* All of it or an error; a read past the end is ERR_CORRUPT ("short"). */
    int (*pread)(struct fs *fs, int fd, void *buf, size_t len, uint64_t off, struct err *err);
    int (*pwrite)(struct fs *fs, int fd, const void *buf, size_t len, uint64_t off,
                  struct err *err);
    /* A failed sync is final: the caller must give the file up, never sync it again. */
    int (*sync)(struct fs *fs, int fd, struct err *err);
    int (*truncate)(struct fs *fs, int fd, uint64_t size, struct err *err);
    int (*punch)(struct fs *fs, int fd, uint64_t off, uint64_t len, struct err *err);
    int (*rename)(struct fs *fs, const char *from, const char *to, struct err *err);
    int (*unlink)(struct fs *fs, const char *path, struct err *err);
    int (*mkdir)(struct fs *fs, const char *path, mode_t mode, struct err *err);
    int (*rmdir)(struct fs *fs, const char *path, struct err *err);
    int (*sync_dir)(struct fs *fs, const char *path, struct err *err);
    /* May be NULL: nothing is known then. The stamp given is the one a power cut leaves. */
    int (*stamp)(struct fs *fs, const char *path, struct fs_stamp *ret_stamp, struct err *err);
    /* May be NULL: it cannot. See fs_clone. */
    int (*clone)(struct fs *fs, int from, int fd, uint64_t off, uint64_t len, struct err *err);
};

struct fs *fs_real(void);

/* Whole files. fs_read_file: at most `max` bytes, else ERR_LIMIT. */
int fs_read_file(struct fs *fs, const char *path, size_t max, struct str *ret_text, struct err *err)
    MUST_CHECK;
/* Writes PATH.tmp, syncs it, renames it over PATH, syncs the folder: old or new, never half. */
int fs_replace_file(struct fs *fs, const char *path, const void *bytes, size_t len, mode_t mode,
                    struct err *err) MUST_CHECK;
/* mkdir -p; each new folder is made durable in its parent. */
int fs_make_dirs(struct fs *fs, const char *path, mode_t mode, struct err *err) MUST_CHECK;
/* The stamp of a file by `fs`, if that can tell. */
int fs_stamp(struct fs *fs, const char *path, struct fs_stamp *ret_stamp, struct err *err)
    MUST_CHECK;
/* The bytes of `from`, a plain descriptor that is not of this fs, become those of `fd` at the same place
 * without being copied (a reflink). `len` 0: up to the end of `from`. ERR_UNSUPPORTED: the file systems
 * cannot, or not there: copy. */
int fs_clone(struct fs *fs, int from, int fd, uint64_t off, uint64_t len, struct err *err)
    MUST_CHECK;
bool fs_stamp_equal(const struct fs_stamp *a, const struct fs_stamp *b);
/* Names in a folder, sorted, without "." and "..". Free with fs_names_free. */
struct fs_names {
    char **at;
    size_t len;
};
int fs_list(const char *path, struct fs_names *ret_names, struct err *err) MUST_CHECK;
void fs_names_free(struct fs_names *names); /* also for CLEANUP */
bool fs_exists(const char *path);
/* rm -r; what is not there is no error. */
int fs_remove_tree(struct fs *fs, const char *path, struct err *err) MUST_CHECK;
/* Exclusive lock on PATH (made when missing); ERR_BUSY names the holder's pid when another
 * process has it. Closing the descriptor releases it. */
int fs_lock(const char *path, int *ret_fd, struct err *err) MUST_CHECK;
/* The same among threads too, waiting for whoever has it: for what is held for moments. */
int fs_lock_wait(const char *path, int *ret_fd, struct cancel *cancel, struct err *err) MUST_CHECK;
/* Bytes free for us on the file system of `path`. */
int fs_free_bytes(const char *path, uint64_t *ret_bytes, struct err *err) MUST_CHECK;

void fd_close(int *fd); /* for CLEANUP; -1 is fine */
/* Its value; *fd becomes -1, so that its cleanup does nothing. */
static inline int fd_take(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}
/* "DIR/NAME" in malloc'ed memory. */
char *path_join(const char *dir, const char *name);

/* --- The recorder ------------------------------------------------------------------------ */

enum fs_op_kind {
    FS_OP_CREATE,
    FS_OP_WRITE,
    FS_OP_SYNC,
    FS_OP_TRUNCATE,
    FS_OP_PUNCH,
    FS_OP_RENAME,
    FS_OP_UNLINK,
    FS_OP_MKDIR,
    FS_OP_RMDIR,
    FS_OP_SYNC_DIR,
    FS_OP_MARK /* put in by the test: "the caller was told X is durable from here on" */
};

struct fs_op {
    enum fs_op_kind kind;
    uint64_t file; /* number of the file written, kept across renames; 0 where none */
    char *path;    /* relative to the root; CREATE, RENAME(from), UNLINK, MKDIR, RMDIR, SYNC_DIR */
    char *path_to; /* RENAME */
    uint64_t off;
    uint64_t len; /* TRUNCATE: the new size */
    void *bytes;  /* WRITE: the data; MARK: the test's own text */
};

struct fs_record;
/* Records all changes below the folder `root` while doing them; what is in it already counts as
 * durable. Descriptors are opened and closed through the recorder. Single-threaded use. */
struct fs_record *fs_record_new(const char *root);
void fs_record_free(struct fs_record *record);
struct fs *fs_record_fs(struct fs_record *record);
void fs_record_mark(struct fs_record *record, const char *text);
/* A sync of that file failed: what was written to it since the one before is not durable, and a
 * later sync does not make it so (the system has dropped it, and forgotten that). */
void fs_record_sync_failed(struct fs_record *record, int fd);
size_t fs_record_count(const struct fs_record *record);
const struct fs_op *fs_record_at(const struct fs_record *record, size_t i);

/* What becomes of changes that were not synced when the power went. */
enum fs_loss {
    FS_LOSS_NONE, /* all reached the disk (a killed process) */
    FS_LOSS_ALL,  /* none did */
    FS_LOSS_SOME, /* each did or did not, by the seed */
    FS_LOSS_TORN, /* as SOME, and of one write only the part before, or only the part behind, a
                     512-byte boundary of the file is there */
};
/* Builds in the empty folder `into` what a disk holds when the power goes after the first
 * `prefix` operations. `seed` decides what is lost. File data is durable after SYNC of that
 * file; names (create, rename, unlink, mkdir) after SYNC_DIR of their folder, in order per
 * folder. */
int fs_record_replay(const struct fs_record *record, size_t prefix, enum fs_loss loss,
                     uint64_t seed, const char *into, struct err *err) MUST_CHECK;
/* The same disk has the same key: two cuts of one record that leave it need not both be built. */
struct sha256;
int fs_record_replay_key(const struct fs_record *record, size_t prefix, enum fs_loss loss,
                         uint64_t seed, struct sha256 *ret_key, struct err *err) MUST_CHECK;
