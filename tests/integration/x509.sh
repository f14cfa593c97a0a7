#!/usr/bin/env bash
# A DC with an X.509 certificate among others with implicit ones: it votes, gateways and is asked like any
# other. Certificates that do not count are refused by every other DC, with the reason.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

up a
enrol_meters 4
ca=$work/ca
"$here/../channel/make_certificates" "$ca" "$(jq -r .id "$dir/network.json")" "$(date +%s)" dc1 dc2 || give_up "no certificates"
roots=(--x509-roots "$ca/root.pem" --x509-crls "$ca/all.crl")

# run_dc N [OPTION...]: with the roots, and the options.
run_dc() {
    local i=$1 from
    shift
    from=$(log_lines "dc$i")
    start "dc$i" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc$i" "${roots[@]}" "$@"
    wait_ready "dc$i" 30 "$from"
}
peers_of() { [ "$(status_of "$1" '.nodes[0].peers_connected')" = "$2" ]; }
export AMI_X509_ROOTS=$ca/root.pem AMI_X509_CRLS=$ca/all.crl

say "dc2 under an X.509 certificate"
for i in $(seq "$nodes"); do stop "dc$i" || complain "dc$i did not stop"; done
stop mdms || complain "the MDMS did not stop"
from=$(log_lines mdms)
start mdms "$bin/ami-mdms" serve --dir "$dir/mdms" --genesis "$dir/genesis.json" --listen "${base_port:+127.0.0.1:$base_port}" \
    --passphrase-file "$dir/passphrase" "${roots[@]}"
wait_ready mdms 30 "$from"
run_dc 1
run_dc 3
run_dc 4
run_dc 2 --x509-key "$ca/dc-2.key" --x509-chain "$ca/dc-2.chain"
for i in $(seq "$nodes"); do soon 30 "dc$i has all peers" peers_of "$i" 3; done
soon 30 "the MDMS has found dc2" logged mdms 'dc_connected dc=dc2' "$from"
[ "$(status_of 2 '.nodes[0].credential.kind')" = x509 ] || complain "dc2 does not say what it speaks under"
[ "$(status_of 2 '.nodes[0].credential.expires_in_s')" -gt 86400 ] || complain "dc2 does not say until when"
[ "$(status_of 1 '.nodes[0].credential.kind')" = implicit ] || complain "dc1 does not say what it speaks under"
# Who is not told of the roots cannot speak with it.
expect 1 "refused and gave no reason" env -u AMI_X509_ROOTS -u AMI_X509_CRLS "$bin/dc-cli" events --node "$(admin_url 2)"
expect 0 "reason=no_kind" "$bin/dc-cli" events --node "$(admin_url 2)"
start_fleet
goes_on 30 "the fleet delivers"
say "three DCs commit with it, and no others"
stop dc3 || complain "dc3 did not stop"
goes_on 60 "dc2 is needed and there"
run_dc 3

say "certificates that do not count"
# refused NAME REASON SENTENCE: dc1 under that certificate. Both a DC that it dials and the MDMS, which dials
# it, say why not, the DC to its operators as well.
refused() {
    local name=$1 line="channel_refused .*reason=$2: $3" dc mdms event
    stop dc1 || complain "dc1 did not stop"
    dc=$(log_lines dc3) mdms=$(log_lines mdms)
    event=$(newest_event 3) || complain "dc3 does not say which event is its newest"
    run_dc 1 --x509-key "$ca/$name.key" --x509-chain "$ca/$name.chain"
    soon 20 "dc3 refuses the certificate \"$name\": $2" logged dc3 "$line" "$dc"
    soon 20 "dc-cli events has it: $2" event_since 3 "$event" "$line"
    soon 20 "the MDMS refuses the certificate \"$name\": $2" logged mdms "$line" "$mdms"
}
refused expired expired "the credential has expired"
refused future future "the credential is not valid yet"
refused revoked revoked "the credential has been revoked"
refused stranger wrong_chain "the credential does not lead to an issuer that is trusted"
refused alone self_signed "the certificate is signed by itself"
refused no-signing usage "the credential was issued for another use"
# With what everybody else refuses one reaches nobody, and is told so.
soon 20 "dc1 hears that it is refused" grep -q "channel_refused port=dialled .*reason=refused" "$dir/log/dc1.log"
for i in 2 3 4; do soon 10 "dc1 is no peer of dc$i" peers_of "$i" 2; done
stop dc1 || complain "dc1 did not stop"
expect 1 "is for another network" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc1" \
    --x509-key "$ca/foreign.key" --x509-chain "$ca/foreign.chain"
expect 1 "is the certificate of dc dc2" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc1" \
    --x509-key "$ca/dc-2.key" --x509-chain "$ca/dc-2.chain"
expect 1 "belong together" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc1" --x509-key "$ca/dc-1.key"
run_dc 1 --x509-key "$ca/dc-1.key" --x509-chain "$ca/dc-1.chain"
soon 30 "dc1 is back, under a good one" peers_of 1 3

say "record suites"
expect 1 "with a comma, not 'aes'" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc3" --suites aes
stop dc3 || complain "dc3 did not stop"
run_dc 3 --suites sm4-ctr-hmac-sm3
soon 30 "dc3 has all peers, which all take the other suite for it" peers_of 3 3
goes_on 30 "the fleet delivers"
stop dc1 || complain "dc1 did not stop"
from=$(log_lines dc3)
run_dc 1 --x509-key "$ca/dc-1.key" --x509-chain "$ca/dc-1.chain" --suites sm4-gcm
soon 20 "dc3 and dc1 have no suite in common" logged dc3 "channel_refused .*reason=no_suite" "$from"
soon 30 "dc1 has the two others" peers_of 1 2
stop dc1 || complain "dc1 did not stop"
run_dc 1 --x509-key "$ca/dc-1.key" --x509-chain "$ca/dc-1.chain"
soon 30 "dc1 is back, with every suite" peers_of 1 3

say "a new revocation list, without a restart"
from=$(log_lines dc3) mdms=$(log_lines mdms)
(cd "$ca" && openssl ca -config middle.cnf -revoke dc-1.pem 2>/dev/null &&
    openssl ca -config middle.cnf -gencrl -out middle.crl 2>/dev/null && cat middle.crl root.crl >all.crl) ||
    complain "no new list"
soon 10 "dc3 reads the new list" logged dc3 " trust_read "
soon 20 "the MDMS reads it too" logged mdms " trust_read "
soon 10 "dc3 ends the link of dc1" logged dc3 "channel_refused port=peers .*reason=revoked: .*; who=dc1$" "$from"
soon 10 "dc3 ends its link to dc1" logged dc3 "channel_refused port=dialled .*reason=revoked: .*=dc1$" "$from"
soon 20 "the MDMS ends its link to dc1" logged mdms "channel_refused .*reason=revoked: .*; who=dc1$" "$mdms"
from=$(log_lines dc3)
stop dc1 || complain "dc1 did not stop"
run_dc 1 --x509-key "$ca/dc-1.key" --x509-chain "$ca/dc-1.chain"
soon 20 "dc3 refuses dc1, which is revoked now" logged dc3 "channel_refused .*reason=revoked" "$from"

goes_on 30 "the fleet delivers"
drain_fleet
stop_all
audit_all
nothing_lost
finish
