#!/usr/bin/env python3
"""The laboratory's attacks end as docs/security.md says, their controls succeed, and a seed is a run.

Usage: tests/sim/lab_attacks.py AMI-SIM objects|networks|docs|usage

objects: everything that needs no whole network, against every scheme, twice with one seed and once
with another. networks: the rest. docs: the names in docs/security.md are those of the program;
usage: files, mistakes on the command line, completion.
"""
import csv
import json
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")

# Nobody resists these.
NOBODY = {"later-compromise-with-ephemeral", "session-state-later", "byzantine-f-plus-1",
          "channel-state-later"}
BROKEN = {
    "liu2023": {
        "impersonate-leader-with-u", "impersonate-leader-as-another-dc", "key-compromise-meter",
        "middle-every-field", "misbinding", "misbinding-meter", "collusion-master-key", "later-compromise",
        "leaked-session-value", "leaked-ephemeral-dc", "leaked-ephemeral-both", "forged-sig-dc",
    },
    "sm2kx": set(),
    "ecdh": {"leaked-ephemeral-meter", "leaked-ephemeral-dc", "leaked-ephemeral-both"},
}
# Of the attacks on the channel, those under which its credentials do not matter; the others run under
# each kind.
ANY = {
    "channel-downgrade-suite", "channel-altered-record", "channel-moved-records", "channel-reflected-record",
    "channel-truncated", "channel-state-earlier", "channel-state-later", "channel-state-next-channel",
    "channel-record-key",
}
KINDS = ["implicit", "x509", "cfl"]
# The faults (channel/fault.h) in the evidence of attacks that were resisted.
REFUSALS = {
    ("channel-downgrade-suite", None): ["altered"] * 3,
    ("channel-downgrade-credential", "implicit"): ["no_kind", "altered", "altered", "altered"],
    ("channel-downgrade-credential", "x509"): ["no_kind", "altered", "altered", "altered"],
    ("channel-replay-handshake", "implicit"): ["altered", "altered", "record"],
    ("channel-replay-handshake", "cfl"): ["altered", "altered", "record"],
    ("channel-reflected-handshake", "implicit"): ["self", "encoding", "encoding"],
    ("channel-unknown-key-share", "implicit"): ["altered", "altered"],
    ("channel-unknown-key-share", "x509"): ["altered", "altered"],
    ("channel-key-compromise", "implicit"): ["self", "signature"],
    ("channel-operator-raises-label", "implicit"): ["signature"] * 3,
    ("channel-operator-raises-label", "x509"): ["signature", "wrong_chain", "wrong_chain"],
    ("channel-operator-raises-label", "cfl"): ["signature", "wrong_chain", "wrong_chain"],
    ("channel-operator-revoked", "x509"): ["revoked"],
    ("channel-altered-record", None): ["record", "record"],
    ("channel-moved-records", None): ["record"] * 6,
    ("channel-reflected-record", None): ["record", "record"],
}
NETWORKS = {
    "leader-crash", "mdms-outage", "desync-every-message", "replay-after-restart",
    "flood-first-flights", "byzantine-f", "byzantine-f-plus-1", "acknowledgement-without-commit", "silent-leader",
}


def run(program, *arguments):
    done = subprocess.run([program, "lab", *arguments], capture_output=True, text=True, timeout=900,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"ami-sim lab {' '.join(arguments)}: status {done.returncode}\n"
                 f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def attacks(program, names, *options):
    return json.loads(run(program, "attacks", "--json", *options, *sorted(names)))


def without_clocks(document):
    """Tables less the columns that a clock measured."""
    out = {}
    for name, table in document["tables"].items():
        clocks = {c["name"] for c in table["columns"] if c["clock"]}
        out[name] = [{k: v for k, v in row.items() if k not in clocks} for row in table["rows"]]
    return out


def judge_table(document, table, listed, subject, expected):
    wrong = []
    seen = set()
    for row in document["tables"][table]["rows"]:
        key = (row["attack"], row[subject])
        seen.add(key)
        broken = row["attack"] in NOBODY or row["attack"] in BROKEN.get(row[subject], set())
        if row["outcome"] != ("broken" if broken else "resisted"):
            wrong.append(f"{key}: {row['outcome']}, {row['evidence']}")
        if not broken and row["control"] != "succeeds":
            wrong.append(f"{key}: control {row['control']}, {row['control_evidence']}")
        if row["attack"] in NOBODY and not row["unavoidable"]:
            wrong.append(f"{key}: it does not say why nobody resists")
        if not row["evidence"] or not row["knowledge"] or not row["goal"]:
            wrong.append(f"{key}: something is not said")
    if seen != expected:
        wrong.append(f"{table}: did not run {sorted(expected - seen)}, ran {sorted(seen - expected)}")
    outcomes = {(a["attack"], a[subject], a["outcome"]) for a in document[listed]}
    if len(outcomes) != len(document["tables"][table]["rows"]):
        wrong.append("the list and the table differ")
    if wrong:
        sys.exit("\n".join(wrong))


def judge(document, names, schemes):
    on_schemes = {(n, s) for n in names if not n.startswith("channel-") for s in schemes}
    on_channel = {(n, k) for n in names if n.startswith("channel-")
                  for k in (["any"] if n in ANY else KINDS)}
    if on_schemes:
        judge_table(document, "attacks", "attacks", "scheme", on_schemes)
    if on_channel:
        judge_table(document, "channel", "channel_attacks", "credential", on_channel)
    if set(document["tables"]) != {t for t, rows in (("attacks", on_schemes), ("channel", on_channel))
                                   if rows}:
        sys.exit(f"other tables than wanted: {set(document['tables'])}")


def evidence(document, attack, scheme):
    return next(r["evidence"] for r in document["tables"]["attacks"]["rows"]
                if r["attack"] == attack and r["scheme"] == scheme)


def objects(program, names):
    names -= NETWORKS
    first = attacks(program, names)
    judge(first, names, BROKEN)
    # A broken scheme is broken with something to show.
    found = evidence(first, "collusion-master-key", "liu2023")
    if not re.search(r"x = [0-9a-f]{64} .*reading: [0-9.]+ kWh", found):
        sys.exit(f"no master key and no reading: {found}")
    for attack in ("later-compromise", "leaked-session-value", "impersonate-leader-with-u"):
        found = evidence(first, attack, "liu2023")
        if not re.search(r"K = [0-9a-f]{64}.* [0-9.]+ kWh", found):
            sys.exit(f"{attack} shows no key and no reading: {found}")
    # What was refused was refused for the reason that it should be.
    for (attack, kind), reasons in REFUSALS.items():
        row = next(r for r in first["tables"]["channel"]["rows"]
                   if r["attack"] == attack and (kind is None or r["credential"] == kind))
        if re.findall(r": ([a-z0-9_]+)(?=[,;]|$)", row["evidence"]) != reasons:
            sys.exit(f"{attack}, {kind}: {row['evidence']}")
    if without_clocks(first) != without_clocks(attacks(program, names)):
        sys.exit("two runs with one seed differ")
    other = attacks(program, names, "--seed", "2")
    judge(other, names, BROKEN)
    if without_clocks(first) == without_clocks(other):
        sys.exit("another seed changes nothing")


def networks(program, names):
    names &= NETWORKS
    cheap = {"leader-crash", "mdms-outage", "desync-every-message", "flood-first-flights",
             "byzantine-f-plus-1", "replay-after-restart"}
    judge(attacks(program, cheap, "--scheme", "liu2023"), cheap, ["liu2023"])
    ecdh = {"leader-crash", "desync-every-message"}
    judge(attacks(program, ecdh, "--scheme", "ecdh"), ecdh, ["ecdh"])
    again = {"leader-crash", "mdms-outage", "replay-after-restart", "byzantine-f-plus-1"}
    first = attacks(program, again, "--scheme", "sm2kx")
    judge(first, again, ["sm2kx"])
    if without_clocks(first) != without_clocks(attacks(program, again, "--scheme", "sm2kx")):
        sys.exit("two runs of networks with one seed differ")
    # All others against sm2kx: a control that fails is exit status 1.
    table = json.loads(run(program, "table2", "--json", "--scheme", "sm2kx"))["tables"]["table2"]
    rows = {r["property"]: r for r in table["rows"]}
    for name, row in rows.items():
        if not re.fullmatch(r"yes \([1-9][0-9]*\)", row["sm2kx"]):
            sys.exit(f"table2: {name}: {row}")
    claims = [c["name"] for c in table["columns"] if c["source"] == "reported"]
    claimed = {name: [row[c] == "claimed" for c in claims] for name, row in rows.items()
               if row["paper"] is not None}
    if claims != ["nike_plus", "sha", "skm_plus", "a_mood", "laka", "paper"] or claimed != {
            "replay": [True] * 6,
            "impersonation": [True] * 6,
            "man in the middle": [True, True, True, False, True, True],
            "desynchronisation": [True, False, True, True, False, True],
            "single point of failure": [False] * 5 + [True],
            "collusion of a meter and a DC": [False] * 5 + [True]}:
        sys.exit(f"table2 does not have the paper's claims: {claimed}")


def docs(names):
    with open(os.path.join(ROOT, "docs/security.md"), encoding="utf-8") as f:
        text = f.read()
    section = text[text.index("\n## Attacks\n"):]
    section = section[:section.index("\n## ", 4)]
    named = set(re.findall(r"`([a-z0-9-]+)`", section))
    if named != names:
        sys.exit(f"docs/security.md, \"Attacks\": not there {sorted(names - named)}, "
                 f"not in the program {sorted(named - names)}")


def refused(program, status, sentence, *arguments):
    done = subprocess.run([program, "lab", *arguments], capture_output=True, text=True, timeout=60,
                          check=False)
    if done.returncode != status or sentence not in done.stderr or done.stdout:
        sys.exit(f"{arguments}: {done.returncode}, {done.stderr}")
    if done.stderr.count("ami-sim: ") != 1 or not done.stderr.endswith("\n"):
        sys.exit(f"{arguments}: not one sentence: {done.stderr}")


def complete(program, *words):
    script = os.path.join(ROOT, "docs/completion/amiledger.bash")
    line = " ".join(f"'{w}'" for w in words)
    text = (f". {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _ami_complete "
            f"'{program}' '{words[-1]}' '{words[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    return subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60,
                          check=True).stdout.split()


def usage(program):
    refused(program, 2, "which experiment?")
    refused(program, 2, "'nothing' is no experiment", "nothing")
    refused(program, 2, "'nothing' is no attack", "attacks", "nothing")
    refused(program, 2, "there is no scheme 'nothing'", "attacks", "--scheme", "nothing")
    refused(program, 2, "channel-middle attacks the channel, which has no key-agreement scheme", "attacks",
            "channel-middle", "--scheme", "sm2kx")
    refused(program, 2, "takes no further names", "table2", "replay-vote")
    refused(program, 2, "takes no further names", "links-crypto", "handshakes")
    refused(program, 1, "cannot be made", "attacks", "replay-vote", "--out", "/dev/null/there")
    os.environ["TMPDIR"] = "/dev/null"
    refused(program, 1, "ledger-bit-flipped: /dev/null", "attacks", "ledger-bit-flipped", "--scheme",
            "sm2kx")
    del os.environ["TMPDIR"]
    with tempfile.TemporaryDirectory(prefix="ami-lab.") as folder:
        out = os.path.join(folder, "made")
        shown = json.loads(run(program, "attacks", "replay-vote", "--json", "--out", out))
        with open(os.path.join(out, "attacks.json"), encoding="utf-8") as f:
            if json.load(f) != shown:
                sys.exit("the file is not what was shown")
        with open(os.path.join(out, "attacks-attacks.csv"), encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f))
        if [(r["attack"], r["outcome"]) for r in rows] != [
                (r["attack"], r["outcome"]) for r in shown["tables"]["attacks"]["rows"]]:
            sys.exit("the CSV file is not what was shown")
    text = run(program, "attacks", "collusion-master-key", "--scheme", "liu2023")
    if "the adversary holds" not in text or "broken" not in text:
        sys.exit(f"the text does not say what was found: {text}")
    for words, wanted in ((("lab", "ta"), "table2"), (("lab", "links-"), "links-crypto"),
                          (("lab", "attacks", "replay-v"), "replay-vote"),
                          (("lab", "attacks", "channel-mi"), "channel-middle"),
                          (("lab", "attacks", "--scheme", "ec"), "ecdh"),
                          (("lab", "attacks", "--ou"), "--out")):
        if wanted not in complete(program, program, *words):
            sys.exit(f"completion of {words} does not offer {wanted}")


def main():
    program, what = sys.argv[1:]
    names = set(run(program, "attacks", "--list").split())
    if not NETWORKS < names or not NOBODY < names:
        sys.exit("attacks are missing")
    {"objects": lambda: objects(program, names), "networks": lambda: networks(program, names),
     "docs": lambda: docs(names), "usage": lambda: usage(program)}[what]()


if __name__ == "__main__":
    main()
