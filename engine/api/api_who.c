// SPDX-License-Identifier: Apache-2.0
#include "api/api_internal.h"

#include <pwd.h>
#include <stdio.h>
#include <sys/socket.h>

static void name_of_uid(uid_t uid, char *ret_name, size_t len)
{
    char buf[4096];
    struct passwd entry, *found = NULL;

    if (getpwuid_r(uid, &entry, buf, sizeof(buf), &found) == 0 && found)
        (void)snprintf(ret_name, len, "%s", entry.pw_name);
    else
        (void)snprintf(ret_name, len, "uid-%u", (unsigned)uid);
}

/* A name is looked up once per user, not per request: the lookup may read files. */
static const char *user_name(struct api *api, uid_t uid)
{
    struct api_user *user;

    VEC_FOREACH(known, &api->users)
        if (known->uid == uid)
            return known->name;
    user = api_users_push(&api->users);
    user->uid = uid;
    name_of_uid(uid, user->name, sizeof(user->name));
    return user->name;
}

void api_find_who(struct api *api, struct MHD_Connection *conn, char *ret_who, size_t len)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    struct ucred cred;
    socklen_t cred_len = sizeof(cred);

    (void)snprintf(ret_who, len, "unknown");
    if (info && getsockopt(info->connect_fd, SOL_SOCKET, SO_PEERCRED, &cred, &cred_len) == 0)
        (void)snprintf(ret_who, len, "%s", user_name(api, cred.uid));
}
