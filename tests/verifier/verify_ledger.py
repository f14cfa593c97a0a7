#!/usr/bin/env python3
"""Checks an exported ledger from its genesis on, without any code of the project.

usage: verify_ledger.py GENESIS EXPORT [--sample N] [--certificates K] [--quiet]

GENESIS is genesis.json; EXPORT comes from `dc-cli export --format jsonl`. Written from
docs/ledger-format.md and docs/wire-format.md; needs nothing but Python's standard library.

It recomputes chain id, network id and member list; for every block its hash, link, transaction ids,
Merkle root, the registry and its root; and checks commit certificates and the signatures of meters,
gateways and the MDMS. Python is slow: --sample N checks the signatures of about N reports, evenly
spread, and --certificates K the certificate of every K-th block and the last one. Everything else
is always checked. Of reports that were pruned, below a watermark that the MDMS has signed, what is left
is checked: the meter's part. Exit status 0; 1 with the first thing wrong; 2 for wrong usage.
"""

import argparse
import json
import re
import sys
import time

sys.dont_write_bytecode = True  # the source tree stays as it is

import gm
from evidence import statements
from registry import Registry, leaf, merkle_root
from wire import Bad, Reader, block_header, dc_enrol, evidence, mdms_part, membership, meter_enrol, put_id, \
    qc, report_gateway_part, report_meter_part, retention, revoke, skip_meter_part, tx, u32, u64

REPORT, METER_ENROL, DC_ENROL, REVOKE, SKIP, EVIDENCE, MEMBERSHIP, RETENTION = 1, 2, 3, 4, 5, 6, 7, 8
PRUNED_REPORT = 129
COMMIT = 2


def labelled(label, *parts):
    return gm.sm3(label.encode() + b"\x00" + b"".join(parts))


def quorum(n):
    f = (n - 1) // 3
    return (n + f + 2) // 2  # the ceiling of (n + f + 1) / 2


def need(true, text):
    if not true:
        raise Bad(text)


def once(pairs):
    """Refuses a JSON object that names a key twice: readers differ in which one counts."""
    need(len(dict(pairs)) == len(pairs), "a key stands twice in a JSON object")
    return dict(pairs)


# --- genesis --------------------------------------------------------------------------------------


class Member:
    def __init__(self, name, key_epoch, w_sign, agree_part):
        self.name, self.key_epoch, self.w_sign, self.agree_part = name, key_epoch, w_sign, agree_part


# The keys of the two files, in their order, and the bounds of what is a number.
NETWORK_KEYS = ["format", "version", "name", "scheme", "p_pub", "sign", "enrol", "readings", "id"]
GENESIS_KEYS = ["format", "version", "created_ms", "network", "parameters", "members"]
MEMBER_KEYS = ["id", "key_epoch", "w_sign", "agree_part", "peer", "meter", "admin"]
PARAMETERS = {
    "election_timeout_ms": (10, 3600000), "progress_timeout_ms": (20, 3600000),
    "heartbeat_ms": (1, 600000), "block_age_ms": (0, 3600000), "block_txs_max": (1, 4096),
    "block_bytes_max": (9280, 2097152), "timestamp_back_ms": (1, 86400000),
    "timestamp_ahead_ms": (1, 86400000), "session_messages_max": (1, 4294967295),
    "session_seconds_max": (1, 4294967295),
}


class Genesis:
    def __init__(self, data):
        self.chain = labelled("amiledger genesis v1", data)
        file = json.loads(data, object_pairs_hook=once)
        need((json.dumps(file, indent=2) + "\n").encode() == data,
             "the genesis file is not in its one form")
        self.read(file)
        self.network_id = labelled(
            "amiledger network v1", put_id(self.name), bytes([self.scheme]), *self.points
        )
        need(self.network_id.hex() == file["network"]["id"],
             "the network's id is not the hash of its keys")
        self.sign_bytes = self.points[1]
        self.p_pub, sign, _, _ = [gm.decode_point(point) for point in self.points]
        self.mdms_key = gm.PlainKey(sign, b"amiledger mdms")

    def read(self, file):
        network, parameters = file["network"], file["parameters"]
        need(list(file) == GENESIS_KEYS and list(network) == NETWORK_KEYS
             and list(parameters) == [*PARAMETERS, "gateway"]
             and all(list(m) == MEMBER_KEYS for m in file["members"]),
             "the genesis file has other keys than a genesis file")
        need(file["format"] == "amiledger-genesis" and file["version"] == 1
             and network["format"] == "amiledger-network" and network["version"] == 1,
             "the genesis file has another format or version")
        for name, (least, most) in PARAMETERS.items():
            need(least <= parameters[name] <= most, f"the parameter {name} is out of its bounds")
        need(parameters["gateway"] in ("leader", "home"), "the parameter gateway is unknown")
        self.name, self.scheme = network["name"], network["scheme"]
        self.points = [bytes.fromhex(network[key]) for key in ("p_pub", "sign", "enrol", "readings")]
        self.created_ms = file["created_ms"]
        self.block_txs_max = parameters["block_txs_max"]
        self.block_bytes_max = parameters["block_bytes_max"]
        self.members = [
            Member(m["id"], m["key_epoch"], bytes.fromhex(m["w_sign"]), bytes.fromhex(m["agree_part"]))
            for m in file["members"]
        ]
        need(4 <= len(self.members) <= 31, f"{len(self.members)} members are too few or too many")
        need(len({m.name for m in self.members}) == len(self.members), "a member is listed twice")

    def implicit_key(self, role, name, epoch, w):
        """The key of this role and name under the implicit certificate W (GM/T 0130-2023)."""
        identity = (b"amiledger id v1\x00" + self.network_id + bytes([role]) + u32(epoch) + put_id(name))
        try:
            return gm.ImplicitKey(gm.decode_point(w), identity, self.p_pub)
        except ValueError as error:
            raise Bad(f"the key of {name} in epoch {epoch}: {error}") from None


# --- membership -----------------------------------------------------------------------------------


def address(text):
    match = re.fullmatch(rb"tcp://[!-.0-~]+:([1-9][0-9]{0,4})", text)
    return match is not None and int(match.group(1)) <= 65535


def check_membership(part):
    need(part.change in (1, 2, 3) and part.epoch >= 2 and part.key_epoch and 2 <= part.delay <= 1000
         and (part.entry is None) == (part.change == 2), "a change of membership cannot be as it is")
    need(part.entry is None or all(map(address, part.entry[2:])), "an address is none")


class Epoch:
    """The list that votes from one height to the next change."""

    def __init__(self, registry, height):
        self.number, self.members = registry.epoch(height), registry.members(height)
        self.hash = labelled(
            "amiledger members v1", u32(self.number), bytes([len(self.members)]),
            *(put_id(m.name) + u32(m.epoch) + m.w for m in self.members),
        )
        self.keys = [registry.key(m) for m in self.members]


# --- blocks ---------------------------------------------------------------------------------------


class Verifier:
    def __init__(self, genesis, stride, certificates):
        self.genesis = genesis
        self.registry = Registry(genesis)
        self.stride, self.certificates = stride, certificates
        self.height, self.previous, self.time_ms = 0, genesis.chain, genesis.created_ms
        self.last = None  # certificate of the last block, when it was not checked
        self.epoch = Epoch(self.registry, 1)
        self.transactions = self.reports = self.signatures = 0
        self.pruned_below = self.pruned = 0

    def check_signature(self, key, label, parts, signature, whose):
        need(key.verify(label.encode() + b"\x00" + b"".join(parts), signature),
             f"the signature of {whose} does not verify")
        self.signatures += 1

    def certificate(self, cert, epoch):
        body = (bytes([cert.kind]) + cert.chain + u32(cert.epoch) + u64(cert.term)
                + u64(cert.height) + cert.block)
        signers = [i for i in range(32) if cert.signers >> i & 1]
        need(all(i < len(epoch.members) for i in signers), "the certificate names a member that is none")
        need(len(signers) == len(cert.signatures), "the certificate has too many or few signatures")
        need(len(signers) >= quorum(len(epoch.members)),
             f"{len(signers)} votes are no quorum of {len(epoch.members)}")
        for i, signature in zip(signers, cert.signatures):
            self.check_signature(epoch.keys[i], "amiledger vote v1", [body], signature,
                                 f"{epoch.members[i].name} in the certificate")

    def retention(self, encoded):
        """The export's word of the MDMS: below which height reports may be pruned."""
        t = tx(encoded)
        need(t.kind == RETENTION, "what allows pruning is no retention transaction")
        self.check_mdms(t)
        self.pruned_below = max(self.pruned_below, retention(t.first).below)

    def check_mdms(self, t):
        self.check_signature(self.genesis.mdms_key, "amiledger mdms v1",
                             [self.genesis.chain, bytes([t.kind]), t.first], mdms_part(t.second).signature,
                             "the MDMS")

    def report(self, t, height):
        g, r = self.genesis, self.registry
        pruned = t.kind == PRUNED_REPORT
        need(not pruned or height < self.pruned_below, "it is pruned, and the MDMS has not allowed that")
        need(not pruned or len(t.second) == 32, "no digest stands for its second part")
        meter = report_meter_part(t.first)
        gateway = None if pruned else report_gateway_part(t.second)
        need(meter.epoch and meter.sequence and (pruned or gateway.dc_epoch), "an epoch or number is 0")
        r.report(meter, gateway)
        if self.reports % self.stride == 0:
            self.check_signature(
                r.key(r.find(1, meter.meter, meter.epoch)), "amiledger report v1",
                [g.chain, t.first[:-64]], meter.signature, f"meter {meter.meter}")
            if not pruned:
                self.check_signature(
                    r.key(r.find(2, gateway.dc, gateway.dc_epoch)), "amiledger gateway v1",
                    [g.chain, t.first, t.second[:-64]], gateway.signature, f"gateway {gateway.dc}")
        self.reports += 1
        self.pruned += pruned
        self.transactions += 1
        return leaf(labelled("amiledger tx v1", bytes([REPORT]), gm.sm3(t.first),
                             t.second if pruned else gm.sm3(t.second)))

    def transaction(self, encoded, height):
        """Applies one transaction and returns its Merkle leaf."""
        g, r = self.genesis, self.registry
        need(len(encoded) <= 4640, f"it has {len(encoded)} bytes")
        t = tx(encoded)
        if t.kind in (REPORT, PRUNED_REPORT):
            return self.report(t, height)
        if t.kind == SKIP:
            part = skip_meter_part(t.first)
            need(part.epoch and not t.second, "a skip has a wrong epoch or a second part")
            r.skip(part)
            self.check_signature(r.key(r.find(1, part.meter, part.epoch)), "amiledger skip v1",
                                 [g.chain, t.first[:-64]], part.signature, f"meter {part.meter}")
        elif t.kind == EVIDENCE:
            part, epoch = evidence(t.first), self.epoch
            need(not t.second, "evidence has a second part")
            need(part.chain == g.chain and part.epoch == epoch.number and part.accused < len(epoch.members),
                 "evidence is of another chain or epoch, or against no member")
            made = statements(part)
            record = epoch.members[part.accused]
            r.evidence(record, part.kind)
            for s in made:
                self.check_signature(r.key(record), s.label, [s.message], s.signature,
                                     f"{record.name}, whom evidence accuses,")
        elif t.kind in (METER_ENROL, DC_ENROL, REVOKE, MEMBERSHIP, RETENTION):
            decode = {METER_ENROL: meter_enrol, DC_ENROL: dc_enrol, REVOKE: revoke,
                      MEMBERSHIP: membership, RETENTION: retention}[t.kind]
            part = decode(t.first)
            need(part.number and (t.kind == RETENTION or part.epoch), "an epoch or number is 0")
            need(t.kind != RETENTION or part.below >= 2, "there is no block below the watermark")
            need(t.kind != REVOKE or part.role in (1, 2) and part.reason <= 3,
                 "a revocation has an unknown role or reason")
            if t.kind == MEMBERSHIP:
                check_membership(part)
            apply = {METER_ENROL: r.meter_enrol, DC_ENROL: r.dc_enrol, REVOKE: r.revoke,
                     MEMBERSHIP: r.membership, RETENTION: r.retention}[t.kind]
            apply(part, height)
            self.check_mdms(t)
        else:
            raise Bad(f"there is no transaction of kind {t.kind}")
        self.transactions += 1
        return leaf(labelled("amiledger tx v1", bytes([t.kind]), gm.sm3(t.first), gm.sm3(t.second)))

    def header(self, h):
        g = self.genesis
        need(h.version == 1, f"version {h.version}")
        need(h.chain == g.chain, "it belongs to another chain")
        need(h.epoch == self.epoch.number and h.members == self.epoch.hash,
             "it has another member list")
        need(h.height == self.height + 1, f"it says height {h.height}")
        need(h.previous == self.previous, "it does not follow the block before it")
        need(h.timestamp_ms > self.time_ms, "its time is not after that of the block before it")
        need(h.proposer < len(self.epoch.members), "its proposer is no member")
        need(h.term >= 1, "its term is 0")
        need(h.tx_count <= g.block_txs_max, f"{h.tx_count} transactions are too many")

    def block(self, line):
        g = self.genesis
        header = bytes.fromhex(line["header"])
        h, cert = block_header(header), qc(bytes.fromhex(line["commit"]))
        self.header(h)
        block_hash = labelled("amiledger block v1", header)
        need(line["hash"] == block_hash.hex() and line["height"] == h.height,
             "the line's hash or height is not that of its header")
        need(cert.kind == COMMIT and cert.chain == g.chain and cert.epoch == self.epoch.number
             and cert.height == h.height and cert.block == block_hash and cert.term >= h.term,
             "the certificate is not a commit certificate of this block")
        self.last = (cert, self.epoch)
        if h.height % self.certificates == 0 or self.certificates == 1:
            self.certificate(cert, self.epoch)
            self.last = None
        need(len(line["transactions"]) == h.tx_count,
             f"{len(line['transactions'])} transactions, the header says {h.tx_count}")
        body = [bytes.fromhex(text) for text in line["transactions"]]
        need(sum(4 + len(encoded) for encoded in body) <= g.block_bytes_max, "its body is too long")
        leaves = []
        for index, encoded in enumerate(body):
            try:
                leaves.append(self.transaction(encoded, h.height))
            except (Bad, ValueError) as error:
                raise Bad(f"transaction {index}: {error}") from None
        need(body or self.registry.pending(h.height),
             "it is empty, and no change of membership waits for its height")
        need(merkle_root(leaves) == h.merkle_root, "the Merkle root is another one")
        need(self.registry.root() == h.state_root, "the state root is another one")
        self.height, self.previous, self.time_ms = h.height, block_hash, h.timestamp_ms
        if self.registry.epoch(h.height + 1) != self.epoch.number:
            self.epoch = Epoch(self.registry, h.height + 1)

    def end(self, line):
        need(line["height"] == self.height and line["transactions"] == self.transactions,
             "the last line counts other blocks or transactions than there are")
        if self.last is not None:
            self.certificate(*self.last)


# --- the file -------------------------------------------------------------------------------------


def last_line(path):
    with open(path, "rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - 4096))
        lines = file.read().splitlines()
    try:
        line = json.loads(lines[-1])
        return int(line["transactions"]), line.get("retention")
    except (ValueError, KeyError, TypeError, IndexError):
        raise Bad("the file has no last line of kind \"end\": it was cut short") from None


def verify(arguments):
    with open(arguments.genesis, "rb") as file:
        genesis = Genesis(file.read())
    total, last_retention = last_line(arguments.export)
    stride = max(1, -(-total // arguments.sample)) if arguments.sample else 1
    v = Verifier(genesis, stride, arguments.certificates)
    ended = False
    with open(arguments.export, encoding="ascii") as file:
        for number, text in enumerate(file, 1):
            line = json.loads(text)
            need(not ended, f"line {number}: something stands behind the end")
            if number == 1:
                need(line["kind"] == "genesis" and line["version"] == 1, "line 1 is not that of a genesis")
                need(line["chain"] == genesis.chain.hex(), "the export is of another chain than the genesis file")
                need(line["from"] == 1, "the export does not begin with block 1")
                # A ledger that is pruned while it is exported has a newer word at the end.
                for word in {line.get("retention"), last_retention} - {None}:
                    v.retention(bytes.fromhex(word))
            elif line["kind"] == "block":
                try:
                    v.block(line)
                except Bad as error:
                    raise Bad(f"block {v.height + 1}: {error}") from None
            else:
                need(line["kind"] == "end", f"line {number} is of kind {line['kind']}")
                v.end(line)
                ended = True
    need(ended, "the file has no last line of kind \"end\": it was cut short")
    return v


def main():
    parser = argparse.ArgumentParser(description="Checks an exported ledger from its genesis on.")
    parser.add_argument("genesis", help="genesis.json")
    parser.add_argument("export", help="output of dc-cli export --format jsonl")
    parser.add_argument("--sample", type=int, default=0, metavar="N",
                        help="check the signatures of about N reports (default: of all)")
    parser.add_argument("--certificates", type=int, default=1, metavar="K",
                        help="check every K-th certificate (default: each)")
    parser.add_argument("--quiet", action="store_true")
    arguments = parser.parse_args()
    if arguments.sample < 0 or arguments.certificates < 1:
        parser.error("--sample is at least 0, --certificates at least 1")
    started = time.monotonic()
    try:
        v = verify(arguments)
    except (Bad, OSError) as error:
        sys.exit(f"verify_ledger: {error}")
    except (KeyError, TypeError, ValueError) as error:
        sys.exit(f"verify_ledger: not an export or genesis file as documented: {error!r}")
    if not arguments.quiet:
        if v.pruned:
            print(f"below height {v.pruned_below} {v.pruned} reports are pruned: their meters' parts "
                  "are checked, their gateways' are gone")
        print(f"chain {v.genesis.chain.hex()}, {len(v.epoch.members)} members in epoch {v.epoch.number}: {v.height} blocks, "
              f"{v.transactions} transactions of which {v.reports} reports, {v.signatures} "
              f"signatures checked, {time.monotonic() - started:.1f} s: all as the documents say")


if __name__ == "__main__":
    main()
