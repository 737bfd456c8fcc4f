"""Values that say which traffic a rule matches, and hosts to probe: from text to addresses, ports, protocols.

Pure. As in :mod:`connbal.uci.values`, a parser takes one word and its OptionSpec and raises BadValue. What comes
out is made of numbers and addresses, or is a text of a known narrow alphabet, so nothing written in a configuration
can reach a restore file as anything but what it is.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping

from connbal.frozen import dataclass
from connbal.model.config import AddressMatch, IPAddress, IPNetwork, PortRange
from connbal.uci.schema import OptionSpec
from connbal.uci.values import BadValue, digits

#: Protocol numbers by the names IANA gives them and by the aliases of ``/etc/protocols``, as OpenWrt ships it, and of
#: iptables. ``ipip`` is IANA's 94, as it has always been for mwan3; the tunnels Linux calls so are ``ipencap``, 4.
PROTOCOLS: Mapping[str, int] = {
    "icmp": 1, "igmp": 2, "ggp": 3, "ipencap": 4, "ipv4": 4, "st": 5, "tcp": 6, "egp": 8, "igp": 9, "pup": 12,
    "udp": 17, "hmp": 20, "xns-idp": 22, "rdp": 27, "iso-tp4": 29, "dccp": 33, "xtp": 36, "ddp": 37,
    "idpr-cmtp": 38, "ipv6": 41, "ipv6-route": 43, "ipv6-frag": 44, "idrp": 45, "rsvp": 46, "gre": 47, "esp": 50,
    "ipsec-esp": 50, "ah": 51, "ipsec-ah": 51, "skip": 57, "ipv6-icmp": 58, "icmpv6": 58, "icmp6": 58,
    "ipv6-nonxt": 59, "ipv6-opts": 60, "rspf": 73, "vmtp": 81, "eigrp": 88, "ospf": 89, "ospfigp": 89, "ax.25": 93,
    "ipip": 94, "etherip": 97, "encap": 98, "pim": 103, "ipcomp": 108, "vrrp": 112, "l2tp": 115, "isis": 124,
    "sctp": 132, "fc": 133, "ipv6-mh": 135, "mh": 135, "mobility-header": 135, "udplite": 136, "mpls-in-ip": 137,
    "manet": 138, "hip": 139, "shim6": 140, "wesp": 141, "rohc": 142,
}  # fmt: skip

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
#: Protocols whose ports the multiport match of iptables can read: tcp, udp, dccp, sctp, udplite.
PORT_PROTOCOLS = frozenset((TCP, UDP, 33, 132, 136))

#: Stands for "all protocols" in the values of :func:`parse_protocol`; 0 is what iptables takes for it.
ANY_PROTOCOL = 0

_ADDRESS = re.compile(r"[0-9a-fA-F:./-]{2,128}\Z")
_NEGATION = re.compile(r"![ \t\r\n\v\f]*")
_PORT = re.compile(r"([0-9]+)(?:[:-]([0-9]+))?\Z")
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z|[0-9a-f]{2}(?:-[0-9a-f]{2}){5}\Z")
_NETWORK = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z")
_SET = re.compile(r"[A-Za-z0-9_.:+][A-Za-z0-9_.:+-]{0,30}\Z")
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z")


@dataclass(frozen=True)
class AddressWord:
    """One word of ``src_ip`` or ``dest_ip``: a network (a range may take several) and whether ``!`` was before it."""

    network: IPNetwork
    negated: bool


def join_negation(text: str) -> str:
    """``! 10.0.0.0/8`` as ``!10.0.0.0/8``, so that splitting at blanks keeps the two together."""
    return _NEGATION.sub("!", text)


def parse_addresses(word: str, spec: OptionSpec) -> tuple[AddressWord, ...]:
    """``192.0.2.1``, ``192.0.2.0/24``, ``192.0.2.0/255.255.255.0``, ``2001:db8::/32``, ``192.0.2.1-192.0.2.9``; ``!``.

    Host bits are masked away. Host names, zones (``%eth0``) and wildcard masks (``/0.0.0.255``) are refused.
    """
    negated = word.startswith("!")
    bare = word[1:] if negated else word
    if not _ADDRESS.match(bare):
        raise BadValue("is not an address")
    try:
        networks = _range(bare) if "-" in bare else (_network(bare),)
    except BadValue:
        raise
    except ValueError:
        raise BadValue("is not an address") from None
    return tuple(AddressWord(network, negated) for network in networks)


def _network(text: str) -> IPNetwork:
    address, slash, mask = text.partition("/")
    if slash and not mask:
        raise BadValue("has an empty network mask")
    if slash and ":" in address and not mask.isdigit():
        raise BadValue("has a network mask that is not a number of bits")
    if "." in mask:
        # ip_network() would take /0.0.0.255 for /24; everybody else takes it for something else.
        inverted = int(ipaddress.IPv4Address(mask)) ^ 0xFFFFFFFF
        if inverted & (inverted + 1):
            raise BadValue("has a network mask with holes")
        text = f"{address}/{32 - inverted.bit_length()}"
    return ipaddress.ip_network(text, strict=False)


def _range(text: str) -> tuple[IPNetwork, ...]:
    first, _, last = text.partition("-")
    low: IPAddress = ipaddress.ip_address(first)
    high: IPAddress = ipaddress.ip_address(last)
    if isinstance(low, ipaddress.IPv4Address) and isinstance(high, ipaddress.IPv4Address) and low <= high:
        return tuple(ipaddress.summarize_address_range(low, high))
    if isinstance(low, ipaddress.IPv6Address) and isinstance(high, ipaddress.IPv6Address) and low <= high:
        return tuple(ipaddress.summarize_address_range(low, high))
    raise BadValue("is not a range from a lower to a higher address of one family")


def to_match(found: Iterable[AddressWord]) -> AddressMatch:
    """The words of one option as a match. Raises BadValue where some, but not all, are negated."""
    found = tuple(found)
    if len({word.negated for word in found}) > 1:
        raise BadValue("has ! before some of its addresses only")
    return AddressMatch(tuple(word.network for word in found), found[0].negated)


def parse_port(word: str, spec: OptionSpec) -> tuple[PortRange, ...]:
    """``443``, ``1024:2048`` or ``1024-2048``."""
    match = _PORT.match(word)
    if match is None:
        raise BadValue("is neither a port number nor a range of them")
    first = digits(match.group(1))
    last = first if match.group(2) is None else digits(match.group(2))
    if max(first, last) > 65535:
        raise BadValue("is beyond the last port, 65535")
    if first > last:
        raise BadValue("is a range whose end comes before its start")
    return (PortRange(first, last),)


def parse_protocol(word: str, spec: OptionSpec) -> tuple[int, ...]:
    """A protocol's name in any case or its number, ``tcpudp``, or one of ``all``, ``any``: (ANY_PROTOCOL,)."""
    name = word.lower()
    if name in ("all", "any"):
        return (ANY_PROTOCOL,)
    if name == "tcpudp":
        return (TCP, UDP)
    if name in PROTOCOLS:
        return (PROTOCOLS[name],)
    try:
        number = digits(name)
    except BadValue:
        raise BadValue("is not a protocol that connbal knows by name") from None
    if not 1 <= number <= 255:
        raise BadValue("is not a protocol's number")
    return (number,)


def to_protocols(found: Iterable[int]) -> tuple[int, ...]:
    """The numbers of one option; none where "all" is among them."""
    found = tuple(found)
    return () if ANY_PROTOCOL in found else found


def parse_mac(word: str, spec: OptionSpec) -> tuple[str, ...]:
    """Six pairs of hexadecimal digits with ``:`` or ``-`` between them, as ``aa:bb:cc:dd:ee:ff``."""
    mac = word.lower()
    if not _MAC.match(mac):
        raise BadValue("is not a MAC address")
    return (mac.replace("-", ":"),)


def parse_network(word: str, spec: OptionSpec) -> tuple[str, ...]:
    if not _NETWORK.match(word):
        raise BadValue("is not the name of a network")
    return (word,)


def parse_set(text: str, spec: OptionSpec) -> str:
    if not _SET.match(text):
        raise BadValue("is not the name of an ipset")
    return text


def parse_host(word: str, spec: OptionSpec) -> tuple[str, ...]:
    """An address without zone, or a host name: labels of letters, digits, ``-`` and ``_``, 253 characters in all.

    A name that ends in a number (``1.1.1``, ``256.1.1.1``) is a mistyped address, not a name (RFC 3696, 2).
    """
    if len(word) > 254 or not word.isascii():
        raise BadValue("is neither an address nor a host name")
    if ":" in word:
        if "%" in word or not is_address(word):
            raise BadValue("is not an address")
        return (word,)
    labels = word.removesuffix(".").split(".")
    if len(word.removesuffix(".")) > 253 or not all(_LABEL.match(label) for label in labels):
        raise BadValue("is neither an address nor a host name")
    if labels[-1].isdigit() and not is_address(word):
        raise BadValue("is not an address")
    return (word,)


def is_address(text: str) -> bool:
    """Whether an entry of ``track_ip`` is an address, and no name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
