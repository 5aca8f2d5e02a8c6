// SPDX-License-Identifier: Apache-2.0
/* A guest may take minutes to shut down, or never do it: it is asked again and again, and between that
 * its machine's lock and monitor are free, so that others can look at it, and stop it by force. */
#include "sites/site_local.h"

#define ASK_MS  5000 /* a guest that is up is off by then */
#define REST_MS 25000
#define LOOK_MS 250

static bool is_off(enum instance_state state)
{
    return state == INSTANCE_OFF || state == INSTANCE_SHUTDOWN;
}

static int ask(struct provider *provider, const struct provider_instance *view,
               struct cancel *cancel, struct err *err)
{
    enum instance_state state;

    if (provider->observe(provider, view, &state, cancel, err) < 0)
        return -1;
    return is_off(state) ? 0 : provider->shutdown(provider, view, cancel, err);
}

/* 1: the guest is off, 0: not within REST_MS. */
static int rest(struct estate *estate, const struct provider_instance *view, struct cancel *cancel,
                struct err *err)
{
    struct provider *provider = estate_provider(estate);
    struct clock *clock = estate_clock(estate);
    CLEANUP(cancel_freep) struct cancel *limit = cancel_new(clock, cancel, REST_MS);

    while (cancel_left_ms(limit) > 0) {
        CLEANUP(cancel_freep) struct cancel *look = cancel_new(clock, cancel, ASK_MS);
        enum instance_state state;
        struct err busy;

        if (cancel_sleep(cancel, LOOK_MS, err) < 0)
            return err_wrap(err, "machine %s: its guest did not shut down", view->machine->name);
        /* Somebody else may be speaking to its monitor: the next look tells. */
        if (provider->observe(provider, view, &state, look, &busy) == 0 && is_off(state))
            return 1;
    }
    return 0;
}

int site_shutdown(struct estate *estate, const struct provider_instance *view, const char *lock,
                  struct cancel *cancel, struct err *err)
{
    int off = 0;

    while (off == 0) {
        CLEANUP(cancel_freep)
        struct cancel *limit = cancel_new(estate_clock(estate), cancel, ASK_MS);

        estate_machine_lock(estate, lock);
        int rc = ask(estate_provider(estate), view, limit, err);
        estate_machine_unlock(estate, lock);
        if (rc == 0)
            return 0;
        if (err->code != ERR_TIMEOUT || cancel_left_ms(cancel) == 0)
            return -1;
        err_clear(err);
        off = rest(estate, view, cancel, err);
    }
    return off < 0 ? -1 : 0;
}
