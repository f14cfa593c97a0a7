#!/usr/bin/env python3
"""hostile.py SECONDS NETWORK_ID NAME=HOST:PORT=FRAME_MAX...: a stranger who breaks every rule of a link, for so
long after the quiet part has begun.

On every port, first a flood of connections; then, to the end, connections that say nothing,
connections that begin a frame and never end it. Where links are channels, questions in the clear. Meanwhile,
round and round: random bytes, empty frames, lengths far too large and just too large, frames of a wrong
version and of every type with a random body; and on the peers' port floods of well-formed first flights
of a channel, which cost the other side something to answer. Prints one JSON object: by port, what
was tried and how often the other side ended the connection; where links are channels, also what it
said to anybody who speaks in the clear, but for the one byte that says that it refuses.
"""
import json
import os
import random
import resource
import select
import socket
import struct
import sys
import time

QUIET = 6       # connections of each quiet kind on each port
FLOOD = 1500    # connections of the flood of a port
FLIGHTS = 900   # first flights of a round
ANSWER_S = 5    # how long a broken rule may go unanswered
LINK_HELLO, ADMIN_REQUEST = 1, 80
ALERT = b"\x00\x00\x00\x01\xaf"
CHANNELS = ("peers", "admin")


def connect(address):
    try:
        s = socket.create_connection(address, timeout=ANSWER_S)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return s
    except OSError:
        return None


def frame(body):
    return struct.pack(">I", len(body)) + body


def ended(s):
    """Whether the other side closes the connection in time, and what it says before."""
    until = time.monotonic() + ANSWER_S
    said = b""
    try:
        while time.monotonic() < until:
            s.settimeout(max(0.01, until - time.monotonic()))
            part = s.recv(65536)
            if part == b"":
                return True, said
            said += part
    except socket.timeout:
        return False, said
    except OSError:
        return True, said
    return False, said


def random_body():
    """Never of 37 bytes: any 37 bytes are a well-formed meter_hello, which breaks no rule."""
    size = random.randrange(0, 600)
    return os.urandom(size if size != 37 else 38)


def attacks(frame_max):
    """Each must end its connection."""
    yield "random bytes", lambda: b"\x7f" + os.urandom(random.randrange(64, 4096))
    yield "empty frame", lambda: struct.pack(">I", 0)
    yield "one byte", lambda: frame(b"\x01")
    yield "4 GiB", lambda: b"\xff\xff\xff\xff" + os.urandom(1000)
    yield "one byte too large", lambda: struct.pack(">I", frame_max + 1) + os.urandom(100)
    yield "wrong version", lambda: frame(b"\x02" + os.urandom(80))
    yield "unknown type", lambda: frame(b"\x01\xff" + os.urandom(80))
    for kind in range(0, 96):
        yield "type with random body", lambda k=kind: frame(bytes([1, k]) + random_body())


def quiet(address, kept, dripping):
    """Connections that stay: mute, half a length, half a frame, and a frame one byte at a time."""
    half = struct.pack(">I", 500) + os.urandom(10)
    for _ in range(QUIET):
        for begin, where in ((b"", kept), (b"\x00\x00", kept), (half, kept), (half, dripping)):
            s = connect(address)
            if s is not None:
                if begin:
                    s.sendall(begin)
                where.append(s)


def in_the_clear(address, seen):
    """Asks as an operator and says hello as a DC would if there were no channels: how many of these
    connections ended, and how many of those with a refusal."""
    text = b'{"ask":"status"}'
    ask = frame(bytes([1, ADMIN_REQUEST]) + struct.pack(">I", len(text)) + text)
    hello = frame(bytes([1, LINK_HELLO]) + os.urandom(80))
    for what in (ask, hello) * 4:
        s = connect(address)
        if s is None:
            continue
        s.setblocking(False)
        try:
            for _ in range(400):
                s.send(what * 25)
        except OSError:
            pass
        seen["clear"] += 1
        over, said = ended(s)
        seen["clear_ended"] += over
        seen["clear_refused"] += said == ALERT
        note(said, seen)
        s.close()


def note(said, seen):
    """What a port of channels said to somebody without one."""
    if said not in (b"", ALERT) and len(seen["told"]) < 20:
        seen["told"].append(said[:200].hex())


def first_flights(address, network, seen):
    """Well-formed ones, whose ephemeral key is the generator: how many are answered, and how many
    are turned away unanswered."""
    generator = "0232c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7"
    sockets = []
    for _ in range(FLIGHTS):
        s = connect(address)
        if s is not None:
            first = b"\xa1\x01\x03\x0e" + network + os.urandom(32) + bytes.fromhex(generator)
            try:
                s.sendall(frame(first))
            except OSError:
                pass
            sockets.append(s)
    for s in sockets:
        try:
            s.settimeout(ANSWER_S)
            seen["answered" if s.recv(5)[4:5] == b"\xa2" else "turned_away"] += 1
        except socket.timeout:
            seen["stayed"].append("a first flight")
        except OSError:
            seen["turned_away"] += 1
        s.close()


def drip(dripping):
    for s in dripping:
        try:
            s.setblocking(False)
            s.send(b"\x00")
        except OSError:
            pass


def flood(address):
    """Many connections at once; returns how many could be made."""
    sockets = []
    for _ in range(FLOOD):
        s = socket.socket()
        s.setblocking(False)
        try:
            s.connect(address)
        except BlockingIOError:
            pass
        except OSError:
            s.close()
            continue
        sockets.append(s)
    made = 0
    until = time.monotonic() + ANSWER_S
    waiting = {s.fileno(): s for s in sockets}
    poll = select.poll()
    for fd in waiting:
        poll.register(fd, select.POLLOUT)
    while waiting and time.monotonic() < until:
        for fd, _ in poll.poll(100):
            poll.unregister(fd)
            made += waiting.pop(fd).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    for s in sockets:
        s.close()
    return made


def main():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    del soft
    ports = {}
    network = bytes.fromhex(sys.argv[2])
    for text in sys.argv[3:]:
        name, address, frame_max = text.split("=")
        host, port = address.rsplit(":", 1)
        ports[name] = ((host, int(port)), int(frame_max))
    report = {name: {"tried": 0, "ended": 0, "refused": 0, "flooded": 0, "answered": 0, "turned_away": 0,
                     "stayed": [], "clear": 0, "clear_ended": 0, "clear_refused": 0, "told": []}
              for name in ports}
    kept, dripping = [], []
    for name, (address, _) in ports.items():
        report[name]["flooded"] = flood(address)
    for name, (address, _) in ports.items():
        if name in CHANNELS:
            in_the_clear(address, report[name])
        quiet(address, kept, dripping)
    rounds = 0
    until = time.monotonic() + float(sys.argv[1])
    while rounds == 0 or time.monotonic() < until:
        rounds += 1
        for name, (address, frame_max) in ports.items():
            seen = report[name]
            if name == "peers":
                first_flights(address, network, seen)
            for what, make in attacks(frame_max):
                if rounds > 1 and time.monotonic() > until:
                    break
                s = connect(address)
                if s is None:
                    seen["refused"] += 1
                    continue
                seen["tried"] += 1
                try:
                    s.sendall(make())
                except OSError:
                    pass
                over, said = ended(s)
                if name in CHANNELS:
                    note(said, seen)
                if over:
                    seen["ended"] += 1
                elif what not in seen["stayed"] and len(seen["stayed"]) < 20:
                    seen["stayed"].append(what)
                s.close()
            drip(dripping)
    print(json.dumps({"rounds": rounds, "ports": report}), flush=True)
    for s in kept + dripping:
        s.close()


if __name__ == "__main__":
    main()
