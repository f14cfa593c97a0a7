#!/usr/bin/env python3
"""shows.py [--capture FILE --ports PORT,PORT...] [--file FILE] [--text WORD]... [--reading CSV_ROW]...

Which of these words and readings are in what passed from or to those ports (capture.py), connection by
connection, or in a file. A reading is a row of `ami-meter export`, and is looked for as a report encodes
it (docs/wire-format.md): register, unit, interval, time and value. Prints what is there, one a line."""
import argparse
import datetime
import re
import struct
import sys

UNITS = {"W": 27, "var": 29, "Wh": 30, "varh": 32, "A": 33, "V": 35, "Hz": 44, "kW": 155, "kvar": 157, "kWh": 158,
         "kvarh": 160}


def varint(n):
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


def encoded(row):
    """Of a group with this reading alone, from the register to the value."""
    _, time, interval, obis, unit, value = row.split(",")[:6]
    registers = bytes(int(part) for part in re.split(r"[-:.*]", obis))
    registers += b"\xff" * (6 - len(registers))
    start = int(datetime.datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp())
    decimals = len(value.partition(".")[2])
    mantissa = int(value.replace(".", ""))
    zigzag = 2 * mantissa if mantissa >= 0 else -2 * mantissa - 1
    return (registers + bytes([UNITS[unit]]) + struct.pack(">IqH", int(interval), start, 1) + varint(0) +
            struct.pack("b", -decimals) + varint(zigzag))


def connections(path, ports):
    """What went one way of each connection, and how much that is."""
    flows = {}
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at + 8 <= len(data):
        source, target, size = struct.unpack_from(">HHI", data, at)
        if source in ports or target in ports:
            flows.setdefault((source, target), bytearray()).extend(data[at + 8:at + 8 + size])
        at += 8 + size
    return list(flows.values())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--capture")
    parser.add_argument("--ports", default="")
    parser.add_argument("--file", action="append", default=[])
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--reading", action="append", default=[])
    parser.add_argument("--least", type=int, default=0)
    given = parser.parse_args()
    places = []
    if given.capture:
        places = connections(given.capture, {int(port) for port in given.ports.split(",")})
    for path in given.file:
        with open(path, "rb") as file:
            places.append(file.read())
    if sum(len(place) for place in places) < given.least:
        sys.exit(f"shows.py: only {sum(len(place) for place in places)} bytes to look through")
    wanted = [(word, word.encode()) for word in given.text] + [(row, encoded(row)) for row in given.reading]
    for name, needle in wanted:
        if any(needle in place for place in places):
            print(name)


if __name__ == "__main__":
    main()
