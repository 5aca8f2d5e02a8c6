// SPDX-License-Identifier: Apache-2.0
/* Encryption at rest of a replica that a peer asks for: the key is made here and stays here. */
#include "base/fs_luks.h"
#include "base/mem.h"
#include "daemon/peer_ask.h"
#include "replica/head.h"
#include "sync/policy.h"

int peer_at_rest(const struct ask *ask, bool *ret_at_rest, struct err *err)
{
    struct policy policy;

    policy_init(&policy);
    if (policy_from_json(ask->head, &policy, err) < 0)
        return err_wrap(err, "replica.create");
    *ret_at_rest = policy.encryption == POLICY_ENCRYPTION_AT_REST;
    return 0;
}

/* Of what is there from an earlier try; false also when nothing is. */
static int are_containers(struct estate *estate, const char *group, bool *ret_are, bool *ret_there,
                          struct err *err)
{
    CLEANUP(mem_freep) char *dir = estate_replica_dir(estate, group);
    CLEANUP(mem_freep) char *key = estate_luks_path(estate, group);
    CLEANUP(mem_freep) char *record = path_join(dir, "replica");
    struct fs *heads = NULL;

    *ret_are = false;
    *ret_there = fs_exists(record);
    if (*ret_there && head_unlocked(dir, key, &heads, err) < 0)
        return -1;
    *ret_are = heads != NULL;
    fs_luks_free(heads);
    return 0;
}

int peer_settle_heads(struct ask *ask, bool at_rest, struct err *err)
{
    struct estate *estate = ask->daemon->estate;
    bool are = false;
    bool there = false;

    if (are_containers(estate, ask->group, &are, &there, err) < 0)
        return -1;
    if (there && are != at_rest) {
        CLEANUP(key_wipe) struct key key = {{0}};
        if (ask->row_state && !str_eq(ask->row_state, "initial-copy"))
            return err_set(err, ERR_STATE, 0,
                           "the replica of %s here is %sencrypted at rest, which does not change; "
                           "hint: unprotect it, and protect it anew",
                           ask->group, are ? "" : "not ");
        if (estate_key_read(estate, ask->group, &key, err) < 0
            || job_remove_local_replica(estate, ask->group, err) < 0
            || estate_key_write(estate, ask->group, &key, err) < 0)
            return -1;
    }
    return at_rest ? estate_luks_need(estate, ask->group, err) : 0;
}
