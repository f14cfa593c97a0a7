#!/usr/bin/env bash
# sim/demo in small: either scheme ends well with every figure in its summary, and a damaged ledger
# makes it fail and say whose.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

demo="$here/../../sim/demo"

# figure FILTER: a condition on the summary.
figure() { holds "$work/summary.json" "$1"; }

# order PATTERN...: the demo said these things, in this order.
order() {
    local pattern line last=0
    for pattern in "$@"; do
        line=$(grep -n -m 1 -- "$pattern" "$work/$scheme.out" | cut -d: -f1)
        [ "${line:-0}" -gt "$last" ] || complain "\"$pattern\" does not stand where it should in what the demo says"
        last=${line:-0}
    done
}

# wire SUITE: what passed between DCs, MDMS and operators in that run, under this record suite (by number), shows
# nothing of what was said; and each of them did speak there, and was heard. `clear` is the port of the control.
wire() {
    local reading all sent network block
    use "$scheme"
    all=(--capture "$work/$scheme.capture" --ports)
    reading=$(sed -n '2p' "$dir/measured.csv")
    sent=$(jq .readings_sent "$work/summary.json")
    network=$(jq -r .id "$dir/network.json")
    # What votes and proposals name; its transactions name meters.
    block=$("$bin/dc-cli" block 5 --json --data "$dir/dc1/ledger" --genesis "$dir/genesis.json" |
        jq -r .header.merkle_root)
    local said=(--text meter- --text '"ask"' --text follower --text known_height --hex "$block" --reading "$reading")
    hidden "this shows between DCs, MDMS and operators" "${all[@]}" "$(channel_ports)" "${said[@]}"
    # Every report's transaction, of 400 bytes and more, went to three DCs and to the MDMS; the meters' enrolments
    # came from the MDMS; for each line of progress an operator asked, and each answer is more than 2 KB.
    carried $((3 * 400 * sent)) "DC to DC, by who dialled" "${all[@]}" "$(peer_ports)" --by dc-node --way to
    carried $((2000 * nodes)) "DC to DC, by who was dialled" "${all[@]}" "$(peer_ports)" --by dc-node --way from
    carried $((12 * 200)) "MDMS to DCs" "${all[@]}" "$(peer_ports)" --by ami-mdms --way to
    carried $((400 * sent)) "DCs to MDMS" "${all[@]}" "$(peer_ports)" --by ami-mdms --way from
    carried $((10 * 500)) "operators to DCs" "${all[@]}" "$(admin_ports)" --way to
    carried $((10 * 2000)) "DCs to operators" "${all[@]}" "$(admin_ports)" --way from
    # The controls. A first flight names the network in the clear, on each kind of link; meters' ports have names
    # of meters; and what is said without any channel is found, word for word.
    shown 1 "first flights of DCs" "${all[@]}" "$(peer_ports)" --by dc-node --way to --hex "$network"
    shown 1 "first flights of the MDMS" "${all[@]}" "$(peer_ports)" --by ami-mdms --way to --hex "$network"
    shown 1 "first flights of operators" "${all[@]}" "$(admin_ports)" --way to --hex "$network"
    shown 1 "names on the way from and to meters" "${all[@]}" "$(meter_ports)" --text meter-
    shown 4 "what was said in the clear" "${all[@]}" "$clear" --text meter- --text '"ask"' --text follower \
        --text known_height
    shown 2 "a ledger, where it is in the clear" --file "$dir/dc1/ledger/data.mdb" --text meter- --hex "$block"
    shown 2 "the MDMS's folder, where it is in the clear" --file "$dir/mdms/store/data.mdb" --text meter- \
        --reading "$reading"
    for port in "$(peer_ports)" "$(admin_ports)"; do
        [ "$(python3 "$here/shows.py" "${all[@]}" "$port" --suites)" = "$1" ] || complain "another record suite than $1"
    done
    # Where there is no channel, readings are sealed all the same.
    carried $((150 * sent)) "meters to DCs" "${all[@]}" "$(meter_ports)" --way to
    carried $((12 * 100)) "devices to the MDMS" "${all[@]}" "$base_port" --way to
    hidden "this shows on the way from meters" "${all[@]}" "$(open_ports)" --reading "$reading"
}

for run in sm2kx:sm4-gcm:1 liu2023:sm4-ctr-hmac-sm3:2; do
    IFS=: read -r scheme suite number <<<"$run"
    say "a run with $scheme, records $suite"
    clusters+=("$work/$scheme")
    capture "$work/$scheme.capture"
    timeout --foreground 120 "$demo" --no-install --meters 12 --seconds 10 --scheme "$scheme" --suites "$suite" \
        --keep "$work/$scheme" --json "$work/summary.json" >"$work/$scheme.out" 2>&1
    status=$?
    [ $status -eq 0 ] || {
        complain "sim/demo ended with $status"
        tail -n 60 "$work/$scheme.out"
    }
    jq -e . "$work/summary.json" >/dev/null || give_up "the summary is no JSON"
    for field in ok scheme nodes meters agreements agreement_us_p50 elections recovery_ms blocks \
        transactions readings_sent readings_acknowledged readings_exported lost duplicated \
        commit_ms_p50 commit_ms_p99 audit_ok; do
        check "the summary lacks $field" figure "has(\"$field\")"
    done
    check "not ok: $(jq -c . "$work/summary.json")" figure '.ok and .audit_ok and .problems == []'
    check "lost or duplicated" figure '.lost == 0 and .duplicated == 0'
    check "not what was asked for" figure ".scheme == \"$scheme\" and .nodes == 4 and .meters == 12"
    check "readings are missing" figure '.readings_sent >= 100 and
        .readings_acknowledged == .readings_sent and .readings_exported == .readings_sent'
    # Every meter agreed with the first leader and again with the one after it was killed.
    check "no new agreement after the kill" figure '.agreements >= 24 and .elections >= 2'
    # How long it took is for bench-storm to judge, on an idle machine; here, that it was measured, and that what
    # was committed went on from where it was.
    check "no time until commits went on" figure '.recovery_ms > 0'
    order "is killed with SIGKILL at height" "committing again after" "is started again" "^== Audit" \
        "committing again  *[0-9]* ms after the leader was killed (target on an idle machine: 2000 ms)"
    height=$(sed -n 's/.* is killed with SIGKILL at height //p' "$work/$scheme.out")
    check "nothing was committed after the kill, at height $height" figure ".blocks > ${height:-0}"
    check "no times" figure '.agreement_us_p50 > 0 and .commit_ms_p50 > 0 and
        .commit_ms_p99 >= .commit_ms_p50'
    check "fewer transactions than readings and meters" figure \
        '.transactions >= .readings_sent + 12 and .blocks > 0'
    for log in "$work/$scheme"/log/*.log; do scan "$log"; done
    scan "$work/$scheme.out"
    clear=$(say_in_clear 'meter- {"ask":"status"} {"role":"follower","known_height":1}') ||
        complain "nothing was said in the clear"
    capture_end
    [ "$captured" = 0 ] || wire "$number"
    # In the eyes of somebody who has read the documents and not the code. Python is slow: all
    # hashes, registry rules and roots, some of the signatures.
    expect 0 "" "$bin/dc-cli" export --data "$work/$scheme/dc2/ledger" --out "$work/$scheme.jsonl"
    expect 0 "all as the documents say" "$here/../verifier/verify_ledger.py" --sample 40 \
        --certificates 20 "$work/$scheme/genesis.json" "$work/$scheme.jsonl"
done

say "a run whose ledger of dc2 is damaged before the audit"
clusters+=("$work/damaged")
AMI_DEMO_DAMAGE=dc2 timeout --foreground 120 "$demo" --no-install --meters 4 --seconds 4 --keep "$work/damaged" \
    --json "$work/summary.json" >"$work/damaged.out" 2>&1
status=$?
[ $status -eq 1 ] || complain "sim/demo ended with $status although a ledger is damaged"
grep -q '^FAILED: .*dc2' "$work/damaged.out" || {
    complain "sim/demo does not name the damaged ledger"
    tail -n 40 "$work/damaged.out"
}
check "the summary hides the damage" figure \
    '.ok == false and .audit_ok == false and (.problems | any(contains("dc2")))'
check "an undamaged ledger is accused" figure \
    '.problems | any(contains("audit of dc1") or contains("audit of dc3")) | not'

# What is damaged is not exported as if it was what was written.
expect 1 "damaged" "$bin/dc-cli" export --data "$work/damaged/dc2/ledger" --format jsonl \
    --genesis "$work/damaged/genesis.json" --out "$work/damaged.jsonl"
[ ! -e "$work/damaged.jsonl" ] || complain "an export of a damaged ledger left a file"

say "wrong usage"
expect 2 "at least 4" "$demo" --nodes 3
expect 2 "sm2kx or liu2023" "$demo" --scheme rsa
expect 2 "wants a number" "$demo" --meters 0
expect 2 "both with a comma, not 'aes'" "$demo" --suites aes
expect 2 "leader or home" "$demo" --gateway none
expect 2 "unknown option" "$demo" --colour
expect 1 "cannot read" "$demo" --replay "$work/nothing.csv"
finish
