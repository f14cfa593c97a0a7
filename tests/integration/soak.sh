#!/usr/bin/env bash
# sim/cluster soak: two minutes of one seed, and a short run whose checks have to fail, as a ledger
# was damaged before them.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# soak SECONDS NAME OPTION...: its report is in NAME.json, what it printed in NAME.txt.
soak() {
    local limit=$1 name=$2
    shift 2
    timeout --kill-after=15 "$limit" "$here/../../sim/cluster" soak --keep "$work/$name" \
        --json "$work/$name.json" "$@" >"$work/$name.txt" 2>&1
}

if ! soak 330 two --minutes 2 --seed 11 --meters 24 --interval 600; then
    complain "the soak failed"
    cat "$work/two.txt"
fi
grep -E '^ *[0-9]+ s  (seed|skipped)|^(faults|longest|reports|readings)' "$work/two.txt"
check "there is no report" [ -s "$work/two.json" ]
for claim in '.ok and .problems == []' '.faults_total > 10 and (.faults | length) > 6 and .phases_beyond > 0' \
    '.reports_lost == 0 and .reports_duplicated == 0 and .readings_lost == 0 and .readings_duplicated == 0' \
    '.reports_acknowledged > 100 and .reports_acknowledged == .reports_on_ledger' \
    '.blocks_committed > 20 and .elections > 0 and .audit_ok and .compare_ok' \
    '(.tiers | index("process")) and (.skipped | length > 0)' \
    '.no_commit_ms_expected > 0 and .no_commit_ms_expected <= .bound_s * 1000'; do
    check "not so: $claim" holds "$work/two.json" "$claim"
done
# What is not possible is said, and nothing of it is in the report.
for tier in namespace clock disk; do
    if holds "$work/two.json" ".tiers | index(\"$tier\") | not"; then
        check "$tier is neither used nor said to be skipped" \
            holds "$work/two.json" ".skipped | any(startswith(\"$tier: \"))"
    fi
done
scan "$work"/two/log/*.log

# none_left FOLDER: nothing that the soak started there still runs.
none_left() {
    local file
    for file in "$work/$1"/run/*.pid; do
        if dir=$work/$1 pid_of "$(basename "$file" .pid)"; then return 1; fi
    done
}
soon 5 "nothing of the soak runs any more" none_left two

say "damage before the checks"
if AMI_SOAK_DAMAGE=dc2 soak 120 damaged --minutes 0.1 --seed 1 --only net; then
    complain "a damaged ledger was not noticed"
fi
check "the audit did not notice it" holds "$work/damaged.json" '(.ok | not) and (.audit_ok | not)'
grep -q "the audit of dc2's ledger failed" "$work/damaged.txt" || complain "the report does not name the ledger"

say "an interrupted run"
soak 15 interrupted --minutes 5 --seed 3
[ $? = 124 ] || complain "a run of five minutes ended within 15 s: $(tail -n 3 "$work/interrupted.txt")"
[ -e "$work/interrupted/run/mdms.pid" ] || complain "the interrupted soak had not started anything"
soon 5 "nothing of the interrupted soak runs any more" none_left interrupted

expect 2 "at least 4 DCs" "$here/../../sim/cluster" soak --nodes 3
expect 2 "no tier" "$here/../../sim/cluster" soak --only moon
expect 0 "" "$here/../../sim/cluster" soak --plan --minutes 1 --seed 5
cp "$work/out" "$work/plan"
expect 0 "" "$here/../../sim/cluster" soak --plan --minutes 1 --seed 5
cmp "$work/out" "$work/plan" || complain "the same seed gives another plan"
finish
