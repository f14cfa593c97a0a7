#!/usr/bin/env bash
# A flood of first flights from one address on a DC's port for peers: what it may cost in answers and memory is
# bounded, DCs that are connected stay so, a DC that comes gets in, and commits go on.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

up a
enrol_meters 4
start_fleet
network=$(jq -r .id "$dir/network.json")
target=$(who_leads) || give_up "nobody leads"
newcomer=$((target % nodes + 1))
# As in node/main.c: so many first flights of one source at once, and then so many a second.
burst=400 per_s=200

handshakes() { status_of "$target" ".nodes[0].ports.peers.handshakes.$1"; }
anonymous_kb() { awk '$1 == "RssAnon:" { print $2 }' "/proc/$(pid_of "dc$target")/status"; }
has_links() {
    status_of "$target" '.nodes[0].channels[] | select(.name == "dc'"$1"'" and .ready) | .port' | sort | tr '\n' ' '
}
linked() { [ "$(has_links "$1")" = "dialled peers " ]; }
for i in $(seq "$nodes"); do
    [ "$i" = "$target" ] || soon 20 "dc$target and dc$i are linked, both ways" linked "$i"
done
stop "dc$newcomer" || complain "dc$newcomer did not stop"
soon 20 "dc$target has lost dc$newcomer" eval "[ -z \"\$(has_links $newcomer)\" ]"

begun=$(handshakes begun) memory=$(anonymous_kb)
declare -A lines
for i in $(seq "$nodes"); do lines[$i]=$(log_lines "dc$i"); done

say "the flood begins"
from=$(date +%s%N)
flood=() most=$memory
for i in 1 2; do
    helper python3 "$here/flood.py" "$network" "127.0.0.1:$(dc_port "$target" 1)" 127.0.0.2 40000 90 >"$work/flood$i.json"
    flood+=("$helper_pid")
done
came_above() { # came_above COUNTERS NUMBER: in all
    local now
    now=$(anonymous_kb)
    [ "$now" -le "$most" ] || most=$now
    [ "$(status_of "$target" ".nodes[0].ports.peers.handshakes | $1")" -gt "$2" ]
}
# Where processes get so little time that no more than the budget is sent, the gate has nothing to do; tests/net has
# one with a smaller budget.
wait_for 40 "the gate turns flights away" came_above .turned_away 500 ||
    say "the flood is too slow here for the gate: $(handshakes turned_away) were turned away"
soon 20 "there is a flood" came_above '.begun + .turned_away' $((begun + 2 * burst))
goes_on 20 "the fleet delivers during the flood"

say "a DC comes amid the flood"
start_dc "$newcomer"
soon 30 "dc$newcomer is linked, both ways" linked "$newcomer"
for pid in "${flood[@]}"; do
    kill -0 "$pid" 2>/dev/null || complain "the flood was over before the newcomer was in"
done
goes_on 20 "the fleet delivers with it"
before=$(status_of "$target" '.nodes[0].ports.peers.handshakes | .begun + .turned_away')
soon 20 "the flood goes on" came_above '.begun + .turned_away' $((before + 200))
for pid in "${flood[@]}"; do
    kill -TERM "$pid" 2>/dev/null
    wait "$pid" || complain "the flood failed"
done
elapsed_s=$((($(date +%s%N) - from) / 1000000000 + 1))
jq -c . "$work"/flood?.json

say "what it cost"
begun=$(($(handshakes begun) - begun))
echo "handshakes begun: $begun in $elapsed_s s, turned away: $(handshakes turned_away); anonymous memory:" \
    "$memory kB before, $most kB at most"
# Besides the flood only the newcomer and a few of its tries.
allowed=$((burst + per_s * elapsed_s + 50))
[ "$begun" -le "$allowed" ] || complain "$begun handshakes were begun, more than the $allowed that one source may"
[ "$begun" -ge "$burst" ] || complain "only $begun handshakes were begun: that is no flood"
# 256 connections at most, each with a channel and small buffers.
limit=16384
if sanitized; then limit=131072; fi
[ "$most" -lt $((memory + limit)) ] || complain "dc$target grew by more than $limit kB"
open=$(status_of "$target" .nodes[0].ports.peers.open)
soon 20 "the flood's links are gone" eval "[ \"\$(status_of $target .nodes[0].ports.peers.open)\" -lt 20 ]"
echo "connections open at the end of the flood: $open"

say "nobody lost anybody"
for i in $(seq "$nodes"); do
    if [ "$i" != "$newcomer" ] && [ "$i" != "$target" ]; then
        ! tail -n +"$((lines[$i] + 1))" "$dir/log/dc$i.log" | grep -q " peer_lost dc=dc$target" ||
            complain "dc$i lost dc$target during the flood"
        ! tail -n +"$((lines[$target] + 1))" "$dir/log/dc$target.log" | grep -q " peer_lost dc=dc$i" ||
            complain "dc$target lost dc$i during the flood"
    fi
done
[ "$(status_of "$target" .nodes[0].role)" = leader ] || complain "dc$target leads no more"
drain_fleet
stop_all
audit_all
nothing_lost
finish
