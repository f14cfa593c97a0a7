#!/usr/bin/env python3
"""flood.py NETWORK_ID HOST:PORT SOURCE COUNT SECONDS: well-formed first flights of channels, from this address, as
fast as they can be sent: at most COUNT, for at most SECONDS, or until SIGTERM.

Every flight is another one, so that each costs the other side an answer unless its gate says no. A few hundred
connections are open at a time. Prints one JSON object: how many were sent, answered and turned away."""
import collections
import json
import os
import select
import signal
import socket
import struct
import sys
import time

OPEN = 200
GENERATOR = bytes.fromhex("0232c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7")


def main():
    network = bytes.fromhex(sys.argv[1])
    host, port = sys.argv[2].rsplit(":", 1)
    source, count, until = sys.argv[3], int(sys.argv[4]), time.monotonic() + float(sys.argv[5])
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    seen = {"sent": 0, "answered": 0, "turned_away": 0, "refused": 0}
    waiting = collections.OrderedDict()
    poll = select.poll()

    def finish(fd):
        poll.unregister(fd)
        s = waiting.pop(fd)
        try:
            answer = s.recv(5)
            seen["answered" if answer[4:5] == b"\xa2" else "turned_away"] += 1
        except BlockingIOError:
            pass  # pushed out unheard, by ourselves
        except OSError:
            seen["turned_away"] += 1
        s.close()

    while not stopped and seen["sent"] < count and time.monotonic() < until:
        s = socket.socket()
        s.settimeout(5)
        try:
            s.bind((source, 0))
            s.connect((host, int(port)))
            flight = b"\xa1\x01\x03\x0e" + network + os.urandom(32) + GENERATOR
            s.sendall(struct.pack(">I", len(flight)) + flight)
        except OSError:
            seen["refused"] += 1
            s.close()
            continue
        seen["sent"] += 1
        s.setblocking(False)
        waiting[s.fileno()] = s
        poll.register(s.fileno(), select.POLLIN)
        for fd, _ in poll.poll(0):
            finish(fd)
        if len(waiting) >= OPEN:
            finish(next(iter(waiting)))
    for fd in list(waiting):
        finish(fd)
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main()
