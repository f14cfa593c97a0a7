"""The registry: the state that blocks change, and its root (docs/ledger-format.md, "Registry")."""

import gm
from wire import Bad, put_id, u32, u64

MDMS, METER, DC = 0, 1, 2
WINDOW = 64
RETENTION_MARGIN = 64
JOIN, LEAVE, ROTATE = 1, 2, 3
MEMBERS_MIN, MEMBERS_MAX = 4, 31


def leaf(data):
    return gm.sm3(b"\x00" + data)


def node(left, right):
    return gm.sm3(b"\x01" + left + right)


def merkle_root(leaves):
    """RFC 9162 section 2.1.1, as that text puts it."""
    if not leaves:
        return gm.sm3(b"")
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return node(merkle_root(leaves[:split]), merkle_root(leaves[split:]))


class Tree:
    """The same root for leaves that change one by one: rows from the leaves up, the odd node at the
    end of a row goes up as it is."""

    def __init__(self):
        self.rows = [[]]
        self.changed = set()

    def set(self, index, value):
        row = self.rows[0]
        if index == len(row):
            row.append(value)
        else:
            row[index] = value
        self.changed.add(index)

    def root(self):
        if not self.rows[0]:
            return gm.sm3(b"")
        height, changed = 0, self.changed
        while len(self.rows[height]) > 1:
            below = self.rows[height]
            if height + 1 == len(self.rows):
                self.rows.append([])
                changed = range(len(below))
            row = self.rows[height + 1]
            parents = {i // 2 for i in changed}
            row.extend(b"" for _ in range((len(below) + 1) // 2 - len(row)))
            for i in parents:
                pair = below[2 * i : 2 * i + 2]
                row[i] = node(*pair) if len(pair) == 2 else pair[0]
            height, changed = height + 1, parents
        self.changed = set()
        return self.rows[height][0]


class Record:
    def __init__(self, kind, name, epoch, w, agree_part, home_dc="-", enrolled_at=0, floor=1):
        self.kind, self.name, self.epoch, self.w = kind, name, epoch, w
        self.agree_part, self.home_dc, self.enrolled_at = agree_part, home_dc, enrolled_at
        self.revoked_at, self.floor, self.window = 0, floor, 0
        self.key = None  # recovered when first needed

    def encode(self):
        return b"".join((
            bytes([self.kind]), put_id(self.name), u32(self.epoch), put_id(self.home_dc), self.w,
            u32(len(self.agree_part)), self.agree_part, u64(self.enrolled_at),
            u64(self.revoked_at), u64(self.floor), u64(self.window),
        ))

    def slide(self):
        while self.window & 1:
            self.window >>= 1
            self.floor += 1


class Registry:
    def __init__(self, genesis):
        self.genesis = genesis
        self.records, self.index, self.newest = [], {}, {}
        self.tree = Tree()
        self.changed = set()
        self.add(Record(MDMS, "mdms", 1, genesis.sign_bytes, b"", floor=0))
        for m in genesis.members:
            self.add(Record(DC, m.name, m.key_epoch, m.w_sign, m.agree_part))

    def add(self, record):
        key = (record.kind, record.name, record.epoch)
        self.index[key] = len(self.records)
        self.newest[record.kind, record.name] = record
        self.changed.add(len(self.records))
        self.records.append(record)

    def find(self, kind, name, epoch):
        at = self.index.get((kind, name, epoch))
        return None if at is None else self.records[at]

    def need(self, kind, name, epoch):
        record = self.find(kind, name, epoch)
        if record is None:
            raise Bad(f"{name} is not enrolled in epoch {epoch}")
        return record

    def valid(self, kind, name, epoch):
        record = self.need(kind, name, epoch)
        if record.revoked_at:
            raise Bad(f"{name} was revoked at height {record.revoked_at}")
        return record

    def touch(self, record):
        self.changed.add(self.index[record.kind, record.name, record.epoch])

    def root(self):
        for i in sorted(self.changed):
            self.tree.set(i, leaf(self.records[i].encode()))
        self.changed = set()
        return self.tree.root()

    def key(self, record):
        """The key that a record's W stands for."""
        if record.key is None:
            role = 2 if record.kind == METER else 4
            record.key = self.genesis.implicit_key(role, record.name, record.epoch, record.w)
        return record.key

    # --- what a transaction does; Bad when it is not admissible ---

    def report(self, meter, gateway):
        """gateway: None when the report is a pruned one."""
        record = self.valid(METER, meter.meter, meter.epoch)
        if gateway is not None:
            self.valid(DC, gateway.dc, gateway.dc_epoch)
        at = meter.sequence - record.floor
        if at < 0 or at < WINDOW and record.window >> at & 1:
            raise Bad(f"number {meter.sequence} of {meter.meter} is settled already")
        if at >= WINDOW or meter.sequence == 2**64 - 1:
            raise Bad(f"number {meter.sequence} of {meter.meter} lies beyond its window")
        record.window |= 1 << at
        record.slide()
        self.touch(record)

    def skip(self, part):
        record = self.valid(METER, part.meter, part.epoch)
        by = part.below - record.floor
        if not 1 <= by <= WINDOW:
            raise Bad(f"a skip of {part.meter} moves its floor by {by}")
        record.window >>= by
        record.floor = part.below
        record.slide()
        self.touch(record)

    def _number(self, number):
        mdms = self.records[0]
        if number != mdms.floor + 1:
            raise Bad(f"number {number} of the MDMS follows {mdms.floor}")
        mdms.floor = number
        self.changed.add(0)

    def _enrol(self, kind, name, epoch, w, agree_part, height, home_dc="-", floor=1):
        newest = self.newest.get((kind, name))
        if epoch != (newest.epoch + 1 if newest else 1):
            raise Bad(f"{name} is enrolled in epoch {epoch}, which does not follow")
        record = Record(kind, name, epoch, w, agree_part, home_dc, height, floor)
        self.key(record)  # W must give a key
        self.add(record)

    def meter_enrol(self, part, height):
        self._number(part.number)
        if (DC, part.home_dc) not in self.newest:
            raise Bad(f"home DC {part.home_dc} of {part.meter} is not enrolled")
        self._enrol(METER, part.meter, part.epoch, part.w_report, part.agree_part, height,
                    part.home_dc)

    def dc_enrol(self, part, height):
        self._number(part.number)
        self._enrol(DC, part.dc, part.epoch, part.w_sign, part.agree_part, height, floor=0)

    def revoke(self, part, height):
        self._number(part.number)
        record = self.valid({1: METER, 2: DC}[part.role], part.device, part.epoch)
        record.revoked_at = height
        self.touch(record)

    # --- who votes at a height: a DC's record has the first one in floor, the first one after its
    # --- time in window above 8 bits for kinds of evidence, 0 for none ---

    def _dcs(self):
        return [record for record in self.records if record.kind == DC]

    def members(self, height):
        """The records that vote on the block of this height, in the order of the list."""
        now = [r for r in self._dcs() if 0 < r.floor <= height and not 0 < r.window >> 8 <= height]
        return sorted(now, key=lambda r: r.floor)  # stable: then in order of enrolment

    def _changes(self):
        """First heights of the epochs after the first."""
        return sorted({at for r in self._dcs() for at in (r.floor, r.window >> 8) if at > 1})

    def epoch(self, height):
        return 1 + sum(at <= height for at in self._changes())

    def pending(self, height):
        return any(at > height for at in self._changes())

    def membership(self, part, height):
        self._number(part.number)
        if self.pending(height):
            raise Bad("another change of membership waits for its height")
        if part.epoch != self.epoch(height) + 1:
            raise Bad(f"it begins epoch {part.epoch} after epoch {self.epoch(height)}")
        members = self.members(height)
        old = next((r for r in members if r.name == part.dc), None)
        if (old is None) != (part.change == JOIN):
            raise Bad(f"{part.dc} is {'no' if old is None else 'a'} member")
        after = len(members) + {JOIN: 1, LEAVE: -1, ROTATE: 0}[part.change]
        if part.change != ROTATE and not MEMBERS_MIN <= after <= MEMBERS_MAX:
            raise Bad(f"{after} members are too few or too many")
        if part.change == LEAVE and old.epoch != part.key_epoch:
            raise Bad(f"{part.dc} votes with key {old.epoch}, not {part.key_epoch}")
        if part.change == ROTATE and part.key_epoch <= old.epoch:
            raise Bad(f"key {part.key_epoch} of {part.dc} is not newer than {old.epoch}")
        if part.change != LEAVE:
            new = self.valid(DC, part.dc, part.key_epoch)
            if new.floor:
                raise Bad(f"key {part.key_epoch} of {part.dc} has voted before")
            if (new.w, new.agree_part) != (part.entry.w_sign, part.entry.agree_part):
                raise Bad(f"the entry of {part.dc} is not what was enrolled")
            new.floor = height + part.delay
            self.touch(new)
        if old is not None:
            old.window |= (height + part.delay) << 8
            self.touch(old)

    def retention(self, part, height):
        self._number(part.number)
        if part.below <= self.records[0].window:
            raise Bad(f"the watermark {part.below} follows {self.records[0].window}")
        if part.below + RETENTION_MARGIN > height:
            raise Bad(f"the watermark {part.below} is too near")
        self.records[0].window = part.below

    def evidence(self, record, kind):
        if record.window >> kind & 1:
            raise Bad(f"evidence of kind {kind} against {record.name} is on the ledger already")
        record.window |= 1 << kind
        self.touch(record)
