// SPDX-License-Identifier: Apache-2.0
/* libcryptsetup wants a file: the header is made and opened in one that lives in memory. Its stretching
 * of passphrases is set to the least it allows, 1000 rounds: ours has 256 bits, which nobody guesses
 * with or without it, and a replica is opened often.
 *
 * Of the header itself (big endian) only this is read here: 0 magic "LUKS\xba\xbe" | 6 version (2)
 * | 104 where the payload begins, in sectors (4). */
#include "base/luks.h"

#include "base/fs.h"
#include "base/mem.h"
#include "base/openssl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libcryptsetup.h>

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BEGIN_BYTES      592U
#define HEADER_MAX_BYTES (UINT64_C(64) << 20)
#define ALIGN_SECTORS    4096U
#define ROUNDS           1000U
#define UUID_TEXT_BYTES  37

/* --- The secret --------------------------------------------------------------------------- */

void luks_secret_new(struct luks_secret *ret_secret)
{
    CLEANUP(key_wipe) struct key key;

    key_new(&key);
    str_hex(key.bytes, KEY_BYTES, ret_secret->text);
    ret_secret->len = (size_t)2 * KEY_BYTES;
}

void luks_secret_wipe(struct luks_secret *secret)
{
    explicit_bzero(secret, sizeof(*secret));
}

static void wipe_text(struct str *text)
{
    if (text->ptr)
        explicit_bzero(text->ptr, text->cap);
    str_free(text);
}

static bool is_secret_text(const struct str *text)
{
    for (size_t i = 0; i < text->len; i++)
        if (text->ptr[i] < ' ' || text->ptr[i] > '~')
            return false;
    return text->len > 0 && text->len <= LUKS_SECRET_MAX;
}

int luks_secret_read(const char *path, struct luks_secret *ret_secret, struct err *err)
{
    CLEANUP(wipe_text) struct str text = STR_EMPTY;
    struct stat st;

    if (fs_read_file(fs_real(), path, (size_t)LUKS_SECRET_MAX * 2, &text, err) < 0)
        return -1;
    if (stat(path, &st) < 0)
        return err_set(err, ERR_IO, errno, "%s", path);
    if (st.st_mode & 077)
        return err_set(err, ERR_DENIED, 0, "%s can be read by others (mode %04o); hint: chmod 600",
                       path, (unsigned)st.st_mode & 07777U);
    if (!is_secret_text(&text))
        return err_set(err, ERR_INVALID, 0,
                       "%s: %zu bytes that are not 1 to %u printable characters of ASCII without a"
                       " line end; hint: it must be as it was made, byte for byte",
                       path, text.len, LUKS_SECRET_MAX);
    memset(ret_secret, 0, sizeof(*ret_secret));
    memcpy(ret_secret->text, text.ptr, text.len);
    ret_secret->len = text.len;
    return 0;
}

int luks_secret_write(const char *path, const struct luks_secret *secret, struct err *err)
{
    if (fs_exists(path))
        return err_set(err, ERR_EXISTS, 0, "%s is there already; a key is never replaced", path);
    return fs_replace_file(fs_real(), path, secret->text, secret->len, 0600, err);
}

/* --- The header --------------------------------------------------------------------------- */

/* The library makes what its handles share when the first is made, and looks at no lock. */
static pthread_mutex_t library = PTHREAD_MUTEX_INITIALIZER;

struct header_file {
    int fd;
    struct crypt_device *device;
    char said[256]; /* the library's last complaint */
};

static void header_file_done(struct header_file *file)
{
    crypt_free(file->device);
    fd_close(&file->fd);
    (void)pthread_mutex_unlock(&library);
}

static void listen_to(int level, const char *text, void *ctx)
{
    struct header_file *file = ctx;

    if (level == CRYPT_LOG_ERROR)
        (void)snprintf(file->said, sizeof(file->said), ": %.*s", (int)strcspn(text, "\n"), text);
}

/* Takes the library's lock, which header_file_done gives back, whatever this returns. */
static int open_header(struct header_file *file, const void *header, size_t len, struct err *err)
{
    char path[64];

    *file = (struct header_file){.fd = -1};
    (void)pthread_mutex_lock(&library);
    file->fd = memfd_create("luks", MFD_CLOEXEC);
    /* One sector of payload: without any the library calls the device too small. */
    if (file->fd < 0 || ftruncate(file->fd, (off_t)(len + LUKS_SECTOR_BYTES)) < 0
        || (header && pwrite(file->fd, header, len, 0) != (ssize_t)len))
        return err_set(err, ERR_IO, errno, "a file in memory for a LUKS header");
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
    int rc = crypt_init(&file->device, path);
    if (rc < 0)
        return err_set(err, ERR_IO, -rc, "libcryptsetup");
    crypt_set_log_callback(file->device, listen_to, file);
    return 0;
}

static void uuid_text(const struct uuid *uuid, char ret_text[UUID_TEXT_BYTES])
{
    char hex[2 * UUID_BYTES + 1];

    str_hex(uuid->bytes, UUID_BYTES, hex);
    (void)snprintf(ret_text, UUID_TEXT_BYTES, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
                   hex + 16, hex + 20);
}

static bool uuid_parse(const char *text, struct uuid *ret_uuid)
{
    char hex[UUID_TEXT_BYTES];
    size_t len = 0;

    if (!text || strlen(text) != UUID_TEXT_BYTES - 1)
        return false;
    for (; *text; text++)
        if (*text != '-')
            hex[len++] = *text;
    hex[len] = '\0';
    return len == (size_t)2 * UUID_BYTES && str_unhex(hex, ret_uuid->bytes, UUID_BYTES);
}

static int format(struct header_file *file, const struct luks_secret *secret,
                  const struct uuid *uuid, struct err *err)
{
    const struct crypt_pbkdf_type stretch = {
        .type = CRYPT_KDF_PBKDF2,
        .hash = "sha256",
        .iterations = ROUNDS,
        .flags = CRYPT_PBKDF_NO_BENCHMARK,
    };
    struct crypt_params_luks1 params = {.hash = "sha256", .data_alignment = ALIGN_SECTORS};
    char name[UUID_TEXT_BYTES];

    uuid_text(uuid, name);
    int rc = crypt_set_pbkdf_type(file->device, &stretch);
    if (rc == 0)
        rc = crypt_format(file->device, CRYPT_LUKS1, "aes", "xts-plain64", name, NULL,
                          LUKS_KEY_BYTES, &params);
    if (rc == 0)
        rc = crypt_keyslot_add_by_volume_key(file->device, 0, NULL, 0, secret->text, secret->len);
    if (rc < 0)
        return err_set(err, ERR_IO, -rc, "make a LUKS header%s", file->said);
    if (crypt_get_data_offset(file->device) * LUKS_SECTOR_BYTES != LUKS_HEADER_BYTES)
        return err_set(err, ERR_UNSUPPORTED, 0,
                       "libcryptsetup made a header of %" PRIu64 " sectors",
                       crypt_get_data_offset(file->device));
    return 0;
}

int luks_format(const struct luks_secret *secret, const struct uuid *uuid, uint8_t **ret_header,
                struct err *err)
{
    CLEANUP(header_file_done) struct header_file file;
    CLEANUP(mem_freep) uint8_t *header = mem_alloc(LUKS_HEADER_BYTES, 1);

    if (open_header(&file, NULL, LUKS_HEADER_BYTES, err) < 0
        || format(&file, secret, uuid, err) < 0)
        return -1;
    if (pread(file.fd, header, LUKS_HEADER_BYTES, 0) != (ssize_t)LUKS_HEADER_BYTES)
        return err_set(err, ERR_IO, errno, "read a LUKS header");
    *ret_header = TAKE(header);
    return 0;
}

int luks_header_bytes(const void *begin, size_t len, const char *path, uint64_t *ret_bytes,
                      struct err *err)
{
    static const uint8_t magic[] = {'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1};
    const uint8_t *at = begin;

    if (len < BEGIN_BYTES || memcmp(at, magic, sizeof(magic)) != 0)
        return err_set(err, ERR_CORRUPT, 0, "%s: no header of a LUKS container of version 1", path);
    uint64_t sectors = (uint64_t)at[104] << 24 | (uint64_t)at[105] << 16 | (uint64_t)at[106] << 8
                       | (uint64_t)at[107];
    if (sectors * LUKS_SECTOR_BYTES < BEGIN_BYTES || sectors * LUKS_SECTOR_BYTES > HEADER_MAX_BYTES)
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: a LUKS header whose payload begins at sector %" PRIu64, path, sectors);
    *ret_bytes = sectors * LUKS_SECTOR_BYTES;
    return 0;
}

void luks_volume_wipe(struct luks_volume *volume)
{
    explicit_bzero(volume, sizeof(*volume));
}

static int unlock(struct header_file *file, const struct luks_secret *secret, const char *path,
                  struct luks_volume *volume, struct err *err)
{
    size_t key_len = sizeof(volume->key);
    int rc = crypt_load(file->device, CRYPT_LUKS1, NULL);

    if (rc < 0)
        return err_set(err, ERR_CORRUPT, 0, "%s: its LUKS header is damaged%s", path, file->said);
    if (!str_eq(crypt_get_cipher(file->device), "aes")
        || !str_eq(crypt_get_cipher_mode(file->device), "xts-plain64")
        || crypt_get_volume_key_size(file->device) != (int)LUKS_KEY_BYTES)
        return err_set(
            err, ERR_UNSUPPORTED, 0,
            "%s: a LUKS container of %s-%s with %d bits, not of aes-xts-plain64 with 512", path,
            crypt_get_cipher(file->device), crypt_get_cipher_mode(file->device),
            crypt_get_volume_key_size(file->device) * 8);
    if (!uuid_parse(crypt_get_uuid(file->device), &volume->uuid))
        return err_set(err, ERR_CORRUPT, 0, "%s: its LUKS header has no UUID", path);
    rc = crypt_volume_key_get(file->device, CRYPT_ANY_SLOT, (char *)volume->key, &key_len,
                              secret->text, secret->len);
    if (rc == -EPERM || rc == -ENOENT)
        return err_set(err, ERR_AUTH, 0,
                       "%s: none of its key slots opens with the key; hint: it is another replica's"
                       " key, or the header is damaged",
                       path);
    if (rc < 0)
        return err_set(err, ERR_CORRUPT, -rc, "%s: its volume key%s", path, file->said);
    return 0;
}

int luks_unlock(const void *header, size_t len, const struct luks_secret *secret, const char *path,
                struct luks_volume *ret_volume, struct err *err)
{
    CLEANUP(header_file_done) struct header_file file;
    CLEANUP(luks_volume_wipe) struct luks_volume volume = {.payload = len};

    if (open_header(&file, header, len, err) < 0 || unlock(&file, secret, path, &volume, err) < 0)
        return -1;
    *ret_volume = volume;
    return 0;
}

/* --- Sectors ------------------------------------------------------------------------------ */

/* Only our own mistakes, or no memory, make OpenSSL fail here. */
static void must(int ok)
{
    if (ok != 1)
        abort();
}

/* plain64: the sector's number, 64 bits, little endian. */
static void set_sector(EVP_CIPHER_CTX *ctx, uint64_t sector)
{
    uint8_t tweak[16] = {0};

    for (size_t i = 0; i < 8; i++)
        tweak[i] = (uint8_t)(sector >> (8 * i));
    must(EVP_CipherInit_ex(ctx, NULL, NULL, NULL, tweak, -1));
}

static bool is_hole(const uint8_t *sector)
{
    return sector[0] == 0 && memcmp(sector, sector + 1, LUKS_SECTOR_BYTES - 1) == 0;
}

static void run(const struct luks_volume *volume, uint64_t sector, const uint8_t *from, size_t len,
                uint8_t *to, bool seal)
{
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int done;

    must(ctx != NULL);
    must(EVP_CipherInit_ex(ctx, EVP_aes_256_xts(), NULL, volume->key, NULL, seal));
    for (; len > 0; len -= LUKS_SECTOR_BYTES) {
        if (!seal && is_hole(from)) {
            memset(to, 0, LUKS_SECTOR_BYTES);
        } else {
            set_sector(ctx, sector);
            must(EVP_CipherUpdate(ctx, to, &done, from, (int)LUKS_SECTOR_BYTES));
        }
        sector++;
        from += LUKS_SECTOR_BYTES;
        to += LUKS_SECTOR_BYTES;
    }
    EVP_CIPHER_CTX_free(ctx);
}

void luks_seal(const struct luks_volume *volume, uint64_t sector, const void *plain, size_t len,
               void *ret_sealed)
{
    run(volume, sector, plain, len, ret_sealed, true);
}

void luks_open(const struct luks_volume *volume, uint64_t sector, const void *sealed, size_t len,
               void *ret_plain)
{
    run(volume, sector, sealed, len, ret_plain, false);
}
