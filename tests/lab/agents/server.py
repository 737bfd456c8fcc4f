"""Answers TCP and UDP in any number of namespaces, each time with the name of the source it stands for.

Reads a job: {"nodes": [[netns path, name], ...], "tcp": [port, ...], "udp": [port, ...], "seconds": n,
"parent": pid}
Writes "ready" when every socket listens. Ends when its standard input closes (unless parent is 0).

TCP: says `NAME` on accept (on ports 80 and 8080, where HTTP is spoken: when asked), then answers each
line: `? N` with `NAME N`, `peer` with `NAME ADDRESS PORT`, `GET ...` with an HTTP reply and a close.
UDP: a DNS query to port 53 gets a DNS reply, `peer` as above, and any other datagram `NAME`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable

from tests.lab.agents import dns, life

HTTP_PORTS = frozenset({80, 8080})
_IP_PKTINFO = 8
_MAX_LINE = 8192
Handler = Callable[[], None]


class Server:
    """All sockets of all namespaces in one epoll loop."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.handlers: dict[int, Handler] = {}

    def watch(self, sock: socket.socket, handler: Handler) -> None:
        """Call `handler` whenever `sock` can be read."""
        self.handlers[sock.fileno()] = handler
        self.epoll.register(sock.fileno(), select.EPOLLIN)

    def drop(self, sock: socket.socket) -> None:
        """Forget and close `sock`."""
        self.handlers.pop(sock.fileno(), None)
        sock.close()

    def listen_tcp(self, name: str, port: int) -> None:
        """One dual-stack listener on every local address, AnyIP ones included."""
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(("::", port))
        sock.listen(4096)
        self.watch(sock, lambda: self.accept(sock, name, port))

    def accept(self, listener: socket.socket, name: str, port: int) -> None:
        """Take up to 64 waiting connections, so that no listener starves the others."""
        for _ in range(64):
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setblocking(False)
            connection = Connection(self, sock, name)
            self.watch(sock, connection.readable)
            if port not in HTTP_PORTS:
                connection.send(f"{name}\n".encode())

    def listen_udp(self, name: str, port: int, family: socket.AddressFamily) -> None:
        """One socket per family: with a dual-stack one the reply's source address cannot be chosen."""
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.bind(("::", port))
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            sock.bind(("0.0.0.0", port))
        self.watch(sock, lambda: datagrams(sock, name, port))

    def run(self) -> None:
        """Serve until standard input closes or the alarm rings."""
        while True:
            for fd, _ in self.epoll.poll():
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler()


class Connection:
    """One accepted TCP connection."""

    def __init__(self, server: Server, sock: socket.socket, name: str) -> None:
        self.server, self.sock, self.name, self.buffer = server, sock, name, b""

    def send(self, data: bytes) -> None:
        """Send or give up: a peer that does not read is not waited for."""
        try:
            self.sock.send(data)
        except OSError:
            self.server.drop(self.sock)

    def readable(self) -> None:
        """Answer each whole line that has arrived."""
        try:
            data = self.sock.recv(4096)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                self.server.drop(self.sock)
            return
        self.buffer += data
        if not data or len(self.buffer) > _MAX_LINE:
            self.server.drop(self.sock)
            return
        if self.buffer[:4] in (b"GET ", b"HEAD"):
            self.http()
            return
        while b"\n" in self.buffer and self.sock.fileno() >= 0:
            line, _, self.buffer = self.buffer.partition(b"\n")
            self.line(line.strip())

    def line(self, line: bytes) -> None:
        """Answer one line; blank ones are silent."""
        if line == b"peer":
            self.send(f"{self.name} {plain_peer(self.sock.getpeername())}\n".encode())
        elif line:
            self.send(f"{self.name} {line[1:].decode(errors='replace').strip()}".rstrip().encode() + b"\n")

    def http(self) -> None:
        """A whole HTTP request gets the name as its page."""
        if b"\r\n\r\n" not in self.buffer and b"\n\n" not in self.buffer:
            return
        body = b"" if self.buffer.startswith(b"HEAD") else f"{self.name}\n".encode()
        size = len(self.name) + 1
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n"
        self.send(head.encode() + body)
        if self.sock.fileno() >= 0:
            self.server.drop(self.sock)


def plain_peer(address: tuple[object, ...]) -> str:
    """`ADDRESS PORT`, with an IPv4 address in its own form."""
    return f"{str(address[0]).removeprefix('::ffff:')} {address[1]}"


def datagrams(sock: socket.socket, name: str, port: int) -> None:
    """Answer up to 64 datagrams, each from the very address it was sent to."""
    for _ in range(64):
        try:
            data, ancillary, _, peer = sock.recvmsg(2048, 256)
        except OSError:
            return
        answer: bytes | None
        if port == 53 and dns.looks_like_query(data):
            answer = dns.reply(data, name)
        elif data.strip() == b"peer":
            answer = f"{name} {plain_peer(peer)}\n".encode()
        else:
            answer = f"{name}\n".encode()
        if answer is None:
            continue
        try:
            sock.sendmsg([answer], reply_from(ancillary), 0, peer)
        except OSError:
            continue


def reply_from(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The control message that makes a reply leave from the address the question was sent to."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO:
            # struct in_pktinfo {ifindex, spec_dst, addr}: ifindex 0 leaves the route to the tables.
            return [(level, kind, struct.pack("=I4s4s", 0, data[8:12], b"\0" * 4))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return [(level, kind, data[:16] + struct.pack("=I", 0))]
    return []


def main() -> None:
    """Open everything, say ready, serve."""
    job = life.read_job()
    life.bound(job["seconds"], job["parent"], job["signal"])
    life.allow_many_files()
    server = Server()
    for path, name in job["nodes"]:
        life.enter_netns(path)
        for port in job["tcp"]:
            server.listen_tcp(name, port)
        for port in job["udp"]:
            server.listen_udp(name, port, socket.AF_INET)
            server.listen_udp(name, port, socket.AF_INET6)
    os.write(1, b"ready\n")
    if job["parent"]:
        # The other end is held by the lab alone: readable means that the lab is gone.
        server.handlers[0] = lambda: os._exit(0)
        server.epoll.register(0, select.EPOLLIN)
    else:
        # Kept: hold nothing of whoever started it, a shell's pipe for instance.
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
    server.run()


if __name__ == "__main__":
    main()
