#!/usr/bin/env bash
# A stranger breaks every rule on every listening port while a fleet delivers: everybody else is
# served, what he does is dropped and counted, and memory stays bounded.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

up a
enrol_meters 8
start_fleet
goes_on 20 "the fleet delivers"
target=$(who_leads) || give_up "nobody leads"
follower=$((target % nodes + 1))

flight=$((128 + 4096 + 64 + 32 + 16)) # CHANNEL_FLIGHT_BYTES_MAX
network=$(jq -r .id "$dir/network.json")

resident_kb() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$(pid_of "$1")/status"; }
ports_of() {
    # Where links are channels, the largest frame of a stranger is the largest flight of a handshake.
    echo "peers=127.0.0.1:$(dc_port "$1" 1)=$flight meters=127.0.0.1:$(dc_port "$1" 2)=2048" \
        "admin=127.0.0.1:$(dc_port "$1" 3)=$flight"
}

declare -A before
victims=("dc$target" "dc$follower" mdms)
for name in "${victims[@]}"; do before[$name]=$(resident_kb "$name"); done

say "attack on dc$target, which leads, and on the MDMS"
# shellcheck disable=SC2046
helper python3 "$here/hostile.py" 31 "$network" $(ports_of "$target") "enrol=${base_port:+127.0.0.1:$base_port}=16384" \
    >"$work/leader.json" 2>"$work/leader.err"
attack=$helper_pid
# shellcheck disable=SC2046
helper python3 "$here/hostile.py" 1 "$network" $(ports_of "$follower") >"$work/follower.json" 2>"$work/follower.err"
second=$helper_pid

attacked() { kill -0 "$1" 2>/dev/null && ! grep -q '^State:[[:space:]]*Z' "/proc/$1/status"; }
times=0 slowest=0
declare -A most
while attacked "$attack"; do
    goes_on 20 "the fleet delivers during the attack"
    from=$(date +%s%N)
    timeout --foreground 60 "$bin/dc-cli" status --timeout 50s --json --node "$(admin_url "$target")" >"$work/status.json" ||
        complain "dc-cli gets no answer during the attack"
    took=$((($(date +%s%N) - from) / 1000000))
    [ "$took" -le "$slowest" ] || slowest=$took
    for name in "${victims[@]}"; do
        now=$(resident_kb "$name")
        [ "$now" -le "${most[$name]:-0}" ] || most[$name]=$now
    done
    times=$((times + 1))
    [ "$failed" -eq 0 ] || break
done
[ "$times" -ge 3 ] || complain "the attack ended too soon"
wait "$attack" || complain "the attacker failed: $(cat "$work/leader.err")"
wait "$second" || complain "the attacker failed: $(cat "$work/follower.err")"
say "the fleet went on $times times, dc-cli took at most $slowest ms"
for attacker in leader follower; do
    jq -c '.rounds, .ports' "$work/$attacker.json"
    check "a port did not end every connection that broke a rule" holds "$work/$attacker.json" \
        '[.ports[] | .tried == .ended and .tried > 50 and .flooded > 100] | all'
done

say "what was counted"
"$bin/dc-cli" status --json --node "$(admin_url "$target")" >"$work/status.json"
jq -c '.nodes[0] | .ports, .counters.frames_bad' "$work/status.json"
# counted PORT REASON...
counted() {
    local port=$1 reason
    shift
    for reason in "$@"; do
        check "$port: no $reason was counted" holds "$work/status.json" \
            ".nodes[0].ports.$port.dropped.$reason > 0"
    done
}
# Among DCs a stranger is pushed out by others before it is mute for too long, and among meters has as
# much time for half a frame as for saying nothing;
# the meters' port has more places than the flood.
counted peers garbage oversized too_many channel
counted meters garbage oversized mute
counted admin garbage oversized half_frame mute too_many channel
# Who speaks in the clear is told one byte, that it is refused, and nothing else; the node says why to its
# operators. In a flood some are pushed out before they are looked at.
for port in peers admin; do
    for attacker in leader follower; do
        check "$port: somebody without a channel was told something" holds "$work/$attacker.json" \
            ".ports.$port | .told == [] and .clear == 8 and .clear_ended == 8 and .clear_refused > 0"
    done
    check "$port: those who speak in the clear were not counted" holds "$work/status.json" \
        ".nodes[0].ports.$port.handshakes.refused.plaintext >= $(jq ".ports.$port.clear_refused" "$work/leader.json")"
    line="channel_refused *port=$port .*reason=plaintext: the peer speaks without a secure channel"
    soon 5 "dc$target's log says that somebody spoke in the clear: $port" logged "dc$target" "$line"
done
# How many are turned away depends on how fast they come; the bound itself is tested in tests/net.
check "first flights were left waiting" holds "$work/leader.json" \
    '.ports.peers | .answered > 100 and .answered + .turned_away > 500 and (.stayed | length) == 0'
check "no bad frame was counted" holds "$work/status.json" '.nodes[0].counters.frames_bad > 100'
check "links of strangers stay" holds "$work/status.json" \
    '[.nodes[0].ports[].open] | add < 100'
check "the DCs lost one another" holds "$work/status.json" '.nodes[0].peers_connected == 3'

say "memory"
for name in "${victims[@]}"; do
    echo "$name: ${before[$name]} kB before, ${most[$name]} kB at most, $(resident_kb "$name") kB after"
    limit=98304
    # A sanitized program keeps freed memory for a while and rounds every piece up.
    if sanitized; then limit=262144; fi
    [ "${most[$name]}" -lt $((before[$name] + limit)) ] || complain "$name grew by more than $limit kB"
done
drain_fleet
stop_all
grep ' strangers_dropped ' "$dir/log/mdms.log" | tail -n 1 >"$work/dropped"
for reason in garbage oversized half_frame mute; do
    grep -qE " $reason=[1-9]" "$work/dropped" || complain "the MDMS counted no $reason: $(cat "$work/dropped")"
done
audit_all
nothing_lost
finish
