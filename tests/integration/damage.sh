#!/usr/bin/env bash
# Damaged ledgers: a DC that starts on one never crashes and never serves a wrong answer; it sets the
# ledger aside, fetches all blocks anew from the others, and goes on signing only when its vote record is
# the newest for certain.
# Usage: damage.sh [ROUNDS [SEED]]
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

rounds=${1:-8} seed=${2:-1}
level_with() { height_at_least "$1" "$(height_of "$2")"; }
says_since() { tail -n +"$(($2 + 1))" "$dir/log/$1.log" | grep -q "$3"; }
asides() { find "$dir/$victim" -maxdepth 1 -name 'ledger.damaged-*' | wc -l; }
role_is() { [ "$(status_of "$1" '.nodes[0].role')" = "$2" ]; }
spoil() { "$here/damage.py" "$dir/$victim/ledger/data.mdb" "$@" || give_up "damage.py $*"; }
hashes() {
    "$bin/dc-cli" blocks --json --from 1 --count 100000 --node "$(admin_url "$1")" | jq -c '[.blocks[].hash]'
}

# same_answers I J: the blocks that I serves are those that J serves, as far as it has them.
same_answers() {
    local mine theirs
    mine=$(hashes "$1") && theirs=$(hashes "$2") || return 1
    jq -ne --argjson a "$mine" --argjson b "$theirs" '$a | length > 0 and . == $b[:length]' >/dev/null
}

# back WHAT: the victim has started, lives, catches up with the others and answers as they do.
back() {
    wait_ready "$victim" 30 "$from" || {
        tail -n 5 "$dir/log/$victim.log"
        give_up "$victim does not start: $1"
    }
    soon 40 "$victim catches up: $1" level_with "$number" "$lead"
    runs "$victim" >/dev/null || complain "$victim has died: $1"
    check "$victim answers otherwise than dc$lead: $1" same_answers "$number" "$lead"
}

# begin [OPTION...]: starts the victim.
begin() {
    from=$(log_lines "$victim")
    start "$victim" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/$victim" "$@"
}

up a
enrol_meters 8
start_fleet --interval 100
lead=$(who_leads) || give_up "nobody leads"
number=$((lead % nodes + 1))
victim=dc$number
goes_on 20 "the fleet delivers"
soon 40 "there are enough blocks" height_at_least "$number" 60
lead=$((number % nodes + 1)) # whoever leads: another one to compare with

say "$rounds times damaged after a clean end"
kinds=(bit meta garbage head zero cut page all)
found=0
for ((i = 0; i < rounds; i++)); do
    kind=${kinds[i % ${#kinds[@]}]}
    stop "$victim" || complain "$victim did not stop"
    [ -f "$dir/$victim/ledger.closed" ] || complain "no mark of a clean end"
    before=$(asides)
    spoil "$kind" $((seed * 1000 + i))
    begin
    back "round $i, $kind"
    [ ! -f "$dir/$victim/ledger.closed" ] || complain "the mark is there while the DC signs"
    check "$victim lost its right to sign after a clean end: round $i, $kind" \
        [ "$(status_of "$number" '.nodes[0].role')" != observer ]
    if [ "$(asides)" -gt "$before" ]; then
        found=$((found + 1))
        says_since "$victim" "$from" ' ledger_damaged ' || complain "it does not say that it was damaged"
        says_since "$victim" "$from" ' vote_record_kept ' || complain "it does not say what it goes on from"
    fi
    rm -r "$dir/$victim"/ledger.damaged-* 2>/dev/null
done
say "$found of $rounds damaged ledgers were set aside, the others were damaged where nothing is"
[ "$found" -ge $((rounds / 3)) ] || complain "too few of the damages were found"
goes_on 20 "the network goes on"

say "a ledger that is lost after a clean end"
stop "$victim" || complain "$victim did not stop"
rm -r "$dir/$victim/ledger"
begin
back "lost"
check "$victim lost its right to sign" [ "$(status_of "$number" '.nodes[0].role')" != observer ]

say "damage that leaves the file's time as it was is found when it is read"
tx=$("$bin/dc-cli" block 30 --json --node "$(admin_url "$number")" | jq -r '.transactions[0].id')
encoded=$("$bin/dc-cli" tx "$tx" --json --node "$(admin_url "$number")" | jq -r .encoded)
stop "$victim" || complain "$victim did not stop"
spoil bytes "$encoded"
begin --patrol 0
wait_ready "$victim" 30 "$from" || give_up "$victim does not start"
expect 1 "damaged" "$bin/dc-cli" block 30 --node "$(admin_url "$number")"
soon 10 "$victim ends when it has met damage" ended "$victim"
says_since "$victim" "$from" ' ledger_damaged ' || complain "it does not say why it ended"
begin
back "damage met while it ran"
[ "$(asides)" -eq 1 ] || complain "the damaged ledger is not kept"
check "$victim lost its right to sign, though it knew its record" \
    [ "$(status_of "$number" '.nodes[0].role')" != observer ]
rm -r "$dir/$victim"/ledger.damaged-*

say "damage that nobody asks for is found by the patrol"
stop "$victim" || complain "$victim did not stop"
begin --patrol 1s
back "with a patrol"
still_well() { ended "$victim" || says_since "$victim" "$from" ' ledger_damaged '; }
! wait_for 3 "a false alarm" still_well || complain "the patrol finds damage in a good ledger"
tx=$("$bin/dc-cli" block 20 --json --node "$(admin_url "$number")" | jq -r '.transactions[0].id')
encoded=$("$bin/dc-cli" tx "$tx" --json --node "$(admin_url "$number")" | jq -r .encoded)
spoil bytes "$encoded"
soon 20 "$victim ends when its patrol has found damage" ended "$victim"
says_since "$victim" "$from" ' ledger_damaged ' || complain "it does not say why it ended"
begin
back "damage found by the patrol"
[ "$(asides)" -eq 1 ] || complain "the damaged ledger is not kept"
check "$victim lost its right to sign, though it knew its record" \
    [ "$(status_of "$number" '.nodes[0].role')" != observer ]
rm -r "$dir/$victim"/ledger.damaged-*

say "a mark that is not of the last life gives no right to sign"
stop "$victim" || complain "$victim did not stop"
cp "$dir/$victim/ledger.closed" "$work/old-mark"
begin
back "in between"
kill_hard "$victim"
cp "$work/old-mark" "$dir/$victim/ledger.closed"
spoil all "$seed"
begin
back "with an old mark"
check "$victim signs on from an old record" role_is "$number" observer
[ "$(asides)" -eq 1 ] || complain "the damaged ledger is not kept"
goes_on 20 "the others go on without its votes"

say "it stays so, and its ledger is served"
stop "$victim" || complain "$victim did not stop"
begin
back "an observer again"
check "$victim signs again" role_is "$number" observer

drain_fleet
top=$(height_of "$lead")
for i in $(seq "$nodes"); do soon 30 "dc$i is at height $top" height_at_least "$i" "$top"; done
soon 60 "the MDMS follows" mdms_height_at_least "$top"
stop_all
audit_all
nothing_lost
finish
