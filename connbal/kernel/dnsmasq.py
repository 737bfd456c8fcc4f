"""dnsmasq as it is installed here: what its build can do, and making it read its configuration again."""

from __future__ import annotations

import os
from dataclasses import dataclass

from connbal.errors import KernelError
from connbal.kernel import exec as programs

#: OpenWrt's, which reads ``/etc/config/dhcp``.
INIT = "/etc/init.d/dnsmasq"
#: What the first line of a script of OpenWrt's ends with: Debian has one of the same name, which reads no UCI.
_OPENWRT = b"/etc/rc.common"
#: Seconds to print its version, and to be restarted. The latter waits for a DHCP server that may be there already.
_VERSION_TIMEOUT, _RESTART_TIMEOUT = 5.0, 60.0


@dataclass(frozen=True)
class Build:
    """What the installed dnsmasq was built with."""

    ipset: bool  #: it fills sets of the kind connbal's rules look into
    nftset: bool  #: it fills sets of nftables, which connbal's rules cannot look into


def build() -> Build | None:
    """What ``dnsmasq --version`` says; None where there is no dnsmasq, or it does not say."""
    if programs.find("dnsmasq") is None:
        return None
    try:
        return parse_version(programs.run(["dnsmasq", "--version"], timeout=_VERSION_TIMEOUT).stdout)
    except KernelError:
        return None


def parse_version(text: str) -> Build | None:
    """``Compile time options: IPv6 ... ipset no-nftset ...``. One that does not name nftset is older than that."""
    for line in text.splitlines():
        title, found, rest = line.partition("Compile time options:")
        if found and not title.strip():
            words = rest.split()
            return Build("ipset" in words, "nftset" in words)
    return None


def reads_uci(script: str = INIT) -> bool:
    """Whether dnsmasq is started here by OpenWrt's init script, which reads ``/etc/config/dhcp``."""
    try:
        with open(script, "rb") as stream:
            return stream.readline(256).rstrip().endswith(_OPENWRT) and os.access(script, os.X_OK)
    except OSError:
        return False


def restart(script: str = INIT) -> None:
    """Have dnsmasq read its configuration anew, which also forgets what names resolved to.

    Raises KernelError: the script failed, or took too long.
    """
    programs.run([script, "restart"], timeout=_RESTART_TIMEOUT)
