#!/usr/bin/env python3
"""capture.py FILE: what passes over loopback by TCP between ports 20000 and 30999, until SIGTERM; prints "ready"
when it listens, and at the end how many packets the system lost, having no room. Exit status 77: this user may
not capture.

Each packet's payload stands behind source port u16, target port u16 and size u32, big-endian; shows.py reads
that."""
import signal
import socket
import struct
import sys

ETH_P_IP = 0x0800
SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS = 33, 263, 6
PORTS = range(20000, 31000)


def record(packet):
    """Of one Ethernet frame; empty unless it is TCP from or to one of the ports."""
    if len(packet) < 54 or packet[12:14] != b"\x08\x00" or packet[23] != 6:
        return b""
    at = 14 + 4 * (packet[14] & 15)
    total = struct.unpack_from(">H", packet, 16)[0]
    source, target = struct.unpack_from(">HH", packet, at)
    if source not in PORTS and target not in PORTS:
        return b""
    payload = packet[at + 4 * (packet[at + 12] >> 4):14 + total]
    return struct.pack(">HHI", source, target, len(payload)) + payload if payload else b""


def main():
    try:
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        s.bind(("lo", ETH_P_IP))
    except PermissionError:
        sys.exit(77)
    s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    s.settimeout(0.1)
    with open(sys.argv[1], "wb") as out:
        print("ready", flush=True)
        while True:
            if stopped:  # what has passed by then is still there to be read
                s.setblocking(False)
            try:
                packet, address = s.recvfrom(1 << 17)
            except TimeoutError:
                continue
            except BlockingIOError:
                break
            if address[2] != socket.PACKET_OUTGOING:  # loopback shows each packet twice
                out.write(record(packet))
    lost = struct.unpack("II", s.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
    print(f"lost {lost}", flush=True)


if __name__ == "__main__":
    main()
