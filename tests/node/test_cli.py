#!/usr/bin/env python3
"""dc-cli from outside: what it prints, its exit statuses, and what it says of ledgers and proofs
with something wrong in them.

usage: test_cli.py MAKE_LEDGER DC_CLI FAKE_DC
"""

import fcntl
import json
import os
import pty
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

failures = []


def check(what, ok, detail=""):
    if not ok:
        failures.append(what)
    print(("ok   " if ok else "FAIL ") + what + ("" if ok else f": {detail}"), flush=True)


class Cli:
    def __init__(self, program):
        self.program = program

    def run(self, *arguments, **more):
        environment = {k: v for k, v in os.environ.items() if k != "AMI_NODE"}
        done = subprocess.run([self.program, *arguments], capture_output=True, text=True, timeout=200,
                              env=environment, **more)
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments):
        status, out, _ = self.run(*arguments, "--json")
        return status, json.loads(out)

    def fails(self, what, status, expected, *arguments):
        """One sentence on stderr, nothing on stdout."""
        got, out, err = self.run(*arguments)
        if arguments[:1] in (("audit",), ("compare",), ("copy",)):  # their progress comes first
            err = "".join(line for line in err.splitlines(True)
                          if not line.startswith((arguments[0] + " ", "audit ")))
        check(what, got == status and out == "" and err.startswith("dc-cli: ") and expected in err
              and err.count("\n") == 1, (got, out, err))


# --- usage and dead nodes -------------------------------------------------------------------------


def usage(cli):
    cli.fails("no command", 2, "a command is missing")
    cli.fails("an unknown command", 2, "there is no command \"frobnicate\"", "frobnicate")
    cli.fails("an unknown option", 2, "there is no option", "audit", "--frobnicate")
    cli.fails("a missing value", 2, "--data expects a value", "audit", "--data")
    cli.fails("an argument too many", 2, "one argument too many", "audit", "x")
    cli.fails("an audit of nothing", 2, "which ledger?", "audit")
    cli.fails("an export of nothing", 2, "which ledger?", "export")
    cli.fails("an unknown format", 2, "jsonl or csv", "export", "--data", "x", "--format", "xml")
    cli.fails("one ledger to compare", 2, "DIR DIR... is missing", "compare", "/tmp")
    cli.fails("a ledger compared with itself", 2, "the same folder", "compare", "/tmp", "/tmp/.")
    cli.fails("a proof without a genesis file", 2, "--genesis FILE", "verify-proof", "x")
    cli.fails("a question to nobody", 2, "which node?", "blocks")
    cli.fails("status of nobody", 2, "which node?", "status")
    cli.fails("a proof of nothing", 2, "name either", "proof", "--meter", "m-1", "--node", "127.0.0.1:1")
    for command in ("status", "why-stuck", "blocks", "block", "tx", "meter", "readings", "proof", "verify-proof",
                    "audit", "compare", "export", "events", "top", "note", "step-down", "request", "accept"):
        status, out, _ = cli.run(command, "--help")
        check(f"{command} --help has an example",
              status == 0 and f"Example:\n  dc-cli {command}" in out, out)
    for command in ("status", "why-stuck", "blocks", "block", "tx", "meter", "readings", "proof", "events", "top",
                    "note", "step-down"):
        _, out, _ = cli.run(command, "--help")
        check(f"{command} takes every kind of credential",
              all(f"--{o} " in out for o in ("credential", "x509-roots", "cfl-public", "network")), out)
    for command, option in (("verify-proof", "--node"), ("meter", "--follow"), ("blocks", "--epoch")):
        _, out, _ = cli.run(command, "--help")
        check(f"{command} does not offer {option}, which means nothing to it", option not in out, out)
    status, out, _ = cli.run("--version")
    check("--version", status == 0 and out.startswith("dc-cli "), out)


def dead_node(cli):
    # A port that was free a moment ago and that nobody listens on.
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{s.getsockname()[1]}"
    for command in (["blocks"], ["block", "1"], ["tx", "00"], ["meter", "m-1"], ["events"]):
        cli.fails(f"{command[0]} of a dead node", 3, "cannot be reached", *command, "--node", dead)
    status, document = cli.json("blocks", "--node", dead)
    check("the same as JSON", status == 3 and document["ok"] is False
          and document["status"] == "UNREACHABLE", document)
    status, out, _ = cli.run("status", "--node", dead)
    check("status of a dead node", status == 3 and "unreachable" in out, out)
    # Somebody listens and never answers.
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        where = f"127.0.0.1:{mute.getsockname()[1]}"
        cli.fails("a node that does not answer", 3, where, "blocks", "--node", where, "--timeout", "200ms")


# --- credentials ----------------------------------------------------------------------------------


def credentials(cli, folder, good):
    node = Dc({"blocks": []})
    for command in (["blocks"], ["status"], ["note", "x"]):
        cli.fails(f"{command[0]} without a credential", 2, "--credential", *command, "--node", node.address)
    cli.fails("a credential that is not there", 1, "no-such.cred", "blocks", "--node", node.address,
              "--credential", os.path.join(folder, "no-such.cred"))
    with open(good, "rb") as file:
        whole = file.read()
    for what, bytes_of, word in (("cut", whole[:200], "cut short"), ("altered", whole[:-40] + b"x" + whole[-39:], "damaged"),
                                 ("none", b"hello", "not a valid encoding")):
        path = os.path.join(folder, f"{what}.cred")
        with open(path, "wb") as file:
            file.write(bytes_of)
        cli.fails(f"a credential that is {what}", 1, word, "blocks", "--node", node.address, "--credential", path)
    status, document = cli.json("note", "all is well", "--node", node.address, "--credential", good)
    check("a note with a credential", status == 0 and node.question() == {"ask": "note", "text": "all is well"},
          (status, document))
    node.close()
    leader = Dc({"dc": "dc1", "term": 4})
    status, out, _ = cli.run("step-down", "--node", leader.address, "--credential", good)
    check("step-down", status == 0 and "dc1 led term 4 and leads no more" in out
          and leader.question() == {"ask": "step_down"}, (status, out))
    leader.close()
    # Somebody who speaks in the clear at a DC's address gets nothing and is not believed.
    with socket.create_server(("127.0.0.1", 0)) as server:
        def answer():
            s, _ = server.accept()
            with s:
                seen.append(s.recv(4096))
                text = b'{"blocks":[]}'
                body = struct.pack(">BBHI", 1, 81, 0, len(text)) + text
                s.sendall(struct.pack(">I", len(body)) + body)
                s.recv(1)
        seen = []
        thread = threading.Thread(target=answer)
        thread.start()
        where = f"127.0.0.1:{server.getsockname()[1]}"
        cli.fails("a DC that speaks in the clear", 1, "without a secure channel", "blocks", "--node", where,
                  "--credential", good)
        thread.join()
        check("it was told nothing", len(seen[0]) < 200 and b"blocks" not in seen[0], seen)


# --- why-stuck ------------------------------------------------------------------------------------


class Dc:
    """A process (fake_dc.c) that answers every question with one document."""

    program = None

    def __init__(self, document):
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(document, file)
            file.flush()
            self.process = subprocess.Popen([self.program, "serve", file.name], text=True,
                                            stdout=subprocess.PIPE)
            self.address = self.process.stdout.readline().strip()

    def question(self):
        """The oldest one that was not asked for yet."""
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def dc(causes, **more):
    stuck = any(c["stuck"] for c in causes)
    return {"dc": "dc1", "term": 5, "height": 14, "leader": "dc2", "nodes": 4, "quorum": 3,
            "waiting_transactions": 0, "wall_ms": 1, "stuck": stuck, "causes": causes, **more}


def state(name, **more):
    """What a DC answers to `status`, as far as dc-cli shows it."""
    handshakes = {"begun": 9, "opened": 7, "turned_away": 3, "refused": {"expired": 1, "revoked": 1},
                  "budget_left": 990, "budget_most": 1000}
    return {"dc": name, "role": "follower", "epoch": 1, "term": 5, "height": 14, "leader": "dc2",
            "peers_connected": 3, "sessions": 20, "waiting_transactions": 2, "reports_per_s": 4.5,
            "mdms_connected": True, "has_quorum": True, "read_only": False,
            "credential": {"kind": "x509", "expires_in_s": 90 * 86400},
            "revoked_operators": {"number": 7, "count": 1},
            "channels": [{"port": "dialled", "role": "dc", "name": "dc3", "credential": "x509",
                          "suite": "sm4-ctr-hmac-sm3", "ready": True}],
            "ports": {"peers": {"handshakes": handshakes}}, "committee": [], **more}


def status_and_top(cli):
    one, two = Dc(state("dc1")), Dc(state("dc2", role="leader", height=17, read_only=True, mdms_connected=False,
                                          revoked_operators=None,
                                          credential={"kind": "implicit", "expires_in_s": 86400 * 5 + 10},
                                          ports={"peers": {"handshakes": {"budget_left": 3, "budget_most": 1000}}}))
    both = ["--node", one.address, "--node", two.address]
    status, out, err = cli.run("status", *both)
    check("status shows no links untold", status == 0 and "sm4" not in out and "handshakes" not in out and err == "", out)
    status, out, err = cli.run("status", "--links", *both)
    check("status shows each link", status == 0 and err == "" and
          "dc1        dialled  dc    dc3                  x509      sm4-ctr-hmac-sm3  ready" in out, out)
    check("and what handshakes came to", "dc1        peers    handshakes: 9 begun, 7 opened, 3 turned away, "
          "budget 990 of 1000; refused: expired=1 revoked=1" in out, out)
    status, out, err = cli.run("top", "--frames", "2", "--interval", "250ms", *both)
    lines = out.splitlines()
    check("top prints so many frames", status == 0 and err == "" and out.count("2 of 2 DCs answer") == 2
          and "\033" not in out and len(lines) == 11, out)
    check("top sums up", "height 17" in lines[0] and "sessions 40  waiting 4  reports/s 4.5" in lines[0], lines[0])
    check("top shows each DC", lines[3].split() == ["dc1", "follower", "5", "14", "3", "3", "20", "2", "4.5"], lines[3])
    check("top says what to look at", lines[4].split()[9:] == ["disk-full", "no-mdms", "credential-ends-in-5-days",
                                                              "operators-unchecked", "flooded"], lines[4])
    two.close()
    status, out, _ = cli.run("top", "-n", "1", *both)
    check("top goes on without one of them", status == 0 and "1 of 2 DCs answer" in out and "unreachable" in out, out)
    cli.fails("top as JSON", 2, "status --json", "top", "--json", *both)
    cli.fails("top too fast", 2, "--interval", "top", "--interval", "10ms", *both)
    # Without an end it goes on until it is told.
    running = subprocess.Popen([cli.program, "top", "--interval", "250ms", "--node", one.address],
                               stdout=subprocess.PIPE, text=True)
    seen = [running.stdout.readline() for _ in range(9)]
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=60)
    check("top ends when it is told", running.returncode == 0 and sum("DCs answer" in line for line in seen) == 2,
          (seen, rest))
    # Also while it waits for a DC that says nothing.
    with socket.create_server(("127.0.0.1", 0)) as mute:
        for ends in (signal.SIGINT, signal.SIGTERM):
            running = subprocess.Popen([cli.program, "top", "--timeout", "60s", "--node",
                                        f"tcp://127.0.0.1:{mute.getsockname()[1]}"], stdout=subprocess.PIPE)
            asked, _ = mute.accept()
            check("it asks", asked.recv(1) != b"")
            begun = time.monotonic()
            running.send_signal(ends)
            running.communicate(timeout=120)
            took = time.monotonic() - begun
            check("top ends amid a question", running.returncode == 0 and took < 20, (running.returncode, took))
            asked.close()
    # On a terminal: a screen of its own, given back, and no line wider than it is.
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 4, 40, 0, 0))
    running = subprocess.Popen([cli.program, "top", "-n", "2", "--interval", "250ms", "--node", one.address],
                               stdout=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other side has ended
            break
        if not part:
            break
        shown += part
    os.close(ours)
    check("top ends after its frames", running.wait(timeout=60) == 0)
    check("top gives the screen back", shown.startswith(b"\033[?1049h") and shown.endswith(b"\033[?1049l"), shown)
    frames = shown.split(b"\033[H")[1:]
    rows = [row for frame in frames for row in frame.split(b"\r\n")[:-1]]
    check("top keeps to the screen", len(frames) == 2 and len(rows) == 6
          and all(len(row.replace(b"\033[K", b"")) <= 40 for row in rows), shown)
    one.close()
    status, out, _ = cli.run("top", "-n", "1", *both)
    check("top of dead nodes", status == 3 and "0 of 2 DCs answer" in out, (status, out))


def no_control(cli):
    """What a DC says is text: nothing in it reaches the terminal as a command."""
    bad = "dc1\033]0;owned\007\x7f\u009b2J"
    one = Dc(state(bad, role="leader\033[2J"))
    for command in ("status", "top"):
        more = ["-n", "1"] if command == "top" else []
        status, out, _ = cli.run(command, *more, "--node", one.address)
        check(f"{command} commands no terminal", status == 0 and "dc1?]0;owned??" in out
              and not any(c in out for c in "\033\007\x7f\u009b"), repr(out))
    one.close()
    key = {"begun": 1, "opened": 1, "turned_away": 0, "refused": {"x\033[2J": 1}, "budget_left": 1, "budget_most": 1}
    two = Dc(state("dc1", ports={"peers": {"handshakes": key}}))
    status, out, err = cli.run("status", "--links", "--node", two.address)
    check("nor does the name of a figure", "\033" not in out + err and "no DC's admin port" in out + err, (out, err))
    two.close()


def why_stuck(cli):
    missing = [{"dc": "dc3", "connected": False, "link_for_ms": 25000, "silent_ms": 26000},
               {"dc": "dc4", "connected": True, "link_for_ms": 9000000, "silent_ms": 4000}]
    votes = {"have": ["dc1", "dc2"], "needed": 3, "missing": missing}
    who = "dc3 (no link for 25.0 s), dc4 (last heard 4.0 s ago)"
    cases = [
        ({"cause": "no_leader", "stuck": True, "for_ms": 70000, "term": 6, "stage": "pre_votes", **votes},
         "no DC leads for 1 min 10 s; this DC asks for pre-votes of term 6: 2 of 3 pre-votes are here "
         f"(dc1, dc2); missing: {who}"),
        ({"cause": "no_leader", "stuck": False, "for_ms": 700, "term": 5, "stage": "waits",
          "last_leader": "dc3", "last_leader_silent_ms": 900},
         "no DC leads for 0.7 s; dc3 led term 5 and was last heard 0.9 s ago"),
        ({"cause": "few_contacts", "stuck": True, "for_ms": 25000, "reachable": 2, "needed": 3,
          "silent": missing}, f"only 2 of the 3 DCs that a commit takes are in reach, this one included, "
         f"for 25.0 s; out of reach: {who}"),
        ({"cause": "block_open", "stuck": True, "for_ms": 9000, "height": 15, "stage": "commit_votes",
          "leader": "dc1", **votes},
         f"block 15 of leader dc1 is open for 9.0 s: 2 of 3 commit votes are here (dc1, dc2); missing: {who}"),
        ({"cause": "block_open", "stuck": False, "for_ms": 90, "height": 15, "stage": "voted",
          "leader": "dc2"}, "it waits for the leader, which has this DC's vote (which is not long yet)"),
        ({"cause": "transactions_overdue", "stuck": True, "for_ms": 4000, "overdue": 7, "waiting": 9,
          "oldest_ms": 7000, "oldest_gateway": "dc4"},
         "7 of 9 waiting transactions should be on the ledger by now; the oldest, of gateway dc4, waits "
         "for 7.0 s"),
        ({"cause": "disk_full", "stuck": True, "for_ms": 7300000, "status": "FULL"},
         "it has been full for 2 h 1 min"),
        ({"cause": "disk_failing", "stuck": True, "for_ms": 3000, "status": "IO"}, "refuses writes for 3.0 s"),
        ({"cause": "disk_slow", "stuck": True, "for_ms": 3000, "status": "TIMEOUT"}, "hangs for 3.0 s"),
        ({"cause": "behind", "stuck": False, "for_ms": 100, "height": 14, "known_height": 90, "from": "dc2"},
         "at height 14 of 90, it fetches blocks from dc2; the last one came 0.1 s ago"),
        ({"cause": "may_not_sign", "stuck": False, "for_ms": 5000}, "until the MDMS has rotated its key\n"),
    ]
    for cause, sentence in cases:
        one = Dc(dc([cause]))
        status, out, err = cli.run("why-stuck", "--node", one.address)
        check(f"why-stuck: {cause['cause']} {cause.get('stage', '')}", status == int(cause["stuck"])
              and sentence in out and out.count("\n") == 2
              and err == ("dc-cli: commits wait at 1 of the 1 DCs that answered\n" if cause["stuck"] else "")
              and one.question() == {"ask": "why_stuck"}, (status, out, err))
        one.close()
    idle, busy = Dc(dc([])), Dc(dc([cases[2][0]], dc="dc2"))
    status, out, _ = cli.run("why-stuck", "--node", idle.address)
    check("why-stuck of an idle chain", status == 0 and "idle, nothing waits" in out, out)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{s.getsockname()[1]}"
    several = ["--node", idle.address, "--node", dead, "--node", busy.address]
    status, out, _ = cli.run("why-stuck", *several)
    check("why-stuck of several DCs", status == 1 and "dc1, height 14" in out and "dc2, height 14" in out
          and "? cannot be asked" in out, (status, out))
    status, document = cli.json("why-stuck", *several)
    check("the same as JSON", status == 1 and document["stuck"] is True
          and [n.get("stuck") for n in document["nodes"]] == [False, None, True]
          and document["nodes"][1]["role"] == "unreachable"
          and document["nodes"][2]["causes"] == [cases[2][0]], document)
    cli.fails("why-stuck of a dead node", 3, "does not answer", "why-stuck", "--node", dead)
    status, document = cli.json("why-stuck", "--node", dead)
    check("the same as JSON", status == 3 and document["stuck"] is False, document)
    idle.close()
    busy.close()


# --- a good ledger --------------------------------------------------------------------------------


def good_ledger(cli, folder, facts):
    data, genesis = f"{folder}/ledger", f"{folder}/genesis.json"
    status, out, err = cli.run("audit", "--data", data, "--genesis", genesis)
    check("the audit of a good ledger", status == 0 and
          f"the ledger verifies from its genesis to height {facts['blocks']}" in out, (out, err))
    check("its progress", "audit 100 %" in err, err)
    status, a = cli.json("audit", "--data", data)
    check("as JSON, with the genesis file found above the ledger",
          status == 0 and a["ok"] is True and a["problem"] is None, a)
    for key in ("blocks", "transactions", "reports", "meters", "tip"):
        check(f"the audit's {key}", a[key] == facts[key], (a[key], facts[key]))
    signatures = 3 * facts["blocks"] + facts["transactions"] + facts["reports"] + facts["pairs"]
    check("the audit's signatures", a["signatures"] == signatures, (a["signatures"], signatures))
    check("whom the audit finds convicted", {c["dc"]: c["kinds"] for c in a["convicted"]} == {
        "dc-1": ["votes", "hidden_certificate"], "dc-2": ["votes", "bad_grant"],
        "dc-3": ["proposals", "bad_proposal"], "dc-4": ["grants"]}, a["convicted"])
    check("and says so", "evidence      dc-4 in key epoch 1 signed" in out, out)
    check("the audit's time", a["seconds"] > 0 and a["transactions_per_s"] > 0, a)
    before = os.stat(f"{data}/data.mdb")
    status, _, _ = cli.run("audit", "--data", data)
    after = os.stat(f"{data}/data.mdb")
    check("an audit changes nothing", (before.st_mtime_ns, before.st_size) ==
          (after.st_mtime_ns, after.st_size))
    cli.fails("an audit against another genesis file", 1, "of another chain", "audit", "--data", data,
              "--genesis", f"{folder}/other-genesis.json")
    cli.fails("an audit of an empty folder", 1, "no ledger here", "audit", "--data", folder)
    cli.fails("an audit of no folder", 1, "no such", "audit", "--data", f"{folder}/nothing",
              "--genesis", genesis)
    os.mkdir(f"{folder}/broken")
    with open(f"{folder}/broken/genesis.json", "w", encoding="ascii") as file:
        file.write("{}")
    cli.fails("an audit with a broken genesis file", 1, "is no genesis file", "audit", "--data",
              f"{folder}/broken")


def views(cli, folder, facts):
    data = ["--data", f"{folder}/ledger"]
    status, blocks = cli.json("blocks", *data, "--from", "1", "--count", "100")
    check("blocks", status == 0 and [b["height"] for b in blocks["blocks"]] ==
          list(range(1, facts["blocks"] + 1)), blocks)
    status, block = cli.json("block", "5", *data)
    kinds = [t["kind"] for t in block["transactions"]]
    check("a block's transactions", status == 0 and
          kinds == ["report", "revoke", "meter_enrol", "report", "revoke"] + ["evidence"] * 7 + ["membership"],
          kinds)
    accused = [t["device"] for t in block["transactions"] if t["kind"] == "evidence"]
    check("whom its evidence is against",
          accused == ["dc-2", "dc-3", "dc-4", "dc-1", "dc-2", "dc-3", "dc-1"], accused)
    for t in block["transactions"][5:12]:
        _, shown = cli.json("tx", t["id"], *data)
        fields = shown["fields"]
        check(f"evidence of {fields['what']} is shown", fields["against"] == t["device"] and
              1 <= len(fields["statements"]) <= 2 and None not in fields["statements"], fields)
    check("a block's voters", block["certificate"]["voters"] == ["dc-1", "dc-2", "dc-3"], block)
    _, by_hash = cli.json("block", block["header"]["hash"], *data)
    check("the same block by its hash", by_hash == block)
    cli.fails("a block that is not there", 1, "there is no block 99", "block", "99", *data)
    cli.fails("a hash of no block", 1, "no committed block", "block", "00" * 32, *data)
    tx = block["transactions"][0]["id"]
    status, found = cli.json("tx", tx, *data)
    check("a transaction", status == 0 and found["height"] == 5 and found["index"] == 0
          and found["fields"]["meter"] == "m-6", found)
    cli.fails("a transaction that is not there", 1, "no committed transaction", "tx", "ab" * 32, *data)
    status, meter = cli.json("meter", "m-6", *data)
    check("a meter's epochs", status == 0 and [e["epoch"] for e in meter["epochs"]] == [1, 2]
          and meter["epochs"][0]["revoked_at"] == 5, meter)
    cli.fails("an unknown meter", 1, "no meter 'm-99'", "meter", "m-99", *data)
    status, readings = cli.json("readings", "m-3", *data)
    check("a meter's reports", status == 0 and
          [r["sequence"] for r in readings["readings"]][:5] == [1, 2, 3, 5, 6], readings)
    for command in (["blocks"], ["block", "5"], ["tx", tx], ["meter", "m-6"], ["readings", "m-3"]):
        status, out, err = cli.run(*command, *data)
        check(f"{command[0]} for people", status == 0 and out != "" and err == "", (out, err))
    cli.fails("events of a ledger on disk", 2, 'there is no option "--data"', "events", *data)


# --- export and compare ---------------------------------------------------------------------------


def export(cli, folder, facts):
    data = ["--data", f"{folder}/ledger"]
    status, out, _ = cli.run("export", *data, "--format", "csv")
    rows = out.splitlines()
    check("csv has a row for every transaction", status == 0 and len(rows) == facts["transactions"] + 1
          and rows[0] == "height,index,id,kind,device,epoch,sequence,timestamp_ms,bytes", rows[:2])
    reports = [r.split(",") for r in rows if ",report," in r]
    keys = {(r[4], r[5], r[6]) for r in reports}
    check("csv has every report once", len(reports) == len(keys) == facts["reports"], len(keys))
    status, out, _ = cli.run("export", *data, "--from", "14")
    kinds = [json.loads(line)["kind"] for line in out.splitlines()]
    check("an export from a height on", status == 0 and
          kinds == ["genesis"] + ["block"] * (facts["blocks"] - 13) + ["end"], kinds)
    target = f"{folder}/out.jsonl"
    status, out, err = cli.run("export", *data, "--out", target)
    with open(target, encoding="ascii") as file:
        lines = file.read().splitlines()
    check("an export into a file", status == 0 and out == "" and len(lines) == facts["blocks"] + 2
          and not os.path.exists(target + ".part"), (out, err))
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([cli.program, "export", *data], stdout=full, stderr=subprocess.PIPE,
                              text=True, timeout=100, check=False)
    check("an export to a full disk", done.returncode == 1 and "No space left" in done.stderr,
          done.stderr)
    for form in ("csv", "jsonl"):
        with subprocess.Popen([cli.program, "export", *data, "--format", form], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as piped:
            piped.stdout.close()  # as head does when it has its lines
            err = piped.stderr.read()
        check(f"an export of {form} whose reader goes away says nothing",
              piped.returncode == 141 and err == "", (piped.returncode, err))
    cli.fails("an export under another genesis file", 1, "of another chain", "export", *data, "--genesis",
              f"{folder}/other-genesis.json")
    cli.fails("an export into a folder that is not there", 1, "No such file", "export", *data, "--out",
              f"{folder}/nowhere/x")


def stopped_export(cli, folder):
    """Ctrl-C in the middle leaves nothing half-written. A pipe in the file's place lets the export
    stand still in its middle."""
    target = f"{folder}/stopped.jsonl"
    os.mkfifo(target + ".part")
    out = os.open(target + ".part", os.O_RDWR)
    fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen([cli.program, "export", "--data", f"{folder}/ledger", "--out", target],
                          stderr=subprocess.DEVNULL) as parent:
        os.read(out, 64)
        parent.send_signal(signal.SIGINT)
        status = parent.wait(timeout=100)
    os.close(out)
    check("a stopped export leaves nothing", status == 130 and not os.path.exists(target)
          and not os.path.exists(target + ".part"), status)


def compare(cli, folder, facts):
    ledger, short, fork = (f"{folder}/{name}" for name in ("ledger", "short", "fork"))
    status, out, _ = cli.run("compare", ledger, short)
    check("a ledger and its prefix", status == 0 and
          f"the ledgers are one up to height {facts['short']}" in out, out)
    status, document = cli.json("compare", short, ledger, "--genesis", f"{folder}/genesis.json")
    check("the same as JSON", status == 0 and document["ok"] is True and
          document["height"] == facts["blocks"] and document["height_common"] == facts["short"], document)
    status, document = cli.json("compare", short, ledger, fork)
    difference = document["difference"]
    check("the first difference", status == 1 and difference["height"] == facts["fork_height"]
          and [b["data"] for b in difference["blocks"]] == [ledger, fork]
          and difference["blocks"][0]["hash"] == facts["fork_hash"]
          and difference["blocks"][1]["hash"] != facts["fork_hash"], document)
    status, out, err = cli.run("compare", ledger, fork)
    check("the same for people", status == 1 and out == "" and
          f"the ledgers part at height {facts['fork_height']}" in err and facts["fork_hash"] in err, err)
    status, out, err = cli.run("compare", short, fork)
    check("a fork beyond the common height is none", status == 0, err)
    cli.fails("a comparison with nothing", 1, "no ledger here", "compare", ledger, folder)
    cli.fails("a comparison under another genesis file", 1, "of another chain", "compare", ledger, short,
              "--genesis", f"{folder}/other-genesis.json")


# --- ledgers with something wrong in them ---------------------------------------------------------

WRONG = {
    "merkle": ("BAD_MERKLE_ROOT", None), "state": ("BAD_STATE_ROOT", None),
    "time": ("BAD_TIMESTAMP", None), "members": ("WRONG_EPOCH", None),
    "proposer": ("BAD_ARGUMENT", None), "vote": ("BAD_CERTIFICATE", None),
    "two-votes": ("BAD_CERTIFICATE", None), "quorum": ("BAD_CERTIFICATE", None),
    "early-term": ("BAD_CERTIFICATE", None), "meter-signature": ("BAD_SIGNATURE", 1),
    "gateway-signature": ("BAD_SIGNATURE", 1), "mdms-signature": ("BAD_SIGNATURE", 1),
    "number": ("SEQUENCE_AHEAD", 1), "ahead": ("SEQUENCE_AHEAD", 1),
    "settled": ("SEQUENCE_SETTLED", 1), "revoked": ("REVOKED", 2), "unknown": ("UNKNOWN_DEVICE", 1),
}
DAMAGE = {
    "hash-index": "index of hashes", "hash-gone": "index of hashes",
    "block-gone": "block 1 cannot be read",
    "block-byte": "the Merkle root", "change-byte": "the registry kept in",
    "change-gone": "the registry kept in", "front-check": "its header cannot be read alone",
    "hash-extra": "the index of hashes kept in", "epoch-extra": "the index of epochs kept in",
    "meta-extra": "something that no ledger has", "database-extra": "something that no ledger has",
    "retention-forged": "is not the MDMS's", "mark-forged": "keeps beside its blocks cannot be read",
}
# The same of a ledger on which a retention stands, and of which nothing is pruned. It is long enough to
# have an index of transactions and records beside its blocks.
RETAINED_DAMAGE = {
    "row-index": "does not lead to it", "run-gone": "does not lead to it",
    "row-extra": "rows, and its blocks make others", "record-byte": "the registry kept in",
    "record-gone": "the registry kept in",
    "retention-gone": "is of watermark 0, and its blocks have 12", "retention-forged": "is not the MDMS's",
    "mark-forged": "says that it is pruned below block 12, and it is not",
}
# What a copy leaves behind, or makes anew.
NOT_COPIED = ("meta-extra", "database-extra", "row-index", "run-gone", "row-extra")


def one_problem(cli, what, folder, expected_status, height, tx, words):
    status, out, err = cli.run("audit", "--data", f"{folder}/ledger")
    lines = [line for line in err.splitlines() if line.startswith("dc-cli: ")]
    check(f"the audit finds {what}", status == 1 and out == "" and len(lines) == 1 and words in lines[0],
          (status, out, err))
    status, a = cli.json("audit", "--data", f"{folder}/ledger")
    problem = a["problem"]
    check(f"and names it: {what}", status == 1 and a["ok"] is False
          and (expected_status is None or problem["status"] == expected_status)
          and (height is None or problem["height"] == height) and problem["tx"] == tx, a)


def damaged_ledger(cli, make_ledger, place, data, damage, words):
    os.mkdir(place)
    shutil.copytree(data, f"{place}/ledger")
    shutil.copy(f"{os.path.dirname(data)}/genesis.json", place)
    subprocess.run([make_ledger, place, "damage", damage], timeout=100, check=True)
    status, out, err = cli.run("audit", "--data", f"{place}/ledger")
    check(f"the audit finds the damage {damage}", status == 1 and out == "" and words in err,
          (status, out, err))
    status, _, err = cli.run("copy", "--data", f"{place}/ledger", "--out", f"{place}/copy",
                             "--genesis", f"{place}/genesis.json")
    if damage in NOT_COPIED:
        status, out, err = cli.run("audit", "--data", f"{place}/copy")
        check(f"a copy is without {damage}", status == 0, (out, err))
    else:
        check(f"a ledger with {damage} is not copied", status == 1 and not os.path.exists(f"{place}/copy"), err)


def wrong_ledgers(cli, make_ledger, folder):
    for wrong, (status, tx) in WRONG.items():
        place = f"{folder}/wrong-{wrong}"
        subprocess.run([make_ledger, place, wrong], capture_output=True, timeout=100, check=True)
        words = "block 8: " if tx is None else f"block 8, transaction {tx}: "
        one_problem(cli, wrong, place, status, 8, tx, words)
    place = f"{folder}/wrong-registry"
    subprocess.run([make_ledger, place, "registry"], capture_output=True, timeout=100, check=True)
    one_problem(cli, "a wrong record of the registry", place, "BAD_STATE_ROOT", 0, None,
                "the registry kept in")
    for damage, words in DAMAGE.items():
        damaged_ledger(cli, make_ledger, f"{folder}/damage-{damage}", f"{folder}/ledger", damage, words)
    retained = f"{folder}/retained"
    subprocess.run([make_ledger, retained, "prune"], capture_output=True, timeout=100, check=True)
    for damage, words in RETAINED_DAMAGE.items():
        damaged_ledger(cli, make_ledger, f"{folder}/retained-{damage}", f"{retained}/whole", damage, words)


def flip_bytes(path, rng, kind):
    """Damages a data file in one of the ways in which disks do."""
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        if kind == "cut":
            file.truncate(rng.randrange(size))
            return
        # Page 0 and 1 are LMDB's meta pages.
        at = rng.randrange(4096 if kind != "meta" else 0, size if kind != "meta" else 8192)
        if kind == "page":
            at -= at % 4096
            content = rng.choice([bytes(4096), rng.randbytes(4096)])
        else:
            file.seek(at)
            content = bytes([file.read(1)[0] ^ (1 << rng.randrange(8))])
        file.seek(at)
        file.write(content)


def damaged_files(cli, folder):
    """Whatever happens to the file, the answer is a verdict: right, or one sentence."""
    rng = random.Random(11)
    place = f"{folder}/flipped"
    found = crashed = 0
    rounds = 100
    for i in range(rounds):
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(f"{folder}/ledger", place)
        kind = ("byte", "page", "cut", "byte", "meta")[i % 5]
        flip_bytes(f"{place}/data.mdb", rng, kind)
        command = ("audit", "compare", "export", "blocks")[i % 4] if i % 3 == 2 else "audit"
        arguments = {"compare": [f"{folder}/ledger", place]}.get(
            command, ["--data", place, "--genesis", f"{folder}/genesis.json"])
        status, out, err = cli.run(command, *arguments, "--json")
        if command == "audit":
            document = json.loads(out)
            sound = document["ok"] == (status == 0) and (document["problem"] is None) == (status == 0)
            found += status == 1
            crashed += status == 1 and "damaged: reading it" in document["problem"]["text"]
        else:
            sound = status == 0 or out.rstrip().endswith("}")
        check(f"damage {i}, {kind}: {command} ends with a verdict", status in (0, 1) and sound,
              (status, out[-300:], err))
    # Most pages of so young a file are old copies: damage there is none of the ledger.
    print(f"     the audit found {found} damages, {crashed} of them by a reader that crashed")
    check("damage is found", found > 0)


def crashing_reader(cli, folder):
    """The process that reads dies of a signal, as one does that meets a damaged page."""
    out, into = os.pipe()
    # Less than the export: the reader stands still until somebody takes what it wrote.
    fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen([cli.program, "export", "--data", f"{folder}/ledger"], stdout=into,
                          stderr=subprocess.PIPE, text=True) as parent:
        os.close(into)
        begun = os.read(out, 64)
        with open(f"/proc/{parent.pid}/task/{parent.pid}/children", encoding="ascii") as file:
            children = file.read().split()
        check("one process reads", len(children) == 1 and b'"kind":"genesis"' in begun, children)
        os.kill(int(children[0]), signal.SIGSEGV)
        while os.read(out, 4096):
            pass
        os.close(out)
        _, err = parent.communicate(timeout=100)
        check("a reader that crashed", parent.returncode == 1 and
              err == f"dc-cli: the ledger in {folder}/ledger is damaged: reading it crashed\n", err)


def damaged_transaction(cli, folder):
    """A flipped bit in the stored bytes of a transaction, wherever they are in the file."""
    _, block = cli.json("block", "9", "--data", f"{folder}/ledger")
    _, tx = cli.json("tx", block["transactions"][1]["id"], "--data", f"{folder}/ledger")
    encoded = bytes.fromhex(tx["encoded"])
    place = f"{folder}/flipped-tx"
    shutil.copytree(f"{folder}/ledger", place)
    with open(f"{place}/data.mdb", "r+b") as file:
        content = file.read()
        check("the transaction's bytes are in the file", encoded in content)
        file.seek(0)
        file.write(content.replace(encoded, encoded[:90] + bytes([encoded[90] ^ 4]) + encoded[91:]))
    cli.fails("an audit of a flipped bit", 1, "block 9 cannot be read: stored data is damaged", "audit",
              "--data", place, "--genesis", f"{folder}/genesis.json")


# --- proofs ---------------------------------------------------------------------------------------


def proofs(cli, folder):
    genesis = f"{folder}/genesis.json"
    empty = f"{folder}/empty"
    os.mkdir(empty)
    status, out, err = cli.run("verify-proof", f"{folder}/proof.json", "--genesis", genesis, cwd=empty)
    check("a proof in an empty directory", status == 0 and err == "" and "0.250" in out
          and "1-0:1.8.0*255" in out and "kWh" in out and "m-3" in out, (out, err))
    status, p = cli.json("verify-proof", f"{folder}/proof.json", "--genesis", genesis)
    check("as JSON", status == 0 and p["ok"] is True and p["meter"]["id"] == "m-3"
          and p["report"]["sequence"] == 1 and p["readings"][0] ==
          {"obis": "1-0:1.8.0*255", "start": "2013-01-01T00:30:00Z", "interval_s": 1800,
           "value": "0.250", "unit": "kWh", "quality": []}, p)
    status, out, _ = cli.run("verify-proof", f"{folder}/proof-closed.json", "--genesis", genesis)
    check("a proof without the reading", status == 0 and "not shown by this proof" in out, out)
    made = f"{folder}/made.json"
    status, out, err = cli.run("proof", "--meter", "m-3", "--sequence", "1", "--data",
                               f"{folder}/ledger", "--out", made)
    with open(made, encoding="ascii") as a, open(f"{folder}/proof-closed.json", encoding="ascii") as b:
        check("dc-cli proof makes the same", status == 0 and a.read() == b.read(), err)
    status, _, err = cli.run("verify-proof", made, "--genesis", genesis)
    check("and it verifies", status == 0, err)
    cli.fails("a proof of what is not there", 1, "is not on the ledger", "proof", "--meter", "m-3",
              "--sequence", "4", "--data", f"{folder}/ledger")
    cli.fails("a proof under another genesis file", 1, "proves nothing", "verify-proof",
              f"{folder}/proof.json", "--genesis", f"{folder}/other-genesis.json")
    cli.fails("a proof that is not there", 1, "No such file", "verify-proof", f"{folder}/none.json",
              "--genesis", genesis)


def changed_proofs(cli, folder):
    """Every byte counts; a few hundred of them, spread and random."""
    with open(f"{folder}/proof.json", "rb") as file:
        proof = file.read()
    rng = random.Random(5)
    places = list(range(0, len(proof), len(proof) // 150)) + [rng.randrange(len(proof)) for _ in range(50)]
    path = f"{folder}/changed.json"
    for at in places:
        other = rng.randrange(255)
        other += other >= proof[at]
        # Half of them stay text that a parser takes.
        if chr(proof[at]) in "0123456789abcdef" and rng.randrange(2):
            other = ord(rng.choice([c for c in "0123456789abcdef" if ord(c) != proof[at]]))
        with open(path, "wb") as file:
            file.write(proof[:at] + bytes([other]) + proof[at + 1 :])
        status, out, err = cli.run("verify-proof", path, "--genesis", f"{folder}/genesis.json")
        if status != 1 or out != "" or "proves nothing: " not in err or err.count("\n") != 1:
            check(f"byte {at} changed from {proof[at]} to {other} is refused", False, (status, out, err))
    check(f"{len(places)} proofs with one changed byte are refused", True)
    for what, content in (("cut short", proof[:-40]), ("with more behind it", proof + b"\n"),
                          ("empty", b""), ("of zeros", bytes(100))):
        with open(path, "wb") as file:
            file.write(content)
        cli.fails(f"a proof {what}", 1, "proves nothing: ", "verify-proof", path, "--genesis",
                  f"{folder}/genesis.json")


# --- completion -----------------------------------------------------------------------------------


def complete(cli, *words):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)),
                          "../../docs/completion/amiledger.bash")
    line = ' '.join(f"'{w}'" for w in words)
    text = (f". {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
            f"_ami_complete '{cli.program}' '{words[-1]}' '{words[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.split()


def pruned(cli, make_ledger, folder):
    """A ledger whose first blocks are pruned: what is left is shown, what is gone is named."""
    place = os.path.join(folder, "pruned")
    made = subprocess.run([make_ledger, place, "prune"], capture_output=True, text=True, timeout=100, check=True)
    facts = json.loads(made.stdout)
    data, genesis = os.path.join(place, "ledger"), os.path.join(place, "genesis.json")
    at = ("--data", data, "--genesis", genesis)
    status, audit = cli.json("audit", *at)
    runs = audit["pruned"]
    check("a pruned ledger passes an audit, which says what is pruned",
          status == 0 and audit["reports"] == facts["reports"] and audit["pruned_reports"] == facts["pruned"]
          and len(runs) == 1 and (runs[0]["from"], runs[0]["to"]) == (2, facts["below"] - 1)
          and runs[0]["reports"] == facts["pruned"], audit)
    status, out, _ = cli.run("audit", *at)
    check("also in words", status == 0 and f"blocks 2 to {facts['below'] - 1}: of {facts['pruned']} reports" in out, out)
    status, whole = cli.json("audit", "--data", os.path.join(place, "whole"), "--genesis", genesis)
    check("a whole one has nothing pruned", status == 0 and whole["pruned"] == [] and whole["tip"] == audit["tip"], whole)
    status, same = cli.json("compare", data, os.path.join(place, "whole"))
    check("pruned and whole are one ledger", status == 0 and same["ok"], same)
    status, lines = cli.json("blocks", *at, "--from", "1", "--count", "20")
    check("blocks says which are pruned", [b["height"] for b in lines["blocks"] if b["pruned"]]
          == [h for h in range(2, facts["below"]) if h != 6], lines)  # block 6 is empty
    status, block = cli.json("block", "2", *at)
    check("a pruned block has all its transactions", status == 0 and block["pruned"]
          and len(block["transactions"]) == block["header"]["transactions"]
          and all(t["kind"] == "report" for t in block["transactions"]), block)
    tx = block["transactions"][2]
    status, shown = cli.json("tx", tx["id"], *at)
    check("a pruned report is found by its id", status == 0 and shown["fields"]["pruned"]
          and shown["fields"]["meter"] == tx["device"] and "sealed" not in shown["fields"], shown)
    status, readings = cli.json("readings", tx["device"], *at)
    first = readings["readings"][0]
    check("readings says what is pruned", status == 0 and first["pruned"] and first["dc"] is None
          and not readings["readings"][-1]["pruned"], readings)
    status, out, _ = cli.run("readings", tx["device"], *at)
    check("also in words", status == 0 and " pruned " in out, out)
    status, table, _ = cli.run("export", *at, "--format", "csv")
    check("a table has it, too", status == 0 and table.count("\n") == facts["transactions"] + 1, table[:300])
    proof = os.path.join(place, "proof.json")
    status, out, err = cli.run("proof", "--meter", tx["device"], "--sequence", "1", *at, "--out", proof)
    check("a proof can still be made", status == 0, (out, err))
    status, checked = cli.json("verify-proof", proof, "--genesis", genesis)
    check("and holds", status == 0 and checked["ok"] and checked["report"]["pruned"]
          and checked["report"]["gateway"] is None, checked)
    status, out, _ = cli.run("verify-proof", proof, "--genesis", genesis)
    check("and says so", status == 0 and "was pruned" in out, out)


def copies(cli, make_ledger, folder):
    """A copy is another DC's ledger whole, pruned or not, and nothing that does not verify."""
    genesis, out = f"{folder}/genesis.json", f"{folder}/copied"
    for data, to in ((f"{folder}/ledger", out), (f"{folder}/pruned/ledger", f"{folder}/copied-pruned")):
        own = f"{os.path.dirname(data)}/genesis.json"
        status, made = cli.json("copy", "--data", data, "--out", to, "--genesis", own)
        check(f"{os.path.basename(to)} is made", status == 0 and made["ok"], made)
        with open(own, "rb") as a, open(f"{to}/genesis.json", "rb") as b:
            check("its genesis file stands beside it", a.read() == b.read())
        status, a = cli.json("audit", "--data", data)
        _, b = cli.json("audit", "--data", to)
        same = ("height", "tip", "state_root", "transactions", "signatures", "pruned")
        check("it is the same ledger", status == 0 and b["ok"] and all(a[k] == b[k] for k in same), b)
        status, compared = cli.json("compare", data, to)
        check("also block by block", status == 0 and compared["ok"], compared)
        check("nothing else is left", not os.path.exists(f"{to}.part"))
    cli.fails("a copy onto something", 1, "is there already", "copy", "--data", f"{folder}/ledger",
              "--out", out, "--genesis", genesis)
    cli.fails("a copy without a name", 2, "--out DIR", "copy", "--data", f"{folder}/ledger")
    cli.fails("a copy of nothing", 1, f"{folder}/nothing", "copy", "--data", f"{folder}/nothing", "--out",
              f"{folder}/copy-of-nothing", "--genesis", genesis)
    for wrong in ("vote", "state", "meter-signature", "registry"):
        place = f"{folder}/copied-{wrong}"
        subprocess.run([make_ledger, place, wrong], capture_output=True, timeout=100, check=True)
        cli.fails(f"a copy of a ledger with a wrong {wrong}", 1, "is not worth copying", "copy", "--data",
                  f"{place}/ledger", "--out", f"{place}/out", "--genesis", f"{place}/genesis.json")
        check("leaves nothing", not os.path.exists(f"{place}/out") and not os.path.exists(f"{place}/out.part"))
    place = f"{folder}/copied-damage"
    shutil.copytree(f"{folder}/ledger", place)
    with open(f"{place}/data.mdb", "r+b") as file:
        size = file.seek(0, 2)
        for at in range(8192, size, 4096):  # all but the meta pages
            file.seek(at + 16)
            file.write(b"\xa5" * 64)
    got, _, err = cli.run("copy", "--data", place, "--out", f"{place}-out", "--genesis", genesis)
    check("a copy of a damaged file fails in a sentence", got == 1 and "dc-cli: " in err, err)
    check("and leaves nothing", not os.path.exists(f"{place}-out.part"))


def completion(cli, folder):
    check("commands are completed", complete(cli, "dc-cli", "a") == ["audit", "accept"]
          and complete(cli, "dc-cli", "st") == ["status", "step-down"]
          and complete(cli, "dc-cli", "status", "--li") == ["--links"]
          and complete(cli, "dc-cli", "w") == ["why-stuck"])
    check("options are completed", complete(cli, "dc-cli", "audit", "--da") == ["--data"])
    check("formats are completed", complete(cli, "dc-cli", "export", "--format", "j") == ["jsonl"])
    check("folders are completed", complete(cli, "dc-cli", "audit", "--data", f"{folder}/led")
          == [f"{folder}/ledger"])
    check("files are completed", complete(cli, "dc-cli", "verify-proof", f"{folder}/proof-")
          == [f"{folder}/proof-closed.json"])


def main():
    make_ledger, program, Dc.program = sys.argv[1:]
    cli = Cli(program)
    with tempfile.TemporaryDirectory(prefix="dc-cli.") as folder:
        credential = os.path.join(folder, "operator.cred")
        subprocess.run([Dc.program, "credential", credential], check=True)
        made = subprocess.run([make_ledger, folder], capture_output=True, text=True, timeout=100, check=True)
        facts = json.loads(made.stdout)
        os.environ.pop("AMI_CREDENTIAL", None)
        usage(cli)
        credentials(cli, folder, credential)
        os.environ["AMI_CREDENTIAL"] = credential
        dead_node(cli)
        status_and_top(cli)
        no_control(cli)
        why_stuck(cli)
        good_ledger(cli, folder, facts)
        views(cli, folder, facts)
        export(cli, folder, facts)
        stopped_export(cli, folder)
        compare(cli, folder, facts)
        wrong_ledgers(cli, make_ledger, folder)
        damaged_files(cli, folder)
        damaged_transaction(cli, folder)
        crashing_reader(cli, folder)
        proofs(cli, folder)
        changed_proofs(cli, folder)
        pruned(cli, make_ledger, folder)
        copies(cli, make_ledger, folder)
        completion(cli, folder)
    if failures:
        sys.exit(f"{len(failures)} checks failed")


if __name__ == "__main__":
    main()
