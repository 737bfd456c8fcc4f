"""From evidence to what is wrong, in words: cases that a lab cannot make, or not quickly."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace
from typing import Any

import pytest

from connbal.model.config import Config, Family, Interface, Member, Policy, Rule
from connbal.model.facts import DefaultRoute, Facts, Link, Network
from connbal.plan.build import plan
from connbal.plan.state import KernelState
from connbal.track import inquiry
from connbal.track.api import HostResult
from connbal.track.diagnosis import can_be_probed, diagnose, left_out
from connbal.track.evidence import Answers, Diagnosis, Evidence, Result

HOSTS = ("192.0.2.1", "192.0.2.2")
WAN = Interface("wan", 1, enabled=True, track_ip=HOSTS)
NETWORK = Network(
    "wan", Family.IPV4, True, "eth1", (ipaddress.ip_interface("198.51.100.2/24"),),
    (DefaultRoute(ipaddress.ip_address("198.51.100.1")),), "up",
)  # fmt: skip
LINK = Link("eth1", 2, up=True, carrier=True)


def evidence(
    interface: Interface = WAN, network: Network | None = NETWORK, link: Link | None = LINK, **more: Any
) -> Evidence:
    """Everything is as it should be, but for what is given."""
    config = Config(
        interfaces=(interface,), members=(Member("m", "wan"),), policies=(Policy("p", ("m",)),), rules=(Rule("r", "p"),)
    )
    networks = {("wan", Family.IPV4): network} if network is not None else {}
    planned = plan(config, Facts(networks=networks, links={link.name: link} if link else {}))
    chains = {
        family: {chain.name: tuple(f"-j {rule.action}" for rule in chain.rules) for chain in ruleset.chains}
        | {"PREROUTING": ("-j mwan3_hook",), "mwan3_ifaces_in": ("-j mwan3_iface_in_wan",)}
        for family, ruleset in planned.rulesets.items()
    }
    kernel = KernelState(
        chains, {}, frozenset(planned.ip_rules), frozenset(planned.routes), frozenset(planned.local)
    )
    given = {"applied": True, "answers": answers(), **more}
    return Evidence(config, interface, network, link, planned, kernel, **given)


def answers(gateway: bool = True, hosts: tuple[bool, ...] = (True, True), servers: Any = None) -> Answers:
    def one(host: str, yes: bool) -> HostResult:
        return HostResult(host, yes, 1.0 if yes else None, reason="" if yes else "timeout")

    return Answers(one("198.51.100.1", gateway), servers, tuple(map(one, HOSTS, hosts)))


def result(found: Diagnosis, name: str) -> Result:
    return next(step.result for step in found.steps if step.name == name)


def test_all_is_well() -> None:
    found = diagnose(evidence())
    assert (found.wrong, found.remedy) == ("", "")
    assert Result.FAIL not in {step.result for step in found.steps}


def test_netifd_says_down_and_the_cable_is_out() -> None:
    """netifd's word is the consequence; the cable is the cause."""
    down = replace(NETWORK, up=False, reason="netifd says it is down")
    assert diagnose(evidence(network=down, link=replace(LINK, carrier=False))).wrong == "no carrier on eth1"
    assert diagnose(evidence(network=down)).wrong == "netifd says it is down"


def test_a_device_that_is_not_there() -> None:
    gone = replace(NETWORK, up=False, device="wwan0", addresses=(), reason="wwan0 does not exist")
    found = diagnose(evidence(network=gone, link=None))
    assert found.wrong == "device wwan0 does not exist"
    assert "modem" in found.remedy
    assert not can_be_probed(evidence(network=gone, link=None))


def test_a_link_without_a_gateway_of_its_own() -> None:
    straight = replace(NETWORK, defaults=(DefaultRoute(None),))
    found = diagnose(evidence(network=straight, answers=replace(answers(), gateway=None)))
    assert found.wrong == ""
    assert result(found, "neighbour") is Result.SKIPPED


def test_no_default_route() -> None:
    found = diagnose(evidence(network=replace(NETWORK, defaults=())))
    assert found.wrong == "no IPv4 default route or gateway is known"
    assert result(found, "hosts") is Result.SKIPPED


def test_more_hosts_needed_than_there_are() -> None:
    found = diagnose(evidence(replace(WAN, reliability=3)))
    assert found.wrong == "3 hosts must answer, but track_ip has 2"
    assert found.remedy == "connbal interface set wan --reliability 2"


def test_too_few_hosts_answer() -> None:
    found = diagnose(evidence(replace(WAN, reliability=2), answers=answers(hosts=(True, False))))
    assert found.wrong == "only 1 of 2 hosts answer ping, 2 needed"


@pytest.mark.parametrize(("host", "wrong"), [(False, "none of 2 hosts answers ping"), (True, "no DNS server")])
def test_dns_is_to_blame_only_where_others_answer(host: bool, wrong: str) -> None:
    servers = (HostResult("192.0.2.53", False, reason="timeout"),)
    found = diagnose(evidence(answers=answers(hosts=(host, host), servers=servers)))
    assert wrong in found.wrong


def test_one_of_two_servers_is_enough() -> None:
    servers = (HostResult("192.0.2.53", False, reason="timeout"), HostResult("192.0.2.54", True))
    found = diagnose(evidence(answers=answers(servers=servers)))
    assert found.wrong == ""
    (text,) = [step.text for step in found.steps if step.name == "DNS"]
    assert text == "192.0.2.54 answers; 192.0.2.53 does not: timeout"


def test_names_and_nobody_to_ask() -> None:
    named = replace(WAN, track_ip=("www.example.org",))
    found = diagnose(evidence(named, answers=Answers(None, (), (HostResult("www.example.org", False),))))
    assert found.wrong.startswith("no DNS server is known, and track_ip has the name www.example.org")


def test_the_daemon_waits_for_more_good_rounds() -> None:
    tracker = {"status": "connecting", "online": False, "reason": "2 of 5 good rounds"}
    found = diagnose(evidence(daemon=True, tracker=tracker))
    assert found.wrong == "the daemon counts it as connecting: 2 of 5 good rounds"


def test_a_source_of_no_policy() -> None:
    one = evidence()
    found = diagnose(replace(one, config=replace(one.config, members=())))
    assert found.wrong.startswith("no policy has a member for it")


def test_what_only_waits_to_be_applied_comes_after_what_does_not_answer() -> None:
    pending = ("~ ipv4 chain mwan3_rules: 3 rules", "- rule x")
    assert diagnose(evidence(pending=pending)).wrong.startswith("2 changes wait to be applied, the first: ~ ipv4 chain")
    silent = diagnose(evidence(pending=pending, answers=answers(hosts=(False, False))))
    assert "none of 2 hosts answers" in silent.wrong


def test_a_section_with_a_fault() -> None:
    assert left_out("wan").remedy == "see connbal check"


def test_whoever_never_answers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(question: inquiry.Question) -> Answers:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(inquiry, "LIMIT", 0.05)
    monkeypatch.setattr(inquiry, "_answers", never)
    found = inquiry.ask({"wan": inquiry.Question(WAN, "eth1", 0x100, "198.51.100.1", ("192.0.2.53",))})
    assert found["wan"].gateway == HostResult("198.51.100.1", False, reason="no answer within 0.05 s")
    assert [one.answered for one in found["wan"].hosts or ()] == [False, False]
