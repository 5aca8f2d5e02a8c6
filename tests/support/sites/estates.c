// SPDX-License-Identifier: Apache-2.0
#include "support/sites/estates.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdio.h>
#include <stdlib.h>

#define WALL_MS 1700000000000
#define WINDOW  65536

static const char definition[] =
    "{\"name\": \"db1\", \"memory\": \"128MiB\", \"cpus\": 1, \"kernel\": \"/boot/vmlinuz\","
    " \"cmdline\": \"quiet ip=10.77.0.11/24 console=ttyS0\","
    " \"disks\": [{\"path\": \"/srv/db1.raw\", \"format\": \"raw\"}],"
    " \"nics\": [{\"mac\": \"52:54:00:77:00:11\", \"network\": \"bridge lan\"}]}";

/* --- Links -------------------------------------------------------------------------------------- */

static void *serve(void *ctx)
{
    struct estates *e = ctx;
    struct link_msg msg = {0};
    struct err failure = ERR_EMPTY;

    while (link_recv(e->server_link, &msg, NULL, &failure) == 0) {
        int rc = site_serve(e->server, e->server_link, &msg, NULL, &failure);
        link_msg_done(&msg);
        if (rc < 0)
            break;
    }
    link_close(e->server_link);
    return NULL;
}

static void join(struct estates *e)
{
    if (e->serving)
        (void)pthread_join(e->server_thread, NULL);
    e->serving = false;
}

static int open_link(void *ctx, const char *peer, struct link **ret_link, struct cancel *cancel,
                     struct err *ret_err)
{
    struct estates *e = ctx;
    struct transport *here;
    struct transport *there;

    (void)cancel;
    e->links_asked++;
    bool paris = strcmp(peer, "paris") == 0;
    if (e->unreachable || (!paris && !e->lyon_answers))
        return err_set(ret_err, ERR_NET, 0, "%s cannot be reached", peer);
    join(e);
    transport_pair(WINDOW, &here, &there);
    e->server = paris ? e->paris : e->lyon;
    e->server_link = link_new(there, paris ? "lyon" : "paris");
    e->serving = pthread_create(&e->server_thread, NULL, serve, e) == 0;
    *ret_link = link_new(here, peer);
    return 0;
}

static void changed(void *ctx, const char *group, const char *what, uint64_t generation)
{
    struct estates *e = ctx;

    (void)snprintf(e->told, sizeof(e->told), "%s %s %d", group, what, (int)generation);
}

/* --- What there is -------------------------------------------------------------------------------- */

static json_t *definition_json(void)
{
    json_t *json = NULL;

    EXPECT_OK(json_parse(definition, strlen(definition), &json, &err));
    return json;
}

static struct estate *make(struct estates *e, const char *site, json_t *networks)
{
    CLEANUP(mem_freep) char *dir = path_join(e->root, site);
    struct estate_config config = {
        .site = site,
        .dir = dir,
        .clock = &e->clock.clock,
        .provider = &e->fake.provider,
        .networks = networks,
        .ctx = e,
        .open_link = open_link,
        .changed = changed,
    };

    EXPECT_OK(fs_make_dirs(fs_real(), dir, 0700, &err));
    memset(config.sign_key, 1, sizeof(config.sign_key));
    return estate_new(&config);
}

static void fill_paris(struct estates *e)
{
    struct estate_group group = {.group = "db1", .peer = "lyon", .generation = 1};
    CLEANUP(json_freep) json_t *json = definition_json();
    struct machine machine;
    struct key key;

    policy_init(&group.policy);
    machine_init(&machine);
    e->paris = make(e, "paris", NULL);
    EXPECT_OK(machine_from_json(json, &machine, &err));
    estate_machine_put(e->paris, &machine);
    machine_done(&machine);
    if (estate_key_read(e->paris, "db1", &key, &err) < 0) {
        memset(&key, 7, sizeof(key));
        EXPECT_OK(estate_key_write(e->paris, "db1", &key, &err));
    }
    EXPECT_OK(estate_group_add(e->paris, &group, &err));
    e->at_paris = site_local_new(e->paris);
}

/* A point without changes: enough for what sites ask. */
static void add_point(struct store *store, uint64_t number, struct sha256 *parent)
{
    CLEANUP(manifest_done) struct manifest manifest;
    uint8_t sign[SIGN_KEY_BYTES];
    uint64_t applied;

    memset(sign, 1, sizeof(sign));
    manifest_init(&manifest);
    (void)snprintf(manifest.group, sizeof(manifest.group), "db1");
    (void)snprintf(manifest.site, sizeof(manifest.site), "paris");
    manifest.generation = 1;
    manifest.point = number;
    manifest.parent = *parent;
    manifest.cut_wall_ms = WALL_MS - 10000 + (int64_t)number * 1000;
    struct manifest_disk *disk = manifest_disks_push(&manifest.disks);
    (void)snprintf(disk->name, sizeof(disk->name), "vda");
    disk->size = 65536;
    manifest.machines = json_pack("{s:o}", "db1", definition_json());
    manifest_sign(&manifest, sign);
    CLEANUP(mem_freep) char *text = manifest_text(&manifest);
    EXPECT_OK(store->ops->point_commit(store, text, strlen(text), &err));
    EXPECT_OK(store->ops->point_apply(store, &applied, NULL, NULL, &err));
    manifest_hash(&manifest, parent);
}

/* Points 1..3. */
static void fill_store(struct store *store)
{
    struct store_disks disks = VEC_EMPTY;
    struct sha256 parent = {{0}};
    struct store_disk *disk = store_disks_push(&disks);

    (void)snprintf(disk->name, sizeof(disk->name), "vda");
    disk->size = 65536;
    EXPECT_OK(store->ops->base_begin(store, &disks, 65536, 1, 1, &err));
    EXPECT_OK(store->ops->base_end(store, &err));
    for (uint64_t number = 1; number <= 3; number++)
        add_point(store, number, &parent);
    store_disks_free(&disks);
}

static void fill_lyon(struct estates *e, json_t *networks)
{
    const struct estate_replica replica = {.group = "db1", .peer = "paris"};
    struct store *store;
    struct key key;

    e->lyon = make(e, "lyon", networks);
    memset(&key, 7, sizeof(key));
    EXPECT_OK(estate_key_write(e->lyon, "db1", &key, &err));
    EXPECT_OK(estate_replica_add(e->lyon, &replica, &err));
    EXPECT_OK(estate_store_get(e->lyon, "db1", &store, &err));
    struct store_info info;
    EXPECT_OK(store->ops->info(store, &info, &err));
    if (info.state == STORE_EMPTY)
        fill_store(store);
    estate_store_put(e->lyon, "db1", store, false);
    e->at_lyon = site_local_new(e->lyon);
    e->paris_from_lyon = site_remote_new(e->lyon, "paris");
    e->lyon_from_paris = site_remote_new(e->paris, "lyon");
}

int estates_setup(void **state)
{
    struct estates *e = mem_new(struct estates);
    void *root;

    if (tmpdir_setup(&root) < 0)
        return -1;
    log_set_level(LOG_LEVEL_ERROR);
    e->root = root;
    clock_fake_init(&e->clock, WALL_MS);
    provider_fake_init(&e->fake);
    fill_paris(e);
    fill_lyon(e, NULL);
    *state = e;
    return 0;
}

static void close_paris(struct estates *e)
{
    join(e);
    site_close(e->at_paris);
    estate_free(e->paris);
}

void estates_restart_paris(struct estates *e)
{
    close_paris(e);
    fill_paris(e);
}

static void close_lyon(struct estates *e)
{
    join(e);
    site_close(e->at_lyon);
    site_close(e->paris_from_lyon);
    site_close(e->lyon_from_paris);
    estate_free(e->lyon);
}

void estates_restart_lyon(struct estates *e)
{
    close_lyon(e);
    fill_lyon(e, NULL);
}

int estates_teardown(void **state)
{
    struct estates *e = *state;
    void *root = e->root;

    close_paris(e);
    close_lyon(e);
    provider_fake_done(&e->fake);
    free(e);
    return tmpdir_teardown(&root);
}

json_t *estates_ask(struct site *site, const char *what, json_t *args)
{
    json_t *reply = NULL;

    EXPECT_OK(site_ask(site, what, args, &reply, NULL, &err));
    return reply;
}

void estates_tell(struct site *site, const char *what, json_t *args)
{
    json_decref(estates_ask(site, what, args));
}

json_t *estates_group_args(const char *run)
{
    return json_pack("{s:s, s:s}", "group", "db1", "run", run);
}

json_t *estates_machine_args(const char *run)
{
    return json_pack("{s:s, s:s, s:b}", "machine", "db1", "run", run, "test", 1);
}
