// SPDX-License-Identifier: Apache-2.0
/* The groups this site sends. A session's own calls come back here, on a data thread, for its
 * source, its link and its machines' definitions. */
#include "base/fs.h"
#include "base/mem.h"
#include "block/source.h"
#include "sites/estate_base.h"
#include "sites/site_local.h"

#include <stdlib.h>

struct estate_sender *estate_find_sender(struct estate *estate, const char *group)
{
    VEC_FOREACH(sender, &estate->senders)
        if (str_eq((*sender)->group.group, group) && !(*sender)->leaving)
            return *sender;
    return NULL;
}

void estate_sender_free(struct estate_sender *sender)
{
    if (sender->session && sender->estate->config.scheduler)
        scheduler_remove(sender->estate->config.scheduler, sender->session);
    session_close(sender->session);
    estate_base_reader_free(sender->base);
    free(sender);
}

/* --- What a session asks -------------------------------------------------------------------- */

static int open_source(void *ctx, struct source **ret_source, struct cancel *cancel,
                       struct err *err)
{
    return estate_source_open(ctx, ret_source, cancel, err);
}

static int open_link(void *ctx, struct link **ret_link, struct cancel *cancel, struct err *err)
{
    const struct estate_sender *sender = ctx;
    const struct estate_config *config = &sender->estate->config;
    struct link *idle = estate_links_take(sender->estate, sender->group.peer);

    if (!idle)
        return config->open_link(config->ctx, sender->group.peer, ret_link, cancel, err);
    *ret_link = idle;
    return 0;
}

static void give_link(void *ctx, struct link *link)
{
    const struct estate_sender *sender = ctx;

    estate_links_give(sender->estate, link);
}

static void lost_link(void *ctx)
{
    const struct estate_sender *sender = ctx;

    estate_links_drop(sender->estate, sender->group.peer);
}

static json_t *machines(void *ctx)
{
    return estate_source_machines(ctx);
}

/* --- Adding and removing -------------------------------------------------------------------- */

/* A daemon and a guardian that were killed while a guest was frozen must not leave it so until the next
 * cut: that may have to wait for the peer. What cannot be started now is done before that cut. */
static void thaw_left(const struct estate *estate, const char *group)
{
    CLEANUP(mem_freep) char *work_dir = estate_path(estate, "sessions", group, "/work");
    struct err ignored = ERR_EMPTY;

    if (source_qemu_thaw_left(work_dir, NULL, &ignored) < 0)
        err_clear(&ignored);
}

static int open_session(struct estate *estate, struct estate_sender *sender, struct err *err)
{
    struct session_config config = {
        .policy = sender->group.policy,
        .generation = sender->group.generation,
        .clock = estate->config.clock,
        .shaper = estate_shaper(estate, sender->group.peer),
        .ctx = sender,
        .open_source = open_source,
        .open_link = open_link,
        .give_link = give_link,
        .lost_link = lost_link,
        .machines = machines,
    };
    struct estate_mark mark;

    (void)snprintf(config.group, sizeof(config.group), "%s", sender->group.group);
    (void)snprintf(config.site, sizeof(config.site), "%s", estate->site);
    (void)snprintf(config.peer, sizeof(config.peer), "%s", sender->group.peer);
    memcpy(config.sign_key, estate->config.sign_key, sizeof(config.sign_key));
    if (estate_mark_read(estate, sender->group.group, &mark, err) < 0
        || estate_base_find(sender, &config, err) < 0
        || estate_key_read(estate, sender->group.group, &config.group_key, err) < 0)
        return -1;
    sender->tip_point = config.tip.point;
    thaw_left(estate, sender->group.group);
    config.dir = estate_path(estate, "sessions", sender->group.group, "");
    config.seeds = estate_seeds_get(estate, sender->group.group);
    int rc = fs_make_dirs(fs_real(), config.dir, 0700, err);
    if (rc < 0) {
        free(config.dir);
        json_decref(config.seeds);
    } else {
        rc = session_open(&config, &sender->session, err);
    }
    key_wipe(&config.group_key);
    explicit_bzero(config.sign_key, sizeof(config.sign_key));
    if (rc == 0 && estate_mark_stops(&mark))
        session_pause(sender->session, true);
    return rc;
}

/* What may change while it runs: the policy, but for what the replica was made with. */
static bool change_group(struct estate *estate, const struct estate_group *group)
{
    estate_lock(estate);
    struct estate_sender *sender = estate_find_sender(estate, group->group);
    bool same = sender && sender->group.generation == group->generation
                && str_eq(sender->group.peer, group->peer) && str_eq(sender->group.run, group->run)
                && machine_names_equal(&sender->group.machines, &group->machines)
                && sender->group.policy.encryption == group->policy.encryption;
    if (same) {
        sender->group = *group;
        session_set_policy(sender->session, &group->policy);
        if (estate->config.scheduler)
            scheduler_kick(estate->config.scheduler, sender->session);
    }
    estate_unlock(estate);
    return same;
}

int estate_group_add(struct estate *estate, const struct estate_group *wanted, struct err *err)
{
    struct estate_group normal = *wanted;
    const struct estate_group *group = &normal;

    if (normal.machines.count == 0)
        machine_names_alone(&normal.machines, normal.group);
    if (change_group(estate, group))
        return 0;
    estate_group_remove(estate, group->group);
    struct estate_sender *sender = mem_new(struct estate_sender);
    sender->estate = estate;
    sender->group = *group;
    if (open_session(estate, sender, err) < 0) {
        estate_base_reader_free(sender->base);
        free(sender);
        return err_wrap(err, "session of %s", group->group);
    }
    estate_lock(estate);
    *estate_senders_push(&estate->senders) = sender;
    estate_unlock(estate);
    if (estate->config.scheduler)
        scheduler_add(estate->config.scheduler, sender->session);
    return 0;
}

static void forget_sender(struct estate *estate, const struct estate_sender *sender)
{
    for (size_t i = 0; i < estate->senders.len; i++)
        if (estate->senders.at[i] == sender) {
            estate->senders.at[i] = estate->senders.at[--estate->senders.len];
            return;
        }
}

void estate_group_remove(struct estate *estate, const char *group)
{
    estate_lock(estate);
    struct estate_sender *sender = estate_find_sender(estate, group);
    if (sender) {
        sender->leaving = true;
        while (sender->users > 0)
            (void)pthread_cond_wait(&estate->idle, &estate->lock);
        forget_sender(estate, sender);
    }
    estate_unlock(estate);
    if (sender)
        estate_sender_free(sender);
}

int estate_group_reopen(struct estate *estate, const char *group, struct err *err)
{
    struct estate_group again;

    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, group);
    if (sender)
        again = sender->group;
    estate_unlock(estate);
    if (!sender)
        return 0;
    estate_group_remove(estate, group);
    return estate_group_add(estate, &again, err);
}

int estate_group_forget(struct estate *estate, const char *group, struct cancel *cancel,
                        struct err *err)
{
    const struct estate_mark none = {0};
    struct session *session = estate_session_get(estate, group);

    if (session) {
        int rc = session_forget(session, cancel, err);
        estate_session_put(estate, group);
        if (rc < 0)
            return err_wrap(err, "forget %s", group);
    }
    if (estate_mark_write(estate, group, &none, err) < 0)
        return -1;
    estate_group_remove(estate, group);
    return 0;
}

struct estate_group *estate_group_list(struct estate *estate, size_t *ret_count)
{
    estate_lock(estate);
    struct estate_group *groups = mem_new_array(struct estate_group, estate->senders.len + 1);
    size_t count = 0;
    VEC_FOREACH(sender, &estate->senders)
        if (!(*sender)->leaving)
            groups[count++] = (*sender)->group;
    estate_unlock(estate);
    *ret_count = count;
    return groups;
}

struct session *estate_session_get(struct estate *estate, const char *group)
{
    estate_lock(estate);
    struct estate_sender *sender = estate_find_sender(estate, group);
    if (sender)
        sender->users++;
    estate_unlock(estate);
    return sender ? sender->session : NULL;
}

/* One that is leaving is still in the list until nobody uses it. */
void estate_session_put(struct estate *estate, const char *group)
{
    estate_lock(estate);
    VEC_FOREACH(sender, &estate->senders)
        if (str_eq((*sender)->group.group, group) && (*sender)->users > 0) {
            if (--(*sender)->users == 0)
                (void)pthread_cond_broadcast(&estate->idle);
            break;
        }
    estate_unlock(estate);
}
