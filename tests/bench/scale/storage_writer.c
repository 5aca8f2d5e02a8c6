// SPDX-License-Identifier: Apache-2.0
/* storage_writer DIR COUNT PER SECONDS ROUND_S BYTES: writes BYTES at a random place of each of COUNT
 * disks (exports "n0001" and on of the servers DIR/nbd-0.sock and on, PER disks each) once per
 * ROUND_S, spread over the round, for SECONDS. Says how many writes it made. */
#include <libnbd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096

static double now_s(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void fill(uint8_t *buf, size_t len, uint64_t *seed)
{
    for (size_t i = 0; i < len; i++) {
        *seed = *seed * 6364136223846793005U + 1442695040888963407U;
        buf[i] = (uint8_t)(*seed >> 56);
    }
}

static int write_one(const char *dir, unsigned disk, unsigned per, uint8_t *buf, size_t len,
                     uint64_t *seed)
{
    struct nbd_handle *nbd = nbd_create();
    char socket[512];
    char name[16];
    int rc = -1;

    (void)snprintf(socket, sizeof(socket), "%s/nbd-%u.sock", dir, disk / per);
    (void)snprintf(name, sizeof(name), "n%04u", disk + 1);
    if (nbd && nbd_set_export_name(nbd, name) == 0 && nbd_connect_unix(nbd, socket) == 0) {
        fill(buf, len, seed);
        uint64_t blocks = (uint64_t)(nbd_get_size(nbd) - (int64_t)len) / BLOCK;
        rc = nbd_pwrite(nbd, buf, len, *seed % blocks * BLOCK, 0);
        (void)nbd_shutdown(nbd, 0);
    }
    if (rc < 0)
        (void)fprintf(stderr, "storage_writer: %s of %s: %s\n", name, socket, nbd_get_error());
    nbd_close(nbd);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return 2;
    const char *dir = argv[1];
    unsigned count = (unsigned)strtoul(argv[2], NULL, 10);
    unsigned per = (unsigned)strtoul(argv[3], NULL, 10);
    double end = now_s() + strtod(argv[4], NULL);
    double round = strtod(argv[5], NULL);
    size_t len = strtoul(argv[6], NULL, 10);
    uint8_t *buf = malloc(len);
    uint64_t seed = 42;
    unsigned long writes = 0;

    if (!buf || count == 0 || per == 0)
        return 2;
    for (double begin = now_s(); begin < end; begin += round)
        for (unsigned disk = 0; disk < count && now_s() < end; disk++, writes++) {
            double due = begin + round * disk / count;
            if (due > now_s())
                (void)usleep((useconds_t)((due - now_s()) * 1e6));
            if (write_one(dir, disk, per, buf, len, &seed) < 0)
                return 1;
        }
    (void)printf("%lu writes\n", writes);
    free(buf);
    return 0;
}
