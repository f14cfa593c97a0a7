#!/bin/bash
# The program ami-mdms from outside: from an empty directory to a genesis and enrolled meters, and
# what it says to bad input. usage: cli.sh AMI-MDMS MDMS-DEVICE MAKE-CERTIFICATES DC-CLI
set -u
mdms=$1
device=$2
certificates=$3
cli=$4
work=$(mktemp -d)
serving=
# shellcheck disable=SC2317  # called by the trap
cleanup() {
    [ -z "$serving" ] || kill "$serving" 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
cd "$work" || exit 1
failed=0

complain() {
    echo "FAILED: $*"
    cat out err 2>/dev/null
    failed=1
}

# expect STATUS TEXT COMMAND...: the exit status, and TEXT somewhere in what it prints.
expect() {
    local status=$1 text=$2
    shift 2
    "$@" >out 2>err
    local got=$?
    [ $got -eq "$status" ] || complain "exit status $got instead of $status: $*"
    grep -qF -- "$text" out err || complain "no \"$text\" from: $*"
    # An error is one sentence on stderr.
    if [ "$status" -ne 0 ] && ! grep -qE '^(ami-mdms|dc-cli): ' err; then
        complain "no sentence on stderr from: $*"
    fi
}

# serve ARGS...: starts it and waits for the ready line; sets address.
serve() {
    rm -f ready
    mkfifo ready
    "$mdms" serve --listen 127.0.0.1:0 --passphrase-file pass "$@" >ready 2>log &
    serving=$!
    address=
    local line
    if read -r -t 30 line <ready; then
        address=${line#ready enrol=}
        address=${address%% *}
    fi
    [ -n "$address" ] || complain "serve $* gave no ready line: $(cat log)"
}

# stop: ends it as a service manager does.
stop() {
    kill -TERM "$serving"
    wait "$serving"
    local got=$?
    serving=
    [ $got -eq 0 ] || complain "serve ended with $got: $(cat log)"
}

echo "a passphrase" >pass
echo "another one" >pass2
: >empty

# --- init
expect 2 "no passphrase" "$mdms" init --dir m --name net --passphrase-file empty
expect 2 "sm2kx and liu2023" "$mdms" init --dir m --name net --passphrase-file pass --scheme rsa
expect 2 "is no name" "$mdms" init --dir m --name "a b" --passphrase-file pass
[ ! -e m ] || complain "a refused init left something"
expect 0 "sm2kx" "$mdms" init --dir m --name net --passphrase-file pass
cp -r m m.before
expect 1 "never overwritten" "$mdms" init --dir m --name net --passphrase-file pass2
diff -r m m.before >/dev/null || complain "a refused init changed something"
rm -r m.before
expect 0 '"ok":true' "$mdms" init --dir other --name net --passphrase-file pass --json \
    --scheme liu2023
mkdir half
cp m/mdms.key half/
expect 1 "cut short" "$mdms" init --dir half --name net --passphrase-file pass
expect 1 "ami-mdms init" "$mdms" status --dir nowhere

# --- codes
expect 2 "either --dc or --meter" "$mdms" codes --dir m --id x
expect 2 "say which devices" "$mdms" codes --dir m --meter
expect 2 "say which devices" "$mdms" codes --dir m --meter --prefix m-
expect 0 "4 install codes" "$mdms" codes --dir m --dc --prefix dc- --count 4 --out dc.csv
[ "$(sed -n 2p dc.csv | cut -d, -f1)" = dc-1 ] || complain "codes: names"
[ "$(stat -c %a dc.csv)" = 600 ] || complain "a list of codes that others may read"
expect 1 "waits unused" "$mdms" codes --dir m --dc --id dc-1
expect 1 "dc.csv" "$mdms" codes --dir m --dc --id dc-9 --out dc.csv
printf 'm-1\n\n# a comment\nm-2, dc-1\nbad name\n' >ids
expect 2 "ids:5:" "$mdms" codes --dir m --meter --ids-file ids
printf 'm-1\nm-2\nm-1\n' >ids
expect 1 "named twice" "$mdms" codes --dir m --meter --ids-file ids
printf 'm-1\nm-2,dc-77\n' >ids
expect 1 "dc-77" "$mdms" codes --dir m --meter --ids-file ids --out none.csv
[ ! -e none.csv ] || complain "codes: a list stayed behind"
printf 'm-1\nm-2, dc-3\n' >ids
expect 0 "m-2," "$mdms" codes --dir m --meter --ids-file - <ids
expect 0 "m-1," "$mdms" codes --dir m --meter --ids-file ids --replace
tail -n 3 out >m.csv
expect 0 '"codes":6' "$mdms" status --dir m --json

# --- serve: keys
expect 1 "passphrase" "$mdms" serve --dir m --passphrase-file pass2
cp -r m cut
head -c 100 m/mdms.key >cut/mdms.key
expect 1 "cut short" "$mdms" serve --dir cut --passphrase-file pass
cp other/mdms.key cut/mdms.key
expect 1 "another network" "$mdms" serve --dir cut --passphrase-file pass
expect 2 "--until" "$mdms" serve --dir m --passphrase-file pass --until forever
expect 2 "--log-level" "$mdms" serve --dir m --passphrase-file pass --log-level loud

# --- enrolment of the DCs, then the genesis
members=()
for i in 1 2 3 4; do
    members+=(--member "dc-$i=127.0.0.1:710$i:720$i:730$i")
done
expect 1 "not enrolled" "$mdms" genesis --dir m "${members[@]}"
serve --dir m --until dcs=4
expect 1 "in use by process" "$mdms" serve --dir m --passphrase-file pass
expect 1 "$address" "$mdms" serve --dir other --passphrase-file pass --listen "$address"
# A meter has to wait for the ledger.
"$device" "$address" m/network.json meter m.csv >out 2>err
grep -q 'm-1 AGAIN' out || complain "a meter enrolled before the genesis"
"$device" "$address" m/network.json dc dc.csv >out 2>err || complain "the DCs did not enrol"
wait "$serving" || complain "serve --until dcs=4 ended with $?"
serving=
expect 2 "at least 4" "$mdms" genesis --dir m "${members[@]:0:6}"
expect 2 "HOST:PEERPORT" "$mdms" genesis --dir m "${members[@]:0:6}" --member dc-4=127.0.0.1:1:2
expect 2 "no port" "$mdms" genesis --dir m "${members[@]:0:6}" --member dc-4=h:1:2:99999
expect 1 "named twice" "$mdms" genesis --dir m "${members[@]:0:6}" --member dc-1=h:1:2:3
expect 1 "dc-5" "$mdms" genesis --dir m "${members[@]:0:6}" --member dc-5=h:1:2:3
expect 2 "no parameter" "$mdms" genesis --dir m "${members[@]}" --param colour=7
expect 2 "NUMBER" "$mdms" genesis --dir m "${members[@]}" --param heartbeat_ms=x
expect 2 "leader or home" "$mdms" genesis --dir m "${members[@]}" --gateway none
[ ! -e m/genesis.json ] || complain "a refused genesis left a file"
expect 0 "3 votes" "$mdms" genesis --dir m "${members[@]}" --param block_age_ms=20
cp m/genesis.json before.json
expect 1 "genesis.json" "$mdms" genesis --dir m "${members[@]}"
cmp -s m/genesis.json before.json || complain "genesis was overwritten"
expect 1 "other keys" "$mdms" serve --dir other --genesis m/genesis.json --passphrase-file pass
sed 's/"version"/"colour"/' m/genesis.json >odd.json
expect 1 "odd.json" "$mdms" serve --dir m --genesis odd.json --passphrase-file pass

# --- with a ledger: meters, revocation, the same code twice
serve --dir m
"$device" "$address" m/network.json meter m.csv >out 2>err || complain "the meters did not enrol"
"$device" "$address" m/network.json meter m.csv >out 2>err
grep -q 'm-1 CODE_USED' out || complain "a code served twice"
sed 's/^m-1,/m-7,/' m.csv >stranger.csv
"$device" "$address" m/network.json meter stranger.csv >out 2>err
grep -q 'm-7 UNKNOWN_DEVICE' out || complain "a stranger enrolled"
expect 1 "not enrolled" "$mdms" revoke --dir m --id m-9
expect 2 "neither meter nor dc" "$mdms" revoke --dir m --id m-1 --role cat
expect 0 "queued" "$mdms" revoke --dir m --id m-1 --reason compromise
expect 3 "stays in the outbox" "$mdms" revoke --dir m --id m-2 --wait --timeout 1s
expect 1 "revoked already" "$mdms" revoke --dir m --id m-2
expect 2 "it is join, leave or rotate" "$mdms" member enter --dir m --id dc-5
expect 2 "--peer, --meter and --admin" "$mdms" member join --dir m --id dc-1
expect 2 "it must be tcp://HOST:PORT" "$mdms" member rotate --dir m --id dc-1 --peer 10.0.0.1:7
expect 2 "neither addresses nor a key epoch" "$mdms" member leave --dir m --id dc-1 --epoch 1
expect 2 "delay" "$mdms" member leave --dir m --id dc-1 --delay 1
expect 1 "not enrolled" "$mdms" member join --dir m --id dc-77 --peer tcp://127.0.0.1:7901 \
    --meter tcp://127.0.0.1:7902 --admin tcp://127.0.0.1:7903
expect 2 "give --below HEIGHT or --before TIME" "$mdms" retain --dir m
expect 2 "give --below HEIGHT or --before TIME" "$mdms" retain --dir m --below 5 --before 2026-01-01
expect 2 "is no time" "$mdms" retain --dir m --before yesterday
expect 2 "--below" "$mdms" retain --dir m --below 1
expect 1 "no report was committed before 2026-01-01" "$mdms" retain --dir m --before 2026-01-01
expect 1 "followed to height 0 only" "$mdms" retain --dir m --below 5
expect 1 "at least 4 members" "$mdms" member leave --dir m --id dc-1 --wait --timeout 20s
expect 1 "is no member" "$mdms" member leave --dir m --id dc-77 --wait --timeout 20s
expect 1 "has no newer key" "$mdms" member rotate --dir m --id dc-1 --wait --timeout 20s
expect 0 "membership    epoch 1; refused: rotate of dc-1: WRONG_EPOCH" "$mdms" status --dir m
expect 0 '"epoch":1' "$mdms" status --dir m --json
expect 0 '"meters":2' "$mdms" status --dir m --json
expect 0 '"outbox":4' "$mdms" status --dir m --json
# A code can be made while it serves.
expect 0 "m-3," "$mdms" codes --dir m --meter --id m-3
tail -n 2 out >m3.csv
"$device" "$address" m/network.json meter m3.csv >out 2>err || complain "m-3 did not enrol"
# A killed MDMS goes on where it was.
kill -KILL "$serving"
wait "$serving" 2>/dev/null
serve --dir m
"$device" "$address" m/network.json meter m3.csv >out 2>err
grep -q 'm-3 CODE_USED' out || complain "a code served twice after a kill"
expect 0 '"meters":3' "$mdms" status --dir m --json
stop

# --- its ledger is its ledger
"$mdms" genesis --dir m "${members[@]}" --out second.json >out 2>err &&
    complain "a second genesis for a directory that follows a ledger"
sed 's/"heartbeat_ms": [0-9]*/"heartbeat_ms": 77/' m/genesis.json >changed.json
cmp -s m/genesis.json changed.json && complain "the genesis was not changed"
expect 1 "another ledger" "$mdms" serve --dir m --genesis changed.json --passphrase-file pass

# --- readings
expect 0 "id,time,interval_s,obis,unit,value,quality,sequence" "$mdms" export --dir m
expect 2 "csv or jsonl" "$mdms" export --dir m --format xml
expect 0 "0 readings" "$mdms" export --dir m --out export.csv
[ "$(stat -c %a export.csv)" = 600 ] || complain "an export of readings that others may read"
expect 1 "nowhere" "$mdms" export --dir m --out nowhere/export.csv
expect 1 "no meter" "$mdms" readings --dir m --id m-9
expect 2 "is no time" "$mdms" readings --dir m --from yesterday
expect 0 '"readings":[]' "$mdms" readings --dir m --json
expect 1 "no report 1" "$mdms" proof --dir m --id m-1 --sequence 1
if [ -c /dev/full ]; then
    "$mdms" export --dir m >/dev/full 2>err && complain "an export to a full disk succeeded"
fi

# --- a full list of operators: none is added that could not be revoked any more
operator() { # operator STATUS TEXT add|revoke ARGS...
    local status=$1 text=$2
    shift 2
    expect "$status" "$text" "$mdms" operator "$@" --dir m --passphrase-file pass
}
# others UNTIL COUNT: list.before behind so many others that it is full.
others() {
    jq --argjson until "$1" --argjson count "$2" '[range($count) as $i | .[0] | .name = "old-\($i)" | .until = $until
        | .revoked_ms = null | .fingerprint = ("0" * 64 + ($i | tostring))[-64:]] + .' list.before >m/operators/list.json
    [ "$(stat -c %s m/operators/list.json)" -gt 1000000 ] || complain "the list of operators is too short to be full"
}
on_list() { "$mdms" operator list --dir m --json | jq "$1"; }
operator 0 "operator o-1" add o-1 --label 0: --out o-1.cred
cp m/operators/list.json list.before
others 4000000000 4180
operator 1 "would be larger" add o-2 --label 0: --out o-2.cred
[ ! -e o-2.cred ] || complain "an operator got a credential that is written down nowhere"
operator 0 "revoked" revoke o-1
expect 0 "revoked" "$mdms" operator list --dir m
# Of those that have expired nothing need be known when there is no room: but of one that is on the signed list.
cp m/operators/list.json full
others 1 4300
[ "$(on_list '[.operators[] | select(.name == "o-1" and .revoked_ms != null)] | length')" = 1 ] ||
    complain "who is on the signed list is not shown as revoked"
operator 0 "operator o-2" add o-2 --label 0: --out o-2.cred
[ "$(on_list '[.operators[].name] == ["o-1", "o-2"]')" = true ] || complain "expired operators stay: $(on_list '.operators | length')"
operator 0 "revoked" revoke o-2
[ "$(on_list .list.revoked)" = 2 ] || complain "the signed list has lost somebody"

# --- a folder that was put back from before: what the signed list has is revoked, whatever list.json says
operator 0 "operator o-3" add o-3 --label 0: --out o-3.cred
cp m/operators/list.json list.before
operator 0 "operator o-4" add o-4 --label 0: --kind cfl --out o-4.cred
operator 0 "revoked" revoke o-3
operator 0 "revoked" revoke o-4
cp list.before m/operators/list.json
[ "$(on_list '[.operators[] | select(.name == "o-3" or .name == "?") | .revoked_ms != null] == [true, true]')" = true ] ||
    complain "what was forgotten is not shown as revoked: $(on_list .operators)"
[ "$(on_list '.operators | map(select(.name == "?" or .name == "o-3").until) | max - min < 60')" = true ] ||
    complain "what was forgotten does not end when it ends"
operator 0 "operator o-5" add o-5 --label 0: --out o-5.cred
operator 0 "revoked" revoke o-5
[ "$(on_list .list.revoked)" = 5 ] || complain "the next list takes back who was forgotten"
# What was given out and forgotten can be revoked by what was given out.
operator 0 "operator o-6" add o-6 --label 0: --out o-6.cred
cp list.before m/operators/list.json
operator 1 "has no credential in force here" revoke o-6
operator 0 "operator o-6 is revoked" revoke --certificate o-6.cred
operator 0 "operator o-6 is revoked" revoke --certificate o-6.cred
[ "$(on_list .list.revoked)" = 6 ] || complain "o-6 is not on the list, or twice"

# --- operators that others vouch for, by their certificates
"$certificates" ca "$(jq -r .id m/network.json)" "$(date +%s)" || complain "no certificates"
operator 2 "needs one name, or --certificate" revoke
operator 2 "needs one name, or --certificate" revoke alice --certificate ca/alice.pem
# Not without a word about whether anybody vouches for them.
operator 0 "operator alice is revoked" revoke --certificate ca/alice.pem
grep -q "not checked against an authority" err || complain "it is not said that nobody has checked it"
[ "$(on_list '[.operators[] | select(.name == "alice") | .kind] == ["x509"]')" = true ] || complain "alice is not on the list"
cat ca/alice.key ca/alice.chain >both.pem
operator 1 "no authority under ca/other.pem made both.pem" revoke --certificate both.pem --x509-roots ca/other.pem
operator 1 "no authority under ca/root.pem made ca/alice.pem" revoke --certificate ca/alice.pem --x509-roots ca/root.pem
operator 2 "is for operator revoke --certificate" revoke alice --x509-roots ca/root.pem
operator 0 "operator alice is revoked" revoke --certificate both.pem --x509-roots ca/root.pem
! grep -q note: err || complain "a checked certificate is said not to be"
operator 0 "operator alice is revoked" revoke --certificate ca/alice.pem
! grep -q note: err || complain "it has been checked before, and is said not to be"
[ "$(on_list .list.revoked)" = 7 ] || complain "alice is not on the list, or twice"
operator 1 "is the credential of dc dc-1" revoke --certificate ca/dc-1.pem
operator 1 "is for another network" revoke --certificate ca/foreign.pem
operator 1 "is neither a certificate in PEM" revoke --certificate ca/alice.key
operator 1 "is neither a certificate in PEM" revoke --certificate pass
operator 1 "nowhere" revoke --certificate nowhere
[ "$(on_list .list.revoked)" = 7 ] || complain "a refusal has changed the list"
# Its key may get another certificate when this one has run out, and stays on the list.
jq '(.[] | select(.name == "alice")) |= (.until = 1)' m/operators/list.json >list.before
cp list.before m/operators/list.json
operator 0 "revoked" revoke --certificate o-6.cred
[ "$(on_list .list.revoked)" = 7 ] || complain "alice is off the list as soon as her certificate has expired"

# One that somebody made for himself in an operator's name revokes nobody; the authority's does.
operator 0 "operator chief" add chief --label 0: --out chief.cred
operator 1 "was given for key epoch 1" revoke --certificate ca/chief.pem
operator 0 "operator chief is revoked" revoke --certificate ca/chief.chain --x509-roots ca/root.pem
[ "$(on_list '[.operators[] | select(.name == "chief") | .revoked_ms != null] == [false, true]')" = true ] ||
    complain "not only the certificate of the authority is revoked"
operator 0 "operator chief is revoked" revoke chief

# --- a list.json without any room keeps nobody from being revoked
operator 0 "operator o-8" add o-8 --label 0: --out o-8.cred
cp m/operators/list.json list.before
revoked=$(on_list .list.revoked)
others 4000000000 4000
room=$(((1 << 20) - 20 - $(stat -c %s m/operators/list.json)))
[ "$room" -gt 0 ] || complain "the list is fuller than full"
jq --argjson room "$room" '.[0].name = "x" * $room + .[0].name' m/operators/list.json >full
cp full m/operators/list.json
operator 0 "operator insider is revoked" revoke --certificate ca/insider.chain --x509-roots ca/root.pem
grep -q "list.json is full" err || complain "it is not said that list.json is full"
cmp -s full m/operators/list.json || complain "a list that does not fit was written"
operator 0 "operator o-8 is revoked" revoke o-8
[ "$(on_list .list.revoked)" = $((revoked + 2)) ] || complain "the signed list lacks somebody"
[ "$(on_list '[.operators[] | select(.name == "?" and .until > now + 3600 * 24 * 3649)] | length')" = 1 ] ||
    complain "an unknown one has another end than the signed list says"
cp list.before m/operators/list.json
[ "$(on_list '[.operators[] | select(.name == "o-8") | .revoked_ms != null] == [true]')" = true ] || complain "o-8 is back"
# What only the signed list knows is not written into the other: it would stay there for years.
operator 0 "operator o-8 is revoked" revoke --certificate o-8.cred
! grep -q '"?"' m/operators/list.json || complain "what is not known is written down"

# --- a signed list of another version: what to do is said
cp m/operators/revoked.list list.kept
printf '\2' | dd of=m/operators/revoked.list bs=1 seek=8 conv=notrunc status=none
operator 1 "move it away" revoke o-8
cp list.kept m/operators/revoked.list

# --- the public seed set is the seed's
public=m/operators/cfl.public
cp "$public" public.before
"$mdms" operator add o --dir other --passphrase-file pass --label 0: --kind cfl --out other.cred >out 2>err || complain "no other seed"
cp other/operators/cfl.public "$public"
operator 1 "is not the public seed set of" add o-7 --label 0: --kind cfl --out o-7.cred
expect 1 "is not the public seed set of" "$mdms" credential mdms --dir m --passphrase-file pass --out own.cfl
expect 1 "is not the public seed set of" "$mdms" serve --dir m --passphrase-file pass --listen 127.0.0.1:0 --until dcs=1
: >"$public"
operator 1 "is not the public seed set of" add o-7 --label 0: --kind cfl --out o-7.cred
cp public.before "$public"
mv m/operators/cfl.seed seed.before
operator 1 "put that back, or move both away" add o-7 --label 0: --kind cfl --out o-7.cred
for file in o-7.cred own.cfl m/operators/cfl.seed; do [ ! -e "$file" ] || complain "$file came out of a refusal"; done
cmp -s "$public" public.before || complain "the public seed set was written over"
mv seed.before m/operators/cfl.seed
rm "$public"
operator 0 "operator o-7" add o-7 --label 0: --kind cfl --out o-7.cred
cmp -s "$public" public.before || complain "the public seed set is another than before"

# --- operators who keep their key: asked for, answered, joined
asks() { # asks STATUS TEXT NAME OUT [OPTION...]: OUT.request, OUT.key
    local status=$1 text=$2 name=$3 file=$4
    shift 4
    expect "$status" "$text" "$cli" request "$name" --label 2:ledger --network m/network.json --out "$file.request" \
        --key "$file.key" "$@"
}
takes() { # takes STATUS TEXT ANSWER KEY [OPTION...]: the credential goes to taken.cred
    local status=$1 text=$2 answer=$3 key=$4
    shift 4
    expect "$status" "$text" "$cli" accept "$answer" --key "$key" --out taken.cred "$@"
}
# altered FILE NAME FROM TO: one text or byte exchanged for another of the same length.
altered() {
    LC_ALL=C sed "s/$3/$4/" "$1" >"$2"
    ! cmp -s "$1" "$2" || complain "$1 was not altered"
}
# labelled FILE NAME: a label of level 3 instead of 2 or 1, which stands behind network, name and key epoch.
labelled() {
    local before=$((47 + ${#2}))
    { head -c $before "$1"; printf '\3'; tail -c +$((before + 2)) "$1"; } >bad
    [ "$(cmp -l "$1" bad | wc -l)" = 1 ] || complain "the label of $1 was not altered"
}
given() { on_list "[.operators[] | select(.name == \"$1\")] | length"; }
for kind in implicit cfl; do
    own=own-$kind
    asks 0 "request of $own" $own $own --kind $kind
    [ "$(stat -c %a $own.key)" = 600 ] || complain "the operator's key can be read by others"
    asks 1 "$own.key" $own $own --kind $kind
    expect 1 "$own.request" "$cli" request $own --label 0: --network m/network.json --out $own.request --key other-key.key
    [ ! -e other-key.key ] || complain "a key stays behind without a request"
    # What others make of it on its way, and what is not for this network.
    altered $own.request bad.request "$own" "Own-$kind"
    operator 1 "is not signed with the key in it" add --request bad.request --label 2:ledger --out x.answer
    labelled $own.request $own
    operator 1 "is not signed with the key in it" add --request bad --label 2:ledger --out x.answer
    expect 1 "is for another network" "$mdms" operator add --request $own.request --label 2:ledger --out x.answer --dir other --passphrase-file pass
    head -c 60 $own.request >bad.request
    operator 1 "is no request for an operator's credential" add --request bad.request --label 2:ledger --out x.answer
    operator 1 "is no request for an operator's credential" add --request pass --label 2:ledger --out x.answer
    operator 1 "is larger than" add --request $own.key --label 2:ledger --out x.answer
    operator 1 "is the request of $own, not of alice" add alice --request $own.request --label 2:ledger --out x.answer
    operator 1 "asks for more than 9 days" add --request $own.request --label 2:ledger --days 9 --out x.answer
    operator 2 "--kind is for operator add without one" add --request $own.request --label 2:ledger --kind $kind --out x.answer
    operator 2 "is no label" add --request $own.request --label 9: --out x.answer
    operator 2 "needs --out, and --label" add --request $own.request --out x.answer
    asks 0 "" $own late --kind $kind --epoch 2
    operator 1 "with --epoch 1" add --request late.request --label 2:ledger --out x.answer
    [ "$(given $own)" = 0 ] || complain "a refused request is written down as answered"
    [ ! -e x.answer ] || complain "a refused request was answered"
    label=1:operation
    if [ $kind = cfl ]; then
        operator 1 "asks for the label 2:ledger" add --request $own.request --label $label --out x.answer
        label=2:ledger
    fi
    operator 0 "operator $own: $label, for 365 days" add --request $own.request --label $label --out $own.answer
    [ "$(given $own)" = 1 ] || complain "what was given out is not written down"
    operator 1 "in force" add --request $own.request --label 2:ledger --out x.answer
    # Answers to others, altered ones, and what is no answer; the key stays until all is right.
    set=(--cfl-public "$public")
    asks 0 "" $own again --kind $kind
    takes 1 "answers a" $own.answer again.key "${set[@]}"
    takes 1 "answers another request" $own.answer late.key "${set[@]}"
    takes 1 "no key that \`dc-cli request\` wrote" $own.answer $own.answer "${set[@]}"
    takes 1 "no answer to a request" $own.request $own.key "${set[@]}"
    altered $own.answer bad.answer "$own" "Own-$kind"
    takes 1 "answers another request" bad.answer $own.key "${set[@]}"
    labelled $own.answer $own
    takes 1 "altered" bad $own.key "${set[@]}"
    if [ $kind = cfl ]; then
        takes 2 "--cfl-public" $own.answer $own.key
        takes 1 "the issuer of that public seed set did not make it" $own.answer $own.key --cfl-public other/operators/cfl.public
    fi
    echo >taken.cred
    takes 1 "taken.cred" $own.answer $own.key "${set[@]}"
    rm taken.cred
    [ -e $own.key ] || complain "the key is gone before there is a credential"
    takes 0 "operator $own: $label" $own.answer $own.key "${set[@]}"
    [ "$(stat -c %a taken.cred)" = 600 ] || complain "the credential can be read by others"
    [ ! -e $own.key ] || complain "the key file stays"
    # Of an altered answer nobody has the fingerprint; what it would revoke is said, and what it is like.
    labelled $own.answer $own
    if [ $kind = cfl ]; then
        operator 1 "did not make bad" revoke --certificate bad
    else
        operator 1 "was given for key epoch 1" revoke --certificate bad
        grep -qE "bad has the fingerprint [0-9a-f]{16}.*has [0-9a-f]{16}" err || complain "the two fingerprints are not named"
    fi
    [ "$(on_list "[.operators[] | select(.name == \"$own\") | .revoked_ms] == [null]")" = true ] ||
        complain "an altered answer has changed the list"
    # The credential is the one that was written down, and so is the answer, which the MDMS may keep.
    operator 0 "operator $own is revoked" revoke --certificate taken.cred
    operator 0 "operator $own is revoked" revoke --certificate $own.answer
    [ "$(given $own)" = 1 ] || complain "it was another one that was written down"
    operator 1 "with --epoch 2" add --request again.request --label 2:ledger --out x.answer
    operator 0 "operator $own: 2:ledger" add --request late.request --label 2:ledger --out $own.2
    rm -f taken.cred again.* late.*
done
asks 2 "is no name" "a b" nobody
asks 2 "implicit or cfl" alice nobody --kind x509
expect 2 "is no label" "$cli" request alice --label 9: --network m/network.json --out nobody.request --key nobody.key
expect 2 "which network?" "$cli" request alice --label 0: --out nobody.request --key nobody.key
expect 1 "is no network file" "$cli" request alice --label 0: --network pass --out nobody.request --key nobody.key
expect 0 "request of alice" "$cli" request alice --label 0: --genesis m/genesis.json --out nobody.request --key nobody.key
operator 2 "needs one name, or --request" add --label 0: --out x.answer
operator 2 "needs --out, and --label" add alice --out x.answer

# --- what serve speaks under, damaged: said, and the rest is shown
expect 0 "credential    implicit" "$mdms" status --dir m
echo '{"credential": 7' >m/serving.json
expect 0 "is not what \`ami-mdms serve\` writes" "$mdms" status --dir m
[ "$(grep -cE '^(network|chain|outbox) ' out)" = 3 ] || complain "the rest of the status is missing"
expect 0 '"credential":null' "$mdms" status --dir m --json
grep -q '"credential_error":".*serving.json' out || complain "the JSON does not say why"

# --- a full store: said, nothing lost, goes on with more room
"$mdms" codes --dir m --meter --prefix x --count 8000 --out all.csv >out 2>err ||
    complain "8000 codes"
head -n 101 all.csv >x.csv
serve --dir m --map-size 1
"$device" "$address" m/network.json meter x.csv >out 2>err && complain "a full store enrolled 100"
grep -q ' FULL' out || complain "no device was told that the store is full"
wait "$serving"
[ $? -eq 1 ] || complain "serve on a full store did not fail"
serving=
grep -q 'no room' log || complain "serve did not say that there is no room: $(cat log)"
before=$(grep -c ' OK' out)
serve --dir m
"$device" "$address" m/network.json meter x.csv >out 2>err
[ "$(grep -c ' OK' out)" -eq $((100 - before)) ] || complain "not all enrolled after the full store"
[ "$(grep -c ' CODE_USED' out)" -eq "$before" ] || complain "a code served twice or was lost"
expect 0 '"meters":103' "$mdms" status --dir m --json
stop

exit $failed
