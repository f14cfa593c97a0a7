#!/usr/bin/env bash
# Bad input at every program: one clear sentence, the right exit status, nothing lost and nothing
# half-written. Disks and clocks have tests of their own (disk.sh, clock.sh).
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# A picture of all files in a folder, by content; locks and LMDB's table of readers do not count.
files() {
    (cd "$1" && find . -type f ! -name '*lock*' -exec cksum {} + | sort)
}

# expect_untouched FOLDER STATUS TEXT COMMAND...: as expect, and the folder is as it was.
expect_untouched() {
    local folder=$1 before
    shift
    before=$(files "$folder")
    expect "$@"
    [ "$(files "$folder")" = "$before" ] || complain "$folder has changed after: ${*:3}"
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# listener PORT: somebody else's program on that port, which takes connections and says nothing.
listener() {
    helper python3 -c '
import socket, sys, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("127.0.0.1", int(sys.argv[1])))
s.listen(50)
kept = []
while True:
    kept.append(s.accept())' "$1"
    soon 10 "a listener on port $1" eval "exec 9<>/dev/tcp/127.0.0.1/$1"
}

code_of() { awk -F, -v id="$1" '$1 == id { print $2 }' "$2"; }

up a
up b
stop_all
use a
enrol_meters 4
start_fleet
other=$work/b
dcrun() { echo "$bin/dc-node run --genesis $dir/genesis.json --dir"; }

say "dc-cli and a node that is not there, or is none"
dead=$(free_port)
for command in "status" "blocks" "block 1" "tx 00" "meter m-1" "readings m-1" "events" \
    "proof --meter m-1 --sequence 1"; do
    # shellcheck disable=SC2086
    expect 3 "127.0.0.1:$dead" "$bin/dc-cli" $command --node "127.0.0.1:$dead"
done
expect 3 '"ok":false' "$bin/dc-cli" blocks --json --node "127.0.0.1:$dead"
listener "$dead"
mute=$helper_pid
expect 3 "in time" "$bin/dc-cli" blocks --node "127.0.0.1:$dead" --timeout 300ms
kill -KILL "$mute"
wait "$mute" 2>/dev/null
expect 3 "" "$bin/dc-cli" blocks --node "$(mdms_url)" --timeout 2s
expect 2 "which node" env -u AMI_NODE "$bin/dc-cli" blocks
expect 2 "" "$bin/dc-cli" blocks --node "no address"
expect 1 "" "$bin/dc-cli" meter no-such --node "$(admin_url 1)"
expect 1 "" "$bin/dc-cli" block 99999999 --node "$(admin_url 1)"

say "install codes"
"$bin/ami-mdms" codes --dir "$dir/mdms" --meter --prefix n- --count 2 --out "$work/n.csv" >/dev/null ||
    complain "codes"
"$bin/ami-mdms" codes --dir "$dir/mdms" --dc --id dc9 --out "$work/dc9.csv" >/dev/null || complain "codes"
right=$(code_of n-1 "$work/n.csv")
wrong=$(code_of n-2 "$work/n.csv")
enrol=("$bin/ami-meter" enrol --genesis "$dir/genesis.json" --mdms "$(mdms_url)")
expect 1 "mistyped" "${enrol[@]}" --dir "$work/n" --id n-1 --code "${right%?}"
expect 1 "mistyped" "${enrol[@]}" --dir "$work/n" --id n-1 --code "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAA"
expect 1 "install code" "${enrol[@]}" --dir "$work/n" --id n-1 --code "$wrong"
expect 1 "no meter" "$bin/ami-meter" fleet --genesis "$dir/genesis.json" --dir "$work/n" --seconds 1
expect 1 "no such device" "${enrol[@]}" --dir "$work/n" --id ghost --code "$right"
expect 0 "enrolled 1 meter" "${enrol[@]}" --dir "$work/n" --id n-1 --code "$right"
expect 1 "already" "${enrol[@]}" --dir "$work/n2" --id n-1 --code "$right"
printf 'id,code\nn-2,%s\nn-3\n' "$wrong" >"$work/bad.csv"
expect_untouched "$work/n" 1 "bad.csv:3" "${enrol[@]}" --dir "$work/n" --codes "$work/bad.csv"
expect 3 "127.0.0.1:$dead" "$bin/ami-meter" enrol --genesis "$dir/genesis.json" --dir "$work/n" \
    --mdms "127.0.0.1:$dead" --id n-2 --code "$wrong" --timeout 1s
expect 0 "enrolled 1 meter" "${enrol[@]}" --dir "$work/n" --id n-2 --code "$wrong"
dcenrol=("$bin/dc-node" enrol --network "$dir/network.json" --mdms "$(mdms_url)" --id dc9 --dir "$work/dc9")
expect 1 "install code" "${dcenrol[@]}" --code "$right"
expect 1 "no install code" "${dcenrol[@]}" --code "XXXX"
[ ! -e "$work/dc9/dc.key" ] || complain "a refused enrolment left keys"
expect 0 "is enrolled" "${dcenrol[@]}" --code "$(code_of dc9 "$work/dc9.csv")"
expect_untouched "$work/dc9" 1 "enrolled" "${dcenrol[@]}" --code "$(code_of dc9 "$work/dc9.csv")"
expect 1 "no member" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$work/dc9"

say "an address or a folder that is in use"
# shellcheck disable=SC2046
expect 1 "in use by process" $(dcrun) "$dir/dc4"
expect 1 "in use by process" "$bin/ami-mdms" serve --dir "$dir/mdms" --listen 127.0.0.1:0 \
    --passphrase-file "$dir/passphrase"
expect 1 "in use" "$bin/ami-meter" fleet --genesis "$dir/genesis.json" --dir "$dir/fleet" --seconds 1
stop dc4 || complain "dc4 did not stop"
for k in 1 2 3; do
    listener "$(dc_port 4 $k)"
    # shellcheck disable=SC2046
    expect 1 "cannot listen on tcp://127.0.0.1:$(dc_port 4 $k): another process is using this port" \
        $(dcrun) "$dir/dc4"
    kill -KILL "$helper_pid"
    wait "$helper_pid" 2>/dev/null
done
listener "$dead"
expect 1 "another process is using this port" "$bin/ami-mdms" serve --dir "$other/mdms" \
    --listen "127.0.0.1:$dead" --passphrase-file "$other/passphrase" --genesis "$other/genesis.json"
kill -KILL "$helper_pid"
wait "$helper_pid" 2>/dev/null

say "key files"
key=$dir/dc4/dc.key
cp -r "$dir/dc4" "$work/k"
run_k=("$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$work/k")
for size in 0 1 50 $(($(stat -c %s "$key") - 1)); do
    head -c "$size" "$key" >"$work/k/dc.key"
    expect_untouched "$work/k" 1 "cut short" "${run_k[@]}"
done
cat "$key" "$key" >"$work/k/dc.key"
expect_untouched "$work/k" 1 "dc.key" "${run_k[@]}"
for at in 40 100 200; do
    cp "$key" "$work/k/dc.key"
    python3 -c 'import sys
with open(sys.argv[1], "r+b") as f:
    f.seek(int(sys.argv[2])); b = f.read(1); f.seek(int(sys.argv[2])); f.write(bytes([b[0] ^ 1]))' \
        "$work/k/dc.key" $at
    expect_untouched "$work/k" 1 "dc.key" "${run_k[@]}"
done
cp "$other/dc4/dc.key" "$work/k/dc.key"
expect_untouched "$work/k" 1 "another device or another network" "${run_k[@]}"
cp "$dir/mdms/mdms.key" "$work/k/dc.key"
expect_untouched "$work/k" 1 "dc.key" "${run_k[@]}"
rm "$work/k/dc.key"
expect_untouched "$work/k" 1 "dc.key" "${run_k[@]}"
cp -r "$dir/mdms" "$work/m"
rm -f "$work/m/lock"
serve_m=("$bin/ami-mdms" serve --dir "$work/m" --listen 127.0.0.1:0 --genesis "$dir/genesis.json")
echo "not the passphrase" >"$work/wrong-pass"
expect_untouched "$work/m" 1 "passphrase" "${serve_m[@]}" --passphrase-file "$work/wrong-pass"
expect_untouched "$work/m" 1 "nowhere" "${serve_m[@]}" --passphrase-file "$work/nowhere"
head -c 60 "$dir/mdms/mdms.key" >"$work/m/mdms.key"
expect_untouched "$work/m" 1 "cut short" "${serve_m[@]}" --passphrase-file "$dir/passphrase"
cp "$other/mdms/mdms.key" "$work/m/mdms.key"
expect_untouched "$work/m" 1 "" "${serve_m[@]}" --passphrase-file "$other/passphrase"

say "a ledger of another chain"
cp "$key" "$work/k/dc.key"
jq '.created_ms += 1' "$dir/genesis.json" >"$work/later.json"
expect_untouched "$work/k" 1 "another chain" "$bin/dc-node" run --genesis "$work/later.json" --dir "$work/k"
expect_untouched "$work/k" 1 "" "$bin/dc-node" run --genesis "$other/genesis.json" --dir "$work/k"
# Keys that never served, with a ledger of somewhere else.
mkdir "$work/mixed"
cp -r "$other/dc4/ledger" "$work/mixed/"
cp "$key" "$work/mixed/dc.key"
expect_untouched "$work/mixed" 1 "chain" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$work/mixed"
ledger=$dir/dc4/ledger
for genesis in "$other/genesis.json" "$work/later.json"; do
    expect 1 "chain" "$bin/dc-cli" audit --data "$ledger" --genesis "$genesis"
    expect 1 "chain" "$bin/dc-cli" blocks --data "$ledger" --genesis "$genesis"
    expect 1 "chain" "$bin/dc-cli" export --data "$ledger" --genesis "$genesis" --out "$work/none"
    [ ! -e "$work/none" ] || complain "a refused export left a file"
    expect 1 "chain" "$bin/ami-meter" fleet --genesis "$genesis" --dir "$work/n" --seconds 1
done
expect 1 "chain" "$bin/dc-cli" compare --genesis "$dir/genesis.json" "$ledger" "$other/dc1/ledger"
expect 1 "" "$bin/ami-mdms" serve --dir "$work/m" --genesis "$work/later.json" --listen 127.0.0.1:0 \
    --passphrase-file "$dir/passphrase"
jq '.colour = 1' "$dir/genesis.json" >"$work/odd.json"
for file in "$work/odd.json" /dev/null "$key" "$work"; do
    expect 1 "" "$bin/dc-node" run --genesis "$file" --dir "$work/k"
    expect 1 "" "$bin/dc-cli" audit --data "$ledger" --genesis "$file"
done
expect 1 "" "$bin/dc-cli" audit --data "$work/nothing" --genesis "$dir/genesis.json"
[ ! -e "$work/nothing" ] || complain "an audit of nothing made a folder"
head -c 10000 "$ledger/data.mdb" >"$work/mixed/ledger/data.mdb"
expect 1 "" "$bin/dc-cli" audit --data "$work/mixed/ledger" --genesis "$dir/genesis.json"
head -c 100000 /dev/urandom >"$work/mixed/ledger/data.mdb"
expect 1 "" "$bin/dc-cli" audit --data "$work/mixed/ledger" --genesis "$dir/genesis.json"
start_dc 4

say "a meter's folder"
stop fleet || complain "the fleet did not stop"
cp -r "$dir/fleet" "$work/f"
run_f=("$bin/ami-meter" fleet --genesis "$dir/genesis.json" --dir "$work/f" --seconds 1)
for size in 0 100 9000; do
    head -c $size "$dir/fleet/meters.mdb" >"$work/f/meters.mdb"
    expect 1 "meters.mdb" "${run_f[@]}"
done
head -c 100000 /dev/urandom >"$work/f/meters.mdb"
expect 1 "meters.mdb" "${run_f[@]}"
expect 1 "enrol" "$bin/ami-meter" fleet --genesis "$dir/genesis.json" --dir "$work/nothing" --seconds 1
[ ! -e "$work/nothing" ] || complain "a fleet of nothing made a folder"
expect 1 "no-such" "$bin/ami-meter" run --genesis "$dir/genesis.json" --dir "$dir/fleet" --id no-such \
    --seconds 1

say "load profiles"
measured() { "$bin/ami-meter" export --dir "$dir/fleet"; }
before=$(measured)
replay=("$bin/ami-meter" replay --genesis "$dir/genesis.json" --dir "$dir/fleet")
london() {
    echo "LCLid,tstp,energy_kWh"
    echo "m-1,2013-01-01 00:00:00.0000000, 0.5 "
    cat
}
bad_rows=("m-1,2013-01-01 00:30:00.0000000, 0.5x " "m-1,2013-13-01 00:30:00.0000000,1" "m-1,2013-01-01"
    "m-1,yesterday,1" "m-1,2013-01-01 00:30:00.0000000,1,2" "m 1,2013-01-01 00:30:00.0000000,1"
    ",2013-01-01 00:30:00.0000000,1" "m-1,2013-01-01 00:30:00.0000000,--5"
    "m-1,2013-01-01 00:30:00.0000000,1000000000000000000000000000000000")
for row in "${bad_rows[@]}"; do
    printf 'm-1,2013-01-01 00:30:00.0000000, 1 \n%s\n' "$row" | london >"$work/bad.csv"
    expect 1 "bad.csv:4" "${replay[@]}" "$work/bad.csv"
done
printf 'when,what\n1,2\n' >"$work/bad.csv"
expect 1 "bad.csv:1" "${replay[@]}" "$work/bad.csv"
: >"$work/bad.csv"
expect 1 "bad.csv" "${replay[@]}" "$work/bad.csv"
london </dev/null | gzip | head -c 40 >"$work/bad.csv.gz"
expect 1 "bad.csv.gz" "${replay[@]}" "$work/bad.csv.gz"
head -c 5000 /dev/urandom >"$work/bad.csv"
expect 1 "bad.csv" "${replay[@]}" "$work/bad.csv"
expect 1 "nothing.csv" "${replay[@]}" "$work/nothing.csv"
printf 'stranger,2013-01-01 00:30:00.0000000, 1 \n' | london >"$work/bad.csv"
expect 1 "stranger" "${replay[@]}" "$work/bad.csv"
[ "$(measured)" = "$before" ] || complain "a refused file left readings behind"

say "a revoked meter"
start_fleet
expect 0 "" "$bin/ami-mdms" revoke --dir "$dir/mdms" --id m-2 --reason compromise --wait
refused() { grep -q 'meter_refused meter=m-2 status=REVOKED' "$dir/log/fleet.log"; }
soon 20 "the fleet is told that m-2 is revoked" refused
goes_on 20 "the rest goes on"
"$bin/dc-cli" meter m-2 --node "$(admin_url 1)" --json >"$work/m-2.json"
revoked_at=$(jq -r '.. | .revoked_at? // empty' "$work/m-2.json" | head -n 1)
[ "${revoked_at:-0}" -gt 0 ] || complain "dc-cli does not say from which height on m-2 is revoked"
stop fleet || complain "the fleet did not stop"
expect 1 "" "$bin/ami-mdms" revoke --dir "$dir/mdms" --id m-2
expect 1 "" "$bin/ami-mdms" revoke --dir "$dir/mdms" --id no-such
expect 1 "revoked" "$bin/ami-meter" run --genesis "$dir/genesis.json" --dir "$dir/fleet" --id m-2 \
    --interval 200 --seconds 2 --drain 5
kept=$("$bin/ami-meter" export --dir "$dir/fleet" --unacknowledged | grep -c '^m-2,')
[ "$kept" -gt 0 ] || complain "the reports of a revoked meter are lost"
"$bin/dc-cli" export --data "$dir/dc1/ledger" --genesis "$dir/genesis.json" --format csv --out "$work/txs.csv" \
    >/dev/null 2>&1
late=$(awk -F, -v from="$revoked_at" '$4 == "report" && $5 == "m-2" && $1 > from' "$work/txs.csv" | wc -l)
[ "$late" -eq 0 ] || complain "$late reports of a revoked meter are on the ledger"
[ "$(awk -F, '$4 == "report" && $5 == "m-2"' "$work/txs.csv" | wc -l)" -gt 0 ] || complain "no report of m-2 at all"

say "a meter that no DC knows"
for i in $(seq "$nodes"); do stop "dc$i" || complain "dc$i did not stop"; done
"$bin/ami-mdms" codes --dir "$dir/mdms" --meter --id u-1 --out "$work/u.csv" >/dev/null || complain "codes"
expect 0 "enrolled 1 meter" "${enrol[@]}" --dir "$work/u" --codes "$work/u.csv"
kill_hard mdms
for i in $(seq "$nodes"); do start_dc "$i"; done
soon 30 "a leader" leader
run_u=("$bin/ami-meter" run --genesis "$dir/genesis.json" --dir "$work/u" --id u-1 --interval 200)
expect 1 "no such device is enrolled" "${run_u[@]}" --seconds 60 --drain 5
[ "$("$bin/ami-meter" export --dir "$work/u" --unacknowledged | wc -l)" -gt 1 ] || complain "its reports are lost"
start_mdms --genesis "$dir/genesis.json"
soon 30 "its enrolment is on the ledger" mdms_settled
expect 0 "" "${run_u[@]}" --seconds 1 --drain 30
[ "$("$bin/ami-meter" export --dir "$work/u" --unacknowledged | wc -l)" -eq 1 ] || complain "reports stay in the outbox"

stop_all
audit_all
finish
