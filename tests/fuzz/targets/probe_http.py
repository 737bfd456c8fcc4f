"""httping: what counts as an answer, and that a host from the configuration stays one host in what is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator

from connbal.track.probes import http
from connbal.uci.decode import decode
from connbal.uci.package import Package, Section

LONGEST = 300
TOKENS = (b"HTTP/1.1 200", b"HTTP/1.0 ", b"HTTP/", b"\r\n", b"Host: ", b"example.com", b"2001:db8::1", b"192.0.2.1")


def seeds() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\n"
    yield b"HTTP/2 404"
    yield b"HTTP/1.1 2"
    yield b"example.com"
    yield b"2001:db8::1"
    yield b"fe80::1%eth0"
    yield b"a\r\nHost: b"


def check(data: bytes) -> None:
    assert http.is_answer(data) == bool(re.match(rb"HTTP/[^ ]* [0-9]{3}", data))
    section = Section("wan", "interface", False, {"enabled": "1", "track_ip": (data.decode("utf-8",
    "surrogateescape"),)})
    for interface in decode(Package("mwan3", (section,))).config.interfaces:
        for host in interface.track_ip:
            asked = http.request(host)
            assert re.fullmatch(
                rb"HEAD / HTTP/1\.1\r\nHost: [A-Za-z0-9_.:\[\]-]+\r\nUser-Agent: connbal\r\n"
                rb"Accept: \*/\*\r\nConnection: close\r\n\r\n", asked
            ), asked  # fmt: skip
