// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include "base/fs.h"
#include "base/mem.h"
#include "support/expect.h"
#include "support/tmpdir.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Somebody listens, and never says a word. */
static int listen_at(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(strlen(path) < sizeof(at.sun_path));
    memcpy(at.sun_path, path, strlen(path));
    assert_int_equal(bind(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 4), 0);
    return fd;
}

static void a_daemon_that_hangs_is_not_waited_for_for_ever(void **dir)
{
    struct cli cli = {.socket = path_join(*dir, "muster.sock"), .answer_ms = 50};
    CLEANUP(fd_close) int fd = listen_at(cli.socket);
    json_t *reply = NULL;

    assert_true(fd >= 0);
    EXPECT_ERR(ERR_NET, client_get(&cli, &reply, &err, "/v1/status"));
    EXPECT_TEXT("muster.sock took the question and does not answer; hint: its log");
    client_close(&cli);
    free(cli.socket);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TMPDIR_TEST(a_daemon_that_hangs_is_not_waited_for_for_ever),
    };
    return cmocka_run_group_tests_name("client", tests, NULL, NULL);
}
