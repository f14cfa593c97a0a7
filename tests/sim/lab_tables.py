#!/usr/bin/env python3
"""The laboratory's measured tables and the report. Usage: lab_tables.py AMI-SIM tables|report

tables   two runs with one seed give one document but for columns that a clock measured; every
         number says where it comes from; what the paper reports is what the paper reports
         and the curves of `scale` have their points
report   the page is well-formed and stands alone, every document has a figure in it, labels lie
         inside their plots, axes are named, and bad input is one sentence
"""
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

SIM, PART = sys.argv[1], sys.argv[2]
TABLES = ["table4", "table5", "pfs", "election", "links", "links-crypto", "gateways", "scale"]


def run(*words):
    return subprocess.run([SIM, *words], capture_output=True, text=True, timeout=300)


def check(good, what):
    if not good:
        sys.exit(f"lab_tables.py: {what}")


def document(name, *more):
    r = run("lab", name, "--tiny", "--json", "--scheme", "sm2kx", *more)
    check(r.returncode == 0, f"{name}: exit status {r.returncode}: {r.stderr}{r.stdout[:300]}")
    return json.loads(r.stdout)


def without_clocks(d):
    """What has to be the same; notes may quote times, and cells that name a version do not change."""
    out = json.loads(json.dumps(d))
    for table in out["tables"].values():
        clocks = {c["name"] for c in table["columns"] if c["clock"]}
        for row in table["rows"]:
            for name in clocks:
                row[name] = None
    return out


def tables():
    clocked = set()
    for name in TABLES:
        one, two = document(name, "--seed", "3"), document(name, "--seed", "3")
        check(one["failed"] is None, f"{name}: {one['failed']}")
        check(without_clocks(one) == without_clocks(two), f"{name}: two runs differ")
        check(one["command"] == f"ami-sim lab {name} --seed 3 --scheme sm2kx --tiny", one["command"])
        check(one["machine"] and one["sm2_path"] and one["figures"], f"{name}: machine, path, figures")
        for key, table in one["tables"].items():
            check(table["rows"], f"{name}: {key} is empty")
            for c in table["columns"]:
                numbers = [r[c["name"]] for r in table["rows"] if isinstance(r[c["name"]], (int, float))]
                check(not numbers or c["source"] != "none", f"{name}: {key}.{c['name']} has no source")
                check(all(n == n and abs(n) != float("inf") for n in numbers), f"{key}.{c['name']}")
                if c["clock"]:
                    clocked.add(name)
    check(clocked == {"table4", "pfs", "links-crypto", "scale"}, f"clocks in {clocked}")
    # Virtual time depends on the seed; the seed is what it depends on.
    other = document("election", "--seed", "4")
    check(without_clocks(other)["tables"] != without_clocks(document("election", "--seed", "3"))["tables"],
          "election does not depend on the seed")
    reported()
    scale()


def rising(values):
    return all(a < b for a, b in zip(values, values[1:]))


def scale():
    """Every curve has its points, and what cannot depend on the machine comes out as it must."""
    listed = run("lab", "scale", "--list").stdout.split()
    check(listed == ["DCs", "busy", "meters", "block", "delay", "readings", "networks"], f"sweeps: {listed}")
    d = document("scale", "--seed", "5")
    of = {s: [r for r in d["tables"]["scale"]["rows"] if r["sweep"] == s] for s in listed[:-1]}
    for sweep, points in of.items():
        check(len(points) == 2, f"{sweep}: {len(points)} points")
        for r in points:
            check(r["reports"] > 0 and 1 <= r["per_block"] <= r["block_max"], f"{sweep}: reports in {r}")
            check(0 < r["latency"] <= r["latency_p99"], f"{sweep}: latency in {r}")
            check(abs(r["capacity"] * r["dc_time"] / 1e6 - 1) < 1e-9, f"{sweep}: the computed capacity")
            check(abs(r["report_bytes"] * r["per_block"] / r["block_bytes"] / 1e3 - 1) < 1e-9, f"{sweep}: bytes")
            # The meter's signature, and the gateway's but on the gateway itself; at the edges of the
            # time that is looked at a block may be counted on one side only.
            check(r["verified"] > 1.5, f"{sweep}: a DC verifies {r['verified']} for a report")
    for sweep in ("DCs", "busy"):
        for name in ("dcs", "frames", "block_bytes", "report_bytes"):
            check(rising([r[name] for r in of[sweep]]), f"{sweep}: {name} does not rise with the DCs")
    check([r["block_max"] for r in of["block"]] == [4, 64], "block: what is varied")
    check(rising([r["reports"] for r in of["block"]]), "block: larger blocks carry no more")
    check(of["block"][0]["reports"] < of["block"][0]["offered"], "block: 4 reports a block are enough")
    check(rising([r["latency"] for r in of["delay"]]) and rising([r["delay"] for r in of["delay"]]), "delay")
    check(rising([-r["reading_bytes"] for r in of["readings"]]), "readings: a longer report costs more")
    scale_meters(d["tables"]["meters"]["rows"])
    networks = d["tables"]["networks"]["rows"]
    check([(r["networks"], r["dcs"], r["meters"]) for r in networks] == [(1, 4, 62), (2, 8, 124)], "networks")
    check(rising([r["frames"] for r in networks]) and rising([r["blocks"] for r in networks]), "networks: frames")
    for f in d["figures"]:
        units = {c["name"]: c["unit"] for c in d["tables"][f["table"]]["columns"]}
        one = len(f["y"]) == 1
        check(one or f["y_title"], f"{f['name']}: nothing names its axis")
        check(len({units[y] for y in f["y"]}) == 1 or re.search(" per | a ", f["y_title"]), f"{f['name']}: units")
    plotted = {(f.get("only") or {"sweep": f["table"]})["sweep"] for f in d["figures"]}
    check(plotted == set(listed), f"plotted: {plotted}")
    one = document("scale", "delay", "--seed", "5")
    check(list(one["tables"]) == ["scale"] and {f["only"]["sweep"] for f in one["figures"]} == {"delay"}, "one sweep")
    check(list(document("scale", "networks", "--seed", "5")["tables"]) == ["networks"], "networks alone")
    r = run("lab", "scale", "sizes", "--tiny")
    check(r.returncode == 2 and "sizes" in r.stderr, f"a sweep that there is not: {r.stderr}")


def scale_meters(points):
    check([r["meters"] for r in points] == [30, 60], "meters: points")
    for r in points:
        check(0 < r["enrolled"] and 0 < r["in_session"], f"meters: {r}")
        check(0 < r["leads"] <= r["half"] <= r["nearly_all"] <= r["all"], f"meters: the leader's death in {r}")
        check(r["agreements"] >= r["meters"] and r["made"] > 0 and r["lost"] == 0, f"meters: {r}")
        check(r["with_leader"] == 100, f"meters: few meters wait for nobody, in {r}")
        check(r["keys"] > 0 and r["agree_time"] > 0, f"meters: costs in {r}")
    # A sanitizer's allocator does not tell how much is allocated.
    check(all(r["dc_memory"] is None or r["dc_memory"] > 1 for r in points), "meters: memory of a DC")


def rows(d, table, key):
    return {r[key]: r for r in d["tables"][table]["rows"]}


def reported():
    """Figures as the paper and the seed print them (vectors.md)."""
    t4, t5, pfs = document("table4"), document("table5"), document("pfs")
    seconds = {"published": (3.46, 13.77), "NIKE+": (3.46, 13.76), "Sha": (0.05, 30.92),
               "SKM+": (10.29, 16.01), "A-Mood": (8.98, 14.99), "LAKA": (10.37, 10.38)}
    got = rows(t4, "reported", "scheme")
    check({s: (r["meter"], r["dc"]) for s, r in got.items()} == seconds, "table 4 as reported")
    bits = {"published": (4, 8, 1184), "NIKE+": (3, 6, 992), "Sha": (8, 13, 3328), "SKM+": (3, 4, 986),
            "A-Mood": (4, 16, 4096), "LAKA": (2, 12, 2368)}
    got = rows(t5, "reported", "scheme")
    check({s: (r["messages"], r["fields"], r["bits"]) for s, r in got.items()} == bits, "table 5 as reported")
    got = rows(pfs, "reported", "way")
    check((got["agreement"]["time"], got["generator"]["time"]) == (5580, 122), "pfs as reported")
    crypto = document("links-crypto")
    got = rows(crypto, "reported_links", "link")
    check([r["total"] for r in got.values()] == [1439, 2576, 5796], "links as charted")
    got = rows(crypto, "certificates", "way")
    check((got["CFL"]["reported_sign"], got["CFL"]["reported_verify"]) == (1772, 1204), "CFL as reported")
    got = rows(crypto, "reported_packets", "bytes")
    check({b: r["rate"] for b, r in got.items()} == {64: 106.1, 1420: 578.8}, "HMAC-SM3 as reported")
    links_crypto(crypto)
    # The model: published counts times our unit times.
    unit = {u: r["time"] for u, r in rows(t4, "units", "unit").items()}
    model = rows(t4, "model", "scheme")
    want = 2 * unit["T_bp"] + unit["T_pm"] + unit["T_rn"]
    check(abs(model["SKM+"]["dc"] - want) < 1e-6 * want, "the model of SKM+")
    want = 3 * unit["T_pm"] + 4 * unit["T_hf"] + 2 * unit["T_HM"] + 2 * unit["T_se"]
    check(abs(model["LAKA"]["meter"] - want) < 1e-6 * want, "the model of LAKA")
    # Counts of the whole are those of its steps (test_lab_tables.c): 7 products with the DC's half.
    ops = {(r["side"], r["operation"]): r["count"] for r in t4["tables"]["operations"]["rows"]}
    check(ops[("DC", "k P")] == 1 and ops[("meter", "W + lambda P_pub")] == 1, "operations of sm2kx")


def links_crypto(d):
    """Every link, credential, record suite and packet size is there, and its columns fit together."""
    links = ["SM2, implicit", "SM2, implicit, member", "SM2, CFL", "SM2, X.509", "ECDHE-ECDSA", "ECDHE-RSA"]
    for table in ("handshakes", "transfers"):
        got = rows(d, table, "link")
        check(list(got) == links, f"{table}: {list(got)}")
        for name, suite in (("ECDHE-ECDSA", "ECDHE-ECDSA-AES256-GCM-SHA384"), ("SM2, CFL", "SM2-SM4-GCM-SM3")):
            check(got[name]["suite"] == suite, f"{table}: the suite of {name}")
        for link, r in got.items():
            check(0 < r["client"] and 0 < r["server"] and 0 < r["least"] <= r["total"], f"{table}: {link}")
            check(abs(r["ecdsa"] * r["total"] / got["ECDHE-ECDSA"]["total"] - 1) < 1e-9, f"{table}: {link}")
            check(abs(r["rsa"] * r["total"] / got["ECDHE-RSA"]["total"] - 1) < 1e-9, f"{table}: {link}")
    suites = {"SM4-GCM", "SM4-CTR, HMAC-SM3", "AES256-GCM (TLS)"}
    got = {(r["bytes"], r["suite"]): r for r in d["tables"]["records"]["rows"]}
    check({s for _, s in got} == suites and len(got) == 18, f"records: {sorted(got)}")
    check(all(abs(r["rate"] * r["total"] / r["bytes"] - 1) < 1e-9 for r in got.values()), "records: the rate")
    packets = d["tables"]["packets"]["rows"]
    check({r["bytes"] for r in packets} == {64, 128, 256, 512, 1024, 1420}, "packets: sizes")
    check({r["suite"].split(" (")[0] for r in packets} ==
          {f"{c}-CBC, HMAC-{m}" for c in ("AES", "SM4") for m in ("SM3", "SHA1")}, "packets: suites")
    check(all(r["digest"] == "the same" for r in d["tables"]["chunks"]["rows"]), "SM3 in chunks")
    check({1, 63, 64, 65} < {r["chunk"] for r in d["tables"]["chunks"]["rows"]}, "SM3: chunks")


VOID = {"meta", "br", "link"}


class Page(html.parser.HTMLParser):
    """Tags must match; collects what the page is made of."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.ids, self.links, self.figures, self.svgs = [], [], [], [], []
        self.texts, self.at, self.cells = [], None, 0

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if "id" in a:
            check(a["id"] not in self.ids, f"id {a['id']} twice")
            self.ids.append(a["id"])
        for name in ("src", "href", "xlink:href", "action", "data"):
            if name in a:
                self.links.append(a[name])
        check(tag not in {"script", "iframe", "img", "object", "embed", "link"}, f"<{tag}> in the page")
        check(not any(n.startswith("on") for n in a), f"an event handler in <{tag}>")
        if tag == "figure":
            self.figures.append(a["id"])
        if tag == "svg":
            self.svgs.append([float(v) for v in a["viewbox"].split()])
        if tag == "g" and "transform" in a and "text-anchor" in a:
            m = re.match(r"translate\(([-\d.]+),([-\d.]+)\)( rotate\(([-\d.]+)\))?", a["transform"])
            self.at = (float(m[1]), float(m[2]), float(m[4] or 0), a["text-anchor"])
        self.cells += tag == "td"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        check(self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}>")
        self.open.pop()

    def handle_data(self, data):
        if "svg" in self.open and self.open[-1] == "text" and self.at and data.strip():
            self.texts.append((len(self.svgs) - 1, self.at, data.strip()))


def inside(page):
    """Labels lie within their plot, by the width of a common sans-serif font."""
    for svg, (x, y, angle, anchor), text in page.texts:
        _, _, width, height = page.svgs[svg]
        long = 7.2 * len(text)
        begin = {"start": 0, "middle": long / 2, "end": long}[anchor]
        if angle in (0, 30):
            check(x - begin > -4 and x - begin + long * (0.87 if angle else 1) < width + 8,
                  f"{text!r} is clipped: {x} of {width}")
        if angle == 30:
            check(y + long / 2 < height + 8, f"{text!r} is clipped: {y} of {height}")
        check(0 <= y <= height + 2, f"{text!r} is outside: {y} of {height}")


def titled(column):
    return column["title"] + (f", {column['unit']}" if column["unit"] else "")


def axes(directory, page):
    """Every figure of `scale` is in the page, with both axes named."""
    with open(os.path.join(directory, "scale.json"), encoding="utf-8") as f:
        d = json.load(f)
    check(len(d["figures"]) > 20, "figures of scale")
    for f in d["figures"]:
        at = page.figures.index(f"scale-{f['name']}-figure")
        columns = {c["name"]: c for c in d["tables"][f["table"]]["columns"]}
        texts = [text for svg, _, text in page.texts if svg == at]
        check(titled(columns[f["x"]]) in texts, f"{f['name']}: x axis among {texts}")
        y = f["y_title"] or titled(columns[f["y"][0]])
        check(any(t.startswith(y) for t in texts), f"{f['name']}: y axis {y} among {texts}")
        shown = [r for r in d["tables"][f["table"]]["rows"] if (f.get("only") or r).items() <= r.items()]
        for name in f["y"] if len(f["y"]) > 1 else []:
            drawn = any(r[name] is not None and (r[name] > 0 or not f["y_log"]) for r in shown)
            check((titled(columns[name]) in texts) == drawn, f"{f['name']}: {name} among {texts}")


ODD = {
    "experiment": "odd", "summary": "<script>alert(1)</script> & \"quotes\"", "command": "ami-sim lab odd",
    "seed": 1, "machine": "a <b>", "sm2_path": "portable", "failed": "one & two", "notes": ["3 < 4"],
    "figures": [
        {"name": "bars", "title": "zero & nothing", "kind": "bars", "table": "t", "x": "who", "y": ["n"],
         "series": None, "x_log": False, "y_log": True},
        {"name": "lines", "title": "one point", "kind": "lines", "table": "t", "x": "n", "y": ["n"],
         "series": None, "x_log": True, "y_log": True, "only": {"who": "b \"'\\ <c>"}},
        {"name": "none", "title": "nothing to draw", "kind": "lines", "table": "t", "x": "m", "y": ["k", "m"],
         "y_title": "so far", "series": None, "x_log": False, "y_log": True},
        {"name": "some", "title": "one line of two", "kind": "lines", "table": "t", "x": "m", "y": ["k", "n"],
         "y_title": "as far", "series": None, "x_log": False, "y_log": False},
    ],
    "tables": {"t": {"title": "t < u", "columns": [
        {"name": "who", "title": "who", "unit": None, "source": "none", "clock": False, "decimals": 0},
        {"name": "n", "title": "n", "unit": "us", "source": "measured", "clock": True, "decimals": 2},
        {"name": "m", "title": "m", "unit": None, "source": "measured", "clock": False, "decimals": 0},
        {"name": "k", "title": "k", "unit": "us", "source": "measured", "clock": False, "decimals": 0},
        {"name": "far", "title": "far", "unit": None, "source": "none", "clock": False, "hidden": True}],
        "rows": [{"who": "a", "n": 0, "m": 0, "k": None, "far": "too long to show"},
                 {"who": "b \"'\\ <c>", "n": 0.00001, "m": 0, "k": None}, {"who": "d", "n": None, "m": 0}]}},
}
PLAIN = {  # no figures named: it gets one all the same
    "experiment": "plain", "summary": "words", "command": "ami-sim lab plain", "seed": 2, "machine": "m",
    "sm2_path": "ifma", "failed": None, "notes": [],
    "tables": {"t": {"title": "t", "columns": [
        {"name": "scheme", "title": "scheme", "unit": None, "source": "none", "clock": False, "decimals": 0},
        {"name": "outcome", "title": "outcome", "unit": None, "source": "measured", "clock": False,
         "decimals": 0}],
        "rows": [{"scheme": s, "outcome": o} for s in "ab" for o in ("broken", "resisted", "resisted")]}},
}


def save(directory, d):
    with open(os.path.join(directory, d["experiment"] + ".json"), "w", encoding="utf-8") as f:
        json.dump(d, f)


def refused(directory, what, *words):
    r = run("report", directory)
    check(r.returncode == 1 and r.stdout == "", f"{what}: exit status {r.returncode}")
    lines = r.stderr.strip().split("\n")
    check(all(w in lines[-1] for w in words), f"{what}: {r.stderr}")
    check(not os.path.exists(os.path.join(directory, "report.html")), f"{what}: a page all the same")


def bad_input(directory):
    refused(os.path.join(directory, "nowhere"), "no directory", "nowhere")
    empty = os.path.join(directory, "empty")
    os.mkdir(empty)
    refused(empty, "no documents", "ami-sim lab all --out")
    for name, text, words in [("cut", '{"experiment": "cut", ', ["cut.json", "line"]),
                              ("list", "[]", ["list.json"]),
                              ("named", '{"experiment": "../up", "tables": {}}', ["named.json"])]:
        path = os.path.join(empty, name + ".json")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        refused(empty, name, *words)
        os.remove(path)
    wrong = json.loads(json.dumps(ODD))
    wrong["figures"][0]["y"] = ["absent"]
    save(empty, wrong)
    refused(empty, "no such column", "bars")
    r = run("report")
    check(r.returncode == 2, "no directory named")


def report(directory):
    for d in (ODD, PLAIN):
        save(directory, d)
    names = ["table4", "table5", "pfs", "links-crypto", "scale"]
    for name in names:
        r = run("lab", name, "--tiny", "--scheme", "sm2kx", "--out", directory)
        check(r.returncode == 0, f"{name}: {r.stderr}")
    r = run("report", directory)
    check(r.returncode == 0 and r.stderr == "", f"report: {r.stderr}")
    with open(os.path.join(directory, "report.html"), encoding="utf-8") as f:
        text = f.read()
    page = Page()
    page.feed(text)
    page.close()
    check(page.open == [], f"left open: {page.open}")
    for name in names + ["odd", "plain"]:
        check(any(f.startswith(name + "-") for f in page.figures), f"{name} has no figure")
    check(len(page.svgs) == len(page.figures) > 10, "every figure has one plot")
    axes(directory, page)
    for link in page.links:
        if link.startswith("#"):
            check(link[1:] in page.ids, f"{link} leads nowhere")
        else:
            check(re.fullmatch(r"[a-z0-9_-]+\.csv", link), f"{link} leads out of the page")
            check(link.startswith(("odd", "plain")) or os.path.exists(os.path.join(directory, link)), link)
    check(not re.search(r"url\((?!#)", text), "url() in the page")
    for word in ("@import", "too long to show", "rgb(", "alert(1)</script"):
        check(word not in text, f"{word} in the page")
    check("prefers-color-scheme:dark" in text and "@media print" in text, "colours")
    check(page.texts and page.cells > 100, "labels and cells")
    inside(page)
    # The same documents give the same page.
    again = os.path.join(directory, "again.html")
    check(run("report", directory, "--out", again).returncode == 0, "again")
    with open(again, encoding="utf-8") as f:
        check(f.read() == text, "two pages of the same documents differ")


def main():
    if PART == "tables":
        tables()
        return
    if shutil.which("gnuplot") is None:
        with tempfile.TemporaryDirectory() as directory:
            refused(directory, "no gnuplot", "gnuplot-nox")
        print("gnuplot is not installed; only its absence was tried")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as directory:
        bad_input(directory)
        report(directory)


main()
