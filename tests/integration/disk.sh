#!/usr/bin/env bash
# Disks that are full, under every program: said in one sentence, the rest of the network goes on,
# nothing is half-written, and with room again it goes on where it was.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mounted=()
unmount() {
    local place
    for place in "${mounted[@]}"; do umount "$place" 2>/dev/null || umount -l "$place" 2>/dev/null; done
    mounted=()
}
trap 'unmount; at_exit' EXIT

# small_disk PLACE SIZE: a file system of its own; fails where that is not allowed.
small_disk() {
    mkdir -p "$1"
    mount -t tmpfs -o "size=$2" none "$1" 2>/dev/null || return 1
    mounted+=("$1")
}

says() { grep -q "$2" "$dir/log/$1.log"; }
says_since() { tail -n +"$(($2 + 1))" "$dir/log/$1.log" | grep -q "$3"; }
fleet_failed() { ended fleet && tail -n 3 "$dir/log/fleet.log" | grep -q '^ami-meter: .*no room to write'; }
level_with() { height_at_least "$1" "$(height_of "$2")"; }

up a
enrol_meters 8
big=(--batch 300 --interval 100)
start_fleet "${big[@]}"

say "the ledger of a follower may not grow"
lead=$(who_leads) || give_up "nobody leads"
victim=dc$((lead % nodes + 1))
number=${victim#dc}
stop "$victim" || complain "$victim did not stop"
expect 1 "at least 1048576" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/$victim" \
    --map-bytes 4096
from=$(log_lines "$victim")
start "$victim" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/$victim" --map-bytes 1048576
wait_ready "$victim" 30 "$from"
soon 60 "$victim says that its ledger is full" says "$victim" 'read_only .*ledger has no room.*--map-bytes'
goes_on 20 "the others go on"
check "$victim hides that writes fail" [ "$(status_of "$number" '.nodes[0].counters.writes_failed')" -gt 0 ]
runs "$victim" >/dev/null || complain "$victim ended although room may come back"
stop "$victim" || complain "$victim did not stop"
expect 0 "" "$bin/dc-cli" audit --data "$dir/$victim/ledger" --genesis "$dir/genesis.json"
start_dc "$number"
soon 30 "$victim catches up with room" level_with "$number" "$lead"

read_only_is() { [ "$(status_of "$1" '.nodes[0].read_only')" = "$2" ]; }
if small_disk "$work/small" 16m; then
    say "the file system of a follower's ledger fills up while it runs, and has room again"
    stop "$victim" || complain "$victim did not stop"
    mv "$dir/$victim"/* "$work/small/" # all of it: with a new ledger the key would be refused
    rmdir "$dir/$victim"
    ln -s "$work/small" "$dir/$victim"
    start_dc "$number"
    soon 30 "$victim catches up on the small disk" level_with "$number" "$lead"
    from=$(log_lines "$victim")
    # Filled up behind it, to the last page.
    head -c 100000000 /dev/zero >"$work/small/filler" 2>/dev/null
    soon 30 "$victim is read-only" read_only_is "$number" true
    goes_on 20 "the others go on"
    tail -n +"$((from + 1))" "$dir/log/$victim.log" | grep -q 'read_only .*no room' ||
        complain "$victim does not say that the disk is full"
    # What it has is served, and what is wrong is said.
    expect 0 '"height"' "$bin/dc-cli" block 1 --json --node "$(admin_url "$number")"
    expect 1 "no room for what comes next" "$bin/dc-cli" why-stuck --node "$(admin_url "$number")"
    expect 0 "read-only" "$bin/dc-cli" status --node "$(admin_url "$number")"
    runs "$victim" >/dev/null || complain "$victim ended on a full disk"
    rm "$work/small/filler"
    soon 30 "$victim ends it by itself" read_only_is "$number" false
    soon 30 "$victim catches up with room" level_with "$number" "$lead"
    tail -n +"$((from + 1))" "$dir/log/$victim.log" | grep -q ' read_only_over ' ||
        complain "$victim does not say that there is room again"
    say "it starts on a full disk"
    stop "$victim" || complain "$victim did not stop"
    head -c 100000000 /dev/zero >"$work/small/filler" 2>/dev/null
    from=$(log_lines "$victim")
    start "$victim" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/$victim"
    full_or_gone() { says_since "$victim" "$from" 'read_only ' || ended "$victim"; }
    soon 30 "$victim meets the full disk" full_or_gone
    tail -n +"$((from + 1))" "$dir/log/$victim.log" | grep -qiE 'no room|full|No space' ||
        complain "$victim does not say that the disk is full"
    ended "$victim" || stop "$victim" || complain "$victim did not stop"
    expect 0 "" "$bin/dc-cli" audit --data "$work/small/ledger" --genesis "$dir/genesis.json"
    rm "$work/small/filler" "$dir/$victim"
    mkdir "$dir/$victim"
    mv "$work/small/dc.key" "$dir/$victim/"
    mv "$work/small/ledger" "$dir/$victim/ledger"
    unmount
    start_dc "$number"
    soon 30 "$victim catches up with room" level_with "$number" "$lead"
    check "$victim lost its right to sign" [ "$(status_of "$number" '.nodes[0].role')" != observer ]
else
    say "skipped: no file system may be mounted here"
fi

say "the meters' folder may not grow"
stop fleet || complain "the fleet did not stop"
size_mib=$(($(stat -c %s "$dir/fleet/meters.mdb") / 1048576 + 1))
start fleet "$bin/ami-meter" fleet --genesis "$dir/genesis.json" --dir "$dir/fleet" --seconds 600 \
    "${big[@]}" --map-size "$size_mib" --stats "$dir/fleet.json"
soon 60 "the fleet says that its folder is full and ends" fleet_failed
drain_fleet

say "the MDMS's store may not grow"
stop mdms || complain "the MDMS did not stop"
size_mib=$(($(stat -c %s "$dir/mdms/store/data.mdb") / 1048576 + 1))
from=$(log_lines mdms)
start mdms "$bin/ami-mdms" serve --dir "$dir/mdms" --genesis "$dir/genesis.json" --map-size "$size_mib" \
    --passphrase-file "$dir/passphrase" --listen "$(mdms_url)"
wait_ready mdms 30 "$from"
start_fleet "${big[@]}"
soon 60 "the MDMS ends on a full store" ended mdms
tail -n 3 "$dir/log/mdms.log" | grep -qE '^ami-mdms: .*no room' || complain "the MDMS does not say why it ended"
goes_on 20 "the network goes on without the MDMS"
start_mdms --genesis "$dir/genesis.json"
drain_fleet
top=$(height_of "$lead")
soon 60 "the MDMS catches up with room" mdms_height_at_least "$top"
for i in $(seq "$nodes"); do soon 30 "dc$i is at height $top" height_at_least "$i" "$top"; done

say "results on a full disk"
if small_disk "$work/tiny" 64k; then
    echo old >"$work/tiny/out.csv"
    expect 1 "out.csv" "$bin/ami-mdms" export --dir "$dir/mdms" --out "$work/tiny/out.csv"
    [ "$(cat "$work/tiny/out.csv")" = old ] || complain "an export that failed replaced the old file"
    expect 1 "l.jsonl" "$bin/dc-cli" export --data "$dir/$victim/ledger" --genesis "$dir/genesis.json" \
        --out "$work/tiny/l.jsonl"
    [ "$(ls "$work/tiny")" = out.csv ] || complain "exports that failed left files: $(ls "$work/tiny")"
    "$bin/ami-mdms" codes --dir "$dir/mdms" --meter --id late --out "$work/late.csv" >/dev/null || complain "codes"
    head -c 1000000 /dev/zero >"$work/tiny/filler" 2>/dev/null
    expect 1 "tiny" "$bin/ami-meter" enrol --genesis "$dir/genesis.json" --dir "$work/tiny/late" \
        --mdms "$(mdms_url)" --codes "$work/late.csv"
    expect 0 "enrolled 1 meter" "$bin/ami-meter" enrol --genesis "$dir/genesis.json" --dir "$work/late" \
        --mdms "$(mdms_url)" --codes "$work/late.csv"
    unmount
fi
for command in "ami-mdms export --dir $dir/mdms" "ami-meter export --dir $dir/fleet" \
    "dc-cli export --data $dir/$victim/ledger --genesis $dir/genesis.json" \
    "dc-cli blocks --json --node $(admin_url "$number")"; do
    # shellcheck disable=SC2086
    "$bin"/$command >/dev/full 2>"$work/err" && complain "to a full disk: $command"
    grep -qE "^($programs): " "$work/err" || complain "no sentence: $command"
done

stop_all
audit_all
nothing_lost
finish
