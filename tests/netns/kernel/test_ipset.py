"""SystemSets against the real kernel."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import replace
from typing import Any

import pytest

from connbal.errors import KernelError
from connbal.kernel import exec as programs
from connbal.kernel.ipset import SystemSets
from connbal.model.config import Family
from connbal.plan.values import SetSpec
from tests.netns.kernel.isolation import isolated, run

pytestmark = pytest.mark.netns

NETWORKS = {
    Family.IPV4: frozenset({"10.1.0.0/24", "10.1.0.2", "0.0.0.0/1", "128.0.0.0/1"}),
    Family.IPV6: frozenset({"fd00::/64", "fd00::1", "::/1", "8000::/1"}),
}


def spec(family: Family | None, kind: str = "hash:net", name: str = "mwan3_test", **more: Any) -> SetSpec:
    return replace(SetSpec(name, kind, family, entries=frozenset()), **more)


@isolated
def test_what_is_created_is_what_is_read(family: Family) -> None:
    sets = SystemSets()
    sets.create(spec(family, entries=NETWORKS[family]))
    assert sets.entries("mwan3_test") == NETWORKS[family]
    assert list(sets.headers()) == ["mwan3_test"]
    state = sets.headers()["mwan3_test"]
    assert (state.type, state.family, state.timeout, state.references) == ("hash:net", family, None, 0)


@isolated
def test_replaced_while_a_rule_uses_it(family: Family) -> None:
    sets = SystemSets()
    sets.create(spec(family, entries=NETWORKS[family]))
    tool = "iptables" if family is Family.IPV4 else "ip6tables"
    run(f"{tool} -t mangle -A OUTPUT -m set --match-set mwan3_test dst -j RETURN")
    sets.replace(spec(family))
    assert sets.entries("mwan3_test") == frozenset()
    sets.replace(spec(family, entries=NETWORKS[family]))
    assert sets.entries("mwan3_test") == NETWORKS[family]
    state = sets.headers()["mwan3_test"]
    assert state.references == 1
    with pytest.raises(KernelError, match="in use"):
        sets.destroy("mwan3_test")
    run(f"{tool} -t mangle -F OUTPUT")
    sets.destroy("mwan3_test")
    assert sets.headers() == {}


@isolated
def test_no_packet_meets_half_a_set() -> None:
    """While a set of 500 is replaced over and over, an entry common to all contents is always there."""
    sets = SystemSets()
    contents = [frozenset({"192.0.2.7"} | {f"10.{n}.{i}.0/24" for i in range(250)}) for n in (1, 2)]
    sets.create(spec(Family.IPV4, entries=contents[0]))
    done = threading.Event()
    absent: list[int] = []

    def watch() -> None:
        while not done.is_set():
            absent.append(subprocess.run(["ipset", "-q", "test", "mwan3_test", "192.0.2.7"], check=False).returncode)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for turn in range(30):
        sets.replace(spec(Family.IPV4, entries=contents[turn % 2]))
    done.set()
    watcher.join()
    assert set(absent) == {0}


@isolated
def test_leftovers_of_a_crash_are_no_hindrance(family: Family) -> None:
    sets = SystemSets()
    run("ipset create mwan3_test- bitmap:port range 1-10")
    sets.create(spec(family, entries=NETWORKS[family]))
    run("ipset create mwan3_test- hash:ip")
    sets.replace(spec(family))
    assert list(sets.headers()) == ["mwan3_test"]


@isolated
def test_a_failed_attempt_leaves_nothing_and_names_the_line(family: Family) -> None:
    sets = SystemSets()
    with pytest.raises(KernelError) as caught:
        sets.create(spec(family, entries=frozenset({"nonsense"})))
    assert caught.value.line == "add mwan3_test- nonsense"
    assert caught.value.lineno == 2
    assert sets.headers() == {}
    sets.create(spec(family, entries=NETWORKS[family]))
    with pytest.raises(KernelError):
        sets.replace(spec(family, kind="hash:ip"))
    with pytest.raises(KernelError):
        sets.create(spec(family))
    assert sets.entries("mwan3_test") == NETWORKS[family]
    assert list(sets.headers()) == ["mwan3_test"]
    with pytest.raises(KernelError, match="line feed"):
        sets.create(spec(family, name="other", entries=frozenset({"10.0.0.1\ndestroy mwan3_test"})))


@isolated
def test_timeouts_and_lists(family: Family) -> None:
    sets = SystemSets()
    address = "10.0.0.1" if family is Family.IPV4 else "fd00::1"
    sets.create(spec(family, kind="hash:ip", name="mwan3_sticky", timeout=600))
    run(f"ipset add mwan3_sticky {address}")
    assert sets.entries("mwan3_sticky") == {address}
    assert sets.headers()["mwan3_sticky"].timeout == 600
    sets.flush("mwan3_sticky")
    assert sets.entries("mwan3_sticky") == frozenset()
    members = frozenset(f"mwan3_m{number}" for number in range(20))
    for member in members:
        sets.create(spec(family, name=member))
    sets.create(spec(None, kind="list:set", name="mwan3_list", entries=members))
    assert sets.entries("mwan3_list") == members
    state = sets.headers()["mwan3_list"]
    assert (state.type, state.family) == ("list:set", None)
    sets.replace(spec(None, kind="list:set", name="mwan3_list", entries=frozenset({"mwan3_m3"})))
    assert sets.entries("mwan3_list") == {"mwan3_m3"}


@isolated
def test_sets_of_others_of_any_type() -> None:
    run(
        "ipset create a hash:ip,port family inet6 timeout 5",
        "ipset create b bitmap:port range 1-100",
        "ipset create c hash:net,iface",
        "ipset create d hash:ip,port,net",
        "ipset add d 10.0.0.1,tcp:80,10.2.0.0/16",
        "ipset create e hash:ip counters comment",
        'ipset add e 10.0.0.9 comment "two words"',
        "ipset create f hash:net",
        "ipset add f 10.0.0.0/8",
        "ipset add f 10.1.0.0/16 nomatch",
    )
    sets = SystemSets()
    assert {name: (state.type, state.family) for name, state in sets.headers().items()} == {
        "a": ("hash:ip,port", Family.IPV6),
        "b": ("bitmap:port", None),
        "c": ("hash:net,iface", Family.IPV4),
        "d": ("hash:ip,port,net", Family.IPV4),
        "e": ("hash:ip", Family.IPV4),
        "f": ("hash:net", Family.IPV4),
    }
    assert sets.entries("d") == {"10.0.0.1,tcp:80,10.2.0.0/16"}
    assert sets.entries("e") == {"10.0.0.9"}
    assert sets.entries("f") == {"10.0.0.0/8", "10.1.0.0/16"}


@isolated
def test_many_entries_and_no_program_to_read_them() -> None:
    sets = SystemSets()
    many = frozenset(f"{10 + n // 65536}.{n // 256 % 256}.{n % 256}.0/24" for n in range(70000))
    sets.create(spec(Family.IPV4, entries=many))
    started = programs.executions
    assert sets.entries("mwan3_test") == many
    sets.headers()
    sets.flush("mwan3_test")
    sets.destroy("mwan3_test")
    assert programs.executions == started


@isolated
def test_sets_that_are_not_there() -> None:
    sets = SystemSets()
    assert sets.headers() == {}
    for attempt in (sets.entries, sets.flush, sets.destroy):
        with pytest.raises(KernelError, match="nosuch"):
            attempt("nosuch")
    with pytest.raises(KernelError):
        sets.replace(spec(Family.IPV4, name="nosuch"))
    with pytest.raises(KernelError, match="characters"):
        sets.create(spec(Family.IPV4, name="n" * 31))
    assert sets.headers() == {}


@isolated
def test_what_is_left_of_each_entry(family: Family) -> None:
    sets = SystemSets()
    first, second = ("10.1.0.2", "10.1.0.3") if family is Family.IPV4 else ("fd00::1", "fd00::2")
    sets.create(spec(family, kind="hash:ip", timeout=100, entries=frozenset({first})))
    run(f"ipset add mwan3_test {second} timeout 0")
    found = sets.remaining("mwan3_test")
    assert found[second] is None
    assert found[first] is not None
    assert 95 <= found[first] <= 100
    sets.destroy("mwan3_test")
    sets.create(spec(family, entries=NETWORKS[family]))
    assert sets.remaining("mwan3_test") == dict.fromkeys(NETWORKS[family])
    sets.destroy("mwan3_test")
    sets.create(spec(family, kind="hash:ip,port"))
    with pytest.raises(KernelError, match="cannot be shown"):
        sets.remaining("mwan3_test")
    with pytest.raises(KernelError):
        sets.remaining("nothing")
