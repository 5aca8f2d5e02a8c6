// SPDX-License-Identifier: Apache-2.0
/* What tests/bench/copy.sh measures with:
 *
 *   bench_copy image FILE MIB PERCENT          an image with so much data
 *   bench_copy change FILE PERCENT KIND SEED   KIND: clustered | scattered; prints bytes
 *   bench_copy hash FILE THREADS               seconds
 *   bench_copy sites DIR                       identities for the two below
 *   bench_copy serve DIR                       the receiving site, until killed
 *   bench_copy run DIR FILE COMPRESSION WORKERS           copy or resync (ends.h)
 *   bench_copy delta DIR FILE COMPRESSION WORKERS PERCENT the same for one cycle of a known map
 *   bench_copy blocks DIR FILE PERCENT         the blocks of such a delta through one connection */
#include "base/mem.h"
#include "ends.h"
#include "image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned number(const char *text)
{
    return (unsigned)strtoul(text, NULL, 10);
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "";

    if (strcmp(verb, "image") == 0 && argc == 5) {
        image_make(argv[2], (uint64_t)number(argv[3]) << 20, number(argv[4]));
    } else if (strcmp(verb, "change") == 0 && argc == 6) {
        image_change(argv[2], number(argv[3]), strcmp(argv[4], "clustered") == 0, number(argv[5]),
                     NULL);
    } else if (strcmp(verb, "hash") == 0 && argc == 4) {
        image_hash(argv[2], number(argv[3]));
    } else if (strcmp(verb, "sites") == 0) {
        ends_sites(argv[2]);
    } else if (strcmp(verb, "serve") == 0) {
        ends_serve(argv[2]);
    } else if (strcmp(verb, "run") == 0 && argc == 6) {
        ends_run(&(struct ends_job){argv[2], argv[3], argv[4], number(argv[5]), 0});
    } else if (strcmp(verb, "delta") == 0 && argc == 7) {
        ends_run(&(struct ends_job){argv[2], argv[3], argv[4], number(argv[5]), number(argv[6])});
    } else if (strcmp(verb, "blocks") == 0 && argc == 5) {
        ends_blocks(&(struct ends_job){argv[2], argv[3], NULL, 0, number(argv[4])});
    } else {
        (void)fprintf(stderr, "bench_copy: see tests/bench/copy/main.c\n");
        return 2;
    }
    return 0;
}
