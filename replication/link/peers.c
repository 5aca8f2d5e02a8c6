// SPDX-License-Identifier: Apache-2.0
/* A paired site is two files below `dir`/peers: NAME.json {"address", "sign_key" (hex), "site"} and
 * NAME.crt, its authority's certificate; and NAME.throttle, how fast it is sent to, if that has a limit
 * (throttle_plan.c). The certificate is written last and removed first: it
 * makes the pairing. */
#include "link/identity.h"

#include "base/fs.h"
#include "base/json.h"
#include "base/mem.h"
#include "link/throttle_plan.h"

#include <stdio.h>
#include <string.h>

#define THROTTLE ".throttle"

static char *peer_path(const char *dir, const char *name, const char *suffix)
{
    return mem_printf("%s/peers/%s%s", dir, name, suffix);
}

static int refuse_other_authority(const char *path, const char *name, X509 *authority,
                                  struct err *err)
{
    X509 *known = NULL;

    if (!fs_exists(path))
        return 0;
    if (identity_read_cert(path, &known, err) < 0)
        return -1;
    bool same = X509_cmp(known, authority) == 0;
    X509_free(known);
    if (same)
        return 0;
    return err_set(err, ERR_EXISTS, 0,
                   "already paired with a site named \"%s\" that has another authority; hint: if "
                   "that site was set up anew, remove the old pairing first",
                   name);
}

int peer_store(const char *dir, const struct tls_peer *peer, X509 *authority, struct err *err)
{
    CLEANUP(mem_freep) char *peers = path_join(dir, "peers");
    CLEANUP(mem_freep) char *crt_path = peer_path(dir, peer->name, ".crt");
    CLEANUP(mem_freep) char *json_path = peer_path(dir, peer->name, ".json");
    char key[2 * SIGN_KEY_BYTES + 1];

    if (refuse_other_authority(crt_path, peer->name, authority, err) < 0
        || fs_make_dirs(fs_real(), peers, 0700, err) < 0)
        return -1;
    str_hex(peer->sign_key, SIGN_KEY_BYTES, key);
    CLEANUP(json_freep)
    json_t *json =
        json_pack("{s:s, s:s, s:s}", "site", peer->name, "address", peer->address, "sign_key", key);
    if (!json)
        return err_set(err, ERR_INVALID, 0, "peer \"%s\": the address is not UTF-8", peer->name);
    CLEANUP(mem_freep) char *text = json_text(json);
    if (fs_replace_file(fs_real(), json_path, text, strlen(text), 0600, err) < 0)
        return -1;

    BIO *bio = BIO_new(BIO_s_mem());
    char *pem = NULL;
    if (!bio || PEM_write_bio_X509(bio, authority) != 1)
        abort();
    long len = BIO_get_mem_data(bio, &pem);
    int rc = fs_replace_file(fs_real(), crt_path, pem, (size_t)len, 0644, err);
    BIO_free(bio);
    return rc;
}

static int peer_load(const char *dir, const char *name, struct tls_peer *ret_peer, struct err *err)
{
    CLEANUP(mem_freep) char *path = peer_path(dir, name, ".json");
    CLEANUP(str_free) struct str text = STR_EMPTY;
    CLEANUP(json_freep) json_t *json = NULL;
    const char *address;
    const char *key;

    if (fs_read_file(fs_real(), path, IDENTITY_FILE_MAX, &text, err) < 0
        || json_parse(str_text(&text), text.len, &json, err) < 0
        || json_need_str(json, "address", path, &address, err) < 0
        || json_need_str(json, "sign_key", path, &key, err) < 0)
        return err_wrap(err, "pairing with \"%s\"", name);
    if (strlen(key) != 2 * SIGN_KEY_BYTES || !str_unhex(key, ret_peer->sign_key, SIGN_KEY_BYTES)
        || strlen(address) >= sizeof(ret_peer->address))
        return err_set(err, ERR_CORRUPT, 0,
                       "%s: not the description of a peer; hint: pair the sites again", path);
    (void)snprintf(ret_peer->name, sizeof(ret_peer->name), "%s", name);
    (void)snprintf(ret_peer->address, sizeof(ret_peer->address), "%s", address);
    return 0;
}

int pair_list(const char *dir, struct tls_peer **ret_peers, size_t *ret_count, struct err *err)
{
    CLEANUP(mem_freep) char *peers = path_join(dir, "peers");
    CLEANUP(fs_names_free) struct fs_names names = {0};
    CLEANUP(mem_freep) struct tls_peer *list = NULL;
    size_t count = 0;

    if (fs_exists(peers) && fs_list(peers, &names, err) < 0)
        return -1;
    list = mem_new_array(struct tls_peer, names.len + 1);
    for (size_t i = 0; i < names.len; i++) {
        char *dot = strrchr(names.at[i], '.');
        if (!dot || strcmp(dot, ".crt") != 0)
            continue;
        *dot = '\0';
        if (!str_is_name(names.at[i]))
            continue;
        if (peer_load(dir, names.at[i], &list[count], err) < 0)
            return -1;
        count++;
    }
    *ret_peers = TAKE(list);
    *ret_count = count;
    return 0;
}

static int check_paired(const char *dir, const char *peer, struct err *err)
{
    if (!str_is_name(peer))
        return err_set(err, ERR_INVALID, 0, "\"%s\" is not a site's name", peer);
    CLEANUP(mem_freep) char *crt_path = peer_path(dir, peer, ".crt");
    if (!fs_exists(crt_path))
        return err_set(err, ERR_NOT_FOUND, 0, "not paired with a site named \"%s\"", peer);
    return 0;
}

int pair_throttle(const char *dir, const char *peer, struct throttle_plan *ret_plan,
                  struct err *err)
{
    CLEANUP(mem_freep) char *path = peer_path(dir, peer, THROTTLE);
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (check_paired(dir, peer, err) < 0)
        return -1;
    if (!fs_exists(path)) {
        *ret_plan = (struct throttle_plan){0};
        return 0;
    }
    if (fs_read_file(fs_real(), path, THROTTLE_TEXT_BYTES, &text, err) < 0)
        return -1;
    if (throttle_plan_parse(str_text(&text), ret_plan, err) < 0)
        return err_wrap(err, "%s", path);
    return 0;
}

int pair_set_throttle(const char *dir, const char *peer, const struct throttle_plan *plan,
                      struct err *err)
{
    CLEANUP(mem_freep) char *path = peer_path(dir, peer, THROTTLE);
    char text[THROTTLE_TEXT_BYTES];

    (void)throttle_plan_text(plan, text, sizeof(text));
    if (check_paired(dir, peer, err) < 0)
        return -1;
    return fs_replace_file(fs_real(), path, text, strlen(text), 0600, err);
}

int pair_remove(const char *dir, const char *peer, struct err *err)
{
    CLEANUP(mem_freep) char *peers = path_join(dir, "peers");
    struct fs *fs = fs_real();

    if (!str_is_name(peer))
        return err_set(err, ERR_INVALID, 0, "\"%s\" is not a site's name", peer);
    CLEANUP(mem_freep) char *crt_path = peer_path(dir, peer, ".crt");
    CLEANUP(mem_freep) char *json_path = peer_path(dir, peer, ".json");
    CLEANUP(mem_freep) char *throttle_path = peer_path(dir, peer, THROTTLE);
    if (!fs_exists(crt_path))
        return err_set(err, ERR_NOT_FOUND, 0, "not paired with a site named \"%s\"", peer);
    if (fs->unlink(fs, crt_path, err) < 0 || fs->sync_dir(fs, peers, err) < 0)
        return -1;
    if (fs_exists(json_path) && fs->unlink(fs, json_path, err) < 0)
        return -1;
    if (fs_exists(throttle_path) && fs->unlink(fs, throttle_path, err) < 0)
        return -1;
    return fs->sync_dir(fs, peers, err);
}
