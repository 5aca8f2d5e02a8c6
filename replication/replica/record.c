// SPDX-License-Identifier: Apache-2.0
/* A record: lines of text, then "crc32c XXXXXXXX", the checksum of all bytes before it. */
#include "replica/record.h"

#include "base/crypto.h"

#include <stdio.h>
#include <string.h>

#define RECORD_MAX ((size_t)64 * 1024 * 1024)
#define LAST_BYTES 16U /* "crc32c XXXXXXXX\n" */

static void last_line(const char *text, size_t len, char ret_line[LAST_BYTES + 1])
{
    (void)snprintf(ret_line, LAST_BYTES + 1, "crc32c %08x\n", crc32c(0, text, len));
}

int record_read(struct fs *fs, const char *path, struct str *ret_text, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;
    char last[LAST_BYTES + 1];

    if (fs_read_file(fs, path, RECORD_MAX, &text, err) < 0)
        return -1;
    if (text.len < LAST_BYTES)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: damaged, only %zu bytes; hint: restore it from a backup, or remove the"
                       " replica and protect again",
                       path, text.len);
    size_t len = text.len - LAST_BYTES;
    last_line(text.ptr, len, last);
    if (memcmp(text.ptr + len, last, LAST_BYTES) != 0)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: damaged, its %zu bytes do not fit their checksum; hint: restore it from"
                       " a backup, or remove the replica and protect again",
                       path, text.len);
    str_free(ret_text);
    str_add_bytes(ret_text, text.ptr, len);
    return 0;
}

int record_write(struct fs *fs, const char *path, const char *text, struct err *err)
{
    CLEANUP(str_free) struct str whole = STR_EMPTY;
    char last[LAST_BYTES + 1];

    last_line(text, strlen(text), last);
    str_add(&whole, text);
    str_add(&whole, last);
    return fs_replace_file(fs, path, whole.ptr, whole.len, 0600, err);
}
