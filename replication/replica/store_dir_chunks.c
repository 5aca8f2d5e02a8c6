// SPDX-License-Identifier: Apache-2.0
/* Head's chunks on their way into an undo file, or into the digests. All that is read and written is
 * so by one thread, in the order of the chunks: what a crash leaves does not depend on threads. */
#include "replica/store_dir.h"

#include "base/crew.h"
#include "base/mem.h"
#include "replica/digests_file.h"
#include "replica/undo.h"

#include <string.h>

#define RUN_CHUNKS 256U /* digests read or written in one go */
#define THREADS    2u
#define JOBS       8u  /* each with some 130 KiB */
#define MANY       64u /* chunks: fewer are done by the caller's thread */

struct chunk_job {
    struct crew_job job; /* first */
    uint64_t chunk;
    size_t len;
    uint64_t number;           /* of its record */
    bool listed;               /* known to be damaged: there is nothing to do */
    bool damaged;              /* it does not have the digest it should */
    struct digest want;        /* that is */
    struct digest digest;      /* what it has */
    struct digester *digester; /* the job's own */
    struct frame_coder *coder; /* the job's own; NULL: digests only */
    size_t record_len;         /* 0: zeros */
    uint8_t bytes[CHUNK_BYTES];
    uint8_t record[UNDO_RECORD_MAX];
};

struct chunk_jobs {
    struct crew *crew; /* NULL: few chunks */
    struct chunk_job *jobs;
    size_t count;
    size_t next;
};

static void run_job(struct crew_job *base)
{
    struct chunk_job *job = (struct chunk_job *)base;

    job->damaged = job->listed;
    job->record_len = 0;
    if (job->listed)
        return;
    chunk_digest(job->digester, job->bytes, job->len, &job->digest);
    if (!job->coder)
        return;
    job->damaged = memcmp(&job->want, &job->digest, sizeof(job->want)) != 0;
    if (!job->damaged && !bytes_are_zero(job->bytes, job->len))
        undo_record_seal(job->coder, job->number, job->chunk, job->bytes, job->len, job->record,
                         &job->record_len);
}

/* `writer` NULL: digests only. */
static void jobs_init(struct chunk_jobs *jobs, const struct store_dir *d, size_t chunks,
                      const struct undo_writer *writer)
{
    jobs->count = chunks < MANY ? 1 : JOBS;
    jobs->jobs = mem_new_array(struct chunk_job, jobs->count);
    for (size_t i = 0; i < jobs->count; i++) {
        jobs->jobs[i].job.run = run_job;
        jobs->jobs[i].digester = chunk_digester_new(&d->key);
        jobs->jobs[i].coder = writer ? undo_writer_coder_new(writer) : NULL;
    }
    if (jobs->count > 1)
        jobs->crew = crew_new(THREADS, jobs->count);
}

static void jobs_done(struct chunk_jobs *jobs)
{
    crew_free(jobs->crew);
    for (size_t i = 0; jobs->jobs && i < jobs->count; i++) {
        digester_free(jobs->jobs[i].digester);
        frame_coder_free(jobs->jobs[i].coder);
    }
    free(jobs->jobs);
}

static struct chunk_job *jobs_next(struct chunk_jobs *jobs)
{
    return &jobs->jobs[jobs->next++ % jobs->count];
}

/* The oldest job, when the next one needs its place; NULL: there is room. */
static struct chunk_job *jobs_oldest(const struct chunk_jobs *jobs)
{
    return jobs->crew && crew_is_full(jobs->crew) ? (struct chunk_job *)crew_take(jobs->crew)
                                                  : NULL;
}

/* The job is done at once when there is no crew: it is the result then. */
static struct chunk_job *jobs_submit(const struct chunk_jobs *jobs, struct chunk_job *job)
{
    if (jobs->crew) {
        crew_submit(jobs->crew, &job->job);
        return NULL;
    }
    run_job(&job->job);
    return job;
}

static struct chunk_job *jobs_left(const struct chunk_jobs *jobs)
{
    return jobs->crew ? (struct chunk_job *)crew_take(jobs->crew) : NULL;
}

/* --- Into an undo file ------------------------------------------------------------------- */

struct save {
    struct store_dir *d;
    const struct dir_disk *disk;
    struct undo_writer *writer;
    struct chunk_jobs jobs;
    uint64_t records;
    bool *damaged;
    uint64_t first; /* the digests of head before it is written, read in windows */
    uint64_t count;
    struct digest digests[RUN_CHUNKS];
};

static void save_done(struct save *s)
{
    jobs_done(&s->jobs);
    undo_writer_free(s->writer);
}

static int digest_before(struct save *s, uint64_t chunk, struct digest *ret_digest, struct err *err)
{
    uint64_t chunks = chunk_count(s->disk->size);

    if (chunk < s->first || chunk - s->first >= s->count) {
        s->first = chunk - chunk % RUN_CHUNKS;
        s->count = chunks - s->first < RUN_CHUNKS ? chunks - s->first : RUN_CHUNKS;
        if (digests_file_read(s->d->fs, s->disk->digests, s->first, s->count, s->digests, err)
            < 0) {
            s->count = 0;
            return -1;
        }
    }
    *ret_digest = s->digests[chunk - s->first];
    return 0;
}

/* What is damaged is not saved as if it were what the disk held. */
static int save_taken(struct save *s, const struct chunk_job *job, struct err *err)
{
    if (!job)
        return 0;
    if (!job->damaged)
        return undo_writer_add_sealed(s->writer, job->chunk, job->record, job->record_len, err);
    *s->damaged = true;
    undo_writer_add_damaged(s->writer, job->chunk);
    return 0;
}

static int save_chunk(struct save *s, uint64_t chunk, struct err *err)
{
    struct store_dir *d = s->d;
    const struct dir_disk *disk = s->disk;

    if (save_taken(s, jobs_oldest(&s->jobs), err) < 0)
        return -1;
    struct chunk_job *job = jobs_next(&s->jobs);
    job->chunk = chunk;
    job->number = s->records++;
    job->listed = false;
    memset(&job->want, 0, sizeof(job->want)); /* that of zeros */
    if (chunk >= chunk_count(disk->size)) {
        /* It grows by that: zeros, to an older point that was as large before a way back. */
        job->len = CHUNK_BYTES;
        memset(job->bytes, 0, CHUNK_BYTES);
    } else {
        job->len = chunk_len(disk->size, chunk);
        job->listed = dir_damages_has_head(&d->damages, (size_t)(disk - d->disks.at), chunk);
        if (!job->listed
            && (d->fs->pread(d->fs, disk->head, job->bytes, job->len, chunk * CHUNK_BYTES, err) < 0
                || digest_before(s, chunk, &job->want, err) < 0))
            return -1;
    }
    return save_taken(s, jobs_submit(&s->jobs, job), err);
}

int dir_chunks_save(struct store_dir *d, const struct dir_disk *disk, const char *path,
                    const struct chunks *chunks, bool *damaged, struct cancel *cancel,
                    struct err *err)
{
    CLEANUP(save_done) struct save s = {.d = d, .disk = disk, .damaged = damaged};
    const struct undo_head head = {disk->name, disk->size, d->applied};
    struct chunk_job *job;

    if (undo_writer_open(d->fs, path, &head, &d->key, &s.writer, err) < 0)
        return -1;
    jobs_init(&s.jobs, d, chunks->len, s.writer);
    VEC_FOREACH(chunk, chunks)
        if (cancel_check(cancel, err) < 0 || save_chunk(&s, *chunk, err) < 0)
            return -1;
    while ((job = jobs_left(&s.jobs)))
        if (save_taken(&s, job, err) < 0)
            return -1;
    return undo_writer_finish(s.writer, err);
}

/* --- Into the digests -------------------------------------------------------------------- */

struct digesting {
    struct store_dir *d;
    const struct dir_disk *disk;
    struct chunk_jobs jobs;
    struct store_digests *ret_digests;
    struct cancel *cancel;
    uint64_t first;
    size_t count; /* of chunks side by side, not yet written */
    struct digest run[RUN_CHUNKS];
};

static void digesting_done(struct digesting *g)
{
    jobs_done(&g->jobs);
}

static int write_run(struct digesting *g, struct err *err)
{
    size_t n = g->count;

    g->count = 0;
    if (n == 0)
        return 0;
    if (cancel_check(g->cancel, err) < 0)
        return -1;
    return digests_file_write(g->d->fs, g->disk->digests, g->first, n, g->run, err);
}

static int digest_taken(struct digesting *g, const struct chunk_job *job, struct err *err)
{
    size_t number = (size_t)(g->disk - g->d->disks.at);

    if (!job)
        return 0;
    bool next = g->count > 0 && g->count < RUN_CHUNKS && job->chunk == g->first + g->count;
    if (!next && write_run(g, err) < 0)
        return -1;
    if (!next)
        g->first = job->chunk;
    g->run[g->count] = dir_damages_has_head(&g->d->damages, number, job->chunk)
                           ? dir_digest_of_damaged()
                           : job->digest;
    if (g->ret_digests)
        *store_digests_push(g->ret_digests) = (struct store_digest){job->chunk, g->run[g->count]};
    g->count++;
    return 0;
}

static int digest_chunk(struct digesting *g, uint64_t chunk, struct err *err)
{
    struct fs *fs = g->d->fs;

    if (digest_taken(g, jobs_oldest(&g->jobs), err) < 0)
        return -1;
    struct chunk_job *job = jobs_next(&g->jobs);
    job->chunk = chunk;
    job->len = chunk_len(g->disk->size, chunk);
    if (fs->pread(fs, g->disk->head, job->bytes, job->len, chunk * CHUNK_BYTES, err) < 0)
        return -1;
    return digest_taken(g, jobs_submit(&g->jobs, job), err);
}

int dir_chunks_digest(struct store_dir *d, const struct dir_disk *disk, const struct chunks *chunks,
                      struct store_digests *ret_digests, struct cancel *cancel, struct err *err)
{
    CLEANUP(digesting_done)
    struct digesting g = {.d = d, .disk = disk, .ret_digests = ret_digests, .cancel = cancel};
    struct chunk_job *job;

    jobs_init(&g.jobs, d, chunks->len, NULL);
    VEC_FOREACH(chunk, chunks)
        if (*chunk < chunk_count(disk->size) && digest_chunk(&g, *chunk, err) < 0)
            return -1;
    while ((job = jobs_left(&g.jobs)))
        if (digest_taken(&g, job, err) < 0)
            return -1;
    return write_run(&g, err);
}
