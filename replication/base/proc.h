// SPDX-License-Identifier: Apache-2.0
/* Other programs. Arguments never pass through a shell. */
#pragma once

#include "base/cancel.h"
#include "base/err.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* A process that can be recognised later: the pid may be used again, its start time not. */
struct proc_id {
    pid_t pid;
    uint64_t start_ticks; /* field 22 of /proc/PID/stat */
};

/* A zombie counts as dead when all its threads have ended: then its files are closed, too. */
bool proc_is_alive(const struct proc_id *id);
/* Since it was started, in milliseconds. */
int64_t proc_age_ms(const struct proc_id *id);
int proc_identify(pid_t pid, struct proc_id *ret_id, struct err *err) MUST_CHECK;
/* SIGTERM, then SIGKILL after `grace_ms`; 0 when it is gone (also if it was before). */
int proc_end(const struct proc_id *id, int64_t grace_ms, struct cancel *cancel, struct err *err)
    MUST_CHECK;

struct proc_spec {
    const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH */
    const char *log_path;    /* stdout and stderr are appended there; NULL: /dev/null */
    const char *netns;       /* enter this named network namespace (/run/netns/NAME); NULL: ours */
    const int *keep_fds;     /* descriptors that stay open, as they are */
    size_t keep_fd_count;
};

/* Starts a program that outlives us: own session, leader of its process group, not our child
 * (double fork), stdin null. ERR_NOT_FOUND: no such program, or it ended at once. */
int proc_spawn_detached(const struct proc_spec *spec, struct proc_id *ret_id, struct err *err)
    MUST_CHECK;
/* Starts a child that dies with the caller (PR_SET_PDEATHSIG, set race-free): the kernel kills it
 * when the THREAD that started it ends, so start it from a thread that lives as long as it is
 * needed. The caller reaps it with proc_reap. */
int proc_spawn_child(const struct proc_spec *spec, struct proc_id *ret_id, struct err *err)
    MUST_CHECK;
/* Kills (if still alive) and waits for a child of ours; gives its wait status. */
void proc_reap(const struct proc_id *id, int *ret_status);

/* Runs to the end; at most `max_output` bytes of stdout + stderr are kept (more is read and
 * dropped, and said in the text's last line). ERR_NOT_FOUND: no such program. A cancel kills it.
 * `ret_status`: exit code, or 128 + signal. */
int proc_run(const struct proc_spec *spec, size_t max_output, struct str *ret_output,
             int *ret_status, struct cancel *cancel, struct err *err) MUST_CHECK;
/* The same for programs that must succeed: exit code not 0 is ERR_IO with the last output line. */
int proc_must(const char *const *argv, struct cancel *cancel, struct err *err) MUST_CHECK;
int proc_must_be(const struct proc_spec *spec, struct cancel *cancel, struct err *err) MUST_CHECK;
/* The same in a network namespace (NULL: ours). Better than `ip -n`, which also remounts "/" and so
 * fails where that is no mount point, as in a chroot. */
int proc_must_in(const char *netns, const char *const *argv, struct cancel *cancel, struct err *err)
    MUST_CHECK;
