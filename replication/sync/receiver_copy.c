// SPDX-License-Identifier: Apache-2.0
#include "sync/receiver_copy.h"

#include "base/crew.h"
#include "base/fault.h"
#include "base/mem.h"
#include "base/vec.h"
#include "replica/base_frame.h"
#include "sync/receiver_internal.h"
#include "sync/wire.h"

#include <stdio.h>
#include <string.h>

#define THREADS 2
#define SLOTS   6u /* about 3 MiB each */

struct slot {
    struct crew_job job; /* first */
    struct base_frame frame;
    char group[NAME_MAX_BYTES];
    char disk[NAME_MAX_BYTES];
    char peer[NAME_MAX_BYTES];
    uint64_t generation;
    uint64_t number;
    uint8_t *bytes;
    size_t cap;
    size_t len;
    struct err err; /* of opening it */
};

struct failure {
    char group[NAME_MAX_BYTES];
    struct err err;
};
VEC_DEFINE(failures, struct failure)

struct receiver_copy {
    struct receiver_host host;
    struct crew *crew;
    struct slot slots[SLOTS];
    size_t next;
    struct failures failures; /* one of a group: the first, until its sender heard of it */
};

struct receiver_copy *receiver_copy_new(const struct receiver_host *host)
{
    struct receiver_copy *copy = mem_new(struct receiver_copy);

    copy->host = *host;
    return copy;
}

static void disband(struct receiver_copy *copy)
{
    crew_free(TAKE(copy->crew));
    for (size_t i = 0; i < SLOTS; i++) {
        base_frame_done(&copy->slots[i].frame);
        free(copy->slots[i].bytes);
        memset(&copy->slots[i], 0, sizeof(copy->slots[i]));
    }
}

void receiver_copy_free(struct receiver_copy *copy)
{
    if (!copy)
        return;
    disband(copy);
    failures_free(&copy->failures);
    free(copy);
}

/* --- Failures ------------------------------------------------------------------------------- */

static struct failure *find_failure(struct receiver_copy *copy, const char *group)
{
    VEC_FOREACH(failure, &copy->failures)
        if (str_eq(failure->group, group))
            return failure;
    return NULL;
}

static void note_failure(struct receiver_copy *copy, const char *group, const struct err *err)
{
    struct failure *failure = failures_push(&copy->failures);

    (void)snprintf(failure->group, sizeof(failure->group), "%s", group);
    failure->err = *err;
}

int receiver_copy_take_failure(struct receiver_copy *copy, const char *group, struct err *err)
{
    struct failure *failure = find_failure(copy, group);

    if (!failure)
        return 0;
    if (err)
        *err = failure->err;
    *failure = copy->failures.at[--copy->failures.len];
    return -1;
}

/* --- Frames --------------------------------------------------------------------------------- */

static void open_frame(struct crew_job *job)
{
    struct slot *slot = (struct slot *)job;

    err_clear(&slot->err);
    (void)(base_frame_open(&slot->frame, slot->number, slot->bytes, slot->len, &slot->err) < 0);
}

/* The store, locked; under the generation it is sent for. */
static int get_store(const struct receiver_copy *copy, const struct slot *slot,
                     struct store **ret_store, struct err *err)
{
    if (copy->host.store_get(copy->host.ctx, slot->peer, slot->group, ret_store, err) < 0)
        return -1;
    if (receiver_check_generation(*ret_store, slot->generation, slot->group, err) == 0)
        return 0;
    copy->host.store_put(copy->host.ctx, slot->group, *ret_store, false);
    return -1;
}

static int put_store(const struct receiver_copy *copy, const struct slot *slot, struct store *store,
                     int rc, const struct err *err)
{
    bool doubt = rc < 0 && receiver_leaves_doubt(err->code);

    copy->host.store_put(copy->host.ctx, slot->group, store, doubt);
    return rc;
}

/* After a failure nothing more is put: what was sent later would stand there without it. */
static void commit(struct receiver_copy *copy, struct slot *slot)
{
    struct store *store;
    struct err err = ERR_EMPTY;

    if (find_failure(copy, slot->group))
        return;
    if (slot->err.code != ERR_NONE) {
        (void)err_wrap(&slot->err, "copy of disk %s", slot->disk);
        note_failure(copy, slot->group, &slot->err);
        return;
    }
    if (get_store(copy, slot, &store, &err) < 0
        || put_store(copy, slot, store, store->ops->base_put(store, slot->disk, &slot->frame, &err),
                     &err)
               < 0) {
        note_failure(copy, slot->group, &err);
        return;
    }
    CRASH_POINT("receiver.base-frame");
}

static int read_head(struct slot *slot, const struct link_msg *msg, struct uuid *ret_uuid,
                     struct err *err)
{
    const json_t *head = msg->head;
    uint64_t compression;
    const char *disk;

    if (wire_need_name(head, "disk", &disk, err) < 0
        || wire_need_hex(head, "uuid", ret_uuid->bytes, UUID_BYTES, err) < 0
        || json_need_u64(head, "compression", "message", &compression, err) < 0
        || json_need_u64(head, "number", "message", &slot->number, err) < 0)
        return -1;
    if (compression > COMPRESSION_LZ4)
        return err_set(err, ERR_UNSUPPORTED, 0, "compression %llu is not known here",
                       (unsigned long long)compression);
    slot->frame.copy = json_get_u64(head, "copy", 0);
    (void)snprintf(slot->disk, sizeof(slot->disk), "%s", disk);
    slot->len = msg->payload_len;
    return 0;
}

static int accept_frame(struct receiver_copy *copy, struct link *link, const struct link_msg *msg,
                        const char *group, struct err *err)
{
    struct slot *slot = &copy->slots[copy->next % SLOTS];
    struct store *store;
    struct uuid uuid;

    if (json_need_u64(msg->head, "generation", "message", &slot->generation, err) < 0)
        return -1;
    (void)snprintf(slot->group, sizeof(slot->group), "%s", group);
    (void)snprintf(slot->peer, sizeof(slot->peer), "%s", link_peer(link));
    if (get_store(copy, slot, &store, err) < 0)
        return -1;
    int rc = read_head(slot, msg, &uuid, err);
    if (rc == 0)
        rc = store->ops->base_ready(store, slot->disk, &uuid, &slot->frame, err);
    if (put_store(copy, slot, store, rc, err) < 0)
        return -1;
    link_swap_payload(link, &slot->bytes, &slot->cap);
    slot->job.run = open_frame;
    copy->next++;
    crew_submit(copy->crew, &slot->job);
    return 0;
}

int receiver_copy_frame(struct receiver_copy *copy, struct link *link, const struct link_msg *msg,
                        struct err *err)
{
    const struct failure *failure;
    struct err why = ERR_EMPTY;
    const char *group;

    if (wire_need_name(msg->head, "group", &group, err) < 0)
        return -1;
    if (!copy->crew)
        copy->crew = crew_new(THREADS, SLOTS);
    if (crew_is_full(copy->crew))
        commit(copy, (struct slot *)crew_take(copy->crew));
    failure = find_failure(copy, group);
    if (!failure && accept_frame(copy, link, msg, group, &why) < 0) {
        note_failure(copy, group, &why);
        failure = find_failure(copy, group);
    }
    if (!failure)
        return 0;
    if (err)
        *err = failure->err;
    return -1;
}

void receiver_copy_settle(struct receiver_copy *copy)
{
    struct crew_job *job;

    while (copy->crew && (job = crew_take(copy->crew)))
        commit(copy, (struct slot *)job);
    disband(copy);
}
