// SPDX-License-Identifier: Apache-2.0
/* The sites we are paired with: our identity, their addresses, links to them. Any thread; a pairing
 * replaces what is there while connections are being made with the old one. */
#pragma once

#include "link/tls.h"
#include "sites/site.h"

struct estate;
struct peers;
/* `dir` is where identity and peers are (link/tls.h). */
int peers_new(const char *dir, struct peers **ret_peers, struct err *err) MUST_CHECK;
void peers_free(struct peers *peers); /* NULL is fine */
/* Loads them anew; on an error the old ones stay. */
int peers_load(struct peers *peers, struct err *err) MUST_CHECK;

/* A link to that peer. ERR_NOT_FOUND: not paired (names those we are paired with). */
int peers_connect(struct peers *peers, const char *name, struct link **ret_link,
                  struct cancel *cancel, struct err *err) MUST_CHECK;
/* The server's half for an accepted socket (takes `fd`). */
int peers_accept(struct peers *peers, int fd, enum tls_kind *ret_kind, struct link **ret_link,
                 struct cancel *cancel, struct err *err) MUST_CHECK;

/* Their names; free each, and the array. */
char **peers_names(struct peers *peers, size_t *ret_count);

/* The peer as a site; made at the first use, the same until peers_free. NULL: not paired. Loop
 * thread. */
struct site *peers_site(struct peers *peers, struct estate *estate, const char *name);
