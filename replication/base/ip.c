// SPDX-License-Identifier: Apache-2.0
#include "base/ip.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static unsigned bits_of(const struct ip *ip)
{
    return ip->is_v6 ? 128 : 32;
}

bool ip_parse(const char *text, struct ip *ret_ip)
{
    struct ip ip = {.is_v6 = strchr(text, ':') != NULL};

    if (inet_pton(ip.is_v6 ? AF_INET6 : AF_INET, text, ip.bytes) != 1)
        return false;
    ip.prefix = bits_of(&ip);
    *ret_ip = ip;
    return true;
}

bool ip_parse_cidr(const char *text, struct ip *ret_ip)
{
    const char *slash = strchr(text, '/');
    char address[IP_TEXT_BYTES];
    uint64_t prefix;
    struct ip ip;

    if (!slash || slash - text >= IP_TEXT_BYTES || slash[1] < '0' || slash[1] > '9'
        || !str_to_u64(slash + 1, &prefix))
        return false;
    (void)snprintf(address, sizeof(address), "%.*s", (int)(slash - text), text);
    if (!ip_parse(address, &ip) || prefix > bits_of(&ip))
        return false;
    ip.prefix = (unsigned)prefix;
    *ret_ip = ip;
    return true;
}

const char *ip_text(const struct ip *ip, char buf[IP_TEXT_BYTES])
{
    if (!inet_ntop(ip->is_v6 ? AF_INET6 : AF_INET, ip->bytes, buf, IP_TEXT_BYTES))
        buf[0] = '\0'; /* cannot be: the buffer is large enough */
    return buf;
}

const char *ip_cidr_text(const struct ip *ip, char buf[IP_TEXT_BYTES])
{
    size_t len = strlen(ip_text(ip, buf));

    (void)snprintf(buf + len, IP_TEXT_BYTES - len, "/%u", ip->prefix);
    return buf;
}

bool ip_same(const struct ip *a, const struct ip *b)
{
    return a->is_v6 == b->is_v6 && memcmp(a->bytes, b->bytes, bits_of(a) / 8) == 0;
}

static bool bit(const struct ip *ip, unsigned i)
{
    return ip->bytes[i / 8] >> (7 - i % 8) & 1;
}

bool ip_is_within(const struct ip *ip, const struct ip *of)
{
    if (ip->is_v6 != of->is_v6)
        return false;
    for (unsigned i = 0; i < of->prefix; i++)
        if (bit(ip, i) != bit(of, i))
            return false;
    return true;
}

bool ip_is_link_local(const struct ip *ip)
{
    if (ip->is_v6)
        return ip->bytes[0] == 0xfe && (ip->bytes[1] & 0xc0) == 0x80;
    return ip->bytes[0] == 169 && ip->bytes[1] == 254;
}

/* All bits behind the prefix are `value`. */
static bool rest_is(const struct ip *ip, bool value)
{
    for (unsigned i = ip->prefix; i < bits_of(ip); i++)
        if (bit(ip, i) != value)
            return false;
    return ip->prefix < bits_of(ip);
}

bool ip_is_host(const struct ip *ip)
{
    static const struct ip none[2];
    static const struct ip self = {.is_v6 = true, .bytes = {[15] = 1}};
    struct ip nobody = none[0];

    nobody.is_v6 = ip->is_v6;
    if (ip_same(ip, &nobody) || ip->prefix == 0)
        return false;
    if (ip->is_v6) /* every address of a network but the first (RFC 4291's anycast) is a host's */
        return !ip_same(ip, &self) && ip->bytes[0] != 0xff
               && (ip->prefix >= 127 || !rest_is(ip, false));
    if (ip->bytes[0] == 127 || ip->bytes[0] >= 224)
        return false;
    return ip->prefix >= 31 || (!rest_is(ip, false) && !rest_is(ip, true));
}
