#!/usr/bin/env bash
# A consumer's proof, from the meter and from the MDMS: verifies in an empty folder with no node
# running, shows the reading, and does not survive any change.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

up a
enrol_meters 8
start_fleet --batch 2
goes_on 30 "some reports of every meter"
drain_fleet
measured=$("$bin/ami-meter" export --dir "$dir/fleet" --format csv)
meter=m-5
sequence=$(awk -F, -v id=$meter '$1 == id { print $8 }' <<<"$measured" | sort -n | tail -n 1)
soon 30 "the MDMS holds report $sequence of $meter" \
    grep -q ",$sequence\$" <("$bin/ami-mdms" export --dir "$dir/mdms" --id $meter)

say "proofs of report $sequence of $meter"
mkdir "$work/consumer"
expect 0 "was checked and written" "$bin/ami-meter" proof --genesis "$dir/genesis.json" \
    --dir "$dir/fleet" --id $meter --sequence "$sequence" --out "$work/consumer/meter.json"
expect 0 "was checked and written" "$bin/ami-mdms" proof --genesis "$dir/genesis.json" \
    --dir "$dir/mdms" --id $meter --sequence "$sequence" --out "$work/consumer/mdms.json"
expect 0 "" "$bin/ami-meter" proof --genesis "$dir/genesis.json" --dir "$dir/fleet" --id $meter \
    --sequence 1 --out "$work/consumer/first.json"
expect 0 "" "$bin/dc-cli" proof --meter $meter --sequence "$sequence" --node "$(admin_url 2)" \
    --out "$work/consumer/sealed.json"
expect 1 "no-such" "$bin/ami-meter" proof --genesis "$dir/genesis.json" --dir "$dir/fleet" \
    --id no-such --sequence 1 --out "$work/none.json"
expect 1 "holds no such report" "$bin/ami-meter" proof --genesis "$dir/genesis.json" --dir "$dir/fleet" \
    --id $meter --sequence 999999 --out "$work/none.json"
expect 1 "999999" "$bin/ami-mdms" proof --genesis "$dir/genesis.json" --dir "$dir/mdms" \
    --id $meter --sequence 999999 --out "$work/none.json"
[ ! -e "$work/none.json" ] || complain "a refused proof left a file"
stop_all
expect 3 "" "$bin/ami-mdms" proof --genesis "$dir/genesis.json" --dir "$dir/mdms" --id $meter \
    --sequence "$sequence" --out "$work/none.json"
expect 3 "" "$bin/ami-meter" proof --genesis "$dir/genesis.json" --dir "$dir/fleet" --id $meter \
    --sequence "$sequence" --out "$work/none.json"
[ ! -e "$work/none.json" ] || complain "a proof without a node left a file"

say "verified with nothing but the proof and the genesis file"
cp "$dir/genesis.json" "$work/consumer/"
cd "$work/consumer" || give_up "no folder"
check "the meter and the MDMS give out the same proof" cmp meter.json mdms.json
for proof in meter.json mdms.json; do
    expect 0 "ok: the report below was recorded" env -i "$bin/dc-cli" verify-proof $proof \
        --genesis genesis.json
    while IFS=, read -r _ time _ obis unit value _ _; do
        tr -s ' ' <"$work/out" | grep -qF " $obis $time 1800 s $value $unit" ||
            complain "$proof does not show $obis $time $value $unit"
    done < <(grep "^$meter,.*,$sequence\$" <<<"$measured")
done
expect 0 "" env -i "$bin/dc-cli" verify-proof meter.json --genesis genesis.json --json
check "the JSON of verify-proof: $(jq -c . "$work/out")" holds "$work/out" \
    ".ok and .meter.id == \"$meter\" and .report.sequence == $sequence and (.readings | length) >= 1"
expect 0 "not shown by this proof" env -i "$bin/dc-cli" verify-proof sealed.json --genesis genesis.json

say "changed proofs"
python3 "$here/tamper.py" "$bin/dc-cli" genesis.json meter.json || complain "changed proofs pass"

# splice FILTER: the proof with parts of an earlier one of the same meter, printed in the one form.
splice() {
    jq --indent 2 --slurpfile other first.json "$1" meter.json >spliced.json
    cmp -s spliced.json meter.json && complain "nothing was spliced: $1"
    expect 1 "proves nothing" env -i "$bin/dc-cli" verify-proof spliced.json --genesis genesis.json
}
jq --indent 2 . meter.json | cmp -s - meter.json || complain "jq does not print the one form"
splice '.opening = $other[0].opening'
splice '.opening.salt = $other[0].opening.salt'
splice '.report = $other[0].report'
splice '.report.transaction = $other[0].report.transaction'
splice '.report.certificate = $other[0].report.certificate'
splice '.report.header = $other[0].report.header | .report.certificate = $other[0].report.certificate'
splice '.enrolment = .report'
splice '.report = .enrolment'
splice '.extra = 1'
splice 'del(.enrolment)'

say "another network's genesis file"
jq '.created_ms += 1' genesis.json >other.json
expect 1 "" env -i "$bin/dc-cli" verify-proof meter.json --genesis other.json
expect 2 "--genesis" env -i "$bin/dc-cli" verify-proof meter.json
expect 1 "nothing.json" env -i "$bin/dc-cli" verify-proof nothing.json --genesis genesis.json
finish
