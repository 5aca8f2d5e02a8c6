// SPDX-License-Identifier: Apache-2.0
/* OpenSSL's headers, for the few files that talk to it; never include <openssl/...> directly.
 * OpenSSL has a type ERR_STATE, we have an error code of that name (base/err.h): theirs is
 * renamed while their headers are read. */
#pragma once

#include "base/err.h"

#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#undef ERR_STATE
