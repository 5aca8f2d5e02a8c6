// SPDX-License-Identifier: Apache-2.0
/* LUKS containers (version 1, aes-xts-plain64 with a key of 512 bits: what both cryptsetup and QEMU's
 * `luks` driver open): their header by libcryptsetup, which asks neither the kernel nor the device
 * mapper, and their sectors by OpenSSL. The format is cryptsetup's: "LUKS1 On-Disk Format
 * Specification", 1.2.3. Any thread. */
#pragma once

#include "base/crypto.h"

#include <stddef.h>
#include <stdint.h>

#define LUKS_SECTOR_BYTES 512U
#define LUKS_KEY_BYTES    64U
#define LUKS_HEADER_BYTES (UINT64_C(2) << 20) /* of those made here; the payload begins there */
#define LUKS_SECRET_MAX   512U

/* What opens a container: the whole content of its key file. Text without line ends, since QEMU takes
 * text only, and both programs take a line end for a part of it. */
struct luks_secret {
    char text[LUKS_SECRET_MAX + 1];
    size_t len;
};
void luks_secret_new(struct luks_secret *ret_secret); /* 256 bits from the system, as hex */
void luks_secret_wipe(struct luks_secret *secret);    /* also for CLEANUP */
/* ERR_NOT_FOUND; ERR_DENIED: others can read it; ERR_INVALID: empty, too long, or no text. */
int luks_secret_read(const char *path, struct luks_secret *ret_secret, struct err *err) MUST_CHECK;
/* Mode 0600, durable; replaces nothing: ERR_EXISTS. */
int luks_secret_write(const char *path, const struct luks_secret *secret, struct err *err)
    MUST_CHECK;

/* The header of a new container with a volume key of its own: LUKS_HEADER_BYTES; free with free(). */
int luks_format(const struct luks_secret *secret, const struct uuid *uuid, uint8_t **ret_header,
                struct err *err) MUST_CHECK;

/* Bytes of the header that begins here (at least 592 bytes), which is where the payload begins.
 * ERR_CORRUPT: not one of LUKS1; `path` is for the text. */
int luks_header_bytes(const void *begin, size_t len, const char *path, uint64_t *ret_bytes,
                      struct err *err) MUST_CHECK;

struct luks_volume {
    uint8_t key[LUKS_KEY_BYTES];
    struct uuid uuid;
    uint64_t payload; /* where it begins */
};
void luks_volume_wipe(struct luks_volume *volume); /* also for CLEANUP */
/* ERR_AUTH: no key slot opens with it, because it is another key, or the slot is damaged; ERR_CORRUPT:
 * the header is; ERR_UNSUPPORTED: another cipher. */
int luks_unlock(const void *header, size_t len, const struct luks_secret *secret, const char *path,
                struct luks_volume *ret_volume, struct err *err) MUST_CHECK;

/* Whole sectors, the first of which is number `sector` of the payload; in place is allowed. `len` is a
 * multiple of LUKS_SECTOR_BYTES. */
void luks_seal(const struct luks_volume *volume, uint64_t sector, const void *plain, size_t len,
               void *ret_sealed);
/* A sector of which all bytes are zero was never written: it is a hole of the file (no key and no
 * content seal to that but by a chance of 1 in 2^4096), and reads as zeros. */
void luks_open(const struct luks_volume *volume, uint64_t sector, const void *sealed, size_t len,
               void *ret_plain);
