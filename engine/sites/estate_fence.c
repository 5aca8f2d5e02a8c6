// SPDX-License-Identifier: Apache-2.0
/* An old primary that meets its peer again: the peer refuses its writes, the session says so, and
 * from then on the machine must not be started here. */
#include "base/mem.h"
#include "sites/estate_internal.h"

static int note_one(struct estate *estate, const struct estate_group *group, bool *ret_noted,
                    struct err *err)
{
    struct session *session = estate_session_get(estate, group->group);
    struct session_status status = {.state = SESSION_PROTECTED};
    struct estate_mark mark;

    *ret_noted = false;
    if (!session)
        return 0;
    session_status(session, &status);
    estate_session_put(estate, group->group);
    if (status.state != SESSION_FENCED)
        return 0;
    if (estate_mark_read(estate, group->group, &mark, err) < 0)
        return -1;
    if (mark.retired)
        return 0;
    /* The peer's is higher than ours; by how much, the sites tell each other later. */
    mark.retired = group->generation + 1;
    if (estate_mark_write(estate, group->group, &mark, err) < 0)
        return -1;
    estate_tell(estate, group->group, "retired", mark.retired);
    *ret_noted = true;
    return 0;
}

int estate_note_fenced(struct estate *estate, uint32_t *ret_noted, struct err *err)
{
    size_t count;
    CLEANUP(mem_freep) struct estate_group *groups = estate_group_list(estate, &count);
    uint32_t total = 0;

    for (size_t i = 0; i < count; i++) {
        bool noted;

        if (note_one(estate, &groups[i], &noted, err) < 0)
            return -1;
        total += noted;
    }
    *ret_noted = total;
    return 0;
}
