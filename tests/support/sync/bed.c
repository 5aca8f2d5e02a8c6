// SPDX-License-Identifier: Apache-2.0
#include "support/sync/bed.h"

#include "base/mem.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WINDOW (256u * 1024u)

void bed_fail(const char *file, int line, const char *what, const struct err *err)
{
    (void)fprintf(stderr, "%s:%d: %s: [%s] %s\n", file, line, what,
                  err ? err_code_name(err->code) : "", err ? err->text : "is not so");
    abort();
}

/* --- The replica's side ---------------------------------------------------------------------- */

static int store_open(struct bed *bed, struct err *err)
{
    CLEANUP(mem_freep) char *dir = mem_printf("%s/replica", bed->dir);
    struct store_dir_config config = {
        .fs = fs_real(),
        .clock = &bed->clock.clock,
        .dir = dir,
        .group = BED_GROUP,
        .group_key = bed->config.group_key,
    };

    return bed->store ? 0 : store_dir_open(&config, &bed->store, err);
}

static int store_get(void *ctx, const char *peer, const char *group, struct store **ret_store,
                     struct err *err)
{
    struct bed *bed = ctx;

    (void)peer;
    if (strcmp(group, BED_GROUP) != 0)
        return err_set(err, ERR_NOT_FOUND, 0, "no replica of %s", group);
    if (bed->store_fails != ERR_NONE)
        return err_set(err, bed->store_fails, 0, "lyon says no");
    (void)pthread_mutex_lock(&bed->store_lock);
    if (store_open(bed, err) < 0) {
        (void)pthread_mutex_unlock(&bed->store_lock);
        return -1;
    }
    *ret_store = bed->store;
    return 0;
}

static void store_put(void *ctx, const char *group, struct store *store, bool failed)
{
    struct bed *bed = ctx;

    (void)group;
    if (failed) {
        store_close(store);
        bed->store = NULL;
    }
    (void)pthread_mutex_unlock(&bed->store_lock);
}

struct store *bed_store(struct bed *bed)
{
    struct store *store = NULL;
    struct err err = ERR_EMPTY;

    BED_OK(store_get(bed, "", BED_GROUP, &store, &err), &err);
    return store;
}

void bed_store_put(struct bed *bed)
{
    store_put(bed, BED_GROUP, bed->store, false);
}

static void *serve(void *arg)
{
    struct bed *bed = arg;
    struct receiver *receiver = receiver_new(&bed->host);
    struct err err = ERR_EMPTY;

    for (;;) {
        CLEANUP(link_msg_done) struct link_msg msg = {0};
        if (link_recv(bed->server_link, &msg, NULL, &err) < 0)
            break;
        atomic_fetch_add(&bed->messages, 1);
        const char *op = json_get_str(msg.head, "op", "");
        if (bed->first_release && strcmp(op, "store.block-digests") == 0) {
            struct err unknown = ERR_EMPTY;
            (void)err_set(&unknown, ERR_UNSUPPORTED, 0, "unknown request \"%s\"", op);
            if (link_answer_err(bed->server_link, &unknown, NULL, &err) < 0)
                break;
            continue;
        }
        if (bed->busy_ends && strcmp(op, "store.base-end") == 0) {
            struct err busy = ERR_EMPTY;
            (void)err_set(&busy, ERR_BUSY, 0, "%u parts are left", bed->busy_ends--);
            if (link_answer_err(bed->server_link, &busy, NULL, &err) < 0)
                break;
            continue;
        }
        if (receiver_serve(receiver, bed->server_link, &msg, NULL, &err) < 0)
            break;
    }
    receiver_free(receiver);
    return NULL;
}

static void stop_serving(struct bed *bed)
{
    if (!bed->serving)
        return;
    (void)pthread_join(bed->server, NULL);
    link_close(bed->server_link);
    bed->serving = false;
}

/* --- The link -------------------------------------------------------------------------------- */

struct counting {
    struct transport transport;
    struct transport *inner;
    struct bed *bed;
};

static int counting_write(struct transport *transport, const void *bytes, size_t len,
                          struct cancel *cancel, struct err *err)
{
    struct counting *c = (struct counting *)(void *)transport;

    if (atomic_exchange(&c->bed->break_link, false))
        return err_set(err, ERR_NET, 0, "connection broke");
    atomic_fetch_add(&c->bed->sent, len);
    if (c->bed->link_per_s)
        clock_fake_advance(&c->bed->clock, (int64_t)(len * 1000 / c->bed->link_per_s));
    return c->inner->write(c->inner, bytes, len, cancel, err);
}

static int counting_read(struct transport *transport, void *bytes, size_t len,
                         struct cancel *cancel, struct err *err)
{
    struct counting *c = (struct counting *)(void *)transport;

    return c->inner->read(c->inner, bytes, len, cancel, err);
}

static void counting_close(struct transport *transport)
{
    struct counting *c = (struct counting *)(void *)transport;

    c->inner->close(c->inner);
    free(c);
}

static int open_link(void *ctx, struct link **ret_link, struct cancel *cancel, struct err *err)
{
    struct bed *bed = ctx;
    struct counting *c;
    struct transport *ours;
    struct transport *theirs;

    (void)cancel;
    if (bed->unreachable)
        return err_set(err, ERR_NET, 0, "lyon: not reachable");
    if (bed->idle) {
        *ret_link = TAKE(bed->idle);
        return 0;
    }
    stop_serving(bed);
    transport_pair(WINDOW, &ours, &theirs);
    if (bed->cut_next) {
        ours = transport_cut(ours, bed->cut_next);
        bed->cut_next = 0;
    }
    c = mem_new(struct counting);
    *c = (struct counting){{counting_write, counting_read, counting_close}, ours, bed};
    bed->server_link = link_new(theirs, "paris");
    BED_CHECK(pthread_create(&bed->server, NULL, serve, bed) == 0);
    bed->serving = true;
    bed->links++;
    *ret_link = link_new(&c->transport, "lyon");
    return 0;
}

static void give_link(void *ctx, struct link *link)
{
    struct bed *bed = ctx;

    BED_CHECK(!bed->idle && !link_is_broken(link));
    bed->idle = link;
}

static void lost_link(void *ctx)
{
    struct bed *bed = ctx;

    bed->lost_links++;
    link_close(TAKE(bed->idle));
}

void bed_share_links(struct bed *bed)
{
    bed->config.give_link = give_link;
    bed->config.lost_link = lost_link;
}

/* --- The session's side ---------------------------------------------------------------------- */

static int open_source(void *ctx, struct source **ret_source, struct cancel *cancel,
                       struct err *err)
{
    struct bed *bed = ctx;

    (void)cancel;
    if (bed->no_machine)
        return err_set(err, ERR_NOT_FOUND, 0, "no machine shop");
    *ret_source = fake_source_new(bed->machine);
    return 0;
}

static int free_bytes(void *ctx, uint64_t *ret_bytes, struct err *err)
{
    const struct bed *bed = ctx;

    (void)err;
    *ret_bytes = bed->room ? bed->room : UINT64_MAX / 2;
    return 0;
}

static int open_seed(void *ctx, const char *peer, const char *name, struct seed *ret_seed,
                     struct err *err)
{
    (void)peer;
    const struct bed *bed = ctx;
    CLEANUP(mem_freep) char *dir = path_join(bed->dir, "seeds");
    const struct seed_folder folder = {.dir = dir, .run_dir = dir};

    return seed_open(&folder, name, ret_seed, err);
}

void bed_seed_file(struct bed *bed, size_t disk, const char *name, uint64_t bytes)
{
    CLEANUP(mem_freep) char *dir = path_join(bed->dir, "seeds");
    CLEANUP(mem_freep) char *path = path_join(dir, name);
    struct err err = ERR_EMPTY;

    BED_OK(fs_make_dirs(fs_real(), dir, 0700, &err), &err);
    BED_OK(fs_replace_file(fs_real(), path, bed->machine->disks[disk].bytes, bytes, 0600, &err),
           &err);
}

void bed_seed(struct bed *bed, size_t disk, const char *name)
{
    if (!bed->seeds)
        bed->seeds = json_object();
    (void)json_object_set_new(bed->seeds, bed->machine->disks[disk].name, json_string(name));
}

static json_t *machines(void *ctx)
{
    (void)ctx;
    return json_pack("{s:{s:i}}", "shop", "cpus", 2);
}

void bed_init(struct bed *bed, const char *dir, struct fake_machine *machine)
{
    uint8_t public_key[SIGN_KEY_BYTES];

    memset(bed, 0, sizeof(*bed));
    bed->dir = mem_strdup(dir);
    bed->machine = machine;
    clock_fake_init(&bed->clock, 1700000000000);
    BED_CHECK(pthread_mutex_init(&bed->store_lock, NULL) == 0);
    bed->host = (struct receiver_host){bed, store_get, store_put, open_seed};
    bed->config = (struct session_config){
        .group = BED_GROUP,
        .site = "paris",
        .peer = "lyon",
        .generation = 1,
        .clock = &bed->clock.clock,
        .ctx = bed,
        .open_source = open_source,
        .open_link = open_link,
        .free_bytes = free_bytes,
        .machines = machines,
    };
    policy_init(&bed->config.policy);
    bed->config.policy.interval_ms = BED_INTERVAL_MS;
    bed->config.policy.log_limit_percent = 100; /* small disks, written to at length */
    bed->config.policy.retention = (struct retention){.keep = 3};
    memset(bed->config.group_key.bytes, 0x42, KEY_BYTES);
    sign_key_new(bed->config.sign_key, public_key);
}

void bed_open_session(struct bed *bed)
{
    struct err err = ERR_EMPTY;

    bed->config.dir = mem_printf("%s/session", bed->dir);
    bed->config.seeds = json_incref(bed->seeds);
    BED_OK(session_open(&bed->config, &bed->session, &err), &err);
}

void bed_drop_session(struct bed *bed)
{
    session_close(bed->session);
    bed->session = NULL;
}

void bed_restart_replica(struct bed *bed)
{
    (void)pthread_mutex_lock(&bed->store_lock);
    store_close(bed->store);
    bed->store = NULL;
    (void)pthread_mutex_unlock(&bed->store_lock);
    bed->break_link = true;
}

void bed_done(struct bed *bed)
{
    session_close(bed->session);
    link_close(bed->idle);
    stop_serving(bed);
    store_close(bed->store);
    json_decref(bed->seeds);
    (void)pthread_mutex_destroy(&bed->store_lock);
    free(bed->dir);
}

void bed_turn(struct bed *bed)
{
    int64_t next = 0;

    session_turn(bed->session, NULL, &next);
    int64_t wait = next == CANCEL_NEVER ? 0 : next - bed->clock.clock.now_ms(&bed->clock.clock);
    if (wait > 0)
        clock_fake_advance(&bed->clock, wait);
}

struct session_status bed_status(struct bed *bed)
{
    struct session_status status;

    session_status(bed->session, &status);
    return status;
}

void bed_turns_until(struct bed *bed, uint64_t point, unsigned max)
{
    struct session_status status = bed_status(bed);

    for (unsigned i = 0; status.applied_point < point; i++) {
        if (i == max)
            bed_fail(__FILE__, __LINE__, "turns_until", &status.error);
        bed_turn(bed);
        status = bed_status(bed);
    }
}

bool bed_replica_equals_cut(struct bed *bed)
{
    bool same = true;

    for (size_t i = 0; i < bed->machine->disk_count; i++) {
        const struct fake_disk *d = &bed->machine->disks[i];
        CLEANUP(mem_freep)
        char *path = mem_printf("%s/replica/%s/head.raw", bed->dir, d->name);
        CLEANUP(mem_freep) uint8_t *head = mem_alloc(d->size, 1);
        CLEANUP(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
        BED_CHECK(fd >= 0);
        BED_CHECK(pread(fd, head, d->size, 0) == (ssize_t)d->size);
        for (uint64_t at = 0; at < d->size; at += 512)
            if (memcmp(head + at, d->cut + at, 512) != 0) {
                (void)fprintf(stderr, "%s differs at %llu\n", d->name, (unsigned long long)at);
                same = false;
                break;
            }
    }
    return same;
}
