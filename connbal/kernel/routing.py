"""Links, addresses, routes and policy-routing rules, through netlink.

Messages are put together here, attribute by attribute, rather than with pyroute2's ``route()`` and ``rule()``: those
changed between versions, and what goes to the kernel should not.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from typing import Any

from connbal.kernel import netlink, rtdecode, rtnl
from connbal.kernel.api import RoutingState
from connbal.kernel.netlink import Channel, Message, Raw, Reader, Refused, V, attribute, attributes
from connbal.model.config import Family, IPAddress
from connbal.plan.describe import route_text, selector_text
from connbal.plan.explain_route import Way
from connbal.plan.state import ROUTE_PROTOCOL
from connbal.plan.values import IpRoute, IpRule

_RTM_GETLINK, _RTM_GETADDR = 18, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34

_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_NOWHERE = 0, 253, 255
#: Stands in the 8-bit field where the table is one above 255, which only the attribute can hold.
_RT_TABLE_COMPAT = 252
#: Keeps the counters of every link out of the dump.
_RTEXT_FILTER_SKIP_STATS = 8


class SystemRouting:
    """Implements :class:`connbal.kernel.api.Routing` for the network namespace in which it is first used.

    For one thread at a time. Everything raises KernelError with the command a user would type, and what the kernel
    answered.
    """

    def __init__(self) -> None:
        self._netlink = Channel(socket.NETLINK_ROUTE)
        self._links = Reader(lambda data: rtnl.link_of(rtdecode.LINK.decode(data, 0, len(data))))
        self._addresses = Reader(lambda data: rtnl.address_of(rtdecode.ADDRESS.decode(data, 0, len(data))))
        self._routes = Reader(lambda data: rtnl.route_of(rtdecode.ROUTE.decode(data, 0, len(data))))
        self._own = Reader(lambda data: rtnl.rule_of(rtdecode.RULE.decode(data, 0, len(data))))
        self._last: tuple[tuple[object, ...], RoutingState] | None = None

    def close(self) -> None:
        """Let go of the socket. The object may be used again."""
        self._netlink.close()

    @property
    def port(self) -> int | None:
        """Netlink's name for what makes the changes; None: nothing was asked yet."""
        return self._netlink.port

    def read(self) -> RoutingState:
        """One dump of each table; the same object as before where nothing has changed.

        TransientError where they change faster than they can be read.
        """
        # Links first: an address or route that appears later than its link is seen; the other way round it is lost.
        skip = ("IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS)
        found = (
            self._read(self._links, "ifinfmsg", _RTM_GETLINK, "ip link", skip),
            self._read(self._addresses, "ifaddrmsg", _RTM_GETADDR, "ip address"),
            self._read(self._routes, "rtmsg", _RTM_GETROUTE, "ip route show table all"),
            self._read(self._own, "fibmsg", _RTM_GETRULE, "ip rule"),
        )
        if self._last is None or any(new is not old for new, old in zip(found, self._last[0], strict=True)):
            self._last = found, rtnl.state(*found)
        return self._last[1]

    def way(
        self,
        destination: IPAddress,
        source: IPAddress | None = None,
        *,
        incoming: str | None = None,
        outgoing: str | None = None,
        mark: int = 0,
    ) -> Way | None:
        """Where the kernel would send a packet. ``incoming``: the device it comes in by; None: the router sends it,
        bound to ``outgoing`` if that is given. None where the kernel cannot say, as of IPv6 multicast.
        """
        command = _ip(Family.of(destination).value) + f" route get {destination}"
        message = Raw(_question(destination, source, incoming, outgoing, mark, command))
        try:
            answers = self._netlink.get(message, _RTM_GETROUTE, command, rtdecode.ROUTE.decode)
        except Refused as error:
            if error.code == errno.EMSGSIZE:
                return None
            if error.code in _NO_WAY:
                return Way(refused=error.output.lower())
            raise
        return _way(answers[0]) if answers else Way(refused="no answer")

    def add_rule(self, rule: IpRule) -> None:
        """Add a rule; that there is an identical one of connbal's own already is no error.

        The kernel takes no notice of the protocol when it looks for an identical rule. Where only somebody else has
        one, connbal's is put beside it, so that it stays when the other goes.
        """
        command = f"{_ip(rule.family)} rule add {rule_text(rule)}"
        try:
            self._netlink.request(rule_message(rule), _RTM_NEWRULE, netlink.NLM_F_CREATE | netlink.NLM_F_EXCL, command)
        except Refused as error:
            if error.code != errno.EEXIST:
                raise
            if rule not in self._own_rules():
                self._netlink.request(rule_message(rule), _RTM_NEWRULE, netlink.NLM_F_CREATE, command)

    def delete_rule(self, rule: IpRule) -> None:
        """Remove one of connbal's own rules. That it is gone already is no error."""
        command = f"{_ip(rule.family)} rule del {rule_text(rule)}"
        self._unless_gone(rule_message(rule), _RTM_DELRULE, command)

    def replace_route(self, route: IpRoute) -> None:
        """Add a route, or replace the one of the same table, destination and metric in one step."""
        command = f"{_ip(route.family.value)} route replace {route_text(route)}"
        message = route_message(route, _index(route.device, command))
        self._netlink.request(message, _RTM_NEWROUTE, netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE, command)

    def delete_route(self, route: IpRoute) -> None:
        """Remove one of connbal's own routes. That it, or its device, is gone already is no error."""
        command = f"{_ip(route.family.value)} route del {route_text(route)}"
        try:
            message = route_message(route, _index(route.device, command))
        except Refused:
            return
        if route.family is Family.IPV4:
            message["scope"] = _RT_SCOPE_NOWHERE  # any
        self._unless_gone(message, _RTM_DELROUTE, command)

    def _own_rules(self) -> frozenset[IpRule]:
        return frozenset(rule for rule in map(rtnl.rule_of, self._rules()) if rule is not None)

    def _rules(self) -> list[Message]:
        return self._dump("fibmsg", _RTM_GETRULE, "ip rule", rtdecode.RULE)

    def _read(
        self, reader: Reader[V], kind: str, number: int, command: str, *attributes: tuple[str, Any]
    ) -> list[V]:
        return reader.settled(self._netlink.dump(_everything(kind, *attributes), number, command, reader))

    def _dump(
        self, kind: str, number: int, command: str, layout: rtdecode.Layout, *attributes: tuple[str, Any]
    ) -> list[Message]:
        return self._netlink.dump(_everything(kind, *attributes), number, command, layout.decode)

    def _unless_gone(self, message: Any, number: int, command: str) -> None:
        try:
            self._netlink.request(message, number, 0, command)
        except Refused as error:
            if error.code not in (errno.ENOENT, errno.ESRCH, errno.ENODEV):
                raise


def _message(kind: str) -> Any:
    return netlink.codec(f"rtnl.{kind}", kind, "ip")()


def _everything(kind: str, *attributes: tuple[str, Any]) -> Any:
    """The question for a whole table."""
    message = _message(kind)
    message["family"] = socket.AF_UNSPEC
    message["attrs"] = list(attributes)
    return message


def _index(device: str, command: str) -> int:
    try:
        return socket.if_nametoindex(device)
    except OSError:
        raise Refused(command, errno.ENODEV, f"no such device: {device}") from None


# --- where a packet goes ------------------------------------------------------------------------------------------

#: What unreachable, prohibit and blackhole routes and rules answer, and no route at all.
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL})
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_MARK = 1, 2, 3, 4, 16


def _question(
    destination: IPAddress,
    source: IPAddress | None,
    incoming: str | None,
    outgoing: str | None,
    mark: int,
    command: str,
) -> bytes:
    """The payload of RTM_GETROUTE for one packet."""
    bits = destination.max_prefixlen
    head = rtdecode.ROUTE.header.pack(Family.of(destination).af, bits, bits if source else 0, 0, 0, 0, 0, 0, 0)
    payload = head + attribute(_RTA_DST, destination.packed)
    if source is not None:
        payload += attribute(_RTA_SRC, source.packed)
    for number, device in ((_RTA_IIF, incoming), (_RTA_OIF, outgoing)):
        if device:
            payload += attribute(number, _index(device, command).to_bytes(4, sys.byteorder))
    return payload + attribute(_RTA_MARK, mark.to_bytes(4, sys.byteorder))


def _way(message: Message) -> Way:
    told = attributes(message)
    if message["type"] not in (rtnl.RTN_UNICAST, rtnl.RTN_LOCAL):
        return Way(refused=_REFUSING.get(message["type"], "no route"))
    gateway, source = told.get("RTA_GATEWAY") or told.get("RTA_VIA", {}).get("addr"), told.get("RTA_PREFSRC")
    return Way(
        device=_device(told.get("RTA_OIF", 0)),
        gateway=ipaddress.ip_address(gateway) if gateway else None,
        source=ipaddress.ip_address(source) if source else None,
        local=message["type"] == rtnl.RTN_LOCAL,
    )


#: Types of route that send nothing (linux/rtnetlink.h).
_REFUSING = {6: "blackhole", 7: "unreachable", 8: "prohibit"}


def _device(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


# --- values to messages -------------------------------------------------------------------------------------------


def rule_message(rule: IpRule) -> Any:
    """A rule as pyroute2 encodes it, for adding and for deleting."""
    message = _message("fibmsg")
    message["family"] = Family(rule.family).af
    message["action"] = rtnl.RULE_ACTIONS[rule.action]
    message["table"] = rule.table if rule.table < 256 else _RT_TABLE_COMPAT
    attributes: list[tuple[str, Any]] = [("FRA_PRIORITY", rule.priority), ("FRA_PROTOCOL", ROUTE_PROTOCOL)]
    if rule.table:
        attributes.append(("FRA_TABLE", rule.table))
    if rule.mask:
        attributes += [("FRA_FWMARK", rule.mark), ("FRA_FWMASK", rule.mask)]
    if rule.iif:
        attributes.append(("FRA_IIFNAME", rule.iif))
    if rule.suppress_prefixlen >= 0:
        attributes.append(("FRA_SUPPRESS_PREFIXLEN", rule.suppress_prefixlen))
    message["attrs"] = attributes
    return message


def route_message(route: IpRoute, index: int) -> Any:
    """A route through the device of number ``index`` as pyroute2 encodes it."""
    message = _message("rtmsg")
    message["family"] = route.family.af
    message["table"] = route.table if route.table < 256 else _RT_TABLE_COMPAT
    message["proto"] = ROUTE_PROTOCOL
    message["type"] = rtnl.RTN_UNICAST
    # IPv4 holds a route without a gateway for valid only where it says that the other end is on the link itself.
    direct = route.gateway is None and route.family is Family.IPV4
    message["scope"] = _RT_SCOPE_LINK if direct else _RT_SCOPE_UNIVERSE
    message["flags"] = rtnl.RTNH_F_ONLINK if route.onlink else 0
    message["dst_len"] = route.destination.prefixlen
    message["attrs"] = _route_attributes(route, index)
    if route.source is not None:
        message["src_len"] = route.source.prefixlen
    return message


def _route_attributes(route: IpRoute, index: int) -> list[tuple[str, Any]]:
    attributes: list[tuple[str, Any]] = [("RTA_TABLE", route.table), ("RTA_OIF", index)]
    if route.destination.prefixlen:
        attributes.append(("RTA_DST", str(route.destination.network_address)))
    if route.gateway is not None:
        if Family.of(route.gateway) is route.family:
            attributes.append(("RTA_GATEWAY", str(route.gateway)))
        else:
            via = {"family": Family.of(route.gateway).af, "addr": str(route.gateway)}
            attributes.append(("RTA_VIA", via))
    if route.metric:
        attributes.append(("RTA_PRIORITY", route.metric))
    if route.prefsrc is not None:
        attributes.append(("RTA_PREFSRC", str(route.prefsrc)))
    if route.source is not None:
        attributes.append(("RTA_SRC", str(route.source.network_address)))
    return attributes


# --- values to commands, for messages -----------------------------------------------------------------------------


def _ip(family: str) -> str:
    return "ip" if family == Family.IPV4.value else "ip -6"


def rule_text(rule: IpRule) -> str:
    """What follows ``ip rule add`` on a command line."""
    return f"priority {rule.priority} {selector_text(rule)}"
