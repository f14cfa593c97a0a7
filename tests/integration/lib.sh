# shellcheck shell=bash
# tests/integration/lib.sh - what the process-level tests share: a work folder of their own, clusters
# and processes through sim/lib.sh, judgements, and an end that stops whatever was started and looks
# through every log for what a sanitizer or a broken invariant left there. Sourced, never run.
#
# A test looks like this:
#   . "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
#   up a; enrol_meters 4; ...; expect 1 "TEXT" COMMAND...; check "what should be" COMMAND...
#   finish
# Programs come from AMI_BIN, so that the tests run the build under test.
set -u
: "${AMI_BIN:?names the folder of the programs under test}"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=sim/lib.sh
. "$here/../../sim/lib.sh"

for program in ami-mdms dc-node ami-meter dc-cli; do
    if [ ! -x "$bin/$program" ]; then
        echo "$bin/$program is not built"
        exit 1
    fi
done

programs='ami-mdms|dc-node|ami-meter|dc-cli|demo|cluster|soak'
work=$(mktemp -d "${TMPDIR:-/tmp}/ami-test.XXXXXX")
clusters=() # folders of sim/lib.sh
failed=0 skipped=0
began=$SECONDS
# A small quarantine, so that the memory of a sanitized program can be judged.
export ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=16:malloc_context_size=8}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
cd "$work" || exit 1

# Whether the programs under test carry AddressSanitizer.
sanitized() { grep -q __asan_init "$bin/dc-node"; }

say() { printf '%3d s  %s\n' $((SECONDS - began)) "$*"; }

complain() {
    say "FAILED: $*"
    failed=1
}

# skip WHY: this part cannot be had here. The test goes on, and is counted as skipped unless it fails.
skip() {
    say "SKIPPED: $*"
    skipped=1
}

# give_up WHAT: what follows would make no sense.
give_up() {
    complain "$*"
    finish
}

# expect STATUS TEXT COMMAND...: the exit status, and TEXT (if any) in what it prints (left in out and err).
# An error is one sentence on stderr that begins with the program's name.
expect() {
    local status=$1 text=$2 got
    shift 2
    timeout --foreground 60 "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    if [ "$got" -ne "$status" ]; then
        complain "exit status $got instead of $status: $*"
        head -c 2000 "$work/out" "$work/err"
    fi
    if [ -n "$text" ] && ! grep -qF -- "$text" "$work/out" "$work/err"; then
        complain "no \"$text\" from: $*"
        head -c 2000 "$work/out" "$work/err"
    fi
    # With --json the sentence is in the document.
    if [ "$status" -ne 0 ] && [[ " $* " != *" --json "* ]] && [ "$(grep -cE "^($programs): " "$work/err")" -ne 1 ]; then
        complain "not one sentence on stderr from: $*"
        head -c 2000 "$work/err"
    fi
    scan "$work/out" "$work/err"
}

# check WHAT COMMAND...: the command succeeds.
check() {
    local what=$1
    shift
    "$@" || complain "$what"
}

# holds FILE FILTER: the JSON in FILE has what the filter asks for.
holds() { jq -e "$2" "$1" >/dev/null 2>&1; }

# soon SECONDS WHAT COMMAND...: the command succeeds within that time.
soon() {
    local limit=$1 what=$2
    shift 2
    wait_for "$limit" "$what" "$@" || complain "not within $limit s: $what"
}

# who_leads: the number of the DC that leads. While a term or an epoch begins nobody does, for a moment.
who_leads() {
    wait_for 20 "a leader" leader >/dev/null || return 1
    leader
}

# logged NAME PATTERN [LINES]: the process has logged that, behind so many lines (log_lines). Looked at anew
# each time, so that it can be waited for.
logged() { tail -n +"$((${3:-0} + 1))" "$dir/log/$1.log" | grep -q -- "$2"; }

# newest_event DC: the number of the newest event there.
newest_event() { "$bin/dc-cli" events --json --node "$(admin_url "$1")" | jq -er .newest; }
# event_since DC NUMBER PATTERN: dc-cli events has that, among those after this number.
event_since() { "$bin/dc-cli" events --node "$(admin_url "$1")" --from $(($2 + 1)) | grep -q -- "$3"; }

# scan FILE...: no report of a sanitizer, no broken invariant, no death by a signal of the program's
# own making.
scan() {
    local file
    for file in "$@"; do
        [ -f "$file" ] || continue
        if grep -nE 'Sanitizer|runtime error:|invariant violated|double free|stack smashing' "$file"; then
            complain "a program reports a defect of its own: $file"
            grep -nE -A 25 'Sanitizer|runtime error:|invariant violated' "$file" | head -n 60
        fi
    done
}

# --- clusters ------------------------------------------------------------------------------------

# use FOLDER: the cluster that the following calls are about.
use() {
    dir=$work/$1
    load_cluster
}

# up FOLDER [OPTION...]: a cluster of sim/cluster; the options are its.
up() {
    local folder=$1
    shift
    clusters+=("$work/$folder")
    timeout --foreground 90 "$here/../../sim/cluster" up --dir "$work/$folder" "$@" >"$work/$folder.up" 2>&1 || {
        cat "$work/$folder.up"
        give_up "the cluster does not come up"
    }
    use "$folder"
}

# enrol_meters COUNT [PREFIX]: install codes and keys for so many meters, in the fleet's folder.
enrol_meters() {
    local count=$1 prefix=${2:-m-}
    "$bin/ami-mdms" codes --dir "$dir/mdms" --meter --prefix "$prefix" --count "$count" \
        --out "$dir/codes-$prefix.csv" >"$work/out" 2>&1 || give_up "no codes: $(cat "$work/out")"
    timeout --foreground 60 "$bin/ami-meter" enrol --genesis "$dir/genesis.json" --dir "$dir/fleet" \
        --mdms "$(mdms_url)" --codes "$dir/codes-$prefix.csv" >"$work/out" 2>&1 ||
        give_up "the meters do not enrol: $(cat "$work/out")"
    soon 30 "the enrolments of $count meters are on the ledger" mdms_settled
}

# Everything that the MDMS wants on the ledger is there.
mdms_settled() {
    [ "$("$bin/ami-mdms" status --dir "$dir/mdms" --json | jq -r .outbox)" = 0 ]
}

# start_fleet [OPTION...]: all meters of the folder measure until they are stopped.
start_fleet() {
    [[ " $* " == *" --interval "* ]] || set -- --interval 250 "$@"
    start fleet "$bin/ami-meter" fleet --genesis "$dir/genesis.json" --dir "$dir/fleet" \
        --seconds 600 --drain 30 --stats "$dir/fleet.json" "$@"
    soon 30 "the fleet has its first acknowledgement" acknowledged_above 0
}

# drain_fleet: the fleet stops on SIGTERM, and another short run delivers what was still under way.
drain_fleet() {
    stop fleet || complain "the fleet did not stop"
    expect 0 "" "$bin/ami-meter" fleet --genesis "$dir/genesis.json" --dir "$dir/fleet" --seconds 1 \
        --interval 500 --drain 40 --stats "$dir/fleet.json"
    [ "$(fleet_stat reports_unacknowledged)" = 0 ] || complain "reports stay in the outbox"
}

# Fields of the fleet's statistics, which it rewrites every second.
fleet_stat() { jq -r ".$1 // 0" "$dir/fleet.json" 2>/dev/null || echo 0; }
acknowledged() { fleet_stat readings_acknowledged; }
acknowledged_above() { [ "$(acknowledged)" -gt "$1" ]; }
# goes_on SECONDS WHAT: the fleet gets further acknowledgements, more than those under way.
goes_on() { soon "$1" "$2" acknowledged_above $(($(acknowledged) + 10)); }

status_of() { "$bin/dc-cli" status --json --node "$(admin_url "$1")" 2>/dev/null | jq -r "$2"; }
height_at_least() {
    local h
    h=$(height_of "$1") && [ "$h" -ge "$2" ]
}
mdms_height_at_least() {
    [ "$("$bin/ami-mdms" status --dir "$dir/mdms" --json | jq -r .height)" -ge "$1" ]
}
runs() { pid_of "$1"; }
ended() { ! pid_of "$1" >/dev/null; }

# stop_all: everything of this cluster stops on SIGTERM, and every DC has said so.
stop_all() {
    local name i
    for name in fleet $(seq -f 'dc%.0f' "$nodes") mdms; do
        pid_of "$name" >/dev/null || continue
        stop "$name" || complain "$name did not stop cleanly"
    done
    for i in $(seq "$nodes"); do
        grep -q ' stopping ' "$dir/log/dc$i.log" || complain "dc$i never said that it stops"
    done
}

# audit_all: every ledger verifies from its genesis on, and they are prefixes of one another.
audit_all() {
    local i ledgers=()
    for i in $(seq "$nodes"); do
        ledgers+=("$dir/dc$i/ledger")
        expect 0 "" "$bin/dc-cli" audit --data "$dir/dc$i/ledger" --genesis "$dir/genesis.json"
    done
    expect 0 "" "$bin/dc-cli" compare --genesis "$dir/genesis.json" "${ledgers[@]}"
}

# nothing_lost: what the meters measured is what the MDMS exports, row for row. The fleet has ended
# and delivered everything, the MDMS has followed.
nothing_lost() {
    "$bin/ami-meter" export --dir "$dir/fleet" --format csv >"$dir/measured.csv" ||
        complain "ami-meter export"
    "$bin/ami-mdms" export --dir "$dir/mdms" --format csv --out "$dir/exported.csv" >/dev/null ||
        complain "ami-mdms export"
    [ "$(wc -l <"$dir/measured.csv")" -gt 1 ] || complain "nothing was measured"
    cmp "$dir/measured.csv" "$dir/exported.csv" || complain "the export is not what was measured"
}

# --- what passes over loopback --------------------------------------------------------------------

# capture FILE: from now on, in the background, until capture_end. captured is 1 when this user may; else the
# test ends as skipped, whatever else it has shown.
capture() {
    captured=1
    helper python3 "$here/capture.py" "$1" >"$1.said" 2>&1
    capture_pid=$helper_pid
    capture_begun() { grep -q ready "$capture_said" || ! kill -0 "$capture_pid"; }
    capture_said=$1.said
    wait_for 10 "the capture" capture_begun
    grep -q ready "$capture_said" && return
    captured=0
    local status=0
    wait "$capture_pid" || status=$?
    [ "$status" = 77 ] || complain "the capture failed with status $status: $(cat "$capture_said")"
    skip "what passes was not captured: this user may not"
}
# What was lost nobody has looked at: it may be what should not have been there.
capture_end() {
    [ "$captured" = 1 ] || return 0
    kill -TERM "$capture_pid" 2>/dev/null
    wait "$capture_pid" || complain "the capture failed: $(cat "$capture_said")"
    grep -q '^lost 0$' "$capture_said" || complain "the capture is not whole: $(tail -n 1 "$capture_said")"
}
# Ports of the cluster in use, as shows.py takes them: those of channels, among peers and for operators, and
# those where what has to be secret is sealed inside, for meters and for enrolment.
ports_of_all() { for i in $(seq "$nodes"); do dc_port "$i" "$1"; done | paste -sd,; }
peer_ports() { ports_of_all 1; }
meter_ports() { ports_of_all 2; }
admin_ports() { ports_of_all 3; }
channel_ports() { echo "$(peer_ports),$(admin_ports)"; }
open_ports() { echo "$(meter_ports),$base_port"; }
# say_in_clear TEXT: over loopback, from one end of a connection to the other; prints the port that was dialled.
say_in_clear() {
    python3 -c '
import socket, sys
for port in range(30900, 31000):
    try:
        listening = socket.create_server(("127.0.0.1", port))
        break
    except OSError:
        continue
with socket.create_connection(("127.0.0.1", port)) as one, listening.accept()[0] as other:
    one.sendall(sys.argv[1].encode())
    one.shutdown(socket.SHUT_WR)
    while other.recv(65536):
        pass
print(port)' "$1"
}

# carried LEAST WHAT OPTION...: at least so many bytes passed there, and were captured.
carried() {
    local least=$1 what=$2 size
    shift 2
    size=$(python3 "$here/shows.py" --size "$@") || complain "shows.py failed: $*"
    [ "$size" -ge "$least" ] || complain "$what: only $size bytes of at least $least were captured"
    say "captured: $what, $size bytes"
}
# hidden WHAT OPTION...: none of what the options (of shows.py) name is there.
hidden() {
    local what=$1 found
    shift
    found=$(python3 "$here/shows.py" "$@") || complain "shows.py failed: $*"
    [ -z "$found" ] || complain "$what: $(tr '\n' ' ' <<<"$found")"
}
# shown COUNT WHAT OPTION...: so many of them are.
shown() {
    local count=$1 what=$2 found
    shift 2
    found=$(python3 "$here/shows.py" "$@" | wc -l)
    [ "$found" -eq "$count" ] || complain "$what: $found of $count"
}

# --- processes outside a cluster -----------------------------------------------------------------

helpers=() # pids
# helper COMMAND...: in the background, stopped at the end; its pid is in helper_pid.
helper() {
    "$@" </dev/null &
    helper_pid=$!
    helpers+=("$helper_pid")
}

# --- the end -------------------------------------------------------------------------------------

kill_everything() {
    local folder file pid
    for pid in "${helpers[@]}"; do
        kill -KILL "$pid" 2>/dev/null
    done
    for folder in "${clusters[@]}"; do
        dir=$folder
        for file in "$dir"/run/*.pid; do
            [ -e "$file" ] || continue
            if pid=$(pid_of "$(basename "$file" .pid)"); then kill -KILL "$pid" 2>/dev/null; fi
        done
    done
}

at_exit() {
    local status=$?
    trap - EXIT
    kill_everything
    if { [ "$status" -ne 0 ] && [ "$status" -ne 77 ]; } || [ "$failed" -ne 0 ]; then
        local log
        for log in "$work"/*/log/*.log; do
            [ -e "$log" ] || continue
            printf -- '--- last lines of %s\n' "${log#"$work"/}"
            tail -n 5 "$log" | cut -c 1-200
        done
        [ "$status" -ne 0 ] || status=1
    fi
    if [ -n "${AMI_TEST_KEEP:-}" ]; then echo "kept: $work"; else rm -rf "$work"; fi
    exit "$status"
}
trap at_exit EXIT
trap 'complain "interrupted, or out of time"; exit 1' INT TERM

# finish: the last line of a test. Status 77: nothing failed, but a part was skipped.
finish() {
    local folder name file
    for folder in "${clusters[@]}"; do
        dir=$folder
        for file in "$dir"/run/*.pid; do
            [ -e "$file" ] || continue
            name=$(basename "$file" .pid)
            pid_of "$name" >/dev/null || continue
            stop "$name" || complain "$name did not stop on SIGTERM"
        done
    done
    for file in "$work"/*/log/*.log "$work"/*.log; do scan "$file"; done
    [ "$failed" -eq 0 ] || exit 1
    say "all as expected"
    [ "$skipped" -eq 0 ] || exit 77
    exit 0
}
