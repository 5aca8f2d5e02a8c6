// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"
#include "cli/cmd.h"
#include "cli/show.h"
#include "cli/table.h"
#include "state/state.h"

#include <inttypes.h>

static int run_audit(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    CLEANUP(str_free) struct str out = STR_EMPTY;
    uint64_t limit = 50;

    if (cli_number_option(cli, "limit", 1, STATE_AUDIT_LIST_MAX, &limit, err) < 0
        || client_get(cli, &reply, err, "/v1/audit?limit=%" PRIu64, limit) < 0)
        return -1;
    if (cli->json) {
        cli_print_json(cli, json_object_get(reply, "entries"));
        return 0;
    }
    show_audit(json_object_get(reply, "entries"), &out);
    (void)fputs(str_text(&out), cli->out);
    return 0;
}

static int run_verify(struct cli *cli, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;

    if (client_get(cli, &reply, err, "/v1/audit/verify") < 0)
        return -1;
    if (cli->json)
        cli_print_json(cli, reply);
    else
        (void)fprintf(cli->out, "%" PRId64 " entries, none altered or missing\n",
                      json_get_int(reply, "entries", 0));
    return 0;
}

const struct cmd *cmds_audit(void)
{
    static const struct cmd cmds[] = {
        {
            .words = "audit",
            .help = "Lists who did what, newest last.",
            .options = {{"limit", "N", "how many, 1 to 10000; 50"}},
            .run = run_audit,
        },
        {
            .words = "audit verify",
            .help = "Checks the log's chain of hashes.",
            .run = run_verify,
        },
        {0},
    };

    return cmds;
}
