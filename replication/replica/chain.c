// SPDX-License-Identifier: Apache-2.0
/* The page, in the machine's own byte order (it never leaves it):
 *
 *        0  magic, version
 *       16  id of the system's start (/proc/sys/kernel/random/boot_id), 40 bytes
 *       64  sequence
 *     4096  slot 0: head, count, points[CHAIN_POINTS_MAX]
 *   135184  slot 1: the same
 *
 * The list of sequence s stands in slot s & 1; the writer fills the other slot and then raises
 * the sequence. The top bit of a point (CHAIN_GONE) says that only its file is there. A writer that is killed in between leaves the old list as it was, so there is
 * no moment in which readers would wait for it. A reader that was overtaken twice sees another
 * sequence than it began with, and starts over.
 *
 * Who views a point holds a shared lock on the byte of the file that has the point's number (an OFD
 * lock: the kernel ends it with the process); who moves undo files up to one takes that range for
 * itself first, and leaves it when somebody is there. */
#include "replica/chain.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAGIC      UINT64_C(0x314e494843545355)
#define VERSION    2U
#define BOOT_BYTES 40U

struct slot {
    _Atomic uint64_t head;
    _Atomic uint64_t count;
    _Atomic uint64_t points[CHAIN_POINTS_MAX];
};

struct page {
    uint64_t magic;
    uint64_t version;
    char boot[BOOT_BYTES];
    char pad[8];
    _Atomic uint64_t seq;
    char rest[4096 - 72];
    struct slot slots[2];
};
_Static_assert(offsetof(struct page, seq) == 64, "the sequence is at 64");
_Static_assert(offsetof(struct page, slots) == 4096, "the slots begin on the second page");

struct chain {
    struct page *page;
    int fd; /* for locks */
};

static int boot_id(char ret_id[BOOT_BYTES], struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_read_file(fs_real(), "/proc/sys/kernel/random/boot_id", 256, &text, err) < 0)
        return -1;
    memset(ret_id, 0, BOOT_BYTES);
    memcpy(ret_id, str_text(&text), text.len < BOOT_BYTES - 1 ? text.len : BOOT_BYTES - 1);
    return 0;
}

/* Takes the descriptor over. */
static int map(int *fd, const char *path, int prot, struct chain **ret_chain, struct err *err)
{
    void *page = mmap(NULL, sizeof(struct page), prot, MAP_SHARED, *fd, 0);

    if (page == MAP_FAILED)
        return err_set(err, ERR_IO, errno, "%s: map", path);
    *ret_chain = mem_new(struct chain);
    (*ret_chain)->page = page;
    (*ret_chain)->fd = fd_take(fd);
    return 0;
}

static int make_room(struct fs *fs, int fd, const char *path, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(err, ERR_IO, errno, "%s: stat", path);
    if (st.st_size != (off_t)sizeof(struct page)
        && fs->truncate(fs, fd, sizeof(struct page), err) < 0)
        return -1;
    /* Room now, or a full disk would end us by a signal at some later store. No content changes,
     * so it is no operation of the seam. */
    if (fallocate(fd, 0, 0, (off_t)sizeof(struct page)) < 0 && errno != EOPNOTSUPP)
        return err_set(err, ERR_IO, errno, "%s: reserve %zu bytes", path, sizeof(struct page));
    return 0;
}

int chain_open(struct fs *fs, const char *dir, struct chain **ret_chain, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, CHAIN_FILE);
    CLEANUP(fd_close) int locks = -1; /* a description of its own, which outlives the seam's */
    struct chain *chain;
    char boot[BOOT_BYTES];
    int fd;

    if (boot_id(boot, err) < 0 || fs->open(fs, path, O_RDWR | O_CREAT, 0600, &fd, err) < 0)
        return -1;
    int rc = make_room(fs, fd, path, err);
    (void)fs->close(fs, fd);
    if (rc < 0 || fs_real()->open(fs_real(), path, O_RDWR, 0, &locks, err) < 0
        || map(&locks, path, PROT_READ | PROT_WRITE, &chain, err) < 0)
        return -1;
    struct page *page = chain->page;
    if (page->magic != MAGIC || page->version != VERSION) {
        page->version = VERSION;
        page->magic = MAGIC;
    }
    if (memcmp(page->boot, boot, BOOT_BYTES) != 0) {
        /* No view lives from before this start. Until the store publishes, nothing is there. */
        const struct chain_points none = VEC_EMPTY;
        chain_publish(chain, 0, &none);
        memcpy(page->boot, boot, BOOT_BYTES);
    }
    *ret_chain = chain;
    return 0;
}

void chain_publish(struct chain *chain, uint64_t head, const struct chain_points *points)
{
    struct page *page = chain->page;
    uint64_t seq = atomic_load_explicit(&page->seq, memory_order_relaxed) + 1;
    struct slot *slot = &page->slots[seq & 1];
    size_t count = points->len < CHAIN_POINTS_MAX ? points->len : CHAIN_POINTS_MAX;

    atomic_store_explicit(&slot->head, head, memory_order_relaxed);
    atomic_store_explicit(&slot->count, count, memory_order_relaxed);
    for (size_t i = 0; i < count; i++)
        atomic_store_explicit(&slot->points[i], points->at[i], memory_order_relaxed);
    atomic_store_explicit(&page->seq, seq, memory_order_release);
    /* Nothing written to head from here on may be seen by one who does not see the sequence. */
    atomic_thread_fence(memory_order_seq_cst);
}

int chain_map(const char *dir, struct chain **ret_chain, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, CHAIN_FILE);
    CLEANUP(chain_freep) struct chain *chain = NULL;
    CLEANUP(fd_close) int fd = -1;
    struct fs *fs = fs_real();
    char boot[BOOT_BYTES];
    struct stat st;

    if (boot_id(boot, err) < 0 || fs->open(fs, path, O_RDONLY, 0, &fd, err) < 0)
        return -1;
    if (fstat(fd, &st) < 0 || st.st_size != (off_t)sizeof(struct page))
        return err_set(err, ERR_STATE, 0, "%s: not a chain page; hint: open the store first", path);
    if (map(&fd, path, PROT_READ, &chain, err) < 0)
        return -1;
    if (chain->page->magic != MAGIC || chain->page->version != VERSION
        || memcmp(chain->page->boot, boot, BOOT_BYTES) != 0)
        return err_set(err, ERR_STATE, 0,
                       "%s: the store was not opened since this system started; hint: start the"
                       " daemon first",
                       path);
    *ret_chain = TAKE(chain);
    return 0;
}

/* --- Locks ------------------------------------------------------------------------------- */

static struct flock range_lock(short type, uint64_t first, uint64_t count)
{
    return (struct flock){
        .l_type = type,
        .l_whence = SEEK_SET,
        .l_start = (off_t)first,
        .l_len = (off_t)count,
    };
}

bool chain_lock(struct chain *chain, uint64_t last)
{
    struct flock lock = range_lock(F_WRLCK, 0, last + 1);

    return fcntl(chain->fd, F_OFD_SETLK, &lock) == 0;
}

void chain_unlock(struct chain *chain, uint64_t last)
{
    struct flock lock = range_lock(F_UNLCK, 0, last + 1);

    (void)fcntl(chain->fd, F_OFD_SETLK, &lock);
}

int chain_hold(struct chain *chain, uint64_t point, struct err *err)
{
    struct flock lock = range_lock(F_RDLCK, point, 1);
    int rc;

    do
        rc = fcntl(chain->fd, F_OFD_SETLKW, &lock);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? err_set(err, ERR_IO, errno, "hold the files of point %" PRIu64, point) : 0;
}

/* --- Reading ----------------------------------------------------------------------------- */

uint64_t chain_seq(const struct chain *chain)
{
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load_explicit(&chain->page->seq, memory_order_acquire);
}

void chain_read(const struct chain *chain, uint64_t *ret_seq, uint64_t *ret_head,
                struct chain_points *ret_points)
{
    const struct page *page = chain->page;
    uint64_t seq;

    do {
        seq = atomic_load_explicit(&page->seq, memory_order_acquire);
        const struct slot *slot = &page->slots[seq & 1];
        uint64_t count = atomic_load_explicit(&slot->count, memory_order_relaxed);
        *ret_head = atomic_load_explicit(&slot->head, memory_order_relaxed);
        chain_points_clear(ret_points);
        for (uint64_t i = 0; i < count && i < CHAIN_POINTS_MAX; i++)
            *chain_points_push(ret_points) =
                atomic_load_explicit(&slot->points[i], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire);
    } while (atomic_load_explicit(&page->seq, memory_order_relaxed) != seq);
    *ret_seq = seq;
}

void chain_free(struct chain *chain)
{
    if (!chain)
        return;
    (void)munmap(chain->page, sizeof(struct page));
    fd_close(&chain->fd);
    free(chain);
}

void chain_freep(struct chain **chain)
{
    chain_free(*chain);
    *chain = NULL;
}
