# shellcheck shell=bash
# The caller sets dir, nodes and base_port, and some functions are called by name only.
# shellcheck disable=SC2154,SC2317
# sim/lib.sh - what sim/cluster, sim/demo and sim/soak share: where programs and files are, and how
# processes are started, found again and stopped. Sourced, never run.
#
# A cluster is a folder:
#   cluster.env          how it was made (nodes, scheme, ports, record suites of links)
#   run/NAME.pid         process id and start time of each process that we started
#   log/NAME.log         its output
#   mdms/ dc1/ ... fleet/  the data of each
#   network.json genesis.json
#
# With proxy=1 everything but enrolment goes through sim-proxy (sim/proxy.c): the addresses of the
# genesis file are its, the DCs listen elsewhere, and each DC has a way of its own to each other. With
# namespaces=1 each DC lives in the network namespace that netns_of names. Where clock_library is set
# (libfaketime), every program's clock is off by what clock.NAME in the folder says.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=${AMI_BIN:-$root/build/bin}

# A list of record suites, as dc-node's --suites takes it; empty: its default.
suites_valid() {
    case $1 in
    '' | sm4-gcm | sm4-ctr-hmac-sm3 | sm4-gcm,sm4-ctr-hmac-sm3 | sm4-ctr-hmac-sm3,sm4-gcm) ;;
    *) return 1 ;;
    esac
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

usage_error() {
    printf '%s: %s (try --help)\n' "${0##*/}" "$*" >&2
    exit 2
}

# Start time of a process in clock ticks since boot: with the pid it names one process for good.
start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The name in parentheses may hold blanks; what follows the last one is regular.
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    printf '%s\n' "${20}"
}

# wrapper_of NAME: sets wrapper to what stands in front of the program's command line. Each of these
# becomes the program itself, so that the pid is the program's.
wrapper_of() {
    wrapper=()
    [ "$1" != proxy ] || return 0
    if [ "${namespaces:-0}" = 1 ] && [[ $1 == dc* ]]; then
        wrapper+=(nsenter "--net=$(netns_of "${1#dc}")")
    fi
    if [ -n "${clock_library:-}" ]; then
        wrapper+=(env "LD_PRELOAD=$clock_library" "FAKETIME_TIMESTAMP_FILE=$dir/clock.$1"
            FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1)
    fi
}

# start NAME COMMAND...: in the background, with its own log; the pid file names it.
start() {
    local name=$1
    shift
    mkdir -p "$dir/run" "$dir/log"
    wrapper_of "$name"
    setsid "${wrapper[@]}" "$@" >>"$dir/log/$name.log" 2>&1 </dev/null &
    local pid=$!
    # A process that is gone already has no start time; waiting for its ready line will tell.
    printf '%s %s\n' "$pid" "$(start_time "$pid" || echo 0)" >"$dir/run/$name.pid"
    disown "$pid" 2>/dev/null || true
}

# pid_of NAME: prints the pid when that very process still runs.
pid_of() {
    local pid started
    [ -f "$dir/run/$1.pid" ] || return 1
    read -r pid started <"$dir/run/$1.pid"
    [ "$(start_time "$pid")" = "$started" ] || return 1
    # A zombie is dead, unless threads of it are still on their way out (amid a sync, say): until then
    # it holds its ports and locks.
    if grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null; then
        [ "$(find "/proc/$pid/task" -mindepth 1 -maxdepth 1 2>/dev/null | wc -l)" -gt 1 ] || return 1
    fi
    printf '%s\n' "$pid"
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds.
wait_for() {
    local limit=$1 what=$2 until
    shift 2
    until=$(($(date +%s%N) + limit * 1000000000))
    while ! "$@" >/dev/null 2>&1; do
        if [ "$(date +%s%N)" -ge "$until" ]; then
            return 1
        fi
        sleep 0.02
    done
    : "$what"
}

# wait_ready NAME SECONDS: until the process has printed its ready line; its log when it has not.
wait_ready() {
    local name=$1 limit=${2:-30}
    ready_or_dead() {
        ! pid_of "$name" >/dev/null || tail -n +"$((from + 1))" "$dir/log/$name.log" | grep -q '^ready'
    }
    local from=${3:-0}
    wait_for "$limit" "$name" ready_or_dead || die "$name is not ready after $limit s: see $dir/log/$name.log"
    if ! pid_of "$name" >/dev/null; then
        tail -n 5 "$dir/log/$name.log" >&2
        die "$name stopped while starting: see $dir/log/$name.log"
    fi
}

# log_lines NAME: how long its log is now, to look for a new ready line after it.
log_lines() {
    if [ -f "$dir/log/$1.log" ]; then wc -l <"$dir/log/$1.log"; else echo 0; fi
}

# stop NAME: SIGTERM, and SIGKILL after ten seconds; fails when the program did.
stop() {
    local name=$1 pid
    pid=$(pid_of "$name") || return 0
    kill -TERM "$pid" 2>/dev/null
    # Only a paused process is told to go on: SIGCONT takes a stop away that the leak check of a
    # sanitized build waits for while the program ends, and it would wait for ever.
    if grep -q '^State:[[:space:]]*T' "/proc/$pid/status" 2>/dev/null; then
        kill -CONT "$pid" 2>/dev/null
    fi
    process_gone() { ! pid_of "$name"; }
    if ! wait_for 10 "$name" process_gone; then
        kill -KILL "$pid" 2>/dev/null
        printf '%s: %s did not stop on SIGTERM within 10 s and was killed\n' "${0##*/}" "$name" >&2
        return 1
    fi
}

# kill_hard NAME: SIGKILL, at once.
kill_hard() {
    local name=$1 pid
    pid=$(pid_of "$name") || die "$name does not run"
    kill -KILL "$pid"
    killed() { ! pid_of "$name"; }
    wait_for 10 "$name" killed || die "$name survived SIGKILL"
}

load_cluster() {
    [ -f "$dir/cluster.env" ] || die "no cluster in $dir: sim/cluster up --dir $dir makes one"
    proxy=0 namespaces=0 suites=''
    # shellcheck source=/dev/null
    . "$dir/cluster.env"
    # dc-cli and whoever fetches a proof ask as this operator.
    export AMI_CREDENTIAL=$dir/operator.cred
}

mdms_url() { printf 'tcp://127.0.0.1:%s\n' "$base_port"; }
# Ports of DC i (from 1): peers, meters, admin; behind a proxy it listens on the next three.
dc_port() { printf '%s\n' "$((base_port + 10 * $1 + $2))"; }
admin_url() { printf 'tcp://127.0.0.1:%s\n' "$(dc_port "$1" 3)"; }
netns_of() { printf '/run/netns/amidc%s\n' "$1"; }
# Where DC i listens, and where it finds the proxy.
dc_host() { if [ "$namespaces" = 1 ]; then echo "10.177.$1.2"; else echo 127.0.0.1; fi; }
proxy_host() { if [ "$namespaces" = 1 ]; then echo "10.177.$1.1"; else echo 127.0.0.1; fi; }
# The proxy's port for the way from DC i to DC j, and the one for commands.
way_port() { printf '%s\n' "$((base_port + 10 * (nodes + 1) + nodes * ($1 - 1) + $2))"; }
proxy_port() { printf '%s\n' "$((base_port + 9))"; }

# A run of ports that nobody listens on now.
free_base_port() {
    local nodes=$1 last=$((10 * $1 + 6)) base port busy
    [ "${proxy:-0}" = 0 ] || last=$((10 * ($1 + 1) + $1 * $1))
    for _ in $(seq 50); do
        base=$((20000 + RANDOM % 10000))
        busy=0
        for port in $(seq "$base" $((base + last))); do
            if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
                busy=1
            fi
        done
        if [ "$busy" = 0 ]; then
            printf '%s\n' "$base"
            return 0
        fi
    done
    die "no free run of ports found between 20000 and 30000"
}

# Routes are called meters>dcJ, mdms>dcJ, admin>dcJ and dcI>dcJ.
start_proxy() {
    local i j routes=()
    for i in $(seq "$nodes"); do
        routes+=("mdms>dc$i=127.0.0.1:$(dc_port "$i" 1),$(dc_host "$i"):$(dc_port "$i" 4)"
            "meters>dc$i=127.0.0.1:$(dc_port "$i" 2),$(dc_host "$i"):$(dc_port "$i" 5)"
            "admin>dc$i=127.0.0.1:$(dc_port "$i" 3),$(dc_host "$i"):$(dc_port "$i" 6)")
        for j in $(seq "$nodes"); do
            [ "$i" = "$j" ] ||
                routes+=("dc$i>dc$j=$(proxy_host "$i"):$(way_port "$i" "$j"),$(dc_host "$j"):$(dc_port "$j" 4)")
        done
    done
    start proxy "$bin/sim-proxy" --control "127.0.0.1:$(proxy_port)" "${routes[@]}"
    wait_ready proxy 10
}

# proxy_tell COMMAND WORD...: prints the proxy's answer; fails when it did not do it.
proxy_tell() {
    local answer='' port
    port=$(proxy_port)
    {
        printf '%s\n' "$*" >&3
        IFS= read -r -t 10 answer <&3
    } 3<>"/dev/tcp/127.0.0.1/$port" || true
    printf '%s\n' "${answer:-error: no answer from the proxy}"
    [[ $answer == ok* ]]
}

start_mdms() {
    local from
    from=$(log_lines mdms)
    start mdms "$bin/ami-mdms" serve --dir "$dir/mdms" --passphrase-file "$dir/passphrase" \
        --listen "$(mdms_url)" "$@"
    wait_ready mdms 30 "$from"
}

start_dc() {
    local i=$1 from j behind=() with_suites=()
    [ -z "${suites:-}" ] || with_suites=(--suites "$suites")
    from=$(log_lines "dc$i")
    if [ "${proxy:-0}" = 1 ]; then
        behind=(--listen-peers "$(dc_host "$i"):$(dc_port "$i" 4)"
            --listen-meters "$(dc_host "$i"):$(dc_port "$i" 5)"
            --listen-admin "$(dc_host "$i"):$(dc_port "$i" 6)")
        for j in $(seq "$nodes"); do
            [ "$i" = "$j" ] || behind+=(--peer "dc$j=$(proxy_host "$i"):$(way_port "$i" "$j")")
        done
    fi
    start "dc$i" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc$i" "${behind[@]}" "${with_suites[@]}"
    wait_ready "dc$i" 60 "$from"
}

# Prints the number of the DC that leads, as the DCs themselves say; fails when none does.
leader() {
    local i status
    for i in $(seq "$nodes"); do
        status=$("$bin/dc-cli" status --json --node "$(admin_url "$i")" 2>/dev/null) || continue
        if [ "$(jq -r '.nodes[0].role // empty' <<<"$status")" = leader ]; then
            printf '%s\n' "$i"
            return 0
        fi
    done
    return 1
}

# damage_ledger FOLDER HEIGHT: flips one bit of that block's Merkle root wherever the file holds it.
damage_ledger() {
    "$bin/dc-cli" block "$2" --data "$1" --genesis "$dir/genesis.json" --json | jq -r .header.merkle_root |
        python3 -c '
import sys
path, good = sys.argv[1], bytes.fromhex(sys.stdin.read())
with open(path, "rb") as file:
    data = file.read()
with open(path, "r+b") as file:
    at = data.index(good)
    while at >= 0:
        file.seek(at)
        file.write(bytes([good[0] ^ 1]))
        at = data.find(good, at + 1)' "$1/data.mdb"
}

# Height of the last block that DC i has committed.
height_of() {
    "$bin/dc-cli" status --json --node "$(admin_url "$1")" 2>/dev/null | jq -er '.nodes[0].height'
}
