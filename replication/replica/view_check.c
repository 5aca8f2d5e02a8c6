// SPDX-License-Identifier: Apache-2.0
/* A bit for each chunk: 2 MiB for a disk of a TiB. A view lives as long as its machine, so each chunk
 * is hashed once in that time. */
#include "replica/view_check.h"

#include "base/fs.h"
#include "base/mem.h"
#include "replica/chunk.h"
#include "replica/digests_file.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define DIGESTERS 4U

struct view_digester {
    pthread_mutex_t lock;
    struct digester *digester;
};

struct view_check {
    uint64_t size;
    int fd;
    _Atomic uint8_t *known;
    _Atomic unsigned turn;
    struct view_digester digesters[DIGESTERS];
};

int view_check_open(const char *dir, uint64_t size, const struct key *group_key,
                    struct view_check **ret_check, struct err *err)
{
    CLEANUP(mem_freep) char *path = path_join(dir, "digests");
    struct view_check *c = mem_new(struct view_check);

    c->fd = -1;
    c->size = size;
    for (size_t i = 0; i < DIGESTERS; i++) {
        (void)pthread_mutex_init(&c->digesters[i].lock, NULL);
        c->digesters[i].digester = chunk_digester_new(group_key);
    }
    c->known = mem_try_alloc((size_t)(chunk_count(size) / 8 + 1), "map of a view", err);
    if (!c->known || digests_file_look(fs_real(), path, size, &c->fd, err) < 0) {
        view_check_close(c);
        return -1;
    }
    *ret_check = c;
    return 0;
}

void view_check_close(struct view_check *check)
{
    if (!check)
        return;
    for (size_t i = 0; i < DIGESTERS; i++) {
        digester_free(check->digesters[i].digester);
        (void)pthread_mutex_destroy(&check->digesters[i].lock);
    }
    fd_close(&check->fd);
    free(check->known);
    free(check);
}

bool view_check_knows(const struct view_check *check, uint64_t chunk)
{
    return (atomic_load_explicit(&check->known[chunk / 8], memory_order_relaxed) >> (chunk % 8) & 1)
           != 0;
}

void view_check_note(struct view_check *check, uint64_t chunk)
{
    (void)atomic_fetch_or_explicit(&check->known[chunk / 8], (uint8_t)(1U << (chunk % 8)),
                                   memory_order_relaxed);
}

int view_check_run(struct view_check *check, uint64_t chunk, const void *bytes, bool *ret_right,
                   struct err *err)
{
    unsigned turn = atomic_fetch_add_explicit(&check->turn, 1, memory_order_relaxed);
    struct view_digester *slot = &check->digesters[turn % DIGESTERS];
    struct digest want;
    struct digest have;

    if (digests_file_read(fs_real(), check->fd, chunk, 1, &want, err) < 0)
        return -1;
    (void)pthread_mutex_lock(&slot->lock);
    chunk_digest(slot->digester, bytes, chunk_len(check->size, chunk), &have);
    (void)pthread_mutex_unlock(&slot->lock);
    *ret_right = memcmp(&want, &have, sizeof(want)) == 0;
    return 0;
}
