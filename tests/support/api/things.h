// SPDX-License-Identifier: Apache-2.0
/* The API's machinery over tables of the tests' own: bytes go in on a real unix socket, the loop is
 * turned by the test.
 *
 *   GET  /v1/things/{name}        who asked, and for what     POST the same: echoes its body
 *   POST /v1/things/{name}/slow   waits in the pool for the gate
 *   GET  /v1/things/{name}/hasty  the same, for 30 ms         POST .../fail: refused
 *   GET  /v1/wait                 for a change                GET  /v1/numbers/{id} */
#pragma once

#include "api/api_server.h"
#include "base/str.h"

struct gate {
    _Atomic bool open;
    _Atomic int waiting;
    int finished;
    int commits;
    int written; /* by a handler, made durable by a commit */
    int durable;
};

struct things {
    char *dir;
    char *path;
    struct loop *loop;
    struct pool *pool;
    struct api *api;
    struct gate gate;
};

extern const struct api_table things_tables[];
struct api_world things_world(struct things *fx);

/* cmocka fixtures: *state is a struct things. */
int things_setup(void **state);
int things_teardown(void **state);
#define THINGS_TEST(f) cmocka_unit_test_setup_teardown(f, things_setup, things_teardown)

/* A connection; bytes to it (false: the server hung up), and one answer from it. */
int things_client(struct things *fx);
bool things_say(struct things *fx, int fd, const char *bytes, size_t len);
void things_hear(struct things *fx, int fd, struct str *ret_answer);
unsigned things_status(const struct str *answer);
const char *things_body(const struct str *answer);
/* Fails the test unless the answer has that status and `part` in its body. */
void things_expect(struct things *fx, const char *method, const char *path, const char *body,
                   unsigned status, const char *part);
