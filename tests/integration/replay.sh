#!/usr/bin/env bash
# Replays of real layouts: the export equals the file row for row, although the leader, a follower,
# the MDMS and the fleet are each killed with SIGKILL and started again meanwhile.
# Usage: replay.sh [sm2kx|liu2023]...
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

demo=$here/../../sim/demo
rows=$here/../../sim/rows
real=$here/../../../shared/data/load-profiles/london_halfhourly_3homes.csv

# A file as the London set is written: blanks around numbers, CRLF, missing values, repeated rows,
# zeros at the end that belong to the value, three meters one after the other.
made_up() {
    python3 - <<'END'
import datetime
import random

random.seed(4)
lines = ["LCLid,tstp,energy_kWh"]
for meter in ("MAC000001", "MAC000077", "MAC005567"):
    start = datetime.datetime(2013, 3, 30, 22, 0)
    for i in range(100):
        when = (start + datetime.timedelta(minutes=30 * i)).strftime("%Y-%m-%d %H:%M:%S.0000000")
        value = random.choice(["0", "0.000", f"{random.random():.3f}", f"{random.random():.7f}",
                               f"{random.randrange(20)}.{random.randrange(10)}00", "12"])
        if i % 17 == 5:
            value = "Null"
        if i % 41 == 7:
            value = ""
        pad = random.choice([" ", "", "  "])
        lines.append(f"{meter},{when},{pad}{value} ")
        if i % 23 == 11:  # the same row once more; and the same interval with another value
            lines.append(lines[-1])
        if i % 37 == 20:
            lines.append(f"{meter},{when}, 3.250 ")
print("\r\n".join(lines), end="\r\n")
END
}

# replay NAME FILE SCHEME OPTION...: a demo in $work/NAME that must end well.
replay() {
    local name=$1 file=$2 scheme=$3 status
    shift 3
    clusters+=("$work/$name")
    timeout --foreground 170 "$demo" --no-install --replay "$file" --scheme "$scheme" --keep "$work/$name" \
        --json "$work/$name.json" "$@" >"$work/$name.out" 2>&1
    status=$?
    [ $status -eq 0 ] || {
        complain "sim/demo --replay ended with $status"
        tail -n 50 "$work/$name.out"
    }
    check "the summary: $(jq -c . "$work/$name.json")" holds "$work/$name.json" '.ok and .audit_ok and
        .lost == 0 and .duplicated == 0 and .readings_exported == .readings_sent'
    grep -q 'equals the file row for row' "$work/$name.out" || complain "not row for row"
    for log in "$work/$name"/log/*.log; do scan "$log"; done
}

# same FILE EXPORT: another look at the same, without the demo's own comparison.
same() {
    diff <("$rows" "$1" | sort) <(tail -n +2 "$2" | cut -d, -f1,2,4,6 | sort) | head -n 5
    [ "$("$rows" "$1" | wc -l)" -eq "$(tail -n +2 "$2" | wc -l)" ] || complain "another number of rows"
}

schemes=("$@")
[ $# -gt 0 ] || schemes=(sm2kx liu2023)
made_up >"$work/london.csv"
for scheme in "${schemes[@]}"; do
    say "$(($(wc -l <"$work/london.csv") - 1)) made-up rows, $scheme, everything killed once"
    replay "$scheme" "$work/london.csv" "$scheme" --chaos --speed 9000 --batch 3
    [ -z "$(same "$work/london.csv" "$work/$scheme/exported.csv")" ] ||
        complain "the export is not the file"
    for what in 'the leader, is killed' 'a follower, is killed' 'the MDMS is killed' \
        'the fleet process is killed'; do
        grep -q "$what" "$work/$scheme.out" || complain "it never happened: $what"
    done
    [ "$(grep -c 'is started again$' "$work/$scheme.out")" -ge 2 ] || complain "no DC came back"
done

export=$work/${schemes[0]}/exported.csv
say "what the rows became"
grep -c ',missing' "$export" >"$work/missing"
[ "$(cat "$work/missing")" -eq "$(grep -cE ', *(Null)? *.$' "$work/london.csv")" ] ||
    complain "$(cat "$work/missing") missing values"
grep -qE '^MAC000001,2013-03-31T00:30:00Z,1800,1-0:1\.29\.0\*255,kWh,,missing,' "$export" ||
    complain "a Null is no reading without a value"
grep -q 'repeated' "$export" || complain "no repeated row is flagged"
grep -qE ',kWh,3\.250,(.*\+)?repeated' "$export" || complain "3.250 is not there as it was written"

if [ -r "$real" ]; then
    say "the first rows of three London homes"
    awk -F, 'NR == 1 || count[$1]++ < 300' "$real" >"$work/three.csv"
    replay real "$work/three.csv" sm2kx --speed 60000 --batch 8
    [ -z "$(same "$work/three.csv" "$work/real/exported.csv")" ] || complain "the export is not the file"
else
    say "skipped: the real London file is not here"
fi
finish
