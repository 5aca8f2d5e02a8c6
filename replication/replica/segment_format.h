// SPDX-License-Identifier: Apache-2.0
/* Inside of segments: the fixed parts of the file, shared by writer and reader. The format
 * stands in segment.c. */
#pragma once

#include "replica/segment.h"

#define SEGMENT_HEADER_BYTES 256U
#define SEGMENT_FOOTER_BYTES 128U
#define SEGMENT_ENTRY_BYTES  32U

struct segment_footer {
    uint64_t index_off;
    uint64_t frame_count;
    uint64_t extent_count;
    uint64_t data_bytes;
    uint64_t zero_bytes;
    struct sha256 root;
    uint32_t index_crc;
};

void segment_header_put(uint8_t ret_bytes[SEGMENT_HEADER_BYTES], const struct segment_head *head);
void segment_footer_put(uint8_t ret_bytes[SEGMENT_FOOTER_BYTES],
                        const struct segment_footer *footer);
/* Reads header and footer of an open file and checks that they fit each other and its size. */
int segment_ends_read(int fd, const char *path, struct segment_head *ret_head,
                      struct segment_footer *ret_footer, uint64_t *ret_size, struct err *err)
    MUST_CHECK;
/* Only the header, of a file that may be incomplete. */
int segment_head_read(const char *path, struct segment_head *ret_head, struct err *err) MUST_CHECK;
