"""What happens around the daemon, as a stream of events: the kernel's announcements, and lines from other processes.

All are read without blocking from the loop. An event only says that something changed and gives a word for the log;
what it is now, the next look at the kernel tells. Only a lost carrier, and an interface of which netifd says what
became of it, are told apart, because they count at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from connbal.errors import KernelError
from connbal.frozen import dataclass
from connbal.kernel import files
from connbal.locks import LOOSE
from connbal.plan.state import ROUTE_PROTOCOL
from connbal.track import culprits
from connbal.track.repairs import BEHIND

#: RTMGRP_LINK, _IPV4_IFADDR, _IPV4_ROUTE, _IPV4_RULE, _IPV6_IFADDR, _IPV6_ROUTE, RTNLGRP_IPV6_RULE (rtnetlink.h).
_GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 1 << 18
_RTM_NEWLINK, _RTM_DELLINK, _RTM_NEWADDR, _RTM_DELADDR = 16, 17, 20, 21
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_NEWRULE, _RTM_DELRULE = 24, 25, 32, 33
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = struct.Struct("=HH")
_FLAGS = struct.Struct("=I")
_IFLA_IFNAME, _FRA_PROTOCOL = 3, 21
_AF_BRIDGE = 7
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000

#: The protocol, and its group NFNLGRP_NFTABLES (7) as a bit (nfnetlink.h).
_NETLINK_NETFILTER, _NFTABLES = 12, 1 << 6
#: Message types (nf_tables.h) above those of other subsystems: NFNL_SUBSYS_NFTABLES is 10.
_NEWGEN = 10 << 8 | 15
#: NEWTABLE, DELTABLE, NEWCHAIN, DELCHAIN, NEWRULE, DELRULE. In each the first attribute is the table's name.
_CHANGES = frozenset(10 << 8 | number for number in (0, 2, 3, 5, 6, 8))
_NFGENMSG = 4  # bytes of the fixed part; the first is the family
_NFTA_TABLE, _NFTA_GEN_ID, _NFTA_GEN_PROC_PID, _NFTA_GEN_PROC_NAME = 1, 1, 2, 3

#: A storm that overruns this is no loss: whatever was missed, one look at the kernel finds it.
_BUFFER = 1 << 20

#: Actions netifd's hotplug hook hands on.
ACTIONS = ("ifup", "ifdown", "ifupdate", "ifup-failed")
#: What connbal's own commands say after the action ``changed``, and ``mwan3 restart``.
RESTART = "mwan3 restart"
_CHANGED = {"config": "configuration changed", "forced": "interface forced by the user", "restart": RESTART}
#: The action of who changes rules.
RULES = "rules"
#: What ``mwan3 ifdown`` and ``mwan3 ifup`` say after ``force INTERFACE``, and the actions these are.
HOLD, RELEASE = "hold", "release"
_FORCED = {"down": (HOLD, "mwan3 ifdown"), "auto": (RELEASE, "mwan3 ifup")}
_INTERFACE = re.compile(r"[A-Za-z0-9_.@-]{1,64}")


@dataclass(frozen=True)
class Happened:
    """Something changed."""

    cause: str  #: in words
    device: str | None = None
    carrier: bool | None = None  #: False: nothing is connected to ``device`` any more
    interface: str | None = None  #: of which netifd tells, one that the configuration need not have
    #: One of ACTIONS, HOLD, RELEASE, of ``interface``; ``changed``: a command of connbal changed something.
    #: RULES: somebody has changed rules, or may have.
    action: str | None = None
    by: str = ""  #: with RULES, who has, in words; empty: nobody knows
    generation: int = 0  #: with RULES, the kernel's number for what they are now; 0: it has none


Listener = Callable[[Happened], None]

_PLAIN = {
    _RTM_NEWADDR: Happened("address"), _RTM_DELADDR: Happened("address gone"),
    _RTM_NEWROUTE: Happened("route"), _RTM_DELROUTE: Happened("route gone"),
    _RTM_NEWRULE: Happened("rule"), _RTM_DELRULE: Happened("rule gone"),
}  # fmt: skip


class _Announcements:
    """A netlink socket in some groups. Raises OSError where the kernel has no such thing.

    ``take`` is called with each datagram, ``lost`` when there were more than the socket can hold.
    """

    def __init__(self, protocol: int, groups: int, take: Callable[[bytes], None], lost: Callable[[], None]) -> None:
        self._take, self._lost = take, lost
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, kind, protocol)
        try:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.bind((0, groups))
        except OSError:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        for _ in range(64):  # a storm must not keep the loop from everything else
            try:
                data = self._socket.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                self._lost()
                return
            self._take(data)


class Netlink:
    """Calls ``listener`` for each announcement about links, addresses, routes and rules that may matter.

    ``own_port``: whether a netlink port belongs to a socket of this process, so that the routes and rules which it
    deletes are no news; None: every deletion is.
    """

    def __init__(self, listener: Listener, own_port: Callable[[int], bool] | None = None) -> None:
        self._listener, self._own_port = listener, own_port
        self._socket = _Announcements(
            socket.NETLINK_ROUTE, _GROUPS, self._take, lambda: listener(Happened("netlink events were lost"))
        )

    def close(self) -> None:
        self._socket.close()

    def _take(self, data: bytes) -> None:
        for event in announcements(data, self._own_port):
            self._listener(event)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """The netlink messages of a datagram: type, port of who asked for it, where the payload begins and ends."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, _, _, port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            return
        yield kind, port, offset + _HEADER.size, offset + length
        offset += (length + 3) & ~3


def announcements(data: bytes, own_port: Callable[[int], bool] | None = None) -> list[Happened]:
    """The events in one datagram.

    connbal's own routes and rules are none when they are made, and none when they are deleted by a socket whose port
    is its own.
    """
    found = []
    for kind, port, begin, end in _messages(data):
        # Port 0 is the kernel itself: a route that went with its link.
        if kind in (_RTM_DELROUTE, _RTM_DELRULE) and own_port is not None and port and own_port(port):
            continue
        event = _event(kind, data[begin:end])
        if event is not None:
            found.append(event)
    return found


def _event(kind: int, body: bytes) -> Happened | None:
    if kind in (_RTM_NEWLINK, _RTM_DELLINK):
        return _link_event(kind, body)
    if kind == _RTM_NEWROUTE and len(body) > 5 and body[5] == ROUTE_PROTOCOL:
        return None
    if kind == _RTM_NEWRULE and _attribute(body, 12, _FRA_PROTOCOL) == bytes([ROUTE_PROTOCOL]):
        return None
    return _PLAIN.get(kind)


def _link_event(kind: int, body: bytes) -> Happened | None:
    if len(body) < 16 or body[0] == _AF_BRIDGE:  # what a bridge has to say of its ports
        return None
    name = _attribute(body, 16, _IFLA_IFNAME)
    device = name.rstrip(b"\0").decode("utf-8", "replace") if name else None
    (flags,) = _FLAGS.unpack_from(body, 8)
    carrier = kind == _RTM_NEWLINK and flags & _IFF_UP != 0 and flags & _IFF_LOWER_UP != 0
    word = "link" if kind == _RTM_NEWLINK else "link gone"
    return Happened(f"{word} {device or ''}".rstrip(), device, carrier)


def _attribute(body: bytes, offset: int, wanted: int) -> bytes | None:
    """The payload of the first attribute of one type, after ``offset`` bytes of a fixed part."""
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            return None
        if kind & 0x3FFF == wanted:
            return body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return None


class Nftables:
    """Calls ``listener`` when somebody else has changed the rules of table ``mangle``, of IPv4 or IPv6.

    It hears what iptables-nft and nft do, once for each transaction; iptables-legacy cannot be heard, nobody announces
    what it does. ``own``: whether a process is a child of this one, so that what it did is no news. The kernel counts
    processes as the machine does: inside a container with process numbers of its own, all changes are news.

    ``available``: whether the kernel lets anybody listen; where it does not, nothing is ever heard.
    """

    def __init__(self, listener: Listener, own: Callable[[int], bool]) -> None:
        self._listener, self._own = listener, own
        self._touched = False
        self._socket: _Announcements | None = None
        with contextlib.suppress(OSError):
            self._socket = _Announcements(_NETLINK_NETFILTER, _NFTABLES, self._take, self._lost)

    @property
    def available(self) -> bool:
        return self._socket is not None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()

    def _take(self, data: bytes) -> None:
        """Transactions never mix, and each ends with NEWGEN. dnsmasq's set elements, one at each DNS answer, pass."""
        for kind, _, begin, end in _messages(data):
            if kind == _NEWGEN and self._touched:
                self._touched = False
                self._committed(data[begin:end])
            elif kind in _CHANGES and not self._touched:
                self._touched = _is_mangle(data[begin:end])

    def _committed(self, body: bytes) -> None:
        pid = int.from_bytes(_attribute(body, _NFGENMSG, _NFTA_GEN_PROC_PID) or b"", "big")
        if pid and self._own(pid):
            return
        name = (_attribute(body, _NFGENMSG, _NFTA_GEN_PROC_NAME) or b"").rstrip(b"\0")
        generation = int.from_bytes(_attribute(body, _NFGENMSG, _NFTA_GEN_ID) or b"", "big")
        who, behind = (culprits.process(pid, name), culprits.starter(pid, name)) if pid else ("", "")
        self._listener(changed_rules(who, behind, generation))

    def _lost(self) -> None:
        self._touched = False
        self._listener(Happened("netfilter events were lost", action=RULES))


def changed_rules(by: str = "", starter: str = "", generation: int = 0) -> Happened:
    """Somebody has changed rules of iptables. ``by``: the process that did; ``starter``: the one behind it."""
    whole = BEHIND.join(filter(None, (by, starter)))
    cause = f"rules of table mangle changed{f' by {by}' if by else ''}"
    return Happened(cause, action=RULES, by=whole, generation=generation)


def _is_mangle(body: bytes) -> bool:
    family = body[0] if body else socket.AF_UNSPEC
    table = _attribute(body, _NFGENMSG, _NFTA_TABLE)
    return family in (socket.AF_INET, socket.AF_INET6) and table == b"mangle\0"


class Hotplug:
    """A named pipe for lines: the hotplug hook's ``ACTION INTERFACE DEVICE``, ``changed WHAT`` from commands, and
    ``force INTERFACE down`` or ``auto`` from ``mwan3 ifdown`` and ``mwan3 ifup``.

    Who writes opens it for reading and writing, so as not to wait for a reader, and writes less than a pipe takes in
    one piece. Scripts cannot write without waiting where the pipe is full. So they count, in the file ``unread``
    beside it, and write nothing any more when MOST events wait; what is read takes the count away.
    """

    #: A pipe of 64 KiB takes 800 lines with names of 64 characters; commands' lines need room too (see RunDir.poke).
    MOST = 400

    def __init__(self, path: Path, listener: Listener) -> None:
        self._path, self._listener = path, listener
        self._unread = path.with_name("unread")
        self._rest = b""
        self.recount()
        try:
            if not _is_ours(path):
                path.unlink(missing_ok=True)
                os.mkfifo(path, 0o600)
            self._descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError(f"mkfifo {path}", None, error.strerror or str(error)) from error
        asyncio.get_running_loop().add_reader(self._descriptor, self._read)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        with contextlib.suppress(OSError):
            self._path.unlink()
        self.recount()

    def recount(self) -> None:
        """Nothing waits. For once in a while, too: a script that was killed may have counted what it did not write."""
        with contextlib.suppress(OSError):
            self._unread.unlink()

    def _was_full(self) -> bool:
        with contextlib.suppress(KernelError, ValueError):
            return int(files.read(self._unread) or "") >= self.MOST
        return False

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 1 << 16)
        except BlockingIOError:
            return
        if self._was_full():
            self._listener(Happened("events may have been lost"))
        self.recount()
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[:256]
        for line in lines:
            event = hotplug_event(line)
            if event is not None:
                self._listener(event)


def _is_ours(path: Path) -> bool:
    """Whether there is a named pipe that nobody else could have open, left by a daemon that was killed."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISFIFO(found.st_mode) and not found.st_mode & LOOSE and found.st_uid == os.geteuid()


def hotplug_event(line: bytes) -> Happened | None:
    """A line as an event; None for anything else, whoever wrote it."""
    words = line.decode("ascii", "replace").split()
    if not 2 <= len(words) <= 3 or len(line) > 256:
        return None
    action, name = words[:2]
    if action == "changed":
        cause = _CHANGED.get(name) if len(words) == 2 else None
        return Happened(cause, action=action) if cause else None
    if not _INTERFACE.fullmatch(name):
        return None
    if action == "force":
        kind, said = _FORCED.get(words[-1], ("", "")) if len(words) == 3 else ("", "")
        return Happened(f"{said} {name}", interface=name, action=kind) if kind else None
    if action not in ACTIONS:
        return None
    return Happened(f"{action} {name}", interface=name, action=action)
