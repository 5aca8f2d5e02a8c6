// SPDX-License-Identifier: Apache-2.0
#include "cli/point.h"

#include "base/mem.h"
#include "cli/client.h"

int cli_point_option(struct cli *cli, struct cli_point *ret_point, struct err *err)
{
    const char *text = cli_option(cli, "point");
    uint64_t number;

    if (text && str_eq(text, "application")) {
        *ret_point = (struct cli_point){.application = true};
        return 0;
    }
    if (text && !str_to_u64(text, &number))
        return cli_usage(
            cli, err, "--point: \"%.80s\" is no number; hint: 1 or more, or `application`", text);
    return cli_number_option(cli, "point", 1, INT64_MAX, &ret_point->number, err);
}

/* A promotion has the data of the point it chose, and is none to start from; a damaged point would be
 * refused. */
static bool is_wanted(const json_t *point)
{
    return str_eq(json_get_str(point, "consistency", ""), "application")
           && json_get_bool(point, "applied", false) && !json_get_bool(point, "promotion", false)
           && json_get_u64(point, "damaged", 0) == 0;
}

int cli_point_find(struct cli *cli, const char *machine, uint64_t *ret_point, struct err *err)
{
    CLEANUP(json_freep) json_t *reply = NULL;
    const json_t *point;
    size_t i;

    if (client_get(cli, &reply, err, "/v1/protections/%s/points", machine) < 0)
        return -1;
    json_array_foreach(json_object_get(reply, "points"), i, point)
        if (is_wanted(point)) { /* newest first */
            *ret_point = json_get_u64(point, "point", 0);
            return 0;
        }
    return err_set(err, ERR_NOT_FOUND, 0,
                   "no application-consistent point of %s is kept; hint: `muster points %s` lists "
                   "what is, `muster status %s` where it is sent from says why none could be made",
                   machine, machine, machine);
}
