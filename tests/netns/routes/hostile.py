"""A source whose far end says by DHCP or router advertisement which routes it wants in the router."""

from __future__ import annotations

import ipaddress
import shutil
import struct
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from tests.lab import Lab

#: Whoever these are taken for by the router is one source's, whatever the policies say.
PINNED, OWN = "tv", "pc"
DEVICE, NODE, GATEWAY, GATEWAY6 = "e-wwan", "inet-wwan", "10.2.0.1", "fd00:2::1"
TARGET = {4: "203.0.113.7", 6: "2001:db8:ffff::7"}

Attack = Callable[[Lab], None]


def routes(*wanted: str, protocol: str = "static") -> Attack:
    """Routes in the main table, as netifd puts those of a lease; ``protocol``: or somebody else."""

    def attack(lab: Lab) -> None:
        for one in wanted:
            gateway = GATEWAY6 if ":" in one else GATEWAY
            version = "-6" if ":" in one else "-4"
            lab.router.run(["ip", version, "route", "add", one, "via", gateway, "dev", DEVICE, "proto", protocol])

    return attack


def address(text: str) -> Attack:
    """An address, with a mask that puts others' networks behind the device."""

    def attack(lab: Lab) -> None:
        lab.router.run(["ip", "address", "add", text, "dev", DEVICE, *(["nodad"] if ":" in text else [])])

    return attack


# --- router advertisements ------------------------------------------------------------------------------------------

#: Sends one router advertisement from the namespace it runs in. Arguments: device, and options in hexadecimal digits.
_SENDER = """
import socket, struct, sys
device, options = sys.argv[1], bytes.fromhex(sys.argv[2])
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
index = socket.if_nametoindex(device)
advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0) + options  # router lifetime 0: no default route
raw.sendto(advertisement, ("ff02::1", 0, 0, index))
"""


def prefix_information(prefix: str, length: int) -> str:
    """An option that says of a prefix that it is on the link (RFC 4861, 4.6.2)."""
    head = struct.pack("!BBBBIII", 3, 4, length, 0x80, 600, 600, 0)
    return (head + ipaddress.IPv6Address(prefix).packed).hex()


def route_information(prefix: str, length: int) -> str:
    """An option that gives a route (RFC 4191, 2.3)."""
    return (struct.pack("!BBBBI", 24, 3, length, 0x08, 600) + ipaddress.IPv6Address(prefix).packed).hex()


def advertisement(*options: str) -> Attack:
    """A real advertisement, which the router's kernel heeds."""

    def attack(lab: Lab) -> None:
        own = f"net/ipv6/conf/{DEVICE}"
        lab.router.sysctl({f"{own}/accept_ra": "2", f"-{own}/accept_ra_rt_info_max_plen": "128"})
        before = lab.router.run(["ip", "-6", "route", "show", "dev", DEVICE]).stdout
        other = _device(lab)
        for _ in range(20):
            lab.node(NODE).run([sys.executable, "-c", _SENDER, other, "".join(options)])
            time.sleep(0.1)
            if lab.router.run(["ip", "-6", "route", "show", "dev", DEVICE]).stdout != before:
                return
        raise AssertionError("the advertisement made no route")

    return attack


# --- DHCP -----------------------------------------------------------------------------------------------------------

#: What a client does with a lease: OpenWrt's and Debian's differ in no way that matters here.
_SCRIPT = """\
#!/bin/sh
[ "$1" = bound ] || [ "$1" = renew ] || exit 0
ip address replace "$ip/$mask" dev "$interface"
set -- $staticroutes
while [ $# -ge 2 ]; do
    [ "$1" = 0.0.0.0/0 ] || ip route replace "$1" via "$2" dev "$interface"
    shift 2
done
"""


def lease(*wanted: str, mask: str = "255.255.255.0") -> Attack:
    """A real lease of busybox's server, taken by its client; ``wanted``: classless static routes (option 121)."""

    def attack(lab: Lab) -> None:
        busybox = shutil.which("busybox")
        assert busybox is not None
        directory = Path(lab.config_dir).parent / "dhcp"
        directory.mkdir(exist_ok=True)
        device = _device(lab)
        offered = ",".join(f"{one} {GATEWAY}" for one in wanted)
        (directory / "udhcpd.conf").write_text(textwrap.dedent(f"""\
            start 10.2.0.100
            end 10.2.0.110
            interface {device}
            lease_file {directory}/leases
            pidfile {directory}/pid
            opt subnet {mask}
            {f"opt staticroutes {offered}" if offered else ""}
        """))
        (directory / "leases").touch()
        script = directory / "script"
        script.write_text(_SCRIPT)
        script.chmod(0o755)
        server = lab.node(NODE).popen([busybox, "udhcpd", "-f", str(directory / "udhcpd.conf")])
        try:
            lab.router.run(
                [busybox, "udhcpc", "-i", DEVICE, "-n", "-q", "-f", "-t", "5", "-T", "1", "-O", "staticroutes",
                 "-s", str(script)]
            )  # fmt: skip
        finally:
            server.kill()
            server.wait(timeout=10)

    return attack


def _device(lab: Lab) -> str:
    shown = lab.node(NODE).run(["ip", "-o", "-4", "address", "show"]).stdout.splitlines()
    return next(line.split()[1] for line in shown if f" {GATEWAY}/" in line)
