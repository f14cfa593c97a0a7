#!/usr/bin/env bash
# Which DC a meter delivers to: with the leader paused the meters fall back to others and nothing is
# lost when it resumes; under the policy "home" a change of leader gives nobody but the meters of the
# paused DC a new key.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

pause() { kill -STOP "$(pid_of "$1")" || give_up "$1 does not run"; }
resume() { kill -CONT "$(pid_of "$1")"; }

other_leader() {
    local i
    for i in $(seq "$nodes"); do
        [ "$i" != "$1" ] || continue
        [ "$(timeout --foreground 2 "$bin/dc-cli" status --json --node "$(admin_url "$i")" | jq -r '.nodes[0].role')" \
            != leader ] || return 0
    done
    return 1
}

follows() { [ "$(status_of "$1" '.nodes[0].role')" = follower ]; }

# caught_up I: DC I is where the others are.
caught_up() { height_at_least "$1" "$(height_of $(($1 % nodes + 1)))"; }

# --- the published policy ---
up l
enrol_meters 8
start_fleet
goes_on 20 "the fleet delivers"
paused=$(who_leads) || give_up "nobody leads"
say "gateway = leader: dc$paused, which leads, is paused"
pause "dc$paused"
soon 20 "another DC leads" other_leader "$paused"
goes_on 30 "the meters fall back to another DC"
resume "dc$paused"
say "it resumes"
soon 20 "the old leader follows" follows "$paused"
soon 20 "the old leader catches up" caught_up "$paused"
goes_on 20 "the fleet delivers after that"
drain_fleet
stop_all
audit_all
nothing_lost

# --- every meter at its home ---
up h --gateway home
enrol_meters 8
start_fleet
all_in_session() { [ "$(fleet_stat agreements)" -ge 8 ]; }
soon 20 "all meters are in session" all_in_session
goes_on 20 "the fleet delivers"
for i in $(seq "$nodes"); do
    # Two of eight, unless a busy machine made a meter's home answer late.
    [ "$(status_of "$i" '.nodes[0].sessions')" -ge 1 ] || complain "dc$i has no session of its meters"
    [ "$(status_of "$i" '.nodes[0].counters.reports')" -gt 0 ] || complain "dc$i took no report"
done
agreed=$(fleet_stat agreements)
paused=$(who_leads) || give_up "nobody leads"
theirs=$(status_of "$paused" '.nodes[0].sessions')
say "gateway = home: dc$paused, which leads, is paused"
pause "dc$paused"
soon 20 "another DC leads" other_leader "$paused"
goes_on 30 "the meters deliver to their homes"
moved() { [ "$(fleet_stat agreements)" -ge $((agreed + theirs)) ]; }
soon 30 "the meters of the paused DC move" moved
goes_on 30 "everybody delivers"
now=$(fleet_stat agreements)
# A meter may agree with more than one other DC before one takes its reports; the others never move.
[ "$now" -lt $((agreed + 8)) ] ||
    complain "a change of leader re-keyed more than the $theirs meters of dc$paused: $agreed, $now"
resume "dc$paused"
say "it resumes"
soon 20 "the old leader follows" follows "$paused"
goes_on 20 "the fleet delivers after that"
drain_fleet
stop_all
audit_all
nothing_lost
finish
