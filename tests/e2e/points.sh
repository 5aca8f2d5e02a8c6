#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Points are pinned and pruned from either site while a machine works and its points go on: a pinned point is
# the same bytes afterwards, its guest's records are whole, and what is being looked at cannot be let go by hand.
. "$(dirname "$0")/lib/e2e.sh"
. tests/e2e/lib/kills.sh

e2e_two_sites
e2e_machine db1 1 raw qcow2
q paris protect db1 --to lyon --interval 1s --keep 4 > /dev/null
wait_points lyon db1 3
point=$(newest_point lyon db1)
to=$work/out
mkdir "$to"
export_vda() { q lyon export db1 "$to/$1" --point "$point" --disk vda > "$work/export.log" || no "export: $(cat "$work/export.log")"; }
numbers() { points_listed db1 | cut -d' ' -f1; }
listed() { numbers | grep -qx "$1"; }

check "the sending site pins" grep -q "stays, pinned as \"upgrade\"" <(q paris point pin db1 "$point" --label upgrade)
export_vda before.raw
refused 4 "the label \"upgrade\" is that of point $point" lyon point pin db1 $((point + 1)) --label upgrade
refused 3 "has no point 99999" paris point pin db1 99999 --label x
refused 3 "no point is pinned as \"other\"" paris point unpin db1 other

# What is between goes, and with it files are merged.
wait_points lyon db1 $((point + 14))
check "the pinned point is there" listed "$point"
check "what came after it is not" test "$(numbers | awk -v p="$point" '$1 > p && $1 < p + 6' | wc -l)" -le 1
check "it is said why" grep -q "pinned as upgrade" <(q paris points db1)
export_vda after.raw
check "its bytes are those of before" cmp "$to/before.raw" "$to/after.raw"
q lyon export db1 "$to/vdb.raw" --point "$point" --disk vdb > /dev/null
line=$(judge_images "$to/after.raw" "$to/vdb.raw")
check "the guest's records in it are whole: $line" whole "$line"

# What is looked at stays.
"$muster" --dir "$work/lyon" view db1 --point "$point" --disk vda > "$work/view.uri" 2> "$work/view.log" &
viewer=$!
view_is_up() { test -s "$work/view.uri"; }
wait_for 30 "a view" view_is_up
view=$(q lyon --json points db1 | grep -o 'view view-[^"]*' | head -1 | cut -d' ' -f2)
refused 4 "is held by view $view" lyon point unpin db1 "$view"
q lyon point unpin db1 upgrade > /dev/null
check "a dry run says what would go" grep -q "would go" <(q paris prune db1 --keep 1 --dry-run)
q paris prune db1 --keep 1 > "$work/prune.log"
check "pruning says what went: $(tail -1 "$work/prune.log")" grep -q "Removed" "$work/prune.log"
check "what a view holds is still there" listed "$point"
qemu-img convert -O raw "$(cat "$work/view.uri")" "$to/viewed.raw"
check "the view shows the same bytes" cmp "$to/before.raw" "$to/viewed.raw"
kill $viewer && wait $viewer || true
q lyon prune db1 --keep 1 > /dev/null
check "and is gone when nothing holds it" bash -c "! grep -qx $point" < <(numbers)
check "it is in the audit log of who asked" grep -q "point.prune" <(q paris audit)
wait_points lyon db1 $(($(newest_point lyon db1) + 3))
ok "points went on"
e2e_done
