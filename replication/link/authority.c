// SPDX-License-Identifier: Apache-2.0
/* The files of a site's identity, below `dir`:
 *
 *   authority.key  EC P-256, PKCS#8 PEM, 0600: signs the site's certificate, nothing else
 *   authority.crt  self-signed, CN "SITE authority", CA, path length 0: what peers pin
 *   site.key       EC P-256, 0600
 *   site.crt       CN = SITE, by the authority, for client and server use
 *   sign.key       Ed25519 private key, 64 hex digits, 0600; sign.pub the public one
 *
 * Validity is about ten years; there is no renewal yet, the pairing is made again. */
#include "base/fs.h"
#include "base/mem.h"
#include "base/openssl.h"
#include "link/identity.h"
#include "link/tls.h"

#include <stdio.h>
#include <string.h>

#define VALID_S      (3653L * 24 * 3600)
#define BACKDATE_S   (24L * 3600) /* the peer's clock may be behind ours */
#define SERIAL_BYTES 16

static const char *const file_names[] = {
    IDENTITY_AUTHORITY_KEY, IDENTITY_AUTHORITY_CRT, IDENTITY_SITE_KEY,
    IDENTITY_SITE_CRT,      IDENTITY_SIGN_KEY,      IDENTITY_SIGN_PUB,
};

static void must(bool ok)
{
    if (!ok)
        abort(); /* no memory: see base/crypto.c */
}

static void add_extension(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, ctx, nid, value);

    must(ext && X509_add_ext(cert, ext, -1) == 1);
    X509_EXTENSION_free(ext);
}

static void set_serial(X509 *cert)
{
    uint8_t bytes[SERIAL_BYTES];
    BIGNUM *number;

    random_bytes(bytes, sizeof(bytes));
    bytes[0] = (uint8_t)((bytes[0] & 0x7f) | 0x40); /* positive, and always as long */
    number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    must(number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)));
    BN_free(number);
}

/* `issuer` NULL: self-signed. */
static X509 *certificate_new(EVP_PKEY *key, const char *name, X509 *issuer, EVP_PKEY *issuer_key)
{
    X509 *cert = X509_new();
    char san[128];
    X509V3_CTX ctx;

    must(cert && X509_set_version(cert, X509_VERSION_3) == 1);
    set_serial(cert);
    must(X509_gmtime_adj(X509_getm_notBefore(cert), -BACKDATE_S)
         && X509_gmtime_adj(X509_getm_notAfter(cert), VALID_S) && X509_set_pubkey(cert, key) == 1);
    X509_NAME *subject = X509_get_subject_name(cert);
    must(X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                    (const unsigned char *)name, -1, -1, 0)
             == 1
         && X509_set_issuer_name(cert, issuer ? X509_get_subject_name(issuer) : subject) == 1);

    X509V3_set_ctx(&ctx, issuer ? issuer : cert, cert, NULL, NULL, 0);
    add_extension(cert, &ctx, NID_subject_key_identifier, "hash");
    add_extension(cert, &ctx, NID_authority_key_identifier, "keyid:always");
    if (issuer) {
        (void)snprintf(san, sizeof(san), "DNS:%s", name);
        add_extension(cert, &ctx, NID_basic_constraints, "critical,CA:FALSE");
        add_extension(cert, &ctx, NID_key_usage, "critical,digitalSignature");
        add_extension(cert, &ctx, NID_ext_key_usage, "serverAuth,clientAuth");
        add_extension(cert, &ctx, NID_subject_alt_name, san);
    } else {
        add_extension(cert, &ctx, NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
        add_extension(cert, &ctx, NID_key_usage, "critical,keyCertSign,cRLSign");
    }
    must(X509_sign(cert, issuer ? issuer_key : key, EVP_sha256()) > 0);
    return cert;
}

static int write_file(const char *dir, const char *name, const void *bytes, size_t len, mode_t mode,
                      struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, name);

    return fs_replace_file(fs_real(), path, bytes, len, mode, err);
}

/* What `put` writes as PEM goes to the file; the memory is wiped. */
static int write_pem(const char *dir, const char *name, EVP_PKEY *key, X509 *cert, struct err *err)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;

    must(bio != NULL);
    if (key)
        must(PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
    else
        must(PEM_write_bio_X509(bio, cert) == 1);
    long len = BIO_get_mem_data(bio, &text);
    int rc = write_file(dir, name, text, (size_t)len, key ? 0600 : 0644, err);
    if (key)
        OPENSSL_cleanse(text, (size_t)len);
    BIO_free(bio);
    return rc;
}

static int write_sign_keys(const char *dir, struct err *err)
{
    uint8_t private_key[SIGN_KEY_BYTES];
    uint8_t public_key[SIGN_KEY_BYTES];
    char hex[2 * SIGN_KEY_BYTES + 2];
    int rc;

    sign_key_new(private_key, public_key);
    str_hex(private_key, sizeof(private_key), hex);
    hex[sizeof(hex) - 2] = '\n';
    rc = write_file(dir, IDENTITY_SIGN_KEY, hex, sizeof(hex) - 1, 0600, err);
    OPENSSL_cleanse(private_key, sizeof(private_key));
    OPENSSL_cleanse(hex, sizeof(hex));
    if (rc < 0)
        return -1;
    str_hex(public_key, sizeof(public_key), hex);
    hex[sizeof(hex) - 2] = '\n';
    return write_file(dir, IDENTITY_SIGN_PUB, hex, sizeof(hex) - 1, 0644, err);
}

static int refuse_existing(const char *dir, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(file_names); i++) {
        CLEANUP(mem_freep) char *path = path_join(dir, file_names[i]);
        if (fs_exists(path))
            return err_set(err, ERR_EXISTS, 0,
                           "%s is there already; hint: a site's identity is made once; to make a "
                           "new one, move the folder's keys and certificates away and pair again",
                           path);
    }
    return 0;
}

int authority_create(const char *dir, const char *site, struct err *err)
{
    char authority_name[80];
    int rc = -1;

    if (!str_is_name(site))
        return err_set(err, ERR_INVALID, 0,
                       "\"%s\" is not a name; hint: 1 to 63 of a-z, 0-9, '.', '_', '-'", site);
    if (fs_make_dirs(fs_real(), dir, 0700, err) < 0 || refuse_existing(dir, err) < 0)
        return -1;

    EVP_PKEY *authority_key = EVP_EC_gen("P-256");
    EVP_PKEY *site_key = EVP_EC_gen("P-256");
    must(authority_key && site_key);
    (void)snprintf(authority_name, sizeof(authority_name), "%s authority", site);
    X509 *authority = certificate_new(authority_key, authority_name, NULL, NULL);
    X509 *cert = certificate_new(site_key, site, authority, authority_key);
    if (write_pem(dir, IDENTITY_AUTHORITY_KEY, authority_key, NULL, err) == 0
        && write_pem(dir, IDENTITY_AUTHORITY_CRT, NULL, authority, err) == 0
        && write_pem(dir, IDENTITY_SITE_KEY, site_key, NULL, err) == 0
        && write_sign_keys(dir, err) == 0
        && write_pem(dir, IDENTITY_SITE_CRT, NULL, cert, err) == 0)
        rc = 0;
    X509_free(cert);
    X509_free(authority);
    EVP_PKEY_free(site_key);
    EVP_PKEY_free(authority_key);
    return rc;
}

int pair_sign_key(const char *dir, uint8_t ret_private[32], uint8_t ret_public[32], struct err *err)
{
    CLEANUP(mem_freep) char *private_path = path_join(dir, IDENTITY_SIGN_KEY);
    CLEANUP(mem_freep) char *public_path = path_join(dir, IDENTITY_SIGN_PUB);

    if (identity_read_hex(private_path, ret_private, SIGN_KEY_BYTES, err) < 0)
        return -1;
    return identity_read_hex(public_path, ret_public, SIGN_KEY_BYTES, err);
}
