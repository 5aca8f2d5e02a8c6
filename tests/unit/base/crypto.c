// SPDX-License-Identifier: Apache-2.0
#include "base/crypto.h"

#include "base/openssl.h"
#include "base/str.h"
#include "support/expect.h"

static void unhex(const char *hex, void *ret_bytes)
{
    assert_true(str_unhex(hex, ret_bytes, strlen(hex) / 2));
}

static void expect_hex(const void *bytes, size_t len, const char *want)
{
    char hex[257];

    assert_true(len <= 128);
    str_hex(bytes, len, hex);
    assert_string_equal(hex, want);
}

/* HMAC fills short keys up with zeros, so the short keys of RFC 4231 are ours too. */
static void a_digest_is_the_front_of_hmac_sha_256(void **state)
{
    struct key key = {{0}};
    struct digest digest;

    (void)state;
    memset(key.bytes, 0x0b, 20);
    struct digester *one = digester_new(&key);
    for (int i = 0; i < 3; i++) { /* RFC 4231, case 1; the same again and again */
        digester_run(one, "Hi There", 8, &digest);
        expect_hex(digest.bytes, sizeof(digest), "b0344c61d8db38535ca8afceaf0bf12b");
    }
    digester_free(one);
    memset(key.bytes, 0, sizeof(key.bytes));
    memcpy(key.bytes, "Jefe", 4);
    struct digester *two = digester_new(&key); /* case 2 */
    digester_run(two, "what do ya want for nothing?", 28, &digest);
    expect_hex(digest.bytes, sizeof(digest), "5bdcc146bf60754e6a042426089575c7");
    digester_run(two, "", 0, &digest);
    digester_free(two);
    digester_free(NULL);
}

/* Computed apart from this code, by two HMACs as RFC 5869 describes (zero salt). */
static void a_derived_key_is_hkdf_sha_256(void **state)
{
    struct key key;
    struct key derived;

    (void)state;
    for (uint8_t i = 0; i < KEY_BYTES; i++)
        key.bytes[i] = i;
    key_derive(&key, "test purpose", "ctx", 3, &derived);
    expect_hex(derived.bytes, sizeof(derived),
               "e9df80d39e3968419d3ab94ef869f4aef098447f080b6b6be0256e559e2e0726");
}

static void purpose_and_context_make_different_keys(void **state)
{
    struct key key;
    struct key a;
    struct key b;

    (void)state;
    key_new(&key);
    key_derive(&key, "seal", "x", 1, &a);
    key_derive(&key, "seal", "y", 1, &b);
    assert_memory_not_equal(a.bytes, b.bytes, KEY_BYTES);
    key_derive(&key, "sealx", NULL, 0, &b);
    assert_memory_not_equal(a.bytes, b.bytes, KEY_BYTES);
    key_derive(&key, "seal", "x", 1, &b);
    assert_memory_equal(a.bytes, b.bytes, KEY_BYTES);
    key_wipe(&key);
    expect_hex(key.bytes, KEY_BYTES,
               "0000000000000000000000000000000000000000000000000000000000000000");
}

static void sha_256_is_sha_256(void **state)
{
    static const char want[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    struct sha256 sum;
    struct sha256_run *run = sha256_begin();

    (void)state;
    sha256_of("abc", 3, &sum);
    expect_hex(sum.bytes, sizeof(sum), want);
    sha256_add(run, "a", 1);
    sha256_add(run, "", 0);
    sha256_add(run, "bc", 2);
    sha256_end(run, &sum);
    expect_hex(sum.bytes, sizeof(sum), want);
    sha256_drop(sha256_begin());
}

/* NIST, The Galois/Counter Mode of Operation, test cases 13 and 14: a zero key and nonce. */
static void sealing_is_aes_256_gcm(void **state)
{
    struct key key = {{0}};
    struct sealer *sealer = sealer_new(&key);
    uint8_t bytes[16] = {0};
    uint8_t tag[SEAL_TAG_BYTES];

    (void)state;
    sealer_seal(sealer, 0, NULL, 0, NULL, 0, NULL, tag);
    expect_hex(tag, sizeof(tag), "530f8afbc74536b9a963b4f1c4cb738b");
    sealer_seal(sealer, 0, NULL, 0, bytes, sizeof(bytes), bytes, tag);
    expect_hex(bytes, sizeof(bytes), "cea7403d4d606b6e074ec5d3baf39d18");
    expect_hex(tag, sizeof(tag), "d0d1c8a799996bf0265b98b5d48ab919");
    sealer_free(sealer);
    sealer_free(NULL);
}

static void the_number_stands_big_endian_behind_four_zeros(void **state)
{
    const uint8_t nonce[12] = {0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    struct key key;
    uint8_t by_us[5];
    uint8_t by_openssl[5];
    uint8_t tag[SEAL_TAG_BYTES];
    int len = 0;

    (void)state;
    key_new(&key);
    struct sealer *sealer = sealer_new(&key);
    sealer_seal(sealer, UINT64_C(0x0102030405060708), NULL, 0, "hello", 5, by_us, tag);
    sealer_free(sealer);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    assert_int_equal(EVP_EncryptInit_ex(ctx, EVP_aes_256_gcm(), NULL, key.bytes, nonce), 1);
    assert_int_equal(EVP_EncryptUpdate(ctx, by_openssl, &len, (const uint8_t *)"hello", 5), 1);
    EVP_CIPHER_CTX_free(ctx);
    assert_memory_equal(by_us, by_openssl, 5);
}

static void sealed_bytes_open_only_as_they_were(void **state)
{
    struct key key;
    uint8_t sealed[100];
    uint8_t plain[100];
    uint8_t back[100];
    uint8_t tag[SEAL_TAG_BYTES];

    (void)state;
    key_new(&key);
    random_bytes(plain, sizeof(plain));
    struct sealer *sealer = sealer_new(&key);
    sealer_seal(sealer, 7, "head", 4, plain, sizeof(plain), sealed, tag);
    assert_memory_not_equal(sealed, plain, sizeof(plain));
    EXPECT_OK(sealer_open(sealer, 7, "head", 4, sealed, 100, tag, back, &err));
    assert_memory_equal(back, plain, sizeof(plain));

    EXPECT_ERR(ERR_CORRUPT, sealer_open(sealer, 8, "head", 4, sealed, 100, tag, back, &err));
    EXPECT_TEXT("number 8");
    for (size_t i = 0; i < sizeof(back); i++)
        assert_int_equal(back[i], 0);
    EXPECT_ERR(ERR_CORRUPT, sealer_open(sealer, 7, "heat", 4, sealed, 100, tag, back, &err));
    EXPECT_ERR(ERR_CORRUPT, sealer_open(sealer, 7, "head", 4, sealed, 99, tag, back, &err));
    tag[15] ^= 1;
    EXPECT_ERR(ERR_CORRUPT, sealer_open(sealer, 7, "head", 4, sealed, 100, tag, back, &err));
    tag[15] ^= 1;
    sealed[50] ^= 1;
    EXPECT_ERR(ERR_CORRUPT, sealer_open(sealer, 7, "head", 4, sealed, 100, tag, back, &err));
    sealed[50] ^= 1;
    EXPECT_OK(sealer_open(sealer, 7, "head", 4, sealed, 100, tag, sealed, &err));
    assert_memory_equal(sealed, plain, sizeof(plain));
    sealer_freep(&sealer);
    assert_null(sealer);
}

/* RFC 8032, 7.1, tests 1 and 2. */
static void signatures_are_ed25519(void **state)
{
    uint8_t private_key[SIGN_KEY_BYTES];
    uint8_t public_key[SIGN_KEY_BYTES];
    uint8_t signature[SIGN_BYTES];

    (void)state;
    unhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60", private_key);
    unhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", public_key);
    sign_bytes(private_key, "", 0, signature);
    expect_hex(
        signature, sizeof(signature),
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e"
        "39701cf9b46bd25bf5f0595bbe24655141438e7a100b");
    EXPECT_OK(sign_verify(public_key, "", 0, signature, &err));
    unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", private_key);
    sign_bytes(private_key, "\x72", 1, signature);
    expect_hex(
        signature, sizeof(signature),
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f"
        "3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
}

static void a_signature_fits_its_bytes_and_key_only(void **state)
{
    uint8_t private_key[SIGN_KEY_BYTES];
    uint8_t public_key[SIGN_KEY_BYTES];
    uint8_t other_key[SIGN_KEY_BYTES];
    uint8_t signature[SIGN_BYTES];

    (void)state;
    sign_key_new(private_key, other_key);
    sign_key_new(private_key, public_key);
    sign_bytes(private_key, "promote", 7, signature);
    EXPECT_OK(sign_verify(public_key, "promote", 7, signature, &err));
    EXPECT_ERR(ERR_CORRUPT, sign_verify(public_key, "promotf", 7, signature, &err));
    EXPECT_ERR(ERR_CORRUPT, sign_verify(other_key, "promote", 7, signature, &err));
    memset(other_key, 0xff, sizeof(other_key)); /* no point of the curve */
    EXPECT_ERR(ERR_CORRUPT, sign_verify(other_key, "promote", 7, signature, &err));
    signature[0] ^= 1;
    EXPECT_ERR(ERR_CORRUPT, sign_verify(public_key, "promote", 7, signature, &err));
}

/* One bit at a time, as the definition goes. */
static uint32_t slow_crc32c(const uint8_t *bytes, size_t len)
{
    uint32_t crc = ~0u;

    for (size_t i = 0; i < len; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
    }
    return ~crc;
}

static void crc_is_castagnoli(void **state)
{
    uint8_t bytes[300];

    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(crc32c(0, "", 0), 0);
    random_bytes(bytes, sizeof(bytes));
    for (size_t from = 0; from < 9; from++)
        for (size_t len = 0; len < 100; len++) {
            uint32_t want = slow_crc32c(bytes + from, len);
            assert_int_equal(crc32c(0, bytes + from, len), want);
            assert_int_equal(crc32c_by_table(0, bytes + from, len), want);
        }
    assert_int_equal(crc32c(crc32c(0, bytes, 123), bytes + 123, 177), slow_crc32c(bytes, 300));
}

static void a_uuid_is_random_and_says_so(void **state)
{
    struct uuid a;
    struct uuid b;

    (void)state;
    uuid_new(&a);
    uuid_new(&b);
    assert_memory_not_equal(a.bytes, b.bytes, UUID_BYTES);
    assert_int_equal(a.bytes[6] >> 4, 4);
    assert_int_equal(a.bytes[8] >> 6, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_digest_is_the_front_of_hmac_sha_256),
        cmocka_unit_test(a_derived_key_is_hkdf_sha_256),
        cmocka_unit_test(purpose_and_context_make_different_keys),
        cmocka_unit_test(sha_256_is_sha_256),
        cmocka_unit_test(sealing_is_aes_256_gcm),
        cmocka_unit_test(the_number_stands_big_endian_behind_four_zeros),
        cmocka_unit_test(sealed_bytes_open_only_as_they_were),
        cmocka_unit_test(signatures_are_ed25519),
        cmocka_unit_test(a_signature_fits_its_bytes_and_key_only),
        cmocka_unit_test(crc_is_castagnoli),
        cmocka_unit_test(a_uuid_is_random_and_says_so),
    };
    return cmocka_run_group_tests_name("crypto", tests, NULL, NULL);
}
