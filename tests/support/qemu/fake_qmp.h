// SPDX-License-Identifier: Apache-2.0
/* Somebody who speaks like a QMP monitor (or a guest agent) on a unix socket, from a thread. What
 * it says to a command is decided by a function of the test's, which runs on that thread. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

struct fake_qmp;
struct fake_qmp_config {
    const char *path;
    const char *greeting; /* NULL: QMP's; "": none */
    /* The bytes to send for a command, malloc'ed; "@ID" in it becomes the command's id. NULL:
     * close the connection. An empty text says nothing. */
    char *(*answer)(void *ctx, const json_t *command);
    void *ctx;
    /* The first client is kept waiting, at the greeting or after it, until a second one has come. */
    enum { FAKE_QMP_PROMPT, FAKE_QMP_STUCK_BEFORE_GREETING, FAKE_QMP_STUCK_AFTER_GREETING } stuck;
    void (*while_stuck)(void *ctx); /* again and again, meanwhile */
};
struct fake_qmp *fake_qmp_new(const struct fake_qmp_config *config);
/* Says it to the client that is there now, from any thread; it is in its socket afterwards. */
void fake_qmp_tell(struct fake_qmp *fake, const char *text);
/* How many commands of that name came. */
unsigned fake_qmp_count(struct fake_qmp *fake, const char *command);
void fake_qmp_free(struct fake_qmp *fake);

/* {"return": {}, "id": @ID} */
char *fake_qmp_ok(void);
char *fake_qmp_say(const char *text);
