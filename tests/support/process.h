// SPDX-License-Identifier: Apache-2.0
/* Something done in a process of its own, because it ends that process. */
#pragma once

#include <stdbool.h>

/* The wait status of a child that calls `act` (its stderr goes nowhere) and exits with 0. */
int process_status(void (*act)(void *arg), void *arg);
bool process_aborts(void (*act)(void *arg), void *arg);
