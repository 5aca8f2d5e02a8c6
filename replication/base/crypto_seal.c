// SPDX-License-Identifier: Apache-2.0
/* AES-256-GCM by OpenSSL. Encrypting and decrypting have a context each, with the key set up
 * once; a call only sets the nonce. */
#include "base/crypto.h"
#include "base/mem.h"
#include "base/openssl.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define NONCE_BYTES 12
#define CALL_MAX    ((size_t)1 << 30) /* OpenSSL counts in int */

struct sealer {
    EVP_CIPHER_CTX *seal;
    EVP_CIPHER_CTX *open;
};

static void must(bool ok)
{
    if (ok)
        return;
    (void)fprintf(stderr, "muster: OpenSSL cannot do AES-256-GCM\n");
    abort();
}

struct sealer *sealer_new(const struct key *key)
{
    struct sealer *s = mem_new(struct sealer);

    s->seal = EVP_CIPHER_CTX_new();
    s->open = EVP_CIPHER_CTX_new();
    must(s->seal && s->open
         && EVP_EncryptInit_ex(s->seal, EVP_aes_256_gcm(), NULL, key->bytes, NULL) == 1
         && EVP_DecryptInit_ex(s->open, EVP_aes_256_gcm(), NULL, key->bytes, NULL) == 1);
    return s;
}

void sealer_free(struct sealer *sealer)
{
    if (!sealer)
        return;
    EVP_CIPHER_CTX_free(sealer->seal);
    EVP_CIPHER_CTX_free(sealer->open);
    free(sealer);
}

void sealer_freep(struct sealer **sealer)
{
    sealer_free(*sealer);
    *sealer = NULL;
}

static void nonce_of(uint64_t number, uint8_t nonce[NONCE_BYTES])
{
    memset(nonce, 0, NONCE_BYTES);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = (uint8_t)(number >> (56 - 8 * i));
}

/* `to` NULL: additional data. */
static bool feed(EVP_CIPHER_CTX *ctx, uint8_t *to, const uint8_t *from, size_t len)
{
    while (len > 0) {
        size_t n = len < CALL_MAX ? len : CALL_MAX;
        int out = 0;
        if (EVP_CipherUpdate(ctx, to, &out, from, (int)n) != 1)
            return false;
        if (to)
            to += n;
        from += n;
        len -= n;
    }
    return true;
}

/* NOLINTNEXTLINE(readability-function-size): three pieces in, two out */
void sealer_seal_two(struct sealer *sealer, uint64_t number, const void *aad, size_t aad_len,
                     const void *first, size_t first_len, const void *second, size_t second_len,
                     void *ret_sealed, void *ret_tag)
{
    EVP_CIPHER_CTX *ctx = sealer->seal;
    uint8_t *sealed = ret_sealed;
    uint8_t nonce[NONCE_BYTES];
    uint8_t rest[16];
    int out = 0;

    nonce_of(number, nonce);
    must(first_len % 16 == 0 && EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce) == 1
         && feed(ctx, NULL, aad, aad_len) && feed(ctx, sealed, first, first_len)
         && (second_len == 0 || feed(ctx, sealed + first_len, second, second_len))
         && EVP_EncryptFinal_ex(ctx, rest, &out) == 1
         && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, SEAL_TAG_BYTES, ret_tag) == 1);
}

void sealer_seal(struct sealer *sealer, uint64_t number, const void *aad, size_t aad_len,
                 const void *plain, size_t len, void *ret_sealed, void *ret_tag)
{
    sealer_seal_two(sealer, number, aad, aad_len, NULL, 0, plain, len, ret_sealed, ret_tag);
}

int sealer_open(struct sealer *sealer, uint64_t number, const void *aad, size_t aad_len,
                const void *sealed, size_t len, const void *tag, void *ret_plain, struct err *err)
{
    EVP_CIPHER_CTX *ctx = sealer->open;
    uint8_t nonce[NONCE_BYTES];
    uint8_t want[SEAL_TAG_BYTES];
    uint8_t rest[16];
    int out = 0;

    nonce_of(number, nonce);
    memcpy(want, tag, sizeof(want));
    must(EVP_DecryptInit_ex(ctx, NULL, NULL, NULL, nonce) == 1 && feed(ctx, NULL, aad, aad_len)
         && feed(ctx, ret_plain, sealed, len)
         && EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, SEAL_TAG_BYTES, want) == 1);
    if (EVP_DecryptFinal_ex(ctx, rest, &out) != 1) {
        if (len > 0)
            OPENSSL_cleanse(ret_plain, len);
        return err_set(err, ERR_CORRUPT, 0,
                       "sealed bytes (number %" PRIu64 ", %zu bytes) do not fit their tag", number,
                       len);
    }
    return 0;
}
