// SPDX-License-Identifier: Apache-2.0
#include "support/replica/kit.h"

#include "base/fs_luks.h"
#include "base/mem.h"
#include "replica/head.h"
#include "replica/view.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define BLOCK       4096U
#define FRAME_BYTES (256U * 1024U)

uint64_t kit_random(struct kit *kit, uint64_t below)
{
    /* splitmix64 (Steele, Lea, Flood 2014) */
    uint64_t z = kit->seed += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

static void init_disks(struct kit *kit, uint64_t size)
{
    static const char *const names[KIT_DISKS] = {"web.vda", "web.vdb"};

    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct kit_disk *disk = &kit->disks[i];
        memcpy(disk->name, names[i], strlen(names[i]) + 1);
        /* The second one ends within a chunk. */
        disk->size = size + i * 5U * BLOCK;
        disk->bytes = mem_alloc(disk->size, 1);
        disk->dirty = mem_alloc(disk->size / BLOCK, 1);
    }
}

static void init_places(struct kit *kit, const char *root)
{
    kit->dir = path_join(root, "store");
    kit->outbox = path_join(root, "outbox");
    kit->run_dir = path_join(root, "run");
    clock_fake_init(&kit->clock, INT64_C(1700000000000));
    manifest_init(&kit->last);
}

void kit_init(struct kit *kit, const char *root, uint64_t size, uint64_t seed)
{
    memset(kit, 0, sizeof(*kit));
    init_places(kit, root);
    init_disks(kit, size);
    key_new(&kit->key);
    sign_key_new(kit->sign, kit->public_key);
    kit->generation = 1;
    kit->seed = seed;
}

/* `size` bytes of `bytes`; the rest is zero. */
static void set_disk(struct kit_disk *disk, const uint8_t *bytes, uint64_t have, uint64_t size)
{
    uint8_t *grown = mem_alloc(size, 1);

    memcpy(grown, bytes, (size_t)(have < size ? have : size));
    free(disk->bytes);
    free(disk->dirty);
    disk->bytes = grown;
    disk->dirty = mem_alloc(size / BLOCK, 1);
    disk->size = size;
}

void kit_resume(struct kit *kit, const struct kit *from, const char *root, uint64_t point,
                uint64_t generation)
{
    const struct kit_image *image = kit_image(from, point);

    memset(kit, 0, sizeof(*kit));
    init_places(kit, root);
    init_disks(kit, from->disks[0].size);
    kit->key = from->key;
    memcpy(kit->sign, from->sign, sizeof(kit->sign));
    memcpy(kit->public_key, from->public_key, sizeof(kit->public_key));
    kit->generation = generation;
    kit->point = point;
    kit->parent = image->hash;
    kit->seed = from->seed + point;
    kit->luks_key = from->luks_key ? mem_strdup(from->luks_key) : NULL;
    for (size_t i = 0; i < KIT_DISKS; i++)
        set_disk(&kit->disks[i], image->bytes[i], image->sizes[i], image->sizes[i]);
    VEC_FOREACH(other, &from->images)
        *kit_images_push(&kit->images) = *other;
    kit->borrowed = kit->images.len;
}

void kit_done(struct kit *kit)
{
    for (size_t i = kit->borrowed; i < kit->images.len; i++)
        for (size_t k = 0; k < KIT_DISKS; k++)
            free(kit->images.at[i].bytes[k]);
    kit_images_free(&kit->images);
    for (size_t i = 0; i < KIT_DISKS; i++) {
        free(kit->disks[i].bytes);
        free(kit->disks[i].dirty);
    }
    manifest_done(&kit->last);
    free(kit->dir);
    free(kit->outbox);
    free(kit->run_dir);
    free(kit->luks_key);
}

void kit_at_rest(struct kit *kit, const char *root)
{
    struct luks_secret secret;
    struct err err = ERR_EMPTY;

    luks_secret_new(&secret);
    kit->luks_key = path_join(root, "luks");
    if (luks_secret_write(kit->luks_key, &secret, &err) < 0)
        abort();
}

struct store_dir_config kit_config(struct kit *kit, struct fs *fs)
{
    struct store_dir_config config = {
        .fs = fs,
        .clock = &kit->clock.clock,
        .dir = kit->dir,
        .group = "web",
        .group_key = kit->key,
        .run_dir = kit->run_dir,
        .to_scrub = kit->to_scrub,
        .luks_key = kit->luks_key,
        .at_rest = kit->luks_key != NULL,
    };
    memcpy(config.writer_key, kit->public_key, SIGN_KEY_BYTES);
    return config;
}

int kit_open(struct kit *kit, struct fs *fs, struct store **ret_store, struct err *err)
{
    const struct store_dir_config config = kit_config(kit, fs);

    return store_dir_open(&config, ret_store, err);
}

void kit_grow(struct kit *kit, size_t disk, uint64_t size)
{
    struct kit_disk *d = &kit->disks[disk];

    set_disk(d, d->bytes, d->size, size);
}

void kit_write(struct kit *kit, size_t disk, uint64_t off, const void *bytes, size_t len)
{
    struct kit_disk *d = &kit->disks[disk];

    memcpy(d->bytes + off, bytes, len);
    for (uint64_t block = off / BLOCK; block * BLOCK < off + len; block++)
        d->dirty[block] = 1;
}

void kit_scribble(struct kit *kit, size_t count)
{
    uint8_t bytes[16 * BLOCK];

    for (size_t i = 0; i < count; i++) {
        size_t disk = (size_t)kit_random(kit, KIT_DISKS);
        uint64_t blocks = kit->disks[disk].size / BLOCK;
        uint64_t block = kit_random(kit, blocks);
        uint64_t len = kit_random(kit, 4) == 0 ? 1 + kit_random(kit, 16) : 1;
        if (len > blocks - block)
            len = blocks - block;
        memset(bytes, 0, sizeof(bytes));
        if (kit_random(kit, 5) != 0)
            for (size_t k = 0; k < len * BLOCK; k += 8) {
                uint64_t word = kit_random(kit, UINT64_MAX) & 0xffffffff;
                memcpy(bytes + k, &word, sizeof(word));
            }
        kit_write(kit, disk, block * BLOCK, bytes, (size_t)len * BLOCK);
    }
}

/* --- Initial copy ------------------------------------------------------------------------ */

int kit_begin(struct kit *kit, struct store *store, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;

    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct store_disk *disk = store_disks_push(&disks);
        memcpy(disk->name, kit->disks[i].name, sizeof(disk->name));
        disk->size = kit->disks[i].size;
    }
    return store->ops->base_begin(store, &disks, 1024, kit->generation, 1, err);
}

static int copy_disk(struct kit *kit, struct store *store, const struct kit_disk *disk,
                     struct err *err)
{
    struct uuid uuid;
    uuid_new(&uuid);
    CLEANUP(frame_coder_freep)
    struct frame_coder *coder = frame_coder_new(&kit->key, &uuid, COMPRESSION_ZSTD);
    CLEANUP(mem_freep) uint8_t *frame = mem_alloc(FRAME_SEALED_MAX, 1);
    uint64_t number = 0;

    for (uint64_t off = 0; off < disk->size; off += FRAME_BYTES) {
        uint64_t len = disk->size - off < FRAME_BYTES ? disk->size - off : FRAME_BYTES;
        const struct extent extent = {off, len, false};
        size_t frame_len;
        frame_seal(coder, number, &extent, 1, disk->bytes + off, (size_t)len, frame, &frame_len);
        if (store->ops->base_frame(store, disk->name, &uuid, COMPRESSION_ZSTD, number, frame,
                                   frame_len, err)
            < 0)
            return -1;
        number++;
    }
    return store->ops->base_sync(store, disk->name, err);
}

int kit_copy_frames(struct kit *kit, struct store *store, struct err *err)
{
    for (size_t i = 0; i < KIT_DISKS; i++)
        if (copy_disk(kit, store, &kit->disks[i], err) < 0)
            return -1;
    return 0;
}

int kit_prune(struct store *store, uint64_t keep, struct err *err)
{
    const struct retention retention = {.keep = keep};

    return store->ops->prune(store, &retention, err);
}

void kit_keep_image(struct kit *kit, uint64_t point, const struct sha256 *hash)
{
    struct kit_image *image = kit_images_push(&kit->images);

    image->point = point;
    image->hash = *hash;
    for (size_t i = 0; i < KIT_DISKS; i++) {
        image->sizes[i] = kit->disks[i].size;
        image->bytes[i] = mem_alloc(kit->disks[i].size, 1);
        memcpy(image->bytes[i], kit->disks[i].bytes, kit->disks[i].size);
    }
    kit->point = point;
    kit->parent = *hash;
}

int kit_copy(struct kit *kit, struct store *store, struct err *err)
{
    const struct sha256 none = {{0}};

    if (kit_begin(kit, store, err) < 0 || kit_copy_frames(kit, store, err) < 0)
        return -1;
    for (size_t i = 0; i < KIT_DISKS; i++)
        memset(kit->disks[i].dirty, 0, kit->disks[i].size / BLOCK);
    if (!kit_image(kit, 0))
        kit_keep_image(kit, 0, &none);
    return store->ops->base_end(store, err);
}

/* --- Points ------------------------------------------------------------------------------ */

char *kit_segment_path(const struct kit *kit, const struct uuid *uuid)
{
    char hex[2 * UUID_BYTES + 1];

    str_hex(uuid->bytes, UUID_BYTES, hex);
    return mem_printf("%s/%s", kit->outbox, hex);
}

static int build_segment(struct kit *kit, const struct kit_disk *disk, struct manifest_disk *part,
                         struct err *err)
{
    struct segment_head head = {.disk_size = disk->size,
                                .generation = kit->generation,
                                .point = kit->last.point,
                                .parent = kit->parent,
                                .compression = COMPRESSION_ZSTD};
    CLEANUP(segment_writer_freep) struct segment_writer *writer = NULL;
    struct segment_info info;

    memcpy(head.group, kit->last.group, sizeof(head.group));
    memcpy(head.disk, disk->name, sizeof(head.disk));
    uuid_new(&head.uuid);
    CLEANUP(mem_freep) char *path = kit_segment_path(kit, &head.uuid);
    if (segment_writer_open(fs_real(), path, &head, &kit->key, &writer, err) < 0)
        return -1;
    for (uint64_t block = 0; block < disk->size / BLOCK; block++) {
        if (!disk->dirty[block])
            continue;
        disk->dirty[block] = 0;
        if (segment_writer_data(writer, block * BLOCK, disk->bytes + block * BLOCK, BLOCK, err) < 0)
            return -1;
    }
    if (segment_writer_finish(writer, &info, err) < 0)
        return -1;
    if (info.extent_count > 0)
        *manifest_segments_push(&part->segments) =
            (struct manifest_segment){info.uuid, info.root, info.bytes};
    return 0;
}

int kit_cut(struct kit *kit, struct err *err)
{
    struct manifest *m = &kit->last;

    if (fs_make_dirs(fs_real(), kit->outbox, 0700, err) < 0)
        return -1;
    manifest_done(m);
    manifest_init(m);
    memcpy(m->group, "web", 4);
    memcpy(m->site, "paris", 6);
    m->generation = kit->generation;
    m->point = kit->point + 1;
    m->parent = kit->parent;
    m->base_point = kit->base_point;
    m->base = kit->base;
    kit->base_point = 0;
    memset(&kit->base, 0, sizeof(kit->base));
    m->consistency = kit->consistency;
    kit->consistency = CONSISTENCY_CRASH;
    m->cut_wall_ms = INT64_C(1700000000000) + (int64_t)m->point * 1000;
    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct manifest_disk *part = manifest_disks_push(&m->disks);
        memcpy(part->name, kit->disks[i].name, sizeof(part->name));
        part->size = kit->disks[i].size;
        if (build_segment(kit, &kit->disks[i], part, err) < 0)
            return -1;
    }
    manifest_sign(m, kit->sign);
    struct sha256 hash;
    manifest_hash(m, &hash);
    kit_keep_image(kit, m->point, &hash);
    return 0;
}

static int send_segment(struct kit *kit, struct store *store, const char *disk,
                        const struct manifest_segment *segment, struct err *err)
{
    CLEANUP(mem_freep) char *path = kit_segment_path(kit, &segment->uuid);
    CLEANUP(str_free) struct str bytes = STR_EMPTY;
    uint64_t have;

    if (fs_read_file(fs_real(), path, SIZE_MAX / 2, &bytes, err) < 0
        || store->ops->segment_open(store, disk, &segment->uuid, &have, err) < 0)
        return -1;
    while (have < bytes.len) {
        size_t len = bytes.len - have < 60000 ? (size_t)(bytes.len - have) : 60000;
        if (store->ops->segment_write(store, disk, &segment->uuid, have, bytes.ptr + have, len, err)
            < 0)
            return -1;
        have += len;
    }
    return store->ops->segment_close(store, disk, &segment->uuid, &segment->root, segment->bytes,
                                     err);
}

int kit_send(struct kit *kit, struct store *store, struct err *err)
{
    VEC_FOREACH(part, &kit->last.disks)
        VEC_FOREACH(segment, &part->segments)
            if (send_segment(kit, store, part->name, segment, err) < 0)
                return -1;
    return 0;
}

int kit_commit(struct kit *kit, struct store *store, struct err *err)
{
    CLEANUP(mem_freep) char *text = manifest_text(&kit->last);

    return store->ops->point_commit(store, text, strlen(text), err);
}

int kit_point(struct kit *kit, struct store *store, struct err *err)
{
    if (kit_cut(kit, err) < 0 || kit_send(kit, store, err) < 0)
        return -1;
    return kit_commit(kit, store, err);
}

int kit_point_applied(struct kit *kit, struct store *store, struct err *err)
{
    uint64_t point;

    if (kit_point(kit, store, err) < 0
        || store->ops->point_apply(store, &point, NULL, NULL, err) < 0)
        return -1;
    if (point != kit->point)
        return err_set(err, ERR_STATE, 0, "applied %" PRIu64 ", not %" PRIu64, point, kit->point);
    return 0;
}

const struct kit_image *kit_image(const struct kit *kit, uint64_t point)
{
    /* The last one: a resumed kit may write another history than the one it borrows from. */
    for (size_t i = kit->images.len; i > 0; i--)
        if (kit->images.at[i - 1].point == point)
            return &kit->images.at[i - 1];
    return NULL;
}

/* Of the next point, without segments. */
static void bare_manifest(const struct kit *kit, uint64_t number, uint64_t generation,
                          struct manifest *m)
{
    manifest_init(m);
    memcpy(m->group, "web", 4);
    memcpy(m->site, "paris", 6);
    m->generation = generation;
    m->point = number;
    m->parent = kit->parent;
    for (size_t i = 0; i < KIT_DISKS; i++) {
        struct manifest_disk *part = manifest_disks_push(&m->disks);
        memcpy(part->name, kit->disks[i].name, sizeof(part->name));
        part->size = kit->disks[i].size;
    }
}

char *kit_branch(struct kit *kit)
{
    CLEANUP(manifest_done) struct manifest m;
    struct sha256 hash;

    bare_manifest(kit, kit->point + 1, kit->generation, &m);
    manifest_sign(&m, kit->sign);
    manifest_hash(&m, &hash);
    kit_keep_image(kit, m.point, &hash);
    for (size_t i = 0; i < KIT_DISKS; i++)
        memset(kit->disks[i].dirty, 0, kit->disks[i].size / BLOCK);
    return manifest_text(&m);
}

char *kit_taken_over(struct kit *kit, uint64_t number, uint64_t generation)
{
    CLEANUP(manifest_done) struct manifest m;

    bare_manifest(kit, number, generation, &m);
    m.promotion = true;
    manifest_sign(&m, kit->sign);
    kit->base_point = kit->point;
    kit->base = kit->parent;
    kit->generation = generation;
    kit->point = number;
    manifest_hash(&m, &kit->parent);
    return manifest_text(&m);
}

void kit_promoted(struct kit *kit, uint64_t number, const struct sha256 *hash, uint64_t chosen,
                  uint64_t generation)
{
    const struct kit_image *from = kit_image(kit, chosen);

    for (size_t i = 0; i < KIT_DISKS; i++)
        set_disk(&kit->disks[i], from->bytes[i], from->sizes[i], from->sizes[i]);
    kit_keep_image(kit, number, hash);
    kit->generation = generation;
}

/* --- Judging ----------------------------------------------------------------------------- */

static int differs(const struct kit *kit, size_t disk, uint64_t point, const uint8_t *have,
                   const uint8_t *want, struct err *err)
{
    uint64_t size = kit_image(kit, point)->sizes[disk];

    for (uint64_t i = 0; i < size; i++)
        if (have[i] != want[i])
            return err_set(err, ERR_CORRUPT, 0,
                           "disk %s at point %" PRIu64 " differs at byte %" PRIu64,
                           kit->disks[disk].name, point, i);
    return 0;
}

static void heads_free(struct fs **heads)
{
    fs_luks_free(*heads);
}

int kit_check_view(struct kit *kit, uint64_t point, struct err *err)
{
    const struct kit_image *image = kit_image(kit, point);
    CLEANUP(heads_free) struct fs *heads = NULL;

    if (kit->luks_key && head_unlocked(kit->dir, kit->luks_key, &heads, err) < 0)
        return -1;
    for (size_t i = 0; i < KIT_DISKS; i++) {
        CLEANUP(view_closep) struct view *view = NULL;
        CLEANUP(mem_freep) uint8_t *have = mem_alloc(image->sizes[i], 1);
        if (view_open(kit->dir, kit->disks[i].name, point, &kit->key, heads ? heads : kit->heads,
                      &view, err)
            < 0)
            return -1;
        if (view_size(view) != image->sizes[i])
            return err_set(err, ERR_CORRUPT, 0, "view has %" PRIu64 " bytes", view_size(view));
        if (view_read(view, 0, have, (size_t)image->sizes[i], err) < 0)
            return -1;
        if (memcmp(have, image->bytes[i], (size_t)image->sizes[i]) != 0)
            return differs(kit, i, point, have, image->bytes[i], err);
    }
    return 0;
}

/* The container holds it, and has no hole: others would read that as garbage. */
static int check_luks(struct kit *kit, size_t disk, uint64_t point, const uint8_t *want,
                      struct err *err)
{
    const struct kit_disk *d = &kit->disks[disk];
    CLEANUP(heads_free) struct fs *heads = NULL;
    CLEANUP(mem_freep) char *path = mem_printf("%s/%s/head.luks", kit->dir, d->name);
    CLEANUP(mem_freep) uint8_t *have = mem_alloc(d->size, 1);
    CLEANUP(str_free) struct str sealed = STR_EMPTY;
    static const uint8_t zeros[LUKS_SECTOR_BYTES];
    int fd;

    if (head_unlocked(kit->dir, kit->luks_key, &heads, err) < 0
        || heads->open(heads, path, O_RDONLY, 0, &fd, err) < 0)
        return -1;
    int rc = heads->pread(heads, fd, have, (size_t)d->size, 0, err);
    (void)heads->close(heads, fd);
    if (rc < 0 || fs_read_file(fs_real(), path, SIZE_MAX / 2, &sealed, err) < 0)
        return -1;
    if (memcmp(have, want, (size_t)d->size) != 0)
        return differs(kit, disk, point, have, want, err);
    if (sealed.len != LUKS_HEADER_BYTES + d->size)
        return err_set(err, ERR_CORRUPT, 0, "%s has %zu bytes", path, sealed.len);
    for (size_t i = LUKS_HEADER_BYTES; i < sealed.len; i += LUKS_SECTOR_BYTES)
        if (memcmp(sealed.ptr + i, zeros, LUKS_SECTOR_BYTES) == 0)
            return err_set(err, ERR_CORRUPT, 0, "%s has a hole at %zu", path, i);
    return 0;
}

int kit_check_head(struct kit *kit, uint64_t point, struct err *err)
{
    const struct kit_image *image = kit_image(kit, point);

    for (size_t i = 0; i < KIT_DISKS; i++) {
        CLEANUP(mem_freep)
        char *path = kit->own[i] ? mem_strdup(kit->own[i])
                                 : mem_printf("%s/%s/head.raw", kit->dir, kit->disks[i].name);
        CLEANUP(str_free) struct str have = STR_EMPTY;
        if (kit->luks_key) {
            if (check_luks(kit, i, point, image->bytes[i], err) < 0)
                return -1;
            continue;
        }
        if (fs_read_file(fs_real(), path, SIZE_MAX / 2, &have, err) < 0)
            return -1;
        if (have.len != image->sizes[i])
            return err_set(err, ERR_CORRUPT, 0, "%s has %zu bytes", path, have.len);
        if (memcmp(have.ptr, image->bytes[i], have.len) != 0)
            return differs(kit, i, point, (const uint8_t *)have.ptr, image->bytes[i], err);
    }
    return 0;
}
