#!/usr/bin/env bash
# Operators: what each label may ask, a refusal that is written down, revocation at every DC, other
# networks' credentials; and nothing that DCs, MDMS and operators say shows on the wire.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

library=${1:?the library that shifts a clock}
export ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0

up a
enrol_meters 3 household-
pass=(--passphrase-file "$dir/passphrase")
node=$(admin_url 1)

capture "$work/capture"
# Two more meters enrol through a DC, which passes it on to the MDMS.
expect 0 "" "$bin/ami-mdms" codes --dir "$dir/mdms" --meter --prefix through- --count 2 --out "$work/through.csv"
expect 0 "" "$bin/ami-meter" enrol --genesis "$dir/genesis.json" --dir "$dir/fleet" --dc "tcp://127.0.0.1:$(dc_port 2 2)" \
    --codes "$work/through.csv"
soon 30 "their enrolments are on the ledger" mdms_settled

start_fleet

say "labels"
add() { # add NAME LABEL
    expect 0 "operator $1" "$bin/ami-mdms" operator add "$1" --dir "$dir/mdms" "${pass[@]}" --label "$2" \
        --out "$work/$1.cred"
}
add alice 1:operation
add bob 2:ledger+metering+operation
as() { # as NAME STATUS TEXT COMMAND...
    local name=$1 status=$2 text=$3
    shift 3
    expect "$status" "$text" "$bin/dc-cli" "$@" --node "$node" --credential "$work/$name.cred"
}
as bob 0 "dc1 " status
as alice 0 "noted" note "the fan is loud"
as alice 0 "the fan is loud" events
! grep -q household- "$work/out" || complain "alice sees the names of meters"
as bob 0 "meter=household-1" events
as alice 1 "needs a label that covers 2:metering; you are operator alice 1:operation" readings household-1
as alice 1 "needs a label that covers 1:ledger" blocks
as bob 0 "household-1" readings household-1
as bob 1 "which your label must not exceed" note "read by those below"
as bob 0 'who="operator alice 1:operation" ask=readings needs=2:metering' events
expect 1 "in force" "$bin/ami-mdms" operator add alice --dir "$dir/mdms" "${pass[@]}" --label 0: --out "$work/x.cred"
expect 2 "is no label" "$bin/ami-mdms" operator add carol --dir "$dir/mdms" "${pass[@]}" --label 4:ledger --out "$work/x.cred"
[ ! -e "$work/x.cred" ] || complain "a credential came out of a refusal"
[ "$(stat -c %a "$work/alice.cred")" = 600 ] || complain "the credential can be read by others"

say "another leader"
add erin 2:operation
led=$(who_leads) || give_up "nobody leads"
other=$((led % nodes + 1))
told() { "$bin/dc-cli" step-down --node "$(admin_url "$1")" --credential "$work/$2.cred" >"$work/told" 2>&1; }
! told "$led" bob || complain "bob, who knows more than what he would change, was obeyed"
grep -qF "is for those whose label is 2:operation, no more and no less" "$work/told" || complain "bob is not told why"
! told "$led" alice || complain "alice, of a lower level, was obeyed"
! told "$other" erin || complain "a DC that does not lead stepped down"
grep -qF "dc$other does not lead; dc$led" "$work/told" || complain "erin is not told who leads"
check "the leader does not step down: $(cat "$work/told")" told "$led" erin
another_leads() { local now && now=$(leader) && [ "$now" != "$led" ]; }
soon 30 "another DC leads" another_leads
goes_on 20 "the fleet delivers under it"
"$bin/dc-cli" events --node "$(admin_url "$led")" --credential "$work/bob.cred" >"$work/out"
grep -q 'step_down_asked .*who="operator erin 2:operation"' "$work/out" || complain "who asked is not written down"
grep -qF 'who="operator alice 1:operation" ask=step_down needs=2:operation' "$work/out" || complain "alice's try is not"

say "revocation: nobody copies a file, and no process is started anew"
list() { "$bin/ami-mdms" operator list --dir "$dir/mdms" --json | jq -e "$1" >/dev/null; }
number() { "$bin/ami-mdms" operator list --dir "$dir/mdms" --json | jq .list.number; }
dc_number() { status_of "$1" '.nodes[0].revoked_operators.number // 0'; }
soon 10 "every DC has said that it has the list" list '.dcs | length == 4 and all(.current)'
stop dc4 || complain "dc4 did not stop"
first=$(number)
cp "$dir/mdms/operators/revoked.list" "$work/first.list"
cp "$dir/mdms/operators/list.json" "$work/first.json"
expect 0 "revoked" "$bin/ami-mdms" operator revoke alice --dir "$dir/mdms" "${pass[@]}"
[ "$(number)" -gt "$first" ] || complain "the list has no new number"
# asked_at N NAME TEXT: what this operator's question at DC N ends with.
asked_at() { "$bin/dc-cli" events --node "$(admin_url "$1")" --credential "$work/$2.cred" 2>&1 | grep -qF -- "$3"; }
for i in 1 2 3; do
    soon 10 "dc$i refuses the revoked operator" asked_at "$i" alice "refused and gave no reason"
    soon 5 "dc$i says why" asked_at "$i" bob "reason=revoked"
    soon 5 "dc$i has written down the list" asked_at "$i" bob "operators_list"
done
soon 10 "the three have said that they have it" list '[.dcs[] | select(.current).dc] == ["dc1", "dc2", "dc3"]'
as alice 3 "unreachable" status
expect 0 "behind" "$bin/ami-mdms" operator list --dir "$dir/mdms"
grep -qE '^alice .* revoked ' "$work/out" || complain "the list of operators hides that alice is revoked"

say "a DC that was down hears of it, from the MDMS or from the others"
stop mdms || complain "the MDMS did not stop"
start_dc 4
soon 10 "dc4 refuses the revoked operator, the MDMS being away" asked_at 4 alice "refused and gave no reason"
soon 5 "dc4 heard it from another DC" asked_at 4 bob "from=dc"

say "a folder that was put back from an older copy has it back from the DCs, and takes nobody back"
newest=$(number)
put_back() { cp "$work/first.list" "$dir/mdms/operators/revoked.list" && cp "$work/first.json" "$dir/mdms/operators/list.json"; }
put_back
start_mdms --genesis "$dir/genesis.json"
soon 10 "the MDMS hears that it is behind" grep -q "operators_behind dc=dc. number=$newest ours=$first" "$dir/log/mdms.log"
numbered() { [ "$(number)" = "$1" ]; }
soon 10 "its folder has the newest list" numbered "$newest"
as alice 1 "refused and gave no reason" events
[ "$(dc_number 1)" = "$newest" ] || complain "dc1 goes by list $(dc_number 1), not $newest"
soon 10 "all have said that they have the newest" list '.dcs | all(.current)'
list 'any(.operators[]; .name == "alice" and .revoked_ms != null)' || complain "alice is not shown as revoked"
put_back
soon 10 "and has it again while the MDMS runs" numbered "$newest"

say "nor does one in which somebody is revoked before any DC was heard"
stop mdms || complain "the MDMS did not stop"
put_back
expect 0 "revoked" "$bin/ami-mdms" operator revoke erin --dir "$dir/mdms" "${pass[@]}"
# A second list of such a folder knows of its first one, and of alice no more than that.
add harry 0:
expect 0 "revoked" "$bin/ami-mdms" operator revoke harry --dir "$dir/mdms" "${pass[@]}"
apart=$(number)
[ "$apart" -gt "$newest" ] || complain "the list that forgot has no greater number"
start_mdms --genesis "$dir/genesis.json"
soon 10 "the two lists are joined" grep -q "operators_joined .*list $apart and list $newest of dc" "$dir/log/mdms.log"
above() { [ "$(number)" -gt "$apart" ] && list '.list.revoked == 3 and (.dcs | all(.current))'; }
soon 20 "every DC has the joined list" above
for i in $(seq "$nodes"); do
    asked_at "$i" alice "refused and gave no reason" || complain "dc$i takes alice back"
    asked_at "$i" erin "refused and gave no reason" || complain "dc$i does not know that erin is revoked"
    ! asked_at "$i" bob "operators_list number=$apart" || complain "dc$i took the list that forgot alice"
done

say "nor does an MDMS whose clock is once ahead"
echo "$((400 * 86400000))" >"$work/clock"
ahead() { # ahead STATUS TEXT OPTION...: ami-mdms operator revoke, 400 days from now
    AMI_TEST_CLOCK=$work/clock LD_PRELOAD=$library expect "$1" "$2" "$bin/ami-mdms" operator revoke --dir "$dir/mdms" \
        "${pass[@]}" "${@:3}"
}
AMI_TEST_CLOCK=$work/clock LD_PRELOAD=$library expect 0 "operator ivy" "$bin/ami-mdms" operator add ivy --dir "$dir/mdms" \
    "${pass[@]}" --label 0: --out "$work/ivy.cred"
before=$(number)
ahead 0 "this clock looks wrong" ivy
list '.list.revoked == 4' || complain "a clock that is ahead has emptied the list"
soon 20 "every DC has it" list ".list.number > $before and (.dcs | all(.current))"
before=$(number)
stop mdms || complain "the MDMS did not stop"
ahead 0 "operator ivy is revoked" ivy --clock-is-right
list '.list.revoked == 1' || complain "whoever says that the clock is right is not believed"
start_mdms --genesis "$dir/genesis.json"
soon 20 "the DCs do not take that one, by their clocks, and it is joined" list \
    ".list.number > $before and .list.revoked == 4 and (.dcs | all(.current))"
for i in $(seq "$nodes"); do
    asked_at "$i" alice "refused and gave no reason" || complain "dc$i takes alice back, by the MDMS's clock"
done
mv "$work/alice.cred" "$work/old.cred"
add alice 0:
as old 1 "refused and gave no reason" events
as bob 0 "dc1 " status
as alice 0 "" status

say "a CFL certificate, checked with the public set alone"
expect 0 "operator carol" "$bin/ami-mdms" operator add carol --dir "$dir/mdms" "${pass[@]}" --label 1:ledger --kind cfl \
    --out "$work/carol.cred"
as carol 1 "of a kind that is not accepted here" blocks
stop dc1 || complain "dc1 did not stop"
from=$(log_lines dc1)
start dc1 "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc1" \
    --cfl-public "$dir/mdms/operators/cfl.public"
wait_ready dc1 30 "$from"
as carol 0 "" blocks
as carol 1 "needs a label that covers 1:operation; you are operator carol 1:ledger" events
as bob 0 "dc1 " status
expect 0 "operator dave" "$bin/ami-mdms" operator add dave --dir "$dir/mdms" "${pass[@]}" --label 0: --kind cfl \
    --out "$work/dave.cred"
as dave 0 "dc1 " status
expect 0 "revoked" "$bin/ami-mdms" operator revoke dave --dir "$dir/mdms" "${pass[@]}"
dave_refused() { ! "$bin/dc-cli" status --node "$node" --credential "$work/dave.cred" >/dev/null 2>&1; }
soon 10 "a revoked CFL certificate is refused" dave_refused
as dave 1 "refused and gave no reason" events
as carol 0 "" blocks
# The seed set stays the same, and sealed.
[ "$(stat -c %a "$dir/mdms/operators/cfl.seed")" = 600 ] || complain "the seed set can be read by others"
expect 1 "passphrase" env AMI_PASSPHRASE=wrong "$bin/ami-mdms" operator add eve --dir "$dir/mdms" --label 0: --kind cfl \
    --out "$work/eve.cred"

say "operators who keep their key: it is never where the MDMS is"
for kind in implicit cfl; do
    own=$work/own-$kind
    expect 0 "request of grace-$kind" "$bin/dc-cli" request "grace-$kind" --label 1:ledger --kind "$kind" \
        --genesis "$dir/genesis.json" --out "$own.request" --key "$own.key"
    expect 0 "operator grace-$kind" "$bin/ami-mdms" operator add --request "$own.request" --label 1:ledger \
        --out "$own.answer" --dir "$dir/mdms" "${pass[@]}"
    expect 0 "operator grace-$kind: 1:ledger" "$bin/dc-cli" accept "$own.answer" --key "$own.key" --out "$own.cred" \
        --cfl-public "$dir/mdms/operators/cfl.public"
    as "own-$kind" 0 "" blocks
    as "own-$kind" 1 "needs a label that covers 1:operation; you are operator grace-$kind 1:ledger" events
done
expect 0 "revoked" "$bin/ami-mdms" operator revoke grace-implicit --dir "$dir/mdms" "${pass[@]}"
soon 10 "it is revoked like any other" asked_at 1 own-implicit "refused and gave no reason"
as own-cfl 0 "" blocks

say "another network's operator, and its list"
"$bin/ami-mdms" init --dir "$work/other" --name other "${pass[@]}" >/dev/null
expect 0 "" "$bin/ami-mdms" operator add mallory --dir "$work/other" "${pass[@]}" --out "$work/mallory.cred" \
    --label 3:operation+ledger+metering+membership
as mallory 1 "refused and gave no reason" events
as bob 0 "reason=other_network" events
kept=$dir/mdms/operators/revoked.list
cp "$kept" "$work/kept"
cp "$work/other/operators/revoked.list" "$kept"
soon 10 "a foreign list is refused" grep -q "operators_bad .*no list of revoked operators to go by" "$dir/log/mdms.log"
as old 1 "refused and gave no reason" events
cp "$work/kept" "$kept"

say "what shows on the wire"
goes_on 20 "the fleet delivers"
drain_fleet
# The control: an admin request to a port where frames pass in the clear, which that port does not take.
printf '\0\0\0\x1a\1\x50\0\0\0\x14{"ask":"readings  "}' >"/dev/tcp/127.0.0.1/$(dc_port 1 2)" || true
capture_end
if [ "$captured" = 1 ]; then
    all=(--capture "$work/capture" --ports)
    reading=$("$bin/ami-meter" export --dir "$dir/fleet" --format csv | grep '^household-1,' | tail -n 1)
    code=$(tail -n 1 "$work/through.csv" | cut -d, -f2)
    names=(--text household- --text through-)
    requests=(--text '"ask"' --text readings)
    # DCs, the MDMS and operators each spoke, and were heard: the first flights of some, in the clear, are there.
    network=$(jq -r .id "$dir/network.json")
    for way in to from; do
        carried 20000 "peers dialled by DCs, $way them" "${all[@]}" "$(peer_ports)" --by dc-node --way $way
        carried 5000 "peers dialled by the MDMS, $way them" "${all[@]}" "$(peer_ports)" --by ami-mdms --way $way
        carried 20000 "operators' ports, $way them" "${all[@]}" "$(admin_ports)" --way $way
        carried 5000 "meters' ports, $way them" "${all[@]}" "$(meter_ports)" --way $way
    done
    shown 1 "first flights of DCs" "${all[@]}" "$(peer_ports)" --by dc-node --way to --hex "$network"
    shown 1 "first flights of the MDMS" "${all[@]}" "$(peer_ports)" --by ami-mdms --way to --hex "$network"
    shown 1 "first flights of operators" "${all[@]}" "$(admin_ports)" --way to --hex "$network"
    hidden "this shows between DCs, MDMS and operators" "${all[@]}" "$(channel_ports)" "${names[@]}" \
        "${requests[@]}" --text alice --text "fan is loud" --text follower --text amirevk --reading "$reading" --text "$code"
    # What meters send names them in the clear, and nothing else.
    hidden "this shows on the way from and to meters" "${all[@]}" "$(open_ports)" --reading "$reading" \
        --text alice --text "fan is loud" --text "$code"
    shown 4 "the capture does not see what is in the clear" "${all[@]}" "$(open_ports)" "${names[@]}" "${requests[@]}"
    shown 3 "the MDMS's folder, where all of it is in the clear" --file "$dir/mdms/store/data.mdb" "${names[@]}" \
        --reading "$reading"
    shown 2 "a ledger, where names are in the clear" --file "$dir/dc1/ledger/data.mdb" "${names[@]}"
    hidden "a ledger shows a reading" --file "$dir/dc1/ledger/data.mdb" --reading "$reading"
fi
stop_all
audit_all
nothing_lost
finish
