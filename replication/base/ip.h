// SPDX-License-Identifier: Apache-2.0
/* Addresses of the internet, IPv4 and IPv6, as values. Nothing is looked up. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define IP_TEXT_BYTES 64

struct ip {
    bool is_v6;
    uint8_t bytes[16]; /* IPv4: the first four */
    unsigned prefix;   /* 0..32 or 0..128; of an address alone the most */
};

bool ip_parse(const char *text, struct ip *ret_ip);      /* "10.0.0.5", "2001:db8::5" */
bool ip_parse_cidr(const char *text, struct ip *ret_ip); /* "10.0.0.5/24"; the prefix is needed */
/* "10.0.0.5"; with the prefix behind it. `buf` is returned. */
const char *ip_text(const struct ip *ip, char buf[IP_TEXT_BYTES]);
const char *ip_cidr_text(const struct ip *ip, char buf[IP_TEXT_BYTES]);
bool ip_same(const struct ip *a, const struct ip *b); /* the address, whatever the prefix */
/* Is `ip` in the network of `of`, by its prefix? */
bool ip_is_within(const struct ip *ip, const struct ip *of);
bool ip_is_link_local(const struct ip *ip); /* 169.254/16, fe80::/10 */
/* Can a machine have it? Not what stands for nobody, oneself, many, or (by its prefix) the network or
 * all in it. */
bool ip_is_host(const struct ip *ip);
