// SPDX-License-Identifier: Apache-2.0
#include "link/identity.h"

#include "base/fs.h"
#include "base/mem.h"

#include <string.h>

static int read_file(const char *path, struct str *ret_text, struct err *err)
{
    if (fs_read_file(fs_real(), path, IDENTITY_FILE_MAX, ret_text, err) == 0)
        return 0;
    if (err && err->code == ERR_NOT_FOUND)
        return err_set(err, ERR_NOT_FOUND, 0, "%s is not there; hint: muster site init makes it",
                       path);
    return -1;
}

int identity_read_hex(const char *path, uint8_t *ret_bytes, size_t len, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (read_file(path, &text, err) < 0)
        return -1;
    if (text.len == 2 * len + 1 && text.ptr[2 * len] == '\n')
        text.ptr[2 * len] = '\0';
    bool ok = text.ptr && strlen(text.ptr) == 2 * len && str_unhex(text.ptr, ret_bytes, len);
    if (text.ptr)
        OPENSSL_cleanse(text.ptr, text.len);
    if (!ok)
        return err_set(err, ERR_CORRUPT, 0, "%s: not a key of %zu hex digits", path, 2 * len);
    return 0;
}

int identity_parse_cert(const char *text, size_t len, X509 **ret_cert, struct err *err)
{
    X509 *cert = NULL;

    if (len <= IDENTITY_FILE_MAX) {
        BIO *bio = BIO_new_mem_buf(text, (int)len);
        cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
        BIO_free(bio);
        ERR_clear_error();
    }
    if (!cert)
        return err_set(err, ERR_INVALID, 0, "not a certificate in PEM form");
    *ret_cert = cert;
    return 0;
}

int identity_read_cert(const char *path, X509 **ret_cert, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (read_file(path, &text, err) < 0)
        return -1;
    if (identity_parse_cert(str_text(&text), text.len, ret_cert, err) < 0)
        return err_set(err, ERR_CORRUPT, 0, "%s: not a certificate in PEM form", path);
    return 0;
}

int identity_read_key(const char *path, EVP_PKEY **ret_key, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (read_file(path, &text, err) < 0)
        return -1;
    BIO *bio = BIO_new_mem_buf(str_text(&text), (int)text.len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    if (text.ptr)
        OPENSSL_cleanse(text.ptr, text.len);
    if (!key)
        return err_set(err, ERR_CORRUPT, 0, "%s: not a private key in PEM form", path);
    *ret_key = key;
    return 0;
}

bool identity_cert_name(const X509 *cert, char ret_name[IDENTITY_NAME_BYTES])
{
    const X509_NAME *subject = X509_get_subject_name(cert);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

    if (at < 0 || X509_NAME_get_index_by_NID(subject, NID_commonName, at) >= 0)
        return false;
    const ASN1_STRING *cn = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    int len = ASN1_STRING_length(cn);
    if (len <= 0 || len >= IDENTITY_NAME_BYTES)
        return false;
    memcpy(ret_name, ASN1_STRING_get0_data(cn), (size_t)len);
    ret_name[len] = '\0';
    return strlen(ret_name) == (size_t)len && str_is_name(ret_name);
}

void identity_fingerprint(const X509 *cert, struct sha256 *ret_sum)
{
    unsigned len = sizeof(ret_sum->bytes);

    if (X509_digest(cert, EVP_sha256(), ret_sum->bytes, &len) != 1 || len != sizeof(ret_sum->bytes))
        abort();
}

void identity_id(const X509 *authority, char ret_id[IDENTITY_ID_BYTES])
{
    struct sha256 sum;

    identity_fingerprint(authority, &sum);
    str_hex(sum.bytes, (IDENTITY_ID_BYTES - 1) / 2, ret_id);
}

int identity_verify(X509 *cert, X509 *authority, bool server, struct err *err)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    int rc = 0;

    if (!store || !ctx || X509_STORE_add_cert(store, authority) != 1
        || X509_STORE_CTX_init(ctx, store, cert, NULL) != 1)
        abort();
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(ctx);
    (void)X509_VERIFY_PARAM_set_purpose(param,
                                        server ? X509_PURPOSE_SSL_SERVER : X509_PURPOSE_SSL_CLIENT);
    (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_X509_STRICT);
    if (X509_verify_cert(ctx) != 1)
        rc = err_set(err, ERR_AUTH, 0, "%s",
                     X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    ERR_clear_error();
    return rc;
}
