// SPDX-License-Identifier: Apache-2.0
/* The file: a page of 4096 bytes (0 magic "MUSTDIG1" | 8 version 1 (4) | 16 disk size (8)
 * | 24 CRC-32C of the 24 bytes before; little endian), then 16 bytes per chunk. An entry never
 * crosses a sector, so it is old or new after a power cut. */
#include "replica/digests_file.h"

#include "replica/bytes.h"
#include "replica/chunk.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC        UINT64_C(0x314749445453554d) /* "MUSTDIG1" */
#define VERSION      1U
#define PAGE_BYTES   4096U
#define HEADER_BYTES 28U

static uint64_t file_size(uint64_t disk_size)
{
    return PAGE_BYTES + chunk_count(disk_size) * DIGEST_BYTES;
}

static void put_header(uint8_t ret_bytes[HEADER_BYTES], uint64_t disk_size)
{
    memset(ret_bytes, 0, HEADER_BYTES);
    put_u64(ret_bytes, MAGIC);
    put_u32(ret_bytes + 8, VERSION);
    put_u64(ret_bytes + 16, disk_size);
    put_u32(ret_bytes + 24, crc32c(0, ret_bytes, 24));
}

int digests_file_create(struct fs *fs, const char *path, uint64_t size, struct err *err)
{
    uint8_t header[HEADER_BYTES];
    int fd;

    put_header(header, size);
    if (fs->open(fs, path, O_RDWR | O_CREAT, 0600, &fd, err) < 0)
        return -1;
    int rc = fs->truncate(fs, fd, 0, err);
    if (rc == 0)
        rc = fs->truncate(fs, fd, file_size(size), err);
    if (rc == 0)
        rc = fs->pwrite(fs, fd, header, sizeof(header), 0, err);
    if (rc == 0)
        rc = fs->sync(fs, fd, err);
    (void)fs->close(fs, fd);
    return rc;
}

static int check(struct fs *fs, int fd, const char *path, uint64_t size, struct err *err)
{
    uint8_t want[HEADER_BYTES];
    uint8_t header[HEADER_BYTES];
    struct stat st;

    put_header(want, size);
    if (fs->pread(fs, fd, header, sizeof(header), 0, err) < 0)
        return -1;
    if (memcmp(header, want, sizeof(header)) != 0 || fstat(fd, &st) < 0
        || (uint64_t)st.st_size != file_size(size))
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: damaged, or not of a disk of %" PRIu64 " bytes; hint: remove the"
                       " replica and protect again",
                       path, size);
    return 0;
}

static int open_file(struct fs *fs, const char *path, int flags, uint64_t size, int *ret_fd,
                     struct err *err)
{
    int fd;

    if (fs->open(fs, path, flags, 0, &fd, err) < 0)
        return -1;
    if (check(fs, fd, path, size, err) < 0) {
        (void)fs->close(fs, fd);
        return -1;
    }
    *ret_fd = fd;
    return 0;
}

int digests_file_open(struct fs *fs, const char *path, uint64_t size, int *ret_fd, struct err *err)
{
    return open_file(fs, path, O_RDWR, size, ret_fd, err);
}

int digests_file_look(struct fs *fs, const char *path, uint64_t size, int *ret_fd, struct err *err)
{
    return open_file(fs, path, O_RDONLY, size, ret_fd, err);
}

int digests_file_resize(struct fs *fs, int fd, uint64_t size, struct err *err)
{
    uint8_t header[HEADER_BYTES];

    put_header(header, size);
    if (fs->truncate(fs, fd, file_size(size), err) < 0)
        return -1;
    return fs->pwrite(fs, fd, header, sizeof(header), 0, err);
}

int digests_file_read(struct fs *fs, int fd, uint64_t first, uint64_t count,
                      struct digest *ret_digests, struct err *err)
{
    return fs->pread(fs, fd, ret_digests, (size_t)count * DIGEST_BYTES,
                     PAGE_BYTES + first * DIGEST_BYTES, err);
}

int digests_file_write(struct fs *fs, int fd, uint64_t first, uint64_t count,
                       const struct digest *digests, struct err *err)
{
    return fs->pwrite(fs, fd, digests, (size_t)count * DIGEST_BYTES,
                      PAGE_BYTES + first * DIGEST_BYTES, err);
}
