// SPDX-License-Identifier: Apache-2.0
#include "support/sync/reverse.h"

#include "base/mem.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static struct reverse *of_bed(void *bed)
{
    return (struct reverse *)bed; /* its first member */
}

static size_t disk_index(const struct reverse *r, const char *name)
{
    for (size_t i = 0; i < REVERSE_DISKS; i++)
        if (strcmp(r->machine->disks[i].name, name) == 0)
            return i;
    bed_fail(__FILE__, __LINE__, name, NULL);
}

static int base_digests(void *ctx, const char *disk, uint64_t first, uint64_t count,
                        struct digest *ret_digests, struct err *err)
{
    struct reverse *r = of_bed(ctx);
    size_t i = disk_index(r, disk);
    uint64_t size = r->machine->disks[i].size;

    if (r->base_fails && r->base_fails_after == 0)
        return err_set(err, r->base_fails, 0, "its replica is not here any more");
    for (uint64_t k = 0; k < count; k++)
        chunk_digest(r->digester, r->base[i] + (first + k) * CHUNK_BYTES,
                     chunk_len(size, first + k), &ret_digests[k]);
    return 0;
}

static int base_read(void *ctx, const char *disk, uint64_t off, void *buf, size_t len,
                     struct err *err)
{
    struct reverse *r = of_bed(ctx);

    if (r->base_fails && r->base_reads >= r->base_fails_after)
        return err_set(err, r->base_fails, 0, "its replica cannot be read any more");
    r->base_reads++;
    memcpy(buf, r->base[disk_index(r, disk)] + off, len);
    return 0;
}

void reverse_begin(struct reverse *r, const char *dir, const uint64_t sizes[REVERSE_DISKS])
{
    memset(r, 0, sizeof(*r));
    r->seed = 1;
    r->machine = fake_machine_new(sizes, REVERSE_DISKS);
    fake_write_random(r->machine, &r->seed, 100);
    bed_init(&r->bed, dir, r->machine);
    r->bed.config.policy.compression = COMPRESSION_NONE;
    r->digester = chunk_digester_new(&r->bed.config.group_key);
    bed_open_session(&r->bed);
    bed_turns_until(&r->bed, 2, 40);
    CLEANUP(mem_freep) char *session = mem_printf("%s/session", dir);
    struct err err = ERR_EMPTY;
    bed_drop_session(&r->bed);
    BED_OK(fs_remove_tree(fs_real(), session, &err), &err);
    for (size_t i = 0; i < REVERSE_DISKS; i++) {
        r->head[i] = mem_alloc(sizes[i], 1);
        r->base[i] = mem_alloc(sizes[i], 1);
        memcpy(r->head[i], r->machine->disks[i].cut, sizes[i]);
    }
    fake_restart(r->machine);
}

void reverse_done(struct reverse *r)
{
    bed_done(&r->bed);
    fake_machine_free(r->machine);
    digester_free(r->digester);
    for (size_t i = 0; i < REVERSE_DISKS; i++) {
        free(r->head[i]);
        free(r->base[i]);
    }
}

void reverse_write(struct reverse *r, unsigned count, unsigned run)
{
    uint8_t bytes[FAKE_BLOCK];

    for (unsigned i = 0; i < count; i++) {
        size_t disk = fake_random(&r->seed) % REVERSE_DISKS;
        uint64_t blocks = r->machine->disks[disk].size / FAKE_BLOCK;
        uint64_t at = fake_random(&r->seed) % (blocks - run + 1);
        for (unsigned k = 0; k < run; k++) {
            for (size_t b = 0; b < sizeof(bytes); b++)
                bytes[b] = (uint8_t)fake_random(&r->seed);
            fake_write(r->machine, disk, (at + k) * FAKE_BLOCK, bytes, sizeof(bytes));
        }
    }
}

void reverse_start_machine(struct reverse *r)
{
    for (size_t i = 0; i < REVERSE_DISKS; i++)
        memcpy(r->base[i], r->machine->disks[i].bytes, r->machine->disks[i].size);
    fake_restart(r->machine);
    r->machine->open = 1;
    r->machine->note[0] = '\0';
}

/* The promotion at the machine's new site, signed by that. */
static char *promotion(struct reverse *r, const struct store_info *info)
{
    CLEANUP(manifest_done) struct manifest m;

    manifest_init(&m);
    (void)snprintf(m.group, sizeof(m.group), BED_GROUP);
    (void)snprintf(m.site, sizeof(m.site), "lyon");
    m.generation = 2;
    m.point = REVERSE_TIP;
    m.parent = info->durable_hash;
    m.promotion = true;
    for (size_t i = 0; i < REVERSE_DISKS; i++) {
        struct manifest_disk *disk = manifest_disks_push(&m.disks);
        memcpy(disk->name, r->machine->disks[i].name, sizeof(disk->name));
        disk->size = r->machine->disks[i].size;
    }
    manifest_sign(&m, r->bed.config.sign_key);
    manifest_hash(&m, &r->tip);
    return manifest_text(&m);
}

void reverse_prepare(struct reverse *r)
{
    struct store *store = bed_store(&r->bed);
    struct store_info info;
    struct err err = ERR_EMPTY;

    BED_OK(store->ops->info(store, &info, &err), &err);
    CLEANUP(mem_freep) char *text = promotion(r, &info);
    BED_OK(store->ops->follow(store, text, strlen(text), NULL, &err), &err);
    bed_store_put(&r->bed);
    r->bed.config.generation = 2;
    r->bed.config.tip = (struct session_tip){REVERSE_TIP, r->tip};
    r->bed.config.base = (struct session_base){1, base_digests, base_read};
    atomic_store(&r->bed.sent, 0);
}

void reverse_follow(struct reverse *r)
{
    reverse_prepare(r);
    bed_open_session(&r->bed);
}

uint64_t reverse_difference(const struct reverse *r)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < REVERSE_DISKS; i++) {
        const struct fake_disk *d = &r->machine->disks[i];
        for (uint64_t at = 0; at < d->size; at += FAKE_BLOCK) {
            size_t len = d->size - at < FAKE_BLOCK ? (size_t)(d->size - at) : FAKE_BLOCK;
            if (memcmp(r->head[i] + at, d->cut + at, len) != 0)
                bytes += len;
        }
    }
    return bytes;
}
