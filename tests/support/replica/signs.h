// SPDX-License-Identifier: Apache-2.0
/* A sweep checks the same few signatures a hundred thousand times, and that took a third of it: once
 * a signature was found good, the same bytes under the same key are good again. For programs that
 * are linked with --wrap=sign_verify; the others check each time. One thread. */
#pragma once

void signs_remember(void);
