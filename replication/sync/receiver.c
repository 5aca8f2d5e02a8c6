// SPDX-License-Identifier: Apache-2.0
/* The replication protocol, as a peer's session speaks it over a link. Every request names its
 * "group" and the "generation" under which it is sent: what writes is refused (fenced) under another
 * one than the store's. Numbers are JSON integers, hashes and uuids hex. A request is answered by {"ok": ...}
 * or {"error": ...} (link/link.c) before the next one is looked at; many may be on the way.
 *
 *   op                   fields                                payload    answer (payload)
 *   store.info                                                            state, generation, copy,
 *                                                                         durable, durable_hash, applied,
 *                                                                         applied_hash, damaged,
 *                                                                         damaged_past,
 *                                                                         damaged_since_ms
 *   store.disks                                                           disks: [{name, size}]
 *   store.base-begin     disks, need, generation, copy
 *   store.base-frame     disk, uuid, compression, number,      the frame
 *                        copy
 *   store.base-sync      disk
 *   store.base-seed      disk, seed (a file's name), copy                 done, data (bytes)
 *   store.base-end       copy
 *   store.segment-open   disk, uuid                                       have
 *   store.segment-write  disk, uuid, off                       bytes
 *   store.segment-close  disk, uuid, root, bytes
 *   store.commit                                               manifest
 *   store.apply                                                           point (0: none), complete,
 *                                                                         disks: [{name, count}]
 *                                                                         (digests, disk by disk)
 *   store.points                                                          points: [...]
 *   store.manifest       point                                            (manifest)
 *   store.digests        disk, point, first, count                        (count * 16 bytes)
 *   store.block-digests  disk, point                           8 bytes    (16 * 16 bytes for each)
 *                                                              per chunk
 *   store.damages                                                         damages: [{disk, chunk,
 *                                                                         count}]
 *   store.prune          keep, tiers (retention.h's text)
 *
 * The answer to store.apply reports the digests of the chunks that changed, each as 8 bytes chunk
 * number (big endian) and 16 bytes digest, unless they are more than a message holds: then
 * `complete` is false and the session asks for all of them when it needs them. Chunks are asked for by
 * their numbers, big endian, at most 4096 at a time. (The first release does not know block-digests:
 * its answer is "unsupported", and whole chunks are sent to it.)
 *
 * The answer to store.base-frame says that the frame was taken. What became of it, and of all before
 * it, the answer to the next store.base-sync says, or the one to a later frame. `copy` numbers the writer's
 * copies (store_ops.base_begin); what belongs to another one than the store's is refused: it was on the way
 * over a link that broke when the copy was begun anew. (The first release says none, which is 0.)
 *
 * store.base-seed fills a slice of a disk from a file of this site (replica/seed.h) and is asked again
 * until `done` is the disk's size. The file is kept open from one such request to the next.
 *
 * A peer may ask for what its own replicas need and nothing else: promotion, pins and removal are
 * this site's affair. Names are checked here since a store makes paths of them. */
#include "sync/receiver.h"

#include "base/fault.h"
#include "base/mem.h"
#include "sync/receiver_copy.h"
#include "sync/receiver_internal.h"
#include "sync/wire.h"

#include <inttypes.h>
#include <string.h>

#define DIGESTS_MAX (LINK_PAYLOAD_MAX / DIGEST_BYTES)

struct receiver {
    struct receiver_host host;
    struct receiver_copy *copy;
    struct seed seed; /* open since the last request, if that was for one */
    char *seed_asked; /* as the peer calls it */
};

struct call {
    struct store *store;
    const struct link_msg *msg;
    const char *peer;
    struct cancel *cancel;
    struct receiver *receiver;
    json_t *result; /* NULL: {} */
    uint8_t *payload;
    size_t payload_len;
};

static void call_done(struct call *call)
{
    json_decref(call->result);
    free(call->payload);
}

static int op_info(struct call *call, struct err *err)
{
    struct store_info info;

    if (call->store->ops->info(call->store, &info, err) < 0)
        return -1;
    call->result = wire_info(&info);
    return 0;
}

static int op_disks(struct call *call, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;

    if (call->store->ops->disks(call->store, &disks, err) < 0)
        return -1;
    call->result = json_pack("{s:o}", "disks", wire_disks(&disks));
    return 0;
}

static int op_base_begin(struct call *call, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    uint64_t need;
    uint64_t generation;

    if (wire_need_disks(call->msg->head, &disks, err) < 0
        || json_need_u64(call->msg->head, "need", "message", &need, err) < 0
        || json_need_u64(call->msg->head, "generation", "message", &generation, err) < 0)
        return -1;
    return call->store->ops->base_begin(call->store, &disks, need, generation,
                                        json_get_u64(call->msg->head, "copy", 0), err);
}

static int op_base_sync(struct call *call, struct err *err)
{
    const char *disk;

    if (wire_need_name(call->msg->head, "disk", &disk, err) < 0)
        return -1;
    return call->store->ops->base_sync(call->store, disk, err);
}

/* One that comes late would end, or fill, a copy that was begun anew since, and is not complete. */
static int check_copy(const struct call *call, const char *what, struct err *err)
{
    uint64_t copy = json_get_u64(call->msg->head, "copy", 0);
    struct store_info info;

    if (call->store->ops->info(call->store, &info, err) < 0)
        return -1;
    if (copy == info.copy)
        return 0;
    return err_set(err, ERR_STATE, 0,
                   "copy %" PRIu64 " cannot be %s, copy %" PRIu64 " was begun since", copy, what,
                   info.copy);
}

/* The seed is as it was when it was opened, or it is opened anew. */
static int need_seed(struct receiver *receiver, const char *peer, const char *name, struct err *err)
{
    const struct receiver_host *host = &receiver->host;
    struct fs_stamp now;

    if (receiver->seed.path && str_eq(receiver->seed_asked, name)
        && fs_stamp(fs_real(), receiver->seed.path, &now, err) == 0
        && fs_stamp_equal(&now, &receiver->seed.stamp))
        return 0;
    seed_close(&receiver->seed);
    if (!host->seed_open)
        return err_set(err, ERR_UNSUPPORTED, 0, "no seeds are taken here");
    err_clear(err);
    free(receiver->seed_asked);
    receiver->seed_asked = mem_strdup(name);
    return host->seed_open(host->ctx, peer, name, &receiver->seed, err);
}

static int op_base_seed(struct call *call, struct err *err)
{
    struct store_seeding seeding;
    const char *disk;
    const char *name;

    if (wire_need_name(call->msg->head, "disk", &disk, err) < 0
        || json_need_str(call->msg->head, "seed", "message", &name, err) < 0
        || check_copy(call, "seeded", err) < 0
        || need_seed(call->receiver, call->peer, name, err) < 0
        || call->store->ops->base_seed(call->store, disk, &call->receiver->seed, &seeding,
                                       call->cancel, err)
               < 0)
        return -1;
    call->result = json_pack("{s:I, s:I}", "done", (json_int_t)seeding.done_bytes, "data",
                             (json_int_t)seeding.data_bytes);
    return 0;
}

static int op_base_end(struct call *call, struct err *err)
{
    return check_copy(call, "ended", err) < 0 ? -1 : call->store->ops->base_end(call->store, err);
}

static int need_segment(const struct call *call, const char **ret_disk, struct uuid *ret_uuid,
                        struct err *err)
{
    if (wire_need_name(call->msg->head, "disk", ret_disk, err) < 0)
        return -1;
    return wire_need_hex(call->msg->head, "uuid", ret_uuid->bytes, UUID_BYTES, err);
}

static int op_segment_open(struct call *call, struct err *err)
{
    const char *disk;
    struct uuid uuid;
    uint64_t have = 0;

    if (need_segment(call, &disk, &uuid, err) < 0
        || call->store->ops->segment_open(call->store, disk, &uuid, &have, err) < 0)
        return -1;
    call->result = json_pack("{s:I}", "have", (json_int_t)have);
    return 0;
}

static int op_segment_write(struct call *call, struct err *err)
{
    const char *disk;
    struct uuid uuid;
    uint64_t off;

    if (need_segment(call, &disk, &uuid, err) < 0
        || json_need_u64(call->msg->head, "off", "message", &off, err) < 0)
        return -1;
    return call->store->ops->segment_write(call->store, disk, &uuid, off, call->msg->payload,
                                           call->msg->payload_len, err);
}

static int op_segment_close(struct call *call, struct err *err)
{
    const char *disk;
    struct uuid uuid;
    struct sha256 root;
    uint64_t bytes;

    if (need_segment(call, &disk, &uuid, err) < 0
        || wire_need_hex(call->msg->head, "root", root.bytes, SHA256_BYTES, err) < 0
        || json_need_u64(call->msg->head, "bytes", "message", &bytes, err) < 0)
        return -1;
    return call->store->ops->segment_close(call->store, disk, &uuid, &root, bytes, err);
}

static int op_commit(struct call *call, struct err *err)
{
    return call->store->ops->point_commit(call->store, (const char *)call->msg->payload,
                                          call->msg->payload_len, err);
}

/* Puts the digests into the answer, or says that they are too many for it. */
static void report_digests(struct call *call, const struct store_disks *disks,
                           const struct store_digests *digests, uint64_t point)
{
    json_t *counts = json_array();
    uint64_t total = 0;

    for (size_t i = 0; i < disks->len; i++)
        total += digests[i].len;
    bool complete = total <= LINK_PAYLOAD_MAX / WIRE_DIGEST_BYTES;
    if (complete && total > 0)
        call->payload = mem_alloc(total, WIRE_DIGEST_BYTES);
    for (size_t i = 0; complete && i < disks->len; i++) {
        VEC_FOREACH(digest, &digests[i]) {
            wire_put_digest(call->payload + call->payload_len, digest);
            call->payload_len += WIRE_DIGEST_BYTES;
        }
        (void)json_array_append_new(counts, json_pack("{s:s, s:I}", "name", disks->at[i].name,
                                                      "count", (json_int_t)digests[i].len));
    }
    call->result = json_pack("{s:I, s:b, s:o}", "point", (json_int_t)point, "complete", complete,
                             "disks", counts);
}

static int op_apply(struct call *call, struct err *err)
{
    CLEANUP(store_disks_free) struct store_disks disks = VEC_EMPTY;
    CLEANUP(mem_freep) struct store_digests *digests = NULL;
    uint64_t point = 0;

    if (call->store->ops->disks(call->store, &disks, err) < 0)
        return -1;
    digests = mem_new_array(struct store_digests, disks.len + 1);
    int rc = call->store->ops->point_apply(call->store, &point, digests, call->cancel, err);
    if (rc == 0)
        report_digests(call, &disks, digests, point);
    for (size_t i = 0; i < disks.len; i++)
        store_digests_free(&digests[i]);
    return rc;
}

static json_t *point_json(const struct store_point *p)
{
    return json_pack("{s:I, s:I, s:o, s:I, s:I, s:s, s:b, s:b, s:b, s:I, s:I, s:s}", "point",
                     (json_int_t)p->point, "generation", (json_int_t)p->generation, "hash",
                     wire_hex(p->hash.bytes, SHA256_BYTES), "cut_ms", (json_int_t)p->cut_wall_ms,
                     "received_ms", (json_int_t)p->received_wall_ms, "consistency",
                     p->consistency == CONSISTENCY_APPLICATION ? "application" : "crash",
                     "promotion", p->promotion, "applied", p->applied, "pinned", p->pinned, "bytes",
                     (json_int_t)p->bytes, "damaged", (json_int_t)p->damaged_chunks, "label",
                     p->label);
}

static int op_points(struct call *call, struct err *err)
{
    CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
    json_t *array;

    if (call->store->ops->points(call->store, &points, err) < 0)
        return -1;
    array = json_array();
    VEC_FOREACH(point, &points)
        (void)json_array_append_new(array, point_json(point));
    call->result = json_pack("{s:o}", "points", array);
    return 0;
}

static int op_manifest(struct call *call, struct err *err)
{
    uint64_t point;
    char *text = NULL;

    if (json_need_u64(call->msg->head, "point", "message", &point, err) < 0
        || call->store->ops->point_manifest(call->store, point, &text, err) < 0)
        return -1;
    call->payload = (uint8_t *)text;
    call->payload_len = strlen(text);
    if (call->payload_len > LINK_PAYLOAD_MAX)
        return err_set(err, ERR_LIMIT, 0, "manifest of %zu bytes", call->payload_len);
    return 0;
}

static int op_digests(struct call *call, struct err *err)
{
    const json_t *head = call->msg->head;
    const char *disk;
    uint64_t point;
    uint64_t first;
    uint64_t count;

    if (wire_need_name(head, "disk", &disk, err) < 0
        || json_need_u64(head, "point", "message", &point, err) < 0
        || json_need_u64(head, "first", "message", &first, err) < 0
        || json_need_u64(head, "count", "message", &count, err) < 0)
        return -1;
    if (count == 0 || count > DIGESTS_MAX)
        return err_set(err, ERR_LIMIT, 0, "%llu digests asked for, at most %u",
                       (unsigned long long)count, DIGESTS_MAX);
    CLEANUP(mem_freep) struct digest *digests = mem_new_array(struct digest, count);
    if (call->store->ops->digests(call->store, disk, point, first, count, digests, err) < 0)
        return -1;
    call->payload_len = count * DIGEST_BYTES;
    call->payload = (uint8_t *)TAKE(digests);
    return 0;
}

static int op_block_digests(struct call *call, struct err *err)
{
    const struct link_msg *msg = call->msg;
    size_t count = msg->payload_len / WIRE_CHUNK_BYTES;
    const char *disk;
    uint64_t point;

    if (wire_need_name(msg->head, "disk", &disk, err) < 0
        || json_need_u64(msg->head, "point", "message", &point, err) < 0)
        return -1;
    if (count == 0 || count > WIRE_CHUNKS_MAX || msg->payload_len % WIRE_CHUNK_BYTES)
        return err_set(err, ERR_LIMIT, 0,
                       "block digests of %zu bytes of chunk numbers asked for, at most %u numbers",
                       msg->payload_len, WIRE_CHUNKS_MAX);
    CLEANUP(mem_freep) uint64_t *chunks = mem_new_array(uint64_t, count);
    CLEANUP(mem_freep) struct digest *digests = mem_new_array(struct digest, count * CHUNK_BLOCKS);
    for (size_t i = 0; i < count; i++)
        chunks[i] = wire_get_chunk(msg->payload + i * WIRE_CHUNK_BYTES);
    if (call->store->ops->block_digests(call->store, disk, point, chunks, count, digests, err) < 0)
        return -1;
    call->payload_len = count * CHUNK_BLOCKS * DIGEST_BYTES;
    call->payload = (uint8_t *)TAKE(digests);
    return 0;
}

static int op_damages(struct call *call, struct err *err)
{
    CLEANUP(store_damages_free) struct store_damages damages = VEC_EMPTY;

    if (call->store->ops->damages(call->store, &damages, err) < 0)
        return -1;
    call->result = json_pack("{s:o}", "damages", wire_damages(&damages));
    return 0;
}

static int op_prune(struct call *call, struct err *err)
{
    const char *tiers = json_get_str(call->msg->head, "tiers", "none");
    struct retention retention = {0};

    if (json_need_u64(call->msg->head, "keep", "message", &retention.keep, err) < 0
        || retention_parse(tiers, &retention, err) < 0)
        return -1;
    return call->store->ops->prune(call->store, &retention, err);
}

static const struct op {
    const char *name;
    int (*run)(struct call *call, struct err *err);
    const char *crash; /* passed between the effect and its answer */
    bool writes;       /* only under the store's generation */
} ops[] = {
    {"store.info", op_info, NULL, false},
    {"store.disks", op_disks, NULL, false},
    {"store.base-begin", op_base_begin, "receiver.base-begin", false},
    {"store.base-frame", NULL, NULL, true}, /* receiver_copy.c */
    {"store.base-sync", op_base_sync, "receiver.base-sync", true},
    {"store.base-seed", op_base_seed, "receiver.base-seed", true},
    {"store.base-end", op_base_end, "receiver.base-end", true},
    {"store.segment-open", op_segment_open, "receiver.segment-open", true},
    {"store.segment-write", op_segment_write, "receiver.segment-write", true},
    {"store.segment-close", op_segment_close, "receiver.segment-close", true},
    {"store.commit", op_commit, "receiver.commit", true},
    {"store.apply", op_apply, "receiver.apply", true},
    {"store.points", op_points, NULL, false},
    {"store.manifest", op_manifest, NULL, false},
    {"store.digests", op_digests, NULL, false},
    {"store.block-digests", op_block_digests, NULL, false},
    {"store.damages", op_damages, NULL, false},
    {"store.prune", op_prune, "receiver.prune", true},
};

static const struct op *find_op(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (str_eq(ops[i].name, name))
            return &ops[i];
    return NULL;
}

bool receiver_knows(const char *op)
{
    return find_op(op) != NULL;
}

bool receiver_leaves_doubt(enum err_code code)
{
    return code == ERR_IO || code == ERR_SPACE || code == ERR_UNKNOWN;
}

int receiver_check_generation(struct store *store, uint64_t generation, const char *group,
                              struct err *err)
{
    struct store_info info;

    if (store->ops->info(store, &info, err) < 0)
        return -1;
    if (generation != info.generation)
        return err_set(err, ERR_FENCED, 0,
                       "the replica of %s is at generation %" PRIu64
                       ", this was sent under generation %" PRIu64,
                       group, info.generation, generation);
    return 0;
}

static int check_generation(const struct call *call, const char *group, struct err *err)
{
    uint64_t generation;

    if (json_need_u64(call->msg->head, "generation", "message", &generation, err) < 0)
        return -1;
    return receiver_check_generation(call->store, generation, group, err);
}

static int run_op(const struct receiver_host *host, const char *peer, const struct op *op,
                  struct call *call, struct err *err)
{
    const char *group;

    if (wire_need_name(call->msg->head, "group", &group, err) < 0
        || host->store_get(host->ctx, peer, group, &call->store, err) < 0)
        return -1;
    int rc = op->writes ? check_generation(call, group, err) : 0;
    if (rc == 0)
        rc = op->run(call, err);
    host->store_put(host->ctx, group, call->store, rc < 0 && receiver_leaves_doubt(err->code));
    if (rc == 0 && op->crash)
        CRASH_POINT(op->crash);
    return rc;
}

/* What was sent of a copy is in the store before anything else is asked of it. A failure of that waits for
 * the question that it answers, whatever is asked before; a copy that begins again sends anew what was not
 * known to be there. */
static int settle_copy(struct receiver *receiver, const struct op *op, const struct link_msg *msg,
                       struct err *err)
{
    const char *group = json_get_str(msg->head, "group", "");

    receiver_copy_settle(receiver->copy);
    if (op->run == op_base_begin)
        (void)(receiver_copy_take_failure(receiver->copy, group, NULL) < 0);
    else if (op->run == op_base_sync || op->run == op_base_end)
        return receiver_copy_take_failure(receiver->copy, group, err);
    return 0;
}

struct receiver *receiver_new(const struct receiver_host *host)
{
    struct receiver *receiver = mem_new(struct receiver);

    receiver->host = *host;
    receiver->copy = receiver_copy_new(host);
    receiver->seed.fd = -1;
    return receiver;
}

void receiver_free(struct receiver *receiver)
{
    if (!receiver)
        return;
    receiver_copy_free(receiver->copy);
    seed_close(&receiver->seed);
    free(receiver->seed_asked);
    free(receiver);
}

int receiver_serve(struct receiver *receiver, struct link *link, struct link_msg *msg,
                   struct cancel *cancel, struct err *err)
{
    CLEANUP(call_done)
    struct call call = {
        .msg = msg, .peer = link_peer(link), .cancel = cancel, .receiver = receiver};
    const char *name = json_get_str(msg->head, "op", "");
    const struct op *op = find_op(name);
    struct err failure = ERR_EMPTY;
    int rc;

    if (!op || op->run != op_base_seed)
        seed_close(&receiver->seed);
    if (!op)
        rc = err_set(&failure, ERR_UNSUPPORTED, 0, "unknown request \"%.64s\"", name);
    else if (!op->run)
        rc = receiver_copy_frame(receiver->copy, link, msg, &failure);
    else if ((rc = settle_copy(receiver, op, msg, &failure)) == 0)
        rc = run_op(&receiver->host, link_peer(link), op, &call, &failure);
    if (rc == 0) {
        rc = link_answer(link, call.result, call.payload, call.payload_len, cancel, &failure);
        if (rc == 0)
            return 0;
    }
    /* Also when the answer was too long to be one: nothing of it was sent then. */
    if (link_is_broken(link))
        return err_set(err, failure.code, failure.sys, "%s", failure.text);
    return link_answer_err(link, &failure, cancel, err);
}
