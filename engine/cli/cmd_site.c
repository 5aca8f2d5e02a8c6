// SPDX-License-Identifier: Apache-2.0
#include "base/fs.h"
#include "base/mem.h"
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/table.h"
#include "link/tls.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_LISTEN "0.0.0.0:7700"
#define STANDARD_STATE "/var/lib/muster"
#define STANDARD_RUN   "/run/muster"

/* --- site init ------------------------------------------------------------------------------- */

struct init {
    const char *site;
    const char *listen;
    const char *advertise; /* NULL: what listens */
    bool standard;         /* /etc, /var/lib and /run */
    const char *config_dir;
    char *config_path;
    char *identity;
};

static void init_done(struct init *init)
{
    free(init->config_path);
    free(init->identity);
}

static void config_text(const struct init *init, struct str *out)
{
    str_addf(out,
             "-- The site \"%s\". Data only: this table is read, nothing here can act.\n"
             "-- Restart the daemon after a change.\n"
             "return {\n"
             "  site = \"%s\",\n\n"
             "  -- Where the daemon listens for its peers.\n"
             "  address = \"%s\",\n"
             "  -- What peers connect to, when that is another address.\n",
             init->site, init->site, init->listen);
    if (init->advertise)
        str_addf(out, "  advertise = \"%s\",\n\n", init->advertise);
    else
        str_addf(out, "  -- advertise = \"%s.example.com:7700\",\n\n", init->site);
    if (init->standard)
        str_add(out,
                "  -- Where state, replicas, keys and runs are kept; and the commands' socket.\n"
                "  dir = \"" STANDARD_STATE "\",\n"
                "  socket = \"" STANDARD_RUN "/muster.sock\",\n\n");
    else
        str_add(out,
                "  -- State, replicas, keys, runs and the commands' socket are kept beside this "
                "file.\n"
                "  -- dir = \"/var/lib/muster\",\n"
                "  -- socket = \"/run/muster/muster.sock\",\n\n");
    str_add(out, "  -- What runs machines.\n"
                 "  -- qemu = \"qemu-system-x86_64\",\n\n"
                 "  -- Networks of recovered machines: what it is called at the peer, and here.\n"
                 "  -- networks = { [\"bridge lan\"] = \"bridge recovery\" },\n\n"
                 "  -- Threads that send deltas, however many machines there are.\n"
                 "  -- data_threads = 4,\n\n"
                 "  -- debug, info, warn or error.\n"
                 "  -- log_level = \"info\",\n"
                 "}\n");
}

/* "HOST:PORT", without anything that would end the Lua text it is written into. */
static int check_address(struct cli *cli, const char *option, const char *address, struct err *err)
{
    const char *colon = strrchr(address, ':');
    uint64_t port;

    if (!colon || colon == address || !str_to_u64(colon + 1, &port) || port > UINT16_MAX
        || strpbrk(address, "\"\\\r\n"))
        return cli_usage(cli, err,
                         "--%s: \"%.200s\" is no address; hint: HOST:PORT, like 0.0.0.0:7700 or "
                         "[::]:7700",
                         option, address);
    return 0;
}

static int init_plan(struct cli *cli, struct init *ret_init, struct err *err)
{
    const char *listen = cli_option(cli, "listen");
    struct init init = {.listen = listen ? listen : DEFAULT_LISTEN,
                        .advertise = cli_option(cli, "advertise"),
                        .standard = !cli->dir,
                        .config_dir = cli_config_dir(cli)};

    if (cli_name_arg(cli, "NAME", &init.site, err) < 0
        || check_address(cli, "listen", init.listen, err) < 0
        || (init.advertise && check_address(cli, "advertise", init.advertise, err) < 0))
        return -1;
    init.config_path = cli_config_path(cli);
    init.identity = path_join(init.standard ? STANDARD_STATE : cli->dir, CLI_IDENTITY_DIR);
    *ret_init = init;
    return 0;
}

/* The keys first, config.lua last: a site is there when its config.lua is. */
static int init_site(const struct init *init, struct err *err)
{
    CLEANUP(str_free) struct str text = STR_EMPTY;

    if (fs_exists(init->config_path))
        return err_set(err, ERR_EXISTS, 0,
                       "there is a site already: %s; hint: name another directory with --dir",
                       init->config_path);
    if (fs_make_dirs(fs_real(), init->config_dir, 0750, err) < 0
        || (init->standard && fs_make_dirs(fs_real(), STANDARD_STATE, 0700, err) < 0)
        || (init->standard && fs_make_dirs(fs_real(), STANDARD_RUN, 0755, err) < 0))
        return -1;
    if (authority_create(init->identity, init->site, err) < 0) {
        if (err->code == ERR_EXISTS)
            return err_set(err, ERR_EXISTS, 0,
                           "%s holds the keys of a site, but %s is missing; hint: put that file "
                           "back, or move the keys away to begin anew",
                           init->identity, init->config_path);
        return -1;
    }
    config_text(init, &text);
    return fs_replace_file(fs_real(), init->config_path, text.ptr, text.len, 0644, err);
}

static int run_init(struct cli *cli, struct err *err)
{
    CLEANUP(init_done) struct init init = {0};
    CLEANUP(config_done) struct config config = {.site = ""};

    if (init_plan(cli, &init, err) < 0 || init_site(&init, err) < 0
        || client_config(cli, &config, err) < 0)
        return -1;
    if (cli->json) {
        CLEANUP(json_freep)
        json_t *json = json_pack("{s:s, s:s, s:s, s:s}", "site", config.site, "config",
                                 init.config_path, "address", config.address, "dir", config.dir);

        cli_print_json(cli, json);
        return 0;
    }
    (void)fprintf(cli->out, "Site %s: %s\n", config.site, init.config_path);
    (void)fprintf(cli->out, "next: muster%s%s serve\n", cli->dir ? " --dir " : "",
                  cli->dir ? cli->dir : "");
    return 0;
}

/* --- site show, site pair -------------------------------------------------------------------- */

/* "at most 10 MiB/s now, 9.8 MiB/s sent; 50MiB; mon-fri 08:00-18:00 10MiB"; false: no limit ever. */
static bool peer_rate(const json_t *peer, struct str *out)
{
    const char *plan = json_get_str(peer, "throttle", "none");
    uint64_t limit = json_get_u64(peer, "limit_per_s", 0);
    char text[32];

    str_free(out);
    if (str_eq(plan, "none"))
        return false;
    if (limit)
        str_addf(out, "at most %s/s now, ", str_bytes(limit, text, sizeof(text)));
    else
        str_add(out, "no limit now, ");
    str_addf(out, "%s/s sent; throttle %s",
             str_bytes(json_get_u64(peer, "used_per_s", 0), text, sizeof(text)), plan);
    return true;
}

static void peers_text(const json_t *peers, struct str *out)
{
    CLEANUP(str_free) struct str rate = STR_EMPTY;
    const json_t *peer;
    size_t i;

    json_array_foreach(peers, i, peer)
        str_addf(out, "%s%s (%s%s%s)", i ? ", " : "", json_get_str(peer, "name", ""),
                 json_get_str(peer, "address", ""), peer_rate(peer, &rate) ? ", " : "",
                 str_text(&rate));
    if (!out->len)
        str_add(out, "none");
}

static int run_show(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *site = NULL;
    CLEANUP(json_freep) json_t *peers = NULL;
    CLEANUP(str_free) struct str peers_line = STR_EMPTY;

    if (client_get(cli, &site, err, "/v1/site") < 0
        || client_get(cli, &peers, err, "/v1/peers") < 0)
        return -1;
    if (cli->json) {
        (void)json_object_set(site, "peers", json_object_get(peers, "peers"));
        cli_print_json(cli, site);
        return 0;
    }
    peers_text(json_object_get(peers, "peers"), &peers_line);
    (void)fprintf(cli->out, "site         %s\n", json_get_str(site, "site", ""));
    (void)fprintf(cli->out, "peers        %s\n", str_text(&peers_line));
    (void)fprintf(cli->out, "listens      %s\n", json_get_str(site, "address", ""));
    if (!str_eq(json_get_str(site, "address", ""), json_get_str(site, "advertise", "")))
        (void)fprintf(cli->out, "advertises   %s\n", json_get_str(site, "advertise", ""));
    (void)fprintf(cli->out, "machines     %d\n", (int)json_get_int(site, "machines", 0));
    (void)fprintf(cli->out, "protections  %d\n", (int)json_get_int(site, "protections", 0));
    (void)fprintf(cli->out, "directory    %s\n", json_get_str(site, "dir", ""));
    (void)fprintf(cli->out, "daemon       version %s, pid %d\n", json_get_str(site, "version", ""),
                  (int)json_get_int(site, "pid", 0));
    return 0;
}

static int run_issue(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;

    if (client_call(cli, "POST", "/v1/peers/token", NULL, &reply, err) < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "%s\n", json_get_str(reply, "token", ""));
    if (cli->tty && !cli->json)
        (void)fprintf(stderr, "At the other site, once, within the hour:\n"
                              "  muster site pair join TOKEN\n");
    return 0;
}

/* "-": from standard input, where no list of processes shows it. */
static int read_token(struct cli *cli, char ret_token[PAIR_TOKEN_MAX], struct err *err)
{
    const char *given = cli_arg(cli, "TOKEN");

    if (!str_eq(given, "-")) {
        (void)snprintf(ret_token, PAIR_TOKEN_MAX, "%s", given);
        return 0;
    }
    if (!fgets(ret_token, PAIR_TOKEN_MAX, stdin))
        return err_set(err, ERR_INVALID, 0, "no token on standard input");
    ret_token[strcspn(ret_token, "\r\n")] = '\0';
    return 0;
}

static int run_join(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    char token[PAIR_TOKEN_MAX];

    if (read_token(cli, token, err) < 0
        || client_call(cli, "POST", "/v1/peers", json_pack("{s:s}", "token", token), &reply, err)
               < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "Paired with %s (%s)\n", json_get_str(reply, "name", ""),
                      json_get_str(reply, "address", ""));
    return 0;
}

static int run_unpair(struct cli *cli, struct err *err)
{
    CLEANUP(mem_freep) char *path = NULL;
    json_t *body = NULL;
    const char *name;

    if (cli_name_arg(cli, "SITE", &name, err) < 0)
        return -1;
    path = mem_printf("/v1/peers/%s", name);
    if (cli_flag(cli, "force"))
        body = json_pack("{s:b}", "force", true);
    if (client_call(cli, "DELETE", path, body, NULL, err) < 0)
        return -1;
    if (!cli->json)
        (void)fprintf(cli->out, "No longer paired with %s\n", name);
    return 0;
}

static int run_throttle(struct cli *cli, struct err *err)
{
    CLEANUP(mem_freep) char *path = NULL;
    const char *plan = cli_arg(cli, "RATE");
    const char *name;

    if (cli_name_arg(cli, "SITE", &name, err) < 0)
        return -1;
    path = mem_printf("/v1/peers/%s/throttle", name);
    if (client_call(cli, "PUT", path, json_pack("{s:s}", "throttle", plan), NULL, err) < 0)
        return -1;
    if (!cli->json)
        (void)fprintf(cli->out, "Sent to %s: %s\n", name, plan);
    return 0;
}

const struct cmd *cmds_site(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "site init",
            .help = "Makes a site: its authority, certificate, keys and config.lua.",
            .about = "With --dir everything is kept in that directory; without, in /etc/muster and "
                     "/var/lib/muster.\nNothing that is there is overwritten.",
            .args = {{"NAME", false, "the site's name: a-z 0-9 . _ -"}},
            .options = {{"listen", "ADDRESS",
                         "where the daemon listens for its peers, HOST:PORT; 0.0.0.0:7700"},
                        {"advertise", "ADDRESS",
                         "what peers connect to, if it is another address"}},
            .examples = {"site init paris --advertise paris.example.com:7700",
                         "--dir /srv/lyon site init lyon --listen 127.0.0.2:7700"},
            .run = run_init,
        },
        {
            .words = "site show",
            .help = "Shows this site, its daemon and its peers.",
            .run = run_show,
        },
        {
            .words = "site pair issue",
            .help = "Prints a token with which another site can pair with this one.",
            .about =
                "The token holds this site's address, the fingerprint of its key and a secret. "
                "It works once, for an hour.",
            .examples = {"site pair issue"},
            .run = run_issue,
        },
        {
            .words = "site pair join",
            .help = "Pairs with the site that issued the token.",
            .args = {{"TOKEN", false,
                      "what `muster site pair issue` printed there; - reads it "
                      "from standard input"}},
            .run = run_join,
        },
        {
            .words = "site throttle",
            .help = "Limits the bytes per second sent to a paired site.",
            .about =
                "For all machines together, which share it fairly: deltas come before initial "
                "copies. A machine's own limit is its setting `throttle`.\nThe rate at other times "
                "comes first, then windows of the week, each with its own, in quotes: \"50MiB; mon-fri "
                "08:00-18:00 10MiB\".",
            .args = {{"SITE", false, "the paired site"},
                     {"RATE", false, "50MiB; none; \"none; mon-fri 08:00-18:00 10MiB\""}},
            .examples = {"site throttle lyon 50MiB", "site throttle lyon none"},
            .run = run_throttle,
        },
        {
            .words = "site pair remove",
            .help = "Ends a pairing that protects no machine.",
            .args = {{"SITE", false, "the paired site"}},
            .options = {{"force", NULL,
                         "protections stay, and go on after the next pairing: the site was set up "
                         "anew"}},
            .run = run_unpair,
        },
        {0},
    };

    return cmds;
}
