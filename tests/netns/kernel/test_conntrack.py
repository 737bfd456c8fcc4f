"""SystemConntrack against the real kernel."""

from __future__ import annotations

import ipaddress
import socket

import pytest

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel.conntrack import Connection, SystemConntrack
from connbal.model.config import Family
from tests.netns.kernel.isolation import isolated, run

pytestmark = pytest.mark.netns

LOCAL = {Family.IPV4: "127.0.0.1", Family.IPV6: "::1"}


def connect(family: Family, mark: int, port: int) -> Connection:
    """Make a UDP connection over the loopback with this mark, and say how conntrack should know it."""
    address = LOCAL[family]
    with socket.socket(family.af, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        sender.bind((address, 0))
        sender.sendto(b"x", (address, port))
        own_port = sender.getsockname()[1]
    parsed = ipaddress.ip_address(address)
    return Connection(family, socket.IPPROTO_UDP, parsed, parsed, own_port, port, mark)


def track() -> None:
    for tool in ("iptables", "ip6tables"):
        run(f"{tool} -t mangle -A OUTPUT -p udp -j CONNMARK --save-mark")


@isolated
def test_only_connections_of_the_mark_go() -> None:
    track()
    kept = {connect(family, mark, port=9) for family in LOCAL for mark in (0x200, 0x1, 0x300)}
    gone = {connect(family, mark, port=9) for family in LOCAL for mark in (0x100, 0x101, 0x80100)}
    conntrack = SystemConntrack()
    started = programs.executions
    assert {found for found in conntrack.connections() if found.destination_port == 9} == kept | gone
    conntrack.flush(0x100, 0x3F00)
    assert {found for found in conntrack.connections() if found.destination_port == 9} == kept
    conntrack.flush(0x100, 0x3F00)
    conntrack.flush(0, 0x3F00)
    marks = {found.mark for found in conntrack.connections() if found.destination_port == 9}
    assert marks == {0x200, 0x300}
    assert programs.executions == started


@isolated
def test_a_mask_that_would_mean_everything_is_refused() -> None:
    for mark, mask in ((0, 0), (0x100, 0), (0x4100, 0x3F00)):
        with pytest.raises(KernelError, match="conntrack -D --mark"):
            SystemConntrack().flush(mark, mask)


@isolated
def test_other_protocols_have_no_ports() -> None:
    run("iptables -t mangle -A OUTPUT -m conntrack --ctstate NEW -j ACCEPT")
    run("ping -c 1 -W 1 127.0.0.1")
    found = [connection for connection in SystemConntrack().connections() if connection.protocol == 1]
    assert [(connection.source_port, connection.destination_port) for connection in found] == [(0, 0)]
