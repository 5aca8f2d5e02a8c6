// SPDX-License-Identifier: Apache-2.0
/* Shared by api_server.c (sockets, MHD) and api_request.c (one request's life). */
#pragma once

#include "api/api_server.h"
#include "base/str.h"
#include "base/vec.h"

#include <microhttpd.h>
#include <sys/types.h>

#define API_BODY_MAX (16u * 1024u * 1024u)

struct api_user {
    uid_t uid;
    char name[64];
};
VEC_DEFINE(api_users, struct api_user)

struct api {
    struct api_world world;
    struct api_table tables[API_TABLES_MAX];
    struct MHD_Daemon *daemon;
    char *socket_path;
    int listen_fd;
    int epoll_fd; /* MHD's */
    uint64_t timer;
    bool woken; /* a connection was resumed and MHD has not run since */
    uint64_t change;
    struct api_users users;
    json_t *memory;               /* api_memory */
    struct api_request *requests; /* all that are alive */
};

/* A connection was resumed: lets MHD run soon (its descriptor does not tell it). Any place on the
 * loop's thread, MHD's callbacks included. */
void api_wake(struct api *api);

/* The user at the other end of the socket, by the kernel's word. */
void api_find_who(struct api *api, struct MHD_Connection *conn, char *ret_who, size_t len);

/* MHD's callbacks. */
enum MHD_Result api_on_request(void *cls, struct MHD_Connection *conn, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_len, void **req_cls);
void api_on_completed(void *cls, struct MHD_Connection *conn, void **req_cls,
                      enum MHD_RequestTerminationCode code);

/* At the end: waiting connections are let go without an answer; what is in the pool loses its
 * way back and frees itself. */
void api_requests_abandon(struct api *api);
/* Answers those that wait for a change. */
void api_requests_changed(struct api *api);
