// SPDX-License-Identifier: Apache-2.0
/* Replication must not take the processor from the machines of its host. */
#pragma once

#define BACKGROUND_NICE \
    10 /* nice(1): about a tenth of an ordinary thread's share when all are busy */

/* This thread, and the processes it starts from now on, give way to others of this host, for good:
 * a thread without privileges could not come back. Any thread; no error is possible. */
void background_thread(void);
