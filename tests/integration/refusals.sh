#!/usr/bin/env bash
# Credentials that the programs would not show themselves, shown by a stranger to DCs and to the MDMS that run,
# from either side of the link; and those that they do show and should not have. Whoever refuses says why, in its
# log and to operators; who is refused hears no reason. Usage: refusals.sh CLOCK-SHIFT.SO STRANGER
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

library=${1:?the library that shifts a clock}
stranger=${2:?the program that shows anything}
export ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0

up a
enrol_meters 2
pass=(--passphrase-file "$dir/passphrase")
ca=$work/ca
network=$(jq -r .id "$dir/network.json")
"$here/../channel/make_certificates" "$ca" "$network" "$(date +%s)" dc1 dc4 || give_up "no certificates"
# The public seed set is there from the first CFL certificate on.
expect 0 "" "$bin/ami-mdms" operator add carol --dir "$dir/mdms" "${pass[@]}" --label 1:ledger --kind cfl \
    --out "$work/carol.cred"
anchors=(--x509-roots "$ca/root.pem" --x509-crls "$ca/all.crl" --cfl-public "$dir/mdms/operators/cfl.public")

# made_at DAYS PROGRAM...: whose clock is off by so many days.
made_at() {
    echo "$(($1 * 86400000))" >"$work/clock"
    AMI_TEST_CLOCK=$work/clock LD_PRELOAD=$library expect 0 "CFL certificate of" "${@:2}"
}
# certificate NAME DC DAYS: a CFL certificate of that DC, asked for and made that many days from now, good for 20.
certificate() {
    echo "$(($3 * 86400000))" >"$work/clock"
    AMI_TEST_CLOCK=$work/clock LD_PRELOAD=$library expect 0 "request of dc$2" "$bin/dc-node" cfl-request \
        --network "$dir/network.json" --dir "$dir/dc$2" --out "$work/request" --days 20
    made_at "$3" "$bin/ami-mdms" credential dc "$work/request" --out "$work/$1.cfl" --dir "$dir/mdms" "${pass[@]}"
}
certificate good4 4 0
certificate early4 4 -400
certificate late4 4 30
certificate good3 3 0
made_at -400 "$bin/ami-mdms" credential mdms --days 20 --out "$work/early-mdms.cfl" --dir "$dir/mdms" "${pass[@]}"
made_at 30 "$bin/ami-mdms" credential mdms --days 20 --out "$work/late-mdms.cfl" --dir "$dir/mdms" "${pass[@]}"

run_dc() { # run_dc N [OPTION...]
    local i=$1 from
    shift
    from=$(log_lines "dc$i")
    start "dc$i" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc$i" "${anchors[@]}" "$@"
    wait_ready "dc$i" 30 "$from"
}
peers_of() { [ "$(status_of "$1" '.nodes[0].peers_connected')" = "$2" ]; }
for i in $(seq "$nodes"); do
    stop "dc$i" || complain "dc$i did not stop"
    run_dc "$i"
done
stop mdms || complain "the MDMS did not stop"
start_mdms --genesis "$dir/genesis.json" --x509-roots "$ca/root.pem" --x509-crls "$ca/all.crl"
for i in $(seq "$nodes"); do soon 30 "dc$i has all peers" peers_of "$i" 3; done
export AMI_CFL_PUBLIC=$dir/mdms/operators/cfl.public
start_fleet
# dc4 is away from here on: its key is the stranger's, and so is, later, its place.
stop dc4 || complain "dc4 did not stop"
goes_on 60 "three DCs commit"

show() { "$stranger" "$dir/network.json" "$@" >"$work/out" 2>"$work/err"; }
# sentence REASON: what stands behind it in the log (channel/fault.h).
sentence() {
    case $1 in
    other_network) echo "the peer or its credential belongs to another network" ;;
    usage) echo "the credential was issued for another use" ;;
    signature) echo "the peer lacks the key of its credential, or nobody issued it" ;;
    wrong_chain) echo "the credential does not lead to an issuer that is trusted" ;;
    expired) echo "the credential has expired" ;;
    future) echo "the credential is not valid yet" ;;
    unexpected) echo "the peer is not the one expected here" ;;
    *) complain "no sentence for $1" ;;
    esac
}

say "somebody dials dc1"
at_peers=1 at_admin=3 # as dc_port has them
# welcome PORT CREDENTIAL...: at dc1's port: the stranger can be let in, so that what it is
# refused for is what is wrong with its credential.
welcome() {
    show dial "127.0.0.1:$(dc_port 1 "$1")" "${@:2}" || complain "refused: ${*:2}: $(cat "$work/out" "$work/err")"
}
port_name() { if [ "$1" = $at_peers ]; then echo peers; else echo admin; fi; }
# Once more where the log has left it out: it has twenty of one kind in ten seconds.
try_it() { # try_it PORT LINE FROM CREDENTIAL...
    local status=0
    tries=$((tries + 1))
    show dial "127.0.0.1:$(dc_port 1 "$1")" "${@:4}" || status=$?
    [ "$status" = 3 ] || complain "status $status, not refused: ${*:4}: $(cat "$work/out" "$work/err")"
    wait_for 2 "its line" logged dc1 "$2" "$3"
}
# refused PORT REASON CREDENTIAL...
refused() {
    local name from event line
    name=$(port_name "$1")
    line="channel_refused *port=$name .*reason=$2: $(sentence "$2")"
    from=$(log_lines dc1)
    event=$(newest_event 1) || complain "dc1 does not say which event is its newest"
    tries=0
    soon 20 "dc1's log says $2 of ${*:3}" try_it "$1" "$line" "$from" "${@:3}"
    [ "$tries" = 1 ] || logged dc1 " channel_refused .*more like it were not shown" "$from" ||
        complain "the log has not each refusal: ${*:3}"
    soon 20 "dc-cli events says $2 of ${*:3}" event_since 1 "$event" "$line"
    tail -n +"$((from + 1))" "$dir/log/dc1.log" | grep " channel_refused " |
        grep -qvE -- "$line|and [0-9]+ more like it were not shown" &&
        complain "another refusal in dc1's log: ${*:3}"
    return 0
}
sim=$AMI_CREDENTIAL key=$dir/dc4/dc.key
welcome $at_peers dc "$key"
welcome $at_peers dc "$key" "$work/good4.cfl"
welcome $at_peers x509 "$ca/dc-2.key" "$ca/dc-2.chain"
welcome $at_admin file "$sim"
welcome $at_admin file "$work/carol.cred"
# Another network's.
refused $at_peers other_network x509 "$ca/foreign.key" "$ca/foreign.chain"
for kind in implicit cfl; do
    refused $at_peers other_network made $kind dc dc4 elsewhere
    refused $at_admin other_network made $kind operator mallory elsewhere
done
# For another use: an operator's where DCs are, and the other way round.
refused $at_peers usage file "$sim"
refused $at_peers usage file "$work/carol.cred"
refused $at_peers usage x509 "$ca/no-signing.key" "$ca/no-signing.chain"
refused $at_admin usage dc "$key"
refused $at_admin usage dc "$key" "$work/good4.cfl"
refused $at_admin usage x509 "$ca/dc-2.key" "$ca/dc-2.chain"
# Issued by nobody, and by another MDMS that says that it is this network's.
for whose in self forged; do
    for port in $at_peers:dc $at_admin:operator; do
        refused "${port%:*}" signature made implicit "${port#*:}" dc4 $whose
        refused "${port%:*}" wrong_chain made cfl "${port#*:}" dc4 $whose
    done
done
# Out of date.
refused $at_peers expired dc "$key" "$work/early4.cfl"
refused $at_peers future dc "$key" "$work/late4.cfl"

say "somebody who says that it is the MDMS dials dc1"
for port in $at_peers $at_admin; do
    refused "$port" unexpected x509 "$ca/mdms.key" "$ca/mdms.chain"
    refused "$port" unexpected made cfl mdms sim forged
    refused "$port" signature made implicit mdms sim forged
    refused "$port" other_network made implicit mdms sim elsewhere
    refused "$port" expired mdms "$dir/mdms/mdms.key" "$dir/passphrase" "$work/early-mdms.cfl"
    refused "$port" future mdms "$dir/mdms/mdms.key" "$dir/passphrase" "$work/late-mdms.cfl"
done

say "somebody is in dc4's place, where DCs and the MDMS dial it"
place=127.0.0.1:$(dc_port 4 1)
refused_there() { # refused_there REASON CREDENTIAL...
    local reason=$1 from event mdms said=$work/stranger.out rest
    shift
    rest="remote=$place reason=$reason: $(sentence "$reason")"
    from=$(log_lines dc1) mdms=$(log_lines mdms)
    event=$(newest_event 1) || complain "dc1 does not say which event is its newest"
    helper "$stranger" "$dir/network.json" listen "$place" "$@" >"$said" 2>&1
    soon 20 "dc1's log says $reason of $*" logged dc1 "channel_refused *port=dialled $rest" "$from"
    soon 20 "dc-cli events says $reason of $*" event_since 1 "$event" "channel_refused *port=dialled $rest"
    soon 20 "the MDMS says $reason of $*" logged mdms "channel_refused *$rest" "$mdms"
    kill -TERM "$helper_pid"
    wait "$helper_pid" || complain "the stranger failed: $(cat "$said")"
    { grep -qx refused "$said" && ! grep -qvxE 'ready|refused' "$said"; } ||
        complain "it was not always refused: $(sort "$said" | uniq -c)"
}
refused_there other_network x509 "$ca/foreign.key" "$ca/foreign.chain"
refused_there usage file "$sim"
refused_there signature made implicit dc dc4 self
refused_there signature made implicit dc dc4 forged
refused_there other_network made implicit dc dc4 elsewhere
# What the MDMS believes CFL certificates with is its own seed set.
refused_there usage file "$work/carol.cred"
refused_there wrong_chain made cfl dc dc4 self
refused_there wrong_chain made cfl dc dc4 forged
refused_there other_network made cfl dc dc4 elsewhere
refused_there expired dc "$key" "$work/early4.cfl"
refused_there future dc "$key" "$work/late4.cfl"

goes_on 30 "the fleet delivers"
run_dc 4 --cfl-certificate "$work/good4.cfl"
soon 30 "dc4 is back" peers_of 4 3
drain_fleet
stop_all
audit_all
nothing_lost
finish
