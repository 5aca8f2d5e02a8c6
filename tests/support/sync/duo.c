// SPDX-License-Identifier: Apache-2.0
#include "support/sync/duo.h"

#include "base/json.h"
#include "base/mem.h"
#include "support/sync/duo_wire.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What waits by chance waits as the seed says. */
static uint64_t chance;

void __wrap_random_bytes(void *ret_bytes, size_t len);
void __wrap_random_bytes(void *ret_bytes, size_t len)
{
    uint8_t *at = ret_bytes;

    for (size_t i = 0; i < len; i++)
        at[i] = (uint8_t)fake_random(&chance);
}

static void must(int rc, const struct err *err)
{
    if (rc >= 0)
        return;
    (void)fprintf(stderr, "duo: [%s] %s\n", err_code_name(err->code), err->text);
    abort();
}

/* --- The source: its cuts are kept ----------------------------------------------------------- */

static void keep_image(struct fake_machine *machine, struct source_cut *cut, void *ctx)
{
    struct duo *duo = ctx;
    struct duo_image *image = duo_images_push(&duo->images);

    cut->wall_ms = duo->clock[0].clock.wall_ms(&duo->clock[0].clock);

    image->cut = machine->cuts;
    image->touched = machine->touched;
    image->same_until_ms = duo->time.clock.now_ms(&duo->time.clock);
    for (size_t i = 0; i < machine->disk_count; i++) {
        const struct fake_disk *disk = &machine->disks[i];
        image->bytes[i] = mem_alloc(disk->size, 1);
        memcpy(image->bytes[i], disk->cut, disk->size);
    }
}

static int open_source(void *ctx, struct source **ret_source, struct cancel *cancel,
                       struct err *err)
{
    struct duo *duo = ctx;

    (void)cancel;
    (void)err;
    *ret_source = fake_source_new(duo->machine);
    if (duo->bug.source)
        duo->bug.source(*ret_source, duo->bug.ctx);
    return 0;
}

/* Travels with each point: of which cut it is. */
static json_t *machines(void *ctx)
{
    const struct duo *duo = ctx;

    return json_pack("{s:{s:I}}", DUO_GROUP, "cut", (json_int_t)duo->machine->cuts);
}

const struct duo_image *duo_image_of(struct duo *duo, const char *manifest)
{
    CLEANUP(manifest_done) struct manifest m;
    struct err err = ERR_EMPTY;

    manifest_init(&m);
    must(manifest_parse(manifest, strlen(manifest), &m, &err), &err);
    uint64_t cut = json_get_u64(json_object_get(m.machines, DUO_GROUP), "cut", 0);
    VEC_FOREACH(image, &duo->images)
        if (image->cut == cut)
            return image;
    return NULL;
}

/* --- The store ------------------------------------------------------------------------------- */

char *duo_replica_dir(const struct duo *duo)
{
    return path_join(duo->lyon.root, "replica");
}

int duo_store(struct duo *duo, struct store **ret_store, struct err *err)
{
    CLEANUP(mem_freep) char *dir = duo_replica_dir(duo);
    const struct store_dir_config config = {
        .fs = fs_real(),
        .clock = &duo->clock[1].clock,
        .dir = dir,
        .group = DUO_GROUP,
        .group_key = duo->config.group_key,
    };

    if (!duo->store) {
        if (store_dir_open(&config, &duo->store, err) < 0) {
            duo->store = NULL;
            return -1;
        }
        if (duo->bug.store)
            duo->bug.store(duo->store, duo->bug.ctx);
    }
    *ret_store = duo->store;
    return 0;
}

static int store_get(void *ctx, const char *peer, const char *group, struct store **ret_store,
                     struct err *err)
{
    (void)peer;
    (void)group;
    return duo_store(ctx, ret_store, err);
}

static void store_put(void *ctx, const char *group, struct store *store, bool failed)
{
    struct duo *duo = ctx;

    (void)group;
    if (!failed)
        return;
    store_close(store);
    duo->store = NULL;
}

void duo_drop_store(struct duo *duo)
{
    struct site_fs *before = site_enter(&duo->lyon);

    store_close(duo->store);
    duo->store = NULL;
    (void)site_enter(before);
    duo_wire_break(duo);
}

/* --- The session ----------------------------------------------------------------------------- */

void duo_init(struct duo *duo, const char *dir, struct fake_machine *machine, uint64_t seed)
{
    CLEANUP(mem_freep) char *paris = path_join(dir, "paris");
    CLEANUP(mem_freep) char *lyon = path_join(dir, "lyon");
    uint8_t public_key[SIGN_KEY_BYTES];

    memset(duo, 0, sizeof(*duo));
    chance = seed + 1;
    duo->machine = machine;
    machine->on_cut = keep_image;
    machine->on_cut_ctx = duo;
    clock_fake_init(&duo->time, 0);
    for (size_t i = 0; i < 2; i++)
        clock_fake_init(&duo->clock[i], 1700000000000 + (int64_t)(seed % 100000));
    site_fs_init(&duo->paris, paris);
    site_fs_init(&duo->lyon, lyon);
    duo->paris.say = duo->lyon.say = getenv("MUSTER_SEED") != NULL;
    duo->host = (struct receiver_host){duo, store_get, store_put, NULL};
    duo->config = (struct session_config){
        .group = DUO_GROUP,
        .site = "paris",
        .peer = "lyon",
        .generation = 1,
        .clock = &duo->clock[0].clock,
        .ctx = duo,
        .open_source = open_source,
        .open_link = duo_wire_open,
        .machines = machines,
    };
    policy_init(&duo->config.policy);
    duo->config.policy.interval_ms = DUO_INTERVAL_MS;
    duo->config.policy.retention = (struct retention){.keep = DUO_KEEP};
    duo->config.policy.compression = COMPRESSION_LZ4;
    duo->config.policy.copy_disks = 1; /* one thread */
    duo->config.policy.copy_workers = 1;
    duo->config.policy.resync_auto = true;
    duo->config.policy.resync_window = (struct day_span){0, 0}; /* always */
    memset(duo->config.group_key.bytes, 0x42, KEY_BYTES);
    sign_key_new(duo->config.sign_key, public_key);
}

int duo_open_session(struct duo *duo, struct err *err)
{
    struct site_fs *before = site_enter(&duo->paris);

    duo->config.dir = path_join(duo->paris.root, "session");
    int rc = session_open(&duo->config, &duo->session, err);
    if (rc < 0)
        duo->session = NULL;
    (void)site_enter(before);
    return rc;
}

void duo_drop_session(struct duo *duo)
{
    struct site_fs *before = site_enter(&duo->paris);

    session_close(duo->session);
    duo->session = NULL;
    (void)site_enter(before);
}

void duo_done(struct duo *duo)
{
    duo_drop_session(duo);
    duo_drop_store(duo);
    while (duo->late_count > 0)
        free(duo->late[--duo->late_count].bytes);
    for (size_t at = duo->borrowed; at < duo->images.len; at++)
        for (size_t i = 0; i < FAKE_DISKS_MAX; i++)
            free(duo->images.at[at].bytes[i]);
    duo_images_free(&duo->images);
    site_fs_done(&duo->paris);
    site_fs_done(&duo->lyon);
}

void duo_pass(struct duo *duo, int64_t ms)
{
    clock_fake_advance(&duo->time, ms);
    for (size_t i = 0; i < 2; i++)
        clock_fake_advance(&duo->clock[i], ms);
    /* As long as nobody writes, the newest cuts are what the disks hold. */
    for (size_t i = duo->images.len; i > 0; i--) {
        struct duo_image *image = &duo->images.at[i - 1];
        if (image->touched != duo->machine->touched)
            break;
        image->same_until_ms = duo->time.clock.now_ms(&duo->time.clock);
    }
}

void duo_turn(struct duo *duo, int64_t max_ms)
{
    struct clock *clock = &duo->clock[0].clock;
    int64_t next = 0;

    if (!duo->session) {
        duo_pass(duo, max_ms);
        return;
    }
    struct site_fs *before = site_enter(&duo->paris);
    session_turn(duo->session, NULL, &next);
    (void)site_enter(before);
    int64_t wait = next == CANCEL_NEVER ? max_ms : next - clock->now_ms(clock);
    if (wait > 0)
        duo_pass(duo, wait < max_ms ? wait : max_ms);
}

struct session_status duo_status(struct duo *duo)
{
    struct session_status status = {0};

    if (duo->session)
        session_status(duo->session, &status);
    return status;
}
