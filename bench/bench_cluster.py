#!/usr/bin/env python3
"""bench-cluster: how many signed reports a second a whole network on this machine commits.

Starts four DCs, an MDMS and fleets of meters as processes. First the fleets send as fast as they
are acknowledged (a closed loop: each meter has a few reports under way), with one reading in a
report; that rate is the saturation. Then they send at 25, 50, 75 and 100 % of it by the clock, for
the latency from a report's first sending until its meter has checked the proof. Then a day's
profile in a report, for readings a second. Then three times the saturation by the clock, to see how
far the rate holds and how long queues get: first with meters that have room for so many reports and
measure no more until one is acknowledged; then with meters that sign and store whatever is due,
which takes its share of the same two cores; then what could not be delivered meanwhile, all at
once, and that nothing of it is lost. With --etcd a four-node etcd on the same machine in the same
run, as fast as wrk and `etcdctl check perf` can drive it.

Times are shares of two cores that everything here shares with whatever else runs; the table of
microseconds is computing time, which bears that better.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cluster import (Cluster, Failure, Sample, free_ports, machine, quantile, run,  # noqa: E402
                     say)

TARGET_REPORTS, TARGET_READINGS = 20000, 500000


def arguments():
    p = argparse.ArgumentParser(prog="bench-cluster", description=__doc__.split("\n\n")[0],
                                epilog="Example: build/bench/bench-cluster --json --etcd")
    p.add_argument("--json", action="store_true", help="one JSON document")
    p.add_argument("--etcd", action="store_true", help="compare with a four-node etcd")
    p.add_argument("--seconds", type=int, default=12, help="measured in each phase (default 12)")
    p.add_argument("--meters", type=int, default=4000, help="in all (default 4000)")
    p.add_argument("--fleets", type=int, default=1, help="processes of meters (default 1)")
    p.add_argument("--connections", type=int, default=2, help="of a fleet to each DC (default 2)")
    p.add_argument("--backlog", type=int, default=4,
                   help="reports of a meter under way in the closed loop (default 4)")
    p.add_argument("--batch", type=int, default=48, help="half hours in a day's report (default 48)")
    p.add_argument("--gateway", choices=["leader", "home"], default="leader")
    p.add_argument("--param", action="append", default=[], metavar="N=V",
                   help="a parameter of the genesis file")
    p.add_argument("--quick", action="store_true", help="saturation with one reading only")
    p.add_argument("--keep", metavar="DIR", help="leave the network's folder there")
    o = p.parse_args()
    for name in ("seconds", "meters", "fleets", "connections", "backlog", "batch"):
        if getattr(o, name) < 1:
            p.error(f"--{name} must be at least 1")
    return o


# --- one phase -----------------------------------------------------------------------------------

WARM_UP = 4


def stages(before, after, leader, reports):
    """Microseconds of computing time per report, by what it was spent on."""
    def spent(name, stage):
        if name not in before.cpu or name not in after.cpu:
            return 0
        return (after.cpu[name][stage] - before.cpu[name][stage]) / 1000 / reports
    out = {}
    followers = [n for n in after.cpu if n.startswith("dc") and n != f"dc{leader}"]
    fleets = [n for n in after.cpu if n.startswith("fleet")]
    kinds = ("loop", "work", "store", "net")
    out["meter"] = {k: sum(spent(n, k) for n in fleets) for k in kinds}
    out["leader"] = {k: spent(f"dc{leader}", k) for k in kinds}
    out["follower"] = {k: sum(spent(n, k) for n in followers) / max(1, len(followers))
                       for k in kinds}
    out["mdms"] = {k: spent("mdms", k) for k in kinds}
    for row in out.values():
        row["all"] = sum(row.values())
    return out


# Next to nothing new is measured: what waits in the outboxes, made and signed, is delivered.
REST = 0
# Reports that a meter has room for in overload: more than may be under way at once, so that what
# pushes back is the network, not the meter.
OVERLOAD_ROOM = 32
OVERLOAD_TARGET = 0.9  # of the rate at saturation


def phase(cluster, o, batch, offered, drains=True, room=None):
    """offered: reports a second by the clock, None for the closed loop, or REST. drains: everything
    is acknowledged at the end. room: reports in a meter's outbox, without a bound if None."""
    options = {"batch": batch, "seconds": WARM_UP + o.seconds + 1, "warm_up": WARM_UP,
               "drain": 120 if drains else 1, "connections": o.connections}
    if offered is None:
        options.update(interval=1, backlog=o.backlog)
    elif offered == REST:
        options.update(interval=86400000)
    else:
        options.update(interval=max(1, round(o.meters * 1000 / offered)))
    if room is not None:
        options.update(backlog=room)
    cluster.start_fleets(o.fleets, **options)
    time.sleep(WARM_UP)
    leader = cluster.leader()
    before = Sample(cluster)
    time.sleep(o.seconds)
    after = Sample(cluster)
    peak = {n: max(after.memory[n], before.memory.get(n, 0)) for n in after.memory}
    cluster.wait_fleets(180)
    stats = cluster.fleet_stats()
    if stats is None:
        raise Failure("a fleet wrote no statistics")
    left = sum(s["reports_unacknowledged"] for s in stats)
    reports = after.committed() - before.committed()
    if reports <= 0:
        raise Failure("nothing was committed")
    wall = after.at - before.at
    out = {
        "offered_per_s": offered, "readings_in_report": batch, "seconds": wall,
        "reports_per_s": reports / wall, "readings_per_s": reports * batch / wall,
        "commit_ms": {name: (quantile(cluster.commit_counts(), share) or 0) / 1000
                      for name, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))},
        "unacknowledged": left, "nacks": sum(s["nacks"] for s in stats),
        "agreements": sum(s["agreements"] for s in stats),
        "cpu_us_per_report": stages(before, after, leader, reports),
        "rss_anon_kb": peak,
        "wire_bytes_per_report": {p: (after.wire(p) - before.wire(p)) / reports
                                  for p in ("peers", "meters")},
        "disk_bytes_per_report": {n: (after.written[n] - before.written.get(n, 0)) / reports
                                  for n in after.written},
        "waiting_transactions": max((s["waiting_transactions"] for s in after.node.values() if s),
                                    default=0),
        "elections": sum(a["counters"]["terms_seen"] - b["counters"]["terms_seen"]
                         for a, b in zip(after.node.values(), before.node.values()) if a and b),
    }
    out["cpu_cores_used"] = sum(
        sum(after.cpu[n].values()) - sum(before.cpu.get(n, after.cpu[n]).values())
        for n in after.cpu) / 1e9 / wall
    cpu = sum(sum(after.cpu[n].values()) - sum(before.cpu.get(n, after.cpu[n]).values())
              for n in after.cpu)
    out["cpu_us_per_report_all"] = cpu / 1000 / reports
    # What two idle cores would do with this much computing time per report.
    out["reports_per_s_by_cpu"] = 2e6 / out["cpu_us_per_report_all"]
    return out


def per_core_left(row, cores):
    """Reports a second for each core, used or idle, that the meters' own computing leaves: in
    overload they sign and store several reports for each that is delivered, on the same cores."""
    meters = row["cpu_us_per_report"]["meter"]["all"] * row["reports_per_s"] / 1e6
    return row["reports_per_s"] / (cores - meters)


# --- etcd ----------------------------------------------------------------------------------------

# Keys and values travel in base64: 12 random bytes, more or less, and 256 bytes.
WRK_SCRIPT = """
local value = string.rep("A", 342) .. "=="
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  local key = string.format("%016d", math.random(1, 1000000000))
  return wrk.format(nil, "/v3/kv/put", nil,
                    '{"key":"' .. key .. '","value":"' .. value .. '"}')
end
"""


def etcd_version():
    for name in ("etcd", "etcdctl", "wrk"):
        if shutil.which(name) is None:
            raise Failure(f"--etcd needs {name}: install etcd-server, etcd-client and wrk")
    return run(["etcd", "--version"]).splitlines()[0].split(":")[1].strip()


def measure_etcd(seconds):
    """Synced puts of 256 bytes a second with the best of the drivers."""
    out = {"version": etcd_version(), "nodes": 4, "wrk": {}}
    folder = pathlib.Path(tempfile.mkdtemp(prefix="ami-etcd."))
    base = free_ports(8)
    members = ",".join(f"e{i}=http://127.0.0.1:{base + 2 * i + 1}" for i in range(4))
    started = []
    try:
        for i in range(4):
            log = open(folder / f"e{i}.log", "w")
            started.append(subprocess.Popen(
                ["etcd", "--name", f"e{i}", "--data-dir", str(folder / f"e{i}"),
                 "--listen-client-urls", f"http://127.0.0.1:{base + 2 * i}",
                 "--advertise-client-urls", f"http://127.0.0.1:{base + 2 * i}",
                 "--listen-peer-urls", f"http://127.0.0.1:{base + 2 * i + 1}",
                 "--initial-advertise-peer-urls", f"http://127.0.0.1:{base + 2 * i + 1}",
                 "--initial-cluster", members, "--initial-cluster-state", "new",
                 "--log-level", "error", "--quota-backend-bytes", str(8 << 30)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL))
            log.close()
        ends = ",".join(f"http://127.0.0.1:{base + 2 * i}" for i in range(4))
        env = dict(os.environ, ETCDCTL_API="3")
        until = time.monotonic() + 30
        while subprocess.run(["etcdctl", "--endpoints", ends, "endpoint", "health"], env=env,
                             capture_output=True, check=False).returncode != 0:
            if time.monotonic() > until:
                raise Failure("etcd did not start")
            time.sleep(0.2)
        status = run(["etcdctl", "--endpoints", ends, "endpoint", "status", "-w", "json"], env=env)
        leader = next(s["Endpoint"] for s in json.loads(status)
                      if s["Status"]["leader"] == s["Status"]["header"]["member_id"])
        script = folder / "put.lua"
        script.write_text(WRK_SCRIPT)
        for connections in (64, 128, 256, 512, 1024):
            text = run(["wrk", "-t2", f"-c{connections}", f"-d{seconds}s", "-s", script, leader])
            failed = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
            if failed:
                raise Failure(f"etcd refused {failed.group(1)} of wrk's puts")
            out["wrk"][str(connections)] = float(re.search(r"Requests/sec:\s+([\d.]+)",
                                                           text).group(1))
        check = subprocess.run(["etcdctl", "--endpoints", ends, "check", "perf", "--load=xl"],
                               env=env, capture_output=True, text=True, check=False, timeout=120)
        found = re.search(r"Throughput(?: is| too low:)? (\d+) writes/s",
                          check.stdout + check.stderr)
        out["check_perf_xl"] = float(found.group(1)) if found else None
        out["puts_per_s"] = max(list(out["wrk"].values()) + [out["check_perf_xl"] or 0])
        return out
    finally:
        for p in started:
            p.kill()
            p.wait()
        shutil.rmtree(folder, ignore_errors=True)


# --- what is printed -----------------------------------------------------------------------------

def table(o, result):
    s = result["saturation"]
    print(f"{o.meters} meters in {o.fleets} process(es), {o.connections} connections to each DC, "
          f"gateway {o.gateway}")
    print(f"saturation, 1 reading a report: {s['reports_per_s']:9.0f} reports/s "
          f"(target {TARGET_REPORTS}), {s['cpu_cores_used']:.2f} cores, "
          f"{s['cpu_us_per_report_all']:.1f} us of computing a report "
          f"= {s['reports_per_s_by_cpu']:.0f}/s on two idle cores")
    if "day" in result:
        d = result["day"]
        print(f"saturation, {o.batch} readings:      {d['reports_per_s']:9.0f} reports/s, "
              f"{d['readings_per_s']:.0f} readings/s (target {TARGET_READINGS}), "
              f"{d['cpu_us_per_report_all']:.1f} us a report")
    if result["load"]:
        print(f"\n{'load':>6} {'offered/s':>10} {'reports/s':>10} {'p50 ms':>9} {'p99 ms':>9} "
              f"{'p999 ms':>9} {'us/report':>10}")
        for share, row in result["load"].items():
            c = row["commit_ms"]
            print(f"{share:>5}% {row['offered_per_s']:10.0f} {row['reports_per_s']:10.0f} "
                  f"{c['p50']:9.1f} {c['p99']:9.1f} {c['p999']:9.1f} "
                  f"{row['cpu_us_per_report_all']:10.1f}")
    if "overload" in result:
        v, w = result["overload"], result["overload_unbounded"]
        print(f"\nthree times saturation, {OVERLOAD_ROOM} reports in a meter: "
              f"{v['reports_per_s']:.0f} reports/s are committed, {result['overload_ratio']:.2f} "
              f"of it (target {OVERLOAD_TARGET:.2f}); p99 {v['commit_ms']['p99']:.0f} ms and p999 "
              f"{v['commit_ms']['p999']:.0f} ms from the first sending, at most "
              f"{v['waiting_transactions']} transactions wait, {v['nacks']} refusals, no DC above "
              f"{max(kb for n, kb in v['rss_anon_kb'].items() if n.startswith('dc')) / 1024:.0f} MB")
        print(f"the same, and meters sign and store whatever is due: {w['reports_per_s']:.0f} "
              f"reports/s, {result['overload_unbounded_ratio']:.2f} of it, or "
              f"{result['overload_unbounded_ratio_left']:.2f} on what the meters' own computing "
              f"leaves; p99 {w['commit_ms']['p99']:.0f} ms, {w['nacks']} refusals")
        print(f"then what is left, {w['unacknowledged']} reports at once: "
              f"{result['rest']['reports_per_s']:.0f} reports/s, {result['rest_ratio']:.2f} of "
              f"saturation")
    for name in ("saturation", "day"):
        if name not in result:
            continue
        row = result[name]
        print(f"\n{name}: microseconds of computing a report\n"
              f"{'':>10} {'loop':>8} {'work':>8} {'store':>8} {'net':>8} {'all':>8}")
        for who, cost in row["cpu_us_per_report"].items():
            print(f"{who:>10} " + " ".join(f"{cost[k]:8.2f}"
                                           for k in ("loop", "work", "store", "net", "all")))
        print("bytes a report: wire " + ", ".join(
            f"{k} {v:.0f}" for k, v in row["wire_bytes_per_report"].items()) + "; disk " +
            ", ".join(f"{k} {v:.0f}" for k, v in row["disk_bytes_per_report"].items()))
        print("memory (RssAnon), MB: " + ", ".join(
            f"{k} {v / 1024:.0f}" for k, v in row["rss_anon_kb"].items()))
    if "etcd" in result:
        e = result["etcd"]
        print(f"\netcd {e['version']}, 4 nodes: {e['puts_per_s']:.0f} puts/s (wrk " +
              ", ".join(f"{k}: {v:.0f}" for k, v in e["wrk"].items()) +
              f"; check perf xl: {e['check_perf_xl']}); ratio {result['ratio']:.2f}")


def main():
    o = arguments()
    if o.etcd:
        etcd_version()
    result = {"machine": machine(), "meters": o.meters, "fleets": o.fleets,
              "connections": o.connections, "gateway": o.gateway, "params": o.param}
    with Cluster(gateway=o.gateway, params=o.param, keep=o.keep) as cluster:
        say("bench-cluster: making a network")
        cluster.up()
        cluster.enrol(o.meters, o.fleets)
        say("bench-cluster: saturation")
        s = result["saturation"] = phase(cluster, o, 1, None)
        result["reports_per_s"] = s["reports_per_s"]
        result["target_reports_per_s"] = TARGET_REPORTS
        result["load"] = {}
        for share in () if o.quick else (25, 50, 75, 100):
            say(f"bench-cluster: {share} % of it")
            result["load"][str(share)] = phase(cluster, o, 1, s["reports_per_s"] * share / 100)
        if not o.quick:
            say(f"bench-cluster: {o.batch} readings a report")
            result["day"] = phase(cluster, o, o.batch, None)
            result["readings_per_s"] = result["day"]["readings_per_s"]
            result["target_readings_per_s"] = TARGET_READINGS
            say("bench-cluster: three times that rate of reports")
            three = s["reports_per_s"] * 3
            v = result["overload"] = phase(cluster, o, 1, three, room=OVERLOAD_ROOM)
            result["overload_ratio"] = v["reports_per_s"] / s["reports_per_s"]
            result["target_overload_ratio"] = OVERLOAD_TARGET
            say("bench-cluster: the same, all that is due is signed and stored")
            w = result["overload_unbounded"] = phase(cluster, o, 1, three, drains=False)
            result["overload_unbounded_ratio"] = w["reports_per_s"] / s["reports_per_s"]
            cores = result["machine"]["cores"]
            result["overload_unbounded_ratio_left"] = (per_core_left(w, cores) /
                                                       per_core_left(s, cores))
            say("bench-cluster: what is left of it")
            result["rest"] = phase(cluster, o, 1, REST)
            result["rest_ratio"] = result["rest"]["reports_per_s"] / s["reports_per_s"]
        result["unacknowledged"] = result.get("rest", s)["unacknowledged"]
        if not cluster.level(60):
            raise Failure("the DCs and the MDMS did not come to one height")
    if o.etcd:
        say("bench-cluster: etcd")
        result["etcd"] = measure_etcd(max(5, o.seconds // 2))
        result["etcd_puts_per_s"] = result["etcd"]["puts_per_s"]
        result["ratio"] = result["reports_per_s"] / result["etcd_puts_per_s"]
    lost = result["unacknowledged"]
    if o.json:
        print(json.dumps(result, indent=2))
    else:
        table(o, result)
    if lost:
        raise Failure(f"{lost} reports were never acknowledged")


if __name__ == "__main__":
    try:
        main()
    except Failure as problem:
        print(f"bench-cluster: {problem}", file=sys.stderr)
        sys.exit(1)
