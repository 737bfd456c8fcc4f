"""Opens many connections from one namespace and reports which source answered each.

Reads a `Job`, writes one JSON line per result: [src, dst, name, error, at, took, peer],
in constant mode as they come. Ends when its standard input closes.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import sys
import time
from collections import deque
from typing import Any, TypedDict

from tests.lab.agents import life
from tests.lab.agents.server import HTTP_PORTS

_SO_MARK = 36
_IP_FREEBIND = 15
_IPV6_FREEBIND = 78
_IP_BIND_ADDRESS_NO_PORT = 24


class Job(TypedDict):
    """What to do. Times are seconds."""

    proto: str  # tcp or udp
    port: int
    pairs: list[list[str]]  # [source or "", destination]
    parallel: int  # connections under way at once
    timeout: float  # for each connection
    peer: bool  # ask which address the server saw
    device: str  # SO_BINDTODEVICE, "" for none
    mark: int  # SO_MARK, 0 for none
    rate: float  # 0: all pairs once, as fast as possible; else pairs in a circle, this many a second
    first_port: int  # source port of the first UDP question, 0..49999 above 10000
    count: int  # in constant mode: end after this many
    seconds: float  # the agent's own end
    parent: int
    signal: bool  # whether the parent-death signal may be asked for


class Attempt:
    """One connection under way."""

    __slots__ = ("at", "data", "deadline", "dst", "sock", "src")

    def __init__(self, src: str, dst: str, sock: socket.socket, timeout: float) -> None:
        self.src, self.dst, self.sock = src, dst, sock
        self.at = time.monotonic()
        self.deadline = self.at + timeout
        self.data = b""


class Client:
    """The epoll loop: opens attempts as allowed, finishes them as answers or errors arrive."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.udp = job["proto"] == "udp"
        self.epoll = select.epoll()
        self.epoll.register(0, select.EPOLLIN)
        self.open: dict[int, Attempt] = {}
        self.queue: deque[Attempt] = deque()  # in order of deadline, as all timeouts are equal
        self.out: list[str] = []
        self.stopping = False
        self.question = b"peer\n" if job["peer"] else b"?\n"
        # On a port that greets there is nothing to ask, unless the peer is wanted.
        self.asks = self.udp or job["peer"] or job["port"] in HTTP_PORTS
        self.next_port = job["first_port"]
        self.wanted = 2 if job["peer"] and not self.udp and job["port"] not in HTTP_PORTS else 1

    def start(self, src: str, dst: str) -> None:
        """Open one connection; an error that comes at once is a result like any other."""
        family = socket.AF_INET6 if ":" in dst else socket.AF_INET
        kind = socket.SOCK_DGRAM if self.udp else socket.SOCK_STREAM
        sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        attempt = Attempt(src, dst, sock, self.job["timeout"])
        try:
            self.prepare(sock, family, src)
            code = sock.connect_ex((dst, self.job["port"]))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
            if self.udp:
                sock.send(self.question)
        except OSError as error:
            self.finish(attempt, None, error_name(error))
            return
        self.open[sock.fileno()] = attempt
        self.queue.append(attempt)
        self.epoll.register(sock.fileno(), select.EPOLLIN if self.udp or not self.asks else select.EPOLLOUT)

    def prepare(self, sock: socket.socket, family: int, src: str) -> None:
        """Mark, device and source address as the job says."""
        if self.job["mark"]:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, self.job["mark"])
        if self.job["device"]:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.job["device"].encode())
        if src and family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        elif src:
            sock.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        if self.udp:
            self.bind_fresh_port(sock, src)
        elif src:
            # Choose the port at connect time: otherwise 28,000 ports are all there are per source.
            sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((src, 0))

    def bind_fresh_port(self, sock: socket.socket, src: str) -> None:
        """Bind to a port not used before.

        The router remembers a UDP flow for 30 s or more. Ports that the kernel draws at random come again
        within that time: a question would then belong to an old flow, follow its marks, and be dropped by
        masquerading if it leaves by another device.
        """
        for _ in range(100):
            port = 10_000 + self.next_port % 50_000
            self.next_port += 1
            try:
                sock.bind((src, port))
                return
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "no free port")

    def event(self, fd: int, mask: int) -> None:
        """Something happened on one connection."""
        attempt = self.open[fd]
        sock = attempt.sock
        try:
            if mask & select.EPOLLERR:
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
            if mask & select.EPOLLOUT:
                sock.send(self.question)
                self.epoll.modify(fd, select.EPOLLIN)
            if mask & (select.EPOLLIN | select.EPOLLHUP):
                data = sock.recv(512)
                if not data:
                    raise ConnectionError(errno.ECONNRESET, "closed without an answer")
                attempt.data += data
        except OSError as error:
            self.finish(attempt, None, error_name(error))
            return
        if attempt.data.count(b"\n") >= self.wanted:
            self.finish(attempt, attempt.data.decode(errors="replace").split("\n")[self.wanted - 1], None)

    def finish(self, attempt: Attempt, line: str | None, error: str | None) -> None:
        """Write the result down and close."""
        self.open.pop(attempt.sock.fileno(), None)
        attempt.sock.close()
        attempt.deadline = 0.0
        name, _, peer = (line or "").partition(" ")
        took = round(time.monotonic() - attempt.at, 6)
        row: list[Any] = [attempt.src, attempt.dst, name or None, error, attempt.at, took, peer.strip() or None]
        self.out.append(json.dumps(row))

    def expire(self) -> None:
        """Fail what has waited too long."""
        now = time.monotonic()
        while self.queue and self.queue[0].deadline <= now:
            attempt = self.queue.popleft()
            if attempt.deadline:  # 0 once finished
                self.finish(attempt, None, "timeout")

    def step(self, wait: float) -> None:
        """One turn of the loop, of at most `wait` seconds."""
        if self.queue:
            wait = min(wait, max(0.0, self.queue[0].deadline - time.monotonic()))
        for fd, mask in self.epoll.poll(wait):
            if fd == 0:
                self.heard_parent()
            elif fd in self.open:
                self.event(fd, mask)
        self.expire()

    def heard_parent(self) -> None:
        """`stop` ends the opening of connections; a closed pipe ends everything."""
        if not os.read(0, 64):
            os._exit(0)
        self.stopping = True

    def flush(self) -> None:
        """Hand results to the parent."""
        if self.out:
            sys.stdout.write("\n".join(self.out) + "\n")
            sys.stdout.flush()
            self.out.clear()

    def batch(self) -> None:
        """Every pair once, as fast as `parallel` allows."""
        for src, dst in self.job["pairs"]:
            while len(self.open) >= self.job["parallel"]:
                self.step(1.0)
            self.start(src, dst)
        while self.open:
            self.step(1.0)

    def constant(self) -> None:
        """Pairs in a circle at a steady rate, until `count`, or `stop` from the parent."""
        pairs, step, done = self.job["pairs"], 1.0 / self.job["rate"], 0
        begin = time.monotonic()
        while done < self.job["count"] and not self.stopping:
            now = time.monotonic()
            while done < self.job["count"] and begin + done * step <= now and len(self.open) < self.job["parallel"]:
                self.start(*pairs[done % len(pairs)])
                done += 1
            self.step(max(0.001, begin + done * step - time.monotonic()))
            self.flush()
        while self.open:
            self.step(1.0)


def error_name(error: OSError) -> str:
    """`ECONNREFUSED` and so on."""
    return errno.errorcode.get(error.errno or 0, str(error))


def main() -> None:
    """Read the job, do it, write the results."""
    job: Job = life.read_job()
    life.bound(job["seconds"], job["parent"], job["signal"])
    life.allow_many_files()
    client = Client(job)
    if job["rate"]:
        client.constant()
    else:
        client.batch()
    client.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
