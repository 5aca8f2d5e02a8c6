// SPDX-License-Identifier: Apache-2.0
/* An initial copy that waits for a time of day. The file "copy-start" in the session's folder says which:
 *
 *   MINUTE MS     MINUTE of the day as the policy has it, MS the wall clock when that comes
 *
 * It is written when the waiting begins, and anew when the policy has another minute: a daemon that was
 * down at that time begins when it comes back, not a day later. A retry by a person writes the present
 * time. Nothing is tracked while it waits: what is copied is what there is then. */
#include "sync/session_internal.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define FILE_NAME  "copy-start"
#define TEXT_BYTES 64

static char *start_path(const struct session *s)
{
    return path_join(s->config.dir, FILE_NAME);
}

static int start_write(const struct session *s, uint16_t minute, int64_t at_ms, struct err *err)
{
    CLEANUP(mem_freep) char *path = start_path(s);
    char text[TEXT_BYTES];
    int len = snprintf(text, sizeof(text), "%u %" PRId64 "\n", minute, at_ms);

    return fs_replace_file(fs_real(), path, text, (size_t)len, 0600, err);
}

static bool start_read(const struct session *s, uint16_t minute, int64_t *ret_at_ms)
{
    CLEANUP(mem_freep) char *path = start_path(s);
    CLEANUP(str_free) struct str text = STR_EMPTY;
    struct err none = ERR_EMPTY;
    uint64_t kept = 0;
    uint64_t at_ms = 0;

    if (fs_read_file(fs_real(), path, TEXT_BYTES, &text, &none) < 0)
        return false;
    char *space = strchr(text.ptr, ' ');
    if (!space)
        return false;
    *space = '\0';
    space[1 + strcspn(space + 1, "\n")] = '\0';
    if (!str_to_u64(text.ptr, &kept) || !str_to_u64(space + 1, &at_ms) || kept != minute)
        return false;
    *ret_at_ms = (int64_t)at_ms;
    return true;
}

void start_forget(struct session *s)
{
    CLEANUP(mem_freep) char *path = start_path(s);
    struct err none = ERR_EMPTY;

    s->start_ms = 0;
    if (fs_exists(path))
        (void)fs_real()->unlink(fs_real(), path, &none);
}

static void say(struct session *s, int64_t at_ms)
{
    time_t at = (time_t)(at_ms / 1000);
    char when[32] = "";
    struct tm local;

    if (localtime_r(&at, &local))
        (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &local);
    CLEANUP(mem_freep)
    char *note = mem_printf("the initial copy begins at %s; `muster retry %s` begins it now", when,
                            s->config.group);
    if (s->start_ms != at_ms)
        log_info("session", "initial copy waits group=%s until=\"%s\"", s->config.group, when);
    session_set_note(s, note);
}

int start_waits(struct session *s, bool *ret_waits, struct err *err)
{
    struct policy policy;
    int64_t now = session_wall(s);
    int64_t at_ms;

    *ret_waits = false;
    session_policy(s, &policy);
    if (policy.copy_start == POLICY_NO_START || s->hurry) {
        start_forget(s);
        return 0;
    }
    if (!start_read(s, policy.copy_start, &at_ms)) {
        at_ms = day_minute_next_ms(policy.copy_start, now);
        if (start_write(s, policy.copy_start, at_ms, err) < 0)
            return -1;
    }
    if (s->start_now)
        at_ms = now;
    s->start_now = false;
    if (at_ms <= now) {
        start_forget(s);
        session_set_note(s, "");
        return 0;
    }
    say(s, at_ms);
    s->start_ms = at_ms;
    *ret_waits = true;
    return 0;
}
