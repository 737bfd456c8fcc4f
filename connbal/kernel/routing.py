"""Links, addresses, routes and policy-routing rules, through netlink.

Messages are put together here, attribute by attribute.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
from collections.abc import Iterable
from typing import Any

from connbal.kernel import copies, devices, messages, netlink, rtnl
from connbal.kernel.api import PASSING, RoutingState
from connbal.kernel.netlink import Channel, Message, Reader, Refused, V, attribute, attributes, refused
from connbal.model.config import Family, IPAddress
from connbal.model.facts import MainRoute
from connbal.model.marks import LOCAL_TABLE
from connbal.plan.describe import main_text, route_text, selector_text
from connbal.plan.explain_route import Way
from connbal.plan.state import ROUTE_PROTOCOL
from connbal.plan.values import IpRoute, IpRule

_RTM_GETLINK, _RTM_GETADDR = 18, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_RTM_NEWRULE, _RTM_DELRULE, _RTM_GETRULE = 32, 33, 34

_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_NOWHERE = 0, 253, 255
#: Stands in the 8-bit field where the table is one above 255, which only the attribute can hold.
_RT_TABLE_COMPAT = 252
#: Keeps the counters of every link out of the dump: RTEXT_FILTER_SKIP_STATS.
NO_COUNTERS = (("IFLA_EXT_MASK", 8),)


class SystemRouting:
    """Implements :class:`connbal.kernel.api.Routing` for the network namespace in which it is first used.

    For one thread at a time. Everything raises KernelError with the command a user would type, and what the kernel
    answered.
    """

    def __init__(self) -> None:
        self._netlink = Channel(socket.NETLINK_ROUTE)
        self._links = Reader(lambda data: rtnl.link_of(messages.LINK.decode(data, 0, len(data))))
        self._addresses = Reader(lambda data: rtnl.address_of(messages.ADDRESS.decode(data, 0, len(data))))
        self._routes = Reader(lambda data: rtnl.route_of(messages.ROUTE.decode(data, 0, len(data)), data))
        self._own = Reader(lambda data: rtnl.rule_of(messages.RULE.decode(data, 0, len(data))))
        self._made = rtnl.MainRoutes()
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
        found = (
            self._read(self._links, _RTM_GETLINK, "ip link", messages.LINK.encode(NO_COUNTERS)),
            self._read(self._addresses, _RTM_GETADDR, "ip address", messages.ADDRESS.encode()),
            self._read(self._routes, _RTM_GETROUTE, "ip route show table all", messages.ROUTE.encode()),
            self._read(self._own, _RTM_GETRULE, "ip rule", messages.RULE.encode()),
        )
        if self._last is None or any(new is not old for new, old in zip(found, self._last[0], strict=True)):
            self._last = found, rtnl.state(*found, self._made)
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
        question = _question(destination, source, incoming, outgoing, mark, command)
        try:
            answers = self._netlink.get(question, _RTM_GETROUTE, command, messages.ROUTE.decode)
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
            index = _index(route.device, command)
        except Refused:
            return
        self._unless_gone(route_message(route, index, delete=True), _RTM_DELROUTE, command)

    def copy_route(self, route: MainRoute) -> None:
        """Put a route of the main table into that of local routes, too; that it is there already is no error.

        Beside what is there: there may be several of one destination and metric, by several devices. IPv4 has to be
        told so; IPv6, told so, would make one of them that leads to all.
        """
        command = f"{_ip(route.family.value)} route append {main_text(route)} table {LOCAL_TABLE}"
        flags = netlink.NLM_F_CREATE | (netlink.NLM_F_APPEND if route.family is Family.IPV4 else 0)
        try:
            self._netlink.request(copies.message(route.raw, LOCAL_TABLE), _RTM_NEWROUTE, flags, command)
        except Refused as error:
            if error.code != errno.EEXIST:
                raise

    def delete_copy(self, route: MainRoute) -> None:
        """Take a route out of the table of local routes. That it, or its device, is gone already is no error."""
        command = f"{_ip(route.family.value)} route del {main_text(route)} table {LOCAL_TABLE}"
        self._unless_gone(copies.message(route.raw, LOCAL_TABLE), _RTM_DELROUTE, command)

    def _own_rules(self) -> frozenset[IpRule]:
        return frozenset(rule for rule in map(rtnl.rule_of, self._rules()) if rule is not None)

    def _rules(self) -> list[Message]:
        return self._dump(_RTM_GETRULE, "ip rule", messages.RULE)

    def _read(self, reader: Reader[V], number: int, command: str, question: bytes) -> list[V]:
        return reader.settled(self._netlink.dump(question, number, command, reader))

    def _dump(
        self, number: int, command: str, layout: messages.Layout, attributes: Iterable[tuple[str, Any]] = ()
    ) -> list[Message]:
        """What a table holds of every family, which is what family 0, AF_UNSPEC, asks for."""
        return self._netlink.dump(layout.encode(attributes), number, command, layout.decode)

    def _unless_gone(self, payload: bytes, number: int, command: str) -> None:
        try:
            self._netlink.request(payload, number, 0, command)
        except Refused as error:
            if error.code not in (errno.ENOENT, errno.ESRCH, errno.ENODEV):
                raise


def _index(device: str, command: str) -> int:
    try:
        return devices.index(device)
    except OSError as error:
        if error.errno in PASSING:
            raise refused(command, error.errno or 0) from None
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
    payload = messages.ROUTE.encode(family=Family.of(destination).af, dst_len=bits, src_len=bits if source else 0)
    payload += attribute(_RTA_DST, destination.packed)
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


def rule_message(rule: IpRule, protocol: int = ROUTE_PROTOCOL) -> bytes:
    """The payload of a message about a rule, for adding and for deleting. ``protocol``: 0 for any, or none."""
    attributes: list[tuple[str, Any]] = [("FRA_PRIORITY", rule.priority)]
    if protocol:
        attributes.append(("FRA_PROTOCOL", protocol))
    if rule.table:
        attributes.append(("FRA_TABLE", rule.table))
    if rule.mask:
        attributes += [("FRA_FWMARK", rule.mark), ("FRA_FWMASK", rule.mask)]
    if rule.iif:
        attributes.append(("FRA_IIFNAME", rule.iif))
    if rule.suppress_prefixlen >= 0:
        attributes.append(("FRA_SUPPRESS_PREFIXLEN", rule.suppress_prefixlen))
    return messages.RULE.encode(
        attributes, family=Family(rule.family).af, action=rtnl.RULE_ACTIONS[rule.action], table=_table(rule.table)
    )


def route_message(
    route: IpRoute, index: int, *, delete: bool = False, protocol: int = ROUTE_PROTOCOL, type_: int = rtnl.RTN_UNICAST
) -> bytes:
    """The payload of a message about a route through the device of number ``index``; 0: through none.

    ``delete``: for deleting it rather than adding it.
    """
    return messages.ROUTE.encode(
        _route_attributes(route, index),
        family=route.family.af,
        dst_len=route.destination.prefixlen,
        src_len=route.source.prefixlen if route.source is not None else 0,
        table=_table(route.table),
        proto=protocol,
        scope=_scope(route, delete),
        type=type_,
        flags=rtnl.RTNH_F_ONLINK if route.onlink else 0,
    )


def _scope(route: IpRoute, delete: bool) -> int:
    """IPv4 holds a route without a gateway for valid only where it says that the other end is on the link itself. IPv6
    has no scopes.
    """
    if route.family is Family.IPV6:
        return _RT_SCOPE_UNIVERSE
    if delete:
        return _RT_SCOPE_NOWHERE  # any
    return _RT_SCOPE_LINK if route.gateway is None else _RT_SCOPE_UNIVERSE


def _table(number: int) -> int:
    """What stands in the field of 8 bits."""
    return number if number < 256 else _RT_TABLE_COMPAT


def _route_attributes(route: IpRoute, index: int) -> list[tuple[str, Any]]:
    attributes: list[tuple[str, Any]] = [("RTA_TABLE", route.table)]
    if index:
        attributes.append(("RTA_OIF", index))
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
