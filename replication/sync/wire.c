// SPDX-License-Identifier: Apache-2.0
#include "sync/wire.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

static const char *const state_names[] = {
    [STORE_EMPTY] = "empty",
    [STORE_COPYING] = "copying",
    [STORE_COPIED] = "copied",
    [STORE_READY] = "ready",
};

json_t *wire_hex(const void *bytes, size_t len)
{
    CLEANUP(mem_freep) char *hex = mem_alloc(2 * len + 1, 1);

    str_hex(bytes, len, hex);
    return json_string(hex);
}

int wire_need_hex(const json_t *obj, const char *key, void *ret_bytes, size_t len, struct err *err)
{
    const char *hex;

    if (json_need_str(obj, key, "message", &hex, err) < 0)
        return -1;
    if (strlen(hex) != 2 * len || !str_unhex(hex, ret_bytes, len))
        return err_set(err, ERR_INVALID, 0, "message: field \"%s\" is not %zu hex digits", key,
                       2 * len);
    return 0;
}

int wire_need_name(const json_t *obj, const char *key, const char **ret_name, struct err *err)
{
    const char *name;

    if (json_need_str(obj, key, "message", &name, err) < 0)
        return -1;
    if (!str_is_name(name))
        return err_set(err, ERR_INVALID, 0, "message: field \"%s\" is not a name", key);
    *ret_name = name;
    return 0;
}

json_t *wire_disks(const struct store_disks *disks)
{
    json_t *array = json_array();

    VEC_FOREACH(disk, disks)
        (void)json_array_append_new(
            array, json_pack("{s:s, s:I}", "name", disk->name, "size", (json_int_t)disk->size));
    return array;
}

int wire_need_disks(const json_t *obj, struct store_disks *ret_disks, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    json_t *array;
    json_t *item;
    size_t i;

    if (json_need_array(obj, "disks", "message", &array, err) < 0)
        return -1;
    if (json_array_size(array) > WIRE_DISKS_MAX)
        return err_set(err, ERR_LIMIT, 0, "%zu disks in a group, at most %u",
                       json_array_size(array), WIRE_DISKS_MAX);
    json_array_foreach(array, i, item) {
        const char *name;
        uint64_t size;

        if (wire_need_name(item, "name", &name, err) < 0
            || json_need_u64(item, "size", "disk", &size, err) < 0)
            return -1;
        struct store_disk *disk = store_disks_push(&disks);
        (void)snprintf(disk->name, sizeof(disk->name), "%s", name);
        disk->size = size;
    }
    *ret_disks = disks;
    disks = (struct store_disks)VEC_EMPTY;
    return 0;
}

json_t *wire_info(const struct store_info *info)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:o, s:I, s:o, s:I, s:I, s:I}", "state",
                     state_names[info->state], "generation", (json_int_t)info->generation, "copy",
                     (json_int_t)info->copy, "durable", (json_int_t)info->durable_point,
                     "durable_hash", wire_hex(info->durable_hash.bytes, SHA256_BYTES), "applied",
                     (json_int_t)info->applied_point, "applied_hash",
                     wire_hex(info->applied_hash.bytes, SHA256_BYTES), "damaged",
                     (json_int_t)info->damaged_head, "damaged_past", (json_int_t)info->damaged_past,
                     "damaged_since_ms", (json_int_t)info->damaged_since_ms);
}

int wire_need_info(const json_t *obj, struct store_info *ret_info, struct err *err)
{
    const char *state;
    struct store_info info = {0};
    size_t i = 0;

    if (json_need_str(obj, "state", "message", &state, err) < 0
        || json_need_u64(obj, "generation", "message", &info.generation, err) < 0
        || json_need_u64(obj, "durable", "message", &info.durable_point, err) < 0
        || wire_need_hex(obj, "durable_hash", info.durable_hash.bytes, SHA256_BYTES, err) < 0
        || json_need_u64(obj, "applied", "message", &info.applied_point, err) < 0
        || wire_need_hex(obj, "applied_hash", info.applied_hash.bytes, SHA256_BYTES, err) < 0)
        return -1;
    while (i < ARRAY_LEN(state_names) && strcmp(state, state_names[i]) != 0)
        i++;
    if (i == ARRAY_LEN(state_names))
        return err_set(err, ERR_PROTOCOL, 0, "unknown state \"%s\" of a replica", state);
    info.state = (enum store_state)i;
    info.copy = json_get_u64(obj, "copy", 0);            /* an older release numbers none */
    info.damaged_head = json_get_u64(obj, "damaged", 0); /* an older release knows of none */
    info.damaged_past = json_get_u64(obj, "damaged_past", 0);
    info.damaged_since_ms = (int64_t)json_get_u64(obj, "damaged_since_ms", 0);
    *ret_info = info;
    return 0;
}

json_t *wire_damages(const struct store_damages *damages)
{
    json_t *array = json_array();

    VEC_FOREACH(run, damages)
        if (run->to == 0 && json_array_size(array) < WIRE_DAMAGES_MAX)
            (void)json_array_append_new(array, json_pack("{s:s, s:I, s:I}", "disk", run->disk,
                                                         "chunk", (json_int_t)run->chunk, "count",
                                                         (json_int_t)run->count));
    return array;
}

int wire_need_damages(const json_t *obj, struct store_damages *ret_damages, struct err *err)
{
    json_t *array;
    json_t *item;
    size_t i;

    store_damages_clear(ret_damages);
    if (json_need_array(obj, "damages", "message", &array, err) < 0)
        return -1;
    if (json_array_size(array) > WIRE_DAMAGES_MAX)
        return err_set(err, ERR_LIMIT, 0, "%zu runs of damaged chunks, at most %u",
                       json_array_size(array), WIRE_DAMAGES_MAX);
    json_array_foreach(array, i, item) {
        struct store_damage *run = store_damages_push(ret_damages);
        const char *disk;

        if (wire_need_name(item, "disk", &disk, err) < 0
            || json_need_u64(item, "chunk", "damage", &run->chunk, err) < 0
            || json_need_u64(item, "count", "damage", &run->count, err) < 0)
            return -1;
        (void)snprintf(run->disk, sizeof(run->disk), "%s", disk);
    }
    return 0;
}

void wire_put_chunk(uint8_t *at, uint64_t chunk)
{
    for (size_t i = 0; i < 8; i++)
        at[i] = (uint8_t)(chunk >> (56 - 8 * i));
}

uint64_t wire_get_chunk(const uint8_t *at)
{
    uint64_t chunk = 0;

    for (size_t i = 0; i < 8; i++)
        chunk = chunk << 8 | at[i];
    return chunk;
}

void wire_put_digest(uint8_t *at, const struct store_digest *digest)
{
    wire_put_chunk(at, digest->chunk);
    memcpy(at + WIRE_CHUNK_BYTES, digest->digest.bytes, DIGEST_BYTES);
}

void wire_get_digest(const uint8_t *at, struct store_digest *ret_digest)
{
    ret_digest->chunk = wire_get_chunk(at);
    memcpy(ret_digest->digest.bytes, at + WIRE_CHUNK_BYTES, DIGEST_BYTES);
}
