// SPDX-License-Identifier: Apache-2.0
/* What a peer asks before it protects a machine to here from seeds: are they there, and would they do?
 * The same is looked at again when they are used. */
#include "daemon/peer_ask.h"

#include <inttypes.h>

/* {format, size}, or {problem}. */
static json_t *look(const struct ask *ask, const char *disk, const char *file, uint64_t size)
{
    CLEANUP(seed_close) struct seed seed = {.fd = -1};
    struct err why = ERR_EMPTY;

    if (estate_seed_open(ask->daemon->estate, ask->peer, file, &seed, &why) < 0
        || seed_fits(&seed, disk, size, &why) < 0)
        return json_pack("{s:s}", "problem", why.text);
    return json_pack("{s:s, s:I}", "format", seed.format, "size", (json_int_t)seed.size);
}

void peer_seeds(struct ask *ask)
{
    const json_t *seeds = json_object_get(ask->head, "seeds");
    const char *disk;
    json_t *seed;

    if (!seeds)
        return; /* an older release, or none are meant */
    json_t *found = json_object();
    json_object_foreach((json_t *)(uintptr_t)seeds, disk, seed)
        (void)json_object_set_new(
            found, disk,
            look(ask, disk, json_get_str(seed, "file", ""), json_get_u64(seed, "size", 0)));
    (void)json_object_set_new(ask->answer, "seeds", found);
}
