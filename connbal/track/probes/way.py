"""Sockets that leave by one interface, whatever the rules say; and what went wrong with them, in words.

Two things make a packet leave by its interface, and both are needed:

- SO_BINDTODEVICE: routes by other devices do not count for this socket, and answers that come in by others are not
  seen. Alone it does not help: the hook in mangle OUTPUT marks the packet as the rules say, the kernel then looks it up
  again in the table of *another* interface, finds nothing there for this device, and (IPv4) takes the destination for a
  neighbour on the link and asks for it by ARP.
- SO_MARK with the interface's own mark: the hook leaves marked packets alone, and the rule 2000+id sends them to the
  interface's table, which is there as long as its network is, online or not.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import struct
from dataclasses import replace

from connbal.frozen import dataclass
from connbal.kernel import devices
from connbal.kernel.api import PASSING
from connbal.model.config import Family, IPAddress
from connbal.track.api import Miss

# Numbers of <asm-generic/socket.h>, <linux/in.h> and <linux/in6.h> that the module socket lacks in some versions.
SO_MARK = 36
IP_BIND_ADDRESS_NO_PORT = 24
IP_RECVERR = {Family.IPV4: (socket.IPPROTO_IP, 11), Family.IPV6: (socket.IPPROTO_IPV6, 25)}
_SIOCGIFADDR, _SIOCGIFHWADDR = 0x8915, 0x8927
_ARPHRD_ETHER = 1
#: Tentative, failed and deprecated addresses (<linux/if_addr.h>) are no good as a source.
_IFA_UNFIT = 0x40 | 0x08 | 0x20
_GLOBAL_SCOPE = 0

#: Errors that say something of this machine alone. Beside what it may be short of: a packet that netfilter drops here,
#: because a rule says so or because the table of connections is full (EPERM); no port left (EADDRINUSE); nothing left
#: to be watched (ENOSPC, of epoll).
_LOCAL = PASSING | {errno.EPERM, errno.EADDRINUSE, errno.ENOSPC}

SockAddr = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True)
class Way:
    """How packets leave: by a device, in one family, with a mark and from an address."""

    device: str
    family: Family
    mark: int = 0  #: SO_MARK, 32 bits; 0: none
    source: IPAddress | None = None  #: an address of the device; None: found out when it is needed
    index: int = 0  #: of the device; 0: not looked up yet

    def settled(self) -> Way:
        """The same with ``index`` and ``source`` as they are now.

        Raises OSError: ENODEV where the device is not there, EADDRNOTAVAIL where it has no such address, or none; and
        what :func:`miss` takes for a trouble of this machine.
        """
        index = devices.index(self.device)
        source = self.source or own_address(self.device, self.family)
        if source is None:
            raise OSError(errno.EADDRNOTAVAIL, "no address")
        found = replace(self, index=index, source=source)
        if self.source is not None:
            # A socket that is open already would go on sending from an IPv6 address that is gone.
            found.socket(socket.SOCK_STREAM).close()
        return found

    def prepare(self, sock: socket.socket) -> None:
        """Bind a socket to device and source, and mark it. Raises OSError."""
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.device.encode() + b"\0")
        if self.mark:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self.mark)
        if self.source is not None:
            if sock.type == socket.SOCK_STREAM:
                # Else every connection would hold a port of its own, also against those to other hosts.
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind(self.sockaddr(str(self.source), 0))

    def socket(self, kind: int, protocol: int = 0) -> socket.socket:
        """A new socket that leaves this way and does not block. Raises OSError."""
        sock = socket.socket(self.family.af, kind, protocol)
        try:
            self.prepare(sock)
        except OSError:
            sock.close()
            raise
        return sock

    def sockaddr(self, address: str, port: int) -> SockAddr:
        """An address as sockets take it, link-local ones with the device they are on."""
        if self.family is Family.IPV4:
            return address, port
        return address, port, 0, self.index if address.startswith(("fe8", "fe9", "fea", "feb")) else 0

    def words(self, error: OSError) -> str:
        """What an error means for a probe."""
        if error.errno in (errno.ENODEV, errno.ENXIO):
            return f"no such device {self.device}"
        if error.errno in (errno.EADDRNOTAVAIL, errno.EINVAL):
            # EINVAL is what IPv4 answers when the bound source has gone since.
            return f"no address {self.source} on {self.device}" if self.source else f"no address on {self.device}"
        return _WORDS.get(error.errno or 0) or (os.strerror(error.errno).lower() if error.errno else str(error))


def miss(error: OSError) -> Miss:
    """What it means for a probe that it met an error: whether it says something of the source."""
    return Miss.UNASKED if error.errno in _LOCAL else Miss.LOST


def connecting(error: OSError) -> OSError:
    """An error of a TCP connect as it is meant: that no port is left has the number of an address that is missing."""
    return OSError(errno.EADDRINUSE, "no port") if error.errno == errno.EADDRNOTAVAIL else error


_WORDS = {
    errno.EMFILE: "too many files are open in this process",
    errno.ENFILE: "too many files are open on this machine",
    errno.ENOMEM: "no memory",
    errno.ENOBUFS: "no memory for packets",
    errno.EAGAIN: "no resources for another packet or connection",
    errno.EADDRINUSE: "no port is left here",
    errno.ENOSPC: "too many descriptors are watched here",
    errno.ENETUNREACH: "network unreachable",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "connection reset",
    errno.ETIMEDOUT: "timeout",
    errno.ENETDOWN: "device is down",
    errno.EPERM: "not permitted (dropped by a firewall rule here, or its table of connections is full?)",
    errno.EACCES: "administratively prohibited",
    errno.EMSGSIZE: "packet too big",
    errno.EAFNOSUPPORT: "address family not supported",
    errno.EOPNOTSUPP: "no Ethernet, so no neighbours to ask",
}


def own_address(device: str, family: Family) -> IPAddress | None:
    """An address of the device that packets into the world can come from; None: it has none.

    Raises OSError where this machine cannot tell now.
    """
    try:
        if family is Family.IPV4:
            return ipaddress.IPv4Address(devices.ask(device, _SIOCGIFADDR)[20:24])
        # Not /proc/net: that follows the process's first thread, also when this one is in another namespace.
        with open("/proc/thread-self/net/if_inet6", encoding="ascii") as file:
            return address6(file.read(), device)
    except OSError as error:
        if miss(error) is Miss.UNASKED:
            raise
        return None
    except ValueError:
        return None


def address6(listing: str, device: str) -> IPAddress | None:
    """The first fit global address of a device in a listing in the form of ``/proc/net/if_inet6``."""
    for line in listing.splitlines():
        fields = line.split()  # address, then in hex: index, prefix length, scope, flags; name of the device
        try:
            if len(fields) != 6 or fields[5] != device:
                continue
            if int(fields[3], 16) == _GLOBAL_SCOPE and not int(fields[4], 16) & _IFA_UNFIT:
                return ipaddress.IPv6Address(bytes.fromhex(fields[0]))
        except ValueError:
            continue
    return None


def ethernet_address(device: str) -> bytes:
    """The MAC address of a device. Raises OSError: ENODEV; EOPNOTSUPP where neighbours have no such addresses."""
    answer = devices.ask(device, _SIOCGIFHWADDR)
    if struct.unpack_from("=H", answer, 16)[0] != _ARPHRD_ETHER:
        raise OSError(errno.EOPNOTSUPP, "not an Ethernet")
    return answer[18:24]
