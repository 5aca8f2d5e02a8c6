// SPDX-License-Identifier: Apache-2.0
/* What was loaded together is a set, counted by its users: a set that was replaced lives until the
 * last handshake with it is over. */
#include "daemon/peers.h"

#include "base/mem.h"
#include "base/str.h"
#include "base/vec.h"
#include "sites/estate.h"

#include <pthread.h>
#include <stdio.h>

struct peer_set {
    struct tls *tls;
    struct tls_peer *at;
    size_t len;
    unsigned users; /* under the lock of `peers` */
};

VEC_DEFINE(site_list, struct site *)

struct peers {
    char *dir;
    pthread_mutex_t lock; /* guards `set` and its count */
    struct peer_set *set;
    struct site_list sites; /* the loop thread's */
};

static void set_free(struct peer_set *set)
{
    if (!set)
        return;
    tls_free(set->tls);
    free(set->at);
    free(set);
}

static struct peer_set *set_take(struct peers *peers)
{
    (void)pthread_mutex_lock(&peers->lock);
    struct peer_set *set = peers->set;
    set->users++;
    (void)pthread_mutex_unlock(&peers->lock);
    return set;
}

static void set_give(struct peers *peers, struct peer_set *set)
{
    (void)pthread_mutex_lock(&peers->lock);
    bool last = --set->users == 0;
    (void)pthread_mutex_unlock(&peers->lock);
    if (last)
        set_free(set);
}

int peers_load(struct peers *peers, struct err *err)
{
    struct peer_set *set = mem_new(struct peer_set);

    set->users = 1; /* being the present one */
    if (tls_load(peers->dir, &set->tls, err) < 0
        || pair_list(peers->dir, &set->at, &set->len, err) < 0) {
        set_free(set);
        return -1;
    }
    (void)pthread_mutex_lock(&peers->lock);
    struct peer_set *old = peers->set;
    peers->set = set;
    (void)pthread_mutex_unlock(&peers->lock);
    if (old)
        set_give(peers, old);
    return 0;
}

int peers_new(const char *dir, struct peers **ret_peers, struct err *err)
{
    struct peers *peers = mem_new(struct peers);

    peers->dir = mem_strdup(dir);
    if (pthread_mutex_init(&peers->lock, NULL) != 0)
        abort();
    if (peers_load(peers, err) < 0) {
        peers_free(peers);
        return -1;
    }
    *ret_peers = peers;
    return 0;
}

void peers_free(struct peers *peers)
{
    if (!peers)
        return;
    VEC_FOREACH(site, &peers->sites)
        site_close(*site);
    site_list_free(&peers->sites);
    if (peers->set)
        set_give(peers, peers->set);
    (void)pthread_mutex_destroy(&peers->lock);
    free(peers->dir);
    free(peers);
}

static const struct tls_peer *find(const struct peer_set *set, const char *name)
{
    for (size_t i = 0; i < set->len; i++)
        if (str_eq(set->at[i].name, name))
            return &set->at[i];
    return NULL;
}

static int not_paired(const struct peer_set *set, const char *name, struct err *err)
{
    CLEANUP(str_free) struct str names = STR_EMPTY;

    for (size_t i = 0; i < set->len; i++)
        str_addf(&names, "%s%s", i ? ", " : "", set->at[i].name);
    return err_set(err, ERR_NOT_FOUND, 0,
                   "not paired with a site \"%s\", only with: %s; hint: "
                   "muster site pair",
                   name, names.len ? names.ptr : "none");
}

int peers_connect(struct peers *peers, const char *name, struct link **ret_link,
                  struct cancel *cancel, struct err *err)
{
    struct peer_set *set = set_take(peers);
    const struct tls_peer *peer = find(set, name);
    int rc = peer ? tls_connect(set->tls, name, peer->address, cancel, ret_link, err)
                  : not_paired(set, name, err);

    set_give(peers, set);
    return rc;
}

int peers_accept(struct peers *peers, int fd, enum tls_kind *ret_kind, struct link **ret_link,
                 struct cancel *cancel, struct err *err)
{
    struct peer_set *set = set_take(peers);
    int rc = tls_accept(set->tls, fd, cancel, ret_kind, ret_link, err);

    set_give(peers, set);
    return rc;
}

char **peers_names(struct peers *peers, size_t *ret_count)
{
    struct peer_set *set = set_take(peers);
    char **names = mem_new_array(char *, set->len + 1);

    for (size_t i = 0; i < set->len; i++)
        names[i] = mem_strdup(set->at[i].name);
    *ret_count = set->len;
    set_give(peers, set);
    return names;
}

struct site *peers_site(struct peers *peers, struct estate *estate, const char *name)
{
    VEC_FOREACH(site, &peers->sites)
        if (str_eq((*site)->name, name))
            return *site;
    struct peer_set *set = set_take(peers);
    bool paired = find(set, name) != NULL;
    set_give(peers, set);
    if (!paired)
        return NULL;
    struct site *site = site_remote_new(estate, name);
    *site_list_push(&peers->sites) = site;
    return site;
}
