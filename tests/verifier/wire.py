"""Decoding of what a ledger holds, as docs/wire-format.md lays it out. Strict: one encoding each."""

import re
from collections import namedtuple


class Bad(Exception):
    """Something is not as the documents say it must be."""


class Reader:
    def __init__(self, data):
        self.data = data
        self.at = 0

    def raw(self, size):
        if size > len(self.data) - self.at:
            raise Bad("bytes are missing")
        self.at += size
        return self.data[self.at - size : self.at]

    def uint(self, size):
        return int.from_bytes(self.raw(size), "big")

    def i64(self):
        return int.from_bytes(self.raw(8), "big", signed=True)

    def id(self):
        text = self.raw(self.uint(1))
        if not re.fullmatch(rb"[A-Za-z0-9._-]{1,32}", text):
            raise Bad("a name has a wrong size or character")
        return text.decode()

    def bytes(self, limit):
        size = self.uint(4)
        if size > limit:
            raise Bad(f"{size} bytes where at most {limit} may stand")
        return self.raw(size)

    def end(self):
        if self.at != len(self.data):
            raise Bad("bytes are left over")


def put_id(name):
    return bytes([len(name)]) + name.encode()


def u32(v):
    return v.to_bytes(4, "big")


def u64(v):
    return v.to_bytes(8, "big")


# Field kinds of the tables, as far as a ledger needs them.
_READ = {
    "u8": lambda r: r.uint(1),
    "u32": lambda r: r.uint(4),
    "u64": lambda r: r.uint(8),
    "i64": lambda r: r.i64(),
    "digest": lambda r: r.raw(32),
    "point": lambda r: r.raw(33),
    "sig": lambda r: r.raw(64),
    "id": lambda r: r.id(),
    "sealed": lambda r: r.bytes(4128),  # bytes(4128)
    "part": lambda r: r.bytes(96),  # bytes(96)
    "half": lambda r: r.bytes(4640),  # bytes(4640)
    "statement": lambda r: r.bytes(2192),  # bytes(2192)
    "header": lambda r: block_header.read(r),  # type(block_header)
    "opt_qc": lambda r: qc.read(r) if _flag(r) else None,  # opt(qc)
    "address": lambda r: r.bytes(80),  # bytes(80)
    "entry": lambda r: member_entry.read(r) if _flag(r) else None,  # opt(member_entry)
    "sigs": lambda r: [r.raw(64) for _ in range(_count(r, 31))],
}


def _count(r, limit):
    count = r.uint(2)
    if count > limit:
        raise Bad(f"{count} entries where at most {limit} may stand")
    return count


def _flag(r):
    flag = r.uint(1)
    if flag > 1:
        raise Bad("a flag is neither 0 nor 1")
    return flag == 1


def _type(name, fields):
    pairs = [f.split(":") for f in fields.split()]
    made = namedtuple(name, [p[0] for p in pairs])

    def read(r):
        return made(*(_READ[kind](r) for _, kind in pairs))

    def decode(data):
        r = Reader(data)
        value = read(r)
        r.end()
        return value

    decode.read = read
    return decode


block_header = _type(
    "block_header",
    "version:u8 chain:digest epoch:u32 members:digest height:u64 term:u64 previous:digest "
    "merkle_root:digest state_root:digest timestamp_ms:i64 tx_count:u32 proposer:u8",
)
qc = _type(
    "qc",
    "kind:u8 chain:digest epoch:u32 term:u64 height:u64 block:digest signers:u32 signatures:sigs",
)
report_meter_part = _type(
    "report_meter_part", "meter:id epoch:u32 sequence:u64 commitment:digest signature:sig"
)
report_gateway_part = _type(
    "report_gateway_part",
    "c1:point sealed:sealed timestamp_ms:i64 dc:id dc_epoch:u32 signature:sig",
)
meter_enrol = _type(
    "meter_enrol", "number:u64 meter:id epoch:u32 home_dc:id w_report:point agree_part:part"
)
dc_enrol = _type("dc_enrol", "number:u64 dc:id epoch:u32 w_sign:point agree_part:part")
revoke = _type("revoke", "number:u64 role:u8 device:id epoch:u32 reason:u8")
member_entry = _type(
    "member_entry", "w_sign:point agree_part:part peer:address meter:address admin:address"
)
membership = _type(
    "membership", "number:u64 epoch:u32 change:u8 dc:id key_epoch:u32 delay:u32 entry:entry"
)
retention = _type("retention", "number:u64 below:u64")
mdms_part = _type("mdms_part", "signature:sig")
skip_meter_part = _type("skip_meter_part", "meter:id epoch:u32 below:u64 signature:sig")
tx = _type("tx", "kind:u8 first:half second:half")
vote = _type(
    "vote", "kind:u8 chain:digest epoch:u32 term:u64 height:u64 block:digest voter:u8 signature:sig"
)
grant = _type(
    "grant", "chain:digest epoch:u32 term:u64 candidate:u8 voter:u8 high:opt_qc signature:sig"
)
proposal_head = _type(
    "proposal_head", "term:u64 leader:u8 header:header rest:digest signature:sig"
)
evidence = _type(
    "evidence", "chain:digest epoch:u32 accused:u8 kind:u8 first:statement second:statement"
)
