// SPDX-License-Identifier: Apache-2.0
#include "sites/site.h"

#include "base/json.h"

#include <stddef.h>

int site_ask(struct site *site, const char *what, json_t *args, json_t **ret_result,
             struct cancel *cancel, struct err *err)
{
    CLEANUP(json_freep) json_t *owned = args;
    CLEANUP(json_freep) json_t *result = NULL;

    if (cancel_check(cancel, err) < 0)
        return -1;
    if (site->ops->ask(site, what, owned, &result, cancel, err) < 0)
        return -1;
    if (ret_result)
        *ret_result = result ? json_incref(result) : json_object();
    return 0;
}

void site_close(struct site *site)
{
    if (site)
        site->ops->close(site);
}

void site_closep(struct site **site)
{
    site_close(*site);
    *site = NULL;
}
