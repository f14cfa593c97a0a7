#!/usr/bin/env python3
"""tamper.py DC-CLI GENESIS PROOF [STEP]: changes a proof in many places, one at a time, and sees
each refused by `dc-cli verify-proof` with one sentence and exit status 1.

Places: every character that is no hexadecimal digit (the structure), every STEP-th of the others
(37), some characters removed, doubled or put in, the file cut at many lengths and made longer.
"""
import os
import subprocess
import sys

HEX = b"0123456789abcdef"


def variants(good, step):
    for at, byte in enumerate(good):
        if byte not in HEX:
            for other in (b" ", b"x", bytes([byte ^ 1])):
                if other != bytes([byte]):
                    yield f"byte {at} {bytes([byte])!r} to {other!r}", good[:at] + other + good[at + 1:]
                    break
        elif at % step == 0:
            other = HEX[(HEX.index(byte) + 1 + at % 15) % 16]
            yield f"byte {at}", good[:at] + bytes([other]) + good[at + 1:]
    # The same value in another spelling.
    for at, byte in enumerate(good):
        if byte in b"abcdef" and at % (step * 11) == 0:
            yield f"byte {at} upper case", good[:at] + bytes([byte]).upper() + good[at + 1:]
    for at in range(0, len(good), step * 7):
        yield f"byte {at} removed", good[:at] + good[at + 1:]
        yield f"byte {at} doubled", good[:at] + good[at:at + 1] + good[at:]
        yield f"a blank before byte {at}", good[:at] + b" " + good[at:]
        yield f"a zero byte before byte {at}", good[:at] + b"\0" + good[at:]
    for size in range(0, len(good), max(1, len(good) // 16)):
        yield f"cut to {size} bytes", good[:size]
    yield "cut by one byte", good[:-1]
    yield "one line more", good + b"\n"
    yield "twice", good + good


def main():
    cli, genesis, proof = sys.argv[1:4]
    step = int(sys.argv[4]) if len(sys.argv) > 4 else 37
    with open(proof, "rb") as file:
        good = file.read()
    path = "changed.json"
    tried, bad = 0, 0
    for what, changed in variants(good, step):
        with open(path, "wb") as file:
            file.write(changed)
        run = subprocess.run([cli, "verify-proof", path, "--genesis", genesis],
                             capture_output=True, timeout=60, check=False)
        tried += 1
        said = run.stderr.decode(errors="replace")
        if run.returncode != 1 or run.stdout or said.count("\n") != 1 or not said.startswith("dc-cli: ") \
                or len(said) < 30:
            bad += 1
            print(f"{what}: exit status {run.returncode}, says {said!r}, prints {run.stdout[:200]!r}")
            if bad > 10:
                break
    os.unlink(path)
    print(f"{tried} changed proofs, {bad} of them not refused as they should be")
    sys.exit(1 if bad or tried < 100 else 0)


if __name__ == "__main__":
    main()
