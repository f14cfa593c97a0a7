#!/usr/bin/env bash
# Committees of 4, 5 and 7: with f DCs killed commits go on, with f+1 nothing is committed and nothing
# acknowledged, and it goes on when one is back. Fewer than 4 are refused everywhere.
# Usage: quorum.sh [N...]
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The heights of the DCs that live, and what the meters believe acknowledged.
picture() {
    local i heights=()
    for i in "${alive[@]}"; do heights+=("$(height_of "$i")"); done
    echo "${heights[*]} acknowledged $(acknowledged)"
}

changed_from() { [ "$(picture)" != "$1" ]; }

# still SECONDS: the picture is the same at the end of that time as it was at its beginning.
still() {
    local before
    before=$(picture)
    ! wait_for "$1" "a change" changed_from "$before"
}

# settles: what was under way when the quorum was lost has ended. Meters whose gateway was killed ask others for the
# proof of what was committed before, after some seconds without an answer.
settles() { still 8; }

drop() {
    local i=$1 rest=() other
    kill_hard "dc$i"
    for other in "${alive[@]}"; do [ "$other" = "$i" ] || rest+=("$other"); done
    alive=("${rest[@]}")
}

no_quorum_seen() {
    local i
    for i in "${alive[@]}"; do
        [ "$(status_of "$i" '.nodes[0].has_quorum')" = false ] || return 1
        [ "$(status_of "$i" '.nodes[0].role')" != leader ] || return 1
    done
}

committee() {
    nodes=$1
    local f=$((($1 - 1) / 3)) i first
    up "n$1" --nodes "$1"
    enrol_meters 4
    mapfile -t alive < <(seq "$1")
    start_fleet
    say "n = $1: $f of its DCs are killed, the leader first"
    first=$(who_leads) || give_up "nobody leads"
    drop "$first"
    for i in $(seq 2 "$f"); do drop "${alive[0]}"; done
    goes_on 30 "commits go on with $f of $1 killed"
    say "n = $1: one more is killed"
    drop "${alive[0]}"
    soon 40 "everything under way has ended with $((f + 1)) of $1 killed" settles
    check "something was committed or acknowledged with $((f + 1)) of $1 killed" still 4
    check "the DCs do not say that they lack a quorum" no_quorum_seen
    soon 10 "why-stuck names who is missing at each DC that lives" missing_are_named
    expect 1 "no DC leads for" "$bin/dc-cli" why-stuck --genesis "$dir/genesis.json"
    runs fleet >/dev/null || complain "the fleet ended while it could not deliver"
    say "n = $1: one is back"
    start_dc "$first"
    goes_on 30 "commits go on when one is back"
    for i in $(seq "$1"); do pid_of "dc$i" >/dev/null || start_dc "$i"; done
    drain_fleet
    all_level
    expect 0 "idle, nothing waits" "$bin/dc-cli" why-stuck --genesis "$dir/genesis.json"
    stop_all
    audit_all
    nothing_lost
}

# The silent are those that it takes a heartbeat or two to miss.
missing_are_named() {
    "$bin/dc-cli" why-stuck --json --genesis "$dir/genesis.json" >"$work/stuck.json"
    holds "$work/stuck.json" \
        ".stuck and ([.nodes[] | select(.stuck)] | length == ${#alive[@]}
         and all(.[]; any(.causes[]; .cause == \"no_leader\" and .stuck))
         and all(.[]; any(.causes[]; .cause == \"few_contacts\" and .needed == .reachable + 1
                 and (.silent | length == $((f + 1)) and all(.[]; .connected | not)))))"
}

# Every DC and the MDMS stand at one height.
all_level() {
    local i top=0 h
    for i in $(seq "$nodes"); do
        h=$(height_of "$i") || continue
        [ "$h" -le "$top" ] || top=$h
    done
    for i in $(seq "$nodes"); do soon 30 "dc$i reaches height $top" height_at_least "$i" "$top"; done
    soon 30 "the MDMS reaches height $top" mdms_height_at_least "$top"
}

sizes=("$@")
[ $# -gt 0 ] || sizes=(4 5 7)
for n in "${sizes[@]}"; do committee "$n"; done

say "fewer than four"
use "n${sizes[0]}"
sim=$here/../../sim
"$bin/ami-mdms" init --dir "$work/new" --name new --passphrase-file "$dir/passphrase" >/dev/null ||
    complain "ami-mdms init"
for n in 1 2 3; do
    expect 2 "at least 4" "$sim/demo" --no-install --nodes "$n"
    expect 1 "at least 4" "$sim/cluster" up --dir "$work/few" --nodes "$n"
    [ ! -e "$work/few" ] || complain "sim/cluster left something of a committee of $n"
    members=()
    for i in $(seq "$n"); do members+=(--member "dc$i=127.0.0.1:1000$i:2000$i:3000$i"); done
    expect 2 "at least 4" "$bin/ami-mdms" genesis --dir "$work/new" "${members[@]}" \
        --out "$work/few.json"
    [ ! -e "$work/few.json" ] || complain "ami-mdms wrote a genesis for $n DCs"
    jq ".members |= .[:$n]" "$dir/genesis.json" >"$work/few.json"
    mkdir "$work/few"
    cp "$dir/dc1/dc.key" "$work/few/"
    expect 1 "needs 4 to 31" "$bin/dc-node" run --genesis "$work/few.json" --dir "$work/few"
    [ "$(ls "$work/few")" = dc.key ] || complain "dc-node left something for a committee of $n"
    expect 1 "needs 4 to 31" "$bin/ami-meter" fleet --genesis "$work/few.json" --dir "$dir/fleet" \
        --seconds 1
    expect 1 "needs 4 to 31" "$bin/ami-mdms" serve --dir "$dir/mdms" --listen 127.0.0.1:0 \
        --passphrase-file "$dir/passphrase" --genesis "$work/few.json"
    rm -r "$work/few" "$work/few.json"
done
expect 2 "unknown command" "$sim/cluster" frobnicate
# A folder that holds something else is nobody's cluster, and a start that fails leaves none running.
expect 1 "not empty" "$sim/cluster" up --dir "$here"
expect 2 "no parameter of that name" "$sim/cluster" up --dir "$work/no-such-parameter" \
    --param frobnicate=1
for pid_file in "$work"/no-such-parameter/run/*.pid; do
    read -r pid _ <"$pid_file"
    ! kill -0 "$pid" 2>/dev/null || complain "a failed sim/cluster up left ${pid_file##*/} running"
done
finish
