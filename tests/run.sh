#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds Muster and runs its tests. Installs what it needs (as root, on Debian 12).
#
#   sh tests/run.sh           everything, as CI does it
#   sh tests/run.sh quick     what a developer runs all the time: lint, build, all but e2e
#   sh tests/run.sh PART...   lint | build | fast | e2e | sanitize | threads | tidy
#   sh tests/run.sh crash-long    the crash test with ten times as many crash points, 200,000 and more
#
# build/ has the ordinary build (gcc), build/asan and build/tsan the sanitized ones (clang).
set -eu
cd "$(dirname "$0")/.."
. examples/lib/packages.sh

jobs=$(nproc)
summary=""

# What only cuts and replays files needs no disk; the tests of real machines use one all the same.
memory=${TMPDIR:-/tmp}
if [ -w /dev/shm ] && [ "$(df -Pk /dev/shm | awk 'NR == 2 { print $4 }')" -gt 4000000 ]; then
    memory=/dev/shm
fi

say() {
    printf '\n=== %s\n' "$*"
}

part_packages() {
    # shellcheck disable=SC2086
    muster_install $muster_build_packages $muster_run_packages $muster_guest_packages \
        $muster_test_packages
}

part_lint() {
    say "Lint: format, layers, Lua"
    find replication engine lua tests examples -name '*.[ch]' -not -path '*/build/*' |
        xargs clang-format --dry-run --Werror
    sh tests/lint/layers.sh
    sh tests/lint/layers_test.sh
    luacheck --quiet plans lua examples
}

configure() { # DIR CMAKE-OPTIONS...
    dir=$1
    shift
    mkdir -p "$dir"
    cmake -S . -B "$dir" -G Ninja "$@" > "$dir/cmake.log" 2>&1 || {
        cat "$dir/cmake.log" >&2
        return 1
    }
}

part_build() {
    say "Build: gcc"
    configure build -DCMAKE_C_COMPILER=gcc
    ninja -C build -j "$jobs" --quiet
}

run_ctest() { # DIR WHAT CTEST-OPTIONS...
    dir=$1
    what=$2
    shift 2
    started=$(date +%s)
    ctest --test-dir "$dir" --output-on-failure --no-tests=error "$@"
    summary="$summary
  $what: $(($(date +%s) - started)) s"
}

# Adds up what the sweeps of the replication core said (tests/support/replica/crash.h).
sum_crash_points() { # FILE
    [ -f "$1" ] || return 0
    awk '{ n = $NF; NF--; sum[$0] += n; all += n }
         END { for (name in sum) printf "  crash points of %s: %d\n", name, sum[name]
               printf "  crash points of the replication core: %d\n", all }' "$1"
}

part_fast() {
    say "Tests: unit, lua, plans, crash, sim (gcc)"
    rm -f build/crash-points
    MUSTER_CRASH_TALLY=$PWD/build/crash-points TMPDIR=$memory \
        run_ctest build "gcc, all but e2e" -j "$jobs" -LE 'e2e'
    sum_crash_points build/crash-points
    summary="$summary
$(sum_crash_points build/crash-points | tail -1)"
}

part_crash_long() {
    say "The crash test of the replication core, ten times as long"
    configure build -DCMAKE_C_COMPILER=gcc
    programs=$(for file in tests/crash/replica/*.c tests/crash/sync/source.c; do
        [ ! -f "$file" ] || echo "$file" | sed 's,^tests/,,; s,\.c$,,; s,/,_,g; s,^,test_,'
    done)
    # shellcheck disable=SC2086
    ninja -C build -j "$jobs" --quiet $programs
    rm -f build/crash-points
    echo "$programs" | MUSTER_CRASH_TIMES=10 MUSTER_CRASH_TALLY=$PWD/build/crash-points \
        TMPDIR=$memory xargs -P "$jobs" -I{} build/tests/{}
    sum_crash_points build/crash-points
}

part_e2e() {
    say "Tests: real machines (gcc)"
    run_ctest build "gcc, e2e" -j "$jobs" -L 'e2e'
}

part_sanitize() {
    say "Build and tests: clang, AddressSanitizer and UndefinedBehaviorSanitizer"
    configure build/asan -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug \
        -DSANITIZE=address,undefined
    ninja -C build/asan -j "$jobs" --quiet
    # A sample of the sweeps that the ordinary build makes in full.
    MUSTER_CRASH_POINTS=600 MUSTER_SEEDS=100 MUSTER_FLIPS=200 TMPDIR=$memory \
        run_ctest build/asan "ASan+UBSan, all but e2e" -j "$jobs" -LE 'e2e'
    run_ctest build/asan "ASan+UBSan, e2e but the longest" -j "$jobs" -L 'e2e' -LE 'long'
}

part_threads() {
    say "Build and tests: clang, ThreadSanitizer"
    configure build/tsan -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DSANITIZE=thread
    ninja -C build/tsan -j "$jobs" --quiet
    MUSTER_SEEDS=100 TMPDIR=$memory run_ctest build/tsan "TSan, threaded rooms" -j "$jobs" -R '^(unit/(base|core|link|sync|replica|run|sites)|sim)/'
}

part_tidy() {
    say "clang-tidy"
    configure build/tidy -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug
    find replication engine lua -name '*.c' | xargs -P "$jobs" -n 4 clang-tidy-14 -p build/tidy --quiet
}

parts=${*:-"lint build fast e2e sanitize threads"}
[ "$parts" = quick ] && parts="lint build fast"
part_packages
for part in $parts; do
    case $part in
        lint | build | fast | e2e | sanitize | threads | tidy) "part_$part" ;;
        crash-long) part_crash_long ;;
        *)
            echo "tests/run.sh: unknown part '$part'; see the top of this file" >&2
            exit 2
            ;;
    esac
done
say "All passed: $parts"
echo "$summary"
