#!/usr/bin/env python3
"""test_soak.py - sim/soak-plan keeps its promises for many seeds, and sim/soak-report its own."""
import importlib.machinery
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

SIM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "sim")
TIERS = "net,namespace,clock,disk"


sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("soak_plan", os.path.join(SIM, "soak-plan"))
soak_plan = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
loader.exec_module(soak_plan)


def plan(seed, nodes=4, seconds=600, tiers=TIERS):
    small = [f"dc{nodes - 1}", f"dc{nodes}"] if "disk" in tiers else []
    made = soak_plan.Plan(random.Random(seed), nodes, seconds, [t for t in tiers.split(",") if t], small)
    return [[str(field) for field in line] for line in made.make()]


def phases(lines):
    """[(kind, victims, [do or undo lines])]"""
    found = []
    for line in lines:
        if line[0] == "phase":
            found.append((line[2], [] if line[4] == "-" else line[4].split(","), []))
        elif line[0] in ("do", "undo"):
            found[-1][2].append(line)
    return found


# Kinds after which a DC does not count as badly off.
MILD = {"slow-all", "loss-all", "reset-all", "cut-meters", "cut-mdms", "clock-near", "clock-meters",
        "clock-mdms", "kill-mdms", "pause-mdms", "kill-fleet", "pause-fleet", "disk-full-mdms",
        "disk-full-fleet"}


class Plan(unittest.TestCase):
    def test_a_seed_is_a_plan(self):
        self.assertEqual(plan(7), plan(7))
        self.assertNotEqual(plan(7), plan(8))

    def test_at_most_f_are_badly_off(self):
        for nodes in (4, 5, 7, 10):
            f = (nodes - 1) // 3
            for seed in range(12):
                lost = set()
                for kind, victims, lines in phases(plan(seed, nodes)):
                    if kind != "within":
                        continue
                    names = {v.rstrip("!") for v in victims}
                    self.assertEqual(len(names), len(victims))
                    self.assertFalse(lost & names)
                    lost |= {line[4] for line in lines if line[3] == "lost-ledger"}
                    self.assertLessEqual(len(lost | names), f)
                    for line in lines:
                        bad = line[3] not in MILD and line[3] != "lost-ledger"
                        self.assertEqual(bad, line[4].startswith("@"), line)
                        if bad:
                            self.assertLessEqual(int(line[4][1:]), len(victims))

    def test_one_lost_ledger_where_it_can_be_spared(self):
        for nodes, most in ((4, 0), (6, 0), (7, 1), (10, 1)):
            for seed in range(6):
                lost = [line for line in plan(seed, nodes) if line[0] == "do" and line[3] == "lost-ledger"]
                self.assertEqual(len(lost), most)

    def test_what_begins_ends_in_its_phase(self):
        once = {"reset-all", "lost-ledger"}
        for seed in range(12):
            for _, _, lines in phases(plan(seed, 7)):
                open_now = {}
                times = [int(line[2]) for line in lines]
                self.assertEqual(times, sorted(times))
                for line in lines:
                    key = (line[3], line[4])
                    if line[0] == "do" and line[3] not in once:
                        open_now[key] = open_now.get(key, 0) + 1
                    elif line[0] == "undo":
                        self.assertGreater(open_now.get(key, 0), 0, line)
                        open_now[key] -= 1
                self.assertFalse(any(open_now.values()), open_now)

    def test_all_kinds_have_their_turn(self):
        kinds = {line[3] for line in plan(3, 7, 3600) if line[0] == "do"}
        for kind in ("kill", "pause", "stop", "slow", "narrow", "stall", "cut", "cut-out", "cut-in",
                     "half-open", "refuse", "cable", "clock-far", "disk-full", "lost-ledger", "halves",
                     "kill-all", "slow-far", *MILD):
            self.assertIn(kind, kinds)
        self.assertGreaterEqual(len({line[3] for line in plan(3, 4, 120) if line[0] == "do"}), 10)

    def test_tiers_that_are_missing_are_not_used(self):
        commands = ";".join(line[6] for line in plan(5, 4, 3600, "net") if line[0] in ("do", "undo"))
        for verb in ("cable", "clock", "fill", "forget"):
            self.assertNotIn(verb + " ", commands)
        words = {c.split()[0] for line in plan(5, 4, 3600, "") if line[0] == "do" for c in line[6].split(";")}
        self.assertEqual(words, {"kill", "pause", "stop"})


class Report(unittest.TestCase):
    FIGURES = {"seed": 1, "nodes": 4, "scheme": "sm2kx", "gateway": "leader", "meters": 2,
               "fault_seconds": 10, "duration_s": 20, "bound_s": 5,
               "phases": 2, "tiers": ["process"], "elections": 3, "reports_sent": 9,
               "said_no_room": 0, "said_bad_timestamp": 0,
               "reports_acknowledged": 9, "reports_unacknowledged": 0, "reports_on_ledger": 9,
               "reports_lost": 0, "reports_duplicated": 0, "reports_foreign": 0, "readings_measured": 9,
               "readings_exported": 9, "readings_lost": 0, "readings_duplicated": 0,
               "readings_foreign": 0, "audit_ok": True, "compare_ok": True, "skipped": []}
    EVENTS = ["1000 start", "3000 begin 1 within", "3500 fault 1 kill dc1 SIGKILL", "6000 end 1",
              "6200 recovered 1 200", "10000 begin 2 beyond", "10500 fault 2 kill-all dc1 SIGKILL",
              "18000 end 2", "18900 recovered 2 900", "20000 stop"]

    def report(self, commits, problems=(), events=None, **figures):
        with tempfile.TemporaryDirectory() as folder:
            def write(name, text):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(text)
            write("events.tsv", "".join("\t".join(e.split(" ")) + "\n" for e in events or self.EVENTS))
            write("samples.tsv", "".join(f"{ms}\t{h}\n" for h, ms in enumerate(commits, 1)))
            write("figures.json", json.dumps({**self.FIGURES, **figures}))
            write("problems.txt", "\n".join(problems) + "\n")
            out = os.path.join(folder, "out.json")
            done = subprocess.run([os.path.join(SIM, "soak-report"), folder, "--out", out],
                                  capture_output=True, text=True, check=False)
            with open(out, encoding="utf-8") as file:
                return done.returncode, done.stdout, json.load(file)

    COMMITS = [1000, 2000, 2900, 4000, 6100, 7000, 9900, 10100, 18900, 19500]

    def test_gaps_are_told_by_where_they_are(self):
        status, text, r = self.report(self.COMMITS)
        self.assertEqual((status, r["ok"], r["problems"]), (0, True, []))
        self.assertEqual(r["faults"], {"kill": 1, "kill-all": 1})
        self.assertEqual(r["no_commit_ms_within"], 2000)   # 4000 to 6000
        self.assertEqual(r["no_commit_ms_calm"], 2900)     # 7000 to 9900
        self.assertEqual(r["no_commit_ms_beyond"], 7900)   # 10100 to 18000
        self.assertEqual(r["no_commit_ms_expected"], 2900)
        self.assertEqual(r["recovery_ms_max"], 900)
        self.assertEqual(r["blocks_committed"], 9)
        self.assertIn("All checks passed", text)

    def test_a_gap_that_begins_under_faults_and_ends_in_the_calm_counts_whole(self):
        _, _, r = self.report([1000, 2000, 2900, 4000, 8000, 9900, 18900, 19500])
        self.assertEqual(r["no_commit_ms_expected"], 4000)

    def test_what_is_wrong_fails(self):
        cases = [dict(bound_s=2), dict(reports_unacknowledged=1), dict(reports_on_ledger=8),
                 dict(problems=["the ledgers differ"]), dict(events=["1000 start", "9000 stop"])]
        for case in cases:
            status, text, r = self.report(self.COMMITS, **case)
            self.assertEqual((status, r["ok"]), (1, False), case)
            self.assertIn("FAILED: ", text)


class Compare(unittest.TestCase):
    """A doctored record makes the soak fail: nothing that was lost, doubled or altered passes."""

    # meter, readings of a report, its number
    MEASURED = [f"m-{m},2024-01-01T0{k}:00:00Z,900,1-0:1.8.0.255,kWh,{m}{k}{r}.5,{k}"
                for m in (1, 2) for k in (1, 2, 3) for r in (0, 1)]
    LEDGER = [f"m-{m},{k}" for m in (1, 2) for k in (1, 2, 3)]

    def compare(self, measured=None, exported=None, ledger=None):
        """(exit status of the report, problems, figures)"""
        measured = self.MEASURED if measured is None else measured
        with tempfile.TemporaryDirectory() as folder:
            for name, rows in (("measured.rows", measured),
                               ("exported.rows", reversed(self.MEASURED if exported is None else exported)),
                               ("ledger.reports", self.LEDGER if ledger is None else ledger)):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write("".join(row + "\n" for row in rows))
            done = subprocess.run([os.path.join(SIM, "soak-compare"), folder], capture_output=True,
                                  text=True, check=True)
            with open(os.path.join(folder, "compared"), encoding="utf-8") as file:
                figures = {k: int(v) for k, v in (line.strip().split("=") for line in file)}
        problems = done.stdout.splitlines()
        status, _, r = Report("test_what_is_wrong_fails").report(
            Report.COMMITS, problems, reports_acknowledged=figures["on_ledger"],
            reports_on_ledger=figures["on_ledger"])
        self.assertEqual(r["problems"], problems)
        return status, problems, figures

    def test_records_that_agree_pass(self):
        status, problems, figures = self.compare()
        self.assertEqual((status, problems), (0, []))
        self.assertEqual((figures["measured"], figures["exported"], figures["on_ledger"]), (12, 12, 6))

    def test_a_lost_reading_fails(self):
        for gone in range(len(self.MEASURED)):
            exported = self.MEASURED[:gone] + self.MEASURED[gone + 1:]
            status, problems, figures = self.compare(exported=exported)
            self.assertEqual((status, len(problems), figures["lost"]), (1, 1, 1), gone)

    def test_a_doubled_reading_fails(self):
        status, problems, figures = self.compare(exported=self.MEASURED + self.MEASURED[4:5])
        self.assertEqual(status, 1)
        self.assertEqual((figures["doubled"], figures["foreign"]), (1, 1))
        self.assertIn("1 readings are exported more than once", problems)

    def test_an_altered_reading_fails(self):
        for column, value in ((1, "2024-01-01T09:00:00Z"), (2, "901"), (3, "1-0:2.8.0.255"), (5, "999.5")):
            fields = self.MEASURED[7].split(",")
            fields[column] = value
            exported = self.MEASURED[:7] + [",".join(fields)] + self.MEASURED[8:]
            status, _, figures = self.compare(exported=exported)
            self.assertEqual((status, figures["lost"], figures["foreign"]), (1, 1, 1), column)

    def test_the_ledger_is_compared_too(self):
        for ledger, figure in ((self.LEDGER[1:], "ledger_lost"), (self.LEDGER + ["m-1,2"], "ledger_doubled"),
                               (self.LEDGER + ["m-1,4"], "ledger_foreign")):
            status, problems, figures = self.compare(ledger=ledger)
            self.assertEqual((status, len(problems), figures[figure]), (1, 1, 1), figure)

    def test_nothing_at_all_fails(self):
        status, problems, _ = self.compare(measured=[], exported=[], ledger=[])
        self.assertEqual(status, 1)
        self.assertIn("nothing was measured", problems)


if __name__ == "__main__":
    sys.exit(unittest.main())
