// SPDX-License-Identifier: Apache-2.0
/* A point that a person wants now: cut, sent, applied, and pinned at the site that keeps it before the
 * next one can be made, which might take its place. */
#include "sites/site_local.h"

#include "base/mem.h"

#include <stdio.h>

struct keeper {
    struct estate *estate;
    const char *group;
    const char *label;
    char peer[NAME_MAX_BYTES];
};

static int keep(void *ctx, uint64_t point, struct cancel *cancel, struct err *err)
{
    const struct keeper *keeper = ctx;
    CLEANUP(site_closep) struct site *site = site_remote_new(keeper->estate, keeper->peer);

    return site_ask(site, "group.keep-point",
                    json_pack("{s:s, s:I, s:s}", "group", keeper->group, "point", (json_int_t)point,
                              "label", keeper->label),
                    NULL, cancel, err);
}

static int need_freeze(const json_t *args, enum session_freeze *ret_freeze, struct err *err)
{
    const char *text = json_get_str(args, "consistency", "");

    if (str_eq(text, "application"))
        *ret_freeze = SESSION_FREEZE;
    else if (str_eq(text, "crash"))
        *ret_freeze = SESSION_FREEZE_NONE;
    else if (!*text)
        *ret_freeze = SESSION_FREEZE_POLICY;
    else
        return err_set(err, ERR_INVALID, 0,
                       "\"%.40s\" is no consistency; hint: \"application\" or \"crash\"", text);
    return 0;
}

static void peer_of(struct estate *estate, struct keeper *keeper)
{
    estate_lock(estate);
    const struct estate_sender *sender = estate_find_sender(estate, keeper->group);
    if (sender)
        (void)snprintf(keeper->peer, sizeof(keeper->peer), "%s", sender->group.peer);
    estate_unlock(estate);
}

int ask_group_point(struct estate *estate, const json_t *args, json_t **ret_result,
                    struct cancel *cancel, struct err *err)
{
    struct keeper keeper = {.estate = estate, .label = json_get_str(args, "label", "")};
    struct session_point_ask ask = {.ctx = &keeper};
    struct session_point point;

    if (json_need_str(args, "group", "ask", &keeper.group, err) < 0
        || need_freeze(args, &ask.freeze, err) < 0)
        return -1;
    if (*keeper.label)
        ask.keep = keep;
    struct session *session = estate_session_get(estate, keeper.group);
    if (!session)
        return err_set(err, ERR_NOT_FOUND, 0, "%s does not send \"%s\"", estate_site(estate),
                       keeper.group);
    peer_of(estate, &keeper);
    int rc = session_point_now(session, &ask, &point, cancel, err);
    estate_session_put(estate, keeper.group);
    if (rc < 0)
        return -1;
    *ret_result =
        json_pack("{s:I, s:b, s:s, s:I, s:I, s:s, s:s}", "point", (json_int_t)point.point, "made",
                  point.made, "consistency", point.application ? "application" : "crash", "cut_ms",
                  (json_int_t)point.cut_wall_ms, "stall_us", (json_int_t)point.stall_us, "note",
                  point.note, "label", keeper.label);
    return 0;
}
