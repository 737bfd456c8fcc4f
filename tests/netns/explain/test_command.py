"""The command in a router: what it asks the kernel, and what it says where it cannot ask or somebody interferes."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from tests.lab import Lab
from tests.lab.nobody import nobody
from tests.netns.rivals.router import Router, section

pytestmark = pytest.mark.netns

PC, FAR = "192.168.1.20", "203.0.113.7"


@pytest.fixture
def router(lab: Callable[..., Lab]) -> Router:
    one = Router(lab(("wan", "wan1")))
    one.configure(
        one.sources(),
        section("policy", "both", use_member=["m_wan", "m_wan1"]),
        section("rule", "names", ipset="names", use_policy="only_wan1"),
        section("rule", "sticky", src_ip=PC, proto="udp", dest_port="53", sticky=1, use_policy="both"),
        section("rule", "rest", family="ipv4", use_policy="both"),
    )
    return one


def told(router: Router, *arguments: str) -> dict[str, Any]:
    return dict(json.loads(router.connbal("explain", "--json", *arguments).stdout))


def interfaces(answer: dict[str, Any]) -> set[str]:
    return {outcome["interface"] for outcome in answer["outcomes"]}


def test_sets_are_asked(router: Router) -> None:
    router.apply()
    assert told(router, "--src", PC, "--dst", FAR)["by"] == "rest"
    router.node.run(["ipset", "add", "names", FAR])
    found = told(router, "--src", PC, "--dst", FAR)
    assert (found["by"], interfaces(found)) == ("names", {"wan1"})
    router.node.run(["ipset", "create", "others", "hash:ip"])
    router.node.run(["ipset", "add", "others", FAR])
    router.node.run(["ipset", "add", "mwan3_dynamic_ipv4", "others"])
    found = told(router, "--src", PC, "--dst", FAR)
    assert (found["decided"], found["by"]) == ("exempt", "mwan3_dynamic_ipv4")


def test_an_open_connection_and_a_sticky_source(router: Router) -> None:
    router.apply()
    asked = ("--src", PC, "--dst", FAR, "--proto", "udp", "--dport", "53")
    assert interfaces(told(router, *asked)) == {"wan", "wan1"}
    taken = router.lab.udp("pc", FAR, port=53, count=1).names
    (source,) = taken
    found = told(router, *asked)
    assert (found["sticky"], interfaces(found)) == (source, {source})
    (sport,) = {one.source_port for one in _connections(router)}
    open_ = told(router, *asked, "--sport", str(sport))
    assert (open_["decided"], interfaces(open_)) == ("connection", {source})
    assert open_["new_connection"]["by"] == "sticky"


def _connections(router: Router) -> list[Any]:
    from connbal.kernel.conntrack import SystemConntrack

    with router.node.enter(), closing(SystemConntrack()) as conntrack:
        return [one for one in conntrack.connections() if (str(one.source), one.destination_port) == (PC, 53)]


def test_what_is_not_applied_is_said(router: Router) -> None:
    found = told(router, "--src", PC, "--dst", FAR)
    assert found["applied"] is False
    router.apply()
    assert (told(router, "--src", PC, "--dst", FAR)["applied"], found["pending"] > 0) == (True, True)
    router.node.run(["ip", "rule", "del", "priority", "2001"])
    damaged = told(router, "--src", PC, "--dst", FAR)
    assert (damaged["applied"], damaged["pending"]) == (True, 1)


def test_rules_of_others_that_come_first_are_noticed(router: Router) -> None:
    router.apply()
    assert not told(router, "--src", PC, "--dst", FAR)["notes"]
    source = router.lab.source("wan1")
    router.node.ip(f"route add default via {source.gateway4} table 99", "rule add priority 500 lookup 99")
    notes = told(router, "--src", PC, "--dst", FAR)["notes"]
    sent = f"the kernel sends it by {source.device} to {source.gateway4}"
    assert notes == [f"a rule or route of others comes before that of wan: {sent}"]


def test_without_root_it_says_what_was_not_looked_at(router: Router) -> None:
    router.lab.tmp.chmod(0o755)
    refused = router.program("explain", "--src", PC, "--dst", FAR, prefix=nobody())
    assert refused.returncode == 1
    assert "--no-kernel" in refused.stderr
    done = router.program("explain", "--src", PC, "--dst", FAR, "--no-kernel", "--json", prefix=nobody())
    found = json.loads(done.stdout)
    assert (found["applied"], found["by"], found["might_match"]) == (None, "rest", ["names", "sticky"])
    assert any("names" in note for note in found["notes"])
    home = router.program("explain", "--src", PC, "--dst", "192.168.1.178", "--no-kernel", "--json",
                          prefix=nobody())  # fmt: skip
    assert json.loads(home.stdout)["outcomes"][0]["device"] == "br-lan"


def test_mistakes_of_the_configuration_are_mentioned(router: Router) -> None:
    router.apply(router.sources(), section("rule", "wrong", src_ip="nonsense", use_policy="only_wan"))
    (note,) = told(router, "--src", PC, "--dst", FAR)["notes"]
    assert "mwan3.wrong" in note
    assert "connbal check" in note
