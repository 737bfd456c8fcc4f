"""Whatever a user without rights can think of to hold up a router: run as that user, in the router, by its source text.

The arguments: seconds, and directories that are looked into. Everything has bounds: what is held, what is sent, and for
how long. It ends by itself, prints what came of it as one line of JSON, and needs nothing but Python.
"""

import contextlib
import fcntl
import json
import os
import random
import resource
import socket
import stat
import struct
import sys
import time

#: Descriptors that each of some processes takes; ports; connections to one socket; datagrams a second of each flood.
FILES, HOLDERS, PORTS, CONNECTIONS, RATE = 20_000, 3, 12_000, 200, 10_000
#: Ports that are flooded: few, or the kernel's table of connections is what is full.
_TARGETS = range(9000, 9064)


def paths(roots):
    for root in roots:
        for directory, folders, names in os.walk(root):
            yield directory
            for name in (*folders, *names):
                yield os.path.join(directory, name)


def lock(roots, end):
    """Take every lock there is, by whatever can be opened, and hold it."""
    found, held = {"opened": 0, "locked": 0, "tried": 0}, {}
    while time.monotonic() < end:
        for path in paths(roots):
            with contextlib.suppress(OSError):
                now = os.stat(path)
                if stat.S_ISSOCK(now.st_mode) or (path in held and os.fstat(held[path]).st_ino == now.st_ino):
                    continue
                found["tried"] += 1
            for flags in (os.O_RDWR, os.O_RDONLY):
                with contextlib.suppress(OSError):
                    held[path] = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
                    found["opened"] += 1
                    fcntl.flock(held[path], fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found["locked"] += 1
                    break
        time.sleep(0.05)
    return found


def connect(roots, end):
    """Connect to every socket, say little or nothing, read nothing, and stay."""
    found, open_ = {"sockets": 0, "connected": 0, "written": 0}, []
    while time.monotonic() < end:
        for path in paths(roots):
            with contextlib.suppress(OSError):
                kind = os.lstat(path).st_mode
                if stat.S_ISFIFO(kind):
                    descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
                    found["written"] += os.write(descriptor, b"force wan1 down\n")
                    os.close(descriptor)
                if stat.S_ISSOCK(kind):
                    found["sockets"] += 1
                    one = socket.socket(socket.AF_UNIX)
                    one.setblocking(False)
                    one.connect(path)
                    found["connected"] += 1
                    one.send(random.choice((b"", b"{", b'{"ask": "view"}\n', b'{"ask": "events", "follow": true}\n')))
                    open_.append(one)
        for one in open_[:-CONNECTIONS]:
            one.close()
        del open_[:-CONNECTIONS]
        for port in listening():
            with contextlib.suppress(OSError):
                one = socket.socket()
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
                open_.append(one)
                found["connected"] += 1
        time.sleep(0.02)
    return found


def listening():
    with open("/proc/net/tcp") as lines:
        return [int(line.split()[1].split(":")[1], 16) for line in list(lines)[1:] if line.split()[3] == "0A"]


def flood(addresses, end):
    """Datagrams to the router's own addresses, which it refuses with ICMP; and pings where a user may send them."""
    found = {"datagrams": 0, "refused": 0, "pings": 0}
    senders = {family: socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)}
    with contextlib.suppress(OSError):
        pinging = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
        senders["ping"] = pinging
    for one in senders.values():
        one.setblocking(False)
    payload = bytes(512)
    begin = time.monotonic()
    while (now := time.monotonic()) < end:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            try:
                senders[family].sendto(payload, (address, random.choice(_TARGETS)))
                found["datagrams"] += 1
                if "ping" in senders and family == socket.AF_INET:
                    senders["ping"].sendto(struct.pack("!BBHHH", 8, 0, 0, 0, 1) + payload, (address, 0))
                    found["pings"] += 1
            except OSError:
                found["refused"] += 1
        if found["datagrams"] > RATE * (now - begin):
            time.sleep(0.001)
    return found


def dump(_, end):
    """Ask the kernel for everything it tells everybody, by netlink: links, addresses, routes, rules."""
    found = {"dumps": 0}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as asking:
        asking.settimeout(1)
        while time.monotonic() < end:
            for kind in (18, 22, 26, 34):
                with contextlib.suppress(OSError):
                    asking.send(struct.pack("=IHHII16x", 32, kind, 0x301, 1, 0))
                    while not done(asking.recv(1 << 16)):
                        pass
                    found["dumps"] += 1
            time.sleep(0.005)
    return found


def done(said):
    """Whether the end of a dump, or an error, is among some messages."""
    at = 0
    while at + 16 <= len(said):
        length, kind = struct.unpack_from("=IH", said, at)
        if kind in (2, 3):
            return True
        at += max((length + 3) & ~3, 16)
    return False


def exhaust(_, end):
    """Take as many descriptors as may be, and hold them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    with contextlib.suppress(OSError):
        while len(held) < FILES:
            held.append(os.open("/dev/null", os.O_RDONLY))
    time.sleep(max(end - time.monotonic(), 0))
    return {"files": len(held)}


def ports(_, end):
    """Take the ports from which the router would ask name servers."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = []
    with contextlib.suppress(OSError):
        while len(held) < PORTS:
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            held.append(one)
            one.bind(("0.0.0.0", 0))  # noqa: S104
    time.sleep(max(end - time.monotonic(), 0))
    return {"ports": len(held)}


def main():
    seconds, roots, addresses = json.loads(sys.argv[1])
    end = time.monotonic() + seconds
    work = [(lock, roots), (connect, roots), (flood, addresses), (dump, ()), (ports, ()), *[(exhaust, ())] * HOLDERS]
    children = []
    for what, about in work:
        reading, writing = os.pipe()
        if not os.fork():
            os.close(reading)
            with contextlib.suppress(KeyboardInterrupt):
                os.write(writing, json.dumps(what(about, end)).encode())
            os._exit(0)
        os.close(writing)
        children.append(reading)
    print("ready", flush=True)
    found = {}
    for reading in children:
        with open(reading, "rb") as stream:
            for key, count in json.loads(stream.read() or b"{}").items():
                found[key] = found.get(key, 0) + count
    print(json.dumps(found))


if __name__ == "__main__":
    main()
