// SPDX-License-Identifier: Apache-2.0
#include "support/qemu/fake_agent.h"

#include "base/json.h"
#include "base/mem.h"

static char *sync_answer(const json_t *command)
{
    return mem_printf("\xff{\"return\": %lld}\n",
                      (long long)json_integer_value(
                          json_object_get(json_object_get(command, "arguments"), "id")));
}

static char *info(const struct fake_guest *guest)
{
    return mem_printf("{\"return\": {\"version\": \"9\", \"supported_commands\": [{\"name\": "
                      "\"guest-fsfreeze-thaw\", \"enabled\": %s}]}}\n",
                      guest->blocked ? "false" : "true");
}

static char *freeze(struct fake_guest *guest)
{
    if (guest->refuses)
        return fake_qmp_say(
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"hook failed\"}}");
    guest->freezes++;
    guest->frozen = !guest->has_nothing;
    if (guest->on_freeze)
        guest->on_freeze(guest->ctx);
    if (guest->dies_at_freeze)
        return NULL;
    if (guest->silent_freeze)
        return mem_strdup("");
    return fake_qmp_say(guest->has_nothing ? "{\"return\": 0}" : "{\"return\": 2}");
}

static char *thaw(struct fake_guest *guest)
{
    if (guest->refused_thaws > 0) {
        guest->refused_thaws--;
        return fake_qmp_say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"not yet\"}}");
    }
    guest->thaws++;
    bool was = guest->frozen;
    guest->frozen = false;
    return fake_qmp_say(was ? "{\"return\": 2}" : "{\"return\": 0}");
}

static char *answer(void *ctx, const json_t *command)
{
    const char *name = json_get_str(command, "execute", "");
    struct fake_guest *guest = ctx;
    char *said;

    (void)pthread_mutex_lock(&guest->lock);
    if (guest->deaf)
        said = mem_strdup("");
    else if (str_eq(name, "guest-sync-delimited"))
        said = sync_answer(command);
    else if (str_eq(name, "guest-info"))
        said = info(guest);
    else if (str_eq(name, "guest-fsfreeze-status"))
        said =
            fake_qmp_say(guest->frozen ? "{\"return\": \"frozen\"}" : "{\"return\": \"thawed\"}");
    else if (str_eq(name, "guest-fsfreeze-freeze"))
        said = freeze(guest);
    else if (str_eq(name, "guest-fsfreeze-thaw"))
        said = thaw(guest);
    else
        said = fake_qmp_say("{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}");
    (void)pthread_mutex_unlock(&guest->lock);
    return said;
}

void fake_guest_init(struct fake_guest *guest)
{
    *guest = (struct fake_guest){.lock = PTHREAD_MUTEX_INITIALIZER};
}

struct fake_qmp *fake_agent_new(struct fake_guest *guest, const char *path)
{
    const struct fake_qmp_config config = {
        .path = path, .greeting = "", .answer = answer, .ctx = guest};

    return fake_qmp_new(&config);
}

bool fake_guest_is_frozen(struct fake_guest *guest)
{
    (void)pthread_mutex_lock(&guest->lock);
    bool frozen = guest->frozen;
    (void)pthread_mutex_unlock(&guest->lock);
    return frozen;
}

void fake_guest_thaw(struct fake_guest *guest)
{
    (void)pthread_mutex_lock(&guest->lock);
    guest->frozen = false;
    (void)pthread_mutex_unlock(&guest->lock);
}
