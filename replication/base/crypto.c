// SPDX-License-Identifier: Apache-2.0
/* Every call into OpenSSL below can fail only for want of memory or of an algorithm that we
 * checked for; such a failure aborts, since going on without it would not be safe. Wrong tags
 * and signatures are the exception: they are answers. */
#include "base/crypto.h"

#include "base/mem.h"
#include "base/openssl.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* OpenSSL counts in int. */
#define CALL_MAX ((size_t)1 << 30)

static void must(int ok, const char *what)
{
    if (ok == 1)
        return;
    (void)fprintf(stderr, "muster: OpenSSL cannot do %s\n", what);
    abort();
}

static void *must_ptr(void *ptr, const char *what)
{
    must(ptr != NULL, what);
    return ptr;
}

void random_bytes(void *ret_bytes, size_t len)
{
    uint8_t *at = ret_bytes;

    while (len > 0) {
        size_t n = len < CALL_MAX ? len : CALL_MAX;
        must(RAND_priv_bytes(at, (int)n), "random numbers");
        at += n;
        len -= n;
    }
}

void uuid_new(struct uuid *ret_uuid)
{
    random_bytes(ret_uuid->bytes, sizeof(ret_uuid->bytes));
    ret_uuid->bytes[6] = (uint8_t)((ret_uuid->bytes[6] & 0x0f) | 0x40); /* RFC 9562: version 4 */
    ret_uuid->bytes[8] = (uint8_t)((ret_uuid->bytes[8] & 0x3f) | 0x80);
}

void key_new(struct key *ret_key)
{
    random_bytes(ret_key->bytes, sizeof(ret_key->bytes));
}

void key_wipe(struct key *key)
{
    OPENSSL_cleanse(key->bytes, sizeof(key->bytes));
}

/* No salt (the key is uniform already); info = purpose, a zero byte, context. */
void key_derive(const struct key *key, const char *purpose, const void *context, size_t len,
                struct key *ret_key)
{
    uint8_t info[1024];
    uint8_t secret[KEY_BYTES];
    size_t purpose_len = strlen(purpose) + 1;
    char digest[] = "SHA256";

    assert(purpose_len < sizeof(info) && len <= sizeof(info) - purpose_len);
    memcpy(info, purpose, purpose_len);
    if (len > 0)
        memcpy(info + purpose_len, context, len);
    memcpy(secret, key->bytes, sizeof(secret));

    EVP_KDF *kdf = must_ptr(EVP_KDF_fetch(NULL, "HKDF", NULL), "HKDF");
    EVP_KDF_CTX *ctx = must_ptr(EVP_KDF_CTX_new(kdf), "HKDF");
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, secret, sizeof(secret)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, info, purpose_len + len),
        OSSL_PARAM_construct_end(),
    };
    must(EVP_KDF_derive(ctx, ret_key->bytes, sizeof(ret_key->bytes), params), "HKDF");
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    OPENSSL_cleanse(secret, sizeof(secret));
}

struct digester {
    EVP_MAC_CTX *ctx;
};

struct digester *digester_new(const struct key *key)
{
    struct digester *d = mem_new(struct digester);
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC *mac = must_ptr(EVP_MAC_fetch(NULL, "HMAC", NULL), "HMAC");

    d->ctx = must_ptr(EVP_MAC_CTX_new(mac), "HMAC");
    EVP_MAC_free(mac);
    must(EVP_MAC_init(d->ctx, key->bytes, sizeof(key->bytes), params), "HMAC-SHA-256");
    return d;
}

void digester_free(struct digester *digester)
{
    if (!digester)
        return;
    EVP_MAC_CTX_free(digester->ctx);
    free(digester);
}

void digester_freep(struct digester **digester)
{
    digester_free(*digester);
    *digester = NULL;
}

void digester_run(struct digester *digester, const void *bytes, size_t len,
                  struct digest *ret_digest)
{
    uint8_t whole[SHA256_BYTES];
    size_t whole_len = 0;

    /* Without a key: starts over with the one it has. */
    must(EVP_MAC_init(digester->ctx, NULL, 0, NULL), "HMAC-SHA-256");
    must(EVP_MAC_update(digester->ctx, bytes, len), "HMAC-SHA-256");
    must(EVP_MAC_final(digester->ctx, whole, &whole_len, sizeof(whole)), "HMAC-SHA-256");
    memcpy(ret_digest->bytes, whole, sizeof(ret_digest->bytes));
}

struct sha256_run {
    EVP_MD_CTX *ctx;
};

void sha256_of(const void *bytes, size_t len, struct sha256 *ret_sum)
{
    must(EVP_Digest(bytes, len, ret_sum->bytes, NULL, EVP_sha256(), NULL), "SHA-256");
}

struct sha256_run *sha256_begin(void)
{
    struct sha256_run *run = mem_new(struct sha256_run);

    run->ctx = must_ptr(EVP_MD_CTX_new(), "SHA-256");
    must(EVP_DigestInit_ex(run->ctx, EVP_sha256(), NULL), "SHA-256");
    return run;
}

void sha256_add(struct sha256_run *run, const void *bytes, size_t len)
{
    must(EVP_DigestUpdate(run->ctx, bytes, len), "SHA-256");
}

void sha256_end(struct sha256_run *run, struct sha256 *ret_sum)
{
    must(EVP_DigestFinal_ex(run->ctx, ret_sum->bytes, NULL), "SHA-256");
    sha256_drop(run);
}

void sha256_drop(struct sha256_run *run)
{
    if (!run)
        return;
    EVP_MD_CTX_free(run->ctx);
    free(run);
}

void sign_public(const uint8_t private_key[SIGN_KEY_BYTES], uint8_t ret_public[SIGN_KEY_BYTES])
{
    size_t len = SIGN_KEY_BYTES;
    EVP_PKEY *pkey =
        must_ptr(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, SIGN_KEY_BYTES),
                 "Ed25519");

    must(EVP_PKEY_get_raw_public_key(pkey, ret_public, &len), "Ed25519");
    EVP_PKEY_free(pkey);
}

void sign_key_new(uint8_t ret_private[SIGN_KEY_BYTES], uint8_t ret_public[SIGN_KEY_BYTES])
{
    random_bytes(ret_private, SIGN_KEY_BYTES);
    sign_public(ret_private, ret_public);
}

void sign_bytes(const uint8_t private_key[SIGN_KEY_BYTES], const void *bytes, size_t len,
                uint8_t ret_signature[SIGN_BYTES])
{
    size_t signature_len = SIGN_BYTES;
    EVP_PKEY *pkey =
        must_ptr(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private_key, SIGN_KEY_BYTES),
                 "Ed25519");
    EVP_MD_CTX *ctx = must_ptr(EVP_MD_CTX_new(), "Ed25519");

    must(EVP_DigestSignInit(ctx, NULL, NULL, NULL, pkey), "Ed25519");
    must(EVP_DigestSign(ctx, ret_signature, &signature_len, bytes, len), "Ed25519");
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
}

int sign_verify(const uint8_t public_key[SIGN_KEY_BYTES], const void *bytes, size_t len,
                const uint8_t signature[SIGN_BYTES], struct err *err)
{
    EVP_PKEY *pkey =
        EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, SIGN_KEY_BYTES);
    EVP_MD_CTX *ctx = must_ptr(EVP_MD_CTX_new(), "Ed25519");

    /* A public key from outside need not be a point of the curve; that is no signature either. */
    int ok = pkey && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, pkey) == 1
             && EVP_DigestVerify(ctx, signature, SIGN_BYTES, bytes, len) == 1;
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    if (!ok)
        return err_set(err, ERR_CORRUPT, 0, "the signature does not fit (%zu bytes signed)", len);
    return 0;
}
