#!/usr/bin/env python3
"""capture.py FILE PORT...: what passes over loopback from or to these TCP ports, payloads only, until
SIGTERM; prints "ready" when it listens. Exit status 77: this user may not capture."""
import signal
import socket
import struct
import sys

ETH_P_IP = 0x0800


def payload(packet, ports):
    """Of one Ethernet frame; empty unless it is TCP from or to one of the ports."""
    if len(packet) < 54 or packet[12:14] != b"\x08\x00" or packet[23] != 6:
        return b""
    at = 14 + 4 * (packet[14] & 15)
    total = struct.unpack_from(">H", packet, 16)[0]
    source, target = struct.unpack_from(">HH", packet, at)
    if source not in ports and target not in ports:
        return b""
    return packet[at + 4 * (packet[at + 12] >> 4) : 14 + total]


def main():
    ports = {int(text) for text in sys.argv[2:]}
    try:
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        s.bind(("lo", ETH_P_IP))
    except PermissionError:
        sys.exit(77)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    s.settimeout(0.1)
    with open(sys.argv[1], "wb") as out:
        print("ready", flush=True)
        while not stopped:
            try:
                packet, address = s.recvfrom(1 << 17)
            except TimeoutError:
                continue
            if address[2] != socket.PACKET_OUTGOING:  # loopback shows each packet twice
                out.write(payload(packet, ports))


if __name__ == "__main__":
    main()
