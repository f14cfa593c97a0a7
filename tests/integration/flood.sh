#!/usr/bin/env bash
# Floods of a DC's secure ports: first flights on both, and on its port for peers whole handshakes under a forged
# X.509 certificate, the dearest that a stranger may ask for. What that costs in answers, memory and processor time is
# bounded, DCs that are connected stay so, a DC that comes gets in, operators are answered, and commits go on. Then
# holders of good credentials who want every place for themselves: a DC's key, and an operator of the lowest label.
# Usage: flood.sh KNOCK
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

knock=${1:?the program that knocks}
up a
enrol_meters 4
network=$dir/network.json ca=$work/ca
"$here/../channel/make_certificates" "$ca" "$(jq -r .id "$network")" "$(date +%s)" dc1 dc2 || give_up "no certificates"
# forge: a leaf that says that the authority has made it, down to the identifier of its key, and was made with another
# key. Only the signature tells, and that is asked for last.
forge() (
    cd "$ca" || exit 1
    id=(-sigopt distid:1234567812345678)
    identifier=$(openssl x509 -in middle.pem -noout -ext subjectKeyIdentifier | tail -n 1 | tr -d ' ')
    for key in false forged; do
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:SM2 -out $key.key 2>/dev/null || exit 1
    done
    openssl req -x509 -new -sm3 "${id[@]}" -key false.key -subj /CN=middle -days 3650 -out false.pem \
        -addext "subjectKeyIdentifier=$identifier" &&
        openssl req -new -sm3 "${id[@]}" -key forged.key -subj /CN=dc1 -out forged.csr &&
        openssl x509 -req -sm3 "${id[@]}" -vfyopt distid:1234567812345678 -in forged.csr -CA false.pem -CAkey false.key \
            -CAcreateserial -extfile dc-1.ext -days 3000 -out forged.pem 2>forge.log &&
        cat forged.pem middle.pem >forged.chain
)
forge || give_up "nothing is forged"
expect 0 "" "$bin/ami-mdms" operator add mallory --dir "$dir/mdms" --passphrase-file "$dir/passphrase" --label 0: \
    --out "$work/mallory.cred"

# run_dc N: with roots, so that X.509 is looked at.
run_dc() {
    local from
    from=$(log_lines "dc$1")
    start "dc$1" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc$1" --x509-roots "$ca/root.pem" \
        --x509-crls "$ca/all.crl"
    wait_ready "dc$1" 60 "$from"
}
for i in $(seq "$nodes"); do stop "dc$i" || complain "dc$i did not stop"; done
for i in $(seq "$nodes"); do run_dc "$i"; done
start_fleet
target=$(who_leads) || give_up "nobody leads"
newcomer=$((target % nodes + 1))
liar=$((newcomer % nodes + 1))
# As in node/main.c: what of one source is looked at, at once and then every second, in answers to first flights; and
# what a third flight under X.509 is charged (channel/channel.h).
burst=400 per_s=200 x509_price=30

# Amid a flood of strangers on its own port an operator's connection may be pushed out before it has said who it is.
asked_again=0
status_of() {
    local answer
    for _ in $(seq 20); do
        answer=$("$bin/dc-cli" status --json --node "$(admin_url "$1")" 2>/dev/null) && break
        asked_again=$((asked_again + 1))
    done
    jq -r "$2" <<<"$answer"
}
port_of_target() { status_of "$target" ".nodes[0].ports.$1"; }
handshakes() { port_of_target "$1.handshakes.$2"; }
anonymous_kb() { awk '$1 == "RssAnon:" { print $2 }' "/proc/$(pid_of "dc$target")/status"; }
# What dc$target has taken of the processors, in ms.
ticks_per_s=$(getconf CLK_TCK)
cpu_ms() { awk -v hz="$ticks_per_s" '{ sub(/.*\) /, ""); print int(($12 + $13) * 1000 / hz) }' "/proc/$(pid_of "dc$target")/stat"; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }
has_links() {
    status_of "$target" '.nodes[0].channels[] | select(.name == "dc'"$1"'" and .ready) | .port' | sort | tr '\n' ' '
}
linked() { [ "$(has_links "$1")" = "dialled peers " ]; }
for i in $(seq "$nodes"); do
    [ "$i" = "$target" ] || soon 20 "dc$target and dc$i are linked, both ways" linked "$i"
done
stop "dc$newcomer" || complain "dc$newcomer did not stop"
soon 20 "dc$target has lost dc$newcomer" eval "[ -z \"\$(has_links $newcomer)\" ]"

say "without a flood"
from=$(now_ms) busy=$(cpu_ms)
soon 60 "the fleet delivers" acknowledged_above $(($(acknowledged) + 60))
quiet_cpu=$(($(cpu_ms) - busy)) quiet_ms=$(($(now_ms) - from))
begun=$(handshakes peers begun) memory=$(anonymous_kb)
declare -A lines
for i in $(seq "$nodes"); do lines[$i]=$(log_lines "dc$i"); done

say "the flood begins"
from=$(now_ms) busy=$(cpu_ms)
flood=() most=$memory
attack() { # attack NAME COMMAND...
    local name=$1
    shift
    helper "$@" >"$work/flood.$name"
    flood+=("$helper_pid")
}
peers=127.0.0.1:$(dc_port "$target" 1) admin=127.0.0.1:$(dc_port "$target" 3)
for i in 1 2; do
    attack "peers.$i" python3 "$here/flood.py" "$(jq -r .id "$network")" "$peers" 127.0.0.2 40000 200
done
attack admin python3 "$here/flood.py" "$(jq -r .id "$network")" "$admin" 127.0.0.2 40000 200
attack thirds "$knock" "$network" "$peers" 127.0.0.3 0 "$ca/forged.key" "$ca/forged.chain"
came_above() { # came_above PORT COUNTERS NUMBER: in all
    local now
    now=$(anonymous_kb)
    [ "$now" -le "$most" ] || most=$now
    [ "$(port_of_target "$1.handshakes | $2")" -gt "$3" ]
}
# Forged certificates alone use up their source's share in a moment.
soon 40 "the gate turns flights away" came_above peers .turned_away 200
soon 40 "forged certificates are looked at, and refused" came_above peers '.refused.wrong_chain // 0' $((burst / x509_price / 2))
soon 60 "there is a flood of peers" came_above peers '.begun + .turned_away' $((begun + 2 * burst))
soon 60 "there is a flood of operators" came_above admin '.begun + .turned_away' "$burst"
goes_on 20 "the fleet delivers during the flood"

say "a DC comes amid the flood"
run_dc "$newcomer"
soon 30 "dc$newcomer is linked, both ways" linked "$newcomer"
for pid in "${flood[@]}"; do
    kill -0 "$pid" 2>/dev/null || complain "the flood was over before the newcomer was in"
done
goes_on 20 "the fleet delivers with it"
before=$(port_of_target 'peers.handshakes | .begun + .turned_away')
soon 20 "the flood goes on" came_above peers '.begun + .turned_away' $((before + 200))
open=$(port_of_target peers.open)
for pid in "${flood[@]}"; do
    kill -TERM "$pid" 2>/dev/null
    wait "$pid" || complain "the flood failed"
done
flood_cpu=$(($(cpu_ms) - busy)) flood_ms=$(($(now_ms) - from))
elapsed_s=$((flood_ms / 1000 + 1))
for file in "$work"/flood.*; do echo "${file##*/flood.}: $(jq -c . "$file")"; done

say "what it cost"
begun=$(($(handshakes peers begun) - begun)) chains=$(handshakes peers '"refused".wrong_chain // 0')
turned_away=$(handshakes peers turned_away)
came=$((begun + turned_away + $(port_of_target 'admin.handshakes | .begun + .turned_away')))
echo "peers: handshakes begun: $begun in $elapsed_s s, turned away: $turned_away, chains checked: $chains;" \
    "anonymous memory: $memory kB before, $most kB at most; asked again: $asked_again times"
# Two sources, and besides them the newcomer and a few of its tries.
allowed=$((2 * (burst + per_s * elapsed_s) + 50))
[ "$begun" -le "$allowed" ] || complain "$begun handshakes were begun, more than the $allowed that two sources may"
[ "$begun" -ge "$burst" ] || complain "only $begun handshakes were begun: that is no flood"
allowed=$(((burst + per_s * elapsed_s) / x509_price + 1))
[ "$chains" -le "$allowed" ] || complain "$chains chains were checked, more than the $allowed that one source may"
# Processor time: five times what a twentieth of a core is on each of two ports, half a millisecond for each connection
# whatever becomes of it, and four times what the DC takes anyway. With sanitizers all of it takes longer.
slow=1
if sanitized; then slow=3; fi
allowed=$((slow * (5 * 2 * (100 + flood_ms / 20) + came / 2) + 4 * flood_ms * quiet_cpu / quiet_ms))
echo "processor time of dc$target: $quiet_cpu ms in $quiet_ms ms without the flood, $flood_cpu ms in $flood_ms ms with" \
    "it ($came connections); allowed: $allowed ms"
[ "$flood_cpu" -le "$allowed" ] || complain "the flood took $flood_cpu ms of processor time, more than $allowed ms"
# 256 connections at most, each with a channel and small buffers.
limit=16384
if sanitized; then limit=131072; fi
[ "$most" -lt $((memory + limit)) ] || complain "dc$target grew by more than $limit kB"
soon 20 "the flood's links are gone" eval "[ \"\$(port_of_target peers.open)\" -lt 20 ]"
echo "connections open at the end of the flood: $open"

say "those who are let in, and want all places"
asked_again=0
opened_peers=$(handshakes peers opened) opened_admin=$(handshakes admin opened)
flood=()
attack liar "$knock" "$network" "$peers" 127.0.0.4 300 "$dir/dc$liar"
attack mallory "$knock" "$network" "$admin" 127.0.0.5 80 "$work/mallory.cred"
soon 60 "dc$liar's key opens one link after the other" came_above peers .opened $((opened_peers + 80))
soon 60 "mallory opens one link after the other" came_above admin .opened $((opened_admin + 80))
held() { status_of "$target" "[.nodes[0].channels[] | select(.port == \"peers\" and .name == \"dc$1\")] | length"; }
for _ in 1 2 3 4 5; do
    [ "$(held "$liar")" -le 4 ] || complain "dc$liar's key holds $(held "$liar") places"
    [ "$(port_of_target admin.open)" -le 20 ] || complain "mallory holds the operators' places"
done
[ "$asked_again" = 0 ] || complain "an operator had to ask again $asked_again times"
mdms_is_there() { [ "$(status_of "$target" .nodes[0].mdms_connected)" = true ]; }
stop mdms || complain "the MDMS did not stop"
soon 20 "dc$target has lost the MDMS" eval "! mdms_is_there"
start_mdms --genesis "$dir/genesis.json"
soon 30 "the MDMS is linked again" mdms_is_there
# Whoever holds a DC's key may take that DC's own links away, and no others.
goes_on 20 "the fleet delivers"
for pid in "${flood[@]}"; do
    kill -0 "$pid" 2>/dev/null || complain "a holder has given up"
    kill -TERM "$pid" 2>/dev/null
    wait "$pid" || complain "a holder failed"
done
for name in liar mallory; do echo "$name: $(jq -c . "$work/flood.$name")"; done
check "dc$liar's key holds more than its share" holds "$work/flood.liar" '.held <= 4 and .opened >= 80'
check "mallory holds more than its share" holds "$work/flood.mallory" '.held <= 8 and .opened >= 80'
soon 30 "dc$liar itself is linked, both ways" linked "$liar"

say "nobody lost anybody"
for i in $(seq "$nodes"); do
    if [ "$i" != "$newcomer" ] && [ "$i" != "$target" ]; then
        [ "$i" = "$liar" ] || ! tail -n +"$((lines[$i] + 1))" "$dir/log/dc$i.log" | grep -q " peer_lost dc=dc$target" ||
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
