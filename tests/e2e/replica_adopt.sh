#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A site is lost but for a replica's folder and its keys. The folder says what it is without a daemon; a fresh site
# adopts it, shows its points and starts the machine in a test; once it is paired with the source, points come
# again. The same for a site whose database was lost.
. "$(dirname "$0")/lib/e2e.sh"

e2e_two_sites
e2e_machine db1 1 raw qcow2
q paris protect db1 --to lyon --interval 1s --keep 30 --encryption at-rest
wait_points lyon db1 4
saved=$work/saved
mkdir "$saved"

# Looking at it while it is at work, and at a copy on a read-only medium.
says() { # TEXT FILE
    grep -qF -e "$1" "$2" || no "it does not say '$1': $(cat "$2")"
}
build/muster replica inspect "$work/lyon/replicas/db1" > "$work/inspected" 2>&1 || no "inspect: $(cat "$work/inspected")"
for text in "group        db1" "open in a process now" "from         paris" "encryption   at rest" \
    "settings     a point every 1.0 s, 30 kept" "vda" "vdb" '"name":"db1"' "ready"; do
    says "$text" "$work/inspected"
done
ok "a replica at work tells what it is"
refused 4 "a process has it open" lyon replica adopt "$work/lyon/replicas/db1"

# The site is lost.
kill_daemon lyon
cp -a --sparse=always "$work/lyon/replicas/db1" "$saved/db1"
cp -a "$work/lyon/keys/db1.key" "$work/lyon/keys/db1.luks" "$saved"
newest=$(build/muster --json replica inspect "$saved/db1" | grep -o '"point":[0-9]*' | cut -d: -f2 | sort -n | tail -1)
mkdir "$work/cd"
mount --bind "$saved" "$work/cd"
mount -o remount,ro,bind "$work/cd"
cd_end() {
    ended=$?
    set +e
    umount "$work/cd" 2> /dev/null || true
    (exit "$ended")
    demo_end
}
trap cd_end EXIT
check "a copy on a read-only medium is looked at" build/muster replica inspect "$work/cd/db1" > "$work/ro"
umount "$work/cd"
mv "$work/lyon" "$work/lost"

# A fresh one in its place, of the same name and with an identity of its own.
demo_site lyon > /dev/null
demo_serve lyon
refused 4 "--move moves it there" lyon replica adopt "$saved/db1" --key "$saved/db1.key" --luks-key "$saved/db1.luks"
refused 3 "name its file with --key" lyon replica adopt "$saved/db1" --move
head -c 32 /dev/urandom > "$saved/other.key"
chmod 600 "$saved/other.key"
refused 4 "it is not the key of this replica" lyon replica adopt "$saved/db1" --key "$saved/other.key" --luks-key "$saved/db1.luks" --move
printf 0123456789abcdef > "$saved/other.luks"
chmod 600 "$saved/other.luks"
refused 4 "none of its key slots opens with the key" lyon replica adopt "$saved/db1" --key "$saved/db1.key" --luks-key "$saved/other.luks" --move
refused 3 "there is no replica in it" lyon replica adopt "$saved"
check "nothing was changed by that" build/muster replica inspect "$saved/db1" > "$work/again"
q lyon replica adopt "$saved/db1" --key "$saved/db1.key" --luks-key "$saved/db1.luks" --move > "$work/adopted"
says "paris is not paired with this site" "$work/adopted"
says "\`muster test-failover db1\`" "$work/adopted"
check "it is where its replicas are" test -d "$work/lyon/replicas/db1" -a ! -e "$saved/db1"
check "its keys are kept" test "$(stat -c %a "$work/lyon/keys/db1.luks")" = 600
check "its points are there, to $newest" has_points lyon db1 "$newest"
refused 4 "is there already" lyon replica adopt "$work/lost/replicas/db1" --key "$saved/db1.key" --luks-key "$saved/db1.luks"
q lyon test-failover db1 > /dev/null
wait_console lyon db1 'RECORDS '
line=$(records lyon db1)
check "a test starts the machine, its records whole: $line" whole "$line"
q lyon cleanup db1 > /dev/null

# The source goes on once they are paired.
says "\`muster site pair remove lyon --force\` there first" "$work/adopted"
refused 4 "db1 is protected between this site and lyon" paris site pair remove lyon
q paris site pair remove lyon --force > /dev/null
q paris site pair join "$(q lyon site pair issue)" > "$work/paired" 2>&1 || no "pairing: $(cat "$work/paired")"
q paris retry db1 > /dev/null
wait_points lyon db1 $((newest + 2))
ok "points come again, $(newest_point lyon db1)"
q lyon show db1 > "$work/shown"
says "a point every 1.0 s, 30 kept" "$work/shown"
says "encryption   at rest" "$work/shown"
ok "with the settings that travelled with it"

# The database alone is lost.
kill_daemon lyon
rm -f "$work/lyon"/state.db*
demo_serve lyon
refused 3 "db1" lyon points db1
q lyon replica adopt "$work/lyon/replicas/db1" > "$work/adopted"
check "a site without its database needs no key named" grep -q "is this site's again" "$work/adopted"
first=$(newest_point lyon db1)
q paris retry db1 > /dev/null
wait_points lyon db1 $((first + 2))
ok "and points go on, $(newest_point lyon db1)"

e2e_done
