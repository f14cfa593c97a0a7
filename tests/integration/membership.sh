#!/usr/bin/env bash
# A committee that changes while meters report: a fifth DC joins, the leader leaves, a third one's key is
# rotated, DCs are killed on the way. No reading is lost, and every ledger, proof and export verifies
# across the epochs.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# code_for DC: an install code for its next key.
code_for() {
    "$bin/ami-mdms" codes --dir "$dir/mdms" --dc --id "$1" 2>"$work/err" | tail -n 1 | cut -d, -f2
}

# member ACTION DC [OPTION...]: a change, and then it is in force.
member() {
    local action=$1 dc=$2
    shift 2
    expect 0 "in force: $action of $dc" "$bin/ami-mdms" member "$action" --dir "$dir/mdms" --id "$dc" \
        --delay 5 --wait --timeout 50s "$@"
}

in_epoch() { [ "$(status_of "$1" '.nodes[0].epoch')" = "$2" ]; }
is_member() { [ "$(status_of "$1" '.nodes[0].member')" = "$2" ]; }
level() {
    local i top
    top=$(height_of "$1") || return 1
    for i in $(seq 5); do height_at_least "$i" "$top" || return 1; done
}

up a --nodes 4
enrol_meters 6
start_fleet

say "dc5 is started, and follows before it is a member"
nodes=5
code=$(code_for dc5)
[ -n "$code" ] || give_up "no code for dc5: $(cat "$work/err")"
expect 0 "dc5 is enrolled" "$bin/dc-node" enrol --network "$dir/network.json" --mdms "$(mdms_url)" --id dc5 \
    --code "$code" --dir "$dir/dc5"
soon 30 "the enrolment of dc5 is on the ledger" mdms_settled
expect 1 "is no member yet" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc5"
address() { printf 'tcp://127.0.0.1:%s\n' "$(dc_port "$1" "$2")"; }
run_dc5() {
    start dc5 "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc5" "$@"
    wait_ready dc5 60 "$from"
}
from=$(log_lines dc5)
run_dc5 --listen-peers "$(address 5 1)" --listen-meters "$(address 5 2)" --listen-admin "$(address 5 3)"
soon 30 "dc5 follows" height_at_least 5 "$(height_of 1)"
check "dc5 says that it is no member" is_member 5 false

say "it joins"
member join dc5 --peer "$(address 5 1)" --meter "$(address 5 2)" --admin "$(address 5 3)"
soon 30 "dc5 is a member" is_member 5 true
for i in 1 2 3 4; do soon 30 "dc$i is in epoch 2" in_epoch "$i" 2; done
goes_on 30 "commits go on with five members"
expect 0 "membership    epoch 2" "$bin/ami-mdms" status --dir "$dir/mdms"
kill_hard dc5
from=$(log_lines dc5)
run_dc5 # the ledger says where it listens now
soon 30 "dc5 is a member after a restart" is_member 5 true

say "the leader leaves"
first=$(who_leads) || give_up "nobody leads"
member leave "dc$first"
soon 30 "dc$first says that it is no member" is_member "$first" false
goes_on 30 "commits go on without dc$first"
check "the log of dc$first does not say that it left" grep -q ' left ' "$dir/log/dc$first.log"
expect 1 "at least 4 members" "$bin/ami-mdms" member leave --dir "$dir/mdms" --id dc5 --wait --timeout 30s

say "a key is rotated"
other=$((first % 4 + 1))
code=$(code_for "dc$other")
[ -n "$code" ] || give_up "no second code for dc$other: $(cat "$work/err")"
expect 0 "dc-2.key" "$bin/dc-node" enrol --network "$dir/network.json" --mdms "$(mdms_url)" --id "dc$other" \
    --code "$code" --dir "$dir/dc$other" --epoch 2
soon 30 "the second key of dc$other is on the ledger" mdms_settled
kill_hard "dc$other" # keys are read at the start
start_dc "$other"
member rotate "dc$other"
soon 30 "dc$other is a member with its new key" is_member "$other" true
goes_on 30 "commits go on"

say "without the key that votes for it a DC follows"
kill_hard "dc$other"
mv "$dir/dc$other/dc-2.key" "$work/dc-2.key"
start_dc "$other"
check "dc$other says that it is no member" is_member "$other" false
check "the log of dc$other does not name the key" grep -q 'key_missing.*key_epoch=2' "$dir/log/dc$other.log"
soon 30 "dc$other follows" height_at_least "$other" "$(height_of 5)"
kill_hard "dc$other"
mv "$work/dc-2.key" "$dir/dc$other/dc-2.key"
start_dc "$other"
soon 30 "dc$other is a member again" is_member "$other" true

say "the new member and the new key are needed"
third=$((other % 4 + 1))
[ "$third" != "$first" ] || third=$((third % 4 + 1))
kill_hard "dc$third"
goes_on 30 "commits go on without dc$third"
kill_hard "dc$other"
start_dc "$third"
start_dc "$other"
goes_on 30 "commits go on when all are back"
kill_hard "dc$first" # the one that left starts as what it is
start_dc "$first"
soon 30 "dc$first follows again" height_at_least "$first" "$(height_of 5)"
check "dc$first is no member" is_member "$first" false

drain_fleet

say "a meter gets its next key and another home"
code=$("$bin/ami-mdms" codes --dir "$dir/mdms" --meter --id m-1 --home dc5 2>"$work/err" | tail -n 1 | cut -d, -f2)
[ -n "$code" ] || give_up "no second code for m-1: $(cat "$work/err")"
renew=("$bin/ami-meter" enrol --genesis "$dir/genesis.json" --dir "$dir/fleet" --mdms "$(mdms_url)" --id m-1
    --code "$code")
expect 1 "epoch 2" "${renew[@]}" --epoch 3
expect 0 "1 were enrolled already" "${renew[@]}"
expect 0 "enrolled 1 meters (0 were" "${renew[@]}" --epoch 2
expect 0 "1 were enrolled already" "${renew[@]}" --epoch 2
soon 30 "the second key of m-1 is on the ledger" mdms_settled
expect 0 "" "$bin/ami-meter" fleet --genesis "$dir/genesis.json" --dir "$dir/fleet" --seconds 2 \
    --interval 250 --drain 40 --stats "$dir/fleet.json"
[ "$(fleet_stat reports_unacknowledged)" = 0 ] || complain "reports stay in the outbox"
expect 0 "was checked and written" "$bin/ami-meter" proof --genesis "$dir/genesis.json" \
    --dir "$dir/fleet" --id m-1 --sequence 1 --out "$work/renewed.json"
expect 0 "m-1, key epoch 2, home DC dc5" "$bin/dc-cli" verify-proof "$work/renewed.json" \
    --genesis "$dir/genesis.json"
"$bin/ami-meter" export --dir "$dir/fleet" --id m-1 --format csv | tail -n +2 |
    cut -d, -f2 >"$work/times"
[ -z "$(sort "$work/times" | uniq -d)" ] || complain "m-1 measured a half hour under two keys"
sort -c "$work/times" || complain "m-1 did not go on where it was"

soon 30 "all DCs stand at one height" level "$third"
soon 30 "the MDMS follows" mdms_height_at_least "$(height_of "$third")"
nothing_lost

say "proofs of a report of the last epoch"
sequence=$("$bin/ami-meter" export --dir "$dir/fleet" --format csv |
    awk -F, '$1 == "m-2" { print $8 }' | sort -n | tail -n 1)
expect 0 "was checked and written" "$bin/ami-meter" proof --genesis "$dir/genesis.json" \
    --dir "$dir/fleet" --id m-2 --sequence "$sequence" --out "$work/meter.json"
expect 0 "was checked and written" "$bin/ami-mdms" proof --genesis "$dir/genesis.json" \
    --dir "$dir/mdms" --id m-2 --sequence "$sequence" --out "$work/mdms.json"
check "three changes lead to it" holds "$work/meter.json" '.membership | length == 3'
stop_all
expect 0 "by 3 of 4 DCs" "$bin/dc-cli" verify-proof "$work/meter.json" --genesis "$dir/genesis.json"
jq --indent 2 'del(.membership[1])' "$work/meter.json" >"$work/spliced.json"
expect 1 "proves nothing" "$bin/dc-cli" verify-proof "$work/spliced.json" --genesis "$dir/genesis.json"
audit_all
expect 0 "" "$bin/dc-cli" export --data "$dir/dc5/ledger" --genesis "$dir/genesis.json" --format jsonl \
    --out "$work/ledger.jsonl"
expect 0 "4 members in epoch 4" python3 "$here/../verifier/verify_ledger.py" "$dir/genesis.json" \
    "$work/ledger.jsonl" --sample 40 --certificates 20
finish
