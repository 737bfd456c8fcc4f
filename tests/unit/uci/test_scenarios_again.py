"""A scenario that is asked for again changes nothing, in whatever way its values are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.model.config import Affinity
from connbal.uci import Editor, parse
from connbal.uci.decode import decode
from connbal.uci.scenario import Traffic
from connbal.uci.scenarios import device, failover, split
from tests.fakes.quick import quick

INTERFACES = """
config interface 'wan'
	option enabled '1'

config interface 'wan1'
	option enabled 'Yes'

config interface 'wan1_6'
	option enabled '1'
	option family 'ipv6'

config rule 'Other'
	option src_ip '192.168.7.0/255.255.255.0'
	option use_policy 'default'
"""
#: Ways to write the same.
IPS = (
    ("192.168.1.178", "192.168.1.178/32", "192.168.1.178/255.255.255.255"),
    ("192.168.1.0/24", "192.168.1.0/255.255.255.0", "192.168.1.77/24"),
    ("10.1.0.0/16", "10.1.0.0/255.255.0.0", "10.1.0.0-10.1.255.255"),
    ("10.9.0.4-10.9.0.7", "10.9.0.4/30", "10.9.0.5/30"),
    ("fd01::178", "FD01::178", "fd01:0:0:0:0:0:0:178", "fd01::0178/128"),
    ("2001:db8::/32", "2001:DB8:0::/32", "2001:db8::1/32"),
)
MACS = (("00:11:22:aa:bb:cc", "00:11:22:AA:BB:CC", "00-11-22-aa-BB-cc"), ("02:00:00:00:00:01", "02-00-00-00-00-01"))
PROTOCOLS = (
    ("tcp", "TCP", "6", "Tcp"), ("udp", "17", "UDP"), ("tcpudp", "tcp udp", "udp,tcp", "UDP TCP"),
    ("sctp", "132", "SCTP"),
)  # fmt: skip
PORTS = (("80", "80-80", "080"), ("443",), ("1024:2048", "1024-2048"), ("2049",), ("8000:8010", "8000-8010"))


@dataclass(frozen=True)
class Wish:
    """Traffic, written in two ways."""

    first: Traffic
    second: Traffic


def written(draw: st.DrawFn, alike: Sequence[Sequence[str]], negated: bool = False) -> tuple[str, ...]:
    """Values in some order, some of them joined, each in one of its ways; sometimes one more than once."""
    order = draw(st.permutations(list(alike)))
    values = [draw(st.sampled_from(list(ways))) for ways in (*order, *order[: draw(st.integers(0, 1))])]
    if negated:
        values = [f"!{value}" for value in values]
    joint = draw(st.sampled_from(["", ",", " "])) if not negated else ""
    return (joint.join(values),) if joint and values else tuple(values)


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    ips = draw(st.lists(st.sampled_from(IPS), max_size=3, unique=True))
    negated = bool(ips) and draw(st.booleans())
    macs = draw(st.lists(st.sampled_from(MACS), max_size=2, unique=True))
    proto = draw(st.sampled_from([*PROTOCOLS, ("all", "ALL", "all")]))
    ports = draw(st.lists(st.sampled_from(PORTS), max_size=4, unique=True)) if proto[0] != "all" else []
    ipset = draw(st.sampled_from(["", "youtube", "You_Tube"]))

    def one() -> Traffic:
        return Traffic(
            written(draw, ips, negated), written(draw, macs), draw(st.sampled_from(proto)), written(draw, ports), ipset
        )

    return Wish(one(), one())


SCENARIOS: dict[str, Callable[[Editor, Traffic], object]] = {
    "failover": lambda editor, traffic: failover(editor, ["wan", "wan1"], traffic=traffic),
    "split": lambda editor, traffic: split(editor, {"wan": 2, "wan1": 1}, traffic=traffic, affinity=Affinity.PAIR),
    "device": lambda editor, traffic: device(editor, traffic, ["wan1", "wan"], others=["wan"]),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
@quick(150)
@given(wish=wishes())
def test_the_second_and_the_third_time_nothing_changes(scenario: str, wish: Wish) -> None:
    if scenario == "device" and not wish.first.is_device:
        return
    editor = Editor(parse(INTERFACES, "mwan3"))
    run = SCENARIOS[scenario]
    run(editor, wish.first)
    made = editor.package
    rules = decode(made).config.rules
    run(editor, wish.first)
    assert editor.package == made
    run(editor, wish.second)
    assert editor.package == made
    assert decode(editor.package).config.rules == rules


def test_ports_with_commas() -> None:
    """As it was found: each time a further rule with a further policy."""
    editor = Editor(parse(INTERFACES, "mwan3"))
    for ports in (("80,443",), ("80,443",), ("443", "80")):
        failover(editor, ["wan", "wan1"], traffic=Traffic(proto="tcp", dest_ports=ports))
    assert [one.name for one in editor.package.of_type("rule")] == ["Other", "Tcp80_44"]
    assert len(editor.package.of_type("policy")) == 1


def test_members_that_are_written_otherwise_are_used() -> None:
    editor = Editor(parse(INTERFACES, "mwan3"))
    failover(editor, ["wan", "wan1"])
    editor.set("Primary", "weight", "01")
    editor.delete("Primary", "metric")
    editor.set("All_Policy", "use_member", " ".join(editor.package.get("All_Policy").options["use_member"]))  # type: ignore[union-attr]
    made = editor.package
    failover(editor, ["wan", "wan1"])
    assert editor.package == made
