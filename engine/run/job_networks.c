// SPDX-License-Identifier: Apache-2.0
/* Networks of a protection: {network at the site that sends: network at the other one}, in the rows of
 * both. The finalize task of protect tells the other site, later changes go with copy-settings. */
#include "base/mem.h"
#include "run/job.h"

#define NETWORK_BYTES 64 /* as in struct machine_nic */

static bool is_network(const char *text)
{
    return strlen(text) < NETWORK_BYTES
           && (str_eq(text, "user") || (str_starts(text, "bridge ") && text[strlen("bridge ")]));
}

int job_networks_check(const json_t *networks, struct err *err)
{
    const char *there;
    json_t *here;

    if (networks && !json_is_object(networks))
        return err_set(err, ERR_INVALID, 0, "networks is no object");
    json_object_foreach((json_t *)(uintptr_t)networks, there, here) {
        const char *name = json_is_string(here) ? json_string_value(here) : "";

        if (!is_network(there) || !is_network(name))
            return err_set(err, ERR_INVALID, 0,
                           "networks: \"%.64s\" to \"%.64s\"; hint: each is \"user\" or \"bridge "
                           "NAME\"",
                           there, name);
    }
    return 0;
}

json_t *job_networks_get(const char *settings)
{
    CLEANUP(json_freep) json_t *json = NULL;
    struct err none = ERR_EMPTY;

    if (json_parse(settings, strlen(settings), &json, &none) < 0)
        return json_object();
    json_t *networks = json_object_get(json, "networks");
    return json_is_object(networks) ? json_incref(networks) : json_object();
}

int job_networks_set(char **settings, const json_t *networks, struct err *err)
{
    CLEANUP(json_freep) json_t *json = NULL;

    if (json_parse(*settings, strlen(*settings), &json, err) < 0)
        return err_wrap(err, "settings of a protection");
    if (json_object_size(networks) > 0)
        (void)json_object_set_new(json, "networks", json_deep_copy(networks));
    else
        (void)json_object_del(json, "networks");
    free(*settings);
    *settings = json_text(json);
    return 0;
}
