"""bench/cluster.py - a whole network of processes on this machine, and what each of them costs.

Shared by bench-cluster and bench-storm. sim/cluster makes and starts MDMS and DCs; fleets of
meters are started here. Computing time is taken from the kernel's accounts of every thread
(/proc/PID/task/TID/schedstat, nanoseconds), memory is RssAnon. Threads have names: "ami-work" are
the work pool, "ami-store" writes to the disk, "nng:" move bytes, and the process's own is the loop.
"""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent


def programs():
    """Where the built programs are: beside the link in build/bench by which we were called."""
    if "AMI_BIN" in os.environ:
        return pathlib.Path(os.environ["AMI_BIN"]).resolve()
    beside = pathlib.Path(sys.argv[0]).absolute().parent.parent / "bin"
    return beside if (beside / "dc-node").exists() else ROOT / "build" / "bin"


class Failure(Exception):
    """One sentence for the user."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def run(command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Failure(f"{pathlib.Path(command[0]).name} failed: {lines[-1] if lines else 'no word'}")
    return done.stdout


def thread_stage(name, pid, tid):
    if name == "ami-work":
        return "work"
    if name == "ami-store":
        return "store"
    if name.startswith("nng:"):
        return "net"
    return "loop" if pid == tid else "net"


class Process:
    def __init__(self, name, pid, popen=None):
        self.name, self.pid, self.popen = name, pid, popen

    def alive(self):
        if self.popen is not None:
            return self.popen.poll() is None
        try:
            with open(f"/proc/{self.pid}/stat") as file:
                return file.read().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:
            return False

    def cpu_ns(self):
        """Computing time so far, by stage."""
        spent = {"loop": 0, "work": 0, "store": 0, "net": 0}
        try:
            tasks = os.listdir(f"/proc/{self.pid}/task")
        except OSError:
            return spent
        for tid in tasks:
            try:
                with open(f"/proc/{self.pid}/task/{tid}/comm") as file:
                    name = file.read().strip()
                with open(f"/proc/{self.pid}/task/{tid}/schedstat") as file:
                    ns = int(file.read().split()[0])
            except OSError:
                continue  # it ended meanwhile
            spent[thread_stage(name, self.pid, int(tid))] += ns
        return spent

    def rss_anon_kb(self):
        try:
            with open(f"/proc/{self.pid}/status") as file:
                for line in file:
                    if line.startswith("RssAnon:"):
                        return int(line.split()[1])
        except OSError:
            pass
        return 0

    def written_bytes(self):
        try:
            with open(f"/proc/{self.pid}/io") as file:
                for line in file:
                    if line.startswith("write_bytes:"):
                        return int(line.split()[1])
        except OSError:
            pass
        return 0


class Cluster:
    def __init__(self, gateway="leader", scheme="sm2kx", nodes=4, params=(), keep=None):
        self.bin = programs()
        for name in ("dc-node", "dc-cli", "ami-mdms", "ami-meter"):
            if not (self.bin / name).exists():
                raise Failure(f"{self.bin}/{name} is not built")
        self.keep = keep
        self.dir = pathlib.Path(keep or tempfile.mkdtemp(prefix="ami-bench."))
        self.gateway, self.nodes = gateway, nodes
        self.scheme, self.params = scheme, params
        self.base_port = 0
        self.last_problem = ""
        self.fleets = []

    def __enter__(self):
        # A signal ends the run like a failure: what was started is stopped.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: (_ for _ in ()).throw(Failure("interrupted")))
        return self

    def __exit__(self, *_):
        for fleet in self.fleets:
            if fleet.alive():
                fleet.popen.kill()
                fleet.popen.wait()
        if (self.dir / "cluster.env").exists():
            subprocess.run([ROOT / "sim" / "cluster", "down", "--dir", self.dir], env=self.env(),
                           capture_output=True, check=False)
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    def env(self):
        """dc-cli asks as the operator whose credential sim/cluster has made."""
        return dict(os.environ, AMI_BIN=str(self.bin),
                    AMI_CREDENTIAL=str(self.dir / "operator.cred"))

    def up(self):
        command = [ROOT / "sim" / "cluster", "up", "--dir", self.dir, "--nodes", str(self.nodes),
                   "--gateway", self.gateway, "--scheme", self.scheme]
        for param in self.params:
            command += ["--param", param]
        run(command, env=self.env())
        for line in (self.dir / "cluster.env").read_text().splitlines():
            if line.startswith("base_port="):
                self.base_port = int(line.split("=")[1])

    def tool(self, *arguments):
        run([ROOT / "sim" / "cluster", *arguments, "--dir", self.dir], env=self.env())

    def enrol(self, meters, fleets):
        """Each fleet has a directory of its own with its share of the meters. They are on the ledger
        of every DC afterwards: whom a DC does not know yet comes back later and later."""
        known = {dc: s["devices"] for dc, s in self.statuses().items() if s is not None}
        for i in range(fleets):
            share = meters // fleets + (i < meters % fleets)
            codes = self.dir / f"codes{i}.csv"
            run([self.bin / "ami-mdms", "codes", "--dir", self.dir / "mdms", "--meter", "--prefix",
                 f"f{i}-", "--count", share, "--out", codes])
            run([self.bin / "ami-meter", "enrol", "--genesis", self.dir / "genesis.json", "--dir",
                 self.dir / f"fleet{i}", "--mdms", f"tcp://127.0.0.1:{self.base_port}", "--codes",
                 codes])
        until = time.monotonic() + 60 + meters / 1000
        while any(s is None or s["devices"] < known.get(dc, 0) + meters
                  for dc, s in self.statuses().items()):
            if time.monotonic() > until:
                raise Failure("the meters' enrolments are not on every DC's ledger in time")
            time.sleep(0.1)

    def start_fleets(self, fleets, **options):
        """options: of ami-meter fleet, with _ for -."""
        self.fleets = []
        for i in range(fleets):
            stats = self.dir / f"fleet{i}.json"
            stats.unlink(missing_ok=True)
            command = [self.bin / "ami-meter", "fleet", "--genesis", self.dir / "genesis.json",
                       "--dir", self.dir / f"fleet{i}", "--stats", stats, "--quiet",
                       "--log-level", "error"]
            for name, value in options.items():
                command += [f"--{name.replace('_', '-')}", str(value)]
            log = open(self.dir / "log" / f"fleet{i}.log", "a")
            popen = subprocess.Popen([str(c) for c in command], stdout=log, stderr=log,
                                     stdin=subprocess.DEVNULL)
            log.close()
            self.fleets.append(Process(f"fleet{i}", popen.pid, popen))

    def wait_fleets(self, seconds):
        until = time.monotonic() + seconds
        for fleet in self.fleets:
            try:
                fleet.popen.wait(max(0.1, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                fleet.popen.kill()
                fleet.popen.wait()
                raise Failure(f"{fleet.name} did not end in time") from None

    def stop_fleets(self):
        for fleet in self.fleets:
            if fleet.alive():
                fleet.popen.send_signal(signal.SIGTERM)
        self.wait_fleets(30)

    def fleet_stats(self):
        """None while one of them has not written any."""
        all_of_them = []
        for i in range(len(self.fleets)):
            try:
                all_of_them.append(json.loads((self.dir / f"fleet{i}.json").read_text()))
            except (OSError, ValueError):
                return None
        return all_of_them

    def commit_counts(self):
        """Microseconds to belief: how many so far, of all fleets together."""
        counts = {}
        for s in self.fleet_stats() or []:
            for us, count in s["commit_us_counts"]:
                counts[us] = counts.get(us, 0) + count
        return counts

    def status(self, dc):
        done = subprocess.run([self.bin / "dc-cli", "status", "--json", "--node",
                               f"tcp://127.0.0.1:{self.base_port + 10 * dc + 3}"],
                              capture_output=True, text=True, check=False, env=self.env())
        try:
            node = json.loads(done.stdout)["nodes"][0]
            if "height" in node:
                return node
            self.last_problem = str(node.get("error", node))
        except (ValueError, KeyError, IndexError):
            self.last_problem = done.stderr.strip() or "dc-cli says nothing"
        return None

    def statuses(self):
        return {dc: self.status(dc) for dc in range(1, self.nodes + 1)}

    def leader(self, seconds=30):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for dc, s in self.statuses().items():
                if s is not None and s["role"] == "leader":
                    return dc
            time.sleep(0.05)
        raise Failure("no DC leads" + (f"; the last answer: {self.last_problem}"
                                       if self.last_problem else ""))

    def processes(self):
        found = []
        for name in ["mdms"] + [f"dc{i}" for i in range(1, self.nodes + 1)]:
            try:
                pid = int((self.dir / "run" / f"{name}.pid").read_text().split()[0])
            except (OSError, ValueError):
                continue
            process = Process(name, pid)
            if process.alive():
                found.append(process)
        return found + [f for f in self.fleets if f.alive()]

    def mdms_height(self):
        try:
            return json.loads(run([self.bin / "ami-mdms", "status", "--dir", self.dir / "mdms",
                                   "--json"]))["height"]
        except (Failure, ValueError, KeyError):
            return 0

    def level(self, seconds):
        """Waits until every DC and the MDMS stand at one height."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            heights = [s["height"] for s in self.statuses().values() if s is not None]
            if heights and min(heights) == max(heights) and self.mdms_height() >= max(heights):
                return True
            time.sleep(0.1)
        return False


def quantile(counts, share):
    """Of values and how many of each; None: there are none."""
    wanted, seen = sum(counts.values()) * share, 0
    for value in sorted(counts):
        seen += counts[value]
        if seen > wanted or seen == sum(counts.values()):
            return value
    return None


class Sample:
    """What every process had spent at one instant."""

    def __init__(self, cluster):
        self.at = time.monotonic()
        self.cpu, self.memory, self.written = {}, {}, {}
        for p in cluster.processes():
            self.cpu[p.name] = p.cpu_ns()
            self.memory[p.name] = p.rss_anon_kb()
            self.written[p.name] = p.written_bytes()
        self.node = cluster.statuses()

    def committed(self):
        """Transactions that the network has committed, as the most advanced DC counts them."""
        return max((s["counters"]["txs_committed"] for s in self.node.values() if s), default=0)

    def wire(self, port):
        """Bytes through this port of all DCs, both ways; each link has one listening end."""
        return sum(s["ports"][port]["bytes_in"] + s["ports"][port]["bytes_out"]
                   for s in self.node.values() if s)


def machine():
    model = "unknown"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {"model": model, "cores": os.cpu_count(), "load_before": os.getloadavg()[0]}


def free_ports(count):
    """A run of ports that nobody listens on now."""
    import socket
    for _ in range(50):
        base = random.randrange(30000, 40000)
        sockets = []
        try:
            for port in range(base, base + count):
                s = socket.socket()
                sockets.append(s)
                s.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue
        finally:
            for s in sockets:
                s.close()
    raise Failure("no free run of ports")
