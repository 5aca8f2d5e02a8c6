// SPDX-License-Identifier: Apache-2.0
#include "sync/remote.h"

#include "base/mem.h"
#include "sync/wire.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#define WINDOW_BYTES   (4u * 1024u * 1024u)
#define REQUEST_BYTES  256u /* what an empty request counts in the window */
#define MESSAGE_WINDOW (sizeof(((struct remote *)0)->sizes) / sizeof(uint64_t))

void remote_init(struct remote *remote, struct link *link, const char *group, uint64_t generation)
{
    memset(remote, 0, sizeof(*remote));
    remote->link = link;
    remote->group = group;
    remote->generation = generation;
    remote->proven = link_is_proven(link);
}

/* The other side's cancel is not ours: to us it went away for a while. */
static int reply(struct remote *remote, struct link_msg *ret_reply, struct cancel *cancel,
                 struct err *err)
{
    if (link_reply(remote->link, ret_reply, cancel, err) < 0) {
        if (err->code == ERR_CANCELLED && !cancel_is_fired(cancel))
            err->code = ERR_BUSY;
        return -1;
    }
    remote->proven = true;
    return 0;
}

static int collect(struct remote *remote, struct cancel *cancel, struct err *err)
{
    uint32_t first = (uint32_t)((remote->head + MESSAGE_WINDOW - remote->waiting) % MESSAGE_WINDOW);

    remote->window -= remote->sizes[first];
    remote->waiting--;
    return reply(remote, NULL, cancel, err);
}

/* Keeps request and answer in step after a failure; what else failed is not news. */
static int drop_waiting(struct remote *remote, struct cancel *cancel)
{
    struct err later;

    while (remote->waiting > 0 && !link_is_broken(remote->link))
        (void)(collect(remote, cancel, &later) < 0);
    remote->waiting = 0;
    remote->window = 0;
    return -1;
}

int remote_drain(struct remote *remote, struct cancel *cancel, struct err *err)
{
    while (remote->waiting > 0)
        if (collect(remote, cancel, err) < 0)
            return drop_waiting(remote, cancel);
    return 0;
}

/* Takes `head`. */
static int send_request(struct remote *remote, json_t *head, const void *payload, size_t len,
                        struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *owned = head;

    assert(owned);
    (void)json_object_set_new(owned, "group", json_string(remote->group));
    (void)json_object_set_new(owned, "generation", json_integer((json_int_t)remote->generation));
    if (link_send(remote->link, owned, payload, len, cancel, err) < 0)
        return drop_waiting(remote, cancel);
    remote->sent_bytes += len + REQUEST_BYTES;
    return 0;
}

static int queue(struct remote *remote, json_t *head, const void *payload, size_t len,
                 struct cancel *cancel, struct err *err)
{
    while (remote->waiting > 0
           && (remote->waiting == MESSAGE_WINDOW || remote->window + len > WINDOW_BYTES))
        if (collect(remote, cancel, err) < 0) {
            json_decref(head);
            return drop_waiting(remote, cancel);
        }
    if (send_request(remote, head, payload, len, cancel, err) < 0)
        return -1;
    remote->sizes[remote->head] = len + REQUEST_BYTES;
    remote->window += len + REQUEST_BYTES;
    remote->head = (uint32_t)((remote->head + 1) % MESSAGE_WINDOW);
    remote->waiting++;
    return 0;
}

/* Waits for everything queued before, then for this one's answer. */
static int call(struct remote *remote, json_t *head, const void *payload, size_t len,
                struct link_msg *ret_reply, struct cancel *cancel, struct err *err)
{
    if (send_request(remote, head, payload, len, cancel, err) < 0)
        return -1;
    if (remote_drain(remote, cancel, err) < 0) {
        struct err later;
        if (!link_is_broken(remote->link))
            (void)(reply(remote, NULL, cancel, &later) < 0);
        return -1;
    }
    return reply(remote, ret_reply, cancel, err);
}

int remote_info(struct remote *remote, struct store_info *ret_info, struct cancel *cancel,
                struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    if (call(remote, json_pack("{s:s}", "op", "store.info"), NULL, 0, &msg, cancel, err) < 0)
        return -1;
    return wire_need_info(msg.head, ret_info, err);
}

int remote_disks(struct remote *remote, struct store_disks *ret_disks, struct cancel *cancel,
                 struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    if (call(remote, json_pack("{s:s}", "op", "store.disks"), NULL, 0, &msg, cancel, err) < 0)
        return -1;
    return wire_need_disks(msg.head, ret_disks, err);
}

int remote_base_begin(struct remote *remote, const struct store_disks *disks, uint64_t need_bytes,
                      uint64_t generation, uint64_t copy, struct cancel *cancel, struct err *err)
{
    json_t *head = json_pack("{s:s, s:o, s:I, s:I, s:I}", "op", "store.base-begin", "disks",
                             wire_disks(disks), "need", (json_int_t)need_bytes, "generation",
                             (json_int_t)generation, "copy", (json_int_t)copy);

    return call(remote, head, NULL, 0, NULL, cancel, err);
}

int remote_base_frame(struct remote *remote, const struct remote_frame *frame, const void *bytes,
                      size_t len, struct cancel *cancel, struct err *err)
{
    json_t *head = json_pack("{s:s, s:s, s:o, s:i, s:I, s:I}", "op", "store.base-frame", "disk",
                             frame->disk, "uuid", wire_hex(frame->uuid->bytes, UUID_BYTES),
                             "compression", (int)frame->compression, "number",
                             (json_int_t)frame->number, "copy", (json_int_t)frame->copy);

    return queue(remote, head, bytes, len, cancel, err);
}

int remote_base_sync(struct remote *remote, const char *disk, struct cancel *cancel,
                     struct err *err)
{
    json_t *head = json_pack("{s:s, s:s}", "op", "store.base-sync", "disk", disk);

    return call(remote, head, NULL, 0, NULL, cancel, err);
}

int remote_base_end(struct remote *remote, uint64_t copy, struct cancel *cancel, struct err *err)
{
    json_t *head = json_pack("{s:s, s:I}", "op", "store.base-end", "copy", (json_int_t)copy);

    return call(remote, head, NULL, 0, NULL, cancel, err);
}

int remote_base_seed(struct remote *remote, const char *disk, const char *seed, uint64_t copy,
                     struct store_seeding *ret_seeding, struct cancel *cancel, struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    json_t *head = json_pack("{s:s, s:s, s:s, s:I}", "op", "store.base-seed", "disk", disk, "seed",
                             seed, "copy", (json_int_t)copy);
    struct store_seeding seeding;

    if (call(remote, head, NULL, 0, &msg, cancel, err) < 0
        || json_need_u64(msg.head, "done", "answer", &seeding.done_bytes, err) < 0
        || json_need_u64(msg.head, "data", "answer", &seeding.data_bytes, err) < 0)
        return -1;
    *ret_seeding = seeding;
    return 0;
}

static json_t *segment_head(const char *op, const char *disk, const struct uuid *uuid)
{
    return json_pack("{s:s, s:s, s:o}", "op", op, "disk", disk, "uuid",
                     wire_hex(uuid->bytes, UUID_BYTES));
}

int remote_segment_open(struct remote *remote, const char *disk, const struct uuid *uuid,
                        uint64_t *ret_have, struct cancel *cancel, struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    json_t *head = segment_head("store.segment-open", disk, uuid);

    if (!ret_have)
        return queue(remote, head, NULL, 0, cancel, err);
    if (call(remote, head, NULL, 0, &msg, cancel, err) < 0)
        return -1;
    return json_need_u64(msg.head, "have", "answer", ret_have, err);
}

int remote_segment_write(struct remote *remote, const char *disk, const struct uuid *uuid,
                         uint64_t off, const void *bytes, size_t len, struct cancel *cancel,
                         struct err *err)
{
    json_t *head = segment_head("store.segment-write", disk, uuid);

    (void)json_object_set_new(head, "off", json_integer((json_int_t)off));
    return queue(remote, head, bytes, len, cancel, err);
}

int remote_segment_close(struct remote *remote, const char *disk,
                         const struct manifest_segment *segment, struct cancel *cancel,
                         struct err *err)
{
    json_t *head = segment_head("store.segment-close", disk, &segment->uuid);

    (void)json_object_set_new(head, "root", wire_hex(segment->root.bytes, SHA256_BYTES));
    (void)json_object_set_new(head, "bytes", json_integer((json_int_t)segment->bytes));
    return queue(remote, head, NULL, 0, cancel, err);
}

int remote_commit(struct remote *remote, const char *text, struct cancel *cancel, struct err *err)
{
    return call(remote, json_pack("{s:s}", "op", "store.commit"), text, strlen(text), NULL, cancel,
                err);
}

void remote_applied_done(struct remote_applied *applied)
{
    for (size_t i = 0; applied->digests && i < applied->disks.len; i++)
        store_digests_free(&applied->digests[i]);
    free(applied->digests);
    store_disks_free(&applied->disks);
    memset(applied, 0, sizeof(*applied));
}

static int read_digests(const struct link_msg *msg, struct remote_applied *applied, struct err *err)
{
    json_t *counts;
    json_t *item;
    size_t i;
    size_t at = 0;

    if (json_need_array(msg->head, "disks", "answer", &counts, err) < 0)
        return -1;
    if (json_array_size(counts) > WIRE_DISKS_MAX)
        return err_set(err, ERR_PROTOCOL, 0, "digests of %zu disks", json_array_size(counts));
    applied->digests = mem_new_array(struct store_digests, json_array_size(counts) + 1);
    json_array_foreach(counts, i, item) {
        const char *name;
        uint64_t count;

        if (wire_need_name(item, "name", &name, err) < 0
            || json_need_u64(item, "count", "answer", &count, err) < 0)
            return -1;
        if (count > (msg->payload_len - at) / WIRE_DIGEST_BYTES)
            return err_set(err, ERR_PROTOCOL, 0, "fewer digests than announced");
        struct store_disk *disk = store_disks_push(&applied->disks);
        (void)snprintf(disk->name, sizeof(disk->name), "%s", name);
        for (; count > 0; count--, at += WIRE_DIGEST_BYTES)
            wire_get_digest(msg->payload + at, store_digests_push(&applied->digests[i]));
    }
    return 0;
}

int remote_apply(struct remote *remote, struct remote_applied *ret_applied, struct cancel *cancel,
                 struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    CLEANUP(remote_applied_done) struct remote_applied applied = {0};

    if (call(remote, json_pack("{s:s}", "op", "store.apply"), NULL, 0, &msg, cancel, err) < 0
        || json_need_u64(msg.head, "point", "answer", &applied.point, err) < 0)
        return -1;
    applied.complete = json_get_bool(msg.head, "complete", false);
    if (applied.complete && read_digests(&msg, &applied, err) < 0)
        return -1;
    *ret_applied = applied;
    memset(&applied, 0, sizeof(applied));
    return 0;
}

int remote_digests(struct remote *remote, const char *disk, uint64_t point, uint64_t first,
                   uint64_t count, struct digest *ret_digests, struct cancel *cancel,
                   struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    json_t *head =
        json_pack("{s:s, s:s, s:I, s:I, s:I}", "op", "store.digests", "disk", disk, "point",
                  (json_int_t)point, "first", (json_int_t)first, "count", (json_int_t)count);

    assert(count <= REMOTE_DIGESTS_MAX);
    if (call(remote, head, NULL, 0, &msg, cancel, err) < 0)
        return -1;
    if (msg.payload_len != count * DIGEST_BYTES)
        return err_set(err, ERR_PROTOCOL, 0, "%zu bytes of digests, asked for %llu",
                       msg.payload_len, (unsigned long long)count * DIGEST_BYTES);
    memcpy(ret_digests, msg.payload, msg.payload_len);
    return 0;
}

/* NOLINTNEXTLINE(readability-function-size): one request */
int remote_block_digests(struct remote *remote, const char *disk, uint64_t point,
                         const uint64_t *chunks, size_t count, struct digest *ret_digests,
                         struct cancel *cancel, struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};
    CLEANUP(mem_freep) uint8_t *numbers = mem_alloc(count, WIRE_CHUNK_BYTES);
    json_t *head = json_pack("{s:s, s:s, s:I}", "op", "store.block-digests", "disk", disk, "point",
                             (json_int_t)point);

    assert(count <= REMOTE_BLOCKS_MAX);
    for (size_t i = 0; i < count; i++)
        wire_put_chunk(numbers + i * WIRE_CHUNK_BYTES, chunks[i]);
    if (call(remote, head, numbers, count * WIRE_CHUNK_BYTES, &msg, cancel, err) < 0)
        return -1;
    if (msg.payload_len != count * CHUNK_BLOCKS * DIGEST_BYTES)
        return err_set(err, ERR_PROTOCOL, 0, "%zu bytes of block digests for %zu chunks",
                       msg.payload_len, count);
    memcpy(ret_digests, msg.payload, msg.payload_len);
    return 0;
}

int remote_damages(struct remote *remote, struct store_damages *ret_damages, struct cancel *cancel,
                   struct err *err)
{
    CLEANUP(link_msg_done) struct link_msg msg = {0};

    if (call(remote, json_pack("{s:s}", "op", "store.damages"), NULL, 0, &msg, cancel, err) < 0)
        return -1;
    return wire_need_damages(msg.head, ret_damages, err);
}

int remote_prune(struct remote *remote, const struct retention *retention, struct cancel *cancel,
                 struct err *err)
{
    char tiers[RETENTION_TEXT_BYTES];
    json_t *head =
        json_pack("{s:s, s:I, s:s}", "op", "store.prune", "keep", (json_int_t)retention->keep,
                  "tiers", retention_text(retention, tiers, sizeof(tiers)));

    return call(remote, head, NULL, 0, NULL, cancel, err);
}
