// SPDX-License-Identifier: Apache-2.0
/* A guest whose file systems can be frozen, and its agent, for fake_qmp. Fields are set before it is
 * asked anything, or under the lock. */
#pragma once

#include "support/qemu/fake_qmp.h"

#include <pthread.h>
#include <stdbool.h>

struct fake_guest {
    pthread_mutex_t lock;
    bool frozen;
    unsigned freezes, thaws;
    /* How it fails. */
    bool deaf;          /* says nothing */
    bool blocked;       /* may not thaw */
    bool refuses;       /* to freeze */
    bool has_nothing;   /* to freeze */
    bool silent_freeze; /* freezes, and does not say so */
    bool dies_at_freeze;
    unsigned refused_thaws;
    void (*on_freeze)(void *ctx); /* while it freezes; NULL: nothing */
    void *ctx;
};

void fake_guest_init(struct fake_guest *guest);
/* Behind `path`. */
struct fake_qmp *fake_agent_new(struct fake_guest *guest, const char *path);
bool fake_guest_is_frozen(struct fake_guest *guest);
/* As an administrator in the guest would. */
void fake_guest_thaw(struct fake_guest *guest);
