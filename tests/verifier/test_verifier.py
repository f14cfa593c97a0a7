#!/usr/bin/env python3
"""The independent verifier on an exported ledger: it accepts it, and refuses it as soon as one
thing in it is altered.

usage: test_verifier.py MAKE_LEDGER DC_CLI
"""

import json
import os
import random
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
failures = []


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    return done.returncode, done.stdout, done.stderr


def verify(genesis, export, *options):
    return run(sys.executable, os.path.join(HERE, "verify_ledger.py"), genesis, export, *options)


def check(what, ok, detail=""):
    if not ok:
        failures.append(what)
    print(("ok   " if ok else "FAIL ") + what + ("" if ok else f": {detail}"), flush=True)


def flip(text, at):
    """Another hex digit at this place."""
    return text[:at] + format(int(text[at], 16) ^ 1, "x") + text[at + 1 :]


class Case:
    def __init__(self, folder, lines):
        self.genesis = os.path.join(folder, "genesis.json")
        self.path = os.path.join(folder, "altered.jsonl")
        self.lines = lines

    def verdict(self, change, genesis=None):
        """`change` gets the lines as documents and alters them in place."""
        documents = [json.loads(line) for line in self.lines]
        change(documents)
        with open(self.path, "w", encoding="ascii") as file:
            file.writelines(json.dumps(d) + "\n" for d in documents)
        return verify(genesis or self.genesis, self.path)

    def refused(self, what, change, expected, genesis=None):
        status, out, err = self.verdict(change, genesis)
        check(f"{what} is refused", status == 1 and expected in err and err.count("\n") == 1,
              (status, out, err))


def spoil_field(height, field, at):
    def change(documents):
        documents[height][field] = flip(documents[height][field], at)

    return change


def spoil_tx(height, index, at):
    def change(documents):
        txs = documents[height]["transactions"]
        txs[index] = flip(txs[index], at % len(txs[index]))

    return change


def altered(case):
    # By height: 1 enrols meters, 2 has reports, 3 DC enrolments, 4 skips, 5 revocations and
    # evidence.
    for height, index, kind in ((1, 0, "a meter enrolment"), (2, 1, "a report"), (3, 0, "a DC enrolment"),
                                (4, 3, "a skip"), (5, 1, "a revocation"), (5, 5, "evidence"),
                                (5, 12, "a rotation")):
        for at in (1, 20, -2):
            case.refused(f"a digit of {kind} at {at}", spoil_tx(height, index, at), f"block {height}: ")
    for at in (1, 5, 70, 200, 300, -1):
        case.refused(f"a digit of a header at {at}",
                     lambda d, at=at: d[4].update(header=flip(d[4]["header"], at % len(d[4]["header"]))), "block 4: ")
    for at in (1, 40, 100, 200, -1):
        case.refused(f"a digit of a certificate at {at}",
                     lambda d, at=at: d[4].update(commit=flip(d[4]["commit"], at % len(d[4]["commit"]))), "block 4: ")
    case.refused("a dropped block", lambda d: d.pop(6), "block 6: it says height 7")
    case.refused("a dropped transaction", lambda d: d[2]["transactions"].pop(), "block 2: ")
    case.refused("a repeated transaction",
                 lambda d: d[2]["transactions"].append(d[2]["transactions"][0]), "block 2: ")
    case.refused("two transactions that changed places",
                 lambda d: d[2]["transactions"].reverse(), "block 2: the Merkle root is another one")
    case.refused("two blocks that changed places",
                 lambda d: d.insert(3, d.pop(4)), "block 3: it says height 4")
    case.refused("another block's certificate", lambda d: d[4].update(commit=d[5]["commit"]),
                 "block 4: the certificate is not a commit certificate of this block")
    case.refused("a wrong hash beside the header", spoil_field(4, "hash", 3), "block 4: ")
    case.refused("an export without its end", lambda d: d.pop(), "cut short")
    case.refused("an export that lacks its last block", lambda d: d.pop(-2), "the last line counts")
    case.refused("an export of another chain", lambda d: None, "another chain",
                 os.path.join(os.path.dirname(case.genesis), "other-genesis.json"))


def spoilt_genesis(case, folder):
    """A genesis file with any digit changed is another chain's."""
    with open(case.genesis, encoding="ascii") as file:
        text = file.read()
    at = text.index('"w_sign"') + 20
    path = os.path.join(folder, "spoilt-genesis.json")
    with open(path, "w", encoding="ascii") as file:
        file.write(flip(text, at))
    status, _, err = verify(path, os.path.join(folder, "ledger.jsonl"))
    check("a genesis file with a changed digit is refused", status == 1 and err.count("\n") == 1, err)


# What make_ledger can do wrong in block 8: well certified, unless it is the certificate.
WRONG = ["merkle", "state", "time", "members", "proposer", "vote", "two-votes", "quorum", "early-term",
         "meter-signature", "gateway-signature", "mdms-signature", "number", "ahead", "settled",
         "revoked", "unknown", "evidence-signature", "evidence-twice", "epoch", "empty", "entry", "too-few"]


def wrong_ledgers(make_ledger, dc_cli, folder):
    for wrong in WRONG:
        place = os.path.join(folder, wrong)
        subprocess.run([make_ledger, place, wrong], capture_output=True, timeout=100, check=True)
        genesis, export = os.path.join(place, "genesis.json"), os.path.join(place, "ledger.jsonl")
        status, _, err = run(dc_cli, "export", "--data", os.path.join(place, "ledger"), "--genesis",
                             genesis, "--out", export)
        check(f"a ledger with a wrong {wrong} is exported", status == 0, err)
        status, _, err = verify(genesis, export)
        check(f"and refused: {wrong}", status == 1 and "block 8: " in err and err.count("\n") == 1, err)


def sampled_flips(case, count):
    """Any digit of any encoded byte matters."""
    rng = random.Random(7)
    for _ in range(count):
        height = rng.randrange(1, len(case.lines) - 1)
        line = json.loads(case.lines[height])
        field = rng.choice(["header", "commit"] + ["transactions"] * 6 * bool(line["transactions"]))
        if field == "transactions":
            index = rng.randrange(len(line[field]))
            at = rng.randrange(len(line[field][index]))
            change = spoil_tx(height, index, at)
        else:
            index, at = "", rng.randrange(len(line[field]))
            change = spoil_field(height, field, at)
        case.refused(f"digit {at} of block {height}'s {field} {index}", change, f"block {height}: ")


def pruned_form(gm, encoded):
    """A report's hex as a pruned block keeps it."""
    data = bytes.fromhex(encoded)
    first = int.from_bytes(data[1:5], "big")
    second = data[5 + first + 4 :]
    kept = bytes([129]) + data[1 : 5 + first] + (32).to_bytes(4, "big") + gm.sm3(second)
    return kept.hex()


def pruned_ledger(make_ledger, dc_cli, folder):
    """What the MDMS has let go is missed nowhere; nobody else can let anything go."""
    sys.path.insert(0, HERE)
    import gm  # pylint: disable=import-outside-toplevel
    place = os.path.join(folder, "pruned")
    made = subprocess.run([make_ledger, place, "prune"], capture_output=True, text=True, timeout=100, check=True)
    facts = json.loads(made.stdout)
    genesis = os.path.join(place, "genesis.json")
    lines = {}
    for name in ("whole", "ledger"):
        export = os.path.join(place, name + ".jsonl")
        status, _, err = run(dc_cli, "export", "--data", os.path.join(place, name), "--genesis", genesis,
                             "--out", export)
        check(f"the ledger {name} is exported", status == 0, err)
        status, out, err = verify(genesis, export)
        check(f"the ledger {name} verifies", status == 0, err)
        signatures = 3 * facts["blocks"] + facts["transactions"] + facts["reports"] + facts["pairs"] + 1
        missing = facts["pruned"] if name == "ledger" else 0
        check(f"every signature that {name} has was checked", f"{signatures - missing} signatures" in out, out)
        check(f"{name} says what is pruned", (f"{missing} reports are pruned" in out) == (missing != 0), out)
        with open(export, encoding="ascii") as file:
            lines[name] = file.readlines()
    case = Case(place, lines["ledger"])
    below = facts["below"]

    def say(documents, first, last):
        documents[0]["retention"], documents[-1]["retention"] = first, last

    word = json.loads(lines["ledger"][0])["retention"]
    check("the last line has the word of the MDMS, too", json.loads(lines["ledger"][-1])["retention"] == word)
    case.refused("a ledger pruned without a word of the MDMS", lambda d: say(d, None, None),
                 "block 2: transaction 0: it is pruned")
    for where, first, last in (("before it was exported", word, None), ("while it was exported", None, word)):
        status, _, err = case.verdict(lambda d, first=first, last=last: say(d, first, last))
        check(f"a ledger that was pruned {where} verifies", status == 0, err)
    for at in (9, 40, -3):
        spoilt = flip(word, at % len(word))
        case.refused(f"a digit of that word at {at}", lambda d, spoilt=spoilt: say(d, spoilt, spoilt), "")
        case.refused(f"a digit of the last word at {at}", lambda d, spoilt=spoilt: say(d, word, spoilt), "")
    for at in (1, 20, 60, 200, -70, -3):
        case.refused(f"a digit of a pruned report at {at}", spoil_tx(2, 1, at), "block 2: ")
    case.refused("a pruned report without its digest", lambda d: d[2]["transactions"].__setitem__(
        0, d[2]["transactions"][0][:-2]), "block 2: ")

    def prune_one_more(documents):
        txs = documents[below]["transactions"]
        txs[0] = pruned_form(gm, txs[0])

    case.refused("a block pruned at the watermark", prune_one_more, f"block {below}: transaction 0: it is pruned")
    whole = [json.loads(line) for line in lines["whole"]]
    pruned = [json.loads(line) for line in lines["ledger"]]
    check("both forms of a block are of one header", all(
        w["header"] == p["header"] and w["commit"] == p["commit"] for w, p in zip(whole[1:-1], pruned[1:-1])))
    check("the pruned form follows from the whole one", all(
        [pruned_form(gm, t) if t[:2] == "01" else t for t in w["transactions"]] == p["transactions"]
        for w, p in zip(whole[1:below], pruned[1:below])))


def main():
    make_ledger, dc_cli = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="verifier.") as folder:
        made = subprocess.run([make_ledger, folder], capture_output=True, text=True, timeout=100, check=True)
        facts = json.loads(made.stdout)
        genesis, export = os.path.join(folder, "genesis.json"), os.path.join(folder, "ledger.jsonl")
        status, _, err = run(dc_cli, "export", "--data", os.path.join(folder, "ledger"), "--genesis",
                             genesis, "--format", "jsonl", "--out", export)
        check("the ledger is exported", status == 0, err)
        status, out, err = verify(genesis, export)
        check("the whole ledger verifies", status == 0, err)
        expected = (f"{facts['blocks']} blocks, {facts['transactions']} transactions of which "
                    f"{facts['reports']} reports")
        check("every block, transaction and report is counted", expected in out, out)
        # Three votes a block, two signatures a report or piece of evidence of two statements, one of
        # any other transaction.
        signatures = 3 * facts["blocks"] + facts["transactions"] + facts["reports"] + facts["pairs"]
        check("every signature was checked", f"{signatures} signatures" in out, out)
        status, sampled, err = verify(genesis, export, "--sample", "5", "--certificates", "4")
        check("a sample verifies too, with fewer signatures",
              status == 0 and f"{signatures} signatures" not in sampled, (sampled, err))
        with open(export, encoding="ascii") as file:
            case = Case(folder, file.readlines())
        altered(case)
        spoilt_genesis(case, folder)
        wrong_ledgers(make_ledger, dc_cli, folder)
        sampled_flips(case, 40)
        pruned_ledger(make_ledger, dc_cli, folder)
    if failures:
        sys.exit(f"{len(failures)} checks failed")


if __name__ == "__main__":
    main()
