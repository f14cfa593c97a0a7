#!/usr/bin/env python3
"""bench-steady: whether a network that is half busy stays as it is for an hour.

Starts four DCs, an MDMS and fleets of meters as processes, and has the meters report by the clock at a
share of what the network can take (measured first, or named). All the while it notes the rate,
the time from a report's first sending to its meter's belief, memory, and what waits where. In the
middle a follower is stopped (SIGSTOP) for a while and has to catch up under load. At the end
everything is delivered: what the meters measured and what the MDMS has must be the same number,
every DC stands at one height; one loses its ledger and fetches it from the others, and a ledger is
audited.

Growth is judged between the second and the last quarter of the time, the pause and the catching up
left out: memory and waiting work may not be more than a fifth above what they were, and not the
median time either. Memory that ends where it began may swing by 16 MB.
"""

import argparse
import json
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster import Cluster, Failure, Sample, machine, quantile, run, say  # noqa: E402

SATURATION_S = 12
WARM_UP = 4
GROWTH = 1.2
SWING_KB = 16 << 10
WAITING = 4000  # transactions: some blocks
BYTES_A_REPORT = 1800  # on the disk, all processes together; 1,750 measured over an hour


def arguments():
    p = argparse.ArgumentParser(prog="bench-steady", description=__doc__.split("\n\n")[0],
                                epilog="Example: build/bench/bench-steady --minutes 10 --json")
    p.add_argument("--json", action="store_true", help="one JSON document")
    p.add_argument("--minutes", type=float, default=60, help="of load (default 60)")
    p.add_argument("--share", type=float, default=50, help="per cent of saturation (default 50)")
    p.add_argument("--rate", type=float, help="reports a second, instead of a share")
    p.add_argument("--pause", type=float, default=120,
                   help="seconds for which a follower is stopped (default 120)")
    p.add_argument("--every", type=float, default=10, help="seconds between two looks (default 10)")
    p.add_argument("--meters", type=int, default=4000, help="in all (default 4000)")
    p.add_argument("--fleets", type=int, default=1, help="processes of meters (default 1)")
    p.add_argument("--connections", type=int, default=2, help="of a fleet to each DC (default 2)")
    p.add_argument("--keep", metavar="DIR", help="leave the network's folder there")
    o = p.parse_args()
    for name in ("minutes", "share", "pause", "every", "meters", "fleets", "connections"):
        if getattr(o, name) <= 0:
            p.error(f"--{name} must be above 0")
    if o.rate is not None and o.rate <= 0:
        p.error("--rate must be above 0")
    if o.pause + 8 * o.every > o.minutes * 30:
        p.error("--pause and eight times --every must fit into half of the time")
    return o


def saturation(cluster, o):
    """Reports a second in a closed loop, like bench-cluster's."""
    cluster.start_fleets(o.fleets, interval=1, backlog=4, connections=o.connections,
                         seconds=WARM_UP + SATURATION_S + 1, drain=120)
    time.sleep(WARM_UP)
    cluster.leader()
    before = Sample(cluster)
    time.sleep(SATURATION_S)
    after = Sample(cluster)
    cluster.wait_fleets(180)
    return (after.committed() - before.committed()) / (after.at - before.at)


def look(cluster, started, paused):
    """What can be seen of the network at one instant."""
    sample = Sample(cluster)
    heights = {n: s["height"] for n, s in sample.node.items() if s}
    top = max(heights.values(), default=0)
    return {"s": time.monotonic() - started, "committed": sample.committed(),
            "height": top, "behind": top - min(heights.values(), default=0),
            "mdms_behind": max(0, top - cluster.mdms_height()),
            "waiting": max((s["waiting_transactions"] for s in sample.node.values() if s),
                           default=0),
            "unacknowledged": sum(s["reports_unacknowledged"]
                                  for s in cluster.fleet_stats() or []),
            "rss_anon_kb": sample.memory, "counts": cluster.commit_counts(), "paused": paused}


def rows(looks):
    """Between two looks: rates and times."""
    out = []
    for a, b in zip(looks, looks[1:]):
        counts = {us: n - a["counts"].get(us, 0) for us, n in b["counts"].items()}
        row = {k: v for k, v in b.items() if k not in ("counts", "committed")}
        row["reports_per_s"] = (b["committed"] - a["committed"]) / (b["s"] - a["s"])
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            us = quantile({u: n for u, n in counts.items() if n > 0}, share)
            row[f"commit_ms_{name}"] = None if us is None else us / 1000
        row["paused"] = a["paused"] or b["paused"]
        out.append(row)
    return out


def stop_and_go(dc, cluster, number):
    for p in cluster.processes():
        if p.name == f"dc{dc}":
            for pid in [p.pid] + children(p.pid):
                subprocess.run(["kill", f"-{number.name[3:]}", str(pid)], check=True)
            return
    raise Failure(f"dc{dc} is not running")


def children(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True,
                           check=False).stdout.split()
    return [int(c) for c in found]


def hold(cluster, o, rate):
    """The hour: looks, and what the pause was like."""
    seconds = o.minutes * 60
    cluster.start_fleets(o.fleets, interval=max(1, round(o.meters * 1000 / rate)),
                         connections=o.connections, seconds=round(seconds) + 2 * WARM_UP, drain=300)
    time.sleep(WARM_UP)
    started = time.monotonic()
    follower = next(d for d in range(cluster.nodes, 0, -1) if d != cluster.leader())
    pause = {"dc": f"dc{follower}", "seconds": o.pause, "behind_blocks": 0, "caught_up_s": None}
    looks, going_on, stopped_at = [], None, None
    try:
        while (now := time.monotonic() - started) < seconds:
            if stopped_at is None and now >= seconds * 3 / 8:
                say(f"bench-steady: dc{follower}, a follower, is stopped")
                stop_and_go(follower, cluster, signal.SIGSTOP)
                stopped_at = now
            if stopped_at is not None and going_on is None and now >= stopped_at + o.pause:
                stop_and_go(follower, cluster, signal.SIGCONT)
                going_on = time.monotonic() - started
            catching_up = stopped_at is not None and pause["caught_up_s"] is None
            seen = look_without(cluster, started, follower if going_on is None and catching_up
                                else None, catching_up)
            if going_on is not None and pause["caught_up_s"] is None:
                pause["behind_blocks"] = max(pause["behind_blocks"], seen["behind"])
                if seen["behind"] <= 2:
                    pause["caught_up_s"] = seen["s"] - going_on
                    say(f"bench-steady: it has caught up after {pause['caught_up_s']:.1f} s")
            looks.append(seen)
            if not all(f.alive() for f in cluster.fleets):
                raise Failure("a fleet ended early: see its log")
            # While it catches up, more often.
            wait = min(o.every, 0.5) if catching_up and going_on is not None else o.every
            time.sleep(max(0, min(wait, seconds - (time.monotonic() - started))))
    finally:
        if stopped_at is not None and going_on is None:
            stop_and_go(follower, cluster, signal.SIGCONT)
    return looks, pause


def look_without(cluster, started, stopped, paused):
    """A stopped DC is not asked: it would not answer."""
    if stopped is None:
        return look(cluster, started, paused)
    asked = cluster.status
    cluster.status = lambda dc: None if dc == stopped else asked(dc)
    try:
        return look(cluster, started, paused)
    finally:
        cluster.status = asked


def judge(all_rows, pause):
    """What grew, as sentences; and medians of the second and the last quarter."""
    quiet = [r for r in all_rows if not r["paused"]]
    end = all_rows[-1]["s"]
    second = [r for r in quiet if end / 4 <= r["s"] < end / 2]
    last = [r for r in quiet if r["s"] >= end * 3 / 4]
    if not second or not last:
        raise Failure("too few looks to judge anything by: a longer time, or shorter --every")

    def middle(rows_, get):
        values = [v for v in map(get, rows_) if v is not None]
        return statistics.median(values) if values else 0

    compared, grew = {}, []

    def compare(name, get, slack, growth=GROWTH):
        a, b = middle(second, get), middle(last, get)
        compared[name] = {"second_quarter": a, "last_quarter": b}
        if b > a * growth + slack:
            grew.append(f"{name} grew from {a:.1f} to {b:.1f}")

    compare("commit_ms_p50", lambda r: r["commit_ms_p50"], 20)
    compare("commit_ms_p99", lambda r: r["commit_ms_p99"], 200)
    compare("waiting", lambda r: r["waiting"], WAITING)
    compare("unacknowledged", lambda r: r["unacknowledged"], WAITING)
    compare("mdms_behind", lambda r: r["mdms_behind"], 8)
    for name in end and all_rows[-1]["rss_anon_kb"]:
        compare(f"rss_anon_kb {name}", lambda r, n=name: r["rss_anon_kb"].get(n), SWING_KB)
    if pause["caught_up_s"] is None:
        grew.append(f"{pause['dc']} never caught up after it had been stopped")
    return compared, grew


def delivered(cluster, o):
    """Everything is at the MDMS, and one ledger is right: figures."""
    cluster.wait_fleets(400)
    stats = cluster.fleet_stats()
    if stats is None:
        raise Failure("a fleet wrote no statistics")
    if not cluster.level(300):
        raise Failure("the DCs and the MDMS did not come to one height")
    mdms = json.loads(run([cluster.bin / "ami-mdms", "status", "--dir", cluster.dir / "mdms",
                           "--json"]))
    out = {"reports_sent": sum(s["reports_sent"] for s in stats),
           "readings_sent": sum(s["readings_sent"] for s in stats),
           "unacknowledged": sum(s["reports_unacknowledged"] for s in stats),
           "reports_arrived": mdms["reports"], "readings_arrived": mdms["readings"]}
    return out


def from_nothing(cluster, dc):
    """Seconds in which a DC that has lost its ledger, and its vote record with it, fetches and checks
    it all, as a new DC does. The others have nothing else to do."""
    height = cluster.status(cluster.leader())["height"]
    cluster.tool("kill", f"dc{dc}")
    shutil.rmtree(cluster.dir / f"dc{dc}" / "ledger")
    started = time.monotonic()
    cluster.tool("start", f"dc{dc}")
    until = started + 1800
    while (cluster.status(dc) or {"height": 0})["height"] < height:
        if time.monotonic() > until:
            raise Failure(f"dc{dc} did not fetch its ledger in time")
        time.sleep(0.1)
    return time.monotonic() - started


def audit(cluster):
    cluster.tool("down")
    d = json.loads(run([cluster.bin / "dc-cli", "audit", "--json", "--genesis",
                        cluster.dir / "genesis.json", "--data", cluster.dir / "dc1" / "ledger"],
                       env=cluster.env()))
    return {k: d[k] for k in ("ok", "blocks", "transactions", "reports", "seconds",
                              "transactions_per_s")}


def table(r):
    print(f"{r['meters']} meters at {r['rate']:.0f} reports/s"
          + (f", {r['share']:.0f} % of {r['saturation_per_s']:.0f}" if r["saturation_per_s"] else "")
          + f", for {r['minutes']:.0f} minutes")
    print(f"\n{'minute':>7} {'reports/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'waiting':>8} "
          f"{'MDMS behind':>12} {'DC behind':>10}  RssAnon MB")
    shown = r["rows"][:: max(1, len(r["rows"]) // 30)]
    for row in shown:
        memory = " ".join(f"{n} {kb / 1024:.0f}" for n, kb in row["rss_anon_kb"].items())
        ms = ["-" if row[f"commit_ms_{q}"] is None else f"{row[f'commit_ms_{q}']:.0f}"
              for q in ("p50", "p99")]
        print(f"{row['s'] / 60:7.1f} {row['reports_per_s']:10.0f} {ms[0]:>8} {ms[1]:>8} "
              f"{row['waiting']:8} {row['mdms_behind']:12} {row['behind']:10}  {memory}"
              + ("  (a follower is away)" if row["paused"] else ""))
    p = r["pause"]
    print(f"\n{p['dc']} stood still for {p['seconds']:.0f} s, was {p['behind_blocks']} blocks behind"
          + ("" if p["caught_up_s"] is None else f" and caught up in {p['caught_up_s']:.1f} s"))
    print(f"{'':24} {'second quarter':>15} {'last quarter':>15}")
    for name, c in r["compared"].items():
        print(f"{name:24} {c['second_quarter']:15.1f} {c['last_quarter']:15.1f}")
    d = r["delivered"]
    print(f"readings                 {d['readings_sent']} measured, {d['readings_arrived']} arrived, "
          f"{d['unacknowledged']} reports without an acknowledgement")
    a = r["audit"]
    print(f"audit of dc1             {a['transactions']} transactions in {a['blocks']} blocks, "
          f"{a['transactions_per_s']:.0f} a second, {'right' if a['ok'] else 'WRONG'}")
    f = r["from_nothing"]
    print(f"{f['dc']} without a ledger     fetched and checked it in {f['seconds']:.1f} s, "
          f"{f['transactions_per_s']:.0f} transactions a second")


def main():
    o = arguments()
    result = {"machine": machine(), "meters": o.meters, "minutes": o.minutes, "share": o.share,
              "saturation_per_s": None}
    with Cluster(keep=o.keep) as cluster:
        say("bench-steady: making a network")
        cluster.up()
        cluster.enrol(o.meters, o.fleets)
        rate = o.rate
        if rate is None:
            say("bench-steady: saturation")
            result["saturation_per_s"] = saturation(cluster, o)
            rate = result["saturation_per_s"] * o.share / 100
        result["rate"] = rate
        need = rate * o.minutes * 60 * BYTES_A_REPORT
        room = shutil.disk_usage(cluster.dir).free
        if need > room:
            raise Failure(f"that would write some {need / 1e9:.0f} GB, and {room / 1e9:.0f} GB are free")
        say(f"bench-steady: {rate:.0f} reports a second for {o.minutes:.0f} minutes")
        looks, result["pause"] = hold(cluster, o, rate)
        result["rows"] = rows(looks)
        result["compared"], grew = judge(result["rows"], result["pause"])
        say("bench-steady: what is left is delivered")
        result["delivered"] = delivered(cluster, o)
        say(f"bench-steady: {result['pause']['dc']} loses its ledger")
        seconds = from_nothing(cluster, int(result["pause"]["dc"][2:]))
        say("bench-steady: audit")
        result["audit"] = audit(cluster)
        result["from_nothing"] = {"dc": result["pause"]["dc"], "seconds": seconds,
                                  "transactions_per_s":
                                  result["audit"]["transactions"] / seconds}
    if o.json:
        print(json.dumps(result, indent=2))
    else:
        table(result)
    d = result["delivered"]
    if d["unacknowledged"] or d["readings_arrived"] != d["readings_sent"]:
        grew.append(f"{d['readings_sent']} readings were measured, {d['readings_arrived']} arrived")
    if grew:
        raise Failure("; ".join(grew))


if __name__ == "__main__":
    try:
        main()
    except Failure as problem:
        print(f"bench-steady: {problem}", file=sys.stderr)
        sys.exit(1)
