// SPDX-License-Identifier: Apache-2.0
/* The demo guest (examples/guest) for tests: built once per build folder, under a lock. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define GUEST_BUILD() guest_build(MUSTER_SOURCE_DIR, MUSTER_BINARY_DIR)

/* Builds it into BINARY_DIR/guest unless it is there; fails the test when that cannot be done. */
void guest_build(const char *source_dir, const char *binary_dir);
/* After guest_build. */
const char *guest_kernel(void);
const char *guest_initrd(void);
/* A disk with an empty ext4: `format` raw or qcow2, `size` as "64M". */
void guest_make_disk(const char *path, const char *format, const char *size);

/* What the guest's writer said about its disks when it started. */
struct guest_records {
    uint64_t first, last, missing, damaged, disks, generation;
};
/* Reads the newest RECORDS line of a console; 0 when there is none yet, 1 when there is. */
int guest_read_records(const char *console_path, struct guest_records *ret_records);
/* The newest "ACKED n" of a console, 0 when there is none. */
uint64_t guest_read_acked(const char *console_path);
/* Judges copies of the guest's disks (raw images, in the order of the disks) as the guest's writer
 * would after a boot; the images are left as they are. `slots` as on its command line. */
void guest_judge(const char *const *images, size_t count, uint64_t slots, const char *work_dir,
                 struct guest_records *ret_records);
