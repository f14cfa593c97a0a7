#!/usr/bin/env python3
"""damage.py FILE KIND SEED: damages a ledger's data.mdb in one of the ways in which disks do.
damage.py FILE bytes HEX: flips a bit wherever these bytes stand, and leaves the file's time as it was.

KIND is bit, garbage, zero, page, head, meta, cut or all (so much that it cannot be missed).
"""
import os
import random
import sys

PAGE = 4096


def spoil(content, kind, rng):
    pages = len(content) // PAGE
    at = rng.randrange(pages) * PAGE
    if kind == "bit":
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    elif kind == "garbage":
        at = rng.randrange(len(content) - 64)
        content[at:at + 64] = rng.randbytes(64)
    elif kind == "zero":
        content[at:at + PAGE] = bytes(PAGE)
    elif kind == "page":
        content[at:at + PAGE] = rng.randbytes(PAGE)
    elif kind == "head":  # what every eighth page says of itself
        for i in range(rng.randrange(8), pages, 8):
            content[i * PAGE + rng.randrange(32)] ^= 1 << rng.randrange(8)
    elif kind == "meta":
        content[rng.randrange(2) * PAGE + rng.randrange(152)] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[rng.randrange(len(content)):]
    elif kind == "all":
        for i in range(pages):
            content[i * PAGE + 16 + rng.randrange(PAGE - 16)] ^= 1 << rng.randrange(8)
    else:
        sys.exit(f"{kind} is no way to damage a file")
    return content


def main():
    path, kind, what = sys.argv[1:]
    before = os.stat(path)
    with open(path, "r+b") as file:
        content = bytearray(file.read())
        if kind == "bytes":  # nothing else is written: the file may be in use
            wanted = bytes.fromhex(what)
            at = content.find(wanted)
            if at < 0:
                sys.exit("the bytes are not in the file")
            while at >= 0:
                middle = at + len(wanted) // 2
                file.seek(middle)
                file.write(bytes([content[middle] ^ 4]))
                at = content.find(wanted, at + 1)
        else:
            content = spoil(content, kind, random.Random(int(what)))
            file.seek(0)
            file.write(content)
            file.truncate()
    if kind == "bytes":
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


if __name__ == "__main__":
    main()
