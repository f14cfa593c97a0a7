#!/usr/bin/env bash
# Wall clocks that jump, one process at a time: commits go on, nothing is lost, and who is refused for
# it is told why. Usage: clock.sh CLOCK-SHIFT.SO
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

library=${1:?the library that shifts a clock}
export ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0

# shift NAME MS: the wall clock of that process is off by so much from now on.
shift_clock() {
    echo "$2" >"$work/clock.new"
    mv "$work/clock.new" "$work/clock.$1"
}

# with_clock NAME COMMAND...: starts something whose clock can be shifted.
with_clock() {
    local name=$1
    shift
    AMI_TEST_CLOCK="$work/clock.$name" LD_PRELOAD="$library" "$@"
}

other_leads() { [ "$(leader)" != "$1" ] && leader; }
level_with() { height_at_least "$1" "$(height_of "$2")"; }

# A narrow window for timestamps, so that little waiting shows a lot.
up a --param timestamp_ahead_ms=3000 --param timestamp_back_ms=3000
enrol_meters 6
for i in $(seq "$nodes"); do stop "dc$i" || complain "dc$i did not stop"; done
stop mdms || complain "the MDMS did not stop"
with_clock mdms start_mdms --genesis "$dir/genesis.json"
for i in $(seq "$nodes"); do with_clock "dc$i" start_dc "$i"; done
soon 30 "a leader" leader
with_clock fleet start_fleet
goes_on 20 "the fleet delivers"
hour=3600000

lead=$(who_leads) || give_up "nobody leads"
follower=$((lead % nodes + 1))
for jump in $hour -$hour; do
    say "a follower's clock jumps by $jump ms"
    shift_clock "dc$follower" "$jump"
    goes_on 20 "commits go on with a follower's clock off by $jump ms"
    soon 20 "the follower keeps up" level_with "$follower" "$lead"
done
grep -q "dc$follower" <(timeout --foreground 5 "$bin/dc-cli" status --genesis "$dir/genesis.json") || complain "no status"
shift_clock "dc$follower" 0
goes_on 20 "commits go on when it is right again"

lead=$(who_leads) || give_up "nobody leads"
say "the leader's clock jumps an hour ahead"
shift_clock "dc$lead" $hour
soon 40 "another DC leads" other_leads "$lead"
goes_on 30 "commits go on under another leader"
soon 20 "the one with the wrong clock keeps up" level_with "$lead" "$(leader)"
refusals=0
for i in $(seq "$nodes"); do
    [ "$i" = "$lead" ] || refusals=$((refusals + $(status_of "$i" '.nodes[0].counters.blocks_refused')))
done
[ "$refusals" -gt 0 ] || complain "nobody refused a block for its time"
cat "$dir"/log/dc*.log | grep -q 'BAD_TIMESTAMP' || complain "no log says that a timestamp was refused"
shift_clock "dc$lead" 0
goes_on 20 "commits go on when it is right again"

lead=$(who_leads) || give_up "nobody leads"
second=$((lead % nodes + 1))
say "the leader's clock jumps an hour back, and another's two seconds ahead"
shift_clock "dc$lead" -$hour
shift_clock "dc$second" 2000
soon 40 "another DC leads" other_leads "$lead"
goes_on 40 "commits go on"
shift_clock "dc$lead" 0
shift_clock "dc$second" 0
goes_on 40 "commits go on when both are right again"

say "all clocks run ten seconds ahead, and then jump back"
for i in $(seq "$nodes"); do shift_clock "dc$i" 10000; done
goes_on 20 "commits go on with clocks that agree"
for i in $(seq "$nodes"); do shift_clock "dc$i" 0; done
# The ledger's time does not go back: nothing can be committed until the clocks have come close to it.
goes_on 40 "commits go on when the clocks have caught up with the ledger"

for jump in $((24 * hour)) -$((24 * hour)); do
    say "the clocks of the meters and of the MDMS jump by $jump ms"
    shift_clock fleet $jump
    shift_clock mdms $jump
    goes_on 20 "the meters deliver with a clock off by $jump ms"
done
kill_hard mdms
with_clock mdms start_mdms --genesis "$dir/genesis.json"
goes_on 20 "the meters deliver"
drain_fleet
top=$(height_of 1)
soon 30 "the MDMS follows with a wrong clock" mdms_height_at_least "$top"
for i in $(seq "$nodes"); do soon 20 "dc$i is at height $top" height_at_least "$i" "$top"; done
stop_all
audit_all
nothing_lost
# Time on the ledger never goes back.
"$bin/dc-cli" export --data "$dir/dc1/ledger" --genesis "$dir/genesis.json" --format jsonl 2>/dev/null |
    jq -r 'select(.kind == "block") | .timestamp_ms' >"$work/times"
sort -n -u "$work/times" | cmp -s - "$work/times" || complain "timestamps of blocks go back"
finish
