// SPDX-License-Identifier: Apache-2.0
#include "sync/session_scan.h"

#include "base/crew.h"
#include "base/mem.h"
#include "block/scan.h"

#include <string.h>

#define MORE_JOBS 3u /* than threads: to be compared, and to be filled */

struct scan_job {
    struct crew_job job; /* first */
    const struct scan *own;
    struct digester *digester;
    struct source_piece piece;
    uint8_t *data; /* FRAME_PAYLOAD_MAX */
    struct digest digests[SCAN_PIECE_CHUNKS];
    struct err err; /* of reading */
};

struct session_scan {
    struct session *s;
    struct scan *own;
    struct crew *crew;
    struct scan_job *jobs;
    size_t job_count;
    size_t next;
    size_t given; /* jobs with the crew */
    bool complete;
};

struct session_scan *session_scan_new(struct session *s, struct scan *own)
{
    struct session_scan *scan = mem_new(struct session_scan);
    struct policy policy;

    session_policy(s, &policy);
    scan->s = s;
    scan->own = own;
    scan->job_count = policy.copy_workers + MORE_JOBS;
    /* The one whose data the caller still looks at is not with the crew. */
    scan->jobs = mem_new_array(struct scan_job, scan->job_count + 1);
    scan->crew = crew_new(policy.copy_workers, scan->job_count);
    return scan;
}

void session_scan_free(struct session_scan *scan)
{
    if (!scan)
        return;
    crew_free(scan->crew);
    for (size_t i = 0; i <= scan->job_count; i++) {
        digester_free(scan->jobs[i].digester);
        free(scan->jobs[i].data);
    }
    free(scan->jobs);
    free(scan);
}

void session_scan_freep(struct session_scan **scan)
{
    session_scan_free(*scan);
    *scan = NULL;
}

bool session_scan_is_complete(const struct session_scan *scan)
{
    return scan->complete && scan->given == 0;
}

/* Chunk by chunk: what was read just now is still in the processor's cache. */
static void digest_piece(struct crew_job *base)
{
    struct scan_job *job = (struct scan_job *)base;
    size_t len = job->piece.zero ? 0 : (size_t)job->piece.len;

    for (size_t at = 0; at < len; at += CHUNK_BYTES) {
        size_t n = len - at < CHUNK_BYTES ? len - at : CHUNK_BYTES;

        if (job->own && scan_read(job->own, job->piece.off + at, job->data + at, n, &job->err) < 0)
            return;
        chunk_digest(job->digester, job->data + at, n, &job->digests[at / CHUNK_BYTES]);
    }
}

static int begin_piece(struct session_scan *scan, struct cancel *cancel, struct err *err)
{
    struct scan_job *job = &scan->jobs[scan->next % (scan->job_count + 1)];
    struct source *source = scan->s->source;
    int rc = scan->own ? scan_next_place(scan->own, &job->piece, cancel, err)
                       : source->ops->scan_next(source, &job->piece, cancel, err);

    if (rc < 0)
        return -1;
    if (job->piece.len == 0) {
        scan->complete = true;
        return 0;
    }
    if (!job->piece.zero && job->piece.len > FRAME_PAYLOAD_MAX)
        return err_set(err, ERR_IO, 0, "the source gave a piece of %llu bytes",
                       (unsigned long long)job->piece.len);
    if (!job->data) {
        job->job.run = digest_piece;
        job->digester = chunk_digester_new(&scan->s->config.group_key);
        /* Not cleared: it is written before it is read. */
        job->data = mem_grow(NULL, FRAME_PAYLOAD_MAX, 1);
    }
    job->own = scan->own;
    err_clear(&job->err);
    if (!scan->own && !job->piece.zero)
        memcpy(job->data, job->piece.data, (size_t)job->piece.len);
    scan->next++;
    scan->given++;
    crew_submit(scan->crew, &job->job);
    return 0;
}

int session_scan_next(struct session_scan *scan, bool more, struct scan_piece *ret_piece,
                      struct cancel *cancel, struct err *err)
{
    while (more && !scan->complete && !crew_is_full(scan->crew))
        if (begin_piece(scan, cancel, err) < 0)
            return -1;
    const struct scan_job *job = (struct scan_job *)crew_take(scan->crew);
    if (!job) {
        *ret_piece = (struct scan_piece){0};
        return 0;
    }
    scan->given--;
    if (job->err.code != ERR_NONE) {
        if (err)
            *err = job->err;
        return -1;
    }
    *ret_piece = (struct scan_piece){
        .off = job->piece.off,
        .len = job->piece.len,
        .zero = job->piece.zero,
        .data = job->data,
        .digests = job->digests,
    };
    return 0;
}
