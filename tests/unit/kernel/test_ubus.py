"""netifd's dump: what is read out of it, and that nothing in it can do harm."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel.ubus import NetifdInterface, call, parse_dump
from connbal.model.config import FAMILIES, Family
from connbal.model.facts import DefaultRoute


def dump(*entries: object) -> tuple[NetifdInterface, ...]:
    return parse_dump(json.dumps({"interface": entries}))


WAN: dict[str, Any] = {
    "interface": "wan",
    "up": True,
    "l3_device": "pppoe-wan",
    "device": "eth0.2",
    "metric": 10,
    "ipv4-address": [{"address": "198.51.100.2", "mask": 24}],
    "ipv6-address": [
        {"address": "2001:db8::3", "mask": 64, "preferred": 0},
        {"address": "2001:db8::2", "mask": 64, "preferred": 600},
        {"address": "fe80::1", "mask": 64},
    ],
    "ipv6-prefix": [{"address": "2001:db8:1::", "mask": 56}],
    "ipv6-prefix-assignment": [
        {"address": "fd00::", "mask": 60, "local-address": {"address": "fd00::1", "mask": 60}},
        {"address": "fd01::", "mask": 60},
    ],
    "route": [
        {"target": "0.0.0.0", "mask": 0, "nexthop": "198.51.100.1", "source": "198.51.100.2/32"},
        {"target": "0.0.0.0", "mask": 0, "nexthop": "198.51.100.9", "metric": 5},
        {"target": "10.0.0.0", "mask": 8, "nexthop": "198.51.100.1"},
        {"target": "::", "mask": 0, "nexthop": "fe80::9", "metric": 512, "source": "2001:db8:1::/56"},
        {"target": "::", "mask": 0, "nexthop": "::", "metric": 600, "source": "::/0"},
        {"target": "::", "mask": 0, "metric": 700},
        {"target": "::", "mask": 0, "nexthop": "fe80::9", "type": 7},
    ],
}


@pytest.mark.parametrize(("told", "uptime"), [(7, 7), (0, 0), (-1, None), ("7", None), (None, None), (True, None)])
def test_how_long_it_has_been_up(told: object, uptime: int | None) -> None:
    (wan,) = dump({**WAN, "uptime": told})
    assert wan.uptime == uptime
    (wan,) = dump(WAN)
    assert wan.uptime is None


def test_everything_that_matters_is_read() -> None:
    (wan,) = dump(WAN)
    assert (wan.name, wan.up, wan.device, wan.metric) == ("wan", True, "pppoe-wan", 10)
    assert [str(address) for address in wan.addresses] == [
        "198.51.100.2/24", "2001:db8::2/64", "fd00::1/60", "2001:db8::3/64",
    ]  # fmt: skip
    assert wan.delegated == (ipaddress.ip_network("2001:db8:1::/56"),)
    assert wan.defaults[Family.IPV4] == (
        DefaultRoute(ipaddress.ip_address("198.51.100.9"), 5),
        DefaultRoute(ipaddress.ip_address("198.51.100.1"), 10),
    )
    assert wan.defaults[Family.IPV6] == (
        DefaultRoute(ipaddress.ip_address("fe80::9"), 512, ipaddress.ip_network("2001:db8:1::/56")),
        DefaultRoute(None, 600),
        DefaultRoute(None, 700),
    )


def test_a_bare_entry_and_the_second_device() -> None:
    assert dump({"interface": "wan1"}) == (NetifdInterface("wan1", up=False, defaults=dict.fromkeys(FAMILIES, ())),)
    (wan,) = dump({"interface": "wan", "up": True, "device": "eth1"})
    assert wan.device == "eth1"


@pytest.mark.parametrize(
    "entry",
    [None, 1, [], "wan", {}, {"interface": 5}, {"interface": ""}, {"interface": "a b"}, {"interface": "a\nb"},
     {"interface": 'a"b'}, {"interface": "x" * 65}],
)  # fmt: skip
def test_entries_without_a_decent_name_are_left_out(entry: object) -> None:
    assert [interface.name for interface in dump(entry, WAN)] == ["wan"]


def test_nonsense_inside_an_entry_is_left_out() -> None:
    broken = WAN | {
        "up": "yes",
        "l3_device": 'x" -j',
        "device": "-x",
        "metric": -1,
        "ipv4-address": [None, {}, {"address": 5}, {"address": "1.2.3.4"}, {"address": "1.2.3.4", "mask": 33},
                         {"address": "1.2.3.4", "mask": True}, {"address": "fe80::1%eth0", "mask": 64}],
        "ipv6-address": {"address": "::1"},
        "ipv6-prefix": [{"address": "nope", "mask": 5}, {"address": "10.0.0.0", "mask": 8}],
        "ipv6-prefix-assignment": [{"local-address": [1]}, 5],
        "route": ["x", {}, {"target": "0.0.0.0", "mask": "0"}, {"target": "::", "mask": 0, "nexthop": "10.0.0.1"},
                  {"target": "0.0.0.0", "mask": 0, "nexthop": "bad", "metric": 1e99}],
    }  # fmt: skip
    (wan,) = dump(broken)
    assert (wan.up, wan.device, wan.metric, wan.addresses, wan.delegated) == (False, None, 0, (), ())
    assert wan.defaults == {Family.IPV4: (), Family.IPV6: ()}


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "5", "{}", '{"interface": {}}', '{"interface": [', "\0", "[" * 100000]
)
def test_what_is_no_dump_is_an_error(text: str) -> None:
    with pytest.raises(KernelError, match="ubus call"):
        parse_dump(text)


def test_calling_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program = tmp_path / "ubus"
    program.write_text('#!/bin/sh\n[ "$*" = "call network.interface dump" ] && echo \'{"interface": []}\'\n')
    program.chmod(0o755)
    assert parse_dump(call() or "") == ()
    program.write_text("#!/bin/sh\necho 'Failed to connect to ubus' >&2; exit 255\n")
    with pytest.raises(KernelError, match="Failed to connect"):
        call()


def test_where_there_is_no_ubus_there_is_no_dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SBIN", str(tmp_path))
    assert call() is None


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
    st.sampled_from(["0.0.0.0", "::", "10.0.0.1", "2001:db8::1", "wan", "eth0", "::/0", "2001:db8::/56"]),
)  # fmt: skip
KEYS = st.one_of(st.text(), st.sampled_from([*WAN, "target", "mask", "nexthop", "source", "address", "local-address"]))
ANYTHING = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner), st.dictionaries(KEYS, inner)), max_leaves=30)


@given(st.lists(st.one_of(ANYTHING, st.dictionaries(st.sampled_from([*WAN]), ANYTHING))))
def test_any_json_is_survived(entries: list[object]) -> None:
    dump(*entries)


@given(st.fixed_dictionaries({key: ANYTHING for key in WAN if key != "interface"}), st.text())
def test_any_value_of_any_key_is_survived(values: dict[str, object], name: str) -> None:
    for interface in dump({"interface": "wan", **values}, {"interface": name, **values}):
        assert "\n" not in interface.name


@given(st.text())
def test_any_text_is_survived(text: str) -> None:
    with pytest.raises(KernelError):
        parse_dump(text)


@given(st.integers(min_value=0, max_value=len(json.dumps({"interface": [WAN]})) - 1))
def test_a_dump_cut_short_is_an_error(length: int) -> None:
    with pytest.raises(KernelError):
        parse_dump(json.dumps({"interface": [WAN]})[:length])
