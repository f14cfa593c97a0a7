#!/usr/bin/env bash
# tests/meter/cli.sh AMI_METER MAKE_WORLD - ami-meter without a network: bad input gets one clear
# sentence and a status, and nothing is lost or half-written, also under SIGKILL and a full store.
set -euo pipefail
meter=$1 make_world=$2
dir=$(mktemp -d "${TMPDIR:-/tmp}/ami-meter-cli.XXXXXX")
child=''
cleanup() {
    if [ -n "$child" ]; then kill -KILL "$child" 2>/dev/null || true; fi
    rm -rf "$dir"
}
trap cleanup EXIT
"$make_world" "$dir"
genesis=(--genesis "$dir/genesis.json")
failures=0

fail() {
    printf 'FAILED: %s\n' "$*"
    failures=$((failures + 1))
}

# expect STATUS SENTENCE COMMAND...: exit status, and the sentence somewhere in the output.
expect() {
    local wanted=$1 sentence=$2 status=0
    shift 2
    "$@" >"$dir/out" 2>&1 </dev/null || status=$?
    if [ "$status" != "$wanted" ]; then
        fail "status $status instead of $wanted: $*"
        tail -n 5 "$dir/out"
    elif ! grep -qF -- "$sentence" "$dir/out"; then
        fail "no \"$sentence\" from: $*"
        tail -n 5 "$dir/out"
    else
        printf 'ok: %s\n' "${sentence:-$*}"
    fi
}

# wait_until SECONDS COMMAND...
wait_until() {
    local until=$(($(date +%s%N) + $1 * 1000000000))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s%N)" -lt "$until" ] || return 1
        sleep 0.05
    done
}

rows() { "$meter" export --dir "$1" | tail -n +2; }

# Every meter's numbers and half hours without a gap or a repetition.
contiguous() {
    rows "$1" | awk -F, '
        $8 != last[$1] + 1 { print "gap at " $1 " " $8; bad = 1 }
        seen[$1 "," $2 "," $4]++ { print "twice: " $1 " " $2; bad = 1 }
        { last[$1] = $8 }
        END { exit bad }'
}

# --- words on the command line ------------------------------------------------------------------

expect 2 "" "$meter"
expect 2 "" "$meter" frobnicate
expect 2 "" "$meter" fleet --dir "$dir/fleet"
expect 2 "speed" "$meter" replay "${genesis[@]}" --dir "$dir/fleet" --speed fast x.csv
for command in enrol run fleet replay ids rows export proof; do
    expect 0 "Example" "$meter" "$command" --help
done

# --- who is asked for ---------------------------------------------------------------------------

expect 1 "meter nobody is not enrolled" "$meter" run "${genesis[@]}" --dir "$dir/fleet" --id nobody
expect 2 "is no meter id" "$meter" run "${genesis[@]}" --dir "$dir/fleet" --id 'a b'
expect 1 "no meter is enrolled here" "$meter" fleet "${genesis[@]}" --dir "$dir/empty"
expect 1 "no meter is enrolled here" "$meter" export --dir "$dir/empty"
[ ! -e "$dir/empty" ] || fail "a command that failed left $dir/empty"
expect 1 "belong to chain" "$meter" fleet --genesis "$dir/other.json" --dir "$dir/fleet"
expect 1 "cut short" "$meter" fleet "${genesis[@]}" --dir "$dir/damaged"
expect 1 "another network" "$meter" fleet "${genesis[@]}" --dir "$dir/foreign"
echo '{' >"$dir/bad.json"
expect 1 "bad.json" "$meter" fleet --genesis "$dir/bad.json" --dir "$dir/fleet"

# --- enrolment ----------------------------------------------------------------------------------

code=VSXW-N5R7-8SV4-WFKK-NYMW-2959-TYK9
away=(--mdms tcp://127.0.0.1:1 --timeout 500ms)
expect 3 "cannot be reached" "$meter" enrol "${genesis[@]}" --dir "$dir/new" "${away[@]}" --id m-9 --code "$code"
expect 1 "none, or mistyped" "$meter" enrol "${genesis[@]}" --dir "$dir/new" "${away[@]}" --id m-9 --code "${code%9}8"
expect 2 "give --id and --code" "$meter" enrol "${genesis[@]}" --dir "$dir/new" "${away[@]}" --id m-9
printf 'id,code\nm-8,%s\nm 9,%s\n' "$code" "$code" >"$dir/codes.csv"
expect 1 "codes.csv:3:" "$meter" enrol "${genesis[@]}" --dir "$dir/new" "${away[@]}" --codes "$dir/codes.csv"
printf 'm-8,%s\nm-8,%s\n' "$code" "$code" >"$dir/codes.csv"
expect 1 "lines 1 and 2 both name m-8" "$meter" enrol "${genesis[@]}" --dir "$dir/new" "${away[@]}" --codes "$dir/codes.csv"

# --- files --------------------------------------------------------------------------------------

printf 'LCLid,tstp,energy_kWh\r\nm-1,2013-01-01 00:00:00.0000000, 0.500 \r\nm-1,2013-01-01 00:30:00.0000000, zero \r\n' >"$dir/bad.csv"
replay=("$meter" replay "${genesis[@]}" --dir "$dir/fleet" --quiet --drain 0)
expect 1 'bad.csv:3: expected a number in column 3, found "zero"' "${replay[@]}" "$dir/bad.csv"
expect 1 "meter stranger is not enrolled" "${replay[@]}" --format uk --id stranger <(printf 'start,value\n2020-01-01 00:00:00,1\n')
[ -z "$(rows "$dir/fleet")" ] || fail "something of a refused file was stored"
{
    printf 'LCLid,tstp,energy_kWh\r\n'
    for id in m-1 m-2; do
        for i in $(seq 0 19); do
            printf '%s,2013-01-%02d 00:30:00.0000000, %d.%d0 \r\n' "$id" "$((i + 1))" "$i" "$((i % 7))"
        done
    done
} >"$dir/good.csv"
expect 0 "m-2 20" "$meter" rows "$dir/good.csv"
expect 3 "could be reached" "${replay[@]}" --batch 1 "$dir/good.csv"
tail -n +2 "$dir/good.csv" | tr -d '\r' | awk -F, '{ gsub(/ 00:30:00.0+$/, "T00:30:00Z", $2); gsub(/ /, "", $3); print $1 "," $2 "," $3 }' >"$dir/wanted"
rows "$dir/fleet" | awk -F, '{ print $1 "," $2 "," $6 }' >"$dir/got"
cmp -s "$dir/wanted" "$dir/got" || fail "the outbox differs from the file"
expect 3 "40 reports stay in the outbox" "${replay[@]}" --batch 1 "$dir/good.csv"
renew=("$meter" enrol "${genesis[@]}" --dir "$dir/fleet" "${away[@]}" --code "$code")
expect 1 "m-1 has reports that are not acknowledged yet" "${renew[@]}" --id m-1 --epoch 2
expect 1 "m-3 has keys of epoch 1 here" "${renew[@]}" --id m-3 --epoch 3
expect 0 "(1 were enrolled already)" "${renew[@]}" --id m-3
rows "$dir/fleet" | awk -F, '{ print $1 "," $2 "," $6 }' | cmp -s "$dir/wanted" - || fail "a second replay of one file added or lost rows"
expect 2 "replay them one after the other" "${replay[@]}" "$dir/good.csv" "$dir/good.csv"

# --- lines --------------------------------------------------------------------------------------

lines() { printf '2026-01-31T13:00:00Z,0.250\n2026-01-31T13:30:00Z,watts\n' | "$meter" run "${genesis[@]}" --dir "$dir/fleet" --id m-3 --stdin --quiet --drain 0; }
expect 1 "stdin:2: expected a number" lines
rows "$dir/fleet" | grep -qx 'm-3,2026-01-31T13:00:00Z,1800,1-0:1.29.0\*255,kWh,0.250,,1' || fail "the good line before a bad one is missing"
[ "$(rows "$dir/fleet" | grep -c '^m-3,')" = 1 ] || fail "the bad line was stored"

# --- two at once, killed, full ------------------------------------------------------------------

"$meter" fleet "${genesis[@]}" --dir "$dir/fleet" --interval 2 --quiet --stats "$dir/stats.json" >/dev/null 2>&1 &
child=$!
many() { [ "$(rows "$dir/fleet" | wc -l)" -gt "$1" ]; }
wait_until 30 many 400 || fail "the fleet stores nothing"
expect 1 "$dir/fleet" "$meter" fleet "${genesis[@]}" --dir "$dir/fleet"
grep -q "$child" "$dir/out" || fail "the sentence does not say which process uses the directory"
kill -KILL "$child"
wait "$child" 2>/dev/null || true
child=''
contiguous "$dir/fleet" || fail "SIGKILL tore the numbers"
before=$(rows "$dir/fleet" | wc -l)
expect 3 "stay in the outbox" "$meter" fleet "${genesis[@]}" --dir "$dir/fleet" --interval 10 --seconds 1 --quiet --drain 0
many "$before" || fail "nothing was measured after the kill"
contiguous "$dir/fleet" || fail "the numbers do not go on where they stopped"

size=$(($(stat -c %s "$dir/fleet/meters.mdb") / 1048576 + 1))
expect 1 "no room to write" "$meter" fleet "${genesis[@]}" --dir "$dir/fleet" --interval 1 --seconds 60 --quiet --drain 0 --map-size "$size"
contiguous "$dir/fleet" || fail "a full store tore the numbers"
before=$(rows "$dir/fleet" | wc -l)
expect 3 "stay in the outbox" "$meter" fleet "${genesis[@]}" --dir "$dir/fleet" --interval 10 --seconds 1 --quiet --drain 0
many "$before" || fail "nothing was measured after the store had room again"
contiguous "$dir/fleet" || fail "the numbers do not go on after a full store"

# --- the file cut short: a sentence, never a crash --------------------------------------------------

whole=$(stat -c %s "$dir/fleet/meters.mdb")
for part in 2 10 50 90; do
    cp -r "$dir/fleet" "$dir/cut"
    truncate -s "$((whole * part / 100))" "$dir/cut/meters.mdb"
    expect 1 "damaged" "$meter" fleet "${genesis[@]}" --dir "$dir/cut" --seconds 1 --drain 0 --quiet
    rm -rf "$dir/cut"
done

expect 1 "holds no such report" "$meter" proof "${genesis[@]}" --dir "$dir/fleet" --id m-1 --sequence 999999
expect 2 "name your credential" env -u AMI_CREDENTIAL "$meter" proof "${genesis[@]}" --dir "$dir/fleet" --id m-1 --sequence 1
expect 2 "either --sequence or --time" "$meter" proof "${genesis[@]}" --dir "$dir/fleet" --id m-1

[ "$failures" = 0 ] || {
    echo "$failures failures"
    exit 1
}
echo "all good"
