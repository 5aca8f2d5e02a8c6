// SPDX-License-Identifier: Apache-2.0
/* The log: "time level area message key=value ...", one line each, to stderr. Only sync/session,
 * run, api and daemon log, where the decision is made; libraries return errors. Any thread. */
#pragma once

#include "base/err.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

void log_set_level(enum log_level level);
/* Lines go to this descriptor from now on (2 at first). */
void log_set_fd(int fd);
void log_line(enum log_level level, const char *area, const char *fmt, ...) PRINTF_LIKE(3, 4);

#define log_debug(area, ...) log_line(LOG_LEVEL_DEBUG, (area), __VA_ARGS__)
#define log_info(area, ...)  log_line(LOG_LEVEL_INFO, (area), __VA_ARGS__)
#define log_warn(area, ...)  log_line(LOG_LEVEL_WARN, (area), __VA_ARGS__)
#define log_error(area, ...) log_line(LOG_LEVEL_ERROR, (area), __VA_ARGS__)
