#!/usr/bin/env bash
# All three credentials in every role, in one network: DCs, MDMS and operators under implicit, X.509 and CFL
# ones, each with each; own credentials that are exchanged while programs run; and operators who are refused,
# with the reason. Usage: credentials.sh CLOCK-SHIFT.SO
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

library=${1:?the library that shifts a clock}
export ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0

up a
enrol_meters 4
pass=(--passphrase-file "$dir/passphrase")
channel=$here/../channel ca=$work/ca
network=$(jq -r .id "$dir/network.json")
"$channel/make_certificates" "$ca" "$network" "$(date +%s)" dc1 dc2 || give_up "no certificates"

say "who gets a CFL certificate, and who does not"
ask_for() { # ask_for DC DAYS [OPTION...]: a request of that DC
    expect 0 "request of dc$1" "$bin/dc-node" cfl-request --network "$dir/network.json" --dir "$dir/dc$1" \
        --out "$work/dc$1.request" --days "$2" "${@:3}"
}
issue() { # issue STATUS TEXT REQUEST OUT
    expect "$1" "$2" "$bin/ami-mdms" credential dc "$3" --out "$4" --dir "$dir/mdms" "${pass[@]}"
}
ask_for 3 900
issue 1 "asks for more than 365 days" "$work/dc3.request" "$work/dc3.cfl"
ask_for 3 300
issue 0 "CFL certificate of dc3" "$work/dc3.request" "$work/dc3.cfl"
issue 1 "no request for a CFL certificate" "$work/dc3.cfl" "$work/x.cfl"
# Another name in it: whoever wrote that does not have the key that dc4 was enrolled with.
sed 's/dc3/dc4/' "$work/dc3.request" >"$work/forged.request"
issue 1 "not signed with the key in it" "$work/forged.request" "$work/x.cfl"
expect 2 "expected dc REQUEST" "$bin/ami-mdms" credential cat --out "$work/x.cfl" --dir "$dir/mdms" "${pass[@]}"
[ ! -e "$work/x.cfl" ] || complain "a certificate came out of a refusal"
expect 0 "CFL certificate of this MDMS" "$bin/ami-mdms" credential mdms --out "$work/mdms.cfl" --dir "$dir/mdms" "${pass[@]}"
expect 0 "X.509 certificate of this MDMS" "$bin/ami-mdms" credential x509-request --out "$ca/own.csr" --dir "$dir/mdms" "${pass[@]}"
"$channel/sign_request" "$ca" own || give_up "the authority does not take the MDMS's request"

say "dc2 under X.509, dc3 under CFL, the MDMS under X.509, the others implicit"
cfl=(--cfl-public "$dir/mdms/operators/cfl.public")
roots=(--x509-roots "$ca/root.pem" --x509-crls "$ca/all.crl")
run_dc() { # run_dc N [OPTION...]
    local i=$1 from
    shift
    from=$(log_lines "dc$i")
    start "dc$i" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc$i" "${roots[@]}" "${cfl[@]}" "$@"
    wait_ready "dc$i" 30 "$from"
}
run_mdms() { # run_mdms OPTION...
    local from
    from=$(log_lines mdms)
    start_mdms --genesis "$dir/genesis.json" "${roots[@]}" "$@"
    for i in $(seq "$nodes"); do
        soon 30 "the MDMS reaches dc$i under $1" logged mdms "dc_connected dc=dc$i" "$from"
        soon 30 "dc$i knows the MDMS" mdms_at "$i"
    done
}
mdms_at() { [ "$(status_of "$1" '.nodes[0].mdms_connected')" = true ]; }
peers_of() { [ "$(status_of "$1" '.nodes[0].peers_connected')" = "$2" ]; }
export AMI_X509_ROOTS=$ca/root.pem AMI_X509_CRLS=$ca/all.crl AMI_CFL_PUBLIC=$dir/mdms/operators/cfl.public
for i in $(seq "$nodes"); do stop "dc$i" || complain "dc$i did not stop"; done
stop mdms || complain "the MDMS did not stop"
people=(--x509-operators "$ca/middle.pem" --x509-operators-label 2:ledger+metering+operation)
run_dc 1 "${people[@]}"
cp "$ca/dc-2.key" "$work/dc2.key"
cp "$ca/dc-2.chain" "$work/dc2.chain"
run_dc 2 --x509-key "$work/dc2.key" --x509-chain "$work/dc2.chain" "${people[@]}"
run_dc 3 --cfl-certificate "$work/dc3.cfl" "${people[@]}"
run_dc 4
for i in $(seq "$nodes"); do soon 30 "dc$i has all peers" peers_of "$i" 3; done
run_mdms --x509-chain "$ca/own.chain"
kind_of() { status_of "$1" '.nodes[0].credential.kind'; }
[ "$(kind_of 1) $(kind_of 2) $(kind_of 3)" = "implicit x509 cfl" ] || complain "the DCs do not say what they speak under"
[ "$(status_of 3 '.nodes[0].credential.expires_in_s')" -gt 86400 ] || complain "dc3 does not say until when"
logged mdms " credential kind=x509 in_days=" || complain "the MDMS does not say what it speaks under"
mdms_holds() { "$bin/ami-mdms" status --dir "$dir/mdms" --json | jq -e "$1" >/dev/null; }
mdms_holds '.credential.kind == "x509" and .credential.expires_in_s > 86400 and .trust_expires_in_s > 86400' ||
    complain "ami-mdms status does not say until when"
start_fleet
goes_on 30 "the fleet delivers"
say "one of each is needed for a quorum"
stop dc4 || complain "dc4 did not stop"
goes_on 60 "one of each commits"

say "operators of each kind at DCs of each kind"
cat "$ca/alice.key" "$ca/alice.chain" >"$work/alice.pem"
expect 0 "" "$bin/ami-mdms" operator add carol --dir "$dir/mdms" "${pass[@]}" --label 1:ledger --kind cfl --out "$work/carol.cred"
for i in 1 2 3; do
    for who in "$AMI_CREDENTIAL" "$work/carol.cred" "$work/alice.pem"; do
        expect 0 "height" "$bin/dc-cli" blocks --node "$(admin_url "$i")" --credential "$who" --network "$dir/network.json"
    done
done
export AMI_NETWORK=$dir/network.json
as() { # as FILE STATUS TEXT COMMAND...: at dc1
    local who=$1 status=$2 text=$3
    shift 3
    expect "$status" "$text" "$bin/dc-cli" "$@" --node "$(admin_url 1)" --credential "$who"
}
# What the certificate's label says holds.
as "$work/alice.pem" 1 "needs a label that covers 1:operation; you are operator alice 2:ledger+metering" events
expect 2 "is an X.509 credential" env -u AMI_NETWORK "$bin/dc-cli" blocks --node "$(admin_url 1)" --credential "$work/alice.pem"
cat "$ca/dc-1.key" "$ca/dc-1.chain" >"$work/dc.pem"
as "$work/dc.pem" 1 "of no operator" blocks
# The other programs that ask.
proof() { "$bin/dc-cli" proof --node "$(admin_url 1)" --meter m-1 --sequence 1 --credential "$work/alice.pem"; }
soon 20 "the first report has a proof" proof
for i in 1 2 3; do
    expect 0 "was checked" "$bin/ami-mdms" proof --dir "$dir/mdms" --genesis "$dir/genesis.json" --id m-1 --sequence 1 --out "$work/proof.json" \
        --node "$(admin_url "$i")" --credential "$work/alice.pem"
done

say "refused, with the reason"
# refused FILE REASON SENTENCE: by dc1, which says why in its log and to operators, and not to who was refused.
refused() {
    local from event line="channel_refused *port=admin .*reason=$2: $3"
    from=$(log_lines dc1)
    event=$(newest_event 1) || complain "dc1 does not say which event is its newest"
    "$bin/dc-cli" blocks --node "$(admin_url 1)" --credential "$1" >"$work/out" 2>"$work/err" && complain "$1 was let in"
    grep -q "refused and gave no reason" "$work/err" || complain "$1 heard something else: $(cat "$work/err")"
    soon 10 "dc1's log says of $1: $2" logged dc1 "$line" "$from"
    soon 10 "dc-cli events says of $1: $2" event_since 1 "$event" "$line"
}
at() { # at DAYS NAME KIND: an operator whose credential was made that many days from now
    echo "$(($1 * 86400000))" >"$work/clock"
    AMI_TEST_CLOCK=$work/clock LD_PRELOAD=$library expect 0 "operator $2" "$bin/ami-mdms" operator add "$2" \
        --dir "$dir/mdms" "${pass[@]}" --label 1:ledger --kind "$3" --days 20 --out "$work/$2.cred"
}
for kind in implicit cfl; do
    at -400 "early-$kind" "$kind"
    refused "$work/early-$kind.cred" expired "the credential has expired"
    grep -q "your credential has expired" "$work/err" || complain "its holder is not warned"
    at 30 "late-$kind" "$kind"
    refused "$work/late-$kind.cred" future "the credential is not valid yet"
    expect 0 "" "$bin/ami-mdms" operator add "gone-$kind" --dir "$dir/mdms" "${pass[@]}" --label 1:ledger --kind "$kind" \
        --out "$work/gone-$kind.cred"
    expect 0 "revoked" "$bin/ami-mdms" operator revoke "gone-$kind" --dir "$dir/mdms" "${pass[@]}"
    gone() { ! "$bin/dc-cli" blocks --node "$(admin_url 1)" --credential "$work/gone-$kind.cred"; }
    soon 10 "dc1 goes by the new list" gone
    refused "$work/gone-$kind.cred" revoked "the credential has been revoked"
done
for name in chief insider; do cat "$ca/$name.key" "$ca/$name.chain" >"$work/$name.pem"; done
refused "$work/chief.pem" label "the operator's label exceeds what its authority may give here"
refused "$work/insider.pem" issuer "none of its authorities may make operators here"
# A network of the same name whose MDMS is another, and its operators.
"$bin/ami-mdms" init --dir "$work/other" --name sim "${pass[@]}" >/dev/null
for kind in implicit cfl; do
    expect 0 "" "$bin/ami-mdms" operator add mallory-$kind --dir "$work/other" "${pass[@]}" --label 1:ledger --kind $kind \
        --out "$work/mallory-$kind.cred"
    AMI_CFL_PUBLIC='' refused "$work/mallory-$kind.cred" other_network "the peer or its credential belongs to another network"
done
# Without a word about who may make operators, no authority does.
expect 1 "belong together" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc4" "${roots[@]}" \
    --x509-operators "$ca/root.pem"
expect 1 "of no use without X.509 roots" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc4" \
    --x509-operators "$ca/root.pem" --x509-operators-label 1:ledger
expect 1 "of no use without X.509 roots" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc4" \
    --x509-operators-label 1:ledger
run_dc 4
expect 1 "refused and gave no reason" "$bin/dc-cli" blocks --node "$(admin_url 4)" --credential "$work/alice.pem"
soon 10 "dc4 believes no operator under X.509" logged dc4 "reason=issuer: none of its authorities"
# What an X.509 authority has given out, the MDMS's list takes back as well.
as "$work/alice.pem" 0 "height" blocks
expect 0 "operator alice is revoked" "$bin/ami-mdms" operator revoke --certificate "$ca/alice.pem" --dir "$dir/mdms" "${pass[@]}"
barred() { ! "$bin/dc-cli" blocks --node "$(admin_url "$1")" --credential "$work/alice.pem" >/dev/null 2>&1; }
for i in 1 2 3; do soon 10 "dc$i goes by the new list" barred "$i"; done
refused "$work/alice.pem" revoked "the credential has been revoked"

say "own credentials, exchanged while programs run"
before=$(status_of 2 '.nodes[0].credential.expires_in_s')
cp "$ca/renewed.key" "$work/dc2.key"
cp "$ca/renewed.chain" "$work/dc2.chain"
renewed() { [ "$(status_of 2 '.nodes[0].credential.expires_in_s')" -lt $((before - 86400 * 300)) ]; }
soon 10 "dc2 speaks under its new certificate" renewed
cp "$ca/dc-1.chain" "$work/dc2.chain"
soon 10 "dc2 does not take another DC's" logged dc2 "credential_not_read"
cp "$ca/renewed.chain" "$work/dc2.chain"
stop dc4 || complain "dc4 did not stop"
run_dc 4 "${people[@]}"
soon 30 "dc4 finds all of them" peers_of 4 3
# dc3's certificate is of its enrolled key: another DC's is of no use to it, and refused by itself.
stop dc3 || complain "dc3 did not stop"
ask_for 4 300
issue 0 "CFL certificate of dc4" "$work/dc4.request" "$work/dc4.cfl"
expect 1 "is the certificate of dc dc4" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc3" "${cfl[@]}" \
    --cfl-certificate "$work/dc4.cfl"
# Another MDMS's seed set vouches for none of this network.
expect 1 "was not issued under the public seed set" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc3" \
    --cfl-public "$work/other/operators/cfl.public" --cfl-certificate "$work/dc3.cfl"
expect 0 "dc-2.key" "$bin/dc-node" enrol --network "$dir/network.json" --mdms "$(mdms_url)" --id dc3 --dir "$dir/dc3" \
    --epoch 2 --code "$("$bin/ami-mdms" codes --dir "$dir/mdms" --dc --id dc3 2>/dev/null | tail -n 1 | cut -d, -f2)"
soon 30 "the second key of dc3 is on the ledger" mdms_settled
run_dc 3 --cfl-certificate "$work/dc3.cfl"
soon 30 "dc3 is back" peers_of 3 3

say "a CFL certificate is of one key epoch"
expect 0 "in force: rotate of dc3" "$bin/ami-mdms" member rotate --dir "$dir/mdms" --id dc3 --delay 5 --wait --timeout 50s
kind_is() { [ "$(kind_of 3)" = "$1" ]; }
soon 20 "dc3 speaks under its new key" kind_is implicit
soon 30 "dc3 has all peers under its new key" peers_of 3 3
cp "$work/dc3.cfl" "$work/former.cfl"
ask_for 3 300 --epoch 2
issue 0 "CFL certificate of dc3, key epoch 2" "$work/dc3.request" "$work/dc3.cfl"
soon 10 "dc3 takes its new certificate up" kind_is cfl
# A DC's certificate is revoked with its key, on the ledger. Who has both may be dc3 itself, which has to hear of
# it: it gets a channel, and is nobody on it.
expect 0 "" "$bin/ami-mdms" revoke --id dc3 --role dc --epoch 1 --reason superseded --dir "$dir/mdms" --wait
stop dc3 || complain "dc3 did not stop"
mkdir "$work/former"
cp "$dir/dc3/dc.key" "$work/former"
from=$(log_lines dc1)
event=$(newest_event 1) || complain "dc1 does not say which event is its newest"
start former "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$work/former" "${roots[@]}" "${cfl[@]}" \
    --cfl-certificate "$work/former.cfl"
wait_ready former 30
line='link_refused .*why="hello of a DC under a key that the ledger has revoked"'
soon 20 "dc1 refuses a CFL certificate over a revoked key" logged dc1 "$line" "$from"
soon 20 "dc-cli events has it" event_since 1 "$event" "$line"
line='reads_only .*dc=dc3 epoch=1 .*why="the ledger has revoked its key"'
soon 20 "dc1 lets it read and says so" logged dc1 "$line" "$from"
soon 20 "dc-cli events has that" event_since 1 "$event" "$line"
logged former " credential kind=cfl" || complain "the former key was shown under another certificate"
peers_of 1 2 || complain "the former key counts as dc3's"
stop former || complain "the former dc3 did not stop"
run_dc 3 --cfl-certificate "$work/dc3.cfl"
soon 30 "dc3 is back under its own" peers_of 1 3
# The MDMS's certificate is over its own key, whoever makes it.
stop mdms || complain "the MDMS did not stop"
serve() { expect "$1" "$2" "$bin/ami-mdms" serve --dir "$dir/mdms" --genesis "$dir/genesis.json" "${pass[@]}" "${@:3}"; }
serve 1 "the key is not that of the first certificate" --x509-chain "$ca/mdms.chain"
serve 1 "is the certificate of dc dc3" --cfl-certificate "$work/dc3.cfl"
serve 2 "name one" --cfl-certificate "$work/mdms.cfl" --x509-chain "$ca/own.chain"
run_mdms --cfl-certificate "$work/mdms.cfl"
logged mdms " credential kind=cfl in_days=364" || complain "the MDMS does not say what it speaks under"
expect 0 "for 10 days" "$bin/ami-mdms" credential mdms --days 10 --out "$work/mdms.cfl" --dir "$dir/mdms" "${pass[@]}"

say "a DC whose key is revoked gets no certificate"
expect 0 "" "$bin/ami-mdms" codes --dir "$dir/mdms" --dc --id dc9 --out "$work/dc9.csv"
expect 0 "dc9 is enrolled" "$bin/dc-node" enrol --network "$dir/network.json" --mdms "$(mdms_url)" --id dc9 \
    --code "$(tail -n 1 "$work/dc9.csv" | cut -d, -f2)" --dir "$dir/dc9"
ask_for 9 30
issue 0 "CFL certificate of dc9" "$work/dc9.request" "$work/dc9.cfl"
expect 0 "" "$bin/ami-mdms" revoke --id dc9 --role dc --dir "$dir/mdms" --wait
issue 1 "revoked" "$work/dc9.request" "$work/x.cfl"
expect 1 "is for another network" "$bin/ami-mdms" credential dc "$work/dc9.request" --out "$work/x.cfl" --dir "$work/other" "${pass[@]}"

goes_on 30 "the fleet delivers"
drain_fleet
soon 20 "the MDMS speaks under its new certificate" mdms_holds '.credential.kind == "cfl" and .credential.expires_in_s < 11 * 86400'
soon 20 "and warns of its end" logged mdms "credential_expires kind=cfl in_days=9"
stop_all
audit_all
nothing_lost
finish
