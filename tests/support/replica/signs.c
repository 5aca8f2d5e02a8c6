// SPDX-License-Identifier: Apache-2.0
#include "support/replica/signs.h"

#include "base/crypto.h"
#include "base/vec.h"

#include <stdbool.h>

#define SLOTS 4096U

struct good {
    bool used;
    struct sha256 bytes;
    uint8_t key[SIGN_KEY_BYTES];
    uint8_t signature[SIGN_BYTES];
};

static struct {
    bool on;
    struct good slots[SLOTS];
} memory;

int __real_sign_verify(const uint8_t public_key[SIGN_KEY_BYTES], const void *bytes, size_t len,
                       const uint8_t signature[SIGN_BYTES], struct err *err);
int __wrap_sign_verify(const uint8_t public_key[SIGN_KEY_BYTES], const void *bytes, size_t len,
                       const uint8_t signature[SIGN_BYTES], struct err *err);

static struct good make(const uint8_t *public_key, const void *bytes, size_t len,
                        const uint8_t *signature)
{
    struct good good;

    memset(&good, 0, sizeof(good)); /* compared as a whole */
    good.used = true;
    sha256_of(bytes, len, &good.bytes);
    memcpy(good.key, public_key, sizeof(good.key));
    memcpy(good.signature, signature, sizeof(good.signature));
    return good;
}

int __wrap_sign_verify(const uint8_t public_key[SIGN_KEY_BYTES], const void *bytes, size_t len,
                       const uint8_t signature[SIGN_BYTES], struct err *err)
{
    if (!memory.on)
        return __real_sign_verify(public_key, bytes, len, signature, err);
    const struct good good = make(public_key, bytes, len, signature);
    uint16_t at;

    memcpy(&at, good.bytes.bytes, sizeof(at));
    struct good *slot = &memory.slots[at % SLOTS];
    if (memcmp(slot, &good, sizeof(good)) == 0)
        return 0;
    if (__real_sign_verify(public_key, bytes, len, signature, err) < 0)
        return -1;
    memcpy(slot, &good, sizeof(good));
    return 0;
}

void signs_remember(void)
{
    memory.on = true;
}
