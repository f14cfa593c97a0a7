#!/usr/bin/env bash
# A flood of first flights from one address on a DC's port for peers: what it may cost in answers and memory is
# bounded, DCs that are connected stay so, a DC that comes gets in, and commits go on.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

up a
enrol_meters 4
start_fleet
network=$(jq -r .id "$dir/network.json")
target=$(leader) || give_up "nobody leads"
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
helper python3 "$here/flood.py" "$network" "127.0.0.1:$(dc_port "$target" 1)" 127.0.0.2 60000 60 >"$work/flood.json"
flood=$helper_pid most=$memory
turned_away_above() {
    local now
    now=$(anonymous_kb)
    [ "$now" -le "$most" ] || most=$now
    [ "$(handshakes turned_away)" -gt "$1" ]
}
soon 40 "the gate turns flights away" turned_away_above 500
goes_on 20 "the fleet delivers during the flood"

say "a DC comes amid the flood"
start_dc "$newcomer"
soon 30 "dc$newcomer is linked, both ways" linked "$newcomer"
kill -0 "$flood" 2>/dev/null || complain "the flood was over before the newcomer was in"
goes_on 20 "the fleet delivers with it"
before=$(handshakes turned_away)
soon 20 "the flood goes on" turned_away_above $((before + 200))
kill -TERM "$flood" 2>/dev/null
wait "$flood" || complain "the flood failed"
elapsed_s=$((($(date +%s%N) - from) / 1000000000 + 1))
jq -c . "$work/flood.json"

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
