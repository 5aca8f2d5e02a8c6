// SPDX-License-Identifier: Apache-2.0
/* A segment file; all numbers little endian:
 *
 *   header   256 bytes   0 magic "MUSTSEG1" | 8 version 1 (4) | 12 compression wished for (4)
 *                        16 group, 80 disk (64 each, NUL-padded) | 144 disk size | 152 generation
 *                        160 point | 168 parent manifest's hash (32) | 200 uuid (16)
 *                        216 zeros | 252 CRC-32C of the 252 bytes before
 *   frames               frame 0, 1, 2 ... one after the other, as frame.c describes them
 *   index    32 each     offset | length, bit 63 set for zeros | digest of the extent (16);
 *                        all extents in the order of the frames, which is ascending
 *   footer   128 bytes   0 magic "MUSTEND1" | 8 where the index begins | 16 frames | 24 extents
 *                        32 data bytes | 40 zero bytes | 48 root (32) | 80 CRC-32C of the index
 *                        84 zeros | 124 CRC-32C of the 124 bytes before
 *
 * The root is the SHA-256 of everything before the footer; it stands in the signed manifest, so
 * nothing in the file needs a seal of its own to be believed. The checksums only tell a damaged
 * file early and by name. The index is in the clear: it holds positions and keyed digests. */
#include "replica/segment_format.h"

#include "base/mem.h"
#include "replica/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAGIC UINT64_C(0x314745535453554d) /* "MUSTSEG1" */
#define FOOTER_MAGIC UINT64_C(0x31444e455453554d) /* "MUSTEND1" */
#define VERSION      1U
#define READ_BYTES   ((size_t)1024 * 1024)

void segment_header_put(uint8_t ret_bytes[SEGMENT_HEADER_BYTES], const struct segment_head *head)
{
    uint8_t *at = ret_bytes;

    memset(at, 0, SEGMENT_HEADER_BYTES);
    put_u64(at, HEADER_MAGIC);
    put_u32(at + 8, VERSION);
    put_u32(at + 12, (uint32_t)head->compression);
    memcpy(at + 16, head->group, strnlen(head->group, NAME_MAX_BYTES - 1));
    memcpy(at + 80, head->disk, strnlen(head->disk, NAME_MAX_BYTES - 1));
    put_u64(at + 144, head->disk_size);
    put_u64(at + 152, head->generation);
    put_u64(at + 160, head->point);
    memcpy(at + 168, head->parent.bytes, SHA256_BYTES);
    memcpy(at + 200, head->uuid.bytes, UUID_BYTES);
    put_u32(at + 252, crc32c(0, at, 252));
}

static int header_get(const uint8_t *at, const char *path, struct segment_head *ret_head,
                      struct err *err)
{
    struct segment_head head = {0};

    if (get_u64(at) != HEADER_MAGIC)
        return err_set(err, ERR_CORRUPT, 0, "%s: not a segment", path);
    if (get_u32(at + 252) != crc32c(0, at, 252))
        return err_set(err, ERR_CORRUPT, 0, "%s: damaged header", path);
    if (get_u32(at + 8) != VERSION)
        return err_set(err, ERR_UNSUPPORTED, 0, "%s: version %u, this build reads %u", path,
                       get_u32(at + 8), VERSION);
    if (get_u32(at + 12) > COMPRESSION_LZ4 || at[16 + 63] || at[80 + 63])
        return err_set(err, ERR_CORRUPT, 0, "%s: damaged header", path);
    head.compression = (enum compression)get_u32(at + 12);
    memcpy(head.group, at + 16, NAME_MAX_BYTES);
    memcpy(head.disk, at + 80, NAME_MAX_BYTES);
    head.disk_size = get_u64(at + 144);
    head.generation = get_u64(at + 152);
    head.point = get_u64(at + 160);
    memcpy(head.parent.bytes, at + 168, SHA256_BYTES);
    memcpy(head.uuid.bytes, at + 200, UUID_BYTES);
    *ret_head = head;
    return 0;
}

void segment_footer_put(uint8_t ret_bytes[SEGMENT_FOOTER_BYTES],
                        const struct segment_footer *footer)
{
    uint8_t *at = ret_bytes;

    memset(at, 0, SEGMENT_FOOTER_BYTES);
    put_u64(at, FOOTER_MAGIC);
    put_u64(at + 8, footer->index_off);
    put_u64(at + 16, footer->frame_count);
    put_u64(at + 24, footer->extent_count);
    put_u64(at + 32, footer->data_bytes);
    put_u64(at + 40, footer->zero_bytes);
    memcpy(at + 48, footer->root.bytes, SHA256_BYTES);
    put_u32(at + 80, footer->index_crc);
    put_u32(at + 124, crc32c(0, at, 124));
}

static int footer_get(const uint8_t *at, const char *path, uint64_t size,
                      struct segment_footer *ret_footer, struct err *err)
{
    uint64_t end = size - SEGMENT_FOOTER_BYTES;

    if (get_u64(at) != FOOTER_MAGIC || get_u32(at + 124) != crc32c(0, at, 124))
        return err_set(err, ERR_CORRUPT, 0, "%s: no valid footer after %" PRIu64 " bytes", path,
                       end);
    struct segment_footer footer = {
        .index_off = get_u64(at + 8),
        .frame_count = get_u64(at + 16),
        .extent_count = get_u64(at + 24),
        .data_bytes = get_u64(at + 32),
        .zero_bytes = get_u64(at + 40),
        .index_crc = get_u32(at + 80),
    };
    memcpy(footer.root.bytes, at + 48, SHA256_BYTES);
    if (footer.index_off < SEGMENT_HEADER_BYTES || footer.index_off > end
        || (end - footer.index_off) % SEGMENT_ENTRY_BYTES
        || (end - footer.index_off) / SEGMENT_ENTRY_BYTES != footer.extent_count)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: index at %" PRIu64 " with %" PRIu64 " extents does not fit %" PRIu64
                       " bytes",
                       path, footer.index_off, footer.extent_count, size);
    *ret_footer = footer;
    return 0;
}

int segment_ends_read(int fd, const char *path, struct segment_head *ret_head,
                      struct segment_footer *ret_footer, uint64_t *ret_size, struct err *err)
{
    struct fs *fs = fs_real();
    uint8_t header[SEGMENT_HEADER_BYTES];
    uint8_t footer[SEGMENT_FOOTER_BYTES];
    struct stat st;

    if (fstat(fd, &st) < 0)
        return err_set(err, ERR_IO, errno, "%s: stat", path);
    uint64_t size = (uint64_t)st.st_size;
    if (size < sizeof(header) + sizeof(footer))
        return err_set(err, ERR_CORRUPT, 0, "%s: %" PRIu64 " bytes are no segment", path, size);
    if (fs->pread(fs, fd, header, sizeof(header), 0, err) < 0
        || header_get(header, path, ret_head, err) < 0
        || fs->pread(fs, fd, footer, sizeof(footer), size - sizeof(footer), err) < 0
        || footer_get(footer, path, size, ret_footer, err) < 0)
        return -1;
    *ret_size = size;
    return 0;
}

int segment_head_read(const char *path, struct segment_head *ret_head, struct err *err)
{
    struct fs *fs = fs_real();
    CLEANUP(fd_close) int fd = -1;
    uint8_t header[SEGMENT_HEADER_BYTES];

    if (fs->open(fs, path, O_RDONLY, 0, &fd, err) < 0
        || fs->pread(fs, fd, header, sizeof(header), 0, err) < 0)
        return -1;
    return header_get(header, path, ret_head, err);
}

/* SHA-256 of the first `len` bytes. */
static int root_of(int fd, uint64_t len, struct sha256 *ret_root, struct err *err)
{
    struct fs *fs = fs_real();
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(READ_BYTES, 1);
    struct sha256_run *run = sha256_begin();

    for (uint64_t off = 0; off < len;) {
        size_t n = len - off < READ_BYTES ? (size_t)(len - off) : READ_BYTES;
        if (fs->pread(fs, fd, buf, n, off, err) < 0) {
            sha256_drop(run);
            return -1;
        }
        sha256_add(run, buf, n);
        off += n;
    }
    sha256_end(run, ret_root);
    return 0;
}

int segment_check(const char *path, struct segment_head *ret_head, struct segment_info *ret_info,
                  struct err *err)
{
    struct fs *fs = fs_real();
    CLEANUP(fd_close) int fd = -1;
    struct segment_head head;
    struct segment_footer footer;
    struct sha256 root;
    uint64_t size;

    if (fs->open(fs, path, O_RDONLY, 0, &fd, err) < 0
        || segment_ends_read(fd, path, &head, &footer, &size, err) < 0
        || root_of(fd, size - SEGMENT_FOOTER_BYTES, &root, err) < 0)
        return -1;
    if (memcmp(root.bytes, footer.root.bytes, SHA256_BYTES) != 0)
        return err_set(err, ERR_CORRUPT, 0, "%s: its %" PRIu64 " bytes do not have its root", path,
                       size);
    *ret_head = head;
    *ret_info = (struct segment_info){
        head.uuid, root, size, footer.data_bytes, footer.zero_bytes, footer.extent_count};
    return 0;
}
