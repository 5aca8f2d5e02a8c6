#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a person or a peer can get wrong: each is refused by the exit code that is documented and a text
# that names the place, the value and what to do. No guest is started.
. "$(dirname "$0")/lib/e2e.sh"

# said CODE TEXT... -- COMMAND...: exits with CODE and says each TEXT.
said() {
    want=$1
    shift
    texts=()
    while [ "$1" != -- ]; do
        texts+=("$1")
        shift
    done
    shift
    code=0
    out=$(timeout 60 "$@" 2>&1 < /dev/null) || code=$?
    [ "$code" = "$want" ] || no "'$*' exited $code, wanted $want: $out"
    for text in "${texts[@]}"; do
        case $out in *"$text"*) ;; *) no "'$*' lacks '$text': $out" ;; esac
    done
    ok "${texts[*]}"
}

# --- Before there is a daemon ------------------------------------------------------------------

demo_begin
refused 3 "no site in" nowhere status
refused 3 "site init NAME" nowhere serve
refused 2 '"a/b"' paris site init a/b
demo_site paris > /dev/null 2>&1
demo_site lyon > /dev/null 2>&1
refused 4 "there is a site already" paris site init paris
refused 5 "serve\`" paris status

# --- config.lua: nothing starts, and the line is named -----------------------------------------

mkdir "$work/bad"
cp -r "$work/paris/identity" "$work/bad/"
config_refused() { # CODE TEXT..., the file on stdin
    cat > "$work/bad/config.lua"
    code_wanted=$1
    shift
    said "$code_wanted" "$@" -- "$muster" --dir "$work/bad" serve
}

config_refused 1 'config.lua:3: adress: unknown field' 'did you mean "address"?' << EOF_LUA
return {
  site = "paris",
  adress = "$net.3:7700",
}
EOF_LUA
config_refused 1 'config.lua:2: data_threads: must be a number from 1 to 64' << EOF_LUA
return { site = "paris",
  data_threads = "many" }
EOF_LUA
config_refused 1 'config.lua:2: address: "localhost" is not "HOST:PORT"' << EOF_LUA
return { site = "paris",
  address = "localhost" }
EOF_LUA
config_refused 1 'config.lua:3: ' '<eof>' << EOF_LUA
return { site = "paris",

EOF_LUA
config_refused 1 "config.lua" "ran for more than" "a loop" << EOF_LUA
while true do end
EOF_LUA
config_refused 4 "config.lua:2: 'os' is not here" << EOF_LUA
return {
  site = os.getenv("HOME") }
EOF_LUA
config_refused 1 'config.lua: site: "rome"' 'is of site "paris"' 'write site = "paris"' << EOF_LUA
return { site = "rome", address = "$net.3:7700" }
EOF_LUA

demo_serve paris
demo_serve lyon
said 4 "has a daemon already" "locked by process" -- "$muster" --dir "$work/paris" serve

# --- Pairing -----------------------------------------------------------------------------------

token=$(q lyon site pair issue)
# Another last digit is another secret; another first digit of the fingerprint another key.
secret=${token%?}$(printf '%s' "${token: -1}" | tr 0-9a-f 1-9a-f0)
key=$(printf '%s' "$token" | awk -F: -v OFS=: '{ c = substr($4, 1, 1); $4 = (c == "0" ? "1" : "0") substr($4, 2); print }')
refused 1 "not a pairing token" paris site pair join "$token"x
refused 1 'it begins with "muster1:"' paris site pair join nonsense
refused 4 "does not have the key named in the token" paris site pair join "$key"
refused 4 "no such token" paris site pair join "$secret"
refused 5 "cannot reach" paris site pair join "$(printf '%s' "$token" | sed "s/$net.2/$net.9/")"
check "nothing was paired by all that" test -z "$(q paris site show | grep lyon || true)"
q paris site pair join "$token" > /dev/null
refused 4 "no such token, or it was used" paris site pair join "$token"
refused 3 'not paired with a site named "rome"' paris site pair remove rome

# --- Machines ----------------------------------------------------------------------------------

machine_refused() { # CODE TEXT..., the file on stdin
    cat > "$work/m.lua"
    code_wanted=$1
    shift
    said "$code_wanted" "$@" -- "$muster" --dir "$work/paris" machine add "$work/m.lua"
}
truncate -s 16M "$work/m1.raw"
machine_refused 1 "m.lua:2: m1: unknown field 'diks'" "did you mean 'disks'?" << EOF_LUA
return { name = "m1", memory = "64MiB",
  diks = { { path = "$work/m1.raw", format = "raw" } } }
EOF_LUA
machine_refused 1 "'memory' must be a size like \"2GiB\"" << EOF_LUA
return { name = "m1", memory = "much",
  disks = { { path = "$work/m1.raw", format = "raw" } } }
EOF_LUA
machine_refused 1 "m.lua:2: m1: 'memory' is missing" 'memory = "2GiB"' << EOF_LUA
-- m1
return { name = "m1",
  disks = { { path = "$work/m1.raw", format = "raw" } } }
EOF_LUA
machine_refused 1 "m.lua:1: " "'name' is \"../m1\", which is no name" << EOF_LUA
return { name = "../m1", memory = "64MiB", disks = { { path = "$work/m1.raw", format = "raw" } } }
EOF_LUA
machine_refused 1 "m.lua" "qcow9" << EOF_LUA
return { name = "m1", memory = "64MiB", disks = { { path = "$work/m1.raw", format = "qcow9" } } }
EOF_LUA
refused 3 "No such file" paris machine add "$work/nowhere.lua"
for name in m1 m2; do
    cat > "$work/$name.lua" << EOF_LUA
return { name = "$name", memory = "64MiB", disks = { { path = "$work/$name.raw", format = "raw" } } }
EOF_LUA
done
q paris machine add "$work/m1.lua" > /dev/null
refused 4 "machine m1 is there already" paris machine add "$work/m1.lua"
said 0 "it would not start: disk vda: $work/m2.raw: No such file" -- \
    "$muster" --dir "$work/paris" machine add "$work/m2.lua"
refused 3 'no machine "nope"' paris machine start nope
refused 2 '"../x" is no name' paris machine show ../x
refused 2 '"5parsecs" is no duration' paris machine stop m1 --within 5parsecs

# --- Protection --------------------------------------------------------------------------------

refused 3 'no machine "nope"' paris protect nope --to lyon
refused 4 '2 prerequisites of protecting m2 are not met: (1) disk vda' paris protect m2 --to berlin
refused 4 '(2) not paired with a site "berlin", only with: lyon' paris protect m2 --to berlin
refused 2 "--to SITE is missing" paris protect m1
refused 2 "--to needs a SITE" paris protect m1 --to
refused 2 "did you mean --to?" paris protect m1 --too lyon
refused 2 '"1x" is no duration' paris protect m1 --to lyon --interval 1x
refused 2 "--interval: 0s is out of range" paris protect m1 --to lyon --interval 0s
refused 2 "hint: from point to point, 1s to 24h" paris protect m1 --to lyon --interval 25h
refused 2 '"-1" is no number' paris protect m1 --to lyon --keep -1
refused 2 "--keep: 99999999999999 is out of range" paris protect m1 --to lyon --keep 99999999999999
refused 2 "hint: zstd, lz4, none or adaptive" paris protect m1 --to lyon --compression gzip
refused 2 "--keep: 0 is out of range" paris settings m1 --keep 0
refused 3 'no protection of "m1"' paris unprotect m1
refused 3 "m1 is not protected" paris status m1
check "nothing of all that is protected" test -z "$(ls "$work/lyon/replicas")"
q paris protect m1 --to lyon --interval 1s > /dev/null
refused 4 "m1 is protected to lyon already" paris protect m1 --to lyon
refused 4 "\`muster unprotect m1\` first" paris machine remove m1
refused 4 "m1 is protected between this site and lyon" paris site pair remove lyon
ageless() { q "$1" --json points m1 | sed 's/"age_ms":[0-9]*//g'; }
same_points() { test "$(ageless paris)" = "$(ageless lyon)"; }
wait_for 20 "both sites to tell the same points" same_points
check "and not none" test -n "$(ageless paris | grep '"point":1,')"
check "in the same columns" test "$(q paris points m1 | head -1)" = "$(q lyon points m1 | head -1)"
refused 4 "run this at lyon" paris failover m1 --planned --yes
refused 4 "run this at lyon" paris test-failover m1
refused 3 'lyon holds no replica of "nope"' lyon failover nope --unplanned --yes
refused 2 "say which: --planned" lyon failover m1
refused 2 "say which: --planned" lyon failover m1 --planned --unplanned

# --- Commands ----------------------------------------------------------------------------------

refused 2 'unknown command "frob"' paris frob
refused 2 "not a whole command" paris machine
refused 2 "NAME is missing" paris points
refused 2 '"b" is one argument too many' paris status a b
refused 2 '"x" is no number' paris run cancel x
refused 2 "--point: 0 is out of range" lyon test-failover m1 --point 0
refused 2 "--limit: 10001 is out of range" paris audit --limit 10001
refused 3 "no job 99" paris jobs show 99
refused 4 "job 1 has ended: failed" paris jobs cancel 1
refused 3 "no run 7" lyon run cancel 7
refused 3 "no test of m1 is to be cleaned" lyon cleanup m1
refused 3 "no run 7" lyon cleanup 7
refused 3 'no plan "nope"' lyon run nope --kind test
refused 2 "test, planned, unplanned, failback or cleanup" lyon run nope --kind rehearsal
refused 2 "--kind is missing" lyon run nope

# --- Plans -------------------------------------------------------------------------------------

plan_refused() { # CODE TEXT..., the plan on stdin
    cat > "$work/p.lua"
    code_wanted=$1
    shift
    said "$code_wanted" "$@" -- "$muster" --dir "$work/lyon" plan check "$work/p.lua"
}
plan_refused 1 "p.lua:2: unknown word 'failovr' (did you mean 'failover'?)" << EOF_LUA
return plan "p" { stage "S" {
  step "a" { failovr "m1" } } }
EOF_LUA
plan_refused 1 "p.lua:2: error: failover: unknown machine 'm9' (did you mean 'm1'?)" "1 error" << EOF_LUA
return plan "p" { stage "S" {
  step "a" { failover "m9" } } }
EOF_LUA
plan_refused 1 "p.lua:2: error: plan \"p\": unknown field 'rot' (did you mean 'rto'?)" \
    "p.lua:4: error: step \"a\": unknown field 'on_failre' (did you mean 'on_failure'?)" \
    "p.lua:5: error: wait_until: unknown field 'agnt' (did you mean 'agent'?)" \
    "p.lua:6: error: wait_until: within: \"5 parsecs\" is no duration" << EOF_LUA
return plan "p" {
  rot = "10m",
  stage "S" {
    step "a" { failover "m1", on_failre = "continue" },
    step "b" { wait_until { agnt = "m1" } },
    step "c" { wait_until { agent = "m1", within = "5 parsecs" } } } }
EOF_LUA
plan_refused 1 "p.lua:2: unexpected symbol" << EOF_LUA
return plan "p" {
EOF_LUA
plan_refused 1 "returns nothing" 'return plan "name"' < /dev/null
plan_refused 4 "p.lua:2: 'io' is not here" << EOF_LUA

local f = io.open("/etc/passwd")
EOF_LUA
plan_refused 4 "p.lua:1: 'os' is not here" << EOF_LUA
os.execute("touch $work/owned")
EOF_LUA
check "nothing was executed" test ! -e "$work/owned"
plan_refused 4 "p.lua:1: 'require' is not here" << EOF_LUA
local socket = require "socket"
EOF_LUA
plan_refused 1 "p.lua: needs more than 64.0 MiB of memory" << EOF_LUA
local t = {} while true do t[#t + 1] = string.rep("x", 1000000) end
EOF_LUA
# By processor time, or by the wall clock where others keep the processors busy.
plan_refused 1 "p.lua: " << EOF_LUA
while true do end
EOF_LUA
case $out in
    *"ran for more than"* | *"not finished after"*) ok "a plan that loops for ever is ended" ;;
    *) no "a plan that loops for ever: $out" ;;
esac
head -c 100000 /dev/urandom > "$work/p.lua"
refused 1 "p.lua is not UTF-8 text" lyon plan check "$work/p.lua"
refused 3 "No such file" lyon plan add "$work/nowhere.lua"
check "no plan was kept" test -z "$(q lyon --json plan list | grep -o '"name":"p"' || true)"

# --- Somebody else answers at lyon's address ---------------------------------------------------

session_says() { # TEXT
    case $(q paris status m1) in *"$1"*) ;; *) return 1 ;; esac
}
# An impostor takes lyon's place: its own identity, lyon's address.
impostor() { # DIRECTORY NAME TEXT
    "$muster" --dir "$work/$1" site init "$2" --listen "$net.2:7700" > /dev/null
    demo_serve "$1" > /dev/null
    q paris retry m1 > /dev/null
    wait_for 20 "'$3'" session_says "$3"
    check "then m1 is critical: $3" session_says "critical"
    eval "kill_daemon $1"
    rm -rf "${work:?}/$1"
}
interval_is() { test "$(q "$1" --json status m1 | grep -o '"interval_ms":[0-9]*')" = "\"interval_ms\":$2"; }
q paris settings m1 --interval 2s > /dev/null
check "the change counts at paris" interval_is paris 2000
wait_for 20 "lyon to judge by the new interval" interval_is lyon 2000
kill_daemon lyon
q paris settings m1 --interval 1s > /dev/null
kill_daemon paris
demo_serve paris
refused 5 "the points of m1 are kept at lyon: " paris points m1
refused 5 "ask there: \`muster points m1\`" paris points m1
impostor other lyon 'is not by the authority that site "paris" pinned for it'
impostor rome rome 'this is site "rome", not "lyon"'
demo_serve lyon
printf changed | dd of="$work/m1.raw" conv=notrunc status=none
before=$(newest_point lyon m1)
q paris retry m1 > /dev/null
wait_points lyon m1 $((before + 1))
wait_for 30 "lyon to hear what was changed without it" interval_is lyon 1000
check "the real lyon has it all" cmp "$work/m1.raw" "$work/lyon/replicas/m1/vda/head.raw"
q paris unprotect m1 > /dev/null
refused 3 'no protection of "m1"' paris unprotect m1
e2e_done
