"""Who evidence convicts (docs/ledger-format.md, "Evidence")."""

from wire import Bad, grant, proposal_head, vote

VOTES, PROPOSALS, GRANTS, HIDDEN, GRANT, PROPOSAL = 1, 2, 3, 4, 5, 6
COMMIT = 2


class Statement:
    """What the accused signed: its fields, and the message under its label."""

    def __init__(self, decode, label, data):
        self.fields = decode(data)
        self.label = label
        self.message = data[: -65 if decode is vote else -64]  # a vote's signature leaves out the voter
        self.signature = self.fields.signature


def _votes(data):
    return Statement(vote, "amiledger vote v1", data)


def _grants(data):
    return Statement(grant, "amiledger grant v1", data)


def _heads(data):
    return Statement(proposal_head, "amiledger proposal v1", data)


_DECODE = {
    VOTES: (_votes, _votes), PROPOSALS: (_heads, _heads), GRANTS: (_grants, _grants),
    HIDDEN: (_votes, _grants), GRANT: (_grants,), PROPOSAL: (_heads,),
}


def _place(statement):
    """Chain, epoch and signer of a statement."""
    x = statement.fields
    if statement.label.startswith("amiledger proposal"):
        return x.header.chain, x.header.epoch, x.leader
    return x.chain, x.epoch, x.voter


def _guilty(kind, s):
    a, b = s[0].fields, s[-1].fields
    if kind == VOTES:
        return (a.kind, a.term, a.height) == (b.kind, b.term, b.height) and a.block != b.block
    if kind == PROPOSALS:
        return (a.term, a.header.height) == (b.term, b.header.height) and a.header != b.header
    if kind == GRANTS:
        return a.term == b.term and s[0].message != s[1].message
    if kind == HIDDEN:
        shown = (b.high.term, b.high.height) if b.high else (0, 0)
        return a.kind == COMMIT and b.term > a.term and (not b.high or shown < (a.term, a.height))
    if kind == GRANT:
        return a.high is not None and a.high.term >= a.term
    later, own = a.header.term > a.term, a.header.proposer == a.leader
    return later or a.header.term == a.term and not own


def statements(part):
    """The signed statements of a piece of evidence; Bad when they convict nobody."""
    if part.kind not in _DECODE:
        raise Bad(f"there is no evidence of kind {part.kind}")
    decode = _DECODE[part.kind]
    found = [d(data) for d, data in zip(decode, (part.first, part.second))]
    if len(decode) == 1 and part.second:
        raise Bad("evidence of one statement has two")
    for s in found:
        if _place(s) != (part.chain, part.epoch, part.accused):
            raise Bad("a statement is of another chain, epoch or member")
        if s.label == "amiledger vote v1" and s.fields.kind not in (1, COMMIT):
            raise Bad("a vote of an unknown kind")
    if not _guilty(part.kind, found):
        raise Bad("the statements may be honest")
    return found
