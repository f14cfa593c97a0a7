#!/usr/bin/env bash
# sim/cluster partition and heal, and the options of dc-node that make a proxy (or a NAT) possible: with
# one of four cut off commits go on and it catches up later; split in halves nothing is committed; healed,
# it goes on, and nothing is lost. A link that dies without a word is noticed and made anew.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

sim=$here/../../sim/cluster
cluster() { timeout --foreground 30 "$sim" "$@" --dir "$dir" >"$work/out" 2>&1 || give_up "sim/cluster $*: $(cat "$work/out")"; }
picture() { for i in $(seq "$nodes"); do height_of "$i"; done; }
changed_from() { [ "$(picture)" != "$1" ]; }
still() { ! wait_for "$1" "a change" changed_from "$(picture)"; }
settles() { still 1; }
level_with() { height_at_least "$1" "$(height_of "$2")"; }
node_run() { expect "$1" "$2" "$bin/dc-node" run --genesis "$dir/genesis.json" --dir "$dir/dc1" "${@:3}"; }

up p --proxy
enrol_meters 6
start_fleet
goes_on 20 "the fleet delivers through the proxy"
grep -q "^ready: dc1, .* peers 127.0.0.1:$(dc_port 1 4), meters 127.0.0.1:$(dc_port 1 5), admin 127.0.0.1:$(dc_port 1 6)" \
    "$dir/log/dc1.log" || complain "dc1 does not say where it listens"

lead=$(who_leads) || give_up "nobody leads"
say "dc$lead, which leads, is cut off"
cluster partition "dc$lead"
other_leads() { [ "$(leader)" != "$lead" ] && leader; }
no_quorum() { [ "$(status_of "$lead" '.nodes[0].has_quorum')" = false ]; }
soon 20 "the one cut off sees that it has no quorum" no_quorum
soon 20 "another DC leads" other_leads
goes_on 30 "commits go on with one cut off"
cluster heal
soon 30 "the one that was cut off catches up" level_with "$lead" $((lead % nodes + 1))
goes_on 20 "commits go on when it is back"

say "two and two"
cluster partition dc1,dc2 dc3,dc4
soon 15 "what was under way has ended" settles
check "something was committed without a quorum" still 4
cluster heal
goes_on 30 "commits go on when all is whole"

lead=$(who_leads) || give_up "nobody leads"
follower=$((lead % nodes + 1))
say "the link from dc$lead, which leads, to dc$follower dies without a word"
opened() { proxy_tell stats "dc$lead>dc$follower" | grep -o ' opened=[0-9]*' | cut -d= -f2; }
before=$(opened)
proxy_tell half "dc$lead>dc$follower" forward >/dev/null || give_up "the proxy does not do it"
made_anew() { [ "$(opened)" -gt "$before" ]; }
soon 20 "a new link is made" made_anew
grep -q "peer_lost dc=dc$follower" "$dir/log/dc$lead.log" || complain "dc$lead does not say that it lost the link"
soon 20 "dc$follower keeps up" level_with "$follower" "$lead"
goes_on 20 "commits go on"

say "what is refused"
expect 2 "a group is dcN or dcN,dcM" "$sim" partition dc9 --dir "$dir"
expect 2 "expected a group" "$sim" partition --dir "$dir"
kill_hard proxy
expect 1 "the proxy does not run" "$sim" heal --dir "$dir"
cluster start
goes_on 30 "commits go on with a new proxy"
drain_fleet
top=$(height_of 1)
soon 30 "the MDMS follows" mdms_height_at_least "$top"
for i in $(seq "$nodes"); do soon 20 "dc$i is at height $top" height_at_least "$i" "$top"; done
stop_all
node_run 1 "with the name of another DC" --peer "dc9=127.0.0.1:1"
node_run 1 "with the name of another DC" --peer "dc1=127.0.0.1:1"
node_run 1 "with the name of another DC" --peer "dc2"
node_run 1 "nonsense" --listen-peers nonsense
cluster down
audit_all
nothing_lost
sed -i 's/^proxy=.*/proxy=0/' "$dir/cluster.env"
expect 1 "sim/cluster up --proxy" "$sim" partition dc1 --dir "$dir"
finish
