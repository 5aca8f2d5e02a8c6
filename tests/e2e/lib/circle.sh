# SPDX-License-Identifier: Apache-2.0
# Sourced by tests of commit and the way back.

no_loss() { # FROM NAME TO: what was acknowledged last at FROM was found at TO, whole
    wait_console "$1" "$2" 'WRITER STOPPED'
    last=$(acked "$1" "$2")
    wait_console "$3" "$2" 'RECORDS '
    line=$(records "$3" "$2")
    check "$2 is whole at $3" whole "$line"
    check "$2 lost nothing: acknowledged $last at $1, found $(field "$line" last)" \
        test "$(field "$line" last)" = "$last"
}

commits() { # SITE NAME: and is protected to the other one, with points that go on
    wait_new_records "$1" "$2"
    q "$1" commit "$2"
    protected_at "$1" "$2"
    first=$(newest_point "$1" "$2")
    wait_points "$1" "$2" $((first + 2))
    ok "$2 is sent from $1, point $(newest_point "$1" "$2")"
}
