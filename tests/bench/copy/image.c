// SPDX-License-Identifier: Apache-2.0
#include "image.h"

#include "base/fs.h"
#include "base/mem.h"
#include "ends.h"
#include "replica/chunk.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB   (UINT64_C(1) << 20)
#define BLOCK 4096U

static uint64_t next_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static int must_open(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    if (fd < 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

static void must_write(int fd, const void *bytes, size_t len, uint64_t off)
{
    if (pwrite(fd, bytes, len, (off_t)off) != (ssize_t)len) {
        perror("write");
        exit(1);
    }
}

static void fill(uint8_t *to, size_t len, uint64_t *seed)
{
    for (size_t i = 0; i < len; i += 8) {
        uint64_t r = next_random(seed);
        if (i % CHUNK_BYTES >= CHUNK_BYTES / 2)
            r = (r & UINT64_C(0x0707070707070707)) | UINT64_C(0x6060606060606060);
        memcpy(to + i, &r, 8);
    }
}

static bool has_data(uint64_t mib, unsigned percent)
{
    return mib * 7919 % 100 < percent;
}

void image_make(const char *path, uint64_t size, unsigned percent)
{
    uint8_t *buf = mem_alloc(MIB, 1);
    uint64_t seed = 88172645463325252U;
    int fd = must_open(path, O_RDWR | O_CREAT | O_TRUNC);

    if (ftruncate(fd, (off_t)size) < 0)
        exit(1);
    for (uint64_t mib = 0; mib < size / MIB; mib++)
        if (has_data(mib, percent)) {
            fill(buf, MIB, &seed);
            must_write(fd, buf, MIB, mib * MIB);
        }
    (void)fsync(fd);
    (void)close(fd);
    free(buf);
}

void image_change(const char *path, unsigned percent, bool clustered, uint64_t seed,
                  struct source_extents *ret_extents)
{
    size_t run = clustered ? MIB : BLOCK;
    CLEANUP(mem_freep) uint8_t *buf = mem_alloc(run, 1);
    int fd = must_open(path, O_RDWR);
    struct stat st;
    uint64_t bytes = 0;

    if (fstat(fd, &st) < 0)
        exit(1);
    uint64_t stride = run * 100 / percent;
    for (uint64_t at = 0; at + stride <= (uint64_t)st.st_size; at += stride) {
        uint64_t off = at + next_random(&seed) % (stride / run) * run;
        for (size_t i = 0; i < run; i += 8) {
            uint64_t r = next_random(&seed);
            memcpy(buf + i, &r, 8);
        }
        must_write(fd, buf, run, off);
        bytes += run;
        if (ret_extents)
            *source_extents_push(ret_extents) = (struct source_extent){off, run};
    }
    (void)close(fd);
    if (!ret_extents)
        (void)printf("%llu\n", (unsigned long long)bytes);
}

struct hashing {
    int fd;
    uint64_t size;
    _Atomic uint64_t next;
};

static void *hash_some(void *arg)
{
    struct hashing *h = arg;
    struct key key = {{0}};
    struct digester *digester = chunk_digester_new(&key);
    uint8_t *buf = mem_alloc(MIB, 1);
    struct digest digest;

    for (;;) {
        uint64_t at = atomic_fetch_add(&h->next, MIB);
        if (at >= h->size)
            break;
        off_t data = lseek(h->fd, (off_t)at, SEEK_DATA);
        if (data < 0 || (uint64_t)data >= at + MIB)
            continue; /* a hole */
        ssize_t n = pread(h->fd, buf, MIB, (off_t)at);
        for (ssize_t i = 0; i < n; i += CHUNK_BYTES)
            chunk_digest(digester, buf + i, CHUNK_BYTES, &digest);
    }
    free(buf);
    digester_free(digester);
    return NULL;
}

void image_hash(const char *path, unsigned threads)
{
    struct hashing h = {.fd = must_open(path, O_RDONLY)};
    pthread_t ids[16];
    struct stat st;
    double began = ends_now();

    if (fstat(h.fd, &st) < 0 || threads > ARRAY_LEN(ids))
        exit(1);
    h.size = (uint64_t)st.st_size;
    for (unsigned i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, hash_some, &h) != 0)
            exit(1);
    for (unsigned i = 0; i < threads; i++)
        (void)pthread_join(ids[i], NULL);
    (void)printf("%.3f\n", ends_now() - began);
    (void)close(h.fd);
}
