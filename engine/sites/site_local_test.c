// SPDX-License-Identifier: Apache-2.0
/* A test's network, what a test leaves behind, and the probes.
 *
 * Where a machine's address comes from: its kernel command line's `ip=ADDRESS...`, which a definition
 * with a kernel of its own carries and a test keeps. Without one the plan names the address. */
#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "sites/site_local.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NETNS_DIR "/run/netns"

static int run_of(const struct estate *estate, const json_t *args, const char **ret_run,
                  char ret_netns[SITE_NETNS_BYTES], struct err *err)
{
    if (json_need_str(args, "run", "ask", ret_run, err) < 0)
        return -1;
    site_netns_name(estate, *ret_run, ret_netns);
    return 0;
}

int ask_net_create(struct estate *estate, const json_t *args, json_t **ret_result,
                   struct cancel *cancel, struct err *err)
{
    const char *run;
    char netns[SITE_NETNS_BYTES];

    (void)cancel;
    if (run_of(estate, args, &run, netns, err) < 0 || testnet_create(netns, err) < 0)
        return -1;
    *ret_result = json_pack("{s:s}", "netns", netns);
    return 0;
}

static bool netns_exists(const char *netns)
{
    CLEANUP(mem_freep) char *path = path_join(NETNS_DIR, netns);

    return fs_exists(path);
}

/* Whether one that is there was finished cannot be told from outside; making it again is free. */
int ask_net_observe(struct estate *estate, const json_t *args, json_t **ret_result,
                    struct cancel *cancel, struct err *err)
{
    const char *run;
    char netns[SITE_NETNS_BYTES];

    (void)cancel;
    if (run_of(estate, args, &run, netns, err) < 0)
        return -1;
    *ret_result =
        json_pack("{s:s, s:b, s:b}", "netns", netns, "exists", netns_exists(netns), "complete", 0);
    return 0;
}

int ask_net_remove(struct estate *estate, const json_t *args, json_t **ret_result,
                   struct cancel *cancel, struct err *err)
{
    const char *run;
    char netns[SITE_NETNS_BYTES];

    (void)ret_result;
    (void)cancel;
    if (run_of(estate, args, &run, netns, err) < 0)
        return -1;
    return testnet_remove(netns, err);
}

/* --- Leftovers ------------------------------------------------------------------------------ */

static void add_left(json_t *left, char *text)
{
    (void)json_array_append_new(left, json_string(text));
    free(text);
}

struct leftovers {
    const char *prefix; /* of the folders of the run's machines */
    json_t *left;
};

/* Such a folder, and each file in it. */
static int add_folder(void *ctx, const char *name, const char *dir, struct err *err)
{
    struct leftovers *leftovers = ctx;
    CLEANUP(fs_names_free) struct fs_names files = {0};

    if (!str_starts(name, leftovers->prefix))
        return 0;
    add_left(leftovers->left, mem_printf("folder %s", dir));
    if (fs_list(dir, &files, err) < 0)
        return -1;
    for (size_t i = 0; i < files.len; i++)
        add_left(leftovers->left, mem_printf("file %s/%s", dir, files.at[i]));
    return 0;
}

static int left_files(struct estate *estate, const char *run, json_t *left, struct err *err)
{
    CLEANUP(mem_freep) char *prefix = mem_printf("%s-", run);
    struct leftovers leftovers = {prefix, left};

    return site_instance_each(estate, add_folder, &leftovers, err);
}

/* Arguments of a process with blanks between them; false when it is gone or has none. */
static bool read_arguments(const char *pid, struct str *text)
{
    CLEANUP(mem_freep) char *path = mem_printf("/proc/%s/cmdline", pid);

    str_clear(text);
    if (fs_read_file(fs_real(), path, 1024 * 1024, text, NULL) < 0 || text->len == 0)
        return false;
    for (size_t i = 0; i + 1 < text->len; i++)
        if (text->ptr[i] == '\0')
            text->ptr[i] = ' ';
    return true;
}

/* QEMU and the servers of its disks keep their pid files in the folder of the run's machine. Others may
 * name it too: somebody who reads a console there is none of ours. */
static int left_processes(struct estate *estate, const char *run, json_t *left, struct err *err)
{
    CLEANUP(mem_freep) char *mark = mem_printf("pidfile %s/instances/%s-", estate->dir, run);
    CLEANUP(fs_names_free) struct fs_names pids = {0};
    CLEANUP(str_free) struct str text = STR_EMPTY;
    uint64_t pid;

    if (fs_list("/proc", &pids, err) < 0)
        return -1;
    for (size_t i = 0; i < pids.len; i++) {
        if (!str_to_u64(pids.at[i], &pid) || !read_arguments(pids.at[i], &text)
            || !strstr(str_text(&text), mark))
            continue;
        add_left(left, mem_printf("process %s (%.60s)", pids.at[i], str_text(&text)));
    }
    return 0;
}

/* A replica that cannot be read is no leftover of this run: letting go of its own points was a step
 * of the cleanup, which would have failed. */
static void left_pins(struct estate *estate, const char *run, json_t *left)
{
    size_t count;
    struct err why = ERR_EMPTY;
    CLEANUP(mem_freep) struct estate_replica *replicas = estate_replica_list(estate, &count);

    for (size_t i = 0; i < count; i++) {
        CLEANUP(store_points_free) struct store_points points = VEC_EMPTY;
        struct store *store = NULL;
        int rc = estate_store_get(estate, replicas[i].group, &store, &why);
        if (rc == 0) {
            rc = store->ops->points(store, &points, &why);
            estate_store_put(estate, replicas[i].group, store, rc < 0 && why.code == ERR_IO);
        }
        if (rc < 0)
            log_warn("sites", "points of group=%s not looked at error=\"%s\"", replicas[i].group,
                     why.text);
        VEC_FOREACH(point, &points)
            if (point->pinned && str_eq(point->label, run))
                add_left(left, mem_printf("kept point %llu of %s", (unsigned long long)point->point,
                                          replicas[i].group));
    }
}

int ask_instance_leftovers(struct estate *estate, const json_t *args, json_t **ret_result,
                           struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *left = json_array();
    const char *run;
    char netns[SITE_NETNS_BYTES];

    (void)cancel;
    if (run_of(estate, args, &run, netns, err) < 0 || left_processes(estate, run, left, err) < 0
        || left_files(estate, run, left, err) < 0)
        return -1;
    left_pins(estate, run, left);
    if (netns_exists(netns))
        add_left(left, mem_printf("network namespace %s", netns));
    *ret_result = json_pack("{s:O}", "left", left);
    return 0;
}

/* --- Probes --------------------------------------------------------------------------------- */

static int address_of(const struct machine *machine, char *ret_address, size_t len, struct err *err)
{
    CLEANUP(mem_freep) char *words = mem_strdup(machine->cmdline);
    unsigned char binary[sizeof(struct in6_addr)];
    char *rest = NULL;

    for (char *word = strtok_r(words, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        if (!str_starts(word, "ip="))
            continue;
        char *address = word + strlen("ip=");
        address[strcspn(address, "/:")] = '\0';
        if (inet_pton(AF_INET, address, binary) != 1)
            continue;
        (void)snprintf(ret_address, len, "%s", address);
        return 0;
    }
    return err_set(err, ERR_UNSUPPORTED, 0,
                   "the address of %s is not known (no ip= on its kernel command line); hint: name"
                   " the address in the plan: tcp = \"10.0.0.5:5432\"",
                   machine->name);
}

static int answer(int rc, json_t **ret_result)
{
    if (rc < 0)
        return -1;
    *ret_result = json_pack("{s:b}", "answer", rc > 0);
    return 0;
}

static int load_named(struct estate *estate, const json_t *args, struct site_instance *instance,
                      struct err *err)
{
    const char *run;
    const char *machine;

    if (json_need_str(args, "run", "ask", &run, err) < 0
        || json_need_str(args, "machine", "ask", &machine, err) < 0)
        return -1;
    return site_instance_load(estate, run, machine, instance, err);
}

int ask_probe_tcp(struct estate *estate, const json_t *args, json_t **ret_result,
                  struct cancel *cancel, struct err *err)
{
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    char address[256];
    char netns[SITE_NETNS_BYTES] = "";
    uint64_t port;

    machine_init(&instance.machine);
    if (json_need_u64(args, "port", "ask", &port, err) < 0)
        return -1;
    if (json_get_bool(args, "test", true))
        site_netns_name(estate, json_get_str(args, "run", ""), netns);
    (void)snprintf(address, sizeof(address), "%s", json_get_str(args, "address", ""));
    if (*json_get_str(args, "machine", "")
        && (load_named(estate, args, &instance, err) < 0
            || (!*address && address_of(&instance.machine, address, sizeof(address), err) < 0)))
        return -1;
    return answer(probe_tcp(netns, address, (uint16_t)port, cancel, err), ret_result);
}

int ask_probe_agent(struct estate *estate, const json_t *args, json_t **ret_result,
                    struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_instance_done) struct site_instance instance = {0};

    machine_init(&instance.machine);
    if (load_named(estate, args, &instance, err) < 0)
        return -1;
    struct provider_instance view = site_instance_view(&instance);
    return answer(provider->agent_answers(provider, &view, cancel, err), ret_result);
}

int ask_probe_console(struct estate *estate, const json_t *args, json_t **ret_result,
                      struct cancel *cancel, struct err *err)
{
    struct provider *provider = estate_provider(estate);
    CLEANUP(site_instance_done) struct site_instance instance = {0};
    const char *text;

    (void)cancel;
    machine_init(&instance.machine);
    if (json_need_str(args, "text", "ask", &text, err) < 0
        || load_named(estate, args, &instance, err) < 0)
        return -1;
    struct provider_instance view = site_instance_view(&instance);
    return answer(provider->console_has(provider, &view, text, err), ret_result);
}
