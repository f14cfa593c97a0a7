#!/usr/bin/env bash
# Retention with real processes: the MDMS lets the DCs forget what it has, they prune while the fleet
# goes on, one that was away and one that lost its ledger catch up from what is left, and proofs, audits
# and the meters' acknowledgements are as good as before.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

retained_at() { [ "$(status_of "$1" '.nodes[0].retention_below')" = "$2" ]; }
pruned_at() { [ "$(status_of "$1" '.nodes[0].pruned_below')" = "$2" ]; }
level_with() { height_at_least "$1" "$(height_of "$2")"; }

up a
retain=("$bin/ami-mdms" retain --dir "$dir/mdms")
enrol_meters 8
start_fleet --interval 100
goes_on 30 "the fleet delivers"
expect 1 "stay whole" "${retain[@]}" --below 100000
soon 60 "there are enough blocks" mdms_height_at_least 60
away=2
stop dc$away || complain "dc$away did not stop"
lost=$(height_of 1)
soon 60 "there are more blocks" mdms_height_at_least $((lost + 90))

say "everything below $((lost + 20)) may go"
below=$((lost + 20))
expect 0 "on the ledger: DCs may prune" "${retain[@]}" --below $below --wait --timeout 30s
expect 1 "may be pruned already" "${retain[@]}" --below $below
check "status says it" holds <("$bin/ami-mdms" status --dir "$dir/mdms" --json) ".retention_below == $below"
for i in 1 3 4; do
    soon 30 "dc$i knows it" retained_at $i $below
    soon 60 "dc$i has pruned" pruned_at $i $below
done
goes_on 20 "the fleet goes on"

say "one that was away, and one that has lost its ledger"
start_dc $away
soon 60 "dc$away catches up" level_with $away 1
soon 60 "dc$away has pruned" pruned_at $away $below
stop dc4 || complain "dc4 did not stop"
rm -r "$dir/dc4/ledger"
start_dc 4
soon 60 "dc4 begins anew" level_with 4 1
soon 60 "dc4 has nothing to prune" pruned_at 4 $below

say "one that begins with a copy of another's ledger, taken while that goes on"
stop dc3 || complain "dc3 did not stop"
rm -r "$dir/dc3/ledger"
expect 0 "verified from its genesis on" "$bin/dc-cli" copy --data "$dir/dc1/ledger" --out "$dir/dc3/ledger" \
    --genesis "$dir/genesis.json"
from=$(log_lines dc3)
start_dc 3
check "dc3 begins where the copy ends" height_at_least 3 $below
soon 60 "dc3 catches up" level_with 3 1
tail -n +"$((from + 1))" "$dir/log/dc3.log" | grep -q ledger_damaged && complain "the copy is damaged"
goes_on 20 "the fleet goes on"

say "a proof of a report that is pruned"
expect 0 "was checked and written" "$bin/ami-mdms" proof --genesis "$dir/genesis.json" --dir "$dir/mdms" \
    --id m-1 --sequence 1 --node "$(admin_url 4)" --out "$work/mdms.json"
expect 0 "was checked and written" "$bin/ami-meter" proof --genesis "$dir/genesis.json" --dir "$dir/fleet" \
    --id m-1 --sequence 1 --out "$work/meter.json"
check "the meter and the MDMS give out the same proof" cmp "$work/meter.json" "$work/mdms.json"
expect 0 "ok: the report below was recorded" "$bin/dc-cli" verify-proof "$work/mdms.json" \
    --genesis "$dir/genesis.json"
check "it is of a pruned report" grep -q "was pruned" "$work/out"

say "the ledgers"
drain_fleet
soon 30 "the MDMS has all of it" mdms_height_at_least "$(height_of 1)"
stop_all
nothing_lost
audit_all
for i in 1 2 3 4; do
    expect 0 "" "$bin/dc-cli" audit --data "$dir/dc$i/ledger" --genesis "$dir/genesis.json" --json
    check "dc$i is pruned below $below: $(jq -c .pruned "$work/out")" holds "$work/out" \
        ".ok and (.pruned | length) == 1 and .pruned[0].to < $below and .pruned_reports > 0"
done

say "the independent verifier"
expect 0 "" "$bin/dc-cli" export --data "$dir/dc4/ledger" --genesis "$dir/genesis.json" --out "$work/x.jsonl"
check "an export of it verifies" python3 "$here/../verifier/verify_ledger.py" "$dir/genesis.json" \
    "$work/x.jsonl" --quiet --sample 50 --certificates 20
finish
