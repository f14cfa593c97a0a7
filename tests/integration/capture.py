#!/usr/bin/env python3
"""capture.py FILE: what passes over loopback by TCP between ports 20000 and 30999, until SIGTERM; prints "ready"
when it listens, and at the end how many packets the system lost, having no room. Exit status 77: this user may
not capture.

Each packet's payload stands behind source port u16, target port u16 and size u32, big-endian; shows.py reads
that. FILE.programs says which program dialled, as far as its connection lived for long enough to be looked up:
its port and its name, one a line."""
import os
import signal
import socket
import struct
import sys
import time

ETH_P_IP = 0x0800
SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING = 33, 263, 6, 23
PORTS = range(20000, 31000)
LOOK_S = 0.2
OURS = ("ami-mdms", "dc-node", "ami-meter", "dc-cli")


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


def sockets_of_programs():
    """Inode of each socket of a program of ours, and whose it is."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                name = file.read().strip()
            if name not in OURS:
                continue
            for fd in os.listdir(f"/proc/{pid}/fd"):
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
                if link.startswith("socket:["):
                    found[link[8:-1]] = name
        except OSError:
            continue  # it has ended
    return found


def look(inodes, programs):
    """Adds to `programs`, by port, who has dialled since the last look; `inodes` is what was known."""
    new = {}
    with open("/proc/net/tcp", encoding="utf-8") as file:
        for line in file.readlines()[1:]:
            word = line.split()
            port, to = (int(word[i].split(":")[1], 16) for i in (1, 2))
            if to in PORTS and word[9] != "0" and inodes.get(port) != word[9]:
                new[port] = word[9]
    if not new:
        return
    owners = sockets_of_programs()
    for port, inode in new.items():
        if inode not in owners:
            continue
        inodes[port] = inode
        # A port that two programs have had, one after the other, says nothing.
        programs[port] = owners[inode] if programs.get(port, owners[inode]) == owners[inode] else "several"


def main():
    try:
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
        s.bind(("lo", ETH_P_IP))
        s.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    except PermissionError:
        sys.exit(77)
    s.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)  # loopback shows each packet twice
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    s.settimeout(0.1)
    inodes, programs, next_look = {}, {}, 0
    with open(sys.argv[1], "wb") as out:
        print("ready", flush=True)
        while True:
            if time.monotonic() >= next_look:
                look(inodes, programs)
                next_look = time.monotonic() + LOOK_S
            if stopped:  # what has passed by then is still there to be read
                s.setblocking(False)
            try:
                packet, address = s.recvfrom(1 << 17)
            except TimeoutError:
                continue
            except BlockingIOError:
                break
            if address[2] != socket.PACKET_OUTGOING:
                out.write(record(packet))
    with open(sys.argv[1] + ".programs", "w", encoding="utf-8") as out:
        out.writelines(f"{port} {name}\n" for port, name in programs.items())
    lost = struct.unpack("II", s.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
    print(f"lost {lost}", flush=True)


if __name__ == "__main__":
    main()
