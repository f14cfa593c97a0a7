#!/usr/bin/env python3
"""shows.py [--capture FILE --ports PORT,PORT... [--by PROGRAM] [--way to|from]] [--file FILE]
         [--text WORD]... [--hex BYTES]... [--reading CSV_ROW]... | --size | --suites

Which of these words, bytes and readings are in what passed from or to those ports (capture.py), connection by
connection, or in a file. --by: only where that program dialled; --way: only what went to those ports, or came
from them. A reading is a row of `ami-meter export`, and is looked for as a report encodes it
(docs/wire-format.md): register, unit, interval, time and value. Prints what is there, one a line.

--size prints instead how many bytes there are to look through, --suites which record suites the answers to
first flights chose (docs/channel.md), by number, one a line."""
import argparse
import datetime
import re
import struct

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


def connections(path, ports, program, way):
    """What went one way of each connection that is meant."""
    flows, programs = {}, {}
    if program is not None:
        with open(path + ".programs", encoding="utf-8") as file:
            programs = {int(port): name for port, name in (line.split() for line in file)}
    with open(path, "rb") as file:
        data = file.read()
    at = 0
    while at + 8 <= len(data):
        source, target, size = struct.unpack_from(">HHI", data, at)
        to, dialler = target in ports, source if target in ports else target
        if ((to or source in ports) and way in (None, "to" if to else "from") and
                (program is None or programs.get(dialler) == program)):
            flows.setdefault((source, target), bytearray()).extend(data[at + 8:at + 8 + size])
        at += 8 + size
    return list(flows.values())


def suites(places):
    """Of the connections whose answer to a first flight is there: size u32, a2, version, suite."""
    return sorted({place[6] for place in places if len(place) > 6 and place[4] == 0xa2})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--capture")
    parser.add_argument("--ports", default="")
    parser.add_argument("--by")
    parser.add_argument("--way", choices=["to", "from"])
    parser.add_argument("--file", action="append", default=[])
    parser.add_argument("--text", action="append", default=[])
    parser.add_argument("--hex", action="append", default=[])
    parser.add_argument("--reading", action="append", default=[])
    parser.add_argument("--size", action="store_true")
    parser.add_argument("--suites", action="store_true")
    given = parser.parse_args()
    places = []
    if given.capture:
        places = connections(given.capture, {int(port) for port in given.ports.split(",")}, given.by, given.way)
    for path in given.file:
        with open(path, "rb") as file:
            places.append(file.read())
    if given.size:
        print(sum(len(place) for place in places))
    if given.suites:
        print(*suites(places), sep="\n")
    wanted = [(word, word.encode()) for word in given.text] + [(digits, bytes.fromhex(digits)) for digits in given.hex]
    wanted += [(row, encoded(row)) for row in given.reading]
    for name, needle in wanted:
        if any(needle in place for place in places):
            print(name)


if __name__ == "__main__":
    main()
