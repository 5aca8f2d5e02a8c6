// SPDX-License-Identifier: Apache-2.0
#include "sync/session_copy.h"

#include "base/mem.h"
#include "block/scan.h"

#include <assert.h>
#include <string.h>

#define EXTENTS_MAX (COPY_ZEROS_MAX + FRAME_PAYLOAD_MAX / CHUNK_BYTES)
#define MORE_JOBS   3u /* than threads: to be sent, and to be filled */

struct copy_frame_job {
    struct crew_job job; /* first */
    struct frame_coder *coder;
    const char *disk;
    const struct scan *scan; /* NULL: payload has the data already */
    uint64_t number;
    struct extent extents[EXTENTS_MAX];
    size_t extent_count;
    uint64_t data_off;
    size_t data_len;
    uint8_t *payload; /* FRAME_PAYLOAD_MAX */
    uint8_t *frame;   /* FRAME_SEALED_MAX */
    size_t frame_len;
    enum adaptive_kind packing;
    size_t packed;  /* bytes of the payload */
    struct err err; /* of reading */
};

void copy_slice_init(struct copy_slice *slice, const struct policy *policy)
{
    slice->policy = *policy;
    slice->job_count = policy->copy_workers + MORE_JOBS;
    slice->jobs = mem_new_array(struct copy_frame_job, slice->job_count);
    slice->crew = crew_new(policy->copy_workers, slice->job_count);
    slice->sent_ms = session_now(slice->s);
    slice->sent_as = adaptive_flow_next(&slice->s->adaptive);
}

void copy_slice_done(struct copy_slice *slice)
{
    crew_free(slice->crew);
    for (size_t i = 0; slice->jobs && i < slice->job_count; i++) {
        frame_coder_free(slice->jobs[i].coder);
        free(slice->jobs[i].payload);
        free(slice->jobs[i].frame);
    }
    free(slice->jobs);
}

/* --- By the crew ----------------------------------------------------------------------------- */

/* Data's chunks become extents; those that are zeros leave the payload. */
static size_t find_zeros(struct copy_frame_job *job)
{
    struct extent *last = NULL;
    size_t kept = 0;

    for (size_t at = 0; at < job->data_len; at += CHUNK_BYTES) {
        size_t n = job->data_len - at < CHUNK_BYTES ? job->data_len - at : CHUNK_BYTES;
        bool zero = bytes_are_zero(job->payload + at, n);
        if (!last || last->zero != zero) {
            last = &job->extents[job->extent_count++];
            *last = (struct extent){.off = job->data_off + at, .zero = zero};
        }
        last->len += n;
        if (zero)
            continue;
        if (kept < at)
            memmove(job->payload + kept, job->payload + at, n);
        kept += n;
    }
    return kept;
}

static void make_frame(struct crew_job *base)
{
    struct copy_frame_job *job = (struct copy_frame_job *)base;

    if (job->scan && job->data_len > 0
        && scan_read(job->scan, job->data_off, job->payload, job->data_len, &job->err) < 0)
        return;
    job->packed = find_zeros(job);
    frame_seal(job->coder, job->number, job->extents, job->extent_count, job->payload, job->packed,
               job->frame, &job->frame_len);
}

/* --- By the session -------------------------------------------------------------------------- */

int copy_slice_blame(struct copy_slice *slice, enum blame blame)
{
    slice->blame = blame;
    return -1;
}

static void note_passed(struct copy_slice *slice, uint64_t in)
{
    int64_t now = session_now(slice->s);

    session_copy_sent(slice->s, slice->sent_as, in, now - slice->sent_ms);
    slice->sent_ms = now;
}

static int send_frame(struct copy_slice *slice, struct copy_frame_job *job)
{
    struct session *s = slice->s;
    const struct remote_frame frame = {
        .disk = job->disk,
        .uuid = &s->copy->uuid,
        .compression = adaptive_choice(job->packing).compression,
        .number = job->number,
        .copy = s->ck.base,
    };

    if (job->err.code != ERR_NONE) {
        (void)err_set(slice->err, job->err.code, 0, "%s", job->err.text);
        return copy_slice_blame(slice, BLAME_SOURCE);
    }
    if (remote_base_frame(&s->remote, &frame, job->frame, job->frame_len, slice->cancel, slice->err)
        < 0)
        return copy_slice_blame(slice, BLAME_PEER);
    slice->sent_as = job->packing;
    note_passed(slice, job->packed);
    if (job->packed > 0)
        session_copy_packed(s, job->packed, job->frame_len);
    return 0;
}

static struct copy_frame_job *next_job(struct copy_slice *slice)
{
    struct copy_frame_job *job = &slice->jobs[slice->next++ % slice->job_count];

    if (!job->payload) {
        job->job.run = make_frame;
        /* Not cleared: it is written before it is read. */
        job->payload = mem_grow(NULL, FRAME_PAYLOAD_MAX, 1);
        job->frame = mem_grow(NULL, FRAME_SEALED_MAX, 1);
        job->coder = frame_coder_new(&slice->s->config.group_key, &slice->s->copy->uuid,
                                     slice->policy.compression);
    }
    job->packing = session_copy_packing(slice->s, &slice->policy);
    const struct adaptive_choice choice = adaptive_choice(job->packing);
    frame_coder_set(job->coder, choice.compression, choice.level);
    err_clear(&job->err);
    return job;
}

int copy_frame(struct copy_slice *slice, struct copy_disk *disk, const struct source_piece *piece)
{
    if (crew_is_full(slice->crew)
        && send_frame(slice, (struct copy_frame_job *)crew_take(slice->crew)) < 0)
        return -1;

    struct copy_frame_job *job = next_job(slice);
    job->disk = disk->name;
    job->scan = disk->scan;
    job->number = slice->s->copy->number++;
    memcpy(job->extents, disk->zeros, disk->zero_count * sizeof(*disk->zeros));
    job->extent_count = disk->zero_count;
    disk->zero_count = 0;
    job->data_off = piece ? piece->off : 0;
    job->data_len = piece ? (size_t)piece->len : 0;
    assert(job->data_len <= FRAME_PAYLOAD_MAX);
    if (piece && !disk->scan)
        memcpy(job->payload, piece->data, job->data_len);
    crew_submit(slice->crew, &job->job);
    return 0;
}

int copy_slice_drain(struct copy_slice *slice)
{
    struct crew_job *done;

    while ((done = crew_take(slice->crew)))
        if (send_frame(slice, (struct copy_frame_job *)done) < 0)
            return -1;
    if (remote_drain(&slice->s->remote, slice->cancel, slice->err) < 0)
        return copy_slice_blame(slice, BLAME_PEER);
    note_passed(slice, 0);
    return 0;
}
